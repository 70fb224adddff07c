"""`reconfmri status`: participant x session x stage, from the files of a study folder."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconfmri.bids import read_run_table
from reconfmri.cli.screen import show_table
from reconfmri.config import CONFIG, Study, load_study
from reconfmri.contracts.files import Layout
from reconfmri.contracts.rules import RULES
from reconfmri.decisions import keep_decisions, read_decisions
from reconfmri.exclusions import MISSING, read_exclusions
from reconfmri.layout import layout_of
from reconfmri.locks import workers

WORST_FIRST = ("failed", "stopped", "running", "waiting", "excluded", "done", "-")
COLOURS = {"done": "green", "failed": "bold red", "stopped": "red", "running": "cyan", "excluded": "yellow"}


@dataclass(frozen=True)
class Stage:
    """One step of one unit: the rule, its file, its exclusions and its log, from the study folder."""

    name: str
    rule: str
    output: str
    exclusions: str
    log: str


@dataclass(frozen=True)
class Cell:
    """State of one stage of one unit, and why."""

    unit: str
    stage: str
    state: str
    why: str = ""


def show_status(folder: Path) -> int:
    """Print the state of every stage; return 1 when something failed or was stopped."""
    cells = states(folder)
    names = list(dict.fromkeys(cell.stage for cell in cells if cell.unit))
    rows = []
    for unit in dict.fromkeys(cell.unit for cell in cells if cell.unit):
        own = [cell for cell in cells if cell.unit == unit]
        rows.append([*unit.split(" "), *(_worst(c.state for c in own if c.stage == name) for name in names)])
    show_table(["participant", "session", *names], rows, colours=COLOURS)
    show_table(["study", "state"], [[c.stage, c.state] for c in cells if not c.unit], colours=COLOURS)
    for line in dict.fromkeys(_reasons(cells)):
        print(line)
    for row in read_exclusions(folder / "config/exclusions.tsv") if has_exclusions(folder) else ():
        kind = "excluded" if row.takes_the_run_out else "remark"
        unit = " ".join(
            part for part in (row.participant_id, row.session_id, row.task, row.run) if part != MISSING
        )
        print(f"{kind} {unit} ({row.decided_by}): {row.reason}")
    return 1 if any(cell.state in ("failed", "stopped") for cell in cells) else 0


def has_exclusions(folder: Path) -> bool:
    """Whether the index wrote its exclusions."""
    return (folder / "config/exclusions.tsv").is_file()


def failures(folder: Path) -> list[str]:
    """Return one line per failed or stopped step: unit, stage, why, what to do next."""
    cells = states(folder)
    return list(dict.fromkeys(_reasons([c for c in cells if c.state in ("failed", "stopped")])))


def _reasons(cells: list[Cell]) -> list[str]:
    return [f"{c.state} {c.unit or 'study'}, {c.stage}: {c.why}" for c in cells if c.why]


def _worst(found: Iterable[str]) -> str:
    present = set(found)
    return next((state for state in WORST_FIRST if state in present), "-")


def states(folder: Path) -> list[Cell]:
    """Return the state of every stage of every scan, then of the study.

    Raises
    ------
    ValueError, FileNotFoundError
        The folder is no study, or has no run table yet.
    """
    study = load_study(folder / CONFIG)
    every_scan = read_run_table(folder / "config/runs.tsv")
    scans = keep_decisions(every_scan, read_decisions(folder))
    broken, alive = incomplete(folder), bool(workers(folder))
    layout = layout_of(folder, study, every_scan)
    cells = []
    for scan in scans.to_dict("records"):
        unit = f"{scan['participant_id']} {scan['session_id']}"
        for stage in stages_of(study, layout, scan):
            state, why = _state(folder, stage, broken=broken, alive=alive)
            cells.append(Cell(unit, stage.name, state, why))
    for stage in study_stages(study, layout):
        state, why = _state(folder, stage, broken=broken, alive=alive)
        cells.append(Cell("", stage.name, state, why))
    return cells


def stages_of(study: Study, layout: Layout, scan: Mapping[Hashable, Any]) -> list[Stage]:
    """The stages of one row of the run table: of the scan, of its anatomy and of the person."""
    return [
        _stage(layout, name, rule.label, layout.wildcards(scan))
        for name, rule in RULES.items()
        if rule.of in ("scan", "anatomy", "person")
        and rule.is_in(study)
        and (rule.of != "scan" or rule.is_of(study, scan))
    ]


def study_stages(study: Study, layout: Layout) -> list[Stage]:
    """The stages that the whole study shares, in the order of the workflow."""
    stages = []
    for name, rule in RULES.items():
        if rule.is_in(study) and rule.of == "study":
            stages.append(_stage(layout, name, rule.label, {}))
        if rule.is_in(study) and rule.of == "scale":
            stages += [
                _stage(layout, name, f"{rule.label} {scale}", {"scale": scale}) for scale in study.scales
            ]
    return stages


def _stage(layout: Layout, rule: str, label: str, wildcards: Mapping[str, str]) -> Stage:
    files = layout.outputs(rule)
    if rule == "estimate_maps":
        del files["maps"]  # as many as there are contrasts; the exclusions come with them
    main, exclusions, log = (
        path.format(**wildcards)
        for path in (next(iter(files.values())), files.get("exclusions", ""), layout.log(rule))
    )
    return Stage(label, rule, main, exclusions if main != exclusions else "", log)


def _state(folder: Path, stage: Stage, *, broken: set[str], alive: bool) -> tuple[str, str]:
    """State and reason of one stage."""
    made = (folder / stage.output).is_file() and stage.output not in broken
    if made and stage.exclusions and (folder / stage.exclusions).is_file():
        out = [row for row in read_exclusions(folder / stage.exclusions) if row.takes_the_run_out]
        if out:
            return "excluded", out[0].reason
    if made:
        return "done", ""
    log = folder / stage.log
    if not log.is_file():
        return "waiting", ""
    last = last_words(log)
    if last:
        return "failed", f"{last}. Next: read {stage.log}, fix it, then run the same command again"
    if alive:
        return "running", ""
    return "stopped", f"it was killed (time, memory or power?). Next: run it again; {stage.log} has the rest"


def last_words(log: Path) -> str:
    """The last line of the traceback in a log, or nothing when it has none."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if "Traceback (most recent call last)" not in text:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".")


def incomplete(folder: Path) -> set[str]:
    """Outputs that Snakemake had begun and not finished, by its own marks."""
    found = set()
    for mark in (folder / ".snakemake/incomplete").glob("*"):
        try:
            found.add(base64.b64decode(mark.name, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue  # a folder of migrations, not a mark
    return found
