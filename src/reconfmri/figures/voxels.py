"""Differences in every voxel: a glass brain and cuts that hide nothing and outline what is significant.

Colour is the z of a voxel, opacity its magnitude, and a line runs around what is significant (Taylor et al.,
NeuroImage 2023;274:120138).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reconfmri.figures import slices
from reconfmri.figures.style import INK, MUTED, drawn, new_figure
from reconfmri.registration import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from nibabel.spatialimages import SpatialImage

Array = npt.NDArray[Any]
OPAQUE = 3.1  # |z| from which a colour is opaque
LEAST_TOP = 4.0  # ends of the colours, at least
COLOURS = "RdYlBu_r"


@drawn
def difference_map(z: SpatialImage, significant: Array | None, brain: SpatialImage) -> Figure:
    """Return a map of z (x, y, z; NaN where nothing is compared) on a glass brain above and in cuts below.

    `significant` (x, y, z): which voxels are outlined; None where no test was made.
    """
    values = np.nan_to_num(np.asarray(z.dataobj, dtype=np.float32))
    marked = np.zeros(values.shape, dtype=bool) if significant is None else significant
    top = max(LEAST_TOP, float(np.abs(values).max()))
    anatomy = Volume(slices.volume(brain), brain.affine)
    figure = new_figure(9.6, 5.0)
    upper, lower = figure.subplots(2, 1, height_ratios=[1.6, 1])
    axes = [upper.inset_axes((0.02 + 0.31 * place, 0.0, 0.30, 1.0)) for place in range(3)]
    upper.set_axis_off()
    for panel, view in zip(axes, slices.VIEWS, strict=True):
        _glass(panel, values, marked, z.affine, anatomy, view, top)
    shown = marked if marked.any() else np.abs(values) > 0.8 * np.abs(values).max()
    cuts = slices.cuts_within(slices.TEMPLATE_MM, slices.places_through(shown[..., None], z.affine))
    tiles = _tiles(cuts, values, marked, z.affine, anatomy, top)
    strip, starts = slices.in_a_row(tiles)
    lower.imshow(strip, interpolation="nearest")
    lower.set_axis_off()
    for cut, start in zip(cuts, starts, strict=True):
        lower.text(start, strip.shape[0] + 2, cut.name, fontsize=7.5, color=MUTED, va="top")
    _colour_bar(upper, top)
    return figure


def _glass(
    axes: Axes,
    values: Array,
    marked: Array,
    affine: npt.ArrayLike,
    brain: Volume,
    view: str,
    top: float,
) -> None:
    """Draw the largest |z| along each line of sight, inside the outline of the template brain."""
    across, up, through = slices.VIEWS[view]
    places = np.expand_dims(np.abs(values).argmax(axis=through), through)
    nearest = np.take_along_axis(values, places, axis=through).squeeze(through)
    outline = brain.data.max(axis=through) > 0
    matrix, of_brain = np.asarray(affine, float), np.asarray(brain.affine, float)
    axes.imshow(
        _painted(nearest.T, top, threshold=1.0),
        origin="lower",
        extent=_extent(matrix, values.shape, across, up),
    )
    grid = [
        of_brain[axis, axis] * np.arange(brain.data.shape[axis]) + of_brain[axis, 3] for axis in (across, up)
    ]
    axes.contour(*grid, outline.T, levels=[0.5], colors=MUTED, linewidths=0.8)
    if marked.any():
        lines = [
            matrix[axis, axis] * np.arange(values.shape[axis]) + matrix[axis, 3] for axis in (across, up)
        ]
        axes.contour(*lines, marked.any(axis=through).T, levels=[0.5], colors=INK, linewidths=1.0)
    axes.set_aspect("equal")
    axes.set_axis_off()
    low, high = slices.TEMPLATE_MM
    axes.set_xlim(low[across] - 6, high[across] + 6)
    axes.set_ylim(low[up] - 6, high[up] + 6)
    if across == 0:
        axes.text(low[across], high[up] - 6, "L", fontsize=8, color=MUTED)


def _extent(matrix: Array, shape: tuple[int, ...], across: int, up: int) -> tuple[float, float, float, float]:
    ends = []
    for axis in (across, up):
        step = matrix[axis, axis]
        ends += [matrix[axis, 3] - step / 2, matrix[axis, 3] + step * (shape[axis] - 0.5)]
    return (float(ends[0]), float(ends[1]), float(ends[2]), float(ends[3]))


def _painted(values: Array, top: float, *, threshold: float = 0.0) -> Array:
    """Return RGBA of z: its colour, as opaque as it is far from zero."""
    from matplotlib import colormaps

    colours = np.asarray(colormaps[COLOURS](0.5 + 0.5 * np.clip(values / top, -1, 1)))
    strength = np.clip((np.abs(values) - threshold) / (OPAQUE - threshold), 0, 1)
    colours[..., 3] = strength**1.5
    return colours


def _tiles(
    cuts: list[slices.Cut],
    values: Array,
    marked: Array,
    affine: npt.ArrayLike,
    brain: Volume,
    top: float,
) -> list[Array]:
    anatomy = slices.gray([slices.values_at(brain.data, brain.affine, cut.points) for cut in cuts])
    found = []
    for cut, tile in zip(cuts, anatomy, strict=True):
        colours = _painted(slices.values_at(values, affine, cut.points), top)
        opacity = colours[..., 3:]
        blended = tile * (1 - opacity) + 255 * colours[..., :3] * opacity
        inside = slices.values_at(marked.astype(np.float32), affine, cut.points, order=0) > 0.5
        blended[slices.rim(inside)] = 255
        found.append(blended.astype(np.uint8))
    return found


def _colour_bar(axes: Axes, top: float) -> None:
    bar = axes.inset_axes((0.96, 0.1, 0.015, 0.8))
    levels = np.linspace(-top, top, 128)[:, None]
    bar.imshow(_painted(levels, top), origin="lower", aspect="auto", extent=(0, 1, -top, top))
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.tick_params(labelsize=7.5, length=2, color=MUTED, labelcolor=INK)
    bar.set_title("z", fontsize=8, color=INK)
