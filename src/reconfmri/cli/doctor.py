"""`reconfmri doctor`: whether this machine and installation can run a study, on one page."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from reconfmri import __version__
from reconfmri.cli.screen import show_table
from reconfmri.config import CONFIG, Study, load_study
from reconfmri.locks import at_work, can_lock
from reconfmri.machine import memory_mb, processors
from reconfmri.problems import Problem
from reconfmri.provenance import hash_of_package, workflow_folder

State = Literal["ok", "remark", "fault"]
COLOURS = {"ok": "green", "remark": "yellow", "fault": "bold red"}
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ \\;]+)", re.MULTILINE)
LARGEST_JOB_MB = 4000  # prepare_anatomy of a 1 mm T1w
LITTLE_MB = 2000
NETWORK = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "fuse.sshfs", "ceph")
# Size of all results by that of the raw series: 0.8 of simulated trials, whose noise is hard to compress, and
# 5.2 of a real scan of 156 volumes.
RESULTS_PER_RAW = 6


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, what was found, and how to fix it."""

    what: str
    state: State
    found: str
    fix: str = ""


def doctor(options: Namespace) -> int:
    """Print every check; return 1 when one is a fault."""
    checks = list(examine(options.study))
    if options.json:
        print(json.dumps([asdict(check) for check in checks], indent=1, ensure_ascii=False))
    else:
        rows = [[check.state, check.what, check.found] for check in checks]
        show_table(["state", "what", "found"], rows, colours=COLOURS)
        for check in checks:
            if check.fix:
                print(f"{check.what}: {check.found}. Fix: {check.fix}")
    return int(any(check.state == "fault" for check in checks))


def examine(folder: Path) -> Iterator[Check]:
    """Yield what is known of software, machine and, where `folder` is a study, of its folder and data."""
    study = load_study(folder / CONFIG) if (folder / CONFIG).is_file() else None
    yield Check("reconfmri", "ok", f"{__version__}, code {hash_of_package()[:12]}")
    yield _python()
    yield versions(workflow_folder() / "envs/requirements.lock")
    yield Check("processors", "ok", f"{processors()} of this machine's {os.cpu_count()}")
    yield _memory()
    yield from _disks(folder, study)
    yield from _folders(folder)
    if study:
        yield _readable_by_the_world(folder)
        yield from _work(folder)
    yield _validator()
    yield from _slurm()
    yield from _container(study)


def _python() -> Check:
    found = platform.python_version()
    if sys.version_info[:2] == (3, 11):
        return Check("Python", "ok", found)
    return Check("Python", "remark", f"{found}; the lock is for 3.11", "make an environment with Python 3.11")


def versions(lock: Path) -> Check:
    """Compare the installed libraries with the lock."""
    pins = dict(PIN.findall(lock.read_text(encoding="utf-8"))) if lock.is_file() else {}
    other, absent = [], []
    for name, pinned in pins.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            absent.append(name)
            continue
        other += [f"{name} {found} (lock: {pinned})"] if found != pinned else []
    if not pins:
        return Check("versions", "remark", f"there is no lock at {lock}", "install from a clone or a wheel")
    if not (other or absent):
        return Check("versions", "ok", f"all {len(pins)} as in the lock")
    found = ", ".join([*other, *(f"{name} is not installed" for name in absent)])
    fix = "`make install`, or pip install --require-hashes -r envs/requirements.lock"
    return Check("versions", "fault" if absent else "remark", found, fix)


def _memory() -> Check:
    found = memory_mb()
    said = f"{found} MB for this process and its jobs"
    if found >= LARGEST_JOB_MB:
        return Check("memory", "ok", said)
    return Check("memory", "remark", said, f"the largest job takes up to {LARGEST_JOB_MB} MB: ask for more")


def _disks(folder: Path, study: Study | None) -> Iterator[Check]:
    """Space and kind of the file systems of results and of temporary files."""
    needed = needed_mb(folder, study) if study else LITTLE_MB
    for what, place, wants in (
        ("disk of the study", folder, needed),
        ("disk of temporary files", Path(tempfile.gettempdir()), LITTLE_MB),
    ):
        free = shutil.disk_usage(place).free // 1_000_000
        found = f"{free} MB free of about {wants} MB needed, {_file_system(place)}"
        enough = free >= wants
        fix = "" if enough else f"make room in {place.absolute()}, or give another place (OUT, --work-dir)"
        yield Check(what, "ok" if enough else "fault", found, fix)


def check_room(folder: Path, study: Study) -> list[Problem]:
    """Return a remark where the disk of a study will not hold its results, by the estimate of `needed_mb`."""
    free, needed = shutil.disk_usage(folder).free // 1_000_000, needed_mb(folder, study)
    if free >= needed:
        return []
    what = f"{free} MB are free in {folder}, about {needed} MB will be needed"
    fix = "make room first, or give another OUT; a full disk stops the run, and the same command goes on"
    return [Problem("WARN", "W-CONF-D03", what, fix)]


def needed_mb(folder: Path, study: Study) -> int:
    """Return what the results will take beside what is there, MB: an estimate by the raw images."""
    root = folder / study.bids
    raw = sum(path.stat().st_size for path in root.glob("sub-*/**/func/*_bold.nii*") if path.is_file())
    made = sum(path.stat().st_size for path in (folder / "results").rglob("*.nii.gz") if path.is_file())
    return max(RESULTS_PER_RAW * raw - made, 0) // 1_000_000


def _file_system(place: Path) -> str:
    """The kind of file system that a folder lies on, by the longest mount point that leads to it."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown file system"
    mounts = [line.split()[1:3] for line in lines]
    real = place.resolve()
    found = [mount for mount in mounts if real.is_relative_to(mount[0])]
    kind = max(found, key=lambda mount: len(mount[0]))[1] if found else "unknown"
    return f"{kind} (over the network)" if kind in NETWORK else kind


def _folders(folder: Path) -> Iterator[Check]:
    for what, place in (("study folder", folder), ("home folder", Path.home())):
        if os.access(place, os.W_OK):
            yield Check(what, "ok", "can be written")
        elif what == "home folder":
            yield Check(what, "remark", "cannot be written: caches go into the work folder")
        else:
            yield Check(what, "fault", f"{place.absolute()} cannot be written", "give another OUT")
    mask = os.umask(0o077)
    os.umask(mask)
    yield Check("umask", "ok", f"{mask:03o}: the group may {_may(mask)}, the world nothing")


def _may(mask: int) -> str:
    return {0o00: "read and write", 0o20: "read"}.get(mask & 0o60, "nothing")


def _readable_by_the_world(folder: Path) -> Check:
    """Results, logs and records that anybody on the machine may read."""
    is_open = []
    for name in ("results", "logs", ".snakemake", ".reconfmri"):
        for place, folders, files in os.walk(folder / name):
            if not Path(place).stat().st_mode & stat.S_IXOTH:
                folders.clear()  # a closed folder closes what lies in it
                continue
            paths = (Path(place, file) for file in files)
            is_open += [path for path in paths if _is_open(path)]
    if not is_open or not folder.resolve().stat().st_mode & stat.S_IXOTH:
        return Check("permissions", "ok", "results, logs and records are closed to the world")
    found = f"{len(is_open)} files can be read by the world, such as {is_open[0].relative_to(folder)}"
    return Check("permissions", "remark", found, "chmod -R o-rwx results logs .snakemake .reconfmri")


def _is_open(path: Path) -> bool:
    return not path.is_symlink() and bool(path.stat().st_mode & stat.S_IROTH)


def _work(folder: Path) -> Iterator[Check]:
    locks = can_lock(folder)
    if locks is not None:
        found = "work on this file system" if locks else "are not there: files stand in for them"
        yield Check("locks", "ok" if locks else "remark", found)
    for who in at_work(folder):
        yield Check("run", "ok", f"{who}: at work")


def _validator() -> Check:
    tool = Path(sys.executable).with_name("bids-validator-deno")
    if _said([str(tool), "--version"]):
        return Check("BIDS validator", "ok", metadata.version("bids-validator-deno"))
    return Check("BIDS validator", "remark", "does not start", "`make install`, or --skip-bids-validation")


def _slurm() -> Iterator[Check]:
    if not shutil.which("sbatch"):
        yield Check("SLURM", "ok", "not on this machine: no action is needed if jobs run here")
        return
    partitions = _said(["sinfo", "--noheader", "--format=%P %T"])
    if not partitions:
        yield Check(
            "SLURM", "fault", "sbatch is there, sinfo says nothing", "is the controller alive? `sinfo`"
        )
        return
    yield Check("SLURM", "ok", f"partitions: {partitions}")
    try:
        yield Check("SLURM plugin", "ok", metadata.version("snakemake-executor-plugin-slurm"))
    except metadata.PackageNotFoundError:
        yield Check("SLURM plugin", "fault", "is not installed", 'pip install "reconfmri[slurm]"')
    if not _said(
        ["sacct", "--noheader", "--allocations", "--format=JobID", "--starttime=now"], silent="works"
    ):
        fix = "take `--profile slurm-without-accounting`"
        yield Check("SLURM accounting", "remark", "sacct does not work here", fix)


def _container(study: Study | None) -> Iterator[Check]:
    job = study and study.preprocessing.fmriprep and study.preprocessing.fmriprep.container
    if job:
        found = shutil.which(job.runtime)
        fix = "" if found else f"install {job.runtime}, or run where it is"
        yield Check(job.runtime, "ok" if found else "fault", found or "is not on this machine", fix)


def _said(command: list[str], *, silent: str = "") -> str:
    """What a program says in one line; nothing where it fails, `silent` where it says nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else " ".join(done.stdout.split()) or silent
