"""`scales`: the clinical scales."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from reconfmri.config.section import EachOnce, Interval, Section, Text

KEYS = ("participant_id", "session_id")


class Scale(Section):
    """A clinical scale in `phenotype/<tool>.tsv` with participant_id and session_id."""

    total: Text = Field("total", description="Column of the total score")
    items: Annotated[list[Text], EachOnce] = Field(
        default_factory=list, description="Item columns; given, the total is recomputed and compared"
    )
    range: Interval = Field(description="Lowest and highest possible total")
    item_range: Interval = Field((0, 4), description="Lowest and highest possible item")
    unit: Text = Field(description="Unit as in group.scales, e.g. `PCL-5 points`")

    @model_validator(mode="after")
    def _columns_are_scores(self) -> Scale:
        columns = [self.total, *self.items]
        if keys := [name for name in columns if name in KEYS]:
            raise ValueError(f"{keys[0]!r} is the column of an id, expected one of scores. Fix: name another")
        if self.total in self.items:
            raise ValueError(f"the total {self.total!r} is one of its items. Fix: take it out of `items`")
        return self

    @model_validator(mode="after")
    def _items_sum_to_the_total(self) -> Scale:
        sums = tuple(len(self.items) * end for end in self.item_range)
        if self.items and sums != self.range:
            raise ValueError(
                f"range is {list(self.range)}, and {len(self.items)} items of {list(self.item_range)} sum to "
                f"{list(sums)}. Fix: correct range, items or item_range"
            )
        return self
