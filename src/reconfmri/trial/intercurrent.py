"""The table of intercurrent events: who had which event before which visit, and what is assumed then."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from reconfmri.files import InputError
from reconfmri.tables import number_of, read_table

Strategy = Literal[
    "missing_at_random", "jump_to_reference", "copy_reference", "copy_increments", "last_mean", "delta"
]
AT_RANDOM: Strategy = "missing_at_random"
CODE = "E-CONF-C05"
Fault = tuple[str, str] | None
COLUMNS = {
    "participant_id": "Participant, as in the allocation",
    "session_id": "BIDS session label, without ses-, of the first visit after the event; never the baseline",
    "event": "What happened, in the trial's own words; one event has one strategy",
    "strategy": "For values that are missing from that visit on. missing_at_random: as the person's other "
    "visits predict; jump_to_reference: the mean of the control arm from there on; copy_reference: that "
    "mean at all visits; copy_increments: the own arm's mean before, then the control arm's "
    "changes; last_mean: the own arm's mean before, carried forward; delta: at random plus `delta`",
    "delta": "delta alone: what is added, in the unit of the outcome; n/a for the others",
}


def read_events(path: str | Path, allocation: pd.DataFrame, sessions: Sequence[str]) -> pd.DataFrame:
    """Return the table of intercurrent events, `COLUMNS`, checked.

    Raises
    ------
    ValueError
        A column is missing, or a row names nobody of the allocation, no later session, an unknown strategy or
        no delta; a person has two rows, an event two strategies. One line with file, row and how to fix it.
    """
    required = [name for name in COLUMNS if name != "delta"]
    table = read_table(path, required=required)
    if "delta" not in table:
        table["delta"] = None
    known, later = set(allocation["participant_id"]), list(sessions)[1:]
    strategies: dict[str, str] = {}
    for line, row in enumerate(table.to_dict("records"), start=2):
        if fault := _fault(row, known, later, strategies):
            raise InputError(path, f"line {line}: {fault[0]}", fix=fault[1], code=CODE)
        strategies[str(row["event"])] = str(row["strategy"])
    twice = table["participant_id"].duplicated()
    if twice.any():
        who = table.loc[twice, "participant_id"].iloc[0]
        raise InputError(path, f"{who} has two rows", fix="keep the first event of a person", code=CODE)
    return table[list(COLUMNS)].assign(delta=table["delta"].astype("float64"))


def _fault(
    row: Mapping[Any, Any], known: set[str], later: Sequence[str], strategies: dict[str, str]
) -> Fault:
    """What is wrong with a row of the table of events and how to fix it; None, nothing."""
    person, session, event, strategy, delta = (row[name] for name in COLUMNS)
    if person not in known:
        return f"{person} is not in the allocation", "correct the id, or delete the row"
    if session not in later:
        return f"session {session!r} is none after the baseline", f"one of {list(later)}"
    if strategy not in get_args(Strategy):
        return f"strategy {strategy!r} is unknown", f"one of {list(get_args(Strategy))}"
    if event is None:
        return "the event has no name", "say what happened"
    if strategies.get(str(event), strategy) != strategy:
        return f"{event!r} has the strategies {strategies[str(event)]!r} and {strategy!r}", "keep one"
    return _fault_of_delta(strategy, delta)


def _fault_of_delta(strategy: object, delta: object) -> Fault:
    if strategy != "delta":
        return None if delta is None else (f"delta {delta} beside {strategy!r}", "n/a, or strategy delta")
    try:
        finite = math.isfinite(number_of(delta))
    except ValueError:
        finite = False
    return None if finite else (f"delta is {delta!r}", "a number in the unit of the outcome")
