"""Images for a model: files, folders, arrays or a data set, loaded ahead of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from aib_mm.errors import DataError

ImageInput = str | Path | NDArray[np.uint8]
Pipeline = Callable[[dict[str, Any]], Any]
SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
_BATCHES_AHEAD = 2


class Loaded(NamedTuple):
    """One image as the pipeline packed it, and its pixels as they were.

    ``image`` is ``(H, W, 3)``, RGB, or None where there is no file to read them from.
    """

    inputs: Any
    data_sample: BaseDataElement
    image: NDArray[np.uint8] | None


class Failure(NamedTuple):
    """An image that cannot be loaded."""

    name: str
    reason: str


class Item(NamedTuple):
    """An image by name; ``load`` may raise any error that reading a file can."""

    name: str
    load: Callable[[], Loaded]


def image_items(
    images: ImageInput | Sequence[ImageInput], from_file: Pipeline, from_array: Pipeline
) -> list[Item]:
    """Files, folders (with those below, by name) and arrays, in the order given.

    Args:
        images: paths, or arrays ``(H, W, 3)``, BGR as the hosts' inferencers want them.
        from_file: the pipeline for ``img_path``.
        from_array: the pipeline for ``img``.

    Raises:
        DataError: a folder without images.
        TypeError: something else than a path or an array.
    """
    items: list[Item] = []
    if isinstance(images, str | Path | np.ndarray):
        images = [images]
    for i, given in enumerate(images):
        if isinstance(given, np.ndarray):
            items.append(Item(f'{i:05d}', partial(_load_array, given, from_array)))
            continue
        if not isinstance(given, str | Path):
            raise TypeError(
                'an image is a path or an array (H, W, 3), got '
                f'{type(given).__name__} at place {i}'
            )
        for path, name in _files(Path(given)):
            items.append(Item(name, partial(_load_file, path, from_file)))
    return _unique(items)


def dataset_items(dataset: Any, root: str | None) -> list[Item]:
    """The images of one of mmengine's data sets, with their annotations.

    Args:
        dataset: one in test mode, so that a broken image is not replaced by another.
        root: folder; names are paths below it where images have paths.
    """
    items = []
    for i in range(len(dataset)):
        path = dataset.get_data_info(i).get('img_path')
        name = f'{i:05d}' if path is None else _below(Path(path), root)
        items.append(Item(name, partial(_load_sample, dataset, i, path)))
    return _unique(items)


def load_batches(
    items: Iterable[Item], batch_size: int
) -> Iterator[list[tuple[str, Loaded] | Failure]]:
    """Load in the background, a few batches ahead of whoever takes them."""
    left = iter(items)
    with ThreadPoolExecutor(1, 'aib-load') as pool:
        waiting: list[Future] = []
        try:
            while True:
                while len(waiting) < _BATCHES_AHEAD:
                    chunk = list(islice(left, batch_size))
                    if not chunk:
                        break
                    waiting.append(pool.submit(_load_all, chunk))
                if not waiting:
                    return
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def with_shapes(metainfo: Mapping[str, Any], packed: Tensor) -> dict[str, Any]:
    """``metainfo`` with the shapes that a set which loads no files does not know.

    Args:
        metainfo: facts of a data sample.
        packed: ``(C, h, w)``, what the pipeline hands over.
    """
    shape = tuple(packed.shape[-2:])
    return dict(img_shape=shape, ori_shape=shape) | dict(metainfo)


def exchanges_channels(preprocessor: Any) -> bool:
    """Whether a model's data preprocessor makes RGB of BGR, or the other way round."""
    return bool(
        getattr(preprocessor, '_channel_conversion', False)
        or getattr(preprocessor, 'to_rgb', False)
    )


def network_input(
    packed: Tensor, metainfo: Mapping[str, Any], is_bgr: bool
) -> NDArray[np.uint8]:
    """The image that the network sees, ``(H, W, 3)`` uint8, RGB.

    Args:
        packed: ``(C, h, w)``, what the pipeline hands over, before normalisation.
        metainfo: facts of its data sample; padding that the pipeline put at the right
            and at the bottom is taken off.
        is_bgr: what the pipeline hands over. One that loads files gives BGR; a data set
            that holds arrays, what the preprocessor says by ``exchanges_channels``.
    """
    height, width = with_shapes(metainfo, packed)['img_shape'][:2]
    pixels = packed[:, :height, :width].permute(1, 2, 0).clamp(0, 255).byte()
    array = pixels.cpu().numpy()
    if array.shape[2] == 1:
        return array.repeat(3, axis=2)
    return np.ascontiguousarray(array[..., ::-1] if is_bgr else array)


def _load_all(items: Sequence[Item]) -> list[tuple[str, Loaded] | Failure]:
    loaded: list[tuple[str, Loaded] | Failure] = []
    for item in items:
        try:
            loaded.append((item.name, item.load()))
        except Exception as error:  # whatever a decoder or a pipeline makes of a file
            reason = str(error).partition('\n')[0] or type(error).__name__
            loaded.append(Failure(item.name, reason))
    return loaded


def _load_file(path: Path, pipeline: Pipeline) -> Loaded:
    # The hosts' decoder reads a file that was cut short and fills in the rest.
    image = _read(path)
    return _packed(pipeline(dict(img_path=str(path), img_id=0)), image)


def _load_array(array: NDArray[np.uint8], pipeline: Pipeline) -> Loaded:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            f'an array must be (H, W, 3) uint8, got {array.shape} {array.dtype}'
        )
    shape = array.shape[:2]
    results = dict(img=array.copy(), img_shape=shape, ori_shape=shape, img_id=0)
    return _packed(pipeline(results), np.ascontiguousarray(array[..., ::-1]))


def _load_sample(dataset: Any, index: int, path: str | None) -> Loaded:
    image = _read(Path(path)) if path is not None and Path(path).is_file() else None
    return _packed(dataset[index], image)


def _packed(data: Mapping[str, Any] | None, image: NDArray[np.uint8] | None) -> Loaded:
    if data is None:
        raise DataError('the test pipeline gave nothing for it')
    sample = data['data_samples']
    sample.set_metainfo(with_shapes(sample.metainfo, data['inputs']))
    return Loaded(data['inputs'], sample, image)


def _read(path: Path) -> NDArray[np.uint8]:
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}')
    with Image.open(path) as opened:
        return np.asarray(ImageOps.exif_transpose(opened).convert('RGB'))


def _files(given: Path) -> list[tuple[Path, str]]:
    """Path and name of the images that a path stands for."""
    if not given.is_dir():
        return [(given, given.name)]
    found = sorted(p for p in given.rglob('*') if p.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(
            f'folder {given} holds no images; they end in {", ".join(SUFFIXES)}'
        )
    return [(path, path.relative_to(given).as_posix()) for path in found]


def _below(path: Path, root: str | None) -> str:
    if root and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.name


def _unique(items: list[Item]) -> list[Item]:
    """Number the names that occur several times."""
    counts = Counter(item.name for item in items)
    seen: Counter[str] = Counter()
    renamed = []
    for item in items:
        seen[item.name] += 1
        again = f'{item.name} ({seen[item.name]})'
        renamed.append(item._replace(name=again) if counts[item.name] > 1 else item)
    return renamed
