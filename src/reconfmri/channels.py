"""Which channel of a BIDS recording is meant, by the JSON beside it; the samples are not read here.

A recording (`_physio.tsv.gz`) has no header: the JSON names columns, sampling frequency, start (s from the
first volume, before it when negative) and units. It may have any rate, several columns, and lie beside
others of the same run (`recording-` entity).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconfmri.exclusions import DataFault

CODE = "E-DATA-B15"
COMPLETE = "complete the JSON beside the recording"
# µS per unit; umho is the old name of µS.
CONDUCTANCE = {
    "µS": 1.0, "μS": 1.0, "uS": 1.0, "microsiemens": 1.0, "microS": 1.0, "umho": 1.0, "µmho": 1.0,
    "μmho": 1.0, "S": 1e6, "siemens": 1e6, "mS": 1e3, "nS": 1e-3,
}  # fmt: skip
VOLTAGE = {
    "µV": 1.0,
    "μV": 1.0,
    "uV": 1.0,
    "microV": 1.0,
    "microvolts": 1.0,
    "mV": 1e3,
    "V": 1e6,
    "volts": 1e6,
}


@dataclass(frozen=True)
class Kind:
    """A kind of channel: what columns are called, and the units its values may have (None: any).

    `units`: unit -> how many of the first unit it is.
    """

    what: str
    names: tuple[str, ...]
    units: Mapping[str, float] | None = None

    @property
    def quantity(self) -> str:
        """What the units measure, for messages."""
        return "conductance" if self.units is CONDUCTANCE else "voltage"


KINDS = {
    "skin_conductance": Kind(
        "skin conductance",
        ("skinconductance", "eda", "gsr", "scr", "scl", "electrodermal", "electrodermalactivity"),
        CONDUCTANCE,
    ),
    "cardiac": Kind(
        "heart",
        ("cardiac", "ecg", "ekg", "electrocardiogram", "ppg", "pulse", "pulseox", "puls", "plethysmogram"),
    ),
    "respiratory": Kind("respiration", ("respiratory", "respiration", "resp", "rsp", "breathing", "belt")),
    "emg": Kind("EMG", ("emg", "corrugator", "corrugatoremg", "emgcorrugator"), VOLTAGE),
    "trigger": Kind("trigger", ("trigger", "triggers", "scannertrigger", "volumetrigger", "ttl")),
}


@dataclass(frozen=True)
class Description:
    """What the JSON says of a channel: column, `scale` to the kind's unit, Hz, s from the first volume."""

    column: str
    n_columns: int
    place: int
    scale: float
    frequency: float
    start: float


def find_column(sidecar: Mapping[str, Any], kind: str, column: str | None, name: str) -> str:
    """Return the column of a kind of channel: the declared one, else the only one that it may be.

    Raises
    ------
    DataFault
        There is none, or there are several.
    """
    columns, wanted = sidecar.get("Columns"), KINDS[kind]
    if not isinstance(columns, list) or not all(isinstance(item, str) for item in columns):
        missing = "its JSON has no Columns" if columns is None else f"Columns is {columns!r:.60}"
        raise DataFault(CODE, f"{missing}, expected a list of names", fix=COMPLETE, file=name)
    found = columns_of(sidecar, kind, column)
    if column is not None and len(found) != 1:
        number = f"{len(found)} times the" if found else "no"
        raise DataFault(CODE, f"{number} column {column!r}, it has {columns}", fix=COMPLETE, file=name)
    if len(found) != 1:
        what = f"{found} could each be the {wanted.what}" if found else f"no column of {wanted.what}"
        fix = "name the column in the study file (`column`)"
        raise DataFault(CODE, f"{what}, it has {columns}", fix=fix, file=name)
    return found[0]


def columns_of(sidecar: Mapping[str, Any], kind: str, column: str | None) -> list[str]:
    """Return the columns that may be a channel: the declared one, else those of its names, else its unit."""
    columns = [item for item in sidecar["Columns"] if isinstance(item, str)]
    if column is not None:
        return [item for item in columns if item == column]
    found = [item for item in columns if _bare(item) in KINDS[kind].names]
    if not found and KINDS[kind].units is CONDUCTANCE:
        found = [item for item in columns if _unit(sidecar, item) in CONDUCTANCE]
    return found


def describe_recording(
    sidecar: Mapping[str, Any], kind: str, name: str, *, column: str | None = None, slowest: float = 0.0
) -> Description:
    """Return column, unit, frequency and start of a channel from the JSON; the samples are not read.

    Raises
    ------
    DataFault
        The JSON lacks one of these, the unit is none of the kind, or the recording is slower than `slowest`.
    """
    for key in ("SamplingFrequency", "StartTime", "Columns"):
        if key not in sidecar:
            raise DataFault(CODE, f"its JSON has no {key}", fix=COMPLETE, file=name)
    found = find_column(sidecar, kind, column, name)
    frequency, start = (_number(sidecar, key, name) for key in ("SamplingFrequency", "StartTime"))
    if not frequency > 0:
        raise DataFault(CODE, f"its sampling frequency is {frequency:g} Hz", fix=COMPLETE, file=name)
    units, unit = KINDS[kind].units, _unit(sidecar, found)
    if units is not None and unit not in units:
        stated = unit if unit is not None else _stated(sidecar, found)
        reason = f"the unit of {found!r} is {stated!r:.60}, none of {KINDS[kind].quantity}"
        reason += f"; known are {list(units)}"
        fix = "write the unit into the JSON; raw counts or volts need the gain of the amplifier"
        raise DataFault(CODE, reason, fix=fix, file=name)
    if frequency < slowest:
        raise DataFault(
            CODE,
            f"sampled at {frequency:g} Hz, at least {slowest:g} Hz are needed",
            fix="export it at the rate it was recorded with",
            file=name,
        )
    columns = list(sidecar["Columns"])
    scale = units[unit] if units is not None and unit is not None else 1.0
    return Description(found, len(columns), columns.index(found), scale, frequency, start)


def choose_recording(
    paths: Sequence[Path], sidecars: Sequence[Mapping[str, Any]], kind: str, column: str | None
) -> tuple[Path, Mapping[str, Any]]:
    """Return the one recording of a run that has the channel, and what its JSON says.

    Raises
    ------
    DataFault
        None has it (the fault of the first), or several have it.
    """
    found, faults = [], []
    for path, sidecar in zip(paths, sidecars, strict=True):
        try:
            find_column(sidecar, kind, column, path.name)
            found.append((path, sidecar))
        except DataFault as fault:
            faults.append(fault)
    if len(found) > 1:
        names = " and ".join(path.name for path, _ in found)
        fix = "keep one, or choose by filters: {physio: {recording: ...}}"
        raise DataFault("E-BIDS-A05", f"{names} both have the {KINDS[kind].what}", fix=fix)
    if not found:
        raise faults[0] if faults else DataFault(CODE, "the run has no recording", fix="add it")
    return found[0]


def _bare(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _stated(sidecar: Mapping[str, Any], column: str) -> Any:
    described = sidecar.get(column)
    return described.get("Units") if isinstance(described, Mapping) else None


def _unit(sidecar: Mapping[str, Any], column: str) -> str | None:
    """The unit as it is known here; None where it is none or not known in any kind."""
    unit = _stated(sidecar, column)
    if not isinstance(unit, str):
        return None
    unit = unit.strip()
    spelt = {name.lower(): name for name in (*CONDUCTANCE, *VOLTAGE) if len(name) > 2}
    return spelt.get(unit.lower(), unit)


def _number(sidecar: Mapping[str, Any], key: str, name: str) -> float:
    value = sidecar[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        fix = "write a number into the JSON beside the recording"
        raise DataFault(CODE, f"{key} is {value!r}, not a number", fix=fix, file=name)
    return float(value)
