"""The trial log: who drew codes, locked and unblinded a study, when and why, as a chain of hashes.

Each line holds the hash of the one before: changing, removing or moving a line breaks the chain from there
on. That the last lines were cut off cannot be seen in the file itself: keep the hash that every command
prints, or register it with the lock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from reconfmri.files import InputError

LOG = "config/trial_log.jsonl"
CODE = "E-CONF-F13"
REGISTER, BLIND, DECIDE, LOCK, UNBLIND = "register", "blind", "decide", "lock", "unblind"
START = "0" * 64  # what the first line follows


@dataclass(frozen=True)
class Entry:
    """One line: `facts` are what holds at that time, such as the sha256 of a lock."""

    number: int
    time: str
    event: str
    by: str
    reason: str
    facts: Mapping[str, str] = field(default_factory=dict)
    previous: str = START

    @property
    def hash(self) -> str:
        """The sha256 of all of it, with the hash of the line before."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def read_log(folder: Path) -> list[Entry]:
    """Return the entries of a study's trial log, none where nothing was noted.

    Raises
    ------
    ValueError
        The log was changed; the message names the first line that does not follow from the one before.
    """
    path, entries, previous = folder / LOG, list[Entry](), START
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)
            stated = found.pop("hash")
            entry = Entry(**found)
        except (ValueError, TypeError, AttributeError, KeyError):
            raise _changed(number) from None
        if (entry.number, entry.previous, entry.hash) != (number, previous, stated):
            raise _changed(number)
        entries.append(entry)
        previous = stated
    return entries


def _changed(number: int) -> InputError:
    what = f"line {number} is not as it was written: the log was changed by hand"
    return InputError(LOG, what, fix="put back the copy that was kept of it", code=CODE)


def note(folder: Path, event: str, by: str, reason: str, facts: Mapping[str, str]) -> Entry:
    """Append an entry to the trial log and return it.

    Raises
    ------
    ValueError
        The log was changed, or `by` or `reason` is empty.
    """
    if not (by.strip() and reason.strip()):
        raise InputError(LOG, f"{event} without a name or a reason", fix="give --by and --reason", code=CODE)
    before = read_log(folder)
    entry = Entry(
        len(before) + 1,
        datetime.now(UTC).isoformat(timespec="seconds"),
        event,
        by.strip(),
        reason.strip(),
        dict(facts),
        before[-1].hash if before else START,
    )
    path = folder / LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(entry) | {"hash": entry.hash}, ensure_ascii=False) + "\n")
    return entry
