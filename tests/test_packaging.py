"""What a wheel, an sdist and an editable install hold, and what they depend on."""

import runpy
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import setuptools

TREE = ('aib_mm', 'configs', 'tools', 'requirements')
FILES = ('LICENSE', 'MANIFEST.in', 'README.md', 'model-index.yml', 'pyproject.toml')


@pytest.fixture
def source(repo: Path, tmp_path: Path) -> Path:
    """A copy of what packaging reads, so that the checkout stays as it is."""
    copy = tmp_path / 'source'
    for name in TREE:
        ignore = shutil.ignore_patterns('.mim', '__pycache__', 'work_dirs')
        shutil.copytree(repo / name, copy / name, ignore=ignore)
    for name in (*FILES, 'setup.py'):
        shutil.copy(repo / name, copy)
    return copy


def run(*command: str, cwd: Path) -> None:
    result = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr


def build_wheel(source: Path, out: Path) -> zipfile.ZipFile:
    options = ('--no-build-isolation', '--no-deps', '--no-index', '-q')
    run('-m', 'pip', 'wheel', *options, '-w', str(out), str(source), cwd=source)
    (wheel,) = out.glob('*.whl')
    return zipfile.ZipFile(wheel)


def expected_configs(repo: Path) -> set[str]:
    return {
        f'aib_mm/.mim/{path.relative_to(repo)}'
        for path in (repo / 'configs').rglob('*.py')
    }


def test_a_wheel_holds_what_mim_reads(repo: Path, source: Path, tmp_path: Path) -> None:
    names = set(build_wheel(source, tmp_path / 'out').namelist())
    configs = expected_configs(repo)
    assert configs and configs <= names
    assert {'aib_mm/.mim/tools/train.py', 'aib_mm/.mim/model-index.yml'} <= names
    assert {'aib_mm/__init__.py', 'aib_mm/classification/__init__.py'} <= names
    assert 'aib_mm/weights/vgg16-narrow_aib_priced_digitscenes.pth' in names
    assert not any('/tools/dev/' in name for name in names)
    assert not any(name.startswith(('tests/', 'tools/', 'configs/')) for name in names)


def test_a_wheel_asks_for_neither_family(source: Path, tmp_path: Path) -> None:
    wheel = build_wheel(source, tmp_path / 'out')
    (name,) = (n for n in wheel.namelist() if n.endswith('.dist-info/METADATA'))
    needed = Parser().parsestr(wheel.read(name).decode()).get_all('Requires-Dist') or []
    assert {line for line in needed if 'extra ==' not in line} == {'numpy', 'torch'}
    upstream = [
        line for line in needed if 'extra == "upstream"' in line.replace("'", '"')
    ]
    assert any(line.startswith('mmcv==') for line in upstream)
    assert not any(line.startswith('onedl') for line in upstream)


def test_an_sdist_makes_the_same_wheel(source: Path, tmp_path: Path) -> None:
    run('setup.py', '-q', 'sdist', '-d', str(tmp_path / 'sdist'), cwd=source)
    (sdist,) = (tmp_path / 'sdist').iterdir()
    shutil.unpack_archive(sdist, tmp_path / 'unpacked')
    (unpacked,) = (tmp_path / 'unpacked').iterdir()
    from_sdist = build_wheel(unpacked, tmp_path / 'a').namelist()
    for built in ('build', 'aib_mm.egg-info'):
        shutil.rmtree(source / built, ignore_errors=True)
    assert sorted(from_sdist) == sorted(build_wheel(source, tmp_path / 'b').namelist())


def test_an_editable_install_links_into_the_checkout(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    hook = f'from setuptools import build_meta; build_meta.build_editable({str(out)!r})'
    run('-c', hook, cwd=source)
    mim = source / 'aib_mm/.mim'
    for name in ('configs', 'tools', 'model-index.yml'):
        assert (mim / name).is_symlink()
        assert (mim / name).resolve() == source / name


@pytest.fixture
def setup_py(repo: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names in setup.py, and as ``kwargs`` what it hands to setuptools."""
    kwargs: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **given: kwargs.update(given))
    return {**runpy.run_path(str(repo / 'setup.py')), 'kwargs': kwargs}


def test_links_that_are_not_possible_become_copies(
    setup_py: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*args: object) -> None:
        raise OSError('links are not allowed here')

    monkeypatch.setattr(Path, 'symlink_to', refuse)
    setup_py['fill_mim'](tmp_path / 'aib_mm', link=True)
    mim = tmp_path / 'aib_mm/.mim'
    assert (mim / 'tools/train.py').is_file()
    assert not (mim / 'configs').is_symlink()
    assert (mim / 'model-index.yml').is_file()


def test_filling_again_drops_what_is_gone(
    setup_py: dict[str, Any], tmp_path: Path
) -> None:
    mim = tmp_path / 'aib_mm/.mim'
    setup_py['fill_mim'](tmp_path / 'aib_mm', link=False)
    (mim / 'configs/stale.py').touch()
    setup_py['fill_mim'](tmp_path / 'aib_mm', link=False)
    assert not (mim / 'configs/stale.py').exists()


def test_requirement_files_are_read_without_comments(
    setup_py: dict[str, Any],
) -> None:
    extras = setup_py['kwargs']['extras_require']
    assert set(extras) == {'upstream', 'onedl', 'demo', 'interpret', 'test'}
    assert 'mmdet==3.3.0' in extras['upstream']
    assert not any('#' in line for lines in extras.values() for line in lines)


def test_mims_index_names_files_that_exist(repo: Path) -> None:
    from mmengine.fileio import load

    index = load(repo / 'model-index.yml')
    for name in index['Import']:
        for model in load(repo / name)['Models']:
            assert (repo / model['Config']).is_file()
