"""One model and seed: trained through the Runner, tested, its cases kept."""

import copy
import json
import logging
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner, find_latest_checkpoint, load_checkpoint
from numpy.typing import NDArray
from rich.progress import Progress
from torch import nn

from aib_mm.attention import AIBAttention
from aib_mm.diagnosis.configs import load_config
from aib_mm.experiments.demo.models import DemoModel, config_path
from aib_mm.experiments.demo.progress import ProgressHook
from aib_mm.experiments.provenance import fingerprint
from aib_mm.interpret.record.recording import AttentionRecord, record_attention
from aib_mm.utils.files import json_text, write_atomically

TRAINING = 'training.json'


class DemoRunner(Runner):
    """mmengine's Runner on a chosen device, the terminal left to the progress bars.

    The log file gets everything as ever, the terminal only errors: mmengine warns of
    its own deprecated parts on every run.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(max(handler.level, logging.ERROR))
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        return super().wrap_model(model_wrapper_cfg, model).to(self.cfg.device)


@dataclass(frozen=True)
class Task:
    """What is trained and where: one model and seed.

    Attributes:
        data: folder of the classification part of DigitScenes, ``checksum`` its own.
        work_dir: folder of this model and seed.
        epochs: instead of the config's, or None.
    """

    model: DemoModel
    seed: int
    data: Path
    checksum: str
    work_dir: Path
    device: str
    epochs: int | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f'{self.model.name}, seed {self.seed}'

    def config(self) -> Config:
        """The shipped config with what this task sets."""
        options = {
            'work_dir': str(self.work_dir),
            'device': self.device,
            'randomness.seed': self.seed,
            'train_dataloader.dataset.data_root': str(self.data),
            'test_dataloader.dataset.data_root': str(self.data),
            # The demo tests once, after training.
            'val_dataloader': None,
            'val_evaluator': None,
            'val_cfg': None,
            **self.model.options,
        }
        cfg = load_config(str(config_path(self.model.config)), options)
        if self.epochs is not None:
            _set_epochs(cfg, self.epochs)
        return cfg

    def fingerprint(self, cfg: Config) -> str:
        """Changes whenever training would give another model."""
        content = cfg.to_dict()
        content.pop('work_dir')
        for loader in ('train_dataloader', 'test_dataloader'):
            content[loader]['dataset'].pop('data_root')
        content.pop('data_root', None)
        return fingerprint(content, self.checksum)


@dataclass(frozen=True)
class Training:
    """A finished training: its checkpoint's file name, and what it was made of.

    ``images`` counts every pass over an image; ``peak_memory`` is MiB of a GPU's memory
    and None on a CPU.
    """

    fingerprint: str
    checkpoint: str
    seconds: float
    epochs: int
    images: int
    peak_memory: int | None


@dataclass(frozen=True)
class Prediction:
    """One test image as the test loop left it; arrays as in the report's ``Case``."""

    image_path: Path
    label: int
    scores: NDArray[np.floating]
    mask: NDArray[np.bool_]
    sample: dict[str, Any]
    quantized: NDArray[np.floating] | None
    anchors_used: int | None

    @property
    def is_right(self) -> bool:
        """Whether the highest score is the label's."""
        return int(self.scores.argmax()) == self.label


@dataclass(frozen=True)
class Outcome:
    """All that is known of one model and seed."""

    task: Task
    training: Training
    test_seconds: float
    metrics: dict[str, float]
    predictions: list[Prediction] = field(repr=False)


def finished_training(task: Task) -> Training | None:
    """What an earlier run left in the work folder, if it was this very training."""
    path = task.work_dir / TRAINING
    if not path.is_file():
        return None
    try:
        training = Training(**json.loads(path.read_text(encoding='utf-8')))
    except (TypeError, ValueError):
        return None
    same = training.fingerprint == task.fingerprint(task.config())
    found = (task.work_dir / training.checkpoint).is_file()
    return training if same and found else None


def train(task: Task, progress: Progress) -> Training:
    """Train with ``Runner.train()`` and note it in the work folder."""
    cfg = task.config()
    fingerprint = task.fingerprint(cfg)
    note = task.work_dir / TRAINING
    # Interrupted from here on, the folder must not look like a finished training.
    note.unlink(missing_ok=True)
    runner, clock = _build_runner(cfg, task, 'train', progress)
    on_gpu = task.device == 'cuda'
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    runner.train()
    training = Training(
        fingerprint=fingerprint,
        checkpoint=Path(find_latest_checkpoint(task.work_dir)).name,
        seconds=round(clock.seconds, 1),
        epochs=runner.max_epochs,
        images=runner.max_epochs * len(runner.train_dataloader.dataset),
        peak_memory=torch.cuda.max_memory_allocated() >> 20 if on_gpu else None,
    )
    write_atomically(note, json_text(asdict(training)))
    return training


def test(task: Task, training: Training, progress: Progress) -> Outcome:
    """Test the trained model with ``Runner.test()``, keeping every prediction.

    It starts from the checkpoint and the task's seed, so that the Monte Carlo samples,
    and with them all results, are the same whenever it is done.
    """
    runner, clock = _build_runner(task.config(), task, 'test', progress)
    checkpoint = str(task.work_dir / training.checkpoint)
    load_checkpoint(runner.model, checkpoint, 'cpu', strict=True, logger='current')
    attends = any(isinstance(m, AIBAttention) for m in runner.model.modules())
    with ExitStack() as stack:
        record: AttentionRecord = {}
        if attends:
            record = stack.enter_context(record_attention(runner.model))
        recorder = _PredictionRecorder(record)
        runner.register_hook(recorder)
        metrics = runner.test()
    seconds = round(clock.seconds, 1)
    return Outcome(task, training, seconds, metrics, recorder.predictions)


class _PredictionRecorder(Hook):
    """Keeps each test image's prediction and the attention sample it was made with."""

    def __init__(self, record: AttentionRecord) -> None:
        self.record = record
        self.predictions: list[Prediction] = []

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        passes = next(iter(self.record.values()), [])
        maps = passes.pop()[-1] if passes else None
        for i, sample in enumerate(outputs):
            quantized = anchors_used = None
            if maps is not None and maps.indices is not None:
                quantized = maps.samples[0, i, 0].cpu().numpy()
                anchors_used = maps.indices[0, i].unique().numel()
            self.predictions.append(
                Prediction(
                    image_path=Path(sample.img_path),
                    label=int(sample.gt_label),
                    scores=sample.pred_score.cpu().numpy(),
                    mask=np.asarray(sample.gt_seg_map) > 0,
                    sample=sample.to_dict(),
                    quantized=quantized,
                    anchors_used=anchors_used,
                )
            )


def _build_runner(
    cfg: Config, task: Task, purpose: str, progress: Progress
) -> tuple[Runner, ProgressHook]:
    cfg = copy.deepcopy(cfg)
    # mmengine tells Runners apart by this name and the second they were built in.
    cfg.experiment_name = f'{task.model.name}_seed{task.seed}_{purpose}'
    runner = DemoRunner.from_cfg(cfg)
    clock = ProgressHook(progress, task.name)
    runner.register_hook(clock)
    return runner, clock


def _set_epochs(cfg: Config, epochs: int) -> None:
    """Another number of epochs, and the schedule stretched to it."""
    cfg.train_cfg.max_epochs = epochs
    cfg.train_cfg.val_interval = epochs
    schedules = cfg.param_scheduler
    for schedule in schedules if isinstance(schedules, list) else [schedules]:
        if 'total_steps' in schedule:
            schedule.total_steps = epochs
