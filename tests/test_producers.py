"""Every producer of measures keeps the contracts; a new one needs its own declarations and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from reconfmri.books import outcomes_of_runs
from reconfmri.cli import status
from reconfmri.config import DOMAINS, Outcome, catalogue, outcome_label, parse_config
from reconfmri.contracts.files import Layout
from reconfmri.contracts.rules import RULES, Rule, exclusions_after, of_scan, producers

ROOT = Path(__file__).resolve().parents[1]
LAYOUT = Layout(has_sessions=True, has_runs=False)
SCAN = {
    "participant_id": "sub-01",
    "session_id": "1",
    "task": "memory",
    "run": "n/a",
    "bold": "b",
    "events": "e",
    "physio": "p",
}


def demo():
    return parse_config(yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", producers(demo()))
def test_a_producer_declares_its_files_and_outcomes(name):
    study = demo()
    rule = RULES[producers(study)[name]]
    assert {"measures", "exclusions"} <= set(rule.files)
    mine = [outcome for outcome in study.outcomes.values() if outcome.producer == name]
    assert mine
    for outcome in mine:
        assert outcome.domain in DOMAINS
        assert outcome.unit
        assert outcome.task in (None, *study.tasks)
        assert outcome_label(outcome.name)
        assert study.outcomes[outcome.name] is outcome
    assert [outcome.name for outcome in mine if outcome.always] == outcomes_of_runs(study)[name]


def test_every_outcome_has_a_producer_with_a_rule():
    study = demo()
    assert {outcome.producer for outcome in study.outcomes.values()} == {*producers(study), "scale"}


@pytest.fixture
def toy(monkeypatch):
    """A producer of pupil sizes, declared as a module of its own would."""
    rule = Rule(
        "scan",
        "pupil",
        {
            "measures": of_scan("Pupil size", "measures", desc="pupil"),
            "exclusions": exclusions_after("pupil"),
        },
        column="physio",
    )
    monkeypatch.setitem(RULES, "measure_pupil", rule)
    yields = [
        *catalogue.PRODUCERS,
        lambda _: iter([Outcome("pupil", "trauma", "quality", "mm", "pupil", "memory")]),
    ]
    monkeypatch.setattr(catalogue, "PRODUCERS", yields)


@pytest.mark.usefixtures("toy")
def test_a_new_producer_is_known_everywhere():
    study = demo()
    assert study.outcome_units()["pupil.trauma"] == "mm"
    assert producers(study)["pupil"] == "measure_pupil"
    assert outcomes_of_runs(study)["pupil"] == ["pupil.trauma"]
    assert outcome_label("pupil.trauma") == "Pupil: trauma"
    stages = {stage.name: stage for stage in status.stages_of(study, LAYOUT, SCAN)}
    where = "results/derivatives/sub-01/ses-1/func/sub-01_ses-1_task-memory_desc-pupil_measures.tsv"
    assert stages["pupil"].output == where
    assert ("measure_pupil", "measures", where) in list(LAYOUT.files(study, [SCAN]))
    assert not [
        file for file in LAYOUT.files(study, [SCAN | {"physio": "n/a"}]) if file[0] == "measure_pupil"
    ]
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    raw["group"]["exploratory"] = ["pupil.trauma"]
    assert parse_config(raw).group.exploratory == ["pupil.trauma"]
