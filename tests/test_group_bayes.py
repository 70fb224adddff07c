"""The Bayesian engine: its likelihood, its posterior against an independent sampler, its gate."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import approx_fprime
from scipy.special import psi
from scipy.stats import multivariate_normal, multivariate_t, norm

from reconfmri import group
from reconfmri.config import DEFAULT_SCALES, Group
from reconfmri.group import bayes
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import NUMBERS, Question
from reconfmri.group.grid import Outcome
from reconfmri.group.maximum_likelihood import fit_means_and_covariance
from reconfmri.group.repeated import covariances_for
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures, simulate_values

UNIT = "percent signal change"
SESSIONS = ["1", "2", "3", "4"]
EFFECT = np.array([0.0, -0.8, -0.7, -0.5])
# as in the demo: four people per arm, who drop out
SMALL = Truth(
    COVARIANCES["reference"], EFFECT, missing=np.array([0, 0.1, 0.2, 0.25]), n_active=4, n_control=4
)
gibbs = runpy.run_path(str(Path(__file__).parent / "validate" / "gibbs.py"))


def make_group(outcomes, **more) -> Group:
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": list(outcomes),
        "primary": {"outcome": next(iter(outcomes)), "session": "2"},
    }
    return Group.from_params(settings | more)


@pytest.fixture(scope="module")
def small_trial() -> tuple[pd.DataFrame, pd.DataFrame]:
    outcomes = {"amygdala.x": UNIT, "pcl5.total": "PCL-5 points"}
    measures, allocation = simulate_measures(SMALL, outcomes=outcomes, scales=DEFAULT_SCALES, seed=5)
    # one more outcome: nobody of the active arm is left at the last visit
    odd = measures[measures["outcome"] == "amygdala.x"].assign(outcome="odd.x")
    odd = odd[~((odd["participant_id"] <= "sub-04") & (odd["session_id"] == "4"))]
    return pd.concat([measures, odd], ignore_index=True), allocation


@pytest.fixture(scope="module")
def small_answer(small_trial):
    return group.answer(
        Asked(*small_trial, make_group(("amygdala.x", "pcl5.total", "odd.x")), SESSIONS, 1, cores=2)
    )


def test_likelihood_and_gradients_are_those_of_the_seen_visits():
    from reconfmri.group.likelihood import log_density

    random = np.random.default_rng(0)
    values, mean = random.normal(size=(6, 3)), random.normal(size=(6, 3))
    seen = (random.random((6, 3)) > 0.4).astype(float)
    root = random.normal(size=(3, 3))
    covariance = root @ root.T + np.eye(3)
    known = random.random((6, 3))
    given = values, seen, known, np.inf
    total, by_mean, by_covariance, _ = log_density(mean, covariance, *given)
    expected = 0.0
    for i, there in enumerate(seen.astype(bool)):
        if there.any():
            expected += multivariate_normal.logpdf(
                values[i, there], mean[i, there], (covariance + np.diag(known[i]))[np.ix_(there, there)]
            )
    assert total - 0.5 * seen.sum() * np.log(2 * np.pi) == pytest.approx(expected, rel=1e-10)
    # finite differences of step 1e-7 are good to about 1e-6
    numeric = approx_fprime(mean.ravel(), lambda x: log_density(x.reshape(6, 3), covariance, *given)[0], 1e-7)
    np.testing.assert_allclose(by_mean.ravel(), numeric, atol=1e-5)

    def at(x):
        matrix = x.reshape(3, 3)
        return log_density(mean, (matrix + matrix.T) / 2, *given)[0]

    np.testing.assert_allclose(by_covariance.ravel(), approx_fprime(covariance.ravel(), at, 1e-7), atol=1e-5)


def test_the_t_likelihood_is_scipys_and_becomes_the_gaussian_one():
    from reconfmri.group.likelihood import digamma, log_density

    random = np.random.default_rng(1)
    values, mean, seen = random.normal(size=(5, 3)), random.normal(size=(5, 3)), np.ones((5, 3))
    seen[0, 1] = seen[1] = 0
    root, known, df = random.normal(size=(3, 3)), np.zeros((5, 3)), 3.7
    scale = root @ root.T + np.eye(3)
    total, by_mean, by_scale, by_df = log_density(mean, scale, values, seen, known, df)
    expected = sum(
        multivariate_t.logpdf(values[i, there], mean[i, there], scale[np.ix_(there, there)], df=df)
        for i, there in enumerate(seen.astype(bool))
        if there.any()
    )
    assert total - 0.5 * seen.sum() * np.log(2 * np.pi) == pytest.approx(expected, rel=1e-10)

    def at(x):
        matrix = x[15:24].reshape(3, 3)
        return log_density(x[:15].reshape(5, 3), (matrix + matrix.T) / 2, values, seen, known, x[24])[0]

    numeric = approx_fprime(np.concatenate([mean.ravel(), scale.ravel(), [df]]), at, 1e-7)
    np.testing.assert_allclose([*by_mean.ravel(), *by_scale.ravel(), by_df], numeric, atol=1e-5)
    gaussian, *_ = log_density(mean, scale, values, seen, known, np.inf)
    assert log_density(mean, scale, values, seen, known, 1e8)[0] == pytest.approx(gaussian, abs=1e-6)
    assert [digamma(x) for x in (0.5, 3.0, 40.0)] == pytest.approx(psi([0.5, 3.0, 40.0]), abs=1e-9)


def test_no_compiler_is_called(small_answer):
    import pytensor

    assert pytensor.config.cxx == ""


def test_first_estimate_of_complete_data_is_least_squares():
    random = np.random.default_rng(2)
    values, side = random.normal(size=(20, 3)), np.resize([0.5, -0.5], 20)
    means, _ = fit_means_and_covariance(values, side)
    np.testing.assert_allclose(
        means[1], values[side > 0].mean(axis=0) - values[side < 0].mean(axis=0), atol=1e-10
    )


def test_eight_people_with_dropout_pass_the_gate(small_answer):
    estimates, diagnostics = small_answer
    sound = estimates[(estimates["method"] == "bayes") & (estimates["outcome"] != "odd.x")]
    # whichever covariance passed the gate is named alike in both tables
    assert sound["status"].str.startswith("ok").all()
    named = {"ok": "unstructured", "ok, random intercept": "random_intercept"}
    assert {named[status.split(";")[0]] for status in sound["status"]} <= set(diagnostics["covariance"])
    assert (diagnostics["divergences"] == 0).all()
    assert (sound["r_hat"] <= 1.01).all()
    assert (sound["ess"] >= 400).all()


def test_a_visit_that_cannot_be_compared_gets_no_number_and_spares_the_others(small_answer):
    odd = small_answer[0].query("outcome == 'odd.x'")
    late = odd["session"] == "4"
    assert odd.loc[late, "status"].str.startswith("not reported: two people per arm are needed").all()
    assert odd.loc[late, list(NUMBERS)].isna().all(axis=None)
    assert odd.loc[~late, "status"].str.startswith("ok").all()


def test_both_engines_agree(small_answer):
    estimates = small_answer[0].query(
        "outcome != 'odd.x' and estimand == 'difference_unadjusted' and method in ['bayes', 'welch']"
    )
    paired = estimates.assign(engine=estimates["method"].eq("bayes")).pivot(
        index=["outcome", "session"], columns="engine", values=["estimate", "sd"]
    )
    gap = (paired["estimate"][True] - paired["estimate"][False]).abs()
    # the prior shrinks and incomplete people add information: less than one standard error
    assert (gap < paired["sd"][False]).all()


def test_probability_is_that_of_the_sign_and_intervals_hold_the_estimate(small_answer):
    estimates = small_answer[0].query("status.str.startswith('ok') and method == 'bayes'")
    assert estimates["probability"].between(0.5, 1).all()
    assert (estimates["lower"] < estimates["estimate"]).all()
    assert (estimates["estimate"] < estimates["upper"]).all()


def test_answers_do_not_depend_on_cores_order_or_other_outcomes(small_trial, small_answer):
    measures, allocation = small_trial
    shuffled = measures.sample(frac=1, random_state=1), allocation.sample(frac=1, random_state=2)
    alone, _ = group.answer(Asked(*shuffled, make_group(("pcl5.total",)), SESSIONS, 1, cores=1))
    numbers = ["estimate", "sd", "lower", "upper", "probability", "r_hat", "ess"]
    before = small_answer[0].query("outcome == 'pcl5.total'")[numbers].to_numpy(float)
    np.testing.assert_array_equal(alone[numbers].to_numpy(float), before)


def test_what_did_not_converge_is_not_a_number(small_trial):
    strict = make_group(("amygdala.x",), sampling={"tune": 200, "draws": 200, "min_ess": 1e5})
    estimates, diagnostics, _ = bayes.estimate(Asked(*small_trial, strict, SESSIONS, seed=1))
    assert estimates["status"].str.startswith("not reported: did not converge (R-hat 1.0").all()
    assert estimates[list(NUMBERS)].isna().all(axis=None)
    # the second attempt is the stricter one: twice as many draws
    assert set(diagnostics["draws"]) == {400}
    assert set(diagnostics["target_accept"]) == {0.99}
    assert set(diagnostics["converged"]) == {False}


@pytest.mark.parametrize("common_baseline", [True, False])
def test_posterior_is_that_of_an_independent_sampler(common_baseline):
    truth = Truth(COVARIANCES["growing"], EFFECT)
    values = simulate_values(truth, trials=1, seed=11)
    outcome = Outcome("x", "activation", UNIT, 1.0, values[0], truth.active)
    fit = bayes.Sampler(1).fit(outcome, common_baseline, make_group(("x",), covariance="unstructured"))
    other = gibbs["sample"](
        values, truth.active, common_baseline=common_baseline, draws=8000, burn_in=500, seed=3
    ).difference[:, 0]
    for visit in (1, 2, 3):
        question = Question("difference_adjusted" if common_baseline else "difference_unadjusted", visit, "x")
        ours, theirs = bayes.contrast(fit, question, outcome), other[:, visit]
        # at least 1,500 effective draws each: four Monte Carlo errors are 0.15 SD for means, 0.15 for log SDs
        assert (ours.mean() - theirs.mean()) / theirs.std() == pytest.approx(0, abs=0.15)
        assert ours.std() / theirs.std() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("n_active", "n_control"), [(3, 2), (8, 8), (40, 40)])
def test_covariance_is_unstructured_first_however_few_the_people(n_active, n_control):
    truth = Truth(COVARIANCES["growing"], EFFECT, n_active=n_active, n_control=n_control)
    values = simulate_values(truth, trials=1, seed=2)[0]
    outcome = Outcome("x", "activation", UNIT, 1.0, values, truth.active)
    ladder = ["unstructured", "shrunk_unstructured", "random_intercept"]
    assert covariances_for(outcome, make_group(("x",))) == ladder
    assert covariances_for(outcome, make_group(("x",), covariance="random_intercept")) == ["random_intercept"]
    alone = Outcome("x", "activation", UNIT, 1.0, values[:, :1], truth.active)
    assert covariances_for(alone, make_group(("x",), covariance="random_intercept")) == ["unstructured"]


def test_random_intercept_posterior_is_that_of_least_squares_when_it_is_true_and_data_are_complete():
    shared = 0.5 * np.ones((4, 4)) + 0.5 * np.eye(4)
    truth = Truth(shared, EFFECT, missing=np.zeros(4), n_active=15, n_control=15)
    values = simulate_values(truth, trials=1, seed=4)[0]
    outcome = Outcome("x", "activation", UNIT, 1.0, values, truth.active)
    asked = make_group(("x",), covariance="random_intercept", priors={"flat": True})
    fit = bayes.Sampler(1).fit(outcome, False, asked)
    by_arm = [values[truth.active], values[~truth.active]]
    means = by_arm[0].mean(axis=0) - by_arm[1].mean(axis=0)
    pooled = np.mean([np.var(arm, axis=0, ddof=1).mean() for arm in by_arm])
    drawn = fit.difference
    # balanced and flat: posterior means are the differences of means, SDs the pooled standard error
    np.testing.assert_allclose(drawn.mean(axis=0), means, atol=0.03)
    np.testing.assert_allclose(drawn.std(axis=0), np.sqrt(pooled * 2 / 15), rtol=0.1)


def test_t_residuals_and_an_sd_per_arm_find_what_was_planted():
    """25 per arm; the active arm spreads 2.5 times as much after treatment; three values are far off."""
    random = np.random.default_rng(3)
    active = np.arange(50) < 25
    values = random.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 50)
    values[active, 1] = -1 + 2.5 * values[active, 1]
    far = values.copy()
    far[[30, 35, 40], 1] = [9.0, 10.0, 11.0]
    short = {"chains": 2, "tune": 400, "draws": 500, "min_ess": 100, "max_r_hat": 1.05}
    both = {"likelihood": "student_t", "spread": "by_arm", "covariance": "unstructured", "sampling": short}
    answers = {}
    for name, grid in (("clean", values), ("far", far)):
        outcome = Outcome("x", "activation", UNIT, 1.0, grid, active)
        asked = make_group(("x",), **both)
        fit = bayes.Sampler(1).fit(outcome, True, asked)
        assert fit.passes(asked.sampling)
        answers[name] = fit
        low, high = bayes.highest_density(np.exp(fit.log_ratio[:, 0]), 0.95)
        assert low < 1 < high, "both arms are alike at baseline"
    clean, far_off = answers["clean"], answers["far"]
    low, high = bayes.highest_density(np.exp(clean.log_ratio[:, 1]), 0.95)
    assert low < 2.5 < high
    assert low > 1.5
    assert np.median(clean.df) > 10 > 4 > np.median(far_off.df)
    gap = clean.difference[:, 1].mean() - far_off.difference[:, 1].mean()
    # of 25 people three at 10 move a mean by 1.2
    assert abs(gap) < 0.4


def test_probability_inside_the_rope_is_a_share_of_the_draws(small_trial, small_answer):
    reach = 0.2
    asked = make_group(("amygdala.x",), rope={UNIT: reach})
    estimates, *_ = bayes.estimate(Asked(*small_trial, asked, SESSIONS, seed=1))
    row = estimates.query("session == '2' and estimand == 'difference_adjusted'").iloc[0]
    ends = norm.cdf((np.array([-reach, reach]) - row["estimate"]) / row["sd"])
    # posteriors here are near to normal, with somewhat longer tails
    assert row["rope_probability"] == pytest.approx(ends[1] - ends[0], abs=0.04)
    assert small_answer[0]["rope_probability"].isna().all()


def test_weights_count_as_copies_of_draws():
    random = np.random.default_rng(2)
    draws, copies = random.normal(size=400), random.integers(0, 5, 400)
    many = np.repeat(draws, copies)
    weighted = bayes.summarise(draws, 0.9, copies / copies.sum())
    plain = bayes.summarise(many, 0.9)
    assert [weighted[name] for name in ("estimate", "sd", "probability")] == pytest.approx(
        [plain[name] for name in ("estimate", "sd", "probability")]
    )
    assert weighted["upper"] - weighted["lower"] == pytest.approx(plain["upper"] - plain["lower"], rel=0.02)


def test_highest_density_interval_is_the_shortest():
    draws = np.random.default_rng(0).exponential(size=20000)
    low, high = bayes.highest_density(draws, 0.95)
    assert (low, high) == (pytest.approx(0, abs=0.01), pytest.approx(-np.log(0.05), abs=0.15))
