"""What a reader must know beside a number: data unlike what was assumed, engines that disagree.

A caution is part of the status of the rows that it concerns; no value is left out or changed for it. What no
number should rest on is refused: priors of another scale than the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reconfmri.config import Group
from reconfmri.contracts.questions.columns import COMPARISON
from reconfmri.group.estimands import AVERAGE, Array, NotEstimableError, with_caution
from reconfmri.group.grid import Outcome, share_explained
from reconfmri.labels import first_of

WIDE, FAR_TOO_WIDE, NARROW = 3.0, 10.0, 0.1  # SD between people over s
WILD = 15.0  # robust SDs from the median of the arm; of exponential values 1 in 100,000 is as far
ALIKE = 0.9999  # correlation of two visits within the arms: no measurement is repeated as exactly
FEWEST = 8  # people at a visit, below which its spread says too little
EXPLAINED = 0.9  # share of the arm's variance that covariates explain: standard errors are 3 times as long
MARGIN = 0.25  # standard errors of REML by which the engines may differ, on top of Monte Carlo error
LENGTHS = 1.5  # ratio of the lengths of the engines' intervals
LEAST_SQUARES = ("ancova", "ancova_hc2", "welch", "paired_t")  # they use the visits of the question only
WITHOUT_COVARIATES = ("welch", "paired_t")


class Caution(NamedTuple):
    """One line about an outcome; `visit`: where it concerns one visit, `only` and `never`: methods."""

    text: str
    visit: int | None = None
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


def flag(rows: pd.DataFrame, outcomes: Iterable[Outcome], sessions: Sequence[str]) -> pd.DataFrame:
    """Return rows of estimates with the cautions of their outcomes in the status of those with a number."""
    table = rows.copy()
    for outcome in outcomes:
        for caution in cautions_of(outcome, sessions):
            here = (table["outcome"] == outcome.name) & table["reported"]
            if caution.only:
                here &= table["method"].isin(caution.only)
            here &= ~table["method"].isin(caution.never)
            if caution.visit is not None:
                there = table["session"].isin([sessions[caution.visit], AVERAGE])
                if caution.visit == 0:
                    there = table["estimand"] != "difference_unadjusted"
                here &= there | ~table["method"].isin(LEAST_SQUARES)
            table.loc[here, "status"] = [
                with_caution(status, caution.text) for status in table["status"][here]
            ]
    return table


def cautions_of(outcome: Outcome, sessions: Sequence[str]) -> list[Caution]:
    """Return how the data are unlike the assumptions: scale, values far off, covariates."""
    if outcome.fault:
        return []
    found = []
    times = spread_over_scale(outcome)
    if times > WIDE or times < NARROW:
        text = (
            f"the SD between people is {times:.2g} times s = {outcome.scale:g} {outcome.unit} of the priors, "
            "check the unit of the values and group.scales"
        )
        found.append(Caution(text, only=("bayes",)))
    for visit, label in enumerate(sessions):
        far = [
            f"{outcome.people[person]} ({distance:.3g} robust SDs)"
            for person, there, distance in values_far_off(outcome)
            if there == visit
        ]
        if far:
            text = f"far from the median of the arm at session {label}, check the value: {first_of(far)}"
            found.append(Caution(text, visit=visit))
    found += [Caution(text) for text in copied_visits(outcome, sessions)]
    found += [Caution(text, never=WITHOUT_COVARIATES) for text in wild_covariates(outcome)]
    share = share_explained(outcome.arm, outcome.adjusted_for)
    if share > EXPLAINED:
        text = (
            f"the covariates tell {100 * share:.0f} % of the arm: the standard error is "
            f"{(1 - share) ** -0.5:.2g} times what it would be without them"
        )
        found.append(Caution(text, never=WITHOUT_COVARIATES))
    return found


def copied_visits(outcome: Outcome, sessions: Sequence[str]) -> list[str]:
    """Return a line on pairs of visits whose values go together as no two measurements do: copies."""
    found, away = [], _away_from_arm(outcome)
    for person, visit, _ in values_far_off(outcome):
        away[visit][person] = np.nan
    for first, second in combinations(range(len(sessions)), 2):
        both = ~np.isnan(away[first]) & ~np.isnan(away[second])
        one, other = away[first][both], away[second][both]
        if both.sum() < FEWEST or not (np.ptp(one) > 0 and np.ptp(other) > 0):
            continue
        if np.corrcoef(one, other)[0, 1] > ALIKE:
            found.append(f"{sessions[first]} and {sessions[second]}")
    text = "go together as no two measurements do, check whether they are copies or were filled in"
    return [f"the values at sessions {first_of(found)} {text}"] if found else []


def wild_covariates(outcome: Outcome) -> list[str]:
    """Return a line per covariate that is a number and has values far from its median."""
    found = []
    for column in outcome.columns:
        away = column.values - np.median(column.values)
        if column.is_category or len(set(column.values)) < 3 or not (spread := _spread(away)) > 0:
            continue
        far = [
            f"{outcome.people[person]} ({abs(away[person]) / spread:.3g} robust SDs)"
            for person in np.flatnonzero(np.abs(away) > WILD * spread)
        ]
        if far:
            found.append(
                f"the covariate {column.covariate} is far from its median, check it: {first_of(far)}"
            )
    return found


def refuse_other_scale(outcome: Outcome, group: Group) -> None:
    """Check that the priors are of the scale of the values.

    Raises
    ------
    NotEstimableError
        People differ so much more than s says that the priors would decide the estimate.
    """
    times = spread_over_scale(outcome)
    if times > FAR_TOO_WIDE and not group.priors.flat:
        raise NotEstimableError(
            f"the SD between people is {times:.3g} times s = {outcome.scale:g} {outcome.unit}: the priors "
            "would decide the estimate",
            fix="check the unit of the values, or declare their SD in group.scales",
        )


def spread_over_scale(outcome: Outcome) -> float:
    """Return the robust SD between people within the arms, at the visit where it is widest, over s.

    NaN where no visit has enough people to tell.
    """
    widest = [spread for spread in map(_spread, _away_from_arm(outcome)) if spread == spread]
    return max(widest, default=np.nan) / outcome.scale


def values_far_off(outcome: Outcome) -> list[tuple[int, int, float]]:
    """Return person, visit and robust SDs from the arm's median of every value that is far off."""
    found = []
    for visit, away in enumerate(_away_from_arm(outcome)):
        spread = _spread(away)
        if not spread > 0:
            continue
        far = np.flatnonzero(np.abs(away) > WILD * spread)
        found += [(int(person), visit, float(abs(away[person]) / spread)) for person in far]
    return found


def _away_from_arm(outcome: Outcome) -> list[Array]:
    """Per visit, every value minus the median of its arm there, (n_people,); NaN where there is none."""
    columns = []
    for visit in range(outcome.values.shape[1]):
        column = outcome.values[:, visit].copy()
        for arm in range(len(outcome.arms)):
            seen = outcome.in_arm(arm) & outcome.seen[:, visit]
            if seen.any():
                column[seen] -= np.median(column[seen])
        columns.append(column)
    return columns


def _spread(away: Array) -> float:
    """SD by the quantiles of the distances from the median that hold half and 90 % of the people.

    The second is for skewed values and scales with a floor, on which half of the people are.
    """
    known = np.abs(away[~np.isnan(away)])
    if known.size < FEWEST:
        return float("nan")
    half, most = np.quantile(known, [0.5, 0.9], method="lower")
    return float(max(1.4826 * half, most / 1.6449) or np.sqrt(np.mean(np.sort(known)[:-1] ** 2)))


def compare_engines(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return the estimates of all engines with a caution where the Bayesian answer and REML disagree.

    By more than `MARGIN` standard errors beyond twice the Monte Carlo error, or by intervals of which one is
    `LENGTHS` times as long as the other.
    """
    table = estimates.copy()
    keys = ["outcome", "estimand", "session", *([COMPARISON.name] if COMPARISON.name in table else [])]
    known = table[table["reported"].astype(bool) & table["method"].isin(["bayes", "reml"])]
    for _, pair in known.groupby(keys, sort=False):
        by = {str(row["method"]): row for row in pair.to_dict("records")}
        if len(by) < 2 or not (text := _disagreement(by["bayes"], by["reml"])):
            continue
        for place in pair.index:
            table.loc[place, "status"] = with_caution(str(table.loc[place, "status"]), text)
    return table


def _disagreement(bayes: Mapping[Any, Any], reml: Mapping[Any, Any]) -> str:
    gap = abs(bayes["estimate"] - reml["estimate"])
    by_chance = 2 * bayes["sd"] / max(bayes["ess"], 1.0) ** 0.5
    lengths = (bayes["upper"] - bayes["lower"]) / (reml["upper"] - reml["lower"])
    if gap > MARGIN * reml["sd"] + by_chance:
        times = gap / reml["sd"]
        return (
            f"the Bayesian estimate and REML differ by {times:.2g} standard errors: priors or models decide"
        )
    if not 1 / LENGTHS <= lengths <= LENGTHS:
        return (
            f"the Bayesian interval is {lengths:.2g} times as long as that of REML: priors or models decide"
        )
    return ""
