"""`connectivity`: coupling of pairs of regions."""

from __future__ import annotations

from pydantic import Field

from reconfmri.config.section import ConfoundGroups, Label, Name, Section


class Connectivity(Section):
    """Coupling of region pairs within conditions."""

    task: Label = Field(description="BIDS task label")
    pairs: list[tuple[Name, Name]] = Field(min_length=1, description="Pairs of regions")
    conditions: list[Name] = Field(
        min_length=1, description="Conditions (or single scripts, `trauma_first`), or `run` for a whole run"
    )
    band: tuple[float, float] = Field((0.01, 0.1), description="Band-pass, Hz")
    delay: float = Field(5.0, ge=0, le=15, description="Shift of each event by the haemodynamic delay, s")
    confounds: ConfoundGroups = Field(
        default_factory=lambda: ["motion6", "acompcor", "non_steady_state"],
        description="Groups of nuisance columns, as in first_level.confounds",
    )
    min_df: float = Field(8.0, ge=4, description="Below this many effective degrees of freedom: missing")
