"""What a run's sidecar says of its acquisition: when each slice was taken, and how the image is distorted.

Keys and conventions: BIDS 1.10, magnetic resonance imaging.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconfmri.exclusions import DataFault

AXES = {"i": 0, "j": 1, "k": 2}
KEYS = (
    "SliceTiming",
    "SliceEncodingDirection",
    "PhaseEncodingDirection",
    "TotalReadoutTime",
    "EffectiveEchoSpacing",
    "ReconMatrixPE",
)
TIME_TOLERANCE = 1e-3  # s
MAX_READOUT = 1.0  # s; a longer readout is in milliseconds


@dataclass(frozen=True)
class SliceTimes:
    """When each slice was taken, s from the start of its volume, in the order of the image's `axis`."""

    times: tuple[float, ...]
    axis: int

    @property
    def reference(self) -> float:
        """The time all slices are brought to, s: the middle of the acquisition, as in fMRIPrep."""
        return (min(self.times) + max(self.times)) / 2


@dataclass(frozen=True)
class PhaseEncoding:
    """Along which voxel axis an EPI is distorted, and by how many voxels per Hz (signed, along the axis)."""

    direction: str
    axis: int
    voxels_per_hz: float


def acquisition_of(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a sidecar that this module reads."""
    return {key: sidecar[key] for key in KEYS if key in sidecar}


def slice_times(sidecar: Mapping[str, Any], shape: tuple[int, ...], tr: float) -> SliceTimes | None:
    """Return the slice times of an image of `shape`; None when the sidecar has no SliceTiming.

    Raises
    ------
    DataFault
        The times do not fit the image or the repetition time (E-DATA-B24).
    """
    given = sidecar.get("SliceTiming")
    if given is None:
        return None
    direction = sidecar.get("SliceEncodingDirection", "k")
    axis = _axis(direction)
    mend = "correct the sidecar, or set `preprocessing.slice_timing: false`"
    if axis is None:
        reason = f"SliceEncodingDirection is {direction!r}, expected i, j or k, with or without -"
        raise DataFault("E-DATA-B24", reason, mend=mend)
    if not isinstance(given, list) or not all(_is_number(value) for value in given):
        raise DataFault("E-DATA-B24", f"SliceTiming is not a list of times: {str(given)[:60]}", mend=mend)
    if len(given) != shape[axis]:
        reason = f"SliceTiming has {len(given)} times, the image {shape[axis]} slices along {direction!r}"
        raise DataFault("E-DATA-B24", reason, mend=mend)
    if min(given) < -TIME_TOLERANCE or max(given) > tr + TIME_TOLERANCE:
        hint = "; it looks like milliseconds" if max(given) > 10 * tr else ""
        reason = f"SliceTiming goes from {min(given):g} to {max(given):g} s, TR is {tr:g} s{hint}"
        raise DataFault("E-DATA-B24", reason, mend=mend)
    times = [float(value) for value in given]
    return SliceTimes(tuple(reversed(times) if direction.endswith("-") else times), axis)


def phase_encoding(
    sidecar: Mapping[str, Any], shape: tuple[int, ...], *, readout: bool = True
) -> PhaseEncoding:
    """Return how an EPI of `shape` is distorted; without `readout` its direction alone.

    A point whose field is f Hz off appears f x EffectiveEchoSpacing x (lines of k-space) voxels away; BIDS
    has TotalReadoutTime = EffectiveEchoSpacing x (lines - 1). Jezzard & Balaban, MRM 1995;34:65.

    Raises
    ------
    DataFault
        PhaseEncodingDirection or the readout time is absent or impossible (E-DATA-B25).
    """
    direction = sidecar.get("PhaseEncodingDirection")
    axis = _axis(direction)
    mend = "write it into the sidecar (dcm2niix does), or set `preprocessing.distortion: none`"
    if axis is None:
        said = (
            "is absent" if direction is None else f"is {direction!r}, expected i, j or k, with or without -"
        )
        raise DataFault("E-DATA-B25", f"PhaseEncodingDirection {said}, so distortion has no axis", mend=mend)
    sign = -1.0 if str(direction).endswith("-") else 1.0
    if not readout:
        return PhaseEncoding(str(direction), axis, sign)
    lines = sidecar.get("ReconMatrixPE", shape[axis])
    spacing, total = sidecar.get("EffectiveEchoSpacing"), sidecar.get("TotalReadoutTime")
    if total is None and _is_number(spacing):
        total = spacing * (lines - 1)
    if total is None:
        reason = "TotalReadoutTime is absent, so the field map cannot be turned into millimetres"
        raise DataFault("E-DATA-B25", reason, mend=mend)
    if not _is_number(total) or not 0 < total < MAX_READOUT:
        hint = "; it looks like milliseconds" if _is_number(total) and total >= MAX_READOUT else ""
        reason = f"TotalReadoutTime is {total!r}{hint}, expected s between 0 and {MAX_READOUT:g}"
        raise DataFault("E-DATA-B25", reason, mend=mend)
    return PhaseEncoding(str(direction), axis, sign * float(total) * lines / (lines - 1))


def _axis(direction: Any) -> int | None:
    if not isinstance(direction, str) or direction not in ("i", "j", "k", "i-", "j-", "k-"):
        return None
    return AXES[direction[0]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
