"""Two outcomes in one model: what its intervals cover (`python -m tests.validate.joint`).

Trials of 14 and 13 people, a baseline and three visits, 7, 20 and 33 % missing, by the workflow's own model
and sampler. `alike`: both outcomes have the reference covariance over visits and correlate by .5. `unlike`:
the first hardly correlates over visits, the spread of the second doubles, they correlate by .6 at baseline.
Printed: coverage of 95 % intervals of the adjusted differences, of their contrast and of the correlation at
the three visits (lowest and highest of them beside it), mean width, bias and root mean square error; with
--alone the differences from each outcome alone too.
"""

import argparse
import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd

from reconfmri.config import Group
from reconfmri.group import bayes, joint
from reconfmri.group.estimands import Question
from reconfmri.group.grid import Outcome
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_values

PLANTED = np.array([[0.0, -0.8, -0.7, -0.5], [0.0, -0.3, -0.2, -0.1]])
MISSING = np.array([0.0, 0.07, 0.20, 0.33])
Answer = tuple[str, int, np.ndarray, float]  # quantity, visit, draws, truth


def covariance(name: str) -> np.ndarray:
    """Return the covariance over two outcomes and four visits."""
    if name == "alike":
        return np.kron([[1, 0.5], [0.5, 1]], COVARIANCES["reference"])
    loose = np.full((4, 4), 0.3)
    loose[0] = loose[:, 0] = 0.15
    np.fill_diagonal(loose, 1)
    one, other = np.linalg.cholesky(loose), np.linalg.cholesky(COVARIANCES["growing"])
    across = 0.6 * one @ other.T
    return np.block([[loose, across], [across.T, COVARIANCES["growing"]]])


def planted(name: str, n_active: int = 14, n_control: int = 13) -> Truth:
    """Return what is planted in both outcomes, side by side."""
    return Truth(covariance(name), PLANTED.ravel(), np.zeros(8), np.tile(MISSING, 2), n_active, n_control)


def settings(covariance: str) -> Group:
    """Return the group section of two outcomes, with short chains."""
    return Group.from_params(
        {
            "arms": {"active": "a", "control": "b"},
            "outcomes": ["x", "y"],
            "primary": {"outcome": "x", "session": "2"},
            "covariance": covariance,
            "sampling": {"chains": 2, "tune": 400, "draws": 500, "min_ess": 200, "max_r_hat": 1.03},
        }
    )


def answers(truth: Truth, trials: int, group: Group, *, alone: bool = False) -> Iterator[Answer]:
    """Yield quantity, visit, draws and truth; a fit that misses the gate yields draws that cover nothing."""
    sampler = bayes.Sampler(1, cores=1)
    sd = np.sqrt(np.diag(truth.covariance))
    correlations = truth.covariance / np.outer(sd, sd)
    for values in simulate_values(truth, trials=trials, seed=7):
        one, other = (
            Outcome(name, "activation", "s", 1.0, grid, truth.active)
            for name, grid in zip("xy", np.hsplit(values, 2), strict=True)
        )
        pair = joint.Pair((one, other), ("either", "either"))
        fit = sampler.fit(pair.stacked, True, group)
        passed = 1.0 if fit.passes(group.sampling) else np.nan
        single = [sampler.fit(item, True, group) for item in pair.outcomes] if alone else []
        for visit in (1, 2, 3):
            question = Question("difference_adjusted", visit, "x")
            differences = joint.differences(pair, question, fit)
            for place, draws in enumerate(differences):
                yield f"difference of {'xy'[place]}", visit, passed * draws, PLANTED[place, visit]
            for place, found in enumerate(single):
                draws = bayes.contrast(found, question, pair.outcomes[place])
                yield f"difference of {'xy'[place]}, alone", visit, draws, PLANTED[place, visit]
            contrast = passed * (differences[0] - differences[1])
            yield "contrast", visit, contrast, PLANTED[0, visit] - PLANTED[1, visit]
            correlation = passed * joint.correlation(pair, question, fit)
            yield "correlation", visit, correlation, correlations[visit, 4 + visit]


def judge(found_of: Iterator[Answer]) -> pd.DataFrame:
    """Return one row per quantity."""
    rows = [
        (quantity, visit, draws.mean() - aim, *(np.array(bayes.highest_density(draws, 0.95)) - aim))
        for quantity, visit, draws, aim in found_of
    ]
    found = pd.DataFrame(rows, columns=["quantity", "visit", "off", "lower", "upper"])
    found = found.assign(
        covered=(found["lower"] <= 0) & (found["upper"] >= 0),
        width=found["upper"] - found["lower"],
        square=found["off"] ** 2,
    )
    by_visit = 100 * found.groupby(["quantity", "visit"], sort=False)["covered"].mean().unstack()
    means = found.groupby("quantity", sort=False)[["covered", "off", "width", "square"]].mean()
    return pd.DataFrame(
        {
            "coverage %": 100 * means["covered"],
            "lowest": by_visit.min(axis=1),
            "highest": by_visit.max(axis=1),
            "width": means["width"],
            "bias": means["off"],
            "RMSE": np.sqrt(means["square"]),
            "withheld": found["off"].isna().groupby(found["quantity"], sort=False).sum() // 3,
        }
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--truth", choices=["alike", "unlike"], default="unlike")
    parser.add_argument("--per-arm", type=int, nargs=2, default=[14, 13])
    parser.add_argument("--covariance", choices=["unstructured", "random_intercept"], default="unstructured")
    parser.add_argument("--alone", action="store_true", help="and each outcome alone: three times as long")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    truth = planted(given.truth, *given.per_arm)
    table = judge(answers(truth, given.trials, settings(given.covariance), alone=given.alone))
    print(f"{given.truth}, {given.per_arm}, {given.covariance}, {given.trials} trials")
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
