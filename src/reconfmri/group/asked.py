"""What every group question is given: one trial, its settings and seed, with its outcomes laid out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from reconfmri.config import Comparison, Estimand, Group
from reconfmri.group import estimands, grid
from reconfmri.group.estimands import Question
from reconfmri.group.grid import NO_SESSION, Outcome


@dataclass(frozen=True, eq=False)
class Asked:
    """Measures, arms, and what is asked of them; `events` has `intercurrent.COLUMNS`,
    `adverse_events` those of `trial.adverse_events`.

    The grids are laid out when the first question needs them.

    Raises
    ------
    ValueError
        From whatever needs a grid: the tables do not fit the study or one another.
    """

    measures: pd.DataFrame
    allocation: pd.DataFrame
    group: Group
    sessions: Sequence[str]
    seed: int = 0
    cores: int | None = None
    events: pd.DataFrame | None = None
    adverse_events: pd.DataFrame | None = None
    # The Bayesian fits of the primary outcome as declared, by common baseline; a later question uses them.
    primary_fits: dict[bool, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def labels(self) -> list[str]:
        """The sessions in order, baseline first; one without a label where the data have none."""
        return list(self.sessions) or [NO_SESSION]

    @cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Every modelled outcome of the people who were randomised and measured."""
        return tuple(grid.lay_out(self.measures, self.allocation, self.group, self.sessions))

    @cached_property
    def everybody(self) -> tuple[Outcome, ...]:
        """The same of all who were randomised: those without any measurement come last.

        They have average covariates: with no value they tell the model nothing.
        """
        arms = grid.read_arms(self.allocation, self.group)
        absent = sorted(set(arms) - set(self.measures["participant_id"]))
        arm = grid.places_of(absent, arms, self.group)
        return tuple(outcome.joined_by(absent, arm) for outcome in self.outcomes)

    @cached_property
    def quality(self) -> tuple[Outcome, ...]:
        """The quality of the scans as outcomes."""
        rows = self.measures[self.measures["domain"] == "quality"]
        if not len(rows):
            return ()
        return self.without_priors(rows, list(dict.fromkeys(rows["outcome"])))

    def without_priors(self, rows: pd.DataFrame, names: list[str]) -> tuple[Outcome, ...]:
        """Return outcomes that are not modelled, so that their units need no scale, without covariates."""
        scales = self.group.scales | dict.fromkeys(rows["unit"].dropna(), 1.0)
        changed = {"outcomes": names, "exploratory": [], "covariates": {}, "scales": scales}
        group = self.group.model_copy(update=changed)
        return tuple(grid.lay_out(rows, self.allocation, group, self.sessions))

    @property
    def questions(self) -> list[Question]:
        """Every estimand of the study at every later session."""
        return self.about(self.group.estimands)

    @property
    def primary(self) -> Question:
        """The primary question."""
        return estimands.primary_question(self.group.primary, self.labels, self.group.arms)

    @property
    def primary_outcome(self) -> Outcome:
        """The outcome of the primary question."""
        return next(item for item in self.outcomes if item.name == self.group.primary.outcome)

    def about(self, names: Sequence[Estimand]) -> list[Question]:
        """Return some estimands at every later session, of every comparison of arms."""
        return estimands.ask(names, self.labels, self.group.arms)

    def of_two(self, comparison: Comparison) -> Asked:
        """Return the same trial with the people of the two arms of a comparison alone.

        For what needs no model of all arms, such as an exact test of two shares.

        Raises
        ------
        ValueError
            It compares more than two arms.
        """
        primary = self.group.primary.model_copy(update={"comparison": None})
        arms = self.group.arms.two_of(comparison)
        return replace(self, group=self.group.model_copy(update={"arms": arms, "primary": primary}))

    def with_group(self, group: Group) -> Asked:
        """Return the same trial asked by other settings; its grids are laid out anew."""
        return replace(self, group=group)


def left_out(asked: Asked) -> pd.DataFrame:
    """Return one row of exclusions per person with measures who is in no arm that is compared, and why."""
    return grid.left_out(asked.measures, asked.allocation, asked.group)
