"""The blocks of code in README and docs, and how one page is followed to the letter.

Every block of shell or Python in a how-to page is run by ``test_pages.py``, unless a
comment on the line above it says who runs it, or why nobody can::

    <!-- run by: tests/test_export.py::test_name -->
    <!-- not run: REASON -->
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cifar_files import environment

REPO = Path(__file__).parents[1]
RUN = ('shell', 'bash', 'python')  # languages that are commands or programs
SHOWN = ('text', 'bibtex')  # languages that are only shown
#: What the tests' own environment has done already.
DONE = ('make setup', 'source .venv/bin/activate')
#: So many images, as a page makes the whole sets.
FEW = '--train 64 --test 20 --scenes-train 8 --scenes-val 4 --shifted 20'
BLOCK = re.compile(
    r'^(?:<!-- (run by|not run): (.*?) -->\n)?```([^\n{]*)\n(.*?)^```$',
    flags=re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """Text between two fences, its language, and the comment above it ('' if none)."""

    language: str
    text: str
    mark: str
    note: str

    @property
    def file_name(self) -> str:
        """Name under which the page tells to save it, '' if it does not."""
        found = re.match(r'# (\w+\.py)\n', self.text)
        return found[1] if found else ''

    @property
    def commands(self) -> list[str]:
        """Lines of a shell, those that go on joined, without comments."""
        lines = self.text.replace('\\\n', ' ').splitlines()
        return [line for line in lines if shlex.split(line, comments=True)]


def read_blocks(page: str) -> list[Block]:
    """Blocks of the file ``page`` of the repository, from top to bottom."""
    text = (REPO / page).read_text(encoding='utf-8')
    return [
        Block(language, content, mark, note)
        for mark, note, language, content in BLOCK.findall(text)
    ]


def pages_below(*captions: str) -> list[str]:
    """Pages of the contents in ``docs/index.md`` that stand below these captions."""
    index = (REPO / 'docs/index.md').read_text(encoding='utf-8')
    tree = r'^```{toctree}\n:hidden:\n:caption: ([^\n]*)\n\n(.*?)^```$'
    return [
        f'docs/{name}.md'
        for caption, names in re.findall(tree, index, flags=re.DOTALL | re.MULTILINE)
        if caption in captions
        for name in names.split()
    ]


def follow(page: str, folder: Path, options: list[str]) -> int:
    """Do in ``folder`` what ``page`` tells; how many blocks that were.

    ``options`` go to every command that takes ``--cfg-options``; the sets that a page
    makes are small ones, of several seeds the first is taken, and costs are measured
    once. Whatever else a page says is done as it stands.
    """
    for part in ('tools', 'configs', 'benchmarks'):
        (folder / part).symlink_to(REPO / part)
    told = [b for b in read_blocks(page) if b.language in RUN and not b.mark]
    for block in told:
        if block.file_name:
            (folder / block.file_name).write_text(block.text)
        elif block.language == 'python':
            _run([sys.executable, '-c', block.text], folder)
        else:
            lines = [shortened(line, options) for line in block.commands]
            _run(['bash', '-ec', '\n'.join(lines)], folder)
    return len(told)


def shortened(line: str, options: list[str]) -> str:
    """A command with what keeps it short; '' for one that needs no running."""
    if line.startswith(DONE):
        return ''
    line = re.sub(r'\s#\s.*', '', line)
    line = re.sub(r'--seeds (\d+)( \d+)*', r'--seeds \1', line)
    if 'tools/digit_scenes.py' in line and '--verify' not in line:
        return f'{line} {FEW}'
    if 'tools/benchmark.py' in line and '--count-only' not in line:
        line = line.replace('.py ', '.py --rounds 1 ', 1)
    takes = r'tools/(train|test|visualize_attention|grid|benchmark)\.py|^mim '
    if options and re.search(takes, line):
        flag = '' if '--cfg-options' in line else ' --cfg-options'
        return f'{line}{flag} {shlex.join(options)}'
    return line


def _run(command: list[str], folder: Path) -> None:
    programs = f'{Path(sys.executable).parent}:{environment()["PATH"]}'
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(PATH=programs, MPLBACKEND='agg'),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f'{command[-1]}\n{done.stdout[-3000:]}'
