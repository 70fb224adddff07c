"""Responders by arm: their share at every session, and the share without a response so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reconfmri.figures.style import ACTIVE, CONTROL, INK, MUTED, drawn, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reconfmri.config import Trial


@drawn
def responder_shares(table: pd.DataFrame, course: pd.DataFrame, trial: Trial) -> Figure:
    """Return a row per rule: shares of responders by session, and Kaplan and Meier's curves.

    `table` and `course` are those of `group.responders` and `group.time_to_response`.
    """
    names = list(dict.fromkeys(table["responder"]))
    figure = new_figure(9.6, 2.7 * len(names) + 0.3)
    axes = figure.subplots(len(names), 2, squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        declared = table[(table["responder"] == name) & table["declared"].astype(bool)]
        _shares(left, declared[declared["method"] == "exact"], trial)
        left.set_title(
            name.replace("_", " ").capitalize(), fontsize=8.5, loc="left", color=INK, weight="bold"
        )
        _curves(right, course[(course["responder"] == name) & (course["event"] == "response")], trial)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return figure


def _sides(trial: Trial) -> list[tuple[str, str, str, float]]:
    """Arm, its place in the table, colour, shift."""
    active, control = trial.group.arms.pair
    return [(active, "active", ACTIVE, -0.06), (control, "control", CONTROL, 0.06)]


def _shares(axes: Axes, table: pd.DataFrame, trial: Trial) -> None:
    from scipy.stats import binomtest

    tidy(axes, grid="y")
    rows = table.drop_duplicates("session")
    sessions = [str(session) for session in rows["session"]]
    for arm, side, colour, shift in _sides(trial):
        of, people = rows[f"responders_{side}"].to_numpy(float), rows[f"n_{side}"].to_numpy(float)
        known = people > 0
        shares = np.divide(of, people, out=np.full(len(of), np.nan), where=known)
        ends = [
            binomtest(int(hit), int(n)).proportion_ci(trial.group.level) if n else (np.nan, np.nan)
            for hit, n in zip(of, people, strict=True)
        ]
        across = np.arange(len(shares)) + shift
        away = np.abs(np.array([tuple(end) for end in ends]) - shares[:, None]).T
        marker = "o" if side == "active" else "s"
        axes.errorbar(
            across,
            100 * shares,
            yerr=100 * away,
            color=colour,
            marker=marker,
            label=arm,
            linewidth=1.6,
            capsize=2,
        )
    axes.set_xticks(range(len(sessions)), [_tick(trial, session) for session in sessions])
    axes.set_ylim(-3, 103)
    axes.set_ylabel("responders, %", fontsize=8, color=MUTED)


def _curves(axes: Axes, course: pd.DataFrame, trial: Trial) -> None:
    tidy(axes, grid="y")
    sessions = list(dict.fromkeys(course["session"]))
    for arm, _, colour, _ in _sides(trial):
        mine = course[course["arm"] == arm].set_index("session").reindex(sessions)
        share = np.concatenate([[1.0], mine["share"].to_numpy(float)])
        across = np.append(np.arange(len(share)), len(share) - 0.6)  # the last step is seen too
        axes.step(across, 100 * np.append(share, share[-1]), where="post", color=colour, linewidth=1.8)
    ticks = ["baseline", *(_tick(trial, str(session)) for session in sessions)]
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_ylim(-3, 103)
    axes.set_ylabel("without a response so far, %", fontsize=8, color=MUTED)


def _tick(trial: Trial, session: str) -> str:
    return f"day {trial.days[session]:g}" if session in trial.days else session
