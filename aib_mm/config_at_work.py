"""Errors of parts that were built and fail at work, by the place in the config."""

from collections.abc import Sequence
from types import FrameType

from mmengine.config import Config

from aib_mm.diagnosis.places import Cause, deepest, module_in_use, node_at, part_in_use
from aib_mm.errors import describe
from aib_mm.utils.configs import type_name, walk

_WORKER = 'in DataLoader worker process'


def model_at_work(
    error: Exception, cfg: Config, frames: Sequence[FrameType]
) -> Cause | None:
    """An error inside a module of the model, such as a layer's wrong channels."""
    found = module_in_use(frames)
    place = found and deepest(cfg, found[0])
    if not found or not place:
        return None
    name, module = found
    described = describe(error, frames)
    shown = ' '.join(repr(module).split())
    problem = f'{name}, {shown[:80]}, cannot work on what it gets: {described}'
    counted = [
        f'{at}.num_classes'
        for at, node in walk(dict(cfg))
        if isinstance(node, dict) and 'num_classes' in node and place.startswith(at)
    ]
    if 'out of bounds' in described and counted:
        classes = node_at(cfg, counted[-1])
        remedy = f'the data has labels beyond num_classes={classes}: make it larger'
        return Cause(counted[-1], problem, remedy, certain=False)
    remedy = 'compare its channels with those of the part before it'
    return Cause(place, problem, remedy, certain=False)


def loading(error: Exception, cfg: Config, frames: Sequence[FrameType]) -> Cause | None:
    """An error in a worker process, of which only the text comes here."""
    if _WORKER not in str(error):
        return None
    loaders = [frame.f_locals.get('self') for frame in frames]
    kinds = {type(one).__name__ for one in loaders}
    split = 'test' if 'TestLoop' in kinds else 'val' if 'ValLoop' in kinds else 'train'
    last = str(error).strip().splitlines()[-1][:300]
    return Cause(
        f'{split}_dataloader.dataset',
        f'a worker stopped at {last}',
        'compare its pipeline with the data; the traceback names the transform',
        certain=False,
    )


def part_at_work(
    error: Exception, cfg: Config, frames: Sequence[FrameType]
) -> Cause | None:
    """An error in a method of another part: a transform, a metric, a hook."""
    place = part_in_use(cfg, frames)
    if not place:
        return None
    problem = f'{type_name(node_at(cfg, place))} failed: {describe(error, frames)}'
    return Cause(place, problem, 'correct what it names', certain=False)
