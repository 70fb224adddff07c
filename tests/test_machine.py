"""What the machine grants: processors of an allocation, permissions, caches, locks without flock."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconfmri import locks, machine
from reconfmri.cli import build_parser
from reconfmri.locks import LOCKS, BusyError, hold, hold_log, is_held


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    for name in (*machine.ALLOCATED, "XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "DENO_DIR"):
        monkeypatch.delenv(name, raising=False)


# processors


def test_the_default_number_of_processors_is_that_of_the_allocation(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(machine, "_quotas", lambda _: [])
    assert machine.processors() == 64
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "16")
    assert machine.processors() == 16
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    for command in (["run", "a", "b", "participant"], ["simulate", "a"]):
        assert build_parser().parse_args(command).n_cpus == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert machine.processors() == 1


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/job/step", {"job/cpu.max": "300000 100000", "job/step/cpu.max": "max 100000"}, [3]),
        ("0::/job/step", {"cpu.max": "50000 100000"}, [1]),
        ("0::/job", {"job/cpu.max": "max 100000"}, []),
        ("4:cpuset:/x\n3:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "200000"}, [2]),
        ("3:cpu,cpuacct:/job", {"cpu/job/cpu.cfs_quota_us": "-1"}, []),
        # in a container: the host's path, and the container's own group at the top
        ("3:cpu:/docker/0123", {"cpu/cpu.cfs_quota_us": "400000"}, [4]),
    ],
)
def test_the_quota_of_a_control_group_counts(tmp_path, group, files, expected):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(group + "\n")
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
        if "quota" in name:
            path.with_name("cpu.cfs_period_us").write_text("100000\n")
    assert machine._quotas(tmp_path) == expected


# permissions


@pytest.mark.parametrize(
    ("of_the_lab", "ours"), [(0o002, 0o007), (0o022, 0o027), (0o077, 0o077), (0o000, 0o007)]
)
def test_a_lab_that_opens_files_to_its_group_keeps_them_open_and_the_world_gets_nothing(of_the_lab, ours):
    before = os.umask(of_the_lab)
    try:
        machine.settle()
        assert os.umask(0) == ours
    finally:
        os.umask(before)


# caches


def test_without_a_home_caches_go_into_the_work_folder_and_are_the_users_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/proc/nowhere")
    machine.keep_caches(tmp_path)
    own = tmp_path / ".reconfmri/cache" / str(os.getuid())
    assert own.stat().st_mode & 0o777 == 0o700
    assert own.parent.stat().st_mode & 0o700 == 0o700
    places = [os.environ["XDG_CACHE_HOME"], os.environ["MPLCONFIGDIR"], str(machine.cache_folder("pytensor"))]
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "DENO_DIR"):
        monkeypatch.setenv(name, os.environ[name])  # so that it is put back
    assert all(Path(place).is_relative_to(own) for place in places)


def test_a_home_that_can_be_written_keeps_its_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    machine.keep_caches(tmp_path / "work")
    assert "XDG_CACHE_HOME" not in os.environ
    assert machine.cache_folder("pytensor") == tmp_path / "home/.cache/reconfmri/pytensor"
    assert not (tmp_path / "work").exists()


def test_a_folder_of_somebody_else_is_no_cache_of_ours(tmp_path, monkeypatch):
    """A name in a shared folder can be taken first by another user, with what he likes in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 12345678)
    found = machine.cache_folder("pytensor")
    assert not found.is_relative_to(tmp_path)
    assert found.stat().st_mode & 0o777 == 0o700


def test_pytensor_compiles_into_that_cache(tmp_path):
    code = (
        "import os, reconfmri.group.bayes_model as m; m.name_compile_folder();"
        "print(os.environ['PYTENSOR_FLAGS'])"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PYTENSOR_FLAGS": "cxx="}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == f"cxx=,base_compiledir={tmp_path}/.cache/reconfmri/pytensor\n", done.stderr


# locks


@pytest.fixture
def without_flock(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_where_the_file_system_has_no_locks_a_second_run_is_refused_all_the_same(tmp_path, without_flock):
    with hold(tmp_path, shared=["study"], alone=["sub-01"]):
        with (
            pytest.raises(BusyError, match=r"run \d+ on host .* works on sub-01 .*if it is gone, delete"),
            hold(tmp_path, shared=["study"], alone=["sub-01"]),
        ):
            pass
        with hold(tmp_path, shared=["study"], alone=["sub-02"]):
            pass
        with pytest.raises(BusyError, match="works on study"), hold(tmp_path, shared=[], alone=["study"]):
            pass
    with hold(tmp_path, shared=[], alone=["study", "sub-01"]):
        pass
    assert not list((tmp_path / LOCKS).rglob("alone-*"))


def test_a_run_that_was_killed_leaves_no_lock_without_flock_either(tmp_path, without_flock):
    code = (
        "import errno, fcntl, os, sys; from pathlib import Path; from reconfmri.locks import hold\n"
        "def refuse(*_): raise OSError(errno.ENOLCK, '')\n"
        "fcntl.flock = refuse\n"
        "with hold(Path(sys.argv[1]), shared=[], alone=['study']): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert list((tmp_path / LOCKS).rglob("alone-*"))
    with hold(tmp_path, shared=[], alone=["study"]):
        pass


@pytest.mark.parametrize(("age", "counts"), [(30, True), (locks.DEAD_AFTER + 30, False)])
def test_a_run_of_another_host_counts_as_long_as_it_gives_a_sign_of_life(
    tmp_path, without_flock, age, counts
):
    """Process ids are of one host only: a run elsewhere touches its file once a minute."""
    file = tmp_path / LOCKS / "study.holders" / "alone-node7-1-00ff00ff"
    file.parent.mkdir(parents=True)
    file.write_text("run 1 on host node7, alive since noon")
    os.utime(file, (time.time() - age,) * 2)
    assert locks.at_work(tmp_path) == (["run 1 on host node7, alive since noon"] if counts else [])
    if counts:
        with pytest.raises(BusyError, match="node7"), hold(tmp_path, shared=[], alone=["study"]):
            pass
    else:
        with hold(tmp_path, shared=[], alone=["study"]):
            assert not file.exists()


def test_a_run_gives_a_sign_of_life(tmp_path, without_flock, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    with hold(tmp_path, shared=[], alone=["study"]) as held:
        os.utime(held[0], (0, 0))
        wait_for(lambda: Path(held[0]).stat().st_mtime > 1e9)


def test_other_faults_of_a_lock_are_not_hidden(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"), hold(tmp_path, shared=[], alone=["study"]):
        pass


WORKER = """
import sys, time
from pathlib import Path
from reconfmri.locks import hold_as_worker
with hold_as_worker(Path(sys.argv[1]), people=[]):
    Path(sys.argv[1], "works").touch()
    time.sleep(60)
"""
STARTER = """
import errno, fcntl, os, subprocess, sys
from pathlib import Path
from reconfmri.locks import hold, passed_on
def refuse(*_): raise OSError(errno.ENOLCK, "")
if sys.argv[3] == "without flock": fcntl.flock = refuse
with hold(Path(sys.argv[1]), shared=[], alone=["study"]) as held:
    descriptors, variable = passed_on(held)
    environment = os.environ | variable
    command = [sys.executable, "-c", sys.argv[2], sys.argv[1]]
    worker = subprocess.Popen(command, pass_fds=descriptors, env=environment, start_new_session=True)
    print(worker.pid, flush=True)
    worker.wait()
"""


@pytest.mark.parametrize("flock", ["flock", "without flock"])
def test_a_lock_lasts_as_long_as_the_worker_whoever_started_it_is_killed(tmp_path, flock, monkeypatch):
    """`reconfmri run` killed by its id: its Snakemake lives on, and the study is still busy."""
    command = [sys.executable, "-c", STARTER, str(tmp_path), WORKER, flock]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        worker = int(starter.stdout.readline())
        wait_for((tmp_path / "works").is_file)
        starter.kill()
    if flock == "without flock":
        monkeypatch.setattr(fcntl, "flock", _no_flock)
    with pytest.raises(BusyError, match="works on study"), hold(tmp_path, shared=["study"], alone=[]):
        pass
    os.kill(worker, 9)
    wait_for(lambda: not Path("/proc", str(worker), "cwd").exists())
    with hold(tmp_path, shared=[], alone=["study"]):
        pass


def _no_flock(*_):
    raise OSError(errno.ENOLCK, "No locks available")


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_job_waits_for_the_orphan_of_a_killed_run_that_still_writes(tmp_path):
    log = tmp_path / "job.log"
    code = (
        "import sys, time; from pathlib import Path; from reconfmri.locks import hold_log\n"
        "with hold_log(Path(sys.argv[1])):\n"
        "    for word in ('holds', 'done'): print(word, flush=True); time.sleep(0.3)"
    )
    with subprocess.Popen([sys.executable, "-c", code, log], stdout=subprocess.PIPE, text=True) as orphan:
        assert orphan.stdout.readline() == "holds\n"
        assert is_held(log)
        with hold_log(log) as waited:
            assert waited
            assert orphan.stdout.readline() == "done\n"
    assert not is_held(log)
    with hold_log(log) as waited:
        assert not waited


def test_nothing_is_known_of_a_log_where_there_is_no_flock(tmp_path, without_flock):
    with hold_log(tmp_path / "job.log"):
        assert is_held(tmp_path / "job.log") is None
