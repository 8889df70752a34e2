"""Collect the attention of any model without changing the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from aib_mm.attention import attention_modules
from aib_mm.features import AttentionMaps, WithAttention

AttentionRecord = dict[str, list[tuple[AttentionMaps, ...]]]


@contextmanager
def record_attention(model: nn.Module) -> Iterator[AttentionRecord]:
    """Collect the maps of every forward pass inside the ``with`` block, detached.

    Yields:
        Per ``AIBAttention``, or attention of another method (``AttentionModule``), by
        module name, a list with one entry per forward pass: the ``AttentionMaps`` of
        each level. Entries are added as passes happen.

    Raises:
        ValueError: the model holds no attention.

    The model is left as it was, also when the block raises.
    """
    record: AttentionRecord = {}
    handles = []
    try:
        for name, module in attention_modules(model).items():
            record[name] = []
            keep = partial(_keep, record[name])
            handles.append(module.register_forward_hook(keep))
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _keep(
    record: list[tuple[AttentionMaps, ...]],
    module: nn.Module,
    inputs: Any,
    output: WithAttention,
) -> None:
    record.append(
        tuple(
            AttentionMaps(*(None if x is None else x.detach() for x in maps))
            for maps in output.attention
        )
    )
