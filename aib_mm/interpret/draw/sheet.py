"""One picture of a few images: a row each, with colour bars."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aib_mm.interpret.draw.cases import result_tiles, tile_ranges
from aib_mm.interpret.draw.pictures import SCALES, overlay
from aib_mm.interpret.result import AttentionResult, Pixels

_ROW_INCHES = 2.6


def draw_sheet(
    path: Path,
    results: Sequence[AttentionResult],
    drawn: Sequence[Pixels],
    value_range: tuple[float, float] | None = None,
) -> None:
    """Draw prediction, mean attention, one sample and std; a colour is one value.

    Where nothing is random, sample and std are left out.

    Args:
        path: the picture; its folder exists.
        results: a row each; at least one.
        drawn: their predictions.
        value_range: ends of the colours of mean and sample; by default the least and
            greatest value of all.
    """
    wanted = ('mean', 'quantized' if results[0].quantized else 'sample_1', 'std')
    tiles = [{tile.name: tile for tile in result_tiles(one)} for one in results]
    names = [name for name in wanted if all(name in row for row in tiles)]
    columns = [[row[name] for row in tiles] for name in names]
    ranges = tile_ranges(chain.from_iterable(columns), value_range)
    size = (_ROW_INCHES * (1 + len(names)), _ROW_INCHES * len(results) + 0.6)
    figure = Figure(figsize=size, dpi=100, layout='constrained')
    axes = figure.subplots(len(results), 1 + len(names), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].set_title('prediction', fontsize=10)
    for cell, picture in zip(axes[:, 0], drawn, strict=True):
        cell.imshow(picture)
    for cells, column in zip(axes.T[1:], columns, strict=True):
        kind = column[0].kind
        low, high = ranges[kind.scale]
        ends = (low, high if high > low else low + 1.0)
        colors = SCALES[kind.scale].colors
        cells[0].set_title(kind.meaning, fontsize=10)
        for cell, result, tile in zip(cells, results, column, strict=True):
            over = overlay(result.image, tile.values, value_range=ends, colors=colors)
            cell.imshow(over, interpolation='nearest')
        scale = ScalarMappable(Normalize(*ends), colors)
        figure.colorbar(scale, ax=list(cells), location='bottom', shrink=0.8)
    figure.savefig(path)
