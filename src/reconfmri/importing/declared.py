"""The declared maps of an import: what of the office's tables goes where."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from reconfmri.config.section import EachOnce, Label, Name, Section, Text

Texts = Annotated[list[Text], EachOnce]
Sessions = dict[Text, Label | dict[Text, Label] | None]


class AllocationMap(Section):
    """Where the arm stands; it is written into the allocation alone."""

    field: Text | None = Field(None, description="Field (column) of the randomised arm")
    stratum: Text | None = Field(None, description="Field (column) of the stratum of the randomisation")
    labels: dict[Text, Text] = Field(
        default_factory=dict,
        description="Code of the field, or number of the REDCap arm -> label of the arm in the study file",
    )


class ImportMap(Section):
    """What both kinds of import share."""

    participant: Text | None = Field(
        None, description="Field of the participant's study id (REDCap: the first of the dictionary)"
    )
    prefix: str = Field("", pattern=r"^[a-zA-Z0-9]*$", description="Put before each id after `sub-`")
    date: Text | None = Field(
        None,
        description="Field of the visit's date, YYYY-MM-DD: `day`, days from the first session, is written, "
        "never the date",
    )
    participants: Texts = Field(default_factory=list, description="Fields that go to participants.tsv")
    missing: Texts = Field(default_factory=list, description="Codes of missing data, beside the empty cell")
    allocation: AllocationMap = AllocationMap()


class RedcapMap(ImportMap):
    """The map of a REDCap project."""

    sessions: Sessions = Field(
        default_factory=dict,
        description="In order of time: event -> session label, null for one that is left out; of a repeating "
        "event: instance -> session label. An event is its label, or its unique name without `_arm_N`",
    )
    session: Label | None = Field(None, description="The one session of a project without events")
    instruments: Texts = Field(default_factory=list, description="Only these instruments (default: all)")
    names: dict[Text, Name] = Field(
        default_factory=dict, description="Instrument -> name of its table in phenotype/"
    )
    text: Texts = Field(
        default_factory=list, description="Fields of free text that are imported; others are left out"
    )
    leave_out: Texts = Field(default_factory=list, description="Fields that are not imported")


class OfficeTable(Section):
    """One table of phenotype/."""

    columns: dict[Text, Text] = Field(
        default_factory=dict, description="Column of phenotype/ -> column of the table, one row per visit"
    )
    wide: dict[Label, dict[Text, Text]] = Field(
        default_factory=dict,
        description="In place of it, one row per person: session -> column of phenotype/ -> column here",
    )

    @model_validator(mode="after")
    def _one_form(self) -> OfficeTable:
        if bool(self.columns) == bool(self.wide):
            raise ValueError("tables: give either columns or wide. Fix: delete or add one")
        return self


class TableMap(ImportMap):
    """The map of a table of an office without REDCap."""

    participant: Text = Field(description="Column of the participant's study id")
    visit: Text | None = Field(None, description="Column of the visit, for tables with one row per visit")
    sessions: dict[Text, Label | None] = Field(
        default_factory=dict,
        description="In order of time: visit -> session label, null for one that is left out",
    )
    tables: dict[Name, OfficeTable] = Field(
        default_factory=dict, description="Name of a table in phenotype/ -> its columns"
    )
    sheet: Text | None = Field(None, description="Sheet of an Excel file (default: the first)")
