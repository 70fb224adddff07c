"""Missing visits: who was not seen, and what the answers would be had the unseen fared otherwise.

The model of the headline takes unseen values to be what the person's other visits predict (missing at
random). Here an unseen value is that conditional mean plus a shift, the question is asked of the completed
data, and the standard error is that of a jackknife over people with the model fitted anew each time (Wolbers
et al., Pharmaceutical Statistics 2022;21:1246). The shift is a constant per arm (delta adjustment; Cro et
al., Statistics in Medicine 2020;39:2815), for every value not seen, or what a strategy of `imputation` makes
of the values of people who left or had an event. Everybody who was randomised counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.config import Group, Primary
from reconfmri.contracts.questions.missing import PATTERNS, SEEN, TIPPING, TIPPING_GRID
from reconfmri.group import imputation
from reconfmri.group.asked import Asked
from reconfmri.group.cautions import flag
from reconfmri.group.completion import AT_RANDOM, Completed, Completion
from reconfmri.group.covariances import status_of
from reconfmri.group.estimands import (
    Array,
    Contrast,
    NotEstimableError,
    Question,
    answered,
    as_table,
    primary_question,
    start_of_row,
    withheld,
)
from reconfmri.group.frequentist import answer_by_reml, answer_question, fit_mixed
from reconfmri.group.grid import NO_SESSION, Outcome
from reconfmri.group.imputation import Plan

STAYED = "completers"
BY_EVENT = "by_event"
DELTAS = tuple(np.linspace(-2.0, 2.0, 9).tolist())  # multiples of the unit's scale


def patterns(asked: Asked) -> pd.DataFrame:
    """Return the number of people per outcome, arm and pattern of seen visits: `PATTERNS`.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows = []
    for outcome in asked.everybody:
        for arm, people in _arms(outcome, asked.group).items():
            found, counts = np.unique(outcome.seen[people], axis=0, return_counts=True)
            for pattern, n_people in zip(found[::-1], counts[::-1], strict=True):
                digits = " ".join("1" if seen else "0" for seen in pattern)
                rows.append((outcome.name, arm, digits, int(n_people)))
    return PATTERNS.frame(rows)


def visits_seen(asked: Asked) -> pd.DataFrame:
    """Return the people seen and randomised per outcome, arm and session: `SEEN`.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows = [
        (outcome.name, arm, session, int(outcome.seen[people, visit].sum()), int(people.sum()))
        for outcome in asked.everybody
        for arm, people in _arms(outcome, asked.group).items()
        for visit, session in enumerate(asked.labels)
    ]
    return SEEN.frame(rows)


def completers(asked: Asked) -> pd.DataFrame:
    """Return the answers among people with every visit, one row per question: `COMPLETERS`.

    REML with a baseline mean per arm. That all arms share one baseline mean holds for all who were
    randomised, not for those who stayed: questions adjusted for baseline are answered by analysis of
    covariance instead.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows, group = [], asked.group
    for outcome in asked.outcomes:
        stayed = outcome.of(np.asarray(outcome.seen.all(axis=1)))
        fits = {False: fit_mixed(stayed, False, group)}
        for question in asked.questions:
            if question.common_baseline:
                row = _row(stayed, question, group, "ancova", partial(_by_ancova, stayed, question))
            else:
                by_reml = partial(answer_by_reml, stayed, question, group, fits)
                row = _row(stayed, question, group, "reml", by_reml)
            rows.append(row)
    return as_table(rows).assign(analysis_set=STAYED)


def reference_based(asked: Asked) -> pd.DataFrame:
    """Return the answers from completed data, a row per question and method: `REFERENCE_BASED`.

    One takes unseen values to be missing at random. The others give people who left the strategies of
    `imputation`; what is missing before a later visit that was attended stays at random. `asked.events`:
    who had which event, and what is assumed then; values that were seen after it count in the answer but
    not in the model. The standard error says how much the estimate varies over
    trials; where the effect in the unseen is taken as none and not estimated it is smaller than at random.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows, labels, group = [], asked.labels, asked.group
    measures = asked.measures.fillna({"session_id": NO_SESSION})
    for outcome in asked.everybody:
        planned = _plans(outcome, measures, labels, asked.events)
        completion = Completion(outcome, group, *planned, questions=asked.questions)
        for question in asked.questions:
            for method in (AT_RANDOM, *completion.plans):
                answer = partial(completion.answer, question, method)
                rows.append(_row(outcome, question, group, method, answer))
    return flag(as_table(rows), asked.everybody, labels)


def _plans(
    outcome: Outcome, measures: pd.DataFrame, labels: Sequence[str], events: pd.DataFrame | None
) -> tuple[dict[str, Plan], NDArray[np.bool_] | None]:
    """Return the plan of every method, and the visits after events that do not inform the model."""
    there = imputation.attended(measures, outcome.people, labels)
    plans: dict[str, Plan] = {
        strategy: imputation.one_strategy(strategy, there, events, outcome.people, labels)
        for strategy in imputation.REFERENCE_BASED
    }
    if events is None:
        return plans, None
    plans[BY_EVENT] = imputation.by_event(events, outcome.people, labels)
    return plans, imputation.values_after_events(events, outcome.people, labels)


def tipping(
    asked: Asked, *, about: Primary | None = None, deltas: Sequence[float] = DELTAS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the answer over a grid of shifts, and the shift of each arm at which the verdict tips.

    Columns: `TIPPING_GRID`, `TIPPING`. `about` is the primary unless given; `deltas` are
    multiples of the scale of the outcome's unit. The tipping shifts are solved for, not read off the grid.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another, or `about` names what the study lacks.
    """
    group = asked.group
    about = about or group.primary
    question = primary_question(about, asked.labels)
    outcomes = {item.name: item for item in asked.everybody}
    if about.outcome not in outcomes:
        raise ValueError(f"group.outcomes has no {about.outcome!r} to ask about; it has {group.modelled}")
    outcome = outcomes[about.outcome]
    shifts = outcome.scale * np.asarray(deltas, dtype=np.float64)
    unseen = _unseen(outcome, question.visit)
    try:
        completed = Completion(outcome, group).complete(question)
        reach = float(np.abs(shifts).max(initial=0.0))
        grid = _grid_rows(completed, shifts, group.level)
        tips = _tipping_rows(outcome, completed, unseen, reach, group)
    except NotEstimableError as reason:
        grid = [withheld(reason)]
        tips = [{"arm": arm} | grid[0] for arm in _arms(outcome, group)]
    start = start_of_row(outcome, question, "", group)
    grid = [start | {"unseen_active": unseen[0], "unseen_control": unseen[1]} | row for row in grid]
    tips = [start | {"n_unseen": n} | row for n, row in zip(unseen, tips, strict=True)]
    return TIPPING_GRID.frame(grid), TIPPING.frame(tips)


def _by_ancova(outcome: Outcome, question: Question) -> tuple[Contrast, str]:
    return answer_question(outcome, question), "ok"


# Rows


def _arms(outcome: Outcome, group: Group) -> dict[str, NDArray[np.bool_]]:
    return {arm: outcome.in_arm(group.arms.labels.index(arm)) for arm in group.arms.shown}


def _unseen(outcome: Outcome, visit: int) -> tuple[int, int]:
    """People without a value at the visit: active arm, control arm."""
    unseen = ~outcome.seen[:, visit]
    return int((unseen & outcome.active).sum()), int((unseen & ~outcome.active).sum())


def _row(
    outcome: Outcome,
    question: Question,
    group: Group,
    method: str,
    answer: Callable[[], tuple[Contrast, str]],
) -> dict[str, object]:
    row = start_of_row(outcome, question, method, group)
    try:
        found, status = answer()
    except NotEstimableError as reason:
        return row | withheld(reason)
    return row | found.numbers(group.level) | answered(status)


def _grid_rows(completed: Completed, shifts: Array, level: float) -> list[dict[str, object]]:
    status = answered(status_of(completed.covariance))
    return [
        {"delta_active": active, "delta_control": control}
        | completed.at(active=active, control=control).numbers(level)
        | status
        for active in shifts.tolist()
        for control in shifts.tolist()
    ]


def _tipping_rows(
    outcome: Outcome, completed: Completed, unseen: tuple[int, int], reach: float, group: Group
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for place, arm in enumerate(_arms(outcome, group)):
        row = {"arm": arm, "p": completed.at().p, "reach": reach}
        tips = completed.tips(place, group.level) if unseen[place] else np.array([])
        tips = tips[np.abs(tips) <= reach]
        if tips.size:
            rows.append(row | {"delta": float(tips[np.abs(tips).argmin()])} | answered())
            continue
        reason = f"no shift up to {reach:g} {outcome.unit} does" if unseen[place] else "everybody was seen"
        rows.append(row | {"delta": np.nan} | withheld(reason, word="none"))
    return rows
