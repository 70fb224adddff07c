"""Sections on people and scans: design, flow, exclusions, quality and a picture of each scan."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd

from reconfmri.config import Study, condition_label, outcome_label
from reconfmri.exclusions import MISSING, UNIT, Exclusion
from reconfmri.figures import trial
from reconfmri.figures.labels import session_name
from reconfmri.figures.style import data_uri
from reconfmri.parity import not_compared
from reconfmri.quality import LIMITS
from reconfmri.report import flow
from reconfmri.report.answer import attributes, question_facts
from reconfmri.report.blocks import Block, picture, scan_label, several
from reconfmri.report.inputs import Picture, Processed, ReportInputs
from reconfmri.report.words import DISTORTION
from reconfmri.signal.first_level import costs_of_order
from reconfmri.trial.flow import SCALES, SIGNAL_STAGES

if TYPE_CHECKING:
    pass

MOST_PICTURES, AT_ONCE = 60, 2
LONGEST_VALUE = 60  # characters


def people(inputs: ReportInputs) -> Block:
    """Return design, flow of scans and every exclusion."""
    study = inputs.study
    arms = flow.arms_of(inputs)
    randomised = {arm: len(people) for arm, people in arms.items()} if study.group else {}
    course = None
    if study.sessions:
        figure = trial.timeline(study, randomised)
        course = picture(
            figure,
            alt=f"Timeline of arms and sessions. {_course(study)}",
            caption="The planned course of the trial.",
        )
    absent = flow.absent_people(inputs)
    return {
        "has_scans": True,
        "timeline": course,
        "design_facts": _design_facts(inputs, randomised),
        "attributes": attributes(study.group) if study.group else [],
        **flow.flow_blocks(inputs),
        "not_compared": flow.not_compared(inputs),
        "absent": [(session_name(study, session), ", ".join(names)) for session, names in absent],
        "absent_count": sum(len(names) for _, names in absent),
        "exclusions": [_exclusion_row(row) for row in inputs.exclusions],
    }


def _design_facts(inputs: ReportInputs, randomised: dict[str, int]) -> list[tuple[str, str]]:
    study = inputs.study
    facts = []
    for name, task in study.tasks.items():
        conditions = ", ".join(dict.fromkeys(task.conditions.values())) or "rest, no conditions"
        facts.append((f"Task {name}", conditions))
    contrasts = study.first_level.every_contrast if study.first_level else {}
    if contrasts:
        facts.append(("Contrasts", "; ".join(condition_label(name) for name in contrasts)))
    facts += _separable(inputs)
    if study.scales:
        facts.append(
            (
                "Clinical scales",
                ", ".join(scale.unit.removesuffix(" points") for scale in study.scales.values()),
            )
        )
    return (question_facts(study.trial, randomised) if study.trial else []) + facts


def _separable(inputs: ReportInputs) -> list[tuple[str, str]]:
    """What the order of the scripts can separate, from the design of one run, before any result."""
    settings = inputs.study.first_level
    if settings is None or inputs.design is None:
        return []
    task = inputs.study.tasks[settings.task].windowed
    costs = costs_of_order(list(map(str, inputs.design.columns)), task, settings)
    said = [
        f"{condition_label(name)}: not estimable (rank {cost.rank} of {cost.terms})"
        if math.isinf(cost.variance)
        else f"{condition_label(name)}: {cost.variance:.3g}"
        for name, cost in costs.items()
    ]
    if not said:
        return []
    what = "Variance of each contrast by the order of the scripts, relative to the plain contrast of means"
    return [(what, "; ".join(said))]


def _exclusion_row(row: Exclusion) -> Block:
    return {
        "what": _what(row),
        "where": scan_label(row.participant_id, row.session_id, row.task, row.run),
        "stage": row.stage.replace("_", " "),
        "reason": _without_values(row.reason) if row.stage == SCALES else row.reason,
        "by": row.decided_by,
    }


def _what(row: Exclusion) -> str:
    """What an exclusion takes out: a scan, a region, or one signal of a scan."""
    if row.code.startswith("W-"):
        return "remark"
    noun = SIGNAL_STAGES.get(row.stage, "scan" if row.region == MISSING else "region")
    return noun if row.region == MISSING else f"{noun} {row.region}"


def _without_values(reason: str) -> str:
    """The reason with the numbers of a clinical record blotted out; file and line stay."""
    where, separator, what = reason.rpartition("line ")
    line, colon, rest = what.partition(":")
    kept = where + separator + line + colon if separator else ""
    return kept + re.sub(r"\d+(\.\d+)?", "…", rest if separator else reason)


def parity(inputs: ReportInputs) -> Block:
    """Return how scans deviate from the person's other sessions: counts by session and arm, and each one."""
    table = inputs.parity
    if table is None or table.empty:
        return {"parity_items": [], "parity_alike": [], "parity_columns": [], "parity_rows": []}
    odd = table[table["deviation"] != MISSING]
    columns = _parity_columns(inputs, table)
    items = [
        (
            item,
            [
                f"{_scans_in(odd[odd['item'] == item], cell)} of {_scans_in(part, cell)}"
                for _, cell in columns
            ],
        )
        for item, part in table.groupby("item", sort=False)
        if (odd["item"] == item).any()
    ]
    rows = [
        {
            "where": scan_label(*(row[name] for name in UNIT)),
            **{name: str(row[name]) for name in ("item", "deviation")},
            **{name: _short(str(row[name])) for name in ("value", "reference")},
        }
        for row in odd.to_dict("records")
    ]
    return {
        "parity_items": items,
        "parity_alike": [item for item in table["item"].unique() if not (odd["item"] == item).any()],
        "parity_columns": [title for title, _ in columns],
        "parity_rows": rows,
        "parity_untold": ", ".join(not_compared(table)),
    }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else "a list, see parity.tsv"


def _parity_columns(inputs: ReportInputs, table: pd.DataFrame) -> list[tuple[str, tuple[str, set[str]]]]:
    """The columns of the count: each session, and within it each arm, with the people who belong there."""
    sessions = [item.id for item in inputs.study.sessions] or [MISSING]
    seen = [session for session in sessions if session in set(table["session_id"])]
    return [
        (" · ".join(("all scans" if session == MISSING else session_name(inputs.study, session), *named)),
         (session, set(people)))
        for session in seen
        for named, people in _people_by_arm(inputs, table)
    ]  # fmt: skip


def _people_by_arm(inputs: ReportInputs, table: pd.DataFrame) -> list[tuple[tuple[str, ...], list[str]]]:
    everybody = list(dict.fromkeys(table["participant_id"]))
    if inputs.study.group is None or inputs.allocation is None:
        return [((), everybody)]
    return [((), everybody), *(((arm,), people) for arm, people in flow.arms_of(inputs).items())]


def _scans_in(table: pd.DataFrame, cell: tuple[str, set[str]]) -> int:
    session, people = cell
    return int(((table["session_id"] == session) & table["participant_id"].isin(people)).sum())


def scan_quality(inputs: ReportInputs) -> Block:
    """Return quality dots and the pictures of each scan."""
    table = _quality_table(inputs)
    dots = None
    if len(table):
        figure = trial.quality_dots(table, inputs.study)
        caption = (
            "One dot per scan; a red cross is an excluded scan. Dashed: the threshold of exclusion. "
            "Arms are not shown."
        )
        dots = picture(
            figure, alt=f"Motion and temporal SNR of every scan. {_quality_alt(table)}", caption=caption
        )
    chosen, left_out = _chosen_pictures(inputs)
    note = (
        "The brain mask on the run's reference volume; the edges of the EPI on the T1w and on the template. "
    )
    note += (
        "Person's left is on the left; nothing far from the brain is shown. Anatomy, temporal SNR and carpet "
        "plots are on one page per participant in results/participants, which is for the lab only, as is the "
        "key to the codes of participants on this page (report_codes.tsv). "
    )
    if left_out:
        note += (
            f"{several(left_out, 'more picture')} are beside the preprocessed runs, in results/derivatives."
        )
    parts = [part for part in (chosen[:AT_ONCE], chosen[AT_ONCE:]) if part]
    return {
        "quality_dots": dots,
        "quality_rows": _quality_rows(inputs),
        "scan_pictures": parts,
        "pictures_note": note,
        "processing": _processing(inputs),
    }


def _quality_alt(table: pd.DataFrame) -> str:
    medians = table.groupby("outcome", sort=False)["value"].median()
    out = table[["participant_id", "session_id"]][table["excluded"]].drop_duplicates()
    said = [f"median of {outcome_label(str(name)).lower()} {value:.3g}" for name, value in medians.items()]
    return f"{'; '.join(said)}; {several(len(out), 'visit')} excluded"


def _course(study: Study) -> str:
    visits = [
        item.name if item.day is None else f"{item.name} on day {item.day:g}" for item in study.sessions
    ]
    return ", then ".join(visits)


def _quality_rows(inputs: ReportInputs) -> list[Block]:
    """Every number of quality over all visits: median, range, and the threshold that the study sets."""
    bounds = {
        limit.outcome: f"{'at most' if limit.key.startswith('max_') else 'at least'} {bound:g}"
        for limit in LIMITS
        if (bound := getattr(inputs.study.quality, limit.key)) is not None
    }
    table = inputs.measures[inputs.measures["domain"] == "quality"].dropna(subset=["value"])
    return [
        {
            "name": outcome_label(str(outcome)),
            "unit": unit,
            "count": len(part),
            "median": f"{part['value'].median():.3g}",
            "range": f"{part['value'].min():.3g} to {part['value'].max():.3g}",
            "bound": bounds.get(str(outcome), "–"),
        }
        for (outcome, unit), part in table.groupby(["outcome", "unit"], sort=False)
    ]


def _processing(inputs: ReportInputs) -> list[Block]:
    """One row per session and task: in which scans slice timing and distortion were corrected, and by what.

    Where the scans of a row differ, the people of the rarer kind are named.
    """
    groups: dict[tuple[str, str], list[Processed]] = {}
    for scan in inputs.processed:
        groups.setdefault((scan.session_id, scan.task), []).append(scan)
    rows = []
    for (session, task), scans in sorted(groups.items(), key=lambda item: _place(inputs, *item[0])):
        shifts = [scan.shift for scan in scans if scan.shift is not None]
        rows.append(
            {
                "session": "all scans" if session == MISSING else session_name(inputs.study, session),
                "task": task,
                "n": len(scans),
                "slices": _kinds(scans, _timing),
                "distortion": _kinds(scans, lambda scan: DISTORTION.get(scan.distortion, scan.distortion)),
                "shift": f"{sum(shifts) / len(shifts):.2f}" if shifts else "",
            }
        )
    return rows


def _timing(scan: Processed) -> str:
    if scan.fmriprep and scan.slice_timing is None:
        return "not stated"
    return "corrected" if scan.slice_timing else "no slice times"


def _place(inputs: ReportInputs, session: str, task: str) -> tuple[int, str, str]:
    order = [item.id for item in inputs.study.sessions]
    return (order.index(session) if session in order else len(order), session, task)


def _kinds(scans: list[Processed], kind_of: Callable[[Processed], str]) -> str:
    """`phase difference 9; not corrected 1 (sub-04)`; a single kind without numbers."""
    kinds: dict[str, list[str]] = {}
    for scan in scans:
        kinds.setdefault(kind_of(scan), []).append(scan.participant_id)
    if len(kinds) == 1:
        return next(iter(kinds))
    most = max(len(people) for people in kinds.values())
    told = []
    for kind, people in sorted(kinds.items(), key=lambda item: -len(item[1])):
        named = f" ({', '.join(dict.fromkeys(people))})" if len(people) < most and len(people) <= 10 else ""
        told.append(f"{kind} {len(people)}{named}")
    return "; ".join(told)


def _quality_table(inputs: ReportInputs) -> pd.DataFrame:
    measures = inputs.measures
    table = measures[measures["outcome"].isin(["fd.mean", "tsnr.median"])]
    out = {(scan["participant_id"], scan["session_id"]) for scan in flow.scans_of(inputs) if scan["excluded"]}
    keys = zip(table["participant_id"], table["session_id"].fillna(MISSING), strict=True)
    return table.assign(excluded=[key in out for key in keys])


def _chosen_pictures(inputs: ReportInputs) -> tuple[list[Block], int]:
    """The pictures of each scan together, flagged scans first, at most sixty; and how many are left out."""
    flags = _flags(inputs)
    scans: dict[tuple[str, str, str, str], list[Picture]] = {}
    for item in inputs.pictures:
        scans.setdefault((item.participant_id, item.session_id, item.task, item.run), []).append(item)
    ordered = sorted(scans.items(), key=lambda item: item[0] not in flags)
    shown: list[Block] = []
    count = 0
    for key, pictures in ordered:
        if count + len(pictures) > MOST_PICTURES:
            break
        count += len(pictures)
        label = scan_label(*key)
        shown.append(
            {
                "name": label,
                "alt": f"Slices of {label}",
                "flag": flags.get(key, ""),
                "uris": [data_uri(picture.path.read_bytes()) for picture in pictures],
            }
        )
    return shown, len(inputs.pictures) - count


def _flags(inputs: ReportInputs) -> dict[tuple[str, str, str, str], str]:
    """Scans that are excluded, or that somebody should look at: a region or a remark speaks of them."""
    flags: dict[tuple[str, str, str, str], str] = {}
    for scan in flow.scans_of(inputs):
        key = (scan["participant_id"], scan["session_id"], scan["task"], scan["run"])
        if scan["excluded"]:
            flags[key] = "excluded"
    for row in inputs.exclusions:
        key = (row.participant_id, row.session_id.removeprefix("ses-"), row.task, row.run)
        if row.stage not in SIGNAL_STAGES:
            flags.setdefault(key, "see remarks")
    return flags
