"""mmpretrain's own inferencers and tools on the shipped classifiers."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from attention_files import write_images
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from shipped_configs import PATHS

pytest.importorskip('mmpretrain')

import mmpretrain
from mmpretrain import FeatureExtractor, ImageClassificationInferencer

from aib_mm.classification import LoadImageIfFile, LoadMaskAnnotations

#: Small ones, and the sets of arrays; the other configs are of the same data sets.
SHIPPED = [
    path
    for path in PATHS
    if path.parent.name == 'mmpretrain'
    and ('narrow' in path.stem or path.stem.startswith('vgg16_aib_qt_'))
]
SOME = [
    path
    for path in SHIPPED
    if path.stem
    in (
        'vgg16-narrow_aib_qt_digitscenes',
        'wrn16-narrow_abn_digitscenes',
        'vgg16-narrow_digitscenes',
        'vgg16_aib_qt_cifar10',
    )
]
EVERY = [
    path if path in SOME else pytest.param(path, marks=pytest.mark.slow)
    for path in SHIPPED
]


def shipped(path: Path) -> Config:
    cfg = Config.fromfile(path)
    if path.stem.endswith('_cub'):
        cfg.model.backbone.init_cfg = None  # nothing is downloaded
    return cfg


@pytest.fixture(autouse=True)
def mmpretrain_alone() -> Iterator[None]:
    """Other tests of this process may have left another host's scope behind."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def side(path: Path) -> int:
    return 224 if path.stem.endswith('_cub') else 32


@pytest.mark.parametrize('path', EVERY, ids=lambda path: path.stem)
def test_the_hosts_inferencers_take_files_and_arrays(
    path: Path, tmp_path: Path
) -> None:
    cfg, size = shipped(path), side(path)
    (image,) = write_images(tmp_path, {'a.png': (size, size)})
    bgr = np.asarray(Image.open(image))[..., ::-1].copy()
    inferencer = ImageClassificationInferencer(cfg, pretrained=False, device='cpu')
    torch.manual_seed(0)
    (from_file,) = inferencer(image)
    torch.manual_seed(0)
    (from_array,) = inferencer(bgr)
    assert from_file['pred_scores'].sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(
        from_file['pred_scores'], from_array['pred_scores'], atol=1e-6
    )
    extractor = FeatureExtractor(inferencer.model)
    for stage in ('backbone', 'neck'):
        torch.manual_seed(0)
        (feats,) = extractor(image, stage=stage)
        with torch.no_grad():
            data = next(extractor.preprocess([image]))
            inputs = extractor.model.data_preprocessor(data, False)['inputs']
            torch.manual_seed(0)
            expected = extractor.model.extract_feat(inputs, stage=stage)
        assert len(feats) == len(expected)
        for one, other in zip(feats, expected, strict=True):
            torch.testing.assert_close(one, other[0])


def load_tool(name: str) -> ModuleType:
    """A script of mmpretrain's ``tools/visualization``."""
    folder = Path(mmpretrain.__path__[0]) / '.mim/tools/visualization'
    if not (folder / f'{name}.py').is_file():
        pytest.skip(f'mmpretrain without its tools: no {folder}')
    spec = importlib.util.spec_from_file_location(name, folder / f'{name}.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('path', EVERY, ids=lambda path: path.stem)
def test_vis_cam(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('pytorch_grad_cam')
    tool, cfg, size = load_tool('vis_cam'), shipped(path), side(path)
    made = tool.METHOD_MAP['gradcam']

    def without_cuda(*args: Any, use_cuda: bool = False, **kwargs: Any) -> Any:
        return made(*args, **kwargs)  # the argument is gone since grad-cam 1.5

    monkeypatch.setitem(tool.METHOD_MAP, 'gradcam', without_cuda)
    cfg.setdefault('data_preprocessor', {})
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'random.pth')
    cfg.dump(tmp_path / 'config.py')
    (image,) = write_images(tmp_path, {'a.png': (size, size)})
    files = [image, str(tmp_path / 'config.py'), str(tmp_path / 'random.pth')]
    out = tmp_path / 'cam.png'
    argv = ['vis_cam.py', *files, '--device', 'cpu', '--save-path', str(out)]
    if path.stem.endswith('_cub'):  # it looks for a norm, which this VGG lacks
        convs = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)]
        last = [name for name in convs if name.startswith('backbone')][-1]
        argv += ['--target-layers', last]
    monkeypatch.setattr(sys, 'argv', argv)
    tool.main()
    with Image.open(out) as picture:
        assert picture.size == (size, size)


def test_a_mask_is_loaded_where_there_is_one(tmp_path: Path) -> None:
    mask = np.zeros((4, 5), np.uint8)
    mask[1:3, 2:4] = 255
    Image.fromarray(mask).save(tmp_path / 'mask.png')
    step = LoadMaskAnnotations()
    found = step(dict(seg_map_path=str(tmp_path / 'mask.png')))
    assert np.array_equal(found['gt_seg_map'], mask)
    for bare in (dict(img_path='a.png'), dict(seg_map_path=None)):
        assert step(dict(bare)) == bare
    with pytest.raises(FileNotFoundError):  # a mask that is said to be there
        step(dict(seg_map_path=str(tmp_path / 'lost.png')))


def test_an_image_is_loaded_as_rgb_unless_it_is_there(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    step = LoadImageIfFile()
    found = step(dict(img_path=str(tmp_path / 'a.png')))
    assert np.array_equal(found['img'], pixels)
    assert found['img_shape'] == found['ori_shape'] == (4, 5)
    held = dict(img=pixels[..., ::-1])
    assert step(held)['img'] is held['img']
