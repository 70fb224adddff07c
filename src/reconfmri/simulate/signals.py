"""Time courses: the BOLD answer to scripts, coupled fluctuations of regions, and skin conductance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reconfmri.simulate.planted import Timing, Visit

Series = npt.NDArray[np.float64]
STEP = 0.1  # s, grid on which answers are made
FLUCTUATION = 0.2  # percent signal change at the source, standard deviation
MEMORY = 3.0  # s, after which fluctuations have forgotten two thirds of themselves
COUPLED = ("amygdala", "hippocampus", "vmpfc")
SKIN_FREQUENCY = 50.0  # Hz
SKIN_LATENCY, SKIN_RISE, SKIN_DECAY = 1.2, 0.7, 4.0  # s


def glover() -> Series:
    """Return Glover's haemodynamic response on a 0.1 s grid over 32 s (Glover, NeuroImage 9:416, 1999)."""
    from scipy.stats import gamma

    times = np.arange(0, 32, STEP)
    response = gamma.pdf(times, 6 / 0.9, scale=0.9) - 0.48 * gamma.pdf(times, 12 / 0.9, scale=0.9)
    return np.asarray(response / response.sum())


def script_answers(timing: Timing) -> Series:
    """Return the BOLD answer to each script, (n_volumes, n_scripts), each with a peak of 1."""
    n_steps = round(timing.n_volumes * timing.tr / STEP)
    clock = np.arange(n_steps) * STEP
    response = glover()
    columns = []
    for _, onset, duration in timing.scripts:
        box = ((clock >= onset - 1e-9) & (clock < onset + duration - 1e-9)).astype(float)
        answer = np.convolve(box, response)
        columns.append((answer / answer.max())[: n_steps : round(timing.tr / STEP)])
    return np.stack(columns, axis=1)


def fluctuations(visit: Visit, n_volumes: int, tr: float, rng: np.random.Generator) -> dict[str, Series]:
    """Return spontaneous percent signal change per region, coupled at all frequencies as the visit says."""
    white = np.stack([coloured(n_volumes, tr, MEMORY, rng) for _ in (*COUPLED, "occipital")])
    root = np.linalg.cholesky(correlation_of(visit))
    coupled = FLUCTUATION * np.vstack([root @ white[:3], white[3:]])
    return dict(zip((*COUPLED, "occipital"), coupled, strict=True))


def correlation_of(visit: Visit) -> Series:
    """Return the 3 x 3 correlation of the coupled regions' fluctuations."""
    matrix = np.eye(3)
    for (one, other), z in visit.couplings.items():
        i, j = COUPLED.index(one), COUPLED.index(other)
        matrix[i, j] = matrix[j, i] = np.tanh(z)
    return matrix


def in_band_share(tr: float, band: tuple[float, float]) -> float:
    """Return which share of the fluctuations' variance lies in a band, Hz."""
    frequencies = np.linspace(0, 0.5 / tr, 20_001)
    memory = np.exp(-tr / MEMORY)
    power = 1 / (1 + memory**2 - 2 * memory * np.cos(2 * np.pi * frequencies * tr))
    inside = (frequencies >= band[0]) & (frequencies <= band[1])
    return float(power[inside].sum() / power.sum())


def coloured(n_volumes: int, tr: float, memory: float, rng: np.random.Generator) -> Series:
    """Return first-order autoregressive noise (n_volumes,) of unit variance; `memory` in s."""
    kept = np.exp(-tr / memory)
    series = rng.standard_normal(n_volumes)
    for k in range(1, n_volumes):
        series[k] = kept * series[k - 1] + np.sqrt(1 - kept**2) * series[k]
    return series


def skin_conductance(
    visit: Visit, timing: Timing, rng: np.random.Generator | None, *, frequency: float = SKIN_FREQUENCY
) -> Series:
    """Return skin conductance in µS: level, one response per script, and (given a generator) noise."""
    n = round(timing.n_volumes * timing.tr * frequency)
    clock = np.arange(n) / frequency
    phasic = np.zeros(n)
    for value, (_, onset, _) in zip(visit.skin, timing.scripts, strict=True):
        phasic += np.expm1(value) * _skin_response(clock - onset - SKIN_LATENCY)
    if rng is None:
        return 6.0 + phasic
    for start in rng.uniform(0, clock[-1], rng.poisson(clock[-1] / 40)):
        phasic += rng.uniform(0.02, 0.08) * _skin_response(clock - start)
    level = rng.uniform(4, 8) + 0.3 * np.interp(
        clock, np.linspace(0, clock[-1], 6), np.cumsum(rng.normal(size=6))
    )
    return level + phasic + rng.normal(0, 0.004, n)


def _skin_response(times: Series) -> Series:
    """Return one response of height 1: a difference of exponentials (Bateman)."""
    later = np.maximum(times, 0)
    shape = np.exp(-later / SKIN_DECAY) - np.exp(-later / SKIN_RISE)
    peak = np.log(SKIN_DECAY / SKIN_RISE) / (1 / SKIN_RISE - 1 / SKIN_DECAY)
    return np.asarray(shape / (np.exp(-peak / SKIN_DECAY) - np.exp(-peak / SKIN_RISE)))
