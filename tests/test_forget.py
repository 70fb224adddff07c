"""A participant who withdraws leaves no file, record or line behind; a doctor looks at the machine."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconfmri.cli import doctor, main
from reconfmri.cli.graph import as_text
from reconfmri.config import load_study
from reconfmri.locks import hold

sys.path.insert(0, str(Path(__file__).parent / "faults"))
from make_bids import make_bids, write

LONG = "results/derivatives/" + "sub-02/" + "x" * 240 + "/sub-02_bold.json"


def record(output: str) -> str:
    """Where Snakemake keeps what it knows of an output: long names are cut into folders."""
    text = base64.urlsafe_b64encode(output.encode()).decode()
    parts = [text[i : i + 254] for i in range(0, len(text), 254)]
    return "/".join([*(f"@{part}" for part in parts[:-1]), parts[-1]])


@pytest.fixture
def study(tmp_path):
    folder = make_bids(tmp_path)
    for person in ("sub-02", "sub-021"):
        write(folder / f"results/derivatives/{person}/ses-1/func/{person}_ses-1_bold.nii.gz", "x")
        write(folder / f"results/participants/{person}.html", "x")
        write(folder / f"logs/align_run/{person}_ses-1.log", "x")
        write(folder / f"logs/align_run/{person}_ses-1.json", "{}")
        write(folder / ".snakemake/metadata" / record(f"results/derivatives/{person}/a.tsv"), "{}")
    write(folder / ".snakemake/metadata" / record(LONG), "{}")
    write(folder / ".snakemake/log/2026.snakemake.log", "rule x: results/sub-02/y")
    write(folder / "results/measures.tsv", "participant_id\tvalue\nsub-02\t1\nsub-021\t2\n")
    write(folder / "results/estimates.tsv", "outcome\tunit\n")
    write(folder / ".reconfmri/sha256.jsonl", '["/bids/sub-02/x", [], ""]\n["/bids/sub-021/x", [], ""]\n')
    write(folder / "results/elsewhere.txt", "to keep")
    (folder / "results/derivatives/sub-02/link.nii.gz").symlink_to(folder / "results/elsewhere.txt")
    return folder


def all_text(folder: Path) -> str:
    """Names and contents of whatever the workflow keeps, with Snakemake's names in clear."""
    found = []
    for place in ("results", "logs", ".snakemake", ".reconfmri"):
        for path in (folder / place).rglob("*"):
            if (path.is_file() or path.is_symlink()) and "locks" not in path.parts:
                name = "".join(part.removeprefix("@") for part in path.relative_to(folder).parts[2:])
                found.append(str(path.relative_to(folder)))
                if place == ".snakemake" and "metadata" in path.parts:
                    found.append(base64.urlsafe_b64decode(name).decode())
                found.append(path.read_text())
    return "\n".join(found)


def test_forgetting_lists_first_and_then_removes_all_of_one_person_and_nothing_of_another(study, capsys):
    before = all_text(study)
    assert main(["forget", "sub-02", "--study", str(study)]) == 0
    assert "nothing was removed. Fix: the same command with --yes" in capsys.readouterr().out
    assert all_text(study) == before
    assert main(["forget", "02", "--study", str(study), "--yes"]) == 0
    said = capsys.readouterr().out
    assert "finds 0 of sub-02 left" in said
    assert "still names sub-02, yours: allocation.tsv" in said
    left = all_text(study).replace((study / ".reconfmri/forgotten.jsonl").read_text(), "")
    assert "sub-02" not in left.replace("sub-021", "")
    assert left.count("sub-021") == before.count("sub-021") - 1, "its row in the table that is made again"
    assert not (study / "results/derivatives/sub-02").exists()
    assert (study / "results/elsewhere.txt").read_text() == "to keep", "links are not followed"
    assert not (study / "results/measures.tsv").exists()
    assert (study / "results/estimates.tsv").exists()
    noted = json.loads((study / ".reconfmri/forgotten.jsonl").read_text())
    assert (noted["forgotten"], noted["left"]) == ("sub-02", 0)


def test_nobody_is_forgotten_while_a_run_is_under_way(study, capsys):
    with hold(study, shared=["study"], alone=["sub-021"]):
        assert main(["forget", "sub-02", "--study", str(study), "--yes"]) == 3
    assert "works on study" in capsys.readouterr().err
    assert (study / "results/participants/sub-02.html").exists()


@pytest.mark.parametrize("label", ["../x", "sub-*", "", "sub-0 2"])
def test_only_a_label_is_forgotten(study, label, capsys):
    assert main(["forget", label, "--study", str(study), "--yes"]) == 1
    assert "E-CONF-D06" in capsys.readouterr().err


# doctor


def test_versions_outside_the_lock_are_named(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.1 \\\n    --hash=sha256:0\nno-such-library==1 \\\n")
    found = doctor.versions(lock)
    assert found.state == "fault"
    assert "(lock: 0.1)" in found.found
    assert "no-such-library is not installed" in found.found
    assert doctor.versions(tmp_path / "absent").state == "remark"


def test_the_doctor_says_on_one_page_what_a_run_would_stumble_over(study, capsys, monkeypatch):
    write(study / "results/open.tsv", "x")
    for place in (study, study / "results"):
        place.chmod(0o755)
    (study / "results/open.tsv").chmod(0o644)
    monkeypatch.setattr(doctor, "needed_mb", lambda *_: 10**12)
    assert main(["doctor", "--study", str(study), "--json"]) == 1
    checks = {check["what"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["versions"]["state"] == "ok", checks["versions"]
    assert checks["disk of the study"]["state"] == "fault"
    assert checks["permissions"]["found"].startswith("1 files can be read by the world")
    assert "results/open.tsv" in checks["permissions"]["found"]
    assert {"memory", "umask", "processors", "BIDS validator", "SLURM"} <= set(checks)
    assert all(check["fix"] for check in checks.values() if check["state"] == "fault")


def test_a_disk_that_will_not_hold_the_results_is_said_before_the_run(study, monkeypatch):
    settings = load_study(study / "config/config.yaml")
    assert doctor.check_room(study, settings) == []
    raw = sum(path.stat().st_size for path in (study / "bids").rglob("*_bold.nii.gz"))
    free = raw * doctor.RESULTS_PER_RAW // 2
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(doctor, "needed_mb", lambda *_: 2 * free // 1_000_000 + 1)
    (remark,) = doctor.check_room(study, settings)
    assert (remark.code, remark.severity) == ("W-CONF-D03", "WARN")


def test_the_doctor_needs_no_study(tmp_path, capsys):
    assert main(["doctor", "--study", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("state\twhat\tfound")


def test_a_graph_as_text_is_one_line_per_rule_in_an_order_that_stays():
    nodes = "flowchart TB\n\tid0[all]\n\tid1[measure]\n\tid2[align]\n"
    graph = nodes + "\tid2 --> id1\n\tid1 --> id0\n\tid2 --> id0\n"
    assert as_text(graph) == "align\nall: align, measure\nmeasure: align"
