"""What the data sets' generator, the loaders and the import of this package take."""

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from aib_mm.cli.benchmark_suite import SuiteRow, median_row
from aib_mm.cli.common import build_runner, load_config
from aib_mm.demo.models import config_path
from aib_mm.digitscenes import DEFAULT_PARTS, DigitScenesSpec, generate
from aib_mm.hosts import HOST_PARTS, is_installed

NARROW = 'vgg16-narrow_digitscenes.py'
CIFAR = 'vgg16_cifar10.py'
TENTH = 10  # of the images of a full set
IMAGES = 50000  # of CIFAR's training set


@DATASETS.register_module()
class RandomImages(BaseDataset):
    """Noise in the place of CIFAR, which cannot be downloaded everywhere.

    Args:
        count: how many images of 32×32.
        pipeline: as of any data set.
    """

    def __init__(self, count: int, pipeline: list[Any]) -> None:
        self.count = count
        super().__init__(pipeline=pipeline)

    def load_data_list(self) -> list[dict[str, Any]]:
        """As mmpretrain's CIFAR: the images themselves, in memory."""
        pixels = np.random.default_rng(0).integers(0, 256, (self.count, 32, 32, 3))
        return [
            dict(img=image, gt_label=number % 10)
            for number, image in enumerate(pixels.astype(np.uint8))
        ]


def data_rows(rounds: int) -> Iterator[SuiteRow]:
    """Generation of DigitScenes, and how long training waits for the loaders."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        seconds = [_generate(root / str(seed), seed) for seed in range(rounds)]
        yield median_row(
            'DigitScenes, generation',
            'classification and scenes: ten times a tenth, one process, CPU time',
            60.0,
            [TENTH * value for value in seconds],
            's',
        )
        sets = root / '0' / 'classification'
        loaders = {'DigitScenes': _digit_scenes(sets), 'CIFAR-10': _cifar()}
        for name, cfg in loaders.items():
            size = cfg.train_dataloader.batch_size
            yield median_row(
                f'{name}, wait for data',
                'share of a training step of narrow VGG by the clock, as mmengine logs '
                f'it; batch {size}',
                5.0,
                _waits(cfg, root / name, rounds),
                '%',
            )


def start_up_rows(rounds: int) -> Iterator[SuiteRow]:
    """What importing this package adds to the hosts', and to one of them alone.

    It registers a part for each host that is installed, and so imports the others too.
    """
    for name, hosts in {'all hosts': tuple(HOST_PARTS), 'mmdet': ('mmdet',)}.items():
        if not all(map(is_installed, hosts)):
            continue
        modules = ', '.join(f'{host}.models' for host in hosts)
        yield median_row(
            f'start-up beside {name}',
            f'CPU time of import aib_mm after import {modules}',
            0.3,
            [_import_seconds(modules) for _ in range(rounds)],
            's',
        )


def _generate(folder: Path, seed: int) -> float:
    full = DigitScenesSpec()
    spec = DigitScenesSpec(
        seed=seed,
        train=full.train // TENTH,
        test=full.test // TENTH,
        scenes_train=full.scenes_train // TENTH,
        scenes_val=full.scenes_val // TENTH,
    )
    start = time.process_time()
    generate(folder, spec, DEFAULT_PARTS, num_workers=1, progress=False)
    return time.process_time() - start


def _digit_scenes(folder: Path) -> Config:
    cfg = load_config(str(config_path(NARROW)), None)
    cfg.train_dataloader.dataset.data_root = str(folder)
    return cfg


def _cifar() -> Config:
    """The narrow model behind the pipeline and the loader of CIFAR-10."""
    cfg = load_config(str(config_path(NARROW)), None)
    cifar = load_config(str(config_path(CIFAR)), None)
    cfg.train_dataloader = cifar.train_dataloader
    pipeline = cifar.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset = dict(
        type='RandomImages', count=IMAGES, pipeline=pipeline
    )
    return cfg


def _waits(cfg: Config, work_dir: Path, rounds: int) -> list[float]:
    """Per cent of each iteration that it waited, without the first one."""
    cfg.work_dir = str(work_dir)
    cfg.launcher = 'none'
    cfg.train_cfg = dict(by_epoch=False, max_iters=rounds + 1)
    cfg.param_scheduler = None
    for part in ('cfg', 'dataloader', 'evaluator'):
        cfg[f'val_{part}'] = cfg[f'test_{part}'] = None
    cfg.default_hooks = dict(checkpoint=None)
    cfg.custom_hooks = []
    cfg.visualizer = None
    with contextlib.redirect_stdout(io.StringIO()):
        runner = build_runner(cfg)
        runner.train()
    waited, taken = (_history(runner, name) for name in ('data_time', 'time'))
    return [100 * a / b for a, b in zip(waited, taken, strict=True)]


def _history(runner: Runner, name: str) -> list[float]:
    values, _ = runner.message_hub.get_scalar(f'train/{name}').data
    return values[1:].tolist()


def _import_seconds(modules: str) -> float:
    code = (
        f'import time, {modules}; start = time.process_time(); import aib_mm; '
        'print(time.process_time() - start)'
    )
    command = [sys.executable, '-W', 'ignore', '-c', code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])
