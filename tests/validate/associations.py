"""Brain and symptoms on a planted truth: `python -m tests.validate.associations`.

Trials of 14 and 13 people, four values a person: traits that last and changes that correlate by 0, .3 or .6,
with error of measurement, 15 % of the later values missing by chance. Printed: coverage of 95 % intervals of
the correlation of changes and of the slope on the baseline, by both methods, of the correlation of true
changes with the reliability known, and what permutations and leave-one-out find where nothing is planted.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd

from reconfmri.config import Group
from reconfmri.group import associations, prediction
from reconfmri.group.grid import Outcome

ARMS = (14, 13)
STABLE, ERROR, GONE = 0.6, 0.15, 0.15
UNIT = "percent signal change"
Interval = tuple[str, float, float, float, float]  # what, truth, estimate, lower, upper


def covariance(of_changes: float, *, error: float = ERROR) -> np.ndarray:
    """Return the covariance (4, 4) of brain and symptoms at two visits; traits correlate by .3."""
    trait = STABLE * np.array([[1, 0.3], [0.3, 1]])
    change = (1 - STABLE) * np.array([[1, of_changes], [of_changes, 1]])
    whole = np.block([[trait, trait], [trait, trait + change]])
    return whole[np.ix_([0, 2, 1, 3], [0, 2, 1, 3])] + error * np.eye(4)


def trials(of_changes: float, n: int, seed: int) -> Iterator[associations.Both]:
    """Yield simulated trials."""
    random = np.random.default_rng(seed)
    active = np.arange(sum(ARMS)) < ARMS[0]
    for _ in range(n):
        values = random.multivariate_normal(np.zeros(4), covariance(of_changes), sum(ARMS))
        values[active, 1] -= 0.8
        values[active, 3] -= 0.5
        for later in (1, 3):
            values[random.random(sum(ARMS)) < GONE, later] = np.nan
        brain, symptoms = (
            Outcome(name, "activation", UNIT, 1.0, part, active)
            for name, part in zip("xy", np.hsplit(values, 2), strict=True)
        )
        yield associations.Both(brain, symptoms, "2")


def group() -> Group:
    """Return the group section, with the reliability as planted, known to .02."""
    true = STABLE + (1 - STABLE) / 2  # mean over the visits
    reliability = true / (true + ERROR)
    known = [reliability - 0.02, reliability, reliability + 0.02]
    pair = {"brain": "x", "symptoms": "y", "session": "2", "reliability": {"brain": known, "symptoms": known}}
    return Group.from_params(
        {
            "arms": {"active": "a", "control": "b"},
            "outcomes": ["x", "y"],
            "primary": {"outcome": "x", "session": "2"},
            "associations": {"both": pair},
            "sampling": {"chains": 2, "tune": 400, "draws": 500, "min_ess": 200, "max_r_hat": 1.03},
        }
    )


def truths(of_changes: float) -> dict[str, float]:
    """Return quantity -> truth."""
    whole = covariance(of_changes)
    slope = np.linalg.solve(whole[np.ix_([0, 2], [0, 2])], whole[[0, 2], 3])[0] * np.sqrt(whole[0, 0])
    measured = (1 - STABLE) * of_changes / (1 - STABLE + 2 * ERROR)
    return {
        "correlation_of_changes": measured,
        "slope_on_baseline": slope,
        "correlation_of_true_changes": of_changes,
    }


def answers(of_changes: float, n: int, seed: int, *, by_bayes: bool) -> Iterator[Interval]:
    """Yield method and quantity, truth, estimate and interval; one that is withheld covers nothing."""
    settings, known = group(), truths(of_changes)
    for both in trials(of_changes, n, seed):
        if by_bayes:
            posterior = associations.Posterior(both, settings.associations["both"], settings, 1, 1)
            rows = {name: posterior.row(name) for name in known}
        else:
            rows = {name: associations.closed_form(both, name, 0.95) for name in list(known)[:2]}
        for name, row in rows.items():
            numbers = [float(str(row.get(key, np.nan))) for key in ("estimate", "lower", "upper")]
            yield name, known[name], *numbers


def judge(found: Iterator[Interval]) -> pd.DataFrame:
    """Return coverage, bias, width and what was withheld per quantity."""
    table = pd.DataFrame(found, columns=["what", "truth", "estimate", "lower", "upper"])
    table["covered"] = 100 * ((table["lower"] <= table["truth"]) & (table["truth"] <= table["upper"]))
    table["bias"] = table["estimate"] - table["truth"]
    table["width"] = table["upper"] - table["lower"]
    table["withheld %"] = 100 * table["estimate"].isna()
    return table.groupby("what", sort=False)[["truth", "covered", "bias", "width", "withheld %"]].mean()


def null_of_prediction(n_trials: int, permutations: int, seed: int) -> np.ndarray:
    """Return p of the gain (n_trials,) where 3 predictors foretell nothing, 27 people, one partition."""
    random = np.random.default_rng(seed)
    n, found = sum(ARMS), np.empty(n_trials)
    arm = np.where(np.arange(n) < ARMS[0], 0.5, -0.5)
    for place in range(n_trials):
        base = np.column_stack([np.ones(n), arm, random.standard_normal(n)])
        outcome = base @ [0.0, -0.5, 0.6] + random.standard_normal(n)
        predictors = random.standard_normal((n, 3))
        folds = [random.permutation(n) % prediction.FOLDS]
        gains = [
            prediction.predict(prediction.Data(outcome, base, predictors[order]), folds).gain
            for order in (np.arange(n), *(random.permutation(n) for _ in range(permutations)))
        ]
        found[place] = (1 + np.sum(np.array(gains[1:]) >= gains[0])) / (1 + permutations)
    return found


def leave_one_out(n_trials: int, seed: int) -> float:
    """Return the mean correlation of leave-one-out predictions with the outcome, one predictor of nothing."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(n_trials):
        design = np.column_stack([np.ones(27), random.standard_normal(27)])
        outcome = random.standard_normal(27)
        hat = design @ np.linalg.pinv(design)
        predicted = outcome - (outcome - hat @ outcome) / (1 - np.diag(hat))
        found.append(np.corrcoef(predicted, outcome)[0, 1])
    return float(np.mean(found))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="of closed forms and of predictions")
    parser.add_argument("--bayes", type=int, default=200, help="trials that meet the sampler")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    for of_changes in (0.0, 0.3, 0.6):
        for name, n in (("closed forms", given.trials), ("bayes", given.bayes)):
            print(f"\ncorrelation of true changes {of_changes}, {name}, {n} trials")
            print(judge(answers(of_changes, n, 7, by_bayes=name == "bayes")).round(3).to_string(), flush=True)
    p = null_of_prediction(given.trials // 5, 39, 11)
    print(f"\nprediction of nothing, {len(p)} trials: p <= .05 in {100 * np.mean(p <= 0.05):.1f} %")
    print(f"leave-one-out, nothing planted: mean correlation {leave_one_out(given.trials, 3):.2f}")


if __name__ == "__main__":
    main()
