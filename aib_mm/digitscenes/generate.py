"""Makes a set: all samples on several processes, each part put in place as a whole."""

import contextlib
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from aib_mm.digitscenes import files
from aib_mm.digitscenes.render import draw_classification, draw_scene
from aib_mm.digitscenes.shifts import SIDES as SHIFTED_SIDES
from aib_mm.digitscenes.shifts import load_shifted
from aib_mm.digitscenes.sources import PHOTOS, Source, load_sources
from aib_mm.digitscenes.spec import CLASSES, DEFAULT_PARTS, PARTS, DigitScenesSpec
from aib_mm.digitscenes.state import check_replaceable, is_complete, write_meta
from aib_mm.errors import check_count

#: Split -> side of the partition of photographs.
_SIDES = {'train': 'train', 'test': 'test', 'val': 'test', **SHIFTED_SIDES}
#: Shifted images take the random numbers of the test images, so that each is one of
#: them with one thing changed.
_STREAMS = {('shifted', split): ('classification', 'test') for split in SHIFTED_SIDES}
_CHUNK = 50  # samples a process takes at a time


@dataclass(frozen=True)
class _Job:
    """All that a process needs to draw and write samples of one split."""

    folder: Path
    part: str
    split: str
    source: Source
    spec: DigitScenesSpec


@dataclass(frozen=True)
class _Written:
    """What the set keeps of one sample; ``share`` of its pixels shows digits."""

    digests: files.Digests
    share: float
    annotations: list[dict[str, Any]]


def generate(
    root: str | Path,
    spec: DigitScenesSpec | None = None,
    parts: Iterable[str] = DEFAULT_PARTS,
    num_workers: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> dict[str, bool]:
    """Make the parts of a set that are not there yet, below ``root``.

    The files depend on ``spec`` alone, to the byte. A part appears complete or not at
    all.

    Args:
        root: folder of the set; each part is a folder in it.
        spec: seed and parameters; the defaults when None.
        parts: names of :data:`PARTS`; by default all but ``shifted``.
        num_workers: processes; the usable cores when None.
        force: make every part anew, also one with other parameters.
        progress: show a bar per split.

    Returns:
        For each part whether it was made (False: it was there already).

    Raises:
        SetError: a part is there with other parameters and ``force`` is not set, or its
            folder holds something else, which is never removed.
        SourceError: the digits or the photographs are missing.
        OSError: ``root`` cannot be written.
    """
    spec = spec or DigitScenesSpec()
    parts = tuple(parts)
    for part in parts:
        if part not in PARTS:
            raise ValueError(f'parts must be of {list(PARTS)}, got {part!r}')
    if num_workers is None:
        num_workers = len(os.sched_getaffinity(0))
    check_count('num_workers', num_workers, 1)
    root = Path(root)
    missing = [p for p in parts if force or not is_complete(root / p, p, spec)]
    if missing:
        for part in missing:
            check_replaceable(root / part)
        sources = load_sources()
        sources['val'] = sources['test']
        if 'shifted' in missing:
            sources |= load_shifted(sources['test'])
        root.mkdir(parents=True, exist_ok=True)
        for part in missing:
            _make(root / part, part, spec, sources, num_workers, progress, force)
    return {part: part in missing for part in parts}


def _make(
    folder: Path,
    part: str,
    spec: DigitScenesSpec,
    sources: dict[str, Source],
    num_workers: int,
    progress: bool,
    force: bool,
) -> None:
    draft = folder.with_name(f'.{part}.{os.getpid()}')
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _make_folders(draft, part)
        digests: files.Digests = {}
        shares = {}
        for split in PARTS[part]:
            job = _Job(draft, part, split, sources[split], spec)
            written = _run(job, spec.count(part, split), num_workers, progress)
            for sample in written:
                digests |= sample.digests
            shares[split] = round(float(np.mean([w.share for w in written])), 6)
            if part == 'scenes':
                annotations = [sample.annotations for sample in written]
                digests |= files.write_coco(draft, split, spec.scene_size, annotations)
        write_meta(draft, _describe(part, spec, digests, shares))
        # Another process may have made one in the meantime.
        if force or not is_complete(folder, part, spec):
            _put_in_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _make_folders(draft: Path, part: str) -> None:
    below = ['{0}/{1}', 'masks/{0}/{1}']
    if part == 'scenes':
        below = ['images/{0}', 'masks/{0}', 'annotations']
    for split in PARTS[part]:
        for name in CLASSES:
            for pattern in below:
                path = draft / pattern.format(split, name)
                path.mkdir(parents=True, exist_ok=True)


def _run(job: _Job, count: int, num_workers: int, progress: bool) -> list[_Written]:
    with _mapped(job, count, min(num_workers, -(-count // _CHUNK))) as written:
        text = f'{job.part} {job.split}'
        return list(track(written, text, total=count, disable=not progress))


@contextlib.contextmanager
def _mapped(job: _Job, count: int, workers: int) -> Iterator[Iterable[_Written]]:
    """The samples of a job in the order of their index."""
    if workers <= 1:
        yield (_write_sample(job, index) for index in range(count))
        return
    # Forked processes neither import the package again nor copy the photographs.
    context = multiprocessing.get_context('fork')
    with ProcessPoolExecutor(workers, context, _keep_job, (job,)) as pool:
        try:
            yield pool.map(_write_kept, range(count), chunksize=_CHUNK)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_kept: list[_Job] = []  # in a worker process: the one job it was started for


def _keep_job(job: _Job) -> None:
    _kept[:] = [job]


def _write_kept(index: int) -> _Written:
    return _write_sample(_kept[0], index)


def _write_sample(job: _Job, index: int) -> _Written:
    part, split = _STREAMS.get((job.part, job.split), (job.part, job.split))
    numbers = (job.spec.seed, list(PARTS).index(part), PARTS[part].index(split), index)
    rng = np.random.default_rng(np.random.SeedSequence(numbers))
    if job.part != 'scenes':
        sample = draw_classification(job.source, job.spec, index, rng)
        digests = files.write_classification(job.folder, job.split, index, sample)
        return _Written(digests, float((sample.mask > 0).mean()), [])
    scene = draw_scene(job.source, job.spec, rng)
    share = float(sum(mask.mean() for mask in scene.masks))
    digests = files.write_scene(job.folder, job.split, index, scene)
    return _Written(digests, share, files.instances(scene, index))


def _describe(
    part: str, spec: DigitScenesSpec, digests: files.Digests, shares: dict[str, float]
) -> dict[str, Any]:
    """The content of the meta file."""
    sha256, pixels_sha256 = files.checksums(digests)
    meta = spec.identity(part) | dict(
        counts={split: spec.count(part, split) for split in PARTS[part]},
        digit_area=shares,
        classes=CLASSES,
        photographs={split: PHOTOS[_SIDES[split]] for split in PARTS[part]},
        files=len(digests),
        sha256=sha256,
        pixels_sha256=pixels_sha256,
    )
    if part == 'scenes':
        meta |= dict(
            segmentation_classes=files.SEGMENTATION_CLASSES, palette=files.PALETTE
        )
    return meta


def _put_in_place(draft: Path, folder: Path) -> None:
    """Exchange a complete draft for what is at ``folder``."""
    if folder.exists():
        old = draft.with_name(f'{draft.name}.old')
        folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old)
    else:
        draft.rename(folder)
