"""Two processes on gloo: what every one of them holds after five steps is the same."""

from pathlib import Path

import pytest
import torch
from tiny_runs import TASKS, count_iterations, results_of_two, tiny_config

STEPS = 5
WATCHED = ('_mean', '_std', '_perplexity')


@pytest.mark.slow
@pytest.mark.parametrize('task', TASKS)
def test_ranks_are_bit_equal_after_five_steps(task: str, tmp_path: Path) -> None:
    """Weights, anchors and discriminator, and what the monitor says of all images."""
    cfg = count_iterations(tiny_config(task, tmp_path), STEPS, interval=STEPS)
    cfg.model.neck.quantizer = dict(type='VQAnchorQuantizer', num_anchors=6)
    cfg.train_dataloader.batch_size = 2
    cfg.custom_hooks = [dict(type='AIBMonitorHook', interval=1)]
    first, second = results_of_two(cfg, tmp_path / 'run')
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
