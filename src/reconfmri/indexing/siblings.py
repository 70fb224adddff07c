"""A run beside its siblings: lengths, grids, repetition times, what is missing."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from reconfmri import bids
from reconfmri.config import Study
from reconfmri.dataset import Dataset
from reconfmri.exclusions import MISSING, UNIT
from reconfmri.headers import corner_distance
from reconfmri.indexing.scans import Scan
from reconfmri.problems import Problem

MOVED_MM = 0.1  # runs of a session whose corners are nearer lie on one grid


def without_cut_runs(rows: list[dict[str, Any]], study: Study) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the rows with about as many volumes as their siblings, and a problem per run that was cut short.

    Siblings are the other runs of one task, run label and repetition time, of all people and sessions; their
    median counts.
    """
    families: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        run = "1" if row["run"] == MISSING else bids.number_of(row["run"])
        families[row["task"], run, round(row["tr"], 3)].append(row)
    problems, cut = [], []
    for family in families.values():
        for row in family:
            others = [other["n_volumes"] for other in family if other is not row]
            usual, limit = float(np.median(others or [0])), study.tasks[row["task"]].max_shortfall
            if row["n_volumes"] >= (1 - limit) * usual:
                continue
            what = (
                f"{row['n_volumes']} volumes, {100 * (1 - row['n_volumes'] / usual):.0f} % fewer than the "
                f"{usual:g} of its siblings (tasks.{row['task']}.max_shortfall {100 * limit:g} %)"
            )
            fix = "find the rest of the run, or raise max_shortfall"
            problems.append(Problem("EXCL", "E-BIDS-B05", what, fix, row["bold"], **_unit_of(row)))
            cut.append(row["bold"])
    return [row for row in rows if row["bold"] not in cut], problems


def without_shared_images(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the rows whose images are of one person, and a problem per scan whose image is another's too.

    Whose it is only the lab can tell. Copies within a person are left alone: they mix up nobody. So is an
    image of more than half of the people, which is no mix-up but a phantom, or a trial of the software.
    """
    n_people = len({row["participant_id"] for row in rows})
    owners: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for row in rows:
        for kind in ("bold", "t1w"):
            owners[kind, row[f"{kind}_sha256"]].setdefault(row["participant_id"], row[kind])
    problems, kept = [], []
    for row in rows:
        claims = {kind: owners[kind, row[f"{kind}_sha256"]] for kind in ("bold", "t1w")}
        shared = next((kind for kind, claim in claims.items() if 1 < len(claim) <= n_people / 2), None)
        if shared is None:
            kept.append(row)
            continue
        what = f"one image, byte for byte, serves {len(claims[shared])} people: "
        fix = "find out whose it is (DICOM series), and copy the others anew"
        what += " and ".join(claims[shared].values())
        problems.append(Problem("EXCL", "E-BIDS-A30", what, fix, row[shared], **_unit_of(row)))
    return kept, problems


def check_grids(rows: list[dict[str, Any]]) -> list[Problem]:
    """Runs of one session and task on another grid than the first, and images of the rarer handedness."""
    firsts: dict[tuple[str, ...], dict[str, Any]] = {}
    problems = []
    for row in rows:
        first = firsts.setdefault((row["participant_id"], row["session_id"], row["task"]), row)
        here, there = ((item["header"].shape[:3], item["header"].affine) for item in (row, first))
        apart = corner_distance(here, there)
        if here[0] != there[0] or apart > MOVED_MM:
            what = f"not on the grid of {first['bold']}: {here[0]} and {there[0]} voxels, corners "
            what += f"{apart:.1f} mm apart; each run is placed in the T1w on its own"
            fix = "no action is needed if the person was repositioned"
            problems.append(Problem("WARN", "W-BIDS-B06", what, fix, row["bold"], **_unit_of(row)))
    flipped = [row for row in rows if row["header"].flipped]
    rare = flipped if len(flipped) <= len(rows) / 2 else [row for row in rows if not row["header"].flipped]
    return problems + [
        Problem(
            "WARN",
            "W-BIDS-B07",
            f"left and right are stored the other way round than in {len(rows) - len(rare)} other runs",
            "compare with the DICOM series: a flip cannot be seen in the image",
            row["bold"],
            **_unit_of(row),
        )
        for row in rare
    ]


def _unit_of(row: dict[str, Any]) -> dict[str, str]:
    return {key: row[key] for key in UNIT}


def check_repetition_times(rows: list[dict[str, Any]], study: Study) -> list[Problem]:
    """Runs of one task share their repetition time, unless the study file allows otherwise."""
    problems = []
    for name, task in study.tasks.items():
        runs = [row for row in rows if row["task"] == name]
        times = Counter(round(row["tr"], 3) for row in runs)
        if len(times) < 2 or task.mixed_tr:
            continue
        rare = min(times, key=lambda tr: (times[tr], tr))
        first = next(row["bold"] for row in runs if round(row["tr"], 3) == rare)
        counted = ", ".join(f"{tr:g} s in {number}" for tr, number in sorted(times.items()))
        what = f"the repetition time of task {name} differs between runs: {counted}"
        fix = f"correct the sidecar, take the run out, or set tasks.{name}.mixed_tr: true"
        problems.append(Problem("STOP", "E-BIDS-A10", what, fix, first))
    return problems


def join_header_faults(problems: list[Problem], n_scans: int) -> list[Problem]:
    """A fifth of the runs with contradicting repetition times is a fault of the conversion, not of a run."""
    faulty = [problem for problem in problems if problem.code == "E-BIDS-B02"]
    if len(faulty) <= 0.2 * n_scans:
        return []
    what = f"header and sidecar disagree on the repetition time in {len(faulty)} of {n_scans} scans"
    return [replace(faulty[0], severity="STOP", what=f"{what}; here {faulty[0].what}")]


def check_completeness(
    dataset: Dataset, study: Study, scans: list[Scan], *, out: set[tuple[str, str]]
) -> list[Problem]:
    """Sessions without a scan (and not `out` already), and tasks with fewer runs than usual at that visit."""
    sessions = [session.id for session in study.sessions] or [MISSING]
    counts = Counter((scan.participant_id, scan.session_id, scan.task) for scan in scans)
    people = [person for person in dataset.participants if (dataset.root / person).is_dir()]
    problems: list[Problem] = []
    for session in sessions:
        usual = {
            task: Counter(counts[person, session, task] for person in people).most_common(1)[0][0]
            for task in (study.tasks if people else ())
        }
        for person in people:
            if not any(counts[person, session, task] for task in study.tasks):
                problems += [] if (person, session) in out else [_no_scan(person, session)]
                continue
            problems += [
                _fewer_runs(person, session, task, n_runs=counts[person, session, task], usual=usual[task])
                for task in study.tasks
                if counts[person, session, task] < usual[task]
            ]
    return problems


def _no_scan(person: str, session: str) -> Problem:
    where = f" in session {session}" if session != MISSING else ""
    what = f"{person} has no usable scan{where}"
    return Problem(
        "WARN", "W-BIDS-A07", what, "no action is needed if the visit was missed", person, person, session
    )


def _fewer_runs(person: str, session: str, task: str, *, n_runs: int, usual: int) -> Problem:
    where = f" in session {session}" if session != MISSING else ""
    what = f"{person} has {n_runs} of {usual} runs of task {task}{where}"
    return Problem(
        "WARN",
        "W-BIDS-A08",
        what,
        "no action is needed if it was not acquired; else add the run",
        person,
        person,
        session,
        task,
    )


def without_short_sessions(table: pd.DataFrame, study: Study) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the rows whose session has at least `min_runs` usable runs of their task, and who falls out."""
    n_runs = table.groupby(["participant_id", "session_id", "task"])["bold"].transform("size")
    limits = table["task"].map({name: task.min_runs for name, task in study.tasks.items()})
    short = (n_runs < limits).to_numpy(dtype=bool)
    problems = []
    for row in table[short].itertuples():
        limit = study.tasks[str(row.task)].min_runs
        what = (
            f"its session has fewer usable runs of task {row.task} than tasks.{row.task}.min_runs = {limit}"
        )
        unit = {key: str(getattr(row, key)) for key in UNIT}
        fix = "add the missing run, or lower min_runs"
        problems.append(Problem("EXCL", "E-BIDS-A08", what, fix, str(row.bold), **unit))
    return table[~short], problems
