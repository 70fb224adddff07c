"""Other draws of the allocation, and how high statistic maps rise under each of them.

A person's visits stay together and have the arm that is drawn for the person; arms are drawn within strata,
with their sizes as they are. Under the null hypothesis that the arm changes no map and no visit that is
missed every draw is as likely as the one that was made, so that the highest of all voxels, visits and
contrasts under each draw gives p values for all of them together (Westfall & Young, 1993; Winkler et al.,
NeuroImage 2014;92:381). The covariance over visits is fitted without arms: it is the same for every draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reconfmri.group.estimands import Array
from reconfmri.group.randomisation import draw_sides, n_allocations
from reconfmri.voxels.enhancement import Places, Statistics, clusters, highest_tfce, masses, neighbours_in
from reconfmri.voxels.model import VoxelModel

TIE = 1e-5  # relative: statistics are of single precision
WORK = 256  # draws times patterns of missing scans whose row vectors are held at a time


@dataclass(frozen=True)
class Draws:
    """Sides (draws, n), +1/2 active and -1/2 control, the allocation first; `exact`: all that there are."""

    sides: Array
    exact: bool


def allocations(active: npt.NDArray[np.bool_], strata: Sequence[str], *, n_draws: int, seed: int) -> Draws:
    """Return the allocation and `n_draws` more, or every one that the strata allow where these are fewer."""
    sides = draw_sides(active, strata, n_draws=n_draws, seed=seed)
    return Draws(sides, n_allocations(active, strata) <= n_draws)


@dataclass(frozen=True)
class Search:
    """Where a map is searched: the whole mask, and some of its voxels as if they were all.

    `places` of a region are of the mask's voxels, in order.
    """

    neighbours: Places
    threshold: float  # z from which voxels make clusters
    regions: Mapping[str, tuple[npt.NDArray[np.intp], Places]]

    @property
    def names(self) -> tuple[str, ...]:
        """What `heights` returns."""
        return ("tfce", "cluster_mass", *self.regions)

    def heights(self, scores: Statistics) -> list[float]:
        """Return the highest TFCE and cluster mass of a map of z, and the highest TFCE inside each region."""
        mass = masses(scores, clusters(scores, self.neighbours, self.threshold))
        return [
            highest_tfce(scores, self.neighbours),
            float(mass.max(initial=0.0)),
            *(highest_tfce(scores[places], nearby) for places, nearby in self.regions.values()),
        ]


def search_in(
    mask: npt.NDArray[np.bool_], threshold: float, regions: Mapping[str, npt.NDArray[np.bool_]]
) -> Search:
    """Return the search of a mask (x, y, z); `regions` are masks on its grid, without those outside of it."""
    inside = {name: region & mask for name, region in regions.items()}
    there = {
        name: (np.flatnonzero(region[mask]), neighbours_in(region))
        for name, region in inside.items()
        if region.any()
    }
    return Search(neighbours_in(mask), threshold, there)


def heights(model: VoxelModel, search: Search, draws: Draws, *, threads: int = 1) -> Array:
    """Return how high the maps of a model's questions rise under every draw, (draws, q, len(search.names)).

    Infinite where a draw leaves an arm without a scan at a visit: it counts as high as can be.
    """
    batch = max(1, WORK // len(model.maps.patterns))
    parts = [draws.sides[start : start + batch] for start in range(0, len(draws.sides), batch)]

    def of_part(sides: Array) -> Array:
        rows = model.rows(sides)
        found = np.full((len(sides), len(model.questions), len(search.names)), np.inf)
        for draw in range(len(sides)):
            if all(pattern.usable[draw] for pattern in rows):
                found[draw] = [search.heights(scores) for scores in model.scores(rows, draw)]
        return found

    if threads == 1:
        return np.concatenate([of_part(sides) for sides in parts])
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(of_part, parts)))


def corrected(observed: Array | Statistics, highest: Array) -> Array:
    """Return the share of draws whose highest value (draws,) reaches each observed one, itself included."""
    ordered = np.sort(highest)
    reached = len(ordered) - np.searchsorted(ordered, np.abs(observed) * (1 - TIE), side="left")
    return np.asarray(reached / len(ordered))
