"""The functional runs of a dataset, by their file names."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from reconfmri import bids
from reconfmri.bids import BidsFile
from reconfmri.config import Study
from reconfmri.dataset import Dataset
from reconfmri.exclusions import MISSING, DataFault
from reconfmri.problems import Problem
from reconfmri.selection import IMAGES, without_echoes

TR_TOLERANCE = 1e-3  # s; fault catalogue, B2

MAX_TR = 30.0  # s; a larger RepetitionTime is in milliseconds


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


def find_scans(dataset: Dataset, study: Study) -> tuple[list[Scan], list[Problem]]:
    """Return the scans of the study's tasks and sessions, one image each, and the problems of the rest."""
    images, echoes = without_echoes(f for f in dataset.of("bold", *IMAGES) if "sub" in f.entities)
    candidates, problems = of_the_study([scan_of(file) for file in images], study)
    faulty = _ambiguous_sessions(dataset, candidates)
    problems += list(faulty.values())
    scans = [scan for scan in candidates if (scan.participant_id, scan.session_id) not in faulty]
    if not (study.filters.bold or {}).get("echo"):
        problems += [
            _one_echo(scan) for scan in scans if "echo" in scan.bold.entities and scan.bold.path not in echoes
        ]
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


def _one_echo(scan: Scan) -> Problem:
    what = f"echo-{scan.bold.entities['echo']} is the only echo of its series: the others may not be fetched"
    fix = (
        "no action is needed if it is the one that is wanted (say so by filters.bold); else fetch the others"
    )
    return Problem("WARN", "W-BIDS-A25", what, fix, scan.bold.path)


def scan_of(file: BidsFile) -> Scan:
    """Return what the name of a functional image says."""
    given = file.entities
    return Scan(
        f"sub-{given['sub']}",
        given.get("ses", MISSING),
        given.get("task", MISSING),
        given.get("run", MISSING),
        file,
    )


def of_the_study(everything: list[Scan], study: Study) -> tuple[list[Scan], list[Problem]]:
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
            f"keep one of them{told_apart_by(files)}",
            files[0].folder,
            person,
            session,
        )
        for (person, session, what), files in claims.items()
        if len(files) > 1
    }


def told_apart_by(files: list[BidsFile]) -> str:
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


def exclusion_of(scan: Scan, fault: DataFault) -> Problem:
    """Return a fault of a scan as a problem that excludes it."""
    return Problem("EXCL", fault.code, fault.reason, fault.fix, fault.file or scan.bold.path, **scan.unit)
