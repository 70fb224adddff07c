"""REDCap's events: what the export calls them, without the arm, and the sessions they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reconfmri.files import InputError
from reconfmri.importing.cells import CODE, read_csv
from reconfmri.importing.declared import Sessions

UNKNOWN = "E-BIDS-R02"
CUT = 18  # characters of an event's label in its unique name
_UNIQUE = re.compile(r"(.+)_arm_(\d+)([a-z]*)")


@dataclass(frozen=True)
class Visit:
    """An event without its arm; the arm goes to the allocation only."""

    event: str
    arm: str


def visit_of(unique: str) -> Visit | None:
    """Return event and arm of a unique event name; None of what is none.

    REDCap tells labels apart that are alike up to the cut by a letter at the end: `week_one_long_labe_arm_1b`
    is the event `week_one_long_labe_b`.
    """
    found = _UNIQUE.fullmatch(unique)
    return Visit(found[1] + (f"_{found[3]}" if found[3] else ""), found[2]) if found else None


def cut(label: str) -> str:
    """Return how a label begins in its unique name: letters, digits and `_`, at most 18 characters."""
    words = re.sub(r"[^a-z0-9_ ]", "", label.strip().lower()).replace(" ", "_")
    return re.sub(r"_+", "_", words)[:CUT].rstrip("_")


def read_events(path: str | Path) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Return event label -> event, and event -> its arms, of REDCap's table of events.

    Raises
    ------
    ValueError
        It lacks unique_event_name, or holds what is none.
    """
    header, rows = read_csv(path)
    if "unique_event_name" not in header:
        what = "it is no table of events, it lacks unique_event_name"
        raise InputError(path, what, fix="download it from Define My Events", code=CODE)
    labels: dict[str, str] = {}
    arms: dict[str, set[str]] = {}
    for row in rows:
        visit = visit_of(row["unique_event_name"])
        if visit is None:
            what = "a unique_event_name does not end in _arm_ and a number"
            raise InputError(path, what, fix="download it from Define My Events", code=CODE)
        arms.setdefault(visit.event, set()).add(visit.arm)
        if row.get("event_name"):
            labels.setdefault(row["event_name"], visit.event)
    return labels, arms


def sessions_of(
    path: str | Path, events: Iterable[str], declared: Sessions, labels: dict[str, str]
) -> Sessions:
    """Return event -> what the map declares of it.

    Raises
    ------
    ValueError
        An event of the export is not in the map, or two keys of the map are one event; in one line.
    """
    known: Sessions = {}
    spelt: dict[str, str] = {}
    there = list(dict.fromkeys(events))
    for key, session in declared.items():
        event = key if key in there else labels.get(key, cut(key))
        if (other := spelt.setdefault(event, key)) != key:
            what = f"sessions: {other!r} and {key!r} are one event, {event!r}, cut at {CUT} characters"
            fix = "write the events as unique_event_name has them, without _arm_N; give EVENTS.csv"
            raise InputError(path, what, fix=fix, code=UNKNOWN)
        known[event] = session
    if unknown := [event for event in there if event not in known]:
        fix = f'add it under `sessions`, e.g. {unknown[0]}: "1", or {unknown[0]}: null to leave it out'
        raise InputError(path, f"the map names no session for the events {unknown}", fix=fix, code=UNKNOWN)
    return known
