"""What both engines share of the repeated-measures model: its visits, its covariance, its coefficients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reconfmri.config import Group
from reconfmri.group.covariances import Structure
from reconfmri.group.estimands import Array, Question, code_arms
from reconfmri.group.grid import Outcome, within_arm_variation

LADDER: tuple[Structure, ...] = ("unstructured", "shrunk_unstructured", "random_intercept")


def usable_visits(outcome: Outcome) -> tuple[int, ...]:
    """Return the visits that enter the model: two people per arm who vary, or enough of one arm.

    A visit that cannot be compared informs the others through the covariance only; with fewer than four
    degrees of freedom within the arms it tells nothing and makes the covariance all but singular.
    """
    if outcome.decided is not None:
        return outcome.decided
    usable = []
    for visit in range(outcome.values.shape[1]):
        counts = outcome.per_arm(visit)
        degrees_of_freedom = sum(counts) - sum(n > 0 for n in counts)
        if (min(counts) >= 2 or degrees_of_freedom >= 4) and within_arm_variation(outcome, visit) > 0:
            usable.append(visit)
    return tuple(usable)


def covariances_for(outcome: Outcome, group: Group) -> list[str]:
    """Return the covariances over visits that both engines try, in order; the first that converges is kept.

    `auto` is unstructured for any number of people and visits; where that did not converge REML draws it
    towards compound symmetry (the priors of the Bayesian model do that always), and a random intercept comes
    last. One visit has a variance and no choice to make.
    """
    if len(usable_visits(outcome)) == 1:
        return ["unstructured"]
    return list(LADDER) if group.covariance == "auto" else [group.covariance]


@dataclass(frozen=True)
class MeanModel:
    """Coefficients: a mean per visit, arm differences in the likelihood, slopes of covariates."""

    visits: tuple[int, ...]
    compared: tuple[int, ...]  # visits with a difference of the first active arm
    per_visit: tuple[bool, ...] = ()  # of each covariate: a slope at every visit, or one for all
    more: tuple[tuple[int, ...], ...] = ()  # visits with a difference, of each further active arm

    @property
    def n_arms(self) -> int:
        """How many arms there are."""
        return 2 + len(self.more)

    @property
    def differences(self) -> list[tuple[int, int]]:
        """Which active arm (from 0) and which visit (of all) each coefficient of a difference is of."""
        return [(arm, visit) for arm, at in enumerate((self.compared, *self.more)) for visit in at]

    @property
    def n_differences(self) -> int:
        """How many coefficients are differences; they follow the means."""
        return len(self.differences)

    def without_arms(self) -> MeanModel:
        """Return the model in which all arms are alike."""
        return replace(self, compared=(), more=((),) * len(self.more))

    def design(self, arm: NDArray[np.intp] | NDArray[np.bool_], covariates: Array | None = None) -> Array:
        """Return (n_people, n_visits, n_coefficients); the arms (n_people,) are coded by `code_arms`.

        `covariates` (n_people, n_covariates) are in SDs around their mean; without them people are average.
        """
        means = np.eye(len(self.visits))
        sides = code_arms(arm, self.n_arms)
        parts = [means + np.zeros((len(arm), 1, 1))]
        for number, at in enumerate((self.compared, *self.more)):
            differences = means[:, [self.visits.index(visit) for visit in at]]
            parts.append(sides[:, number, None, None] * differences)
        if covariates is None:
            covariates = np.zeros((len(arm), len(self.per_visit)))
        columns = zip(covariates.T, self._at_visits(), strict=True)
        slopes = [column[:, None, None] * at_visits for column, at_visits in columns]
        return np.concatenate([*parts, *slopes], axis=2)

    def weights(self, question: Question, n_visits: int) -> Array:
        """Return the weights (n_coefficients,) of the answer to a question."""
        by_arm = question.weights(n_visits)
        means = by_arm.sum(axis=0)
        differences = by_arm[1:] - means / len(by_arm)
        slopes = np.zeros(sum(at_visits.shape[1] for at_visits in self._at_visits()))
        of_arms = [differences[place] for place in self.differences]
        return np.concatenate([means[list(self.visits)], of_arms, slopes])

    def slopes(self, coefficients: Array) -> Array:
        """Return those of the coefficients that are slopes, at every visit: (n_covariates, n_visits)."""
        rest, found = coefficients[len(self.visits) + self.n_differences :], []
        for at_visits in self._at_visits():
            found.append(at_visits @ rest[: at_visits.shape[1]])
            rest = rest[at_visits.shape[1] :]
        return np.reshape(found, (len(self.per_visit), len(self.visits))).astype(np.float64)

    def _at_visits(self) -> list[Array]:
        """Per covariate (n_visits, n_slopes): which slope a visit has."""
        n_visits = len(self.visits)
        return [np.eye(n_visits) if own else np.ones((n_visits, 1)) for own in self.per_visit]


def mean_model(outcome: Outcome, common_baseline: bool) -> MeanModel:
    """Return the mean model of an outcome; without a difference where an arm was not seen.

    Where the control was not seen, the other arms differ from the first of them that was.
    """
    visits = usable_visits(outcome)
    by_arm: list[list[int]] = [[] for _ in outcome.arms[1:]]
    for visit in visits:
        seen = [arm for arm, people in enumerate(outcome.per_arm(visit)) if people]
        for arm in seen[1:]:
            if not (common_baseline and visit in outcome.baselines):
                by_arm[arm - 1].append(visit)
    first, *others = map(tuple, by_arm)
    return MeanModel(visits, first, tuple(column.per_visit for column in outcome.columns), tuple(others))
