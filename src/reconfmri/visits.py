"""When each session took place, as scans.tsv and sessions.tsv say, and the order that follows from it."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

from reconfmri.tables import read_cells

Times = Mapping[str, Mapping[str, datetime]]


def session_times(root: Path) -> dict[str, dict[str, datetime]]:
    """Return person -> session label -> its first acq_time; sessions without a readable date are left out."""
    times: dict[str, dict[str, datetime]] = {}
    for folder in sorted(root.glob("sub-*")):
        found: dict[str, list[datetime]] = defaultdict(list)
        for label, cell in itertools.chain(_of_sessions(folder), _of_scans(folder)):
            try:
                moment = datetime.fromisoformat(cell.strip())
            except ValueError:
                continue  # a time of day alone, or free text: no date
            if len(cell.strip()) >= len("2009-06-15"):
                found[label].append(moment.replace(tzinfo=None))
        if found:
            times[folder.name] = {label: min(moments) for label, moments in found.items()}
    return times


def _of_sessions(folder: Path) -> Iterator[tuple[str, str]]:
    for row in _rows(folder / f"{folder.name}_sessions.tsv"):
        if row.get("session_id") and row.get("acq_time"):
            yield row["session_id"].removeprefix("ses-"), row["acq_time"]


def _of_scans(folder: Path) -> Iterator[tuple[str, str]]:
    for session in sorted(folder.glob("ses-*")):
        for row in _rows(session / f"{folder.name}_{session.name}_scans.tsv"):
            if row.get("acq_time"):
                yield session.name.removeprefix("ses-"), row["acq_time"]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        return read_cells(path) if path.is_file() else []
    except ValueError:
        return []  # dates that cannot be read tell nothing


def disagreement(times: Times, first: str, second: str) -> tuple[list[str], list[str]]:
    """Return the people whose session `first` is before `second`, and those in whom it is after."""
    both = {who: of for who, of in times.items() if first in of and second in of}
    before = [who for who, of in both.items() if of[first] < of[second]]
    return before, [who for who, of in both.items() if of[first] > of[second]]


def order_by_time(times: Times, sessions: Sequence[str]) -> dict[str, float] | None:
    """Return session -> day from the first one (median over people), in order; None when dates do not tell.

    Of each two neighbours most people with both must have had the first one earlier.
    """
    pairs = {(a, b): len(disagreement(times, a, b)[0]) for a, b in itertools.permutations(sessions, 2)}
    wins = Counter(dict.fromkeys(sessions, 0))
    wins.update(a for a, b in pairs if pairs[a, b] > pairs[b, a])
    ordered = [label for label, _ in wins.most_common()]
    if any(
        pairs[a, b] <= pairs[b, a]
        for a, b in itertools.combinations(ordered, 2)
        if _neighbours(ordered, a, b)
    ):
        return None
    days: dict[str, float] = {}
    for label in ordered:
        apart = [
            (of[label].date() - of[ordered[0]].date()).days
            for of in times.values()
            if {label, ordered[0]} <= set(of)
        ]
        if not apart:
            return None
        days[label] = float(round(median(apart)))
    return days if list(days.values()) == sorted(days.values()) else None


def _neighbours(ordered: Sequence[str], a: str, b: str) -> bool:
    return ordered.index(b) - ordered.index(a) == 1
