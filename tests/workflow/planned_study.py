"""A study folder whose raw files exist but are empty: enough for the graph, nothing to compute."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HASH = hashlib.sha256(b"").hexdigest()
FILES = ["bold", "t1w", "events", "physio"]
KEY = ["participant_id", "session_id", "task", "run"]
COLUMNS = [*KEY, *FILES, "tr", "n_volumes", *(f"{name}_sha256" for name in FILES)]


def plan_study(folder: Path, *, participants: int = 2, sessions: int = 4, runs: int = 1) -> Path:
    """Make the study of `config/config.yaml` for so many scans in `folder` and return it."""
    (folder / "config").mkdir(parents=True)
    shutil.copy(ROOT / "config" / "config.yaml", folder / "config" / "config.yaml")
    rows = ["\t".join(COLUMNS)]
    scans = product(range(1, participants + 1), range(1, sessions + 1), range(1, runs + 1))
    rows += [
        "\t".join(_plan_scan(folder / "bids", f"{person:03d}", *map(str, rest))) for person, *rest in scans
    ]
    (folder / "config" / "runs.tsv").write_text("\n".join(rows) + "\n")
    header = "participant_id\tsession_id\ttask\trun\tregion\tstage\tcode\treason\tdecided_by\n"
    (folder / "config" / "exclusions.tsv").write_text(header)
    (folder / "allocation.tsv").write_text("participant_id\tarm\tstratum\n")
    (folder / "bids" / "phenotype").mkdir()
    for scale in ("pcl5", "caps5"):
        (folder / "bids" / "phenotype" / f"{scale}.tsv").touch()
    return folder


def _plan_scan(bids: Path, person: str, session: str, run: str) -> list[str]:
    here = f"sub-{person}/ses-{session}"
    stem = f"{here}/func/sub-{person}_ses-{session}_task-memory_run-{run}"
    t1w = f"sub-{person}/ses-1/anat/sub-{person}_ses-1_T1w.nii.gz"
    files = [f"{stem}_bold.nii.gz", t1w, f"{stem}_events.tsv", f"{stem}_physio.tsv.gz"]
    for file in files:
        (bids / file).parent.mkdir(parents=True, exist_ok=True)
        (bids / file).touch()
    return [f"sub-{person}", session, "memory", run, *files, "2.0", "120", *[HASH] * 4]


def snakemake(
    folder: Path, *arguments: str, check: bool = True, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run snakemake on the study in `folder` with the clone's Snakefile, unless another is given."""
    command = [sys.executable, "-m", "snakemake", "--directory", str(folder), *arguments]
    command += [] if "--snakefile" in arguments else ["--snakefile", str(ROOT / "Snakefile")]
    environment = {**os.environ, "NO_COLOR": "1", **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(arguments)} exited {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done
