"""Nuisance columns by fMRIPrep's names: which of a confounds table belong to a group of the study file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
TISSUE = ("global_signal", "white_matter", "csf")
DERIVED = ("", "_derivative1", "_power2", "_derivative1_power2")
# Groups whose columns every run has, and those with as many columns as a run needs.
FIXED = {
    "motion6": list(MOTION),
    "motion24": [name + end for name in MOTION for end in DERIVED],
    "fd": ["framewise_displacement"],
    "dvars": ["std_dvars"],
    "global_signal": ["global_signal"],
    "white_matter": ["white_matter"],
    "csf": ["csf"],
}
NUMBERED = {
    "acompcor": "a_comp_cor_",
    "tcompcor": "t_comp_cor_",
    "non_steady_state": "non_steady_state_outlier",
    "motion_outliers": "motion_outlier",
}
COMPONENTS = (NUMBERED["acompcor"], NUMBERED["tcompcor"])
DAMAGED = "damaged_volume"  # prefix of the column of a volume that is not finite
INTERCEPT, DRIFT = "constant", "drift_"  # of a design: its intercept, and the prefix of its cosines
_OF_A_RUN = {
    *(name for group in FIXED.values() for name in group),
    *(name + end for name in TISSUE for end in DERIVED),
    *("dvars", "rmsd", "csf_wm", INTERCEPT),
}
_ONE_OF_MANY = re.compile(
    rf"({'|'.join((*NUMBERED.values(), DAMAGED, DRIFT, 'cosine', 'edge_comp_', '[a-z]_comp_cor_'))})_?\d+"
)


def is_column(name: str) -> bool:
    """Whether a design, or a table of confounds (ours, fMRIPrep's), may have a column of that name."""
    return name in _OF_A_RUN or _ONE_OF_MANY.fullmatch(name) is not None


def columns_of(group: str, present: Sequence[str]) -> list[str]:
    """Return the columns of a group, of those that are `present` in a table.

    Raises
    ------
    ValueError
        The group is unknown, or the table has no column of a group that every run has.
    """
    if group in FIXED:
        absent = [name for name in FIXED[group] if name not in present]
        if absent:
            raise ValueError(f"confounds group {group!r} needs the columns {absent}; the table has {present}")
        return FIXED[group]
    if group not in NUMBERED:
        raise ValueError(f"Unknown group of confounds {group!r}; known are {[*FIXED, *NUMBERED]}")
    found = [name for name in present if name.startswith(NUMBERED[group])]
    if group in ("acompcor", "tcompcor") and not found:
        raise ValueError(f"confounds group {group!r} was asked for; set preprocessing.{group} to more than 0")
    return found


def facts_of_columns(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the JSON of a table says of its columns; entries that describe none are left aside."""
    return {name: facts for name, facts in content.items() if isinstance(facts, dict)}


def kept_components(
    names: Sequence[str], facts: Mapping[str, Any], *, n_components: int, n_temporal: int
) -> list[str]:
    """Return the first aCompCor columns of the combined mask, then the first tCompCor columns.

    `facts` is the JSON of the table (may be empty); from 1.4 to 20.2 the components of other masks follow
    those of the combined one.
    """
    found = _by_number(names, NUMBERED["acompcor"])
    combined = [name for name in found if facts.get(name, {}).get("Mask", "combined") == "combined"]
    return combined[:n_components] + _by_number(names, NUMBERED["tcompcor"])[:n_temporal]


def _by_number(names: Sequence[str], prefix: str) -> list[str]:
    found = [name for name in names if name.startswith(prefix)]
    return sorted(found, key=lambda name: int(name.rpartition("_")[2]))
