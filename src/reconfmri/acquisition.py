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
    "EstimatedTotalReadoutTime",
)
TIME_TOLERANCE = 1e-3  # s
MAX_READOUT = 0.25  # s; 128 lines without acceleration take 0.1
SPACING_FACTOR = 2.0  # by which TotalReadoutTime may differ from what the echo spacing says


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
    fix = "correct the sidecar, or set `preprocessing.slice_timing: false`"
    if axis is None:
        reason = f"SliceEncodingDirection is {_short(direction)}, expected i, j or k, with or without -"
        raise DataFault("E-DATA-B24", reason, fix=fix)
    if not isinstance(given, list) or not all(_is_number(value) for value in given):
        raise DataFault("E-DATA-B24", f"SliceTiming is not a list of times: {str(given)[:60]}", fix=fix)
    if len(given) != shape[axis]:
        reason = f"SliceTiming has {len(given)} times, the image {shape[axis]} slices along {direction!r}"
        raise DataFault("E-DATA-B24", reason, fix=fix)
    if min(given) < -TIME_TOLERANCE or max(given) > tr + TIME_TOLERANCE:
        hint = "; it looks like milliseconds" if max(given) > 10 * tr else ""
        reason = f"SliceTiming goes from {min(given):g} to {max(given):g} s, TR is {tr:g} s{hint}"
        raise DataFault("E-DATA-B24", reason, fix=fix)
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
    fix = "write it into the sidecar (dcm2niix does), or set `preprocessing.distortion: none`"
    if axis is None:
        said = (
            "is absent"
            if direction is None
            else f"is {_short(direction)}, expected i, j or k, with or without -"
        )
        raise DataFault("E-DATA-B25", f"PhaseEncodingDirection {said}, so distortion has no axis", fix=fix)
    sign = -1.0 if str(direction).endswith("-") else 1.0
    if not readout:
        return PhaseEncoding(str(direction), axis, sign)
    lines = _lines(sidecar, shape[axis])
    total = _readout_time(sidecar, lines)
    return PhaseEncoding(str(direction), axis, sign * total * lines / (lines - 1))


def has_readout(sidecar: Mapping[str, Any]) -> bool:
    """Whether a sidecar says how long the readout took, or from one echo to the next."""
    return any(sidecar.get(key) is not None for key in ("TotalReadoutTime", "EffectiveEchoSpacing"))


def _lines(sidecar: Mapping[str, Any], shape: int) -> int:
    """Lines of k-space along the phase-encoding axis: ReconMatrixPE, else the voxels of the image."""
    lines = sidecar.get("ReconMatrixPE", shape)
    if not _is_number(lines) or not lines >= 2 or lines != int(lines):
        reason = f"ReconMatrixPE is {_short(lines)}, expected the number of lines"
        raise DataFault("E-DATA-B25", reason, fix="correct the sidecar")
    return int(lines)


def _readout_time(sidecar: Mapping[str, Any], lines: int) -> float:
    """TotalReadoutTime, s, else from EffectiveEchoSpacing; where both are given they must agree."""
    spacing: Any = sidecar.get("EffectiveEchoSpacing")
    total: Any = sidecar.get("TotalReadoutTime")
    fix = (
        "write it into the sidecar (dcm2niix does), give `preprocessing.readout_time`, or set "
        "`preprocessing.distortion: none`"
    )
    if total is None and spacing is None:
        hint = "".join(
            f"; {key} is {_short(sidecar[key])}, which the converter guessed"
            for key in ("EstimatedTotalReadoutTime",)
            if key in sidecar
        )
        reason = f"TotalReadoutTime is absent, so the field map cannot be turned into millimetres{hint}"
        raise DataFault("E-DATA-B25", reason, fix=fix)
    if spacing is not None and not (_is_number(spacing) and 0 < spacing * (lines - 1) < MAX_READOUT):
        reason = f"EffectiveEchoSpacing is {_short(spacing)}, with {lines} lines not below {MAX_READOUT:g} s"
        raise DataFault("E-DATA-B25", reason, fix=fix)
    if total is None:
        return float(spacing) * (lines - 1)
    if not _is_number(total) or not 0 < total < MAX_READOUT:
        hint = "; it looks like milliseconds" if _is_number(total) and total >= 1 else ""
        reason = f"TotalReadoutTime is {_short(total)}{hint}, expected s between 0 and {MAX_READOUT:g}"
        raise DataFault("E-DATA-B25", reason, fix=fix)
    return float(total)


def check_readout(sidecar: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Check that readout time and echo spacing of an EPI of `shape` say the same, where both are given.

    Raises
    ------
    DataFault
        They are apart by more than a factor of two (E-DATA-B25).
    """
    encoding, given = phase_encoding(sidecar, shape), sidecar.get("EffectiveEchoSpacing")
    if given is None or sidecar.get("TotalReadoutTime") is None:
        return
    total, told = (
        float(sidecar["TotalReadoutTime"]),
        float(given) * (_lines(sidecar, shape[encoding.axis]) - 1),
    )
    if not 1 / SPACING_FACTOR < total / told < SPACING_FACTOR:
        reason = f"TotalReadoutTime is {total:g} s, EffectiveEchoSpacing says {told:g} s"
        raise DataFault(
            "E-DATA-B25", reason, fix="find out which holds (scanner protocol) and correct the other"
        )


def _short(value: Any) -> str:
    """A value of a sidecar as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _axis(direction: Any) -> int | None:
    if not isinstance(direction, str) or direction not in ("i", "j", "k", "i-", "j-", "k-"):
        return None
    return AXES[direction[0]]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
