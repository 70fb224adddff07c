"""BIDS: names, inheritance, the run table and its frozen state, on made and on real layouts."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconfmri import bids
from reconfmri.config import Session, load_study
from reconfmri.decisions import keep_decisions
from reconfmri.exclusions import Exclusion, read_exclusions, write_exclusions
from reconfmri.indexing import index_dataset, write_index
from reconfmri.trial.allocation import read_allocation

sys.path.insert(0, str(Path(__file__).parent / "faults"))
from make_bids import PEOPLE, bold, edit, make_bids, save_image, stem, write

ROOT = Path(__file__).resolve().parents[1]


def study_of(folder, **changes):
    return load_study(folder / "config/config.yaml").model_copy(update=changes)


def indexed(folder):
    return index_dataset(folder.parent / "bids", study_of(folder))


# names


def test_a_name_is_folders_entities_suffix_in_the_order_of_bids():
    path = bids.bids_path(
        "out", sub="01", run="2", task="x", ses="1", datatype="func", suffix="bold", ext=".nii"
    )
    assert path == "out/sub-01/ses-1/func/sub-01_ses-1_task-x_run-2_bold.nii"


def test_an_absent_session_leaves_no_trace():
    path = bids.bids_path(
        "out", sub="01", ses=None, datatype="anat", from_="A", to="B", suffix="xfm", ext=".h5"
    )
    assert path == "out/sub-01/anat/sub-01_from-A_to-B_xfm.h5"


def test_a_misspelt_entity_fails_at_once():
    with pytest.raises(ValueError, match=r"\['sesion'\]; known are"):
        bids.bids_path("out", sub="01", sesion="1", datatype="func", suffix="bold", ext=".nii")


@pytest.mark.parametrize("value", ["../x", "face-x", "face_x", "", "a b", "1.5", "{sub", "{sub}x", "é"])
@pytest.mark.parametrize("key", ["sub", "ses", "contrast", "datatype", "suffix"])
def test_a_value_that_is_no_label_makes_no_name(key, value):
    given = {"sub": "01", "datatype": "func", "suffix": "bold"} | {key: value}
    with pytest.raises(ValueError, match="no BIDS label"):
        bids.bids_path("out", ext=".nii", **given)


def test_a_name_is_read_back():
    file = bids.parse_name("sub-01/func/sub-01_task-x_run-01_bold.nii.gz")
    assert file.entities == {"sub": "01", "task": "x", "run": "01"}
    assert (file.suffix, file.ext) == ("bold", ".nii.gz")


@pytest.mark.parametrize(
    "name", ["sub-01_task-a b_bold.nii", "sub-_bold.nii", "sub-01_sub-02_bold.nii", "x-é_bold.nii"]
)
def test_a_malformed_name_is_refused(name):
    with pytest.raises(ValueError, match="is not key-label"):
        bids.parse_name(name)


HOSTILE = [
    "../x",
    "/abs",
    "-rf",
    "a b",
    "a\n",
    "\n",
    "a;b",
    "$(id)",
    "`id`",
    "a/b",
    "é",
    "",
    ".",
    "a_b",
    "a\0",
]


@settings(max_examples=200, deadline=None)
@given(label=st.one_of(st.sampled_from([*HOSTILE, "+", "mb4+ipat2"]), st.text(max_size=8)))
def test_a_label_is_letters_and_digits_or_refused(label):
    """Labels become wildcards, file names and shell words: nothing but `+` (BIDS 1.11) may pass beside."""
    harmless = re.fullmatch(r"[a-zA-Z0-9+]+", label) is not None and label.isascii()
    for check in (_as_session, _as_entity, _as_participant):
        try:
            check(label)
        except ValueError:
            assert not harmless
        else:
            assert harmless, f"{check.__name__} let {label!r} pass"


def _as_session(label):
    Session.model_validate_json(json.dumps({"id": label, "name": "x", "day": 0}))


def _as_entity(label):
    name = f"sub-{label}_bold.nii.gz"
    if bids.parse_name(name).entities.get("sub") != label:
        raise ValueError(label)


def _as_participant(label):
    if not bids.PARTICIPANT.fullmatch(f"sub-{label}"):
        raise ValueError(label)


# inheritance


def test_the_nearest_sidecar_wins_key_by_key(tmp_path):
    path = bold("sub-01", "1")
    session = "sub-01/ses-1/sub-01_ses-1_task-memory_bold.json"
    levels = ["task-memory_bold.json", "sub-01/sub-01_task-memory_bold.json", session]
    levels.append(path.replace(".nii.gz", ".json"))
    for depth, name in enumerate(levels):
        write(tmp_path / name, json.dumps({"depth": depth, f"only_{depth}": True}))
    metadata = bids.read_sidecar(tmp_path, path)
    assert metadata == {"depth": 3, **{f"only_{depth}": True for depth in range(4)}}


def test_sidecars_of_other_tasks_people_and_suffixes_are_not_inherited(tmp_path):
    write(tmp_path / "task-rest_bold.json", '{"a": 1}')
    write(tmp_path / "task-memory_events.json", '{"a": 2}')
    write(tmp_path / "sub-01/ses-2/sub-01_ses-2_bold.json", '{"a": 3}')
    assert bids.read_sidecar(tmp_path, bold("sub-01", "1")) == {}


def test_each_run_has_the_repetition_time_of_its_own_sidecar(tmp_path):
    table, problems = indexed(make_bids(tmp_path, ["other TR, allowed"]))
    assert not problems
    assert dict(table.groupby("participant_id")["tr"].first()) == {
        p: 0.8 if p == "sub-01" else 2.0 for p in PEOPLE
    }


def test_events_at_the_top_serve_every_run_without_its_own(tmp_path):
    study = make_bids(tmp_path)
    own = tmp_path / "bids" / stem("sub-01", "1", "task-memory_run-1_events.tsv")
    shutil.move(own, tmp_path / "bids/task-memory_events.tsv")
    table, problems = indexed(study)
    assert not problems
    assert table["events"].iloc[0] == "task-memory_events.tsv"
    assert table["events"].iloc[1] == stem("sub-01", "2", "task-memory_run-1_events.tsv")


# the run table


def test_a_sound_dataset_is_one_row_per_scan(tmp_path):
    table, problems = indexed(make_bids(tmp_path))
    assert not problems
    assert len(table) == 18
    row = table.iloc[4].to_dict()
    assert row | {"bold_sha256": "", "t1w_sha256": "", "events_sha256": ""} == {
        "participant_id": "sub-02", "session_id": "2", "task": "memory", "run": "1",
        "bold": bold("sub-02", "2"), "t1w": "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
        "events": stem("sub-02", "2", "task-memory_run-1_events.tsv"), "physio": "n/a",
        "tr": 2.0, "n_volumes": 60, "bold_sha256": "", "t1w_sha256": "", "events_sha256": "",
        "physio_sha256": "n/a",
    }  # fmt: skip
    assert row["bold_sha256"] == bids.sha256(tmp_path / "bids" / bold("sub-02", "2"))


def test_the_anatomy_of_the_session_comes_first_then_the_earliest(tmp_path):
    study = make_bids(tmp_path)
    for session in ("2", "3"):
        path = f"sub-01/ses-{session}/anat/sub-01_ses-{session}_T1w.nii.gz"
        save_image(tmp_path / "bids" / path, np.random.default_rng(0), volumes=1)
    (tmp_path / "bids/sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz").unlink()
    table, _ = indexed(study)
    own = table[table["participant_id"] == "sub-01"]
    assert [path.split("/")[1] for path in own["t1w"]] == ["ses-2", "ses-2", "ses-3"]


def test_no_anatomy_takes_the_person_out(tmp_path):
    study = make_bids(tmp_path)
    shutil.rmtree(tmp_path / "bids/sub-01/ses-1/anat")
    table, problems = indexed(study)
    assert {p.code for p in problems} == {"E-BIDS-A14"}
    assert "sub-01" not in set(table["participant_id"])


def test_a_link_that_leads_nowhere_takes_the_run_out_and_names_the_fix(tmp_path):
    study = make_bids(tmp_path)
    image = tmp_path / "bids" / bold("sub-01", "1")
    image.unlink()
    image.symlink_to("../../../.git/annex/objects/absent")
    table, problems = indexed(study)
    assert len(table) == 17
    assert "datalad get" in next(p.line for p in problems if p.code == "E-BIDS-A15")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "not a readable"), (b"text", "not a readable"), (b"\x1f\x8b\x08\0bad", "not a")],
)
def test_what_is_no_image_takes_the_run_out(tmp_path, content, says):
    study = make_bids(tmp_path)
    (tmp_path / "bids" / bold("sub-01", "1")).write_bytes(content)
    table, problems = indexed(study)
    assert [p.code for p in problems] == ["E-BIDS-B01"]
    assert says in problems[0].line
    assert str(tmp_path) not in problems[0].line
    assert len(table) == 17


@pytest.mark.parametrize(
    ("tr", "unit", "fits"),
    [(2.0, "sec", True), (2000, "msec", True), (0.8, "sec", False), (2000, "sec", False)],
)
def test_header_and_sidecar_must_agree_on_the_repetition_time(tmp_path, tr, unit, fits):
    study = make_bids(tmp_path)
    save_image(tmp_path / "bids" / bold("sub-01", "1"), np.random.default_rng(0), tr=tr, unit=unit)
    _, problems = indexed(study)
    assert [p.code for p in problems] == ([] if fits else ["E-BIDS-B02"])


def test_a_fifth_of_the_runs_with_other_headers_stops_the_study(tmp_path):
    study = make_bids(tmp_path)
    for person in PEOPLE[:4]:
        save_image(tmp_path / "bids" / bold(person, "1"), np.random.default_rng(0), tr=1.5)
    _, problems = indexed(study)
    assert [p.what.split(";")[0] for p in problems if p.severity == "STOP"] == [
        "header and sidecar disagree on the repetition time in 4 of 18 scans"
    ]


def test_no_events_takes_a_task_with_conditions_out_but_not_rest(tmp_path):
    study = make_bids(tmp_path)
    for events in (tmp_path / "bids").glob("sub-01/ses-1/func/*_events.tsv"):
        events.unlink()
    _, problems = indexed(study)
    assert [p.code for p in problems] == ["E-BIDS-B14"]
    edit(study / "config/config.yaml", "{trauma: trauma, relax: neutral}", "{}")
    edit(
        study / "config/config.yaml",
        "first_level:\n  task: memory\n  contrasts: {trauma-neutral: {trauma: 1, neutral: -1}}\n",
        "",
    )
    text = (study / "config/config.yaml").read_text()
    (study / "config/config.yaml").write_text(text[: text.index("group:")] + "group: none\n")
    table, problems = indexed(study)
    assert not problems
    assert len(table) == 18


def test_other_tasks_and_sessions_are_counted_not_read(tmp_path):
    study = make_bids(tmp_path)
    (tmp_path / "bids" / stem("sub-01", "1", "task-rest_bold.nii.gz")).write_bytes(b"not even an image")
    session = tmp_path / "bids/sub-01/ses-9/func/sub-01_ses-9_task-memory_run-1_bold.nii.gz"
    session.parent.mkdir(parents=True)
    session.write_bytes(b"neither")
    table, problems = indexed(study)
    assert len(table) == 18
    assert [p.line.split(":")[0] for p in problems if p.code == "W-BIDS-A18"] == [
        "W-BIDS-A18 1 scan of session 9 left alone",
        "W-BIDS-A18 1 scan of task rest left alone",
    ]


def test_sessions_of_another_spelling_are_one_clear_stop(tmp_path):
    study = make_bids(tmp_path)
    text = (study / "config/config.yaml").read_text()
    for session in "123":
        text = text.replace(f'id: "{session}"', f'id: "0{session}"')
    (study / "config/config.yaml").write_text(text.replace('session: "2"', 'session: "02"'))
    _, problems = indexed(study)
    assert [p.code for p in problems if p.severity == "STOP"] == ["E-BIDS-A17"]
    assert "the data have the sessions ['1', '2', '3'], the study file ['01', '02', '03']" in problems[0].line


def test_a_scan_outside_sessions_among_scans_in_sessions_stops(tmp_path):
    study = make_bids(tmp_path)
    image = tmp_path / "bids/sub-01/func/sub-01_task-memory_bold.nii.gz"
    save_image(image, np.random.default_rng(0))
    _, problems = indexed(study)
    assert "E-BIDS-A17" in {p.code for p in problems if p.severity == "STOP"}


def test_what_is_written_is_read_back_in_the_types_of_the_contract(tmp_path):
    study = make_bids(tmp_path)
    table, problems = indexed(study)
    write_index(study / "config", tmp_path / "bids", table, problems)
    again = bids.read_run_table(study / "config/runs.tsv")
    assert again.equals(table.astype(again.dtypes))
    assert again["tr"].dtype == "float64"
    assert again["n_volumes"].dtype == "int64"
    assert set(again["physio"]) == {"n/a"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("sub-01\t1\tmemory", "01\t1\tmemory", "line 2: participant_id '01'"),
        ("sub-01\t1\tmemory", "sub-01\t../1\tmemory", "line 2: session_id '../1'"),
        ("sub-01\t1\tmemory", "sub-01\tn/a\tmemory", "some scans have a session, others none"),
        ("sub-01\t2\tmemory", "sub-01\t1\tmemory", "lines [2, 3] name the same scan"),
        ("\t2\t60", "\t0\t60", "tr and n_volumes must be positive"),
        ("\t2\t60", "\ttwo\t60", "'two' is not a number"),
        ("\tsub-01/ses-1/anat", "\t/etc/anat", "leaves the BIDS folder"),
        ("\tsub-01/ses-1/anat", "\t../../x", "leaves the BIDS folder"),
        ("\tphysio\t", "\tphys\t", "['physio'] are missing"),
    ],
)
def test_a_run_table_edited_wrongly_is_refused_with_its_line(tmp_path, old, new, says):
    study = make_bids(tmp_path, people=PEOPLE[:2])
    table, problems = indexed(study)
    write_index(study / "config", tmp_path / "bids", table, problems)
    edit(study / "config/runs.tsv", old, new)
    with pytest.raises(ValueError) as error:
        bids.read_run_table(study / "config/runs.tsv")
    assert says in str(error.value)


def test_what_the_analyst_decided_survives_a_new_index(tmp_path):
    study = make_bids(tmp_path)
    table, problems = indexed(study)
    decided = Exclusion("sub-02", "1", stage="review", code="USER", reason="asleep", decided_by="A. Nalyst")
    write_exclusions(study / "config/exclusions.tsv", [decided])
    kept = write_index(study / "config", tmp_path / "bids", table, problems)
    assert len(kept) == 17
    assert read_exclusions(study / "config/exclusions.tsv") == [decided]
    assert len(keep_decisions(table, [Exclusion("sub-02", code="W-X")])) == 18, "remarks take nobody out"


def test_the_quick_check_sees_small_changes_the_full_one_all(tmp_path, monkeypatch):
    monkeypatch.setattr(bids, "SMALL", 1000)  # the tiny images count as large
    study = make_bids(tmp_path)
    root = tmp_path / "bids"
    table, problems = indexed(study)
    write_index(study / "config", root, table, problems)
    record = json.loads((study / "config/index.json").read_text())
    bids.verify_unchanged(table, root, record, full=True)
    image = root / bold("sub-01", "1")
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)
    bids.verify_unchanged(table, root, record)
    with pytest.raises(ValueError, match=r"E-BIDS-A13 .*changed.* Fix: index again"):
        bids.verify_unchanged(table, root, record, full=True)


# the allocation


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("sub-01\tA\nsub-01\tB\n", "lines 2 and 3"),
        ("01\tA\n", "must look like sub-01"),
        ("sub-01\tn/a\n", "nobody is allocated"),
        ("", "nobody is allocated"),
    ],
)
def test_a_malformed_allocation_is_refused_with_its_line(tmp_path, rows, says):
    write(tmp_path / "allocation.tsv", "participant_id\tarm\n" + rows)
    with pytest.raises(ValueError, match=says):
        read_allocation(tmp_path / "allocation.tsv")


def test_arm_labels_are_text_and_a_stratum_may_be_absent(tmp_path):
    write(tmp_path / "allocation.tsv", "participant_id\tarm\nsub-001\tNone\nsub-002\t1\n")
    table = read_allocation(tmp_path / "allocation.tsv")
    assert table.to_numpy().tolist() == [["sub-001", "None", "n/a"], ["sub-002", "1", "n/a"]]


# real layouts


def test_a_real_person_without_session_is_one_row(real_data):
    study = load_study(ROOT / "config/trials/studyforrest_sub02.yaml")
    table, problems = index_dataset(real_data / "studyforrest_sub02", study)
    assert not problems
    row = table.iloc[0]
    assert (row["participant_id"], row["session_id"], row["run"]) == ("sub-02", "n/a", "1")
    assert (row["tr"], row["n_volumes"]) == (2.0, 156)


def test_real_events_without_images_name_every_absent_scan(tmp_path, real_data):
    root = real_data / "ds000114_events"
    study = load_study(ROOT / "config/trials/studyforrest_sub02.yaml")
    visits = load_study(ROOT / "config/config.yaml").sessions[:2]
    sessions = [v.model_copy(update={"id": name}) for v, name in zip(visits, ("test", "retest"), strict=True)]
    tasks = {"linebisection": study.tasks["objectcategories"]}
    table, problems = index_dataset(root, study.model_copy(update={"sessions": sessions, "tasks": tasks}))
    assert table.empty
    assert sum(p.code == "E-BIDS-A15" for p in problems) == 20
    assert [p.code for p in problems if p.severity == "STOP"] == ["E-BIDS-A16"]


def test_real_inheritance_gives_each_task_its_own_repetition_time(real_data):
    root = real_data / "ds000114_events"
    times = {
        task: bids.read_sidecar(root, f"sub-01/ses-test/func/sub-01_ses-test_task-{task}_bold.nii.gz")[
            "RepetitionTime"
        ]
        for task in ("linebisection", "overtverbgeneration")
    }
    assert times == {"linebisection": 2.5, "overtverbgeneration": 5.0}
