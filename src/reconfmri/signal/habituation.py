"""Contrasts over the single scripts of a run that set order and habituation apart from condition.

The estimates of a run's scripts, in order, are described by a level per condition, its change over the
condition's repetitions, and terms of order that all conditions share. A contrast of that model is a weighted
sum of the scripts' regressors: generalised inverse of the terms, every script counting alike. What it costs
is its variance relative to that of the plain contrast of means, which the order of the scripts alone decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reconfmri.config import ScriptContrast
from reconfmri.exclusions import DataFault

Array = npt.NDArray[np.float64]
TOLERANCE = 1e-9
DECAY = 1.0  # repetitions after which an exponential change has lost two thirds


class Script(NamedTuple):
    """One script: its condition, how many of it were before, how many scripts were before it."""

    condition: str
    repetition: int
    position: int


@dataclass(frozen=True)
class Cost:
    """What an order of scripts makes of a contrast.

    `variance` is relative to that of the plain contrast of means under scripts of equal variance, infinite
    where the contrast is not estimable; `rank` is that of the model's `terms`.
    """

    variance: float
    rank: int
    terms: int


def scripts_of(conditions: Sequence[str]) -> list[Script]:
    """Return the scripts of a run from their conditions, in the order in which they were played."""
    return [
        Script(condition, list(conditions[:place]).count(condition), place)
        for place, condition in enumerate(conditions)
    ]


def script_weights(scripts: Sequence[Script], contrast: ScriptContrast) -> Array:
    """Return the weight (n_scripts,) of every script in a contrast.

    Raises
    ------
    DataFault
        The run lacks a condition, or its order of scripts cannot tell the contrast from another term.
    """
    absent = [condition for condition in contrast.weights if condition not in {s.condition for s in scripts}]
    if absent:
        raise DataFault(
            "E-STAT-E02",
            f"a contrast over scripts needs {absent[0]!r}, which this run lacks",
            fix="check the events file, or the contrasts of the study file",
        )
    terms, vector = _model(scripts, contrast)
    weights = np.asarray(vector @ np.linalg.pinv(terms))
    if np.linalg.norm(weights @ terms - vector) > TOLERANCE * np.linalg.norm(vector):
        rank = int(np.linalg.matrix_rank(terms))
        raise DataFault(
            "E-STAT-E02",
            f"a contrast over scripts ({contrast.of}, habituation {contrast.habituation}, adjusted for "
            f"{contrast.adjust}) is not estimable: their order leaves rank {rank} of {terms.shape[1]} terms",
            fix="take a term out of `adjust`, or ask for another quantity",
        )
    return weights


def cost_of(scripts: Sequence[Script], contrast: ScriptContrast) -> Cost:
    """Return what the order of scripts makes of a contrast."""
    terms, _ = _model(scripts, contrast)
    plain = ScriptContrast(weights=contrast.weights)
    rank = int(np.linalg.matrix_rank(terms))
    try:
        weights, reference = script_weights(scripts, contrast), script_weights(scripts, plain)
    except DataFault:
        return Cost(math.inf, rank, terms.shape[1])
    return Cost(float(weights @ weights) / float(reference @ reference), rank, terms.shape[1])


def cost_of_weights(scripts: Sequence[Script], weights: Array) -> Cost | None:
    """Return what a contrast costs that weighs scripts (n_scripts,) itself; None without a plain one."""
    of_conditions: dict[str, float] = {}
    for script, weight in zip(scripts, weights, strict=True):
        of_conditions[script.condition] = of_conditions.get(script.condition, 0.0) + float(weight)
    plain = {name: weight for name, weight in of_conditions.items() if abs(weight) > TOLERANCE}
    if not plain:
        return None
    reference = script_weights(scripts, ScriptContrast(weights=plain))
    return Cost(float(weights @ weights) / float(reference @ reference), len(scripts), len(scripts))


def _model(scripts: Sequence[Script], contrast: ScriptContrast) -> tuple[Array, Array]:
    """Return the terms (n_scripts, k) and the contrast of their coefficients (k,)."""
    repetition = np.array([script.repetition for script in scripts], dtype=float)
    position = np.array([script.position for script in scripts], dtype=float)
    columns, vector = [], []
    for condition in dict.fromkeys(script.condition for script in scripts):
        mine = np.array([script.condition == condition for script in scripts])
        weight = contrast.weights.get(condition, 0.0)
        columns.append(mine.astype(float))
        vector.append(0.0 if contrast.of == "change" else weight)
        if contrast.habituation != "none":
            shape = _shape(repetition, contrast.habituation)
            columns.append(np.where(mine, shape, 0.0))
            at = {"mean": shape[mine].mean(), "first": shape[mine][0], "change": 1.0}[contrast.of]
            vector.append(weight * float(at))
    shared = {
        "first_in_run": (position == 0).astype(float),
        "repetition": repetition - repetition.mean(),
        "position": position - position.mean(),
    }
    for term in contrast.adjust:
        columns.append(shared[term])
        vector.append(0.0)
    if contrast.of == "first" and contrast.habituation == "none":
        return _firsts(scripts, contrast)
    return np.column_stack(columns), np.array(vector)


def _firsts(scripts: Sequence[Script], contrast: ScriptContrast) -> tuple[Array, Array]:
    """The first script of each condition as it is: a term per script."""
    first = [contrast.weights.get(s.condition, 0.0) if s.repetition == 0 else 0.0 for s in scripts]
    return np.eye(len(scripts)), np.array(first)


def _shape(repetition: Array, habituation: str) -> Array:
    """Return the change over repetitions that a coefficient stands for."""
    shapes = {
        "linear": repetition,
        "exponential": np.exp(-repetition / DECAY),
        "first_vs_rest": (repetition == 0).astype(float),
    }
    return np.asarray(shapes[habituation])
