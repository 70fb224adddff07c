"""Every table of the group questions, in one call and rule by rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reconfmri.config import Group
from reconfmri.contracts import questions
from reconfmri.contracts.questions import GroupQuestion
from reconfmri.contracts.questions.columns import COMPARISON
from reconfmri.contracts.specs import TableSpec
from reconfmri.group.asked import Asked
from reconfmri.measures import read_measures
from reconfmri.trial.adverse_events import read_adverse_events
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.codes import by_code, is_coded
from reconfmri.trial.intercurrent import read_events


class Table(NamedTuple):
    """A table with the name of its file and what it holds."""

    name: str
    rows: pd.DataFrame
    spec: TableSpec


def every_table(asked: Asked) -> Iterator[Table]:
    """Yield the tables of every registered question as they are made, what is quick first.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    yield from answers(asked, (item for item in questions.registered() if item.always))


def answers(asked: Asked, to: Iterable[GroupQuestion]) -> Iterator[Table]:
    """Yield the tables of some questions; what one of them collects was made by those before it.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    made: dict[str, pd.DataFrame] = {}
    for question in to:
        found = _answer(question, asked, [made[name] for name in question.collects])
        made |= found
        for name, rows in found.items():
            yield Table(name, rows, question.tables[name])


def _answer(question: GroupQuestion, asked: Asked, collected: list[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the tables of one question; of more than two arms as it is declared to have them."""
    arms = asked.group.arms
    if not arms.several or question.arms == "all":
        return question.answer(asked, *collected)
    if question.arms == "two":
        return {name: spec.frame([]) for name, spec in question.tables.items()}
    pairs = [one for one in arms.every_comparison if len(one.arms) == len(one.higher) + 1 == 2]
    answers = {one.name: question.answer(asked.of_two(one), *collected) for one in pairs}
    return {
        name: _stacked(spec, {pair: tables[name] for pair, tables in answers.items()})
        for name, spec in question.tables.items()
    }


def _stacked(spec: TableSpec, by_pair: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of all pairs as one; rows about an arm alone are there once."""
    if COMPARISON in spec.columns:
        by_pair = {pair: table.assign(**{COMPARISON.name: pair}) for pair, table in by_pair.items()}
    table = pd.concat(list(by_pair.values()), ignore_index=True)
    return table[spec.among(table).names].drop_duplicates(ignore_index=True)


def answer_rule(snakemake: Any) -> None:
    """Write the tables of the questions of a rule of the workflow, as `snakemake.output` names them.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    for table in answers(asked_of(snakemake), questions.questions_of(snakemake.rule)):
        table.spec.write(Path(snakemake.output[table.name]), table.rows)


def asked_of(snakemake: Any) -> Asked:
    """Return what the inputs and parameters of a rule ask its questions of.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another, or the rule lacks what a question needs.
    """
    given, params = snakemake.input, snakemake.params
    there = {*given.keys(), *params.keys()}  # named lists, no mappings
    for question in questions.questions_of(snakemake.rule):
        if lacking := [name for name in question.needs if name not in there]:
            raise ValueError(f"rule {snakemake.rule} gives no {lacking}, which {question.name!r} needs")
    group = Group.from_params(params.settings)
    arms = read_allocation(given.allocation, given.participants, group.participant_columns)
    if is_coded(group):
        arms = by_code(arms, Path(given.codes))
    events, adverse = given.get("events"), given.get("adverse_events")
    return Asked(
        read_measures(given.measures),
        arms,
        group,
        params.sessions,
        seed=params.get("seed", 0),
        cores=snakemake.threads,
        events=read_events(events, arms, params.sessions) if events else None,
        adverse_events=read_adverse_events(adverse) if adverse else None,
    )
