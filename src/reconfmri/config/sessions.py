"""`sessions`: the visits of the trial."""

from __future__ import annotations

from pydantic import Field

from reconfmri.config.section import Label, Section, Text


class Session(Section):
    """A visit with its BIDS label, in the order of the trial; the first is the baseline."""

    id: Label = Field(description="BIDS session label, without `ses-`")
    name: Text = Field(description="What the report calls it, e.g. `end of treatment`")
    day: float | None = Field(
        None,
        description="Days from baseline, as planned; left open, nothing runs before it is filled in, "
        "unless every id is a plain number",
    )
