"""fMRIPrep's outputs of every generation become one contract, by links; what is amiss is told first."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from reconfmri import confounds, itk, registration
from reconfmri.bids import read_json
from reconfmri.cli import main
from reconfmri.config import Fmriprep, parse_config
from reconfmri.derivatives import (
    check_fmriprep,
    find_anatomy,
    find_run,
    has_anatomy_per_session,
    place_of,
    versions_of,
)
from reconfmri.exclusions import DataFault
from reconfmri.preprocess import AnatomyFiles, PreprocessedFiles
from reconfmri.preprocess.container import Places, command_line, run_participant
from reconfmri.preprocess.fmriprep import (
    AdoptedFiles,
    adopt_anatomy,
    adopt_run,
    tissue_by_brightness,
    tissue_of_aseg,
)
from reconfmri.step import run_step
from reconfmri.tables import read_table, write_table

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "faults"))
import fake_fmriprep as fake
from make_bids import make_bids

ROOT = Path(__file__).resolve().parents[1]
RAW = "sub-01/ses-1/func/sub-01_ses-1_task-memory_run-1_bold.nii.gz"
N = 30


def make(folder: Path, made: fake.Generation, raw: str = RAW, **extra) -> Path:
    """A derivative dataset of one person and one series."""
    root = folder / "fmriprep"
    fake.write_dataset(root, made)
    fake.write_anatomy(root, made, "sub-01", session="1")
    fake.write_run(root, made, raw, fake.small_series(), **extra)
    return root


def adopt(folder: Path, root: Path, raw: str = RAW, *, n_components: int = 6, **options):
    out = folder / "results"
    out.mkdir(exist_ok=True)
    names = ("bold.nii.gz", "mask.nii.gz", "dseg.nii.gz", "confounds.tsv", "bold.json")
    files = AdoptedFiles(
        PreprocessedFiles(*(out / name for name in names)), out / "boldref.nii.gz", out / "T1w.nii.gz"
    )
    run = adopt_run(
        find_run(root, raw), files, tr=2.0, n_volumes=N, n_components=n_components,
        versions=versions_of(root, "sub-01"), **options,
    )  # fmt: skip
    return run, files


@pytest.fixture(params=fake.GENERATIONS.values(), ids=fake.GENERATIONS)
def made(request):
    return request.param


def test_every_generation_becomes_the_same_contract(tmp_path, made):
    root = make(tmp_path, made)
    run, files = adopt(tmp_path, root)
    tissue, _ = fake.head()
    assert (np.asarray(nib.load(run.dseg).dataobj) == tissue).all()
    table = read_table(run.confounds).astype(float)
    groups = [
        "motion24",
        "acompcor",
        "fd",
        "dvars",
        "global_signal",
        "white_matter",
        "csf",
        "non_steady_state",
    ]
    chosen = confounds.select(table, [*groups, "motion_outliers"])
    planted = fake.confounds_table(made, N)
    assert chosen.columns.str.startswith("a_comp_cor_").sum() == 6
    assert chosen.columns.str.startswith("motion_outlier").sum() == 2  # away and back again
    np.testing.assert_allclose(chosen["a_comp_cor_05"], planted["a_comp_cor_05"], rtol=1e-9)
    np.testing.assert_allclose(
        chosen["rot_y_derivative1"][1:], np.diff(planted["rot_y"]), rtol=1e-6, atol=1e-12
    )
    assert run.metadata["NonSteadyStateVolumes"] == 2
    assert run.metadata["GeneratedBy"] == [{"Name": "fMRIPrep", "Version": made.version}]
    assert run.metadata["Tissue"].endswith("_dseg.nii.gz")
    assert nib.load(files.boldref).shape == fake.SHAPE
    assert set(read_json(run.confounds.with_suffix(".json"))) == set(table.columns)


def test_no_voxel_is_copied_and_nothing_of_fmriprep_is_touched(tmp_path):
    root = make(tmp_path, fake.GENERATIONS["23.1"])
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    run, files = adopt(tmp_path, root, relative=True)
    links = [run.bold, run.mask, files.boldref, files.t1w]
    assert all(path.is_symlink() and not path.readlink().is_absolute() for path in links)
    assert run.bold.resolve() == find_run(root, RAW).bold.resolve()
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    shutil.move(tmp_path, tmp_path.with_name("moved"))
    moved = tmp_path.with_name("moved") / "results" / "bold.nii.gz"
    assert nib.load(moved).shape == (*fake.SHAPE, N)


def test_a_relative_link_holds_where_the_way_to_the_study_is_a_link(tmp_path):
    real, seen = tmp_path / "disk" / "deep" / "study", tmp_path / "study"
    real.mkdir(parents=True)
    seen.symlink_to(real)
    run, _ = adopt(seen, make(tmp_path, fake.GENERATIONS["23.1"]), relative=True)
    assert nib.load(run.bold).shape == (*fake.SHAPE, N)


def test_images_that_are_not_compressed_are_read_and_written_anew(tmp_path):
    root = make(tmp_path, fake.GENERATIONS["23.1"])
    series = np.asarray(nib.load(find_run(root, RAW).bold).dataobj)
    for path in list(root.rglob("*.nii.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    run, files = adopt(tmp_path, root)
    assert (np.asarray(nib.load(run.bold).dataobj) == series).all()
    assert not any(path.is_symlink() for path in (run.bold, run.mask, files.boldref, files.t1w))
    assert (np.asarray(nib.load(run.dseg).dataobj) == fake.head()[0]).all()


def test_absolute_links_for_derivatives_that_lie_elsewhere(tmp_path):
    run, _ = adopt(tmp_path, make(tmp_path, fake.GENERATIONS["23.1"]))
    assert run.bold.readlink().is_absolute()


def test_real_tables_of_two_generations_are_read(tmp_path, real_data):
    """30 volumes of real runs: 57 combined components of 126 in the one table, 5 of 12 in the other."""
    folder = real_data / "fmriprep_confounds" / "nilearn"
    for name, n_kept in (("test_desc-confounds_regressors", 20), ("test-v21_desc-confounds_timeseries", 5)):
        table, facts = read_table(folder / f"{name}.tsv"), read_json(folder / f"{name}.json")
        ours, told = confounds.from_fmriprep(table, facts, n_components=20)
        kept = [column for column in ours if column.startswith("a_comp_cor_")]
        assert len(kept) == n_kept
        assert {told[column]["Mask"] for column in kept} == {"combined"}
        assert len(confounds.select(ours, ["motion24", "acompcor", "fd"]).columns) == 24 + n_kept + 1
        assert not [column for column in ours if "aroma" in column or column.startswith("t_comp")]
        more, _ = confounds.from_fmriprep(table, facts, n_components=0, n_temporal=3)
        assert [column for column in more if "_comp_" in column] == [f"t_comp_cor_0{n}" for n in range(3)]
    moved = confounds.framewise_displacement(ours[list(confounds.MOTION)].to_numpy())
    np.testing.assert_allclose(moved[1:], ours["framewise_displacement"][1:], atol=1e-6)


def test_camel_case_columns_are_refused_by_name():
    table = pd.DataFrame({"X": ["0"], "FramewiseDisplacement": ["n/a"], "aCompCor00": ["0"]})
    with pytest.raises(DataFault, match=r"E-DATA-B11 .*trans_x.*names are those of 1\.0 and 1\.1"):
        confounds.from_fmriprep(table, {}, n_components=6)


def test_a_series_without_reference_gets_its_middle_volume(tmp_path):
    _, files = adopt(tmp_path, make(tmp_path, replace(fake.GENERATIONS["25.2"], boldref=False)))
    middle = np.asarray(nib.load(files.run.bold).dataobj)[..., N // 2]
    assert (np.asarray(nib.load(files.boldref).dataobj) == middle).all()


def test_labels_in_the_order_of_fast_are_told_by_the_t1w():
    t1w = np.array([100.0, 110, 500, 510, 900, 910])
    for labels in ([1, 1, 2, 2, 3, 3], [3, 3, 1, 1, 2, 2]):
        assert tissue_by_brightness(np.array(labels, dtype=np.uint8), t1w).tolist() == [3, 3, 1, 1, 2, 2]


def test_freesurfer_labels_become_tissue():
    """White 2, cortex 3 and 42, ventricle 4, hippocampus 17, brain stem 16, and one that nobody knows."""
    labels = np.array([0, 2, 3, 4, 17, 16, 42, 999])
    assert tissue_of_aseg(labels).tolist() == [0, 2, 1, 3, 1, 2, 1, 0]


def test_aseg_stands_in_for_a_missing_dseg(tmp_path):
    root = make(tmp_path, fake.GENERATIONS["20.2"])
    for path in root.rglob("*_dseg.nii.gz"):
        path.unlink()
    tissue, _ = fake.head()
    stem = RAW.removesuffix("_bold.nii.gz")
    fake.save(
        root / f"{stem}_space-{fake.SPACE}_desc-aseg_dseg.nii.gz", np.array([0, 42, 41, 4], np.int16)[tissue]
    )
    run, _ = adopt(tmp_path, root)
    assert (np.asarray(nib.load(run.dseg).dataobj) == tissue).all()
    assert "desc-aseg" in run.metadata["Tissue"]


def test_slice_time_correction_is_told_with_the_moment_it_aligns_to(tmp_path):
    root = make(tmp_path, fake.GENERATIONS["25.2"], extra={"SliceTimingCorrected": True, "StartTime": 0.9})
    run, _ = adopt(tmp_path, root)
    assert (run.metadata["SliceTimingCorrected"], run.metadata["StartTime"]) == (True, 0.9)


@pytest.mark.parametrize("session", [None, "1", "9"], ids=["of the person", "own", "of another session"])
def test_anatomy_is_found_where_fmriprep_put_it(tmp_path, session):
    root, made = tmp_path / "fmriprep", fake.GENERATIONS["25.2"]
    fake.write_anatomy(root, made, "sub-01", session=session)
    fake.write_run(root, made, RAW, fake.small_series())
    run = find_run(root, RAW)
    assert run.t1w.parent == root / "sub-01" / (f"ses-{session}" if session else "") / "anat"
    assert run.dseg is not None
    assert run.dseg.parent == run.t1w.parent


def test_own_anatomy_comes_before_that_of_the_person_and_of_others(tmp_path):
    root, made = tmp_path / "fmriprep", fake.GENERATIONS["25.2"]
    for session in (None, "0", "1"):
        fake.write_anatomy(root, made, "sub-01", session=session)
    fake.write_run(root, made, RAW, fake.small_series())
    assert "ses-1" in find_run(root, RAW).t1w.parts


def test_a_padded_run_number_is_the_same_run(tmp_path):
    root = make(tmp_path, fake.GENERATIONS["20.2"])
    padded = RAW.replace("run-1", "run-01")
    assert find_run(root, padded) == find_run(root, RAW)
    with pytest.raises(DataFault, match="E-BIDS-A21"):
        find_run(root, RAW.replace("run-1", "run-2"))


def test_outputs_of_before_21_lie_one_folder_deeper(tmp_path):
    make(tmp_path / "out", fake.GENERATIONS["1.5"])
    assert place_of(tmp_path, "out") == tmp_path / "out" / "fmriprep"
    assert place_of(tmp_path, "out/fmriprep") == tmp_path / "out" / "fmriprep"


def test_resolutions_are_chosen_by_name_and_never_guessed(tmp_path):
    plain, two = fake.GENERATIONS["23.1"], fake.GENERATIONS["25.2"]
    root = make(tmp_path, plain)
    fake.write_anatomy(root, two, "sub-01", session="1")
    fake.write_run(root, two, RAW, fake.small_series())
    with pytest.raises(DataFault, match=r"E-BIDS-A22 .*\['2', 'native'\].*preprocessing\.fmriprep\.res"):
        find_run(root, RAW)
    for res, there in (("2", True), ("02", True), ("native", False)):
        run = find_run(root, RAW, res=res)
        images = (run.bold, run.mask, run.boldref, run.t1w, run.dseg)
        assert {"_res-2_" in path.name for path in images} == {there}
    with pytest.raises(DataFault, match="E-BIDS-A22 .*there is no res-1"):
        find_run(root, RAW, res="1")


# --- the anatomy that the participant's page shows


def adopted_anatomy(folder: Path, root: Path) -> tuple[AnatomyFiles, str]:
    out = folder / "anatomy"
    out.mkdir(exist_ok=True)
    names = ("t1w.nii.gz", "mask.nii.gz", "dseg.nii.gz", "to_t1w.nii.gz", "facts.json")
    files = AnatomyFiles(*(out / name for name in names))
    return files, adopt_anatomy(root, RAW, files)


def test_the_anatomy_is_shown_where_the_template_is_whatever_the_labels(tmp_path, made):
    files, why = adopted_anatomy(tmp_path, make(tmp_path, made))
    tissue, _ = fake.head()
    assert why == ""
    assert files.t1w.is_symlink()
    assert files.mask.is_symlink()
    assert (np.asarray(nib.load(files.dseg).dataobj) == tissue).all()
    points = np.random.default_rng(1).uniform(-70, 70, (40, 3))
    found = registration.sample_map(itk.read_warp(files.to_t1w), points)
    np.testing.assert_allclose(found, points, atol=1e-3)
    (image,) = read_json(files.facts)["t1w_images"]
    assert image["source"].endswith("desc-preproc_T1w.nii.gz")
    assert fake.SPACE in image["source"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: strip(root, "*anat/*brain_mask*"), "left no mask"),
        (lambda root: strip(root, "*anat/*"), "left no t1w and no mask"),
        (lambda root: cut(next(root.rglob("anat/*_desc-brain_mask.nii.gz"))), "cannot be read"),
        (lambda root: cut(next(root.rglob("anat/*_dseg.nii.gz"))), "cannot be read"),
    ],
)
def test_an_anatomy_that_cannot_be_shown_says_why_and_takes_nothing_out(tmp_path, spoil, says):
    root = make(tmp_path, fake.GENERATIONS["23.1"])
    spoil(root)
    files, why = adopted_anatomy(tmp_path, root)
    assert says in why
    assert read_json(files.facts)["absent"] == why
    assert all(path.stat().st_size == 0 for path in (files.t1w, files.mask, files.dseg))
    assert not files.t1w.is_symlink()


def test_an_anatomy_without_tissue_is_shown_without(tmp_path):
    root = make(tmp_path, fake.GENERATIONS["23.1"])
    strip(root, "*anat/*_dseg*")
    files, why = adopted_anatomy(tmp_path, root)
    assert why == ""
    assert not np.asarray(nib.load(files.dseg).dataobj).any()


def test_a_page_shows_one_anatomy_or_that_of_each_session(tmp_path):
    made = fake.GENERATIONS["23.1"]
    root = make(tmp_path, made)
    assert not has_anatomy_per_session(tmp_path, Fmriprep(derivatives="fmriprep"))
    fake.write_anatomy(root, made, "sub-01", session="2")
    assert has_anatomy_per_session(tmp_path, Fmriprep(derivatives="fmriprep"))
    second = RAW.replace("ses-1", "ses-2")
    chosen = [find_anatomy(root, raw).t1w.name.split("_")[1] for raw in (RAW, second)]
    assert chosen == ["ses-1", "ses-2"]


def strip(root: Path, pattern: str) -> None:
    for path in root.rglob(pattern):
        path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def off_grid(path: Path) -> None:
    image = nib.load(path)
    fake.save(path, np.asarray(image.dataobj), image.affine + np.diag([0.5, 0, 0, 0]))


def one_echo(root: Path) -> None:
    for path in list(root.rglob("*_bold.nii.gz")):
        path.rename(path.with_name(path.name.replace("_run-1_", "_run-1_echo-2_")))


def very_old(root: Path) -> None:
    strip(root, "*_desc-confounds_*")
    (root / RAW.replace("_bold.nii.gz", "_bold_confounds.tsv")).write_text("X\n0\n")


def no_series_in_two_resolutions(root: Path) -> None:
    fake.write_run(root, fake.GENERATIONS["25.2"], RAW, fake.small_series())
    strip(root, "*_bold.nii.gz")


def other_space(root: Path) -> None:
    for path in list((root / "sub-01/ses-1/func").iterdir()):
        path.rename(path.with_name(path.name.replace(fake.SPACE, "MNI152NLin6Asym")))


def both_spellings(root: Path) -> None:
    table = next(root.rglob("*_desc-confounds_timeseries.tsv"))
    shutil.copy(table, table.with_name(table.name.replace("timeseries", "regressors")))


def broken_link(root: Path) -> None:
    bold = find_run(root, RAW).bold
    bold.unlink()
    bold.symlink_to("../.git/annex/objects/nowhere")


def short_table(root: Path) -> None:
    table = find_run(root, RAW).confounds
    table.write_text("\n".join(table.read_text().splitlines()[:-3]) + "\n")


def without_column(root: Path) -> None:
    run = find_run(root, RAW)
    table = read_table(run.confounds).drop(columns="framewise_displacement")
    table.fillna("n/a").to_csv(run.confounds, sep="\t", index=False)


def a_volume_of_nan(root):
    data = fake.small_series(30).astype(np.float32)
    data[..., 4] = np.nan
    fake.save(find_run(root, RAW).bold, data)


FAULTS = [
    (lambda root: strip(root, "*_desc-confounds_*"), "E-BIDS-A21", "left no confounds"),
    (lambda root: strip(root, "*_desc-brain_mask*"), "E-BIDS-A21", "left no brain mask"),
    (lambda root: strip(root, "*_space-*T1w*"), "E-BIDS-A21", "left no T1w"),
    (no_series_in_two_resolutions, "E-BIDS-A21", "left no preprocessed series"),
    (other_space, "E-BIDS-A21", "are in MNI152NLin6Asym"),
    (broken_link, "E-BIDS-A21", "leads nowhere"),
    (lambda root: find_run(root, RAW).mask.write_bytes(b""), "E-BIDS-A21", "the file is empty"),
    (one_echo, "E-BIDS-A22", "echo-2 alone"),
    (both_spellings, "E-BIDS-A22", "could both be meant"),
    (very_old, "E-BIDS-A23", "fMRIPrep 1.0 or 1.1"),
    (lambda root: cut(find_run(root, RAW).bold), "E-DATA-B01", "run it for this participant again"),
    (lambda root: cut(find_run(root, RAW).mask), "E-DATA-B01", "desc-brain_mask"),
    (lambda root: cut(find_run(root, RAW).t1w), "E-DATA-B01", "desc-preproc_T1w"),
    (lambda root: cut(find_run(root, RAW).boldref), "E-DATA-B01", "boldref"),
    (lambda root: cut(find_run(root, RAW).dseg), "E-DATA-B01", "_dseg"),
    (lambda root: fake.save(find_run(root, RAW).bold, fake.small_series(28)), "E-DATA-B05", "the raw one 30"),
    (a_volume_of_nan, "E-DATA-B03", "1 of 30 volumes hold values that are not finite: 5"),
    (lambda root: off_grid(find_run(root, RAW).mask), "E-DATA-B06", "not on the grid"),
    (lambda root: fake.save(find_run(root, RAW).mask, np.zeros(fake.SHAPE, np.uint8)), "E-DATA-B04", "empty"),
    (short_table, "E-DATA-B11", "27 rows, the run 30 volumes"),
    (without_column, "E-DATA-B11", "framewise_displacement"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "code", "says"), FAULTS, ids=[says for _, _, says in FAULTS])
def test_a_fault_takes_the_run_out_before_anything_is_written(tmp_path, spoil, code, says):
    root = make(tmp_path, fake.GENERATIONS["23.1"])
    spoil(root)
    with pytest.raises(DataFault) as fault:
        adopt(tmp_path, root)
    assert fault.value.code == code
    assert says in fault.value.line
    assert fault.value.fix
    assert not list((tmp_path / "results").iterdir())


def test_a_fault_after_linking_never_empties_what_the_link_points_to(tmp_path):
    """Where a step has put a link and then excludes the run, the link gives way to the empty place-holder."""
    theirs, ours = tmp_path / "theirs.nii.gz", tmp_path / "ours.nii.gz"
    theirs.write_bytes(b"voxels")

    def work(_snakemake, _decisions):
        ours.symlink_to(theirs)
        raise DataFault("E-DATA-B01", "damaged")

    output = Outputs([str(ours), str(tmp_path / "exclusions.tsv")])
    job = SimpleNamespace(
        rule="adopt_fmriprep_run",
        wildcards={"sub": "01"},
        input={},
        log=[str(tmp_path / "log")],
        output=output,
    )
    run_step(job, work)
    assert theirs.read_bytes() == b"voxels"
    assert not ours.is_symlink()
    assert ours.read_bytes() == b""


class Outputs(list):
    """As Snakemake's: a list whose last item also has a name."""

    @property
    def exclusions(self) -> str:
        return self[-1]


def test_parts_of_a_complex_series_are_refused(tmp_path):
    root = make(tmp_path, fake.GENERATIONS["23.1"])
    for path in list((root / "sub-01/ses-1/func").iterdir()):
        path.rename(path.with_name(path.name.replace("_run-1_", "_run-1_part-phase_")))
    with pytest.raises(DataFault, match="E-BIDS-A22 .*part-phase alone"):
        find_run(root, RAW.replace("_bold", "_part-mag_bold"))


# --- what is told before any compute


def study_of(fmriprep: dict) -> object:
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    raw["preprocessing"] = {"engine": "fmriprep", "fmriprep": fmriprep}
    return parse_config(raw)


def table_of(*raws: str) -> pd.DataFrame:
    rows = [(raw.split("/")[0], "1", "memory", raw.split("run-")[1][0], raw) for raw in raws]
    return pd.DataFrame(rows, columns=["participant_id", "session_id", "task", "run", "bold"])


def two_people(folder: Path, *made: fake.Generation) -> pd.DataFrame:
    """Derivatives of sub-01 and sub-02, each of its generation, and their run table."""
    root, raws = folder / "fmriprep", [RAW, RAW.replace("sub-01", "sub-02")]
    fake.write_dataset(root, made[0])
    for person, raw, generation in zip(("sub-01", "sub-02"), raws, made, strict=True):
        fake.write_anatomy(root, generation, person, session="1")
        fake.write_run(root, generation, raw, fake.small_series())
    return table_of(*raws)


def told(folder: Path, table: pd.DataFrame, **settings) -> list[tuple[str, str]]:
    study = study_of({"derivatives": "fmriprep", **settings})
    return [(p.severity, p.line) for p in check_fmriprep(folder, study, table, full=True)]


def test_sound_derivatives_raise_no_problem(tmp_path):
    made = fake.GENERATIONS["23.1"]
    assert told(tmp_path, two_people(tmp_path, made, made)) == []


def test_mixed_versions_stop_unless_they_are_allowed(tmp_path):
    table = two_people(
        tmp_path, fake.GENERATIONS["23.1"], replace(fake.GENERATIONS["23.1"], version="24.1.1")
    )
    ((severity, line),) = told(tmp_path, table)
    assert severity == "STOP"
    assert "E-BIDS-A12" in line
    assert "23.1.4: sub-01; 24.1.1: sub-02" in line
    ((severity, line),) = told(tmp_path, table, allow_mixed_versions=True)
    assert (severity, line.split()[0]) == ("WARN", "W-BIDS-A12")


def test_two_versions_over_the_runs_of_one_person_are_mixed_too(tmp_path):
    made = fake.GENERATIONS["23.1"]
    table = two_people(tmp_path, made, made)
    fake.write_anatomy(tmp_path / "fmriprep", replace(made, version="23.2.0"), "sub-02", session="1")
    assert [line.split()[0] for _, line in told(tmp_path, table)] == ["E-BIDS-A12"]


def test_a_description_of_another_version_than_the_logs_is_a_mixture(tmp_path):
    made = fake.GENERATIONS["23.1"]
    table = two_people(tmp_path, made, made)
    fake.write_dataset(tmp_path / "fmriprep", replace(made, version="22.0.0"))
    ((severity, line),) = told(tmp_path, table)
    assert severity == "STOP"
    assert "22.0.0: dataset_description.json; 23.1.4: sub-01, sub-02" in line


def test_a_container_with_a_new_image_is_not_stopped_by_what_the_old_one_left(tmp_path, monkeypatch):
    old, new = fake.GENERATIONS["23.1"], fake.GENERATIONS["25.2"]
    table = two_people(tmp_path, old, old)
    container = with_container(tmp_path, monkeypatch)
    fake.write_anatomy(tmp_path / "fmriprep", new, "sub-01", session="1")
    assert versions_of(tmp_path / "fmriprep", "sub-01", last=True) == ["25.2.5"]
    ((severity, line),) = told(tmp_path, table, container=container)
    assert (severity, line.split()[0]) == ("WARN", "W-BIDS-A12")
    fake.write_anatomy(tmp_path / "fmriprep", new, "sub-02", session="1")
    assert told(tmp_path, table, container=container) == []


def emptied(table: pd.DataFrame, folder: Path, *columns: str) -> None:
    """The confounds of the second person lose every value of some columns."""
    path = find_run(folder / "fmriprep", table["bold"][1]).confounds
    write_table(path, read_table(path).assign(**dict.fromkeys(columns, None)))


EMPTY = {
    "of a group asked for": ("rot_y", "the column 'rot_y', which"),
    "a component that is kept": ("a_comp_cor_01", "'a_comp_cor_01'"),
    "read of every run": ("framewise_displacement", "'framewise_displacement'"),
    "of a group not asked for": ("csf", None),
    "a component of another mask": ("a_comp_cor_12", None),
    "unused": ("dvars", None),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_column_without_any_value_stops_the_study_where_it_is_asked_for(name, tmp_path):
    column, says = EMPTY[name]
    made = fake.GENERATIONS["20.2"]
    table = two_people(tmp_path, made, made)
    emptied(table, tmp_path, column)
    found = told(tmp_path, table)
    assert [(severity, line.split()[0]) for severity, line in found] == [("STOP", "E-BIDS-B11")] * bool(says)
    if says:
        assert says in found[0][1]
        assert "sub-02_ses-1_task-memory_run-1_desc-confounds_timeseries.tsv" in found[0][1]
        assert "sub-01" not in found[0][1]
    elsewhere = table.assign(task="rest")  # no model reads the other task
    assert [line.split()[0] for _, line in told(tmp_path, elsewhere)] == ["E-BIDS-B11"] * (
        column == "framewise_displacement"
    )


def test_a_columns_first_row_without_a_value_is_no_fault(tmp_path):
    made = fake.GENERATIONS["23.1"]
    table = two_people(tmp_path, made, made)
    path = find_run(tmp_path / "fmriprep", table["bold"][0]).confounds
    values = read_table(path)
    assert values["framewise_displacement"].isna()[0]
    assert told(tmp_path, table) == []
    path.write_text(path.read_text().splitlines()[0] + "\n")  # no row at all: the run's own fault
    assert told(tmp_path, table) == []


def test_a_report_tells_the_version_where_there_is_no_log(tmp_path):
    root = make(tmp_path, fake.GENERATIONS["1.5"])
    (root / "dataset_description.json").unlink()
    assert versions_of(root, "sub-01") == ["1.5.8"]
    (root / "sub-01.html").write_text("<b>fMRIPrep version:</b> 20.2.1<br>")
    assert versions_of(root, "sub-01") == ["20.2.1"]


def test_a_version_with_a_known_flaw_is_a_remark(tmp_path):
    made = replace(fake.GENERATIONS["20.2"], version="20.2.1")
    ((severity, line),) = told(tmp_path, two_people(tmp_path, made, made))
    assert severity == "WARN"
    assert "20.2.1 made the outputs of sub-01, sub-02: series may be misplaced" in line


def test_an_unknown_version_is_a_remark(tmp_path):
    made = replace(fake.GENERATIONS["23.1"], logged=False)
    table = two_people(tmp_path, made, made)
    for path in [*(tmp_path / "fmriprep").glob("*.html"), tmp_path / "fmriprep/dataset_description.json"]:
        path.unlink()
    ((severity, line),) = told(tmp_path, table)
    assert (severity, "sub-01, sub-02" in line) == ("WARN", True)


def test_each_scan_without_outputs_is_named_and_none_at_all_stops(tmp_path):
    made = fake.GENERATIONS["23.1"]
    table = two_people(tmp_path, made, made)
    strip(tmp_path / "fmriprep" / "sub-02", "*_bold.nii.gz")
    study = study_of({"derivatives": "fmriprep"})
    (problem,) = check_fmriprep(tmp_path, study, table)
    assert (problem.severity, problem.code, problem.participant_id) == ("EXCL", "E-BIDS-A21", "sub-02")
    strip(tmp_path / "fmriprep", "*_bold.nii.gz")
    assert [severity for severity, _ in told(tmp_path, table)] == ["EXCL", "EXCL", "STOP"]
    assert "no such folder" in told(tmp_path, table, derivatives="elsewhere")[0][1]


def test_series_on_two_grids_stop(tmp_path):
    made = fake.GENERATIONS["23.1"]
    table = two_people(tmp_path, made, made)
    finer = np.diag([10.0, 10, 10, 1])
    fake.write_run(tmp_path / "fmriprep", made, table["bold"][1], fake.small_series(), affine=finer)
    ((severity, line),) = told(tmp_path, table)
    assert (severity, line.split()[0]) == ("STOP", "E-BIDS-A24")


def test_the_command_check_tells_of_derivatives_and_containers(tmp_path, capsys):
    study = make_bids(tmp_path, people=["sub-01"])
    main(["index", "--study", str(study)])
    config = study / "config" / "config.yaml"
    sound = config.read_text()
    container = "container: {image: nowhere.sif, fs_license: nowhere.txt, templateflow: nowhere}"
    for more, code in (
        ("derivatives: nowhere", "E-BIDS-A21 nowhere:"),
        (container, "E-CONF-C08 nowhere.sif:"),
    ):
        config.write_text(sound + f"preprocessing: {{engine: fmriprep, fmriprep: {{{more}}}}}\n")
        capsys.readouterr()
        assert main(["check", "--study", str(study)]) == 1
        assert code in capsys.readouterr().out


# --- the container

PLACES = Places(*map(Path, ("/d/bids", "/s/out", "/s/work/sub-07", "/k/license.txt", "/t/flow")))
ASKED = [
    "/data", "/out", "participant", "--participant-label", "07",
    "--output-spaces", "MNI152NLin2009cAsym:res-2", "-w", "/work", "--fs-license-file", "/license.txt",
    "--nthreads", "8", "--mem", "14400", "--notrack", "--slice-time-ref", "0",
]  # fmt: skip


def command(runtime: str, image: str) -> list[str]:
    return command_line(
        runtime, image, PLACES, "07", res="2", options=["--slice-time-ref", "0"], threads=8, memory_mb=16000,
        user="1000:100",
    )  # fmt: skip


def test_the_command_line_of_apptainer():
    assert command("apptainer", "/i/fmriprep.sif") == [
        "apptainer", "run", "--cleanenv", "--home", "/s/work/sub-07/home:/home/fmriprep",
        "--env", "TEMPLATEFLOW_HOME=/templateflow",
        "--bind", "/d/bids:/data:ro", "--bind", "/s/out:/out", "--bind", "/s/work/sub-07:/work",
        "--bind", "/k/license.txt:/license.txt:ro", "--bind", "/t/flow:/templateflow",
        "/i/fmriprep.sif", *ASKED,
    ]  # fmt: skip


def test_the_command_line_of_docker():
    assert command("docker", "nipreps/fmriprep:25.2.5") == [
        "docker", "run", "--rm", "--user", "1000:100", "--env", "TEMPLATEFLOW_HOME=/templateflow",
        "--volume", "/d/bids:/data:ro", "--volume", "/s/out:/out", "--volume", "/s/work/sub-07:/work",
        "--volume", "/k/license.txt:/license.txt:ro", "--volume", "/t/flow:/templateflow",
        "nipreps/fmriprep:25.2.5", *ASKED,
    ]  # fmt: skip


def places_in(folder: Path) -> Places:
    return Places(folder / "bids", folder / "out", folder / "work", folder / "license", folder / "flow")


def test_a_failed_job_fails_with_its_last_line_and_keeps_the_work_directory(tmp_path):
    words, places = tmp_path / "logs" / "words.log", places_in(tmp_path)
    script = "import sys; print('recon-all started'); print('No space left'); sys.exit(3)"
    for attempt in (1, 2):
        with pytest.raises(
            RuntimeError, match=r"fMRIPrep ended with 3: No space left\. All it said: .*words\.log"
        ):
            run_participant([sys.executable, "-c", script], places, words)
        (places.work / "kept").touch()
        assert words.read_text().count("recon-all") == attempt
    assert (places.work / "kept").exists()
    with pytest.raises(RuntimeError, match="killed: too little memory or time"):
        run_participant([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], places, words)
    with pytest.raises(RuntimeError, match="apptainer-of-nowhere cannot be started: No such file"):
        run_participant(["apptainer-of-nowhere"], places, words)


def with_container(folder: Path, monkeypatch) -> dict:
    """A study folder in which nothing is missing for a container, and its settings."""
    programs = folder / "programs"
    for path in (programs / "apptainer", folder / "fmriprep.sif", folder / "license.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    fake.save(
        folder / f"flow/tpl-{fake.SPACE}/tpl-{fake.SPACE}_res-02_desc-brain_mask.nii.gz", fake.head()[0]
    )
    (folder / "bids").mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return {"image": "fmriprep.sif", "fs_license": "license.txt", "templateflow": "flow"}


def test_a_complete_container_setting_raises_no_problem(tmp_path, monkeypatch):
    container = with_container(tmp_path, monkeypatch)
    assert told(tmp_path, table_of(RAW), container=container) == []


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("image", "nowhere.sif", "nowhere.sif: there is no such image"),
        ("runtime", "docker", "docker is not on the PATH"),
        ("fs_license", "nowhere.txt", "licence is missing or empty"),
        ("templateflow", "nowhere", "res-02_desc-brain_mask.nii.gz: TemplateFlow does not hold"),
        ("work", "a:b", "a path with ':'"),
    ],
)
def test_what_a_container_lacks_stops_before_anything_runs(tmp_path, monkeypatch, key, value, says):
    container = with_container(tmp_path, monkeypatch) | {key: value}
    ((severity, line),) = told(tmp_path, table_of(RAW), container=container)
    assert severity == "STOP"
    assert line.startswith("E-CONF-C08")
    assert says in line


def test_a_container_may_not_write_into_the_dataset(tmp_path, monkeypatch):
    container = with_container(tmp_path, monkeypatch)
    ((_, line),) = told(tmp_path, table_of(RAW), container=container, derivatives="bids/derivatives/fmriprep")
    assert "would write into the BIDS folder" in line


@pytest.mark.parametrize(
    ("fmriprep", "says"),
    [
        (None, "nothing says where its outputs are"),
        ({"container": {"image": "x"}}, "container.fs_license: this key is missing"),
        (
            {"container": {"image": "x", "fs_license": "l", "templateflow": "t", "options": ["-w", "/x"]}},
            r"the workflow sets \['-w'\]",
        ),
        ({"res": "3", "container": {"image": "x", "fs_license": "l", "templateflow": "t"}}, '"1" or "2" mm'),
    ],
)
def test_contradictions_in_the_study_file_are_refused(fmriprep, says):
    with pytest.raises(ValueError, match=says):
        study_of(fmriprep)


GIVEN = {"image": "x", "fs_license": "l", "templateflow": "t"}


@pytest.mark.parametrize(
    "options",
    [
        ["--work", "/x"],
        ["--work=/x"],
        ["-w/x"],
        ["-vvw/x"],
        ["-vh"],
        ["--participant-lab", "02"],
        ["--participant_l=02"],
        ["--output-spaces", "T1w"],
        ["--n_cp", "64"],
        ["--bids-filter-file", "x.json"],
        ["--bids_filt", "x.json"],
        ["--anat-only"],
        ["--config", "x.toml"],
        ["--ver"],
        ["--"],
        ["participant"],
        ["; rm -rf /"],
        ["--dummy-scans", "$(id)"],
        ["--dummy-scans", "0\n--work-dir"],
    ],
)
def test_options_that_the_workflow_sets_or_a_shell_reads_are_refused_however_they_are_spelt(options):
    with pytest.raises(ValueError, match=r"container.options: .* Fix: "):
        study_of({"container": {**GIVEN, "options": options}})


@pytest.mark.parametrize(
    "options",
    [
        ["--slice-time-ref", "0"],
        ["--skull-strip-t1w", "force", "--dummy-scans=2", "--fd-spike-threshold", "0.9"],
        ["-vv", "--me-output-echos", "--use-syn-sdc", "--fs-no-reconall", "-t", "memory"],
        ["--output-layout-free-word", "a/b,c:d+e@f%g"],
    ],
)
def test_every_other_option_of_fmriprep_goes_through(options):
    assert study_of({"container": {**GIVEN, "options": options}})


@pytest.mark.parametrize(
    ("runtime", "image"),
    [
        ("docker", "--privileged"),
        ("docker", "-v/:/host"),
        ("docker", "nipreps/fmriprep:25.2.5 --privileged"),
        ("docker", ""),
        ("apptainer", "--fakeroot"),
        ("apptainer", "a.sif\n"),
    ],
)
def test_an_image_that_is_an_option_is_refused(runtime, image):
    with pytest.raises(ValueError, match=r"container.image: "):
        study_of({"container": {**GIVEN, "image": image, "runtime": runtime}})


@pytest.mark.parametrize(
    ("runtime", "image"),
    [
        ("docker", "nipreps/fmriprep:25.2.5"),
        ("docker", "registry.example.org:5000/fmriprep@sha256:0123abc"),
        ("apptainer", "docker://nipreps/fmriprep:25.2.5"),
        ("apptainer", "/imágenes del laboratorio/fmriprep.sif"),
    ],
)
def test_a_name_of_an_image_goes_through(runtime, image):
    assert study_of({"container": {**GIVEN, "image": image, "runtime": runtime}})


def test_gzip_damage_at_the_very_end_is_found(tmp_path):
    root = make(tmp_path, fake.GENERATIONS["23.1"])
    bold = find_run(root, RAW).bold
    content = bytearray(bold.read_bytes())
    content[-6] ^= 0xFF  # in the checksum
    bold.write_bytes(bytes(content))
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(bold.read_bytes())
    with pytest.raises(DataFault, match="E-DATA-B01"):
        adopt(tmp_path, root)


def test_the_metadata_names_its_sources(tmp_path):
    run, _ = adopt(tmp_path, make(tmp_path, fake.GENERATIONS["21.0"]))
    assert json.loads((tmp_path / "results" / "bold.json").read_text()) == run.metadata
    assert find_run(tmp_path / "fmriprep", RAW).bold.name in run.metadata["Sources"]
    assert run.metadata["Resolution"] == "12 x 12 x 12 mm"
