"""How figures and report name things to a reader who has never seen the study file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from reconfmri.config import Group, Rois, Study, Trial, outcome_label

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
    "ancova_hc2": "robust ANCOVA",
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


def region_groups(rois: Rois) -> dict[str, list[int]]:
    """Return name -> volumes of the image of masks; sides that are reported together are one group.

    Regions of people's own segmentations have no place on the template.
    """
    names, own = list(rois.regions), set(rois.own)
    groups = {
        name: volumes
        for name, parts in rois.combined.items()
        if (volumes := [names.index(part) for part in parts if part in names and part not in own])
    }
    taken = {index for volumes in groups.values() for index in volumes}
    alone = {name: [index] for index, name in enumerate(names) if index not in taken and name not in own}
    return groups | alone


def declared_label(name: str, group: Group) -> str:
    """Return the outcome's label, and that it is exploratory where it was not declared."""
    return outcome_label(name) + (" (exploratory)" if name in group.exploratory else "")


def session_name(study: Study | Trial, session: str) -> str:
    """Return what the study calls a session, or its label."""
    return study.session_names.get(session, SESSIONS.get(session, session))


def estimand_label(name: str, group: Group | None = None) -> str:
    """Return what the report calls an estimand; given the group, a change within an arm by its name."""
    said = ESTIMANDS.get(name, name.replace("_", " "))
    if group is None:
        return said
    if group.arms.several:
        return said.replace("active arm", "within each active arm")
    active, control = group.arms.pair
    arms = {"active arm": active, "control arm": control}
    for kind, arm in arms.items():
        said = said.replace(kind, f"arm {arm}")
    return said


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
    """Return estimate, lower and upper of a row as `0.12 [−0.08, 0.32]`, all with the same digits.

    An interval without ends, as of a randomisation test of few allocations, is said in words.
    """
    said = str(row["unit"]) if unit is None else unit
    if is_unbounded(row):
        return f"{number(row['estimate'], said)} (no bounded interval)"
    return f"{number(row['estimate'], said, width=half_width(row))} [{ends(row, said, between=between)}]"


def ends(row: Mapping[Any, Any], unit: str, *, between: str = " to ") -> str:
    """Return the interval of a row as `−0.08 to 0.32`."""
    width = half_width(row)
    return between.join(number(row[name], unit, width=width) for name in ("lower", "upper"))


def is_unbounded(row: Mapping[Any, Any]) -> bool:
    """Return whether the interval of a row has neither a lower nor an upper end."""
    return bool(row["lower"] == -math.inf and row["upper"] == math.inf)


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
