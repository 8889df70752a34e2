"""The doctor over every shipped config, and over the wrong ones of ``train.py``."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_configs import AT_WORK, HOSTS, ROWS, write
from runner_logs import own_loggers
from shipped_configs import PATHS, is_large

from aib_mm.__main__ import main

#: What the doctor cannot know: it reads no data, and loads no weights.
UNSEEN = ('no_data', 'instances_trian', 'gone.pth')
#: Every sixth is tried by default, and every one where slow tests are.
WRONG = [
    pytest.param(*row.values, id=row.id, marks=[pytest.mark.slow] * bool(number % 6))
    for number, row in enumerate(ROWS)
]


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    with own_loggers():
        yield


@pytest.mark.slow
@pytest.mark.parametrize(
    'path', [pytest.param(path, id=f'{path.parent.name}/{path.stem}') for path in PATHS]
)
def test_every_shipped_config_is_well(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(path.parent.name)
    code = main(['doctor', str(path)])
    said = capsys.readouterr().out
    assert code == 0, said
    assert 'one training step and one prediction on images of ' in said
    assert said.endswith('\nall is well\n')
    assert not is_large(path.stem) or 'no gradient' not in said


@pytest.mark.parametrize(('task', 'code', 'place', 'value', 'remedy'), WRONG)
def test_wrong_configs_are_not_well(
    task: str,
    code: str,
    place: str,
    value: str,
    remedy: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(HOSTS[task])
    if any(words in code for words in UNSEEN):
        assert main(['doctor', str(write(tmp_path, task, code))]) == 0
        return
    if 'default_scope' in code:  # any is allowed here, that of no host too
        value, remedy = "is 'mmpretrian'", "did you mean 'mmpretrain'?"
    assert main(['doctor', str(write(tmp_path, task, code))]) == 1
    said = capsys.readouterr().out
    assert 'Traceback' not in said
    failed = said[said.index('[failed]') :]
    assert place.strip() in failed
    assert re.search(value, failed), failed
    assert re.search(re.escape(remedy) if '?' in remedy else remedy, failed), failed


@pytest.mark.parametrize(('code', 'kind', 'message'), AT_WORK[1:])
def test_what_fails_at_work_fails_here(
    code: str,
    kind: type[Exception],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip('mmpretrain')
    assert main(['doctor', str(write(tmp_path, 'classification', code))]) == 1
    said = capsys.readouterr().out
    assert re.search(
        rf'a step on made images fails: .*{kind.__name__}: .*{message}', said
    )
