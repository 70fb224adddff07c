"""The displacement along one axis that makes two EPIs of opposite phase encoding agree, and what undoes it.

Along the phase-encoding axis a signal moves by d mm and is squeezed by 1 + d'. Of two EPIs with opposite
directions A(p + d) (1 + d') and B(p - s d) (1 - s d') are the same image; s is the ratio of their readout
times. d minimises the squared difference and the bending of d, from coarse to fine, by Gauss-Newton steps.
Chang & Fitzpatrick, IEEE TMI 1992;11:319; Holland et al., NeuroImage 2010;50:175; Ruthotto et al., Physics in
Medicine and Biology 2012;57:5715.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, sparse

from reconfmri import registration
from reconfmri.registration import Array, Volume

# Voxel size (mm), blur (FWHM, mm), weight of the smoothness.
LEVELS = ((8.0, 10.0, 1.0), (5.0, 6.0, 0.3), (3.0, 3.0, 0.1))
# Where shift' comes near -1 the EPI has folded: signals of two places lie on one another for good.
LEAST_STRETCH, MOST_STRETCH = 0.2, 3.0
STEPS = 6
ENOUGH_MM = 0.03


@dataclass(frozen=True)
class Distortion:
    """Shift (mm along voxel `axis`) of each point of the reference grid, undistorted, into the EPI."""

    shift: Volume
    axis: int

    @property
    def direction(self) -> Array:
        """The voxel axis as a unit vector, (3,), RAS."""
        return np.asarray(self.shift.affine[:3, self.axis] / self.shift.voxel_mm[self.axis])

    def moved(self, points: Array) -> Array:
        """Where undistorted `points` (..., 3), RAS mm, appear in the EPI."""
        return np.asarray(points + field_at(self.shift, points, order=3)[..., None] * self.direction)

    def stretch(self, points: Array) -> Array:
        """By what intensities at `points` are multiplied to undo pile-up and thinning."""
        slope = np.gradient(self.shift.data, self.shift.voxel_mm[self.axis], axis=self.axis)
        squeezed = 1.0 + field_at(Volume(slope, self.shift.affine), points)
        return np.asarray(np.clip(squeezed, LEAST_STRETCH, MOST_STRETCH))

    def straightened(self, image: Volume) -> Volume:
        """An EPI on the grid of `shift` as it would be without distortion."""
        points = registration.grid_points(image.data.shape, image.affine)
        seen = registration.sample(image, self.moved(points)) * self.stretch(points)
        return Volume(np.maximum(seen, 0).astype(np.float32), image.affine)


@dataclass(frozen=True)
class Seen:
    """An image and how a displacement along its own axis moves what it shows: `sign` 1, or -s."""

    image: Volume
    direction: Array  # (3,), unit vector, RAS
    sign: float
    from_first: Array  # (4, 4), from the space of the displacement to the image's, RAS mm


def displacement(
    first: Seen, second: Seen, mask: Array, *, levels: Any = LEVELS, start: Volume | None = None
) -> Volume:
    """Return the displacement (mm, along `first.direction`) on the grid of the first image.

    `mask` (grid of the first image) says where the two are compared; elsewhere the field continues smoothly.
    `start` is a displacement to begin with.
    """
    field = start
    inside = Volume(mask.astype(np.float32), first.image.affine)
    for spacing, blur, stiffness in levels:
        grid = registration.downsample(first.image, spacing)
        points = registration.grid_points(grid.data.shape, grid.affine)
        begin = np.zeros(grid.data.shape) if field is None else field_at(field, points)
        weight = ndimage.gaussian_filter(registration.sample(inside, points, order=1), 0.7)
        pair = [_Sampler.of(seen, points, blur, inside) for seen in (first, second)]
        field = Volume(_descend(pair, weight, begin, grid, first, stiffness), grid.affine)
    if field is None:
        raise ValueError("a displacement needs at least one level")
    points = registration.grid_points(first.image.data.shape, first.image.affine)
    return Volume(field_at(field, points, order=3).astype(np.float32), first.image.affine)


def field_at(field: Volume, points: Array, *, order: int = 1) -> Array:
    """Return a smooth field at `points` (..., 3), RAS mm; beyond its grid the edge continues."""
    flat = registration.transform_points(np.linalg.inv(field.affine), points).reshape(-1, 3).T
    values = ndimage.map_coordinates(field.data, flat, order=order, mode="nearest", output=np.float64)
    return np.asarray(values.reshape(points.shape[:-1]))


@dataclass(frozen=True)
class _Sampler:
    """An image and its slope along its own axis, read at displaced points of one grid."""

    data: Array
    slope: Array  # per mm
    where: Array  # (3, n), voxels
    step: Array  # (3, 1), voxels per mm of displacement
    sign: float

    @classmethod
    def of(cls, seen: Seen, points: Array, blur: float, inside: Volume) -> _Sampler:
        image = seen.image
        sigma = np.sqrt(np.maximum(blur**2 - image.voxel_mm**2, 0)) / 2.355 / image.voxel_mm
        data = ndimage.gaussian_filter(image.data.astype(np.float64), sigma, truncate=3)
        back = np.linalg.inv(image.affine)
        there = np.linalg.inv(seen.from_first) @ image.affine
        own = registration.sample(inside, registration.grid_points(image.data.shape, there), order=1)
        data /= data[own > 0.5].mean()
        step = back[:3, :3] @ seen.direction
        slope = sum(part * size for part, size in zip(np.gradient(data), step, strict=True))
        where = registration.transform_points(back @ seen.from_first, points).reshape(-1, 3).T
        return cls(data, np.asarray(slope), where, step[:, None] * seen.sign, seen.sign)

    def at(self, shift: Array) -> tuple[Array, Array]:
        """The image and its slope (per mm of `shift`) at every point moved by `shift` (n,), mm."""
        where = self.where + self.step * shift
        value, slope = (
            ndimage.map_coordinates(part, where, order=1, mode="nearest") for part in (self.data, self.slope)
        )
        return value, slope * self.sign


def _descend(
    pair: list[_Sampler], weight: Array, start: Array, grid: Volume, first: Seen, stiffness: float
) -> Array:
    shape = grid.data.shape
    axis = int(np.abs(np.linalg.inv(grid.affine)[:3, :3] @ first.direction).argmax())
    along = float(np.sign((np.linalg.inv(grid.affine)[:3, :3] @ first.direction)[axis]))
    slope = _difference(shape, axis) * (along / grid.voxel_mm[axis])
    bend = _smoothness(shape, grid.voxel_mm) * stiffness
    weights = weight.ravel()
    shift = start.ravel().astype(np.float64)

    def cost(values: Array) -> float:
        rest = _residual(pair, values, slope @ values)[0]
        return float(weights @ rest**2 + values @ (bend @ values))

    now = cost(shift)
    for _ in range(STEPS):
        rest, by_shift, by_slope = _residual(pair, shift, slope @ shift)
        jacobian = sparse.diags_array(by_shift) + sparse.diags_array(by_slope) @ slope
        weighted = jacobian.T @ sparse.diags_array(weights)
        normal = (weighted @ jacobian + bend).tocsr()
        step = _solve(normal, -(weighted @ rest + bend @ shift))
        for share in (1.0, 0.5, 0.25, 0.1):
            then = cost(shift + share * step)
            if then < now:
                break
        else:
            break
        shift, now = shift + share * step, then
        if np.abs(share * step).max() < ENOUGH_MM:
            break
    return shift.reshape(shape)


def _residual(pair: list[_Sampler], shift: Array, slope: Array) -> tuple[Array, Array, Array]:
    """Return the difference of the unwarped images, and its change by displacement and by its slope."""
    one, other = pair
    (a, a_slope), (b, b_slope) = one.at(shift), other.at(shift)
    squeeze_a, squeeze_b = 1 + one.sign * slope, 1 + other.sign * slope
    return (
        a * squeeze_a - b * squeeze_b,
        a_slope * squeeze_a - b_slope * squeeze_b,
        one.sign * a - other.sign * b,
    )


def _solve(normal: Any, right: Array) -> Array:
    from scipy.sparse.linalg import cg

    inverse = sparse.diags_array(1 / normal.diagonal())
    found, _ = cg(normal, right, rtol=0.1, maxiter=20, M=inverse)
    return np.asarray(found)


def _difference(shape: tuple[int, ...], axis: int) -> Any:
    """Return the sparse matrix of central differences along an axis, one-sided at the ends."""
    size = shape[axis]
    one = sparse.lil_array((size, size))
    for row in range(size):
        low, high = max(row - 1, 0), min(row + 1, size - 1)
        one[row, high] += 1 / (high - low)
        one[row, low] -= 1 / (high - low)
    return _along(one, shape, axis)


def _smoothness(shape: tuple[int, ...], voxel_mm: Array) -> Any:
    """Return the sparse matrix whose quadratic form is the bending energy and a trace of the slope's."""
    total: Any = 0
    for axis, size in enumerate(shape):
        ones = np.ones(size - 1)
        first = sparse.diags_array([-ones, ones], offsets=[0, 1], shape=(size - 1, size))
        total = total + _along((first.T @ first) / voxel_mm[axis] ** 2, shape, axis)
    return (total @ total * 9.0 + total * 0.02).tocsr()


def _along(matrix: Any, shape: tuple[int, ...], axis: int) -> Any:
    before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
    return sparse.kron(sparse.kron(sparse.eye_array(before), matrix), sparse.eye_array(after)).tocsr()
