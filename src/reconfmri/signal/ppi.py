"""Psychophysiological interactions of deconvolved signals: generalised PPI, and partial correlations.

A seed's neural signal is what, convolved with the haemodynamic response, gives its measured signal: a ridge
regression on cosines in microtime with a penalty that the run's length and repetition time fix, never the
series, so that it is the same for everyone (Gitelman et al., NeuroImage 2003;19:200; SPM12's `spm_peb_ppi`
with its two known covariances). Where SPM samples the response at the first bin of a volume on the way
there and at its middle on the way back, half a repetition time is lost; here both are one bin.

Generalised PPI (McLaren et al., NeuroImage 2012;61:1277) has the interactions of all conditions in one model:
target ~ interactions + seed + task + confounds + drifts. The seed enters as it was measured, once, and
whitening happens once, in that model. Psychological terms are centred.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.fft import dct, idct
from scipy.linalg import cho_factor, cho_solve
from scipy.signal import oaconvolve

from reconfmri.events import event_response
from reconfmri.signal.least_squares import fit_series

Array = npt.NDArray[np.float64]
BINS = 16  # of a volume
PADDING = 128  # bins before the first volume, whose responses reach into the run
NUISANCE_PENALTY = 0.25e-6
RESPONSE_S = 32.0  # length of the haemodynamic response
ROWS = 64  # of the basis convolved at a time: memory does not grow with the square of a run in microtime
FLAT = 1e-12
INDEPENDENT = 1e-4  # share of the largest axis of the terms that counts as an axis of its own


@dataclass(frozen=True)
class Clock:
    """Microtime of a run: its volumes, their TR (s), and the moment within a volume they stand for (s)."""

    n_volumes: int
    tr: float
    start: float = 0.0

    @property
    def step(self) -> float:
        """Length of a bin, s."""
        return self.tr / BINS

    @property
    def bin(self) -> int:
        """The bin of a volume that its values stand for."""
        return min(BINS - 1, round(self.start / self.step))

    def response(self, hrf: str) -> Array:
        """Return the haemodynamic response, one value per bin, with a sum of 1."""
        values = event_response(np.arange(0.0, RESPONSE_S, self.step), 0.0, hrf)
        return np.asarray(values / values.sum())


def deconvolve(
    series: Array, nuisance: Array, response: Array, *, at: int, whitening: Array | None = None
) -> Array:
    """Return the neural signals (n_volumes * BINS, n_series) of measured ones (n_volumes, n_series), centred.

    `nuisance` (n_volumes, p) is fitted beside them and left out. A volume is taken at its bin `at`, from 0.
    `whitening` (n_volumes, n_volumes) is applied to both sides; only the comparison with SPM needs it.
    """
    n_volumes = len(series)
    basis = convolved_cosines(n_volumes, response, at)
    penalty = float((basis**2).sum()) / (4 * n_volumes)
    columns = np.hstack([basis, nuisance])
    if whitening is not None:
        columns, series = whitening @ columns, whitening @ series
    gram = columns.T @ columns
    gram[np.diag_indices_from(gram)] += np.repeat([penalty, NUISANCE_PENALTY], [n_volumes, nuisance.shape[1]])
    weights = cho_solve(cho_factor(gram), columns.T @ series)[:n_volumes]
    whole = np.zeros((PADDING + n_volumes * BINS, series.shape[1]))
    whole[:n_volumes] = weights
    neural = idct(whole, axis=0, norm="ortho")[PADDING:]
    return np.asarray(neural - neural.mean(axis=0))


def convolved_cosines(n_volumes: int, response: Array, at: int) -> Array:
    """Return the cosines of microtime convolved with the response, at the bin `at` of each volume, (n, n)."""
    n_bins = PADDING + n_volumes * BINS
    rows = []
    for first in range(0, n_volumes, ROWS):
        places = [PADDING + at + BINS * k for k in range(first, min(first + ROWS, n_volumes))]
        shifted = np.zeros((len(places), n_bins))
        for row, place in enumerate(places):
            reach = min(len(response), place + 1)
            shifted[row, place - reach + 1 : place + 1] = response[:reach][::-1]
        rows.append(dct(shifted, axis=1, norm="ortho")[:, :n_volumes])
    return np.vstack(rows)


def reconvolve(neural: Array, response: Array, *, at: int) -> Array:
    """Return neural signals (n_volumes * BINS, k) as measured ones (n_volumes, k), centred; silent before."""
    measured = oaconvolve(neural, response[:, None], axes=0)[at : len(neural) : BINS]
    return np.asarray(measured - measured.mean(axis=0))


def share_of_bins(events: pd.DataFrame, clock: Clock) -> Array:
    """Return which share of each bin (n_volumes * BINS,) the events (onset, duration in s) fill."""
    edges = clock.step * np.arange(clock.n_volumes * BINS + 1)
    onset = events["onset"].to_numpy(dtype=float)
    length = np.maximum(events["duration"].to_numpy(dtype=float), clock.step)
    passed = np.clip(edges[:, None] - onset, 0.0, length).sum(axis=1)
    return np.asarray(np.diff(passed) / clock.step)


@dataclass(frozen=True)
class Interactions:
    """The deconvolved regions of a run, cut by condition, and what is fitted beside them.

    `terms` region -> (n_volumes, n_conditions), with psychological terms centred; `parts` region ->
    (n_volumes, n_conditions + 1), with those of 0 and 1 and, last, the time outside all conditions. `beside`
    (n_volumes, p) is orthonormal: task, confounds, drifts, intercept.
    """

    conditions: Sequence[str]
    terms: Mapping[str, Array]
    parts: Mapping[str, Array]
    beside: Array


def interact(
    signals: pd.DataFrame, windows: Mapping[str, Array], nuisance: Array, *, clock: Clock, hrf: str
) -> Interactions:
    """Return the interactions of every region of `signals` (n_volumes, n_regions), percent of its mean.

    `windows` condition -> share of each bin of microtime that it fills.
    """
    beside = orthonormal(np.column_stack([nuisance, np.ones(len(signals))]))
    response, at = clock.response(hrf), clock.bin
    measured = signals.to_numpy(dtype=float)
    neural = deconvolve(measured - beside @ (beside.T @ measured), beside, response, at=at)
    shares = np.column_stack(list(windows.values()))
    outside = np.clip(1.0 - shares.sum(axis=1), 0.0, 1.0)
    cut = np.column_stack([shares, outside])
    centred = shares - shares.mean(axis=0)
    terms, parts = {}, {}
    for place, region in enumerate(map(str, signals.columns)):
        terms[region] = reconvolve(centred * neural[:, [place]], response, at=at)
        parts[region] = reconvolve(cut * neural[:, [place]], response, at=at)
    return Interactions(list(windows), terms, parts, beside)


def fit_interactions(
    target: Array, seed: Array, terms: Array, beside: Array, weights: Array
) -> tuple[Array, Array, float]:
    """Return contrasts of generalised PPI (n_contrasts,), their standard errors, and the residual df.

    `terms` (n_volumes, k) are weighed by `weights` (k, n_contrasts). A coefficient is the change of the slope
    of target on seed, percent per percent, that goes with a condition. Where conditions leave no time between
    them their terms add up to nothing, and only differences are estimable; others are missing.
    """
    _, heights, axes = np.linalg.svd(terms, full_matrices=False)
    axes = axes[heights > INDEPENDENT * heights.max()].T
    vectors = axes.T @ weights
    lost = np.linalg.norm(weights - axes @ vectors, axis=0) > INDEPENDENT * np.linalg.norm(weights, axis=0)
    [fit] = fit_series(target[:, None], np.column_stack([terms @ axes, seed, beside]))
    n_terms = axes.shape[1]
    covariance = fit.covariance[:n_terms, :n_terms]
    values = fit.beta[:n_terms] @ vectors
    errors = np.sqrt(np.einsum("kc,kl,lc->c", vectors, covariance, vectors))
    return np.where(lost, np.nan, values), np.where(lost, np.nan, errors), fit.df


def partial_correlation(one: Array, other: Array, place: int, beside: Array) -> float:
    """Return the correlation of two regions' parts in one condition, all other parts taken out of both.

    `one` and `other` (n_volumes, k) are parts of `Interactions` (Fornito et al., PNAS 2012;109:12788).
    """
    rest = [column for column in range(one.shape[1]) if column != place]
    taken = orthonormal(np.column_stack([beside, one[:, rest], other[:, rest]]))
    a, b = (part[:, place] - taken @ (taken.T @ part[:, place]) for part in (one, other))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > FLAT else math.nan


def orthonormal(columns: Array) -> Array:
    """Return an orthonormal basis of what the columns (n, p) span; dependent ones are there once."""
    lengths = np.linalg.norm(columns, axis=0)
    scaled = columns[:, lengths > 0] / lengths[lengths > 0]
    left, heights, _ = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(left[:, heights > 1e-8 * heights.max()])
