"""A real run, whole and cut into two halves that pretend to be sessions: what preprocessing changes.

`python -m tests.bench.real` prints a table; the data are found through RECONFMRI_DATA.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import yaml

from reconfmri import confounds
from reconfmri.series import VoxelSeries
from reconfmri.tables import read_table

ROOT = Path(__file__).resolve().parents[2]
CUT, TR = 78, 2.0
CATEGORIES = ("face", "body", "house", "object", "scene", "scramble")
REGIONS = ("amygdala_left", "amygdala_right", "hippocampus_left", "hippocampus_right", "vmpfc", "occipital")
STEM = "task-objectcategories_run-1"


def main() -> int:
    """Print what was found; return 0."""
    data = Path(os.environ["RECONFMRI_DATA"]) / "studyforrest_sub02"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = run(data, folder / "whole", study_file(folder / "whole.yaml", sessions=False))
        cut = halves(data, folder / "bids")
        halved = run(cut, folder / "halved", study_file(folder / "halved.yaml", sessions=True))
        for line in [*said_of_whole(data, whole), *said_of_halves(halved)]:
            print(line)
    return 0


def study_file(path: Path, *, sessions: bool) -> Path:
    """Write the study of config/trials with one contrast per category, and the two sessions if asked for."""
    study: dict[str, Any] = yaml.safe_load((ROOT / "config/trials/studyforrest_sub02.yaml").read_text())
    study["first_level"]["contrasts"] |= {f"{name}-baseline": {name: 1} for name in CATEGORIES}
    if sessions:
        days = {"1": 0, "2": 1}
        study["sessions"] = [{"id": name, "name": f"half {name}", "day": day} for name, day in days.items()]
    path.write_text(yaml.safe_dump(study))
    return path


def halves(data: Path, out: Path) -> Path:
    """Write the run as two sessions, cut at volume 78; the T1w belongs to the first."""
    out.mkdir()
    for name in ("dataset_description.json", "participants.tsv"):
        shutil.copy(data / name, out / name)
    raw = data / "sub-02" / "func"
    image = nib.load(raw / f"sub-02_{STEM}_bold.nii.gz")
    volumes = np.asarray(image.dataobj.get_unscaled())
    events = pd.read_csv(raw / f"sub-02_{STEM}_events.tsv", sep="\t")
    for session, first, last in (("1", 0, CUT), ("2", CUT, volumes.shape[3])):
        func = out / "sub-02" / f"ses-{session}" / "func"
        func.mkdir(parents=True)
        stem = f"sub-02_ses-{session}_{STEM}"
        part = nib.Nifti1Image(volumes[..., first:last], image.affine, image.header)
        part.header.set_slope_inter(image.dataobj.slope, image.dataobj.inter)
        nib.save(part, func / f"{stem}_bold.nii.gz")
        shutil.copy(raw / f"sub-02_{STEM}_bold.json", func / f"{stem}_bold.json")
        inside = events[(events["onset"] >= first * TR) & (events["onset"] < last * TR - 8)]
        shifted = inside.assign(onset=inside["onset"] - first * TR)
        shifted.to_csv(func / f"{stem}_events.tsv", sep="\t", index=False)
    anat = out / "sub-02" / "ses-1" / "anat"
    anat.mkdir()
    for end in ("json", "nii.gz"):
        shutil.copy(data / "sub-02" / "anat" / f"sub-02_T1w.{end}", anat / f"sub-02_ses-1_T1w.{end}")
    return out


def run(data: Path, out: Path, study: Path) -> Path:
    """Make the participant level and return its results."""
    command = [sys.executable, "-m", "reconfmri", "run", str(data), str(out), "participant", "--n-cpus", "2"]
    subprocess.run([*command, "--config", str(study)], check=True, stdout=subprocess.DEVNULL)
    return out / "results"


def said_of_whole(data: Path, results: Path) -> list[str]:
    """DVARS and tSNR before and after, and the share of the brain that answers."""
    func = results / "derivatives" / "sub-02" / "func"
    image = nib.load(data / "sub-02" / "func" / f"sub-02_{STEM}_bold.nii.gz")
    (mask,) = [path for path in func.glob("*_desc-brain_mask.nii.gz") if "space-" not in path.name]
    inside = np.asarray(nib.load(mask).dataobj) > 0
    series = VoxelSeries.of(np.asarray(image.dataobj, dtype=np.float32)[inside])
    none = np.zeros(series.n_voxels, bool)
    before = confounds.voxel_statistics(confounds.TissueSignals(series, none, none))
    (table,) = func.glob("*_desc-confounds_timeseries.tsv")
    after = read_table(table, numeric=("dvars", "std_dvars"))
    raw = np.concatenate([signals for _, signals in series.blocks()]).astype(np.float64)
    raw_tsnr = np.median(raw.mean(axis=1)[before.varies] / before.spread[before.varies])
    (quality,) = func.glob("*_desc-quality_measures.tsv")
    values = read_table(quality, numeric=("value",)).set_index("outcome")["value"]
    (z_map,) = func.glob("*_contrast-AllBaseline_stat-z_statmap.nii.gz")
    (target,) = func.glob("*_space-*_desc-brain_mask.nii.gz")
    z = np.asarray(nib.load(z_map).dataobj)[np.asarray(nib.load(target).dataobj) > 0]
    plain = before.plain_dvars[1:]
    return [
        f"DVARS, median over volumes: {np.median(plain):.1f} before, {after['dvars'].median():.1f} after",
        f"DVARS, highest volume: {plain.max():.1f} before, {after['dvars'].max():.1f} after",
        f"tSNR, median over the brain: {raw_tsnr:.1f} before, {values['tsnr.median']:.1f} after",
        f"z > 3.1, all > baseline: {(z > 3.1).sum()} of {z.size} voxels, {100 * (z > 3.1).mean():.1f} %"
        " (5074 of 48751, 10.4 %, in a plain fit)",
    ]


def said_of_halves(results: Path) -> list[str]:
    """The correlation of regional estimates between the halves: regions x categories."""
    func = sorted((results / "derivatives" / "sub-02").glob("ses-*/func/*_desc-activation_measures.tsv"))
    wanted = [f"{name}-baseline" for name in CATEGORIES]
    columns = []
    for path in func:
        table = read_table(path, numeric=("value",))
        what = table["outcome"].str.split(".", n=1, expand=True)
        single = table[what[1].isin(wanted) & what[0].isin(REGIONS)]
        columns.append(single.set_index("outcome")["value"])
    one, two = pd.concat(columns, axis=1).dropna().to_numpy().T
    excluded = [json.dumps(str(path)) for path in results.rglob("*_exclusions.tsv") if len(read_table(path))]
    return [
        f"split-half correlation over {len(one)} estimates (6 regions x 6 categories): "
        f"{np.corrcoef(one, two)[0, 1]:.2f}; difference, median {np.median(np.abs(one - two)):.2f} %",
        f"exclusions in the halves: {len(excluded)}",
    ]


if __name__ == "__main__":
    sys.exit(main())
