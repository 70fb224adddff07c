"""Planted responses and levels are found again in simulated recordings, which share nothing with the scorer.

Responses are differences of exponentials (rise 0.5-0.9 s, decay 2-5 s) of 0.1 to 2 µS, 8 a minute, 1.5 s or
more apart: they overlap. SNR: variance of the responses over that of white noise at the recording's rate.
"""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from scipy import signal
from tests.validate import skin

from reconfmri.body.artefacts import find_artefacts
from reconfmri.body.response_models import (
    canonical_response,
    find_fluctuations,
    fluctuation,
    response_heights,
)
from reconfmri.body.responses import find_responses
from reconfmri.body.skin_conductance import (
    area,
    clean,
    prepare,
    score_scripts,
)
from reconfmri.config import Artefacts, SkinConductance, Task

SECONDS = 600.0
SCRIPTS = pd.DataFrame(
    [(20.0 + 140 * n, 120.0, ("trauma", "relax")[n % 2]) for n in range(4)],
    columns=["onset", "duration", "trial_type"],
)
TASK = Task(conditions={"trauma": "trauma", "relax": "neutral"})
SETTINGS = SkinConductance(
    task="memory", conditions=["trauma", "neutral"], scores=["level", "count", "area", "peak"]
)
CHANGE = {"trauma": 0.9, "relax": 0.4}  # µS


def bateman(times, rise, decay):
    later = np.maximum(times, 0)
    shape = np.exp(-later / decay) - np.exp(-later / rise)
    peak = np.log(decay / rise) / (1 / rise - 1 / decay)
    return shape / (np.exp(-peak / decay) - np.exp(-peak / rise))


def plant(rng, frequency, snr, *, artefacts):
    """Clock, recording and the same without noise and artefacts, µS."""
    clock = np.arange(round(SECONDS * frequency)) / frequency
    rise, decay = rng.uniform(0.5, 0.9), rng.uniform(2, 5)
    phasic = np.zeros(len(clock))
    onset = 3.0
    while (onset := onset + 1.5 + rng.exponential(6.0)) < SECONDS - 8:
        phasic += np.exp(rng.normal(np.log(0.3), 0.5)).clip(0.1, 2) * bateman(clock - onset, rise, decay)
    level = rng.uniform(3, 12) + 0.3 * np.sin(2 * np.pi * clock / 400 + rng.uniform(0, 6))
    for start, length, kind in SCRIPTS.itertuples(index=False):
        level += CHANGE[kind] * np.interp(clock, start + np.array([0, 2, length, length + 3]), [0, 1, 1, 0])
    pure = level + phasic
    noisy = pure + rng.normal(0, phasic.std() / 10 ** (snr / 20), len(clock))
    if not artefacts:
        return clock, noisy, pure
    if frequency > 60:  # slices and volumes of the scanner, at their own rates
        noisy += 0.3 * np.sin(2 * np.pi * 17 * clock) + 0.2 * np.sign(np.sin(2 * np.pi * 11 * clock))
    for start in rng.uniform(10, SECONDS - 10, 5):  # a knock on an electrode
        here = (clock > start) & (clock < start + rng.uniform(0.2, 1.5))
        noisy[here] += rng.choice([-1, 1]) * rng.uniform(2, 8)
    loose = rng.uniform(30, SECONDS - 30)
    noisy[(clock > loose) & (clock < loose + 4)] = 0.0
    return clock, noisy, pure


def prepared(tmp_path, samples, frequency, settings=SETTINGS):
    path = tmp_path / "sub-01_task-memory_physio.tsv.gz"
    path.write_bytes(
        gzip.compress(("\n".join(map("{:.5f}".format, samples)) + "\n").encode(), compresslevel=1)
    )
    sidecar = {
        "SamplingFrequency": frequency,
        "StartTime": 0,
        "Columns": ["EDA"],
        "EDA": {"Units": "microsiemens"},
    }
    return prepare(path, json.loads(json.dumps(sidecar)), settings)


@pytest.mark.parametrize("artefacts", [False, True])
@pytest.mark.parametrize(
    ("rate", "ratio", "shape", "pace"),
    [
        (30, 5, "exponentials", "usual"),
        (30, 10, "sigmoid", "usual"),
        (30, 40, "exponentials", "dense"),
        (60, 5, "gamma", "usual"),
        (100, 20, "canonical", "usual"),
        (250, 40, "exponentials", "usual"),
        (250, 10, "exponentials", "sparse"),
        (1000, 5, "exponentials", "usual"),
    ],
)
def test_responses_and_levels_are_found_whatever_rate_noise_and_artefacts(
    rate, ratio, shape, pace, artefacts
):
    """At least .9 of the responses that stand out by 0.05 µS, and few others; levels within 5 %."""
    found = skin.cell(rate, ratio, shape=shape, pace=pace, artefacts=artefacts, recordings=4)
    errors = np.array(found.errors)
    assert np.isnan(errors).sum() <= (2 if artefacts else 0)  # of a baseline too little was left
    errors = np.abs(errors[~np.isnan(errors)])
    assert errors.mean() <= 0.05
    # A response may lie in what was left out; at 30 Hz and 5 dB the 150 samples of a baseline carry noise.
    assert errors.max() <= (0.10 if artefacts or (rate, ratio) == (30, 5) else 0.05)
    assert found.met / found.true >= 0.9
    assert found.met / found.counted >= 0.9


def test_one_large_artefact_costs_no_response(tmp_path):
    """A threshold of a tenth of the largest peak, as NeuroKit2's, would be 0.8 µS here."""
    import neurokit2

    clock, noisy, pure = plant(np.random.default_rng(5), 100, 30, artefacts=False)
    noisy[(clock > 301) & (clock < 303)] += 8
    ours = prepared(tmp_path, noisy, 100.0).peaks
    theirs = neurokit2.eda_peaks(
        neurokit2.eda_phasic(noisy, sampling_rate=100)["EDA_Phasic"], sampling_rate=100
    )[1]
    standing = clock[signal.find_peaks(pure, prominence=0.05)[0]]
    assert skin.hits(ours, standing) >= 0.9 * len(standing)
    assert skin.hits(np.array(theirs["SCR_Peaks"]) / 100, standing) < 0.1 * len(standing)


RATE = 50.0


def calm():
    return 5 + 0.2 * np.sin(2 * np.pi * np.arange(int(60 * RATE)) / RATE / 30)


@pytest.mark.parametrize(
    ("rule", "spoil", "seconds"),
    [
        ("range", lambda s: s.__setitem__(slice(500, 600), 0.01), 2.0),
        ("range", lambda s: s.__setitem__(slice(500, 600), 75.0), 2.0),
        ("slope", lambda s: s.__setitem__(slice(500, None), s[500:] + 1.0), 0.08),
        ("clipping", lambda s: s.__setitem__(slice(500, 600), 5.3), 2.0),
        ("missing", lambda s: s.__setitem__(slice(500, 600), np.nan), 2.0),
    ],
    ids=["lost", "overload", "jump", "clipped", "absent"],
)
def test_each_rule_takes_out_what_it_is_for(rule, spoil, seconds):
    samples = calm()
    spoil(samples)
    found = find_artefacts(samples, RATE, Artefacts())
    assert found.seconds[rule] == pytest.approx(seconds, abs=0.05)
    margin = 0.0 if rule == "missing" else 1.0
    out = float((~found.mask).sum() / RATE)
    assert out == pytest.approx(sum(found.seconds.values()))
    assert found.seconds["margin"] == pytest.approx(margin, abs=0.13)


def test_a_calm_recording_loses_nothing_even_with_noise_at_a_thousand_hertz():
    rng = np.random.default_rng(0)
    assert find_artefacts(calm(), RATE, Artefacts()).mask.all()
    fast = np.repeat(calm(), 20) + rng.normal(0, 0.02, len(calm()) * 20)  # steps of 28 µS/s
    assert find_artefacts(fast, 1000.0, Artefacts()).mask.all()


@pytest.mark.parametrize("step", [0.01, 0.025, 0.05])
def test_a_coarse_converter_is_not_clipped(step):
    """A slow course that turns at its ends stands there for seconds, as it does at other levels."""
    times = np.arange(0, 600, 1 / RATE)
    course = 5 + 0.3 * np.sin(2 * np.pi * times / 120) + 0.1 * np.sin(2 * np.pi * times / 37)
    assert find_artefacts(np.round(course / step) * step, RATE, Artefacts()).mask.all()


def test_a_short_piece_between_two_artefacts_is_an_island():
    samples = calm()
    samples[500:550] = samples[700:750] = 0.0
    found = find_artefacts(samples, RATE, Artefacts())
    assert found.seconds["island"] == pytest.approx(2.0, abs=0.1)
    wide = find_artefacts(samples, RATE, Artefacts(min_island=0.0, margin=0.0))
    assert wide.mask[555:695].all()


def test_scores_state_the_seconds_that_they_use(tmp_path):
    clock, noisy, _ = plant(np.random.default_rng(3), 50, 30, artefacts=False)
    noisy[(clock >= 60) & (clock < 90)] = 0.0
    rows = score_scripts(prepared(tmp_path, noisy, 50.0), SCRIPTS, task=TASK, settings=SETTINGS)
    first = rows[(rows["onset"] == 20) & (rows["outcome"] == "scl.trauma")].iloc[0]
    assert (first["seconds"], first["seconds_used"]) == (120.0, pytest.approx(89, abs=0.3))
    noisy[(clock >= 30) & (clock < 90)] = 0.0
    rows = score_scripts(prepared(tmp_path, noisy, 50.0), SCRIPTS, task=TASK, settings=SETTINGS)
    out = rows[(rows["onset"] == 20)].set_index("outcome")
    assert out["value"].isna()[["scl.trauma", "scr_count.trauma", "scr_area.trauma"]].all()
    assert "49 % of the 120.0 s of the script at 20.0 s are usable" in out["reason"]["scl.trauma"]


def test_the_baseline_ends_where_the_event_before_ends(tmp_path):
    """Two seconds are left before the second script; with none the level is missing, and says why."""
    clock = np.arange(0, 100, 0.02)
    samples = 5 + (clock >= 48) * 1.0 + (clock >= 50) * 1.0 + 1e-4 * clock
    close = pd.DataFrame([(10.0, 38.0, "relax"), (50.0, 30.0, "trauma")], columns=SCRIPTS.columns)
    settings = SkinConductance(
        task="memory", conditions=["trauma"], scores=["level"], artefacts=Artefacts(max_slope=1e6)
    )
    ready = prepared(tmp_path, samples, 50.0, settings)
    value = score_scripts(ready, close, task=TASK, settings=settings)["value"][0]
    assert value == pytest.approx(1.0, abs=0.03)
    close["duration"] = [39.5, 30.0]
    row = score_scripts(ready, close, task=TASK, settings=settings).iloc[0]
    assert np.isnan(row["value"])
    assert "0.5 s between the script at 50.0 s and the event before it" in row["reason"]


def test_imagery_is_compared_with_its_own_baseline_period(tmp_path):
    """Baseline, reading, imagery, recovery of 30 s each, as Orr and Pitman: the reading is no baseline."""
    kinds = ["baseline", "reading", "imagery", "recovery"]
    events = pd.DataFrame([(30.0 * n, 30.0, kinds[n % 4]) for n in range(8)], columns=SCRIPTS.columns)
    task = Task(conditions={kind: kind for kind in kinds})
    settings = SkinConductance(
        task="memory", conditions=["imagery"], scores=["level"], baseline="baseline",
        artefacts=Artefacts(max_slope=1e6),
    )  # fmt: skip
    clock = np.arange(0, 240, 0.02)
    heights = np.array([5, 7, 6, 5, 5, 7, 4.75, 5])  # imagery +1 and -0.25 µS from its baseline
    samples = heights[(clock // 30).astype(int)] + 1e-3 * np.sin(clock)
    rows = score_scripts(prepared(tmp_path, samples, 50.0, settings), events, task=task, settings=settings)
    assert rows["value"].tolist() == pytest.approx([1.0, -0.5], abs=0.02)


def test_pspm_has_the_same_response_area_and_level(reference_data):
    """Reference numbers of PsPM, made by its own code (see the reference's README)."""
    shape = np.loadtxt(reference_data / "pspm" / "scrf_pspm.tsv")
    np.testing.assert_allclose(canonical_response(np.arange(900) * 0.1), shape, atol=1e-10)
    for name, amount, level in (("ysf", 0.17953613, 4.16909441), ("y60", 0.53209057, 4.51971224)):
        samples = np.loadtxt(reference_data / "pspm" / f"{name}.tsv")
        assert area(samples) == pytest.approx(amount, abs=5e-9)
        assert samples.mean() == pytest.approx(level, abs=5e-9)


def test_counted_responses_are_those_of_matching_pursuit_but_the_one_beneath_another(reference_data):
    samples = np.loadtxt(reference_data / "pspm" / "ysf.tsv")
    theirs = (
        np.loadtxt(reference_data / "pspm" / "mp_sf.tsv")[:, 0] + 2.6
    )  # onset; the kernel peaks 2.6 s later
    ours, _ = find_responses(clean(samples, 10.0), 10.0)
    assert skin.hits(ours, theirs) == len(ours) == 5


def test_the_linear_model_is_that_of_a_plain_filter_and_least_squares():
    """Against filter by difference equation and normal equations; planted heights come back within 2 %."""
    rate, onsets, heights = 10.0, [20.0, 45.0, 60.0, 110.0], [0.8, 0.3, 0.5, 1.1]
    clock = np.arange(0, 200, 1 / rate)
    shape = canonical_response(np.arange(900) / rate)
    samples = 6 - 0.004 * clock + np.random.default_rng(0).normal(0, 0.01, len(clock))
    columns = []
    for onset, height in zip(onsets, heights, strict=True):
        first = round(onset * rate)
        for part in (shape, np.gradient(shape, 0.1)):
            column = np.zeros(len(clock))
            column[first : first + 900] = part[: len(clock) - first]
            columns.append(column)
        samples += height * columns[-2]
    b, a = signal.butter(1, 0.05 / (rate / 2), "high")
    filtered = signal.lfilter(b, a, np.stack([*columns, samples - samples[0]]), axis=1)
    model = np.column_stack([filtered[:-1].T, np.ones(len(clock))])
    weights = np.linalg.solve(model.T @ model, model.T @ filtered[-1])[:-1].reshape(-1, 2)
    fitted = weights @ np.stack([shape, np.gradient(shape, 0.1)])
    found = response_heights(samples, np.ones(len(clock), dtype=bool), rate, onsets)
    np.testing.assert_allclose(found, fitted.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found, heights, rtol=0.02)
    assert response_heights(samples, np.ones(len(clock), dtype=bool), rate, [20.0, 20.0001]) is None


def test_models_of_the_response_score_scripts_and_say_what_they_used(tmp_path):
    """A fluctuation every eight seconds of 0.4 µS, and a response to the onset of a script."""
    clock = np.arange(0, 580, 0.02)
    samples = 6 + 0.001 * np.random.default_rng(1).normal(size=len(clock))
    kernel = np.interp(np.arange(0, 29.9, 0.02), np.arange(300) / 10, fluctuation(10.0))
    for onset in np.arange(24.0, 138.0, 8.0):
        first = round(onset * 50)
        samples[first : first + len(kernel)] += 0.4 * kernel
    times = np.arange(900) / 10
    samples += 0.7 * np.interp(clock - 160, times, canonical_response(times), left=0)
    settings = SkinConductance(
        task="memory", conditions=["trauma", "neutral"], scores=["canonical", "fluctuations"]
    )
    ready = prepared(tmp_path, samples, 50.0, settings)
    rows = score_scripts(ready, SCRIPTS, task=TASK, settings=settings).set_index(["outcome", "onset"])
    assert rows.loc[("scr_fluctuations.trauma", 20.0), "value"] == pytest.approx(7.5, abs=0.51)  # 14 or 15
    assert rows.loc[("scr_fluctuations.trauma", 300.0), "value"] == 0
    assert rows.loc[("scr_canonical.neutral", 160.0), "value"] == pytest.approx(0.7, rel=0.05)
    assert rows.loc[("scr_canonical.neutral", 160.0), "unit"] == "µS"
    assert rows["seconds_used"].max() == pytest.approx(120, abs=0.1)


def test_matching_pursuit_has_pspms_kernel_onsets_and_heights(reference_data):
    """Kernel to 1e-9, onsets of six of six to 1e-9 s, their heights to 1e-7 µS."""
    folder = reference_data / "pspm"
    np.testing.assert_allclose(fluctuation(10.0), np.loadtxt(folder / "sf_kernel.tsv"), atol=1e-9)
    onsets, heights = find_fluctuations(np.loadtxt(folder / "ysf.tsv"), 10.0)
    theirs = np.loadtxt(folder / "mp_sf.tsv")
    np.testing.assert_allclose(onsets, theirs[:, 0], atol=1e-9)
    np.testing.assert_allclose(heights, theirs[:, 1], atol=1e-7)
    assert heights.mean() == pytest.approx(0.445576, abs=1e-6)
    onsets, heights = find_fluctuations(np.loadtxt(folder / "y60.tsv"), 10.0)
    assert len(onsets) == 23
    assert (heights > 0.1).sum() == 20
