"""What the report is made of: results of the study, read from their files into one frozen object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reconfmri.bids import bids_path, read_json
from reconfmri.config import Study, load_study
from reconfmri.exclusions import MISSING, Exclusion, read_exclusions
from reconfmri.provenance import software_versions
from reconfmri.tables import read_table

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

MEASURE_NUMBERS = ("value", "se", "coverage", "n_runs")
ESTIMATE_NUMBERS = (
    "estimate", "sd", "df", "lower", "upper", "level", "probability", "rope_probability", "p",
    "p_adjusted", "n_active", "n_control", "r_hat", "ess",
)  # fmt: skip
SENSITIVITY_NUMBERS = ("estimate", "sd", "lower", "upper", "level", "probability", "p", "pareto_k")
MODERATION_NUMBERS = ("estimate", "sd", "df", "lower", "upper", "level", "p", "n_active", "n_control")
JOINT_NUMBERS = (
    "estimate", "sd", "lower", "upper", "level", "probability", "n_active", "n_control", "r_hat", "ess",
)  # fmt: skip
PREDICTION_NUMBERS = ("observed", "lower", "median", "upper", "p")
RELIABILITY_NUMBERS = (
    "n", "icc_2_1", "icc_2_1_lower", "icc_2_1_upper", "icc_3_1", "icc_3_1_lower", "icc_3_1_upper",
    "sem", "sdc",
)  # fmt: skip
GRID_NUMBERS = (
    "delta_active", "delta_control", "estimate", "sd", "df", "lower", "upper", "level", "p",
    "unseen_active", "unseen_control",
)  # fmt: skip
TIPPING_NUMBERS = ("n_unseen", "p", "level", "reach", "delta")
TARGET_SPACE = "MNI152NLin2009cAsym"
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


@dataclass(frozen=True)
class ReportFiles:
    """Where the report's inputs lie, named as in the rule `build_report`; what a study lacks stays empty."""

    config: Path
    runs: Path
    measures: Path
    exclusions: Path
    parity: Path | None = None
    regions: Path | None = None
    region_table: Path | None = None
    outlines: tuple[Path, ...] = ()
    edges: tuple[Path, ...] = ()
    metadata: tuple[Path, ...] = ()
    designs: tuple[Path, ...] = ()
    maps: tuple[Path, ...] = ()
    allocation: Path | None = None
    estimates: Path | None = None
    diagnostics: Path | None = None
    reliability: Path | None = None
    seen: Path | None = None
    tipping_grid: Path | None = None
    tipping: Path | None = None
    controls: Path | None = None
    draws: Path | None = None
    sensitivity: Path | None = None
    predictions: Path | None = None
    moderation: Path | None = None
    joint: Path | None = None
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


@dataclass(frozen=True)
class ReportInputs:
    """All that the page shows. Tables have the columns of their contracts; missing parts are None."""

    study: Study
    config_text: str
    runs: pd.DataFrame
    measures: pd.DataFrame
    exclusions: list[Exclusion]
    parity: pd.DataFrame | None = None
    allocation: pd.DataFrame | None = None
    estimates: pd.DataFrame | None = None
    diagnostics: pd.DataFrame | None = None
    reliability: pd.DataFrame | None = None
    seen: pd.DataFrame | None = None
    tipping_grid: pd.DataFrame | None = None
    tipping: pd.DataFrame | None = None
    controls: pd.DataFrame | None = None
    draws: pd.DataFrame | None = None
    sensitivity: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    moderation: pd.DataFrame | None = None
    joint: pd.DataFrame | None = None
    truth: Mapping[str, Any] | None = None
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
    design, design_run = _representative_design(files.designs, runs, exclusions)
    return ReportInputs(
        study=study,
        config_text=files.config.read_text(encoding="utf-8-sig"),
        runs=runs,
        measures=read_table(files.measures, numeric=MEASURE_NUMBERS, required=("participant_id", "outcome")),
        exclusions=exclusions,
        parity=read_table(files.parity).fillna(MISSING) if files.parity else None,
        allocation=_allocation(files.allocation) if files.allocation else None,
        estimates=read_table(files.estimates, numeric=ESTIMATE_NUMBERS) if files.estimates else None,
        diagnostics=read_table(files.diagnostics) if files.diagnostics else None,
        reliability=read_table(files.reliability, numeric=RELIABILITY_NUMBERS) if files.reliability else None,
        seen=read_table(files.seen) if files.seen else None,
        tipping_grid=read_table(files.tipping_grid, numeric=GRID_NUMBERS) if files.tipping_grid else None,
        tipping=read_table(files.tipping, numeric=TIPPING_NUMBERS) if files.tipping else None,
        controls=read_table(files.controls, numeric=("estimate", "sd", "df", "p"))
        if files.controls
        else None,
        draws=read_table(files.draws, numeric=("statistic",)) if files.draws else None,
        sensitivity=read_table(files.sensitivity, numeric=SENSITIVITY_NUMBERS) if files.sensitivity else None,
        predictions=read_table(files.predictions, numeric=PREDICTION_NUMBERS) if files.predictions else None,
        moderation=read_table(files.moderation, numeric=MODERATION_NUMBERS) if files.moderation else None,
        joint=read_table(files.joint, numeric=JOINT_NUMBERS) if files.joint else None,
        truth=json.loads(files.truth.read_text(encoding="utf-8")) if files.truth else None,
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
        provenance=_hashes(files),
    )


def _open(path: Path | None) -> SpatialImage | None:
    import nibabel

    return nibabel.load(path) if path else None


def _allocation(path: Path) -> pd.DataFrame:
    """The allocation with ids as in participants.tsv, whether or not the trial office wrote `sub-`."""
    allocation = read_table(path, required=("participant_id", "arm"))
    bare = allocation["participant_id"].str.removeprefix("sub-")
    return allocation.assign(participant_id="sub-" + bare)


def scan_name(
    row: Mapping[Any, Any],
    runs: pd.DataFrame,
    *,
    desc: str | None,
    suffix: str,
    ext: str,
    space: str | None = None,
) -> str:
    """Return the name that the workflow gives a file of one scan: entities that no scan has are left out."""
    has = {column: bool(runs[column].notna().any()) for column in ("session_id", "run")}
    run = row["run"] if row["run"] is not None and row["run"] == row["run"] else "1"
    path = bids_path(
        "", datatype="func", suffix=suffix, ext=ext, sub=str(row["participant_id"]).removeprefix("sub-"),
        ses=str(row["session_id"]) if has["session_id"] else None, task=str(row["task"]),
        run=str(run) if has["run"] else None, space=space, desc=desc,
    )  # fmt: skip
    return Path(path).name


def key_of(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return the four keys of a scan as text, `n/a` for an entity it lacks."""
    return {name: str(row[name]) if isinstance(row[name], str) else MISSING for name in RUN_KEYS}


def _pictures(paths: tuple[Path, ...], runs: pd.DataFrame, kind: str) -> list[Picture]:
    """The pictures of one kind, in the order of the run table; scans that are out left an empty file."""
    found = {path.name: path for path in paths}
    pictures = []
    for row in runs.to_dict("records"):
        path = found.get(scan_name(row, runs, desc=kind, suffix="bold", ext=".png"))
        if path is not None and path.stat().st_size:
            pictures.append(Picture(kind=kind, path=path, **key_of(row)))
    return pictures


def _processed(paths: tuple[Path, ...], runs: pd.DataFrame) -> list[Processed]:
    """What the metadata of each preprocessed scan say, in the order of the run table."""
    found = {path.name: path for path in paths if path.stat().st_size}
    rows = []
    for row in runs.to_dict("records"):
        name = scan_name(row, runs, desc="preproc", suffix="bold", ext=".json", space=TARGET_SPACE)
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
        path = found.get(scan_name(row, runs, desc=None, suffix="design", ext=".tsv"))
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


def _hashes(files: ReportFiles) -> dict[str, str]:
    named = {
        "study file": files.config,
        "run table": files.runs,
        "measures": files.measures,
        "exclusions": files.exclusions,
        "allocation": files.allocation,
        "estimates": files.estimates,
        "truth": files.truth,
    }
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items() if path}
