"""Contents: a file is read once as long as its dates stay, not trusted by them; a job works for its plan."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reconfmri import contents
from reconfmri.config import load_study
from reconfmri.contents import FILES, LEDGER, Contents, seal_of

sys.path.insert(0, str(Path(__file__).parent / "faults"))
from make_bids import make_bids


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("one")
    time.sleep(2 * contents.TICK / 1e9)  # older than the clock can be wrong by
    return path


@pytest.fixture
def reads(monkeypatch):
    """How often a file was read."""
    seen, real = [], contents.sha256
    monkeypatch.setattr(contents, "sha256", lambda path: seen.append(path) or real(path))
    return seen


def planned(folder, file):
    """What a run that is planned, and begun, knows of a file."""
    contents = Contents(folder, planned=True)
    found = contents.of(file)
    contents.save()
    return found


def test_a_file_is_read_once_by_all_processes(tmp_path, file, reads):
    first = planned(tmp_path, file)
    assert Contents(tmp_path, planned=True).of(file) == Contents(tmp_path, planned=False).of(file) == first
    assert len(reads) == 1


def test_another_content_under_the_old_date_and_size_is_seen(tmp_path, file):
    before, dates = planned(tmp_path, file), file.stat()
    file.write_text("two")
    os.utime(file, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert Contents(tmp_path, planned=True).of(file) != before


def test_equal_content_under_a_new_date_is_the_same(tmp_path, file):
    before = planned(tmp_path, file)
    os.utime(file)
    assert Contents(tmp_path, planned=False).of(file) == before


def test_a_job_refuses_a_file_that_changed_after_the_plan(tmp_path, file):
    planned(tmp_path, file)
    file.write_text("two")
    with pytest.raises(ValueError, match="changed after this run was planned"):
        Contents(tmp_path, planned=False).of(file)


def test_a_plan_that_comes_to_nothing_leaves_that_of_a_run_that_is_alive(tmp_path, file):
    """A dry run, or a second run that is refused: the jobs of the first still refuse the changed file."""
    planned(tmp_path, file)
    before = (tmp_path / LEDGER).read_text()
    file.write_text("two")
    Contents(tmp_path, planned=True).of(file)
    assert (tmp_path / LEDGER).read_text() == before


def test_a_ledger_that_was_cut_is_read_as_far_as_it_goes(tmp_path, file, reads):
    expected = planned(tmp_path, file)
    with (tmp_path / LEDGER).open("a") as stream:
        stream.write('["cut')
    assert Contents(tmp_path, planned=False).of(file) == expected
    assert len(reads) == 1


def test_an_absent_file_has_no_content(tmp_path):
    assert Contents(tmp_path, planned=True).of(tmp_path / "absent") == "n/a"


@pytest.mark.parametrize("part", FILES)
def test_the_seal_names_what_changed(tmp_path, part):
    study = make_bids(tmp_path, people=["sub-01"])
    planned = seal_of(study, load_study(study / "config/config.yaml"))
    planned.write(study)
    planned.check(study, planned.name)
    with pytest.raises(ValueError, match=f"E-CONF-D01 {FILES[part]}: changed"):
        replace(planned, **{part: "another"}).check(study, planned.name)


def test_the_seal_heeds_settings_and_not_remarks(tmp_path):
    study = make_bids(tmp_path, people=["sub-01"])
    path = study / "config/config.yaml"
    before = seal_of(study, load_study(path))
    path.write_text("# a remark\n" + path.read_text())
    assert seal_of(study, load_study(path)) == before
    path.write_text(path.read_text().replace("threshold: 0.5", "threshold: 0.4", 1))
    assert seal_of(study, load_study(path)) != before
