"""Which field map of a BIDS dataset is meant for which run, and whether it is complete.

BIDS 1.10: B0FieldSource and B0FieldIdentifier, else IntendedFor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from reconfmri.acquisition import acquisition_of, has_readout, phase_encoding
from reconfmri.bids import BidsFile, ignored_by, parsed, read_sidecar
from reconfmri.exclusions import DataFault

IMAGES = (".nii", ".nii.gz")
KEYS = ("EchoTime", "EchoTime1", "EchoTime2", "Units")
# Method -> the suffixes it needs beside a magnitude, in the order of preference.
NEEDED = {"phasediff": ("phasediff",), "phases": ("phase1", "phase2"), "fieldmap": ("fieldmap",)}
PAIR = "pepolar"
# B1 maps and others lie in `fmap` too.
SUFFIXES = ("phasediff", "phase1", "phase2", "fieldmap", "magnitude", "magnitude1", "magnitude2", "epi")
NOT_WANTED = "or set `preprocessing.distortion: none`"
MAX_ECHO_SPACING = 0.05  # s
HERTZ = {"Hz": 1.0, "rad/s": 1 / (2 * math.pi), "T": 42.577e6, "Tesla": 42.577e6}  # per unit of a field
# Two EPIs of opposite directions that were read out alike show how far signals moved whatever the time was.
ANY_READOUT = 0.05  # s
Filter = Mapping[str, str | list[str] | None]


@dataclass(frozen=True)
class Fieldmap:
    """A complete field map: its method, and path and metadata of each of its images by their roles.

    Roles are suffixes (`phasediff`, `phase1`, `phase2`, `fieldmap`) and `magnitude`; for `pepolar` `first`
    and `second`, of opposite directions; without a `second` the run itself is the other one. `readout_time`
    (s) stands in for a run whose own sidecar has none.
    """

    method: str
    files: dict[str, str]
    sidecars: dict[str, dict[str, Any]]
    readout_time: float | None = None

    @property
    def params(self) -> dict[str, Any]:
        """What a rule records of it beside the files."""
        return {
            "method": self.method,
            "roles": list(self.files),
            "sidecars": self.sidecars,
            "readout_time": self.readout_time,
        }

    @classmethod
    def from_params(cls, params: Mapping[str, Any] | None, paths: Iterable[str]) -> Fieldmap | None:
        """Return the field map of a rule's `params` and input files."""
        if params is None:
            return None
        files = dict(zip(params["roles"], paths, strict=True))
        return cls(params["method"], files, params["sidecars"], params.get("readout_time"))

    def completed(self, sidecar: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the sidecar of the run with a readout time."""
        return _with_readout(sidecar or {}, self.readout_time)

    def under(self, root: Path) -> Fieldmap:
        """The same with paths from where `root` lies."""
        return replace(self, files={role: str(root / path) for role, path in self.files.items()})


def fieldmap_of(
    root: Path,
    bold: str,
    sidecar: Mapping[str, Any],
    *,
    wanted: Filter | None = None,
    readout_time: float | None = None,
) -> Fieldmap | None:
    """Return the field map that is meant for the run at `bold` (path from the root), None without one.

    `wanted` is the study's filter of field maps; `readout_time` (s) stands in where sidecars have none.

    Raises
    ------
    DataFault
        The field map is incomplete (E-DATA-B26), or the run's own sidecar lacks what it needs (E-DATA-B25).
    """
    known = _described(root, bold, wanted)
    meant = [file for file, metadata in known.items() if _is_meant(metadata, bold, sidecar)]
    for method, suffixes in NEEDED.items():
        for file in meant:
            if file.suffix == suffixes[0]:
                found = _with_magnitude(method, suffixes, file, known)
                phase_encoding(_with_readout(sidecar, readout_time), (64, 64, 64))
                return replace(found, readout_time=readout_time)
    epis = {file: known[file] for file in meant if file.suffix == "epi"}
    if not epis:
        return None
    if not any(map(has_readout, [sidecar, *epis.values()])):
        readout_time = readout_time or ANY_READOUT
    completed = {file: _with_readout(metadata, readout_time) for file, metadata in epis.items()}
    return replace(_pair(completed, _with_readout(sidecar, readout_time)), readout_time=readout_time)


def fieldmap_files(root: Path, bold: str, wanted: Filter | None = None) -> list[BidsFile]:
    """The images of field maps in the session of a run, by name; `index` names malformed ones."""
    folder = PurePosixPath(bold).parent.parent / "fmap"
    if not (root / folder).is_dir():
        return []
    names = sorted(path.name for path in (root / folder).iterdir() if not path.name.startswith("."))
    ignored = ignored_by(root)
    found = (parsed(str(folder / name)) for name in names if not ignored(str(folder / name)))
    return [
        file
        for file in found
        if file and file.ext in IMAGES and file.suffix in SUFFIXES and file.meets(wanted or {})
    ]


def intentions(root: Path, bold: str, wanted: Filter | None = None) -> str:
    """Return what the field maps beside a run say whom they are meant for, as they say it."""
    said = []
    for file, metadata in _described(root, bold, wanted).items():
        given = {key: metadata[key] for key in ("IntendedFor", "B0FieldIdentifier") if metadata.get(key)}
        said += [f"{PurePosixPath(file.path).name} has {key} {_quoted(given[key])}" for key in given]
    more = f" and {len(said) - 2} more" if len(said) > 2 else ""
    return ("; ".join(said[:2]) + more) or "their sidecars have neither IntendedFor nor B0FieldIdentifier"


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:159]}…"


def _described(root: Path, bold: str, wanted: Filter | None) -> dict[BidsFile, dict[str, Any]]:
    return {file: read_sidecar(root, file.path) for file in fieldmap_files(root, bold, wanted)}


def _with_readout(sidecar: Mapping[str, Any], readout_time: float | None) -> dict[str, Any]:
    if readout_time is None or has_readout(sidecar):
        return dict(sidecar)
    return {**sidecar, "TotalReadoutTime": readout_time}


def echo_spacing(echoes: list[Any], file: str) -> float:
    """Return the time between two echoes, s.

    Raises
    ------
    DataFault
        A time is absent, or their difference impossible (E-DATA-B26).
    """
    fix = f"write EchoTime1 and EchoTime2 (of phase1 and phase2: EchoTime) in s, {NOT_WANTED}"
    if not all(isinstance(echo, int | float) and not isinstance(echo, bool) for echo in echoes):
        raise DataFault("E-DATA-B26", f"the echo times are {_quoted(echoes)}", fix=fix, file=file)
    difference = float(echoes[1] - echoes[0])
    if not 1e-4 < difference < MAX_ECHO_SPACING:
        reason = f"the echoes are {difference:g} s apart, expected 0.0001 to {MAX_ECHO_SPACING:g} s"
        raise DataFault("E-DATA-B26", reason, fix=fix, file=file)
    return difference


def _is_meant(metadata: Mapping[str, Any], bold: str, sidecar: Mapping[str, Any]) -> bool:
    sources, own = _listed(sidecar.get("B0FieldSource")), _listed(metadata.get("B0FieldIdentifier"))
    if sources and own:
        return bool(set(sources) & set(own))
    return any(_names(target, bold) for target in _listed(metadata.get("IntendedFor")))


def _names(target: str, bold: str) -> bool:
    """Whether one entry of IntendedFor stands for the run at `bold`.

    BIDS has a path from the subject's folder, or a URI: `bids::` and `bids:<dataset>:` with a path from the
    root. Written are also paths from the root, the session or nowhere, `/` or `./` before them, `.nii` for
    `.nii.gz` and `run-1` for `run-01`: the file's name says whose it is, and the folders must not contradict.
    """
    path = target.rpartition(":")[2] if target.startswith("bids:") else target
    *folders, name = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")] or [""]
    there, file = PurePosixPath(bold), parsed(name)
    own = parsed(there.name)
    if file is None or own is None or (file.identity, file.suffix) != (own.identity, own.suffix):
        return False
    return list(there.parent.parts[len(there.parent.parts) - len(folders) :]) == folders


def _listed(value: Any) -> list[str]:
    entries = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, str)]


def _with_magnitude(
    method: str, suffixes: tuple[str, ...], file: BidsFile, known: Mapping[BidsFile, dict[str, Any]]
) -> Fieldmap:
    """The images of the same entities as `file`; `fieldmap` has one magnitude, phases have two or one."""
    beside = {other.suffix: other for other in known if other.entities == file.entities}
    chosen = {suffix: beside.get(suffix) for suffix in suffixes}
    chosen["magnitude"] = beside.get("magnitude") or beside.get("magnitude1")
    absent = [role for role, image in chosen.items() if image is None]
    if absent:
        raise _incomplete(file, f"it has no {' and no '.join(absent)} image of the same name beside it")
    present = {role: image for role, image in chosen.items() if image is not None}
    sidecars = {role: {k: known[i][k] for k in KEYS if k in known[i]} for role, i in present.items()}
    if method == "phasediff":
        given = sidecars["phasediff"]
        echo_spacing([given.get("EchoTime1"), given.get("EchoTime2")], file.path)
    if method == "fieldmap":
        field_unit(sidecars["fieldmap"], file.path)
    if method == "phases":
        echo_spacing([sidecars[suffix].get("EchoTime") for suffix in suffixes], file.path)
    return Fieldmap(method, {role: image.path for role, image in present.items()}, sidecars)


def field_unit(sidecar: Mapping[str, Any], file: str) -> float:
    """Return Hz per unit of a field map that is a field.

    Raises
    ------
    DataFault
        Units is absent or none that is known (E-DATA-B26).
    """
    unit = sidecar.get("Units")
    if not isinstance(unit, str) or unit not in HERTZ:
        reason = f"Units is {_quoted(unit)}, expected one of {list(HERTZ)}"
        raise DataFault("E-DATA-B26", reason, fix="write Units into the sidecar", file=file)
    return HERTZ[unit]


def _pair(images: Mapping[BidsFile, dict[str, Any]], sidecar: Mapping[str, Any]) -> Fieldmap:
    """Two EPIs of opposite direction; a single one is paired with the run itself."""
    by_direction: dict[str, BidsFile] = {}
    for file, metadata in images.items():
        try:
            direction = phase_encoding(metadata, (64, 64, 64)).direction
        except DataFault as fault:
            raise DataFault(fault.code, fault.reason, fix=fault.fix, file=file.path) from None
        by_direction.setdefault(direction, file)
    own = phase_encoding(sidecar, (64, 64, 64)).direction
    for direction in (own, *sorted(by_direction)):
        opposite = _opposite(direction)
        if direction in by_direction and opposite in by_direction:
            both = {"first": by_direction[direction], "second": by_direction[opposite]}
            break
    else:
        if _opposite(own) not in by_direction:
            file = next(iter(images))
            raise _incomplete(
                file, f"no image has the direction opposite to {own!r}, got {sorted(by_direction)}"
            )
        both = {"first": by_direction[_opposite(own)]}
    return Fieldmap(
        PAIR,
        {role: file.path for role, file in both.items()},
        {role: acquisition_of(images[file]) for role, file in both.items()},
    )


def _opposite(direction: str) -> str:
    return direction[0] if direction.endswith("-") else f"{direction}-"


def _incomplete(file: BidsFile, what: str) -> DataFault:
    fix = f"complete the field map, {NOT_WANTED}"
    return DataFault("E-DATA-B26", f"the field map is incomplete: {what}", fix=fix, file=file.path)
