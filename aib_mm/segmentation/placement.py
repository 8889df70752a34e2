"""How ``add`` finds room for attention in the models of mmseg."""

from collections.abc import Sequence
from typing import Any

from mmengine.config import ConfigDict

from aib_mm.errors import UsageError
from aib_mm.utils.config_text import Code, Loop, Noted
from aib_mm.utils.configs import type_name

POOLING = None
NECK: dict[str, Any] = {}

_HEADS = {
    'UPerHead': 'AIBDecodeHead',
    'FCNHead': 'AIBFCNHead',
    'PSPHead': 'AIBPSPHead',
    'SegformerHead': 'AIBSegformerHead',
}


def latent_head(
    model: ConfigDict, channels: int, loss: dict[str, Any]
) -> dict[str, Any]:
    """Changes of ``model`` that put one of our heads in the place of the host's.

    Args:
        model: config of the host's model.
        channels: channels of the attended features, which change nothing here.
        loss: the head's ``aib_loss``, if it is another than the default.

    Raises:
        UsageError: the head is none of those that ours replace.
    """
    kind = type_name(model.decode_head) or 'a cascade of heads'
    if kind not in _HEADS:
        raise UsageError(
            f'our heads stand for {", ".join(_HEADS)}, not for {kind}; leave '
            '--bottleneck out to keep that head, or put GaussianDecodeHead before it '
            '(docs/segmentation.md)'
        )
    return dict(decode_head=dict(type=_HEADS[kind], **loss))


def keep_levels(
    model: ConfigDict, kept: Sequence[int], count: int
) -> dict[str, Any] | None:
    """Changes of ``model`` that let its backbone give some of its levels only.

    The heads count the levels that are left. A head that has its level built in is not
    changed, and fails if it is another one then.

    Args:
        model: config of the host's model.
        kept: levels to keep, in order.
        count: levels that the backbone gives now.

    Returns:
        None where the levels cannot be chosen, or a head names one that is not kept.
    """
    indices = model.backbone.get('out_indices', range(count))
    if not isinstance(indices, Sequence) or len(indices) != count:
        return None
    chosen = tuple(indices[level] for level in kept)
    note = 'attend to the levels that the heads read'
    changes: dict[str, Any] = dict(backbone=dict(out_indices=Noted(chosen, note)))
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name) or []
        each = heads if isinstance(heads, list) else [heads]
        try:
            now = [_renumbered(head.get('in_index', -1), kept, count) for head in each]
        except ValueError:
            return None
        if now == [head.get('in_index', -1) for head in each]:
            continue
        if isinstance(heads, list):
            loop = f'for head, i in zip(_base_.model.{name}, {now}, strict=True)'
            changes[name] = Loop({'': Code('head'), 'in_index': Code('i')}, loop)
        else:
            changes[name] = dict(in_index=now[0])
    return changes


def _renumbered(index: Any, kept: Sequence[int], count: int) -> Any:
    """A level, or several, by its number among those that are kept.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(index, Sequence):
        return [_renumbered(one, kept, count) for one in index]
    place = kept.index(index % count)
    return place - len(kept) if index < 0 else place
