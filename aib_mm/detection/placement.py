"""How ``add`` finds room for attention in the models of mmdet."""

from typing import Any

from mmengine.config import ConfigDict

from aib_mm.errors import UsageError
from aib_mm.utils.config_text import Code, Loop
from aib_mm.utils.configs import type_name

POOLING = None
NECK: dict[str, Any] = {}

_ROI_HEADS = {
    'StandardRoIHead': 'GaussianRoIHead',
    'CascadeRoIHead': 'GaussianCascadeRoIHead',
}
_BOX_HEAD = 'Shared2FCBBoxHead'


def latent_head(
    model: ConfigDict, channels: int, loss: dict[str, Any]
) -> dict[str, Any]:
    """Changes of ``model`` that put our RoI and box heads in the place of the host's.

    Args:
        model: config of the host's model.
        channels: channels of the attended features, which change nothing here.
        loss: the head's ``aib_loss``, if it is another than the default.

    Raises:
        UsageError: there is no RoI head, or one that ours do not replace.
    """
    roi_head = model.get('roi_head') or {}
    kind, boxes = type_name(roi_head), roi_head.get('bbox_head') or {}
    stages = boxes if isinstance(boxes, list) else [boxes]
    if kind not in _ROI_HEADS or any(type_name(box) != _BOX_HEAD for box in stages):
        found = kind and f'{kind} with {type_name(stages[0]) or "no box head"}'
        raise UsageError(
            f'our heads stand for {" or ".join(_ROI_HEADS)} with {_BOX_HEAD}, and '
            f'{type_name(model)} has {found or "no RoI head"}; leave --bottleneck out '
            'to keep what it has'
        )
    changed = dict(type='GaussianBBoxHead', **loss)
    if not isinstance(boxes, list):
        return dict(roi_head=dict(type=_ROI_HEADS[kind], bbox_head=changed))
    item = {'': Code('box'), **changed}
    each = Loop(item, 'for box in _base_.model.roi_head.bbox_head')
    return dict(roi_head=dict(type=_ROI_HEADS[kind], bbox_head=each))
