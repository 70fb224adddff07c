"""The allocation: which arm everybody was randomised to. Only the group level and `check` may read it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from reconfmri.bids import PARTICIPANT
from reconfmri.exclusions import MISSING
from reconfmri.files import InputError
from reconfmri.labels import refuse_alike
from reconfmri.tables import read_table


def read_allocation(
    path: str | Path, participants: str | Path | None = None, columns: Iterable[str] = ()
) -> pd.DataFrame:
    """Return `participant_id arm stratum` as text, one row per randomised person; stratum may be `n/a`.

    A row without an arm is of nobody who was randomised, and is left aside.

    And, for the covariates of the group model, `columns` of `participants` (participants.tsv); None where a
    person has no value there.

    Raises
    ------
    ValueError
        A column is missing, an id is malformed or occurs twice, or two ids, arms or strata differ
        in spelling only.
    """
    table = read_table(path, required=["participant_id", "arm"])
    if "stratum" not in table:
        table["stratum"] = None
    table = table[["participant_id", "arm", "stratum"]].fillna(MISSING)
    seen: dict[str, int] = {}
    rows = table["participant_id"].astype(str)
    for line, person in enumerate(rows, start=2):
        if not PARTICIPANT.fullmatch(person):
            what = f"line {line}: participant_id {person!r} must look like sub-01"
            raise InputError(path, what, fix="write it as in participants.tsv")
        if person in seen:
            raise InputError(path, f"{person} is on lines {seen[person]} and {line}", fix="keep one")
        seen[person] = line
    table = table[table["arm"] != MISSING].reset_index(drop=True)
    if table.empty:
        raise InputError(path, "nobody is allocated", fix="one row per randomised person, with the arm")
    for name in ("participant_id", "arm", "stratum"):
        refuse_alike(table[name], name, str(path))
    wanted = list(dict.fromkeys(columns))
    if not participants or not wanted:
        return table
    known = read_table(participants, required=["participant_id", *wanted])[["participant_id", *wanted]]
    again = known["participant_id"][known["participant_id"].duplicated()]
    if len(again):
        raise InputError(participants, f"{again.iloc[0]} has several rows", fix="keep one row per person")
    return table.merge(known, on="participant_id", how="left", validate="one_to_one")
