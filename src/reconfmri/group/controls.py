"""Negative controls: questions whose answer ought to be no difference between the arms.

Were the arms alike before treatment, does a region without a hypothesis stay the same, do motion,
signal-to-noise ratio or coverage differ by arm, do both arms spread alike? A difference here does not say
what is wrong; it says that the headline may share it. Arms that spread differently need `spread: by_arm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from reconfmri.config import Group
from reconfmri.contracts.questions.arms import CONTROLS
from reconfmri.group import frequentist
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import BASELINE, NotEstimableError, Question, answered, withheld
from reconfmri.group.grid import Outcome
from reconfmri.group.repeated import mean_model

LEVEL = 0.05
LOST = 4.0  # people whose worth the likelihood ratio of SDs is corrected by (docs/calibration.md)


def estimate(asked: Asked) -> pd.DataFrame:
    """Return one row per check, outcome and session.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    group, labels = asked.group, asked.labels
    rows = []
    for outcome in asked.outcomes:
        if len(labels) > 1:
            rows.append(_row("baseline", outcome, _at(BASELINE, labels), group))
        rows.append(_spread(outcome))
        if outcome.name in group.controls:
            questions = asked.about(["difference_adjusted"])
            rows += [_row("control", outcome, question, group) for question in questions]
        if outcome.name == group.primary.outcome and outcome.ses is not None:
            logs = replace(outcome, values=np.log(outcome.ses), unit=f"ln {outcome.unit}")
            rows += [_row("precision", logs, _at(visit, labels), group) for visit in range(len(labels))]
    for outcome in asked.quality:
        rows += [_row("quality", outcome, _at(visit, labels), group) for visit in range(len(labels))]
    return CONTROLS.frame(rows)


def _at(visit: int, labels: Sequence[str]) -> Question:
    return Question("difference_unadjusted", visit, labels[visit])


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
        return row | withheld(reason)
    sds = np.sqrt(np.diagonal(own.covariances, axis1=1, axis2=2))
    ratios = np.log(sds[-1] / sds[0])
    compared = ratios[ratios != 0]
    if not compared.size:
        return row | withheld("no visit has three people of each arm")
    height = 2 * (own.moments.log_likelihood - alike.moments.log_likelihood)
    p = float(chdtrc(compared.size, max(height * (1 - LOST / len(outcome.active)), 0.0)))
    status = "ok, the arms spread differently: see group.spread" if p < LEVEL else "ok"
    errors = own.spread[-compared.size :, -compared.size :]
    sd = float(errors.sum()) ** 0.5 / compared.size
    numbers = {"estimate": float(compared.mean()), "sd": sd, "df": compared.size, "p": p}
    return row | numbers | answered(status)


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
        return row | withheld(reason)
    numbers = {"estimate": found.estimate, "sd": found.se, "df": found.df, "p": found.p}
    return row | numbers | answered(status)
