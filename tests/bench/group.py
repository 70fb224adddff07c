"""How long the group stage takes: every table of `reconfmri group`, beside plain PyMC and bambi.

Measure tables of the reference design (14 and 13 people, a baseline and three visits, 7, 20 and 33 % missing)
with a planted difference. Each step runs in a process of its own on two cores; wall time counts. bambi is
read from the folder `--beside`, where `make bench` installs it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tests.bench.bench import DESCRIPTIONS, OURS, Found, Row, alone

from reconfmri.cli import main as command
from reconfmri.config import DEFAULT_SCALES, Group
from reconfmri.group import bayes, randomisation
from reconfmri.group.asked import Asked
from reconfmri.group.bayes_model import Form, build_model
from reconfmri.group.estimands import primary_question
from reconfmri.group.grid import Outcome, lay_out
from reconfmri.simulate.measures import ARMS, COVARIANCES, Truth, simulate_measures
from reconfmri.tables import write_table

STAGE_S, PERMUTATIONS_S = 90, 10
UNIT = "percent signal change"
TRUTH = Truth(COVARIANCES["reference"], np.array([0.0, -0.8, -0.7, -0.5]))
SESSIONS = ["1", "2", "3", "4"]


def tables(n_outcomes: int) -> tuple[pd.DataFrame, pd.DataFrame, Group]:
    """Return measures, allocation and group section of a simulated trial."""
    names = [f"outcome{number}" for number in range(n_outcomes)]
    group = Group.from_params(
        {
            "arms": {"active": ARMS[0], "control": ARMS[1]},
            "outcomes": names,
            "primary": {"outcome": names[0], "session": "2"},
            "families": {"all": names},
        }
    )
    outcomes = dict.fromkeys(group.outcomes, UNIT)
    measures, arms = simulate_measures(TRUTH, outcomes=outcomes, scales=dict(DEFAULT_SCALES), seed=3)
    return measures, arms, group


def whole_stage(n_outcomes: int, folder: Path) -> Found:
    """Every table, figure and the page of `reconfmri group`."""
    measures, arms, _ = tables(n_outcomes)
    places = [folder / name for name in ("measures.tsv", "allocation.tsv", "out")]
    write_table(places[0], measures)
    write_table(places[1], arms)
    words = ["group", *map(str, places), "--active", ARMS[0], "--control", ARMS[1]]
    if command(words):
        raise RuntimeError("the command failed")
    found = pd.read_csv(folder / "out" / "estimates.tsv", sep="\t", na_values="n/a", keep_default_na=False)
    there = (found["status"].astype(str).str.startswith("not reported")).sum()
    return Found(f"{len(found)} estimates, {there} of them not reported")


def permutations(n_outcomes: int, _folder: Path) -> Found:
    """10,000 draws of the allocation, all outcomes and visits."""
    measures, arms, group = tables(n_outcomes)
    group = group.model_copy(update={"permutations": 10_000})
    found = randomisation.estimate(Asked(measures, arms, group, SESSIONS, seed=1))
    return Found(f"{len(found)} answers")


def first_outcome() -> tuple[Outcome, Group]:
    """Return the outcome that every sampler gets."""
    measures, arms, group = tables(1)
    (outcome,) = lay_out(measures, arms, group, SESSIONS)
    return outcome, group


def by_us(_folder: Path) -> Found:
    """One outcome: compiled, sampled, gated."""
    outcome, group = first_outcome()
    sampler = bayes.Sampler(1, cores=2)
    answer = bayes.answer_question(outcome, primary_question(group.primary, SESSIONS), group, sampler)
    return Found(_said(float(str(answer["estimate"])), float(str(answer["sd"]))))


def by_us_again(_folder: Path) -> Found:
    """What a fit costs once the model is compiled."""
    outcome, group = first_outcome()
    sampler = bayes.Sampler(1, cores=2)
    for common_baseline in (True, False, True, False, True, False, True, False, True, False):
        sampler.fit(outcome, common_baseline, group)
    return Found("compiled once, fitted ten times")


def by_pymc(_folder: Path) -> Found:
    """The same model by PyMC's own sampler, compiled by numba as there is no C++ compiler."""
    import pymc as pm

    from reconfmri.group.likelihood import without_compiler

    without_compiler()
    outcome, group = first_outcome()
    data = bayes.model_data(outcome, True, group.priors)
    with build_model(Form(data["values"].shape[1])):
        pm.set_data(data)
        trace = pm.sample(
            draws=1000, tune=1000, chains=4, cores=2, random_seed=1, target_accept=0.9, progressbar=False,
            compile_kwargs={"mode": "NUMBA"},
        )  # fmt: skip
    draws = outcome.scale * trace.posterior["difference"].to_numpy()[..., 1].ravel()
    return Found(_said(draws.mean(), draws.std()))


def by_bambi(_folder: Path) -> Found:
    """A random intercept, as bambi has no unstructured covariance; sampled by nutpie."""
    import bambi

    from reconfmri.group.likelihood import without_compiler

    without_compiler()
    outcome, _ = first_outcome()
    people, visits = np.nonzero(outcome.seen)
    rows = pd.DataFrame(
        {
            "y": outcome.values[people, visits],
            "visit": np.array(SESSIONS)[visits],
            "person": people.astype(str),
            "arm": outcome.active[people].astype(float),
        }
    )
    model = bambi.Model("y ~ 0 + visit + visit:arm + (1|person)", rows)
    trace = model.fit(
        draws=1000, tune=1000, chains=4, cores=2, random_seed=1, inference_method="nutpie", progressbar=False
    )
    draws = trace.posterior["visit:arm"].to_numpy()[..., 1].ravel()
    return Found(_said(draws.mean(), draws.std()) + ", unadjusted")


def _said(estimate: float, sd: float) -> str:
    truth = TRUTH.difference[1] * DEFAULT_SCALES[UNIT]
    return f"{estimate:+.3f} (SD {sd:.3f}), planted {truth:+.3f}"


STAGE = "group stage, {} outcomes"
STEPS: dict[tuple[str, str], Callable[[Path], Found]] = {
    **{(STAGE.format(n), OURS): partial(whole_stage, n) for n in (3, 6, 12)},
    ("10,000 permutations, 12 outcomes", OURS): partial(permutations, 12),
    ("one outcome", OURS): by_us,
    ("ten fits of one model", OURS): by_us_again,
    ("one outcome, the same model", "PyMC"): by_pymc,
    ("one outcome, a simpler model", "bambi"): by_bambi,
}


def measure(words: list[str] | None = None) -> tuple[list[Row], list[str]]:
    """Return a row per step, and the bounds that were missed."""
    rows, missed = [], []
    bounds = {STAGE.format(12): STAGE_S, "10,000 permutations, 12 outcomes": PERMUTATIONS_S}
    for (step, by), work in STEPS.items():
        if words and not any(word in step for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            row, _ = alone(step, by, work, Path(folder))
        print(f"{row.step:34} {row.by:10} {row.wall_s:8.1f} s {row.peak_mb:6.0f} MB  {row.error}", flush=True)
        rows.append(row)
        if row.wall_s > bounds.get(step, np.inf):
            missed.append(f"{step}: {row.wall_s:.0f} s, at most {bounds[step]}")
    return rows, missed


def main(arguments: list[str] | None = None) -> int:
    """Measure every step, print and write the table; return 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps", nargs="*", default=[], help="only steps whose name holds one of these words"
    )
    parser.add_argument("--table", type=Path, help="write the table here (TSV)")
    parser.add_argument("--beside", type=Path, help="folder where bambi is installed")
    options = parser.parse_args(arguments)
    if options.beside:
        sys.path.append(str(options.beside))
    rows, missed = measure(options.steps)
    if options.table:
        write_table(options.table, pd.DataFrame([asdict(row) for row in rows]), DESCRIPTIONS)
    print("\n".join(f"missed: {line}" for line in missed) or "every bound holds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
