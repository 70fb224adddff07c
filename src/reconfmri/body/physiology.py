"""Heart rate, respiration and EMG of one run: scores per script and condition.

`hr` and `resp` are the mean rate of a script; `hr_change` and `emg_change` the mean of the script minus the
mean of its baseline, as the signed square root (Orr et al., J Abnorm Psychol 1993;102:152); `rmssd` is
heart rate variability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reconfmri.body.emg import integrated
from reconfmri.body.heart_rate import Beats, find_beats, find_breaths, rate_signal, rmssd
from reconfmri.body.recordings import Recording, read_recording
from reconfmri.body.scores import (
    COLUMNS,
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
from reconfmri.channels import choose_recording, describe_recording
from reconfmri.config import SIGNALS, Physiology, Task
from reconfmri.events import name_events
from reconfmri.exclusions import DataFault

DOMAIN = "physiology"


@dataclass(frozen=True)
class Channel:
    """A channel ready for scoring: as it was read, the signal that is scored, and its beats or breaths."""

    raw: Recording
    signal: Signal
    beats: Beats | None = None


@dataclass(frozen=True)
class Scored:
    """All of a run: its channels, scores of scripts, rows of measures, and what is missing and why."""

    channels: dict[str, Channel]
    scripts: pd.DataFrame
    rows: pd.DataFrame
    faults: list[DataFault]


def score_physiology(
    recordings: Sequence[Path],
    events: pd.DataFrame,
    *,
    sidecars: Sequence[Mapping[str, Any]],
    task: Task,
    settings: Physiology,
) -> Scored:
    """Return the scores of every signal that is asked for; one that cannot be read leaves the others alone.

    Raises
    ------
    DataFault
        The events are faulty.
    """
    channels: dict[str, Channel] = {}
    tables, rows, faults = [], [], []
    for name in settings.signals:
        units = {
            f"{head}.{condition}": unit
            for head, unit in SIGNALS[name][3].items()
            for condition in settings.conditions
        }
        try:
            channels[name] = prepare(name, recordings, sidecars, settings)
            scripts = _score(name, channels[name], events, task, settings)
        except DataFault as fault:
            rows.append(_none_of(units))
            faults += [
                DataFault(fault.code, fault.reason, fix=fault.fix, file=fault.file, region=outcome)
                for outcome in units
            ]
            continue
        tables.append(scripts)
        found, more = combine(scripts, units, DOMAIN, channels[name].raw.name)
        rows.append(found)
        faults += more + remarks(name, channels[name])
    scripts = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(SCRIPTS))
    return Scored(channels, scripts, pd.concat(rows, ignore_index=True), faults)


def prepare(
    name: str, recordings: Sequence[Path], sidecars: Sequence[Mapping[str, Any]], settings: Physiology
) -> Channel:
    """Return a channel, read and made the signal that is scored.

    Raises
    ------
    DataFault
        No recording has it, several have, or it cannot be used.
    """
    kind, _, slowest, _ = SIGNALS[name]
    part = getattr(settings, name)
    path, sidecar = choose_recording(recordings, sidecars, kind, part.column)
    described = describe_recording(sidecar, kind, path.name, column=part.column, slowest=slowest)
    raw = read_recording(path, described)
    if name == "emg":
        return Channel(raw, integrated(raw))
    beats = find_beats(raw, part.source) if name == "heart_rate" else find_breaths(raw)
    return Channel(raw, rate_signal(beats, raw), beats)


def remarks(name: str, channel: Channel) -> list[DataFault]:
    """Return how much of the recording was left out, where something was."""
    share = float(channel.signal.usable.mean())
    if share > 0.99:  # the intervals before the first and after the last beat
        return []
    reason = f"{SIGNALS[name][1]}: {100 * share:.1f} % of the recording are usable"
    fix = "no action is needed if its picture shows what was left out rightly"
    return [DataFault("W-DATA-B15", reason, fix=fix, file=channel.raw.name)]


def _none_of(units: Mapping[str, str]) -> pd.DataFrame:
    nothing = (math.nan, math.nan)
    return pd.DataFrame(
        [(DOMAIN, outcome, *nothing, unit, *nothing) for outcome, unit in units.items()], columns=COLUMNS
    )


def _score(
    name: str, channel: Channel, events: pd.DataFrame, task: Task, settings: Physiology
) -> pd.DataFrame:
    longest = float(np.nanmax([*events["duration"].to_numpy(dtype=float), 0.0]))
    last = max(channel.signal.end, float(events["onset"].max()) + 1, longest)
    named = name_events(events, task, duration=last)
    rows = []
    for head, unit in SIGNALS[name][3].items():
        for condition in settings.conditions:
            baseline = settings.baseline if head.endswith("_change") else 0.0
            for script in scripts_of(named, condition, baseline):
                value = _value(head, channel, script, settings)
                rows.append(script_row(script, f"{head}.{condition}", unit, value))
    return pd.DataFrame(rows, columns=list(SCRIPTS))


def _value(head: str, channel: Channel, script: Script, settings: Physiology) -> Score:
    if head.endswith("_change"):
        found = mean_change(channel.signal, script, settings.min_usable)
        return Score(signed_root(found.value), found.used, found.of, found.reason)
    signal, length = channel.signal, script.duration
    if reason := outside(signal, script.onset, script.end, script.onset):
        return Score(math.nan, 0.0, length, reason)
    used = signal.used(script.onset, script.end)
    share = used / length if length > 0 else 0.0
    if share < settings.min_usable or share == 0:
        reason = too_few(share, "script", length, script.onset, settings.min_usable)
        return Score(math.nan, used, length, reason)
    if head == "rmssd" and channel.beats is not None:
        value = rmssd(channel.beats, script.onset, script.end)
        reason = (
            "" if value == value else f"fewer than 5 pairs of beats in the script at {script.onset:.1f} s"
        )
        return Score(value, used, length, reason)
    return Score(signal.mean(script.onset, script.end), used, length)
