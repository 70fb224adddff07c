"""Head motion: one rigid transform per volume, by Gauss-Newton steps on a reference volume's gradients.

The reference is interpolated and the volume is not, so that a volume's noise is not smoothed by its motion.
Points that do not fit weigh less (Tukey), so that a slab that motion has made dark does not move the head.
 Friston et al., Human Brain Mapping 1995;3:165; Baker & Matthews, IJCV 2004;56:221.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from reconfmri.registration import Array, Volume, dilated, grid_points, transform_points

# Volumes of one chunk start from their neighbour; chunks do not depend on the number of threads.
CHUNK = 24
# FWHM: the finest detail of an EPI moves with noise and aliasing, not with the head. On simulated heads of 3
# and 4 mm voxels the error has its minimum between 2.5 and 2.7 voxels.
SMOOTHING_VOXELS = 2.6
N_POINTS = 12000
TUKEY = 6.0  # robust standard deviations of the residual from which a point has no say


@dataclass(frozen=True)
class _Target:
    """The smoothed reference as a spline, and the points where volumes are compared with it."""

    spline: Array
    to_voxel: Array  # (4, 4), RAS mm to voxel
    sigma: Array  # (3,), smoothing in voxels
    centre: Array  # (3,), mm: rotations turn around it
    index: tuple[Array, ...]  # voxels that are compared
    points: Array  # (n, 3), mm, relative to the centre
    jacobian: Array  # (n, 8): change of the reference by the six motions, gain and offset


def estimate_head_motion(bold: Any, reference: Any, mask: Any = None, n_threads: int = 1) -> Array:
    """Return (n_volumes, 4, 4) rigid matrices, RAS mm, from reference space to the space of each volume.

    `bold` is a 4-D nibabel image, `reference` a 3-D one and `mask` one on its grid that holds the brain.

    Raises
    ------
    ValueError
        The reference is flat inside the mask.
    """
    still = Volume(np.asarray(reference.dataobj, dtype=np.float32), np.asarray(reference.affine))
    inside = None if mask is None else np.asarray(mask.dataobj) > 0
    volumes = (np.asarray(bold.dataobj[..., number]) for number in range(bold.shape[3]))
    return align_volumes(volumes, still, mask=inside, threads=n_threads)


def align_volumes(
    volumes: Iterable[Array], reference: Volume, *, mask: Array | None = None, threads: int = 1
) -> Array:
    """Return (n_volumes, 4, 4) rigid matrices, RAS mm, from `reference` to each of `volumes` on its grid.

    Raises
    ------
    ValueError
        The reference is flat inside the mask.
    """
    target = _target(reference, mask)
    chunks, found = _chunks(volumes), list[Array]()
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        # As many chunks as threads at once: the pool would read the whole run ahead.
        while batch := list(islice(chunks, max(threads, 1))):
            found += pool.map(lambda chunk: _align_chunk(target, chunk), batch)
    return np.linalg.inv(np.concatenate(found))


def _chunks(volumes: Iterable[Array]) -> Iterator[list[Array]]:
    remaining = iter(volumes)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def _align_chunk(target: _Target, volumes: list[Array]) -> Array:
    matrices = np.empty((len(volumes), 4, 4))
    start = np.eye(4)
    for number, volume in enumerate(volumes):
        matrices[number] = start = _align(target, volume, start)
    return matrices


def _align(target: _Target, volume: Array, start: Array) -> Array:
    """Return the (4, 4) matrix from a volume to the reference, RAS mm."""
    smooth = ndimage.gaussian_filter(volume.astype(np.float32), target.sigma, truncate=3)
    values = smooth[target.index]
    coarse = slice(None, None, 5)
    state = _descend(target, values, start, coarse, order=1, steps=12, enough_mm=0.05)
    return _descend(target, values, state, slice(None), order=3, steps=6, enough_mm=0.002)


def _descend(
    target: _Target, values: Array, matrix: Array, subset: slice, *, order: int, steps: int, enough_mm: float
) -> Array:
    jacobian, points, measured = target.jacobian[subset].copy(), target.points[subset], values[subset]
    nuisance = np.zeros(2)  # gain beyond one, and offset
    for _ in range(steps):
        where = transform_points(target.to_voxel @ matrix, points + target.centre)
        expected = ndimage.map_coordinates(
            target.spline, where.T, order=order, prefilter=False, mode="nearest"
        )
        jacobian[:, 6] = expected
        residual = measured - expected - jacobian[:, 6:] @ nuisance
        weighted = jacobian * _weights(residual)[:, None]
        step = np.linalg.solve(weighted.T @ jacobian, weighted.T @ residual)
        nuisance += step[6:]
        matrix = _moved(matrix, step, target.centre)
        # A rotation by one radian moves the cortex by about 60 mm.
        if np.abs(step[:3]).max() + 60 * np.abs(step[3:6]).max() < enough_mm:
            break
    return matrix


def _weights(residual: Array) -> Array:
    """Return Tukey's weights: where a signal dropout makes a volume dark it has no say."""
    scale = 1.4826 * np.median(np.abs(residual)) + 1e-12
    return np.asarray(np.clip(1 - (residual / (TUKEY * scale)) ** 2, 0, None) ** 2)


def _moved(matrix: Array, step: Array, centre: Array) -> Array:
    """Return `matrix` followed by a small rigid motion around `centre`."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(step[3:6]).as_matrix()
    motion[:3, 3] = centre + step[:3] - motion[:3, :3] @ centre
    return np.asarray(motion @ matrix)


def _target(reference: Volume, mask: Array | None) -> _Target:
    sigma = SMOOTHING_VOXELS * np.cbrt(reference.voxel_mm.prod()) / 2.355 / reference.voxel_mm
    smooth = ndimage.gaussian_filter(reference.data.astype(np.float64), sigma, truncate=3)
    inside = np.ones(smooth.shape, dtype=bool) if mask is None else dilated(mask, 4.0, reference.affine)
    inside = inside & _away_from_border(smooth.shape)
    slopes = np.stack(np.gradient(smooth), axis=-1) @ np.linalg.inv(reference.affine[:3, :3])
    strength = np.linalg.norm(slopes, axis=-1)
    if not inside.any() or not (strength[inside] > 0).any():
        raise ValueError("the reference volume is flat inside its mask: head motion cannot be seen")
    strongest = strength >= np.quantile(strength[inside], 0.3)
    chosen = np.flatnonzero(inside & strongest)
    # A fixed permutation: every subset of the points covers the whole head.
    chosen = np.random.default_rng(1).permutation(chosen)[:N_POINTS]
    index = np.unravel_index(chosen, smooth.shape)
    points = grid_points(smooth.shape, reference.affine)[index]
    centre = points.mean(axis=0)
    gradient = slopes[index]
    jacobian = np.empty((len(chosen), 8))
    jacobian[:, :3] = gradient
    jacobian[:, 3:6] = np.cross(points - centre, gradient)
    jacobian[:, 7] = 1.0  # the gain's column, 6, is what is expected at each step
    spline = ndimage.spline_filter(smooth, order=3)
    return _Target(spline, np.linalg.inv(reference.affine), sigma, centre, index, points - centre, jacobian)


def _away_from_border(shape: tuple[int, ...]) -> Array:
    """A volume's outermost voxels see what has left the field of view."""
    kept = np.zeros(shape, dtype=bool)
    kept[tuple(slice(2, -2) if size > 8 else slice(None) for size in shape)] = True
    return kept
