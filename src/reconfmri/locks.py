"""Who works on a study folder: locks that the system frees when their owner dies.

A lock belongs to the worker, Snakemake's main process: whoever starts one passes its locks on, so that they
last as long as either lives. A job holds its own log in the same way.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

LOCKS = ".reconfmri/locks"
HELD = "RECONFMRI_HELD"  # the locks that a worker receives from whoever started it, as JSON
# A holder's file is touched so often, s; on another host one that was not for so long is of a run that died.
BEAT, DEAD_AFTER = 60.0, 900.0
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # Lustre and NFS, as mounted


class BusyError(RuntimeError):
    """Another run is alive on the same work."""


@contextmanager
def hold(folder: Path, *, shared: list[str], alone: list[str], wait: bool = False) -> Iterator[list[str]]:
    """Hold locks of the study while the block runs: `shared` ones beside others, `alone` ones by nobody else.

    Yields what `passed_on` gives to a worker.

    Raises
    ------
    BusyError
        Another live run holds one of them (and we do not `wait`); the text says who.
    """
    with ExitStack() as stack:
        held = [_take(stack, folder, name, fcntl.LOCK_SH, wait=wait) for name in shared]
        held += [_take(stack, folder, name, fcntl.LOCK_EX, wait=wait) for name in alone]
        yield held


def passed_on(held: list[str]) -> tuple[list[int], dict[str, str]]:
    """Return the file descriptors and the variable by which a process that we start holds our locks too."""
    return [int(word) for word in held if word.isdecimal()], {HELD: json.dumps(held)}


@contextmanager
def hold_as_worker(folder: Path, *, people: list[str]) -> Iterator[None]:
    """Hold the locks of a main process that works on some `people`, or on all: those received, else its own.

    Raises
    ------
    BusyError
        Another live run holds one of them.
    """
    received = json.loads(os.environ.pop(HELD, "[]"))
    with ExitStack() as stack:
        if not received:
            shared, alone = (["study"], sorted(people)) if people else ([], ["study"])
            stack.enter_context(hold(folder, shared=shared, alone=alone))
        for word in received:
            if word.isdecimal():
                os.set_inheritable(int(word), False)  # a worker's jobs do not hold the study
                stack.callback(os.close, int(word))
            else:
                own = _file_of_holder(Path(word).parent, Path(word).name.partition("-")[0])
                own.write_text(_ourselves(), encoding="utf-8")
                stack.callback(own.unlink, missing_ok=True)
                stack.enter_context(_beating(own))
        yield


@contextmanager
def hold_log(path: Path) -> Iterator[str]:
    """Hold the log of a job while it works; a job of a killed run that still writes is waited for.

    Yields who was waited for, or nothing. Where the file system has no locks nobody can be waited for.
    """
    with path.open("a+", encoding="utf-8") as stream:
        before = ""
        try:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                before = "an earlier job of the same step was still at work"
                fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        yield before


def is_held(path: Path) -> bool | None:
    """Whether a live process holds a log; None where the file system cannot tell."""
    try:
        with path.open(encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False


def at_work(folder: Path) -> list[str]:
    """Return who holds a lock of a study now, on whichever host: `run 12 on host h, alive since ...`."""
    found = []
    for path in sorted((folder / LOCKS).glob("*")):
        if path.is_file() and is_held(path):
            found.append(_words(path).strip() or "another run")
        holders = _alive_in(path) if path.is_dir() else []
        found += [_words(file).strip() or "another run" for file in holders]
    return list(dict.fromkeys(found))


def _alive_in(holders: Path) -> list[Path]:
    return [file for file in sorted(holders.iterdir()) if not _swept(file, time.time())]


def can_lock(folder: Path) -> bool | None:
    """Whether the file system of a study has locks; None where none was ever asked for."""
    found = {is_held(path) for path in (folder / LOCKS).glob("*") if path.is_file()}
    return True if found & {True, False} else (False if found else None)


def _take(stack: ExitStack, folder: Path, name: str, kind: int, *, wait: bool) -> str:
    stream = stack.enter_context(_open(folder, name))
    try:
        fcntl.flock(stream, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        raise _busy(stream.read(), name) from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        alone = kind == fcntl.LOCK_EX
        return str(stack.enter_context(_held_by_files(folder, name, alone=alone, wait=wait)))
    if kind == fcntl.LOCK_EX:
        stream.truncate(0)
        stream.write(_ourselves())
        stream.flush()
    return str(stream.fileno())


def _busy(who: str, name: str, then: str = "") -> BusyError:
    fix = f"wait for it, or stop it{then}; nothing was touched"
    return BusyError(f"{who or 'another run'}, works on {name} of this study. Fix: {fix}")


def _ourselves() -> str:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return f"run {os.getpid()} on host {socket.gethostname()}, alive since {since}"


def _open(folder: Path, name: str) -> TextIO:
    path = folder / LOCKS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8")


@contextmanager
def _held_by_files(folder: Path, name: str, *, alone: bool, wait: bool) -> Iterator[Path]:
    """Hold a lock where the file system has none: a holder leaves a file, then looks for others' files.

    A file whose run died is swept away: on this host by its process, on another one by its age, as a run that
    lives touches its file once a minute.

    Raises
    ------
    BusyError
        Another run holds it (and we do not `wait`).
    """
    holders = folder / LOCKS / f"{name}.holders"
    holders.mkdir(exist_ok=True)
    own = _file_of_holder(holders, "alone" if alone else "shared")
    while True:
        own.write_text(_ourselves(), encoding="utf-8")
        try:
            now = (
                own.stat().st_mtime
            )  # the clock of the file server, by which the others' files are dated too
            others = [file for file in holders.iterdir() if file != own and not _swept(file, now)]
            against = [file for file in others if alone or file.name.startswith("alone-")]
            if not against:
                with _beating(own):
                    yield own
                return
            if not wait:
                raise _busy(_words(against[0]), name, f" (if it is gone, delete {against[0]})")
        finally:
            own.unlink(missing_ok=True)
        time.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - so that two who wait do not meet for ever


def _file_of_holder(holders: Path, kind: str) -> Path:
    return holders / f"{kind}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@contextmanager
def _beating(file: Path) -> Iterator[None]:
    """Touch a holder's file as long as the block runs and the process lives."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(OSError):
                os.utime(file)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _words(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:  # has just let go
        return ""


def _swept(file: Path, now: float) -> bool:
    """Whether a holder's file counts no more: its run died, has just let go, or it is none of ours."""
    named = re.fullmatch(r"(alone|shared)-(.*)-([0-9]+)-[0-9a-f]+", file.name)
    if named is None:
        return True
    try:
        old = now - file.stat().st_mtime > DEAD_AFTER
    except FileNotFoundError:
        return True
    if not _is_alive(named[3]) if named[2] == socket.gethostname() else old:
        with suppress(OSError):
            file.unlink(missing_ok=True)
        return True
    return False


def _is_alive(process: str) -> bool:
    """Whether a process of this host lives; one that ended and was not collected by its parent does not."""
    try:
        return Path("/proc", process, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
