"""Moderation: how the arm difference at a visit changes with a covariate, by analysis of covariance.

The value at a visit on arm (+1/2, -1/2), baseline, covariates, and arm times the moderator, among those seen
at both visits. That both arms share one baseline mean holds for all who were randomised, not for those with a
certain value of a moderator, so that no model of all visits is used here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reconfmri.config import Group
from reconfmri.covariates import Column
from reconfmri.group import estimands
from reconfmri.group.estimands import (
    BASELINE,
    NotEstimableError,
    Question,
    ask,
    refuse_without_baseline,
    start_of_row,
)
from reconfmri.group.frequentist import least_squares, robust_least_squares
from reconfmri.group.grid import NO_SESSION, Outcome, lay_out, refuse_unanswerable

DESCRIPTIONS = {
    "domain": estimands.DESCRIPTIONS["domain"],
    "outcome": estimands.DESCRIPTIONS["outcome"],
    "estimand": "moderation: change of the arm difference at the session, adjusted for baseline",
    "covariate": "Moderator, a name of group.covariates",
    "per": "For which step of the moderator: one SD (its size), or from one category to another",
    "session": estimands.DESCRIPTIONS["session"],
    "method": "ancova: least squares; ancova_hc2: the same, allowing unequal variances",
    "unit": "Unit of estimate, sd, lower and upper, per step",
    "estimate": "Change of active minus control per step of the moderator",
    "sd": "Standard error",
    "df": "Degrees of freedom of the t interval",
    "lower": "Lower end of the interval",
    "upper": "Upper end of the interval",
    "level": "Level of the interval",
    "p": "Two-sided p value, not corrected",
    "n_active": "People of the active arm in the fit",
    "n_control": "People of the control arm in the fit",
    "status": "ok; or `not reported: <reason>` and then the numbers are missing",
}


def estimate(
    measures: pd.DataFrame, allocation: pd.DataFrame, group: Group, sessions: Sequence[str]
) -> pd.DataFrame:
    """Return one row per outcome, moderator, later session and method; none without a moderator.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows: list[dict[str, object]] = []
    if group.moderators:
        questions = ask(["difference_adjusted"], list(sessions) or [NO_SESSION])
        for outcome in lay_out(measures, allocation, group, sessions):
            for place, column in enumerate(outcome.columns):
                if column.covariate in group.moderators:
                    for question in questions:
                        rows += _rows(outcome, question, place, column, group.level)
    return pd.DataFrame(rows, columns=list(DESCRIPTIONS))


def _rows(
    outcome: Outcome, question: Question, place: int, column: Column, level: float
) -> list[dict[str, object]]:
    people = np.asarray(outcome.seen[:, question.visits].all(axis=1))
    rows = []
    for method, fit in (("ancova", least_squares), ("ancova_hc2", robust_least_squares)):
        row = start_of_row(outcome, question, method, level) | {
            "estimand": "moderation",
            "covariate": column.covariate,
            "per": column.label,
            "n_active": int((people & outcome.active).sum()),
            "n_control": int((people & ~outcome.active).sum()),
        }
        try:
            refuse_without_baseline(question)
            refuse_unanswerable(outcome, question.visits)
            some = outcome.of(people)
            baseline, side = some.values[:, BASELINE], np.where(some.active, 0.5, -0.5)
            others = [np.ones(len(side)), side, baseline - baseline.mean(), some.adjusted_for]
            product = side * some.adjusted_for[:, place] / column.step
            found = fit(some.values[:, question.visit], np.column_stack([product, *others]), 0)
        except NotEstimableError as reason:
            rows.append(row | {"status": f"not reported: {reason}"})
        else:
            rows.append(row | found.numbers(level) | {"status": "ok"})
    return rows
