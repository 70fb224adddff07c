"""The frequentist engine: analysis of covariance and Welch's t test, visit by visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from reconfmri.config import Group
from reconfmri.group.estimands import (
    BASELINE,
    Array,
    NotEstimableError,
    Question,
    as_table,
    ask,
    refuse_without_baseline,
)
from reconfmri.group.grid import Outcome, lay_out, refuse_unanswerable


@dataclass(frozen=True)
class Difference:
    """Active minus control, its standard error and degrees of freedom, and who was in the fit."""

    estimate: float
    se: float
    df: float
    n_active: int
    n_control: int

    @property
    def p(self) -> float:
        """Two-sided p value."""
        return float(2 * stdtr(self.df, -abs(self.estimate) / self.se))

    def interval(self, level: float) -> tuple[float, float]:
        """Ends of the t interval."""
        half = float(stdtrit(self.df, (1 + level) / 2)) * self.se
        return self.estimate - half, self.estimate + half


def estimate(
    measures: pd.DataFrame, allocation: pd.DataFrame, group: Group, sessions: Sequence[str]
) -> pd.DataFrame:
    """Return one row per outcome, estimand and later session, in the units of the outcomes.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    outcomes = lay_out(measures, allocation, group, sessions)
    questions = ask(group.estimands, list(sessions) or ["n/a"])
    return as_table([_row(outcome, question, group) for outcome in outcomes for question in questions])


def ancova(values: Array, baseline: Array, active: Array) -> tuple[Difference, float]:
    """Return the arm difference given baseline by least squares, and the baseline slope.

    Raises
    ------
    NotEstimableError
        No degrees of freedom are left, or arm and baseline cannot be told apart.
    """
    design = np.column_stack([np.ones_like(values), active, baseline - baseline.mean()])
    df = len(values) - design.shape[1]
    if df < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        raise NotEstimableError(f"{len(values)} people with baseline do not determine arm and baseline slope")
    coefficients, *_ = np.linalg.lstsq(design, values)
    residuals = values - design @ coefficients
    covariance = np.linalg.inv(design.T @ design) * float(residuals @ residuals) / df
    n_active = int(active.sum())
    return (
        Difference(
            coefficients[1],
            _positive(float(covariance[1, 1]) ** 0.5, values),
            df,
            n_active,
            len(values) - n_active,
        ),
        float(coefficients[2]),
    )


def welch(active: Array, control: Array) -> Difference:
    """Return the difference of two means with unequal variances (Welch 1947; Satterthwaite's df)."""
    parts = np.array([active.var(ddof=1) / active.size, control.var(ddof=1) / control.size])
    se = _positive(float(parts.sum()) ** 0.5, np.concatenate([active, control]))
    df = float(parts.sum() ** 2 / (parts**2 / [active.size - 1, control.size - 1]).sum())
    return Difference(float(active.mean() - control.mean()), se, df, active.size, control.size)


def _row(outcome: Outcome, question: Question, group: Group) -> dict[str, object]:
    method = "ancova" if question.estimand == "difference_adjusted" else "welch"
    row: dict[str, object] = {
        "domain": outcome.domain,
        "outcome": outcome.name,
        "estimand": question.estimand,
        "session": question.session,
        "method": method,
        "unit": outcome.unit,
        "level": group.level,
    }
    people = outcome.seen[:, question.visits].all(axis=1)
    row |= {
        "n_active": int((people & outcome.active).sum()),
        "n_control": int((people & ~outcome.active).sum()),
    }
    try:
        found = answer_question(outcome, question)
    except NotEstimableError as reason:
        return row | {"status": f"not reported: {reason}"}
    lower, upper = found.interval(group.level)
    numbers = {
        "estimate": found.estimate,
        "sd": found.se,
        "df": found.df,
        "lower": lower,
        "upper": upper,
        "p": found.p,
    }
    return row | numbers | {"status": "ok"}


def answer_question(outcome: Outcome, question: Question) -> Difference:
    """Return the answer of least squares to one question, in the outcome's unit.

    Raises
    ------
    NotEstimableError
        These data cannot answer it; the text says why.
    """
    refuse_without_baseline(question)
    refuse_unanswerable(outcome, question.visits)
    people = outcome.seen[:, question.visits].all(axis=1)
    n_active, n_control = int((people & outcome.active).sum()), int((people & ~outcome.active).sum())
    if min(n_active, n_control) < 2:
        raise NotEstimableError(
            f"two people per arm with both visits are needed, there are {n_active} and {n_control}"
        )
    values, baseline = outcome.values[people, question.visit], outcome.values[people, BASELINE]
    active = outcome.active[people]
    if question.estimand == "difference_adjusted":
        return ancova(values, baseline, active.astype(np.float64))[0]
    if question.estimand == "difference_of_change":
        values = values - baseline
    return welch(values[active], values[~active])


def _positive(se: float, values: Array) -> float:
    """The standard error, where it is more than a rounding error of the values."""
    if not np.isfinite(se) or se <= 1e-10 * float(np.abs(values).max()):
        raise NotEstimableError("the values do not vary within the arms")
    return se
