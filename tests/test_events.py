"""Events are checked and named; the predicted responses are those of the field's convolution."""

import numpy as np
import pandas as pd
import pytest

from reconfmri.config import Task
from reconfmri.events import (
    cut_windows,
    event_response,
    events_of,
    name_events,
    read_events,
    script_regressors,
)
from reconfmri.exclusions import DataFault

TASK = Task(conditions={"trauma": "trauma", "relax": "neutral"}, ignore=["rating"])
TR, N = 2.0, 120


def events(*rows):
    return pd.DataFrame(rows, columns=["onset", "duration", "trial_type"]).astype(
        {"onset": float, "duration": float}
    )


GOOD = events(
    (100, 24, "relax"), (10, 24, "trauma"), (60, 24, "trauma"), (150, 3, "rating"), (170, 24, "relax")
)


def test_events_are_numbered_by_onset_within_their_condition():
    named = name_events(GOOD, TASK, duration=240)
    assert named["name"].tolist() == ["trauma_1", "trauma_2", "neutral_1", "neutral_2"]
    assert events_of(named, "trauma_first")["onset"].tolist() == [10]
    assert events_of(named, "trauma")["onset"].tolist() == [10, 60]
    assert events_of(named, "neutral_2")["onset"].tolist() == [170]


def test_a_volume_aligned_to_a_later_moment_has_the_response_of_that_moment():
    fine = script_regressors(GOOD, tr=0.5, n_volumes=4 * N, task=TASK)
    late = script_regressors(GOOD, tr=TR, n_volumes=N, task=TASK, start=0.5)
    np.testing.assert_allclose(late.to_numpy(), fine.to_numpy()[1::4], atol=1e-12)


@pytest.mark.parametrize("hrf", ["glover", "spm"])
@pytest.mark.parametrize("duration", [0.0, 2.0, 24.0, 120.0])
def test_responses_agree_with_the_convolution_of_nilearn(hrf, duration):
    from nilearn.glm.first_level import compute_regressor

    times = 0.5 * np.arange(500)
    theirs = compute_regressor((np.array([20.0]), np.array([duration]), np.ones(1)), hrf, times)[0][:, 0]
    ours = event_response(times - 20.0, duration, hrf)
    # nilearn samples its kernel at TR / 50 and delays it by one such step, 0.01 s: up to 1 % at the flanks.
    assert np.abs(ours / ours.max() - theirs / theirs.max()).max() < 0.01


def test_a_whole_event_peaks_at_one():
    table = script_regressors(GOOD, tr=0.1, n_volumes=2400, task=TASK)
    assert table.shape == (2400, 4)
    # Sampled every 0.1 s the highest sample is within 1e-4 of the peak.
    np.testing.assert_allclose(table.max(), 1.0, atol=1e-4)


def test_one_regressor_per_condition_is_scaled_to_one_event_of_median_duration():
    task = TASK.model_copy(update={"events": "condition"})
    short = events(
        (10, 1, "trauma"), (12, 1, "trauma"), (14, 1, "trauma"), (100, 1, "relax"), (150, 8, "rating")
    )
    table = script_regressors(short, tr=0.1, n_volumes=2400, task=task)
    assert table.columns.tolist() == ["trauma", "neutral"]
    assert table["neutral"].max() == pytest.approx(1, abs=1e-4)
    assert table["trauma"].max() > 2, "three events within 5 s add up"


@pytest.mark.parametrize("shape", ["glover", "spm"])
def test_derivatives_in_time_and_width_are_those_of_nilearn(shape):
    """nilearn convolves in steps of 1/16 of a volume, and makes each column orthogonal to those before."""
    from nilearn.glm.first_level.hemodynamic_models import compute_regressor

    at = 1.0 * np.arange(120)
    table = script_regressors(
        pd.DataFrame([(10.0, 20.0, "trauma")], columns=["onset", "duration", "trial_type"]),
        tr=1.0, n_volumes=120, task=TASK, hrf=f"{shape} + derivative + dispersion",
    )  # fmt: skip
    assert table.columns.tolist() == ["trauma_1", "trauma_1_derivative", "trauma_1_dispersion"]
    theirs, _ = compute_regressor(
        np.array([[10.0], [20.0], [1.0]]), f"{shape} + derivative + dispersion", at, oversampling=16
    )
    for place, name in enumerate(table):
        assert np.corrcoef(table[name], theirs[:, place])[0, 1] > 0.995, name


def test_derivatives_follow_their_regressor_and_are_orthogonal_to_it():
    table = script_regressors(GOOD, tr=TR, n_volumes=N, task=TASK, hrf="glover + derivative")
    assert table.columns[:2].tolist() == ["trauma_1", "trauma_1_derivative"]
    assert table["trauma_1"] @ table["trauma_1_derivative"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (events((10, 24, "trauma"), (400, 24, "relax")), "beyond the end of the run"),
        (events((10_000, 24, "trauma"), (60_000, 24, "relax")), "looks like milliseconds"),
        (events((10, 24_000, "trauma"), (60, 24_000, "relax")), "looks like milliseconds"),
        (events((-5, 24, "trauma")), "negative"),
        (events((5, -24, "trauma")), "negative"),
        (events((5, np.nan, "trauma")), "missing"),
        (events((np.nan, 24, "trauma")), "missing"),
        (events((10, 24, "trauma"), (10, 24, "trauma")), "twice"),
        (events((10, 24, "traumma")), "not in the study file"),
        (events((10, 24, "rating")), "no event of the trial types"),
    ],
    ids=[
        "late",
        "ms",
        "ms_lengths",
        "early",
        "negative",
        "no_length",
        "no_onset",
        "twice",
        "unknown",
        "none",
    ],
)
def test_events_that_cannot_be_take_the_run_out(broken, says):
    with pytest.raises(DataFault, match=says) as caught:
        name_events(broken, TASK, duration=240)
    assert caught.value.code == "E-DATA-B13"


def test_a_file_without_the_columns_names_itself(tmp_path):
    path = tmp_path / "sub-01_task-memory_events.tsv"
    path.write_text("onset\ttrial_type\n1\ttrauma\n", encoding="utf-8")
    with pytest.raises(DataFault, match=r"sub-01_task-memory_events\.tsv: columns \['duration'\]") as caught:
        read_events(path)
    assert caught.value.code == "E-DATA-B14"
    path.write_text("onset\tduration\ttrial_type\n", encoding="utf-8")
    with pytest.raises(DataFault, match="no event"):
        read_events(path)


def test_windows_cut_events_and_leave_the_rest_to_the_condition():
    task = Task(
        conditions={"trauma": "trauma", "relax": "neutral"},
        windows={
            "trauma_early": {"condition": "trauma", "end": 60.0},
            "trauma_late": {"condition": "trauma", "start": 90.0},
            "neutral_early": {"condition": "neutral", "start": 0.0, "end": 60.0},
        },
    )
    rows = [(16.0, 122.2, "trauma"), (143.2, 45.0, "relax"), (263.4, 80.0, "trauma")]
    cut, named = cut_windows(pd.DataFrame(rows, columns=["onset", "duration", "trial_type"]), task)
    assert [(round(o, 1), round(d, 1), kind) for o, d, kind in cut.itertuples(index=False)] == [
        (16.0, 60.0, "trauma_early"),
        (76.0, 30.0, "trauma"),
        (106.0, 32.2, "trauma_late"),
        (143.2, 45.0, "neutral_early"),
        (263.4, 60.0, "trauma_early"),
        (323.4, 20.0, "trauma"),
    ]
    table = name_events(cut, named, duration=400.0)
    assert table["name"].tolist()[:3] == ["trauma_early_1", "trauma_1", "trauma_late_1"]
    assert events_of(table, "trauma_early_first")["onset"].tolist() == [16.0]
    # the boxes of the pieces add up to that of the whole
    whole = event_response(np.arange(0.0, 200.0, 2.0), 122.2, "glover")
    pieces = [(0, 60), (60, 30), (90, 32.2)]
    total = sum(event_response(np.arange(0.0, 200.0, 2.0) - at, length, "glover") for at, length in pieces)
    np.testing.assert_allclose(total, whole, atol=1e-12)


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ({"trauma": {"condition": "trauma"}}, "is a condition already"),
        ({"early": {"condition": "sad"}}, "does not exist"),
        ({"early": {"condition": "trauma", "start": 60.0, "end": 60.0}}, "ends at 60 s and starts at 60 s"),
        ({"a": {"condition": "trauma"}, "b": {"condition": "trauma", "start": 30.0}}, "overlap"),
    ],
)
def test_windows_that_cannot_be_are_refused(windows, words):
    with pytest.raises(ValueError, match=words):
        Task(conditions={"trauma": "trauma"}, windows=windows)
