"""Maps of single scans, joined by participant and session: checks, runs combined, coverage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reconfmri.exclusions import DataFault, Exclusion
from reconfmri.group.estimands import Array
from reconfmri.step import is_empty

STAGE = "compare_maps"
GRID_MM = 0.01  # difference of affines that is rounding
LEAST = 0.5  # share of the voxels that most maps cover, below which a map is out
Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ScanMap:
    """The effect of a contrast in one scan and its variance; empty files stand for a scan that is out."""

    participant_id: str
    session_id: str
    task: str
    run: str
    effect: Path
    variance: Path

    @property
    def unit(self) -> Exclusion:
        """The scan as a unit of exclusions."""
        return Exclusion(self.participant_id, self.session_id, self.task, self.run)


class Loaded(NamedTuple):
    """A map in its own voxels: which of the grid it covers, packed, and effect and variance there.

    The variance is gone once runs were combined.
    """

    scan: ScanMap
    covered: Bits
    effect: npt.NDArray[np.float32]
    variance: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Images:
    """Every usable map of a contrast on one grid, one per participant and session."""

    shape: tuple[int, int, int]
    affine: Array
    of: dict[tuple[str, str], Loaded]
    left_out: list[Exclusion]

    def coverage(self, keys: Sequence[tuple[str, str]]) -> Array:
        """Return the share of some maps that cover each voxel, (x, y, z)."""
        total = np.zeros(self.shape)
        for key in keys:
            total += self._covered(self.of[key])
        return total / max(len(keys), 1)

    def means(self) -> dict[tuple[str, str], float]:
        """Return the mean of each map over the voxels that it covers."""
        return {key: float(item.effect.mean(dtype=np.float64)) for key, item in self.of.items()}

    def values(
        self, mask: npt.NDArray[np.bool_], people: Sequence[str], sessions: Sequence[str]
    ) -> npt.NDArray[np.float32]:
        """Return the effects (n, v, m) in a mask (x, y, z), NaN where no map covers a voxel."""
        found = np.full((len(people), len(sessions), int(mask.sum())), np.nan, dtype=np.float32)
        for i, person in enumerate(people):
            for j, session in enumerate(sessions):
                if item := self.of.get((person, session)):
                    whole = np.full(self.shape, np.nan, dtype=np.float32)
                    whole[self._covered(item)] = item.effect
                    found[i, j] = whole[mask]
        return found

    def _covered(self, item: Loaded) -> npt.NDArray[np.bool_]:
        size = int(np.prod(self.shape))
        return np.unpackbits(item.covered, count=size).astype(bool).reshape(self.shape)


def read_images(scans: Sequence[ScanMap], *, like: tuple[tuple[int, ...], Array] | None = None) -> Images:
    """Return the maps of a contrast, joined by participant and session whatever their order.

    `like`: shape and affine of the study's grid; without it that of most maps. Runs of a session are combined
    voxel by voxel, weighted by one over their variance. A map that cannot be read, lies on another grid, is
    zero or constant, or covers less than half of what most maps cover is left out, with its reason.
    """
    scans = sorted(scans, key=lambda scan: (scan.participant_id, scan.session_id, scan.task, scan.run))
    left_out: list[Exclusion] = []
    opened: list[tuple[ScanMap, Any, Any]] = []
    for scan in scans:
        if is_empty(scan.effect):
            continue  # excluded before; its reason is in exclusions.tsv
        try:
            opened.append((scan, _open(scan.effect), _open(scan.variance)))
        except DataFault as fault:
            left_out.append(scan.unit.because(STAGE, fault))
    grid = like or _most_common([image for _, image, _ in opened])
    loaded: list[Loaded] = []
    for scan, effect, variance in opened:
        try:
            loaded.append(_load(scan, effect, variance, grid))
        except DataFault as fault:
            left_out.append(scan.unit.because(STAGE, fault))
    loaded, little = _covering_enough(loaded)
    found: dict[tuple[str, str], Loaded] = {}
    for item in loaded:
        key = (item.scan.participant_id, item.scan.session_id)
        found[key] = _combined(found[key], item) if key in found else item
    # variances are needed no more
    found = {key: item._replace(variance=item.variance[:0]) for key, item in found.items()}
    shape = grid[0]
    return Images((shape[0], shape[1], shape[2]), grid[1], found, left_out + little)


def _open(path: Path) -> Any:
    import nibabel

    try:
        return nibabel.load(path)
    except (OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise DataFault(
            "E-STAT-E11", f"cannot be read ({error})", fix="make the map again", file=path.name
        ) from None


def _most_common(images: Sequence[Any]) -> tuple[tuple[int, ...], Array]:
    if not images:
        return (1, 1, 1), np.eye(4)
    known = Counter((image.shape, tuple(np.round(image.affine, 2).ravel())) for image in images)
    shape, _ = known.most_common(1)[0][0]
    wanted = known.most_common(1)[0][0]
    image = next(item for item in images if (item.shape, tuple(np.round(item.affine, 2).ravel())) == wanted)
    return shape, np.asarray(image.affine, dtype=np.float64)


def _load(scan: ScanMap, effect: Any, variance: Any, grid: tuple[tuple[int, ...], Array]) -> Loaded:
    shape, affine = grid
    for image in (effect, variance):
        if image.shape != shape or np.abs(image.affine - affine).max() > GRID_MM:
            what = f"the map has the grid {image.shape}, the study {shape}"
            if image.shape == shape:
                what = (
                    f"the grid of the map lies {np.abs(image.affine - affine).max():.3g} mm off the study's"
                )
            raise DataFault("E-STAT-E11", what, fix="make the map again", file=scan.effect.name)
    try:
        data, spread = (np.asarray(image.dataobj, dtype=np.float32) for image in (effect, variance))
    except (OSError, EOFError, ValueError) as error:
        reason = f"cannot be read ({error})"
        raise DataFault("E-STAT-E11", reason, fix="make the map again", file=scan.effect.name) from None
    covered = np.isfinite(data) & (data != 0) & np.isfinite(spread) & (spread > 0)
    values = data[covered]
    if not values.size or np.ptp(values) == 0:
        what = "is zero or empty in every voxel" if not values.size else "has one value in every voxel"
        raise DataFault(
            "E-STAT-E12", f"the map {what}", fix="look at the fit of this scan, or exclude the scan",
            file=scan.effect.name,
        )  # fmt: skip
    return Loaded(scan, np.packbits(covered.ravel()), values, spread[covered])


def _covering_enough(loaded: Sequence[Loaded]) -> tuple[list[Loaded], list[Exclusion]]:
    """Return the maps that cover half of what most maps cover, and why the others are out."""
    if not loaded:
        return [], []
    counts = np.zeros(len(loaded[0].covered) * 8, dtype=np.int32)
    for item in loaded:
        counts += np.unpackbits(item.covered)
    usual = np.packbits(counts * 2 > len(loaded))
    size = int(np.bitwise_count(usual).sum())
    kept, left_out = [], []
    for item in loaded:
        share = int(np.bitwise_count(usual & item.covered).sum()) / max(size, 1)
        if share >= LEAST:
            kept.append(item)
            continue
        reason = f"the map covers {100 * share:.0f} % of the voxels that most maps cover"
        fault = DataFault(
            "E-STAT-E12", reason, fix="look at the mask of this scan, or exclude the scan",
            file=item.scan.effect.name,
        )  # fmt: skip
        left_out.append(item.scan.unit.because(STAGE, fault))
    return kept, left_out


def _combined(one: Loaded, other: Loaded) -> Loaded:
    """Return two runs of a session as one map, by fixed effects where both cover a voxel."""
    size = len(one.covered) * 8
    sums, weights = np.zeros(size), np.zeros(size)
    for item in (one, other):
        there = np.unpackbits(item.covered).astype(bool)
        weight = 1 / item.variance.astype(np.float64)
        sums[there] += weight * item.effect
        weights[there] += weight
    covered = weights > 0
    effect = sums[covered] / weights[covered]
    return Loaded(
        one.scan, np.packbits(covered), effect.astype(np.float32), (1 / weights[covered]).astype(np.float32)
    )
