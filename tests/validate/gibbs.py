"""The Bayesian model of the group room for thousands of trials at once: an independent, exact sampler.

Arm differences and their changes between visits have the prior Normal(0, 2.5): differences correlate by .5.
Missing visits and means are drawn from their conditionals; the covariance is proposed from an inverse Wishart
and accepted by Metropolis-Hastings against the priors half-t(4, 0, 2.5) on SDs and LKJ(1) on correlations.
With an SD per arm the covariance of an arm is D S D, D = exp(side x log ratio); the ratio is a random walk.
It shares no code with `reconfmri.group.bayes`; `tests/test_group_bayes.py` compares the two.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
EFFECT_SD, MEAN_SD, SD_SCALE = 2.5, 5.0, 2.5
RATIO_SD, RATIO_STEP = 0.5, 0.25  # prior SD of the log ratio of the arms' SDs; its random walk


@dataclass(frozen=True)
class Draws:
    """(n_draws, n_trials, n_visits) of the arm differences, in units of the scale, and the share of moves."""

    difference: Array
    acceptance: float


def sample(
    values: Array,
    active: NDArray[np.bool_],
    *,
    common_baseline: bool,
    draws: int,
    burn_in: int,
    seed: int,
    by_arm: bool = False,
) -> Draws:
    """Return draws for every trial of `values` (n_trials, n_people, n_visits; NaN = missing)."""
    random = np.random.default_rng(seed)
    n_trials, _, n_visits = values.shape
    values = values - np.nanmean(values, axis=(1, 2), keepdims=True)
    side = np.where(active, 0.5, -0.5)
    patterns = _patterns(values)
    filled = np.where(np.isnan(values), np.nanmean(values, axis=1, keepdims=True), values)
    covariance = np.broadcast_to(np.eye(n_visits), (n_trials, n_visits, n_visits)).copy()
    log_ratio = np.zeros((n_trials, n_visits))
    kept = np.empty((draws, n_trials, n_visits))
    moves = 0.0
    for step in range(burn_in + draws):
        arms = by_side(covariance, log_ratio)
        mean, difference = draw_means(filled, side, arms, common_baseline, random)
        expected = mean[:, None, :] + side[:, None] * difference[:, None, :]
        fill_missing(filled, expected, arms, active, patterns, random)
        residuals = filled - expected
        if by_arm:
            move_ratio(log_ratio, covariance, residuals, side, random)
        spread = np.exp(side[:, None] * log_ratio[:, None, :])
        moved = move_covariance(covariance, residuals / spread, random)
        if step >= burn_in:
            kept[step - burn_in] = difference
            moves += moved / draws
    return Draws(kept, moves)


def by_side(covariance: Array, log_ratio: Array) -> Array:
    """Return (2, n_trials, n_visits, n_visits): D S D of the control (row 0) and the active arm (row 1)."""
    spread = np.exp(np.array([-0.5, 0.5])[:, None, None] * log_ratio)
    return np.asarray(covariance * spread[:, :, :, None] * spread[:, :, None, :])


def move_ratio(
    log_ratio: Array, covariance: Array, residuals: Array, side: Array, random: np.random.Generator
) -> None:
    """Move the log ratios in place, a random walk visit by visit."""
    precision = np.linalg.inv(covariance)

    def log_posterior(ratio: Array) -> Array:
        scaled = residuals * np.exp(-side[:, None] * ratio[:, None, :])
        squares = ((scaled @ precision) * scaled).sum(axis=(1, 2))
        prior = (ratio**2).sum(axis=1) / RATIO_SD**2
        return np.asarray(-0.5 * (squares + prior) - side.sum() * ratio.sum(axis=1))

    here = log_posterior(log_ratio)
    for visit in range(log_ratio.shape[1]):
        proposal = log_ratio.copy()
        proposal[:, visit] += RATIO_STEP * random.standard_normal(len(proposal))
        there = log_posterior(proposal)
        moved = np.log(random.random(len(proposal))) < there - here
        log_ratio[moved], here[moved] = proposal[moved], there[moved]


def _patterns(values: Array) -> list[tuple[Array, Array, Array, Array]]:
    """Per pattern of missing visits: trials, people, visits gone and visits there."""
    gone = np.isnan(values)
    found = []
    for pattern in np.unique(gone.reshape(-1, gone.shape[2]), axis=0):
        if pattern.any():
            trials, people = np.nonzero((gone == pattern).all(axis=2))
            found.append((trials, people, np.flatnonzero(pattern), np.flatnonzero(~pattern)))
    return found


def fill_missing(
    filled: Array,
    expected: Array,
    arms: Array,
    active: NDArray[np.bool_],
    patterns: list[tuple[Array, ...]],
    random: np.random.Generator,
) -> None:
    """Replace the missing visits in `filled` by draws given the visits that are there, arm by arm."""
    for (every_trial, everybody, gone, there), arm in product(patterns, (0, 1)):
        mine = active[everybody] == arm
        trials, people, covariance = every_trial[mine], everybody[mine], arms[arm]
        across = covariance[:, there[:, None], gone]
        slope = np.linalg.solve(covariance[:, there[:, None], there], across)
        rest = covariance[:, gone[:, None], gone] - across.transpose(0, 2, 1) @ slope
        factor = np.linalg.cholesky(rest)
        residual = filled[trials, people][:, there] - expected[trials, people][:, there]
        noise = random.standard_normal((trials.size, gone.size))
        move = np.einsum("no,nog->ng", residual, slope[trials]) + np.einsum(
            "ngh,nh->ng", factor[trials], noise
        )
        filled[trials[:, None], people[:, None], gone] = expected[trials, people][:, gone] + move


def draw_means(
    filled: Array, side: Array, arms: Array, common_baseline: bool, random: np.random.Generator
) -> tuple[Array, Array]:
    """Return visit means and arm differences, (n_trials, n_visits) each, from their normal conditional."""
    n_visits = filled.shape[2]
    precision = np.linalg.inv(arms)
    design = np.column_stack([np.ones_like(side), side])
    members = np.stack([side < 0, side > 0])
    cross = np.stack([design[there].T @ design[there] for there in members])
    full = np.einsum("cab,ctij->taibj", cross, precision).reshape(-1, 2 * n_visits, 2 * n_visits)
    compared = np.arange(n_visits + common_baseline, 2 * n_visits)
    correlated = EFFECT_SD**2 * (np.eye(len(compared)) + 1) / 2
    full[:, compared[:, None], compared] += np.linalg.inv(correlated)
    full[:, range(n_visits), range(n_visits)] += MEAN_SD**-2
    sums = np.stack([design[there].T @ filled[:, there] for there in members])
    score = (sums @ precision).sum(axis=0).reshape(-1, 2 * n_visits)
    keep = np.array([i for i in range(2 * n_visits) if not (common_baseline and i == n_visits)])
    full, score = full[:, keep[:, None], keep], score[:, keep]
    factor = np.linalg.cholesky(full)
    noise = np.linalg.solve(factor.transpose(0, 2, 1), random.standard_normal(score.shape)[..., None])
    found = np.zeros((len(filled), 2 * n_visits))
    found[:, keep] = (np.linalg.solve(full, score[..., None]) + noise)[..., 0]
    return found[:, :n_visits], found[:, n_visits:]


def move_covariance(covariance: Array, residuals: Array, random: np.random.Generator) -> float:
    """Move `covariance` in place by one independence step; return the share of trials that moved.

    The proposal is the posterior under the prior |S|^(-V/2), an inverse Wishart with n - 1 degrees of
    freedom, drawn by Bartlett's decomposition; the weight is the declared prior over that one.
    """
    n_trials, n_people, n_visits = residuals.shape
    scatter = np.linalg.cholesky(residuals.transpose(0, 2, 1) @ residuals)
    bartlett = np.tril(random.standard_normal((n_trials, n_visits, n_visits)), -1)
    degrees = n_people - 1 - np.arange(n_visits)
    bartlett[:, range(n_visits), range(n_visits)] = np.sqrt(random.chisquare(degrees, (n_trials, n_visits)))
    root = scatter @ np.linalg.inv(bartlett).transpose(0, 2, 1)
    proposal = root @ root.transpose(0, 2, 1)
    moved = np.log(random.random(n_trials)) < log_weight(proposal) - log_weight(covariance)
    covariance[moved] = proposal[moved]
    return float(moved.mean())


def log_weight(covariance: Array) -> Array:
    """Log of half-t(4) on the SDs x LKJ(1) over |S|^(-V/2): half_t(sd) sd^-V |S|^(V/2) up to a constant."""
    n_visits = covariance.shape[1]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    half_t = -2.5 * np.log1p(variance / (4 * SD_SCALE**2))
    log_determinant = np.linalg.slogdet(covariance)[1]
    return (
        half_t.sum(axis=1) - 0.5 * n_visits * np.log(variance).sum(axis=1) + 0.5 * n_visits * log_determinant
    )
