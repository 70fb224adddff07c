"""Columns of a dataset's tables that may be, or that show, the arm."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reconfmri.tables import read_table

NAMED_ARM = ("arm", "allocation", "allocated_arm", "randomization", "randomisation", "randomized_arm")
MAY_BE_ARM = (
    "group", "study_group", "trial_group", "treatment_group", "treatment", "intervention", "drug",
    "condition", "cohort", "trt", "tx",
)  # fmt: skip
TREATMENTS = (
    "ketamine", "midazolam", "placebo", "sham", "saline", "vehicle", "verum", "propranolol", "hydrocortisone",
    "cortisol", "cycloserine", "oxytocin", "mdma", "psilocybin", "lorazepam", "sertraline",
)  # fmt: skip
FEWEST = 6  # people; of fewer, any column of two values may go with the arm by chance


@dataclass(frozen=True)
class Candidate:
    """A column that may be the arm; `sure` when its name says so, or each of its values is a treatment."""

    column: str
    values: tuple[str, ...]
    sure: bool


def candidates(table: pd.DataFrame) -> list[Candidate]:
    """Return the columns of participants.tsv that may be the arm, by name or by values; the sure ones first.

    A column called `group` may be a diagnosis, so its name alone is not enough; one value is no allocation.
    """
    found = []
    for name in table.columns:
        values = tuple(dict.fromkeys(str(value).strip() for value in table[name].dropna()))
        plain = re.sub(r"[^a-z]+", "_", str(name).lower()).strip("_")
        named = plain in NAMED_ARM or plain.endswith("_arm")
        treated = all(any(word in value.lower() for word in TREATMENTS) for value in values)
        if len(values) > 1 and (named or treated or plain in MAY_BE_ARM):
            found.append(Candidate(str(name), values, named or treated))
    return sorted(found, key=lambda item: not item.sure)


def telling_columns(table: pd.DataFrame, arms: dict[str, str]) -> list[str]:
    """Return the columns whose values go with the arms one to one; `arms`: person -> arm."""
    people = table["participant_id"].map(arms)
    known = table[people.notna()]
    if known["participant_id"].nunique() < FEWEST or people.nunique() < 2:
        return []
    pairs = {name: set(zip(known[name].astype(str), people.dropna(), strict=True)) for name in table.columns}
    return [
        str(name)
        for name, met in pairs.items()
        if len({value for value, _ in met}) == len({arm for _, arm in met}) == len(met)
    ]


def tables_in_sight(root: Path) -> dict[str, pd.DataFrame]:
    """Return the tables with a row per person that everybody with the data reads: participants, phenotype."""
    tables = {}
    for path in [root / "participants.tsv", *sorted((root / "phenotype").glob("*.tsv"))]:
        try:
            tables[path.relative_to(root).as_posix()] = read_table(path, required=["participant_id"])
        except (ValueError, OSError):
            continue  # reported as E-BIDS-A11
    return tables
