"""What the terminal shows: a table of problems, a bar for long steps; plain lines without a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from reconfmri.problems import SEVERITIES, Problem, causes

COLOURS = {"STOP": "bold red", "EXCL": "yellow", "WARN": "cyan"}


def show_problems(problems: Sequence[Problem]) -> None:
    """Print every cause as one line, the worst first; a line is never cut, so that paths can be copied."""
    for cause in causes(problems):
        print(f"{_coloured(cause.problems[0].severity)} {cause.line}")
    print(counted(problems))


def counted(problems: Sequence[Problem]) -> str:
    """Return how many problems there are, of each severity."""
    counts = [f"{sum(p.severity == name for p in problems)} {name}" for name in SEVERITIES]
    noun = "problem" if len(problems) == 1 else "problems"
    return f"{len(problems)} {noun}: {', '.join(counts)}" if problems else "No problems found."


def _coloured(severity: str) -> str:
    """The word in its colour on a terminal that has some."""
    if not sys.stdout.isatty():
        return severity
    from rich.console import Console
    from rich.text import Text

    console = Console()
    with console.capture() as captured:
        console.print(Text(severity, style=COLOURS[severity]), end="")
    return captured.get()


def show_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, colours: dict[str, str] | None = None
) -> None:
    """Print a table: drawn on a terminal, tab-separated elsewhere; `colours` by the text of a cell."""
    if not sys.stdout.isatty():
        for row in (header, *rows):
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(cell, style=(colours or {}).get(cell, "")) for cell in row))
    Console().print(table)


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `advance(done, all)`, which moves a bar on a terminal and is silent elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
