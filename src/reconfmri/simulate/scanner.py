"""The scanner: T1w and BOLD images of a person, with head motion, drift, physiological and thermal noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reconfmri import interpolation
from reconfmri.simulate.anatomy import Anatomy, apply, grid_points, rigid, sample, sample_head, turned
from reconfmri.simulate.head import Head, Points, Volume
from reconfmri.simulate.signals import coloured

if TYPE_CHECKING:
    from reconfmri.simulate.susceptibility import Bend

T1_GREY = 1.3  # s, longitudinal relaxation of grey matter at 3 T
FLIP_ANGLE = 75.0  # degrees
THERMAL = 0.0115  # of grey matter's signal: 1 / tSNR of a voxel without any other noise
PHYSIOLOGICAL = (0.002, 0.0013, 0.0013)  # global, then smooth fields, of the signal
SLOW = 4.0  # s, memory of this noise
CARDIAC, RESPIRATORY = (1.07, 0.008), (0.28, 0.002)  # Hz, and share of the signal (cardiac: in fluid only)
DRIFT = 0.005  # of the signal, standard deviation over voxels and time
FIELD_SMOOTHNESS = 25.0  # mm
T1W_NOISE = 5.0  # standard deviation; white matter is about 220
BOX = ((-96.0, 96.0), (-130.0, 112.0), (-104.0, 104.0))  # mm, the part of a person that an EPI can see


@dataclass(frozen=True)
class Protocol:
    """What is acquired: voxel sizes in mm, TR in s."""

    tr: float
    n_volumes: int
    epi_voxel: float
    t1w_voxel: float

    @property
    def epi_grid(self) -> tuple[tuple[int, int, int], Points]:
        """Shape and affine of the EPI: 208 x 248 x 168 mm, slices tilted by 8 degrees."""
        return grid((208, 248, 168), self.epi_voxel, centre=(0, -18, 8), tilt=-8)

    @property
    def t1w_grid(self) -> tuple[tuple[int, int, int], Points]:
        """Shape and affine of the T1w: 192 x 240 x 224 mm with the neck."""
        return grid((192, 240, 224), self.t1w_voxel, centre=(0, -14, -16), tilt=0)


@dataclass(frozen=True)
class Source:
    """A part of the head whose signal changes: its blurred share of the baseline and the grid it lies on."""

    name: str
    amplitude: Volume  # signal units per 100 % change, on 1 mm voxels
    reach: npt.NDArray[np.bool_]  # where it is felt, with 3 mm of room for motion
    origin: Points  # mm of the first voxel


@dataclass(frozen=True)
class Body:
    """A person's EPI signal before the scanner's grid: blurred by the point spread, 1 mm voxels."""

    baseline: Volume
    origin: Points
    sources: tuple[Source, ...]


def grid(
    size: tuple[float, float, float], voxel: float, *, centre: tuple[float, float, float], tilt: float
) -> tuple[tuple[int, int, int], Points]:
    """Return shape and affine of a grid of `size` mm around `centre`, its slices tilted by `tilt` degrees."""
    shape = tuple(int(np.ceil(length / voxel)) for length in size)
    affine = rigid([np.deg2rad(tilt), 0, 0], [0, 0, 0]) @ np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return shape, affine  # type: ignore[return-value]


def acquire_t1w(
    head: Head, anatomy: Anatomy, pose: Points, protocol: Protocol, rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Return a T1w with receive field and Rician noise, white matter about 220."""
    shape, affine = protocol.t1w_grid
    points = apply(np.linalg.inv(pose), grid_points(shape, affine))
    coil = 1 + _smooth_field(shape, 60 / protocol.t1w_voxel, rng, 0.12)
    channels = np.empty((2, *shape), np.float32)
    _fill_with_noise(channels, T1W_NOISE, rng)
    channels[0] += sample_head(head.t1w, anatomy, points).reshape(shape) * coil
    return _magnitude(channels).astype(np.int16)


def embody(
    head: Head,
    anatomy: Anatomy,
    regions: npt.NDArray[np.uint8],
    names: list[str],
    *,
    point_spread: float,
    bend: Bend | None = None,
) -> Body:
    """Return a person's blurred baseline and sources.

    `regions` holds 1, 2, ... on the model's grid, in the order of `names`; `point_spread` is the FWHM, mm, of
    what one EPI voxel collects; `bend` is how its distortion shows them.
    """
    from scipy import ndimage

    shape = tuple(int(high - low) + 1 for low, high in BOX)
    origin = np.array([low for low, _ in BOX])
    sharp, label = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    for x, index in enumerate(anatomy.sheets_in_model(origin, shape)):
        index = index.reshape(3, -1)
        sharp[x] = interpolation.linear(head.epi, index.astype(np.float64)).reshape(shape[1:])
        label[x] = ndimage.map_coordinates(regions, index, order=0, mode="constant").reshape(shape[1:])
    if bend is not None:
        sharp, label = bend.seen(sharp), bend.seen(label, order=0)
    sigma = point_spread / 2.3548
    baseline = ndimage.gaussian_filter(sharp, sigma, truncate=3.0)
    sources = tuple(
        _blurred_source(name, sharp, label == number, origin, sigma)
        for number, name in enumerate(names, start=1)
    )
    return Body(baseline, origin, sources)


def _blurred_source(
    name: str, sharp: Volume, where: npt.NDArray[np.bool_], origin: Points, sigma: float
) -> Source:
    from scipy import ndimage

    margin = int(np.ceil(3 * sigma)) + 4
    corners = [np.flatnonzero(where.any(axis=tuple({0, 1, 2} - {k})))[[0, -1]] for k in range(3)]
    box = tuple(slice(max(low - margin, 0), high + margin + 1) for low, high in corners)
    amplitude = ndimage.gaussian_filter(np.where(where[box], sharp[box], 0), sigma, truncate=3.0)
    reach = _grow(amplitude > 1, 3)
    return Source(name, amplitude, reach, origin + [part.start for part in box])


def draw_motion(n_volumes: int, tr: float, rng: np.random.Generator) -> Points:
    """Return head motion, (n_volumes, 4, 4) from the first volume's pose: slow wander and rare jerks."""
    liveliness = rng.lognormal(0, 0.25)
    scale = np.array([0.0003] * 3 + [0.018] * 3) * liveliness * np.sqrt(tr)
    steps = rng.standard_normal((n_volumes, 6)) * scale
    jerks = rng.random(n_volumes) < 0.006 * tr
    steps[jerks] += rng.standard_normal((int(jerks.sum()), 6)) * scale * 12
    steps[0] = 0
    path = np.cumsum(steps, axis=0)
    return np.stack([rigid(row[:3], row[3:]) for row in path])


def acquire_bold(
    body: Body,
    pose: Points,
    motion: Points,
    changes: dict[str, npt.NDArray[np.float64]],
    fluid: Volume,
    protocol: Protocol,
    rng: np.random.Generator,
) -> npt.NDArray[np.int16]:
    """Return a BOLD run (x, y, z, n_volumes).

    `changes` holds percent signal change per source and volume; `fluid` the share of fluid per voxel.
    """
    shape, affine = protocol.epi_grid
    still = _index_in(body, pose, affine, np.indices(shape, dtype=np.float64).reshape(3, -1))
    here = _grow(sample(body.baseline, still.T).reshape(shape) > 15, 2).ravel()
    voxels = np.indices(shape, dtype=np.float64).reshape(3, -1)[:, here]
    wiggles, series = _physiology(shape, here, fluid.ravel()[here], protocol, rng)
    coil = 1 + _smooth_field(shape, 70 / protocol.epi_voxel, rng, 0.08).ravel()[here]
    saturation = steady_state(protocol)
    active = _active_voxels(body, still[:, here])
    run = np.empty((*shape, protocol.n_volumes), np.int16, order="F")
    channels = np.empty((2, *shape), np.float32)
    for volume in range(protocol.n_volumes):
        index = _index_in(body, motion[volume] @ pose, affine, voxels)
        signal = sample(body.baseline, index.T)
        signal *= saturation[volume] * (1 + np.einsum("k,kn->n", series[volume], wiggles))
        for source in body.sources:
            rows = active[source.name]
            share = sample(source.amplitude, (index[:, rows] + (body.origin - source.origin)[:, None]).T)
            signal[rows] += share * np.float32(saturation[volume] * changes[source.name][volume] / 100)
        _fill_with_noise(channels, THERMAL * 1000, rng)
        channels[0].reshape(-1)[here] += signal * coil
        run[..., volume] = _magnitude(channels)
    return run


def _index_in(body: Body, pose: Points, affine: Points, voxels: Points) -> Points:
    """Return where voxels (3, n) of the scanner's grid lie on the body's grid, (3, n)."""
    matrix = np.linalg.inv(pose) @ affine
    return np.asarray(turned(matrix[:3, :3], voxels) + (matrix[:3, 3] - body.origin)[:, None])


def steady_state(protocol: Protocol) -> npt.NDArray[np.float64]:
    """Return each volume's signal over the steady state's, from T1 relaxation between excitations."""
    decay, turn = np.exp(-protocol.tr / T1_GREY), np.cos(np.deg2rad(FLIP_ANGLE))
    steady = (1 - decay) / (1 - decay * turn)
    return np.asarray(1 + (1 / steady - 1) * (decay * turn) ** np.arange(protocol.n_volumes))


def _active_voxels(body: Body, index: Points) -> dict[str, npt.NDArray[np.intp]]:
    """Columns of `index` (3, n), on the body's grid, that each source may reach."""
    columns = {}
    for source in body.sources:
        near = np.rint(index + (body.origin - source.origin)[:, None]).astype(int)
        inside = np.flatnonzero(((near >= 0) & (near < np.array(source.reach.shape)[:, None])).all(axis=0))
        columns[source.name] = inside[source.reach[tuple(near[:, inside])]]
    return columns


def _physiology(
    shape: tuple[int, int, int],
    here: npt.NDArray[np.bool_],
    fluid: Volume,
    protocol: Protocol,
    rng: np.random.Generator,
) -> tuple[Volume, Volume]:
    """Return maps (n_components, n_voxels) and time courses (n_volumes, n_components) of structured noise."""
    n, tr = protocol.n_volumes, protocol.tr
    times = np.arange(n) * tr
    width = FIELD_SMOOTHNESS / protocol.epi_voxel
    maps, courses = [np.ones(int(here.sum()), np.float32)], [coloured(n, tr, SLOW, rng)]
    for _ in PHYSIOLOGICAL[1:]:
        maps.append(_smooth_field(shape, width, rng, 1.0).ravel()[here])
        courses.append(coloured(n, tr, SLOW, rng))
    scales = list(PHYSIOLOGICAL)
    for (rate, share), place in ((CARDIAC, fluid), (RESPIRATORY, maps[1])):
        phase = 2 * np.pi * np.cumsum(rate * tr * (1 + 0.03 * rng.standard_normal(n)))
        maps += [place, place]
        courses += [np.cos(phase), np.sin(phase * (1 + 1e-3))]
        scales += [share, share / 2]
    for wave in (times / times[-1] - 0.5, np.cos(np.pi * times / times[-1])):
        maps.append(_smooth_field(shape, 2 * width, rng, 1.0).ravel()[here] + np.float32(rng.normal()))
        courses.append(wave)
        scales.append(DRIFT)
    return np.stack(maps).astype(np.float32), (np.stack(courses, axis=1) * scales).astype(np.float32)


def _smooth_field(shape: tuple[int, int, int], width: float, rng: np.random.Generator, sd: float) -> Volume:
    """Return a smooth random field of the given standard deviation; `width` in voxels."""
    from scipy import ndimage

    step = max(int(width / 2), 1)
    nodes = tuple(int(np.ceil(n / step)) + 3 for n in shape)
    coarse = ndimage.gaussian_filter(rng.standard_normal(nodes), width / step, mode="reflect")
    coarse = (coarse - coarse.mean()) * (sd / coarse.std())
    fine = ndimage.affine_transform(coarse, np.full(3, 1 / step), output_shape=shape, order=1, mode="nearest")
    return np.asarray(fine, np.float32)


def _grow(mask: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(mask, iterations=by))


def _fill_with_noise(channels: Volume, sd: float, rng: np.random.Generator) -> None:
    """Fill the real and the imaginary channel, (2, x, y, z), with white noise."""
    rng.standard_normal(dtype=np.float32, out=channels)
    channels *= np.float32(sd)


def _magnitude(channels: Volume) -> Volume:
    """Return the rounded magnitude (x, y, z) of the two channels, which it overwrites."""
    np.multiply(channels, channels, out=channels)
    channels[0] += channels[1]
    np.sqrt(channels[0], out=channels[0])
    np.rint(channels[0], out=channels[0])
    return np.asarray(channels[0])
