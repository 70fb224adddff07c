"""The primary question under other choices: priors, covariances over visits, without each person in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reconfmri.config import Group
from reconfmri.contracts.questions.bayesian import SENSITIVITY
from reconfmri.group import bayes, frequentist, influence
from reconfmri.group.asked import Asked
from reconfmri.group.covariances import status_of
from reconfmri.group.estimands import NotEstimableError, Question, answered, withheld
from reconfmri.group.grid import Outcome
from reconfmri.group.repeated import covariances_for

PRIOR_FACTORS = {"prior SD of differences x 1/2": 0.5, "prior SD of differences x 2": 2.0}
COVARIANCES = ("unstructured", "toeplitz", "random_intercept")
Row = dict[str, object]


def estimate(asked: Asked) -> pd.DataFrame:
    """Return the answer to the primary question under every other choice, in the outcome's unit.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    group, outcome, question = asked.group, asked.primary_outcome, asked.primary
    sampler = bayes.Sampler(asked.seed, asked.cores)
    fits = {alike: fit for alike, fit in asked.primary_fits.items() if alike == question.common_baseline}
    rows = [
        *_by_prior(outcome, question, group, sampler, fits),
        *_by_covariance(outcome, question, group),
        *_with_known_errors(outcome, question, group, sampler),
        *_by_person(outcome, question, group, sampler, fits),
    ]
    start = {"unit": outcome.unit, "level": group.level}
    return SENSITIVITY.frame([start | row for row in rows])


def _by_prior(
    outcome: Outcome, question: Question, group: Group, sampler: bayes.Sampler, fits: dict[bool, bayes.Fit]
) -> Iterator[Row]:
    """The Bayesian answer as declared, with other priors, and with plain residuals where they are not.

    `fits` keeps the declared fit.
    """
    priors = group.priors
    choices: dict[str, Any] = {"declared": priors}
    choices |= {
        name: priors.model_copy(update={"effect": priors.effect * factor, "flat": False})
        for name, factor in PRIOR_FACTORS.items()
    }
    choices["flat priors on differences and means"] = priors.model_copy(update={"flat": True})
    for name, chosen in choices.items():
        kind = "declared" if name == "declared" else "prior"
        changed = group.model_copy(update={"priors": chosen})
        row: Row = {"analysis": name, "kind": kind, "method": "bayes"}
        kept = fits if kind == "declared" else None
        yield row | bayes.answer_question(outcome, question, changed, sampler, kept)
    plain = {"likelihood": "gaussian", "spread": "common"}
    if (group.likelihood, group.spread) != tuple(plain.values()):
        row = {
            "analysis": "Gaussian residuals, SD alike in both arms"
            if len(outcome.arms) == 2
            else "Gaussian residuals, SD alike in all arms",
            "kind": "residuals",
            "method": "bayes",
        }
        changed = group.model_copy(update=plain)
        yield row | bayes.answer_question(outcome, question, changed, sampler)


def _by_covariance(outcome: Outcome, question: Question, group: Group) -> Iterator[Row]:
    """REML as declared, and under every covariance over visits."""
    yield {"analysis": "declared", "kind": "declared", "method": "reml"} | _reml(outcome, question, group)
    used = covariances_for(outcome, group)[0]
    for name in COVARIANCES:
        if name != used:
            row: Row = {"analysis": name.replace("_", " "), "kind": "covariance", "method": "reml"}
            yield row | _under(outcome, question, name, group.level)
    other = "common" if group.spread == "by_arm" else "by_arm"
    row = {"analysis": f"SD {other.replace('_', ' ')}", "kind": "covariance", "method": "reml"}
    yield row | _reml(outcome, question, group.model_copy(update={"spread": other}))


def _with_known_errors(
    outcome: Outcome, question: Question, group: Group, sampler: bayes.Sampler
) -> Iterator[Row]:
    """The standard errors that the values bring, added to the covariance over visits."""
    row: Row = {"analysis": "first-level errors added", "kind": "errors"}
    if outcome.ses is None:
        reason = withheld("not every value has a standard error")
        yield from (row | {"method": method} | reason for method in ("bayes", "reml"))
    else:
        by_bayes = bayes.answer_question(outcome, question, group, sampler, add_se=True)
        yield row | {"method": "bayes"} | by_bayes
        yield row | {"method": "reml"} | _reml(outcome, question, group, add_se=True)


def _by_person(
    outcome: Outcome, question: Question, group: Group, sampler: bayes.Sampler, fits: dict[bool, bayes.Fit]
) -> Iterator[Row]:
    for fit in fits.values():
        if fit.passes(group.sampling):
            for person, numbers in influence.without_each(outcome, question, group, fit, sampler):
                row: Row = {"analysis": f"without {person}", "kind": "influence", "method": "bayes"}
                yield row | numbers
    for place, person in enumerate(outcome.people):
        if not outcome.seen[place].any():
            continue
        row = {"analysis": f"without {person}", "kind": "influence", "method": "reml"}
        yield row | _reml(outcome.without(place), question, group)


def _under(outcome: Outcome, question: Question, covariance: str, level: float) -> Row:
    """The answer of REML with one covariance over visits, and no other in its place."""
    try:
        found = frequentist.answer_under(outcome, question, covariance)
    except NotEstimableError as reason:
        return withheld(reason)
    return found.numbers(level) | answered(status_of(covariance))


def _reml(outcome: Outcome, question: Question, group: Group, *, add_se: bool = False) -> Row:
    try:
        found, status = frequentist.answer_by_reml(outcome, question, group, add_se=add_se)
    except NotEstimableError as reason:
        return withheld(reason)
    return found.numbers(group.level) | answered(status)
