"""Annotation files in COCO's format: what is damaged, and which names the classes have.

mmdet stops without a name at what it cannot read, leaves out without a word what it
cannot use, and trains on nothing where no category has the name of a class.
"""

import json
import logging
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from aib_mm.errors import DataError, first_few

_NAMED = 20  # entries listed one by one
_LISTS = ('images', 'annotations', 'categories')


@dataclass(frozen=True)
class CocoProblems:
    """Entries of an annotation file, each by kind and id with the cause.

    Attributes:
        unreadable: entries that mmdet cannot read, so that none can be passed over.
        damaged: entries that it leaves out, or puts where they do not belong.
        unused: boxes that are thinner than a pixel or outside their image, which it
            leaves out too; published sets have some.
    """

    unreadable: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def check_coco(
    path: str | Path,
    on_damage: str = 'stop',
    *,
    classes: Sequence[str] | None = None,
    is_coco: bool = False,
) -> None:
    """Check an annotation file, in full where it has COCO's format.

    Args:
        path: a JSON file.
        on_damage: ``'stop'``; with ``'skip'`` what mmdet can leave out is logged only.
        classes: names of the classes that the data set has; None compares none.
        is_coco: whether mmdet's ``CocoDataset`` reads the file, so that it must have
            COCO's format; otherwise a file of another format is left alone.

    Raises:
        DataError: the file is missing or no JSON, entries are damaged, or no category
            has the name of a class.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        raise DataError(
            f'annotation file {path} cannot be read: {error.strerror}; check ann_file '
            'and data_root'
        ) from error
    except (ValueError, RecursionError) as error:  # no JSON, or no text
        raise DataError(
            f'annotation file {path} is no JSON: {error}; copy or make it again'
        ) from error
    found = coco_problems(content, is_coco)
    if found.unreadable:
        raise DataError(
            f'{_listed(found.unreadable)} in {path} that mmdet cannot read; mend or '
            'remove them'
        )
    if found.unused:
        _log(f'{_listed(found.unused)} in {path} that mmdet leaves out')
    if found.damaged and on_damage == 'stop':
        raise DataError(
            f'{_listed(found.damaged)} damaged in {path}; mend or remove them'
        )
    if found.damaged:
        _log(f'{_listed(found.damaged)} damaged in {path}')
    if is_coco and classes is not None:
        _check_names(path, [one['name'] for one in content['categories']], classes)


def coco_problems(content: Any, is_coco: bool = False) -> CocoProblems:
    """The damaged entries of a file's content, see ``check_coco``.

    Nothing where another format, such as one of captions, is allowed and is there.
    """
    found = CocoProblems()
    if not is_coco and not _has_boxes(content):
        return found
    lists = content if isinstance(content, dict) else {}
    for name in _LISTS:
        if not isinstance(lists.get(name), list):
            found.unreadable.append(f'no list of {name}')
    if found.unreadable:
        return found
    images = _by_id('image', lists['images'], found)
    categories = _by_id('category', lists['categories'], found)
    annotations = _by_id('annotation', lists['annotations'], found)
    if is_coco:
        _check_images(images, found)
        _check_categories(categories, found)
    for key, annotation in annotations.items():
        _check_annotation(f'annotation id {key}', annotation, images, categories, found)
    return found


def _has_boxes(content: Any) -> bool:
    annotations = content.get('annotations') if isinstance(content, dict) else None
    return isinstance(annotations, list) and any(
        isinstance(one, dict) and 'bbox' in one for one in annotations
    )


def _by_id(kind: str, entries: list, found: CocoProblems) -> dict[Hashable, dict]:
    """Entries by their id; the others, and all but the first of an id, are named."""
    by_id: dict[Hashable, dict] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            found.unreadable.append(f'{kind} number {number}: {entry!r:.60} is no dict')
        elif not _is_id(entry.get('id')):
            cause = f'id {entry["id"]!r:.60}' if 'id' in entry else 'no id'
            found.unreadable.append(f'{kind} number {number}: {cause}')
        elif entry['id'] in by_id:
            found.unreadable.append(f'{kind} id {entry["id"]}: not the only one')
        else:
            by_id[entry['id']] = entry
    return by_id


def _check_images(images: dict[Hashable, dict], found: CocoProblems) -> None:
    names: dict[str, Hashable] = {}
    for key, image in images.items():
        name = image.get('file_name')
        sides: list[Any] = [image.get('width'), image.get('height')]
        if not isinstance(name, str) or not name:
            found.unreadable.append(f'image id {key}: file_name {name!r:.60}')
        elif not all(_is_number(side) and side > 0 for side in sides):
            found.unreadable.append(f'image id {key}: width and height {sides}')
        elif name in names:
            found.damaged.append(
                f'image id {key}: its file {name} is that of image id {names[name]}'
            )
        else:
            names[name] = key


def _check_categories(categories: dict[Hashable, dict], found: CocoProblems) -> None:
    names: dict[str, Hashable] = {}
    for key, category in categories.items():
        name = category.get('name')
        if not isinstance(name, str):
            found.unreadable.append(f'category id {key}: name {name!r:.60}')
        elif name in names:
            found.unreadable.append(
                f'category id {key}: its name {name!r} is that of id {names[name]}'
            )
        else:
            names[name] = key


def _check_annotation(
    name: str, annotation: dict, images: dict, categories: dict, found: CocoProblems
) -> None:
    """Sort one annotation into what is wrong with it, if anything is."""
    unreadable = next(_unreadable(annotation), None)
    if unreadable:
        found.unreadable.append(f'{name}: {unreadable}')
        return
    box = annotation['bbox']
    image_id, category = annotation['image_id'], annotation['category_id']
    image = images.get(image_id)
    if image is None:
        found.damaged.append(f'{name}: image_id {image_id!r} is not in images')
    elif category not in categories:
        found.damaged.append(f'{name}: category_id {category!r} is not in categories')
    elif not all(map(math.isfinite, box)):
        found.damaged.append(f'{name}: bbox {box} is not four finite numbers')
    elif box[2] < 0 or box[3] < 0:
        found.damaged.append(f'{name}: bbox {box} has a negative width or height')
    elif _is_unused(box, image):
        found.unused.append(f'{name}: bbox {box}')


def _unreadable(annotation: dict) -> Iterator[str]:
    """What mmdet takes from an annotation and cannot."""
    for key in ('image_id', 'category_id', 'bbox', 'area'):
        if key not in annotation:
            yield f'no {key}'
    for key in ('image_id', 'category_id'):
        if not _is_id(annotation.get(key)):
            yield f'{key} {annotation.get(key)!r:.60}'
    box, area = annotation.get('bbox'), annotation.get('area')
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        yield f'bbox {box!r:.60} is not four finite numbers'
    if not _is_number(area):
        yield f'area {area!r:.60} is no number'


def _is_unused(box: list[float], image: dict) -> bool:
    left, top, width, height = box
    sides: list[Any] = [image.get('width'), image.get('height')]
    right, bottom = (side if _is_number(side) else math.inf for side in sides)
    inside = left < right and top < bottom and left + width > 0 and top + height > 0
    return width < 1 or height < 1 or not inside


def _check_names(path: str | Path, names: list[str], classes: Sequence[str]) -> None:
    """Compare the categories' names with the classes; mmdet drops what differs."""
    if isinstance(classes, str):
        raise DataError(
            f'the classes of the data set of {path} are one text, {classes!r}: write '
            f'metainfo=dict(classes=({classes!r},))'
        )
    both = [name for name in names if name in classes]
    differ = (
        f'names in {path}: {first_few(names) or "none"}; classes of the data set: '
        f'{first_few(classes) or "none"}'
    )
    if not both:
        raise DataError(
            f'no category of {path} is a class of the data set, so that no box would '
            f'be used; {differ}; set metainfo=dict(classes=(...)) of the data set to '
            "the file's names, and num_classes of the model to their number"
        )
    # mmdet numbers the classes in the order of the file, without those it lacks.
    moved = [
        f'{found!r} gets the label of {wanted!r}'
        for found, wanted in zip(both, classes, strict=False)
        if found != wanted
    ]
    if moved:
        differ += f'; {first_few(moved)}'
    if set(names) != set(classes) or moved:
        _log(f'{len(both)} of {len(classes)} classes are among the {differ}')


def _listed(problems: list[str]) -> str:
    """Count of the problems, and the first few."""
    more = len(problems) - _NAMED
    rest = [f'{more} more'] if more > 0 else []
    named = '; '.join([*problems[:_NAMED], *rest])
    return f'{len(problems)} {"entry" if len(problems) == 1 else "entries"} ({named})'


def _is_id(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _log(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
