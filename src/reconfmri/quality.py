"""Quality of a run in numbers, and the exclusions that follow from declared thresholds: without the arms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.config import Quality
from reconfmri.exclusions import DataFault
from reconfmri.preprocess import PreprocessedRun
from reconfmri.tables import read_table

Array = npt.NDArray[np.float64]
CHUNK = 16  # volumes held at once
DISPLACEMENT, DVARS = "framewise_displacement", "std_dvars"


def assess_run(
    run: PreprocessedRun, coverage: pd.DataFrame, settings: Quality, *, series: Series | None = None
) -> tuple[pd.DataFrame, list[DataFault]]:
    """Return quality rows (domain outcome value se unit coverage df), and a fault per broken threshold.

    Outcomes: fd.mean (mm), fd.outlier_share, dvars.mean (standardised DVARS), tsnr.median (over the brain,
    without the volumes before the steady state). `coverage` (region, coverage) gives coverage.lowest.
    `series` is what `read_series` found in the run, where it was read before.

    Raises
    ------
    DataFault
        The confounds have no displacement, or not one row per volume.
    """
    confounds = read_table(run.confounds, numeric=(DISPLACEMENT, DVARS))
    series = series or read_series(run)
    tsnr, n_volumes = series.median_tsnr, series.n_volumes
    if len(confounds) != n_volumes:
        reason = f"the confounds have {len(confounds)} rows, the run {n_volumes} volumes"
        raise DataFault("E-DATA-B11", reason, mend="make the confounds of this run again", file=run.bold.name)
    moved = _after_first(confounds[DISPLACEMENT], DISPLACEMENT)
    share = float((moved > settings.fd_threshold).mean())
    values = {
        "fd.mean": (float(moved.mean()), "mm"),
        "fd.outlier_share": (share, "share"),
        "dvars.mean": (float(_after_first(confounds[DVARS], DVARS).mean()), "standardised DVARS"),
        "tsnr.median": (tsnr, "tSNR"),
        "coverage.lowest": (float(coverage["coverage"].astype(float).min()), "share"),
    }
    rows = [
        ("quality", name, value, math.nan, unit, math.nan, math.nan) for name, (value, unit) in values.items()
    ]
    columns = ["domain", "outcome", "value", "se", "unit", "coverage", "df"]
    return pd.DataFrame(rows, columns=columns), _broken(float(moved.mean()), share, tsnr, n_volumes, settings)


@dataclass(frozen=True)
class Series:
    """What one reading of a run leaves: temporal SNR of the mask's voxels, and the series of a few groups.

    `tsnr` (n_voxels,) is in array order, NaN where a voxel does not vary or is not finite; `kept` is
    (n_groups, n_volumes).
    """

    tsnr: Array
    kept: npt.NDArray[np.float32]
    n_volumes: int

    @property
    def median_tsnr(self) -> float:
        """Median over the usable voxels; NaN when there are none."""
        usable = np.isfinite(self.tsnr)
        return float(np.median(self.tsnr[usable])) if usable.any() else math.nan


def read_series(run: PreprocessedRun, *, keep: npt.NDArray[np.intp] | None = None) -> Series:
    """Return mean / SD in time without the trend, over the mask, and the mean series of groups of voxels.

    `keep` (n_groups, n_each) names voxels of the mask. Sums are gathered while the file is read, so that a
    few volumes are held at once. Temporal SNR is without the volumes before the steady state.
    Murphy et al., NeuroImage 2007;34:565.
    """
    import nibabel

    non_steady = int(run.metadata.get("NonSteadyStateVolumes", 0))
    inside = np.asarray(nibabel.load(run.mask).dataobj) > 0
    image = nibabel.load(run.bold, keep_file_open=True)
    n_volumes = int(image.shape[3])
    ramp = np.arange(n_volumes - non_steady) - (n_volumes - non_steady - 1) / 2
    ramp = np.concatenate([np.zeros(non_steady), ramp])
    kept: npt.NDArray[np.float32] = np.empty((0 if keep is None else len(keep), n_volumes), np.float32)
    # Around the first volume: sums of squares of large numbers would lose the small variance.
    first = np.asarray(image.dataobj[..., non_steady], dtype=np.float64)[inside]
    total, squares, slope = (np.zeros(int(inside.sum())) for _ in range(3))
    for start in range(0, n_volumes, CHUNK):
        volumes = np.asarray(image.dataobj[..., start : start + CHUNK], dtype=np.float64)[inside]
        times = np.arange(start, start + volumes.shape[1])
        if keep is not None:
            kept[:, times] = volumes[keep].mean(axis=1)
        steady = volumes[:, times >= non_steady] - first[:, None]
        total += steady.sum(axis=1)
        squares += (steady**2).sum(axis=1)
        slope += steady @ ramp[times[times >= non_steady]]
    number = n_volumes - non_steady
    variance = squares / number - (total / number) ** 2 - slope**2 / (ramp @ ramp) / number
    level = first + total / number
    usable = np.isfinite(variance) & (variance > 1e-12 * level**2)
    tsnr = np.full(len(level), math.nan)
    tsnr[usable] = level[usable] / np.sqrt(variance[usable])
    return Series(tsnr, kept, n_volumes)


def _after_first(column: pd.Series, name: str) -> Array:
    """Return a difference series without its first row, which has no value."""
    values = column.to_numpy(dtype=float)[1:]
    if not len(values) or np.isnan(values).any():
        number = int(np.isnan(values).sum())
        raise DataFault(
            "E-DATA-B11", f"{number} values of {name} are missing", mend="make the confounds again"
        )
    return values


def _broken(moved: float, share: float, tsnr: float, n_volumes: int, settings: Quality) -> list[DataFault]:
    """Return one fault per threshold that the run breaks, with both numbers."""
    faults = []
    if n_volumes < settings.min_volumes:
        reason = f"{n_volumes} volumes, at least {settings.min_volumes} are needed (quality.min_volumes)"
        faults.append(DataFault("E-DATA-B05", reason, mend="find the rest of the run"))
    mend = "none for this run; thresholds are set for the whole study before the arms are known"
    if moved > settings.max_mean_fd:
        reason = (
            f"mean framewise displacement {moved:.2f} mm > {settings.max_mean_fd:g} mm (quality.max_mean_fd)"
        )
        faults.append(DataFault("E-DATA-B12", reason, mend=mend))
    if share > settings.max_outlier_share:
        reason = (
            f"{100 * share:.0f} % of volumes moved more than {settings.fd_threshold:g} mm, "
            f"{100 * settings.max_outlier_share:.0f} % are allowed (quality.max_outlier_share)"
        )
        faults.append(DataFault("E-DATA-B12", reason, mend=mend))
    if math.isnan(tsnr):
        faults.append(DataFault("E-DATA-B04", "no voxel of the brain varies in time", mend="look at the run"))
    elif tsnr < settings.min_tsnr:
        reason = f"median temporal SNR {tsnr:.1f} < {settings.min_tsnr:g} (quality.min_tsnr)"
        faults.append(DataFault("E-DATA-B04", reason, mend=mend))
    return faults
