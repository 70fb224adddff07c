"""What the report is made of: results of the study, read from their files into one frozen object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from reconfmri.bids import read_json
from reconfmri.config import Study, load_study
from reconfmri.contracts import questions
from reconfmri.contracts.files import Layout
from reconfmri.decisions import by_hand, keep_decisions
from reconfmri.exclusions import MISSING, UNIT, Exclusion, read_exclusions
from reconfmri.measures import read_measures
from reconfmri.provenance import software_versions
from reconfmri.signal.single_scripts import SCRIPTS
from reconfmri.step import is_empty
from reconfmri.tables import read_table
from reconfmri.trial.codes import as_seen, by_code, is_coded
from reconfmri.trial.flow import Key, Records, count_flow, units_of_images
from reconfmri.trial.lock import Stamp, stamp_of

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

HASHED = {
    "study file": "config",
    "run table": "runs",
    "measures": "measures",
    "exclusions": "exclusions",
    "allocation": "allocation",
    "truth": "truth",
}  # name on the page -> field of `ReportFiles`


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
class ReportFiles:
    """Where the report's inputs lie, named as in the rule `build_report`; what a study lacks stays empty.

    `tables`: those of the group questions, called as in the registry.
    """

    config: Path
    runs: Path
    measures: Path
    exclusions: Path
    allocation: Path | None = None
    codes: Path | None = None
    participants: Path | None = None
    record: Path | None = None
    parity: Path | None = None
    regions: Path | None = None
    region_table: Path | None = None
    outlines: tuple[Path, ...] = ()
    edges: tuple[Path, ...] = ()
    metadata: tuple[Path, ...] = ()
    designs: tuple[Path, ...] = ()
    scripts: tuple[Path, ...] = ()
    maps: tuple[Path, ...] = ()
    voxel_images: tuple[Path, ...] = ()
    tables: tuple[Path, ...] = ()
    truth: Path | None = None

    @classmethod
    def of(cls, named: Iterable[tuple[str, Any]]) -> ReportFiles:
        """Return the files of `snakemake.input.items()`; an empty list stands for what the study lacks."""
        several = ("outlines", "edges", "metadata", "designs", "scripts", "maps", "voxel_images", "tables")
        given: dict[str, Any] = {}
        for name, value in named:
            paths = [Path(value)] if isinstance(value, str | Path) else [Path(item) for item in value]
            if name in several:
                given[name] = tuple(paths)
            elif paths:
                given[name] = paths[0]
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What compares the arms: measures, arms, and the tables of the group questions by their names.

    `truth` is what a simulated trial planted.
    """

    measures: pd.DataFrame
    allocation: pd.DataFrame | None = None
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    truth: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ReportInputs(Compared):
    """All that the page of a study shows.

    `runs` are without what people took out by hand, `indexed` is the run table as it was written; `screened`
    and `images` are everybody, and the functional images, that the dataset or the allocation names.
    """

    study: Study
    config_text: str
    runs: pd.DataFrame
    exclusions: list[Exclusion]
    parity: pd.DataFrame | None = None
    regions: SpatialImage | None = None
    region_table: pd.DataFrame | None = None
    design: pd.DataFrame | None = None
    design_run: Mapping[str, str] = field(default_factory=dict)
    scripts: pd.DataFrame | None = None
    pictures: list[Picture] = field(default_factory=list)
    processed: list[Processed] = field(default_factory=list)
    maps: list[tuple[str, Path]] = field(default_factory=list)  # with the name that the page gives it
    voxel_images: list[Path] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    stamp: Stamp = field(default_factory=Stamp)
    indexed: pd.DataFrame | None = None
    table_hashes: Mapping[str, str] = field(default_factory=dict)  # sha256 of `tables`, by their names
    screened: tuple[str, ...] = ()
    images: frozenset[Key] | None = None

    @cached_property
    def flow(self) -> pd.DataFrame:
        """The flow of participants and scans, a table of `trial.flow.FLOW`."""
        return count_flow(
            Records(
                study=self.study,
                runs=self.runs if self.indexed is None else self.indexed,
                exclusions=self.exclusions,
                measures=self.measures,
                allocation=self.allocation,
                screened=self.screened,
                images=self.images,
            )
        )


def gather(files: ReportFiles) -> ReportInputs:
    """Return the report's inputs, read from the files of a finished study.

    Raises
    ------
    ValueError
        A table breaks its contract.
    """
    written, folder = load_study(files.config), files.config.resolve().parent.parent
    study = as_seen(written, folder)
    indexed = read_table(files.runs, numeric=("tr", "n_volumes"), required=UNIT)
    exclusions = read_exclusions(files.exclusions)
    runs = keep_decisions(indexed, by_hand(exclusions))
    tables = {path.stem: path for path in files.tables}
    for name in ("exclusions", "voxel_exclusions"):
        left_out = tables.pop(name, None)
        exclusions += read_exclusions(left_out) if left_out else []
    design, design_run = _representative_design(files.designs, runs, exclusions)
    return ReportInputs(
        study=study,
        config_text=_text_of(study, files.config),
        stamp=stamp_of(folder, written),
        runs=runs,
        indexed=indexed,
        screened=_screened(files),
        images=_images(files.record, study),
        exclusions=exclusions,
        parity=read_table(files.parity).fillna(MISSING) if files.parity else None,
        truth=None if files.truth is None or is_coded(study.group) else _planted(files.truth),
        measures=read_measures(files.measures),
        allocation=read_arms(files.allocation, files.codes) if files.allocation else None,
        tables=read_tables(tables),
        table_hashes=hashes(tables),
        regions=_open(files.regions),
        region_table=read_table(files.region_table) if files.region_table else None,
        design=design,
        design_run=design_run,
        scripts=_scripts(files.scripts, runs, exclusions, study),
        pictures=[
            *_pictures(files.outlines, runs, "outlines"),
            *_pictures(files.edges, runs, "edges"),
        ],
        processed=_processed(files.metadata, runs),
        maps=[(path.name, path) for path in files.maps if "stat-z_" in path.name and not is_empty(path)],
        voxel_images=list(files.voxel_images),
        versions=software_versions(),
        provenance=hashes(
            {name: getattr(files, field) for name, field in HASHED.items()}
            | {"estimates": tables.get("estimates")}
        ),
    )


def read_tables(files: Mapping[str, Path]) -> dict[str, pd.DataFrame]:
    """Return the tables of group questions, by their names; sessions are `n/a` in data without them.

    Raises
    ------
    ValueError
        A table is unknown or breaks its contract.
    """
    known = questions.specs()
    if unknown := [name for name in files if name not in known]:
        raise ValueError(f"no group question makes {unknown}; they make {list(known)}")
    found = {name: known[name].read(path) for name, path in files.items()}
    return {
        name: table.fillna({"session": MISSING}) if "session" in table else table
        for name, table in found.items()
    }


def _screened(files: ReportFiles) -> tuple[str, ...]:
    """Everybody in participants.tsv and in the allocation, with an arm or without."""
    tables = [
        read_table(path, required=["participant_id"])
        for path in (files.participants, files.allocation)
        if path
    ]
    named = (str(cell) for table in tables for cell in table["participant_id"].dropna())
    return tuple(dict.fromkeys("sub-" + person.removeprefix("sub-") for person in named))


def _images(record: Path | None, study: Study) -> frozenset[Key] | None:
    """The functional images of the dataset, as the index listed them; None where it listed nothing."""
    listed = read_json(record).get("files") if record else None
    return frozenset(units_of_images(listed, study)) if listed else None


def _open(path: Path | None) -> SpatialImage | None:
    import nibabel

    return nibabel.load(path) if path else None


def read_arms(path: Path, codes: Path | None = None) -> pd.DataFrame:
    """Return the allocation with ids as in participants.tsv, whether or not the trial office wrote `sub-`.

    With `codes` the arms are A and B.
    """
    allocation = read_table(path)
    bare = allocation["participant_id"].str.removeprefix("sub-")
    named = allocation.assign(participant_id="sub-" + bare)
    return by_code(named[named["arm"].notna()], codes) if codes else named


def _text_of(study: Study, path: Path) -> str:
    """The study file as it was written; while the arms have codes, its settings without their names."""
    if not is_coded(study.group):
        return path.read_text(encoding="utf-8-sig")
    return str(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _planted(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def file_of(row: Mapping[Any, Any], runs: pd.DataFrame, rule: str, output: str) -> str:
    """Return the name that the workflow gives a file of one scan: entities that no scan has are left out."""
    layout = layout_in(runs)
    return Path(layout.path(rule, output, **layout.wildcards(key_of(row)))).name


def layout_in(runs: pd.DataFrame) -> Layout:
    """Return where the files of scans lie, by the entities that the rows of a run table have."""
    return Layout(bool(runs["session_id"].notna().any()), bool(runs["run"].notna().any()))


def key_of(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return the four keys of a scan as text, `n/a` for an entity it lacks."""
    return {name: str(row[name]) if isinstance(row[name], str) else MISSING for name in UNIT}


def _pictures(paths: tuple[Path, ...], runs: pd.DataFrame, kind: str) -> list[Picture]:
    """The pictures of one kind, in the order of the run table; scans that are out left an empty file."""
    found = {path.name: path for path in paths}
    pictures = []
    for row in runs.to_dict("records"):
        path = found.get(file_of(row, runs, "assess_quality", kind))
        if path is not None and not is_empty(path):
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
    for row, path in _usable(paths, runs, exclusions, "design"):
        return read_table(path).astype(float), key_of(row) | {"tr": f"{row['tr']:g}"}
    return None, {}


def _scripts(
    paths: tuple[Path, ...], runs: pd.DataFrame, exclusions: list[Exclusion], study: Study
) -> pd.DataFrame | None:
    """Responses to single scripts in the region of the primary outcome, else in the first region.

    A row per scan and script: participant_id, session_id, region, condition, repetition, value.
    """
    primary = study.outcomes.get(study.group.primary.outcome) if study.group else None
    region = primary.what if primary and primary.domain == "activation" else study.rois.names[0]
    parts = []
    for row, path in _usable(paths, runs, exclusions, "scripts"):
        table = SCRIPTS.read(path)
        mine = table[table["region"] == region].rename(columns={"lsa": "value"})
        parts.append(mine.assign(**key_of(row))[[*UNIT[:2], "region", "condition", "repetition", "value"]])
    return pd.concat(parts, ignore_index=True) if parts else None


def _usable(
    paths: tuple[Path, ...], runs: pd.DataFrame, exclusions: list[Exclusion], output: str
) -> Iterator[tuple[Mapping[Any, Any], Path]]:
    """The scans, in the order of the run table, that were fitted and not excluded, with a file of each."""
    found = {path.name: path for path in paths if not is_empty(path)}
    for row in runs.to_dict("records"):
        path = found.get(file_of(row, runs, "fit_first_level", output))
        if path is not None and not any(item.takes_out(Exclusion(**key_of(row))) for item in exclusions):
            yield row, path


def hashes(named: Mapping[str, Path | None]) -> dict[str, str]:
    """Return the SHA-256 of every file that is there, by its name on the page."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items() if path}
