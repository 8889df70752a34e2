"""One picture of a few images: a row each, with colour bars."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aib_mm.interpret.draw.overlay import overlay
from aib_mm.interpret.draw.report import MEAN_COLORS, STD_COLORS
from aib_mm.interpret.result import AttentionResult, Pixels

_ROW_INCHES = 2.6


def draw_sheet(
    path: Path,
    results: Sequence[AttentionResult],
    drawn: Sequence[Pixels],
    value_range: tuple[float, float] | None = None,
) -> None:
    """Draw prediction, mean attention, one sample and std; a colour is one value.

    Args:
        path: the picture; its folder exists.
        results: a row each; at least one.
        drawn: their predictions.
        value_range: of mean and sample; by default the least and greatest of all.
    """
    samples = [result.samples[0] for result in results]
    shown = [result.attention_mean for result in results] + samples
    low, high = value_range or (
        float(min(values.min() for values in shown)),
        float(max(values.max() for values in shown)),
    )
    limits = (low, high if high > low else low + 1.0)
    std_high = float(max(result.attention_std.max() for result in results)) or 1.0
    kind = 'one sample, quantised' if results[0].quantized else 'one sample'
    columns = (
        ('mean attention', [r.attention_mean for r in results], limits, MEAN_COLORS),
        (kind, samples, limits, MEAN_COLORS),
        (
            'std of the attention',
            [r.attention_std for r in results],
            (0.0, std_high),
            STD_COLORS,
        ),
    )
    size = (_ROW_INCHES * (1 + len(columns)), _ROW_INCHES * len(results) + 0.6)
    figure = Figure(figsize=size, dpi=100, layout='constrained')
    axes = figure.subplots(len(results), 1 + len(columns), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].set_title('prediction', fontsize=10)
    for cell, picture in zip(axes[:, 0], drawn, strict=True):
        cell.imshow(picture)
    for cells, (title, maps, ends, colors) in zip(axes.T[1:], columns, strict=True):
        cells[0].set_title(title, fontsize=10)
        for cell, result, values in zip(cells, results, maps, strict=True):
            over = overlay(result.image, values, value_range=ends, colors=colors)
            cell.imshow(over, interpolation='nearest')
        scale = ScalarMappable(Normalize(*ends), colors)
        figure.colorbar(scale, ax=list(cells), location='bottom', shrink=0.8)
    figure.savefig(path)
