"""Group B of the fault catalogue: damaged images and confounds become an exclusion, never a number.

Each row says what is broken and lets the rule of the workflow that meets it work on it. Rules before the
compute (`index`, `carry_atlas`) stop or leave the scan out; the others run as in the workflow, by `run_step`.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

from reconfmri import confounds, rois, templates
from reconfmri.config import Quality, Region, Rois, load_study
from reconfmri.exclusions import read_exclusions
from reconfmri.indexing import index_dataset
from reconfmri.measures import write_rows
from reconfmri.preprocess import AlignmentFiles, AnatomyFiles, PreprocessedRun, embedded, resampling
from reconfmri.quality import assess_run
from reconfmri.registration import rigid
from reconfmri.step import is_empty, run_step
from reconfmri.tables import read_table, write_table

sys.path.insert(0, str(Path(__file__).parent))
from make_bids import PEOPLE, SESSIONS, bold, make_bids

BOLD, SHAPE, T = "sub-01_ses-1_task-memory_run-1_bold.nii.gz", (20, 20, 18), 14
GRID = np.diag([3.0, 3, 3, 1])
REGION = (slice(2, 5), slice(4, 7), slice(4, 7))
SERIES = np.random.default_rng(1).integers(100, 900, size=(*SHAPE, T)).astype(np.int16)


# Damage to one raw file -------------------------------------------------------------------------------------


def save(
    path: Path, data: Any, *, affine: Any = GRID, qform: Any = None, codes: tuple[int, int] = (1, 1)
) -> None:
    image = nibabel.Nifti1Image(data, affine)
    image.set_qform(affine if qform is None else qform, codes[1])
    image.set_sform(affine, codes[0])
    nibabel.save(image, path)


def cut_in_half(path: Path) -> None:
    save(path, SERIES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(path: Path) -> None:
    save(path, SERIES)
    whole = bytearray(path.read_bytes())
    whole[len(whole) * 2 // 3] ^= 0xFF
    path.write_bytes(bytes(whole))


def unzipped(path: Path) -> None:
    save(path, SERIES)
    path.write_bytes(gzip.decompress(path.read_bytes()))


def bad_volumes(path: Path) -> None:
    data = SERIES.astype(np.float32)
    data[..., 4:11] = np.nan
    data[3, 3, 3, 12] = np.inf
    save(path, data)


def another_file(path: Path) -> str:
    """A sound image, copied over the one whose sha256 is returned."""
    save(path, SERIES)
    indexed = hashlib.sha256(path.read_bytes()).hexdigest()
    save(path, SERIES[::-1])
    return indexed


def moved(by: float) -> np.ndarray:
    affine = GRID.copy()
    affine[1, 3] += by
    return affine


# Rules that meet the damage -------------------------------------------------------------------------------


def by_align_run(folder: Path, damage: Callable[[Path], object]) -> Callable[..., None]:
    """The first rule that reads a run; it was indexed as it is, unless the damage returns another sha256."""
    replaced = damage(folder / BOLD)
    indexed = (
        replaced if isinstance(replaced, str) else hashlib.sha256((folder / BOLD).read_bytes()).hexdigest()
    )
    anatomy = AnatomyFiles(*(folder / f"{name}.nii.gz" for name in ("t1w", "mask", "dseg", "map", "facts")))

    def work(snakemake: Any, _decisions: Any) -> None:
        outputs = AlignmentFiles(*map(Path, snakemake.output[:4]))
        embedded.align_run(folder / BOLD, anatomy.t1w, anatomy, outputs=outputs, sha256=indexed)

    return work


def by_assess_quality(folder: Path, damage: Callable[[dict[str, Any]], object]) -> Callable[..., None]:
    """Quality of a preprocessed run of 90 volumes with its confounds."""
    rng = np.random.default_rng(2)
    made = {
        "bold": 500 + 5 * rng.standard_normal((8, 8, 8, 90)),
        "fd": np.full(90, 0.1),
        "rows": 90,
        "damaged": [],
        "settings": Quality(),
    }
    damage(made)
    made["fd"][0] = np.nan
    save(folder / BOLD, made["bold"].astype(np.float32))
    save(folder / "mask.nii.gz", np.ones((8, 8, 8), np.uint8))
    table = pd.DataFrame({"framewise_displacement": made["fd"], "std_dvars": 1.0, "global_signal": 500.0})
    for number, volume in enumerate(made["damaged"]):
        table.loc[volume] = np.nan
        table[f"damaged_volume{number:02d}"] = np.eye(90)[volume]
    write_table(folder / "confounds.tsv", table[: made["rows"]])
    files = [folder / name for name in (BOLD, "mask.nii.gz", "confounds.tsv", "mask.nii.gz")]
    run = PreprocessedRun(*files, metadata={"RepetitionTime": 2.0})
    coverage = pd.DataFrame({"region": ["amygdala"], "coverage": [1.0], "tsnr": [50.0]})

    def work(snakemake: Any, decisions: Any) -> None:
        rows, faults = assess_run(run, coverage, made["settings"])
        for fault in faults:
            decisions.add(snakemake.rule, fault)
        write_rows(snakemake.output[0], rows, decisions.unit)

    return work


def by_extract_region_signals(
    folder: Path, damage: Callable[[dict[str, Any]], object]
) -> Callable[..., None]:
    """Two regions of 27 voxels; the series went through head motion and the engine's rounding."""
    rng = np.random.default_rng(3)
    made = {
        "raw": 500 + 10 * rng.standard_normal((*SHAPE, T)).astype(np.float32),
        "mask": np.ones(SHAPE, np.uint8),
        "masks": np.zeros((*SHAPE, 2), np.uint8),
        "affine": GRID,
    }
    made["masks"][(*REGION, 0)] = made["masks"][12:15, 12:15, 12:15, 1] = 1
    damage(made)
    motion = np.array([rigid(0.3 * rng.standard_normal(6), np.full(3, 28.0)) for _ in range(T)])
    points = np.argwhere(np.ones(SHAPE)) @ GRID[:3, :3]
    streamed = resampling.resampled(iter(np.moveaxis(made["raw"], -1, 0)), motion, GRID, [points])
    series = np.stack(
        [resampling._without_noise_bits(values[0]).reshape(SHAPE) for values in streamed], axis=-1
    )
    save(folder / BOLD, series, affine=made["affine"])
    save(folder / "mask.nii.gz", made["mask"])
    save(folder / "regions.nii.gz", made["masks"])
    regions = {name: Region(labels=["x"]) for name in ("amygdala", "hippocampus")}

    def work(snakemake: Any, decisions: Any) -> None:
        files = (folder / name for name in (BOLD, "mask.nii.gz", "regions.nii.gz"))
        signals, _, faults = rois.extract_region_signals(*files, Rois(regions=regions, min_tsnr=25.0))
        for fault in faults:
            decisions.add(snakemake.rule, fault)
        write_table(snakemake.output[0], signals)

    return work


def by_fit_first_level(_folder: Path, damage: Callable[[pd.DataFrame], object]) -> Callable[..., None]:
    """The choice of nuisance columns in the design."""
    table = pd.DataFrame({name: np.linspace(0, 1, T) for name in confounds.MOTION})
    table = damage(table)

    def work(snakemake: Any, _decisions: Any) -> None:
        write_table(snakemake.output[0], confounds.select(table, ["motion6"]))

    return work


# The rows ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of the catalogue that a rule on one run meets."""

    name: str
    rule: Callable[..., Any]
    damage: Callable[[Any], object]
    code: str
    says: str
    fix: str
    region: str = "n/a"


def keys(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda made: made.update(changes)


def inside(name: str, place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda made: made[name].__setitem__(place, value)


LEFT_PART = (slice(None, 4), *REGION[1:])
ROWS = [
    Row("B1 cut in half", by_align_run, cut_in_half, "E-DATA-B01", "ends too early", "copy the file"),
    Row("B1 a byte flipped", by_align_run, flip_a_byte, "E-DATA-B01", "cannot be read", "copy the file"),
    Row("B1 empty", by_align_run, lambda path: path.write_bytes(b""), "E-DATA-B01", "empty", "copy the file"),
    Row("B1 text", by_align_run, lambda path: path.write_text("no"), "E-DATA-B01", "cannot", "copy the file"),
    Row("B1 .nii named .gz", by_align_run, unzipped, "E-DATA-B01", "cannot be read", "copy the file"),
    Row("B1 not the indexed file", by_align_run, another_file, "E-DATA-B30", "sha256", "index again"),
    Row("B3 most volumes damaged", by_align_run, bad_volumes, "E-DATA-B03",
        "8 of 14 volumes hold values that are not finite: 5 (7200 voxels), 6 (7200 voxels)", "export"),
    Row("B3 more damaged volumes than the limit", by_assess_quality, keys(damaged=[3, 40, 41, 42, 89]),
        "E-DATA-B03", "5.56 % > 5 % (quality.max_damaged_share)", "look at the run"),
    Row("B4 zeros", by_align_run, lambda path: save(path, 0 * SERIES), "E-DATA-B04", "flat image",
        "copy the file"),
    Row("B4 a tenth of the brain flat", by_assess_quality, inside("bold", slice(0, 1), 300.0), "E-DATA-B04",
        "12.5 % > 5 % (quality.max_flat_share)", "look at the run"),
    Row("B5 three dimensions", by_align_run, lambda path: save(path, SERIES[..., 0]), "E-DATA-B05",
        "4 dimensions", "complete export"),
    Row("B5 one volume", by_align_run, lambda path: save(path, SERIES[..., :1]), "E-DATA-B05",
        "at least 10 volumes", "complete export"),
    Row("B5 fewer than min_volumes", by_assess_quality, keys(settings=Quality(min_volumes=100)), "E-DATA-B05",
        "number of volumes 90 < 100", "look at the run"),
    Row("B6 not on the mask's grid", by_extract_region_signals, keys(affine=moved(40)), "E-DATA-B06",
        "40 mm apart", "resample"),
    Row("B7 no position", by_align_run, lambda path: save(path, SERIES, codes=(0, 0)), "E-DATA-B07",
        "position in space", "convert the DICOM series"),
    Row("B7 two positions", by_align_run, lambda path: save(path, SERIES, qform=moved(1.5)), "E-DATA-B07",
        "sform and qform put a corner of the image 1.5 mm apart", "which holds"),
    Row("B8 region outside the field of view", by_extract_region_signals, inside("mask", LEFT_PART, 0),
        "E-DATA-B08", "33 % of amygdala", "mask outlines", "amygdala"),
    Row("B8 empty after masking", by_extract_region_signals, inside("mask", REGION, 0), "E-DATA-B08",
        " 0 % of amygdala", "mask outlines", "amygdala"),
    Row("B9 region constant in time", by_extract_region_signals, inside("raw", slice(0, 11), 300.0),
        "E-DATA-B08", " 0 % of amygdala lies in the mask of the run and varies", "mask outlines", "amygdala"),
    Row("B8 region without enough signal to noise", by_extract_region_signals,
        lambda made: made["raw"].__setitem__(slice(0, 11), made["raw"][:11] * 5 - 2000), "E-DATA-B35",
        "median temporal SNR of amygdala", "map of temporal SNR", "amygdala"),
    Row("B11 a row cut", by_assess_quality, keys(rows=89), "E-DATA-B11", "89 rows, the run 90", "again"),
    Row("B11 a column of n/a", by_fit_first_level, lambda table: table.assign(rot_x=np.nan), "E-DATA-B11",
        "'rot_x' has no value in any row", "again"),
    Row("B11 n/a in a later row", by_fit_first_level,
        lambda table: table.assign(rot_x=np.where(np.arange(T) == 5, np.nan, 1.0)), "E-DATA-B11",
        "'rot_x' has no value in row 6", "again"),
    Row("B12 too many outliers", by_assess_quality, inside("fd", slice(0, 36), 0.6), "E-DATA-B12",
        "39.3 % > 30 % (quality.max_outlier_share)", "thresholds are set for the whole study"),
    Row("B12 too little time left", by_assess_quality,
        lambda made: made.update(settings=Quality(min_usable_time=170, max_outlier_share=1)) or
        made["fd"].__setitem__(slice(0, 11), 0.6), "E-DATA-B12", "last 160 s < 170 s", "whole study"),
]  # fmt: skip


class Outputs(list):
    """The outputs of a rule as Snakemake hands them over: a list, and `exclusions` by name."""

    @property
    def exclusions(self) -> Path:
        return self[-1]


def step(folder: Path, work: Callable[..., None], *, rule: str, before: Path | None = None) -> Outputs:
    """Do one rule on one run as the workflow does it; return its outputs."""
    out = Outputs(folder / f"{rule}_{name}" for name in ("a.tsv", "b.tsv", "c.json", "d", "exclusions.tsv"))
    run = SimpleNamespace(
        rule=rule,
        wildcards={"sub": "01", "ses": "1", "task": "memory", "run": "1"},
        input={"exclusions": str(before)} if before else {},
        output=out,
        log=[folder / f"{rule}.log"],
    )
    run_step(run, work)
    return out


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_damage_becomes_an_exclusion_with_its_fix_and_never_a_number(row, tmp_path):
    out = step(tmp_path, row.rule(tmp_path, row.damage), rule=row.rule.__name__.removeprefix("by_"))
    (excluded,) = read_exclusions(out.exclusions)
    assert (excluded.code, excluded.region) == (row.code, row.region)
    assert row.says in excluded.reason
    assert row.fix in excluded.reason.partition("Fix: ")[2]
    if row.rule is by_align_run:
        assert excluded.reason.startswith(f"{row.code} {BOLD}: ")
    if row.region == "n/a":
        later = step(tmp_path, lambda *_: pytest.fail("met again"), rule="later", before=out.exclusions)
        assert all(is_empty(path) for path in later[:-1])
    else:
        signals = read_table(out[0])
        assert signals[row.region].isna().all()
        assert signals["hippocampus"].notna().all(), "the other region keeps its values"


@pytest.mark.parametrize("rule", [by_assess_quality, by_extract_region_signals, by_fit_first_level])
def test_the_undamaged_run_passes_every_rule(rule, tmp_path):
    out = step(tmp_path, rule(tmp_path, lambda made: made), rule="any")
    assert read_exclusions(out.exclusions) == []
    assert out[0].stat().st_size


# Faults that the index meets, before any compute ------------------------------------------------------------


def image_of(
    root: Path, person: str, session: str, *, affine: Any = GRID, n: int = 60, step: float = 2.0
) -> None:
    data = np.random.default_rng(4).integers(100, 200, (12, 12, 10, n)).astype(np.int16)
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((3, 3, 3, step))
    nibabel.save(image, root / bold(person, session))


def second_run(root: Path, by: float) -> None:
    """Everybody's first session gets a second run; that of sub-02 lies `by` mm further up."""
    for person in PEOPLE:
        image_of(root, person, "1", affine=moved(by if person == "sub-02" else 0))
        for old in sorted((root / person / "ses-1/func").glob("*run-1*")):
            old.rename(str(old).replace("run-1", "run-2"))
        image_of(root, person, "1")
        events = (root / bold(person, "1", run="2")).with_name(bold(person, "1", run="2").split("/")[-1])
        events = Path(str(events).replace("_bold.nii.gz", "_events.tsv"))
        Path(str(events).replace("run-2", "run-1")).write_bytes(events.read_bytes())


def four_of_eighteen(root: Path) -> None:
    for session, person in zip("1231", ["sub-01", "sub-02", "sub-03", "sub-04"], strict=True):
        image_of(root, person, session, step=0.8)


FLIPPED = np.diag([-3.0, 3, 3, 1])
INDEXED = {
    "B1 no image": (lambda root: (root / bold("sub-02", "1")).write_bytes(b""), "EXCL", "E-BIDS-B01",
                    "not a readable"),
    "B2 TR of header": (lambda root: image_of(root, "sub-02", "1", step=0.8), "EXCL", "E-BIDS-B02",
                        "the header says 0.8 sec per volume, the sidecar 2 s"),
    "B2 TR in ms": (lambda root: image_of(root, "sub-02", "1", step=2000), "EXCL", "E-BIDS-B02",
                    "the header says 2000 sec per volume"),
    "B2 in more than a fifth": (four_of_eighteen, "STOP", "E-BIDS-B02", "in 4 of 18 scans"),
    "B5 cut short": (lambda root: image_of(root, "sub-02", "1", n=53), "EXCL", "E-BIDS-B05",
                     "53 volumes, 12 % fewer than the 60 of its siblings"),
    "B6 40 mm away": (lambda root: second_run(root, 40.0), "WARN", "W-BIDS-B06", "corners 40.0 mm apart"),
    "B6 0.5 mm away": (lambda root: second_run(root, 0.5), "WARN", "W-BIDS-B06", "corners 0.5 mm apart"),
    "B7 flipped": (lambda root: image_of(root, "sub-02", "1", affine=FLIPPED), "WARN", "W-BIDS-B07",
                   "the other way round than in 17 other runs"),
}  # fmt: skip


@pytest.mark.parametrize("name", INDEXED)
def test_the_index_meets_it_before_any_compute(name, tmp_path):
    damage, severity, code, says = INDEXED[name]
    study = make_bids(tmp_path)
    damage(tmp_path / "bids")
    table, problems = index_dataset(tmp_path / "bids", load_study(study / "config/config.yaml"))
    told = [problem for problem in problems if (problem.severity, problem.code) == (severity, code)]
    assert len(told) == 1
    assert says in told[0].line
    assert told[0].fix
    kept = bool(((table["participant_id"] == "sub-02") & (table["session_id"] == "1")).any())
    if severity != "STOP":
        assert (told[0].participant_id, kept) == ("sub-02", severity == "WARN")
        assert bold("sub-02", "1", run=told[0].run) in told[0].line
    assert len(problems) == (5 if severity == "STOP" else 1)


def test_a_run_a_tenth_shorter_than_its_siblings_stays(tmp_path):
    study = make_bids(tmp_path)
    image_of(tmp_path / "bids", "sub-02", "1", n=54)
    table, problems = index_dataset(tmp_path / "bids", load_study(study / "config/config.yaml"))
    assert not problems
    assert len(table) == len(PEOPLE) * len(SESSIONS)


def test_an_atlas_whose_table_and_image_disagree_stops_the_study(monkeypatch):
    image, labels = templates.harvard_oxford()
    monkeypatch.setattr(templates, "harvard_oxford", lambda: (image, labels[:-1]))
    with pytest.raises(ValueError, match=rf"E-DATA-B10 .*{len(labels)} volumes for {len(labels) - 1} labels"):
        rois.carry_atlas(Rois(regions={"amygdala": Region(labels=["Left Amygdala"])}), resolution=4.0)
