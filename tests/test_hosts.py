"""Which hosts register, which are skipped, and how a broken one is reported."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import MappingProxyType

import pytest
from mmengine.config import Config

import aib_mm
from aib_mm import hosts

HOSTS = ('mmpretrain', 'mmdet', 'mmseg')

# Imports aib_mm where only the hosts in argv[1:] can be found, and tells what happened.
PROBE = """
import json, sys, warnings

class Hiding:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in HIDDEN: return None
        return self.finder.find_spec(name, path, target)

HIDDEN = {'mmpretrain', 'mmdet', 'mmseg'} - set(sys.argv[1:])
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path
                    if hasattr(finder, 'find_spec')]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import aib_mm
from aib_mm import hosts
try:
    from aib_mm import GaussianRoIHead as found
except ImportError as error:
    found = error
from mmengine.registry import MODELS
print(json.dumps({
    'states': {name: state.state for name, state in hosts.status().items()},
    'loaded': sorted({'mmpretrain', 'mmdet', 'mmseg'} & set(sys.modules)),
    'warnings': [str(w.message) for w in caught if 'aib_mm' in str(w.message)],
    'core': MODELS.get('AIBAttention') is not None,
    'part': 'aib_mm.classification' in sys.modules,
    'head': str(found),
}))
"""


def probe(*visible: str, path: Path | None = None) -> dict:
    """What importing aib_mm does in a fresh process that sees only these hosts."""
    code = f'import sys; sys.path.insert(0, {str(path)!r})\n{PROBE}' if path else PROBE
    result = subprocess.run(
        [sys.executable, '-c', code, *visible],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_without_any_host_the_core_works_in_silence() -> None:
    result = probe()
    assert result['core']
    assert set(result['states'].values()) == {'absent'}
    assert result['loaded'] == []
    assert result['warnings'] == []
    assert 'GaussianRoIHead needs mmdet, which is not installed' in result['head']


@pytest.mark.parametrize(
    'alone', [HOSTS[0], *(pytest.param(h, marks=pytest.mark.slow) for h in HOSTS[1:])]
)
def test_each_host_works_alone(alone: str) -> None:
    pytest.importorskip(alone)
    result = probe(alone)
    assert result['core']
    for host, state in result['states'].items():
        assert state == ('registered' if host == alone else 'absent'), host
    assert result['part'] == (alone == 'mmpretrain')
    assert ('needs mmdet' in result['head']) == (alone != 'mmdet')
    assert result['warnings'] == []


def test_a_broken_host_gives_one_warning_with_the_real_error(tmp_path: Path) -> None:
    (tmp_path / 'mmpretrain').mkdir()
    (tmp_path / 'mmpretrain/__init__.py').write_text(
        "raise OSError('libfoo.so.7: cannot open shared object file')"
    )
    result = probe('mmpretrain', path=tmp_path)
    assert result['core']
    assert result['states']['mmpretrain'] == 'broken'
    (message,) = result['warnings']
    assert 'OSError: libfoo.so.7: cannot open shared object file' in message
    assert 'aib_mm.classification is not registered' in message
    assert 'python -m aib_mm doctor' in message


# Tells before and after registering a config what is imported.
PROGRAM = """
import json, sys
__registers_later__ = True
import aib_mm
from mmengine.config import Config

PARTS = ('attention', 'classification', 'detection', 'segmentation')
NAMES = ('torch', 'mmpretrain', *(f'aib_mm.{part}' for part in PARTS), 'own')
def imported(): return [name for name in NAMES if name in sys.modules]

before = imported()
imports = dict(imports=['aib_mm', 'own'])
aib_mm.register(Config(dict(default_scope='mmpretrain', custom_imports=imports)))
print(json.dumps([before, imported()]))
"""
OWN = """
from mmengine.registry import MODELS
assert MODELS.get('AIBAttention') and MODELS.get('mmpretrain.AIBClsHead')
"""


def test_a_program_registers_what_its_config_needs(tmp_path: Path) -> None:
    """No other host; and the user's own modules find ours."""
    pytest.importorskip('mmpretrain')
    (tmp_path / 'program.py').write_text(PROGRAM)
    (tmp_path / 'own.py').write_text(OWN)
    result = subprocess.run(
        [sys.executable, str(tmp_path / 'program.py')],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    before, after = json.loads(result.stdout.splitlines()[-1])
    assert before == []
    assert after == [
        'torch',
        'mmpretrain',
        'aib_mm.attention',
        'aib_mm.classification',
        'own',
    ]


@pytest.mark.parametrize(
    ('argv', 'command', 'ours'),
    [
        (['-m', 'doctor'], ['-m', 'aib_mm', 'doctor'], True),
        (['-m'], ['-W', 'ignore', '-m', 'aib_mm'], True),
        (['-m', 'SRC'], ['-m', 'aib_mm.classification.imagenet_weights', 'SRC'], True),
        (['-m', 'aib_mm'], ['-m', 'theirs', 'aib_mm'], False),
        (['-m'], ['-m', 'aib_mm_tools'], False),
        (['train.py', '-m', 'aib_mm'], ['train.py', '-m', 'aib_mm'], False),
    ],
)
def test_our_programs_are_known_by_their_command(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], command: list[str], ours: bool
) -> None:
    """What Python sets while ``-m`` looks for its module."""
    monkeypatch.setattr(sys, 'argv', argv)
    monkeypatch.setattr(sys, 'orig_argv', ['python', *command])
    assert aib_mm._run_by_our_program() is ours


@pytest.mark.parametrize(
    ('cfg', 'needed'),
    [
        (dict(default_scope='mmseg'), ['mmseg']),
        (dict(default_scope='mmdet', one=dict(type='mmseg.A')), ['mmdet', 'mmseg']),
        (dict(default_scope='mmseg', model=dict(type='aib_mm.VGGBlocks')), [*HOSTS]),
        (dict(default_scope='mmengine'), [*HOSTS]),
        (dict(model=dict(type='mmdet.FasterRCNN')), [*HOSTS]),
    ],
)
def test_a_config_names_the_hosts_it_needs(cfg: dict, needed: list[str]) -> None:
    assert hosts.named_by(Config(cfg)) == needed


@pytest.fixture
def fake_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A table of stand-in hosts, nothing registered yet."""
    parts = {'host_bad': 'part_bad', 'host_none': 'part_none', 'host_good': 'part_good'}
    for name in ('host_good', 'part_good', 'host_bad'):
        (tmp_path / f'{name}.py').touch()
    (tmp_path / 'part_bad.py').write_text("raise AssertionError('mmcv is too old')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(hosts, 'HOST_PARTS', MappingProxyType(parts))
    monkeypatch.setattr(hosts, '_states', {})
    monkeypatch.setattr(hosts, 'check_versions', lambda: [])
    return tmp_path


def test_the_others_register_beside_a_broken_host(fake_hosts: Path) -> None:
    with pytest.warns(UserWarning, match='AssertionError: mmcv is too old') as caught:
        states = hosts.register_hosts()
    assert len(caught) == 1
    assert {name: state.state for name, state in states.items()} == {
        'host_bad': 'broken',
        'host_none': 'absent',
        'host_good': 'registered',
    }
    assert isinstance(states['host_bad'].error, AssertionError)
    assert states['host_good'].error is None
    assert 'part_good' in sys.modules


def test_one_host_registers_alone(fake_hosts: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        states = hosts.register_hosts(['host_good'])
    assert list(states) == ['host_good']
    with pytest.warns(UserWarning, match='host_bad'):
        assert set(hosts.register_hosts()) == set(hosts.HOST_PARTS)


def test_registering_again_warns_no_more(fake_hosts: Path) -> None:
    with pytest.warns(UserWarning, match='host_bad'):
        first = hosts.register_hosts()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert hosts.register_hosts() == first == hosts.status()


def test_a_folder_with_a_hosts_name_is_no_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / 'host_folder').mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not hosts.is_installed('host_folder')
    (tmp_path / 'host_module.py').touch()
    assert hosts.is_installed('host_module')


def _check(found: str, distribution: str = 'mmdet') -> hosts.VersionCheck:
    requirement = hosts.Requirement(
        'mmdet', ('mmdet', 'onedl-mmdetection'), '3.3.0', '3.5.1'
    )
    return hosts.VersionCheck(requirement, distribution, found)


@pytest.mark.parametrize(
    ('found', 'distribution', 'inside'),
    [
        ('3.3.0', 'mmdet', True),
        ('3.3.9+cu130', 'mmdet', True),
        ('3.30.0', 'mmdet', False),
        ('3.5.1', 'mmdet', False),
        ('3.5.1', 'onedl-mmdetection', True),
        ('3.3.0', 'onedl-mmdetection', False),
    ],
)
def test_the_tested_release_line_is_of_the_same_family(
    found: str, distribution: str, inside: bool
) -> None:
    assert _check(found, distribution).inside is inside


def test_an_untested_version_warns_with_found_and_tested(
    fake_hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, 'HOST_PARTS', {'host_good': 'part_good'})
    monkeypatch.setattr(hosts, 'check_versions', lambda: [_check('2.9.1')])
    with pytest.warns(
        UserWarning, match=r'mmdet 2\.9\.1 \(tested: 3\.3\.0\)'
    ) as caught:
        hosts.register_hosts()
    assert len(caught) == 1


def test_an_absent_package_has_no_version_to_warn_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosts, 'is_installed', lambda name: False)
    for check in hosts.check_versions():
        assert (check.found, check.inside) == (None, True)


def test_two_families_at_once_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {'mmdet': '3.3.0', 'onedl-mmdetection': '3.5.1', 'torch': '2.11.0'}
    monkeypatch.setattr(hosts, '_version_of', installed.get)
    assert hosts.mixed_families() == ['mmdet + onedl-mmdetection']


def test_the_tested_versions_are_those_of_the_requirement_files(repo: Path) -> None:
    for requirement in hosts.REQUIREMENTS:
        for stack, version in (
            ('upstream', requirement.upstream),
            ('onedl', requirement.onedl),
        ):
            text = (repo / f'requirements/{stack}.txt').read_text()
            pins = [f'{name}=={version}' for name in requirement.distributions]
            assert any(pin in text.split() for pin in pins), f'{stack}: {pins}'
