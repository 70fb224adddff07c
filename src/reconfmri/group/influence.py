"""What the Bayesian answer would be without each person, from the draws that there are.

Draws are weighted by one over the density of a person's values, smoothed by Pareto's distribution (PSIS-LOO:
Vehtari, Gelman & Gabry, Statistics and Computing 2017;27:1413). A person who makes the weights unreliable
(Pareto k above 0.7) is left out in truth: the model that is compiled already is fitted again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from reconfmri.config import Group
from reconfmri.group import bayes
from reconfmri.group.estimands import Array, Question, answered
from reconfmri.group.grid import Outcome

MAX_K = 0.7
Row = dict[str, object]


def without_each(
    outcome: Outcome, question: Question, group: Group, fit: bayes.Fit, sampler: bayes.Sampler
) -> Iterator[tuple[str, Row]]:
    """Yield for every person with a value the id and the answer without that person."""
    draws = bayes.contrast(fit, question, outcome)
    weights, ks = leave_out_weights(fit, outcome)
    for place, person in enumerate(outcome.people):
        if not outcome.seen[place, list(fit.visits)].any():
            continue
        if ks[place] <= MAX_K:
            numbers = bayes.summarise(draws, group.level, weights[:, place]) | answered()
        else:
            numbers = bayes.answer_question(unseen(outcome, place, fit), question, group, sampler)
        yield person, numbers | {"pareto_k": float(ks[place])}


def leave_out_weights(fit: bayes.Fit, outcome: Outcome) -> tuple[Array, Array]:
    """Return the weights (n_draws, n_people) of the draws without each person, and Pareto k (n_people,)."""
    with warnings.catch_warnings():
        # arviz announces its successor at every import
        warnings.simplefilter("ignore", FutureWarning)
        from arviz import psislw

    values = (outcome.values[:, list(fit.visits)] - bayes.centre_of(outcome)) / outcome.scale
    log_weights, ks = psislw(-fit.log_densities(outcome, values).T)
    return np.exp(log_weights).T, np.asarray(ks)


def unseen(outcome: Outcome, person: int, fit: bayes.Fit) -> Outcome:
    """Return the outcome as if a person had never been seen: the grid keeps its people.

    With a random intercept it keeps its visits too, and the compiled model serves: one person of an arm at a
    visit is enough there. A free covariance would be all but singular.
    """
    values = outcome.values.copy()
    values[person] = np.nan
    kept = fit.visits if fit.covariance == "random_intercept" else None
    return replace(outcome, values=values, decided=kept)
