"""Result tables as rows of text for the page; the template escapes every cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reconfmri.config import PROPER, Group, Study, Trial, outcome_label
from reconfmri.figures.labels import (
    declared_label,
    ends,
    estimand_label,
    half_width,
    method_label,
    number,
    number_with_ends,
    p_text,
    probability_text,
    session_name,
)
from reconfmri.report.inputs import Compared
from reconfmri.report.traces import anchor
from reconfmri.report.words import planted_difference, primary_rows, sign_of

Row = dict[str, Any]


def sessions_of(estimates: pd.DataFrame, trial: Trial) -> list[str]:
    """Return the sessions that have estimates: the primary one first, then in the order of the study."""
    present = list(dict.fromkeys(estimates["session"]))
    order = [name for name in trial.session_names if name in present]
    order += [name for name in present if name not in order]
    return sorted(order, key=lambda name: name != trial.group.primary.session)


def estimate_groups(
    estimates: pd.DataFrame, trial: Trial, suffix: str = "", *, first: bool = True
) -> list[Row]:
    """Return the estimates by session (the primary one first) and outcome.

    `suffix` ends their titles; the primary one is open where these come `first`. A row per
    kind of method, a cell per estimand.
    """
    group = trial.group
    groups = []
    for session in sessions_of(estimates, trial):
        table = estimates[estimates["session"] == session]
        names = [name for name in group.modelled if (table["outcome"] == name).any()]
        names += [name for name in dict.fromkeys(table["outcome"]) if name not in names]
        blocks = [_block(table[table["outcome"] == name], name, group) for name in names]
        title = f"Estimates at {session_name(trial, session)}{suffix}"
        groups.append({"title": title, "blocks": blocks, "open": first and session == group.primary.session})
    return groups


def _block(table: pd.DataFrame, outcome: str, group: Group) -> Row:
    bayesian = table["method"] == "bayes"
    parts = ((table[bayesian], "Bayesian"), (table[~bayesian], "Frequentist"))
    rows = [_row(part, kind, group) for part, kind in parts if len(part)]
    name, unit = declared_label(outcome, group), str(table["unit"].iloc[0])
    return {"name": name, "unit": unit, "rows": rows, "anchor": anchor(outcome)}


def _row(part: pd.DataFrame, kind: str, group: Group) -> Row:
    cells = []
    for estimand in group.estimands:
        found = part[part["estimand"] == estimand].to_dict("records")
        cells.append(
            {
                "lines": [_line({str(k): v for k, v in row.items()}, group) for row in found],
                "primary": any(row["is_primary"] for row in found),
            }
        )
    counts = part[["n_active", "n_control"]].dropna().to_numpy(int)
    people = dict.fromkeys(f"{active} + {control}" for active, control in counts)
    return {
        "method": kind,
        "cells": cells,
        "n": ", ".join(people) or "–",
        "r_hat": number(part["r_hat"].max()) if part["r_hat"].notna().any() else "",
        "ess": f"{part['ess'].min():.0f}" if part["ess"].notna().any() else "",
    }


def _line(row: Row, group: Group) -> Row:
    """One estimate: the numbers, and the detail that its method has."""
    method = str(row["method"])
    if not row["reported"]:
        return {"numbers": "", "detail": f"{method_label(method)}: {row['status']}"}
    unit = str(row["unit"])
    numbers = number_with_ends(row)
    if method == "bayes":
        detail = f"SD {number(row['sd'], unit)}, P({sign_of(row)} 0) {probability_text(row['probability'])}"
        if unit in group.rope:
            inside = probability_text(row["rope_probability"])
            detail += f", P(within ± {group.rope[unit]:g}) {inside}"
        return {"numbers": numbers, "detail": detail + _remarks(row)}
    error = f"SE {number(row['sd'], unit)}, " if row["sd"] == row["sd"] else ""
    detail = f"{method_label(method)}: {error}p {p_text(row['p'])}"
    if row["p_adjusted"] == row["p_adjusted"] and row["family"] != "primary":
        detail += f", adjusted {p_text(row['p_adjusted'])}"
        detail += f" ({row['family']})" if isinstance(row["family"], str) else ""
    return {"numbers": numbers, "detail": detail + _remarks(row)}


def _remarks(row: Row) -> str:
    """What there is to say besides `ok`: another covariance, what to beware of."""
    caveat = row.get("caveat")
    said = [str(row["status"]).removeprefix("ok").lstrip(",; "), caveat if isinstance(caveat, str) else ""]
    return "".join(f"; {part}" for part in said if part)


def truth_rows(trial: Trial, compared: Compared) -> list[Row]:
    """Return truth and Bayesian estimate of every outcome with a planted difference, at the primary visit."""
    group, estimates = trial.group, compared.tables.get("estimates")
    if estimates is None or compared.truth is None:
        return []
    primary = group.primary
    here = estimates[
        (estimates["session"] == primary.session)
        & (estimates["estimand"] == primary.estimand)
        & (estimates["method"] == "bayes")
    ]
    rows = []
    for row in here.to_dict("records"):
        planted = planted_difference(
            compared.truth, row["outcome"], primary.session, primary.estimand, baseline=trial.baseline
        )
        if planted is not None:
            rows.append(_truth_row({str(k): v for k, v in row.items()}, planted))
    order = {name: place for place, name in enumerate(group.modelled)}
    return sorted(rows, key=lambda item: order.get(item["outcome"], len(order)))


def _truth_row(row: Row, planted: float) -> Row:
    unit = str(row["unit"])
    distance = (row["estimate"] - planted) / row["sd"] if row["sd"] == row["sd"] else float("nan")
    return {
        "outcome": row["outcome"],
        "name": outcome_label(row["outcome"]),
        "unit": unit,
        "truth": number(planted, unit),
        "estimate": number(row["estimate"], unit) if row["reported"] else str(row["status"]),
        "sd": number(row["sd"], unit),
        "distance": distance,
        "distance_text": number(distance),
        "far": abs(distance) > 4,
    }


def truth_by_estimand(trial: Trial, compared: Compared, session: str) -> dict[str, dict[str, float]]:
    """Return outcome -> estimand -> planted difference at a session."""
    if compared.truth is None:
        return {}
    planted: dict[str, dict[str, float]] = {}
    for outcome in trial.group.modelled:
        for estimand in trial.group.estimands:
            value = planted_difference(compared.truth, outcome, session, estimand, baseline=trial.baseline)
            if value is not None:
                planted.setdefault(outcome, {})[estimand] = value
    return planted


def unlike_rows(table: pd.DataFrame, trial: Trial) -> list[Row]:
    """Return the statistics that the fitted model does not replicate: where, observed, replicated, p."""
    return [
        {
            "name": outcome_label(row["outcome"]),
            "where": f"{row['arm']}, {session_name(trial, row['session'])}",
            "statistic": row["statistic"],
            "observed": number(row["observed"], str(row["unit"]), width=half_width(row)),
            "replicated": ends(row, str(row["unit"])),
            "p": p_text(row["p"]),
        }
        for row in table.to_dict("records")
    ]


def unseen_rows(table: pd.DataFrame | None) -> list[Row]:
    """Return the primary question under every assumption on the values of people who left."""
    if table is None:
        return []
    rows = primary_rows(table)
    return [
        {"name": method_label(method), "answer": _or_reason(row), "p": p_text(row["p"])}
        for method, row in rows.items()
    ]


def calibration_rows(table: pd.DataFrame | None) -> list[Row]:
    """Return one row per method: coverage and type I error in simulated trials, with Monte Carlo errors."""
    if table is None:
        return []
    rows = []
    for row in table.to_dict("records"):
        known = row["reported"]
        rows.append(
            {
                "name": method_label(str(row["method"])) if known else str(row["status"]),
                "coverage": _percent(row["coverage"], row["coverage_error"]),
                "n_trials": f"{row['n_trials']:.0f}" if known else "–",
                "error": _percent(row["type_1_error"], row["type_1_error_error"]),
                "n_null": f"{row['n_null_trials']:.0f}" if known else "–",
                "bias": number(row["bias"]),
                "withheld": f"{row['n_withheld']:.0f}" if known else "–",
                "labelled": f"{row['n_labelled']:.0f}" if known else "–",
            }
        )
    return rows


def _percent(share: float, error: float) -> str:
    return "–" if share != share else f"{100 * share:.1f} % ± {100 * error:.1f}"


def moderation_rows(trial: Trial, moderation: pd.DataFrame | None) -> list[Row]:
    """Return one row per outcome, moderator and visit: the change of the arm difference by two methods."""
    if moderation is None:
        return []
    rows = []
    for (outcome, per, session), both in moderation.groupby(["outcome", "per", "session"], sort=False):
        by = {str(row["method"]): row for row in both.to_dict("records")}
        robust, bayesian = by["ancova_hc2"], by["bayes"]
        rows.append(
            {
                "name": declared_label(str(outcome), trial.group),
                "per": per,
                "session": session_name(trial, str(session)),
                "unit": robust["unit"],
                "robust": _or_reason(robust),
                "p": p_text(robust["p"]),
                "bayesian": _or_reason(bayesian),
                "probability": probability_text(bayesian["probability"]),
                "n": f"{robust['n_active']:.0f} + {robust['n_control']:.0f}",
            }
        )
    return rows


def joint_rows(trial: Trial, compared: Compared) -> list[Row]:
    """Return a block per pair of outcomes, a row per session: joint and alone, contrast, correlation."""
    table = compared.tables.get("joint")
    if table is None:
        return []
    first = table[table["quantity"] == "both"]
    pairs = first[["joint", "outcome", "other"]].drop_duplicates().itertuples(index=False)
    blocks = []
    for name, one, other in pairs:
        both = table["outcome"].isin([one, other]) & table["other"].isin([one, other])
        blocks.append(_joint_block(trial, compared, table[(table["joint"] == name) & both], str(name)))
    return blocks


def _joint_block(trial: Trial, compared: Compared, mine: pd.DataFrame, name: str) -> Row:
    sessions = mine.groupby("session", sort=False)
    rows = [_joint_row(trial, compared, part, str(session)) for session, part in sessions]
    names = [outcome_label(outcome) for outcome in dict.fromkeys(mine["outcome"])]
    estimand = estimand_label(str(mine["estimand"].iloc[0]))
    return {
        "title": f"{name.replace('_', ' ').capitalize()}: {estimand.lower()}",
        "names": names,
        "rows": rows,
    }


def _joint_row(trial: Trial, compared: Compared, part: pd.DataFrame, session: str) -> Row:
    cells = {str(key): rows.to_dict("records") for key, rows in part.groupby("quantity")}
    (contrast,), (correlation,), (both,) = cells["contrast"], cells["correlation"], cells["both"]
    start = {"session": trial.session_names[session]}
    if not both["reported"]:
        return start | {"reason": both["status"]}
    assumed = "" if both["declared"] else " (as observed)"
    return start | {
        "reason": "",
        "differences": [
            {"joint": number_with_ends(row), "alone": _alone(compared.tables.get("estimates"), row)}
            for row in cells["difference"]
        ],
        "contrast": number_with_ends(contrast),
        "correlation": number_with_ends(correlation),
        "both": f"{both['direction']}{assumed}: {probability_text(both['probability'])}",
        "n": f"{both['n_active']:.0f} + {both['n_control']:.0f}",
    }


def _or_reason(row: Mapping[Any, Any]) -> str:
    return number_with_ends(row) if row["reported"] else str(row["status"])


def pooled_rows(trial: Trial, compared: Compared) -> list[Row]:
    """Return a block per set of exchangeable outcomes: their mean, spread, and each pooled and alone."""
    table = compared.tables.get("pooled")
    if table is None:
        return []
    blocks = []
    for name, mine in table.groupby("pooled", sort=False):
        first = mine.to_dict("records")[0]
        rows = [
            _pooled_row(compared, part, str(quantity), str(outcome))
            for (quantity, outcome), part in mine.groupby(["quantity", "outcome"], sort=False, dropna=False)
        ]
        estimand = estimand_label(str(first["estimand"])).lower()
        blocks.append(
            {
                "title": f"{str(name).replace('_', ' ').capitalize()}: {estimand}, {first['unit']}",
                "sessions": [session_name(trial, str(item)) for item in dict.fromkeys(mine["session"])],
                "rows": rows,
            }
        )
    return blocks


def _pooled_row(compared: Compared, part: pd.DataFrame, quantity: str, outcome: str) -> Row:
    cells = []
    for row in part.to_dict("records"):
        lines = [_or_reason(row)]
        if row["estimate"] == row["estimate"]:
            if quantity == "outcome":
                lines.append(f"alone {_alone(compared.tables.get('estimates'), row)}")
            elif quantity == "mean":
                n_people = f"{row['n_active']:.0f} + {row['n_control']:.0f}"
                lines.append(f"P {probability_text(row['probability'])}, n {n_people} or more")
                lines.append(f"{row['n_outcomes']:.0f} outcomes, correlation {number(row['correlation'])}")
        cells.append(lines)
    names = {"mean": "Mean over the outcomes", "spread": "SD between the outcomes"}
    return {"name": names.get(quantity) or outcome_label(outcome), "cells": cells}


def _alone(table: pd.DataFrame | None, row: Mapping[Any, Any]) -> str:
    """The same question answered by the outcome's own Bayesian model."""
    if table is None:
        return "–"
    asked = ("outcome", "estimand", "session")
    same = (table[list(asked)] == [row[name] for name in asked]).all(axis=1) & (table["method"] == "bayes")
    found = table[same & table["reported"]].to_dict("records")
    return number_with_ends(found[0]) if found else "–"


def reliability_note(reliability: pd.DataFrame | None) -> str:
    """Return for how many outcomes and arms no reliability is reported, and why."""
    if reliability is None:
        return ""
    silent = reliability[~reliability["reported"]]
    reasons = "; ".join(dict.fromkeys(silent["status"]))
    return f"{len(silent)} of {len(reliability)} outcomes in an arm {reasons}." if len(silent) else ""


def reliability_rows(reliability: pd.DataFrame | None) -> list[Row]:
    """Return one row per outcome and arm that has one: both ICCs, error of measurement."""
    if reliability is None:
        return []
    rows = []
    known = reliability["reported"]
    for row in reliability[known].to_dict("records"):
        unit = str(row["unit"])
        shown = {
            name: f"{row[name]:.2f} [{row[f'{name}_lower']:.2f}, {row[f'{name}_upper']:.2f}]"
            for name in ("icc_2_1", "icc_3_1")
        }
        rows.append(
            {
                "name": outcome_label(row["outcome"]),
                "arm": row["arm"],
                "n": f"{row['n']:.0f}",
                "unit": unit,
                "sem": number(row["sem"], unit),
                "sdc": number(row["sdc"], unit),
                **{name: text.replace("-", "−") for name, text in shown.items()},
            }
        )
    return rows


def region_rows(study: Study, table: pd.DataFrame | None, measures: pd.DataFrame) -> list[Row]:
    """Return one row per region: labels, threshold, size, and median coverage over scans."""
    rows = []
    known = {} if table is None else {str(row["name"]): row for row in table.to_dict("records")}
    own: dict[str, list[str]] = {name: [] for name in study.rois.regions}
    for outcome in study.outcomes.values():
        own.setdefault(outcome.what, []).append(outcome.name)
    for name, region in study.rois.regions.items():
        row: Mapping[Any, Any] = known.get(name, {})
        volume = row.get("volume_mm3")
        rows.append(
            {
                "name": PROPER.get(name, name.replace("_", " ")),
                "labels": ", ".join(region.labels) or region.source,
                "threshold": f"{region.threshold:g}" if region.labels or region.map else "–",
                "n_voxels": "–" if region.segmentation else row.get("n_voxels", "–"),
                "volume": f"{float(volume):.0f}" if volume and not region.segmentation else "–",
                "coverage": _coverage(measures, own[name]),
            }
        )
    return rows


def _coverage(measures: pd.DataFrame, outcomes: Iterable[str]) -> str:
    mine = measures[measures["outcome"].isin(list(outcomes))]
    values = mine["coverage"].dropna() if "coverage" in mine else mine["value"].iloc[:0]
    return f"{100 * values.median():.0f} %" if len(values) else "–"


def measure_rows(measures: pd.DataFrame) -> list[Row]:
    """Return every measure as mean over scans, without participants."""
    rows = []
    for (outcome, unit), part in measures.groupby(["outcome", "unit"], sort=False):
        values = part["value"].dropna()
        error = part["se"].iloc[0] if len(part) == 1 else values.std() / max(len(values), 1) ** 0.5
        rows.append(
            {
                "name": outcome_label(str(outcome)),
                "count": len(values),
                "value": _precise(values.mean()),
                "se": _precise(error),
                "unit": str(unit),
            }
        )
    return rows


def _precise(value: float) -> str:
    return number(value) if abs(value) < 5e-3 or value != value else f"{value:.3f}".replace("-", "−")
