"""The package's face: public names, what each import may reach, and what help costs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports
from mmengine.registry import (
    FUNCTIONS,
    HOOKS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    STRATEGIES,
    TRANSFORMS,
    Registry,
)

import aib_mm
from aib_mm import registry
from aib_mm.hosts import HOST_PARTS

ROOTS = (
    FUNCTIONS,
    HOOKS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    STRATEGIES,
    TRANSFORMS,
)
CHILDREN = (registry.DATASETS, registry.MODELS, registry.TRANSFORMS)
APIS = ('AttentionInferencer',)  # of aib_mm.apis, which the page has as a whole
TOOLS = sorted(path.name for path in Path(__file__).parents[1].glob('tools/*.py'))


def python(*command: str, cwd: Path) -> subprocess.CompletedProcess:
    """A fresh interpreter."""
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_imports_keep_to_the_contracts(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(repo)
    assert lint_imports(no_cache=True, no_logo=True) == 0, capsys.readouterr().out


@pytest.mark.parametrize('table', [*ROOTS, *CHILDREN], ids=lambda one: one.name)
def test_what_is_registered_is_public(table: Registry) -> None:
    ours = {
        part.__name__
        for part in table.module_dict.values()
        if part.__module__.startswith('aib_mm.')
        # Parts of a program, which writes the config that names them.
        and not part.__module__.startswith('aib_mm.experiments.')
    }
    assert ours
    assert ours <= set(aib_mm.__all__)


@pytest.mark.parametrize('name', aib_mm.__all__)
def test_a_public_name_is_there(name: str) -> None:
    part = aib_mm._MODULE_OF.get(name, '')
    for host, folder in HOST_PARTS.items():
        if part == folder:
            pytest.importorskip(host)
    assert getattr(aib_mm, name) is not None
    assert name in dir(aib_mm)


def test_editors_see_the_same_names() -> None:
    """What is imported for them stands in the table, and nothing is left out."""
    (block,) = (
        node
        for node in ast.parse(Path(aib_mm.__file__).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'
    )
    seen = {
        alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen.pop('Config') == 'mmengine.config'
    assert seen == aib_mm._MODULE_OF


def test_the_api_page_has_every_public_name(repo: Path) -> None:
    page = (repo / 'docs/api.md').read_text()
    listed = re.findall(r'^\.\. auto(?:class|function):: (\w+)$', page, re.MULTILINE)
    assert sorted(listed) == sorted({*aib_mm.__all__} - {'__version__', *APIS})


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'aib_mm' has no attribute 'AIBAtention'"):
        aib_mm.AIBAtention  # noqa: B018
    with pytest.raises(ImportError, match='cannot import name'):
        from aib_mm import AIBAtention  # noqa: F401


@pytest.mark.parametrize(
    'command',
    [
        *(f'tools/{name}' for name in TOOLS),
        '-m aib_mm',
        '-m aib_mm doctor',
        '-m aib_mm compare',
    ],
)
def test_help_imports_no_library(repo: Path, command: str) -> None:
    done = python('-X', 'importtime', *command.split(), '--help', cwd=repo)
    assert done.returncode == 0, done.stderr[-800:]
    assert 'usage: ' in done.stdout
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines()}
    assert 'aib_mm' in imported
    assert not imported & {'torch', 'mmengine', *HOST_PARTS}
