"""Who works on a study folder: locks that the system frees when their owner dies."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

LOCKS = ".reconfmri/locks"


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
            _take(stack.enter_context(_open(folder, name)), name, fcntl.LOCK_SH, wait=wait)
        for name in alone:
            stream = stack.enter_context(_open(folder, name))
            _take(stream, name, fcntl.LOCK_EX, wait=wait)
            stream.truncate(0)
            stream.write(f"run {os.getpid()} on host {socket.gethostname()}, alive since {_now()}")
            stream.flush()
        yield


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _open(folder: Path, name: str) -> TextIO:
    path = folder / LOCKS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8")


def _take(stream: TextIO, name: str, kind: int, *, wait: bool) -> None:
    try:
        fcntl.flock(stream, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        who = stream.read() or "another run"
        raise BusyError(
            f"{who}, works on {name} of this study. Mend: wait for it, or stop it; nothing was touched"
        ) from None


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
