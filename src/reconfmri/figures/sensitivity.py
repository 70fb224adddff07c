"""Sensitivity analyses: the primary question under other choices, and negative controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reconfmri.config import outcome_label
from reconfmri.figures.arms import looks
from reconfmri.figures.labels import declared_label, method_label, number_with_ends
from reconfmri.figures.style import (
    ACTIVE,
    CONTROL,
    INK,
    METHOD_MARKS,
    MUTED,
    OUT,
    TRUTH,
    drawn,
    new_figure,
    tidy,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reconfmri.config import Trial

N_PEOPLE = 3  # people whose absence moves the answer most, who get a row of their own


@drawn
def alternatives(table: pd.DataFrame) -> Figure:
    """Return the rows of `group.sensitivity` with their intervals; of people only those who matter most."""
    shown = rows_shown(table)
    figure = new_figure(9.2, 0.3 * len(shown) + 1.0)
    axes = figure.add_subplot()
    tidy(axes, grid="x")
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for place, row in enumerate(shown.to_dict("records")):
        mark = METHOD_MARKS[row["method"]]
        if np.isfinite(row["estimate"]):
            axes.plot([row["lower"], row["upper"]], [place, place], color=mark["color"], linewidth=1.4)
            axes.plot(row["estimate"], place, markersize=5, linestyle="none", markeredgewidth=1.1, **mark)
        _numbers(axes, place, row)
    labels = zip(shown["analysis"], shown["method"], strict=True)
    names = [f"{analysis}, {method_label(method)}" for analysis, method in labels]
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    for label, kind in zip(axes.get_yticklabels(), shown["kind"], strict=True):
        label.set_fontweight("bold" if kind == "declared" else "normal")
    axes.set_xlabel(f"difference between the arms, {shown['unit'].iloc[0]}", fontsize=8.5, color=MUTED)
    return figure


def rows_shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the figure: every choice with an answer, and the people who move it most."""
    declared = table[(table["kind"] == "declared") & (table["method"] == "reml")]["estimate"]
    people = table[(table["kind"] == "influence") & (table["method"] == "reml")]
    moved = (people["estimate"] - declared.iloc[0]).abs().sort_values(ascending=False)
    names = people.loc[moved.index[:N_PEOPLE], "analysis"]
    chosen = [
        place for name in names for place in table.index[(table["analysis"] == name)]
    ]  # by both methods
    choices = (table["kind"] == "declared") | ((table["kind"] != "influence") & table["estimate"].notna())
    return table.loc[[*table.index[choices], *chosen]]


def _numbers(axes: Axes, place: int, row: dict[Any, Any]) -> None:
    text = "not reported"
    if np.isfinite(row["estimate"]):
        text = number_with_ends(row)
    bold = "bold" if row["kind"] == "declared" else "normal"
    axes.text(
        1.01,
        place,
        text,
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=8,
        color=INK,
        weight=bold,
    )


@drawn
def reliability(table: pd.DataFrame, trial: Trial) -> Figure:
    """Return ICC(2,1) with its interval, a row per outcome, a mark per arm; rows of `group.reliability`."""
    known = table[table["icc_2_1"].notna()]
    arms, names = trial.group.arms, list(dict.fromkeys(known["outcome"]))
    figure = new_figure(9.2, 0.34 * len(names) + 1.0)
    axes = figure.add_subplot()
    tidy(axes, grid="x")
    for arm, colour, marker, shift in looks(arms):
        mine = known[known["arm"] == arm]
        places = [names.index(name) + 0.28 * shift for name in mine["outcome"]]
        axes.hlines(places, mine["icc_2_1_lower"], mine["icc_2_1_upper"], color=colour, linewidth=1.4)
        axes.plot(mine["icc_2_1"], places, marker, color=colour, markersize=4.6, label=arm)
    axes.set_yticks(range(len(names)), [declared_label(name, trial.group) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(min(0.0, float(known["icc_2_1_lower"].min())) - 0.02, 1.0)
    axes.set_xlabel("ICC(2,1)", fontsize=8.5, color=MUTED)
    figure.legend(loc="outside upper left", ncols=len(arms.shown), frameon=False, fontsize=9)
    return figure


CHECKS = {
    "baseline": ("before treatment", ACTIVE),
    "control": ("control outcome", TRUTH),
    "precision": ("standard error of the primary outcome", OUT),
    "quality": ("quality of the scans", CONTROL),
    "spread": ("SD of the arms", INK),
}
CRITICAL = 1.96


@drawn
def negative_controls(table: pd.DataFrame, draws: pd.DataFrame | None) -> Figure:
    """Return the normal score of every control's p value, and the primary statistic among other draws."""
    from scipy.special import ndtri

    scores = -ndtri(table["p"].to_numpy(float) / 2) * np.sign(table["estimate"].to_numpy(float))
    names = list(dict.fromkeys(zip(table["check"], table["outcome"], strict=True)))
    figure = new_figure(11.0, 0.24 * len(names) + 1.3)
    with_draws = draws is not None and len(draws) > 0
    left, *right = figure.subplots(
        1, 2 if with_draws else 1, width_ratios=[2, 1][: 1 + with_draws], squeeze=False
    )[0]
    tidy(left)
    left.axvspan(-CRITICAL, CRITICAL, color="#eef1f4", linewidth=0)
    left.axvline(0, color=MUTED, linewidth=0.8)
    place = [names.index(key) for key in zip(table["check"], table["outcome"], strict=True)]
    for check, (label, colour) in CHECKS.items():
        mine = (table["check"] == check).to_numpy()
        if mine.any():
            left.plot(scores[mine], np.array(place)[mine], "o", markersize=4, color=colour, label=label)
    left.set_yticks(range(len(names)), [outcome_label(name) for _, name in names])
    left.set_ylim(len(names) - 0.4, -0.6)
    reach = max(3.0, float(np.abs(scores[np.isfinite(scores)]).max(initial=0)) * 1.1)
    left.set_xlim(-reach, reach)
    left.set_xlabel("normal score of the p value (a dot per session)", fontsize=8.5, color=MUTED)
    figure.legend(loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    for axes in right:
        tidy(axes)
        statistics = draws["statistic"].to_numpy(float) if draws is not None else np.empty(0)
        axes.hist(statistics[1:], bins=60, color="#c3ccd5")
        axes.axvline(statistics[0], color=INK, linewidth=1.6)
        axes.set_yticks([])
        axes.set_xlabel("primary statistic under other draws", fontsize=8.5, color=MUTED)
    return figure
