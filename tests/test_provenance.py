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
def clone(tmp_path, monkeypatch):
    """A copy of package and workflow whose edits touch nobody."""
    root = provenance.workflow_folder()
    shutil.copytree(
        provenance.PACKAGE, tmp_path / "src/reconfmri", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(root / "workflow", tmp_path / "workflow")
    shutil.copy(root / "Snakefile", tmp_path)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "src/reconfmri")
    forget()
    yield tmp_path
    forget()


@pytest.fixture
def package(clone):
    return clone / "src/reconfmri"


def forget():
    """A process reads each file once; these tests edit them."""
    for kept in vars(provenance).values():
        if hasattr(kept, "cache_clear"):
            kept.cache_clear()


def touch(path, text="\n# edited\n"):
    path.write_text(path.read_text() + text)
    forget()


def code(*rules):
    return {rule: provenance.code_of(rule) for rule in rules}


def changed(before):
    return {rule for rule, digest in before.items() if provenance.code_of(rule) != digest}


def test_the_hash_of_a_rule_follows_its_script_and_what_that_imports(clone):
    before = code("fit_first_level", "score_scale", "carry_atlas")
    touch(clone / "src/reconfmri/events.py")
    assert changed(before) == {"fit_first_level"}, "first_level imports events"
    touch(clone / "src/reconfmri/scales/scoring.py")
    assert changed(before) == {"fit_first_level", "score_scale"}
    touch(clone / "workflow/scripts/carry_atlas.py")
    assert changed(before) == set(before)


def test_the_hash_follows_imports_of_imports_and_of_functions(clone):
    package = clone / "src/reconfmri"
    (package / "one.py").write_text("def f():\n    from reconfmri import two\n")
    (package / "two.py").write_text("import reconfmri.three\n")
    (package / "three.py").write_text("x = 1\n")
    touch(clone / "workflow/scripts/score_scale.py", "\nfrom reconfmri import one\n")
    before = code("score_scale")
    touch(package / "three.py")
    assert changed(before) == {"score_scale"}


def test_the_hash_follows_the_rule_and_not_its_remarks_or_resources(clone):
    rules = clone / "workflow/rules/scales.smk"
    before = code("score_scale", "carry_atlas")
    touch(rules, "# remark\n")
    rules.write_text(rules.read_text().replace("    input:\n", "    # remark\n    input:\n"))
    rules.write_text(rules.read_text().replace("mem_mb=1000", "mem_mb=1001"))
    forget()
    assert changed(before) == set()
    rules.write_text(rules.read_text().replace("people=people", "people=[]"))
    forget()
    assert changed(before) == {"score_scale"}


def test_the_hash_follows_the_versions_of_the_libraries_in_use(clone, monkeypatch):
    before = code("score_skin_conductance", "carry_atlas")
    forget()
    real = provenance.metadata.version
    monkeypatch.setattr(
        provenance.metadata, "version", lambda name: "9.9" if name == "picsl_greedy" else real(name)
    )
    assert changed(before) == {"carry_atlas"}


def test_the_hash_is_the_same_wherever_the_code_lies(clone):
    moved = code("fit_first_level", "build_report"), provenance.hash_of_package()
    provenance.PACKAGE = reconfmri.provenance.Path(reconfmri.__file__).parent
    forget()
    assert (code("fit_first_level", "build_report"), provenance.hash_of_package()) == moved


def test_a_misspelt_rule_is_refused():
    with pytest.raises(ValueError, match="no rule fit_first_levl"):
        provenance.code_of("fit_first_levl")


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


def test_no_workflow_at_all_says_reinstall(clone):
    (clone / "Snakefile").unlink()
    with pytest.raises(FileNotFoundError, match="reinstall"):
        provenance.workflow_folder()


def test_a_clone_or_a_named_wheel_is_what_pip_installs(monkeypatch, tmp_path):
    clone, wheel = tmp_path / "clone", tmp_path / "reconfmri.whl"
    (clone / "src/reconfmri").mkdir(parents=True)
    monkeypatch.setattr(provenance, "PACKAGE", clone / "src/reconfmri")
    monkeypatch.setenv("RECONFMRI_SOURCE", "")
    with pytest.raises(FileNotFoundError, match="Fix: export RECONFMRI_SOURCE"):
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
    assert text.rstrip().endswith("KeyError: ...")
    logging.getLogger("reconfmri").info("after")
    assert "after" not in path.read_text()
