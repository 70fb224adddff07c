"""One row of the run table: header, sidecars, anatomy, events and recording of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from reconfmri import bids
from reconfmri.acquisition import check_readout, slice_times
from reconfmri.bids import BidsFile
from reconfmri.channels import columns_of
from reconfmri.config import Channel, Study, Task
from reconfmri.dataset import Dataset
from reconfmri.exclusions import MISSING, DataFault
from reconfmri.fieldmaps import fieldmap_files, fieldmap_of, intentions
from reconfmri.headers import Header, read_header
from reconfmri.indexing.scans import MAX_TR, TR_TOLERANCE, Scan, told_apart_by
from reconfmri.problems import Problem
from reconfmri.selection import Session
from reconfmri.tables import read_table


def row_of(
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
        f"{name}_sha256": " ".join(digest(dataset.root / one) for one in bids.paths_in(path)) or MISSING
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


def without_field_map(dataset: Dataset, study: Study, scans: list[Scan]) -> list[Problem]:
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
    """The recordings of a run, those that a section of the study scores; a remark where one is missing."""
    own = scan.bold.identity.items()
    found = [
        file
        for file in dataset.by_subject[scan.participant_id]
        if (file.suffix, file.ext) == ("physio", ".tsv.gz")
        and file.identity.items() - {("recording", file.identity.get("recording", ""))} <= own
        and {"sub", "ses", "task"} & scan.bold.entities.keys() <= file.entities.keys()
        and file.identity.get("run", "1") == scan.number
    ]
    wanted = [channel for channel in study.channels if channel.task == scan.task]
    if not wanted:
        readable = [file.path for file in found if (dataset.root / file.path).is_file()]
        return (readable[0] if readable else MISSING), []
    chosen: list[str] = []
    problems: list[Problem] = []
    for channel in wanted:
        try:
            path = _with_channel(dataset, found, channel)
        except DataFault as fault:
            missing = " ".join(channel.outcomes)
            reason = f"{fault.reason}, so the run has no {channel.what}"
            where = fault.file or scan.bold.path
            problems.append(
                Problem("EXCL", fault.code, reason, fault.fix, where, **scan.unit, outcomes=missing)
            )
            continue
        chosen += [path] if path else []
        problems += [] if path else [_no_channel(dataset, found, scan, channel)]
    return " ".join(dict.fromkeys(chosen)) or MISSING, problems


def _with_channel(dataset: Dataset, found: list[BidsFile], channel: Channel) -> str:
    """The path of the only recording with a channel; nothing where none has it."""
    fitting = [file for file in found if _has(_metadata(dataset, file), channel)]
    if len(fitting) > 1:
        paths = " and ".join(file.path for file in fitting)
        named = f"column {channel.column!r}" if channel.column else channel.what
        what, fix = f"{paths} both have the {named}", "keep one of them"
        raise DataFault("E-BIDS-A05", what, fix=fix + told_apart_by(fitting))
    if fitting:
        bids.require_readable(dataset.root, fitting[0].path)
    return fitting[0].path if fitting else ""


def _has(sidecar: Mapping[str, Any], channel: Channel) -> bool:
    """Whether a recording has a channel; one of several that could be it is for its own step to name."""
    columns = sidecar.get("Columns")
    return isinstance(columns, list) and bool(columns_of(sidecar, channel.kind, channel.column))


def _no_channel(dataset: Dataset, found: list[BidsFile], scan: Scan, channel: Channel) -> Problem:
    others = "".join(f"; {file.path} has {_brief(_metadata(dataset, file).get('Columns'))}" for file in found)
    named = f"the column {channel.column!r}" if channel.column else f"a column of {channel.what}"
    what = f"no recording with {named}, so no {channel.what}{others}"
    fix = "no action is needed if there is none; else name the column in the recording's JSON (`Columns`)"
    return Problem("WARN", "W-BIDS-B15", what, fix, scan.bold.path, **scan.unit)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
