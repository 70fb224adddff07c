"""Measure tables of trials with a known truth: covariance over visits, arm differences, missing visits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
ARMS = ("ketamine", "midazolam")


def _correlations(n_visits: int, baseline_to_later: float, among_later: float) -> Array:
    matrix = np.full((n_visits, n_visits), among_later)
    matrix[0, :] = matrix[:, 0] = baseline_to_later
    np.fill_diagonal(matrix, 1.0)
    return matrix


def covariances(n_visits: int) -> dict[str, Array]:
    """Return name -> covariance over a baseline and later visits, in units of the outcome's scale."""
    reference, sds = _correlations(n_visits, 0.36, 0.70), np.linspace(0.7, 1.4, n_visits)
    apart = np.abs(np.subtract.outer(np.arange(n_visits), np.arange(n_visits))).astype(np.float64)
    return {
        "compound symmetric": _correlations(n_visits, 0.36, 0.36),
        "reference": reference,
        "autoregressive": 0.6**apart,
        "growing": reference * np.outer(sds, sds),
    }


COVARIANCES = covariances(4)  # a baseline and three later visits


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
    missing_by_last: float = 0.0  # log odds of leaving for good per SD of the last value that was seen
    exponential: bool = False  # skewed noise: exponential, of mean 0 and variance 1 before it correlates
    floor: float | None = None  # lowest value of the scale; what is below it is seen as it

    @property
    def active(self) -> NDArray[np.bool_]:
        """(n_people,): who is in the active arm."""
        return np.arange(self.n_active + self.n_control) < self.n_active

    @property
    def seen_difference(self) -> Array:
        """(n_visits,): difference between the arms' means, which a floor makes smaller than `difference`."""
        if self.floor is None:
            return self.difference
        arms = []
        for shift, spread in ((self.difference, self.spread_active), (0.0, 1.0)):
            sd = spread * np.sqrt(self.covariance.diagonal())
            above = (self.mean + shift - self.floor) / sd
            density = np.exp(-(above**2) / 2) / np.sqrt(2 * np.pi)
            arms.append(self.floor + sd * (above * ndtr(above) + density))
        return np.asarray(arms[0] - arms[1])

    @property
    def widest_sd(self) -> float:
        """SD around the arms' means at the visit where people differ most: the s of a study file."""
        arms = (self.spread_active**2 * self.n_active + self.n_control) / (self.n_active + self.n_control)
        return float(np.sqrt(arms * self.covariance.diagonal().max()))


def simulate_values(truth: Truth, *, trials: int, seed: int) -> Array:
    """Return (trials, n_people, n_visits), in units of the scale; NaN where a visit is missing.

    Whether a visit is missed may depend on what was seen, never on what was missed.
    """
    random = np.random.default_rng(seed)
    active = truth.active
    n_visits = truth.difference.size
    shape = (trials, active.size, n_visits)
    noise = random.exponential(size=shape) - 1 if truth.exponential else random.standard_normal(shape)
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
    values = truth.mean + np.outer(active, truth.difference) + noise
    if truth.floor is not None:
        values = np.maximum(values, truth.floor)
    if truth.missing_by_last:
        return _leave(values, truth, random)
    return np.where(chance < missing, np.nan, values)


def _leave(values: Array, truth: Truth, random: np.random.Generator) -> Array:
    """Return the values until each person leaves, the sooner the higher the last value was.

    What counts is the value, with the difference between the arms in it: who is better stays.
    """
    seen, gone = values.copy(), np.zeros(values.shape[:2], dtype=bool)
    sds, stayed = np.sqrt(truth.covariance.diagonal()), 1 - truth.missing
    for visit in range(1, values.shape[2]):
        odds = (stayed[visit - 1] - stayed[visit]) / stayed[visit]
        above = (values - truth.mean)[:, :, visit - 1] / sds[visit - 1]
        chance = 1 / (1 + np.exp(-truth.missing_by_last * above) / odds)
        gone |= random.random(gone.shape) < chance
        seen[:, :, visit] = np.where(gone, np.nan, values[:, :, visit])
    return seen


def simulate_measures(
    truth: Truth, *, outcomes: dict[str, str], scales: dict[str, float], seed: int, domain: str = "activation"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the measure table and the allocation of one trial; `outcomes` are names with their units.

    Outcomes are independent of one another; sessions are called 1, 2 and so on.
    """
    people = [f"sub-{number:02d}" for number in range(1, truth.active.size + 1)]
    values = simulate_values(truth, trials=len(outcomes), seed=seed)
    measures = table_of_measures(values, people, outcomes=outcomes, scales=scales, domain=domain)
    arms = [ARMS[0] if active else ARMS[1] for active in truth.active]
    return measures, pd.DataFrame({"participant_id": people, "arm": arms, "stratum": "n/a"})


def table_of_measures(
    values: Array,
    people: list[str],
    *,
    outcomes: dict[str, str],
    scales: dict[str, float],
    domain: str = "activation",
) -> pd.DataFrame:
    """Return values (n_outcomes, n_people, n_visits), in units of the scale, as a table of measures."""
    rows = [
        (person, str(visit + 1), domain, outcome, value * scales[unit], unit)
        for (outcome, unit), grid in zip(outcomes.items(), values, strict=True)
        for person, visits in zip(people, grid, strict=True)
        for visit, value in enumerate(visits)
        if not np.isnan(value)
    ]
    columns = ["participant_id", "session_id", "domain", "outcome", "value", "unit"]
    return pd.DataFrame(rows, columns=columns).assign(se=np.nan, coverage=np.nan, n_runs=1)
