"""How every signal of the body is scored: scripts, the seconds before them, conditions over scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.body.recordings import Array
from reconfmri.channels import CODE
from reconfmri.events import events_of
from reconfmri.exclusions import DataFault
from reconfmri.tables import write_table

COLUMNS = ["domain", "outcome", "value", "se", "unit", "coverage", "df"]
LEAST_BASELINE = 1.0  # s: less says nothing of the level before a script
LEAST_OF_BASELINE = 0.8  # usable share: of a few seconds each weighs much
SCRIPTS = {
    "script": "Script as the design names it",
    "outcome": "Score and condition, as in the table of measures",
    "onset": "Onset, s from the first volume",
    "duration": "Duration, s",
    "position": "Place of the script in the run, 1 = first",
    "repetition": "Which one of its condition it is, 1 = first",
    "value": "Score of this script, in the unit of the column `unit`; n/a where it has none",
    "unit": "Unit of the value",
    "seconds_used": "Seconds of the script that were usable, s",
    "seconds": "Seconds that a whole score would use, s",
    "reason": "Why there is no value",
}


@dataclass(frozen=True)
class Signal:
    """A prepared signal (n,), which of its samples may be used, and its clock."""

    values: Array
    usable: npt.NDArray[np.bool_]
    frequency: float  # Hz
    start: float  # s from the first volume
    name: str  # of the file

    @property
    def end(self) -> float:
        """End, s from the first volume."""
        return self.start + len(self.values) / self.frequency

    def within(self, first: float, last: float) -> slice:
        """Return the samples from `first` to `last`, s from the first volume."""
        low, high = (round((moment - self.start) * self.frequency) for moment in (first, last))
        return slice(max(low, 0), max(high, 0))

    def used(self, first: float, last: float) -> float:
        """Return the usable seconds from `first` to `last`."""
        return float(self.usable[self.within(first, last)].sum() / self.frequency)

    def mean(self, first: float, last: float) -> float:
        """Return the mean from `first` to `last`; what was left out weighs as the straight line across it.

        Without it a mean would be of other seconds: half of a rise, or a baseline without its end.
        """
        return float(self.values[self.within(first, last)].mean())


@dataclass(frozen=True)
class Script:
    """One script, and the seconds before it that it is compared with."""

    name: str
    onset: float
    duration: float
    position: int
    repetition: int
    before: tuple[float, float]

    @property
    def end(self) -> float:
        """End, s from the first volume."""
        return self.onset + self.duration


@dataclass(frozen=True)
class Score:
    """A score of one script and the seconds that it uses of those it would use; or why it has none."""

    value: float
    used: float
    of: float
    reason: str = ""


def scripts_of(named: pd.DataFrame, condition: str, baseline: float | str) -> list[Script]:
    """Return the scripts of a condition, each with its baseline, from the events of `events.name_events`.

    `baseline`: the s before each script (as far as no other event reaches into them), or the condition whose
    nearest earlier event is the baseline (Orr and Pitman: baseline, reading, imagery, recovery).

    Raises
    ------
    DataFault
        A script has no event of the baseline's condition before it.
    """
    table = named.reset_index(drop=True)
    numbers = table.groupby("condition").cumcount() + 1
    found = []
    for place in events_of(table, condition).index:
        row = table.loc[place]
        onset = float(row["onset"])
        earlier = table[table["onset"] < onset]
        found.append(
            Script(
                str(row["name"])
                if row["name"] != row["condition"]
                else f"{row['condition']}_{numbers[place]}",
                onset,
                float(row["duration"]),
                int(place) + 1,
                int(numbers[place]),
                _before(onset, earlier, baseline),
            )
        )
    return found


def _before(onset: float, earlier: pd.DataFrame, baseline: float | str) -> tuple[float, float]:
    ends = earlier["onset"] + earlier["duration"]
    if isinstance(baseline, str):
        own = earlier[earlier["condition"] == baseline]
        if own.empty:
            reason = f"no event of the condition {baseline!r} before the script at {onset:.1f} s"
            raise DataFault(CODE, reason, fix="correct the events, or `baseline` in the study file")
        last = own.iloc[-1]
        return float(last["onset"]), min(float(last["onset"] + last["duration"]), onset)
    first = onset - baseline
    return max(first, float(ends.max())) if len(ends) else first, onset


def mean_change(signal: Signal, script: Script, least: float) -> Score:
    """Return the mean over a script minus the mean over its baseline.

    `least`: the share of a script that must be usable; of the baseline it is 0.8 or more.
    """
    if reason := outside(signal, script.onset, script.end, script.onset):
        return Score(math.nan, 0.0, script.duration, reason)
    used, length = signal.used(script.onset, script.end), script.duration
    base, before = signal.used(*script.before), script.before[1] - script.before[0]
    if before < LEAST_BASELINE:
        reason = f"{max(before, 0):.1f} s between the script at {script.onset:.1f} s and the event before it"
        return Score(math.nan, used, length, f"{reason}, at least {LEAST_BASELINE:g} s are needed")
    for share, what, seconds, needed in (
        (used / length if length else 0.0, "script", length, least),
        (base / before, "baseline", before, max(least, LEAST_OF_BASELINE)),
    ):
        if share < needed or share == 0:
            return Score(math.nan, used, length, too_few(share, what, seconds, script.onset, needed))
    change = signal.mean(script.onset, script.end) - signal.mean(*script.before)
    return Score(change, used, length)


def signed_root(value: float) -> float:
    """Return the square root of the size, with the sign: skewed changes become nearly normal."""
    return math.copysign(math.sqrt(abs(value)), value) if math.isfinite(value) else math.nan


def outside(signal: Signal, first: float, last: float, onset: float) -> str:
    """Return why a script cannot be scored from `first` to `last`: the recording does not last so long."""
    if first >= signal.start - 0.5 / signal.frequency and last <= signal.end + 0.5 / signal.frequency:
        return ""
    lasts = f"{signal.start:.1f} to {signal.end:.1f} s"
    scored = f"the script at {onset:.1f} s is scored from {first:.1f} to {last:.1f} s"
    return f"the recording lasts from {lasts}, {scored}"


def too_few(share: float, what: str, seconds: float, onset: float, least: float) -> str:
    """Return why a script is missing: too little of it is usable."""
    return (
        f"{100 * share:.0f} % of the {seconds:.1f} s of the {what} at {onset:.1f} s are usable, at least "
        f"{100 * least:.0f} % are needed"
    )


def script_row(script: Script, outcome: str, unit: str, score: Score) -> dict[str, object]:
    """Return the row of one script's score in the table of scripts."""
    return {
        "script": script.name,
        "outcome": outcome,
        "onset": script.onset,
        "duration": script.duration,
        "position": script.position,
        "repetition": script.repetition,
        "value": score.value,
        "unit": unit,
        "seconds_used": score.used,
        "seconds": score.of,
        "reason": score.reason,
    }


def combine(
    scripts: pd.DataFrame, outcomes: Mapping[str, str], domain: str, name: str
) -> tuple[pd.DataFrame, list[DataFault]]:
    """Return one row per outcome (name -> unit): the mean over its scripts; and why one is missing.

    A condition with a script that has no score is missing: the mean of the others would be of other scripts.
    """
    rows, faults = [], []
    for outcome, unit in outcomes.items():
        own = scripts[scripts["outcome"] == outcome]
        lacking = own[own["value"].isna()]
        reason = "the run has no such script" if own.empty else "; ".join(map(str, lacking["reason"][:1]))
        if reason:
            fix = (
                "correct the events"
                if own.empty
                else "look at its picture, then at the recording, the events and `baseline`"
            )
            faults.append(DataFault(CODE, reason, fix=fix, file=name, region=outcome))
        values = own["value"].to_numpy(dtype=float) if not reason else np.array([])
        coverage = (
            float(own["seconds_used"].sum() / own["seconds"].sum()) if own["seconds"].sum() else math.nan
        )
        rows.append((domain, outcome, *mean_and_error(values), unit, coverage, math.nan))
    return pd.DataFrame(rows, columns=COLUMNS), faults


def write_scripts(path: str | Path, scripts: pd.DataFrame) -> None:
    """Write the table of scripts and the JSON that describes its columns."""
    write_table(path, scripts[list(SCRIPTS)], SCRIPTS)


def mean_and_error(scores: Iterable[float]) -> tuple[float, float]:
    """Return the mean over scripts and its standard error; the latter where two or more differ."""
    values = np.asarray(list(scores), dtype=float)
    if not len(values):
        return math.nan, math.nan
    se = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    # Scripts that all score zero have no spread; a standard error of zero would be infinite weight.
    return float(values.mean()), se if se > 0 else math.nan
