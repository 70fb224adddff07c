"""Which samples of skin conductance no score may use: the published rules of PsPM's `pspm_scr_pp`.

Range, slope, clipping, islands between artefacts, and a margin about each. Kleckner et al., IEEE Trans Biomed
Eng 2018;65:1460, from which PsPM took range, slope and margin. Nothing is filled in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from reconfmri.body.recordings import Array, runs_of
from reconfmri.config import Artefacts

Mask = npt.NDArray[np.bool_]
DEFLECTION = 0.1  # µS: smaller steps are no artefact, however steep (PsPM's deflection threshold)
SLOPE_RATES = (25.0, 12.5, 8.0, 5.0)  # Hz: at 1000 Hz noise of 0.01 µS alone passes 10 µS/s
QUIET = 0.2  # share of the steepest slope that the spread of the steps may be
CLIPPED = 1.0  # s at an end of the recording's range
STANDSTILL = 3.0  # times what a coarse converter stands still at other levels
RULES = ("missing", "range", "slope", "clipping", "margin", "island")
Dtype = TypeVar("Dtype", bound=np.generic)


@dataclass(frozen=True)
class Usable:
    """Which samples (n,) may be used, and how many seconds each rule took out, a sample counted once."""

    mask: Mask
    seconds: dict[str, float]

    @property
    def words(self) -> str:
        """`slope 2.1 s, margin 1.0 s`; empty where nothing was taken out."""
        return ", ".join(f"{rule} {length:.1f} s" for rule, length in self.seconds.items() if length > 0)


def find_artefacts(samples: Array, frequency: float, rules: Artefacts) -> Usable:
    """Return which samples (n,), µS, may be used, by the rules in their order."""
    known = np.isfinite(samples)
    low, high = rules.range
    found = {
        "missing": ~known,
        "range": known & ((samples < low) | (samples > high)),
        "slope": _steep(samples, frequency, rules.max_slope),
        "clipping": _clipped(samples, frequency),
    }
    # Samples that are only absent are known exactly: neither a margin nor an island belongs to them.
    artefact = np.logical_or.reduce([found[rule] & known for rule in ("range", "slope", "clipping")])
    found["margin"] = _widened(artefact, round(rules.margin * frequency))
    # What a knock lifted for some seconds lies between its two slopes, and is as wrong as they are.
    found["island"] = _islands(found["margin"], round(rules.min_island * frequency))
    return Usable(~np.logical_or.reduce(list(found.values())), _counted(found, frequency))


def _counted(found: dict[str, Mask], frequency: float) -> dict[str, float]:
    seen = np.zeros(len(found["missing"]), dtype=bool)
    seconds = {}
    for rule in RULES:
        seconds[rule] = float((found[rule] & ~seen).sum() / frequency)
        seen |= found[rule]
    return seconds


def _steep(samples: Array, frequency: float, steepest: float) -> Mask:
    """Samples on a slope over `steepest`, µS/s, that rises or falls by more than the deflection threshold.

    The recording is averaged first, to 25 Hz or as far as its noise asks: the rule is about electrodes.
    """
    for rate in SLOPE_RATES:
        factor = max(int(frequency // rate), 1)
        steps = np.diff(block_means(samples, factor))
        known = np.abs(steps[np.isfinite(steps)])
        if not len(known) or 1.4826 * np.median(known) * frequency / factor <= QUIET * steepest:
            break
    steep = np.abs(np.nan_to_num(steps)) * frequency / factor > steepest
    # A steep stretch of one direction counts by its whole rise or fall.
    same = np.concatenate([[False], steep[1:] & steep[:-1] & (np.sign(steps[1:]) == np.sign(steps[:-1]))])
    groups = np.cumsum(~same) if len(steep) else np.zeros(0, dtype=int)
    moved = np.abs(np.bincount(groups, weights=np.where(steep, np.nan_to_num(steps), 0.0), minlength=1))
    wide = steep & (moved[groups] > DEFLECTION) if len(steep) else steep
    blocks = np.concatenate([wide, [False]]) | np.concatenate([[False], wide])
    return _per_sample(blocks, factor, len(samples))


def _clipped(samples: Array, frequency: float) -> Mask:
    """Samples that stand at an end of the recording's range for a second or more.

    A coarse converter stands still at any level; then three times what it does elsewhere are needed.
    """
    out = np.zeros(len(samples), dtype=bool)
    known = samples[np.isfinite(samples)]
    if not len(known):
        return out
    reach = 1e-9 * max(float(np.ptp(known)), 1e-9)
    inside = known[(known > known.min() + reach) & (known < known.max() - reach)]
    longest = max(round(CLIPPED * frequency), round(STANDSTILL * _standstill(inside)))
    for edge in (known.min(), known.max()):
        at = np.abs(np.nan_to_num(samples, nan=np.inf) - edge) <= reach
        out |= at & ~_without_short(at, longest)
    return out


def _standstill(samples: Array) -> float:
    """How many equal samples in a row 95 % of the samples stand in at most."""
    if not len(samples):
        return 0.0
    starts = np.flatnonzero(np.concatenate([[True], np.diff(samples) != 0]))
    lengths = np.diff(np.concatenate([starts, [len(samples)]]))
    return float(np.percentile(np.repeat(lengths, lengths), 95))


def _without_short(where: Mask, longest: int) -> Mask:
    """The runs of True shorter than `longest` samples."""
    out = np.zeros(len(where), dtype=bool)
    for first, last in runs_of(where):
        out[first:last] = last - first < longest
    return out


def _islands(bad: Mask, longest: int) -> Mask:
    """Good runs shorter than `longest` samples between two bad ones; what touches an end is no island."""
    good = ~bad
    short = _without_short(good, longest)
    if not bad.any():
        return short & bad
    first, last = int(bad.argmax()), len(bad) - int(bad[::-1].argmax())
    short[:first] = False
    short[last:] = False
    return short


def _widened(where: Mask, by: int) -> Mask:
    """Every sample within `by` samples of a True one."""
    if by == 0 or not where.any():
        return where
    steps = np.zeros(len(where) + 1, dtype=np.int64)
    starts, ends = runs_of(where).T
    np.add.at(steps, np.maximum(starts - by, 0), 1)
    np.add.at(steps, np.minimum(ends + by, len(where)), -1)
    return np.asarray(np.cumsum(steps[:-1]) > 0)


def block_means(samples: Array, factor: int) -> Array:
    """Return the means of blocks of `factor` samples, NaN where one is missing; the rest is dropped."""
    n_blocks = len(samples) // factor
    return np.asarray(samples[: n_blocks * factor].reshape(n_blocks, factor).mean(axis=1))


def _per_sample(blocks: npt.NDArray[Dtype], factor: int, n_samples: int) -> npt.NDArray[Dtype]:
    every = np.repeat(blocks, factor)
    tail = np.full(n_samples - len(every), every[-1] if len(every) else False, dtype=blocks.dtype)
    return np.concatenate([every, tail])
