"""Damaged images and annotations: found, named, and skipped only where asked for.

What the hosts do with them depends on the library that decodes and on the data set: an
error without a name, another random sample instead, or a picture that is half grey.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS
from PIL import Image, UnidentifiedImageError

from aib_mm.errors import DataError, choose

ON_DAMAGE = ('stop', 'skip')
#: How a complete file of a format ends. Files that end otherwise are decoded.
_ENDINGS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82'}
_NAMED = 20  # damaged annotations listed one by one


@TRANSFORMS.register_module()
class CheckSample:
    """Check the files and boxes of a sample; the first transform of a pipeline.

    Image and mask exist, are complete, and are of one size; boxes are four finite
    numbers in order. It looks at headers and ends of files, and changes nothing.

    Args:
        on_damage: ``'stop'`` raises an error that names file and cause; ``'skip'`` logs
            both and counts, and the data set takes another random sample instead.

    Raises:
        DataError: a damaged sample, with ``on_damage='stop'``.
    """

    def __init__(self, on_damage: str = 'stop') -> None:
        choose('on_damage', on_damage, ON_DAMAGE)
        self.on_damage = on_damage
        self._skipped: set[str] = set()

    def __call__(self, results: dict) -> dict | None:
        damage = damage_of(results)
        if damage is None:
            return results
        if self.on_damage == 'stop':
            raise DataError(
                f"{damage}; mend or remove it, or pass it over with on_damage='skip' "
                'of CheckSample (--check-data skip)'
            )
        if damage not in self._skipped:
            self._skipped.add(damage)
            number = f'{len(self._skipped)} of this process'
            _log(f'CheckSample: skipped damaged sample {number}: {damage}')
        return None

    def __repr__(self) -> str:
        return f'{type(self).__name__}(on_damage={self.on_damage!r})'


def damage_of(results: dict) -> str | None:
    """What is wrong with a sample, given as its data set describes it; None if nothing.

    Args:
        results: ``img_path``, ``seg_map_path`` and ``instances`` count, each if there.
    """
    sizes = []
    for kind, key in (('image', 'img_path'), ('mask', 'seg_map_path')):
        path = results.get(key)
        if path is not None and '://' not in str(path):
            try:
                sizes.append(_checked_size(Path(path)))
            except (OSError, SyntaxError) as error:  # PIL's, for files cut short too
                return f'{kind} {path} is damaged: {error}'
    # A camera's rotation may be in the image's header alone.
    known = [size for size in sizes if size is not None]
    if len({tuple(sorted(size)) for size in known}) > 1:
        image, mask = known
        return (
            f'mask {results["seg_map_path"]} is {mask[0]}x{mask[1]}, its image '
            f'{results["img_path"]} {image[0]}x{image[1]}'
        )
    for number, instance in enumerate(results.get('instances') or []):
        cause = _box_damage(instance.get('bbox'))
        if cause:
            image = results.get('img_path', f'sample {results.get("sample_idx")}')
            return f'annotation {number} of image {image}: {cause}'
    return None


def _checked_size(path: Path) -> tuple[int, int] | None:
    """Width and height; None if only the host's own loader knows the format.

    Raises:
        OSError, SyntaxError: the file is missing or damaged.
    """
    if not path.is_file():
        raise OSError('there is no such file')
    if path.stat().st_size == 0:
        raise OSError('the file is empty')
    try:
        with Image.open(path) as image:
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


def _ends_well(path: Path, kind: str | None) -> bool:
    ending = _ENDINGS.get(kind or '')
    if ending is None:
        return True
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


def check_coco(path: str | Path, on_damage: str = 'stop') -> None:
    """Check an annotation file, in full where it has COCO's format.

    mmdet stops without a name at an annotation that it cannot read, and leaves out
    without a word what it cannot use. Boxes that are only thinner than a pixel or
    outside their image are logged: published sets have some.

    Args:
        path: a JSON file.
        on_damage: ``'stop'``; with ``'skip'`` damage is logged only.

    Raises:
        DataError: the file is missing or no JSON, or annotations are damaged.
    """
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise DataError(
            f'annotation file {path} cannot be read: {error.strerror}'
        ) from error
    except ValueError as error:  # no JSON, or no text
        raise DataError(f'annotation file {path} is no JSON: {error}') from error
    damaged, unused = coco_problems(content)
    if unused:
        _log(f'{_listed(unused)} in {path} that mmdet leaves out')
    if damaged and on_damage == 'stop':
        raise DataError(f'{_listed(damaged)} damaged in {path}; mend or remove them')
    if damaged:
        _log(f'{_listed(damaged)} damaged in {path}')


def _listed(problems: list[str]) -> str:
    """Count of the problems, and the first few."""
    more = len(problems) - _NAMED
    rest = [f'{more} more'] if more > 0 else []
    named = '; '.join([*problems[:_NAMED], *rest])
    return f'{len(problems)} annotation{"s" * (len(problems) > 1)} ({named})'


def _log(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)


def coco_problems(content: Any) -> tuple[list[str], list[str]]:
    """Annotations of a file in COCO's format: damaged ones, and ones without use.

    Both by id with the cause; empty for another format, such as captions.
    """
    damaged: list[str] = []
    unused: list[str] = []
    annotations = content.get('annotations', []) if isinstance(content, dict) else []
    if not any('bbox' in annotation for annotation in annotations):
        return damaged, unused
    images = {image['id']: image for image in content.get('images', [])}
    categories = {category['id'] for category in content.get('categories', [])}
    for number, annotation in enumerate(annotations):
        name = f'id {annotation["id"]}' if 'id' in annotation else f'number {number}'
        image = images.get(annotation.get('image_id'))
        damage = _coco_damage(annotation, image, categories)
        if damage:
            damaged.append(f'{name}: {damage}')
        elif image is not None and _is_unused(annotation['bbox'], image):
            unused.append(f'{name}: bbox {annotation["bbox"]}')
    return damaged, unused


def _coco_damage(annotation: dict, image: dict | None, categories: set) -> str | None:
    for key in ('image_id', 'category_id', 'bbox', 'area'):
        if key not in annotation:
            return f'no {key}'
    if image is None:
        return f'image_id {annotation["image_id"]} is not in images'
    if annotation['category_id'] not in categories:
        return f'category_id {annotation["category_id"]} is not in categories'
    box = annotation['bbox']
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return f'bbox {box} is not four finite numbers'
    if box[2] < 0 or box[3] < 0:
        return f'bbox {box} has a negative width or height'
    return None


def _is_unused(box: list[float], image: dict) -> bool:
    left, top, width, height = box
    inside = (
        left < image.get('width', math.inf)
        and top < image.get('height', math.inf)
        and left + width > 0
        and top + height > 0
    )
    return width < 1 or height < 1 or not inside


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
