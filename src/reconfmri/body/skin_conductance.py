"""Skin conductance: the guards of a recording, and scores per script.

Scores: `level` (change of the mean from the seconds before the script, Orr et al., J Abnorm Psychol
1993;102:152), `area` (mean of y - min y, Bach et al., Int J Psychophysiol 2010;76:52), `count` (responses
by an absolute prominence of 0.05 µS, Boucsein et al., Psychophysiology 2012;49:1017), `peak` (rise to the
peak within a window, ln(1 + µS), ibid.), and by models of the response `canonical` and `fluctuations`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reconfmri.body.artefacts import Usable, find_artefacts
from reconfmri.body.recordings import Array, Recording, read_recording, spans, thinned
from reconfmri.body.response_models import MODEL_RATE, count_fluctuations, response_heights
from reconfmri.body.responses import PROMINENCE, find_responses
from reconfmri.body.scores import (
    SCRIPTS,
    Score,
    Script,
    Signal,
    combine,
    mean_change,
    outside,
    script_row,
    scripts_of,
    signed_root,
    too_few,
)
from reconfmri.channels import CODE, describe_recording
from reconfmri.config import SKIN_SCORES, SkinConductance, Task
from reconfmri.events import name_events
from reconfmri.exclusions import DataFault

DOMAIN = "skin_conductance"
FLAT_RANGE = 0.01  # µS within a whole recording: below the resolution of common amplifiers
MAX_MICROSIEMENS = 200.0  # µS; skin has 1 to 60 (Boucsein 2012)
MAX_SATURATED = 0.05  # share of samples that may stand at an end of the range
CUT_OFF = 3.0  # Hz: a response of the skin is slower
AFTER_ONSET = 10.0  # s of a script that its response is seen in
BEFORE_PEAK = 5.0  # s before a script that the score `peak` must not have interpolated
LOOK = "no action is needed if its picture shows what was left out rightly"


@dataclass(frozen=True)
class Prepared:
    """A recording ready for scoring: raw, cleaned, its usable samples, its responses and their threshold."""

    raw: Recording
    signal: Signal
    usable: Usable
    gaps: list[tuple[float, float]]  # s from the first volume, longer than `max_gap`
    peaks: Array  # s from the first volume, of counted responses
    prominence: float  # µS
    heights: Mapping[float, float] = field(default_factory=dict)  # onset, s -> µS, of the linear model


def score_recording(
    recording: Path,
    events: pd.DataFrame,
    *,
    sidecar: Mapping[str, Any],
    task: Task,
    settings: SkinConductance,
) -> tuple[pd.DataFrame, list[DataFault]]:
    """Return one row per score and condition (columns: `scores.COLUMNS`), and why one is missing.

    The value of a condition is the mean of the scores of its scripts, with the standard error of that mean
    where there are two or more; a condition with an unusable script is missing. `coverage` is the share of
    the scored seconds that were usable.

    Raises
    ------
    DataFault
        The recording is unreadable, too slow, flat, saturated, empty, or of an unknown unit; or the events
        are faulty.
    """
    prepared = prepare(recording, sidecar, settings)
    scripts = score_scripts(prepared, events, task=task, settings=settings)
    return measures_of(scripts, prepared, settings)


def prepare(recording: Path, sidecar: Mapping[str, Any], settings: SkinConductance) -> Prepared:
    """Return a recording with its artefacts marked, filtered, its responses counted.

    Raises
    ------
    DataFault
        The recording is unreadable, too slow, flat, saturated, empty, or of an unknown unit.
    """
    described = describe_recording(
        sidecar,
        "skin_conductance",
        recording.name,
        column=settings.column,
        slowest=settings.min_sampling_frequency,
    )
    raw = read_recording(recording, described)
    _check_signal(raw.samples, raw.name, settings.artefacts.range)
    usable = find_artefacts(raw.samples, raw.frequency, settings.artefacts)
    if not usable.mask.any():
        reason = f"no usable second: {usable.words}"
        raise DataFault(CODE, reason, fix="look at electrodes and amplifier of this recording", file=raw.name)
    filled = fill_gaps(np.where(usable.mask, raw.samples, np.nan))
    cleaned = clean(filled, raw.frequency)
    signal = Signal(cleaned, usable.mask, raw.frequency, raw.start, raw.name)
    long = [
        gap for gap in spans(~usable.mask, raw.frequency, raw.start) if gap[1] - gap[0] > settings.max_gap
    ]
    peaks, prominence = np.array([]), PROMINENCE
    if "count" in settings.scores:
        found, prominence = find_responses(cleaned, raw.frequency)
        kept = usable.mask[np.minimum(np.rint(found * raw.frequency).astype(int), len(filled) - 1)]
        peaks = found[kept] + raw.start
    return Prepared(raw, signal, usable, long, peaks, prominence)


def score_scripts(
    prepared: Prepared, events: pd.DataFrame, *, task: Task, settings: SkinConductance
) -> pd.DataFrame:
    """Return one row per script, condition and score, with the seconds that it uses (`scores.SCRIPTS`).

    Raises
    ------
    DataFault
        The events are faulty.
    """
    last = max(prepared.signal.end, float(events["onset"].max()) + 1)
    longest = float(np.nanmax([*events["duration"].to_numpy(dtype=float), 0.0]))
    named = name_events(events, task, duration=max(last, longest))
    if "canonical" in settings.scores:
        prepared = replace(prepared, heights=_heights(prepared, named))
    rows = []
    for score in settings.scores:
        what, unit = SKIN_SCORES[score]
        for condition in settings.conditions:
            for script in scripts_of(named, condition, settings.baseline if score == "level" else 0.0):
                found = SCORERS[score](prepared, script, settings)
                rows.append(script_row(script, f"{what}.{condition}", unit, found))
    return pd.DataFrame(rows, columns=list(SCRIPTS))


def measures_of(
    scripts: pd.DataFrame, prepared: Prepared, settings: SkinConductance
) -> tuple[pd.DataFrame, list[DataFault]]:
    """Return the mean of every score and condition over its scripts, and why one is missing."""
    outcomes = {
        f"{SKIN_SCORES[score][0]}.{condition}": SKIN_SCORES[score][1]
        for score in settings.scores
        for condition in settings.conditions
    }
    return combine(scripts, outcomes, DOMAIN, prepared.raw.name)


def remarks(prepared: Prepared) -> list[DataFault]:
    """Return what was left out, and a threshold above 0.05 µS: nothing of it in silence."""
    found = []
    if words := prepared.usable.words:
        left = float(prepared.usable.mask.mean())
        reason = f"{100 * left:.1f} % of the recording are usable; left out: {words}"
        found.append(DataFault("W-DATA-B15", reason, fix=LOOK, file=prepared.raw.name))
    if prepared.prominence > PROMINENCE:
        reason = f"noisy: responses below {prepared.prominence:.2g} µS are not counted"
        found.append(DataFault("W-DATA-B15", reason, fix=LOOK, file=prepared.raw.name))
    return found


def fill_gaps(samples: Array) -> Array:
    """Return the samples with missing ones interpolated, and held at both ends: for the filter alone."""
    known = np.flatnonzero(np.isfinite(samples))
    if len(known) == len(samples):
        return samples
    return np.asarray(np.interp(np.arange(len(samples)), known, samples[known]))


def clean(samples: Array, frequency: float) -> Array:
    """Return the samples (n_samples,) below 3 Hz, µS, by a Butterworth filter of order 4 without delay.

    As NeuroKit2's `eda_clean`, which a job of a second would spend on importing it.
    Makowski et al., Behavior Research Methods 2021;53:1689.
    """
    from scipy import signal

    if frequency <= 2 * CUT_OFF:
        return samples
    sections = signal.butter(4, CUT_OFF, output="sos", fs=frequency)
    return np.asarray(signal.sosfiltfilt(sections, samples), dtype=float)


def area(samples: Array) -> float:
    """Return the mean of y - min y, µS (PsPM's `pspm_sf_auc`)."""
    return float(np.mean(samples - samples.min()))


def response(samples: Array, onset: float, frequency: float, window: tuple[float, float]) -> float:
    """Return the peak within `window` (s from onset) minus the value at onset, µS; 0 when nothing rises."""
    first, last = (round((onset + edge) * frequency) for edge in window)
    here = min(max(round(onset * frequency), 0), len(samples) - 1)
    peak = samples[max(first, 0) : last + 1].max()
    return float(max(peak - samples[here], 0.0))


def _level(prepared: Prepared, script: Script, settings: SkinConductance) -> Score:
    found = mean_change(prepared.signal, script, settings.min_usable)
    return Score(signed_root(found.value), found.used, found.of, found.reason)


def _area(prepared: Prepared, script: Script, settings: SkinConductance) -> Score:
    used, reason = _enough(prepared, script, settings)
    if reason:
        return Score(math.nan, used, script.duration, reason)
    part = prepared.signal.within(script.onset, script.end)
    return Score(area(prepared.signal.values[part][prepared.signal.usable[part]]), used, script.duration)


def _count(prepared: Prepared, script: Script, settings: SkinConductance) -> Score:
    """Responses per usable minute."""
    used, reason = _enough(prepared, script, settings)
    if reason:
        return Score(math.nan, used, script.duration, reason)
    number = int(((prepared.peaks >= script.onset) & (prepared.peaks < script.end)).sum())
    return Score(60 * number / used, used, script.duration)


def _enough(prepared: Prepared, script: Script, settings: SkinConductance) -> tuple[float, str]:
    """The usable seconds of a script, and why they are too few."""
    if reason := outside(prepared.signal, script.onset, script.end, script.onset):
        return 0.0, reason
    used = prepared.signal.used(script.onset, script.end)
    share = used / script.duration if script.duration > 0 else 0.0
    if share < settings.min_usable or share == 0:
        return used, too_few(share, "script", script.duration, script.onset, settings.min_usable)
    return used, ""


def _peak(prepared: Prepared, script: Script, settings: SkinConductance) -> Score:
    signal, window = prepared.signal, settings.window
    first, last = script.onset + min(window[0], 0.0), script.onset + window[1]
    if reason := outside(signal, first, last, script.onset):
        return Score(math.nan, 0.0, last - first, reason)
    used = signal.used(first, last)
    for start, end in prepared.gaps:
        if start < last and end > first - BEFORE_PEAK:
            reason = f"no samples from {start:.1f} to {end:.1f} s, at the script of {script.onset:.1f} s"
            return Score(math.nan, used, last - first, reason)
    rise = response(signal.values, script.onset - signal.start, signal.frequency, window)
    return Score(math.log1p(rise), used, last - first)


def _canonical(prepared: Prepared, script: Script, settings: SkinConductance) -> Score:
    """Height of the canonical response to the onset."""
    last = min(script.end, script.onset + AFTER_ONSET)
    used, reason = _enough(prepared, replace(script, duration=last - script.onset), settings)
    height = prepared.heights.get(script.onset, math.nan)
    if not reason and math.isnan(height):
        reason = f"two events begin too close to the script at {script.onset:.1f} s to be told apart"
    return Score(math.nan if reason else height, used, last - script.onset, reason)


def _heights(prepared: Prepared, named: pd.DataFrame) -> dict[float, float]:
    """Onset of every event within the recording -> height of its response, µS; none if they run together."""
    signal = prepared.signal
    samples, rate = thinned(signal.values, signal.frequency, MODEL_RATE)
    usable, _ = thinned(signal.usable, signal.frequency, MODEL_RATE)
    onsets = sorted({float(onset) for onset in named["onset"] if signal.start <= onset < signal.end})
    if not onsets:
        return {}
    heights = response_heights(samples, usable, rate, [onset - signal.start for onset in onsets])
    return {} if heights is None else dict(zip(onsets, map(float, heights), strict=True))


def _fluctuations(prepared: Prepared, script: Script, settings: SkinConductance) -> Score:
    """Spontaneous fluctuations per usable minute, by matching pursuit."""
    used, reason = _enough(prepared, script, settings)
    if reason:
        return Score(math.nan, used, script.duration, reason)
    part = prepared.signal.within(script.onset, script.end)
    samples, rate = thinned(prepared.signal.values[part], prepared.signal.frequency, MODEL_RATE)
    usable, _ = thinned(prepared.signal.usable[part], prepared.signal.frequency, MODEL_RATE)
    return Score(60 * count_fluctuations(samples, usable, rate) / used, used, script.duration)


SCORERS = {
    "peak": _peak, "level": _level, "area": _area, "count": _count,
    "canonical": _canonical, "fluctuations": _fluctuations,
}  # fmt: skip


def _check_signal(samples: Array, name: str, limits: tuple[float, float]) -> None:
    known = samples[np.isfinite(samples)]
    fix = "look at electrodes and amplifier of this recording"
    if not len(known):
        raise DataFault(CODE, "every sample is missing", fix=fix, file=name)
    span = float(np.ptp(known))
    if span < FLAT_RANGE:
        raise DataFault(CODE, f"flat: all within {span:.2g} µS", fix=fix, file=name)
    inside = known[
        (known >= limits[0]) & (known <= limits[1])
    ]  # a lost electrode is an artefact, no saturation
    for what, edge in (("top", inside.max()), ("bottom", inside.min())) if len(inside) else ():
        share = float((np.abs(known - edge) < 1e-6 * span).mean())
        if share > MAX_SATURATED:
            reason = f"saturated: {100 * share:.0f} % of samples stand at the {what}, {edge:.3g} µS"
            raise DataFault(CODE, reason, fix=fix, file=name)
    median = float(np.median(known))
    if median > MAX_MICROSIEMENS:
        reason = f"the median conductance is {median:.3g} µS, more than {MAX_MICROSIEMENS:g} µS"
        raise DataFault(CODE, reason, fix="correct `Units` in its JSON", file=name)
    if median <= 0:
        reason = f"the median conductance is {median:.3g} µS"
        raise DataFault(CODE, reason, fix="give absolute conductance, not AC-coupled", file=name)
