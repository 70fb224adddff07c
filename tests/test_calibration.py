"""`reconfmri group --calibrate`: trials like this one, through the path that answers this one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reconfmri import group as group_room
from reconfmri.cli import build_parser
from reconfmri.config import DEFAULT_SCALES, Group
from reconfmri.group import calibration, frequentist
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import primary_question
from reconfmri.group.grid import lay_out
from reconfmri.report.results import calibration_rows
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures

NAMES, SESSIONS = {"amygdala.x": "percent signal change", "other.x": "Fisher z"}, ["1", "2", "3", "4"]
TRUTH = Truth(COVARIANCES["growing"], np.array([0.0, -1.0, -0.8, -0.6]), missing=np.array([0, 0.1, 0.2, 0.3]))


@pytest.fixture(scope="module")
def tables():
    return simulate_measures(TRUTH, outcomes=NAMES, scales=DEFAULT_SCALES, seed=6)


def make_group(**more) -> Group:
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": list(NAMES),
        "families": {"both": list(NAMES)},
        "primary": {"outcome": "amygdala.x", "session": "3"},
        "permutations": 200,
        "covariance": "unstructured",
    }
    return Group.from_params(settings | more)


def test_trials_have_the_means_covariance_and_dropout_that_were_found(tables):
    """800 draws: moments within 5 Monte Carlo errors of REML's, dropout within .06 of the observed."""
    group = make_group()
    outcome = lay_out(*tables, group, SESSIONS)[0]
    question = primary_question(group.primary, SESSIONS)
    source = calibration.fit_source(outcome, question, group)
    fit = frequentist.answer_by_reml(outcome, question, group)[0]
    assert calibration.true_difference(source, outcome, question) == pytest.approx(fit.estimate, abs=1e-9)
    random = np.random.default_rng(1)
    full = replace(source, log_odds=np.full((2, 4), -50.0), slope=0.0, gaps=np.zeros((2, 4)))
    drawn = np.stack([calibration.draw_trial(full, outcome, random, null=False) for _ in range(800)])
    assert np.abs(drawn.mean(axis=0) - source.means).max() < 5 * (source.covariance.max() / 800) ** 0.5
    away = (drawn - source.means).reshape(-1, 4)
    assert away.T @ away / len(away) == pytest.approx(source.covariance, rel=0.05, abs=0.003)
    null = np.stack([calibration.draw_trial(full, outcome, random, null=True) for _ in range(800)])
    gap = null[:, outcome.active].mean(axis=(0, 1)) - null[:, ~outcome.active].mean(axis=(0, 1))
    assert np.abs(gap).max() < 0.03
    lost = np.isnan(
        np.stack([calibration.draw_trial(source, outcome, random, null=False) for _ in range(800)])
    )
    assert np.abs(lost.mean(axis=(0, 1)) - (~outcome.seen).mean(axis=0)).max() < 0.06


def test_dropout_by_the_last_value_is_found():
    """400 people of whom those with high values leave: the slope is near the planted 1.5."""
    random = np.random.default_rng(3)
    truth = replace(TRUTH, n_active=200, n_control=200, missing=np.zeros(4))
    measures, allocation = simulate_measures(truth, outcomes=NAMES, scales=DEFAULT_SCALES, seed=2)
    outcome = lay_out(measures, allocation, make_group(), SESSIONS)[0]
    values, gone = outcome.values.copy(), np.zeros(400, bool)
    for visit in range(1, 4):
        odds = -2 + 1.5 * calibration.last_scores(outcome.values, visit)
        gone |= random.random(400) < 1 / (1 + np.exp(-odds))
        values[gone, visit] = np.nan
    _, slope, gaps = calibration.fit_dropout(replace(outcome, values=values))
    assert slope == pytest.approx(1.5, abs=0.4)
    assert gaps.max() == 0


@pytest.fixture
def spied(monkeypatch):
    """What `calibrate` hands to `group.answer`."""
    calls = []

    def answer(*given, **more):
        calls.append((given, more))
        return group_room.answer(*given, **more)

    monkeypatch.setattr(calibration, "answer", answer)
    return calls


def test_the_path_of_the_report_answers_each_trial_and_seeds_repeat(tables, spied):
    given = *tables, make_group(), SESSIONS
    found = calibration.calibrate(Asked(*given, seed=4), trials=20, seconds=1e-6)
    assert found["status"].str.match("not reported: no trial was analysed in 1e-06 s").all()
    assert spied == []  # no time, no trial
    tables_made = []
    for _ in range(2):
        table = calibration._run(_given(Asked(*given, seed=4)), calibration.QUICK, 6, np.inf)
        tables_made.append(pd.DataFrame(table))
    pd.testing.assert_frame_equal(*tables_made)
    assert len(spied) == 24
    (simulated,), more = spied[0]
    assert more["engines"] == calibration.QUICK
    assert simulated.group.outcomes == ["amygdala.x"]
    assert set(simulated.measures["outcome"]) == {"amygdala.x"}
    assert simulated.sessions == SESSIONS
    assert simulated.allocation is given[1]


def _given(asked):
    only = replace(asked, group=calibration.of_primary(asked.group))
    outcome = only.outcomes[0]
    source = calibration.fit_source(outcome, primary_question(asked.group.primary, SESSIONS), asked.group)
    return only, outcome, source, asked.measures.iloc[:0]


def test_a_withheld_answer_counts_as_a_miss_and_an_honest_interval_covers():
    """Made-up answers: 100 trials of each kind, known shares."""
    n = 100
    rows = pd.DataFrame({"method": "reml", "null": [False] * n + [True] * n, "estimate": 0.0, "p": 0.5,
                         "lower": -1.0, "upper": 1.0, "status": "ok", "reported": True})  # fmt: skip
    rows.loc[:9, ["lower", "upper", "estimate"]] = np.nan
    rows.loc[:9, "status"], rows.loc[:9, "reported"] = "not reported: did not converge", False
    rows.loc[10:14, "lower"] = 0.8  # these miss 0.5
    rows.loc[100:106, "lower"] = 0.1
    rows.loc[20:29, "status"] = "ok, random intercept"
    (row,) = calibration.summarise(rows, 0.5, {"level": 0.95}).to_dict("records")
    assert (row["coverage"], row["n_trials"]) == (0.85, 100)
    assert row["coverage_error"] == pytest.approx((0.85 * 0.15 / 100) ** 0.5)
    assert (row["type_1_error"], row["n_withheld"], row["n_labelled"]) == (0.07, 10, 10)


def test_what_cannot_be_answered_cannot_be_calibrated(tables):
    measures, allocation = tables
    found = calibration.calibrate(
        Asked(measures.assign(value=1.0), allocation, make_group(), SESSIONS, seed=1), trials=20
    )
    assert len(found) == 1
    assert found["status"].iloc[0].startswith("not reported: the values do not vary within the arms")


def test_the_page_shows_shares_with_their_monte_carlo_errors():
    row = {"method": "reml", "status": "ok", "reported": True,
           "coverage": 0.945, "coverage_error": 0.016, "n_trials": 200,
           "type_1_error": np.nan, "type_1_error_error": np.nan, "n_null_trials": 0, "bias": -0.0004,
           "n_withheld": 1, "n_labelled": 3}  # fmt: skip
    (shown,) = calibration_rows(pd.DataFrame([row]))
    assert (shown["name"], shown["coverage"], shown["error"]) == ("REML", "94.5 % ± 1.6", "–")
    assert shown["bias"] == "−0.00040"


@pytest.mark.parametrize(
    "wrong", [["--calibrate", "5"], ["--calibrate", "many"], ["--calibrate-minutes", "0"]]
)
def test_too_few_trials_or_no_time_is_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["group", "m.tsv", "a.tsv", "out", *wrong])
    assert "is not a" in capsys.readouterr().err
    assert build_parser().parse_args(["group", "m.tsv", "a.tsv", "out", "--calibrate"]).calibrate == 200
