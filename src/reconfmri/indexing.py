"""From a BIDS dataset to the run table, and every problem of the data on the way (docs/codes.md)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from reconfmri import bids
from reconfmri.acquisition import check_readout, slice_times
from reconfmri.bids import BidsFile
from reconfmri.config import Study, Task
from reconfmri.dataset import Dataset, check_spellings, read_dataset
from reconfmri.decisions import by_hand, digest_of_automatic, keep_decisions
from reconfmri.exclusions import MISSING, DataFault, read_exclusions, write_exclusions
from reconfmri.fieldmaps import fieldmap_files, fieldmap_of, intentions
from reconfmri.headers import Header, corner_distance, read_header
from reconfmri.problems import Problem, exclusions_of
from reconfmri.selection import IMAGES, Session, choose_anatomy, filtered, without_echoes
from reconfmri.tables import read_table

TR_TOLERANCE = 1e-3  # s; fault catalogue, B2
MOVED_MM = 0.1  # runs of a session whose corners are nearer lie on one grid
MAX_TR = 30.0  # s; a larger RepetitionTime is in milliseconds
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scan:
    """One functional run as its file name tells it."""

    participant_id: str
    session_id: str
    task: str
    run: str
    bold: BidsFile

    @property
    def number(self) -> str:
        """The run without leading zeros; the only one of its task is the first."""
        return "1" if self.run == MISSING else bids.number_of(self.run)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Which run it is, however its label is written."""
        return self.participant_id, self.session_id, self.task, self.number

    @property
    def unit(self) -> dict[str, str]:
        """The four entities of a row."""
        return {
            "participant_id": self.participant_id,
            "session_id": self.session_id,
            "task": self.task,
            "run": self.run,
        }


def index_dataset(
    root: Path,
    study: Study,
    *,
    digest: Callable[[Path], str] = bids.sha256,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the run table (one row per scan that can be used) and every problem found on the way.

    `digest` gives the sha256 of a file.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    """
    everything, problems = read_dataset(root)
    dataset, more = filtered(everything, study.filters)
    problems += more + _without_images(everything, dataset, study)
    scans, more = find_scans(dataset, study)
    anatomy, choices = choose_anatomy(dataset, study)
    problems += check_spellings(dataset) + more + choices
    rows: list[dict[str, Any]] = []
    for number, scan in enumerate(scans, start=1):
        try:
            row, remarks = _row(dataset, study, scan, anatomy, digest)
        except DataFault as fault:
            problems.append(_excluded(scan, fault))
        else:
            rows.append(row)
            problems += remarks
        if progress:
            progress(number, len(scans))
    rows, more = _without_shared_images(rows)
    problems += more
    rows, more = _without_cut_runs(rows, study)
    problems += more + _geometry(rows) + _without_field_map(dataset, study, scans)
    problems += _repetition_times(rows, study) + _header_faults(problems, len(scans))
    if not any(problem.code == "E-BIDS-A17" for problem in problems):
        whole = (problem for problem in problems if problem.severity == "EXCL" and not problem.outcomes)
        out = {(problem.participant_id, problem.session_id) for problem in whole}
        problems += _incomplete(dataset, study, scans, out=out)
    table, more = _without_short_sessions(pd.DataFrame(rows, columns=list(bids.RUN_COLUMNS)), study)
    problems += more
    if table.empty and not any(problem.severity == "STOP" for problem in choices):
        problems.append(_nothing_left(everything, study))
    return in_visit_order(table, [session.id for session in study.sessions]), problems


def in_visit_order(table: pd.DataFrame, sessions: Sequence[str]) -> pd.DataFrame:
    """Return the rows by person, visit in the order of the study, task and run."""
    visits = {label: number for number, label in enumerate(sessions)}
    keys = ["participant_id", "session_id", "task", "run"]
    return table.sort_values(
        keys, key=lambda column: column.map(visits) if column.name == "session_id" else column, kind="stable"
    ).reset_index(drop=True)


def find_scans(dataset: Dataset, study: Study) -> tuple[list[Scan], list[Problem]]:
    """Return the scans of the study's tasks and sessions, one image each, and the problems of the rest."""
    images, echoes = without_echoes(f for f in dataset.of("bold", *IMAGES) if "sub" in f.entities)
    candidates, problems = _of_the_study([_scan(file) for file in images], study)
    faulty = _ambiguous_sessions(dataset, candidates)
    problems += list(faulty.values())
    scans = [scan for scan in candidates if (scan.participant_id, scan.session_id) not in faulty]
    if study.preprocessing.engine == "fmriprep":
        return scans, problems  # it combines the echoes; its series is looked for under the first one's name
    problems += [_several_echoes(scan, echoes[scan.bold.path]) for scan in scans if scan.bold.path in echoes]
    return [scan for scan in scans if scan.bold.path not in echoes], problems


def _several_echoes(scan: Scan, echoes: list[str]) -> Problem:
    what = f"the series has {len(echoes)} echoes ({', '.join(echoes)}), which are not combined here"
    fix = (
        "let fMRIPrep combine them and take its series (`preprocessing: {engine: fmriprep, ...}`), or choose "
        'one echo, e.g. `filters: {bold: {echo: "2"}}`'
    )
    return Problem("EXCL", "E-BIDS-A25", what, fix, scan.bold.path, **scan.unit)


def _scan(file: BidsFile) -> Scan:
    given = file.entities
    return Scan(
        f"sub-{given['sub']}",
        given.get("ses", MISSING),
        given.get("task", MISSING),
        given.get("run", MISSING),
        file,
    )


def _of_the_study(everything: list[Scan], study: Study) -> tuple[list[Scan], list[Problem]]:
    """Scans of declared tasks and sessions; the others are counted, not read."""
    kept = [scan for scan in everything if scan.task in study.tasks]
    others = Counter(f"task {scan.task}" for scan in everything if scan.task not in study.tasks)
    problems = _levels(kept, study)
    sessions = {session.id for session in study.sessions}
    if sessions & {scan.session_id for scan in kept}:
        others += Counter(f"session {scan.session_id}" for scan in kept if scan.session_id not in sessions)
        kept = [scan for scan in kept if scan.session_id in sessions]
    return kept, problems + [
        Problem(
            "WARN",
            "W-BIDS-A18",
            f"{number} scan{'s' * (number > 1)} of {name} left alone: not in the study file",
            "no action is needed if it is not wanted; else declare it in config/config.yaml",
        )
        for name, number in sorted(others.items())
    ]


def _levels(scans: list[Scan], study: Study) -> list[Problem]:
    """Sessions of the data and of the study file must be of one kind."""
    found = sorted({scan.session_id for scan in scans})
    declared = [session.id for session in study.sessions]
    if MISSING in found and len(found) > 1:
        bare = next(scan.bold.path for scan in scans if scan.session_id == MISSING)
        what, fix = "some scans lie in a session, this one does not", "put every scan into a session"
        return [Problem("STOP", "E-BIDS-A17", what, fix, bare)]
    if scans and not (set(found) & set(declared or [MISSING])):
        in_data = "no sessions" if found == [MISSING] else f"the sessions {found}"
        what = f"the data have {in_data}, the study file {declared or 'none'}"
        return [
            Problem("STOP", "E-BIDS-A17", what, "correct `sessions` (labels in quotes)", "config/config.yaml")
        ]
    return []


def _ambiguous_sessions(dataset: Dataset, scans: list[Scan]) -> dict[tuple[str, str], Problem]:
    """Sessions in which two images claim the same run, or the same T1w."""
    claims: dict[tuple[str, ...], list[BidsFile]] = defaultdict(list)
    for scan in scans:
        what = f"run {scan.number} of task {scan.task}"
        claims[scan.participant_id, scan.session_id, what].append(scan.bold)
    for file in dataset.of("T1w", *IMAGES):
        entities = [f"{key}-{label}" for key, label in file.identity.items() if key not in ("sub", "ses")]
        what = " ".join(["the T1w", *entities])
        claims[f"sub-{file.entities['sub']}", file.entities.get("ses", MISSING), what].append(file)
    return {
        (person, session): Problem(
            "EXCL",
            "E-BIDS-A05",
            f"{' and '.join(file.path for file in files)} are both {what}",
            f"keep one of them{_by_filter(files)}",
            files[0].folder,
            person,
            session,
        )
        for (person, session, what), files in claims.items()
        if len(files) > 1
    }


def _by_filter(files: list[BidsFile]) -> str:
    """How a filter of the study file tells images of one run apart, where an entity does."""
    keys = [
        key
        for key in {key: None for file in files for key in file.entities}
        if len({file.identity.get(key) for file in files}) > 1
    ]
    if not keys:
        return ""
    labels = ", ".join(str(file.entities.get(keys[0], "null")) for file in files)
    return f", or choose by `filters: {{{files[0].suffix}: {{{keys[0]}: ...}}}}` in the study file ({labels})"


def _without_images(everything: Dataset, dataset: Dataset, study: Study) -> list[Problem]:
    """Runs whose events or sidecar lie in `func` while their image does not."""
    sessions = {session.id for session in study.sessions} or {MISSING}
    images = [file for file in everything.of("bold", *IMAGES) if "sub" in file.entities]
    present = {_scan(file).key for file in images}
    near: dict[str, list[BidsFile]] = defaultdict(list)
    for file in images:
        near[file.folder].append(file)
    found = {}
    for file in [*dataset.of("events", ".tsv"), *dataset.of("bold", ".json")]:
        if not file.folder.endswith("func") or file.entities.get("task") not in study.tasks:
            continue
        scan = _scan(file)
        if scan.key in present or scan.session_id not in sessions:
            continue
        if any(file.identity.items() <= image.identity.items() for image in near[file.folder]):
            continue  # inherited by runs that are there
        what, fix = "its image is absent", "copy or fetch the image (`datalad get`), or delete this file"
        found[scan.key] = Problem("EXCL", "E-BIDS-A15", what, fix, file.path, **scan.unit)
    return list(found.values())


def _excluded(scan: Scan, fault: DataFault) -> Problem:
    return Problem("EXCL", fault.code, fault.reason, fault.fix, fault.file or scan.bold.path, **scan.unit)


def _row(
    dataset: Dataset,
    study: Study,
    scan: Scan,
    anatomy: dict[Session, BidsFile],
    digest: Callable[[Path], str],
) -> tuple[dict[str, Any], list[Problem]]:
    """The row of one scan, and remarks on it; a DataFault takes the scan out."""
    bids.require_readable(dataset.root, scan.bold.path)
    tr = _repetition_time(dataset, scan)
    header = _header(dataset.root, scan.bold.path, tr)
    if study.preprocessing.slice_timing:
        slice_times(_metadata(dataset, scan.bold), header.shape[:3], tr)
    unused = _field_map(dataset, study, scan, header)
    t1w = _anatomy(dataset, study, scan, anatomy)
    events = _events(dataset, scan, study.tasks[scan.task])
    physio, more = _recording(dataset, study, scan)
    files = {"bold": scan.bold.path, "t1w": t1w, "events": events, "physio": physio}
    hashes = {
        f"{name}_sha256": MISSING if path == MISSING else digest(dataset.root / path)
        for name, path in files.items()
    }
    row = {**scan.unit, **files, "tr": tr, "n_volumes": header.n_volumes, **hashes, "header": header}
    return row, more + unused


def _field_map(dataset: Dataset, study: Study, scan: Scan, header: Header) -> list[Problem]:
    """A remark where field maps lie beside a run and none is meant for it; an incomplete one is a fault."""
    settings, wanted = study.preprocessing, study.filters.fmap
    if settings.distortion == "none":
        return []
    root, path, sidecar = dataset.root, scan.bold.path, _metadata(dataset, scan.bold)
    found = fieldmap_of(root, path, sidecar, wanted=wanted, readout_time=settings.readout_time)
    for image in found.files.values() if found else []:
        bids.require_readable(root, image)
    if found:
        check_readout(found.completed(sidecar), header.shape)
        if found.readout_time == settings.readout_time:
            return []
        what = "TotalReadoutTime is absent here and in its field map; both are taken to be read out alike"
        fix = "no action is needed if they are, else give `preprocessing.readout_time`"
        return [Problem("WARN", "W-BIDS-B19", what, fix, path, **scan.unit)]
    beside = fieldmap_files(root, path, wanted)
    if not beside:
        return []
    what = f"none of the {len(beside)} images in fmap is meant for this run, so its distortion stays"
    what += f" ({intentions(root, path, wanted)})"
    fix = "name the run in their IntendedFor (or B0FieldIdentifier), or set `preprocessing.distortion: none`"
    return [Problem("WARN", "W-BIDS-B17", what, fix, path, **scan.unit)]


def _without_field_map(dataset: Dataset, study: Study, scans: list[Scan]) -> list[Problem]:
    """Runs without a field map where others have one: they are distorted, the others are not."""
    if study.preprocessing.distortion == "none":
        return []
    wanted = study.filters.fmap
    without = [scan for scan in scans if not fieldmap_files(dataset.root, scan.bold.path, wanted)]
    if not 0 < len(without) < len(scans):
        return []
    what = f"{len(without)} of {len(scans)} scans have no field map ({without[0].bold.path} is the first)"
    fix = "no action is needed, or set `preprocessing.distortion: none` so that all are alike"
    return [Problem("WARN", "W-BIDS-B18", f"{what}; they stay distorted, the others do not", fix)]


def _repetition_time(dataset: Dataset, scan: Scan) -> float:
    """RepetitionTime in s from the inherited sidecars."""
    metadata = _metadata(dataset, scan.bold)
    value = metadata.get("RepetitionTime")
    if value is None:
        searched = " < ".join(_chain(scan.bold))
        raise DataFault(
            "E-BIDS-A09", f"no RepetitionTime; searched {searched}", fix="write it into the sidecar, in s"
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_TR:
        hint = "; it looks like milliseconds" if isinstance(value, int | float) and value > MAX_TR else ""
        reason = f"RepetitionTime is {value!r}{hint}, expected s between 0 and {MAX_TR:g}"
        raise DataFault("E-BIDS-A09", reason, fix="write it in seconds, e.g. 2.0")
    return float(value)


def _metadata(dataset: Dataset, file: BidsFile) -> dict[str, Any]:
    return bids.merged_sidecars(dataset.root, file, dataset.near(f"sub-{file.entities['sub']}"))


def _chain(file: BidsFile) -> list[str]:
    """Where a sidecar of `file` may lie, the most specific place first."""
    own = file.path.removesuffix(file.ext) + ".json"
    shared = (
        f"task-{file.entities['task']}_{file.suffix}.json"
        if "task" in file.entities
        else f"{file.suffix}.json"
    )
    subject = f"sub-{file.entities['sub']}"
    session = [f"{subject}/ses-{file.entities['ses']}"] if "ses" in file.entities else []
    return [own, *(f"{folder}/{folder.replace('/', '_')}_{shared}" for folder in [*session, subject]), shared]


def _read_header(root: Path, path: str) -> Header:
    try:
        return read_header(root / path)
    except ValueError as error:
        fix = "copy the file again, or convert the series again from DICOM"
        raise DataFault("E-BIDS-B01", str(error), fix=fix, file=path) from None


def _header(root: Path, path: str, tr: float) -> Header:
    """The header of an image; its repetition time must be that of the sidecar, s."""
    header = _read_header(root, path)
    if header.n_volumes > 1 and header.tr > 0 and abs(header.tr - tr) > TR_TOLERANCE:
        reason = f"the header says {header.step:g} {header.unit} per volume, the sidecar {tr:g} s"
        raise DataFault(
            "E-BIDS-B02", reason, fix="find out which holds (scanner protocol) and correct the other"
        )
    return header


def _anatomy(dataset: Dataset, study: Study, scan: Scan, chosen: dict[Session, BidsFile]) -> str:
    """The T1w of the session, else the person's earliest one."""
    order = {session.id: number for number, session in enumerate(study.sessions)}
    own = {session: file for (person, session), file in chosen.items() if person == scan.participant_id}
    if not own:
        reason = f"{scan.participant_id} has no T1w image"
        fix = "add one (anat/..._T1w.nii.gz), correct filters.T1w, or leave the person out"
        raise DataFault("E-BIDS-A14", reason, fix=fix)
    nearest = min(
        own, key=lambda session: (session != scan.session_id, order.get(session, len(order)), session)
    )
    path = own[nearest].path
    bids.require_readable(dataset.root, path)
    _read_header(dataset.root, path)
    return path


def _events(dataset: Dataset, scan: Scan, task: Task) -> str:
    """The events of a run, the most specific table; a task without conditions needs none."""
    near = dataset.near(scan.participant_id)
    tables = bids.inherited(scan.bold, near, suffix="events", ext=".tsv")
    if not task.conditions:
        return tables[-1].path if tables and (dataset.root / tables[-1].path).is_file() else MISSING
    if not tables:
        beside = [
            PurePosixPath(f.path).name for f in near if f.suffix == "events" and f.folder == scan.bold.folder
        ]
        hint = f" (beside it lies {beside[0]}, whose name says another run)" if beside else ""
        reason = f"no events.tsv, though task {scan.task} has conditions{hint}"
        raise DataFault("E-BIDS-B14", reason, fix="add the events of this very run")
    path = tables[-1].path
    try:
        read_table(dataset.root / path, required=["onset", "duration", task.column])
    except (ValueError, OSError) as error:
        fix = "correct that line of the table"
        if isinstance(error, ValueError) and "are missing" in str(error):
            fix = f"add them, or name the column of the trial types: tasks.{scan.task}.column"
        raise bids.unusable(error, dataset.root, path, fix) from None
    return path


def _recording(dataset: Dataset, study: Study, scan: Scan) -> tuple[str, list[Problem]]:
    """The physiological recording of a run that holds the study's column; a remark when there is none."""
    settings, own = study.skin_conductance, scan.bold.identity.items()
    found = [
        file
        for file in dataset.by_subject[scan.participant_id]
        if (file.suffix, file.ext) == ("physio", ".tsv.gz")
        and file.identity.items() - {("recording", file.identity.get("recording", ""))} <= own
        and {"sub", "ses", "task"} & scan.bold.entities.keys() <= file.entities.keys()
        and file.identity.get("run", "1") == scan.number
    ]
    if not settings or settings.task != scan.task:
        readable = [file.path for file in found if (dataset.root / file.path).is_file()]
        return (readable[0] if readable else MISSING), []
    fitting, others = [], []
    try:
        for file in found:
            named = _metadata(dataset, file).get("Columns")
            fits = isinstance(named, list) and settings.column in named
            fitting += [file] if fits else []
            others += [] if fits else [f"; {file.path} has {_brief(named)}"]
        if len(fitting) > 1:
            paths = " and ".join(file.path for file in fitting)
            what, fix = f"{paths} both have the column {settings.column!r}", "keep one of them"
            raise DataFault("E-BIDS-A05", what, fix=fix + _by_filter(fitting))
        if fitting:
            bids.require_readable(dataset.root, fitting[0].path)
            return fitting[0].path, []
    except DataFault as fault:
        missing = " ".join(f"scr.{name}" for name in settings.conditions)
        reason = f"{fault.reason}, so the run has no skin conductance"
        where = fault.file or scan.bold.path
        return MISSING, [Problem("EXCL", fault.code, reason, fault.fix, where, **scan.unit, outcomes=missing)]
    what = f"no recording with the column {settings.column!r}, so no skin conductance{''.join(others)}"
    fix = "no action is needed if there is none; else name the column in the recording's JSON (`Columns`)"
    return MISSING, [Problem("WARN", "W-BIDS-B15", what, fix, scan.bold.path, **scan.unit)]


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _without_cut_runs(rows: list[dict[str, Any]], study: Study) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the rows with about as many volumes as their siblings, and a problem per run that was cut short.

    Siblings are the other runs of one task, run label and repetition time, of all people and sessions; their
    median counts.
    """
    families: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        run = "1" if row["run"] == MISSING else bids.number_of(row["run"])
        families[row["task"], run, round(row["tr"], 3)].append(row)
    problems, cut = [], []
    for family in families.values():
        for row in family:
            others = [other["n_volumes"] for other in family if other is not row]
            usual, limit = float(np.median(others or [0])), study.tasks[row["task"]].max_shortfall
            if row["n_volumes"] >= (1 - limit) * usual:
                continue
            what = (
                f"{row['n_volumes']} volumes, {100 * (1 - row['n_volumes'] / usual):.0f} % fewer than the "
                f"{usual:g} of its siblings (tasks.{row['task']}.max_shortfall {100 * limit:g} %)"
            )
            fix = "find the rest of the run, or raise max_shortfall"
            problems.append(Problem("EXCL", "E-BIDS-B05", what, fix, row["bold"], **_unit_of(row)))
            cut.append(row["bold"])
    return [row for row in rows if row["bold"] not in cut], problems


def _without_shared_images(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the rows whose images are of one person, and a problem per scan whose image is another's too.

    Whose it is only the lab can tell. Copies within a person are left alone: they mix up nobody. So is an
    image of more than half of the people, which is no mix-up but a phantom, or a trial of the software.
    """
    n_people = len({row["participant_id"] for row in rows})
    owners: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for row in rows:
        for kind in ("bold", "t1w"):
            owners[kind, row[f"{kind}_sha256"]].setdefault(row["participant_id"], row[kind])
    problems, kept = [], []
    for row in rows:
        claims = {kind: owners[kind, row[f"{kind}_sha256"]] for kind in ("bold", "t1w")}
        shared = next((kind for kind, claim in claims.items() if 1 < len(claim) <= n_people / 2), None)
        if shared is None:
            kept.append(row)
            continue
        what = f"one image, byte for byte, serves {len(claims[shared])} people: "
        fix = "find out whose it is (DICOM series), and copy the others anew"
        what += " and ".join(claims[shared].values())
        problems.append(Problem("EXCL", "E-BIDS-A30", what, fix, row[shared], **_unit_of(row)))
    return kept, problems


def _geometry(rows: list[dict[str, Any]]) -> list[Problem]:
    """Runs of one session and task on another grid than the first, and images of the rarer handedness."""
    firsts: dict[tuple[str, ...], dict[str, Any]] = {}
    problems = []
    for row in rows:
        first = firsts.setdefault((row["participant_id"], row["session_id"], row["task"]), row)
        here, there = ((item["header"].shape[:3], item["header"].affine) for item in (row, first))
        apart = corner_distance(here, there)
        if here[0] != there[0] or apart > MOVED_MM:
            what = f"not on the grid of {first['bold']}: {here[0]} and {there[0]} voxels, corners "
            what += f"{apart:.1f} mm apart; each run is placed in the T1w on its own"
            fix = "no action is needed if the person was repositioned"
            problems.append(Problem("WARN", "W-BIDS-B06", what, fix, row["bold"], **_unit_of(row)))
    flipped = [row for row in rows if row["header"].flipped]
    rare = flipped if len(flipped) <= len(rows) / 2 else [row for row in rows if not row["header"].flipped]
    return problems + [
        Problem(
            "WARN",
            "W-BIDS-B07",
            f"left and right are stored the other way round than in {len(rows) - len(rare)} other runs",
            "compare with the DICOM series: a flip cannot be seen in the image",
            row["bold"],
            **_unit_of(row),
        )
        for row in rare
    ]


def _unit_of(row: dict[str, Any]) -> dict[str, str]:
    return {key: row[key] for key in ("participant_id", "session_id", "task", "run")}


def _repetition_times(rows: list[dict[str, Any]], study: Study) -> list[Problem]:
    """Runs of one task share their repetition time, unless the study file allows otherwise."""
    problems = []
    for name, task in study.tasks.items():
        runs = [row for row in rows if row["task"] == name]
        times = Counter(round(row["tr"], 3) for row in runs)
        if len(times) < 2 or task.mixed_tr:
            continue
        rare = min(times, key=lambda tr: (times[tr], tr))
        first = next(row["bold"] for row in runs if round(row["tr"], 3) == rare)
        counted = ", ".join(f"{tr:g} s in {number}" for tr, number in sorted(times.items()))
        what = f"the repetition time of task {name} differs between runs: {counted}"
        fix = f"correct the sidecar, take the run out, or set tasks.{name}.mixed_tr: true"
        problems.append(Problem("STOP", "E-BIDS-A10", what, fix, first))
    return problems


def _header_faults(problems: list[Problem], n_scans: int) -> list[Problem]:
    """A fifth of the runs with contradicting repetition times is a fault of the conversion, not of a run."""
    faulty = [problem for problem in problems if problem.code == "E-BIDS-B02"]
    if len(faulty) <= 0.2 * n_scans:
        return []
    what = f"header and sidecar disagree on the repetition time in {len(faulty)} of {n_scans} scans"
    return [replace(faulty[0], severity="STOP", what=f"{what}; here {faulty[0].what}")]


def _incomplete(
    dataset: Dataset, study: Study, scans: list[Scan], *, out: set[tuple[str, str]]
) -> list[Problem]:
    """Sessions without a scan (and not `out` already), and tasks with fewer runs than usual at that visit."""
    sessions = [session.id for session in study.sessions] or [MISSING]
    counts = Counter((scan.participant_id, scan.session_id, scan.task) for scan in scans)
    people = [person for person in dataset.participants if (dataset.root / person).is_dir()]
    problems: list[Problem] = []
    for session in sessions:
        usual = {
            task: Counter(counts[person, session, task] for person in people).most_common(1)[0][0]
            for task in (study.tasks if people else ())
        }
        for person in people:
            if not any(counts[person, session, task] for task in study.tasks):
                problems += [] if (person, session) in out else [_no_scan(person, session)]
                continue
            problems += [
                _fewer_runs(person, session, task, n_runs=counts[person, session, task], usual=usual[task])
                for task in study.tasks
                if counts[person, session, task] < usual[task]
            ]
    return problems


def _no_scan(person: str, session: str) -> Problem:
    where = f" in session {session}" if session != MISSING else ""
    what = f"{person} has no usable scan{where}"
    return Problem(
        "WARN", "W-BIDS-A07", what, "no action is needed if the visit was missed", person, person, session
    )


def _fewer_runs(person: str, session: str, task: str, *, n_runs: int, usual: int) -> Problem:
    where = f" in session {session}" if session != MISSING else ""
    what = f"{person} has {n_runs} of {usual} runs of task {task}{where}"
    return Problem(
        "WARN",
        "W-BIDS-A08",
        what,
        "no action is needed if it was not acquired; else add the run",
        person,
        person,
        session,
        task,
    )


def _without_short_sessions(table: pd.DataFrame, study: Study) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the rows whose session has at least `min_runs` usable runs of their task, and who falls out."""
    n_runs = table.groupby(["participant_id", "session_id", "task"])["bold"].transform("size")
    limits = table["task"].map({name: task.min_runs for name, task in study.tasks.items()})
    short = (n_runs < limits).to_numpy(dtype=bool)
    problems = []
    for row in table[short].itertuples():
        limit = study.tasks[str(row.task)].min_runs
        what = (
            f"its session has fewer usable runs of task {row.task} than tasks.{row.task}.min_runs = {limit}"
        )
        unit = {key: str(getattr(row, key)) for key in ("participant_id", "session_id", "task", "run")}
        fix = "add the missing run, or lower min_runs"
        problems.append(Problem("EXCL", "E-BIDS-A08", what, fix, str(row.bold), **unit))
    return table[~short], problems


def _nothing_left(dataset: Dataset, study: Study) -> Problem:
    images = [_scan(file) for file in dataset.of("bold", *IMAGES) if "sub" in file.entities]
    n_scans = len({scan.key for scan in images if scan.task in study.tasks})
    if n_scans:
        what = f"all {n_scans} scans are out, so nothing is left to analyse"
        return Problem("STOP", "E-BIDS-A16", what, "see what the other lines name", dataset.root.name)
    found = sorted({f.entities["task"] for f in dataset.files if "task" in f.entities})
    what = f"no functional image of the tasks {list(study.tasks)}; files name the tasks {found}"
    fix = "correct `tasks` in the study file, or fetch the images"
    return Problem("STOP", "E-BIDS-A16", what, fix, dataset.root.name)


def write_index(folder: Path, root: Path, table: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    """Return the run table, written into `folder` with `exclusions.tsv` and `index.json` (the listing).

    Rows of an earlier `exclusions.tsv` whose `decided_by` is not automatic are kept and heeded.
    """
    path = folder / "exclusions.tsv"
    decided = by_hand(read_exclusions(path)) if path.is_file() else []
    kept = keep_decisions(table, decided)
    rows = list(dict.fromkeys([*exclusions_of(problems), *decided]))
    write_exclusions(path, rows)
    files: dict[str, dict[str, Any]] = {}
    for name, size in bids.list_files(root).items():
        files[name] = {"size": size}
        if 0 <= size <= bids.SMALL or (size >= 0 and "/fmap/" in name):
            files[name]["sha256"] = bids.sha256(root / name)
    record = {"files": files, "automatic_exclusions": digest_of_automatic(read_exclusions(path))}
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (folder / "index.json").write_text(text, encoding="utf-8")
    bids.write_run_table(folder / "runs.tsv", kept)
    return kept
