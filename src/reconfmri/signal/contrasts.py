"""What the contrasts of the study file weigh in one run: bins of a response's course, ratings of events.

A contrast of conditions is the same in every run. One over a course (`hrf: fir`) is the mean over the bins of
a window. One over a rating is the slope of the responses over the ratings that this run has: with a regressor
per event the least-squares slope of the events' own responses, which takes no further column; with one per
condition the coefficient of a regressor that rises with the rating (parametric modulation; Büchel et al.,
NeuroImage 1998;8:140).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.config import FirstLevel, Modulator, ScriptContrast, Task, condition_names
from reconfmri.events import DELAY, name_events, weighted_response
from reconfmri.exclusions import DataFault

Array = npt.NDArray[np.float64]
Contrast = Mapping[str, float] | ScriptContrast
UNRATED = "W-STAT-E07"


class OfRun(NamedTuple):
    """The contrasts that a run has, in weights of conditions, events and columns; why others are missing."""

    contrasts: dict[str, Contrast]
    faults: list[DataFault]


class Rated(NamedTuple):
    """The events of a condition in one run, and what each counts, (rating - centre) / step, NaN unrated."""

    events: pd.DataFrame
    values: Array


def contrasts_of_run(settings: FirstLevel, task: Task, events: pd.DataFrame, *, duration: float) -> OfRun:
    """Return every contrast as weights of what this run of `duration` s has.

    A contrast over ratings that the run lacks is left out, with a fault that has it as its region; ratings
    that single events lack are a remark.

    Raises
    ------
    DataFault
        The events are faulty.
    """
    slopes: dict[str, dict[str, float]] = {}
    lost: dict[str, DataFault] = {}
    faults: list[DataFault] = []
    for name, modulator in settings.modulators.items():
        named = _events_rated(events, modulator, task, duration=duration)
        try:
            rated = ratings_of(named, modulator)
        except DataFault as fault:
            lost[name] = fault
            continue
        slopes[name] = _slope(rated) if task.events == "each" else {name: 1.0}
        if (absent := int(np.isnan(rated.values).sum())) and _is_weighed(name, settings):
            faults.append(_unrated(modulator, task, absent, len(named)))
    found: dict[str, Contrast] = {}
    for contrast, weights in settings.every_contrast.items():
        if isinstance(weights, ScriptContrast):
            found[contrast] = weights
        elif missing := [lost[name] for name in weights if name in lost]:
            why = missing[0]
            faults.append(DataFault(why.code, why.reason, fix=why.fix, region=contrast))
        else:
            found[contrast] = weights_of_columns(weights, settings, task, slopes)
    return OfRun(found, faults)


def rated_regressors(
    events: pd.DataFrame, settings: FirstLevel, task: Task, *, tr: float, n_volumes: int, start: float = 0.0
) -> pd.DataFrame:
    """Return (n_volumes, k): a regressor per rating that rises with it, none with a regressor per event.

    An event without a rating counts as the mean of the others; ratings that cannot be used have no column.
    """
    columns: dict[str, Array] = {}
    for name, modulator in settings.modulators.items() if task.events == "condition" else ():
        named = _events_rated(events, modulator, task, duration=tr * n_volumes)
        try:
            values = ratings_of(named, modulator).values
        except DataFault:
            continue  # told by `contrasts_of_run`
        counted = np.where(np.isnan(values), np.nanmean(values), values)
        shape = settings.hrf.partition(" + ")[0]
        columns[name] = weighted_response(named, counted, tr=tr, n_volumes=n_volumes, hrf=shape, start=start)
    return pd.DataFrame(columns, index=pd.RangeIndex(n_volumes))


def ratings_of(named: pd.DataFrame, modulator: Modulator) -> Rated:
    """Return what each event of `named` counts by its rating.

    Raises
    ------
    DataFault
        A rating is no number, too few events have one, or all have the same.
    """
    cells = named[modulator.column]
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float)
    what = f"the ratings {modulator.column!r} of {modulator.condition!r}"
    if (text := cells.notna().to_numpy() & ~np.isfinite(values)).any():
        reason = f"{what} hold {str(cells[text].iloc[0])!r:.40}, expected a number or n/a"
        raise DataFault("E-DATA-B13", reason, fix="correct the events file")
    rated = np.isfinite(values)
    if rated.sum() < modulator.min_rated:
        reason = (
            f"{what} are there for {rated.sum()} of {len(values)} events, {modulator.min_rated} are needed"
        )
        fix = "complete the events file; no slope is estimated in this run"
        raise DataFault("E-STAT-E02", reason, fix=fix)
    if np.ptp(values[rated]) == 0:
        reason = f"{what} are all {values[rated][0]:g}, so that nothing rises with them"
        raise DataFault("E-STAT-E02", reason, fix="check the column; no slope is estimated in this run")
    centre = values[rated].mean() if modulator.centre == "mean" else float(modulator.centre)
    return Rated(named, (values - centre) / modulator.per)


def _events_rated(events: pd.DataFrame, modulator: Modulator, task: Task, *, duration: float) -> pd.DataFrame:
    """Return the events of the condition that is rated."""
    given = events if modulator.column in events else events.assign(**{modulator.column: np.nan})
    named = name_events(given, task, duration=duration, ratings=[modulator.column])
    return named[named["condition"] == modulator.condition].reset_index(drop=True)


def _slope(rated: Rated) -> dict[str, float]:
    """The least-squares slope of the events' own responses over what they count."""
    counts = np.isfinite(rated.values)
    apart = rated.values[counts] - rated.values[counts].mean()
    weights = apart / (apart @ apart)
    return dict(zip(rated.events["name"][counts], map(float, weights), strict=True))


def weights_of_columns(
    weights: Mapping[str, float], settings: FirstLevel, task: Task, slopes: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Return the weights of a contrast with ratings and windows of a course taken apart."""
    known = condition_names(task)
    found: dict[str, float] = {}
    for name, weight in weights.items():
        parts = dict(slopes.get(name, {name: 1.0}))
        if settings.fir is not None and (bins := settings.fir.bins_of(name, known)):
            stem, delays = bins
            parts = {f"{stem}{DELAY}{delay:g}": 1 / len(delays) for delay in delays}
        for part, share in parts.items():
            found[part] = found.get(part, 0.0) + weight * share
    return found


def _is_weighed(name: str, settings: FirstLevel) -> bool:
    return any(name in weights for weights in settings.contrasts.values())


def _unrated(modulator: Modulator, task: Task, absent: int, n_events: int) -> DataFault:
    how = "the slope is over the others" if task.events == "each" else "each counts as the mean of the others"
    reason = (
        f"{absent} of {n_events} events of {modulator.condition!r} have no rating {modulator.column!r}: {how}"
    )
    fix = "no action is needed if nobody rated them; else complete the events file"
    return DataFault(UNRATED, reason, fix=fix)
