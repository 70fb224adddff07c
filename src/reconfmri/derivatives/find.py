"""Which of fMRIPrep's files belong to a scan, and to a person's anatomy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from reconfmri import bids
from reconfmri.bids import BidsFile
from reconfmri.config import Fmriprep
from reconfmri.exclusions import DataFault
from reconfmri.templates import SPACE

IMAGES = (".nii.gz", ".nii")

# Entities that tell one output of a scan from another; the rest say which scan it is.
OF_OUTPUTS = {"space", "cohort", "res", "den", "desc", "from", "to", "mode", "hemi", "label", "stat"}

PARTS_OF_A_SCAN = ("echo", "part")

NATIVE = "native"

CONFOUNDS = ("timeseries", "regressors")  # from 20.2 on, before

AGAIN = f"run fMRIPrep for this participant again, with --output-spaces {SPACE}:res-2"


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
    mine = [file for file in files_of(root / folder) if _identity(file) == _identity(scan)]
    bold = _of_resolution(_whole_series(mine, scan), res, scan)
    if bold is None:
        raise _missing(scan, ["preprocessed series"], mine)
    same = [file for file in mine if _is_whole(file)]
    exact = {"space": SPACE, "res": bold.entities.get("res")}
    anat = _anatomy(root, scan, exact["res"])
    found = {
        "preprocessed series": bold,
        "brain mask": only(same, scan, "mask", desc="brain", **exact),
        "confounds": _confounds(same, scan),
        "T1w": only(anat, scan, "T1w", desc="preproc", space=SPACE),
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
        boldref=_if_any(root, only(same, scan, "boldref", **exact)),
        dseg=_if_any(root, only(anat, scan, "dseg", space=SPACE)),
        aseg=_if_any(root, only(same, scan, "dseg", desc="aseg", **exact)),
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
        t1w=_if_any(root, only(files, scan, "T1w", desc="preproc", space=SPACE)),
        mask=_if_any(root, only(files, scan, "mask", desc="brain", space=SPACE)),
        dseg=_if_any(root, only(files, scan, "dseg", space=SPACE)),
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


def files_of(folder: Path) -> list[BidsFile]:
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


def is_of_scan(file: BidsFile, scan: BidsFile) -> bool:
    """Whether an output is of a scan, and of its whole signal."""
    return _identity(file) == _identity(scan) and _is_whole(file)


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
        files = files_of(home / "anat")
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


def only(files: list[BidsFile], scan: BidsFile, suffix: str, **entities: str | None) -> BidsFile | None:
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


def has_content(path: Path) -> bool:
    """Whether a file is there and not empty."""
    return path.is_file() and path.stat().st_size > 0


def _sound(root: Path, file: BidsFile) -> Path:
    path = Path(file.path)
    if not has_content(path):
        what = "the file is empty" if path.is_file() else "the link leads nowhere"
        name = path.relative_to(root).as_posix()
        raise DataFault("E-BIDS-A21", what, fix=f"fetch the file (`datalad get`), or {AGAIN}", file=name)
    return path


def _if_any(root: Path, file: BidsFile | None) -> Path | None:
    return _sound(root, file) if file else None


def _beside(path: Path) -> Path | None:
    """The JSON of a file, when there is one."""
    json = path.with_name(path.name.removesuffix(".gz")).with_suffix(".json")
    return json if has_content(json) else None
