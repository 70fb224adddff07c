"""`skin_conductance`: responses to scripts."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from reconfmri.config.section import EachOnce, Interval, Label, Name, Section, Text


def _after_onset(window: tuple[float, float]) -> tuple[float, float]:
    if window[1] <= 0:
        raise ValueError(f"got {list(window)}, expected an end after the onset, 0 s. Fix: correct the ends")
    return window


class SkinConductance(Section):
    """A response score per script from BIDS physio recordings."""

    task: Label = Field(description="BIDS task label")
    column: Text = Field("skin_conductance", description="Column of the recording, as in its JSON `Columns`")
    window: Annotated[Interval, AfterValidator(_after_onset)] = Field(
        (0.0, 10.0), description="Part of each script that is scored, s from its onset"
    )
    conditions: Annotated[list[Name], EachOnce] = Field(
        min_length=1, description="Conditions or single scripts: `trauma`, `trauma_first`, ..."
    )
    min_sampling_frequency: float = Field(
        10.0, gt=6, description="Slower recordings are excluded, Hz; responses are looked for below 3 Hz"
    )
    max_gap: float = Field(1.0, ge=0, description="Longest run of missing samples that is interpolated, s")
