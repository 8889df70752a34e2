"""Annotation files of COCO's format: damage, names of classes, what is used of them."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from aib_mm.errors import DataError
from aib_mm.training.coco import check_coco, coco_problems
from aib_mm.training.start import check_training_data


def coco(**changes: Any) -> dict:
    """One image and two annotations of it, the second with changes (None removes)."""
    annotation = dict(id=5, image_id=1, category_id=3, bbox=[1, 1, 4, 4], area=16)
    annotation.update(changes)
    present = {key: value for key, value in annotation.items() if value is not None}
    good = dict(id=4, image_id=1, category_id=3, bbox=[0, 0, 2, 2], area=4)
    return dict(
        images=[dict(id=1, file_name='a.jpg', width=10, height=10)],
        categories=[dict(id=3, name='cat')],
        annotations=[good, present],
    )


@pytest.mark.parametrize(
    ('change', 'damage', 'is_readable'),
    [
        (dict(image_id=9), 'id 5: image_id 9 is not in images', True),
        (dict(category_id=8), 'id 5: category_id 8 is not in categories', True),
        (dict(bbox=[1, 2, math.nan, 3]), 'id 5: bbox [1, 2, nan, 3] is not four', True),
        (dict(bbox=[1, 2, -3, 3]), 'id 5: bbox [1, 2, -3, 3] has a negative', True),
        (dict(bbox=None), 'id 5: no bbox', False),
        (dict(area=None), 'id 5: no area', False),
        (dict(area='16'), "id 5: area '16' is no number", False),
        (dict(bbox=[1, 2, 3]), 'id 5: bbox [1, 2, 3] is not four finite', False),
        (dict(bbox=[1, 2, 3, 'x']), "id 5: bbox [1, 2, 3, 'x'] is not", False),
        (dict(image_id=[1]), 'id 5: image_id [1]', False),
        (dict(id=None), 'number 1: no id', False),
        (dict(id=4), 'id 4: not the only one', False),
    ],
)
def test_damaged_annotations(change: dict, damage: str, is_readable: bool) -> None:
    found = coco_problems(coco(**change))
    problems = found.damaged if is_readable else found.unreadable
    assert len(problems) == 1 and problems[0].startswith(f'annotation {damage}')
    assert len(found.damaged) + len(found.unreadable) == 1
    assert found.unused == []


def test_boxes_without_use_are_only_logged(tmp_path: Path) -> None:
    for box in ([1, 1, 0.0, 4], [1, 1, 4, 0.5], [20, 1, 4, 4], [-9, 1, 4, 4]):
        found = coco_problems(coco(bbox=box))
        assert found.unused == [f'annotation id 5: bbox {box}']
        assert found.damaged == found.unreadable == []
    assert coco_problems(coco(iscrowd=1)) == coco_problems(coco())
    (tmp_path / 'a.json').write_text(json.dumps(coco(bbox=[1, 1, 0.0, 4])))
    check_coco(tmp_path / 'a.json', is_coco=True, classes=('cat',))


@pytest.mark.parametrize('content', [[], {}, dict(annotations=[dict(caption='a')])])
def test_other_formats_are_left_alone(content: Any) -> None:
    found = coco_problems(content)
    assert found.unreadable == found.damaged == []
    missing = coco_problems(content, is_coco=True).unreadable
    assert 'no list of images' in missing


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    with pytest.raises(DataError, match=r'a\.json cannot be read: No such file'):
        check_coco(path)
    path.write_text('{"images": [')
    with pytest.raises(DataError, match=r'a\.json is no JSON: Expecting value: line 1'):
        check_coco(path)
    content = coco()
    content['annotations'] = [
        dict(content['annotations'][0], id=number, image_id=9) for number in range(40)
    ]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r'40 entries \(annotation id 0: .*; 20 more\)'):
        check_coco(path)
    check_coco(path, 'skip')


@pytest.mark.parametrize('on_damage', ['stop', 'skip'])
def test_what_mmdet_cannot_read_is_never_passed_over(
    on_damage: str, tmp_path: Path
) -> None:
    content = coco()
    content['images'].append(dict(content['images'][0], file_name='b.jpg'))
    (tmp_path / 'a.json').write_text(json.dumps(content))
    words = r'1 entry \(image id 1: not the only one\) in .*a\.json that mmdet cannot'
    with pytest.raises(DataError, match=words):
        check_coco(tmp_path / 'a.json', on_damage)


def named(folder: Path, *names: str) -> Path:
    content = coco()
    content['categories'] = [dict(id=3 + i, name=n) for i, n in enumerate(names)]
    path = folder / 'a.json'
    path.write_text(json.dumps(content))
    return path


def test_names_that_are_no_class(tmp_path: Path) -> None:
    path = named(tmp_path, 'Cat', 'Dog')
    words = r'names in .*a\.json: Cat, Dog; classes of the data set: cat, dog; set meta'
    for on_damage in ('stop', 'skip'):
        with pytest.raises(DataError, match=words):
            check_coco(path, on_damage, classes=('cat', 'dog'), is_coco=True)
    with pytest.raises(DataError, match=r"one text, 'cat': write .*\('cat',\)"):
        check_coco(path, classes='cat', is_coco=True)


@pytest.mark.parametrize(
    ('names', 'said'),
    [
        (('cat', 'dog'), None),
        (
            ('cat', 'dog', 'owl'),
            '2 of 2 classes are among the names in .*: cat, dog, ow',
        ),
        (('cat', 'Dog'), '1 of 2 classes are among the names in .*: cat, Dog; classes'),
        (('bird', 'dog'), "1 of 2 .*cat, dog; 'dog' gets the label of 'cat'"),
        (
            ('dog', 'cat'),
            "'dog' gets the label of 'cat', 'cat' gets the label of 'dog'",
        ),
    ],
)
def test_names_that_differ(
    names: tuple[str, ...],
    said: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr('aib_mm.training.coco._log', lines.append)
    check_coco(named(tmp_path, *names), classes=('cat', 'dog'), is_coco=True)
    assert len(lines) == (said is not None)
    assert said is None or re.search(said, lines[0]), lines


def test_labels_are_numbered_as_the_warning_says(tmp_path: Path) -> None:
    """By mmdet's own loader."""
    pytest.importorskip('mmdet')
    from mmdet.datasets import CocoDataset

    path = named(tmp_path, 'bird', 'dog')
    content = json.loads(path.read_text())
    for annotation in content['annotations']:
        annotation['category_id'] = 4
    path.write_text(json.dumps(content))
    names = dict(classes=('cat', 'dog'))
    found = CocoDataset(str(path), metainfo=names, data_prefix=dict(img=''))
    assert [one['bbox_label'] for one in found.get_data_info(0)['instances']] == [0, 0]


def test_the_program_checks_annotation_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('mmdet')
    from coco_files import write_coco

    folder = write_coco(tmp_path)
    name = 'annotations/instances_train2017.json'
    dataset = dict(
        type='mmdet.CocoDataset',
        data_root=str(folder),
        ann_file=name,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackDetInputs')],
    )
    cfg = Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=dataset)))
    lines: list[str] = []
    monkeypatch.setattr('aib_mm.training.coco._log', lines.append)
    check_training_data(Config(cfg.to_dict()), 'stop')
    assert lines == []
    content = json.loads((folder / name).read_text())
    content['annotations'][0]['image_id'] = 99
    (folder / name).write_text(json.dumps(content))
    for split in ('train', 'val'):
        damaged = Config({'default_scope': 'mmdet'})
        damaged[f'{split}_dataloader'] = dict(dataset=dataset)
        with pytest.raises(DataError, match=r'1 entry \(annotation id 1: image_id 99'):
            check_training_data(damaged, 'stop')
    check_training_data(Config(cfg.to_dict()), 'skip')
    assert '1 entry' in lines[0]
    cfg.train_dataloader.dataset.metainfo = dict(classes=('cats', 'dogs'))
    with pytest.raises(DataError, match=r'no category of .* is a class'):
        check_training_data(cfg, 'skip')
