"""Beta series: correlation over the single events of a condition of what two regions answered to each.

Each event has a model of its own (LSS; Mumford et al., NeuroImage 2012;59:2636); the correlation over a
condition's events is that of Rissman et al. (NeuroImage 2004;23:752). With few events it has no power and, at
n - 3, rejects four to five times as many nulls as it ought to: fewer than ten are refused. Its standard error
is a jackknife over events.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[np.float64]
MIN_BETAS = 10  # of a condition


def event_betas(series: Array, responses: Array, conditions: npt.NDArray[np.object_], beside: Array) -> Array:
    """Return an estimate per event and series (n_events, n_series), each event in a model of its own.

    `responses` (n_volumes, n_events) are the events' own regressors; `beside` (n_volumes, p) is orthonormal.
    """
    clean = responses - beside @ (beside.T @ responses)
    values = series - beside @ (beside.T @ series)
    sums = {name: clean[:, conditions == name].sum(axis=1) for name in dict.fromkeys(conditions)}
    betas = []
    for place, condition in enumerate(conditions):
        others = [total - clean[:, place] * (name == condition) for name, total in sums.items()]
        design = np.column_stack([clean[:, place], *others])
        betas.append(np.linalg.lstsq(design, values, rcond=None)[0][0])
    return np.array(betas)


def fisher_z(one: Array, other: Array) -> tuple[float, float]:
    """Return arctanh of the correlation of two beta series (n_events,), and its jackknife standard error."""
    n = len(one)
    if n < MIN_BETAS:
        return math.nan, math.nan
    every = np.arange(n)
    left_out = np.array([_z(one[every != place], other[every != place]) for place in range(n)])
    return _z(one, other), math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))


def too_few(events: pd.DataFrame, wanted: list[str]) -> dict[str, int]:
    """Return condition -> number of its events, of those wanted that have fewer than ten."""
    counts = {name: int((events["condition"] == name).sum()) for name in wanted}
    return {name: count for name, count in counts.items() if count < MIN_BETAS}


def _z(one: Array, other: Array) -> float:
    a, b = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(np.arctanh(np.clip(float(a @ b) / scale, -1 + 1e-12, 1 - 1e-12))) if scale > 0 else math.nan
