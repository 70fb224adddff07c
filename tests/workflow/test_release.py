"""What is released: wheel and source, file by file; metadata of the archive; the container recipes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS = ROOT / "containers"
BUILD = ("hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers")
# Everything in the package that is no Python, by its folder; a file of another kind is not meant to travel.
DATA = {
    "reconfmri/report": {".html.j2", ".css", ".js", ".tsv"},
    "reconfmri/scales/library": {".yaml"},
    "reconfmri/_workflow": {".smk", ".py", ".rst", ".yaml", ".json", ".lock", ""},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The names in the wheel and in the source archive, without its first folder."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(
        [*command, "--wheel", "--sdist"], capture_output=True, text=True, check=False, cwd=out
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with (
        zipfile.ZipFile(next(out.glob("*.whl"))) as wheel,
        tarfile.open(next(out.glob("*.tar.gz"))) as source,
    ):
        names = [item.name.partition("/")[2] for item in source.getmembers() if item.isfile()]
        return wheel.namelist(), names


def tracked(*folders: str) -> set[str]:
    """What git keeps, or would: a new file is one too."""
    every = ("--cached", "--others", "--exclude-standard")
    command = ["git", "-C", str(ROOT), "ls-files", *every, "--", *folders]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_the_wheel_holds_the_package_and_its_workflow_and_nothing_else(built):
    names = [name for name in built[0] if ".dist-info/" not in name]
    package = {name.removeprefix("src/") for name in tracked("src/reconfmri")}
    assert package <= set(names)
    assert {name for name in names if not name.startswith("reconfmri/_workflow/")} <= package
    for name in set(names) - {name for name in names if name.endswith(".py")}:
        folder = next((place for place in DATA if name.startswith(f"{place}/")), None)
        assert folder, name
        ending = re.search(r"(\.html\.j2|\.[^./]+|)$", name.rpartition("/")[2])[0]
        assert ending in DATA[folder], name
    assert {"reconfmri/report/report.js", "reconfmri/report/checklists.tsv"} <= set(names)
    assert "reconfmri/_workflow/workflow/rules/report.smk" in names


def test_the_source_holds_what_is_tracked_and_no_picture_of_a_brain(built):
    names = set(built[1]) - {"PKG-INFO"}
    assert names <= tracked()
    assert {
        "pyproject.toml",
        "LICENSE",
        "Snakefile",
        "containers/Dockerfile",
        "envs/requirements.lock",
    } <= names
    pictures = {name for name in names if name.endswith((".png", ".jpg", ".nii", ".nii.gz", ".gz"))}
    assert pictures <= {"docs/report.png"}


def test_the_archive_s_metadata_are_those_of_the_citation():
    archive = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    for name in ("title", "license", "keywords"):
        assert archive[name] == cited[name]
    assert [item["name"] for item in archive["creators"]] == [item["name"] for item in cited["authors"]]
    stated = re.search(
        r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert str(cited["version"]) == stated[1]


def test_both_recipes_install_from_the_lock_by_one_script_and_run_as_nobody_in_particular():
    docker = (CONTAINERS / "Dockerfile").read_text(encoding="utf-8")
    apptainer = (CONTAINERS / "reconfmri.def").read_text(encoding="utf-8")
    script = CONTAINERS / "install.sh"
    for recipe in (docker, apptainer):
        assert "containers/install.sh /source /opt/reconfmri" in recipe
        assert "python:3.11-slim-bookworm" in recipe
        assert "pip install" not in recipe
    assert 'ENTRYPOINT ["reconfmri"]' in docker
    assert "exec reconfmri" in apptainer
    assert docker.index("USER 1000:1000") < docker.index("ENTRYPOINT")
    installs = [line for line in script.read_text(encoding="utf-8").splitlines() if 'pip" install' in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    for shell in CONTAINERS.glob("*.sh"):
        assert subprocess.run(["sh", "-n", str(shell)], check=False).returncode == 0


def test_what_builds_the_package_is_pinned_with_hashes(tmp_path):
    """The lines that the script takes out of the lock of the tests: the six packages, with their hashes."""
    text = (CONTAINERS / "install.sh").read_text(encoding="utf-8")
    (command,) = re.findall(r"^awk .*?hatchling\.lock\"$", text, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        ["sh", "-c", f"source={ROOT} build={tmp_path}; {command}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "hatchling.lock").read_text(encoding="utf-8").splitlines()
    named = [line.partition("==")[0] for line in lines if re.match("[a-z]", line)]
    assert sorted(named) == sorted(BUILD)
    hashed = 0
    for line in reversed(lines):
        hashed += "--hash=sha256:" in line
        if re.match("[a-z]", line):
            assert hashed, line
            hashed = 0
