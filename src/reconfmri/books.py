"""The books: every outcome expected of a person and a session is a row of measures, or an exclusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reconfmri.config import Study
from reconfmri.exclusions import UNIT, Exclusion

AGAIN = "delete that file and run the same command again, which makes it anew"


@dataclass(frozen=True)
class Entry:
    """A table of measures, its unit, and the outcomes that it must hold, each with a value or `n/a`."""

    path: Path
    unit: Exclusion
    outcomes: Sequence[str]


def outcomes_of_runs(study: Study) -> dict[str, list[str]]:
    """Return the outcomes that each producer writes of every run, by the producer's `desc`.

    The ghost of an image is left out: it is measured only where the image has a background.
    """
    found: dict[str, list[str]] = {}
    for outcome in study.outcomes.values():
        if outcome.always and outcome.producer != "scale":
            found.setdefault(outcome.producer, []).append(outcome.name)
    return found


def check_books(
    tables: Mapping[Path, pd.DataFrame], entries: Iterable[Entry], exclusions: Iterable[Exclusion]
) -> None:
    """Check that every table of measures holds what it must, or that an exclusion says why not.

    `tables` are as of `measures.read_rows`, by their path; none for the empty file of an excluded run.

    Raises
    ------
    ValueError
        A row is missing and nothing says why, or a table holds another unit than its name says.
    """
    known = list(exclusions)
    for entry in entries:
        rows = tables[entry.path]
        mine = _of_unit(rows, entry.unit)
        if len(mine) < len(rows):
            where = rows[~rows.index.isin(mine.index)].iloc[0]
            raise _fault(entry, f"it holds {where['participant_id']} session {where['session_id']}")
        absent = [name for name in entry.outcomes if name not in set(mine["outcome"])]
        if absent and not (len(rows) == 0 and _is_out(entry.unit, known)):
            counted = f"{len(absent)} of {len(entry.outcomes)} rows are missing ({absent[0]} is the first)"
            raise _fault(entry, f"{counted}, and no exclusion says why")


def check_scale(
    path: Path,
    rows: pd.DataFrame,
    outcome: str,
    expected: Iterable[tuple[str, str]],
    exclusions: Iterable[Exclusion],
) -> None:
    """Check that a scale has a row for every person and session expected, or an exclusion that says why not.

    Raises
    ------
    ValueError
        A row is missing and nothing says why.
    """
    rows = rows[rows["outcome"] == outcome]
    there = set(zip(rows["participant_id"], rows["session_id"], strict=True))
    there |= {(row.participant_id, row.session_id) for row in exclusions if row.region == outcome}
    absent = [unit for unit in expected if unit not in there]
    if absent:
        person, session = absent[0]
        unit = Exclusion(person, session)
        what = f"{len(absent)} rows of {outcome} are missing, and no exclusion says why"
        raise _fault(Entry(path, unit, [outcome]), what)


def _of_unit(rows: pd.DataFrame, unit: Exclusion) -> pd.DataFrame:
    if rows.empty:
        return rows
    return rows[[all(pair) for pair in zip(*(rows[key] == getattr(unit, key) for key in UNIT), strict=True)]]


def _is_out(unit: Exclusion, exclusions: Iterable[Exclusion]) -> bool:
    return any(row.takes_out(unit) for row in exclusions)


def _fault(entry: Entry, what: str) -> ValueError:
    unit = entry.unit
    named = f"{unit.participant_id} session {unit.session_id} task {unit.task} run {unit.run}"
    return ValueError(f"E-DATA-D03 {entry.path}: of {named}, {what}. Fix: {AGAIN}")
