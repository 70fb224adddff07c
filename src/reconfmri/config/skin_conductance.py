"""`skin_conductance`: responses to scripts."""

from __future__ import annotations

from pydantic import Field

from reconfmri.config.section import Label, Name, Section


class SkinConductance(Section):
    """A response score per script from BIDS physio recordings."""

    task: Label = Field(description="BIDS task label")
    column: str = Field("skin_conductance", description="Column of the recording, as in its JSON `Columns`")
    window: tuple[float, float] = Field(
        (0.0, 10.0), description="Part of each script that is scored, s from its onset"
    )
    conditions: list[Name] = Field(
        min_length=1, description="Conditions or single scripts: `trauma`, `trauma_first`, ..."
    )
    min_sampling_frequency: float = Field(10.0, gt=0, description="Slower recordings are excluded, Hz")
    max_gap: float = Field(1.0, ge=0, description="Longest run of missing samples that is interpolated, s")
