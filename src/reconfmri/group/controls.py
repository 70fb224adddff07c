"""Negative controls: questions whose answer ought to be no difference between the arms.

Were the arms alike before treatment, does a region without a hypothesis stay the same, do motion,
signal-to-noise ratio or coverage differ by arm? A difference here does not say what is wrong; it says that
the headline may share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from reconfmri.config import Group
from reconfmri.group import frequentist
from reconfmri.group.estimands import BASELINE, NotEstimableError, Question, ask
from reconfmri.group.grid import NO_SESSION, Outcome, lay_out

DESCRIPTIONS = {
    "check": "baseline: the arms before treatment; control: an outcome declared to stay alike; quality: "
    "motion, tSNR and coverage of the scans; precision: the logarithm of the primary outcome's error",
    "outcome": "Outcome, <what>.<contrast or condition>",
    "session": "BIDS session label, without ses-",
    "unit": "Unit of estimate and sd",
    "estimate": "Active minus control by REML; adjusted for baseline in control outcomes, else unadjusted",
    "sd": "Standard error (Kenward-Roger)",
    "df": "Degrees of freedom",
    "p": "Two-sided p value, not corrected: one in twenty is below .05 where nothing is wrong",
    "status": "ok, with the covariance over visits where it is not unstructured; or `not reported: <reason>`",
}


def estimate(
    measures: pd.DataFrame, allocation: pd.DataFrame, group: Group, sessions: Sequence[str]
) -> pd.DataFrame:
    """Return one row per check, outcome and session.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    labels = list(sessions) or [NO_SESSION]
    rows = []
    for outcome in lay_out(measures, allocation, group, sessions):
        if len(labels) > 1:
            rows.append(_row("baseline", outcome, _at(BASELINE, labels), group))
        if outcome.name in group.controls:
            questions = ask(["difference_adjusted"], labels)
            rows += [_row("control", outcome, question, group) for question in questions]
        if outcome.name == group.primary.outcome and outcome.ses is not None:
            logs = replace(outcome, values=np.log(outcome.ses), unit=f"ln {outcome.unit}")
            rows += [_row("precision", logs, _at(visit, labels), group) for visit in range(len(labels))]
    for outcome in _quality(measures, allocation, group, sessions):
        rows += [_row("quality", outcome, _at(visit, labels), group) for visit in range(len(labels))]
    return pd.DataFrame(rows, columns=list(DESCRIPTIONS))


def _at(visit: int, labels: Sequence[str]) -> Question:
    return Question("difference_unadjusted", visit, labels[visit])


def _quality(
    measures: pd.DataFrame, allocation: pd.DataFrame, group: Group, sessions: Sequence[str]
) -> Iterator[Outcome]:
    """Return the quality of the scans as outcomes; they have no prior and need no scale."""
    rows = measures[measures["domain"] == "quality"]
    if len(rows):
        scales = group.scales | dict.fromkeys(rows["unit"].dropna(), 1.0)
        names = list(dict.fromkeys(rows["outcome"]))
        changed = {"outcomes": names, "exploratory": [], "covariates": {}, "scales": scales}
        yield from lay_out(rows, allocation, group.model_copy(update=changed), sessions)


def _row(check: str, outcome: Outcome, question: Question, group: Group) -> dict[str, object]:
    row: dict[str, object] = {
        "check": check,
        "outcome": outcome.name,
        "session": question.session,
        "unit": outcome.unit,
    }
    try:
        found, status = frequentist.answer_by_reml(outcome, question, group)
    except NotEstimableError as reason:
        return row | {"status": f"not reported: {reason}"}
    return row | {
        "estimate": found.estimate,
        "sd": found.se,
        "df": found.df,
        "p": found.p,
        "status": status,
    }
