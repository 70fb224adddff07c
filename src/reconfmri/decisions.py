"""What people decided: by hand in `config/exclusions.tsv`, by rating in `config/decisions.tsv`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from reconfmri.bids import PARTICIPANT
from reconfmri.config import Study
from reconfmri.contracts.specs import TableSpec, text
from reconfmri.exclusions import DESCRIPTIONS, MISSING, UNIT, Exclusion, read_exclusions
from reconfmri.files import InputError

TABLE, RATED = "config/exclusions.tsv", "config/decisions.tsv"
BY_HAND = "E-CONF-D02"
CODE, RATED_OUT = "E-CONF-D08", "E-DATA-Q01"
KNOWN, RULES = ("keep", "exclude"), ("threshold", "one rater", "two raters", "adjudicated")
DECISIONS = TableSpec(
    (
        *(text(name, DESCRIPTIONS[name]) for name in UNIT),
        text("decision", "keep or exclude"),
        text(
            "rule",
            "threshold: a rule of the study file took it out before; one rater, two raters: who looked said "
            "so, both alike; adjudicated: they differed or were unsure, and somebody decided",
        ),
        text("who", "Who decided; automatic for a threshold"),
        text("when", "Date and time of the last rating, or of the decision, UTC"),
        text("reason", "Artefacts and notes of the raters, the reason given, or the line of the threshold"),
    ),
    "One decision per scan, made before the arms were known",
)


def read_decisions(folder: Path) -> list[Exclusion]:
    """Return the rows of a study's exclusions that a person decided, remarks and ratings included."""
    return [row for path in tables_of(folder) for row in by_hand(read_rows(path))]


def tables_of(folder: Path) -> list[Path]:
    """Return the tables of decisions that a study has: exclusions, and ratings where scans were rated."""
    return [folder / name for name in (TABLE, RATED) if (folder / name).is_file()]


def read_rows(path: str | Path) -> list[Exclusion]:
    """Return the rows of a table of exclusions, or of scans that raters took out (`config/decisions.tsv`).

    Raises
    ------
    ValueError
        It is no such table, or a row decides nothing that is known.
    """
    if Path(path).name != Path(RATED).name:
        return read_exclusions(path)
    rows = []
    for line, row in enumerate(DECISIONS.read(path).to_dict("records"), start=2):
        if row["decision"] not in KNOWN or row["rule"] not in RULES or not row["who"]:
            what = f"line {line}: {row['decision']!r} by {row['rule']!r} is no decision"
            raise InputError(RATED, what, fix="make it anew: `reconfmri decide`", code=CODE)
        if row["decision"] == "exclude" and row["rule"] != "threshold":
            unit = {name: str(row[name] or MISSING) for name in UNIT}
            reason = f"{RATED_OUT} {row['rule']}, {row['when']}: {row['reason']}"
            rows.append(
                Exclusion(**unit, stage="decide", code=RATED_OUT, reason=reason, decided_by=str(row["who"]))
            )
    return rows


def by_hand(rows: Iterable[Exclusion]) -> list[Exclusion]:
    """Return the rows that the index did not write."""
    return [row for row in rows if row.decided_by != "automatic"]


def digest_of_automatic(rows: Iterable[Exclusion]) -> str:
    """Return a digest of the rows that the index wrote, so that one added under its name is found."""
    lines = "\n".join(sorted(repr(row) for row in rows if row.decided_by == "automatic"))
    return hashlib.sha256(lines.encode()).hexdigest()


def keep_decisions(table: pd.DataFrame, rows: Iterable[Exclusion]) -> pd.DataFrame:
    """Return a table with the columns of a unit without the rows that the analyst's own rows take out."""
    out = pd.Series(False, index=table.index)
    for row in rows:
        if row.takes_the_run_out:
            out |= _concerned(table, row)
    return table[~out].reset_index(drop=True)


def people_of(root: Path, scans: pd.DataFrame) -> list[str]:
    """Return the people of a study: those of the run table and of participants.tsv, by name."""
    return sorted({*scans["participant_id"], *_people_of_table(root)})


def is_out(decided: Iterable[Exclusion], person: str, session: str = MISSING) -> bool:
    """Whether a person, or a session with all that was measured in it, was taken out by hand."""
    unit = Exclusion(person, session)
    return any(row.takes_out(unit) for row in decided)


def without_decided(
    rows: pd.DataFrame, decided: Iterable[Exclusion], regions: Mapping[str, Collection[str]]
) -> pd.DataFrame:
    """Return producers' rows less those of people, sessions, runs and regions that were taken out by hand.

    A row of a task or run leaves scales alone; one that names neither takes them along. `regions`: outcome ->
    the regions and pairs that take it out (`Outcome.regions`); an outcome can also be named itself.
    """
    kept = rows
    for row in decided:
        if row.code.startswith("W-"):
            continue
        hit = _concerned(kept, row)
        if row.region != MISSING:
            out = {row.region, *(name for name, parts in regions.items() if row.region in parts)}
            hit &= kept["outcome"].isin(out)
        kept = kept[~hit]
    return kept


def check_decisions(
    folder: Path, study: Study, scans: pd.DataFrame, record: Mapping[str, Any] | None = None
) -> None:
    """Check that every row decided by hand names what the study has, and that the others are the index's own.

    Raises
    ------
    ValueError
        A row would count for nothing: it names nobody, or an unknown session, task, run or region.
    """
    _check_rated(folder / RATED, scans)
    path = folder / TABLE
    if not path.is_file():
        return
    rows = read_exclusions(path)
    known = record and record.get("automatic_exclusions")
    if known and known != digest_of_automatic(rows):
        what = "rows decided by `automatic` are not those of the index"
        fix = "put your name into decided_by of the rows you added, or index again (`reconfmri index`)"
        raise InputError(TABLE, what, fix=fix, code=BY_HAND)
    people = {*people_of(folder / study.bids, scans), *_people_of(record)}
    allowed = {
        "participant_id": sorted(people),
        "session_id": sorted({session.id for session in study.sessions} | set(scans["session_id"])),
        "task": list(study.tasks),
        "run": sorted(
            {*scans["run"], *(row.run for row in rows if row.decided_by == "automatic")} - {MISSING}
        ),
        "region": _regions(study),
    }
    for line, row in enumerate(rows, start=2):
        for column in allowed if row.decided_by != "automatic" else ():
            value, names = getattr(row, column), allowed[column]
            if value not in names and (value != MISSING or column == "participant_id"):
                what = f"line {line}: {column} {value!r} is none of the study's, so the row would count for "
                what += "nothing"
                fix = f"one of {names[:12]}" if names else f"n/a, there is no {column}"
                raise InputError(TABLE, what, fix=fix, code=BY_HAND)


def _check_rated(path: Path, scans: pd.DataFrame) -> None:
    """Check that every scan taken out by raters is in the run table: else the row would count for nothing."""
    known = set(scans[[*UNIT]].astype(str).itertuples(index=False, name=None))
    for row in read_rows(path) if path.is_file() else ():
        if row.unit not in known:
            what = f"{' '.join(row.unit)} is no scan of the run table, so the row would count for nothing"
            raise InputError(RATED, what, fix="make it anew: `reconfmri decide`", code=CODE)


def _concerned(table: pd.DataFrame, row: Exclusion) -> pd.Series:
    hit = pd.Series(True, index=table.index)
    for key in UNIT:
        if getattr(row, key) != MISSING:
            hit &= table[key] == getattr(row, key)
    return hit


def _regions(study: Study) -> list[str]:
    pairs = [f"{one}-{other}" for one, other in (study.connectivity.pairs if study.connectivity else ())]
    alone: dict[str, None] = {}
    for name, outcome in study.outcomes.items():  # and a signal as a whole, such as `skin_conductance`
        if outcome.domain not in ("activation", "connectivity", "quality"):
            alone |= dict.fromkeys([name, *sorted(outcome.regions)])
    return [*study.rois.names, *pairs, *alone]


def _people_of(record: Mapping[str, Any] | None) -> set[str]:
    return {path.split("/")[0] for path in (record or {}).get("files", {}) if path.startswith("sub-")}


def _people_of_table(root: Path) -> set[str]:
    path = root / "participants.tsv"
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    return {cell for line in lines if PARTICIPANT.fullmatch(cell := line.split("\t")[0])}
