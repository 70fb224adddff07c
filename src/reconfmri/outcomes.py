"""Clinical scales: totals checked, recomputed where items are given, in long form."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import product

import pandas as pd

from reconfmri.config import Scale
from reconfmri.exclusions import MISSING, Exclusion

STAGE, CODE = "score_scale", "E-DATA-B16"
COLUMNS = ["participant_id", "session_id", "domain", "outcome", "value", "se", "unit", "coverage", "df"]
ROUNDING = 1e-6


def score_scale(table: pd.DataFrame, name: str, scale: Scale) -> tuple[pd.DataFrame, list[Exclusion]]:
    """Return one row per line of `phenotype/<name>.tsv` (text, as read), and why a value is missing.

    The outcome is `<name>.total` in the scale's unit. With items the total is their sum, which must agree
    with the total that was written down; nothing is imputed.

    Raises
    ------
    ValueError
        A column is missing, or a participant and session stand on two lines.
    """
    _check_columns(table, name, scale)
    ids = table["participant_id"].map(plain_id)
    given = table["session_id"] if "session_id" in table else pd.Series(None, index=table.index, dtype=object)
    sessions = given.map(plain_visit)
    _check_twice(ids, sessions, name)
    outcome, rows, missing = f"{name}.total", [], []
    for line, (person, session) in enumerate(zip(ids, sessions, strict=True)):
        value, reason = _score(table.iloc[line], scale)
        rows.append((person, session, "clinical", outcome, value, math.nan, scale.unit, math.nan, math.nan))
        if reason:
            text = f"{CODE} phenotype/{name}.tsv line {line + 2}: {reason}"
            missing.append(Exclusion(person, session, region=outcome, stage=STAGE, code=CODE, reason=text))
    return pd.DataFrame(rows, columns=COLUMNS), missing


def plain_id(cell: object) -> str:
    """Return an id of a phenotype table as everywhere else: with `sub-`."""
    return f"sub-{str(cell).removeprefix('sub-')}"


def plain_visit(cell: object) -> str:
    """Return a visit of a phenotype table as everywhere else: without `ses-`; `n/a` for an empty cell."""
    return MISSING if cell is None or cell != cell else str(cell).removeprefix("ses-")


def meet_people(
    rows: pd.DataFrame, name: str, people: Collection[str], sessions: Sequence[str]
) -> tuple[pd.DataFrame, list[Exclusion]]:
    """Return the rows of `people`, and an exclusion per row of nobody and per person and session without one.

    `sessions` are those that a score is expected of.
    """
    found = []
    known = rows["participant_id"].isin(list(people))
    for row in rows[~known].itertuples():
        what = f"{row.participant_id} is in no other table. Fix: correct the id"
        found.append(_without_value(str(row.participant_id), str(row.session_id), name, what))
    there = set(zip(rows["participant_id"], rows["session_id"], strict=True))
    for person, session in product(people, sessions):
        if (person, session) not in there:
            what = f"no row of {person} session {session}. Fix: no action is needed if the visit was missed"
            found.append(_without_value(person, session, name, what))
    return rows[known], found


def _without_value(person: str, session: str, name: str, what: str) -> Exclusion:
    reason = f"{CODE} phenotype/{name}.tsv: {what}"
    return Exclusion(person, session, region=f"{name}.total", stage=STAGE, code=CODE, reason=reason)


def _score(row: pd.Series, scale: Scale) -> tuple[float, str]:
    """Return the total and an empty reason, or NaN and why there is none."""
    written, fault = _number(row, scale.total, scale.range) if scale.total in row else (math.nan, "")
    if fault:
        return math.nan, fault
    if not scale.items:
        return (written, "") if not math.isnan(written) else (math.nan, f"{scale.total} is missing")
    items = [_number(row, item, scale.item_range) for item in scale.items]
    if faults := [fault for _, fault in items if fault]:
        return math.nan, "; ".join(faults)
    absent = [item for item, (value, _) in zip(scale.items, items, strict=True) if math.isnan(value)]
    if absent:
        return math.nan, f"items {absent} are missing, so the total is not known"
    total = sum(value for value, _ in items)
    if not math.isnan(written) and abs(total - written) > ROUNDING:
        return math.nan, f"{scale.total} is {written:g}, its items sum to {total:g}. Fix: correct the table"
    return total, ""  # in the scale's range, which is the sum of the items' (`config.Scale`)


def _number(row: pd.Series, column: str, allowed: tuple[float, float]) -> tuple[float, str]:
    """Return a cell as a number (NaN when missing), and what is wrong with it."""
    cell = row[column]
    if pd.isna(cell):
        return math.nan, ""
    try:
        value = float(cell)
    except ValueError:
        return math.nan, f"{column} is {cell!r}, not a number. Fix: correct the table, n/a for missing"
    if not allowed[0] <= value <= allowed[1]:
        return (
            math.nan,
            f"{column} is {value:g}, outside {allowed[0]:g} to {allowed[1]:g}. Fix: correct the table",
        )
    return value, ""


def _check_columns(table: pd.DataFrame, name: str, scale: Scale) -> None:
    wanted = ["participant_id", *scale.items, *([] if scale.items else [scale.total])]
    absent = [column for column in wanted if column not in table]
    if absent:
        listed = [str(column) for column in table.columns]
        raise ValueError(f"phenotype/{name}.tsv: columns {absent} are missing; it has {listed}")


def _check_twice(ids: pd.Series, sessions: pd.Series, name: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    for line, key in enumerate(zip(ids, sessions, strict=True), start=2):
        if key in seen:
            where = f"lines {seen[key]} and {line}"
            raise ValueError(f"phenotype/{name}.tsv: {key[0]} session {key[1]} stands on {where}; delete one")
        seen[key] = line
