"""Files that are whole or as they were, and JSON without NaN."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from aib_mm.utils.files import json_text, write_atomically


@pytest.mark.parametrize('content', [b'\x00\xff', 'Fläche'])
def test_a_file_gets_its_folder(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'a.txt'
    write_atomically(path, 'before')
    write_atomically(str(path), content)
    expected = content.encode() if isinstance(content, str) else content
    assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('step', ['fsync', 'replace'])
@pytest.mark.parametrize('error', [OSError('full'), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'a.txt'
    path.write_text('before')

    def fail(*_: object) -> None:
        assert path.read_text() == 'before', 'the old file stays until the end'
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_atomically(path, 'after')
    assert path.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_that_are_not_finite_are_null() -> None:
    content = dict(
        a=float('nan'),
        b=[np.float32('inf'), np.int64(2), True],
        c=(torch.tensor([1.5, float('-inf')]), np.array(float('nan'))),
        d=dict(e=None, f='NaN', g=7),
    )
    assert json.loads(json_text(content), parse_constant=pytest.fail) == dict(
        a=None,
        b=[None, 2, True],
        c=[[1.5, None], None],
        d=dict(e=None, f='NaN', g=7),
    )
