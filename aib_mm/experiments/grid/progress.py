"""Progress of a run and its speed in training, as mmengine's log says."""

import re
from pathlib import Path
from statistics import mean
from typing import NamedTuple

TAIL_BYTES = 16_384

#: ``Epoch(train)  [3][ 50/100]``, ``Iter(train) [ 50/1000]``; ``val``, ``test`` alike.
_POSITION = re.compile(
    r'(?P<unit>Epoch|Iter)\((?P<mode>train|val|test)\)\s+(?:\[\s*(?P<epoch>\d+)\])?'
    r'\[\s*(?P<done>\d+)/(?P<total>\d+)\](?P<values>.*)'
)
_LOSS = re.compile(r'\bloss: (\S+)')
_ETA = re.compile(r'\beta: (.+?)(?:  |$)')
_TIME = re.compile(r'\(train\).*\btime: (\S+)')
_MEMORY = re.compile(r'\(train\).*\bmemory: (\d+)')


class Position(NamedTuple):
    """Progress of a process: its share in [0, 1], None where unknown; and in words."""

    share: float | None
    text: str


def position_in(log: str, max_epochs: int | None) -> Position | None:
    """Progress of the process by the last line of mmengine's log that tells it."""
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


def pace_in(log: str) -> tuple[float | None, int | None]:
    """Mean seconds of a training iteration, peak MiB of a GPU; None where unsaid."""
    times = [float(value) for value in _TIME.findall(log)]
    memory = [int(value) for value in _MEMORY.findall(log)]
    return mean(times) if times else None, max(memory, default=None)


def read_tail(log: Path) -> str:
    """The end of a log file."""
    with log.open('rb') as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        return file.read().decode('utf-8', 'replace')
