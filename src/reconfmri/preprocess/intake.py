"""Reading raw images with open eyes, and writing images: a fault is named before a number is made of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import Opener

from reconfmri.exclusions import DataFault
from reconfmri.registration import Array, Volume

MIN_VOLUMES = 10
RECOPY = "copy the file again from the scanner's archive"


@dataclass(frozen=True)
class RawRun:
    """A 4-D image that is read volume by volume, from the first byte to the last."""

    path: Path
    shape: tuple[int, int, int]
    affine: Array
    n_volumes: int
    zooms_s: float

    def volumes(self) -> Iterator[Array]:
        """Yield each volume, (x, y, z) float32, scaled as the header says.

        Raises
        ------
        DataFault
            The file ends early or is damaged (E-DATA-B01), or a volume has values that are not finite
            (E-DATA-B03).
        """
        # The proxy knows where the data begin and how they are scaled; nibabel clears both in the header.
        proxy: Any = nibabel.load(self.path).dataobj
        dtype, count = proxy.dtype, int(np.prod(self.shape))
        with Opener(str(self.path)) as stream:
            _read(self.path, stream, int(proxy.offset))
            for number in range(self.n_volumes):
                block = _read(self.path, stream, count * dtype.itemsize)
                volume = np.frombuffer(block, dtype).reshape(self.shape, order="F").astype(np.float32)
                if (proxy.slope, proxy.inter) != (1.0, 0.0):
                    volume = volume * np.float32(proxy.slope) + np.float32(proxy.inter)
                _all_finite(self.path, volume, f"volume {number + 1} of {self.n_volumes}")
                yield volume
            # Reading on to the end makes gzip compare its checksum.
            _read(self.path, stream, 1, may_end=True)


def open_run(path: Path) -> RawRun:
    """Return a 4-D image ready to be read.

    Raises
    ------
    DataFault
        The file is not a readable image (E-DATA-B01), or has fewer than ten volumes (E-DATA-B05), or no valid
        position in space (E-DATA-B07).
    """
    image = _load(path)
    if len(image.shape) != 4 or image.shape[3] < MIN_VOLUMES:
        raise DataFault(
            "E-DATA-B05",
            f"a BOLD run needs 4 dimensions and at least {MIN_VOLUMES} volumes, it is {image.shape}",
            mend="leave the run out of the run table, or find the complete export",
            file=path.name,
        )
    affine = _checked_affine(path, image)
    zooms = image.header.get_zooms()
    return RawRun(path, tuple(image.shape[:3]), affine, int(image.shape[3]), float(zooms[3]))


def read_anatomy(path: Path) -> Volume:
    """Return a T1w image, or a field map's, in the nearest-to-RAS orientation, float32.

    Raises
    ------
    DataFault
        The file is damaged (E-DATA-B01), holds values that are not finite (E-DATA-B03), is flat (E-DATA-B04),
        not 3-D (E-DATA-B05) or has no valid position in space (E-DATA-B07).
    """
    image = _load(path)
    shape = tuple(size for size in image.shape if size > 1)
    if len(shape) != 3 or min(shape) < 16:
        raise DataFault(
            "E-DATA-B05",
            f"an anatomical image needs three dimensions, it is {image.shape}",
            mend=RECOPY,
            file=path.name,
        )
    affine = _checked_affine(path, image)
    with _damage(path):
        data = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    _all_finite(path, data, "the image")
    if float(np.ptp(data)) == 0:
        raise DataFault(
            "E-DATA-B04", f"flat image: every voxel is {data.flat[0]:g}", mend=RECOPY, file=path.name
        )
    straight = nibabel.as_closest_canonical(nibabel.Nifti1Image(data, affine))
    return Volume(np.ascontiguousarray(straight.dataobj), np.asarray(straight.affine, dtype=np.float64))


def read_mean(path: Path, *, most: int = 16) -> Volume:
    """Return an EPI of one or several volumes as their mean (the first `most`), in its own orientation.

    Raises
    ------
    DataFault
        As `read_anatomy`.
    """
    image = _load(path)
    if len(image.shape) not in (3, 4) or min(image.shape[:3]) < 8:
        raise DataFault(
            "E-DATA-B05", f"an EPI needs three dimensions, it is {image.shape}", mend=RECOPY, file=path.name
        )
    affine = _checked_affine(path, image)
    with _damage(path):
        whole = np.asarray(image.dataobj[..., :most] if len(image.shape) == 4 else image.dataobj, np.float32)
    data = whole.mean(axis=3) if whole.ndim == 4 else whole
    _all_finite(path, data, "the image")
    if float(np.ptp(data)) == 0:
        raise DataFault("E-DATA-B04", "flat image: every voxel is the same", mend=RECOPY, file=path.name)
    return Volume(data, affine)


def write_volume(path: Path, volume: Volume, *, template: bool = False) -> None:
    """Write a 3-D (or point map) volume; masks and labels as uint8, all else as float32."""
    whole = volume.data.dtype.kind in "bui"
    image = nibabel.Nifti1Image(volume.data.astype(np.uint8 if whole else np.float32), volume.affine)
    place(image.header, volume.affine, template=template)
    nibabel.save(image, path)


def place(header: Any, affine: Array, *, template: bool) -> None:
    """Write `affine` into both forms of a NIfTI header: code 4 (MNI) for template grids, else 1 (scanner)."""
    header.set_sform(affine, code=4 if template else 1)
    header.set_qform(affine, code=4 if template else 1)
    header.set_xyzt_units("mm", "sec")


def _load(path: Path) -> Any:
    with _damage(path):
        return nibabel.load(path)


class _damage:  # noqa: N801 - reads as a phrase: with _damage(path)
    """Turn every way a damaged file shows itself into one DataFault."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        if not self.path.is_file() or self.path.stat().st_size == 0:
            raise DataFault("E-DATA-B01", "the file is missing or empty", mend=RECOPY, file=self.path.name)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (ImageFileError, EOFError, OSError, zlib.error, ValueError)):
            if isinstance(error, DataFault):
                return
            raise DataFault(
                "E-DATA-B01",
                f"the file cannot be read as an image: {error}",
                mend=RECOPY,
                file=self.path.name,
            ) from error


def _read(path: Path, stream: Any, count: int, *, may_end: bool = False) -> bytes:
    with _damage(path):
        block: bytes = stream.read(count)
    if len(block) < count and not may_end:
        raise DataFault(
            "E-DATA-B01",
            f"the file ends {count - len(block)} bytes too early; it was cut while it was copied",
            mend=RECOPY,
            file=path.name,
        )
    return block


def _all_finite(path: Path, data: Array, what: str) -> None:
    bad = data.size - int(np.isfinite(data).sum())
    if bad:
        raise DataFault(
            "E-DATA-B03",
            f"{what} has {bad} voxels that are not finite",
            mend="export the series again from the scanner; do not replace them by zero",
            file=path.name,
        )


def _checked_affine(path: Path, image: Any) -> Array:
    header = image.header
    if "qform_code" in header and int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        raise DataFault(
            "E-DATA-B07",
            "the header says nothing about the position in space (qform and sform codes are both 0)",
            mend="convert the DICOM series again (dcm2niix writes both)",
            file=path.name,
        )
    affine = np.asarray(image.affine, dtype=np.float64)
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or (sizes == 0).any():
        raise DataFault("E-DATA-B07", f"the header's affine is not valid: {affine.tolist()}", file=path.name)
    unit = axes / sizes
    if np.abs(unit.T @ unit - np.eye(3)).max() > 0.01:
        raise DataFault(
            "E-DATA-B07",
            "the header's axes are not at right angles",
            mend="use the image as the scanner made it, not one that was registered to another",
            file=path.name,
        )
    return affine
