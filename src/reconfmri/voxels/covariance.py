"""One covariance over visits for all voxels, by restricted maximum likelihood of voxels that share its shape.

Each voxel has a variance of its own, y'Py / (N - p), so that no tissue has more say than another. Given these
the likelihood summed over voxels depends on the data through one matrix, the mean of y y' / s^2; its top is
found by Fisher's scoring (Jennrich & Schluchter, Biometrics 1986;42:805), variances and covariance in turn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconfmri.group import covariances
from reconfmri.group.covariances import Form, Structure
from reconfmri.group.estimands import Array, NotEstimableError
from reconfmri.group.reml import group_precisions

STEPS, HALVINGS, TOLERANCE = 100, 20, 1e-12
PASSES = 3  # over the voxels: each takes their variances from the covariance of the one before
CONSTANT = 1e-12  # residual over whole variance of a voxel, below which it does not vary
BLOCK = 8192  # voxels at a time
LADDER: tuple[Structure, ...] = ("unstructured", "random_intercept")


def pooled_covariance(
    values: NDArray[np.floating[Any]], design: Array, seen: NDArray[np.bool_]
) -> tuple[Array, Structure]:
    """Return the covariance over visits (v, v) that voxels share up to a factor, and its structure.

    `values` (n, v, m) are zero where a person missed a visit; `design` (n, v, p). The covariance is
    unstructured, or that of a random intercept where people do not determine an unstructured one.

    Raises
    ------
    NotEstimableError
        No voxel varies, or neither structure has a likelihood with a top.
    """
    design = np.where(seen[:, :, None], design, 0.0)
    for structure in LADDER:
        form = Form(structure, seen.shape[1])
        found: Array | None = np.eye(seen.shape[1])
        for _ in range(PASSES):
            if found is not None:
                found = _climb(_scatter(values, design, seen, found), design, seen, form)
        if found is not None:
            return found, structure
    raise NotEstimableError("the covariance over visits cannot be estimated from these scans")


def _scatter(
    values: NDArray[np.floating[Any]], design: Array, seen: NDArray[np.bool_], covariance: Array
) -> Array:
    """Return the mean over voxels of y y' / s^2, (n v, n v); s^2 is that of a voxel's residuals."""
    n, v, p = design.shape
    annihilator = _annihilator(design, seen, covariance)[0]
    df = seen.sum() - p
    total, count = np.zeros((n * v, n * v)), 0
    for start in range(0, values.shape[2], BLOCK):
        block = values[:, :, start : start + BLOCK].reshape(n * v, -1).astype(np.float64)
        block -= block.sum(axis=0) / seen.sum() * seen.reshape(-1, 1)  # what the visit means take away anyway
        squares = (block * (annihilator @ block)).sum(axis=0) / df
        known = squares > CONSTANT * np.maximum((block**2).sum(axis=0) / df, np.finfo(float).tiny)
        scaled = block[:, known] / np.sqrt(squares[known])
        total += scaled @ scaled.T
        count += int(known.sum())
    if not count:
        raise NotEstimableError("no voxel varies between people")
    return total / count


def _annihilator(design: Array, seen: NDArray[np.bool_], covariance: Array) -> tuple[Array, float]:
    """Return Patterson and Thompson's P (n v, n v), and log |V| + log |X' V^-1 X|.

    Raises
    ------
    LinAlgError
        The covariance is not positive definite, or the design does not determine its coefficients.
    """
    n, v, p = design.shape
    precision, log_determinants = group_precisions(seen, covariance)
    weighted = (precision @ design).reshape(n * v, p)
    information = design.reshape(n * v, p).T @ weighted
    root = np.linalg.cholesky(information)
    blocks = np.zeros((n, v, n, v))
    blocks[np.arange(n), :, np.arange(n)] = precision
    left = blocks.reshape(n * v, n * v) - weighted @ np.linalg.solve(information, weighted.T)
    return left, float(log_determinants.sum() + 2 * np.log(np.diag(root)).sum())


def _climb(scatter: Array, design: Array, seen: NDArray[np.bool_], form: Form) -> Array | None:
    theta = covariances.start(form, np.eye(form.n_visits))
    basis = covariances.slopes(form, theta)[0]  # linear in theta
    here = _moments(scatter, design, seen, form, theta, basis)
    for _ in range(STEPS):
        if here is None:
            return None
        height, score, information = here
        if np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, score)
        if float(step @ score) < TOLERANCE * max(1.0, abs(height)):
            return np.asarray(covariances.matrices(form, theta)[0])
        for halving in range(HALVINGS):
            there = _moments(scatter, design, seen, form, theta + step * 0.5**halving, basis)
            if there is not None and there[0] >= height - TOLERANCE:
                theta, here = theta + step * 0.5**halving, there
                break
        else:
            return None
    return None


def _moments(
    scatter: Array, design: Array, seen: NDArray[np.bool_], form: Form, theta: Array, basis: Array
) -> tuple[float, Array, Array] | None:
    """Return the restricted log likelihood of a voxel on average, its score and Fisher's information."""
    n, v, _ = design.shape
    try:
        whole, determinants = _annihilator(design, seen, covariances.matrices(form, theta)[0])
    except np.linalg.LinAlgError:
        return None
    height = -0.5 * (determinants + float((whole * scatter).sum()))
    gradient = 0.5 * (_of_people(whole @ scatter @ whole, n, v) - _of_people(whole, n, v)).sum(axis=0)
    pieces = whole.reshape(n, v, n, v).transpose(1, 3, 0, 2).reshape(v * v, n * n)
    products = (pieces @ pieces.T).reshape(v, v, v, v)  # sum_ij P_ij[a, b] P_ij[c, d]
    # tr(P E_k P E_l) = sum_ij tr(P_ij' E_k P_ij E_l)
    fisher = 0.5 * np.einsum("kac,ldb,abcd->kl", basis, basis, products, optimize=True)
    return height, np.einsum("kab,ab->k", basis, gradient), fisher


def _of_people(matrix: Array, n: int, v: int) -> Array:
    """Return the blocks (n, v, v) of each person with itself."""
    return np.asarray(matrix.reshape(n, v, n, v)[np.arange(n), :, np.arange(n)])
