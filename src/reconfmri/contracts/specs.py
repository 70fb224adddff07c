"""What a table holds: its columns with kind, unit and description, which write, check and read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from reconfmri.tables import read_table, write_table

Kind = Literal["text", "number", "integer", "yes_no"]
FORMATS: dict[Kind, str] = {"text": "string", "number": "number", "integer": "integer", "yes_no": "bool"}
OF_OUTCOME = "as in the column unit"
YES_NO = {"true": True, "false": False}


@dataclass(frozen=True)
class Column:
    """One column; a cell of any kind may be missing."""

    name: str
    kind: Kind
    description: str
    unit: str = ""
    optional: bool = False  # a table may lack it as a whole

    @property
    def sidecar(self) -> dict[str, str]:
        """What the JSON beside a table says of it, in the words of BIDS."""
        units = {"Units": self.unit} if self.unit else {}
        return {"Description": self.description, "Format": FORMATS[self.kind]} | units


def text(name: str, description: str) -> Column:
    """Return a column of text."""
    return Column(name, "text", description)


def number(name: str, description: str, unit: str = "") -> Column:
    """Return a column of real numbers."""
    return Column(name, "number", description, unit)


def integer(name: str, description: str, unit: str = "") -> Column:
    """Return a column of whole numbers."""
    return Column(name, "integer", description, unit)


def yes_no(name: str, description: str) -> Column:
    """Return a column of `true` and `false`."""
    return Column(name, "yes_no", description)


@dataclass(frozen=True)
class TableSpec:
    """The columns of a table, in their order, and what the table is."""

    columns: tuple[Column, ...]
    what: str = ""

    @property
    def names(self) -> list[str]:
        """The names of the columns, without those that a table may lack."""
        return [column.name for column in self.columns if not column.optional]

    def among(self, there: Iterable[object]) -> TableSpec:
        """Return the columns of a table that has these: optional ones that it lacks fall away."""
        has = set(there)
        kept = [replace(one, optional=False) for one in self.columns if not one.optional or one.name in has]
        return replace(self, columns=tuple(kept))

    def of_kind(self, *kinds: Kind) -> list[str]:
        """Return the names of the columns of these kinds."""
        return [column.name for column in self.columns if column.kind in kinds]

    def but(self, *changed: Column) -> TableSpec:
        """Return the same columns with others in place of those that have their names."""
        by_name = {column.name: column for column in changed}
        return replace(self, columns=tuple(by_name.get(column.name, column) for column in self.columns))

    def called(self, what: str) -> TableSpec:
        """Return the same columns as those of a table of this kind."""
        return replace(self, what=what)

    def frame(self, rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]]) -> pd.DataFrame:
        """Return rows as a table of these columns; a cell that a row lacks is missing, others are dropped.

        An optional column is there where a row has a cell for it.
        """
        there = {name for row in rows if isinstance(row, Mapping) for name in row}
        return pd.DataFrame(rows, columns=self.among(there).names)

    def check(self, table: pd.DataFrame, what: str) -> None:
        """Check the columns and the kinds of their cells; `what` is the table, for the message.

        Raises
        ------
        ValueError
            A column is missing or unknown, or a cell is not of its kind.
        """
        own = self.among(table)
        if absent := [name for name in own.names if name not in table]:
            raise ValueError(f"{what}: columns {absent} are missing; it has {list(table)}")
        if unknown := [str(name) for name in table if name not in own.names]:
            raise ValueError(f"{what}: columns {unknown} are none of this table, which has {own.names}")
        for column in own.columns:
            cells = table[column.name].dropna()
            if any(not _is_of(column.kind, cell) for cell in cells):
                wrong = next(cell for cell in cells if not _is_of(column.kind, cell))
                raise ValueError(f"{what}: column {column.name!r}: {wrong!r} is no {FORMATS[column.kind]}")

    def write(self, path: str | Path, table: pd.DataFrame) -> None:
        """Write `table` as TSV, and the JSON that describes its columns beside it.

        Raises
        ------
        ValueError
            A column is missing or unknown, or a cell is not of its kind or holds a tab or a line break.
        """
        self.check(table, Path(path).name)
        own = self.among(table)
        words = {yes: word for word, yes in YES_NO.items()}
        said = {name: table[name].astype(object).map(words) for name in own.of_kind("yes_no")}
        write_table(path, table.assign(**said)[own.names], {c.name: c.sidecar for c in own.columns})

    def read(self, path: str | Path) -> pd.DataFrame:
        """Return a table from its TSV: numbers as float64, yes and no as bool (object where one is missing).

        Raises
        ------
        ValueError
            It is no such table: a column is missing or unknown, or a cell is not of its kind.
        """
        needed = self.among([])
        table = read_table(
            path, numeric=needed.of_kind("number", "integer"), required=needed.of_kind("text", "yes_no")
        )
        for name in self.of_kind("yes_no"):
            words = table[name]
            if unknown := sorted(set(words.dropna()) - set(YES_NO)):
                raise ValueError(f"{path}: column {name!r}: {unknown[0]!r} is neither true nor false")
            table[name] = words.map(YES_NO).astype(object if words.isna().any() else bool)
        self.check(table, str(path))
        return table


def _is_of(kind: Kind, cell: object) -> bool:
    if kind == "text":
        return isinstance(cell, str)
    if kind == "yes_no":
        return str(cell) in ("True", "False")  # numpy's too
    if isinstance(cell, str | bool):
        return False
    return kind == "number" or float(str(cell)).is_integer()
