"""Overlays in every backend, written by real Runners and read back."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from attention_files import write_model
from cifar_files import TESTS, write_cifar10
from mmengine.config import Config
from mmengine.runner import Runner
from test_attention_fields import detector  # noqa: F401

from aib_mm.interpret import AttentionVisualizationHook, overlay
from aib_mm.interpret.record.inputs import exchanges_channels, network_input

BACKENDS = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]


def local_pictures(work_dir: Path) -> dict[str, np.ndarray]:
    """What LocalVisBackend wrote, RGB, by file name."""
    found = work_dir.rglob('vis_data/vis_image/attention_*.png')
    return {path.stem: cv2.imread(str(path))[..., ::-1] for path in sorted(found)}


def event_pictures(work_dir: Path) -> dict[str, np.ndarray]:
    """The images of the TensorBoard event files, RGB, as ``name_step``."""
    accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator'
    )
    pictures = {}
    for file in work_dir.rglob('events.out.tfevents*'):
        events = accumulator.EventAccumulator(str(file), dict(images=0))
        events.Reload()
        for tag in events.Tags()['images']:
            for event in events.Images(tag):
                raw = np.frombuffer(event.encoded_image_string, np.uint8)
                image = cv2.imdecode(raw, cv2.IMREAD_COLOR)[..., ::-1]
                pictures[f'{tag}_{event.step}'] = image
    return pictures


@pytest.fixture
def classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    pytest.importorskip('mmpretrain')
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.chdir(tmp_path)
    write_cifar10('data')
    cfg = Config.fromfile(write_model('mmpretrain', tmp_path, samples=2)[0])
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = tmp_path.name
    cfg.visualizer.vis_backends = BACKENDS
    cfg.train_cfg.max_epochs = 2
    return cfg


def test_backends_get_a_picture_per_image_and_validation(classifier, tmp_path) -> None:
    hook = dict(type='AttentionVisualizationHook', images=3, interval=5)
    classifier.custom_hooks = [hook]
    Runner.from_cfg(classifier).train()
    # 20 test images, of which 0, 5 and 10; ten iterations an epoch.
    expected = {f'attention_{i:05d}_{s}' for i in (0, 5, 10) for s in (10, 20)}
    local, events = local_pictures(tmp_path), event_pictures(tmp_path)
    assert set(local) == set(events) == expected
    for name, picture in local.items():
        assert picture.shape == (128, 3 * 128 + 2 * 4, 3)
        assert np.array_equal(picture, events[name])
    # The same image after each epoch; what the attention makes of it differs.
    before, after = (local[f'attention_00005_{step}'] for step in (10, 20))
    assert np.array_equal(before[:, :128], after[:, :128])
    assert not np.array_equal(before[:, 132:260], after[:, 132:260])


def test_the_picture_is_image_mean_and_std(classifier) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (128, 128, 3), np.uint8)
    mean_map, std_map = rng.random((2, 4, 4))
    hook = AttentionVisualizationHook(mean_range=(0.0, 2.0), std_range=(0.0, 4.0))
    first, mean, std = np.split(
        hook.strip(image, mean_map, std_map), [132, 264], axis=1
    )
    assert np.array_equal(first[:, :128], image)
    for part, values, high, colors in (
        (mean[:, :128], mean_map, 2.0, 'viridis'),
        (std, std_map, 4.0, 'magma'),
    ):
        expected = overlay(image, values, value_range=(0.0, high), colors=colors)
        assert np.abs(part.astype(int) - expected).max() <= 1


def test_a_detector_in_its_test(detector, tmp_path) -> None:  # noqa: F811
    # The detector's evaluator needs the fields, which the pictures do not.
    detector.custom_hooks += [dict(type='AttentionVisualizationHook', images=2)]
    detector.visualizer = dict(type='DetLocalVisualizer', vis_backends=BACKENDS[:1])
    detector.work_dir = str(tmp_path / 'out')
    detector.experiment_name = tmp_path.name
    Runner.from_cfg(detector).test()
    pictures = local_pictures(tmp_path)
    assert list(pictures) == ['attention_00000_0_0', 'attention_00001_1_0']
    # 40×24 at 64 pixels is 64×38, padded in the batch and four times as large here.
    assert pictures['attention_00000_0_0'].shape[0] % 64 == 0
    assert pictures['attention_00000_0_0'].std() > 10


@pytest.mark.parametrize('is_bgr', [True, False])
def test_colours_are_right(is_bgr: bool) -> None:
    packed = torch.arange(3)[:, None, None].expand(3, 4, 4)
    image = network_input(packed, dict(img_shape=(2, 4)), is_bgr)
    assert image.shape == (2, 4, 3)
    assert image[0, 0].tolist() == ([2, 1, 0] if is_bgr else [0, 1, 2])


@pytest.mark.parametrize(
    ('preprocessor', 'exchanges'),
    [({}, False), (dict(to_rgb=True), True), (dict(_channel_conversion=True), True)],
)
def test_who_exchanges_channels(preprocessor: dict, exchanges: bool) -> None:
    assert exchanges_channels(type('Preprocessor', (), preprocessor)) == exchanges


def test_a_grey_image_is_shown_grey() -> None:
    image = network_input(torch.full((1, 2, 2), 7), {}, False)
    assert image.tolist() == [[[7] * 3] * 2] * 2


def test_of_many_bands_the_first_three_are_shown() -> None:
    packed = torch.arange(4)[:, None, None].expand(4, 2, 2)
    image = network_input(packed.to(torch.uint8), dict(img_shape=(2, 2)), True)
    assert image[0, 0].tolist() == [2, 1, 0]


def test_four_bands_are_drawn(classifier, tmp_path) -> None:
    classifier.model.backbone.in_channels = 4
    classifier.model.data_preprocessor.update(mean=[120.0] * 4, std=[60.0] * 4)
    add = dict(type='map_files.AddBand')
    for split in ('train', 'val', 'test'):
        pipeline = classifier[f'{split}_dataloader'].dataset.pipeline
        classifier[f'{split}_dataloader'].dataset.pipeline = [add, *pipeline]
    classifier.custom_imports.imports.append('map_files')
    classifier.custom_hooks = [dict(type='AttentionVisualizationHook', images=1)]
    Runner.from_cfg(classifier).train()
    assert set(local_pictures(tmp_path)) == {
        f'attention_00000_{step}' for step in (10, 20)
    }


class NoPicture(AttentionVisualizationHook):
    """Fails where the test says."""

    where = ''

    def fail(self, where: str) -> None:
        if where == self.where:
            raise IndexError(f'in {where}')

    def use(self, *args) -> None:
        self.fail('use')
        super().use(*args)

    def strip(self, *args) -> np.ndarray:
        self.fail('strip')
        return super().strip(*args)


@pytest.mark.parametrize(
    'where',
    [
        'use',
        *(
            pytest.param(where, marks=pytest.mark.slow)
            for where in ('strip', 'backend', 'level', 'attention')
        ),
    ],
)
def test_a_picture_never_stops_a_training(
    where: str, classifier, tmp_path, monkeypatch
) -> None:
    hook = NoPicture(images=2, level=5 if where == 'level' else 'mean')
    hook.where = where
    classifier.train_dataloader.batch_size = 100  # one iteration an epoch
    if where == 'attention':
        classifier.model.neck = dict(type='GlobalAveragePooling')
        linear = dict(type='LinearClsHead', num_classes=10, in_channels=32)
        classifier.model.head = linear
    runner = Runner.from_cfg(classifier)
    runner.register_hook(hook)
    if where == 'backend':
        monkeypatch.setattr(runner.visualizer, 'add_image', lambda *_: hook.fail(where))
    runner.train()
    assert runner.epoch == 2 and not local_pictures(tmp_path)
    (log,) = tmp_path.glob('work/*/*.log')
    assert log.read_text().count('NoPicture leaves pictures out: ') == 1


def test_one_image_without_a_picture_leaves_the_others(classifier, tmp_path) -> None:
    class Second(NoPicture):
        count = 0

        def strip(self, *args) -> np.ndarray:
            self.count += 1
            self.where = 'strip' if self.count == 2 else ''
            return super().strip(*args)

    classifier.train_cfg.max_epochs = 1
    runner = Runner.from_cfg(classifier)
    runner.register_hook(Second(images=3))
    runner.train()
    assert set(local_pictures(tmp_path)) == {f'attention_{i:05d}_10' for i in (0, 2)}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(images=0), 'images must be an integer >= 1, got 0'),
        (dict(interval=0), 'interval must be an integer >= 1, got 0'),
        (dict(level='max'), "got 'max'"),
    ],
)
def test_mistakes_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionVisualizationHook(**options)
