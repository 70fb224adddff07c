"""Spatial transforms: rigid ones found by mutual information, numpy composes them, one spline applies them.

Convention: a transform maps a point of the fixed image to the moving image, RAS mm. A *point map* is a Volume
of shape (x, y, z, 3): for each voxel of its grid the point where that voxel lies elsewhere, RAS mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reconfmri.gzipped import unzipped

if TYPE_CHECKING:
    import SimpleITK

Array = npt.NDArray[Any]
SEED = 1  # of whatever draws at random


@dataclass(frozen=True)
class Volume:
    """An image as numbers: `data` (x, y, z) or (x, y, z, 3), `affine` (4, 4) from voxel to RAS mm."""

    data: Array
    affine: Array

    @property
    def voxel_mm(self) -> Array:
        """Voxel edge lengths, (3,), mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))


def read_volume(path: str | Path) -> Volume:
    """Return an image file as float32 numbers, scaled as its header says."""
    import nibabel

    image: Any = nibabel.load(path)
    affine = np.asarray(image.affine, dtype=np.float64)
    if not hasattr(image, "from_stream"):
        return Volume(np.asarray(image.dataobj, dtype=np.float32), affine)
    with Path(path).open("rb") as file:
        whole = type(image).from_stream(unzipped(file, path))
        return Volume(np.asarray(whole.dataobj, dtype=np.float32), affine)


def search_rigid(
    fixed: Volume,
    moving: Volume,
    *,
    mask: Array,
    starts: Sequence[Array],
    spread: tuple[float, float],
    n_candidates: int = 400,
    n_refined: int = 3,
) -> Array:
    """Return the rigid (4, 4) matrix, RAS mm, from `fixed` to `moving` by normalised mutual information.

    Candidates are drawn around every start with a standard deviation of `spread` (degrees, mm), the best are
    refined by Powell's method. `mask` (fixed grid) says where to compare; what falls outside `moving` counts
    as zero, so that moving the head out of view is never a solution. Meant for images of 4 to 8 mm.
    Studholme et al., Pattern Recognition 1999;32:71.

    Raises
    ------
    ValueError
        The mask is empty.
    """
    from scipy.optimize import minimize

    if not mask.any():
        raise ValueError("the mask of a rigid search is empty")
    cost = _information_cost(fixed, moving, mask)
    centre = grid_points(fixed.data.shape, fixed.affine)[mask].mean(axis=0)
    draws = np.random.default_rng(SEED).normal(size=(n_candidates, 6))
    draws[0] = 0
    widths = np.repeat([spread[0], spread[1]], 3)
    candidates = [(start, draw * widths) for start in starts for draw in draws]
    costs = [cost(rigid(motion, centre) @ start) for start, motion in candidates]
    results = []
    for best in np.argsort(costs, kind="stable")[:n_refined]:
        start, motion = candidates[best]
        options = {"xtol": 0.2, "ftol": 1e-4, "maxfev": 400}
        found = minimize(
            lambda x, start=start: cost(rigid(x, centre) @ start), motion, method="Powell", options=options
        )
        results.append((float(found.fun), rigid(found.x, centre) @ start))
    best_matrix: Array = min(results, key=lambda result: result[0])[1]
    return best_matrix


def rigid(motion: Array, centre: Array) -> Array:
    """Return the (4, 4) matrix of `motion` (6,): rotations around `centre` in degrees (x, y, z), then mm."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", motion[:3], degrees=True).as_matrix()
    matrix[:3, 3] = centre + motion[3:6] - matrix[:3, :3] @ centre
    return matrix


def dense_map(grid: Volume, *, matrix: Array, displacement: Array | None = None) -> Volume:
    """Return the point map p -> `matrix @ (p + displacement(p))` on the grid of `grid`, float32, RAS mm."""
    points = grid_points(grid.data.shape[:3], grid.affine)
    if displacement is not None:
        points = points + displacement
    return Volume(transform_points(matrix, points).astype(np.float32), grid.affine)


def grid_points(shape: tuple[int, ...], affine: Array) -> Array:
    """Return the world points of all voxels of a grid, (x, y, z, 3), RAS mm."""
    axes = [np.arange(size, dtype=np.float64) for size in shape[:3]]
    sides = [axis[:, None] * affine[:3, column] for column, axis in enumerate(axes)]
    return np.asarray(
        sides[0][:, None, None] + sides[1][None, :, None] + sides[2][None, None] + affine[:3, 3]
    )


def transform_points(matrix: Array, points: Array) -> Array:
    """Return `points` (..., 3) taken through a (4, 4) matrix."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def sample(volume: Volume, points: Array, *, order: int = 3, fill: float = 0.0) -> Array:
    """Return the values (float32) of a 3-D volume at `points` (..., 3), RAS mm; `fill` outside its grid.

    `order` is that of the interpolating spline: 0 nearest, 1 linear, 3 cubic.
    Thévenaz et al., IEEE TMI 2000;19:739.
    """
    from scipy import ndimage

    from reconfmri import interpolation

    data = volume.data
    if data.dtype == bool or data.dtype.kind in "iu":
        data = data.astype(np.float32)
    to_voxel = np.linalg.inv(volume.affine)
    if order == 3:
        spline = interpolation.coefficients(data)
        found = interpolation.cubic(spline, to_voxel, np.ascontiguousarray(points.reshape(-1, 3)), fill)
        return found.reshape(points.shape[:-1])
    where = transform_points(to_voxel, points)
    flat = np.ascontiguousarray(where.reshape(-1, 3).T)
    if order == 1:
        single = np.ascontiguousarray(data, dtype=np.float32)
        return interpolation.linear(single, flat, fill=fill).reshape(points.shape[:-1])
    values = ndimage.map_coordinates(data, flat, order=order, mode="constant", cval=fill, output=np.float32)
    return np.asarray(values.reshape(points.shape[:-1]))


def sample_map(point_map: Volume, points: Array) -> Array:
    """Return where `points` (..., 3) lie by a point map, RAS mm; beyond its grid the edge continues."""
    return _Shifts.of(point_map).moved(points)


def inverse_at(point_map: Volume, points: Array, *, iterations: int = 12) -> Array:
    """Return the points (..., 3), RAS mm, that the map takes to `points`, by iteration on its affine part.

    Chen et al., Medical Physics 2008;35:81.
    """
    shifts = _Shifts.of(point_map)
    back = np.linalg.inv(shifts.trend)
    found = transform_points(back, points)
    for _ in range(iterations):
        missed = points - shifts.moved(found)
        found = found + missed @ back[:3, :3].T
    return np.asarray(found)


@dataclass(frozen=True)
class _Shifts:
    """A point map as its best-fitting affine and the rest, which varies slowly: the map itself would bend."""

    trend: Array  # (4, 4)
    rest: tuple[Array, Array, Array]  # (x, y, z) each, mm
    to_voxel: Array

    @classmethod
    def of(cls, point_map: Volume) -> _Shifts:
        trend = affine_part(point_map)
        grid = grid_points(point_map.data.shape, point_map.affine)
        rest = point_map.data - transform_points(trend, grid)
        x, y, z = (np.ascontiguousarray(rest[..., axis]) for axis in range(3))
        return cls(trend, (x, y, z), np.linalg.inv(point_map.affine))

    def moved(self, points: Array) -> Array:
        """Return where `points` (..., 3) lie, RAS mm."""
        from reconfmri import interpolation

        flat = np.ascontiguousarray(transform_points(self.to_voxel, points).reshape(-1, 3).T)
        shifts = [interpolation.linear(part, flat, fill=None) for part in self.rest]
        found: Array = transform_points(self.trend, points) + np.stack(shifts, axis=-1).reshape(points.shape)
        return found


def downsample(volume: Volume, spacing_mm: float) -> Volume:
    """Return a 3-D volume on a grid of about `spacing_mm`, float32, same frame, smoothed against aliasing.

    Axes that are no finer than `spacing_mm` stay as they are.
    """
    from scipy import ndimage

    factor = np.maximum(spacing_mm / volume.voxel_mm, 1.0)
    # A Gaussian of this width turns a voxel of one size into a voxel of the other (difference of variances).
    sigma = np.sqrt(factor**2 - 1.0) / 2.355
    data = volume.data.astype(np.float32)
    if sigma.any():
        data = ndimage.gaussian_filter(data, sigma, truncate=3)
    shape = [int(np.floor((size - 1) / step)) + 1 for size, step in zip(data.shape, factor, strict=True)]
    offset = [
        (size - 1 - (count - 1) * step) / 2
        for size, count, step in zip(data.shape, shape, factor, strict=True)
    ]
    moved = ndimage.affine_transform(data, factor, offset=offset, output_shape=shape, order=1)
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ np.array(offset)
    affine[:3, :3] *= factor
    return Volume(moved, affine)


def dilated(mask: Array, radius_mm: float, affine: Array) -> npt.NDArray[np.bool_]:
    """Return a mask grown by `radius_mm` (shrunk when negative)."""
    from scipy import ndimage

    from reconfmri import distance

    edges = np.linalg.norm(affine[:3, :3], axis=0)
    grown = np.zeros(mask.shape, dtype=bool)
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box:
        return grown
    reach = np.ceil(abs(radius_mm) / edges).astype(int) + 1
    room = tuple(
        slice(max(part.start - far, 0), part.stop + far) for part, far in zip(box[0], reach, strict=True)
    )
    inside = mask[room].astype(bool)
    if radius_mm >= 0:
        grown[room] = distance.within(inside, radius_mm, edges)
    else:
        grown[room] = ~distance.within(~inside, -radius_mm, edges)
    return grown


def to_itk(volume: Volume) -> SimpleITK.Image:
    """Return a 3-D volume as a float32 SimpleITK image (LPS).

    Raises
    ------
    ValueError
        The volume is sheared or holds values that are not finite.
    """
    import SimpleITK

    if not np.isfinite(volume.data).all():
        raise ValueError("an image for registration holds values that are not finite")
    axes = volume.affine[:3, :3] / volume.voxel_mm
    rotation = _nearest_rotation(axes)
    if np.abs(rotation - axes).max() > 1e-3:
        raise ValueError(f"an image's axes are not at right angles: {np.round(axes.T @ axes, 3).tolist()}")
    lps = np.diag([-1.0, -1.0, 1.0])
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.data.T, dtype=np.float32))
    image.SetSpacing(volume.voxel_mm.tolist())
    image.SetDirection((lps @ rotation).ravel().tolist())
    image.SetOrigin((lps @ volume.affine[:3, 3]).tolist())
    return image


def _information_cost(
    fixed: Volume, moving: Volume, mask: Array, *, bins: int = 24
) -> Callable[[Array], float]:
    """Return matrix -> minus the normalised mutual information of the two images inside `mask`."""
    from reconfmri import interpolation

    points = grid_points(fixed.data.shape, fixed.affine)[mask]
    still = _binned(fixed.data[mask], bins)
    mobile = np.ascontiguousarray(_levels(moving.data, bins), dtype=np.float32)
    to_voxel = np.linalg.inv(moving.affine)

    def cost(matrix: Array) -> float:
        joint = interpolation.joint_counts(mobile, to_voxel @ matrix, points, still, bins)
        return -(_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / _entropy(joint)

    return cost


def _levels(values: Array, bins: int) -> Array:
    low, high = 0.0, float(np.percentile(values[values > 0], 99)) if (values > 0).any() else 1.0
    return np.asarray(np.clip((values - low) / (high - low) * (bins - 1), 0, bins - 1))


def _binned(values: Array, bins: int) -> Array:
    return np.asarray(_levels(values, bins).astype(np.intp))


def _entropy(counts: Array) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def _nearest_rotation(axes: Array) -> Array:
    left, _, right = np.linalg.svd(axes)
    return np.asarray(left @ right)


def affine_part(point_map: Volume) -> Array:
    """Return the (4, 4) matrix that fits a point map best, RAS mm."""
    grid = grid_points(point_map.data.shape, point_map.affine)[::4, ::4, ::4].reshape(-1, 3)
    there = point_map.data[::4, ::4, ::4].reshape(-1, 3).astype(np.float64)
    design = np.column_stack([grid, np.ones(len(grid))])
    matrix = np.eye(4)
    matrix[:3] = np.linalg.lstsq(design, there, rcond=None)[0].T
    return matrix
