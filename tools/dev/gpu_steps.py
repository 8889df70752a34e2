"""Training steps of the full-size models in float32, mixed precision, compiled.

    python tools/dev/gpu_steps.py OUT.json [--tiny] [--skip detection]

Random weights and images. A line of JSON for each model and mode: images a second, and
the loss, which must be finite. For ``gpu_check.sh``; on a CPU half precision is bf16.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper

from aib_mm.diagnosis.configs import load_config
from aib_mm.experiments.cost.model import CostModel
from aib_mm.experiments.cost.timing import timed

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
#: Task -> config below ``configs/``, height and width, images a step.
FULL = {
    'vgg': ('mmpretrain/vgg16_aib_qt_cifar10.py', (32, 32), 128),
    'wrn': ('mmpretrain/wrn28-10_aib_qt_cifar10.py', (32, 32), 128),
    'segmentation': ('mmseg/upernet_beit_aib_qt.py', (512, 512), 2),
    'detection': ('mmdet/faster_rcnn_r50_aib_qt.py', (800, 1088), 2),
}
TINY = {
    'vgg': ('mmpretrain/vgg16-narrow_aib_qt_digitscenes.py', (32, 32), 2),
    'wrn': ('mmpretrain/wrn16-narrow_aib_qt_digitscenes.py', (32, 32), 2),
    'segmentation': ('mmseg/upernet_beit-narrow_aib_qt_digitscenes.py', (64, 64), 2),
    'detection': ('mmdet/faster_rcnn_r18-narrow_aib_qt_digitscenes.py', (128, 128), 1),
}
#: Their steps have one graph; a detector is traced anew for each number of boxes.
COMPILED = ('vgg', 'wrn')
HALF = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


def modes_of(task: str, device: str) -> list[str]:
    """The modes that a task's model is tried in."""
    half = [*HALF] if device == 'cuda' else ['bfloat16']
    if task == 'detection':  # mmcv's RoIAlign knows no bf16, on a CPU no half at all
        half = ['float16'] if device == 'cuda' else []
    return ['float32', *half, *['compiled'] * (task in COMPILED)]


def measure(subject: CostModel, mode: str, rounds: int) -> dict[str, Any]:
    """Images a second of the training step in a mode, and its loss."""
    plain = subject.wrapper
    context: AbstractContextManager = nullcontext()
    if mode in HALF and subject.device == 'cuda':
        scale = 'dynamic' if mode == 'float16' else 1.0
        subject.wrapper = AmpOptimWrapper(scale, HALF[mode], optimizer=plain.optimizer)
    elif mode in HALF:  # mmengine's wrapper wants a GPU
        context = torch.autocast('cpu', dtype=HALF[mode])
    if mode == 'compiled':  # as mmengine's Runner with compile=True
        subject.model.train_step = torch.compile(subject.model.train_step)
    try:
        step = subject.step(None)
        with context:
            loss = step()['loss'].item()
            (times,) = timed([step], rounds, torch.get_num_threads())
    finally:
        subject.wrapper = plain
        subject.model.__dict__.pop('train_step', None)
    finite = torch.tensor(loss).isfinite().item()
    speed = round(subject.batch / statistics.median(times.wall), 1)
    return {'images/s': speed, 'loss': loss, 'ok': finite}


def results(tiny: bool, skip: list[str], device: str) -> Iterator[dict[str, Any]]:
    """A record of each model and mode; an error is a record too."""
    for task, (config, size, batch) in (TINY if tiny else FULL).items():
        if task in skip:
            continue
        subject = CostModel(
            load_config(str(CONFIGS / config), None), size, batch, device
        )
        for mode in modes_of(task, device):
            record: dict[str, Any] = dict(model=Path(config).stem, mode=mode)
            try:
                record |= measure(subject, mode, 1 if tiny else 5)
            except Exception as error:  # the other models and modes go on
                record |= dict(ok=False, error=f'{type(error).__name__}: {error}'[:300])
            yield record


def main() -> int:
    """Write the records; 1 if one of them is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('out', type=Path)
    parser.add_argument('--tiny', action='store_true', help='narrow models, one round')
    parser.add_argument('--skip', nargs='*', default=[], choices=[*FULL])
    args = parser.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    found = []
    for record in results(args.tiny, args.skip, device):
        print(json.dumps(record), flush=True)
        found.append(record)
        # What was found stays, should time run out.
        args.out.write_text(json.dumps(found))
    return int(not all(record['ok'] for record in found))


if __name__ == '__main__':
    raise SystemExit(main())
