"""What the graph promises: lint, grain, linear planning, and that the arms reach group rules only."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from planned_study import ROOT, plan_study, snakemake

GROUP_RULES = {
    "fit_frequentist_models",
    "fit_bayesian_models",
    "collect_estimates",
    "build_report",
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return plan_study(tmp_path_factory.mktemp("graph") / "study", participants=3)


def files_of(study: Path) -> list[dict[str, str]]:
    """One row per planned file: output_file, rule, input-file(s)."""
    text = snakemake(study, "--detailed-summary", "all", "all_participant").stdout
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def test_lint_finds_nothing(study):
    done = snakemake(study, "--lint", check=False)
    assert "Congratulations" in done.stdout + done.stderr, done.stdout + done.stderr


def test_no_path_leads_from_the_allocation_to_a_participant_level_rule(study):
    rows = files_of(study)
    made_from = {row["output_file"]: set(row["input-file(s)"].split(",")) for row in rows}
    reached = {"allocation.tsv"}
    while grown := {out for out, given in made_from.items() if given & reached} - reached:
        reached |= grown
    rules = {row["rule"] for row in rows if row["output_file"] in reached}
    assert rules == GROUP_RULES
    assert not [name for name in reached if "sub-" in name]


def test_a_graph_that_leaks_the_arm_would_be_caught(study):
    """The walk above is not vacuous: what follows from the stacked measures includes the group rules."""
    rows = files_of(study)
    assert {"assess_quality", "fit_first_level"} <= {row["rule"] for row in rows}
    assert any("allocation.tsv" in row["input-file(s)"] for row in rows)


def test_a_scan_costs_fewer_than_ten_jobs(study):
    rows = files_of(study)
    scan = "sub-001_ses-2_task-memory_run-1"
    assert len({row["rule"] for row in rows if scan in row["output_file"]}) < 10


def test_planning_800_scans_is_fast_and_grows_linearly(tmp_path):
    seconds = {}
    for people in (25, 100):
        study = plan_study(tmp_path / str(people), participants=people, sessions=4, runs=2)
        started = time.monotonic()
        done = snakemake(study, "--dry-run", "--quiet", "rules")
        seconds[people] = time.monotonic() - started
        assert done.returncode == 0
    assert seconds[100] < 30
    # Four times the scans: at most five times the time, start-up included on both sides.
    assert seconds[100] < 5 * seconds[25]


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
    assert "sub-001_task-objectcategories_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz" in " ".join(
        row["output_file"] for row in files_of(study)
    )


def test_generated_documents_are_fresh():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
