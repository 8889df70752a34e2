"""Maps and scores of a result on the page: of which level, and on which scale."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from test_page import Page

from aib_mm.features import AttentionMaps
from aib_mm.interpret.draw.cases import result_tiles, tile_ranges, top_scores
from aib_mm.interpret.draw.writer import ResultWriter
from aib_mm.interpret.result import AttentionResult, Outcome

SIZE = (8, 8)


def make_level(side: int, low: float, high: float, indices: bool) -> AttentionMaps:
    """A mean of 0.5, and two samples from ``low`` to ``high``."""
    mean = torch.full((1, 1, side, side), 0.5)
    samples = torch.linspace(low, high, side * side).view(1, 1, 1, side, side)
    samples = samples.repeat(2, 1, 1, 1, 1)
    taken = samples.long() if indices else None
    return AttentionMaps(mean, mean / 5, samples, taken, nats=mean)


def make_result(
    level: str | int = 'mean', low: float = -1.0, indices: bool = False, **fields: Any
) -> AttentionResult:
    """A result of two levels, whose coarse one comes first; the fine one ends at 3."""
    meta = dict(ori_shape=SIZE, img_shape=SIZE)
    return AttentionResult(
        name='a.png',
        image=np.zeros((*SIZE, 3), np.uint8),
        prediction=BaseDataElement(metainfo=meta, **fields),
        outcome=Outcome((1,), (1,), 1.0),
        levels=(make_level(2, 0.0, 1.0, indices), make_level(4, low, 3.0, indices)),
        latent=None,
        level=level,
    )


def test_notes_say_of_which_level_a_map_is() -> None:
    notes = {tile.name: tile.note for tile in result_tiles(make_result())}
    assert notes == {
        'mean': 'mean of 2 levels',
        'std': 'mean of 2 levels',
        'passed': 'sum of 2 levels',
        'sample_1': 'finest level, draws may be negative',
        'sample_2': 'finest level, draws may be negative',
    }
    tiles = result_tiles(make_result(1, low=0.0, indices=True))
    assert {tile.name: tile.note for tile in tiles} == dict.fromkeys(
        ('mean', 'std', 'quantized', 'passed', 'sample_1', 'sample_2'), 'level 1'
    )


def test_of_one_level_nothing_is_said() -> None:
    result = make_result()
    alone = AttentionResult(**(vars(result) | dict(levels=result.levels[:1])))
    assert {tile.note for tile in result_tiles(alone)} == {''}
    assert set(tile_ranges(result_tiles(alone))) == {'attention', 'std', 'passed'}


def test_samples_of_another_level_have_a_scale_of_their_own() -> None:
    for indices in (False, True):
        ranges = tile_ranges(result_tiles(make_result(indices=indices)))
        assert ranges['attention'] == pytest.approx((0.5, 0.5))
        assert ranges['samples'] == pytest.approx((-1.0, 3.0))
    ranges = tile_ranges(result_tiles(make_result()), (0.0, 2.0))
    assert ranges['attention'] == ranges['samples'] == (0.0, 2.0)
    ranges = tile_ranges(result_tiles(make_result(1)))
    assert ranges['attention'] == pytest.approx((-1.0, 3.0)) and 'samples' not in ranges


def write(folder: Path, result: AttentionResult, **options: Any) -> str:
    with ResultWriter(folder, lambda one: one.image, ('cat', 'dog'), **options) as one:
        one.add(result)
    return (folder / 'index.html').read_text(encoding='utf-8')


@pytest.mark.parametrize('indices', [False, True])
def test_the_page_has_a_legend_of_both_scales(tmp_path: Path, indices: bool) -> None:
    text = write(tmp_path, make_result(indices=indices))
    legends = {
        one['data-scale']: (one['class'], one['data-low'], one['data-high'])
        for one in Page(text).all('div', 'legend')
    }
    # Anchors are always seen, other samples when asked for, and their legend with them.
    kind = 'legend' if indices else 'legend sample'
    assert legends['samples'] == (kind, '-1', '3')
    assert legends['attention'] == ('legend', '0.5', '0.5')
    said = [*re.findall(r'<span>(attention: [^<]*)</span>', text)]
    assert said == ['attention: mean', 'attention: std', 'attention: samples']
    (section,) = Page(text).all('section')
    assert json.loads(section['data-ends'])['samples'] == pytest.approx([-1, 3])


def test_the_true_class_is_among_the_scores() -> None:
    scores = np.array([0.1, 0.3, 0.05, 0.4, 0.15])
    highest = [(3, 0.4), (1, 0.3), (4, 0.15)]
    assert top_scores(scores, None) == top_scores(scores, [1]) == highest
    assert top_scores(scores, [2]) == [*highest, (2, 0.05)]
    assert top_scores(scores, [2, 0]) == [*highest, (0, 0.1), (2, 0.05)]
    assert top_scores(scores[:2], [7]) == [(1, 0.3), (0, 0.1)]


def test_a_card_marks_the_true_class_below_the_highest(tmp_path: Path) -> None:
    scores = torch.tensor([0.3, 0.04, 0.26, 0.24, 0.16])
    text = write(tmp_path, make_result(pred_score=scores))
    rows = re.findall(r'<tr( class="true")?>\s*<th scope="row">(\w+)', text)
    assert rows[-4:] == [('', 'cat'), ('', '2'), ('', '3'), (' class="true"', 'dog')]


def boxes() -> dict[str, Any]:
    labels, corners = torch.tensor([1]), torch.tensor([[1.0, 1.0, 4.0, 4.0]])
    found = InstanceData(bboxes=corners, labels=labels, scores=torch.ones(1))
    true = InstanceData(bboxes=corners, labels=labels)
    return dict(gt_instances=true, pred_instances=found)


def pixels() -> dict[str, Any]:
    labels = PixelData(data=torch.eye(SIZE[0], dtype=torch.long)[None])
    return dict(gt_sem_seg=labels, pred_sem_seg=labels)


@pytest.mark.parametrize(
    ('fields', 'said'),
    [
        (dict(), 'Right: the predicted class is the true one; of several, exactly'),
        (boxes(), 'Right: F1 of the boxes at least 0.7.'),
        (pixels(), 'Right: mean IoU over the classes of the image at least 0.7.'),
    ],
)
def test_what_is_right_is_said_in_words_of_the_task(
    fields: dict[str, Any], said: str, tmp_path: Path
) -> None:
    text = write(tmp_path, make_result(**fields), right_from=0.7)
    assert f'<p class="note">{said}' in text
