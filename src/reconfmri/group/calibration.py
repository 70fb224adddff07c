"""How well the answer to the primary question does in trials like this one: coverage and type I error.

Trials are simulated from this study's own design (people, arms, strata, covariates), from the means and the
covariance over visits that REML finds in it, and from its dropout: a hazard per arm and visit that depends on
the last value seen. They go through `group.answer`, with every gate and fallback of the report. Half of the
trials have the arms' difference as found, half have none.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.config import Group
from reconfmri.contracts.questions.bayesian import CALIBRATION
from reconfmri.group import answer
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import Array, NotEstimableError, Question, answered, withheld
from reconfmri.group.frequentist import fit_mixed
from reconfmri.group.grid import Outcome, refuse_unanswerable

TRIALS, SECONDS = 200, 300.0
QUICK = (
    "frequentist",
    "randomisation",
)  # engines of milliseconds; the Bayesian one has the time that is left
SHRINK = 1.0  # prior SD of the log odds of dropout, about the overall rate, and per SD of the last value


@dataclass(frozen=True)
class Source:
    """What trials are drawn from: everybody's means (n, v) with and without the difference, and the rest."""

    means: Array
    null_means: Array
    covariance: Array
    visits: tuple[int, ...]
    log_odds: Array  # (n_arms, v), of being lost from a visit on, the control first
    slope: float  # of the log odds per SD of the last value seen
    gaps: Array  # (n_arms, v), share of people who miss a visit and come back


def calibrate(asked: Asked, *, trials: int = TRIALS, seconds: float = SECONDS) -> pd.DataFrame:
    """Return coverage and type I error of each method for the primary question: `CALIBRATION`.

    `trials` of each kind for the quick methods, as many as `seconds` allow for the Bayesian one. The same
    seed gives the same trials.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    group, only = asked.group, asked.with_group(of_primary(asked.group))
    (outcome,), question = only.outcomes, asked.primary
    start: dict[str, object] = {
        "outcome": outcome.name,
        "estimand": question.estimand,
        "session": question.session,
    }
    start |= {"level": group.level}
    try:
        source = fit_source(outcome, question, group)
    except NotEstimableError as reason:
        rows = [start | {"method": "all"} | withheld(reason)]
        return CALIBRATION.frame(rows)
    given = only, outcome, source, _rows_of_covariates(asked.measures, group, asked.labels[0])
    until = time.monotonic() + seconds
    answers = _run(given, QUICK, trials, time.monotonic() + seconds / 2)
    answers += _run(given, ("bayes",), trials, until)
    difference = true_difference(source, outcome, question)
    if not answers:
        none = withheld(f"no trial was analysed in {seconds:g} s. Fix: more --calibrate-minutes")
        return CALIBRATION.frame([start | {"method": "all"} | none])
    return summarise(pd.DataFrame(answers), difference, start)


def of_primary(group: Group) -> Group:
    """Return the group section with the primary question alone."""
    alone = {"outcomes": [group.primary.outcome], "estimands": [group.primary.estimand], "exploratory": []}
    nothing: dict[str, object] = {"families": {}, "controls": [], "joint": {}, "pooled": {}, "moderators": []}
    return group.model_copy(update=alone | nothing)


def fit_source(outcome: Outcome, question: Question, group: Group) -> Source:
    """Return what trials like this one are drawn from.

    Raises
    ------
    NotEstimableError
        REML has no fit of this outcome.
    """
    refuse_unanswerable(outcome, question)
    mixed = fit_mixed(outcome, question.common_baseline, group)
    if mixed.fit is None:
        raise NotEstimableError(mixed.fault)
    beta, visits = mixed.fit.beta, mixed.model.visits
    design = mixed.model.design(outcome.arm, outcome.adjusted_for)
    alike = beta.copy()
    alike[len(visits) : len(visits) + mixed.model.n_differences] = 0.0
    log_odds, slope, gaps = fit_dropout(outcome)
    return Source(design @ beta, design @ alike, mixed.fit.covariance, visits, log_odds, slope, gaps)


def fit_dropout(outcome: Outcome) -> tuple[Array, float, Array]:
    """Return log odds (n_arms, v) of being lost from a visit on, their slope on the last value, and gaps.

    A penalised logistic regression over all visits after the first: a person at risk was seen at some visit
    before. The penalty is a normal prior of SD `SHRINK` about the overall rate, as losses are few.
    """
    seen, n_visits, n_arms = outcome.seen, outcome.values.shape[1], len(outcome.arms)
    lost_from = np.where(seen.any(axis=1), n_visits - np.argmax(seen[:, ::-1], axis=1), 0)
    rows, lost = [], []
    for visit in range(1, n_visits):
        scores = last_scores(outcome.values, visit)
        for person in np.flatnonzero((lost_from >= visit) & seen[:, :visit].any(axis=1)):
            columns = np.zeros(n_arms * n_visits + 1)
            columns[int(outcome.arm[person]) * n_visits + visit] = 1.0
            columns[-1] = scores[person]
            rows.append(columns)
            lost.append(float(lost_from[person] == visit))
    x, y = np.array(rows), np.array(lost)
    rate = float(np.clip((y.sum() + 0.5) / (len(y) + 1), 1e-3, 1 - 1e-3))
    centre = np.append(np.full(n_arms * n_visits, np.log(rate / (1 - rate))), 0.0)
    b = centre.copy()
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ b)))
        gradient = x.T @ (y - p) - (b - centre) / SHRINK**2
        b = b + np.linalg.solve((x.T * (p * (1 - p))) @ x + np.eye(len(b)) / SHRINK**2, gradient)
    away = ~seen & (np.arange(n_visits) < lost_from[:, None])
    gaps = np.stack([away[outcome.in_arm(arm)].mean(axis=0) for arm in range(n_arms)])
    return b[:-1].reshape(n_arms, n_visits), float(b[-1]), gaps


def last_scores(values: Array, visit: int) -> Array:
    """Return the last value (n_people,) seen before a visit, in SDs around the mean of its own visit."""
    standard = (values - np.nanmean(values, axis=0)) / np.maximum(np.nanstd(values, axis=0), 1e-12)
    scores = np.zeros(len(values))
    for earlier in range(visit):
        known = ~np.isnan(standard[:, earlier])
        scores[known] = standard[known, earlier]
    return scores


def draw_trial(source: Source, outcome: Outcome, random: np.random.Generator, *, null: bool) -> Array:
    """Return the values (n_people, n_visits) of one simulated trial, NaN where a visit is missed."""
    n_people, n_visits = outcome.values.shape
    means = source.null_means if null else source.means
    root = np.linalg.cholesky(source.covariance)
    values = np.full((n_people, n_visits), np.nan)
    values[:, list(source.visits)] = means + random.normal(size=means.shape) @ root.T
    arm, complete = np.asarray(outcome.arm, dtype=np.intp), values.copy()
    gone: NDArray[np.bool_] = np.zeros(n_people, dtype=bool)
    for visit in range(n_visits):
        if visit:
            scores = last_scores(np.where(np.isnan(complete), np.nan, complete), visit)
            odds = source.log_odds[arm, visit] + source.slope * scores
            gone |= random.random(n_people) < 1 / (1 + np.exp(-odds))
        gap = random.random(n_people) < source.gaps[arm, visit]
        values[gone | gap, visit] = np.nan
    return values


def true_difference(source: Source, outcome: Outcome, question: Question) -> float:
    """Return the arms' difference in the trials with one, for a person with average covariates."""
    n_visits = outcome.values.shape[1]
    by_arm = np.zeros((len(outcome.arms), n_visits))
    away = source.means - source.null_means  # of each arm from the mean of all, without covariates
    for arm in range(len(outcome.arms)):
        by_arm[arm, list(source.visits)] = away[outcome.in_arm(arm)][0]
    return float((question.weights(n_visits) * by_arm).sum())


Given = tuple[Asked, Outcome, Source, pd.DataFrame]


def _run(given: Given, engines: Sequence[str], trials: int, until: float) -> list[dict[Hashable, Any]]:
    """The answers of some engines in trials of both kinds by turns, until there are enough or time is up."""
    asked, outcome, source, kept = given
    rows: list[dict[Hashable, Any]] = []
    for trial in range(2 * trials):
        if time.monotonic() > until:
            break
        null = trial % 2 == 1
        random = np.random.default_rng([asked.seed, trial])
        table = pd.concat(
            [as_measures(draw_trial(source, outcome, random, null=null), outcome, asked.labels), kept]
        )
        simulated = replace(asked, measures=table, seed=asked.seed + trial)
        found, _ = answer(simulated, engines=engines)
        at = found[found["session"] == asked.primary.session]
        if asked.group.arms.several:
            at = at[at["comparison"] == asked.primary.comparison.name]
        rows += at.assign(null=null).to_dict("records")
    return rows


def as_measures(values: Array, outcome: Outcome, labels: Sequence[str]) -> pd.DataFrame:
    """Return values (n_people, n_visits) as a table of measures."""
    people = np.repeat(outcome.people, len(labels))
    return pd.DataFrame(
        {
            "participant_id": people,
            "session_id": [*labels] * len(outcome.people),
            "domain": outcome.domain,
            "outcome": outcome.name,
            "value": values.ravel(),
            "unit": outcome.unit,
        }
    )


def _rows_of_covariates(measures: pd.DataFrame, group: Group, baseline: str) -> pd.DataFrame:
    """The measures at baseline that are covariates: they are part of the design."""
    names = [item.measure for item in group.covariates.values() if item.measure]
    return measures[measures["outcome"].isin(names) & (measures["session_id"] == baseline)]


def summarise(answers: pd.DataFrame, difference: float, start: dict[str, object]) -> pd.DataFrame:
    """Return a row per method from the answers of all trials."""
    rows = []
    for method, mine in answers.groupby("method", sort=False):
        with_effect, null = mine[~mine["null"].astype(bool)], mine[mine["null"].astype(bool)]
        holds = (with_effect["lower"] <= difference) & (difference <= with_effect["upper"])
        excludes = (null["lower"] > 0) | (null["upper"] < 0)
        if method == "randomisation":
            excludes = null["p"] < 1 - float(str(start["level"]))
        rows.append(
            start
            | {"method": method, "difference": difference}
            | answered()
            | _share("coverage", "n_trials", holds)
            | _share("type_1_error", "n_null_trials", excludes)
            | {
                "bias": float((with_effect["estimate"] - difference).mean()),
                "n_withheld": int((~mine["reported"]).sum()),
                "n_labelled": int((mine["reported"] & (mine["status"] != "ok")).sum()),
            }
        )
    return CALIBRATION.frame(rows)


def _share(name: str, count: str, found: pd.Series) -> dict[str, object]:
    n = len(found)
    share = float(found.mean()) if n else np.nan
    return {count: n, name: share, f"{name}_error": float(np.sqrt(share * (1 - share) / n)) if n else np.nan}
