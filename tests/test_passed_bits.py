"""Bits that a map lets through: as a field, in results, files and measures."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from torch.distributions import Normal, kl_divergence

from aib_mm.attention import AIBAttention
from aib_mm.features import AttentionMaps
from aib_mm.interpret import AttentionFieldsHook, AttentionLocalization, combine_bits


def maps(nats: torch.Tensor | None, size: tuple[int, int] = (1, 1)) -> AttentionMaps:
    mean = torch.zeros(1, 1, *(size if nats is None else nats.shape[-2:]))
    return AttentionMaps(mean, mean, mean[None], nats=nats)


def test_levels_are_summed_and_their_sum_stays() -> None:
    fine, coarse = torch.rand(1, 1, 4, 6), torch.rand(1, 1, 2, 3)
    bits = combine_bits([maps(coarse), maps(fine)])
    assert bits.shape == (1, 1, 4, 6)
    total = (fine.sum() + coarse.sum()) / math.log(2)
    torch.testing.assert_close(bits.sum(), total)
    for y, x in np.ndindex(4, 6):
        share = fine[0, 0, y, x] + coarse[0, 0, y // 2, x // 2] / 4
        torch.testing.assert_close(bits[0, 0, y, x], share / math.log(2))
    alone = combine_bits([maps(coarse), maps(fine)], 0)
    torch.testing.assert_close(alone, coarse / math.log(2))


def test_a_level_that_reports_nothing_has_no_bits() -> None:
    assert combine_bits([maps(None)]) is None
    assert combine_bits([maps(torch.rand(1, 1, 2, 2)), maps(None, (2, 2))]) is None
    with pytest.raises(ValueError, match=r'less than 1, .* got 3'):
        combine_bits([maps(None)], 3)


class Predictor(torch.nn.Module):
    """The least model that predicts behind a neck."""

    def __init__(self, **neck) -> None:
        super().__init__()
        self.neck = AIBAttention(4, **neck)

    def forward(self, inputs, mode='predict') -> list[BaseDataElement]:
        self.feats = self.neck((inputs,))
        return [BaseDataElement() for _ in inputs]


def predicted(**neck) -> tuple[Predictor, list[BaseDataElement]]:
    """A model, and its predictions of two images, with the hook's fields."""
    model = Predictor(**neck).eval()
    AttentionFieldsHook().before_val(SimpleNamespace(model=model))
    with torch.no_grad():
        return model, model(torch.randn(2, 4, 3, 5))


def test_the_field_is_the_divergence_summed_over_channels() -> None:
    torch.manual_seed(0)
    neck = AIBAttention(4, modulation='replace', test_samples=2).eval()
    x = torch.randn(2, 4, 3, 5)
    with torch.no_grad():
        attention = neck((x,)).attention[0]
    expected = torch.zeros(2, 1, 3, 5, dtype=torch.float64)
    for a in attention.samples.double():
        a = a.clamp(0, 0.999)
        passed = Normal(a * x.double(), (1 - a).expand_as(x))
        kl = kl_divergence(passed, Normal(0.0, 1.0))  # running mean 0, std 1
        expected += kl.sum(dim=1, keepdim=True) / 2
    bits = combine_bits([attention])
    torch.testing.assert_close(bits.double(), expected / math.log(2), rtol=1e-5, atol=0)


def test_the_hook_writes_the_field_where_the_neck_reports() -> None:
    model, samples = predicted(modulation='replace')
    wanted = combine_bits(model.feats.attention)
    for sample, bits in zip(samples, wanted, strict=True):
        assert sample.attention_bits.shape == (1, 3, 5)
        assert torch.equal(sample.attention_bits, bits)
    _, samples = predicted()
    assert 'attention_mean' in samples[0] and 'attention_bits' not in samples[0]


def test_the_bits_are_measured_as_the_map_is() -> None:
    bits = torch.zeros(1, 4, 4)
    bits[0, 0, 0], bits[0, 3, 3] = 6.0, 2.0
    mask = torch.zeros(4, 4, dtype=torch.uint8)
    mask[0, 0] = 1
    sample = dict(attention_mean=1 - bits, attention_bits=bits, gt_seg_map=mask)
    measure = AttentionLocalization(field='attention_bits')
    measure.process({}, [sample])
    assert measure.compute_metrics(measure.results)['energy'] == pytest.approx(0.75)
    with pytest.raises(ValueError, match=r'field must be one of .*attention_bits'):
        AttentionLocalization(field='attention_bit')
    with pytest.raises(KeyError, match=r"attention_bits.*modulation='replace'"):
        measure.process({}, [dict(attention_mean=bits, gt_seg_map=mask)])


def test_pictures_arrays_and_numbers_of_a_priced_model(tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    from aib_mm.apis import AttentionInferencer

    inferencer = AttentionInferencer('vgg16-narrow_aib_priced_digitscenes')
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (result,) = inferencer([image], out_dir=tmp_path)
    raw = result.levels[0].nats[0, 0].double() / math.log(2)
    assert result.passed.total_bits == pytest.approx(raw.sum().item(), rel=1e-6)
    assert result.passed.map.shape == (32, 32)
    (row,) = json.loads((tmp_path / 'results.json').read_text())['images']
    assert row['passed_bits'] == pytest.approx(result.passed.total_bits)
    folder = tmp_path / row['folder']
    assert (folder / 'passed.png').exists() and (folder / 'grey_passed.png').exists()
    arrays = np.load(folder / 'arrays.npz')
    np.testing.assert_allclose(arrays['passed_raw'], raw.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(arrays['passed_on_image'], result.passed.map)
    page = (tmp_path / 'index.html').read_text(encoding='utf-8')
    assert 'bits passed' in page and 'Bits that the map lets through' in page
