"""How ``add`` finds room for attention in the models of mmpretrain."""

from typing import Any

from mmengine.config import ConfigDict

from aib_mm.errors import UsageError
from aib_mm.utils.config_text import Code, Noted
from aib_mm.utils.configs import type_name

#: Neck behind the attention where a switch took the backbone's pooling away.
POOLING = dict(type='GlobalAveragePooling')
#: Settings of ``AIBAttention``: the paper's for recognition.
NECK = dict(std_kernel_size=3)

_CLASSIFIES_ITSELF = 'ClsHead'  # which only weighs the scores of VGG, AlexNet, LeNet
_READS_TOKENS = 'DeiTClsHead'  # of classification and of distillation
_LINEAR = (
    'LinearClsHead',
    'StackedLinearClsHead',
    'VisionTransformerClsHead',
    _READS_TOKENS,
)
_BY_HAND = (
    "neck=dict(type='AIBAttention', in_channels=…, "
    "post_neck=dict(type='GlobalAveragePooling')), head=dict(type='LinearClsHead', …)"
)


def switches(model: ConfigDict, bottleneck: bool) -> list[tuple[dict[str, Any], str]]:
    """Settings of a backbone that may make it give maps, each with the reason.

    Args:
        model: config of the host's model, whose backbone gives vectors.
        bottleneck: whether our head takes the place of the host's.

    Raises:
        UsageError: the head that is to stay reads no maps: why, and what to do.
    """
    head = type_name(model.get('head'))
    if not bottleneck and head == _CLASSIFIES_ITSELF:
        raise UsageError(
            f'{type_name(model.backbone)} computes the class scores in the backbone, '
            'so that there is no map to attend to; take its classifier off and ours on '
            f'by --bottleneck, or by hand: backbone=dict(num_classes=-1), {_BY_HAND}'
        )
    if not bottleneck and head == _READS_TOKENS:
        raise UsageError(
            f'{head} reads two tokens, and maps have none; take our head by '
            f"--bottleneck, or by hand: backbone=dict(out_type='featmap'), {_BY_HAND}"
        )
    if head == _CLASSIFIES_ITSELF:
        return [(dict(num_classes=-1), 'maps: our head classifies, not the backbone')]
    return [
        (dict(out_type='featmap'), 'maps, not the class token or a mean of tokens'),
        (dict(gap_before_final_norm=False), 'maps: pooled behind the attention'),
    ]


def latent_head(
    model: ConfigDict, channels: int, loss: dict[str, Any]
) -> dict[str, Any]:
    """Changes of ``model`` that put ``AIBClsHead`` in the place of the host's head.

    Args:
        model: config of the host's model.
        channels: channels of the attended features.
        loss: the head's ``aib_loss``, if it is another than the default.

    Raises:
        UsageError: the head is another than those that ``AIBClsHead`` replaces.
    """
    head = model.head
    if type_name(head) == _CLASSIFIES_ITSELF:
        head = dict(head, num_classes=model.backbone.num_classes)
    elif type_name(head) not in _LINEAR:
        raise UsageError(
            f'AIBClsHead stands for {", ".join(_LINEAR)}, not for {type_name(head)}; '
            'leave --bottleneck out to keep that head'
        )
    changed = dict(
        _delete_=Noted(True, 'its arguments are not those of the head before'),
        type='AIBClsHead',
        num_classes=head['num_classes'],
        encoder=dict(type='GaussianEncoder', in_features=channels),
    )
    for name in ('loss', 'topk'):
        if name in head:
            changed[name] = Code(f'{{{{_base_.model.head.{name}}}}}')
    changed.update(loss)
    return dict(head=changed)
