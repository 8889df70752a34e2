"""The documentation: nothing leads nowhere, and the site builds without a warning."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

LINK = re.compile(r'\]\((?!https?://|#)([^)#\s]+)')


def pages(repo: Path) -> list[Path]:
    return [repo / 'README.md', repo / 'CONTRIBUTING.md', *repo.glob('docs/*.md')]


def test_links_lead_to_files(repo: Path) -> None:
    broken = [
        f'{page.name}: {target}'
        for page in pages(repo)
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_every_page_is_in_the_contents(repo: Path) -> None:
    index = (repo / 'docs/index.md').read_text()
    listed = '\n'.join(re.findall(r'```{toctree}(.*?)```', index, flags=re.DOTALL))
    names = {page.stem for page in repo.glob('docs/*.md')} - {'index'}
    assert names <= set(listed.split())


def test_modules_import_what_stands_above_them(repo: Path) -> None:
    """The table of CONTRIBUTING.md, row by row, against the imports."""
    text = (repo / 'CONTRIBUTING.md').read_text()
    table = text.partition('| path | holds |')[2].partition('## ')[0]
    rows = [
        [name.rstrip('/') for name in re.findall(r'`([\w./]+)`', row.split('|')[1])]
        for row in table.splitlines()[2:]
        if row
    ]
    level = {Path(name).stem: i for i, row in enumerate(rows) for name in row}
    package = repo / 'aib_mm'
    wrong = []
    for path in sorted(package.rglob('*.py')):
        unit = Path(path.relative_to(package).parts[0]).stem
        if unit.startswith('__'):  # what they import is the package as a whole
            continue
        for name in _own_imports(path):
            if level[name] > level[unit]:
                wrong.append(f'{path.relative_to(package)} imports {name}')
    assert not wrong


def _own_imports(path: Path) -> set[str]:
    """Modules and folders of this package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == 'aib_mm':
                names = [f'aib_mm.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split('.')[1] for name in names if name.startswith('aib_mm.')}
    return found


@pytest.mark.slow
def test_the_site_builds_without_a_warning(repo: Path, tmp_path: Path) -> None:
    pytest.importorskip('sphinx', reason='make docs installs it')
    done = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-q', '-W', repo / 'docs', tmp_path],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'AIBAttention' in (tmp_path / 'api.html').read_text()
