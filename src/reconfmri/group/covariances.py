"""Covariances over visits as functions of their parameters: alike in all arms, or with an SD per arm."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from reconfmri.group.estimands import Array, code_arms

Structure = Literal["unstructured", "shrunk_unstructured", "toeplitz", "random_intercept"]
SMALL = 1e-5  # step of the second derivatives, of parameters that are about one


class Form(NamedTuple):
    """What the parameters of a covariance stand for.

    `ratios` are the visits at which the arms have an SD of their own: S of an arm is D S D with
    D = exp(sum_j x_j r_j), x the arm's row of `code_arms` and r_j the log of an active arm's SD over that of
    the control arm; none: S is common.
    """

    structure: Structure
    n_visits: int
    ratios: tuple[int, ...] = ()
    n_arms: int = 2

    @property
    def n_ratios(self) -> int:
        """How many parameters, the last ones, are ratios: those of the first active arm, then the next."""
        return len(self.ratios) * (self.n_arms - 1)

    @property
    def sides(self) -> Array:
        """(n_arms, n_arms - 1): the rows of `code_arms`."""
        return code_arms(np.arange(self.n_arms), self.n_arms)

    @property
    def is_linear(self) -> bool:
        """Whether a covariance is linear in its parameters, so that second derivatives vanish."""
        return self.structure != "toeplitz" and not self.ratios


def status_of(covariance: str, *, by_arm: bool = False, student_t: bool = False) -> str:
    """Return `ok`, with what is not the default: the covariance, t residuals, an SD per arm."""
    parts = [] if covariance == "unstructured" else [covariance.replace("_", " ")]
    parts += ["Student t residuals"] * student_t + ["SD by arm"] * by_arm
    return ", ".join(["ok", *parts])


def unstructured(theta: Array, n_visits: int) -> Array:
    """Return the covariance (v, v) of its lower triangle, row by row."""
    matrix = np.zeros((n_visits, n_visits))
    rows, columns = np.tril_indices(n_visits)
    matrix[rows, columns] = matrix[columns, rows] = theta
    return matrix


def toeplitz(theta: Array, n_visits: int) -> Array:
    """Return the covariance (v, v) of v standard deviations and v - 1 correlations by distance."""
    correlations = np.concatenate([[1.0], theta[n_visits:]])
    apart = np.abs(np.subtract.outer(np.arange(n_visits), np.arange(n_visits)))
    return np.asarray(np.outer(theta[:n_visits], theta[:n_visits]) * correlations[apart])


def random_intercept(theta: Array, n_visits: int) -> Array:
    """Return the covariance (v, v) of the variances between (it may be negative) and within people."""
    return np.asarray(theta[0] + theta[1] * np.eye(n_visits))


COVARIANCES: dict[Structure, Callable[[Array, int], Array]] = {
    "unstructured": unstructured,
    "shrunk_unstructured": unstructured,  # what draws it together is of the likelihood
    "toeplitz": toeplitz,
    "random_intercept": random_intercept,
}


def matrices(form: Form, theta: Array) -> Array:
    """Return the covariance over visits of everybody (1, v, v), or of each arm (a, v, v)."""
    parameters = _common(form, theta)
    if form.structure == "toeplitz":
        common = toeplitz(parameters, form.n_visits)
    else:
        linear = _linear_slopes(form.structure, len(parameters), form.n_visits)
        common = (parameters @ linear.reshape(len(parameters), -1)).reshape(linear.shape[1:])
    if not form.ratios:
        return np.asarray(common[None])
    spread = _spread(form, theta)
    return np.asarray(common * spread[:, :, None] * spread[:, None, :])


def slopes(form: Form, theta: Array) -> Array:
    """Return the derivatives (a, k, v, v) of `matrices` by the parameters."""
    common = _common_slopes(form, _common(form, theta))
    if not form.ratios:
        return np.asarray(common[None])
    spread = _spread(form, theta)
    scaled = common * spread[:, None, :, None] * spread[:, None, None, :]
    whole, at = matrices(form, theta), np.eye(form.n_visits)[list(form.ratios)]
    # d (D S D) / d r(v) = side (E_v DSD + DSD E_v)
    by_ratio = np.einsum("jv,avw->ajvw", at, whole) + np.einsum("avw,jw->ajvw", whole, at)
    of_arms = [side[:, None, None, None] * by_ratio for side in form.sides.T]
    return np.concatenate([scaled, *of_arms], axis=1)


def bend(form: Form, theta: Array, gradient: Array) -> Array:
    """Return (k, k): second derivatives of `matrices` times the gradient (a, v, v) by these."""
    if form.is_linear:
        return np.zeros((len(theta), len(theta)))
    rows = [
        (slopes(form, theta + step) - slopes(form, theta - step)) / (2 * SMALL)
        for step in SMALL * np.eye(len(theta))
    ]
    bent = np.einsum("jakvw,avw->jk", np.stack(rows), gradient)
    return np.asarray(bent + bent.T) / 2


def start(form: Form, rough: Array) -> Array:
    """Return parameters near a rough covariance (v, v), inside the space of valid ones."""
    sds = np.sqrt(np.diag(rough))
    mean = float(np.mean(sds**2))
    common = rough[np.tril_indices(form.n_visits)]
    if form.structure == "random_intercept":
        common = np.array([0.3 * mean, 0.7 * mean])
    elif form.structure == "toeplitz":
        common = np.concatenate([sds, 0.3 ** np.arange(1, form.n_visits)])
    return np.concatenate([common, np.zeros(form.n_ratios)])


def _common(form: Form, theta: Array) -> Array:
    return theta[: len(theta) - form.n_ratios]


def _spread(form: Form, theta: Array) -> Array:
    """(n_arms, v): SD of an arm over the geometric mean of all."""
    ratio = np.zeros((form.n_arms - 1, form.n_visits))
    ratio[:, list(form.ratios)] = theta[len(theta) - form.n_ratios :].reshape(len(ratio), -1)
    return np.asarray(np.exp(form.sides @ ratio))


def _common_slopes(form: Form, theta: Array) -> Array:
    if form.structure == "toeplitz":
        return _differences(form.structure, theta, form.n_visits)
    return _linear_slopes(form.structure, len(theta), form.n_visits)


@cache
def _linear_slopes(structure: Structure, n_parameters: int, n_visits: int) -> Array:
    return _differences(structure, np.zeros(n_parameters), n_visits)


def _differences(structure: Structure, theta: Array, n_visits: int) -> Array:
    """Differences over a whole unit are exact: no entry is more than quadratic in any one parameter."""
    covariance = COVARIANCES[structure]
    return np.stack(
        [
            (covariance(theta + unit, n_visits) - covariance(theta - unit, n_visits)) / 2
            for unit in np.eye(len(theta))
        ]
    )
