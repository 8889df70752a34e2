"""Refuses a checkpoint of another model, which mmengine would load without an error.

mmengine loads what fits and logs the rest, so that a test of the wrong file is a test
of random weights.
"""

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner
from torch import Tensor, nn

from aib_mm.errors import first_few
from aib_mm.features import AttentionModule
from aib_mm.training.checkpoint import CheckpointError
from aib_mm.training.checkpoint_keys import KeyReport, compare_keys
from aib_mm.utils.wrappers import unwrapped

_SHOWN_KEYS = 3


class CheckpointFitHook(Hook):
    """Look at a checkpoint before the Runner takes its weights.

    Args:
        checkpoint: path or address, for the message.
        allow_missing: weights of the model may be missing or of another shape, as where
            a training starts from a model without attention; not all of them.
        remedy: what to do about missing ones.

    Raises:
        CheckpointError: in ``after_load_checkpoint``, see ``check_fit``.
    """

    def __init__(self, checkpoint: str, allow_missing: bool, remedy: str) -> None:
        self.checkpoint = checkpoint
        self.allow_missing = allow_missing
        self.remedy = remedy

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare; mmengine has read the checkpoint and not loaded its weights."""
        model = unwrapped(runner.model)
        if isinstance(model, BaseTTAModel):
            model = model.module
        state_dict = checkpoint.get('state_dict', checkpoint)
        check_no_nan(model, state_dict, self.checkpoint)
        check_fit(
            compare_keys(model, state_dict),
            model,
            self.checkpoint,
            allow_missing=self.allow_missing,
            remedy=self.remedy,
        )


def check_no_nan(
    model: nn.Module, state_dict: Mapping[str, Any], checkpoint: str
) -> None:
    """Refuse the weights of a training that diverged.

    Raises:
        CheckpointError: names some of them.
    """
    broken = [
        name
        for name, _ in model.named_parameters()
        # Of float8 too, which has no isnan.
        if name in state_dict and state_dict[name].float().isnan().any()
    ]
    if broken:
        raise CheckpointError(
            f'checkpoint {checkpoint} has NaN in {len(broken)} of its weights '
            f'({first_few(broken, _SHOWN_KEYS)}): its training diverged; take an '
            'earlier checkpoint'
        )


def check_fit(
    report: KeyReport,
    model: nn.Module,
    checkpoint: str,
    *,
    allow_missing: bool,
    remedy: str,
) -> None:
    """Raise where weights would stay random; warn of superfluous ones.

    Those of an attention are an error too: a map under other settings is another map.

    Args:
        report: report of ``compare_keys``.
        model: the report's model.
        checkpoint: path or address.
        allow_missing: what is missing, misshapen or too much is no error, but a
            checkpoint of which nothing fits.
        remedy: ends the message.

    Raises:
        CheckpointError: names some of what is missing, of another shape or too much.
    """
    name = type(model).__name__
    lacking = {
        one.key: f'{one.key} {list(one.checkpoint)} for {list(one.model)}'
        for one in (*report.mismatched, *report.predictor)
    }
    lacking.update({key: key for key in (*report.missing, *report.new)})
    nothing_fits = lacking.keys() >= dict(model.named_parameters()).keys()
    if lacking and (nothing_fits or not allow_missing):
        total = sum(isinstance(value, Tensor) for value in model.state_dict().values())
        some = first_few([*lacking.values()], _SHOWN_KEYS)
        raise CheckpointError(
            f'checkpoint {checkpoint} is not of this {name}: {len(lacking)} of its '
            f'{total} weights are missing or of another shape ({some}), and would stay '
            f'random; {remedy}'
        )
    others = [key for key in report.unexpected if _attends(key, model)]
    if others and not allow_missing:
        raise CheckpointError(
            f'checkpoint {checkpoint} is of another attention than that of this {name},'
            f' which lacks {first_few(others, _SHOWN_KEYS)}; {remedy}'
        )
    if report.unexpected:
        text = f'checkpoint {checkpoint} has {len(report.unexpected)} weights that '
        text += f'{name} does not: {first_few(report.unexpected, _SHOWN_KEYS)}'
        print_log(text, logger='current', level=logging.WARNING)


def _attends(key: str, model: nn.Module) -> bool:
    """Whether a weight is of an attention, but not of what its features go through."""
    return any(
        key.startswith(f'{name}.')
        and key[len(name) + 1 :].partition('.')[0] not in module.feature_parts
        for name, module in model.named_modules()
        if isinstance(module, AttentionModule)
    )
