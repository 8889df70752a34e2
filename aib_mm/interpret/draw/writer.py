"""Results of an ``AttentionInferencer`` as pictures, arrays, JSON and one page."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from aib_mm.errors import check_count
from aib_mm.interpret.draw.gallery import (
    BITS_COLORS,
    MEAN_COLORS,
    STD_COLORS,
    Entry,
    make_entry,
    write_gallery,
)
from aib_mm.interpret.draw.overlay import colorize, overlay
from aib_mm.interpret.record.inputs import Failure
from aib_mm.interpret.result import AttentionResult, Pixels
from aib_mm.utils.files import json_text, write_atomically

PAGE = 'index.html'
SUMMARY = 'results.json'
#: Little compression: pictures of maps are small, and time is what is short.
_PNG_LEVEL = 3
_WAITING_PER_THREAD = 4


class ResultWriter:
    """Writes results while the model goes on, in threads; a context manager.

    In ``out_dir``:

    - ``NAME/`` for each image: ``prediction.png``, ``mean.png``, ``std.png``,
      ``sample_1.png`` and so on (anchors in a qt model, where the first is
      ``quantized.png`` too), ``bits.png`` where latents have positions, ``overlay_*``
      of mean, std and quantised map, and ``arrays.npz``;
    - ``results.json``: the numbers of all images;
    - ``index.html``: a page with all that can be filtered; it needs no other file.

    Args:
        out_dir: None writes nothing.
        draw: the prediction of a result as a picture.
        classes: their names.
        value_range: of the colours of mean and samples; by default of each image's own
            maps in the files, and of all images' maps on the page.
        page_images: the page shows the first so many.
        right_from: least ``Outcome.quality`` of a prediction that counts as right.
        threads: that write.

    Attributes:
        seconds: that drawing and writing took, summed over threads.
    """

    def __init__(
        self,
        out_dir: str | Path | None,
        draw: Callable[[AttentionResult], Pixels],
        classes: Sequence[str],
        *,
        value_range: tuple[float, float] | None = None,
        page_images: int = 500,
        right_from: float = 0.5,
        title: str = 'What the model looks at',
        threads: int = 2,
    ) -> None:
        check_count('page_images', page_images, 0)
        check_count('threads', threads, 1)
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.classes = tuple(classes)
        self.value_range = value_range
        self.page_images = page_images
        self.right_from = right_from
        self.title = title
        self.seconds = 0.0
        self._draw = draw
        # matplotlib, which the hosts' visualizers draw with, is not thread-safe.
        self._drawing = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, 'aib-write')
        self._room = threading.Semaphore(threads * _WAITING_PER_THREAD)
        self._written: list[Future[tuple[dict[str, Any], Entry | None, float]]] = []
        self._failures: list[Failure] = []
        self._folders: set[str] = set()

    def __enter__(self) -> 'ResultWriter':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if self.out_dir is not None and error is None:
            self._finish(self.out_dir)

    def add(self, result: AttentionResult | Failure) -> None:
        """Write one result soon; waits while too many are waiting.

        Raises:
            Exception: whatever writing an earlier one raised.
        """
        if isinstance(result, Failure):
            self._failures.append(result)
        elif self.out_dir is not None:
            self._room.acquire()
            shown = len(self._written) < self.page_images
            folder = self.out_dir / self._folder(result.name)
            self._written.append(self._pool.submit(self._write, folder, result, shown))
            for earlier in self._written[-2 * _WAITING_PER_THREAD :]:
                if earlier.done():
                    earlier.result()

    def _folder(self, name: str) -> str:
        """Of an image, also of one in a folder of its own; no two have the same."""
        plain = name.replace('/', '__')
        folder, count = plain, 1
        while folder in self._folders:
            count += 1
            folder = f'{plain} ({count})'
        self._folders.add(folder)
        return folder

    def _write(
        self, folder: Path, result: AttentionResult, shown: bool
    ) -> tuple[dict[str, Any], Entry | None, float]:
        try:
            with self._drawing:
                begin = time.perf_counter()
                drawn = self._draw(result)
            folder.mkdir(parents=True, exist_ok=True)
            for name, picture in self._pictures(result).items():
                _save(folder / f'{name}.png', picture)
            _save(folder / 'prediction.png', drawn)
            np.savez_compressed(folder / 'arrays.npz', **arrays(result))
            entry = make_entry(result, drawn, self.right_from) if shown else None
            row = self._row(result)
            return dict(row, folder=folder.name), entry, time.perf_counter() - begin
        finally:
            self._room.release()

    def _pictures(self, result: AttentionResult) -> dict[str, Pixels]:
        """By file name, without the prediction."""
        mean, std, samples = result.attention_mean, result.attention_std, result.samples
        limits = self.value_range or _limits(mean, samples)
        std_limits = _limits(np.zeros(1), std)
        shown = {'mean': (mean, limits, MEAN_COLORS, True)}
        shown['std'] = (std, std_limits, STD_COLORS, True)
        if result.quantized:
            shown['quantized'] = (samples[0], limits, MEAN_COLORS, False)
        pictures = {}
        for name, (values, ends, colors, smooth) in shown.items():
            pictures[name] = colorize(values, ends, colors)
            pictures[f'overlay_{name}'] = overlay(
                result.image, values, value_range=ends, colors=colors, smooth=smooth
            )
        for i, sample in enumerate(samples, 1):
            pictures[f'sample_{i}'] = colorize(sample, limits, MEAN_COLORS)
        if result.information is not None and result.information.map is not None:
            bits = result.information.map
            pictures['bits'] = colorize(bits, _limits(np.zeros(1), bits), BITS_COLORS)
        return pictures

    def _row(self, result: AttentionResult) -> dict[str, Any]:
        """The numbers of one image."""
        outcome, information = result.outcome, result.information
        quality = outcome.quality
        return dict(
            name=result.name,
            predicted=list(outcome.predicted),
            true=None if outcome.true is None else list(outcome.true),
            quality=quality,
            right=None if quality is None else quality >= self.right_from,
            consistency=result.consistency,
            **result.uncertainty,
            total_bits=None if information is None else information.total_bits,
            positions=None if information is None else information.positions,
            bits_per_position=(
                None if information is None else information.bits_per_position
            ),
        )

    def _finish(self, out_dir: Path) -> None:
        done = [future.result() for future in self._written]
        self.seconds = sum(seconds for _, _, seconds in done)
        out_dir.mkdir(parents=True, exist_ok=True)
        summary = dict(
            classes=self.classes,
            right_from=self.right_from,
            images=[row for row, _, _ in done],
            failures=[failure._asdict() for failure in self._failures],
        )
        write_atomically(out_dir / SUMMARY, json_text(summary))
        write_gallery(
            out_dir / PAGE,
            title=self.title,
            entries=[entry for _, entry, _ in done if entry is not None],
            classes=self.classes,
            total=len(done),
            failures=self._failures,
            value_range=self.value_range,
            right_from=self.right_from,
        )


def arrays(result: AttentionResult) -> dict[str, np.ndarray]:
    """What ``arrays.npz`` holds; shapes as ``AttentionResult`` says.

    ``mean``, ``std`` and ``samples`` are over the image. ``level0_mean`` and so on are
    as the module gave them, over the network's input with its padding: ``(h, w)``, the
    samples (and anchors' ``indices``) ``(L_a, h, w)``.
    """
    found: dict[str, Any] = dict(
        mean=result.attention_mean, std=result.attention_std, samples=result.samples
    )
    for i, maps in enumerate(result.levels):
        found[f'level{i}_mean'] = maps.mean[0, 0]
        found[f'level{i}_std'] = maps.std[0, 0]
        found[f'level{i}_samples'] = maps.samples[:, 0, 0]
        if maps.indices is not None:
            found[f'level{i}_indices'] = maps.indices[:, 0, 0]
    if result.information is not None:
        total, positions, raw, placed, rois = result.information
        found.update(total_bits=total, positions=positions, bits=raw)
        optional = dict(bits_on_image=placed, rois=rois)
        found.update({k: v for k, v in optional.items() if v is not None})
    found.update(result.uncertainty)
    if result.consistency is not None:
        found['consistency'] = result.consistency
    return {name: np.asarray(value) for name, value in found.items()}


def _limits(*values: np.ndarray) -> tuple[float, float]:
    """Least and greatest value; never the same, as a colour scale wants."""
    low = float(min(v.min() for v in values))
    high = float(max(v.max() for v in values))
    return low, high if high > low else low + 1.0


def _save(path: Path, picture: Pixels) -> None:
    Image.fromarray(picture).save(path, compress_level=_PNG_LEVEL)
