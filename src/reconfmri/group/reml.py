"""Restricted maximum likelihood for repeated measures with Kenward and Roger's standard errors, dense.

For person i, y_i = X_i b + e_i with e_i ~ Normal(0, S) over all visits, S that of everybody or of the arm. A
visit that was missed is left out of that person's likelihood; nobody is dropped. Scoring as in Jennrich &
Schluchter, Biometrics 1986;42:805, inference as in Kenward & Roger, Biometrics 1997;53:983, whose letters
(phi, P, Q) are kept, with observed or expected information about S. Their term of second derivatives (R) is
zero where S is linear in its parameters and left out elsewhere, so that standard errors do not depend on how
a covariance is parametrised. People who missed the same visits share an inverse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from reconfmri.choices import check_choice
from reconfmri.group import covariances
from reconfmri.group.covariances import Form, Structure, status_of
from reconfmri.group.estimands import Array, Contrast, NotEstimableError

Information = Literal["observed", "expected"]
STEPS, HALVINGS = 60, 12
TOLERANCE = 1e-12  # what one more step would add to the restricted log likelihood
MAX_CONDITION = 1e10
SINGULAR = 1e-5  # smallest eigenvalue of the correlations over visits; below it the likelihood has no top
# People whose worth a shrunk covariance gives to compound symmetry with an SD per visit. By simulation: two
# are enough where visits are many and people few, four change nothing (docs/calibration.md).
WORTH = 2.0


@dataclass(frozen=True)
class Rows:
    """Values (n, v) and design (n, v, p) of n people, zero where not seen, who are of g groups.

    A group shares the visits `seen` (g, v), the variances `known` (g, v) and the `arm` (g,) whose covariance
    it has. `of` (n,) is the group of a person, `counts` (g,) how many it has, or how many are expected.
    """

    values: Array
    design: Array
    of: NDArray[np.intp]
    counts: Array
    seen: NDArray[np.bool_]
    known: Array
    arm: NDArray[np.intp]

    def by_group(self, squares: Array) -> Array:
        """Return the sums over the people of each group, (g, ...), of (n, ...)."""
        members = (self.of == np.arange(len(self.counts))[:, None]).astype(np.float64)
        return np.asarray((members @ squares.reshape(len(squares), -1)).reshape(-1, *squares.shape[1:]))


@dataclass(frozen=True)
class Pull:
    """A scatter matrix (v, v) that `worth` people without coefficients add to the likelihood."""

    worth: float
    scatter: Array


@dataclass(frozen=True)
class Moments:
    """The restricted likelihood and its derivatives at one covariance: p coefficients, k parameters."""

    log_likelihood: float
    beta: Array  # (p,)
    phi: Array  # (p, p), inverse of the coefficients' information
    p: Array  # (k, p, p)
    score: Array  # (k,)
    expected: Array  # (k, k), information about the parameters
    observed: Array  # (k, k)
    precision: Array  # (g, v, v), zero at visits not seen
    weighted: Array  # (n, v, p), precision times design
    slopes: Array  # (a, k, v, v)


@dataclass(frozen=True)
class RemlFit:
    """A converged fit. `covariances` (a, v, v) over visits, of everybody or of each arm, in squared units."""

    rows: Rows
    moments: Moments
    covariances: Array
    scale: float
    structure: Structure  # what the status of an estimate names
    information: Information = "observed"

    @property
    def beta(self) -> Array:
        """(p,): the coefficients."""
        return np.asarray(self.moments.beta * self.scale)

    @property
    def status(self) -> str:
        """The status of an answer from this fit."""
        return status_of(self.structure, by_arm=len(self.covariances) > 1)

    @property
    def covariance(self) -> Array:
        """(v, v): the covariance over visits; where each arm has its own, the geometric mean of their SDs."""
        spread = np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))
        sds = np.exp(np.log(spread).mean(axis=0))
        return np.asarray(self.covariances[0] / np.outer(spread[0], spread[0]) * np.outer(sds, sds))

    def of_people(self, arm: NDArray[np.intp] | NDArray[np.bool_]) -> Array:
        """Return each person's covariance over visits, (n, v, v)."""
        place = arm.astype(np.intp)
        return np.asarray(self.covariances[place if len(self.covariances) > 1 else 0 * place])

    @cached_property
    def spread(self) -> Array:
        """(k, k): covariance of the parameters of the covariance over visits."""
        m = self.moments
        return np.asarray(np.linalg.inv(m.observed if self.information == "observed" else m.expected))

    @cached_property
    def adjusted(self) -> Array:
        """(p, p): Kenward and Roger's covariance of the coefficients, in units of `scale`."""
        m, spread = self.moments, self.spread
        k, n_coefficients, _ = m.p.shape
        # sum_ij spread_ij Q_ij = X' K (sum_i S_i K T_i) K X with T_i = sum_j spread_ij S_j
        middle = np.empty_like(m.precision)
        for arm, slopes in enumerate(m.slopes):
            there = self.rows.arm == arm
            turned = np.tensordot(spread, slopes, axes=1)
            middle[there] = (slopes[:, None] @ m.precision[there] @ turned[:, None]).sum(axis=0)
        q = _gram(m.weighted, middle[self.rows.of] @ m.weighted)
        spread_p = (spread @ m.p.reshape(k, -1)).reshape(k, n_coefficients, n_coefficients)
        bias = q - ((m.p @ m.phi) @ spread_p).sum(axis=0)
        return np.asarray(m.phi + m.phi @ (bias + bias.T) @ m.phi)

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
        towards = self.moments.phi @ weights
        along = self.moments.p @ towards @ towards
        with np.errstate(all="ignore"):
            df = 2 * plain**4 / float(along @ self.spread @ along)
        variance = float(weights @ self.adjusted @ weights)
        if not (np.isfinite([variance, df]).all() and variance > 0 and df > 0):
            raise NotEstimableError("no standard error can be formed")
        return Contrast(float(weights @ self.beta), self.scale * variance**0.5, df)

    def plain_se(self, weights: Array) -> float:
        """Return the standard error that takes the covariance over visits as known: too small."""
        return self.scale * math.sqrt(float(weights @ self.moments.phi @ weights))


def fit_reml(
    values: Array,
    design: Array,
    structure: Structure,
    *,
    known_se: Array | None = None,
    arm: NDArray[np.intp] | NDArray[np.bool_] | None = None,
    information: Information = "observed",
) -> RemlFit:
    """Return the fit of `values` (n, v), NaN where missing, by `design` (n, v, p).

    `known_se` (n, v) are standard errors that every value has of its own; the covariance over visits is then
    that of the values without them. `arm` (n,): each arm has SDs of its own where all were seen.

    Raises
    ------
    NotEstimableError
        The data do not determine every coefficient and every parameter of the covariance.
    """
    check_choice("structure", structure, get_args(Structure))
    check_choice("information", information, get_args(Information))
    seen = ~np.isnan(values)
    scale = float(np.std(values[seen])) if seen.any() else 0.0
    if not scale > 0:
        raise NotEstimableError("the values do not vary")
    known = np.zeros(values.shape) if known_se is None else np.where(seen, known_se, 0.0) ** 2 / scale**2
    ratios = _visits_with_ratio(seen, arm)
    rows = group_rows(values / scale, design, known, arm if ratios else None)
    flat = rows.design.reshape(-1, design.shape[2])
    if seen.sum() <= design.shape[2] or np.linalg.matrix_rank(flat) < design.shape[2]:
        raise NotEstimableError("the data do not determine every coefficient of the model")
    form = Form(structure, values.shape[1], ratios, 1 + int(arm.max()) if ratios and arm is not None else 2)
    rough = _rough_covariance(rows)
    pull = Pull(WORTH, WORTH * rough) if structure == "shrunk_unstructured" else None
    found = _climb(rows, form, covariances.start(form, rough), pull)
    if found is None:
        reason = f"REML with {structure.replace('_', ' ')} covariance did not converge"
        raise NotEstimableError(reason, fix="group.covariance: auto or random_intercept")
    moments, matrices = found
    return RemlFit(rows, moments, matrices * scale**2, scale, structure, information)


def _visits_with_ratio(
    seen: NDArray[np.bool_], arm: NDArray[np.intp] | NDArray[np.bool_] | None
) -> tuple[int, ...]:
    """Return the visits at which every arm has the three people who make an SD of their own."""
    if arm is None:
        return ()
    people = [seen[arm == one].sum(axis=0) for one in range(1 + int(arm.max()))]
    fewest = np.min(people, axis=0)
    return tuple(np.flatnonzero((fewest > 2) & (len(people) > 1)).tolist())


def _climb(rows: Rows, form: Form, theta: Array, pull: Pull | None) -> tuple[Moments, Array] | None:
    """Return the moments at the highest likelihood and the covariances there; None without a highest one.

    Steps are Newton's where the observed information is far enough from singular, else Fisher's.
    """
    moments = moments_at(rows, form, theta, pull)
    for _ in range(STEPS):
        # beside known variances the rest may be singular, or less
        lost = not rows.known.any() and _is_singular(form, theta)
        if moments is None or lost or (step := _step(moments)) is None:
            return None
        if abs(float(step @ moments.score)) < TOLERANCE:
            matrices = covariances.matrices(form, theta)
            sound = _determined(matrices) and _determined(moments.observed) and _determined(moments.expected)
            return (moments, matrices) if sound else None
        for halving in range(HALVINGS):
            there = moments_at(rows, form, theta + step * 0.5**halving, pull)
            if there is not None and there.log_likelihood >= moments.log_likelihood - TOLERANCE:
                theta, moments = theta + step * 0.5**halving, there
                break
        else:
            return None
    return None


def _is_singular(form: Form, theta: Array) -> bool:
    covariance = covariances.matrices(form, theta)[0]
    sds = np.sqrt(np.diag(covariance))
    return bool(np.linalg.eigvalsh(covariance / np.outer(sds, sds))[0] < SINGULAR)


def _step(moments: Moments) -> Array | None:
    for information, floor in ((moments.observed, 0.1), (moments.expected, 0.0)):
        try:
            np.linalg.cholesky(information - floor * moments.expected)
            return np.asarray(np.linalg.solve(information, moments.score))
        except np.linalg.LinAlgError:
            continue
    return None


def _determined(matrices: Array) -> bool:
    return bool(np.isfinite(matrices).all() and np.max(np.linalg.cond(matrices)) < MAX_CONDITION)


def group_rows(
    values: Array,
    design: Array,
    known: Array,
    arm: NDArray[np.intp] | NDArray[np.bool_] | None = None,
) -> Rows:
    """Return people by visits seen, known variances and, where it is given, `arm` (n,)."""
    seen = ~np.isnan(values)
    place = np.zeros(len(values), dtype=np.intp) if arm is None else arm.astype(np.intp)
    keys = np.column_stack([place, seen, known])
    _, first, of = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    shown = np.where(seen, values, 0.0), np.where(seen[:, :, None], design, 0.0)
    counts = np.bincount(of.ravel()).astype(np.float64)
    return Rows(*shown, of.ravel(), counts, seen[first], known[first], place[first])


def _rough_covariance(rows: Rows) -> Array:
    """Return the residual variances of least squares and their mean correlation at all visits, (v, v)."""
    n_coefficients = rows.design.shape[2]
    beta = np.linalg.lstsq(rows.design.reshape(-1, n_coefficients), rows.values.ravel())[0]
    seen = rows.seen[rows.of].astype(np.float64)
    residuals = (rows.values - rows.design @ beta) * seen
    whole = (residuals**2).sum() / seen.sum()
    left = max(1 - n_coefficients / seen.sum(), 0.1)
    variances = ((residuals**2).sum(axis=0) + whole) / (seen.sum(axis=0) * left + 1)
    z = residuals / np.sqrt(variances)
    apart = ~np.eye(len(variances), dtype=bool)
    pairs = max(float((seen.T @ seen)[apart].sum()) * left, 1.0)
    lowest = -0.5 / max(len(variances) - 1, 1)
    correlation = float(np.clip((z.T @ z)[apart].sum() / pairs, lowest, 0.95))
    return np.asarray(np.sqrt(np.outer(variances, variances)) * np.where(apart, correlation, 1.0))


def moments_at(rows: Rows, form: Form, theta: Array, pull: Pull | None = None) -> Moments | None:
    """Return the likelihood and its derivatives, None where a matrix is singular or not positive definite."""
    try:
        return _moments(rows, form, theta, pull)
    except np.linalg.LinAlgError:
        return None


def _moments(rows: Rows, form: Form, theta: Array, pull: Pull | None) -> Moments:
    matrices, slopes = covariances.matrices(form, theta), covariances.slopes(form, theta)
    precision, log_determinants = group_precisions(rows.seen, matrices[rows.arm], rows.known)
    weighted = precision[rows.of] @ rows.design
    information = _gram(rows.design, weighted)
    root = np.linalg.cholesky(information)
    phi = np.asarray(np.linalg.inv(information), dtype=np.float64)
    beta = phi @ _gram(weighted, rows.values[:, :, None])[:, 0]
    residuals = rows.values - rows.design @ beta
    kr = precision[rows.of] @ residuals[:, :, None]  # (n, v, 1)
    likelihood = -0.5 * (float(rows.counts @ log_determinants) + float((residuals * kr[:, :, 0]).sum()))
    likelihood -= float(np.log(np.diagonal(root)).sum())
    sums = _Sums(
        precision,
        rows.counts[:, None, None] * precision,
        rows.by_group((weighted @ phi) @ weighted.transpose(0, 2, 1)),
        rows.by_group(kr @ kr.transpose(0, 2, 1)),
    )
    k, n_coefficients = len(theta), len(beta)
    p, cross = np.zeros((k, n_coefficients, n_coefficients)), np.zeros((k, n_coefficients))
    expected, observed, gradients = np.zeros((k, k)), np.zeros((k, k)), np.zeros(matrices.shape)
    for arm, slope in enumerate(slopes):
        there = rows.arm == arm
        people, of_arm = there[rows.of], _Sums(*(part[there] for part in sums))
        if pull is not None:
            of_arm, height = _pulled(of_arm, matrices[arm], pull)
            likelihood += height
        p -= _tangents(slope, weighted[people], weighted[people])
        cross += _tangents(slope, kr[people], weighted[people])[:, 0]
        gradients[arm] = of_arm.gradient
        expected += 0.5 * _twice(slope, of_arm.precision, of_arm.counted - 2 * of_arm.design)
        halved = of_arm.residuals + of_arm.design - of_arm.counted / 2
        observed += _twice(slope, of_arm.precision, halved)
    phi_p = phi @ p
    third = 0.5 * phi_p.reshape(k, -1) @ phi_p.transpose(0, 2, 1).reshape(k, -1).T
    observed -= third + cross @ phi @ cross.T + covariances.bend(form, theta, gradients)
    score = (slopes * gradients[:, None]).sum(axis=(0, 2, 3))
    curvature = expected + third, (observed + observed.T) / 2
    return Moments(likelihood, beta, phi, p, score, *curvature, precision, weighted, slopes)


class _Sums(NamedTuple):
    """Sums over the people of every group, (g, v, v) each, with K the precision of the group."""

    precision: Array  # K
    counted: Array  # K, once per person
    design: Array  # K X phi X' K
    residuals: Array  # K r r' K

    @property
    def gradient(self) -> Array:
        """(v, v): of the restricted likelihood by the covariance."""
        return np.asarray(0.5 * (self.residuals + self.design - self.counted).sum(axis=0))


def _pulled(sums: _Sums, matrix: Array, pull: Pull) -> tuple[_Sums, float]:
    """Return the sums of an arm with a pull as one more group, and what it adds to the likelihood."""
    precision = np.linalg.inv(matrix)
    scatter = precision @ pull.scatter @ precision
    group = precision, pull.worth * precision, np.zeros_like(precision), scatter
    height = -0.5 * (pull.worth * np.linalg.slogdet(matrix)[1] + float((precision * pull.scatter).sum()))
    return _Sums(*(np.concatenate([part, one[None]]) for part, one in zip(sums, group, strict=True))), height


def _gram(left: Array, right: Array) -> Array:
    """Return sum_nv left[n, v, p] right[n, v, q]."""
    return np.asarray(left.reshape(-1, left.shape[2]).T @ right.reshape(-1, right.shape[2]))


def _tangents(slopes: Array, left: Array, right: Array) -> Array:
    """Return (k, p, q): sum_n left_n' S_k right_n, with left (n, v, p), right (n, v, q) and S_k (k, v, v)."""
    n, n_visits = left.shape[:2]
    outer = left.reshape(n, -1).T @ right.reshape(n, -1)
    outer = outer.reshape(n_visits, left.shape[2], n_visits, right.shape[2]).transpose(0, 2, 1, 3)
    found = slopes.reshape(len(slopes), -1) @ outer.reshape(n_visits**2, -1)
    return np.asarray(found.reshape(-1, left.shape[2], right.shape[2]))


def _twice(slopes: Array, left: Array, right: Array) -> Array:
    """Return (k, k): sum_g tr(S_i left_g S_j right_g), with symmetric (g, v, v) each."""
    k = len(slopes)
    one, other = slopes[:, None] @ left, right @ slopes[:, None]
    return np.asarray(one.reshape(k, -1) @ other.reshape(k, -1).T)


def group_precisions(
    seen: NDArray[np.bool_], covariance: Array, known: Array | float = 0.0
) -> tuple[Array, Array]:
    """Return inverse covariances (g, v, v), zero at visits not seen, and their log determinants (g,).

    `seen` (g, v), `covariance` (v, v) or (g, v, v), `known` variances (g, v) on top of its diagonal.

    Raises
    ------
    LinAlgError
        A covariance is not positive definite.
    """
    both = seen[:, :, None] & seen[:, None, :]
    diagonal = np.where(seen, known, 1.0)[:, :, None] * np.eye(seen.shape[1])
    whole = np.where(both, covariance, 0.0) + diagonal
    roots = np.linalg.cholesky(whole)
    log_determinants = 2 * np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
    return np.where(both, np.linalg.inv(whole), 0.0), log_determinants
