"""Responders: counts by declared rules, intervals that hold what they say, people who were not seen."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from statsmodels.duration.hazard_regression import PHReg
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.proportion import confint_proportions_2indep
from tests.pages import Page

from reconfmri.config import Group, Trial
from reconfmri.group import proportions, responders, time_to_response
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import NotEstimableError
from reconfmri.group.proportions import Counts
from reconfmri.group.time_to_response import Times
from reconfmri.report.group_methods import group_methods
from reconfmri.report.rendering import render
from reconfmri.report.responders import responders as section

FEDER = Counts(10, 15, 3, 15)  # Feder et al. 2021: 67 % and 20 % of 15 and 15 people


def trial(values, *, active, strata=None, seen=("1", "2", "3"), **rule):
    """A trial of one outcome: `values` (n_people, n_visits), NaN for who was not seen."""
    people = [f"sub-{n:02d}" for n in range(len(values))]
    rows = [
        (who, session, "clinical", "pcl5.total", value, "PCL-5 points")
        for who, mine in zip(people, values, strict=True)
        for session, value in zip(seen, mine, strict=True)
    ]
    columns = ["participant_id", "session_id", "domain", "outcome", "value", "unit"]
    measures = pd.DataFrame(rows, columns=columns).assign(se=np.nan, coverage=np.nan, n_runs=1)
    arms = ["ketamine" if place < active else "midazolam" for place in range(len(people))]
    allocation = pd.DataFrame({"participant_id": people, "arm": arms, "stratum": strata or "n/a"})
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": ["pcl5.total"],
        "primary": {"outcome": "pcl5.total", "session": "2"},
        "responders": {"rule": {"outcome": "pcl5.total", "missing": "nonresponder"} | rule},
    }
    return Asked(measures, allocation, Group.from_params(settings), list(seen))


def row_of(table, **cells):
    return table[(table[list(cells)] == pd.Series(cells)).all(axis=1)].iloc[0]


def feder():
    """Thirty people with CAPS-5-like totals of whom 10 and 3 fall by 30 % or more."""
    before = np.full(30, 42.0)
    after = before - np.where(np.isin(np.arange(30), [*range(10), *range(15, 18)]), 13, 12)
    return np.column_stack([before, after])


def test_the_published_response_of_feder_2021_comes_out():
    asked = trial(feder(), active=15, seen=("1", "2"), percent=30)
    table = responders.estimate(asked)
    mine = table[table["declared"]]
    difference = row_of(mine, method="exact", quantity="risk_difference")
    assert (difference["responders_active"], difference["responders_control"]) == (10, 3)
    assert difference["estimate"] == pytest.approx(0.667 - 0.2, abs=5e-4)
    assert row_of(mine, method="exact", quantity="risk_ratio")["estimate"] == pytest.approx(10 / 3)
    fisher = row_of(mine, method="exact", quantity="odds_ratio")
    assert fisher["p"] == pytest.approx(0.0253, abs=5e-5)
    number = row_of(mine, method="exact", quantity="number_needed")
    assert number["estimate"] == pytest.approx(15 / 7)
    assert number[["lower", "upper"]].tolist() == pytest.approx(
        [1 / difference["upper"], 1 / difference["lower"]]
    )
    bayes = row_of(mine, method="bayes", quantity="risk_difference")
    assert difference["lower"] < bayes["lower"] < bayes["estimate"] < bayes["upper"] < difference["upper"]
    assert bayes["probability"] > 0.98


@pytest.mark.parametrize(
    ("rule", "before", "after", "responds"),
    [
        ({"drop": 10}, 40, 30, 1),
        ({"drop": 10}, 40, 31, 0),
        ({"percent": 30}, 40, 28, 1),
        ({"percent": 30}, 40, 28.5, 0),
        ({"percent": 30}, 0, 0, np.nan),
        ({"change": "pcl5.marx15"}, 60, 28, 1),
        ({"change": "pcl5.marx15"}, 60, 29, 0),
        ({"change": "pcl5.marx15"}, 42, 28, 0),
        ({"change": "pcl5.marx15", "at_most": 30}, 60, 29, 1),
        ({"at_most": 20}, np.nan, 20, 1),
        ({"drop": 10}, np.nan, 20, np.nan),
        ({"drop": 10}, 40, np.nan, np.nan),
    ],
)
def test_who_responded(rule, before, after, responds):
    asked = trial([[before, after], [40, 40]], active=1, seen=("1", "2"), **rule)
    [response] = responders.responses(asked)
    np.testing.assert_equal(response.status[0, 0], responds)


def test_loss_of_diagnosis_is_of_people_who_had_one():
    asked = trial([[1, 0], [1, 1], [0, 0], [np.nan, 0]], active=2, seen=("1", "2"), loss_of_diagnosis=True)
    np.testing.assert_equal(responders.responses(asked)[0].status[:, 0], [1, 0, np.nan, np.nan])


@pytest.mark.parametrize("shares", [(0.5, 0.2), (0.02, 0.4)])
@pytest.mark.parametrize("kind", ["risk_difference", "risk_ratio"])
def test_exact_intervals_hold_the_truth_at_least_as_often_as_they_say(shares, kind):
    """Every table that may come, by its probability: nothing is simulated."""
    n, m, level = 7, 6, 0.9
    truth = shares[0] - shares[1] if kind == "risk_difference" else shares[0] / shares[1]
    covered = asked = 0.0
    for x, y in itertools.product(range(n + 1), range(m + 1)):
        weight = binom.pmf(x, n, shares[0]) * binom.pmf(y, m, shares[1])
        try:
            found = getattr(proportions, kind)(Counts(x, n, y, m), level)
        except NotEstimableError:
            continue  # separated: no interval is given
        asked += weight
        covered += weight * (found.lower - 1e-5 <= truth <= found.upper + 1e-5)
        null = 0.0 if kind == "risk_difference" else 1.0
        inside = found.lower - 1e-4 < null < found.upper + 1e-4
        assert inside or found.p < 1 - level + 1e-6
    missing = 1 - asked
    assert covered + missing >= level - 1e-6


@pytest.mark.parametrize("counts", [FEDER, Counts(20, 40, 10, 38), Counts(3, 50, 9, 60)])
def test_exact_and_bayesian_intervals_are_near_those_of_other_methods(counts):
    other = confint_proportions_2indep(
        counts.active, counts.n_active, counts.control, counts.n_control, method="newcomb", compare="diff"
    )
    exact = proportions.risk_difference(counts, 0.95)
    bayes = proportions.bayes([counts], 0.95, 10.0)  # a prior that says little
    assert [exact.lower, exact.upper] == pytest.approx(other, abs=0.06)
    found = bayes["risk_difference"]
    assert [found.lower, found.upper] == pytest.approx(other, abs=0.06)


def test_the_bayesian_answer_is_that_of_a_brute_force_integral():
    strata, sd = [Counts(4, 6, 1, 5), Counts(2, 8, 2, 9)], 1.5
    rng = np.random.default_rng(8)
    slope = rng.normal(0, sd, 2_000_000)
    log_weight, first, second = np.zeros(len(slope)), np.zeros(len(slope)), np.zeros(len(slope))
    for one in strata:
        level = rng.normal(0, sd, len(slope))
        p, q = (1 / (1 + np.exp(-(level + sign * slope / 2))) for sign in (1, -1))
        log_weight += binom.logpmf(one.active, one.n_active, p) + binom.logpmf(one.control, one.n_control, q)
        share = (one.n_active + one.n_control) / 28
        first, second = first + share * p, second + share * q
    weight = np.exp(log_weight - log_weight.max())
    order = np.argsort(first - second)
    cumulated = np.cumsum(weight[order]) / weight.sum()
    expected = np.interp([0.025, 0.5, 0.975], cumulated, (first - second)[order])
    found = proportions.bayes(strata, 0.95, sd)["risk_difference"]
    assert [found.lower, found.estimate, found.upper] == pytest.approx(expected, abs=0.01)


def test_strata_are_pooled_as_mantel_and_haenszel_do():
    strata = [Counts(8, 20, 4, 22), Counts(6, 11, 3, 12), Counts(1, 7, 1, 5)]
    tables = [
        np.array([[s.active, s.n_active - s.active], [s.control, s.n_control - s.control]]) for s in strata
    ]
    other = StratifiedTable(tables)
    found = proportions.mantel_haenszel(strata, 0.95)
    assert found["odds_ratio"].estimate == pytest.approx(other.oddsratio_pooled)
    ends = other.oddsratio_pooled_confint()
    assert [found["odds_ratio"].lower, found["odds_ratio"].upper] == pytest.approx(ends)
    assert found["risk_ratio"].estimate == pytest.approx(other.riskratio_pooled)


def test_the_stratified_difference_has_the_spread_of_many_trials():
    rng = np.random.default_rng(5)
    sizes, base = [(12, 14), (20, 18), (9, 8)], [0.2, 0.4, 0.6]
    inside = []
    for _ in range(2000):
        strata = [
            Counts(rng.binomial(n, p + 0.15), n, rng.binomial(m, p), m)
            for (n, m), p in zip(sizes, base, strict=True)
        ]
        found = proportions.mantel_haenszel(strata, 0.95)["risk_difference"]
        inside.append(found.lower <= 0.15 <= found.upper)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)  # 4 Monte Carlo errors


def test_separated_arms_have_no_odds_ratio_but_a_bound_and_a_bayesian_one():
    values = np.column_stack([np.full(20, 40.0), np.where(np.arange(20) < 6, 20.0, 39.0)])
    table = responders.estimate(trial(values, active=10, seen=("1", "2"), drop=10))
    mine = table[table["declared"]]
    for quantity in ("risk_ratio", "odds_ratio"):
        row = row_of(mine, method="exact", quantity=quantity)
        assert not row["reported"]
        assert math.isnan(row["estimate"])
        bayes = row_of(mine, method="bayes", quantity=quantity)
        assert 1 < bayes["estimate"] < 1000
        assert np.isfinite(bayes["upper"])
    assert "it is above" in row_of(mine, method="exact", quantity="odds_ratio")["reason"]
    assert row_of(mine, method="exact", quantity="risk_difference")["estimate"] == pytest.approx(0.6)


def test_people_who_were_not_seen_count_as_declared_and_bounds_hold_every_guess():
    values = feder()
    values[[0, 1, 12, 15, 20, 21], 1] = np.nan
    for declared, expected in (("nonresponder", 8 / 15 - 2 / 15), ("observed", 8 / 12 - 2 / 12)):
        table = responders.estimate(trial(values, active=15, seen=("1", "2"), percent=30, missing=declared))
        exact = table[(table["method"] == "exact") & (table["quantity"] == "risk_difference")]
        assert row_of(exact, declared=True)["estimate"] == pytest.approx(expected)
        assert row_of(exact, declared=True)["missing_active"] == 3
    bounds = exact.set_index("analysis")["estimate"]
    guesses = [
        (8 + sum(a)) / 15 - (2 + sum(c)) / 15
        for a in itertools.product((0, 1), repeat=3)
        for c in itertools.product((0, 1), repeat=3)
    ]
    assert bounds["against_active"] == pytest.approx(min(guesses))
    assert bounds["for_active"] == pytest.approx(max(guesses))


def test_people_without_any_measurement_are_counted_too():
    asked = trial(feder(), active=15, seen=("1", "2"), percent=30)
    asked = Asked(
        asked.measures[asked.measures["participant_id"] != "sub-00"],
        asked.allocation,
        asked.group,
        asked.sessions,
    )
    row = row_of(responders.estimate(asked), declared=True, method="exact", quantity="risk_difference")
    assert (row["responders_active"], row["n_active"], row["missing_active"]) == (9, 15, 1)


def test_strata_give_rows_of_their_own():
    strata = ["a", "b", "b"] * 10
    table = responders.estimate(trial(feder(), active=15, seen=("1", "2"), percent=30, strata=strata))
    assert set(table[table["declared"]]["method"]) == {"exact", "mantel_haenszel", "bayes"}
    assert set(table["n_strata"]) == {2}


def test_a_number_needed_whose_interval_passes_infinity_says_so():
    values = np.column_stack([np.full(20, 40.0), np.where(np.arange(20) % 10 < 3, 20.0, 39.0)])
    values[9, 1] = 20.0
    table = responders.estimate(trial(values, active=10, seen=("1", "2"), drop=10))
    row = row_of(table, declared=True, method="exact", quantity="number_needed")
    assert row["estimate"] == pytest.approx(10)
    assert "through infinity" in row["status"]
    assert row["upper"] < 0 < row["lower"]


# time to response and relapse


def simulated(n=60, seed=3):
    rng = np.random.default_rng(seed)
    active = np.arange(n) < n // 2
    times = rng.integers(1, 5, n)
    happened = rng.random(n) < np.where(active, 0.7, 0.4)
    strata = tuple("ab"[place % 2] for place in range(n))
    return Times(times, happened, active, strata)


def test_the_partial_likelihood_is_that_of_another_program():
    times = simulated()
    number = np.array(times.strata) == "b"
    other = PHReg(
        times.times, times.active.astype(float)[:, None], status=times.happened.astype(int),
        strata=number.astype(int), ties="efron",
    )  # fmt: skip
    slopes = np.array([-1.0, 0.0, 0.7])
    mine = time_to_response.log_likelihood(times, slopes)
    expected = np.array([other.loglike(np.array([slope])) for slope in slopes])
    np.testing.assert_allclose(mine - mine[1], expected - expected[1], atol=1e-8)


def test_a_weak_prior_leaves_coxs_estimate():
    rows = {row["method"]: row for row in time_to_response._ratios(simulated(), 50.0, 0.95)}
    assert rows["bayes"]["estimate"] == pytest.approx(rows["cox"]["estimate"], abs=0.05)
    assert rows["bayes"]["sd"] == pytest.approx(rows["cox"]["sd"], rel=0.05)


def test_the_curve_is_that_of_kaplan_and_meier():
    """By hand: 6 people; events at visits 1 and 3, one censored at 1, one at 2, two at 3."""
    times = np.array([1, 1, 2, 3, 3, 3])
    happened = np.array([True, False, False, True, False, False])
    rows = time_to_response.curve(times, happened, ("2", "3", "4"), 0.95)
    assert [row["share"] for row in rows] == pytest.approx([5 / 6, 5 / 6, 5 / 6 * 2 / 3])
    assert [row["at_risk"] for row in rows] == [6, 4, 3]
    assert all(0 <= row["lower"] < row["share"] < row["upper"] <= 1 for row in rows)


def test_response_and_relapse_are_dated_by_the_visits_at_which_they_were_seen():
    nan = np.nan
    values = [
        [40, 20, 20, 39], [40, nan, 20, 20], [40, 39, 39, nan], [40, nan, nan, nan],
        [40, 39, 39, 20], [40, 20, nan, 39], [40, 20, nan, nan], [40, 39, 39, 39],
    ]  # fmt: skip
    asked = trial(values, active=4, seen=("1", "2", "3", "4"), drop=10)
    [response] = responders.responses(asked)
    first = time_to_response.first_response(response)
    assert first.times.tolist() == [1, 2, 2, 3, 1, 1, 3]
    assert first.happened.tolist() == [True, True, False, True, True, True, False]
    again = time_to_response.relapse(response)
    assert again.times.tolist() == [2, 1, 2]
    assert again.happened.tolist() == [True, False, True]


def test_an_arm_without_events_has_only_the_bayesian_hazard_ratio():
    times = simulated()
    rows = time_to_response._ratios(
        Times(times.times, times.happened & times.active, times.active, times.strata), 2.5, 0.95
    )
    assert not rows[0]["reported"]
    assert rows[1]["reported"]
    assert 1 < rows[1]["estimate"] < 10


# the page and the methods text


def study_of(asked):
    return Trial(
        "t",
        "",
        1,
        asked.group,
        {"1": "before", "2": "after"},
        {"1": 0.0, "2": 14.0},
        {"pcl5.total": "points"},
        {},
    )


def tables_of(asked):
    course, hazards = time_to_response.estimate(asked)
    return {
        "responders": responders.estimate(asked),
        "response_course": course,
        "response_hazards": hazards,
    }


def page_of(asked):
    block = section(study_of(asked), tables_of(asked))
    shown = {"id": "responders", "title": "Responders", "intro": "", "tables": []}
    whole = {
        "title": "t",
        "truth": False,
        "question": "",
        "answer": None,
        "headline": "",
        "version": "",
        "registered": "",
    }
    return Page(
        render(
            "page.html.j2",
            script="report.js",
            **block,
            **whole,
            sources="",
            blinded=None,
            stamp="",
            sections=[shown],
        )
    )


def test_the_page_shows_counts_intervals_and_what_has_none():
    values = feder()
    values[29, 1] = np.nan
    asked = trial(values, active=15, seen=("1", "2"), percent=30, strata=["a", "b", "b"] * 10)
    page = page_of(asked)
    for word in ("10 of 15 (67 %)", "3 of 15 (20 %)", "0.47 [", "Fisher", "stratified", "Bayesian", "0 + 1"):
        assert word in page.words, word
    assert "at least 30 % below baseline" in page.words
    separated = trial(
        np.column_stack([np.full(8, 40.0), [20.0] * 4 + [39.0] * 4]), active=4, seen=("1", "2"), drop=10
    )
    page = page_of(separated)
    assert "has no estimate" in page.words
    assert "p –" not in page.words.partition("Event")[0], (
        "the difference of separated arms has an exact p value"
    )
    assert section(study_of(asked), {}) == {"responders": []}


def test_every_setting_of_a_rule_changes_the_methods_text():
    def text(**rule):
        asked = trial(feder(), active=15, seen=("1", "2"), **rule)
        return dict(group_methods(study_of(asked)))["Responders"]

    texts = [
        text(drop=10), text(drop=11), text(percent=30), text(at_most=20), text(drop=10, at_most=20),
        text(drop=10, missing="observed"), text(drop=10, prior_sd=1.0), text(loss_of_diagnosis=True),
    ]  # fmt: skip
    assert len(set(texts)) == len(texts)
    assert text(change="pcl5.marx15") == text(drop=15, at_most=28)


def test_a_rule_that_cannot_be_is_refused():
    for rule, says in (
        ({"change": "pcl5.marx"}, "did you mean 'pcl5.marx1"),
        ({}, "needs drop, percent, at_most or loss"),
        ({"drop": -1}, "greater than 0"),
    ):
        with pytest.raises(ValueError, match=says):
            trial(feder(), active=15, seen=("1", "2"), **rule)


def test_extreme_trials_have_intervals_that_hold_the_estimate_and_none_without_width():
    """All or none of an arm: an exact end is 1, a normal interval of no width is withheld."""
    apart = proportions.risk_difference(Counts(6, 6, 0, 6), 0.95)
    assert (apart.estimate, apart.upper) == (1.0, 1.0)
    assert proportions.risk_difference(Counts(0, 6, 6, 6), 0.95).lower == -1.0
    for counts in (Counts(6, 6, 6, 6), Counts(0, 6, 0, 6), Counts(6, 6, 0, 6)):
        with pytest.raises(NotEstimableError, match="no width"):
            proportions.mantel_haenszel([counts, counts], 0.95)
    nearly = proportions.bayes([Counts(6, 6, 6, 6)], 0.95, 2.5)["risk_difference"]
    assert abs(nearly.estimate) < 1e-4
    assert math.isinf(proportions.number_needed(nearly)[0].estimate)


def test_strata_that_never_compare_the_arms_have_no_hazard_ratio():
    """The posterior would be the prior."""
    values = np.tile([40.0, 20.0, 20.0], (12, 1))
    asked = trial(values, active=6, strata=["a"] * 6 + ["b"] * 6, drop=10)
    ratios = time_to_response.estimate(asked)[1]
    assert not ratios["reported"].any()
    assert ratios["reason"].str.contains("no stratum has people of both arms at risk").all()
