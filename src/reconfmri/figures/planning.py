"""The figure of a plan: power and width of the interval against the number of people per arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reconfmri.config import outcome_label
from reconfmri.figures.labels import estimand_label
from reconfmri.figures.style import BRIGHT, INK, MUTED, TRUTH, drawn, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reconfmri.group.estimands import Question
    from reconfmri.group.planning import Aim

# Neither of the two colours that mean an arm; the dash tells lines apart in print.
TENTHS = (0, 0.2, 0.4, 0.6, 0.8, 0.9, 1)
LOOKS: dict[str, tuple[str, Any]] = {
    "difference_adjusted": (INK, "-"),
    "difference_unadjusted": (BRIGHT[1], (0, (6, 2))),
    "difference_of_change": (BRIGHT[5], (0, (1.5, 1.5))),
    "difference_average": (BRIGHT[4], (0, (6, 2, 1.5, 2))),
}


@drawn
def plan_figure(
    table: pd.DataFrame,
    primary: Question,
    aim: Aim,
    needed: Mapping[float, int | None],
    names: Mapping[str, str],
) -> Figure:
    """Return power and expected half-width against n per arm, a line per estimand at the primary visit.

    `table` is that of `group.planning.plan`; `needed` is power -> n per arm of the primary question, marked
    where the table reaches it; `names` is session -> what the study calls it.
    """
    here = table[table["session"].isin([primary.session, "average"])]
    unit = str(table["unit"].iloc[0])
    figure = new_figure(9.6, 4.6)
    power, width = figure.subplots(1, 2)
    for axes, column in ((power, "power"), (width, "half_width")):
        tidy(axes, grid="y")
        _lines(axes, here, column, primary)
        _marks(axes, _of(here, primary), column, needed)
        axes.set_xlim(int(table["n_per_arm"].min()), int(table["n_per_arm"].max()))
        axes.set_xlabel("people randomised to each arm", fontsize=8.5, color=MUTED)
        axes.set_ylim(0, 1 if column == "power" else None)
    power.set_yticks(TENTHS, [_percent(tick) for tick in TENTHS])
    _difference_line(width, abs(aim.difference), float(here["half_width"].max()))
    titles = (
        f"Chance to show a true difference of {_short(aim.difference)} {unit}",
        f"Expected {_percent(aim.level)} interval: estimate ± this, {unit}",
    )
    for axes, title in zip((power, width), titles, strict=True):
        axes.set_title(title, fontsize=9, loc="left", color=INK)
    outcome = table["outcome"].iloc[0]
    asked = [outcome_label(outcome)] if isinstance(outcome, str) else ["Arm difference"]
    session = names.get(primary.session, f"session {primary.session}")
    figure.suptitle(", ".join([*asked, session]), fontsize=10, x=0.01, ha="left", color=INK, weight="bold")
    handles, labels = power.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False, fontsize=8.5)
    return figure


def _of(table: pd.DataFrame, question: Question) -> pd.DataFrame:
    """The reported rows of one question."""
    chosen = (table["estimand"] == question.estimand) & (table["session"] == question.session)
    return table[chosen & table["half_width"].notna()]


def _lines(axes: Axes, table: pd.DataFrame, column: str, primary: Question) -> None:
    """A line per estimand, the primary one thick; in the panel of power also its average over the prior."""
    for estimand in dict.fromkeys(table["estimand"]):
        rows = table[table["estimand"] == estimand]
        colour, dash = LOOKS.get(estimand, (MUTED, "-"))
        main = estimand == primary.estimand
        label = estimand_label(estimand) + (" (primary question)" if main else "")
        axes.plot(
            rows["n_per_arm"],
            rows[column],
            color=colour,
            linestyle=dash,
            linewidth=2.4 if main else 1.5,
            zorder=4 if main else 3,
            label=label,
        )
    if column == "power":
        rows = _of(table, primary)
        label = "Primary question, if the true difference is uncertain (assurance)"
        axes.plot(rows["n_per_arm"], rows["assurance"], color=MUTED, linewidth=1.0, label=label)


def _marks(axes: Axes, rows: pd.DataFrame, column: str, needed: Mapping[float, int | None]) -> None:
    """A drop line and a number at each n that is needed, or a remark where the figure does not reach it."""
    low, high = rows["n_per_arm"].min(), rows["n_per_arm"].max()
    elsewhere = []
    for place, (power, n_per_arm) in enumerate(sorted(needed.items())):
        there = rows[rows["n_per_arm"] == n_per_arm]
        if n_per_arm is None or there.empty:
            elsewhere.append(f"{_percent(power)} power: {n_per_arm or 'no number of people'} per arm")
            continue
        value = float(there[column].iloc[0])
        axes.plot([n_per_arm, n_per_arm], [0, value], color=TRUTH, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.plot([n_per_arm], [value], "o", color=TRUTH, markersize=5.5, zorder=5)
        text = f"{n_per_arm} per arm\n{_percent(power)} power" if column == "power" else f"± {_short(value)}"
        along = (n_per_arm - low) / max(high - low, 1)
        left = along > 0.15 and (place == 0 or along > 0.85)
        axes.annotate(
            text,
            (n_per_arm, 0),
            xytext=(-4 if left else 4, 6 + 28 * place),
            textcoords="offset points",
            ha="right" if left else "left",
            va="bottom",
            fontsize=8,
            color=TRUTH,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            zorder=6,
        )
    if column == "power" and elsewhere:
        text = "\n".join(["outside this figure:", *elsewhere])
        axes.text(0.98, 0.2, text, transform=axes.transAxes, ha="right", fontsize=8, color=TRUTH)


def _difference_line(axes: Axes, height: float, widest: float) -> None:
    """The size of the difference of interest, where it is near the intervals: narrower ones resolve it."""
    if height > 2 * widest:
        return
    axes.set_ylim(0, 1.08 * max(height, widest))
    axes.axhline(height, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.annotate(
        "difference of interest",
        (1, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=7.5,
        color=MUTED,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")
