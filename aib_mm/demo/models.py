"""Which models the demo compares: one row each, in the order of the tables."""

from dataclasses import dataclass
from pathlib import Path

import aib_mm


@dataclass(frozen=True)
class DemoModel:
    """One model of the demo.

    Attributes:
        name: on the command line and in file names.
        config: file in ``configs/mmpretrain``, trained as shipped.
        title: in tables and headings.
        about: what it is, for the report.
    """

    name: str
    config: str
    title: str
    about: str


MODELS = (
    DemoModel(
        'vanilla',
        'vgg16-narrow_digitscenes.py',
        'VGG16',
        'The network without attention, for comparison.',
    ),
    DemoModel(
        'aib',
        'vgg16-narrow_aib_digitscenes.py',
        'VGG16-aib',
        'Attention after block 3 and a Gaussian latent, with the settings of the '
        "paper: modulation 'residual', divergence averaged over the latent.",
    ),
    DemoModel(
        'aib_qt',
        'vgg16-narrow_aib_qt_digitscenes.py',
        'VGG16-aib-qt',
        'The same, its attention scores rounded to the nearest of 20 learnt anchors.',
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
        'VGG16-aib, scale, low start',
        'Modulation by scaling, and scores that start at 0.05 instead of 0.5.',
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
