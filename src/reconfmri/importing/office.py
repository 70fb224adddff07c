"""A CSV or Excel table of an office without REDCap; only the columns that the map declares are read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from zipfile import BadZipFile

import pandas as pd

from reconfmri.files import InputError
from reconfmri.importing.cells import (
    CODE,
    Row,
    as_date,
    as_rows,
    participant,
    read_csv,
    refuse_one_label,
    with_points,
)
from reconfmri.importing.declared import OfficeTable, TableMap
from reconfmri.importing.write import DAY, PERSON, SESSION, Imported, Table

CONFLICT, MAPPED = "E-BIDS-R03", "E-BIDS-R02"
EXCEL = (".xlsx", ".xlsm")
Cells = dict[str, str | None]


def import_table(path: Path, declared: TableMap) -> Imported:
    """Return the tables that a map takes out of an office's table.

    Raises
    ------
    ValueError
        A declared column or visit does not exist, or a person has two values where there can be one; one
        line, which shows no arm.
    """
    ending = path.suffix.lower()
    if ending == ".xls":
        fix = "save it as .xlsx or CSV (UTF-8)"
        raise InputError(path, "the old Excel format cannot be read", fix=fix, code=CODE)
    header, rows = read_excel(path, declared.sheet) if ending in EXCEL else read_csv(path)
    _check_columns(path, header, declared)
    nameless = [row for row in rows if not row[declared.participant]]
    rows = [row for row in rows if row[declared.participant]]
    said = [f"left out: {len(nameless)} rows without {declared.participant!r}"] if nameless else []
    if pointed := with_points(rows, _columns_of(declared)):
        said.append(f"decimal commas were read as points: {', '.join(pointed)}")
        rows = [row | {name: row[name].replace(",", ".") for name in pointed} for row in rows]
    refuse_one_label(path, (row[declared.participant] for row in rows), declared.prefix)
    visits = [_visit(path, row, declared) for row in rows]
    return Imported(
        people=_people(path, rows, declared),
        tables={name: _table(path, rows, visits, name, declared) for name in declared.tables},
        allocation=_allocation(path, rows, declared),
        said=said,
    )


def read_excel(path: Path, sheet: str | None = None) -> tuple[list[str], list[Row]]:
    """Return the header and the rows of a sheet, as text; a date as YYYY-MM-DD.

    Raises
    ------
    ValueError
        The extra `excel` is not installed, the file is no workbook, or there is no such sheet.
    """
    try:
        from openpyxl import load_workbook  # type: ignore[import-untyped]  # an extra: few offices need it
    except ImportError:
        fix = "save the sheet as CSV (UTF-8), or pip install reconfmri[excel]"
        raise InputError(path, "Excel files need openpyxl", fix=fix, code=CODE) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        what = f"it is no workbook ({type(error).__name__})"
        raise InputError(path, what, fix="save it as .xlsx or CSV", code=CODE) from None
    if sheet is not None and sheet not in book.sheetnames:
        raise InputError(path, f"it has no sheet {sheet!r}", fix=f"one of {book.sheetnames}", code=MAPPED)
    cells = (book[sheet] if sheet else book.worksheets[0]).iter_rows(values_only=True)
    rows = [[_text(cell) for cell in row] for row in cells]
    return as_rows(path, [row for row in rows if any(row)])


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, date):  # a datetime is one
        return cell.isoformat()
    return f"{cell:.15g}" if isinstance(cell, float) else str(cell)


def _check_columns(path: Path, header: list[str], declared: TableMap) -> None:
    columns = _columns_of(declared)[len(declared.participants) :]
    own = (declared.visit, declared.date, declared.allocation.field, declared.allocation.stratum)
    named = [declared.participant, *filter(None, own), *declared.participants, *columns]
    if absent := [name for name in dict.fromkeys(named) if name not in header]:
        raise InputError(
            path, f"the map names the columns {absent}, which it lacks", fix="correct the map", code=MAPPED
        )
    arm = declared.allocation.field
    if arm in (*declared.participants, *columns):
        what = f"the map gives the column of the arm, {arm!r}, to a table that everybody reads"
        raise InputError(path, what, fix="leave it under allocation alone", code="E-CONF-F12")


def _columns_of(declared: TableMap) -> list[str]:
    """The columns that become those of participants.tsv, then of tables of phenotype/."""
    parts = [part for table in declared.tables.values() for part in (table.columns, *table.wide.values())]
    return [*declared.participants, *(column for part in parts for column in part.values())]


def _visit(path: Path, row: Row, declared: TableMap) -> str | None:
    """The session of a row: `` without visits, None where the map leaves it out."""
    if declared.visit is None:
        return ""
    cell = row[declared.visit]
    if cell not in declared.sessions:
        what = f"the map names no session for the visit {cell!r}"
        raise InputError(path, what, fix="add it under `sessions`", code=MAPPED)
    return declared.sessions[cell]


def _cell(row: Row, column: str, declared: TableMap) -> str | None:
    cell = " ".join(row[column].split())
    return None if cell in ("", *declared.missing) else cell


def _table(path: Path, rows: list[Row], visits: list[str | None], name: str, declared: TableMap) -> Table:
    table, found = declared.tables[name], []
    days = _days(path, rows, visits, declared)
    for row, visit in zip(rows, visits, strict=True):
        for session, columns in _parts(table, visit):
            cells = {own: _cell(row, column, declared) for own, column in columns.items()}
            if any(cell is not None for cell in cells.values()):
                person = participant(row[declared.participant], declared.prefix)
                day = days.get((person, session))
                keys = {PERSON: person, SESSION: f"ses-{session}" if session else None, DAY: day}
                found.append(keys | cells)
    names = dict.fromkeys(own for part in (table.columns, *table.wide.values()) for own in part)
    made = pd.DataFrame(found, columns=[PERSON, SESSION, DAY, *names], dtype=object)
    made = made.astype(object).where(made.notna(), None)
    if (twice := made.duplicated([PERSON, SESSION], keep=False)).any():
        first = made[twice].iloc[0]
        session = str(first[SESSION] or "").removeprefix("ses-")
        what = f"{name}: {first[PERSON]} session {session} has two rows"
        raise InputError(path, what, fix="keep one", code=CONFLICT)
    idle = [key for key in (SESSION, DAY) if made[key].isna().all()]
    described = {own: {"Description": f"{name}: {own}"} for own in names}
    ordered = made.sort_values([PERSON, SESSION], kind="stable").drop(columns=idle)
    return Table(ordered.reset_index(drop=True), described, name)


def _parts(table: OfficeTable, visit: str | None) -> list[tuple[str, Mapping[str, str]]]:
    """(session, columns) that a row holds."""
    if table.wide:
        return list(table.wide.items())
    return [] if visit is None else [(visit, table.columns)]


def _days(
    path: Path, rows: list[Row], visits: list[str | None], declared: TableMap
) -> dict[tuple[str, str], str]:
    """(person, session) -> days from the person's visit in the first session of the map."""
    dates: dict[tuple[str, str], date] = {}
    for row, visit in zip(rows, visits, strict=True):
        cell = _cell(row, declared.date, declared) if declared.date and visit else None
        if cell is not None and visit is not None:
            day = as_date(cell)
            if day is None:
                what = f"a value of {declared.date!r} is no date YYYY-MM-DD"
                raise InputError(path, what, fix="write dates so", code=CONFLICT)
            dates[participant(row[declared.participant], declared.prefix), visit] = day
    first = next((session for session in declared.sessions.values() if session), "")
    return {
        (person, session): str((day - dates[person, first]).days)
        for (person, session), day in dates.items()
        if (person, first) in dates
    }


def _people(path: Path, rows: list[Row], declared: TableMap) -> Table:
    found = _of_people(path, rows, declared, declared.participants)
    made = pd.DataFrame(
        [{PERSON: who, **found[who]} for who in sorted(found)],
        columns=[PERSON, *declared.participants],
        dtype=object,
    )
    return Table(made, {name: {"Description": name} for name in declared.participants})


def _allocation(path: Path, rows: list[Row], declared: TableMap) -> pd.DataFrame:
    """participant_id, arm, stratum; empty where the map declares no column of the arm."""
    arm, stratum = declared.allocation.field, declared.allocation.stratum
    if arm is None:
        return pd.DataFrame(columns=[PERSON, "arm", "stratum"])
    found = _of_people(path, rows, declared, [arm, *([stratum] if stratum else [])])
    labels = declared.allocation.labels
    made = [
        {
            PERSON: who,
            "arm": labels.get(str(mine[arm]), mine[arm]),
            "stratum": mine[stratum] if stratum else None,
        }
        for who, mine in sorted(found.items())
    ]
    return pd.DataFrame(made, columns=[PERSON, "arm", "stratum"], dtype=object)


def _of_people(path: Path, rows: list[Row], declared: TableMap, columns: list[str]) -> dict[str, Cells]:
    """Person -> the one value of each column over the person's rows.

    Raises
    ------
    ValueError
        Somebody has two; the values are not shown.
    """
    found: dict[str, Cells] = {}
    for row in rows:
        person = participant(row[declared.participant], declared.prefix)
        mine = found.setdefault(person, dict.fromkeys(columns))
        for name in columns:
            cell = _cell(row, name, declared)
            if cell is not None and mine[name] not in (None, cell):
                raise InputError(path, f"{person} has two values of {name!r}", fix="keep one", code=CONFLICT)
            mine[name] = cell if cell is not None else mine[name]
    return found
