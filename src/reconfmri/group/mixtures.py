"""Mixtures of normals on a grid of what they depend on: posteriors that need no sampler."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from reconfmri.group.estimands import Array

N_QUANTILES = 10_000
NEGLIGIBLE = 1e-7  # weight of a component


def quantiles(means: Array, sds: Array, weights: Array) -> Array:
    """Return 10,000 evenly spaced quantiles of a mixture of normals; `weights` sum to one."""
    some = weights > NEGLIGIBLE
    means, sds, weights = means[some], sds[some], weights[some]
    at = np.linspace((means - 8 * sds).min(), (means + 8 * sds).max(), 1001)
    return spread_out(at, ndtr((at[:, None] - means) / sds) @ weights)


def spread_out(at: Array, up_to: Array) -> Array:
    """Return 10,000 evenly spaced quantiles, given the probability `up_to` each of the places `at`."""
    return np.asarray(np.interp((np.arange(N_QUANTILES) + 0.5) / N_QUANTILES, up_to, at))


def shares(log_weights: Array) -> Array:
    """Return weights that sum to one, of their logarithms."""
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())
