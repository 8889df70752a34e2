"""Where the attention lies: against loops, hand-made maps and limits."""

import math
from typing import Any

import numpy as np
import pytest
import reference
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS, DefaultScope
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from aib_mm.interpret import (
    AttentionLocalization,
    LatentInformation,
    attention_energy,
    attention_iou,
    boxes_mask,
    dilate,
    map_on_image,
    pointing_game,
    resize_map,
)
from aib_mm.interpret.ties import ROUNDING

MASK = torch.zeros(1, 4, 4, dtype=torch.bool)
MASK[0, 1, 1:3] = True


def test_energy_equals_the_loop() -> None:
    maps, masks = torch.rand(3, 5, 6), torch.rand(3, 5, 6) > 0.7
    expected = [reference.energy(a, m) for a, m in zip(maps, masks, strict=True)]
    assert attention_energy(maps, masks).tolist() == pytest.approx(expected, rel=1e-6)


def test_energy_of_hand_made_maps() -> None:
    on_object = MASK.float() * 3 + 1
    assert attention_energy(on_object, MASK).item() == 1
    assert attention_energy(-on_object, MASK).item() == 0
    constant = torch.full((1, 4, 4), 0.5)
    assert attention_energy(constant, MASK).item() == pytest.approx(2 / 16)


def test_pointing_hits_misses_and_tolerates() -> None:
    def peak(row: int, column: int) -> torch.Tensor:
        attention = torch.zeros(1, 4, 4)
        attention[0, row, column] = 1
        return attention

    assert pointing_game(peak(1, 2), MASK).item() == 1
    assert pointing_game(peak(2, 3), MASK).item() == 0
    assert pointing_game(peak(2, 3), MASK, tolerance=1).item() == 1
    assert pointing_game(peak(3, 3), MASK, tolerance=1).item() == 0


def test_tied_maxima_count_by_share() -> None:
    attention = torch.zeros(1, 4, 4)
    attention[0, 1, 1] = attention[0, 3, 3] = 1
    assert pointing_game(attention, MASK).item() == 0.5
    assert pointing_game(torch.ones(1, 4, 4), MASK).item() == 2 / 16


@pytest.mark.parametrize('threshold', [0.0, 0.2, 0.5, 1.0])
def test_iou_equals_the_loop(threshold: float) -> None:
    maps, masks = torch.rand(4, 5, 6).double() - 0.5, torch.rand(4, 5, 6) > 0.7
    expected = [
        reference.iou(a, m, threshold, ROUNDING)
        for a, m in zip(maps, masks, strict=True)
    ]
    assert attention_iou(maps, masks, threshold).tolist() == pytest.approx(expected)


def test_dilation_is_the_square_neighbourhood() -> None:
    assert dilate(MASK, 1).sum().item() == 12
    assert torch.equal(dilate(MASK, 0), MASK)


def test_resizing_keeps_constants_and_places() -> None:
    attention = torch.zeros(1, 1, 2, 2)
    attention[0, 0, 1, 0] = 1
    resized = resize_map(attention, (8, 8))
    assert resized.shape == (1, 8, 8)
    assert resized[0].argmax().item() // 8 >= 4
    assert resized[0].argmax().item() % 8 < 4


def bilinear(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Each new pixel from the four whose centres surround its own, one by one."""
    height, width = image.shape
    out = torch.empty(size)
    for row in range(size[0]):
        for column in range(size[1]):
            y = min(max((row + 0.5) * height / size[0] - 0.5, 0), height - 1)
            x = min(max((column + 0.5) * width / size[1] - 0.5, 0), width - 1)
            i, j = int(y), int(x)
            below, right = min(i + 1, height - 1), min(j + 1, width - 1)
            upper = (1 - x + j) * image[i, j] + (x - j) * image[i, right]
            lower = (1 - x + j) * image[below, j] + (x - j) * image[below, right]
            out[row, column] = (1 - y + i) * upper + (y - i) * lower
    return out


PADDED = dict(batch_input_shape=(16, 24), img_shape=(12, 18), ori_shape=(8, 12))


@pytest.mark.parametrize('frame', ['img_shape', 'ori_shape'])
@pytest.mark.parametrize('scale', [{}, dict(scale_factor=(1.5, 1.5))])
def test_map_on_image_equals_the_loop(frame: str, scale: dict) -> None:
    attention = torch.rand(1, 4, 6)
    placed = map_on_image(attention, PADDED | scale, frame)
    expected = bilinear(attention[0], (16, 24))[:12, :18]
    if frame == 'ori_shape':
        expected = bilinear(expected, (8, 12))
    torch.testing.assert_close(placed, expected)


def test_anchors_stay_anchors_where_the_map_is_not_smoothed() -> None:
    anchors = torch.tensor([0.0, 0.5, 1.0])
    attention = anchors[torch.randint(3, (1, 4, 6))]
    for frame in ('img_shape', 'ori_shape'):
        placed = map_on_image(attention, PADDED, frame, smooth=False)
        assert set(placed.flatten().tolist()) <= set(anchors.tolist())
        assert placed[0, 0] == attention[0, 0, 0]
    # 12 and 18 of 16 and 24 pixels: three rows and four and a half columns.
    assert placed[-1, -1] == attention[0, 2, 4]


def test_padding_by_the_pipeline_is_told_by_the_scale() -> None:
    """mmcv's Pad counts into img_shape: here 8×12, doubled, then padded to a square."""
    metainfo = dict(img_shape=(24, 24), ori_shape=(8, 12), scale_factor=(2.0, 2.0))
    attention = torch.rand(1, 6, 6)
    expected = bilinear(bilinear(attention[0], (24, 24))[:16], (8, 12))
    torch.testing.assert_close(map_on_image(attention, metainfo), expected)


def test_padding_on_the_left_and_at_the_top_is_cut_off() -> None:
    padding = dict(pad_shape=(10, 9, 3), img_padding_size=(2, 1, 3, 1))
    metainfo = dict(padding, img_shape=(6, 6, 3), ori_shape=(6, 6))
    attention = torch.rand(1, 10, 9)
    for frame in ('img_shape', 'ori_shape'):
        placed = map_on_image(attention, metainfo, frame)
        assert torch.equal(placed, attention[0, 3:9, 2:8])


def test_a_flip_is_taken_back_on_the_original_image_only() -> None:
    attention = torch.rand(1, 4, 6)
    shapes = dict(img_shape=(4, 6), ori_shape=(4, 6), flip=True)
    flips = dict(horizontal=(1,), vertical=(0,), diagonal=(0, 1))
    for direction, dims in flips.items():
        metainfo = dict(shapes, flip_direction=direction)
        placed = map_on_image(attention, metainfo)
        assert torch.equal(placed, attention[0].flip(dims))
        assert torch.equal(map_on_image(attention, metainfo, 'img_shape'), attention[0])


def test_what_cannot_be_placed_is_refused() -> None:
    attention = torch.rand(1, 4, 4)
    with pytest.raises(KeyError, match=r"no 'ori_shape': add it to meta_keys"):
        map_on_image(attention, dict(img_shape=(4, 4)))
    with pytest.raises(KeyError, match=r"no 'img_shape': add it to meta_keys"):
        map_on_image(attention, {}, 'img_shape')
    cropped = dict(img_shape=(4, 4), ori_shape=(6, 6), scale_factor=(1.0, 1.0))
    with pytest.raises(ValueError, match=r'the pipeline crops.*img_shape'):
        map_on_image(attention, cropped)
    with pytest.raises(ValueError, match=r"frame must be one of .*'ori_shape'"):
        map_on_image(attention, PADDED, 'pad_shape')


def test_boxes_mask_equals_the_loop() -> None:
    corner, extent = torch.rand(5, 2) * 8 - 1, torch.rand(5, 2) * 4
    boxes = torch.cat([corner, corner + extent], dim=1)
    expected = torch.zeros(7, 9, dtype=torch.bool)
    for row in range(7):
        for column in range(9):
            y, x = row + 0.5, column + 0.5
            for left, top, right, bottom in boxes.tolist():
                if left <= x < right and top <= y < bottom:
                    expected[row, column] = True
    assert torch.equal(boxes_mask(boxes, (7, 9)), expected)
    assert expected.any() and not expected.all()


def test_boxes_mask_of_hand_made_boxes() -> None:
    whole = boxes_mask(torch.tensor([[1, 0, 3, 2]]), (4, 4))
    assert whole.nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert not boxes_mask(torch.empty(0, 4), (4, 4)).any()


def test_a_map_of_nan_has_no_energy_share() -> None:
    assert attention_energy(torch.full((1, 4, 4), torch.nan), MASK).isnan()


def test_bad_shapes_and_types_are_named() -> None:
    with pytest.raises(ValueError, match=r'got \(1, 1, 2, 2\) and \(1, 2, 2\)'):
        attention_energy(torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2).bool())
    with pytest.raises(ValueError, match=r'mask must be bool, got torch\.float32'):
        pointing_game(torch.ones(1, 2, 2), torch.ones(1, 2, 2))


def sample(**fields) -> dict:
    return dict(attention_mean=torch.rand(1, 2, 2), **fields)


def test_metric_averages_over_images() -> None:
    metric = AttentionLocalization(tolerance=0)
    mask = MASK[0].numpy().astype(np.uint8)
    hit = dict(attention_mean=MASK.float(), gt_seg_map=mask)
    miss = dict(attention_mean=(~MASK).float(), gt_seg_map=mask)
    evaluator = Evaluator(metric)
    evaluator.process([hit, miss])
    result = evaluator.evaluate(2)
    assert result['attention/energy'] == 0.5
    assert result['attention/pointing'] == 0.5
    assert result['attention/area'] == result['attention/chance'] == 2 / 16


@pytest.mark.parametrize('kind', [np.uint8, np.uint16, bool])
def test_a_mask_that_was_flipped_is_the_object(kind: type) -> None:
    """A flip gives a view whose strides are negative, which torch refuses."""
    mask = MASK[0].numpy().astype(kind)
    for flipped in (mask[:, ::-1], mask[::-1], mask[::-1, ::-1]):
        shape = torch.from_numpy(flipped.copy().astype(np.float32))
        metric = AttentionLocalization(tolerance=0)
        metric.process(None, [dict(attention_mean=shape[None], gt_seg_map=flipped)])
        assert metric.evaluate(1)['attention/energy'] == 1


#: Its range is 8: five positions reach a half of it, two more a quarter.
STEPS = torch.tensor([[9.0, 7, 5, 5], [3, 4, 2, 1], [1, 1, 1, 1], [1, 1, 1, 5]])


def test_metric_gives_the_iou_of_hand_made_maps() -> None:
    mask = torch.zeros(4, 4, dtype=torch.uint8)
    mask[:2, :2] = 1
    found = dict(attention_mean=STEPS[None], gt_seg_map=mask)
    # Held: (0,0) (0,1) (0,2) (0,3) (3,3); of them on the object: (0,0) (0,1).
    for threshold, iou in ((0.5, 2 / 7), (0.25, 4 / 7), (1.0, 1 / 4), (0.0, 4 / 16)):
        metric = AttentionLocalization(iou_threshold=threshold)
        metric.process(None, [found])
        assert metric.evaluate(1)['attention/iou'] == iou
    metric = AttentionLocalization()
    constant = dict(found, attention_mean=torch.full((1, 4, 4), 0.3))
    metric.process(None, [found, constant])
    assert metric.evaluate(2)['attention/iou'] == (2 / 7 + 4 / 16) / 2


def evaluate(samples: list[BaseDataElement], **metric: Any) -> dict[str, float]:
    """Through mmengine's evaluator, which makes dicts of the data samples."""
    evaluator = Evaluator(dict(type='AttentionLocalization', **metric))
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def scene(boxes: list[list[float]], peak: tuple[int, int]) -> BaseDataElement:
    """4×4, padded to 4×8 and shown at twice the size; all attention at one position."""
    shapes = dict(ori_shape=(4, 4), img_shape=(8, 8), scale_factor=(2.0, 2.0))
    sample = BaseDataElement(metainfo=dict(shapes, batch_input_shape=(8, 16)))
    attention = torch.zeros(1, 8, 16)
    attention[0, 2 * peak[0] : 2 * peak[0] + 2, 2 * peak[1] : 2 * peak[1] + 2] = 1
    sample.attention_mean = attention
    sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes).reshape(-1, 4))
    return sample


def test_boxes_are_objects_where_they_are() -> None:
    boxes = [[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 3.0, 1.0]]  # rows 0, columns 0 to 2
    samples = [scene(boxes, (0, 2)), scene(boxes, (3, 3)), scene([], (0, 0))]
    result = evaluate(samples, region='boxes', tolerance=0)
    assert result['attention/energy'] == result['attention/pointing'] == 0.5
    assert result['attention/area'] == result['attention/chance'] == 3 / 16
    # One pixel of the object's three, and one beside them; none without an object.
    assert result['attention/iou'] == (1 / 3 + 0) / 2
    assert result['attention/empty'] == 1


def test_boxes_of_annotations_loaded_before_resize() -> None:
    sample = scene([[4.0, 0.0, 6.0, 2.0]], (0, 2))
    region = dict(type='boxes', frame='img_shape')
    result = evaluate([sample], region=region, tolerance=0)
    assert result['attention/energy'] == 1
    assert result['attention/area'] == 4 / 64


def labelled(labels: torch.Tensor) -> BaseDataElement:
    sample = scene([], (1, 1))
    sample.gt_sem_seg = PixelData(data=labels[None])
    return sample


def test_labels_are_objects_but_for_background_and_ignored() -> None:
    labels = torch.full((4, 4), 255)
    labels[1] = 0
    labels[1, 1] = 3
    result = evaluate([labelled(labels)], region='classes', tolerance=0)
    assert result['attention/area'] == 4 / 16
    region = dict(type='classes', background=[0])
    result = evaluate([labelled(labels)], region=region, tolerance=0)
    assert result['attention/area'] == 1 / 16
    assert result['attention/energy'] == result['attention/iou'] == 1
    region = dict(type='classes', background=[0, 255], ignore_index=3)
    assert evaluate([labelled(labels)], region=region)['attention/empty'] == 1


def test_without_any_object_there_is_no_mean() -> None:
    result = evaluate([scene([], (0, 0))] * 2, region='boxes')
    assert result.pop('attention/empty') == 2
    assert len(result) == 5 and all(math.isnan(value) for value in result.values())


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg', 'aib_mm'])
def test_metrics_resolve_from_every_host(scope: str) -> None:
    if scope != 'aib_mm':
        pytest.importorskip(scope)
    with DefaultScope.overwrite_default_scope(scope):
        for name in ('AttentionLocalization', 'LatentInformation'):
            assert type(METRICS.build(dict(type=name))).__name__ == name


def test_information_in_nats_and_bits() -> None:
    metric = LatentInformation()
    metric.process(None, [sample(kl_nats=torch.tensor(1.0)), sample(kl_nats=3.0)])
    result = metric.evaluate(2)
    assert result['latent/kl_nats'] == 2
    assert result['latent/kl_bits'] == pytest.approx(2 / np.log(2))


def test_information_can_be_optional() -> None:
    metric = LatentInformation(optional=True)
    metric.process(None, [sample(), sample()])
    assert metric.evaluate(2) == {}
    metric.process(None, [sample(kl_nats=3.0), sample(kl_nats=5.0)])
    assert metric.evaluate(2)['latent/kl_nats'] == 4


def test_missing_fields_name_the_remedy() -> None:
    with pytest.raises(KeyError, match=r"'gt_seg_map'.*PackInputs\(algorithm_keys"):
        AttentionLocalization().process(None, [sample()])
    with pytest.raises(KeyError, match=r"'attention_mean'.*AttentionFieldsHook"):
        AttentionLocalization().process(None, [dict(gt_seg_map=MASK)])
    for region in ('boxes', 'classes'):
        with pytest.raises(KeyError, match=r"'gt_.*LoadAnnotations"):
            AttentionLocalization(region).process(None, [sample()])
    with pytest.raises(KeyError, match='density'):
        LatentInformation().process(None, [sample()])


def test_bad_regions_are_named() -> None:
    with pytest.raises(ValueError, match=r"got 'box'; did you mean 'boxes'\?"):
        AttentionLocalization('box')
    with pytest.raises(ValueError, match=r"frame must be one of .* got 'input'"):
        AttentionLocalization(dict(type='boxes', frame='input'))
    with pytest.raises(ValueError, match='tolerance must be an integer >= 0, got -1'):
        AttentionLocalization(tolerance=-1)
    with pytest.raises(ValueError, match=r'iou_threshold must be in \[0, 1\], got 50'):
        AttentionLocalization(iou_threshold=50)
    with pytest.raises(ValueError, match=r'gt_sem_seg is \(8, 8\).*after Resize'):
        evaluate([labelled(torch.zeros(8, 8))], region='classes')
