"""Which models the demo compares: one row each, in the order of the tables.

Rows outside the demo are for the GPU, and for ``docs/selectivity.md``, which changes
one thing at a time (``configs/mmpretrain/grids/selectivity_digitscenes.py``);
``--models`` takes them by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aib_mm
from aib_mm.experiments.grid.rows import parse_options, read_rows


@dataclass(frozen=True)
class DemoModel:
    """One model of the demo.

    Attributes:
        name: on the command line and in file names.
        config: file in ``configs/mmpretrain``, trained as shipped.
        title: in tables and headings.
        about: what it is, for the report.
        options: changes to the config, as for ``--cfg-options``.
        in_demo: whether it is trained where ``--models`` is not given.
    """

    name: str
    config: str
    title: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)
    in_demo: bool = False


def config_path(name: str, host: str = 'mmpretrain') -> Path:
    """A config of ``configs/HOST`` in an installed package or in the checkout.

    Raises:
        FileNotFoundError: neither has it.
    """
    package = Path(aib_mm.__file__).resolve().parent
    folders = (package / '.mim' / 'configs', package.parent / 'configs')
    for folder in folders:
        path = folder / host / name
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'config {host}/{name} is in none of '
        f'{", ".join(map(str, folders))}: install aib_mm anew (make setup)'
    )


def _study() -> list[DemoModel]:
    """One thing changed at a time: the rows of a grid file."""
    rows = read_rows([str(config_path('grids/selectivity_digitscenes.py'))])
    return [
        DemoModel(
            row.name,
            Path(row.config).name,
            row.title,
            row.about,
            parse_options(row.options),
        )
        for row in rows
    ]


MODELS = (
    DemoModel(
        'vanilla',
        'vgg16-narrow_digitscenes.py',
        'VGG16',
        'The network without attention, for comparison.',
        in_demo=True,
    ),
    DemoModel(
        'aib',
        'vgg16-narrow_aib_digitscenes.py',
        'VGG16-aib',
        'Attention after block 3 and a Gaussian latent, with the settings of the '
        "paper: modulation 'residual', divergence averaged over the latent.",
        in_demo=True,
    ),
    DemoModel(
        'aib_qt',
        'vgg16-narrow_aib_qt_digitscenes.py',
        'VGG16-aib-qt',
        'The same, its attention scores rounded to the nearest of 20 learnt anchors.',
        in_demo=True,
    ),
    *_study(),
    *(
        DemoModel(
            name,
            f'{name}_digitscenes.py',
            f'{title}, full size',
            'The full-size model, for a GPU.',
        )
        for name, title in (
            ('vgg16', 'VGG16'),
            ('vgg16_aib', 'VGG16-aib'),
            ('vgg16_aib_qt', 'VGG16-aib-qt'),
        )
    ),
)
