"""Semi-supervised detectors of mmdet with our neck: two batches, student, teacher."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from narrow_detector import NARROW, batch, without_latents
from torch import Tensor, nn

pytest.importorskip('mmdet')

from aib_mm.features import AttendedFeatures
from aib_mm.hooks import AIBLossHook

SETTINGS: dict[str, Any] = dict(
    freeze_teacher=True,
    sup_weight=1.0,
    unsup_weight=2.0,
    cls_pseudo_thr=0.0,
    min_pseudo_bbox_wh=(1, 1),
)
SOFT = dict(
    pseudo_label_initial_score_thr=0.0,
    rpn_pseudo_thr=0.0,
    reg_pseudo_thr=1e3,
    jitter_times=2,
    jitter_scale=0.06,
)
BRANCHES = ('sup', 'unsup_teacher', 'unsup_student')


def build(kind: str, cfg: Config, **changes: Any) -> nn.Module:
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    pre = cfg.model.pop('data_preprocessor')
    model = dict(
        type=kind,
        detector=cfg.model,
        data_preprocessor=dict(
            type='MultiBranchDataPreprocessor', data_preprocessor=pre
        ),
        semi_train_cfg=ConfigDict(**SETTINGS, **SOFT),
        semi_test_cfg=dict(predict_on='teacher'),
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(model)
    model.init_weights()
    return model.train()


def branches() -> dict[str, dict]:
    """What the data loader hands over: the two unlabelled views are of one image."""
    data = {name: batch() for name in BRANCHES}
    for one in data.values():
        for sample in one['data_samples']:
            sample.set_metainfo(dict(homography_matrix=np.eye(3, dtype=np.float32)))
    return dict(
        inputs={name: one['inputs'] for name, one in data.items()},
        data_samples={name: one['data_samples'] for name, one in data.items()},
    )


@contextmanager
def outputs_of(neck: nn.Module) -> Iterator[list[AttendedFeatures]]:
    found: list[AttendedFeatures] = []
    handle = neck.register_forward_hook(lambda *args: found.append(args[-1]))
    yield found
    handle.remove()


def losses_of(model: nn.Module) -> dict[str, Tensor]:
    data = model.data_preprocessor(deepcopy(branches()), True)
    return model(**data, mode='loss')


def quantisation(losses: dict[str, Tensor]) -> dict[str, float]:
    return {k: v.item() for k, v in losses.items() if 'vq' in k or 'cmt' in k}


def learns(model: nn.Module, losses: dict[str, Tensor]) -> None:
    """A backward pass reaches the student's anchors, and nothing of the teacher."""
    total, _ = model.parse_losses(losses)
    total.backward()
    assert model.student.neck.quantizer.anchors.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize('num_samples', [1, 2])
def test_heads_of_ours_count_each_batch_once_with_its_weight(num_samples: int) -> None:
    cfg = Config.fromfile(NARROW)
    model = build('SemiBaseDetector', cfg, **{'neck.train_samples': num_samples})
    with outputs_of(model.student.neck) as outputs:
        losses = losses_of(model)
    sup, unsup = (features.losses for features in outputs)
    assert quantisation(losses) == pytest.approx(
        {
            'sup_loss_vq': 0.4 * sup['vq_loss'].item(),
            'sup_loss_cmt': 0.1 * sup['commit_loss'].item(),
            'unsup_loss_vq': 2 * 0.4 * unsup['vq_loss'].item(),
            'unsup_loss_cmt': 2 * 0.1 * unsup['commit_loss'].item(),
        }
    )
    learns(model, losses)


@pytest.mark.parametrize('kind', ['SemiBaseDetector', 'SoftTeacher'])
def test_the_hook_counts_each_batch_once_for_foreign_heads(kind: str) -> None:
    cfg = without_latents(Config.fromfile(NARROW))
    model = build(kind, cfg, **{'roi_head.type': 'StandardRoIHead'})
    hook = AIBLossHook()
    hook.before_train(SimpleNamespace(model=model))
    with outputs_of(model.student.neck) as outputs:
        losses = losses_of(model)
    sup, unsup = (features.losses for features in outputs)
    assert quantisation(losses) == pytest.approx(
        {
            'loss_vq': 0.4 * (sup['vq_loss'] + unsup['vq_loss']).item(),
            'loss_cmt': 0.1 * (sup['commit_loss'] + unsup['commit_loss']).item(),
        }
    )
    learns(model, losses)


def test_soft_teacher_would_lose_the_bottleneck_and_is_refused() -> None:
    """It asks the student's RoI head for predictions and weighs them by itself."""
    model = build('SoftTeacher', Config.fromfile(NARROW))
    message = "GaussianRoIHead .*SoftTeacher.*'StandardRoIHead'.*AIBLossHook"
    with pytest.raises(RuntimeError, match=message):
        losses_of(model)
