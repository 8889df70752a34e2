"""What is shown is what the loader read, and one image's failure stays its own."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from attention_files import write_images, write_model, write_weights
from mmengine.config import Config
from numpy.typing import NDArray
from PIL import Image

from aib_mm.apis import AttentionInferencer
from aib_mm.cli.visualize_attention import main
from aib_mm.errors import DataError
from aib_mm.interpret.draw.writer import ResultWriter
from aib_mm.interpret.record.inputs import Failure, visible
from aib_mm.utils.files import file_name

pytest.importorskip('mmpretrain')

LOADER = dict(type='LoadImageFromFile')
PACK = dict(type='PackInputs')
IGNORED = 'color_ignore_orientation'
RNG = np.random.default_rng(0)


def of_channels(count: int, folder: Path, pipeline: list[dict]) -> tuple[str, str]:
    """Config and weights of a classifier of images with so many channels."""
    config, _ = write_model('mmpretrain', folder, samples=2)
    cfg = Config.fromfile(config)
    cfg.model.backbone.in_channels = count
    cfg.model.data_preprocessor.update(mean=[120.0] * count, std=[60.0] * count)
    cfg.test_dataloader.dataset.pipeline = pipeline
    cfg.dump(folder / f'channels{count}.py')
    return str(folder / f'channels{count}.py'), write_weights(
        folder / f'channels{count}.py'
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('models')


def save_turned(path: Path, size: tuple[int, int], orientation: int) -> None:
    """Noise with an EXIF orientation: 3 is half a turn, 6 a quarter."""
    exif = Image.Exif()
    exif[274] = orientation
    pixels = RNG.integers(0, 256, (size[0] // 4, size[1] // 4, 3), np.uint8)
    picture = Image.fromarray(pixels.repeat(4, 0).repeat(4, 1))
    picture.save(path, exif=exif.tobytes())


@pytest.mark.parametrize('kind', ['color', IGNORED])
@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_rotation_by_exif_is_that_of_the_loader(
    kind: str, orientation: int, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / 'a.jpg'
    save_turned(path, (32, 48), orientation)
    files = of_channels(3, folder, [dict(LOADER, color_type=kind), PACK])
    flag = cv2.IMREAD_COLOR
    flag |= cv2.IMREAD_IGNORE_ORIENTATION if kind == IGNORED else 0
    expected = cv2.imread(str(path), flag)[..., ::-1]
    (result,) = AttentionInferencer(*files)(path)
    assert np.array_equal(result.image, expected)
    assert result.attention_mean.shape == expected.shape[:2]
    assert result.prediction.ori_shape == expected.shape[:2]


def test_a_detector_that_ignores_rotation_goes_on(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    config, checkpoint = write_model('mmdet', tmp_path)
    cfg = Config.fromfile(config)
    cfg.test_dataloader.dataset.pipeline[0]['color_type'] = IGNORED
    save_turned(tmp_path / 'a.jpg', (64, 96), 6)
    (result,) = AttentionInferencer(cfg, checkpoint)(tmp_path / 'a.jpg')
    assert result.image.shape == (64, 96, 3)


@pytest.mark.parametrize('kind', ['color', 'grayscale', 'unchanged'])
def test_16_bit_grey_is_not_white(kind: str, folder: Path, tmp_path: Path) -> None:
    values = RNG.integers(500, 4000, (32, 32), np.uint16)
    assert cv2.imwrite(str(tmp_path / 'a.png'), values)
    count = 3 if kind == 'color' else 1
    files = of_channels(count, folder, [dict(LOADER, color_type=kind), PACK])
    (result,) = AttentionInferencer(*files)(tmp_path / 'a.png')
    shown = result.image
    assert (shown == shown[..., :1]).all()
    if kind == 'unchanged':  # of more than 8 bits the greatest is white
        expected = np.round(values * (255 / values.max()))
    else:
        flag = cv2.IMREAD_COLOR if kind == 'color' else cv2.IMREAD_GRAYSCALE
        expected = cv2.imread(str(tmp_path / 'a.png'), flag)
        expected = expected[..., 0] if kind == 'color' else expected
    assert np.array_equal(shown[..., 0], expected)


def test_what_can_be_shown_of_any_image() -> None:
    bgr = RNG.integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(visible(bgr, True), bgr[..., ::-1])
    assert np.array_equal(visible(bgr, False), bgr)
    bands = RNG.integers(0, 256, (4, 5, 6), np.uint8)
    assert np.array_equal(visible(bands, True), bands[..., [2, 1, 0]])
    assert np.array_equal(visible(bands[..., :2], True), bands[..., [0, 0, 0]])
    assert np.array_equal(visible(bgr[..., 0], True), bgr[..., [0, 0, 0]])
    # Floats of 8 bits, a little beyond by interpolation; shares; signed values.
    floats = np.array([[-3.0, 0.4, 127.6, 258.0]])
    assert visible(floats, False)[0, :, 0].tolist() == [0, 0, 128, 255]
    assert visible(np.array([[0.0, 0.5, 1.0]]), False)[0, :, 0].tolist() == [
        0,
        128,
        255,
    ]
    signed = np.array([[-1000, 0, 1000]], np.int16)
    assert visible(signed, False)[0, :, 0].tolist() == [0, 128, 255]
    assert visible(np.zeros((1, 1)), False).tolist() == [[[0, 0, 0]]]
    white = np.full((1, 1), 65535, np.uint16)
    assert visible(white, False).tolist() == [[[255] * 3]]


@pytest.mark.parametrize('loads', [True, False], ids=['loader', 'arrays'])
@pytest.mark.parametrize('count', [1, 4])
def test_a_model_of_other_channels(
    count: int, loads: bool, folder: Path, tmp_path: Path
) -> None:
    kind = 'grayscale' if count == 1 else 'unchanged'
    loader = [dict(LOADER, color_type=kind)] if loads else []
    inferencer = AttentionInferencer(*of_channels(count, folder, [*loader, PACK]))
    array = RNG.integers(0, 256, (32, 32, count), np.uint8)
    Image.fromarray(array[..., 0] if count == 1 else array).save(tmp_path / 'a.png')
    seen: list[torch.Tensor] = []
    inferencer.model.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    # An array has the order of OpenCV, the file that of pillow.
    given = array if count == 1 else array[..., [2, 1, 0, 3]].copy()
    images: list[Any] = [tmp_path / 'a.png', given]
    images += [array[..., 0]] if count == 1 else []
    first, *others = inferencer(images, out_dir=tmp_path / 'out')
    assert seen[0].shape == (1, count, 32, 32)
    for i, other in enumerate(others, 1):
        assert torch.equal(seen[0], seen[i])
        assert np.array_equal(first.image, other.image)
    shown = array[..., [0, 0, 0]] if count == 1 else array[..., :3]
    assert np.array_equal(first.image, shown)
    message = rf'must be \(H, W, {count}\) uint8, got \(32, 32, 3\)'
    with pytest.raises(DataError, match=message):
        inferencer(array[..., [0, 0, 0]])


def test_an_image_that_the_model_cannot_take_fails_alone(
    folder: Path, tmp_path: Path
) -> None:
    files = of_channels(3, folder, [dict(LOADER, color_type='unchanged'), PACK])
    paths = write_images(tmp_path, {'a.png': (32, 32), 'c.png': (32, 32)})
    Image.new('RGBA', (32, 32)).save(tmp_path / 'b.png')
    inferencer = AttentionInferencer(*files)
    results = list(inferencer.stream(inferencer.items(tmp_path), batch_size=3))
    assert [isinstance(result, Failure) for result in results] == [False, True, False]
    assert results[1].name == 'b.png' and 'size of tensor' in results[1].reason
    with pytest.raises(DataError, match=r'b\.png cannot be used: .*size of tensor'):
        inferencer([*paths, tmp_path / 'b.png'])


def test_of_a_failing_batch_each_image_is_tried(folder: Path, tmp_path: Path) -> None:
    files = of_channels(3, folder, [LOADER, PACK])
    inferencer = AttentionInferencer(*files)
    write_images(tmp_path, {f'{i}.png': (32, 32) for i in range(3)})
    Image.new('RGB', (32, 32), 'white').save(tmp_path / '1.png')

    def refuse(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if (args[0].flatten(1).std(dim=1) == 0).any():
            raise RuntimeError('a white image')

    inferencer.model.backbone.register_forward_pre_hook(refuse)
    results = list(inferencer.stream(inferencer.items(tmp_path), batch_size=3))
    assert [result.name for result in results] == ['0.png', '1.png', '2.png']
    assert results[1].reason == 'a white image'


def test_a_name_that_is_too_long_is_cut(folder: Path, tmp_path: Path) -> None:
    files = of_channels(3, folder, [LOADER, PACK])
    below = '/'.join(letter * 120 for letter in 'xyz')
    names = [f'{below}/{i}.png' for i in range(2)] + ['short.png']
    write_images(tmp_path / 'photos', {name: (32, 32) for name in names})
    out = tmp_path / 'out'
    assert main([*files, str(tmp_path / 'photos'), '--out', str(out)]) == 0
    rows = json.loads((out / 'results.json').read_text())['images']
    assert {row['name'] for row in rows} == set(names)
    assert len({row['folder'] for row in rows}) == 3
    for row in rows:
        assert (out / row['folder'] / 'arrays.npz').is_file()


def test_a_name_in_another_encoding_is_no_obstacle(
    folder: Path, tmp_path: Path
) -> None:
    files = of_channels(3, folder, [LOADER, PACK])
    (path,) = write_images(tmp_path / 'photos', {'a.png': (32, 32)})
    latin = os.fsdecode('Möwe.png'.encode('latin-1'))
    Path(path).rename(tmp_path / 'photos' / latin)
    (tmp_path / 'photos' / os.fsdecode(b'\xff.png')).write_text('no image')
    out = tmp_path / 'out'
    assert main([*files, str(tmp_path / 'photos'), '--out', str(out)]) == 1
    content = json.loads((out / 'results.json').read_text())
    assert [row['name'] for row in content['images']] == [latin]
    assert (out / latin / 'arrays.npz').is_file()
    page = (out / 'index.html').read_text()
    assert 'M\\udcf6we.png' in page and '1 could not be used' in page


def test_cut_names_stay_apart_and_short_ones_as_they_are() -> None:
    assert file_name('a.png') == 'a.png'
    first, second = (file_name('ä' * 150 + end) for end in 'ab')
    assert first != second
    assert len(first.encode()) <= 200 and first.startswith('äää')


def test_an_image_that_cannot_be_drawn_fails_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A palette that is too short, a full folder: the page and the others are there."""
    files = of_channels(3, folder, [LOADER, PACK])
    inferencer = AttentionInferencer(*files)
    paths = write_images(tmp_path, {f'{i}.png': (32, 32) for i in range(4)})

    def draw(result: Any) -> NDArray[np.uint8]:
        if result.name == '1.png':
            raise IndexError('list index out of range')
        return inferencer.draw(result)

    out = tmp_path / 'out'
    out.mkdir()
    (out / '2.png').write_text('a file where a folder belongs')
    with ResultWriter(out, draw, inferencer.classes) as writer:
        for result in inferencer(paths):
            writer.add(result)
    assert [failure.name for failure in writer.failures] == ['1.png', '2.png']
    assert 'cannot be drawn or written: IndexError' in writer.failures[0].reason
    content = json.loads((out / 'results.json').read_text())
    assert [row['name'] for row in content['images']] == ['0.png', '3.png']
    assert [set(one) for one in content['failures']] == [{'name', 'reason'}] * 2
    assert '2 could not be used' in (out / 'index.html').read_text()


def test_the_commands_say_which_image_could_not_be_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = of_channels(3, folder, [LOADER, PACK])
    paths = write_images(tmp_path, {'0.png': (32, 32), '1.png': (32, 32)})
    out = tmp_path / 'out'
    out.mkdir()
    (out / '1.png').write_text('a file where a folder belongs')
    assert main([*files, *paths, '--out', str(out), '--sheet', '2']) == 1
    assert '1.png was left out: cannot be drawn or written' in capsys.readouterr().err
    assert (out / 'sheet.png').is_file() and (out / 'index.html').is_file()
    with pytest.warns(UserWarning, match=r'1\.png: cannot be drawn or written'):
        assert len(AttentionInferencer(*files)(paths, out_dir=out)) == 2


def test_a_segmentor_with_a_short_palette_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip('mmseg')
    config, checkpoint = write_model('mmseg', tmp_path)
    cfg = Config.fromfile(config)
    cfg.test_dataloader.dataset.metainfo.palette = [[1, 2, 3]]
    inferencer = AttentionInferencer(cfg, checkpoint)
    palette = inferencer.visualizer.dataset_meta['palette']
    assert palette[0] == [1, 2, 3] and len(palette) == len(inferencer.classes) == 11
    images = write_images(tmp_path, {'a.png': (64, 64)})
    (result,) = inferencer(images, out_dir=tmp_path / 'out')
    assert inferencer.draw(result).shape == (64, 64, 3)


def test_kinds_of_files_that_pillow_does_not_know(folder: Path, tmp_path: Path) -> None:
    """The pipeline's loader decides; where it fails too, pillow's error says more."""
    files = of_channels(3, folder, [LOADER, PACK])
    path = tmp_path / 'a.hdr'
    assert cv2.imwrite(str(path), RNG.random((32, 32, 3)).astype(np.float32))
    with pytest.raises(OSError, match='cannot identify'):
        Image.open(path)
    inferencer = AttentionInferencer(*files)
    (result,) = inferencer(path)
    assert np.array_equal(result.image, cv2.imread(str(path))[..., ::-1])
    (tmp_path / 'none.png').write_text('no image')
    with pytest.raises(DataError, match='cannot identify image file'):
        inferencer(tmp_path / 'none.png')


def test_an_image_of_several_files_has_a_number_for_a_name() -> None:
    from aib_mm.interpret.record.inputs import dataset_items

    class Bands:
        """A set whose images are put together from files."""

        pipeline = SimpleNamespace(transforms=[])

        def __len__(self) -> int:
            return 2

        def get_data_info(self, index: int) -> dict:
            return dict(img_path=[f'{index}_red.tif', f'{index}_infrared.tif'])

    assert [item.name for item in dataset_items(Bands(), None)] == ['00000', '00001']
