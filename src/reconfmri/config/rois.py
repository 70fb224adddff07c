"""`rois`: the regions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from reconfmri.config.section import EachOnce, Name, Section, Share, check_apart, check_free, check_known

# `coverage.lowest` and `tsnr.median` are numbers of a whole run, `coverage.<region>` those of a region.
RESERVED = ("lowest", "median")


class Region(Section):
    """A region of interest: atlas labels whose summed probability reaches the threshold."""

    labels: Annotated[list[str], EachOnce] = Field(
        min_length=1, description="Labels of the Harvard-Oxford atlas, as in its table"
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, description="Probability from which a voxel belongs to the region"
    )


class Rois(Section):
    """Regions and the pairs of sides that are reported together."""

    regions: dict[Name, Region] = Field(min_length=1, description="Name -> atlas labels and threshold")
    combined: dict[Name, Annotated[list[Name], Field(min_length=2), EachOnce]] = Field(
        default_factory=dict, description="Name without a side -> its parts, weighted by volume"
    )
    min_coverage: Share = Field(
        0.8, description="A region covered less by the run's mask is missing in that run"
    )
    min_tsnr: float | None = Field(
        None,
        gt=0,
        description="A region with a lower median temporal SNR is missing in that run; none = reported only",
    )

    @model_validator(mode="after")
    def _parts_exist(self) -> Rois:
        for name, parts in self.combined.items():
            check_known(parts, self.regions, f"rois.combined.{name}")
            if name in self.regions:
                raise ValueError(f"rois.combined.{name}: a region has that name already")
        for part in ("regions", "combined"):
            check_free(getattr(self, part), f"rois.{part}", RESERVED)
        check_apart(self.names, "rois")
        return self

    @property
    def names(self) -> list[str]:
        """All names an outcome may use: single regions, then combined ones."""
        return [*self.regions, *self.combined]

    def parts_of(self, name: str) -> set[str]:
        """The single regions that a name stands for."""
        return set(self.combined.get(name, [name]))
