"""The run table of a dataset and the index that is written of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reconfmri import bids
from reconfmri.bids import BidsFile
from reconfmri.config import Study
from reconfmri.dataset import Dataset, check_spellings, read_dataset
from reconfmri.decisions import by_hand, digest_of_automatic, keep_decisions
from reconfmri.exclusions import MISSING, UNIT, DataFault, read_exclusions, write_exclusions
from reconfmri.indexing.rows import row_of, without_field_map
from reconfmri.indexing.scans import exclusion_of, find_scans, scan_of
from reconfmri.indexing.siblings import (
    check_completeness,
    check_grids,
    check_repetition_times,
    join_header_faults,
    without_cut_runs,
    without_shared_images,
    without_short_sessions,
)
from reconfmri.problems import Problem, exclusions_of
from reconfmri.selection import IMAGES, choose_anatomy, filtered

Progress = Callable[[int, int], None]


def index_dataset(
    root: Path,
    study: Study,
    *,
    digest: Callable[[Path], str] = bids.sha256,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the run table (one row per scan that can be used) and every problem found on the way.

    `digest` gives the sha256 of a file.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    """
    everything, problems = read_dataset(root)
    dataset, more = filtered(everything, study.filters)
    problems += more + _without_images(everything, dataset, study)
    scans, more = find_scans(dataset, study)
    anatomy, choices = choose_anatomy(dataset, study)
    problems += check_spellings(dataset) + more + choices
    rows: list[dict[str, Any]] = []
    for number, scan in enumerate(scans, start=1):
        try:
            row, remarks = row_of(dataset, study, scan, anatomy, digest)
        except DataFault as fault:
            problems.append(exclusion_of(scan, fault))
        else:
            rows.append(row)
            problems += remarks
        if progress:
            progress(number, len(scans))
    rows, more = without_shared_images(rows)
    problems += more
    rows, more = without_cut_runs(rows, study)
    problems += more + check_grids(rows) + without_field_map(dataset, study, scans)
    problems += check_repetition_times(rows, study) + join_header_faults(problems, len(scans))
    if not any(problem.code == "E-BIDS-A17" for problem in problems):
        whole = (problem for problem in problems if problem.severity == "EXCL" and not problem.outcomes)
        out = {(problem.participant_id, problem.session_id) for problem in whole}
        problems += check_completeness(dataset, study, scans, out=out)
    table, more = without_short_sessions(pd.DataFrame(rows, columns=list(bids.RUN_COLUMNS)), study)
    problems += more
    if table.empty and not any(problem.severity == "STOP" for problem in choices):
        problems.append(_nothing_left(everything, study))
    return in_visit_order(table, [session.id for session in study.sessions]), problems


def in_visit_order(table: pd.DataFrame, sessions: Sequence[str]) -> pd.DataFrame:
    """Return the rows by person, visit in the order of the study, task and run."""
    visits = {label: number for number, label in enumerate(sessions)}
    return table.sort_values(
        [*UNIT],
        key=lambda column: column.map(visits) if column.name == "session_id" else column,
        kind="stable",
    ).reset_index(drop=True)


def _without_images(everything: Dataset, dataset: Dataset, study: Study) -> list[Problem]:
    """Runs whose events or sidecar lie in `func` while their image does not."""
    sessions = {session.id for session in study.sessions} or {MISSING}
    images = [file for file in everything.of("bold", *IMAGES) if "sub" in file.entities]
    present = {scan_of(file).key for file in images}
    near: dict[str, list[BidsFile]] = defaultdict(list)
    for file in images:
        near[file.folder].append(file)
    found = {}
    for file in [*dataset.of("events", ".tsv"), *dataset.of("bold", ".json")]:
        if not file.folder.endswith("func") or file.entities.get("task") not in study.tasks:
            continue
        scan = scan_of(file)
        if scan.key in present or scan.session_id not in sessions:
            continue
        if any(file.identity.items() <= image.identity.items() for image in near[file.folder]):
            continue  # inherited by runs that are there
        what, fix = "its image is absent", "copy or fetch the image (`datalad get`), or delete this file"
        found[scan.key] = Problem("EXCL", "E-BIDS-A15", what, fix, file.path, **scan.unit)
    return list(found.values())


def _nothing_left(dataset: Dataset, study: Study) -> Problem:
    images = [scan_of(file) for file in dataset.of("bold", *IMAGES) if "sub" in file.entities]
    n_scans = len({scan.key for scan in images if scan.task in study.tasks})
    if n_scans:
        what = f"none of the {n_scans} scans is usable"
        return Problem("STOP", "E-BIDS-A16", what, "fix what the other lines name", dataset.root.name)
    found = sorted({f.entities["task"] for f in dataset.files if "task" in f.entities})
    what = f"no functional image of the tasks {list(study.tasks)}; files name the tasks {found}"
    fix = "correct `tasks` in the study file, or fetch the images"
    return Problem("STOP", "E-BIDS-A16", what, fix, dataset.root.name)


def write_index(folder: Path, root: Path, table: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
    """Return the run table, written into `folder` with `exclusions.tsv` and `index.json` (the listing).

    Rows of an earlier `exclusions.tsv` whose `decided_by` is not automatic are kept and heeded.
    """
    path = folder / "exclusions.tsv"
    decided = by_hand(read_exclusions(path)) if path.is_file() else []
    kept = keep_decisions(table, decided)
    rows = list(dict.fromkeys([*exclusions_of(problems), *decided]))
    write_exclusions(path, rows)
    files: dict[str, dict[str, Any]] = {}
    for name, size in bids.list_files(root).items():
        files[name] = {"size": size}
        if 0 <= size <= bids.SMALL or (size >= 0 and "/fmap/" in name):
            files[name]["sha256"] = bids.sha256(root / name)
    record = {"files": files, "automatic_exclusions": digest_of_automatic(read_exclusions(path))}
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (folder / "index.json").write_text(text, encoding="utf-8")
    bids.write_run_table(folder / "runs.tsv", kept)
    return kept
