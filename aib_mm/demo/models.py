"""Which models the demo compares: one row each, in the order of the tables.

Rows outside the demo are for the GPU, and for ``docs/selectivity.md``, which changes
one thing at a time; ``--models`` takes them by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aib_mm


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


def _study(name: str, title: str, about: str, **options: Any) -> DemoModel:
    """A row that changes one thing of ``aib_scale``."""
    dotted = {key.replace('__', '.'): v for key, v in options.items()}
    config = 'vgg16-narrow_aib_scale_digitscenes.py'
    return DemoModel(name, config, title, about, dotted)


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
    DemoModel(
        'aib_scale',
        'vgg16-narrow_aib_scale_digitscenes.py',
        'VGG16-aib, scale',
        "Modulation 'scale': without the residual, what is not attended to is lost.",
    ),
    DemoModel(
        'aib_qt_scale',
        'vgg16-narrow_aib_qt_scale_digitscenes.py',
        'VGG16-aib-qt, scale',
        'The same, its attention scores rounded to the nearest of 20 learnt anchors.',
    ),
    DemoModel(
        'aib_selective',
        'vgg16-narrow_aib_selective_digitscenes.py',
        'VGG16-aib, scale, start 0.05',
        'Modulation by scaling, and scores that start at 0.05 instead of 0.5.',
    ),
    DemoModel(
        'aib_low_start',
        'vgg16-narrow_aib_digitscenes.py',
        'VGG16-aib, start 0.05',
        "The paper's modulation, and scores that start at 0.05 instead of 0.5.",
        {'model.neck.initial_score': 0.05},
    ),
    _study(
        'scale_beta0',
        'scale, beta 0',
        'No price on information.',
        model__head__aib_loss=dict(type='AIBLoss', beta=0.0),
    ),
    _study(
        'scale_beta0.1',
        'scale, beta 0.1',
        'Ten times the price on information.',
        model__head__aib_loss=dict(type='AIBLoss', beta=0.1),
    ),
    _study(
        'scale_sum',
        'scale, KL summed',
        "The divergence summed over the latent, at the paper's beta.",
        model__head__aib_loss=dict(
            type='AIBLoss', kl=dict(type='GaussianKL', reduction='sum')
        ),
    ),
    _study(
        'scale_noise',
        'scale, more noise',
        'Scores that start with a standard deviation of 0.31 instead of 0.007.',
        model__neck__std_shift=1.0,
    ),
    _study(
        'scale_long',
        'scale, 12 epochs',
        'Twice the schedule.',
        train_cfg__max_epochs=12,
        train_cfg__val_interval=12,
        param_scheduler__total_steps=12,
    ),
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


def config_path(model: DemoModel) -> Path:
    """The model's config in an installed package or in the checkout.

    Raises:
        FileNotFoundError: neither has it.
    """
    package = Path(aib_mm.__file__).resolve().parent
    folders = (package / '.mim' / 'configs', package.parent / 'configs')
    for folder in folders:
        path = folder / 'mmpretrain' / model.config
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'config mmpretrain/{model.config} is in none of '
        f'{", ".join(map(str, folders))}: install aib_mm anew (make setup)'
    )
