"""Totals as the bounded counts that they are: a sensitivity of the Gaussian models.

A total of `n` steps above its lowest is beta-binomial: logit of the mean on arm (+1/2, -1/2) and on the logit
of the baseline, among people seen at both visits. Its mean and every prediction lie inside the scale's range.
The arm difference is that of the means of everybody in it, once in each arm. Posterior by importance sampling
at the places of a Sobol sequence around its mode: nothing is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, chdtri, expit, gammaln, logit, ndtri
from scipy.stats import qmc

from reconfmri.contracts.questions.bounded import BOUNDED
from reconfmri.group import bayes
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import (
    BASELINE,
    Array,
    NotEstimableError,
    Question,
    answered,
    refuse_without_baseline,
    withheld,
)
from reconfmri.group.grid import Outcome, refuse_unanswerable

PRIOR_SD = np.array([2.5, 1.5, 1.0, 1.5])  # level, arm, slope on the baseline's logit, log precision
PRIOR_MEAN = np.array([0.0, 0.0, 0.5, math.log(20.0)])
N_PLACES = 2**12
N_PREDICTED = 60  # draws that predictions are averaged over
ARM = 1  # place of the arm among the parameters; mirrored, so that relabelled arms give the mirror image
TAIL_DF = 5.0  # of the t distribution that the places are of
FEWEST_EFFECTIVE = 1000.0


@dataclass(frozen=True)
class Likelihood:
    """A likelihood of totals in steps above their lowest; its parameters begin with level, arm and slope.

    `log_posterior(theta, steps, design, n)`: log density (n_draws,), but for a constant. `means(theta,
    design, n)`: everybody's mean (n_draws, n_people). `probabilities(theta, design, n)`: of every total
    (n_draws, n_people, n + 1).
    """

    start: Array
    log_posterior: Callable[[Array, Array, Array, float], Array]
    means: Callable[[Array, Array, float], Array]
    probabilities: Callable[[Array, Array, float], Array]


@dataclass(frozen=True)
class Posterior:
    """Draws (n, n_parameters) of a likelihood's parameters with weights (n,) that sum to one."""

    draws: Array
    weights: Array

    @property
    def effective(self) -> float:
        """Effective number of draws."""
        return float(1 / (self.weights**2).sum())


def estimate(asked: Asked) -> pd.DataFrame:
    """Return one row per bounded outcome and later session: the adjusted difference and what is predicted.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    return BOUNDED.frame(rows_of(asked, asked.group.bounded, BETA_BINOMIAL, "bounded"))


def rows_of(
    asked: Asked, declared: Mapping[str, tuple[float, float]], model: Likelihood, key: str
) -> list[dict[str, object]]:
    """Return the rows of every declared outcome (-> lowest and highest total) and later session.

    `key` is where the study file declares them, for messages.
    """
    return [
        _row(asked, outcome, question, ends, model, key)
        for outcome in asked.outcomes
        if (ends := declared.get(outcome.name))
        for question in asked.about(["difference_adjusted"])
    ]


def _row(
    asked: Asked, outcome: Outcome, question: Question, ends: tuple[float, float], model: Likelihood, key: str
) -> dict[str, object]:
    group = asked.group
    row: dict[str, object] = {
        "outcome": outcome.name,
        "session": question.session,
        "unit": outcome.unit,
        "lowest": ends[0],
        "highest": ends[1],
        "level": group.level,
    }
    try:
        refuse_without_baseline(question)
        refuse_unanswerable(outcome, question)
        some = outcome.of(np.asarray(outcome.seen[:, question.visits].all(axis=1)))
        steps = some.values[:, [BASELINE, question.visit]] - ends[0]
        n = ends[1] - ends[0]
        if ((steps < 0) | (steps > n)).any():
            raise NotEstimableError(
                f"a value lies outside of {ends[0]:g} to {ends[1]:g}",
                fix=f"correct group.{key}.{outcome.name}",
            )
        found = sample(steps[:, 1], _design(steps[:, 0], n, some.active), n, model)
        if found.effective < FEWEST_EFFECTIVE:
            raise NotEstimableError(
                f"{found.effective:.0f} effective draws, {FEWEST_EFFECTIVE:.0f} are needed"
            )
    except NotEstimableError as reason:
        return row | withheld(reason)
    counts = {"n_active": int(some.active.sum()), "n_control": int((~some.active).sum())}
    floor = {"share_lowest": float((steps[:, 1] == 0).mean())}
    predicted = _predicted(found, steps[:, 0], n, ends[0], group.level, model)
    answer = difference(found, steps[:, 0], n, group.level, model)
    return row | counts | floor | answer | predicted | answered()


def _design(baseline: Array, n: float, active: NDArray[np.bool_]) -> Array:
    """(n_people, 3): level, arm, logit of the baseline around that of half the scale."""
    return np.column_stack([np.ones(len(baseline)), np.where(active, 0.5, -0.5), _logit(baseline, n)])


def _logit(steps: Array, n: float) -> Array:
    """Logit of a share, half a step away from the ends."""
    return np.asarray(logit((steps + 0.5) / (n + 1)))


def log_posterior(theta: Array, steps: Array, design: Array, n: float) -> Array:
    """Return the log density (n_draws,) of parameters (n_draws, 4), but for a constant."""
    mean = expit(theta[:, :3] @ design.T).clip(1e-9, 1 - 1e-9)
    precision = np.exp(theta[:, 3:].clip(-20, 20))
    a, b = mean * precision, (1 - mean) * precision
    terms = gammaln(n + 1) - gammaln(steps + 1) - gammaln(n - steps + 1)
    terms = terms + betaln(steps + a, n - steps + b) - betaln(a, b)
    return np.asarray(terms.sum(axis=1) - 0.5 * (((theta - PRIOR_MEAN) / PRIOR_SD) ** 2).sum(axis=1))


def _means(theta: Array, design: Array, n: float) -> Array:
    return np.asarray(n * expit(theta[:, :3] @ design.T))


def _probabilities(theta: Array, design: Array, n: float) -> Array:
    share = (_means(theta, design, n) / n).clip(1e-9, 1 - 1e-9)
    precision = np.exp(theta[:, 3])[:, None]
    a, b = (share * precision)[..., None], ((1 - share) * precision)[..., None]
    totals = np.arange(math.floor(n) + 1.0)
    log = betaln(totals + a, n - totals + b) - betaln(a, b)
    log += gammaln(n + 1) - gammaln(totals + 1) - gammaln(n - totals + 1)
    return np.asarray(np.exp(log))


BETA_BINOMIAL = Likelihood(PRIOR_MEAN, log_posterior, _means, _probabilities)


def sample(steps: Array, design: Array, n: float, model: Likelihood = BETA_BINOMIAL) -> Posterior:
    """Return the posterior of a regression of `steps` (n_people,) of `n`.

    Raises
    ------
    NotEstimableError
        Its mode was not found.
    """

    def height(theta: Array) -> float:
        return -float(model.log_posterior(theta[None, :], steps, design, n)[0])

    best, size = minimize(height, model.start, method="BFGS"), len(model.start)
    if not np.isfinite(best.fun):
        raise NotEstimableError("the mode of the posterior was not found")
    spread = np.linalg.cholesky(_covariance(height, best.x))
    places = (qmc.Sobol(size + 1, scramble=False).random(N_PLACES) + 0.5 / N_PLACES) % 1
    standard = ndtri(places[:, :size]) * np.sqrt(TAIL_DF / chdtri(TAIL_DF, 1 - places[:, size:]))
    mirror = np.where(np.arange(size) == ARM, -1.0, 1.0)
    standard = np.vstack([standard, standard * mirror])
    draws = best.x + standard @ spread.T
    proposed = -(TAIL_DF + size) / 2 * np.log1p((standard**2).sum(axis=1) / TAIL_DF)
    log_weights = model.log_posterior(draws, steps, design, n) - proposed
    weights = np.exp(log_weights - log_weights.max())
    return Posterior(draws, weights / weights.sum())


def _covariance(height: Callable[[Array], float], at: Array) -> Array:
    """The inverse of the second derivatives at the mode, by central differences."""
    step, n = 1e-3, len(at)
    hessian = np.zeros((n, n))
    units = np.eye(n) * step
    for i in range(n):
        for j in range(n):
            corners = [
                si * sj * height(at + si * units[i] + sj * units[j]) for si in (1, -1) for sj in (1, -1)
            ]
            hessian[i, j] = sum(corners) / (4 * step**2)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    return np.asarray(vectors @ np.diag(1 / np.maximum(values, 1e-3)) @ vectors.T)


def difference(
    found: Posterior, baseline: Array, n: float, level: float, model: Likelihood = BETA_BINOMIAL
) -> dict[str, object]:
    """Return the cells of the arm difference: everybody's mean in the active arm minus in the control arm."""
    arms = [
        model.means(found.draws, _in_arm(baseline, n, active=active), n).mean(axis=1)
        for active in (True, False)
    ]
    return bayes.summarise(arms[0] - arms[1], level, found.weights)


def _in_arm(baseline: Array, n: float, *, active: bool) -> Array:
    """Everybody's design in one arm."""
    return _design(baseline, n, np.full(len(baseline), active))


def _predicted(
    found: Posterior, baseline: Array, n: float, lowest: float, level: float, model: Likelihood
) -> dict[str, object]:
    """Return the equal-tailed interval of a new person's total in each arm, with the people's baselines."""
    cells: dict[str, object] = {}
    chosen = found.draws[_evenly(found.weights, N_PREDICTED)]
    totals = np.arange(math.floor(n) + 1.0)
    for name, active in (("active", True), ("control", False)):
        shares = model.probabilities(chosen, _in_arm(baseline, n, active=active), n)
        up_to = np.cumsum(shares.mean(axis=(0, 1)))
        for end, at in (("lower", (1 - level) / 2), ("upper", (1 + level) / 2)):
            cells[f"predicted_{name}_{end}"] = lowest + float(
                totals[min(int(np.searchsorted(up_to, at)), len(totals) - 1)]
            )
    return cells


def _evenly(weights: Array, count: int) -> NDArray[np.int_]:
    """Places of some draws, as many of each as its weight says."""
    return np.asarray(
        np.searchsorted(np.cumsum(weights), (np.arange(count) + 0.5) / count).clip(0, len(weights) - 1)
    )
