"""The events of a run: read, checked, named after the study's conditions; and the responses they predict.

Responses are sampled at start + n x TR: `start` is 0, the moment a volume begins, in runs whose slice timing
was not corrected, else the time its slices were brought to (`StartTime` in a preprocessed run's metadata).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.bids import read_json
from reconfmri.choices import check_choice
from reconfmri.config import Task
from reconfmri.exclusions import DataFault
from reconfmri.files import explained
from reconfmri.tables import read_table

Array = npt.NDArray[np.float64]
COLUMNS = ("onset", "duration", "trial_type")

# Two gammas: shape and scale (s) of the peak and of the undershoot, and their ratio; as in nilearn and SPM.
RESPONSES = {
    "glover": ((6 / 0.9, 0.9), (12 / 0.9, 0.9), 0.48),  # Glover, NeuroImage 1999;9:416
    "spm": ((6.0, 1.0), (16.0, 1.0), 0.167),  # Friston et al., NeuroImage 1998;7:30
}
DERIVATIVE_STEP = 0.1  # s
DISPERSION_STEP = 0.01  # s, as in nilearn and SPM
DELAY = "_delay_"  # between event and start of the bin, in the name of a column
ROUNDING = 1e-6  # s by which multiples of the TR are off
LATE = 0.05  # s that an event may begin after the last volume, for rounding in the stimulus program


def read_events(path: str | Path, column: str = COLUMNS[2], ratings: Collection[str] = ()) -> pd.DataFrame:
    """Return onset, duration (s) and trial_type of a BIDS events file, in the order of the file.

    `column` is the one that holds the trial types. `ratings` are further columns, as they are written;
    missing throughout where the file lacks one.

    Raises
    ------
    DataFault
        The file is not a table with these columns, or holds no event.
    """
    try:
        table = read_table(path, required=[column], numeric=COLUMNS[:2])
    except (ValueError, OSError) as error:
        what, fix = explained(error, path, Path(path).name, "repair the events file")
        raise DataFault("E-DATA-B14", what, fix=fix, file=Path(path).name) from None
    if table.empty:
        raise DataFault("E-DATA-B14", "it holds no event", fix="find the file", file=Path(path).name)
    named = table.assign(trial_type=table[column])
    for name in ratings:
        named[name] = table.get(name, math.nan)
    return named[[*COLUMNS, *(name for name in ratings if name not in COLUMNS)]]


def name_events(
    events: pd.DataFrame, task: Task, *, duration: float, ratings: Sequence[str] = ()
) -> pd.DataFrame:
    """Return onset, duration (s), condition and name of the events of a run of `duration` s, by onset.

    `ratings` are further columns of `events` that stand beside. Rows without a trial type (n/a) are left out;
    `reconfmri check` counts them.
    `name` is the regressor: `<condition>_<n>` with one regressor per event, else the condition.

    Raises
    ------
    DataFault
        A trial type is unknown, or an event cannot be as written: missing or negative times, beyond the end
        of the run, milliseconds, the same event twice.
    """
    _check_types(events, task)
    kept = events[events["trial_type"].isin(list(task.conditions))].sort_values("onset", kind="stable")
    _check_times(kept, duration)
    named = kept.assign(condition=kept["trial_type"].map(task.conditions)).reset_index(drop=True)
    numbers = named.groupby("condition").cumcount() + 1
    each = named["condition"] + "_" + numbers.astype(str)
    named["name"] = each if task.events == "each" else named["condition"]
    return named[["onset", "duration", "condition", "name", *ratings]]


def cut_windows(events: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, Task]:
    """Return events cut at the task's windows, each named after its window, and the task that names them.

    What no window holds of an event keeps its trial type. Events end where they did.
    """
    if not task.windows:
        return events, task
    rows: list[tuple[float, float, object]] = []
    of: list[int] = []  # the event that each row is a stretch of
    for place, (onset, duration, kind) in enumerate(events[list(COLUMNS)].itertuples(index=False)):
        mine = [
            (window.start, window.end if window.end is not None else duration, name)
            for name, window in task.windows.items()
            if window.condition == task.conditions.get(str(kind))
        ]
        at = 0.0
        for begin, end, name in sorted(mine):
            if begin >= duration:
                continue
            if begin > at:
                rows.append((onset + at, begin - at, kind))
            at = min(end, duration)
            rows.append((onset + begin, at - begin, name))
        if at < duration or not mine:
            rows.append((onset + at, duration - at, kind))
        of += [place] * (len(rows) - len(of))
    cut = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in events.columns.difference(list(COLUMNS), sort=False):
        cut[name] = events[name].to_numpy()[of]
    return cut, task.windowed


def events_of(named: pd.DataFrame, wanted: str) -> pd.DataFrame:
    """Return the events that a condition or one event (`trauma`, `trauma_first`, `trauma_2`) stands for."""
    single = f"{wanted.removesuffix('_first')}_1" if wanted.endswith("_first") else wanted
    return named[(named["condition"] == wanted) | (named["name"] == single)]


def start_time(metadata: str | Path) -> float:
    """Return the moment (s) within a volume that a preprocessed run's values stand for, from its JSON."""
    return float(read_json(Path(metadata)).get("StartTime", 0.0))


def script_regressors(
    events: pd.DataFrame,
    *,
    tr: float,
    n_volumes: int,
    task: Task,
    hrf: str = "glover",
    start: float = 0.0,
) -> pd.DataFrame:
    """Return the predicted responses, (n_volumes, n_regressors), one column per name of `name_events`.

    A volume stands for the moment `start` s after it begins.

    A column is scaled so that one whole event peaks at 1; with one regressor per condition, so that one
    isolated event of the condition's median duration does. With a derivative (`glover + derivative`) each
    column is followed by `<name>_derivative`, in time, and with `+ dispersion` by `<name>_dispersion`, in the
    width of the peak; each is orthogonal to those before.

    Raises
    ------
    DataFault
        As `name_events`.
    """
    named = name_events(events, task, duration=tr * n_volumes)
    times = start + tr * np.arange(n_volumes)
    shape, _, derivative = hrf.partition(" + ")
    check_choice("hrf", shape, RESPONSES)
    check_choice("what follows hrf", derivative, ("", "derivative", "derivative + dispersion"))
    columns: dict[str, Array] = {}
    for name, group in named.groupby("name", sort=False):
        lengths = group["duration"].to_numpy(dtype=float)
        scale = _peak(shape, float(np.median(lengths)))
        answers = [
            event_response(times - onset, length, shape)
            for onset, length in zip(group["onset"], lengths, strict=True)
        ]
        columns[str(name)] = np.sum(answers, axis=0) / scale
        if derivative:
            before = [
                event_response(times - onset - DERIVATIVE_STEP, length, shape)
                for onset, length in zip(group["onset"], lengths, strict=True)
            ]
            slope = (np.sum(answers, axis=0) - np.sum(before, axis=0)) / DERIVATIVE_STEP / scale
            columns[f"{name}_derivative"] = _orthogonal(slope, columns[str(name)])
        if derivative.endswith("dispersion"):
            wider = [
                event_response(times - onset, length, shape, wider=DISPERSION_STEP)
                for onset, length in zip(group["onset"], lengths, strict=True)
            ]
            slope = (np.sum(answers, axis=0) - np.sum(wider, axis=0)) / DISPERSION_STEP / scale
            in_time = columns[f"{name}_derivative"]
            columns[f"{name}_dispersion"] = _orthogonal(_orthogonal(slope, columns[str(name)]), in_time)
    return pd.DataFrame(columns, index=pd.RangeIndex(n_volumes))


def fir_regressors(
    events: pd.DataFrame,
    *,
    tr: float,
    n_volumes: int,
    task: Task,
    edges: Sequence[float],
    start: float = 0.0,
) -> pd.DataFrame:
    """Return (n_volumes, n_regressors) of 0 and 1: which volumes lie in each bin after the onset of an event.

    Bins lie between `edges`, s after the onset, whatever the duration; columns are `<name>_delay_<start>`.
    Events of one name whose bins overlap add up (Dale, Hum Brain Mapp 1999;8:109).

    Raises
    ------
    DataFault
        As `name_events`.
    """
    named = name_events(events, task, duration=tr * n_volumes)
    times = start + tr * np.arange(n_volumes)
    columns: dict[str, Array] = {}
    for name, group in named.groupby("name", sort=False):
        since = np.subtract.outer(times, group["onset"].to_numpy(dtype=float)) + ROUNDING
        for begin, end in pairwise(edges):
            inside = (since >= begin) & (since < end)
            columns[f"{name}{DELAY}{begin:g}"] = inside.sum(axis=1).astype(float)
    return pd.DataFrame(columns, index=pd.RangeIndex(n_volumes))


def weighted_response(
    events: pd.DataFrame,
    weights: Array,
    *,
    tr: float,
    n_volumes: int,
    hrf: str,
    start: float = 0.0,
) -> Array:
    """Return the response (n_volumes,) to events (of `name_events`), each times its weight (n_events,).

    One isolated event of their median duration and of weight 1 peaks at 1.
    """
    times = start + tr * np.arange(n_volumes)
    lengths = events["duration"].to_numpy(dtype=float)
    total = np.zeros(n_volumes)
    for onset, length, weight in zip(events["onset"], lengths, weights, strict=True):
        total += weight * event_response(times - onset, length, hrf)
    return total / _peak(hrf, float(np.median(lengths)))


def event_response(times: Array, duration: float, hrf: str, *, wider: float = 0.0) -> Array:
    """Return the response at `times` (s after onset) to a boxcar of `duration` s; to an impulse when it is 0.

    In closed form: a boxcar's response is the difference of two integrals of the haemodynamic response, which
    are incomplete gamma functions. The integral of the whole response is 1, so a long plateau tends to 1.
    `wider`, s, is added to the dispersion of the peak, whose time stays.
    """
    check_choice("hrf", hrf, RESPONSES)
    ((form, dispersion), undershoot, ratio) = RESPONSES[hrf]
    peak = (form * dispersion / (dispersion + wider), dispersion + wider)
    if duration == 0:
        density = _gamma_density(times, *peak) - ratio * _gamma_density(times, *undershoot)
        return np.asarray(density / (1 - ratio))

    def integral(at: Array) -> Array:
        return _gamma_integral(at, *peak) - ratio * _gamma_integral(at, *undershoot)

    return np.asarray((integral(times) - integral(times - duration)) / (1 - ratio))


def _peak(hrf: str, duration: float) -> float:
    """Return the largest response to one event of `duration` s."""
    around = np.arange(0.0, duration + 20.0, 0.05)
    return float(event_response(around, duration, hrf).max())


def _gamma_integral(times: Array, shape: float, scale: float) -> Array:
    from scipy.special import gammainc

    return np.asarray(gammainc(shape, np.maximum(times, 0.0) / scale))


def _gamma_density(times: Array, shape: float, scale: float) -> Array:
    after = np.maximum(times, 0.0) / scale
    density: Array = after ** (shape - 1) * np.exp(-after) / (math.gamma(shape) * scale)
    return density


def _orthogonal(column: Array, to: Array) -> Array:
    return np.asarray(column - to * (column @ to) / (to @ to))


def _check_types(events: pd.DataFrame, task: Task) -> None:
    known = {*task.conditions, *task.ignore}
    unknown = sorted({str(kind) for kind in events["trial_type"].dropna()} - known)
    if unknown:
        raise DataFault(
            "E-DATA-B13",
            f"trial types {unknown} are not in the study file, which has {sorted(known)}",
            fix="name them under tasks: conditions or ignore",
        )
    if not events["trial_type"].isin(list(task.conditions)).any():
        raise DataFault(
            "E-DATA-B13",
            f"no event of the trial types {sorted(task.conditions)} in this run",
            fix="check that the events file belongs to this run",
        )


def _check_times(events: pd.DataFrame, run: float) -> None:
    fix = "repair the events file: seconds from the start of the first volume"
    onset, length = events["onset"].to_numpy(dtype=float), events["duration"].to_numpy(dtype=float)
    if not (np.isfinite(onset).all() and np.isfinite(length).all()):
        raise DataFault("E-DATA-B13", "an onset or a duration is missing or infinite", fix=fix)
    if (length < 0).any():
        raise DataFault("E-DATA-B13", f"a duration is negative ({length.min():g} s)", fix=fix)
    if (onset < 0).any():
        raise DataFault("E-DATA-B13", f"an onset is negative ({onset.min():g} s)", fix=fix)
    _check_end(onset, length, run, fix)
    twice = events[events.duplicated(["onset", "trial_type"])]
    if len(twice):
        first = twice.iloc[0]
        raise DataFault(
            "E-DATA-B13", f"{first['trial_type']!r} at {first['onset']:g} s is there twice", fix=fix
        )


def _check_end(onset: Array, length: Array, run: float, fix: str) -> None:
    late = onset > run + LATE
    if late.any():
        in_ms = float(np.median(onset)) > 10 * run
        reason = (
            f"{late.sum()} of {len(onset)} onsets lie beyond the end of the run, {run:g} s: {onset.max():g} s"
        )
        if in_ms:
            reason += "; this looks like milliseconds"
        raise DataFault("E-DATA-B13", reason, fix=fix)
    if len(length) and float(length.max()) > run:
        reason = f"a duration, {length.max():g} s, is longer than the run ({run:g} s)"
        # In the durations alone: onsets fit the run, most lengths are far beyond it.
        hint = "; this looks like milliseconds" if float(np.median(length)) > run else ""
        raise DataFault("E-DATA-B13", reason + hint, fix=fix)
