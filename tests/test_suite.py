"""The suite's own options: what passed is left out of the next run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import os

def test_sound():
    pass

def test_mended_later():
    assert 'MENDED' in os.environ
"""


@pytest.mark.slow
def test_a_suite_goes_on_after_what_passed(repo: Path, tmp_path: Path) -> None:
    (tmp_path / 'test_two.py').write_text(TESTS)
    done = tmp_path / 'cache' / 'done'

    def run(*options: str, **environment: str) -> tuple[int, str]:
        inherited = {
            name: value for name, value in os.environ.items() if 'XDIST' not in name
        }
        run = subprocess.run(
            [
                sys.executable,
                '-m',
                'pytest',
                '-p',
                'conftest',
                '--done',
                done,
                *options,
            ],
            cwd=tmp_path,
            env=inherited | {'PYTHONPATH': str(repo / 'tests')} | environment,
            capture_output=True,
            text=True,
        )
        return run.returncode, run.stdout

    code, first = run()
    assert code == 1
    assert '1 failed, 1 passed' in first
    assert done.read_text() == 'test_two.py::test_sound\n'

    code, second = run('-n', '2', MENDED='yes')
    assert code == 0, second
    assert 'passed before: 1 tests' in second
    assert '1 passed' in second and '2 passed' not in second
    assert len(done.read_text().splitlines()) == 2

    code, third = run()
    assert code == 0, third
    assert '2 deselected' in third
