"""Generalised least squares with robust standard errors in every voxel, by row vectors that all voxels share.

For person i, y_i = X_i b + e_i with a working covariance S over visits that is the same in every voxel up to
a factor. Then an estimate is w'y and its variance sum_i (g_i'y)^2, with vectors that depend on the design
alone: CR2 of Bell & McCaffrey (Survey Methodology 2002;28:169) for weighted fits, as in Pustejovsky & Tipton
(J Bus Econ Stat 2018;36:672), with Satterthwaite's degrees of freedom under S. A visit that a person missed
is left out of that person's equations; nobody is dropped. With S the identity this is the sandwich of a
marginal model (Guillaume et al., NeuroImage 2014;94:287).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconfmri.group.estimands import Array, NotEstimableError
from reconfmri.group.reml import group_precisions

SINGULAR = 1e-12  # eigenvalues of a person's share of the residuals below it: the person fits exactly
DETERMINED = 1e-10  # smallest over largest eigenvalue of the coefficients' information
BLOCK = 1024  # voxels at a time: they and their products stay in the cache of a processor


@dataclass(frozen=True)
class RowVectors:
    """What estimates q weights of the coefficients, for d designs of n people at v visits.

    The vector g of person i has `own` at i's visits, less `shared` (p,) times `weighted` at everybody's.
    `usable`: the design determines every coefficient; df is NaN where it does not.
    """

    weighted: Array  # (d, n, v, p), precision times design
    estimate: Array  # (d, q, n, v), w
    own: Array  # (d, q, n, v)
    shared: Array  # (d, q, n, p)
    df: Array  # (d, q)
    usable: NDArray[np.bool_]  # (d,)

    def residual_vectors(self, draw: int = 0) -> Array:
        """Return (q, n, n, v): the whole vectors g, row by person."""
        n = self.own.shape[2]
        whole = -np.einsum("qip,nvp->qinv", self.shared[draw], self.weighted[draw])
        whole[:, np.arange(n), np.arange(n)] += self.own[draw]
        return np.asarray(whole)


def row_vectors(design: Array, seen: NDArray[np.bool_], covariance: Array, weights: Array) -> RowVectors:
    """Return the row vectors of `weights` (q, p) of the coefficients of designs (d, n, v, p).

    `seen` (n, v): which visits there are; `covariance` (v, v) over visits.

    Raises
    ------
    NotEstimableError
        The first design does not determine every coefficient.
    """
    precision, _ = group_precisions(seen, covariance)
    design = np.where(seen[:, :, None], design, 0.0)
    weighted = precision @ design
    information = np.einsum("dnvp,dnvq->dpq", design, weighted, optimize=True)
    spread = np.linalg.eigvalsh(information)
    usable = np.asarray(spread[:, 0] > DETERMINED * spread[:, -1])
    if not usable[0]:
        raise NotEstimableError("the scans do not determine every coefficient of the model")
    information[~usable] = np.eye(information.shape[1])
    bread = np.linalg.inv(information)
    towards = weights @ bread  # (d, q, p)
    estimate = np.einsum("dqp,dnvp->dqnv", towards, weighted, optimize=True)
    own = np.einsum("dqnv,dnvw->dqnw", estimate, _adjustments(design, seen, covariance, bread), optimize=True)
    shared = np.einsum("dqnv,dnvp->dqnp", own, design, optimize=True) @ bread[:, None]
    df = np.where(usable[:, None], _satterthwaite(own, shared, weighted, seen, covariance), np.nan)
    return RowVectors(weighted, estimate, own, shared, df, usable)


def _whole(seen: NDArray[np.bool_], covariance: Array) -> Array:
    """Return each person's covariance (n, v, v), the identity at visits that were missed."""
    both = seen[:, :, None] & seen[:, None, :]
    return np.where(both, covariance, 0.0) + np.where(seen, 0.0, 1.0)[:, :, None] * np.eye(seen.shape[1])


def _adjustments(design: Array, seen: NDArray[np.bool_], covariance: Array, bread: Array) -> Array:
    """Return CR2's A (d, n, v, v): D' (D (S - X M X') D')^(-1/2) D with S = D'D, D upper triangular."""
    whole = _whole(seen, covariance)
    lower = np.linalg.cholesky(whole)
    upper = lower.transpose(0, 2, 1)
    left = whole - (design @ bread[:, None]) @ design.transpose(0, 1, 3, 2)
    values, vectors = np.linalg.eigh(upper @ left @ lower)
    roots = np.where(values > SINGULAR, 1 / np.sqrt(np.maximum(values, SINGULAR)), 0.0)
    return np.asarray(lower @ ((vectors * roots[..., None, :]) @ vectors.transpose(0, 1, 3, 2)) @ upper)


def _satterthwaite(
    own: Array, shared: Array, weighted: Array, seen: NDArray[np.bool_], covariance: Array
) -> Array:
    """Return (tr O)^2 / tr O^2 with O_ij = g_i' S g_j, what the g_i'y have under the model."""
    n = own.shape[2]
    whole = np.where(seen[:, :, None] & seen[:, None, :], covariance, 0.0)
    alone = np.einsum("dqnv,nvw,dqnw->dqn", own, whole, own, optimize=True)
    across = np.einsum("dqiv,ivw,diwp->dqip", own, whole, weighted, optimize=True)
    around = np.einsum("dnvp,nvw,dnwr->dpr", weighted, whole, weighted, optimize=True)
    turned = shared @ np.swapaxes(across, 2, 3)
    spread = shared @ around[:, None] @ np.swapaxes(shared, 2, 3) - turned - np.swapaxes(turned, 2, 3)
    spread[:, :, np.arange(n), np.arange(n)] += alone
    with np.errstate(invalid="ignore", divide="ignore"):
        trace = np.einsum("dqii->dq", spread)
        return np.asarray(trace**2 / (spread**2).sum(axis=(2, 3)))


def estimates(rows: RowVectors, values: NDArray[np.floating[Any]], draw: int = 0) -> tuple[Array, Array]:
    """Return estimates and variances, (q, m) each, of m voxels.

    `values` (n, v, m) are zero where a person missed a visit; float32 or float64, as which they are computed.
    """
    n, v, m = values.shape
    q = rows.own.shape[1]
    kind = values.dtype
    flat = values.reshape(n * v, m)
    everybody = rows.weighted[draw].reshape(n * v, -1).T.astype(kind)  # (p, n v)
    weights = rows.estimate[draw].reshape(q, n * v).astype(kind)
    own = np.ascontiguousarray(rows.own[draw].transpose(1, 0, 2)).astype(kind)  # (n, q, v)
    shared = rows.shared[draw].transpose(1, 0, 2).reshape(n * q, -1).astype(kind)
    found: tuple[Any, Any] = np.empty((q, m), dtype=kind), np.empty((q, m), dtype=kind)
    for start in range(0, m, BLOCK):
        part = slice(start, start + BLOCK)
        block = np.ascontiguousarray(flat[:, part])
        found[0][:, part] = weights @ block
        pieces = own @ block.reshape(n, v, -1)  # (n, q, b)
        pieces -= (shared @ (everybody @ block)).reshape(pieces.shape)
        found[1][:, part] = np.einsum("nqb,nqb->qb", pieces, pieces)
    return found
