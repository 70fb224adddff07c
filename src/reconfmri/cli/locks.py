"""Who works on a study folder: locks that the system frees when their owner dies."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

LOCKS = ".reconfmri/locks"
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # Lustre and NFS, as mounted


class BusyError(RuntimeError):
    """Another run is alive on the same work."""


@contextmanager
def hold(folder: Path, *, shared: list[str], alone: list[str], wait: bool = False) -> Iterator[None]:
    """Hold locks of the study while the block runs: `shared` ones beside others, `alone` ones by nobody else.

    Raises
    ------
    BusyError
        Another live run holds one of them (and we do not `wait`); the text says who.
    """
    with ExitStack() as stack:
        for name in shared:
            _take(stack, folder, name, fcntl.LOCK_SH, wait=wait)
        for name in alone:
            _take(stack, folder, name, fcntl.LOCK_EX, wait=wait)
        yield


def _take(stack: ExitStack, folder: Path, name: str, kind: int, *, wait: bool) -> None:
    stream = stack.enter_context(_open(folder, name))
    try:
        fcntl.flock(stream, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        raise _busy(stream.read(), name) from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        stack.enter_context(_held_by_files(folder, name, alone=kind == fcntl.LOCK_EX, wait=wait))
        return
    if kind == fcntl.LOCK_EX:
        stream.truncate(0)
        stream.write(_ourselves())
        stream.flush()


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
def _held_by_files(folder: Path, name: str, *, alone: bool, wait: bool) -> Iterator[None]:
    """Hold a lock where the file system has none: a holder leaves a file, then looks for others' files.

    A file whose run died on this host is swept away; of another host's run nothing can be known.

    Raises
    ------
    BusyError
        Another run holds it (and we do not `wait`).
    """
    holders = folder / LOCKS / f"{name}.holders"
    holders.mkdir(exist_ok=True)
    kind = "alone" if alone else "shared"
    own = holders / f"{kind}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    while True:
        own.write_text(_ourselves(), encoding="utf-8")
        try:
            others = [file for file in holders.iterdir() if file != own and not _swept(file)]
            against = [file for file in others if alone or file.name.startswith("alone-")]
            if not against:
                yield
                return
            if not wait:
                raise _busy(_words(against[0]), name, f" (if it is gone, delete {against[0]})")
        finally:
            own.unlink(missing_ok=True)
        time.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - so that two who wait do not meet for ever


def _words(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:  # has just let go
        return ""


def _swept(file: Path) -> bool:
    """Whether a holder's file counts no more: its run died on this host, has just let go, or is not ours."""
    named = re.fullmatch(r"(alone|shared)-(.*)-([0-9]+)-[0-9a-f]+", file.name)
    if named is None:
        return True
    if named[2] == socket.gethostname() and not Path("/proc", named[3]).is_dir():
        file.unlink(missing_ok=True)
    return not file.exists()


def left_locked(folder: Path) -> bool:
    """Whether Snakemake's own lock lies in a study folder where none of this machine's processes works."""
    locks = (folder / ".snakemake/locks").glob("*.lock")
    return next(locks, None) is not None and not workers(folder)


def workers(folder: Path) -> list[int]:
    """Return the ids of live Snakemake processes (ours or started by hand) that work in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            here = (process / "cwd").resolve() == folder.resolve()
            if here and b"snakemake" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return found
