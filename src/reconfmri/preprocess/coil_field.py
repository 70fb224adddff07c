"""The receive field of a head coil, which stays in the scanner while the head moves.

A volume is F(x) H(Mx), head H and field F; the reference is F H where the head lay in it. What is left of a
volume after its motion is then the reference times log F(x) - log F(Mx). One log F, a polynomial in the
scanner's space, explains all volumes; it is found with the motions, not after them, as one system of least
squares whose part of the volumes is eliminated one by one (Schur complement; Triggs et al. 2000, section 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconfmri.registration import Array

ORDER = 4
UNIT_MM = 80.0  # about from the middle of a head to its surface
PRIOR = 0.3  # standard deviation of each coefficient; the log of a field of 50 % has as much
# Signals of the brain and of breathing are no white noise: so many points of a volume say one thing.
CORRELATED = 300.0
EXPONENTS = tuple(
    (i, j, k)
    for i in range(ORDER + 1)
    for j in range(ORDER + 1)
    for k in range(ORDER + 1)
    if 1 <= i + j + k <= ORDER
)


@dataclass(frozen=True)
class Lattice:
    """The scanner's voxels: `shape`, and edge lengths (3,), mm."""

    shape: tuple[int, ...]
    voxel_mm: Array

    def scaled(self, voxels: Array) -> Array:
        """Return voxel indices (n, 3) in units of `UNIT_MM` from the middle."""
        return np.asarray((voxels - self._middle) * (self.voxel_mm / UNIT_MM))

    @property
    def _middle(self) -> Array:
        return (np.array(self.shape) - 1) / 2

    def on_grid(self, coefficients: Array) -> Array:
        """Return the polynomial on every voxel (x, y, z), float32."""
        cube = np.zeros([ORDER + 1] * 3)
        cube[tuple(np.array(EXPONENTS).T)] = coefficients
        axes = [
            np.vander((np.arange(size) - middle) * edge / UNIT_MM, ORDER + 1, increasing=True)
            for size, middle, edge in zip(self.shape, self._middle, self.voxel_mm, strict=True)
        ]
        grid = np.einsum("ijk,xi,yj,zk->xyz", cube, *axes, optimize=True)
        return np.asarray(grid, dtype=np.float32)


@dataclass(frozen=True)
class Evidence:
    """What volumes say of the coefficients: `information` (k, k) and `pull` (k,), without their motions."""

    information: Array
    pull: Array

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.information + other.information, self.pull + other.pull)

    def coefficients(self) -> Array:
        """Return the most probable coefficients, (k,)."""
        return np.linalg.solve(self.information + np.eye(len(self.pull)) / PRIOR**2, self.pull)


def monomials(scaled: Array) -> Array:
    """Return (n, k) monomials of points (n, 3)."""
    powers = np.ones((ORDER + 1, *scaled.T.shape))
    for order in range(ORDER):
        powers[order + 1] = powers[order] * scaled.T
    return np.stack([powers[i, 0] * powers[j, 1] * powers[k, 2] for i, j, k in EXPONENTS], axis=1)


def evidence(change: Array, own: Array, residual: Array, weights: Array, variance: float) -> Evidence:
    """Return what one volume says of the field.

    `change` (n, k) is how the coefficients change the points, `own` (n, 8) how the volume's motion, gain and
    offset do; `weights` (n,), and the `variance` of the residual (n,).
    """
    weighted, size = own * weights[:, None], own.shape[1]
    both = weighted.T @ np.column_stack([own, change, residual])
    alone, shared, seen = both[:, :size], both[:, size:-1], both[:, -1]
    explained = np.linalg.solve(alone, np.column_stack([shared, seen]))
    pulled = (change * weights[:, None]).T @ np.column_stack([change, residual])
    information = pulled[:, :-1] - shared.T @ explained[:, :-1]
    variance = variance * CORRELATED
    return Evidence(information / variance, (pulled[:, -1] - shared.T @ explained[:, -1]) / variance)
