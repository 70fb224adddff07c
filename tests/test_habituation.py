"""What the order of scripts can separate: exact variances, and slopes that were planted."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from reconfmri.config import FirstLevel, ScriptContrast, Task
from reconfmri.events import script_regressors
from reconfmri.exclusions import DataFault
from reconfmri.screening import _ordered
from reconfmri.signal.first_level import build_design, costs_of_order, fit_regions
from reconfmri.signal.habituation import cost_of, script_weights, scripts_of
from reconfmri.signal.single_scripts import SCRIPTS, single_scripts

ORDER = ["trauma", "neutral", "sad", "neutral", "trauma", "sad", "neutral", "trauma", "sad"]
DIFFERENCE = {"trauma": 1.0, "neutral": -1.0}
FIRST, REPETITION, POSITION = "first_in_run", "repetition", "position"
TASK = Task(conditions={name: name for name in ("trauma", "neutral", "sad")})
TR, N = 2.0, 300
EVENTS = pd.DataFrame({"onset": 10.0 + 62 * np.arange(9), "duration": 50.0, "trial_type": ORDER})
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


def asked(of="mean", habituation="none", adjust=(), weights=DIFFERENCE):
    return ScriptContrast(weights=weights, of=of, habituation=habituation, adjust=list(adjust))


@pytest.mark.parametrize(
    ("contrast", "expected"),
    [
        (asked(), 1.0),
        (asked(adjust=[FIRST]), 1.25),
        (asked(adjust=[FIRST, REPETITION]), 4 / 3),
        (asked(adjust=[FIRST, REPETITION, POSITION]), 3.375),
        (asked("first"), 3.0),
        (asked("first", "linear"), 2.5),
        (asked("first", "linear", [FIRST]), 8.75),
        (asked("change", "linear"), 1.5),
        (asked("change", "linear", [FIRST]), 3.75),
    ],
)
def test_the_order_of_the_reference_trial_decides_what_a_contrast_costs(contrast, expected):
    """Exact, of nine estimates of equal variance, relative to trauma - neutral of the plain means."""
    assert cost_of(scripts_of(ORDER), contrast).variance == pytest.approx(expected, rel=1e-9)


def test_traumas_own_first_and_the_first_of_the_run_are_one():
    contrast = asked("change", "first_vs_rest", [FIRST], {"trauma": 1.0})
    cost = cost_of(scripts_of(ORDER), contrast)
    assert (math.isinf(cost.variance), cost.rank, cost.terms) == (True, 6, 7)
    with pytest.raises(DataFault, match="not estimable: their order leaves rank 6 of 7 terms"):
        script_weights(scripts_of(ORDER), contrast)


def test_check_stops_before_compute_where_no_run_can_tell():
    settings = FirstLevel(
        task="memory",
        contrasts={"plain": DIFFERENCE},
        script_contrasts={
            "own": asked("change", "first_vs_rest", [FIRST], {"trauma": 1.0}),
            "dear": asked("first", "linear", [FIRST]),
            "cheap": asked(adjust=[FIRST]),
        },
    )
    problems = {problem.code: problem.what for problem in _ordered(settings, TASK, {"x": EVENTS, "y": None})}
    assert set(problems) == {"E-STAT-E02", "W-STAT-E06"}
    assert "script_contrasts.own is not estimable in 1 of 1" in problems["E-STAT-E02"]
    assert "8.75 times the variance" in problems["W-STAT-E06"]


def design(contrasts, nuisance, script_contrasts=None):
    settings = FirstLevel(
        task="memory",
        contrasts=contrasts,
        script_contrasts=script_contrasts or {},
        confounds=["motion6"],
        high_pass=0.002,
    )
    built = build_design(EVENTS, nuisance, tr=TR, n_volumes=N, task=TASK, settings=settings)
    return settings, built


@pytest.fixture
def nuisance():
    return pd.DataFrame(np.random.default_rng(1).normal(size=(N, 6)), columns=MOTION)


def test_slopes_and_the_first_script_are_recovered_when_both_are_there(nuisance):
    """Trauma falls by .3 a repetition, neutral by .1, and the very first script has .8 more: 200 runs."""
    rng, n = np.random.default_rng(0), 200
    heights = np.array([1.8 + 0.8, 0.6, 0.8, 0.5, 1.5, 0.8, 0.4, 1.2, 0.8])
    contrasts = {
        "fall": asked("change", "linear", [FIRST]),
        "start": asked("first", "linear", [FIRST]),
        "mean": asked("mean", "linear", [FIRST]),
    }
    settings, built = design({"plain": DIFFERENCE}, nuisance, contrasts)
    answers = script_regressors(EVENTS, tr=TR, n_volumes=N, task=TASK).to_numpy()
    series = 500 * (1 + (answers @ heights)[:, None] / 100 + 0.01 * rng.normal(size=(N, n)))
    signals = pd.DataFrame(series, columns=[f"r{k}" for k in range(n)])
    rows, faults = fit_regions(signals, built, contrasts=settings.every_contrast, task=TASK)
    assert not faults
    rows["contrast"] = rows["outcome"].str.partition(".")[2]
    for name, truth in {"fall": -0.2, "start": 1.2, "mean": 1.0}.items():
        found = rows[rows["contrast"] == name]
        error = found["value"].std() / np.sqrt(n)
        assert found["value"].mean() == pytest.approx(truth, abs=4 * error), name
        covered = (np.abs(found["value"] - truth) < 1.97 * found["se"]).mean()
        assert 0.9 < covered < 0.99, name  # 200 runs: 3 Monte Carlo SE around 95 %


def test_what_contrasts_of_a_design_cost_is_said_of_plain_ones_too(nuisance):
    contrasts = {
        "published": {"trauma_first": 1.0, "neutral_first": -1.0},
        "within": {"trauma_1": 1.0, "trauma_2": -1.0},
    }
    settings, built = design(contrasts, nuisance, {"order": asked(adjust=[FIRST])})
    costs = costs_of_order(list(built.columns), TASK, settings)
    assert {name: round(cost.variance, 6) for name, cost in costs.items()} == {
        "published": 3.0,
        "order": 1.25,
    }


def test_single_scripts_equal_plain_least_squares(nuisance):
    """LSA and LSS by numpy's own solver; white noise, so that both are ordinary least squares."""
    rng = np.random.default_rng(2)
    _, built = design({"plain": DIFFERENCE}, nuisance)
    answers = script_regressors(EVENTS, tr=TR, n_volumes=N, task=TASK).to_numpy()
    heights = rng.normal(1, 0.5, 9)
    series = 500 * (1 + answers @ heights / 100 + 0.002 * rng.normal(size=N))
    table = single_scripts(pd.DataFrame({"a": series}), built, EVENTS, tr=TR, task=TASK, noise="ols")
    SCRIPTS.check(table, "scripts")
    assert table["condition"].tolist() == ORDER
    assert table["repetition"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    beside = built.iloc[:, 9:].to_numpy()
    beta = np.linalg.lstsq(np.hstack([answers, beside]), series, rcond=None)[0]
    np.testing.assert_allclose(table["lsa"], 100 * beta[:9] / beta[-1], rtol=1e-8)
    of = np.array(ORDER)
    for k in range(9):
        sums = [answers[:, (of == name) & (np.arange(9) != k)].sum(axis=1) for name in dict.fromkeys(ORDER)]
        beta = np.linalg.lstsq(np.column_stack([answers[:, k], *sums, beside]), series, rcond=None)[0]
        assert table["lss"][k] == pytest.approx(100 * beta[0] / beta[-1], rel=1e-8)
    np.testing.assert_allclose(table["lsa"], heights, atol=5 * table["lsa_se"].max())


def test_a_condition_of_two_events_or_of_one_is_separated_too(nuisance):
    """LSS: the other event of a condition stands beside the one, and nothing where there is no other."""
    rng = np.random.default_rng(3)
    _, built = design({"plain": DIFFERENCE}, nuisance)
    few = EVENTS.iloc[:4].reset_index(drop=True)
    conditions = ORDER[:4]
    assert sorted(conditions.count(name) for name in set(conditions)) == [1, 1, 2]
    answers = script_regressors(few, tr=TR, n_volumes=N, task=TASK)
    beside = built.iloc[:, 9:]
    series = 500 * (1 + answers.to_numpy() @ [1.0, 0.5, 0.2, 0.8] / 100 + 0.002 * rng.normal(size=N))
    own = pd.concat([answers, beside.set_axis(answers.index)], axis=1)
    table = single_scripts(pd.DataFrame({"a": series}), own, few, tr=TR, task=TASK, noise="ols")
    of = np.array(conditions)
    for k in range(4):
        others = [(of == name) & (np.arange(4) != k) for name in dict.fromkeys(conditions)]
        sums = [answers.to_numpy()[:, other].sum(axis=1) for other in others if other.any()]
        matrix = np.column_stack([answers.to_numpy()[:, k], *sums, beside.to_numpy()])
        beta = np.linalg.lstsq(matrix, series, rcond=None)[0]
        assert table["lss"][k] == pytest.approx(100 * beta[0] / beta[-1], rel=1e-8)
