"""A commented study file from what a dataset holds."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from reconfmri import bids, nuisance
from reconfmri.channels import columns_of
from reconfmri.checks import MARK
from reconfmri.cli.arms import Arms, move_arm_column, take_arms
from reconfmri.config import CONFIG, DEFAULT_SCALES, LONG_SCRIPT, WHOLE_RUN, bare
from reconfmri.config.scales import library
from reconfmri.dataset import Dataset, check_spellings, read_dataset
from reconfmri.labels import alike, is_number
from reconfmri.problems import stops
from reconfmri.provenance import workflow_folder
from reconfmri.tables import read_table
from reconfmri.visits import order_by_time, session_times

FEW_EVENTS = 12  # up to this many events per run, each script gets a regressor of its own
SCHEMA = "config.schema.json"
SNAKEFILE = """from reconfmri.provenance import workflow_folder


module reconfmri:
    snakefile:
        str(workflow_folder() / "Snakefile")


use rule * from reconfmri
"""


@dataclass(frozen=True)
class Found:
    """What a dataset holds, as far as a study file asks."""

    name: str
    days: dict[
        str, float | None
    ]  # session label -> day from the first one, in order; None where nothing tells it
    trial_types: dict[str, list[str]]  # task -> trial types
    most_events: dict[str, int]  # task -> events in its longest table
    skin_column: tuple[str, str] | None = None  # task, column
    long_scripts: tuple[str, ...] = ()  # tasks whose events last over 30 s (median)
    scales: dict[str, str | None] = field(default_factory=dict)  # phenotype table -> its column of totals

    @property
    def sessions(self) -> list[str]:
        """The labels of the sessions."""
        return list(self.days)


def start_study(
    folder: Path, root: Path, *, arm_column: str | None = None, move_arms: bool = False
) -> list[str]:
    """Write `config/config.yaml`, its schema, `Snakefile` and, from an arm column, `allocation.tsv`.

    Returns what to say. The dataset is only changed with `move_arms`: then the arm column leaves
    participants.tsv, after a copy of the table into the study folder; that can also be asked later, alone.

    Raises
    ------
    ValueError
        There is a study already, the dataset is no BIDS dataset, several columns may be the arm, or the arm
        column cannot be moved.
    """
    if (folder / CONFIG).exists() and move_arms:
        return move_arm_column(folder, root, arm_column)
    if (folder / CONFIG).exists():
        raise ValueError(
            f"{folder / CONFIG} exists; nothing was overwritten. Fix: edit it, or give another folder"
        )
    dataset, problems = read_dataset(root)
    problems += check_spellings(dataset)
    if stops(problems):
        raise ValueError("\n".join(problem.line for problem in stops(problems)))
    found = look_at(dataset)
    if not found.trial_types:
        raise ValueError(
            f"E-BIDS-A16 {root}: no functional image or events table. Fix: give the BIDS dataset's root"
        )
    arms = take_arms(folder, root, arm_column)
    said = [*arms.said, *(move_arm_column(folder, root, arm_column) if move_arms else [])]
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(draft(found, bids_from(folder, root), arms), encoding="utf-8")
    shutil.copyfile(workflow_folder() / "workflow/schemas" / SCHEMA, folder / "config" / SCHEMA)
    (folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    # The lab's to edit, where Snakemake looks for it: `--workflow-profile workflow/profiles/slurm`.
    for profile in (workflow_folder() / "workflow/profiles").glob("*/config.yaml"):
        _copy_once(profile, folder / "workflow/profiles" / profile.parent.name / "config.yaml")
    return [*said, f"wrote {folder / CONFIG}: read it, then `reconfmri index`, `reconfmri check`"]


def _copy_once(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")


def bids_from(folder: Path, root: Path) -> str:
    """The dataset as the study file names it: relative when it lies in or beside the study folder."""
    here, there = folder.resolve(), root.resolve()
    near = here == there.parent or here in there.parents or here.parent == there.parent
    return os.path.relpath(there, here) if near else str(there)


def look_at(dataset: Dataset) -> Found:
    """Return the sessions, tasks, trial types, scales and the skin conductance column of a dataset."""
    scans = [*dataset.of("bold", ".nii", ".nii.gz", ".json"), *dataset.of("events", ".tsv")]
    tasks = sorted({file.entities["task"] for file in scans if "task" in file.entities})
    sessions = sorted({file.entities["ses"] for file in scans if "ses" in file.entities})
    kinds: dict[str, list[str]] = {}
    most: dict[str, int] = {}
    for task in tasks:
        kinds[task], most[task] = _trial_types(dataset, task)
    name = str(bids.read_json(dataset.root / "dataset_description.json").get("Name") or "").strip()
    return Found(
        name=name or dataset.root.resolve().name,
        days=_days(dataset.root, sessions),
        trial_types=kinds,
        most_events=most,
        skin_column=_skin_column(dataset),
        long_scripts=tuple(task for task in tasks if _script_length(dataset, task) > LONG_SCRIPT),
        scales=_phenotype(dataset.root),
    )


def _days(root: Path, sessions: list[str]) -> dict[str, float | None]:
    """Session -> day, in order of the dates of scans.tsv and sessions.tsv; open without, numbers in order."""
    if len(sessions) < 2:
        return dict.fromkeys(sessions, 0.0)
    dated = order_by_time(session_times(root), sessions)
    if dated is not None:
        return dict(dated)
    return dict.fromkeys(sorted(sessions, key=float) if all(map(is_number, sessions)) else sessions)


def _phenotype(root: Path) -> dict[str, str | None]:
    """Table of `phenotype/` -> its only column that is called a total; None without one."""
    scales: dict[str, str | None] = {}
    for path in sorted((root / "phenotype").glob("*.tsv")):
        try:
            columns = [str(name) for name in read_table(path).columns]
        except (ValueError, OSError):
            columns = []  # `check` names it
        totals = [name for name in columns if name == "total"] or [n for n in columns if "total" in n.lower()]
        scales[path.stem] = totals[0] if len(totals) == 1 else None
    return scales


def _trial_types(dataset: Dataset, task: str) -> tuple[list[str], int]:
    kinds: dict[str, None] = {}
    most = 0
    for file in dataset.of("events", ".tsv"):
        if file.entities.get("task") == task:
            try:
                table = read_table(dataset.root / file.path, required=["trial_type"])
            except (ValueError, OSError):
                continue  # the index names it, with line and fix
            kinds |= dict.fromkeys(map(str, table["trial_type"].dropna()))
            most = max(most, len(table))
    return list(kinds), most


def _script_length(dataset: Dataset, task: str) -> float:
    """The median duration of a task's events, s; 0 where nothing tells it."""
    lengths: list[float] = []
    for file in dataset.of("events", ".tsv"):
        if file.entities.get("task") == task:
            try:
                table = read_table(dataset.root / file.path, required=["trial_type"], numeric=["duration"])
            except (ValueError, OSError):
                continue  # the index names it, with line and fix
            lengths += table.loc[table["trial_type"].notna(), "duration"].dropna().tolist()
    return statistics.median(lengths) if lengths else 0.0


def _skin_column(dataset: Dataset) -> tuple[str, str] | None:
    for file in dataset.of("physio", ".tsv.gz"):
        try:
            sidecar = bids.read_sidecar(dataset.root, file.path)
        except ValueError:
            continue  # the index names it
        columns = (
            columns_of(sidecar, "skin_conductance", None) if isinstance(sidecar.get("Columns"), list) else []
        )
        if columns and "task" in file.entities:
            return file.entities["task"], columns[0]
    return None


def draft(found: Found, root: str, arms: Arms) -> str:
    """Return the study file: what was found, with the usual settings and a comment on every part."""
    with_events = [task for task, kinds in found.trial_types.items() if kinds]
    parts = [
        _opening(found, root),
        _tasks(found),
        REGIONS,
        _first_level(found, with_events[0]) if with_events else "",
        _connectivity(found, with_events[0] if with_events else next(iter(found.trial_types))),
        _skin(found),
        _scales(found),
        QUALITY,
        _group(found, arms, with_events[0] if with_events else None),
    ]
    return "\n".join(part for part in parts if part)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _opening(found: Found, root: str) -> str:
    return (
        f"# yaml-language-server: $schema={SCHEMA}\n"
        f"# The study, drafted by `reconfmri init` from what the dataset holds. Lines marked {MARK} need\n"
        "# you: correct them, then delete the mark.\n"
        "# Every key with type, unit, default and an example: config/README.md of reconfmri.\n"
        f"name: {_quoted(found.name)}\n"
        'question: ""                    # one or two sentences; opens the report\n'
        f"bids: {_quoted(root)}\n"
        "seed: 1                         # of every random step\n\n" + _visits(found)
    )


def _visits(found: Found) -> str:
    if not found.sessions:
        return "sessions: []                    # the data have none\n"
    if len(found.sessions) > 1 and None in found.days.values():
        source = f"# in order of time, the first is the baseline; `day` = days from it, to fill in: {MARK}"
    else:
        source = f"# the first is the baseline; `day` = days from it, as in the dates of the dataset: {MARK}"
    rows = [
        f"  - {{id: {_quoted(label)}, name: {_quoted(label)}, day: "
        f"{'null' if day is None else f'{day:g}'}}}\n"
        for label, day in found.days.items()
    ]
    return f"sessions:                       {source}\n" + "".join(rows)


def condition_of(kind: str) -> str:
    """A trial type as the name of a condition: lower case, digits, underscores."""
    name = re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_")
    taken = nuisance.is_column(name) or name == WHOLE_RUN
    return name if name[:1].isalpha() and not taken else f"c_{name}"


def conditions_of(kinds: list[str]) -> dict[str, str]:
    """Trial type -> condition, one each: what differs in blanks or case only is for the analyst to join."""
    plain, names = [condition_of(kind) for kind in kinds], dict[str, str]()
    for kind, name in zip(kinds, plain, strict=True):
        stem, _, end = name.rpartition("_")
        if stem in plain and (end.isdigit() or end in ("first", "derivative")):
            name = f"c_{name}"  # `a_1` is an event of `a`
        number, others = 1, {bare(other) for other in names.values()}
        while bare(chosen := name if number == 1 else f"{name}_spelling{number}") in others:
            number += 1
        names[kind] = chosen
    return names


def _events(found: Found, task: str) -> str:
    return "each" if found.most_events[task] <= FEW_EVENTS else "condition"


def _tasks(found: Found) -> str:
    text = "tasks:                          # trial_type in events.tsv -> condition; rest has none\n"
    for task, kinds in found.trial_types.items():
        if not kinds:
            text += f"  {_quoted(task)}: {{}}\n"
            continue
        pairs = ", ".join(f"{_quoted(kind)}: {name}" for kind, name in conditions_of(kinds).items())
        doubt = f"    # spellings of one? {MARK}" if alike(kinds) else ""
        text += f"  {_quoted(task)}:\n"
        text += f"    events: {_events(found, task)}    # a regressor per event (each) or per condition\n"
        text += f"    conditions: {{{pairs}}}{doubt}\n"
    return text


REGIONS = """preprocessing:
  engine: embedded
  resolution: 2.0               # mm, template grid
  registration: full

rois:
  regions:                      # Harvard-Oxford labels and the probability from which a voxel belongs
    amygdala_left: {labels: [Left Amygdala], threshold: 0.5}
    amygdala_right: {labels: [Right Amygdala], threshold: 0.5}
    hippocampus_left: {labels: [Left Hippocampus], threshold: 0.5}
    hippocampus_right: {labels: [Right Hippocampus], threshold: 0.5}
    vmpfc: {labels: [Frontal Medial Cortex, Subcallosal Cortex], threshold: 0.3}
    occipital: {labels: [Occipital Pole], threshold: 0.3}    # control region
  combined:                     # both sides, weighted by volume
    amygdala: [amygdala_left, amygdala_right]
    hippocampus: [hippocampus_left, hippocampus_right]
  min_coverage: 0.8
"""
QUALITY = """quality:
  max_mean_fd: 0.5              # mm
  fd_threshold: 0.5             # mm
  max_outlier_share: 0.3
"""


def _conditions(found: Found, task: str) -> list[str]:
    return list(conditions_of(found.trial_types[task]).values())


def _contrasts(found: Found, task: str) -> dict[str, str]:
    names = _conditions(found, task)
    contrasts = {name: f"{{{name}: 1}}" for name in names}
    if len(names) > 1:
        one, other = names[:2]
        between = "-minus-" if bare(one + other) in map(bare, names) else "-"
        contrasts |= {f"{one}{between}{other}": f"{{{one}: 1, {other}: -1}}"}
    return contrasts


def _first_level(found: Found, task: str) -> str:
    lines = "".join(f"    {name}: {weights}\n" for name, weights in _contrasts(found, task).items())
    return (
        "first_level:\n"
        f"  task: {_quoted(task)}\n"
        "  hrf: glover\n"
        "  high_pass: 0.008              # Hz; long scripts (120 s) need 0.002\n"
        "  noise: ar1\n"
        "  confounds: [motion6, acompcor, non_steady_state]\n"
        f"  contrasts:                    # condition weights: {MARK}\n" + lines
    )


def _connectivity(found: Found, task: str) -> str:
    names = _conditions(found, task)[:1] or ["run"]
    return (
        "connectivity:\n"
        f"  task: {_quoted(task)}\n"
        "  pairs: [[amygdala, hippocampus], [hippocampus, vmpfc], [amygdala, vmpfc]]\n"
        f"  conditions: [{', '.join(names)}]    # or `run`, for a whole run\n"
        "  band: [0.01, 0.1]             # Hz\n"
    )


def _skin(found: Found) -> str:
    if found.skin_column is None or not found.trial_types.get(found.skin_column[0]):
        return ""
    task, column = found.skin_column
    return (
        "skin_conductance:\n"
        f"  task: {_quoted(task)}\n"
        f"  column: {_quoted(column)}\n"
        + (
            "  scores: [level, peak]         # the first is the primary one\n"
            if task in found.long_scripts
            else ""
        )
        + "  window: [0.0, 10.0]           # s from the onset of each event\n"
        f"  conditions: [{', '.join(_conditions(found, task))}]\n"
    )


def _scales(found: Found) -> str:
    if not found.scales:
        return ""
    text = "scales:                         # phenotype/<name>.tsv\n" if _known_scales(found) else ""
    for name, total in found.scales.items():
        column = f"total: {_quoted(total or 'total')}"
        if name in _known_scales(found):
            text += f"  {name}: {{library: {name}, {column}}}\n"
        else:
            text += f"#   {name}: {{{column}, range: [0, 100], unit: points}}\n"
    return text


def _known_scales(found: Found) -> list[str]:
    """Scales whose range is known and whose table has a column of totals."""
    return [name for name, total in found.scales.items() if name in library() and total]


def _group(found: Found, arms: Arms, task: str | None) -> str:
    if not arms.labels or task is None:
        return (
            "group: none                     # a study without arms; see config/README.md for one with arms\n"
        )
    outcome = f"amygdala.{list(_contrasts(found, task))[-1]}"
    outcomes = [outcome, outcome.replace("amygdala", "hippocampus"), outcome.replace("amygdala", "vmpfc")]
    units = {name: library()[name]["unit"] for name in _known_scales(found)}
    outcomes += [f"{name}.total" for name, unit in units.items() if unit in DEFAULT_SCALES]
    listed = "".join(f"    - {name}\n" for name in outcomes)
    several = len(found.sessions) > 1
    later = f", session: {_quoted((found.sessions[1:] or found.sessions)[0])}" if found.sessions else ""
    estimand = "difference_adjusted" if several else "difference_unadjusted"
    return (
        "group:\n"
        "  allocation: allocation.tsv    # outside the BIDS folder; read by group rules only\n"
        f"  arms: {{active: {_quoted(arms.active)}, control: {_quoted(arms.control)}}}    "
        f"# of {', '.join(arms.labels)}: {MARK}\n"
        f"  outcomes:\n{listed}"
        + (
            ""
            if several
            else "  estimands: [difference_unadjusted]    # one visit has no baseline before it\n"
        )
        + f"  primary: {{outcome: {outcome}{later}, estimand: {estimand}}}    # {MARK}\n"
        "  level: 0.95\n"
    )
