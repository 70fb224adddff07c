"""Means and covariance over visits from incomplete people by expectation-maximisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reconfmri.group.estimands import Array

STEPS = 200
RIDGE = 0.05


def fit_means_and_covariance(
    values: Array, side: Array, covariates: Array | None = None, *, alike: Sequence[int] = ()
) -> tuple[Array, Array]:
    """Return the mean of the arms, their differences and the slopes of covariates, and the covariance.

    (n_arms + n_covariates, n_visits) and (n_visits, n_visits). `values` (n_people, n_visits) has NaN where a
    visit is missing, `side` (n_people,) or (n_people, n_arms - 1) is of `code_arms`, +1/2 for the active and
    -1/2 for the control arm of two; at the visits `alike` the arms share one mean. The covariance leans
    towards its diagonal by 5 %, so that it always has an inverse. Expectation-maximisation of a multivariate
    normal (Dempster, Laird and Rubin 1977).
    """
    n_people = len(values)
    covariates = np.zeros((n_people, 0)) if covariates is None else covariates
    design = np.column_stack([np.ones(n_people), side, covariates])
    n_differences = design.shape[1] - 1 - covariates.shape[1]
    without_arm = np.column_stack([np.ones(n_people), covariates])
    seen = ~np.isnan(values)
    coefficients = np.linalg.lstsq(design, np.where(seen, values, np.nanmean(values, axis=0)))[0]
    residuals = np.where(seen, values - design @ coefficients, 0.0)
    covariance = np.diag((residuals**2).sum(axis=0) / seen.sum(axis=0))
    for _ in range(STEPS):
        filled, uncertainty = _fill(values, design @ coefficients, covariance, seen)
        coefficients = np.linalg.lstsq(design, filled)[0].astype(np.float64)
        for visit in alike:
            mean, *slopes = np.linalg.lstsq(without_arm, filled[:, visit])[0]
            coefficients[:, visit] = mean, *[0.0] * n_differences, *slopes
        residuals = filled - design @ coefficients
        covariance = (residuals.T @ residuals + uncertainty) / n_people
        covariance = (1 - RIDGE) * covariance + RIDGE * np.diag(np.diag(covariance))
    return coefficients, covariance


def _fill(values: Array, means: Array, covariance: Array, seen: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Values with their expectation where missing, and the summed covariance of what was filled in."""
    filled, uncertainty = values.copy(), np.zeros_like(covariance)
    for pattern in np.unique(seen, axis=0):
        people = np.flatnonzero((seen == pattern).all(axis=1))
        gone, there = np.flatnonzero(~pattern), np.flatnonzero(pattern)
        slope = np.linalg.solve(covariance[np.ix_(there, there)], covariance[np.ix_(there, gone)])
        residuals = values[np.ix_(people, there)] - means[np.ix_(people, there)]
        filled[np.ix_(people, gone)] = means[np.ix_(people, gone)] + residuals @ slope
        conditional = covariance[np.ix_(gone, gone)] - covariance[np.ix_(gone, there)] @ slope
        uncertainty[np.ix_(gone, gone)] += len(people) * conditional
    return filled, uncertainty
