"""The check on a GPU, as far as a CPU can tell."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain')

from aib_mm.diagnosis.configs import load_config
from aib_mm.experiments.cost.model import CostModel


@pytest.fixture
def steps(repo: Path, monkeypatch: pytest.MonkeyPatch):
    """The program ``gpu_steps.py`` as a module."""
    monkeypatch.syspath_prepend(str(repo / 'tools' / 'dev'))
    import gpu_steps

    return gpu_steps


def test_what_is_packed_is_in_the_lock(repo: Path) -> None:
    script = (repo / 'tools/dev/gpu_check.sh').read_text()
    names = re.search(r"^NAMES='(.*?)'", script, flags=re.DOTALL | re.MULTILINE)
    lock = (repo / 'requirements/lock-upstream.txt').read_text()
    locked = set(re.findall(r'^([\w.-]+)==', lock, flags=re.MULTILINE))
    assert set(names[1].split()) <= locked
    assert {'mmengine', 'mmdet', 'mmpretrain', 'mmsegmentation'} < set(names[1].split())


def test_a_bare_machine_is_told_what_to_bring(repo: Path, tmp_path: Path) -> None:
    bare = tmp_path / 'tools/dev/gpu_check.sh'
    bare.parent.mkdir(parents=True)
    bare.write_text((repo / 'tools/dev/gpu_check.sh').read_text())
    environment = {**os.environ, 'PYTHON': 'false', 'OUT': str(tmp_path / 'out')}
    done = subprocess.run(
        ['bash', str(bare)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert 'bring it from tools/dev/gpu_check.sh --pack' in done.stderr


def test_every_model_is_tried_in_what_its_ops_can_do(steps) -> None:
    assert steps.modes_of('vgg', 'cuda') == [
        *('float32', 'float16', 'bfloat16', 'compiled')
    ]
    assert steps.modes_of('detection', 'cuda') == ['float32', 'float16']
    assert steps.modes_of('detection', 'cpu') == ['float32']
    assert steps.modes_of('segmentation', 'cpu') == ['float32', 'bfloat16']
    for config, _, _ in (*steps.FULL.values(), *steps.TINY.values()):
        assert (steps.CONFIGS / config).is_file()
        assert '_aib_qt' in config


def test_a_step_in_half_precision_is_measured(steps) -> None:
    config, size, batch = steps.TINY['vgg']
    subject = CostModel(load_config(str(steps.CONFIGS / config), None), size, batch)
    seen = []
    hook = subject.model.backbone.register_forward_hook(
        lambda module, args, output: seen.append(torch.is_autocast_enabled('cpu'))
    )
    wrapper = subject.wrapper
    for mode, autocast in (('float32', False), ('bfloat16', True)):
        seen.clear()
        found = steps.measure(subject, mode, rounds=1)
        assert found['ok'] and found['loss'] > 0 and found['images/s'] > 0
        assert set(seen) == {autocast}
        assert subject.wrapper is wrapper
    hook.remove()
