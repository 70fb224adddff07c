"""The likelihood of the visits that were seen: Gaussian, missing visits integrated out, with its gradient.

A PyTensor operation in closed form: the same sum written with PyTensor's own operations takes ten times
longer to compile and to evaluate, because every person has another pattern of visits.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from reconfmri.group.estimands import Array


@numba_njit(final_function=True)  # type: ignore[untyped-decorator]
def invert_factor(covariance: Array, visits: Any, factor: Array, inverse: Array) -> bool:
    """Fill the lower Cholesky factor of the covariance over `visits` and its inverse; False without one."""
    for i in range(len(visits)):
        for j in range(i + 1):
            rest = covariance[visits[i], visits[j]]
            for k in range(j):
                rest -= factor[i, k] * factor[j, k]
            if i > j:
                factor[i, j] = rest / factor[j, j]
            elif rest > 0:
                factor[i, i] = np.sqrt(rest)
            else:
                return False
    for j in range(len(visits)):
        inverse[j, j] = 1 / factor[j, j]
        for i in range(j + 1, len(visits)):
            rest = 0.0
            for k in range(j, i):
                rest -= factor[i, k] * inverse[k, j]
            inverse[i, j] = rest / factor[i, i]
    return True


@numba_njit(final_function=True)  # type: ignore[untyped-decorator]
def log_density(mean: Array, covariance: Array, values: Array, seen: Array) -> tuple[float, Array, Array]:
    """Return the log density of the seen values (without its constant) and its gradients.

    `mean`, `values` and `seen` (1 or 0) are (n_people, n_visits), `covariance` is (n_visits, n_visits); the
    gradients are by mean and by covariance: with r the residual and K the inverse of the covariance among a
    person's seen visits, K r and (K r r' K - K) / 2.
    """
    n_people, n_visits = values.shape
    total = 0.0
    by_mean, by_covariance = np.zeros((n_people, n_visits)), np.zeros((n_visits, n_visits))
    factor, inverse = np.zeros((n_visits, n_visits)), np.zeros((n_visits, n_visits))
    for person in range(n_people):
        visits = np.flatnonzero(seen[person])
        if not invert_factor(covariance, visits, factor, inverse):
            return -np.inf, by_mean, by_covariance
        weighted = np.zeros(len(visits))
        for i in range(len(visits)):
            whitened = 0.0
            for j in range(i + 1):
                whitened += inverse[i, j] * (values[person, visits[j]] - mean[person, visits[j]])
            total -= 0.5 * whitened**2 - np.log(inverse[i, i])
            for j in range(i + 1):
                weighted[j] += inverse[i, j] * whitened
        for i in range(len(visits)):
            by_mean[person, visits[i]] = weighted[i]
            for j in range(len(visits)):
                precision = 0.0
                for k in range(max(i, j), len(visits)):
                    precision += inverse[k, i] * inverse[k, j]
                by_covariance[visits[i], visits[j]] += 0.5 * (weighted[i] * weighted[j] - precision)
    return total, by_mean, by_covariance


class SeenVisits(Op):  # type: ignore[misc]
    """`log_density` as a node of the model graph; only mean and covariance are differentiated, once."""

    __props__ = ()

    def make_node(self, *inputs: Any) -> Any:
        """Inputs as in `log_density`; outputs the log density and its two gradients."""
        tensors = [pt.as_tensor(item) for item in inputs]
        return Apply(self, tensors, [pt.dscalar(), pt.dmatrix(), pt.dmatrix()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:  # noqa: ARG002
        """Evaluate outside of numba's graph."""
        for storage, result in zip(output_storage, log_density(*inputs), strict=True):
            storage[0] = np.asarray(result)

    def L_op(self, inputs: Any, outputs: Any, output_grads: Any) -> Any:  # noqa: N802, ARG002
        """Chain rule through the log density only."""
        return [
            output_grads[0] * outputs[1],
            output_grads[0] * outputs[2],
            DisconnectedType()(),
            DisconnectedType()(),
        ]

    def connection_pattern(self, node: Any) -> list[list[bool]]:  # noqa: ARG002
        """Mean and covariance reach every output, the data none."""
        return [[True] * 3, [True] * 3, [False] * 3, [False] * 3]


@register_funcify_default_op_cache_key(SeenVisits)  # type: ignore[untyped-decorator]
def _to_numba(op: Any, node: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    @numba_njit  # type: ignore[untyped-decorator]
    def seen_visits(mean: Array, covariance: Array, values: Array, seen: Array) -> Any:
        total, by_mean, by_covariance = log_density(mean, covariance, values, seen)
        return np.asarray(total), by_mean, by_covariance

    # PyTensor keeps compiled functions on disk: an edit of this file must not meet an old one.
    source = inspect.getsource(inspect.getmodule(_to_numba))  # type: ignore[arg-type]
    return seen_visits, int(hashlib.sha256(source.encode()).hexdigest()[:12], 16)


def seen_log_density(mean: Any, covariance: Any, values: Any, seen: Any) -> Any:
    """Return the scalar log density of the seen values as a node of a PyTensor graph."""
    density, _, _ = SeenVisits()(mean, covariance, values, seen)
    return density


def without_compiler() -> None:
    """Keep PyTensor from calling a C++ compiler, which a lab's machine need not have: numba does the work."""
    pytensor.config.cxx = ""
