"""Mixtures of normals on a grid of what they depend on: posteriors that need no sampler."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from reconfmri.group.estimands import Array

N_QUANTILES = 10_000
N_PLACES = 1001
NEGLIGIBLE = 1e-9  # weight of a component


def quantiles(means: Array, sds: Array, weights: Array) -> Array:
    """Return 10,000 evenly spaced quantiles of a mixture of normals; `weights` sum to one.

    The places where it is summed are dense around its mean and thin out in the tails, as the widest component
    may be hundreds of times as wide as the narrowest.
    """
    some = weights > NEGLIGIBLE
    means, sds, weights = means[some], sds[some], weights[some]
    middle, unit = float(weights @ means / weights.sum()), float(sds.min())
    ends = np.arcsinh((np.array([(means - 8 * sds).min(), (means + 8 * sds).max()]) - middle) / unit)
    at = middle + unit * np.sinh(np.linspace(ends[0], ends[1], N_PLACES))
    return spread_out(at, ndtr((at[:, None] - means) / sds) @ weights)


def spread_out(at: Array, up_to: Array) -> Array:
    """Return 10,000 evenly spaced quantiles, given the probability `up_to` each of the places `at`."""
    return np.asarray(np.interp((np.arange(N_QUANTILES) + 0.5) / N_QUANTILES, up_to, at))


def shares(log_weights: Array) -> Array:
    """Return weights that sum to one, of their logarithms."""
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())
