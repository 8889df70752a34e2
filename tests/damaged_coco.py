"""Ways to damage the annotation file of COCO of ``damaged_sets``."""

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from damaged_files import BROKEN, Damage

ANNOTATIONS = 'annotations.json'


def edit(root: Path, change: Callable[[dict], Any]) -> None:
    content = json.loads((root / ANNOTATIONS).read_text())
    change(content)
    (root / ANNOTATIONS).write_text(json.dumps(content))


def _entries() -> Iterator[tuple[str, Callable[[dict], Any], tuple[str, ...], bool]]:
    """Missing, null and of another type: every key that mmdet reads."""
    keys = dict(
        images=('id', 'file_name', 'width', 'height'),
        annotations=('id', 'image_id', 'category_id', 'bbox', 'area'),
        categories=('id', 'name'),
    )
    kinds = dict(images='image', annotations='annotation', categories='category')
    for name, of_entry in keys.items():
        place = 1 if name == 'categories' else 3
        for key in of_entry:
            named = (ANNOTATIONS, kinds[name], key)

            def removed(content: dict, name=name, key=key, place=place) -> None:
                del content[name][place][key]

            yield f'{name}: no {key}', removed, named, True
            for kind, value in (('null', None), ('a list', [[1]]), ('a dict', {})):

                def set_to(content: dict, name=name, key=key, place=place, v=value):
                    content[name][place][key] = v

                yield f'{name}: {key} {kind}', set_to, named, True
        for kind, value in (('null', None), ('a number', 7), ('a list', [])):

            def replaced(content: dict, name=name, place=place, v=value) -> None:
                content[name][place] = v

            yield f'{name}: an entry {kind}', replaced, (ANNOTATIONS, 'no dict'), True

            def whole(content: dict, name=name, v=value) -> None:
                content[name] = v

            if kind != 'a list':
                yield f'{name} {kind}', whole, (ANNOTATIONS, f'no list of {name}'), True

        def gone(content: dict, name=name) -> None:
            del content[name]

        def emptied(content: dict, name=name) -> None:
            content[name] = []

        yield f'{name} missing', gone, (ANNOTATIONS, f'no list of {name}'), True
        yield f'{name} empty', emptied, (), True

        def doubled(content: dict, name=name, place=place) -> None:
            content[name].append(dict(content[name][place]))

        yield f'{name}: one twice', doubled, (ANNOTATIONS, 'not the only one'), True


def merge(content: dict) -> None:
    """Two files joined whose images have the same ids."""
    more = [
        dict(one, file_name=f'../images/{one["file_name"]}')
        for one in content['images']
    ]
    content['images'] += more


def rename(content: dict, names: tuple[str, ...]) -> None:
    for category, name in zip(content['categories'], names, strict=False):
        category['name'] = name


def _set(name: str, place: int, key: str, value: Any) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        content[name][place][key] = value

    return change


def _all(name: str, key: str, value: Any) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for one in content[name]:
            one[key] = value

    return change


_BOX = partial(_set, 'annotations', 3, 'bbox')


#: Name, change, words, whether it stops also where damage is passed over.
COCO: list[tuple[str, Callable[[dict], Any], tuple[str, ...], bool]] = [
    *_entries(),
    ('merged files', merge, (ANNOTATIONS, 'image id 0: not the only one'), True),
    (
        'two images of one file',
        _set('images', 3, 'file_name', '2.jpg'),
        ('image id 3', '2.jpg is that of image id 2'),
        False,
    ),
    (
        'a box of an unknown image',
        _set('annotations', 3, 'image_id', 99),
        ('99',),
        False,
    ),
    ('an image id as text', _set('annotations', 3, 'image_id', '1'), ("'1'",), False),
    (
        'a box of an unknown category',
        _set('annotations', 3, 'category_id', 99),
        ('category_id 99',),
        False,
    ),
    ('a box of three numbers', _BOX([1, 2, 3]), ('[1, 2, 3]',), True),
    ('a box of text', _BOX(['1', '2', '3', '4']), ("['1',",), True),
    ('a box with null', _BOX([1, 2, None, 4]), ('None',), True),
    ('a negative box', _BOX([9, 9, -5, 5]), ('negative',), False),
    ('a box of NaN', _BOX([1, 2, math.nan, 4]), ('nan',), False),
    ('an infinite box', _BOX([1, 2, math.inf, 4]), ('inf',), False),
    ('a box outside', _BOX([100, 100, 5, 5]), (), False),
    ('a box without area', _BOX([5, 5, 0, 9]), (), False),
    ('an area of 0', _set('annotations', 3, 'area', 0), (), False),
    ('a crowd', _set('annotations', 3, 'iscrowd', 1), (), False),
    ('numbers as fractions', _set('annotations', 3, 'area', 360.5), (), False),
    ('one name twice', _set('categories', 1, 'name', 'cat'), ("'cat'",), True),
    (
        'all names others',
        partial(rename, names=('a', 'b', 'c')),
        ('a, b, c', 'cat'),
        True,
    ),
    (
        'names in capitals',
        partial(rename, names=('CAT', 'DOG', 'OWL')),
        ('CAT, DOG, OWL', 'cat, dog, owl'),
        True,
    ),
    ('one name another', partial(rename, names=('bat',)), (), False),
    ('two names exchanged', partial(rename, names=('dog', 'cat')), (), False),
    ('nothing but crowds', _all('annotations', 'iscrowd', 1), ('box',), True),
    (
        'nothing but boxes outside',
        _all('annotations', 'bbox', [99, 99, 9, 9]),
        ('box',),
        True,
    ),
    ('nothing but areas of 0', _all('annotations', 'area', 0), ('box',), True),
    (
        'all boxes of unknown images',
        _all('annotations', 'image_id', 99),
        ('image_id 99',),
        True,
    ),
    (
        'images of another folder',
        _all('images', 'file_name', 'x.jpg'),
        ('x.jpg',),
        True,
    ),
    (
        'sizes of another set',
        _all('images', 'width', 640),
        ('40x32', '640x32'),
        True,
    ),
    ('one size of another set', _set('images', 3, 'height', 480), ('40x480',), False),
]


COCO_FILES: dict[str, tuple[Damage, tuple[str, ...]]] = {
    name: (damage, (ANNOTATIONS,))
    for name, damage in {
        **BROKEN,
        'in UTF-16': lambda path: (
            path.write_text(path.read_text(), encoding='utf-16') and None
        ),
        'a list': lambda path: path.write_text('[]') and None,
        'null': lambda path: path.write_text('null') and None,
        'a text': lambda path: path.write_text('"COCO"') and None,
        'nothing in it': lambda path: path.write_text('{}') and None,
    }.items()
    if name != 'noise at its start'
}
