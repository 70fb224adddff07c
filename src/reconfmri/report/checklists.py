"""Reporting checklists, filled with what the workflow knows of a study; the rest is marked as missing.

Items are named by number and topic, in words of our own. CONSORT 2025: Hopewell et al., Lancet 2025;405:1633.
COBIDAS: Nichols et al., Nat Neurosci 2017;20:299. ICH E9(R1), 2019. SPIRIT 2025: Chan et al., BMJ
2025;389:e081477.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pandas as pd

from reconfmri.config import Group, Study, condition_label, outcome_label
from reconfmri.figures.labels import number, session_name
from reconfmri.report import flow
from reconfmri.report.blocks import Block, several
from reconfmri.report.inputs import ReportInputs
from reconfmri.report.words import headline
from reconfmri.tables import read_table
from reconfmri.templates import SPACE
from reconfmri.trial.log import DECIDE, UNBLIND

CHECKLISTS = Path(__file__).parent / "checklists.tsv"
OF_IMAGING = "COBIDAS"
Fact = tuple[str, str]  # what is known, and the section of the page that shows it


def filled(facts: Mapping[str, Fact], sections: Collection[str]) -> list[Block]:
    """Return every checklist with its items: what is known with links to `sections`, and what is missing.

    A study without arms is no trial: of the lists it has that of imaging alone.
    """
    table = read_table(CHECKLISTS).fillna("")
    if not facts["design"][0]:
        table = table[table["checklist"] == OF_IMAGING]
    lists = []
    for name, items in table.groupby("checklist", sort=False):
        rows = [_item(row, facts, sections) for row in items.to_dict("records")]
        known = sum(bool(row["known"]) for row in rows)
        whole = sum(bool(row["known"]) and not row["lacks"] for row in rows)
        lists.append({"title": str(name), "rows": rows, "n": len(rows), "known": known, "whole": whole})
    return lists


def _item(row: Mapping[object, str], facts: Mapping[str, Fact], sections: Collection[str]) -> Block:
    names = [name for name in row["facts"].split(",") if name]
    known = [
        (text, where if where in sections else "") for text, where in map(facts.__getitem__, names) if text
    ]
    lacks = row["lacks"] or ("" if known else "not stated in the study file, or not part of this study")
    return {"item": row["item"], "topic": row["topic"], "known": known, "lacks": lacks}


def facts(inputs: ReportInputs) -> dict[str, Fact]:
    """Return what is known of a study, by the names that `checklists.tsv` has; unknown is an empty text."""
    group = inputs.study.group
    found = {**dict(_of_scans(inputs)), **dict(_of_conduct(inputs))}
    found |= dict(_of_arms(inputs, group)) if group else {}
    names = {name for cell in read_table(CHECKLISTS)["facts"].dropna() for name in cell.split(",")}
    return dict.fromkeys(names, ("", "")) | found


def _of_scans(inputs: ReportInputs) -> Iterator[tuple[str, Fact]]:
    study, runs = inputs.study, inputs.runs
    title = study.name if "randomi" in study.name.lower() else ""
    yield "randomised_title", (title, "")
    yield "question", (study.question.strip(), "")
    visits = [
        f"{item.name} (day {item.day:g})" if item.day is not None else item.name for item in study.sessions
    ]
    yield "visits", (f"Visits: {', '.join(visits)}" if visits else "", "design")
    people = runs["participant_id"].nunique()
    yield (
        "scanned",
        (f"{people} people, {several(len(runs), 'scan')}", "scans"),
    )
    named = [
        f"{name}: {', '.join(dict.fromkeys(task.conditions.values()))}" for name, task in study.tasks.items()
    ]
    yield "task", ("; ".join(named), "design")
    trs = sorted({f"{tr:g} s" for tr in runs["tr"].dropna()})
    yield "volumes", (f"TR {', '.join(trs)}; {_range(runs['n_volumes'])} volumes" if trs else "", "methods")
    for name in ("preprocessing", "slice_timing", "distortion", "confounds"):
        yield name, ("In the methods, with the settings used", "methods")
    yield "space", (f"{SPACE}, {study.preprocessing.resolution:g} mm", "regions")
    yield "quality", ("Thresholds, declared in the study file, and every number", "quality")
    lost = len(inputs.exclusions)
    yield (
        "losses",
        (f"{lost} exclusions and remarks, each with a code", "scans"),
    )
    yield "flow", ("Diagram and table, by visit", "scans")
    level = study.first_level
    contrasts = "; ".join(condition_label(name) for name in level.every_contrast) if level else ""
    yield "first_level", (f"Contrasts: {contrasts}" if level else "", "response")
    yield "regions", (f"Atlas labels and thresholds: {', '.join(study.rois.names)}", "regions")
    yield "connectivity", ("In the methods" if study.connectivity else "", "methods")


def _of_conduct(inputs: ReportInputs) -> Iterator[tuple[str, Fact]]:
    stamp = inputs.stamp
    if stamp.registered:
        entry, plan = stamp.registered.entry, stamp.registered.plan
        text = f"Registered on {entry.time[:10]}, sha256 {entry.facts['sha256'][:12]}…"
        yield "registration", (text, "conduct")
        people = " + ".join(str(n) for n in plan["people"].values())
        aim = f"{number(plan['difference'])} {plan['unit']}"
        yield "sample_size", (f"{people} people for a difference of {aim}, as registered", "conduct")
    if stamp.word != "not locked":
        yield "lock", (f"Settings, exclusions and code: {stamp.word}", "conduct")
        n_changes = len(stamp.changes)
        text = f"{several(n_changes, 'difference')} from the lock" if n_changes else "None since the lock"
        yield "changes", (text, "conduct")
    when = {entry.event: entry.time[:10] for entry in stamp.log}
    rated = f"; scans were rated and decided on by {when[DECIDE]}" if DECIDE in when else ""
    yield "how_blind", (f"No step before the group models can read the allocation{rated}", "conduct")
    if any(entry.event == "blind" for entry in stamp.log):
        until = f"until {when[UNBLIND]}" if UNBLIND in when else "still"
        yield "blinding", (f"Those who judged scans; results showed the arms by code {until}", "conduct")
    else:
        yield "blinding", ("Those who judged scans saw no arm", "")
    yield "code", (f"Versions, seed {inputs.study.seed}, hashes of inputs and settings", "provenance")
    yield "rerun", ("`snakemake` in the study folder, from the same study file and lock", "provenance")


def _of_arms(inputs: ReportInputs, group: Group) -> Iterator[tuple[str, Fact]]:
    study, tables = inputs.study, inputs.tables
    arms = {arm: len(people) for arm, people in flow.arms_of(inputs).items()}
    counts = ", ".join(f"{arm} (n = {n})" for arm, n in arms.items())
    yield "design", (f"Parallel arms: {counts}", "design")
    primary = group.primary
    asked = f"Primary: {outcome_label(primary.outcome)} at {session_name(study, primary.session)}"
    yield "outcomes", (f"{asked}; {len(group.outcomes) - 1} more declared", "design")
    if inputs.allocation is not None:
        yield "strata", (_strata(inputs.allocation), "")
        if "treated" in inputs.allocation:
            treated = int((inputs.allocation["treated"] == "yes").sum())
            yield "delivered", (f"{treated} received the allocated treatment", "scans")
    monitored = [name for names in group.safety.values() for name in names]
    yield "monitored", ("; ".join(map(outcome_label, monitored)), "safety")
    events = tables.get("adverse_events")
    yield "harms", ("Adverse events by arm" if events is not None and len(events) else "", "safety")
    yield "statistics", ("Bayesian and REML models of all visits, with the settings used", "methods")
    yield "analysed", ("Everybody randomised with a value, in the allocated arm", "people")
    unseen = tables.get("reference_based")
    yield (
        "missing_data",
        ("Missing at random, and departures from it" if unseen is not None else "", "missing"),
    )
    tested = ", max-T over draws of the allocation" if group.permutations else ""
    yield "multiplicity", (f"{group.correction.replace('_', ' ')} within families{tested}", "methods")
    yield "voxels", ("Peaks and clusters" if group.voxels else "", "voxels")
    yield from _of_results(inputs, study, group)
    yield from _of_the_estimand(group)


def _of_results(inputs: ReportInputs, study: Study, group: Group) -> Iterator[tuple[str, Fact]]:
    estimates, tables = inputs.tables.get("estimates"), inputs.tables
    if estimates is not None:
        yield "estimates", (headline(estimates, group, sessions=study.session_names), "estimates")
        silent = int((~estimates["reported"].astype(bool)).sum())
        yield (
            "every_result",
            (
                f"Every estimate is listed; {silent} of {len(estimates)} withheld, each with its reason",
                "estimates",
            ),
        )
        warned = int(estimates["status"].str.contains("caution").sum())
        yield "cautions", (f"{warned} estimates carry a caution" if warned else "", "estimates")
    made = [
        name
        for name in ("sensitivity", "controls", "moderation", "responders", "joint", "pooled")
        if tables.get(name) is not None
    ]
    yield (
        "further",
        (
            f"Declared in the study file: {', '.join(made)}; exploratory ones are labelled" if made else "",
            "sensitivity",
        ),
    )
    yield (
        "sensitivity",
        ("Other priors, covariances, without each person" if "sensitivity" in made else "", "sensitivity"),
    )


def _of_the_estimand(group: Group) -> Iterator[tuple[str, Fact]]:
    if (stated := group.attributes) is None:
        return
    for name in ("population", "treatment", "variable", "summary"):
        yield name, (str(getattr(stated, name)), "design")
    events = [f"{event}: {strategy}" for event, strategy in stated.intercurrent_events.items()]
    yield "intercurrent", ("; ".join(events), "design")
    if group.intercurrent_events:
        yield "followed", ("Intercurrent events are in a table of their own, with a strategy each", "missing")


def _strata(allocation: pd.DataFrame) -> str:
    labels = allocation["stratum"].dropna() if "stratum" in allocation else pd.Series(dtype=str)
    n = labels[labels != "n/a"].nunique()
    return f"Within {n} strata; draws of the randomisation test keep them" if n > 1 else ""


def _range(volumes: pd.Series[float]) -> str:
    known = volumes.dropna()
    if not len(known):
        return "unknown"
    low, high = int(known.min()), int(known.max())
    return str(low) if low == high else f"{low} to {high}"
