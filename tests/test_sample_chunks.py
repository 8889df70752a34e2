"""``sample_chunk``: samples a few at a time, with the predictions of all at once."""

import weakref
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from aib_mm.attention import AIBAttention
from aib_mm.features import all_samples, sample_chunks
from aib_mm.interpret import information_of_images, record_latents
from aib_mm.modulation import MODULATIONS

CONFIGS = Path(__file__).parents[1] / 'configs'
QT = dict(type='VQAnchorQuantizer', num_anchors=20)
SIZE = 64
NUM_A = 3
CHUNKS = (1, 2, 3, 7)


def features(*channels: int) -> tuple[Tensor, ...]:
    return tuple(torch.randn(2, c, 8, 8) for c in channels)


# --- the neck ---------------------------------------------------------------------


@MODELS.register_module(name='Doubling', force=True)
class Doubling(nn.Module):
    """A post neck."""

    def forward(self, feats: tuple[Tensor, ...]) -> list[Tensor]:
        return [2 * x for x in feats]


@pytest.mark.parametrize('size', CHUNKS)
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(quantizer=QT, modulation='concat'),
        dict(map_level=-1, post_neck=dict(type='Doubling')),
        dict(noise=dict(type='PropagatedNoise', test_samples=2)),
    ],
    ids=['plain', 'quantised', 'map_level', 'noise'],
)
def test_chunks_are_the_samples_in_parts(size: int, options: dict) -> None:
    neck = AIBAttention(4, test_samples=NUM_A, sample_chunk=size, **options).eval()
    out = neck(features(4, 4))
    draws = 2 if 'noise' in options else 1
    torch.manual_seed(1)
    chunks = list(out.draw())
    assert [c.num_samples for c in chunks] == [
        draws * min(size, NUM_A - start) for start in range(0, NUM_A, size)
    ]
    torch.manual_seed(1)
    for level, whole in enumerate(out.samples):
        assert len(whole) == NUM_A * draws * 2
        parts = torch.cat([chunk.maps[level] for chunk in chunks])
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)


def test_the_noise_on_the_features_is_the_same_under_every_map() -> None:
    noise = dict(type='AdditiveNoise', test_samples=2)
    neck = AIBAttention(
        4, modulation='scale', noise=noise, test_samples=NUM_A, sample_chunk=1
    ).eval()
    out = neck(features(4))
    noisy = [
        chunk.maps[0].unflatten(0, (2, 2)) / maps
        for chunk, maps in zip(out.draw(), out.attention[0].samples, strict=True)
    ]
    assert not torch.equal(noisy[0][0], noisy[0][1])
    for one in noisy[1:]:
        torch.testing.assert_close(one, noisy[0])


def test_training_has_all_samples_at_once() -> None:
    neck = AIBAttention(4, train_samples=NUM_A, test_samples=NUM_A, sample_chunk=1)
    assert [c.num_samples for c in neck.train()(features(4)).draw()] == [NUM_A]
    assert [c.num_samples for c in neck.eval()(features(4)).draw()] == [1] * NUM_A


def test_samples_that_are_there_come_in_one() -> None:
    out = AIBAttention(4, test_samples=NUM_A, sample_chunk=1).eval()(features(4))
    whole = out.samples
    (chunk,) = out.draw()
    assert chunk.maps is whole and chunk.num_samples == NUM_A
    single = AIBAttention(4, test_samples=1, sample_chunk=1).eval()(features(4))
    (chunk,) = single.draw()
    assert all(a is b for a, b in zip(chunk.maps, single, strict=True))


def test_plain_features_are_one_chunk() -> None:
    feats = features(4)
    assert list(sample_chunks(feats, 1)) == [all_samples(feats)] == [(feats, 1)]


def test_a_chunk_is_let_go_before_the_next_is_computed() -> None:
    neck = AIBAttention(4, test_samples=NUM_A, sample_chunk=1).eval()
    seen: list[weakref.ref] = []

    def look(samples: Any) -> int:
        assert [ref() for ref in seen] == [None] * len(seen)
        seen.append(weakref.ref(samples.maps[0]))
        return samples.num_samples

    assert list(map(look, neck(features(4)).draw())) == [1] * NUM_A


class Largest(TorchDispatchMode):
    """Number of elements of the largest tensor that anything gives."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args=(), kwargs=None) -> Any:
        out = func(*args, **(kwargs or {}))
        found = [x.numel() for x in tree_leaves(out) if isinstance(x, Tensor)]
        self.numel = max([self.numel, *found])
        return out


@pytest.mark.parametrize('modulation', MODULATIONS)
def test_one_map_at_a_time_needs_the_memory_of_one(modulation: str) -> None:
    neck = AIBAttention(
        [16], modulation=modulation, test_samples=8, sample_chunk=1
    ).eval()
    feats = features(16)
    with torch.no_grad(), Largest() as largest:
        for _ in neck(feats).draw():
            pass
    assert largest.numel == (2 if modulation == 'concat' else 1) * feats[0].numel()


@pytest.mark.parametrize('value', [0, -1, 1.5])
def test_impossible_chunks(value: Any) -> None:
    with pytest.raises(ValueError, match=rf'sample_chunk must be an .* got {value}'):
        AIBAttention(4, sample_chunk=value)


# --- the hosts --------------------------------------------------------------------


class Host:
    """A narrow model with noise that matters, and a prediction of it as a tensor."""

    def __init__(self, scope: str, config: str, predict: Callable[..., Tensor]) -> None:
        self.scope = scope
        self.config = CONFIGS / f'{config}.py'
        self.predict = predict

    def build(self, **changes: Any) -> nn.Module:
        cfg = Config.fromfile(self.config)
        cfg.model.neck.test_samples = NUM_A
        cfg.merge_from_dict({f'model.{key}': deepcopy(v) for key, v in changes.items()})
        if 'init_cfg' in cfg.model.backbone:
            cfg.model.backbone.init_cfg = None
        if self.scope == 'mmseg':
            cfg.model.data_preprocessor.size = (SIZE, SIZE)
            cfg.model.backbone.img_size = (SIZE, SIZE)
            cfg.model.test_cfg = ConfigDict(mode='whole')
        with DefaultScope.overwrite_default_scope(self.scope):
            model = MODELS.build(cfg.model)
            model.init_weights()
        for name, parameter in model.named_parameters():
            if 'std' in name and parameter.dim() == 1:
                parameter.data.fill_(5.0)
        return model.eval()

    def __call__(self, model: nn.Module) -> Tensor:
        """With the same noise each time."""
        torch.manual_seed(2)
        images = torch.randn(2, 3, SIZE, SIZE)
        with DefaultScope.overwrite_default_scope(self.scope), torch.no_grad():
            return self.predict(model, model.extract_feat(images))


def classes(model: nn.Module, x: Any) -> Tensor:
    found = model.head.predict(x)
    return torch.stack(
        [torch.cat([one.pred_score, one.kl_nats[None] / 100]) for one in found]
    )


def regions(model: nn.Module, x: Any) -> Tensor:
    from mmdet.structures.bbox import bbox2roi

    corners = SIZE * torch.rand(2, 9, 2, generator=torch.Generator().manual_seed(0))
    rois = bbox2roi([torch.cat([c / 2, c / 2 + SIZE / 3], 1) for c in corners])
    stage = (0,) if hasattr(model.roi_head, 'num_stages') else ()
    found = model.roi_head._bbox_forward(*stage, x, rois)
    scores = found['cls_score'].softmax(dim=-1)  # as logits they go beyond 1
    return torch.cat([scores, found['bbox_pred']], dim=1)


def pixels(model: nn.Module, x: Any) -> Tensor:
    metas = [dict(img_shape=(SIZE // 2, SIZE // 2))] * 2
    return model.decode_head.predict(x, metas, model.test_cfg).softmax(dim=1)


HOSTS = {
    'mmpretrain': Host(
        'mmpretrain', 'mmpretrain/vgg16-narrow_aib_digitscenes', classes
    ),
    'mmdet': Host('mmdet', 'mmdet/faster_rcnn_r18-narrow_aib_digitscenes', regions),
    'mmseg': Host('mmseg', 'mmseg/upernet_beit-narrow_aib_digitscenes', pixels),
}
HEADS = dict(mmpretrain='head', mmdet='roi_head', mmseg='decode_head')


@pytest.mark.parametrize('average', ['logit', 'prob'])
@pytest.mark.parametrize('quantizer', [None, QT], ids=['aib', 'qt'])
@pytest.mark.parametrize('scope', HOSTS)
def test_predictions_do_not_depend_on_the_chunk(
    scope: str, quantizer: dict | None, average: str
) -> None:
    pytest.importorskip(scope)
    head = HEADS[scope]
    model = HOSTS[scope].build(
        **{
            'neck.quantizer': quantizer,
            f'{head}.average': average,
            f'{head}.test_samples': 2,
        }
    )
    expected = HOSTS[scope](model)
    model.neck.test_samples = 1
    assert (HOSTS[scope](model) - expected).abs().max() > 1e-3, 'samples must matter'
    model.neck.test_samples = NUM_A
    for size in (1, 2):
        model.neck.sample_chunk = size
        found = HOSTS[scope](model)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_one_map_for_all_levels() -> None:
    pytest.importorskip('mmseg')
    host = HOSTS['mmseg']
    model = host.build(**{'neck.map_level': -1})
    expected = host(model)
    model.neck.sample_chunk = 2
    torch.testing.assert_close(host(model), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('scope', HOSTS)
def test_the_latents_information_does_not_depend_on_the_chunk(scope: str) -> None:
    pytest.importorskip(scope)
    model = HOSTS[scope].build()
    extractors = [model.roi_head.bbox_roi_extractor] if scope == 'mmdet' else []

    def totals() -> list[float]:
        with record_latents(model, extractors) as rows:
            HOSTS[scope](model)
        return [image.total for image in information_of_images(rows, 2)]

    expected = totals()
    assert expected[0] > 0
    model.neck.sample_chunk = 2
    assert totals() == pytest.approx(expected, rel=1e-5)


# --- what does not depend on the sample --------------------------------------------

ONCE = dict(
    mmpretrain=['backbone', 'neck', 'neck.branches.0'],
    mmdet=['backbone', 'neck.pre_neck', 'neck.branches.0', 'rpn_head'],
    mmseg=['backbone', 'neck'],
)


@pytest.mark.parametrize('chunk', [None, 1])
@pytest.mark.parametrize('scope', HOSTS)
def test_what_comes_before_the_samples_is_computed_once(
    scope: str, chunk: int | None
) -> None:
    pytest.importorskip(scope)
    model = HOSTS[scope].build(**{'neck.sample_chunk': chunk})
    work: dict[str, int] = {}
    for name in ONCE[scope]:
        model.get_submodule(name).register_forward_hook(_counter(work, name))
    data = dict(inputs=torch.randn(2, 3, SIZE, SIZE))
    if scope == 'mmdet':
        data['data_samples'] = _detection_samples()
    with DefaultScope.overwrite_default_scope(scope), torch.no_grad():
        model(**data, mode='predict')
    levels = {'neck.branches.0': len(model.neck.in_channels)}
    if scope == 'mmdet':  # one branch serves all levels of the FPN
        levels['neck.branches.0'] = model.neck.pre_neck.num_outs
    assert work == {name: levels.get(name, 1) for name in ONCE[scope]}


def macs(scope: str, run: Callable[[], Any]) -> int:
    """Multiply-accumulates, exactly."""
    counter = FlopCounterMode(display=False)
    with DefaultScope.overwrite_default_scope(scope), torch.no_grad(), counter:
        run()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize('chunk', [None, 1])
def test_a_further_sample_of_a_detector_costs_its_regions_alone(
    chunk: int | None,
) -> None:
    """Each region of each sample passes the head's linear layers, once."""
    pytest.importorskip('mmdet')
    model = HOSTS['mmdet'].build(**{'neck.sample_chunk': chunk})
    layers = [m for m in model.roi_head.bbox_head.modules() if isinstance(m, nn.Linear)]
    a_region = sum(layer.weight.numel() for layer in layers)
    regions: list[int] = []
    model.roi_head.bbox_roi_extractor.register_forward_pre_hook(
        lambda _, inputs: regions.append(len(inputs[1]))
    )
    data = dict(inputs=torch.randn(2, 3, SIZE, SIZE), data_samples=_detection_samples())
    rest = {}
    for count in (1, 2, 4):
        regions.clear()
        model.neck.test_samples = count
        total = macs('mmdet', lambda: model(**data, mode='predict'))
        assert len(regions) == (count if chunk else 1)
        assert sum(regions) >= count
        rest[count] = total - sum(regions) * a_region
    assert rest[1] > 0
    assert rest[1] == rest[2] == rest[4]


@pytest.mark.parametrize('chunk', [None, 1])
def test_a_further_sample_of_a_segmentor_costs_post_neck_and_head_alone(
    chunk: int | None,
) -> None:
    """And, of several, the features under the mean map, which foreign heads see."""
    pytest.importorskip('mmseg')
    model = HOSTS['mmseg'].build(**{'neck.sample_chunk': chunk})
    image = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        tokens = model.backbone(image)
        maps = model.neck.post_neck(tokens)
    head = model.decode_head
    of_neck = macs('mmseg', lambda: model.neck.post_neck(tokens))
    of_head = macs('mmseg', lambda: head.decode(head.encode(maps, 1)))
    total = {}
    for count in (1, 2, 4):
        model.neck.test_samples = count
        total[count] = macs('mmseg', lambda: model(image, mode='predict'))
    assert of_neck > 0 and total[1] > of_neck + of_head
    assert total[4] - total[2] == 2 * (of_neck + of_head)
    assert total[2] - total[1] == 2 * of_neck + of_head


def _counter(work: dict[str, int], name: str) -> Callable[..., None]:
    def count(*_: Any) -> None:
        work[name] = work.get(name, 0) + 1

    return count


def _detection_samples() -> list:
    from mmdet.structures import DetDataSample

    shape = dict(
        img_shape=(SIZE, SIZE),
        ori_shape=(SIZE, SIZE),
        pad_shape=(SIZE, SIZE),
        batch_input_shape=(SIZE, SIZE),
        scale_factor=(1.0, 1.0),
    )
    return [DetDataSample(metainfo=shape) for _ in range(2)]
