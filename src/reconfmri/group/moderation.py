"""Moderation: how the arm difference at a visit changes with a covariate, among those seen.

The value at a visit on arm (+1/2, -1/2), baseline, covariates, and arm times the moderator, among those seen
at both visits. That both arms share one baseline mean holds for all who were randomised, not for those with a
certain value of a moderator, so that no model of all visits is used here. By least squares and, with the
priors of `reconfmri.group.bayes`, by its posterior: given the residual SD coefficients are normal, and the SD
is summed over.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from reconfmri.choices import check_choice
from reconfmri.config import Group
from reconfmri.contracts.questions.arms import MODERATION
from reconfmri.covariates import Column
from reconfmri.group import bayes, mixtures
from reconfmri.group.asked import Asked
from reconfmri.group.cautions import refuse_other_scale
from reconfmri.group.estimands import (
    BASELINE,
    Array,
    NotEstimableError,
    Question,
    answered,
    refuse_without_baseline,
    start_of_row,
    withheld,
)
from reconfmri.group.frequentist import least_squares, robust_least_squares
from reconfmri.group.grid import Outcome, refuse_unanswerable

METHODS = ("ancova", "ancova_hc2", "bayes")


def estimate(asked: Asked) -> pd.DataFrame:
    """Return one row per outcome, moderator, later session and method; none without a moderator.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows: list[dict[str, object]] = []
    group = asked.group
    if group.moderators:
        questions = asked.about(["difference_adjusted"])
        for outcome in asked.outcomes:
            for place, column in enumerate(outcome.columns):
                if column.covariate in group.moderators:
                    for question in questions:
                        rows += _rows(outcome, question, place, column, group)
    return MODERATION.frame(rows)


def _rows(
    outcome: Outcome, question: Question, place: int, column: Column, group: Group
) -> list[dict[str, object]]:
    people = np.asarray(outcome.seen[:, question.visits].all(axis=1))
    some = outcome.of(people)
    rows = []
    for method in METHODS:
        row = start_of_row(outcome, question, method, group) | {
            "estimand": "moderation",
            "covariate": column.covariate,
            "per": column.label,
            "n_active": int(some.active.sum()),
            "n_control": int((~some.active).sum()),
        }
        try:
            refuse_without_baseline(question)
            refuse_unanswerable(outcome, question)
            if method == "bayes":
                refuse_other_scale(outcome, group)
            values, design = some.values[:, question.visit], _design(some, place, column)
            rows.append(row | _answer(method, values, design, outcome, group) | answered())
        except NotEstimableError as reason:
            rows.append(row | withheld(reason))
    return rows


def _design(outcome: Outcome, place: int, column: Column) -> Array:
    """(n_people, n): arm times moderator, mean, arm, baseline, covariates."""
    baseline, side = outcome.values[:, BASELINE], np.where(outcome.active, 0.5, -0.5)
    product = side * outcome.adjusted_for[:, place] / column.step
    return np.column_stack(
        [product, np.ones_like(side), side, baseline - baseline.mean(), outcome.adjusted_for]
    )


def _answer(method: str, values: Array, design: Array, outcome: Outcome, group: Group) -> dict[str, object]:
    check_choice("method", method, METHODS)
    by_least_squares = least_squares(values, design, 0)
    if method == "ancova":
        return by_least_squares.numbers(group.level)
    if method == "ancova_hc2":
        return robust_least_squares(values, design, 0).numbers(group.level)
    priors, scale = group.priors, outcome.scale
    prior_sd = np.full(design.shape[1], priors.effect * scale)
    prior_sd[[1, 3]] = priors.mean * scale, priors.effect  # the slope on the baseline has no unit
    if priors.flat:
        prior_sd[:] = np.inf
    draws = posterior(values - bayes.centre_of(outcome), design, prior_sd, priors.sd * scale)
    return bayes.summarise(draws, group.level)


def posterior(values: Array, design: Array, prior_sd: Array, sd_scale: float) -> Array:
    """Return the first coefficient of a Gaussian regression: 10,000 evenly spaced quantiles of its posterior.

    Coefficients ~ Normal(0, prior_sd), infinite for flat ones; residual SD ~ half-t(4, 0, sd_scale). The
    posterior is a mixture of normals over a grid of SDs; nothing is drawn at random.
    """
    residuals = values - design @ np.linalg.lstsq(design, values)[0]
    rough = float(np.sqrt(residuals @ residuals / max(len(values) - design.shape[1], 1)))
    sds = rough * np.exp(np.linspace(-3, 5, 401))
    precisions = design.T @ design / sds[:, None, None] ** 2 + np.diag(prior_sd**-2.0)
    projected = design.T @ values / sds[:, None] ** 2
    means = np.asarray(np.linalg.solve(precisions, projected[:, :, None])[:, :, 0])
    log_weights = -0.5 * (values @ values / sds**2 - (means * projected).sum(axis=1))
    log_weights -= len(values) * np.log(sds) + 0.5 * np.linalg.slogdet(precisions)[1]
    log_weights += np.log(sds) - 2.5 * np.log1p((sds / sd_scale) ** 2 / 4)  # the grid is even in log SD
    spreads = np.asarray(np.sqrt(np.linalg.inv(precisions)[:, 0, 0]))
    return mixtures.quantiles(means[:, 0], spreads, mixtures.shares(log_weights))
