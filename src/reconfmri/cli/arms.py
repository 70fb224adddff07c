"""The arms of a new study: found in participants.tsv, copied into the study folder, moved when asked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from reconfmri import bids
from reconfmri.checks import OPEN_ARM
from reconfmri.exclusions import MISSING
from reconfmri.tables import read_table
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.blinding import Candidate, candidates

PARTICIPANTS, ALLOCATION, KEPT = "participants.tsv", "allocation.tsv", "participants_before_move"
CODE = "E-CONF-F12"
CONTROLS = ("placebo", "control", "midazolam", "sham", "saline", "vehicle")


@dataclass(frozen=True)
class Arms:
    """The labels of the arms, those of drug and control as far as they are clear, and what to say."""

    labels: tuple[str, ...] = ()
    active: str = ""
    control: str = ""
    said: list[str] = field(default_factory=list)


def take_arms(folder: Path, root: Path, column: str | None) -> Arms:
    """Return the arms; `allocation.tsv` is written from a column of participants.tsv where there is none yet.

    Raises
    ------
    ValueError
        Several columns may be the arm and none was named, or there is no such column.
    """
    allocation = folder / ALLOCATION
    if allocation.exists():
        return _arms(read_allocation(allocation)["arm"], [f"{allocation} was there and stays"])
    chosen, said = choose_column(root, column)
    if chosen is None:
        return Arms(said=said)
    table = read_table(root / PARTICIPANTS, required=["participant_id", chosen])
    rows = table[["participant_id", chosen]].dropna().to_numpy()
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["participant_id\tarm\tstratum", *(f"{person}\t{arm}\t{MISSING}" for person, arm in rows)]
    allocation.write_text("\n".join(lines) + "\n", encoding="utf-8")
    said += [
        f"copied the column {chosen!r} of {PARTICIPANTS} to {allocation}",
        f"whoever judges scans still reads the arms in {root / PARTICIPANTS}: delete the column {chosen!r} "
        "there and in participants.json by hand, or give --move-arms, which keeps a copy in the study folder",
    ]
    return _arms((arm for _, arm in rows), said)


def _arms(arms: Iterable[str], said: list[str]) -> Arms:
    """The labels; drug and control are proposed where just one of two labels sounds like a control."""
    labels = tuple(sorted(set(arms)))
    controls = [arm for arm in labels if any(word in arm.lower() for word in CONTROLS)]
    if len(labels) == 2 and len(controls) == 1:
        return Arms(labels, next(arm for arm in labels if arm != controls[0]), controls[0], said)
    return Arms(labels, OPEN_ARM.format("drug"), OPEN_ARM.format("control"), said)


def choose_column(root: Path, column: str | None) -> tuple[str | None, list[str]]:
    """Return the column of participants.tsv that is the arm, None without one, and what to say.

    Raises
    ------
    ValueError
        `column` is not there, or it was not given and several columns may be the arm.
    """
    if column == "none" or not (root / PARTICIPANTS).is_file():
        return None, []
    table = read_table(root / PARTICIPANTS)
    if column is not None:
        if column not in table.columns or column == "participant_id":
            raise ValueError(
                f"{CODE} {root / PARTICIPANTS}: there is no column {column!r}. Fix: give --arm-column with "
                f"one of {[name for name in table.columns if name != 'participant_id']}, or none"
            )
        return column, []
    found = candidates(table)
    if len(found) > 1:
        raise ValueError(
            f"{CODE} {root / PARTICIPANTS}: {len(found)} columns may be the arm: {_named(found)}. "
            f"Fix: say which by `reconfmri init STUDY --bids {root} --arm-column {found[0].column}` or none"
        )
    if found and not found[0].sure:
        name = found[0].column
        return None, [
            f"{PARTICIPANTS}: {_named(found)} was not taken for the arm, it may be a diagnosis; if it is "
            f"the arm, give --arm-column {name}"
        ]
    return (found[0].column if found else None), []


def _named(found: list[Candidate]) -> str:
    return " and ".join(
        f"{item.column!r} ({', '.join(item.values[:3])}{', ...' if len(item.values) > 3 else ''})"
        for item in found
    )


def move_arm_column(folder: Path, root: Path, column: str | None) -> list[str]:
    """Take the arm column out of participants.tsv and its JSON, after a copy of both; return what to say.

    The copies go into the study folder, for in the dataset everybody would see them.

    Raises
    ------
    ValueError
        There is no such column, the allocation does not hold it, there is a copy already, or the dataset
        cannot be written.
    """
    path, sidecar = root / PARTICIPANTS, root / "participants.json"
    chosen, _ = choose_column(root, column)
    if chosen is None:
        raise ValueError(f"{CODE} {path}: no column is known to be the arm. Fix: name it by --arm-column")
    copies = {path: folder / f"{KEPT}.tsv", sidecar: folder / f"{KEPT}.json"}
    if taken := [copy for copy in copies.values() if copy.exists()]:
        raise ValueError(f"{CODE} {taken[0]}: a copy is there already. Fix: put it elsewhere first")
    _check_held(folder, path, chosen)
    if not os.access(path, os.W_OK):
        raise ValueError(f"{CODE} {path}: it cannot be written. Fix: make it writable (`datalad unlock`)")
    for original, copy in copies.items():
        if original.is_file():
            shutil.copyfile(original, copy)
    _drop_column(path, chosen)
    return [f"moved the column {chosen!r} out of {path}; the table as it was: {copies[path]}"]


def _check_held(folder: Path, path: Path, column: str) -> None:
    """Nothing leaves the dataset that the allocation does not hold."""
    arms = read_allocation(folder / ALLOCATION).set_index("participant_id")["arm"].to_dict()
    there = read_table(path, required=["participant_id"]).set_index("participant_id")[column].dropna()
    lost = [person for person, arm in there.items() if arms.get(person) != arm]
    if lost:
        raise ValueError(
            f"{CODE} {folder / ALLOCATION}: it holds another arm, or none, for "
            f"{', '.join(map(str, lost[:5]))}. Fix: correct it, or delete the column {column!r} by hand"
        )


def _drop_column(path: Path, column: str) -> None:
    """Take one column out of a table and out of the JSON beside it, the other bytes as they are."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    position = lines[0].split("\t").index(column)
    kept = ["\t".join(c for n, c in enumerate(line.split("\t")) if n != position) for line in lines if line]
    _replace(path, "\n".join(kept) + "\n")
    sidecar = path.with_suffix(".json")
    if sidecar.is_file() and column in (described := bids.read_json(sidecar)):
        del described[column]
        _replace(sidecar, json.dumps(described, indent=2, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
