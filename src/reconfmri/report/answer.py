"""The top of the page: the study, its question and the primary answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconfmri.figures.labels import (
    method_label,
    number,
    outcome_label,
    p_text,
    probability_text,
    session_name,
)
from reconfmri.report.blocks import Block, several
from reconfmri.report.inputs import ReportInputs
from reconfmri.report.words import ADJECTIVES, planted_difference, primary_rows, sign_of

if TYPE_CHECKING:
    pass


def front(inputs: ReportInputs) -> Block:
    """Return title, question and primary answer."""
    study = inputs.study
    answer = _answer(inputs) if study.group and inputs.estimates is not None else None
    people, scans = inputs.runs["participant_id"].nunique(), len(inputs.runs)
    return {
        "title": study.name,
        "question": study.question.strip(),
        "truth": inputs.truth is not None,
        "has_group": study.group is not None,
        "answer": answer,
        "headline": f"{several(people, 'participant')}, {several(scans, 'scan')}. No arms: no group model.",
    }


def _answer(inputs: ReportInputs) -> Block | None:
    """The primary result as a title and a row of facts."""
    study, group, estimates = inputs.study, inputs.study.group, inputs.estimates
    if group is None or estimates is None:
        return None
    primary = group.primary
    rows = primary_rows(estimates, group)
    visit = session_name(study, primary.session)
    title = (
        f"Primary outcome: {outcome_label(primary.outcome)} at {visit}, {group.arms.active} minus "
        f"{group.arms.control}, {ADJECTIVES.get(primary.estimand, primary.estimand)}"
    )
    bayes = rows.get("bayes")
    facts: list[Block] = []
    withheld = bayes is None or not str(bayes["status"]).startswith("ok")
    if bayes is None or withheld:
        facts.append({"name": "Bayesian estimate", "value": bayes["status"] if bayes else "not estimated"})
    else:
        facts += _bayesian_facts(bayes)
    facts += [_frequentist_fact(row) for name, row in rows.items() if name != "bayes"]
    if bayes is not None and bayes["n_active"] == bayes["n_active"]:
        value = f"{bayes['n_active']:.0f} + {bayes['n_control']:.0f}"
        facts.append({"name": "n", "value": value, "detail": f"{group.arms.active} + {group.arms.control}"})
    facts += _truth_fact(inputs, bayes)
    facts = [{"detail": "", "truth": False, **fact} for fact in facts]
    return {"title": title, "facts": facts, "withheld": withheld, "reading": _reading(inputs, bayes)}


def _bayesian_facts(row: Block) -> list[Block]:
    unit = str(row["unit"])
    interval = f"{number(row['lower'], unit)} to {number(row['upper'], unit)}"
    return [
        {
            "name": "Estimate",
            "value": number(row["estimate"], unit),
            "detail": f"{unit}, SD {number(row['sd'], unit)}",
        },
        {
            "name": f"{100 * row['level']:g} % interval",
            "value": interval,
            "detail": "Bayesian, highest density",
        },
        {
            "name": f"P(difference {sign_of(row)} 0)",
            "value": probability_text(row["probability"]),
            "detail": "posterior",
        },
    ]


def _frequentist_fact(row: Block) -> Block:
    name = method_label(str(row["method"]))
    if not str(row["status"]).startswith("ok"):
        return {"name": name, "value": "–", "detail": row["status"]}
    unit = str(row["unit"])
    detail = f"{number(row['estimate'], unit)} [{number(row['lower'], unit)}, {number(row['upper'], unit)}]"
    return {"name": f"p, {name}", "value": p_text(row["p"]), "detail": detail}


def _truth_fact(inputs: ReportInputs, row: Block | None) -> list[Block]:
    group = inputs.study.group
    if group is None or row is None:
        return []
    primary = group.primary
    baseline = inputs.study.sessions[0].id if inputs.study.sessions else None
    planted = planted_difference(
        inputs.truth, primary.outcome, primary.session, primary.estimand, baseline=baseline
    )
    if planted is None:
        return []
    return [
        {
            "name": "Planted truth",
            "value": number(planted, str(row["unit"])),
            "detail": str(row["unit"]),
            "truth": True,
        }
    ]


def _reading(inputs: ReportInputs, row: Block | None) -> str:
    group = inputs.study.group
    if group is None or row is None or not str(row["status"]).startswith("ok"):
        return "The primary result is withheld; the table of all estimates says why."
    verb = "contains" if row["lower"] <= 0 <= row["upper"] else "excludes"
    direction = "lower" if row["estimate"] < 0 else "higher"
    start = f"The estimate is {direction} in the {group.arms.active} arm"
    return f"{start}; its {100 * row['level']:g} % interval {verb} zero."
