"""What every test may use: the repository, seeds, a host's scope, devices."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
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
    parser.addoption(
        '--done',
        type=Path,
        metavar='FILE',
        help='note in FILE what passed, and leave out what is noted there',
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` means: a worker a core, where each has 3 GiB."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, psutil.virtual_memory().available // (3 << 30)))


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
    if done := config.getoption('--done'):
        config.pluginmanager.register(DoneTests(done))
    if workers := os.environ.get('PYTEST_XDIST_WORKER_COUNT'):
        threads = max(1, len(os.sched_getaffinity(0)) // int(workers))
        # For the commands that tests start, and for this process, which has torch.
        torch.set_num_threads(
            int(os.environ.setdefault('OMP_NUM_THREADS', str(threads)))
        )
    if config.getoption('--require-hosts'):
        require_hosts()


def require_hosts() -> None:
    """Tests of a host that is missing are skipped, which CI must not take for green."""
    states = hosts.register_hosts().values()
    missing = [
        f'{each.host} ({each.state})' for each in states if each.state != 'registered'
    ]
    if missing:
        raise pytest.UsageError(
            f'--require-hosts: {", ".join(missing)}: set the environment up with '
            'make setup'
        )


class DoneTests:
    """The tests that passed, a line each in a file; the next run goes on after them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.before = set(file.read_text().splitlines() if file.exists() else ())
        self.passed: set[str] = set()

    def pytest_report_header(self) -> str:
        return f'passed before: {len(self.before)} tests of {self.file}'

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        done = [item for item in items if item.nodeid in self.before]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item.nodeid not in self.before]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test after its teardown, once: xdist's workers report too."""
        if report.when == 'call' and report.passed:
            self.passed.add(report.nodeid)
        elif (
            report.when == 'teardown'
            and report.passed
            and report.nodeid in self.passed
            and 'PYTEST_XDIST_WORKER' not in os.environ
        ):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open('a') as file:
                file.write(f'{report.nodeid}\n')

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Nothing left to run is a success."""
        if self.before and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK


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
