"""Coverage, bias and type I error of the group engines over simulated trials (`make validate`).

Scenarios: no effect and a planted one, under four covariances over visits; 14 and 13 people, a baseline
and three visits, 7, 20 and 33 % missing; and four departures from them. The s of the priors is what
`group.scales` asks for, the SD at the visit where people differ most. Where it is not 1, the scenario is
repeated with s = 1, a third too small: shown, not judged. Among 324 cells some miss a bound by chance: a cell
that does is asked again in three times as many new trials, and those decide.

`reml`, `ancova` and `welch` are the functions of the workflow; `bayes` is the same model by the batched
sampler of `gibbs.py`, and a few trials of every scenario also go through the full sampler with its gate. REML
with a random intercept is shown beside them to see it fail, and is not judged. Exits with 1 when a bound is
missed.
"""

import argparse
import logging
import time
import zlib
from collections.abc import Collection
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from tests.validate import gibbs

from reconfmri.config import Estimand, Group
from reconfmri.group import frequentist, randomisation
from reconfmri.group.estimands import NotEstimableError, Question
from reconfmri.group.grid import Outcome
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_values

ESTIMANDS: tuple[Estimand, ...] = ("difference_adjusted", "difference_unadjusted", "difference_of_change")
PLANTED = np.array([0.0, -0.8, -0.7, -0.5])
LEVEL = 0.95
# (coverage per cell, mean coverage of an engine); the wide form catches bugs only
FULL_BOUNDS = ((0.925, 0.975), (0.94, 0.96))
SIZE_BOUNDS, SIZE_FACTOR = (0.04, 0.06), 2.5  # of the randomisation test, at 2.5 times the trials
SMALL_BOUNDS = ((0.89, 0.995), (0.92, 0.98))
MAX_WITHHELD = 0.02
UNIT = "percent signal change"
SHOWN = "random intercept"
TOO_SMALL = "; s too small"
AGAIN, AGAIN_FACTOR = "; asked again", 3


def scenarios() -> dict[str, Truth]:
    """Return name -> truth: those that are judged, and some of them with s declared too small."""
    found = declared_scenarios()
    return found | {name + TOO_SMALL: truth for name, truth in found.items() if truth.widest_sd > 1}


def declared_scenarios() -> dict[str, Truth]:
    """Return the scenarios that are judged."""
    effects = {"null": np.zeros(4), "planted": PLANTED}
    like = COVARIANCES["reference"]
    return {
        f"{covariance}, {effect}": Truth(COVARIANCES[covariance], difference)
        for effect, difference in effects.items()
        for covariance in COVARIANCES
    } | {
        "one arm spreads 1.5 times as much": Truth(like, PLANTED, spread_active=1.5),
        "t noise, 5 degrees of freedom": Truth(like, PLANTED, tails=5),
        "25 % missing, visit by visit": Truth(
            like, PLANTED, missing=np.array([0, 0.25, 0.25, 0.25]), comes_back=True
        ),
        "missing by baseline": Truth(like, PLANTED, missing_by_baseline=1.0),
    }


def judge_scenario(
    name: str, *, trials: int, draws: int, full: int, seed: int, only: Collection[str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row per engine (of `only`), estimand and visit, and one per answer of the full sampler."""
    truth = scenarios()[name]
    seed = int(
        np.random.SeedSequence([seed, zlib.crc32(name.removesuffix(TOO_SMALL).encode())]).generate_state(1)[0]
    )
    values = simulate_values(truth, trials=trials, seed=seed)
    scale = 1.0 if name.endswith(TOO_SMALL) else truth.widest_sd
    engines = {
        "bayes": lambda: bayes_intervals(values, truth, scale, draws=draws, seed=seed + 1),
        "reml": lambda: reml_intervals(values, truth, "unstructured"),
        "ancova, welch": lambda: least_squares_intervals(values, truth),
        SHOWN: lambda: reml_intervals(values, truth, "random_intercept"),
    }
    if name.endswith(TOO_SMALL):  # the others know no s
        only = ("bayes",)
    found = {engine: answer() for engine, answer in engines.items() if only is None or engine in only}
    rows = [
        judge(name, engine, estimand, visit, answers[estimand, visit], truth)
        for engine, answers in found.items()
        for estimand, visit in answers
    ]
    compared = compare_with_full_sampler(name, values[:full], truth, scale, found.get("bayes", {}), seed)
    return pd.DataFrame(rows), compared


def judge(
    name: str, engine: str, estimand: str, visit: int, found: np.ndarray, truth: Truth
) -> dict[str, object]:
    """Coverage and bias of (n_trials, 3): estimate, lower, upper; a missing answer does not cover."""
    target = truth.difference[visit]
    answered = ~np.isnan(found[:, 0])
    errors = found[answered, 0] - target
    error_of_bias = errors.std(ddof=1) / np.sqrt(answered.sum())
    return {
        "scenario": name,
        "engine": engine,
        "estimand": estimand,
        "visit": visit,
        "trials": len(found),
        "withheld": 1 - answered.mean(),
        "coverage": ((found[:, 1] <= target) & (target <= found[:, 2])).mean(),
        "bias": errors.mean(),
        "bias_bound": 0.03 * abs(target) + 3 * error_of_bias,
        "mean_width": (found[answered, 2] - found[answered, 1]).mean(),
    }


def bayes_intervals(
    values: np.ndarray, truth: Truth, scale: float, *, draws: int, seed: int
) -> dict[tuple[str, int], np.ndarray]:
    """Return (n_trials, 3) per estimand and visit from the batched sampler, which works in units of s."""
    found = {}
    for common_baseline in (True, False):
        batch = gibbs.sample(
            values / scale, truth.active, common_baseline=common_baseline, draws=draws, burn_in=200, seed=seed
        ).difference
        batch *= scale
        for visit in (1, 2, 3):
            if common_baseline:
                found["difference_adjusted", visit] = summarise(batch[:, :, visit])
            else:
                found["difference_unadjusted", visit] = summarise(batch[:, :, visit])
                found["difference_of_change", visit] = summarise(batch[:, :, visit] - batch[:, :, 0])
    return found


def summarise(draws: np.ndarray) -> np.ndarray:
    """Return (n_trials, 3): mean and ends of the shortest interval of (n_draws, n_trials)."""
    ordered = np.sort(draws, axis=0)
    inside = int(LEVEL * len(ordered))
    start = (ordered[inside:] - ordered[: len(ordered) - inside]).argmin(axis=0)
    trials = np.arange(draws.shape[1])
    return np.column_stack([draws.mean(axis=0), ordered[start, trials], ordered[start + inside, trials]])


def least_squares_intervals(values: np.ndarray, truth: Truth) -> dict[tuple[str, int], np.ndarray]:
    """Return (n_trials, 3) per estimand and visit from the workflow's own functions."""
    found = {}
    for estimand in ESTIMANDS:
        for visit in (1, 2, 3):
            question = Question(estimand, visit, str(visit + 1))
            rows = np.full((len(values), 3), np.nan)
            for trial, grid in enumerate(values):
                try:
                    answer = frequentist.answer_question(as_outcome(grid, truth), question)
                except NotEstimableError:
                    continue
                rows[trial] = answer.estimate, *answer.interval(LEVEL)
            found[estimand, visit] = rows
    return found


def reml_intervals(values: np.ndarray, truth: Truth, covariance: str) -> dict[tuple[str, int], np.ndarray]:
    """Return (n_trials, 3) per estimand and visit from the workflow's REML."""
    group = settings(covariance)
    found = {(name, visit): np.full((len(values), 3), np.nan) for name in ESTIMANDS for visit in (1, 2, 3)}
    for trial, grid in enumerate(values):
        outcome = as_outcome(grid, truth)
        fits = {common: frequentist.fit_mixed(outcome, common, group) for common in (True, False)}
        for (name, visit), rows in found.items():
            question = Question(name, visit, str(visit + 1))
            model, _, fit, _ = fits[question.common_baseline]
            if fit is not None and visit in model.compared:
                answer = fit.infer(model.weights(question, grid.shape[1]))
                rows[trial] = answer.estimate, *answer.interval(LEVEL)
    return found


def settings(covariance: str) -> Group:
    """Return the group section of one outcome with the covariance over visits."""
    return Group.from_params(
        {
            "arms": {"active": "a", "control": "b"},
            "outcomes": ["x"],
            "primary": {"outcome": "x", "session": "2"},
            "covariance": covariance,
        }
    )


def compare_with_full_sampler(
    name: str,
    values: np.ndarray,
    truth: Truth,
    scale: float,
    intervals: dict[tuple[str, int], np.ndarray],
    seed: int,
) -> pd.DataFrame:
    """Return per trial, estimand and visit: did it pass, and full minus batched in posterior SDs."""
    from reconfmri.group import bayes

    if not len(values):
        return pd.DataFrame()
    logging.disable(logging.INFO)
    sampler, rows = bayes.Sampler(seed, cores=1), []
    group = settings("unstructured")
    for trial, grid in enumerate(values):
        outcome = as_outcome(grid, truth, scale)
        fits = {common: sampler.fit(outcome, common, group) for common in (True, False)}
        for estimand in ESTIMANDS:
            for visit in (1, 2, 3):
                question = Question(estimand, visit, str(visit + 1))
                fit = fits[question.common_baseline]
                draws = bayes.contrast(fit, question, outcome)
                gap = summarise(draws[:, None])[0] - intervals[estimand, visit][trial]
                rows.append((name, trial, estimand, visit, fit.passes(group.sampling), *(gap / draws.std())))
    columns = ["scenario", "trial", "estimand", "visit", "passed", "estimate", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns)


def randomisation_size(covariance: str, *, trials: int, draws: int, seed: int) -> list[float]:
    """Return how often the randomisation test rejects at 5 % without an effect, per later visit."""
    truth = Truth(COVARIANCES[covariance])
    people = truth.active.size
    sides = randomisation.draw_sides(truth.active, ["n/a"] * people, n_draws=draws, seed=seed)
    group = settings("unstructured")
    questions = [Question("difference_adjusted", visit, str(visit + 1)) for visit in (1, 2, 3)]
    rejected = np.zeros(3)
    for grid in simulate_values(truth, trials=trials, seed=seed + 1):
        test = randomisation.Test(as_outcome(grid, truth), group, sides)
        rejected += [float(test.answer(question)[0].get("p", 1.0)) <= 1 - LEVEL for question in questions]
    return (rejected / trials).tolist()


def as_outcome(grid: np.ndarray, truth: Truth, scale: float = 1.0) -> Outcome:
    """Return one simulated trial as the group room lays it out; `scale` is the s of the priors."""
    return Outcome("x", "activation", UNIT, scale, grid, truth.active)


def judged(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that have to keep their bounds."""
    return cells[(cells["engine"] != SHOWN) & ~cells["scenario"].str.endswith(TOO_SMALL)]


def shortcomings(cell: pd.Series, *, wide: bool) -> list[str]:
    """Return the bounds that a cell misses."""
    low, high = (SMALL_BOUNDS if wide else FULL_BOUNDS)[0]
    found = []
    if not low <= cell.coverage <= high:
        found.append(f"coverage {cell.coverage:.3f} is not in {low}-{high}")
    if abs(cell.bias) > cell.bias_bound:
        found.append(f"bias {cell.bias:.4f} is above {cell.bias_bound:.4f}")
    if cell.withheld > MAX_WITHHELD:
        found.append(f"{cell.withheld:.1%} withheld, more than {MAX_WITHHELD:.0%}")
    return found


def ask_again(cells: pd.DataFrame, pool: Executor, **given: int) -> pd.DataFrame:
    """Return the cells that missed a bound, from new trials."""
    key = ["scenario", "engine", "estimand", "visit"]
    missed = cells[[bool(shortcomings(cell, wide=False)) for _, cell in cells.iterrows()]]
    jobs = [
        pool.submit(judge_scenario, scenario, full=0, only=(engine,), **given)
        for scenario, engine in missed[["scenario", "engine"]].drop_duplicates().itertuples(index=False)
    ]
    return pd.concat([missed[:0], *(job.result()[0].merge(missed[key], on=key) for job in jobs)])


def verdicts(cells: pd.DataFrame, full: pd.DataFrame, *, wide: bool) -> list[str]:
    """Return every bound that is missed, as one line each; cells that were asked again count as there."""
    mean_low, mean_high = (SMALL_BOUNDS if wide else FULL_BOUNDS)[1]
    cells = judged(cells)
    again = cells["scenario"].str.endswith(AGAIN)
    key = ["scenario", "engine", "estimand", "visit"]
    repeated = cells[again].copy()
    repeated["scenario"] = repeated["scenario"].str.removesuffix(AGAIN)
    cells = cells[~again]
    missed = [
        f"{cell.scenario}; {cell.engine}; {cell.estimand}; visit {cell.visit}: {line}"
        for _, cell in pd.concat([repeated, cells]).drop_duplicates(key).iterrows()
        for line in shortcomings(cell, wide=wide)
    ]
    for engine, mean in cells.groupby("engine")["coverage"].mean().items():
        if not mean_low <= mean <= mean_high:
            missed.append(f"{engine}: mean coverage {mean:.4f} is not in {mean_low}-{mean_high}")
    if len(full) and (withheld := 1 - full["passed"].mean()) > MAX_WITHHELD:
        missed.append(f"full sampler: {withheld:.1%} of the fits withheld, more than {MAX_WITHHELD:.0%}")
    return missed


def as_markdown(cells: pd.DataFrame) -> str:
    """Return the table of the docs: one line per scenario and estimand, coverage per visit and engine, %."""
    engines = list(dict.fromkeys(cells["engine"]))
    lines = ["| scenario | estimand | " + " | ".join(engines) + " |", "|---" * (2 + len(engines)) + "|"]
    for (name, estimand), part in cells.groupby(["scenario", "estimand"], sort=False):
        row = [name, estimand.removeprefix("difference_")]
        for engine in engines:
            mine = part[part["engine"] == engine].sort_values("visit")
            row.append(" ".join(f"{100 * value:.1f}" for value in mine["coverage"]))
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def draw(cells: pd.DataFrame, path: Path) -> None:
    """Draw the coverage of every cell: a row per scenario, a panel per engine, the bounds as a band."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    engines, names = list(dict.fromkeys(cells["engine"])), list(dict.fromkeys(cells["scenario"]))
    figure, panels = plt.subplots(
        1, len(engines), figsize=(11, 0.34 * len(names) + 1.2), sharey=True, sharex=True, layout="constrained"
    )
    colours = dict(zip(ESTIMANDS, ("#1b5e9e", "#c0701f", "#66707c"), strict=True))
    for axes, engine in zip(panels, engines, strict=True):
        axes.axvspan(100 * FULL_BOUNDS[0][0], 100 * FULL_BOUNDS[0][1], color="#e8edf2", linewidth=0)
        axes.axvline(100 * LEVEL, color="#66707c", linewidth=0.8)
        for estimand, colour in colours.items():
            mine = cells[(cells["engine"] == engine) & (cells["estimand"] == estimand)]
            shift = 0.22 * (list(colours).index(estimand) - 1)
            height = mine["scenario"].map(names.index) + shift
            label = estimand.removeprefix("difference_").replace("_", " ")
            axes.plot(100 * mine["coverage"], height, "o", markersize=3.2, color=colour, label=label)
        axes.set_title(engine + (" (not judged)" if engine == SHOWN else ""), fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].invert_yaxis()
    panels[0].legend(fontsize=7, frameon=False, loc="lower left")
    figure.supxlabel("trials in 100 whose 95 % interval holds the truth; a dot per visit", fontsize=9)
    figure.savefig(path, dpi=130)


def main() -> int:
    """Run, print, write; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="simulated trials per scenario")
    parser.add_argument("--draws", type=int, default=2000, help="kept draws per trial of the batched sampler")
    parser.add_argument(
        "--full", type=int, default=5, help="trials per scenario that also meet the full sampler"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", type=Path, help="also write every cell to this TSV")
    parser.add_argument("--figure", type=Path, help="also draw the coverage of every cell to this PNG")
    given = parser.parse_args()
    started = time.monotonic()
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(
                judge_scenario,
                name,
                trials=given.trials,
                draws=given.draws,
                full=given.full,
                seed=given.seed,
            )
            for name in scenarios()
        ]
        parts = [job.result() for job in jobs]
        waiting = {
            name: pool.submit(
                randomisation_size, name, trials=int(SIZE_FACTOR * given.trials), draws=1000, seed=given.seed
            )
            for name in COVARIANCES
        }
        sizes = {name: job.result() for name, job in waiting.items()}
        cells = pd.concat([part[0] for part in parts], ignore_index=True)
        if given.trials >= 2000:
            again = ask_again(
                judged(cells),
                pool,
                trials=AGAIN_FACTOR * given.trials,
                draws=given.draws,
                seed=given.seed + 1,
            )
            again["scenario"] += AGAIN
            cells = pd.concat([cells, again], ignore_index=True)
    full = pd.concat([part[1] for part in parts], ignore_index=True)
    print(as_markdown(cells[~cells["scenario"].str.endswith(AGAIN)]))
    repeated = cells["scenario"].str.endswith(AGAIN)
    print(cells[repeated].to_string(index=False) if repeated.any() else "no cell was asked again")
    print(
        "\nmean coverage:", judged(cells[~repeated]).groupby("engine")["coverage"].mean().round(4).to_dict()
    )
    if len(full):
        gaps = full[["estimate", "lower", "upper"]]
        print(f"full sampler: {full['passed'].mean():.1%} of {len(full)} answers passed the gate;")
        print("full minus batched, in posterior SDs, mean and SD of estimate, lower, upper:")
        print(pd.DataFrame({"mean": gaps.mean(), "sd": gaps.std(), "largest": gaps.abs().max()}).round(3))
    if given.table:
        cells.to_csv(given.table, sep="\t", index=False, float_format="%.5f")
    if given.figure:
        draw(cells[~repeated], given.figure)
    for name, shares in sizes.items():
        found = " ".join(f"{100 * share:.1f}" for share in shares)
        print(f"randomisation test, {name}, no effect: rejects {found} % at visits 1 2 3")
    missed = verdicts(cells, full, wide=given.trials < 2000)
    if given.trials >= 2000:
        missed += [
            f"randomisation test, {name}: rejects {shares} outside {SIZE_BOUNDS}"
            for name, shares in sizes.items()
            if not (min(shares) >= SIZE_BOUNDS[0] and max(shares) <= SIZE_BOUNDS[1])
        ]
    print(f"{given.trials} trials x {len(scenarios())} scenarios in {time.monotonic() - started:.0f} s")
    print("\n".join(missed) or "every bound holds")
    return int(bool(missed))
