"""fMRIPrep in a container: the command line of one participant's job, and running it.

This module imports nothing of the package, so that no other edit makes a participant's hours of work stale.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SPACE = "MNI152NLin2009cAsym"
MEMORY_SHARE = 0.9  # of a job's memory that fMRIPrep may plan with: its estimates are low
RUNTIMES = ["apptainer", "docker"]
KILLED = (-9, -15, 137, 143)


class Places(NamedTuple):
    """What a container sees of this machine: absolute paths."""

    bids: Path
    derivatives: Path
    work: Path
    fs_license: Path
    templateflow: Path


def command_line(
    runtime: str,
    image: str,
    places: Places,
    label: str,
    *,
    res: str,
    options: Sequence[str],
    threads: int,
    memory_mb: int,
    user: str,
) -> list[str]:
    """Return the command that runs fMRIPrep for the participant `label`, one argument per word.

    `runtime` is apptainer or docker, `res` the template's resolution, mm. The dataset and the licence cannot
    be written to. fMRIPrep validates the participant's raw data, as it does by default. `user` is `uid:gid`:
    what Docker writes belongs to that user; under Apptainer one is oneself.

    Raises
    ------
    ValueError
        The runtime is neither of these.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime is {runtime!r}, expected one of {RUNTIMES}")
    binds = [
        f"{places.bids}:/data:ro",
        f"{places.derivatives}:/out",
        f"{places.work}:/work",
        f"{places.fs_license}:/license.txt:ro",
        f"{places.templateflow}:/templateflow",
    ]
    home = ["--env", "TEMPLATEFLOW_HOME=/templateflow"]
    if runtime == "docker":
        start = ["docker", "run", "--rm", "--user", user, *home]
        start += [word for bind in binds for word in ("--volume", bind)]
    else:
        # A home of its own: packages in the user's home would shadow those of the image.
        start = ["apptainer", "run", "--cleanenv", "--home", f"{places.work}/home:/home/fmriprep", *home]
        start += [word for bind in binds for word in ("--bind", bind)]
    asked = ["/data", "/out", "participant", "--participant-label", label]
    asked += ["--output-spaces", f"{SPACE}:res-{res}", "-w", "/work", "--fs-license-file", "/license.txt"]
    asked += ["--nthreads", str(threads), "--mem", str(int(MEMORY_SHARE * memory_mb)), "--notrack"]
    return [*start, image, *asked, *options]


def run_participant(command: Sequence[str], places: Places, words: Path) -> None:
    """Run the command and append what it says to the file `words`; the work directory stays for a retry.

    Raises
    ------
    RuntimeError
        The container cannot be started, or fMRIPrep failed; with its last line.
    """
    for folder in (places.derivatives, places.work / "home", words.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with words.open("ab") as stream:
        begun = stream.tell()
        try:
            done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
        except OSError as error:
            raise RuntimeError(f"{command[0]} cannot be started: {error.strerror}") from None
    if done.returncode:
        said = words.read_bytes()[begun:].decode("utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
        why = " (killed: too little memory or time?)" if done.returncode in KILLED else ""
        raise RuntimeError(f"fMRIPrep ended with {done.returncode}{why}: {last}. All it said: {words}")
