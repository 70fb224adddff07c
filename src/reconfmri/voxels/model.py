"""The repeated-measures model of all voxels of a contrast, and what it says of questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reconfmri.group.covariances import Structure
from reconfmri.group.estimands import Array, NotEstimableError, Question
from reconfmri.group.grid import Outcome
from reconfmri.group.repeated import MeanModel, mean_model
from reconfmri.signal.least_squares import as_normal
from reconfmri.voxels.covariance import pooled_covariance
from reconfmri.voxels.enhancement import Statistics, normal_scores
from reconfmri.voxels.rows import RowVectors, estimates, row_vectors


class Pattern(NamedTuple):
    """Voxels that the same scans cover: which they are, (n, v), and the voxels' columns."""

    seen: npt.NDArray[np.bool_]
    columns: slice


@dataclass(frozen=True)
class Maps:
    """The maps of a contrast in the voxels that are compared.

    `values` (n, v, m), float32, are zero where a scan is missing or does not cover the voxel; columns lie
    pattern by pattern, and `places` (m,) says which voxel of the mask (x, y, z) a column is.
    """

    mask: npt.NDArray[np.bool_]
    affine: Array
    values: npt.NDArray[np.float32]
    places: npt.NDArray[np.intp]
    patterns: tuple[Pattern, ...]

    @classmethod
    def of(cls, mask: npt.NDArray[np.bool_], affine: Array, values: npt.NDArray[np.float32]) -> Maps:
        """Return maps of `values` (n, v, m) in the order of the mask's voxels, NaN where there is none."""
        covered = np.isfinite(values)
        n, v, m = values.shape
        packed = np.packbits(covered.reshape(n * v, m), axis=0).T
        _, first, of = np.unique(packed, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(of.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(of.ravel()))
        patterns = [
            Pattern(covered[:, :, where], slice(int(end - size), int(end)))
            for where, end, size in zip(first, ends, np.bincount(of.ravel()), strict=True)
        ]
        patterns.sort(key=lambda pattern: pattern.columns.start - pattern.columns.stop)
        found = np.nan_to_num(values[:, :, order], copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        return cls(mask, np.asarray(affine, dtype=np.float64), found, order, tuple(patterns))

    def in_order(self, columns: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return numbers (..., m) of the columns in the order of the mask's voxels."""
        found = np.empty_like(columns)
        found[..., self.places] = columns
        return found


@dataclass(frozen=True)
class Effects:
    """What a model says of one question in every voxel, (m,) in the order of the mask's voxels."""

    question: Question
    estimate: Array
    variance: Array
    df: Array

    @property
    def z(self) -> Array:
        """The normal deviates of the same p as t; 0 where a voxel has no variance."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(self.variance > 0, self.estimate / np.sqrt(self.variance), 0.0)
        return as_normal(t, self.df)


@dataclass(frozen=True)
class VoxelModel:
    """A mean model with one covariance over visits in every voxel, asked several questions."""

    maps: Maps
    outcome: Outcome
    mean: MeanModel
    questions: tuple[Question, ...]
    covariance: Array
    structure: Structure | None  # None: a working independence

    def rows(self, sides: Array) -> list[RowVectors]:
        """Return the row vectors of each pattern for the arms as drawn, `sides` (d, n)."""
        outcome, n_visits = self.outcome, self.outcome.values.shape[1]
        design = np.stack([self.mean.design(side > 0, outcome.adjusted_for) for side in sides])
        weights = np.stack([self.mean.weights(question, n_visits) for question in self.questions])
        visits = list(self.mean.visits)
        return [
            row_vectors(design, pattern.seen[:, visits], self.covariance, weights)
            for pattern in self.maps.patterns
        ]

    def _estimates(self, rows: Sequence[RowVectors], draw: int) -> tuple[Array, Array]:
        values = self.maps.values[:, list(self.mean.visits)] if self._some_visits else self.maps.values
        found = [
            estimates(of, values[:, :, pattern.columns], draw)
            for of, pattern in zip(rows, self.maps.patterns, strict=True)
        ]
        order = np.argsort([pattern.columns.start for pattern in self.maps.patterns])
        both = [np.concatenate([found[place][part] for place in order], axis=1) for part in (0, 1)]
        return both[0], both[1]

    @property
    def _some_visits(self) -> bool:
        return bool(len(self.mean.visits) < self.maps.values.shape[1])

    def scores(self, rows: Sequence[RowVectors], draw: int) -> Statistics:
        """Return z (q, m) of the questions under a draw, in the order of the mask's voxels."""
        estimate, variance = self._estimates(rows, draw)
        found = np.empty(estimate.shape, dtype=np.float32)
        for of, pattern in zip(rows, self.maps.patterns, strict=True):
            for place, df in enumerate(of.df[draw]):
                part = (place, pattern.columns)
                found[part] = normal_scores(estimate[part], variance[part], float(df))
        return np.asarray(self.maps.in_order(found), dtype=np.float32)

    def effects(self) -> list[Effects]:
        """Return what the model says of each question, with the arms as they are."""
        rows = self.rows(np.where(self.outcome.active, 0.5, -0.5)[None])
        estimate, variance = (self.maps.in_order(part) for part in self._estimates(rows, 0))
        df = np.empty(estimate.shape)
        for of, pattern in zip(rows, self.maps.patterns, strict=True):
            df[:, pattern.columns] = of.df[0][:, None]
        df = np.asarray(self.maps.in_order(df))
        return [
            Effects(question, np.asarray(estimate[place], dtype=np.float64),
                    np.asarray(variance[place], dtype=np.float64), df[place])
            for place, question in enumerate(self.questions)
        ]  # fmt: skip


def fit(maps: Maps, outcome: Outcome, questions: Sequence[Question], *, marginal: bool = False) -> VoxelModel:
    """Return the model of questions that share a mean model; `marginal`: one visit does not inform another.

    Raises
    ------
    NotEstimableError
        The scans do not determine the model.
    """
    if len({question.common_baseline for question in questions}) != 1:
        raise ValueError("questions of one model share their baseline")
    mean = mean_model(outcome, questions[0].common_baseline)
    visits = list(mean.visits)
    if marginal:
        return VoxelModel(maps, outcome, mean, tuple(questions), np.eye(len(visits)), None)
    widest = maps.patterns[0]
    without_arms = replace(mean, compared=()).design(outcome.active, outcome.adjusted_for)
    values = maps.values[:, visits, widest.columns]
    covariance, structure = pooled_covariance(values, without_arms, widest.seen[:, visits])
    return VoxelModel(maps, outcome, mean, tuple(questions), covariance, structure)


def refuse_few(outcome: Outcome, question: Question) -> None:
    """Check that a question has two scans of each arm at its visits.

    Raises
    ------
    NotEstimableError
        It has not.
    """
    for visit in question.visits:
        n_active, n_control = outcome.counts(visit)
        if min(n_active, n_control) < 2:
            raise NotEstimableError(
                f"two maps per arm are needed, there are {n_active} active and {n_control} control",
                fix="see exclusions.tsv for scans that can be saved",
            )
