"""Maps of simulated scans for tests and studies of voxels."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from reconfmri.config import Group
from reconfmri.group.asked import Asked
from reconfmri.voxels.clusters import Atlas
from reconfmri.voxels.contrast import Asking
from reconfmri.voxels.scans import ScanMap

SHAPE, VOXEL_MM = (16, 18, 14), 4.0
AFFINE = np.array([[VOXEL_MM, 0, 0, -30], [0, VOXEL_MM, 0, -34], [0, 0, VOXEL_MM, -26], [0, 0, 0, 1.0]])
SESSIONS = ["1", "2", "3"]
PLANTED = np.s_[4:8, 6:10, 5:9]


def brain(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """An ellipsoid that fills the grid."""
    half = np.array(shape) / 2
    places = (np.stack(np.indices(shape), axis=-1) - half + 0.5) / half
    return (places**2).sum(axis=-1) < 1


def smooth(random: np.random.Generator, shape: tuple[int, int, int], sd: float = 1.0) -> np.ndarray:
    """Smooth Gaussian noise with an SD of 1."""
    noise = gaussian_filter(random.standard_normal(shape), sd)
    return noise / noise.std()


def people_of(n: int) -> pd.DataFrame:
    """An allocation of n people to two arms, in turn."""
    return pd.DataFrame(
        [(f"sub-{i:02d}", "ketamine" if i % 2 else "midazolam") for i in range(n)],
        columns=["participant_id", "arm"],
    )


def simulate_maps(folder: Path, n: int = 14, *, effect: float = 0.0, seed: int = 1) -> list[ScanMap]:
    """Write three visits of n people, some missed, with an effect of ketamine in a box after the first."""
    random, inside, scans = np.random.default_rng(seed), brain(), []
    for person, arm in people_of(n).itertuples(index=False):
        own = smooth(random, SHAPE)
        for session in SESSIONS:
            missed = random.random() < 0.15 and session != "1"
            values = 0.6 * own + 0.8 * smooth(random, SHAPE)
            if arm == "ketamine" and session != "1":
                values[PLANTED] -= effect
            if not missed:
                scans.append(save_map(folder, person, session, np.where(inside, values, np.nan)))
    return scans


def save_map(
    folder: Path,
    person: str,
    session: str,
    values: np.ndarray,
    *,
    run: str = "n/a",
    variance: float = 1.0,
    affine: np.ndarray = AFFINE,
) -> ScanMap:
    """Write a map with one variance in every voxel that it covers."""
    paths = [
        folder / f"{person}_{session}_{run.replace('/', '')}_{stat}.nii.gz" for stat in ("effect", "variance")
    ]
    spread = np.where(np.isfinite(values), variance, np.nan)
    for path, data in zip(paths, (values, spread), strict=True):
        nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), affine), path)
    return ScanMap(person, session, "memory", run, *paths)


def asking(
    n: int = 14, *, regions: dict[str, np.ndarray] | None = None, threads: int = 1, **voxels
) -> Asking:
    """Return a study with two arms that asks about the contrast `fear`."""
    settings = {"contrasts": ["fear"], "permutations": 100, "regions": list(regions or {})} | voxels
    group = Group.from_params({
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": ["amygdala.fear"],
        "primary": {"outcome": "amygdala.fear", "session": "2"},
        "voxels": settings,
    })  # fmt: skip
    measures = pd.DataFrame(columns=["participant_id", "session_id", "domain", "outcome", "value", "unit"])
    asked = Asked(measures, people_of(n), group, SESSIONS, seed=1)
    return Asking(asked, group.voxels, regions or {}, nowhere, threads)


def nowhere(points: np.ndarray) -> Atlas:
    """An atlas with one label, to the left of the middle."""
    percent = np.where(points[:, :1] < 0, 60, 0).astype(np.uint8)
    return Atlas(percent, ["Left of the middle"])
