"""Cells of an office's table: read as text, whatever separates them; ids, dates and choices."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from pathlib import Path

from reconfmri.files import InputError, read_text

CODE = "E-BIDS-R01"
SEPARATORS = ",;\t|^"
Row = dict[str, str]


def read_csv(path: str | Path) -> tuple[list[str], list[Row]]:
    """Return the header and the rows, column -> text, of a table whose separator is that of its header.

    Raises
    ------
    ValueError
        It is empty, not UTF-8, names a column twice, or a row has more or fewer cells than the header.
    """
    text = read_text(path)
    first = next(iter(text.splitlines()), "")
    separator = max(SEPARATORS, key=first.count)
    if said := re.fullmatch(r'"?sep=(.)"?', first.strip()):  # what Excel reads and writes
        separator, text = said[1], text.partition("\n")[2]
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(row)]
    return as_rows(path, rows)


def as_rows(path: str | Path, rows: Sequence[Sequence[str]]) -> tuple[list[str], list[Row]]:
    """Return the header and the rows of a table of cells.

    Raises
    ------
    ValueError
        As `read_csv`.
    """
    if not rows:
        raise InputError(path, "it is empty", fix="export it again", code=CODE)
    header = [name.strip() for name in rows[0]]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(path, f"the header names {twice} twice", fix="export it again", code=CODE)
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            what = f"row {number} has {len(row)} cells, the header {len(header)}"
            raise InputError(path, what, fix="export it again", code=CODE)
    return header, [
        dict(zip(header, (cell.strip() for cell in row), strict=True)) for row in rows[1:] if any(row)
    ]


def plain(text: str) -> str:
    """Return a label without HTML, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def participant(cell: str, prefix: str = "") -> str:
    """Return the BIDS id of a study id: its letters and digits, after `sub-` and the prefix.

    A whole number that a spreadsheet wrote as `7.0` is 7, not 70.
    """
    own = re.sub(r"^(\d+)\.0+$", r"\1", cell.removeprefix("sub-"))
    return f"sub-{prefix}{re.sub(r'[^A-Za-z0-9+]', '', own)}"


def refuse_one_label(path: str | Path, ids: Iterable[str], prefix: str) -> None:
    """Check that no two study ids become one BIDS id, and that each has letters or digits.

    Raises
    ------
    ValueError
        They do; both are named.
    """
    seen: dict[str, str] = {}
    for cell in dict.fromkeys(ids):
        label = participant(cell, prefix)
        other = seen.setdefault(label.casefold(), cell)
        same = participant(other, prefix) == label  # `7` and `7.0` are one number, written twice
        if (
            other != cell and not (same and _is_whole(cell) and _is_whole(other))
        ) or label == f"sub-{prefix}":
            what = f"the ids {other!r} and {cell!r} are one label, {label!r}"
            raise InputError(path, what, fix="rename one of them", code="E-BIDS-R03")


def _is_whole(cell: str) -> bool:
    return re.fullmatch(r"\d+(\.0+)?", cell) is not None


def with_points(rows: Sequence[Row], columns: Iterable[str]) -> list[str]:
    """Return those of the columns whose cells are all numbers, some with a decimal comma."""
    found = []
    for name in columns:
        cells = [row[name] for row in rows if row[name]]
        pointed = [re.sub(r"^([-+]?\d+),(\d+)$", r"\1.\2", cell) for cell in cells]
        if pointed != cells and all(map(is_number, pointed)):
            found.append(name)
    return found


def as_date(cell: str) -> date | None:
    """Return the day of an ISO date or time; None where the cell is none."""
    try:
        return datetime.fromisoformat(cell).date()
    except ValueError:
        return None


def is_number(cell: str) -> bool:
    """Whether a cell is a finite number."""
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", cell) is not None
