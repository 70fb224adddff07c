"""Planning: closed forms, simulated trials through the REML engine, what more people do, the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from reconfmri.cli import main
from reconfmri.config import DEFAULT_SCALES
from reconfmri.contracts import questions
from reconfmri.group import frequentist, group_from_tables, planning
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import NotEstimableError, Question, ask
from reconfmri.group.reml import fit_reml
from reconfmri.group.repeated import MeanModel
from reconfmri.measures import DESCRIPTIONS as MEASURES
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures, simulate_values
from reconfmri.tables import read_table, write_table

CONFIG = Path(__file__).parents[1] / "config" / "config.yaml"
AMYGDALA = "amygdala.trauma_first-neutral_first"
ESTIMANDS = ["difference_adjusted", "difference_unadjusted", "difference_of_change"]
SESSIONS = ["1", "2", "3", "4"]
MISSING = (0.0, 0.07, 0.20, 0.33)
REFERENCE = planning.Scenario(COVARIANCES["reference"], MISSING)
ADJUSTED = Question("difference_adjusted", 1, "2")
AIM = planning.Aim(0.8, 0.8, 0.4)


def two_visits(correlation: float, *, sd: float = 1.0, missing: float = 0.0) -> planning.Scenario:
    covariance = planning.exchangeable(2, sd=sd, baseline=correlation, later=1.0)
    return planning.Scenario(covariance, (0.0, missing))


# Closed forms


@pytest.mark.parametrize("n", [5, 14, 60])
def test_one_visit_is_the_two_sample_t_test_of_statsmodels(n):
    from statsmodels.stats.power import TTestIndPower

    once = planning.Scenario(np.array([[4.0]]), (0.0,))
    found = planning.expect(once, Question("difference_unadjusted", 0, "1"), n)
    assert (found.se, found.df) == pytest.approx((2 * math.sqrt(2 / n), 2 * n - 2))
    expected = TTestIndPower().power(effect_size=0.8, nobs1=n, alpha=0.05)
    assert found.power(1.6, 0.95) == pytest.approx(expected, abs=1e-8)


def test_people_who_miss_the_only_visit_are_as_if_never_there_but_for_chance():
    question = Question("difference_unadjusted", 0, "1")
    some = planning.expect(planning.Scenario(np.eye(1), (0.25,)), question, 40)
    fixed = planning.expect(planning.Scenario(np.eye(1), (0.0,)), question, 30)
    # 1 / n for binomial n: 1 + (1 - p) / (np) to second order
    assert some.se / fixed.se == pytest.approx(math.sqrt(1 + 0.25 / 30), rel=1e-9)
    assert some.df == pytest.approx(fixed.df)


@pytest.mark.parametrize("n", [10, 30])
def test_the_adjusted_difference_of_complete_data_is_analysis_of_covariance(n):
    found = planning.expect(two_visits(0.6, sd=3.0), ADJUSTED, n)
    known = 3.0**2 * (1 - 0.6**2) * 2 / n
    # (N - 3) / (N - 4) for the covariate's chance imbalance; what is of order 1 / N^2 the expansion lacks.
    assert found.se**2 == pytest.approx(known * (2 * n - 3) / (2 * n - 4), rel=0.01)
    assert planning.expect(two_visits(0.6, sd=3.0), ADJUSTED, 5000).se ** 2 == pytest.approx(
        3.0**2 * (1 - 0.6**2) * 2 / 5000, rel=3e-4
    )
    assert found.df == pytest.approx(2 * n - 3, abs=1 + 1e-9)


def test_the_difference_of_change_of_complete_data_is_a_t_test_of_change_scores():
    found = planning.expect(two_visits(0.6), Question("difference_of_change", 1, "2"), 12)
    assert (found.se, found.df) == pytest.approx((math.sqrt(2 * (1 - 0.6) * 2 / 12), 22))


def test_whole_numbers_are_correlations_too():
    found = planning.exchangeable(3, sd=2, baseline=0.5, later=1)
    assert found.tolist() == [[4, 2, 2], [2, 4, 4], [2, 4, 4]]


def test_assurance_is_power_averaged_over_the_prior():
    found = planning.expect(REFERENCE, ADJUSTED, 20)
    share = (np.arange(2000) + 0.5) / 2000
    truths = stats.norm.ppf(share, AIM.prior_mean, AIM.prior_sd)
    averaged = np.mean([found.power(truth, AIM.level) for truth in truths])
    assert found.assurance(AIM) == pytest.approx(averaged, abs=1e-4)
    certain = planning.Aim(0.8, 0.8, 0.0)
    assert found.assurance(certain) == pytest.approx(found.power(0.8, 0.95), abs=1e-12)


def test_power_stays_a_probability_however_large_the_trial():
    powers = [planning.expect(REFERENCE, ADJUSTED, n).power(0.8, 0.95) for n in (100, 1000, 4000, 20_000)]
    assert np.isfinite(powers).all()
    assert powers[1:] == [1.0, 1.0, 1.0]
    assert planning.expect(REFERENCE, ADJUSTED, 20).power(1e-9, 0.95) == pytest.approx(0.05, abs=1e-9)


# Against simulated trials


def simulated(n: int, *, trials: int, seed: int) -> dict[Question, np.ndarray]:
    """Question -> (trials, 3): estimate, half-width and df of REML in trials without effect."""
    truth = Truth(COVARIANCES["reference"], n_active=n, n_control=n)
    found: dict[Question, list[tuple[float, float, float]]] = {}
    for values in simulate_values(truth, trials=trials, seed=seed):
        for common in (True, False):
            model = MeanModel((0, 1, 2, 3), (1, 2, 3) if common else (0, 1, 2, 3))
            fit = fit_reml(values, model.design(truth.active), "unstructured")
            for question in ask(ESTIMANDS, SESSIONS):
                if question.common_baseline == common:
                    answer = fit.infer(model.weights(question, 4))
                    half = answer.interval(0.95)[1] - answer.estimate
                    found.setdefault(question, []).append((answer.estimate, half, answer.df))
    return {question: np.array(rows) for question, rows in found.items()}


def simulated_power(answers: np.ndarray, difference: float) -> float:
    """A difference moves the estimate and nothing else; each trial counts as itself and mirrored."""
    estimate, half = answers[:, 0], answers[:, 1]
    return float(np.mean([np.abs(difference + sign * estimate) > half for sign in (1, -1)]))


def check_against(answers: dict[Question, np.ndarray], n: int, *, points: float) -> None:
    for question, rows in answers.items():
        found = planning.expect(REFERENCE, question, n)
        # An SE on 20 df varies by 16 %: the mean of 250 by 1 %, so 3 % is three Monte Carlo SE.
        assert found.half_width(0.95) == pytest.approx(rows[:, 1].mean(), rel=0.03), question
        assert found.df == pytest.approx(rows[:, 2].mean(), abs=1), question
        for difference in (0.4, 0.8, 1.2):
            power = simulated_power(rows, difference)
            assert 100 * found.power(difference, 0.95) == pytest.approx(100 * power, abs=points), question


@pytest.fixture(scope="module")
def small_trials() -> dict[Question, np.ndarray]:
    return simulated(14, trials=250, seed=5)


def test_small_trials_are_as_planned(small_trials):
    check_against(small_trials, 14, points=2 + 3 * 2.2)  # Monte Carlo SE of 250 mirrored trials: 2.2 points


@pytest.mark.slow
@pytest.mark.parametrize("n", [14, 30])
def test_power_is_within_two_points_and_a_monte_carlo_error(n):
    check_against(simulated(n, trials=800, seed=11), n, points=2 + 1.2)  # plus one Monte Carlo SE


def test_the_number_that_halves_an_interval_does(small_trials):
    now = planning.expect(REFERENCE, ADJUSTED, 14).half_width(0.95)
    n = planning.n_for_half_width(REFERENCE, ADJUSTED, 0.95, now / 2)
    assert n == 51
    larger = simulated(n, trials=60, seed=6)
    ratio = larger[ADJUSTED][:, 1].mean() / small_trials[ADJUSTED][:, 1].mean()
    assert ratio == pytest.approx(0.5, rel=0.05)  # Monte Carlo SE 1.6 %


# More people, fewer who leave, more reliable measures


def widths(scenarios, question=ADJUSTED, n=20) -> list[float]:
    return [planning.expect(scenario, question, n).half_width(0.95) for scenario in scenarios]


@pytest.mark.parametrize("question", ask(ESTIMANDS, SESSIONS), ids=lambda q: f"{q.estimand}-{q.session}")
def test_more_people_narrow_the_interval_and_raise_power(question):
    found = [planning.expect(REFERENCE, question, n) for n in range(8, 80)]
    assert (np.diff([item.half_width(0.95) for item in found]) < 0).all()
    assert (np.diff([item.power(0.8, 0.95) for item in found]) > 0).all()
    assert (np.diff([item.assurance(AIM) for item in found]) > 0).all()


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_dropout_widens_the_interval(estimand):
    shares = np.linspace(0, 0.6, 7)
    scenarios = [
        planning.Scenario(REFERENCE.covariance, (0, share / 4, share / 2, share)) for share in shares
    ]
    assert (np.diff(widths(scenarios, Question(estimand, 3, "4"))) > 0).all()


def test_a_reliable_baseline_narrows_what_uses_it_and_only_that():
    scenarios = [two_visits(r) for r in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert (np.diff(widths(scenarios)) < 0).all()
    assert (np.diff(widths(scenarios, Question("difference_of_change", 1, "2"))) < 0).all()
    np.testing.assert_allclose(
        np.diff(widths(scenarios, Question("difference_unadjusted", 1, "2"))), 0, atol=1e-9
    )


def test_the_fewest_people_are_found():
    for power in (0.8, 0.9):
        n = planning.n_for_power(REFERENCE, ADJUSTED, AIM, power)
        powers = [planning.expect(REFERENCE, ADJUSTED, m).power(0.8, 0.95) for m in (n - 1, n)]
        assert powers[0] < power <= powers[1]
    assert planning.n_for_power(REFERENCE, ADJUSTED, planning.Aim(1e-4, 0, 1), 0.8) is None


# What cannot be planned is said


def test_too_few_people_get_a_row_with_the_reason():
    table = planning.plan(REFERENCE, [ADJUSTED], AIM, range(4, 14), outcome="", unit="SD")
    assert (
        table["status"].tolist()[0]
        == "not reported: 2.7 per arm are expected at the last visit, 5 are needed"
    )
    assert table.loc[table["n_per_arm"] < 8, ["half_width", "power", "df"]].isna().all(axis=None)
    assert table.loc[table["n_per_arm"] >= 12, "status"].eq("ok").all()
    assert tuple(table.columns) == tuple(planning.DESCRIPTIONS)


def test_a_baseline_question_needs_a_baseline():
    with pytest.raises(NotEstimableError, match="no baseline before it"):
        planning.expect(planning.Scenario(np.eye(1), (0.0,)), Question("difference_adjusted", 0, "1"), 20)


@pytest.mark.parametrize(
    ("covariance", "missing", "message"),
    [
        (np.eye(2), (0.0,), "1 shares of missing people for 2 visits"),
        (np.array([[1, 1.2], [1.2, 1]]), (0.0, 0.1), "correlations between -1 and 1"),
        (np.eye(3), (0.0, 0.2, 0.1), "never fall"),
        (np.eye(2), (0.0, 1.0), "below 1"),
    ],
    ids=["visits", "correlation", "coming back", "everybody"],
)
def test_impossible_scenarios_are_refused(covariance, missing, message):
    with pytest.raises(ValueError, match=message):
        planning.Scenario(covariance, missing)


# From measures, without the arms


def test_spread_and_missing_visits_come_back_from_measures():
    truth = Truth(COVARIANCES["reference"], n_active=1000, n_control=1000)
    found = planning.scenario_without_arms(simulate_values(truth, trials=1, seed=1)[0])
    # Monte Carlo SE of a variance of 1,340 people .04, of a share .01
    np.testing.assert_allclose(found.covariance, COVARIANCES["reference"], atol=0.12)
    np.testing.assert_allclose(found.missing, MISSING, atol=0.03)


# The command


@pytest.fixture
def tables(tmp_path):
    """Measures and estimates of one simulated trial, as files."""
    truth = Truth(COVARIANCES["reference"], np.array([0.0, -0.8, -0.7, -0.5]))
    units = {AMYGDALA: "percent signal change"}
    measures, allocation = simulate_measures(truth, outcomes=units, scales=DEFAULT_SCALES, seed=1)
    group, sessions = group_from_tables(measures, allocation, active="ketamine", control="midazolam")
    estimates = frequentist.estimate(Asked(measures, allocation, group, sessions))
    write_table(tmp_path / "measures.tsv", measures[list(MEASURES)], MEASURES)
    questions.specs()["estimates"].write(tmp_path / "estimates.tsv", estimates)
    return tmp_path


def test_a_plan_of_a_study_file(tmp_path, capsys):
    out = tmp_path / "plan"
    assert main(["plan", str(out), "--config", str(CONFIG), "--difference-in-sd", "-0.8"]) == 0
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert f"{AMYGDALA} difference_adjusted at end of treatment" in told
    assert "true difference -0.32 percent signal change: 25 per arm for 80 % power" in told
    assert "33 per arm for 90 % power (expected 95 % interval ± 0.19)" in told
    table = read_table(out / "plan.tsv", numeric=["n_per_arm", "half_width", "power", "assurance", "df"])
    primary = table[(table["estimand"] == "difference_adjusted") & (table["session"] == "2")]
    assert primary["n_per_arm"].tolist() == list(range(8, 61))
    assert (primary.set_index("n_per_arm")["power"] >= 0.8).idxmax() == 25
    assert list(json.loads((out / "plan.json").read_text())) == list(table.columns)
    assumed = read_table(out / "assumptions.tsv", numeric=["value"])
    assert assumed.set_index("assumption")["value"]["prior sd"] == pytest.approx(0.16)
    assert (out / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert "people randomised to each arm" in (out / "plan.svg").read_text()


def test_a_plan_after_a_trial(tables, capsys):
    given = ["--measures", str(tables / "measures.tsv"), "--estimates", str(tables / "estimates.tsv")]
    assert main(["plan", str(tables / "out"), "--difference-in-sd", "0.8", *given]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "to halve the interval of difference_adjusted at session 2" in told[1]
    assert "if SD, correlations and missing visits stay as assumed" in told[1]
    halving = read_table(tables / "out" / "halving.tsv", numeric=["n_per_arm", "times", "half_width_found"])
    assert halving["status"].eq("ok").all()
    assert halving["times"].between(3, 4).all()  # four, less what few people cost besides
    sources = read_table(tables / "out" / "assumptions.tsv")
    assert (sources["source"] == "measures.tsv: 27 people, without their arms").sum() == 14


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--difference", "0"], "the difference of interest is 0. Fix"),
        (["--difference", "1", "--sd", "-2"], "--sd: -2 is not an SD"),
        (["--difference", "1", "--prior", "1", "-1"], "an SD cannot be negative"),
        (["--difference", "1", "--missing", "0.2", "0.1"], "never fall"),
        (["--difference", "1", "--n-per-arm", "9", "3"], "--n-per-arm: 9 to 3 is no range"),
        (["--difference", "1", "--session", "9"], "--session: '9' is not planned. Fix: give one of ['2'"),
        (
            ["--difference", "1", "--config", str(CONFIG), "--missing", "0.1"],
            "1 shares, the trial has 3 later",
        ),
        (["--difference", "1", "--config", str(CONFIG), "--outcome", "spleen"], "'spleen' is not known"),
        (["--difference", "1", "--measures", "{}/measures.tsv", "--sd", "2"], "not both"),
        (["--difference", "1", "--measures", "{}/measures.tsv", "--baseline", "7"], "'7' is not a session"),
        (["--difference", "1", "--estimates", "{}/measures.tsv"], "columns ['estimand'"),
        (
            ["--difference", "1", "--outcome", "x", "--estimates", "{}/estimates.tsv"],
            "no interval of method reml",
        ),
    ],
    ids=lambda value: value.split(":")[0][:25] if isinstance(value, str) else None,
)
def test_bad_arguments_give_one_line(tables, capsys, arguments, message):
    out = tables / "out"
    assert main(["plan", str(out), *(item.replace("{}", str(tables)) for item in arguments)]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_a_difference_is_asked_for(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "out"])
    assert "--difference" in capsys.readouterr().err
