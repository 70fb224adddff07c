"""Gaussian and Student t residuals, where tails are heavy and where not (`python -m tests.validate.tails`).

Trials of 14 and 13 people with a baseline and three visits and a planted effect, residuals Gaussian or
multivariate t with three degrees of freedom, of the same variance. Both likelihoods meet the same trials, by
the workflow's own sampler. Printed: coverage of the 95 % interval, mean width and root mean square error of
the adjusted difference, over the three visits together.
"""

import argparse
import logging

import numpy as np
import pandas as pd

from reconfmri.config import Group
from reconfmri.group import bayes
from reconfmri.group.estimands import Question
from reconfmri.group.grid import Outcome
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_values

PLANTED = np.array([0.0, -0.8, -0.7, -0.5])


def settings(**more: str) -> Group:
    """Return the group section of one outcome, with short chains."""
    return Group.from_params(
        {
            "arms": {"active": "a", "control": "b"},
            "outcomes": ["x"],
            "primary": {"outcome": "x", "session": "2"},
            "covariance": "unstructured",
            "sampling": {"chains": 2, "tune": 500, "draws": 750, "min_ess": 200, "max_r_hat": 1.03},
        }
        | more
    )


def answers(values: np.ndarray, truth: Truth, group: Group) -> list[tuple[float, float, float]]:
    """Return estimate and interval per trial and later visit; trials that miss the gate are left out."""
    sampler, found = bayes.Sampler(1, cores=1), []
    for grid in values:
        outcome = Outcome("x", "activation", "percent signal change", 1.0, grid, truth.active)
        fit = sampler.fit(outcome, True, group)
        if not fit.passes(group.sampling):
            continue
        for visit in (1, 2, 3):
            draws = bayes.contrast(fit, Question("difference_adjusted", visit, "x"), outcome)
            found.append(
                (float(draws.mean()) - PLANTED[visit], *(bayes.highest_density(draws, 0.95) - PLANTED[visit]))
            )
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    rows = []
    for tails in (3.0, None):
        truth = Truth(COVARIANCES["reference"], PLANTED, tails=tails)
        values = simulate_values(truth, trials=given.trials, seed=7)
        for likelihood in ("gaussian", "student_t"):
            off, low, high = np.array(answers(values, truth, settings(likelihood=likelihood))).T
            covered = 100 * float(((low <= 0) & (high >= 0)).mean())
            size = float(np.sqrt((off**2).mean()))
            rows.append(
                (tails or "Gaussian", likelihood, off.size // 3, covered, float((high - low).mean()), size)
            )
    columns = ["truth: t with df", "likelihood", "trials", "coverage %", "width", "RMSE"]
    print(pd.DataFrame(rows, columns=columns).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
