"""One reading of a raw run: which volumes hold a measurement, and which of them the reference is made from.

Beside values that are not finite it knows what scanners and exports leave in a series: volumes that are
copies of others (a stuck reconstruction, a series padded to its length), slices without a signal, and voxels
at the highest value that the numbers can hold.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from reconfmri.exclusions import DataFault
from reconfmri.labels import first_of
from reconfmri.preprocess.intake import MIN_VOLUMES, NOT_FINITE, RECOPY, RawRun, voxels_not_finite
from reconfmri.registration import Array

N_REFERENCE = 16
# A slice belongs to the head where its mean is a tenth of that of the slices that have signal.
OF_THE_HEAD = 0.1
# Fewer voxels at the ceiling are the brightest ones of a healthy run; fewer than just below it are its tail.
CEILING_VOXELS, BELOW_CEILING = 10, 0.01
MAX_CLIPPED_SHARE = 0.01  # of the head: 15 ml of an adult's brain
COPIED = "a stuck reconstruction, a series padded to its length? export it again from the scanner's archive"
DEAD = "a receiver that failed, slices lost on the way? export the series again from the scanner's archive"
CUT_OFF = "an overdriven receiver, a number format that is too small? export it again; scan at a lower gain"


@dataclass
class Ceiling:
    """The highest value of a run and, by volume, how many voxels have it and how many lie just below it."""

    counts: Array  # (n_volumes,)
    below: Array  # (n_volumes,)
    slices: Array  # (n_slices,), which have such a voxel
    value: float = -np.inf

    def note(self, number: int, flat: Array, highest: float) -> None:
        """Take in a volume (n_in_plane, n_slices), and its highest value."""
        if highest < self.value:
            return
        if highest > self.value:
            self.value, self.counts[:], self.below[:], self.slices[:] = highest, 0, 0, False
        at_it = flat == highest
        self.counts[number] = at_it.sum()
        self.below[number] = (flat > (1 - BELOW_CEILING) * highest).sum() - self.counts[number]
        self.slices |= at_it.any(axis=0)

    @property
    def clips(self) -> bool:
        """Whether values pile up there, as they do where a receiver or a number format ends."""
        return bool(self.counts.max() >= CEILING_VOXELS and self.counts.sum() > self.below.sum())


@dataclass(frozen=True)
class Survey:
    """What one reading of a run leaves.

    `means` (n_volumes,), NaN where a value is not finite; `spread` are some volumes by their number (from 0);
    `not_finite` counts such voxels by volume; `copies` holds the volume of which a later one is a copy.
    `slice_means` and `silent` are (n_volumes, n_slices), along the third axis: `silent` slices are flat or
    the same as in the volume before.
    """

    run: RawRun
    means: Array
    spread: dict[int, Array]
    not_finite: dict[int, int]
    copies: dict[int, int]
    slice_means: Array
    silent: Array
    ceiling: Ceiling

    @cached_property
    def dead_slices(self) -> dict[int, list[int]]:
        """The slices (from 0) of the head that hold nothing, by volume that is no copy."""
        live = np.where(self.silent | ~np.isfinite(self.slice_means), np.nan, self.slice_means)
        with_signal = ~np.isnan(live).all(axis=0)
        usual = np.zeros(live.shape[1])
        usual[with_signal] = np.nanmedian(live[:, with_signal], axis=0)
        if not with_signal.any():
            return {}
        seen = np.flatnonzero(usual > OF_THE_HEAD * np.median(usual[with_signal]))
        head = np.arange(seen[0], seen[-1] + 1)
        found = {
            number: head[self.silent[number, head]].tolist()
            for number in range(len(live))
            if number not in self.copies and number not in self.not_finite
        }
        return {number: slices for number, slices in found.items() if slices}

    @property
    def whole(self) -> Array:
        """(n_volumes,): which volumes hold a measurement everywhere in the head."""
        good = np.ones(self.run.n_volumes, dtype=bool)
        good[[*self.not_finite, *self.copies, *self.dead_slices]] = False
        return good

    def remarks(self, *, as_faults: bool = False) -> list[DataFault]:
        """One line for each kind of volume that is left out of every number, the most frequent first."""
        out = "" if as_faults else "; they are left out of every number"
        voxels = {number: f"{count} voxels" for number, count in self.not_finite.items()}
        places = {number: f"slice {_stretches(slices)}" for number, slices in self.dead_slices.items()}
        kinds: tuple[tuple[tuple[str, str], Mapping[int, Any], str, str, str], ...] = (
            (
                ("W-DATA-B03", "E-DATA-B03"),
                self.not_finite,
                "hold values that are not finite",
                _listed(voxels),
                NOT_FINITE,
            ),
            (
                ("W-DATA-B38", "E-DATA-B38"),
                self.copies,
                "are copies of other volumes",
                _stretches(self.copies),
                COPIED,
            ),
            (
                ("W-DATA-B39", "E-DATA-B39"),
                places,
                "have slices of the head without a signal",
                _listed(places),
                DEAD,
            ),
        )
        return [
            DataFault(
                codes[as_faults],
                f"{len(bad)} of {self.run.n_volumes} volumes {what}: {where}{out}",
                fix=fix,
                file=self.run.path.name,
            )
            for codes, bad, what, where, fix in sorted(kinds, key=lambda one: -len(one[1]))
            if bad
        ]


def survey(run: RawRun) -> Survey:
    """Return what one reading of every byte of a run leaves.

    Raises
    ------
    DataFault
        The file is damaged, or another than the indexed one; half of the volumes or more hold no measurement
        (E-DATA-B03, B38, B39); every value is the same (E-DATA-B04).
    """
    shape = (run.n_volumes, run.shape[2])
    stride = max(run.n_volumes // N_REFERENCE, 1)
    means, spread = np.full(run.n_volumes, np.nan), dict[int, Array]()
    not_finite, copies, known = dict[int, int](), dict[int, int](), dict[int, int]()
    slice_means, silent = np.full(shape, np.nan, np.float32), np.zeros(shape, bool)
    ceiling = Ceiling(np.zeros(shape[0], int), np.zeros(shape[0], int), np.zeros(shape[1], bool))
    before: Array | None = None
    for number, volume in enumerate(run.volumes()):
        if count := voxels_not_finite(volume):
            not_finite[number] = count
            continue
        flat = volume.reshape(-1, shape[1], order="F")
        lowest, highest = flat.min(axis=0), flat.max(axis=0)
        means[number], slice_means[number] = volume.mean(), flat.mean(axis=0)
        silent[number] = (lowest == highest) | (before is not None and (flat == before).all(axis=0))
        ceiling.note(number, flat, float(highest.max()))
        before = flat
        first = known.setdefault(zlib.crc32(flat.T.tobytes()), number)
        if first != number and means[first] == means[number]:
            copies[number] = first
        # Where the one whose turn it is was damaged, the next stands for it.
        elif number >= len(spread) * stride + stride // 2:
            spread[number] = volume
    found = Survey(run, means, spread, not_finite, copies, slice_means, silent, ceiling)
    _refuse(found)
    return found


def _refuse(found: Survey) -> None:
    """Refuse a run of which too little is left, or that is flat."""
    if found.silent[0].all() and np.ptp(found.means) == 0 and np.ptp(found.slice_means) == 0:
        what = "flat image: every voxel of every volume has the same value"
        raise DataFault("E-DATA-B04", what, fix=RECOPY)
    if found.whole.sum() < max(MIN_VOLUMES, found.run.n_volumes // 2):
        raise found.remarks(as_faults=True)[0]


def clipped(found: Survey, n_head: int) -> list[DataFault]:
    """Return the remark on voxels at the highest value that the run's numbers can hold, or nothing.

    `n_head` is the number of voxels of the head.

    Raises
    ------
    DataFault
        They are more than `MAX_CLIPPED_SHARE` of the head on average (E-DATA-B40).
    """
    ceiling = found.ceiling
    if not ceiling.clips:
        return []
    share = float(ceiling.counts.mean()) / n_head
    reason = (
        f"up to {ceiling.counts.max()} voxels of a volume are cut off at {ceiling.value:g}, in "
        f"{(ceiling.counts > 0).sum()} of {found.run.n_volumes} volumes ({100 * share:.2g} % of the head on "
        f"average; slice {_stretches(np.flatnonzero(ceiling.slices))})"
    )
    code = "E-DATA-B40" if share > MAX_CLIPPED_SHARE else "W-DATA-B40"
    fault = DataFault(code, reason, fix=CUT_OFF, file=found.run.path.name)
    if code == "E-DATA-B40":
        raise fault
    return [fault]


def _listed(facts: dict[int, str], most: int = 5) -> str:
    """The first volumes, counted from 1, with what is said of each."""
    return first_of((f"{number + 1} ({fact})" for number, fact in facts.items()), most)


def _stretches(numbers: Iterable[int], most: int = 5) -> str:
    """Numbers, counted from 1, as stretches: `3, 31 to 60`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    said = [f"{first + 1}" if first == last else f"{first + 1} to {last + 1}" for first, last in found]
    return first_of(said, most)
