"""What is assumed of unseen values: missing at random, or a strategy of reference-based imputation.

A gap before a later visit, and a visit that the person attended while this outcome was lost (a scan excluded
for motion, a questionnaire without its scan), is missing at random. Whoever attended nothing from some visit
on has left the trial; from there on a strategy holds. A table of intercurrent events says it by person.
Strategies: Carpenter, Roger & Kenward, Journal of Biopharmaceutical Statistics 2013;23:1352; conditional
means: Wolbers et al., Pharmaceutical Statistics 2022;21:1246.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.choices import check_choice
from reconfmri.group.estimands import Array
from reconfmri.trial.intercurrent import AT_RANDOM, Strategy

REFERENCE_BASED: tuple[Strategy, ...] = (
    "jump_to_reference",
    "copy_reference",
    "copy_increments",
    "last_mean",
)


@dataclass(frozen=True)
class Plan:
    """What holds for each person (n_people,): from visit `start` on `strategy`, and what it adds.

    Who has `start` = number of visits is missing at random throughout.
    """

    start: NDArray[np.intp]
    strategy: tuple[Strategy, ...]
    delta: Array

    def __post_init__(self) -> None:
        for strategy in set(self.strategy):
            check_choice("strategy", strategy, get_args(Strategy))

    def without(self, person: int) -> Plan:
        """Return the plan without one person, by place."""
        rest = np.arange(len(self.start)) != person
        kept = tuple(item for place, item in enumerate(self.strategy) if place != person)
        return Plan(self.start[rest], kept, self.delta[rest])

    def on(self, visits: Sequence[int]) -> Plan:
        """Return the plan with starts as places among the `visits` of a model."""
        return replace(self, start=np.searchsorted(np.asarray(visits), self.start))

    def means(self, own: Array, reference: Array) -> Array:
        """Return the means (n_people, n_visits) that the strategies assume, from both arms' means."""
        n_visits = own.shape[1]
        after = np.arange(n_visits) >= self.start[:, None]
        before = np.clip(self.start - 1, 0, n_visits - 1)[:, None]
        last_own, last_reference = (np.take_along_axis(m, before, axis=1) for m in (own, reference))
        assumed = own.copy()
        for strategy, changed in {
            "jump_to_reference": np.where(after, reference, own),
            "copy_reference": np.where(after.any(axis=1, keepdims=True), reference, own),
            "copy_increments": np.where(after, last_own + reference - last_reference, own),
            "last_mean": np.where(after, last_own, own),
        }.items():
            people = np.array([item == strategy for item in self.strategy], dtype=bool)
            assumed[people] = changed[people]
        return assumed

    def shifts(self, n_visits: int) -> Array:
        """Return what is added to values that are filled in, (n_people, n_visits)."""
        people = np.array([item == "delta" for item in self.strategy], dtype=bool)
        after = np.arange(n_visits) >= self.start[:, None]
        return np.asarray(np.where(after & people[:, None], self.delta[:, None], 0.0))


def attended(measures: pd.DataFrame, people: Sequence[str], sessions: Sequence[str]) -> NDArray[np.bool_]:
    """Return where (n_people, n_visits) a person has any measure, whatever the outcome: was there."""
    there = np.zeros((len(people), len(sessions)), dtype=bool)
    some = measures[measures["value"].notna()]
    rows = pd.Index(people).get_indexer(pd.Index(some["participant_id"]))
    columns = pd.Index(sessions).get_indexer(pd.Index(some["session_id"]))
    known = (rows >= 0) & (columns >= 0)
    there[rows[known], columns[known]] = True
    return there


def left_from(there: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the first visit (n_people,) from which nothing was attended; the number of visits where none."""
    n_visits = there.shape[1]
    last = n_visits - np.argmax(there[:, ::-1], axis=1)
    return np.where(there.any(axis=1), last, 0).astype(np.intp)


def one_strategy(
    strategy: Strategy,
    there: NDArray[np.bool_],
    events: pd.DataFrame | None,
    people: Sequence[str],
    sessions: Sequence[str],
) -> Plan:
    """Return the plan that gives everybody who left, or had an event, one strategy.

    An event declared missing at random stays so.
    """
    start = left_from(there)
    if events is not None:
        for row in events.to_dict("records"):
            if (person := _place(people, row["participant_id"])) is not None:
                at_random = row["strategy"] == AT_RANDOM
                start[person] = there.shape[1] if at_random else sessions.index(row["session_id"])
    return Plan(start, (strategy,) * len(people), np.zeros(len(people)))


def by_event(events: pd.DataFrame, people: Sequence[str], sessions: Sequence[str]) -> Plan:
    """Return the plan of a table of events (`intercurrent.COLUMNS`); all others are missing at random."""
    start = np.full(len(people), len(sessions), dtype=np.intp)
    strategies: list[Strategy] = [AT_RANDOM] * len(people)
    delta = np.zeros(len(people))
    for row in events.to_dict("records"):
        if (person := _place(people, row["participant_id"])) is not None:
            start[person] = sessions.index(row["session_id"])
            strategies[person] = row["strategy"]
            delta[person] = row["delta"] if row["strategy"] == "delta" else 0.0
    return Plan(start, tuple(strategies), delta)


def values_after_events(
    events: pd.DataFrame, people: Sequence[str], sessions: Sequence[str]
) -> NDArray[np.bool_]:
    """Return the visits (n_people, n_visits) after events with another strategy than missing at random.

    Values seen there do not inform the model of what would have been without the event.
    """
    plan = by_event(events, people, sessions)
    concerned = np.array([strategy != AT_RANDOM for strategy in plan.strategy], dtype=bool)
    return np.asarray((np.arange(len(sessions)) >= plan.start[:, None]) & concerned[:, None])


def _place(people: Sequence[str], person: object) -> int | None:
    return people.index(str(person)) if person in people else None
