"""Small data sets of four kinds, and more than 200 ways to damage them.

``write_set(kind, root)`` writes a set that is whole; a :class:`Variant` damages it and
knows the words by which the damage is to be named, none where it is harmless.
"""

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from damaged_coco import ANNOTATIONS, COCO, COCO_FILES, edit
from damaged_files import (
    BROKEN,
    GONE,
    HEIGHT,
    MASKS,
    OTHER_IMAGES,
    TURNED,
    WIDTH,
    Damage,
    cut,
    write_mask,
)
from PIL import Image

KINDS = ('coco', 'masks', 'folder', 'list', 'cifar')
CLASSES = ('cat', 'dog', 'owl')
COUNT = 6
#: The image that is damaged, below the set's folder, and its mask.
VICTIMS = dict(
    coco='images/3.jpg',
    masks='images/3.jpg',
    folder='images/dog/3.jpg',
    list='images/3.jpg',
)
MASK = 'labels/3.png'
LIST = 'list.txt'
BATCH = 'cifar-10-batches-py/data_batch_2'


@dataclass(frozen=True)
class Variant:
    """A way to damage a set.

    Attributes:
        kind: one of ``KINDS``.
        name: what is damaged, and how.
        damage: changes the set in a folder.
        named: words that name the damage; none where the set stays whole.
        stops: whether it cannot be passed over.
    """

    kind: str
    name: str
    damage: Damage
    named: tuple[str, ...] = ()
    stops: bool = False

    @property
    def id(self) -> str:
        return f'{self.kind}: {self.name}'


def write_set(kind: str, root: Path) -> None:
    """Write a whole set of so many images below ``root``."""
    rng = np.random.default_rng(0)
    if kind == 'cifar':
        for number in range(1, 6):
            _write_batch(root / f'cifar-10-batches-py/data_batch_{number}', rng)
        _write_batch(root / 'cifar-10-batches-py/test_batch', rng)
        meta = dict(label_names=[f'class {i}' for i in range(10)])
        (root / 'cifar-10-batches-py/batches.meta').write_bytes(pickle.dumps(meta))
        return
    for number in range(COUNT):
        folder = CLASSES[number // 2] if kind == 'folder' else ''
        path = root / 'images' / folder / f'{number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        if kind == 'masks':
            mask = rng.integers(0, len(CLASSES), (HEIGHT, WIDTH), dtype=np.uint8)
            (root / 'labels').mkdir(exist_ok=True)
            Image.fromarray(mask).save(root / 'labels' / f'{number}.png')
    if kind == 'list':
        lines = [f'{number}.jpg {number // 2}' for number in range(COUNT)]
        (root / LIST).write_text('\n'.join(lines) + '\n')
    if kind == 'coco':
        (root / ANNOTATIONS).write_text(json.dumps(_coco()))


def _write_batch(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
    path.write_bytes(pickle.dumps(dict(data=data, labels=[0, 3, 6, 9])))


def _coco() -> dict:
    images = [
        dict(id=n, file_name=f'{n}.jpg', width=WIDTH, height=HEIGHT)
        for n in range(COUNT)
    ]
    boxes = [
        dict(
            id=10 + 2 * n + i,
            image_id=n,
            category_id=1 + (n + i) % 3,
            bbox=[2 + 3 * i, 3, 20, 18],
            area=360,
            iscrowd=0,
        )
        for n in range(COUNT)
        for i in range(2)
    ]
    names = [dict(id=1 + i, name=name) for i, name in enumerate(CLASSES)]
    return dict(images=images, annotations=boxes, categories=names)


# Folders and lists of images.


def empty_out(root: Path) -> None:
    for path in sorted(root.rglob('*.jpg')):
        path.unlink()


def change_suffix(root: Path, suffix: str) -> None:
    for path in sorted((root / 'images').rglob('*.jpg')):
        path.rename(path.with_suffix(suffix))


def all_black(root: Path) -> None:
    for path in (root / 'labels').iterdir():
        write_mask(path, np.full((HEIGHT, WIDTH), 255, np.uint8))


def break_all(root: Path) -> None:
    for path in sorted((root / 'images').rglob('*.jpg')):
        cut(path, 0.5)


def write_line(root: Path, line: str) -> None:
    lines = (root / LIST).read_text().splitlines()
    lines[3] = line
    (root / LIST).write_text('\n'.join(lines) + '\n')


FOLDERS: list[tuple[str, str, Damage, tuple[str, ...]]] = [
    (kind, name, damage, named)
    for kind in ('masks', 'folder')
    for name, damage, named in (
        ('no images', empty_out, ('images', '.jpg')),
        ('names in .gif', partial(change_suffix, suffix='.gif'), ('images', '.gif')),
        (
            'no folder',
            lambda root: shutil.rmtree(root / 'images'),
            ('images',),
        ),
        ('all images damaged', break_all, ('.jpg',)),
    )
] + [
    ('masks', 'nothing but ignored pixels', all_black, ('ignored',)),
    (
        'masks',
        'no folder of masks',
        lambda root: shutil.rmtree(root / 'labels'),
        ('.png',),
    ),
    (
        'masks',
        'names in .jpeg',
        partial(change_suffix, suffix='.jpeg'),
        ('.jpeg', "'.jpg'"),
    ),
    ('folder', 'names in capitals', partial(change_suffix, suffix='.JPG'), ()),
    (
        'folder',
        'a class missing',
        lambda root: shutil.rmtree(root / 'images/owl'),
        ('2', '3'),
    ),
    ('folder', 'a class more', lambda root: (root / 'images/x').mkdir(), ('4', '3')),
    ('folder', 'a text beside', lambda root: (root / 'images/dog/a.txt').touch(), ()),
    ('list', 'no list', lambda root: (root / LIST).unlink(), (LIST,)),
    (
        'list',
        'an empty list',
        lambda root: (root / LIST).write_text('') and None,
        (LIST,),
    ),
    ('list', 'all images damaged', break_all, ('.jpg',)),
]
LINES: list[tuple[str, str, tuple[str, ...], bool]] = [
    ('no label', '3.jpg', ('not enough values',), True),
    ('a label of text', '3.jpg dog', ("'dog'",), True),
    ('a label of null', '3.jpg None', ("'None'",), True),
    ('a label too great', '3.jpg 3', ('3.jpg', 'label 3', 'the 3 classes'), False),
    ('a negative label', '3.jpg -1', ('3.jpg', 'label -1'), False),
    ('a line of nothing', '', ('',), True),
    ('a line twice', '2.jpg 1', (), False),
    ('another image', 'other.jpg 1', ('other.jpg',), False),
    ('an absolute path of nothing', '/nowhere/3.jpg 1', ('/nowhere/3.jpg',), False),
]


# Files of CIFAR.


def edit_batch(root: Path, **changes: Any) -> None:
    content = pickle.loads((root / BATCH).read_bytes())
    for key, value in changes.items():
        content[key] = value(content[key]) if callable(value) else value
    (root / BATCH).write_bytes(pickle.dumps(content))


def drop_key(root: Path, key: str) -> None:
    content = pickle.loads((root / BATCH).read_bytes())
    del content[key]
    (root / BATCH).write_bytes(pickle.dumps(content))


def no_rows(root: Path) -> None:
    for path in (root / BATCH).parent.glob('data_batch_*'):
        path.write_bytes(
            pickle.dumps(dict(data=np.zeros((0, 3072), np.uint8), labels=[]))
        )


CIFAR: list[tuple[str, Damage, tuple[str, ...], bool]] = [
    *(
        (f'a batch {name}', lambda root, d=damage: d(root / BATCH), ('CIFAR10',), True)
        for name, damage in BROKEN.items()
    ),
    ('no labels', partial(drop_key, key='labels'), ('labels',), True),
    ('no data', partial(drop_key, key='data'), ('data',), True),
    ('labels null', partial(edit_batch, labels=None), ('CIFAR10',), True),
    ('data null', partial(edit_batch, data=None), ('CIFAR10',), True),
    (
        'a label too great',
        partial(edit_batch, labels=[0, 3, 10, 9]),
        ('label 10',),
        False,
    ),
    (
        'a negative label',
        partial(edit_batch, labels=[0, -3, 6, 9]),
        ('label -3',),
        False,
    ),
    ('a label of text', partial(edit_batch, labels=[0, 'x', 6, 9]), ("'x'",), True),
    ('a label null', partial(edit_batch, labels=[0, None, 6, 9]), ('CIFAR10',), True),
    (
        'data of another width',
        partial(edit_batch, data=lambda x: x[:, :3000]),
        ('3072',),
        True,
    ),
    ('grey data', partial(edit_batch, data=lambda x: x[:, :1024]), ('1024',), True),
    ('data as text', partial(edit_batch, data='pixels'), ('CIFAR10',), True),
    ('data as a list', partial(edit_batch, data=lambda x: x.tolist()), (), False),
    ('no rows at all', no_rows, ('no sample', 'CIFAR10'), True),
    (
        'a list',
        lambda root: (root / BATCH).write_bytes(pickle.dumps([1])) and None,
        ('CIFAR10',),
        True,
    ),
    (
        'no folder',
        lambda root: shutil.rmtree((root / BATCH).parent),
        ('CIFAR10',),
        True,
    ),
]


def _of_files() -> Iterator[Variant]:
    for kind, victim in VICTIMS.items():
        for name, damage in BROKEN.items():
            gone = kind in ('masks', 'folder') and name in GONE
            yield Variant(
                kind,
                f'image {name}',
                lambda root, v=victim, d=damage: d(root / v),
                () if gone else (victim,),
            )
        for name, damage in OTHER_IMAGES.items():
            yield Variant(
                kind,
                f'image {name}',
                lambda root, v=victim, d=damage: d(root / v),
            )
        for name, damage in TURNED.items():
            yield Variant(
                kind,
                f'image {name}',
                lambda root, v=victim, d=damage: d(root / v),
                (victim, 'EXIF') if kind in ('coco', 'masks') else (),
            )
    for name, damage in BROKEN.items():
        yield Variant(
            'masks', f'mask {name}', lambda root, d=damage: d(root / MASK), (MASK,)
        )
    for name, (damage, named) in MASKS.items():
        words = (MASK, *named) if named else ()
        yield Variant(
            'masks', f'mask {name}', lambda root, d=damage: d(root / MASK), words
        )


def _of_sets() -> Iterator[Variant]:
    for name, change, named, stops in COCO:
        yield Variant('coco', name, partial(edit, change=change), named, stops)
    for name, (damage, named) in COCO_FILES.items():
        yield Variant(
            'coco',
            f'the file {name}',
            lambda root, d=damage: d(root / ANNOTATIONS),
            named,
            True,
        )
    for kind, name, damage, named in FOLDERS:
        yield Variant(kind, name, damage, named, stops=bool(named))
    for name, line, named, stops in LINES:
        yield Variant('list', name, partial(write_line, line=line), named, stops)
    for name, damage, named, stops in CIFAR:
        yield Variant('cifar', name, damage, named, stops)


VARIANTS: tuple[Variant, ...] = (*_of_files(), *_of_sets())
