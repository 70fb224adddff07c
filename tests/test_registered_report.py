"""The registration: a bundle before the data, a simulated trial of this design, every deviation later."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.pages import Page
from tests.test_conduct import SIGNED, edit, study_folder
from tests.test_report import make_inputs

from reconfmri import report
from reconfmri.bids import sha256
from reconfmri.cli import main
from reconfmri.config import load_study
from reconfmri.contracts import questions
from reconfmri.group import combine
from reconfmri.group.tables import Table, answers
from reconfmri.report.conduct import conduct
from reconfmri.simulate.design import Design, simulate_design
from reconfmri.trial import registration
from reconfmri.trial.lock import stamp_of
from reconfmri.trial.log import read_log

FEW = ["amygdala.trauma_first-neutral_first", "pcl5.total"]
PLAN = {"people": {"quokka": 14, "numbat": 13}, "difference": -0.32, "unit": "percent signal change"}


def small_study(tmp_path, *covariates):
    """A study folder that asks about two outcomes, with these covariates or those of every kind."""
    folder = study_folder(tmp_path)
    path = folder / "config/config.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    kept = {name: settings["group"][name] for name in ("arms", "blinding", "primary", "responders")}
    known = {
        "age": {"column": "age"},
        "site": {"column": "site", "kind": "category"},
        "motion": {"measure": "fd.mean"},
    }
    settings["group"] = kept | {
        "outcomes": FEW,
        "covariates": {name: known[name] for name in covariates or known},
        "permutations": 0,
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def registered(folder, plan=PLAN):
    study = load_study(folder / "config/config.yaml")
    registration.register(folder, registration.planned(study, **plan), by="Jane", reason="protocol 1")
    return study


def answered_by_reml(asked):
    """What `every_table` yields, of the frequentist engine alone: draws are tested where they are made."""
    quick = [item for item in questions.registered() if "frequentist_estimates" in item.tables]
    made = {table.name: table.rows for table in answers(asked, quick)}
    estimates = combine([made["frequentist_estimates"]], asked.group)
    yield Table("estimates", estimates, questions.specs()["estimates"])


def test_the_bundle_holds_plan_and_report_of_a_simulated_trial_with_every_hash(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("reconfmri.group.tables.every_table", answered_by_reml)
    folder, out = small_study(tmp_path), tmp_path / "bundle"
    command = ["register", str(out), "--study", str(folder), "--people", "14", "13", *SIGNED]
    assert main([*command, "--difference-in-sd", "-0.8"]) == 0
    held = json.loads((out / "registration.json").read_text(encoding="utf-8"))
    there = {path.relative_to(out).as_posix(): sha256(path) for path in out.rglob("*") if path.is_file()}
    del there["registration.json"]
    assert held["plan"]["files"] == there
    assert {"study.yaml", "plan/plan.tsv", "plan/assumptions.tsv", "simulated/report.html"} <= set(there)
    assert held["plan"]["people"] == {"quokka": 14, "numbat": 13}
    assert held["plan"]["difference"] == pytest.approx(-0.8 * 0.4), "s of the unit is 0.4 %"
    (entry,) = read_log(folder)
    assert entry.facts["sha256"] == sha256(out / "registration.json")
    assert entry.facts["sha256"] in capsys.readouterr().out
    words = Page((out / "simulated/report.html").read_text(encoding="utf-8")).words
    assert "simulated before the data" in words
    assert "simulated trial, truth known" in words
    assert "quokka (n = 14), numbat (n = 13)" in words
    rows = questions.specs()["estimates"].read(out / "simulated/estimates.tsv")
    assert set(rows.loc[rows["method"] == "reml", "status"].str.split(",").str[0]) == {"ok"}


def test_the_simulated_trial_is_of_the_planned_design(tmp_path):
    """Differences, spread, correlation and missing visits of 10,000 people, within four standard errors."""
    study, n = load_study(small_study(tmp_path) / "config/config.yaml"), 5_000
    covariance = 0.16 * np.array(
        [[1, 0.3, 0.3, 0.3], [0.3, 1, 0.6, 0.6], [0.3, 0.6, 1, 0.6], [0.3, 0.6, 0.6, 1]]
    )
    made = simulate_design(study, Design(n, n, covariance, (0.0, 0.1, 0.2, 0.3), -0.3))
    assert set(made.measures["outcome"]) == {*FEW, "fd.mean"}
    arms = made.allocation.set_index("participant_id")["arm"]
    assert arms.value_counts().to_dict() == {"quokka": n, "numbat": n}
    wide = made.measures.pivot(index=["outcome", "participant_id"], columns="session_id", values="value")
    active = wide.index.get_level_values(1).map(arms) == "quokka"
    for outcome, planted, s in ((FEW[0], -0.3, 0.4), (FEW[1], 0.0, 12.0)):
        mine = wide.index.get_level_values(0) == outcome
        found = wide[mine & active].mean() - wide[mine & ~active].mean()
        error = 4 * s * np.sqrt(2 / (0.7 * n))
        assert found.to_numpy() == pytest.approx([0, planted, planted, planted], abs=error)
        assert made.truth["outcomes"][outcome]["difference"]["2"] == planted
    here = wide[(wide.index.get_level_values(0) == FEW[0]) & active]
    assert here.cov().to_numpy() == pytest.approx(covariance, abs=4 * 0.16 * np.sqrt(2 / (0.5 * n)))
    assert here.isna().mean().to_numpy() == pytest.approx([0, 0.1, 0.2, 0.3], abs=0.015)
    total = wide[wide.index.get_level_values(0) == FEW[1]]
    assert total.min().min() >= 0
    assert total.max().max() <= 80
    assert not (total.stack() % 1).any()
    both = wide.index.get_level_values(0) == FEW[1]
    gone = [wide[kind].isna().droplevel(0).sort_index() for kind in (both, mine_of(wide, FEW[0]))]
    assert gone[0].equals(gone[1]), "a missed visit is missed in every outcome"
    assert set(made.participants["site"]) == {"a", "b"}
    assert pd.to_numeric(made.participants["age"]).mean() == pytest.approx(40, abs=4 * 10 / np.sqrt(2 * n))


def mine_of(wide, outcome):
    return wide.index.get_level_values(0) == outcome


def test_every_deviation_from_the_registration_is_marked(tmp_path):
    folder = small_study(tmp_path)
    study = registered(folder)
    assert stamp_of(folder, study).registered.deviations == ()
    edit(folder, "max_mean_fd: 0.5", "max_mean_fd: 0.4")
    study = load_study(folder / "config/config.yaml")
    stamp = stamp_of(folder, study)
    (change,) = stamp.registered.deviations
    assert (change.key, change.before, change.now) == ("quality.max_mean_fd", "0.5", "0.4")
    shown = conduct(study.group, stamp, people={"quokka": 14, "numbat": 11})
    assert shown["deviations"] == [
        ("quality.max_mean_fd", "0.5", "0.4"),
        ("people randomised to numbat", "13", "11"),
    ]
    assert "2 deviations" in shown["registered"]
    coded = conduct(study.group, stamp, people={"A": 11, "B": 14})
    assert coded["deviations"][1] == ("people randomised", "27", "25"), (
        "no arm is named while they have codes"
    )
    edit(folder, "max_mean_fd: 0.4", "max_mean_fd: 0.5")
    study = load_study(folder / "config/config.yaml")
    said = conduct(study.group, stamp_of(folder, study), people={"quokka": 14, "numbat": 13})
    assert said["registered"].endswith("no deviation")


def test_deviations_are_on_the_front_and_in_the_section_on_conduct(tmp_path):
    folder = small_study(tmp_path)
    registered(folder)
    edit(folder, "max_mean_fd: 0.5", "max_mean_fd: 0.4")
    inputs = make_inputs(tmp_path)
    stamp = stamp_of(folder, load_study(folder / "config/config.yaml"))
    bare = {"tables": {}, "regions": None, "design": None, "pictures": [], "truth": None}
    page = report.compose(replace(inputs, stamp=stamp, measures=inputs.measures.iloc[:0], **bare))
    front, _, rest = page.partition("<main>")
    assert "Registered before the data on" in Page(front.partition("<body>")[2] + "</div></div>").words
    assert "<td><code>0.5</code></td><td><code>0.4</code></td>" in rest
    assert "people randomised" in rest


def test_a_registration_is_made_once_and_before_the_data(tmp_path, capsys):
    folder = small_study(tmp_path)
    command = ["register", str(tmp_path / "out"), "--study", str(folder), "--people", "2", "2", *SIGNED]
    (folder / "results").mkdir()
    (folder / "results/measures.tsv").write_text("", encoding="utf-8")
    assert main([*command, "--difference", "1"]) == 1
    assert "there are measures already" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (folder / "results/measures.tsv").unlink()
    registered(folder)
    assert main([*command, "--difference", "1"]) == 1
    assert "registered already" in capsys.readouterr().err


def test_a_changed_registration_is_found(tmp_path, capsys):
    folder = small_study(tmp_path)
    study = registered(folder)
    path = folder / registration.REGISTRATION
    path.write_text(path.read_text(encoding="utf-8").replace('"max_mean_fd": 0.5', '"max_mean_fd": 9'))
    with pytest.raises(ValueError, match="E-CONF-F13"):
        stamp_of(folder, study)
    assert main(["verify-log", "--study", str(folder)]) == 1
    assert "changed after it was noted" in capsys.readouterr().err
