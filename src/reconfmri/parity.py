"""Were a person's sessions scanned and processed alike? Protocol, fieldmap, reference, transforms, confounds.

Everything here is blind to the arms: sidecars, headers, run table and what the engine wrote about each run.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from reconfmri.bids import read_json
from reconfmri.exclusions import UNIT
from reconfmri.headers import Header, read_header

MISSING = "n/a"
DESCRIPTIONS = {
    "participant_id": "Participant, as in participants.tsv",
    "session_id": "Session label without `ses-`; n/a in data without sessions",
    "task": "BIDS task label",
    "run": "BIDS run label; n/a when there is none",
    "item": "What is compared over the person's runs of this task",
    "value": "Value in this run; n/a when the data do not tell, or the run is out",
    "reference": "The value that most of the person's runs of this task have, the earliest where two are as "
    "frequent",
    "deviation": "How the value differs from the reference; n/a where it does not",
}
NOT_STATED = "not stated in this run"
# Columns of single volumes: whether a run has any differs by nature.
SPIKES = ("motion_outlier", "non_steady_state_outlier", "damaged_volume")
NUMBERED = re.compile(r"(_|cosine|outlier|volume)\d+$")
# Sidecar keys that describe the protocol and nobody's identity.
PROTOCOL = {
    "phase encoding": "PhaseEncodingDirection",
    "phase encoding axis": "PhaseEncodingAxis",
    "echo time": "EchoTime",
    "flip angle": "FlipAngle",
    "coil": "ReceiveCoilName",
    "scanner": "ManufacturersModelName",
    "scanner software": "SoftwareVersions",
}


@dataclass(frozen=True)
class RunFacts:
    """What is known of one run: its row of the run table, header, sidecar, and what the engine wrote."""

    row: Mapping[str, Any]
    header: Header | None
    sidecar: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    @property
    def unit(self) -> dict[str, str]:
        """The four entities."""
        return {name: str(self.row[name]) for name in UNIT}

    @property
    def is_out(self) -> bool:
        """Whether no engine wrote about the run, because it is excluded."""
        return not self.metadata


def protocol_of(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a run's sidecars that is compared."""
    return {key: sidecar[key] for key in PROTOCOL.values() if key in sidecar}


def gather_facts(
    runs: pd.DataFrame,
    root: Path,
    metadata: Mapping[str, Path],
    confounds: Mapping[str, Path],
    protocols: Mapping[str, Mapping[str, Any]],
) -> list[RunFacts]:
    """Return the facts of every run of the run table.

    `metadata`, `confounds` and `protocols` (as of `protocol_of`) go by the run's `bold`. Headers that cannot
    be read, and the empty files of an excluded run, tell nothing.
    """
    found = []
    for row in runs.to_dict("records"):
        path = str(row["bold"])
        header = _or_nothing(read_header, root / path, nothing=None)
        made = _or_nothing(read_json, metadata[path], nothing={})
        with confounds[path].open(encoding="utf-8") as stream:
            columns = tuple(stream.readline().split())
        found.append(
            RunFacts({str(key): value for key, value in row.items()}, header, protocols[path], made, columns)
        )
    return found


def audit(facts: list[RunFacts]) -> pd.DataFrame:
    """Return one row per run and item: value, the person's reference value, deviation.

    The rows are in the order of `facts`, that of the visits; of values that are as frequent the first is the
    reference. Runs of one person and task are compared over sessions; the number of volumes among runs of
    one label. An item of which the data of a person say nothing has no rows; one that they tell of other runs
    only is a deviation too, unless the run is out, so that no engine wrote about it.
    """
    groups: dict[tuple[str, ...], list[RunFacts]] = defaultdict(list)
    for run in facts:
        for item in ITEMS:
            label = run.unit["run"] if item == "volumes" else ""
            groups[run.unit["participant_id"], run.unit["task"], item, label].append(run)
    rows = []
    for (_, _, item, _), runs in groups.items():
        values = [ITEMS[item](run) for run in runs]
        known = [value for value in values if value != MISSING]
        if not known:
            continue
        usual = Counter(known).most_common(1)[0][0]  # the first one met where two are as frequent
        for run, value in zip(runs, values, strict=True):
            way = MISSING if run.is_out and value == MISSING else _deviation(value, usual)
            rows.append(run.unit | {"item": item, "value": value, "reference": usual, "deviation": way})
    place = {tuple(run.unit.values()): number for number, run in enumerate(facts)}
    rows.sort(key=lambda row: place[tuple(row[key] for key in facts[0].unit)])
    return pd.DataFrame(rows, columns=list(DESCRIPTIONS))


def not_compared(table: pd.DataFrame) -> list[str]:
    """Return the items of which no run of the study tells anything."""
    return [item for item in ITEMS if item not in set(table["item"])]


def _deviation(value: str, usual: str) -> str:
    """What differs, in words: members of a list one by one, numbers by their difference."""
    if value == usual:
        return MISSING
    if value == MISSING:
        return NOT_STATED
    if "; " in value or "; " in usual:
        here, there = ([part for part in text.split("; ") if part] for text in (value, usual))
        lacks = [f"lacks {part}" for part in there if part not in here]
        return ", ".join(lacks + [f"has {part}" for part in here if part not in there]) or "another order"
    try:
        return f"{float(value) - float(usual):+g}"
    except ValueError:
        return f"{value}, not {usual}"


def _or_nothing(read: Callable[..., Any], *of: Any, nothing: Any) -> Any:
    try:
        return read(*of)
    except ValueError:
        return nothing


def _voxel_size(run: RunFacts) -> str:
    return MISSING if run.header is None else " x ".join(f"{size:.2f}" for size in run.header.voxel_mm)


def _matrix(run: RunFacts) -> str:
    return MISSING if run.header is None else " x ".join(map(str, run.header.shape[:3]))


def _text(value: Any) -> str:
    """A value of a sidecar as one line; absent or empty = n/a."""
    if value in (None, "", [], {}):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(part)}" for key, part in value.items())
    parts = [_text(part) for part in value] if isinstance(value, list) else [str(value)]
    return " ".join("; ".join(parts).split())


def _of_sidecar(key: str) -> Callable[[RunFacts], str]:
    return lambda run: _text(run.sidecar.get(key))


def _without_own_labels(run: RunFacts, text: str) -> str:
    """File names without this run's own labels, so that those of another session still stand out."""
    for key, name in (("ses", "session_id"), ("run", "run")):
        text = re.sub(rf"\b{key}-{re.escape(run.unit[name])}(?![a-zA-Z0-9+])", f"{key}-*", text)
    return text


def _reference(run: RunFacts) -> str:
    """The anatomy that the run was placed in: named by the engine, else the T1w to which its maps lead."""
    maps = run.metadata.get("Transforms") or {}
    return _text(run.metadata.get("AnatomicalReference") or maps.get("template_to_t1w"))


def _transforms(run: RunFacts) -> str:
    """The steps from raw run to template, in their order, then how they were applied."""
    if not run.metadata:
        return MISSING
    steps = [str(step) for step in run.metadata.get("Transforms") or {}]
    applied = [_text(run.metadata.get(key)) for key in ("Interpolation", "Resolution")]
    return "; ".join(part for part in [*steps, *applied] if part != MISSING) or MISSING


def _confound_groups(run: RunFacts) -> str:
    """Families of columns, numbered ones under one name: how many there are differs by nature."""
    families = dict.fromkeys(NUMBERED.sub(r"\1", name).rstrip("_") for name in run.columns)
    return "; ".join(name for name in families if name not in SPIKES) or MISSING


ITEMS: dict[str, Callable[[RunFacts], str]] = {
    "repetition time": lambda run: f"{float(run.row['tr']):.3f}",
    "volumes": lambda run: str(run.row["n_volumes"]),
    "voxel size": _voxel_size,
    "matrix": _matrix,
    **{item: _of_sidecar(key) for item, key in PROTOCOL.items()},
    "fieldmap": lambda run: _without_own_labels(run, _text(run.metadata.get("DistortionCorrection"))),
    "slice timing": lambda run: _text(run.metadata.get("SliceTimingCorrected")),
    "anatomical reference": _reference,
    "transforms": _transforms,
    "confounds": _confound_groups,
}
