"""A simulated trial as a BIDS dataset: `OUT/bids` with its truth, and `OUT/allocation.tsv` beside it."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reconfmri.bids import bids_path
from reconfmri.config import Study, load_study
from reconfmri.gzipped import save_image
from reconfmri.provenance import workflow_folder
from reconfmri.simulate import planted, scanner, signals, susceptibility
from reconfmri.simulate.anatomy import Anatomy, apply, draw_anatomy, draw_pose, grid_points, sample_head
from reconfmri.simulate.head import Head, build_head
from reconfmri.simulate.planted import Person, Timing, Visit
from reconfmri.simulate.regions import SOURCES, Territory, survey
from reconfmri.simulate.truth import ScanTruth, compose, region_gains, thermal_covariance

TASK = "memory"
FIELD = "phasediff0"  # B0FieldIdentifier of a session's field map
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Studio:
    """What all participants share."""

    root: Path
    seed: int
    timing: Timing
    protocol: scanner.Protocol
    rest: bool
    head: Head
    territory: Territory
    fieldmap: bool = False


def simulate_trial(
    out: Path,
    *,
    participants: int,
    seed: int,
    timing: Literal["short", "full"] = "short",
    rest: bool = False,
    fieldmap: bool = False,
    study: Study | None = None,
    sessions: Sequence[str] = planted.SESSIONS,
    arms: int = 2,
    processes: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write `out/bids` and `out/allocation.tsv`; return the truth, as written to `out/bids/truth.json`.

    The same for the same seed, whatever the number of processes. The truth answers the regions, the
    resolution and the contrasts of `study`, without one those of the packaged study file. With `fieldmap`
    EPIs are distorted, and every session has a field map; all else that is drawn stays the same. Three `arms`
    are two doses and the control, of which the lower one has 40 % of the effect.
    `progress(done, all)` is called per participant.

    Raises
    ------
    ValueError
        Fewer than four participants, an unknown timing, unknown sessions, or so many arms are not planted.
    FileExistsError
        `out/bids` exists and is not empty.
    """
    root = Path(out) / "bids"
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty; give another folder or remove it")
    people = planted.draw_people(participants, seed, sessions=sessions, arms=arms)
    study = study or load_study(workflow_folder() / "config" / "config.yaml")
    root.mkdir(parents=True, exist_ok=True)
    _write_dataset_files(root, seed, timing, arms)
    studio = _furnish(root, seed, timing, rest, study, processes, fieldmap=fieldmap)
    scans = _for_all(people, studio, processes, progress)
    _write_tables(Path(out), people, scans)
    unbent = Anatomy(np.eye(3), np.zeros((3, 1, 1, 1), np.float32))
    thermal = thermal_covariance(unbent, studio.territory, studio.protocol)
    truth = compose(scans, study, studio.territory, thermal, studio.timing, seed, arms=arms)
    if fieldmap:
        truth["distortion"] = susceptibility.planted(studio.protocol)
    _write_json(root / "truth.json", truth)
    return truth


def _furnish(
    root: Path, seed: int, timing: str, rest: bool, study: Study, threads: int, *, fieldmap: bool = False
) -> Studio:
    schedule = planted.timing_of(timing)
    epi_voxel, t1w_voxel = (2.0, 1.0) if timing == "full" else (4.0, 2.0)
    protocol = scanner.Protocol(schedule.tr, schedule.n_volumes, epi_voxel, t1w_voxel)
    territory = survey(study.rois, resolution=study.preprocessing.resolution, threads=threads)
    return Studio(root, seed, schedule, protocol, rest, build_head(), territory, fieldmap)


_studio: Studio | None = None


def _adopt(studio: Studio) -> None:
    global _studio  # a worker receives the shared maps once, not per participant
    _studio = studio


def _in_worker(person: Person) -> list[ScanTruth]:
    if _studio is None:
        raise RuntimeError("a worker was started without its studio")
    return simulate_person(person, _studio)


def _for_all(
    people: list[Person], studio: Studio, processes: int, progress: Progress | None
) -> list[ScanTruth]:
    if processes <= 1:
        return _gather((simulate_person(person, studio) for person in people), len(people), progress)
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=fork, initializer=_adopt, initargs=(studio,)) as pool:
        return _gather(pool.map(_in_worker, people), len(people), progress)


def _gather(parts: Iterable[list[ScanTruth]], total: int, progress: Progress | None) -> list[ScanTruth]:
    scans: list[ScanTruth] = []
    for done, part in enumerate(parts, start=1):
        scans += part
        if progress:
            progress(done, total)
    return scans


def simulate_person(person: Person, studio: Studio) -> list[ScanTruth]:
    """Write the images and recordings of a participant; return what was true of each visit."""
    anatomy = draw_anatomy(_stream(studio, person, 0))
    rng = _stream(studio, person, 1)
    t1w = scanner.acquire_t1w(studio.head, anatomy, draw_pose(rng), studio.protocol, rng)
    name = bids_path(
        "", sub=person.label, ses=person.sessions[0], datatype="anat", suffix="T1w", ext=".nii.gz"
    )
    _save_image(studio.root, name, t1w, studio.protocol.t1w_grid[1])
    body = _embody(anatomy, studio)
    return [_simulate_visit(person, session, anatomy, body, studio) for session in person.sessions]


def _embody(anatomy: Anatomy, studio: Studio, bend: susceptibility.Bend | None = None) -> scanner.Body:
    spread = studio.protocol.epi_voxel
    return scanner.embody(
        studio.head, anatomy, studio.territory.sources, list(SOURCES), point_spread=spread, bend=bend
    )


def _simulate_visit(
    person: Person, session: str, anatomy: Anatomy, body: scanner.Body, studio: Studio
) -> ScanTruth:
    rng = _stream(studio, person, 10 + planted.SESSIONS.index(session))
    timing, protocol = studio.timing, studio.protocol
    visit = planted.draw_visit(person, session, timing, rng)
    pose = draw_pose(rng)
    shape, affine = protocol.epi_grid
    in_person = apply(np.linalg.inv(pose), grid_points(shape, affine))
    shown = body
    if studio.fieldmap:
        bend = susceptibility.bend_of(anatomy, pose, protocol)
        shown, in_person = _embody(anatomy, studio, bend), bend.unbent(in_person)
        _save_field_map(person, session, anatomy, pose, studio)
    fluid = sample_head(studio.head.fluid, anatomy, in_person).reshape(shape)
    motion = scanner.draw_motion(protocol.n_volumes, protocol.tr, rng)
    changes = _changes(visit, timing, protocol.tr, rng)
    run = scanner.acquire_bold(shown, pose, motion, changes, fluid, protocol, rng)
    _save_run(studio, person, session, TASK, run)
    _save_events(studio.root, person, session, timing)
    _save_skin(studio.root, person, session, signals.skin_conductance(visit, timing, rng))
    if studio.rest:
        _simulate_rest(person, session, shown, pose, fluid, visit, studio)
    gains = region_gains(body, anatomy, pose, studio.territory, protocol)
    return ScanTruth(f"sub-{person.label}", session, TASK, visit, gains)


def _changes(
    visit: Visit, timing: Timing, tr: float, rng: np.random.Generator
) -> dict[str, npt.NDArray[np.float64]]:
    """Percent signal change per source and volume: answers to the scripts and fluctuations."""
    answers = signals.script_answers(timing)
    slow = signals.fluctuations(visit, timing.n_volumes, tr, rng)
    return {region: answers @ visit.answers[region] + slow[region] for region in SOURCES}


def _simulate_rest(
    person: Person,
    session: str,
    body: scanner.Body,
    pose: npt.NDArray[np.float64],
    fluid: npt.NDArray[np.float32],
    visit: Visit,
    studio: Studio,
) -> None:
    rng = _stream(studio, person, 20 + planted.SESSIONS.index(session))
    base = studio.protocol
    protocol = scanner.Protocol(base.tr, studio.timing.n_rest_volumes, base.epi_voxel, base.t1w_voxel)
    motion = scanner.draw_motion(protocol.n_volumes, protocol.tr, rng)
    slow = signals.fluctuations(visit, protocol.n_volumes, protocol.tr, rng)
    run = scanner.acquire_bold(body, pose, motion, slow, fluid, protocol, rng)
    _save_run(studio, person, session, "rest", run)


def _stream(studio: Studio, person: Person, purpose: int) -> np.random.Generator:
    """A generator of its own for each participant and purpose, so that the order of work does not matter."""
    return np.random.default_rng([studio.seed, int(person.label), purpose])


def _save_image(
    root: Path,
    name: str,
    data: npt.NDArray[np.int16],
    affine: npt.NDArray[np.float64],
    tr: float | None = None,
) -> None:
    import nibabel as nib

    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    if tr is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(image, path)


def _save_run(studio: Studio, person: Person, session: str, task: str, run: npt.NDArray[np.int16]) -> None:
    protocol, names = studio.protocol, _names_of_run(person, session, task)
    _save_image(studio.root, bids_path("", ext=".nii.gz", **names), run, protocol.epi_grid[1], protocol.tr)
    sidecar = {
        "TaskName": task,
        "RepetitionTime": protocol.tr,
        "EchoTime": 0.03,
        "FlipAngle": scanner.FLIP_ANGLE,
        "MagneticFieldStrength": 3,
        "Manufacturer": "simulated",
        "PulseSequenceType": "gradient-echo EPI, all slices at the start of the volume",
    }
    if task == TASK:
        sidecar["Instructions"] = "Listen to the script and imagine it as vividly as you can."
    if studio.fieldmap:
        sidecar |= susceptibility.sidecar(protocol) | {"B0FieldSource": FIELD}
    _write_json(studio.root / bids_path("", ext=".json", **names).lstrip("/"), sidecar)


def _names_of_run(person: Person, session: str, task: str) -> dict[str, str]:
    return {"sub": person.label, "ses": session, "task": task, "datatype": "func", "suffix": "bold"}


def _save_field_map(
    person: Person, session: str, anatomy: Anatomy, pose: npt.NDArray[np.float64], studio: Studio
) -> None:
    rng = _stream(studio, person, 30 + planted.SESSIONS.index(session))
    images, affine = susceptibility.acquire_field_map(studio.head, anatomy, pose, studio.protocol, rng)
    runs = [_names_of_run(person, session, task) for task in ([TASK, "rest"] if studio.rest else [TASK])]
    first, second = susceptibility.ECHOES
    told: dict[str, dict[str, Any]] = {
        "phasediff": {
            "EchoTime1": first,
            "EchoTime2": second,
            "B0FieldIdentifier": FIELD,
            "IntendedFor": ["bids::" + bids_path("", ext=".nii.gz", **run).lstrip("/") for run in runs],
        },
        "magnitude1": {"EchoTime": first},
        "magnitude2": {"EchoTime": second},
    }
    for suffix, image in images.items():
        names = {"sub": person.label, "ses": session, "datatype": "fmap", "suffix": suffix}
        _save_image(studio.root, bids_path("", ext=".nii.gz", **names), image, affine)
        sidecar = {"MagneticFieldStrength": 3, "Manufacturer": "simulated", **told[suffix]}
        _write_json(studio.root / bids_path("", ext=".json", **names).lstrip("/"), sidecar)


def _save_events(root: Path, person: Person, session: str, timing: Timing) -> None:
    name = bids_path(
        "", sub=person.label, ses=session, task=TASK, datatype="func", suffix="events", ext=".tsv"
    )
    lines = [
        "onset\tduration\ttrial_type",
        *(f"{on:g}\t{length:g}\t{kind}" for kind, on, length in timing.scripts),
    ]
    (root / name.lstrip("/")).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _save_skin(root: Path, person: Person, session: str, recording: npt.NDArray[np.float64]) -> None:
    import gzip

    names = {"sub": person.label, "ses": session, "task": TASK, "datatype": "func", "suffix": "physio"}
    text = "\n".join(f"{value:.5f}" for value in recording) + "\n"
    path = root / bids_path("", ext=".tsv.gz", **names).lstrip("/")
    path.write_bytes(gzip.compress(text.encode(), compresslevel=6, mtime=0))
    sidecar = {
        "SamplingFrequency": signals.SKIN_FREQUENCY,
        "StartTime": 0.0,
        "Columns": ["skin_conductance"],
        "skin_conductance": {
            "Description": "Electrodermal activity of two fingers, simulated",
            "Units": "µS",
        },
    }
    _write_json(root / bids_path("", ext=".json", **names).lstrip("/"), sidecar)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_dataset_files(root: Path, seed: int, timing: str, arms: int) -> None:
    """Write what describes the whole dataset: description, README, .bidsignore, the meaning of the events."""
    description = {
        "Name": "Simulated trial of ketamine after memory retrieval",
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "License": "CC0",
        "Authors": ["reconfmri simulate"],
        "HowToAcknowledge": "No acknowledgement needed: no person was measured.",
    }
    _write_json(root / "dataset_description.json", description)
    (root / "README").write_text(
        README.format(seed=seed, timing=timing, arms={2: "two", 3: "three"}[arms]), encoding="utf-8"
    )
    (root / ".bidsignore").write_text(BIDSIGNORE, encoding="utf-8")
    levels = {
        "trauma": "the person's own traumatic memory",
        "sad": "a sad memory that is not the trauma",
        "relax": "a calm, neutral memory",
    }
    events = {
        "onset": {"Description": "Start of the script", "Units": "s"},
        "duration": {"Description": "Length of the script", "Units": "s"},
        "trial_type": {"Description": "Which kind of script was played", "Levels": levels},
    }
    _write_json(root / f"task-{TASK}_events.json", events)


# The validator's schema 1.2.7 takes participant_id alone as the index of a phenotype table and so refuses one
# row per visit, which the specification allows.
BIDSIGNORE = "truth.json\nphenotype/*\n"

README = """A simulated trial: {arms} arms, four visits, script-driven imagery, skin conductance, scales.

No person was measured. Made by `reconfmri simulate` with seed {seed} and {timing} timing. What was planted
stands in truth.json; which arm each participant belongs to stands outside this folder, in allocation.tsv.
"""


def _write_tables(out: Path, people: list[Person], scans: list[ScanTruth]) -> None:
    import pandas as pd

    from reconfmri.tables import write_table

    root = out / "bids"
    rows = [{"participant_id": f"sub-{p.label}", "age": p.age, "sex": p.sex} for p in people]
    described = {
        "participant_id": "Participant",
        "age": "Age at the first visit, years",
        "sex": "Sex: female, male",
    }
    write_table(root / "participants.tsv", pd.DataFrame(rows), described)
    arms = [{"participant_id": f"sub-{p.label}", "arm": p.arm, "stratum": p.sex} for p in people]
    described = {
        "participant_id": "Participant, as in participants.tsv",
        "arm": "Treatment the participant was randomised to",
        "stratum": "Stratum of the randomisation: sex",
    }
    write_table(out / "allocation.tsv", pd.DataFrame(arms), described)
    (root / "phenotype").mkdir(exist_ok=True)
    for scale, tool in TOOLS.items():
        totals = [
            {
                "participant_id": scan.participant_id,
                "session_id": f"ses-{scan.session_id}",
                "total": int(np.clip(np.rint(scan.visit.scales[scale]), 0, 80)),
            }
            for scan in scans
        ]
        described = {
            "participant_id": "Participant",
            "session_id": "Visit",
            "total": f"{tool}: total score, 0 to 80",
        }
        write_table(root / "phenotype" / f"{scale}.tsv", pd.DataFrame(totals), described)


TOOLS = {
    "pcl5": "PTSD Checklist for DSM-5",
    "caps5": "Clinician-Administered PTSD Scale for DSM-5",
}
