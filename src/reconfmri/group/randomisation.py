"""The randomisation test: what the arms' difference would be under other draws of the same allocation.

The model without arms is fitted once by REML; its covariance over visits stays fixed. The statistic of a
question is the studentised one-step estimate of its arm differences by generalised least squares. Arms are
drawn anew across people within strata, with the size of each arm fixed; a person keeps the visits that were
missed, so that the null hypothesis says too that the arm does not affect missingness. All draws of all visits
are matrix products. Rosenbaum, Observational Studies, 2002; max-T: Westfall & Young, 1993.
Of several arms, those that a question compares are drawn anew among their own people, in a model in which the
other arms keep their differences. p values within a family are corrected over outcomes by the highest
statistic and over comparisons by closed testing (Marcus, Peritz & Gabriel, Biometrika 1976;63:655): the
largest p of the null hypotheses of all sets of comparisons that a comparison is in.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.config import Group
from reconfmri.contracts.questions.arms import DRAWS
from reconfmri.group.allocations import (
    BOTH,
    Blocks,
    draw_arms,
    every_null,
    joined,
    lowest_p_of,
    n_possible,
    sides_of,
)
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
from reconfmri.group.repeated import covariances_for, mean_model, usable_visits

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

    A draw that leaves an arm without anybody at a visit is not `usable`; it counts as high as can be. `sides`
    (q, draws, n) code the arms; a visit of each of them is a difference, `overlap` (draws, q v, p) sums side
    times precision times design.
    """

    differences: Array
    covariance: Array
    usable: NDArray[np.bool_]
    sides: Array
    overlap: Array


Member = tuple[int, str, Question]  # of a family: row of the table, outcome, question


def estimate(asked: Asked) -> pd.DataFrame:
    """Return one row per outcome, estimand, comparison and later session.

    `p_adjusted` is corrected within its family.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    group = asked.group
    if group.permutations == 0:
        return as_table([])
    outcomes, questions = asked.outcomes, asked.questions
    nulls = every_null(group.arms.every_comparison)
    draws = {blocks: _sides(outcomes[0], blocks, group.permutations, asked.seed) for blocks in nulls}
    family_of = {name: family for family, names in group.families.items() for name in names}
    rows: list[dict[str, object]] = []
    members: dict[tuple[str, str, str], list[Member]] = {}
    heights: dict[tuple[Blocks, int], Array] = {}
    for outcome in outcomes:
        tests = {blocks: Test(outcome, group, sides, blocks) for blocks, sides in draws.items()}
        for question in questions:
            own = BOTH if question.within_an_arm else joined([question.comparison])
            row, statistics = tests.get(own, tests[next(iter(tests))]).answer(question)
            if statistics is not None and (family := family_of.get(outcome.name)):
                key = (family, question.estimand, question.session)
                members.setdefault(key, []).append((len(rows), outcome.name, question))
                for blocks, about in nulls.items():
                    if question.comparison in about:
                        drawn = statistics if blocks == own else tests[blocks].statistics(question)
                        if drawn is not None:
                            heights[blocks, len(rows)] = drawn
            rows.append(row)
    for where, these in members.items():
        for place, p in _closed(where, these, heights, list(nulls)).items():
            rows[place]["p_adjusted"] = p
    return flag(as_table(rows), outcomes, asked.labels)


def _sides(outcome: Outcome, blocks: Blocks, n_draws: int, seed: int) -> Array:
    """Return what `allocations.sides_of` returns of the allocation and of other draws."""
    if len(outcome.arms) == 2:
        return draw_sides(outcome.active, outcome.strata, n_draws=n_draws, seed=seed)[None]
    arm = np.asarray(outcome.arm, dtype=np.intp)
    return sides_of(draw_arms(arm, outcome.strata, blocks, n_draws=n_draws, seed=seed), blocks)


def _closed(
    where: tuple[str, str, str],
    members: Sequence[Member],
    heights: Mapping[tuple[Blocks, int], Array],
    nulls: Sequence[Blocks],
) -> dict[int, float]:
    """Return row -> p corrected over the outcomes and comparisons of a family at one session.

    The statistic of an outcome under a null hypothesis is its highest over the comparisons that this is
    about; it is judged by the highest of all outcomes under the draws.
    """
    found: dict[int, float] = {}
    for blocks in nulls:
        drawn = [
            (place, name, heights[blocks, place]) for place, name, _ in members if (blocks, place) in heights
        ]
        if not drawn:
            continue
        if blocks == nulls[0]:
            _tell_correlation(where, [(name, statistics) for _, name, statistics in drawn])
        highest = np.max([np.abs(statistics) for _, _, statistics in drawn], axis=0)
        for outcome in dict.fromkeys(name for _, name, _ in drawn):
            own = [(place, abs(statistics[0])) for place, name, statistics in drawn if name == outcome]
            p = _share(highest, max(height for _, height in own))
            found |= {place: max(p, found.get(place, 0.0)) for place, _ in own}
    return found


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
        blocks = joined([asked.primary.comparison])
        sides = _sides(outcome, blocks, group.permutations, asked.seed)
        _, statistics = Test(outcome, group, sides, blocks).answer(asked.primary)
    found = np.empty(0) if statistics is None else statistics
    return DRAWS.frame(list(enumerate(found.tolist())))


def n_allocations(active: NDArray[np.bool_], strata: Sequence[str]) -> int:
    """Return how many allocations have the arms of every stratum as large as they are; no strata, one."""
    labels = np.asarray(strata or [""] * len(active))
    arms = [active[labels == stratum] for stratum in dict.fromkeys(labels)]
    return math.prod(math.comb(len(arm), int(arm.sum())) for arm in arms)


def _refuse_one_allocation(outcome: Outcome, blocks: Blocks) -> None:
    if n_possible(outcome.arm, outcome.strata, blocks) == 1:
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


def _status(outcome: Outcome, level: float, blocks: Blocks) -> str:
    lowest = lowest_p_of(outcome.arm, outcome.strata, blocks)
    if lowest <= 1 - level + TIE:
        return "ok"
    known = n_possible(outcome.arm, outcome.strata, blocks)
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
    """The randomisation test of one outcome under one null hypothesis, whose model is fitted once.

    `sides` (q, draws, n) are of `allocations.sides_of`; of two arms also (draws, n).
    """

    def __init__(self, outcome: Outcome, group: Group, sides: Array, blocks: Blocks = BOTH):
        self.outcome, self.group, self.blocks = outcome, group, blocks
        self.sides = sides if sides.ndim == 3 else sides[None]
        self.nulls: dict[bool, Null] = {}
        self.drawn: dict[bool, Drawn] = {}

    @property
    def null(self) -> Null | None:
        """The model in which all arms are alike; None before a question of theirs was answered."""
        return self.nulls.get(False)

    def answer(self, question: Question) -> tuple[dict[str, object], Array | None]:
        """Return the row of a question and its statistic under every draw, the observed one first."""
        outcome = self.outcome
        row = start_of_row(outcome, question, METHOD, self.group)
        try:
            if question.within_an_arm:
                raise NotEstimableError("a change within one arm has nothing to do with the allocation")
            refuse_without_baseline(question)
            refuse_unanswerable(outcome, question)
            _refuse_one_allocation(outcome, self.blocks)
            null, drawn, compared, weights = self._one_step(question)
        except NotEstimableError as reason:
            return row | withheld(reason), None
        ses, statistics = _studentised(drawn, weights)
        lower, upper = _invert(null, drawn, compared, weights, ses, level=self.group.level)
        estimate = float(drawn.differences[0] @ weights)
        p = _share(np.abs(statistics), abs(statistics[0]))
        numbers = {"estimate": estimate, "lower": lower, "upper": upper, "p": p}
        status = _status(outcome, self.group.level, self.blocks)
        return row | numbers | answered(status), statistics

    def statistics(self, question: Question) -> Array | None:
        """Return the statistic of a question under every draw; None where there is none."""
        try:
            _, drawn, _, weights = self._one_step(question)
        except NotEstimableError:
            return None
        return _studentised(drawn, weights)[1]

    def _one_step(self, question: Question) -> tuple[Null, Drawn, list[int], Array]:
        """The model without the arms, the differences under every draw, their places, and their weights."""
        alike, visits = question.common_baseline, mean_model(self.outcome, False).visits
        places = self._compared(alike, visits)
        compared = [number * len(visits) + visits.index(visit) for number, _, visit in places]
        own = alike and not self._of_all  # with other arms the model without these has differences too
        if own not in self.nulls:
            self.nulls[own] = _null(self.outcome, self.group, self.blocks, alike)
        null = self.nulls[own]
        if alike not in self.drawn:
            self.drawn[alike] = _draw(null, self.sides, compared)
        drawn = self.drawn[alike]
        by_arm = question.weights(self.outcome.values.shape[1])
        return null, drawn, compared, np.array([by_arm[arm, visit] for _, arm, visit in places])

    @property
    def _of_all(self) -> bool:
        """Whether the null hypothesis takes all arms to be alike."""
        return sum(map(len, self.blocks)) == len(self.outcome.arms) and len(self.blocks) == 1

    def _compared(self, common_baseline: bool, visits: Sequence[int]) -> list[tuple[int, int, int]]:
        """Return column of `sides`, arm and visit of every difference that the data can tell."""
        found, column = [], 0
        for block in self.blocks:
            for order, arm in enumerate(block[1:], start=1):
                for visit in visits:
                    people = self.outcome.per_arm(visit)
                    before = any(people[other] for other in block[:order])
                    if people[arm] and before and not (common_baseline and visit in self.outcome.baselines):
                        found.append((column, arm, visit))
                column += 1
        return found


def _studentised(drawn: Drawn, weights: Array) -> tuple[Array, Array]:
    """Return the standard error and the statistic of weighted differences under every draw, (draws,) each."""
    ses = np.sqrt(np.einsum("p,bpq,q->b", weights, drawn.covariance, weights))
    return ses, np.where(drawn.usable, (drawn.differences @ weights) / ses, np.inf)


def _null(outcome: Outcome, group: Group, blocks: Blocks, common_baseline: bool) -> Null:
    """Fit visit means, covariates, and the differences of arms that the null hypothesis leaves.

    Raises
    ------
    NotEstimableError
        No covariance over visits could be fitted.
    """
    merged = _merged(outcome, blocks)
    model = mean_model(outcome, False).without_arms()
    if len(merged.arms) > 1:
        model = mean_model(merged, common_baseline)
    values = outcome.values[:, model.visits]
    seen = ~np.isnan(values)
    someone = seen.any(axis=1)
    design = model.design(merged.arm if len(merged.arms) > 1 else outcome.arm, outcome.adjusted_for)
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


def _merged(outcome: Outcome, blocks: Blocks) -> Outcome:
    """Return the outcome with every block of arms as one arm, at the same visits."""
    first = {arm: min(block) for block in blocks for arm in block}
    kept = sorted({first.get(arm, arm) for arm in range(len(outcome.arms))})
    place = np.array([kept.index(first.get(arm, arm)) for arm in range(len(outcome.arms))], dtype=np.intp)
    arms = tuple(outcome.arms[arm] for arm in kept)
    return replace(
        outcome, arm=place[np.asarray(outcome.arm, dtype=np.intp)], arms=arms, decided=usable_visits(outcome)
    )


def _draw(null: Null, sides: Array, compared: list[int]) -> Drawn:
    """Return the one-step arm differences under every draw."""
    n_people, n_visits = null.residuals.shape
    weighted = null.precision @ null.design
    overlap = _by_column(sides, weighted.reshape(n_people, -1)).reshape(
        sides.shape[1], len(sides) * n_visits, weighted.shape[2]
    )
    lost = overlap @ np.linalg.inv(null.information) @ overlap.transpose(0, 2, 1)
    information = _squares(sides, null.precision) - lost
    information = information[:, compared][:, :, compared]
    spread = np.linalg.eigvalsh(information)
    usable = spread[:, 0] > SINGULAR * spread[:, -1]
    information[~usable] = np.eye(len(compared))
    covariance = np.asarray(np.linalg.inv(information), dtype=np.float64)
    score = _by_column(sides, np.einsum("nvw,nw->nv", null.precision, null.residuals))
    differences = np.einsum("bpq,bq->bp", covariance, score[:, compared])
    return Drawn(differences, covariance, usable, sides, overlap)


def _by_column(sides: Array, people: Array) -> Array:
    """Return (draws, q m): sums of what people have, (n, m), weighted by each column of `sides`."""
    return np.concatenate([side @ people for side in sides], axis=1)


def _squares(sides: Array, precision: Array) -> Array:
    """Return (draws or 1, q v, q v): precisions summed, weighted by products of two columns of `sides`."""
    n_people, n_visits = precision.shape[:2]
    if len(sides) == 1:
        # Sides are +-1/2, so the sum of side^2 times precision does not depend on the draw.
        return np.asarray(0.25 * precision[sides[0, 0] != 0].sum(axis=0))[None]
    flat = precision.reshape(n_people, -1)
    size = len(sides) * n_visits
    blocks = [[((one * other) @ flat).reshape(-1, n_visits, n_visits) for other in sides] for one in sides]
    return np.concatenate([np.concatenate(row, axis=2) for row in blocks], axis=1).reshape(-1, size, size)


def _invert(
    null: Null, drawn: Drawn, compared: list[int], weights: Array, ses: Array, *, level: float
) -> tuple[float, float]:
    """Return the interval of the differences that the test at 1 - `level` does not reject.

    Under a difference d, side times d is taken from every person's values; then the arms are without effect.
    Along the way other visits keep their best difference given that of the question.
    """
    n_visits, n_columns = null.residuals.shape[1], len(drawn.sides)
    along = drawn.covariance[0] @ weights / float(weights @ drawn.covariance[0] @ weights)
    centre = float(drawn.differences[0] @ weights)
    path = np.zeros(
        (2, n_columns * n_visits)
    )  # what is taken away: a constant part, and one per unit of the estimand
    path[0, compared] = drawn.differences[0] - along * centre
    path[1, compared] = along
    # Visit means and slopes follow what is taken away.
    shift = np.linalg.solve(null.information, drawn.overlap[0].T @ path.T)
    of_arms = path.reshape(2, n_columns, n_visits).transpose(1, 0, 2)
    taken = sum(side[:, None, None] * part for side, part in zip(drawn.sides[:, 0], of_arms, strict=True))
    removed = taken - (null.design @ shift).transpose(0, 2, 1)  # (n, 2, v)
    parts = np.einsum("nvw,npw->npv", null.precision, removed)
    base = np.einsum("nvw,nw->nv", null.precision, null.residuals)
    scores = [_by_column(drawn.sides, part) for part in (base - parts[:, 0], -parts[:, 1])]
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
