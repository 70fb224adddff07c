"""What lies in a BIDS folder (description, file names, participants) and what is wrong there."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconfmri import bids
from reconfmri.bids import BidsFile
from reconfmri.exclusions import MISSING
from reconfmri.files import UnreadableError, explained
from reconfmri.labels import SPELLING_CODE, first_of, spelling_fault
from reconfmri.problems import Problem
from reconfmri.tables import read_table

TOP, IGNORE = ".", ".bidsignore"
RENAME = f"rename or move it so that name and folder agree, or name it in {IGNORE}"
# What is read here: suffixes and ends of names. Other files of a dataset may be named as they are.
READ = (
    "bold", "T1w", "events", "physio",
    "phasediff", "phase1", "phase2", "fieldmap", "magnitude", "magnitude1", "magnitude2", "epi",
)  # fmt: skip
IS_FOLDER = re.compile(r"ses-.*|anat|func|fmap")
EXTENSIONS = (".nii", ".nii.gz", ".json", ".tsv", ".tsv.gz")


@dataclass(frozen=True)
class Dataset:
    """Soundly named files by subject folder, sizes of all files in bytes, and the participants."""

    root: Path
    by_subject: dict[str, list[BidsFile]]
    sizes: dict[str, int]
    participants: list[str]

    def of(self, suffix: str, *ext: str) -> list[BidsFile]:
        """Files of one suffix and extension."""
        return [file for file in self.files if file.suffix == suffix and file.ext in ext]

    @property
    def files(self) -> list[BidsFile]:
        """All of them."""
        return [file for files in self.by_subject.values() for file in files]

    def near(self, participant_id: str) -> list[BidsFile]:
        """Files of one person and those at the top, which everybody inherits."""
        return [*self.by_subject.get(TOP, []), *self.by_subject.get(participant_id, [])]


def read_dataset(root: Path) -> tuple[Dataset, list[Problem]]:
    """Return what a BIDS folder holds, and the problems of its description, names and participants.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; give the BIDS dataset")
    problems = _description(root)
    try:
        sizes, folders = bids.list_files(root), bids.subjects(root)
    except ValueError as error:
        what, fix = explained(error, root / IGNORE, IGNORE, f"correct {IGNORE}")
        return Dataset(root, {}, {}, []), [*problems, Problem("STOP", "E-BIDS-A11", what, fix, IGNORE)]
    files: dict[str, list[BidsFile]] = defaultdict(list)
    strays: list[str] = []
    for path in sizes:
        if "/" in path and not bids.PARTICIPANT.fullmatch(path.split("/")[0]):
            continue  # the folder's own name is at fault, named once below
        try:
            file = _named(path)
        except ValueError as error:
            problems.append(Problem("STOP", "E-BIDS-A06", str(error), RENAME, path))
            continue
        if file:
            files[path.split("/")[0] if "/" in path else TOP].append(file)
        elif "/" in path:
            strays.append(path)
    people, more = _participants(root, folders)
    broken = _no_folders(root, folders, strays)
    gone = {problem.file for problem in broken}
    more = [item for item in more if not (item.code == "W-BIDS-A02" and item.participant_id in gone)]
    strays = [path for path in strays if path not in gone]
    problems += _left_alone(strays) + broken + _closed(root, folders) + more
    return Dataset(root, dict(files), sizes, people), problems


def _description(root: Path) -> list[Problem]:
    name = "dataset_description.json"
    fix = 'write {"Name": "...", "BIDSVersion": "1.10.0"} into it'
    try:
        content = bids.read_json(root / name)
    except FileNotFoundError:
        return [Problem("STOP", "E-BIDS-A01", "the file is missing, so this is no BIDS dataset", fix, name)]
    except ValueError as error:
        return [Problem("STOP", "E-BIDS-A01", *explained(error, root / name, name, fix), name)]
    absent = [key for key in ("Name", "BIDSVersion") if key not in content]
    return [Problem("STOP", "E-BIDS-A01", f"the keys {absent} are missing", fix, name)] if absent else []


def _named(path: str) -> BidsFile | None:
    """Return the file, None for one that is no part of the dataset; what is read must be named as it lies.

    Raises
    ------
    ValueError
        The name of an image, its events, recording or sidecar is not of BIDS, or contradicts its folder.
    """
    subject, _, rest = path.partition("/")
    stem, _, ext = PurePosixPath(path).name.partition(".")
    wanted = stem.rpartition("_")[2] in READ and f".{ext}" in EXTENSIONS
    if not (rest and wanted):
        return bids.parsed(path) if f".{ext}" in EXTENSIONS else None
    file = bids.parse_name(path)
    session = next((part for part in path.split("/")[1:-1] if part.startswith("ses-")), None)
    here = {"sub": subject.removeprefix("sub-"), "ses": session.removeprefix("ses-") if session else None}
    for key, label in here.items():
        if file.entities.get(key) != label:
            raise ValueError(f"the name says {key}-{file.entities.get(key)}, the folder {key}-{label}")
    return file


def _left_alone(strays: list[str]) -> list[Problem]:
    """A remark on files that lie between the images and are not of BIDS."""
    if not strays:
        return []
    named = first_of(strays, 3)
    what = f"{len(strays)} file{'s' * (len(strays) > 1)} whose names are not of BIDS left alone: {named}"
    return [
        Problem(
            "WARN",
            "W-BIDS-A06",
            what,
            f"no action is needed; to silence this, move them away or name them in {IGNORE}",
        )
    ]


def _no_folders(root: Path, folders: list[str], strays: list[str]) -> list[Problem]:
    """One problem per person, session or kind of data that is a link to nowhere, or a file, and no folder."""
    ignored = bids.ignored_by(root)
    names = {entry.name for entry in root.iterdir()} - set(folders)
    tops = [name for name in names if bids.PARTICIPANT.fullmatch(name)]
    places = sorted(name for name in tops if not (ignored(name) or ignored(f"{name}/")))
    places += [path for path in strays if IS_FOLDER.fullmatch(path.rpartition("/")[2])]
    problems = []
    for place in places:
        what, fix = "it is a file, a folder is needed", "put the folder in its place"
        if (root / place).is_symlink():
            what, fix = "the link leads nowhere", f"fetch it (`datalad get {place}`), or correct the link"
        problems.append(Problem("EXCL", "E-BIDS-A15", what, fix, place, place.split("/")[0]))
    return problems


def _closed(root: Path, folders: list[str]) -> list[Problem]:
    """One problem per person whose folders cannot be listed."""
    fix = "make the folder readable for you (`ls -l` shows its owner)"
    places = [place for name in folders for place in (root / name, *(root / name).glob("ses-*"))]
    return [
        Problem(
            "EXCL",
            "E-BIDS-A15",
            "the folder cannot be listed (permission denied)",
            fix,
            place.relative_to(root).as_posix(),
            place.relative_to(root).parts[0],
        )
        for place in places
        if place.is_dir() and not os.access(place, os.R_OK | os.X_OK)
    ]


def _participants(root: Path, folders: list[str]) -> tuple[list[str], list[Problem]]:
    """Ids of participants.tsv and of the folders, in the order of the table, and where the two disagree."""
    name = "participants.tsv"
    problems = [
        Problem(
            "STOP", "E-BIDS-A06", "the label holds more than letters and digits (and +)", "rename it", folder
        )
        for folder in folders
        if not bids.PARTICIPANT.fullmatch(folder)
    ]
    try:
        table = read_table(root / name, required=["participant_id"])
    except FileNotFoundError:
        what = "there is no participants.tsv; the subject folders are taken as the participants"
        problems.append(Problem("WARN", "W-BIDS-A02", what, "write participants.tsv", name))
        return folders, problems
    except ValueError as error:
        what, fix = explained(error, root / name, name, "correct the table")
        if isinstance(error, UnreadableError) and not error.is_text:
            what += "; the subject folders are taken as the participants"
            return folders, [*problems, Problem("WARN", "W-BIDS-A02", what, fix, name)]
        return folders, [*problems, Problem("STOP", "E-BIDS-A11", what, fix, name)]
    rows = [str(value or MISSING) for value in table["participant_id"]]
    problems += _malformed_ids(rows) + twice(rows, name)
    known = set(rows)
    problems += [
        Problem(
            "STOP",
            "E-BIDS-A02",
            f"{folder} has a folder but no row",
            "add its row, or move the folder away",
            name,
        )
        for folder in folders
        if folder not in known and bids.PARTICIPANT.fullmatch(folder)
    ]
    problems += [
        Problem(
            "WARN",
            "W-BIDS-A02",
            f"{row} has a row but no folder",
            "no action is needed if the person left",
            name,
            row,
        )
        for row in dict.fromkeys(rows)
        if row not in folders and bids.PARTICIPANT.fullmatch(row)
    ]
    return [p for p in dict.fromkeys([*rows, *folders]) if bids.PARTICIPANT.fullmatch(p)], problems


def _letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum() and letter.isascii())


def _malformed_ids(rows: list[str]) -> list[Problem]:
    return [
        Problem(
            "STOP",
            "E-BIDS-A06",
            f"line {line}: participant_id {row!r} is not sub-<letters, digits, +>",
            f"write it like the folder, e.g. sub-{_letters(row.removeprefix('sub-')) or '01'}",
            "participants.tsv",
        )
        for line, row in enumerate(rows, start=2)
        if not bids.PARTICIPANT.fullmatch(row)
    ]


def check_spellings(dataset: Dataset) -> list[Problem]:
    """Return a STOP where two people, sessions or tasks of the dataset differ in case or padding only."""
    labels = {"participant_id": list(dataset.participants)}
    for key, what in (("ses", "session"), ("task", "task")):
        labels[what] = [file.entities[key] for file in dataset.files if key in file.entities]
    faults = [spelling_fault(found, what) for what, found in labels.items()]
    return [Problem("STOP", SPELLING_CODE, *fault, dataset.root.name) for fault in faults if fault]


def twice(rows: list[str], name: str) -> list[Problem]:
    """Return a STOP per value that is on several lines of the table `name`; `rows` begin on line 2."""
    lines = defaultdict(list)
    for line, row in enumerate(rows, start=2):
        lines[row].append(line)
    return [
        Problem("STOP", "E-BIDS-A03", f"{row} is on lines {at}", "keep one of the lines", name)
        for row, at in lines.items()
        if len(at) > 1
    ]
