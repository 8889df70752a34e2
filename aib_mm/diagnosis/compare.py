"""``python -m aib_mm compare CONFIG CHECKPOINT``: which weights fit which model?"""

import argparse
import sys
import traceback
from collections.abc import Sequence

from aib_mm.diagnosis.check import built_config
from aib_mm.errors import UsageError
from aib_mm.training.checkpoint import CheckpointError
from aib_mm.training.checkpoint_keys import (
    KeyReport,
    Mismatch,
    compare_keys,
    read_state_dict,
)


def run(options: argparse.Namespace) -> int:
    """Print the report and return the exit code."""
    try:
        state_dict = read_state_dict(options.checkpoint)
        _, model = built_config(options.config)
    except (CheckpointError, UsageError) as error:
        if options.traceback:
            traceback.print_exception(error)
        of = f'{options.config}: ' if isinstance(error, UsageError) else ''
        print(f'compare: error: {of}{error}', file=sys.stderr)
        return 2
    report = compare_keys(model, state_dict)
    print(f'{type(model).__name__} of {options.config}')
    print(f'against {len(state_dict)} weights of {options.checkpoint}\n')
    print(report_text(report))
    return int(not report.fits)


def report_text(report: KeyReport) -> str:
    """Every key under its heading, and what it amounts to."""
    lines = []
    for heading, keys in (
        ('new, as declared', report.new),
        ('missing in the checkpoint', report.missing),
        ('unexpected in the checkpoint', report.unexpected),
        ('of another shape', _shapes(report.mismatched)),
        ('of another shape, in the predictor', _shapes(report.predictor)),
    ):
        lines += [f'{heading}: {len(keys)}', *(f'  {key}' for key in keys)]
    verdict = 'the checkpoint fits' if report.fits else 'the checkpoint does not fit'
    if report.fits and report.predictor:
        verdict += '; the predictor differs: normal for other classes'
    return '\n'.join([*lines, '', verdict])


def _shapes(mismatched: Sequence[Mismatch]) -> list[str]:
    return [
        f'{key}: {list(checkpoint)} in the checkpoint, {list(model)} in the model'
        for key, checkpoint, model in mismatched
    ]
