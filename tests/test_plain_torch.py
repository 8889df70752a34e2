"""The core in plain torch: the example of the docs, where no host can be imported."""

import json
import re
import subprocess
import sys
from pathlib import Path

from cifar_files import environment

#: Nothing of these can be found, as where they are not installed.
HIDDEN = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('mmcv', 'mmdet', 'mmpretrain', 'mmseg'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Hidden())
"""
TOLD = """
import json
told = dict(
    history=history,
    scores=scores.sum(dim=1).tolist(),
    shape=list(maps.mean.shape),
    ends=[maps.mean.min().item(), maps.mean.max().item()],
    samples=len(maps.samples),
    values=maps.samples.unique().numel(),
    learnt=[name for name, p in model.named_parameters() if p.grad is not None],
    all=[name for name, _ in model.named_parameters()],
    hosts=[name for name in sys.modules if name in ('mmcv', 'mmdet', 'mmpretrain')],
)
print(json.dumps(told))
"""


def test_the_example_of_the_docs_runs_without_a_host(
    tmp_path: Path, repo: Path
) -> None:
    text = (repo / 'docs/plain_torch.md').read_text()
    (script,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    file = tmp_path / 'example.py'
    file.write_text(HIDDEN + script + TOLD)
    done = subprocess.run(
        [sys.executable, file],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told['history'][-1] < told['history'][0]
    assert all(abs(total - 1) < 1e-5 for total in told['scores'])
    assert told['shape'] == [8, 1, 2, 2] and 0 < told['ends'][0] <= told['ends'][1] < 1
    # Every sampled map takes its values from the 20 anchors.
    assert told['samples'] == 4 and 1 <= told['values'] <= 20
    assert told['learnt'] == told['all'] and told['hosts'] == []
