"""A run's voxel signals on disk: written by volume, read in blocks of voxels, never whole in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# A block of float32 signals takes 32 MB, and as much of the file is mapped at once, however long the run.
BLOCK_VALUES = MAPPED_VALUES = 8_000_000


class VoxelSeries:
    """Signals (n_voxels, n_volumes), float32, in an unnamed file that is gone when the object is.

    `lowest` and `highest` are the extremes of what was written.
    """

    def __init__(self, n_voxels: int, *, folder: Path | None = None):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the object
        self.n_voxels, self.n_volumes = n_voxels, 0
        self.lowest, self.highest = np.inf, -np.inf

    @classmethod
    def of(cls, signals: Array) -> Self:
        """Return the series of an array (n_voxels, n_volumes)."""
        series = cls(len(signals))
        for volume in signals.T:
            series.append(volume)
        return series

    def append(self, values: Array) -> None:
        """Write one volume, (n_voxels,).

        Raises
        ------
        ValueError
            The volume has another number of voxels.
        """
        if values.shape != (self.n_voxels,):
            raise ValueError(f"a volume of {self.n_voxels} voxels was expected, got {values.shape}")
        self._file.write(np.ascontiguousarray(values, dtype=np.float32).tobytes())
        self.n_volumes += 1
        self.lowest = min(self.lowest, float(values.min(initial=np.inf)))
        self.highest = max(self.highest, float(values.max(initial=-np.inf)))

    def blocks(self, chosen: Array | None = None) -> Iterator[tuple[Array, Array]]:
        """Yield voxel numbers (n,) and their signals (n, n_volumes); `chosen` (n_voxels,) selects."""
        self._file.flush()
        numbers = np.arange(self.n_voxels) if chosen is None else np.flatnonzero(chosen)
        size = max(BLOCK_VALUES // max(self.n_volumes, 1), 1)
        for first in range(0, len(numbers), size):
            yield numbers[first : first + size], self._read(numbers[first : first + size])

    def _read(self, numbers: Array) -> Array:
        found = np.empty((len(numbers), self.n_volumes), dtype=np.float32)
        around, inside = slice(numbers[0], numbers[-1] + 1), numbers - numbers[0]
        rows = max(MAPPED_VALUES // self.n_voxels, 1)
        for first in range(0, self.n_volumes, rows):
            shape = (min(rows, self.n_volumes - first), self.n_voxels)
            # Mapped piece by piece: pages that were read are given back.
            part = np.memmap(self._file, np.float32, "r", offset=4 * first * self.n_voxels, shape=shape)
            found[:, first : first + shape[0]] = part[:, around][:, inside].T
        return found
