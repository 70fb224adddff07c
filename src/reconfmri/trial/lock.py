"""The lock: what was decided before unblinding, in one file with its hash, and how the study differs now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from reconfmri.bids import sha256
from reconfmri.config import Study
from reconfmri.files import InputError
from reconfmri.provenance import hash_of_package, software_versions
from reconfmri.trial.log import CODE, LOCK, UNBLIND, Entry, note, read_log
from reconfmri.trial.registration import planned, read_registration

LOCKS = "config/locks"
# Part of a lock -> file of the study folder whose content it holds as sha256.
NEEDED = {"run_table": "config/runs.tsv", "exclusions": "config/exclusions.tsv"}
FILES = NEEDED | {"decisions": "config/decisions.tsv"}
Word = Literal["not locked", "pre-specified", "changed before unblinding", "changed after unblinding"]
ABSENT = "(absent)"


@dataclass(frozen=True)
class Change:
    """One thing that differs from the first lock: its key, what it was and what it is."""

    key: str
    before: str
    now: str


@dataclass(frozen=True)
class Registered:
    """What was registered before the data, when, and how the study differs from it now."""

    entry: Entry
    plan: Mapping[str, Any]
    deviations: tuple[Change, ...]


@dataclass(frozen=True)
class Stamp:
    """What every result of a study is marked with, the changes behind it, and the log of the trial."""

    word: Word = "not locked"
    changes: tuple[Change, ...] = ()
    log: tuple[Entry, ...] = field(default=())
    registered: Registered | None = None


def frozen(folder: Path, study: Study) -> dict[str, Any]:
    """Return what a lock holds: the study file as written, digests of decisions and code, versions."""
    tables = {
        part: sha256(folder / name) if (folder / name).is_file() else ABSENT for part, name in FILES.items()
    }
    allocation = folder / study.group.allocation if study.group else None
    return {
        "study": study.model_dump(mode="json"),
        **tables,
        "allocation": sha256(allocation) if allocation and allocation.is_file() else ABSENT,
        "code": hash_of_package(),
        "software": dict(software_versions()),
    }


def lock(folder: Path, study: Study, *, by: str, reason: str) -> tuple[Path, Entry]:
    """Write the lock of a study as it is, note it in the trial log, and return both.

    Raises
    ------
    ValueError
        There is no index yet, the study is unblinded, or the log was changed.
    """
    for name in NEEDED.values():
        if not (folder / name).is_file():
            raise InputError(
                name, "is not there, so nothing could be locked", fix="`reconfmri index`", code=CODE
            )
    if any(entry.event == UNBLIND for entry in read_log(folder)):
        what = "the study is unblinded, a lock made now would not say what was decided before"
        raise InputError(LOCKS, what, fix="report the changes as changes", code=CODE)
    text = json.dumps(frozen(folder, study), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = folder / LOCKS / f"{digest[:12]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path, note(folder, LOCK, by, reason, {"sha256": digest})


def read_lock(folder: Path, entry: Entry) -> dict[str, Any]:
    """Return what a lock holds.

    Raises
    ------
    ValueError
        Its file is not there, or not as it was when it was noted.
    """
    digest = entry.facts["sha256"]
    path = folder / LOCKS / f"{digest[:12]}.json"
    if not path.is_file() or sha256(path) != digest:
        what = "the lock is not there" if not path.is_file() else "the lock was changed after it was noted"
        raise InputError(f"{LOCKS}/{path.name}", what, fix="put back the copy that was kept of it", code=CODE)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def unblind(folder: Path, study: Study, *, by: str, reason: str) -> Entry:
    """Note that the arms may be seen by name, and return the entry.

    Raises
    ------
    ValueError
        The study has no codes, no lock, is unblinded already, or differs from its last lock.
    """
    log = read_log(folder)
    locks = [entry for entry in log if entry.event == LOCK]
    if study.group is None or study.group.blinding != "coded":
        raise InputError(
            "group.blinding", "is open, so there is nothing to unblind", fix="none is needed", code=CODE
        )
    if any(entry.event == UNBLIND for entry in log):
        raise InputError(
            "config/trial_log.jsonl", "the study is unblinded already", fix="none is needed", code=CODE
        )
    if not locks:
        fix = "`reconfmri lock`, once exclusions and settings are decided"
        raise InputError(LOCKS, "there is no lock, and nobody unblinds without one", fix=fix, code=CODE)
    now = frozen(folder, study)
    if changed := list(differences(read_lock(folder, locks[-1]), now)):
        what = f"the study differs from its last lock: {', '.join(item.key for item in changed[:5])}"
        raise InputError(LOCKS, what, fix="lock it again, or undo the changes", code=CODE)
    facts = {"lock": locks[-1].facts["sha256"]} | {part: now[part] for part in (*FILES, "allocation")}
    return note(folder, UNBLIND, by, reason, facts)


def stamp_of(folder: Path, study: Study) -> Stamp:
    """Return how the study, as it was written with arms by name, compares with its locks.

    Raises
    ------
    ValueError
        The log or a lock was changed.
    """
    log = read_log(folder)
    return replace(_word_of(folder, study, log), registered=_registered(folder, study, log))


def _registered(folder: Path, study: Study, log: Sequence[Entry]) -> Registered | None:
    found = read_registration(folder, log)
    if found is None:
        return None
    entry, content = found
    plan = content.pop("plan")
    now = planned(study)
    del now["plan"]
    return Registered(entry, plan, tuple(differences(content, now)))


def _word_of(folder: Path, study: Study, log: Sequence[Entry]) -> Stamp:
    before = list(takewhile(lambda entry: entry.event != UNBLIND, log))
    locks = [entry for entry in before if entry.event == LOCK]
    if not locks:
        return Stamp(log=tuple(log))
    now, first, last = frozen(folder, study), read_lock(folder, locks[0]), read_lock(folder, locks[-1])
    changes = tuple(differences(first, now))
    if not changes:
        return Stamp("pre-specified", log=tuple(log))
    is_later = len(before) < len(log) and any(differences(last, now))
    return Stamp("changed after unblinding" if is_later else "changed before unblinding", changes, tuple(log))


def stamps(families: Iterable[object], word: str) -> list[str]:
    """Return the stamp of each estimate by its family: an exploratory outcome is that whatever was locked."""
    return ["exploratory" if family == "exploratory" else word for family in families]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    """Yield what differs between two locks, by key, as text."""
    old, new = dict(_flat(before)), dict(_flat(now))
    for key in dict.fromkeys((*old, *new)):
        if old.get(key, ABSENT) != new.get(key, ABSENT):
            yield Change(key.removeprefix("study."), old.get(key, ABSENT), new.get(key, ABSENT))


def _flat(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings, by dotted key; a list is a leaf."""
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(part, f"{key}.{name}" if key else str(name))
    else:
        yield key, json.dumps(value, sort_keys=True, ensure_ascii=False)
