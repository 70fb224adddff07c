"""Group moments of the published trial (Duek et al. 2023, z units), as values that have them exactly."""

import numpy as np
import pandas as pd

ARMS = ("ketamine", "midazolam")
# outcome, session: (mean, SD, n) of ketamine and of midazolam
MOMENTS = {
    ("amygdala", "1"): ((0.011, 0.405, 13), (0.092, 0.382, 13)),
    ("amygdala", "2"): ((-0.159, 0.351, 13), (0.187, 0.297, 12)),
    ("amygdala", "3"): ((-0.150, 0.357, 12), (0.151, 0.384, 10)),
    ("hippocampus", "2"): ((-0.113, 0.401, 13), (0.185, 0.531, 12)),
    ("vmpfc", "2"): ((-0.032, 0.389, 13), (0.079, 0.461, 12)),
}


def standard_scores(n: int, *, against: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """Return n values of mean 0 and SD 1 (n - 1), uncorrelated with `against`, which has the same moments."""
    draw = np.random.default_rng(seed).normal(size=n)
    draw -= draw.mean()
    if against is not None:
        draw -= against * (draw @ against) / (against @ against)
    return draw / draw.std(ddof=1)


def one_visit() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return measures and allocation of the one-visit table: an outcome per region and visit."""
    rows = []
    for (region, session), arms in MOMENTS.items():
        for arm, (mean, sd, n) in zip(ARMS, arms, strict=True):
            values = mean + sd * standard_scores(n)
            rows += [_row(arm, i, "n/a", f"{region}.ses{session}", value) for i, value in enumerate(values)]
    return pd.DataFrame(rows), allocation(13, 13)


def two_visits() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return amygdala at baseline and end of treatment, correlated .36 within each arm among completers.

    The thirteenth midazolam baseline value is at its arm's mean, so that mean and SD of all thirteen are as
    published.
    """
    rows = []
    for arm, before, after in zip(ARMS, MOMENTS["amygdala", "1"], MOMENTS["amygdala", "2"], strict=True):
        n_after, n_before = after[2], before[2]
        first = standard_scores(n_after)
        second = 0.36 * first + (1 - 0.36**2) ** 0.5 * standard_scores(n_after, against=first, seed=1)
        # people at the mean add nothing to the sum of squares: n - 1 grows, the scores must grow with it
        spread = before[1] * ((n_before - 1) / (n_after - 1)) ** 0.5
        baseline = before[0] + spread * np.concatenate([first, np.zeros(n_before - n_after)])
        rows += [_row(arm, i, "1", "amygdala", value) for i, value in enumerate(baseline)]
        rows += [_row(arm, i, "2", "amygdala", value) for i, value in enumerate(after[0] + after[1] * second)]
    return pd.DataFrame(rows), allocation(13, 13)


def allocation(n_ketamine: int, n_midazolam: int) -> pd.DataFrame:
    """Return one row per person."""
    sizes = zip(ARMS, (n_ketamine, n_midazolam), strict=True)
    people = [(f"sub-{arm[0]}{i:02d}", arm) for arm, n in sizes for i in range(n)]
    return pd.DataFrame(people, columns=["participant_id", "arm"]).assign(stratum="n/a")


def _row(arm: str, person: int, session: str, outcome: str, value: float) -> dict[str, object]:
    return {
        "participant_id": f"sub-{arm[0]}{person:02d}",
        "session_id": session,
        "domain": "activation",
        "outcome": outcome,
        "value": value,
        "se": np.nan,
        "unit": "percent signal change",
        "coverage": np.nan,
        "n_runs": 1,
    }
