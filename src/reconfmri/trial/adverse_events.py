"""The table of adverse events, checked: one row per event, by the trial office's own terms."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from reconfmri.files import InputError
from reconfmri.tables import read_table

CODE = "E-DATA-B17"
YES, NO = ("1", "1.0", "yes", "true", "y"), ("0", "0.0", "no", "false", "n")
NOTHING = ("none", "no", "nil", "-", "no ae", "no aes", "no adverse event", "no adverse events")
COLUMNS = {
    "participant_id": "Participant, as in the allocation",
    "term": "What happened, in one coding for all, such as a MedDRA preferred term",
    "severity": "Grade, such as mild, moderate, severe; may be absent",
    "serious": "Whether it was serious: yes or no, 1 or 0; may be absent",
}


def read_adverse_events(path: str | Path) -> pd.DataFrame:
    """Return the table of adverse events, `COLUMNS`; ids with `sub-`, terms in lower case.

    Raises
    ------
    ValueError
        A column is missing or there twice, or a row has no person, no event, or is neither serious nor not.
    """
    table = read_table(path, required=["participant_id", "term"])
    for name in ("severity", "serious"):
        spelt = [column for column in table.columns if str(column).strip().lower() == name]
        if len(spelt) > 1:
            raise InputError(path, f"it has the columns {spelt}", fix="keep one of them", code=CODE)
        table = table.rename(columns=dict.fromkeys(spelt, name))
    for name in ("severity", "serious"):
        if name not in table:
            table[name] = None
    for line, row in enumerate(table.to_dict("records"), start=2):
        for name in ("participant_id", "term"):
            if row[name] is None:
                raise InputError(path, f"line {line}: {name} is missing", fix="complete the row", code=CODE)
        if _plain(row["term"]) in NOTHING:
            what = f"line {line}: the term {row['term']!r} says that there was no event"
            raise InputError(path, what, fix="delete the row", code=CODE)
        if row["serious"] is not None and str(row["serious"]).lower() not in YES + NO:
            what = f"line {line}: serious is {row['serious']!r}"
            raise InputError(path, what, fix="write yes or no, n/a where unknown", code=CODE)
    ids = table["participant_id"].map(lambda cell: f"sub-{str(cell).removeprefix('sub-')}")
    plain = {name: table[name].map(_plain) for name in ("term", "severity", "serious")}
    serious = plain["serious"].map(lambda cell: None if cell is None else cell in YES)
    return pd.DataFrame({"participant_id": ids} | plain | {"serious": serious}, dtype=object)


def _plain(cell: object) -> str | None:
    return None if cell is None or cell != cell else " ".join(str(cell).lower().split())
