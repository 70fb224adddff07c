"""Sections on brain and symptoms of the same people, and on prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from reconfmri.config import Trial, outcome_label
from reconfmri.figures.labels import number, number_with_ends, p_text, probability_text, session_name
from reconfmri.report.blocks import Block
from reconfmri.report.words import list_of

EXAMPLE = 0.3  # the correlation whose interval is shown beside


def associations(trial: Trial, tables: Mapping[str, pd.DataFrame]) -> Block:
    """Return a block per association and a row per prediction; nothing where none was asked for."""
    found, predicted = tables.get("associations"), tables.get("prediction")
    blocks, rows = [], []
    if found is not None:
        blocks = [_block(trial, part) for _, part in found.groupby("association", sort=False)]
    if predicted is not None:
        rows = [_prediction(trial, row) for row in predicted.to_dict("records")]
    return {"associations": blocks, "prediction": rows}


def _block(trial: Trial, part: pd.DataFrame) -> Block:
    first = part.iloc[0]
    title = f"{outcome_label(first['brain'])} and {outcome_label(first['symptoms'])}, "
    rows = []
    for quantity in dict.fromkeys(part["quantity"]):
        mine = part[part["quantity"] == quantity].set_index("method")
        by_bayes = mine.loc["bayes"] if "bayes" in mine.index else None
        others = mine.drop(index="bayes", errors="ignore")
        rows.append(
            {
                "name": _words(trial, str(quantity)),
                "exploratory": bool(mine["exploratory"].iloc[0]),
                "bayes": _numbers(by_bayes),
                "chance": _chance(by_bayes, "probability"),
                "other": _numbers(others.iloc[0] if len(others) else None),
                "p": _chance(others.iloc[0] if len(others) else None, "p"),
            }
        )
    return {
        "title": title + session_name(trial, str(first["session"])),
        "rows": rows,
        "note": _width(trial, part),
    }


def _width(trial: Trial, part: pd.DataFrame) -> str:
    """What so many people can tell, by the standard error of Fisher's z of their changes."""
    chosen = (part["quantity"] == "correlation_of_changes") & (part["method"] == "fisher_z")
    row = part[chosen].iloc[0]
    text = f"{row['n_active'] + row['n_control']:.0f} people have both outcomes at both visits"
    if not row["reported"]:
        return f"{text}."
    half = float(ndtri((1 + trial.group.level) / 2)) * row["sd"]
    ends = np.tanh(np.arctanh(EXAMPLE) + np.array([-half, half]))
    return (
        f"{text}: a correlation of {EXAMPLE:g} would have the {100 * trial.group.level:g} % interval "
        f"[{number(ends[0])}, {number(ends[1])}]."
    )


def _words(trial: Trial, quantity: str) -> str:
    arms = trial.group.arms.pair
    return {
        "correlation_of_changes": "Correlation of changes, given the arm",
        "correlation_of_true_changes": "The same without error of measurement",
        "correlation_active": f"Correlation of changes in {arms[0]}",
        "correlation_control": f"Correlation of changes in {arms[1]}",
        "difference_of_correlations": "Difference of both, Fisher z",
        "slope_on_baseline": "Later symptoms per SD of the brain at baseline",
        "through_brain": "Arm difference in symptoms by way of the brain",
        "around_brain": "The rest of it",
    }[quantity]


def _numbers(row: pd.Series | None) -> str:
    if row is None:
        return "–"
    if not row["reported"]:
        return str(row["reason"])
    unit = "" if row["unit"] in ("r", "z") else str(row["unit"])
    return f"{number_with_ends(row.to_dict(), unit)} {unit}".strip()


def _chance(row: pd.Series | None, column: str) -> str:
    if row is None or not row["reported"]:
        return "–"
    return p_text(row["p"]) if column == "p" else probability_text(row[column])


def _prediction(trial: Trial, row: Mapping[Any, Any]) -> Block:
    settings = trial.group.prediction[str(row["prediction"])]
    by = list_of([outcome_label(name) for name in settings.predictors])
    start = {
        "name": f"{outcome_label(settings.outcome)}, {session_name(trial, settings.session)}",
        "by": by,
        "n": f"{row['n']:.0f}",
    }
    if not row["reported"]:
        return start | {"reason": row["reason"]}
    names = ("q2_base", "q2", "gain", "null_mean", "null_upper")
    shown = {key: number(row[key]) for key in names}
    return start | shown | {"p": p_text(row["p"]), "reason": ""}
