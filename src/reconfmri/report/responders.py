"""The section on responders: how many of each arm, what that is worth, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reconfmri.config import Trial, outcome_label
from reconfmri.figures import responders as figures
from reconfmri.figures.labels import number, p_text, probability_text, session_name
from reconfmri.report.blocks import Block, picture
from reconfmri.report.comparisons import TREND, tables_by_comparison
from reconfmri.report.words import list_of

Row = Mapping[Any, Any]
BOUNDS = ("against_active", "for_active")
MISSING = {
    "nonresponder": "people whose response is not known count as nonresponders",
    "observed": "people whose response is not known are left out",
}


def responders(trial: Trial, tables: Mapping[str, pd.DataFrame]) -> Block:
    """Return a block per comparison and rule with a row per session, and a picture of each comparison."""
    shown: Block = {"responders": [], "responder_pictures": []}
    for _, two, mine in tables_by_comparison(trial, tables):
        if two.group.arms.pair != TREND:
            for name, found in _of_two(two, mine).items():
                shown[name] += found
    return shown if shown["responders"] else {"responders": []}


def _of_two(trial: Trial, tables: Mapping[str, pd.DataFrame | None]) -> Block:
    """The blocks and the picture of two arms; nothing without rules."""
    table, course = tables.get("responders"), tables.get("response_course")
    if table is None or not len(table):
        return {"responders": [], "responder_pictures": []}
    hazards = tables.get("response_hazards")
    blocks = [
        _block(trial, str(name), mine, hazards) for name, mine in table.groupby("responder", sort=False)
    ]
    caption = (
        "Left: share of responders, with exact 95 % intervals of Clopper and Pearson. Right: share without a "
    )
    caption += (
        "response so far (Kaplan and Meier); it steps at the visits, since responses are known only there."
    )
    shown = None
    if course is not None and len(course):
        drawn = figures.responder_shares(table, course, trial)
        shown = picture(drawn, alt="Responders by arm and session", caption=caption, size="large")
    return {"responders": blocks, "responder_pictures": [shown] if shown else []}


def _block(trial: Trial, name: str, mine: pd.DataFrame, hazards: pd.DataFrame | None) -> Block:
    label, rule = outcome_label(str(mine["outcome"].iloc[0])), mine["rule"].iloc[0]
    return {
        "title": f"{name.replace('_', ' ').capitalize()}: {label}, {rule}",
        "arms": list(trial.group.arms.pair),
        "note": _note(trial, mine),
        "rows": [_row(trial, part, str(session)) for session, part in mine.groupby("session", sort=False)],
        "times": _times(hazards, name),
    }


def _note(trial: Trial, mine: pd.DataFrame) -> str:
    declared = str(mine.loc[mine["declared"].astype(bool), "analysis"].iloc[0])
    strata = int(mine["n_strata"].max())
    text = f"As declared, {MISSING[declared]}. Differences are "
    text += f"{' minus '.join(trial.group.arms.pair)}, intervals {100 * trial.group.level:g} %. "
    text += "Bounds: every person who is not known responded, or did not, against and for "
    text += f"{trial.group.arms.pair[0]}."
    return text + (f" Randomisation had {strata} strata." if strata > 1 else "")


def _row(trial: Trial, part: pd.DataFrame, session: str) -> dict[str, Any]:
    declared = part[part["declared"].astype(bool)]
    first = declared.to_dict("records")[0]
    bounds = [_cell(part, "exact", "risk_difference", analysis=name, ends=False) for name in BOUNDS]
    methods = [name for name in ("exact", "mantel_haenszel", "bayes") if name in set(declared["method"])]
    return {
        "session": session_name(trial, session),
        "active": _count(first, "active"),
        "control": _count(first, "control"),
        "missing": f"{first['missing_active']:.0f} + {first['missing_control']:.0f}",
        "lines": [
            {
                "method": {"exact": "exact", "mantel_haenszel": "stratified", "bayes": "Bayesian"}[method],
                "cells": [
                    _cell(declared, method, quantity)
                    for quantity in ("risk_difference", "number_needed", "risk_ratio", "odds_ratio")
                ],
                "p": _chance(declared, method),
            }
            for method in methods
        ],
        "bounds": list_of(bounds),
    }


def _count(row: Row, arm: str) -> str:
    of, people = row[f"responders_{arm}"], row[f"n_{arm}"]
    return f"{of:.0f} of {people:.0f}" + (f" ({100 * of / people:.0f} %)" if people else "")


def _cell(part: pd.DataFrame, method: str, quantity: str, *, analysis: str = "", ends: bool = True) -> str:
    mine = part[(part["method"] == method) & (part["quantity"] == quantity)]
    row = (mine[mine["analysis"] == analysis] if analysis else mine).iloc[0]
    if not row["reported"]:
        return str(row["status"]).partition(". Fix: ")[0]
    shown = number(float(row["estimate"]))
    if not ends:
        return shown
    said = str(row["status"]).removeprefix("ok").lstrip(", ")
    return f"{shown} [{said or f'{number(float(row.lower))}, {number(float(row.upper))}'}]"


def _chance(part: pd.DataFrame, method: str) -> str:
    """The p value or probability; where separated arms have no odds ratio that of the exact difference."""
    rows = {row["quantity"]: row for row in part[part["method"] == method].to_dict("records")}
    if method == "bayes":
        return f"P {probability_text(rows['risk_difference']['probability'])}"
    is_fisher = method == "exact" and bool(rows["odds_ratio"]["reported"])
    p = rows["odds_ratio" if is_fisher else "risk_difference"]["p"]
    return f"p {p_text(p)}" + (" (Fisher)" if is_fisher else "")


def _times(hazards: pd.DataFrame | None, name: str) -> list[dict[str, str]]:
    """A line per event and method: the hazard ratio."""
    if hazards is None:
        return []
    rows = []
    for row in hazards[hazards["responder"] == name].to_dict("records"):
        counts = f"{row['events_active']:.0f} of {row['n_active']:.0f} + {row['events_control']:.0f} of "
        counts += f"{row['n_control']:.0f}"
        answer = str(row["status"])
        if row["reported"]:
            ends = [number(math.exp(float(row[key]))) for key in ("estimate", "lower", "upper")]
            answer = f"{ends[0]} [{ends[1]}, {ends[2]}]"
        rows.append(
            {
                "event": f"Time to {row['event']}",
                "method": "Cox" if row["method"] == "cox" else "Bayesian",
                "answer": answer,
                "counts": counts,
                "chance": f"P {probability_text(row['probability'])}"
                if row["method"] == "bayes"
                else f"p {p_text(row['p'])}",
            }
        )
    return rows
