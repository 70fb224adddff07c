"""Whole heads of many looks for judging where the brain is found, made apart from the estimator.

The model head of the simulated trial (`reconfmri.simulate.head`, of another template than the engine's) is
stretched, bent by waves, turned and painted: `Look` says how. Truth is the brain that was painted. What is no
T1-weighted head stands beside it in `WRONG`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import nibabel
import numpy as np
from scipy import ndimage

from reconfmri.exclusions import DataFault
from reconfmri.preprocess import anatomy
from reconfmri.registration import Array, Volume, grid_points, rigid, transform_points
from reconfmri.simulate.head import EPI, EPI_WHITE, SHAPE, T1W, build_head, to_index
from reconfmri.templates import simulation_maps

CENTRE = np.array([0.0, -18.0, 8.0])  # mm, of the model's brain
VENTRICLES = np.array([[-13.0, -18.0, 18.0], [13.0, -18.0, 18.0]])
WHITE_LEVEL, GREY_LEVEL = 223.0, 167.0  # of the model's T1w
SEE = (196, 232, 220)  # mm: the whole head with some of the neck
SHEETS = 24  # at a time: points are many
MIN_DICE = 0.95


@dataclass(frozen=True)
class Look:
    """How a head looks. Lengths in mm; brightness over that of white matter.

    `size` is that of the head over the model's, whose brain and the fluid around it have 1.9 l; `shrunk` that
    of the brain inside its skull, `wide` by how much the ventricles are; `bias` the amplitude of the
    logarithm of the coil's field, `ceiling` where the numbers end; `echo_planar` is the contrast of a BOLD.
    """

    size: float = 0.92
    scalp: float = 0.9
    shrunk: float = 1.0
    wide: float = 1.0
    lesions: int = 0
    bias: float = 0.2
    ceiling: float = np.inf
    noise: float = 0.025
    voxel_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    grey: float = GREY_LEVEL / WHITE_LEVEL
    see: tuple[int, int, int] = SEE
    stripped: bool = False
    echo_planar: bool = False


@dataclass(frozen=True)
class Seen:
    """A T1w, and the brain that was painted into it, on its grid."""

    t1w: Volume
    brain: Array


LOOKS: dict[str, Look] = {
    "ordinary": Look(),
    "dim scalp": Look(scalp=0.25),
    "scalp twice as bright as white matter": Look(scalp=2.0),
    "scalp three times as bright": Look(scalp=3.0),
    "child": Look(size=0.86, scalp=1.6, grey=0.84),
    "large head": Look(size=1.0),
    "atrophy": Look(shrunk=0.93, wide=2.0, scalp=1.8),
    "lesions": Look(lesions=6, wide=1.3),
    "strong bias": Look(bias=0.6),
    "thick slices": Look(voxel_mm=(1.0, 1.0, 5.0)),
    "saturated white matter": Look(ceiling=0.92),
    "noise of a tenth": Look(noise=0.1),
    "without a neck": Look(see=(196, 232, 165)),
    "skull-stripped, atrophy": Look(shrunk=0.93, wide=2.0, stripped=True),
    "all at once": Look(size=0.9, scalp=2.5, shrunk=0.95, wide=1.6, lesions=3, bias=0.4, noise=0.05),
}


def draw(look: Look, seed: int) -> Seen:
    """Return a head of this look, the same for one seed."""
    rng = np.random.default_rng(seed)
    affine, shape = _grid(look, rng)
    person = _person(look, rng)
    level, brain = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    paint = _paint_of(look)
    within = list(_within(look.voxel_mm))
    for place, first in product(within, range(0, shape[0], SHEETS)):
        sheets = slice(first, min(first + SHEETS, shape[0]))
        points = grid_points(
            (sheets.stop - first, *shape[1:]), affine @ _moved(place + np.array([first, 0, 0]))
        )
        painted, there = _painted(paint, *person.both(points), person.lost(points))
        level[sheets] += painted / len(within)
        brain[sheets] += there / len(within)
    field = np.exp(look.bias * _waves(grid_points(shape, affine), rng))
    noise = rng.normal(scale=look.noise * WHITE_LEVEL, size=(2, *shape))
    data = np.minimum(np.hypot(level * field + noise[0], noise[1]), look.ceiling * WHITE_LEVEL)
    data = np.where(brain > 0.5, data, 0) if look.stripped else data
    return Seen(Volume(data.astype(np.float32), affine), brain > 0.5)


def dice(found: Volume, seen: Seen) -> float:
    """Return the overlap of a brain mask, on any grid, with the brain that was painted."""
    back = np.linalg.inv(found.affine) @ seen.t1w.affine
    where = transform_points(back, grid_points(seen.brain.shape, np.eye(4))).reshape(-1, 3).T
    here = ndimage.map_coordinates(found.data.astype(np.float32), where, order=1).reshape(seen.brain.shape)
    return float(2 * ((here > 0.5) & seen.brain).sum() / ((here > 0.5).sum() + seen.brain.sum()))


def judged(look: Look, *, finest_mm: float, seed: int = 1) -> tuple[str, float]:
    """Return what the engine says of a head of this look, and the Dice of its mask (0 where it refuses)."""
    seen = draw(look, seed)
    try:
        found = anatomy.prepare(anatomy.conform(seen.t1w), finest_mm=finest_mm)
    except DataFault as fault:
        return fault.line, 0.0
    overlap = dice(found.mask, seen)
    scales = found.facts["affine_scale_smallest"], found.facts["affine_scale_largest"]
    return f"Dice {overlap:.3f}; scales {scales[0]:.2f} to {scales[1]:.2f}", overlap


def refused(wrong: Volume, *, finest_mm: float) -> str:
    """Return the code by which the engine refuses an image, "" where it takes it."""
    try:
        anatomy.prepare(anatomy.conform(wrong), finest_mm=finest_mm)
    except DataFault as fault:
        return fault.code
    return ""


# What is no T1-weighted head.


def _turned(axis: int) -> Callable[[Look], Volume]:
    def made(look: Look) -> Volume:
        mirror = np.eye(4)
        mirror[axis, axis] = -1
        t1w = draw(look, 2).t1w
        return Volume(t1w.data, mirror @ t1w.affine)

    return made


def _axes_swapped(look: Look) -> Volume:
    t1w = draw(look, 2).t1w
    return Volume(np.ascontiguousarray(t1w.data.transpose(0, 2, 1)), t1w.affine)


def _bold(look: Look) -> Volume:
    return draw(replace(look, echo_planar=True), 2).t1w


def _flair(look: Look) -> Volume:
    """Fluid is dark, grey matter brighter than white."""
    return draw(replace(look, grey=1.12), 2).t1w


def _negative(look: Look) -> Volume:
    t1w = draw(look, 2).t1w
    top = np.percentile(t1w.data, 99)
    smooth = ndimage.gaussian_filter(t1w.data, 2.0 / t1w.voxel_mm)
    head = ndimage.binary_fill_holes(smooth > 0.15 * top)
    return Volume(np.where(head, np.clip(top - t1w.data, 0, None), t1w.data).astype(np.float32), t1w.affine)


def _cut(low: float, high: float) -> Callable[[Look], Volume]:
    def made(look: Look) -> Volume:
        t1w = draw(look, 2).t1w
        first, last = (int(share * t1w.data.shape[2]) for share in (low, high))
        affine = t1w.affine @ _moved(np.array([0.0, 0.0, first]))
        return Volume(np.ascontiguousarray(t1w.data[:, :, first:last]), affine)

    return made


def _noise(look: Look) -> Volume:
    affine, shape = _grid(look, np.random.default_rng(2))
    return Volume(np.random.default_rng(3).rayleigh(10, shape).astype(np.float32), affine)


def _ball(look: Look) -> Volume:
    affine, shape = _grid(look, np.random.default_rng(2))
    away = np.linalg.norm(grid_points(shape, affine) - CENTRE, axis=-1)
    speckle = np.random.default_rng(3).normal(size=shape)
    return Volume(np.clip(np.where(away < 75, 100, 0) + 3 * speckle, 0, None).astype(np.float32), affine)


WRONG: dict[str, Callable[[Look], Volume]] = {
    "back to front": _turned(1),
    "upside down": _turned(2),
    "two axes swapped": _axes_swapped,
    "BOLD": _bold,
    "FLAIR": _flair,
    "negative, as T2 or PD": _negative,
    "lower half": _cut(0, 0.45),
    "upper third": _cut(0.7, 1),
    "noise": _noise,
    "ball": _ball,
}


# How a head is made.


@dataclass(frozen=True)
class _Person:
    look: Look
    turn: Array  # (4, 4), from the scanner to the head
    waves: Array  # (n, 2, 3): direction over length, and the way there, mm
    spots: Array  # (n, 4): centre and radius of lesions in the model, mm

    def both(self, points: Array) -> tuple[Array, Array]:
        """Return the model's indices (x, y, z, 3) for the brain and for what is around it."""
        there = self._in_model(points)
        outside = to_index(there)
        inside = CENTRE + (there - CENTRE) / self.look.shrunk
        for middle in VENTRICLES:
            away = inside - middle
            far = np.linalg.norm(away / np.array([1.0, 2.2, 1.0]), axis=-1, keepdims=True)
            # what lies `far` from the middle was nearer to it before the ventricle grew
            inside = inside + away * (1 / self.look.wide - 1) * np.exp(-0.5 * (far / 14.0) ** 2)
        return to_index(inside), outside

    def lost(self, points: Array) -> Array:
        """Return where lesions are, (x, y, z)."""
        there = self._in_model(points)
        found = np.zeros(points.shape[:-1], dtype=bool)
        for *middle, radius in self.spots:
            found |= np.linalg.norm(there - np.array(middle), axis=-1) < radius
        return found

    def _in_model(self, points: Array) -> Array:
        there = transform_points(self.turn, points)
        for direction, way in self.waves:
            there = there + way * np.sin(there @ direction)[..., None]
        return np.asarray(there)


def _person(look: Look, rng: np.random.Generator) -> _Person:
    stretch = np.diag([*(rng.uniform(0.95, 1.05, 3) / look.size), 1.0])
    turn = stretch @ rigid(np.array([*rng.uniform(-8, 8, 3), *rng.uniform(-10, 10, 3)]), CENTRE)
    waves = []
    for _ in range(8):
        direction = rng.normal(size=3)
        direction *= 2 * np.pi / rng.uniform(60, 140) / np.linalg.norm(direction)
        waves.append([direction, rng.normal(scale=1.2, size=3)])
    side = rng.choice([-1, 1], look.lesions) * rng.uniform(18, 45, look.lesions)
    spots = [[x, rng.uniform(-70, 30), rng.uniform(5, 45), rng.uniform(4, 14)] for x in side]
    return _Person(look, turn, np.array(waves), np.array(spots).reshape(-1, 4))


@dataclass(frozen=True)
class _Paint:
    """Intensities of the model for the brain and for what is around it, and that of fluid."""

    brain: Array
    around: Array
    fluid: float


def _paint_of(look: Look) -> _Paint:
    head = build_head()
    if look.echo_planar:
        model = head.epi * np.float32(WHITE_LEVEL / EPI_WHITE)
        return _Paint(model, model, EPI["csf"] * WHITE_LEVEL / EPI_WHITE)
    # Grey matter has its own brightness, fluid and white matter stay.
    nodes = [0.0, T1W["csf"], GREY_LEVEL, WHITE_LEVEL, 300.0]
    levels = [0.0, T1W["csf"], look.grey * WHITE_LEVEL, WHITE_LEVEL, 300.0]
    fat = (_brain() == 0) & (head.t1w == np.float32(T1W["fat"]))
    around = np.where(fat, np.float32(look.scalp * WHITE_LEVEL), head.t1w)
    return _Paint(np.interp(head.t1w, nodes, levels).astype(np.float32), around, T1W["csf"])


def _painted(paint: _Paint, inside: Array, outside: Array, lost: Array) -> tuple[Array, Array]:
    """Return the intensity (x, y, z), and where the brain is; fluid fills what it has left."""
    there, was = _read(_brain(), inside) > 0.5, _read(_brain(), outside) > 0.5
    within = np.where(lost, paint.fluid, _read(paint.brain, inside))
    return np.where(there, within, np.where(was, paint.fluid, _read(paint.around, outside))), there


def _read(model: Array, index: Array) -> Array:
    where = index.reshape(-1, 3).T
    return np.asarray(ndimage.map_coordinates(model, where, order=1, output=np.float32)).reshape(
        index.shape[:-1]
    )


@cache
def _brain() -> Array:
    """The brain that the model is painted around, on the model's grid."""
    image = nibabel.load(simulation_maps().t1w)
    first = np.rint(to_index(image.affine[:3, 3])).astype(int)
    small, brain = np.asarray(image.dataobj) > 0, np.zeros(SHAPE, np.float32)
    room = tuple(slice(at, at + size) for at, size in zip(first, small.shape, strict=True))
    brain[room] = small[tuple(slice(0, size) for size in brain[room].shape)]
    return brain


def _grid(look: Look, rng: np.random.Generator) -> tuple[Array, tuple[int, ...]]:
    shape = tuple(int(np.ceil(length / edge)) for length, edge in zip(look.see, look.voxel_mm, strict=True))
    affine = rigid(np.array([*rng.uniform(-6, 6, 3), 0, 0, 0]), np.zeros(3)) @ np.diag([*look.voxel_mm, 1.0])
    crown = CENTRE + np.array([0.0, 4.0, 105.0 - look.see[2] / 2])
    affine[:3, 3] = crown - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine, shape


def _within(voxel_mm: tuple[float, float, float]) -> Iterator[Array]:
    """Where in a voxel it is looked at: every 1.5 mm."""
    counts = [max(round(size / 1.5), 1) for size in voxel_mm]
    for index in np.ndindex(*counts):
        yield (np.array(index) + 0.5) / counts - 0.5


def _moved(voxels: Array) -> Array:
    matrix = np.eye(4)
    matrix[:3, 3] = voxels
    return matrix


def _waves(points: Array, rng: np.random.Generator) -> Array:
    """Return a smooth field from -1 to 1: waves of 200 to 400 mm."""
    total = np.zeros(points.shape[:-1])
    for _ in range(4):
        wave = rng.normal(size=3)
        wave *= 2 * np.pi / rng.uniform(200, 400) / np.linalg.norm(wave)
        total += np.sin(points @ wave + rng.uniform(0, 2 * np.pi))
    low, high = total.min(), total.max()
    return np.asarray(2 * (total - low) / (high - low) - 1)
