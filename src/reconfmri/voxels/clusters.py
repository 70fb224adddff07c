"""Clusters and peaks of a map as rows of tables, named by the atlas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reconfmri.group.estimands import Array
from reconfmri.voxels.enhancement import Places, Statistics, clusters, masses

MOST = 20  # clusters of a map in the table
LEAST = 5.0  # percent


@dataclass(frozen=True)
class Atlas:
    """The probability, in percent, of each label at every voxel that is compared: (m, n_labels)."""

    percent: npt.NDArray[np.uint8]
    labels: Sequence[str]

    def named(self, voxels: npt.NDArray[np.intp]) -> list[str]:
        """Return `Left Amygdala (62 %)`, the labels with the highest mean over some voxels, at most three."""
        mean = self.percent[voxels].mean(axis=0)
        order = np.argsort(-mean, kind="stable")[:3]
        return [f"{self.labels[place]} ({mean[place]:.0f} %)" for place in order if mean[place] >= LEAST]


@dataclass(frozen=True)
class Found:
    """A map that is looked at: estimates, standard errors, z (m,), and points (m, 3), mm, of its voxels."""

    estimate: Array
    se: Array
    z: Array
    points: Array
    voxel_mm3: float
    neighbours: Places
    atlas: Atlas

    def peak(self, voxels: npt.NDArray[np.intp]) -> dict[str, object]:
        """Return the cells that describe the voxel of the largest |z| among some."""
        peak = int(voxels[np.abs(self.z[voxels]).argmax()])
        x, y, z = (float(place) for place in self.points[peak])
        named = self.atlas.named(np.array([peak]))[:1]
        return {
            "x": x,
            "y": y,
            "z": z,
            "peak_z": float(self.z[peak]),
            "estimate": float(self.estimate[peak]),
            "sd": float(self.se[peak]),
            "label": named[0] if named else None,
        }

    def cluster(self, voxels: npt.NDArray[np.intp]) -> dict[str, object]:
        """Return the cells that describe a cluster."""
        named = self.atlas.named(voxels)
        return {
            "direction": "higher" if self.z[voxels[0]] > 0 else "lower",
            "n_voxels": len(voxels),
            "volume": len(voxels) * self.voxel_mm3,
            "mass": float(np.abs(self.z[voxels]).sum()),
            "labels": "; ".join(named) or None,
            **self.peak(voxels),
        }

    def of_tfce(self, p: Array, alpha: float) -> list[dict[str, object]]:
        """Return the clusters of voxels whose p (m,) is up to alpha, lowest p first."""
        shown = np.where(p <= alpha, self.z, 0.0).astype(np.float32)
        labels = clusters(shown, self.neighbours, 0.0)
        members = [np.flatnonzero(labels == place + 1) for place in range(labels.max(initial=0))]
        rows = [
            self.cluster(voxels) | {"inference": "tfce", "p": float(p[voxels].min())} for voxels in members
        ]
        return sorted(rows, key=lambda row: (row["p"], -float(str(row["mass"]))))

    def of_mass(
        self,
        scores: Statistics,
        threshold: float,
        correct: Callable[[Array], Array],
    ) -> list[dict[str, object]]:
        """Return the clusters beyond a threshold, largest mass first; `correct`: masses -> p."""
        labels = clusters(scores, self.neighbours, threshold)
        mass = masses(scores, labels)
        chosen = np.argsort(-mass, kind="stable")[:MOST]
        p = correct(mass[chosen]) if len(chosen) else np.empty(0)
        return [
            self.cluster(np.flatnonzero(labels == place + 1))
            | {"inference": "cluster_mass", "p": float(of), "mass": float(mass[place])}
            for place, of in zip(chosen, p, strict=True)
        ]
