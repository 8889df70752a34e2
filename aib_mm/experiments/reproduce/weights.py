"""The weights that runs start from: whether they are there, and how to make them."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import get_torchvision_models

from aib_mm.experiments.reproduce.data import Need
from aib_mm.utils.configs import type_name, walk
from aib_mm.utils.files import file_sha256

_TORCHVISION = 'torchvision://'
#: The published files end in the first digits of their SHA-256.
_SUM = re.compile(r'-([0-9a-f]{8,64})\.pth?$')
_ZOO = 'https://download.openmmlab.com/mmclassification/v0'
#: Whole networks whose weights are split, by the beginning of the file's name.
_SOURCES = {
    'vgg16': f'{_ZOO}/vgg/vgg16_batch256_imagenet_20210208-db26f1a5.pth',
    'wrn50-2': f'{_ZOO}/wrn/wide-resnet50_3rdparty_8xb32_in1k_20220304-66678344.pth',
}


def check_weights(configs: Iterable[tuple[str, Config]]) -> list[Need]:
    """The weights of all runs, each once.

    Args:
        configs: pairs of a config's path and the config.
    """
    found: dict[str, Need] = {}
    for path, cfg in configs:
        for address in weights_of(cfg):
            if address not in found:
                found[address] = _check(address, path)
    return list(found.values())


def weights_of(cfg: Config) -> Iterator[str]:
    """Addresses and files of the weights that a training of a config loads."""
    if cfg.get('load_from'):
        yield cfg.load_from
    for _, node in walk(cfg.model.to_dict()):
        if type_name(node) == 'Pretrained':
            yield node['checkpoint']
        elif isinstance(node, dict) and isinstance(node.get('pretrained'), str):
            yield node['pretrained']


def _check(address: str, config: str) -> Need:
    url = address
    if address.startswith(_TORCHVISION):
        url = get_torchvision_models()[address.removeprefix(_TORCHVISION)]
    remote = urlparse(url).scheme in ('http', 'https')
    name = Path(urlparse(url).path).name
    # Where mmengine keeps what it fetches.
    path = Path(torch.hub.get_dir(), 'checkpoints', name) if remote else Path(address)
    if not path.is_file():
        if remote:
            text = f'the first run fetches {url}; without network put it at {path}'
            return Need(name, found=text)
        return Need(name, problem=f'{path} does not exist; {_recipe(path, config)}')
    digits = _SUM.search(name)
    if digits is None:
        return Need(name, found=f'{path}, no sum published')
    if file_sha256(path).startswith(digits[1]):
        return Need(name, found=f'{path}, SHA-256 as published')
    problem = f'its SHA-256 does not begin with {digits[1]}; remove it'
    return Need(name, f'{path} is damaged', problem)


def _recipe(path: Path, config: str) -> str:
    for stem, source in _SOURCES.items():
        if path.name.startswith(stem):
            return (
                f'make it: python -m aib_mm.classification.imagenet_weights {source} '
                f'{path} --model {config}'
            )
    return 'docs/segmentation.md, "Pretrained weights", says how to make it'
