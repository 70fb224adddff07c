"""Counted responses and levels of skin conductance in simulated recordings (`-m tests.validate.skin`).

The generator shares nothing with the scorer. Ten minutes with four scripts of two minutes, which raise the
level by 0.9 or 0.4 µS; responses of 0.1 to 2 µS that overlap, of a shape drawn anew for each recording:
differences of exponentials (rise 0.5-0.9 s, decay 2-5 s), the sigmoid and exponential of Lim et al. 1997,
gamma densities, or PsPM's canonical response. SNR: variance of the responses over that of white noise at the
recording's rate. Artefacts: slices and volumes of the scanner at 17, 11 and 1 Hz, knocks on an electrode, a
loose one for 4 s. Truth: peaks of the recording without noise and artefacts that stand out by 0.05 µS, where
samples are usable. Printed: recall and precision of counted responses, mean error of the level change in
percent of it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal

from reconfmri.body.artefacts import find_artefacts
from reconfmri.body.responses import find_responses
from reconfmri.body.scores import Script, Signal, mean_change
from reconfmri.body.skin_conductance import clean, fill_gaps
from reconfmri.config import Artefacts

SECONDS, REACH = 600.0, 1.5
SCRIPTS = [
    (20.0 + 140 * n, 120.0, (0.9, 0.4)[n % 2]) for n in range(4)
]  # onset, duration, change of the level
RATES, RATIOS = (30, 60, 100, 250, 1000), (5, 10, 20, 40)  # Hz, dB
SHAPES = ("exponentials", "sigmoid", "gamma", "canonical")
PACES = {
    "usual": (1.5, 6.0),
    "dense": (1.5, 3.0),
    "sparse": (3.0, 12.0),
}  # s: least gap, mean of what is added


@dataclass(frozen=True)
class Found:
    """Responses that are counted, true, and both; errors of level changes, in shares of them."""

    counted: int
    true: int
    met: int
    errors: tuple[float, ...]


def shape_of(name: str, random: np.random.Generator) -> np.ndarray:
    """Return a response at 100 Hz over 40 s, its peak 1."""
    times = np.arange(0, 40, 0.01)
    if name == "exponentials":
        rise, decay = random.uniform(0.5, 0.9), random.uniform(2, 5)
        found = np.exp(-times / decay) - np.exp(-times / rise)
    elif name == "sigmoid":
        rise, decay = random.uniform(0.4, 0.8), random.uniform(1.5, 6)
        found = np.exp(-times / decay) / (1 + (rise / np.maximum(times, 1e-3)) ** 2) ** 2
    elif name == "gamma":
        found = times ** random.uniform(1, 2.5) * np.exp(-times / random.uniform(0.8, 1.3))
    else:
        burst = np.exp(-((times - 3.0745) ** 2) / (2 * 0.7013**2))
        found = np.convolve(burst, np.exp(-0.3176 * times) + np.exp(-0.0708 * times))[: len(times)]
    return np.asarray(found / found.max())


def plant(
    random: np.random.Generator, rate: float, ratio: float, *, shape: str, pace: str, artefacts: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return clock, s, recording, and the same without noise and artefacts, µS."""
    clock = np.arange(round(SECONDS * rate)) / rate
    response, phasic = shape_of(shape, random), np.zeros(len(clock))
    gap, mean = PACES[pace]
    onset = 3.0
    while (onset := onset + gap + random.exponential(mean)) < SECONDS - 8:
        first = int(np.searchsorted(clock, onset))
        here = slice(first, first + int(39 * rate))
        height = np.exp(random.normal(np.log(0.3), 0.5)).clip(0.1, 2)
        phasic[here] += height * np.interp(clock[here] - onset, np.arange(len(response)) * 0.01, response)
    level = random.uniform(3, 12) + 0.3 * np.sin(2 * np.pi * clock / 400 + random.uniform(0, 6))
    for start, length, change in SCRIPTS:
        level += change * np.interp(clock, start + np.array([0, 2, length, length + 3]), [0, 1, 1, 0])
    pure = level + phasic
    noisy = pure + random.normal(0, phasic.std() / 10 ** (ratio / 20), len(clock))
    if artefacts:
        _spoil(random, clock, rate, noisy)
    return clock, noisy, pure


def _spoil(random: np.random.Generator, clock: np.ndarray, rate: float, noisy: np.ndarray) -> None:
    if rate > 60:
        noisy += 0.3 * np.sin(2 * np.pi * 17 * clock) + 0.2 * np.sign(np.sin(2 * np.pi * 11 * clock))
        noisy += 0.1 * (clock % 1.0 < 0.05)  # a volume a second
    for start in random.uniform(10, SECONDS - 10, 5):
        here = (clock > start) & (clock < start + random.uniform(0.2, 1.5))
        noisy[here] += random.choice([-1, 1]) * random.uniform(2, 8)
    loose = random.uniform(30, SECONDS - 30)
    noisy[(clock > loose) & (clock < loose + 4)] = 0.0


def hits(
    found: Sequence[float] | np.ndarray, true: Sequence[float] | np.ndarray, reach: float = REACH
) -> int:
    """Return how many of `found` meet one of `true` each, within `reach` s."""
    left, number = list(true), 0
    for moment in found:
        near = min(left, key=lambda other: abs(other - moment), default=np.inf)
        if abs(near - moment) <= reach:
            left.remove(near)
            number += 1
    return number


def score(clock: np.ndarray, noisy: np.ndarray, pure: np.ndarray, rate: float) -> Found:
    """Return what the scorer makes of a recording."""
    usable = find_artefacts(noisy, rate, Artefacts()).mask
    cleaned = clean(fill_gaps(np.where(usable, noisy, np.nan)), rate)
    counted = find_responses(cleaned, rate)[0]
    counted = counted[usable[np.minimum(np.rint(counted * rate).astype(int), len(usable) - 1)]]
    standing = signal.find_peaks(pure, prominence=0.05)[0]
    true = clock[standing[usable[standing]]]
    scored, errors = Signal(cleaned, usable, rate, 0.0, "simulated"), []
    for onset, length, size in SCRIPTS:
        script = Script("script", onset, length, 1, 1, (onset - 5, onset))
        here = (clock >= onset) & (clock < onset + length)
        before = (clock >= onset - 5) & (clock < onset)
        change = mean_change(scored, script, 0.5).value
        errors.append((change - pure[here].mean() + pure[before].mean()) / size)
    return Found(len(counted), len(true), hits(counted, true), tuple(errors))


def cell(
    rate: float, ratio: float, *, shape: str = "exponentials", pace: str = "usual", artefacts: bool = False,
    recordings: int = 3,
) -> Found:  # fmt: skip
    """Return the sums over some recordings of one kind; a lost baseline has no error."""
    parts = []
    for number in range(recordings):
        random = np.random.default_rng([number, int(rate), int(ratio), SHAPES.index(shape), int(artefacts)])
        planted = plant(random, rate, ratio, shape=shape, pace=pace, artefacts=artefacts)
        parts.append(score(*planted, rate))
    counted, true, met = (sum(getattr(part, name) for part in parts) for name in ("counted", "true", "met"))
    return Found(counted, true, met, tuple(error for part in parts for error in part.errors))


def main() -> None:
    """Print a line per shape, pace, artefacts and rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=10, help="per cell (default: 10)")
    recordings = parser.parse_args().recordings
    kinds = [(shape, "usual") for shape in SHAPES] + [("exponentials", "dense"), ("exponentials", "sparse")]
    print("recall / precision (error of the level, %) at", ", ".join(f"{ratio} dB" for ratio in RATIOS))
    for shape, pace in kinds:
        for artefacts in (False, True):
            for rate in RATES:
                cells = [
                    cell(rate, ratio, shape=shape, pace=pace, artefacts=artefacts, recordings=recordings)
                    for ratio in RATIOS
                ]
                shown = [
                    f"{one.met / one.true:.2f} / {one.met / one.counted:.2f} "
                    f"({100 * np.nanmean(np.abs(one.errors)):.1f})"
                    for one in cells
                ]
                name = f"{shape}, {pace}, {'artefacts' if artefacts else 'clean'}, {rate} Hz"
                print(f"{name:44s}", "  ".join(shown), flush=True)


if __name__ == "__main__":
    main()
