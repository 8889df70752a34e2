"""Images for a model: files, folders, arrays or a data set, loaded ahead of it.

What is shown of an image are the pixels that the pipeline's own loader read: another
decoder may turn it (EXIF), or take other bands or another bit depth.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from aib_mm.errors import DataError

ImageInput = str | Path | NDArray[np.uint8]
Pipeline = Callable[[dict[str, Any]], Any]
SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
_BATCHES_AHEAD = 2
_OVERSHOOT = 64


class Loaded(NamedTuple):
    """One image as the pipeline packed it, and its pixels as they were loaded.

    ``image`` is ``(H, W, 3)``, RGB, see ``visible``; None where the set holds arrays,
    and so nothing was loaded. ``load_batches`` writes the ``name``.
    """

    inputs: Any
    data_sample: BaseDataElement
    image: NDArray[np.uint8] | None
    name: str = ''


class Failure(NamedTuple):
    """An image that cannot be used: loaded, predicted, shown or written.

    ``error`` is what was raised, where there is more to tell than the reason.
    """

    name: str
    reason: str
    error: Exception | None = None


class KeepsPixels:
    """A pipeline that keeps what its loader read, before other steps change it.

    Attributes:
        pixels: of the last image, ``(H, W)`` or ``(H, W, C)`` of any type; None where
            its pixels were handed in instead of loaded.
    """

    def __init__(self, pipeline: Any) -> None:
        self.steps = list(getattr(pipeline, 'transforms', [pipeline]))
        self.pixels: NDArray | None = None

    def __call__(self, results: dict[str, Any]) -> Any:
        """Run the pipeline, as mmengine's ``Compose`` does."""
        self.pixels = None
        loads = 'img' not in results
        done: Any = results
        for step in self.steps:
            done = step(done)
            if done is None:
                return None
            image = done.get('img') if loads and self.pixels is None else None
            if isinstance(image, np.ndarray):
                self.pixels = image.copy()  # some steps work in place
        return done


class Item(NamedTuple):
    """An image by name; ``load`` may raise any error that reading a file can."""

    name: str
    load: Callable[[], Loaded]


def failure_of(name: str, error: Exception) -> Failure:
    """What is said of an image that raised this error."""
    reason = str(error).partition('\n')[0] or type(error).__name__
    return Failure(name, reason, error)


def image_items(
    images: ImageInput | Sequence[ImageInput],
    from_file: Pipeline,
    from_array: Pipeline,
    channels: Sequence[int] = (3,),
) -> list[Item]:
    """Files, folders (with those below, by name) and arrays, in the order given.

    Args:
        images: paths, or arrays ``(H, W, C)``, BGR as the hosts' inferencers want them.
        from_file: the pipeline for ``img_path``.
        from_array: the pipeline for ``img``.
        channels: C that an array may have; of one channel it may also be ``(H, W)``.

    Raises:
        DataError: a folder without images.
        TypeError: something else than a path or an array.
    """
    items: list[Item] = []
    keeps = KeepsPixels(from_file)
    if isinstance(images, str | Path | np.ndarray) or not isinstance(images, Iterable):
        images = [images]
    for i, given in enumerate(images):
        if isinstance(given, np.ndarray):
            load = partial(_load_array, given, from_array, channels)
            items.append(Item(f'{i:05d}', load))
            continue
        if not isinstance(given, str | Path):
            raise TypeError(
                f'an image is a path or an array {_shapes(channels)}, got '
                f'{type(given).__name__} at place {i}'
            )
        if str(given) == '':
            raise DataError(f'the path of an image is empty, at place {i}')
        for path, name in _files(Path(given)):
            items.append(Item(name, partial(_load_file, path, keeps)))
    return _unique(items)


def dataset_items(dataset: Any, root: str | None) -> list[Item]:
    """The images of one of mmengine's data sets, with their annotations.

    Args:
        dataset: one in test mode, so that a broken image is not replaced by another.
            From then on its pipeline keeps the pixels.
        root: folder; names are paths below it where images have paths.
    """
    dataset.pipeline = KeepsPixels(dataset.pipeline)
    items = []
    for i in range(len(dataset)):
        path = dataset.get_data_info(i).get('img_path')
        known = isinstance(path, str | Path)  # an image may be of several files
        name = _below(Path(path), root) if known else f'{i:05d}'
        path = Path(path) if known else None
        items.append(Item(name, partial(_load_sample, dataset, i, path)))
    return _unique(items)


def load_batches(
    items: Iterable[Item], batch_size: int
) -> Iterator[list[Loaded | Failure]]:
    """Load in the background, a few batches ahead of whoever takes them."""
    left = iter(items)
    chunks = iter(lambda: list(islice(left, batch_size)), [])
    with ThreadPoolExecutor(1, 'aib-load') as pool:
        loading = (pool.submit(_load_all, chunk) for chunk in chunks)
        waiting = deque(islice(loading, _BATCHES_AHEAD))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(islice(loading, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def with_shapes(metainfo: Mapping[str, Any], packed: Tensor) -> dict[str, Any]:
    """``metainfo`` with the shapes that a set which loads no files does not know.

    They are those of ``packed``, ``(C, h, w)``, what the pipeline hands over.
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
    return visible(packed[:, :height, :width].permute(1, 2, 0).cpu().numpy(), is_bgr)


def visible(pixels: NDArray, is_bgr: bool) -> NDArray[np.uint8]:
    """What can be shown of any image: ``(H, W, 3)`` uint8, RGB.

    Of more than three channels the first three are shown, of fewer the first, as grey.
    Values of more than 8 bits, or in [0, 1], are scaled: 0, or the least below it, is
    black and the greatest is white.

    Args:
        pixels: ``(H, W)`` or ``(H, W, C)`` of any type.
        is_bgr: whether the first of three channels or more is blue.
    """
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    if planes.shape[2] < 3:
        planes = planes[..., :1].repeat(3, axis=2)
    else:
        planes = planes[..., 2::-1] if is_bgr else planes[..., :3]
    return np.ascontiguousarray(_eight_bits(planes))


def _eight_bits(planes: NDArray) -> NDArray[np.uint8]:
    if planes.dtype == np.uint8 or not planes.size:
        return planes.astype(np.uint8)
    values = np.nan_to_num(planes.astype(np.float64))
    low, high = min(values.min(), 0.0), values.max()
    # Interpolation may overshoot 8 bits by a little, and no more.
    if low < -_OVERSHOOT or not 1 < high <= 255 + _OVERSHOOT:
        values = (values - low) * (255 / ((high - low) or 1.0))
    return values.clip(0, 255).round().astype(np.uint8)


def _load_all(items: Sequence[Item]) -> list[Loaded | Failure]:
    loaded: list[Loaded | Failure] = []
    for item in items:
        try:
            loaded.append(item.load()._replace(name=item.name))
        except Exception as error:  # whatever a decoder or a pipeline makes of a file
            loaded.append(failure_of(item.name, error))
    return loaded


def _load_file(path: Path, pipeline: KeepsPixels) -> Loaded:
    with _whole(path):
        data = pipeline(dict(img_path=str(path), img_id=0))
    return _packed(data, pipeline.pixels)


def _load_array(
    array: NDArray[np.uint8], pipeline: Pipeline, channels: Sequence[int]
) -> Loaded:
    # What loaders give of one channel has two dimensions.
    image = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    count = 1 if image.ndim == 2 else image.shape[-1]
    if array.dtype != np.uint8 or image.ndim not in (2, 3) or count not in channels:
        raise ValueError(
            f'an array must be {_shapes(channels)} uint8, got {array.shape} '
            f'{array.dtype}'
        )
    shape = image.shape[:2]
    results = dict(img=image.copy(), img_shape=shape, ori_shape=shape, img_id=0)
    return _packed(pipeline(results), image)


def _shapes(channels: Sequence[int]) -> str:
    return ' or '.join(f'(H, W, {count})' for count in channels)


def _load_sample(dataset: Any, index: int, path: Path | None) -> Loaded:
    with _whole(path) if path is not None and path.is_file() else nullcontext():
        data = dataset[index]
    return _packed(data, dataset.pipeline.pixels)


def _packed(data: Mapping[str, Any] | None, pixels: NDArray | None) -> Loaded:
    if data is None:
        raise DataError('the test pipeline gave nothing for it')
    sample = data['data_samples']
    sample.set_metainfo(with_shapes(sample.metainfo, data['inputs']))
    # Loaders, and whoever calls the hosts' inferencers, give BGR.
    image = None if pixels is None else visible(pixels, is_bgr=True)
    return Loaded(data['inputs'], sample, image)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Refuse a file that was cut short: the hosts' decoder fills in the rest.

    A kind of file that pillow does not know is left to the pipeline's loader; where it
    cannot read it either, pillow's error says more.
    """
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}')
    unknown = None
    try:
        with Image.open(path) as opened:
            opened.load()
    except UnidentifiedImageError as error:
        unknown = error
    except Image.DecompressionBombError:
        pass  # large, which is no damage
    try:
        yield
    except Exception as error:
        if unknown is not None:
            raise unknown from error
        raise


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
    for i, item in enumerate(items):
        seen[item.name] += 1
        if counts[item.name] > 1:
            items[i] = item._replace(name=f'{item.name} ({seen[item.name]})')
    return items
