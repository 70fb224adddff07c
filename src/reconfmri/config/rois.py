"""`rois`: the regions."""

from __future__ import annotations

from pydantic import Field, model_validator

from reconfmri.config.section import Name, Section, Share, check_known


class Region(Section):
    """A region of interest: atlas labels whose summed probability reaches the threshold."""

    labels: list[str] = Field(min_length=1, description="Labels of the Harvard-Oxford atlas, as in its table")
    threshold: float = Field(
        0.5, gt=0, lt=1, description="Probability from which a voxel belongs to the region"
    )


class Rois(Section):
    """Regions and the pairs of sides that are reported together."""

    regions: dict[Name, Region] = Field(min_length=1, description="Name -> atlas labels and threshold")
    combined: dict[Name, list[Name]] = Field(
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
        return self

    @property
    def names(self) -> list[str]:
        """All names an outcome may use: single regions, then combined ones."""
        return [*self.regions, *self.combined]
