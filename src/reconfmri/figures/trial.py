"""Figures of the trial: its course, the quality of its scans, its outcomes, what the models say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reconfmri.config import condition_label, outcome_label
from reconfmri.figures.arms import arm_colour, looks
from reconfmri.figures.labels import (
    declared_label,
    estimand_label,
    method_label,
    number_with_ends,
    session_name,
)
from reconfmri.figures.style import (
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

    from reconfmri.config import Group, Study, Trial

OTHER_MARK = {"marker": "^", "color": MUTED, "markerfacecolor": "white"}


@drawn
def timeline(study: Study, randomised: dict[str, int]) -> Figure:
    """Return the course of the trial: one lane per arm, one station per session, what is measured below."""
    arms = list(randomised) or ["all participants"]
    names = [(item.id, item.name, item.day) for item in study.sessions] or [("", "one session", None)]
    figure = new_figure(9.6, 1.55 + 0.42 * len(arms))
    axes = figure.add_subplot()
    axes.set_xlim(-1.0, len(names) - 0.45)
    axes.set_ylim(-1.25, len(arms) + 0.25)
    axes.axis("off")
    for lane, arm in enumerate(reversed(arms)):
        colour = arm_colour(study.group.arms if study.group else None, arm)
        axes.plot([-0.28, len(names) - 0.65], [lane, lane], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(
            range(len(names)), [lane] * len(names), "o", color=colour, markersize=9, markeredgecolor="white"
        )
        size = f", n = {randomised[arm]}" if arm in randomised else ""
        axes.text(
            -0.36, lane, f"{arm}{size}", ha="right", va="center", color=colour, fontsize=9.5, weight="bold"
        )
    primary = study.group.primary.session if study.group else None
    for place, (label, name, day) in enumerate(names):
        axes.text(
            place, len(arms) - 0.42, name, ha="center", va="bottom", fontsize=10, weight="bold", color=INK
        )
        planned = f"ses-{label}" + ("" if day is None else f", day {day:g}") if label else ""
        axes.text(place, -0.45, planned, ha="center", va="top", fontsize=8.5, color=MUTED)
        if label == primary:
            low, high = -0.38, len(arms) - 0.5
            axes.plot(
                [place - 0.3, place + 0.3, place + 0.3, place - 0.3, place - 0.3],
                [low, low, high, high, low],
                color=TRUTH,
                linewidth=1.1,
                linestyle=(0, (4, 2)),
            )
            axes.text(place, -0.8, "primary visit", ha="center", va="top", fontsize=8.5, color=TRUTH)
    return figure


@drawn
def quality_dots(quality: pd.DataFrame, study: Study) -> Figure:
    """Return one dot per scan for motion (mean FD, mm) and temporal SNR, by session and without arms.

    `quality` has participant_id, session_id, outcome, value, excluded.
    """
    panels = [
        ("fd.mean", "mean framewise displacement, mm", study.quality.max_mean_fd, "out above"),
        ("tsnr.median", "median temporal SNR in the brain", study.quality.min_tsnr, "out below"),
    ]
    figure = new_figure(9.6, 2.9)
    for place, (outcome, title, limit, word) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, 2, place)
        tidy(axes, grid="y")
        rows = quality[(quality["outcome"] == outcome) & quality["value"].notna()]
        _strips(axes, rows, study)
        axes.axhline(limit, color=OUT, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.annotate(
            f"{word} {limit:g}",
            (1, limit),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7.5,
            color=OUT,
        )
        axes.set_ylim(0, max(limit, float(rows["value"].max()) if len(rows) else limit) * 1.12)
        axes.set_title(title, fontsize=9, loc="left", color=INK)
    return figure


def _strips(axes: Axes, rows: pd.DataFrame, study: Study) -> None:
    """One column of dots per session, spread sideways by rank so that dots do not hide one another."""
    sessions = [item.id for item in study.sessions] or ["n/a"]
    labels = [session_name(study, session) for session in sessions]
    for place, session in enumerate(sessions):
        here = rows[rows["session_id"].fillna("n/a") == session].sort_values("value", kind="stable")
        spread = (np.arange(len(here)) * 0.618 % 1 - 0.5) * (0.55 if len(here) > 1 else 0.0)
        spread -= spread.mean() if len(here) else 0.0
        out = here["excluded"].to_numpy(bool)
        values = here["value"].to_numpy(float)
        axes.plot(
            place + spread[~out], values[~out], "o", color=INK, alpha=0.55, markersize=4, markeredgewidth=0
        )
        axes.plot(place + spread[out], values[out], "x", color=OUT, markersize=5.5, markeredgewidth=1.4)
    axes.set_xticks(range(len(sessions)), ["all scans" if label == "n/a" else label for label in labels])
    axes.set_xlim(-0.6, len(sessions) - 0.4)


@drawn
def trajectories(measures: pd.DataFrame, trial: Trial) -> Figure:
    """Return every modelled outcome over sessions: individuals faint, observed mean and interval of each arm.

    `measures` has participant_id, session_id, outcome, value, unit, arm. Intervals are those of Student's t
    for the mean of the available values, at the study's level.
    """
    group = trial.group
    outcomes = [name for name in group.modelled if (measures["outcome"] == name).any()]
    columns = min(3, len(outcomes))
    rows = -(-len(outcomes) // columns)
    figure = new_figure(9.6, 2.35 * rows + 0.35)
    for place, outcome in enumerate(outcomes, start=1):
        axes = figure.add_subplot(rows, columns, place)
        tidy(axes, grid="y")
        table = measures[measures["outcome"] == outcome]
        for arm, _, marker, shift in reversed(looks(group.arms)):
            _one_arm(axes, table[table["arm"] == arm], trial, marker=marker, shift=0.14 * shift, label=arm)
        axes.set_title(declared_label(outcome, group), fontsize=8.5, loc="left", color=INK, weight="bold")
        axes.set_ylabel(str(table["unit"].iloc[0]), fontsize=8, color=MUTED)
        names = trial.session_names.items()
        ticks = [f"day {trial.days[label]:g}" if label in trial.days else name for label, name in names]
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlim(-0.35, len(ticks) - 0.65)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="outside upper left", ncols=len(labels), frameon=False, fontsize=9
    )
    return figure


def _one_arm(axes: Axes, table: pd.DataFrame, trial: Trial, *, marker: str, shift: float, label: str) -> None:
    wide = table.pivot_table(index="participant_id", columns="session_id", values="value", aggfunc="mean")
    wide = wide.reindex(columns=list(trial.session_names))
    values = wide.to_numpy(float)
    colour = arm_colour(trial.group.arms, label)
    across = np.arange(values.shape[1]) + shift
    for line in values:
        seen = np.isfinite(line)
        axes.plot(across[seen], line[seen], color=colour, alpha=0.16, linewidth=0.8)
    mean, half = mean_and_interval(values, trial.group.level)
    axes.errorbar(
        across,
        mean,
        yerr=half,
        color=colour,
        marker=marker,
        markersize=5.5,
        linewidth=1.8,
        elinewidth=1.3,
        capsize=2.5,
        markeredgecolor="white",
        label=label,
        zorder=5,
    )


def mean_and_interval(values: np.ndarray[Any, Any], level: float) -> tuple[Any, Any]:
    """Return the mean of each column (people x sessions, gaps NaN) and the half width of its t interval."""
    from scipy.special import stdtrit

    count = np.isfinite(values).sum(axis=0)
    safe = np.where(count > 0, count, 1)
    mean = np.where(count > 0, np.nansum(values, axis=0) / safe, np.nan)
    squares = np.nansum((values - mean) ** 2, axis=0)
    freedom = np.where(count > 1, count - 1, 1)
    half = stdtrit(freedom, 0.5 + level / 2) * np.sqrt(squares / freedom / safe)
    return mean, np.where(count > 1, half, np.nan)


@drawn
def forest(
    estimates: pd.DataFrame, trial: Trial, *, session: str, truth: dict[str, dict[str, float]] | None = None
) -> Figure:
    """Return the arm differences at one session: a row per outcome, a panel per estimand, a mark per method.

    The axis is in multiples of each unit's scale (`group.scales`), so that outcomes share it; the numbers are
    the Bayesian ones in the outcome's own unit. `truth` is outcome -> estimand -> planted difference.
    """
    group = trial.group
    here = estimates[(estimates["session"] == session) & estimates["method"].isin(list(METHOD_MARKS))]
    here = here[here["estimand"].str.startswith("difference")]
    outcomes = [name for name in group.modelled if (here["outcome"] == name).any()]
    figure = new_figure(11.0, 0.5 * len(outcomes) + 1.25)
    asked = [name for name in group.estimands if (here["estimand"] == name).any()]
    panels = figure.subplots(1, len(asked), sharex=True, sharey=True, squeeze=False)[0]
    for axes, estimand in zip(panels, asked, strict=True):
        _forest_panel(axes, here[here["estimand"] == estimand], trial, outcomes)
        if truth:
            _truth_ticks(axes, truth, trial, outcomes, estimand)
        axes.set_title(estimand_label(estimand), fontsize=9, loc="left", color=INK, weight="bold")
    low, high = _reach(here, group)
    panels[0].set_xlim(low, high + 0.62 * (high - low))
    panels[0].set_ylim(len(outcomes) - 0.45, -0.55)
    ticks = [tick for tick in panels[0].get_xticks() if low <= tick <= high]
    panels[0].set_xticks(ticks)
    panels[0].set_yticks(
        range(len(outcomes)), [f"{declared_label(name, group)}\n{trial.units[name]}" for name in outcomes]
    )
    middle = panels[len(panels) // 2]
    middle.set_xlabel(
        f"{' minus '.join(group.arms.pair)}, in multiples of the unit's scale",
        fontsize=8.5,
        color=MUTED,
    )
    _method_legend(figure, here, with_truth=bool(truth))
    return figure


KINDS = {
    "Brain": ("activation", "connectivity"),
    "Body": ("skin_conductance", "physiology"),
    "Symptoms": ("clinical",),
}


def kinds_of(estimates: pd.DataFrame, trial: Trial) -> dict[str, list[str]]:
    """Return brain, body and symptoms -> their outcomes with an answer to the primary question."""
    here = _primary_rows(estimates, trial)
    found = {
        kind: [
            name
            for name in trial.group.modelled
            if ((here["outcome"] == name) & here["domain"].isin(domains)).any()
        ]
        for kind, domains in KINDS.items()
    }
    return {kind: outcomes for kind, outcomes in found.items() if outcomes}


@drawn
def side_by_side(estimates: pd.DataFrame, trial: Trial) -> Figure:
    """Return the primary estimand at the primary visit: a panel each of brain, body and symptoms on one axis.

    The axis is in multiples of each unit's scale (`group.scales`), the numbers in the outcome's own unit.
    """
    group, here = trial.group, _primary_rows(estimates, trial)
    kinds = kinds_of(estimates, trial)
    sizes = [len(outcomes) + 0.35 for outcomes in kinds.values()]
    figure = new_figure(8.6, 0.5 * sum(sizes) + 0.3 * len(kinds) + 0.9)
    panels = figure.subplots(len(kinds), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, (kind, outcomes) in zip(panels, kinds.items(), strict=True):
        _forest_panel(axes, here[here["outcome"].isin(outcomes)], trial, outcomes)
        axes.set_title(kind, fontsize=9, loc="left", color=INK, weight="bold")
        axes.set_ylim(len(outcomes) - 0.45, -0.55)
        labels = [f"{declared_label(name, group)}\n{trial.units[name]}" for name in outcomes]
        axes.set_yticks(range(len(outcomes)), labels)
    low, high = _reach(here, group)
    panels[0].set_xlim(low, high + 0.62 * (high - low))
    panels[0].set_xticks([tick for tick in panels[0].get_xticks() if low <= tick <= high])
    panels[-1].set_xlabel(
        f"{group.arms.active} minus {group.arms.control}, in multiples of the unit's scale",
        fontsize=8.5,
        color=MUTED,
    )
    _method_legend(figure, here, with_truth=False)
    return figure


def _primary_rows(estimates: pd.DataFrame, trial: Trial) -> pd.DataFrame:
    primary = trial.group.primary
    return estimates[
        (estimates["session"] == primary.session)
        & (estimates["estimand"] == primary.estimand)
        & estimates["method"].isin(list(METHOD_MARKS))
    ]


def _forest_panel(axes: Axes, table: pd.DataFrame, trial: Trial, outcomes: list[str]) -> None:
    tidy(axes)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for place in range(0, len(outcomes), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#f4f6f8", linewidth=0, zorder=0)
    methods = _methods_in_order(table)
    for row in table.to_dict("records"):
        place = outcomes.index(row["outcome"])
        if row["method"] == "bayes":
            _numbers(axes, row, place, primary=bool(row["is_primary"]))
        if not np.isfinite(row["estimate"]):
            continue
        scale = trial.group.scales[row["unit"]]
        level = place + 0.24 * (methods.index(row["method"]) - (len(methods) - 1) / 2)
        mark = METHOD_MARKS.get(row["method"], OTHER_MARK)
        axes.plot(
            [row["lower"] / scale, row["upper"] / scale], [level, level], color=mark["color"], linewidth=1.4
        )
        axes.plot(
            row["estimate"] / scale, level, markersize=4.6, linestyle="none", markeredgewidth=1.1, **mark
        )


def _numbers(axes: Axes, row: dict[Any, Any], place: int, *, primary: bool) -> None:
    text = "not reported"
    if np.isfinite(row["estimate"]):
        text = number_with_ends(row)
    axes.text(
        0.99,
        place,
        text,
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="center",
        fontsize=8,
        color=INK if primary or text != "not reported" else MUTED,
        weight="bold" if primary else "normal",
    )


def _truth_ticks(
    axes: Axes, truth: dict[str, dict[str, float]], trial: Trial, outcomes: list[str], estimand: str
) -> None:
    for place, outcome in enumerate(outcomes):
        value = truth.get(outcome, {}).get(estimand)
        if value is not None:
            across = value / trial.group.scales[trial.units[outcome]]
            axes.plot([across, across], [place - 0.36, place + 0.36], color=TRUTH, linewidth=1.6)


def _reach(table: pd.DataFrame, group: Group) -> tuple[float, float]:
    """The ends of the axis: all intervals and zero, with a little air."""
    if not table["estimate"].notna().any():
        return -1.0, 1.0
    scale = table["unit"].map(group.scales)
    low = min(0.0, float((table["lower"] / scale).min()))
    high = max(0.0, float((table["upper"] / scale).max()))
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def _methods_in_order(table: pd.DataFrame) -> list[str]:
    known = [name for name in METHOD_MARKS if (table["method"] == name).any()]
    return known + sorted(set(table["method"]) - set(known))


def _method_legend(figure: Figure, table: pd.DataFrame, *, with_truth: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            label=method_label(name),
            linewidth=1.4,
            markersize=4.6,
            **METHOD_MARKS.get(name, OTHER_MARK),
        )
        for name in _methods_in_order(table)
    ]
    if with_truth:
        handles.append(Line2D([], [], label="planted truth", color=TRUTH, linewidth=1.6))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=9)


@drawn
def edge_matrix(estimates: pd.DataFrame, study: Study, *, condition: str, arms: str = "") -> Figure:
    """Return the arms' difference in connectivity (Fisher z) at the primary visit, region by region.

    It is the Bayesian answer to the primary estimand, of the comparison that `arms` names.
    """
    group, connectivity = study.group, study.connectivity
    if group is None or connectivity is None:
        raise ValueError("the edge matrix needs the sections group and connectivity")
    names = list(dict.fromkeys(name for pair in connectivity.pairs for name in pair))
    rows = estimates[
        (estimates["method"] == "bayes")
        & (estimates["session"] == group.primary.session)
        & (estimates["estimand"] == group.primary.estimand)
    ].set_index("outcome")
    found = {}
    for one, other in connectivity.pairs:
        outcome = f"{one}-{other}.{condition}"
        if outcome in rows.index:
            found[(names.index(one), names.index(other))] = rows.loc[outcome]
    return _draw_edges(names, found, condition=condition, arms=arms or " − ".join(group.arms.pair))


def _draw_edges(
    names: list[str], found: dict[tuple[int, int], Any], *, condition: str, arms: str = ""
) -> Figure:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    size = len(names)
    limit = max(
        [abs(float(row["estimate"])) for row in found.values() if np.isfinite(row["estimate"])], default=0.1
    )
    limit = max(0.1, np.ceil(limit * 10) / 10)
    figure = new_figure(1.6 + 1.3 * (size - 1), 0.7 + 0.75 * (size - 1))
    axes = figure.add_subplot()
    colours = colormaps["PuOr"]
    for (one, other), row in found.items():
        value = float(row["estimate"])
        column, line = sorted((one, other))
        shade = colours(0.5 - 0.4 * value / limit) if np.isfinite(value) else "white"
        axes.add_patch(
            Rectangle((column - 0.5, line - 0.5), 1, 1, facecolor=shade, edgecolor="white", linewidth=2)
        )
        text, ink = "not\nreported", INK
        if np.isfinite(value):
            text = number_with_ends(row, "").replace(" [", "\n[")
            ink = "white" if abs(value) > 0.6 * limit else INK
        axes.text(column, line, text, ha="center", va="center", fontsize=9, color=ink)
    labels = [outcome_label(name) for name in names]
    axes.set_xticks(range(size - 1), labels[:-1])
    axes.set_yticks(range(1, size), labels[1:])
    axes.set_xlim(-0.5, size - 1.5)
    axes.set_ylim(size - 0.5, 0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.set_title(
        f"{condition_label(condition)}: {arms}, Fisher z", fontsize=9, loc="left", color=INK, weight="bold"
    )
    return figure


@drawn
def recovery(rows: pd.DataFrame) -> Figure:
    """Return how far each estimate lies from the truth, in its own SD; `rows` has outcome and distance."""
    figure = new_figure(6.4, 0.3 * len(rows) + 0.9)
    axes = figure.add_subplot()
    tidy(axes, grid="x")
    axes.axvspan(-1.96, 1.96, color="#eef2f6", linewidth=0)
    axes.axvline(0, color=TRUTH, linewidth=1.6)
    places = np.arange(len(rows))
    axes.plot(rows["distance"].to_numpy(float), places, "o", color=INK, markersize=5)
    axes.set_yticks(places, [outcome_label(name) for name in rows["outcome"]])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    reach = max(4.2, float(rows["distance"].abs().max()) * 1.1) if rows["distance"].notna().any() else 4.2
    axes.set_xlim(-reach, reach)
    axes.set_xticks(range(-int(reach), int(reach) + 1, max(1, int(reach) // 4)))
    axes.set_xlabel("(estimate − truth) / SD of the estimate", fontsize=8.5, color=MUTED)
    return figure


@drawn
def first_level_effects(measures: pd.DataFrame, unit: str) -> Figure:
    """Return values of one unit, a row each, with 95 % intervals (1.96 standard errors where known)."""
    table = measures[measures["value"].notna()]
    figure = new_figure(7.4, 0.24 * len(table) + 0.9)
    axes = figure.add_subplot()
    tidy(axes, grid="x")
    axes.axvline(0, color=MUTED, linewidth=0.8)
    places = np.arange(len(table))
    half = 1.96 * table["se"].astype(float).fillna(0).to_numpy()
    axes.errorbar(
        table["value"].to_numpy(float), places, xerr=half, fmt="o", color=INK, markersize=4, elinewidth=1.3
    )
    axes.set_yticks(places, [outcome_label(name) for name in table["outcome"]])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.margins(x=0.05)
    axes.set_xlabel(unit, fontsize=8.5, color=MUTED)
    return figure
