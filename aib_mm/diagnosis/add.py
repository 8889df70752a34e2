"""``python -m aib_mm add CONFIG --out MY.py``: attention put into a host's config.

The model of the config runs a training step on made images; from what its parts hand on
follow the place of the attention and its channels. The config that is written has run a
step as well, and a prediction.
"""

import argparse
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from mmengine.config import Config
from torch import nn

from aib_mm import hosts
from aib_mm.diagnosis.add_look import look
from aib_mm.diagnosis.add_place import (
    Place,
    Wanted,
    candidates,
    find_place,
    refuse_concat,
)
from aib_mm.diagnosis.check import built_config
from aib_mm.diagnosis.step import (
    NotTried,
    Step,
    host_of,
    quiet_log,
    run_step,
    step_problem,
)
from aib_mm.errors import UsageError, describe, did_you_mean
from aib_mm.features import AttentionModule
from aib_mm.utils.config_text import Code, Noted, config_text
from aib_mm.utils.files import write_atomically

_BY_HAND = (
    "by hand: neck=dict(type='AIBAttention', in_channels=…) behind whatever gives maps "
    '(B, C, H, W), or an AIBLayer among the layers of the backbone'
)


class Base(NamedTuple):
    """``_base_`` wherever a config stands that is tried, and in the written one."""

    trial: Any
    final: Any


def run(options: argparse.Namespace) -> int:
    """Write the config, say what was done, and return the exit code."""
    wanted = Wanted(
        options.modulation, options.quantizer, options.bottleneck, options.price
    )
    try:
        place, step = add(options.config, options.out, wanted)
    except UsageError as error:
        if options.traceback:
            traceback.print_exception(error)
        print(f'add: error: {options.config}: {error}', file=sys.stderr)
        return 2
    print(f'{options.out}: AIBAttention {place}')
    size = f'{step.side}x{step.side}'
    print(f'it ran one training step and one prediction on made images of {size}')
    return 0


def add(config: str, out: str | Path, wanted: Wanted) -> tuple[str, Step]:
    """Write a config that inherits another one and puts ``AIBAttention`` in its model.

    Args:
        config: path of a config, or ``mmdet::…``, ``mmseg::…``, ``mmpretrain::…``.
        out: path of the config to write, which must not be there yet.
        wanted: what the attention should be.

    Returns:
        The place of the attention in words, and the step that the config ran.

    Raises:
        UsageError: it cannot be done: why, and what to do by hand. Nothing is written.
    """
    out = Path(out)
    if out.suffix != '.py':
        raise UsageError(f'--out {out} must end in .py, which configs do')
    if out.exists():
        raise UsageError(f'--out {out} is there already; give another name, or move it')
    base = _base(config, out)
    cfg, model = _built(base, {})
    facts = _facts_of(model)
    refuse_concat(wanted, facts)
    place = _find(base, cfg, model, facts, wanted)
    del model  # two may be more than fits
    refused: list[UsageError] = []
    for found, settings in candidates(place, cfg, facts, wanted):
        settings = {**_imports(cfg), **settings}
        try:
            step = _tried(base, settings)
        except UsageError as error:
            refused.append(error)
            continue
        text = config_text(dict(_base_=base.final, **settings))
        text = f'"""The base with attention behind its {found.part}."""\n\n{text}'
        try:
            write_atomically(out, text)
        except OSError as error:
            text = f'--out {out} cannot be written: {describe(error)}'
            raise UsageError(text) from error
        return found.named, step
    raise refused[0]


def _base(config: str, out: Path) -> Base:
    """How to inherit from ``config``.

    Raises:
        UsageError: the file does not exist.
    """
    package, _, inside = config.partition('::')
    if inside:
        base: Any = config
        checks = hosts.check_versions()
        onedl = [one.requirement.module for one in checks if one.is_onedl]
        if package == 'mmseg' and package in onedl:
            text = (
                f"(\n    __import__('mmseg').__path__[0]\n"
                f"    + '/.mim/configs/{inside}'\n)"
            )
            base = Noted(Code(text), "OneDL's mmengine does not find mmseg::")
        return Base(base, base)
    path = Path(config)
    if not path.is_file():
        names = [one.name for one in path.absolute().parent.glob('*')]
        hint = did_you_mean(path.name, names) or (
            "a host's config is written as 'mmdet::FOLDER/FILE.py'"
        )
        raise UsageError(f'the file does not exist; {hint}')
    relative = os.path.relpath(path.resolve(), out.absolute().parent.resolve())
    return Base(str(path.resolve()), Path(relative).as_posix())


def _built(base: Base, settings: Mapping[str, Any]) -> tuple[Config, nn.Module]:
    """``built_config`` of what inherits from ``base``, before anything is written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'config.py'
        path.write_text(config_text(dict(_base_=base.trial, **settings)))
        with quiet_log():
            return built_config(path)


def _facts_of(model: nn.Module) -> ModuleType:
    """The host's facts about placing attention.

    Raises:
        UsageError: the model is none of those that have a place for it.
    """
    kind = type(model).__name__
    host = host_of(model)
    if host is None or getattr(model, 'backbone', None) is None:
        raise UsageError(
            f'{kind} is no classifier, detector or segmentor with a backbone of its '
            f'own, so that its step cannot be tried; {_BY_HAND}'
        )
    held = [n for n, m in model.named_modules() if isinstance(m, AttentionModule)]
    if held:
        raise UsageError(
            f'model.{held[0]} attends already; inherit from a config without, or '
            'change what is there'
        )
    return importlib.import_module(f'{hosts.HOST_PARTS[host]}.placement')


def _find(
    base: Base, cfg: Config, model: nn.Module, facts: ModuleType, wanted: Wanted
) -> Place:
    """The place of the attention, with a switch of the backbone where it needs one.

    Raises:
        UsageError: the config itself does not run, or nowhere in it are there maps.
    """
    try:
        outputs, error = look(cfg, model)
    except NotTried as reason:
        raise UsageError(f'no step can be tried: {reason}; {_BY_HAND}') from reason
    if error is not None:
        problem = '; '.join(filter(None, step_problem(error, model)))
        raise UsageError(
            f'a step of it fails as it is, without attention: {problem}; mend that '
            'first'
        ) from error
    kind, first = type(model.backbone).__name__, outputs[0]
    if first.predicted not in (None, len(first.shapes)):
        raise UsageError(
            f'{kind} gives {len(first.shapes)} levels in training and '
            f'{first.predicted} in a prediction, where a neck has one number of them; '
            f'{_BY_HAND}'
        )
    if first.are_maps:
        return find_place(outputs)
    # None are known that would make a backbone of mmdet or mmseg give maps.
    known = getattr(facts, 'switches', lambda *_: ())
    for switch, note in known(cfg.model, wanted.bottleneck):
        try:
            (changed, *_), _ = look(*_built(base, dict(model=dict(backbone=switch))))
        except (UsageError, NotTried):  # the backbone has no such switch
            continue
        if changed.are_maps:
            # The head cannot read maps, so that no gradient came back.
            read = changed._replace(read=[True] * len(changed.shapes))
            noted = {key: Noted(value, note) for key, value in switch.items()}
            return find_place([read, *outputs[1:]], noted)
    shapes = list(first.shapes) or 'other things than tensors'
    raise UsageError(
        f'{kind} gives no maps (B, C, H, W) to attend to, but {shapes}, and no switch '
        f'of it is known that would; {_BY_HAND}'
    )


def _tried(base: Base, settings: Mapping[str, Any]) -> Step:
    """The step that the config with these settings runs.

    Raises:
        UsageError: it does not run, or leaves parameters of ours without a gradient.
    """
    cfg, model = _built(base, settings)
    try:
        step = run_step(cfg, model)
    except Exception as error:  # of any part of a host
        problem = '; '.join(filter(None, step_problem(error, model)))
        raise UsageError(
            f'with the attention a step fails: {problem}; {_BY_HAND}'
        ) from error
    if step.own and 'find_unused_parameters' not in settings:
        raise UsageError(
            f'with the attention a step leaves {len(step.own)} parameters without a '
            f'gradient, {step.own[0]} among them; {_BY_HAND}'
        )
    return step


def _imports(cfg: Config) -> dict[str, Any]:
    """``custom_imports`` with those that the base has, if ours is not among them."""
    before = (cfg.get('custom_imports') or {}).get('imports') or []
    before = [before] if isinstance(before, str) else list(before)
    if 'aib_mm' in before:
        return {}
    imports: Any = [*before, 'aib_mm']
    if before:
        imports = Noted(imports, "the base's too")
    return dict(custom_imports=dict(imports=imports))
