"""How far the runs of a grid are, read from mmengine's log and shown while they run."""

import re
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

TAIL_BYTES = 16_384
FULL = 0.999  # of a bar: at 1 rich stops its clock, but the run goes on

#: mmengine's log: ``Epoch(train)  [3][ 50/100]``, ``Iter(train) [ 50/1000]``, and
#: ``val`` and ``test`` likewise.
_POSITION = re.compile(
    r'(?P<unit>Epoch|Iter)\((?P<mode>train|val|test)\)\s+(?:\[\s*(?P<epoch>\d+)\])?'
    r'\[\s*(?P<done>\d+)/(?P<total>\d+)\](?P<values>.*)'
)
_LOSS = re.compile(r'\bloss: (\S+)')
_ETA = re.compile(r'\beta: (.+?)(?:  |$)')


@dataclass(frozen=True)
class Position:
    """How far a process is: in words, and its share in [0, 1], None where unknown."""

    share: float | None
    text: str


def position_in(log: str, max_epochs: int | None) -> Position | None:
    """How far the last line of mmengine's log that tells it says the process is."""
    lines = list(_POSITION.finditer(log))
    if not lines:
        return None
    found = lines[-1]
    done, total = int(found['done']), int(found['total'])
    if found['mode'] != 'train':
        name = 'validation' if found['mode'] == 'val' else 'test'
        share = None if found['mode'] == 'val' else done / total
        return Position(share, f'{name} {done}/{total}')
    if found['unit'] == 'Iter':
        share, text = done / total, f'iteration {done}/{total}'
    elif max_epochs is None:
        share, text = None, f'epoch {found["epoch"]}'
    else:
        share = (int(found['epoch']) - 1 + done / total) / max_epochs
        text = f'epoch {found["epoch"]}/{max_epochs}'
    for name, pattern in (('loss', _LOSS), ('eta', _ETA)):
        value = pattern.search(found['values'])
        text += f', {name} {value[1]}' if value else ''
    return Position(share, text)


def read_tail(log: Path) -> str:
    """The end of a log file."""
    with log.open('rb') as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        return file.read().decode('utf-8', 'replace')


class ShownRun:
    """One bar on a terminal; elsewhere a line for every tenth of the training."""

    def __init__(self, title: str, progress: Progress) -> None:
        self.title = title
        self.progress = progress
        self._task = progress.add_task(escape(title), total=1.0, status='starting')
        self._tenths = -1

    def __call__(self, stage: str, position: Position) -> None:
        """Show how far ``'train'`` or ``'test'`` is."""
        share = position.share
        if share is not None:
            share = min(share, FULL)
        self.progress.update(self._task, completed=share, status=escape(position.text))
        if not self.progress.disable or position.share is None or stage != 'train':
            return
        tenths = int(10 * position.share)
        if tenths > self._tenths:
            self._tenths = tenths
            say(self.progress.console, f'{self.title}: {position.text}')

    def close(self) -> None:
        """Take the bar away."""
        self.progress.remove_task(self._task)


def make_progress(console: Console) -> Progress:
    """Bars for ``ShownRun``; switched off where the output is no terminal."""
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn('{task.fields[status]}'),
        console=console,
        disable=not console.is_terminal,
    )


def say(console: Console, text: str) -> None:
    """Print a line as it is, above the bars."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
