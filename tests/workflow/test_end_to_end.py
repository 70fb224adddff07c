"""One small trial through the whole workflow, in a hostile place: what comes out, reruns, never leaks."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import bids
import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK
import yaml
from nilearn.interfaces.fmriprep import load_confounds_strategy
from nitransforms import linear
from tests.browser import rate_by_keyboard
from tests.recovery.recover import answers_beside_truth, beside_truth, inside, line_of

from reconfmri.bids import read_run_table
from reconfmri.config import load_study
from reconfmri.contracts import questions
from reconfmri.itk import read_warp
from reconfmri.layout import layout_of
from reconfmri.registration import Volume, sample_map, to_itk, transform_points
from reconfmri.tables import read_table
from reconfmri.trial.flow import FLOW, unreconciled

ROOT = Path(__file__).resolve().parents[2]
DERIVATIVES = "results/derivatives"
GOLDEN = Path(__file__).with_name("end_to_end_files.txt")
TABLES = ("measures.tsv", "exclusions.tsv", "estimates.tsv")
ARMS = ("ketamine", "midazolam")
BROKEN = "sub-02_ses-2"
# One or two of every producer: the group models of all twelve would take longest here.
ANSWERED = [
    "amygdala.trauma_first-neutral_first",
    "hippocampus.trauma_first-neutral_first",
    "occipital.trauma_first-neutral_first",
    "amygdala-hippocampus.trauma",
    "scr.trauma_first",
    "pcl5.total",
]


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment as a poor cluster would: C locale, no HOME, no terminal."""
    place = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/nonexistent"}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**place, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        stdin=subprocess.DEVNULL,
    )


def snakemake(study: Path, *arguments: str, **environment: str) -> str:
    """Run the clone's workflow in `study` and return what it said."""
    command = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), *arguments]
    done = run(command, study, **environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


def planned(study: Path, *arguments: str, **environment: str) -> set[str]:
    """The rules that a dry run would execute."""
    text = snakemake(study, "--dry-run", "--quiet", "host", *arguments, **environment)
    lines = (line.split(":")[0].split() for line in text.splitlines())
    return {words[-1] for words in lines if words and words[0] in ("rule", "localrule")}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of four people and two sessions, one of its images cut short, its input read-only."""
    folder = tmp_path_factory.mktemp("e2e") / "tést dir ü $x"
    folder.mkdir()
    made = run(["reconfmri", "simulate", str(folder), "--participants", "4", "--seed", "1"], folder)
    assert made.returncode == 0, made.stderr
    settings = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    settings["sessions"] = settings["sessions"][:2]
    settings["group"] |= {"outcomes": ANSWERED, "families": {"circuit": ANSWERED[:2]}}
    settings["group"]["sampling"] = {"tune": 500, "draws": 500, "min_ess": 200, "max_r_hat": 1.05}
    (folder / "config").mkdir()
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    broken = next((folder / "bids").rglob(f"{BROKEN}_*_bold.nii.gz"))
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    for path in (folder / "bids").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    indexed = run(["reconfmri", "index"], folder)
    assert indexed.returncode == 0, indexed.stdout + indexed.stderr
    snakemake(folder, "--cores", "2")
    yield folder
    for path in (folder / "bids").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_every_result_is_there(study):
    for name in (
        *TABLES,
        "report.html",
        "headline.txt",
        "participants/index.html",
        "participants/sub-01.html",
    ):
        assert (study / "results" / name).stat().st_size > 0, name
    for name in TABLES:
        described = json.loads((study / "results" / name).with_suffix(".json").read_text())
        assert set(read_table(study / "results" / name).columns) == set(described)
    description = json.loads((study / DERIVATIVES / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"


def test_the_results_are_the_files_that_are_declared_and_no_others(study):
    """`GOLDEN` is the list a reviewer reads; after an intended change write it anew from `found`."""
    settings, scans = load_study(study / "config/config.yaml"), read_run_table(study / "config/runs.tsv")
    layout = layout_of(study, settings, scans)
    declared = {path for _, _, path in layout.files(settings, scans.to_dict("records"))}
    described = {f"{path.removesuffix('.tsv')}.json" for path in declared if path.endswith(".tsv")}
    found = sorted(
        path.relative_to(study).as_posix() for path in (study / "results").rglob("*") if path.is_file()
    )
    assert declared <= set(found)
    assert set(found) <= declared | described
    assert found == GOLDEN.read_text(encoding="utf-8").split()


def test_the_broken_scan_is_out_of_every_number_and_named(study):
    out = read_table(study / "results" / "exclusions.tsv")
    rows = out[(out["participant_id"] == "sub-02") & (out["session_id"] == "2")]
    assert rows["code"].tolist() == ["E-DATA-B01"]
    assert "bold.nii.gz" in rows["reason"].iloc[0]
    assert "Fix:" in rows["reason"].iloc[0]
    measures = read_table(study / "results" / "measures.tsv")
    lost = measures[(measures["participant_id"] == "sub-02") & (measures["session_id"] == "2")]
    assert set(lost["domain"]) == {"skin_conductance", "clinical"}
    assert "E-DATA-B01" in (study / "results" / "report.html").read_text(encoding="utf-8")


def test_all_declared_outcomes_are_answered_by_both_methods(study):
    estimates = read_table(study / "results" / "estimates.tsv")
    settings = yaml.safe_load((study / "config" / "config.yaml").read_text(encoding="utf-8"))
    assert set(estimates["outcome"]) == set(settings["group"]["outcomes"])
    assert {"bayes", "ancova", "welch"} <= set(estimates["method"])
    assert estimates["status"].notna().all()


def test_what_was_planted_comes_back(study):
    """The bounds of one seed of `make recover`: they catch errors of sign, unit, region and scale."""
    truth = json.loads((study / "bids/truth.json").read_text(encoding="utf-8"))
    measures = read_table(study / "results/measures.tsv", numeric=["value", "se"])
    scans = beside_truth(measures, truth).dropna(subset=["value"])
    active = scans[scans["domain"] == "activation"]
    slope, intercept = line_of(active["value"], active["psc_expected"])
    # Seven scans of 16 correlated rows: standard errors of about 0.12 and 0.04 %; bounds at 2.5 of them.
    assert 0.7 <= slope <= 1.3
    assert abs(intercept) <= 0.1
    skin = scans[scans["domain"] == "skin_conductance"]
    assert (skin["value"] - skin["psc_expected"]).abs().max() < 0.1  # ln µS; noise of 0.004 µS
    clinical = scans[scans["domain"] == "clinical"]
    assert (clinical["value"] - clinical["psc_expected"]).abs().max() <= 0.5 + 1e-6  # points are whole
    estimates = read_table(study / "results/estimates.tsv", numeric=["estimate", "lower", "upper"])
    allocation = read_table(study / "allocation.tsv")
    settings = load_study(study / "config/config.yaml")
    answers = answers_beside_truth(estimates, measures, truth, allocation, settings)
    # Two people per arm: ANCOVA has one degree of freedom; what is answered must hold the truth mostly.
    assert inside(answers[answers["reported"] == "true"], "truth").mean() >= 0.8


def test_the_flow_is_that_of_the_models(study):
    flow = FLOW.read(study / "results/group/flow.tsv")
    estimates = questions.specs()["estimates"].read(study / "results/estimates.tsv")
    settings = load_study(study / "config/config.yaml")
    assert unreconciled(flow, estimates, settings) == []
    lost = flow[flow["code"].notna() & (flow["stage"] == "readable")]
    assert lost[["session", "people", "code"]].to_numpy().tolist() == [["2", 1, "E-DATA-B01"]]
    assert not (flow["code"] == "W-STAT-C08").any(), "no loss without a reason"
    assert 'aria-label="Flow of participants' in (study / "results/group/flow.svg").read_text(
        encoding="utf-8"
    )


def test_a_second_run_does_nothing(study):
    assert "Nothing to be done" in snakemake(study, "--cores", "2")


def test_one_core_gives_the_same_bytes(study):
    before = {name: (study / "results" / name).read_bytes() for name in TABLES}
    shutil.rmtree(study / "results" / "derivatives" / "sub-01")
    for name in TABLES:
        (study / "results" / name).unlink()
    shutil.rmtree(study / "results" / "group")
    snakemake(study, "--cores", "1")
    assert {name: (study / "results" / name).read_bytes() for name in TABLES} == before


def test_editing_a_library_module_reruns_what_depends_on_it(study, tmp_path):
    copy = tmp_path / "src"
    for part in ("src", "workflow"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    assert planned(study, PYTHONPATH=str(copy)) == set()
    module = copy / "reconfmri" / "signal" / "connectivity.py"
    module.write_text(module.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    rules = planned(study, PYTHONPATH=str(copy))
    assert "estimate_connectivity" in rules
    assert rules & {"fit_first_level", "resample_run", "assess_quality", "score_scale"} == set()


def test_editing_a_setting_reruns_what_depends_on_it(study):
    path = study / "config" / "config.yaml"
    before, stamp = path.read_text(encoding="utf-8"), path.stat()
    try:
        path.write_text(before.replace("high_pass: 0.008", "high_pass: 0.01"), encoding="utf-8")
        rules = planned(study)
    finally:
        path.write_text(before, encoding="utf-8")
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert "fit_first_level" in rules
    assert (
        rules & {"estimate_connectivity", "resample_run", "assess_quality", "score_skin_conductance"} == set()
    )


def without_dates(study: Path, to: Path) -> Path:
    """A copy as `cp -r` makes one: every date is new, in the order of the copying."""
    shutil.copytree(study, to, copy_function=shutil.copyfile, symlinks=True)
    for path in (to / "bids").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return to


def test_a_copy_of_the_study_reruns_nothing(study, tmp_path):
    assert planned(without_dates(study, tmp_path / "copy")) == set()


def failed(study: Path, *arguments: str) -> str:
    """What Snakemake says of a run that must fail."""
    done = run(["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", *arguments], study)
    assert done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_table_of_a_producer_that_was_cut_stops_the_group(study, tmp_path):
    copy = without_dates(study, tmp_path / "copy")
    table = next((copy / "results/derivatives/sub-03").rglob("*_desc-activation_measures.tsv"))
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:3]))
    failed(copy)
    told = (copy / "logs/stack_measures/study.log").read_text().splitlines()[-1]
    assert "E-DATA-D03" in told
    assert table.name in told
    assert "rows are missing" in told


def test_a_damaged_file_is_found_and_made_again_byte_by_byte_and_nothing_else(study, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy, symlinks=True)
    intact = run(["reconfmri", "verify"], copy)
    assert intact.returncode == 0, intact.stdout + intact.stderr
    assert "nothing is recorded" not in intact.stdout
    place = next((copy / DERIVATIVES).rglob("*_desc-quality_measures.tsv"))
    before, dates = place.read_bytes(), place.stat()
    place.write_bytes(before.replace(b"1", b"2"))
    os.utime(place, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    ended = {log: log.stat().st_mtime_ns for log in copy.glob("logs/*/*.log")}
    repaired = run(["reconfmri", "verify", "--repair", "--n-cpus", "2"], copy)
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert f"damaged {place.relative_to(copy)}: " in repaired.stdout
    assert "byte-equal" in repaired.stdout
    assert place.read_bytes() == before
    again = [log.parent.name for log, at in ended.items() if log.stat().st_mtime_ns != at]
    assert again == ["assess_quality"]


def test_a_person_taken_out_by_hand_is_in_no_number_and_has_no_page(study, tmp_path):
    copy = without_dates(study, tmp_path / "copy")
    with (copy / "config/exclusions.tsv").open("a", encoding="utf-8") as stream:
        stream.write("sub-03\tn/a\tn/a\tn/a\tn/a\tgroup\tE-X\twithdrew\tJane Doe\n")
    before = read_table(copy / "results/measures.tsv")
    snakemake(copy, "--cores", "1", "results/measures.tsv", "results/participants/index.html")
    after = read_table(copy / "results/measures.tsv")
    assert "sub-03" not in set(after["participant_id"])
    assert after.equals(before[before["participant_id"] != "sub-03"].reset_index(drop=True))
    assert not (copy / "results/participants/sub-03.html").exists()
    assert "sub-03" not in (copy / "results/participants/index.html").read_text(encoding="utf-8")
    assert "fit_bayesian_models" in planned(copy), "the models follow"


def test_a_blinded_study_names_no_arm_until_it_is_unblinded(study, tmp_path):
    copy, names = without_dates(study, tmp_path / "copy"), {"ketamine": "quokka", "midazolam": "numbat"}
    path = copy / "config/config.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["question"] = "Is the response smaller?"
    arms = {key: names[arm] for key, arm in settings["group"]["arms"].items()}
    kept = {
        key: settings["group"][key]
        for key in ("primary", "sampling", "estimands")
        if key in settings["group"]
    }
    settings["group"] = kept | {"arms": arms, "blinding": "coded", "outcomes": [ANSWERED[0], "pcl5.total"]}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    allocation = (copy / "allocation.tsv").read_text(encoding="utf-8")
    for before, canary in names.items():
        allocation = allocation.replace(before, canary)
    (copy / "allocation.tsv").write_text(allocation, encoding="utf-8")
    assert "reconfmri blind" in failed(copy, "results/report.html")
    signed = ("--by", "A. Statistician", "--reason", "protocol")
    assert run(["reconfmri", "blind", *signed], copy).returncode == 0
    rated = rate_by_keyboard(copy, out="sub-04 ses-2 task-memory")
    assert run(["reconfmri", "decide", str(rated), *signed], copy).returncode == 0
    snakemake(copy, "--cores", "2", "results/report.html")
    for item in (item for place in ("results", "logs", ".snakemake") for item in (copy / place).rglob("*")):
        data = item.read_bytes() if item.is_file() else b""
        assert not [arm for arm in names.values() if arm.encode() in data or arm in item.name], item
    page = (copy / "results/report.html").read_text(encoding="utf-8")
    assert "Blinded: the arms are A and B" in page
    assert "Not locked" in page
    assert set(read_table(copy / "results/estimates.tsv")["stamp"]) <= {"not locked", "exploratory"}
    assert "two people per arm are needed, there are" in page
    assert not re.search(r"\d active and \d", page)
    flow = FLOW.read(copy / "results/group/flow.tsv")
    assert flow[flow["code"] == "E-DATA-Q01"]["people"].sum() > 0
    assert {*flow["arm"]} == {"all", "A", "B"}
    gone = read_table(copy / "results/measures.tsv").query("participant_id == 'sub-04' and session_id == '2'")
    assert set(gone["domain"]) == {"clinical"}
    coded = change_by_welch(copy)
    for command in ("lock", "unblind"):
        assert run(["reconfmri", command, *signed], copy).returncode == 0
        if command == "lock":
            rules = planned(copy)
            assert {"collect_estimates", "build_report"} <= rules
            assert not rules & {"stack_measures", "fit_frequentist_models", "fit_bayesian_models"}
    assert planned(copy) & {"resample_run", "fit_first_level", "stack_measures", "score_scale"} == set()
    table = "results/group/frequentist_estimates.tsv"
    snakemake(copy, "--cores", "2", table)
    named = change_by_welch(copy)
    assert abs(named) == pytest.approx(abs(coded)), "the same difference, or its negative"


def change_by_welch(study: Path) -> float:
    """The difference between the arms in the change of a scale."""
    table = read_table(study / "results/group/frequentist_estimates.tsv", numeric=["estimate"])
    asked = {"outcome": "pcl5.total", "estimand": "difference_of_change", "session": "2", "method": "welch"}
    (value,) = table.loc[(table[list(asked)] == pd.Series(asked)).all(axis=1), "estimate"]
    return float(value)


def test_no_arm_reaches_a_participant_level_file(study):
    group = (
        "results/group",
        "results/estimates",
        "results/report",
        "results/headline",
        "config/",
        "allocation",
    )
    group += (".snakemake", "bids/", "logs/build_report", "logs/fit_", "logs/collect_")
    group += ("logs/test_by_", "logs/examine_")
    for path in study.rglob("*"):
        place = path.relative_to(study).as_posix()
        if not path.is_file() or place.startswith(group):
            continue
        data = (
            gzip.decompress(path.read_bytes())
            if path.suffix == ".gz" and path.stat().st_size
            else path.read_bytes()
        )
        assert not [arm for arm in ARMS if arm.encode() in data or arm in place], place


def test_metadata_of_participant_level_outputs_holds_no_arm(study):
    seen = 0
    for path in (study / ".snakemake" / "metadata").rglob("*"):
        if path.is_file():
            record = path.read_text(encoding="utf-8")
            if "/derivatives/" in record and "sub-" in record and "allocation" not in record:
                seen += 1
                assert not [arm for arm in ARMS if arm in record], path.name
    assert seen > 0


def test_status_names_the_excluded_scan(study):
    done = run(["reconfmri", "status"], study)
    assert done.returncode == 0, done.stderr
    assert "E-DATA-B01" in done.stdout
    assert "\x1b[" not in done.stdout


# what other software makes of the derivatives


def run_of(study, person="01", session="1"):
    """The path of the preprocessed run of a person and session."""
    func = study / DERIVATIVES / f"sub-{person}" / f"ses-{session}" / "func"
    return next(func.glob("*_space-*_desc-preproc_bold.nii.gz"))


def test_the_validator_finds_no_error_in_the_derivatives(study):
    tool = Path(sys.executable).with_name("bids-validator-deno")
    command = [str(tool), "--json", "--ignoreWarnings", str(study / DERIVATIVES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert not [issue for issue in issues if issue["severity"] == "error"], issues[:5]


def test_pybids_reads_the_derivatives_beside_the_raw_data(study):
    layout = bids.BIDSLayout(study / "bids", validate=False)
    layout.add_derivatives(study / DERIVATIVES)
    asked = {"scope": "derivatives", "desc": "preproc", "suffix": "bold", "extension": ".nii.gz"}
    assert len(layout.get(**asked)) == 8
    (found,) = layout.get(subject="01", session="1", space="MNI152NLin2009cAsym", **asked)
    assert Path(found.path) == run_of(study)
    assert found.get_metadata()["SkullStripped"] is True
    assert layout.get(scope="derivatives", suffix="measures", task="memory", subject="01", session="1")


@pytest.mark.parametrize(
    ("strategy", "columns"),
    [
        ("simple", {"trans_x_derivative1_power2", "white_matter", "csf_derivative1", "cosine00"}),
        ("scrubbing", {"white_matter_power2", "csf_derivative1_power2", "rot_z_power2"}),
        ("compcor", {"a_comp_cor_00", "a_comp_cor_05", "rot_x_derivative1"}),
    ],
)
def test_nilearn_takes_every_strategy_from_our_confounds(study, strategy, columns):
    confounds, kept = load_confounds_strategy(str(run_of(study)), denoise_strategy=strategy)
    assert len(confounds) == nibabel.load(run_of(study)).shape[3]
    wanted = columns if strategy != "simple" else columns - {"csf_derivative1"} | {"csf"}
    assert wanted <= set(confounds)
    assert np.isfinite(confounds.to_numpy()[kept if kept is not None else slice(None)]).all()


def our_points(study, volume, points):
    """Where points of the template lie in a raw volume by our own reading of the same files, RAS mm."""
    run = run_of(study).name.partition("_space-")[0]
    known = json.loads((run_of(study).parent / f"{run}_desc-alignment_xfm.json").read_text())
    motion = np.array(known["head_motion"]).reshape(-1, 4, 4)[volume]
    to_t1w = np.array(known["boldref_to_t1w"]).reshape(4, 4)
    warp = next((study / DERIVATIVES / "sub-01/anat").glob("*_from-T1w_to-*_mode-image_xfm.nii.gz"))
    return transform_points(motion @ np.linalg.inv(to_t1w), sample_map(read_warp(warp), points))


def itk_chain(study, volume):
    """SimpleITK's own transform from points of the template to those of one raw volume, LPS mm."""
    run = run_of(study).name.partition("_space-")[0]
    func = run_of(study).parent
    motion = (func / f"{run}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt").read_text()
    head, *parts = motion.split("#Transform ")
    one = study / "one.tfm"
    one.write_text(head + "#Transform 0" + parts[volume].partition(str(volume))[2])
    warp = next((study / DERIVATIVES / "sub-01/anat").glob("*_from-T1w_to-*_mode-image_xfm.nii.gz"))
    field = SimpleITK.Cast(SimpleITK.ReadImage(str(warp)), SimpleITK.sitkVectorFloat64)
    chain = SimpleITK.CompositeTransform(3)  # the last is applied first
    chain.AddTransform(SimpleITK.ReadTransform(str(one)))
    chain.AddTransform(
        SimpleITK.ReadTransform(str(func / f"{run}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"))
    )
    chain.AddTransform(SimpleITK.DisplacementFieldTransform(field))
    return chain


def test_simpleitk_carries_a_raw_volume_to_where_we_have_it(study):
    """By the files alone: points to a millionth of a millimetre, and the volume that it resamples."""
    volume, ours = 60, nibabel.load(run_of(study))
    chain = itk_chain(study, volume)
    points = np.random.default_rng(1).uniform([-60, -90, -40], [60, 60, 70], (200, 3))
    lps = np.array([-1, -1, 1])
    carried = np.array([chain.TransformPoint((point * lps).tolist()) for point in points]) * lps
    np.testing.assert_allclose(carried, our_points(study, volume, points), atol=1e-6)
    raw = nibabel.load(next((study / "bids/sub-01/ses-1/func").glob("*_bold.nii.gz")))
    moving = to_itk(Volume(np.asarray(raw.dataobj[..., volume], np.float32), raw.affine))
    still = to_itk(Volume(np.asarray(ours.dataobj[..., volume], np.float32), ours.affine))
    theirs = SimpleITK.Resample(moving, still, chain, SimpleITK.sitkBSpline, 0.0)
    found, expected = SimpleITK.GetArrayFromImage(theirs), SimpleITK.GetArrayFromImage(still)
    inside = expected > np.percentile(expected[expected > 0], 5)
    apart = np.abs(found - expected)[inside] / expected[inside].mean()
    # measured: median 0.000005, largest 0.00002; splines begin differently at the edge of the field of view
    assert np.percentile(apart, 99) < 0.0005


def test_nitransforms_reads_the_same_points_and_writes_x5(study, tmp_path):
    run = run_of(study).name.partition("_space-")[0]
    func = run_of(study).parent
    coreg = func / f"{run}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"
    theirs = linear.load(coreg, fmt="itk")
    known = json.loads((func / f"{run}_desc-alignment_xfm.json").read_text())
    ours = np.linalg.inv(np.array(known["boldref_to_t1w"]).reshape(4, 4))
    np.testing.assert_allclose(theirs.matrix, ours, atol=1e-9)
    theirs.to_filename(tmp_path / "coreg.x5", fmt="X5")
    assert (tmp_path / "coreg.x5").stat().st_size > 0
