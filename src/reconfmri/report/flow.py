"""The flow of scans: what was expected, present, excluded and modelled, by arm and session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from reconfmri.config import Arms
from reconfmri.exclusions import MISSING, Exclusion
from reconfmri.report.inputs import ReportInputs, key_of

SCALES = "score_scale"
COMPARISON = "compare_arms"
# Stages that decide on one signal or scale only, and what they take out: the scan itself stays in the study.
SIGNAL_STAGES = {
    "score_skin_conductance": "skin conductance",
    "score_physiology": "physiology",
    "estimate_connectivity": "connectivity",
    "estimate_maps": "maps",
    SCALES: "scale",
    COMPARISON: "comparison of arms",
}
EVERYONE = "all participants"


@dataclass(frozen=True)
class Station:
    """Participants of one arm at one session in one task; each number is a count of people."""

    arm: str
    session: str
    task: str
    expected: int
    present: int
    excluded: int
    modelled: int | None

    @property
    def absent(self) -> int:
        """People whose scan is not in the dataset."""
        return self.expected - self.present

    @property
    def usable(self) -> int:
        """People with at least one scan that was not excluded."""
        return self.present - self.excluded


def arms_of(inputs: ReportInputs) -> dict[str, list[str]]:
    """Return arm -> participants, active first; without a group model everybody is one group."""
    group = inputs.study.group
    if group is None or inputs.allocation is None:
        return {EVERYONE: list(dict.fromkeys(inputs.runs["participant_id"]))}
    return allocated(group.arms, inputs.allocation)


def allocated(arms: Arms, allocation: pd.DataFrame) -> dict[str, list[str]]:
    """Return arm -> participants, active first."""
    return {
        arm: list(allocation["participant_id"][allocation["arm"] == arm])
        for arm in (arms.active, arms.control)
    }


def not_compared(inputs: ReportInputs) -> list[str]:
    """Return how many people are in neither arm of the comparison, by reason, and how many have scans."""
    rows = [item for item in inputs.exclusions if item.stage == COMPARISON]
    scanned = set(inputs.runs["participant_id"])
    counted = []
    for code, why in (("E-STAT-C05", "in an arm that is not compared"), ("E-STAT-C06", "without an arm")):
        people = {item.participant_id for item in rows if item.code == code}
        if people:
            counted.append(f"{len(people)} {why} ({len(people & scanned)} with scans)")
    return counted


def stations(inputs: ReportInputs) -> list[Station]:
    """Return the counts by task, session and arm, in the order of the study file.

    A scan is expected of every participant of an arm at each session where anybody has that task.
    """
    sessions = [item.id for item in inputs.study.sessions] or [MISSING]
    counted = []
    scans = scans_of(inputs)
    for task in inputs.study.tasks:
        for session in sessions:
            here = [scan for scan in scans if (scan["task"], scan["session_id"]) == (task, session)]
            if not here:
                continue
            for arm, people in arms_of(inputs).items():
                counted.append(_station(inputs, here, arm, people, session, task))
    return counted


def scans_of(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return the scans of the run table, each with whether it is excluded."""
    deciding = [item for item in inputs.exclusions if item.stage not in SIGNAL_STAGES]
    scans = []
    for row in inputs.runs.to_dict("records"):
        key: dict[str, Any] = {**key_of(row)}
        unit = Exclusion(**key)
        key["session_id"] = key["session_id"].removeprefix("ses-")
        scans.append(key | {"excluded": any(item.takes_out(unit) for item in deciding)})
    return scans


def _station(
    inputs: ReportInputs, here: list[dict[str, Any]], arm: str, people: list[str], session: str, task: str
) -> Station:
    mine = set(people)
    present = {scan["participant_id"] for scan in here} & mine
    usable = {scan["participant_id"] for scan in here if not scan["excluded"]} & mine
    return Station(
        arm=arm,
        session=session,
        task=task,
        expected=len(people),
        present=len(present),
        excluded=len(present - usable),
        modelled=_modelled(inputs, mine, session, task),
    )


def _modelled(inputs: ReportInputs, people: set[str], session: str, task: str) -> int | None:
    """People with a value of the primary outcome at this session; None where the task does not make it."""
    study = inputs.study
    if study.group is None or task != study.outcomes[study.group.primary.outcome].task:
        return None
    rows = inputs.measures[
        (inputs.measures["outcome"] == study.group.primary.outcome)
        & (inputs.measures["session_id"] == session)
        & inputs.measures["value"].notna()
    ]
    return len(set(rows["participant_id"]) & people)


def absent_people(inputs: ReportInputs) -> list[tuple[str, list[str]]]:
    """Return (session, participants without any scan there) where some have a scan and some have not."""
    people = sorted({person for group in arms_of(inputs).values() for person in group})
    scans = scans_of(inputs)
    absent = []
    for session in [item.id for item in inputs.study.sessions]:
        present = {scan["participant_id"] for scan in scans if scan["session_id"] == session}
        if present:
            absent.append((session, [person for person in people if person not in present]))
    return [(session, names) for session, names in absent if names]
