"""ImageNet weights of a whole backbone, split over extractor, attention and encoder.

``python -m aib_mm.classification.imagenet_weights SRC DST --model CONFIG``

SRC is a checkpoint of mmpretrain's ``ResNet`` or ``VGG``, or torchvision's ``ResNet``,
which has the same names without ``backbone.``. Its keys keep their names in the
extractor. A stage that the model holds apart, a ``ResNetStage`` or ``VGGStage``, gets a
copy wherever it is: ``layer4.*`` in the attention branch and again in the encoder.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from aib_mm import register
from aib_mm.classification.backbones.resnet_stage import ResNetStage
from aib_mm.classification.backbones.vgg_stage import VGGStage
from aib_mm.errors import describe, first_few
from aib_mm.training.checkpoint import CheckpointError, save_atomically
from aib_mm.training.checkpoint_keys import read_state_dict

_some = partial(first_few, most=4)


@dataclass(frozen=True)
class SplitWeights:
    """Weights under the names of a model, and what did not come from the backbone.

    Attributes:
        weights: the model's keys that the backbone has; a tensor can be there twice.
        parts: names of the model's modules that were filled, in order.
        new: keys of the model without a weight, which start as the config says.
        left: keys of the source that the model does not take, such as its classifier.
    """

    weights: Mapping[str, Tensor]
    parts: Sequence[str]
    new: Sequence[str]
    left: Sequence[str]


def split_weights(model: nn.Module, source: Mapping[str, Tensor]) -> SplitWeights:
    """Give every part of a classifier its weights from a whole backbone.

    The parts are the model's backbone and every ``ResNetStage`` and ``VGGStage`` in it.
    Each must find all its weights, counters of batch norms excepted.

    Args:
        model: an ``ImageClassifier``; is not changed.
        source: weights named as in mmpretrain (``backbone.layer4.0.conv1.weight``) or
            bare (``layer4.0.conv1.weight``).

    Raises:
        CheckpointError: a part that the source does not fill, or a weight of another
            shape, named with both shapes.
    """
    source = {re.sub(r'^module\.', '', key): value for key, value in source.items()}
    stem = 'backbone.' if any(key.startswith('backbone.') for key in source) else ''
    parts = [
        name
        for name, module in model.named_modules()
        if name == 'backbone' or isinstance(module, ResNetStage | VGGStage)
    ]
    wanted = model.state_dict()
    weights: dict[str, Tensor] = {}
    taken, missing = set(), []
    for part in parts:
        for key in (key for key in wanted if key.startswith(f'{part}.')):
            origin = stem + key.removeprefix(f'{part}.')
            if origin in source:
                weights[key] = source[origin]
                taken.add(origin)
            elif not key.endswith('num_batches_tracked'):
                missing.append(key)
    if missing:
        raise CheckpointError(
            f'has no weights for {len(missing)} keys of the model: {_some(missing)}. '
            f'Its own keys are {_some([*source])}. Give a checkpoint of the same '
            "network; torchvision's VGG first needs mmpretrain's "
            'tools/model_converters/vgg_to_mmpretrain.py'
        )
    unequal = [
        f'{key} ({list(value.shape)}, but {list(wanted[key].shape)} in the model)'
        for key, value in weights.items()
        if value.shape != wanted[key].shape
    ]
    if unequal:
        raise CheckpointError(
            f'has {len(unequal)} weights of another shape: {_some(unequal)}. Give a '
            'checkpoint of the same depth and width'
        )
    return SplitWeights(
        weights=weights,
        parts=parts,
        new=[key for key in wanted if key not in weights],
        left=[key for key in source if key not in taken],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Read, split, write, and say which key went where; return the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m aib_mm.classification.imagenet_weights',
        description='Split ImageNet weights of a backbone over extractor, attention '
        'branch and encoder of the model of a config',
    )
    parser.add_argument('src', help='file or URL, with the keys of mmpretrain')
    parser.add_argument('dst', type=Path, help='file to write, for load_from')
    parser.add_argument(
        '--model', required=True, metavar='CONFIG', help='config of the model'
    )
    options = parser.parse_args(argv)
    try:
        cfg = Config.fromfile(options.model, import_custom_modules=False)
        register(cfg)
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            model = MODELS.build(cfg.model)
    except Exception as error:  # configs run code, so anything may come
        return _refuse(
            f'{options.model} cannot be built: {describe(error)}; python -m aib_mm '
            f'doctor {options.model} says more'
        )
    try:
        source = read_state_dict(options.src)
    except CheckpointError as error:
        return _refuse(str(error))
    try:
        split = split_weights(model, source)
    except CheckpointError as error:
        return _refuse(f'checkpoint {options.src} {error}')
    meta = dict(source=str(options.src), model=str(options.model))
    try:
        save_atomically(dict(meta=meta, state_dict=dict(split.weights)), options.dst)
    except OSError as error:
        return _refuse(f'{options.dst} cannot be written: {error}')
    print(_text(split))
    print(f'written: {options.dst}')
    return 0


def _text(split: SplitWeights) -> str:
    lines = []
    for part in split.parts:
        count = sum(key.startswith(f'{part}.') for key in split.weights)
        lines.append(f'{part}: {count} weights')
    lines += [f'new in the model: {len(split.new)}', *(f'  {k}' for k in split.new)]
    lines += [f'left in the source: {len(split.left)}', *(f'  {k}' for k in split.left)]
    return '\n'.join(lines)


def _refuse(text: str) -> int:
    print(f'imagenet_weights: error: {text}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
