"""What `check` reads in tables, how it says it, and what `init` proposes: everything before any compute."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from reconfmri.checks import check_blinding, check_study, check_visits
from reconfmri.cli import main
from reconfmri.cli.problem_page import problem_page
from reconfmri.config import load_study
from reconfmri.events import COLUMNS, name_events, read_events
from reconfmri.exclusions import read_exclusions
from reconfmri.indexing import index_dataset
from reconfmri.problems import Problem, causes
from reconfmri.screening import _filtered, check_band, check_scales
from reconfmri.simulate.planted import timing_of
from reconfmri.tables import read_table
from reconfmri.trial.blinding import candidates, telling_columns
from reconfmri.visits import order_by_time, session_times

sys.path.insert(0, str(Path(__file__).parent / "faults"))
from make_bids import EVENTS_FILE as EVENTS
from make_bids import PCL5, SESSIONS, edit, make_bids, stem, write

PEOPLE = [f"sub-{n:02d}" for n in range(1, 5)]


@pytest.fixture
def study(tmp_path):
    return make_bids(tmp_path, people=PEOPLE)


def root_of(study: Path) -> Path:
    return study.parent / "bids"


def found(study: Path) -> list[Problem]:
    assert main(["index", "--study", str(study)]) == 0
    return check_study(study)


def change_events(study: Path, change, people=PEOPLE, sessions=SESSIONS) -> None:
    for person in people:
        for session in sessions:
            path = root_of(study) / stem(person, session, EVENTS)
            path.write_text(change(path.read_text()))


def cells(text: str, change) -> str:
    head, *rows = text.splitlines()
    return "\n".join([head, *("\t".join(change(*row.split("\t"))) for row in rows)]) + "\n"


# Events


VALUES = {
    "decimal comma": (lambda o, d, t: (o.replace(".", ","), d, t), "decimal comma"),
    "n/a duration": (lambda o, d, t: (o, "n/a", t), "a duration is missing"),
    "negative onset": (lambda o, d, t: (f"-{o}", d, t), "an onset is negative"),
    "milliseconds": (lambda o, d, t: (f"{1000 * float(o):g}", f"{1000 * float(d):g}", t), "milliseconds"),
    "milliseconds in durations": (lambda o, d, t: (o, f"{1000 * float(d):g}", t), "milliseconds"),
}


@pytest.mark.parametrize("fault", VALUES)
def test_events_that_no_run_can_be_modelled_with_are_one_line(study, fault):
    change, says = VALUES[fault]
    change_events(study, lambda text: cells(text, change))
    (cause,) = causes(found(study))
    assert cause.problems[0].severity == "STOP"
    assert says in cause.line
    assert "12 like this" in cause.line


def test_events_of_some_runs_take_those_runs_out_and_nothing_else(study):
    change_events(
        study, lambda text: text.replace("\t20\t", "\tn/a\t"), people=PEOPLE[:1], sessions=["2", "3"]
    )
    problems = found(study)
    assert [(p.severity, p.code, p.participant_id, p.session_id) for p in problems] == [
        ("EXCL", "E-DATA-B13", "sub-01", "2"),
        ("EXCL", "E-DATA-B13", "sub-01", "3"),
    ]


def test_events_that_give_no_contrast_are_found_before_compute(study):
    """Two conditions at once, a condition that was never played, and onsets in minutes."""
    at_once = "onset\tduration\ttrial_type\n10\t20\ttrauma\n10\t20\trelax\n70\t20\ttrauma\n70\t20\trelax\n"
    change_events(study, lambda text: at_once, people=["sub-01"], sessions=["1"])
    change_events(study, lambda text: text.replace("\trelax", "\ttrauma"), people=["sub-02"], sessions=["1"])
    change_events(
        study,
        lambda text: cells(text, lambda o, d, t: (f"{float(o) / 60:g}", f"{float(d) / 60:g}", t)),
        people=["sub-03"],
        sessions=["1"],
    )
    problems = {(p.severity, p.code, Path(p.file).name[:6]) for p in found(study)}
    assert problems >= {
        ("EXCL", "E-STAT-E04", "sub-01"),
        ("EXCL", "E-STAT-E02", "sub-02"),
        ("WARN", "W-DATA-B13", "sub-03"),
    }
    assert {file for _, _, file in problems} == {"sub-01", "sub-02", "sub-03"}


def test_a_scale_that_was_not_asked_is_named_and_one_of_nobody_stops(study):
    rows = (root_of(study) / PCL5).read_text().splitlines(keepends=True)
    write(root_of(study) / PCL5, "".join(row for row in rows if "sub-02" not in row and "ses-3" not in row))
    lines = [problem.what for problem in found(study)]
    assert lines == [
        "no row has the participant_id 'sub-02', which the study has",
        "no row has the session_id '3', which the study has",
    ]
    write(root_of(study) / PCL5, rows[0])
    (problem,) = check_scales(root_of(study), load_study(study / "config/config.yaml"), PEOPLE)
    assert (problem.severity, problem.code) == ("STOP", "E-BIDS-B16")


def test_rows_without_a_trial_type_are_named_and_the_run_is_modelled_from_the_others(study):
    bare = "112.0\t0.0\tn/a\n"  # a button press
    named = load_study(study / "config/config.yaml").tasks["memory"]
    path = root_of(study) / stem("sub-01", "1", EVENTS)
    without = name_events(read_events(path), named, duration=120.0)
    change_events(study, lambda text: text + bare)
    (cause,) = causes(found(study))
    assert (cause.problems[0].severity, len(cause.problems)) == ("WARN", 12)
    assert "1 of 5 rows have the trial_type n/a" in cause.line
    assert 'add "n/a" to tasks.memory.ignore' in cause.line
    assert name_events(read_events(path), named, duration=120.0).equals(without)
    recorded = [row for row in read_exclusions(study / "config/exclusions.tsv") if row.code == "W-BIDS-B13"]
    assert len(recorded) == 12, "what is left out stands among the exclusions"
    edit(study / "config/config.yaml", "events: each", 'events: each\n    ignore: ["n/a"]')
    assert check_study(study) == []


@pytest.mark.parametrize(
    ("high_pass", "severity", "code"), [(0.05, "STOP", "E-CONF-C13"), (0.008, None, None)]
)
def test_a_high_pass_above_the_tasks_own_frequency_stops_before_any_compute(study, high_pass, severity, code):
    edit(study / "config/config.yaml", "first_level:", f"first_level:\n  high_pass: {high_pass}")
    problems = [(p.severity, p.code) for p in found(study)]
    assert problems == ([(severity, code)] if code else [])


def test_a_band_that_no_run_has_stops_before_any_compute(study):
    table, _ = index_dataset(root_of(study), load_study(study / "config/config.yaml"))
    text = (study / "config/config.yaml").read_text()
    coupling = "connectivity:\n  task: memory\n  pairs: [[amygdala_left, amygdala_right]]\n"
    for band, codes in (("[0.01, 0.1]", set()), ("[0.3, 0.4]", {("STOP", "E-STAT-E03")})):
        with_band = f"{coupling}  conditions: [trauma]\n  band: {band}\nscales:"
        (study / "config/config.yaml").write_text(text.replace("scales:", with_band))
        problems = check_band(load_study(study / "config/config.yaml"), table)
        assert {(p.severity, p.code) for p in problems} == codes


@pytest.mark.parametrize(
    ("high_pass", "expected"), [(0.002, None), (0.004, "W-STAT-E02"), (0.008, "E-CONF-C13")]
)
def test_scripts_of_two_minutes_need_a_lower_high_pass_than_the_demo(high_pass, expected):
    """The published design has cycles of 240 s, 0.0042 Hz; 0.002 Hz is what its study file has."""
    settings = load_study(Path(__file__).parents[1] / "config/trials/reconsolidation.yaml")
    first_level = settings.first_level.model_copy(update={"high_pass": high_pass})
    timing = timing_of("full")
    events = pd.DataFrame([(o, d, kind) for kind, o, d in timing.scripts], columns=list(COLUMNS))
    run = pd.DataFrame([{"events": "x", "tr": timing.tr, "n_volumes": timing.n_volumes}])
    problems = _filtered(first_level, settings.tasks["Memory"], run, {"x": events})
    assert {p.code for p in problems} == ({expected} if expected else set())


def test_a_trial_type_in_another_spelling_is_named_beside_the_one_it_looks_like(study):
    change_events(study, lambda text: text.replace("trauma\n", "Trauma \n"), people=PEOPLE[:1])
    problems = found(study)
    assert {(p.severity, p.code) for p in problems} == {("STOP", "E-BIDS-B13")}
    assert "'Trauma ' (looks like 'trauma')" in causes(problems)[0].line


# Recordings


def with_recordings(study: Path, unit: str, own: dict[str, str] | None = None) -> None:
    root = root_of(study)
    edit(
        study / "config/config.yaml",
        "scales:",
        "skin_conductance: {task: memory, conditions: [trauma]}\nscales:",
    )
    described = {"SamplingFrequency": 100, "StartTime": 0, "Columns": ["skin_conductance"]}
    write(root / "task-memory_physio.json", json.dumps(described | {"skin_conductance": {"Units": unit}}))
    for person in PEOPLE:
        for session in SESSIONS:
            path = root / stem(person, session, "task-memory_run-1_physio.tsv.gz")
            path.write_bytes(gzip.compress(b"1\n2\n"))
    for person, other in (own or {}).items():
        path = root / person / f"{person}_task-memory_physio.json"
        write(path, json.dumps({"skin_conductance": {"Units": other}}))


def test_recordings_without_a_unit_of_conductance_are_one_line(study):
    with_recordings(study, "mV")
    (cause,) = causes(found(study))
    assert cause.problems[0].severity == "STOP"
    assert "'mV', none of conductance" in cause.line
    assert "12 like this" in cause.line


def test_a_recording_in_another_unit_is_out_and_the_others_go_on(study):
    with_recordings(study, "uS", {"sub-02": "V"})
    problems = found(study)
    assert [(p.severity, p.participant_id) for p in problems] == [("EXCL", "sub-02")] * 3


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("StartTime", None, "StartTime is None, not a number"), ("StartTime", "0", "not a number"),
     ("SamplingFrequency", 1, "sampled at 1 Hz"), ("SamplingFrequency", "100", "not a number")],
)  # fmt: skip
def test_a_recording_that_its_json_does_not_describe_is_found_before_compute(study, key, value, says):
    with_recordings(study, "uS")
    path = root_of(study) / "sub-03/sub-03_task-memory_physio.json"
    write(path, json.dumps({key: value}))
    problems = found(study)
    assert [(p.severity, p.participant_id) for p in problems] == [("EXCL", "sub-03")] * 3
    assert says in problems[0].what


# Scales


PHENOTYPE = {
    "zero lost by a spreadsheet": (("sub-0", ""), "STOP", "'sub-1' meets nobody; the study has 'sub-01'"),
    "trailing blank in id": (("sub-03\t", "sub-03 \t"), "STOP", "'sub-03 ' meets nobody"),
    "capital id": (("sub-03", "SUB-03"), "STOP", "the study has 'sub-03'"),
    "one zero lost": (("sub-03", "sub-3"), "STOP", "'sub-3' meets nobody; the study has 'sub-03'"),
    "visit padded": (("ses-", "ses-0"), "STOP", "'01' meets nobody; the study has '1'"),
    "visit as 1.0": (("ses-1", "1.0"), "STOP", "'1.0' meets nobody"),
    "blank in visit": (("sub-03\tses-2", "sub-03\tses-2 "), "STOP", "'2 ' meets nobody"),
    "another id": (("sub-03", "sub-33"), "WARN", "participant_id 'sub-33' (3 rows) meets nobody"),
    "another visit": (("ses-2", "screening"), "WARN", "session_id 'screening' (4 rows) meets nobody"),
    "decimal comma": (("\t40", "\t40,5"), "EXCL", "total is '40,5', not a number"),
    "out of range": (("sub-02\tses-1\t40", "sub-02\tses-1\t400"), "EXCL", "total is 400, outside 0 to 80"),
}


@pytest.mark.parametrize("fault", PHENOTYPE)
def test_ids_visits_and_totals_that_cannot_be_used_are_named(study, fault):
    (old, new), severity, says = PHENOTYPE[fault]
    path = root_of(study) / PCL5
    path.write_text(path.read_text().replace(old, new))
    (cause,) = causes(found(study))
    assert cause.problems[0].severity == severity
    assert says in cause.line


def test_visits_under_other_names_altogether_stop(study):
    path = root_of(study) / PCL5
    for session, name in zip(SESSIONS, ("baseline", "post", "followup"), strict=True):
        path.write_text(path.read_text().replace(f"ses-{session}", name))
    (problem,) = found(study)
    assert problem.severity == "STOP"
    assert "no session_id is of the study: it has ['baseline', 'post', 'followup']" in problem.what


# Labels of the dataset


def test_two_spellings_of_a_session_of_the_dataset_stop_the_index(study, capsys):
    folder = root_of(study) / "sub-02/ses-1"
    for path in folder.rglob("*ses-1*"):
        path.rename(path.with_name(path.name.replace("ses-1", "ses-01")))
    folder.rename(folder.with_name("ses-01"))
    assert main(["index", "--study", str(study)]) == 1
    assert (
        "E-CONF-C10 bids: spellings of the session that look like one: '1' and '01'"
        in capsys.readouterr().out
    )


# Order of visits


def dated(study: Path, days: dict[str, dict[str, str]]) -> None:
    for person, of in days.items():
        for session, date in of.items():
            rows = f"filename\tacq_time\nfunc/x_bold.nii.gz\t{date}\n"
            write(root_of(study) / f"{person}/ses-{session}/{person}_ses-{session}_scans.tsv", rows)


def rename_sessions(study: Path, names: dict[str, str]) -> None:
    for old, new in names.items():
        for path in sorted(root_of(study).rglob(f"*ses-{old}*"), key=lambda path: -len(path.parts)):
            path.rename(path.with_name(path.name.replace(f"ses-{old}", f"ses-{new}")))
        path = root_of(study) / PCL5
        path.write_text(path.read_text().replace(f"ses-{old}\t", f"ses-{new}\t"))


def with_arms(study: Path, column: str = "arm", arms=("placebo", "ketamine")) -> None:
    path = root_of(study) / "participants.tsv"
    head, *rows = path.read_text().splitlines()
    text = [f"{head}\t{column}", *(f"{row}\t{arms[n % 2]}" for n, row in enumerate(rows))]
    path.write_text("\n".join(text) + "\n")


NAMES = {"1": "pre", "2": "post", "3": "fu30"}


def test_init_orders_named_visits_by_their_dates(study, tmp_path):
    rename_sessions(study, NAMES)
    with_arms(study)
    dated(study, {
        "sub-01": {"pre": "1901-03-01T10:00:00", "post": "1901-03-08", "fu30": "1901-04-01"},
        "sub-02": {"pre": "1905-01-01", "post": "1905-01-07T09:00:00.5Z"},
        "sub-03": {"pre": "n/a", "fu30": "1910-05-01"},
    })  # fmt: skip
    assert main(["init", str(tmp_path / "new"), "--bids", str(root_of(study))]) == 0
    drafted = load_study(tmp_path / "new/config/config.yaml")
    assert [(s.id, s.day) for s in drafted.sessions] == [("pre", 0), ("post", 6), ("fu30", 31)]
    assert drafted.group.primary.session == "post"
    assert [p.code for p in found(tmp_path / "new") if p.severity == "STOP"] == []


def test_init_leaves_the_days_of_named_visits_open_and_check_stops_at_their_lines(study, tmp_path):
    rename_sessions(study, NAMES)
    with_arms(study)
    assert main(["init", str(tmp_path / "new"), "--bids", str(root_of(study))]) == 0
    lines = (tmp_path / "new/config/config.yaml").read_text().splitlines()
    (problem,) = [p for p in found(tmp_path / "new") if p.severity == "STOP"]
    at = [str(n) for n, line in enumerate(lines, start=1) if "id: " in line]
    assert f"lines {', '.join(at)}: the days of the visits ['fu30', 'post', 'pre'] are open" in problem.what


def test_the_run_table_is_in_the_order_of_the_visits(study, tmp_path):
    """So that the baseline, not the first label by alphabet, is what other sessions are compared with."""
    rename_sessions(study, NAMES)
    config = study / "config/config.yaml"
    for old, new in NAMES.items():
        edit(config, f'id: "{old}"', f'id: "{new}"')
    edit(config, 'session: "2"', 'session: "post"')
    table, _ = index_dataset(root_of(study), load_study(config))
    own = table[table["participant_id"] == "sub-03"]
    assert list(own["session_id"]) == list(NAMES.values())


def test_dates_against_the_order_of_the_study_file_are_named(study):
    root, settings = root_of(study), load_study(study / "config/config.yaml")
    right = {"1": "1901-03-01", "2": "1901-03-08", "3": "1901-04-01"}
    dated(study, dict.fromkeys(PEOPLE, right))
    assert check_visits(root, settings) == []
    swapped = {**right, "1": "1901-03-08", "2": "1901-03-01"}
    dated(study, {"sub-01": swapped})
    (problem,) = check_visits(root, settings)
    assert problem.severity == "WARN"
    assert "1 of 4 people: sub-01" in problem.what
    dated(study, dict.fromkeys(PEOPLE, swapped))
    assert [p.severity for p in check_visits(root, settings)] == ["STOP"]


def test_order_by_time_needs_dates_that_tell_it(tmp_path):
    write(
        tmp_path / "sub-01/sub-01_sessions.tsv",
        "session_id\tacq_time\nses-b\t2001-01-01\nses-a\t2001-01-09\n",
    )
    write(
        tmp_path / "sub-02/sub-02_sessions.tsv", "session_id\tacq_time\nses-b\t10:00:00\nses-c\t2001-01-09\n"
    )
    times = session_times(tmp_path)
    assert order_by_time(times, ["a", "b"]) == {"b": 0.0, "a": 8.0}
    assert order_by_time(times, ["a", "b", "c"]) is None
    assert "b" not in times["sub-02"], "a time of day is no date"


# Arms and blinding


def test_a_diagnosis_beside_the_arm_makes_init_ask(study, tmp_path, capsys):
    with_arms(study, "group", ("PTSD", "control"))
    with_arms(study, "arm")
    before = (root_of(study) / "participants.tsv").read_bytes()
    given = ["init", str(tmp_path / "new"), "--bids", str(root_of(study))]
    assert main(given) == 1
    said = capsys.readouterr().err
    assert "'arm' (placebo, ketamine) and 'group' (PTSD, control)" in said
    assert "--arm-column arm" in said
    assert not (tmp_path / "new/config").exists()
    assert main([*given, "--arm-column", "arm"]) == 0
    assert (root_of(study) / "participants.tsv").read_bytes() == before
    assert "sub-02\tketamine" in (tmp_path / "new/allocation.tsv").read_text()


@pytest.mark.parametrize("column", ["group", "condition", "drug", "treatment"])
def test_a_diagnosis_is_never_taken_for_the_arm(study, tmp_path, column, capsys):
    with_arms(study, column, ("PTSD", "healthy_control"))
    assert main(["init", str(tmp_path / "new"), "--bids", str(root_of(study))]) == 0
    assert f"--arm-column {column}" in capsys.readouterr().out
    assert load_study(tmp_path / "new/config/config.yaml").group is None
    assert not (tmp_path / "new/allocation.tsv").exists()
    assert not [p for p in found(tmp_path / "new") if p.code == "W-BIDS-F12"]


def test_arms_that_do_not_say_which_is_the_drug_are_left_open(study, tmp_path):
    with_arms(study, "arm", ("A", "B"))
    assert main(["init", str(tmp_path / "new"), "--bids", str(root_of(study))]) == 0
    said = [p.what for p in found(tmp_path / "new") if p.severity == "STOP"]
    assert said == ["group.arms.active is open", "group.arms.control is open"]


def test_arms_are_moved_only_when_asked_after_a_copy(study, tmp_path, capsys):
    with_arms(study)
    write(
        root_of(study) / "participants.json", json.dumps({"age": {}, "arm": {"Levels": {"ketamine": "drug"}}})
    )
    table = root_of(study) / "participants.tsv"
    before = table.read_bytes()
    given = ["init", str(tmp_path / "new"), "--bids", str(root_of(study))]
    assert main(given) == 0
    assert table.read_bytes() == before
    assert "delete the column 'arm'" in capsys.readouterr().out
    assert main([*given, "--move-arms"]) == 0, "also afterwards"
    assert "arm" not in table.read_text()
    assert "arm" not in json.loads((root_of(study) / "participants.json").read_text())
    assert (tmp_path / "new/participants_before_move.tsv").read_bytes() == before
    assert main([*given, "--move-arms"]) == 1, "there is none any more"


def test_an_arm_that_the_allocation_does_not_hold_is_not_taken_away(study, tmp_path, capsys):
    with_arms(study)
    given = ["init", str(tmp_path / "new"), "--bids", str(root_of(study))]
    assert main(given) == 0
    edit(tmp_path / "new/allocation.tsv", "sub-02\tketamine", "sub-02\tplacebo")
    before = (root_of(study) / "participants.tsv").read_bytes()
    assert main([*given, "--move-arms"]) == 1
    assert "it holds another arm, or none, for sub-02" in capsys.readouterr().err
    assert (root_of(study) / "participants.tsv").read_bytes() == before


def test_a_column_that_goes_with_the_arms_is_found_under_any_name_and_without_its_values(tmp_path):
    people = [f"sub-{n:02d}" for n in range(8)]
    arms = {person: ("ketamine", "midazolam")[n % 2] for n, person in enumerate(people)}
    rows = "".join(f"{p}\t{'xy'[n % 2]}\t{'FM'[n // 4]}\n" for n, p in enumerate(people))
    write(tmp_path / "participants.tsv", "participant_id\tlist\tsex\n" + rows)
    write(tmp_path / "phenotype/pcl5.tsv", "participant_id\tsession_id\tdrug_given\n" + "".join(
        f"{p}\tses-{s}\t{arms[p]}\n" for p in people for s in (1, 2)))  # fmt: skip
    problems = check_blinding(tmp_path, arms)
    assert [(p.file, p.what.split("'")[1]) for p in problems] == [
        ("participants.tsv", "list"), ("phenotype/pcl5.tsv", "drug_given")
    ]  # fmt: skip
    assert "ketamine" not in "".join(p.line for p in problems)


@pytest.mark.parametrize(
    ("column", "values", "sure"),
    [("arm", "AB", True), ("group", ["ketamine", "midazolam"], True), ("Trial Arm", "AB", True),
     ("tx", ["ketamine 0.5", "placebo"], True), ("group", ["PTSD", "control"], False),
     ("group", ["ketamine", "control"], False)],
)  # fmt: skip
def test_what_may_be_an_arm(tmp_path, column, values, sure):
    write(
        tmp_path / "t.tsv",
        f"participant_id\tage\tarm_length\t{column}\n1\t30\t5\t{values[0]}\n2\t31\t6\t{values[1]}\n",
    )
    (candidate,) = candidates(read_table(tmp_path / "t.tsv"))
    assert (candidate.column, candidate.sure) == (column, sure)
    assert telling_columns(read_table(tmp_path / "t.tsv"), {"1": "a", "2": "b"}) == [], (
        "two people tell nothing"
    )


# init in every layout


def flat(study: Path) -> None:
    """One session, and its folder and entity gone."""
    root = root_of(study)
    for path in sorted(root.glob("sub-*/ses-*/*/*")):
        if "ses-1" in path.name:
            target = (
                root / path.relative_to(root).parts[0] / path.parent.name / path.name.replace("_ses-1", "")
            )
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
    for path in sorted(root.rglob("ses-*"), key=lambda path: -len(path.parts)):
        for file in path.rglob("*"):
            if file.is_file():
                file.unlink()
        for folder in sorted(path.glob("*")):
            folder.rmdir()
        path.rmdir()
    write(root / PCL5, "participant_id\ttotal\n" + "".join(f"{person}\t40\n" for person in PEOPLE))


def one_session(study: Path) -> None:
    root = root_of(study)
    for path in sorted(root.rglob("*ses-[23]*"), key=lambda path: -len(path.parts)):
        path.rmdir() if path.is_dir() and not list(path.iterdir()) else None
        path.unlink() if path.is_file() else None
    for person in PEOPLE:
        for session in ("2", "3"):
            for folder in sorted((root / person / f"ses-{session}").rglob("*"), reverse=True):
                folder.rmdir()
            (root / person / f"ses-{session}").rmdir()
    write(root / PCL5, "participant_id\tsession_id\ttotal\n" + "".join(f"{p}\tses-1\t40\n" for p in PEOPLE))


def rest_only(study: Path) -> None:
    for path in root_of(study).rglob("*_events.tsv"):
        path.unlink()


def odd_trial_types(study: Path) -> None:
    change_events(
        study, lambda text: text.replace("\ttrauma\n", "\tTrauma: 1, {a}\n", 1).replace("relax", "放松")
    )


def no_name(study: Path) -> None:
    write(root_of(study) / "dataset_description.json", '{"Name": "", "BIDSVersion": "1.10.0"}')


LAYOUTS = {"sessions": lambda study: None, "no sessions": flat, "one session": one_session,
           "rest only": rest_only, "odd trial types": odd_trial_types, "no name": no_name,
           "named sessions": lambda study: rename_sessions(study, NAMES)}  # fmt: skip


@pytest.mark.parametrize("arms", [None, ("placebo", "ketamine"), ("A", "B")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_drafted_study_passes_its_own_index(study, tmp_path, layout, arms):
    LAYOUTS[layout](study)
    if arms:
        with_arms(study, "arm", arms)
    new = tmp_path / "new"
    assert main(["init", str(new), "--bids", str(root_of(study))]) == 0
    assert main(["index", "--study", str(new)]) == 0
    drafted = load_study(new / "config/config.yaml")
    assert (drafted.group is not None) == bool(arms and layout != "rest only")
    codes = {p.code for p in check_study(new) if p.severity == "STOP"}
    expected = {"E-CONF-C04"} if arms == ("A", "B") and layout != "rest only" else set()
    expected |= {"E-CONF-C09"} if layout == "named sessions" else set()
    assert codes == expected


def test_a_draft_names_its_schema_and_its_marks_are_counted(study, tmp_path):
    new = tmp_path / "new"
    assert main(["init", str(new), "--bids", str(root_of(study))]) == 0
    text = (new / "config/config.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=config.schema.json\n")
    assert "sessions" in json.loads((new / "config/config.schema.json").read_text())["properties"]
    (marked,) = [p for p in found(new) if p.code == "W-CONF-C11"]
    lines = [n for n, line in enumerate(text.splitlines(), start=1) if "CORRECT" in line and line[0] != "#"]
    assert f"lines {', '.join(map(str, lines))} still bear the mark" in marked.what
    (new / "config/config.yaml").write_text(text.replace("CORRECT", "done"))
    assert not [p for p in check_study(new) if p.code == "W-CONF-C11"]


# How it is said


def many(n: int = 100) -> list[Problem]:
    return [
        Problem(
            "EXCL",
            "E-DATA-B13",
            f"an onset is negative (-{i} s)",
            "repair it",
            f"sub-{i:03d}/{'x' * 120}_events.tsv",
        )
        for i in range(n)
    ]


def test_one_cause_is_one_line_with_a_count_and_three_examples():
    other = Problem("WARN", "W-BIDS-A07", "sub-01 has no usable scan in session 2", "none", "sub-01")
    another = Problem("WARN", "W-BIDS-A07", "sub-02 has no usable scan in session 3", "none", "sub-02")
    stop = Problem("STOP", "E-CONF-C04", "contrast 'a' is unknown", "correct it", "c.yaml")
    other_stop = Problem("STOP", "E-CONF-C04", "contrast 'b' is unknown", "correct it", "c.yaml")
    lines = [cause.line for cause in causes([*many(), other, another, stop, other_stop])]
    assert len(lines) == 4
    assert lines[:2] == [stop.line, other_stop.line], "another name is another cause"
    assert all(f"sub-00{i}/" in lines[2] for i in range(3))
    assert "100 like this" in lines[2]
    assert "and 97 more" in lines[2]
    assert "2 like this; also sub-02]" in lines[3]


@pytest.mark.parametrize("columns", ["20", "80"])
def test_a_path_is_never_cut(study, columns, capsys, monkeypatch):
    from reconfmri.cli.screen import show_problems

    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    show_problems(many(3))
    said = capsys.readouterr().out
    assert all(problem.file in said.splitlines()[0] for problem in many(3))


def test_the_page_holds_every_file_and_no_markup_of_the_data(study, tmp_path, capsys):
    evil = Problem("STOP", "E-BIDS-B13", "the trial type '<script>x</script>' is new", "name it", "a&b.tsv")
    page = problem_page([*many(5), evil], study)
    assert "<script" not in page
    assert all(problem.file in page for problem in many(5))
    assert main(["check", "--study", str(study), "--html", str(tmp_path / "p.html")]) == 1
    assert "E-BIDS-A13" in (tmp_path / "p.html").read_text()
