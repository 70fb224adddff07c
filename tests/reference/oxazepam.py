"""A real trial (oxazepam, 2,080 skin responses of 33 people) as values, design and published coefficients."""

from pathlib import Path

import numpy as np
import pandas as pd

TERMS = [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]


def load(folder: Path) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Return values (n, v), NaN where an event was lost, design (n, v, 8) and the table of the authors.

    Columns: constant, instruction, valence, treatment, coded -1/2 and +1/2, and their products.
    """
    events = pd.read_csv(folder / "SCREventData_ER.csv")
    arms = pd.read_csv(folder / "treatment.csv").set_index("Subject")["Treatment"]
    codes = np.column_stack(
        [
            np.where(events["instruction"] == "Downregulate", -0.5, 0.5),
            np.where(events["valence"] == "Neutral", -0.5, 0.5),
            np.where(arms[events["Subject"]] == "Placebo", -0.5, 0.5),
        ]
    )
    flat = np.column_stack([codes[:, list(term)].prod(axis=1) for term in TERMS])
    place = events.groupby("Subject").cumcount().to_numpy()
    person = pd.factorize(events["Subject"])[0]
    values = np.full((person.max() + 1, place.max() + 1), np.nan)
    design = np.zeros((*values.shape, flat.shape[1]))
    values[person, place], design[person, place] = events["log_SCR_mean_stimulus"], flat
    return values, design, pd.read_csv(folder / "SCR_main.csv", index_col=0)
