"""What lies in a BIDS folder (description, file names, participants) and what is wrong there."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from reconfmri import bids
from reconfmri.bids import BidsFile
from reconfmri.exclusions import MISSING
from reconfmri.labels import SPELLING_CODE, spelling_fault
from reconfmri.problems import Problem
from reconfmri.tables import read_table

TOP = "."


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
    sizes = bids.list_files(root)
    files: dict[str, list[BidsFile]] = defaultdict(list)
    for path in sizes:
        if "/" in path and not bids.PARTICIPANT.fullmatch(path.split("/")[0]):
            continue  # the folder's own name is at fault, told once below
        file, problem = _named(path)
        if file:
            files[path.split("/")[0] if "/" in path else TOP].append(file)
        problems += [problem] if problem else []
    folders = sorted(e.name for e in os.scandir(root) if e.is_dir() and e.name.startswith("sub-"))
    people, more = _participants(root, folders)
    return Dataset(root, dict(files), sizes, people), problems + more


def _description(root: Path) -> list[Problem]:
    name = "dataset_description.json"
    mend = 'write {"Name": "...", "BIDSVersion": "1.10.0"} into it'
    if not (root / name).is_file():
        return [Problem("STOP", "E-BIDS-A01", "the file is missing, so this is no BIDS dataset", mend, name)]
    try:
        content = bids.read_json(root / name)
    except ValueError as error:
        return [Problem("STOP", "E-BIDS-A01", str(error), mend, name)]
    absent = [key for key in ("Name", "BIDSVersion") if key not in content]
    return [Problem("STOP", "E-BIDS-A01", f"the keys {absent} are missing", mend, name)] if absent else []


def _named(path: str) -> tuple[BidsFile | None, Problem | None]:
    """The file, or the problem of its name; files at the top whose names are not of BIDS concern nobody."""
    subject, _, rest = path.partition("/")
    try:
        file = bids.parse_name(path)
    except ValueError as error:
        mend = "rename it; labels are letters and digits only"
        return None, Problem("STOP", "E-BIDS-A06", str(error), mend, path) if rest else None
    if not rest:
        return file, None
    session = next((part for part in path.split("/")[1:-1] if part.startswith("ses-")), None)
    here = {"sub": subject.removeprefix("sub-"), "ses": session.removeprefix("ses-") if session else None}
    for key, label in here.items():
        if file.entities.get(key) != label:
            what = f"the name says {key}-{file.entities.get(key)}, the folder {key}-{label}"
            return None, Problem("STOP", "E-BIDS-A06", what, "move or rename it so that both agree", path)
    return file, None


def _participants(root: Path, folders: list[str]) -> tuple[list[str], list[Problem]]:
    """Ids of participants.tsv and of the folders, in the order of the table, and where the two disagree."""
    name = "participants.tsv"
    problems = [
        Problem("STOP", "E-BIDS-A06", "the label holds more than letters and digits", "rename it", folder)
        for folder in folders
        if not bids.PARTICIPANT.fullmatch(folder)
    ]
    if not (root / name).is_file():
        what = "there is no participants.tsv; the subject folders are taken as the participants"
        problems.append(Problem("WARN", "W-BIDS-A02", what, "write participants.tsv", name))
        return folders, problems
    try:
        table = read_table(root / name, required=["participant_id"])
    except ValueError as error:
        what = str(error).removeprefix(f"{root / name}: ")
        return folders, [*problems, Problem("STOP", "E-BIDS-A11", what, "correct the table", name)]
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
            "WARN", "W-BIDS-A02", f"{row} has a row but no folder", "none when the person left", name, row
        )
        for row in dict.fromkeys(rows)
        if row not in folders and bids.PARTICIPANT.fullmatch(row)
    ]
    return [p for p in dict.fromkeys([*rows, *folders]) if bids.PARTICIPANT.fullmatch(p)], problems


def _malformed_ids(rows: list[str]) -> list[Problem]:
    return [
        Problem(
            "STOP",
            "E-BIDS-A06",
            f"line {line}: participant_id {row!r} is not sub-<letters and digits>",
            f"write it like the folder, e.g. sub-{''.join(c for c in row if c.isalnum()) or '01'}",
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
    """Return a STOP per value that stands on several lines of the table `name`; `rows` begin on line 2."""
    lines = defaultdict(list)
    for line, row in enumerate(rows, start=2):
        lines[row].append(line)
    return [
        Problem("STOP", "E-BIDS-A03", f"{row} stands on lines {at}", "keep one of the lines", name)
        for row, at in lines.items()
        if len(at) > 1
    ]
