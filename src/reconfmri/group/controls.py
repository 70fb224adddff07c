"""Negative controls: questions whose answer ought to be no difference between the arms.

Were the arms alike before treatment, does a region without a hypothesis stay the same, do motion,
signal-to-noise ratio or coverage differ by arm, do both arms spread alike? A difference here does not say
what is wrong; it says that the headline may share it. Arms that spread differently need `spread: by_arm`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from reconfmri.config import Arms, Group
from reconfmri.contracts.questions.arms import CONTROLS
from reconfmri.contracts.questions.columns import COMPARISON
from reconfmri.group import frequentist
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import (
    BASELINE,
    NotEstimableError,
    Question,
    answered,
    named_comparison,
    withheld,
)
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
    everywhere = [question for visit in range(len(labels)) for question in _at(visit, asked)]
    for outcome in asked.outcomes:
        if len(labels) > 1:
            rows += [_row("baseline", outcome, question, group) for question in _at(BASELINE, asked)]
        rows += _spread(outcome, group.arms)
        if outcome.name in group.controls:
            questions = asked.about(["difference_adjusted"])
            rows += [_row("control", outcome, question, group) for question in questions]
        if outcome.name == group.primary.outcome and outcome.ses is not None:
            logs = replace(outcome, values=np.log(outcome.ses), unit=f"ln {outcome.unit}")
            rows += [_row("precision", logs, question, group) for question in everywhere]
    for outcome in asked.quality:
        rows += [_row("quality", outcome, question, group) for question in everywhere]
    return CONTROLS.frame(rows)


def _at(visit: int, asked: Asked) -> list[Question]:
    """The unadjusted difference at a visit, of every comparison."""
    return [
        Question("difference_unadjusted", visit, asked.labels[visit], comparison=comparison)
        for comparison in asked.group.arms.every_comparison
    ]


def _spread(outcome: Outcome, arms: Arms) -> list[dict[str, object]]:
    """Likelihood ratio of an SD per arm and visit against one SD, by REML, all arms' means free.

    One row per active arm; the test, and so p, is of all arms together.
    """
    row: dict[str, object] = {
        "check": "spread",
        "outcome": outcome.name,
        "session": "all",
        "unit": "ln SD ratio",
    }
    pairs = [_named(arms, arm) for arm in arms.actives]
    try:
        if outcome.fault:
            raise NotEstimableError(outcome.fault)
        model = mean_model(outcome, False)
        alike, own = (
            frequentist.fit_with(outcome, model, "unstructured", by_arm=by_arm) for by_arm in (False, True)
        )
        if len(own.covariances) == 1:
            raise NotEstimableError(
                "no visit has three people of each arm"
                if len(pairs) == 1
                else "no visit has three of every arm"
            )
    except NotEstimableError as reason:
        return [row | pair | withheld(reason) for pair in pairs]
    sds = np.sqrt(np.diagonal(own.covariances, axis1=1, axis2=2))
    ratios = np.log(sds[1:] / sds[0])
    n_visits = int((ratios[0] != 0).sum())
    df = n_visits * len(ratios)
    height = 2 * (own.moments.log_likelihood - alike.moments.log_likelihood)
    p = float(chdtrc(df, max(height * (1 - LOST / len(outcome.arm)), 0.0)))
    status = "ok, the arms spread differently: see group.spread" if p < LEVEL else "ok"
    rows = []
    for place, (ratio, pair) in enumerate(zip(ratios, pairs, strict=True)):
        mine = slice(-df + place * n_visits, (-df + (place + 1) * n_visits) or None)
        sd = float(own.spread[mine, mine].sum()) ** 0.5 / n_visits
        numbers = {"estimate": float(ratio[ratio != 0].mean()), "sd": sd, "df": df, "p": p}
        rows.append(row | pair | numbers | answered(status))
    return rows


def _named(arms: Arms, arm: str) -> dict[str, object]:
    """Return the cell that names an active arm and the control; no cell where there are two arms."""
    return {COMPARISON.name: arms.compare(arm, arms.control).name} if arms.several else {}


def _row(check: str, outcome: Outcome, question: Question, group: Group) -> dict[str, object]:
    row: dict[str, object] = {
        "check": check,
        "outcome": outcome.name,
        **named_comparison(question),
        "session": question.session,
        "unit": outcome.unit,
    }
    try:
        found, status = frequentist.answer_by_reml(outcome, question, group)
    except NotEstimableError as reason:
        return row | withheld(reason)
    numbers = {"estimate": found.estimate, "sd": found.se, "df": found.df, "p": found.p}
    return row | numbers | answered(status)
