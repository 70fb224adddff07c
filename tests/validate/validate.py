"""Coverage, bias and type I error of the group engines over simulated trials (`make validate`).

Every trial goes through the functions that the rules of the workflow call, with the settings a study has by
default (`covariance: auto`): `reml` is `frequentist.answer_by_reml`, whatever covariance it comes to,
`ancova`, `ancova_hc2` and `welch` are `frequentist.answer_question`. What is withheld does not cover.
`bayes` is the same model by the batched sampler of `gibbs.py`, and a few trials go through the workflow's
sampler with its gate.
Scenarios: `scenarios.py`. Their s of the priors is what `group.scales` asks for, the SD at the visit where
people differ most. A cell that misses a bound is asked again in three times as many new trials, and those
decide. `scenarios.NOT_CLAIMED` names the methods and scenarios that cannot hold: their cells are shown, not
judged. Exits with 1 on a missed bound.
"""

import argparse
import logging
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from tests.validate import gibbs
from tests.validate.scenarios import NOT_CLAIMED, Scenario, scenarios

from reconfmri.config import Group
from reconfmri.group import frequentist, randomisation
from reconfmri.group.estimands import Contrast, NotEstimableError, Question
from reconfmri.group.grid import Outcome
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_values

LEVEL = 0.95
# (coverage per cell, mean coverage of an engine); the wide form catches bugs only
FULL_BOUNDS = ((0.925, 0.975), (0.94, 0.96))
SIZE_BOUNDS, SIZE_FACTOR = (0.04, 0.06), 2.5  # of the randomisation test, at 2.5 times the trials
SMALL_BOUNDS = ((0.89, 0.995), (0.92, 0.98))
MAX_WITHHELD = 0.02
UNIT = "percent signal change"
ENGINES = ("reml", "ancova, welch", "ancova_hc2", "bayes")
AGAIN, AGAIN_FACTOR = "; asked again", 3
ENOUGH = 2000  # trials for the bounds of a claim
KEY = ["scenario", "engine", "estimand", "visit"]


def questions_of(n_visits: int) -> dict[tuple[str, str], Question]:
    """Return (estimand, `first`, `last` or `average`) -> question."""
    last = n_visits - 1
    found = {
        (name, "last"): Question(name, last, str(last + 1))
        for name in ("difference_adjusted", "difference_unadjusted", "difference_of_change")
    }
    if last > 1:
        found["difference_adjusted", "first"] = Question("difference_adjusted", 1, "2")
        later = tuple(range(1, n_visits))
        found["difference_average", "average"] = Question("difference_average", last, "average", later)
    return found


def judge_scenario(
    name: str,
    *,
    trials: int,
    draws: int,
    full: int,
    seed: int,
    only: Collection[str] = ENGINES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row per engine (of `only`), estimand and visit, and one per answer of the full sampler."""
    scenario = scenarios()[name]
    seed = int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])
    values = simulate_values(scenario.truth, trials=trials, seed=seed)
    asked = questions_of(values.shape[2])
    adjusted = {key: question for key, question in asked.items() if question.common_baseline}
    engines = {
        "reml": lambda: reml_intervals(values, scenario, asked),
        "ancova, welch": lambda: least_squares_intervals(values, scenario, asked),
        "ancova_hc2": lambda: least_squares_intervals(values, scenario, adjusted, robust=True),
        "bayes": lambda: bayes_intervals(values, scenario, asked, draws=draws, seed=seed + 1),
    }
    rows = [
        judge(name, engine, key, answers, asked[key], scenario.truth)
        for engine, answer in engines.items()
        if engine in only
        for key, answers in answer().items()
    ]
    return pd.DataFrame(rows), compare_with_full_sampler(name, values[:full], scenario, asked, draws, seed)


def judge(
    name: str,
    engine: str,
    key: tuple[str, str],
    found: pd.DataFrame,
    question: Question,
    truth: Truth,
) -> dict[str, object]:
    """Coverage and bias of answers (estimate, lower, upper, status); a missing one does not cover."""
    weights = question.weights(len(truth.difference))
    target = float(weights[1] @ truth.seen_difference)
    errors = (found["estimate"] - target).dropna()
    status = found["status"].value_counts(normalize=True)
    return {
        "scenario": name,
        "engine": engine,
        "estimand": key[0],
        "visit": key[1],
        "trials": len(found),
        "withheld": found["estimate"].isna().mean(),
        "shrunk": status.get("ok, shrunk unstructured", 0.0),
        "random_intercept": status.get("ok, random intercept", 0.0),
        "coverage": ((found["lower"] <= target) & (target <= found["upper"])).mean(),
        "bias": errors.mean(),
        "bias_allowed": 0.03 * abs(target),
        "bias_se": errors.std(ddof=1) / np.sqrt(max(len(errors), 1)),
        "mean_width": (found["upper"] - found["lower"]).mean(),
    }


def reml_intervals(
    values: np.ndarray, scenario: Scenario, asked: dict[tuple[str, str], Question]
) -> dict[tuple[str, str], pd.DataFrame]:
    """Return the answers of the workflow's REML, as its rules ask for them."""
    group = settings(scenario)
    outcomes = [as_outcome(grid, scenario.truth) for grid in values]
    rows: dict[tuple[str, str], list[tuple[float, float, float, str]]] = {key: [] for key in asked}
    for outcome in outcomes:
        fits: dict[bool, frequentist.Mixed] = {}
        for key, question in asked.items():
            try:
                found, status = frequentist.answer_by_reml(outcome, question, group, fits)
            except NotEstimableError as reason:
                rows[key].append((np.nan, np.nan, np.nan, f"not reported: {reason}"))
            else:
                rows[key].append((found.estimate, *found.interval(LEVEL), status))
    return {key: as_answers(part) for key, part in rows.items()}


def least_squares_intervals(
    values: np.ndarray,
    scenario: Scenario,
    asked: dict[tuple[str, str], Question],
    *,
    robust: bool = False,
) -> dict[tuple[str, str], pd.DataFrame]:
    """Return the answers of Welch's test and of analysis of covariance (`robust`: with HC2)."""
    outcomes = [as_outcome(grid, scenario.truth) for grid in values]
    return {
        key: as_answers([_by_least_squares(outcome, question, robust) for outcome in outcomes])
        for key, question in asked.items()
    }


def _by_least_squares(outcome: Outcome, question: Question, robust: bool) -> tuple[float, float, float, str]:
    try:
        found: Contrast = frequentist.answer_question(outcome, question, robust=robust)
    except NotEstimableError as reason:
        return np.nan, np.nan, np.nan, f"not reported: {reason}"
    return found.estimate, *found.interval(LEVEL), "ok"


def bayes_intervals(
    values: np.ndarray,
    scenario: Scenario,
    asked: dict[tuple[str, str], Question],
    *,
    draws: int,
    seed: int,
) -> dict[tuple[str, str], pd.DataFrame]:
    """Return the answers of the batched sampler, which works in units of s."""
    found: dict[tuple[str, str], pd.DataFrame] = {}
    scale, by_arm = scenario.truth.widest_sd, scenario.settings.get("spread") == "by_arm"
    for common_baseline in (True, False):
        batch = (
            scale
            * gibbs.sample(
                values / scale,
                scenario.truth.active,
                common_baseline=common_baseline,
                by_arm=by_arm,
                draws=draws,
                burn_in=200,
                seed=seed,
            ).difference
        )
        for key, question in asked.items():
            if question.common_baseline == common_baseline:
                weights = question.weights(values.shape[2])[1]
                numbers = summarise(batch @ weights)
                found[key] = as_answers([(*row, "ok") for row in numbers.tolist()])
    return found


def as_answers(rows: list[tuple[float, float, float, str]]) -> pd.DataFrame:
    """Return answers as a table."""
    return pd.DataFrame(rows, columns=["estimate", "lower", "upper", "status"])


def summarise(draws: np.ndarray) -> np.ndarray:
    """Return (n_trials, 3): mean and ends of the shortest interval of (n_draws, n_trials)."""
    ordered = np.sort(draws, axis=0)
    inside = int(LEVEL * len(ordered))
    start = (ordered[inside:] - ordered[: len(ordered) - inside]).argmin(axis=0)
    trials = np.arange(draws.shape[1])
    return np.column_stack([draws.mean(axis=0), ordered[start, trials], ordered[start + inside, trials]])


def settings(scenario: Scenario) -> Group:
    """Return the group section of one outcome: the defaults, and what the scenario declares."""
    return Group.from_params(
        {
            "arms": {"active": "a", "control": "b"},
            "outcomes": ["x"],
            "primary": {"outcome": "x", "session": "2"},
        }
        | scenario.settings
    )


def compare_with_full_sampler(
    name: str,
    values: np.ndarray,
    scenario: Scenario,
    asked: dict[tuple[str, str], Question],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Return per trial, estimand and visit: did it pass, and full minus batched in posterior SDs."""
    from reconfmri.group import bayes

    if not len(values):
        return pd.DataFrame()
    batched = bayes_intervals(values, scenario, asked, draws=draws, seed=seed + 1)
    sampler, group, rows = bayes.Sampler(seed, cores=1), settings(scenario), []
    for trial, grid in enumerate(values):
        outcome = as_outcome(grid, scenario.truth, scenario.truth.widest_sd)
        fits = {common: sampler.fit(outcome, common, group) for common in (True, False)}
        for key, question in asked.items():
            fit = fits[question.common_baseline]
            posterior = bayes.contrast(fit, question, outcome)
            beside = batched[key].loc[trial, ["estimate", "lower", "upper"]].astype(float)
            gap = summarise(posterior[:, None])[0] - beside.to_numpy()
            rows.append((name, trial, *key, fit.passes(group.sampling), *(gap / posterior.std())))
    columns = ["scenario", "trial", "estimand", "visit", "passed", "estimate", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns)


def randomisation_size(covariance: str, *, trials: int, draws: int, seed: int) -> list[float]:
    """Return how often the randomisation test rejects at 5 % without an effect, per later visit."""
    truth = Truth(COVARIANCES[covariance])
    people = truth.active.size
    sides = randomisation.draw_sides(truth.active, ["n/a"] * people, n_draws=draws, seed=seed)
    group = settings(Scenario(truth))
    questions = [Question("difference_adjusted", visit, str(visit + 1)) for visit in (1, 2, 3)]
    rejected = np.zeros(3)
    for grid in simulate_values(truth, trials=trials, seed=seed + 1):
        test = randomisation.Test(as_outcome(grid, truth), group, sides)
        rejected += [float(test.answer(question)[0].get("p", 1.0)) <= 1 - LEVEL for question in questions]
    return (rejected / trials).tolist()


def as_outcome(grid: np.ndarray, truth: Truth, scale: float = 1.0) -> Outcome:
    """Return one simulated trial as the group level lays it out; `scale` is the s of the priors."""
    return Outcome("x", "activation", UNIT, scale, grid, truth.active)


def is_judged(cells: pd.DataFrame) -> pd.Series:
    """Return which cells have to keep their bounds: all but those of `NOT_CLAIMED`."""
    shown = pd.Series(False, index=cells.index)
    for part in NOT_CLAIMED:
        here = cells["scenario"].str.startswith(part.scenario) & cells["engine"].isin(part.engines)
        shown |= here & cells["estimand"].isin(part.estimands or cells["estimand"].unique())
    return ~shown


def shortcomings(cell: pd.Series, *, wide: bool) -> list[str]:
    """Return the bounds that a cell misses."""
    low, high = (SMALL_BOUNDS if wide else FULL_BOUNDS)[0]
    found = []
    if not low <= cell.coverage <= high:
        found.append(f"coverage {cell.coverage:.3f} is not in {low}-{high}")
    if abs(cell.bias) > (bound := cell.bias_allowed + 3 * cell.bias_se):
        found.append(f"bias {cell.bias:.4f} is above {bound:.4f}")
    if cell.withheld > MAX_WITHHELD:
        found.append(f"{cell.withheld:.1%} withheld, more than {MAX_WITHHELD:.0%}")
    return found


def verdicts(cells: pd.DataFrame, *, wide: bool) -> list[str]:
    """Return every bound that is missed, as one line each; cells that were asked again count as there."""
    cells = cells[is_judged(cells)]
    again = cells["scenario"].str.endswith(AGAIN)
    repeated = cells[again].assign(scenario=cells.loc[again, "scenario"].str.removesuffix(AGAIN))
    cells = cells[~again]
    missed = [
        f"{cell.scenario}; {cell.engine}; {cell.estimand}; {cell.visit}: {line}"
        for _, cell in pd.concat([repeated, cells]).drop_duplicates(KEY).iterrows()
        for line in shortcomings(cell, wide=wide)
    ]
    mean_low, mean_high = (SMALL_BOUNDS if wide else FULL_BOUNDS)[1]
    missed += [
        f"{engine}: mean coverage {mean:.4f} is not in {mean_low}-{mean_high}"
        for engine, mean in cells.groupby("engine")["coverage"].mean().items()
        if not mean_low <= mean <= mean_high
    ]
    return missed


def together(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the cells of several portions of trials as if they were one."""
    cells = pd.concat(parts, ignore_index=True)
    shares = [name for name in cells.columns if name not in (*KEY, "trials", "bias_se")]
    whole = cells.groupby(KEY, sort=False)["trials"].transform("sum")
    share = cells["trials"] / whole
    weighted = cells[shares].mul(share, axis=0).assign(bias_se=(share * cells["bias_se"]) ** 2)
    found = cells[[*KEY, "trials"]].join(weighted).groupby(KEY, sort=False, as_index=False).sum()
    return found.assign(bias_se=np.sqrt(found["bias_se"]))


def run(given: argparse.Namespace, pool: Executor) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield the cells of every portion of trials as they are done: all scenarios once, then again."""
    asked = {"trials": given.portion, "draws": given.draws, "only": tuple(given.engines)}
    jobs = [
        pool.submit(judge_scenario, name, full=given.full if not portion else 0, seed=seed, **asked)
        for portion, seed in enumerate(range(given.seed, given.seed + given.trials // given.portion))
        for name in scenarios()
        if given.only in name
    ]
    for job in as_completed(jobs):
        yield job.result()


def ask_again(cells: pd.DataFrame, given: argparse.Namespace, pool: Executor) -> pd.DataFrame:
    """Return the judged cells that missed a bound, from new trials."""
    short = [bool(shortcomings(cell, wide=False)) for _, cell in cells.iterrows()]
    missed = cells[is_judged(cells) & np.array(short, dtype=bool)]
    n_portions = AGAIN_FACTOR * given.trials // given.portion
    jobs = [
        pool.submit(
            judge_scenario,
            name,
            trials=given.portion,
            draws=given.draws,
            full=0,
            seed=given.seed + 1000 + portion,
            only=(engine,),
        )
        for name, engine in missed[["scenario", "engine"]].drop_duplicates().itertuples(index=False)
        for portion in range(n_portions)
    ]
    if not jobs:
        return cells[:0]
    again = together([job.result()[0] for job in jobs]).merge(missed[KEY], on=KEY)
    return again.assign(scenario=again["scenario"] + AGAIN)


def main() -> int:
    """Run, print, write; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="simulated trials per scenario")
    parser.add_argument("--portion", type=int, default=250, help="trials of one job; --trials is a multiple")
    parser.add_argument("--draws", type=int, default=2000, help="kept draws per trial of the batched sampler")
    parser.add_argument("--full", type=int, default=1, help="trials that also meet the full sampler")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--only", default="", help="scenarios with this text in their name")
    parser.add_argument("--again", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--size", action=argparse.BooleanOptionalAction, default=True, help="randomisation")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", type=Path, help="also write every cell to this TSV, as portions are done")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    started = time.monotonic()
    parts, beside = [], []
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        for part, full in run(given, pool):
            parts.append(part)
            beside.append(full)
            if given.table:
                write(together(parts), given.table)
        cells = together(parts)
        if given.again and given.trials >= ENOUGH:
            cells = pd.concat([cells, ask_again(cells, given, pool)], ignore_index=True)
        sizes = missed_sizes(given, pool) if given.size else []
    if given.table:
        write(cells, given.table)
    print(cells.to_string(index=False, float_format="%.3f"))
    first = cells[is_judged(cells) & ~cells["scenario"].str.endswith(AGAIN)]
    print("\nmean coverage:", first.groupby("engine")["coverage"].mean().round(4).to_dict())
    missed = verdicts(cells, wide=given.trials < ENOUGH)
    missed += withheld_by_full_sampler(pd.concat(beside, ignore_index=True)) + sizes
    print(f"{given.trials} trials per scenario in {time.monotonic() - started:.0f} s")
    print("\n".join(missed) or "every bound holds")
    return int(bool(missed))


def write(cells: pd.DataFrame, path: Path) -> None:
    """Write the cells in the order of the scenarios."""
    order = {name: place for place, name in enumerate(scenarios())}
    cells = cells.sort_values("scenario", key=lambda names: names.map(order), kind="stable")
    cells.to_csv(path, sep="\t", index=False, float_format="%.5f")


def withheld_by_full_sampler(full: pd.DataFrame) -> list[str]:
    """Print how the full sampler differs from the batched one; return what it misses."""
    if not len(full):
        return []
    gaps = full[["estimate", "lower", "upper"]]
    print(f"full sampler: {full['passed'].mean():.1%} of {len(full)} answers passed the gate;")
    print("full minus batched, in posterior SDs, mean and SD of estimate, lower, upper:")
    print(pd.DataFrame({"mean": gaps.mean(), "sd": gaps.std(), "largest": gaps.abs().max()}).round(3))
    withheld = 1 - full["passed"].mean()
    return [f"full sampler: {withheld:.1%} of the fits withheld"] if withheld > MAX_WITHHELD else []


def missed_sizes(given: argparse.Namespace, pool: Executor) -> list[str]:
    """Print how often the randomisation test rejects without an effect; return what is out of bounds."""
    trials = int(SIZE_FACTOR * given.trials)
    jobs = {
        name: pool.submit(randomisation_size, name, trials=trials, draws=1000, seed=given.seed)
        for name in COVARIANCES
    }
    missed = []
    for name, job in jobs.items():
        shares = job.result()
        found = " ".join(f"{100 * share:.1f}" for share in shares)
        print(f"randomisation test, {name}, no effect: rejects {found} % at visits 1 2 3")
        if given.trials >= ENOUGH and not (min(shares) >= SIZE_BOUNDS[0] and max(shares) <= SIZE_BOUNDS[1]):
            missed.append(f"randomisation test, {name}: rejects {shares} outside {SIZE_BOUNDS}")
    return missed
