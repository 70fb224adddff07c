"""Measure tables of trials with more than two arms and a known truth; one visit model for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.simulate.measures import Array, Truth, simulate_values, table_of_measures


@dataclass(frozen=True)
class ArmsTruth:
    """What is planted, in units of the outcome's scale; arms in order, the control first.

    `noise` says how people differ and which visits they miss; its own arms and difference are not used.
    """

    noise: Truth
    differences: Array  # (n_arms - 1, n_visits), of each active arm from the control
    sizes: tuple[int, ...]  # people of each arm
    names: tuple[str, ...] = ("midazolam", "ketamine_0.2", "ketamine_0.5")
    spread: tuple[float, ...] = field(default=())  # SD of each arm over that of the covariance; none: alike

    @property
    def arm(self) -> NDArray[np.intp]:
        """(n_people,): the arm of each person, by place."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


def simulate_arms(truth: ArmsTruth, *, trials: int, seed: int) -> Array:
    """Return (trials, n_people, n_visits), in units of the scale; NaN where a visit is missing."""
    n_visits = truth.differences.shape[1]
    nothing = np.zeros(n_visits)
    noise = replace(truth.noise, difference=nothing, mean=nothing, n_active=len(truth.arm), n_control=0)
    values = simulate_values(noise, trials=trials, seed=seed)
    spread = np.array(truth.spread or (1.0,) * len(truth.sizes))[truth.arm]
    means = np.vstack([nothing, truth.differences])[truth.arm]
    return np.asarray(values * spread[:, None] + means + truth.noise.mean)


def simulate_arm_measures(
    truth: ArmsTruth, *, outcomes: dict[str, str], scales: dict[str, float], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the measure table and the allocation of one trial; `outcomes` are names with their units.

    Outcomes are independent of one another; sessions are called 1, 2 and so on.
    """
    people = [f"sub-{number:03d}" for number in range(1, len(truth.arm) + 1)]
    values = simulate_arms(truth, trials=len(outcomes), seed=seed)
    measures = table_of_measures(values, people, outcomes=outcomes, scales=scales)
    arms = [truth.names[place] for place in truth.arm]
    return measures, pd.DataFrame({"participant_id": people, "arm": arms, "stratum": "n/a"})
