"""The engine that is fMRIPrep: its outputs taken over as a preprocessed run.

Series, mask, reference and T1w become links; only an image that is not compressed is written anew.
Esteban et al., Nat Methods 2019;16:111.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reconfmri import bids, confounds, itk, nuisance, registration, templates
from reconfmri.derivatives import FmriprepRun, find_anatomy
from reconfmri.exclusions import DataFault
from reconfmri.gzipped import zipped
from reconfmri.preprocess import AnatomyFiles, PreprocessedFiles, PreprocessedRun, intake, resampling
from reconfmri.preprocess.survey import survey
from reconfmri.registration import Array, Volume
from reconfmri.tables import read_table, write_table

IDENTITY_MM = 8.0  # voxels of a point map that is the identity: linear between them
GRID_MM = 0.01  # difference of affines that is rounding
AGAIN = "copy fMRIPrep's outputs again, or run it for this participant again"
GREY, WHITE, FLUID = 1, 2, 3
# FreeSurfer's labels, https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/AnatomicalROI
ASEG = {
    GREY: (3, 8, 10, 11, 12, 13, 17, 18, 26, 28, 42, 47, 49, 50, 51, 52, 53, 54, 58, 60),
    WHITE: (2, 7, 16, 41, 46, 77, 85, 251, 252, 253, 254, 255),
    FLUID: (4, 5, 14, 15, 24, 31, 43, 44, 63, 72),
}


@dataclass(frozen=True)
class AdoptedFiles:
    """Where a run that fMRIPrep made is put: the files of every engine, its reference and the T1w."""

    run: PreprocessedFiles
    boldref: Path
    t1w: Path


def adopt_run(
    found: FmriprepRun,
    outputs: AdoptedFiles,
    *,
    tr: float,
    n_volumes: int,
    n_components: int,
    n_temporal: int = 0,
    versions: list[str],
    relative: bool = False,
) -> PreprocessedRun:
    """Take over one run: links to its images, its confounds and tissue in our form, and what is known of it.

    `tr` (s) and `n_volumes` are those of the raw run. Everything is read and checked before anything is
    written; with `relative` the links hold when the study folder is moved together with the derivatives.

    Raises
    ------
    DataFault
        An image is damaged, not on the series' grid, or of another length than the raw run; the confounds
        have another length or lack a column.
    """
    series = _read_series(found.bold, n_volumes)
    mask = _on_grid(found.mask, series) > 0
    if not mask.any():
        raise DataFault("E-DATA-B04", "the brain mask is empty", fix=AGAIN, file=found.mask.name)
    table, facts = _read_confounds(found, n_volumes, n_components, n_temporal)
    t1w = _read(found.t1w)
    reference = _read(found.boldref) if found.boldref else _middle_volume(found.bold)
    tissue, source = _tissue(found, series, mask, t1w)
    metadata = _metadata(found, series, table, tr=tr, versions=versions, tissue=source)
    out = outputs.run
    for target, place in ((found.bold, out.bold), (found.mask, out.mask), (found.t1w, outputs.t1w)):
        _link(target, place, relative=relative)
    if found.boldref:
        _link(found.boldref, outputs.boldref, relative=relative)
    else:
        intake.write_volume(outputs.boldref, reference, template=True)
    intake.write_volume(out.dseg, Volume(tissue, series.affine), template=True)
    write_table(out.confounds, table)
    for path, content in ((out.confounds.with_suffix(".json"), facts), (out.metadata, metadata)):
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return PreprocessedRun(out.bold, out.mask, out.confounds, out.dseg, metadata)


def adopt_anatomy(
    root: Path, raw: str, outputs: AnatomyFiles, *, res: str | None = None, relative: bool = False
) -> str:
    """Take over the anatomy of the scan at `raw` for the participant's page; return why there is none.

    T1w and brain mask become links, the tissue (1 grey, 2 white, 3 fluid) is written, nothing where fMRIPrep
    has none. All lie in the template's space, so that the point map is the identity. It only serves the eye:
    what is missing or damaged leaves the images empty and takes nothing out.
    """
    facts: dict[str, Any] = {}
    try:
        found = find_anatomy(root, raw, res=res)
        absent = [name for name in ("t1w", "mask") if getattr(found, name) is None]
        if found.t1w is None or found.mask is None:
            raise DataFault(
                "E-BIDS-A21", f"fMRIPrep left no {' and no '.join(absent)} in the template's space"
            )
        t1w, mask = _read(found.t1w), _read(found.mask)
        if not (mask.data > 0).any():
            raise DataFault("E-DATA-B04", "the brain mask is empty", file=found.mask.name)
        tissue = _labelled(_read(found.dseg), t1w) if found.dseg else Volume(0 * mask.data, mask.affine)
        facts["t1w_images"] = [{"source": found.t1w.name}]
        _link(found.t1w, outputs.t1w, relative=relative)
        _link(found.mask, outputs.mask, relative=relative)
        intake.write_volume(outputs.dseg, Volume(tissue.data.astype(np.uint8), tissue.affine), template=True)
    except DataFault as fault:
        facts["absent"] = fault.line
        for path in (outputs.t1w, outputs.mask, outputs.dseg):
            path.unlink(missing_ok=True)
            path.write_bytes(b"")
    shape, affine = templates.target_grid(IDENTITY_MM)
    identity = Volume(registration.grid_points(shape, affine).astype(np.float32), affine)
    itk.write_warp(outputs.to_t1w, identity)
    outputs.facts.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return str(facts.get("absent", ""))


def _labelled(dseg: Volume, t1w: Volume) -> Volume:
    """Return three labels as 1 grey, 2 white, 3 fluid, by the brightness of the T1w."""
    inside = dseg.data > 0
    points = registration.grid_points(dseg.data.shape, dseg.affine)[inside]
    labels = np.zeros(dseg.data.shape, dtype=np.uint8)
    labels[inside] = tissue_by_brightness(
        dseg.data[inside].round().astype(np.uint8), registration.sample(t1w, points, order=1)
    )
    return Volume(labels, dseg.affine)


def tissue_of_aseg(labels: Array) -> Array:
    """Return FreeSurfer's labels as 1 grey, 2 white, 3 fluid, 0 else, uint8."""
    known = np.zeros(max(int(labels.max(initial=0)), 255) + 1, dtype=np.uint8)
    for kind, members in ASEG.items():
        known[list(members)] = kind
    return np.asarray(known[labels])


def tissue_by_brightness(labels: Array, t1w: Array) -> Array:
    """Return three labels (n,) as 1 grey, 2 white, 3 fluid: a T1w (n,) shows fluid darkest, white brightest.

    Versions of fMRIPrep differ in the order (FSL's FAST or BIDS; nipreps/smriprep 177, nipreps/fmriprep
    3377); the image tells which it is. With fewer than three labels they are left as BIDS has them.
    """
    present = [label for label in (1, 2, 3) if (labels == label).any()]
    if len(present) < 3:
        return labels
    dark_to_bright = sorted(present, key=lambda label: float(np.median(t1w[labels == label])))
    known = np.zeros(4, dtype=np.uint8)
    known[dark_to_bright] = (FLUID, GREY, WHITE)
    return np.asarray(known[labels])


def _read_series(path: Path, n_volumes: int) -> intake.RawRun:
    """The series, read to its last byte."""
    try:
        series = intake.open_run(path)
        if series.n_volumes != n_volumes:
            reason = f"fMRIPrep's series has {series.n_volumes} volumes, the raw one {n_volumes}"
            raise DataFault("E-DATA-B05", reason)
        found = survey(series)
        if found.not_finite or found.copies:
            # fMRIPrep has estimated motion and confounds with them: no volume of the run can be trusted.
            raise found.remarks(as_faults=True)[0]
    except DataFault as fault:
        raise DataFault(fault.code, fault.reason, fix=AGAIN, file=path.name) from fault
    return series


def _on_grid(path: Path, series: intake.RawRun) -> Array:
    volume = _read(path)
    apart = float(np.abs(volume.affine - series.affine).max())
    if volume.data.shape != series.shape or apart > GRID_MM:
        reason = (
            f"not on the grid of its series: {volume.data.shape} and {series.shape}, {apart:.3g} mm apart"
        )
        raise DataFault("E-DATA-B06", reason, fix=AGAIN, file=path.name)
    return volume.data


def _read(path: Path) -> Volume:
    with intake.damage(path, fix=AGAIN):
        return registration.read_volume(path)


def _read_confounds(
    found: FmriprepRun, n_volumes: int, n_components: int, n_temporal: int
) -> tuple[Any, dict[str, Any]]:
    name = found.confounds.name
    try:
        table = read_table(found.confounds)
        facts = nuisance.facts_of_columns(bids.read_json(found.facts) if found.facts else {})
    except ValueError as error:
        text = str(error).removeprefix(f"{found.confounds}: ")
        raise DataFault("E-DATA-B11", f"the confounds cannot be read: {text}", fix=AGAIN, file=name) from None
    if len(table) != n_volumes:
        reason = f"the confounds have {len(table)} rows, the run {n_volumes} volumes"
        raise DataFault("E-DATA-B11", reason, fix=AGAIN, file=name)
    try:
        return confounds.from_fmriprep(table, facts, n_components=n_components, n_temporal=n_temporal)
    except DataFault as fault:
        raise DataFault(fault.code, fault.reason, fix=fault.fix, file=name) from fault


def _tissue(found: FmriprepRun, series: intake.RawRun, mask: Array, t1w: Volume) -> tuple[Array, str]:
    """Tissue on the series' grid inside its mask, uint8, and the file it comes from; zero where unknown."""
    tissue = np.zeros(series.shape, dtype=np.uint8)
    if found.dseg:
        points = registration.grid_points(series.shape, series.affine)[mask]
        dseg = _read(found.dseg)
        brightness = registration.sample(t1w, points, order=1)
        spacing = float(np.cbrt(abs(np.linalg.det(series.affine[:3, :3]))))
        tissue[mask] = tissue_by_brightness(resampling.majority(dseg, points, spacing), brightness)
        return tissue, found.dseg.name
    if found.aseg:
        tissue[mask] = tissue_of_aseg(_on_grid(found.aseg, series).round().astype(int))[mask]
        return tissue, found.aseg.name
    return tissue, "none"


def _metadata(
    found: FmriprepRun, series: intake.RawRun, table: Any, *, tr: float, versions: list[str], tissue: str
) -> dict[str, Any]:
    try:
        known = bids.read_json(found.sidecar) if found.sidecar else {}
    except ValueError as error:
        reason = f"the series' JSON cannot be read: {error}"
        raise DataFault("E-BIDS-A21", reason, fix=AGAIN, file=found.bold.name) from None
    sizes = " x ".join(f"{size:.3g}" for size in np.linalg.norm(series.affine[:3, :3], axis=0))
    corrected = known.get("SliceTimingCorrected")  # told from 20.2.4 on
    start = known.get("StartTime", tr / 2) if corrected else 0.0
    if isinstance(start, bool) or not isinstance(start, int | float):
        reason = f"StartTime is {start!r:.60} in the series' JSON, expected a number, s"
        raise DataFault("E-BIDS-A21", reason, fix=AGAIN, file=found.bold.name)
    return {
        "RepetitionTime": tr,
        "StartTime": float(start),
        "NonSteadyStateVolumes": sum(name.startswith("non_steady_state_outlier") for name in table.columns),
        "SkullStripped": bool(known.get("SkullStripped", False)),
        "SliceTimingCorrected": corrected,
        "Resolution": f"{sizes} mm",
        "Sources": [path.name for path in found.files],
        "Tissue": tissue,
        "GeneratedBy": [{"Name": "fMRIPrep", "Version": version} for version in versions],
    }


def _middle_volume(path: Path) -> Volume:
    import nibabel

    image: Any = nibabel.load(path)
    data = np.asarray(image.dataobj[..., image.shape[3] // 2], dtype=np.float32)
    return Volume(data, np.asarray(image.affine, dtype=np.float64))


def _link(target: Path, place: Path, *, relative: bool) -> None:
    """Put an image where it belongs, by a link; one that is not compressed is written anew, compressed."""
    place.unlink(missing_ok=True)
    if place.suffix == ".gz" and target.suffix != ".gz":
        with target.open("rb") as stream, place.open("wb") as file, zipped(file) as packed:
            shutil.copyfileobj(stream, packed)
    elif relative:  # through no link on the way: `..` would lead elsewhere
        there = target.parent.resolve() / target.name
        place.symlink_to(os.path.relpath(there, place.parent.resolve()))
    else:
        place.symlink_to(target.absolute())
