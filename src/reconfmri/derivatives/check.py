"""Every problem of fMRIPrep's outputs for the scans of a study."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from reconfmri import bids, nuisance
from reconfmri.config import Fmriprep, Study
from reconfmri.derivatives.container import check_container
from reconfmri.derivatives.find import AGAIN, FmriprepRun, find_run, place_of
from reconfmri.derivatives.segmentation import check_segmentations
from reconfmri.derivatives.versions import check_versions
from reconfmri.exclusions import UNIT, DataFault
from reconfmri.labels import first_of
from reconfmri.problems import Problem
from reconfmri.templates import SPACE

NO_VALUE = ("n/a", "", "nan", "NaN")


def check_fmriprep(folder: Path, study: Study, table: pd.DataFrame, *, full: bool = False) -> list[Problem]:
    """Return every problem of fMRIPrep's outputs for the scans of the run table, or of the container.

    `full` opens every series, to see that all are on one grid.
    """
    settings = study.preprocessing.fmriprep
    if settings is None:
        return []
    root = place_of(folder, settings.derivatives)
    people = list(dict.fromkeys(table["participant_id"]))
    versions = check_versions(root, people, settings)
    own = check_segmentations(root, study, table)
    if settings.container:
        return check_container(folder, study, settings.container) + versions + own
    if not root.is_dir():
        what, fix = "there is no such folder", "correct preprocessing.fmriprep.derivatives"
        return [Problem("STOP", "E-BIDS-A21", what, fix, settings.derivatives)]
    found, problems = _scans(root, table, settings)
    if len(table) and not found:
        what = f"none of the {len(table)} scans has usable outputs"
        fix = "see the lines above; correct preprocessing.fmriprep.derivatives"
        problems.append(Problem("STOP", "E-BIDS-A21", what, fix, settings.derivatives))
    empty = _empty_columns(found, study, dict(zip(table["bold"], table["task"], strict=True)))
    return problems + versions + empty + own + (_grids(found) if full else [])


def _scans(
    root: Path, table: pd.DataFrame, settings: Fmriprep
) -> tuple[dict[str, FmriprepRun], list[Problem]]:
    """The outputs per raw series, and one problem per scan without them."""
    found: dict[str, FmriprepRun] = {}
    problems = []
    for row in table.to_dict("records"):
        try:
            found[row["bold"]] = find_run(root, row["bold"], res=settings.res)
        except DataFault as fault:
            unit = {key: row[key] for key in UNIT}
            problems.append(Problem("EXCL", fault.code, fault.reason, fault.fix, fault.file, **unit))
    return found, problems


def _empty_columns(found: dict[str, FmriprepRun], study: Study, task_of: dict[str, str]) -> list[Problem]:
    """A STOP per column that the study asks for and that has no value in any row of some tables."""
    tables: dict[str, list[str]] = defaultdict(list)
    for raw, run in found.items():
        for column in empty_columns(run, study, task_of[raw]):
            tables[column].append(run.confounds.name)
    return [
        Problem(
            "STOP",
            "E-BIDS-B11",
            f"the column {column!r}, which the study asks for, has no value in any row of {first_of(names)}",
            "leave its group out of `confounds`, run fMRIPrep for these scans again, or leave them out of "
            "the run table",
            "derivatives",
        )
        for column, names in tables.items()
    ]


def empty_columns(run: FmriprepRun, study: Study, task: str) -> list[str]:
    """Return the columns of a run's confounds that its task needs and that are missing in every row.

    What else is amiss in the table takes the run out where it is adopted.
    """
    try:
        header, empty = _without_value(run.confounds)
        facts = nuisance.facts_of_columns(bids.read_json(run.facts) if empty and run.facts else {})
    except (ValueError, OSError):
        return []
    kept = nuisance.kept_components(
        header,
        facts,
        n_components=study.preprocessing.acompcor,
        n_temporal=study.preprocessing.tcompcor,
    )
    asked = [part for part in (study.first_level, study.connectivity) if part and part.task == task]
    needed = {"framewise_displacement", "std_dvars"}  # of every run's quality
    for group in {group for part in asked for group in part.confounds}:
        of_group = nuisance.FIXED.get(group) or tuple(
            name for name in header if name.startswith(nuisance.NUMBERED[group])
        )
        needed |= {name for name in of_group if name in kept or not name.startswith(nuisance.COMPONENTS)}
    return [name for name in empty if name in needed]


def _without_value(path: Path) -> tuple[list[str], list[str]]:
    """Return a table's columns, and those without a value; it is read until every column has shown one."""
    with path.open(encoding="utf-8-sig") as lines:
        header = next(lines, "").rstrip("\r\n").split("\t")
        left, has_rows = dict(enumerate(header)), False
        for line in lines:
            has_rows = True
            cells = line.rstrip("\r\n").split("\t")
            left = {at: name for at, name in left.items() if at >= len(cells) or cells[at] in NO_VALUE}
            if not left:
                break
    return header, list(left.values()) if has_rows else []


def _grids(found: dict[str, FmriprepRun]) -> list[Problem]:
    """Regions are carried to one grid: every series must be on it."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    grids: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    problems = []
    for raw, run in found.items():
        try:
            image: Any = nibabel.load(run.bold)
        except (OSError, EOFError, ValueError, ImageFileError) as error:
            problems.append(Problem("EXCL", "E-DATA-B01", f"cannot be read: {error}", AGAIN, run.bold.name))
            continue
        grids[(*image.shape[:3], *image.affine.round(2).ravel())].append(raw)
    if len(grids) > 1:
        by_size = sorted(grids.items(), key=lambda item: -len(item[1]))
        told = [f"{len(raws)} on {' x '.join(map(str, grid[:3]))}, as {raws[0]}" for grid, raws in by_size]
        what = f"the series are on {len(grids)} grids: {'; '.join(told)}"
        fix = f"run fMRIPrep with --output-spaces {SPACE}:res-2, so that all are on one"
        problems.append(Problem("STOP", "E-BIDS-A24", what, fix, "derivatives"))
    return problems
