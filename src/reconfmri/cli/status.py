"""`reconfmri status`: participant x session x stage, from the records, logs and files of a study folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reconfmri.bids import read_run_table
from reconfmri.cli.screen import show_table
from reconfmri.cli.snakemake_records import incomplete
from reconfmri.config import CONFIG, Study, load_study
from reconfmri.contents import FILES, SEAL, seal_of
from reconfmri.contracts.files import Layout
from reconfmri.contracts.rules import RULES
from reconfmri.decisions import keep_decisions, read_decisions, read_rows, tables_of
from reconfmri.exclusions import MISSING, read_exclusions
from reconfmri.jobs import Record, read_record
from reconfmri.layout import layout_of
from reconfmri.locks import at_work, is_held
from reconfmri.provenance import workflow_folder

WORST_FIRST = ("failed", "killed", "damaged", "running", "waiting", "outdated", "excluded", "done", "-")
UNFINISHED = WORST_FIRST[: WORST_FIRST.index("outdated")]
NEED_A_HAND = ("failed", "killed", "damaged")
COLOURS = {
    "done": "green",
    "failed": "bold red",
    "killed": "red",
    "damaged": "red",
    "running": "cyan",
    "outdated": "yellow",
    "excluded": "yellow",
}
# Rules of the whole study that no scan is an input of.
OF_NO_SCAN = ("describe_derivatives", "carry_atlas", "score_scale")
OUTDATED = "it was made before what is unfinished now: its numbers are those of then"
AGAIN = "Next: run the same command again"


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
    """State of one stage of one unit, its class of failure where it failed, and why."""

    unit: str
    stage: str
    state: str
    why: str = ""
    kind: str = ""
    log: str = ""

    @property
    def line(self) -> str:
        """What is to be known and done, in one line."""
        kind = f" ({self.kind})" if self.kind else ""
        return f"{self.state} {self.unit or 'study'}, {self.stage}{kind}: {self.why}"


def show_status(options: Namespace) -> int:
    """Print the state of every stage; return 1 when something failed, was killed or damaged."""
    folder = options.study
    cells = states(folder)
    if options.plan:
        cells = with_plan(folder, cells)
    remarks = [*_remarks(folder), *left_out(folder)]
    if options.html:
        from reconfmri.cli.status_page import status_page

        options.html.write_text(status_page(folder, cells, remarks), encoding="utf-8")
    if options.json:
        found = {"remarks": remarks, "stages": [asdict(cell) for cell in cells]}
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        _print(cells, remarks)
    return 1 if any(cell.state in NEED_A_HAND for cell in cells) else 0


def _print(cells: list[Cell], remarks: list[str]) -> None:
    header, rows = table_of(cells)
    show_table(header, rows, colours=COLOURS)
    show_table(["study", "state"], [[c.stage, c.state] for c in cells if not c.unit], colours=COLOURS)
    print("\n".join([*_reasons(cells), *remarks]))


def table_of(cells: list[Cell]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of scans: of each participant and session the worst of its runs."""
    names = list(dict.fromkeys(cell.stage for cell in cells if cell.unit))
    found: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        if cell.unit:
            found.setdefault(cell.unit, {}).setdefault(cell.stage, []).append(cell.state)
    rows = [[*unit.split(" "), *(_worst(own.get(name, ())) for name in names)] for unit, own in found.items()]
    return ["participant", "session", *names], rows


def _remarks(folder: Path) -> list[str]:
    """Who is at work, and what of the study changed since the last run was planned."""
    remarks = [f"{who}: at work" for who in at_work(folder)] or ["no run is under way"]
    try:
        before = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        now = asdict(seal_of(folder, load_study(folder / CONFIG)))
    except (OSError, ValueError):
        return remarks
    changed = [FILES[part] for part, digest in now.items() if before.get(part) != digest]
    if changed:
        what = "what depends on it counts as done here. Next: `reconfmri status --plan` says what that is"
        remarks.append(f"{', '.join(changed)}: changed since the last run; {what}")
    return remarks


def left_out(folder: Path) -> list[str]:
    """Return a line for each row by which the index, people or raters took something out or remarked."""
    lines = []
    for row in (row for path in tables_of(folder) for row in read_rows(path)):
        kind = "excluded" if row.takes_the_run_out else "remark"
        parts = (row.participant_id, row.session_id, row.task, row.run)
        unit = " ".join(part for part in parts if part != MISSING)
        lines.append(f"{kind} {unit} ({row.decided_by}): {row.reason}")
    return lines


def failures(folder: Path) -> list[str]:
    """Return one line per failed or killed step: unit, stage, class, why, what to do next."""
    return _reasons([cell for cell in states(folder) if cell.state in NEED_A_HAND])


def _reasons(cells: list[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.line for cell in cells if cell.why))


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
    layout = layout_of(folder, study, every_scan)
    broken, alive = incomplete(folder), bool(at_work(folder))
    cells = []
    for scan in scans.to_dict("records"):
        unit = f"{scan['participant_id']} {scan['session_id']}"
        cells += [
            _cell(folder, unit, stage, broken=broken, alive=alive) for stage in stages_of(study, layout, scan)
        ]
    unfinished = any(cell.state in UNFINISHED for cell in cells)
    for stage in study_stages(study, layout):
        cell = _cell(folder, "", stage, broken=broken, alive=alive)
        if unfinished and cell.state == "done" and stage.rule not in OF_NO_SCAN:
            cell = replace(cell, state="outdated", why=f"{OUTDATED}. {AGAIN}")
        unfinished = unfinished or cell.state in UNFINISHED
        cells.append(cell)
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


def _cell(folder: Path, unit: str, stage: Stage, *, broken: set[str], alive: bool) -> Cell:
    state, why, kind = _state(folder, stage, broken=broken, alive=alive)
    return Cell(unit, stage.name, state, why, kind, stage.log)


def _state(folder: Path, stage: Stage, *, broken: set[str], alive: bool) -> tuple[str, str, str]:
    """State, reason and class of failure of one stage: whether its job holds its log comes first."""
    log = folder / stage.log
    record, held = read_record(log), is_held(log)
    begun = record is not None and record.state == "running"
    if held or (begun and held is None and alive):
        return "running", "", ""
    if record and begun:
        return "killed", _killed(record), ""
    if record and record.state == "failed":
        return "failed", f"{record.reason.rstrip('.')}. Next: {_next(record, stage.log)}", record.kind
    if (folder / stage.output).is_file() and stage.output not in broken:
        return *_of_finished(folder, stage, record), ""
    if record:
        gone = "it was made and is gone"
        return ("waiting", "", "") if alive else ("damaged", f"{stage.output}: {gone}. {AGAIN}", "")
    return _by_log(log, stage.log, alive=alive)


def _of_finished(folder: Path, stage: Stage, record: Record | None) -> tuple[str, str]:
    """State and reason of a stage whose file is there: its size is looked at, its bytes by `verify`."""
    size = record.outputs.get(stage.output, (None, ""))[0] if record else None
    now = (folder / stage.output).stat().st_size
    if size not in (None, now):
        what = f"{stage.output} has {now} bytes, was made with {size}"
        return "damaged", f"{what}. Next: `reconfmri verify --repair`"
    if stage.exclusions and (folder / stage.exclusions).is_file():
        out = [row for row in read_exclusions(folder / stage.exclusions) if row.takes_the_run_out]
        if out:
            return "excluded", out[0].reason
    return "done", ""


def _killed(record: Record) -> str:
    where = f"on {record.host}" + (f", job {record.batch_job}" if record.batch_job else "")
    asked = f"{record.asked_mb} MB and {record.asked_min} min asked"
    return f"it ended without a word {where} (memory, power or kill -9? {asked}). {AGAIN}"


def _next(record: Record, log: str) -> str:
    """What to do about a failure, by its class."""
    more = "give its rule more (`set-resources` of a profile), then the same command again"
    return {
        "memory": more,
        "time": more,
        "disk": "make room, then run the same command again",
        "stopped": "run the same command again",
        "changed": "run the same command again",
    }.get(record.kind, f"read {log}, fix it, then run the same command again")


def _by_log(log: Path, shown: str, *, alive: bool) -> tuple[str, str, str]:
    """State by the log alone, of a job that left no record: of an earlier version, or on a full disk."""
    if not log.is_file():
        return "waiting", "", ""
    if last := last_words(log):
        return "failed", f"{last}. Next: read {shown}, fix it, then run the same command again", "software"
    if alive:
        return "waiting", "", ""
    return "killed", f"it ended without a word; {shown} has the rest. {AGAIN}", ""


def last_words(log: Path) -> str:
    """The last line of the traceback in a log, or nothing when it has none."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if "Traceback (most recent call last)" not in text:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".")


def with_plan(folder: Path, cells: list[Cell]) -> list[Cell]:
    """Return the cells with `outdated` for every finished job that Snakemake would do again today.

    Raises
    ------
    ValueError
        Snakemake cannot plan; the text is what it says.
    """
    command = [sys.executable, "-m", "snakemake", "all", "all_participant", "--dry-run", "--nocolor"]
    command += ["--snakefile", str(workflow_folder() / "Snakefile"), "--directory", str(folder)]
    done = subprocess.run(
        [*command, "--workflow-profile", "none"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError((done.stdout + done.stderr).strip())
    again = dict(re.findall(r"^    log: (\S+)(?:\n    .*)*?\n    reason: (.*)$", done.stdout, re.MULTILINE))
    return [
        replace(cell, state="outdated", why=f"{again[cell.log]}. {AGAIN}")
        if cell.log in again and cell.state in ("done", "excluded", "outdated")
        else replace(cell, state="done", why="")
        if cell.state == "outdated"
        else cell
        for cell in cells
    ]
