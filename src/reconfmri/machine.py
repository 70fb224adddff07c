"""What this machine grants a process: processors of its allocation, permissions, places for caches."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# How many processors a batch system gave the job on this node; the first that is set counts.
ALLOCATED = (
    "SLURM_CPUS_PER_TASK",
    "SLURM_CPUS_ON_NODE",
    "PBS_NUM_PPN",
    "NCPUS",
    "NSLOTS",
    "LSB_DJOB_NUMPROC",
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
WORK_CACHE = ".reconfmri/cache"


def processors() -> int:
    """Return how many processors this process may use: those of its allocation, not those of the machine.

    The least of what the scheduler binds the process to, what the control group's quota allows, and what the
    batch system says in its variables.
    """
    found = [len(os.sched_getaffinity(0)), *_quotas(Path("/"))]
    said = next((os.environ[name] for name in ALLOCATED if os.environ.get(name)), "")
    found += [int(said)] if said.isdigit() else []
    return max(min(found), 1)


def memory_mb() -> int:
    """Return the memory that this process may use, MB: the least of the machine's and its control group's."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for place in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(int((Path("/") / place).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # no limit: the file is absent, or says `max`
            continue
    return min(found) // 1_000_000


def _quotas(root: Path) -> list[int]:
    """Return the processors that the control groups of this process allow, of either version of cgroups."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    quotas = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        own = top / place.lstrip("/")
        # In a container the path of the group may be the host's: then the quota stands at the top.
        for folder in [own, *(parent for parent in own.parents if top in parent.parents), top]:
            quotas += _quota_of(folder)
    return quotas


def _quota_of(folder: Path) -> list[int]:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        share = int(quota) // int(period)
    except (OSError, ValueError):  # no quota: the file is absent, or says `max`
        return []
    return [max(share, 1)] if int(quota) > 0 else []


def settle() -> None:
    """Prepare this process and those it starts: one thread each in linear algebra, and private files.

    The group's permissions stay those of the user's umask: a lab that opens its files to its group keeps them
    open. The rest of the world gets nothing.
    """
    for variable in THREADS:  # before numpy is imported
        os.environ.setdefault(variable, "1")
    os.umask(os.umask(0o077) | 0o007)


def close_to_the_world(folder: Path) -> None:
    """Take the rights of the rest of the world from a folder of ours, and so from all that lies in it."""
    with suppress(OSError):  # not there yet, or somebody else's
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~0o007)


def keep_caches(work: Path) -> None:
    """Where the home folder cannot be written, send every cache into `work`, to this user's own place."""
    home = _home_cache()
    if home.parent.is_dir() and _private(home):
        return
    place = _private(work / WORK_CACHE / str(os.getuid())) or _private_for_now()
    os.environ["XDG_CACHE_HOME"] = str(place)
    for variable in ("MPLCONFIGDIR", "NUMBA_CACHE_DIR", "DENO_DIR"):
        os.environ.setdefault(variable, str(place / variable.split("_")[0].lower()))


def cache_folder(name: str) -> Path:
    """Return a folder for the cache `name`, this user's alone; without a home it ends with the process."""
    home = _home_cache()
    kept = _private(home / "reconfmri" / name) if home.parent.is_dir() else None
    return kept or _private_for_now()


@contextmanager
def own_temporaries() -> Iterator[Path]:
    """Keep temporary files of this process, and of those that it starts, in a folder of their own that goes.

    PyTensor leaves a file for every function that it compiles, 34 for a Bayesian fit.
    """
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="reconfmri-", ignore_cleanup_errors=True) as place:
        os.environ["TMPDIR"] = tempfile.tempdir = place
        try:
            yield Path(place)
        finally:
            tempfile.tempdir = before[1]
            if before[0] is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before[0]


def _home_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute()


def _private(folder: Path) -> Path | None:
    """Return `folder` when it is ours and can be written; where there is none it is made, for us alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.absolute() if folder.lstat().st_uid == os.getuid() else None
    except OSError:
        return None


def _private_for_now() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="reconfmri-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
