"""The notebooks of the docs: their cells run, and give the outputs that are kept.

A cell's output is what its last line gives, as a notebook shows it; what libraries
print, paths of this machine among it, is none. After a change run the cells and keep
their outputs anew, and look at the difference::

    AIB_MM_GOLDEN=write python -m pytest tests/test_notebooks.py
"""

import ast
import base64
import io
import json
import os
import re
from pathlib import Path
from pprint import pformat
from typing import Any

import numpy as np
import pytest
from PIL import Image

for library in ('mmpretrain', 'mlxtend', 'skimage', 'pytorch_grad_cam'):
    pytest.importorskip(library)

NOTEBOOKS = sorted((Path(__file__).parents[1] / 'docs').glob('*.ipynb'))
LIMIT = 400_000  # bytes
NUMBER = re.compile(r'\d+(?:\.\d+)?(?:e-?\d+)?')
PICTURE = re.compile('data:image/png;base64,([^"]+)')

Cell = dict[str, Any]


def run_cell(source: str, namespace: dict[str, Any]) -> dict[str, list[str]]:
    """Run a cell; what its last line gives, by kind of text, {} if nothing."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), 'cell', 'exec'), namespace)
    if last is None:
        return {}
    value = eval(compile(ast.Expression(last.value), 'cell', 'eval'), namespace)
    if value is None:
        return {}
    shown = {'text/plain': pformat(value, sort_dicts=False)}
    if hasattr(value, '_repr_html_'):
        shown['text/html'] = value._repr_html_()
    return {kind: text.splitlines(keepends=True) for kind, text in shown.items()}


def run_all(cells: list[Cell]) -> list[Cell]:
    """The cells as they are kept after running those of code from the first to last."""
    namespace: dict[str, Any] = {}
    done = []
    count = 0
    for cell in cells:
        if cell['cell_type'] == 'code':
            count += 1
            shown = run_cell(''.join(cell['source']), namespace)
            output = dict(
                data=shown,
                execution_count=count,
                metadata={},
                output_type='execute_result',
            )
            outputs = [output] if shown else []
            cell = dict(cell, execution_count=count, outputs=outputs)
        done.append(dict(cell, metadata={}))
    return done


def without_data(cells: list[Cell]) -> str:
    """All but numbers and pictures."""
    return NUMBER.sub('0', PICTURE.sub('', json.dumps(cells, sort_keys=True)))


def texts(cells: list[Cell]) -> list[str]:
    """Outputs in words."""
    return [
        ''.join(output['data']['text/plain'])
        for cell in cells
        for output in cell.get('outputs', ())
    ]


def pictures(cells: list[Cell]) -> list[np.ndarray]:
    """Pixels of the pictures in the outputs."""
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert('RGB'))
        for data in PICTURE.findall(json.dumps(cells).replace('\\"', '"'))
    ]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_give_the_outputs_that_are_kept(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text(encoding='utf-8'))
    found = run_all(notebook['cells'])
    if os.environ.get('AIB_MM_GOLDEN') == 'write':
        notebook['cells'] = found
        text = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True)
        path.write_text(text + '\n', encoding='utf-8')
    kept = json.loads(path.read_text(encoding='utf-8'))['cells']
    assert without_data(found) == without_data(kept)
    for one, other in zip(texts(found), texts(kept), strict=True):
        numbers = [float(number) for number in NUMBER.findall(other)]
        # Shown rounded: the last digit may be another machine's.
        expected = pytest.approx(numbers, rel=0.01, abs=0.011)
        assert [float(number) for number in NUMBER.findall(one)] == expected
    assert pictures(kept)
    for drawn, picture in zip(pictures(found), pictures(kept), strict=True):
        assert drawn.shape == picture.shape
        assert np.abs(drawn.astype(float) - picture).mean() < 3


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small(path: Path) -> None:
    assert path.stat().st_size < LIMIT
