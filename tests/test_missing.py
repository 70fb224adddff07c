"""Missing visits: their patterns, completers, shifts of the unseen, and the figure of the tipping point."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from reconfmri.config import DEFAULT_SCALES, Group, Primary, parse_config
from reconfmri.contracts import questions
from reconfmri.figures import missing as figures
from reconfmri.figures import style
from reconfmri.group import completion, estimands, frequentist, imputation, missing
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import NotEstimableError, Question
from reconfmri.group.grid import Outcome, lay_out
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures, simulate_values
from reconfmri.tables import read_table

NAME, UNIT = "amygdala.x", "percent signal change"
SCALE = DEFAULT_SCALES[UNIT]
SESSIONS = ["1", "2", "3", "4"]
DIFFERENCE = np.array([0.0, -0.8, -0.7, -0.5])  # in multiples of the scale, as all of TRUTH
TRUTH = Truth(COVARIANCES["reference"], DIFFERENCE)
COMPLETE = replace(TRUTH, missing=np.zeros(4))
ADJUSTED = Question("difference_adjusted", 2, "3")
UNADJUSTED = Question("difference_unadjusted", 2, "3")
CHANGE = Question("difference_of_change", 2, "3")
AVERAGE = Question("difference_average", 3, estimands.AVERAGE, (1, 2, 3))
WITHIN = Question("change_active", 2, "3")


def make_tables(truth=TRUTH, seed=1):
    return simulate_measures(truth, outcomes={NAME: UNIT}, scales=DEFAULT_SCALES, seed=seed)


def make_group(**more) -> Group:
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": [NAME],
        "primary": {"outcome": NAME, "session": "3"},
        "covariance": "unstructured",
    }
    return Group.from_params(settings | more)


def as_outcome(values, active, scale=1.0) -> Outcome:
    people = tuple(f"sub-{place:02d}" for place in range(len(active)))
    return Outcome(NAME, "activation", UNIT, scale, values, active, people=people)


def make_outcomes(truth=TRUTH, *, trials=1, seed=1) -> list[Outcome]:
    return [as_outcome(values, truth.active) for values in simulate_values(truth, trials=trials, seed=seed)]


def complete(outcome, question, **more) -> completion.Completed:
    return completion.Completion(outcome, make_group(**more)).complete(question)


def answer_at_random(outcome, question) -> float:
    """The answer from completed data without a standard error: quick in big samples."""
    fit = completion.fit_means(outcome, question.common_baseline, "unstructured")
    return float(completion.answer_parts(outcome, question, completion.fill_in(outcome, fit))[0])


def by_reml(outcome, question) -> estimands.Contrast:
    return frequentist.answer_by_reml(outcome, question, make_group())[0]


def take_visits(outcome, chosen) -> Outcome:
    """The outcome where the visits `chosen` (n_people, n_visits) were not seen."""
    return replace(outcome, values=np.where(chosen, np.nan, outcome.values))


def with_gaps(outcome, seed=3, share=0.2) -> Outcome:
    """Visits missed one by one, the baseline too, and a person of each arm who was never measured."""
    chosen = np.random.default_rng(seed).random(outcome.values.shape) < share
    chosen[[0, -1]] = True
    return take_visits(outcome, chosen)


def one_strategy(strategy, outcome) -> imputation.Plan:
    """Everybody who is not seen any more has one strategy from there on."""
    return imputation.one_strategy(strategy, outcome.seen, None, outcome.people, SESSIONS)


# Who was seen


def test_patterns_and_visits_count_everybody_who_was_randomised():
    values = np.ones((5, 4))
    values[1, 2:] = values[2, 2:] = values[3, 1] = np.nan
    rows = [
        (f"sub-0{person + 1}", SESSIONS[visit], "activation", NAME, values[person, visit] + visit, UNIT)
        for person in range(5)
        for visit in range(4)
        if person != 3 or visit != 1  # no row at all; the other gaps are rows without a value
    ]
    columns = ["participant_id", "session_id", "domain", "outcome", "value", "unit"]
    measures = pd.DataFrame(rows, columns=columns)
    arms = ["ketamine"] * 3 + ["midazolam"] * 3  # sub-06 was randomised and never measured
    allocation = pd.DataFrame({"participant_id": [f"sub-0{n}" for n in range(1, 7)], "arm": arms})
    found = missing.patterns(Asked(measures, allocation, make_group(), SESSIONS))
    assert found[["arm", "pattern", "n_people"]].to_numpy().tolist() == [
        ["ketamine", "1 1 1 1", 1],
        ["ketamine", "1 1 0 0", 2],
        ["midazolam", "1 1 1 1", 1],
        ["midazolam", "1 0 1 1", 1],
        ["midazolam", "0 0 0 0", 1],
    ]
    seen = missing.visits_seen(Asked(measures, allocation, make_group(), SESSIONS))
    assert seen["n_seen"].tolist() == [3, 3, 1, 1, 2, 1, 2, 2]
    assert (seen["n_randomised"] == 3).all()


def test_the_tables_are_described_and_survive_the_disk(tmp_path):
    measures, allocation = make_tables()
    given = measures, allocation, make_group(), SESSIONS
    grid, points = missing.tipping(Asked(*given))
    tables = [
        (missing.patterns(Asked(*given)), "missing_patterns"),
        (missing.visits_seen(Asked(*given)), "visits_seen"),
        (missing.completers(Asked(*given)), "completers"),
        (missing.reference_based(Asked(*given)), "reference_based"),
        (grid, "tipping_grid"),
        (points, "tipping"),
    ]
    for table, name in tables:
        spec = questions.specs()[name]
        spec.write(tmp_path / f"{name}.tsv", table)
        assert len(spec.read(tmp_path / f"{name}.tsv")) == len(table)
    assert (
        read_table(tmp_path / "missing_patterns.tsv")["pattern"].tolist() == tables[0][0]["pattern"].tolist()
    )


# Completers


def completers_of(measures) -> pd.DataFrame:
    visits = measures.groupby("participant_id")["session_id"].nunique()
    return measures[measures["participant_id"].isin(visits.index[visits == len(SESSIONS)])]


def test_completers_are_answered_by_ancova_and_the_t_tests_of_those_who_stayed():
    """With no gaps REML with a mean per arm and visit is Student's t, here SciPy's."""
    measures, allocation = make_tables()
    found = missing.completers(Asked(measures, allocation, make_group(covariance="auto"), SESSIONS))
    assert (found["analysis_set"] == "completers").all()
    assert (found["status"] == "ok").all()
    stayed = completers_of(measures)
    table = stayed.pivot(index="participant_id", columns="session_id", values="value")
    active = allocation.set_index("participant_id")["arm"].loc[table.index] == "ketamine"
    for estimand, values in (
        ("difference_unadjusted", table["3"]),
        ("difference_of_change", table["3"] - table["1"]),
    ):
        row = found[(found["estimand"] == estimand) & (found["session"] == "3")].iloc[0]
        reference = stats.ttest_ind(values[active], values[~active])
        ends = reference.confidence_interval(0.95)
        expected = [reference.pvalue, reference.df, ends.low, ends.high]
        assert row[["p", "df", "lower", "upper"]].astype(float).tolist() == pytest.approx(expected, rel=1e-6)
        assert (row["method"], row["n_active"], row["n_control"]) == ("reml", active.sum(), (~active).sum())
    adjusted = found[found["estimand"] == "difference_adjusted"].reset_index(drop=True)
    plain = frequentist.estimate(Asked(stayed, allocation, make_group(), SESSIONS))
    plain = plain[(plain["estimand"] == "difference_adjusted") & (plain["method"] == "ancova")]
    columns = ["method", "estimate", "sd", "df", "p", "n_active", "n_control"]
    pd.testing.assert_frame_equal(adjusted[columns], plain[columns].reset_index(drop=True))


@pytest.mark.parametrize("n_stay", [0, 1])
def test_an_arm_without_completers_is_not_reported(n_stay):
    measures, allocation = make_tables(COMPLETE)
    left = allocation.loc[allocation["arm"] == "midazolam", "participant_id"][n_stay:]
    measures = measures[~(measures["participant_id"].isin(left) & (measures["session_id"] == "4"))]
    found = missing.completers(Asked(measures, allocation, make_group(), SESSIONS))
    assert found["status"].str.startswith("not reported: two people per arm").all()
    assert found[list(estimands.NUMBERS)].isna().all(axis=None)
    assert (found["n_control"] == n_stay).all()


# Conditional means


def test_gaps_are_filled_as_the_textbook_does():
    """One person at a time: m_u + S_uo S_oo^-1 (y_o - m_o)."""
    outcome = with_gaps(make_outcomes()[0])
    means = np.random.default_rng(2).normal(size=outcome.values.shape)
    covariance = COVARIANCES["growing"]
    found = completion.conditional_means(outcome.values, means, covariance)
    for values, mean, filled in zip(outcome.values, means, found, strict=True):
        o, u = ~np.isnan(values), np.isnan(values)
        away = np.linalg.solve(covariance[np.ix_(o, o)], values[o] - mean[o])
        np.testing.assert_array_equal(filled[o], values[o])
        np.testing.assert_allclose(filled[u], mean[u] + covariance[np.ix_(u, o)] @ away, atol=1e-12)


@pytest.mark.parametrize("question", [UNADJUSTED, CHANGE, WITHIN], ids=lambda item: item.estimand)
def test_at_random_the_completed_data_give_the_answer_of_reml_whatever_is_missing(question):
    """The score equation of the means says so; 1e-5 is what a converged fit leaves."""
    for outcome in make_outcomes(trials=3):
        gaps = with_gaps(outcome)
        assert answer_at_random(gaps, question) == pytest.approx(by_reml(gaps, question).estimate, abs=1e-5)


@pytest.mark.parametrize("question", [ADJUSTED, AVERAGE], ids=lambda item: item.estimand)
def test_adjusted_at_random_is_reml_where_baselines_were_seen_and_near_it_elsewhere(question):
    for outcome in make_outcomes(trials=10):
        reml = by_reml(outcome, question)
        assert answer_at_random(outcome, question) == pytest.approx(reml.estimate, abs=1e-5)
        gaps = with_gaps(outcome, share=0.1)
        reml = by_reml(gaps, question)
        assert abs(answer_at_random(gaps, question) - reml.estimate) < 0.25 * reml.se


@pytest.mark.parametrize("question", [ADJUSTED, UNADJUSTED, CHANGE], ids=lambda item: item.estimand)
def test_dropout_that_depends_on_the_baseline_does_no_harm_in_big_samples(question):
    """1,000 per arm: REML's answer to 0.01 SD even with baselines missing, the truth to 4 SE."""
    truth = replace(TRUTH, n_active=1000, n_control=1000, missing_by_baseline=1.0)
    (outcome,) = make_outcomes(truth)
    lost = np.zeros(outcome.values.shape, bool)
    lost[::10, 0] = True
    outcome = take_visits(outcome, lost)
    reml = by_reml(outcome, question)
    found = answer_at_random(outcome, question)
    assert found == pytest.approx(reml.estimate, abs=0.01)
    assert abs(found - DIFFERENCE[2]) < 4 * reml.se


# Standard errors


def test_without_gaps_everything_is_the_plain_answer():
    measures, allocation = make_tables(COMPLETE)
    grid, points = missing.tipping(Asked(measures, allocation, make_group(), SESSIONS))
    (outcome,) = lay_out(measures, allocation, make_group(), SESSIONS)
    plain = frequentist.answer_question(outcome, ADJUSTED)
    assert len(grid) == 81
    np.testing.assert_allclose(grid["estimate"], plain.estimate, rtol=1e-9)
    np.testing.assert_allclose(grid["df"], plain.df, rtol=1e-6)
    assert np.ptp(grid["sd"]) < 1e-12
    assert points["status"].tolist() == ["none: everybody was seen"] * 2
    assert points["delta"].isna().all()


def test_without_gaps_the_jackknife_of_a_difference_of_means_is_welchs():
    (outcome,) = make_outcomes(COMPLETE)
    welch = frequentist.answer_question(outcome, UNADJUSTED)
    found = complete(outcome, UNADJUSTED).at()
    assert [found.estimate, found.se] == pytest.approx([welch.estimate, welch.se], rel=1e-5)


def test_the_standard_error_is_the_jackknife_of_reml_itself():
    """Written out with the frequentist engine: unadjusted, the answer at random is that of REML."""
    (outcome,) = make_outcomes()
    variance = 0.0
    for arm in (outcome.active, ~outcome.active):
        answers = []
        for person in np.flatnonzero(arm):
            values, active = np.delete(outcome.values, person, 0), np.delete(outcome.active, person)
            answers.append(by_reml(as_outcome(values, active), UNADJUSTED).estimate)
        variance += (arm.sum() - 1) * np.var(answers)
    assert complete(outcome, UNADJUSTED).at().se == pytest.approx(variance**0.5, rel=1e-4)


def test_the_standard_error_is_near_kenward_and_rogers():
    """Mean ratio over 20 trials of 14 and 13, three questions; 400 trials (`auto`) gave 1.00 to 1.08."""
    ratios = {question: [] for question in (ADJUSTED, UNADJUSTED, CHANGE)}
    for outcome in make_outcomes(trials=20, seed=8):
        filled = completion.Completion(outcome, make_group())
        for question, found in ratios.items():
            found.append(filled.complete(question).at().se / by_reml(outcome, question).se)
    for found in ratios.values():
        assert 0.95 < np.mean(found) < 1.15


@pytest.mark.slow
def test_the_interval_at_random_covers():
    """100 trials of 14 and 13, two visits, 15 and 30 % missing: 88 to 100 % is 3 Monte Carlo errors."""
    truth = Truth(
        TRUTH.covariance[:3, :3], DIFFERENCE[:3], np.zeros(3), np.array([0.0, 0.15, 0.3]), spread_active=1.2
    )
    questions = [Question("difference_adjusted", 1, "2"), ADJUSTED]
    covered = np.zeros(2)
    for outcome in make_outcomes(truth, trials=100, seed=21):
        filled = completion.Completion(outcome, make_group())
        for place, question in enumerate(questions):
            lower, upper = filled.complete(question).at().interval(0.95)
            covered[place] += lower < DIFFERENCE[question.visit] < upper
    assert (covered >= 88).all(), covered


# Shifts


def test_a_shift_counts_by_the_share_who_were_not_seen():
    (outcome,) = make_outcomes()
    completed = complete(outcome, UNADJUSTED)
    share = np.isnan(outcome.values[:, 2])
    active, control = share[outcome.active].mean(), share[~outcome.active].mean()
    assert min(active, control) > 0
    moved = completed.at(active=0.7, control=-0.3).estimate - completed.at().estimate
    assert moved == pytest.approx(active * 0.7 + control * 0.3, abs=1e-12)


def test_the_grid_is_the_same_as_shifting_the_values_by_hand():
    """Filled in, shifted, analysed by ANCOVA, and all of it again without each person."""
    (outcome,) = make_outcomes()
    shift = {True: 0.6, False: -0.4}

    def by_hand(part: Outcome) -> float:
        fit = completion.fit_means(part, True, "unstructured")
        filled = completion.conditional_means(part.values, fit.means[part.active.astype(int)], fit.covariance)
        filled[:, 2] += np.isnan(part.values[:, 2]) * np.where(part.active, shift[True], shift[False])
        given = frequentist.ancova_design(filled[:, 0], part.active, (-1.0, 1.0))
        return frequentist.least_squares(filled[:, 2], *given).estimate

    without = [
        by_hand(as_outcome(np.delete(outcome.values, person, 0), np.delete(outcome.active, person)))
        for person in range(len(outcome.active))
    ]
    spread = completion.jackknife(np.array(without)[:, None], outcome.active)
    found = complete(outcome, ADJUSTED).at(active=shift[True], control=shift[False])
    assert found.estimate == pytest.approx(by_hand(outcome), abs=1e-10)
    assert found.se == pytest.approx(float(spread[0, 0]) ** 0.5, rel=1e-8)


def test_dropouts_who_fare_worse_are_recovered_by_their_shift_only():
    """A third of the active arm is lost at visit 3 and .9 SD higher than predicted: .3 SD of bias at random.

    60 trials of 40 and 40; the mean's Monte Carlo SE is .03.
    """
    truth = replace(COMPLETE, n_active=40, n_control=40)
    found = []
    for place, outcome in enumerate(make_outcomes(truth, trials=60, seed=5)):
        random = np.random.default_rng(place)
        lost = np.zeros(outcome.values.shape, bool)
        lost[:, 2] = outcome.active & (random.random(len(outcome.active)) < 1 / 3)
        fit = completion.fit_means(take_visits(outcome, lost), True, "unstructured")
        full = replace(outcome, values=outcome.values + 0.9 * lost)
        truly = frequentist.answer_question(full, ADJUSTED).estimate
        left = take_visits(full, lost)
        parts = completion.answer_parts(left, ADJUSTED, completion.fill_in(left, fit))
        found.append([parts[0] - truly, parts[0] + 0.9 * parts[1] - truly])
    at_random, shifted = np.mean(found, axis=0)
    assert at_random == pytest.approx(-0.3, abs=0.06)
    assert shifted == pytest.approx(0.0, abs=0.06)


def test_jumping_to_reference_takes_the_difference_from_those_not_seen():
    """Unadjusted it is the share seen times the difference of REML: their own gap, for every covariance."""
    (outcome,) = make_outcomes()
    gone = np.cumsum(~outcome.seen[:, 1:], axis=1) > 0  # whoever misses a visit misses the later ones
    outcome = take_visits(outcome, np.hstack([~outcome.seen[:, :1], gone]))
    plan = one_strategy("jump_to_reference", outcome)
    reml = by_reml(outcome, UNADJUSTED)
    completed = completion.Completion(outcome, make_group(), {"jump": plan}).complete(UNADJUSTED)
    seen = outcome.seen[outcome.active, 2].mean()
    assert completed.at(plan="jump").estimate == pytest.approx(seen * reml.estimate, abs=1e-5)
    assert completed.at(plan="jump").se < completed.at().se


def test_jumping_to_reference_recovers_a_trial_in_which_the_unseen_had_no_effect():
    truth = replace(COMPLETE, n_active=1500, n_control=1500)
    (outcome,) = make_outcomes(truth, seed=6)
    lost = np.zeros(outcome.values.shape, bool)
    lost[:, 2:] = np.random.default_rng(1).random((len(outcome.active), 1)) < 0.4
    no_effect = replace(outcome, values=outcome.values - np.outer(outcome.active, DIFFERENCE) * lost)
    truly = frequentist.answer_question(no_effect, ADJUSTED).estimate
    fit = completion.fit_means(take_visits(no_effect, lost), True, "unstructured")
    left = take_visits(no_effect, lost)
    plans = [one_strategy("jump_to_reference", left)]
    parts = completion.answer_parts(left, ADJUSTED, completion.fill_in(left, fit, plans))
    assert parts[0] == pytest.approx(DIFFERENCE[2], abs=0.12)
    assert parts[0] + parts[3] == pytest.approx(truly, abs=0.06)


def test_reference_based_answers_every_question_by_every_strategy():
    group = make_group(
        estimands=["difference_adjusted", "difference_average", "change_active", "change_control"],
        covariance="auto",
    )
    truth = replace(TRUTH, missing=np.array([0.0, 0.2, 0.3, 0.4]))
    found = missing.reference_based(Asked(*make_tables(truth), group, SESSIONS))
    assert found["method"].tolist() == ["conditional_mean", *imputation.REFERENCE_BASED] * 10
    assert found["status"].str.startswith("ok").all()
    by_method = {name: rows.reset_index(drop=True) for name, rows in found.groupby("method")}
    away = (by_method["conditional_mean"]["estimate"] - by_method["jump_to_reference"]["estimate"]).abs()
    control = by_method["conditional_mean"]["estimand"] == "change_control"
    assert away[control].max() < 1e-12
    assert away[(~control) & (by_method["conditional_mean"]["session"] == "4")].min() > 0
    assert found.loc[found["estimand"] == "change_control", "df"].max() <= 12


def test_people_randomised_but_never_measured_count_as_unseen():
    measures, allocation = make_tables()
    more = pd.DataFrame({"participant_id": ["sub-98", "sub-99"], "arm": "midazolam", "stratum": "n/a"})
    asked = Primary(outcome=NAME, session="3", estimand="difference_unadjusted")
    grids = [
        missing.tipping(Asked(measures, people, make_group(), SESSIONS), about=asked)[0].set_index(
            ["delta_active", "delta_control"]
        )
        for people in (allocation, pd.concat([allocation, more]))
    ]
    assert grids[1]["unseen_control"].iloc[0] == grids[0]["unseen_control"].iloc[0] + 2
    at_random = [grid["estimate"][0.0, 0.0] for grid in grids]
    assert at_random[1] == pytest.approx(at_random[0], rel=1e-9)
    moved = [at - grid["estimate"][0.0, SCALE] for at, grid in zip(at_random, grids, strict=True)]
    n_unseen = grids[0]["unseen_control"].iloc[0]
    assert moved == pytest.approx([SCALE * n_unseen / 13, SCALE * (n_unseen + 2) / 15], rel=1e-9)


# The tipping point


def strong_tables(seed=2):
    truth = replace(
        TRUTH, difference=np.array([0.0, -1.5, -1.5, -1.5]), missing=np.array([0.0, 0.2, 0.3, 0.4])
    )
    return make_tables(truth, seed)


def test_at_the_tipping_shift_p_is_what_the_level_leaves():
    measures, allocation = strong_tables()
    group = make_group(level=0.9)
    _, points = missing.tipping(Asked(measures, allocation, group, SESSIONS), deltas=[-6, 0, 6])
    assert (points["status"] == "ok").all()
    active, control = points["delta"]
    assert active > 0 > control  # the unseen of each arm must undo the lower values of the active arm
    outcome = Asked(measures, allocation, group, SESSIONS).everybody[0]
    completed = complete(outcome, ADJUSTED)
    assert completed.at(active=active).p == pytest.approx(0.1, abs=1e-9)
    assert completed.at(control=control).p == pytest.approx(0.1, abs=1e-9)
    assert completed.at(active=0.98 * active).p < 0.1 < completed.at(active=1.02 * active).p
    inside = np.linspace(-active, active, 50)[1:-1]
    assert all(completed.at(active=shift).p < 0.1 for shift in inside)  # none is nearer


def test_a_verdict_that_cannot_be_tipped_within_reach_says_so():
    measures, allocation = strong_tables()
    grid, points = missing.tipping(
        Asked(measures, allocation, make_group(), SESSIONS), deltas=[-0.01, 0, 0.01]
    )
    assert points["delta"].isna().all()
    assert points["status"].str.startswith(f"none: no shift up to {0.01 * SCALE:g} {UNIT} does").all()
    assert len(grid) == 9


def test_a_scan_that_was_excluded_is_a_visit_not_seen():
    measures, allocation = make_tables()
    at = measures.index[measures["session_id"] == "3"][0]
    excluded = measures.assign(value=measures["value"].where(measures.index != at))
    tables = [
        missing.tipping(Asked(table, allocation, make_group(), SESSIONS))[0]
        for table in (excluded, measures.drop(index=at))
    ]
    pd.testing.assert_frame_equal(*tables)


def test_row_order_does_not_matter():
    measures, allocation = make_tables()
    shuffled = measures.sample(frac=1, random_state=3), allocation.sample(frac=1, random_state=4)
    for one, other in zip(
        missing.tipping(Asked(measures, allocation, make_group(), SESSIONS)),
        missing.tipping(Asked(*shuffled, make_group(), SESSIONS)),
        strict=True,
    ):
        pd.testing.assert_frame_equal(one, other)


# What cannot be answered is said


@pytest.mark.parametrize("keep", [0, 1])
def test_an_arm_that_is_empty_or_one_person_at_the_visit_gets_a_reason(keep):
    measures, allocation = make_tables()
    gone = allocation.loc[allocation["arm"] == "midazolam", "participant_id"][keep:]
    measures = measures[~(measures["participant_id"].isin(gone) & (measures["session_id"] == "3"))]
    grid, points = missing.tipping(Asked(measures, allocation, make_group(), SESSIONS))
    assert len(grid) == 1
    for table in (grid, points):
        assert table["status"].str.startswith("not reported: two people per arm are needed").all()
    assert grid[["estimate", "sd", "df", "lower", "upper", "p"]].isna().all(axis=None)
    assert points["n_unseen"].tolist()[1] == 13 - keep
    there = missing.reference_based(Asked(measures, allocation, make_group(), SESSIONS))
    assert there.loc[there["session"] == "3", "status"].str.startswith("not reported").all()
    assert there.loc[there["session"] == "2", "status"].str.startswith("ok").all()


def test_a_person_without_whom_the_model_fails_is_named_or_the_covariance_is():
    """Two of an arm at the visit: without one of them nothing can be compared there."""
    (outcome,) = make_outcomes(replace(COMPLETE, n_active=3, n_control=3))
    lost = np.zeros(outcome.values.shape, bool)
    lost[[2, 5], 2] = True
    outcome = take_visits(outcome, lost)
    with pytest.raises(NotEstimableError, match="without sub-0|did not converge|do not determine"):
        complete(outcome, UNADJUSTED)


def test_one_session_has_no_baseline_and_bad_values_no_answer():
    measures, allocation = make_tables()
    only = measures[measures["session_id"] == "2"]
    _, points = missing.tipping(
        Asked(only, allocation, make_group(primary={"outcome": NAME, "session": "2"}), ["2"])
    )
    assert points["status"].str.contains("no baseline").all()
    found = missing.reference_based(Asked(only, allocation, make_group(), ["2"])).set_index("estimand")
    assert (found.loc["difference_unadjusted", "status"] == "ok").all()
    for value, reason in ((np.nan, "no measurement"), (1.5, "do not vary")):
        grid, _ = missing.tipping(Asked(measures.assign(value=value), allocation, make_group(), SESSIONS))
        assert reason in grid["status"].iloc[0]
    infinite = measures.assign(value=np.where(measures.index == 3, np.inf, measures["value"]))
    for ask in (missing.completers, missing.reference_based):
        assert (
            ask(Asked(infinite, allocation, make_group(), SESSIONS))["status"]
            .str.contains("not finite")
            .all()
        )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Primary(outcome=NAME, session="9"), "Session '9' is not one"),
        (Primary(outcome=NAME, session="1"), r"Session '1' is not one.*\['2', '3', '4'\]"),
        (Primary(outcome="hippocampus.x", session="3"), "group.outcomes has no 'hippocampus.x'"),
    ],
    ids=["session", "baseline", "outcome"],
)
def test_a_question_that_the_study_lacks_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        missing.tipping(Asked(*make_tables(), make_group(), SESSIONS), about=asked)


# The figure


@pytest.fixture(scope="module")
def trial():
    config = Path(__file__).parents[1] / "config" / "config.yaml"
    return parse_config(yaml.safe_load(config.read_text(encoding="utf-8"))).trial


def test_the_map_is_drawn_and_its_words_are_those_of_the_table(trial):
    tables = missing.tipping(
        Asked(*strong_tables(), make_group(), SESSIONS), deltas=np.linspace(-6, 6, 9).tolist()
    )
    words = " ".join(figures.sentences(*tables, trial))
    for delta in tables[1]["delta"]:
        assert f"{abs(delta):.2f} {UNIT} {'higher' if delta > 0 else 'lower'} than predicted" in words
    assert words.count("the interval includes zero once") == 2
    svg = style.to_svg(figures.tipping_map(*tables, trial))
    texts = "".join(ET.fromstring(svg).itertext())  # noqa: S314 (our own picture)
    for word in ("missing at random", "p = 0.05", "ketamine minus midazolam", "not seen"):
        assert word in texts
    assert len(svg) < 150_000
    assert style.to_png(figures.tipping_map(*tables, trial)).startswith(b"\x89PNG")


def test_what_cannot_tip_or_be_reported_is_said_in_words(trial):
    tables = missing.tipping(Asked(*strong_tables(), make_group(), SESSIONS), deltas=[-0.01, 0.0, 0.01])
    assert "the interval still excludes zero" in " ".join(figures.sentences(*tables, trial))
    assert style.to_svg(figures.tipping_map(*tables, trial)).startswith("<svg")
    everybody = missing.tipping(Asked(*make_tables(COMPLETE), make_group(), SESSIONS))
    assert "In ketamine everybody was seen" in " ".join(figures.sentences(*everybody, trial))
    assert style.to_svg(figures.tipping_map(*everybody, trial)).startswith("<svg")
    measures, allocation = make_tables()
    none = missing.tipping(Asked(measures.assign(value=1.5), allocation, make_group(), SESSIONS))
    assert "do not vary" in " ".join(figures.sentences(*none, trial))
    assert style.to_svg(figures.tipping_map(*none, trial)).startswith("<svg")


def test_a_visit_that_one_person_holds_up_gets_a_reason():
    """Three and two people at the last visit: without one of the two it is too thin for the model."""
    measures, allocation = make_tables(replace(COMPLETE, n_active=6, n_control=6), seed=2)
    few = measures["participant_id"].isin([f"sub-{n:02d}" for n in (4, 5, 6, 9, 10, 11, 12)])
    measures = measures[~(few & (measures["session_id"] == "4"))]
    group = make_group(covariance="auto")
    found = missing.reference_based(Asked(measures, allocation, group, SESSIONS))
    last = found[found["session"] == "4"]
    assert last["status"].str.contains("too few to compare").all()
    assert found.loc[found["session"] == "2", "status"].str.startswith("ok").all()
