"""Hooks in real Runners: foreign heads get the losses, backends get the monitors."""

import copy
import json
import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cifar_files import write_cifar10
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from aib_mm.attention import AIBAttention
from aib_mm.features import AttentionMaps
from aib_mm.hooks import AIBLossHook, AIBMonitorHook, attention_statistics
from aib_mm.training.non_finite import NonFiniteLossHook

TINY = Path(__file__).with_name('tiny_classifier.py')
QT = dict(type='VQAnchorQuantizer', num_anchors=4)
LOSS_HOOK = dict(type='AIBLossHook')


def train(work_dir: Path, hooks: list[dict], **neck: Any) -> Runner:
    """One epoch of mmpretrain's ResNet and linear head, our neck between them."""
    write_cifar10(work_dir / 'data', train_per_batch=8, test=10)
    cfg = Config.fromfile(TINY)
    cfg.work_dir = str(work_dir)
    cfg.train_dataloader.dataset.data_root = str(work_dir / 'data')
    for part in ('val', 'test'):
        for key in ('dataloader', 'evaluator', 'cfg'):
            cfg.pop(f'{part}_{key}')
    cfg.model.neck = dict(
        type='AIBAttention', in_channels=32, post_neck=cfg.model.neck, **neck
    )
    cfg.custom_hooks = hooks
    cfg.experiment_name = f'{work_dir.parent.name}_{work_dir.name}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def scalars(work_dir: Path) -> list[dict]:
    """What the local visualizer backend was given."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_neck_dropped_into_a_host_config_trains(tmp_path: Path) -> None:
    runner = train(tmp_path, hooks=[])
    assert runner.iter == 4
    state = runner.optim_wrapper.optimizer.state
    for name, parameter in runner.model.neck.named_parameters():
        assert state[parameter]['momentum_buffer'].abs().sum() > 0, name


def test_loss_hook_makes_the_anchors_learn(tmp_path: Path) -> None:
    runner = train(tmp_path, [LOSS_HOOK], quantizer=QT, initial_score=0.4)
    start = torch.linspace(0, 1, 4)
    assert not torch.equal(runner.model.neck.quantizer.anchors.data, start)
    logged = scalars(tmp_path)[0]
    assert logged['loss_vq'] == pytest.approx(4 * logged['loss_cmt'], rel=1e-4)
    assert logged['loss_vq'] > 0


class Classifier(BaseModel):
    """The least model with our neck: its head does not take the losses, or does."""

    def __init__(self, takes: bool) -> None:
        super().__init__()
        self.neck = AIBAttention(4, quantizer=QT)
        self.takes = takes

    def forward(self, inputs, data_samples=None, mode='loss'):
        features = self.neck((inputs,))
        losses = dict(loss=features[0].mean())
        if self.takes:
            losses['loss_vq'] = features.take_losses()['vq_loss']
        return losses


def total_with_and_without_hook(model: Classifier) -> tuple[float, float, float]:
    """Total loss of one batch without and with the hook, and its unweighted L_vq."""
    inputs, totals = torch.randn(2, 4, 6, 6), []
    hook = AIBLossHook(vq_weight=0.5, commit_weight=0.25)
    for attached in (False, True):
        if attached:
            hook.before_train(SimpleNamespace(model=model))
        torch.manual_seed(1)
        totals.append(model.parse_losses(model(inputs))[0].item())
    hook.after_train(SimpleNamespace(model=model))
    torch.manual_seed(1)
    return *totals, model.neck((inputs,)).losses['vq_loss'].item()


def test_loss_hook_adds_what_no_head_took() -> None:
    plain, hooked, vq = total_with_and_without_hook(Classifier(takes=False))
    # Both losses have one value; 0.5 and 0.25 are the weights.
    assert hooked - plain == pytest.approx(0.75 * vq, rel=1e-4)


def test_loss_hook_adds_nothing_that_a_head_took() -> None:
    plain, hooked, _ = total_with_and_without_hook(Classifier(takes=True))
    assert hooked == plain


def test_a_watched_model_can_be_copied() -> None:
    model = Classifier(takes=False)
    runner = SimpleNamespace(model=model, lock=threading.RLock())
    hook = AIBMonitorHook()
    hook.before_train(runner)
    copied = copy.deepcopy(model)
    assert len(copied.neck._forward_hooks) == 1


def test_losses_nobody_takes_stop_training_in_the_first_iteration(tmp_path) -> None:
    with pytest.raises(RuntimeError, match=r"dict\(type='AIBLossHook'\).*custom_hooks"):
        train(tmp_path, hooks=[], quantizer=QT)
    assert not list(tmp_path.glob('*.pth'))


def test_hooks_let_go_of_the_model(tmp_path: Path) -> None:
    hooks = [LOSS_HOOK, dict(type='AIBMonitorHook', interval=1)]
    model = train(tmp_path, hooks, quantizer=QT).model
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert not model.neck._forward_hooks


@pytest.mark.parametrize('hook', [AIBLossHook(), AIBMonitorHook(), NonFiniteLossHook()])
def test_a_training_after_a_failed_one_is_watched_once(hook: Hook) -> None:
    runner = SimpleNamespace(model=Classifier(takes=False))

    def watched() -> list[int]:
        return [len(module._forward_hooks) for module in runner.model.modules()]

    hook.before_train(runner)  # the Runner tells no hook of an error
    first = watched()
    hook.before_train(runner)
    assert sum(first) and watched() == first
    hook.after_train(runner)
    assert not sum(watched())


def test_loss_hook_without_attention_says_so(tmp_path: Path) -> None:
    class Model:
        model = torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match='Linear holds no AIBAttention'):
        AIBLossHook().before_train(Model)


def test_monitor_without_attention_says_so_once_and_idles(tmp_path, caplog) -> None:
    """mmpretrain's ``vis_scheduler`` trains a conv in the model's place."""

    class Nothing(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 1, 1)

        def forward(self, inputs: Any, data_samples: Any = None, mode: str = '') -> Any:
            return dict(loss=self.conv.weight.sum())

    runner = Runner(
        Nothing(),
        str(tmp_path),
        train_dataloader=DataLoader([dict(inputs=torch.zeros(1))] * 3),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='AIBMonitorHook', interval=1)],
        experiment_name=tmp_path.name,
    )
    runner.train()
    assert runner.iter == 6
    (log,) = tmp_path.glob('*/*.log')
    said = 'AIBMonitorHook has nothing to log: Nothing holds no AIBAttention'
    assert log.read_text().count(said) == 1


def test_monitor_writes_attention_and_anchors_to_the_backends(tmp_path) -> None:
    hooks = [LOSS_HOOK, dict(type='AIBMonitorHook', interval=2)]
    runner = train(tmp_path, hooks, quantizer=QT)
    rows = scalars(tmp_path)
    anchors = [row for row in rows if 'attention/anchor/00' in row]
    assert [row['step'] for row in anchors] == [2, 4]
    for row in anchors:
        shares = [row[f'attention/share/{i:02d}'] for i in range(4)]
        assert sum(shares) == pytest.approx(1)
        values = [row[f'attention/anchor/{i:02d}'] for i in range(4)]
        assert row['attention/anchor_min'] == min(values)
        assert row['attention/anchor_max'] == max(values)
    logged = [row for row in rows if 'attention_mean' in row]
    assert len(logged) == 3  # iterations 2 to 4; the first is not looked at
    assert 0 < logged[-1]['attention_mean'] < 1
    assert logged[-1]['attention_std'] > 0
    assert 1 <= logged[-1]['attention_perplexity'] <= 4
    assert runner.iter == 4


def test_monitor_logs_the_divergence_of_aib_heads(tmp_path: Path) -> None:
    head = dict(
        type='AIBClsHead',
        num_classes=10,
        latent_dim=8,
        encoder=dict(type='GaussianEncoder', in_features=32),
        _delete_=True,
    )
    write_cifar10(tmp_path / 'data', train_per_batch=4, test=10)
    cfg = Config.fromfile(TINY)
    cfg.merge_from_dict(
        dict(
            work_dir=str(tmp_path),
            train_dataloader=dict(dataset=dict(data_root=str(tmp_path / 'data'))),
            model=dict(
                neck=dict(type='AIBAttention', in_channels=32, _delete_=True), head=head
            ),
            custom_hooks=[dict(type='AIBMonitorHook', interval=1)],
        )
    )
    for key in ('dataloader', 'evaluator', 'cfg'):
        cfg.pop(f'val_{key}')
    cfg.experiment_name = tmp_path.name
    Runner.from_cfg(cfg).train()
    row = scalars(tmp_path)[-1]
    assert row['kl_nats'] > 0
    assert {'loss_kl', 'attention_mean', 'attention_spread'} <= set(row)
    total = sum(row[name] for name in ('loss_cls', 'loss_kl'))
    assert row['loss'] == pytest.approx(total, rel=1e-4)


def test_many_anchors_are_said_not_to_be_logged_one_by_one(tmp_path, caplog) -> None:
    quantizer = dict(type='VQAnchorQuantizer', num_anchors=100)
    hooks = [LOSS_HOOK, dict(type='AIBMonitorHook', interval=1)]
    with caplog.at_level(logging.INFO):
        train(tmp_path, hooks, quantizer=quantizer)
    (log,) = tmp_path.glob('*/*.log')
    assert '100 anchors, more than max_anchors=64' in log.read_text()
    assert not any('attention/anchor/00' in row for row in scalars(tmp_path))


def test_statistics_of_a_hand_made_map() -> None:
    mean = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2)
    std = torch.full((1, 1, 2, 2), 0.25)
    maps = AttentionMaps(mean, std, mean[None], None)
    expected = dict(mean=0.5, spread=0.5, std=0.25)
    assert attention_statistics(maps) == pytest.approx(expected)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match='vq_weight must be finite and >= 0, got -1'):
        AIBLossHook(vq_weight=-1)
    with pytest.raises(ValueError, match='interval must be an integer >= 1, got 0'):
        AIBMonitorHook(interval=0)
    with pytest.raises(ValueError, match='max_anchors must be an integer >= 0'):
        AIBMonitorHook(max_anchors=-1)


def test_evaluation_needs_no_loss_to_be_taken() -> None:
    neck = AIBAttention(4, quantizer=QT).eval()
    out = neck((torch.randn(1, 4, 2, 2, requires_grad=True),))
    out[0].sum().backward()
    assert neck.branches[0].mean_conv.weight.grad is not None
