"""REDCap's data dictionary: the fields in it, and the columns that an export has of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from reconfmri.files import InputError
from reconfmri.importing.cells import CODE, plain, read_csv

NAME, FORM, KIND, LABEL = "Variable / Field Name", "Form Name", "Field Type", "Field Label"
CHOICES, VALIDATION = "Choices, Calculations, OR Slider Labels", "Text Validation Type OR Show Slider Number"
IDENTIFIER = "Identifier?"
NEEDED = (NAME, FORM, KIND, LABEL, CHOICES, VALIDATION, IDENTIFIER)
# As `redcap_data_dictionary` of the interface for programs spells them.
SPELT = {
    "field_name": NAME, "form_name": FORM, "field_type": KIND, "field_label": LABEL,
    "select_choices_or_calculations": CHOICES, "text_validation_type_or_show_slider_number": VALIDATION,
    "identifier": IDENTIFIER,
}  # fmt: skip
NO_VALUE = ("descriptive", "file")
CONTACT = ("email", "phone", "ssn", "mrn", "zipcode", "postalcode", "vmrn")
STATES = {"0": "Incomplete", "1": "Unverified", "2": "Complete"}
FIXED = {"yesno": {"0": "No", "1": "Yes"}, "truefalse": {"0": "False", "1": "True"}}


@dataclass(frozen=True)
class Field:
    """One variable of a project."""

    name: str
    form: str
    kind: str
    label: str
    choices: dict[str, str]
    validation: str
    is_identifier: bool

    @property
    def columns(self) -> dict[str, str]:
        """Columns of the export -> code of the choice that it is about; one empty code but for checkboxes.

        REDCap writes `-` and other signs of a checkbox's code as `_`, and its letters in lower case.
        """
        if self.kind != "checkbox":
            return {self.name: ""}
        return {self.column_of(code): code for code in self.choices}

    def column_of(self, code: str) -> str:
        """Return the column of a checkbox's code."""
        return f"{self.name}___{re.sub(r'[^a-z0-9]', '_', code.lower())}"

    @property
    def is_text(self) -> bool:
        """Whether it holds whatever somebody typed."""
        return self.kind == "notes" or (self.kind == "text" and not self.validation)

    @property
    def is_private(self) -> bool:
        """Whether its values must not be imported as they are: what reaches a person, dates, files."""
        return self.validation.startswith((*CONTACT, "date", "time")) or self.kind in NO_VALUE

    def described(self, column: str) -> dict[str, object]:
        """Return what the JSON says of a column."""
        if self.kind == "checkbox":
            said = f"{plain(self.label)}: {self.choices[self.columns[column]]}"
            return {"Description": said, "Levels": {"0": "not checked", "1": "checked"}}
        levels = {"Levels": self.choices} if self.choices else {}
        return {"Description": plain(self.label) or self.name, **levels}


def read_dictionary(path: str | Path) -> list[Field]:
    """Return the fields of a data dictionary, in its order; the first is the record's id.

    Raises
    ------
    ValueError
        It is no data dictionary: columns are missing, a variable occurs twice, choices cannot be read.
    """
    header, rows = read_csv(path)
    names = {SPELT.get(name, name): name for name in header}
    if absent := [name for name in NEEDED if name not in names]:
        fix = "download it from REDCap's Dictionary Codebook or Online Designer, as CSV"
        raise InputError(path, f"it is no data dictionary, it lacks {absent}", fix=fix, code=CODE)
    fields = [_field(path, {key: row[name] for key, name in names.items()}) for row in rows]
    listed = [field.name for field in fields]
    if twice := sorted({name for name in listed if listed.count(name) > 1}):
        raise InputError(path, f"{twice} occur twice", fix="download it again", code=CODE)
    return fields


def _field(path: str | Path, row: dict[str, str]) -> Field:
    kind = row[KIND].lower()
    choices = dict(FIXED.get(kind, {}))
    if kind in ("radio", "dropdown", "checkbox"):
        choices = _choices(path, row[NAME], row[CHOICES])
    return Field(
        name=row[NAME],
        form=row[FORM],
        kind=kind,
        label=row[LABEL],
        choices=choices,
        validation=row[VALIDATION].lower() if kind == "text" else "",
        is_identifier=row[IDENTIFIER].lower() in ("y", "yes", "1"),
    )


def _choices(path: str | Path, name: str, cell: str) -> dict[str, str]:
    """Code -> label of `1, a | 2, b`; a label may hold commas."""
    found = {}
    for part in cell.split("|"):
        code, comma, label = part.partition(",")
        if not comma or not code.strip():
            what = f"the choices of {name!r} are not `code, label | code, label`"
            raise InputError(path, what, fix="download the dictionary again", code=CODE)
        found[code.strip()] = plain(label)
    return found
