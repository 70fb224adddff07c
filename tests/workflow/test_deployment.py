"""The workflow where others look for it: the workflow catalog's way in, the wheel, the conda environment."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).parent))
from planned_study import ROOT, plan_study

# What snakedeploy writes for `deploy-workflow`, with a folder in the place of a repository.
DEPLOYED = """
from snakemake.utils import min_version
min_version("9.0")

configfile: "config/config.yaml"

module reconfmri:
    snakefile:
        {snakefile!r}
    config:
        config

use rule * from reconfmri
"""


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Return what a command of the environment prints."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], cwd=cwd, env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return plan_study(tmp_path_factory.mktemp("deployed") / "study", participants=1, sessions=2)


def deployed(study: Path) -> Path:
    made = study / "workflow" / "Snakefile"
    made.parent.mkdir(exist_ok=True)
    made.write_text(DEPLOYED.format(snakefile=str(ROOT / "workflow" / "Snakefile")))
    return made


@pytest.mark.parametrize("way", ["snakedeploy", "workflow/Snakefile"])
def test_the_catalogs_ways_in_plan_everything_and_run(study, way):
    """`workflow/Snakefile` planned nothing once, when its include lost the default target."""
    snakefile = deployed(study) if way == "snakedeploy" else ROOT / "workflow" / "Snakefile"
    planned = run("snakemake", "-s", snakefile, "--dry-run", "--quiet", "rules", cwd=study)
    assert {"prepare_anatomy", "fit_bayesian_models", "build_report"} <= set(planned.split())
    target = study / "results/derivatives/dataset_description.json"
    target.unlink(missing_ok=True)
    run("snakemake", "-s", snakefile, "--cores", "1", target.relative_to(study), cwd=study)
    assert "reconfmri" in target.read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run("build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


def test_the_workflow_inside_the_wheel_plans_a_study(study, wheel):
    place = wheel.parent / "installed"
    run("uv", "pip", "install", "--quiet", "--no-deps", "--target", place, wheel, cwd=place.parent)
    seen = {"PYTHONPATH": str(place)}
    assert "init" in run("reconfmri", "--help", cwd=study, **seen)
    inside = place / "reconfmri/_workflow/Snakefile"
    planned = run("snakemake", "-s", inside, "--dry-run", "--quiet", "rules", cwd=study, **seen)
    assert {"prepare_anatomy", "build_report"} <= set(planned.split())
    assert (place / "reconfmri/_workflow/workflow/profiles/slurm/config.yaml").is_file()


def test_the_conda_environment_is_the_locked_one_and_fits_the_wheel():
    """As far as is known without conda: its pins are those installed here, and satisfy the package."""
    described = yaml.safe_load((ROOT / "envs" / "reconfmri.yaml").read_text())
    assert described["dependencies"][:2] == ["python=3.11", "pip"]
    *pins, source = described["dependencies"][2]["pip"]
    assert source == "${RECONFMRI_SOURCE}"
    versions = dict(pin.split("==") for pin in pins)
    for name, version in versions.items():
        assert importlib.metadata.version(name) == version
    wanted = [Requirement(text) for text in importlib.metadata.requires("reconfmri")]
    for requirement in wanted:
        if requirement.marker is None:
            assert versions[requirement.name.lower()] in requirement.specifier, requirement
