"""Every problem in the data and the study file that can be found before any compute (docs/codes.md)."""

from __future__ import annotations

import difflib
import itertools
import tempfile
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd

from reconfmri import bids, covariates
from reconfmri.atlases import label_names
from reconfmri.config import CONFIG, Group, Study, load_study
from reconfmri.decisions import BY_HAND, check_decisions, keep_decisions
from reconfmri.derivatives import check_fmriprep
from reconfmri.exclusions import MISSING, read_exclusions
from reconfmri.fetching import check_fetched
from reconfmri.files import InputError, UnreadableError, explained
from reconfmri.indexing import Progress, index_dataset
from reconfmri.labels import ORDER_CODE
from reconfmri.problems import Problem, Severity, StudyFileError
from reconfmri.screening import check_band, check_events, check_recordings, check_scales, who_meets
from reconfmri.tables import read_table
from reconfmri.trial import adverse_events, intercurrent
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.blinding import candidates, tables_in_sight, telling_columns
from reconfmri.trial.codes import by_code, codes_file, is_coded
from reconfmri.trial.ratings import check_decided
from reconfmri.visits import disagreement, session_times

MARK = "CORRECT"  # of a line of the drafted study file that only the analyst can complete
OPEN_ARM = "FILL IN the {} arm"  # what the draft holds where the labels do not tell


def check_study(
    folder: Path, *, full: bool = True, contents: bool = False, progress: Progress | None = None
) -> list[Problem]:
    """Return every problem of the study folder, its data and its allocation.

    `full` indexes the dataset again, else the run table is believed. `contents` reads every byte of the
    images too; else content is compared in files up to `bids.SMALL`, and a step that reads an image compares
    its content anyway.
    """
    study, problems = read_study(folder / CONFIG)
    if study is None:
        return problems
    root = folder / study.bids
    absent = list(check_fetched(folder, study))
    problems += check_places(root, folder) + (absent or check_regions(study, folder))
    if not root.is_dir():
        return problems
    if full:
        digest = bids.sha256 if contents else sha256_of_small
        table, found = index_dataset(root, study, digest=digest, progress=progress)
        problems += found + check_frozen(folder, root, table, contents=contents)
    else:
        table, found = _believed(folder, root)
        problems += found
    problems += check_decision_tables(folder, study) + check_draft(folder, study) + check_visits(root, study)
    problems += check_events(root, study, table) + check_recordings(root, study, table)
    problems += check_band(study, table) + check_scales(root, study, people_of(root, table))
    embedded = study.preprocessing.engine == "embedded"
    problems += check_derivatives(root) if embedded else check_fmriprep(folder, study, table, full=full)
    problems += check_covariates(root, study, table) + check_adverse_events(root, people_of(root, table))
    allocated, found = check_allocation(folder, study, table) if study.group else ({}, [])
    return problems + found + check_blinding(root, allocated)


def sha256_of_small(path: Path) -> str:
    """Return the sha256 of a file up to `bids.SMALL` bytes, nothing for a larger one."""
    return bids.sha256(path) if path.stat().st_size <= bids.SMALL else MISSING


def people_of(root: Path, table: pd.DataFrame) -> list[str]:
    """Return everybody the dataset knows: in participants.tsv, with a folder, or scanned."""
    try:
        listed = list(
            read_table(root / "participants.tsv", required=["participant_id"])["participant_id"].dropna()
        )
    except (ValueError, OSError):
        listed = []  # reported by the index
    folders = sorted(path.name for path in root.glob("sub-*") if path.is_dir())
    return list(dict.fromkeys([*map(str, listed), *folders, *table["participant_id"]]))


def _believed(folder: Path, root: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """The run table as it stands, after the quick check that the data did not change."""
    table, name = pd.DataFrame(columns=list(bids.RUN_COLUMNS)), bids.RUN_TABLE
    try:
        table = bids.read_run_table(folder / name)
        bids.verify_unchanged(table, root, bids.read_record(folder))
    except (ValueError, FileNotFoundError) as error:
        return table, [_index_again(error, folder / name, name)]
    return table, []


def _index_again(error: Exception, path: Path, name: str) -> Problem:
    what, fix = explained(error, path, name, "index again (`reconfmri index`)")
    return Problem("STOP", "E-BIDS-A13", what, fix, name)


def read_study(path: Path) -> tuple[Study | None, list[Problem]]:
    """Return the study, or one STOP per fault of its file."""
    try:
        return load_study(path), []
    except StudyFileError as error:
        return None, [replace(problem, file=CONFIG) for problem in error.problems]


def check_places(root: Path, folder: Path) -> list[Problem]:
    """Where results may be written: never among the raw data; as BIDS says, in a folder of derivatives/."""
    if not root.is_dir():
        fix = f"correct `bids` in {CONFIG}, a path relative to the study folder"
        return [Problem("STOP", "E-CONF-C07", "no such BIDS folder", fix, str(root))]
    source, target = root.resolve(), folder.resolve()
    if (source == target or source in target.parents) and source / "derivatives" not in target.parents:
        where = "the BIDS folder itself" if source == target else "inside the BIDS folder"
        what = f"the output folder is {where} ({root})"
        fix = "give a folder outside of it, or one in its derivatives/"
        return [Problem("STOP", "E-CONF-C07", what, fix, str(folder))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        what = f"the output folder cannot be written ({error.strerror})"
        fix = "choose another folder, or change its permissions"
        return [Problem("STOP", "E-CONF-C07", what, fix, str(folder))]
    if root.stat().st_dev != folder.stat().st_dev:
        what = "the output folder is on another file system than the data"
        return [Problem("WARN", "W-CONF-C07", what, "no action is needed if that is wanted", str(folder))]
    return []


def check_regions(study: Study, folder: Path) -> list[Problem]:
    """Labels of the study's regions must be in their atlas; one without a side stands for left and right."""
    problems = []
    for name, region in study.rois.regions.items():
        try:
            known = label_names(study.rois.atlases[region.atlas] if region.atlas else None, folder)
        except (ValueError, OSError) as error:
            path = folder / study.rois.atlases[str(region.atlas)].labels
            what, fix = explained(error, path, str(path), "correct rois.atlases")
            problems.append(Problem("STOP", "E-CONF-C04", what, fix, str(path)))
            continue
        for label in region.labels:
            if label in known or f"Left {label}" in known:
                continue
            near = difflib.get_close_matches(label, known, n=1, cutoff=0.4)
            of = region.atlas or "Harvard-Oxford"
            what = f"rois.regions.{name} names the label {label!r}, which the atlas {of} lacks"
            fix = f"did you mean {(near or known)[0]!r}?"
            problems.append(Problem("STOP", "E-CONF-C04", what, fix, CONFIG))
    return problems


def check_frozen(folder: Path, root: Path, fresh: pd.DataFrame, *, contents: bool) -> list[Problem]:
    """The run table that the analyst froze against what the data are now."""
    name = bids.RUN_TABLE
    if not (folder / name).is_file():
        return [Problem("STOP", "E-BIDS-A13", "there is no run table", "make it: `reconfmri index`", name)]
    try:
        frozen = bids.read_run_table(folder / name)
        bids.verify_unchanged(frozen, root, bids.read_record(folder), full=contents)
    except (ValueError, FileNotFoundError) as error:
        return [_index_again(error, folder / name, name)]
    by_hand = "config/exclusions.tsv"
    try:
        decided = read_exclusions(folder / by_hand)
    except (ValueError, FileNotFoundError) as error:
        what, fix = explained(error, folder / by_hand, by_hand, "index again (`reconfmri index`)")
        return [Problem("STOP", BY_HAND, what, fix, by_hand)]
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


def check_decision_tables(folder: Path, study: Study) -> list[Problem]:
    """Rows of exclusions and decisions that would count for nothing, or were changed by hand."""
    try:
        check_decided(folder)
        if (folder / "config/runs.tsv").is_file():
            scans = bids.read_run_table(folder / "config/runs.tsv")
            check_decisions(folder, study, scans, bids.read_record(folder))
    except ValueError as error:  # a table that cannot be read is named by `check_frozen`
        if isinstance(error, InputError) and error.code:
            return [Problem("STOP", error.code, error.what, error.fix, error.place)]
    return []


def check_draft(folder: Path, study: Study) -> list[Problem]:
    """What `reconfmri init` left for the analyst: days of visits, marks of the draft."""
    lines = list(enumerate((folder / CONFIG).read_text(encoding="utf-8-sig").splitlines(), start=1))
    problems = []
    if study.open_days:
        at = [str(n) for n, line in lines if "id:" in line and any(day in line for day in study.open_days)]
        what = f"lines {', '.join(at)}: the days of the visits {study.open_days} are open, so nothing tells "
        what += "their order"
        fix = "list the visits in order of time, baseline first, and fill in `day` (days from baseline)"
        problems.append(Problem("STOP", ORDER_CODE, what, fix, CONFIG))
    marked = [str(n) for n, line in lines if MARK in line.partition("#")[2] and not line.startswith("#")]
    if marked:
        what = f"line{'s' * (len(marked) > 1)} {', '.join(marked)} still bear{'s' * (len(marked) == 1)} the "
        what += f"mark {MARK} of the draft"
        problems.append(
            Problem("WARN", "W-CONF-C11", what, "correct each line, then delete its mark", CONFIG)
        )
    return problems


def check_visits(root: Path, study: Study) -> list[Problem]:
    """Dates of scans.tsv and sessions.tsv against the order of the visits in the study file."""
    times = session_times(root) if len(study.sessions) > 1 and not study.open_days else {}
    labels = [session.id for session in study.sessions] if times else []
    problems = []
    for first, second in itertools.pairwise(labels):
        before, after = disagreement(times, first, second)
        if not after:
            continue
        always = len(after) > 1 and not before
        what = f"session {second} comes after {first} in the study file, and before it in the acq_time of "
        what += f"{len(after)} of {len(before) + len(after)} people: {', '.join(after[:3])}"
        what += f" and {len(after) - 3} more" if len(after) > 3 else ""
        fix = "correct the order of `sessions`, or the dates in scans.tsv and sessions.tsv"
        severity: Severity = "STOP" if always else "WARN"
        code = ORDER_CODE if always else "W-CONF-C09"
        problems.append(Problem(severity, code, what, fix, CONFIG if always else "scans.tsv"))
    return problems


def check_covariates(root: Path, study: Study, table: pd.DataFrame) -> list[Problem]:
    """Covariates of the group model in participants.tsv: a value for every scanned person, of its kind."""
    name, problems = "participants.tsv", []
    chosen = {key: item for key, item in study.group.covariates.items() if item.column} if study.group else {}
    if not chosen:
        return []
    try:
        people = read_table(root / name, required=["participant_id"]).set_index("participant_id")
    except (ValueError, FileNotFoundError) as error:
        why, fix = explained(error, root / name, name, "correct the table")
        what = f"covariates {list(chosen)} are columns of a table that cannot be read: {why}"
        return [Problem("STOP", covariates.CODE, what, fix, name)]
    for key, item in chosen.items():
        if item.column not in people:
            what = f"covariate {key!r}: there is no column {item.column!r}"
            fix = f"correct group.covariates.{key}.column; it has {list(people.columns)}"
            problems.append(Problem("STOP", covariates.CODE, what, fix, name))
            continue
        cells = {person: people[item.column].get(person) for person in sorted(set(table["participant_id"]))}
        try:
            covariates.columns_of(key, item, cells, name)
        except InputError as error:
            problems.append(Problem("STOP", error.code, error.what, error.fix, name))
    return problems


def check_adverse_events(root: Path, people: list[str]) -> list[Problem]:
    """Rows of the table of adverse events that cannot be read, or are of nobody: events would be lost."""
    name = "phenotype/adverse_events.tsv"
    if not (root / name).is_file():
        return []
    try:
        table = adverse_events.read_adverse_events(root / name)
    except (ValueError, OSError) as error:
        code = error.code if isinstance(error, InputError) else adverse_events.CODE
        what, fix = explained(error, root / name, name, "correct the table")
        return [Problem("STOP", code, what, fix, name)]
    return who_meets(table, name, people, [])


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
            where, fix = path.relative_to(root).as_posix(), "correct the file"
            problems.append(Problem("WARN", "W-BIDS-A12", f"GeneratedBy cannot be read: {error}", fix, where))
    fix = "keep one version; this engine preprocesses from raw data and reads none of them"
    return problems + [
        Problem(
            "WARN", "W-BIDS-A12", f"derivatives of {tool} {' and '.join(sorted(found))}", fix, "derivatives"
        )
        for tool, found in versions.items()
        if len(found) > 1
    ]


def check_blinding(root: Path, allocated: dict[str, str]) -> list[Problem]:
    """No arm in the tables that people who judge scans look at; `allocated`: person -> arm."""
    problems = []
    for name, table in tables_in_sight(root).items():
        telling = telling_columns(table, allocated)
        looking = [item.column for item in candidates(table) if item.sure and item.column not in telling]
        for column in [*telling, *looking]:
            what = "goes with the arms one to one" if column in telling else "looks like the arm"
            what = f"the column {column!r} {what}, which everybody with the data can see"
            fix = "take it out (of participants.tsv: `reconfmri init STUDY --bids BIDS --move-arms`)"
            problems.append(Problem("WARN", "W-BIDS-F12", what, fix, name))
    return problems


def check_allocation(folder: Path, study: Study, table: pd.DataFrame) -> tuple[dict[str, str], list[Problem]]:
    """Return person -> arm, and what is wrong: arms are named, present, with people scanned in each."""
    group = study.group
    if group is None:
        return {}, []
    path, root = folder / group.allocation, folder / study.bids
    if root.resolve() in path.resolve().parents:
        what, fix = (
            "the allocation lies inside the BIDS folder",
            "move it out; group.allocation says where it is",
        )
        return {}, [Problem("STOP", "E-CONF-F12", what, fix, group.allocation)]
    if not path.is_file():
        what = "there is no allocation"
        fix = "ask the trial office for participant_id, arm, stratum; or set `group: none`"
        return {}, [Problem("STOP", "E-CONF-C05", what, fix, group.allocation)]
    try:
        allocation = read_allocation(path)
    except UnreadableError as error:
        fix = error.fix(group.allocation)
        return {}, [Problem("STOP", "E-CONF-C05", error.what, fix, group.allocation)]
    except InputError as error:
        fix = error.fix or "correct the table"
        return {}, [Problem("STOP", error.code or "E-CONF-C05", error.what, fix, group.allocation)]
    try:
        if is_coded(group):
            by_code(allocation, codes_file(path))
    except InputError as error:
        return {}, [Problem("STOP", error.code, error.what, error.fix, codes_file(group.allocation).name)]
    arms = dict(zip(allocation["participant_id"], allocation["arm"], strict=True))
    problems = _arms(group, allocation, set(table["participant_id"]))
    return arms, problems + _intercurrent_events(folder, study, allocation)


def _intercurrent_events(folder: Path, study: Study, allocation: pd.DataFrame) -> list[Problem]:
    """The table of intercurrent events, where the study names one."""
    named = study.group.intercurrent_events if study.group else None
    if named is None:
        return []
    if not (folder / named).is_file():
        fix = "give its path from the study folder"
        return [Problem("STOP", intercurrent.CODE, "there is no such table of events", fix, named)]
    try:
        intercurrent.read_events(folder / named, allocation, [session.id for session in study.sessions])
    except UnreadableError as error:
        return [Problem("STOP", intercurrent.CODE, error.what, error.fix(named), named)]
    except InputError as error:
        fix = error.fix or "correct the table"
        return [Problem("STOP", error.code or intercurrent.CODE, error.what, fix, named)]
    return []


def _arms(group: Group, allocation: pd.DataFrame, scanned: set[str]) -> list[Problem]:
    sizes = Counter(allocation["arm"])
    named = [*(("active", arm) for arm in group.arms.actives), ("control", group.arms.control)]
    problems = []
    for key, arm in named:
        if arm in (OPEN_ARM.format("drug"), OPEN_ARM.format("control")):
            what, fix = f"group.arms.{key} is open", f"fill in which of the arms {sorted(sizes)} it is"
            problems.append(Problem("STOP", "E-CONF-C04", what, fix, CONFIG))
        elif arm not in sizes:
            what, fix = (
                f"group.arms.{key} is {arm!r}, which nobody was allocated to",
                f"the arms are {sorted(sizes)}",
            )
            problems.append(Problem("STOP", "E-CONF-C04", what, fix, CONFIG))
        elif not scanned & set(allocation.loc[allocation["arm"] == arm, "participant_id"]):
            what, fix = (
                f"nobody of arm {arm!r} has a usable scan",
                "fix the exclusions, or correct the allocation",
            )
            problems.append(Problem("STOP", "E-CONF-C05", what, fix, group.allocation))
    others = sorted(set(sizes) - set(group.arms.labels))
    if others:
        n_people = sum(sizes[arm] for arm in others)
        what = f"the allocation has {n_people} in the arms {others}, which group.arms does not name"
        fix = "no action is needed if they stay out of the comparison"
        problems.append(Problem("WARN", "W-CONF-C05", what, fix, group.allocation))
    lost = sorted(scanned - set(allocation["participant_id"]))
    if lost:
        what = (
            f"{len(lost)} scanned people have no arm and stay out of the group model: {', '.join(lost[:5])}"
        )
        problems.append(Problem("WARN", "W-CONF-C05", what, "add their rows", group.allocation))
    return problems
