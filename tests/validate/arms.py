"""Three arms by simulation: `python -m tests.validate.arms --trials N`, with a small form in the tests.

Coverage and bias of every comparison by REML (Kenward-Roger), ANCOVA and Welch, with 9 and with 50 people per
arm; how often the randomisation test of two arms rejects beside a third arm of any effect; how often a family
of three comparisons has a false rejection by closed testing where all, or two, arms are alike; coverage of
the Bayesian model where there is time (`--bayes N`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd

from reconfmri.config import Arms, Group
from reconfmri.group import allocations, bayes, frequentist, randomisation
from reconfmri.group.estimands import NotEstimableError, Question
from reconfmri.group.grid import Outcome
from reconfmri.simulate.arms import ArmsTruth, simulate_arms
from reconfmri.simulate.measures import COVARIANCES, Truth

ASKED = (("difference_adjusted", 1), ("difference_adjusted", 3), ("difference_of_change", 3))
UNIT = "percent signal change"
ARMS = Arms(active=["low", "high"], control="none", comparisons=[["high", "low"]],
            doses={"none": 0.0, "low": 0.2, "high": 0.5})  # fmt: skip
EFFECTS = np.array([[0, -0.3, -0.3, -0.3], [0, -0.8, -0.7, -0.5]])
SIZES = {"9/9/9": (9, 9, 9), "50/50/50": (50, 50, 50), "12/9/20": (12, 9, 20)}
ALIKE = {"all alike": 0 * EFFECTS, "one apart by 3 SD": np.array([[0.0] * 4, [0.0, 3, 3, 3]])}
LEVEL = 0.95


def group_of(**more: object) -> Group:
    """The settings of a trial with one outcome and no study file."""
    primary = {"outcome": "x", "session": "2", "comparison": ["high", "none"]}
    settings = {"arms": ARMS.model_dump(), "outcomes": ["x"], "primary": primary, "scales": {UNIT: 1.0}}
    return Group.from_params(settings | more)


def outcome_of(values: np.ndarray, truth: ArmsTruth) -> Outcome:
    """One simulated trial as the group level lays it out."""
    people = tuple(f"p{place}" for place in range(len(values)))
    scale = float(np.sqrt(truth.noise.covariance.diagonal().max()))
    return Outcome("x", "activation", UNIT, scale, values, truth.arm, people=people, arms=ARMS.labels)


def truth_of(covariance: str, sizes: Sequence[int], effects: np.ndarray = EFFECTS) -> ArmsTruth:
    """7, 20 and 33 % have left at the later visits."""
    return ArmsTruth(Truth(COVARIANCES[covariance]), effects, tuple(sizes), ARMS.labels)


def questions() -> list[Question]:
    """Every comparison, adjusted at the first and the last later visit, and its change at the last."""
    return [
        Question(estimand, visit, str(visit + 1), comparison=one)
        for estimand, visit in ASKED
        for one in ARMS.every_comparison
    ]  # fmt: skip


def coverage(covariance: str, size: str, *, trials: int, seed: int) -> pd.DataFrame:
    """Return per method and question: coverage, bias, SD of the estimates, share of trials without one."""
    truth, group, rows = truth_of(covariance, SIZES[size]), group_of(), []
    means = np.vstack([np.zeros(4), truth.differences])
    for values in simulate_arms(truth, trials=trials, seed=seed):
        outcome, fits = outcome_of(values, truth), {}
        for question in questions():
            true = float((question.weights(4) * means).sum())
            for method in ("reml", *frequentist.methods_of(question)):
                asked = method, question.estimand, question.session, question.comparison.name
                rows.append((*asked, *_interval(outcome, question, group, fits, method), true))
    names = ["method", "estimand", "session", "comparison", "estimate", "lower", "upper", "true"]
    return _summed(pd.DataFrame(rows, columns=names)).assign(covariance=covariance, people=size)


def _interval(
    outcome: Outcome, question: Question, group: Group, fits: dict, method: str
) -> tuple[float, float, float]:
    try:
        if method == "reml":
            found, _ = frequentist.answer_by_reml(outcome, question, group, fits)
        else:
            found = frequentist.answer_question(outcome, question, robust=method == "ancova_hc2")
    except NotEstimableError:
        return np.nan, np.nan, np.nan
    return found.estimate, *found.interval(LEVEL)


def _summed(table: pd.DataFrame) -> pd.DataFrame:
    inside = (table["lower"] <= table["true"]) & (table["true"] <= table["upper"])  # a missing one misses
    keys = ["method", "estimand", "session", "comparison"]
    table = table.assign(inside=inside, away=table["estimate"] - table["true"], lost=table["lower"].isna())
    found = table.groupby(keys, sort=False).agg(
        trials=("inside", "size"), coverage=("inside", "mean"), bias=("away", "mean"),
        sd=("away", "std"), withheld=("lost", "mean"),
    )  # fmt: skip
    return found.reset_index()


def by_bayes(covariance: str, size: str, *, trials: int, seed: int) -> pd.DataFrame:
    """Return the same of the adjusted differences by the workflow's own Bayesian model."""
    truth, group, rows = truth_of(covariance, SIZES[size]), group_of(), []
    means, asked = np.vstack([np.zeros(4), truth.differences]), questions()[: 2 * len(ARMS.every_comparison)]
    for trial, values in enumerate(simulate_arms(truth, trials=trials, seed=seed)):
        outcome = outcome_of(values, truth)
        fit = bayes.Sampler(seed + trial, cores=1).fit(outcome, True, group)
        for question in asked:
            ends = (np.nan, np.nan, np.nan)
            if fit.passes(group.sampling):
                numbers = bayes.summarise(bayes.contrast(fit, question, outcome), LEVEL)
                ends = tuple(float(str(numbers[name])) for name in ("estimate", "lower", "upper"))
            true = float((question.weights(4) * means).sum())
            rows.append(("bayes", question.estimand, question.session, question.comparison.name, *ends, true))
    names = ["method", "estimand", "session", "comparison", "estimate", "lower", "upper", "true"]
    return _summed(pd.DataFrame(rows, columns=names)).assign(covariance=covariance, people=size)


def rejections(alike: str, size: str, *, trials: int, draws: int, seed: int) -> dict[str, float]:
    """Return how often the test of low against none rejects at 5 %, and how often any true null hypothesis
    of the three pairs is rejected after correction: both ought to be 5 % at most.
    """
    truth, group = truth_of("reference", SIZES[size], ALIKE[alike]), group_of()
    pairs = ARMS.every_comparison[:3]
    nulls = allocations.every_null(pairs)
    sides = {
        blocks: allocations.sides_of(
            allocations.draw_arms(truth.arm, (), blocks, n_draws=draws, seed=seed), blocks
        )
        for blocks in nulls
    }
    true = [place for place, one in enumerate(pairs) if not truth_is_apart(truth, one.weights)]
    alone, family = [], []
    for values in simulate_arms(truth, trials=trials, seed=seed + 1):
        outcome = outcome_of(values, truth)
        tests = {blocks: randomisation.Test(outcome, group, of, blocks) for blocks, of in sides.items()}
        corrected = np.zeros(3)
        for blocks, about in nulls.items():
            heights = {
                place: tests[blocks].statistics(Question("difference_adjusted", 1, "2", comparison=one))
                for place, one in enumerate(pairs)
                if one in about
            }
            drawn = np.max([np.abs(heights[place]) for place in heights], axis=0)
            p = float((drawn >= drawn[0] * (1 - 1e-9)).mean())
            if blocks == ((0, 1),):
                alone.append(p <= 1 - LEVEL)
            for place in heights:
                corrected[place] = max(corrected[place], p)
        family.append(bool((corrected[true] <= 1 - LEVEL).any()))
    return {"low against none": float(np.mean(alone)), "any in the family": float(np.mean(family))}


def truth_is_apart(truth: ArmsTruth, weights: Sequence[float]) -> bool:
    """Whether a comparison has a difference at the first later visit."""
    means = np.concatenate([[0.0], truth.differences[:, 1]])
    return bool(abs(np.asarray(weights) @ means) > 0)


def main() -> int:
    """Print the tables that docs/arms.md shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--draws", type=int, default=399)
    parser.add_argument("--bayes", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    keys = ["people", "covariance", "method"]
    for size in SIZES:
        for covariance in ("reference", "growing"):
            cells = coverage(covariance, size, trials=given.trials, seed=given.seed)
            if given.bayes and covariance == "reference":
                more = by_bayes(covariance, size, trials=given.bayes, seed=given.seed)
                cells = pd.concat([cells, more], ignore_index=True)
            cells["bias_in_sd"] = (cells["bias"] / cells["sd"]).abs()
            found = cells.groupby(keys, sort=False).agg(
                trials=("trials", "first"), lowest=("coverage", "min"), mean=("coverage", "mean"),
                highest=("coverage", "max"), bias_in_sd=("bias_in_sd", "max"), withheld=("withheld", "max"),
            )  # fmt: skip
            print(found.round(4).to_string(), flush=True)
    for alike in ALIKE:
        for size in ("9/9/9", "50/50/50"):
            found = rejections(alike, size, trials=given.trials, draws=given.draws, seed=given.seed)
            print(alike, size, found, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
