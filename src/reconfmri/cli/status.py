"""`reconfmri status`: participant x session x stage, from the files of a study folder."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconfmri.bids import bids_path, read_run_table
from reconfmri.cli.locks import left_locked, workers
from reconfmri.cli.screen import show_table
from reconfmri.config import CONFIG, Study, load_study
from reconfmri.decisions import keep_decisions, read_decisions
from reconfmri.exclusions import MISSING, read_exclusions

DERIVATIVES = "results/derivatives"
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
    if left_locked(folder):
        print(
            "locked by Snakemake, and no run is alive on this machine: it was killed. Next: type `snakemake "
            "--unlock` in the study folder (unless a run is alive on another machine), then the same command "
            "again; `reconfmri run` goes on without it"
        )
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
    scans = keep_decisions(read_run_table(folder / "config/runs.tsv"), read_decisions(folder))
    broken, alive = incomplete(folder), bool(workers(folder))
    with_runs = bool((scans["run"] != MISSING).any())
    cells = []
    for scan in scans.to_dict("records"):
        unit = f"{scan['participant_id']} {scan['session_id']}"
        for stage in stages_of(study, scan, with_runs=with_runs):
            state, why = _state(folder, stage, broken=broken, alive=alive)
            cells.append(Cell(unit, stage.name, state, why))
    for stage in study_stages(study):
        state, why = _state(folder, stage, broken=broken, alive=alive)
        cells.append(Cell("", stage.name, state, why))
    return cells


def stages_of(study: Study, scan: Mapping[Hashable, Any], *, with_runs: bool) -> list[Stage]:
    """The stages of one row of the run table, named and filed as the rules do."""
    sub = scan["participant_id"].removeprefix("sub-")
    run = "1" if scan["run"] == MISSING else scan["run"]
    entities = {
        "sub": sub,
        "ses": None if scan["session_id"] == MISSING else scan["session_id"],
        "task": scan["task"],
        "run": run if with_runs else None,
    }

    def file(ext: str = ".tsv", suffix: str = "exclusions", **more: str) -> str:
        return bids_path(DERIVATIVES, datatype="func", suffix=suffix, ext=ext, **entities, **more)

    def step(name: str, rule: str, desc: str, output: str) -> Stage:
        unit = Path(file(suffix="log", ext="")).name.removesuffix("_log")
        return Stage(name, rule, output, file(desc=desc), f"logs/{rule}/{unit}.log")

    def producer(name: str, rule: str, desc: str) -> Stage:
        return step(name, rule, desc, file(desc=desc, suffix="measures"))

    person: dict[str, Any] = {"sub": sub, "datatype": "anat"}
    if study.preprocessing.anatomy == "sessionwise":
        person["ses"] = entities["ses"]
    t1w = bids_path(DERIVATIVES, desc="preproc", suffix="T1w", ext=".nii.gz", **person)
    out = bids_path(DERIVATIVES, suffix="exclusions", ext=".tsv", **person)
    log = Path(bids_path("", suffix="log", ext="", **person)).name.removesuffix("_log")
    confounds = file(desc="confounds", suffix="timeseries")
    embedded = [
        Stage("anatomy", "prepare_anatomy", t1w, out, f"logs/prepare_anatomy/{log}.log"),
        step("alignment", "align_run", "align", file(desc="alignment", suffix="xfm", ext=".json")),
        step("resampling", "resample_run", "resample", confounds),
    ]
    job = (f"results/fmriprep_jobs/sub-{sub}.json", "", f"logs/run_fmriprep/sub-{sub}.log")
    settings = study.preprocessing.fmriprep
    fmriprep = [
        *([Stage("fMRIPrep", "run_fmriprep", *job)] if settings and settings.container else []),
        step("adoption", "adopt_fmriprep_run", "adopt", confounds),
    ]
    stages = [
        *(embedded if study.preprocessing.engine == "embedded" else fmriprep),
        step("signals", "extract_region_signals", "signals", file(seg="study", suffix="timeseries")),
        producer("quality", "assess_quality", "quality"),
    ]
    task, events = scan["task"], scan["events"] != MISSING
    if study.first_level and study.first_level.task == task and events:
        stages.append(producer("first level", "fit_first_level", "activation"))
    if study.connectivity and study.connectivity.task == task:
        stages.append(producer("connectivity", "estimate_connectivity", "connectivity"))
    if study.skin_conductance and study.skin_conductance.task == task and scan["physio"] != MISSING:
        stages.append(producer("skin", "score_skin_conductance", "scr"))
    return stages


def study_stages(study: Study) -> list[Stage]:
    """The stages that the whole study shares, in the order of the workflow."""
    files = {
        "regions": ("carry_atlas", f"{DERIVATIVES}/atlas/space-MNI152NLin2009cAsym_regions.nii.gz"),
        **{f"scale {name}": ("score_scale", f"results/scales/{name}_measures.tsv") for name in study.scales},
        "measures": ("stack_measures", "results/measures.tsv"),
        "exclusions": ("stack_exclusions", "results/exclusions.tsv"),
        "session parity": ("audit_sessions", "results/parity.tsv"),
    }
    if study.group:
        files |= {
            "Bayesian models": ("fit_bayesian_models", "results/group/bayesian_estimates.tsv"),
            "frequentist models": ("fit_frequentist_models", "results/group/frequentist_estimates.tsv"),
            "randomisation test": ("test_by_randomisation", "results/group/randomisation_estimates.tsv"),
            "estimates": ("collect_estimates", "results/estimates.tsv"),
        }
    files["report"] = ("build_report", "results/report.html")
    logs = {f"scale {name}": name for name in study.scales}
    return [
        Stage(name, rule, output, "", f"logs/{rule}/{logs.get(name, 'study')}.log")
        for name, (rule, output) in files.items()
    ]


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
