"""The data sets of the paper: where they go, and whether they are there and whole."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import load
from mmengine.registry import DATASETS, DefaultScope

from aib_mm.errors import describe
from aib_mm.utils.configs import walk

ROOT = 'data/'  # of every data set, in the shipped configs
_LOADERS = ('train_dataloader', 'test_dataloader')


@dataclass(frozen=True)
class Published:
    """A data set as it was published.

    Attributes:
        title: name for people.
        images: images for training, and those that the paper tests on; None where
            the table does not use them.
        folder: folder below the data root.
        fetch: what to fetch and unpack there.
        summed: whether its loader compares MD5 sums.
    """

    title: str
    images: Sequence[int | None]
    folder: str
    fetch: str
    summed: bool = False


SETS: Mapping[str, Published] = {
    name: Published(**facts)
    for name, facts in load(Path(__file__).with_name('sets.yml')).items()
}


@dataclass(frozen=True)
class Need:
    """Something that a table needs, and whether it is there.

    Attributes:
        title: what it is.
        found: what was found.
        problem: what is wrong with it, and what to do; empty if nothing.
        images: number of training images that were found.
    """

    title: str
    found: str = ''
    problem: str = ''
    images: int = 0

    def line(self) -> str:
        """The need in a line for people."""
        return f'{self.title}: {self.found or "MISSING"}' + (
            f'; {self.problem}' if self.problem else ''
        )


def root_options(cfg: Config, root: str | None) -> list[str]:
    """Options that make a config read its data below ``root`` instead of ``data``."""
    if root is None:
        return []
    return [
        f'{place}={Path(root) / node.removeprefix(ROOT)}'
        for place, node in walk(cfg.to_dict())
        if isinstance(node, str) and node.startswith(ROOT)
    ]


def check_data(name: str, cfg: Config, root: str | None, any_data: bool) -> Need:
    """Read a data set through the config that uses it, and compare it as published.

    Its loader compares the sums where they are published; images are counted, and
    where they are files, each must be there.

    Args:
        name: name in ``SETS``.
        cfg: config of a run.
        root: folder of all data sets; None for ``data``.
        any_data: accept other numbers of images.
    """
    published = SETS[name]
    folder = Path(root or ROOT) / published.folder
    wanted = [count for count in published.images if count is not None]
    loaders = _LOADERS[-len(wanted) :]
    remedy = f'fetch {published.fetch} and unpack it in {folder}'
    try:
        read = [_read(cfg, loader, published.summed) for loader in loaders]
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        text = f'{remedy} (its loader says: {describe(error).partition(": ")[2]})'
        return Need(published.title, problem=text)
    counts = [len(each) for each in read]
    found = f'{" + ".join(f"{count:,}" for count in counts)} images in {folder}'
    images = counts[0] if len(counts) > 1 else 0
    lost = next(_lost(read), None)
    if lost is not None:
        return Need(published.title, found, f'{lost} does not exist; {remedy}')
    if counts != wanted and not any_data:
        text = ' + '.join(f'{count:,}' for count in wanted)
        problem = f'{text} were published; {remedy}, or pass --any-data'
        return Need(published.title, found, problem)
    if counts != wanted:
        return Need(published.title, f'{found}, NOT the published set', images=images)
    verified = 'MD5 sums compared' if published.summed else 'counted, files there'
    return Need(published.title, f'{found}, {verified}', images=images)


def _read(cfg: Config, loader: str, summed: bool) -> BaseDataset:
    """The data set of a loader with all images, never downloaded."""
    settings: dict[str, Any] = deepcopy(cfg[loader].dataset.to_dict())
    # COCO's training leaves images without boxes out.
    settings.pop('filter_cfg', None)
    if summed:
        settings['download'] = False
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(settings)
    dataset.full_init()
    return dataset


def _lost(datasets: Iterable[BaseDataset]) -> Iterator[str]:
    """Files of images and masks that are not there."""
    for dataset in datasets:
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            for path in (info.get('img_path'), info.get('seg_map_path')):
                if path is not None and not Path(path).is_file():
                    yield path
