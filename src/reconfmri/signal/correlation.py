"""Correlation of cleaned signals within a window, as Fisher z with its effective number of observations.

Everything happens in one subspace: the cosines of the band over the whole run, less what confounds and task
responses span there. Filtering and regression are so one projection, and none undoes the other (Hallquist et
al., NeuroImage 2013;82:208; Lindquist et al., Human Brain Mapping 2019;40:2358). Conditions are cut out
afterwards.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reconfmri.exclusions import DataFault

Array = npt.NDArray[np.float64]
Window = npt.NDArray[np.bool_]
FLOOR = 4.0  # observations: Fisher's standard error is 1 / sqrt(n - 3)
MIN_DIMENSIONS = 8  # that the confounds must leave of the band
CONSTANT = 1e-6  # SD relative to the mean below which a series is flat: float32 rounding


def clean_space(nuisance: Array, *, tr: float, band: tuple[float, float]) -> Array:
    """Return an orthonormal basis (n_volumes, d) of the band, less what the nuisance (n_volumes, p) spans.

    Raises
    ------
    DataFault
        The band holds no frequency of this run, or fewer than eight dimensions are left.
    """
    n_volumes = len(nuisance)
    inside = cosines_in(band, n_volumes=n_volumes, tr=tr)
    if not len(inside):
        raise DataFault(
            "E-STAT-E03",
            f"{band[0]:g} to {band[1]:g} Hz holds nothing of a run of {n_volumes} volumes of {tr:g} s",
            fix=f"correct connectivity.band, whose lower end must be below {0.5 / tr:g} Hz here",
        )
    cosines = np.cos(np.pi / n_volumes * np.outer(np.arange(n_volumes) + 0.5, inside)) * math.sqrt(
        2 / n_volumes
    )
    left, heights, _ = np.linalg.svd(cosines.T @ _unit(nuisance), full_matrices=True)
    taken = int((heights > 1e-6).sum())
    if len(inside) - taken < MIN_DIMENSIONS:
        raise DataFault(
            "E-STAT-E03",
            f"{taken} of the {len(inside)} dimensions of the band go to confounds and task",
            fix="fewer connectivity.confounds, a wider band, or a longer run",
        )
    return np.asarray(cosines @ left[:, taken:])


def cosines_in(band: tuple[float, float], *, n_volumes: int, tr: float) -> npt.NDArray[np.int64]:
    """Return the orders of the discrete cosines of a run whose frequencies lie in the band, Hz."""
    orders = np.arange(1, n_volumes)
    frequencies = orders / (2 * n_volumes * tr)
    return np.asarray(orders[(frequencies >= band[0]) & (frequencies <= band[1])])


class Cut:
    """A window (n_volumes,) of a run whose cleaned signals lie in a space (n_volumes, d)."""

    def __init__(self, window: Window, space: Array):
        self.window = window
        centred = space[window] - space[window].mean(axis=0)
        gram = centred.T @ centred
        self._white = float(np.trace(gram)) ** 2 / float((gram**2).sum())
        self._pairs = _autocovariance(window.astype(float)[:, None])
        own = _autocovariance(space)
        self._own = _bartlett(self._pairs, (own / own[0]) ** 2)

    def effective_observations(self, one: Array, other: Array) -> float:
        """Return how many independent observations the window holds of two cleaned series (n_volumes,).

        Signals that are white within the space have tr(S)^2 / tr(S^2) + 1, S being the covariance that the
        space gives to the window's centred volumes. Signals with more colour have fewer: by the ratio of
        Bartlett's sums over the window of the product of autocorrelations, theirs over the full run to the
        space's own (Bartlett, JRSS 1935;98:536; Quenouille 1947; Afyouni et al., NeuroImage 2019;199:609).
        Bartlett's sum alone does not see the confounds: with fourteen in a band of 44 dimensions it rejects
        8 to 20 % of nulls instead of 5.
        """
        product = _autocovariance(one[:, None]) * _autocovariance(other[:, None])
        colour = _bartlett(self._pairs, product / product[0]) / self._own
        return 1.0 + self._white / max(colour, 1.0)


def clean(series: Array, space: Array, region: str) -> tuple[Array | None, DataFault | None]:
    """Return the part of a series (n_volumes,) in the space, or why there is none."""
    if np.isnan(series).all():
        return None, None
    fix = "look at the region's mask on this run"
    if not np.isfinite(series).all():
        return None, DataFault("E-DATA-B03", f"{region} is missing in some volumes", fix=fix, region=region)
    cleaned = space @ (space.T @ series)
    if cleaned.std() <= CONSTANT * max(abs(series.mean()), series.std()):
        return None, DataFault("E-DATA-B09", f"{region} is constant in the band", fix=fix, region=region)
    return cleaned, None


def correlate(one: Array | None, other: Array | None, cut: Cut) -> tuple[float, float]:
    """Return Fisher's z (infinite when the series are one) and the effective number of observations."""
    if one is None or other is None:
        return math.nan, math.nan
    a, b = (series[cut.window] - series[cut.window].mean() for series in (one, other))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    r = float(a @ b) / scale if scale > 0 else math.nan
    z = math.copysign(math.inf, r) if abs(r) > 1 - 1e-12 else float(np.arctanh(r))
    return z, max(FLOOR, cut.effective_observations(one, other))


def correlation_fault(z: float, n: float, min_df: float, pair: str, condition: str) -> DataFault | None:
    """Return why a correlation is missing: one series twice, or too few effective observations."""
    if math.isinf(z):
        reason = f"the two series of {pair}.{condition} are the same"
        return DataFault("E-STAT-E13", reason, fix="the regions must not overlap", region=pair)
    if not math.isnan(n) and n < min_df:
        reason = f"{pair}.{condition} has {n:.1f} effective observations, {min_df:g} are needed"
        return DataFault("E-STAT-E03", reason, fix="longer conditions, or fewer confounds", region=pair)
    return None


def _unit(columns: Array) -> Array:
    """Return the columns that are not constant, centred, with unit length."""
    centred = columns - columns.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    kept = lengths > 1e-12 * np.linalg.norm(columns, axis=0)
    return np.asarray(centred[:, kept] / lengths[kept])


def _autocovariance(columns: Array) -> Array:
    """Return the sums over time and columns of lagged products, (n_volumes,), by FFT; the biased estimate."""
    power = np.abs(np.fft.rfft(columns, 2 * len(columns), axis=0)) ** 2
    return np.asarray(np.fft.irfft(power.sum(axis=1))[: len(columns)])


def _bartlett(pairs: Array, product: Array) -> float:
    """Return the sum over all pairs of volumes in the window of `product` at their lag."""
    return float(pairs[0] * product[0] + 2 * pairs[1:] @ product[1:])
