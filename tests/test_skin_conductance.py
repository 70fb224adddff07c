"""Planted responses come back in ln µS; recordings that cannot be scored say why."""

import gzip

import numpy as np
import pandas as pd
import pytest

from reconfmri.body.skin_conductance import clean, response, score_recording
from reconfmri.config import SkinConductance, Task
from reconfmri.exclusions import DataFault

TASK = Task(conditions={"trauma": "trauma", "relax": "neutral"})
SETTINGS = SkinConductance(task="memory", conditions=["trauma_first", "trauma", "neutral"])
FS, LENGTH = 50.0, 240.0
EVENTS = pd.DataFrame(
    [(20.0, 24.0, "trauma"), (80.0, 24.0, "relax"), (140.0, 24.0, "trauma"), (200.0, 24.0, "relax")],
    columns=["onset", "duration", "trial_type"],
)
AMPLITUDES = {20.0: 2.0, 80.0: 0.3, 140.0: 1.0, 200.0: 0.2}
SIDECAR = {
    "SamplingFrequency": FS,
    "StartTime": 0.0,
    "Columns": ["trigger", "skin_conductance"],
    "skin_conductance": {"Units": "uS"},
}


def conductance(noise=0.005, start=0.0):
    """Level of 6 µS that falls slowly; responses begin 1.2 s after onset, rise in 0.7 s, decay in 4 s."""
    rng = np.random.default_rng(0)
    clock = start + np.arange(int((LENGTH - start) * FS)) / FS
    signal = 6 - 0.002 * clock + noise * rng.standard_normal(len(clock))
    fine = np.arange(0, 20, 0.001)
    height = (np.exp(-fine / 4) - np.exp(-fine / 0.7)).max()
    for onset, amplitude in AMPLITUDES.items():
        later = np.maximum(clock - onset - 1.2, 0)
        signal += amplitude * (np.exp(-later / 4) - np.exp(-later / 0.7)) / height
    return signal


def record(folder, samples, *, columns=2):
    path = folder / "sub-01_task-memory_physio.tsv.gz"
    cells = ["n/a" if np.isnan(value) else f"{value:.6f}" for value in samples]
    lines = "\n".join("\t".join(["0"] * (columns - 1) + [cell]) for cell in cells) + "\n"
    path.write_bytes(gzip.compress(lines.encode(), compresslevel=1))
    return path


def score(path, *, sidecar=SIDECAR, settings=SETTINGS, events=EVENTS):
    rows, faults = score_recording(path, events, sidecar=sidecar, task=TASK, settings=settings)
    return rows.set_index("outcome"), faults


def test_planted_responses_come_back_in_ln_microsiemens(tmp_path):
    rows, faults = score(record(tmp_path, conductance()))
    assert not faults
    assert rows["unit"].unique().tolist() == ["ln µS"]
    first, second = np.log1p(2.0), np.log1p(1.0)
    # The level falls 0.006 µS until the peak, and the highest of noisy samples lies 0.003 µS too high.
    assert rows["value"]["scr.trauma_first"] == pytest.approx(first, abs=0.01)
    assert rows["value"]["scr.trauma"] == pytest.approx((first + second) / 2, abs=0.01)
    assert rows["se"]["scr.trauma"] == pytest.approx(abs(first - second) / 2, abs=0.01)
    assert np.isnan(rows["se"]["scr.trauma_first"]), "one script has no spread"


@pytest.mark.parametrize("frequency", [6.0, 6.5, 25.0, 1000.0])
def test_the_filter_is_that_of_neurokit2(frequency):
    import neurokit2

    samples = np.random.default_rng(1).normal(5, 1, 3000).cumsum()
    theirs = neurokit2.eda_clean(samples, sampling_rate=frequency, method="neurokit")
    np.testing.assert_array_equal(clean(samples, frequency), theirs)


def test_the_phasic_part_alone_would_lose_a_tenth(tmp_path):
    import neurokit2

    samples = conductance(noise=0.0)
    phasic = neurokit2.eda_phasic(clean(samples, FS), sampling_rate=FS)["EDA_Phasic"].to_numpy()
    assert 0.8 < response(phasic, 20.0, FS, (0.0, 10.0)) / 2.0 < 0.95
    assert response(clean(samples, FS), 20.0, FS, (0.0, 10.0)) == pytest.approx(2.0, rel=0.01)


def test_a_recording_that_began_earlier_is_read_on_the_clock_of_the_scanner(tmp_path):
    rows, _ = score(record(tmp_path, conductance(start=-12.5)), sidecar=SIDECAR | {"StartTime": -12.5})
    assert rows["value"]["scr.trauma_first"] == pytest.approx(np.log1p(2.0), abs=0.01)


def test_units_are_read(tmp_path):
    siemens = SIDECAR | {"skin_conductance": {"Units": "mS"}}
    path = record(tmp_path, conductance() / 1000)
    assert score(path, sidecar=siemens)[0]["value"]["scr.trauma_first"] == pytest.approx(
        np.log1p(2.0), abs=0.01
    )


@pytest.mark.parametrize(
    ("samples", "sidecar", "says"),
    [
        (lambda s: np.full_like(s, 4.0), {}, "flat"),
        (lambda s: np.minimum(s, 5.8), {}, "saturated: .* at the top"),
        (lambda s: np.full_like(s, np.nan), {}, "every sample is missing"),
        (lambda s: s - 7, {}, "median conductance"),
        (lambda s: s, {"skin_conductance": {"Units": "S"}}, "more than 200 µS"),
        (lambda s: s, {"SamplingFrequency": 4.0}, "4 Hz, at least 10 Hz"),
        (lambda s: s, {"SamplingFrequency": None}, "no SamplingFrequency"),
        (lambda s: s, {"StartTime": None}, "no StartTime"),
        (lambda s: s, {"Columns": ["skin_conductance"]}, "2 columns, its JSON names 1"),
        (lambda s: s, {"Columns": ["trigger", "unknown"]}, "no column of skin conductance"),
        (lambda s: s, {"skin_conductance": {"Units": "V"}}, "unit of 'skin_conductance' is 'V'"),
    ],
    ids="flat saturated missing coupled siemens slow rate start columns column unit".split(),  # noqa: SIM905
)
def test_recordings_that_cannot_be_scored_say_why(tmp_path, samples, sidecar, says):
    path = record(tmp_path, samples(conductance()))
    metadata = {key: value for key, value in (SIDECAR | sidecar).items() if value is not None}
    with pytest.raises(DataFault, match=says) as caught:
        score(path, sidecar=metadata)
    assert caught.value.code == "E-DATA-B15"
    assert "sub-01_task-memory_physio.tsv.gz" in caught.value.line


@pytest.mark.parametrize("key", ["StartTime", "SamplingFrequency", "Columns", "skin_conductance"])
@pytest.mark.parametrize("value", [None, "n/a", "100 Hz", [100.0], {"a": 1}, True, float("nan"), 0.5j])
def test_a_sidecar_of_any_content_excludes_the_recording_and_never_fails(tmp_path, key, value):
    path = record(tmp_path, conductance())
    with pytest.raises(DataFault) as caught:
        score(path, sidecar=SIDECAR | {key: value if value != 0.5j else {"Units": ["uS"]}})
    assert caught.value.code == "E-DATA-B15"
    assert caught.value.fix


def test_a_broken_file_says_so(tmp_path):
    path = record(tmp_path, conductance())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataFault, match="unreadable"):
        score(path)
    path.write_bytes(gzip.compress(b"trigger\tskin_conductance\n0\t5.0\n"))
    with pytest.raises(DataFault, match="no header"):
        score(path)


def test_a_gap_takes_out_the_scripts_that_it_touches(tmp_path):
    samples = conductance()
    samples[int(138 * FS) : int(142 * FS)] = np.nan
    samples[int(60 * FS) : int(60.5 * FS)] = np.nan
    rows, faults = score(record(tmp_path, samples))
    assert rows["value"].isna().to_dict() == {
        "scr.trauma_first": False,
        "scr.trauma": True,
        "scr.neutral": False,
    }
    assert [(fault.region, fault.code) for fault in faults] == [("scr.trauma", "E-DATA-B15")]
    assert "138.0 to 142.0 s" in faults[0].line


@pytest.mark.parametrize(("end", "missing"), [(135.2, True), (134.8, False)])
def test_a_gap_until_five_seconds_before_a_script_leaves_its_score(tmp_path, end, missing):
    """Conductance that was interpolated within 5 s before the onset (140 s) would be part of the score."""
    samples = conductance()
    samples[int((end - 4) * FS) : int(end * FS)] = np.nan
    rows, _ = score(record(tmp_path, samples))
    assert rows["value"].isna()["scr.trauma"] == missing


def test_a_recording_shorter_than_the_task_misses_the_scripts_beyond_it(tmp_path):
    rows, faults = score(record(tmp_path, conductance()[: int(190 * FS)]))
    assert rows["value"].isna().to_dict() == {
        "scr.trauma_first": False,
        "scr.trauma": False,
        "scr.neutral": True,
    }
    assert "the recording lasts from 0.0 to 190.0 s" in faults[0].line


def test_real_recordings_are_scored(real_data):
    """Fourteen people saw twelve faces each (100 Hz, raw): scores are finite, and small next to the level."""
    files = sorted((real_data / "oxazepam_rct" / "FMOV").glob("*.txt.gz"))
    assert len(files) == 14
    for path in files:
        samples = pd.read_csv(path, sep="\t", header=None)[0].to_numpy(dtype=float)
        cleaned = clean(samples, 100.0)
        # The filter keeps the level and moves no sample by more than the noise of the recording.
        assert np.abs(cleaned - samples)[100:-100].max() < 0.5, path.name
        scores = [response(cleaned, onset, 100.0, (0.0, 10.0)) for onset in range(5, 240, 10)]
        assert np.isfinite(scores).all(), path.name
        assert 0 < max(scores) < samples.mean(), path.name
