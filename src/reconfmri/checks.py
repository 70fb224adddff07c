"""Every problem in the data and the study file that can be found before any compute (docs/codes.md)."""

from __future__ import annotations

import difflib
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from reconfmri import bids, covariates
from reconfmri.config import Group, Study, load_study
from reconfmri.dataset import twice
from reconfmri.derivatives import check_fmriprep
from reconfmri.exclusions import MISSING, read_exclusions
from reconfmri.indexing import Progress, index_dataset, keep_decisions
from reconfmri.problems import Problem
from reconfmri.tables import read_table
from reconfmri.templates import harvard_oxford

CONFIG = "config/config.yaml"
ARM_COLUMNS = (
    "arm",
    "group",
    "treatment",
    "allocation",
    "randomization",
    "randomisation",
    "drug",
    "condition",
)


def check_study(folder: Path, *, full: bool = True, progress: Progress | None = None) -> list[Problem]:
    """Return every problem of the study folder, its data and its allocation.

    `full` reads every image and compares its content with the index; else the run table is believed.
    """
    study, problems = read_study(folder / CONFIG)
    if study is None:
        return problems
    root = folder / study.bids
    problems += check_places(root, folder) + check_regions(study)
    if not root.is_dir():
        return problems
    if full:
        table, found = index_dataset(root, study, progress=progress)
        problems += found + check_frozen(folder, root, table)
    else:
        table, found = _believed(folder, root)
        problems += found
    problems += check_trial_types(root, study, table) + check_scales(root, study)
    embedded = study.preprocessing.engine == "embedded"
    problems += check_derivatives(root) if embedded else check_fmriprep(folder, study, table, full=full)
    problems += check_covariates(root, study, table) + check_blinding(root)
    return problems + (check_allocation(folder, study, table) if study.group else [])


def _believed(folder: Path, root: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """The run table as it stands, after the quick check that the data did not change."""
    table, name = pd.DataFrame(columns=list(bids.RUN_COLUMNS)), "config/runs.tsv"
    try:
        table = bids.read_run_table(folder / name)
        bids.verify_unchanged(table, root, read_record(folder))
    except (ValueError, FileNotFoundError) as error:
        return table, [_index_again(error, name)]
    return table, []


def _index_again(error: Exception, name: str) -> Problem:
    mend = "index again (`reconfmri index`)"
    what = str(error).removeprefix("E-BIDS-A13 ").removesuffix(f". Mend: {mend}")
    return Problem("STOP", "E-BIDS-A13", what, mend, name)


def read_study(path: Path) -> tuple[Study | None, list[Problem]]:
    """Return the study, or one STOP per fault of its file."""
    try:
        return load_study(path), []
    except ValueError as error:
        problems = []
        for line in str(error).splitlines():
            code, _, text = line.partition(" ")
            what, _, mend = text.removeprefix(f"{path}: ").partition(". Mend: ")
            problems.append(Problem("STOP", code, what, mend or "correct that key", CONFIG))
        return None, problems


def check_places(root: Path, folder: Path) -> list[Problem]:
    """Where results may be written: never among the raw data; as BIDS says, in a folder of derivatives/."""
    if not root.is_dir():
        mend = f"correct `bids` in {CONFIG}, a path relative to the study folder"
        return [Problem("STOP", "E-CONF-C07", "no such BIDS folder", mend, str(root))]
    source, target = root.resolve(), folder.resolve()
    if (source == target or source in target.parents) and source / "derivatives" not in target.parents:
        where = "the BIDS folder itself" if source == target else "inside the BIDS folder"
        what = f"the output folder is {where} ({root})"
        mend = "give a folder outside of it, or one in its derivatives/"
        return [Problem("STOP", "E-CONF-C07", what, mend, str(folder))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        what = f"the output folder cannot be written ({error.strerror})"
        mend = "choose another folder, or change its permissions"
        return [Problem("STOP", "E-CONF-C07", what, mend, str(folder))]
    if root.stat().st_dev != folder.stat().st_dev:
        what = "the output folder is on another file system than the data"
        return [Problem("WARN", "W-CONF-C07", what, "none, if that is wanted", str(folder))]
    return []


def check_regions(study: Study) -> list[Problem]:
    """Labels of the study's regions must be in the atlas; one without a side stands for left and right."""
    _, known = harvard_oxford()
    problems = []
    for name, region in study.rois.regions.items():
        for label in region.labels:
            if label in known or f"Left {label}" in known:
                continue
            near = difflib.get_close_matches(label, known, n=1, cutoff=0.4)
            what = f"rois.regions.{name} names the label {label!r}, which the Harvard-Oxford atlas lacks"
            mend = f"did you mean {(near or known)[0]!r}?"
            problems.append(Problem("STOP", "E-CONF-C04", what, mend, CONFIG))
    return problems


def check_frozen(folder: Path, root: Path, fresh: pd.DataFrame) -> list[Problem]:
    """The run table that the analyst froze against what the data are now."""
    name = "config/runs.tsv"
    if not (folder / name).is_file():
        return [Problem("STOP", "E-BIDS-A13", "there is no run table", "make it: `reconfmri index`", name)]
    try:
        frozen = bids.read_run_table(folder / name)
        bids.verify_unchanged(frozen, root, read_record(folder), full=True)
        decided = read_exclusions(folder / "config/exclusions.tsv")
    except (ValueError, FileNotFoundError) as error:
        return [_index_again(error, name)]
    listed = set(frozen["bold"])
    return [
        Problem(
            "STOP",
            "E-BIDS-A13",
            "the scan is neither in the run table nor in config/exclusions.tsv",
            "index again, or give it a row with its reason and decided_by in config/exclusions.tsv",
            path,
        )
        for path in keep_decisions(fresh, decided)["bold"]
        if path not in listed
    ]


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what `config/index.json` tells of the data; None for a run table made by hand."""
    path = folder / "config/index.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def check_trial_types(root: Path, study: Study, table: pd.DataFrame) -> list[Problem]:
    """Trial types that the study file does not name, and conditions that no events table holds."""
    problems = []
    for name, task in study.tasks.items():
        runs = table[(table["task"] == name) & (table["events"] != MISSING)]
        found: dict[str, list[str]] = defaultdict(list)
        for path in dict.fromkeys(runs["events"]) if task.conditions else ():
            for kind in read_table(root / path)["trial_type"].dropna().unique():
                found[kind].append(path)
        for kind in sorted(set(task.conditions) - set(found)) if found else ():
            what = f"tasks.{name}.conditions names the trial type {kind!r}, which no events table has"
            mend = f"correct it; the data have {sorted(found)}"
            problems.append(Problem("STOP", "E-CONF-C04", what, mend, CONFIG))
        for kind in sorted(set(found) - set(task.conditions) - set(task.ignore)):
            others = f" (and {len(found[kind]) - 1} more tables)" if len(found[kind]) > 1 else ""
            what = f"the trial type {kind!r} is not in the study file{others}; its runs would be excluded"
            mend = f"name it in tasks.{name}.conditions or tasks.{name}.ignore"
            problems.append(Problem("STOP", "E-BIDS-B13", what, mend, found[kind][0]))
    return problems


def check_scales(root: Path, study: Study) -> list[Problem]:
    """One row per person and session in `phenotype/<scale>.tsv`."""
    problems = []
    for name, scale in study.scales.items():
        path = f"phenotype/{name}.tsv"
        keys = ["participant_id", *(["session_id"] if study.sessions else [])]
        if not (root / path).is_file():
            what, mend = f"the table of scales.{name} is missing", f"add it, or delete scales.{name}"
            problems.append(Problem("STOP", "E-BIDS-B16", what, mend, path))
            continue
        try:
            table = read_table(root / path, required=[*keys, scale.total, *scale.items])
        except ValueError as error:
            what = str(error).removeprefix(f"{root / path}: ")
            problems.append(Problem("STOP", "E-BIDS-A11", what, "correct the table", path))
            continue
        problems += twice([" ".join(map(str, row)) for row in table[keys].to_numpy()], path)
    return problems


def check_covariates(root: Path, study: Study, table: pd.DataFrame) -> list[Problem]:
    """Covariates of the group model in participants.tsv: a value for every scanned person, of its kind."""
    name, problems = "participants.tsv", []
    chosen = {key: item for key, item in study.group.covariates.items() if item.column} if study.group else {}
    if not chosen:
        return []
    try:
        people = read_table(root / name, required=["participant_id"]).set_index("participant_id")
    except (ValueError, FileNotFoundError):
        what, mend = f"covariates {list(chosen)} are columns of a table that cannot be read", "mend the table"
        return [Problem("STOP", covariates.CODE, what, mend, name)]
    for key, item in chosen.items():
        if item.column not in people:
            what = f"covariate {key!r}: there is no column {item.column!r}"
            mend = f"correct group.covariates.{key}.column; it has {list(people.columns)}"
            problems.append(Problem("STOP", covariates.CODE, what, mend, name))
            continue
        cells = {person: people[item.column].get(person) for person in sorted(set(table["participant_id"]))}
        try:
            covariates.columns_of(key, item, cells, name)
        except ValueError as error:
            what, _, mend = str(error).removeprefix(f"{covariates.CODE} {name}: ").partition(". Mend: ")
            problems.append(Problem("STOP", covariates.CODE, what, mend, name))
    return problems


def check_derivatives(root: Path) -> list[Problem]:
    """Derivatives of several versions of one tool, found beside the raw data."""
    versions: dict[str, set[str]] = defaultdict(set)
    problems = []
    for path in sorted((root / "derivatives").glob("*/dataset_description.json")):
        try:
            made_by = bids.read_json(path).get("GeneratedBy") or []
            for tool in made_by if isinstance(made_by, list) else [made_by]:
                versions[str(tool.get("Name"))].add(str(tool.get("Version")))
        except (ValueError, AttributeError) as error:
            where, mend = path.relative_to(root).as_posix(), "correct the file"
            problems.append(
                Problem("WARN", "W-BIDS-A12", f"GeneratedBy cannot be read: {error}", mend, where)
            )
    mend = "keep one version; this engine preprocesses from raw data and reads none of them"
    return problems + [
        Problem(
            "WARN", "W-BIDS-A12", f"derivatives of {tool} {' and '.join(sorted(found))}", mend, "derivatives"
        )
        for tool, found in versions.items()
        if len(found) > 1
    ]


def arm_column(root: Path) -> str | None:
    """Return the column of participants.tsv that looks like an arm, if there is one."""
    path = root / "participants.tsv"
    if not path.is_file():
        return None
    header = read_table(path).columns
    return next((name for name in header if str(name).lower() in ARM_COLUMNS), None)


def check_blinding(root: Path) -> list[Problem]:
    """No arm in the dataset that people who judge scans look at."""
    try:
        column = arm_column(root)
    except ValueError:
        return []  # told already, as E-BIDS-A11
    if column is None:
        return []
    mend = "move it into allocation.tsv of the study folder (`reconfmri init` does that)"
    what = f"the column {column!r} looks like the arm, which everybody with the data can see"
    return [Problem("WARN", "W-BIDS-F12", what, mend, "participants.tsv")]


def check_allocation(folder: Path, study: Study, table: pd.DataFrame) -> list[Problem]:
    """The arms that the group model compares: named, present, with people scanned in each."""
    group = study.group
    if group is None:
        return []
    path, root = folder / group.allocation, folder / study.bids
    if root.resolve() in path.resolve().parents:
        what, mend = (
            "the allocation lies inside the BIDS folder",
            "move it out; group.allocation says where it is",
        )
        return [Problem("STOP", "E-CONF-F12", what, mend, group.allocation)]
    if not path.is_file():
        what = "there is no allocation"
        mend = "ask the trial office for participant_id, arm, stratum; or set `group: none`"
        return [Problem("STOP", "E-CONF-C05", what, mend, group.allocation)]
    try:
        allocation = bids.read_allocation(path)
    except ValueError as error:
        what = str(error).removeprefix(f"{path}: ")
        return [Problem("STOP", "E-CONF-C05", what, "correct the table", group.allocation)]
    return _arms(group, allocation, set(table["participant_id"]))


def _arms(group: Group, allocation: pd.DataFrame, scanned: set[str]) -> list[Problem]:
    sizes = Counter(allocation["arm"])
    named = {"active": group.arms.active, "control": group.arms.control}
    problems = []
    for key, arm in named.items():
        if arm not in sizes:
            what, mend = (
                f"group.arms.{key} is {arm!r}, which nobody was allocated to",
                f"the arms are {sorted(sizes)}",
            )
            problems.append(Problem("STOP", "E-CONF-C04", what, mend, CONFIG))
        elif not scanned & set(allocation.loc[allocation["arm"] == arm, "participant_id"]):
            what, mend = (
                f"nobody of arm {arm!r} has a usable scan",
                "mend the exclusions, or correct the allocation",
            )
            problems.append(Problem("STOP", "E-CONF-C05", what, mend, group.allocation))
    others = sorted(set(sizes) - set(named.values()))
    if others:
        n_people = sum(sizes[arm] for arm in others)
        what = f"the allocation has {n_people} in the arms {others}, which group.arms does not name"
        mend = "none, if they shall stay out of the comparison"
        problems.append(Problem("WARN", "W-CONF-C05", what, mend, group.allocation))
    lost = sorted(scanned - set(allocation["participant_id"]))
    if lost:
        what = (
            f"{len(lost)} scanned people have no arm and stay out of the group model: {', '.join(lost[:5])}"
        )
        problems.append(Problem("WARN", "W-CONF-C05", what, "add their rows", group.allocation))
    return problems
