"""One job of the workflow: it holds its log, fails without showing data, and leaves a record beside the log.

`logs/RULE/UNIT.json` says what became of the job, when and where, what it took, and the sha256 of every file
that it made: `reconfmri status`, `verify` and `resources` read it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

from reconfmri.bids import sha256
from reconfmri.files import ChangedError
from reconfmri.locks import hold_log
from reconfmri.machine import own_temporaries
from reconfmri.provenance import log_to
from reconfmri.tracebacks import without_data

Kind = Literal["", "data", "memory", "time", "disk", "changed", "stopped", "software"]
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NEARLY = 0.9  # of the time asked: who is told to end then was out of time


class EndedError(SystemExit):
    """The job was told to end (SIGTERM)."""


@dataclass(frozen=True)
class Record:
    """What became of a job. Times in s since 1970, durations in s, memory in MB; `outputs`: size, sha256."""

    rule: str
    state: Literal["running", "done", "failed"]
    host: str
    process: int
    batch_job: str
    started: float
    kind: Kind = ""
    reason: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: int = 0
    threads: int = 1
    asked_mb: int = 0
    asked_min: int = 0
    outputs: dict[str, tuple[int, str]] = field(default_factory=dict)

    def finished(self, state: Literal["done", "failed"], **more: Any) -> Record:
        """Return the record of the job as it ends now: time, processor time and peak memory with it."""
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return replace(
            self,
            state=state,
            wall_s=round(time.time() - self.started, 1),
            cpu_s=round(sum(usage.ru_utime + usage.ru_stime for usage in (own, children)), 1),
            peak_mb=(own.ru_maxrss + children.ru_maxrss) // 1024,  # of the largest program it started
            **more,
        )

    def write(self, log: Path) -> None:
        """Leave the record beside the log; a full disk or closed folder takes it, never the job.

        A full disk has no room for a new file, but for as many letters in the place of the old ones.
        """
        place, text = record_of(log), json.dumps(asdict(self), ensure_ascii=False) + "\n"
        beside = place.with_suffix(f".{os.getpid()}")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(place)
        except OSError:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
                with place.open("r+", encoding="utf-8") as stream:
                    stream.write(text)
                    stream.truncate()


def record_of(log: Path) -> Path:
    """Return the place of a job's record, by its log."""
    return log.with_suffix(".json")


def read_record(log: Path) -> Record | None:
    """Return the record of a job by its log; None where there is none that can be read."""
    try:
        found = json.loads(record_of(log).read_text(encoding="utf-8"))
        found["outputs"] = {path: (size, digest) for path, (size, digest) in found["outputs"].items()}
        return Record(**found)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_records(folder: Path) -> dict[str, Record]:
    """Return log, from the study folder -> record of every job of a study that left one."""
    logs = sorted(path.with_suffix(".log") for path in (folder / "logs").glob("*/*.json"))
    found = {str(log.relative_to(folder)): read_record(log) for log in logs}
    return {log: record for log, record in found.items() if record}


@contextmanager
def job(snakemake: Any) -> Iterator[logging.Logger]:
    """Hold the log of a job, log to it, leave its record, whatever becomes of it, and no temporary file."""
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold_log(path) as waited, log_to(path) as log, own_temporaries():
        if waited:
            log.warning("%s; it was waited for", waited)
        begun = _begun(snakemake)
        begun.write(path)
        with _told_to_end():
            try:
                yield log
                begun.finished("done", outputs=_digests(snakemake.output)).write(path)
            except BaseException as error:
                kind = kind_of(error, begun)
                reason = _reason(error, begun, kind)
                begun.finished("failed", kind=kind, reason=reason).write(path)
                sys.excepthook = partial(_tell, f"failed ({kind}): {reason}")
                if not isinstance(error, Exception):
                    log.error("%s", reason)
                raise


def _begun(snakemake: Any) -> Record:
    """The record of a job that begins."""
    asked = getattr(snakemake, "resources", None)
    return Record(
        rule=str(getattr(snakemake, "rule", "")),
        state="running",
        host=socket.gethostname(),
        process=os.getpid(),
        batch_job=os.environ.get("SLURM_JOB_ID")
        or os.environ.get("LSB_JOBID")
        or os.environ.get("JOB_ID", ""),
        started=time.time(),
        threads=int(getattr(snakemake, "threads", 1)),
        asked_mb=_number(asked, "mem_mb"),
        asked_min=_number(asked, "runtime"),
    )


def _number(asked: Any, name: str) -> int:
    found = getattr(asked, name, 0)
    return int(found) if isinstance(found, int | float) else 0


def _digests(outputs: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Size and sha256 of every file that was made, a link's by what it leads to."""
    made = {str(path): Path(path) for path in outputs}
    return {name: (path.stat().st_size, sha256(path)) for name, path in made.items() if path.is_file()}


@contextmanager
def _told_to_end() -> Iterator[None]:
    """Make SIGTERM an exception, so that whoever ends a job for its time leaves a record of it."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise EndedError(128 + signal.SIGTERM)

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def kind_of(error: BaseException, begun: Record) -> Kind:
    """Return the class of a failure."""
    if isinstance(error, EndedError | subprocess.TimeoutExpired):
        late = begun.asked_min and time.time() - begun.started > NEARLY * 60 * begun.asked_min
        return "time" if late or isinstance(error, subprocess.TimeoutExpired) else "stopped"
    if isinstance(error, KeyboardInterrupt):
        return "stopped"
    if isinstance(error, MemoryError) or getattr(error, "returncode", 0) in (-9, 137):
        return "memory"  # a program that it started was killed
    if isinstance(error, OSError) and error.errno in FULL:
        return "disk"
    if isinstance(error, ChangedError):
        return "changed"
    # faults of data are of many types; each begins with its code
    return "data" if re.match(r"[EW]-[A-Z]+-[A-Z0-9]+ ", str(error)) else "software"


def _reason(error: BaseException, begun: Record, kind: Kind) -> str:
    """One line: what went wrong, with what was asked where that was too little."""
    took = begun.finished("failed")
    if kind == "memory":
        asked = f"asked {begun.asked_mb} MB, " if begun.asked_mb else ""
        return f"out of memory: {asked}peak {took.peak_mb} MB"
    if kind == "time":
        return f"out of time: asked {begun.asked_min} min, took {took.wall_s / 60:.0f}"
    if kind == "stopped":
        return f"told to end after {took.wall_s:.0f} s"
    if kind == "disk":
        place = getattr(error, "filename", None) or Path.cwd()
        return f"no space left for {place}: {_free_mb(place)} MB free there"
    return without_data(error)


def _free_mb(place: str | bytes | Path) -> int:
    folder = Path(os.fsdecode(place)).absolute()
    while not folder.is_dir():
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize // 1_000_000


def _tell(line: str, *_error: object) -> None:
    """What a job that fails shows on the screen, and so in the logs of Snakemake and of a batch system."""
    print(line, file=sys.stderr)
