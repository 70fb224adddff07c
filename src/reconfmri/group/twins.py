"""Twins: outcomes that estimate one thing in different ways, their arm differences side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from reconfmri.config import Estimand
from reconfmri.contracts.questions.arms import TWINS
from reconfmri.group import frequentist
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import NotEstimableError, Question, answered, named_comparison, withheld
from reconfmri.group.grid import Outcome

MIN_CORRELATED = 4  # people


def estimate(asked: Asked) -> pd.DataFrame:
    """Return one row per set, outcome and later session; none without sets.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows: list[dict[str, object]] = []
    labels = asked.labels
    estimand: Estimand = "difference_adjusted" if len(labels) > 1 else "difference_unadjusted"
    outcomes = _outcomes(asked)
    for name, members in asked.group.twins.items():
        for question in asked.about([estimand]):
            first = outcomes[members[0]]
            found = [_row(outcomes[member], first, question, asked) for member in members]
            rows += [
                {"twins": name} | row | {"disagrees": _disagree(found[0], row, asked.group.level)}
                for row in found
            ]
    return TWINS.frame(rows)


def _outcomes(asked: Asked) -> dict[str, Outcome]:
    """The outcomes of all sets, by name."""
    names = list(dict.fromkeys(name for members in asked.group.twins.values() for name in members))
    if not names:
        return {}
    return {outcome.name: outcome for outcome in asked.without_priors(asked.measures, names)}


def _row(outcome: Outcome, first: Outcome, question: Question, asked: Asked) -> dict[str, object]:
    values, others = outcome.values[:, question.visit], first.values[:, question.visit]
    both = np.isfinite(values) & np.isfinite(others)
    row: dict[str, object] = {
        "outcome": outcome.name,
        **named_comparison(question),
        "session": question.session,
        "unit": outcome.unit,
        "n": int(both.sum()),
        "correlation": _correlation(values[both], others[both]),
    }
    try:
        found, status = frequentist.answer_by_reml(outcome, question, asked.group)
    except NotEstimableError as reason:
        return row | withheld(reason)
    spread = _spread_within([values[outcome.in_arm(arm)] for arm in reversed(range(len(outcome.arms)))])
    numbers = {"estimate": found.estimate, "sd": found.se, "df": found.df, "p": found.p}
    return row | numbers | {"standardised": found.estimate / spread} | answered(status)


def _correlation(values: np.ndarray, others: np.ndarray) -> float:
    if len(values) < MIN_CORRELATED or not (values.std() > 0 and others.std() > 0):
        return math.nan
    return float(np.corrcoef(values, others)[0, 1])


def _spread_within(arms: Sequence[np.ndarray]) -> float:
    """Pooled SD of the arms."""
    parts = [part[np.isfinite(part)] for part in arms]
    squares = sum(float(((part - part.mean()) ** 2).sum()) for part in parts if len(part))
    df = sum(len(part) - 1 for part in parts if len(part))
    return math.sqrt(squares / df) if df > 0 and squares > 0 else math.nan


def _disagree(first: dict[str, object], row: dict[str, object], level: float) -> bool | None:
    """Whether a conclusion differs from that of the first; None where one has none."""
    if not (first["reported"] and row["reported"]):
        return None
    sides = [_side(given, level) for given in (first, row)]
    return sides[0] != sides[1]


def _side(row: dict[str, object], level: float) -> float:
    """On which side of zero the interval lies; 0 where it holds zero."""
    significant = float(str(row["p"])) < 1 - level
    return math.copysign(1.0, float(str(row["estimate"]))) if significant else 0.0
