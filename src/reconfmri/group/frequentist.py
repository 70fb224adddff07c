"""The frequentist engine: restricted maximum likelihood over all visits, least squares visit by visit.

REML has the mean model of the Bayesian engine and, as that, every person with a measurement. Analysis of
covariance and Welch's t test use the people who were seen at the visits of the question: that of all arms has
one slope and one variance, Welch's has the variances of the arms that are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.config import Group
from reconfmri.group.asked import Asked
from reconfmri.group.cautions import flag
from reconfmri.group.covariances import Structure
from reconfmri.group.estimands import (
    BASELINE,
    Array,
    Contrast,
    NotEstimableError,
    Question,
    answered,
    as_table,
    refuse_without_baseline,
    start_of_row,
    withheld,
)
from reconfmri.group.grid import Outcome, refuse_unanswerable
from reconfmri.group.reml import Information, RemlFit, fit_reml
from reconfmri.group.repeated import MeanModel, covariances_for, mean_model


def estimate(asked: Asked) -> pd.DataFrame:
    """Return one row per outcome, estimand and later session, in the units of the outcomes.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    group = asked.group
    rows: list[dict[str, object]] = []
    for outcome in asked.outcomes:
        fits: dict[bool, Mixed] = {}
        for question in asked.questions:
            rows.append(_mixed_row(outcome, question, group, fits))
            rows += _least_squares_rows(outcome, question, group)
    return flag(as_table(rows), asked.outcomes, asked.labels)


class Mixed(NamedTuple):
    """A REML fit, its mean model and covariance; or why there is none."""

    model: MeanModel
    covariance: str = ""
    fit: RemlFit | None = None
    fault: str = ""


def fit_mixed(outcome: Outcome, common_baseline: bool, group: Group, *, add_se: bool = False) -> Mixed:
    """Return the repeated-measures model of one outcome by REML; `add_se`: its values have known errors."""
    model = mean_model(outcome, common_baseline)
    fault = ""
    for covariance in covariances_for(outcome, group):
        try:
            fit = fit_with(
                outcome,
                model,
                covariance,
                add_se=add_se,
                by_arm=group.spread == "by_arm",
                information=group.information,
            )
            return Mixed(model, covariance, fit)
        except NotEstimableError as reason:
            fault = fault or str(reason)
    return Mixed(model, fault=fault)


def fit_with(
    outcome: Outcome,
    model: MeanModel,
    covariance: str,
    *,
    add_se: bool = False,
    by_arm: bool = False,
    information: Information = "observed",
) -> RemlFit:
    """Return the REML fit of a mean model with one structure of the covariance over visits.

    `by_arm`: each arm has its own SDs.

    Raises
    ------
    NotEstimableError
        The data do not determine it.
    """
    values = outcome.values[:, model.visits]
    someone = ~np.isnan(values).all(axis=1)
    ses = outcome.ses[:, model.visits][someone] if add_se and outcome.ses is not None else None
    design = model.design(outcome.arm, outcome.adjusted_for)[someone]
    return fit_reml(
        values[someone],
        design,
        cast(Structure, covariance),
        known_se=ses,
        arm=outcome.arm[someone] if by_arm else None,
        information=information,
    )


def _mixed_row(
    outcome: Outcome, question: Question, group: Group, fits: dict[bool, Mixed]
) -> dict[str, object]:
    row = start_of_row(outcome, question, "reml", group)
    try:
        found, status = answer_by_reml(outcome, question, group, fits)
    except NotEstimableError as reason:
        return row | withheld(reason)
    return row | found.numbers(group.level) | answered(status)


def answer_by_reml(
    outcome: Outcome,
    question: Question,
    group: Group,
    fits: dict[bool, Mixed] | None = None,
    *,
    add_se: bool = False,
) -> tuple[Contrast, str]:
    """Return the answer of REML and its status; `fits` keeps the models that questions share.

    Raises
    ------
    NotEstimableError
        These data cannot answer it; the text says why.
    """
    refuse_without_baseline(question)
    refuse_unanswerable(outcome, question)
    fits = {} if fits is None else fits
    if question.common_baseline not in fits:
        fits[question.common_baseline] = fit_mixed(outcome, question.common_baseline, group, add_se=add_se)
    mixed = fits[question.common_baseline]
    if mixed.fit is None:
        raise NotEstimableError(mixed.fault)
    found = mixed.fit.infer(mixed.model.weights(question, outcome.values.shape[1]))
    return found, mixed.fit.status


def answer_under(outcome: Outcome, question: Question, covariance: str) -> Contrast:
    """Return the answer of REML with one covariance over visits.

    Raises
    ------
    NotEstimableError
        These data cannot answer it, or do not determine this covariance.
    """
    refuse_without_baseline(question)
    refuse_unanswerable(outcome, question)
    model = mean_model(outcome, question.common_baseline)
    weights = model.weights(question, outcome.values.shape[1])
    return fit_with(outcome, model, covariance).infer(weights)


def least_squares(values: Array, design: Array, weights: int | Array) -> Contrast:
    """Return a coefficient of the design (n_people, n), by place, or their weighted sum, by least squares.

    Raises
    ------
    NotEstimableError
        No degrees of freedom are left, or columns cannot be told apart.
    """
    _refuse_undetermined(design)
    df = len(values) - design.shape[1]
    coefficients, *_ = np.linalg.lstsq(design, values)
    residuals = values - design @ coefficients
    covariance = np.linalg.inv(design.T @ design) * float(residuals @ residuals) / df
    along = _weights(weights, design)
    se = _positive(float(along @ covariance @ along) ** 0.5, values)
    return Contrast(float(along @ coefficients), se, df)


def robust_least_squares(values: Array, design: Array, weights: int | Array) -> Contrast:
    """Return the same with a standard error that allows unequal variances.

    HC2 with Bell and McCaffrey's degrees of freedom (Survey Methodology 2002;28:169).

    Raises
    ------
    NotEstimableError
        Columns cannot be told apart, or one person determines a coefficient alone.
    """
    _refuse_undetermined(design)
    solved = np.linalg.inv(design.T @ design) @ design.T
    annihilator = np.eye(len(values)) - design @ solved
    kept = np.diag(annihilator)
    if kept.min() < 1e-8:
        raise NotEstimableError("one person determines a coefficient alone: no robust standard error")
    taken = _weights(weights, design) @ solved
    shares = taken / np.sqrt(kept)
    residuals = annihilator @ values
    squares = np.abs(np.linalg.eigvalsh(shares[:, None] * annihilator * shares))
    se = _positive(float(np.sum((shares * residuals) ** 2)) ** 0.5, values)
    return Contrast(float(taken @ values), se, float(squares.sum() ** 2 / (squares**2).sum()))


def _weights(weights: int | Array, design: Array) -> Array:
    return np.eye(design.shape[1])[weights] if isinstance(weights, int) else weights


def ancova_design(
    baseline: Array, arm: NDArray[Any], arm_weights: Sequence[float], covariates: Array | None = None
) -> tuple[Array, Array]:
    """Return the design (n_people, n) of analysis of covariance and the weights (n,) of the arms' contrast.

    A column per arm after the first one seen; `arm` (n_people,) by place, `covariates` (n_people, m).
    """
    covariates = np.zeros((len(baseline), 0)) if covariates is None else covariates
    others = [one for one in range(len(arm_weights)) if (arm == one).any()][1:]
    sides = [(arm == one).astype(np.float64) for one in others]
    design = np.column_stack([np.ones_like(baseline), *sides, baseline - baseline.mean(), covariates])
    weights = np.zeros(design.shape[1])
    weights[1 : 1 + len(others)] = [arm_weights[one] for one in others]
    return design, weights


def _refuse_undetermined(design: Array) -> None:
    if len(design) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        raise NotEstimableError(
            f"{len(design)} people with baseline do not determine arm, baseline slope and covariates",
            fix="ask for difference_unadjusted, or fewer covariates",
        )


def welch(active: Array, control: Array) -> Contrast:
    """Return the difference of two means with unequal variances (Welch 1947; Satterthwaite's df)."""
    return welch_contrast([active, control], [1.0, -1.0])


def welch_contrast(arms: Sequence[Array], weights: Sequence[float]) -> Contrast:
    """Return the weighted sum of the arms' means with unequal variances (Satterthwaite's df)."""
    parts = np.array([w**2 * arm.var(ddof=1) / arm.size for w, arm in zip(weights, arms, strict=True)])
    se = _positive(float(parts.sum()) ** 0.5, np.concatenate(arms))
    df = float(parts.sum() ** 2 / (parts**2 / [arm.size - 1 for arm in arms]).sum())
    return Contrast(float(sum(w * arm.mean() for w, arm in zip(weights, arms, strict=True))), se, df)


def mean_of(changes: Array) -> Contrast:
    """Return the mean of changes with its t interval: the paired t test."""
    se = _positive(float(changes.std(ddof=1) / changes.size**0.5), changes)
    return Contrast(float(changes.mean()), se, changes.size - 1)


def methods_of(question: Question) -> list[str]:
    """Return the methods of least squares that answer a question."""
    if question.common_baseline:
        return ["ancova", "ancova_hc2"]
    return ["paired_t"] if question.within_an_arm else ["welch"]


def _least_squares_rows(outcome: Outcome, question: Question, group: Group) -> list[dict[str, object]]:
    """One row, and for the adjusted difference another that allows unequal variances."""
    people = np.asarray(outcome.seen[:, question.visits].all(axis=1))
    counts = dict(
        zip(("n_active", "n_control"), outcome.sides_of(question, outcome.people_of(people)), strict=True)
    )
    rows = []
    for method in methods_of(question):
        row = start_of_row(outcome, question, method, group) | counts
        try:
            found = answer_question(outcome, question, robust=method == "ancova_hc2")
        except NotEstimableError as reason:
            rows.append(row | withheld(reason))
        else:
            rows.append(
                row | found.numbers(group.level) | answered() | {"caveat": caveat_of(outcome, question)}
            )
    return rows


def caveat_of(outcome: Outcome, question: Question) -> str | None:
    """Return what least squares, which take those seen at the visits of the question alone, may miss.

    People who were seen at another visit are left out of it; where leaving goes by what was seen the answer
    is biased (docs/calibration.md). The last value before a missed visit is compared with those who stayed.
    """
    here = outcome.seen[:, question.visits].all(axis=1)
    left_out = outcome.seen.any(axis=1) & ~here
    if not left_out.any():
        return None
    text = f"{left_out.sum()} of {outcome.seen.any(axis=1).sum()} people seen are left out"
    later = max(question.visits)
    before = outcome.values[:, :later]
    known = ~np.isnan(before).all(axis=1)
    last = np.full(len(before), np.nan)
    for visit in range(later):
        last = np.where(np.isnan(before[:, visit]), last, before[:, visit])
    stayed, gone = last[known & outcome.seen[:, later]], last[known & ~outcome.seen[:, later]]
    if min(len(stayed), len(gone)) > 1 and stayed.std(ddof=1) > 0:
        apart = (gone.mean() - stayed.mean()) / stayed.std(ddof=1)
        text += f"; their last value before lies {apart:+.1f} SD from that of those who stayed"
    return f"{text}; biased where leaving goes by what was seen: prefer reml or bayes"


def answer_question(outcome: Outcome, question: Question, *, robust: bool = False) -> Contrast:
    """Return the answer of least squares to one question, in the outcome's unit.

    Raises
    ------
    NotEstimableError
        These data cannot answer it; the text says why.
    """
    refuse_without_baseline(question)
    refuse_unanswerable(outcome, question)
    people = np.asarray(outcome.seen[:, question.visits].all(axis=1))
    counts = outcome.people_of(people)
    if min(counts[arm] for arm in question.arms) < 2:
        raise NotEstimableError(
            "two people per arm with both visits are needed, there are "
            + outcome.in_words(*counts[1:], counts[0])
        )
    later = list(question.averaged or (question.visit,))
    values, baseline = outcome.values[people][:, later].mean(axis=1), outcome.values[people, BASELINE]
    arm, weights = outcome.arm[people], question.arm_weights
    if question.common_baseline:
        given = ancova_design(baseline, arm, weights, outcome.adjusted_for[people])
        return robust_least_squares(values, *given) if robust else least_squares(values, *given)
    if question.within_an_arm:
        return mean_of((values - baseline)[arm == weights.index(1.0)])
    if question.estimand == "difference_of_change":
        values = values - baseline
    places = question.arms[::-1]  # active, then control
    return welch_contrast([values[arm == one] for one in places], [weights[one] for one in places])


def _positive(se: float, values: Array) -> float:
    """The standard error, where it is more than a rounding error of the values."""
    if not np.isfinite(se) or se <= 1e-10 * float(np.abs(values).max()):
        raise NotEstimableError("the values do not vary within the arms")
    return se
