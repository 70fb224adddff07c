"""A trial office's export becomes BIDS tables; the arm goes to the allocation and nowhere else."""

from __future__ import annotations

import csv
import json

import pandas as pd
import pytest
import yaml

from reconfmri.cli import main
from reconfmri.importing.declared import TableMap
from reconfmri.importing.events import cut, visit_of
from reconfmri.importing.office import import_table
from reconfmri.tables import read_table
from reconfmri.trial.allocation import read_allocation

HEADER = [
    "Variable / Field Name", "Form Name", "Section Header", "Field Type", "Field Label",
    "Choices, Calculations, OR Slider Labels", "Field Note", "Text Validation Type OR Show Slider Number",
    "Text Validation Min", "Text Validation Max", "Identifier?", "Branching Logic (Show field only if...)",
    "Required Field?", "Custom Alignment", "Question Number (surveys only)", "Matrix Group Name",
    "Matrix Ranking?", "Field Annotation",
]  # fmt: skip
FIELDS = [  # name, form, type, label, choices, validation, identifier
    ("record_id", "enrolment", "text", "Record ID", "", "", ""),
    ("surname", "enrolment", "text", "Surname", "", "", "y"),
    ("e_mail", "enrolment", "text", "E-mail", "", "email", ""),
    ("age", "enrolment", "text", "Age<br>in years", "", "integer", ""),
    ("sex", "enrolment", "radio", "Sex", "1, female | 2, male, or other", "", ""),
    ("visit_date", "visit", "text", "Date of the visit", "", "date_ymd", "y"),
    ("rand_group", "randomisation", "radio", "Group", "1, ketamine | 2, midazolam", "", ""),
    ("site", "randomisation", "dropdown", "Site", "a, North | b, South", "", ""),
    ("pcl5_1", "pcl5", "radio", "Item 1", "0, Not at all | 1, A little | 4, Extremely", "", ""),
    ("pcl5_total", "pcl5", "calc", "Total", "sum([pcl5_1])", "", ""),
    ("pcl5_note", "pcl5", "notes", "Remark", "", "", ""),
    ("symptoms", "visit", "checkbox", "Symptoms", "1, sleep | -9, none of these, at all", "", ""),
    ("ae_term", "adverse_events", "text", "Event", "", "", ""),
    ("ae_grade", "adverse_events", "dropdown", "Grade", "1, mild | 2, moderate", "", ""),
]
PEOPLE = [f"K-{number:02d}" for number in range(1, 9)]
EVENTS = ("baseline_arm_{}", "end_of_treatment_v_arm_{}")
LABELS = {"baseline_arm_{}": "Baseline", "end_of_treatment_v_arm_{}": "End of treatment visit 1"}
MAP = {
    "sessions": {"baseline": "1", "End of treatment visit 1": "2"},
    "date": "visit_date",
    "participants": ["age", "sex"],
    "text": ["ae_term"],
    "allocation": {"field": "rand_group", "stratum": "site"},
}
CANARY = ("ketamine", "midazolam", "_arm_1", "_arm_2", "Surname-7f3", "7f3@example.org", "2025-0")


def columns():
    found = ["record_id", "redcap_event_name", "redcap_repeat_instrument", "redcap_repeat_instance"]
    for name, *_ in FIELDS[1:]:
        found += ["symptoms___1", "symptoms____9"] if name == "symptoms" else [name]
    return [*found, *(f"{form}_complete" for form in ("enrolment", "visit", "pcl5", "adverse_events"))]


def export():
    rows = []
    for place, person in enumerate(PEOPLE):
        arm = 1 + (place % 3 == 0)
        for visit, event in enumerate(EVENTS):
            row = dict.fromkeys(columns(), "") | {"record_id": person, "redcap_event_name": event.format(arm)}
            if visit == 0:
                row |= {"surname": "Surname-7f3", "e_mail": "7f3@example.org", "age": str(30 + place)}
                row |= {"sex": str(1 + place % 2), "rand_group": str(arm), "site": "ab"[place % 2]}
            row |= {"visit_date": f"2025-0{1 + visit}-1{place % 9}", "pcl5_1": str(4 - 3 * visit)}
            row |= {"pcl5_total": str(4 - 3 * visit), "pcl5_note": "told us\nsomething", "pcl5_complete": "2"}
            row |= {"symptoms___1": str(place % 2), "symptoms____9": "0", "visit_complete": "2"}
            rows.append(row)
    for instance in (1, 2):
        row = dict.fromkeys(columns(), "") | {
            "record_id": PEOPLE[0],
            "redcap_event_name": EVENTS[1].format(2),
        }
        row |= {"redcap_repeat_instrument": "adverse_events", "redcap_repeat_instance": str(instance)}
        rows.append(
            row | {"ae_term": "head, ache", "ae_grade": str(instance), "adverse_events_complete": "2"}
        )
    return rows


def write_csv(path, header, rows, delimiter=","):
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        made = csv.writer(stream, delimiter=delimiter)
        made.writerow(header)
        made.writerows(rows)
    return path


class Office:
    """An export, its dictionary, and the command that imports them."""

    def __init__(self, folder):
        self.folder, self.rows, self.fields, self.declared = folder, export(), list(FIELDS), dict(MAP)
        self.header, self.delimiter, self.events = columns(), ",", None
        self.extra = []  # columns beyond the dictionary's, all 0

    def run(self, *more):
        folder = self.folder
        listed = []
        for name, form, kind, label, choices, validation, identifier in self.fields:
            listed.append(
                [name, form, "", kind, label, choices, "", validation, "", "", identifier, *[""] * 7]
            )
        dictionary = write_csv(folder / "dictionary.csv", HEADER, listed)
        cells = [[*(row[name] for name in columns()), *("0" for _ in self.extra)] for row in self.rows]
        exported = write_csv(folder / "export.csv", [*self.header, *self.extra], cells, self.delimiter)
        (folder / "map.yaml").write_text(yaml.safe_dump(self.declared, sort_keys=False), encoding="utf-8")
        given = ["import-redcap", str(exported), str(dictionary)]
        if self.events:
            names = ["event_name", "arm_num", "day_offset", "offset_min", "offset_max", "unique_event_name"]
            given.append(str(write_csv(folder / "events.csv", names, self.events)))
        given += ["--map", str(folder / "map.yaml"), "--bids", str(folder / "bids")]
        return main([*given, "--allocation", str(folder / "office" / "allocation.tsv"), *more])

    def table(self, name):
        return read_table(self.folder / "bids" / name)


@pytest.fixture
def office(tmp_path):
    return Office(tmp_path)


def refused(office, capsys, *says):
    assert office.run() == 1
    shown = capsys.readouterr()
    assert not shown.out
    assert len(shown.err.splitlines()) == 1, shown.err
    assert "Fix: " in shown.err
    for word in says:
        assert word in shown.err
    for word in CANARY:
        assert word not in shown.err
    assert not (office.folder / "bids").exists()
    assert not (office.folder / "office").exists()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_an_export_becomes_tables_and_the_arm_is_in_the_allocation_alone(office, capsys, delimiter):
    office.delimiter = delimiter
    assert office.run() == 0
    said = capsys.readouterr().out
    pcl5 = office.table("phenotype/pcl5.tsv")
    assert pcl5.columns.tolist() == [
        "participant_id", "session_id", "day", "pcl5_1", "pcl5_total", "pcl5_complete",
    ]  # fmt: skip
    assert pcl5.iloc[1].tolist() == ["sub-K01", "ses-2", "31", "1", "1", "2"]
    assert office.table("participants.tsv").iloc[1].tolist() == ["sub-K02", "31", "male, or other"]
    arms = read_allocation(office.folder / "office" / "allocation.tsv")
    assert arms["arm"].tolist() == [("ketamine", "midazolam")[place % 3 == 0] for place in range(8)]
    assert arms["stratum"].tolist() == ["North", "South"] * 4
    everything = said + "".join(path.read_text("utf-8") for path in (office.folder / "bids").rglob("*.*"))
    for word in CANARY:
        assert word not in everything, word
    assert "surname" in said
    assert "pcl5_note" in said


def test_checkboxes_labels_and_choices_are_described(office):
    office.run()
    described = json.loads((office.folder / "bids/phenotype/visit.json").read_text("utf-8"))
    assert described["symptoms____9"]["Description"] == "Symptoms: none of these, at all"
    assert office.table("phenotype/visit.tsv")["symptoms___1"].tolist()[:4] == ["0", "0", "1", "1"]
    described = json.loads((office.folder / "bids/phenotype/pcl5.json").read_text("utf-8"))
    assert described["pcl5_1"]["Levels"]["4"] == "Extremely"
    assert json.loads((office.folder / "bids/participants.json").read_text("utf-8"))["age"][
        "Description"
    ] == ("Age in years")


def test_a_repeating_instrument_keeps_its_instances(office):
    assert office.run() == 0
    events = office.table("phenotype/adverse_events.tsv")
    assert events[
        ["participant_id", "session_id", "instance", "ae_term", "ae_grade"]
    ].to_numpy().tolist() == [
        ["sub-K01", "ses-2", "1", "head, ache", "1"],
        ["sub-K01", "ses-2", "2", "head, ache", "2"],
    ]


def test_a_repeating_event_needs_a_session_per_instance(office, capsys):
    for row in office.rows:
        if not row["redcap_repeat_instrument"] and row["redcap_event_name"].startswith("end"):
            row["redcap_repeat_instance"] = "1"
    office.rows = [row for row in office.rows if not row["redcap_repeat_instrument"]]
    again = [row | {"redcap_repeat_instance": "2", "visit_date": "2025-03-20"} for row in office.rows]
    office.rows += [row for row in again if row["redcap_event_name"].startswith("end")]
    event = "end_of_treatment_v"
    office.declared["sessions"] = {"baseline": "1", event: {"1": "2"}}
    refused(office, capsys, f"instance 2 of the event '{event}'")
    office.declared["sessions"] = {"baseline": "1", event: {"1": "2", "2": "3"}}
    assert office.run() == 0
    assert office.table("phenotype/pcl5.tsv")["session_id"].tolist()[:3] == ["ses-1", "ses-2", "ses-3"]
    office.declared["sessions"] = {"baseline": "1", event: "2"}
    (office.folder / "bids").rename(office.folder / "before")
    assert office.run() == 1
    assert "sub-K01 session 2 has two values of 'visit_date'" in capsys.readouterr().err


def test_events_are_known_by_their_label_cut_at_18_characters():
    assert cut("End of treatment visit 1") == "end_of_treatment_v"
    assert cut("30-day follow-up") == "30day_followup"
    assert visit_of("end_of_treatment_v_arm_2").event == "end_of_treatment_v"
    assert visit_of("week_one_of_many_w_arm_1b").event == "week_one_of_many_w_b"
    assert visit_of("arm_arm_12").arm == "12"
    assert visit_of("Baseline (Arm 1: Ketamine)") is None


def test_an_unknown_event_is_named_without_its_arm(office, capsys):
    office.declared["sessions"] = {"baseline": "1"}
    refused(office, capsys, "no session for the events ['end_of_treatment_v']", "E-BIDS-R02")


def test_two_keys_that_are_one_event_are_refused_unless_the_table_of_events_tells_them_apart(office, capsys):
    office.declared["sessions"] = MAP["sessions"] | {"End of treatment visit 2": "3"}
    refused(office, capsys, "are one event, 'end_of_treatment_v'", "EVENTS.csv")
    names = ["Baseline", "End of treatment visit 1", "End of treatment visit 2"]
    ends = ["baseline_arm_{}", "end_of_treatment_v_arm_{}", "end_of_treatment_v_arm_{}b"]
    office.events = [[n, a, 0, 0, 0, e.format(a)] for a in "12" for n, e in zip(names, ends, strict=True)]
    for row in office.rows[:-2]:
        if row["redcap_event_name"].startswith("end") and row["record_id"] == "K-03":
            row["redcap_event_name"] += "b"
    assert office.run() == 0
    assert "ses-3" in office.table("phenotype/pcl5.tsv")["session_id"].tolist()


def test_an_event_may_be_left_out_and_still_gives_what_is_of_the_person(office):
    office.declared |= {"sessions": {"baseline": None, "end_of_treatment_v": "2"}}
    assert office.run() == 0
    assert set(office.table("phenotype/pcl5.tsv")["session_id"]) == {"ses-2"}
    assert office.table("participants.tsv")["age"].tolist()[0] == "30"


@pytest.mark.parametrize(
    ("column", "cell", "says"),
    [
        ("redcap_event_name", "Baseline (Arm 1: ketamine)", "these are labels"),
        ("sex", "female", "'sex' holds labels"),
        ("rand_group", "ketamine", "'rand_group' holds labels"),
        ("symptoms___1", "Checked", "'symptoms___1' holds labels"),
        ("pcl5_complete", "Complete", "'pcl5_complete' holds labels"),
    ],
)
def test_an_export_of_labels_is_refused_and_shows_no_arm(office, capsys, column, cell, says):
    office.rows[0][column] = cell
    refused(office, capsys, says, "raw data, not labels", "E-BIDS-R01")


def test_a_header_of_labels_or_of_another_project_is_refused(office, capsys):
    office.header = ["Record ID", *columns()[1:]]
    refused(office, capsys, "these are labels")
    office.header = [*columns()[:-1], "unheard_of"]
    refused(office, capsys, "the dictionary lacks the columns ['unheard_of']")
    office.header = columns()
    office.fields = [field for field in FIELDS if field[0] != "age"]
    refused(office, capsys, "['age']")


@pytest.mark.parametrize("key", ["participants", "text"])
@pytest.mark.parametrize("name", ["surname", "e_mail", "visit_date"])
def test_an_identifier_is_never_imported_even_when_the_map_names_it(office, capsys, key, name):
    office.declared[key] = [name]
    refused(office, capsys, f"names '{name}', an identifier")


def test_an_id_that_is_an_identifier_needs_another_field(office, capsys):
    office.fields[0] = (*FIELDS[0][:-1], "y")
    refused(office, capsys, "marked as an identifier", "`participant`")
    office.declared["participant"] = "age"
    office.declared["participants"] = ["sex"]
    assert office.run() == 0
    assert office.table("participants.tsv")["participant_id"].tolist()[0] == "sub-30"


def test_ids_that_become_one_label_are_refused(office, capsys):
    for row in office.rows:
        row["record_id"] = row["record_id"].replace("K-02", "K01")
    refused(office, capsys, "'K-01' and 'K01' are one label, 'sub-K01'")


def test_a_person_with_two_values_is_named_and_the_arm_is_not(office, capsys):
    office.rows[1]["age"] = "99"
    refused(office, capsys, "sub-K01 has two values of 'age'", "E-BIDS-R03")
    office.rows[1]["age"] = ""
    office.rows[1]["rand_group"] = "1"
    refused(office, capsys, "1 people have more than one arm", "sub-K01")


def test_two_events_in_one_session_may_not_have_the_same_form(office, capsys):
    office.declared["sessions"] = {"baseline": "1", "end_of_treatment_v": "1"}
    office.declared.pop("date")
    refused(office, capsys, "sub-K01 session 1 has two rows")


def test_redcaps_arms_are_the_allocation_without_a_field(office):
    office.declared["allocation"] = {"labels": {"1": "K", "2": "M"}}
    office.declared["leave_out"] = ["rand_group"]
    assert office.run() == 0
    arms = read_allocation(office.folder / "office" / "allocation.tsv")
    assert arms["arm"].tolist() == [("K", "M")[place % 3 == 0] for place in range(8)]


def test_arms_that_are_phases_are_no_allocation(office, capsys):
    for row in office.rows:
        row["redcap_event_name"] = row["redcap_event_name"][:-1] + (
            "1" if "base" in row["redcap_event_name"] else "2"
        )
    assert office.run() == 0
    assert set(read_allocation(office.folder / "office" / "allocation.tsv")["arm"]) == {
        "ketamine",
        "midazolam",
    }
    office.declared["allocation"] = {}
    office.declared["leave_out"] = ["rand_group"]
    (office.folder / "bids").rename(office.folder / "x")
    (office.folder / "office").rename(office.folder / "y")
    capsys.readouterr()
    refused(office, capsys, "8 people have more than one arm")


def test_a_field_or_an_event_that_shows_the_arm_stops_the_import(office, capsys):
    office.declared["allocation"] = {}
    refused(office, capsys, "'rand_group' goes with the arm one to one", "E-CONF-F12")
    office.declared["leave_out"] = ["rand_group"]
    for row in office.rows:
        if row["redcap_event_name"] == "end_of_treatment_v_arm_2":
            row["redcap_event_name"] = "infusion_arm_2"
    office.declared["sessions"] = MAP["sessions"] | {"infusion": "2"}
    refused(office, capsys, "is of one REDCap arm alone", "E-CONF-F12")


def test_an_instrument_of_one_arm_alone_stops_the_import(office, capsys):
    for row in office.rows:
        if row["redcap_event_name"].endswith("1"):
            row |= {"pcl5_1": "", "pcl5_total": "", "pcl5_complete": "0"}
    refused(office, capsys, "only people of one arm have rows in this table")


def test_the_allocation_never_lies_in_the_dataset_and_nothing_is_written_over(office, capsys):
    inside = str(office.folder / "bids" / "allocation.tsv")
    assert office.run("--allocation", inside) == 1
    assert "inside the dataset" in capsys.readouterr().err
    assert office.run() == 0
    assert office.run() == 1
    assert "E-BIDS-R04" in capsys.readouterr().err
    assert office.run("--overwrite") == 0


def test_participants_that_are_there_stay_and_a_contradiction_is_refused(office, capsys):
    there = office.folder / "bids"
    there.mkdir()
    (there / "participants.tsv").write_text(
        "participant_id\thandedness\tage\nsub-K09\tleft\t50\nsub-K01\tn/a\t30\n"
    )
    assert office.run() == 0
    people = office.table("participants.tsv").set_index("participant_id")
    assert people.index.tolist()[:3] == ["sub-K09", "sub-K01", "sub-K02"]
    assert people.loc["sub-K09", ["handedness", "age"]].tolist() == ["left", "50"]
    (there / "participants.tsv").write_text("participant_id\tage\nsub-K01\t31\n")
    assert office.run("--overwrite") == 1
    assert "'age' is there already, with other values for 1 people" in capsys.readouterr().err


def test_a_project_without_events_has_its_one_session(office):
    office.rows = [
        row | {"redcap_event_name": ""} for row in office.rows if row["redcap_event_name"].startswith("base")
    ]
    keep = [name for name in columns() if name != "redcap_event_name"]
    listed = []
    for name, form, kind, label, choices, validation, identifier in FIELDS:
        listed.append([name, form, "", kind, label, choices, "", validation, "", "", identifier, *[""] * 7])
    folder = office.folder
    write_csv(folder / "d.csv", HEADER, listed)
    write_csv(folder / "e.csv", keep, [[row[name] for name in keep] for row in office.rows])
    for declared, expected in (({}, None), ({"session": "1"}, "ses-1")):
        said = {**MAP, "sessions": {}, "date": None, **declared}
        (folder / "m.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
        given = [
            "import-redcap",
            folder / "e.csv",
            folder / "d.csv",
            "--map",
            folder / "m.yaml",
            "--overwrite",
        ]
        assert (
            main([*map(str, given), "--bids", str(folder / "b"), "--allocation", str(folder / "a.tsv")]) == 0
        )
        table = read_table(folder / "b/phenotype/pcl5.tsv")
        assert ("session_id" in table) == bool(expected)


def test_codes_of_missing_data_are_missing(office):
    office.declared["missing"] = ["-99"]
    office.rows[0] |= {"pcl5_1": "-99"}
    assert office.run() == 0
    assert office.table("phenotype/pcl5.tsv")["pcl5_1"].tolist()[0] is None


@pytest.mark.parametrize("key", ["sesions", "allocation.feild"])
def test_a_misspelt_key_of_the_map_names_the_right_one(office, capsys, key):
    office.declared[key.split(".")[0]] = {"feild": "x"} if "." in key else {}
    refused(office, capsys, "unknown key", "'sessions'" if key == "sesions" else "'field'")


# a table of an office without REDCap

LONG = ["ID", "Visit", "Date", "Age", "Group", "PCL total", "Name"]
OFFICE_MAP = {
    "participant": "ID",
    "visit": "Visit",
    "sessions": {"V1": "1", "V2": "2", "screening": None},
    "date": "Date",
    "participants": ["Age"],
    "tables": {"pcl5": {"columns": {"total": "PCL total"}}},
    "allocation": {"field": "Group", "labels": {"1": "ketamine", "2": "midazolam"}},
}


def office_rows():
    rows = []
    for place in range(8):
        person = [f"{place:03d}"]
        for visit, total in (("screening", 50), ("V1", 40), ("V2", 30)):
            day = f"2025-0{('screening', 'V1', 'V2').index(visit) + 1}-02"
            rows.append([*person, visit, day, 20 + place, 1 + (place % 3 == 0), total - place, "Surname-7f3"])
    return rows


def run_table(folder, rows, declared, header=LONG, name="office.csv"):
    path = write_csv(folder / name, header, rows) if name.endswith(".csv") else folder / name
    (folder / "map.yaml").write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
    given = ["import-table", str(path), "--map", str(folder / "map.yaml"), "--bids", str(folder / "bids")]
    return main([*given, "--allocation", str(folder / "allocation.tsv")])


def test_a_table_of_an_office_gives_the_declared_columns_alone(tmp_path, capsys):
    assert run_table(tmp_path, office_rows(), OFFICE_MAP) == 0
    table = read_table(tmp_path / "bids/phenotype/pcl5.tsv")
    assert table.iloc[:2].to_numpy().tolist() == [
        ["sub-000", "ses-1", "0", "40"],
        ["sub-000", "ses-2", "28", "30"],
    ]
    assert set(read_allocation(tmp_path / "allocation.tsv")["arm"]) == {"ketamine", "midazolam"}
    text = capsys.readouterr().out + "".join(p.read_text() for p in (tmp_path / "bids").rglob("*.*"))
    assert "7f3" not in text
    assert "ketamine" not in text


def test_a_wide_table_has_a_column_per_visit(tmp_path):
    header = ["ID", "Group", "before", "after"]
    rows = [[f"{n:03d}", 1 + (n % 3 == 0), 40 + n, "" if n == 2 else 30 + n] for n in range(8)]
    wide = {"1": {"total": "before"}, "2": {"total": "after"}}
    declared = {"participant": "ID", "tables": {"pcl5": {"wide": wide}}, "allocation": {"field": "Group"}}
    assert run_table(tmp_path, rows, declared, header) == 0
    table = read_table(tmp_path / "bids/phenotype/pcl5.tsv")
    assert len(table) == 15
    assert table.iloc[1].tolist() == ["sub-000", "ses-2", "30"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sessions": {"V1": "1", "V2": "2"}}, "no session for the visit 'screening'"),
        ({"participants": ["Agee"]}, "['Agee'], which it lacks"),
        ({"tables": {"pcl5": {"columns": {"total": "Group"}}}}, "gives the column of the arm, 'Group'"),
        ({"sessions": {"V1": "1", "V2": "1", "screening": None}}, "sub-000 session 1 has two rows"),
        ({"date": "Name"}, "no date YYYY-MM-DD"),
    ],
)
def test_what_a_map_of_a_table_gets_wrong_is_one_line(tmp_path, capsys, change, says):
    assert run_table(tmp_path, office_rows(), OFFICE_MAP | change) == 1
    shown = capsys.readouterr().err
    assert says in shown
    assert len(shown.splitlines()) == 1
    assert not (tmp_path / "bids").exists()


def test_an_excel_sheet_is_read_as_its_csv(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [LONG, *office_rows()]:
        book.active.append(row)
    book.save(tmp_path / "office.xlsx")
    assert run_table(tmp_path, None, OFFICE_MAP, name="office.xlsx") == 0
    excel = read_table(tmp_path / "bids/phenotype/pcl5.tsv")
    (tmp_path / "bids").rename(tmp_path / "first")
    (tmp_path / "allocation.tsv").unlink()
    assert run_table(tmp_path, office_rows(), OFFICE_MAP) == 0
    pd.testing.assert_frame_equal(excel, read_table(tmp_path / "bids/phenotype/pcl5.tsv"))


def test_excel_without_its_library_says_what_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    (tmp_path / "office.xlsx").write_bytes(b"PK")
    assert run_table(tmp_path, None, OFFICE_MAP, name="office.xlsx") == 1
    assert "reconfmri[excel]" in capsys.readouterr().err


ROWS = {
    "semicolons": "id;visit;pcl;age\n1;V1;40,5;30\n1;V2;30,5;30\n",
    "excel's first line": "sep=;\nid;visit;pcl;age\n1;V1;40.5;30\n1;V2;30.5;30\n",
    "a spreadsheet's numbers": "id,visit,pcl,age\n1,V1,40.5,30\n1.0,V2,30.5,30\n",
    "a row of nobody": "id,visit,pcl,age\n1,V1,40.5,30\n1,V2,30.5,30\n,V2,17,\n",
}


def table_map():
    tables = {"pcl5": {"columns": {"total": "pcl"}}}
    given = {"participant": "id", "visit": "visit", "sessions": {"V1": "1", "V2": "2"}, "tables": tables}
    return TableMap.model_validate(given | {"participants": ["age"]})


@pytest.mark.parametrize("name", ROWS)
def test_tables_of_offices_are_read_as_they_are_meant_and_say_what_was_left_out(tmp_path, name):
    path = tmp_path / "office.csv"
    path.write_text(ROWS[name], encoding="utf-8")
    found = import_table(path, table_map())
    pcl5 = found.tables["pcl5"].rows
    assert pcl5["total"].tolist() == ["40.5", "30.5"]
    assert pcl5["participant_id"].tolist() == ["sub-1", "sub-1"]
    assert found.people.rows["age"].tolist() == ["30"]
    words = {
        "semicolons": "decimal commas were read as points: pcl",
        "a row of nobody": "1 rows without 'id'",
    }
    assert [words[name] in line for line in found.said] == ([True] if name in words else [])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"id,visit,pcl,age\nab1,V1,40,30\nAB1,V1,41,30\n", "'ab1' and 'AB1' are one label"),
        ("t.csv", "id,visit,pcl,age\nMü,V1,1,2\n".encode("cp1252"), "not UTF-8"),
        ("t.XLSX", b"PK\x03\x04none", "no workbook"),
        ("t.xls", b"\xd0\xcf\x11\xe0", "old Excel format"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says):
        import_table(tmp_path / name, table_map())


def test_decimal_commas_of_a_validated_field_and_codes_of_missing_data(office):
    """REDCap exports `number_comma_decimal` as typed, and a column per code of missing data and checkbox."""
    place = [field[0] for field in office.fields].index("age")
    office.fields[place] = ("age", "enrolment", "text", "Age", "", "number_1dp_comma_decimal", "")
    office.declared |= {"participants": ["sex"], "missing": ["-99"]}
    office.rows = [row | ({"age": "31,5"} if row["age"] else {}) for row in office.rows]
    office.extra = ["symptoms____99"]
    assert office.run() == 0
    assert set(office.table("phenotype/enrolment.tsv")["age"]) == {"31.5"}
    assert "symptoms____99" not in office.table("phenotype/visit.tsv")


def test_two_instruments_are_not_written_into_one_table(office, capsys):
    office.declared["names"] = {"pcl5": "forms", "visit": "forms"}
    refused(office, capsys, "two instruments would be one table of phenotype/, ['forms']")


def test_records_without_a_study_id_are_counted(office, capsys):
    place = [field[0] for field in office.fields].index("site")
    office.declared |= {"participant": "site", "allocation": {"field": "rand_group"}}
    office.rows = [row | {"site": row["record_id"] if row["site"] else ""} for row in office.rows]
    office.fields[place] = ("site", "enrolment", "text", "Study id", "", "", "")
    for row in office.rows:
        if row["record_id"] == PEOPLE[-1]:
            row["site"] = ""
    assert office.run() == 0
    assert "left out: 2 rows of records without 'site'" in capsys.readouterr().out
