"""An import as files of a dataset; checked first for what would show the arm, then written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from reconfmri.exclusions import MISSING
from reconfmri.files import InputError
from reconfmri.tables import read_table, write_table
from reconfmri.trial.blinding import FEWEST, candidates, telling_columns

SHOWN, THERE = "E-CONF-F12", "E-BIDS-R04"
PERSON, SESSION, DAY, INSTANCE = "participant_id", "session_id", "day", "instance"
KEYS: dict[str, dict[str, object]] = {
    PERSON: {"Description": "Participant"},
    SESSION: {"Description": "Visit"},
    INSTANCE: {"Description": "Number of the repetition"},
    DAY: {"Description": "Day of the visit, from the participant's first session", "Units": "day"},
}
ALLOCATION = {
    PERSON: "Participant, as in participants.tsv",
    "arm": "Treatment the participant was randomised to",
    "stratum": "Stratum of the randomisation",
    "redcap_arm": "Number of the REDCap arm",
}


@dataclass(frozen=True)
class Table:
    """One table of phenotype/ as text, None for missing; `columns` says what the JSON says of each."""

    rows: pd.DataFrame
    columns: Mapping[str, Mapping[str, object]]
    tool: str = ""


@dataclass(frozen=True)
class Imported:
    """What an import found; `allocation` has participant_id, arm, stratum. `said` holds no value."""

    people: Table
    tables: dict[str, Table]
    allocation: pd.DataFrame
    said: list[str] = field(default_factory=list)


def write_import(found: Imported, root: Path, allocation: Path, *, overwrite: bool = False) -> list[str]:
    """Write participants.tsv, phenotype/ and the allocation; return what to say, which names nobody.

    Raises
    ------
    ValueError
        The allocation would lie inside the dataset, a table would show the arm, or a file is there already;
        nothing is written then.
    """
    if root.resolve() in allocation.resolve().parents:
        what = "the allocation would lie inside the dataset, where everybody reads it"
        raise InputError(allocation, what, fix="give a place outside of it by --allocation", code=SHOWN)
    _refuse_arms(found)
    people = _with_those_there(found.people, root / "participants.tsv")
    paths = {root / "phenotype" / f"{name}.tsv": table for name, table in found.tables.items()}
    targets = [*paths, *([allocation] if len(found.allocation) else [])]
    if not overwrite and (taken := [path for path in targets if path.exists()]):
        raise InputError(taken[0], "it is there already", fix="move it away, or give --overwrite", code=THERE)
    (root / "phenotype").mkdir(parents=True, exist_ok=True)
    _write(root / "participants.tsv", people)
    for path, table in paths.items():
        _write(path, table)
    said = [f"wrote {root / 'participants.tsv'}: {len(people.rows)} people"]
    said += [f"wrote {path}: {len(table.rows)} rows" for path, table in paths.items()]
    if len(found.allocation):
        allocation.parent.mkdir(parents=True, exist_ok=True)
        columns = [name for name in ALLOCATION if name in found.allocation]
        write_table(allocation, found.allocation[columns], ALLOCATION)
        said.append(f"wrote {allocation}: keep it from whoever judges scans or scales")
    return [*found.said, *_named_like_arms(found), *said]


def _named_like_arms(found: Imported) -> list[str]:
    """A line per column that is named like the arm or holds treatments, which may be another matter."""
    return [
        f"look at {item.column!r} of {name}: it is named like the arm, or holds treatments"
        for name, table in {"participants": found.people, **found.tables}.items()
        for item in candidates(table.rows.drop(columns=PERSON))
        if item.sure
    ]


def _refuse_arms(found: Imported) -> None:
    """Stop at a column, or at rows, that only people of one arm have, or that go with the arm."""
    known = found.allocation[found.allocation["arm"].notna()] if len(found.allocation) else found.allocation
    arms = dict(zip(known[PERSON], known["arm"], strict=True)) if len(known) else {}
    for name, table in {"participants": found.people, **found.tables}.items():
        if shown := [item for item in telling_columns(table.rows, arms) if item != PERSON]:
            what = f"{shown[0]!r} goes with the arm one to one"
            fix = "leave it out of the import, or declare it under allocation"
            raise InputError(name, what, fix=fix, code=SHOWN)
        if name != "participants" and _is_of_one_arm(set(table.rows[PERSON]), arms):
            what = "only people of one arm have rows in this table, so that a row shows the arm"
            raise InputError(name, what, fix="leave the instrument out of the import", code=SHOWN)


def _is_of_one_arm(people: set[str], arms: Mapping[str, str]) -> bool:
    """Whether rows of `people` alone tell the arm of most: all of one arm have some, none of another."""
    if len(arms) < FEWEST or len(set(arms.values())) < 2:
        return False
    groups = [{who for who, arm in arms.items() if arm == one} for one in set(arms.values())]
    return any(group <= people for group in groups) and any(not group & people for group in groups)


def _with_those_there(people: Table, path: Path) -> Table:
    """The people of an import joined to those whom participants.tsv has.

    Raises
    ------
    ValueError
        A column is there already with other values.
    """
    if not path.is_file():
        return people
    there = read_table(path, required=[PERSON])
    sidecar = path.with_suffix(".json")
    described = json.loads(sidecar.read_text(encoding="utf-8-sig")) if sidecar.is_file() else {}
    new = people.rows.set_index(PERSON)
    old = there.set_index(PERSON)
    for name in new.columns.intersection(old.columns):
        both = old.index.intersection(new.index)
        apart = (old.loc[both, name].fillna(MISSING) != new.loc[both, name].fillna(MISSING)).to_numpy()
        if apart.any():
            what = f"the column {name!r} is there already, with other values for {int(apart.sum())} people"
            raise InputError(
                path, what, fix="delete the column there, or leave it out of the map", code=THERE
            )
    joined = old.combine_first(new).reindex([*old.index, *new.index.difference(old.index)])
    order = [*old.columns, *new.columns.difference(old.columns, sort=False)]
    rows = joined[order].rename_axis(PERSON).reset_index()
    rows = rows.astype(object).where(rows.notna(), None)
    known = {str(name): {"Description": str(name)} for name in rows} | dict(people.columns) | described
    return Table(rows, known)


def _write(path: Path, table: Table) -> None:
    write_table(path, table.rows)
    said: dict[str, object] = {"MeasurementToolMetadata": {"Description": table.tool}} if table.tool else {}
    said |= {str(name): dict(KEYS.get(str(name)) or table.columns[str(name)]) for name in table.rows}
    text = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
    path.with_suffix(".json").write_text(text, encoding="utf-8")
