"""Measure tables of trials with a known truth: covariance over visits, arm differences, missing visits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
ARMS = ("ketamine", "midazolam")


def _correlations(baseline_to_later: float, among_later: float) -> Array:
    matrix = np.full((4, 4), among_later)
    matrix[0, :] = matrix[:, 0] = baseline_to_later
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _growing() -> Array:
    sds = np.linspace(0.7, 1.4, 4)
    return _correlations(0.36, 0.70) * np.outer(sds, sds)


# Baseline and three later visits, in units of the outcome's scale
COVARIANCES: dict[str, Array] = {
    "compound symmetric": _correlations(0.36, 0.36),
    "reference": _correlations(0.36, 0.70),
    "autoregressive": 0.6 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4))).astype(np.float64),
    "growing": _growing(),
}


@dataclass(frozen=True)
class Truth:
    """What is planted, in units of the outcome's scale: one number per visit, baseline first."""

    covariance: Array
    difference: Array = field(default_factory=lambda: np.zeros(4))
    mean: Array = field(default_factory=lambda: np.zeros(4))
    missing: Array = field(default_factory=lambda: np.array([0.0, 0.07, 0.20, 0.33]))
    n_active: int = 14
    n_control: int = 13
    spread_active: float = 1.0  # SD of the active arm over that of the control arm
    tails: float | None = None  # degrees of freedom of multivariate t noise (of the same variance)
    comes_back: bool = False  # visits are missed one by one; else who misses one misses the later ones
    missing_by_baseline: float = 0.0  # log odds of a missing visit per SD of the baseline

    @property
    def active(self) -> NDArray[np.bool_]:
        """(n_people,): who is in the active arm."""
        return np.arange(self.n_active + self.n_control) < self.n_active

    @property
    def widest_sd(self) -> float:
        """SD around the arms' means at the visit where people differ most: the s of a study file."""
        arms = (self.spread_active**2 * self.n_active + self.n_control) / (self.n_active + self.n_control)
        return float(np.sqrt(arms * self.covariance.diagonal().max()))


def simulate_values(truth: Truth, *, trials: int, seed: int) -> Array:
    """Return (trials, n_people, n_visits), in units of the scale; NaN where a visit is missing.

    Whether a visit is missed may depend on the baseline, never on what was missed.
    """
    random = np.random.default_rng(seed)
    active = truth.active
    n_visits = truth.difference.size
    noise = random.standard_normal((trials, active.size, n_visits))
    chance = random.random((trials, active.size, n_visits if truth.comes_back else 1))
    if truth.tails:
        df = truth.tails
        noise *= np.sqrt((df - 2) / random.chisquare(df, (trials, active.size, 1)))
    noise = noise @ np.linalg.cholesky(truth.covariance).T
    noise[:, active] *= truth.spread_active
    missing = truth.missing
    if truth.missing_by_baseline:
        shift = truth.missing_by_baseline * noise[:, :, :1] / np.sqrt(truth.covariance[0, 0])
        missing = missing / (missing + (1 - missing) * np.exp(-shift))
    return np.where(chance < missing, np.nan, truth.mean + np.outer(active, truth.difference) + noise)


def simulate_measures(
    truth: Truth, *, outcomes: dict[str, str], scales: dict[str, float], seed: int, domain: str = "activation"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the measure table and the allocation of one trial; `outcomes` are names with their units.

    Outcomes are independent of one another; sessions are called 1, 2 and so on.
    """
    people = [f"sub-{number:02d}" for number in range(1, truth.active.size + 1)]
    values = simulate_values(truth, trials=len(outcomes), seed=seed)
    rows = [
        (person, str(visit + 1), domain, outcome, value * scales[unit], unit)
        for (outcome, unit), grid in zip(outcomes.items(), values, strict=True)
        for person, visits in zip(people, grid, strict=True)
        for visit, value in enumerate(visits)
        if not np.isnan(value)
    ]
    columns = ["participant_id", "session_id", "domain", "outcome", "value", "unit"]
    measures = pd.DataFrame(rows, columns=columns).assign(se=np.nan, coverage=np.nan, n_runs=1)
    arms = [ARMS[0] if active else ARMS[1] for active in truth.active]
    return measures, pd.DataFrame({"participant_id": people, "arm": arms, "stratum": "n/a"})
