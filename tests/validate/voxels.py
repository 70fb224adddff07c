"""Comparison of voxels: false positives and power (`python -m tests.validate.voxels`).

14 and 13 people, a baseline and three visits. A voxel: type I error and power at a difference of one SD of
the visit, under four covariances, with nobody or 7, 20 and 33 % of people missing at the later visits; one
covariance over visits is pooled over the voxels of a trial, as in a study, and analysis of covariance stands
beside it. The brain: trials without any effect of smooth noise with missing visits, a small ellipsoid, the
highest of three visits under other draws of the allocation: how many trials have a corrected p up to .05.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.ndimage import gaussian_filter

from reconfmri import registration, templates
from reconfmri.group.estimands import ask
from reconfmri.group.grid import Outcome
from reconfmri.simulate.measures import COVARIANCES
from reconfmri.voxels.draws import allocations, corrected, heights, search_in
from reconfmri.voxels.model import Maps, fit

SESSIONS = ["1", "2", "3", "4"]
N, ACTIVE = 27, np.arange(27) < 14
MISSING = {"nobody": [0.0, 0.0, 0.0, 0.0], "7, 20, 33 %": [0.0, 0.07, 0.20, 0.33]}
SHAPE, SMOOTH = (16, 18, 14), 1.3  # voxels; SD of the kernel, a FWHM of three voxels
ALPHA = 0.05
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """Share of voxels with p up to .05 at the three later visits: the model, and analysis of covariance."""

    mmrm: Array
    ancova: Array


def rejections(
    covariance: str, missing: str, *, effect: float, size: tuple[int, int], seed: int, working: str = ""
) -> Shares:
    """Return the shares over the voxels of patterns of missing visits; `size`: patterns, voxels of each.

    `effect` in SDs of the visit; there is none at the baseline. `working`: the covariance that the model
    takes in place of the pooled one, as in a voxel that is unlike the others.
    """
    random = np.random.default_rng(seed)
    matrix = COVARIANCES[covariance]
    root, sds = np.linalg.cholesky(matrix), np.sqrt(np.diag(matrix))
    totals = np.zeros((2, 3))
    patterns, voxels = size
    for _ in range(patterns):
        seen = random.random((N, 4)) >= np.array(MISSING[missing])
        values = np.einsum("vw,nwm->nvm", root, random.standard_normal((N, 4, voxels)))
        values[ACTIVE, 1:] += (effect * sds[1:])[None, :, None]
        values[~seen] = np.nan
        maps = Maps.of(np.ones((voxels, 1, 1), dtype=bool), np.eye(4), values.astype(np.float32))
        model = fit(maps, outcome_of(seen, random), ask(["difference_adjusted"], SESSIONS))
        answers = (replace(model, covariance=COVARIANCES[working]) if working else model).effects()
        for visit, found in enumerate(answers):
            t = np.abs(found.estimate) / np.sqrt(found.variance)
            totals[0, visit] += np.mean(2 * stats.t.sf(t, found.df) <= ALPHA)
            both = seen[:, 0] & seen[:, visit + 1]
            p = ancova_p(values[both, visit + 1], values[both, 0], ACTIVE[both])
            totals[1, visit] += np.mean(p <= ALPHA)
    return Shares(totals[0] / patterns, totals[1] / patterns)


def outcome_of(seen: npt.NDArray[np.bool_], random: np.random.Generator) -> Outcome:
    """Return who was seen when, as the comparison of voxels has it."""
    values = np.where(seen, random.standard_normal(seen.shape), np.nan)
    people = tuple(f"sub-{place:02d}" for place in range(len(seen)))
    return Outcome("fear", "activation", "%", 0.4, values, ACTIVE, people=people, strata=("all",) * len(seen))


def ancova_p(values: Array, baseline: Array, active: npt.NDArray[np.bool_]) -> Array:
    """Return the p of the arm given the baseline, voxel by voxel, (m,), of values (n, m)."""
    fixed = np.column_stack([np.ones(len(active)), active.astype(float)])
    left = np.eye(len(active)) - fixed @ np.linalg.pinv(fixed)
    slope = (baseline * (left @ values)).sum(axis=0) / (baseline * (left @ baseline)).sum(axis=0)
    adjusted = values - slope * baseline
    ones = np.ones((len(active), 1))
    centred = np.eye(len(active)) - ones @ np.linalg.pinv(ones)
    arm = active.astype(float)
    x2, z2 = float(arm @ centred @ arm), (baseline * (centred @ baseline)).sum(axis=0)
    xz = arm @ centred @ baseline
    df = len(active) - 3
    residual = ((left @ adjusted) ** 2).sum(axis=0) / df
    estimate = (arm @ centred @ adjusted) / x2
    variance = residual / (x2 - xz**2 / z2)
    return np.asarray(2 * stats.t.sf(np.abs(estimate) / np.sqrt(variance), df))


def whole_brain(trials: int, draws: int, *, seed: int, missing: str = "7, 20, 33 %") -> dict[str, Array]:
    """Return way of looking -> the lowest corrected p of each trial without any effect."""
    random = np.random.default_rng(seed)
    half = np.array(SHAPE) / 2
    mask = ((((np.stack(np.indices(SHAPE), axis=-1)) - half + 0.5) / half) ** 2).sum(axis=-1) < 1
    root = np.linalg.cholesky(COVARIANCES["reference"])
    search = search_in(mask, float(stats.norm.isf(0.0005)), {})
    found: dict[str, list[float]] = {name: [] for name in search.names}
    for trial in range(trials):
        seen = random.random((N, 4)) >= np.array(MISSING[missing])
        noise = gaussian_filter(random.standard_normal((N, 4, *SHAPE)), (0, 0, *[SMOOTH] * 3))[:, :, mask]
        values = np.einsum("vw,nwm->nvm", root, noise / noise.std())
        values[~seen] = np.nan
        outcome = outcome_of(seen, random)
        model = fit(
            Maps.of(mask, np.eye(4), values.astype(np.float32)),
            outcome,
            ask(["difference_adjusted"], SESSIONS),
        )
        drawn = allocations(outcome.active, outcome.strata, n_draws=draws, seed=seed + trial)
        highest = heights(model, search, drawn).max(axis=1)  # over visits
        for place, name in enumerate(search.names):
            found[name].append(float(corrected(highest[:1, place], highest[:, place])[0]))
    return {name: np.array(p) for name, p in found.items()}


def cost(draws: int) -> tuple[int, float, float]:
    """Return the voxels of the template's brain at 2 mm, and processor time, s, of a model and of a draw.

    Of 27 people, 7, 20 and 33 % missing, differences at three visits.
    """
    random = np.random.default_rng(1)
    shape, affine = templates.target_grid(2.0)
    brain = registration.read_volume(templates.target_brain())
    mask = registration.sample(brain, registration.grid_points(shape, affine), order=0) > 0
    seen = random.random((N, 4)) >= np.array(MISSING["7, 20, 33 %"])
    values = np.full((N, 4, int(mask.sum())), np.nan, dtype=np.float32)
    for place in np.argwhere(seen):
        values[tuple(place)] = gaussian_filter(random.standard_normal(shape, dtype=np.float32), SMOOTH)[mask]
    maps, outcome = Maps.of(mask, affine, values), outcome_of(seen, random)
    search = search_in(mask, float(stats.norm.isf(0.0005)), {})
    started = time.process_time()
    model = fit(maps, outcome, ask(["difference_adjusted"], SESSIONS))
    _ = [effects.z for effects in model.effects()]
    fitted = time.process_time() - started
    heights(model, search, allocations(ACTIVE, outcome.strata, n_draws=1, seed=1))  # compiled now
    some = allocations(ACTIVE, outcome.strata, n_draws=draws, seed=1)
    started = time.process_time()
    heights(model, search, some)
    return int(mask.sum()), fitted, (time.process_time() - started) / len(some.sides)


def error_of(share: float, n: int) -> float:
    """Return the Monte Carlo standard error of a share of n."""
    return math.sqrt(share * (1 - share) / n)


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=500, help="trials of the whole brain")
    parser.add_argument("--draws", type=int, default=199, help="draws of the allocation of each")
    parser.add_argument("--patterns", type=int, default=100, help="patterns of missing visits of a voxel")
    parser.add_argument("--voxels", type=int, default=1000, help="voxels of each pattern")
    parser.add_argument("--seed", type=int, default=3, help="of the trials of the whole brain")
    parser.add_argument("--cost", action="store_true", help="only what a brain at 2 mm costs, one thread")
    options = parser.parse_args()
    if options.cost:
        voxels, fitted, drawn = cost(15)
        print(f"{voxels} voxels: the model {fitted:.2f} CPU s, a draw {drawn:.3f} CPU s, three visits each")
        return 0
    size = options.patterns, options.voxels
    print("covariance\tmissing\tmodel\ttype I at visits 1 to 3\tpower at 1 SD")
    for covariance in COVARIANCES:
        for missing in MISSING:
            null = rejections(covariance, missing, effect=0.0, seed=1, size=size)
            there = rejections(covariance, missing, effect=1.0, seed=2, size=size)
            for name in ("mmrm", "ancova"):
                shares = [getattr(part, name).round(3).tolist() for part in (null, there)]
                print(covariance, missing, name, *shares, sep="\t", flush=True)
    for working in ("compound symmetric", "autoregressive"):
        null = rejections("growing", "7, 20, 33 %", effect=0.0, seed=1, working=working, size=size)
        print("growing", "7, 20, 33 %", f"mmrm, taken as {working}", null.mmrm.round(3).tolist(), sep="\t")
    for name, p in whole_brain(options.trials, options.draws, seed=options.seed).items():
        share = float((p <= ALPHA).mean())
        error = error_of(share, len(p))
        print(
            f"{name}: {100 * share:.1f} % of {len(p)} trials (Monte Carlo SE {100 * error:.1f})", flush=True
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
