"""From a number of the report back to what made it: rule, files with their hashes, settings, shell line."""

from __future__ import annotations

import hashlib
import json
import re

from reconfmri.config import Study, outcome_label
from reconfmri.config.catalogue import Outcome
from reconfmri.contracts import questions
from reconfmri.contracts.files import of_study
from reconfmri.contracts.rules import producers
from reconfmri.report.blocks import Block
from reconfmri.report.inputs import ReportInputs, layout_in

# Domain of an outcome -> section of the study file that it is made by.
SECTIONS = {
    "activation": "first_level",
    "connectivity": "connectivity",
    "skin_conductance": "skin_conductance",
    "physiology": "physiology",
    "clinical": "scales",
    "quality": "quality",
}
SCALE_RULE = "score_scale"
MEASURES = of_study("stack_measures", "measures")


def anchor(outcome: str) -> str:
    """Return where the page says how an outcome was made."""
    return "from-" + re.sub(r"[^A-Za-z0-9]+", "-", outcome)


def traces(inputs: ReportInputs) -> Block:
    """Return a row per outcome of the group model and per table of results; none without arms."""
    group = inputs.study.group
    if group is None or inputs.tables.get("estimates") is None:
        return {"outcome_traces": [], "table_traces": []}
    asked = dict.fromkeys([*group.modelled, *inputs.tables["estimates"]["outcome"]])
    known = inputs.study.outcomes
    return {
        "outcome_traces": [_outcome(inputs, known[name]) for name in asked if name in known],
        "table_traces": [
            {
                "file": questions.path_of(name),
                "rule": question.rule,
                "of": ", ".join(map(questions.path_of, question.collects))
                or f"{MEASURES}, " + ", ".join(("allocation", *question.needs)).replace("_", " "),
                "sha256": inputs.table_hashes.get(name, ""),
                "line": f"snakemake --cores 1 --force {questions.path_of(name)}",
            }
            for question in questions.registered()
            for name in question.tables
            if name in inputs.tables and question.rule
        ],
    }


def _outcome(inputs: ReportInputs, outcome: Outcome) -> Block:
    table = inputs.measures[inputs.measures["outcome"] == outcome.name]
    section = SECTIONS[outcome.domain]
    is_scale = outcome.producer == "scale"
    rule = SCALE_RULE if is_scale else producers(inputs.study).get(outcome.producer, "")
    known = {"scale": outcome.what, "task": outcome.task or "*"}
    files = layout_in(inputs.runs).path(rule, "measures", **known) if rule else ""
    return {
        "id": anchor(outcome.name),
        "label": outcome_label(outcome.name),
        "name": outcome.name,
        "regions": ", ".join(sorted(outcome.regions)),
        "task": outcome.task or "",
        "n": int(table["value"].notna().sum()),
        "rule": rule,
        "files": re.sub(r"\{\w+\}", "*", files),
        "section": section,
        "digest": _digest(inputs.study, section),
        "line": f"snakemake --cores 1 --forcerun {rule} -- {MEASURES}",
    }


def _digest(study: Study, section: str) -> str:
    """The sha256 of a section of the study file with its defaults, as every job reads it."""
    settings = study.model_dump(mode="json", include={section})
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
