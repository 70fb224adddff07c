"""The flow of participants and scans on the page: diagram, table, and who is absent or not compared."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from reconfmri.config import Arms, outcome_label
from reconfmri.exclusions import MISSING, Exclusion
from reconfmri.figures.flow import flow_diagram
from reconfmri.figures.labels import session_name
from reconfmri.report.blocks import Block
from reconfmri.report.inputs import ReportInputs, key_of
from reconfmri.trial.flow import COMPARISON, EVERYONE, takes_scan_out, unreconciled

AT_ONCE = 3  # faults of the flow that the page names


def arms_of(inputs: ReportInputs) -> dict[str, list[str]]:
    """Return arm -> participants, active first; without a group model everybody is one group."""
    group = inputs.study.group
    if group is None or inputs.allocation is None:
        return {EVERYONE: list(dict.fromkeys(inputs.runs["participant_id"]))}
    return allocated(group.arms, inputs.allocation)


def allocated(arms: Arms, allocation: pd.DataFrame) -> dict[str, list[str]]:
    """Return arm -> participants, active first."""
    return {arm: list(allocation["participant_id"][allocation["arm"] == arm]) for arm in arms.shown}


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


def diagram(inputs: ReportInputs) -> str:
    """Return the CONSORT diagram of the study as SVG."""
    study = inputs.study
    outcome = study.group.primary.outcome if study.group else None
    named = study.session_names or {MISSING: "All scans"}
    return flow_diagram(
        inputs.flow,
        arms=list(arms_of(inputs)),
        sessions=named,
        outcome=outcome,
        label=outcome_label(outcome) if outcome else "",
    )


def flow_blocks(inputs: ReportInputs) -> Block:
    """Return diagram, table by task, and where the flow does not reconcile with the models."""
    found = unreconciled(inputs.flow, inputs.tables.get("estimates"), inputs.study)
    more = [f"{len(found) - AT_ONCE} more like this"] if len(found) > AT_ONCE else []
    return {
        # Every text in it was escaped when it was drawn.
        "flow_diagram": Markup(diagram(inputs)),  # noqa: S704
        "flow": _tables(inputs),
        "flow_faults": [*found[:AT_ONCE], *more],
    }


def _tables(inputs: ReportInputs) -> list[tuple[str, list[Block]]]:
    """Task -> one row per visit and arm, with the people at every station of its scans."""
    flow = inputs.flow
    boxes = flow[flow["code"].isna()]
    scans = boxes[boxes["outcome"].isna() & boxes["task"].notna()]
    return [(str(task), list(_rows(inputs, part, boxes))) for task, part in scans.groupby("task", sort=False)]


def _rows(inputs: ReportInputs, scans: pd.DataFrame, boxes: pd.DataFrame) -> Any:
    study = inputs.study
    classes = {}
    if study.group:
        classes = {
            arm: f"arm-active arm-active-{place}" for place, arm in enumerate(study.group.arms.actives)
        }
        classes[study.group.arms.control] = "arm-control"
    groups = list(scans.groupby(["session", "arm"], sort=False, dropna=False))
    for place, ((session, arm), part) in enumerate(groups):
        count = {str(stage): int(n) for stage, n in zip(part["stage"], part["people"], strict=True)}
        following = groups[place + 1][0][0] if place + 1 < len(groups) else None
        of = max(count["expected"], 1)
        yield {
            **count,
            "session": session_name(study, session) if isinstance(session, str) else "all scans",
            "arm": arm,
            "arm_class": classes.get(str(arm), ""),
            "modelled": _modelled(inputs, part, boxes),
            "share_acquired": f"{100 * count['acquired'] / of:.1f}",
            "share_passed": f"{100 * count['passed'] / of:.1f}",
            "last": following != session,
        }


def _modelled(inputs: ReportInputs, part: pd.DataFrame, boxes: pd.DataFrame) -> int | None:
    """People with the primary outcome; None where the task does not make it."""
    group, first = inputs.study.group, part.iloc[0]
    if group is None:
        return None
    here = boxes[(boxes["stage"] == "modelled") & (boxes["outcome"] == group.primary.outcome)]
    here = here[(here["arm"] == first["arm"]) & (here["task"] == first["task"])]
    if isinstance(first["session"], str):
        here = here[here["session"] == first["session"]]
    return int(here["people"].iloc[0]) if len(here) else None


def scans_of(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return the scans of the run table, each with whether it is excluded."""
    deciding = [item for item in inputs.exclusions if takes_scan_out(item)]
    scans = []
    for row in inputs.runs.to_dict("records"):
        key: dict[str, Any] = {**key_of(row)}
        unit = Exclusion(**key)
        key["session_id"] = key["session_id"].removeprefix("ses-")
        scans.append(key | {"excluded": any(item.takes_out(unit) for item in deciding)})
    return scans


def absent_people(inputs: ReportInputs) -> list[tuple[str, list[str]]]:
    """Return (session, participants without any scan there) where some have a scan and some have not."""
    people = sorted({person for group in arms_of(inputs).values() for person in group})
    # With the scans that somebody took out: they were acquired.
    scans = inputs.runs if inputs.indexed is None else inputs.indexed
    visits = scans["session_id"].astype(str).str.removeprefix("ses-")
    absent = []
    for session in [item.id for item in inputs.study.sessions]:
        present = set(scans.loc[visits == session, "participant_id"])
        if present:
            absent.append((session, [person for person in people if person not in present]))
    return [(session, names) for session, names in absent if names]
