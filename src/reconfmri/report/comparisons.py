"""Comparisons of more than two arms, each as the page shows a trial of two arms.

A view is a trial with the two arms of one comparison and the rows of the tables that are about it, so that
what shows two arms shows each comparison. A trial of two arms has one view, which is itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from reconfmri.config import Arms, Comparison, Group, Trial
from reconfmri.report.inputs import Compared

COLUMN = "comparison"
TREND = ("the highest dose", "the lowest dose")  # the ends of the line that a trend is a difference along


class View(NamedTuple):
    """One comparison: its name, empty where there are two arms, and what is shown of it."""

    name: str
    trial: Trial
    compared: Compared

    @property
    def suffix(self) -> str:
        """The name after a title."""
        return f": {self.name}" if self.name else ""

    @property
    def start(self) -> str:
        """The name before a sentence."""
        return f"{self.name}. " if self.name else ""


def views(trial: Trial, compared: Compared) -> list[View]:
    """Return every comparison as a trial of two arms, that of the primary question first."""
    truth = compared.truth
    return [
        View(name, two, replace(compared, tables=tables, truth=truth_of(truth, trial.group.arms, name)))
        for name, two, tables in tables_by_comparison(trial, compared.tables)
    ]


def truth_of(truth: Mapping[str, Any] | None, arms: Arms, name: str) -> Mapping[str, Any] | None:
    """Return what was planted, with the difference of one comparison; of two arms as it is."""
    if truth is None or not arms.several:
        return truth
    weights = next(one.weights for one in arms.every_comparison if one.name == name)[1:]
    outcomes = {}
    for outcome, entry in truth.get("outcomes", {}).items():
        by_arm = entry.get("difference_by_arm", {})
        sums: dict[str, float] = {}
        for arm, weight in zip(arms.actives, weights, strict=True):
            for session, value in by_arm.get(arm, {}).items():
                sums[session] = sums.get(session, 0.0) + weight * float(value)
        outcomes[outcome] = {**entry, "difference": sums if set(arms.actives) <= set(by_arm) else {}}
    return {**truth, "outcomes": outcomes}


def tables_by_comparison(
    trial: Trial, tables: Mapping[str, pd.DataFrame]
) -> list[tuple[str, Trial, Mapping[str, pd.DataFrame]]]:
    """Return name, trial of two arms and tables of every comparison, that of the primary question first."""
    arms, primary = trial.group.arms, trial.group.primary.compared
    if not arms.several:
        return [("", trial, tables)]
    found: list[tuple[str, Trial, Mapping[str, pd.DataFrame]]] = []
    for one in sorted(arms.every_comparison, key=lambda one: one.name != primary):
        group = group_of(trial.group, one)
        mine = {name: rows_of(table, one.name, group.arms) for name, table in tables.items()}
        found.append((one.name, replace(trial, group=group), mine))
    return found


def primary_view(trial: Trial, compared: Compared) -> View:
    """Return the comparison of the primary question as a trial of two arms."""
    return views(trial, compared)[0]


def group_of(group: Group, comparison: Comparison | None = None) -> Group:
    """Return the group section with the two arms of a comparison, or of the primary question."""
    arms = group.arms
    if not arms.several:
        return group
    one = comparison or next(one for one in arms.every_comparison if one.name == group.primary.compared)
    names = TREND if len(one.arms) > len(one.higher) + 1 or len(one.higher) > 1 else None
    two = Arms(active=names[0], control=names[1]) if names else arms.two_of(one)
    primary = group.primary.model_copy(update={"comparison": None})
    return group.model_copy(update={"arms": two, "primary": primary})


def rows_of(table: pd.DataFrame, name: str, arms: Arms) -> pd.DataFrame:
    """Return the rows about a comparison, and changes within its arms, without the column that says so."""
    if COLUMN not in table:
        return table
    here = table[COLUMN] == name
    if "estimand" in table:
        here |= (table["estimand"] == "change_active") & (table[COLUMN] == arms.active)
        here |= (table["estimand"] == "change_control") & (table[COLUMN] == arms.control)
    return table[here].drop(columns=COLUMN)
