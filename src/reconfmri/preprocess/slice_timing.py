"""Slices of one volume brought to one moment, as the volumes stream by.

Each slice's value at the reference time is the best linear prediction from up to 17 volumes around (ordinary
kriging; Matheron, Economic Geology 1963;58:1246), for a process whose power falls with frequency as BOLD's
does. Weights sum to one, and a slice that was taken at the reference time stays as it is. At the run's ends,
and after volumes that are not steady yet, the same formula uses what is there: nothing is padded or bleeds.
Why slices at all: Sladky et al., NeuroImage 2011;58:588.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache

import numpy as np

from reconfmri.acquisition import SliceTimes
from reconfmri.registration import Array

REACH = 8  # volumes before and after
# Power of the process: shares of flat spectra up to these frequencies, in cycles per volume. The part that
# reaches 0.5 keeps the weights small where the run begins and ends.
SPECTRUM = ((0.05, 0.6), (0.2, 0.25), (0.42, 0.145), (0.5, 0.005))


def corrected(
    volumes: Iterator[Array], slices: SliceTimes, *, tr: float, n_non_steady: int = 0
) -> Iterator[Array]:
    """Yield each volume (x, y, z), float32, as if all its slices had been taken at `slices.reference`.

    At most 17 volumes are held. The first `n_non_steady` come as they are and are nobody's neighbours.
    """
    for _ in range(n_non_steady):
        yield next(volumes)
    late = tuple(round((slices.reference - time) / tr, 6) for time in slices.times)
    held: deque[Array] = deque()
    first, number = 0, 0  # of the volumes that are held, and of the one that is due
    while True:
        while first + len(held) <= number + REACH and (volume := next(volumes, None)) is not None:
            held.append(volume)
        if number == first + len(held):
            return
        yield _at_reference(held, number - first, late, slices.axis)
        number += 1
        if number - first > REACH:
            held.popleft()
            first += 1


def weights(late: tuple[float, ...], before: int, after: int) -> Array:
    """Return (n_slices, before + 1 + after): the weights of a slice's neighbours in time.

    `late` is how long after its own acquisition each slice is wanted, in volumes; `before` and `after` count
    the neighbours.
    """
    places = np.arange(-before, after + 1)
    among = _covariance(places[:, None] - places)
    towards = _covariance(places - np.array(late)[:, None])
    plain = np.linalg.solve(among, towards.T).T
    flat = np.linalg.solve(among, np.ones(len(places)))
    return np.asarray(plain + (1 - plain.sum(axis=1, keepdims=True)) * flat / flat.sum())


_cached_weights = cache(weights)


def _covariance(lag: Array) -> Array:
    return np.asarray(sum(share * np.sinc(2 * highest * lag) for highest, share in SPECTRUM))


def _at_reference(held: deque[Array], place: int, late: tuple[float, ...], axis: int) -> Array:
    shares = _cached_weights(late, place, len(held) - 1 - place).astype(np.float32)
    along = [1, 1, 1]
    along[axis] = len(late)
    total = np.zeros_like(held[0], dtype=np.float32)
    for volume, share in zip(held, shares.T, strict=True):
        total += volume * share.reshape(along)
    return total
