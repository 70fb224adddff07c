"""How figures and report name things to a reader who has never seen the study file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from reconfmri.config import Group, Rois, Study, Trial

PROPER = {"vmpfc": "vmPFC", "dacc": "dACC", "racc": "rACC", "scr": "skin conductance", "tsnr": "tSNR"}
SCALES = {"pcl5": "PCL-5", "caps5": "CAPS-5", "bdi2": "BDI-II"}
QUALITY = {
    "fd.mean": "Mean framewise displacement",
    "fd.outlier_share": "Share of volumes that moved",
    "dvars.mean": "Mean standardised DVARS",
    "tsnr.median": "Median temporal SNR",
    "coverage.lowest": "Lowest coverage of a region",
    "volumes.count": "Volumes",
    "volumes.usable_time": "Time of steady volumes that did not move",
    "volumes.damaged_share": "Damaged volumes",
    "flat.share": "Brain voxels that do not vary",
    "start.excess": "First volume above the steady state",
    "start.volumes": "Volumes before the steady state",
    "registration.cost": "Boundary cost of EPI to T1w",
    "brain.volume": "Volume of the brain mask",
    "ghost.phase": "Ghost to signal, phase encoding",
    "ghost.i": "Ghost to signal, first image axis",
    "ghost.j": "Ghost to signal, second image axis",
}
ESTIMANDS = {
    "difference_adjusted": "Difference, adjusted for baseline",
    "difference_unadjusted": "Difference, unadjusted",
    "difference_of_change": "Difference of change from baseline",
    "difference_average": "Average difference over later visits, adjusted",
    "change_active": "Change from baseline, active arm",
    "change_control": "Change from baseline, control arm",
}
SESSIONS = {"average": "later visits, on average"}
MOST_DIGITS, LARGEST = 6, 1e6
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
METHODS = {
    "bayes": "Bayesian",
    "reml": "REML",
    "ancova": "ANCOVA",
    "ancova_hc2": "ANCOVA, robust",
    "welch": "Welch t",
    "paired_t": "paired t",
    "randomisation": "randomisation test",
    "conditional_mean": "missing at random",
    "jump_to_reference": "jump to reference",
    "copy_reference": "copy reference",
    "copy_increments": "copy increments in reference",
    "last_mean": "last mean carried forward",
    "by_event": "by intercurrent event",
}


def outcome_label(name: str) -> str:
    """Return `amygdala.trauma_first-neutral_first` as `Amygdala: trauma first − neutral first`."""
    what, _, condition = name.partition(".")
    if condition == "total" and what not in PROPER:
        return f"{SCALES.get(what, what.upper())} total"
    if name in QUALITY:
        return QUALITY[name]
    spoken = " – ".join(PROPER.get(part, part.replace("_", " ")) for part in what.split("-"))
    spoken = (
        spoken
        if spoken.split(" ")[0] in PROPER.values() and what != "scr"
        else spoken[:1].upper() + spoken[1:]
    )
    return f"{spoken}: {contrast_label(condition)}" if condition else spoken


def region_groups(rois: Rois) -> dict[str, list[int]]:
    """Return name -> volumes of the image of masks; sides that are reported together are one group."""
    names = list(rois.regions)
    groups = {
        name: [names.index(part) for part in parts if part in names] for name, parts in rois.combined.items()
    }
    taken = {index for volumes in groups.values() for index in volumes}
    return groups | {name: [index] for index, name in enumerate(names) if index not in taken}


def declared_label(name: str, group: Group) -> str:
    """Return the outcome's label, and that it is exploratory where it was not declared."""
    return outcome_label(name) + (" (exploratory)" if name in group.exploratory else "")


def contrast_label(name: str) -> str:
    """Return `trauma_first-neutral_first` as `trauma first − neutral first`."""
    return " − ".join(part.replace("_", " ") for part in name.split("-"))


def session_name(study: Study | Trial, session: str) -> str:
    """Return what the study calls a session, or its label."""
    return study.session_names.get(session, SESSIONS.get(session, session))


def estimand_label(name: str) -> str:
    """Return what the report calls an estimand."""
    return ESTIMANDS.get(name, name.replace("_", " "))


def method_label(name: str) -> str:
    """Return what the report calls a method."""
    return METHODS.get(name, name.replace("_", " "))


def number(value: float, unit: str = "", *, width: float = math.nan) -> str:
    """Return a value with the digits its unit deserves and a true minus sign; `–` when missing.

    One digit for points and tSNR, else two; more where two significant ones would not show, of the value or
    of `width`: half the interval that the value is in, or its error. From seven digits on as a power of ten.
    """
    if value is None or value != value:
        return "–"
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    digits = 1 if "points" in unit or unit == "tSNR" else 2
    size = abs(width) if width == width and width else abs(value)
    if 0 < size < 5 * 10**-digits:
        digits = 1 - math.floor(math.log10(size))
    if digits > MOST_DIGITS or abs(value) >= LARGEST:
        return _power_of_ten(value)
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def number_with_ends(row: Mapping[Any, Any], unit: str | None = None, *, between: str = ", ") -> str:
    """Return estimate, lower and upper of a row as `0.12 [−0.08, 0.32]`, all with the same digits."""
    said = str(row["unit"]) if unit is None else unit
    return f"{number(row['estimate'], said, width=half_width(row))} [{ends(row, said, between=between)}]"


def ends(row: Mapping[Any, Any], unit: str, *, between: str = " to ") -> str:
    """Return the interval of a row as `−0.08 to 0.32`."""
    width = half_width(row)
    return between.join(number(row[name], unit, width=width) for name in ("lower", "upper"))


def half_width(row: Mapping[Any, Any]) -> float:
    """Return half the length of the interval of a row; NaN where it has none, or not two ends."""
    width = (float(row["upper"]) - float(row["lower"])) / 2
    return width if math.isfinite(width) else math.nan


def _power_of_ten(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}\u00a0×\u00a010{str(int(exponent)).translate(RAISED)}".replace("-", "−")


def p_text(value: float) -> str:
    """Return a p value as `0.012` or `< 0.001`; `–` when missing."""
    if value is None or value != value:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def probability_text(value: float) -> str:
    """Return a probability as `0.98`, `> 0.999` or `< 0.001`; `–` when missing."""
    if value is None or value != value:
        return "–"
    if value > 0.999:
        return "> 0.999"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
