"""One training step and one prediction of a model, on a made batch, on the CPU."""

import importlib
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from traceback import walk_tb
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, DefaultScope
from torch import Tensor, nn

from aib_mm.attention import AIBAttention
from aib_mm.errors import describe
from aib_mm.hosts import HOST_PARTS
from aib_mm.utils.configs import hooks_of, type_name, walk

#: Models that take the batches of a host's ``random_batch``, by their base class.
_BASES = {
    'mmpretrain': 'BaseClassifier',
    'mmdet': 'BaseDetector',
    'mmseg': 'BaseSegmentor',
}
_SMALL, _USUAL, _LARGE = 64, 224, 512
_BARE = ('torch', 'mmengine', 'mmcv')  # packages of layers that others put together


class NotTried(Exception):
    """No batch can be made for a model; the message says why."""


class Step(NamedTuple):
    """A step that ran: side of its square images, and trained parameters left out.

    ``idle`` are the names of the parameters that got no gradient; ``own`` those of them
    that belong to parts of aib_mm.
    """

    side: int
    idle: Sequence[str]
    own: Sequence[str]


def run_step(cfg: Config, model: nn.Module) -> Step:
    """Train a model for a step, without an optimizer, and let it predict.

    The images are small; where the model does not take them, they are of its own size.

    Args:
        cfg: config of the model.
        model: model that gets random weights; none that ``init_cfg`` names are loaded.

    Raises:
        NotTried: the model is not one of a host's for labelled images.
        Exception: whatever the model raises on images of its own size.
    """
    host = host_of(model)
    if host is None:
        raise NotTried(f'{type(model).__name__} is no {" or ".join(_BASES.values())}')
    scope = cfg.get('default_scope') or host
    try:
        with quiet_log(), DefaultScope.overwrite_default_scope(scope):
            _initialise(cfg, model)
            *smaller, own = _sides(cfg, model)
            for side in smaller:
                with suppress(Exception):
                    return _run(cfg, model, host, side)
            return _run(cfg, model, host, own)
    except (AttributeError, KeyError) as error:
        if 'gt_' not in str(error):  # the truth about depth or edges, say
            raise
        text = f'made images lack what it learns from: {describe(error)}'
        raise NotTried(text) from error


@contextmanager
def quiet_log() -> Iterator[None]:
    """Errors alone: else every parameter that is initialised is a line of the log."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def host_of(model: nn.Module) -> str | None:
    """The host whose labelled images a model learns from; None if it is another's."""
    kinds = [(k.__module__.partition('.')[0], k.__name__) for k in type(model).__mro__]
    return next((host for host, base in _BASES.items() if (host, base) in kinds), None)


def _sides(cfg: Config, model: nn.Module) -> list[int]:
    """Sides of square images to try: small ones, then those the model is made for."""
    built = [m.img_size for m in model.modules() if hasattr(m, 'img_size')]
    named = [
        value
        for place, value in walk(cfg.get('train_dataloader') or {})
        if place.rpartition('.')[2] in ('crop_size', 'scale', 'img_scale', 'size')
    ]
    sides = [*map(_side, built), *(min(_side(size), _LARGE) for size in named[::-1])]
    own = next(filter(None, sides), _USUAL)
    return sorted({min(own, _SMALL), own})


def _side(size: Any) -> int:
    """The longer side of a size, in pixels; 0 if it is not one, such as a ratio."""
    sides = size if isinstance(size, list | tuple) else [size]
    return max(sides) if all(isinstance(side, int) for side in sides) else 0


def _initialise(cfg: Config, model: BaseModel) -> None:
    """Random weights, and what a Runner does that some parts cannot do without."""
    counts = dict(iter=0, epoch=0, max_iters=1, max_epochs=1)
    MessageHub.get_current_instance().update_info_dict(counts)
    torch.manual_seed(0)
    take_random_weights(model)
    add_neck_losses(cfg, model)


def take_random_weights(model: BaseModel) -> None:
    """Initialise a model, without loading what its parts' ``init_cfg`` name."""
    for module in model.modules():
        init = getattr(module, 'init_cfg', None)
        inits = init if isinstance(init, list | tuple) else [init]
        # Some of the hosts' leave its type, Pretrained, out.
        if any(isinstance(one, dict) and 'checkpoint' in one for one in inits):
            module.init_cfg = None
    model.init_weights()


def add_neck_losses(cfg: Config, model: BaseModel) -> None:
    """Let the config's ``AIBLossHook`` watch a model that no Runner trains."""
    for hook in hooks_of(cfg):
        if type_name(hook) == 'AIBLossHook':
            HOOKS.build(hook).before_train(SimpleNamespace(model=model))


def _run(cfg: Config, model: BaseModel, host: str, side: int) -> Step:
    for part in model.data_preprocessor.modules():
        if isinstance(getattr(part, 'size', None), list | tuple):
            part.size = (side, side)  # else small images are padded to large ones
    model.train()
    model.zero_grad()
    data = model.data_preprocessor(_batch(cfg, model, host, side), training=True)
    total, terms = model.parse_losses(model(**data, mode='loss'))
    if not total.isfinite():
        bad = [key for key, value in terms.items() if not math.isfinite(value)]
        names = ', '.join([key for key in bad if 'loss' in key and key != 'loss'])
        raise ValueError(f'not finite with random weights: {names or "the loss"}')
    total.backward()
    parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    idle = [name for name, parameter in parameters if parameter.grad is None]
    model.eval()
    with torch.no_grad():
        model.test_step(_batch(cfg, model, host, side))
    return Step(side, idle, [name for name in idle if _owner(model, name) == 'aib_mm'])


def _batch(cfg: Config, model: nn.Module, host: str, side: int) -> dict[str, Any]:
    """Two images with labels that every head of the model has a class for."""
    part = importlib.import_module(f'{HOST_PARTS[host]}.random_batch')
    counts = [getattr(module, 'num_classes', None) for module in model.modules()]
    # An RPN has one class, a backbone without a classifier -1.
    classes = min((n for n in counts if isinstance(n, int) and n > 1), default=1)
    truth = {}
    if host == 'mmdet' and 'train_dataloader' in cfg:
        loads = {at.rpartition('.')[2] for at, v in walk(cfg.train_dataloader) if v}
        truth = dict(masks='with_mask' in loads, semantic='with_seg' in loads)
    batch = part.random_batch(2, (side, side), classes, **truth)
    mean = getattr(model.data_preprocessor, 'mean', None)
    channels = 3 if mean is None else len(mean)
    channels = (cfg.model.get('backbone') or {}).get('in_channels', channels)
    order = [channel % 3 for channel in range(channels)]
    batch['inputs'] = [image[order] for image in batch['inputs']]
    return batch


def _owner(model: nn.Module, parameter: str) -> str:
    """Package of the innermost part that holds a parameter, bare layers apart."""
    owner, module = '', model
    for key in parameter.split('.'):
        package = type(module).__module__.partition('.')[0]
        owner = owner if package in _BARE else package
        module = getattr(module, key)
    return owner


def step_problem(error: Exception, model: nn.Module) -> tuple[str, str]:
    """Place and cause of a step's failure, and the remedy, '' where none is certain.

    The place is that of the innermost module at work.
    """
    names = {module: f'model.{name}' for name, module in model.named_modules()}
    at_work = [
        frame
        for frame, _ in walk_tb(error.__traceback__)
        if isinstance(frame.f_locals.get('self'), nn.Module)
        and frame.f_locals['self'] in names
    ]
    if not at_work:
        return describe(error), ''
    layer, x = at_work[-1].f_locals['self'], at_work[-1].f_locals.get('input')
    place = names[layer].rstrip('.')
    if not isinstance(x, Tensor) or next(layer.children(), None) is not None:
        return f'{place}: {describe(error)}', ''
    problem = f'{place}, {layer}, gets {tuple(x.shape)}: {describe(error)}'
    flat = hasattr(layer, 'in_features')
    wanted = layer.in_features if flat else getattr(layer, 'in_channels', None)
    found = x.shape[-1 if flat else 1]
    if wanted in (None, found):
        return problem, ''
    if flat and x.dim() == 4 and x.shape[1] == wanted:  # a map that nothing pooled
        pooling = "dict(type='GlobalAveragePooling')"
        if any(isinstance(m, AIBAttention) for m in model.modules()):
            return problem, f'pool before it: post_neck={pooling} of the AIBAttention'
        return problem, f'pool before it: neck={pooling}'
    return problem, f'make {wanted} there {found}, or what comes before it {wanted}'
