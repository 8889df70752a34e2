"""Two processes on gloo: what every one of them holds after five steps is the same."""

import os
from pathlib import Path

import pytest
import torch
from ddp_parity import join
from mmengine.config import Config
from tiny_runs import TASKS, count_iterations, tiny_config, train
from torch import distributed
from torch import multiprocessing as mp

from aib_mm.training.distributed import shut_down

STEPS = 5
WATCHED = ('_mean', '_std', '_perplexity')


def _work(rank: int, folder: Path, cfg: Config) -> None:
    os.environ['LOCAL_RANK'] = str(rank)
    store = distributed.FileStore(str(folder / 'store'), 2)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        find_unused_parameters=False,
    )
    hooks = [dict(type='AIBMonitorHook', interval=1)]
    settings = dict(launcher='pytorch', model_wrapper_cfg=wrapper)
    run = train(cfg, folder / 'run', hooks, **settings)
    kept = dict(
        losses=run.losses,
        parameters={
            name: value.detach() for name, value in run.runner.model.named_parameters()
        },
        scalars={
            key: buffer.data[0].tolist()
            for key, buffer in run.runner.message_hub.log_scalars.items()
            if 'attention' in key
        },
    )
    torch.save(kept, folder / f'{rank}.pth')
    shut_down()


@pytest.mark.slow
@pytest.mark.parametrize('task', TASKS)
def test_ranks_are_bit_equal_after_five_steps(task: str, tmp_path: Path) -> None:
    """Weights, anchors and discriminator, and what the monitor says of all images."""
    cfg = count_iterations(tiny_config(task, tmp_path), STEPS, interval=STEPS)
    cfg.model.neck.quantizer = dict(type='VQAnchorQuantizer', num_anchors=6)
    cfg.train_dataloader.batch_size = 2
    cfg.randomness.diff_rank_seed = True
    join(mp.spawn(_work, (tmp_path, cfg), nprocs=2, join=False), seconds=900)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    assert len(first['losses']) == STEPS
    assert first['losses'] != second['losses'], 'each has images of its own'
    assert first['parameters'].keys() == second['parameters'].keys()
    for name, value in first['parameters'].items():
        assert torch.equal(value, second['parameters'][name]), name
    names = ' '.join(first['parameters'])
    assert 'quantizer.anchors' in names and 'discriminator' in names
    assert first['scalars'] == second['scalars']
    for ending in WATCHED:
        values = [v for key, v in first['scalars'].items() if key.endswith(ending)]
        assert values and all(len(value) == STEPS for value in values), ending
