"""The engine made of pip-installable libraries: three steps, each from files to files.

`prepare_anatomy` once per person, then `align_run` (estimates every transform of a run) and `resample_run`
(applies them in one interpolation).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np

from reconfmri import confounds, itk, registration
from reconfmri.acquisition import SliceTimes, phase_encoding, slice_times
from reconfmri.config import Preprocessing
from reconfmri.exclusions import DataFault
from reconfmri.fieldmaps import Fieldmap
from reconfmri.preprocess import (
    AlignmentFiles,
    AnatomyFiles,
    PreprocessedFiles,
    PreprocessedRun,
    coregistration,
    distortion,
    fieldmap,
    head_motion,
    intake,
    longitudinal,
    resampling,
    slice_timing,
    survey,
)
from reconfmri.preprocess import anatomy as anatomical
from reconfmri.preprocess.survey import Survey
from reconfmri.preprocess.unwarping import Distortion
from reconfmri.registration import Array, Volume
from reconfmri.series import VoxelSeries

__all__ = [
    "AlignmentFiles",
    "AnatomyFiles",
    "PreprocessedFiles",
    "PreprocessedRun",
    "align_run",
    "prepare_anatomy",
    "resample_run",
]

FINEST_MM = {"full": 1.5, "fast": 3.0}


def prepare_anatomy(
    t1w_images: dict[Path, str], *, outputs: AnatomyFiles, settings: Preprocessing, threads: int = 1
) -> list[DataFault]:
    """Write a person's anatomy from one T1w or the template of several; return remarks on images left out.

    `t1w_images` holds each image's sha256 when it was indexed (may be empty).

    Raises
    ------
    DataFault
        Every image is damaged or not the indexed one, the only two show different heads (E-DATA-B24), or what
        is left is no T1-weighted head that matches the template.
    """
    head = longitudinal.read_head(t1w_images)
    try:
        found = anatomical.prepare(
            head.t1w, finest_mm=FINEST_MM[settings.registration], pose=head.pose, threads=threads
        )
    except DataFault as fault:
        raise _of_file(fault, next(iter(t1w_images))) from fault
    facts = {"SkullStripped": False, "t1w_images": head.sources, **found.facts}
    outputs.facts.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    intake.write_volume(outputs.t1w, found.t1w)
    intake.write_volume(outputs.mask, found.mask)
    intake.write_volume(outputs.dseg, found.dseg)
    itk.write_warp(outputs.to_t1w, found.to_t1w)
    return head.remarks


def align_run(
    bold: Path,
    t1w: Path,
    anatomy: AnatomyFiles,
    *,
    outputs: AlignmentFiles,
    given: Fieldmap | None = None,
    sidecar: Mapping[str, Any] | None = None,
    sha256: str = "",
    threads: int = 1,
) -> list[DataFault]:
    """Write a run's reference, native brain mask and transforms; return remarks on what is damaged.

    Volumes that hold no measurement (`survey`), and those whose head motion was not found, take no part; they
    have the transform of their neighbour.

    `t1w` is the raw T1w of the run's session, or the one that stands for it: the run is looked for near it.
    With a field map (`given`; `sidecar` is the run's own) the reference is straightened, and so is what lies
    in its space: the mask, and the map to the T1w. `sha256` is that of the run when it was indexed; every
    byte that is read is compared with it.

    Raises
    ------
    DataFault
        The run is damaged, too short, flat, another than the indexed one, or it or its field map could not be
        placed in the T1w; left and right are swapped; it shows another head than the T1w.
    """
    run = intake.open_run(bold, sha256=sha256)
    try:
        found = survey.survey(run)
        reference, transforms, n_non_steady, lost = _head_motion(found, threads=threads)
        remarks = found.remarks() + survey.clipped(found, int(coregistration.signal_mask(reference).sum()))
        place = _place_of(t1w, anatomy)
        head = _placed(registration.read_volume(anatomy.t1w), place)
        dseg = _placed(registration.read_volume(anatomy.dseg), place)
        reflection = place @ _reflection(itk.read_warp(anatomy.to_t1w)) @ np.linalg.inv(place)
        if given is None:
            undone = distortion.none_of(reference)
            to_t1w, facts = coregistration.align_to_t1w(reference, head, dseg, reflection=reflection)
        else:
            known = given.completed(sidecar)
            encoding = phase_encoding(known, run.shape)
            field = fieldmap.read(given, head, dseg, run=(reference, known))
            undone, to_t1w, facts = distortion.by_field_map(
                field, reference, encoding, head, dseg, reflection=reflection
            )
            reference = undone.straightened(reference)
        # the brain mask, which regions at its surface need, and not the tissue, which ends at the cortex
        brain = _placed(registration.read_volume(anatomy.mask), place)
        mask = coregistration.native_brain(reference, brain, to_t1w)
    except DataFault as fault:
        raise _of_file(fault, bold) from fault
    intake.write_volume(outputs.boldref, reference)
    intake.write_volume(outputs.mask, Volume(mask, run.affine))
    intake.write_volume(outputs.displacement, undone.shift)
    alignment: dict[str, Any] = {
        "head_motion": [matrix.ravel().tolist() for matrix in transforms],
        "boldref_to_t1w": (np.linalg.inv(place) @ to_t1w).ravel().tolist(),
        "non_steady_state_volumes": n_non_steady,
        "damaged_volumes": sorted([*np.flatnonzero(~found.whole).tolist(), *lost]),
        "lost_volumes": lost,
        "distortion": distortion.described(undone, mask, given, sidecar or {}),
        "bold_sha256": sha256,
        **facts,
    }
    outputs.alignment.write_text(json.dumps(alignment, indent=1) + "\n", encoding="utf-8")
    return remarks + ([intake.lost_volumes(run, lost)] if lost else [])


def resample_run(
    bold: Path,
    tr: float,
    anatomy: AnatomyFiles,
    alignment: AlignmentFiles,
    *,
    outputs: PreprocessedFiles,
    settings: Preprocessing,
    sidecar: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> PreprocessedRun:
    """Write a run on the template grid with its mask, tissue, confounds and metadata; return the contract.

    `tr` is the repetition time, s; `sidecar` what the raw run's sidecars say of the acquisition. Head motion
    was estimated before slices are brought to one moment, as in fMRIPrep. A damaged volume is written as the
    line in time between its neighbours, which no statistic uses: it has a column of its own in the confounds.

    Raises
    ------
    DataFault
        The run is damaged or flat, or its slice times cannot be (E-DATA-B24).
    """
    run = intake.open_run(bold)
    try:
        slices = slice_times(sidecar or {}, run.shape, tr) if settings.slice_timing else None
    except DataFault as fault:
        raise _of_file(fault, bold) from fault
    known = json.loads(alignment.alignment.read_text(encoding="utf-8"))
    whole = np.ones(run.n_volumes, dtype=bool)
    whole[known["damaged_volumes"]] = False
    transforms = np.array(known["head_motion"]).reshape(-1, 4, 4)[whole]
    to_t1w = np.array(known["boldref_to_t1w"]).reshape(4, 4)
    dseg = registration.read_volume(anatomy.dseg)
    native = registration.read_volume(alignment.mask)
    bent = Distortion(registration.read_volume(alignment.displacement), int(known["distortion"]["Axis"]))
    voxels = _voxels_in_view(
        run, transforms, dseg, anatomy, native, to_t1w, bent, resolution=settings.resolution
    )
    brain = registration.grid_points(native.data.shape, native.affine)[native.data > 0]
    signals = VoxelSeries(len(brain), folder=outputs.bold.parent)
    points = [bent.moved(voxels.points), bent.moved(brain)]
    stretch = [bent.stretch(voxels.points), bent.stretch(brain)]
    volumes: Iterator[Array] = compress(run.volumes(), whole)
    if slices:
        volumes = slice_timing.corrected(
            volumes,
            slices,
            tr=tr,
            n_non_steady=int(known["non_steady_state_volumes"]),
            numbers=np.flatnonzero(whole).tolist(),
        )
    streamed = resampling.resampled(volumes, transforms, run.affine, points, threads=threads)
    with resampling.SeriesWriter(outputs.bold, voxels, n_volumes=run.n_volumes, tr=tr) as series:
        for values in resampling.bridged(_on_target(streamed, signals, stretch), whole):
            series.write(values)
    intake.write_volume(outputs.mask, voxels.image(np.ones(len(voxels.points)), np.uint8), template=True)
    intake.write_volume(outputs.dseg, voxels.image(voxels.tissue, np.uint8), template=True)
    white, fluid = resampling.deep_tissue(dseg, registration.transform_points(to_t1w, brain), native.voxel_mm)
    try:
        table, facts = confounds.build(
            transforms,
            confounds.TissueSignals(signals, white, fluid),
            tr=tr,
            whole=whole,
            n_non_steady=int(known["non_steady_state_volumes"]),
            n_components=settings.acompcor,
            n_temporal=settings.tcompcor,
            centre=tuple(brain.mean(axis=0)),
        )
    except DataFault as fault:
        raise _of_file(fault, bold) from fault
    _write_confounds(outputs.confounds, table, facts)
    metadata = _metadata(bold, tr, anatomy, alignment, known, settings) | _timing_facts(slices)
    outputs.metadata.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    return PreprocessedRun(outputs.bold, outputs.mask, outputs.confounds, outputs.dseg, metadata)


def _on_target(
    streamed: Iterable[list[Array]], signals: VoxelSeries, stretch: Sequence[Array]
) -> Iterator[Array]:
    """Yield what each volume has on the target grid; what it has on the native one goes into `signals`."""
    for on_target, on_native in streamed:
        signals.append(on_native * stretch[1])
        yield on_target * stretch[0]


def _placed(image: Volume, place: Array) -> Volume:
    """Return an image of the anatomy where the head lay in a session, by its header alone."""
    return Volume(image.data, place @ image.affine)


def _reflection(to_t1w: Volume) -> Array:
    """Return the (4, 4) reflection of a head by its middle plane, to which the template's is carried."""
    carried = registration.affine_part(to_t1w)
    normal = np.linalg.inv(carried[:3, :3])[0]
    normal /= np.linalg.norm(normal)
    matrix = np.eye(4)
    matrix[:3, :3] -= 2 * np.outer(normal, normal)
    matrix[:3, 3] = 2 * normal * (normal @ carried[:3, 3])
    return matrix


def _place_of(t1w: Path, anatomy: AnatomyFiles) -> Array:
    """Return the (4, 4) matrix from the anatomy to a raw T1w, RAS mm; identity for one that was left out."""
    known = json.loads(anatomy.facts.read_text(encoding="utf-8"))["t1w_images"]
    place = next((image["from_anatomy"] for image in known if image["source"] == t1w.name), np.eye(4).ravel())
    return np.array(place).reshape(4, 4)


def _head_motion(found: Survey, *, threads: int) -> tuple[Volume, Array, int, list[int]]:
    """Return a run's reference, its transforms, how many volumes are not steady, and the lost volumes.

    Transforms (n_volumes, 4, 4) lead from the reference to each volume; `n_non_steady` counts from the first
    volume; in the lost ones (from 0) the head could not be found.
    """
    run, whole = found.run, found.whole
    bright = confounds.non_steady_state_volumes(found.means[whole])
    n_non_steady = int(np.flatnonzero(whole)[bright]) if bright else 0
    usable = whole & (np.arange(run.n_volumes) >= n_non_steady)
    steady = [volume for number, volume in found.spread.items() if usable[number]]
    steady = steady or list(islice(compress(run.volumes(), usable), survey.N_REFERENCE))
    reference = reference_volume(steady, run.affine, threads=threads)
    mask = coregistration.signal_mask(reference)
    motion = head_motion.track(compress(run.volumes(), whole), reference, mask=mask, threads=threads)
    lost = np.flatnonzero(whole)[motion.lost].tolist()
    if whole.sum() - len(lost) < max(intake.MIN_VOLUMES, run.n_volumes // 2):
        raise intake.lost_volumes(run, lost, remark=False)
    return reference, motion.matrices[np.maximum(np.cumsum(whole) - 1, 0)], n_non_steady, lost


def reference_volume(volumes: list[Array], affine: Array, *, threads: int = 1) -> Volume:
    """Return the mean of `volumes` after they were moved onto the one in the middle of their positions."""
    first = Volume(volumes[len(volumes) // 2], affine)
    mask = coregistration.signal_mask(first)
    motion = head_motion.track(volumes, first, mask=mask, threads=threads)
    kept = ~motion.lost | motion.lost.all()
    volumes, moves = list(compress(volumes, kept)), motion.matrices[kept]
    centre = registration.grid_points(first.data.shape, affine)[mask].mean(axis=0)
    places = moves[:, :3, :3] @ centre + moves[:, :3, 3]
    middle = int(np.linalg.norm(places - np.median(places, axis=0), axis=1).argmin())
    points = registration.grid_points(first.data.shape, affine)
    total = np.zeros(first.data.shape)
    for volume, matrix in zip(volumes, moves @ np.linalg.inv(moves[middle]), strict=True):
        total += registration.sample(Volume(volume, affine), registration.transform_points(matrix, points))
    return Volume((total / len(volumes)).astype(np.float32), affine)


def _voxels_in_view(
    run: intake.RawRun,
    transforms: Array,
    dseg: Volume,
    anatomy: AnatomyFiles,
    native: Volume,
    to_t1w: Array,
    bent: Distortion,
    *,
    resolution: float,
) -> resampling.TargetVoxels:
    """Return the target voxels in the brain, with signal, and in the field of view of every volume."""
    voxels = resampling.target_voxels(
        itk.read_warp(anatomy.to_t1w),
        registration.read_volume(anatomy.mask),
        dseg,
        np.linalg.inv(to_t1w),
        resolution=resolution,
    )
    seen = resampling.seen_throughout(bent.moved(voxels.points), run.affine, run.shape, transforms)
    signal = registration.sample(native, voxels.points, order=1) > 0.25
    return voxels.kept(seen & signal)


def _write_confounds(path: Path, table: Any, facts: dict[str, dict[str, Any]]) -> None:
    from reconfmri.tables import write_table

    write_table(path, table)
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    path.with_suffix(".json").write_text(text, encoding="utf-8")


def _metadata(
    bold: Path,
    tr: float,
    anatomy: AnatomyFiles,
    alignment: AlignmentFiles,
    known: dict[str, Any],
    settings: Preprocessing,
) -> dict[str, Any]:
    return {
        "RepetitionTime": tr,
        "NonSteadyStateVolumes": known["non_steady_state_volumes"],
        "DamagedVolumes": known["damaged_volumes"],
        "DistortionCorrection": known["distortion"],
        "SkullStripped": True,
        "Resolution": f"{settings.resolution:g} mm isotropic",
        "Sources": [bold.name],
        "Interpolation": "one cubic B-spline in space through all transforms"
        + ("; DamagedVolumes (from 0) hold the line in time between their neighbours, no measurement")
        * bool(known["damaged_volumes"]),
        "AnatomicalReference": [
            image["source"] for image in json.loads(anatomy.facts.read_text(encoding="utf-8"))["t1w_images"]
        ],
        "Transforms": {
            "head_motion": alignment.alignment.name,
            "boldref_to_t1w": alignment.alignment.name,
            "template_to_t1w": anatomy.to_t1w.name,
        },
        "CoregistrationCost": known["coregistration_cost"],
        "MirroredCost": known["mirrored_cost"],
        "SignalInBrain": known["signal_in_brain"],
    }


def _timing_facts(slices: SliceTimes | None) -> dict[str, Any]:
    """Return BIDS's words for it: `StartTime` is the moment of the first volume, s."""
    if slices is None:
        return {"SliceTimingCorrected": False}
    return {"SliceTimingCorrected": True, "StartTime": slices.reference}


def _of_file(fault: DataFault, path: Path) -> DataFault:
    return DataFault(
        fault.code, fault.reason, fix=fault.fix, file=fault.file or path.name, region=fault.region
    )
