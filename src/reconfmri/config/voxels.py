"""`group.voxels`: which contrasts are compared between the arms in every voxel, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reconfmri.config.section import EachOnce, Section
from reconfmri.problems import SettingError

MIN_DRAWS = 100
VoxelEstimand = Literal[
    "difference_adjusted", "difference_unadjusted", "difference_of_change", "difference_average"
]


class Voxels(Section):
    """Maps compared between the arms in every voxel."""

    contrasts: Annotated[list[str], EachOnce] = Field(
        min_length=1, description="Contrasts, of those that `first_level.maps` names"
    )
    estimands: Annotated[list[VoxelEstimand], EachOnce] = Field(
        default=["difference_adjusted"],
        min_length=1,
        description="As `group.estimands`; p values are corrected over voxels, sessions and contrasts of one "
        "estimand",
    )
    permutations: int = Field(
        5000,
        ge=0,
        le=1_000_000,
        description="Draws of the allocation, within the strata, each with all visits of a person as one "
        "block; every allocation where there are no more; 0 = maps without corrected p values",
    )
    cluster_p: float = Field(
        0.001, gt=0, lt=0.05, description="Two-sided p of a voxel from which voxels make clusters"
    )
    min_coverage: float = Field(
        0.9, gt=0, le=1, description="Share of the maps of every arm and visit that must cover a voxel"
    )
    regions: Annotated[list[str], EachOnce] = Field(
        default_factory=list,
        description="Regions of `rois`, single or combined, in which the same search is made alone "
        "(small-volume correction)",
    )

    @model_validator(mode="after")
    def _test_has_draws(self) -> Voxels:
        if 0 < self.permutations < MIN_DRAWS:
            raise SettingError(
                f"group.voxels.permutations: got {self.permutations}, expected 0 (no test) or at least "
                f"{MIN_DRAWS}, for p values that can be small",
                fix="correct the value",
            )
        return self
