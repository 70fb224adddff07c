"""Planted heart rate, its variability, breathing and EMG come back per script; false beats are left out."""

import gzip

import numpy as np
import pandas as pd
import pytest

from reconfmri.body.heart_rate import find_beats, rmssd
from reconfmri.body.physiology import score_physiology
from reconfmri.body.recordings import Recording
from reconfmri.channels import choose_recording, describe_recording
from reconfmri.config import Physiology, Task
from reconfmri.exclusions import DataFault

RATE, SECONDS = 250.0, 300.0
EVENTS = pd.DataFrame(
    [(30.0, 60.0, "trauma"), (120.0, 60.0, "relax"), (210.0, 60.0, "trauma")],
    columns=["onset", "duration", "trial_type"],
)
BPM = {30.0: 84.0, 120.0: 66.0, 210.0: 78.0}  # else 70
TASK = Task(conditions={"trauma": "trauma", "relax": "neutral"})
JITTER = 0.02  # s, SD of each interval: RMSSD = 0.02 x sqrt(2) = 28 ms


def settings(**parts):
    return Physiology(task="memory", conditions=["trauma", "neutral"], baseline=10.0, **parts)


def planted_beats(rng):
    """When beats are, s: independent intervals around the planted rate."""
    times, now = [], 0.3
    while now < SECONDS:
        times.append(now)
        here = next((bpm for onset, bpm in BPM.items() if onset <= now < onset + 60), 70.0)
        now += 60 / here + rng.normal(0, JITTER)
    return np.array(times)


def ecg(rng, beats):
    clock = np.arange(int(SECONDS * RATE)) / RATE
    waves = (
        (-0.2, 0.1, 0.025),
        (-0.025, -0.1, 0.01),
        (0.0, 1.0, 0.011),
        (0.03, -0.2, 0.01),
        (0.25, 0.3, 0.05),
    )
    signal = rng.normal(0, 0.03, len(clock)) + 0.1 * np.sin(2 * np.pi * 0.25 * clock)
    for beat in beats:
        near = slice(max(int((beat - 0.6) * RATE), 0), int((beat + 0.6) * RATE))
        for delay, height, width in waves:
            signal[near] += height * np.exp(-((clock[near] - beat - delay) ** 2) / (2 * width**2))
    return signal


def pulse(rng, beats):
    clock = np.arange(int(SECONDS * RATE)) / RATE
    signal = rng.normal(0, 0.01, len(clock))
    for beat in beats:
        near = slice(int(beat * RATE), int((beat + 1.2) * RATE))
        since = clock[near] - beat
        signal[near] += np.exp(-((since - 0.25) ** 2) / 0.01) + 0.3 * np.exp(-((since - 0.5) ** 2) / 0.01)
    return signal


def recorded(tmp_path, columns, name="sub-01_task-memory_physio.tsv.gz", frequency=RATE, **units):
    path = tmp_path / name
    lines = "\n".join(
        "\t".join(f"{value:.5f}" for value in row) for row in zip(*columns.values(), strict=True)
    )
    path.write_bytes(gzip.compress((lines + "\n").encode(), compresslevel=1))
    sidecar = {"SamplingFrequency": frequency, "StartTime": 0, "Columns": list(columns)}
    return path, sidecar | {column: {"Units": unit} for column, unit in units.items()}


def scored(paths, sidecars, asked):
    return score_physiology(paths, EVENTS, sidecars=sidecars, task=TASK, settings=asked)


@pytest.mark.parametrize(("source", "make"), [("ecg", ecg), ("pulse", pulse)])
def test_planted_rate_and_variability_come_back(tmp_path, source, make):
    rng = np.random.default_rng(1)
    path, sidecar = recorded(tmp_path, {"cardiac": make(rng, planted_beats(rng))})
    found = scored([path], [sidecar], settings(heart_rate={"source": source}))
    assert not [fault for fault in found.faults if fault.code.startswith("E")]
    value = found.rows.set_index("outcome")["value"]
    assert value["hr.trauma"] == pytest.approx((84 + 78) / 2, abs=0.7)
    assert value["hr.neutral"] == pytest.approx(66, abs=0.7)
    assert value["hr_change.trauma"] == pytest.approx((np.sqrt(14) + np.sqrt(8)) / 2, abs=0.35)
    assert value["hr_change.neutral"] == pytest.approx(-np.sqrt(4), abs=0.5)
    assert value["rmssd.trauma"] == pytest.approx(1000 * JITTER * np.sqrt(2), rel=0.2)


def test_bursts_and_lost_beats_are_left_out_and_counted(tmp_path):
    """Ten seconds of a loose electrode and five lost beats: the rate stays, the lost seconds are stated."""
    rng = np.random.default_rng(2)
    beats = planted_beats(rng)
    signal = ecg(rng, np.delete(beats, [40, 55, 160, 161, 300]))
    signal[int(60 * RATE) : int(70 * RATE)] = rng.normal(0, 2, int(10 * RATE))
    path, sidecar = recorded(tmp_path, {"ECG": signal})
    found = scored([path], [sidecar], settings(heart_rate={}))
    value = found.rows.set_index("outcome")
    assert value["value"]["hr.trauma"] == pytest.approx(81, abs=1.0)
    assert value["value"]["rmssd.trauma"] == pytest.approx(28, rel=0.3)
    first = found.scripts[(found.scripts["onset"] == 30) & (found.scripts["outcome"] == "hr.trauma")].iloc[0]
    assert 40 < first["seconds_used"] < 51
    assert [fault.code for fault in found.faults] == ["W-DATA-B15"]


def test_variability_never_spans_what_was_left_out():
    beats = find_beats(
        Recording(ecg(np.random.default_rng(3), np.arange(0.3, SECONDS, 0.8)), RATE, 0.0, "x"), "ecg"
    )
    assert rmssd(beats, 10, 70) < 3  # a metronome, but for the sampling
    assert np.isnan(rmssd(beats, 10, 13))


def test_breaths_and_emg_come_back_from_recordings_of_their_own(tmp_path):
    rng = np.random.default_rng(4)
    clock = np.arange(int(SECONDS * 50)) / 50
    breath = np.where((clock >= 30) & (clock < 90) | (clock >= 210) & (clock < 270), 18, 12) / 60
    belt = np.sin(2 * np.pi * np.cumsum(breath) / 50) + rng.normal(0, 0.05, len(clock))
    fast = np.arange(int(SECONDS * 1000)) / 1000
    strength = 4.0 + 6.0 * ((fast >= 30) & (fast < 90)) + 6.0 * ((fast >= 210) & (fast < 270))
    muscle = strength * rng.normal(0, 1, len(fast))
    one = recorded(tmp_path, {"respiratory": belt}, "sub-01_task-memory_recording-belt_physio.tsv.gz", 50.0)
    name = "sub-01_task-memory_recording-emg_physio.tsv.gz"
    columns = {"corrugator": muscle / 1000, "trigger": fast * 0}
    other = recorded(tmp_path, columns, name, 1000.0, corrugator="mV")
    found = scored([one[0], other[0]], [one[1], other[1]], settings(respiration={}, emg={}))
    assert [fault.code for fault in found.faults if fault.code.startswith("E")] == []
    value = found.rows.set_index("outcome")["value"]
    assert value["resp.trauma"] == pytest.approx(18, abs=0.5)
    assert value["resp.neutral"] == pytest.approx(12, abs=0.5)
    # White noise keeps sqrt(430 / 500) of its size in the band; rectified: sqrt(2 / pi) of it.
    expected = np.sqrt(6 * np.sqrt(430 / 500) * np.sqrt(2 / np.pi))
    assert value["emg_change.trauma"] == pytest.approx(expected, rel=0.03)
    assert value["emg_change.neutral"] == pytest.approx(0, abs=0.5)


def test_a_channel_that_is_missing_or_flat_leaves_the_others_alone(tmp_path):
    rng = np.random.default_rng(5)
    beats = ecg(rng, planted_beats(rng))
    path, sidecar = recorded(tmp_path, {"cardiac": beats, "respiratory": np.zeros(len(beats))})
    found = scored([path], [sidecar], settings(heart_rate={}, respiration={}, emg={}))
    value = found.rows.set_index("outcome")["value"]
    assert value["hr.trauma"] == pytest.approx(81, abs=0.7)
    assert value[["resp.trauma", "emg_change.trauma"]].isna().all()
    reasons = {fault.region: fault.reason for fault in found.faults}
    assert "it is flat" in reasons["resp.neutral"]
    assert "no column of EMG" in reasons["emg_change.trauma"]


@pytest.mark.parametrize(
    ("columns", "asked", "says"),
    [
        (["time", "ECG100C", "cardiac"], None, None),
        (["ecg", "ppg"], None, "could each be the heart"),
        (["ecg", "ppg"], "ppg", None),
        (["x"], "ppg", "no column 'ppg'"),
        ([], None, "no column of heart"),
    ],
)
def test_a_channel_is_found_by_its_name_or_declared(columns, asked, says):
    sidecar = {"SamplingFrequency": 100, "StartTime": -3.5, "Columns": columns}
    if says is None:
        found = describe_recording(sidecar, "cardiac", "x", column=asked)
        assert (found.column, found.start) == (asked or "cardiac", -3.5)
        return
    with pytest.raises(DataFault, match=says):
        describe_recording(sidecar, "cardiac", "x", column=asked)


def test_skin_conductance_is_found_by_its_unit_where_no_name_says_it(tmp_path):
    sidecar = {"Columns": ["CH1", "CH2"], "CH1": {"Units": "mV"}, "CH2": {"Units": "microsiemens"}}
    other = {"Columns": ["CH1"], "CH1": {"Units": "mV"}}
    paths = [tmp_path / "a", tmp_path / "b"]
    assert choose_recording(paths, [other, sidecar], "skin_conductance", None)[0] == paths[1]
    with pytest.raises(DataFault, match="a and b both have the skin conductance"):
        choose_recording(paths, [sidecar, sidecar], "skin_conductance", None)
