"""REDCap's raw export as tables of BIDS.

The arm is taken off every row before anything else is done with it (`_arm_N` of the event), and goes to the
allocation only, as does the field of the randomisation: no message and no other table has it.
Facts of the format: REDCap's help on data dictionary, exports, longitudinal and repeating data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reconfmri.files import InputError
from reconfmri.importing import events as visits
from reconfmri.importing.cells import (
    CODE,
    Row,
    as_date,
    is_number,
    participant,
    plain,
    read_csv,
    refuse_one_label,
)
from reconfmri.importing.declared import RedcapMap, Sessions
from reconfmri.importing.dictionary import STATES, Field, read_dictionary
from reconfmri.importing.write import DAY, INSTANCE, PERSON, SESSION, Imported, Table

EVENT, INSTRUMENT, NUMBER = "redcap_event_name", "redcap_repeat_instrument", "redcap_repeat_instance"
OWN = (EVENT, INSTRUMENT, NUMBER, "redcap_data_access_group", "redcap_survey_identifier")
RAW = "export it as CSV / raw data, not labels"
CONFLICT, MAPPED = "E-BIDS-R03", "E-BIDS-R02"


@dataclass(frozen=True)
class Line:
    """A row of the export without its arm; `session` is None where the map leaves the event out."""

    number: int
    person: str
    event: str
    session: str | None
    instrument: str
    instance: str
    cells: Row


@dataclass(frozen=True)
class Project:
    """What the files say and the map declares."""

    export: Path
    fields: dict[str, Field]
    declared: RedcapMap
    header: list[str]

    @property
    def id_field(self) -> str:
        """The field that the map takes for the participant, else the record's id."""
        return self.declared.participant or next(iter(self.fields))

    def fault(self, what: str, fix: str, code: str = CODE) -> InputError:
        """Return an error of the export."""
        return InputError(self.export, what, fix=fix, code=code)

    def value(self, row: Row, column: str) -> str | None:
        """Return a cell, None for a missing one."""
        cell = row.get(column, "")
        return None if cell in ("", *self.declared.missing) else cell


def import_redcap(
    export: Path, dictionary: Path, declared: RedcapMap, events: Path | None = None
) -> Imported:
    """Return the tables of a raw REDCap export.

    Raises
    ------
    ValueError
        The files are no raw export and its dictionary, an event or a field is not what the map says, or
        participants have two values where there can be one; one line, which shows no arm.
    """
    fields = {field.name: field for field in read_dictionary(dictionary)}
    header, rows = read_csv(export)
    project = Project(export, fields, declared, header)
    labels, arms_of = visits.read_events(events) if events else ({}, {})
    taken = _take_arms(project, rows)
    _check_columns(project)
    _check_raw(project, rows)
    _check_declared(project)
    lines = _lines(project, rows, labels)
    _refuse_events_of_one_arm(project, lines, taken, arms_of)
    days = _days(project, lines)
    kept, said = _fields_kept(project, lines)
    if left := len(rows) - len(lines):
        said.append(f"left out: {left} rows of records without {project.id_field!r}")
    return Imported(
        people=_people(project, lines),
        tables=dict(_tables(project, lines, kept, days)),
        allocation=_allocation(project, lines, taken),
        said=said,
    )


def _take_arms(project: Project, rows: list[Row]) -> list[str]:
    """The arm of every row, which it has no more afterwards."""
    if EVENT not in project.header:
        return [""] * len(rows)
    taken = []
    for row in rows:
        visit = visits.visit_of(row[EVENT])
        if visit is None:
            raise project.fault(
                f"an event in {EVENT} does not end in _arm_ and a number: these are labels", RAW
            )
        row[EVENT] = visit.event
        taken.append(visit.arm)
    return taken


def _check_columns(project: Project) -> None:
    """The columns are those of the dictionary."""
    first = next(iter(project.fields.values()))
    if project.header[0] != first.name:
        labels = project.header[0] in (first.label, plain(first.label)) or " " in project.header[0]
        what = f"the first column is not the dictionary's first variable {first.name!r}"
        raise project.fault(what + (": these are labels" if labels else ""), RAW)
    forms = {field.form for field in project.fields.values()}
    known = {column for field in project.fields.values() for column in field.columns} | set(OWN)
    # Projects with missing data codes have a column of each for every checkbox.
    boxes = [field for field in project.fields.values() if field.kind == "checkbox"]
    known |= {field.column_of(code) for field in boxes for code in project.declared.missing}
    known |= {f"{form}_{end}" for form in forms for end in ("complete", "timestamp")}
    if unknown := [name for name in project.header if name not in known]:
        what = f"the dictionary lacks the columns {unknown[:5]}"
        raise project.fault(what, "download the dictionary anew; " + RAW)


def _check_raw(project: Project, rows: list[Row]) -> None:
    """Choices are codes; a label among them is of an export of labels. No cell is shown."""
    for field in project.fields.values():
        codes = {"0": "Unchecked", "1": "Checked"} if field.kind == "checkbox" else field.choices
        for column in field.columns if codes else ():
            labels = {*codes.values(), *field.choices.values()} - set(codes)
            if column in project.header and any(row[column] in labels for row in rows):
                raise project.fault(f"column {column!r} holds labels of its choices", RAW)
    for form in {field.form for field in project.fields.values()}:
        column = f"{form}_complete"
        if column in project.header and any(row[column] in STATES.values() for row in rows):
            raise project.fault(f"column {column!r} holds labels", RAW)


def _check_declared(project: Project) -> None:
    """The map names fields and instruments that exist, and no identifier."""
    declared, forms = project.declared, {field.form for field in project.fields.values()}
    named: dict[str, list[str | None]] = {
        "participant": [declared.participant],
        "date": [declared.date],
        "allocation.field": [declared.allocation.field],
        "allocation.stratum": [declared.allocation.stratum],
        "participants": [*declared.participants],
        "text": [*declared.text],
        "leave_out": [*declared.leave_out],
    }
    for key, names in named.items():
        for name in filter(None, names):
            if name not in project.fields:
                raise project.fault(
                    f"the map's {key} names {name!r}, which the dictionary lacks", "correct it", MAPPED
                )
            private = project.fields[name].is_identifier or project.fields[name].is_private
            if private and key in ("participants", "text"):
                raise project.fault(f"the map's {key} names {name!r}, an identifier", "take it out", MAPPED)
    for key, listed in (("instruments", declared.instruments), ("names", [*declared.names])):
        if absent := [name for name in listed if name not in forms]:
            raise project.fault(
                f"the map's {key} names {absent}, which the dictionary lacks", "correct it", MAPPED
            )
    tables = [declared.names.get(form, form) for form in sorted(forms)]
    if twice := sorted({name for name in tables if tables.count(name) > 1}):
        what = f"two instruments would be one table of phenotype/, {twice}"
        raise project.fault(what, "give them two names in the map (`names`)", MAPPED)
    if project.fields[project.id_field].is_identifier:
        what = f"the id of participants, {project.id_field!r}, is marked as an identifier"
        raise project.fault(what, "name the field of the study id in the map (`participant`)", MAPPED)


def _lines(project: Project, rows: list[Row], labels: dict[str, str]) -> list[Line]:
    """The rows of people with a study id."""
    first = next(iter(project.fields))
    ids: dict[str, str] = {}
    for row in rows:
        cell = project.value(row, project.id_field)
        if cell and ids.setdefault(row[first], cell) != cell:
            raise project.fault(f"a record has two values of {project.id_field!r}", "keep one", CONFLICT)
    prefix = project.declared.prefix
    refuse_one_label(project.export, ids.values(), prefix)
    if len(set(ids.values())) < len(ids):
        raise project.fault(f"two records have one {project.id_field!r}", "correct it", CONFLICT)
    sessions: Sessions = {}
    if EVENT in project.header:
        events = (row[EVENT] for row in rows)
        sessions = visits.sessions_of(project.export, events, project.declared.sessions, labels)
    return [
        Line(
            number,
            participant(ids[row[first]], prefix),
            row.get(EVENT, ""),
            _session(project, row, sessions),
            row.get(INSTRUMENT, ""),
            row.get(NUMBER, ""),
            row,
        )
        for number, row in enumerate(rows)
        if row[first] in ids
    ]


def _session(project: Project, row: Row, sessions: Sessions) -> str | None:
    if EVENT not in project.header:
        return project.declared.session or ""
    session = sessions[row[EVENT]]
    if not isinstance(session, dict):
        return session
    number = row.get(NUMBER, "")
    if number not in session:
        what = f"the map names no session for instance {number or 'none'} of the event {row[EVENT]!r}"
        raise project.fault(what, "add it under `sessions`", MAPPED)
    return session[number]


def _refuse_events_of_one_arm(
    project: Project, lines: list[Line], taken: list[str], arms_of: Mapping[str, set[str]]
) -> None:
    """An event that one arm has alone would show the arm by its rows."""
    seen: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        seen[line.event].add(taken[line.number])
    arms = set(taken) | {arm for some in arms_of.values() for arm in some}
    of_one = [
        line.event
        for line in lines
        if line.session is not None and len(arms) > 1 and len(arms_of.get(line.event, seen[line.event])) == 1
    ]
    if of_one and not _arms_are_phases(lines, taken):
        what = f"the event {of_one[0]!r} is of one REDCap arm alone, so that its rows would show the arm"
        raise project.fault(what, "map it to null, or give both arms the event", "E-CONF-F12")


def _arms_are_phases(lines: list[Line], taken: list[str]) -> bool:
    """Whether REDCap's arms are phases that most people pass (screening, treatment), and no treatments."""
    of: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        of[line.person].add(taken[line.number])
    return sum(len(arms) > 1 for arms in of.values()) > len(of) / 2


def _days(project: Project, lines: list[Line]) -> dict[tuple[str, str], int]:
    """(person, session) -> days from the person's visit in the first session of the map."""
    name = project.declared.date
    dates: dict[tuple[str, str], set[object]] = defaultdict(set)
    for line in lines if name else ():
        cell = project.value(line.cells, str(name))
        if cell and line.session is not None:
            day = as_date(cell)
            if day is None:
                raise project.fault(f"a value of {name!r} is no date YYYY-MM-DD", RAW)
            dates[line.person, line.session].add(day.toordinal())
    if twice := [key for key, days in dates.items() if len(days) > 1]:
        what = f"{twice[0][0]} session {twice[0][1]} has two values of {name!r}"
        raise project.fault(what, "correct it in REDCap", CONFLICT)
    day_of = {key: int(str(next(iter(days)))) for key, days in dates.items()}
    declared = project.declared.sessions.values()
    ordered = [label for item in declared for label in (item.values() if isinstance(item, dict) else [item])]
    first = next((label for label in ordered if label is not None), "")
    return {
        (person, session): day - day_of[person, first]
        for (person, session), day in day_of.items()
        if (person, first) in day_of
    }


def _fields_kept(project: Project, lines: list[Line]) -> tuple[list[Field], list[str]]:
    """The fields of the tables of phenotype/, and what is said of those that are left out."""
    declared, kept = project.declared, []
    out: dict[str, list[str]] = defaultdict(list)
    elsewhere = {project.id_field, next(iter(project.fields)), *declared.participants, *declared.leave_out}
    elsewhere |= {declared.date or "", declared.allocation.field or "", declared.allocation.stratum or ""}
    for field in project.fields.values():
        if field.name in elsewhere or (declared.instruments and field.form not in declared.instruments):
            continue
        if field.is_identifier:
            out["marked as identifiers"].append(field.name)
        elif field.is_private:
            out["files, dates, times and ways to reach a person"].append(field.name)
        elif field.is_text and field.name not in declared.text and not _holds_numbers(project, field, lines):
            out["free text that the map's `text` does not name"].append(field.name)
        else:
            kept.append(field)
    return kept, [f"left out, {why}: {', '.join(names)}" for why, names in out.items()]


def _holds_numbers(project: Project, field: Field, lines: list[Line]) -> bool:
    cells = [cell for line in lines if (cell := project.value(line.cells, field.name))]
    return field.kind == "text" and bool(cells) and all(map(is_number, cells))


def _tables(
    project: Project, lines: list[Line], kept: list[Field], days: Mapping[tuple[str, str], int]
) -> Iterator[tuple[str, Table]]:
    """Name -> table of every instrument with a value."""
    forms: dict[str, dict[str, Field]] = defaultdict(dict)
    for field in kept:
        forms[field.form] |= {column: field for column in field.columns if column in project.header}
    for form, columns in forms.items():
        rows = [row for line in lines if (row := _row(project, line, form, columns, days))]
        if not rows:
            continue
        described: dict[str, Mapping[str, object]] = {
            column: field.described(column) for column, field in columns.items()
        }
        state = f"{form}_complete"
        described[state] = {"Description": f"State of the form {form}", "Levels": STATES}
        table = pd.DataFrame(rows, columns=[PERSON, SESSION, INSTANCE, DAY, *columns, state], dtype=object)
        keys = [PERSON, SESSION, INSTANCE]
        if (twice := table.duplicated(keys, keep=False)).any():
            first = table[twice].iloc[0]
            session = str(first[SESSION] or "").removeprefix("ses-")
            what = f"{form}: {first[PERSON]} session {session} has two rows"
            fix = "map one of the two events to null, or to another session"
            raise project.fault(what, fix, CONFLICT)
        idle = [name for name in (SESSION, INSTANCE, DAY, state) if table[name].isna().all()]
        table = table.sort_values(keys, key=_by_number, kind="stable").drop(columns=idle)
        yield project.declared.names.get(form, form), Table(table.reset_index(drop=True), described, form)


def _by_number(column: pd.Series) -> pd.Series:
    """Numbers by their value where all of a column are numbers."""
    return pd.to_numeric(column) if column.name == INSTANCE else column


def _row(
    project: Project,
    line: Line,
    form: str,
    columns: Mapping[str, Field],
    days: Mapping[tuple[str, str], int],
) -> dict[str, object] | None:
    """A row of the table of a form; None where the line is of another one or holds nothing of it."""
    if line.session is None or line.instrument not in ("", form):
        return None
    cells = {
        column: _pointed(_on_one_line(project.value(line.cells, column)), field)
        for column, field in columns.items()
    }
    state = project.value(line.cells, f"{form}_complete")
    given = any(
        cells[column] not in (None, "0" if field.kind == "checkbox" else None)
        for column, field in columns.items()
    )
    if not given and state in (None, "0"):
        return None
    day = days.get((line.person, line.session))
    keys: dict[str, object] = {
        PERSON: line.person,
        SESSION: f"ses-{line.session}" if line.session else None,
        INSTANCE: line.instance or None,
        DAY: None if day is None else str(day),
    }
    return keys | cells | {f"{form}_complete": state}


def _pointed(cell: str | None, field: Field) -> str | None:
    """A number of a field that is validated with a decimal comma, with a point."""
    return cell.replace(",", ".") if cell and field.validation.endswith("comma_decimal") else cell


def _on_one_line(cell: str | None) -> str | None:
    return None if cell is None else " ".join(cell.split())


def _people(project: Project, lines: list[Line]) -> Table:
    """participants.tsv: the declared fields, choices by their labels."""
    names = project.declared.participants
    found: dict[str, dict[str, str | None]] = {}
    for line in sorted(lines, key=lambda line: line.person):
        mine = found.setdefault(line.person, dict.fromkeys(names))
        for name in names:
            if (cell := project.value(line.cells, name)) is not None:
                mine[name] = _only(project, line.person, name, mine[name], cell)
    fields = project.fields
    for mine in found.values():
        for name, cell in mine.items():
            mine[name] = _on_one_line(fields[name].choices.get(cell or "", cell or "")) or None
    rows = [{PERSON: person, **mine} for person, mine in found.items()]
    described: dict[str, Mapping[str, object]] = {
        name: {"Description": plain(fields[name].label) or name} for name in names
    }
    return Table(pd.DataFrame(rows, columns=[PERSON, *names], dtype=object), described)


def _only(project: Project, person: str, name: str, before: str | None, cell: str) -> str:
    if before not in (None, cell):
        raise project.fault(f"{person} has two values of {name!r}", "correct it in REDCap", CONFLICT)
    return cell


def _allocation(project: Project, lines: list[Line], taken: list[str]) -> pd.DataFrame:
    """participant_id, arm, stratum and REDCap's arm; empty where the export has neither arms nor a field."""
    declared = project.declared.allocation
    found: dict[str, dict[str, set[str]]] = {}
    for line in sorted(lines, key=lambda line: line.person):
        mine = found.setdefault(line.person, defaultdict(set))
        mine["redcap_arm"] |= {taken[line.number]} - {""}
        for name, field in (("arm", declared.field), ("stratum", declared.stratum)):
            if field and (cell := project.value(line.cells, field)) is not None:
                mine[name].add(_label(project, field, cell))
    several = {arm for mine in found.values() for arm in mine["redcap_arm"]}
    if not declared.field and len(several) < 2:
        return pd.DataFrame(columns=[PERSON, "arm", "stratum"])
    if not declared.field:
        for mine in found.values():
            mine["arm"] = {declared.labels.get(arm, f"arm {arm}") for arm in mine["redcap_arm"]}
    unclear = [who for who, mine in found.items() if max(len(mine["arm"]), len(mine["stratum"])) > 1]
    if unclear:  # who they are shows nothing; what they have would
        what = f"{len(unclear)} people have more than one arm or stratum, the first {unclear[0]}"
        fix = "declare allocation.field in the map, or correct it in REDCap"
        raise project.fault(what, fix, CONFLICT)
    names = ("arm", "stratum", "redcap_arm")
    rows = [[who, *("+".join(sorted(mine[name])) or None for name in names)] for who, mine in found.items()]
    return pd.DataFrame(rows, columns=[PERSON, *names], dtype=object)


def _label(project: Project, field: str, code: str) -> str:
    """The label of a code of the randomisation, as the map or the dictionary has it."""
    declared = project.declared.allocation
    own = declared.labels if field == declared.field else {}
    return own.get(code) or project.fields[field].choices.get(code, code)
