"""Skin conductance: a BIDS recording, its guards, and one response score per script.

The score follows Boucsein et al., Psychophysiology 2012;49:1017: the rise of the phasic part from the onset
of a script to its peak within a window, ln(1 + µS).
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.config import SkinConductance, Task
from reconfmri.events import events_of, name_events
from reconfmri.exclusions import DataFault
from reconfmri.files import UnreadableError, refuse_unreadable

Array = npt.NDArray[np.float64]
UNIT = "ln µS"
COLUMNS = ["domain", "outcome", "value", "se", "unit", "coverage", "df"]
# µS per unit; umho is the old name of µS.
UNITS = {"µS": 1.0, "μS": 1.0, "uS": 1.0, "microsiemens": 1.0, "umho": 1.0, "S": 1e6, "mS": 1e3, "nS": 1e-3}
FLAT_RANGE = 0.01  # µS within a whole recording: below the resolution of common amplifiers
MAX_MICROSIEMENS = 200.0  # µS; skin has 1 to 60 (Boucsein 2012)
MAX_SATURATED = 0.05  # share of samples that may stand at an end of the range
CUT_OFF = 3.0  # Hz: a response of the skin is slower
MARGIN = 5.0  # s before a script that its score must not have interpolated


def score_recording(
    recording: Path,
    events: pd.DataFrame,
    *,
    sidecar: Mapping[str, Any],
    task: Task,
    settings: SkinConductance,
) -> tuple[pd.DataFrame, list[DataFault]]:
    """Return one row per condition (domain outcome value se unit coverage df), and why a value is missing.

    The value of a condition is the mean of the scores of its scripts, in ln µS, with the standard error of
    that mean where there are two or more; a condition with an unusable script is missing.

    Raises
    ------
    DataFault
        The recording is unreadable, too slow, flat, saturated, empty, or of an unknown unit; or the events
        are faulty.
    """
    samples, frequency, start = read_recording(recording, sidecar, settings)
    _check_signal(samples, recording.name)
    end = start + len(samples) / frequency
    named = name_events(events, task, duration=max(end, float(events["onset"].max()) + 1))
    cleaned = clean(fill_gaps(samples), frequency)
    broken = _gap_times(samples, frequency, start, settings.max_gap)
    rows, faults = [], []
    for condition in settings.conditions:
        scripts = events_of(named, condition)
        outcome = f"scr.{condition}"
        reason = _why_missing(scripts, broken, (start, end), settings.window)
        if reason:
            fix = "find the rest of the recording"
            faults.append(DataFault("E-DATA-B15", reason, fix=fix, file=recording.name, region=outcome))
        scores = (
            []
            if reason
            else [response(cleaned, onset - start, frequency, settings.window) for onset in scripts["onset"]]
        )
        value, se = _mean(np.log1p(scores))
        rows.append(("skin_conductance", outcome, value, se, UNIT, math.nan, math.nan))
    return pd.DataFrame(rows, columns=COLUMNS), faults


def read_recording(
    path: Path, sidecar: Mapping[str, Any], settings: SkinConductance
) -> tuple[Array, float, float]:
    """Return one column in µS (n_samples,), NaN where missing; its sampling frequency, Hz; its start, s.

    A BIDS recording has no header: the JSON beside it names columns, frequency, start (from the first
    volume) and units.

    Raises
    ------
    DataFault
        As `describe_recording`, or the file is no table of numbers with these columns.
    """
    described = describe_recording(sidecar, settings, path.name)
    columns = list(sidecar["Columns"])
    samples = _read_column(path, len(columns), columns.index(settings.column))
    return described.scale * samples, described.frequency, described.start


@dataclass(frozen=True)
class Description:
    """What the JSON beside a recording says: µS per unit of its values, Hz, s from the first volume."""

    scale: float
    frequency: float
    start: float


def describe_recording(sidecar: Mapping[str, Any], settings: SkinConductance, name: str) -> Description:
    """Return unit, frequency and start of a recording from the JSON beside it; the samples are not read.

    Raises
    ------
    DataFault
        The JSON lacks one of these, the unit is none of conductance, or the recording is too slow.
    """
    fix = "complete the JSON beside the recording"
    for key in ("SamplingFrequency", "StartTime", "Columns"):
        if key not in sidecar:
            raise DataFault("E-DATA-B15", f"its JSON has no {key}", fix=fix, file=name)
    columns, column = sidecar["Columns"], settings.column
    if not isinstance(columns, list):
        reason = f"Columns is {columns!r:.60}, expected a list of names"
        raise DataFault("E-DATA-B15", reason, fix=fix, file=name)
    frequency, start = (_number(sidecar, key, name) for key in ("SamplingFrequency", "StartTime"))
    if column not in columns:
        raise DataFault("E-DATA-B15", f"no column {column!r}, it has {columns}", fix=fix, file=name)
    if not frequency > 0:
        raise DataFault("E-DATA-B15", f"its sampling frequency is {frequency:g} Hz", fix=fix, file=name)
    described = sidecar.get(column)
    unit = described.get("Units") if isinstance(described, Mapping) else None
    unit = unit.lower() if isinstance(unit, str) and unit.lower() == "microsiemens" else unit
    if not isinstance(unit, str) or unit not in UNITS:
        reason = f"the unit of {column!r} is {unit!r:.60}, none of conductance; known are {list(UNITS)}"
        raise DataFault("E-DATA-B15", reason, fix=fix, file=name)
    if frequency < settings.min_sampling_frequency:
        least = f"at least {settings.min_sampling_frequency:g} Hz are needed"
        raise DataFault("E-DATA-B15", f"sampled at {frequency:g} Hz, {least}", fix=fix, file=name)
    return Description(UNITS[unit], frequency, start)


def _number(sidecar: Mapping[str, Any], key: str, name: str) -> float:
    value = sidecar[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        fix = "write a number into the JSON beside the recording"
        raise DataFault("E-DATA-B15", f"{key} is {value!r}, not a number", fix=fix, file=name)
    return float(value)


def fill_gaps(samples: Array) -> Array:
    """Return the samples with missing ones interpolated linearly, and held at both ends."""
    known = np.flatnonzero(np.isfinite(samples))
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


def response(samples: Array, onset: float, frequency: float, window: tuple[float, float]) -> float:
    """Return the peak within `window` (s from onset) minus the value at onset, µS; 0 when nothing rises."""
    first, last = (round((onset + edge) * frequency) for edge in window)
    here = min(max(round(onset * frequency), 0), len(samples) - 1)
    peak = samples[max(first, 0) : last + 1].max()
    return float(max(peak - samples[here], 0.0))


def _read_column(path: Path, n_columns: int, which: int) -> Array:
    fix = "copy the recording again"
    try:
        refuse_unreadable(path)
        with gzip.open(path, "rt", encoding="utf-8-sig") as stream:
            table = pd.read_csv(stream, sep="\t", header=None, na_values=["n/a"], keep_default_na=True)
    except UnreadableError as error:
        raise DataFault("E-DATA-B15", error.what, fix=error.fix(path.name), file=path.name) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, ValueError) as error:
        raise DataFault("E-DATA-B15", f"unreadable ({error})", fix=fix, file=path.name) from None
    if table.shape[1] != n_columns:
        reason = f"{table.shape[1]} columns, its JSON names {n_columns}"
        raise DataFault("E-DATA-B15", reason, fix="correct `Columns` in its JSON", file=path.name)
    samples = pd.to_numeric(table[which], errors="coerce")
    texts = table[which].notna() & samples.isna()
    if texts.any():
        reason = f"line {int(texts.to_numpy().argmax()) + 1} is not a number (a recording has no header)"
        raise DataFault("E-DATA-B15", reason, fix="delete the header", file=path.name)
    return samples.to_numpy(dtype=float)


def _check_signal(samples: Array, name: str) -> None:
    known = samples[np.isfinite(samples)]
    fix = "look at electrodes and amplifier of this recording"
    if not len(known):
        raise DataFault("E-DATA-B15", "every sample is missing", fix=fix, file=name)
    span = float(np.ptp(known))
    if span < FLAT_RANGE:
        raise DataFault("E-DATA-B15", f"flat: all within {span:.2g} µS", fix=fix, file=name)
    for what, edge in (("top", known.max()), ("bottom", known.min())):
        share = float((np.abs(known - edge) < 1e-6 * span).mean())
        if share > MAX_SATURATED:
            reason = f"saturated: {100 * share:.0f} % of samples stand at the {what}, {edge:.3g} µS"
            raise DataFault("E-DATA-B15", reason, fix=fix, file=name)
    if np.median(known) > MAX_MICROSIEMENS:
        reason = f"the median conductance is {np.median(known):.3g} µS, more than {MAX_MICROSIEMENS:g} µS"
        raise DataFault("E-DATA-B15", reason, fix="correct `Units` in its JSON", file=name)
    if np.median(known) <= 0:
        reason = f"the median conductance is {np.median(known):.3g} µS"
        raise DataFault("E-DATA-B15", reason, fix="give absolute conductance, not AC-coupled", file=name)


def _gap_times(samples: Array, frequency: float, start: float, longest: float) -> list[tuple[float, float]]:
    """Return start and end, s from the first volume, of the gaps longer than `longest` s."""
    missing = np.concatenate([[False], ~np.isfinite(samples), [False]])
    edges = np.flatnonzero(np.diff(missing.astype(int)))
    spans = zip(edges[::2] / frequency + start, edges[1::2] / frequency + start, strict=True)
    return [(float(one), float(other)) for one, other in spans if other - one > longest]


def _why_missing(
    scripts: pd.DataFrame,
    gaps: list[tuple[float, float]],
    recorded: tuple[float, float],
    window: tuple[float, float],
) -> str:
    """Return why these scripts have no score; nothing when they do."""
    if scripts.empty:
        return "the run has no such script"
    for onset in scripts["onset"]:
        first, last = onset + min(window[0], 0.0), onset + window[1]
        if first < recorded[0] or last > recorded[1]:
            lasts = f"{recorded[0]:.1f} to {recorded[1]:.1f} s"
            return (
                f"the recording lasts from {lasts}, the script at {onset:.1f} s is scored until {last:.1f} s"
            )
        for start, end in gaps:
            if start < last and end > first - MARGIN:
                return f"no samples from {start:.1f} to {end:.1f} s, at the script of {onset:.1f} s"
    return ""


def _mean(scores: Array) -> tuple[float, float]:
    if not len(scores):
        return math.nan, math.nan
    se = float(scores.std(ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else math.nan
    # Scripts that all score zero have no spread; a standard error of zero would be infinite weight.
    return float(scores.mean()), se if se > 0 else math.nan
