"""What a run's task predicts on average, as nuisance of connectivity: the bias of coupling hangs on it.

A region whose response falls within a script or from script to script is not described by one box per
condition; what is left of two such regions rises and falls together, and looks like connectivity. The model
`bins` has one box of some seconds per stretch of a condition, alike in all its presentations, and one box per
presentation; `events` has the regressors of the first level.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.choices import check_choice
from reconfmri.config import Task
from reconfmri.events import event_response, name_events, script_regressors

Array = npt.NDArray[np.float64]
MODELS = ("bins", "events")


def task_responses(
    events: pd.DataFrame,
    *,
    tr: float,
    n_volumes: int,
    task: Task,
    model: str,
    length: float,
    hrf: str = "glover",
    start: float = 0.0,
) -> Array:
    """Return the responses of a task model (n_volumes, n_columns); its columns may be linearly dependent.

    `length`, s, is that of the bins; `start` the moment within a volume that its values stand for, s.

    Raises
    ------
    DataFault
        As `events.name_events`.
    ValueError
        There is no such model.
    """
    check_choice("task_model", model, MODELS)
    single = script_regressors(events, tr=tr, n_volumes=n_volumes, task=task, hrf=hrf, start=start)
    if model == "events":
        return single.to_numpy()
    named = name_events(events, task, duration=tr * n_volumes)
    times = start + tr * np.arange(n_volumes)
    columns = [single.to_numpy()] if task.events == "each" else []
    for _, presentations in named.groupby("condition", sort=False):
        onsets = presentations["onset"].to_numpy(dtype=float)
        lengths = presentations["duration"].to_numpy(dtype=float)
        for begin in np.arange(0.0, max(lengths.max(), length / 2), length):
            there = (lengths > begin) | (begin == 0)
            answers = [
                event_response(times - onset - begin, min(length, whole - begin), hrf)
                for onset, whole in zip(onsets[there], lengths[there], strict=True)
            ]
            columns.append(np.sum(answers, axis=0)[:, None])
    return np.hstack(columns)
