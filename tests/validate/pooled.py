"""Effects pooled over exchangeable outcomes: what their intervals cover (`python -m tests.validate.pooled`).

Trials of 14 and 13 people, a baseline and three visits, 7, 20 and 33 % missing; reference covariance over
visits, one correlation of all outcomes. `alike`: effects are drawn anew in each trial, normal around -0.5 s
with an SD of 0.2 s. `equal`: all are -0.5 s. `two of them`: two outcomes have -0.8 s and the others none,
which nobody may declare exchangeable: shown, not judged. Printed: coverage of 95 % intervals at the three
visits together, mean width, bias and root mean square error, of the mean and of outcomes, pooled and alone.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd

from reconfmri.config import Group
from reconfmri.group import bayes, pooled
from reconfmri.group.estimands import Question
from reconfmri.group.frequentist import Mixed, answer_by_reml
from reconfmri.group.grid import Outcome
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_values

MEAN, SPREAD, FEW = -0.5, 0.2, -0.8
MISSING = [0.0, 0.07, 0.20, 0.33]
LATER = np.array([0.0, 1.0, 1.0, 1.0])
Row = tuple[str, float, float, float]


def effects_of(truth: str, n_outcomes: int, random: np.random.Generator) -> np.ndarray:
    """Return the effect of every outcome, in s."""
    if truth == "two of them":
        return np.where(np.arange(n_outcomes) < 2, FEW, 0.0)
    return MEAN + SPREAD * (truth == "alike") * random.standard_normal(n_outcomes)


def settings(n_outcomes: int) -> Group:
    """Return the group section of exchangeable outcomes."""
    names = [f"o{number}" for number in range(n_outcomes)]
    return Group.from_params(
        {
            "arms": {"active": "a", "control": "b"},
            "outcomes": names,
            "primary": {"outcome": names[0], "session": "2"},
            "pooled": {"all": names},
        }
    )


def answers(truth: str, trials: int, n_outcomes: int, correlation: float) -> Iterator[Row]:
    """Yield quantity, estimate minus truth, and the ends of the interval minus truth."""
    random, group = np.random.default_rng(5), settings(n_outcomes)
    alike = correlation + (1 - correlation) * np.eye(n_outcomes)
    noise = Truth(
        np.kron(alike, COVARIANCES["reference"]),
        np.zeros(4 * n_outcomes),
        np.zeros(4 * n_outcomes),
        np.tile(MISSING, n_outcomes),
    )
    for values in simulate_values(noise, trials=trials, seed=7):
        effects = effects_of(truth, n_outcomes, random)
        values = values + np.outer(noise.active, np.kron(effects, LATER))
        outcomes = [
            Outcome(f"o{place}", "activation", "s", 1.0, grid, noise.active)
            for place, grid in enumerate(np.hsplit(values, n_outcomes))
        ]
        fits: list[dict[bool, Mixed]] = [{} for _ in outcomes]
        for visit in (1, 2, 3):
            question = Question("difference_adjusted", visit, str(visit + 1))
            found = [
                answer_by_reml(outcome, question, group, fit)[0]
                for outcome, fit in zip(outcomes, fits, strict=True)
            ]
            parts = [
                pooled.contributions(outcome, question, fit[True].model, fit[True].fit)
                for outcome, fit in zip(outcomes, fits, strict=True)
            ]
            posterior = pooled.posterior(found, pooled.common_correlation(parts), group.priors, 1.0)
            if truth != "two of them":
                yield _row("mean", posterior.mean, MEAN)
            for answer, draws, effect in zip(found, posterior.outcomes, effects, strict=True):
                which = "" if truth != "two of them" else (", with effect" if effect else ", without")
                lower, upper = answer.interval(0.95)
                yield f"alone{which}", answer.estimate - effect, lower - effect, upper - effect
                yield _row(f"pooled{which}", draws, effect)


def _row(quantity: str, draws: np.ndarray, aim: float) -> Row:
    lower, upper = bayes.highest_density(draws, 0.95)
    return quantity, float(draws.mean()) - aim, lower - aim, upper - aim


def judge(rows: Iterator[Row]) -> pd.DataFrame:
    """Return one row per quantity."""
    found = pd.DataFrame(rows, columns=["quantity", "off", "lower", "upper"])
    found["covered"] = (found["lower"] <= 0) & (found["upper"] >= 0)
    found["width"], found["square"] = found["upper"] - found["lower"], found["off"] ** 2
    means = found.groupby("quantity", sort=False)[["covered", "width", "off", "square"]].mean()
    return pd.DataFrame(
        {
            "coverage %": 100 * means["covered"],
            "width": means["width"],
            "bias": means["off"],
            "RMSE": np.sqrt(means["square"]),
        }
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--outcomes", type=int, nargs="*", default=[6, 12])
    parser.add_argument("--correlation", type=float, nargs="*", default=[0.0, 0.5])
    given = parser.parse_args()
    for n_outcomes in given.outcomes:
        for correlation in given.correlation:
            for truth in ("alike", "equal", "two of them"):
                table = judge(answers(truth, given.trials, n_outcomes, correlation))
                print(f"\n{truth}, {n_outcomes} outcomes, correlation {correlation}, {given.trials} trials")
                print(table.round(3).to_string(), flush=True)


if __name__ == "__main__":
    main()
