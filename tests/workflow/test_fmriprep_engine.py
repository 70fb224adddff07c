"""The workflow with `engine: fmriprep`: existing outputs go through to the first level; a container's job."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from reconfmri import registration, templates
from reconfmri.cli.status import states
from reconfmri.events import event_response
from reconfmri.exclusions import COLUMNS as EXCLUSION_COLUMNS
from reconfmri.tables import read_table, write_table

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import fake_fmriprep as fake
from planned_study import COLUMNS, HASH, ROOT, plan_study, snakemake
from test_freshness import planned
from test_graph import GROUP_RULES, jobs_of, reached_from

MADE = fake.GENERATIONS["25.2"]
N, TR, START = 80, 2.0, 1.1
FUNC = "results/derivatives/sub-01/ses-1/func"
RUN_1 = "sub-01_ses-1_task-memory_run-1"
PLANTED = 1.0  # percent, trauma minus neutral


def raw_of(run: int) -> str:
    return f"sub-01/ses-1/func/sub-01_ses-1_task-memory_run-{run}_bold.nii.gz"


def expected() -> np.ndarray:
    """The response to the trauma script, one at its peak; fMRIPrep aligned the slices to START."""
    answer = event_response(START + TR * np.arange(N) - 20, 30, "glover")
    return answer / event_response(np.arange(0, 60, 0.05), 30, "glover").max()


def series(brain: np.ndarray) -> np.ndarray:
    """Every voxel of the brain answers to the trauma script with one percent at the peak."""
    answer = expected()
    noise = np.random.default_rng(5).normal(scale=3, size=(*brain.shape, N))
    return np.where(brain[..., None], 800 * (1 + PLANTED / 100 * answer) + noise, 0).astype(np.int16)


def settings(fmriprep: dict) -> str:
    """The demo's study file for two runs of one person without arms."""
    study = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    study["preprocessing"] = {"engine": "fmriprep", "fmriprep": fmriprep}
    study["sessions"], study["scales"], study["group"] = study["sessions"][:1], {}, "none"
    study["first_level"]["contrasts"] = {"trauma-neutral": {"trauma": 1, "neutral": -1}}
    study["first_level"]["maps"] = []
    study["rois"]["regions"]["own"] = {"segmentation": ["Right-Amygdala"]}
    study["first_level"]["script_contrasts"] = {}  # two scripts cannot tell order from condition
    del study["skin_conductance"], study["connectivity"]
    return yaml.safe_dump(study)


def segmentation(brain: np.ndarray) -> np.ndarray:
    """Cortex, and a right amygdala of 27 voxels."""
    labels = np.where(brain, 42, 0).astype(np.int16)
    x, y, z = (size // 2 for size in brain.shape)
    labels[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = 54
    return labels


def head_in_template() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tissue (1 grey, 2 white, 3 fluid), T1w and affine: the template's brain on a grid of 4 mm."""
    shape, affine = templates.target_grid(4.0)
    brain = registration.read_volume(templates.target_brain())
    t1w = registration.sample(brain, registration.grid_points(shape, affine), order=0)
    brightness = np.digitize(t1w, np.quantile(t1w[t1w > 0], [0.2, 0.6]))
    return np.where(t1w > 0, np.array([3, 1, 2])[brightness], 0), t1w, affine


def write_raw(folder: Path, runs: int) -> None:
    """Raw files without voxels, which nothing here reads, true events, and the run table."""
    text = "onset\tduration\ttrial_type\n20\t30\ttrauma\n90\t30\trelax\n"
    hashes = [HASH, HASH, hashlib.sha256(text.encode()).hexdigest(), HASH]
    rows = ["\t".join(COLUMNS)]
    for run in range(1, runs + 1):
        bold, events = raw_of(run), raw_of(run).replace("bold.nii.gz", "events.tsv")
        files = [bold, "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", events, "n/a"]
        for name in files[:3]:
            (folder / "bids" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "bids" / name).write_text(text if name == events else "")
        rows.append("\t".join(["sub-01", "1", "memory", str(run), *files, str(TR), str(N), *hashes]))
    (folder / "config").mkdir()
    (folder / "config" / "runs.tsv").write_text("\n".join(rows) + "\n")
    (folder / "config" / "exclusions.tsv").write_text("\t".join(EXCLUSION_COLUMNS) + "\n")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study: run 1 has outputs of fMRIPrep, run 2 has none."""
    folder = tmp_path_factory.mktemp("fmriprep") / "study"
    root, (tissue, t1w, affine) = folder / "fmriprep", head_in_template()
    fake.write_dataset(root, MADE)
    fake.write_anatomy(root, MADE, "sub-01", images=(tissue, t1w, affine))
    timing = {"SliceTimingCorrected": True, "StartTime": START}
    fake.write_run(root, MADE, raw_of(1), series(t1w > 0), affine=affine, mask=t1w > 0, tr=TR, extra=timing)
    own = raw_of(1).replace("_bold.nii.gz", f"_space-{fake.SPACE}_res-2_desc-aseg_dseg.nii.gz")
    fake.save(root / own, segmentation(t1w > 0), affine)
    write_raw(folder, runs=2)
    (folder / "config" / "config.yaml").write_text(settings({"derivatives": "fmriprep"}))
    for path in root.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    snakemake(folder, "--cores", "2")
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    yield folder
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_the_planted_answer_comes_out_at_the_first_level(study):
    rows = read_table(study / FUNC / f"{RUN_1}_desc-activation_measures.tsv", numeric=["value", "se"])
    found = rows.set_index("outcome").loc[["amygdala.trauma-neutral", "occipital.trauma-neutral"]]
    assert (abs(found["value"] - PLANTED) < 4 * found["se"]).all(), found
    assert (found["se"] < 0.1).all()


def test_a_region_of_the_persons_own_segmentation_has_its_voxels_and_answers(study):
    coverage = read_table(study / FUNC / f"{RUN_1}_seg-study_coverage.tsv", numeric=["n_voxels", "coverage"])
    assert coverage.set_index("region").loc["own", ["n_voxels", "coverage"]].tolist() == [27, 1]
    rows = read_table(study / FUNC / f"{RUN_1}_desc-activation_measures.tsv", numeric=["value", "se"])
    found = rows.set_index("outcome").loc["own.trauma-neutral"]
    assert abs(found["value"] - PLANTED) < 4 * found["se"]


def test_responses_are_sampled_at_the_moment_that_slices_were_aligned_to(study):
    design = read_table(study / FUNC / f"{RUN_1}_design.tsv").astype(float)
    np.testing.assert_allclose(design["trauma_1"], expected(), atol=1e-4)


def test_quality_has_numbers_and_pictures(study):
    rows = read_table(study / FUNC / f"{RUN_1}_desc-quality_measures.tsv", numeric=["value"])
    values = rows.set_index("outcome")["value"]
    assert 150 < values["tsnr.median"] < 350  # 800 over noise of 3, rounding and the answer
    assert values["coverage.lowest"] > 0.9
    for kind in ("edges", "outlines"):
        assert (study / FUNC / f"{RUN_1}_desc-{kind}_bold.png").stat().st_size > 5000


def test_the_series_is_a_link_into_the_derivatives(study):
    series = study / FUNC / f"{RUN_1}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
    assert series.is_symlink()
    assert not series.readlink().is_absolute()
    assert (study / "fmriprep") in series.resolve().parents


def test_a_run_without_outputs_is_out_with_its_reason(study):
    rows = read_table(study / FUNC / f"{RUN_1.replace('run-1', 'run-2')}_desc-activation_exclusions.tsv")
    assert rows["code"].tolist() == ["E-BIDS-A21"]
    assert rows["stage"].tolist() == ["adopt_fmriprep_run"]


def test_the_report_says_who_made_the_data(study):
    page = (study / "results" / "report.html").read_text()
    assert "Preprocessed data are those of fMRIPrep (version 25.2.5), run before and outside" in page
    assert "E-BIDS-A21" in page


def test_the_participants_page_shows_the_anatomy(study):
    page = (study / "results/participants/sub-01.html").read_text()
    picture = "results/derivatives/sub-01/anat/sub-01_desc-regions_T1w.png"
    assert f'src="../{picture.removeprefix("results/")}"' in page
    assert (study / picture).stat().st_size > 20_000
    assert "Made from sub-01_space-MNI152NLin2009cAsym_res-2_desc-preproc_T1w.nii.gz." in page


def test_status_shows_the_stages_of_this_engine(study):
    cells = {(cell.unit, cell.stage): cell.state for cell in states(study)}
    assert {stage for _, stage in cells} >= {"adoption", "anatomy", "signals", "quality", "first level"}
    assert not {"alignment", "resampling", "fMRIPrep"} & {stage for _, stage in cells}
    assert "failed" not in cells.values()


def test_nothing_reruns_until_an_output_of_fmriprep_changes(study):
    assert "Nothing to be done" in snakemake(study, "--dry-run").stdout
    (series,) = (study / "fmriprep").rglob("*run-1*desc-preproc_bold.nii.gz")
    os.utime(series)
    assert "Nothing to be done" in snakemake(study, "--dry-run").stdout  # the same contents under a new date
    was = series.read_bytes()
    series.write_bytes(was + b"\0")
    try:
        again = snakemake(study, "--dry-run", "--quiet", "host").stdout
    finally:
        series.write_bytes(was)
    assert "rule adopt_fmriprep_run" in again
    assert "rule extract_region_signals" in again


def test_an_edited_confounds_table_makes_its_dependents_again_and_nothing_else(study):
    (path,) = (study / "fmriprep").rglob("*run-1*desc-confounds_timeseries.tsv")
    text, was = path.read_text(), path.stat()
    table = read_table(path)
    table.loc[5, "rot_x"] = "0.001"
    path.chmod(0o644)
    try:
        write_table(path, table)
        jobs = planned(study, "all", "all_participant")
    finally:
        path.write_text(text)
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        path.chmod(0o444)
    run = "sub=01, ses=1, task=memory, run=1"
    once = ("adopt_fmriprep_run", "extract_region_signals", "assess_quality")
    assert [jobs.pop(rule) for rule in once] == [{run}] * 3
    # The runs of a person are compared with one another; what is left out there holds for each.
    assert jobs.pop("compare_sessions") == {"sub=01"}
    assert jobs.pop("fit_first_level") == {run, run.replace("run=1", "run=2")}
    tables = {"stack_measures", "stack_exclusions", "audit_sessions", "describe_participants", "build_report"}
    assert set(jobs) == tables


def test_a_column_without_any_value_stops_the_workflow_before_any_job(study):
    (path,) = (study / "fmriprep").rglob("*desc-confounds_timeseries.tsv")
    text, was = path.read_text(), path.stat()
    path.chmod(0o644)
    try:
        write_table(path, read_table(path).assign(rot_x=None))
        done = snakemake(study, "--dry-run", check=False)
    finally:
        path.write_text(text)
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        path.chmod(0o444)
    assert done.returncode != 0
    told = done.stdout + done.stderr
    assert "E-BIDS-B11" in told
    assert "'rot_x'" in told


# A container's job: the program that is called is a stand-in, which copies what was made before.
APPTAINER = """#!{python}
import pathlib, shutil, sys
words = sys.argv[1:]
called = pathlib.Path({record!r})
called.write_text((called.read_text() if called.exists() else "") + " ".join(words) + chr(10))
label = words[words.index("--participant-label") + 1]
if label == "001" and called.read_text().count("--participant-label 001") == 1:
    print("out of memory")
    sys.exit(137)
out = next(word.split(":")[0] for word in words if word.endswith(":/out"))
person = "sub-" + label
shutil.copytree(pathlib.Path({made!r}) / person, pathlib.Path(out) / person, dirs_exist_ok=True)
"""


@pytest.fixture
def with_container(tmp_path, monkeypatch):
    """A study of two people whose container is a stand-in, and the file that records how it was called."""
    folder, made, called = (
        plan_study(tmp_path / "study", participants=2, sessions=2),
        tmp_path / "made",
        tmp_path / "calls",
    )
    program = tmp_path / "programs" / "apptainer"
    program.parent.mkdir()
    program.write_text(APPTAINER.format(python=sys.executable, record=str(called), made=str(made)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name in ("fmriprep.sif", "license.txt"):
        (folder / name).write_text("x")
    fake.save(
        folder / f"flow/tpl-{fake.SPACE}/tpl-{fake.SPACE}_res-02_desc-brain_mask.nii.gz", fake.head()[0]
    )
    study = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    container = {"image": "fmriprep.sif", "fs_license": "license.txt", "templateflow": "flow"}
    study["preprocessing"] = {"engine": "fmriprep", "fmriprep": {"container": container}}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(study))
    for person in ("sub-001", "sub-002"):
        fake.write_anatomy(made, MADE, person)
        for session in ("1", "2") if person == "sub-001" else ("1",):
            raw = f"{person}/ses-{session}/func/{person}_ses-{session}_task-memory_run-1_bold.nii.gz"
            fake.write_run(made, MADE, raw, fake.small_series(120))
    return folder, called


def test_a_container_is_one_job_per_participant_and_lint_finds_nothing(with_container):
    folder, _ = with_container
    jobs = jobs_of(folder)
    assert sum(job.rule == "run_fmriprep" for job in jobs) == 2
    assert sum(job.rule == "adopt_fmriprep_run" for job in jobs) == 4
    reached = reached_from("allocation.tsv", jobs)
    assert {job.rule for job in jobs if job.outputs & reached} - {"all"} == GROUP_RULES
    done = snakemake(folder, "--lint", check=False)
    assert "Congratulations" in done.stdout + done.stderr, done.stdout + done.stderr


def test_a_failed_job_is_retried_with_more_memory_and_incomplete_outputs_are_excluded(with_container):
    folder, called = with_container
    stem = (
        "results/derivatives/sub-{0}/ses-{1}/func/sub-{0}_ses-{1}_task-memory_run-1_desc-adopt_exclusions.tsv"
    )
    scans = [("001", "1"), ("001", "2"), ("002", "1"), ("002", "2")]
    snakemake(folder, "--cores", "1", *(stem.format(*scan) for scan in scans))
    calls = [line.split() for line in called.read_text().splitlines()]
    asked = [
        (words[words.index("--participant-label") + 1], words[words.index("--mem") + 1]) for words in calls
    ]
    assert sorted(asked) == [("001", "14400"), ("001", "28800"), ("002", "14400")]
    kept = folder / "work" / "fmriprep"  # a folder per participant, the same at every attempt
    for words, (person, _) in zip(calls, asked, strict=True):
        assert f"{kept / f'sub-{person}'}:/work" in words
    codes = {scan: read_table(folder / stem.format(*scan))["code"].tolist() for scan in scans}
    assert codes == {scan: ["E-BIDS-A21"] if scan == ("002", "2") else [] for scan in scans}


def test_what_is_missing_stops_the_workflow_before_any_job(with_container):
    folder, called = with_container
    (folder / "license.txt").unlink()
    done = snakemake(folder, "--cores", "1", check=False)
    assert done.returncode != 0
    assert "E-CONF-C08" in done.stderr
    assert "licence is missing" in done.stderr
    assert not called.exists()
