"""The top of the page: the study, its question and the primary result."""

from __future__ import annotations

from collections.abc import Mapping

from reconfmri.config import Group, Trial, outcome_label
from reconfmri.figures.labels import (
    ends,
    estimand_label,
    half_width,
    is_unbounded,
    number,
    probability_text,
    session_name,
)
from reconfmri.report.agreement import agreement
from reconfmri.report.blocks import Block, several
from reconfmri.report.comparisons import TREND, primary_view
from reconfmri.report.inputs import Compared, ReportInputs
from reconfmri.report.words import ADJECTIVES, cautions, planted_difference, primary_rows, sign_of


def front(inputs: ReportInputs) -> Block:
    """Return title, question and primary answer."""
    study = inputs.study
    people, scans = inputs.runs["participant_id"].nunique(), len(inputs.runs)
    return {
        "title": study.name,
        "question": study.question.strip(),
        "truth": inputs.truth is not None,
        "has_group": study.group is not None,
        "arm_names": arm_names(study.group) if study.group else None,
        "answer": primary_answer(study.trial, inputs) if study.trial else None,
        "headline": f"{several(people, 'participant')}, {several(scans, 'scan')}. No arms: no group model.",
    }


def arm_names(group: Group) -> dict[str, str]:
    """Return what the arms are called in the introductions of sections."""
    active = "the arm named first" if group.arms.several else f"the {group.arms.pair[0]} arm"
    return {"active": active, "control": f"the {group.arms.control} arm"}


def question_facts(trial: Trial, randomised: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return what was asked of whom: people per arm, primary outcome, families and what was not declared."""
    group, primary = trial.group, trial.group.primary
    asked = f"{outcome_label(primary.outcome)}, {session_name(trial, primary.session)}"
    facts = [
        ("Arms", ", ".join(f"{arm} (n = {count})" for arm, count in randomised.items())),
        ("Primary outcome", f"{asked}; {estimand_label(primary.estimand).lower()}"),
    ]
    if group.arms.several:
        facts.append(("Primary comparison", primary.compared))
        facts.append(("Comparisons", "; ".join(one.name for one in group.arms.every_comparison)))
    named = {f"Family '{name}'": members for name, members in group.families.items()}
    named |= {"Negative controls": group.controls, "Exploratory outcomes": group.exploratory}
    return facts + [
        (name, "; ".join(outcome_label(item) for item in members))
        for name, members in named.items()
        if members
    ]


def attributes(group: Group) -> list[tuple[str, str]]:
    """Return the attributes of the primary estimand, as the study file words them."""
    declared = group.attributes
    if declared is None:
        return []
    return [
        ("Population", declared.population),
        ("Treatment", declared.treatment),
        ("Variable", declared.variable),
        *((f"If: {event}", strategy) for event, strategy in declared.intercurrent_events.items()),
        ("Summary", declared.summary),
    ]


def primary_answer(trial: Trial, compared: Compared) -> Block | None:
    """Return the primary result as a title, a row of facts and a sentence; None without estimates."""
    estimates = compared.tables.get("estimates")
    if estimates is None:
        return None
    rows = primary_rows(estimates)
    comparison, trial, compared = primary_view(trial, compared)
    group, primary = trial.group, trial.group.primary
    names = " minus ".join(group.arms.pair)
    visit = session_name(trial, primary.session)
    title = (
        f"Primary outcome: {outcome_label(primary.outcome)} at {visit}, "
        f"{comparison or names}, {ADJECTIVES.get(primary.estimand, primary.estimand)}"
    )
    bayes = rows.get("bayes")
    facts: list[Block] = []
    withheld = bayes is None or not _reported(bayes)
    if bayes is None:
        facts.append({"name": "Bayesian estimate", "value": "not estimated"})
    elif withheld:
        facts.append({"name": "Bayesian estimate", "value": "–", "detail": bayes["status"]})
    else:
        facts += _bayesian_facts(bayes)
    if bayes is not None and bayes["n_active"] == bayes["n_active"]:
        value = f"{bayes['n_active']:.0f} + {bayes['n_control']:.0f}"
        facts.append({"name": "n", "value": value, "detail": " + ".join(group.arms.pair)})
    facts += _truth_fact(trial, compared, bayes)
    facts = [{"detail": "", "truth": False, **fact} for fact in facts]
    return {
        "title": title,
        "facts": facts,
        "withheld": withheld,
        "reading": " ".join(
            part for part in (_reading(trial, bayes), agreement(trial, compared, rows)) if part
        ),
        # What few allocations mean for the randomisation test is said in the reading.
        "cautions": cautions({name: row for name, row in rows.items() if not is_unbounded(row)}),
    }


def _bayesian_facts(row: Block) -> list[Block]:
    unit = str(row["unit"])
    return [
        {
            "name": "Estimate",
            "value": number(row["estimate"], unit, width=half_width(row)),
            "detail": ", ".join([f"{unit}, SD {number(row['sd'], unit)}", *_label_of(row)]),
        },
        {
            "name": f"{100 * row['level']:g} % interval",
            "value": ends(row, unit),
            "detail": "Bayesian, highest density",
        },
        {
            "name": f"P(difference {sign_of(row)} 0)",
            "value": probability_text(row["probability"]),
            "detail": "posterior",
        },
    ]


def _label_of(row: Block) -> list[str]:
    """What the status names besides `ok`: the covariance over visits where it is not unstructured."""
    return str(row["status"]).partition("; ")[0].split(", ")[1:]


def _reported(row: Block) -> bool:
    return bool(row["reported"])


def _truth_fact(trial: Trial, compared: Compared, row: Block | None) -> list[Block]:
    if row is None:
        return []
    primary = trial.group.primary
    planted = planted_difference(
        compared.truth, primary.outcome, primary.session, primary.estimand, baseline=trial.baseline
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


def _reading(trial: Trial, row: Block | None) -> str:
    if row is None or not _reported(row):
        return "The primary result is withheld; what other methods found is in the table of all estimates."
    verb = "contains" if row["lower"] <= 0 <= row["upper"] else "excludes"
    direction = "lower" if row["estimate"] < 0 else "higher"
    start = f"The estimate is {direction} in the {trial.group.arms.pair[0]} arm"
    if trial.group.arms.pair == TREND:
        start = f"The estimate is {direction} at {TREND[0]} than at {TREND[1]}, along a line through the arms"
    return f"{start}; its {100 * row['level']:g} % interval {verb} zero."
