"""Sections of an interim report: outcomes and adverse events as they were observed, nothing estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from reconfmri.config import Group, outcome_label
from reconfmri.exclusions import MISSING
from reconfmri.figures.labels import number, session_name
from reconfmri.report import flow
from reconfmri.report.blocks import Block
from reconfmri.report.inputs import ReportInputs
from reconfmri.report.words import list_of

FEWEST = 3  # people; a mean of fewer may be somebody's own value
POOLED = (
    "Interim report, pooled over the arms: made without the allocation, so nothing on this page can show a "
    "difference between them. For what the spread found here means for the number of people: reconfmri plan "
    "--measures"
)
BY_CODE = (
    "Interim report by code, for the data monitoring committee: the arms are {arms}, which of them is which "
    "is not on this page. Everything is as observed; no difference is estimated or tested"
)


def blinded(group: Group | None) -> str:
    """Return what the page says of its arms: by code, or pooled where there is no section of arms."""
    return BY_CODE.format(arms=list_of(list(group.arms.shown))) if group else POOLED


def observed(inputs: ReportInputs, outcomes: Sequence[str], events: pd.DataFrame | None) -> Block:
    """Return outcomes by visit and adverse events, of everybody or a column per arm of the allocation.

    `events` has `trial.adverse_events.COLUMNS`; None where no table was given.
    """
    groups = flow.arms_of(inputs)
    if inputs.study.group is None:
        others = {*inputs.measures["participant_id"], *(() if events is None else events["participant_id"])}
        groups = {name: [*people, *sorted(others - set(people))] for name, people in groups.items()}
    return {
        "groups": [f"{name} (n = {len(people)})" for name, people in groups.items()],
        "observed_rows": [row for name in outcomes for row in _outcome_rows(inputs, name, groups)],
        "event_rows": [] if events is None else _event_rows(events, groups),
    }


def _outcome_rows(inputs: ReportInputs, outcome: str, groups: Mapping[str, list[str]]) -> list[Block]:
    table = inputs.measures[(inputs.measures["outcome"] == outcome) & inputs.measures["value"].notna()]
    if not len(table):
        return []
    sessions = list(inputs.study.session_names) or [MISSING]
    visits = table["session_id"].fillna(MISSING)
    unit = str(table["unit"].iloc[0])
    return [
        {
            "name": outcome_label(outcome),
            "unit": unit,
            "session": session_name(inputs.study, session) if session != MISSING else "the only visit",
            "cells": [
                _described(table[(visits == session) & table["participant_id"].isin(people)]["value"], people)
                for people in groups.values()
            ],
        }
        for session in sessions
    ]


def _described(values: pd.Series[float], people: list[str]) -> Block:
    """How many of how many have a value, and its mean and SD."""
    seen = f"{len(values)} of {len(people)}"
    if len(values) < FEWEST:
        return {"seen": seen, "mean": "–", "sd": "–"}
    return {"seen": seen, "mean": number(values.mean()), "sd": number(values.std())}


def _event_rows(events: pd.DataFrame, groups: Mapping[str, list[str]]) -> list[Block]:
    """Any event, serious ones, then each term, the most frequent first: people with one, and events."""
    everybody = {person for people in groups.values() for person in people}
    mine = events[events["participant_id"].isin(everybody)]
    parts = [("Any adverse event", mine), ("Serious adverse event", mine[mine["serious"].eq(True)])]
    parts += sorted(
        ((str(term), part) for term, part in mine.groupby("term")), key=lambda item: (-len(item[1]), item[0])
    )
    return [
        {
            "name": name,
            "cells": [
                f"{here['participant_id'].nunique()} ({len(here)})"
                for people in groups.values()
                for here in (part[part["participant_id"].isin(people)],)
            ],
        }
        for name, part in parts
    ]
