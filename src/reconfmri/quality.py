"""Quality of a run in numbers, and the exclusions that follow from declared thresholds: without the arms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.config import QUALITY_UNITS, Quality, quality_units
from reconfmri.confounds import damaged_volumes
from reconfmri.exclusions import UNIT, DataFault
from reconfmri.preprocess import PreprocessedRun
from reconfmri.series import volumes_within
from reconfmri.tables import read_table

Array = npt.NDArray[np.float64]
DISPLACEMENT, DVARS, GLOBAL = "framewise_displacement", "std_dvars", "global_signal"
# SD over mean of a voxel that is constant: preprocessed runs are rounded to 2^-16 of a value.
CONSTANT = 1e-4
PHASE_AXES = {"i": 0, "j": 1, "k": 2}


@dataclass(frozen=True)
class Reference:
    """A run's reference volume on its own grid, its brain mask, and the phase-encoding axis (0 to 2)."""

    image: Path
    mask: Path
    phase_axis: int | None


@dataclass(frozen=True)
class Limit:
    """A threshold of the study file: the outcome it bounds, its key, the code of what breaks it, in words."""

    outcome: str
    key: str
    code: str
    words: str

    def fault(self, value: float, settings: Quality) -> DataFault | None:
        """The fault of a value beyond the threshold; none where the study sets none or there is no value."""
        bound = getattr(settings, self.key)
        above = self.key.startswith("max_")
        if bound is None or not (value > bound if above else value < bound):
            return None
        share = QUALITY_UNITS[self.outcome] == "share"
        found, limit = (f"{100 * x:.3g} %" if share else f"{x:.4g}" for x in (value, bound))
        unit = f" {unit}" if (unit := QUALITY_UNITS[self.outcome]) in ("mm", "s") else ""
        words = self.words.format(**settings.model_dump())
        reason = f"{words} {found}{unit} {'>' if above else '<'} {limit}{unit} (quality.{self.key})"
        return DataFault(self.code, reason, fix=LOOK)


# Beside a person's other runs: of own ones the first falls to 0.4 by 5 mm voxels or a slab, the second to
# 0.8; of heads with bent versions of the person's own folds both fall to 0.65 or less.
LIKE_CONTRAST, LIKE_LEAD = 0.75, 0.7
LOOK = "look at the run; thresholds are set for the whole study before the arms are known"
LIMITS = (
    Limit("volumes.count", "min_volumes", "E-DATA-B05", "number of volumes"),
    Limit("volumes.damaged_share", "max_damaged_share", "E-DATA-B03",
          "damaged volumes (values that are not finite, copies, dead slices, no head)"),
    Limit("fd.mean", "max_mean_fd", "E-DATA-B12", "mean framewise displacement"),
    Limit("fd.outlier_share", "max_outlier_share", "E-DATA-B12",
          "volumes with FD above {fd_threshold:g} mm"),
    Limit("volumes.usable_time", "min_usable_time", "E-DATA-B12",
          "steady volumes with FD up to {fd_threshold:g} mm last"),
    Limit("flat.share", "max_flat_share", "E-DATA-B04", "flat image: brain voxels that do not vary in time"),
    Limit("tsnr.median", "min_tsnr", "E-DATA-B04", "median temporal SNR"),
    Limit("registration.cost", "max_registration_cost", "E-DATA-B31", "boundary cost of EPI to T1w"),
    Limit("ghost.phase", "max_ghost", "E-DATA-B32", "ghost to signal along the phase-encoding axis"),
    Limit("ghost.i", "max_ghost", "E-DATA-B32", "ghost to signal along the image's first axis"),
    Limit("ghost.j", "max_ghost", "E-DATA-B32", "ghost to signal along the image's second axis"),
    Limit("start.excess", "max_start_excess", "E-DATA-B33", "first volume above the steady state"),
)  # fmt: skip


def assess_run(
    run: PreprocessedRun,
    coverage: pd.DataFrame,
    settings: Quality,
    *,
    reference: Reference | None = None,
    series: Series | None = None,
) -> tuple[pd.DataFrame, list[DataFault]]:
    """Return quality rows (domain outcome value se unit coverage df), and a fault per broken threshold.

    Outcomes and units: `config.quality_units`. Damaged volumes are counted, and are in no other number.
    Temporal SNR and flat voxels are those of the brain mask, without the volumes before the steady state;
    `coverage` has one row per region (region, coverage, tsnr); the ghost is measured on `reference`, along
    the phase-encoding axis or, where that is not known, along both in-plane axes. `series` is what
    `read_series` found in the run, where it was read before.

    Raises
    ------
    DataFault
        The confounds have no displacement, or not one row per volume.
    """
    confounds = read_table(run.confounds, numeric=(DISPLACEMENT, DVARS, GLOBAL))
    series = series or read_series(run)
    if len(confounds) != series.n_volumes:
        reason = f"the confounds have {len(confounds)} rows, the run {series.n_volumes} volumes"
        raise DataFault("E-DATA-B11", reason, fix="make the confounds of this run again", file=run.bold.name)
    whole = ~damaged_volumes(confounds)
    confounds = confounds[whole]
    unsteady = int(whole[: int(run.metadata.get("NonSteadyStateVolumes", 0))].sum())
    values = {
        **_motion(confounds, run.metadata, unsteady, settings.fd_threshold),
        "volumes.damaged_share": float((~whole).mean()),
        "dvars.mean": float(_after_first(confounds[DVARS], DVARS).mean()),
        "tsnr.median": series.median_tsnr,
        "flat.share": series.flat_share,
        "start.excess": _start_excess(confounds[GLOBAL].to_numpy(dtype=float), unsteady),
        "start.volumes": float(unsteady),
        "registration.cost": float(run.metadata.get("CoregistrationCost", math.nan)),
        "registration.mirrored_cost": float(run.metadata.get("MirroredCost", math.nan)),
        "brain.volume": mask_volume(run.mask),
        "coverage.lowest": float(coverage["coverage"].astype(float).min()),
        **(_ghosts(reference) if reference else {}),
    }
    faults = [
        fault for limit in LIMITS if (fault := limit.fault(values.get(limit.outcome, math.nan), settings))
    ]
    for region, share, tsnr in zip(coverage["region"], coverage["coverage"], coverage["tsnr"], strict=True):
        values |= {f"coverage.{region}": float(share), f"tsnr.{region}": float(tsnr)}
    units = quality_units(coverage["region"])
    rows = [
        ("quality", name, value, math.nan, units[name], math.nan, math.nan) for name, value in values.items()
    ]
    columns = ["domain", "outcome", "value", "se", "unit", "coverage", "df"]
    return pd.DataFrame(rows, columns=columns), faults


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

    @property
    def flat_share(self) -> float:
        """Share of the voxels that do not vary in time or hold a value that is not finite."""
        return float(1 - np.isfinite(self.tsnr).mean()) if len(self.tsnr) else 1.0


def read_series(run: PreprocessedRun, *, keep: npt.NDArray[np.intp] | None = None) -> Series:
    """Return mean / SD in time without the trend, over the mask, and the mean series of groups of voxels.

    `keep` (n_groups, n_each) names voxels of the mask. Sums are gathered while the file is read, so that one
    volume is held at a time. Temporal SNR is without damaged volumes and those before the steady state.
    Murphy et al., NeuroImage 2007;34:565.
    """
    import nibabel

    non_steady = int(run.metadata.get("NonSteadyStateVolumes", 0))
    inside = np.asarray(nibabel.load(run.mask).dataobj) > 0
    n_volumes = int(nibabel.load(run.bold).shape[3])
    used = np.arange(n_volumes) >= non_steady
    used[run.metadata.get("DamagedVolumes", [])] = False
    ramp = np.where(used, np.arange(n_volumes) - np.flatnonzero(used).mean(), 0.0)
    kept: npt.NDArray[np.float32] = np.empty((0 if keep is None else len(keep), n_volumes), np.float32)
    # Around the first volume: sums of squares of large numbers would lose the small variance.
    first = next(islice(volumes_within(run.bold, inside), non_steady, None)).astype(np.float64)
    total, squares, slope = (np.zeros(len(first)) for _ in range(3))
    for number, values in enumerate(volumes_within(run.bold, inside)):
        if keep is not None:
            kept[:, number] = values[keep].mean(axis=1, dtype=np.float64)
        if used[number]:
            steady = values - first
            total += steady
            squares += steady**2
            slope += ramp[number] * steady
    number = int(used.sum())
    variance = squares / number - (total / number) ** 2 - slope**2 / (ramp @ ramp) / number
    level = first + total / number
    usable = np.isfinite(variance) & (variance > (CONSTANT * level) ** 2)
    tsnr = np.full(len(level), math.nan)
    tsnr[usable] = level[usable] / np.sqrt(variance[usable])
    return Series(tsnr, kept, n_volumes)


def ghost_to_signal(image: Array, mask: npt.NDArray[np.bool_], axis: int) -> float:
    """Return the ghost of an EPI volume over its signal, along one axis; NaN where there is no background.

    The ghost lies where the brain mask, shifted by half the field of view, meets no brain: its mean minus the
    mean of the rest of the background, over the median of the brain. As in MRIQC's `gsr`.
    Giannelli et al., J Appl Clin Med Phys 2010;11:3237.
    """
    ghost = np.roll(mask, mask.shape[axis] // 2, axis=axis) & ~mask
    rest = ~ghost & ~mask
    if not (mask.any() and ghost.any() and rest.any()):
        return math.nan
    return float((image[ghost].mean() - image[rest].mean()) / np.median(image[mask]))


def mask_volume(mask: Path) -> float:
    """Return the volume of a mask, ml."""
    import nibabel

    image = nibabel.load(mask)
    voxel = abs(float(np.linalg.det(image.affine[:3, :3])))
    return float((np.asarray(image.dataobj) > 0).sum() * voxel / 1000)


def phase_axis(sidecar: Mapping[str, Any]) -> int | None:
    """Return the image axis (0 to 2) of a sidecar's phase encoding, or None.

    dcm2niix writes PhaseEncodingAxis where the scanner does not tell the polarity.
    """
    told = sidecar.get("PhaseEncodingDirection") or sidecar.get("PhaseEncodingAxis") or ""
    return PHASE_AXES.get(str(told)[:1])


def compare_sessions(rows: pd.DataFrame, settings: Quality) -> list[tuple[dict[str, str], DataFault]]:
    """Return the runs of one person (unit, fault) that fall out beside the person's other runs.

    `rows` are quality rows of all runs (participant_id session_id task run outcome value).
    """
    return [*_smaller_brains(rows, settings), *_other_heads(rows)]


def _other_heads(rows: pd.DataFrame) -> list[tuple[dict[str, str], DataFault]]:
    """Runs that fit the person's T1w less, and differ less between it and its mirror image, than the others.

    Each is compared with the best half of the person's other runs, whatever their session and task: a head is
    one. The first falls with noise, large voxels and a small field of view as well, the second does not.
    """
    wide = rows[rows["outcome"].isin(["registration.cost", "registration.mirrored_cost"])].pivot_table(
        index=[*UNIT], columns="outcome", values="value", aggfunc="first"
    )
    if len(wide) < 2 or wide.shape[1] < 2:
        return []
    contrast = 1 - wide["registration.cost"].astype(float)
    lead = (wide["registration.mirrored_cost"].astype(float) - wide["registration.cost"]) / contrast
    found = []
    for unit in wide.dropna().index:
        fit, side = (part.drop(unit).quantile(0.75) for part in (contrast, lead))
        if contrast[unit] >= LIKE_CONTRAST * fit or lead[unit] >= LIKE_LEAD * side:
            continue
        cost, mirrored = wide.loc[unit]
        reason = (
            f"boundary cost {cost:.2f} (of the mirror image {mirrored:.2f}), in the person's other runs "
            f"{1 - fit:.2f} ({1 - fit + fit * side:.2f}): another person's run?"
        )
        fix = "find out by the DICOM series whose run it is"
        found.append((dict(zip(UNIT, map(str, unit), strict=True)), DataFault("E-DATA-B42", reason, fix=fix)))
    return found


def _smaller_brains(rows: pd.DataFrame, settings: Quality) -> list[tuple[dict[str, str], DataFault]]:
    """Runs whose brain mask lost volume beside the runs of the same task in the person's other sessions."""
    if (bound := settings.max_brain_loss) is None:
        return []
    found = []
    volumes = rows[(rows["outcome"] == "brain.volume") & rows["value"].notna()]
    for row in volumes.to_dict("records"):
        elsewhere = volumes[(volumes["session_id"] != row["session_id"]) & (volumes["task"] == row["task"])][
            "value"
        ].astype(float)
        usual, volume = float(elsewhere.median()), float(row["value"])
        if not len(elsewhere) or volume >= (1 - bound) * usual:
            continue
        reason = (
            f"the brain mask has {volume:.0f} ml, {100 * (1 - volume / usual):.0f} % less than the "
            f"{usual:.0f} ml of the person's other sessions > {100 * bound:g} % (quality.max_brain_loss)"
        )
        unit = {key: str(row[key]) for key in UNIT}
        found.append((unit, DataFault("E-DATA-B34", reason, fix=f"field of view? drop-out? {LOOK}")))
    return found


def _motion(
    confounds: pd.DataFrame, metadata: Mapping[str, Any], unsteady: int, threshold: float
) -> dict[str, float]:
    """Return displacement (mean, share above the threshold), volumes, and what can be used of them in s."""
    moved = _after_first(confounds[DISPLACEMENT], DISPLACEMENT)
    usable = np.concatenate([[True], moved <= threshold])[unsteady:]
    return {
        "fd.mean": float(moved.mean()),
        "fd.outlier_share": float((moved > threshold).mean()),
        "volumes.count": float(len(confounds)),
        "volumes.usable_time": float(usable.sum()) * float(metadata.get("RepetitionTime", math.nan)),
    }


def _start_excess(signal: Array, unsteady: int) -> float:
    """Return how far the first volume's brain signal lies above the steady state's median, as a share."""
    return float(signal[0] / np.median(signal[unsteady:]) - 1) if np.isfinite(signal).all() else math.nan


def _ghosts(reference: Reference) -> dict[str, float]:
    """Return the ghost along the phase-encoding axis, or along both in-plane axes where that is not known."""
    import nibabel

    image = np.asarray(nibabel.load(reference.image).dataobj, dtype=np.float64)
    mask = np.asarray(nibabel.load(reference.mask).dataobj) > 0
    axes = {"i": 0, "j": 1} if reference.phase_axis is None else {"phase": reference.phase_axis}
    return {f"ghost.{name}": ghost_to_signal(image, mask, axis) for name, axis in axes.items()}


def _after_first(column: pd.Series, name: str) -> Array:
    """Return a difference series without its first row, which has no value."""
    values = column.to_numpy(dtype=float)[1:]
    if not len(values) or np.isnan(values).any():
        number = int(np.isnan(values).sum())
        raise DataFault(
            "E-DATA-B11", f"{number} values of {name} are missing", fix="make the confounds again"
        )
    return values
