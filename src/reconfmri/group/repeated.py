"""What both engines share of the repeated-measures model: its visits, its covariance, its coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconfmri.config import Group
from reconfmri.group.estimands import Array, Question
from reconfmri.group.grid import Outcome, within_arm_variation

MANY_VISITS = 4
FEW_PER_ARM = 8  # below this an unstructured covariance is not identified well enough to lean on


def usable_visits(outcome: Outcome) -> tuple[int, ...]:
    """Return the visits that enter the model: two people per arm who vary, or enough of one arm.

    A visit that cannot be compared informs the others through the covariance only; with fewer than four
    degrees of freedom within the arms it tells nothing and makes the covariance all but singular.
    """
    if outcome.decided is not None:
        return outcome.decided
    usable = []
    for visit in range(outcome.values.shape[1]):
        counts = outcome.counts(visit)
        degrees_of_freedom = sum(counts) - sum(n > 0 for n in counts)
        if (min(counts) >= 2 or degrees_of_freedom >= 4) and within_arm_variation(outcome, visit) > 0:
            usable.append(visit)
    return tuple(usable)


def covariance_for(outcome: Outcome, group: Group) -> str:
    """Return `unstructured` or `random_intercept` as the study asks; one visit has no choice to make."""
    visits = usable_visits(outcome)
    if len(visits) == 1 or group.covariance == "unstructured":
        return "unstructured"
    few = any(n < FEW_PER_ARM for visit in visits for n in outcome.counts(visit))
    return "random_intercept" if few or group.covariance == "random_intercept" else "unstructured"


def covariances_for(outcome: Outcome, group: Group) -> list[str]:
    """Return the covariances that REML tries, best first.

    `auto` takes heterogeneous Toeplitz above four visits and falls back to a random intercept.
    """
    first = covariance_for(outcome, group)
    if group.covariance != "auto":
        return [first]
    if first == "unstructured" and len(usable_visits(outcome)) > MANY_VISITS:
        first = "toeplitz"
    return list(dict.fromkeys([first, "random_intercept"]))


def status_of(covariance: str, group: Group | None = None) -> str:
    """Return `ok`, with the covariance where it is not the unstructured one.

    Given the study, with what the Bayesian model alone has: t residuals, an SD per arm.
    """
    parts = [] if covariance == "unstructured" else [covariance.replace("_", " ")]
    if group and group.likelihood == "student_t":
        parts.append("Student t residuals")
    if group and group.spread == "by_arm":
        parts.append("SD by arm")
    return ", ".join(["ok", *parts])


@dataclass(frozen=True)
class MeanModel:
    """Coefficients: a mean per visit, arm differences in the likelihood, a slope per covariate and visit."""

    visits: tuple[int, ...]
    compared: tuple[int, ...]  # visits with a difference
    n_covariates: int = 0

    def design(self, active: NDArray[np.bool_], covariates: Array | None = None) -> Array:
        """Return (n_people, n_visits, n_coefficients); the arms are coded +1/2 (active) and -1/2.

        `covariates` (n_people, n_covariates) are in SDs around their mean; without them people are average.
        """
        means = np.eye(len(self.visits))
        differences = means[:, [self.visits.index(visit) for visit in self.compared]]
        side = np.where(active, 0.5, -0.5)[:, None, None]
        if covariates is None:
            covariates = np.zeros((len(active), self.n_covariates))
        slopes = np.einsum("nk,vw->nvkw", covariates, means)
        slopes = slopes.reshape(len(active), len(means), covariates.shape[1] * len(means))
        return np.concatenate([means + 0 * side, side * differences, slopes], axis=2)

    def weights(self, question: Question, n_visits: int) -> Array:
        """Return the weights (n_coefficients,) of the answer to a question."""
        control, active = question.weights(n_visits)
        means, differences = control + active, (active - control) / 2
        slopes = np.zeros(self.n_covariates * len(self.visits))
        return np.concatenate([means[list(self.visits)], differences[list(self.compared)], slopes])

    def slopes(self, coefficients: Array) -> Array:
        """Return those of the coefficients that are slopes, (n_covariates, n_visits)."""
        n_visits = len(self.visits)
        start = n_visits + len(self.compared)
        return np.asarray(coefficients[start:].reshape(self.n_covariates, n_visits))


def mean_model(outcome: Outcome, common_baseline: bool) -> MeanModel:
    """Return the mean model of an outcome; without a difference where an arm was not seen."""
    visits = usable_visits(outcome)
    compared = tuple(visit for visit in visits if min(outcome.counts(visit)) > 0)
    if common_baseline:
        compared = tuple(visit for visit in compared if visit not in outcome.baselines)
    return MeanModel(visits, compared, len(outcome.columns))
