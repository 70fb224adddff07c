"""Responses to single scripts in the order in which they were heard again: habituation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reconfmri.config import condition_label
from reconfmri.figures.arms import arm_colour, looks
from reconfmri.figures.labels import session_name
from reconfmri.figures.style import INK, MUTED, drawn, new_figure, tidy
from reconfmri.figures.trial import mean_and_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from reconfmri.config import Study

EVERYBODY = "everybody"


@drawn
def habituation(scripts: pd.DataFrame, study: Study) -> Figure:
    """Return a panel per condition and session: mean and t interval of each repetition, a line per arm.

    `scripts` has participant_id, session_id, condition, repetition (from 0), value (percent signal change)
    and arm, one row per person, session, condition and repetition.
    """
    conditions = list(dict.fromkeys(scripts["condition"]))
    sessions = [session.id for session in study.sessions] or ["n/a"]
    arms = study.group.arms if study.group else None
    lines = list(reversed(arms.shown)) if arms else [EVERYBODY]
    marks = {look.arm: look.marker for look in looks(arms)} if arms else {}
    level = study.group.level if study.group else 0.95
    figure = new_figure(9.6, 0.5 + 1.75 * len(conditions))
    grid = figure.subplots(len(conditions), len(sessions), sharex=True, sharey=True, squeeze=False)
    numbers = range(int(scripts["repetition"].max()) + 1)
    for row, condition in enumerate(conditions):
        for column, session in enumerate(sessions):
            axes = grid[row, column]
            tidy(axes, grid="y")
            here = scripts[(scripts["condition"] == condition) & (scripts["session_id"] == session)]
            for place, arm in enumerate(lines):
                mine = here[here["arm"] == arm]
                wide = mine.pivot_table(index="participant_id", columns="repetition", values="value")
                values = wide.reindex(columns=list(numbers)).to_numpy(float)
                if not len(values):
                    continue
                mean, half = mean_and_interval(values, level)
                axes.errorbar(
                    np.array(numbers) + 1 + 0.06 * (place - (len(lines) - 1) / 2),
                    mean,
                    yerr=half,
                    color=arm_colour(arms, arm),
                    marker=marks.get(arm, "s"),
                    markersize=4.5,
                    linewidth=1.5,
                    elinewidth=1.0,
                    capsize=2,
                    markeredgecolor="white",
                    label=arm,
                )
            if row == 0:
                axes.set_title(
                    session_name(study, session) if study.sessions else "", fontsize=8.5, color=INK
                )
            if column == 0:
                label = f"{condition_label(condition)}\n% signal change"
                axes.set_ylabel(label, fontsize=8, color=MUTED)
            if row == len(conditions) - 1:
                axes.set_xlabel("repetition", fontsize=8, color=MUTED)
            axes.set_xticks([number + 1 for number in numbers])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    if arms and handles:
        # active arms first, as everywhere; they are drawn last, to lie on top
        shown = {"loc": "outside upper left", "ncols": len(lines), "frameon": False, "fontsize": 9}
        figure.legend(handles[::-1], labels[::-1], **shown)
    return figure
