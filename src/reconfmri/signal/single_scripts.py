"""Estimates of single scripts or events: all in one model (LSA), and each in a model of its own (LSS).

LSA (least squares all) has a regressor per event. LSS (least squares separate) has, for each event in turn,
its own regressor, one of all others of its condition and one per other condition: less variance where events
follow one another closely, at the price of some bias (Mumford et al., NeuroImage 2012;59:2636).
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.config import Task
from reconfmri.contracts.specs import TableSpec, integer, number, text
from reconfmri.events import name_events, script_regressors
from reconfmri.nuisance import INTERCEPT
from reconfmri.signal.first_level import MAX_CONDITION, MIN_DF, usable_regions
from reconfmri.signal.least_squares import fit_with, noise_of

Array = npt.NDArray[np.float64]

SCRIPTS = TableSpec(
    (
        text("region", "Region, single or combined"),
        text("event", "Event: condition and number"),
        text("condition", "Condition of the event"),
        integer("repetition", "Events of the condition before it in the run"),
        integer("position", "Events before it in the run"),
        number("onset", "Onset of the event", "s"),
        number("lsa", "Estimate with every event in one model; missing where that is not estimable", "%"),
        number("lsa_se", "Standard error of lsa", "%"),
        number("lss", "Estimate with a model per event", "%"),
        number("lss_se", "Standard error of lss", "%"),
    ),
    what="Estimates of single scripts or events per region, percent signal change",
)


def single_scripts(
    signals: pd.DataFrame,
    design: pd.DataFrame,
    events: pd.DataFrame,
    *,
    tr: float,
    task: Task,
    hrf: str = "glover",
    start: float = 0.0,
    noise: str = "ar1",
    modulators: Collection[str] = (),
) -> pd.DataFrame:
    """Return one row per usable region and event, with the columns of `SCRIPTS`; none for the course by bins.

    `design` is that of the run (`first_level.build_design`); all but its regressors of events stay beside
    each event, and without `modulators`, columns that rise with ratings. The autocorrelation is that of the
    run's own model.

    Raises
    ------
    DataFault
        The events are faulty.
    """
    if hrf == "fir":
        return SCRIPTS.frame([])
    each = task.model_copy(update={"events": "each"})
    n_volumes = len(signals)
    named = name_events(events, each, duration=tr * n_volumes)
    shape = hrf.partition(" + ")[0]
    single = script_regressors(events, tr=tr, n_volumes=n_volumes, task=each, hrf=shape, start=start)
    own = script_regressors(events, tr=tr, n_volumes=n_volumes, task=task, hrf=hrf, start=start)
    beside = design.drop(columns=[*own.columns, *(name for name in modulators if name in design)])
    usable = usable_regions(signals)
    series = signals[usable].to_numpy(dtype=float)
    whole = design.to_numpy(dtype=float)
    partials = noise_of(series, whole, noise)
    rows: list[dict[str, object]] = []
    for region, values, partial in zip(usable, series.T, partials, strict=True):
        lsa = _all_at_once(values, single, beside, partial)
        lss = _one_by_one(values, single, named, beside, partial)
        for place, event in enumerate(named.itertuples()):
            rows.append(
                {
                    "region": region,
                    "event": event.name,
                    "condition": event.condition,
                    "repetition": int((named["condition"][:place] == event.condition).sum()),
                    "position": place,
                    "onset": event.onset,
                    "lsa": lsa[place, 0],
                    "lsa_se": lsa[place, 1],
                    "lss": lss[place, 0],
                    "lss_se": lss[place, 1],
                }
            )
    return SCRIPTS.frame(rows)


def _all_at_once(series: Array, single: pd.DataFrame, beside: pd.DataFrame, partial: Array) -> Array:
    """Return value and standard error (n_events, 2), percent; missing where there are too many events."""
    matrix = np.hstack([single.to_numpy(), beside.to_numpy(dtype=float)])
    lengths = np.linalg.norm(matrix, axis=0)
    none = np.full((single.shape[1], 2), math.nan)
    if matrix.shape[0] - matrix.shape[1] < MIN_DF or not lengths.all():
        return none
    if np.linalg.cond(matrix / lengths) > MAX_CONDITION:
        return none
    fit = fit_with(series, matrix, partial)
    level = fit.beta[single.shape[1] + list(beside.columns).index(INTERCEPT)]
    errors = np.sqrt(np.diag(fit.covariance))
    return np.asarray(100 * np.column_stack([fit.beta, errors])[: single.shape[1]] / level)


def _one_by_one(
    series: Array, single: pd.DataFrame, named: pd.DataFrame, beside: pd.DataFrame, partial: Array
) -> Array:
    """Return value and standard error (n_events, 2), percent."""
    responses, nuisance = single.to_numpy(), beside.to_numpy(dtype=float)
    of = named["condition"].to_numpy()
    sums = {condition: responses[:, of == condition].sum(axis=1) for condition in dict.fromkeys(of)}
    found = []
    for place, condition in enumerate(of):
        others = [
            total - responses[:, place] * (name == condition)
            for name, total in sums.items()
            if name != condition or (of == condition).sum() > 1
        ]
        fit = fit_with(series, np.column_stack([responses[:, place], *others, nuisance]), partial)
        level = fit.beta[1 + len(others) + list(beside.columns).index(INTERCEPT)]
        found.append((100 * fit.beta[0] / level, 100 * math.sqrt(fit.covariance[0, 0]) / level))
    return np.array(found)
