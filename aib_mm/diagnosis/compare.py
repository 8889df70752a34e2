"""``python -m aib_mm compare CONFIG CHECKPOINT``: which weights fit which model?"""

import argparse
import sys
import traceback

from aib_mm.diagnosis.check import check_config
from aib_mm.training.checkpoint import CheckpointError
from aib_mm.training.checkpoint_keys import KeyReport, compare_keys, read_state_dict

_SHOWN_ENTRIES = 8


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the sub-command ``compare``."""
    parser = commands.add_parser(
        'compare',
        help='say which weights of a checkpoint fit the model of a config',
        description='Lists the keys that are new in the model (its classes declare '
        'them), missing, unexpected and of another shape. The exit code is 0 if only '
        'new keys differ, else 1; 2 if a file cannot be used.',
    )
    parser.add_argument('config', help='a config with a model')
    parser.add_argument('checkpoint', help='a checkpoint file or address')
    parser.add_argument(
        '--traceback', action='store_true', help="show errors' whole traceback"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report and return the exit code."""
    try:
        state_dict = read_state_dict(options.checkpoint)
    except CheckpointError as error:
        return _refuse(error, str(error), options.traceback)
    built = check_config(options.config)
    if built.module is None:
        text = f'{options.config}: {built.problem}; {built.remedy}'
        return _refuse(built.error, text, options.traceback)
    report = compare_keys(built.module, state_dict)
    print(f'{built.model} of {options.config}')
    print(f'against {len(state_dict)} weights of {options.checkpoint}\n')
    print(report_text(report))
    return int(not report.fits)


def report_text(report: KeyReport) -> str:
    """Every key under its heading, and what it amounts to."""
    shapes = [
        f'{key}: {list(checkpoint)} in the checkpoint, {list(model)} in the model'
        for key, checkpoint, model in report.mismatched
    ]
    lines = []
    for heading, keys in (
        ('new, as declared', report.new),
        ('missing in the checkpoint', report.missing),
        ('unexpected in the checkpoint', report.unexpected),
        ('of another shape', shapes),
    ):
        lines += [f'{heading}: {len(keys)}', *(f'  {key}' for key in keys)]
    verdict = 'the checkpoint fits' if report.fits else 'the checkpoint does not fit'
    return '\n'.join([*lines, '', verdict])


def _refuse(error: Exception | None, text: str, show_traceback: bool) -> int:
    if show_traceback and error is not None:
        traceback.print_exception(error)
    print(f'compare: error: {text}', file=sys.stderr)
    return 2
