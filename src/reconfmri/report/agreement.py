"""One sentence under the primary estimate: what the other methods say of the same question, reconciled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reconfmri.config import Group, Trial
from reconfmri.figures.labels import is_unbounded, method_label, number, p_text
from reconfmri.group.grid import NO_STRATUM, read_arms
from reconfmri.group.randomisation import lowest_p, n_allocations
from reconfmri.report.inputs import Compared
from reconfmri.report.words import list_of

Row = Mapping[str, Any]


def agreement(trial: Trial, compared: Compared, rows: Mapping[str, Row]) -> str:
    """Return how the other methods (method -> row) stand to the Bayesian estimate; empty without any."""
    primary = rows.get("bayes")
    if primary is None or not primary["reported"]:
        return ""
    others = {name: row for name, row in rows.items() if name != "bayes" and row["reported"]}
    parts = []
    if others:
        parts.append(_signs(primary, others) + _verdicts(primary, others))
    parts += [part for part in (_floor(trial.group, compared, others), _silent(rows)) if part]
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _signs(primary: Row, others: Mapping[str, Row]) -> str:
    """Who estimates the same direction, and within which range."""
    against = [name for name, row in others.items() if row["estimate"] * primary["estimate"] < 0]
    unit = str(primary["unit"])
    if against:
        rest = [name for name in others if name not in against]
        same = f", {_named(rest)} the same" if rest else ""
        return f"{_named(against)} {_verb('estimate', against)} the opposite direction{same}"
    ends = [number(end(float(row["estimate"]) for row in others.values()), unit) for end in (min, max)]
    amount = f"{ends[0]} to {ends[1]}" if ends[0] != ends[1] else ends[0]
    return f"{_named(list(others))} {_verb('estimate', others)} the same direction ({amount} {unit})"


def _verdicts(primary: Row, others: Mapping[str, Row]) -> str:
    """Whose interval says of zero what the primary one says."""
    bounded = {name: row for name, row in others.items() if not is_unbounded(row)}
    if not bounded:
        return ""
    holds = _holds_zero(primary)
    differ = [name for name, row in bounded.items() if _holds_zero(row) != holds]
    word, other = ("contain", "exclude") if holds else ("exclude", "contain")
    if not differ:
        plural = "s" if len(bounded) > 1 else ""
        whose = f"the interval{plural} of {_named(list(bounded))}"
        if plural and len(bounded) == len(others):
            whose = "their intervals"
        return f", and {whose} {_verb(word, bounded)} zero as well"
    verb = _verb(other, differ)
    return (
        f", but the interval{'s' * (len(differ) > 1)} of {_named(differ)} {verb} zero, which this one {word}s"
    )


def _holds_zero(row: Row) -> bool:
    return bool(row["lower"] <= 0 <= row["upper"])


def _floor(group: Group, compared: Compared, others: Mapping[str, Row]) -> str:
    """Why a randomisation test of few allocations can neither reject nor bound anything."""
    row = others.get("randomisation")
    if row is None or not is_unbounded(row) or compared.allocation is None:
        return ""
    compares = group.arms
    if compares.several:
        return ""  # the status says it
    arms, measured = read_arms(compared.allocation, group), set(compared.measures["participant_id"])
    people = sorted(person for person in arms if person in measured)
    active = np.array([arms[person] == compares.pair[0] for person in people], dtype=bool)
    known = n_allocations(active, strata := _strata(compared, people))
    lowest = lowest_p(active, strata)
    if lowest <= 1 - group.level:
        return ""
    return (
        f"with {known} possible allocations the p of a randomisation test cannot be below "
        f"{p_text(lowest)} (it is {p_text(row['p'])}), so that it bounds no {100 * group.level:g} % interval "
        "and contradicts none"
    )


def _strata(compared: Compared, people: list[str]) -> list[str]:
    table = compared.allocation
    if table is None or "stratum" not in table:
        return [NO_STRATUM] * len(people)
    labels = dict(zip(table["participant_id"], table["stratum"].fillna(NO_STRATUM), strict=True))
    return [str(labels[person]) for person in people]


def _silent(rows: Mapping[str, Row]) -> str:
    """Who gave no estimate, and why; one part per reason."""
    reasons: dict[str, list[str]] = {}
    for name, row in rows.items():
        if not row["reported"]:
            reasons.setdefault(str(row["status"]).removeprefix("not reported: "), []).append(name)
    said = [f"{_named(names)} gave no estimate ({why.rstrip('.')})" for why, names in reasons.items()]
    return "; ".join(said)


def _named(methods: list[str]) -> str:
    return list_of([method_label(name) for name in methods])


def _verb(verb: str, subjects: Any) -> str:
    return verb if len(subjects) > 1 else f"{verb}s"
