"""Groups A and C of the fault catalogue: every fault gives one line with code, file, wrong and fix."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconfmri.bids import read_run_table
from reconfmri.cli import main
from reconfmri.exclusions import read_exclusions

sys.path.insert(0, str(Path(__file__).parent))
from make_bids import FAULTS, PCL5, SIDECAR, bold, make_bids, stem

CONFIG = "config/config.yaml"
TABLE = "participants.tsv"


@dataclass(frozen=True)
class Row:
    """One row of the catalogue: what is broken, and what the command must say."""

    fault: str
    command: str
    severity: str  # STOP, EXCL, WARN, or nothing
    code: str
    file: str
    says: str
    units: tuple[tuple[str, str], ...] = ()  # (participant, session) of the rows in exclusions.tsv
    n_scans: int = 18  # left in the run table


RUN_2_1 = stem("sub-02", "1", "task-memory_run-1_")
ROWS = [
    Row("no description", "index", "STOP", "E-BIDS-A01", "dataset_description.json", "missing"),
    Row("empty description", "index", "STOP", "E-BIDS-A01", "dataset_description.json", "['BIDSVersion']"),
    Row("folder without row", "index", "STOP", "E-BIDS-A02", TABLE, "sub-06 has a folder but no row"),
    Row("row without folder", "index", "WARN", "W-BIDS-A02", TABLE, "sub-07 has a row",
        (("sub-07", "n/a"),)),
    Row("row twice", "index", "STOP", "E-BIDS-A03", TABLE, "sub-01 is on lines [2, 4]"),
    Row("phenotype row twice", "check", "STOP", "E-BIDS-A03", PCL5, "sub-01 ses-1 is on lines [2, 3]"),
    Row("labels like numbers", "check", "", "", "", ""),
    Row("both .nii and .nii.gz", "index", "EXCL", "E-BIDS-A05", "sub-02/ses-2/func", "bold.nii and ",
        (("sub-02", "2"),), 17),
    Row("two files of one run", "index", "EXCL", "E-BIDS-A05", "sub-02/ses-2/func", "_run-01_bold.nii.gz and",
        (("sub-02", "2"),), 17),
    Row("session in name", "index", "STOP", "E-BIDS-A06", "sub-03/ses-1/func/", "the name says ses-2"),
    Row("space in name", "index", "STOP", "E-BIDS-A06", "sub-03/ses-1/func/", "'task-mem ory'"),
    Row("semicolon in folder", "index", "STOP", "E-BIDS-A06", "sub-06;rm", "more than letters and digits"),
    Row("id with a path", "index", "STOP", "E-BIDS-A06", TABLE, "line 7: participant_id '../x'"),
    Row("session missing", "index", "WARN", "W-BIDS-A07", "sub-04", "no usable scan in session 3",
        (("sub-04", "3"),), 17),
    Row("run missing", "index", "WARN", "W-BIDS-A08", "sub-05", "1 of 2 runs",
        (("sub-05", "2"),), 35),
    Row("run missing, two wanted", "index", "EXCL", "E-BIDS-A08", bold("sub-05", "2"), "min_runs = 2",
        (("sub-05", "2"),), 34),
    Row("no RepetitionTime", "index", "EXCL", "E-BIDS-A09", bold("sub-01", "1"),
        "sub-01/ses-1/sub-01_ses-1_task-memory_bold.json < sub-01/sub-01_task-memory_bold.json < " + SIDECAR,
        tuple(("sub-01", session) for session in "123"), 15),
    Row("RepetitionTime in ms", "index", "EXCL", "E-BIDS-A09", bold("sub-01", "1"), "like milliseconds"),
    Row("other TR", "index", "STOP", "E-BIDS-A10", bold("sub-01", "1"), "0.8 s in 3, 2 s in 15"),
    Row("other TR, allowed", "check", "", "", "", ""),
    Row("broken JSON", "index", "EXCL", "E-BIDS-A11", RUN_2_1 + "bold.json", "line 2, column 15",
        (("sub-02", "1"),), 17),
    Row("ragged events", "index", "EXCL", "E-BIDS-A11", RUN_2_1 + "events.tsv", "line 3, column 4",
        (("sub-02", "1"),), 17),
    Row("BOM and CRLF", "check", "", "", "", ""),
    Row("mixed derivatives", "check", "WARN", "W-BIDS-A12", "derivatives", "fMRIPrep 20.2.0 and 23.1.4"),
    Row("slice times", "check", "", "", "", ""),
    Row("slice times in ms", "index", "EXCL", "E-DATA-B24", RUN_2_1 + "bold", "looks like milliseconds",
        (("sub-02", "1"),), 17),
    Row("too few slice times", "index", "EXCL", "E-DATA-B24", RUN_2_1 + "bold", "2 times, the image 10",
        (("sub-02", "1"),), 17),
    Row("field maps", "check", "", "", "", ""),
    Row("field maps without echo", "index", "EXCL", "E-DATA-B26",
        "sub-02/ses-1/fmap/sub-02_ses-1_phasediff.nii.gz", "0 s apart", (("sub-02", "1"),), 17),
    Row("field map behind a lost link", "index", "EXCL", "E-BIDS-A15",
        "sub-02/ses-1/fmap/sub-02_ses-1_magnitude1.nii.gz", "leads nowhere", (("sub-02", "1"),), 17),
    Row("field maps for nobody", "index", "WARN", "W-BIDS-B17", RUN_2_1 + "bold", "none of the 2 images",
        (("sub-02", "1"),)),
    Row("field maps of some", "index", "WARN", "W-BIDS-B18", "", "3 of 18 scans have no field map"),
    Row("unknown key", "check", "STOP", "E-CONF-C01", CONFIG, "did you mean 'smoothing'?"),
    Row("misspelt key", "check", "STOP", "E-CONF-C01", CONFIG, "did you mean 'high_pass'?"),
    Row("resolution 2000", "check", "STOP", "E-CONF-C02", CONFIG, "(at least 1, at most 4), e.g. 2.0"),
    Row("resolution 6mm", "check", "STOP", "E-CONF-C02", CONFIG, "got '6mm'"),
    Row("distortion by registration", "check", "STOP", "E-CONF-C02", CONFIG, "is not offered"),
    Row("arm label yes", "check", "STOP", "E-CONF-C02", CONFIG, 'put the label in quotes, "yes"'),
    Row("session id as number", "check", "STOP", "E-CONF-C02", CONFIG, 'sessions.1.id'),
    Row("key twice", "check", "STOP", "E-CONF-C03", CONFIG, "'name' is on lines 1 and 2"),
    Row("absent condition", "check", "STOP", "E-CONF-C04", CONFIG, "known are ['trauma', 'neutral'"),
    Row("misspelt confounds", "check", "STOP", "E-CONF-C04", CONFIG, "did you mean 'motion24'?"),
    Row("absent trial type", "check", "STOP", "E-CONF-C04", CONFIG, "the data have ['relax', 'trauma']"),
    Row("absent arm", "check", "STOP", "E-CONF-C04", CONFIG, "the arms are ['ketamine', 'midazolam']"),
    Row("absent atlas label", "check", "STOP", "E-CONF-C04", CONFIG, "did you mean 'Left Amygdala'?"),
    Row("empty arm", "check", "STOP", "E-CONF-C05", "allocation.tsv", "nobody of arm 'midazolam'"),
    Row("third arm", "check", "WARN", "W-CONF-C05", "allocation.tsv", "['saline']"),
    Row("yte", "check", "STOP", "E-CONF-F06", CONFIG, "refused"),
]  # fmt: skip


def test_every_fault_has_its_row():
    assert {row.fault for row in ROWS} == set(FAULTS)


def test_every_code_of_data_and_study_is_listed_in_the_documents():
    root = Path(__file__).resolve().parents[2]
    listed = set(
        re.findall(
            r"^\| ([EW]-(?:BIDS|CONF|DATA|STAT)-\w+)", (root / "docs/codes.md").read_text(), re.MULTILINE
        )
    )
    sources = "".join(path.read_text() for path in (root / "src/reconfmri").rglob("*.py"))
    assert set(re.findall(r"\b[EW]-(?:BIDS|CONF|DATA|STAT)-\w+", sources)) == listed


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_fault_gives_one_line_with_code_file_and_fix(row, tmp_path, capsys):
    study = make_bids(tmp_path, faults=[row.fault])
    if row.command == "check":
        main(["index", "--study", str(study)])
        capsys.readouterr()
    code = main([row.command, "--study", str(study)])
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if row.says in line and row.code in line] if row.code else []
    if not row.code:
        assert lines == ["No problems found."]
    else:
        assert len(told) == 1 or row.severity == "EXCL", lines
        assert told[0].startswith(f"{row.severity} {row.code} {row.file}")
        assert told[0].rpartition("Fix: ")[2]
    stopped = (
        row.severity == "STOP" or row.fault == "RepetitionTime in ms"
    )  # the latter leaves no scan at all
    assert code == (1 if stopped else 0)
    if not stopped and row.command == "index":
        assert len(read_run_table(study / "config/runs.tsv")) == row.n_scans
    if row.units:
        recorded = read_exclusions(study / "config/exclusions.tsv")
        units = {(e.participant_id, e.session_id) for e in recorded if e.code == row.code}
        assert units == set(row.units)
        assert all(e.takes_the_run_out == (row.severity == "EXCL") for e in recorded if e.code == row.code)
    if stopped and row.command == "index":
        assert not (study / "config/runs.tsv").exists(), "a STOP writes no run table"


def test_labels_that_look_like_numbers_or_nothing_stay_as_they_are(tmp_path):
    study = make_bids(tmp_path, faults=["labels like numbers"])
    assert main(["index", "--study", str(study)]) == 0
    people = set(read_run_table(study / "config/runs.tsv")["participant_id"])
    assert {"sub-001", "sub-NA"} < people


def _add_person(root: Path) -> None:
    shutil.copytree(root / "sub-01", root / "sub-07")


def _change_image(root: Path) -> None:
    (root / bold("sub-02", "1")).write_bytes(b"x")


def _delete_image(root: Path) -> None:
    (root / bold("sub-02", "1")).unlink()


def _change_sidecar(root: Path) -> None:
    (root / SIDECAR).write_text((root / SIDECAR).read_text().replace("2.0", "2.5"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_add_person, "sub-07/ses-1/anat/sub-01_ses-1_T1w.nii.gz: new"),
        (_change_image, f"{bold('sub-02', '1')}: changed"),
        (_delete_image, f"{bold('sub-02', '1')}: gone"),
        (_change_sidecar, f"{SIDECAR}: changed"),
    ],
)
def test_a_changed_dataset_asks_for_a_new_index(change, says, tmp_path, capsys):
    study = make_bids(tmp_path)
    main(["index", "--study", str(study)])
    change(tmp_path / "bids")
    capsys.readouterr()
    assert main(["check", "--study", str(study)]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if "E-BIDS-A13" in line]
    assert len(told) == 1
    assert says in told[0]
    assert told[0].endswith("Fix: index again (`reconfmri index`)")


@pytest.mark.parametrize("place", ["bids", "bids/sub-01", "bids/derivatives"])
def test_output_in_the_input_is_refused(place, tmp_path, capsys):
    make_bids(tmp_path)
    assert main(["run", str(tmp_path / "bids"), str(tmp_path / place), "participant"]) == 1
    told = capsys.readouterr().out
    assert "E-CONF-C07" in told
    assert "Fix: give a folder outside of it, or one in its derivatives/" in told
    assert not (tmp_path / "bids/derivatives").exists()


def test_output_that_cannot_be_written_is_refused(tmp_path, capsys):
    make_bids(tmp_path)
    (tmp_path / "file").write_text("a file where the folder should go")
    assert main(["init", str(tmp_path / "file" / "study"), "--bids", str(tmp_path / "bids")]) == 1
    assert "E-CONF-C07" in capsys.readouterr().out


def test_another_file_system_is_a_remark(tmp_path, capsys):
    memory = Path("/dev/shm")  # noqa: S108 - another file system, where there is one
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    study = make_bids(tmp_path)
    elsewhere = memory / f"reconfmri-{tmp_path.name}"
    try:
        shutil.copytree(tmp_path / "bids", elsewhere)
        config = study / CONFIG
        config.write_text(config.read_text().replace("bids: ../bids", f"bids: {elsewhere}"))
        assert main(["index", "--study", str(study)]) == 0
        assert "W-CONF-C07" in capsys.readouterr().out
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)


@pytest.mark.parametrize("name", ["tést dir ü $x '\"", "a" * 200])
def test_odd_paths_work(name, tmp_path, capsys):
    study = make_bids(tmp_path / name)
    assert main(["index", "--study", str(study)]) == 0
    assert main(["check", "--study", str(study)]) == 0
    assert main(["init", str(tmp_path / name / "new ü $HOME"), "--bids", str(tmp_path / name / "bids")]) == 0
    assert main(["index", "--study", str(tmp_path / name / "new ü $HOME")]) == 0
    assert "18 scans" in capsys.readouterr().out
