"""The measure table: one row per participant, session and outcome, wherever the number came from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from reconfmri.config import DOMAINS
from reconfmri.exclusions import MISSING, UNIT, Exclusion
from reconfmri.files import InputError
from reconfmri.labels import refuse_alike
from reconfmri.step import is_empty
from reconfmri.tables import read_table, write_table

KEY = ["participant_id", "session_id", "domain", "outcome"]
NUMBERS = ["value", "se", "coverage"]

DESCRIPTIONS = {
    "participant_id": "Participant, as in participants.tsv (`sub-01`)",
    "session_id": "Session label without `ses-`; n/a in data without sessions",
    "domain": "activation, connectivity, skin_conductance, physiology, clinical or quality",
    "outcome": "`<what>.<contrast or condition>`, e.g. `amygdala.trauma_first-neutral_first`",
    "value": "Estimate, in the unit of the column `unit`; n/a with its reason in exclusions.tsv",
    "se": "Standard error of the value, in the same unit; n/a where it is not defined",
    "unit": "Unit of value and se",
    "coverage": "Share of the region inside the mask of the run, or of a recording's seconds that were "
    "usable, mean over runs; of a scale, of its items that were answered",
    "n_runs": "Runs of the session that gave a value; combined by fixed effects",
}
RUN_DESCRIPTIONS = DESCRIPTIONS | {
    "task": "BIDS task label",
    "run": "BIDS run label; n/a when there is none",
    "df": "Degrees of freedom of the fit, or effective number of observations of a coupling",
}
# As columns of a file: pybids refuses a dataset where a key of a JSON is also an entity.
IN_FILES = {"task": "task_id", "run": "run_id"}
RUN_COLUMNS = [*UNIT, "domain", "outcome", "value", "se", "unit", "coverage", "df"]


def write_rows(path: str | Path, rows: pd.DataFrame, unit: Exclusion) -> None:
    """Write a producer's rows with the ids of the run they belong to, and the JSON beside them.

    Raises
    ------
    ValueError
        A column that the contract asks for is missing, or a row is not of the contract.
    """
    table = rows.assign(
        participant_id=rows.get("participant_id", unit.participant_id),
        session_id=rows.get("session_id", unit.session_id),
        task=unit.task,
        run=unit.run,
    )
    for name in ("se", "coverage", "df"):
        table[name] = table[name].astype(float) if name in table else math.nan
    check_rows(table)
    described = {IN_FILES.get(name, name): text for name, text in RUN_DESCRIPTIONS.items()}
    write_table(path, table[RUN_COLUMNS].rename(columns=IN_FILES), described)


def read_rows(path: str | Path) -> pd.DataFrame:
    """Return the rows that `write_rows` wrote; none for the empty file of an excluded run."""
    if is_empty(path):
        return pd.DataFrame(columns=RUN_COLUMNS)
    written = [IN_FILES.get(name, name) for name in RUN_COLUMNS]
    table = read_table(path, numeric=[*NUMBERS, "df"], required=written)
    back = {name: column for column, name in IN_FILES.items()}
    return table.rename(columns=back).fillna(dict.fromkeys(UNIT, MISSING))


def stack(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the measure table of all producers' rows (as of `read_rows`), sorted by its key.

    Runs of a session are combined by fixed effects: weighted by 1 / se^2 where every run has a standard
    error, else by their plain mean (with a standard error only when there is one run).

    Raises
    ------
    ValueError
        A run has an outcome twice, an outcome has two units, or a row is not of the contract.
    """
    given = [table for table in tables if len(table)]
    if not given:
        return pd.DataFrame(columns=list(DESCRIPTIONS))
    rows = pd.concat([table.reindex(columns=RUN_COLUMNS) for table in given], ignore_index=True)
    rows[[*UNIT]] = rows[[*UNIT]].fillna(MISSING)
    check_rows(rows)
    _check_units(rows)
    combined = [
        _combined(dict(zip(KEY, map(str, key), strict=True)), runs) for key, runs in rows.groupby(KEY)
    ]
    return pd.DataFrame(combined, columns=list(DESCRIPTIONS))


def read_measures(path: str | Path) -> pd.DataFrame:
    """Return a measure table with its ids as text and its numbers as float64.

    A table from elsewhere may be without standard errors, coverage and n_runs.

    Raises
    ------
    ValueError
        The table is not of the contract, or two of its people, visits, outcomes or units differ in spelling
        only; the message names the file.
    """
    table = read_table(
        path, numeric=["value"], required=[*KEY, "unit"], optional=["se", "coverage", "n_runs"]
    )
    table["n_runs"] = table["n_runs"].fillna(table["value"].notna().astype(float))
    if (uncounted := (table["n_runs"] < 0) | (table["n_runs"] % 1 != 0)).any():
        line = int(uncounted.to_numpy().argmax()) + 2
        what = f"line {line}: n_runs is {table['n_runs'].iloc[line - 2]:g}, no count of runs"
        raise InputError(path, what, fix="a whole number, n/a where it is not known")
    table = table.fillna({"session_id": MISSING}).astype({"n_runs": int})
    for name in ("participant_id", "session_id", "outcome", "unit"):
        refuse_alike(table[name].dropna(), name, str(path))
    try:
        check_rows(table)
        _check_units(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return table[list(DESCRIPTIONS)]


def check_rows(rows: pd.DataFrame) -> None:
    """Check rows of producers or of the measure table.

    Raises
    ------
    ValueError
        An unknown domain, an infinite number, a standard error that is not positive, a coverage that is no
        share, an empty unit or id, or a row that is there twice.
    """
    unknown = sorted(set(map(str, rows["domain"])) - set(DOMAINS))
    if unknown:
        raise ValueError(f"unknown domains {unknown}. Fix: the domain is one of {list(DOMAINS)}")
    for name in ("participant_id", "outcome", "unit"):
        if rows[name].isna().any():
            row = int(rows[name].isna().to_numpy().argmax()) + 1
            raise ValueError(f"column {name!r} is empty in row {row}. Fix: complete the row, or delete it")
    for name in NUMBERS:
        numbers = rows[name].to_numpy(dtype=float)
        if np.isinf(numbers).any():
            where = _name_of(rows, np.isinf(numbers))
            raise ValueError(f"{name} of {where} is infinite. Fix: n/a where there is none")
    errors = rows["se"].to_numpy(dtype=float)
    if (errors <= 0).any():
        where = _name_of(rows, errors <= 0)
        raise ValueError(f"the standard error of {where} is not positive. Fix: n/a where it is not known")
    shares = rows["coverage"].to_numpy(dtype=float)
    if (outside := (shares < 0) | (shares > 1 + 1e-6)).any():
        where = _name_of(rows, outside)
        raise ValueError(f"the coverage of {where} is {shares[outside][0]:g}. Fix: a share, from 0 to 1")
    key = [name for name in (*UNIT, "domain", "outcome") if name in rows]
    twice = rows.duplicated(key).to_numpy()
    if twice.any():
        first = (rows[key].astype(str) == rows.loc[twice, key].iloc[0].astype(str)).all(axis=1).to_numpy()
        given = ", ".join(
            f"{value:g} in row {place + 1}"
            for place, value in zip(first.nonzero()[0], rows["value"][first], strict=True)
        )
        raise ValueError(f"{_name_of(rows, twice)} is there twice: {given}. Fix: keep one of the rows")


def _combined(key: dict[str, str], runs: pd.DataFrame) -> dict[str, object]:
    """Return the row of one participant, session and outcome."""
    usable = runs[runs["value"].notna()]
    value, se = _fixed_effects(usable["value"].to_numpy(dtype=float), usable["se"].to_numpy(dtype=float))
    return key | {
        "value": value,
        "se": se,
        "unit": runs["unit"].iloc[0],
        "coverage": float(runs["coverage"].astype(float).mean()),
        "n_runs": len(usable),
    }


def _fixed_effects(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return math.nan, math.nan
    if len(values) == 1:
        return float(values[0]), float(errors[0])
    if not np.isfinite(errors).all():
        return float(values.mean()), math.nan
    weights = 1 / errors**2
    return float(weights @ values / weights.sum()), float(1 / math.sqrt(weights.sum()))


def _check_units(rows: pd.DataFrame) -> None:
    units = rows.groupby("outcome")["unit"].unique()
    mixed = {str(name): list(found) for name, found in units.items() if len(found) > 1}
    if mixed:
        raise ValueError(f"outcomes with more than one unit: {mixed}. Fix: one unit, or an outcome each")


def _name_of(rows: pd.DataFrame, where: np.ndarray) -> str:
    row = rows.iloc[int(where.argmax())]
    return f"{row['outcome']} of {row['participant_id']} session {row.get('session_id', MISSING)}"
