"""Reading raw images with open eyes, and writing images: a fault is named before a number is made of it."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError

from reconfmri.exclusions import DataFault
from reconfmri.files import UnreadableError, refuse_unreadable
from reconfmri.gzipped import DAMAGED, save_image, unzipped
from reconfmri.headers import corner_distance, refuse_content
from reconfmri.labels import first_of
from reconfmri.registration import Array, Volume
from reconfmri.series import scaled

MIN_VOLUMES = 10
RECOPY = "copy the file again from the scanner's archive"
NOT_FINITE = "export the series again from the scanner; do not replace them by zero"
BLOCK = 1 << 18  # bytes read from the disk at once
FORMS_MM = 1.0  # distance of a corner by sform and by qform that is more than rounding; fault catalogue, B7


@dataclass(frozen=True)
class RawRun:
    """A 4-D image that is read volume by volume, from the first byte to the last.

    `sha256` is what the file had when it was indexed; empty = not known, not compared.
    """

    path: Path
    shape: tuple[int, int, int]
    affine: Array
    n_volumes: int
    sha256: str = ""

    def volumes(self) -> Iterator[Array]:
        """Yield each volume, (x, y, z) float32, scaled as the header says; a damaged one as it is.

        Every byte is read once, and hashed on the way.

        Raises
        ------
        DataFault
            The file ends early, late or is damaged (E-DATA-B01), or is not the indexed one (E-DATA-B30).
        """
        # The proxy knows where the data begin and how they are scaled; nibabel clears both in the header.
        proxy: Any = nibabel.load(self.path).dataobj
        dtype, count = proxy.dtype, int(np.prod(self.shape))
        end = int(proxy.offset) + count * dtype.itemsize * self.n_volumes
        with _hashed(self.path) as (stream, digest):
            _read(self.path, stream, int(proxy.offset), end=end)
            for number in range(self.n_volumes):
                start = int(proxy.offset) + count * dtype.itemsize * number
                block = _read(self.path, stream, count * dtype.itemsize, start=start, end=end)
                yield _array_of(block, proxy, self.shape)
            # Reading on to the end makes gzip compare its checksum, and the hash that of the whole file.
            left = 0
            while block := _read(self.path, stream, BLOCK):
                left += len(block)
        if left >= count * dtype.itemsize:
            more = left // (count * dtype.itemsize)
            what = f"the header has {self.n_volumes} volumes, the file {more} more"
            raise DataFault("E-DATA-B01", what, fix=RECOPY, file=self.path.name)
        _as_indexed(self.path, digest.hexdigest(), self.sha256)


def voxels_not_finite(volume: Array) -> int:
    """Return how many voxels of a volume hold NaN or an infinite value."""
    return volume.size - int(np.isfinite(volume).sum())


def lost_volumes(run: RawRun, lost: list[int], *, remark: bool = True) -> DataFault:
    """Return what volumes (from 0) in which the head was not found say of a run: a remark, or a fault."""
    first = first_of(number + 1 for number in lost)
    what = f"in {len(lost)} of {run.n_volumes} volumes the head was not found: {first}"
    if remark:
        what += "; they are left out of every number"
    fix = "look at these volumes: signal lost, a head that was moved while one was read, another image?"
    return DataFault("W-DATA-B37" if remark else "E-DATA-B37", what, fix=fix, file=run.path.name)


def open_run(path: Path, *, sha256: str = "") -> RawRun:
    """Return a 4-D image ready to be read; `sha256` is what the file had when it was indexed.

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
            fix="leave the run out of the run table, or find the complete export",
            file=path.name,
        )
    affine = _checked_affine(path, image)
    return RawRun(path, tuple(image.shape[:3]), affine, int(image.shape[3]), sha256)


def read_anatomy(path: Path, *, sha256: str = "") -> Volume:
    """Return a T1w image, or a field map's, in the nearest-to-RAS orientation, float32.

    `sha256` is what was indexed.

    Raises
    ------
    DataFault
        The file is damaged (E-DATA-B01), holds values that are not finite (E-DATA-B03), is flat (E-DATA-B04),
        not 3-D (E-DATA-B05), has no valid position in space (E-DATA-B07), or is not the one that was indexed
        (E-DATA-B30).
    """
    image = _load(path)
    shape = tuple(size for size in image.shape if size > 1)
    if len(shape) != 3 or min(shape) < 16:
        raise DataFault(
            "E-DATA-B05",
            f"an anatomical image needs three dimensions, it is {image.shape}",
            fix=RECOPY,
            file=path.name,
        )
    affine = _checked_affine(path, image)
    proxy: Any = image.dataobj
    count = int(np.prod(shape)) * proxy.dtype.itemsize
    with _hashed(path) as (stream, digest):
        _read(path, stream, int(proxy.offset), end=int(proxy.offset) + count)
        block = _read(path, stream, count, start=int(proxy.offset), end=int(proxy.offset) + count)
        while _read(path, stream, BLOCK):
            pass
    _as_indexed(path, digest.hexdigest(), sha256)
    data = _array_of(block, proxy, shape)
    if bad := data.size - int(np.isfinite(data).sum()):
        raise _not_finite(path, f"the image has {bad} voxels that are not finite")
    if float(np.ptp(data)) == 0:
        raise DataFault(
            "E-DATA-B04", f"flat image: every voxel is {data.flat[0]:g}", fix=RECOPY, file=path.name
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
            "E-DATA-B05", f"an EPI needs three dimensions, it is {image.shape}", fix=RECOPY, file=path.name
        )
    affine = _checked_affine(path, image)
    with damage(path):
        whole = np.asarray(image.dataobj[..., :most] if len(image.shape) == 4 else image.dataobj, np.float32)
    data = whole.mean(axis=3) if whole.ndim == 4 else whole
    if bad := data.size - int(np.isfinite(data).sum()):
        raise _not_finite(path, f"the image has {bad} voxels that are not finite")
    if float(np.ptp(data)) == 0:
        raise DataFault("E-DATA-B04", "flat image: every voxel is the same", fix=RECOPY, file=path.name)
    return Volume(data, affine)


def write_volume(path: Path, volume: Volume, *, template: bool = False) -> None:
    """Write a 3-D (or point map) volume; masks and labels as uint8, all else as float32."""
    whole = volume.data.dtype.kind in "bui"
    image = nibabel.Nifti1Image(volume.data.astype(np.uint8 if whole else np.float32), volume.affine)
    place(image.header, volume.affine, template=template)
    save_image(image, path)


def place(header: Any, affine: Array, *, template: bool) -> None:
    """Write `affine` into both forms of a NIfTI header: code 4 (MNI) for template grids, else 1 (scanner)."""
    header.set_sform(affine, code=4 if template else 1)
    header.set_qform(affine, code=4 if template else 1)
    header.set_xyzt_units("mm", "sec")


def _load(path: Path) -> Any:
    with damage(path):
        image: Any = nibabel.load(path)
        edges = np.linalg.norm(image.affine[:3, :3], axis=0)
        refuse_content(image.get_data_dtype(), edges, image.header.get_xyzt_units()[0])
        return image


class damage:  # noqa: N801 - reads as a phrase: with damage(path)
    """Turn every way a damaged file shows itself into one DataFault."""

    def __init__(self, path: Path, *, fix: str = RECOPY):
        self.path, self.fix = path, fix

    def __enter__(self) -> None:
        try:
            refuse_unreadable(self.path)
        except UnreadableError as error:
            fix = error.fix(str(self.path))
            raise DataFault("E-DATA-B01", error.what, fix=fix, file=self.path.name) from None
        except FileNotFoundError:
            raise DataFault("E-DATA-B01", "the file is missing", fix=self.fix, file=self.path.name) from None
        if self.path.stat().st_size == 0:
            raise DataFault("E-DATA-B01", "the file is empty", fix=self.fix, file=self.path.name)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (ImageFileError, EOFError, OSError, zlib.error, ValueError, *DAMAGED)):
            if isinstance(error, DataFault):
                return
            raise DataFault(
                "E-DATA-B01",
                f"the file cannot be read as an image: {error}",
                fix=self.fix,
                file=self.path.name,
            ) from error


def _read(path: Path, stream: Any, count: int, *, start: int = 0, end: int = 0) -> bytes:
    """Return the next `count` bytes, from byte `start` on; before byte `end` none may be missing."""
    with damage(path):
        try:
            block: bytes = stream.read(count)
        except EOFError:
            if not end:
                raise
            block = b""
    if len(block) < count and end:
        what = f"the file ends too early: {start + len(block):,} of the image's {end:,} bytes can be read"
        raise DataFault("E-DATA-B01", f"{what}; it was cut while it was copied", fix=RECOPY, file=path.name)
    return block


class _Digest(io.RawIOBase):
    """A file whose bytes are hashed as they are read; for whoever reads it from the start to the end."""

    def __init__(self, stream: io.FileIO):
        self.stream, self.sha256 = stream, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self.stream.readinto(buffer) or 0
        self.sha256.update(memoryview(buffer)[:count])
        return count

    def tell(self) -> int:
        return self.stream.tell()


@contextmanager
def _hashed(path: Path) -> Iterator[tuple[Any, Any]]:
    """Give the contents of a file, unzipped where its name ends with .gz, and the sha256 of its bytes."""
    with path.open("rb", buffering=0) as stream:
        raw = _Digest(stream)
        whole = io.BufferedReader(raw, BLOCK)
        yield unzipped(whole, path), raw.sha256


def _not_finite(path: Path, what: str) -> DataFault:
    return DataFault("E-DATA-B03", what, fix=NOT_FINITE, file=path.name)


def _array_of(block: bytes, proxy: Any, shape: tuple[int, ...]) -> Array:
    """Return the numbers of a block of the file, float32, scaled as the header says."""
    return scaled(np.frombuffer(block, proxy.dtype).reshape(shape, order="F"), proxy)


def _as_indexed(path: Path, found: str, indexed: str) -> None:
    if indexed and found != indexed:
        what = f"the file is not the one that was indexed: sha256 {found[:12]}…, not {indexed[:12]}…"
        fix = "index again (`reconfmri index`), and find out who changed it"
        raise DataFault("E-DATA-B30", what, fix=fix, file=path.name)


def _checked_affine(path: Path, image: Any) -> Array:
    header = image.header
    if "qform_code" in header and int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        raise DataFault(
            "E-DATA-B07",
            "the header says nothing about the position in space (qform and sform codes are both 0)",
            fix="convert the DICOM series again (dcm2niix writes both)",
            file=path.name,
        )
    _check_forms(path, image)
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
            fix="use the image as the scanner made it, not one that was registered to another",
            file=path.name,
        )
    return affine


def _check_forms(path: Path, image: Any) -> None:
    """Refuse a header whose two positions in space, both declared, put a corner on different points."""
    header = image.header
    if "qform_code" not in header or not (int(header["qform_code"]) and int(header["sform_code"])):
        return
    apart = corner_distance((image.shape, header.get_sform()), (image.shape, header.get_qform()))
    if apart > FORMS_MM:
        what = f"sform and qform put a corner of the image {apart:.1f} mm apart, {FORMS_MM:g} mm is rounding"
        fix = "find out which holds (compare with the DICOM series) and write it into both"
        raise DataFault("E-DATA-B07", what, fix=fix, file=path.name)
