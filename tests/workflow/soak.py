"""Runs of a small study that are killed at random moments, again and again, and must end as an unbroken one.

    python -m tests.workflow.soak FOLDER --kills 200 --seed 1

A simulated trial is run to its end once, undisturbed. A copy of it is run by the same command, whose whole
process group, or whose main process alone (so that its jobs are orphans), is killed after a random time, by
SIGKILL or SIGTERM. After that many kills it may end, and every table and page must hold the same bytes. One
line of JSON says how often it was killed and what differs; the exit code is 1 when anything does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
KEPT = (".tsv", ".html", ".json", ".txt", ".nii.gz")
TARGET = ["all_participant"]
FEWEST_PEOPLE = 4  # that a trial is simulated of


def command(study: Path) -> list[str]:
    """The command that runs, is killed and goes on."""
    run = [sys.executable, "-m", "snakemake", *TARGET, "--snakefile", str(ROOT / "Snakefile")]
    return [*run, "--directory", str(study), "--cores", "2", "--keep-going", "--quiet", "all"]


def make_study(folder: Path, participants: int) -> Path:
    """Simulate a trial of two visits and index it; so many people are analysed, the others are left out."""
    here = [sys.executable, "-m", "reconfmri"]
    simulated = max(participants, FEWEST_PEOPLE)
    trial = [*here, "simulate", str(folder), "--participants", str(simulated), "--n-cpus", "2"]
    subprocess.run(trial, check=True)
    settings = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    settings["sessions"] = settings["sessions"][:2]
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    subprocess.run([*here, "index", "--study", str(folder)], check=True, stdout=subprocess.DEVNULL)
    with (folder / "config/exclusions.tsv").open("a", encoding="utf-8") as stream:
        for number in range(participants + 1, simulated + 1):
            stream.write(
                "\t".join([f"sub-{number:02d}", *["n/a"] * 4, "", "E-HAND", "not needed", "soak"]) + "\n"
            )
    return folder


def digests(study: Path) -> dict[str, str]:
    """Path -> sha256 of every result."""
    files = [path for path in (study / "results").rglob("*") if path.name.endswith(KEPT) and path.is_file()]
    return {str(path.relative_to(study)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run_and_kill(study: Path, after: float, how: signal.Signals, *, orphans: bool) -> bool:
    """Start the run and kill it after so many s; whether it was alive then."""
    with subprocess.Popen(command(study), start_new_session=True, stderr=subprocess.DEVNULL) as run:
        try:
            run.wait(after)
        except subprocess.TimeoutExpired:
            if orphans:
                os.kill(run.pid, how)
            else:
                os.killpg(run.pid, how)
            run.wait(60)
            return True
    return False


def soak(folder: Path, *, kills: int, participants: int, seed: int) -> dict[str, object]:
    """Return how often the run was killed, and the results that differ from those of an unbroken one."""
    whole = make_study(folder / "whole", participants)
    broken = shutil.copytree(whole, folder / "broken")
    begun = time.monotonic()
    subprocess.run(command(whole), check=True)
    length, draw, killed = time.monotonic() - begun, random.Random(seed), 0
    for number in range(kills):
        # Begin again from nothing now and then: a run that is nearly done has little left to break.
        if number and draw.random() < 0.1:
            shutil.rmtree(broken / "results", ignore_errors=True)
        how = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        after = draw.uniform(3.0, max(length / 4, 6.0))
        killed += run_and_kill(broken, after, how, orphans=draw.random() < 0.3)
    ended = subprocess.run(command(broken), check=False).returncode
    one, other = digests(whole), digests(broken)
    differs = sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
    found: dict[str, object] = {"kills": killed, "unbroken_s": round(length), "exit_code": ended}
    return found | {"files": len(one), "differs": differs}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--participants", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    found = soak(given.folder.resolve(), kills=given.kills, participants=given.participants, seed=given.seed)
    print(json.dumps(found))
    sys.exit(bool(found["differs"]) or found["exit_code"] != 0)
