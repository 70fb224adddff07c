"""The first level in every voxel of a run, which is never whole in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import gaussian_filter

from reconfmri.choices import check_choice
from reconfmri.config import ScriptContrast, Task
from reconfmri.nuisance import INTERCEPT
from reconfmri.series import VoxelSeries, volumes_within
from reconfmri.signal.first_level import CONSTANT, check_contrasts, contrast_weights
from reconfmri.signal.least_squares import (
    NOISE,
    TINY,
    as_normal,
    contrasts_of_many,
    restricted_autocorrelation,
)

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
NOISE_FWHM = 5.0  # mm, of the autocorrelation, as in FILM (Woolrich et al. 2001)
SEED = 0  # of nilearn's clusters of autocorrelations
FWHM = math.sqrt(8 * math.log(2))  # of a Gaussian, in its SDs


@dataclass(frozen=True)
class Maps:
    """Images (NIfTI, float32) of one contrast: effect (percent signal change), its variance, and z."""

    effect: Any
    variance: Any
    z: Any


def maps(
    bold: Path,
    mask: Path,
    design: pd.DataFrame,
    *,
    contrasts: Mapping[str, Mapping[str, float] | ScriptContrast],
    task: Task,
    smoothing: float,
    noise: str = "ar1",
) -> dict[str, Maps]:
    """Return effect, variance and z of each contrast in every voxel of the mask.

    The fit is that of the regions, with autocorrelations of the first order smoothed in space, and those of
    higher order estimated by nilearn. Voxels outside the mask, or flat in time, are NaN. `smoothing` is the
    FWHM in mm.

    Raises
    ------
    DataFault
        A contrast is not estimable in this run.
    """
    import nibabel

    check_choice("noise", noise, NOISE)
    check_contrasts(design, contrasts, task)
    names = list(design.columns)
    vectors = [contrast_weights(weights, names, task) for weights in contrasts.values()]
    level = np.array([name == INTERCEPT for name in names], float)
    image: Any = nibabel.load(mask)
    inside = np.asarray(image.dataobj) > 0
    fit = fit_voxels if noise in ("ar1", "ols") else fit_voxels_by_nilearn
    effects, variances, df = fit(
        bold, inside, image.affine, design, np.stack([level, *vectors]), smoothing, noise
    )
    usable = (effects[0] > 0) & (variances[1:] > (CONSTANT * effects[0]) ** 2)
    scale = np.divide(100.0, effects[0], out=np.zeros_like(effects[0]), where=effects[0] > 0)

    def written(values: Array, there: Array) -> Any:
        volume = np.full(inside.shape, np.nan, dtype=np.float32)
        volume[inside] = np.where(there, values, np.nan)
        return nibabel.Nifti1Image(volume, image.affine)

    found = {}
    for name, effect, variance, there in zip(contrasts, effects[1:], variances[1:], usable, strict=True):
        z = as_normal(effect[there] / np.sqrt(variance[there]), df)
        deviates = np.full(len(effect), np.nan)
        deviates[there] = z
        found[name] = Maps(
            written(effect * scale, there), written(variance * scale**2, there), written(deviates, there)
        )
    return found


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

    `vectors` (n_contrasts, n_columns) are contrasts of the columns of `design`; `smoothing`: FWHM in mm. Each
    voxel's autocorrelation maximises the restricted likelihood, then is smoothed over `NOISE_FWHM`.

    Raises
    ------
    ValueError
        `noise` is neither `ols` nor `ar1`.
    """
    series = VoxelSeries(int(inside.sum()))
    for volume in _volumes(bold, inside, affine, smoothing):
        series.append(volume)
    check_choice("noise", noise, ("ar1", "ols"))
    matrix, rho = design.to_numpy(dtype=float), np.zeros(series.n_voxels)
    if noise == "ar1":
        known = np.zeros(series.n_voxels)
        for numbers, signals in series.blocks():
            known[numbers] = np.ptp(signals, axis=1) > 0
            rho[numbers] = restricted_autocorrelation(signals.T.astype(np.float64), matrix)
        rho = _smoothed(rho, known, inside, affine)
    effects, variances = np.empty((2, len(vectors), series.n_voxels))
    df = math.nan
    for numbers, signals in series.blocks():
        found = contrasts_of_many(signals.T.astype(np.float64), matrix, vectors, rho[numbers])
        effects[:, numbers], variances[:, numbers], df = found
    return effects, variances, df


def _smoothed(rho: Array, known: Array, inside: Mask, affine: Array) -> Array:
    """Autocorrelations (n_voxels,) smoothed among voxels that are known: `known` is 1 there, else 0."""
    sds = _sds(NOISE_FWHM, affine)
    volume = np.zeros((2, *inside.shape))
    volume[:, inside] = rho * known, known
    total, weight = (gaussian_filter(part, sds, mode="constant")[inside] for part in volume)
    return np.asarray(np.divide(total, weight, out=np.zeros_like(total), where=weight > TINY))


def _volumes(bold: Path, inside: Mask, affine: Array, smoothing: float) -> Iterator[npt.NDArray[np.float32]]:
    """Volumes within a mask, smoothed before by a Gaussian; what is no number counts as zero there."""
    if not smoothing:
        yield from volumes_within(bold, inside)
        return
    for values in volumes_within(bold, np.ones_like(inside)):
        volume = np.nan_to_num(values.reshape(inside.shape), posinf=0.0, neginf=0.0)
        yield gaussian_filter(volume, _sds(smoothing, affine))[inside]


def _sds(fwhm: float, affine: Array) -> Array:
    """Standard deviations (3,) of a Gaussian of so many mm, in voxels."""
    return np.asarray(fwhm / FWHM / np.linalg.norm(affine[:3, :3], axis=0))


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
