"""Planted effects from recordings and item tables to estimates (`python -m tests.validate.chain`).

Each trial has 14 and 13 people with two visits. A visit has a recording of skin conductance (20 Hz, written
as BIDS, white noise of 0.03 µS, in half of them a knock on an electrode) with two scripts that raise the
level and two events with a response, and a PCL-5 by items, of which one is blank in 3 of 100. The level
change is drawn on the scale of its score (√µS), the response as ln(1 + µS), the total in points and dealt at
random onto the items: the planted arm difference at the second visit is that of the scores. Everything
between is the package: reading, artefacts, scores, scales, table of measures, REML. Judged: a bias below 3 %
of the effect plus three Monte Carlo errors, and intervals of 95 % that hold the truth in 93 to 97 %, plus
three Monte Carlo errors of their coverage.
"""

import argparse
import gzip
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from reconfmri.body.skin_conductance import score_recording
from reconfmri.config import Group, Scale, SkinConductance, Task
from reconfmri.group import frequentist
from reconfmri.group.asked import Asked
from reconfmri.measures import stack
from reconfmri.scales.scoring import score_scale

RATE, SECONDS, N_ACTIVE, N_CONTROL = 20, 150, 14, 13
EVENTS = pd.DataFrame(
    [(10.0, 30.0, "trauma"), (50.0, 12.0, "relax"), (75.0, 30.0, "trauma"), (120.0, 12.0, "relax")],
    columns=["onset", "duration", "trial_type"],
)
TASK = Task(conditions={"trauma": "trauma", "relax": "neutral"})
SKIN = SkinConductance(task="memory", conditions=["trauma", "neutral"], scores=["level", "peak"])
PCL5 = Scale.model_validate({"library": "pcl5", "item": "item_{}"})
# Outcome -> mean, SD between people, and effect at the second visit, of the score.
PLANTED = {
    "scl.trauma": (1.2, 0.25, -0.3),
    "scr.neutral": (0.8, 0.2, -0.2),
    "pcl5.total": (42.0, 9.0, -8.0),
}
STABILITY = 0.6  # correlation of a person's two visits
SIDECAR = {"SamplingFrequency": RATE, "StartTime": 0, "Columns": ["EDA"], "EDA": {"Units": "uS"}}
GROUP = Group.from_params(
    {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": list(PLANTED),
        "primary": {"outcome": "pcl5.total", "session": "2"},
        "estimands": ["difference_adjusted"],
        "permutations": 0,
    }
)


def record(random: np.random.Generator, change: float, response: float, path: Path) -> None:
    """Write a recording whose level changes by `change` (√µS) and that responds by `response` (ln µS)."""
    clock = np.arange(SECONDS * RATE) / RATE
    samples = random.uniform(6, 12) - 0.0005 * clock + random.normal(0, 0.03, len(clock))
    for onset, length, kind in EVENTS.itertuples(index=False):
        if kind == "trauma":
            shape = np.interp(clock, onset + np.array([0, 1e-9, length, length + 2]), [0, 1, 1, 0])
            samples += np.sign(change) * change**2 * shape
        else:
            later = np.maximum(clock - onset - 1, 0)
            course = np.exp(-later / 3) - np.exp(-later / 0.7)
            samples += np.expm1(response) * course / course.max()
    if random.random() < 0.5:
        start = round(random.uniform(66, 68) * RATE)
        samples[start : start + 6] += 5
    path.write_bytes(
        gzip.compress(("\n".join(map("{:.4f}".format, samples)) + "\n").encode(), compresslevel=1)
    )


def items_of(random: np.random.Generator, total: float) -> list[str]:
    """Return twenty ratings of 0 to 4 with a given sum; one is blank in 3 of 100 forms."""
    dealt = random.multivariate_hypergeometric([4] * 20, int(np.clip(np.rint(total), 0, 80)))
    cells = [str(rating) for rating in dealt]
    if random.random() < 0.03:
        cells[random.integers(20)] = "n/a"
    return cells


def trial(seed: int, folder: Path) -> pd.DataFrame:
    """Return the estimates of one trial."""
    random = np.random.default_rng([20, seed])
    people = [f"sub-{place:02d}" for place in range(N_ACTIVE + N_CONTROL)]
    active = np.arange(len(people)) < N_ACTIVE
    mixing = np.linalg.cholesky([[1, STABILITY], [STABILITY, 1]])
    drawn = {
        name: mean + sd * random.standard_normal((len(people), 2)) @ mixing.T + np.outer(active, [0, effect])
        for name, (mean, sd, effect) in PLANTED.items()
    }
    rows, forms = [], []
    for place, person in enumerate(people):
        for visit in (0, 1):
            values = {name: float(table[place, visit]) for name, table in drawn.items()}
            path = folder / f"{person}_ses-{visit + 1}_task-memory_physio.tsv.gz"
            record(random, values["scl.trauma"], values["scr.neutral"], path)
            found, _ = score_recording(path, EVENTS, sidecar=SIDECAR, task=TASK, settings=SKIN)
            rows.append(found.assign(participant_id=person, session_id=str(visit + 1)))
            forms.append([person, f"ses-{visit + 1}", *items_of(random, values["pcl5.total"])])
    columns = ["participant_id", "session_id", *(f"item_{number}" for number in range(1, 21))]
    rows.append(score_scale(pd.DataFrame(forms, columns=columns), "pcl5", PCL5)[0])
    table = pd.concat(rows, ignore_index=True).assign(task="memory", run="n/a")
    arms = np.where(active, "ketamine", "midazolam")
    allocation = pd.DataFrame({"participant_id": people, "arm": arms})
    return frequentist.estimate(Asked(stack([table]), allocation, GROUP, ["1", "2"]))


def study(trials: int, first: int = 0) -> pd.DataFrame:
    """Return a row per outcome: bias and its Monte Carlo error, percent of the effect, and coverage."""
    with tempfile.TemporaryDirectory() as name:
        found = pd.concat([trial(seed, Path(name)) for seed in range(first, first + trials)])
    found = found[found["method"] == "reml"]
    rows = []
    for outcome, (_, _, effect) in PLANTED.items():
        mine = found[(found["outcome"] == outcome) & found["reported"].astype(bool)]
        errors = mine["estimate"].to_numpy(float) - effect
        held = (mine["lower"] <= effect) & (effect <= mine["upper"])
        rows.append(
            {
                "outcome": outcome,
                "effect": effect,
                "bias_percent": 100 * errors.mean() / abs(effect),
                "error_percent": 100 * errors.std(ddof=1) / np.sqrt(len(errors)) / abs(effect),
                "coverage": float(held.mean()),
                "trials": len(mine),
            }
        )
    return pd.DataFrame(rows)


def missed(table: pd.DataFrame) -> list[str]:
    """Return the outcomes that are not recovered as the study asks."""
    beyond = table["bias_percent"].abs() > 3 + 3 * table["error_percent"]
    chance = 3 * np.sqrt(0.95 * 0.05 / table["trials"])
    outside = (table["coverage"] - 0.95).abs() > 0.02 + chance
    return list(table.loc[beyond | outside, "outcome"])


def main() -> int:
    """Print the table; 1 where an outcome is not recovered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="trials (default: 200)")
    table = study(parser.parse_args().trials)
    print(table.to_string(index=False, float_format="{:.3f}".format))
    return 1 if missed(table) else 0


if __name__ == "__main__":
    sys.exit(main())
