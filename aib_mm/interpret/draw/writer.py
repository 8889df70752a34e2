"""Results of an ``AttentionInferencer`` as pictures, arrays, JSON and one page."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from aib_mm.errors import check_count, describe
from aib_mm.interpret.draw.cases import Case, result_case, result_tiles, tile_ranges
from aib_mm.interpret.draw.page import Section, write_page
from aib_mm.interpret.draw.pictures import PNG_LEVEL, SCALES, colorize, overlay
from aib_mm.interpret.draw.truth import RIGHT, Truth, class_summary, truth_of
from aib_mm.interpret.record.inputs import Failure
from aib_mm.interpret.result import AttentionResult, Pixels
from aib_mm.utils.files import file_name, json_text, write_atomically

PAGE = 'index.html'
SUMMARY = 'results.json'
_THREADS, _WAITING = 2, 8


class _Written(NamedTuple):
    """One image's numbers, its part of the page, and how long it took."""

    row: dict[str, Any]
    truth: Truth
    case: Case | None
    seconds: float


class ResultWriter:
    """Writes results while the model goes on, in threads; a context manager.

    In ``out_dir``:

    - ``NAME/`` for each image: ``prediction.png``, ``mean.png``, ``std.png``,
      ``sample_1.png`` and so on (anchors in a qt model, where the first is
      ``quantized.png`` too), ``passed.png`` where the neck says what its map lets
      through, ``bits.png`` where latents have positions, ``overlay_*`` of mean, std
      and quantised map, and ``arrays.npz``;
    - ``results.json``: the numbers of all images, and those that failed;
    - ``index.html``: a page with all that can be filtered, and with it in ``NAME/``:
      ``image.jpg``, ``truth.svg`` (borders of the true objects) and ``grey_*`` of each
      map, from its least value to its greatest, which the browser colours.

    Args:
        out_dir: folder, made when the first result is written.
        draw: function from a result to a picture of its prediction.
        classes: names of the classes.
        value_range: ends of the colours of mean and samples; by default those of each
            image's own maps in the files, and of all images' maps on the page.
        page_images: number of images on the page, the first ones.
        right_from: least ``Outcome.quality`` of a prediction that counts as right.
        title: heading of the page.

    An image that cannot be drawn or written fails alone: it is among the failures.

    Attributes:
        seconds: time that drawing and writing took, summed over threads.
        failures: images that were given as such; after the last, those that could not
            be written as well.
    """

    def __init__(
        self,
        out_dir: str | Path,
        draw: Callable[[AttentionResult], Pixels],
        classes: Sequence[str],
        *,
        value_range: tuple[float, float] | None = None,
        page_images: int = 2000,
        right_from: float = 0.5,
        title: str = 'What the model looks at',
    ) -> None:
        check_count('page_images', page_images, 0)
        self.out_dir = Path(out_dir)
        self.classes = tuple(classes)
        self.value_range = value_range
        self.page_images = page_images
        self.right_from = right_from
        self.title = title
        self.seconds = 0.0
        self._draw = draw
        # matplotlib, which the hosts' visualizers draw with, is not thread-safe.
        self._drawing = threading.Lock()
        self._pool = ThreadPoolExecutor(_THREADS, 'aib-write')
        self._room = threading.Semaphore(_WAITING)
        self._written: list[Future[_Written | Failure]] = []
        self.failures: list[Failure] = []
        self._folders: set[str] = set()

    def __enter__(self) -> 'ResultWriter':
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            self._finish()

    def add(self, result: AttentionResult | Failure) -> None:
        """Write one result soon; waits while too many are waiting."""
        if isinstance(result, Failure):
            self.failures.append(result)
            return
        self._room.acquire()
        shown = len(self._written) < self.page_images
        folder = self.out_dir / self._folder(result.name)
        self._written.append(self._pool.submit(self._tried, folder, result, shown))

    def _folder(self, name: str) -> str:
        """Folder of an image, also of one in a folder of its own; no two are alike."""
        plain = file_name(name.replace('/', '__'))
        folder, count = plain, 1
        while folder in self._folders:
            count += 1
            folder = f'{plain} ({count})'
        self._folders.add(folder)
        return folder

    def _tried(
        self, folder: Path, result: AttentionResult, shown: bool
    ) -> _Written | Failure:
        """What was written, or why not: the other images go on."""
        try:
            return self._write(folder, result, shown)
        except Exception as error:  # of a host's visualizer, of the file system
            reason = f'cannot be drawn or written: {describe(error)}'
            return Failure(result.name, reason, error)
        finally:
            self._room.release()

    def _write(self, folder: Path, result: AttentionResult, shown: bool) -> _Written:
        with self._drawing:
            begin = time.perf_counter()
            drawn = self._draw(result)
        folder.mkdir(parents=True, exist_ok=True)
        tiles = result_tiles(result)
        ranges = tile_ranges(tiles, self.value_range)
        pictures = {'prediction': drawn}
        for tile in tiles:
            low, high = ranges[tile.kind.scale]
            ends = (low, high) if low < high else None
            colors = SCALES[tile.kind.scale].colors
            pictures[tile.name] = colorize(tile.values, ends, colors)
            if tile.kind.over:
                pictures[f'overlay_{tile.name}'] = overlay(
                    result.image,
                    tile.values,
                    value_range=ends,
                    colors=colors,
                    smooth=tile.smooth,
                )
        for name, picture in pictures.items():
            path = folder / f'{name}.png'
            Image.fromarray(picture).save(path, compress_level=PNG_LEVEL)
        held: dict[str, Any] = arrays(result)
        np.savez_compressed(folder / 'arrays.npz', **held)
        truth = truth_of(result, self.classes)
        found = truth.on_objects(result.attention_mean)
        row = dict(self._row(result), **found, folder=folder.name)
        case = None
        if shown:
            case = result_case(result, tiles, folder, truth.outline, row)
        # Pixels and drawing of each image are many, and done with.
        rest = truth._replace(objects=None, outline='')
        return _Written(row, rest, case, time.perf_counter() - begin)

    def _row(self, result: AttentionResult) -> dict[str, Any]:
        """The numbers of one image."""
        outcome, quality = result.outcome, result.outcome.quality
        told = ('total_bits', 'positions', 'bits_per_position')
        return dict(
            name=result.name,
            source=result.source,
            predicted=outcome.predicted,
            true=outcome.true,
            quality=quality,
            right=None if quality is None else quality >= self.right_from,
            consistency=result.consistency,
            **result.uncertainty,
            passed_bits=getattr(result.passed, 'total_bits', None),
            **{name: getattr(result.information, name, None) for name in told},
        )

    def _finish(self) -> None:
        tried = [future.result() for future in self._written]
        self.failures += [one for one in tried if isinstance(one, Failure)]
        done = [one for one in tried if isinstance(one, _Written)]
        self.seconds = sum(one.seconds for one in done)
        rows = [one.row for one in done]
        summary = dict(
            classes=self.classes,
            right_from=self.right_from,
            images=rows,
            failures=[dict(name=f.name, reason=f.reason) for f in self.failures],
        )
        write_atomically(self.out_dir / SUMMARY, json_text(summary))
        cases = [one.case for one in done if one.case is not None]
        shown = f', the first {len(cases)} of them here' * (len(cases) < len(rows))
        sources = ', '.join(dict.fromkeys(row['source'] for row in rows))
        measure = next(filter(None, (one.truth.measure for one in done)), None)
        right = f'Right: {RIGHT[measure].format(self.right_from)}.' if measure else ''
        write_page(
            self.out_dir / PAGE,
            title=self.title,
            lead=f'{len(rows):,} images{shown}. Maps: {sources or "none"}.',
            sections=[Section('', '', cases)],
            by_class=class_summary((one.truth, one.row) for one in done),
            class_measure=measure,
            classes=self.classes,
            notes=[right] if right else [],
            failures=self.failures,
            value_range=self.value_range,
        )


def arrays(result: AttentionResult) -> dict[str, np.ndarray]:
    """What ``arrays.npz`` holds; shapes as ``AttentionResult`` says.

    ``source`` says what the maps are. ``mean``, ``std`` and ``samples`` are over the
    image, the last two left out where nothing is random. ``level0_mean`` and so on are
    as the module gave them, over the network's input with its padding: ``(h, w)``, the
    samples (and anchors' ``indices``) ``(L_a, h, w)``.
    """
    found: dict[str, Any] = dict(
        source=result.source,
        mean=result.attention_mean,
        consistency=result.consistency,
        **result.uncertainty,
    )
    if not result.is_certain:
        found.update(std=result.attention_std, samples=result.samples)
    for i, maps in enumerate(result.levels):
        found[f'level{i}_mean'] = maps.mean[0, 0]
        if result.is_certain:
            continue
        found[f'level{i}_std'] = maps.std[0, 0]
        found[f'level{i}_samples'] = maps.samples[:, 0, 0]
        if maps.indices is not None:
            found[f'level{i}_indices'] = maps.indices[:, 0, 0]
    if result.passed is not None:
        found.update(passed_bits=result.passed.total_bits)
        found.update(passed_raw=result.passed.raw, passed_on_image=result.passed.map)
    if result.information is not None:
        total, positions, raw, placed, rois = result.information
        found.update(total_bits=total, positions=positions, bits=raw)
        found.update(bits_on_image=placed, rois=rois)
    return {k: np.asarray(value) for k, value in found.items() if value is not None}
