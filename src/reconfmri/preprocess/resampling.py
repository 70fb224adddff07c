"""From the raw run to the template grid in one interpolation, volume by volume."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage

from reconfmri import registration, templates
from reconfmri.gzipped import zipped
from reconfmri.preprocess.anatomy import FLUID, WHITE
from reconfmri.registration import Array, Volume

# Bits of a float32's fraction that carry only noise: 2^-16 of a value is far below any scanner's noise, and
# without them a file is a third smaller and twice as fast to write.
NOISE_BITS = 8


@dataclass(frozen=True)
class TargetVoxels:
    """The brain on the target grid: its voxels, their points in the run's reference space, their tissue."""

    shape: tuple[int, int, int]
    affine: Array
    index: tuple[Array, ...]
    points: Array  # (n, 3), reference space of the run, RAS mm
    tissue: Array  # (n,), 1 grey, 2 white, 3 fluid, 0 the fluid around the cortex

    def kept(self, inside: Array) -> TargetVoxels:
        """The same with the voxels of a boolean (n,) only."""
        index = tuple(axis[inside] for axis in self.index)
        return TargetVoxels(self.shape, self.affine, index, self.points[inside], self.tissue[inside])

    def image(self, values: Array, dtype: Any) -> Volume:
        """A volume with `values` (n,) in the brain and zero around."""
        data = np.zeros(self.shape, dtype=dtype)
        data[self.index] = values
        return Volume(data, self.affine)


def target_voxels(
    to_t1w: Volume, mask: Volume, dseg: Volume, t1w_to_reference: Array, *, resolution: float
) -> TargetVoxels:
    """Return the voxels of the target grid that lie in the brain mask of the T1w, and their tissue."""
    shape, affine = templates.target_grid(resolution)
    in_t1w = registration.sample_map(to_t1w, registration.grid_points(shape, affine))
    brain = Volume(mask.data.astype(np.float32), mask.affine)
    index = np.nonzero(registration.sample(brain, in_t1w, order=1) > 0.5)
    tissue = majority(dseg, in_t1w[index], resolution)
    return TargetVoxels(
        shape, affine, index, registration.transform_points(t1w_to_reference, in_t1w[index]), tissue
    )


def seen_throughout(points: Array, affine: Array, shape: tuple[int, ...], transforms: Array) -> Array:
    """Return (n,): which reference points stay inside the field of view of every volume."""
    inside = np.ones(len(points), dtype=bool)
    columns = np.ascontiguousarray(points.T)
    limit = np.array(shape[:3])[:, None] - 0.5
    for matrix in np.linalg.inv(affine) @ transforms:
        where = matrix[:3, :3] @ columns + matrix[:3, 3:]
        inside &= ((where > -0.5) & (where < limit)).all(axis=0)
    return inside


def resampled(
    volumes: Iterator[Array], transforms: Array, affine: Array, points: list[Array], *, threads: int = 1
) -> Iterator[list[Array]]:
    """Yield, for each volume, its values (float32) at each set of reference points, by one cubic spline."""
    from reconfmri import interpolation

    every = np.ascontiguousarray(np.concatenate(points))
    cuts = np.cumsum([len(part) for part in points])[:-1]

    def values_of(volume: Array, to_voxel: Array) -> list[Array]:
        return np.split(interpolation.values_at(volume, to_voxel, every), cuts)

    jobs = zip(volumes, np.linalg.inv(affine) @ transforms, strict=True)
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        while batch := list(islice(jobs, max(threads, 1))):
            yield from pool.map(lambda job: values_of(*job), batch)


def bridged(values: Iterator[Array], whole: Array) -> Iterator[Array]:
    """Yield one array per volume of a run: those of the `whole` ones (n_volumes,), and lines in between.

    Before the first whole volume and after the last one there is nothing between: they stand there too.
    """
    places = np.flatnonzero(whole)
    before, here = places[0], next(values)
    yield from [here] * (before + 1)
    for place, there in zip(places[1:], values, strict=True):
        for share in np.arange(1, place - before) / (place - before):
            yield (1 - share) * here + share * there
        yield there
        before, here = place, there
    yield from [here] * (len(whole) - 1 - before)


def deep_tissue(dseg: Volume, in_t1w: Array, voxel_mm: Array) -> tuple[Array, Array]:
    """Return (n,), (n,): which EPI voxels at points `in_t1w` hold almost only white matter, or only fluid.

    Fluid is taken from the middle of the brain: at its surface it is mixed with vessels and dura.
    """
    blur = float(np.cbrt(np.prod(voxel_mm))) / 2.355 / dseg.voxel_mm
    middle = registration.dilated(dseg.data > 0, -12.0, dseg.affine)
    chosen = []
    for mask in (dseg.data == WHITE, (dseg.data == FLUID) & middle):
        part = Volume(ndimage.gaussian_filter(mask.astype(np.float32), blur, truncate=3), dseg.affine)
        share = registration.sample(part, in_t1w, order=1)
        chosen.append(_purest(share))
    return chosen[0], chosen[1]


def _purest(share: Array, *, at_least: int = 60) -> Array:
    for threshold in (0.99, 0.95, 0.9, 0.8, 0.7, 0.6):
        if (share > threshold).sum() >= at_least:
            break
    return np.asarray(share > threshold)


def majority(dseg: Volume, points: Array, resolution: float) -> Array:
    """Return the label (n,) with the largest share of each voxel of `resolution` mm at `points`.

    1 to 3; 0 outside of all tissue, as in the fluid that a brain mask holds around the cortex.
    """
    blur = max(resolution, 1.0) / 2.355 / dseg.voxel_mm
    shares = []
    for label in (1, 2, 3):
        part = ndimage.gaussian_filter((dseg.data == label).astype(np.float32), blur, truncate=2)
        shares.append(registration.sample(Volume(part, dseg.affine), points, order=1))
    brain = Volume((dseg.data > 0).astype(np.float32), dseg.affine)
    outside = registration.sample(brain, points, order=1) < 0.5
    return np.where(outside, 0, np.argmax(shares, axis=0) + 1).astype(np.uint8)


class SeriesWriter:
    """A 4-D float32 NIfTI file, written volume by volume; only a complete file gets its name."""

    def __init__(self, path: Path, voxels: TargetVoxels, *, n_volumes: int, tr: float):
        self.path, self.voxels = path, voxels
        self.partial = path.with_name(f".partial-{path.name}")
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.float32)
        header.set_data_shape((*voxels.shape, n_volumes))
        header.set_sform(voxels.affine, code=4)
        header.set_qform(voxels.affine, code=4)
        header.set_zooms((*np.linalg.norm(voxels.affine[:3, :3], axis=0), tr))
        header.set_xyzt_units("mm", "sec")
        header["magic"], header["vox_offset"] = b"n+1", 352
        header.set_slope_inter(1, 0)
        self.header = header

    def __enter__(self) -> SeriesWriter:
        self.file = self.partial.open("wb")
        self.stream = zipped(self.file)
        self.stream.write(self.header.binaryblock + b"\0" * 4)
        return self

    def write(self, values: Array) -> None:
        """Append one volume, `values` (n,) in the brain."""
        short = _without_noise_bits(values)
        self.stream.write(self.voxels.image(short, np.float32).data.tobytes(order="F"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()
        self.file.close()
        if kind is None:
            self.partial.replace(self.path)
        else:
            self.partial.unlink(missing_ok=True)


def _without_noise_bits(values: Array) -> Array:
    bits = values.astype(np.float32).view(np.uint32)
    half = np.uint32(1 << (NOISE_BITS - 1))
    return ((bits + half) & np.uint32(0xFFFFFFFF << NOISE_BITS & 0xFFFFFFFF)).view(np.float32)
