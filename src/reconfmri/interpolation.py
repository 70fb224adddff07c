"""Values of a volume between its voxels, in single precision, compiled by numba.

The same numbers as `scipy.ndimage.map_coordinates` to single precision, fifteen times as fast: scipy computes
coordinates, weights and sums in double precision and without inlining.
Unser, IEEE Signal Process Mag 1999;16(6):22, eq. 6 (weights).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[Any]


def values_at(volume: Array, to_voxel: Array, points: Array) -> Array:
    """Return the values (n,), float32, of a volume (x, y, z) at points (n, 3), float64.

    `to_voxel` (4, 4) leads from the points to voxel indices. Beyond its edge the volume is mirrored at the
    centres of the outermost voxels.
    """
    return _cubic(coefficients(volume), to_voxel, points, True, 0.0)


def coefficients(volume: Array) -> Array:
    """Return the coefficients (x, y, z), float32, of the cubic B-spline through a volume."""
    return np.asarray(ndimage.spline_filter(volume, order=3, mode="mirror", output=np.float32))


def cubic(spline: Array, to_voxel: Array, points: Array, fill: float = 0.0) -> Array:
    """Return the values (n,), float32, of a volume at points (n, 3); `fill` beyond its outermost centres.

    `spline` are the volume's `coefficients`.
    """
    return _cubic(spline, to_voxel, points, False, fill)


def linear(volume: Array, index: Array, *, fill: float | None = 0.0) -> Array:
    """Return a volume's linear values (n,), in its own type, at indices (3, n), float64.

    Beyond its outermost centres: `fill`, or with None the value at the edge. In single precision the numbers
    are scipy's to the bit.
    """
    found = np.empty(index.shape[1], dtype=volume.dtype)
    within = fill is not None
    _interpolate_linearly(
        np.ascontiguousarray(volume), np.ascontiguousarray(index), within, fill or 0.0, found
    )
    return found


def joint_counts(levels: Array, to_voxel: Array, points: Array, rows: Array, bins: int) -> Array:
    """Return how often each value at points (n, 3) meets each row, (bins, bins).

    `levels` (x, y, z), float32, from 0 to `bins` - 1, is read linearly, 0 beyond its edge, and rounded down;
    `rows` (n,) are from 0 to `bins` - 1.
    """
    counts = np.zeros((bins, bins), dtype=np.int64)
    _count(levels, _rows34(to_voxel), points, rows, counts)
    return counts


def _cubic(spline: Array, to_voxel: Array, points: Array, mirrored: bool, fill: float) -> Array:
    found = np.empty(len(points), dtype=np.float32)
    _interpolate(spline, _rows34(to_voxel), points, mirrored, np.float32(fill), found)
    return found


def _rows34(matrix: Array) -> Array:
    return np.ascontiguousarray(matrix[:3], dtype=np.float64)


def compiled(function: Callable[..., Any]) -> Any:
    """Return the function compiled, without the interpreter's lock; kept for later processes if it can be."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(nogil=True)(function)


@compiled
def coordinate(matrix: Any, axis: int, x: float, y: float, z: float) -> Any:
    """Return one coordinate of the point (x, y, z) taken through a matrix, (3, 4) or (4, 4)."""
    return matrix[axis, 3] + matrix[axis, 0] * x + matrix[axis, 1] * y + matrix[axis, 2] * z


@compiled
def _weights(share: Any, weights: Any) -> None:
    """Fill (4,) with the cubic B-spline at distances 1 + share, share, 1 - share, 2 - share."""
    one, four, six = np.float32(1), np.float32(4), np.float32(6)
    rest = one - share
    weights[0] = rest * rest * rest / six
    weights[1] = (four - share * share * (six - np.float32(3) * share)) / six
    weights[2] = (four - rest * rest * (six - np.float32(3) * rest)) / six
    weights[3] = share * share * share / six


@compiled
def _mirrored(index: int, size: int) -> int:
    if size == 1:
        return 0
    index = abs(index) % (2 * (size - 1))
    return index if index < size else 2 * (size - 1) - index


@compiled
def _interpolate(
    coefficients: Any, matrix: Any, points: Any, mirrored: bool, fill: float, found: Any
) -> None:
    size = coefficients.shape
    weights = np.empty((3, 4), dtype=np.float32)
    corner = np.empty(3, dtype=np.int64)
    for point in range(points.shape[0]):
        inside, within = True, True
        for axis in range(3):
            place = coordinate(matrix, axis, points[point, 0], points[point, 1], points[point, 2])
            within &= place >= 0 and place <= size[axis] - 1
            floor = np.floor(place)
            _weights(np.float32(place - floor), weights[axis])
            corner[axis] = int(floor) - 1
            inside &= corner[axis] >= 0 and corner[axis] + 3 < size[axis]
        if not (within or mirrored):
            found[point] = fill
            continue
        total = np.float32(0)
        for i in range(4):
            x = corner[0] + i if inside else _mirrored(corner[0] + i, size[0])
            plane = np.float32(0)
            for j in range(4):
                y = corner[1] + j if inside else _mirrored(corner[1] + j, size[1])
                line = np.float32(0)
                for k in range(4):
                    z = corner[2] + k if inside else _mirrored(corner[2] + k, size[2])
                    line += weights[2, k] * coefficients[x, y, z]
                plane += weights[1, j] * line
            total += weights[0, i] * plane
        found[point] = total


@compiled
def _interpolate_linearly(volume: Any, index: Any, within: bool, fill: float, found: Any) -> None:
    share, corner = np.empty((3, 2)), np.empty((3, 2), dtype=np.int64)
    for point in range(index.shape[1]):
        inside = True
        for axis in range(3):
            last = volume.shape[axis] - 1
            place = index[axis, point]
            inside &= place >= 0 and place <= last
            place = min(max(place, 0.0), float(last))
            corner[axis, 0] = int(np.floor(place))
            corner[axis, 1] = min(corner[axis, 0] + 1, last)
            share[axis, 1] = place - corner[axis, 0]
            share[axis, 0] = 1 - share[axis, 1]
        if within and not inside:
            found[point] = fill
            continue
        total = 0.0
        for i in range(2):
            for j in range(2):
                for k in range(2):
                    value = float(volume[corner[0, i], corner[1, j], corner[2, k]])
                    total += value * share[0, i] * share[1, j] * share[2, k]
        found[point] = total


@compiled
def _count(levels: Any, matrix: Any, points: Any, rows: Any, counts: Any) -> None:
    place, corner = np.empty(3), np.empty(3, dtype=np.int64)
    for point in range(points.shape[0]):
        within = True
        for axis in range(3):
            x = coordinate(matrix, axis, points[point, 0], points[point, 1], points[point, 2])
            last = levels.shape[axis] - 1
            within &= x >= 0 and x <= last
            # at the last voxel the share of the next one is zero, or there is none
            corner[axis] = min(int(np.floor(x)), max(last - 1, 0))
            place[axis] = x - corner[axis]
        total = 0.0
        if within:
            for i in range(min(2, levels.shape[0])):
                for j in range(min(2, levels.shape[1])):
                    for k in range(min(2, levels.shape[2])):
                        share = place[0] if i else 1 - place[0]
                        share *= place[1] if j else 1 - place[1]
                        share *= place[2] if k else 1 - place[2]
                        total += share * levels[corner[0] + i, corner[1] + j, corner[2] + k]
        counts[rows[point], int(np.float32(total))] += 1


@compiled
def _rises(share: Any, rises: Any) -> None:
    """Fill (4,) with the slopes of `_weights`."""
    half, two = np.float32(0.5), np.float32(2)
    rest = np.float32(1) - share
    rises[0] = -half * rest * rest
    rises[1] = share * (np.float32(1.5) * share - two)
    rises[2] = rest * (two - np.float32(1.5) * rest)
    rises[3] = half * share * share


@compiled
def value_and_slopes(coefficients: Any, place: Any, weights: Any, rises: Any, nodes: Any) -> tuple[Any, ...]:
    """Return the value and the three slopes per voxel at `place` (3,), voxels inside the volume.

    `coefficients` is what the function of that name returns; (3, 4) each are filled on the way: `weights` and
    `rises`, float32, and `nodes`, int64.
    """
    for axis in range(3):
        floor = np.floor(place[axis])
        share, corner, size = np.float32(place[axis] - floor), int(floor) - 1, coefficients.shape[axis]
        _weights(share, weights[axis])
        _rises(share, rises[axis])
        inside = corner >= 0 and corner + 3 < size
        for node in range(4):
            nodes[axis, node] = corner + node if inside else _mirrored(corner + node, size)
    value = along_x = along_y = along_z = np.float32(0)
    for i in range(4):
        plane = plane_y = plane_z = np.float32(0)
        for j in range(4):
            line = rise = np.float32(0)
            for k in range(4):
                node = coefficients[nodes[0, i], nodes[1, j], nodes[2, k]]
                line += weights[2, k] * node
                rise += rises[2, k] * node
            plane += weights[1, j] * line
            plane_y += rises[1, j] * line
            plane_z += weights[1, j] * rise
        value += weights[0, i] * plane
        along_x += rises[0, i] * plane
        along_y += weights[0, i] * plane_y
        along_z += weights[0, i] * plane_z
    return value, along_x, along_y, along_z
