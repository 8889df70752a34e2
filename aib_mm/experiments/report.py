"""What a table of models leaves: on the terminal, as Markdown and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from aib_mm.experiments.provenance import machine, machine_line
from aib_mm.utils.files import json_text, write_atomically
from aib_mm.utils.tables import Table, markdown, terminal_table

SUFFIXES = ('.md', '.json')


@dataclass(frozen=True)
class Report:
    """Tables with their notes and all figures behind them.

    Attributes:
        name: name of the files, without suffix.
        tables: tables by title; a table alone may have ``''``.
        notes: what the figures are, for readers.
        about: what the figures depend on, by name, for the JSON; ``command``, as
            typed, ends the notes too, with the machine.
        figures: every figure, for the JSON.
    """

    name: str
    tables: Mapping[str, Table]
    notes: Sequence[str]
    about: Mapping[str, Any]
    figures: Mapping[str, Any]

    def all_notes(self) -> list[str]:
        """The notes with command and machine."""
        return [*self.notes, f'`{self.about["command"]}`', machine_line()]

    def show(self, console: Console) -> None:
        """Print the tables."""
        for title, table in self.tables.items():
            if title:
                console.print(title, highlight=False)
            console.print(terminal_table(table))

    def write(self, out: Path) -> str:
        """Write ``NAME.md`` and ``NAME.json``; gives a line that says so."""
        for suffix in SUFFIXES:
            self.write_to(out / f'{self.name}{suffix}')
        return f'{out}: {self.name}.md, {self.name}.json'

    def write_to(self, path: Path) -> None:
        """Write the figures to a ``.json`` file, tables and notes to another."""
        if path.suffix == '.json':
            content = dict(about={**self.about, **machine()}, **self.figures)
            write_atomically(path, json_text(content))
            return
        parts = [
            (f'**{title}**\n\n' if title else '') + markdown(table, [])
            for title, table in self.tables.items()
        ]
        text = '\n'.join(parts) + '\n' + '\n\n'.join(self.all_notes()) + '\n'
        write_atomically(path, text)
