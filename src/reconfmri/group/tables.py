"""Every table that the group rules of the workflow make, for one table of measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from reconfmri import exclusions
from reconfmri.config import Group
from reconfmri.group import (
    bayes,
    combine,
    controls,
    frequentist,
    joint,
    left_out,
    missing,
    moderation,
    pooled,
    predictive,
    randomisation,
    reliability,
    sensitivity,
)
from reconfmri.group.estimands import DESCRIPTIONS

# What `every_table` yields, by the names that the files have in results/group/; all engines' answers last.
NAMES = (
    "exclusions", "frequentist_estimates", "moderation", "pooled", "controls", "reliability",
    "randomisation_estimates", "randomisation_draws", "visits_seen", "missing_patterns", "completers",
    "reference_based", "tipping_grid", "tipping", "bayesian_estimates", "bayesian_diagnostics",
    "predictions", "sensitivity", "joint", "estimates",
)  # fmt: skip


class Table(NamedTuple):
    """A table with the name of its file and what its columns mean."""

    name: str
    rows: pd.DataFrame
    descriptions: Mapping[str, str]


def every_table(
    measures: pd.DataFrame,
    allocation: pd.DataFrame,
    group: Group,
    sessions: Sequence[str],
    *,
    seed: int,
    cores: int | None = None,
    events: pd.DataFrame | None = None,
) -> Iterator[Table]:
    """Yield the tables of `NAMES` as they are made, what is quick first; `events`: `intercurrent.COLUMNS`.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    asked = (measures, allocation, group, sessions)
    yield Table("exclusions", left_out(measures, allocation, group), exclusions.DESCRIPTIONS)
    by_frequency = frequentist.estimate(*asked)
    yield Table("frequentist_estimates", by_frequency, DESCRIPTIONS)
    quick = {"moderation": moderation, "pooled": pooled, "controls": controls, "reliability": reliability}
    for name, module in quick.items():
        yield Table(name, module.estimate(*asked), module.DESCRIPTIONS)
    by_chance = randomisation.estimate(*asked, seed=seed)
    yield Table("randomisation_estimates", by_chance, DESCRIPTIONS)
    draws = randomisation.headline_statistics(*asked, seed=seed)
    yield Table("randomisation_draws", draws, randomisation.DRAWS)
    yield Table("visits_seen", missing.visits_seen(*asked), missing.SEEN_DESCRIPTIONS)
    yield Table("missing_patterns", missing.patterns(*asked), missing.PATTERN_DESCRIPTIONS)
    yield Table("completers", missing.completers(*asked), missing.COMPLETER_DESCRIPTIONS)
    by_reference = missing.reference_based(*asked, events=events)
    yield Table("reference_based", by_reference, missing.REFERENCE_DESCRIPTIONS)
    grid, points = missing.tipping(*asked)
    yield Table("tipping_grid", grid, missing.GRID_DESCRIPTIONS)
    yield Table("tipping", points, missing.TIPPING_DESCRIPTIONS)
    by_bayes = bayes.estimate(*asked, seed=seed, cores=cores)
    yield Table("bayesian_estimates", by_bayes.estimates, DESCRIPTIONS)
    yield Table("bayesian_diagnostics", by_bayes.diagnostics, bayes.DIAGNOSTICS)
    yield Table("predictions", by_bayes.predictions, predictive.DESCRIPTIONS)
    firm = sensitivity.estimate(*asked, seed=seed, cores=cores)
    yield Table("sensitivity", firm, sensitivity.DESCRIPTIONS)
    pairs = joint.estimate(*asked, seed=seed, cores=cores)
    yield Table("joint", pairs, joint.DESCRIPTIONS)
    together = combine([by_bayes.estimates, by_frequency, by_chance], group)
    yield Table("estimates", together, DESCRIPTIONS)
