"""What README tells to write into one's own config, followed literally."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cifar_files import environment, use_files, write_cifar10

README = Path(__file__).parents[1] / 'README.md'
BLOCKS = re.findall(r'```python\n(.*?)```', README.read_text(), flags=re.DOTALL)


def own_config(block: str) -> str:
    """A block as a whole config: the first is one, the others go on from its head."""
    head = BLOCKS[0].partition('model = ')[0]
    return block if '_base_' in block else head + block


@pytest.mark.parametrize(
    'block',
    [BLOCKS[0], *(pytest.param(block, marks=pytest.mark.slow) for block in BLOCKS[1:])],
    ids=lambda block: block.split()[0],
)
def test_configs_of_the_readme_train_and_test(
    block: str, tmp_path: Path, repo: Path
) -> None:
    write_cifar10(tmp_path, train_per_batch=2, test=4)
    config = tmp_path / 'own.py'
    config.write_text(own_config(block))
    options = [*use_files(tmp_path, 10), 'train_cfg.max_epochs=1']
    for tool, *arguments in (
        ['train.py', '--work-dir', 'out'],
        ['test.py', 'out/epoch_1.pth'],
    ):
        command = [sys.executable, repo / 'tools' / tool, config, *arguments]
        done = subprocess.run(
            [*map(str, command), '--cfg-options', *options],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert 'accuracy/top1' in done.stdout
