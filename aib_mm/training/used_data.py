"""How much data a training uses, said before it begins; none is an error."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from aib_mm.errors import DataError, first_few
from aib_mm.training.damaged_data import CheckSample, has_class

_SETTINGS = ('img_suffix', 'seg_map_suffix', 'extensions', 'filter_cfg', 'split')


@HOOKS.register_module()
class UsedDataHook(Hook):
    """Say before a training how many images and boxes it uses, and stop at none.

    Data sets are counted below those that mix or repeat them, as they are after their
    filter. A warning names the classes without an image or a box.

    Raises:
        DataError: in ``before_train``: a data set is empty, its loader gives no batch,
            it has no box, all pixels of its masks are ignored, or ``CheckSample``
            passes all of it over.
    """

    def before_train(self, runner: Runner) -> None:
        """Count what the training and the validation loop read."""
        loops = dict(train=runner.train_loop, val=runner.val_loop)
        for split, loop in loops.items():
            loader = getattr(loop, 'dataloader', None)
            if loader is None:
                continue
            dataset = loader.dataset
            for leaf in _innermost(dataset):
                _check_set(leaf, f'{split}_dataloader')
            if hasattr(dataset, '__len__') and not len(loader):
                raise DataError(
                    f'{split}_dataloader gives no batch: it has {len(dataset)} images, '
                    f'batch_size={loader.batch_size} and drop_last={loader.drop_last}; '
                    'make batch_size smaller, or set drop_last=False'
                )


def why_empty(dataset: BaseDataset) -> str:
    """Where a data set without a sample looked, with what, and what is there."""
    facts = [f'{described(dataset)} has no sample']
    if dataset.ann_file:
        try:
            seen = f'{len(dataset.load_data_list())} samples before filter_cfg'
        except Exception as error:  # of any host's data set
            seen = f'no list ({type(error).__name__}: {error})'
        facts.append(f'its ann_file {dataset.ann_file} gives {seen}')
    for folder in _folders(dataset):
        if folder.is_dir():
            files = [path for path in folder.rglob('*') if path.is_file()]
            kinds = Counter(path.suffix or 'no suffix' for path in files)
            most = sorted(kinds.items(), key=lambda one: (-one[1], one[0]))[:5]
            listed = ', '.join(f'{n} {kind}' for kind, n in most)
            facts.append(f'folder {folder} has {len(files)} files ({listed or "none"})')
        else:
            facts.append(f'there is no folder {folder}')
    settings = {key: getattr(dataset, key, None) for key in _SETTINGS}
    settings['indices'] = getattr(dataset, '_indices', None)
    named = [f'{k}={v!r}' for k, v in settings.items() if v is not None and v != '']
    classes = dataset.metainfo.get('classes')
    named.append(f'classes={first_few(classes) if classes else classes}')
    return f'{"; ".join(facts)}; it takes {", ".join(named)}'


def _folders(dataset: BaseDataset) -> list[Path]:
    prefixes = dataset.data_prefix
    values = prefixes.values() if isinstance(prefixes, dict) else [prefixes]
    return [Path(value) for value in values if isinstance(value, str) and value]


def _innermost(dataset: Any) -> Iterator[Any]:
    """The data sets that hold samples, below those that mix or repeat them."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner != [None]:
        for one in inner:
            yield from _innermost(one)
    elif isinstance(dataset, BaseDataset):
        dataset.full_init()
        yield dataset


def _check_set(dataset: BaseDataset, place: str) -> None:
    """Log how much a data set has of what, and raise where it has nothing."""
    images, boxes, has_boxes = len(dataset), 0, False
    found: Counter[Any] = Counter()
    for index in range(images):
        sample = dataset.get_data_info(index)
        if sample.get('instances') is not None:
            has_boxes = True
            used = [one for one in sample['instances'] if not one.get('ignore_flag')]
            boxes += len(used)
            found.update(one.get('bbox_label') for one in used)
        elif isinstance(sample.get('gt_label'), int | np.integer):
            found[int(sample['gt_label'])] += 1
    if not images:
        raise DataError(f'{place}: {why_empty(dataset)}')
    count = f'{images} image' + 's' * (images != 1)
    if has_boxes:
        count += f' with {boxes} box' + 'es' * (boxes != 1)
    print_log(f'{place}: {count} in {described(dataset)}', logger='current')
    classes = dataset.metainfo.get('classes') or ()
    if has_boxes and not boxes:
        raise DataError(
            f'{place}: none of the {images} images of {described(dataset)} has a box '
            f'that is used; its classes are {first_few(classes)}: compare them with '
            'those of its annotation file'
        )
    unseen = [name for label, name in enumerate(classes) if not found[label]]
    if found and unseen:
        lacking = f'{"no box" if has_boxes else "no image"} of {first_few(unseen)}'
        print_log(f'{place}: {lacking}', logger='current', level=logging.WARNING)
    _check_samples(dataset, place)


def _check_samples(dataset: BaseDataset, place: str) -> None:
    """Raise unless one sample gets past its check, and teaches something."""
    steps = getattr(dataset.pipeline, 'transforms', None) or [None]
    check = steps[0]
    if not isinstance(check, CheckSample):
        return
    usable = False
    for index in range(len(dataset)):
        sample = check(dataset.get_data_info(index))
        if sample is None:
            continue
        usable, mask = True, sample.get('gt_seg_map')
        if mask is None or has_class(mask, check.ignore_index):
            return
    cause = 'all pixels of their masks are ignored' if usable else 'all are damaged'
    raise DataError(
        f'{place}: none of the {len(dataset)} images of {described(dataset)} can be '
        f'learned from: {cause}'
    )


def described(dataset: BaseDataset) -> str:
    """A data set in words: its class, and where its samples come from."""
    source = dataset.ann_file or ' and '.join(map(str, _folders(dataset)))
    return type(dataset).__name__ + (f' of {source}' if source else '')
