"""What the answer would be had the people who were not seen fared otherwise than their visits predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reconfmri.config import outcome_label
from reconfmri.figures.labels import estimand_label, number, number_with_ends, p_text, session_name
from reconfmri.figures.style import INK, MUTED, TRUTH, drawn, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure

    from reconfmri.config import Trial

FINE = 81  # points per axis of the surface that is drawn; between the grid's points it is smooth
BANDS = 14  # steps of colour, about
VEIL = "#ffffff"
LINE_WIDTH = 46  # characters of a line of the words beside the map


@drawn
def tipping_map(grid: pd.DataFrame, points: pd.DataFrame, trial: Trial) -> Figure:
    """Return the arm difference over shifts of the unseen, veiled where its interval includes zero.

    `grid` and `points` are the two tables of `group.missing.tipping`. At the line p is one minus the level of
    the interval; the dot is missing at random, diamonds are the tipping shifts of one arm alone.
    """
    figure = new_figure(9.6, 4.6)
    axes, beside = figure.subplots(1, 2, width_ratios=[1.25, 1])
    beside.axis("off")
    words = sentences(grid, points, trial)
    if ((grid["lower"] < 0) & (grid["upper"] > 0)).any():
        alpha = 1 - float(grid["level"].iloc[0])
        words.append(f"Where the map is pale, the interval includes zero (p above {alpha:.2g}).")
    beside.text(
        0,
        1,
        "\n\n".join(_wrapped(text) for text in words),
        transform=beside.transAxes,
        ha="left",
        va="top",
        fontsize=9,
        color=INK,
        linespacing=1.35,
    )
    axes.set_title(_title(grid.iloc[0].to_dict(), trial), fontsize=9, loc="left", color=INK, weight="bold")
    if grid["estimate"].isna().all():
        axes.axis("off")
        return figure
    tidy(axes)
    surface = _draw_surface(axes, grid)
    unit = str(grid["unit"].iloc[0])
    bar = figure.colorbar(surface, ax=axes, pad=0.02, fraction=0.05)
    bar.set_label(f"{_minus(trial)}, {unit}", fontsize=8.5, color=MUTED)
    bar.ax.tick_params(labelsize=8, labelcolor=INK, length=2.5)
    for spine in bar.ax.spines.values():
        spine.set_visible(False)
    _mark_points(axes, points, trial)
    _label_axes(axes, grid, trial)
    return figure


def sentences(grid: pd.DataFrame, points: pd.DataFrame, trial: Trial) -> list[str]:
    """Return what the map says, in words: the answer at random, then the tipping shift of each arm."""
    if grid["estimate"].isna().all():
        return [f"There is no map: {grid['status'].iloc[0]}."]
    rows = points.to_dict("records")
    inside = rows[0]["p"] >= 1 - rows[0]["level"]
    return [_at_random(grid, rows[0]["p"], trial), *(_tip_in_words(row, inside=inside) for row in rows)]


def _at_random(grid: pd.DataFrame, p: float, trial: Trial) -> str:
    nearest = int((grid["delta_active"].abs() + grid["delta_control"].abs()).to_numpy(float).argmin())
    row = grid.to_dict("records")[nearest]
    unit, p_value = str(row["unit"]), p_text(p) if p < 0.001 else f"= {p_text(p)}"
    start = "Dot: people who were not seen are as their seen visits predict (missing at random)"
    if row["delta_active"] or row["delta_control"]:  # the grid leaves zero out
        return f"{start}, p {p_value}."
    return f"{start}. {_minus(trial)}: {number_with_ends(row)} {unit}, p {p_value}."


def _tip_in_words(row: dict[Any, Any], *, inside: bool) -> str:
    if row["n_unseen"] == 0:
        return f"In {row['arm']} everybody was seen; nothing can shift."
    people = "1 person" if row["n_unseen"] == 1 else f"{row['n_unseen']:.0f} people"
    start = f"{row['arm']}, {people} not seen:"
    unit = str(row["unit"])
    if not np.isfinite(row["delta"]):
        verdict = "includes" if inside else "excludes"
        reach = f"{number(row['reach'], unit)} {unit}"
        return f"{start} the interval still {verdict} zero if they lie up to {reach} off what is predicted."
    verdict = "excludes" if inside else "includes"
    direction = "higher" if row["delta"] > 0 else "lower"
    return (
        f"{start} the interval {verdict} zero once they lie {number(abs(row['delta']), unit)} {unit} "
        f"{direction} than predicted and the other arm as predicted."
    )


def _draw_surface(axes: Axes, grid: pd.DataFrame) -> QuadContourSet:
    """Colours for the estimate, a veil where the interval includes zero, a line at its edge."""
    from matplotlib.ticker import MaxNLocator
    from scipy.interpolate import RectBivariateSpline

    wide = {
        name: grid.pivot_table(index="delta_control", columns="delta_active", values=name)
        for name in ("estimate", "lower", "upper")
    }
    down, across = (wide["estimate"].index.to_numpy(float), wide["estimate"].columns.to_numpy(float))
    fine = np.linspace(across[0], across[-1], FINE), np.linspace(down[0], down[-1], FINE)
    degree = min(3, len(across) - 1)
    estimate, lower, upper = (
        RectBivariateSpline(down, across, table.to_numpy(float), kx=degree, ky=degree)(fine[1], fine[0])
        for table in wide.values()
    )
    levels = MaxNLocator(BANDS).tick_values(float(estimate.min()), float(estimate.max()))
    limit = float(np.abs(levels).max()) / 0.8  # the ends of the colour map are too dark for the line
    surface = axes.contourf(*fine, estimate, levels=levels, cmap="PuOr_r", vmin=-limit, vmax=limit)
    nearer = np.minimum(upper, -lower)  # above zero where zero is inside the interval
    if nearer.max() > 0:
        axes.contourf(*fine, nearer, levels=[0, float(nearer.max()) * 1.01], colors=[VEIL], alpha=0.62)
    if nearer.min() < 0 < nearer.max():
        edge = axes.contour(*fine, nearer, levels=[0.0], colors=[INK], linewidths=1.8)
        level = 1 - float(grid["level"].iloc[0])
        axes.clabel(edge, fmt={0.0: f"p = {level:.2g}"}, fontsize=8.5, colors=[INK])
    return surface


def _mark_points(axes: Axes, points: pd.DataFrame, trial: Trial) -> None:
    axes.axhline(0, color=MUTED, linewidth=0.7, linestyle=(0, (4, 2)))
    axes.axvline(0, color=MUTED, linewidth=0.7, linestyle=(0, (4, 2)))
    axes.plot(0, 0, "o", color=INK, markersize=8, markeredgecolor="white", markeredgewidth=1.4, zorder=5)
    halo: dict[str, Any] = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.2}
    where: dict[str, Any] = {"xytext": (8, 8), "textcoords": "offset points"}
    axes.annotate("missing at random", (0, 0), **where, fontsize=8.5, color=INK, bbox=halo, zorder=5)
    mark: dict[str, Any] = {"color": TRUTH, "markersize": 7, "markeredgecolor": "white"}
    for row in points.to_dict("records"):
        if not np.isfinite(row["delta"]):
            continue
        place = (row["delta"], 0.0) if row["arm"] == trial.group.arms.pair[0] else (0.0, row["delta"])
        axes.plot(*place, "D", zorder=6, **mark)


def _label_axes(axes: Axes, grid: pd.DataFrame, trial: Trial) -> None:
    unit = str(grid["unit"].iloc[0])
    active, control = trial.group.arms.pair
    arms = (active, grid["unseen_active"].iloc[0]), (control, grid["unseen_control"].iloc[0])
    for (arm, n_unseen), axis in zip(arms, (axes.xaxis, axes.yaxis), strict=True):
        people = "1 person" if n_unseen == 1 else f"{n_unseen:.0f} people"
        text = f"{arm}: {people} not seen, against prediction\n← lower    {unit}    higher →"
        axis.set_label_text(text, fontsize=8.5, color=INK)
        axis.set_major_formatter(lambda value, _: "0" if value == 0 else f"{value:+g}".replace("-", "−"))
    axes.set_aspect("equal")


def _title(row: dict[Any, Any], trial: Trial) -> str:
    session = session_name(trial, str(row["session"]))
    return f"{outcome_label(str(row['outcome']))}, {session}\n{estimand_label(str(row['estimand']))}"


def _minus(trial: Trial) -> str:
    return " minus ".join(trial.group.arms.pair)


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, LINE_WIDTH)
