"""Outputs as fMRIPrep writes them, in several generations of names, on a small grid."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

SPACE = "MNI152NLin2009cAsym"
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
AFFINE = np.diag([12.0, 12.0, 12.0, 1.0])
AFFINE[:3, 3] = (-72, -104, -72)
SHAPE = (13, 16, 13)


@dataclass(frozen=True)
class Generation:
    """How one series of versions names and fills its outputs."""

    version: str
    confounds: str = "timeseries"
    res: str | None = None
    described_by: str = "GeneratedBy"  # or PipelineDescription
    logged: bool = True
    boldref: bool = True
    classes: tuple[int, int, int] = (1, 2, 3)  # labels of grey, white, fluid
    components: dict[str, int] = field(default_factory=lambda: {"combined": 8})
    expanded: bool = True
    facts: bool = True


GENERATIONS = {
    "1.2": Generation(
        "1.2.6", "regressors", described_by="PipelineDescription", logged=False,
        classes=(2, 3, 1), components={"combined": 6}, expanded=False, facts=False,
    ),
    "1.5": Generation(
        "1.5.8", "regressors", described_by="PipelineDescription", logged=False,
        components={"combined": 7, "CSF": 4, "WM": 5},
    ),
    "20.1": Generation(
        "20.1.4", "regressors", res="native", described_by="PipelineDescription",
        components={"combined": 8, "CSF": 3, "WM": 4},
    ),
    "20.2": Generation("20.2.7", components={"combined": 9, "CSF": 3, "WM": 6}),
    "21.0": Generation("21.0.2", res="2"),
    "23.1": Generation("23.1.4"),
    "25.2": Generation("25.2.5", res="2"),
}  # fmt: skip


def head() -> tuple[np.ndarray, np.ndarray]:
    """Tissue (1 grey, 2 white, 3 fluid) as nested balls and a T1w of it, on the small grid."""
    points = nib.affines.apply_affine(AFFINE, np.stack(np.indices(SHAPE), axis=-1))
    radius = np.linalg.norm((points - [0, -17, 5]) / [1, 1.2, 1], axis=-1)
    tissue = np.select([radius < 20, radius < 45, radius < 68], [3, 2, 1], 0).astype(np.uint8)
    return tissue, np.array([15.0, 500.0, 900.0, 150.0])[tissue]


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, tr: float | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    if tr:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
    nib.save(image, path)


def confounds_table(
    made: Generation, n_volumes: int, *, non_steady: int = 2, seed: int = 3
) -> dict[str, np.ndarray]:
    """Columns of a confounds table; the values are drawn."""
    rng = np.random.default_rng(seed)
    motion = np.cumsum(rng.normal(scale=[0.02] * 3 + [4e-4] * 3, size=(n_volumes, 6)), axis=0)
    motion[-5, 0] += 2.0  # one jump
    change = np.abs(np.diff(motion, axis=0)) * [1, 1, 1, 50, 50, 50]
    columns = {name: 500 + rng.normal(size=n_volumes) for name in ("csf", "white_matter", "global_signal")}
    first = np.array([np.nan])
    columns["std_dvars"] = np.concatenate([first, 1 + 0.05 * rng.normal(size=n_volumes - 1)])
    columns["dvars"] = 20 * columns["std_dvars"]
    columns["framewise_displacement"] = np.concatenate([first, change.sum(axis=1)])
    number = 0
    for size in made.components.values():
        for _ in range(size):
            columns[f"a_comp_cor_{number:02d}"] = rng.normal(size=n_volumes)
            number += 1
    columns["t_comp_cor_00"] = rng.normal(size=n_volumes)
    columns["cosine00"] = np.cos(np.pi * (np.arange(n_volumes) + 0.5) / n_volumes)
    columns |= {f"non_steady_state_outlier{i:02d}": np.eye(n_volumes)[i] for i in range(non_steady)}
    for name, values in zip(MOTION, motion.T, strict=True):
        columns[name] = values
        if made.expanded:
            step = np.concatenate([first, np.diff(values)])
            columns |= {
                f"{name}_derivative1": step,
                f"{name}_power2": values**2,
                f"{name}_derivative1_power2": step**2,
            }
    if made.expanded:
        spikes = np.flatnonzero(np.nan_to_num(columns["framewise_displacement"]) > 0.5)
        columns |= {f"motion_outlier{i:02d}": np.eye(n_volumes)[row] for i, row in enumerate(spikes)}
    return columns


def write_tsv(path: Path, columns: dict[str, np.ndarray]) -> None:
    rows = ["\t".join(columns)]
    rows += [
        "\t".join("n/a" if np.isnan(cell) else repr(float(cell)) for cell in cells)
        for cells in zip(*columns.values(), strict=True)
    ]
    path.write_text("\n".join(rows) + "\n")


def facts_of(made: Generation) -> dict[str, dict]:
    facts, number = {}, 0
    for mask, size in made.components.items():
        for _ in range(size):
            facts[f"a_comp_cor_{number:02d}"] = {"Method": "aCompCor", "Mask": mask, "Retained": True}
            number += 1
    return facts


def write_dataset(root: Path, made: Generation) -> None:
    root.mkdir(parents=True, exist_ok=True)
    tool = {"Name": "fMRIPrep", "Version": made.version}
    value = [tool] if made.described_by == "GeneratedBy" else tool
    text = json.dumps({"Name": "fMRIPrep", "BIDSVersion": "1.4.0", made.described_by: value})
    (root / "dataset_description.json").write_text(text)


def write_anatomy(
    root: Path, made: Generation, person: str, *, session: str | None = None, images=None
) -> None:
    """T1w and dseg in the template's space, and in the person's own, where no one should look."""
    tissue, t1w, affine = images or (*head(), AFFINE)
    folder = root / person / (f"ses-{session}" if session else "") / "anat"
    stem = f"{person}_ses-{session}" if session else person
    labels = np.array([0, *made.classes], dtype=np.uint8)[tissue]
    space = f"space-{SPACE}" + (f"_res-{made.res}" if made.res else "")
    save(folder / f"{stem}_{space}_desc-preproc_T1w.nii.gz", t1w.astype(np.float32), affine)
    save(folder / f"{stem}_{space}_dseg.nii.gz", labels, affine)
    save(folder / f"{stem}_{space}_desc-brain_mask.nii.gz", (tissue > 0).astype(np.uint8), affine)
    save(folder / f"{stem}_desc-preproc_T1w.nii.gz", t1w[:5, :5, :5].astype(np.float32), affine)
    if made.logged:
        log = root / person / "log" / f"20260101-120000_{made.version}"
        log.mkdir(parents=True, exist_ok=True)
        (log / "fmriprep.toml").write_text(
            f'[environment]\nexec_env = "docker"\nversion = "{made.version}"\n'
        )
    else:
        (root / f"{person}.html").write_text(f"<ul><li>fMRIPrep version: {made.version}</li></ul>")


def write_run(
    root: Path,
    made: Generation,
    raw: str,
    series: np.ndarray,
    *,
    tr: float = 2.0,
    affine=AFFINE,
    mask=None,
    n_rows: int | None = None,
    extra: dict | None = None,
) -> Path:
    """The outputs of one raw series; returns the preprocessed one."""
    stem = root / raw.removesuffix("_bold.nii.gz")
    stem.parent.mkdir(parents=True, exist_ok=True)
    space = f"space-{SPACE}" + (f"_res-{made.res}" if made.res else "")
    bold = Path(f"{stem}_{space}_desc-preproc_bold.nii.gz")
    save(bold, series.astype(np.float32), affine, tr)
    inside = head()[0] > 0 if mask is None else mask
    save(Path(f"{stem}_{space}_desc-brain_mask.nii.gz"), inside.astype(np.uint8), affine)
    if made.boldref:
        save(Path(f"{stem}_{space}_boldref.nii.gz"), series.mean(axis=3).astype(np.float32), affine)
    bold.with_suffix("").with_suffix(".json").write_text(json.dumps({"RepetitionTime": tr, **(extra or {})}))
    table = Path(f"{stem}_desc-confounds_{made.confounds}.tsv")
    write_tsv(table, confounds_table(made, n_rows or series.shape[3]))
    if made.facts:
        table.with_suffix(".json").write_text(json.dumps(facts_of(made)))
    return bold


def small_series(n_volumes: int = 30, seed: int = 1) -> np.ndarray:
    tissue, _ = head()
    noise = np.random.default_rng(seed).normal(size=(*SHAPE, n_volumes))
    return np.where(tissue[..., None] > 0, 800 + 10 * noise, 0)
