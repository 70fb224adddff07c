"""The registration: what was planned before there were data, in a file whose hash is in the trial log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reconfmri.bids import sha256
from reconfmri.config import Study
from reconfmri.contracts.files import of_study
from reconfmri.files import InputError
from reconfmri.provenance import hash_of_package, software_versions
from reconfmri.trial.log import CODE, REGISTER, Entry, note, read_log

REGISTRATION = "config/registration.json"
MEASURED = of_study("stack_measures", "measures")


def planned(study: Study, **plan: object) -> dict[str, Any]:
    """Return what is registered: the study file as written, code, library versions, and `plan`."""
    return {
        "study": study.model_dump(mode="json"),
        "code": hash_of_package(),
        "software": dict(software_versions()),
        "plan": plan,
    }


def check_before_data(folder: Path) -> None:
    """Check that a study can be registered still.

    Raises
    ------
    ValueError
        There are measures already, the study is registered, or the log was changed.
    """
    if any(entry.event == REGISTER for entry in read_log(folder)):
        what = "the study is registered already"
        fix = "none is needed: what differs since is marked in the report as a deviation"
        raise InputError(REGISTRATION, what, fix=fix, code=CODE)
    if (folder / MEASURED).is_file():
        what = "there are measures already, and a registration is made before the data"
        raise InputError(MEASURED, what, fix="use `reconfmri lock`, which says what was decided", code=CODE)


def register(folder: Path, content: Mapping[str, Any], *, by: str, reason: str) -> Entry:
    """Write the registration into the study folder, note its sha256 in the trial log, and return the entry.

    Raises
    ------
    ValueError
        As `check_before_data`.
    """
    check_before_data(folder)
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    entry = note(folder, REGISTER, by, reason, {"sha256": hashlib.sha256(text.encode()).hexdigest()})
    (folder / REGISTRATION).write_text(text, encoding="utf-8")
    return entry


def read_registration(folder: Path, log: Iterable[Entry]) -> tuple[Entry, dict[str, Any]] | None:
    """Return the entry of the log and what was registered; None for a study that was not.

    Raises
    ------
    ValueError
        The file is not there, or not as it was when it was noted.
    """
    entry = next((entry for entry in log if entry.event == REGISTER), None)
    if entry is None:
        return None
    path = folder / REGISTRATION
    if not path.is_file() or sha256(path) != entry.facts["sha256"]:
        what = "it is not there" if not path.is_file() else "it was changed after it was noted in the log"
        raise InputError(REGISTRATION, what, fix="put back the copy that was registered", code=CODE)
    return entry, dict(json.loads(path.read_text(encoding="utf-8")))
