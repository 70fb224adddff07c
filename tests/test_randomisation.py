"""The randomisation test against exact tests, its size, and its intervals."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reconfmri.config import DEFAULT_SCALES, Group
from reconfmri.group import estimands, randomisation
from reconfmri.group.asked import Asked
from reconfmri.group.grid import Outcome
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures, simulate_values

UNIT = "percent signal change"
SESSIONS = ("1", "2", "3", "4")
TRUTH = Truth(COVARIANCES["reference"], np.array([0.0, -1.2, -1.0, -0.5]))


def group_of(outcomes=("x",), **more) -> Group:
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": list(outcomes),
        "primary": {"outcome": outcomes[0], "session": "2"},
        "covariance": "unstructured",
    }
    return Group.from_params(settings | more)


def estimate(names=("x",), seed=1, truth=TRUTH, sessions=("1", "2", "3", "4"), **more) -> pd.DataFrame:
    measures, allocation = simulate_measures(
        truth, outcomes=dict.fromkeys(names, UNIT), scales=DEFAULT_SCALES, seed=seed
    )
    measures = measures[measures["session_id"].isin(sessions)]
    return randomisation.estimate(Asked(measures, allocation, group_of(names, **more), sessions, seed=seed))


def test_one_visit_is_the_permutation_test_of_the_mean_difference():
    """All 3,432 ways to divide fourteen people, by scipy."""
    random = np.random.default_rng(3)
    active, control = random.normal(0.9, 1, 7), random.normal(0, 1, 7)
    people = [f"sub-{i:02d}" for i in range(14)]
    measures = pd.DataFrame(
        {
            "participant_id": people,
            "session_id": "2",
            "domain": "activation",
            "outcome": "x",
            "value": [*active, *control],
            "unit": UNIT,
        }
    )
    allocation = pd.DataFrame({"participant_id": people, "arm": ["ketamine"] * 7 + ["midazolam"] * 7})
    found = randomisation.estimate(
        Asked(
            measures,
            allocation,
            group_of(estimands=["difference_unadjusted"], permutations=20_000),
            ["2"],
            seed=1,
        )
    ).iloc[0]
    exact = stats.permutation_test(
        (active, control), lambda a, b: a.mean() - b.mean(), n_resamples=np.inf, vectorized=False
    )
    assert found["estimate"] == pytest.approx(active.mean() - control.mean())
    assert found["p"] == pytest.approx(exact.pvalue, abs=1e-12), "no more allocations than draws: all of them"
    # The t interval of equal variances is close to the inverted test.
    interval = stats.ttest_ind(active, control).confidence_interval(0.95)
    assert (found["lower"], found["upper"]) == pytest.approx((interval.low, interval.high), abs=0.12)


@pytest.mark.parametrize(
    ("arms", "strata", "known", "lowest"),
    [
        ("aabbaabb", "mmmmffff", 36, 2 / 36),
        ("aaabbb", "xxxxxx", 20, 2 / 20),
        ("aaabb", "xxxxx", 10, 1 / 10),
        ("aabbaab", "mmmmfff", 18, 1 / 18),
        ("aabb", "ffmm", 1, 1.0),
    ],
)
def test_few_allocations_are_all_taken_and_bound_the_p_value(arms, strata, known, lowest):
    active, strata = np.array(list(arms)) == "a", list(strata)
    sides = randomisation.draw_sides(active, strata, n_draws=400, seed=1)
    assert len(sides) == len(np.unique(sides, axis=0)) == known == randomisation.n_allocations(active, strata)
    np.testing.assert_array_equal(sides[0] > 0, active)
    for stratum in set(strata):
        mine = np.array(strata) == stratum
        assert set((sides[:, mine] > 0).sum(axis=1)) == {int(active[mine].sum())}
    assert randomisation.lowest_p(active, strata) == pytest.approx(lowest)
    if known > 1:
        values = np.random.default_rng(5).normal(size=(len(arms), 1)) * 0.1 + 5 * active[:, None]
        outcome = Outcome("x", "activation", UNIT, 1.0, values, active, strata=tuple(strata))
        (question,) = estimands.ask(["difference_unadjusted"], ["1"])
        row, _ = randomisation.Test(outcome, group_of(), sides).answer(question)
        assert row["p"] == pytest.approx(lowest), "the arms are far apart: p is as low as it can be"
        assert ("p is at least" in row["status"]) == (lowest > 0.05)
        assert np.isinf([row["lower"], row["upper"]]).all() == (lowest > 0.05)


def test_strata_and_sizes_are_kept():
    active = np.array([True] * 5 + [False] * 5)
    strata = ["f", "m"] * 5
    sides = randomisation.draw_sides(active, strata, n_draws=500, seed=2)
    np.testing.assert_array_equal(sides[0], np.where(active, 0.5, -0.5))
    women = np.array(strata) == "f"
    assert np.unique((sides[:, women] > 0).sum(axis=1)).tolist() == [(active & women).sum()]
    assert np.unique((sides[:, ~women] > 0).sum(axis=1)).tolist() == [(active & ~women).sum()]
    assert len(np.unique(sides, axis=0)) > 50


def test_a_planted_difference_is_found_where_it_is():
    found = estimate(permutations=4000).set_index(["estimand", "session"])
    row = found.loc[("difference_adjusted", "2")]
    assert row["p"] < 0.05
    assert row["lower"] <= -1.2 * DEFAULT_SCALES[UNIT] <= row["upper"]
    assert (row["status"], row["method"]) == ("ok", "randomisation")


def test_the_same_seed_gives_the_same_table():
    pd.testing.assert_frame_equal(estimate(permutations=500), estimate(permutations=500))


def test_max_t_is_the_share_of_draws_whose_highest_statistic_is_as_high():
    """By hand: three outcomes of 27 people, the statistics of every draw, and their maximum."""
    names = ("a", "b", "c")
    measures, allocation = simulate_measures(
        TRUTH, outcomes=dict.fromkeys(names, UNIT), scales=DEFAULT_SCALES, seed=4
    )
    noise = np.random.default_rng(0).normal(size=len(measures))
    measures = measures.assign(
        value=measures["value"] + measures["outcome"].map({"a": 0, "b": 1, "c": 3}) * noise
    )
    draws = []
    for name in names:
        group = group_of((name,), permutations=400)
        found = randomisation.headline_statistics(Asked(measures, allocation, group, SESSIONS, seed=9))
        draws.append(found["statistic"].abs().to_numpy())
    highest = np.max(draws, axis=0)
    group = group_of(names, families={"all": list(names)}, permutations=400)
    found = randomisation.estimate(Asked(measures, allocation, group, SESSIONS, seed=9))
    asked = found[(found["estimand"] == "difference_adjusted") & (found["session"] == "2")]
    by_hand = [(highest >= own[0] * (1 - 1e-9)).mean() for own in draws]
    assert asked["p_adjusted"].tolist() == pytest.approx(by_hand)
    assert len(set(by_hand)) > 1
    assert (asked["p_adjusted"] > asked["p"] + 1e-9).any()


def test_max_t_lies_between_the_p_value_and_bonferroni(caplog):
    names = ("a", "b", "c")
    with caplog.at_level("INFO", logger="reconfmri"):
        found = estimate(names, families={"all": list(names)}, permutations=4000)
    told = re.findall(r"family all, (\w+), session 2: (.) and (.) correlate by (-?\d\.\d\d)", caplog.text)
    assert {(one, other) for _, one, other, _ in told} == {("a", "b"), ("a", "c"), ("b", "c")}
    # independent outcomes of the same people, 27 of them: a correlation has a standard error of 0.2
    assert all(abs(float(together)) < 0.7 for *_, together in told)
    assert (found["p_adjusted"] >= found["p"] - 1e-12).all()
    assert (found["p_adjusted"] <= 3 * found["p"] + 0.02).all()


def test_draws_that_empty_an_arm_at_a_visit_count_against_the_finding():
    """Four of eight were seen at the last visit: one draw in 35 puts all of them into one arm."""
    random = np.random.default_rng(8)
    active = np.arange(8) < 4
    values = random.normal(size=(8, 2))
    values[[0, 1, 4, 5], 1] = np.nan
    outcome = Outcome("x", "activation", UNIT, 1.0, values, active)
    sides = randomisation.draw_sides(active, ["n/a"] * 8, n_draws=4000, seed=1)
    test = randomisation.Test(outcome, group_of(covariance="random_intercept"), sides)
    (question,) = estimands.ask(["difference_unadjusted"], ["1", "2"])
    row, statistics = test.answer(question)
    assert row["status"] == "ok"
    emptied = np.abs(sides[:, [2, 3, 6, 7]].sum(axis=1)) == 2
    assert 0.01 < emptied.mean() < 0.06
    np.testing.assert_array_equal(np.isinf(statistics), emptied)
    assert row["p"] >= emptied.mean()


def test_no_draws_no_rows():
    assert estimate(permutations=0).empty


def test_its_size_is_five_percent():
    """400 trials without an effect, three visits: rejections within 3.5 Monte Carlo errors of 5 %."""
    truth = Truth(COVARIANCES["growing"])
    values = simulate_values(truth, trials=400, seed=11)
    group = group_of()
    sides = randomisation.draw_sides(truth.active, ["n/a"] * truth.active.size, n_draws=400, seed=5)
    questions = estimands.ask(["difference_adjusted"], ["1", "2", "3", "4"])
    p = []
    for grid in values:
        test = randomisation.Test(Outcome("x", "activation", UNIT, 1.0, grid, truth.active), group, sides)
        p += [test.answer(question)[0]["p"] for question in questions]
    share = np.mean(np.array(p) <= 0.05)
    # 1,200 correlated tests count as about 600.
    assert abs(share - 0.05) < 3.5 * np.sqrt(0.05 * 0.95 / 600)
