"""The carpet plot of a run: every tissue over time, under its motion and above its events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reconfmri.config import Task
from reconfmri.confounds import DVARS_SPIKE
from reconfmri.events import name_events, read_events
from reconfmri.exclusions import DataFault
from reconfmri.figures.style import BRIGHT, INK, MUTED, OUT, drawn, tidy
from reconfmri.nuisance import DAMAGED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from nibabel.spatialimages import SpatialImage

Array = npt.NDArray[Any]
DPI, SIZE = 100, (12.8, 4.5)
ROWS, TOGETHER, MOST_COLUMNS = 240, 8, 1200
TISSUE = {1: ("grey", "#8c8c8c"), 2: ("white", "#e6d27a"), 3: ("fluid", "#6fb7d9")}


@dataclass(frozen=True)
class Carpet:
    """Signals (n_rows, n_volumes) of small groups of voxels, and each row's tissue, in drawing order."""

    signals: Array
    tissue: npt.NDArray[np.integer]


@dataclass(frozen=True)
class Course:
    """What happened in the seconds of a run: displacement (mm), standardised DVARS, marks, events.

    `outliers` and `unsteady` are volumes, `events` has onset, duration (s) and condition, or says why not.
    """

    tr: float
    displacement: Array
    dvars: Array
    outliers: npt.NDArray[np.bool_]
    unsteady: npt.NDArray[np.bool_]
    events: pd.DataFrame | str = "no events"
    thresholds: tuple[float, float] = (0.5, DVARS_SPIKE)


def carpet_voxels(mask: SpatialImage, dseg: SpatialImage) -> tuple[npt.NDArray[np.intp], Array]:
    """Return the voxels (n_rows, 8) of the mask that a carpet shows, and the tissue (n_rows,) of each row.

    A row is eight neighbours in one tissue, whose mean is quieter than one voxel. At most 240 rows, evenly
    over the brain, ordered grey, white, fluid.
    """
    tissue = np.asarray(dseg.dataobj)[np.asarray(mask.dataobj) > 0].astype(int)
    order = np.argsort(tissue, kind="stable")
    order = order[tissue[order] > 0]
    rows = order[: len(order) // TOGETHER * TOGETHER].reshape(-1, TOGETHER)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), ROWS)).astype(int)]
    return rows, tissue[rows[:, 0]]


@drawn
def carpet(shown: Carpet, course: Course) -> Figure:
    """Return a run's carpet, under framewise displacement and standardised DVARS, above its events.

    Each row is without its linear trend and in its own standard deviations, grey from -2 to 2. Runs longer
    than 1,200 volumes are averaged to fewer columns. Power, NeuroImage 2017;154:150.

    Raises
    ------
    ValueError
        Signals, tissue and traces do not belong together.
    """
    from matplotlib.figure import Figure

    n_volumes = len(course.displacement)
    if shown.signals.shape != (len(shown.tissue), n_volumes) or len(course.dvars) != n_volumes:
        raise ValueError(
            f"{shown.signals.shape} signals, {len(shown.tissue)} tissues, {n_volumes} displacements, "
            f"{len(course.dvars)} DVARS"
        )
    figure = Figure(figsize=(12.8, 4.5), dpi=DPI, facecolor="white")
    left, width = 0.062, 0.928
    moved = figure.add_axes((left, 0.845, width, 0.135))
    jumped = figure.add_axes((left, 0.69, width, 0.135))
    marks = figure.add_axes((left, 0.655, width, 0.022))
    rows = figure.add_axes((left, 0.165, width, 0.485))
    events = figure.add_axes((left, 0.105, width, 0.05))
    _trace(moved, course.displacement, course, 0, ("FD, mm", max(1.0, 2 * course.thresholds[0])))
    _trace(jumped, course.dvars, course, 1, ("std. DVARS", 2.0))
    _marks(marks, course)
    _rows(rows, shown, course)
    _events(figure, events, course)
    for axes in (moved, jumped, marks, rows, events):
        axes.set_xlim(0, n_volumes * course.tr)
    events.set_xlabel("time, s", fontsize=8, color=MUTED, loc="left", labelpad=1)
    return figure


def _trace(axes: Axes, values: Array, course: Course, which: int, named: tuple[str, float]) -> None:
    tidy(axes)
    limit, (label, usual) = course.thresholds[which], named
    seconds = (np.arange(len(values)) + 0.5) * course.tr
    for volume in np.flatnonzero(course.outliers):
        axes.axvspan(volume * course.tr, (volume + 1) * course.tr, color="#f6c9c4", linewidth=0)
    axes.axhline(limit, color=OUT, linewidth=0.7, linestyle=(0, (4, 3)))
    axes.plot(seconds, values, color=INK, linewidth=1.0)
    known = values[np.isfinite(values)]
    # The first steady volume still differs from the last that was not.
    steady = np.nan_to_num(values[np.flatnonzero(~course.unsteady)[1:]])
    axes.set_ylim(0, max(usual, 1.05 * float(steady.max(initial=0))))
    axes.set_yticks([limit, axes.get_ylim()[1]], [f"{limit:g}", f"{axes.get_ylim()[1]:.1f}"])
    axes.set_ylabel(label, fontsize=8, color=MUTED)
    axes.tick_params(labelbottom=False, labelsize=7)
    if len(known):
        said = f"mean {known.mean():.2f}, {int((known > limit).sum())} of {len(known)} above {limit:g}"
        axes.text(0.997, 0.96, said, transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=INK)


def _marks(axes: Axes, course: Course) -> None:
    """Red where a volume is a motion outlier or damaged, grey where it precedes the steady state."""
    for where, colour in ((course.outliers, OUT), (course.unsteady, MUTED)):
        spans = [(volume * course.tr, course.tr) for volume in np.flatnonzero(where)]
        axes.broken_barh(spans, (0, 1), color=colour, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#f2f4f6")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_ylabel("outliers", fontsize=7.5, color=MUTED, rotation=0, ha="right", va="center")


def _rows(axes: Axes, shown: Carpet, course: Course) -> None:
    if not len(shown.tissue):
        return
    gray = standardised(shown.signals, ~course.unsteady)
    seconds = len(course.displacement) * course.tr
    axes.imshow(
        gray, cmap="gray", vmin=-2, vmax=2, aspect="auto", interpolation="nearest",
        extent=(0, seconds, len(gray), 0),
    )  # fmt: skip
    ticks, names = [], []
    for tissue, (name, colour) in TISSUE.items():
        where = np.flatnonzero(shown.tissue == tissue)
        if len(where):
            axes.axvspan(-0.006 * seconds, -0.001 * seconds, color=colour, linewidth=0, clip_on=False,
                         ymin=1 - (where[-1] + 1) / len(gray), ymax=1 - where[0] / len(gray))  # fmt: skip
            axes.axhline(where[-1] + 1, color="#ffd54d", linewidth=0.6)
            ticks.append(float(where.mean()) + 0.5)
            names.append(name)
    axes.set_yticks(ticks, names, fontsize=8)
    axes.tick_params(length=0, labelbottom=False, labelcolor=INK, pad=12)
    for spine in axes.spines.values():
        spine.set_visible(False)


def standardised(signals: Array, steady: npt.NDArray[np.bool_]) -> Array:
    """Return signals (n_rows, n_volumes) without mean and trend, each in its standard deviation.

    Mean, trend and deviation are those of the `steady` volumes. Beyond 1,200 volumes neighbours are averaged.
    Rows that do not vary are 0.
    """
    values = np.nan_to_num(signals.astype(np.float64))
    ramp = np.arange(values.shape[1]) - np.flatnonzero(steady).mean()
    values -= values[:, steady].mean(axis=1, keepdims=True)
    values -= np.outer(values[:, steady] @ ramp[steady] / max(ramp[steady] @ ramp[steady], 1), ramp)
    spread = values[:, steady].std(axis=1, keepdims=True)
    usable = spread > 1e-6 * np.abs(signals).max(axis=1, keepdims=True)
    values = np.where(usable, values / np.where(usable, spread, 1), 0)
    if values.shape[1] <= MOST_COLUMNS:
        return values
    starts = np.arange(MOST_COLUMNS) * values.shape[1] // MOST_COLUMNS
    lengths = np.diff([*starts, values.shape[1]])
    return np.asarray(np.add.reduceat(values, starts, axis=1) / lengths)


def _events(figure: Figure, axes: Axes, course: Course) -> None:
    tidy(axes)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.set_ylim(0, 1)
    axes.tick_params(labelsize=7.5)
    axes.set_ylabel("events", fontsize=7.5, color=MUTED, rotation=0, ha="right", va="center")
    if isinstance(course.events, str):
        axes.text(0.5, 0.45, course.events, ha="center", va="center", fontsize=7.5, color=MUTED,
                  transform=axes.transAxes)  # fmt: skip
        return
    names = list(dict.fromkeys(course.events["condition"]))
    across = 0.99
    for place, name in reversed(list(enumerate(names))):
        these = course.events[course.events["condition"] == name]
        colour = BRIGHT[place % len(BRIGHT)]
        least = 0.002 * len(course.displacement) * course.tr
        spans = [
            (float(on), max(float(long), least))
            for on, long in zip(these["onset"], these["duration"], strict=True)
        ]
        axes.broken_barh(spans, (0.1, 0.8), color=colour, linewidth=0)
        words = figure.text(across, 0.012, name, color=INK, fontsize=8, ha="right")
        across -= words.get_window_extent().width / 1280 + 0.006
        figure.text(across, 0.012, "■", color=colour, fontsize=8, ha="right")
        across -= 0.016


def course_of(
    confounds: pd.DataFrame, tr: float, *, events: Path | None, task: Task, fd_threshold: float
) -> Course:
    """Return what a carpet shows beside the voxels, from a run's confounds and its events file."""
    marked = {}
    for kind, prefixes in (("out", ("motion_outlier", DAMAGED)), ("early", ("non_steady_state_outlier",))):
        names = [name for name in confounds.columns if str(name).startswith(prefixes)]
        marked[kind] = np.asarray(confounds[names].to_numpy(dtype=float).sum(axis=1) > 0)
    return Course(
        tr,
        confounds["framewise_displacement"].to_numpy(float),
        confounds["std_dvars"].to_numpy(float),
        outliers=marked["out"],
        unsteady=marked["early"],
        events=_events_of(events, task, tr * len(confounds)),
        thresholds=(fd_threshold, DVARS_SPIKE),
    )


def _events_of(path: Path | None, task: Task, duration: float) -> pd.DataFrame | str:
    """The named events; what takes a run out for its events is decided, and said, by the first level."""
    if path is None or not task.conditions:
        return "no events"
    try:
        return name_events(read_events(path, task.column), task, duration=duration)
    except DataFault as fault:
        return f"events not drawn: {fault.code}"
