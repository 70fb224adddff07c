"""Responders by declared rules, compared between arms; the unseen count as declared, with bounds beside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.config import Responder
from reconfmri.contracts.questions.responders import RESPONDERS
from reconfmri.group import grid, proportions
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import Array, NotEstimableError, answered, withheld
from reconfmri.group.proportions import Answer, Counts

QUANTITIES = ("risk_difference", "number_needed", "risk_ratio", "odds_ratio")
SLACK = 1e-9
ANALYSES = ("nonresponder", "observed", "against_active", "for_active")


@dataclass(frozen=True)
class Response:
    """Whether randomised people responded: 1, 0 or NaN (not known), (n_people, n_later visits)."""

    name: str
    rule: Responder
    status: Array
    active: NDArray[np.bool_]
    strata: tuple[str, ...]
    sessions: tuple[str, ...]


def estimate(asked: Asked) -> pd.DataFrame:
    """Return one row per rule, later session, analysis of missing people, method and quantity.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows: list[dict[str, object]] = []
    for response in responses(asked):
        for visit, session in enumerate(response.sessions):
            for analysis in ANALYSES:
                rows += _rows(response, visit, session, analysis, asked.group.level)
    return RESPONDERS.frame(rows)


def responses(asked: Asked) -> list[Response]:
    """Return who responded when, by every declared rule; everybody who was randomised is in it.

    Raises
    ------
    ValueError
        The allocation does not fit the study.
    """
    if not asked.group.responders:
        return []
    arms = grid.read_arms(asked.allocation, asked.group)
    people = sorted(arms)
    drug, _ = asked.group.arms.pair
    active = np.array([arms[person] == drug for person in people], dtype=bool)
    given = asked.allocation.set_index("participant_id")
    strata = given["stratum"].fillna(grid.NO_STRATUM).astype(str).to_dict() if "stratum" in given else {}
    of_people = tuple(strata.get(person, grid.NO_STRATUM) for person in people)
    found = []
    for name, rule in asked.group.responders.items():
        mine = asked.measures[asked.measures["outcome"] == rule.outcome]
        wide = mine.pivot(index="participant_id", columns="session_id", values="value")
        values = wide.reindex(index=people, columns=asked.labels).to_numpy(dtype=float)
        later = tuple(asked.labels[1:] or asked.labels)
        found.append(Response(name, rule, _status(values, rule), active, of_people, later))
    return found


def _status(values: Array, rule: Responder) -> Array:
    """1 responded, 0 did not, NaN not known; NaN too for who could not (no diagnosis at baseline)."""
    first, later = values[:, :1], values[:, 1:] if values.shape[1] > 1 else values
    met = np.ones(later.shape, dtype=bool)
    known = ~np.isnan(later)
    if rule.needs_baseline:
        known &= ~np.isnan(first) & (values.shape[1] > 1)
    if rule.drop:
        met &= first - later >= rule.drop - SLACK
    if rule.percent:
        known &= first > 0
        met &= first - later >= rule.percent / 100 * first - SLACK
    if rule.at_most is not None:
        met &= later <= rule.at_most + SLACK
    if rule.loss_of_diagnosis:
        known &= first == 1
        met &= (first == 1) & (later == 0)
    return np.where(known, met.astype(float), np.nan)


def _rows(
    response: Response, visit: int, session: str, analysis: str, level: float
) -> list[dict[str, object]]:
    """The rows of one rule, session and analysis; all methods for the declared one, else the exact one."""
    status, active = response.status[:, visit], response.active
    missing = np.isnan(status)
    declared = analysis == response.rule.missing
    strata = _counted(response, status, analysis)
    whole = _summed(strata)
    start: dict[str, object] = {
        "responder": response.name,
        "outcome": response.rule.outcome,
        "rule": response.rule.words,
        "session": session,
        "analysis": analysis,
        "declared": declared,
        "level": level,
        "responders_active": whole.active,
        "n_active": whole.n_active,
        "responders_control": whole.control,
        "n_control": whole.n_control,
        "missing_active": int((missing & active).sum()),
        "missing_control": int((missing & ~active).sum()),
        "n_strata": len(strata),
    }
    methods = ["exact"]
    if declared:
        methods += ["mantel_haenszel"] * (len(strata) > 1) + ["bayes"]
    rows = []
    for method in methods:
        answers = _answers(method, whole, strata, response.rule, level)
        rows += [start | {"method": method, "quantity": name} | answers[name] for name in QUANTITIES]
    return rows


def _counted(response: Response, status: Array, analysis: str) -> list[Counts]:
    """Responders and people of each stratum, as an analysis counts those who are not known."""
    filled = status.copy()
    missing = np.isnan(status)
    if analysis != "observed":
        worst = analysis in ("nonresponder", "against_active")
        filled[missing & response.active] = 0.0 if worst else 1.0
        filled[missing & ~response.active] = 0.0 if analysis in ("nonresponder", "for_active") else 1.0
    seen = ~np.isnan(filled)
    found = []
    strata = np.array(response.strata)
    for stratum in sorted(set(response.strata)):
        arms = [filled[seen & (strata == stratum) & side] for side in (response.active, ~response.active)]
        found.append(Counts(int(arms[0].sum()), len(arms[0]), int(arms[1].sum()), len(arms[1])))
    return found


def _summed(strata: list[Counts]) -> Counts:
    names = ("active", "n_active", "control", "n_control")
    return Counts(*(sum(getattr(one, name) for one in strata) for name in names))


def _answers(
    method: str, whole: Counts, strata: list[Counts], rule: Responder, level: float
) -> dict[str, dict[str, object]]:
    """Quantity -> cells of its row."""
    cells: dict[str, dict[str, object]] = {}
    found: dict[str, Answer] = {}
    try:
        _refuse_an_empty_arm(whole)
        if method == "exact":
            found["risk_difference"] = proportions.risk_difference(whole, level)
        elif method == "bayes":
            found = proportions.bayes(strata, level, rule.prior_sd)
        else:
            found = proportions.mantel_haenszel(strata, level)
    except NotEstimableError as reason:
        return dict.fromkeys(QUANTITIES, withheld(reason))
    for name in ("risk_ratio", "odds_ratio"):
        try:
            if method == "exact":
                exact = proportions.risk_ratio if name == "risk_ratio" else proportions.odds_ratio_exact
                found[name] = exact(whole, level)
            if name not in found:
                raise NotEstimableError(
                    f"nobody of an arm responded, so that the {name.replace('_', ' ')} has no estimate"
                )
        except NotEstimableError as reason:
            cells[name] = withheld(reason)
    number, words = proportions.number_needed(found["risk_difference"])
    if math.isfinite(number.estimate):
        found["number_needed"] = number
    else:
        cells["number_needed"] = withheld("the difference is 0, so that the number needed is infinite")
    for name, answer in found.items():
        status = f"ok, {words}" if name == "number_needed" and words else "ok"
        cells[name] = _cells(answer) | answered(status)
    return cells


def _cells(answer: Answer) -> dict[str, object]:
    ends = {name: getattr(answer, name) for name in ("estimate", "lower", "upper", "p", "probability")}
    return {name: value if math.isfinite(value) else math.nan for name, value in ends.items()}


def _refuse_an_empty_arm(counts: Counts) -> None:
    if not (counts.n_active and counts.n_control):
        raise NotEstimableError(
            "an arm has nobody whose response is known", fix="no action is needed if nobody was seen"
        )
