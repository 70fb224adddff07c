"""Slices of one volume brought to one moment, as the volumes stream by.

Each slice's value at the reference time is the best linear prediction from up to 17 volumes around (ordinary
kriging; Matheron, Economic Geology 1963;58:1246), for a process whose power falls with frequency as BOLD's
does. Weights sum to one, and a slice that was taken at the reference time stays as it is. At the run's ends,
around volumes that are missing, and after those that are not steady yet, the same formula uses what is there:
nothing is padded or bleeds.
Why slices at all: Sladky et al., NeuroImage 2011;58:588.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import count

import numpy as np

from reconfmri.acquisition import SliceTimes
from reconfmri.registration import Array

REACH = 8  # volumes before and after
# Power of the process: shares of flat spectra up to these frequencies, in cycles per volume. The part that
# reaches 0.5 keeps the weights small where the run begins and ends.
SPECTRUM = ((0.05, 0.6), (0.2, 0.25), (0.42, 0.145), (0.5, 0.005))


def corrected(
    volumes: Iterator[Array],
    slices: SliceTimes,
    *,
    tr: float,
    n_non_steady: int = 0,
    numbers: Iterable[int] | None = None,
) -> Iterator[Array]:
    """Yield each volume (x, y, z), float32, as if all its slices had been taken at `slices.reference`.

    `numbers` tells which volumes of the run these are, where some are missing. At most 17 are held. Volumes
    before number `n_non_steady` come as they are and are nobody's neighbours.
    """
    late = tuple(round((slices.reference - time) / tr, 6) for time in slices.times)
    # Volumes first: they are read to their end, where a damaged file shows itself.
    coming = zip(volumes, count() if numbers is None else numbers, strict=False)
    held: deque[tuple[Array, int]] = deque()
    due = 0  # place among those that are held
    while True:
        while due == len(held) or held[-1][1] < held[due][1] + REACH:
            if (following := next(coming, None)) is None:
                break
            if following[1] < n_non_steady:
                yield following[0]
            else:
                held.append(following)
        if due == len(held):
            return
        yield _at_reference(held, held[due][1], late, slices.axis)
        due += 1
        while due < len(held) and held[0][1] < held[due][1] - REACH:
            held.popleft()
            due -= 1


def weights(late: tuple[float, ...], places: tuple[int, ...]) -> Array:
    """Return (n_slices, n_places): the weights of a slice's neighbours in time.

    `late` is how long after its own acquisition each slice is wanted, `places` how long after it the
    neighbours were taken, both in volumes.
    """
    at = np.array(places)
    among = _covariance(at[:, None] - at)
    towards = _covariance(at - np.array(late)[:, None])
    plain = np.linalg.solve(among, towards.T).T
    flat = np.linalg.solve(among, np.ones(len(at)))
    return np.asarray(plain + (1 - plain.sum(axis=1, keepdims=True)) * flat / flat.sum())


_cached_weights = cache(weights)


def _covariance(lag: Array) -> Array:
    return np.asarray(sum(share * np.sinc(2 * highest * lag) for highest, share in SPECTRUM))


def _at_reference(held: deque[tuple[Array, int]], now: int, late: tuple[float, ...], axis: int) -> Array:
    shares = _cached_weights(late, tuple(number - now for _, number in held)).astype(np.float32)
    along = [1, 1, 1]
    along[axis] = len(late)
    total = np.zeros_like(held[0][0], dtype=np.float32)
    for (volume, _), share in zip(held, shares.T, strict=True):
        total += volume * share.reshape(along)
    return total
