"""BIDS as labs have it: names, filters, several images of a kind, field maps, files that were not fetched."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from reconfmri import bids
from reconfmri.checks import check_covariates, check_scales
from reconfmri.config import Task, load_study
from reconfmri.dataset import read_dataset
from reconfmri.derivatives import find_run
from reconfmri.events import read_events
from reconfmri.exclusions import DataFault
from reconfmri.fieldmaps import fieldmap_of
from reconfmri.indexing import index_dataset
from reconfmri.problems import exclusions_of
from reconfmri.selection import choose_anatomy

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "faults"))
import fake_fmriprep as fake
from make_bids import PCL5, PEOPLE, bold, edit, make_bids, save_image, stem, write
from make_bids import _field_maps as write_field_maps

TWO = PEOPLE[:2]
RNG = np.random.default_rng(1)
CONFIG = "config/config.yaml"
SKIN = "skin_conductance: {task: memory, conditions: [trauma]}\nscales:"


@cache
def _base():
    folder = tempfile.TemporaryDirectory()
    make_bids(Path(folder.name), (), TWO)
    return folder


def tiny(folder, *, settings="", field_maps=False):
    """A copy of two people's dataset and study."""
    shutil.copytree(_base().name, folder, dirs_exist_ok=True)
    study = folder / "study"
    if field_maps:
        write_field_maps(folder / "bids", people=TWO)
    if settings:
        edit(study / CONFIG, "scales:", f"{settings}\nscales:")
    return folder / "bids", study


def indexed(root, study):
    return index_dataset(root, load_study(study / CONFIG))


def renamed(root, old, new, pattern="sub-*/ses-*/func/*"):
    for path in sorted(root.glob(pattern)):
        if old in path.name:
            path.rename(path.with_name(path.name.replace(old, new)))


def copies(root, *new, old="_bold"):
    """Every functional image as several, each with another ending of its name; the first goes."""
    for path in sorted(root.glob(f"sub-*/ses-*/func/*{old}.nii.gz")):
        for name in new:
            shutil.copy(path, path.with_name(path.name.replace(old, name)))
        path.unlink()


def unfetched(path):
    path.unlink(missing_ok=True)
    path.symlink_to("../.git/annex/objects/aa/absent")


def with_recordings(root, name="task-memory_run-1_physio"):
    write(root / "task-memory_physio.json", json.dumps({"Columns": ["skin_conductance"]}))
    for person in TWO:
        for session in "123":
            (root / stem(person, session, f"{name}.tsv.gz")).write_bytes(b"any")


# what was not fetched takes out what hangs on it


@pytest.mark.parametrize(
    ("path", "code", "n_scans", "outcomes"),
    [
        (stem("sub-02", "1", "task-memory_run-1_bold.nii.gz"), "E-BIDS-A15", 5, {"n/a"}),
        (stem("sub-02", "1", "task-memory_run-1_events.tsv"), "E-BIDS-A15", 5, {"n/a"}),
        (stem("sub-02", "1", "task-memory_run-1_bold.json"), "E-BIDS-A15", 5, {"n/a"}),
        (stem("sub-02", "1", "task-memory_run-1_physio.tsv.gz"), "E-BIDS-A15", 6, {"scr.trauma"}),
        (stem("sub-02", "1", "task-memory_run-1_physio.json"), "E-BIDS-A15", 6, {"scr.trauma"}),
        ("sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz", "E-BIDS-A15", 3, {"n/a"}),
        ("participants.tsv", "W-BIDS-A02", 6, set()),
    ],
    ids=lambda value: Path(value).name.partition("run-1_")[2] or value if isinstance(value, str) else None,
)
def test_a_file_that_is_not_fetched_costs_what_hangs_on_it_and_names_the_command(
    path, code, n_scans, outcomes, tmp_path
):
    root, study = tiny(tmp_path)
    edit(study / CONFIG, "scales:", SKIN)
    with_recordings(root)
    unfetched(root / path)
    table, problems = indexed(root, study)
    assert {problem.code for problem in problems} == {code}
    assert all(f"`datalad get {path}`" in problem.line for problem in problems)
    assert not any(str(root) in problem.line for problem in problems)
    assert len(table) == n_scans
    assert {row.region for row in exclusions_of(problems)} == outcomes


def test_tables_of_the_study_that_are_not_fetched_name_the_command(tmp_path):
    root, study = tiny(tmp_path)
    covariate = "group:\n  covariates: {age: {column: age}}"
    edit(study / CONFIG, "group:", covariate)
    for path in (PCL5, "participants.tsv"):
        unfetched(root / path)
    settings = load_study(study / CONFIG)
    table, _ = index_dataset(root, settings)
    (scale,), (age,) = check_scales(root, settings, TWO), check_covariates(root, settings, table)
    assert "`datalad get phenotype/pcl5.tsv`" in scale.line
    assert "`datalad get participants.tsv`" in age.line


CONTENTS = {
    "a folder": None,
    "empty": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "text": b"root:x:0:0:secret\n",
    "latin-1": "onset\tdur\xe9e\n".encode("latin-1"),
    "UTF-16": "onset\tduration\n".encode("utf-16"),
    "zeros": bytes(64),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_of_another_kind_takes_out_its_unit_alone_and_shows_nothing_of_itself(kind, tmp_path):
    """Every file of one scan in turn; the other five scans are indexed as before."""
    root, study = tiny(tmp_path)
    edit(study / CONFIG, "scales:", SKIN)
    with_recordings(root)
    for name in ("bold.json", "events.tsv", "physio.json", "bold.nii.gz", "physio.tsv.gz"):
        path = root / stem("sub-02", "1", f"task-memory_run-1_{name}")
        before = path.read_bytes() if path.exists() else None
        path.unlink(missing_ok=True)
        path.mkdir() if kind == "a folder" else path.write_bytes(CONTENTS[kind])
        table, problems = indexed(root, study)
        told = [problem for problem in problems if problem.severity == "EXCL"]
        spared = name.startswith("physio")
        assert len(table) == (6 if spared else 5), (name, kind)
        if not (name == "physio.tsv.gz" and kind != "a folder"):  # what it holds is read by its own step
            assert len(told) == 1, (name, kind)
            assert Path(told[0].file).name == path.name
        assert not any("secret" in problem.line for problem in problems)
        path.rmdir() if kind == "a folder" else path.unlink()
        if before is not None:
            path.write_bytes(before)


def test_a_file_without_permission_says_so(tmp_path, monkeypatch):
    root, study = tiny(tmp_path)
    closed = {root / stem("sub-02", "1", "task-memory_run-1_events.tsv"), root / bold("sub-01", "3")}
    given = Path.open

    def refuse(self, *args, **kwargs):
        if self in closed:
            raise PermissionError(13, "Permission denied")
        return given(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)  # the test may run as root, whom nothing is closed to
    table, problems = indexed(root, study)
    assert len(table) == 4
    assert [problem.code for problem in problems] == ["E-BIDS-A15"] * 2
    assert all("cannot be opened (Permission denied)" in problem.line for problem in problems)


# .bidsignore and strays


STRAYS = {
    "sub-01/ses-1/func/sub-01_ses-1_task-memory_run-1_bold_old.nii.gz": "*_old.nii.gz",
    "sub-01/ses-1/func/notes.txt": "*.txt",
    "sub-01/ses-1/func/Thumbs.db": "Thumbs.db",
    "sub-01/ses-1/func/sub-01_ses-1_task-memory_run-1_bold (copy).json": "**/*copy*",
    "sub-01/ses-1/anat/sub-01_ses-1_T1w_defacemask.nii.gz": "/sub-01/ses-1/anat/*_defacemask.nii.gz",
}


@pytest.mark.parametrize("ignored", [True, False])
def test_stray_files_are_a_remark_and_none_where_bidsignore_names_them(ignored, tmp_path):
    root, study = tiny(tmp_path)
    for path in STRAYS:
        (root / path).write_text("{}")
    if ignored:
        (root / ".bidsignore").write_text(
            "# strays\n\n" + "\n".join(STRAYS.values()) + "\n", encoding="utf-8-sig"
        )
    table, problems = indexed(root, study)
    assert len(table) == 6
    assert [problem.code for problem in problems] == ([] if ignored else ["W-BIDS-A06"])
    assert ignored or "5 files" in problems[0].what


@pytest.mark.parametrize("pattern", ["sub-phantom/", "sub-phantom/**", "/sub-phantom", "sub-ph*\n!sub-01"])
def test_a_person_whom_bidsignore_takes_out_is_nobody(pattern, tmp_path):
    root, study = tiny(tmp_path)
    shutil.copytree(root / "sub-01", root / "sub-phantom")
    renamed(root, "sub-01", "sub-phantom", "sub-phantom/**/*.*")
    (root / ".bidsignore").write_text(pattern + "\n")
    table, problems = indexed(root, study)
    assert (len(table), problems) == (6, [])


def test_an_image_that_bidsignore_takes_out_is_no_rival_and_its_sidecar_is_not_inherited(tmp_path):
    root, study = tiny(tmp_path)
    image = root / stem("sub-01", "1", "task-memory_acq-fast_run-1_bold.nii.gz")
    shutil.copy(root / bold("sub-01", "1"), image)
    _, problems = indexed(root, study)
    assert "filters: {bold: {acq: ...}}" in next(p.line for p in problems if p.code == "E-BIDS-A05")
    write(root / "sub-01/sub-01_task-memory_bold.json", '{"RepetitionTime": 9}')
    (root / ".bidsignore").write_text("*acq-fast*\n/sub-01/*.json\n")
    table, problems = indexed(root, study)
    assert (len(table), problems) == (6, [])
    assert bids.read_sidecar(root, bold("sub-01", "1"))["RepetitionTime"] == 2.0


def test_a_bidsignore_that_cannot_be_read_stops(tmp_path):
    root, study = tiny(tmp_path)
    unfetched(root / ".bidsignore")
    _, problems = indexed(root, study)
    assert "`datalad get .bidsignore`" in next(p.line for p in problems if p.severity == "STOP")


# names and entities


def test_run_01_is_run_1_in_every_file(tmp_path):
    root, study = tiny(tmp_path, field_maps=True, settings=SKIN.partition("\n")[0])
    with_recordings(root)
    for end in ("_bold.nii.gz", "_physio.tsv.gz"):
        renamed(root, f"run-1{end}", f"run-01{end}")
    table, problems = indexed(root, study)
    assert problems == []
    assert set(table["run"]) == {"01"}
    assert (table["physio"] != "n/a").all()


def test_events_without_a_run_serve_the_only_run_and_another_run_is_named(tmp_path):
    root, study = tiny(tmp_path)
    renamed(root, "_run-1_events", "_events", "sub-01/ses-1/func/*")
    renamed(root, "_run-1_events", "_run-2_events", "sub-01/ses-2/func/*")
    table, problems = indexed(root, study)
    assert len(table) == 5
    assert {problem.session_id for problem in problems} == {"2"}
    assert "run-2_events.tsv, whose name says another run" in next(
        p.line for p in problems if p.code == "E-BIDS-B14"
    )


@pytest.mark.parametrize("entity", ["dir-AP", "acq-mb4+ipat2", "rec-moco", "echo-1", "part-mag"])
def test_one_image_with_more_entities_than_its_events_is_the_run(entity, tmp_path):
    root, study = tiny(tmp_path)
    renamed(root, "run-1_bold", f"{entity}_run-1_bold")
    table, problems = indexed(root, study)
    assert len(table) == 6
    lone = [("WARN", "W-BIDS-A25")] * 6 if entity == "echo-1" else []  # the others may not be fetched
    assert [(problem.severity, problem.code) for problem in problems] == lone


def test_a_plus_is_part_of_a_label_from_the_data_to_the_wildcards(tmp_path):
    root, study = tiny(tmp_path)
    renamed(root, "_ses-1_", "_ses-pre+drug_", "sub-*/ses-1/*/*")
    for folder in sorted(root.glob("sub-*/ses-1")):
        folder.rename(folder.with_name("ses-pre+drug"))
    edit(study / CONFIG, 'id: "1"', "id: pre+drug")
    table, problems = indexed(root, study)
    assert problems == []
    assert "pre+drug" in set(table["session_id"])
    name = bids.bids_path("out", datatype="func", suffix="bold", ext=".nii.gz", sub="01", ses="pre+drug")
    assert bids.parse_name(name).entities["ses"] == "pre+drug"
    assert bids.LABEL.fullmatch("pre+drug")
    rules = (Path(__file__).parents[1] / "workflow/rules/common.smk").read_text()
    assert "ses=LABEL.pattern" in rules


@pytest.mark.parametrize(
    ("place", "to"), [("sub-02", "nowhere"), ("sub-02", "sub-02"), ("sub-02/ses-2", ".gone")]
)
def test_a_folder_that_is_a_link_to_nowhere_is_named_and_no_drop_out(place, to, tmp_path):
    root, _ = tiny(tmp_path)
    shutil.rmtree(root / place)
    (root / place).symlink_to(to)
    _, problems = read_dataset(root)
    assert [(problem.severity, problem.code, problem.file) for problem in problems] == [
        ("EXCL", "E-BIDS-A15", place)
    ]
    (root / place).unlink()
    (root / place).write_text("a file")
    assert [problem.what for problem in read_dataset(root)[1]] == ["it is a file, a folder is needed"]


def test_a_link_that_leads_to_itself_is_named_as_one_to_nowhere(tmp_path):
    root, study = tiny(tmp_path)
    loop = root / stem("sub-02", "1", "task-memory_run-1_events.tsv")
    loop.unlink()
    loop.symlink_to(loop.name)
    table, problems = indexed(root, study)
    assert [(problem.code, problem.what) for problem in problems] == [
        ("E-BIDS-A15", "the link leads nowhere")
    ]
    assert len(table) == 5


def test_a_key_that_a_sidecar_has_twice_is_refused(tmp_path):
    (tmp_path / "x.json").write_text(
        '{"RepetitionTime": 2.0, "A": {"RepetitionTime": 1}, "RepetitionTime": 0.8}'
    )
    with pytest.raises(ValueError, match="the key 'RepetitionTime' is there twice"):
        bids.read_json(tmp_path / "x.json")


@pytest.mark.parametrize("magnitude", ["_part-mag_bold", "_bold"])
def test_phase_images_are_left_alone(magnitude, tmp_path):
    root, study = tiny(tmp_path)
    copies(root, "_part-phase_bold", "_sbref", "_part-mag_bold")
    renamed(root, "_part-mag_bold", magnitude)
    write(root / stem("sub-01", "1", "task-memory_run-1_part-phase_bold.json"), '{"Units": "rad"}')
    table, problems = indexed(root, study)
    assert len(table) == 6
    assert all(path.endswith(f"run-1{magnitude}.nii.gz") for path in table["bold"])
    assert [problem.what for problem in problems] == ["6 bold file(s) left alone: part-phase is no magnitude"]


def test_several_echoes_are_refused_with_the_way_round_which_is_then_taken(tmp_path):
    root, study = tiny(tmp_path)
    copies(root, "_echo-1_bold", "_echo-2_bold", "_echo-3_bold")
    table, problems = indexed(root, study)
    assert table.empty
    out = [problem for problem in problems if problem.code == "E-BIDS-A25"]
    assert len(out) == 6
    assert all("3 echoes" in problem.what and "engine: fmriprep" in problem.fix for problem in out)
    assert "none of the 6 scans" in next(problem.what for problem in problems if problem.severity == "STOP")
    edit(
        study / CONFIG,
        "rois:",
        "preprocessing: {engine: fmriprep, fmriprep: {derivatives: ../fmriprep}}\nrois:",
    )
    table, problems = indexed(root, study)
    assert (len(table), problems) == (6, [])
    theirs, made = tmp_path / "fmriprep", fake.GENERATIONS["25.2"]
    fake.write_dataset(theirs, made)
    fake.write_anatomy(theirs, made, "sub-01")
    combined = fake.write_run(theirs, made, bold("sub-01", "1"), fake.small_series())
    assert find_run(theirs, table["bold"].iloc[0]).bold == combined


def test_one_echo_can_be_chosen(tmp_path):
    root, study = tiny(tmp_path, settings='filters: {bold: {echo: "2"}}')
    copies(root, "_echo-1_bold", "_echo-02_bold")
    table, problems = indexed(root, study)
    assert len(table) == 6
    assert all("_echo-02_" in path for path in table["bold"])
    assert "filters.bold" in problems[0].what


def test_a_filter_chooses_per_kind_of_file(tmp_path):
    chosen = "filters: {bold: {dir: AP}, T1w: {rec: null}, events: {acq: [x, y]}, physio: {recording: eda}}"
    root, study = tiny(tmp_path, settings=chosen + "\n" + SKIN.partition("\n")[0])
    with_recordings(root, "task-memory_run-1_recording-eda_physio")
    with_recordings(root, "task-memory_run-1_recording-ecg_physio")
    copies(root, "_dir-AP_acq-y_bold", "_dir-PA_acq-y_bold")
    for path in sorted(root.glob("sub-*/ses-*/func/*_events.tsv")):
        shutil.copy(path, path.with_name(path.name.replace("_events", "_acq-y_events")))
    for path in sorted(root.glob("sub-*/ses-*/anat/*_T1w.nii.gz")):
        shutil.copy(path, path.with_name(path.name.replace("_T1w", "_rec-norm_T1w")))
    table, problems = indexed(root, study)
    assert {problem.code for problem in problems} == {"W-BIDS-A18"}
    assert len(table) == 6
    for column, end in (
        ("bold", "_dir-AP_acq-y_bold.nii.gz"),
        ("t1w", "_ses-1_T1w.nii.gz"),
        ("events", "_acq-y_events.tsv"),
        ("physio", "_recording-eda_physio.tsv.gz"),
    ):
        assert table[column].str.endswith(end).all(), column


def test_two_recordings_with_the_column_cost_the_skin_conductance_and_name_the_filter(tmp_path):
    root, study = tiny(tmp_path, settings=SKIN.partition("\n")[0])
    with_recordings(root, "task-memory_run-1_recording-a_physio")
    with_recordings(root, "task-memory_run-1_recording-b_physio")
    table, problems = indexed(root, study)
    assert len(table) == 6
    assert {problem.outcomes for problem in problems} == {"scr.trauma"}
    assert all("filters: {physio: {recording: ...}}" in problem.fix for problem in problems)


def test_another_column_of_the_events_is_declared(tmp_path):
    root, study = tiny(tmp_path)
    for path in root.glob("sub-*/ses-*/func/*_events.tsv"):
        edit(path, "trial_type", "script")
    _, problems = indexed(root, study)
    assert "tasks.memory.column" in problems[0].fix
    edit(study / CONFIG, "    events: each", "    events: each\n    column: script")
    table, problems = indexed(root, study)
    assert (len(table), problems) == (6, [])
    task = Task(conditions={"trauma": "trauma"}, column="script")
    assert set(read_events(root / table["events"].iloc[0], task.column)["trial_type"]) == {"trauma", "relax"}


# the T1w


def with_anatomy(root, *sessions):
    """T1w of these endings per session, of everybody."""
    for person in TWO:
        for path in (root / person).glob("ses-*/anat/*"):
            path.unlink()
        for number, names in enumerate(sessions, start=1):
            for name in names:
                save_image(
                    root / f"{person}/ses-{number}/anat/{person}_ses-{number}{name}_T1w.nii.gz",
                    RNG,
                    volumes=1,
                )


@pytest.mark.parametrize(
    ("one", "two", "used"),
    [
        (["_acq-inplane", "_acq-mprage"], ["_acq-mprage"], "_acq-mprage"),
        (["_part-phase", "_run-1"], ["_run-1"], "_run-1"),
        (["_rec-nonorm", "_rec-norm"], ["_rec-norm"], "_rec-norm"),
        (["_run-1", "_run-2"], ["_run-1"], "_run-1"),
        (["_run-2", "_run-01"], ["_run-2"], "_run-2"),
        (["", "_acq-x"], [""], ""),
        (["_acq-x_run-1", "_acq-y_run-1"], ["_acq-x_run-2"], "_acq-x_run-"),
    ],
)
def test_the_t1w_is_of_one_kind_in_every_session(one, two, used, tmp_path):
    root, study = tiny(tmp_path)
    with_anatomy(root, one, two)
    table, problems = indexed(root, study)
    assert {problem.severity for problem in problems} <= {"WARN"}
    assert len(problems) == 1
    for session in "12":
        paths = table.loc[table["session_id"] == session, "t1w"]
        assert all(f"_ses-{session}{used}" in path for path in paths)
        assert "phase" not in "".join(paths)


@pytest.mark.parametrize(
    ("one", "two", "named"),
    [
        (["_acq-inplane", "_acq-mprage"], ["_acq-inplane", "_acq-mprage"], "acq-inplane, acq-mprage"),
        (["_acq-inplane"], ["_acq-mprage"], "acq-inplane, acq-mprage"),
        (["_rec-norm", ""], ["_rec-norm", ""], "plain, rec-norm"),
        (["_run-1", "_run-2"], ["_run-1", "_run-2"], "run-1, run-2"),
    ],
)
def test_what_the_sessions_do_not_decide_stops_with_one_line_and_a_filter_decides(one, two, named, tmp_path):
    root, study = tiny(tmp_path)
    with_anatomy(root, one, two)
    _, problems = indexed(root, study)
    (stop,) = [problem for problem in problems if problem.severity == "STOP"]
    assert stop.code == "E-BIDS-A19"
    assert named in stop.what
    assert "filters.T1w" in stop.fix
    entity, _, label = two[0].strip("_").partition("-")
    edit(study / CONFIG, "scales:", f'filters: {{T1w: {{{entity}: "{label}"}}}}\nscales:')
    table, problems = indexed(root, study)
    assert {problem.severity for problem in problems} == {"WARN"}
    assert len(table) == 6
    assert all(two[0] in path for path in table["t1w"])


def test_people_of_two_scanners_have_each_their_own_kind(tmp_path):
    root, study = tiny(tmp_path)
    with_anatomy(root, ["_acq-a"], ["_acq-a"])
    renamed(root, "_acq-a_T1w", "_acq-b_T1w", "sub-02/ses-*/anat/*")
    table, problems = indexed(root, study)
    assert len(table) == 6
    assert ["several kinds: acq-a, acq-b" in problem.what for problem in problems] == [True]


def test_a_t1w_above_the_sessions_serves_them_all(tmp_path):
    root, study = tiny(tmp_path)
    for person in TWO:
        (root / person / "anat").mkdir()
        path = root / f"{person}/ses-1/anat/{person}_ses-1_T1w.nii.gz"
        path.rename(root / f"{person}/anat/{person}_T1w.nii.gz")
    table, problems = indexed(root, study)
    assert problems == []
    assert all(path.split("/")[1] == "anat" for path in table["t1w"])


def test_images_that_are_not_compressed_are_indexed_like_others(tmp_path):
    root, study = tiny(tmp_path)
    before, _ = indexed(root, study)
    for path in root.glob("sub-*/ses-*/*/*.nii.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    table, problems = indexed(root, study)
    assert problems == []
    assert table["bold"].tolist() == before["bold"].str.removesuffix(".gz").tolist()
    assert table[["tr", "n_volumes"]].equals(before[["tr", "n_volumes"]])


def test_fmriprep_reads_every_t1w_so_that_nothing_is_to_be_chosen(tmp_path):
    root, study = tiny(tmp_path)
    with_anatomy(root, ["_run-1", "_run-2"], ["_run-1", "_run-2"])
    edit(
        study / CONFIG,
        "rois:",
        "preprocessing: {engine: fmriprep, fmriprep: {derivatives: ../fmriprep}}\nrois:",
    )
    settings = load_study(study / CONFIG)
    chosen, problems = choose_anatomy(read_dataset(root)[0], settings)
    assert problems == []
    assert len(chosen) == 4


# field maps


PATH = "sub-01/ses-1/func/sub-01_ses-1_task-memory_run-1_bold.nii.gz"
ENCODED = {"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.03}
ECHOES = {"EchoTime1": 4.92e-3, "EchoTime2": 7.38e-3}


def with_field_map(folder, sidecar, name="phasediff"):
    place = folder / "sub-01/ses-1/fmap"
    place.mkdir(parents=True, exist_ok=True)
    write(folder / "dataset_description.json", "{}")
    for suffix in {name, "magnitude1"}:
        (place / f"sub-01_ses-1_{suffix}.nii.gz").touch()
    write(place / f"sub-01_ses-1_{name}.json", json.dumps(sidecar))


@pytest.mark.parametrize(
    "written",
    [
        PATH.partition("/")[2],
        [PATH.partition("/")[2], "ses-2/func/sub-01_ses-2_task-memory_run-1_bold.nii.gz"],
        f"bids::{PATH}",
        f"bids:raw:{PATH}",
        PATH,
        f"/{PATH}",
        f"./{PATH.partition('/')[2]}",
        PATH.split("/", 2)[2],
        PATH.partition("/")[2].removesuffix(".gz"),
        PATH.partition("/")[2].replace("run-1", "run-01"),
        PATH.rpartition("/")[2],
        PATH.partition("/")[2].replace("/", "\\"),
    ],
)
def test_intended_for_is_understood_in_the_ways_it_is_written(written, tmp_path):
    with_field_map(tmp_path, ECHOES | {"IntendedFor": written})
    assert fieldmap_of(tmp_path, PATH, ENCODED).method == "phasediff"


@pytest.mark.parametrize(
    "written",
    [
        PATH.replace("ses-1", "ses-2"),
        PATH.replace("sub-01", "sub-02"),
        PATH.replace("run-1", "run-2"),
        PATH.replace("_bold", "_sbref"),
        "ses-2/func/" + PATH.rpartition("/")[2],
        ["rest"], [], None, 5, {"a": 1}, [[PATH]], "",
    ],
)  # fmt: skip
def test_another_run_or_no_path_is_not_this_run(written, tmp_path):
    with_field_map(tmp_path, ECHOES | {"IntendedFor": written})
    assert fieldmap_of(tmp_path, PATH, ENCODED) is None


def test_identifiers_come_before_paths_and_stand_back_where_a_field_map_has_none(tmp_path):
    with_field_map(tmp_path, ECHOES | {"IntendedFor": f"bids::{PATH}"})
    assert fieldmap_of(tmp_path, PATH, ENCODED | {"B0FieldSource": ["a"]})
    with_field_map(tmp_path, ECHOES | {"IntendedFor": f"bids::{PATH}", "B0FieldIdentifier": "b"})
    assert fieldmap_of(tmp_path, PATH, ENCODED | {"B0FieldSource": ["a"]}) is None
    assert fieldmap_of(tmp_path, PATH, ENCODED | {"B0FieldSource": "b"})


def test_what_is_not_understood_is_quoted(tmp_path):
    root, study = tiny(tmp_path, field_maps=True)
    for path in root.glob("sub-*/ses-*/fmap/*.json"):
        write(path, json.dumps(ECHOES | {"IntendedFor": ["func/memory_1"]}))
    _, problems = indexed(root, study)
    assert {problem.code for problem in problems} == {"W-BIDS-B17"}
    assert all("phasediff.nii.gz has IntendedFor ['func/memory_1']" in problem.what for problem in problems)


def opposite(folder, **sidecar):
    for name, direction in (("dir-AP_epi", "j-"), ("dir-PA_epi", "j")):
        told = {"IntendedFor": f"bids::{PATH}", "PhaseEncodingDirection": direction, **sidecar}
        with_field_map(folder, told, name)


def test_readout_from_the_echo_spacing_or_as_declared_or_not_at_all_for_opposite_directions(tmp_path):
    run = {"PhaseEncodingDirection": "j"}
    with_field_map(tmp_path, ECHOES | {"IntendedFor": PATH})
    assert fieldmap_of(tmp_path, PATH, run | {"EffectiveEchoSpacing": 5e-4, "ReconMatrixPE": 64})
    with pytest.raises(DataFault, match="readout_time"):
        fieldmap_of(tmp_path, PATH, run)
    declared = fieldmap_of(tmp_path, PATH, run, readout_time=0.04)
    assert declared.completed(run)["TotalReadoutTime"] == 0.04
    assert declared.completed(run | {"TotalReadoutTime": 0.02})["TotalReadoutTime"] == 0.02
    for path in (tmp_path / "sub-01/ses-1/fmap").iterdir():
        path.unlink()
    opposite(tmp_path)
    pair = fieldmap_of(tmp_path, PATH, run)
    times = {sidecar["TotalReadoutTime"] for sidecar in pair.sidecars.values()}
    assert times == {pair.completed(run)["TotalReadoutTime"]}
    with pytest.raises(DataFault, match="TotalReadoutTime is absent"):
        fieldmap_of(tmp_path, PATH, run | {"TotalReadoutTime": 0.03})  # then the pair's cannot be any


@pytest.mark.parametrize(
    ("sidecar", "says"),
    [
        ({"TotalReadoutTime": 0.3}, "TotalReadoutTime is 0.3, expected s between 0 and 0.25"),
        ({"TotalReadoutTime": 30}, "looks like milliseconds"),
        ({"TotalReadoutTime": "0.03"}, "TotalReadoutTime is '0.03'"),
        ({"TotalReadoutTime": 0.2, "EffectiveEchoSpacing": 0.0018}, "EffectiveEchoSpacing says 0.0198 s"),
        ({"EffectiveEchoSpacing": 0.5}, "EffectiveEchoSpacing is 0.5"),
        ({"EffectiveEchoSpacing": 5e-4, "ReconMatrixPE": "64"}, "ReconMatrixPE is '64'"),
        ({"EffectiveEchoSpacing": 5e-4, "ReconMatrixPE": 1}, "ReconMatrixPE is 1"),
    ],
)
def test_an_impossible_readout_is_found_by_the_index(sidecar, says, tmp_path):
    root, study = tiny(tmp_path, field_maps=True)
    write(
        root / stem("sub-01", "1", "task-memory_run-1_bold.json"),
        json.dumps({"TotalReadoutTime": None, **sidecar}),
    )
    table, problems = indexed(root, study)
    assert len(table) == 5
    assert [problem.code for problem in problems] == ["E-DATA-B25"]
    assert says in problems[0].what


@pytest.mark.parametrize("unit", [None, "hertz", ["Hz"]])
def test_a_field_without_its_unit_is_found_by_the_index(unit, tmp_path):
    with_field_map(tmp_path, {"IntendedFor": PATH, "Units": unit}, "fieldmap")
    (tmp_path / "sub-01/ses-1/fmap/sub-01_ses-1_magnitude.nii.gz").touch()
    with pytest.raises(DataFault, match="E-DATA-B26 .*Units is"):
        fieldmap_of(tmp_path, PATH, ENCODED)
