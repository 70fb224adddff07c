"""Outcomes modelled together, two by two: contrasts between them, their correlation, whether both move.

Both outcomes of a pair, each in units of its own s around its own centre, stand side by side on one grid, and
the model of `reconfmri.group.bayes` meets it as if it had twice the visits: its covariance then runs over
outcomes and visits, its priors are those of one outcome, and all differences correlate by one half a priori.
Each outcome alone stays the result: the joint model is for what no outcome alone can tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.choices import check_choice
from reconfmri.config import Group
from reconfmri.contracts.questions.bayesian import JOINT
from reconfmri.group import bayes
from reconfmri.group.asked import Asked
from reconfmri.group.cautions import refuse_other_scale
from reconfmri.group.estimands import (
    Array,
    NotEstimableError,
    Question,
    answered,
    refuse_without_baseline,
    withheld,
)
from reconfmri.group.grid import Outcome, refuse_unanswerable
from reconfmri.group.repeated import usable_visits

FEW_WITH_BOTH = 6  # people; fewer leave the correlation of the outcomes to its prior
Row = dict[str, object]


@dataclass(frozen=True)
class Pair:
    """Two outcomes of the same people, the direction expected of each, and both on one grid."""

    outcomes: tuple[Outcome, Outcome]
    directions: tuple[str, str]

    @property
    def stacked(self) -> Outcome:
        """One outcome in units of s: the visits of the first, then those of the second.

        A visit that only one of them can use is left out of both.
        """
        n_visits = self.outcomes[0].values.shape[1]
        usable = [np.isin(np.arange(n_visits), usable_visits(item)) for item in self.outcomes]
        grids = [
            np.where(usable[0] & usable[1], (item.values - bayes.centre_of(item)) / item.scale, np.nan)
            for item in self.outcomes
        ]
        return replace(
            self.outcomes[0],
            name=" + ".join(item.name for item in self.outcomes),
            unit="s",
            scale=1.0,
            values=np.hstack(grids),
            ses=None,
            baselines=(0, n_visits),
        )

    def counts(self, visit: int) -> tuple[int, int]:
        """People with both values at the visit: active arm, control arm."""
        active = self.outcomes[0].active
        seen = self.outcomes[0].seen[:, visit] & self.outcomes[1].seen[:, visit]
        return int((seen & active).sum()), int((seen & ~active).sum())


def estimate(asked: Asked) -> pd.DataFrame:
    """Return what each pair of `group.joint` says of the primary estimand at every later session.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows: list[Row] = []
    group = asked.group
    if group.joint:
        outcomes = {item.name: item for item in asked.outcomes}
        questions = asked.about([group.primary.estimand])
        sampler = bayes.Sampler(asked.seed, asked.cores)
        for name, directions in group.joint.items():
            for one, other in combinations(directions, 2):
                pair = Pair((outcomes[one], outcomes[other]), (directions[one], directions[other]))
                rows += [{"joint": name} | row for row in _rows(pair, questions, group, sampler)]
    return JOINT.frame(rows)


def _rows(pair: Pair, questions: Sequence[Question], group: Group, sampler: bayes.Sampler) -> Iterator[Row]:
    """The pair's answers; the model is fitted when the first question can be answered."""
    fit: bayes.Fit | None = None
    for question in questions:
        rows = _start(pair, question, group.level)
        try:
            _refuse(pair, question, group)
            fit = fit or sampler.fit(pair.stacked, question.common_baseline, group)
            if not fit.passes(group.sampling):
                raise NotEstimableError(fit.shortcoming, fix="more group.sampling.draws")
        except NotEstimableError as reason:
            yield from (row | withheld(reason) for row in rows)
            continue
        known = {"r_hat": fit.r_hat, "ess": fit.ess} | answered(fit.status)
        for row, numbers in zip(rows, _numbers(pair, question, fit, group.level), strict=True):
            yield row | numbers | known


def _refuse(pair: Pair, question: Question, group: Group) -> None:
    refuse_without_baseline(question)
    for outcome in pair.outcomes:
        try:
            refuse_unanswerable(outcome, question)
            refuse_other_scale(outcome, group)
        except NotEstimableError as reason:
            raise NotEstimableError(f"{outcome.name}: {reason}") from reason
    if sum(both := pair.counts(question.visit)) < FEW_WITH_BOTH:
        raise NotEstimableError(
            f"{pair.outcomes[0].in_words(*both)} have both outcomes, six people are needed",
            fix="see exclusions.tsv",
        )


def _start(pair: Pair, question: Question, level: float) -> list[Row]:
    """What the rows of one question say before there are numbers: two differences, and three of both."""
    one, other = pair.outcomes
    turned = ("difference", one, other, one.unit), ("difference", other, one, other.unit)
    shared = ("contrast", one, other, "s"), ("correlation", one, other, ""), ("both", one, other, "")
    rows = []
    for quantity, outcome, beside, unit in (*turned, *shared):
        counts = outcome.counts(question.visit) if quantity == "difference" else pair.counts(question.visit)
        rows.append(
            {
                "outcome": outcome.name,
                "other": beside.name,
                "quantity": quantity,
                "estimand": question.estimand,
                "session": question.session,
                "unit": unit,
                "level": level,
                "n_active": counts[0],
                "n_control": counts[1],
            }
        )
    return rows


def _numbers(pair: Pair, question: Question, fit: bayes.Fit, level: float) -> Iterator[Row]:
    """The numbers of the rows of `_start`, in their order."""
    both = differences(pair, question, fit)
    directions = [
        _sign(draws) if expected == "either" else expected
        for draws, expected in zip(both, pair.directions, strict=True)
    ]
    inside = [_in(draws, name) for draws, name in zip(both, directions, strict=True)]
    declared = [expected != "either" for expected in pair.directions]
    for place, outcome in enumerate(pair.outcomes):
        yield bayes.summarise(outcome.scale * both[place], level) | {
            "direction": directions[place],
            "declared": declared[place],
            "probability": float(inside[place].mean()),
        }
    for draws in (both[0] - both[1], correlation(pair, question, fit)):
        yield bayes.summarise(draws, level) | {"direction": _sign(draws), "declared": False}
    yield {
        "direction": ", ".join(directions),
        "declared": all(declared),
        "probability": float((inside[0] & inside[1]).mean()),
    }


def differences(pair: Pair, question: Question, fit: bayes.Fit) -> list[Array]:
    """Return the draws (n_draws,) of the answer for each outcome, in its s."""
    n_visits = pair.outcomes[0].values.shape[1]
    weights, nothing = question.weights(n_visits), np.zeros((2, n_visits))
    return [bayes.weigh(fit, np.hstack(blocks)) for blocks in ((weights, nothing), (nothing, weights))]


def correlation(pair: Pair, question: Question, fit: bayes.Fit) -> Array:
    """Return the draws (n_draws,) of the correlation of both outcomes at the visit."""
    n_visits = pair.outcomes[0].values.shape[1]
    places = fit.visits.index(question.visit), fit.visits.index(n_visits + question.visit)
    covariance = fit.covariances()[:, places][:, :, places]
    return np.asarray(covariance[:, 0, 1] / np.sqrt(covariance[:, 0, 0] * covariance[:, 1, 1]))


def _sign(draws: Array) -> str:
    return "higher" if (draws > 0).mean() > 0.5 else "lower"


def _in(draws: Array, direction: str) -> NDArray[np.bool_]:
    check_choice("direction", direction, ("higher", "lower"))
    return np.asarray(draws > 0 if direction == "higher" else draws < 0)
