"""Runs the groups of rows, and prints and writes their table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from rich.console import Console

import aib_mm.cli.suite.data as data
import aib_mm.cli.suite.models as models
import aib_mm.cli.suite.quantizer as quantizer
from aib_mm.cli.benchmark_suite import LEAST_ROUNDS, SuiteRow, suite_table
from aib_mm.cli.grid_results import machine
from aib_mm.files import json_text, write_atomically
from aib_mm.hosts import is_installed
from aib_mm.tables import markdown, terminal_table

PLAIN_WIDTH = 200


class Group(NamedTuple):
    """Rows that are measured together.

    Attributes:
        rows: measures them, each as often as it is told.
        hosts: that must be installed.
    """

    rows: Callable[[int], Iterator[SuiteRow]]
    hosts: Sequence[str] = ()


GROUPS: Mapping[str, Group] = MappingProxyType(
    {
        'quantiser': Group(quantizer.quantizer_rows),
        'classifiers': Group(models.classifier_rows, ['mmpretrain']),
        'detection': Group(models.detector_rows, ['mmdet']),
        'segmentation': Group(models.segmentor_rows, ['mmseg']),
        'memory': Group(models.memory_rows, ['mmpretrain', 'mmdet', 'mmseg']),
        'data': Group(data.data_rows, ['mmpretrain']),
        'start-up': Group(data.start_up_rows),
    }
)


def suite(
    names: Sequence[str], rounds: int, threads: int, out: Sequence[Path], command: str
) -> None:
    """Measure on the CPU, print and write the table.

    Args:
        names: of groups; none for all.
        rounds: how often; at least ``LEAST_ROUNDS``.
        threads: of PyTorch.
        out: files to write, the table (.md) or all numbers (.json).
        command: that was given, for the files.
    """
    torch.set_num_threads(threads)
    rounds = max(rounds, LEAST_ROUNDS)
    rows: list[SuiteRow] = []
    facts = machine()
    notes = [
        f'Medians of {rounds} rounds; times are CPU time of all threads, ratios of the '
        'same round. Noise is half the range between the quartiles; memory and counts '
        'have none. A copy is one clone of the map in the same round.',
        f'{facts["cpu"]}, {threads} threads; torch {facts["torch"]}.',
        f'Command: {command}',
    ]
    for name in names or GROUPS:
        missing = [host for host in GROUPS[name].hosts if not is_installed(host)]
        if missing:
            notes.append(f'{name} was left out: {", ".join(missing)} not installed.')
            continue
        print(f'{name} …', flush=True)
        torch.manual_seed(0)
        rows += GROUPS[name].rows(rounds)
    table = suite_table(rows)
    Console(width=PLAIN_WIDTH).print(terminal_table(table))
    print('\n'.join(notes))
    for path in out:
        if path.suffix == '.json':
            about = dict(command=command, rounds=rounds, threads=threads, **facts)
            text = json_text(dict(about=about, rows=[row.as_json() for row in rows]))
        else:
            text = markdown(table, notes)
        write_atomically(path, text)
