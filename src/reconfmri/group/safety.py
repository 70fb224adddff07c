"""Safety: adverse events by arm, and ratings during and after the treatment by arm, visit and time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from reconfmri.contracts.questions.safety import ADVERSE, MONITORED
from reconfmri.group import grid, proportions
from reconfmri.group.asked import Asked
from reconfmri.group.proportions import Counts

ANY, SERIOUS = "any adverse event", "any serious adverse event"


def estimate(asked: Asked) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of adverse events and of what was monitored.

    Raises
    ------
    ValueError
        The allocation does not fit the study.
    """
    return adverse_events(asked), monitored(asked)


def adverse_events(asked: Asked) -> pd.DataFrame:
    """Return one row per term, grade and `any`: people and events by arm; none without a table.

    Everybody who was randomised counts; people of no arm do not. Nothing is corrected for their number.

    Raises
    ------
    ValueError
        The allocation does not fit the study.
    """
    if asked.adverse_events is None:
        return ADVERSE.frame([])
    arms, (active, _) = grid.read_arms(asked.allocation, asked.group), asked.group.arms.pair
    table = asked.adverse_events
    table = table[table["participant_id"].isin(list(arms))]
    table = table.assign(active=table["participant_id"].map(arms) == active)
    n_active = sum(arm == active for arm in arms.values())
    people = n_active, len(arms) - n_active
    return ADVERSE.frame([_event_row(*part, people, asked.group.level) for part in _parts(table)])


def _parts(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(kind, name, events), the common ones first."""
    yield "any", ANY, table
    if table["serious"].notna().any():
        yield "any", SERIOUS, table[table["serious"] == True]  # noqa: E712 - None is neither
    for kind in ("severity", "term"):
        counts = table.groupby(kind)["participant_id"].nunique()
        for name in sorted(counts.index, key=lambda name: (-counts[name], name)):
            yield kind, str(name), table[table[kind] == name]


def _event_row(
    kind: str, name: str, events: pd.DataFrame, people: tuple[int, int], level: float
) -> dict[str, object]:
    sides = [events[events["active"].astype(bool)], events[~events["active"].astype(bool)]]
    who = [int(side["participant_id"].nunique()) for side in sides]
    counts = Counts(who[0], people[0], who[1], people[1])
    difference = proportions.risk_difference(counts, level)
    return {
        "kind": kind,
        "name": name,
        "people_active": who[0],
        "n_active": people[0],
        "events_active": len(sides[0]),
        "people_control": who[1],
        "n_control": people[1],
        "events_control": len(sides[1]),
        "difference": difference.estimate,
        "lower": difference.lower,
        "upper": difference.upper,
        "level": level,
        "p": proportions.fisher_p(counts),
    }


def monitored(asked: Asked) -> pd.DataFrame:
    """Return one row per declared outcome, session and arm: how it was, descriptively.

    Raises
    ------
    ValueError
        The allocation does not fit the study.
    """
    arms = grid.read_arms(asked.allocation, asked.group) if asked.group.safety else {}
    rows = []
    for name, outcomes in asked.group.safety.items():
        for outcome in outcomes:
            mine = asked.measures[asked.measures["outcome"] == outcome]
            for session in asked.labels:
                here = mine[(mine["session_id"] == session) & mine["value"].notna()]
                for arm in asked.group.arms.shown:
                    values = here.loc[here["participant_id"].map(arms) == arm, "value"].to_numpy(float)
                    start = {"name": name, "outcome": outcome, "session": session, "arm": arm}
                    unit = str(mine["unit"].iloc[0]) if len(mine) else "n/a"
                    if len(values):
                        rows.append(
                            start
                            | {"unit": unit, "level": asked.group.level}
                            | _described(values, asked.group.level)
                        )
    return MONITORED.frame(rows)


def _described(values: np.ndarray, level: float) -> dict[str, object]:
    mean, n = float(values.mean()), len(values)
    sd = float(values.std(ddof=1)) if n > 1 else math.nan
    half = float(stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n) if n > 1 else math.nan
    return {
        "n": n,
        "mean": mean,
        "sd": sd,
        "lower": mean - half,
        "upper": mean + half,
        "median": float(np.median(values)),
        "highest": float(values.max()),
        "lowest": float(values.min()),
    }
