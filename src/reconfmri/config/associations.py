"""`group.associations` and `group.prediction`: brain and symptoms of the same people."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from reconfmri.config.section import EachOnce, Label, Section, Text
from reconfmri.problems import SettingError

Whose = Literal["brain", "symptoms"]


def _in_order(ends: tuple[float, float, float]) -> tuple[float, float, float]:
    lower, middle, upper = ends
    if not 0 < lower < middle < upper < 1:
        raise SettingError(
            f"reliability: got {list(ends)}, expected the lower end of its interval, the coefficient and the "
            "upper end, between 0 and 1",
            "correct the three numbers",
        )
    return ends


Reliability = Annotated[tuple[float, float, float], AfterValidator(_in_order)]


class Association(Section):
    """How two outcomes of the same people go together from baseline to a later session, given the arm."""

    brain: Text = Field(description="Outcome, such as `amygdala.trauma-neutral`")
    symptoms: Text = Field(description="Outcome, such as `pcl5.total`")
    session: Label = Field(description="BIDS session label of the later visit")
    reliability: dict[Whose, Reliability] = Field(
        default_factory=dict,
        description="`brain`, `symptoms` -> [lower end, coefficient, upper end]: the intraclass correlation "
        "of one measurement, with its 95 % interval, from a study of its own. With one of them the "
        "correlation is also corrected for error of measurement: exploratory",
    )
    mediation: bool = Field(
        False,
        description="Also the part of the arm difference in symptoms that goes by way of the brain, under "
        "assumptions that randomisation does not give: a sensitivity",
    )

    @model_validator(mode="after")
    def _two_outcomes(self) -> Association:
        if self.brain == self.symptoms:
            raise SettingError(
                f"group.associations: brain and symptoms are both {self.brain!r}", "name two outcomes"
            )
        return self


class Prediction(Section):
    """Whether brain measures say more of an outcome at a later session than its baseline and the arm do."""

    outcome: Text = Field(description="Outcome that is predicted")
    session: Label = Field(description="BIDS session label of the later visit")
    predictors: Annotated[list[Text], EachOnce] = Field(
        min_length=1, description="Outcomes whose values at baseline predict"
    )
    repeats: int = Field(5, ge=1, le=100, description="Partitions into five folds")
    permutations: int = Field(
        199, ge=99, le=10_000, description="Times that predictors are dealt out to other people"
    )

    @model_validator(mode="after")
    def _not_itself(self) -> Prediction:
        if self.outcome in self.predictors:
            raise SettingError(
                f"group.prediction: the baseline of {self.outcome!r} is taken in any case",
                "take it out of `predictors`",
            )
        return self
