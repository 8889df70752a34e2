"""Finds the host toolboxes, registers aib_mm's part for each, and knows their versions.

An absent host is skipped in silence. One that is installed and broken gives one warning
with the real error, and the others still register.
"""

import importlib
import importlib.metadata
import importlib.util
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mmengine.config import Config

#: Host package -> the folder of aib_mm that may import it.
HOST_PARTS = MappingProxyType(
    {
        'mmpretrain': 'aib_mm.classification',
        'mmdet': 'aib_mm.detection',
        'mmseg': 'aib_mm.segmentation',
    }
)


@dataclass(frozen=True)
class HostState:
    """What became of one host.

    ``error`` is set for a broken host only: the exception that importing the host or
    aib_mm's part for it raised.
    """

    host: str
    part: str
    state: Literal['registered', 'absent', 'broken']
    error: Exception | None = None


@dataclass(frozen=True)
class Requirement:
    """A package of the stack and what it was tested with.

    ``distributions`` are the names it is installed under, ``upstream`` and ``onedl``
    the tested versions (the same where both families share the package).
    """

    module: str
    distributions: tuple[str, ...]
    upstream: str
    onedl: str


@dataclass(frozen=True)
class VersionCheck:
    """A requirement beside what is installed; ``found`` is None when nothing is."""

    requirement: Requirement
    distribution: str | None
    found: str | None

    @property
    def is_onedl(self) -> bool:
        """Whether the OneDL family's distribution is installed."""
        return (self.distribution or '').startswith('onedl')

    @property
    def tested(self) -> str:
        """The tested version of the family that the distribution belongs to."""
        return self.requirement.onedl if self.is_onedl else self.requirement.upstream

    @property
    def inside(self) -> bool:
        """Whether nothing is installed or the tested release line (``major.minor``)."""
        return self.found is None or _line(self.found) == _line(self.tested)


REQUIREMENTS = (
    Requirement('torch', ('torch',), '2.11.0', '2.11.0'),
    Requirement('torchvision', ('torchvision',), '0.26.0', '0.26.0'),
    Requirement('mmengine', ('mmengine', 'onedl-mmengine'), '0.10.7', '0.10.12'),
    Requirement('mmcv', ('mmcv', 'mmcv-lite', 'onedl-mmcv'), '2.1.0', '2.3.6'),
    Requirement('mmdet', ('mmdet', 'onedl-mmdetection'), '3.3.0', '3.5.1'),
    Requirement('mmseg', ('mmsegmentation', 'onedl-mmsegmentation'), '1.2.2', '1.4.2'),
    Requirement('mmpretrain', ('mmpretrain', 'onedl-mmpretrain'), '1.2.0', '1.3.6'),
)

_states: dict[str, HostState] = {}


def register_hosts(hosts: Iterable[str] | None = None) -> dict[str, HostState]:
    """Register aib_mm's part for every installed host, or for these; each once.

    Returns:
        The state of each host that was ever asked for, by host name.

    Warns:
        UserWarning: for each broken host, with its error; and once for all packages
            whose version is outside the tested release lines.
    """
    checks = [] if _states else check_versions()  # said once
    outside = [check for check in checks if not check.inside]
    if outside:
        listed = ', '.join(
            f'{check.distribution} {check.found} (tested: {check.tested})'
            for check in outside
        )
        warnings.warn(
            f'aib_mm was not tested with {listed}. It may work; requirements/ has the '
            'tested versions.',
            UserWarning,
            stacklevel=2,
        )
    for host in HOST_PARTS if hosts is None else hosts:
        if host not in _states:
            _states[host] = _register(host, HOST_PARTS[host])
    return status()


def config_path(config: str | Path) -> Path:
    """Path of a config; a host's is written ``'mmpretrain::FOLDER/FILE.py'``.

    Nothing is imported, and nothing installed.

    Raises:
        FileNotFoundError: no such host is installed, or it has no such config.
    """
    host, colons, inside = str(config).partition('::')
    if not colons:
        return Path(config)
    if host not in HOST_PARTS or not is_installed(host):
        hosts = ', '.join(name for name in HOST_PARTS if is_installed(name))
        raise FileNotFoundError(
            f'{config} names a config of {host!r}; installed are {hosts or "no hosts"}'
        )
    spec = importlib.util.find_spec(host)
    assert spec is not None
    folders = [Path(at) for at in spec.submodule_search_locations or ()]
    # Beside the package where it is installed in place.
    tried = [folder / '.mim' / 'configs' for folder in folders]
    tried += [folder.parent / 'configs' for folder in folders]
    for folder in tried:
        if (folder / inside).is_file():
            return folder / inside
    raise FileNotFoundError(f'{host} has no config {inside!r} (looked in {tried[0]})')


def named_by(cfg: 'Config') -> list[str]:
    """The hosts that a config needs: its default scope, and scopes as in ``mmdet.X``.

    All hosts without a known default scope, and where a type begins with ``aib_mm.``,
    which leaves open whose part it is.
    """
    text = repr(cfg)
    scope = cfg.get('default_scope')
    if scope not in HOST_PARTS or "'type': 'aib_mm." in text:
        return list(HOST_PARTS)
    return [host for host in HOST_PARTS if host == scope or f"'{host}." in text]


def status() -> dict[str, HostState]:
    """The state of each host that was asked for, as registering it left it, by name."""
    return dict(_states)


def is_installed(package: str) -> bool:
    """Whether ``import package`` would find a real package, without importing it.

    A folder that merely has the name (a namespace package) does not count.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # ValueError: a stand-in module without a spec
        return False
    return spec is not None and spec.origin is not None


def check_versions() -> list[VersionCheck]:
    """Installed and tested version of every package of the stack, imports nothing."""
    return [_check(requirement) for requirement in REQUIREMENTS]


def mixed_families() -> list[str]:
    """Import names that two installed distributions both claim, as ``a + b``."""
    claims = (
        [name for name in requirement.distributions if _version_of(name)]
        for requirement in REQUIREMENTS
    )
    return [' + '.join(names) for names in claims if len(names) > 1]


def _register(host: str, part: str) -> HostState:
    if not is_installed(host):
        return HostState(host, part, 'absent')
    try:
        importlib.import_module(host)
        importlib.import_module(part)
    except Exception as error:  # whatever a foreign import raises is the user's to see
        warnings.warn(
            f'{host} is installed but cannot be used, so {part} is not registered: '
            f'{type(error).__name__}: {error}. The other hosts are not affected; '
            "'python -m aib_mm doctor' shows the state of each.",
            UserWarning,
            stacklevel=3,
        )
        return HostState(host, part, 'broken', error)
    return HostState(host, part, 'registered')


def _check(requirement: Requirement) -> VersionCheck:
    for name in requirement.distributions:
        found = _version_of(name)
        if found and is_installed(requirement.module):
            return VersionCheck(requirement, name, found)
    return VersionCheck(requirement, None, None)


def _version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _line(version: str) -> str:
    """``major.minor`` of a version."""
    match = re.match(r'\d+\.\d+', version)
    return match.group() if match else version
