"""What every test may use: the repository, seeds, a host's scope, devices."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from noise_replay import Noise

from aib_mm import gaussian, hosts

REPO = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--runslow', action='store_true', help='also run slow tests')
    parser.addoption(
        '--require-hosts',
        action='store_true',
        help='fail where mmpretrain, mmdet or mmseg is missing, instead of skipping',
    )


def pytest_report_header() -> str:
    """The stack that is tested, on top of every report."""
    found = (
        f'{check.distribution} {check.found}'
        if check.found
        else f'no {check.requirement.module}'
        for check in hosts.check_versions()
    )
    return f'stack: {", ".join(found)}'


def pytest_configure(config: pytest.Config) -> None:
    """Tests of a host that is missing are skipped, which CI must not take for green."""
    if not config.getoption('--require-hosts'):
        return
    states = hosts.register_hosts().values()
    missing = [
        f'{each.host} ({each.state})' for each in states if each.state != 'registered'
    ]
    if missing:
        raise pytest.UsageError(
            f'--require-hosts: {", ".join(missing)}: set the environment up with '
            'make setup'
        )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if config.getoption('--runslow'):
        return
    skip = pytest.mark.skip(reason='slow: run with --runslow')
    for item in items:
        if 'slow' in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope='session')
def repo() -> Path:
    """The root of the repository."""
    return REPO


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _loggers_outlive_the_test() -> Iterator[None]:
    """mmengine keeps its loggers, which write to what pytest captured in one test."""
    yield
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.stream = sys.__stdout__  # the old one may be closed


@pytest.fixture
def mmpretrain_scope() -> Iterator[None]:
    """Build by config as mmpretrain's Runner would."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture
def mmseg_scope() -> Iterator[None]:
    """Build by config as mmseg's Runner would."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Noise:
    """Records what is drawn from Gaussians, and replays it sample by sample."""
    found = Noise()
    monkeypatch.setattr(gaussian, 'sample', found.sample)
    return found


@pytest.fixture(
    params=[
        'cpu',
        pytest.param(
            'cuda',
            marks=pytest.mark.skipif(
                not torch.cuda.is_available(), reason='no GPU on this machine'
            ),
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> str:
    """Each device of this machine."""
    return request.param
