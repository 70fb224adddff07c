"""The first level in every voxel of a run, which is never whole in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtri, stdtr

from reconfmri.series import VoxelSeries, volumes_within
from reconfmri.signal.least_squares import TINY, contrasts_of_many

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
SEED = 0  # of nilearn's clusters of autocorrelations
FWHM = math.sqrt(8 * math.log(2))  # of a Gaussian, in its SDs


def fit_voxels(
    bold: Path,
    inside: Mask,
    affine: Array,
    design: pd.DataFrame,
    vectors: Array,
    smoothing: float,
    noise: str,
) -> tuple[Array, Array, float]:
    """Return effects and variances (n_contrasts, n_voxels) of the voxels `inside`, and degrees of freedom.

    `vectors` (n_contrasts, n_columns) are contrasts of the columns of `design`; `smoothing`: FWHM in mm.

    Raises
    ------
    ValueError
        `noise` is neither `ols` nor `ar1`.
    """
    series = VoxelSeries(int(inside.sum()))
    for volume in _volumes(bold, inside, affine, smoothing):
        series.append(volume)
    matrix = design.to_numpy(dtype=float)
    effects, variances = np.empty((2, len(vectors), series.n_voxels))
    df = math.nan
    for numbers, signals in series.blocks():
        effects[:, numbers], variances[:, numbers], df = contrasts_of_many(
            signals.T.astype(np.float64), matrix, vectors, noise=noise
        )
    return effects, variances, df


def _volumes(bold: Path, inside: Mask, affine: Array, smoothing: float) -> Iterator[npt.NDArray[np.float32]]:
    """Volumes within a mask, smoothed before by a Gaussian; what is no number counts as zero there."""
    if not smoothing:
        yield from volumes_within(bold, inside)
        return
    sds = smoothing / FWHM / np.linalg.norm(affine[:3, :3], axis=0)
    for values in volumes_within(bold, np.ones_like(inside)):
        volume = np.nan_to_num(values.reshape(inside.shape), posinf=0.0, neginf=0.0)
        for axis, sd in enumerate(sds):
            volume = gaussian_filter1d(volume, sd, axis=axis)
        yield volume[inside]


def fit_voxels_by_nilearn(
    bold: Path,
    inside: Mask,
    affine: Array,
    design: pd.DataFrame,
    vectors: Array,
    smoothing: float,
    noise: str,
) -> tuple[Array, Array, float]:
    """Return the same by nilearn, whose noise may be of any order; the run is in memory."""
    import nibabel
    from nilearn.glm.first_level import FirstLevelModel

    model: Any = FirstLevelModel(
        mask_img=nibabel.Nifti1Image(inside.astype(np.uint8), affine),
        smoothing_fwhm=smoothing or None,
        noise_model=noise,
        signal_scaling=False,
        standardize=False,
        random_state=SEED,
    ).fit(str(bold), design_matrices=design)
    images = [model.compute_contrast(vector, output_type="all") for vector in vectors]
    effects, variances = (
        np.stack([np.asarray(item[key].dataobj, dtype=float)[inside] for item in images])
        for key in ("effect_size", "effect_variance")
    )
    return effects, variances, float(len(design) - design.shape[1])


def as_normal(t: Array, df: float) -> Array:
    """Return the normal deviates with the tail probabilities of t values."""
    return np.asarray(-np.sign(t) * ndtri(np.maximum(stdtr(df, -np.abs(t)), TINY)))
