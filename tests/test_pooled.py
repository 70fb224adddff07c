"""Pooled effects: the posterior beside a sampler of its own and closed forms, correlations, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from reconfmri.config import Group, Priors, check_group
from reconfmri.contracts import questions
from reconfmri.group import frequentist, pooled
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import NUMBERS, Contrast, ask
from reconfmri.group.grid import lay_out
from reconfmri.simulate.measures import ARMS, COVARIANCES, Truth, simulate_values

UNIT = "percent signal change"
NAMES = [f"region{number}.x" for number in range(6)]
SESSIONS = ["1", "2", "3", "4"]
S = 0.4


def asked(names=tuple(NAMES), **more) -> Group:
    settings = {
        "arms": {"active": ARMS[0], "control": ARMS[1]},
        "outcomes": list(names),
        "primary": {"outcome": names[0], "session": "2"},
        "pooled": {"regions": list(names)},
        "covariance": "unstructured",
    }
    return Group.from_params(settings | more)


def tables(effects, *, correlation=0.5, seed=3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A trial of as many outcomes as effects (in s), the same at all later visits, 27 people."""
    n = len(effects)
    alike = correlation + (1 - correlation) * np.eye(n)
    truth = Truth(
        np.kron(alike, COVARIANCES["reference"]),
        np.kron(effects, [0, 1, 1, 1]),
        np.zeros(4 * n),
        np.tile([0.0, 0.07, 0.20, 0.33], n),
    )
    values = S * simulate_values(truth, trials=1, seed=seed)[0].reshape(-1, n, 4)
    people = [f"sub-{number:02d}" for number in range(len(values))]
    rows = [
        (person, session, "activation", f"region{place}.x", values[i, place, visit], UNIT)
        for i, person in enumerate(people)
        for place in range(n)
        for visit, session in enumerate(SESSIONS)
        if not np.isnan(values[i, place, visit])
    ]
    columns = ["participant_id", "session_id", "domain", "outcome", "value", "unit"]
    arms = np.where(truth.active, *ARMS)
    return pd.DataFrame(rows, columns=columns), pd.DataFrame({"participant_id": people, "arm": arms})


def answers(values, ses, df=1e6) -> list[Contrast]:
    return [Contrast(value, se, df) for value, se in zip(values, ses, strict=True)]


# The posterior


def by_gibbs(values, errors, *, effect_sd, between, n=60_000, seed=1) -> np.ndarray:
    """Draws (n, 2 + k) of mean, SD between effects, effects: another way to the same posterior.

    half-t(4) as a normal of random scale (Wand et al. 2011), so that every step is conjugate.
    """
    random = np.random.default_rng(seed)
    inverse = np.linalg.inv(errors)
    variance, helper, mean = 0.1, 1.0, 0.0
    kept = np.empty((n, 2 + len(values)))
    for step in range(n):
        precision = inverse + np.eye(len(values)) / variance
        centre = np.linalg.solve(precision, inverse @ values + mean / variance)
        root = np.linalg.cholesky(np.linalg.inv(precision))
        effects = centre + root @ random.standard_normal(len(values))
        information = len(values) / variance + effect_sd**-2
        mean = random.normal(effects.sum() / variance / information, information**-0.5)
        rest = ((effects - mean) ** 2).sum() / 2
        variance = (rest + 4 / helper) / random.gamma((len(values) + 4) / 2)
        helper = (4 / variance + between**-2) / random.gamma(2.5)
        kept[step] = mean, variance**0.5, *effects
    return kept[n // 10 :]


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_posterior_is_that_of_a_gibbs_sampler(correlation):
    values, ses = np.array([-0.9, -0.4, -0.5, 0.1, -0.6, -0.2]), np.array([0.3, 0.25, 0.3, 0.35, 0.3, 0.25])
    errors = np.outer(ses, ses) * (correlation + (1 - correlation) * np.eye(6))
    found = pooled.posterior(answers(values, ses), correlation, Priors(), 1.0)
    draws = by_gibbs(values, errors, effect_sd=2.5, between=0.5)
    ours = [found.mean, found.spread, *found.outcomes]
    for quantiles, column in zip(ours, draws.T, strict=True):
        # some 3,000 effective draws of the slowest, the SD between effects
        assert quantiles.mean() == pytest.approx(column.mean(), abs=0.06 * column.std())
        assert quantiles.std() == pytest.approx(column.std(), rel=0.05)


def test_alike_answers_give_one_generalised_mean_and_distant_ones_stay_apart():
    ses = np.array([0.2, 0.3, 0.25, 0.2, 0.4, 0.3])
    weights = ses**-2 / (ses**-2).sum()
    tight = Priors(between=1e-4)
    values = np.array([0.1, -0.2, 0.3, 0.0, 0.4, -0.1])
    found = pooled.posterior(answers(values, ses), 0.0, tight, 1.0)
    prior = 1 / (1 + (ses**-2).sum() ** -1 / 2.5**2)
    np.testing.assert_allclose(found.outcomes.mean(axis=1), prior * weights @ values, atol=2e-3)
    assert found.mean.std() == pytest.approx((ses**-2).sum() ** -0.5, rel=0.01)
    far = pooled.posterior(answers(100 * values, ses), 0.0, Priors(flat=True), 1.0)
    np.testing.assert_allclose(far.outcomes.mean(axis=1), 100 * values, atol=0.01)
    np.testing.assert_allclose(far.outcomes.std(axis=1), ses, rtol=0.02)


def test_few_degrees_of_freedom_widen_the_mean_as_t_does():
    """Where effects cannot differ the mean of equal answers has a t distribution."""
    ses = np.full(6, 0.2)
    # the answers lie apart as chance has it, so that they say nothing of their errors' size
    values = 0.2 * np.array([-1.2, -0.7, -0.1, 0.2, 0.6, 1.2])
    tight = {"correlation": 0.0, "priors": Priors(between=1e-4, effect=50.0), "scale": 1.0}
    wide, narrow = (pooled.posterior(answers(values, ses, df), **tight) for df in (5, 1e6))
    assert 1.02 < wide.mean.std() / narrow.mean.std() < (5 / 3) ** 0.5


def test_another_unit_gives_the_same_in_that_unit():
    values, ses = np.array([-0.9, -0.4, -0.5, 0.1, -0.6, -0.2]), np.full(6, 0.3)
    one = pooled.posterior(answers(values, ses, 20), 0.3, Priors(), 1.0)
    other = pooled.posterior(answers(50 * values, 50 * ses, 20), 0.3, Priors(), 50.0)
    for field in ("mean", "spread", "outcomes"):
        np.testing.assert_allclose(getattr(other, field), 50 * getattr(one, field), rtol=1e-6)


# The correlation of answers


def test_contributions_are_those_of_two_sample_means():
    """Complete visits, the difference at one of them: every person adds a residual over the arm's size."""
    truth = Truth(
        np.kron([[1, 0.6], [0.6, 1]], COVARIANCES["reference"]), np.zeros(8), np.zeros(8), np.zeros(8)
    )
    grids = np.split(simulate_values(truth, trials=1, seed=2)[0], 2, axis=1)
    rows, arms = tables([0.0] * 6)
    group = asked(estimands=["difference_unadjusted"])
    (outcome, *_) = lay_out(rows, arms, group, SESSIONS)
    question = ask(["difference_unadjusted"], SESSIONS)[1]
    for grid in grids:
        this = replace(outcome, values=grid, arm=truth.active)
        mixed = frequentist.fit_mixed(this, False, group)
        found = pooled.contributions(this, question, mixed.model, mixed.fit)
        at = grid[:, question.visit]
        expected = np.empty_like(at)
        for arm, sign in ((truth.active, 1), (~truth.active, -1)):
            expected[arm] = sign * (at[arm] - at[arm].mean()) / arm.sum()
        np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("planted", [0.0, 0.6])
def test_the_planted_correlation_is_found(planted):
    trials = (tables([-0.5] * 6, correlation=planted, seed=seed) for seed in range(10))
    found = [pooled.estimate(Asked(*trial, asked(), SESSIONS))["correlation"].iloc[0] for trial in trials]
    # one trial scatters by 0.05 and 0.09
    assert np.mean(found) == pytest.approx(planted, abs=0.09)


def test_a_correlation_that_no_covariance_has_is_held_back():
    one = np.random.default_rng(1).standard_normal(20)
    assert pooled.common_correlation([one, one, one]) == 0.95
    assert -0.5 < pooled.common_correlation([one, -one, np.zeros(20) + one[::-1]]) <= 0.95


# The table


def test_what_was_planted_is_inside_and_pooling_narrows():
    effects = np.array([-0.5, -0.7, -0.3, -0.6, -0.4, -0.5])
    given, group = tables(effects, correlation=0.0), asked()
    found = pooled.estimate(Asked(*given, group, SESSIONS))
    assert list(found) == questions.specs()["pooled"].names
    assert set(found["role"]) == {"secondary"}
    assert set(found["status"]) == {"ok"}
    assert len(found) == 3 * (2 + 6)
    (mean,) = found[(found["quantity"] == "mean") & (found["session"] == "2")].to_dict("records")
    assert mean["lower"] < S * effects.mean() < mean["upper"] < 0
    assert mean["probability"] > 0.99
    alone = frequentist.estimate(Asked(*given, group, SESSIONS))
    alone = alone[(alone["method"] == "reml") & (alone["estimand"] == "difference_adjusted")]
    both = found.merge(alone, on=["outcome", "session"], suffixes=("", "_alone"))
    assert len(both) == 18
    assert (both["sd"] < both["sd_alone"]).all()
    for session, rows in both.groupby("session"):
        assert rows["estimate"].std() < 0.8 * rows["estimate_alone"].std(), session
        # answers that hardly correlate: what is drawn together keeps its middle, but for unequal errors
        assert rows["estimate"].mean() == pytest.approx(rows["estimate_alone"].mean(), abs=0.04), session


def test_row_order_does_not_matter_and_arms_can_be_swapped():
    given = tables([-0.5] * 6)
    found = pooled.estimate(Asked(*given, asked(), SESSIONS))
    shuffled = tuple(table.sample(frac=1, random_state=1) for table in given)
    pd.testing.assert_frame_equal(pooled.estimate(Asked(*shuffled, asked(), SESSIONS)), found)
    swapped = pooled.estimate(Asked(*given, asked(arms={"active": ARMS[1], "control": ARMS[0]}), SESSIONS))
    signed = found["quantity"] != "spread"
    # REML stops within 1e-10 of its likelihood, which leaves the fifth digit of an estimate open
    np.testing.assert_allclose(swapped.loc[signed, "estimate"], -found.loc[signed, "estimate"], rtol=1e-4)
    np.testing.assert_allclose(swapped["sd"], found["sd"], rtol=1e-4)


def test_an_outcome_without_an_answer_is_left_out_and_said(tmp_path):
    measures, allocation = tables([-0.5] * 7)
    names = [*NAMES, "region6.x"]
    constant = measures["value"].where(measures["outcome"] != "region6.x", 1.0)
    found = pooled.estimate(Asked(measures.assign(value=constant), allocation, asked(names), SESSIONS))
    silent = found[found["outcome"] == "region6.x"]
    assert silent["status"].str.startswith("not reported: ").all()
    assert silent["estimate"].isna().all()
    others = found[found["outcome"] != "region6.x"]
    assert (others["status"] == "ok").all()
    assert (others["n_outcomes"] == 6).all()
    whole = pooled.estimate(Asked(measures, allocation, asked(), SESSIONS))
    np.testing.assert_allclose(others["estimate"], whole["estimate"])
    spec = questions.specs()["pooled"]
    spec.write(tmp_path / "pooled.tsv", found)
    assert len(spec.read(tmp_path / "pooled.tsv")) == len(found)


def test_with_five_answers_nothing_is_pooled():
    measures, allocation = tables([-0.5] * 6)
    one_arm = allocation.loc[allocation["arm"] == ARMS[0], "participant_id"]
    lost = measures["participant_id"].isin(one_arm) & (measures["outcome"] == NAMES[2])
    found = pooled.estimate(Asked(measures[~lost], allocation, asked(), SESSIONS))
    assert set(found["status"]) == {
        "not reported: 5 of 6 outcomes have an estimate, pooling needs 6. Fix: see exclusions.tsv"
    }
    assert found[[name for name in NUMBERS if name in found]].isna().all(axis=None)
    assert len(found) == 3 * 8


def test_no_set_makes_an_empty_table():
    found = pooled.estimate(Asked(*tables([-0.5] * 6), asked(pooled={}), SESSIONS))
    assert list(found) == questions.specs()["pooled"].names
    assert not len(found)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (NAMES[:5], "has 5 outcomes"),
        ([*NAMES, NAMES[0]], "region0.x' is there twice"),
        ([*NAMES, "y"], "'y'"),
    ],
)
def test_fewer_than_six_doubled_or_unknown_outcomes_are_refused(names, says):
    with pytest.raises(ValidationError, match=says):
        asked(pooled={"regions": names})


def test_outcomes_of_several_units_are_refused():
    units = dict.fromkeys(NAMES, UNIT) | {NAMES[1]: "Fisher z"}
    with pytest.raises(ValueError, match=r"has outcomes in \['Fisher z', 'percent signal change'\]"):
        check_group(asked(), SESSIONS, units)
