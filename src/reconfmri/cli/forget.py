"""`reconfmri forget`: what was made of a participant who withdrew is removed, and searched for again."""

from __future__ import annotations

import getpass
import json
import os
import re
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from reconfmri.bids import LABEL
from reconfmri.cli.snakemake_records import FOLDER, output_of
from reconfmri.config import CONFIG, Study, load_study
from reconfmri.contents import LEDGER
from reconfmri.files import InputError
from reconfmri.locks import hold

CODE = "E-CONF-D06"
LOG = ".reconfmri/forgotten.jsonl"
# What the workflow made: all else in a study folder is people's own, and named only.
OURS = ("results", "logs", FOLDER, ".reconfmri")
NOT_SEARCHED = (".reconfmri/cache", ".reconfmri/locks", ".git", ".venv")
# Without text: these are a person's own when their name says so.
IMAGES = (".nii", ".gz", ".png", ".pdf", ".x5", ".h5")


@dataclass
class Found:
    """What a study folder holds of a person: files of their own, results of all that name them, the rest."""

    own: list[Path] = field(default_factory=list)
    shared: list[Path] = field(default_factory=list)
    by_hand: list[Path] = field(default_factory=list)

    @property
    def ours(self) -> list[Path]:
        """What is removed."""
        return [*self.own, *self.shared]


def forget(options: Namespace) -> int:
    """Remove a person from the results of a study, or without --yes list what is; 1 when one file is left."""
    folder, label = options.study, options.participant.removeprefix("sub-")
    if not LABEL.fullmatch(label):
        raise InputError(
            options.participant, "is no label of a participant", fix="give sub-01 or 01", code=CODE
        )
    person, study = f"sub-{label}", load_study(folder / CONFIG)
    with hold(folder, shared=[], alone=["study"]):
        found = search(folder, study, person)
        for path in found.own:
            print(f"of {person}: {path}")
        for path in found.shared:
            print(f"names {person}, made again by the next run: {path}")
        if found.ours and not options.yes:
            print(f"{len(found.ours)} files; nothing was removed. Fix: the same command with --yes")
            return 0
        left = _remove(folder, study, person, found) if found.ours else found
    print(
        f"removed {len(found.ours)} files; a search by name and text finds {len(left.ours)} of {person} left"
    )
    for path in left.ours:
        print(f"{CODE} {path}: could not be removed. Fix: remove it by hand")
    _say_next(folder, study, person, left)
    return int(bool(left.ours))


def search(folder: Path, study: Study, person: str) -> Found:
    """Return what a study folder holds of a person: by name, by text, by Snakemake's records."""
    named, ours, found = _pattern(person), (*OURS, *_work(study)), Found()
    for path in _files(folder, _datasets(folder, study)):
        is_own = bool(named.search(_name_of(path)))
        if path.parts[0] not in ours:
            found.by_hand += [path] if is_own or _names(folder / path, named) else []
        elif str(path) != LOG and (is_own or _names(folder / path, named)):
            (found.own if is_own else found.shared).append(path)
    return found


def _pattern(person: str) -> re.Pattern[str]:
    """What names a person: the label as BIDS has it, and as fMRIPrep's work folders have it."""
    label = re.escape(person.removeprefix("sub-"))
    return re.compile(
        rf"(?<![A-Za-z0-9-])(sub-{label}|sub_{label}_wf|single_subject_{label}_wf)(?![A-Za-z0-9])"
    )


def _work(study: Study) -> list[str]:
    """The work folder of fMRIPrep's jobs, where it lies in the study folder."""
    settings = study.preprocessing.fmriprep
    place = Path(settings.container.work) if settings and settings.container else Path("/")
    return [] if place.is_absolute() else [place.parts[0]]


def _datasets(folder: Path, study: Study) -> set[Path]:
    """What lies in the study folder and is the owner's: the dataset, outputs of fMRIPrep."""
    given = [study.bids, study.preprocessing.fmriprep and study.preprocessing.fmriprep.derivatives]
    return {(folder / place).resolve() for place in given if place}


def _files(folder: Path, outside: set[Path]) -> Iterator[Path]:
    """Every file and link of a study folder, from there; links are not followed."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [
            name
            for name in folders
            if (here / name).resolve() not in outside
            and (here / name).relative_to(folder).as_posix() not in NOT_SEARCHED
        ]
        yield from ((here / name).relative_to(folder) for name in (*files, *links))


def _name_of(path: Path) -> str:
    """The name of a file; of Snakemake's records the output that they are of."""
    of_record = output_of(Path(*path.parts[2:])) if path.parts[0] == FOLDER and len(path.parts) > 2 else ""
    return of_record or str(path)


def _names(path: Path, named: re.Pattern[str]) -> bool:
    """Whether the text of a file names the person."""
    if path.is_symlink() or path.name.endswith(IMAGES):
        return False
    try:
        return bool(named.search(path.read_bytes().decode("utf-8", errors="replace")))
    except OSError:
        return False


def _remove(folder: Path, study: Study, person: str, found: Found) -> Found:
    """Remove what was found, note it, and return what a second search finds."""
    for path in found.ours:
        if str(path) == LEDGER:  # of everybody's raw files: only the person's lines go
            lines = (folder / path).read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if not _pattern(person).search(line)]
            (folder / path).write_text("".join(kept), encoding="utf-8")
        else:
            (folder / path).unlink(missing_ok=True)
    for place in sorted((p for p in folder.glob("results/**/") if person in p.parts), reverse=True):
        if not any(place.iterdir()):
            place.rmdir()
    left = search(folder, study, person)
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": getpass.getuser(),
        "forgotten": person,
        "removed": len(found.ours),
        "left": len(left.ours),
    }
    with (folder / LOG).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
    return left


def _say_next(folder: Path, study: Study, person: str, left: Found) -> None:
    """What people have to do: their own files, the dataset, and the commands that make the rest again."""
    for path in left.by_hand:
        print(f"still names {person}, yours: {path}")
    root = folder / study.bids
    raw = [path for path in root.glob(f"{person}/**/*") if path.is_file()]
    print(
        f"Next: take {person} out of {root} ({len(raw)} files, participants.tsv, phenotype/) and of the "
        "allocation; `reconfmri index`; then the same `snakemake` or `reconfmri run` makes the tables of the "
        "group and the report again. Copies elsewhere (backups, reports that were sent) are yours to find"
    )
