"""Position biases of pretrained BEiT weights, resized for another image size.

``python -m aib_mm.segmentation.beit_weights CHECKPOINT OUT --image-size 512``

mmseg's BEiT resizes them when it loads a checkpoint, through a function that SciPy 1.14
removed. Where the sizes agree already it has nothing to do: hence this step before.
"""

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import brentq
from torch import Tensor

from aib_mm.training.checkpoint import CheckpointError, save_atomically
from aib_mm.training.checkpoint_keys import read_state_dict

TABLE = 'relative_position_bias_table'
EXTRA_ROWS = 3  # class token to patch, patch to class token, class token to itself


def resize_position_biases(
    weights: Mapping[str, Tensor], num_tokens: int
) -> dict[str, Tensor]:
    """Weights with every table of biases for ``num_tokens`` x ``num_tokens`` patches.

    Args:
        weights: any state dict; ``….relative_position_bias_table`` are the tables,
            ``((2T - 1)² + 3, heads)`` for T x T patches.
        num_tokens: T of the result.

    Raises:
        ValueError: no table, or one of another shape.
    """
    if not any(name.endswith(TABLE) for name in weights):
        raise ValueError(
            f"it has no {TABLE}: convert the weights to mmseg's names first, by "
            'tools/model_converters/beit2mmseg.py of mmseg'
        )
    return {
        name: resize_table(value, 2 * num_tokens - 1) if name.endswith(TABLE) else value
        for name, value in weights.items()
    }


def resize_table(table: Tensor, size: int) -> Tensor:
    """One table, ``(n² + 3, heads)`` to ``(size² + 3, heads)``, both sides odd.

    BEiT's method: the old offsets get a spacing that grows geometrically from 1 in
    the centre, so that near offsets keep their biases and far ones are stretched; in
    between is a cubic spline.

    Raises:
        ValueError: a table of another shape.
    """
    old = round((len(table) - EXTRA_ROWS) ** 0.5)
    if old**2 + EXTRA_ROWS != len(table) or old % 2 == 0 or old < 5:
        raise ValueError(
            f'{TABLE} of shape {tuple(table.shape)}: expected (2T - 1)^2 + '
            f'{EXTRA_ROWS} rows for T x T patches, T >= 3'
        )
    if old == size:
        return table
    places = geometric_offsets(old, size // 2)
    wanted = np.arange(size) - size // 2
    biases = table[:-EXTRA_ROWS].double().numpy().reshape(old, old, -1)
    resized = np.stack(
        [
            RectBivariateSpline(places, places, biases[..., head])(wanted, wanted)
            for head in range(biases.shape[-1])
        ],
        axis=-1,
    )
    rows = torch.from_numpy(resized).flatten(0, 1).to(table.dtype)
    return torch.cat([rows, table[-EXTRA_ROWS:]])


def geometric_offsets(count: int, reach: int) -> np.ndarray:
    """``count`` symmetric offsets, steps 1, q, q², … from 0 out to ±``reach``."""
    steps = np.arange(count // 2)
    ratio = brentq(lambda q: (q**steps).sum() - reach, 1e-6, max(reach, 2))
    outwards = (ratio**steps).cumsum()
    return np.concatenate([-outwards[::-1], [0.0], outwards])


def main(argv: Sequence[str] | None = None) -> None:
    """Read a checkpoint, resize its tables, write the weights."""
    parser = argparse.ArgumentParser(
        prog='python -m aib_mm.segmentation.beit_weights',
        description="Resize the position biases in a checkpoint of mmseg's BEiT",
    )
    parser.add_argument('checkpoint', help='file or URL, with the keys of mmseg')
    parser.add_argument('out', help='file to write')
    parser.add_argument('--image-size', type=int, required=True, metavar='PIXELS')
    parser.add_argument('--patch-size', type=int, default=16, metavar='PIXELS')
    options = parser.parse_args(argv)
    size, patch = options.image_size, options.patch_size
    if patch < 1 or size % patch or size < 3 * patch:
        parser.error(
            f'--image-size {size} must be at least 3 patches, and whole ones, of '
            f'--patch-size {patch}'
        )
    try:
        weights = read_state_dict(options.checkpoint)
    except CheckpointError as error:
        parser.error(str(error))
    try:
        resized = resize_position_biases(weights, size // patch)
    except ValueError as error:
        parser.error(f'checkpoint {options.checkpoint}: {error}')
    try:
        save_atomically(resized, options.out)
    except OSError as error:
        parser.error(f'{options.out} cannot be written: {error}')


if __name__ == '__main__':
    main()
