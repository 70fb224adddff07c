"""The group room: measures and allocation in, the answers of two engines to the same questions out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reconfmri.config import Group
from reconfmri.group import bayes, frequentist, multiplicity, randomisation
from reconfmri.group.bayes import DIAGNOSTICS
from reconfmri.group.cautions import compare_engines
from reconfmri.group.estimands import CAUTION, COLUMNS, DESCRIPTIONS, cautions_in
from reconfmri.group.grid import group_from_tables, left_out

__all__ = [
    "COLUMNS",
    "DESCRIPTIONS",
    "DIAGNOSTICS",
    "answer",
    "combine",
    "group_from_tables",
    "left_out",
    "unanswered",
]

ENGINES = ("bayes", "frequentist", "randomisation")


def answer(
    measures: pd.DataFrame,
    allocation: pd.DataFrame,
    group: Group,
    sessions: Sequence[str],
    seed: int,
    *,
    cores: int | None = None,
    engines: Sequence[str] = ENGINES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the estimates of both engines and the randomisation test, and the Bayesian fits' diagnostics.

    Columns: `DESCRIPTIONS` and `DIAGNOSTICS`.

    Raises
    ------
    ValueError
        People, arms, sessions or units of the two tables do not fit the study or one another.
    """
    asked = (measures, allocation, group, sessions)
    found, diagnostics = [], pd.DataFrame(columns=list(DIAGNOSTICS))
    if "bayes" in engines:
        by_bayes, diagnostics, _ = bayes.estimate(*asked, seed=seed, cores=cores)
        found.append(by_bayes)
    if "frequentist" in engines:
        found.append(frequentist.estimate(*asked))
    if "randomisation" in engines:
        found.append(randomisation.estimate(*asked, seed=seed))
    return combine(found, group), diagnostics


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
    table = multiplicity.adjust(table, group.families, group.primary, correction=group.correction)
    table.loc[table["outcome"].isin(group.exploratory), "family"] = multiplicity.EXPLORATORY
    return table[list(COLUMNS)]


def unanswered(estimates: pd.DataFrame) -> list[str]:
    """Return one line per outcome, session and reason why it has no number, or what to beware of."""
    said_by: dict[tuple[str, str, str], list[str]] = {}
    for row in estimates.to_dict("records"):
        status = str(row["status"])
        said = [f"{CAUTION}{text}" for text in cautions_in(status)] if status.startswith("ok") else [status]
        for text in said:
            methods = said_by.setdefault((row["outcome"], row["session"], text), [])
            methods += [row["method"]] * (row["method"] not in methods)
    return [
        f"{outcome}, session {session}: {status} ({', '.join(methods)})"
        for (outcome, session, status), methods in said_by.items()
    ]
