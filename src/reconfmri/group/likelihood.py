"""The likelihood of the visits that were seen: Gaussian or t, missing visits integrated out, with gradient.

A PyTensor operation in closed form: the same sum written with PyTensor's own operations takes ten times
longer to compile and to evaluate, because every person has another pattern of visits.
"""

from __future__ import annotations

import hashlib
import inspect
import math
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
def invert_factor(covariance: Array, known: Array, visits: Any, factor: Array, inverse: Array) -> bool:
    """Fill the lower Cholesky factor of the covariance over `visits` and its inverse; False without one.

    `known` (n_visits,) are variances that come on top of the diagonal.
    """
    for i in range(len(visits)):
        for j in range(i + 1):
            rest = covariance[visits[i], visits[j]] + (known[visits[i]] if i == j else 0.0)
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
def differ(a: Array, b: Array) -> bool:
    """Return whether two vectors of one length differ anywhere."""
    for i in range(len(a)):  # noqa: SIM110 (numba knows no generator)
        if a[i] != b[i]:
            return True
    return False


@numba_njit(final_function=True)  # type: ignore[untyped-decorator]
def digamma(x: float) -> float:
    """Return the derivative of lgamma for x > 0, to 1e-9 (Abramowitz & Stegun 6.3.5 and 6.3.18)."""
    total = 0.0
    while x < 8:
        total -= 1 / x
        x += 1
    square = 1 / x**2
    return total + math.log(x) - 0.5 / x - square * (1 / 12 - square * (1 / 120 - square / 252))


@numba_njit(final_function=True)  # type: ignore[untyped-decorator]
def log_density(
    mean: Array, covariance: Array, values: Array, seen: Array, known: Array, df: float
) -> tuple[float, Array, Array, float]:
    """Return the log density of the seen values (without its constant) and its gradients.

    `mean`, `values`, `seen` (1 or 0) and `known` (variances that a value has of its own) are (n_people,
    n_visits), `covariance` is (n_visits, n_visits). `df` infinite: a person's values are Gaussian; else
    multivariate t, of which `covariance` is the scale. The gradients are by mean, by covariance and by df:
    with r the residual and K the inverse of the covariance among a person's m seen visits, w K r and
    (w K r r' K - K) / 2, where w is 1, or (df + m) / (df + r' K r): who is far away counts less.
    """
    n_people, n_visits = values.shape
    total, by_df = 0.0, 0.0
    by_mean, by_covariance = np.zeros((n_people, n_visits)), np.zeros((n_visits, n_visits))
    factor, inverse = np.zeros((n_visits, n_visits)), np.zeros((n_visits, n_visits))
    precision = np.zeros((n_visits, n_visits))
    visits, last, log_inverse = np.flatnonzero(seen[0]), -1, 0.0
    for person in range(n_people):
        # People who missed the same visits share a factor where they stand together.
        if last < 0 or differ(seen[last], seen[person]) or differ(known[last], known[person]):
            visits, last = np.flatnonzero(seen[person]), person
            if not invert_factor(covariance, known[person], visits, factor, inverse):
                return -np.inf, by_mean, by_covariance, by_df
            log_inverse = 0.0
            for i in range(len(visits)):
                log_inverse += np.log(inverse[i, i])
                for j in range(len(visits)):
                    precision[i, j] = 0.0
                    for k in range(max(i, j), len(visits)):
                        precision[i, j] += inverse[k, i] * inverse[k, j]
        if len(visits) == 0:
            continue
        weighted, distance = by_mean[person], 0.0
        for i in range(len(visits)):
            for j in range(len(visits)):
                away = values[person, visits[j]] - mean[person, visits[j]]
                weighted[visits[i]] += precision[i, j] * away
            distance += weighted[visits[i]] * (values[person, visits[i]] - mean[person, visits[i]])
        weight = 1.0
        total += log_inverse
        if np.isfinite(df):
            half, together, apart = len(visits) / 2, (df + len(visits)) / 2, np.log1p(distance / df)
            weight = 2 * together / (df + distance)
            total += math.lgamma(together) - math.lgamma(df / 2) - half * np.log(df / 2) - together * apart
            by_df += 0.5 * (digamma(together) - digamma(df / 2) - apart + weight * distance / df) - half / df
        else:
            total -= 0.5 * distance
        for i in range(len(visits)):
            for j in range(len(visits)):
                product = weight * weighted[visits[i]] * weighted[visits[j]]
                by_covariance[visits[i], visits[j]] += 0.5 * (product - precision[i, j])
        for i in range(len(visits)):
            weighted[visits[i]] *= weight
    return total, by_mean, by_covariance, by_df


class SeenVisits(Op):  # type: ignore[misc]
    """`log_density` as a node of the model graph; mean, covariance and df are differentiated, once."""

    __props__ = ()

    def make_node(self, *inputs: Any) -> Any:
        """Inputs as in `log_density`; outputs the log density and its three gradients."""
        tensors = [pt.as_tensor(item) for item in inputs]
        return Apply(self, tensors, [pt.dscalar(), pt.dmatrix(), pt.dmatrix(), pt.dscalar()])

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
            DisconnectedType()(),
            output_grads[0] * outputs[3],
        ]

    def connection_pattern(self, node: Any) -> list[list[bool]]:  # noqa: ARG002
        """Mean, covariance and df reach every output, the data none."""
        return [[True] * 4, [True] * 4, [False] * 4, [False] * 4, [False] * 4, [True] * 4]


@register_funcify_default_op_cache_key(SeenVisits)  # type: ignore[untyped-decorator]
def _to_numba(op: Any, node: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    @numba_njit  # type: ignore[untyped-decorator]
    def seen_visits(mean: Any, covariance: Any, values: Any, seen: Any, known: Any, df: Any) -> Any:
        total, by_mean, by_covariance, by_df = log_density(mean, covariance, values, seen, known, df.item())
        return np.asarray(total), by_mean, by_covariance, np.asarray(by_df)

    # PyTensor keeps compiled functions on disk: an edit of this file must not meet an old one.
    source = inspect.getsource(inspect.getmodule(_to_numba))  # type: ignore[arg-type]
    return seen_visits, int(hashlib.sha256(source.encode()).hexdigest()[:12], 16)


def seen_log_density(mean: Any, covariance: Any, values: Any, seen: Any, known: Any, df: Any = np.inf) -> Any:
    """Return the scalar log density of the seen values as a node of a PyTensor graph."""
    density, *_ = SeenVisits()(mean, covariance, values, seen, known, pt.as_tensor(df, dtype="float64"))
    return density


def without_compiler() -> None:
    """Keep PyTensor from calling a C++ compiler, which a lab's machine need not have: numba does the work."""
    pytensor.config.cxx = ""
