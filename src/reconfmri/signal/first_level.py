"""First level: the design of a run, its fit per region and per voxel, contrasts with standard errors.

Estimates are in percent signal change: a regressor peaks at 1 for one event, and a contrast of coefficients
is divided by the intercept, which is the mean of the series without the task (confounds and drifts have zero
mean; volumes with a column of their own do not count).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.config import FirstLevel, ScriptContrast, Task
from reconfmri.events import DELAY, fir_regressors, read_events, script_regressors, start_time
from reconfmri.exclusions import DataFault
from reconfmri.nuisance import DRIFT, INTERCEPT
from reconfmri.signal.contrasts import contrasts_of_run, rated_regressors, weights_of_columns
from reconfmri.signal.habituation import Cost, Script, cost_of, cost_of_weights, script_weights
from reconfmri.signal.least_squares import Fit, fit_series

__all__ = ["build_design", "check_contrasts", "contrast_weights", "fit_regions"]
__all__ += ["read_events", "script_regressors", "start_time"]

Array = npt.NDArray[np.float64]
UNIT = "percent signal change"
NO_VECTOR = np.zeros(0)  # of a contrast that a run lacks
MIN_DF = 10
OVERLAP = 0.999  # correlation from which two event regressors count as one
KEPT_EFFICIENCY = 0.5  # share of a contrast's precision that the drifts must leave
MAX_CONDITION = 1e6  # of columns scaled to unit length
MIN_PEAK = 0.05  # share of a response that the run must have seen
CONSTANT = 1e-6  # standard deviation relative to the mean below which a series is flat: float32 rounding


def build_design(
    events: pd.DataFrame,
    confounds: pd.DataFrame,
    *,
    tr: float,
    n_volumes: int,
    task: Task,
    settings: FirstLevel,
    start: float = 0.0,
) -> pd.DataFrame:
    """Return the design of one run, (n_volumes, n_regressors): task, confounds, cosine drifts, intercept.

    `start` is the moment within a volume that its values stand for, s (`events.start_time`).
    Confounds have zero mean and unit SD, except the 0/1 columns of single volumes; drifts are the discrete
    cosines below `high_pass` (Hz). The intercept is so the mean of the series without the task. A volume
    stands for the moment `start` s after it begins.

    Raises
    ------
    DataFault
        The events are faulty, the confounds have another length than the run, or the design cannot be
        fitted: too few volumes, linearly dependent columns, two conditions at the same time.
    """
    from reconfmri.confounds import select

    if len(confounds) != n_volumes:
        raise DataFault(
            "E-DATA-B11",
            f"the confounds have {len(confounds)} rows, the run {n_volumes} volumes",
            fix="make the confounds of this run again",
        )
    scripts = task_regressors(events, tr=tr, n_volumes=n_volumes, task=task, settings=settings, start=start)
    chosen = _standardised(select(confounds, settings.confounds, settings.scrubbing))
    slow = drifts(n_volumes, tr, settings.high_pass)
    design = pd.concat([scripts, chosen, slow], axis=1).assign(**{INTERCEPT: 1.0})
    _check_design(design, list(scripts.columns))
    return design


def task_regressors(
    events: pd.DataFrame, *, tr: float, n_volumes: int, task: Task, settings: FirstLevel, start: float = 0.0
) -> pd.DataFrame:
    """Return the columns of a design that stand for events and their ratings, (n_volumes, n_regressors).

    Raises
    ------
    DataFault
        The events are faulty.
    """
    if settings.fir is not None:
        return fir_regressors(
            events, tr=tr, n_volumes=n_volumes, task=task, edges=settings.fir.edges, start=start
        )
    scripts = script_regressors(events, tr=tr, n_volumes=n_volumes, task=task, hrf=settings.hrf, start=start)
    rated = rated_regressors(events, settings, task, tr=tr, n_volumes=n_volumes, start=start)
    return pd.concat([scripts, rated], axis=1)


def contrast_weights(
    weights: Mapping[str, float] | ScriptContrast, names: Sequence[str], task: Task
) -> Array:
    """Return a contrast of conditions, single events or scripts as weights of the design's columns `names`.

    With one regressor per event, a condition is the mean over its events.

    Raises
    ------
    DataFault
        The run lacks a condition or an event that the contrast names, or the order of its scripts cannot
        tell the contrast from another term.
    """
    vector = np.zeros(len(names))
    if isinstance(weights, ScriptContrast):
        scripts = scripts_of_design(names, task)
        vector[list(scripts)] = script_weights(list(scripts.values()), weights)
        return vector
    for name, weight in weights.items():
        columns = _columns_of(name, names, task)
        if not columns:
            raise DataFault(
                "E-STAT-E02",
                f"the contrast needs {name!r}, which this run lacks; it has {_event_columns(names, task)}",
                fix="check the events file, or the contrasts of the study file",
            )
        vector[columns] += weight / len(columns)
    return vector


def check_contrasts(
    design: pd.DataFrame, contrasts: Mapping[str, Mapping[str, float] | ScriptContrast], task: Task
) -> list[DataFault]:
    """Return one remark per contrast of which the drifts of the high-pass filter eat more than half.

    Measured as the variance of the contrast under white noise without the drifts over that with them.

    Raises
    ------
    DataFault
        A contrast is not estimable in this design.
    """
    names = list(design.columns)
    matrix = design.to_numpy()
    share_of = _share_left(matrix, names)
    remarks = []
    for contrast, weights in contrasts.items():
        vector = contrast_weights(weights, names, task)
        _check_estimable(matrix, vector, contrast)
        share = share_of(vector)
        if share < KEPT_EFFICIENCY:
            reason = (
                f"the high-pass filter leaves {100 * share:.0f} % of the precision of contrast {contrast!r}"
            )
            remarks.append(DataFault("W-STAT-E02", reason, fix="lower first_level.high_pass"))
    return remarks


def check_task(events: pd.DataFrame, *, tr: float, n_volumes: int, task: Task, settings: FirstLevel) -> None:
    """Check that the events of a run can give every contrast, confounds aside.

    Raises
    ------
    DataFault
        The events are faulty, two conditions are at the same time, or a contrast lacks an event.
    """
    scripts = task_regressors(events, tr=tr, n_volumes=n_volumes, task=task, settings=settings)
    slow = drifts(n_volumes, tr, settings.high_pass)
    design = pd.concat([scripts, slow], axis=1).assign(**{INTERCEPT: 1.0})
    _check_design(design, list(scripts.columns))
    contrasts, _ = contrasts_of_run(settings, task, events, duration=tr * n_volumes)
    check_contrasts(design, contrasts, task)


def share_left_by_filter(
    events: pd.DataFrame, *, tr: float, n_volumes: int, task: Task, settings: FirstLevel
) -> dict[str, float]:
    """Return contrast -> share of its precision that the high-pass filter leaves in a run, confounds aside.

    Contrasts that the run lacks an event for are left out.

    Raises
    ------
    DataFault
        The events are faulty.
    """
    scripts = task_regressors(events, tr=tr, n_volumes=n_volumes, task=task, settings=settings)
    slow = drifts(n_volumes, tr, settings.high_pass)
    design = pd.concat([scripts, slow], axis=1).assign(**{INTERCEPT: 1.0})
    names, shares = list(design.columns), {}
    share_of = _share_left(design.to_numpy(dtype=float), names)
    contrasts, _ = contrasts_of_run(settings, task, events, duration=tr * n_volumes)
    for contrast, weights in contrasts.items():
        if isinstance(weights, ScriptContrast):
            continue
        if all(_columns_of(name, names, task) for name in weights):
            shares[contrast] = share_of(contrast_weights(weights, names, task))
    return shares


def columns_of_task(names: Sequence[str], task: Task, settings: FirstLevel) -> list[str]:
    """Return the columns of a design that stand for events, their bins and their ratings."""
    stems = set(task.conditions.values())
    return [
        name
        for name in names
        if name in stems
        or name.rsplit("_", 1)[0] in stems
        or name in settings.modulators
        or (settings.fir is not None and DELAY in name)
    ]


def variance_inflation(design: pd.DataFrame, task: Task, settings: FirstLevel) -> dict[str, float]:
    """Return contrast -> its variance under white noise relative to that without confounds and drifts.

    The mean of the series stays. Contrasts that the design has no columns of are left out, as is one over
    the ratings of single events.
    """
    names = list(map(str, design.columns))
    matrix = design.to_numpy(dtype=float)
    own = columns_of_task(names, task, settings)
    kept = [i for i, name in enumerate(names) if name in (*own, INTERCEPT)]
    whole = np.linalg.pinv(matrix.T @ matrix)
    alone = np.linalg.pinv(matrix[:, kept].T @ matrix[:, kept])
    found = {}
    for contrast, weights in settings.every_contrast.items():
        taken = weights
        if not isinstance(weights, ScriptContrast):
            taken = weights_of_columns(weights, settings, task, {})
            if not all(_columns_of(name, names, task) for name in taken):
                continue
        try:
            vector = contrast_weights(taken, names, task)
        except DataFault:
            continue
        if without := float(vector[kept] @ alone @ vector[kept]):
            found[contrast] = float(vector @ whole @ vector) / without
    return found


def costs_of_order(names: Sequence[str], task: Task, settings: FirstLevel) -> dict[str, Cost]:
    """Return contrast -> what the order of a run's scripts makes of it, of a design with such columns.

    Contrasts that the run lacks an event for, or that compare scripts of one condition, have no plain
    contrast of means to be compared with and are left out.
    """
    scripts = scripts_of_design(names, task)
    present = {script.condition for script in scripts.values()}
    found = {}
    for contrast, weights in settings.every_contrast.items():
        if isinstance(weights, ScriptContrast):
            if set(weights.weights) <= present:
                found[contrast] = cost_of(list(scripts.values()), weights)
        elif all(_columns_of(name, names, task) for name in weights):
            vector = contrast_weights(weights, names, task)[list(scripts)]
            if cost := cost_of_weights(list(scripts.values()), vector):
                found[contrast] = cost
    return found


def fit_regions(
    signals: pd.DataFrame,
    design: pd.DataFrame,
    *,
    contrasts: Mapping[str, Mapping[str, float] | ScriptContrast],
    task: Task,
    noise: str = "ar1",
    coverage: Mapping[str, float] | None = None,
    units: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, list[DataFault]]:
    """Return one row per region and contrast (domain outcome value se unit coverage df), and the faults.

    Value and standard error are in percent signal change, or in the unit that `units` has: contrast -> unit,
    of every contrast of the study. One of these that is not among `contrasts` is missing. A region without a
    usable signal has missing values; a column that is all missing was accounted for where the signals were
    extracted.

    Raises
    ------
    DataFault
        A contrast is not estimable in this run, or the signals have another length than the design.
    """
    if len(signals) != len(design):
        reason = f"the signals have {len(signals)} volumes, the design {len(design)}"
        raise DataFault("E-DATA-B11", reason, fix="make both again from one run")
    faults = check_contrasts(design, contrasts, task)
    names, matrix = list(design.columns), design.to_numpy(dtype=float)
    vectors = {name: contrast_weights(weights, names, task) for name, weights in contrasts.items()}
    fits, broken = _fit_usable(signals, matrix, names.index(INTERCEPT), noise=noise)
    rows = []
    for region in map(str, signals.columns):
        covered = math.nan if coverage is None else coverage.get(region, math.nan)
        for name, unit in (units or dict.fromkeys(contrasts, UNIT)).items():
            fit = fits.get(region) if name in vectors else None
            value, se, df = _percent(fit, vectors.get(name, NO_VECTOR), names.index(INTERCEPT))
            rows.append(("activation", f"{region}.{name}", value, se, unit, covered, df))
    columns = ["domain", "outcome", "value", "se", "unit", "coverage", "df"]
    return pd.DataFrame(rows, columns=columns), faults + broken


def usable_regions(signals: pd.DataFrame) -> list[str]:
    """Return the regions whose signal can be fitted and is positive on average."""
    return [
        region
        for region in map(str, signals.columns)
        if signals[region].notna().all()
        and _signal_fault(signals[region].to_numpy(dtype=float), region) is None
        and signals[region].mean() > 0
    ]


def _fit_usable(
    signals: pd.DataFrame, design: Array, intercept: int, *, noise: str
) -> tuple[dict[str, Fit], list[DataFault]]:
    """Return the fits of the regions with a signal, and why others have none (silent on all-missing)."""
    faults = []
    usable = []
    for region in map(str, signals.columns):
        fault = _signal_fault(signals[region].to_numpy(dtype=float), region)
        faults += [fault] if fault else []
        if not fault and signals[region].notna().all():
            usable.append(region)
    fits = dict(
        zip(usable, fit_series(signals[usable].to_numpy(dtype=float), design, noise=noise), strict=True)
    )
    for region in usable:
        if (level := fits[region].beta[intercept]) <= 0:
            del fits[region]
            reason = f"the baseline of {region} is {level:.3g}, so that no percentage can be formed"
            fix = "give signals as they were measured, not centred"
            faults.append(DataFault("E-DATA-B04", reason, fix=fix, region=region))
    return fits, faults


def _signal_fault(series: Array, region: str) -> DataFault | None:
    if np.isnan(series).all():
        return None
    fix = "look at the region's mask on this run"
    if not np.isfinite(series).all():
        reason = f"the signal of {region} is missing in {int((~np.isfinite(series)).sum())} volumes"
        return DataFault("E-DATA-B03", reason, fix=fix, region=region)
    if series.std() <= CONSTANT * abs(series.mean()):
        return DataFault("E-DATA-B09", f"the signal of {region} is constant", fix=fix, region=region)
    return None


def _percent(fit: Fit | None, vector: Array, intercept: int) -> tuple[float, float, float]:
    """Return value, standard error (percent signal change) and degrees of freedom of a contrast."""
    if fit is None:
        return math.nan, math.nan, math.nan
    scale = 100.0 / fit.beta[intercept]
    return (
        float(scale * vector @ fit.beta),
        float(scale * math.sqrt(vector @ fit.covariance @ vector)),
        fit.df,
    )


def _standardised(confounds: pd.DataFrame) -> pd.DataFrame:
    """Return the columns with zero mean and unit SD; 0/1 columns as they are, constant ones dropped."""
    table = confounds.reset_index(drop=True).astype(float)
    table = table.loc[:, table.std(ddof=0) > 0]
    scaled = (table - table.mean()) / table.std(ddof=0)
    for name in table:
        if table[name].isin([0.0, 1.0]).all():
            scaled[name] = table[name]
    return scaled


def drifts(n_volumes: int, tr: float, high_pass: float) -> pd.DataFrame:
    """Return the discrete cosines (n_volumes, k) of at most `high_pass` Hz, of unit variance."""
    order = min(n_volumes - 1, math.floor(2 * n_volumes * tr * high_pass))
    phase = (np.arange(n_volumes) + 0.5) * math.pi / n_volumes
    return pd.DataFrame({f"{DRIFT}{k}": math.sqrt(2) * np.cos(k * phase) for k in range(1, order + 1)})


def _check_design(design: pd.DataFrame, scripts: list[str]) -> None:
    n_volumes, n_columns = design.shape
    df = n_volumes - n_columns
    if df < MIN_DF:
        reason = f"{n_columns} regressors for {n_volumes} volumes leave {df} degrees of freedom"
        fix = f"at least {MIN_DF} are needed: fewer confounds, or a lower high_pass"
        raise DataFault("E-STAT-E03", reason, fix=fix)
    if not np.isfinite(design.to_numpy()).all():
        bad = [str(name) for name in design if not np.isfinite(design[name]).all()]
        raise DataFault("E-DATA-B11", f"missing values in {bad}", fix="make the confounds of this run again")
    _check_events(design[scripts])
    scaled = design.to_numpy() / np.linalg.norm(design.to_numpy(), axis=0)
    if np.linalg.cond(scaled) > MAX_CONDITION:
        reason = f"linearly dependent regressors: {_dependent(scaled, list(design.columns))}"
        raise DataFault("E-STAT-E01", reason, fix="drop one of them from first_level.confounds")


def _check_events(scripts: pd.DataFrame) -> None:
    empty = [str(name) for name in scripts if np.abs(scripts[name]).max() < MIN_PEAK]
    if empty:
        reason = f"the run ends before the responses to {empty}"
        if DELAY in empty[0]:
            reason = f"no volume of the run lies in the bins {empty} after an event"
        raise DataFault("E-DATA-B13", reason, fix="name a contrast without them, or find the rest of the run")
    matrix = scripts.to_numpy() / np.linalg.norm(scripts.to_numpy(), axis=0)
    alike = np.triu(np.abs(matrix.T @ matrix), 1) > OVERLAP
    if alike.any():
        one, other = (str(scripts.columns[i]) for i in np.argwhere(alike)[0])
        raise DataFault(
            "E-STAT-E04", f"{one!r} and {other!r} happen at the same time", fix="check the events file"
        )


def _check_estimable(design: Array, vector: Array, contrast: str) -> None:
    """A contrast must lie in the row space of the design (Searle, Linear Models, 1971)."""
    if not np.any(vector):
        raise DataFault(
            "E-STAT-E02", f"contrast {contrast!r} is empty", fix="give it weights that do not cancel"
        )
    q = np.linalg.svd(design, full_matrices=False)
    rows = q.Vh[q.S / q.S[0] > 1 / MAX_CONDITION]
    if np.linalg.norm(vector - rows.T @ (rows @ vector)) > 1e-6 * np.linalg.norm(vector):
        reason = f"contrast {contrast!r} is not estimable in this design"
        raise DataFault("E-STAT-E02", reason, fix="check events and confounds of this run")


def _dependent(scaled: Array, names: list[str]) -> list[str]:
    """Return the columns that take part in the nearest linear dependence."""
    weights = np.abs(np.linalg.svd(scaled)[2][-1])
    return [name for name, weight in zip(names, weights, strict=True) if weight > 0.1 * weights.max()]


def _share_left(matrix: Array, names: Sequence[str]) -> Callable[[Array], float]:
    """Return a function of a contrast's weights: its variance without the drifts over that with them."""
    kept = [i for i, name in enumerate(names) if not name.startswith(DRIFT)]
    gram = matrix.T @ matrix
    whole, without = np.linalg.pinv(gram), np.linalg.pinv(gram[np.ix_(kept, kept)])
    return lambda vector: float(vector[kept] @ without @ vector[kept] / (vector @ whole @ vector))


def _columns_of(name: str, names: Sequence[str], task: Task) -> list[int]:
    """Return the columns whose mean a condition or a single event is; none when the run lacks it."""
    if bins := re.fullmatch(rf"(.+)({DELAY}-?[\d.]+)", name):
        own = {column.removesuffix(bins[2]): i for i, column in enumerate(names) if column.endswith(bins[2])}
        return [own[list(own)[i]] for i in _columns_of(bins[1], list(own), task)]
    if task.events == "condition":
        return [i for i, column in enumerate(names) if column == name]
    if name in task.conditions.values():
        return [i for i, column in enumerate(names) if re.fullmatch(rf"{name}_\d+", column)]
    single = f"{name.removesuffix('_first')}_1" if name.endswith("_first") else name
    return [i for i, column in enumerate(names) if column == single]


def scripts_of_design(names: Sequence[str], task: Task) -> dict[int, Script]:
    """Return column -> script, of a design with one regressor per event; columns are in order of onset."""
    stems = "|".join(dict.fromkeys(task.conditions.values()))
    found = [(i, re.fullmatch(rf"({stems})_(\d+)", name)) for i, name in enumerate(names)]
    played = [(i, match) for i, match in found if match]
    return {i: Script(match[1], int(match[2]) - 1, position) for position, (i, match) in enumerate(played)}


def _event_columns(names: Sequence[str], task: Task) -> list[str]:
    stems = "|".join(dict.fromkeys(task.conditions.values()))
    return [name for name in names if re.fullmatch(rf"({stems})(_\d+)?", name)]
