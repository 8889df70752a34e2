"""Maps of slide inference: the windows are mmseg's, and nothing moves."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from attention_files import write_images, write_model
from mmengine.config import Config
from torch import Tensor

from aib_mm.apis import AttentionInferencer, InferenceError
from aib_mm.features import AttentionMaps
from aib_mm.interpret import information_of_images
from aib_mm.interpret.record.information import LatentRows
from aib_mm.interpret.record.source import AttentionSource
from aib_mm.interpret.record.windows import Windows, slide_windows
from aib_mm.interpret.result import levels_of

PIXELS = 16  # of a window's side, below


def windows_of(size: tuple[int, int], crop: int, stride: int) -> Windows | None:
    cfg = dict(mode='slide', crop_size=(crop, crop), stride=(stride, stride))
    return slide_windows(SimpleNamespace(test_cfg=cfg), size)


@pytest.fixture
def windows() -> Windows:
    """Six of 16×16 pixels over 24×36; the maps are 4×4."""
    found = windows_of((24, 36), PIXELS, 12)
    assert found is not None
    return found


@pytest.mark.parametrize('size', [(24, 36), (40, 17), (16, 33), (9, 50), (64, 64)])
@pytest.mark.parametrize('stride', [5, 12, 16])
def test_windows_are_those_that_the_host_crops(
    size: tuple[int, int], stride: int
) -> None:
    EncoderDecoder = pytest.importorskip('mmseg.models').EncoderDecoder
    seen = []

    def encode_decode(crop: Tensor, metas: list) -> Tensor:
        seen.append(crop[0, 0])
        return crop

    host = SimpleNamespace(
        test_cfg=SimpleNamespace(crop_size=(PIXELS, PIXELS), stride=(stride, stride)),
        out_channels=1,
        encode_decode=encode_decode,
    )
    inputs = torch.arange(size[0] * size[1]).float().view(1, 1, *size)
    EncoderDecoder.slide_inference(host, inputs, [{}])
    found = windows_of(size, PIXELS, stride)
    assert found is not None and len(found.boxes) == len(seen)
    for (top, left, bottom, right), crop in zip(found.boxes, seen, strict=True):
        assert torch.equal(inputs[0, 0, top:bottom, left:right], crop)


def test_an_input_of_one_window_is_taken_as_a_whole() -> None:
    assert windows_of((16, 10), PIXELS, 12) is None
    whole = SimpleNamespace(test_cfg=dict(mode='whole'))
    assert slide_windows(whole, (99, 99)) is None
    assert slide_windows(SimpleNamespace(), (99, 99)) is None


def test_each_position_is_the_mean_of_its_windows(windows: Windows) -> None:
    maps = torch.rand(6, 2, 4, 4)
    found = windows.average(list(maps))
    assert found.shape == (2, 6, 9)
    assert [box[:2] for box in windows.boxes] == [
        (0, 0), (0, 12), (0, 20), (8, 0), (8, 12), (8, 20),
    ]  # fmt: skip
    for y in range(6):
        for x in range(9):
            over = [
                one[:, y - top // 4, x - left // 4]
                for one, (top, left, bottom, right) in zip(
                    maps, windows.boxes, strict=True
                )
                if top <= 4 * y < bottom and left <= 4 * x < right
            ]
            torch.testing.assert_close(found[:, y, x], torch.stack(over).mean(0))


def test_off_the_grid_a_position_is_weighted_by_area() -> None:
    windows = Windows((4, 6), ((0, 0, 4, 4), (0, 2, 4, 6)))
    # Cells of 4 pixels, and windows that begin in the middle of one.
    left, right = torch.tensor([[1.0]]), torch.tensor([[4.0]])
    # Columns of pixels: 1, 1, 2.5, 2.5, 4, 4; a grid of round(6 / 4) = 2 cells.
    expected = torch.tensor([[(1 + 1 + 2.5) / 3, (2.5 + 4 + 4) / 3]])
    torch.testing.assert_close(windows.average([left, right]), expected)


def test_samples_and_indices_are_the_last_windows(windows: Windows) -> None:
    samples = torch.arange(6.0).view(6, 1, 1, 1, 1, 1).expand(6, 3, 1, 1, 4, 4)
    passes = [(AttentionMaps(one[0], one[0] / 2, one, one.long()),) for one in samples]
    (joined,) = windows.join(passes)
    assert joined.samples.shape == (3, 1, 1, 6, 9)
    assert joined.indices is not None and joined.indices.dtype == torch.int64
    top = [0, 0, 0, 1, 1, 2, 2, 2, 2]  # rows 0 and 1; the last rows are 3 and more
    assert joined.samples[0, 0, 0, 0].tolist() == top
    assert joined.indices[2, 0, 0, 5].tolist() == [value + 3 for value in top]
    torch.testing.assert_close(joined.std, joined.mean / 2)


def test_bits_of_windows_are_averaged_where_they_overlap(windows: Windows) -> None:
    # Two sources; the first encodes its two samples of the attention apart.
    rows = [
        LatentRows(torch.full((rows, 4, 4), float(value)), None, name)
        for _ in windows.boxes
        for name, rows, value in (('a', 2, 1), ('a', 2, 3), ('b', 4, 5))
    ]
    first, second = information_of_images(rows, 2, windows)
    assert first is not None and second is not None
    torch.testing.assert_close(first.bits, torch.full((6, 9), 7.0))
    assert second.total == pytest.approx(6 * 9 * 7)


def test_other_passes_are_refused(windows: Windows) -> None:
    one = torch.ones(1, 1, 4, 4)
    passes = [(AttentionMaps(one, one, one[None], None),)] * 5
    with pytest.raises(InferenceError, match="goes 5 times through 'n'"):
        levels_of(AttentionSource(), {'n': passes}, 'mean', windows)


def test_a_segmentor_of_the_full_sizes_mode_can_be_looked_at(tmp_path: Path) -> None:
    """By slide inference, of an image whose halves are alike, the windows are too."""
    pytest.importorskip('mmseg')
    config, checkpoint = write_model('mmseg', tmp_path)
    (path,) = write_images(tmp_path, {'a.png': (64, 64)})
    cfg = Config.fromfile(config)
    resize = cfg.test_dataloader.dataset.pipeline[1]
    size = tuple(resize.scale)
    cfg.model.test_cfg = dict(mode='slide', crop_size=size, stride=size)
    resize.scale = (2 * size[0], size[1])
    resize.keep_ratio = False
    inferencer = AttentionInferencer(cfg, checkpoint)
    (alone,) = AttentionInferencer(config, checkpoint)(path)
    (item,) = inferencer.items(path)
    image = item.load().inputs.permute(1, 2, 0).numpy()
    half = image[:, : size[0]]
    (result,) = inferencer([np.concatenate([half, half], axis=1)])
    level, single = result.levels[0], alone.levels[0]
    width = single.mean.shape[-1]
    assert level.mean.shape[-1] == 2 * width
    left, right = level.mean[..., :width], level.mean[..., width:]
    torch.testing.assert_close(left, right)
    assert left.std() > 0
    assert result.information is None or result.information.positions > 0
    assert result.attention_mean.shape == result.image.shape[:2]
