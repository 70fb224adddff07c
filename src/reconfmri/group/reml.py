"""Restricted maximum likelihood for repeated measures with Kenward and Roger's standard errors, dense.

For person i, y_i = X_i b + e_i with e_i ~ Normal(0, S) over all visits. A visit that was missed is left out
of that person's likelihood; nobody is dropped. Scoring as in Jennrich & Schluchter, Biometrics 1986;42:805,
inference as in Kenward & Roger, Biometrics 1997;53:983, whose letters (phi, P, Q) are kept. Their term of
second derivatives (R) is zero where S is linear in its parameters and left out elsewhere, so that standard
errors do not depend on how a covariance is parametrised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reconfmri.group.estimands import Array, Contrast, NotEstimableError

Structure = Literal["unstructured", "toeplitz", "random_intercept"]
STEPS, HALVINGS = 1000, 30
TOLERANCE = 1e-10  # what one more step would add to the restricted log likelihood
MAX_CONDITION = 1e10


@dataclass(frozen=True)
class Data:
    """Values (n, v) and design (n, v, p), zero where not `seen` (n, v)."""

    values: Array
    design: Array
    seen: NDArray[np.bool_]
    known: Array | float = 0.0  # (n, v), variances of the values that are known already


@dataclass(frozen=True)
class Moments:
    """The restricted likelihood and its derivatives at one covariance: p coefficients, k parameters."""

    log_likelihood: float
    beta: Array  # (p,)
    phi: Array  # (p, p), inverse of the coefficients' information
    p: Array  # (k, p, p)
    q: Array  # (k, k, p, p)
    score: Array  # (k,)
    information: Array  # (k, k), expected


@dataclass(frozen=True)
class RemlFit:
    """A converged fit: coefficients (p,) and covariance over visits (v, v), both in units of the values."""

    moments: Moments
    covariance: Array
    scale: float

    @property
    def beta(self) -> Array:
        """(p,): the coefficients."""
        return np.asarray(self.moments.beta * self.scale)

    @cached_property
    def spread(self) -> Array:
        """(k, k): covariance of the parameters of the covariance over visits."""
        return np.asarray(np.linalg.inv(self.moments.information))

    @cached_property
    def adjusted(self) -> Array:
        """(p, p): Kenward and Roger's covariance of the coefficients, in units of `scale`."""
        m = self.moments
        between = np.einsum("ipq,qr,jrs->ijps", m.p, m.phi, m.p)
        bias = np.einsum("ij,ijpq->pq", self.spread, m.q - between)
        return np.asarray(m.phi + 2 * m.phi @ bias @ m.phi)

    def infer(self, weights: Array) -> Contrast:
        """Return estimate, standard error and degrees of freedom of `weights` (p,) of the coefficients.

        For a single row of weights Kenward and Roger's scale is 1 and their degrees of freedom are those of
        Satterthwaite with the unadjusted covariance.

        Raises
        ------
        NotEstimableError
            The adjusted variance is not a positive number.
        """
        plain = self.plain_se(weights) / self.scale
        slopes = np.einsum(
            "p,ipq,q->i", self.moments.phi @ weights, self.moments.p, self.moments.phi @ weights
        )
        with np.errstate(all="ignore"):
            df = 2 * plain**4 / float(slopes @ self.spread @ slopes)
        variance = float(weights @ self.adjusted @ weights)
        if not (np.isfinite([variance, df]).all() and variance > 0 and df > 0):
            raise NotEstimableError("no standard error can be formed")
        return Contrast(float(weights @ self.beta), self.scale * variance**0.5, df)

    def plain_se(self, weights: Array) -> float:
        """Return the standard error that takes the covariance over visits as known: too small."""
        return self.scale * math.sqrt(float(weights @ self.moments.phi @ weights))


def fit_reml(values: Array, design: Array, structure: Structure, *, known_se: Array | None = None) -> RemlFit:
    """Return the fit of `values` (n, v), NaN where missing, by `design` (n, v, p).

    `known_se` (n, v) are standard errors that every value has of its own; the covariance over visits is then
    that of the values without them.

    Raises
    ------
    NotEstimableError
        The data do not determine every coefficient and every parameter of the covariance.
    """
    seen = ~np.isnan(values)
    scale = float(np.std(values[seen])) if seen.any() else 0.0
    if not scale > 0:
        raise NotEstimableError("the values do not vary")
    known = 0.0 if known_se is None else np.where(seen, known_se, 0.0) ** 2 / scale**2
    data = Data(np.where(seen, values, 0.0) / scale, np.where(seen[:, :, None], design, 0.0), seen, known)
    flat = data.design.reshape(-1, design.shape[2])
    if np.linalg.matrix_rank(flat) < design.shape[2] or seen.sum() <= design.shape[2]:
        raise NotEstimableError("the data do not determine every coefficient of the model")
    n_visits = values.shape[1]
    theta = _start(structure, _rough_covariance(data))
    moments = _at(data, structure, theta)
    reason = f"REML with {structure.replace('_', ' ')} covariance did not converge"
    for _ in range(STEPS):
        if moments is None or not _determined(moments.information):
            break
        step = np.linalg.solve(moments.information, moments.score)
        if abs(float(step @ moments.score)) < TOLERANCE:
            covariance = COVARIANCES[structure](theta, n_visits)
            if np.linalg.cond(covariance) > MAX_CONDITION:
                break
            return RemlFit(moments, covariance * scale**2, scale)
        for halving in range(HALVINGS):
            there = _at(data, structure, theta + step * 0.5**halving)
            if there is not None and there.log_likelihood >= moments.log_likelihood - TOLERANCE:
                theta, moments = theta + step * 0.5**halving, there
                break
        else:
            break
    raise NotEstimableError(reason, mend="group.covariance: auto or random_intercept")


def _determined(information: Array) -> bool:
    return bool(np.isfinite(information).all() and np.linalg.cond(information) < MAX_CONDITION)


def _at(data: Data, structure: Structure, theta: Array) -> Moments | None:
    n_visits = data.values.shape[1]
    covariance = COVARIANCES[structure](theta, n_visits)
    return _moments(data, covariance, _slopes(structure, theta, n_visits))


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
    "toeplitz": toeplitz,
    "random_intercept": random_intercept,
}


def _start(structure: Structure, rough: Array) -> Array:
    """Return parameters near a rough covariance (v, v), inside the space of valid ones."""
    n_visits = len(rough)
    sds = np.sqrt(np.diag(rough))
    if structure == "unstructured":
        return np.asarray(rough[np.tril_indices(n_visits)])
    mean = float(np.mean(sds**2))
    if structure == "random_intercept":
        return np.array([0.3 * mean, 0.7 * mean])
    return np.concatenate([sds, 0.3 ** np.arange(1, n_visits)])


def _rough_covariance(data: Data) -> Array:
    """Return the residual variances of least squares, and correlations of .3, (v, v)."""
    flat = data.design.reshape(-1, data.design.shape[2])
    beta = np.linalg.lstsq(flat, data.values.ravel())[0]
    squares = np.where(data.seen, data.values - data.design @ beta, 0.0) ** 2
    whole = squares.sum() / data.seen.sum()
    sds = np.sqrt((squares.sum(axis=0) + whole) / (data.seen.sum(axis=0) + 1))
    return np.asarray(np.outer(sds, sds) * (0.3 + 0.7 * np.eye(len(sds))))


def precisions(data: Data, covariance: Array) -> tuple[Array, float]:
    """Return each person's inverse covariance (n, v, v), zero at visits not seen, and the log determinants.

    Raises
    ------
    LinAlgError
        The covariance is not positive definite.
    """
    both = data.seen[:, :, None] & data.seen[:, None, :]
    diagonal = np.where(data.seen, data.known, 1.0)[:, :, None] * np.eye(covariance.shape[0])
    whole = np.where(both, covariance, 0.0) + diagonal
    roots = np.linalg.cholesky(whole)
    log_determinant = 2 * float(np.log(np.einsum("nvv->nv", roots)).sum())
    return np.where(both, np.linalg.inv(whole), 0.0), log_determinant


def _moments(data: Data, covariance: Array, slopes: Array) -> Moments | None:
    """Return the likelihood and its derivatives, None where the covariance is not positive definite."""
    n_coefficients = data.design.shape[2]
    try:
        precision, log_determinant = precisions(data, covariance)
        kx = precision @ data.design
        phi = np.linalg.inv(np.einsum("nvp,nvq->pq", data.design, kx))
    except np.linalg.LinAlgError:
        return None
    beta = phi @ np.einsum("nvp,nv->p", kx, data.values)
    residuals = np.where(data.seen, data.values - data.design @ beta, 0.0)
    kr = np.einsum("nvw,nw->nv", precision, residuals)
    sign, log_phi = np.linalg.slogdet(phi)
    if sign <= 0:
        return None
    k = len(slopes)
    d_kx = slopes[:, None] @ kx  # (k, n, v, p)
    p = -np.einsum("nvp,knvq->kpq", kx, d_kx, optimize=True)
    k_d_kx = (precision @ d_kx).reshape(k, -1, n_coefficients)
    q = np.einsum("ixp,jxr->ijpr", d_kx.reshape(k, -1, n_coefficients), k_d_kx, optimize=True)
    kd = precision @ slopes[:, None]  # (k, n, v, v)
    traces = kd.reshape(k, -1) @ kd.transpose(0, 1, 3, 2).reshape(k, -1).T
    phi_p = phi @ p
    score = 0.5 * (
        np.einsum("nv,kvw,nw->k", kr, slopes, kr, optimize=True)
        - np.einsum("knvv->k", kd)
        - np.einsum("kpp->k", phi_p)
    )
    expected = 0.5 * (
        traces - 2 * np.einsum("pq,ijqp->ij", phi, q, optimize=True) + np.einsum("ipq,jqp->ij", phi_p, phi_p)
    )
    likelihood = -0.5 * (log_determinant - log_phi + float((residuals * kr).sum()))
    return Moments(likelihood, beta, phi, p, q, score, expected)


def _slopes(structure: Structure, theta: Array, n_visits: int) -> Array:
    """Return the derivatives (k, v, v) of the covariance."""
    if structure != "toeplitz":
        return _linear_slopes(structure, len(theta), n_visits)
    return _differences(structure, theta, n_visits)


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
