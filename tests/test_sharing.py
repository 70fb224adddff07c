"""The sharing pack: files of the allow-list alone, nobody's id, and the answers that the study has."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.test_conduct import ask
from tests.test_report import CONFIG

from reconfmri.cli import main
from reconfmri.config import load_study, load_trial
from reconfmri.group import frequentist
from reconfmri.group.asked import Asked
from reconfmri.measures import DESCRIPTIONS, read_measures
from reconfmri.sharing import FILES, binned_age
from reconfmri.tables import read_table, write_table
from reconfmri.trial.allocation import read_allocation

PEOPLE = [f"sub-canary{n:02d}" for n in range(1, 17)]
PRIMARY = "amygdala.trauma_first-neutral_first"
AGES = [str(20 + n) for n in range(15)] + ["91"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A finished, blinded study of sixteen people; one more was scanned and never randomised."""
    folder = tmp_path / "study"
    (folder / "config").mkdir(parents=True)
    (folder / "bids").mkdir()
    (folder / "results").mkdir()
    settings = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    covariates = {"age": {"column": "age"}, "site": {"column": "site", "kind": "category"}}
    settings["group"] = {
        "arms": {"active": "quokka", "control": "numbat"}, "blinding": "coded",
        "outcomes": [PRIMARY, "pcl5.total"],
        "primary": {"outcome": PRIMARY, "session": "2"}, "covariates": covariates,
    }  # fmt: skip
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for name in ("runs", "exclusions"):
        (folder / f"config/{name}.tsv").write_text("participant_id\nsub-canary01\n", encoding="utf-8")
    random = np.random.default_rng(3)
    arms = {"arm": ["quokka", "numbat"] * 8, "stratum": ["birthplace-canary"] * 8 + ["n/a"] * 8}
    write_table(folder / "allocation.tsv", pd.DataFrame({"participant_id": PEOPLE} | arms))
    sites = ["north"] * 8 + ["south"] * 6 + ["islet"] * 2
    people = pd.DataFrame({"participant_id": PEOPLE, "age": AGES, "site": sites, "surname": "canary"})
    write_table(folder / "bids/participants.tsv", people)
    units = load_study(folder / "config/config.yaml").outcome_units()
    rows = [
        (person, session, domain, outcome, random.standard_normal(), np.nan, unit, np.nan, 1)
        for person in [*PEOPLE, "sub-pilotcanary"]
        for session in "1234"
        for domain, outcome, unit in (
            ("activation", PRIMARY, units[PRIMARY]),
            ("clinical", "pcl5.total", "PCL-5 points"),
            ("activation", "vmpfc.trauma-neutral", units[PRIMARY]),
            ("quality", "fd.mean", "mm"),
        )
    ]
    write_table(folder / "results/measures.tsv", pd.DataFrame(rows, columns=list(DESCRIPTIONS)))
    ask(folder, "blind")
    return folder


def share(folder: Path, name: str = "pack") -> Path:
    out = folder.parent / name
    assert main(["share", str(out), "--study", str(folder)]) == 0
    return out


def answers(tables: Path, measures: str, config: Path, people: Path) -> pd.DataFrame:
    table = read_measures(tables / measures)
    trial = load_trial(config, dict(zip(table["outcome"], table["unit"], strict=True)))
    allocation = read_allocation(tables / "allocation.tsv", people, trial.group.participant_columns)
    group = trial.group.model_copy(update={"covariates": {}})
    asked = Asked(table, allocation, group, list(trial.session_names))
    return frequentist.estimate(asked)[
        ["outcome", "estimand", "session", "method", "estimate", "p", "n_active"]
    ]


def test_only_the_files_of_the_allow_list_are_there_and_no_id_is_in_them(folder):
    ask(folder, "lock")
    out = share(folder)
    assert {path.name for path in out.iterdir()} == set(FILES)
    for path in out.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "canary" not in text, path.name
        assert "islet" not in text, path.name
        assert "vmpfc.trauma-neutral" not in text or path.name == "lock.json", "not asked about"
        assert path.name in ("lock.json",) or "quokka" not in text, "the study is blinded"
    measures = read_measures(out / "measures.tsv")
    assert measures["participant_id"].nunique() == len(PEOPLE), "the pilot is not shared"
    assert all(re.fullmatch("sub-[0-9a-f]{10}", who) for who in measures["participant_id"])
    assert measures["participant_id"].is_monotonic_increasing
    salt = folder / "allocation.salt"
    assert salt.stat().st_mode & 0o077 == 0
    assert salt.read_text(encoding="utf-8").strip() not in "".join(p.read_text() for p in out.iterdir())


def test_the_answers_are_those_of_the_study_once_it_is_unblinded(folder):
    assert not (share(folder, "before") / "lock.json").exists()
    ask(folder, "lock")
    ask(folder, "unblind")
    out = share(folder)
    shared = answers(out, "measures.tsv", out / "study.yaml", out / "participants.tsv")
    people = folder / "bids/participants.tsv"
    own = answers(folder, "results/measures.tsv", folder / "config/config.yaml", people)
    assert len(shared) > 10
    pd.testing.assert_frame_equal(shared, own, rtol=1e-6)


def test_ages_are_binned_and_rare_categories_are_one(folder):
    table = read_table(share(folder) / "participants.tsv")
    assert list(table) == ["participant_id", "age", "site"]
    assert set(table["age"]) == {"22.5", "27.5", "32.5", "89"}
    assert table["site"].value_counts().to_dict() == {"north": 8, "south": 6, "other": 2}
    assert [binned_age(age) for age in ("88.9", "89", "20", None)] == ["87.5", "89", "22.5", None]
    strata = read_table(folder.parent / "pack/allocation.tsv")["stratum"]
    assert set(strata.dropna()) in ({"stratum1"}, {"stratum2"})
    assert strata.notna().sum() == 8


def test_codes_stay_and_are_another_study_s_own(folder):
    one, again = share(folder), share(folder, "again")
    same = [read_table(out / "allocation.tsv")["participant_id"].tolist() for out in (one, again)]
    assert same[0] == same[1]
    (folder / "allocation.salt").unlink()
    other = read_table(share(folder, "other") / "allocation.tsv")["participant_id"]
    assert not set(other) & set(same[0])


def test_a_folder_in_use_is_left_alone(folder, capsys):
    out = share(folder)
    assert main(["share", str(out), "--study", str(folder)]) == 1
    assert "is not empty" in capsys.readouterr().err
