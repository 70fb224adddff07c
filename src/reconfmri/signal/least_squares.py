"""Least squares of series on one design, with first-order autoregressive noise of each series' own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reconfmri.choices import check_choice

Array = npt.NDArray[np.float64]
NOISE = ("ar1", "ols")
AUTOCORRELATIONS = np.linspace(-0.4, 0.96, 35)
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Fit:
    """Coefficients (p,), their covariance (p, p), residual df, autocorrelation of the noise."""

    beta: Array
    covariance: Array
    df: float
    rho: float


def fit_series(series: Array, design: Array, *, noise: str = "ar1") -> list[Fit]:
    """Return the fit of each series (n_volumes, n_series) by least squares with AR(1) noise, or without.

    The autocorrelation of each maximises the restricted likelihood (REML; Harville, JASA 1977;72:320), which
    knows how many columns were fitted: the autocorrelation of OLS residuals is too low with many confounds,
    and standard errors with it. Whitening keeps the first volume (Prais-Winsten).

    Raises
    ------
    ValueError
        `noise` is neither `ar1` nor `ols`.
    """
    check_choice("noise", noise, NOISE)
    found = np.zeros(series.shape[1]) if noise == "ols" else restricted_autocorrelation(series, design)
    return [fit_with(series[:, i], design, float(rho)) for i, rho in enumerate(found)]


def restricted_autocorrelation(series: Array, design: Array) -> Array:
    """Return the autocorrelation (n_series,), -0.4 to 0.96, with the largest restricted likelihood."""
    heights = np.stack([_restricted_likelihood(series, design, rho) for rho in AUTOCORRELATIONS])
    best = np.clip(heights.argmax(axis=0), 1, len(heights) - 2)
    low, top, high = (np.take_along_axis(heights, best[None] + side, axis=0)[0] for side in (-1, 0, 1))
    step = AUTOCORRELATIONS[1] - AUTOCORRELATIONS[0]
    shift = 0.5 * (low - high) / (low - 2 * top + high)
    return np.asarray(AUTOCORRELATIONS[best] + step * np.clip(shift, -1, 1))


def fit_with(series: Array, design: Array, rho: float) -> Fit:
    """Return the fit of one series (n_volumes,) whose noise has the autocorrelation `rho`."""
    q, r = np.linalg.qr(_whiten(design, rho))
    white = _whiten(series, rho)
    beta = np.linalg.solve(r, q.T @ white)
    residuals = white - q @ (q.T @ white)
    df = float(design.shape[0] - design.shape[1])
    inverse = np.linalg.inv(r)
    return Fit(beta, inverse @ inverse.T * float(residuals @ residuals) / df, df, rho)


def _restricted_likelihood(series: Array, design: Array, rho: float) -> Array:
    """Return the log restricted likelihood (n_series,), up to a constant, the variance profiled out."""
    q, r = np.linalg.qr(_whiten(design, rho))
    white = _whiten(series, rho)
    rest = (white**2).sum(axis=0) - ((q.T @ white) ** 2).sum(axis=0)
    df = design.shape[0] - design.shape[1]
    determinant = float(np.log(np.abs(np.diag(r))).sum())
    return np.asarray(-0.5 * df * np.log(np.maximum(rest, TINY)) - determinant + 0.5 * math.log(1 - rho**2))


def _whiten(series: Array, rho: float) -> Array:
    """Return series or columns (n_volumes, ...) whose AR(1) noise has become white."""
    white = series - rho * np.roll(series, 1, axis=0)
    white[0] = math.sqrt(1 - rho**2) * series[0]
    return np.asarray(white)
