"""Skin conductance by models of its response, as PsPM has them: a linear model, and matching pursuit.

The linear model has a response at every event's onset (Bach et al., J Neurosci Methods 2009;184:224,
filtered as in Bach et al., Biol Psychol 2013;94:17); matching pursuit looks for spontaneous fluctuations
(Bach & Staib, Psychophysiology 2015;52:1106). Both responses and the fluctuations found are PsPM's to the
digits that the tests state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reconfmri.body.recordings import Array

MODEL_RATE = 10.0  # Hz, to which faster recordings are thinned
HIGH_PASS = 0.05  # Hz, order 1, forward only: of the recording and of the model alike
RESPONSE_LENGTH = 90.0  # s, of the canonical response
FLUCTUATION = (0.923581, 3.921034, 2.159389)  # of the differential equation of a fluctuation
BURST, BURST_SD, DELAY = 1.0, 0.3, 1.5339  # s: the nerve's burst, and its way to the skin
FLUCTUATION_LENGTH, TAIL = 30.0, 10.0  # s, of a fluctuation, and how early one may begin before the epoch
EPOCH = 60.0  # s that are searched at once
MOST_PER_SECOND, RESIDUAL = 0.5, 0.001  # fluctuations; µS² per sample at which the search ends
LEAST_FLUCTUATION = 0.1  # µS, of one that counts


def canonical_response(times: Array) -> Array:
    """Return PsPM's canonical skin conductance response at `times`, s from 0 on in equal steps, peak 1.

    A Gaussian (the burst of the sudomotor nerve) convolved with two exponentials. Bach et al., Int J
    Psychophysiol 2010;75:349.
    """
    burst = np.exp(-((times - 3.0745) ** 2) / (2 * 0.7013**2))
    decay = np.exp(-0.3176 * times) + np.exp(-0.0708 * times)
    found = np.convolve(burst, decay)[: len(times)]
    return np.asarray(found / found.max())


def response_heights(
    samples: Array, usable: npt.NDArray[np.bool_], rate: float, onsets: Sequence[float]
) -> Array | None:
    """Return the height (n_onsets,), µS, of the response to each onset, s from the first sample.

    Least squares of the canonical response and its derivative at every onset, and a constant; the height is
    the value of the fitted response that is farthest from 0. None where two onsets are too close to be told
    apart.
    """
    from scipy import signal

    step, clock = 1 / rate, np.arange(len(samples)) / rate
    times = np.arange(0, RESPONSE_LENGTH, step)
    shape = canonical_response(times)
    basis = np.stack([shape, np.gradient(shape, step)])
    columns = [np.interp(clock - onset, times, part, left=0, right=0) for onset in onsets for part in basis]
    high_pass = signal.butter(1, HIGH_PASS, "highpass", output="sos", fs=rate)
    design = signal.sosfilt(high_pass, np.stack(columns), axis=1)
    wanted = signal.sosfilt(high_pass, samples - samples[0])
    model = np.column_stack([design.T, np.ones(len(samples))])[usable]
    weights, _, rank, _ = np.linalg.lstsq(model, wanted[usable], rcond=1e-6)
    if rank < model.shape[1]:
        return None
    fitted = weights[:-1].reshape(-1, 2) @ basis
    return np.asarray(fitted[np.arange(len(fitted)), np.abs(fitted).argmax(axis=1)])


def fluctuation(rate: float) -> Array:
    """Return the response of a spontaneous fluctuation over 30 s, peak 1, by Euler's steps as in PsPM."""
    state, found = np.zeros(3), []
    for number in range(round(FLUCTUATION_LENGTH * rate)):
        found.append(state[0])
        burst = math.exp(-(((number + 1) / rate - BURST) ** 2) / (2 * BURST_SD**2))
        change = np.array([state[1], state[2], burst - np.dot(FLUCTUATION, state)])
        state = state + change / rate
    return np.asarray(np.array(found) / max(found))


def find_fluctuations(samples: Array, rate: float) -> tuple[Array, Array]:
    """Return onset (n,), s from the first sample, and height, µS, of every fluctuation of an epoch.

    `samples`: (n_samples,), µS, of an epoch of up to about 60 s. Matching pursuit: the atom that fits best is
    taken out, again and again; then all heights are fitted at once.
    """
    series, shape = samples - samples.min(), fluctuation(rate)
    n, tail = len(series), round(TAIL * rate)
    atoms = np.zeros((n + tail, n))
    for place, atom in enumerate(atoms, start=-tail):
        here = shape[max(-place, 0) : n - place]
        atom[max(place, 0) : max(place, 0) + len(here)] = here
    atoms /= np.maximum(sizes := np.linalg.norm(atoms, axis=1, keepdims=True), 1e-12)
    chosen: list[int] = []
    rest, free = series.copy(), np.ones(len(atoms), dtype=bool)
    while len(chosen) < MOST_PER_SECOND * n / rate:
        products = np.where(free, atoms @ rest, -np.inf)
        best = int(products.argmax())
        if products[best] <= 0:
            break
        chosen.append(best)
        free[best] = False
        rest -= products[best] * atoms[best]
        if float(rest @ rest) < RESIDUAL * n:
            break
    if not chosen:
        return np.array([]), np.array([])
    chosen.sort()
    heights = np.linalg.lstsq(atoms[chosen].T, series, rcond=None)[0] / sizes[chosen, 0]
    bursts = (np.array(chosen) - tail) / rate + BURST
    inside = (bursts >= -2) & (bursts <= n / rate - 1)
    return bursts[inside] - DELAY, heights[inside]


def count_fluctuations(samples: Array, usable: npt.NDArray[np.bool_], rate: float) -> int:
    """Return how many fluctuations of 0.1 µS or more peak in usable samples, by parts of 60 s."""
    n_parts = max(math.ceil(len(samples) / rate / EPOCH), 1)
    peak = (int(fluctuation(rate).argmax()) / rate) - BURST + DELAY
    number = 0
    for part, known in zip(np.array_split(samples, n_parts), np.array_split(usable, n_parts), strict=True):
        onsets, heights = find_fluctuations(part, rate)
        places = np.rint((onsets[heights > LEAST_FLUCTUATION] + peak) * rate).astype(int)
        inside = (places >= 0) & (places < len(part))
        number += int(known[places[inside]].sum())
    return number
