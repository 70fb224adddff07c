"""Regions of interest: atlas probabilities carried onto the target grid, regional signals, coverage."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri import atlases, greedy, registration, templates
from reconfmri.config import Region, Rois
from reconfmri.exclusions import DataFault
from reconfmri.series import volumes_within

Array = npt.NDArray[np.float64]
Weights = npt.NDArray[np.uint8]  # percent; 0 outside of a region
FINEST_MM = 2.0  # of the template-to-template warp: both brains are smooth averages
ATLAS_SPACE = "MNI152NLin6Asym"
GRID_MM = 0.01  # difference of affines that is rounding
# Range over mean of a voxel that is constant: preprocessed runs are rounded to 2^-16 of a value.
CONSTANT = 1e-4


class Segmentation(NamedTuple):
    """A person's own segmentation: its image, and region -> numbers of its labels."""

    image: Path
    numbers: Mapping[str, Sequence[int]]


REGION_DESCRIPTIONS = {
    "index": "Volume of the region in the 4-D image of regions, from 0",
    "name": "Name of the region in the study file",
    "labels": "Labels of the atlas whose probabilities were summed, or the other source",
    "threshold": "Probability, or value of a map, from which a voxel belongs to the region",
    "n_voxels": "Voxels of the region on the target grid",
    "volume_mm3": "Volume of the region, mm3",
}
COVERAGE_DESCRIPTIONS = {
    "region": "Region, single or combined",
    "n_voxels": "Voxels of the region inside the mask of the run that vary in time",
    "coverage": "Their share of all voxels of the region",
    "tsnr": "Median over these voxels of mean / SD in time, the linear trend removed",
}


def carry_atlas(
    rois: Rois, *, resolution: float, like: Path | None = None, threads: int = 1
) -> tuple[Weights, Array, pd.DataFrame]:
    """Return the regions (x, y, z, n_regions) on the target grid of `resolution` mm, its affine, and a table.

    A voxel outside of a region is 0, one inside its summed probability in percent, and 100 where the source
    is no atlas. A region of people's own segmentations is empty here: its place is theirs.

    With `like`, an image in MNI152NLin2009cAsym, the grid is that image's.

    Harvard-Oxford lies in MNI152NLin6Asym. What lies there is carried into MNI152NLin2009cAsym by the
    registration of the two template brains: probabilities are summed per region, interpolated linearly, then
    thresholded.

    Raises
    ------
    ValueError
        An atlas has no such label or cannot be read, or no voxel reaches a threshold.
    """
    regions = rois.regions
    sources: dict[str, registration.Volume] = {}
    for atlas in dict.fromkeys(region.atlas for region in regions.values() if region.labels):
        wanted = {name: item.labels for name, item in regions.items() if item.labels and item.atlas == atlas}
        sources |= atlases.probabilities(rois.atlases[atlas] if atlas else None, wanted)
    shape, affine = _grid_of(like) if like else templates.target_grid(resolution)
    voxel_mm3 = float(abs(np.linalg.det(affine[:3, :3])))
    carry = greedy.template_to_template(
        templates.nlin6_brain(), templates.target_brain(), finest_mm=FINEST_MM, threads=threads
    )
    here = registration.grid_points(shape, affine)
    points = {templates.SPACE: here, ATLAS_SPACE: registration.sample_map(carry, here)}
    weights = np.zeros((*shape, len(regions)), dtype=np.uint8)
    rows = []
    for index, (name, region) in enumerate(regions.items()):
        if region.segmentation:
            rows.append((index, name, region.source, math.nan, 0, math.nan))
            continue
        at = points[rois.space_of(region)]
        if region.labels:
            sampled = registration.sample(sources[name], at, order=1)
            percent = np.clip(np.rint(100 * sampled), 1, 100)
            weights[..., index] = np.where(sampled >= region.threshold, percent, 0)
        else:
            weights[..., index] = 100 * _inside(name, region, at)
        n_voxels = int(np.count_nonzero(weights[..., index]))
        if n_voxels == 0:
            raise ValueError(
                f"rois.regions.{name}: no voxel of the grid belongs to it ({region.source}). Fix: lower the "
                "threshold, or correct place and space"
            )
        labels = ", ".join(region.labels) if region.labels and not region.atlas else region.source
        rows.append((index, name, labels, region.threshold, n_voxels, n_voxels * voxel_mm3))
    return weights, affine, pd.DataFrame(rows, columns=list(REGION_DESCRIPTIONS))


def atlas_at(points: Array, *, threads: int = 1) -> tuple[Weights, list[str]]:
    """Return the probability (m, n_labels), percent, of every label of the atlas at points, and the labels.

    Points (m, 3) are mm in MNI152NLin2009cAsym.
    """
    import nibabel

    image, known = templates.harvard_oxford()
    carry = greedy.template_to_template(
        templates.nlin6_brain(), templates.target_brain(), finest_mm=FINEST_MM, threads=threads
    )
    there = registration.sample_map(carry, points)
    atlas: Any = nibabel.load(image, keep_file_open=True)
    affine = np.asarray(atlas.affine, dtype=np.float64)
    found = np.zeros((len(points), len(known)), dtype=np.uint8)
    for index in range(len(known)):
        volume = registration.Volume(np.asarray(atlas.dataobj[..., index], dtype=np.float32), affine)
        found[:, index] = np.rint(registration.sample(volume, there, order=1))
    return found, known


def _inside(name: str, region: Region, points: Array) -> npt.NDArray[np.bool_]:
    """Return which points (..., 3), mm in the region's own template, belong to a sphere, a mask or a map."""
    if region.sphere:
        distance = np.linalg.norm(points - np.asarray(region.sphere.centre), axis=-1)
        inside = distance <= region.sphere.radius
    else:
        volume = _read_source(name, Path(region.file or ""))
        if region.mask:
            volume = registration.Volume((volume.data > 0).astype(np.float32), volume.affine)
        least = 0.5 if region.mask else region.threshold
        inside = registration.sample(volume, points, order=1) >= least
    if region.side != "both":
        inside = inside & ((points[..., 0] < 0) == (region.side == "left"))
    return np.asarray(inside)


def _read_source(name: str, path: Path) -> registration.Volume:
    """Return the image of a mask or a map.

    Raises
    ------
    ValueError
        It cannot be read, is no 3-D image of numbers, or does not say where it lies.
    """
    import nibabel

    where = f"rois.regions.{name}: {path.name}"
    try:
        image: Any = nibabel.load(path)
    except (OSError, nibabel.filebasedimages.ImageFileError) as error:
        raise ValueError(
            f"{where} cannot be read ({error}). Fix: correct the path, or export it again"
        ) from None
    kind = image.get_data_dtype()
    if kind.names is not None or kind.kind not in "iufb":
        raise ValueError(
            f"{where} holds {kind}, expected one number per voxel. Fix: export it without colours"
        )
    data = np.asarray(image.dataobj, dtype=np.float32)
    data = data.reshape(data.shape[:3]) if data.ndim > 3 and data.size == np.prod(data.shape[:3]) else data
    if data.ndim != 3:
        raise ValueError(
            f"{where} has the shape {data.shape}, expected three dimensions. Fix: keep one volume"
        )
    if not (int(image.header.get("sform_code", 1)) or int(image.header.get("qform_code", 1))):
        raise ValueError(
            f"{where} does not say where it lies (sform and qform 0). Fix: export it with its space"
        )
    return registration.Volume(np.nan_to_num(data), np.asarray(image.affine, dtype=np.float64))


def _summary(voxels: npt.NDArray[np.float32], how: str, weights: Weights) -> Array:
    """Return one signal (n_volumes,) of a region's voxels (n_volumes, n_voxels), `weights` (n_voxels,)."""
    if how == "mean":
        return np.asarray(voxels.mean(axis=1, dtype=np.float64))
    if how == "weighted_mean":
        return np.asarray(voxels @ (weights / weights.sum(dtype=np.float64)))
    if how == "median":
        return np.asarray(np.median(voxels, axis=1).astype(np.float64))
    level = voxels.mean(axis=0, dtype=np.float64)
    left, heights, right = np.linalg.svd(voxels - level, full_matrices=False)
    sign = 1.0 if right[0].sum() >= 0 else -1.0
    return np.asarray(level.mean() + sign * left[:, 0] * heights[0] / math.sqrt(voxels.shape[1]))


def extract_region_signals(
    bold: Path,
    mask: Path,
    regions_image: Path,
    rois: Rois,
    *,
    non_steady: int = 0,
    damaged: Sequence[int] = (),
    own: Segmentation | DataFault | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, list[DataFault]]:
    """Return signals (n_volumes, n_regions), coverage per region, and one fault per missing region.

    `own` is the person's own segmentation on the grid of the run, or why there is none.

    Columns are the single regions, then the combined ones: the mean of their parts weighted by volume. A
    voxel counts when it lies in the mask of the run and is finite and not constant; a region covered less
    than `min_coverage`, or with a median temporal SNR below `min_tsnr`, is missing, and so is a combined one
    with such a part. `non_steady` volumes at the start and `damaged` ones (from 0) count for the signals and
    not for tSNR.

    Raises
    ------
    DataFault
        The images are not on one grid, or the run is not 4-D.
    """
    weights, inside = _open_on_one_grid(bold, mask, regions_image, rois)
    weights, lacking = _with_own(weights, bold, rois, own)
    masks = weights > 0
    anywhere = np.asarray(masks.any(axis=-1) & inside)
    voxels = _voxel_series(bold, anywhere)
    with np.errstate(invalid="ignore"):
        varies = np.ptp(voxels, axis=0) > CONSTANT * np.abs(voxels.mean(axis=0))
    usable = np.asarray(np.isfinite(voxels).all(axis=0) & varies)
    times = np.setdiff1d(np.arange(non_steady, len(voxels)), damaged)
    tsnr = _tsnr(voxels[times], usable, times)
    sizes = {name: int(masks[..., i].sum()) for i, name in enumerate(rois.regions)}
    members = {name: masks[..., i][anywhere].astype(bool) & usable for i, name in enumerate(rois.regions)}
    parts = {name: [name] for name in rois.regions} | rois.combined
    rows = []
    for name, of in parts.items():
        chosen = np.any([members[part] for part in of], axis=0)
        share = float(chosen.sum()) / max(sum(sizes[part] for part in of), 1)
        quality = float(np.median(tsnr[chosen])) if chosen.any() else math.nan
        rows.append((name, int(chosen.sum()), share, quality))
    coverage = pd.DataFrame(rows, columns=list(COVERAGE_DESCRIPTIONS))
    known = coverage.set_index("region")
    faults = [
        fault
        for name in parts
        if (fault := _lacking(name, rois, lacking) or _region_fault(name, known, rois))
    ]
    missing = {fault.region for fault in faults}
    place = {name: i for i, name in enumerate(rois.regions)}
    signals: dict[str, Array] = {}
    for name, of in parts.items():
        if name in missing:
            signals[name] = np.full(len(voxels), np.nan)
            continue
        series = [
            _summary(voxels[:, members[part]], rois.summary, weights[anywhere, place[part]][members[part]])
            for part in of
        ]
        signals[name] = np.average(series, axis=0, weights=[sizes[part] for part in of])
    return pd.DataFrame(signals), coverage, faults


def _with_own(
    weights: Weights, bold: Path, rois: Rois, own: Segmentation | DataFault | None
) -> tuple[Weights, dict[str, DataFault]]:
    """Return the weights with the voxels of the person's own segmentation, and the regions that it lacks."""
    if not rois.own:
        return weights, {}
    try:
        if own is None:
            raise DataFault("E-BIDS-A21", "there is no segmentation of this person", file=bold.name)
        if isinstance(own, DataFault):
            raise own
        labels = _labels_on(own.image, bold)
    except DataFault as fault:
        return weights, dict.fromkeys(rois.own, fault)
    filled, lacking = weights.copy(), {}
    for index, name in enumerate(rois.regions):
        if name not in rois.own:
            continue
        filled[..., index] = 100 * np.isin(labels, own.numbers[name])
        if absent := [number for number in own.numbers[name] if not (labels == number).any()]:
            reason = f"no voxel of the segmentation has the label {absent[0]}, of which {name} is"
            fix = "look at the segmentation of this person"
            lacking[name] = DataFault("E-DATA-B08", reason, fix=fix, file=own.image.name)
            filled[..., index] = 0
    return filled, lacking


def _labels_on(path: Path, bold: Path) -> npt.NDArray[np.intp]:
    """Return the labels (x, y, z) of a segmentation that lies on the grid of the run.

    Raises
    ------
    DataFault
        It cannot be read, lies on another grid, or holds no label numbers.
    """
    import nibabel

    fix = "let fMRIPrep write it again"
    try:
        image: Any = nibabel.load(path)
        data = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise DataFault("E-DATA-B01", f"cannot be read: {error}", fix=fix, file=path.name) from None
    shape, affine = _grid_of(bold)
    if data.shape != shape or np.abs(image.affine - affine).max() > GRID_MM:
        reason = f"the segmentation is not on the grid of its series: {data.shape} and {shape}"
        if data.shape == shape:
            reason += f", {np.abs(image.affine - affine).max():.3g} mm apart"
        raise DataFault("E-DATA-B06", reason, fix=fix, file=path.name)
    if data.dtype.names or not np.array_equal(data, np.rint(data)):
        reason = "the segmentation holds values that are no label numbers, as of an interpolation"
        raise DataFault("E-DATA-B06", reason, fix=fix, file=path.name)
    return data.astype(np.intp)


def _lacking(name: str, rois: Rois, lacking: Mapping[str, DataFault]) -> DataFault | None:
    """Why a region, or a part of a combined one, is not in the person's own segmentation."""
    for part in rois.combined.get(name, [name]):
        if why := lacking.get(part):
            return DataFault(why.code, why.reason, fix=why.fix, file=why.file, region=name)
    return None


def _grid_of(image: Path) -> tuple[tuple[int, ...], Array]:
    import nibabel

    found: Any = nibabel.load(image)
    return tuple(found.shape[:3]), np.asarray(found.affine, dtype=np.float64)


def _open_on_one_grid(
    bold: Path, mask: Path, regions_image: Path, rois: Rois
) -> tuple[Weights, npt.NDArray[np.bool_]]:
    """Return the weights of the regions (x, y, z, n) and the mask of the run as booleans."""
    import nibabel

    run, regions, inside = (nibabel.load(path) for path in (bold, regions_image, mask))
    if len(run.shape) != 4:
        raise DataFault("E-DATA-B05", f"{len(run.shape)}-D image, a run has 4", file=bold.name)
    if regions.shape[3:] != (len(rois.regions),):
        raise ValueError(f"{regions_image}: {regions.shape[3:]} volumes for the regions {list(rois.regions)}")
    for path, image in ((regions_image, regions), (mask, inside)):
        apart = np.abs(image.affine - run.affine).max()
        if image.shape[:3] != run.shape[:3] or apart > GRID_MM:
            reason = (
                f"not on the grid of {path.name}: {run.shape[:3]} and {image.shape[:3]}, {apart:.3g} mm apart"
            )
            raise DataFault("E-DATA-B06", reason, fix="resample the run again", file=bold.name)
    return np.asarray(regions.dataobj, dtype=np.uint8), np.asarray(inside.dataobj) > 0


def _voxel_series(bold: Path, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return the series of chosen voxels, (n_volumes, n_voxels); one whole volume is held at a time."""
    return np.stack(list(volumes_within(bold, chosen)))


def _tsnr(
    voxels: npt.NDArray[np.float32], usable: npt.NDArray[np.bool_], times: npt.NDArray[np.intp]
) -> Array:
    """Return mean / SD in time per voxel (Murphy et al., NeuroImage 2007;34:565), without the trend."""
    values = voxels[:, usable].astype(np.float64)
    level = values.mean(axis=0)
    ramp = times - times.mean()
    residuals = values - level - np.outer(ramp, ramp @ values / (ramp @ ramp))
    spread = residuals.std(axis=0)
    found = np.full(voxels.shape[1], np.nan)
    found[usable] = np.divide(level, spread, out=np.full_like(level, np.nan), where=spread > 0)
    return found


def _region_fault(name: str, coverage: pd.DataFrame, rois: Rois) -> DataFault | None:
    """Why a region, or the worst part of a combined one, is missing; coverage before temporal SNR."""
    parts = coverage.loc[rois.combined.get(name, [name])]
    least, share = str(parts["coverage"].idxmin()), float(parts["coverage"].min())
    if share == 0 or share < rois.min_coverage:
        reason = (
            f"{100 * share:.0f} % of {least} lies in the mask of the run and varies in time, "
            f"{100 * rois.min_coverage:.0f} % is needed"
        )
        fix = "look at the mask outlines of this run; lower rois.min_coverage only for all runs"
        return DataFault("E-DATA-B08", reason, fix=fix, region=name)
    noisiest, tsnr = str(parts["tsnr"].idxmin()), float(parts["tsnr"].min())
    if rois.min_tsnr is not None and tsnr < rois.min_tsnr:
        reason = f"median temporal SNR of {noisiest} {tsnr:.3g} < {rois.min_tsnr:g} (rois.min_tsnr)"
        fix = "look at the map of temporal SNR of this run; change rois.min_tsnr only for all runs"
        return DataFault("E-DATA-B35", reason, fix=fix, region=name)
    return None
