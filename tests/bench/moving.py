"""Moving heads for judging head motion, made apart from its estimator and from `tests.heads`.

The model head of the simulated trial (`reconfmri.simulate.head`) is stretched, moved and collected by voxels
of any size: each is the mean of points inside it, so that fine detail aliases as in a scanner. The field of
the coil stays in the scanner. Truth is the matrix that moved the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from reconfmri.registration import Array, Volume, grid_points, rigid, transform_points
from reconfmri.simulate.head import EPI, ORIGIN, build_head

CENTRE = np.array([0.0, -18.0, 8.0])  # mm, of the brain
STRETCH = np.diag([0.95, 1.03, 0.98])  # of the model, so that it is nobody that an estimator has seen
TILT = rigid(np.array([-9.0, 2.0, 3.0, 1.3, -2.1, 0.7]), CENTRE)  # of the slices
BRAIN_LEVEL = 1000.0  # signal of grey matter in the model


@dataclass(frozen=True)
class Case:
    """What moves how, in which field, and how it is seen.

    `course` gives (n, 6) degrees and mm; `field` is the largest deviation of the coil's field from one in the
    brain; `dark` is the share of signal that four slices of every fifth volume keep; `bright` the excess of
    the first volume, which the next two halve.
    """

    course: Callable[[np.random.Generator, int], Array]
    n_volumes: int = 24
    snr: float = 50.0
    field: float = 0.0
    shape: str = "lobes"
    voxel_mm: tuple[float, float, float] = (3.1, 3.1, 3.1)
    grid: tuple[int, int, int] = (68, 72, 46)
    dark: float = 1.0
    bright: float = 0.0
    scalp: float = 1.0  # brightness of fat and skin over the model's


@dataclass(frozen=True)
class Moving:
    """Volumes, their affine, the true matrices (n, 4, 4) from the first volume's space, and the brain."""

    volumes: list[Array]
    affine: Array
    truth: Array
    brain: Array


def walk(extent: float) -> Callable[[np.random.Generator, int], Array]:
    """A random walk that leaves the start by `extent` mm and degrees on every axis."""

    def course(rng: np.random.Generator, n: int) -> Array:
        path = np.cumsum(rng.normal(size=(n, 6)), axis=0)
        return extent * (path - path[0]) / np.abs(path - path[0]).max(axis=0)

    return course


def jump_and_spike(extent: float) -> Callable[[np.random.Generator, int], Array]:
    """A walk of half the extent with a lasting jump of the other half, and one volume far off."""

    def course(rng: np.random.Generator, n: int) -> Array:
        path = walk(extent / 2)(rng, n)
        path[n // 3 :] += rng.choice([-1, 1], 6) * extent / 2
        path[2 * n // 3] -= path[2 * n // 3] * 0.8
        return path

    return course


def jumps(extent: float) -> Callable[[np.random.Generator, int], Array]:
    """Another place every few volumes, within `extent` mm and degrees."""

    def course(rng: np.random.Generator, n: int) -> Array:
        places = rng.uniform(-extent, extent, size=(n // 4 + 1, 6))
        places[0] = 0
        return np.repeat(places, 4, axis=0)[:n] + rng.normal(scale=0.05, size=(n, 6))

    return course


def drift(extent: float) -> Callable[[np.random.Generator, int], Array]:
    """A slow way to `extent` mm and degrees, with single volumes 2 mm and degrees off it."""

    def course(rng: np.random.Generator, n: int) -> Array:
        ends = rng.choice([-1, 1], 6) * extent * np.array([1, 0.6, 0.5, 0.5, 0.6, 1])
        path = np.linspace(0, 1, n)[:, None] ** rng.uniform(0.8, 1.5, 6) * ends
        path[5::7] += rng.uniform(-2, 2, size=path[5::7].shape)
        return path

    return course


def tremor(extent: float) -> Callable[[np.random.Generator, int], Array]:
    """A shaking of `extent` mm and degrees, faster than the volumes follow one another."""

    def course(rng: np.random.Generator, n: int) -> Array:
        phase = rng.uniform(0, 2 * np.pi, 6) + np.arange(n)[:, None] * rng.uniform(1.5, 3.0, 6)
        return extent * (np.sin(phase) - np.sin(phase[0]))

    return course


def reposition(mm: float, degrees: float) -> Callable[[np.random.Generator, int], Array]:
    """A still head that is laid anew once, `mm` and `degrees` away."""

    def course(rng: np.random.Generator, n: int) -> Array:
        path = rng.normal(scale=0.03, size=(n, 6))
        way = rng.normal(size=6)
        way[:3] *= degrees / np.linalg.norm(way[:3])
        way[3:] *= mm / np.linalg.norm(way[3:])
        path[n // 2 :] += way
        return path - path[0]

    return course


def move(case: Case, seed: int) -> Moving:
    """Return the volumes of a case, the same for one seed."""
    rng = np.random.default_rng(seed)
    affine = TILT @ np.diag([*case.voxel_mm, 1.0])
    affine[:3, 3] += TILT[:3, :3] @ CENTRE - affine[:3, :3] @ ((np.array(case.grid) - 1) / 2)
    poses = np.array([rigid(row, CENTRE) for row in case.course(rng, case.n_volumes)])
    poses = poses @ np.linalg.inv(poses[0])
    brain = _seen(_brain(), case, affine, np.eye(4)) > 0.5
    gain = _field(case, affine, brain, rng)
    head = _head(case.scalp, float(np.cbrt(np.prod(case.voxel_mm))))
    excess = case.bright * 0.5 ** np.arange(case.n_volumes)
    volumes = []
    for number, pose in enumerate(poses):
        signal = _seen(head, case, affine, pose) * gain * (1 + excess[number] * (number < 3))
        if case.dark < 1 and number % 5 == 3:
            first = int(rng.integers(case.grid[2] // 3, 2 * case.grid[2] // 3))
            signal[:, :, first : first + 4] *= case.dark
        noise = rng.normal(scale=BRAIN_LEVEL / case.snr, size=(2, *case.grid))
        volumes.append(np.hypot(signal + noise[0], noise[1]).astype(np.float32))
    return Moving(volumes, affine, poses, brain)


def displacements(found: Array, moving: Moving) -> Array:
    """Return each volume's error, mm: mean over the brain, after the mean error of all was taken from it.

    What is wrong with the reference is the same in every volume; it moves nothing against anything.
    """
    points = grid_points(moving.brain.shape, moving.affine)[moving.brain][::40]
    back = [np.linalg.inv(true) @ matrix for true, matrix in zip(moving.truth, found, strict=True)]
    off = np.array([transform_points(matrix, points) - points for matrix in back])
    return np.asarray(np.linalg.norm(off - np.median(off, axis=0), axis=2).mean(axis=1))


def _seen(model: Volume, case: Case, affine: Array, pose: Array) -> Array:
    """Return what voxels collect of a head in `pose`: the mean of points inside each."""
    voxels = np.indices(case.grid, dtype=np.float32).reshape(3, -1)
    matrix = np.linalg.inv(model.affine) @ np.linalg.inv(pose) @ affine
    total = np.zeros(voxels.shape[1], np.float32)
    within = list(_within(case.voxel_mm))
    for place in within:
        where = (matrix[:3, :3] @ voxels + (matrix[:3, :3] @ place + matrix[:3, 3])[:, None]).astype(
            np.float32
        )
        total += ndimage.map_coordinates(model.data, where, order=1, output=np.float32)
    return (total / len(within)).reshape(case.grid)


def _within(voxel_mm: tuple[float, float, float]) -> Iterator[Array]:
    counts = [max(round(size / 1.5), 1) for size in voxel_mm]
    for index in np.ndindex(*counts):
        yield (np.array(index) + 0.5) / counts - 0.5


def _head(scalp: float, voxel_mm: float) -> Volume:
    data = build_head().epi.copy()
    # Outside the brain alone a voxel has exactly fat's or soft tissue's brightness.
    for name in ("fat", "soft", "marrow"):
        data[data == EPI[name]] *= scalp
    return Volume(ndimage.gaussian_filter(data, 0.6), _model_affine())


def _brain() -> Volume:
    inside = ndimage.binary_opening(build_head().epi > 700, iterations=2)
    labels, _ = ndimage.label(inside)
    return Volume(
        (labels == np.bincount(labels.ravel())[1:].argmax() + 1).astype(np.float32), _model_affine()
    )


def _model_affine() -> Array:
    affine = np.eye(4)
    affine[:3, :3] = STRETCH
    affine[:3, 3] = STRETCH @ ORIGIN
    return affine


def _field(case: Case, affine: Array, brain: Array, rng: np.random.Generator) -> Array:
    """Return the coil's field on the scanner's grid, from 1 - field to 1 + field in the brain."""
    points = grid_points(case.grid, affine) - CENTRE
    shape = SHAPES[case.shape](points, rng)
    low, high = shape[brain].min(), shape[brain].max()
    return np.asarray(np.clip(1 + case.field * (2 * (shape - low) / (high - low) - 1), 0.05, None))


def _lobes(points: Array, rng: np.random.Generator) -> Array:
    """Waves of 150 to 300 mm in all directions."""
    total = np.zeros(points.shape[:-1])
    for _ in range(6):
        wave = rng.normal(size=3)
        wave *= 2 * np.pi / rng.uniform(150, 300) / np.linalg.norm(wave)
        total += np.sin(points @ wave + rng.uniform(0, 2 * np.pi))
    return total


def _tilt(points: Array, rng: np.random.Generator) -> Array:
    return np.asarray(points @ rng.normal(size=3))


def _bowl(points: Array, rng: np.random.Generator) -> Array:
    """Brighter towards the rim, as a head coil without a body coil's reference shows it."""
    return np.asarray((points - rng.uniform(-20, 20, 3)) ** 2 @ np.array([1.0, 0.7, 0.5]))


def _loops(points: Array, rng: np.random.Generator) -> Array:
    """Twelve loops of 50 mm around the head and one above it, each bright nearby; root sum of squares."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False) + rng.uniform(0, 1)
    ring = np.stack([130 * np.cos(angles), 140 * np.sin(angles), 40 * np.sin(5 * angles)], axis=1)
    total = np.zeros(points.shape[:-1])
    for place, strength in zip([*ring, [0, 0, 130]], rng.uniform(0.7, 1.3, 13), strict=True):
        total += strength * (1 + ((points - place) ** 2).sum(axis=-1) / 50**2) ** -3
    return np.sqrt(total)


SHAPES: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "lobes": _lobes,
    "tilt": _tilt,
    "bowl": _bowl,
    "loops": _loops,
}
BASE = Case(jump_and_spike(3.0))
CASES: dict[str, Case] = {
    "no field": BASE,
    "field 20 %": replace(BASE, field=0.2, shape="loops"),
    "field 50 %": replace(BASE, field=0.5),
    "A walk of 2 mm": Case(walk(2.0), field=0.25, shape="bowl"),
    "B jumps of 5 mm, SNR 20": Case(jumps(5.0), field=0.25, snr=20.0, shape="tilt"),
    "C drift to 8 mm, spikes": Case(drift(8.0), field=0.25),
    "D as C, field 50 %, dark slices": Case(drift(8.0), field=0.5, dark=0.3, shape="bowl"),
    "E as C, field of view cut": Case(drift(8.0), field=0.25, grid=(68, 72, 28), shape="loops"),
    "F voxels 2 x 2 x 5 mm": Case(walk(2.0), field=0.25, voxel_mm=(2.0, 2.0, 5.0), grid=(100, 112, 28)),
    "G tremor": Case(tremor(0.3), field=0.25, shape="loops"),
    "H laid anew, 24 mm and 20 degrees": Case(reposition(24.0, 20.0), field=0.25),
    "I bright first volume": Case(walk(1.0), field=0.25, bright=0.8, shape="bowl"),
    "J bright scalp": Case(jump_and_spike(3.0), field=0.5, scalp=15.0, shape="loops"),
}
# Mean and worst volume, mm, of 3dvolreg -heptic on other images of the same kind; of the last three, which it
# was not given, a tenth and a fifth of a voxel.
AFNI: dict[str, tuple[float, float]] = {
    "no field": (0.030, 0.043),
    "field 20 %": (0.048, 0.064),
    "field 50 %": (0.032, 0.052),
    "A walk of 2 mm": (0.015, 0.034),
    "B jumps of 5 mm, SNR 20": (0.028, 0.047),
    "C drift to 8 mm, spikes": (0.040, 0.145),
    "D as C, field 50 %, dark slices": (0.063, 0.345),
    "E as C, field of view cut": (0.043, 0.148),
    "F voxels 2 x 2 x 5 mm": (0.039, 0.060),
    "G tremor": (0.009, 0.014),
    "H laid anew, 24 mm and 20 degrees": (0.1, 0.2),
    "I bright first volume": (0.1, 0.2),
    "J bright scalp": (0.1, 0.2),
}
