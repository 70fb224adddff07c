"""fMRIPrep's outputs: which files belong to a scan, in every generation of their names, and who made them.

Names: https://fmriprep.org/en/stable/outputs.html; from 1.2 (2018) on they are those of BIDS Derivatives.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from reconfmri import bids, nuisance
from reconfmri.bids import BidsFile
from reconfmri.config import Container, Fmriprep, Study
from reconfmri.exclusions import DataFault
from reconfmri.problems import Problem
from reconfmri.templates import SPACE

IMAGES = (".nii.gz", ".nii")
# Entities that tell one output of a scan from another; the rest say which scan it is.
OF_OUTPUTS = {"space", "cohort", "res", "den", "desc", "from", "to", "mode", "hemi", "label", "stat"}
PARTS_OF_A_SCAN = ("echo", "part")
NATIVE = "native"
NO_VALUE = ("n/a", "", "nan", "NaN")
CONFOUNDS = ("timeseries", "regressors")  # from 20.2 on, before
AGAIN = f"run fMRIPrep for this participant again, with --output-spaces {SPACE}:res-2"
CONFIG = "config/config.yaml"
VERSION_IN_REPORT = re.compile(rb"fMRIPrep version:\s*(?:</[a-z]+>\s*)?v?([0-9][0-9A-Za-z.+-]*)")
MAX_SHOWN = 5
# What its makers say of some versions.
FLAWS = {
    "1.5.0": "its makers flagged it as unstable",
    **dict.fromkeys(
        ("20.1.0", "20.1.1", "20.1.2", "20.1.3", "20.2.0", "20.2.1"),
        "series may be misplaced in the template (nipreps/fmriprep 2307, fixed in 20.1.4 and 20.2.2)",
    ),
    **dict.fromkeys(
        ("25.1.0", "25.1.1", "25.1.2", "25.1.3", "25.1.4"),
        "the interpolation made artefacts in some data (release notes of 25.2.0)",
    ),
}


@dataclass(frozen=True)
class FmriprepRun:
    """The outputs of one scan in MNI152NLin2009cAsym; what some versions do not write may be None."""

    bold: Path
    mask: Path
    confounds: Path
    t1w: Path
    boldref: Path | None = None
    dseg: Path | None = None
    aseg: Path | None = None
    facts: Path | None = None  # JSON of the confounds
    sidecar: Path | None = None  # JSON of the bold

    @property
    def files(self) -> list[Path]:
        """All that are there."""
        return [path for path in vars(self).values() if path is not None]


def place_of(folder: Path, derivatives: str) -> Path:
    """Return the folder that holds `sub-*`; before 21.0 fMRIPrep made a folder `fmriprep` in its output."""
    root = folder / Path(derivatives).expanduser()
    inner = root / "fmriprep"
    return inner if inner.is_dir() and not any(root.glob("sub-*")) else root


def find_run(root: Path, raw: str, *, res: str | None = None) -> FmriprepRun:
    """Return fMRIPrep's outputs of the raw series at `raw`, a path in the raw dataset.

    `res` names the resolution where there are several. Anatomy is the session's own, else the person's, else
    that of another session, in the order of their labels.

    Raises
    ------
    DataFault
        An output is missing or empty (E-BIDS-A21); several could be meant, or only echoes or parts of the
        series are there (E-BIDS-A22); the names are those of 1.0 and 1.1 (E-BIDS-A23).
    """
    scan = bids.parse_name(raw)
    folder = PurePosixPath(raw).parent
    _refuse_old_names(root / folder, scan)
    mine = [file for file in _files_of(root / folder) if _identity(file) == _identity(scan)]
    bold = _of_resolution(_whole_series(mine, scan), res, scan)
    if bold is None:
        raise _missing(scan, ["preprocessed series"], mine)
    same = [file for file in mine if _is_whole(file)]
    exact = {"space": SPACE, "res": bold.entities.get("res")}
    anat = _anatomy(root, scan, exact["res"])
    found = {
        "preprocessed series": bold,
        "brain mask": _only(same, scan, "mask", desc="brain", **exact),
        "confounds": _confounds(same, scan),
        "T1w": _only(anat, scan, "T1w", desc="preproc", space=SPACE),
    }
    missing = [name for name, file in found.items() if file is None]
    if missing:
        raise _missing(scan, missing, mine)
    given = {name: _sound(root, file) for name, file in found.items() if file}
    return FmriprepRun(
        bold=given["preprocessed series"],
        mask=given["brain mask"],
        confounds=given["confounds"],
        t1w=given["T1w"],
        boldref=_if_any(root, _only(same, scan, "boldref", **exact)),
        dseg=_if_any(root, _only(anat, scan, "dseg", space=SPACE)),
        aseg=_if_any(root, _only(same, scan, "dseg", desc="aseg", **exact)),
        facts=_beside(given["confounds"]),
        sidecar=_beside(given["preprocessed series"]),
    )


def files_of_run(folder: Path, settings: Fmriprep, raw: str) -> list[Path]:
    """Return the files that a run is taken over from; none where `find_run` has a fault to tell."""
    try:
        return find_run(place_of(folder, settings.derivatives), raw, res=settings.res).files
    except DataFault:
        return []  # told per scan by `check_fmriprep`, and recorded by the step that adopts the run


@dataclass(frozen=True)
class FmriprepAnatomy:
    """The T1w of a scan in MNI152NLin2009cAsym with its brain mask and tissue; None where there is none."""

    t1w: Path | None
    mask: Path | None
    dseg: Path | None

    @property
    def files(self) -> list[Path]:
        """All that are there."""
        return [path for path in vars(self).values() if path is not None]


def find_anatomy(root: Path, raw: str, *, res: str | None = None) -> FmriprepAnatomy:
    """Return the anatomy that a scan is taken over with, as `find_run` chooses it.

    Raises
    ------
    DataFault
        A file is empty (E-BIDS-A21), or two could be meant (E-BIDS-A22).
    """
    scan = bids.parse_name(raw)
    files = _anatomy(root, scan, None if res == NATIVE else res)
    return FmriprepAnatomy(
        t1w=_if_any(root, _only(files, scan, "T1w", desc="preproc", space=SPACE)),
        mask=_if_any(root, _only(files, scan, "mask", desc="brain", space=SPACE)),
        dseg=_if_any(root, _only(files, scan, "dseg", space=SPACE)),
    )


def files_of_anatomy(folder: Path, settings: Fmriprep, raw: str) -> list[Path]:
    """Return the files that a scan's anatomy is taken over from; none where one is faulty."""
    try:
        return find_anatomy(place_of(folder, settings.derivatives), raw, res=settings.res).files
    except DataFault:
        return []  # the step that takes it over tells why


def has_anatomy_per_session(folder: Path, settings: Fmriprep) -> bool:
    """Whether somebody has a T1w in the template's space in more than one session."""
    if settings.container:
        return False  # fMRIPrep makes one of all sessions
    root, name = place_of(folder, settings.derivatives), f"*_space-{SPACE}*_desc-preproc_T1w.nii*"
    return any(
        len({image.parent for image in person.glob(f"ses-*/anat/{name}")}) > 1
        for person in root.glob("sub-*")
    )


def grid_image(folder: Path, study: Study, series: Iterable[str]) -> Path | None:
    """Return an image on the grid of all series: TemplateFlow's for a container, else a mask of the first.

    None where no raw series has usable outputs.
    """
    settings = study.preprocessing.fmriprep or Fmriprep()
    if settings.container:
        return template_grid(study)
    found = (files_of_run(folder, settings, raw) for raw in series)
    return next((files[1] for files in found if files), None)


def versions_of(root: Path, person: str, *, last: bool = False) -> list[str]:
    """Return the versions of fMRIPrep that made a person's outputs; none when nothing tells.

    Its logs tell, else the report, else the dataset's description. With `last` only the last log counts: a
    container's job makes all outputs of a person anew, and leaves the logs of earlier ones.
    """
    logs = [*root.glob(f"{person}/log/*/fmriprep.toml"), *root.glob(f"{person}/ses-*/log/*/fmriprep.toml")]
    logs = sorted(logs, key=lambda log: log.parent.name)[-1 if last else 0 :]
    found = {version for log in logs if (version := _version_in_log(log))}
    found = found or _versions_in_report(root / f"{person}.html")
    return sorted(found or _versions_in_description(root))


def check_fmriprep(folder: Path, study: Study, table: pd.DataFrame, *, full: bool = False) -> list[Problem]:
    """Return every problem of fMRIPrep's outputs for the scans of the run table, or of the container.

    `full` opens every series, to see that all are on one grid.
    """
    settings = study.preprocessing.fmriprep
    if settings is None:
        return []
    root = place_of(folder, settings.derivatives)
    people = list(dict.fromkeys(table["participant_id"]))
    versions = _check_versions(root, people, settings)
    if settings.container:
        return check_container(folder, study, settings.container) + versions
    if not root.is_dir():
        what, fix = "there is no such folder", "correct preprocessing.fmriprep.derivatives"
        return [Problem("STOP", "E-BIDS-A21", what, fix, settings.derivatives)]
    found, problems = _scans(root, table, settings)
    if len(table) and not found:
        what = f"none of the {len(table)} scans has usable outputs"
        fix = "see the lines above; correct preprocessing.fmriprep.derivatives"
        problems.append(Problem("STOP", "E-BIDS-A21", what, fix, settings.derivatives))
    empty = _empty_columns(found, study, dict(zip(table["bold"], table["task"], strict=True)))
    return problems + versions + empty + (_grids(found) if full else [])


def check_container(folder: Path, study: Study, container: Container) -> list[Problem]:
    """Return a STOP for everything that a container job would miss."""
    problems = []

    def stop(what: str, fix: str, file: str) -> None:
        problems.append(Problem("STOP", "E-CONF-C08", what, fix, file))

    places = {name: folder / Path(path).expanduser() for name, path in container_places(study).items()}
    if shutil.which(container.runtime) is None:
        what = f"{container.runtime} is not on the PATH of this machine"
        stop(what, "load or install it, or correct preprocessing.fmriprep.container.runtime", CONFIG)
    local = container.runtime == "apptainer" and "://" not in container.image
    if local and not (folder / container.image).exists():
        fix = "`apptainer build fmriprep.sif docker://nipreps/fmriprep:<version>`, then name that file"
        stop("there is no such image", fix, container.image)
    if not _has_content(places["fs_license"]):
        fix = "get one at https://surfer.nmr.mgh.harvard.edu/registration.html"
        stop("FreeSurfer's licence is missing or empty", fix, str(places["fs_license"]))
    grid = folder / template_grid(study)
    if not _has_content(grid):
        fix = f"fetch it: `from templateflow import api; api.get({SPACE!r})`, with TEMPLATEFLOW_HOME set"
        stop("TemplateFlow does not hold the template", fix, str(grid))
    for path in places.values():
        if set(":,") & set(str(path.absolute())):
            stop("a container cannot be given a path with ':' or ','", "rename or move it", str(path))
    if places["bids"].resolve() in places["derivatives"].resolve().parents:
        fix = "correct preprocessing.fmriprep.derivatives"
        stop("fMRIPrep would write into the BIDS folder", fix, str(places["derivatives"]))
    return problems


def container_places(study: Study) -> dict[str, str]:
    """Return what a container job is given, as the study file writes it: relative to the study folder."""
    settings = study.preprocessing.fmriprep or Fmriprep()
    places = {"bids": study.bids, "derivatives": settings.derivatives}
    if settings.container:
        names = ("work", "fs_license", "templateflow")
        places |= {name: getattr(settings.container, name) for name in names}
    return places


def template_grid(study: Study) -> Path:
    """Return the template's image on whose grid a container is asked to write, from the study folder."""
    settings, name = study.preprocessing.fmriprep or Fmriprep(), f"tpl-{SPACE}"
    file = f"{name}_res-{int(settings.asked_res):02d}_desc-brain_mask.nii.gz"
    return Path(container_places(study).get("templateflow", "")).expanduser() / name / file


def _files_of(folder: Path) -> list[BidsFile]:
    """The well-named files of a folder, their paths absolute."""
    return _listed(folder, folder.stat().st_mtime_ns) if folder.is_dir() else []


@cache
def _listed(folder: Path, _date: int) -> list[BidsFile]:
    files = []
    for path in sorted(folder.iterdir()):
        try:
            files.append(bids.parse_name(str(path)))
        except ValueError:
            continue  # figures, hidden files and the names of 1.0, which `_refuse_old_names` looks for
    return files


def _number(label: str | None) -> str | None:
    """A label as fMRIPrep may have rewritten it: `01` as `1`."""
    return str(int(label)) if label and label.isdecimal() else label


def _identity(file: BidsFile) -> dict[str, str | None]:
    """The entities that say which scan a file belongs to."""
    return {
        key: _number(label) if key == "run" else label
        for key, label in file.entities.items()
        if key not in OF_OUTPUTS and key not in PARTS_OF_A_SCAN
    }


def _refuse_old_names(folder: Path, scan: BidsFile) -> None:
    stem = PurePosixPath(scan.path).name.removesuffix(scan.ext)
    old = [f"{stem}_confounds.tsv", f"{stem}_space-{SPACE}_preproc.nii.gz"]
    present = [name for name in old if (folder / name).exists()]
    if present:
        reason = f"made by fMRIPrep 1.0 or 1.1 ({present[0]}), whose outputs are not supported"
        raise DataFault("E-BIDS-A23", reason, fix=AGAIN, file=scan.path)


def _whole_series(mine: list[BidsFile], scan: BidsFile) -> list[BidsFile]:
    """The preprocessed series in the template's space; single echoes and parts are refused."""
    series = [f for f in mine if _is(f, "bold", desc="preproc", space=SPACE) and f.ext in IMAGES]
    whole = [file for file in series if _is_whole(file)]
    if series and not whole:
        named = sorted(
            {f"{key}-{f.entities[key]}" for f in series for key in PARTS_OF_A_SCAN if key in f.entities}
        )
        reason = f"fMRIPrep's outputs are of {' and '.join(named)} alone; a series of one signal is needed"
        fix = "let fMRIPrep combine the echoes, or give it the magnitude as the series"
        raise DataFault("E-BIDS-A22", reason, fix=fix, file=scan.path)
    return whole


def _is_whole(file: BidsFile) -> bool:
    """Whether a file is of the whole signal: no single echo, and no part but the magnitude."""
    return "echo" not in file.entities and file.entities.get("part", "mag") == "mag"


def _of_resolution(series: list[BidsFile], res: str | None, scan: BidsFile) -> BidsFile | None:
    """The series of the resolution asked for; without one there must be no choice."""
    known = {_number(file.entities.get("res", NATIVE)): file for file in series}
    if res is not None and series:
        if _number(res) not in known:
            reason = f"there is no res-{res}; fMRIPrep wrote the resolutions {sorted(map(str, known))}"
            fix = "correct preprocessing.fmriprep.res"
            raise DataFault("E-BIDS-A22", reason, fix=fix, file=scan.path)
        return known[_number(res)]
    if len(known) > 1:
        reason = f"fMRIPrep wrote several resolutions, {sorted(map(str, known))}"
        fix = f"choose one by preprocessing.fmriprep.res (`{NATIVE}` is the one without res-)"
        raise DataFault("E-BIDS-A22", reason, fix=fix, file=scan.path)
    return next(iter(known.values()), None)


def _anatomy(root: Path, scan: BidsFile, res: str | None) -> list[BidsFile]:
    """The files of the nearest anatomy in the template's space, the run's resolution before others."""
    person = root / f"sub-{scan.entities['sub']}"
    own = [person / f"ses-{scan.entities['ses']}"] if "ses" in scan.entities else []
    for home in [*own, person, *sorted(person.glob("ses-*"))]:
        files = _files_of(home / "anat")
        t1w = [file for file in files if _is(file, "T1w", desc="preproc", space=SPACE)]
        if t1w:
            by_res = {file.entities.get("res"): file for file in reversed(t1w)}
            chosen = by_res.get(res) or t1w[0]
            return [f for f in files if f.entities.get("res") == chosen.entities.get("res")]
    return []


def _is(file: BidsFile, suffix: str, **entities: str | None) -> bool:
    """Whether a file has this suffix, these entities, and no `desc` or `cohort` but one named here."""
    wanted = {"desc": None, "cohort": None, **entities}
    return file.suffix == suffix and all(file.entities.get(key) == label for key, label in wanted.items())


def _only(files: list[BidsFile], scan: BidsFile, suffix: str, **entities: str | None) -> BidsFile | None:
    """The image of this kind, the first by name of several T1w; none when there is none."""
    found = [file for file in files if file.ext in IMAGES and _is(file, suffix, **entities)]
    if len(found) > 1 and suffix not in ("T1w", "dseg"):
        raise _twice(scan, found)
    return found[0] if found else None


def _confounds(files: list[BidsFile], scan: BidsFile) -> BidsFile | None:
    found = [
        f for f in files if f.ext == ".tsv" and any(_is(f, name, desc="confounds") for name in CONFOUNDS)
    ]
    if len(found) > 1:
        raise _twice(scan, found)
    return found[0] if found else None


def _twice(scan: BidsFile, found: list[BidsFile]) -> DataFault:
    names = " and ".join(PurePosixPath(file.path).name for file in found)
    fix = "two runs of fMRIPrep wrote into one folder; keep the outputs of one"
    return DataFault("E-BIDS-A22", f"{names} could both be meant", fix=fix, file=scan.path)


def _missing(scan: BidsFile, missing: list[str], mine: list[BidsFile]) -> DataFault:
    spaces = sorted({file.entities["space"] for file in mine if "space" in file.entities})
    reason = f"fMRIPrep left no {' and no '.join(missing)} in {SPACE}"
    reason += f" (its outputs of this scan are in {', '.join(spaces)})" if spaces else ""
    return DataFault("E-BIDS-A21", reason, fix=AGAIN, file=scan.path)


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _sound(root: Path, file: BidsFile) -> Path:
    path = Path(file.path)
    if not _has_content(path):
        what = "the file is empty" if path.is_file() else "the link leads nowhere"
        name = path.relative_to(root).as_posix()
        raise DataFault("E-BIDS-A21", what, fix=f"fetch the file (`datalad get`), or {AGAIN}", file=name)
    return path


def _if_any(root: Path, file: BidsFile | None) -> Path | None:
    return _sound(root, file) if file else None


def _beside(path: Path) -> Path | None:
    """The JSON of a file, when there is one."""
    json = path.with_name(path.name.removesuffix(".gz")).with_suffix(".json")
    return json if _has_content(json) else None


def _version_in_log(path: Path) -> str | None:
    try:
        known = tomllib.loads(path.read_text(encoding="utf-8")).get("environment", {}).get("version")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None  # cut short by a crash; the report and the description still tell
    return str(known) if known else None


def _versions_in_report(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    return {found.decode() for found in VERSION_IN_REPORT.findall(path.read_bytes())}


def _versions_in_description(root: Path) -> set[str]:
    """`GeneratedBy` from 20.2 on, `PipelineDescription` before."""
    path = root / "dataset_description.json"
    try:
        content: dict[str, Any] = bids.read_json(path)
    except (ValueError, FileNotFoundError):
        return set()
    made_by = content.get("GeneratedBy") or content.get("PipelineDescription") or []
    tools = made_by if isinstance(made_by, list) else [made_by]
    known = [tool for tool in tools if isinstance(tool, dict)]
    named = [tool for tool in known if str(tool.get("Name", "")).lower() == "fmriprep"]
    return {str(tool["Version"]) for tool in named if tool.get("Version")}


def _check_versions(root: Path, people: list[str], settings: Fmriprep) -> list[Problem]:
    """Versions that are several, unknown or flawed; between the jobs of a container several are only told."""
    by_version: dict[str, list[str]] = defaultdict(list)
    with_container = settings.container is not None
    unknown = []
    for person in people:
        versions = versions_of(root, person, last=with_container) if (root / person).is_dir() else []
        for version in versions:
            by_version[version].append(person)
        unknown += [person] if (root / person).is_dir() and not versions else []
    for version in set() if with_container else _versions_in_description(root):
        by_version.setdefault(version, ["dataset_description.json"])
    problems = [
        Problem(
            "WARN",
            "W-BIDS-A12",
            f"fMRIPrep {version} made the outputs of {_some(who)}: {FLAWS[version]}",
            "look at the pictures of these runs in the report, or run a later version",
            settings.derivatives,
        )
        for version, who in sorted(by_version.items())
        if version in FLAWS
    ]
    if unknown:
        what = f"nothing tells which fMRIPrep made the outputs of {_some(unknown)}"
        fix = "keep its dataset_description.json, its logs and reports beside the outputs"
        problems.append(Problem("WARN", "W-BIDS-A12", what, fix, settings.derivatives))
    if len(by_version) > 1:
        told = "; ".join(f"{version}: {_some(who)}" for version, who in sorted(by_version.items()))
        what = f"outputs of several versions of fMRIPrep ({told})"
        if settings.allow_mixed_versions or with_container:
            fix = (
                "no action is needed, it is allowed"
                if settings.allow_mixed_versions
                else "let the container's jobs finish"
            )
            problems.append(Problem("WARN", "W-BIDS-A12", what, fix, settings.derivatives))
        else:
            fix = "run one version for everybody, or set preprocessing.fmriprep.allow_mixed_versions: true"
            problems.append(Problem("STOP", "E-BIDS-A12", what, fix, settings.derivatives))
    return problems


def _some(people: list[str]) -> str:
    more = f" and {len(people) - MAX_SHOWN} more" if len(people) > MAX_SHOWN else ""
    return ", ".join(people[:MAX_SHOWN]) + more


def _scans(
    root: Path, table: pd.DataFrame, settings: Fmriprep
) -> tuple[dict[str, FmriprepRun], list[Problem]]:
    """The outputs per raw series, and one problem per scan without them."""
    found: dict[str, FmriprepRun] = {}
    problems = []
    for row in table.to_dict("records"):
        try:
            found[row["bold"]] = find_run(root, row["bold"], res=settings.res)
        except DataFault as fault:
            unit = {key: row[key] for key in ("participant_id", "session_id", "task", "run")}
            problems.append(Problem("EXCL", fault.code, fault.reason, fault.fix, fault.file, **unit))
    return found, problems


def _empty_columns(found: dict[str, FmriprepRun], study: Study, task_of: dict[str, str]) -> list[Problem]:
    """A STOP per column that the study asks for and that has no value in any row of some tables."""
    tables: dict[str, list[str]] = defaultdict(list)
    for raw, run in found.items():
        for column in empty_columns(run, study, task_of[raw]):
            tables[column].append(run.confounds.name)
    return [
        Problem(
            "STOP",
            "E-BIDS-B11",
            f"the column {column!r}, which the study asks for, has no value in any row of {_some(names)}",
            "leave its group out of `confounds`, run fMRIPrep for these scans again, or leave them out of "
            "the run table",
            "derivatives",
        )
        for column, names in tables.items()
    ]


def empty_columns(run: FmriprepRun, study: Study, task: str) -> list[str]:
    """Return the columns of a run's confounds that its task needs and that are missing in every row.

    What else is amiss in the table takes the run out where it is adopted.
    """
    try:
        header, empty = _without_value(run.confounds)
        facts = nuisance.facts_of_columns(bids.read_json(run.facts) if empty and run.facts else {})
    except (ValueError, OSError):
        return []
    kept = nuisance.kept_components(
        header,
        facts,
        n_components=study.preprocessing.acompcor,
        n_temporal=study.preprocessing.tcompcor,
    )
    asked = [part for part in (study.first_level, study.connectivity) if part and part.task == task]
    needed = {"framewise_displacement", "std_dvars"}  # of every run's quality
    for group in {group for part in asked for group in part.confounds}:
        of_group = nuisance.FIXED.get(group) or tuple(
            name for name in header if name.startswith(nuisance.NUMBERED[group])
        )
        needed |= {name for name in of_group if name in kept or not name.startswith(nuisance.COMPONENTS)}
    return [name for name in empty if name in needed]


def _without_value(path: Path) -> tuple[list[str], list[str]]:
    """Return a table's columns, and those without a value; it is read until every column has shown one."""
    with path.open(encoding="utf-8-sig") as lines:
        header = next(lines, "").rstrip("\r\n").split("\t")
        left, has_rows = dict(enumerate(header)), False
        for line in lines:
            has_rows = True
            cells = line.rstrip("\r\n").split("\t")
            left = {at: name for at, name in left.items() if at >= len(cells) or cells[at] in NO_VALUE}
            if not left:
                break
    return header, list(left.values()) if has_rows else []


def _grids(found: dict[str, FmriprepRun]) -> list[Problem]:
    """Regions are carried to one grid: every series must be on it."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    grids: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    problems = []
    for raw, run in found.items():
        try:
            image: Any = nibabel.load(run.bold)
        except (OSError, EOFError, ValueError, ImageFileError) as error:
            problems.append(Problem("EXCL", "E-DATA-B01", f"cannot be read: {error}", AGAIN, run.bold.name))
            continue
        grids[(*image.shape[:3], *image.affine.round(2).ravel())].append(raw)
    if len(grids) > 1:
        by_size = sorted(grids.items(), key=lambda item: -len(item[1]))
        told = [f"{len(raws)} on {' x '.join(map(str, grid[:3]))}, as {raws[0]}" for grid, raws in by_size]
        what = f"the series are on {len(grids)} grids: {'; '.join(told)}"
        fix = f"run fMRIPrep with --output-spaces {SPACE}:res-2, so that all are on one"
        problems.append(Problem("STOP", "E-BIDS-A24", what, fix, "derivatives"))
    return problems
