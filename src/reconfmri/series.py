"""A run's signals, never whole in memory: images read by volume, working files read in blocks of voxels."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from reconfmri.gzipped import unzipped

Array = npt.NDArray[Any]
# A block of float32 signals takes 32 MB, and as much of the file is mapped at once, however long the run.
BLOCK_VALUES = MAPPED_VALUES = 8_000_000


def volumes_within(path: Path, mask: Array) -> Iterator[Array]:
    """Yield (n_voxels,), float32, of each volume of a 4-D image: its values in `mask` (x, y, z), in C order.

    The file is read once from start to end, one volume at a time, and scaled as its header says.

    Raises
    ------
    EOFError
        The file ends before its last volume.
    """
    import nibabel

    image: Any = nibabel.load(path)
    proxy, shape = image.dataobj, image.shape[:3]
    count = int(np.prod(shape)) * proxy.dtype.itemsize
    places = np.ravel_multi_index(np.nonzero(mask), shape, order="F")
    with path.open("rb") as file:
        stream = unzipped(file, path)
        stream.read(int(proxy.offset))
        for number in range(image.shape[3]):
            block = stream.read(count)
            if len(block) < count:
                raise EOFError(f"{path.name} ends in volume {number + 1} of {image.shape[3]}")
            yield scaled(np.frombuffer(block, proxy.dtype)[places], proxy)
        stream.read()  # to the end, where gzip compares its checksum


def scaled(values: Array, proxy: Any) -> Array:
    """Return values of an image file, float32, scaled as the header of its array proxy says."""
    found = values.astype(np.float32)
    if (proxy.slope, proxy.inter) != (1.0, 0.0):
        found = found * np.float32(proxy.slope) + np.float32(proxy.inter)
    return found


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
