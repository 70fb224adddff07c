"""The sentences of the report that carry a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reconfmri.config import Group, outcome_label
from reconfmri.figures.labels import ends, half_width, method_label, number, p_text, probability_text
from reconfmri.group.estimands import cautions_in
from reconfmri.report.comparisons import truth_of

if TYPE_CHECKING:
    import pandas as pd

ADJECTIVES = {
    "difference_adjusted": "adjusted for baseline",
    "difference_unadjusted": "unadjusted",
    "difference_of_change": "difference of change from baseline",
}


DISTORTION = {
    "phasediff": "phase difference",
    "phases": "two phase images",
    "fieldmap": "field map in Hz",
    "pepolar": "opposite phase encoding",
    "none": "not corrected",
}


def headline(
    estimates: pd.DataFrame,
    group: Group,
    truth: Mapping[str, Any] | None = None,
    *,
    sessions: Mapping[str, str] | None = None,
    baseline: str | None = None,
) -> str:
    """Return the primary result in one line: both methods, people per arm, and the truth where it is known.

    `sessions` gives a session's label its name; `baseline` is the label of the first session.
    """
    primary = group.primary
    visit = (sessions or {}).get(primary.session, f"session {primary.session}")
    arms = primary.compared or " minus ".join(group.arms.pair)
    start = f"{outcome_label(primary.outcome)}, {visit}, {arms}"
    rows = primary_rows(estimates)
    if "bayes" not in rows:
        return f"{start}: not estimated"
    parts = [_bayesian(rows["bayes"], ADJECTIVES.get(primary.estimand, primary.estimand))]
    parts += [_frequentist(row) for method, row in rows.items() if method not in ("bayes", "ancova_hc2")]
    parts += cautions(rows)
    truth = truth_of(truth, group.arms, primary.compared)
    planted = planted_difference(truth, primary.outcome, primary.session, primary.estimand, baseline=baseline)
    if planted is not None:
        parts.append(f"planted truth {number(planted, str(rows['bayes']['unit']))}")
    return f"{start}: " + "; ".join(parts)


def cautions(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what to beware of in the primary result, one line each with the methods (keys of `rows`)."""
    methods: dict[str, list[str]] = {}
    for method, row in rows.items():
        for text in cautions_in(str(row["status"])):
            methods.setdefault(text, []).append(method_label(method))
    return [f"caution ({', '.join(names)}): {text}" for text, names in methods.items()]


def primary_rows(estimates: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return method -> row of the primary question."""
    chosen = estimates[estimates["is_primary"]]
    return {str(row["method"]): {str(k): v for k, v in row.items()} for row in chosen.to_dict("records")}


def direction_text(row: Mapping[str, Any]) -> str:
    """Return the posterior probability of the sign of the estimate, with that sign."""
    text = f"P(difference {sign_of(row)} 0) = {probability_text(row['probability'])}"
    return text.replace("= >", ">").replace("= <", "<")


def sign_of(row: Mapping[str, Any]) -> str:
    """Return on which side of zero an estimate lies, `<` or `>`."""
    return "<" if float(row["estimate"]) < 0 else ">"


def planted_difference(
    truth: Mapping[str, Any] | None, outcome: str, session: str, estimand: str, *, baseline: str | None
) -> float | None:
    """Return the planted difference (active minus control) for an estimand; None where none is known."""
    if estimand not in ADJECTIVES:
        return None
    entry = (truth or {}).get("outcomes", {}).get(outcome)
    difference = entry.get("difference", {}) if entry else {}
    if session not in difference:
        return None
    start = float(difference.get(baseline, 0.0)) if estimand == "difference_of_change" else 0.0
    return float(difference[session]) - start


def _bayesian(row: Mapping[str, Any], adjective: str) -> str:
    status = str(row["status"])
    if not row["reported"]:
        return f"{adjective}, {status}"
    unit = str(row["unit"])
    percent = f"{100 * float(row['level']):g} %"
    interval = f"{percent} interval {ends(row, unit)}"
    people = f"n = {int(row['n_active'])} + {int(row['n_control'])}"
    estimate = number(row["estimate"], unit, width=half_width(row))
    return f"{estimate} {unit} ({adjective}; {interval}; {direction_text(row)}; {people})"


def _frequentist(row: Mapping[str, Any]) -> str:
    name = method_label(str(row["method"]))
    if not row["reported"]:
        return f"{name} {row['status']}"
    unit = str(row["unit"])
    estimate = number(row["estimate"], unit, width=half_width(row))
    return f"{name} {estimate}, p = {p_text(row['p'])}".replace("= <", "<")


def count_of(number: int, noun: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def list_of(items: list[str], *, comma: str = ", ") -> str:
    """Return items as an enumeration: `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return comma.join(items[:-1]) + f"{';' if comma == '; ' else ''} and {items[-1]}"


def uncapitalised(text: str) -> str:
    """Return a sentence as part of another one; only its first letter changes."""
    return text[:1].lower() + text[1:]
