"""A commented study file from what a dataset holds, and the arm column out of participants.tsv."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from reconfmri import bids
from reconfmri.checks import CONFIG, arm_column
from reconfmri.dataset import Dataset, read_dataset
from reconfmri.exclusions import MISSING
from reconfmri.problems import stops
from reconfmri.provenance import workflow_folder
from reconfmri.tables import read_table

FEW_EVENTS = 12  # up to this many events per run, each script gets a regressor of its own
CONTROLS = ("placebo", "control", "midazolam", "sham", "saline", "vehicle")
SKIN = ("skin_conductance", "skinconductance", "eda", "gsr", "scr")
KNOWN_SCALES = {"pcl5": ((0, 80), "PCL-5 points"), "caps5": ((0, 80), "CAPS-5 points")}
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
    sessions: list[str]
    trial_types: dict[str, list[str]]  # task -> trial types
    most_events: dict[str, int]  # task -> events in its longest table
    skin_column: tuple[str, str] | None = None  # task, column
    scales: list[str] = field(default_factory=list)


def start_study(folder: Path, root: Path, *, move_arms: bool) -> list[str]:
    """Write `config/config.yaml`, `Snakefile` and, from an arm column, `allocation.tsv`; return what to tell.

    With `move_arms` the arm column leaves participants.tsv; else it is copied and the dataset stays as it is.

    Raises
    ------
    ValueError
        There is a study already, the dataset is no BIDS dataset, or the arm column cannot be moved.
    """
    if (folder / CONFIG).exists():
        raise ValueError(
            f"{folder / CONFIG} exists; nothing was overwritten. Mend: edit it, or give another folder"
        )
    dataset, problems = read_dataset(root)
    if stops(problems):
        raise ValueError("\n".join(problem.line for problem in stops(problems)))
    found = look_at(dataset)
    if not found.trial_types:
        raise ValueError(
            f"E-BIDS-A16 {root}: no functional image or events table. Mend: give the BIDS dataset's root"
        )
    told, arms = _take_arms(folder, root, move=move_arms)
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(draft(found, bids_from(folder, root), arms), encoding="utf-8")
    (folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    # The lab's to edit, where Snakemake looks for it: `--workflow-profile workflow/profiles/slurm`.
    for profile in (workflow_folder() / "workflow/profiles").glob("*/config.yaml"):
        _copy_once(profile, folder / "workflow/profiles" / profile.parent.name / "config.yaml")
    return [*told, f"wrote {folder / CONFIG}: read it, then `reconfmri index`, `reconfmri check`"]


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
    sessions = sorted({file.entities["ses"] for file in scans if "ses" in file.entities}, key=_natural)
    kinds: dict[str, list[str]] = {}
    most: dict[str, int] = {}
    for task in tasks:
        kinds[task], most[task] = _trial_types(dataset, task)
    name = str(bids.read_json(dataset.root / "dataset_description.json").get("Name", dataset.root.name))
    scales = sorted(path.stem for path in (dataset.root / "phenotype").glob("*.tsv"))
    return Found(name.strip(), sessions, kinds, most, _skin_column(dataset), scales)


def _natural(label: str) -> tuple[tuple[int, str], ...]:
    parts = re.findall(r"\d+|\D+", label)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _trial_types(dataset: Dataset, task: str) -> tuple[list[str], int]:
    kinds: dict[str, None] = {}
    most = 0
    for file in dataset.of("events", ".tsv"):
        if file.entities.get("task") == task:
            try:
                table = read_table(dataset.root / file.path, required=["trial_type"])
            except (ValueError, OSError):
                continue  # the index names it, with line and mend
            kinds |= dict.fromkeys(str(kind) for kind in table["trial_type"].dropna())
            most = max(most, len(table))
    return list(kinds), most


def _skin_column(dataset: Dataset) -> tuple[str, str] | None:
    for file in dataset.of("physio", ".tsv.gz"):
        try:
            columns = bids.read_sidecar(dataset.root, file.path).get("Columns") or []
        except ValueError:
            continue  # the index names it
        for column in columns:
            if str(column).lower() in SKIN and "task" in file.entities:
                return file.entities["task"], str(column)
    return None


def _take_arms(folder: Path, root: Path, *, move: bool) -> tuple[list[str], list[str]]:
    """Write allocation.tsv from an arm column; return what to tell and the arm labels, active first."""
    allocation, column = folder / "allocation.tsv", arm_column(root)
    if allocation.exists():
        return [f"{allocation} was there and stays"], _ordered(bids.read_allocation(allocation)["arm"])
    if column is None:
        return [], []
    table = read_table(root / "participants.tsv")
    arms = table[["participant_id", column]].rename(columns={column: "arm"}).dropna()
    if move and not os.access(root / "participants.tsv", os.W_OK):
        raise ValueError(
            f"E-CONF-F12 {root / 'participants.tsv'}: the column {column!r} is the arm, but the file cannot "
            "be written. Mend: make it writable, or write allocation.tsv into the study folder yourself"
        )
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{row.participant_id}\t{row.arm}\t{MISSING}" for row in arms.itertuples()]
    allocation.write_text("\n".join(["participant_id\tarm\tstratum", *rows]) + "\n", encoding="utf-8")
    if move:
        _drop_column(root / "participants.tsv", column)
    verb = "moved" if move else "copied"
    return [f"{verb} the arm column {column!r} from participants.tsv to {allocation}"], _ordered(arms["arm"])


def _ordered(arms: Iterable[str]) -> list[str]:
    """Arm labels, the one that sounds like a control last."""
    return sorted(set(arms), key=lambda arm: (any(word in arm.lower() for word in CONTROLS), arm))


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


def draft(found: Found, root: str, arms: list[str]) -> str:
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
    sessions = "sessions: []                    # the data have none\n"
    if found.sessions:
        rows = [
            f"  - {{id: {_quoted(s)}, name: {_quoted(s)}, day: {n}}}\n" for n, s in enumerate(found.sessions)
        ]
        sessions = (
            "sessions:                       # the first is the baseline; `day` = days from it: CORRECT\n"
        )
        sessions += "".join(rows)
    return (
        "# The study, drafted by `reconfmri init` from what the dataset holds. Lines with CORRECT need you.\n"
        "# Every key with type, unit, default and an example: config/README.md of reconfmri.\n"
        f"name: {_quoted(found.name)}\n"
        'question: ""                    # one or two sentences; opens the report\n'
        f"bids: {_quoted(root)}\n"
        "seed: 1                         # of every random step\n\n" + sessions
    )


def condition_of(kind: str) -> str:
    """A trial type as the name of a condition: lower case, digits, underscores."""
    name = re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_")
    return name if name[:1].isalpha() else f"c_{name}"


def _events(found: Found, task: str) -> str:
    return "each" if found.most_events[task] <= FEW_EVENTS else "condition"


def _tasks(found: Found) -> str:
    text = "tasks:                          # trial_type in events.tsv -> condition; rest has none\n"
    for task, kinds in found.trial_types.items():
        if not kinds:
            text += f"  {_quoted(task)}: {{}}\n"
            continue
        pairs = ", ".join(f"{_quoted(kind)}: {condition_of(kind)}" for kind in kinds)
        text += f"  {_quoted(task)}:\n"
        text += f"    events: {_events(found, task)}    # a regressor per event (each) or per condition\n"
        text += f"    conditions: {{{pairs}}}\n"
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
    return list(dict.fromkeys(condition_of(kind) for kind in found.trial_types[task]))


def _contrasts(found: Found, task: str) -> dict[str, str]:
    names = _conditions(found, task)
    contrasts = {name: f"{{{name}: 1}}" for name in names}
    if len(names) > 1:
        contrasts |= {f"{names[0]}-{names[1]}": f"{{{names[0]}: 1, {names[1]}: -1}}"}
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
        "  contrasts:                    # condition weights: CORRECT\n" + lines
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
        "  window: [0.0, 10.0]           # s from the onset of each event\n"
        f"  conditions: [{', '.join(_conditions(found, task))}]\n"
    )


def _scales(found: Found) -> str:
    if not found.scales:
        return ""
    text = (
        "scales:                         # phenotype/<name>.tsv\n"
        if set(found.scales) & set(KNOWN_SCALES)
        else ""
    )
    for name in found.scales:
        bounds, unit = KNOWN_SCALES.get(name, ((0, 100), "points"))
        mark = "" if name in KNOWN_SCALES else "# "
        text += f"{mark}  {name}: {{total: total, range: {list(bounds)}, unit: {unit}}}\n"
    return text


def _group(found: Found, arms: list[str], task: str | None) -> str:
    if len(arms) < 2 or task is None:
        return (
            "group: none                     # a study without arms; see config/README.md for one with arms\n"
        )
    outcome = f"amygdala.{list(_contrasts(found, task))[-1]}"
    outcomes = [outcome, outcome.replace("amygdala", "hippocampus"), outcome.replace("amygdala", "vmpfc")]
    outcomes += [f"{name}.total" for name in found.scales if name in KNOWN_SCALES]
    later = (found.sessions[1:] or found.sessions or ["1"])[0]
    listed = "".join(f"    - {name}\n" for name in outcomes)
    return (
        "group:\n"
        "  allocation: allocation.tsv    # outside the BIDS folder; read by group rules only\n"
        f"  arms: {{active: {_quoted(arms[0])}, control: {_quoted(arms[1])}}}    # CORRECT\n"
        f"  outcomes:\n{listed}"
        f"  primary: {{outcome: {outcome}, session: {_quoted(later)}, estimand: "
        f"{'difference_adjusted' if len(found.sessions) > 1 else 'difference_unadjusted'}}}    # CORRECT\n"
        "  level: 0.95\n"
    )
