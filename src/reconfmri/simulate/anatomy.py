"""One person: a smooth deformation of the model head, and its exact inverse for the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reconfmri import interpolation
from reconfmri.simulate.head import ORIGIN, SHAPE, Points, Volume, to_index

NODE = 4.0  # mm between the nodes of the displacement; between them it is linear
SMOOTHNESS = 20.0  # mm, standard deviation of the Gaussian that makes the displacement smooth
DISPLACEMENT = 2.5  # mm, root mean square per axis
STRETCH, SHEAR = 0.04, 0.015  # standard deviations of the linear part


@dataclass(frozen=True)
class Anatomy:
    """Where each point of a person lies in the model: `linear @ p + displacement(p)`, mm."""

    linear: Points  # (3, 3)
    displacement: Volume  # (3, nodes...), mm, nodes every 4 mm from ORIGIN

    def to_model(self, points: Points) -> Points:
        """Return the model's points for a person's points, (n, 3), mm."""
        return turned(self.linear, points.T).T + self._displacement_at(points)

    def from_model(self, points: Points) -> Points:
        """Return the person's points for the model's points, (n, 3), mm; the inverse, to under 0.001 mm."""
        inverse = np.linalg.inv(self.linear)
        found = points @ inverse.T
        for _ in range(25):
            found = (points - self._displacement_at(found)) @ inverse.T
        return found

    def sheets_in_model(self, origin: Points, shape: tuple[int, ...]) -> Iterator[Volume]:
        """Yield the model's indices (3, y, z) for the sheets of a 1 mm grid in the person's space, x by x."""
        from scipy import ndimage

        step, first = np.full(3, 1 / NODE), (origin - ORIGIN) / NODE
        fine = [
            ndimage.affine_transform(part, step, first, output_shape=shape, order=1, mode="nearest")
            for part in self.displacement
        ]
        y, z = (origin[k] + np.arange(shape[k], dtype=np.float32) for k in (1, 2))
        rows = self.linear.astype(np.float32)
        for sheet, x in enumerate(origin[0] + np.arange(shape[0], dtype=np.float32)):
            constant = (self.linear[:, 0] * x - ORIGIN).astype(np.float32)
            yield np.stack(
                [fine[k][sheet] + (rows[k, 1] * y + constant[k])[:, None] + rows[k, 2] * z for k in range(3)]
            )

    def _displacement_at(self, points: Points) -> Points:
        index = ((points - ORIGIN) / NODE).T
        parts = [interpolation.linear(part, index, fill=None) for part in self.displacement]
        return np.stack(parts, axis=-1).astype(np.float64)


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Return a person's anatomy: stretch and shear of the model, and a smooth displacement."""
    from scipy import ndimage

    linear = np.eye(3) + rng.normal(0, SHEAR, (3, 3))
    linear[np.diag_indices(3)] = 1 + np.clip(rng.normal(0, STRETCH, 3), -0.08, 0.08)
    nodes = tuple(int(np.ceil(n / NODE)) + 1 for n in SHAPE)
    field = rng.standard_normal((3, *nodes))
    field = np.stack([ndimage.gaussian_filter(part, SMOOTHNESS / NODE, mode="reflect") for part in field])
    field *= DISPLACEMENT / field.std()
    return Anatomy(linear, field.astype(np.float32))


def rigid(rotation: npt.ArrayLike, translation: npt.ArrayLike) -> Points:
    """Return the 4x4 matrix of rotations about x, y, z (rad, in this order) and a translation (mm)."""
    a, b, c = np.asarray(rotation, float)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = z @ y @ x
    matrix[:3, 3] = translation
    return matrix


def draw_pose(rng: np.random.Generator) -> Points:
    """Return how a head lies in the scanner, a 4x4 matrix from the person's to the scanner's mm."""
    return rigid(np.deg2rad(rng.uniform([-6, -3, -4], [6, 3, 4])), rng.uniform(-4, 4, 3))


def turned(matrix: Points, points: Points) -> Points:
    """Return `matrix @ points`, (3, 3) and (3, n), on one thread: BLAS would spin on such small products."""
    return np.asarray(np.einsum("ij,jn->in", matrix, points))


def apply(matrix: Points, points: Points) -> Points:
    """Return points (n, 3) moved by a 4x4 matrix."""
    return (turned(matrix[:3, :3], points.T) + matrix[:3, 3:]).T


def grid_points(shape: tuple[int, int, int], affine: Points) -> Points:
    """Return the world points (n, 3) of every voxel of a grid, in C order."""
    index = np.indices(shape, dtype=np.float64).reshape(3, -1).T
    return apply(affine, index)


def sample(volume: Volume, index: Points, *, order: int = 1) -> Volume:
    """Return a volume's values at indices (n, 3), linear unless told; 0 outside."""
    from scipy import ndimage

    if order == 1:
        return interpolation.linear(np.asarray(volume, dtype=np.float32), index.T)
    return np.asarray(
        ndimage.map_coordinates(volume, index.T, order=order, mode="constant", cval=0.0, output=np.float32)
    )


def sample_head(volume: Volume, anatomy: Anatomy, points: Points) -> Volume:
    """Return one map of the head at a person's points (n, 3), mm."""
    return sample(volume, to_index(anatomy.to_model(points)))
