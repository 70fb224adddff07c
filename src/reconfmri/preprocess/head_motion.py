"""Head motion: one rigid transform per volume, by Gauss-Newton steps on a reference volume's gradients.

The reference is interpolated and the volume is not, so that a volume's noise is not smoothed by its motion.
Points that do not fit weigh less (Tukey), so that a slab that motion has made dark does not move the head.
The coil's field, which does not move with the head, is found with the motion of all volumes (`coil_field`).
 Friston et al., Human Brain Mapping 1995;3:165; Baker & Matthews, IJCV 2004;56:221.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import islice, product, repeat
from operator import add
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from reconfmri.preprocess import coil_field
from reconfmri.preprocess.coil_field import Evidence, Lattice
from reconfmri.preprocess.comparison import beside, nearest
from reconfmri.registration import Array, Volume, dilated, transform_points

# Volumes of one chunk start from their neighbour; chunks do not depend on the number of threads.
CHUNK = 24
# FWHM: the finest detail of an EPI moves with noise and aliasing, not with the head.
SMOOTHING_VOXELS = 2.2
N_POINTS, N_MIDDLE, N_COARSE, N_FIELD = 10000, 4000, 2400, 2400
TUKEY = 6.0  # robust standard deviations of the residual from which a point has no say
FIELD_VOLUMES = 8  # fewer say too little of the field
SEARCH_FWHM_MM, SEARCH_POINTS, SEARCH_DEGREES = 14.0, 4000, (-15.0, 0.0, 15.0)
# Share of a volume's variance over the points that the reference does not explain: 0.001 on a real scan,
# 0.015 with SNR 20, above 0.25 for noise. Another place is searched for, or the volume is lost.
# Before the field is known, a head that was moved far has up to 0.3.
SUSPECT, ASTRAY, LOST = 0.35, 0.6, 0.25
UNLIKE_OTHERS = 3.0  # times the run's median
LEAST_SEEN = 0.3  # of the points, in the volume and in the reference
LOST_STEP_MM = 0.3  # a last step that is longer has not arrived


@dataclass(frozen=True)
class HeadMotion:
    """`matrices` (n, 4, 4), RAS mm, from the reference to each volume; `lost` (n,) are not to be believed.

    A lost volume has the matrix of the volume before it. `unexplained` (n,) is the share of each volume's
    variance that the moved reference does not explain.
    """

    matrices: Array
    lost: Array
    unexplained: Array


@dataclass(frozen=True)
class _Target:
    """A smoothed reference as a spline, and the points where volumes are compared with it."""

    spline: Array
    affine: Array
    to_voxel: Array  # (4, 4), RAS mm to voxel
    centre: Array  # (3,), mm: rotations turn around it
    points: Array  # (n, 3), mm, in the reference


@dataclass(frozen=True)
class _Pose:
    """A volume's (4, 4) matrix to the reference, and how it fits."""

    matrix: Array
    gain: Array | None = None  # (2,), gain and offset
    last_step: float = np.inf  # mm
    unexplained: float = 1.0

    @property
    def astray(self) -> bool:
        """Whether nothing of the volume can be believed, not even about the field."""
        return self.unexplained > ASTRAY or self.last_step > LOST_STEP_MM


@dataclass(frozen=True)
class _Compared:
    """What a step compares at points of a volume, and the weights of the points."""

    own: Array  # (n, 8): change of what is expected by the six motions, gain and offset
    gain: Array  # (2,), gain and offset
    residual: Array  # (n,)
    weights: Array  # (n,)
    scale: float  # robust standard deviation of the residual
    seen: Array  # which of the points given are among the n

    @property
    def unexplained(self) -> float:
        """Share of the variance that is not explained; robust, so that dark slices do not count."""
        return float(self.scale / (self.gain[0] * _robust_sd(self.own[:, 6]) + 1e-12)) ** 2


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
    return track(volumes, reference, mask=mask, threads=threads).matrices


def track(
    volumes: Iterable[Array], reference: Volume, *, mask: Array | None = None, threads: int = 1
) -> HeadMotion:
    """Return the head's motion from `reference` to each of `volumes` on its grid, and which are lost.

    Raises
    ------
    ValueError
        The reference is flat inside the mask.
    """
    aligner = _Aligner.of(reference, mask)
    chunks, poses = _chunks(volumes), list[_Pose]()
    with one_blas_thread(), tempfile.TemporaryFile() as kept, ThreadPoolExecutor(max(threads, 1)) as pool:
        # As many chunks as threads at once: the pool would read the whole run ahead.
        while batch := list(islice(chunks, max(threads, 1))):
            for found, values in pool.map(aligner.chunk, batch):
                poses += found
                kept.write(values.tobytes())
        kept.flush()
        shape = (len(poses), len(aligner.target.points))
        poses = aligner.settled(poses, np.memmap(kept, np.float32, "r", shape=shape), pool)
    return _as_motion(poses)


def one_blas_thread() -> Any:
    """Return a context in which products of small matrices are not shared among processors."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


def _as_motion(poses: list[_Pose]) -> HeadMotion:
    unexplained = np.array([pose.unexplained for pose in poses])
    # A run with noise of its own is judged by itself.
    lost = unexplained > max(LOST, UNLIKE_OTHERS * float(np.median(unexplained)))
    lost |= np.array([pose.last_step > LOST_STEP_MM for pose in poses])
    matrices = np.linalg.inv(np.array([pose.matrix for pose in poses]))
    if lost.all():
        return HeadMotion(np.tile(np.eye(4), (len(poses), 1, 1)), lost, unexplained)
    last = np.maximum.accumulate(np.where(lost, int(np.argmin(lost)), np.arange(len(poses))))
    return HeadMotion(matrices[last], lost, unexplained)


def _chunks(volumes: Iterable[Array]) -> Iterator[list[Array]]:
    remaining = iter(volumes)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


@dataclass(frozen=True)
class _Aligner:
    """A reference, smoothed for the steps that place a volume (`target`)."""

    reference: Volume
    smooth: Array
    target: _Target
    sigma: Array  # (3,), smoothing in voxels
    far_sigma: Array

    @classmethod
    def of(cls, reference: Volume, mask: Array | None) -> _Aligner:
        sigma = SMOOTHING_VOXELS * np.cbrt(reference.voxel_mm.prod()) / 2.355 / reference.voxel_mm
        smooth = _smoothed(reference.data, sigma)
        points = _strong_points(smooth, reference.affine, mask)
        far_sigma = SEARCH_FWHM_MM / 2.355 / reference.voxel_mm
        return cls(reference, smooth, _target(smooth, reference.affine, points), sigma, far_sigma)

    @cached_property
    def far(self) -> tuple[_Target, Array]:
        """The strongly smoothed reference, with points all over it, and where its signal has its centre."""
        affine = self.reference.affine
        data = _smoothed(self.reference.data, self.far_sigma)
        step = max(round(np.cbrt(data.size / SEARCH_POINTS)), 1)
        lattice = np.indices(data.shape)[:, ::step, ::step, ::step].reshape(3, -1).T
        return _target(data, affine, transform_points(affine, lattice)), _centre_of_signal(data, affine)

    def chunk(self, volumes: list[Array]) -> tuple[list[_Pose], Array]:
        """Return the poses of neighbours, and their values (n_volumes, n) where they were compared."""
        poses, kept = list[_Pose](), np.empty((len(volumes), len(self.target.points)), np.float32)
        start = np.eye(4)
        for number, volume in enumerate(volumes):
            smooth = _smoothed(volume, self.sigma)
            pose = self.place(smooth, start)
            if pose.unexplained > SUSPECT or pose.astray:
                others = self.search(_smoothed(volume, self.far_sigma), start)
                pose = min([pose, self.place(smooth, others)], key=lambda one: one.unexplained)
            index, _ = _voxels(self.target, pose.matrix)
            kept[number] = smooth[tuple(index.T)]
            poses.append(pose)
            if not pose.astray:
                start = pose.matrix
        return poses, kept

    def place(self, smooth: Array, start: Array) -> _Pose:
        """Return the pose of a smoothed volume from a matrix nearly right."""
        pose = _Pose(start)
        for count, steps, enough in ((N_COARSE, 15, 0.05), (N_MIDDLE, 6, 0.05)):
            index, seen = _voxels(self.target, pose.matrix, count)
            values = np.where(seen, smooth[tuple(index.T)], np.nan)
            pose = _descend(self.target, index, values, pose, steps=steps, enough_mm=enough)
        return pose

    def search(self, far: Array, start: Array) -> Array:
        """Return the matrix of a strongly smoothed volume that fits best, from many starts."""
        target, centre = self.far
        shift = _centre_of_signal(far, target.affine) - centre
        index, _ = nearest(target.to_voxel, target.points, far.shape)
        values = far[tuple(index.T)]
        # Points of the air would make the robust spread that of noise.
        index, values = index[values > far.mean() / 2], values[values > far.mean() / 2]
        turns = (Rotation.from_euler("xyz", a, degrees=True) for a in product(SEARCH_DEGREES, repeat=3))
        # From a volume to the reference: its signal's centre goes back to the reference's.
        starts = [
            start,
            np.eye(4),
            *(_turned(turn.as_matrix(), centre, np.zeros(3)) @ _shifted(-shift) for turn in turns),
        ]
        found = [_descend(target, index, values, _Pose(matrix), steps=12, enough_mm=0.3) for matrix in starts]
        return min(found, key=lambda pose: pose.unexplained).matrix

    def settled(self, poses: list[_Pose], values: Array, pool: ThreadPoolExecutor) -> list[_Pose]:
        """Return the poses of all volumes by all points, after the field that they share was taken away.

        `values` (n_volumes, n) were read where the poses given put the points.
        """
        affine, places = self.target.affine, [pose.matrix for pose in poses]
        lattice = Lattice(self.smooth.shape, self.reference.voxel_mm)
        field, target, evaluated = np.ones(self.smooth.shape, np.float32), self.target, range(len(poses))

        def asked(number: int) -> Evidence | None:
            known = _read(target, places[number], values[number], field, N_FIELD)
            return None if poses[number].astray else _evidence(target, lattice, *known, poses[number])

        def placed(number: int, count: int) -> _Pose:
            known = _read(target, places[number], values[number], field, count)
            return _descend(target, *known, poses[number], steps=3, enough_mm=0.005)

        for count in (N_MIDDLE, N_POINTS) if len(poses) >= FIELD_VOLUMES else ():
            if said := [one for one in pool.map(asked, evaluated) if one]:
                field = field * np.exp(lattice.on_grid(reduce(add, said).coefficients()))
                target = _target(self.smooth / field, affine, self.target.points)
            poses = list(pool.map(placed, evaluated, repeat(count)))
        return poses if len(poses) >= FIELD_VOLUMES else list(pool.map(placed, evaluated, repeat(N_POINTS)))


def _read(target: _Target, place: Array, values: Array, field: Array, count: int) -> tuple[Array, Array]:
    """Return the voxels (n, 3) of the first `count` points, and their values over the field; NaN outside."""
    index, seen = _voxels(target, place, count)
    return index, np.where(seen, values[:count] / field[tuple(index.T)], np.float32(np.nan))


def _descend(
    target: _Target, index: Array, values: Array, pose: _Pose, *, steps: int, enough_mm: float
) -> _Pose:
    """Return the pose of a volume whose voxels `index` (n, 3) have `values` (n,), from one nearly right."""
    points = transform_points(target.affine, index)
    matrix, gain, last_mm, compared = pose.matrix, pose.gain, np.inf, None
    for _ in range(steps):
        compared = _compare(target, points, values, matrix, gain)
        if compared is None:
            return replace(pose, last_step=np.inf, unexplained=1.0)
        weighted = compared.own * compared.weights[:, None]
        try:
            step = np.linalg.solve((weighted.T @ compared.own).astype(float), weighted.T @ compared.residual)
        except np.linalg.LinAlgError:
            return replace(pose, last_step=np.inf, unexplained=1.0)
        gain = compared.gain + step[6:]
        matrix = _moved(matrix, step, target.centre)
        # A rotation by one radian moves the cortex by about 60 mm.
        last_mm = float(np.abs(step[:3]).max() + 60 * np.abs(step[3:6]).max())
        if last_mm < enough_mm:
            break
    return _Pose(matrix, gain, last_mm, compared.unexplained if compared else 1.0)


def _compare(
    target: _Target, points: Array, values: Array, matrix: Array, gain: Array | None
) -> _Compared | None:
    """Return a volume's points beside the moved reference; None where there is nothing to compare.

    Without a `gain` the one that fits all points is taken, before any of them is given a weight.
    """
    own, seen = beside(target.spline, target.to_voxel, matrix, target.centre, points, values)
    if seen.sum() <= LEAST_SEEN * len(seen):
        return None
    if not seen.all():
        own, values = own[seen], values[seen]
    if gain is None:
        gain = _gain(own[:, 6], values)
    if not gain[0] > 0:
        return None
    residual = values - own[:, 6] * np.float32(gain[0]) - np.float32(gain[1])
    scale = 1.4826 * float(np.median(np.abs(residual))) + 1e-12
    weights = np.maximum(1 - (residual / np.float32(TUKEY * scale)) ** 2, 0) ** 2
    own[:, :6] *= np.float32(gain[0])
    return _Compared(own, gain, residual, weights, scale, seen)


def _robust_sd(values: Array) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _gain(expected: Array, values: Array) -> Array:
    """Return gain and offset (2,) that make the expected values the measured ones."""
    there, here = expected.astype(np.float64), values.astype(np.float64)
    apart = there - there.mean()
    slope = float(apart @ here) / (float(apart @ apart) + 1e-12)
    return np.array([slope, here.mean() - slope * there.mean()])


def _evidence(target: _Target, lattice: Lattice, index: Array, values: Array, pose: _Pose) -> Evidence | None:
    """Return what a volume in its pose says of the field."""
    points = transform_points(target.affine, index)
    compared = _compare(target, points, values, pose.matrix, pose.gain)
    if compared is None:
        return None
    there = transform_points(target.to_voxel @ pose.matrix, points[compared.seen])
    here = lattice.scaled(index[compared.seen])
    change = coil_field.monomials(here) - coil_field.monomials(lattice.scaled(there))
    change *= (compared.own[:, 6] * np.float32(compared.gain[0]))[:, None]
    return coil_field.evidence(change, compared.own, compared.residual, compared.weights, compared.scale**2)


def _moved(matrix: Array, step: Array, centre: Array) -> Array:
    """Return `matrix` followed by a small rigid motion around `centre`."""
    return np.asarray(_turned(Rotation.from_rotvec(step[3:6]).as_matrix(), centre, step[:3]) @ matrix)


def _turned(rotation: Array, centre: Array, shift: Array) -> Array:
    """Return the (4, 4) matrix that turns around `centre` (3,) and then shifts, mm."""
    motion = np.eye(4)
    motion[:3, :3] = rotation
    motion[:3, 3] = centre + shift - rotation @ centre
    return motion


def _shifted(shift: Array) -> Array:
    motion = np.eye(4)
    motion[:3, 3] = shift
    return motion


def _smoothed(data: Array, sigma: Array) -> Array:
    return np.asarray(ndimage.gaussian_filter(data.astype(np.float32), sigma, truncate=3))


def _centre_of_signal(data: Array, affine: Array) -> Array:
    """Return where the signal has its centre, (3,), mm."""
    weights = np.clip(data, 0, None) + 1e-12
    return np.asarray(transform_points(affine, np.array(ndimage.center_of_mass(weights))[None])[0])


def _target(smooth: Array, affine: Array, points: Array) -> _Target:
    spline = ndimage.spline_filter(smooth, order=3, mode="mirror", output=np.float32)
    return _Target(spline, affine, np.linalg.inv(affine), points.mean(axis=0), points)


def _voxels(target: _Target, matrix: Array, count: int | None = None) -> tuple[Array, Array]:
    """Return the voxels (n, 3) of a volume nearest to the target's points, and which are inside it.

    `matrix` leads from the volume to the reference.
    """
    to_voxel = target.to_voxel @ np.linalg.inv(matrix)
    return nearest(to_voxel, target.points[:count], target.spline.shape)


def _strong_points(smooth: Array, affine: Array, mask: Array | None) -> Array:
    """Return points (n, 3), mm, where the reference changes in space; every part of them covers the head."""
    inside = np.ones(smooth.shape, dtype=bool) if mask is None else dilated(mask, 4.0, affine)
    rim = np.zeros(smooth.shape, dtype=bool)
    rim[tuple(slice(2, -2) if size > 8 else slice(None) for size in smooth.shape)] = True
    inside = inside & rim
    slopes = np.stack(list(np.gradient(smooth)), axis=-1) @ np.linalg.inv(affine[:3, :3])
    strength = np.linalg.norm(slopes, axis=-1)
    if not inside.any() or not (strength[inside] > 0).any():
        raise ValueError("the reference volume is flat inside its mask: head motion cannot be seen")
    chosen = np.flatnonzero(inside & (strength >= np.quantile(strength[inside], 0.3)))
    # A fixed permutation: every subset of the points covers the whole head.
    chosen = np.random.default_rng(1).permutation(chosen)[:N_POINTS]
    index = np.array(np.unravel_index(chosen, smooth.shape)).T
    return np.asarray(transform_points(affine, index))
