"""The frequentist engine: restricted maximum likelihood over all visits, least squares visit by visit.

REML has the mean model of the Bayesian engine and, as that, every person with a measurement. Analysis of
covariance and Welch's t test use the people who were seen at the visits of the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from reconfmri.config import Group
from reconfmri.group.estimands import (
    BASELINE,
    Array,
    Contrast,
    NotEstimableError,
    Question,
    as_table,
    ask,
    refuse_without_baseline,
)
from reconfmri.group.grid import Outcome, lay_out, refuse_unanswerable
from reconfmri.group.reml import RemlFit, Structure, fit_reml
from reconfmri.group.repeated import MeanModel, covariances_for, mean_model, status_of


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
    rows = []
    for outcome in outcomes:
        fits: dict[bool, Mixed] = {}
        for question in questions:
            rows.append(_mixed_row(outcome, question, group, fits))
            rows.append(_least_squares_row(outcome, question, group))
    return as_table(rows)


class Mixed(NamedTuple):
    """A REML fit, its mean model and covariance; or why there is none."""

    model: MeanModel
    covariance: str = ""
    fit: RemlFit | None = None
    fault: str = ""


def fit_mixed(outcome: Outcome, common_baseline: bool, group: Group) -> Mixed:
    """Return the repeated-measures model of one outcome by REML."""
    model = mean_model(outcome, common_baseline)
    values = outcome.values[:, model.visits]
    someone = ~np.isnan(values).all(axis=1)
    fault = ""
    for covariance in covariances_for(outcome, group):
        try:
            design = model.design(outcome.active)[someone]
            fit = fit_reml(values[someone], design, cast(Structure, covariance))
            return Mixed(model, covariance, fit)
        except NotEstimableError as reason:
            fault = fault or str(reason)
    return Mixed(model, fault=fault)


def _mixed_row(
    outcome: Outcome, question: Question, group: Group, fits: dict[bool, Mixed]
) -> dict[str, object]:
    n_active, n_control = outcome.counts(question.visit)
    row = _start_of_row(outcome, question, group, "reml") | {"n_active": n_active, "n_control": n_control}
    try:
        refuse_without_baseline(question)
        refuse_unanswerable(outcome, question.visits)
        if question.common_baseline not in fits:
            fits[question.common_baseline] = fit_mixed(outcome, question.common_baseline, group)
        mixed = fits[question.common_baseline]
        if mixed.fit is None:
            raise NotEstimableError(mixed.fault)
        found = mixed.fit.infer(mixed.model.weights(question, outcome.values.shape[1]))
    except NotEstimableError as reason:
        return row | {"status": f"not reported: {reason}"}
    return row | _numbers(found, group.level) | {"status": status_of(mixed.covariance)}


def ancova(values: Array, baseline: Array, active: Array) -> tuple[Contrast, float]:
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
    se = _positive(float(covariance[1, 1]) ** 0.5, values)
    return Contrast(float(coefficients[1]), se, df), float(coefficients[2])


def welch(active: Array, control: Array) -> Contrast:
    """Return the difference of two means with unequal variances (Welch 1947; Satterthwaite's df)."""
    parts = np.array([active.var(ddof=1) / active.size, control.var(ddof=1) / control.size])
    se = _positive(float(parts.sum()) ** 0.5, np.concatenate([active, control]))
    df = float(parts.sum() ** 2 / (parts**2 / [active.size - 1, control.size - 1]).sum())
    return Contrast(float(active.mean() - control.mean()), se, df)


def _least_squares_row(outcome: Outcome, question: Question, group: Group) -> dict[str, object]:
    method = "ancova" if question.estimand == "difference_adjusted" else "welch"
    people = outcome.seen[:, question.visits].all(axis=1)
    row = _start_of_row(outcome, question, group, method) | {
        "n_active": int((people & outcome.active).sum()),
        "n_control": int((people & ~outcome.active).sum()),
    }
    try:
        found = answer_question(outcome, question)
    except NotEstimableError as reason:
        return row | {"status": f"not reported: {reason}"}
    return row | _numbers(found, group.level) | {"status": "ok"}


def _start_of_row(outcome: Outcome, question: Question, group: Group, method: str) -> dict[str, object]:
    return {
        "domain": outcome.domain,
        "outcome": outcome.name,
        "estimand": question.estimand,
        "session": question.session,
        "method": method,
        "unit": outcome.unit,
        "level": group.level,
    }


def _numbers(found: Contrast, level: float) -> dict[str, object]:
    lower, upper = found.interval(level)
    return {
        "estimate": found.estimate,
        "sd": found.se,
        "df": found.df,
        "lower": lower,
        "upper": upper,
        "p": found.p,
    }


def answer_question(outcome: Outcome, question: Question) -> Contrast:
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
