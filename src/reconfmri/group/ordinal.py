"""Totals as ordered categories: a cumulative logit beside the beta-binomial, both a sensitivity.

A total of `n` steps is at most `k` with probability expit(threshold of k - place), as in McCullagh, J R Stat
Soc B 1980;42:109. A person's place is linear in arm (+1/2, -1/2) and in the logit of the baseline. In trials
of some ten people per arm most totals occur once or never, so that thresholds are not free: they are the
logits of the scale's steps, stretched below and above its middle by two factors. Floors and ceilings are the
mass beyond the outer thresholds. A total between two steps counts as the nearer one.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit

from reconfmri.contracts.questions.bounded import ORDINAL
from reconfmri.group.asked import Asked
from reconfmri.group.bounded import Likelihood, rows_of
from reconfmri.group.estimands import Array

# Level, arm (log odds ratio), slope on the baseline's logit, log stretch of the scale, its asymmetry.
PRIOR_MEAN = np.array([0.0, 0.0, 1.25, math.log(2.5), 0.0])
PRIOR_SD = np.array([5.0, 2.5, 2.0, 1.0, 0.5])


def estimate(asked: Asked) -> pd.DataFrame:
    """Return one row per ordinal outcome and later session: the adjusted difference and what is predicted.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    return ORDINAL.frame(rows_of(asked, asked.group.ordinal, CUMULATIVE, "ordinal"))


def thresholds(theta: Array, n: float) -> Array:
    """Return the thresholds (n_draws, n) between one total and the next."""
    steps = np.arange(1, round(n) + 1) / (n + 1)
    logits = np.log(steps) - np.log1p(-steps)
    stretch, lean = np.exp(theta[:, 3:4].clip(-5, 5)), theta[:, 4:5].clip(-5, 5)
    return np.asarray(stretch * np.where(logits > 0, np.exp(lean), np.exp(-lean)) * logits)


def log_posterior(theta: Array, steps: Array, design: Array, n: float) -> Array:
    """Return the log density (n_draws,) of parameters (n_draws, 5), but for a constant."""
    places, ends = theta[:, :3] @ design.T, thresholds(theta, n)
    rank = np.rint(steps).astype(int)
    edges = np.pad(ends, ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))
    below, above = edges[:, rank] - places, edges[:, rank + 1] - places
    # F(above) - F(below) = F(above) F(-below) (1 - exp(below - above)) of a logistic F, without cancellation
    terms = log_expit(above) + log_expit(-below) + np.log(-np.expm1(np.minimum(below - above, -1e-12)))
    return np.asarray(terms.sum(axis=1) - 0.5 * (((theta - PRIOR_MEAN) / PRIOR_SD) ** 2).sum(axis=1))


def _means(theta: Array, design: Array, n: float) -> Array:
    """A mean is the sum over thresholds of the probability to lie above: expit without an exp per cell."""
    odds = np.exp((theta[:, :3] @ design.T).clip(-300, 300))
    against = np.exp(thresholds(theta, n).clip(-300, 300))
    means: Array = np.zeros(odds.shape)
    for place in range(against.shape[1]):
        means += odds / (odds + against[:, place : place + 1])
    return means


def _probabilities(theta: Array, design: Array, n: float) -> Array:
    places = theta[:, :3] @ design.T
    up_to = expit(thresholds(theta, n)[:, None, :] - places[:, :, None])
    return np.asarray(
        np.diff(np.pad(up_to, ((0, 0), (0, 0), (1, 1)), constant_values=((0, 0), (0, 0), (0, 1))), axis=2)
    )


CUMULATIVE = Likelihood(PRIOR_MEAN, log_posterior, _means, _probabilities)
