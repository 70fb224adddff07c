"""Which field map of a BIDS dataset is meant for which run, and whether it is complete.

BIDS 1.10: B0FieldSource and B0FieldIdentifier, else IntendedFor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from reconfmri.acquisition import acquisition_of, phase_encoding
from reconfmri.bids import BidsFile, parse_name, read_sidecar
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


@dataclass(frozen=True)
class Fieldmap:
    """A complete field map: its method, and path and metadata of each of its images by their roles.

    Roles are suffixes (`phasediff`, `phase1`, `phase2`, `fieldmap`) and `magnitude`; for `pepolar` `first`
    and `second`, of opposite directions; without a `second` the run itself is the other one.
    """

    method: str
    files: dict[str, str]
    sidecars: dict[str, dict[str, Any]]

    @property
    def params(self) -> dict[str, Any]:
        """What a rule records of it beside the files."""
        return {"method": self.method, "roles": list(self.files), "sidecars": self.sidecars}

    @classmethod
    def from_params(cls, params: Mapping[str, Any] | None, paths: Iterable[str]) -> Fieldmap | None:
        """Return the field map of a rule's `params` and input files."""
        if params is None:
            return None
        return cls(params["method"], dict(zip(params["roles"], paths, strict=True)), params["sidecars"])

    def under(self, root: Path) -> Fieldmap:
        """The same with paths from where `root` lies."""
        return replace(self, files={role: str(root / path) for role, path in self.files.items()})


def fieldmap_of(root: Path, bold: str, sidecar: Mapping[str, Any]) -> Fieldmap | None:
    """Return the field map that is meant for the run at `bold` (path from the root), None without one.

    Raises
    ------
    DataFault
        The field map is incomplete (E-DATA-B26), or the run's own sidecar lacks what it needs (E-DATA-B25).
    """
    known = {file: _metadata(root, file) for file in fieldmap_files(root, bold)}
    meant = [file for file, metadata in known.items() if _is_meant(metadata, bold, sidecar)]
    for method, suffixes in NEEDED.items():
        for file in meant:
            if file.suffix == suffixes[0]:
                found = _with_magnitude(method, suffixes, file, known)
                phase_encoding(sidecar, (64, 64, 64))
                return found
    if any(file.suffix == "epi" for file in meant):
        return _pair({file: known[file] for file in meant if file.suffix == "epi"}, sidecar)
    return None


def fieldmap_files(root: Path, bold: str) -> list[BidsFile]:
    """The images of field maps in the session of a run, by name; `index` tells of malformed names."""
    folder = PurePosixPath(bold).parent.parent / "fmap"
    if not (root / folder).is_dir():
        return []
    names = sorted(path.name for path in (root / folder).iterdir() if not path.name.startswith("."))
    found = []
    for name in names:
        try:
            file = parse_name(str(folder / name))
        except ValueError:
            continue
        if file.ext in IMAGES and file.suffix in SUFFIXES:
            found.append(file)
    return found


def echo_spacing(echoes: list[Any], file: str) -> float:
    """Return the time between two echoes, s.

    Raises
    ------
    DataFault
        A time is absent, or their difference impossible (E-DATA-B26).
    """
    mend = f"write EchoTime1 and EchoTime2 (of phase1 and phase2: EchoTime) in s, {NOT_WANTED}"
    if not all(isinstance(echo, int | float) for echo in echoes):
        raise DataFault("E-DATA-B26", f"the echo times are {echoes}", mend=mend, file=file)
    difference = float(echoes[1] - echoes[0])
    if not 1e-4 < difference < MAX_ECHO_SPACING:
        reason = f"the echoes are {difference:g} s apart, expected 0.0001 to {MAX_ECHO_SPACING:g} s"
        raise DataFault("E-DATA-B26", reason, mend=mend, file=file)
    return difference


def _metadata(root: Path, file: BidsFile) -> dict[str, Any]:
    try:
        return read_sidecar(root, file.path)
    except ValueError as error:
        raise DataFault("E-BIDS-A11", str(error), mend="correct the file", file=file.path) from None


def _is_meant(metadata: Mapping[str, Any], bold: str, sidecar: Mapping[str, Any]) -> bool:
    sources = _listed(sidecar.get("B0FieldSource"))
    if sources:
        return bool(set(sources) & set(_listed(metadata.get("B0FieldIdentifier"))))
    subject = bold.split("/")[0]
    targets = [target.removeprefix("bids::") for target in _listed(metadata.get("IntendedFor"))]
    return bold in targets or bold in [f"{subject}/{target}" for target in targets]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


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
    if method == "phases":
        echo_spacing([sidecars[suffix].get("EchoTime") for suffix in suffixes], file.path)
    return Fieldmap(method, {role: image.path for role, image in present.items()}, sidecars)


def _pair(images: Mapping[BidsFile, dict[str, Any]], sidecar: Mapping[str, Any]) -> Fieldmap:
    """Two EPIs of opposite direction; a single one is paired with the run itself."""
    by_direction: dict[str, BidsFile] = {}
    for file, metadata in images.items():
        try:
            direction = phase_encoding(metadata, (64, 64, 64)).direction
        except DataFault as fault:
            raise DataFault(fault.code, fault.reason, mend=fault.mend, file=file.path) from None
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
    mend = f"complete the field map, {NOT_WANTED}"
    return DataFault("E-DATA-B26", f"the field map is incomplete: {what}", mend=mend, file=file.path)
