"""What a long program shows: a console, lines of text, bars on a terminal."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_WIDTH = 240  # of a table of many metrics where the output is no terminal


def make_console() -> Console:
    """The standard output; of a fixed width where it is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def say(console: Console, text: str) -> None:
    """Print a line as it is, above the bars."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def make_progress(console: Console, *details: ProgressColumn) -> Progress:
    """Bars with the time since their start; none where the output is no terminal.

    Args:
        details: columns after the bar (how many of how many, and the time left).
    """
    counts = (MofNCompleteColumn(), TextColumn('eta'), TimeRemainingColumn())
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        *(details or counts),
        console=console,
        disable=not console.is_terminal,
    )
