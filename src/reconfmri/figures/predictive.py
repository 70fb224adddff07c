"""What the priors allow beside what was seen, and what the fitted model replicates of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reconfmri.figures.arms import looks
from reconfmri.figures.labels import declared_label, session_name
from reconfmri.figures.style import INK, MUTED, TRUTH, drawn, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reconfmri.config import Trial

TITLES = {"mean": "mean", "sd": "standard deviation", "lowest": "lowest value", "highest": "highest value"}


@drawn
def prior_reach(table: pd.DataFrame, trial: Trial) -> Figure:
    """Return the lowest to the highest value that the priors make of each outcome, beside the observed ones.

    `table` is that of `group.predictive`. In multiples of the unit's scale around the middle of the data.
    """
    group, shown = trial.group, table[(table["check"] == "prior") & table["reported"]]
    outcomes = [name for name in group.modelled if (shown["outcome"] == name).any()]
    figure = new_figure(9.2, 0.3 * len(outcomes) + 1.2)
    axes = figure.add_subplot()
    tidy(axes, grid="x")
    for place, name in enumerate(outcomes):
        mine = shown[shown["outcome"] == name]
        low, high = (mine[mine["statistic"] == kind] for kind in ("lowest", "highest"))
        scale = group.scales[str(mine["unit"].iloc[0])]
        centre = (low["observed"].min() + high["observed"].max()) / 2
        seen = np.array([low["observed"].min(), high["observed"].max()])
        typical = np.array([low["median"].median(), high["median"].median()])
        widest = np.array([low["lower"].min(), high["upper"].max()])
        for ends, width, colour in ((widest, 1.0, "#c3ccd5"), (typical, 4.5, "#c3ccd5"), (seen, 2.2, INK)):
            axes.plot((ends - centre) / scale, [place, place], color=colour, linewidth=width)
        for end in trial.ranges.get(name, ()):
            axes.plot([(end - centre) / scale] * 2, [place - 0.3, place + 0.3], color=TRUTH, linewidth=1.4)
    axes.set_yticks(range(len(outcomes)), [declared_label(name, group) for name in outcomes])
    axes.set_ylim(len(outcomes) - 0.4, -0.6)
    axes.set_xlabel("multiples of the unit's scale, from the middle of the data", fontsize=8.5, color=MUTED)
    return figure


@drawn
def replicates(table: pd.DataFrame, trial: Trial) -> Figure:
    """Return observed statistics of the primary outcome beside those of trials that the model replicates."""
    group = trial.group
    mine = table[(table["check"] == "posterior") & (table["outcome"] == group.primary.outcome)]
    sessions = list(dict.fromkeys(mine["session"]))
    figure = new_figure(11.0, 2.5)
    panels = figure.subplots(1, len(TITLES), squeeze=False)[0]
    for axes, (statistic, title) in zip(panels, TITLES.items(), strict=True):
        tidy(axes, grid="y")
        for arm, colour, _, shift in looks(group.arms):
            rows = mine[(mine["statistic"] == statistic) & (mine["arm"] == arm)]
            places = np.array([sessions.index(name) for name in rows["session"]]) + 0.24 * shift
            _bars(axes, places, rows, colour, arm)
        axes.set_title(title, fontsize=9, loc="left", color=INK, weight="bold")
        names = [session_name(trial, name) for name in sessions]
        axes.set_xticks(range(len(sessions)), names, rotation=30, ha="right")
        axes.set_xlim(-0.5, len(sessions) - 0.5)
    panels[0].set_ylabel(str(mine["unit"].iloc[0]), fontsize=8.5, color=MUTED)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def _bars(axes: Axes, places: np.ndarray, rows: pd.DataFrame, colour: str, arm: str) -> None:
    axes.vlines(places, rows["lower"], rows["upper"], color=colour, linewidth=4.5, alpha=0.3)
    axes.plot(
        places,
        rows["observed"],
        "o",
        color=colour,
        markersize=4.5,
        label=f"{arm}, observed (bar: replicated)",
    )
