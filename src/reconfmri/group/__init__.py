"""The group level: measures and allocation in, the estimates of two engines for the same questions out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reconfmri.config import Group
from reconfmri.contracts.questions.bayesian import DIAGNOSTICS
from reconfmri.contracts.questions.columns import COMPARISON, ESTIMATES
from reconfmri.group import bayes, frequentist, multiplicity, randomisation
from reconfmri.group.asked import Asked
from reconfmri.group.cautions import compare_engines
from reconfmri.group.estimands import CAUTION, cautions_in
from reconfmri.group.grid import group_from_tables, left_out

__all__ = [
    "Asked",
    "answer",
    "collect",
    "combine",
    "group_from_tables",
    "left_out",
    "unanswered",
]

ENGINES = ("bayes", "frequentist", "randomisation")


def answer(asked: Asked, *, engines: Sequence[str] = ENGINES) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the estimates of both engines and the randomisation test, and the Bayesian fits' diagnostics.

    Columns: `ESTIMATES` and `DIAGNOSTICS`.

    Raises
    ------
    ValueError
        People, arms, sessions or units of the two tables do not fit the study or one another.
    """
    found, diagnostics = [], DIAGNOSTICS.frame([])
    if "bayes" in engines:
        by_bayes, diagnostics, _ = bayes.estimate(asked)
        found.append(by_bayes)
    if "frequentist" in engines:
        found.append(frequentist.estimate(asked))
    if "randomisation" in engines:
        found.append(randomisation.estimate(asked))
    return combine(found, asked.group), diagnostics


def collect(asked: Asked, *estimates: pd.DataFrame) -> pd.DataFrame:
    """Return the estimates of all engines on one answer sheet."""
    return combine(estimates, asked.group)


def combine(estimates: Sequence[pd.DataFrame], group: Group) -> pd.DataFrame:
    """Return the engines' tables as one, in the order of the study, corrected within its families."""
    table = compare_engines(pd.concat([part.astype(object) for part in estimates], ignore_index=True))
    order = {name: place for place, name in enumerate(group.modelled)}
    table = (
        table.assign(place=table["outcome"].map(order))
        .sort_values("place", kind="stable")
        .drop(columns="place")
    )
    table = table.reset_index(drop=True).infer_objects()
    table = multiplicity.adjust(table, group.families, correction=group.correction)
    table.loc[table["outcome"].isin(group.exploratory), "family"] = multiplicity.EXPLORATORY
    table["reason"] = table["reason"].astype(object)  # text, also where every row has an answer
    return table[ESTIMATES.among(table).names]


def unanswered(estimates: pd.DataFrame) -> list[str]:
    """Return one line per outcome, session and reason why it has no number, or what to beware of."""
    said_by: dict[tuple[str, str, str, str], list[str]] = {}
    for row in estimates.to_dict("records"):
        status = str(row["status"])
        said = [f"{CAUTION}{text}" for text in cautions_in(status)] if row["reported"] else [status]
        for text in said:
            pair = f", {row[COMPARISON.name]}" if COMPARISON.name in row else ""
            methods = said_by.setdefault((row["outcome"], row["session"], pair, text), [])
            methods += [row["method"]] * (row["method"] not in methods)
    return [
        f"{outcome}, session {session}{pair}: {status} ({', '.join(methods)})"
        for (outcome, session, pair, status), methods in said_by.items()
    ]
