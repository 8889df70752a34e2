"""Short trainings of small models, one for each task, in the test's own process.

Random numbers are everywhere: in loading (crops, flips), in the order of the images,
in the attention and the latent, and as dropout (in the discriminator of the divergence,
in segmentation in the decode head too)::

    cfg = tiny_config('detection', tmp_path)
    run = train(cfg, tmp_path / 'run')
    run.losses, run.weights
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ade_files import NUM_CLASSES, write_ade
from cifar_files import environment, write_cifar10
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

TESTS = Path(__file__).parent
CONFIGS = TESTS.parent / 'configs'
HOSTS = dict(classification='mmpretrain', detection='mmdet', segmentation='mmseg')
TASKS = tuple(HOSTS)


def _adversarial(latent_dim: int) -> dict:
    return dict(
        type='AIBLoss',
        kl=dict(type='AdversarialKL', latent_dim=latent_dim, dropout=0.2),
    )


def _classification(root: Path) -> Config:
    write_cifar10(root / 'data', train_per_batch=4, test=10)
    cfg = Config.fromfile(TESTS / 'noisy_classifier.py')
    cfg.model.head.aib_loss = _adversarial(8)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = str(root / 'data')
    cfg.train_dataloader.batch_size = 4
    return cfg


def _detection(root: Path) -> Config:
    from coco_files import write_coco

    folder = write_coco(root, train=6)
    cfg = Config.fromfile(CONFIGS / 'mmdet/faster_rcnn_r18-narrow_aib_digitscenes.py')
    cfg.model.backbone.base_channels = 8
    cfg.model.neck.pre_neck.in_channels = [8, 16, 32, 64]
    head = cfg.model.roi_head.bbox_head
    head.update(num_classes=80, fc_out_channels=32, aib_loss=_adversarial(32))
    cfg.train_dataloader.batch_size = 2
    cfg.train_dataloader.dataset = dict(
        type='CocoDataset',
        data_root=str(folder),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    )
    return cfg


def _segmentation(root: Path) -> Config:
    folder = write_ade(root, training=6)
    cfg = Config.fromfile(CONFIGS / 'mmseg/upernet_beit-narrow_aib_digitscenes.py')
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.num_classes = NUM_CLASSES
        head.loss_decode = dict(type='CrossEntropyLoss')
    cfg.model.decode_head.dropout_ratio = 0.1
    cfg.model.decode_head.aib_loss = _adversarial(cfg.model.decode_head.channels)
    prefix = dict(img_path='images/training', seg_map_path='annotations/training')
    cfg.train_dataloader.batch_size = 2
    cfg.train_dataloader.dataset = dict(
        type='ADE20KDataset',
        data_root=str(folder),
        data_prefix=prefix,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', reduce_zero_label=True),
            dict(type='RandomCrop', crop_size=(64, 64)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    )
    return cfg


def tiny_config(task: str, root: Path, validate: bool = False) -> Config:
    """The config of a task, its data written below ``root``; seed 0, no hooks of ours.

    Args:
        validate: keep the validation; in classification only.
    """
    pytest.importorskip(HOSTS[task])
    makers = (_classification, _detection, _segmentation)
    cfg = dict(zip(TASKS, makers, strict=True))[task](root)
    for split in ('test',) if validate else ('val', 'test'):
        for key in ('dataloader', 'evaluator', 'cfg'):
            cfg.pop(f'{split}_{key}', None)
    cfg.merge_from_dict(
        dict(
            randomness=dict(seed=0),
            param_scheduler=None,
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1000), visualization=None
            ),
            custom_hooks=[],
            log_level='WARNING',
            env_cfg=dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0)),
        )
    )
    for name in ('visualization', 'aib_monitor', 'attention_fields'):
        cfg.default_hooks.pop(name, None)
    return cfg


def count_epochs(cfg: Config, epochs: int) -> Config:
    """Train by epochs, a checkpoint after each."""
    cfg.train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    return cfg


def count_iterations(cfg: Config, iterations: int, interval: int) -> Config:
    """Train by iterations, a checkpoint after every ``interval``."""
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=iterations, val_interval=10**6
    )
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    cfg.train_dataloader.pop('batch_sampler', None)
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=interval
    )
    return cfg


def in_two_processes(folder: Path, script: str, *arguments: str | Path) -> str:
    """The output of ``tools/dist_<script>.sh``, run in a folder, without a GPU."""
    command = ['bash', TESTS.parent / f'tools/dist_{script}.sh', *arguments]
    run = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment(PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='-1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    return run.stdout


def results_of_two(cfg: Config, work_dir: Path, *options: str | Path) -> list[dict]:
    """What ``tools/dist_train.sh`` leaves in each process; see ``ResultRecorder``."""
    cfg = Config(cfg.to_dict())
    cfg.custom_imports.imports = [*cfg.custom_imports.imports, 'recorders']
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='ResultRecorder')]
    work_dir.mkdir()
    path = work_dir / 'config.py'
    cfg.dump(path)
    in_two_processes(work_dir, 'train', path, '2', '--work-dir', work_dir, *options)
    return [torch.load(work_dir / f'result_{rank}.pth') for rank in range(2)]


class _Losses(Hook):
    def __init__(self) -> None:
        self.values: list[float] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: dict
    ) -> None:
        self.values.append(outputs['loss'].item())


@dataclass(frozen=True)
class Run:
    """Loss of every iteration, and the weights at the end."""

    losses: list[float]
    weights: dict[str, torch.Tensor]
    runner: Runner

    def same_weights(self, other: 'Run') -> bool:
        """Bit by bit."""
        assert self.weights.keys() == other.weights.keys()
        return all(torch.equal(self.weights[k], other.weights[k]) for k in self.weights)


def train(
    cfg: Config, work_dir: Path, hooks: list[dict] | None = None, **settings: Any
) -> Run:
    """Train with ``hooks`` in the config's ``custom_hooks``."""
    cfg = Config(dict(cfg.to_dict(), work_dir=str(work_dir), **settings))
    cfg.custom_hooks = hooks or []
    # mmengine keeps one of what has the same name, for a whole process.
    cfg.experiment_name = f'{work_dir.parent.name}_{work_dir.name}_{id(cfg)}'
    runner = Runner.from_cfg(cfg)
    losses = _Losses()
    runner.register_hook(losses)
    runner.train()
    weights = {key: value.clone() for key, value in runner.model.state_dict().items()}
    return Run(losses.values, weights, runner)
