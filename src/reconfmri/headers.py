"""What the header of an image says: grid, time per volume, position in space. Data are not read."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
VOXEL_MM = (0.05, 30.0)  # edges beyond are in another unit
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


@dataclass(frozen=True)
class Header:
    """Shape, affine (4, 4) from voxel to RAS mm, and the time per volume as it is written, with its unit."""

    shape: tuple[int, ...]
    affine: Array
    step: float
    unit: str

    @property
    def n_volumes(self) -> int:
        """Volumes; 1 in a 3-D image."""
        return int(self.shape[3]) if len(self.shape) > 3 else 1

    @property
    def tr(self) -> float:
        """Time per volume, s; 0 when the header does not say."""
        return self.step * SECONDS.get(self.unit, 1.0)

    @property
    def voxel_mm(self) -> Array:
        """Voxel edge lengths, (3,), mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def flipped(self) -> bool:
        """Whether the determinant is negative: the axes are stored as a left-handed set."""
        return bool(np.linalg.det(self.affine[:3, :3]) < 0)


def read_header(path: Path) -> Header:
    """Return what the header of an image says.

    Raises
    ------
    ValueError
        It is not a readable image, holds no real numbers, or its voxels are of no possible size.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image = nibabel.load(path)
        shape, zooms = image.header.get_data_shape(), image.header.get_zooms()
        unit = image.header.get_xyzt_units()[1]
        affine = np.asarray(image.affine, dtype=np.float64)
        kind, length = image.header.get_data_dtype(), image.header.get_xyzt_units()[0]
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, KeyError) as error:
        why = " ".join(str(error).split()).replace(str(path), path.name) or type(error).__name__
        raise ValueError(f"not a readable NIfTI image ({why})") from None
    found = Header(tuple(shape), affine, float(zooms[3]) if len(zooms) > 3 else 0.0, unit)
    refuse_content(kind, found.voxel_mm, length)
    return found


def refuse_content(kind: np.dtype[Any], voxel_mm: Array, length: str) -> None:
    """Check that an image holds real numbers, in voxels whose edges (mm) are possible.

    Raises
    ------
    ValueError
        It holds colours or complex numbers, or its voxels are in another unit of length.
    """
    if kind.kind not in "iufb":
        what = "complex numbers" if kind.kind == "c" else "colours" if kind.names else str(kind)
        raise ValueError(f"it holds {what}, one real number per voxel is needed")
    edges = voxel_mm[np.isfinite(voxel_mm) & (voxel_mm > 0)]
    if len(edges) and not (VOXEL_MM[0] <= edges.min() and edges.max() <= VOXEL_MM[1]):
        shown = " x ".join(f"{edge:g}" for edge in voxel_mm)
        raise ValueError(f"its voxels are {shown} mm (the header's unit of length is {length})")


def corner_distance(one: tuple[tuple[int, ...], Array], other: tuple[tuple[int, ...], Array]) -> float:
    """Return the largest distance of corresponding corners of two grids (shape, affine), mm."""
    corners = []
    for shape, affine in (one, other):
        ends = np.array(list(itertools.product(*((0, size - 1) for size in shape[:3]))), dtype=np.float64)
        corners.append(ends @ affine[:3, :3].T + affine[:3, 3])
    return float(np.linalg.norm(corners[0] - corners[1], axis=1).max())
