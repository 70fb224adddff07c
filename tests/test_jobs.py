"""A job leaves its record whatever becomes of it, and shows no data when it fails; what reads records."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from reconfmri import jobs, provenance
from reconfmri.bids import sha256
from reconfmri.cli import main, status
from reconfmri.exclusions import DataFault
from reconfmri.files import ChangedError
from reconfmri.jobs import Record, job, read_record, record_of
from reconfmri.locks import hold, hold_log
from reconfmri.needs import growing, read_needs
from reconfmri.tables import read_table
from reconfmri.tracebacks import without_data

sys.path.insert(0, str(Path(__file__).parent / "faults"))
from make_bids import make_bids, write

CANARY, BORN = "Smith7f3", "1931-04-01"


def asked(folder: Path, *outputs: str, **resources: int) -> SimpleNamespace:
    """What a script is given by Snakemake."""
    return SimpleNamespace(
        rule="fit_first_level",
        log=[str(folder / "logs/fit_first_level/sub-01.log")],
        output=[str(folder / name) for name in outputs],
        threads=1,
        resources=SimpleNamespace(**resources),
    )


def fail(folder: Path, error: BaseException, **resources: int):
    """The record that a job leaves that raises `error`."""
    given = asked(folder, **resources)
    with pytest.raises(type(error)), job(given):
        raise error
    return read_record(Path(given.log[0]))


def test_a_finished_job_records_what_it_took_and_the_sha256_of_what_it_made(tmp_path):
    given = asked(tmp_path, "a.tsv", mem_mb=700, runtime=5)
    with job(given):
        begun = read_record(Path(given.log[0]))
        (tmp_path / "a.tsv").write_text("1")
    made = read_record(Path(given.log[0]))
    assert (begun.state, begun.process) == ("running", os.getpid())
    assert (made.state, made.kind, made.asked_mb, made.asked_min) == ("done", "", 700, 5)
    assert made.outputs == {str(tmp_path / "a.tsv"): (1, sha256(tmp_path / "a.tsv"))}
    assert 10 < made.peak_mb < 10_000


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (MemoryError(), "memory", "out of memory: asked 700 MB, peak"),
        (subprocess.CalledProcessError(-9, ["greedy"]), "memory", "asked 700 MB"),
        (
            OSError(errno.ENOSPC, "No space left on device", "results/x.tsv"),
            "disk",
            "no space left for results/x",
        ),
        (ValueError("E-DATA-B11 x.tsv: 3 rows. Fix: y"), "data", ""),
        (KeyError("x"), "software", "KeyError"),
        (KeyboardInterrupt(), "stopped", "told to end"),
    ],
)
def test_a_failure_has_a_class_and_one_line(tmp_path, error, kind, says):
    record = fail(tmp_path, error, mem_mb=700)
    assert (record.state, record.kind) == ("failed", kind)
    assert says in record.reason
    assert "\n" not in record.reason


@pytest.mark.parametrize(("late", "kind"), [(False, "stopped"), (True, "time")])
def test_who_is_told_to_end_near_the_time_asked_was_out_of_time(tmp_path, late, kind):
    given = asked(tmp_path, runtime=5)
    begun = replace(jobs._begun(given), started=jobs.time.time() - (299 if late else 30))
    assert jobs.kind_of(jobs.EndedError(143), begun) == kind


def test_a_job_leaves_no_temporary_file_nor_do_the_programs_that_it_starts(tmp_path):
    with job(asked(tmp_path)):
        with tempfile.NamedTemporaryFile(delete=False) as left:
            pass
        code = "import tempfile; print(tempfile.mkdtemp())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        places = [Path(left.name), Path(done.stdout.strip())]
        assert all(place.exists() for place in places)
    assert not any(place.exists() for place in places)
    assert Path(tempfile.gettempdir()) != places[0].parent


TOLD_TO_END = """
import os, signal, sys, time
from types import SimpleNamespace
from reconfmri.jobs import job
with job(SimpleNamespace(rule="x", log=[sys.argv[1]], output=[])):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
"""


def test_sigterm_leaves_a_record_and_a_line_in_the_log(tmp_path):
    log = tmp_path / "x.log"
    done = subprocess.run([sys.executable, "-c", TOLD_TO_END, str(log)], capture_output=True, check=False)
    assert done.returncode == 143
    assert read_record(log).kind == "stopped"
    assert "told to end" in log.read_text()


def test_a_job_that_is_killed_leaves_the_record_of_its_beginning(tmp_path):
    log = tmp_path / "x.log"
    done = subprocess.run(
        [sys.executable, "-c", TOLD_TO_END.replace("SIGTERM", "SIGKILL"), str(log)], check=False
    )
    assert done.returncode == -9
    assert read_record(log).state == "running"


def test_a_full_disk_takes_the_record_and_not_the_job(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    given = asked(tmp_path)
    monkeypatch.setattr(Path, "write_text", full)
    with job(given):
        pass
    assert read_record(Path(given.log[0])) is None


@pytest.fixture
def full(monkeypatch):
    """Fills the disk when it is called: no new file has room from then on, nor has the log; then it fails."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill(error):
        monkeypatch.setattr(Path, "write_text", refuse)
        monkeypatch.setattr(provenance._File, "flush", refuse)
        raise error

    return fill


def test_on_a_full_disk_the_record_still_says_why(tmp_path, full, capsys):
    """There is no room for a new file; the record of the beginning has room for that of the end."""
    given = asked(tmp_path, mem_mb=700)
    with pytest.raises(OSError, match="No space") as caught, job(given):
        full(OSError(errno.ENOSPC, "No space left on device"))
    sys.excepthook(caught.type, caught.value, caught.tb)
    record = read_record(Path(given.log[0]))
    assert (record.state, record.kind) == ("failed", "disk")
    assert f"failed (disk): no space left for {Path.cwd()}" in capsys.readouterr().err
    assert sorted(path.name for path in Path(given.log[0]).parent.iterdir()) == ["sub-01.json", "sub-01.log"]


def test_a_log_that_cannot_be_written_shows_nothing_on_the_screen_instead(tmp_path, full, capsys):
    """Python's logging would print the whole traceback there, with the text of the error."""
    with pytest.raises(ValueError, match=CANARY), job(asked(tmp_path)):
        full(ValueError(CANARY))
    assert CANARY not in capsys.readouterr().err


@pytest.mark.parametrize(
    "work",
    [
        lambda: float(CANARY),
        lambda: pd.to_numeric(pd.Series([CANARY])),
        lambda: {}[CANARY],
        lambda: pd.DataFrame({"a": [1]})[CANARY],
        lambda: pd.DataFrame({"a": [CANARY, CANARY]}).set_index("a").reindex([1, 2], axis=0).loc[CANARY],
        lambda: int(pd.DataFrame({"a": [CANARY]}).iloc[0, 0]),
        lambda: (_ for _ in ()).throw(ValueError(f"bad row:\n{CANARY} {CANARY}")),
        lambda: (_ for _ in ()).throw(RuntimeError(f"cannot use {CANARY} of {BORN}")),
    ],
)
def test_no_value_of_a_table_reaches_the_log_or_the_screen(tmp_path, work, capsys):
    given = asked(tmp_path)
    with pytest.raises(Exception) as caught, job(given):
        work()
    sys.excepthook(caught.type, caught.value, caught.tb)
    log = Path(given.log[0])
    for text in (log.read_text(), record_of(log).read_text(), capsys.readouterr().err):
        assert CANARY not in text
        assert BORN not in text
    assert 'test_jobs.py", line' in log.read_text(), "where it happened is there"


def test_what_our_own_code_says_of_a_file_stays(tmp_path):
    (tmp_path / "x.tsv").write_text("a\tb\n1\n")
    with pytest.raises(ValueError, match=r"x\.tsv") as caught:
        read_table(tmp_path / "x.tsv")
    assert without_data(caught.value) == f"{caught.type.__name__}: {caught.value}"


# verify


@pytest.fixture
def study(tmp_path):
    """A study whose skin conductance of two people is finished, with records."""
    folder = make_bids(tmp_path)
    assert main(["index", "--study", str(folder)]) == 0
    for person in ("01", "02"):
        stem = f"sub-{person}_ses-1_task-memory_run-1"
        path = f"results/derivatives/sub-{person}/ses-1/func/{stem}_desc-quality_measures.tsv"
        write(folder / path, person)
        write(folder / f"logs/assess_quality/{stem}.log", "")
        given = asked(folder, path)
        given.log, given.rule = [str(folder / f"logs/assess_quality/{stem}.log")], "assess_quality"
        with job(given):
            pass
        record = record_of(Path(given.log[0]))
        record.write_text(record.read_text().replace(f"{folder}/results", "results"))
    return folder


def measures(study: Path, person: str) -> Path:
    return next(study.rglob(f"sub-{person}_*_desc-quality_measures.tsv"))


@pytest.mark.parametrize("damage", ["other bytes, same dates and size", "cut", "gone"])
def test_verify_names_a_damaged_file_and_its_rule(study, damage, capsys):
    capsys.readouterr()
    assert main(["verify", "--study", str(study)]) == 0
    assert "2 files are as their jobs left them" in capsys.readouterr().out
    path = measures(study, "02")
    dates = path.stat()
    if damage == "gone":
        path.unlink()
    else:
        path.write_text("" if damage == "cut" else "03")
        os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert main(["verify", "--study", str(study), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["path"] == str(path.relative_to(study))
    assert (found["rule"], found["state"]) == ("assess_quality", "missing" if damage == "gone" else "damaged")


def test_verify_says_of_which_files_nothing_is_recorded(study, capsys):
    record_of(next(study.rglob("logs/*/sub-02*.log"))).unlink()
    capsys.readouterr()
    assert main(["verify", "--study", str(study)]) == 0
    assert "1 files are as their jobs left them; of 1 nothing is recorded" in capsys.readouterr().out


# status


RECORD = Record("assess_quality", "running", "node7", 4711, "9001", 0.0, asked_mb=700, asked_min=5)


def state(study: Path, person: str) -> status.Cell:
    return next(c for c in status.states(study) if c.unit == f"sub-{person} 1" and c.stage == "quality")


def test_status_is_true_in_every_state(study):
    """Recorded by the job itself, held by it while it works; whatever node it ran on."""
    log = next(study.rglob("logs/*/sub-02*.log"))
    assert state(study, "02").state == "done"
    assert state(study, "03").state == "waiting"
    measures(study, "02").write_text("cut short")
    damaged = state(study, "02")
    assert (damaged.state, "verify --repair" in damaged.why) == ("damaged", True)
    measures(study, "02").unlink()
    assert state(study, "02").state == "damaged"
    with hold(study, shared=[], alone=["study"]):
        assert state(study, "02").state == "waiting", "a run removes files before it makes them again"
    RECORD.write(log)
    assert state(study, "02").state == "killed"
    assert "on node7, job 9001" in state(study, "02").why
    with hold_log(log):
        assert state(study, "02").state == "running"
    for kind, fix in (("memory", "set-resources"), ("disk", "make room"), ("software", "read logs/")):
        replace(RECORD, state="failed", kind=kind, reason="why").write(log)
        failed = state(study, "02")
        assert (failed.state, failed.kind) == ("failed", kind)
        assert fix in failed.why


def test_results_of_all_are_outdated_beside_an_unfinished_step(study):
    """After a fault the old report still lies there: it must not pass as that of today."""
    write(study / "results/report.html", "old")
    cells = {cell.stage: cell for cell in status.states(study) if not cell.unit}
    assert cells["report"].state == "outdated"
    assert "made before" in cells["report"].why


def test_status_as_json_and_as_a_page_that_shows_no_markup_of_others(study, tmp_path, capsys):
    log = next(study.rglob("logs/*/sub-02*.log"))
    replace(RECORD, state="failed", kind="software", reason="<script>alert(1)</script>").write(log)
    capsys.readouterr()
    page = tmp_path / "status.html"
    assert main(["status", "--study", str(study), "--json", "--html", str(page)]) == 1
    found = json.loads(capsys.readouterr().out)
    (failed,) = [cell for cell in found["stages"] if cell["state"] == "failed"]
    assert failed["log"] == str(log.relative_to(study))
    assert "no run is under way" in found["remarks"]
    text = page.read_text()
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert '<td class="failed">failed</td>' in text


def test_status_says_that_the_study_file_changed_since_the_last_run(study, capsys):
    from reconfmri.config import load_study
    from reconfmri.contents import seal_of

    path = study / "config/config.yaml"
    seal_of(study, load_study(path)).write(study)
    main(["status", "--study", str(study)])
    assert "changed since the last run" not in capsys.readouterr().out
    path.write_text(path.read_text().replace("threshold: 0.5", "threshold: 0.4", 1))
    main(["status", "--study", str(study)])
    assert "config/config.yaml: changed since the last run" in capsys.readouterr().out


# resources


def test_what_jobs_took_is_what_later_runs_ask_for(study, capsys):
    for number, log in enumerate(sorted(study.rglob("logs/assess_quality/*.log"))):
        replace(read_record(log), peak_mb=600 + 300 * number, wall_s=60.0 + 90 * number).write(log)
    assert main(["resources", "--study", str(study)]) == 0
    assert read_needs(study) == {"assess_quality": (1200, 10)}
    assert [growing(1200)(None, attempt) for attempt in (1, 2, 3)] == [1200, 2400, 3600]
    assert "assess_quality\t2\t900\t2.5" in capsys.readouterr().out
    table = study / "config/resources.tsv"
    table.write_text(table.read_text().replace("1200", "much"))
    with pytest.raises(ValueError, match="E-CONF-D07 .*assess_quality"):
        read_needs(study)


def test_a_study_without_finished_jobs_has_no_resources_to_learn_from(tmp_path, capsys):
    folder = make_bids(tmp_path)
    assert main(["resources", "--study", str(folder)]) == 1
    assert not (folder / "config/resources.tsv").exists()


def test_what_changed_under_a_run_is_a_class_of_its_own_whatever_is_said():
    begun = jobs.Record("r", "running", "h", 1, "", 0.0)
    assert (
        jobs.kind_of(ChangedError("a.tsv", "is another", fix="again", code="E-BIDS-A13"), begun) == "changed"
    )
    assert jobs.kind_of(DataFault("E-DATA-B01", "cut"), begun) == "data"
    assert jobs.kind_of(KeyError("gone"), begun) == "software"
