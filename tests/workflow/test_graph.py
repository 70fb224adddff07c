"""What the graph promises: lint, grain, linear planning, and that the arms reach group rules only."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from planned_study import ROOT, plan_study, snakemake

GROUP_RULES = {
    "fit_frequentist_models",
    "test_by_randomisation",
    "examine_missing_visits",
    "fit_bayesian_models",
    "collect_estimates",
    "compare_maps",
    "build_report",
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return plan_study(tmp_path_factory.mktemp("graph") / "study", participants=3)


@dataclass
class Job:
    rule: str
    inputs: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)


def jobs_of(study: Path, *asked: str) -> list[Job]:
    """Every job of the study, or of what is asked for, as a dry run prints it."""
    jobs: list[Job] = []
    for line in snakemake(study, "--dry-run", *(asked or ("all", "all_participant"))).stdout.splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind in ("rule", "localrule"):
            jobs.append(Job(rest.rstrip(":")))
        elif kind in ("input:", "output:"):
            files = set(rest.split(", "))
            jobs[-1] = replace(jobs[-1], **{kind.replace(":", "s"): files})
    return jobs


def test_lint_finds_nothing(study):
    done = snakemake(study, "--lint", check=False)
    assert "Congratulations" in done.stdout + done.stderr, done.stdout + done.stderr


def reached_from(start: str, jobs: list[Job]) -> set[str]:
    """Files that are made from `start`, directly or through others."""
    reached = {start}
    while grown := {out for job in jobs if job.inputs & reached for out in job.outputs} - reached:
        reached |= grown
    return reached - {start}


def test_no_path_leads_from_the_allocation_to_a_participant_level_rule(study):
    jobs = jobs_of(study)
    reached = reached_from("allocation.tsv", jobs)
    assert {job.rule for job in jobs if job.outputs & reached} - {"all"} == GROUP_RULES
    assert not [name for name in reached if "sub-" in name]


def test_the_walk_through_the_graph_would_find_a_leak(study):
    """From a raw image the same walk does reach participant-level files and, by the measures, the arms."""
    jobs = jobs_of(study)
    scan = "sub-001_ses-2_task-memory_run-1"
    reached = reached_from(f"bids/sub-001/ses-2/func/{scan}_bold.nii.gz", jobs)
    rules = {job.rule for job in jobs if job.outputs & reached}
    assert {"align_run", "fit_first_level", "assess_quality"} | GROUP_RULES <= rules


def test_a_scan_costs_fewer_than_ten_jobs(study):
    scan = "sub-001_ses-2_task-memory_run-1"
    made = [job.rule for job in jobs_of(study) if any(scan in name for name in job.outputs)]
    assert 5 < len(made) < 10


def test_some_people_get_their_pages_and_no_index_of_some(study):
    asked = jobs_of(study, "all_participant", "--config", "only_participants=001,003,")
    pages = {name for job in asked for name in job.outputs if name.startswith("results/participants")}
    alone = jobs_of(study, "all_participant", "--config", "only_participants=001")
    lone, both = ({name for job in jobs for name in job.outputs} for jobs in (alone, asked))
    assert "results/participants/sub-001.html" in lone < both, "a lone label is no number"
    assert pages == {f"results/participants/sub-{person}.html" for person in ("001", "003")}
    everybody = {name for job in jobs_of(study, "all_participant") for name in job.outputs}
    assert {"results/participants/index.html", "results/participants/sub-002.html"} <= everybody


def test_the_groups_of_the_cluster_profile_hang_together(study):
    """Jobs of a group are submitted as one: no job of another group may stand between them."""
    profile = ROOT / "workflow" / "profiles" / "slurm"
    planned = snakemake(study, "--dry-run", "--quiet", "rules", "--workflow-profile", str(profile))
    assert "WorkflowError" not in planned.stdout + planned.stderr


def test_planning_400_scans_is_fast_and_grows_linearly(tmp_path):
    seconds = {}
    for people in (12, 50):
        study = plan_study(tmp_path / str(people), participants=people, sessions=4, runs=2)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        snakemake(study, "--dry-run", "--quiet", "rules")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # processor time: planning is one process, and other tests run beside this one
        seconds[people] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds[50] < 18
    # Four times the scans: at most four times the time, as start-up is in both.
    assert seconds[50] < 4 * seconds[12]


def test_missing_run_table_says_what_to_do(tmp_path):
    study = plan_study(tmp_path / "study", participants=1)
    (study / "config" / "runs.tsv").unlink()
    done = snakemake(study, "--dry-run", check=False)
    assert done.returncode != 0
    assert "runs.tsv" in done.stderr + done.stdout
    assert "reconfmri index" in done.stderr + done.stdout


def test_the_workflow_plans_without_arms_sessions_or_runs(tmp_path):
    study = plan_study(tmp_path / "study", participants=1, sessions=1)
    table = study / "config" / "runs.tsv"
    header, row = table.read_text().splitlines()
    cells = row.split("\t")
    cells[1] = cells[3] = "n/a"
    cells[6] = cells[7] = cells[6]
    cells[2] = "objectcategories"
    table.write_text(header + "\n" + "\t".join(cells) + "\n")
    config = (ROOT / "config" / "trials" / "studyforrest_sub02.yaml").read_text()
    (study / "config" / "config.yaml").write_text(config)
    planned = snakemake(study, "--dry-run", "--quiet", "rules").stdout
    assert "estimates" not in planned
    made = " ".join(name for job in jobs_of(study) for name in job.outputs)
    assert "sub-001_task-objectcategories_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz" in made


@pytest.mark.parametrize(
    ("mode", "images"),
    [
        ("unbiased", [{"1", "2"}]),
        ("baseline", [{"1"}]),
        ("sessionwise", [{"1"}, {"2"}]),
    ],
)
def test_an_anatomy_is_made_from_the_sessions_that_the_study_asks_for(tmp_path, mode, images):
    study = plan_study(tmp_path / "study", participants=1, sessions=2)
    own = "sub-001/ses-2/anat/sub-001_ses-2_T1w.nii.gz"
    (study / "bids" / own).parent.mkdir()
    (study / "bids" / own).touch()
    table = study / "config" / "runs.tsv"
    lines = table.read_text().splitlines()
    lines[2] = lines[2].replace("sub-001/ses-1/anat/sub-001_ses-1_T1w.nii.gz", own)
    table.write_text("\n".join(lines) + "\n")
    config = study / "config" / "config.yaml"
    config.write_text(config.read_text().replace("preprocessing:\n", f"preprocessing:\n  anatomy: {mode}\n"))
    jobs = [job for job in jobs_of(study) if job.rule == "prepare_anatomy"]
    found = [{name.partition("_ses-")[2][0] for name in job.inputs if "_T1w" in name} for job in jobs]
    assert sorted(found, key=sorted) == images
    aligned = [job for job in jobs_of(study) if job.rule == "align_run"]
    anatomies = {name for job in aligned for name in job.inputs if "desc-preproc_T1w.nii.gz" in name}
    assert len(anatomies) == len(images)


def test_generated_documents_are_fresh():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
