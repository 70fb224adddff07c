"""Which of several files is meant: filters, magnitude, echoes, and the same kind of T1w in every session."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from reconfmri.bids import BidsFile
from reconfmri.config import FILTERED, Filters, Study
from reconfmri.dataset import Dataset
from reconfmri.exclusions import MISSING
from reconfmri.problems import Problem

IMAGES = (".nii", ".nii.gz")
TABLES = {"events": ".tsv", "physio": ".tsv.gz"}
NO_MAGNITUDE = ("phase", "real", "imag")
OF_THE_SCAN = ("sub", "ses", "run")  # what a kind of T1w does not depend on

Session = tuple[str, str]  # participant, session; n/a for what lies above the sessions
Kind = tuple[tuple[str, str], ...]
Item = TypeVar("Item")


def filtered(dataset: Dataset, filters: Filters) -> tuple[Dataset, list[Problem]]:
    """Return the dataset without the images and tables that are not meant, and what was left alone.

    These are images of phase (and real and imaginary parts), and what does not meet the study's filters.
    Sidecars stay: who inherits them is decided by name.
    """
    kept: dict[str, list[BidsFile]] = {}
    left: Counter[tuple[str, str, str]] = Counter()
    for place, files in dataset.by_subject.items():
        reasons = [_why_left(file, filters) for file in files]
        kept[place] = [file for file, reason in zip(files, reasons, strict=True) if reason is None]
        left.update(reason for reason in reasons if reason is not None)
    return replace(dataset, by_subject=kept), [
        Problem("WARN", "W-BIDS-A18", f"{number} {what} left alone: {why}", fix)
        for (what, why, fix), number in sorted(left.items())
    ]


def _why_left(file: BidsFile, filters: Filters) -> tuple[str, str, str] | None:
    """What a file is, why it is left alone and the fix; None for one that is meant."""
    kind = "fmap" if file.folder.endswith("fmap") else file.suffix
    if kind not in FILTERED or file.ext not in (TABLES.get(kind, ""), *IMAGES):
        return None
    noun = f"{kind} file(s)"
    part = file.entities.get("part")
    if part in NO_MAGNITUDE and kind != "fmap":
        return noun, f"part-{part} is no magnitude", "no action is needed if the magnitude is there"
    if not file.meets(getattr(filters, kind)):
        return (
            noun,
            f"filters.{kind} of the study file",
            f"no action is needed if this is meant; else correct filters.{kind}",
        )
    return None


def kind_of(file: BidsFile) -> Kind:
    """Return the entities that say how an image was acquired: all but person, session and run."""
    return tuple(sorted((key, label) for key, label in file.identity.items() if key not in OF_THE_SCAN))


def name_of_kind(kind: Kind) -> str:
    """Return a kind as it stands in a name: `acq-mprage rec-norm`; `plain` without any entity."""
    return " ".join(f"{key}-{label}" for key, label in kind) or "plain"


def choose_anatomy(dataset: Dataset, study: Study) -> tuple[dict[Session, BidsFile], list[Problem]]:
    """Return the T1w of each person and session, of one kind in all, and what was chosen or cannot be.

    Where there are several, the only kind (acquisition, reconstruction, ...) and the only run that every
    session has is taken. Two of them, or none, are for the analyst to choose from. fMRIPrep reads them all.
    """
    offered = _offered(dataset, study)
    if study.preprocessing.engine == "fmriprep":
        return {session: files[0] for session, files in offered.items()}, []
    kinds = {session: {kind_of(file) for file in files} for session, files in offered.items()}
    chosen, more = _common(kinds)
    if chosen is None:
        return {}, [_choose(offered, map(name_of_kind, more), "of several kinds")]
    of_kind = {
        session: [file for file in files if kind_of(file) == chosen[session]]
        for session, files in offered.items()
    }
    runs = {session: {file.identity.get("run", "1") for file in files} for session, files in of_kind.items()}
    several = [session for session in runs if len(runs[session]) > 1]
    same, more_runs = (
        _common(runs) if several else ({session: next(iter(own)) for session, own in runs.items()}, [])
    )
    if same is None:
        return {}, [_choose(offered, (f"run-{label}" for label in more_runs), "of several runs")]
    result = {
        session: next(file for file in files if file.identity.get("run", "1") == same[session])
        for session, files in of_kind.items()
    }
    return result, _chosen(offered, result)


def _offered(dataset: Dataset, study: Study) -> dict[Session, list[BidsFile]]:
    """T1w by person and session; sessions that are not in the study stand in for people with no other T1w."""
    asked = {*(session.id for session in study.sessions), MISSING}
    inside: dict[Session, list[BidsFile]] = defaultdict(list)
    outside: dict[Session, list[BidsFile]] = defaultdict(list)
    for file in sorted(dataset.of("T1w", *IMAGES), key=lambda file: file.path):
        person, session = f"sub-{file.entities['sub']}", file.entities.get("ses", MISSING)
        (inside if session in asked else outside)[person, session].append(file)
    people = {person for person, _ in inside}
    return {**inside, **{key: files for key, files in outside.items() if key[0] not in people}}


def _common(found: Mapping[Session, set[Item]]) -> tuple[dict[Session, Item] | None, list[Item]]:
    """Return what each session takes of what it has, the same in all; else None and what there is to choose.

    One that all people share comes first; without it each person's own is taken where there is only one.
    """
    everything = sorted({item for own in found.values() for item in own}, key=str)
    shared = set(everything).intersection(*found.values())
    if len(shared) == 1:
        return dict.fromkeys(found, next(iter(shared))), []
    if len(shared) > 1:
        return None, everything
    by_person: dict[str, set[Item]] = {}
    for (person, _), own in found.items():
        by_person[person] = by_person.get(person, own) & own
    if all(len(own) == 1 for own in by_person.values()):
        return {session: next(iter(by_person[session[0]])) for session in found}, []
    return None, everything


def _choose(offered: Mapping[Session, list[BidsFile]], choices: Iterable[str], what: str) -> Problem:
    first = max(offered.values(), key=len)[0]
    listed = ", ".join(sorted(set(choices)))
    text = f"T1w images {what}, and not one that every session has alone: {listed}"
    fix = "choose by filters.T1w in the study file, e.g. `filters: {T1w: {acq: mprage}}` (`null`: without it)"
    return Problem("STOP", "E-BIDS-A19", text, fix, first.folder)


def _chosen(offered: Mapping[Session, list[BidsFile]], result: Mapping[Session, BidsFile]) -> list[Problem]:
    """A remark where a session has more than one T1w, or people differ in its kind."""
    several = [session for session, files in offered.items() if len(files) > 1]
    kinds = sorted({name_of_kind(kind_of(file)) for file in result.values()})
    if not several and len(kinds) < 2:
        return []
    example = result[several[0]] if several else next(iter(result.values()))
    if several:
        what = f"{len(several)} sessions have several T1w images; those like {example.path} are used"
    else:
        what = f"people have T1w images of several kinds: {', '.join(kinds)}"
    return [
        Problem(
            "WARN",
            "W-BIDS-A19",
            what,
            "no action is needed if this is the right one; else choose by filters.T1w",
            example.folder,
        )
    ]


def without_echoes(images: Iterable[BidsFile]) -> tuple[list[BidsFile], dict[str, list[str]]]:
    """Return one image per series, the first echo of several, and path -> echoes of the latter."""
    series: dict[tuple[object, ...], list[BidsFile]] = defaultdict(list)
    for file in images:
        rest = tuple(sorted((key, label) for key, label in file.identity.items() if key != "echo"))
        series[rest, file.ext, "echo" in file.entities].append(file)
    firsts, echoes = [], {}
    for files in series.values():
        labels = {file.identity.get("echo", ""): file for file in files}
        if len(labels) == 1:
            firsts += files  # several files of one echo are for `find_scans` to see
            continue
        ordered = sorted(
            files, key=lambda file: int(file.entities["echo"]) if file.entities["echo"].isdigit() else 0
        )
        firsts.append(ordered[0])
        echoes[ordered[0].path] = [f"echo-{file.entities['echo']}" for file in ordered]
    return firsts, echoes
