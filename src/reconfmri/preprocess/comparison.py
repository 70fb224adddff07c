"""A volume beside a reference that is moved, point by point; compiled by numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from reconfmri.interpolation import compiled, coordinate, value_and_slopes
from reconfmri.registration import Array

RIM = 2  # a volume's outermost voxels see what has left the field of view


def nearest(to_voxel: Array, points: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the voxels (n, 3), int32, of a grid nearest to points (n, 3), and which are well inside it.

    `to_voxel` (4, 4) leads from the points to voxels.
    """
    index = np.empty((len(points), 3), dtype=np.int32)
    seen = np.empty(len(points), dtype=np.bool_)
    _nearest(_rows34(to_voxel), points, np.array(shape), index, seen)
    return index, seen


def beside(
    spline: Array, to_voxel: Array, matrix: Array, centre: Array, points: Array, values: Array
) -> tuple[Array, Array]:
    """Return how what is expected at points (n, 3), mm, changes (n, 8), float32, and which points are seen.

    The changes are by the six motions (mm, and rad around `centre`), by a gain of one, which is the expected
    value, and by an offset. `matrix` (4, 4) moves the points into the reference, `to_voxel` (4, 4) leads on
    to its voxels. A point is seen where the reference is and `values` (n,) is finite.
    """
    changes = np.empty((len(points), 8), dtype=np.float32)
    seen = np.empty(len(points), dtype=np.bool_)
    _beside(spline, _rows34(to_voxel), _rows34(matrix), centre, points, values, changes, seen)
    return changes, seen


def _rows34(matrix: Array) -> Array:
    return np.ascontiguousarray(matrix[:3], dtype=np.float64)


@compiled
def _nearest(matrix: Any, points: Any, shape: Any, index: Any, seen: Any) -> None:
    for point in range(points.shape[0]):
        inside = True
        for axis in range(3):
            place = coordinate(matrix, axis, points[point, 0], points[point, 1], points[point, 2])
            last = shape[axis] - 1
            rim = RIM if last > 7 else 0
            voxel = int(np.rint(place))
            inside &= voxel >= rim and voxel <= last - rim
            index[point, axis] = min(max(voxel, 0), last)
        seen[point] = inside


@compiled
def _beside(
    spline: Any, to_voxel: Any, matrix: Any, centre: Any, points: Any, values: Any, changes: Any, seen: Any
) -> None:
    moved, place = np.empty(3), np.empty(3)
    slope, nodes = np.empty(3), np.empty((3, 4), dtype=np.int64)
    weights, rises = np.empty((3, 4), dtype=np.float32), np.empty((3, 4), dtype=np.float32)
    for point in range(points.shape[0]):
        for axis in range(3):
            moved[axis] = coordinate(matrix, axis, points[point, 0], points[point, 1], points[point, 2])
        inside = np.isfinite(values[point])
        for axis in range(3):
            place[axis] = coordinate(to_voxel, axis, moved[0], moved[1], moved[2])
            inside &= place[axis] >= 0 and place[axis] <= spline.shape[axis] - 1
        seen[point] = inside
        if not inside:
            changes[point] = np.float32(0)
            continue
        value, first, second, third = value_and_slopes(spline, place, weights, rises, nodes)
        for axis in range(3):
            moved[axis] -= centre[axis]
            slope[axis] = first * to_voxel[0, axis] + second * to_voxel[1, axis] + third * to_voxel[2, axis]
            changes[point, axis] = slope[axis]
        changes[point, 3] = moved[1] * slope[2] - moved[2] * slope[1]
        changes[point, 4] = moved[2] * slope[0] - moved[0] * slope[2]
        changes[point, 5] = moved[0] * slope[1] - moved[1] * slope[0]
        changes[point, 6] = value
        changes[point, 7] = np.float32(1)
