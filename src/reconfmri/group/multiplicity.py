"""Families of outcomes and their correction: Holm or Benjamini-Hochberg within one, the primary alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from reconfmri.choices import check_choice
from reconfmri.group import randomisation
from reconfmri.group.estimands import Array

PRIMARY, EXPLORATORY = "primary", "exploratory"


def adjust(
    estimates: pd.DataFrame,
    families: Mapping[str, Sequence[str]],
    *,
    correction: str = "holm",
) -> pd.DataFrame:
    """Return `estimates` with `family` and `p_adjusted`, corrected per session, estimand and method.

    The randomisation test brings its own, by max-T.

    The primary row keeps its own p, for it is tested alone at the full level; it still counts in the family
    of the others, which makes their correction the larger one. Bayesian rows have no p and get none.

    Raises
    ------
    ValueError
        An outcome is in two families, so that its correction would not be defined; or the correction is
        unknown.
    """
    check_choice("correction", correction, CORRECTIONS)
    family_of: dict[str, str] = {}
    for name, outcomes in families.items():
        for outcome in outcomes:
            if family_of.setdefault(outcome, name) != name:
                raise ValueError(
                    f"group.families: {outcome} is in {family_of[outcome]!r} and {name!r}; keep one"
                )
    table = estimates.assign(family=estimates["outcome"].map(family_of).astype(object))
    by_draws = table["method"] == randomisation.METHOD
    table.loc[~by_draws, "p_adjusted"] = np.nan
    for _, rows in table[table["family"].notna() & ~by_draws].groupby(
        ["family", "session", "estimand", "method"], dropna=False
    ):
        table.loc[rows.index, "p_adjusted"] = CORRECTIONS[correction](rows["p"].to_numpy())
    alone = table["is_primary"]
    table.loc[alone, "family"] = PRIMARY
    table.loc[alone, "p_adjusted"] = table.loc[alone, "p"]
    table["family"] = table["family"].where(table["family"].notna(), None)
    return table


def holm(p: Array) -> Array:
    """Return p adjusted by Holm's step-down (Holm 1979); missing ones stay missing and do not count."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def benjamini_hochberg(p: Array) -> Array:
    """Return p adjusted for the false discovery rate (Benjamini & Hochberg 1995); missing ones stay so."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")][::-1]
    steps = p[order] * len(order) / np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.minimum.accumulate(steps), 1.0)
    return adjusted


CORRECTIONS: dict[str, Callable[[Array], Array]] = {"holm": holm, "benjamini_hochberg": benjamini_hochberg}
