"""The primary question under other choices: what moves, which way, and by how much."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reconfmri.config import DEFAULT_SCALES, Group
from reconfmri.group import frequentist, sensitivity
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures

UNIT = "percent signal change"
SESSIONS = ["1", "2", "3", "4"]
TRUTH = Truth(COVARIANCES["growing"], np.array([0.0, -1.0, -1.0, -0.5]))


@pytest.fixture(scope="module")
def tables():
    measures, allocation = simulate_measures(TRUTH, outcomes={"x": UNIT}, scales=DEFAULT_SCALES, seed=4)
    odd = (measures["participant_id"] == "sub-01") & (measures["session_id"] == "2")
    return measures.assign(value=measures["value"].where(~odd, 3.0)), allocation


@pytest.fixture(scope="module")
def group():
    return Group.from_params(
        {
            "arms": {"active": "ketamine", "control": "midazolam"},
            "outcomes": ["x"],
            "primary": {"outcome": "x", "session": "2"},
            "covariance": "unstructured",
            "sampling": {"tune": 400, "draws": 500, "chains": 2, "min_ess": 100, "max_r_hat": 1.05},
        }
    )


@pytest.fixture(scope="module")
def found(tables, group) -> pd.DataFrame:
    return sensitivity.estimate(*tables, group, SESSIONS, seed=1, cores=1).set_index(["analysis", "method"])


def test_the_declared_rows_are_those_of_the_estimates(found, tables, group):
    estimates = frequentist.estimate(*tables, group, SESSIONS)
    row = estimates.query("method == 'reml' and session == '2' and estimand == 'difference_adjusted'").iloc[0]
    assert found.loc[("declared", "reml"), "estimate"] == row["estimate"]
    assert found.loc[("declared", "reml"), "p"] == row["p"]


def test_a_tighter_prior_shrinks_and_a_flat_one_does_not(found):
    names = ["prior SD of differences x 1/2", "declared", "prior SD of differences x 2"]
    half, declared, double = (found.loc[(name, "bayes"), "estimate"] for name in names)
    flat = found.loc[("flat priors on differences and means", "bayes"), "estimate"]
    assert abs(half) < abs(declared) < abs(double) + 0.02
    assert flat == pytest.approx(found.loc[("declared", "reml"), "estimate"], abs=0.05)


def test_every_covariance_but_the_declared_one_is_tried(found):
    tried = found[found["kind"] == "covariance"].index.get_level_values("analysis")
    assert list(tried) == ["toeplitz", "random intercept"]


def test_the_person_who_pulls_is_named(found):
    without = found[found["kind"] == "influence"]
    assert len(without) == 27
    moved = (without["estimate"] - found.loc[("declared", "reml"), "estimate"]).abs()
    assert moved.idxmax()[0] == "without sub-01"


def test_columns_are_described(found):
    assert set(found.reset_index().columns) == set(sensitivity.DESCRIPTIONS)
