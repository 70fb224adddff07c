"""Connectivity of region pairs in a run: correlation within conditions, and its twins by deconvolution.

Each pair gets a row per condition (correlation) and per contrast of conditions and estimator. Beside every
row are the SDs of both regions there, since a region that fluctuates more moves every estimator although its
coupling is the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.config import WHOLE_RUN, Connectivity, Coupled, Task
from reconfmri.config.connectivity import CORRELATION, SD, SPREAD
from reconfmri.confounds import damaged_volumes, select
from reconfmri.contracts.specs import TableSpec, number, text
from reconfmri.events import cut_windows, events_of, name_events, script_regressors
from reconfmri.exclusions import DataFault
from reconfmri.signal import ppi
from reconfmri.signal.beta_series import MIN_BETAS, event_betas, fisher_z, too_few
from reconfmri.signal.correlation import Cut, Window, clean, clean_space, correlate, correlation_fault
from reconfmri.signal.first_level import MIN_DF, drifts
from reconfmri.signal.task_model import task_responses

Array = npt.NDArray[np.float64]
Numbers = tuple[float, float, float]  # value, standard error, degrees of freedom
MISSING = (math.nan, math.nan, math.nan)

PAIRS = TableSpec(
    (
        text("seed", "First region of the pair; the seed of generalised PPI"),
        text("target", "Second region of the pair"),
        text("condition", "Condition or contrast, as in the study file"),
        text(
            "estimator",
            "correlation: Fisher z of cleaned signals within a condition, or its difference; gppi: "
            "generalised PPI of deconvolved signals; partial_ppi: partial correlation of "
            "interactions, Fisher z; beta_series: correlation over estimates of single events, Fisher z",
        ),
        number("value", "Estimate, in the unit of the column unit"),
        number("se", "Standard error of the value; missing where it is not defined"),
        text("unit", "Unit of value and se"),
        number("df", "Effective number of observations (correlation), or residual degrees of freedom (gppi)"),
        number(
            "sd_seed",
            "Natural logarithm of the SD of the seed's cleaned signal, percent of its mean; of a contrast: "
            "the weighted sum over its conditions",
        ),
        number("sd_target", "The same of the target"),
    ),
    what="Connectivity of each pair by every estimator, with the SDs of both regions",
)


@dataclass(frozen=True)
class Run:
    """A run laid out for connectivity.

    `cuts` condition -> its volumes; `cleaned` region -> its series in the band, or None; `levels` region ->
    mean signal; `spreads` (region, condition) -> logarithm of the SD in percent, its standard error, and the
    effective observations.
    """

    cuts: Mapping[str, Cut]
    cleaned: Mapping[str, Array | None]
    levels: Mapping[str, float]
    spreads: Mapping[tuple[str, str], tuple[float, float, float]]


def couple(
    signals: pd.DataFrame,
    confounds: pd.DataFrame,
    events: pd.DataFrame | None,
    *,
    tr: float,
    task: Task,
    settings: Connectivity,
    start: float = 0.0,
) -> tuple[pd.DataFrame, list[DataFault]]:
    """Return the rows of a run (columns of measures, those of pairs with those of `PAIRS`), and the faults.

    Rows are of every outcome of `settings.coupled`, then of the SD of each region in each condition.
    Correlation: arctanh of Pearson's r over the volumes of the condition, shifted by `delay` s, without
    damaged ones; df the effective number of observations n and the standard error 1 / sqrt(n - 3). A pair
    whose region has no signal is missing without a fault of its own. `start` is the moment within a volume
    that its values stand for, s.

    Raises
    ------
    DataFault
        The events or the confounds are faulty, a condition is absent, or the confounds leave too little of
        the band.
    """
    n_volumes = len(signals)
    nuisance = _nuisance(confounds, events, n_volumes, tr, task, settings, start=start)
    run, faults = _lay_out(signals, confounds, nuisance, events, tr, task, settings, start=start)
    found: dict[Coupled, tuple[float, float, float]] = {}
    for item in settings.coupled:
        if item.condition in settings.conditions:
            found[item], fault = _correlation(run, item.pair, item.condition, settings.min_df)
            faults += [fault] if fault else []
    faults += _contrasts(run, settings, found)
    if events is not None and settings.contrasts and settings.estimators:
        clock = ppi.Clock(n_volumes, tr, start)
        faults += _interactions(signals, run, nuisance, events, task, settings, clock, found)
    if events is not None and settings.contrasts and "beta_series" in settings.estimators:
        beside = [
            select(confounds, settings.confounds, settings.scrubbing).to_numpy(dtype=float),
            np.ones((n_volumes, 1)),
        ]
        beside += [drifts(n_volumes, tr, settings.band[0]).to_numpy()]
        faults += _beta_series(signals, np.hstack(beside), run, events, tr, task, settings, start, found)
    rows = [_row(run, item, found.get(item, MISSING), settings) for item in settings.coupled]
    rows += [
        {"outcome": f"{region}.{SD}{condition}", "unit": SPREAD}
        | dict(zip(("value", "se", "df"), run.spreads[region, condition], strict=True))
        for region in settings.regions
        for condition in settings.windows
    ]
    return pd.DataFrame(rows).assign(domain="connectivity", coverage=math.nan), faults


def _lay_out(
    signals: pd.DataFrame,
    confounds: pd.DataFrame,
    nuisance: Array,
    events: pd.DataFrame | None,
    tr: float,
    task: Task,
    settings: Connectivity,
    *,
    start: float,
) -> tuple[Run, list[DataFault]]:
    n_volumes, damaged = len(signals), damaged_volumes(confounds)
    space = clean_space(nuisance, tr=tr, band=settings.band)
    cuts = {
        name: Cut(_window(name, events, n_volumes, tr, task, settings.delay - start) & ~damaged, space)
        for name in settings.windows
    }
    faults: list[DataFault] = []
    cleaned: dict[str, Array | None] = {}
    for region in settings.regions:
        cleaned[region], fault = clean(signals[region].to_numpy(dtype=float), space, region)
        faults += [fault] if fault else []
    levels = {region: float(signals[region].to_numpy(dtype=float)[~damaged].mean()) for region in cleaned}
    spreads = {
        (region, name): _spread(series, levels[region], cut)
        for region, series in cleaned.items()
        for name, cut in cuts.items()
    }
    return Run(cuts, cleaned, levels, spreads), faults


def _spread(series: Array | None, level: float, cut: Cut) -> tuple[float, float, float]:
    if series is None or level <= 0:
        return MISSING
    n = cut.effective_observations(series, series)
    sd = 100 * float(series[cut.window].std()) / level
    return (math.log(sd), 1 / math.sqrt(2 * max(n - 1, 1)), n) if sd > 0 else MISSING


def _nuisance(
    confounds: pd.DataFrame,
    events: pd.DataFrame | None,
    n_volumes: int,
    tr: float,
    task: Task,
    settings: Connectivity,
    *,
    start: float,
) -> Array:
    if len(confounds) != n_volumes:
        reason = f"the confounds have {len(confounds)} rows, the run {n_volumes} volumes"
        raise DataFault("E-DATA-B11", reason, fix="make the confounds of this run again")
    parts = [select(confounds, settings.confounds, settings.scrubbing).to_numpy(dtype=float)]
    if task.conditions and events is not None:
        parts.append(
            task_responses(
                events,
                tr=tr,
                n_volumes=n_volumes,
                task=task,
                model=settings.task_model,
                length=settings.bin,
                hrf=settings.hrf,
                start=start,
            )
        )
    return np.hstack(parts)


def _window(
    condition: str, events: pd.DataFrame | None, n_volumes: int, tr: float, task: Task, delay: float
) -> Window:
    """Return which volumes (n_volumes,) belong to a condition, its events shifted by `delay` s."""
    if condition == WHOLE_RUN:
        return np.ones(n_volumes, dtype=bool)
    if events is None:
        raise DataFault("E-DATA-B14", f"no events for {condition!r}", fix="find the events file of this run")
    cut, windowed = cut_windows(events, task)
    chosen = events_of(name_events(cut, windowed, duration=tr * n_volumes), condition)
    if chosen.empty:
        raise DataFault("E-STAT-E02", f"this run has no {condition!r}", fix="check the events file")
    times = tr * np.arange(n_volumes) - delay
    starts, ends = chosen["onset"].to_numpy(), (chosen["onset"] + chosen["duration"]).to_numpy()
    return np.asarray(((times[:, None] >= starts) & (times[:, None] < ends)).any(axis=1))


def _correlation(
    run: Run, pair: tuple[str, str], condition: str, min_df: float
) -> tuple[tuple[float, float, float], DataFault | None]:
    one, other = (run.cleaned[region] for region in pair)
    z, n = correlate(one, other, run.cuts[condition])
    fault = correlation_fault(z, n, min_df, "-".join(pair), condition)
    if fault or math.isnan(z):
        return (math.nan, math.nan, n), fault
    return (z, 1 / math.sqrt(n - 3), n), None


def _contrasts(
    run: Run, settings: Connectivity, found: dict[Coupled, tuple[float, float, float]]
) -> list[DataFault]:
    """Add the contrasts of Fisher z, conditions taken as independent; faults of conditions not asked for."""
    faults = {}
    for item in settings.coupled:
        if item.estimator != CORRELATION or item.condition in settings.conditions:
            continue
        weights = settings.contrasts[item.condition]
        parts = []
        for condition in weights:
            part, fault = _correlation(run, item.pair, condition, settings.min_df)
            parts.append(part)
            if fault and condition not in settings.conditions:
                faults[item.pair, condition] = fault
        values, errors, observations = np.array(parts).T
        by = np.array(list(weights.values()))
        found[item] = float(by @ values), float(np.sqrt(by**2 @ errors**2)), float(observations.min())
    return list(faults.values())


def _interactions(
    signals: pd.DataFrame,
    run: Run,
    nuisance: Array,
    events: pd.DataFrame,
    task: Task,
    settings: Connectivity,
    clock: ppi.Clock,
    found: dict[Coupled, tuple[float, float, float]],
) -> list[DataFault]:
    """Add the contrasts by deconvolution; one fault per pair where the run is too short for its model."""
    named = name_events(events, task, duration=clock.tr * clock.n_volumes)
    windows = {str(name): ppi.share_of_bins(rows, clock) for name, rows in named.groupby("condition")}
    usable = [name for name, series in run.cleaned.items() if series is not None and run.levels[name] > 0]
    percent = pd.DataFrame({name: 100 * (signals[name] / run.levels[name] - 1) for name in usable})
    beside = np.hstack([nuisance, drifts(clock.n_volumes, clock.tr, settings.band[0]).to_numpy()])
    cut = ppi.interact(percent, windows, beside, clock=clock, hrf=settings.hrf)
    weights = np.array(
        [[given.get(name, 0.0) for given in settings.contrasts.values()] for name in cut.conditions]
    )
    faults = []
    for seed, target in settings.pairs:
        if not {seed, target} <= set(usable):
            continue
        df = clock.n_volumes - cut.beside.shape[1] - 2 * len(windows) - 2
        if df < MIN_DF:
            reason = f"the interactions of {seed}-{target} leave {df} degrees of freedom"
            fix = f"at least {MIN_DF} are needed: fewer connectivity.confounds, or a longer bin"
            faults.append(DataFault("E-STAT-E03", reason, fix=fix, region=f"{seed}-{target}"))
            continue
        estimates = _twins(percent, (seed, target), cut, weights, settings)
        found |= {
            item: estimates[item.estimator][item.condition]
            for item in settings.coupled
            if item.pair == (seed, target) and item.estimator in estimates
        }
    return faults


def _beta_series(
    signals: pd.DataFrame,
    beside: Array,
    run: Run,
    events: pd.DataFrame,
    tr: float,
    task: Task,
    settings: Connectivity,
    start: float,
    found: dict[Coupled, Numbers],
) -> list[DataFault]:
    """Add the contrasts of beta series; one fault per pair where a condition has fewer than ten events."""
    each = task.model_copy(update={"events": "each"})
    n_volumes = len(signals)
    named = name_events(events, each, duration=tr * n_volumes)
    weighed = list(dict.fromkeys(name for weights in settings.contrasts.values() for name in weights))
    if few := too_few(named, weighed):
        reason = ", ".join(f"{name} has {count} events" for name, count in few.items())
        reason = f"beta series need {MIN_BETAS} events of a condition: {reason}"
        fix = "take beta_series out of connectivity.estimators"
        return [DataFault("E-STAT-E03", reason, fix=fix, region="-".join(pair)) for pair in settings.pairs]
    usable = [name for name, series in run.cleaned.items() if series is not None]
    responses = script_regressors(
        events, tr=tr, n_volumes=n_volumes, task=each, hrf=settings.hrf, start=start
    )
    conditions = named["condition"].to_numpy()
    betas = event_betas(
        signals[usable].to_numpy(dtype=float), responses.to_numpy(), conditions, ppi.orthonormal(beside)
    )
    series = dict(zip(usable, betas.T, strict=True))
    for item in settings.coupled:
        if item.estimator != "beta_series" or not set(item.pair) <= set(usable):
            continue
        weights = settings.contrasts[item.condition]
        parts = np.array(
            [fisher_z(*(series[region][conditions == name] for region in item.pair)) for name in weights]
        )
        by = np.array(list(weights.values()))
        n = float(min((conditions == name).sum() for name in weights))
        found[item] = float(by @ parts[:, 0]), float(np.sqrt(by**2 @ parts[:, 1] ** 2)), n
    return []


def _twins(
    percent: pd.DataFrame,
    pair: tuple[str, str],
    cut: ppi.Interactions,
    weights: Array,
    settings: Connectivity,
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return estimator -> contrast -> value, standard error, degrees of freedom, of one pair."""
    seed, target = pair
    twins: dict[str, dict[str, tuple[float, float, float]]] = {}
    if "gppi" in settings.estimators:
        values, errors, df = ppi.fit_interactions(
            percent[target].to_numpy(), percent[seed].to_numpy(), cut.terms[seed], cut.beside, weights
        )
        numbers = zip(values, errors, strict=True)
        twins["gppi"] = {
            name: (float(value), float(error), df)
            for name, (value, error) in zip(settings.contrasts, numbers, strict=True)
        }
    if "partial_ppi" in settings.estimators:
        r = [
            ppi.partial_correlation(cut.parts[seed], cut.parts[target], place, cut.beside)
            for place in range(len(cut.conditions))
        ]
        values = np.arctanh(r) @ weights
        twins["partial_ppi"] = {
            name: (float(value), math.nan, math.nan)
            for name, value in zip(settings.contrasts, values, strict=True)
        }
    return twins


def _row(
    run: Run, item: Coupled, numbers: tuple[float, float, float], settings: Connectivity
) -> dict[str, object]:
    """Return a row of measures with the columns of `PAIRS`."""
    weights = settings.contrasts.get(item.condition, {item.condition: 1.0})
    spreads = [
        sum(weight * run.spreads[region, name][0] for name, weight in weights.items()) for region in item.pair
    ]
    value, se, df = numbers
    return {
        "outcome": f"{'-'.join(item.pair)}.{item.spelled}",
        "value": value,
        "se": se,
        "unit": item.unit,
        "df": df,
        "seed": item.pair[0],
        "target": item.pair[1],
        "condition": item.condition,
        "estimator": item.estimator,
        "sd_seed": spreads[0],
        "sd_target": spreads[1],
    }
