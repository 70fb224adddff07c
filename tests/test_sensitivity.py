"""The primary question under other choices: what moves, which way, and by how much."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from reconfmri.config import DEFAULT_SCALES, Group
from reconfmri.contracts import questions
from reconfmri.group import bayes, frequentist, influence, sensitivity
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import ask
from reconfmri.group.grid import lay_out
from reconfmri.group.repeated import usable_visits
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
    return sensitivity.estimate(Asked(*tables, group, SESSIONS, seed=1, cores=1)).set_index(
        ["analysis", "method"]
    )


def test_the_declared_rows_are_those_of_the_estimates(found, tables, group):
    estimates = frequentist.estimate(Asked(*tables, group, SESSIONS))
    row = estimates.query("method == 'reml' and session == '2' and estimand == 'difference_adjusted'").iloc[0]
    assert found.loc[("declared", "reml"), "estimate"] == row["estimate"]
    assert found.loc[("declared", "reml"), "p"] == row["p"]


def test_the_declared_model_is_not_sampled_again_after_the_estimates(found, tables, group, monkeypatch):
    asked = Asked(*tables, group, SESSIONS, seed=1, cores=1)
    estimates = bayes.estimate(asked).estimates
    row = estimates.query("session == '2' and estimand == 'difference_adjusted'").iloc[0]
    assert found.loc[("declared", "bayes"), "estimate"] == row["estimate"]
    monkeypatch.setattr(bayes.Sampler, "fit", lambda *_, **__: pytest.fail("sampled again"))
    choices = sensitivity._by_prior(
        asked.primary_outcome, asked.primary, group, bayes.Sampler(1), asked.primary_fits
    )
    assert next(choices)["estimate"] == row["estimate"]


def test_a_tighter_prior_shrinks_and_a_flat_one_does_not(found):
    names = ["prior SD of differences x 1/2", "declared", "prior SD of differences x 2"]
    half, declared, double = (found.loc[(name, "bayes"), "estimate"] for name in names)
    flat = found.loc[("flat priors on differences and means", "bayes"), "estimate"]
    # 1,000 draws of a posterior SD of 0.15: means are known to about 0.015.
    assert abs(half) < min(abs(declared), abs(double)) + 0.03
    assert abs(half) > 0.8 * abs(declared)
    # An SE of 0.34 beside a prior SD of 0.5 or 1: 0.28 and 0.32. SDs of 1,000 draws are known to 4 %.
    spread = {name: found.loc[(name, "bayes"), "sd"] for name in names}
    assert spread[names[0]] < 0.92 * spread["declared"]
    assert spread[names[0]] < 0.92 * spread[names[2]]
    assert flat == pytest.approx(found.loc[("declared", "reml"), "estimate"], abs=0.05)


def test_every_covariance_but_the_declared_one_is_tried(found):
    tried = found[found["kind"] == "covariance"].index.get_level_values("analysis")
    assert list(tried) == ["toeplitz", "random intercept", "SD by arm"]


def test_known_errors_change_little_when_all_alike_and_more_where_they_differ(tables, group):
    measures, allocation = tables
    (outcome,) = lay_out(measures.assign(se=0.05), allocation, group, SESSIONS)
    asked = ask(["difference_adjusted"], SESSIONS)[0]
    plain, _ = frequentist.answer_by_reml(outcome, asked, group)
    alike, _ = frequentist.answer_by_reml(outcome, asked, group, add_se=True)
    assert (alike.estimate, alike.se) == pytest.approx((plain.estimate, plain.se), rel=1e-4)
    # The odd value says of itself that it is worth little: the answer goes where it is without that person.
    odd = (measures["participant_id"] == "sub-01") & (measures["session_id"] == "2")
    (outcome,) = lay_out(measures.assign(se=np.where(odd, 5.0, 0.05)), allocation, group, SESSIONS)
    weighted, _ = frequentist.answer_by_reml(outcome, asked, group, add_se=True)
    kept = outcome.values.copy()
    kept[0, 1] = np.nan
    without, _ = frequentist.answer_by_reml(replace(outcome, values=kept), asked, group)
    assert weighted.estimate == pytest.approx(without.estimate, abs=0.02)
    assert abs(weighted.estimate - plain.estimate) > 0.05


def test_the_person_who_pulls_is_named(found):
    for method in ("reml", "bayes"):
        without = found[found["kind"] == "influence"].xs(method, level="method")
        assert len(without) == 27
        moved = (without["estimate"] - found.loc[("declared", method), "estimate"]).abs()
        assert moved.idxmax() == "without sub-01"


def test_weighted_draws_say_what_leaving_out_in_truth_says(found, tables, group):
    """Draws weighted by PSIS against the model fitted again, for two people with Pareto k below 0.7."""
    (outcome,) = lay_out(*tables, group, SESSIONS)
    question = ask(["difference_adjusted"], SESSIONS)[0]
    without = found[found["kind"] == "influence"].xs("bayes", level="method")
    weighed = without[without["pareto_k"] <= influence.MAX_K]
    assert len(weighed) > 20
    sampler = bayes.Sampler(1, 1)
    fit = sampler.fit(outcome, True, group)
    moved = (weighed["estimate"] - found.loc[("declared", "bayes"), "estimate"]).abs()
    for name in (moved.idxmax(), moved.idxmin()):
        place = outcome.people.index(name.removeprefix("without "))
        truly = bayes.answer_question(influence.unseen(outcome, place, fit), question, group, sampler)
        # both are of 1,000 draws: means are known to about a twentieth of an SD, SDs too
        assert weighed.loc[name, "estimate"] == pytest.approx(truly["estimate"], abs=0.2 * truly["sd"])
        assert weighed.loc[name, "sd"] == pytest.approx(truly["sd"], rel=0.2)


def test_without_a_person_a_random_intercept_keeps_its_visits_and_a_free_covariance_does_not(tables, group):
    """One person of an arm at a visit is enough for the one and too few for the other."""
    measures, allocation = tables
    of_arm = allocation.loc[allocation["arm"] == group.arms.active, "participant_id"].tolist()
    of_other = allocation.loc[allocation["arm"] == group.arms.control, "participant_id"].tolist()
    late = measures["session_id"] == SESSIONS[-1]
    few = measures[~(late & measures["participant_id"].isin(of_arm[2:] + of_other[3:]))]
    (outcome,) = lay_out(few, allocation, group, SESSIONS)
    place = max(np.flatnonzero(outcome.active & outcome.seen[:, -1]))
    for covariance, visits in (("random_intercept", (0, 1, 2, 3)), ("unstructured", (0, 1, 2))):
        fit = SimpleNamespace(visits=usable_visits(outcome), covariance=covariance)
        without = influence.unseen(outcome, place, fit)
        assert not without.seen[place].any()
        assert usable_visits(without) == visits


def test_bayesian_known_errors_are_those_of_reml(tables, group):
    """Two people whose values say that they are worth little, in both engines, with flat priors."""
    measures, allocation = tables
    loose = measures["participant_id"].isin(["sub-01", "sub-20"])
    errors = measures.assign(se=np.where(loose, 3.0, 0.05))
    flat = group.model_copy(update={"priors": group.priors.model_copy(update={"flat": True})})
    (outcome,) = lay_out(errors, allocation, flat, SESSIONS)
    question = ask(["difference_adjusted"], SESSIONS)[0]
    by_reml, _ = frequentist.answer_by_reml(outcome, question, flat, add_se=True)
    plain, _ = frequentist.answer_by_reml(outcome, question, flat)
    by_bayes = bayes.answer_question(outcome, question, flat, bayes.Sampler(1, 1), add_se=True)
    assert abs(by_reml.estimate - plain.estimate) > 0.2 * plain.se
    assert by_bayes["estimate"] == pytest.approx(by_reml.estimate, abs=0.2 * by_reml.se)
    assert by_bayes["sd"] == pytest.approx(by_reml.se, rel=0.2)


def test_columns_are_described(found):
    assert set(found.reset_index().columns) == set(questions.specs()["sensitivity"].names)
