"""REML, Kenward-Roger and conditional means by another path: dense matrices over all values, brute force.

Shares no code with reconfmri.group: the restricted likelihood is maximised by BFGS over its own parameters,
derivatives of the covariance are differences, and every quantity is a product of whole matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Array = NDArray[np.float64]


def unstructured(parameters: Array, n_visits: int) -> Array:
    """Covariance of a Cholesky factor whose diagonal is on the log scale."""
    factor = np.zeros((n_visits, n_visits))
    factor[np.tril_indices(n_visits)] = parameters
    np.fill_diagonal(factor, np.exp(np.diag(factor)))
    return factor @ factor.T


def toeplitz(parameters: Array, n_visits: int) -> Array:
    """An SD per visit on the log scale, a correlation per distance on Fisher's."""
    correlations = np.concatenate([[1.0], np.tanh(parameters[n_visits:])])
    apart = np.abs(np.subtract.outer(range(n_visits), range(n_visits)))
    sds = np.exp(parameters[:n_visits])
    return np.outer(sds, sds) * correlations[apart]


def random_intercept(parameters: Array, n_visits: int) -> Array:
    """One SD on the log scale, one correlation on Fisher's."""
    return np.exp(2 * parameters[0]) * (
        np.tanh(parameters[1]) + (1 - np.tanh(parameters[1])) * np.eye(n_visits)
    )


STRUCTURES: dict[str, Callable[[Array, int], Array]] = {
    "unstructured": unstructured,
    "toeplitz": toeplitz,
    "random_intercept": random_intercept,
}


@dataclass(frozen=True)
class Dense:
    """All values (N,) in a row, the design (N, p), and person and visit of each; `known`: their variances."""

    y: Array
    x: Array
    person: NDArray[np.intp]
    visit: NDArray[np.intp]
    n_visits: int
    known: Array

    def covariance(self, over_visits: Array) -> Array:
        """(N, N): of values of one person by visit, zero between people."""
        same = self.person[:, None] == self.person[None, :]
        return np.where(same, over_visits[np.ix_(self.visit, self.visit)], 0.0) + np.diag(self.known)

    def minus_log_likelihood(self, over_visits: Array) -> float:
        """Restricted, without constants; huge where the covariance is none."""
        if np.linalg.eigvalsh(over_visits)[0] <= 0:
            return 1e10
        v = self.covariance(over_visits)
        weighted = np.linalg.solve(v, np.column_stack([self.x, self.y]))
        information = self.x.T @ weighted[:, :-1]
        residuals = self.y - self.x @ np.linalg.solve(information, self.x.T @ weighted[:, -1])
        return 0.5 * float(
            np.linalg.slogdet(v)[1]
            + np.linalg.slogdet(information)[1]
            + residuals @ np.linalg.solve(v, residuals)
        )


def stack(values: Array, design: Array, known_se: Array | None = None) -> Dense:
    """The seen values (n, v) and their design (n, v, p)."""
    person, visit = np.nonzero(~np.isnan(values))
    known = np.zeros(person.size) if known_se is None else known_se[person, visit] ** 2
    return Dense(values[person, visit], design[person, visit], person, visit, values.shape[1], known)


def fit(data: Dense, structure: str) -> Array:
    """The covariance over visits (v, v) at the highest restricted likelihood."""
    make, v = STRUCTURES[structure], data.n_visits
    away = data.y - data.x @ np.linalg.lstsq(data.x, data.y)[0]
    log_sds = np.log([away[data.visit == visit].std() for visit in range(v)])
    starts = {
        "unstructured": np.diag(log_sds)[np.tril_indices(v)],
        "toeplitz": np.concatenate([log_sds, 0.3 ** np.arange(1, v)]),
        "random_intercept": np.array([log_sds.mean(), 0.3]),
    }
    best = optimize.minimize(
        lambda parameters: data.minus_log_likelihood(make(parameters, v)),
        starts[structure],
        method="BFGS",
        options={"gtol": 1e-6},
    )
    return make(best.x, v)


def directions(structure: str, over_visits: Array) -> list[Array]:
    """The derivatives (v, v) of the covariance by the parameters that the engine has."""
    v = len(over_visits)
    units = np.eye(v)
    if structure == "random_intercept":
        return [np.ones((v, v)), units]
    if structure == "unstructured":
        pairs = [(row, column) for row in range(v) for column in range(row + 1)]
        return [np.clip(np.outer(units[i], units[j]) + np.outer(units[j], units[i]), 0, 1) for i, j in pairs]
    sds = np.sqrt(np.diag(over_visits))
    correlation = over_visits / np.outer(sds, sds)
    apart = np.abs(np.subtract.outer(range(v), range(v)))
    by_sd = [correlation * (np.outer(units[i], sds) + np.outer(sds, units[i])) for i in range(v)]
    return by_sd + [np.outer(sds, sds) * (apart == distance) for distance in range(1, v)]


def in_its_parameters(structure: str, over_visits: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Where the covariance lies in the engine's parameters, of `directions`, and the covariance of others."""
    v = len(over_visits)
    if structure == "toeplitz":
        sds, apart = np.sqrt(np.diag(over_visits)), np.abs(np.subtract.outer(range(v), range(v)))
        here = np.concatenate([sds, (over_visits / np.outer(sds, sds))[0, 1:]])

        def make(theta: Array) -> Array:
            return np.outer(theta[:v], theta[:v]) * np.append(1.0, theta[v:])[apart]

        return here, make
    steps = np.array(directions(structure, over_visits))
    here = np.linalg.lstsq(steps.reshape(len(steps), -1).T, over_visits.ravel())[0]
    return here, lambda theta: np.tensordot(theta, steps, axes=1)


def observed_information(data: Dense, structure: str, over_visits: Array) -> Array:
    """Second differences of the restricted likelihood by the engine's parameters."""
    here, make = in_its_parameters(structure, over_visits)
    steps = 1e-3 * np.maximum(np.abs(here), 0.05 * np.abs(here).max()) * np.eye(len(here))

    def height(moved: Array) -> float:
        return data.minus_log_likelihood(make(here + moved))

    return np.array(
        [
            [
                (height(a + b) - height(a - b) - height(b - a) + height(-a - b)) / (4 * a.sum() * b.sum())
                for b in steps
            ]
            for a in steps
        ]
    )


@dataclass(frozen=True)
class Answer:
    """Estimate, standard errors plain and by Kenward and Roger, degrees of freedom."""

    estimate: float
    plain_se: float
    se: float
    df: float


def infer(
    data: Dense, structure: str, weights: Array, over_visits: Array, information: str = "expected"
) -> Answer:
    """The answer of `weights` (p,) of the coefficients at the best `over_visits`."""
    v = data.covariance(over_visits)
    inverse, nothing = np.linalg.inv(v), np.zeros(len(v))
    phi = np.linalg.inv(data.x.T @ inverse @ data.x)
    beta = phi @ data.x.T @ inverse @ data.y
    projection = inverse - inverse @ data.x @ phi @ data.x.T @ inverse
    slopes = [
        Dense(data.y, data.x, data.person, data.visit, data.n_visits, nothing).covariance(direction)
        for direction in directions(structure, over_visits)
    ]
    moved = [projection @ slope for slope in slopes]
    expected = 0.5 * np.array([[np.sum(a * b.T) for b in moved] for a in moved])
    observed = information == "observed"
    spread = np.linalg.inv(observed_information(data, structure, over_visits) if observed else expected)
    weighted = [data.x.T @ inverse @ slope @ inverse for slope in slopes]
    p = [-part @ data.x for part in weighted]
    bias = np.zeros_like(phi)
    for i, first in enumerate(weighted):
        for j, other in enumerate(slopes):
            q = first @ other @ inverse @ data.x
            bias += spread[i, j] * (q - p[i] @ phi @ p[j])
    adjusted = phi + 2 * phi @ bias @ phi
    plain = float(weights @ phi @ weights)
    gradient = np.array([-weights @ phi @ part @ phi @ weights for part in p])
    df = 2 * plain**2 / float(gradient @ spread @ gradient)
    return Answer(float(weights @ beta), plain**0.5, float(weights @ adjusted @ weights) ** 0.5, df)


def fill(values: Array, means: Array, over_visits: Array) -> Array:
    """`values` (n, v) with every gap filled by its mean given the person's seen values, one by one."""
    filled = values.copy()
    for person, row in enumerate(values):
        gone, there = np.isnan(row), ~np.isnan(row)
        slope = over_visits[np.ix_(gone, there)] @ np.linalg.inv(over_visits[np.ix_(there, there)])
        filled[person, gone] = means[person, gone] + slope @ (row - means[person])[there]
    return filled
