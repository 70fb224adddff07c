"""`reconfmri group`: any table of measures becomes every group table, a page and its figures, or reasons."""

from __future__ import annotations

import base64
import hashlib
import xml.etree.ElementTree as ET
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.pages import Page, foreign

from reconfmri import __version__
from reconfmri.cli import answer, build_parser, main
from reconfmri.config import DEFAULT_SCALES, Sampling
from reconfmri.contracts import questions
from reconfmri.figures.labels import number
from reconfmri.group import combine, controls, frequentist, missing, randomisation, reliability
from reconfmri.group.asked import Asked
from reconfmri.measures import read_measures
from reconfmri.report import Compared, compose_tables
from reconfmri.simulate.measures import Truth, simulate_measures
from reconfmri.tables import read_table, write_table
from reconfmri.trial.allocation import read_allocation

ROOT = Path(__file__).parents[1]
UNIT = "percent signal change"
OUTCOMES = {"<b>x": UNIT, "late.y": UNIT, "pcl5.total": "PCL-5 points"}
TRUTH = Truth(
    np.array([[1, 0.5], [0.5, 1]]), np.array([0, -2.0]), np.zeros(2), np.zeros(2), n_active=6, n_control=6
)
KETAMINE = [f"sub-{n:02d}" for n in range(1, 7)]
FEW = Sampling(chains=2, tune=300, draws=500, min_ess=100, max_r_hat=1.05, max_divergences=100)


def trial_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Six people per arm, two visits; two miss the second one, and no ketamine patient has `late.y` there."""
    measures, allocation = simulate_measures(TRUTH, outcomes=OUTCOMES, scales=DEFAULT_SCALES, seed=3)
    second, ketamine = measures["session_id"] == "2", measures["participant_id"].isin(KETAMINE)
    gone = measures["participant_id"].isin(["sub-02", "sub-05"]) | (measures["outcome"] == "late.y")
    return measures[~(second & ketamine & gone)], allocation


def written(folder: Path, measures: pd.DataFrame, allocation: pd.DataFrame) -> list[str]:
    """The tables as files, and the arguments of the command that answers them into `out`."""
    write_table(folder / "measures.tsv", measures)
    write_table(folder / "allocation.tsv", allocation)
    return ["group", *(str(folder / name) for name in ("measures.tsv", "allocation.tsv", "out"))]


ARMS = ["--active", "ketamine", "--control", "midazolam"]


def asked(arguments: list[str]) -> tuple[Namespace, pd.DataFrame, pd.DataFrame, answer.Trial]:
    options = build_parser().parse_args(arguments)
    tables = read_measures(options.measures), read_allocation(options.allocation)
    return options, *tables, answer.asked(options, *tables)


@pytest.fixture(scope="module")
def answered(tmp_path_factory) -> tuple[Path, answer.Trial]:
    """The whole command with few draws, and with a control outcome, which a study file would declare."""
    folder = tmp_path_factory.mktemp("table")
    arguments = [*written(folder, *trial_tables()), *ARMS, "--seed", "7"]
    options, measures, allocation, trial = asked(arguments)
    changed = {"sampling": FEW, "permutations": 200, "controls": ["pcl5.total"]}
    trial = replace(trial, group=trial.group.model_copy(update=changed))
    (folder / "out" / "figures").mkdir(parents=True)
    (folder / "out" / "figures" / "stale.svg").write_text("<svg/>")
    files = answer.write_answers(options, answer.ask(options, measures, allocation, trial))
    answer.write_page(options, trial, files)
    return folder, trial


@pytest.fixture(scope="module")
def page(answered) -> str:
    return (answered[0] / "out" / "report.html").read_text(encoding="utf-8")


def rows_of(folder: Path, name: str) -> pd.DataFrame:
    return read_table(folder / "out" / name, numeric=["estimate", "sd", "lower", "upper"])


# What is written


def test_every_table_of_the_group_rules_is_written_with_its_description(answered):
    folder = answered[0] / "out"
    made = {path.stem for path in (*folder.glob("*.tsv"), *folder.glob("group/*.tsv"))}
    described = {path.stem for path in (*folder.glob("*.json"), *folder.glob("group/*.json"))}
    assert made == described == {*questions.every_file(), "report_codes"}


def test_the_tables_are_those_of_the_functions_that_the_rules_call(answered):
    folder, trial = answered
    tables = read_measures(folder / "measures.tsv"), read_allocation(folder / "allocation.tsv")
    question = (*tables, trial.group, ["1", "2"])
    expected = {
        "group/frequentist_estimates.tsv": frequentist.estimate(Asked(*question)),
        "group/randomisation_estimates.tsv": randomisation.estimate(Asked(*question, seed=7)),
        "group/controls.tsv": controls.estimate(Asked(*question)),
        "group/tipping_grid.tsv": missing.tipping(Asked(*question))[0],
    }
    for name, table in expected.items():
        found = read_table(folder / "out" / name, numeric=["estimate"])["estimate"]
        np.testing.assert_allclose(found, table["estimate"].astype(float), rtol=1e-8, err_msg=name)
        assert found.notna().any()
    icc = read_table(folder / "out/group/reliability.tsv", numeric=["icc_2_1"])["icc_2_1"]
    np.testing.assert_allclose(icc, reliability.estimate(Asked(*question))["icc_2_1"], rtol=1e-8)


def test_all_engines_are_on_one_answer_sheet(answered):
    estimates = rows_of(answered[0], "estimates.tsv")
    methods = {"bayes", "reml", "ancova", "ancova_hc2", "welch", "randomisation"}
    assert set(estimates["method"]) == methods
    known = estimates[estimates["outcome"] == "<b>x"]
    assert known["estimate"].notna().all()
    assert known["estimate"].between(-2 * 0.8 - 0.7, -2 * 0.4 + 0.7).all()  # planted: -0.8
    assert estimates.loc[estimates["outcome"] == "late.y", "estimate"].isna().all()


def test_the_figures_are_files_and_stand_on_the_page(answered, page):
    figures = {path.stem: path.read_text() for path in (answered[0] / "out" / "figures").iterdir()}
    assert set(figures) == {
        "trajectories", "differences_1", "prior_reach", "replicates", "sensitivity", "tipping", "controls",
        "reliability",
    }  # fmt: skip
    for name, svg in figures.items():
        assert base64.b64encode(svg.encode()).decode() in page, name
        assert "".join(ET.fromstring(svg).itertext()).strip(), name  # noqa: S314 (our own picture)


# What the page says


def test_the_page_stands_alone_and_runs_its_own_script_alone(page):
    parsed = Page(page)
    assert foreign(parsed) == []
    assert not {"iframe", "object", "embed", "link", "form"} & set(parsed.tags)
    assert parsed.tags.count("script") == 1
    script = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page.split("<style>")[0]
    style = page.split("<style>")[1].split("</style>")[0]
    assert "default-src 'none'" in page.split("<style>")[0]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in page.split("<style>")[0]


def test_an_outcome_called_like_a_tag_stays_text(page):
    parsed = Page(page)
    assert "b" not in parsed.tags
    assert "Primary outcome: <b>x at session 2, ketamine minus midazolam" in parsed.words


def test_the_page_says_question_people_answer_methods_versions_and_seed(answered, page):
    folder, _ = answered
    words = Page(page).words
    bayes = rows_of(folder, "estimates.tsv").query(
        "outcome == '<b>x' and method == 'bayes' and estimand == 'difference_adjusted'"
    )
    low, high = (number(bayes[name].item(), UNIT) for name in ("lower", "upper"))
    for text in (
        "Do ketamine and midazolam differ in 3 outcomes at 1 visit after session 1?",
        "No primary question was declared",
        "ketamine (n = 6), midazolam (n = 6)",
        f"{low} to {high}",
        "The estimate is lower in the ketamine arm",
        "6 + 64 + 6",  # the row of the primary outcome in the table of people
        "4 of 4 Bayesian fits passed the gate",
        "2 chains of 300 warm-up and 500 kept draws, seed 7",
        "The table of measures holds 62 values of 3 outcomes in 12 participants",
        hashlib.sha256((folder / "measures.tsv").read_bytes()).hexdigest(),
        f"reconfmri{__version__}",
        "Seed7",
        "active: ketamine",
    ):
        assert text in words, text


def test_an_arm_that_is_empty_at_a_visit_has_the_reason_in_place_of_numbers(page):
    words = Page(page).words
    estimates = words.split("All estimates Each cell")[1]
    late = estimates.split("Late: y percent signal change")[1].split("PCL-5 total PCL-5 points")[0]
    assert late.count("there are 0 ketamine and 6 midazolam") >= 6
    assert "[" not in late
    assert "6 + 60 + 6" in words


def test_a_stranger_to_imaging_reads_nothing_of_scans_on_the_page(page):
    ids = {value for name, value in Page(page).attributes if name == "id"}
    assert not ids & {"scans", "quality", "parity", "regions", "response", "first-level", "coupling"}
    assert "Snakemake" not in page
    assert "MNI152" not in page


# Tables that cannot be answered: the command ends well, and says why


def constant(measures):
    return measures.assign(value=1.5)


def without_sessions(measures):
    return constant(measures[measures["session_id"] == "1"].assign(session_id=None))


def without_ketamine_later(measures):
    return measures[(measures["session_id"] == "1") | ~measures["participant_id"].isin(KETAMINE)]


def without_numbers(measures):
    return measures.assign(value=np.nan)


def one_person(measures):
    return measures[~measures["participant_id"].isin(KETAMINE[1:])]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (constant, "the values do not vary within the arms"),
        (without_sessions, "the values do not vary within the arms"),
        (without_ketamine_later, "there are 0 ketamine and 6 midazolam"),
        (without_numbers, "there is no measurement"),
        (one_person, "there are 1 ketamine and 6 midazolam"),
    ],
)
def test_a_table_without_an_answer_gives_a_page_of_reasons(spoil, says, tmp_path, capsys):
    measures, allocation = trial_tables()
    assert main([*written(tmp_path, spoil(measures), allocation), *ARMS]) == 0
    assert says in capsys.readouterr().out
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    words = Page(html).words
    assert words.count(says) >= 4  # at the top, among the estimates, sensitivity, missing visits
    assert "The primary result is withheld" in words
    assert rows_of(tmp_path, "estimates.tsv")["estimate"].isna().all()


def test_a_page_shows_the_tables_that_are_there(tmp_path):
    """Nobody missed a visit, no standard error is known, and the Bayesian engine was not asked."""
    measures, allocation = simulate_measures(TRUTH, outcomes=OUTCOMES, scales=DEFAULT_SCALES, seed=3)
    bare = measures.drop(columns=["se", "coverage", "n_runs"])
    _, measures, allocation, trial = asked([*written(tmp_path, bare, allocation), *ARMS])
    question = (measures, allocation, trial.group, ["1", "2"])
    grid, points = missing.tipping(Asked(*question))
    tables = {"estimates": combine([frequentist.estimate(Asked(*question))], trial.group)}
    tables |= {"tipping_grid": grid, "tipping": points}
    compared = Compared(measures=measures, allocation=allocation, tables=tables)
    page = compose_tables(trial, compared, settings=("", ""), provenance={}, versions={})
    words = Page(page.html).words
    assert "Everybody was seen at the primary visit" in words
    assert "Bayesian estimatenot estimated" in words
    assert set(page.figures) == {"trajectories", "differences_1"}


# What is asked


def test_a_table_without_sessions_is_asked_about_its_only_visit(tmp_path):
    measures, allocation = trial_tables()
    only = measures[measures["session_id"] == "1"].assign(session_id=None)
    trial = asked([*written(tmp_path, only, allocation), *ARMS])[-1]
    assert trial.session_names == {"n/a": "the only visit"}
    assert (trial.group.primary.session, trial.group.primary.estimand) == ("n/a", "difference_unadjusted")


def test_primary_question_and_scales_can_be_told(tmp_path):
    measures, allocation = trial_tables()
    arguments = [*written(tmp_path, measures.assign(unit="cm"), allocation), *ARMS]
    with pytest.raises(ValueError, match=r"units \['cm'\] have no default scale.*--scale"):
        asked(arguments)
    trial = asked([*arguments, "--scale", "cm=2.5", "--outcome", "pcl5.total", "--session", "2"])[-1]
    assert trial.group.scales["cm"] == 2.5
    assert trial.group.primary.outcome == "pcl5.total"
    assert "given on the command line" in trial.question
    for more, says in (
        (["--outcome", "z"], "outcome 'z' is not one"),
        (["--session", "1"], "session '1' is not one"),
    ):
        with pytest.raises(ValueError, match=says):
            asked([*arguments, "--scale", "cm=2.5", *more])


@pytest.mark.parametrize("scale", ["cm", "=2", "cm=0", "cm=wide", "cm=inf"])
def test_a_scale_that_is_none_is_refused(scale, tmp_path, capsys):
    with pytest.raises(SystemExit):
        asked([*written(tmp_path, *trial_tables()), *ARMS, "--scale", scale])
    assert "UNIT=SD" in capsys.readouterr().err


def test_a_study_file_names_title_visits_and_question_and_stands_alone(tmp_path):
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    rows = [
        (f"sub-{n:02d}", session["id"], "clinical", "pcl5.total", 30.0, "PCL-5 points")
        for n in range(1, 13)
        for session in config["sessions"]
    ]
    rows += [(f"sub-{n:02d}", "1", "quality", "fd.mean", 0.1, "mm") for n in range(1, 13)]
    columns = ["participant_id", "session_id", "domain", "outcome", "value", "unit"]
    measures = pd.DataFrame(rows, columns=columns).assign(se=np.nan, coverage=np.nan)
    arguments = written(tmp_path, measures, trial_tables()[1])
    study = str(ROOT / "config" / "config.yaml")
    assert main([*arguments, "--config", study]) == 0
    words = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).words
    assert config["name"] in words
    assert " ".join(config["question"].split()) in words
    for session in config["sessions"]:
        assert session["name"] in words
    assert "In the table, not asked aboutMean framewise displacement" in words
    with pytest.raises(ValueError, match="--active: the study file says it"):
        asked([*arguments, "--config", study, "--active", "ketamine"])


WITHOUT_SCANS = {
    "name": "Waists",
    "seed": 5,
    "sessions": [{"id": "1", "name": "before", "day": 0.0}, {"id": "2", "name": "after", "day": 30.0}],
    "group": {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": ["<b>x", "pcl5.total"],
        "exploratory": ["late.y"],
        "controls": ["<b>x"],
        "primary": {"outcome": "pcl5.total", "session": "2"},
        "scales": {UNIT: 0.5, "PCL-5 points": 10.0},
    },
}


def test_a_study_file_without_scans_declares_the_question(tmp_path):
    arguments = written(tmp_path, *trial_tables())
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(WITHOUT_SCANS), encoding="utf-8")
    trial = asked([*arguments, "--config", str(tmp_path / "study.yaml")])[-1]
    assert (trial.name, trial.seed, trial.baseline) == ("Waists", 5, "1")
    assert trial.days == {"1": 0.0, "2": 30.0}
    assert trial.units == OUTCOMES
    assert trial.group.controls == ["<b>x"]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (
            "outcomes",
            ["<b>x", "pcl5.total", "pcl6.total"],
            r"E-CONF-C04 .*study.yaml: .*'pcl6.total'.*did you mean",
        ),
        (
            "primary",
            {"outcome": "pcl5.total", "session": "1"},
            r"E-CONF-C04 .*study.yaml: group.primary.sess",
        ),
        ("scales", {UNIT: 0.5}, r"study.yaml: group.scales: no scale for the units \['PCL-5 points'\]"),
        ("levle", 0.9, r"E-CONF-C01 .*study.yaml: .*did you mean 'level'"),
    ],
)
def test_a_study_file_without_scans_is_checked_against_the_table(key, value, says, tmp_path):
    arguments = written(tmp_path, *trial_tables())
    group = WITHOUT_SCANS["group"] | {key: value}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(WITHOUT_SCANS | {"group": group}), encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        asked([*arguments, "--config", str(tmp_path / "study.yaml")])
