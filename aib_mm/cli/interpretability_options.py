"""Options of ``tools/interpretability.py``."""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from aib_mm.cli.common import integer
from aib_mm.diagnosis.configs import CfgOptions
from aib_mm.errors import UsageError
from aib_mm.interpret.measure.consistency import NORMALIZATIONS
from aib_mm.interpret.measure.edits import FITS
from aib_mm.interpret.record.class_activation import METHODS


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='interpretability.py',
        description='Share of the images whose attention stays where it is when the '
        'image is edited, among those whose prediction stays (paper, Table 8). Models '
        'without attention are measured by class activation maps.',
    )
    add_model_options(parser, 'a row of the table', 'work_dirs/interpretability')
    _add_edit_options(parser)
    _add_measure_options(parser)
    return parser


def add_model_options(parser: argparse.ArgumentParser, rows: str, out: str) -> None:
    """What every table of trained models takes.

    Args:
        rows: what a model is in the table, for the help.
        out: the folder, unless another one is given.
    """
    parser.add_argument(
        '--model',
        nargs='+',
        action='append',
        required=True,
        metavar='FILE',
        help=f'CONFIG CHECKPOINT [CHECKPOINT …]: {rows}; with several checkpoints mean '
        'and spread. Once for each model',
    )
    parser.add_argument(
        '--title',
        action='append',
        default=[],
        metavar='NAME=TITLE',
        help='what the table calls the config NAME.py (NAME); once for each',
    )
    parser.add_argument(
        '--out',
        default=out,
        help='folder of tables and of what is measured (%(default)s)',
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='a GPU if there is')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='override settings of the configs of all models, as in test.py',
    )
    parser.add_argument(
        '--force', action='store_true', help='measure again what is already measured'
    )


def add_level_option(group: argparse._ArgumentGroup) -> None:
    """Which level of several is the map of a model."""
    group.add_argument(
        '--level',
        type=_level,
        metavar='LEVEL',
        help='mean, or index of a level of attention (what AttentionFieldsHook of the '
        'config says, else mean)',
    )


def _add_edit_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('edits')
    group.add_argument(
        '--sizes',
        nargs='*',
        type=integer(1),
        default=[4, 8, 12, 16],
        metavar='P',
        help='sides of the occluded square in pixels (4 8 12 16)',
    )
    group.add_argument(
        '--patches-from',
        metavar='CONFIG',
        help='also occlude with patches of the test images of this config',
    )
    group.add_argument(
        '--patch-fit',
        choices=FITS,
        default=FITS[0],
        help='a piece of the other image, or all of it made smaller (%(default)s)',
    )
    group.add_argument(
        '--high',
        nargs='*',
        type=float,
        default=[4],
        metavar='R',
        help='keep the frequencies above R cycles per image (4)',
    )
    group.add_argument(
        '--low',
        nargs='*',
        type=float,
        default=[12],
        metavar='R',
        help='keep the frequencies below R cycles per image (12)',
    )
    group.add_argument(
        '--clip', action='store_true', help='clip what is left of them to [0, 255]'
    )
    group.add_argument('--seed', type=integer(0), default=0, help='of the edits (0)')


def _add_measure_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('measure')
    group.add_argument(
        '--threshold',
        nargs='+',
        type=float,
        default=[0.9],
        metavar='T',
        help='cosine similarity from which attention is consistent; a table each (0.9)',
    )
    group.add_argument(
        '--normalization',
        choices=NORMALIZATIONS,
        default=NORMALIZATIONS[0],
        help='of the maps, before the cosine (%(default)s)',
    )
    add_level_option(group)
    group.add_argument(
        '--cam-method',
        choices=METHODS,
        default=METHODS[0],
        help='class activation for models without attention (%(default)s)',
    )
    group.add_argument(
        '--cam-layer',
        metavar='NAME',
        help='its layer (last of the backbone with a map of at least 7×7)',
    )
    group.add_argument(
        '--images',
        type=integer(1),
        metavar='N',
        help='so many, drawn by the seed (all)',
    )
    group.add_argument('--batch', type=integer(1), default=100, help='images a pass')


def read_titles(args: argparse.Namespace) -> dict[str, str]:
    """Of each config by its name."""
    titles: dict[str, str] = {}
    for config, *checkpoints in args.model:
        name = Path(config).stem
        if not checkpoints:
            raise UsageError(f'--model {config} needs a checkpoint behind the config')
        if name in titles:
            raise UsageError(
                f'--model {config}: a second config called {name}; give all its '
                'checkpoints to one --model'
            )
        titles[name] = name
    titles.update(read_pairs('--title', 'NAME=TITLE', args.title, titles))
    if len(set(titles.values())) < len(titles):
        raise UsageError(f'--title must tell the models apart, got {args.title}')
    return titles


def read_pairs(
    option: str, form: str, texts: Sequence[str], names: Collection[str]
) -> dict[str, str]:
    """Values by the config's name.

    Args:
        option: for messages.
        form: the same, such as ``NAME=TITLE``.
        texts: as given.
        names: of the configs.

    Raises:
        UsageError: a text of another form, or with an unknown name.
    """
    pairs = {}
    for text in texts:
        name, sign, value = text.partition('=')
        if not sign or name not in names:
            raise UsageError(
                f'{option} takes {form} with NAME one of {list(names)}, got {text!r}'
            )
        pairs[name] = value
    return pairs


def _level(text: str) -> str | int:
    """An argparse type: ``mean``, or an index."""
    return text if text == 'mean' else integer(0)(text)
