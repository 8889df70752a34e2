"""Pretrained BEiT weights: from the published key layout into the shipped model."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip('mmseg')

import mmseg
from mmseg.models.backbones import BEiT

from aib_mm.segmentation.beit_weights import (
    geometric_offsets,
    main,
    resize_position_biases,
    resize_table,
)

LAYERS, DIM, HEADS = 2, 16, 2
CONVERTER = Path(mmseg.__file__).parent / '.mim/tools/model_converters/beit2mmseg.py'


def published(num_tokens: int, patch: int) -> dict[str, Tensor]:
    """Random weights under the names of BEiT's published, fine-tuned checkpoints."""
    rows = (2 * num_tokens - 1) ** 2 + 3
    weights = {
        'cls_token': (1, 1, DIM),
        'patch_embed.proj.weight': (DIM, 3, patch, patch),
        'patch_embed.proj.bias': (DIM,),
        'fc_norm.weight': (DIM,),
        'fc_norm.bias': (DIM,),
        'head.weight': (10, DIM),
        'head.bias': (10,),
    }
    for layer in range(LAYERS):
        block = {
            'gamma_1': (DIM,),
            'gamma_2': (DIM,),
            'norm1.weight': (DIM,),
            'norm1.bias': (DIM,),
            'attn.q_bias': (DIM,),
            'attn.v_bias': (DIM,),
            'attn.relative_position_bias_table': (rows, HEADS),
            'attn.qkv.weight': (3 * DIM, DIM),
            'attn.proj.weight': (DIM, DIM),
            'attn.proj.bias': (DIM,),
            'norm2.weight': (DIM,),
            'norm2.bias': (DIM,),
            'mlp.fc1.weight': (4 * DIM, DIM),
            'mlp.fc1.bias': (4 * DIM,),
            'mlp.fc2.weight': (DIM, 4 * DIM),
            'mlp.fc2.bias': (DIM,),
        }
        weights.update({f'blocks.{layer}.{name}': s for name, s in block.items()})
    found = {name: torch.randn(shape) for name, shape in weights.items()}
    tokens = num_tokens**2 + 1
    for layer in range(LAYERS):
        index = torch.randint(0, rows, (tokens, tokens))
        found[f'blocks.{layer}.attn.relative_position_index'] = index
    return found


def test_published_weights_reach_the_model(tmp_path: Path) -> None:
    """Host's converter, this package's resizing, the host's own loading."""
    weights = published(num_tokens=4, patch=8)
    source, converted, resized = (tmp_path / n for n in ('p.pth', 'c.pth', 'r.pth'))
    torch.save(dict(model=weights), source)
    command = [sys.executable, str(CONVERTER), str(source), str(converted)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    main([str(converted), str(resized), '--image-size', '64', '--patch-size', '8'])
    model = BEiT(
        img_size=(64, 64),
        patch_size=8,
        embed_dims=DIM,
        num_layers=LAYERS,
        num_heads=HEADS,
        init_cfg=dict(type='Pretrained', checkpoint=str(resized)),
    )
    model.init_weights()
    found = model.state_dict()
    names = {
        'patch_embed.proj': 'patch_embed.projection',
        'blocks.': 'layers.',
        'norm': 'ln',
        'mlp.fc1': 'ffn.layers.0.0',
        'mlp.fc2': 'ffn.layers.1',
    }
    taken = set()
    for name, value in weights.items():
        if name.startswith(('fc_norm', 'head')) or name.endswith('index'):
            continue
        ours = name
        for theirs, host in names.items():
            ours = ours.replace(theirs, host)
        if name.endswith('table'):
            value = resize_table(value, 15)
        assert torch.equal(found[ours], value), name
        taken.add(ours)
    buffers = {name for name in found if name.endswith('relative_position_index')}
    assert taken | buffers == set(found)
    model(torch.randn(1, 3, 64, 64))


def table(function, places: np.ndarray) -> Tensor:
    """Two heads of biases that are a function of the offset, and the extra rows."""
    y, x = np.meshgrid(places, places, indexing='ij')
    values = np.stack([function(y, x), -function(x, y)], axis=-1)
    extra = torch.tensor([[7.0, -7.0], [8.0, -8.0], [9.0, -9.0]])
    return torch.cat([torch.from_numpy(values).flatten(0, 1), extra.double()])


@pytest.mark.parametrize(('old', 'new'), [(27, 63), (27, 39), (27, 15), (5, 31)])
def test_resizing_keeps_linear_biases(old: int, new: int) -> None:
    """A spline reproduces them, wherever its knots are."""

    def linear(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return 3 * y - 2 * x + 1

    found = resize_table(table(linear, geometric_offsets(old, new // 2)), new)
    torch.testing.assert_close(found, table(linear, np.arange(new) - new // 2))


def test_the_nearest_offsets_keep_their_biases() -> None:
    before = torch.randn(27**2 + 3, 2)
    after = resize_table(before, 63)
    assert after.dtype == before.dtype
    near = before[:-3].view(27, 27, 2)[12:15, 12:15]
    torch.testing.assert_close(after[:-3].view(63, 63, 2)[30:33, 30:33], near)
    assert torch.equal(after[-3:], before[-3:])


def test_offsets_grow_geometrically() -> None:
    places = geometric_offsets(27, 31)
    steps = np.diff(places[13:])
    assert steps[0] == 1 and places[-1] == pytest.approx(31)
    np.testing.assert_allclose(steps[1:] / steps[:-1], steps[1])
    np.testing.assert_allclose(places, -places[::-1])


def test_equal_sizes_and_other_weights_stay() -> None:
    weights = published(num_tokens=4, patch=8)
    same = resize_position_biases(weights, 4)
    assert all(same[name] is value for name, value in weights.items())


@pytest.mark.parametrize(
    ('table', 'out', 'size', 'message'),
    [
        (
            'a.',
            'new.pth',
            '500',
            'size 500 must be at least 3 patches, and whole',
        ),
        ('a.', 'new.pth', '32', 'image-size 32 must be at least 3 patches'),
        (None, 'new.pth', '64', r'old\.pth: it has no relative_position_bias_table'),
        ('b.', 'new.pth', '64', r'old\.pth: relative_position_bias_table of shape'),
        ('a.', 'old.pth/new.pth', '64', r'new\.pth cannot be written'),
    ],
)
def test_what_cannot_be_resized_is_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    table: str | None,
    out: str,
    size: str,
    message: str,
) -> None:
    weights = {'ln.weight': torch.ones(2)}
    if table is not None:
        rows = 7**2 + 3 if table == 'a.' else 50
        weights[f'{table}relative_position_bias_table'] = torch.zeros(rows, 2)
    torch.save(weights, tmp_path / 'old.pth')
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / 'old.pth'), str(tmp_path / out), '--image-size', size])
    assert end.value.code == 2 and re.search(message, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ['old.pth']


def test_a_table_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r'shape \(50, 2\): expected \(2T - 1\)\^2'):
        resize_table(torch.zeros(50, 2), 15)
