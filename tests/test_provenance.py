"""Provenance: a hash that follows imports, versions, the packaged workflow, logs with the last words."""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings

import pytest

import reconfmri
from reconfmri import provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's files whose edits touch nobody."""
    copy = tmp_path / "reconfmri"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    provenance._imports_of.cache_clear()
    yield copy
    provenance._imports_of.cache_clear()


def touch(path):
    path.write_text(path.read_text() + "\n# edited\n")


def test_the_hash_follows_the_module_and_what_it_imports(package):
    before = {name: provenance.code_of(name) for name in ("indexing", "exclusions", "provenance")}
    touch(package / "exclusions.py")
    assert provenance.code_of("exclusions") != before["exclusions"]
    assert provenance.code_of("indexing") != before["indexing"], "indexing imports exclusions"
    assert provenance.code_of("provenance") == before["provenance"], "provenance does not"


def test_the_hash_follows_imports_of_imports_and_of_functions(package):
    (package / "one.py").write_text("def f():\n    from reconfmri import two\n")
    (package / "two.py").write_text("import reconfmri.three\n")
    (package / "three.py").write_text("x = 1\n")
    before = provenance.code_of("one")
    touch(package / "three.py")
    assert provenance.code_of("one") != before


def test_a_misspelt_module_is_refused():
    with pytest.raises(ValueError, match="no module reconfmri.first_levl"):
        provenance.code_of("first_levl")


def test_versions_name_the_package_and_what_it_stands_on():
    versions = provenance.software_versions()
    assert versions["reconfmri"] == reconfmri.__version__
    assert {"python", "numpy", "nibabel", "snakemake"} <= set(versions)
    assert "pytest" not in versions


def test_derivatives_say_who_made_them():
    described = json.loads(provenance.describe_dataset("Ü", generated_from="../bids"))
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"] == [{"Name": "reconfmri", "Version": reconfmri.__version__}]
    assert described["SourceDatasets"] == [{"URL": "../bids"}]


def test_the_workflow_is_found():
    assert (provenance.workflow_folder() / "workflow/rules/common.smk").is_file()


def test_the_packaged_workflow_comes_first(package):
    (package / "_workflow").mkdir()
    (package / "_workflow/Snakefile").touch()
    assert provenance.workflow_folder() == package / "_workflow"


def test_no_workflow_at_all_says_reinstall(package):
    with pytest.raises(FileNotFoundError, match="reinstall"):
        provenance.workflow_folder()


def test_a_clone_or_a_named_wheel_is_what_pip_installs(monkeypatch, tmp_path):
    clone, wheel = tmp_path / "clone", tmp_path / "reconfmri.whl"
    (clone / "src/reconfmri").mkdir(parents=True)
    monkeypatch.setattr(provenance, "PACKAGE", clone / "src/reconfmri")
    monkeypatch.setenv("RECONFMRI_SOURCE", "")
    with pytest.raises(FileNotFoundError, match="Mend: export RECONFMRI_SOURCE"):
        provenance.export_package_source()
    (clone / "pyproject.toml").touch()
    provenance.export_package_source()
    assert os.environ["RECONFMRI_SOURCE"] == str(clone)
    monkeypatch.setenv("RECONFMRI_SOURCE", str(wheel))
    with pytest.raises(FileNotFoundError, match=r"reconfmri.whl is none"):
        provenance.export_package_source()
    wheel.touch()
    provenance.export_package_source()
    assert os.environ["RECONFMRI_SOURCE"] == str(wheel)


def test_a_log_holds_records_warnings_and_the_traceback(tmp_path):
    path = tmp_path / "logs" / "step.log"

    def step():
        with provenance.log_to(path) as log:
            log.info("begun")
            warnings.warn("careful", UserWarning, stacklevel=1)
            raise KeyError("gone")

    with pytest.raises(KeyError):
        step()
    text = path.read_text()
    assert "begun" in text
    assert text.rstrip().endswith("KeyError: 'gone'")
    logging.getLogger("reconfmri").info("after")
    assert "after" not in path.read_text()
