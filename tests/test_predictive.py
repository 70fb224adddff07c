"""What priors allow and posteriors replicate: closed forms, and data that the model cannot make."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, multivariate_t

from reconfmri.config import Group
from reconfmri.contracts import questions
from reconfmri.group import predictive
from reconfmri.group.bayes import Fit
from reconfmri.group.draws import Draws
from reconfmri.group.grid import Outcome

UNIT = "percent signal change"
GROUP = Group.from_params(
    {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": ["x"],
        "primary": {"outcome": "x", "session": "2"},
    }
)
ACTIVE = np.arange(40) < 20
COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.25]])
DIFFERENCE = np.array([0.0, -1.0])


def fit_of_truth(n_draws: int = 600, *, df: float = np.inf, ratio: float = 0.0) -> Fit:
    """A posterior that knows: every draw is the truth."""
    sd = np.sqrt(np.diag(COVARIANCE))
    return Fit(
        mean=np.zeros((n_draws, 2)),
        difference=np.tile(DIFFERENCE, (n_draws, 1)),
        visit_sd=np.tile(sd, (n_draws, 1)),
        correlation=np.full((n_draws, 1), 0.6 / 1.5),
        slope=np.zeros((n_draws, 0, 2)),
        log_ratio=np.tile([0.0, ratio], (n_draws, 1)),
        df=np.full(n_draws, df),
        visits=(0, 1), r_hat=1.0, ess=1000, divergences=0, draws=150, target_accept=0.97,
        covariance="unstructured",
    )  # fmt: skip


def outcome_of(values: np.ndarray, scale: float = 1.0) -> Outcome:
    people = tuple(f"sub-{place:02d}" for place in range(len(values)))
    return Outcome("x", "activation", UNIT, scale, values, ACTIVE, people=people)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    random = np.random.default_rng(4)
    values = random.multivariate_normal([0, 0], COVARIANCE, 40) + np.outer(
        np.where(ACTIVE, 0.5, -0.5), DIFFERENCE
    )
    values[5, 1] = np.nan
    return outcome_of(values - np.nanmean(values))


def rows(outcome: Outcome, fit: Fit, group: Group = GROUP) -> pd.DataFrame:
    return pd.DataFrame(predictive.check(outcome, fit, True, group, ["1", "2"], 1))


def test_flat_correlations_have_their_closed_form():
    """LKJ(1) of d visits: every correlation is 2 Beta(d/2, d/2) - 1, of variance 1 / (d + 1)."""
    drawn = predictive.lkj(20_000, 4, np.random.default_rng(0))
    assert drawn.shape == (20_000, 6)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.015)
    np.testing.assert_allclose(drawn.var(axis=0), 1 / 5, rtol=0.04)


def test_replicated_trials_have_the_means_and_covariances_of_the_draws(outcome):
    fit = fit_of_truth(3000)
    values = predictive.replicate(fit, fit.visits, outcome, np.random.default_rng(1))
    assert np.isnan(values[:, 5, 1]).all(), "a missed visit stays missed"
    active = values[:, np.flatnonzero(ACTIVE)[10:]].reshape(-1, 2)
    # 30,000 people: means to 0.015, covariances to 2 %
    np.testing.assert_allclose(active.mean(axis=0), DIFFERENCE / 2, atol=0.04)
    np.testing.assert_allclose(np.cov(active.T), COVARIANCE, atol=0.08)
    wider = predictive.replicate(fit_of_truth(3000, ratio=1.0), fit.visits, outcome, np.random.default_rng(1))
    spread = [np.nanstd(wider[:, arm, 1]) for arm in (ACTIVE, ~ACTIVE)]
    assert spread[0] / spread[1] == pytest.approx(np.e, rel=0.03)
    heavy = predictive.replicate(fit_of_truth(3000, df=5.0), fit.visits, outcome, np.random.default_rng(1))
    assert np.nanvar(heavy[:, ~ACTIVE, 0]) == pytest.approx(5 / 3, rel=0.05)


def test_prior_trials_have_the_widths_of_the_priors(outcome):
    """In units of the outcome: the mean of a visit is Normal(0, 5 s), of the arms' difference 2.5 s."""
    big = outcome_of(10 * outcome.values, scale=10.0)
    draws = predictive.draw_prior(fit_of_truth(), GROUP, np.random.default_rng(2), 4000)
    assert draws.mean.std() == pytest.approx(5, rel=0.03)
    assert (draws.difference[:, 0] == 0).all()
    assert draws.difference[:, 1].std() == pytest.approx(2.5, rel=0.04)
    found = rows(big, fit_of_truth()).query("check == 'prior' and statistic == 'mean' and session == '1'")
    # 95 % of Normal(0, 50), and what 20 people of SD up to 25 t add
    assert found["upper"].between(90, 125).all()
    assert found["lower"].between(-125, -90).all()
    flat = GROUP.model_copy(update={"priors": GROUP.priors.model_copy(update={"flat": True})})
    silent = rows(outcome, fit_of_truth(), flat).query("check == 'prior'")
    assert silent["status"].tolist() == ["not reported: flat priors allow every value"]


def test_a_true_model_replicates_its_data_and_an_odd_value_is_found(outcome):
    found = rows(outcome, fit_of_truth()).query("check == 'posterior'")
    assert len(found) == 2 * 2 * 4
    # 16 statistics of one data set
    assert found["p"].between(0.01, 0.99).all()
    assert found["observed"].between(found["lower"], found["upper"]).mean() >= 0.8
    odd = outcome.values.copy()
    odd[30, 1] = 12.0
    found = rows(outcome_of(odd), fit_of_truth()).set_index(["check", "arm", "session", "statistic"])
    assert found.loc[("posterior", "midazolam", "2", "highest"), "p"] == 0
    assert found.loc[("posterior", "midazolam", "2", "highest"), "observed"] == 12
    assert 0.01 < found.loc[("posterior", "ketamine", "2", "highest"), "p"] < 0.99


def test_a_fit_that_failed_replicates_nothing(outcome):
    fit = Fit(**(vars(fit_of_truth()) | {"r_hat": 1.2}))
    found = rows(outcome, fit).query("check == 'posterior'")
    assert found["status"].str.startswith("not reported: did not converge (R-hat 1.200").all()
    assert len(found) == 1


@pytest.mark.parametrize("df", [np.inf, 4.0])
def test_densities_of_people_are_scipys(outcome, df):
    fit: Draws = fit_of_truth(3, df=df, ratio=0.4)
    found = fit.log_densities(outcome, outcome.values)
    assert found.shape == (3, 40)
    for place in (0, 5, 33):
        side = 0.5 if ACTIVE[place] else -0.5
        spread = np.exp(side * np.array([0.0, 0.4]))
        covariance = COVARIANCE * np.outer(spread, spread)
        there = ~np.isnan(outcome.values[place])
        given = outcome.values[place, there], (side * DIFFERENCE)[there], covariance[np.ix_(there, there)]
        law = multivariate_normal.logpdf(*given) if df == np.inf else multivariate_t.logpdf(*given, df=df)
        assert found[0, place] == pytest.approx(law + there.sum() / 2 * np.log(2 * np.pi), rel=1e-9)


def test_every_column_is_described(outcome):
    spec = questions.specs()["predictions"]
    made = set(rows(outcome, fit_of_truth()).columns)
    assert set(spec.names) == made | {"reason"}  # which only rows without numbers have


@pytest.mark.parametrize("key", ["bounded", "ordinal"])
def test_replicated_trials_of_a_declared_total_stay_inside_of_its_ends(outcome, key):
    """Beyond them a form would say its end; a statistic at an end in both trials counts half."""
    declared = GROUP.model_copy(update={key: {"x": (-1.0, 1.0)}})
    free, kept = rows(outcome, fit_of_truth()), rows(outcome, fit_of_truth(), declared)
    extremes = kept[kept["statistic"].isin(["lowest", "highest", "mean"])]
    assert extremes[["lower", "median", "upper"]].abs().to_numpy().max() <= 1
    assert free[["lower", "upper"]].abs().to_numpy().max() > 2
    at_end = outcome_of(outcome.values.clip(-1, 1))
    lowest = rows(at_end, fit_of_truth(), declared).query("statistic == 'lowest' and check == 'posterior'")
    assert lowest["p"].between(0.4, 0.6).all()
