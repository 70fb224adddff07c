"""Negative controls: questions whose answer ought to be no difference between the arms.

Were the arms alike before treatment, does a region without a hypothesis stay the same, do motion,
signal-to-noise ratio or coverage differ by arm, do both arms spread alike? A difference here does not say
what is wrong; it says that the headline may share it. Arms that spread differently need `spread: by_arm`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from reconfmri.config import Group
from reconfmri.group import frequentist
from reconfmri.group.estimands import BASELINE, NotEstimableError, Question, ask
from reconfmri.group.grid import NO_SESSION, Outcome, lay_out
from reconfmri.group.repeated import mean_model

DESCRIPTIONS = {
    "check": "baseline: the arms before treatment; control: an outcome declared to stay alike; quality: "
    "motion, tSNR and coverage of the scans; precision: the logarithm of the primary outcome's error; "
    "spread: whether both arms have one SD at each visit, which group.spread: common takes for granted",
    "outcome": "Outcome, <what>.<contrast or condition>",
    "session": "BIDS session label, without ses-; spread: `all`",
    "unit": "Unit of estimate and sd",
    "estimate": "Active minus control by REML; adjusted for baseline in control outcomes, else unadjusted. "
    "spread: mean over visits of ln(SD of the active arm / SD of the control arm)",
    "sd": "Standard error (Kenward-Roger; spread: from the information)",
    "df": "Degrees of freedom; spread: of the likelihood ratio, visits with an SD per arm",
    "p": "Two-sided p value, not corrected: one in twenty is below .05 where nothing is wrong",
    "status": "ok, with the covariance over visits where it is not unstructured; or `not reported: <reason>`",
}
LEVEL = 0.05
LOST = 4.0  # people whose worth the likelihood ratio of SDs is corrected by (docs/calibration.md)


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
        rows.append(_spread(outcome))
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


def _spread(outcome: Outcome) -> dict[str, object]:
    """Likelihood ratio of an SD per arm and visit against one SD, by REML, both arms' means free."""
    row: dict[str, object] = {
        "check": "spread",
        "outcome": outcome.name,
        "session": "all",
        "unit": "ln SD ratio",
    }
    try:
        if outcome.fault:
            raise NotEstimableError(outcome.fault)
        model = mean_model(outcome, False)
        alike, own = (
            frequentist.fit_with(outcome, model, "unstructured", by_arm=by_arm) for by_arm in (False, True)
        )
    except NotEstimableError as reason:
        return row | {"status": f"not reported: {reason}"}
    sds = np.sqrt(np.diagonal(own.covariances, axis1=1, axis2=2))
    ratios = np.log(sds[-1] / sds[0])
    compared = ratios[ratios != 0]
    if not compared.size:
        return row | {"status": "not reported: no visit has three people of each arm"}
    height = 2 * (own.moments.log_likelihood - alike.moments.log_likelihood)
    p = float(chdtrc(compared.size, max(height * (1 - LOST / len(outcome.active)), 0.0)))
    status = "ok, the arms spread differently: see group.spread" if p < LEVEL else "ok"
    errors = own.spread[-compared.size :, -compared.size :]
    sd = float(errors.sum()) ** 0.5 / compared.size
    return row | {"estimate": float(compared.mean()), "sd": sd, "df": compared.size, "p": p, "status": status}


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
