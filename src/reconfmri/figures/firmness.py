"""How firm the primary answer is: the same question under other choices, one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reconfmri.figures.labels import method_label, number
from reconfmri.figures.style import INK, METHOD_MARKS, MUTED, drawn, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    """Return the rows of the figure: every choice, and the people who move the answer most."""
    declared = table[(table["kind"] == "declared") & (table["method"] == "reml")]["estimate"]
    people = table[table["kind"] == "influence"]
    moved = (people["estimate"] - declared.iloc[0]).abs().sort_values(ascending=False)
    return table.loc[[*table.index[table["kind"] != "influence"], *moved.index[:N_PEOPLE]]]


def _numbers(axes: Axes, place: int, row: dict[Any, Any]) -> None:
    unit, text = str(row["unit"]), "not reported"
    if np.isfinite(row["estimate"]):
        ends = f"[{number(row['lower'], unit)}, {number(row['upper'], unit)}]"
        text = f"{number(row['estimate'], unit)} {ends}"
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
