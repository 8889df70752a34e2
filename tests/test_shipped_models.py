"""The small models that come trained with the package, by their names."""

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('mlxtend')
pytest.importorskip('skimage')

from aib_mm.apis import AttentionInferencer
from aib_mm.digitscenes import DigitScenesSpec, generate
from aib_mm.utils.shipped import shipped_model, shipped_models

NAMES = list(shipped_models())
LIMIT = 3_000_000  # bytes: each is a part of the repository and of the wheel


def test_there_are_some_and_they_are_small() -> None:
    assert 'vgg16-narrow_aib_priced_digitscenes' in NAMES
    for name in NAMES:
        config, weights = shipped_model(name)
        assert config.stem == name
        assert weights.stat().st_size < LIMIT


def test_the_script_that_stores_them(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {
        'fc.weight': torch.randn(4, 3),
        'fc.bias': torch.randn(4),
        'body.weight': torch.randn(4, 3),
        'bn.running_var': torch.tensor([1.0, 1e6]),  # more than 16 bits hold
        'bn.steps': torch.tensor(7),
        'many': torch.tensor(2**20),
    }
    meta = dict(dataset_meta=dict(classes=('a', 'b')), seed=1)
    source, out = tmp_path / 'trained.pth', tmp_path / 'small.pth'
    torch.save(dict(state_dict=weights, meta=meta, optimizer={'lr': 1}), source)
    script = repo / 'tools/dev/store_weights.py'
    command = [str(script), str(source), str(out), '--float8', 'body.']
    monkeypatch.setattr(sys, 'argv', command)
    runpy.run_path(str(script), run_name='__main__')
    found = torch.load(out, weights_only=True)
    assert found.keys() == {'state_dict', 'meta'}
    assert found['meta'] == dict(dataset_meta=dict(classes=('a', 'b')))
    stored = found['state_dict']
    bits = {name: 8 * value.element_size() for name, value in stored.items()}
    assert list(bits.values()) == [16, 16, 8, 32, 16, 64]
    for name, value in weights.items():
        rtol = {8: 2**-4, 16: 2**-10}.get(bits[name], 0.0)
        close = stored[name].to(value.dtype)
        torch.testing.assert_close(close, value, rtol=rtol, atol=0.002)


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no model 'vgg' comes with .*vgg16"):
        AttentionInferencer('vgg')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('shipped')
    # The whole set's digits and photographs, of which a training saw none at test.
    spec = DigitScenesSpec(train=10, test=60, scenes_train=1, scenes_val=20)
    generate(root, spec, num_workers=1, progress=False)
    return root


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('size', [(96, 128), (128, 70)])
def test_a_photo_of_any_shape_is_looked_at(name: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    (result,) = AttentionInferencer(name, source='bits')([image], seed=0)
    assert result.attention_mean.shape == size
    assert result.attention_mean.max() > 0


def is_hit(attention: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the maximum lies on the mask, one pixel of tolerance."""
    reached = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    return bool(reached[np.unravel_index(attention.argmax(), mask.shape)])


def boxes_and_masks(scenes: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name of an image, where its boxes are, and where its digits are."""
    content = json.loads((scenes / 'annotations/instances_val.json').read_text())
    for image in content['images']:
        mask = cv2.imread(str(scenes / 'masks/val' / image['file_name']), 0)
        boxes = np.zeros_like(mask)
        for found in content['annotations']:
            if found['image_id'] == image['id']:
                x, y, width, height = map(round, found['bbox'])
                boxes[y : y + height, x : x + width] = 1
        yield image['file_name'], boxes, mask > 1  # 0 is ignored, 1 the background


@pytest.mark.parametrize(
    ('name', 'host', 'least'),
    [
        ('faster_rcnn_r18-narrow_aib_priced_digitscenes', 'mmdet', 12),
        ('upernet_beit-narrow_aib_priced_digitscenes', 'mmseg', 8),
    ],
)
def test_detector_and_segmentor_look_at_digits(
    name: str, host: str, least: int, folder: Path
) -> None:
    """78.5 and 63.7 % of the whole set's images; by chance 15.1 and 6.6 %."""
    pytest.importorskip(host)
    scenes = folder / 'scenes'
    results = AttentionInferencer(name)([scenes / 'images/val'], seed=0)
    maps = {result.name: result.attention_mean for result in results}
    assert len(maps) == 20
    hits = 0
    for file, boxes, mask in boxes_and_masks(scenes):
        hits += is_hit(maps[file], boxes if host == 'mmdet' else mask)
    assert hits >= least


def test_the_classifier_knows_the_digit_and_looks_at_it(folder: Path) -> None:
    inferencer = AttentionInferencer('vgg16-narrow_aib_priced_digitscenes')
    part = folder / 'classification'
    results = inferencer([part / 'test'], seed=0)
    assert len(results) == 60
    right = hits = 0
    for result in results:
        path = part / 'test' / result.name
        right += result.outcome.predicted == (int(path.parent.name),)
        mask = cv2.imread(str(part / 'masks/test' / result.name), 0)
        hits += is_hit(result.attention_mean, mask > 0)
    # 93.6 % and 87.3 % of the whole test set; by chance 10 % and 13 %.
    assert right >= 48
    assert hits >= 39
