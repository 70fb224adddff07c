"""Nuisance series in fMRIPrep's names: motion, displacement, DVARS, CompCor, cosines, outliers; their choice.

Definitions: https://fmriprep.org/en/stable/outputs.html#confounds
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reconfmri.exclusions import DataFault
from reconfmri.nuisance import DAMAGED, DERIVED, MOTION, TISSUE, columns_of, kept_components
from reconfmri.series import VoxelSeries

if TYPE_CHECKING:
    import pandas as pd

    from reconfmri.config import Scrubbing

Array = npt.NDArray[Any]
HEAD_RADIUS_MM = 50.0
HIGH_PASS_S = 128.0
# fMRIPrep's defaults for the spike regressors.
FD_SPIKE_MM, DVARS_SPIKE = 0.5, 1.5
TCOMPCOR_PERCENT = 2
MIN_VOXELS, MOST_COMPONENTS = 10, 20
N_BINS = 2**20  # of the histogram that gives the median of a run: exact to a millionth of its range
# The first row of a difference has no value; a regressor of differences is zero there.
DIFFERENCES = ("framewise_displacement", "dvars", "std_dvars")
MISSING = "n/a"
# What every version of fMRIPrep writes.
ALWAYS = ("framewise_displacement", "std_dvars", *MOTION, "global_signal", "white_matter", "csf")
AGAIN = "run fMRIPrep for this participant again"


@dataclass(frozen=True)
class TissueSignals:
    """A run's brain voxels after motion correction; `white`, `fluid` (n_voxels,): which lie deep in what."""

    signals: VoxelSeries
    white: Array
    fluid: Array


@dataclass(frozen=True)
class VoxelStatistics:
    """What one pass over a run's brain gives.

    `means` (tissue -> (n_volumes,)), `varies` (n_voxels,), `spread` (n_voxels,): SD in time without a
    quadratic trend, and standardised and plain DVARS (n_volumes,), NaN first.
    """

    means: dict[str, Array]
    varies: Array
    spread: Array
    standard_dvars: Array
    plain_dvars: Array


def motion_parameters(transforms: Array, *, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Array:
    """Return (n_volumes, 6): shift of the point `centre` in mm and rotations in radians around x, y, z (RAS).

    `transforms` (n_volumes, 4, 4) map reference space to each volume's, RAS mm.
    """
    from scipy.spatial.transform import Rotation

    point = np.asarray(centre, dtype=np.float64)
    shifts = transforms[:, :3, :3] @ point + transforms[:, :3, 3] - point
    angles = Rotation.from_matrix(transforms[:, :3, :3]).as_euler("xyz")
    return np.column_stack([shifts, angles])


def framewise_displacement(motion: Array, *, radius_mm: float = HEAD_RADIUS_MM) -> Array:
    """Return (n_volumes,) mm, NaN first: summed absolute change of the six parameters (mm, radians).

    Power et al., NeuroImage 2012;59:2142.
    """
    change = np.abs(np.diff(motion, axis=0))
    change[:, 3:] *= radius_mm
    return np.concatenate([[np.nan], change.sum(axis=1)])


def non_steady_state_volumes(global_signal: Array) -> int:
    """Return how many volumes at the start are outliers of the mean signal (n_volumes,), first fifty."""
    from nipype.algorithms.confounds import is_outlier

    first = np.asarray(global_signal[:50], dtype=np.float64)
    if np.median(np.abs(first - np.median(first))) == 0:
        return 0
    return int(is_outlier(first))


def voxel_statistics(tissue: TissueSignals, *, skip: int = 0) -> VoxelStatistics:
    """Return tissue means, DVARS and the voxels' spread over the volumes from `skip` on, in one pass.

    DVARS is in the unit of signals scaled to a median of 1000. The numbers are those of nipype's
    `compute_dvars` and `TCompCor`, which hold the whole run in memory.
    Power et al., NeuroImage 2012;59:2142; Nichols 2013.

    Raises
    ------
    DataFault
        Fewer than ten voxels vary in time (E-DATA-B04).
    """
    from nipype.algorithms.confounds import regress_poly

    series = tissue.signals
    if series.highest <= series.lowest:
        raise _flat(0)
    masks = {
        "global_signal": np.ones(series.n_voxels, bool),
        "white_matter": tissue.white,
        "csf": tissue.fluid,
    }
    sums = {name: np.zeros(series.n_volumes) for name in masks}
    varies, spread = np.zeros(series.n_voxels, bool), np.zeros(series.n_voxels)
    extent = (series.lowest, series.highest)
    counts, changes, expected = np.zeros(N_BINS, np.int64), np.zeros(series.n_volumes - 1), []
    for voxels, signals in series.blocks():
        for name, mask in masks.items():
            sums[name] += signals[mask[voxels]].sum(axis=0, dtype=np.float64)
        varies[voxels] = moving = signals.std(axis=1) > 0
        signals = signals[moving]
        spread[voxels[moving]] = regress_poly(2, signals[:, skip:].astype(np.float64))[0].std(axis=1)
        counts += np.histogram(signals, N_BINS, extent)[0]
        expected.append(_expected_change(signals))
        change = np.diff(signals, axis=1)
        changes += np.einsum("vt,vt->t", change, change, dtype=np.float64)
    means = {
        name: sums[name] / mask.sum() if mask.any() else np.full(series.n_volumes, np.nan)
        for name, mask in masks.items()
    }
    if varies.sum() < MIN_VOXELS:
        raise _flat(int(varies.sum()))
    usual = np.concatenate(expected)
    plain = np.sqrt(changes / max(len(usual), 1))
    scale = 1000.0 / _median_of(counts, extent)
    standard, plain = (np.concatenate([[np.nan], values]) for values in (plain / usual.mean(), plain * scale))
    return VoxelStatistics(means, varies, spread, standard, plain)


def _expected_change(signals: Array) -> Array:
    """Return the SD of the change that each voxel's own spread and autocorrelation let expect (Nichols)."""
    upper, lower = (np.percentile(signals, share, axis=1, method="lower") for share in (75, 25))
    spread = (upper - lower) / 1.349
    signals, spread = signals[spread > 0], spread[spread > 0]
    centred = signals - signals.mean(axis=1, keepdims=True, dtype=np.float64)
    lag0 = np.einsum("vt,vt->v", centred, centred)
    lag1 = np.einsum("vt,vt->v", centred[:, 1:], centred[:, :-1])
    return np.asarray(np.sqrt(2 * (1 - lag1 / lag0)) * spread)


def _flat(count: int) -> DataFault:
    reason = f"flat image: only {count} voxels of the brain or its noise regions vary in time"
    return DataFault("E-DATA-B04", reason, fix="export the series again from the scanner")


def _median_of(counts: Array, extent: tuple[float, float]) -> float:
    """Return the median of values counted in equal bins over `extent`, linear inside its bin."""
    below = np.concatenate([[0], np.cumsum(counts)])
    return float(np.interp(below[-1] / 2, below, np.linspace(*extent, len(below))))


def build(
    transforms: Array,
    tissue: TissueSignals,
    *,
    tr: float,
    n_non_steady: int,
    n_components: int,
    n_temporal: int = 0,
    centre: tuple[float, float, float],
    whole: Array | None = None,
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Return the confounds table (one row per volume) and what is known of each column.

    Where volumes are damaged, `whole` (n_volumes,) tells which are not; `transforms` and `tissue` are those
    of the whole ones. A change is then one since the last whole volume. In the row of a damaged volume motion
    and signals are missing, components 0, and a column `damaged_volume..` of its own is 1.

    Raises
    ------
    DataFault
        The brain has no signal that varies (E-DATA-B04).
    """
    import pandas as pd

    if whole is None:
        whole = np.ones(len(transforms), dtype=bool)
    skip = int(whole[:n_non_steady].sum())
    motion = motion_parameters(transforms, centre=centre)
    seen = voxel_statistics(tissue, skip=skip)
    standard, displacement = seen.standard_dvars, framewise_displacement(motion)
    columns = _expanded(dict(zip(MOTION, motion.T, strict=True)) | seen.means)
    columns |= {"framewise_displacement": displacement, "dvars": seen.plain_dvars, "std_dvars": standard}
    columns = {name: _in_rows(values, whole, math.nan) for name, values in columns.items()}
    noisiest = seen.varies & (seen.spread >= np.percentile(seen.spread[seen.varies], 100 - TCOMPCOR_PERCENT))
    sources = {
        "a_comp_cor": ("aCompCor", "combined", seen.varies & (tissue.white | tissue.fluid), n_components),
        "t_comp_cor": ("tCompCor", f"the {TCOMPCOR_PERCENT} % of largest spread", noisiest, n_temporal),
    }
    facts: dict[str, dict[str, Any]] = {}
    for prefix, (method, mask, voxels, wanted) in sources.items():
        found, known, waves = noise_components(tissue.signals, voxels, tr=tr, skip=n_non_steady, whole=whole)
        for number in range(min(wanted, found.shape[1])):
            name = f"{prefix}_{number:02d}"
            columns[name] = found[:, number]
            facts[name] = {"Method": method, "Mask": mask, "Retained": True} | known[number]
    columns |= {f"cosine{number:02d}": wave for number, wave in enumerate(waves.T)}
    columns |= _spikes("non_steady_state_outlier", (np.arange(len(whole)) < n_non_steady) & whole)
    outlying = _motion_outliers(displacement, standard, n_non_steady=skip)
    columns |= _spikes("motion_outlier", _in_rows(outlying, whole, False))
    columns |= _spikes(DAMAGED, ~whole)
    table = pd.DataFrame(columns)
    return table, {name: {"Description": _describe(name)} | facts.get(name, {}) for name in table.columns}


def _in_rows(values: Array, whole: Array, missing: Any) -> Array:
    """Return values of the whole volumes in the rows of all, (n_volumes, ...)."""
    found = np.full((len(whole), *values.shape[1:]), missing, dtype=values.dtype)
    found[whole] = values
    return found


def from_fmriprep(
    table: pd.DataFrame, facts: dict[str, Any], *, n_components: int, n_temporal: int = 0
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Return the columns of an fMRIPrep table that `select` reads, and what is known of each.

    `table` has text cells, `facts` is its JSON (may be empty). Of the aCompCor components the first
    `n_components` of the combined mask stay, of the tCompCor components the first `n_temporal`. Early tables,
    which have neither the expansion of the motion parameters nor motion outliers, get both by the definitions
    of later versions.

    Raises
    ------
    DataFault
        A column that every version writes is absent, or a cell is no number (E-DATA-B11).
    """
    import pandas as pd

    absent = [name for name in ALWAYS if name not in table]
    if absent:
        early = " (its names are those of 1.0 and 1.1)" if "FramewiseDisplacement" in table else ""
        raise DataFault("E-DATA-B11", f"fMRIPrep's confounds have no columns {absent}{early}", fix=AGAIN)
    bad = [str(name) for name in table if _holds_text(table[name])]
    if bad:
        raise DataFault("E-DATA-B11", f"fMRIPrep's confounds hold text in the columns {bad}", fix=AGAIN)
    numbers = table.apply(pd.to_numeric)
    chosen = numbers[[name for name in numbers if _is_ours(str(name))]]
    kept = kept_components(
        [str(name) for name in numbers], facts, n_components=n_components, n_temporal=n_temporal
    )
    if n_components and not any(name.startswith("a_comp_cor_") for name in kept):
        fix = "set preprocessing.acompcor to 0 if the study does without aCompCor, or " + AGAIN
        raise DataFault("E-DATA-B11", "fMRIPrep's confounds have no aCompCor components", fix=fix)
    whole = pd.concat([chosen, numbers[kept]], axis=1)
    whole = _with_expansions(whole)
    return whole, {name: {"Description": _describe(name)} | facts.get(name, {}) for name in whole.columns}


def _holds_text(column: pd.Series[Any]) -> bool:
    import pandas as pd

    return bool((pd.to_numeric(column, errors="coerce").isna() & column.notna()).any())


def _is_ours(name: str) -> bool:
    """Whether this table of ours has such a column too, CompCor aside."""
    parts = {name + end for name in (*MOTION, *TISSUE) for end in DERIVED}
    return name in {*parts, *ALWAYS, "dvars"} or name.startswith(
        ("cosine", "non_steady_state_outlier", "motion_outlier")
    )


def _with_expansions(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with what later versions write: changes and squares, and the motion outliers."""
    import pandas as pd

    bare = [name for name in (*MOTION, *TISSUE) if f"{name}_derivative1" not in table]
    columns = _expanded({name: table[name].to_numpy(dtype=np.float64) for name in bare})
    if MOTION[0] in bare:
        n_non_steady = sum(str(name).startswith("non_steady_state_outlier") for name in table.columns)
        moved, jumped = (table[name].to_numpy(dtype=np.float64) for name in ALWAYS[:2])
        outlying = _motion_outliers(moved, jumped, n_non_steady=n_non_steady)
        columns |= _spikes("motion_outlier", outlying)
    return pd.concat([table.drop(columns=bare), pd.DataFrame(columns, index=table.index)], axis=1)


def select(table: pd.DataFrame, groups: list[str], scrubbing: Scrubbing | None = None) -> pd.DataFrame:
    """Return the nuisance columns (float64) of the named groups, in their order, then of scrubbed volumes.

    Groups: motion6, motion24, acompcor, tcompcor, fd, dvars (standardised), global_signal, white_matter, csf,
    non_steady_state, motion_outliers. The first row of a difference, n/a, becomes 0; a value that is missing
    anywhere else is a fault of the data. Runs without outliers have no columns of the last two groups. The
    column of a damaged volume is always chosen; what is missing in its row becomes the mean of the others,
    which no fit can see.

    Raises
    ------
    ValueError
        A group is unknown, or the table has no column of a group that every run has.
    DataFault
        A column is missing throughout, or in a row other than the first (E-DATA-B11).
    """
    import pandas as pd

    chosen: dict[str, Array] = {}
    present, whole = [str(column) for column in table.columns], ~damaged_volumes(table)
    for group in groups:
        for name in columns_of(group, present):
            chosen[name] = _filled(name, table[name], whole)
    chosen |= _spikes(DAMAGED, ~whole)
    if scrubbing is not None:
        spikes = [values for values in chosen.values() if np.isin(values, (0.0, 1.0)).all()]
        alone = np.sum([np.zeros(len(table)), *(v for v in spikes if v.sum() == 1)], axis=0) > 0
        chosen |= _spikes("motion_outlier", scrubbed_volumes(table, scrubbing) & ~alone)
    return pd.DataFrame(chosen, index=table.index)


def scrubbed_volumes(table: pd.DataFrame, scrubbing: Scrubbing) -> Array:
    """Return (n_volumes,): which volumes moved more than declared, and their neighbours.

    Power et al., NeuroImage 2014;84:320. A displacement without a value (the first) is none.

    Raises
    ------
    DataFault
        A column is missing throughout, or in a row other than the first (E-DATA-B11).
    """
    limits = {"framewise_displacement": scrubbing.fd, "std_dvars": scrubbing.dvars}
    whole = ~damaged_volumes(table)
    moved = np.zeros(len(table), dtype=bool)
    for name, most in limits.items():
        if most is not None:
            moved |= (_filled(name, table[name], whole) > most) & whole
    near = np.arange(-scrubbing.before, scrubbing.after + 1)
    places = np.add.outer(np.flatnonzero(moved), near).ravel()
    found = np.zeros(len(table), dtype=bool)
    found[places[(places >= 0) & (places < len(table))]] = True
    return found


def damaged_volumes(table: pd.DataFrame) -> Array:
    """Return (n_volumes,): which volumes are damaged by a confounds table."""
    names = [name for name in table.columns if str(name).startswith(DAMAGED)]
    return np.asarray((table[names].to_numpy(dtype=np.float64) > 0).any(axis=1))


def _filled(name: str, column: pd.Series[Any], whole: Array) -> Array:
    import pandas as pd

    text = column.where(column.notna(), MISSING) if column.dtype == object else column
    values: Array = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    fix = "make the run's confounds again"
    if np.isnan(values).all():
        raise DataFault("E-DATA-B11", f"the confounds column {name!r} has no value in any row", fix=fix)
    first = int(np.argmax(whole))
    if np.isnan(values[first]) and (name in DIFFERENCES or "derivative1" in name):
        values[first] = 0.0
    values[~whole & np.isnan(values)] = np.nanmean(values)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
        raise DataFault("E-DATA-B11", f"the confounds column {name!r} has no value in row {row}", fix=fix)
    return values


def _motion_outliers(displacement: Array, standard_dvars: Array, *, n_non_steady: int) -> Array:
    """Return (n_volumes,): which volumes moved or jumped by more than fMRIPrep's defaults allow."""
    moved = np.nan_to_num(displacement) > FD_SPIKE_MM
    jumped = np.nan_to_num(standard_dvars) > DVARS_SPIKE
    return np.asarray((moved | jumped) & (np.arange(len(displacement)) >= n_non_steady))


def _expanded(series: dict[str, Array]) -> dict[str, Array]:
    """Return each series with its change from volume to volume, and the squares of both."""
    columns: dict[str, Array] = {}
    for name, values in series.items():
        change = np.concatenate([[np.nan], np.diff(values)])
        columns[name] = values
        columns[f"{name}_derivative1"] = change
        columns[f"{name}_power2"] = values**2
        columns[f"{name}_derivative1_power2"] = change**2
    return columns


def noise_components(
    series: VoxelSeries, voxels: Array, *, tr: float, skip: int, whole: Array | None = None
) -> tuple[Array, list[dict[str, float]], Array]:
    """Return components (n_volumes, n), facts of each, and the cosines (n_volumes, k) that were filtered out.

    Both are 0 in the first `skip` volumes of the run. Where some are missing, `whole` (n_volumes,) tells
    which are not: `series` holds those, and components are 0 in the others.

    Principal components of the standardised `voxels` (n_voxels,), from the covariance over time that is
    gathered block by block; nipype's `compute_noise_components` decomposes the whole matrix to the same ones.
    Behzadi et al., NeuroImage 2007;37:90.

    Raises
    ------
    DataFault
        Fewer than ten of the voxels vary in time (E-DATA-B04).
    """
    from nipype.algorithms.confounds import cosine_filter

    if voxels.sum() < MIN_VOXELS:
        raise _flat(int(voxels.sum()))
    whole = np.ones(series.n_volumes, dtype=bool) if whole is None else whole
    used, before = whole[skip:], int(whole[:skip].sum())
    waves = cosine_filter(np.zeros((1, len(used))), tr, HIGH_PASS_S)[1]
    waves = waves if waves.size else np.empty((len(used), 0))
    slow = np.column_stack([waves, np.ones(len(used))])[used]
    covariance = np.zeros((int(used.sum()),) * 2)
    for _, signals in series.blocks(voxels):
        rest = signals[:, before:].astype(np.float64)
        rest -= (slow @ np.linalg.lstsq(slow, rest.T)[0]).T
        spread = rest.std(axis=1, keepdims=True)
        rest /= np.where(spread > 0, spread, 1.0)
        covariance += rest.T @ rest
    power, vectors = np.linalg.eigh(covariance)
    power, vectors = np.clip(power[::-1], 0, None), vectors[:, ::-1]
    # An eigenvector has no sign of its own: the largest weight is positive.
    vectors = vectors * np.sign(np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0))
    share = power / power.sum()
    known = [
        {
            "SingularValue": float(np.sqrt(power[number])),
            "VarianceExplained": float(share[number]),
            "CumulativeVarianceExplained": float(share[: number + 1].sum()),
        }
        for number in range(min(MOST_COMPONENTS, len(power)))
    ]
    components, waves = (
        np.concatenate([np.zeros((skip, part.shape[1])), part])
        for part in (_in_rows(vectors[:, :MOST_COMPONENTS], used, 0.0), waves)
    )
    return components, known, waves


def _spikes(prefix: str, where: Array) -> dict[str, Array]:
    rows = np.flatnonzero(where)
    return {f"{prefix}{number:02d}": np.eye(len(where))[row] for number, row in enumerate(rows)}


def _describe(name: str) -> str:
    base = name.removesuffix("_derivative1_power2").removesuffix("_power2").removesuffix("_derivative1")
    kinds = {
        "trans_": "Shift of the head's centre from the reference volume, RAS axes, mm",
        "rot_": "Rotation of the head from the reference volume around the RAS axis, radians",
        "global_signal": "Mean signal of the brain mask",
        "white_matter": "Mean signal of deep white matter",
        "csf": "Mean signal of deep cerebrospinal fluid",
        "framewise_displacement": "Framewise displacement after Power et al. 2012, mm",
        "dvars": "Root mean square change of the signal (median 1000) from volume to volume",
        "std_dvars": "DVARS over its expectation without artefacts (Nichols 2013)",
        "a_comp_cor_": "Principal component of deep white matter and cerebrospinal fluid (aCompCor)",
        "t_comp_cor_": "Principal component of the voxels that vary most (tCompCor)",
        "cosine": f"Discrete cosine of the high-pass filter, cut-off {HIGH_PASS_S:g} s",
        "non_steady_state_outlier": "One volume before the steady state",
        DAMAGED: "One damaged volume (values that are not finite, a copy of another volume, a dead slice, no "
        "head): use this column in every model, or leave the volume out",
        "motion_outlier": f"One volume with displacement > {FD_SPIKE_MM} mm or std_dvars > {DVARS_SPIKE}",
    }
    text = next(text for start, text in kinds.items() if base.startswith(start))
    ends = {"_derivative1_power2": ", change squared", "_power2": ", squared", "_derivative1": ", change"}
    return text + next((extra for end, extra in ends.items() if name.endswith(end)), "")
