"""A trial as it is planned, as tables: visits, arms, outcomes and covariates, with a known truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reconfmri.config import Group, Study
from reconfmri.exclusions import MISSING
from reconfmri.simulate.measures import ARMS, Array, Truth, simulate_measures


@dataclass(frozen=True)
class Design:
    """What is planned: people per arm, covariance and missing visits of an outcome, and the true difference.

    `covariance` (n_visits, n_visits) and `difference` are in the unit of the primary outcome, which alone
    differs between the arms, at every later visit; `missing` is a share per visit.
    """

    n_active: int
    n_control: int
    covariance: Array
    missing: tuple[float, ...]
    difference: float


@dataclass(frozen=True)
class Simulated:
    """The tables of one trial, and the truth in them as the report reads it."""

    measures: pd.DataFrame
    allocation: pd.DataFrame
    participants: pd.DataFrame | None
    truth: dict[str, Any]


def simulate_design(study: Study, design: Design) -> Simulated:
    """Return a trial of this design; every outcome that the group model needs is in its measures.

    Totals of scales lie around the middle of their range, are whole and stay inside it.

    Raises
    ------
    ValueError
        The study has no arms.
    """
    group, trial = study.group, study.trial
    if group is None or trial is None:
        raise ValueError("E-CONF-C02 group is none. Fix: give a study file with arms")
    units = {name: unit for name, unit in study.outcome_units().items() if name in set(_needed(group))}
    scales = dict.fromkeys(units.values(), 1.0) | group.scales
    sessions, primary = list(trial.session_names), group.primary.outcome
    unit = scales[units[primary]]
    later = np.array(
        [0.0 if n == 0 and len(sessions) > 1 else design.difference for n in range(len(sessions))]
    )
    parts = []
    for place, outcome in enumerate(sorted(units, key=lambda name: name != primary)):
        truth = Truth(
            covariance=design.covariance / unit**2,
            difference=later / unit if outcome == primary else np.zeros(len(sessions)),
            mean=np.zeros(len(sessions)),
            missing=np.asarray(design.missing) * (outcome == primary),
            n_active=design.n_active,
            n_control=design.n_control,
        )
        table, allocation = simulate_measures(
            truth,
            outcomes={outcome: units[outcome]},
            scales=scales,
            seed=study.seed + place,
            domain=study.outcomes[outcome].domain,
        )
        if outcome in trial.ranges:
            low, high = trial.ranges[outcome]
            table["value"] = np.clip(np.round(table["value"] + (low + high) / 2), low, high)
        parts.append(table)
    seen = parts[0][["participant_id", "session_id"]]  # who misses a visit has no outcome there
    parts = [table.merge(seen, on=["participant_id", "session_id"]) for table in parts]
    names = dict(zip(ARMS, group.arms.pair, strict=True))
    measures = pd.concat(parts, ignore_index=True)
    visits = {str(place): label for place, label in enumerate(sessions, start=1)}
    return Simulated(
        measures=measures.assign(session_id=measures["session_id"].map(visits).replace(MISSING, None)),
        allocation=allocation.assign(arm=allocation["arm"].map(names)),
        participants=_participants(group, list(allocation["participant_id"]), study.seed),
        truth={
            "outcomes": {name: _truth(units[name], sessions, later * (name == primary)) for name in units}
        },
    )


def _needed(group: Group) -> Iterator[str]:
    """Every outcome that a group question reads."""
    yield from group.modelled
    yield from (item.measure for item in group.covariates.values() if item.measure)
    yield from (rule.outcome for rule in group.responders.values())
    for names in (*group.twins.values(), *group.safety.values()):
        yield from names


def _truth(unit: str, sessions: list[str], difference: Array) -> dict[str, Any]:
    return {
        "unit": unit,
        "difference": {label: float(d) for label, d in zip(sessions, difference, strict=True)},
    }


def _participants(group: Group, people: list[str], seed: int) -> pd.DataFrame | None:
    """Covariates of participants.tsv, without effect: normal numbers, or one half each of two categories."""
    if not group.participant_columns:
        return None
    random, table = np.random.default_rng(seed), {"participant_id": people}
    for item in group.covariates.values():
        if item.column and item.kind == "number":
            table[item.column] = [f"{40 + 10 * value:.1f}" for value in random.standard_normal(len(people))]
        elif item.column:
            table[item.column] = ["ab"[place % 2] for place in random.permutation(len(people))]
    return pd.DataFrame(table)
