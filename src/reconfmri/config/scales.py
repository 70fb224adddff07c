"""`scales`: the clinical scales."""

from __future__ import annotations

from pydantic import Field

from reconfmri.config.section import Section


class Scale(Section):
    """A clinical scale in `phenotype/<tool>.tsv` with participant_id and session_id."""

    total: str = Field("total", description="Column of the total score")
    items: list[str] = Field(
        default_factory=list, description="Item columns; given, the total is recomputed and compared"
    )
    range: tuple[float, float] = Field(description="Lowest and highest possible total")
    item_range: tuple[float, float] = Field((0, 4), description="Lowest and highest possible item")
    unit: str = Field(description="Unit as in group.scales, e.g. `PCL-5 points`")
