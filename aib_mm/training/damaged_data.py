"""Damaged images, masks and boxes: found, named, and skipped only where asked for.

What the hosts do with them depends on the library that decodes and on the data set: an
error without a name, another random sample instead, or a picture that is half grey.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS
from PIL import Image, UnidentifiedImageError

from aib_mm.errors import DataError, choose, describe, first_few

ON_DAMAGE = ('stop', 'skip')
#: How a complete file of a format ends. Files that end otherwise are decoded;
#: whether one of another format is whole, the loader says.
_ENDINGS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82'}
#: Modes of images whose values can be greater than the 8 bits that hosts keep.
_DEEP = ('I', 'F', 'I;16', 'I;16B', 'I;16L')
_SHOWN = 8  # values of a mask


@TRANSFORMS.register_module()
class CheckSample:
    """Check the files, label and boxes of a sample; the first transform of a pipeline.

    Image and mask exist, are complete, and are of one size; a label is a class; boxes
    are four finite numbers in order. For that it looks at headers and ends of files.
    With ``load`` it also says which file a loader cannot read, and checks what was
    read: a mask has one class a pixel, an image the size that its boxes are for.

    Args:
        on_damage: ``'stop'`` raises an error that names file and cause; ``'skip'`` logs
            both and counts, and the data set takes another random sample instead.
        load: configs of the transforms that load the sample, run here.
        num_classes: number of classes of the data set; None checks no label.
        ignore_index: value of a mask's pixels that teach nothing.

    Raises:
        DataError: a damaged sample, with ``on_damage='stop'``.
    """

    def __init__(
        self,
        on_damage: str = 'stop',
        load: Sequence[dict] = (),
        num_classes: int | None = None,
        ignore_index: int = 255,
    ) -> None:
        choose('on_damage', on_damage, ON_DAMAGE)
        self.on_damage = on_damage
        self.load = [TRANSFORMS.build(step) for step in load]
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._skipped: set[str] = set()

    def __call__(self, results: dict) -> dict | None:
        loaded: dict | None = results
        damage = damage_of(results, self.num_classes)
        for step in self.load:
            if damage is not None or loaded is None:
                break
            try:
                loaded = step(loaded)
            except Exception as error:  # whatever a decoder makes of a file
                name = _name(results)
                damage = f'{name}: {type(step).__name__} fails: {describe(error)}'
        if damage is None and loaded is not None and self.load:
            damage = loaded_damage(loaded, self.num_classes, self.ignore_index)
        if damage is None:
            return loaded
        if self.on_damage == 'stop':
            raise DataError(
                f"{damage}; mend or remove it, or pass it over with on_damage='skip' "
                'of CheckSample (--check-data skip)'
            )
        if damage not in self._skipped:
            self._skipped.add(damage)
            number = f'{len(self._skipped)} of this process'
            text = f'CheckSample: skipped damaged sample {number}: {damage}'
            print_log(text, logger='current', level=logging.WARNING)
        return None

    def __repr__(self) -> str:
        return f'{type(self).__name__}(on_damage={self.on_damage!r}, load={self.load})'


def damage_of(results: dict, num_classes: int | None = None) -> str | None:
    """What is wrong with a sample, given as its data set describes it; None if nothing.

    Args:
        results: ``img_path``, ``seg_map_path``, ``gt_label`` and ``instances`` count,
            each if there.
        num_classes: number of classes; None checks no label.
    """
    sizes = []
    for kind, key in (('image', 'img_path'), ('mask', 'seg_map_path')):
        path = results.get(key)
        if path is not None and '://' not in str(path):
            try:
                sizes.append(_checked_size(Path(path), kind))
            except (OSError, SyntaxError, ValueError) as error:  # PIL's, if cut short
                return f'{kind} {path} is damaged: {error}'
    # A camera's rotation may be in the image's header alone.
    known = [size for size in sizes if size is not None]
    if len({tuple(sorted(size)) for size in known}) > 1:
        image, mask = known
        return (
            f'mask {results["seg_map_path"]} is {mask[0]}x{mask[1]}, its image '
            f'{results["img_path"]} {image[0]}x{image[1]}'
        )
    if num_classes is not None:
        label = results.get('gt_label')
        for one in label if isinstance(label, list | tuple) else [label]:
            if isinstance(one, int | np.integer) and not 0 <= one < num_classes:
                classes = f'the {num_classes} classes, 0 to {num_classes - 1}'
                return (
                    f'{_name(results)} has the label {one}, which is none of {classes}'
                )
    for number, instance in enumerate(results.get('instances') or []):
        cause = _box_damage(instance.get('bbox'))
        if cause:
            return f'annotation {number} of {_name(results)}: {cause}'
    return None


def loaded_damage(
    results: dict, num_classes: int | None = None, ignore_index: int = 255
) -> str | None:
    """What is wrong with a sample that was loaded; None if nothing.

    Args:
        results: ``img`` ``(H, W, …)`` and ``gt_seg_map`` ``(H, W)`` count, each if
            there; ``height`` and ``width`` are those that an annotation file names.
        num_classes: number of classes of a mask of mmseg; None compares no values.
        ignore_index: value of a mask's pixels that teach nothing; 255 always does.
    """
    image, mask = results.get('img'), results.get('gt_seg_map')
    shape = image.shape[:2] if isinstance(image, np.ndarray) else None
    named = results.get('height'), results.get('width')
    if shape is not None and all(named) and tuple(named) != shape:
        return (
            f'{_name(results)} is {shape[1]}x{shape[0]} where its annotations say '
            f'{named[1]}x{named[0]}: its boxes are for another size or, by the EXIF '
            'rotation of its header, for another side up'
        )
    if not isinstance(mask, np.ndarray):
        return None
    path = results.get('seg_map_path', 'the mask of ' + _name(results))
    if mask.ndim != 2:
        return (
            f'mask {path} has {mask.shape[-1]} values a pixel, such as '
            f'{_values(mask)}, where one is wanted, the class: it is a picture in '
            'colour; write its classes in one channel, or as a palette'
        )
    if shape is not None and mask.shape != shape:
        return (
            f'mask {path} is {mask.shape[1]}x{mask.shape[0]}, and {_name(results)} as '
            f'it is loaded {shape[1]}x{shape[0]}: one of them has an EXIF rotation in '
            'its header'
        )
    # mmseg's own: what other hosts load as a mask may hold more than classes.
    if num_classes is None or 'reduce_zero_label' not in results:
        return None
    foreign = np.setdiff1d(_present(mask), [*range(num_classes), ignore_index, 255])
    if not foreign.size:
        return None
    zero = ' after reduce_zero_label' * bool(results['reduce_zero_label'])
    return (
        f'mask {path} has the values {_values(mask)}{zero}, where the {num_classes} '
        f'classes are 0 to {num_classes - 1}, and {ignore_index} is ignored'
    )


def has_class(mask: np.ndarray, ignore_index: int) -> bool:
    """Whether a mask ``(H, W)`` has a pixel that teaches something."""
    return bool(np.setdiff1d(_present(mask), [ignore_index, 255]).size)


def _present(mask: np.ndarray) -> np.ndarray:
    """Values of a mask; bytes are counted, which is faster than to sort them."""
    if mask.dtype == np.uint8:
        return np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return np.unique(mask)


def _values(pixels: np.ndarray) -> str:
    """The first values of a mask, or colours, and how many there are."""
    if pixels.ndim == 2:
        return first_few(_present(pixels).tolist(), _SHOWN)
    colours = np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)
    return first_few([tuple(colour) for colour in colours.tolist()], _SHOWN)


def _name(results: dict) -> str:
    """The sample's image, or its number where it has no file."""
    path = results.get('img_path')
    return f'image {path}' if path else f'sample {results.get("sample_idx")}'


def _checked_size(path: Path, kind: str) -> tuple[int, int] | None:
    """Width and height; None if only the host's own loader knows the format.

    Raises:
        OSError, SyntaxError, ValueError: the file is missing or damaged, or cannot be
            a mask.
    """
    if not path.is_file():
        raise OSError('there is no such file')
    if path.stat().st_size == 0:
        raise OSError('the file is empty')
    try:
        with Image.open(path) as image:
            if kind == 'mask':
                _check_mask(image)
            if not _ends_well(path, image.format):
                image.draft(image.mode, (1, 1))  # decodes JPEG faster
                image.load()
            return image.size
    except UnidentifiedImageError:
        if path.suffix.lower() in Image.registered_extensions():
            raise OSError(f'it is no {path.suffix} file') from None
        return None
    except Image.DecompressionBombError:  # large, which is no damage
        return None


def _check_mask(image: Image.Image) -> None:
    """Refuse what cannot hold the number of a class in every pixel.

    Raises:
        OSError: names the values.
    """
    if image.format in ('JPEG', 'MPO'):
        raise OSError(
            f'it is a JPEG file, which blurs the numbers of the classes: it has the '
            f'values {_values(np.asarray(image))}; write masks as PNG'
        )
    if image.mode in _DEEP:
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 255:
            raise OSError(
                f'it has the values {_values(pixels)}, of which the lowest 8 bits '
                'would be read; write classes as 0 to 255'
            )


def _ends_well(path: Path, kind: str | None) -> bool:
    ending = _ENDINGS.get(kind or '', b'')
    with path.open('rb') as file:
        file.seek(-min(len(ending), path.stat().st_size), 2)
        return file.read() == ending


def _box_damage(box: Any) -> str | None:
    """Damage of a box as left, top, right, bottom; None if there is none, or no box."""
    if box is None:
        return None
    values = [float(value) for value in box]
    if len(values) != 4 or not all(map(math.isfinite, values)):
        return f'its box {values} is not four finite numbers'
    if values[2] < values[0] or values[3] < values[1]:
        return f'its box {values} ends before it begins'
    return None
