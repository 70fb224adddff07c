"""Connectivity on a planted truth: `python -m tests.validate.coupling [--people 200] [--trials 2000]`.

Two regions fluctuate; the target follows the seed by a slope that may be larger in one condition. Both answer
the scripts, with an activation that may fall within a script and from script to script. Signals are made in
steps of 0.1 s with the simulator's own haemodynamic response, not with that of the estimators. People are
simulated once per cell, with the same random numbers in every cell, and drawn into trials of 14 and 13; `d`
is the mean change of a person against the cell in which nothing differs, in SDs of people.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from reconfmri.config import Connectivity, Task
from reconfmri.signal.connectivity import couple
from reconfmri.simulate.planted import timing_of
from reconfmri.simulate.signals import STEP, glover

TASK = Task(conditions={"trauma": "trauma", "sad": "sad", "relax": "neutral"})
CONTRAST = "trauma-neutral"
ARMS = (14, 13)
PAIRS_PER_RUN = 20


@dataclass(frozen=True)
class Cell:
    """One truth: slopes in trauma and elsewhere, activation (percent), its fall, noise, and fluctuation."""

    label: str
    slope: float = 0.5
    added: float = 0.0  # to the slope, in trauma scripts
    activation: float = 0.0  # of the first trauma script at its onset, in SDs of the fluctuations
    fall_s: float = np.inf  # time constant within a script
    repetition: float = 1.0  # of a script's activation, relative to the one before
    snr: float = 2.0  # SD of the fluctuations over that of the noise, in BOLD; infinite: no noise
    swing: float = 1.0  # SD of the seed's fluctuations in trauma scripts, relative to elsewhere
    tr: float = 2.0


@dataclass(frozen=True)
class Scripts:
    """The design: events, volumes, and where each trauma script lies."""

    events: pd.DataFrame
    n_volumes: int
    tr: float

    @property
    def clock(self) -> np.ndarray:
        """Time of each step, s."""
        return STEP * np.arange(round(self.n_volumes * self.tr / STEP))


def design(tr: float, timing: str = "full") -> Scripts:
    """Return the scripts of the reference trial at a repetition time."""
    given = timing_of(timing)
    rows = [(onset, length, kind) for kind, onset, length in given.scripts]
    events = pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])
    return Scripts(events, round(given.n_volumes * given.tr / tr), tr)


def neural(cell: Cell, scripts: Scripts, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the neural signals of n seeds and targets, (n_steps, n); fluctuations have unit variance."""
    clock = scripts.clock
    kept = np.exp(-STEP / 1.0)
    white = rng.standard_normal((2, len(clock), n)) * np.sqrt(1 - kept**2)
    from scipy.signal import lfilter

    seed, own = lfilter([1.0], [1.0, -kept], white, axis=1)
    active = np.zeros(len(clock))
    slope, swing = np.full(len(clock), cell.slope), np.ones(len(clock))
    seen: dict[str, int] = {}
    heights = {"trauma": 1.0, "sad": 0.6, "relax": 0.4}
    for onset, length, kind in scripts.events.itertuples(index=False):
        inside = (clock >= onset) & (clock < onset + length)
        height = cell.activation * heights[kind] * cell.repetition ** seen.get(kind, 0)
        active[inside] += height * np.exp(-(clock[inside] - onset) / cell.fall_s)
        seen[kind] = seen.get(kind, 0) + 1
        if kind == "trauma":
            slope[inside] += cell.added
            swing[inside] = cell.swing
    seed = swing[:, None] * seed
    return seed + active[:, None], slope[:, None] * seed + own * 0.8 + active[:, None]


def measured(
    neural_signal: np.ndarray, scripts: Scripts, snr: float, scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Return BOLD (n_volumes, n) around 1,000, percent fluctuations of about a half."""
    from scipy.signal import oaconvolve

    bold = oaconvolve(neural_signal, glover()[:, None], axes=0)[: len(neural_signal)]
    bold = bold[:: round(scripts.tr / STEP)][: scripts.n_volumes]
    noise = rng.standard_normal(bold.shape)
    for k in range(1, len(noise)):
        noise[k] = 0.3 * noise[k - 1] + np.sqrt(1 - 0.09) * noise[k]
    return np.asarray(1000 + 5 / scale * (bold + (scale / snr if np.isfinite(snr) else 0.0) * noise))


def estimates(
    cell: Cell, people: int, *, model: str = "bins", events: str = "each", seed: int = 0, timing: str = "full"
) -> pd.DataFrame:
    """Return one row per person and a column per estimator of the contrast trauma - neutral."""
    rng, scripts = np.random.default_rng(seed), design(cell.tr, timing)
    pairs = [(f"a{k}", f"b{k}") for k in range(PAIRS_PER_RUN)]
    settings = Connectivity(
        task="memory", pairs=pairs, conditions=["trauma"], contrasts={CONTRAST: {"trauma": 1, "neutral": -1}},
        task_model=model, confounds=["motion6"], min_df=4.0,
    )  # fmt: skip
    quiet = neural(replace(cell, activation=0.0, swing=1.0, added=0.0), scripts, 8, np.random.default_rng(1))
    scale = float(measured(quiet[0], scripts, np.inf, 5.0, rng).std())
    found = []
    for _ in range(-(-people // PAIRS_PER_RUN)):
        both = neural(cell, scripts, PAIRS_PER_RUN, rng)
        series = np.hstack([measured(part, scripts, cell.snr, scale, rng) for part in both])
        names = [name for side in zip(*pairs, strict=True) for name in side]
        motion = rng.standard_normal((scripts.n_volumes, 6)).cumsum(axis=0)
        columns = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
        rows, _ = couple(
            pd.DataFrame(series, columns=names), pd.DataFrame(motion, columns=columns), scripts.events,
            tr=scripts.tr, task=TASK.model_copy(update={"events": events}), settings=settings,
        )  # fmt: skip
        rows = rows[rows["condition"] == CONTRAST]
        found.append(rows.pivot_table(index=["seed"], columns="estimator", values="value"))
    return pd.concat(found, ignore_index=True)[:people]


def trials(one: pd.Series, other: pd.Series, n: int, seed: int = 0) -> tuple[float, float]:
    """Return how often Welch's test finds a difference and how often its interval holds the true one."""
    rng, truth = np.random.default_rng(seed), float(one.mean() - other.mean())
    a, b = (rng.choice(part, (n, size)) for part, size in zip((one, other), ARMS, strict=True))
    found = stats.ttest_ind(a, b, axis=1, equal_var=False)
    low, high = found.confidence_interval(0.95)
    return float((found.pvalue < 0.05).mean()), float(((low <= truth) & (truth <= high)).mean())


FALLING = {"activation": 3.0, "fall_s": 30.0, "repetition": 0.6}
PLANTED = {"added": 0.5}
# Task model and regressors of the task: the default, a box per presentation, a box per condition.
MODELS = {
    "bins": ("bins", "each"),
    "presentations": ("events", "each"),
    "conditions": ("events", "condition"),
}


def main() -> None:
    """Print bias and power of every estimator, by both task models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--trials", type=int, default=2000)
    given = parser.parse_args()
    null = Cell("nothing differs")
    cells = [
        null,
        Cell("steady activation", activation=3.0),
        Cell("activation falls", **FALLING),
        Cell("seed fluctuates 1.5 times more", swing=1.5),
        *(Cell(f"slope + .5, SNR {snr:g}, TR {tr:g}", snr=snr, tr=tr, **PLANTED)
          for tr in (2.0, 1.0) for snr in (np.inf, 2.0, 1.0, 0.5)),
    ]  # fmt: skip
    print("cell\ttask model\testimator\tmean\tSD\td against nothing\trejected 14/13\tcovered")
    for name, (model, events) in MODELS.items():
        base: dict[float, pd.DataFrame] = {}
        others: dict[float, pd.DataFrame] = {}
        for cell in cells:
            asked = {"model": model, "events": events}
            if cell.tr not in base:
                base[cell.tr] = estimates(replace(null, tr=cell.tr), given.people, seed=99, **asked)
                others[cell.tr] = estimates(replace(null, tr=cell.tr), given.people, seed=7, **asked)
            people, nothing = estimates(cell, given.people, seed=99, **asked), base[cell.tr]
            for estimator in people:
                one, other = people[estimator], nothing[estimator]
                d = (one.mean() - other.mean()) / other.std()
                rejected, covered = trials(one, others[cell.tr][estimator], given.trials)
                print(
                    f"{cell.label}\t{name}\t{estimator}\t{one.mean():.3f}\t{one.std():.3f}\t{d:.2f}\t"
                    f"{rejected:.3f}\t{covered:.3f}", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
