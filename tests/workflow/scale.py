"""What index, check, plan and status take with many scans: processor time and peak memory.

python -m tests.workflow.scale FOLDER --scans 2000

The scans are small images with their own content, four visits of one run per person: all that is measured
grows with the number of files, not with their size. Not a test: it takes minutes. Found: docs/machines.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import nibabel
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
VISITS = 4


def make_study(folder: Path, scans: int) -> None:
    """Write a BIDS dataset and a study folder for it, without an index."""
    random, bids = np.random.default_rng(1), folder / "bids"
    people = [f"sub-{place:04d}" for place in range(1, scans // VISITS + 1)]
    for person in people:
        (bids / person / "ses-1/anat").mkdir(parents=True)
        _image(bids / person / f"ses-1/anat/{person}_ses-1_T1w.nii.gz", random.standard_normal((32, 32, 32)))
        for visit in range(1, VISITS + 1):
            place = bids / person / f"ses-{visit}/func"
            place.mkdir(parents=True)
            stem = f"{place}/{person}_ses-{visit}_task-memory"
            _image(Path(f"{stem}_bold.nii.gz"), random.standard_normal((8, 8, 8, 60)))
            sidecar = {"RepetitionTime": 2.0, "TaskName": "memory"}
            Path(f"{stem}_bold.json").write_text(json.dumps(sidecar), encoding="utf-8")
            shift = random.uniform(0, 0.5)
            rows = [f"{shift + 4 * n:.3f}\t3\t{name}" for n, name in enumerate(("trauma", "sad", "relax"))]
            Path(f"{stem}_events.tsv").write_text(
                "\n".join(["onset\tduration\ttrial_type", *rows, ""]), encoding="utf-8"
            )
    described = {"Name": "scale", "BIDSVersion": "1.10.0"}
    (bids / "dataset_description.json").write_text(json.dumps(described), encoding="utf-8")
    (bids / "participants.tsv").write_text("\n".join(["participant_id", *people, ""]), encoding="utf-8")
    arms = [f"{person}\t{('ketamine', 'midazolam')[place % 2]}\tn/a" for place, person in enumerate(people)]
    (folder / "allocation.tsv").write_text(
        "\n".join(["participant_id\tarm\tstratum", *arms, ""]), encoding="utf-8"
    )
    (folder / "config").mkdir()
    settings = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    for name in ("scales", "skin_conductance"):
        del settings[name]
    settings["first_level"].pop("script_contrasts", None)
    outcomes = [
        name for name in settings["group"]["outcomes"] if name.startswith(("amygdala", "hippocampus"))
    ]
    kept = {name: settings["group"][name] for name in ("allocation", "arms", "primary")}
    settings["group"] = kept | {"outcomes": outcomes}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def _image(path: Path, data: np.ndarray) -> None:
    affine = np.diag([4.0, 4, 4, 1])
    image = nibabel.Nifti1Image((100 + 10 * data).astype(np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    if data.ndim == 4:
        image.header.set_zooms((4, 4, 4, 2.0))
    nibabel.save(image, path)


def measure(name: str, command: list[str], folder: Path) -> dict[str, object]:
    """Run a command; return its processor time (s, with its children) and peak memory (MB)."""
    log = (folder / f"{name}.log").open("w")
    child = os.posix_spawn(
        command[0], command, {**os.environ, "NO_COLOR": "1"},
        file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
    )  # fmt: skip
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return {
        "step": name,
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "mb": usage.ru_maxrss // 1024,
        "exit": code,
    }


def main() -> None:
    """Print one line per step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scans", type=int, default=2000)
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True)
    make_study(folder, options.scans)
    ours = [sys.executable, "-m", "reconfmri"]
    at = ["--study", str(folder)]
    snakemake = [
        sys.executable,
        "-m",
        "snakemake",
        "--directory",
        str(folder),
        "--snakefile",
        str(ROOT / "Snakefile"),
    ]
    for name, command in (
        ("index", [*ours, "index", *at]),
        ("check", [*ours, "check", *at]),
        ("plan", [*snakemake, "--dry-run", "--quiet", "rules"]),
        ("status", [*ours, "status", *at]),
    ):
        print({"scans": options.scans} | measure(name, command, folder), flush=True)


if __name__ == "__main__":
    main()
