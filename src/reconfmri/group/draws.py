"""Draws of the parameters of the Bayesian model, and what they say of people: means, densities."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from reconfmri.group.estimands import Array, code_arms
from reconfmri.group.grid import Outcome

BLOCK = 200  # draws of which the densities of all people are held at once


@dataclass(frozen=True)
class Draws:
    """Draws of the parameters in units of s, of the posterior or of the prior; (n_draws, n_visits) each.

    With several active arms `difference` and `log_ratio` are (n_draws, n_arms - 1, n_visits), each arm's from
    the control.
    """

    mean: Array
    difference: Array
    visit_sd: Array
    correlation: Array  # (n_draws, n): below the diagonal row by row, or one for all
    slope: Array  # (n_draws, n_covariates, n_visits)
    log_ratio: Array  # of the active arm's SD over that of the control arm
    df: Array  # (n_draws,), infinite where residuals are Gaussian

    def some(self, chosen: NDArray[np.int_]) -> Draws:
        """Return some of the draws."""
        names = [field.name for field in fields(Draws)]
        return Draws(**{name: getattr(self, name)[chosen] for name in names})

    def covariances(self) -> Array:
        """(n_draws, n_visits, n_visits): covariance over visits, the arms' geometric mean."""
        n_visits = self.visit_sd.shape[1]
        matrices = np.tile(np.eye(n_visits), (len(self.visit_sd), 1, 1))
        rows, columns = np.tril_indices(n_visits, -1)
        matrices[:, rows, columns] = matrices[:, columns, rows] = self.correlation[:, : len(rows)]
        return np.asarray(matrices * self.visit_sd[:, :, None] * self.visit_sd[:, None, :])

    def means(self, outcome: Outcome) -> Array:
        """(n_draws, n_people, n_visits): what is expected of every person."""
        of_arms = np.stack([self.mean_of(arm, len(outcome.arms)) for arm in range(len(outcome.arms))], axis=1)
        of_people = np.einsum("ik,bkv->biv", outcome.adjusted_for, self.slope)
        return np.asarray(of_arms[:, np.asarray(outcome.arm, dtype=np.intp)] + of_people)

    def mean_of(self, arm: int, n_arms: int = 2) -> Array:
        """(n_draws, n_visits): mean of an arm, by place, for average covariates."""
        return np.asarray(self.mean + _from_all(self.difference, arm, n_arms))

    def spread(self, arm: int, n_arms: int = 2) -> Array:
        """(n_draws, n_visits): SD of an arm, by place, over the geometric mean of all."""
        return np.asarray(np.exp(_from_all(self.log_ratio, arm, n_arms)))

    def log_densities(self, outcome: Outcome, values: Array) -> Array:
        """(n_draws, n_people): log density of each person's seen `values` (n_people, n_visits), in s.

        Without the constant of pi, which no comparison needs. By blocks of draws: memory does not grow with
        their number.
        """
        blocks = np.array_split(np.arange(len(self.mean)), math.ceil(len(self.mean) / BLOCK))
        return np.concatenate([self.some(block)._log_densities(outcome, values) for block in blocks])

    def _log_densities(self, outcome: Outcome, values: Array) -> Array:
        seen, means, covariances = ~np.isnan(values), self.means(outcome), self.covariances()
        total = np.zeros((len(means), len(values)))
        for arm in range(len(outcome.arms)):
            spread, inside = self.spread(arm, len(outcome.arms)), outcome.in_arm(arm)
            of_arm = covariances * spread[:, :, None] * spread[:, None, :]
            for pattern in np.unique(seen[inside], axis=0):
                there = np.flatnonzero(pattern)
                people = np.flatnonzero((seen == pattern).all(axis=1) & inside)
                if there.size:
                    away = values[np.ix_(people, there)] - means[:, people][:, :, there]
                    total[:, people] = self._log_density(away, of_arm[:, there[:, None], there])
        return total

    def _log_density(self, away: Array, covariance: Array) -> Array:
        """Of residuals (n_draws, n, m) given their covariance (n_draws, m, m): (n_draws, n)."""
        root = np.linalg.cholesky(covariance)
        squares = np.square(np.linalg.solve(root, away.transpose(0, 2, 1))).sum(axis=1)
        log_root = np.log(np.einsum("bmm->bm", root)).sum(axis=1)[:, None]
        if not np.isfinite(self.df).all():
            return np.asarray(-0.5 * squares - log_root)
        m, df = away.shape[2], self.df[:, None]
        constant = gammaln((df + m) / 2) - gammaln(df / 2) - m / 2 * np.log(df / 2)
        return np.asarray(constant - (df + m) / 2 * np.log1p(squares / df) - log_root)


def _from_all(differences: Array, arm: int, n_arms: int) -> Array:
    """(n_draws, n_visits): an arm from the mean of all, given every difference from the control."""
    by_arm = differences.reshape(len(differences), n_arms - 1, -1)
    side = code_arms(np.array([arm]), n_arms)[0]
    return np.asarray(sum(share * by_arm[:, place] for place, share in enumerate(side)))
