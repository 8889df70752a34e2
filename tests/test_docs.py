"""The documentation: nothing leads nowhere, and the site builds without a warning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

LINK = re.compile(r'\]\((?!https?://|#)([^)#\s]+)')


def pages(repo: Path) -> list[Path]:
    documents = [*repo.glob('docs/*.md'), *repo.glob('docs/*.ipynb')]
    return [repo / 'README.md', repo / 'CONTRIBUTING.md', *documents]


def test_links_lead_to_files(repo: Path) -> None:
    broken = [
        f'{page.name}: {target}'
        for page in pages(repo)
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as the site and GitHub name them."""
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r'^#+ (.*)$', text, flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', line.lower()).replace(' ', '-') for line in found}


def test_links_lead_to_headings(repo: Path) -> None:
    broken = [
        f'{page.name}: {target}#{anchor}'
        for page in pages(repo)
        for target, anchor in re.findall(r'\]\(([^):]*)#([^)]+)\)', page.read_text())
        if anchor not in headings(page.parent / target if target else page)
    ]
    assert not broken


def test_every_page_is_in_the_contents(repo: Path) -> None:
    index = (repo / 'docs/index.md').read_text()
    listed = '\n'.join(re.findall(r'```{toctree}(.*?)```', index, flags=re.DOTALL))
    names = {page.stem for page in pages(repo) if page.parent.name == 'docs'}
    assert names - {'index'} <= set(listed.split())


@pytest.mark.slow
def test_the_site_builds_without_a_warning(repo: Path, tmp_path: Path) -> None:
    pytest.importorskip('sphinx', reason='make docs installs it')
    done = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-q', '-W', repo / 'docs', tmp_path / 'html'],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'AIBAttention' in (tmp_path / 'html/api.html').read_text()
