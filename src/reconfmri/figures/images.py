"""Figures that are images: the regions on anatomy and the design matrix of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reconfmri.config import PROPER
from reconfmri.figures.style import BRIGHT, INK, MUTED, drawn, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from nibabel.spatialimages import SpatialImage

Array = npt.NDArray[np.float64]
# Light enough for a black ground, and told apart by colour-blind readers.
ON_BLACK = ("#ff8a7a", "#6fb7ff", "#f5d64e", "#5fe0c0", "#d79bff", "#ffffff", "#ffa54d")


@drawn
def regions_on_anatomy(masks: SpatialImage, groups: dict[str, list[int]], brain: SpatialImage) -> Figure:
    """Return the outlines of the regions on coronal and axial slices of the template brain.

    `masks` is 4-D (x, y, z, regions) in the brain's space; `groups` names the volumes that share a colour.
    Each column is cut where its group has most voxels.
    """
    data = np.asarray(masks.dataobj) > 0
    anatomy = np.asarray(brain.dataobj, dtype=float)
    anatomy = anatomy / float(np.quantile(anatomy[anatomy > 0], 0.995))
    summed = {name: np.asarray(data[..., volumes].any(axis=3)) for name, volumes in groups.items()}
    figure = new_figure(1.85 * len(groups), 4.0)
    figure.set_facecolor("black")
    panels = figure.subplots(2, len(groups), squeeze=False)
    for column, group in enumerate(summed.values()):
        for row, (across, up, cut) in enumerate(((0, 2, 1), (0, 1, 2))):
            place = _fullest(group, masks.affine, cut)
            _slice(
                panels[row][column], (anatomy, brain.affine), masks.affine, summed, (across, up, cut), place
            )
    for axes, name, colour in zip(panels[0], groups, ON_BLACK * 3, strict=False):
        axes.set_title(PROPER.get(name, name.replace("_", " ")), color=colour, fontsize=10, weight="bold")
    return figure


def _fullest(group: npt.NDArray[np.bool_], affine: npt.ArrayLike, cut: int) -> float:
    """World coordinate (mm) along `cut` of the slice with most voxels of a group."""
    others = tuple(axis for axis in range(3) if axis != cut)
    matrix = np.asarray(affine, float)
    return float(matrix[cut, cut] * int(group.sum(axis=others).argmax()) + matrix[cut, 3])


def _slice(
    axes: Axes,
    brain: tuple[Array, npt.ArrayLike],
    affine: npt.ArrayLike,
    groups: dict[str, npt.NDArray[np.bool_]],
    view: tuple[int, int, int],
    place: float,
) -> None:
    cut = view[2]
    anatomy, brain_affine = brain
    axes.set_axis_off()
    plane, edges = _cut(anatomy, brain_affine, view, place)
    axes.imshow(plane.T, cmap="gray", origin="lower", extent=edges, vmin=0, vmax=1)
    for mask, colour in zip(groups.values(), ON_BLACK * 3, strict=False):
        shape, extent = _cut(mask.astype(float), affine, view, place)
        if shape.max() > 0.5:
            x = np.linspace(extent[0], extent[1], 2 * shape.shape[0] + 1)[1::2]
            y = np.linspace(extent[2], extent[3], 2 * shape.shape[1] + 1)[1::2]
            axes.contourf(x, y, shape.T, levels=[0.5, 2], colors=[colour], alpha=0.35)
            axes.contour(x, y, shape.T, levels=[0.5], colors=[colour], linewidths=1.3)
    _crop(axes, anatomy > 0, brain_affine, view)
    letter = {1: "y", 2: "z"}[cut]
    axes.text(
        0.02,
        0.01,
        f"{letter} = {place:.0f} mm".replace("-", "−"),
        transform=axes.transAxes,
        color="#c9d1da",
        fontsize=8,
    )
    axes.text(0.04, 0.88, "L", transform=axes.transAxes, color="#c9d1da", fontsize=8)


def _crop(
    axes: Axes, inside: npt.NDArray[np.bool_], affine: npt.ArrayLike, view: tuple[int, int, int]
) -> None:
    """Leave a little air around the brain, and room below it for the coordinate."""
    matrix = np.asarray(affine, float)
    limits = []
    for axis in view[:2]:
        filled = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        ends = matrix[axis, axis] * filled[[0, -1]] + matrix[axis, 3]
        limits.append((float(ends.min()), float(ends.max())))
    (left, right), (low, high) = limits
    axes.set_xlim(left - 4, right + 4)
    axes.set_ylim(low - 16, high + 4)


def _cut(
    data: Array, affine: npt.ArrayLike, view: tuple[int, int, int], place: float
) -> tuple[Array, tuple[float, float, float, float]]:
    """The slice of a volume at a world coordinate, left and low first, and its edges in mm."""
    matrix = np.asarray(affine, float)
    across, up, cut = view
    index = int(np.clip(round((place - matrix[cut, 3]) / matrix[cut, cut]), 0, data.shape[cut] - 1))
    plane = np.take(data, index, axis=cut)
    edges = []
    for position, axis in enumerate((across, up)):
        step = matrix[axis, axis]
        ends = [matrix[axis, 3] - step / 2, matrix[axis, 3] + step * (data.shape[axis] - 0.5)]
        if step < 0:
            plane = np.flip(plane, axis=position)
            ends.reverse()
        edges += ends
    return plane, (edges[0], edges[1], edges[2], edges[3])


@drawn
def design_matrix(design: pd.DataFrame, tr: float, *, task_columns: list[str]) -> Figure:
    """Return a run's design: its task regressors over time (s), and all columns as grey levels.

    Grey levels are each column divided by its largest absolute value.
    """
    names = [str(name) for name in design.columns]
    figure = new_figure(max(7.5, 0.23 * len(names) + 2.0), 6.2)
    upper, lower = figure.subplots(2, 1, height_ratios=[1, 2.6])
    seconds = np.arange(len(design)) * tr
    _task_lines(upper, design, seconds, [name for name in names if name in task_columns])
    values = design.to_numpy(float)
    largest = np.abs(values).max(axis=0)
    values = values / np.where(largest > 0, largest, 1)
    edges = (-0.5, len(names) - 0.5, seconds[-1] + tr, 0.0)
    lower.imshow(values, aspect="auto", cmap="gray", vmin=-1, vmax=1, extent=edges, interpolation="nearest")
    lower.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    lower.set_ylabel("time, s", fontsize=8.5, color=MUTED)
    lower.tick_params(length=2.5, labelsize=7.5, labelcolor=INK, color=MUTED)
    return figure


def _task_lines(axes: Axes, design: pd.DataFrame, seconds: npt.NDArray[Any], names: list[str]) -> None:
    tidy(axes)
    stems = list(dict.fromkeys(_stem(name) for name in names))
    labelled: set[str] = set()
    for name in names:
        stem = _stem(name)
        label: Any = None if stem in labelled else stem
        labelled.add(stem)
        axes.plot(
            seconds, design[name], color=BRIGHT[stems.index(stem) % len(BRIGHT)], linewidth=1.4, label=label
        )
    axes.set_xlim(0, seconds[-1])
    axes.set_xlabel("time, s", fontsize=8.5, color=MUTED)
    axes.set_ylabel("expected response", fontsize=8.5, color=MUTED)
    if names:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(stems), frameon=False, fontsize=8.5)


def _stem(name: str) -> str:
    """`trauma_2` as `trauma`: the events of one condition share a colour."""
    head, _, tail = name.rpartition("_")
    return head if head and tail.isdigit() else name


@drawn
def z_map(z: SpatialImage, brain: SpatialImage, *, threshold: float = 3.1) -> Figure:
    """Return eight axial slices of the template brain with a map's voxels beyond the threshold."""
    figure = new_figure(9.6, 6.2)
    figure.set_facecolor("black")
    panels = figure.subplots(2, 4, squeeze=False).ravel()
    data, anatomy = np.nan_to_num(np.asarray(z.dataobj, float)), np.asarray(brain.dataobj, float)
    brightest = float(np.quantile(anatomy[anatomy > 0], 0.995))
    view = (0, 1, 2)
    top = max(threshold + 1, float(np.quantile(np.abs(data), 0.999)))
    for axes, place in zip(panels, (-24, -16, -8, 0, 12, 26, 40, 56), strict=True):
        plane, extent = _cut(anatomy, brain.affine, view, place)
        axes.imshow(plane.T, cmap="gray", origin="lower", extent=extent, vmin=0, vmax=brightest)
        values, extent = _cut(data, z.affine, view, place)
        for sign, colours in ((1, "autumn"), (-1, "winter")):
            shown = np.ma.masked_less((sign * values).T, threshold)
            axes.imshow(shown, cmap=colours, origin="lower", extent=extent, vmin=threshold, vmax=top)
        axes.set_axis_off()
        _crop(axes, anatomy > 0, brain.affine, view)
        axes.text(
            0.02,
            0.01,
            f"z = {place:.0f} mm".replace("-", "−"),
            transform=axes.transAxes,
            color="#c9d1da",
            fontsize=8,
        )
    return figure
