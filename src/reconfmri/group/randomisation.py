"""The randomisation test: what the arms' difference would be under other draws of the same allocation.

The model without arms is fitted once by REML; its covariance over visits stays fixed. The statistic of a
question is the studentised one-step estimate of its arm differences by generalised least squares. Arms are
drawn anew across people within strata, with the size of each arm fixed; a person keeps the visits that were
missed, so that the null hypothesis says too that the arm does not affect missingness. All draws of all visits
are matrix products. Rosenbaum, Observational Studies, 2002; max-T: Westfall & Young, 1993.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.config import Group
from reconfmri.contracts.questions.arms import DRAWS
from reconfmri.group.asked import Asked
from reconfmri.group.cautions import flag
from reconfmri.group.covariances import Structure
from reconfmri.group.estimands import (
    Array,
    NotEstimableError,
    Question,
    answered,
    as_table,
    refuse_without_baseline,
    start_of_row,
    with_caution,
    withheld,
)
from reconfmri.group.grid import Outcome, refuse_unanswerable
from reconfmri.group.reml import fit_reml, group_precisions
from reconfmri.group.repeated import covariances_for, mean_model

METHOD = "randomisation"
HALVINGS, FARTHEST = 40, 12.0  # of the search for an interval's end, in standard errors
TIE, SINGULAR = 1e-9, 1e-8
log = logging.getLogger("reconfmri")


@dataclass(frozen=True)
class Null:
    """The model without arms: per person precision (n, v, v), residuals (n, v) and design (n, v, p)."""

    precision: Array
    residuals: Array
    design: Array
    information: Array  # (p, p), of its coefficients: visit means and slopes of covariates


@dataclass(frozen=True)
class Drawn:
    """One-step arm differences (draws, c) of the visits compared and their covariance (draws, c, c).

    A draw that leaves an arm without anybody at a visit is not `usable`; it counts as high as can be.
    """

    differences: Array
    covariance: Array
    usable: NDArray[np.bool_]
    sides: Array
    overlap: Array  # (draws, v, p), sum of side times precision times design


def estimate(asked: Asked) -> pd.DataFrame:
    """Return one row per outcome, estimand and later session; `p_adjusted` is max-T within its family.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    group = asked.group
    if group.permutations == 0:
        return as_table([])
    outcomes, questions = asked.outcomes, asked.questions
    sides = draw_sides(outcomes[0].active, outcomes[0].strata, n_draws=group.permutations, seed=asked.seed)
    family_of = {name: family for family, names in group.families.items() for name in names}
    rows: list[dict[str, object]] = []
    heights: dict[tuple[str, str, str], list[tuple[int, Array]]] = {}
    for outcome in outcomes:
        test = Test(outcome, group, sides)
        for question in questions:
            row, statistics = test.answer(question)
            if statistics is not None and (family := family_of.get(outcome.name)):
                key = (family, question.estimand, question.session)
                heights.setdefault(key, []).append((len(rows), statistics))
            rows.append(row)
    for where, members in heights.items():
        _tell_correlation(where, [(str(rows[place]["outcome"]), drawn) for place, drawn in members])
        highest = np.max([np.abs(statistics) for _, statistics in members], axis=0)
        for place, statistics in members:
            rows[place]["p_adjusted"] = _share(highest, abs(statistics[0]))
    return flag(as_table(rows), outcomes, asked.labels)


def _tell_correlation(key: tuple[str, str, str], members: Sequence[tuple[str, Array]]) -> None:
    """Log how the statistics of every two outcomes of a family go together over the draws."""
    for (one, first), (other, second) in combinations(members, 2):
        finite = np.isfinite(first) & np.isfinite(second)
        together = float(np.corrcoef(first[finite], second[finite])[0, 1])
        log.info("family %s, %s, session %s: %s and %s correlate by %.2f", *key, one, other, together)


def headline_statistics(asked: Asked) -> pd.DataFrame:
    """Return the statistic of the primary question under every draw, the observed one first; none, no rows.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    statistics, group = None, asked.group
    if group.permutations:
        outcome = asked.primary_outcome
        sides = draw_sides(outcome.active, outcome.strata, n_draws=group.permutations, seed=asked.seed)
        _, statistics = Test(outcome, group, sides).answer(asked.primary)
    found = np.empty(0) if statistics is None else statistics
    return DRAWS.frame(list(enumerate(found.tolist())))


def n_allocations(active: NDArray[np.bool_], strata: Sequence[str]) -> int:
    """Return how many allocations have the arms of every stratum as large as they are; no strata, one."""
    labels = np.asarray(strata or [""] * len(active))
    arms = [active[labels == stratum] for stratum in dict.fromkeys(labels)]
    return math.prod(math.comb(len(arm), int(arm.sum())) for arm in arms)


def _refuse_one_allocation(outcome: Outcome) -> None:
    if n_allocations(outcome.active, outcome.strata) == 1:
        raise NotEstimableError(
            "the strata tell the arm, so that no other allocation can be drawn",
            fix="correct the column stratum of the allocation: what randomisation was stratified by",
        )


def lowest_p(active: NDArray[np.bool_], strata: Sequence[str]) -> float:
    """Return the smallest two-sided p value that the allocations allow.

    With arms of one size in every stratum each allocation has a mirror image, whose statistic is as high.
    """
    labels = np.asarray(strata or [""] * len(active))
    arms = [active[labels == stratum] for stratum in dict.fromkeys(labels)]
    mirrored = all(2 * arm.sum() == len(arm) for arm in arms)
    return min(1.0, (2 if mirrored else 1) / n_allocations(active, strata))


def _status(outcome: Outcome, level: float) -> str:
    lowest = lowest_p(outcome.active, outcome.strata)
    if lowest <= 1 - level + TIE:
        return "ok"
    known = n_allocations(outcome.active, outcome.strata)
    return with_caution(
        "ok", f"{known} allocations are possible within the strata: p is at least {lowest:.2g}"
    )


def draw_sides(active: NDArray[np.bool_], strata: Sequence[str], *, n_draws: int, seed: int) -> Array:
    """Return (1 + n_draws, n_people) of +1/2 (active) and -1/2: the allocation as it is, then drawn anew.

    Where no more allocations are possible than draws are asked for, each of them is there once instead.
    """
    if n_allocations(active, strata) <= n_draws:
        return _every_allocation(active, strata)
    random = np.random.default_rng(seed)
    sides = np.tile(np.where(active, 0.5, -0.5), (1 + n_draws, 1))
    for stratum in dict.fromkeys(strata):
        members = np.flatnonzero(np.asarray(strata) == stratum)
        sides[1:, members] = random.permuted(sides[1:, members], axis=1)
    return sides


def _every_allocation(active: NDArray[np.bool_], strata: Sequence[str]) -> Array:
    """Every allocation with the arms of each stratum as large as they are, the one as it is first."""
    labels = np.asarray(strata or [""] * len(active))
    within = []
    for stratum in dict.fromkeys(labels):
        members = np.flatnonzero(labels == stratum)
        within.append(list(combinations(members, int(active[members].sum()))))
    sides = np.full((n_allocations(active, strata), len(active)), -0.5)
    for row, chosen in enumerate(product(*within)):
        sides[row, [person for part in chosen for person in part]] = 0.5
    place = int(np.flatnonzero(((sides > 0) == active).all(axis=1))[0])
    return np.vstack([sides[place], np.delete(sides, place, axis=0)])


class Test:
    """The randomisation test of one outcome; its model without arms is fitted once."""

    def __init__(self, outcome: Outcome, group: Group, sides: Array):
        self.outcome, self.group, self.sides = outcome, group, sides
        self.null: Null | None = None
        self.drawn: dict[bool, Drawn] = {}

    def answer(self, question: Question) -> tuple[dict[str, object], Array | None]:
        """Return the row of a question and its statistic under every draw, the observed one first."""
        outcome = self.outcome
        row = start_of_row(outcome, question, METHOD, self.group)
        try:
            if question.within_an_arm:
                raise NotEstimableError("a change within one arm has nothing to do with the allocation")
            refuse_without_baseline(question)
            refuse_unanswerable(outcome, question.visits)
            _refuse_one_allocation(outcome)
            found = self._numbers(question)
        except NotEstimableError as reason:
            return row | withheld(reason), None
        estimate, lower, upper, statistics = found
        p = _share(np.abs(statistics), abs(statistics[0]))
        numbers = {"estimate": estimate, "lower": lower, "upper": upper, "p": p}
        return row | numbers | answered(_status(outcome, self.group.level)), statistics

    def _numbers(self, question: Question) -> tuple[float, float, float, Array]:
        model = mean_model(self.outcome, question.common_baseline)
        compared = [model.visits.index(visit) for visit in model.compared]
        if self.null is None:
            self.null = _without_arms(self.outcome, self.group)
        if question.common_baseline not in self.drawn:
            self.drawn[question.common_baseline] = _draw(self.null, self.sides, compared)
        drawn = self.drawn[question.common_baseline]
        start = len(model.visits)
        weights = model.weights(question, self.outcome.values.shape[1])[start : start + len(compared)]
        ses = np.sqrt(np.einsum("p,bpq,q->b", weights, drawn.covariance, weights))
        statistics = np.where(drawn.usable, (drawn.differences @ weights) / ses, np.inf)
        ends = _invert(self.null, drawn, compared, weights, ses, level=self.group.level)
        return float(drawn.differences[0] @ weights), *ends, statistics


def _without_arms(outcome: Outcome, group: Group) -> Null:
    """Fit visit means and covariates only.

    Raises
    ------
    NotEstimableError
        No covariance over visits could be fitted.
    """
    visits = mean_model(outcome, False).visits
    values = outcome.values[:, visits]
    seen = ~np.isnan(values)
    someone = seen.any(axis=1)
    design = replace(mean_model(outcome, False), compared=()).design(outcome.active, outcome.adjusted_for)
    fault = NotEstimableError("the model without arms could not be fitted")
    for covariance in covariances_for(outcome, group):
        try:
            fit = fit_reml(values[someone], design[someone], cast(Structure, covariance))
            break
        except NotEstimableError as reason:
            fault = reason
    else:
        raise fault
    precision, _ = group_precisions(seen, fit.covariance)
    residuals = np.where(seen, values - design @ fit.beta, 0.0)
    information = np.einsum("nvp,nvw,nwq->pq", design, precision, design, optimize=True)
    return Null(precision, residuals, design, information)


def _draw(null: Null, sides: Array, compared: list[int]) -> Drawn:
    """Return the one-step arm differences under every draw."""
    n_people, n_visits = null.residuals.shape
    weighted = null.precision @ null.design
    overlap = (sides @ weighted.reshape(n_people, -1)).reshape(-1, n_visits, weighted.shape[2])
    # Sides are +-1/2, so the sum of side^2 times precision does not depend on the draw.
    lost = overlap @ np.linalg.inv(null.information) @ overlap.transpose(0, 2, 1)
    information = 0.25 * null.precision.sum(axis=0) - lost
    information = information[:, compared][:, :, compared]
    spread = np.linalg.eigvalsh(information)
    usable = spread[:, 0] > SINGULAR * spread[:, -1]
    information[~usable] = np.eye(len(compared))
    covariance = np.asarray(np.linalg.inv(information), dtype=np.float64)
    score = sides @ np.einsum("nvw,nw->nv", null.precision, null.residuals)
    differences = np.einsum("bpq,bq->bp", covariance, score[:, compared])
    return Drawn(differences, covariance, usable, sides, overlap)


def _invert(
    null: Null, drawn: Drawn, compared: list[int], weights: Array, ses: Array, *, level: float
) -> tuple[float, float]:
    """Return the interval of the differences that the test at 1 - `level` does not reject.

    Under a difference d, side times d is taken from every person's values; then the arms are without effect.
    Along the way other visits keep their best difference given that of the question.
    """
    n_visits = null.residuals.shape[1]
    along = drawn.covariance[0] @ weights / float(weights @ drawn.covariance[0] @ weights)
    centre = float(drawn.differences[0] @ weights)
    path = np.zeros((2, n_visits))  # what is taken away: a constant part, and one per unit of the estimand
    path[0, compared] = drawn.differences[0] - along * centre
    path[1, compared] = along
    # Visit means and slopes follow what is taken away.
    shift = np.linalg.solve(null.information, drawn.overlap[0].T @ path.T)
    removed = drawn.sides[0][:, None, None] * path - (null.design @ shift).transpose(0, 2, 1)  # (n, 2, v)
    parts = np.einsum("nvw,npw->npv", null.precision, removed)
    base = np.einsum("nvw,nw->nv", null.precision, null.residuals)
    scores = [drawn.sides @ part for part in (base - parts[:, 0], -parts[:, 1])]
    fixed, slope = (
        np.einsum("p,bpq,bq->b", weights, drawn.covariance, score[:, compared]) / ses for score in scores
    )

    def p(difference: float) -> float:
        statistics = np.where(drawn.usable, np.abs(fixed + slope * difference), np.inf)
        return _share(statistics, statistics[0])

    ends = []
    for side in (-1.0, 1.0):
        inside, outside = centre, centre + side * FARTHEST * float(ses[0])
        if p(outside) > 1 - level:
            ends.append(side * np.inf)
            continue
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if p(middle) > 1 - level else (inside, middle)
        ends.append(inside)
    return float(ends[0]), float(ends[1])


def _share(heights: Array, observed: float) -> float:
    """Return the share of draws at least as high as the observed one, which counts itself."""
    return float((heights >= observed * (1 - TIE)).mean())
