"""`group.responders`: who counts as having responded, by declared rules."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from reconfmri.config.scales import Change, library
from reconfmri.config.section import Text, check_known


class Responder(Change):
    """A rule of response to an outcome whose lower values are better; every condition given must be met."""

    outcome: Text = Field(description="Outcome, such as `pcl5.total`; `caps5.diagnosis` for its loss")
    change: Text | None = Field(
        None, description="In place of conditions: a rule of the library of scales, such as `pcl5.marx15`"
    )
    missing: Literal["nonresponder", "observed"] = Field(
        description="People whose response is not known at a visit: `nonresponder` counts them as such, "
        "`observed` leaves them out. The other, and both extremes, are reported beside it"
    )
    prior_sd: float = Field(
        2.5, gt=0, description="SD of the priors of log odds and of their difference between arms"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_library(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("change") is None:
            return given
        rules = {
            f"{name}.{rule}": conditions
            for name, scale in library().items()
            for rule, conditions in scale.get("changes", {}).items()
        }
        check_known([given["change"]], rules, "change")
        return rules[given["change"]] | given

    @property
    def needs_baseline(self) -> bool:
        """Whether a value before treatment is part of it."""
        return bool(self.drop or self.percent or self.loss_of_diagnosis)

    @property
    def words(self) -> str:
        """The rule in words."""
        parts = []
        if self.drop:
            parts.append(f"at least {self.drop:g} below baseline")
        if self.percent:
            parts.append(f"at least {self.percent:g} % below baseline")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:g}")
        if self.loss_of_diagnosis:
            parts.append("a diagnosis at baseline and none at the visit")
        return " and ".join(parts)
