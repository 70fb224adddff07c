"""What the report is made of: results of the study, read from their files into one frozen object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reconfmri.bids import read_json
from reconfmri.config import Study, load_study
from reconfmri.contracts.files import Layout
from reconfmri.decisions import by_hand, keep_decisions
from reconfmri.exclusions import MISSING, Exclusion, read_exclusions
from reconfmri.measures import read_measures
from reconfmri.provenance import software_versions
from reconfmri.step import is_empty
from reconfmri.tables import read_table

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

ESTIMATE_NUMBERS = (
    "estimate", "sd", "df", "lower", "upper", "level", "probability", "rope_probability", "p",
    "p_adjusted", "n_active", "n_control", "r_hat", "ess",
)  # fmt: skip
SENSITIVITY_NUMBERS = ("estimate", "sd", "lower", "upper", "level", "probability", "p", "pareto_k")
MODERATION_NUMBERS = (
    "estimate", "sd", "df", "lower", "upper", "level", "probability", "p", "n_active", "n_control",
)  # fmt: skip
POOLED_NUMBERS = (
    "estimate", "sd", "lower", "upper", "level", "probability", "correlation", "n_outcomes", "n_active",
    "n_control",
)  # fmt: skip
JOINT_NUMBERS = (
    "estimate", "sd", "lower", "upper", "level", "probability", "n_active", "n_control", "r_hat", "ess",
)  # fmt: skip
PREDICTION_NUMBERS = ("observed", "lower", "median", "upper", "p")
RELIABILITY_NUMBERS = (
    "n", "icc_2_1", "icc_2_1_lower", "icc_2_1_upper", "icc_3_1", "icc_3_1_lower", "icc_3_1_upper",
    "sem", "sdc",
)  # fmt: skip
CALIBRATION_NUMBERS = (
    "level", "difference", "n_trials", "coverage", "coverage_error", "bias", "n_null_trials", "type_1_error",
    "type_1_error_error", "n_withheld", "n_labelled",
)  # fmt: skip
GRID_NUMBERS = (
    "delta_active", "delta_control", "estimate", "sd", "df", "lower", "upper", "level", "p",
    "unseen_active", "unseen_control",
)  # fmt: skip
TIPPING_NUMBERS = ("n_unseen", "p", "level", "reach", "delta")
NUMBERS: dict[str, tuple[str, ...]] = {
    "allocation": (),
    "estimates": ESTIMATE_NUMBERS,
    "diagnostics": (),
    "reliability": RELIABILITY_NUMBERS,
    "seen": ("n_seen", "n_randomised"),
    "tipping_grid": GRID_NUMBERS,
    "tipping": TIPPING_NUMBERS,
    "reference_based": ESTIMATE_NUMBERS,
    "calibration": CALIBRATION_NUMBERS,
    "controls": ("estimate", "sd", "df", "p"),
    "draws": ("statistic",),
    "sensitivity": SENSITIVITY_NUMBERS,
    "predictions": PREDICTION_NUMBERS,
    "moderation": MODERATION_NUMBERS,
    "joint": JOINT_NUMBERS,
    "pooled": POOLED_NUMBERS,
}  # the other tables of `GroupTables`, with their columns of numbers
HASHED = {
    "study file": "config",
    "run table": "runs",
    "measures": "measures",
    "exclusions": "exclusions",
    "allocation": "allocation",
    "estimates": "estimates",
    "truth": "truth",
}  # name on the page -> field of `ReportFiles`
RUN_KEYS = ("participant_id", "session_id", "task", "run")


@dataclass(frozen=True)
class Picture:
    """A small picture of one scan, with the scan it shows."""

    participant_id: str
    session_id: str
    task: str
    run: str
    kind: str
    path: Path


@dataclass(frozen=True)
class Processed:
    """How one scan was made; `shift` is the mean distance (mm) that signals were moved back.

    `slice_timing`: whether it was corrected, None where nothing tells; `fmriprep`: the version, if any.
    """

    participant_id: str
    session_id: str
    task: str
    run: str
    slice_timing: bool | None
    distortion: str
    shift: float | None
    fmriprep: str = ""


@dataclass(frozen=True, kw_only=True)
class GroupFiles:
    """Where the tables of the group model lie, and what they were made from."""

    measures: Path
    allocation: Path | None = None
    estimates: Path | None = None
    diagnostics: Path | None = None
    reliability: Path | None = None
    seen: Path | None = None
    tipping_grid: Path | None = None
    tipping: Path | None = None
    reference_based: Path | None = None
    calibration: Path | None = None
    controls: Path | None = None
    draws: Path | None = None
    sensitivity: Path | None = None
    predictions: Path | None = None
    moderation: Path | None = None
    joint: Path | None = None
    pooled: Path | None = None
    left_out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ReportFiles(GroupFiles):
    """Where the report's inputs lie, named as in the rule `build_report`; what a study lacks stays empty."""

    config: Path
    runs: Path
    exclusions: Path
    parity: Path | None = None
    regions: Path | None = None
    region_table: Path | None = None
    outlines: tuple[Path, ...] = ()
    edges: tuple[Path, ...] = ()
    metadata: tuple[Path, ...] = ()
    designs: tuple[Path, ...] = ()
    maps: tuple[Path, ...] = ()
    truth: Path | None = None

    @classmethod
    def of(cls, named: Iterable[tuple[str, Any]]) -> ReportFiles:
        """Return the files of `snakemake.input.items()`; an empty list stands for what the study lacks."""
        several = ("outlines", "edges", "metadata", "designs", "maps")
        given: dict[str, Any] = {}
        for name, value in named:
            paths = [Path(value)] if isinstance(value, str | Path) else [Path(item) for item in value]
            if name in several:
                given[name] = tuple(paths)
            elif paths:
                given[name] = paths[0]
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class GroupTables:
    """What compares the arms. Tables have the columns of their contracts; missing parts are None."""

    measures: pd.DataFrame
    allocation: pd.DataFrame | None = None
    estimates: pd.DataFrame | None = None
    diagnostics: pd.DataFrame | None = None
    reliability: pd.DataFrame | None = None
    seen: pd.DataFrame | None = None
    tipping_grid: pd.DataFrame | None = None
    tipping: pd.DataFrame | None = None
    reference_based: pd.DataFrame | None = None
    calibration: pd.DataFrame | None = None
    controls: pd.DataFrame | None = None
    draws: pd.DataFrame | None = None
    sensitivity: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    moderation: pd.DataFrame | None = None
    joint: pd.DataFrame | None = None
    pooled: pd.DataFrame | None = None
    truth: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ReportInputs(GroupTables):
    """All that the page of a study shows."""

    study: Study
    config_text: str
    runs: pd.DataFrame
    exclusions: list[Exclusion]
    parity: pd.DataFrame | None = None
    regions: SpatialImage | None = None
    region_table: pd.DataFrame | None = None
    design: pd.DataFrame | None = None
    design_run: Mapping[str, str] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    processed: list[Processed] = field(default_factory=list)
    maps: list[Path] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


def gather(files: ReportFiles) -> ReportInputs:
    """Return the report's inputs, read from the files of a finished study.

    Raises
    ------
    ValueError
        A table breaks its contract.
    """
    study = load_study(files.config)
    runs = read_table(files.runs, numeric=("tr", "n_volumes"), required=RUN_KEYS)
    exclusions = read_exclusions(files.exclusions)
    runs = keep_decisions(runs, by_hand(exclusions))
    exclusions += read_exclusions(files.left_out) if files.left_out else []
    design, design_run = _representative_design(files.designs, runs, exclusions)
    return ReportInputs(
        study=study,
        config_text=files.config.read_text(encoding="utf-8-sig"),
        runs=runs,
        exclusions=exclusions,
        parity=read_table(files.parity).fillna(MISSING) if files.parity else None,
        truth=json.loads(files.truth.read_text(encoding="utf-8")) if files.truth else None,
        **_group_tables(files),
        regions=_open(files.regions),
        region_table=read_table(files.region_table) if files.region_table else None,
        design=design,
        design_run=design_run,
        pictures=[
            *_pictures(files.outlines, runs, "outlines"),
            *_pictures(files.edges, runs, "edges"),
        ],
        processed=_processed(files.metadata, runs),
        maps=[path for path in files.maps if "stat-z_" in path.name and path.stat().st_size],
        versions=software_versions(),
        provenance=hashes({name: getattr(files, field) for name, field in HASHED.items()}),
    )


def gather_tables(files: GroupFiles) -> GroupTables:
    """Return what compares the arms, read from the files that `reconfmri group` wrote.

    Raises
    ------
    ValueError
        A table breaks its contract.
    """
    return GroupTables(**_group_tables(files))


def _group_tables(files: GroupFiles) -> dict[str, Any]:
    """Every table that is there, by its field; sessions as text, `n/a` in data without them."""
    tables: dict[str, Any] = {"measures": read_measures(files.measures)}
    for name, numbers in NUMBERS.items():
        path = getattr(files, name)
        if path is not None:
            table = read_table(path, numeric=numbers)
            tables[name] = table.fillna({"session": MISSING}) if "session" in table else table
    if "allocation" in tables:
        tables["allocation"] = _allocation(tables["allocation"])
    return tables


def _open(path: Path | None) -> SpatialImage | None:
    import nibabel

    return nibabel.load(path) if path else None


def _allocation(allocation: pd.DataFrame) -> pd.DataFrame:
    """The allocation with ids as in participants.tsv, whether or not the trial office wrote `sub-`."""
    bare = allocation["participant_id"].str.removeprefix("sub-")
    return allocation.assign(participant_id="sub-" + bare)


def file_of(row: Mapping[Any, Any], runs: pd.DataFrame, rule: str, output: str) -> str:
    """Return the name that the workflow gives a file of one scan: entities that no scan has are left out."""
    layout = Layout(bool(runs["session_id"].notna().any()), bool(runs["run"].notna().any()))
    return Path(layout.path(rule, output, **layout.wildcards(key_of(row)))).name


def key_of(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return the four keys of a scan as text, `n/a` for an entity it lacks."""
    return {name: str(row[name]) if isinstance(row[name], str) else MISSING for name in RUN_KEYS}


def _pictures(paths: tuple[Path, ...], runs: pd.DataFrame, kind: str) -> list[Picture]:
    """The pictures of one kind, in the order of the run table; scans that are out left an empty file."""
    found = {path.name: path for path in paths}
    pictures = []
    for row in runs.to_dict("records"):
        path = found.get(file_of(row, runs, "assess_quality", kind))
        if path is not None and path.stat().st_size:
            pictures.append(Picture(kind=kind, path=path, **key_of(row)))
    return pictures


def _processed(paths: tuple[Path, ...], runs: pd.DataFrame) -> list[Processed]:
    """What the metadata of each preprocessed scan say, in the order of the run table."""
    found = {path.name: path for path in paths if not is_empty(path)}
    rows = []
    for row in runs.to_dict("records"):
        name = file_of(row, runs, "resample_run", "metadata")
        if name in found:
            known = read_json(found[name])
            undone = known.get("DistortionCorrection", {})
            tools = {tool["Name"]: tool.get("Version", "") for tool in known.get("GeneratedBy", ())}
            rows.append(
                Processed(
                    **key_of(row),
                    slice_timing=known.get("SliceTimingCorrected"),
                    distortion=str(undone.get("Method", "none")),
                    shift=undone.get("MeanShift"),
                    fmriprep=tools.get("fMRIPrep", ""),
                )
            )
    return rows


def _representative_design(
    paths: tuple[Path, ...], runs: pd.DataFrame, exclusions: list[Exclusion]
) -> tuple[pd.DataFrame | None, dict[str, str]]:
    """The design of the first scan, in the order of the run table, that was fitted and not excluded."""
    found = {path.name: path for path in paths if path.stat().st_size}
    for row in runs.to_dict("records"):
        path = found.get(file_of(row, runs, "fit_first_level", "design"))
        if path is not None and not any(concerns(item, key_of(row)) for item in exclusions):
            table = read_table(path)
            return table.astype(float), key_of(row) | {"tr": f"{row['tr']:g}"}
    return None, {}


def concerns(exclusion: Exclusion, scan: Mapping[str, str]) -> bool:
    """Whether an exclusion takes this scan out; an entity that the exclusion does not name stands for all."""
    named = {name: getattr(exclusion, name) for name in RUN_KEYS}
    named["session_id"] = named["session_id"].removeprefix("ses-")
    return exclusion.takes_the_run_out and all(
        value in (MISSING, scan[name].removeprefix("ses-") if name == "session_id" else scan[name])
        for name, value in named.items()
    )


def hashes(named: Mapping[str, Path | None]) -> dict[str, str]:
    """Return the SHA-256 of every file that is there, by its name on the page."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items() if path}
