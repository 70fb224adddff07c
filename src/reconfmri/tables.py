"""Tables on disk: TSV, UTF-8, `n/a` for missing, and a JSON beside each that describes every column."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from reconfmri.files import InputError, read_text

MISSING = "n/a"
FLOAT_FORMAT = "%.10g"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf(inity)?|nan", re.IGNORECASE)
COLUMN_NAME = re.compile(r"[A-Za-z][\w .%()/-]{0,39}")


def read_table(
    path: str | Path,
    *,
    numeric: Sequence[str] = (),
    required: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> pd.DataFrame:
    """Return a TSV as text columns (ids keep their zeros), `numeric` ones as float64 with NaN for `n/a`.

    `optional` ones are numeric too; without such a column in the file all of it is missing.

    Only `n/a` and the empty cell are missing: `NA`, `None` and `nan` are legal labels (in a column of
    numbers `nan` is missing too).

    Raises
    ------
    ValueError
        A required column is absent, a row has more or fewer cells than the header, the file cannot be read
        or is not UTF-8, or a numeric column holds text; the message names file, line and column, and shows
        nothing of a file that is no table.
    FileNotFoundError
        There is no such file.
    """
    rows = _split_rows(path)
    header, body = rows[0], rows[1:]
    absent = [name for name in dict.fromkeys((*required, *numeric)) if name not in header]
    if absent:
        raise InputError(path, f"columns {absent} are missing; it has {_shown(header)}")
    if len(set(header)) != len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        what = f"line 1 names a column twice: {_shown(twice, header)}"
        raise InputError(path, what, fix="keep one of them, or rename one")
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            column = min(len(row), len(header)) + 1
            cells = f"the row has {len(row)} cells, the header {len(header)}"
            fix = "as many tabs in each row as in line 1, none within a cell, no empty line"
            raise InputError(path, f"line {number}, column {column}: {cells}", fix=fix)
    table = pd.DataFrame(body, columns=header, dtype=object)
    table = table.where(~table.isin([MISSING, ""]), None)
    for name in (*numeric, *optional):
        table[name] = _as_numbers(table[name], path) if name in table else math.nan
    return table


def write_table(
    path: str | Path, table: pd.DataFrame, descriptions: Mapping[str, str | Mapping[str, str]] | None = None
) -> None:
    """Write `table` as TSV (10 significant digits) and, given `descriptions`, the JSON beside it.

    A column is described by a text, or by all that the JSON says of it.

    Raises
    ------
    ValueError
        A column has no description, or a cell holds a tab or a line break.
    """
    path = Path(path)
    if descriptions is not None:
        undescribed = [str(name) for name in table.columns if name not in descriptions]
        if undescribed:
            raise ValueError(f"{path.name}: columns {undescribed} have no description")
    for name in table.columns:
        cells = table[name]
        if cells.dtype == object and cells.astype(str).str.contains(r"[\t\r\n]", regex=True).any():
            raise ValueError(f"{path.name}: column {name!r} holds a tab or a line break")
    table.to_csv(
        path,
        sep="\t",
        index=False,
        na_rep=MISSING,
        float_format=FLOAT_FORMAT,
        encoding="utf-8",
        lineterminator="\n",
        quoting=3,
    )
    if descriptions is not None:
        said = {str(name): descriptions[str(name)] for name in table.columns}
        described = {
            name: {"Description": text} if isinstance(text, str) else dict(text)
            for name, text in said.items()
        }
        text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
        path.with_suffix(".json").write_text(text, encoding="utf-8")


def _shown(names: list[str], header: list[str] | None = None) -> str:
    """Return column names for a message; where the first line is no header, how many cells it has.

    A path may lead to any file that the user can read: what is no table must not reach a log.
    """
    first = header or names
    if len(first) > 1 and all(COLUMN_NAME.fullmatch(name) for name in first):
        return str(names)
    return f"{len(first)} column{'s' * (len(first) > 1)} with names unlike those of a table (are there tabs?)"


def read_cells(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a TSV, column -> text, for small tables that are read by the hundred.

    Raises
    ------
    ValueError
        The file is empty or not UTF-8, or a row has more or fewer cells than the header.
    """
    header, *rows = _split_rows(path)
    try:
        return [dict(zip(header, row, strict=True)) for row in rows]
    except ValueError:
        raise InputError(path, "a row has more or fewer cells than the header") from None


def _split_rows(path: str | Path) -> list[list[str]]:
    lines = read_text(path).split("\n")
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise InputError(path, "empty; expected a header line")
    return [line.split("\t") for line in lines]


def _as_numbers(column: pd.Series, path: str | Path) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    bad = column.notna() & numbers.isna() & (column.astype(str).str.lower() != "nan")
    if bad.any():
        line = int(bad.to_numpy().argmax()) + 2
        value = column[bad].iloc[0]
        comma = re.fullmatch(r"-?\d+,\d+", str(value).strip())
        hint = " (a decimal comma? numbers have a point)" if comma else ""
        what = f"line {line}, column {column.name!r}: {value!r} is not a number{hint}"
        raise InputError(path, what, fix="write a number with a point, n/a where there is none")
    return numbers


def number_of(cell: object) -> float:
    """Return a cell as a number; `1_000` and digits of another script, which Python reads, are none.

    Raises
    ------
    ValueError
        It is no number.
    """
    text = str(cell).strip()
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a number")
    return float(text)
