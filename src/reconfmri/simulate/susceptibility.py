"""Susceptibility: a field near the head's air that shifts an EPI along its phase encoding, and a map of it.

A spin whose field is f Hz off appears f x echo spacing x lines voxels away; what stood between two spins is
spread over the distance they have there. Jezzard & Balaban, MRM 1995;34:65. Signal that is lost within a
voxel (dropout), and how the field changes as the head turns, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reconfmri.simulate.anatomy import Anatomy, apply, grid_points, rigid, sample_head
from reconfmri.simulate.head import Head, Points, Volume
from reconfmri.simulate.scanner import BOX, Protocol, grid

# Centre and width (mm, template space) and height (mm of shift): above the nose, before the forehead, above
# both ears, neck; and a slope of the shim, mm of shift per mm upwards.
BUMPS = (
    ((0, 38, -22), (16, 13, 12), 8.0),
    ((0, 60, -5), (14, 10, 14), 3.0),
    ((-45, -5, -32), (12, 14, 10), -5.0),
    ((45, -5, -32), (12, 14, 10), -4.5),
    ((0, -30, -55), (25, 20, 15), 3.0),
)
SLOPE = 0.008
DIRECTION, AXIS = "j", 1  # of phase encoding: towards the face
READOUT = 0.12  # s times mm of a voxel, so that the field shifts as far with every voxel size
NODE = 2.0  # mm between the nodes of the shift; between them it is linear
ROUNDS, EXACT_ROUNDS = 12, 2  # a slope of 0.5 leaves 0.5^12 of 8 mm; the last two are not interpolated
FIELD_VOXEL, FIELD_SNR = 3.0, 50.0
ECHOES = (0.00492, 0.00738)  # s
OFFSET = 0.3  # rad, most that the phase of the two echoes differs by without any field
MAP_MOTION = ((0.01, 0.007, 0.007), 0.7)  # rad and mm, how the head moves between map and run (SD)


def shift(points: Points) -> Points:
    """Return how far (mm, towards the face) an EPI shows points (..., 3) of the template's space off."""
    bumps = (h * np.exp(-0.5 * (((points - np.array(c)) / w) ** 2).sum(axis=-1)) for c, w, h in BUMPS)
    return np.asarray(sum(bumps) + SLOPE * points[..., 2])


def sidecar(protocol: Protocol) -> dict[str, Any]:
    """Return what a run's sidecar says of its phase encoding."""
    return {"PhaseEncodingDirection": DIRECTION, "TotalReadoutTime": round(READOUT / protocol.epi_voxel, 6)}


def planted(protocol: Protocol) -> dict[str, Any]:
    """Return the shift as the truth of a trial tells it."""
    return {
        **sidecar(protocol),
        "Description": "Shift of the EPI along its phase encoding, mm towards the face, at a point of the "
        "template: the sum of Gaussian bumps and a slope upwards. Regional truth is that without distortion.",
        "Bumps": [{"Centre": list(c), "Width": list(w), "Height": h} for c, w, h in BUMPS],
        "SlopeUpwards": SLOPE,
    }


@dataclass(frozen=True)
class Bend:
    """How far (mm along `direction`) from where a person's EPI shows something it stands in the head.

    `back` lies on nodes every 2 mm from the corner of the person's space that an EPI can see.
    """

    back: Volume
    direction: Points  # (3,), unit vector in the person's space

    def unbent(self, points: Points) -> Points:
        """Return where in the person stands what is shown at points (n, 3), mm."""
        back = _at_nodes(self.back, points, _origin())
        return np.asarray(points - back[:, None] * self.direction)

    def seen(self, volume: npt.NDArray[Any], *, order: int = 1) -> npt.NDArray[Any]:
        """Return a volume of 1 mm voxels from the same corner as it is shown; of labels (order 0) where."""
        from scipy import ndimage

        step = np.full(3, 1 / NODE)
        fine, squeezed = (
            ndimage.affine_transform(part, step, output_shape=volume.shape, order=1, mode="nearest")
            for part in (self.back, self._spread())
        )
        shown = np.empty_like(volume)
        sheet = np.indices((1, *volume.shape[1:]), dtype=np.float32).reshape(3, -1)
        for x, back in enumerate(fine):
            where = sheet - back.ravel() * self.direction[:, None].astype(np.float32)
            where[0] += x
            found = ndimage.map_coordinates(volume, where, order=order, mode="constant")
            shown[x] = found.reshape(back.shape) * (squeezed[x] if order else 1)
        return shown

    def _spread(self) -> Volume:
        """Return by how much what stands in a millimetre is thinned where it is shown, 1 for not at all."""
        slopes = np.gradient(self.back, NODE)
        return np.asarray(
            1 - sum(part * size for part, size in zip(slopes, self.direction, strict=True)), np.float32
        )


def bend_of(anatomy: Anatomy, pose: Points, protocol: Protocol) -> Bend:
    """Return how the EPI of a person who lies in `pose` is bent."""
    _, affine = protocol.epi_grid
    direction = (np.linalg.inv(pose) @ affine)[:3, AXIS] / protocol.epi_voxel
    shape = tuple(int((high - low) / NODE) + 1 for low, high in BOX)
    origin = _origin()
    points = np.indices(shape).reshape(3, -1).T * NODE + origin
    there = shift(anatomy.to_model(points)).astype(np.float32).reshape(shape)
    back = there.ravel()
    for _ in range(ROUNDS):
        back = _at_nodes(there, points - back[:, None] * direction, origin)
    for _ in range(EXACT_ROUNDS):
        back = shift(anatomy.to_model(points - back[:, None] * direction))
    return Bend(back.reshape(shape).astype(np.float32), direction)


def acquire_field_map(
    head: Head, anatomy: Anatomy, pose: Points, protocol: Protocol, rng: np.random.Generator
) -> tuple[dict[str, npt.NDArray[np.int16]], Points]:
    """Return a phase difference and both magnitudes (x, y, z) by their BIDS suffixes, and their affine.

    The head has moved a little from `pose`. Phase is written as Siemens does, -4096 to 4094 for a turn.
    """
    shape, affine = grid((204, 240, 180), FIELD_VOXEL, centre=(0, -18, 8), tilt=-8)
    turn, move = MAP_MOTION
    moved = rigid(rng.normal(0, turn), rng.normal(0, move, 3)) @ pose
    points = apply(np.linalg.inv(moved), grid_points(shape, affine))
    t1w = sample_head(head.t1w, anatomy, points)
    magnitude = np.where(t1w > 10, 240 + 2 * t1w, 0)
    hertz = shift(anatomy.to_model(points)) / _mm_per_hz(protocol)
    offset = rng.uniform(-OFFSET, OFFSET)
    noise = magnitude[magnitude > 0].mean() / FIELD_SNR
    echoes = []
    for time, fade, phase in zip(ECHOES, (1.0, 0.93), (0.0, offset), strict=True):
        channels = noise * rng.standard_normal((2, len(points)))
        echoes.append(fade * magnitude * np.exp(1j * (2 * np.pi * time * hertz + phase)) + channels[0])
        echoes[-1] += 1j * channels[1]
    difference = np.angle(echoes[1] * np.conj(echoes[0]))
    images = {
        "phasediff": np.clip(np.round(difference / np.pi * 2048) * 2, -4096, 4094),
        "magnitude1": np.rint(np.abs(echoes[0])),
        "magnitude2": np.rint(np.abs(echoes[1])),
    }
    return {name: image.reshape(shape).astype(np.int16) for name, image in images.items()}, affine


def _mm_per_hz(protocol: Protocol) -> float:
    lines = protocol.epi_grid[0][AXIS]
    return float(sidecar(protocol)["TotalReadoutTime"] * lines / (lines - 1) * protocol.epi_voxel)


def _origin() -> Points:
    return np.array([low for low, _ in BOX])


def _at_nodes(volume: Volume, points: Points, origin: Points) -> Volume:
    """Return a smooth map's values at points (n, 3), mm; beyond it its edge continues."""
    from scipy import ndimage

    index = ((points - origin) / NODE).T
    return np.asarray(ndimage.map_coordinates(volume, index, order=1, mode="nearest", output=np.float32))
