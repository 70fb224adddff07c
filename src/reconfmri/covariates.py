"""Covariates: variables known before treatment, checked once, as columns in SDs around their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconfmri.config import Covariate
from reconfmri.files import InputError
from reconfmri.labels import first_of, spelling_fault
from reconfmri.tables import number_of

CODE = "E-STAT-E10"
FEWEST = 2  # people of a category
# What stands for "unknown" in other programs. In a covariate they would be a category of their own.
UNKNOWN = ("na", "#n/a", "nan", "null", "-", "--", "?", "unknown", "missing", "999", "-999", "-99")


@dataclass(frozen=True)
class Column:
    """One column of the design: values (n_people,) in units of `sd` around their mean."""

    covariate: str
    label: str  # `1 SD of age`, or `site: B minus A`
    values: NDArray[np.float64]
    sd: float
    is_category: bool
    per_visit: bool = True  # a slope at each visit, or one for all

    @property
    def step(self) -> float:
        """What the label's step is on the scale of `values`: 1 SD, or from the first category to this one."""
        return 1 / self.sd if self.is_category else 1.0


def columns_of(name: str, settings: Covariate, cells: Mapping[str, object], file: str) -> list[Column]:
    """Return the columns of a covariate for people in the order of `cells`: person -> text, number or None.

    A number has one column, a category one per level after the first, in order of their names.

    Raises
    ------
    ValueError
        Somebody has no value and the study does not say what to do, a number is text, everybody has the same,
        a category has a single person or two spellings; one line with the people, and the fix.
    """
    present = {person: cell for person, cell in cells.items() if not _is_missing(cell)}
    absent = [person for person in cells if person not in present]
    if absent and (settings.missing == "stop" or not present):
        what = f"{first_of(absent)} {'has' if len(absent) == 1 else 'have'} no value"
        fix = f"complete it, or set group.covariates.{name}.missing: mean"
        raise _error(file, name, what, fix if present else "complete it, or drop the covariate")
    known = np.array([person in present for person in cells])
    raw = _levels(name, present, file) if settings.kind == "category" else _numbers(name, present, file)
    columns = []
    for label, numbers in raw.items():
        sd = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0
        if not sd > 1e-10 * float(np.abs(numbers).max(initial=0.0)):
            raise _error(file, name, "everybody has the same value", "drop the covariate")
        values = np.zeros(len(cells))
        values[known] = (numbers - numbers.mean()) / sd
        per_visit = settings.slope == "per_visit"
        columns.append(
            Column(name, label or f"1 SD of {name} ({sd:.3g})", values, sd, bool(label), per_visit)
        )
    return columns


def _numbers(name: str, present: Mapping[str, object], file: str) -> dict[str, NDArray[np.float64]]:
    numbers, bad = [], []
    for person, cell in present.items():
        try:
            numbers.append(number_of(cell))
        except ValueError:
            numbers.append(math.nan)
        if not math.isfinite(numbers[-1]):
            bad.append(f"{cell!r} of {person}")
    if bad:
        fix = f"write numbers, n/a where unknown, or set group.covariates.{name}.kind: category"
        raise _error(file, name, f"{first_of(bad)} is not a number", fix)
    return {"": np.array(numbers)}


def _levels(name: str, present: Mapping[str, object], file: str) -> dict[str, NDArray[np.float64]]:
    cells = [str(cell) for cell in present.values()]
    if fault := spelling_fault(cells, "category"):
        raise _error(file, name, *fault)
    if unknown := [cell for cell in dict.fromkeys(cells) if cell.strip().casefold() in UNKNOWN]:
        what = f"{first_of(map(repr, unknown))} looks like a missing value, and would be a category"
        raise _error(file, name, what, "write n/a where it is unknown; a category needs another name")
    first, *others = sorted(set(cells))
    if single := [level for level in (first, *others) if cells.count(level) < FEWEST]:
        what = (
            f"{first_of([repr(level) for level in single])} has a single person, who would count for nothing"
        )
        raise _error(file, name, what, "join categories, or drop the covariate")
    if not others:
        raise _error(file, name, "everybody has the same value", "drop the covariate")
    return {
        f"{name}: {level} minus {first}": np.array([float(cell == level) for cell in cells])
        for level in others
    }


def _is_missing(cell: object) -> bool:
    return cell is None or cell != cell


def _error(file: str, name: str, what: str, fix: str) -> InputError:
    return InputError(file, f"covariate {name!r}: {what}", fix=fix, code=CODE)
