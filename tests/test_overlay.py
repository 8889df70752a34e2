"""Attention drawn over images, and the sheet that shows what a model attends to."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import matplotlib
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from aib_mm.interpret import colorize, draw_boxes, overlay

GREY = np.full((4, 6, 3), 100, np.uint8)


def color(value: float, name: str = 'viridis') -> np.ndarray:
    """One of matplotlib's colours, 0 to 255."""
    return np.round(255 * np.array(matplotlib.colormaps[name](value)[:3]))


def test_colours_run_from_the_least_to_the_greatest() -> None:
    values = np.array([[2.0, 4.0], [3.0, 2.0]])
    colors = colorize(values, colors='magma')
    assert colors.shape == (2, 2, 3) and colors.dtype == np.uint8
    assert colors[0, 0].tolist() == color(0.0, 'magma').tolist()
    assert colors[0, 1].tolist() == color(1.0, 'magma').tolist()
    assert colors[1, 0].tolist() == color(128 / 255, 'magma').tolist()


def test_a_fixed_range_makes_pictures_compare() -> None:
    weak, strong = np.array([[0.0, 0.25]]), np.array([[0.0, 1.0]])
    assert np.array_equal(colorize(weak), colorize(strong))
    fixed = colorize(weak, (0.0, 1.0))
    assert fixed[0, 1].tolist() == color(64 / 255).tolist()
    outside = colorize(np.array([-3.0, 7.0]), (0.0, 1.0))
    assert outside.tolist() == [color(0.0).tolist(), color(1.0).tolist()]


def test_a_constant_map_has_the_lowest_colour() -> None:
    assert (colorize(np.full((2, 2), 0.7)) == color(0.0)).all()


@pytest.mark.parametrize('opacity', [0.0, 0.25, 1.0])
def test_colours_are_blended_into_the_image(opacity: float) -> None:
    picture = overlay(GREY, np.zeros((2, 3)), opacity=opacity)
    assert picture.shape == GREY.shape and picture.dtype == np.uint8
    assert (picture == np.round(opacity * color(0.0) + (1 - opacity) * 100)).all()


def test_maps_are_resized_to_the_image_smoothly_or_not() -> None:
    attention = np.array([[0.0, 1.0, 0.0]])
    sharp = overlay(GREY, attention, opacity=1, smooth=False)
    assert (sharp[:, 2:4] == color(1.0)).all() and (sharp[:, 4:] == color(0.0)).all()
    smooth = overlay(GREY, attention, value_range=(0.0, 1.0), opacity=1)
    # Pixel 1 has its centre three quarters of a position from the first centre.
    assert smooth[0, 1].tolist() == color(round(255 * 0.25) / 255).tolist()
    assert len(np.unique(smooth[0], axis=0)) == 3


def test_boxes_are_drawn_where_they_are() -> None:
    image = np.full((40, 60, 3), 100, np.uint8)
    boxes = np.array([[10.0, 5.0, 50.0, 30.0]])
    drawn = draw_boxes(image, boxes)
    assert drawn.shape == image.shape
    rows, columns = (drawn != image).any(axis=2).nonzero()
    found = [columns.min(), rows.min(), columns.max(), rows.max()]
    assert np.abs(np.array(found) - boxes[0]).max() <= 2
    assert np.array_equal(drawn[12:24, 20:40], image[12:24, 20:40])
    assert draw_boxes(image, np.empty((0, 4))) is image
    assert (overlay(image, np.zeros((2, 3)), opacity=0, boxes=boxes) == drawn).all()


def test_what_cannot_be_drawn_is_named() -> None:
    with pytest.raises(ValueError, match=r'image must be .* got \(4, 6\) uint8'):
        overlay(GREY[..., 0], np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r'image must be .* float64'):
        overlay(GREY / 255, np.zeros((2, 2)))
    with pytest.raises(
        ValueError, match=r'attention must be \(h, w\), got \(1, 2, 2\)'
    ):
        overlay(GREY, np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match=r'opacity must be in \[0, 1\], got 2'):
        overlay(GREY, np.zeros((2, 2)), opacity=2)
    with pytest.raises(ValueError, match=r'value_range must be \(low, high\)'):
        overlay(GREY, np.zeros((2, 2)), value_range=(1.0, 1.0))


CONFIGS = {
    'mmpretrain': 'vgg16-narrow_aib_qt_digitscenes.py',
    'mmdet': 'faster_rcnn_r18-narrow_aib_digitscenes.py',
    'mmseg': 'upernet_beit-narrow_aib_qt_digitscenes.py',
}


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    path = Path(__file__).parents[1] / 'tools/dev/draw_attention.py'
    spec = importlib.util.spec_from_file_location('draw_attention', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def given(repo: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    """Config of a host, a checkpoint with random weights, and two images."""

    def make(scope: str) -> list[str]:
        pytest.importorskip(scope)
        path = repo / 'configs' / scope / CONFIGS[scope]
        cfg = Config.fromfile(path)
        with DefaultScope.overwrite_default_scope(scope):
            weights = MODELS.build(cfg.model).state_dict()
        torch.save(dict(state_dict=weights), tmp_path / 'random.pth')
        pixels = np.random.default_rng(0)
        # A BEiT of fixed size takes square images only.
        for name, width in (('a', 64), ('b', 64 if scope == 'mmseg' else 96)):
            picture = pixels.integers(0, 256, (64, width, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / f'{name}.png')
        images = [str(tmp_path / f'{name}.png') for name in 'ab']
        return [str(path), str(tmp_path / 'random.pth'), *images]

    return make


@pytest.mark.parametrize('scope', CONFIGS)
def test_the_sheet_is_drawn_for_every_host(scope, tool, given, tmp_path) -> None:
    out = tmp_path / 'new' / 'sheet.png'
    assert tool.main([*given(scope), '--out', str(out), '--range', '0', '1']) == 0
    with Image.open(out) as sheet:
        assert sheet.width > 4 * 200 and sheet.height > 2 * 200
        assert len(np.unique(np.asarray(sheet.convert('RGB')).reshape(-1, 3))) > 50


def test_the_maps_of_a_row_are_those_of_its_image(tool, given) -> None:
    config, checkpoint, _, image = given('mmdet')
    loaded = tool.load(Config.fromfile(config), checkpoint, 'cpu')
    row = tool.look(loaded, Path(image), level=1, score=0.3)
    assert row.mean.shape == row.sample.shape == row.std.shape == (64, 96)
    assert row.about_sample == 'one sample'
    # 96×64 is shown at 128×85 and padded to 128×96: level 1 of stride 8 has 12×16.
    assert len(np.unique(row.sample)) <= 11 * 16
    assert tool.look(loaded, Path(image), None, 0.3).about_sample.endswith('level')


def test_what_the_sheet_cannot_show_is_one_line(tool, given, capsys, repo) -> None:
    config, checkpoint, *images = given('mmdet')
    out = ['--out', 'never.png']
    missing = [config, checkpoint, 'no.png', *out]
    levels = [config, checkpoint, *images, *out, '--level', '9']
    vanilla = str(repo / 'configs/mmdet/faster_rcnn_r18-narrow_digitscenes.py')
    for argv, message in (
        (missing, 'image no.png does not exist'),
        (levels, 'level must be less than'),
        ([vanilla, checkpoint, *images, *out], 'holds no AIBAttention'),
    ):
        assert tool.main(argv) == 2
        assert message in capsys.readouterr().err
    assert not Path('never.png').exists()
