"""One page per participant, for the lab: every picture and number of the preprocessing, without the arms.

The pictures stay where they are, in the derivatives: a page that is passed on by mistake shows no anatomy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from reconfmri.bids import read_json
from reconfmri.config import QUALITY, Quality, Rois
from reconfmri.decisions import read_rows
from reconfmri.exclusions import MISSING, UNIT, Exclusion
from reconfmri.figures.labels import number
from reconfmri.figures.scans import CAPTIONS, picture_of_person
from reconfmri.figures.style import light_png
from reconfmri.preprocess import AnatomyFiles
from reconfmri.quality import LIMITS
from reconfmri.report.blocks import Block, scan_label, several
from reconfmri.report.rendering import render
from reconfmri.step import is_empty
from reconfmri.tables import read_table
from reconfmri.trial.flow import SIGNAL_STAGES

KINDS = {
    "edges": "EPI on T1w and template",
    "outlines": "Brain mask of the EPI",
    "tsnr": "Temporal SNR",
    "carpet": "Carpet plot",
    "scr": "Skin conductance",
    "physiology": "Heart rate, respiration, EMG",
}
OF_IMAGES = ("edges", "outlines", "tsnr", "carpet")  # of every scan; the others where there is a recording
ANATOMY_FACTS = {
    "template_correlation": ("Correlation with the template", ""),
    "torn_share": ("Brain voxels with a folded warp (Jacobian <= 0)", ""),
    "brain_ml": ("Brain", "ml"),
    "grey_ml": ("Grey matter", "ml"),
    "white_ml": ("White matter", "ml"),
    "fluid_ml": ("Fluid", "ml"),
}
ALIGNMENT_FACTS = {
    "signal_in_brain": "Share of the brain with signal",
    "brain_in_view_ml": "Brain in view, ml",
}


@dataclass(frozen=True)
class ScanRecord:
    """One scan of the run table: its numbers, the facts of its alignment, where its pictures are."""

    key: Mapping[str, str]
    tr: float
    n_volumes: int
    measures: Mapping[str, float] = field(default_factory=dict)
    alignment: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)

    @property
    def unit(self) -> Exclusion:
        """The scan as exclusions name it."""
        return Exclusion(**self.key)

    @property
    def label(self) -> str:
        """`sub-01 ses-2 task-memory`."""
        return scan_label(*(self.key[name] for name in UNIT))


@dataclass(frozen=True)
class Shared:
    """What all pages share: everything decided, the planned sessions (id -> name), the thresholds."""

    exclusions: Sequence[Exclusion]
    sessions: Mapping[str, str]
    quality: Quality


@dataclass(frozen=True)
class AnatomyRecord:
    """One anatomy: its name (of the T1w), its facts, and where its picture is; empty when it is excluded."""

    name: str
    facts: Mapping[str, Any]
    picture: str


@dataclass(frozen=True)
class Participant:
    """All that a page shows; `sessions` are id -> name, as planned."""

    participant_id: str
    scans: Sequence[ScanRecord]
    exclusions: Sequence[Exclusion]
    sessions: Mapping[str, str]
    quality: Quality
    anatomies: Sequence[AnatomyRecord] = ()


@dataclass(frozen=True)
class PersonFiles:
    """One person's page, and each anatomy with where its picture goes."""

    page: Path
    anatomies: Sequence[tuple[AnatomyFiles, Path]]


@dataclass(frozen=True)
class ScanFiles:
    """Where the parts of each scan lie, one of each per scan; what a scan that is out left is empty."""

    measures: Sequence[Path]
    alignments: Sequence[Path]
    pictures: Mapping[str, Sequence[Path | None]]


def placed(pictures: Sequence[Path], places: Sequence[int], n_scans: int) -> list[Path | None]:
    """Return one picture per scan, None where it has no recording, from those at `places`."""
    found = dict(zip(places, pictures, strict=True))
    return [found.get(place) for place in range(n_scans)]


def draw_anatomy(person: PersonFiles, regions: Path, rois: Rois) -> None:
    """Write the pictures of a person's anatomies; an empty file where one is excluded."""
    for files, picture in person.anatomies:
        out = is_empty(files.t1w)
        picture.write_bytes(b"" if out else light_png(picture_of_person(files, regions, rois)))


def write_page(person: PersonFiles, records: Sequence[ScanRecord], shared: Shared) -> None:
    """Write the page of one person, named as the page, from the records of all scans."""
    name = person.page.stem
    anatomies = [
        AnatomyRecord(
            files.t1w.name.removesuffix("_desc-preproc_T1w.nii.gz"),
            {} if is_empty(files.facts) else json.loads(files.facts.read_text(encoding="utf-8")),
            address(picture, person.page),
        )
        for files, picture in person.anatomies
    ]
    page = compose_participant(
        Participant(
            name,
            [scan for scan in records if scan.key["participant_id"] == name],
            [row for row in shared.exclusions if row.participant_id == name],
            shared.sessions,
            shared.quality,
            anatomies,
        )
    )
    person.page.write_text(page, encoding="utf-8")


def read_scans(scans: Sequence[Mapping[str, Any]], files: ScanFiles, page: Path) -> list[ScanRecord]:
    """Return the records of scans (participant_id session_id task run tr n_volumes each).

    Pictures get addresses relative to `page`.
    """
    records = []
    for place, scan in enumerate(scans):
        measures = read_measures(files.measures[place])
        alignment = files.alignments[place] if files.alignments else None
        pictures = {
            kind: address(path, page)
            for kind, paths in files.pictures.items()
            if (path := paths[place]) is not None
        }
        records.append(
            ScanRecord(
                key={name: str(scan[name]) for name in UNIT},
                tr=float(scan["tr"]),
                n_volumes=int(scan["n_volumes"]),
                measures=measures,
                alignment={} if alignment is None or is_empty(alignment) else read_json(alignment),
                pictures={kind: where for kind, where in pictures.items() if where},
            )
        )
    return records


def read_measures(path: Path) -> dict[str, float]:
    """Return outcome -> value of one scan's quality; none where the scan was out before."""
    if is_empty(path):
        return {}
    table = read_table(path, numeric=("value",))
    return {str(name): float(value) for name, value in zip(table["outcome"], table["value"], strict=True)}


def read_decided(paths: Sequence[str | Path]) -> list[Exclusion]:
    """Return every exclusion and remark once, in the order of people and scans."""
    return sorted({row for path in paths for row in read_rows(path)}, key=lambda row: row.place)


def address(picture: Path, page: Path) -> str:
    """Return where a picture is, seen from a page; empty when the picture is."""
    if is_empty(picture):
        return ""
    return quote(Path(os.path.relpath(picture, page.parent)).as_posix())


def compose_participant(person: Participant) -> str:
    """Return the page of one participant: HTML that loads its pictures from beside it and runs no script."""
    states = [state_of(scan, person.exclusions) for scan in person.scans]
    return render(
        "participant.html.j2",
        title=person.participant_id,
        summary=_summary(person, states),
        scans=[
            {**_names_of(scan, person), "tr": f"{scan.tr:g}", "state": state}
            for scan, state in zip(person.scans, states, strict=True)
        ],
        rows=_numbers(person),
        absent=_absent(person),
        exclusions=[_exclusion(row) for row in person.exclusions],
        anatomies=[_anatomy(record) for record in person.anatomies],
        anatomy_caption=CAPTIONS["anatomy"],
        kinds=[
            _kind(kind, person, states)
            for kind in KINDS
            if kind in OF_IMAGES or any(kind in scan.pictures for scan in person.scans)
        ],
    )


def compose_index(records: Sequence[ScanRecord], shared: Shared) -> str:
    """Return the index of the participants' pages: one row per person, one cell per session."""
    found = [scan.key["session_id"] for scan in records]
    named = {name: shared.sessions.get(name, name) for name in dict.fromkeys([*shared.sessions, *found])}
    people: dict[str, dict[str, list[Block]]] = {}
    for scan in records:
        values = scan.measures
        cell = {
            "task": scan_label("", MISSING, scan.key["task"], scan.key["run"]).strip(),
            "numbers": f"{number(values['fd.mean'], 'mm')} · {number(values['tsnr.median'], 'tSNR')}"
            if values
            else "",
            "state": state_of(scan, shared.exclusions),
        }
        sessions = people.setdefault(scan.key["participant_id"], {})
        sessions.setdefault(scan.key["session_id"], []).append(cell)
    rows = [
        {"id": person, "href": f"{person}.html", "cells": [of.get(session, []) for session in named]}
        for person, of in sorted(people.items())
    ]
    return render("participants.html.j2", title="Participants", sessions=list(named.values()), rows=rows)


def state_of(scan: ScanRecord, exclusions: Sequence[Exclusion]) -> str:
    """Return `excluded`, `see remarks` where a row speaks of a signal, a region or a doubt, or nothing."""
    about = [row for row in exclusions if row.concerns(scan.unit)]
    if any(row.takes_out(scan.unit) and row.stage not in SIGNAL_STAGES for row in about):
        return "excluded"
    return "see remarks" if about else ""


def _summary(person: Participant, states: Sequence[str]) -> str:
    out = states.count("excluded")
    return f"{several(len(person.scans), 'scan')}, {out or 'none'} excluded."


def _absent(person: Participant) -> list[str]:
    present = {scan.key["session_id"].removeprefix("ses-") for scan in person.scans}
    return [f"{name} (ses-{session})" for session, name in person.sessions.items() if session not in present]


def _numbers(person: Participant) -> list[Block]:
    """One row per number, with the threshold of exclusion where there is one, and a cell per scan."""
    limits = {limit.outcome: limit for limit in LIMITS}
    rows = []
    for key, name in QUALITY.items():
        values = [scan.measures.get(key) for scan in person.scans]
        if all(value is None for value in values):
            continue
        limit = limits.get(key)
        bound = getattr(person.quality, limit.key) if limit else None
        side = "above" if limit and limit.key.startswith("max_") else "below"
        cells = [
            {
                "text": _plain(value),
                "bad": bool(limit and value is not None and limit.fault(value, person.quality)),
            }
            for value in values
        ]
        rows.append({"name": name, "limit": "" if bound is None else f"out {side} {bound:g}", "cells": cells})
    for key, name in ALIGNMENT_FACTS.items():
        found = [{"text": _plain(scan.alignment.get(key)), "bad": False} for scan in person.scans]
        rows.append({"name": name, "limit": "", "cells": found})
    return rows


def _names_of(scan: ScanRecord, person: Participant) -> dict[str, str]:
    """What the study calls a scan's session, and the labels of the scan."""
    session = scan.key["session_id"].removeprefix("ses-")
    label = scan_label("", *(scan.key[name] for name in ("session_id", "task", "run"))).strip()
    return {"name": person.sessions.get(session, ""), "label": label}


def _plain(value: Any) -> str:
    return "–" if value is None or value != value else f"{value:.4g}"


def _exclusion(row: Exclusion) -> Block:
    return {
        "where": scan_label("", row.session_id, row.task, row.run).strip() or "all scans",
        "what": "remark" if row.code.startswith("W-") else _taken(row),
        "stage": row.stage.replace("_", " "),
        "reason": row.reason,
        "by": row.decided_by,
    }


def _taken(row: Exclusion) -> str:
    """What an exclusion takes out."""
    if row.region != MISSING:
        return f"region {row.region}"
    return SIGNAL_STAGES.get(row.stage, "scan")


def _anatomy(record: AnatomyRecord) -> Block:
    facts = [
        (name, f"{record.facts[key]:g} {unit}".strip())
        for key, (name, unit) in ANATOMY_FACTS.items()
        if key in record.facts
    ]
    images = [image["source"] for image in record.facts.get("t1w_images", [])]
    alt = f"T1w of {record.name} with brain mask, tissue and regions. " + "; ".join(
        f"{name.lower()} {value}" for name, value in facts
    )
    why = record.facts.get("absent") or f"this anatomy ({record.name}) is excluded."
    return {
        "name": record.name,
        "address": record.picture,
        "alt": alt,
        "facts": facts,
        "images": images,
        "why": why,
    }


def _kind(kind: str, person: Participant, states: Sequence[str]) -> Block:
    """One kind of picture of every scan, beneath one another: the same cuts stand in one column."""
    shown = []
    for scan, state in zip(person.scans, states, strict=True):
        values = "; ".join(
            f"{name.lower()} {number(scan.measures[key])}"
            for key, name in QUALITY.items()
            if key in scan.measures
        )
        shown.append(
            {
                **_names_of(scan, person),
                "state": state,
                "address": scan.pictures.get(kind, ""),
                "alt": f"{KINDS[kind]}, {scan.label}" + (f": {values}" if values else ""),
                "why": "; ".join(row.code for row in person.exclusions if row.concerns(scan.unit)),
            }
        )
    return {"id": kind, "title": KINDS[kind], "caption": CAPTIONS[kind], "scans": shown}
