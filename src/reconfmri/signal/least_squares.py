"""Least squares of series on one design, with autoregressive noise of each series' own.

Noise of order p is held by its p partial autocorrelations, each between -1 and 1, in which every point is
stationary (Barndorff-Nielsen & Schou, J Multivar Anal 1973;3:408); of first order the one is the
autocorrelation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reconfmri.choices import check_choice

Array = npt.NDArray[np.float64]
NOISE = ("ar1", "ar2", "ar3", "ar4", "ar5", "ar6", "ols")
HIGHEST = 0.97  # of a partial autocorrelation
AUTOCORRELATIONS = np.linspace(-0.4, 0.96, 35)
ROUNDED = 0.002  # autocorrelation of many series
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Fit:
    """Coefficients (p,), their covariance (p, p), residual df, autocorrelation of the noise at lag one."""

    beta: Array
    covariance: Array
    df: float
    rho: float


def fit_series(series: Array, design: Array, *, noise: str = "ar1") -> list[Fit]:
    """Return the fit of each series (n_volumes, n_series) by least squares with AR(p) noise, or without.

    The autocorrelations of each maximise the restricted likelihood (REML; Harville, JASA 1977;72:320), which
    knows how many columns were fitted: the autocorrelation of OLS residuals is too low with many confounds,
    and standard errors with it. Whitening keeps the first volumes (Prais-Winsten).

    Raises
    ------
    ValueError
        `noise` is neither `ols` nor `ar1` to `ar6`.
    """
    found = noise_of(series, design, noise)
    return [fit_with(series[:, i], design, partial) for i, partial in enumerate(found)]


def noise_of(series: Array, design: Array, noise: str) -> Array:
    """Return the partial autocorrelations (n_series, p) of each series' noise; p is 0 without a model.

    Raises
    ------
    ValueError
        `noise` is neither `ols` nor `ar1` to `ar6`.
    """
    check_choice("noise", noise, NOISE)
    if noise == "ols":
        return np.zeros((series.shape[1], 0))
    first = restricted_autocorrelation(series, design)[:, None]
    order = int(noise.removeprefix("ar"))
    return first if order == 1 else _of_higher_order(series, design, first, order)


def restricted_autocorrelation(series: Array, design: Array) -> Array:
    """Return the autocorrelation (n_series,), -0.4 to 0.96, with the largest restricted likelihood."""
    return _Whitened.of(series, design).autocorrelation()


def contrasts_of_many(series: Array, design: Array, vectors: Array, rho: Array) -> tuple[Array, Array, float]:
    """Return effects and variances, (n_contrasts, n_series) each, and df, of series (n_volumes, n_series).

    As `fit_with` of contrast `vectors` (n_contrasts, p), with the autocorrelation `rho` (n_series,) of the
    noise rounded to `ROUNDED`, so that series share their whitened design.
    """
    products = _Whitened.of(series, design)
    along = np.linalg.solve(np.linalg.qr(design)[1].T, vectors.T)  # the same of the basis, (p, n_contrasts)
    effects, variances = along.T @ products.fitted, np.empty((len(vectors), series.shape[1]))
    steps = np.round(rho / ROUNDED)
    for step in np.unique(steps):
        mine = np.flatnonzero(steps == step)
        gram, across, squares = products.some(mine).at(float(step) * ROUNDED)
        both = np.linalg.solve(gram, np.hstack([across, along]))
        slopes, weights = both[:, : len(mine)], both[:, len(mine) :]
        effects[:, mine] += along.T @ slopes
        rest = np.maximum(squares - (across * slopes).sum(axis=0), 0.0)
        variances[:, mine] = (along * weights).sum(axis=0)[:, None] * (rest / products.df)
    return effects, variances, products.df


@dataclass(frozen=True)
class _Whitened:
    """Products of an orthonormal basis of a design, and of what it leaves of series, whitened by any rho.

    A product of two whitened columns is a - b rho + c rho^2; the three are held, and made once.
    """

    among: tuple[Array, Array, Array]  # (p, p) each
    across: tuple[Array, Array, Array]  # (p, n_series)
    squares: tuple[Array, Array, Array]  # (n_series,)
    fitted: Array  # (p, n_series), coefficients of the basis by least squares without noise model
    df: float

    @classmethod
    def of(cls, series: Array, design: Array) -> _Whitened:
        basis = np.linalg.qr(design)[0]
        fitted = basis.T @ series
        rest = series - basis @ fitted
        before, after, inner = slice(None, -1), slice(1, None), slice(1, -1)
        lagged = basis[after].T @ basis[before]
        return cls(
            among=(basis.T @ basis, lagged + lagged.T, basis[inner].T @ basis[inner]),
            across=(
                basis.T @ rest,
                basis[after].T @ rest[before] + basis[before].T @ rest[after],
                basis[inner].T @ rest[inner],
            ),
            squares=(
                np.einsum("tv,tv->v", rest, rest),
                2 * np.einsum("tv,tv->v", rest[after], rest[before]),
                np.einsum("tv,tv->v", rest[inner], rest[inner]),
            ),
            fitted=fitted,
            df=float(design.shape[0] - design.shape[1]),
        )

    def some(self, chosen: npt.NDArray[np.int_]) -> _Whitened:
        """Return the products of some of the series."""
        a, b, c = (item[:, chosen] for item in self.across)
        one, two, three = (item[chosen] for item in self.squares)
        return replace(self, across=(a, b, c), squares=(one, two, three), fitted=self.fitted[:, chosen])

    def at(self, rho: float) -> tuple[Array, Array, Array]:
        """Return the products at an autocorrelation: (p, p), (p, n_series), (n_series,)."""
        gram, across, squares = (
            a - rho * b + rho**2 * c for a, b, c in (self.among, self.across, self.squares)
        )
        return gram, across, squares

    def autocorrelation(self) -> Array:
        """Return the autocorrelation (n_series,) with the largest restricted likelihood."""
        heights = np.stack([self._likelihood(rho) for rho in AUTOCORRELATIONS])
        best = np.clip(heights.argmax(axis=0), 1, len(heights) - 2)
        low, top, high = (np.take_along_axis(heights, best[None] + side, axis=0)[0] for side in (-1, 0, 1))
        step = AUTOCORRELATIONS[1] - AUTOCORRELATIONS[0]
        with np.errstate(invalid="ignore"):  # of a series of which nothing is left
            shift = np.nan_to_num(0.5 * (low - high) / (low - 2 * top + high))
        return np.asarray(AUTOCORRELATIONS[best] + step * np.clip(shift, -1, 1))

    def _likelihood(self, rho: float) -> Array:
        """Return the log restricted likelihood (n_series,), up to a constant, the variance profiled out."""
        gram, across, squares = self.at(rho)
        root = np.linalg.cholesky(gram)
        rest = squares - np.square(np.linalg.solve(root, across)).sum(axis=0)
        determinant = float(np.log(np.diag(root)).sum()) - 0.5 * math.log(1 - rho**2)
        return np.asarray(-0.5 * self.df * np.log(np.maximum(rest, TINY)) - determinant)


def fit_with(series: Array, design: Array, partial: Array) -> Fit:
    """Return the fit of one series (n_volumes,) whose noise has the partial autocorrelations (p,)."""
    q, r = np.linalg.qr(_whiten(design, partial))
    white = _whiten(series, partial)
    beta = np.linalg.solve(r, q.T @ white)
    residuals = white - q @ (q.T @ white)
    df = float(design.shape[0] - design.shape[1])
    inverse = np.linalg.inv(r)
    rho = float(partial[0]) if len(partial) else 0.0
    return Fit(beta, inverse @ inverse.T * float(residuals @ residuals) / df, df, rho)


def as_normal(t: Array, df: float | Array) -> Array:
    """Return the normal deviates with the tail probabilities of t values."""
    from scipy.special import log_ndtr, ndtri_exp, stdtr

    with np.errstate(divide="ignore"):
        tail = np.log(stdtr(df, -np.abs(t)))
    # far out the tail underflows: there the deviate is as far as numbers go
    return np.asarray(-np.sign(t) * ndtri_exp(np.maximum(tail, log_ndtr(-37.0))))


def predictors(partial: Array) -> list[Array]:
    """Return the coefficients of the best prediction from the k values before, k = 0 to p (Durbin-Levinson).

    The last are the coefficients of the autoregression.
    """
    found: list[Array] = [np.zeros(0)]
    for value in partial:
        before = found[-1]
        found.append(np.append(before - value * before[::-1], value))
    return found


def _of_higher_order(series: Array, design: Array, first: Array, order: int) -> Array:
    """Return the partial autocorrelations (n_series, order) with the largest restricted likelihood.

    The likelihood needs the products of columns and series at lags up to the order, which are made once.
    """
    from scipy.optimize import minimize

    basis = np.linalg.qr(design)[0]
    df = design.shape[0] - design.shape[1]
    found = np.zeros((series.shape[1], order))
    for place, own in enumerate(series.T / np.maximum(series.std(axis=0), TINY)[:, None]):
        both = np.column_stack([basis, own])
        products, head = _lagged_products(both, order), both[:order]
        best = minimize(
            lambda partial, of=products, head=head: -_likelihood_of(partial, of, head, df),
            np.append(first[place], np.zeros(order - 1)),
            method="L-BFGS-B",
            bounds=[(-HIGHEST, HIGHEST)] * order,
            options={"ftol": 1e-13, "gtol": 1e-7, "eps": 1e-6},
        )
        found[place] = best.x
    return found


def _lagged_products(columns: Array, order: int) -> Array:
    """Return (order + 1, order + 1, k, k): products of columns at lags, over volumes from `order` on."""
    lagged = np.array([columns[order - lag : len(columns) - lag] for lag in range(order + 1)])
    return np.asarray(np.einsum("itk,jtl->ijkl", lagged, lagged, optimize=True))


def _likelihood_of(partial: Array, products: Array, head: Array, df: int) -> float:
    """Return the log restricted likelihood of AR(p) noise, up to a constant, the variance profiled out.

    The last column is the series, those before are the design's.
    """
    weights = np.append(1.0, -predictors(partial)[-1])
    rows = _first_rows(head, partial)
    gram = np.tensordot(np.outer(weights, weights), products, axes=2) + rows.T @ rows
    root = np.diag(np.linalg.cholesky(gram))  # the last of it squared is what the columns leave of the series
    determinant = float(np.log(root[:-1]).sum()) + 0.5 * float(np.log(_first_variances(partial)).sum())
    return -df * math.log(max(root[-1], TINY)) - determinant


def _first_variances(partial: Array) -> Array:
    """Return the variance (p,) of each of the first p values given those before, of unit innovations."""
    left = 1 - partial**2
    return np.array([1 / left[place:].prod() for place in range(len(partial))])


def _first_rows(values: Array, partial: Array) -> Array:
    """Return the first p rows of `values` (n_volumes, ...), what is predicted from those before taken out."""
    rows = [
        (values[place] - weights @ values[:place][::-1]) / math.sqrt(variance)
        for place, (weights, variance) in enumerate(
            zip(predictors(partial)[:-1], _first_variances(partial), strict=True)
        )
    ]
    return np.array(rows)


def _whiten(series: Array, partial: Array) -> Array:
    """Return series or columns (n_volumes, ...) whose AR(p) noise has become white."""
    order = len(partial)
    if order <= 1:
        return _whiten_first(series, float(partial[0]) if order else 0.0)
    white = np.array(series, dtype=float)
    for lag, weight in enumerate(predictors(partial)[-1], start=1):
        white[order:] -= weight * series[order - lag : len(series) - lag]
    white[:order] = _first_rows(series, partial)
    return white


def _whiten_first(series: Array, rho: float) -> Array:
    """Return series or columns (n_volumes, ...) whose AR(1) noise has become white."""
    white = series - rho * np.roll(series, 1, axis=0)
    white[0] = math.sqrt(1 - rho**2) * series[0]
    return np.asarray(white)
