"""Conformance: every registered group question in trials of every kind, and a question that a test adds.

The sampler of the Bayesian engine is a stub, which draws around the means of the arms: what is tested is what
questions do with draws. How these are drawn is tested in test_group_bayes.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.pages import Page

from reconfmri.cli import main
from reconfmri.config import DEFAULT_SCALES, Group
from reconfmri.contracts import questions
from reconfmri.contracts.files import Layout
from reconfmri.contracts.questions import GroupQuestion, Section
from reconfmri.contracts.specs import OF_OUTCOME, TableSpec, integer, text, yes_no
from reconfmri.group import bayes, grid
from reconfmri.group.asked import Asked
from reconfmri.group.grid import Outcome
from reconfmri.group.tables import every_table
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures
from reconfmri.tables import write_table

ROOT = Path(__file__).parents[1]
UNIT, OTHER = "percent signal change", "PCL-5 points"
ALIKE = [f"region{n}.x" for n in range(6)]
NAMES = [*ALIKE, "found.total"]
SESSIONS = ["1", "2", "3"]
EVERY = [name for item in questions.registered() if item.always for name in item.tables]
TRUTH = Truth(
    COVARIANCES["reference"][:3, :3], np.array([0.0, -0.8, -0.6]), np.zeros(3), np.array([0.0, 0.1, 0.2]),
    n_active=8, n_control=7,
)  # fmt: skip
SETTINGS = {
    "arms": {"active": "ketamine", "control": "midazolam"},
    "outcomes": ALIKE,
    "exploratory": ["found.total"],
    "primary": {"outcome": ALIKE[0], "session": "2"},
    "families": {"regions": ALIKE[:3]},
    "controls": [ALIKE[5]],
    "joint": {"pair": {ALIKE[0]: "lower", ALIKE[1]: "either"}},
    "pooled": {"all": ALIKE},
    "twins": {"both": [ALIKE[0], "found.total"]},
    "covariates": {"age": {"column": "age"}},
    "moderators": ["age"],
    "responders": {"fell": {"outcome": "found.total", "drop": 5, "missing": "observed"}},
    "bounded": {"found.total": [-100, 100]},
    "ordinal": {"found.total": [-100, 100]},
    "safety": {"ratings": ["found.total"]},
    "associations": {
        "pair": {
            "brain": ALIKE[0],
            "symptoms": "found.total",
            "session": "3",
            "reliability": {"brain": [0.5, 0.7, 0.85]},
            "mediation": True,
        }
    },
    "prediction": {"later": {"outcome": "found.total", "session": "3", "predictors": ALIKE[:2]}},
    "permutations": 100,
}


class StubSampler(bayes.Sampler):
    """Draws around the means of the arms, in multiples of s; with the arms relabelled, their exact mirror."""

    def fit(
        self, outcome: Outcome, common_baseline: bool, group: Group, *, add_se: bool = False
    ) -> bayes.Fit:
        visits = bayes.usable_visits(outcome)
        values = (outcome.values[:, visits] - bayes.centre_of(outcome)) / outcome.scale
        arms = [values[outcome.active], values[~outcome.active]]
        active, control = (np.nanmean(arm, axis=0) for arm in arms)
        sd = np.sqrt(np.mean([np.nanvar(arm, axis=0, ddof=1) for arm in arms], axis=0))
        error = sd * np.sqrt(sum(1 / (~np.isnan(arm)).sum(axis=0) for arm in arms))
        if common_baseline:
            alike = np.isin(visits, outcome.baselines)
            active, control = (np.where(alike, (active + control) / 2, arm) for arm in (active, control))
            error = np.where(alike, 0.0, error)
        drawn = np.random.default_rng(1).standard_normal((400, 2, len(visits)))
        drawn[:, 1] *= np.sign(active - control)[-1]
        n_draws, n_visits = len(drawn), len(visits)
        return bayes.Fit(
            mean=(active + control) / 2 + drawn[:, 0] * sd / 5,
            difference=active - control + drawn[:, 1] * error,
            visit_sd=np.tile(sd, (n_draws, 1)),
            correlation=np.full((n_draws, n_visits * (n_visits - 1) // 2), 0.3),
            slope=np.zeros((n_draws, outcome.adjusted_for.shape[1], n_visits)),
            log_ratio=np.zeros((n_draws, n_visits)),
            df=np.full(n_draws, np.inf),
            visits=tuple(visits), r_hat=1.0, ess=5000.0, divergences=0, draws=200, target_accept=0.9,
            covariance="unstructured",
        )  # fmt: skip


def trial(**changes) -> Asked:
    """Fifteen people, three visits, seven outcomes of which one was not declared, quality, an age."""
    units = dict.fromkeys(ALIKE, UNIT) | {"found.total": OTHER}
    measures, allocation = simulate_measures(TRUTH, outcomes=units, scales=DEFAULT_SCALES, seed=5)
    random = np.random.default_rng(2)
    measures["se"] = np.where(
        measures["outcome"] == ALIKE[0], 0.1 + 0.05 * random.random(len(measures)), np.nan
    )
    scans = measures[measures["outcome"] == ALIKE[0]].assign(domain="quality", outcome="fd.mean", unit="mm")
    scans = scans.assign(value=0.1 + 0.1 * random.random(len(scans)), se=np.nan)
    ages = [str(age) for age in random.integers(20, 60, len(allocation))]
    group = Group.from_params(SETTINGS | changes)
    given = pd.concat([measures, scans], ignore_index=True), allocation.assign(age=ages)
    return Asked(*given, group, SESSIONS, seed=3, cores=1)


@pytest.fixture(scope="module", autouse=True)
def stub():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bayes, "Sampler", StubSampler)
        yield


def tables_of(asked: Asked) -> dict[str, pd.DataFrame]:
    return {table.name: table.rows for table in every_table(asked)}


LAID_OUT: list[int] = []  # how many outcomes, for every time that a grid was laid out


@pytest.fixture(scope="module")
def answered(stub) -> dict[str, pd.DataFrame]:
    def counted(*given):
        outcomes = lay_out(*given)
        LAID_OUT.append(len(outcomes))
        return outcomes

    lay_out = grid.lay_out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "lay_out", counted)
        return tables_of(trial())


# Trials of every kind


def with_an_empty_arm(asked: Asked) -> Asked:
    """Everybody of one arm was randomised and nobody of it measured."""
    gone = asked.allocation.loc[asked.allocation["arm"] == "ketamine", "participant_id"]
    return replace(asked, measures=asked.measures[~asked.measures["participant_id"].isin(gone)])


def with_one_visit(asked: Asked) -> Asked:
    primary = asked.group.primary.model_copy(update={"estimand": "difference_unadjusted"})
    only = asked.measures[asked.measures["session_id"] == "2"]
    return replace(
        asked, measures=only, sessions=["2"], group=asked.group.model_copy(update={"primary": primary})
    )


def with_one_person(asked: Asked) -> Asked:
    group = asked.group.model_copy(update={"covariates": {}, "moderators": []})
    return replace(asked, measures=asked.measures[asked.measures["participant_id"] == "sub-01"], group=group)


def constant(asked: Asked) -> Asked:
    return replace(asked, measures=asked.measures.assign(value=1.5))


def without_a_number(asked: Asked) -> Asked:
    return replace(asked, measures=asked.measures.assign(value=np.nan))


KINDS = [with_an_empty_arm, with_one_visit, with_one_person, constant, without_a_number]


@pytest.fixture(scope="module", params=[None, *KINDS], ids=lambda kind: kind.__name__ if kind else "whole")
def found(request, answered) -> dict[str, pd.DataFrame]:
    return tables_of(request.param(trial())) if request.param else answered


@pytest.mark.parametrize("name", EVERY)
def test_a_table_reads_back_by_its_spec(name, found, tmp_path):
    spec = questions.specs()[name]
    spec.write(tmp_path / f"{name}.tsv", found[name])
    read = spec.read(tmp_path / f"{name}.tsv")
    assert list(read) == list(found[name]) == spec.names
    for column in spec.of_kind("number", "integer"):
        np.testing.assert_allclose(read[column], found[name][column].astype(float), rtol=1e-9)
    for column in spec.of_kind("yes_no"):
        pd.testing.assert_series_equal(read[column], found[name][column], check_dtype=False)
    described = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert list(described) == spec.names
    assert all(entry["Description"] and entry["Format"] for entry in described.values())


@pytest.mark.parametrize("name", EVERY)
def test_a_missing_number_has_its_reason(name, found):
    table, spec = found[name], questions.specs()[name]
    if "reported" not in spec.names:
        return
    silent = table[~table["reported"].astype(bool)]
    for row in silent.to_dict("records"):
        assert row["status"] in (f"not reported: {row['reason']}", f"none: {row['reason']}")
        assert len(row["reason"]) > 5
    known = [name for name in ("estimate", "sd", "lower", "upper") if name in spec.names]
    assert silent[known].isna().all(axis=None)
    said = table[table["reported"].astype(bool)]
    assert said["reason"].isna().all()
    assert all(status.startswith("ok") for status in said["status"])
    if "estimate" in spec.names:
        with_number = said[said["quantity"] != "both"] if "quantity" in said else said
        assert with_number["estimate"].notna().all()


def test_nothing_is_answered_where_nobody_can_be_compared(found):
    """A trial without one of its arms, with one person or one value has no difference to report."""
    estimates = found["estimates"]
    assert set(estimates["outcome"]) == set(NAMES)
    if not estimates["reported"].any():
        for name in ("moderation", "pooled", "joint", "sensitivity", "reference_based", "tipping_grid"):
            assert not found[name]["reported"].any(), name


# The same trial, told otherwise


def test_the_order_of_rows_changes_nothing(answered):
    asked = trial()
    measures, allocation = (
        table.sample(frac=1, random_state=4) for table in (asked.measures, asked.allocation)
    )
    again = tables_of(replace(asked, measures=measures, allocation=allocation))
    for name, table in answered.items():
        pd.testing.assert_frame_equal(again[name], table, obj=name)


@pytest.fixture(scope="module")
def relabelled(answered) -> dict[str, pd.DataFrame]:
    return tables_of(trial(arms={"active": "midazolam", "control": "ketamine"}))


def differences(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The rows that hold a difference between the arms, which takes neither of them as the reference."""
    rows = table[table["estimate"].notna()]
    if "quantity" in rows:
        unsigned = ("spread", "correlation", "slope_on_baseline", "risk_ratio", "odds_ratio")
        rows = rows[~rows["quantity"].str.startswith(unsigned)]
    if name == "responders":  # the bounds change places with the arms
        rows = rows[rows["analysis"].isin(["observed", "nonresponder"])]
        rows = rows.assign(p=rows["p"].where(rows["quantity"] != "number_needed"))
    if name == "reference_based":
        rows = rows[rows["method"] == "conditional_mean"]
    if name == "tipping_grid":  # the shifts change places with the arms
        rows = rows[rows["delta_active"] == rows["delta_control"]]
    keys = [column for column in (*questions.specs()[name].of_kind("text"), "delta_active") if column in rows]
    keys = [column for column in keys if column not in ("status", "reason", "direction", "caveat")]
    return rows.fillna(dict.fromkeys(keys, "")).set_index(keys)


WITH_ESTIMATES = [name for name in EVERY if "estimate" in questions.specs()[name].names]


@pytest.mark.parametrize("name", WITH_ESTIMATES)
def test_relabelled_arms_turn_the_sign_of_every_difference(name, answered, relabelled):
    here, there = differences(name, answered[name]), differences(name, relabelled[name])
    assert len(here)
    assert set(here.index) == set(there.index)
    # shares are medians over the places of a sequence, to half a percent
    scale = here["sd"].where(here["sd"].notna(), 0.1).astype(float) if "sd" in here else np.array([5.0])
    turned = -there.loc[here.index, "estimate"].astype(float)
    # optimisers stop within a ten-thousandth of a standard error
    np.testing.assert_allclose(turned, here["estimate"].astype(float), atol=1e-3 * scale.max())
    if "p" in here:
        np.testing.assert_allclose(there.loc[here.index, "p"], here["p"].astype(float), atol=2e-3)


FACTOR, SHIFT = 10.0, 7.0


@pytest.fixture(scope="module")
def rescaled(answered) -> dict[str, pd.DataFrame]:
    asked = trial(scales=DEFAULT_SCALES | {UNIT: FACTOR * DEFAULT_SCALES[UNIT]})
    mine = asked.measures["unit"] == UNIT
    changed = asked.measures.assign(
        value=np.where(mine, FACTOR * asked.measures["value"] + SHIFT, asked.measures["value"]),
        se=np.where(mine, FACTOR * asked.measures["se"], asked.measures["se"]),
    )
    return tables_of(replace(asked, measures=changed))


# they hold values, and no differences: what is added to the outcome is added to them
LEVELS = {"bayesian_diagnostics": ["centre"], "predictions": ["observed", "lower", "median", "upper"]}


@pytest.mark.parametrize("name", EVERY)
def test_estimates_have_the_scale_of_the_outcome_and_tests_have_none(name, answered, rescaled):
    spec, here, there = questions.specs()[name], answered[name], rescaled[name]
    mine = (here["unit"] == UNIT).to_numpy() if "unit" in here else np.zeros(len(here), dtype=bool)
    for column in spec.columns:
        if column.kind == "text" or column.name in LEVELS.get(name, []):
            continue
        factor = np.where(mine, FACTOR, 1.0) if column.unit == OF_OUTCOME else 1.0
        expected = here[column.name].astype(float) * factor
        tolerance = 2e-3 * max(float(expected.abs().max()), 1e-12)
        np.testing.assert_allclose(
            there[column.name].astype(float), expected, atol=tolerance, err_msg=column.name
        )


# Labels


def test_an_outcome_that_was_not_declared_is_labelled(answered):
    estimates = answered["estimates"]
    found = estimates["outcome"] == "found.total"
    assert (estimates.loc[found, "family"] == "exploratory").all()
    assert not (estimates.loc[~found, "family"] == "exploratory").any()


@pytest.mark.parametrize("name", [name for name in EVERY if "is_primary" in questions.specs()[name].names])
def test_the_primary_question_is_marked_in_every_table_of_estimates(name, answered):
    marked = answered[name][answered[name]["is_primary"]]
    assert set(zip(marked["outcome"], marked["session"], marked["estimand"], strict=True)) == {
        (ALIKE[0], "2", "difference_adjusted")
    }
    assert marked["method"].is_unique


def test_the_grid_is_laid_out_once(answered):
    assert [len(NAMES), 1, 2] == LAID_OUT  # the outcomes, the quality of the scans, twins


def test_every_rule_that_has_questions_takes_its_outputs_from_the_registry():
    rules = (ROOT / "workflow" / "rules" / "group.smk").read_text(encoding="utf-8")
    for rule in {item.rule for item in questions.registered() if not item.on_request} - {"collect_estimates"}:
        block = rules.split(f"rule {rule}:")[1].split("\nrule ")[0]
        assert f'**made("{rule}")' in block, rule
        needed = {name for item in questions.questions_of(rule) for name in item.needs}
        assert all(f"{name}=" in block for name in needed), rule


# A question that nobody knows


def count_people(asked: Asked) -> pd.DataFrame:
    rows = [
        {"outcome": item.name, "n": int(item.seen.any(axis=1).sum()), "everybody": bool(item.seen.all())}
        for item in asked.outcomes
    ]
    return TOY.frame(rows)


TOY = TableSpec(
    (
        text("outcome", "Outcome, <what>.<contrast or condition>"),
        integer("n", "People with any measurement", "people"),
        yes_no("everybody", "Whether nobody missed a visit"),
    )
)


@pytest.fixture
def toy():
    section = Section("toy", "How many people were ever seen", "A question that a test added.")
    rule = "fit_frequentist_models"
    yield questions.register(GroupQuestion("toy", rule, count_people, {"toy_table": TOY}, section))
    questions.forget("toy")


def test_a_question_is_added_without_touching_another_file(toy, tmp_path, capsys):
    """In every table, among the files of its rule, on disk with its JSON, and on the page."""
    assert questions.files_of(toy.rule)["toy_table"] == "results/group/toy_table.tsv"
    outputs = Layout(has_sessions=True, has_runs=False).outputs(toy.rule)
    assert outputs == questions.files_of(toy.rule)
    asked = trial()
    measures = asked.measures[asked.measures["outcome"] == ALIKE[0]]
    write_table(tmp_path / "measures.tsv", measures)
    write_table(tmp_path / "allocation.tsv", asked.allocation)
    given = [str(tmp_path / name) for name in ("measures.tsv", "allocation.tsv", "out")]
    assert main(["group", *given, "--active", "ketamine", "--control", "midazolam"]) == 0
    capsys.readouterr()
    read = TOY.read(tmp_path / "out" / "group" / "toy_table.tsv")
    assert read["n"].tolist() == [15]
    described = json.loads((tmp_path / "out" / "group" / "toy_table.json").read_text(encoding="utf-8"))
    assert described["n"] == {
        "Description": "People with any measurement",
        "Format": "integer",
        "Units": "people",
    }
    words = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).words
    assert "How many people were ever seen" in words
    assert "outcomeneverybodyregion0.x15false" in words.replace(" ", "")


def test_a_question_whose_name_or_table_is_taken_is_refused(toy):
    for name, tables in (("toy", {"other": TOY}), ("other", {"toy_table": TOY})):
        with pytest.raises(ValueError, match="registered already"):
            questions.register(GroupQuestion(name, toy.rule, count_people, tables))
    with pytest.raises(ValueError, match=r"\['later'\] are made by none before it"):
        questions.register(GroupQuestion("other", toy.rule, count_people, {"o": TOY}, collects=("later",)))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda rows: rows.drop(columns="n"), r"columns \['n'\] are missing"),
        (lambda rows: rows.assign(more=1), r"columns \['more'\] are none of this table"),
        (lambda rows: rows.assign(n=1.5), "column 'n': 1.5 is no integer"),
        (lambda rows: rows.assign(n="many"), "column 'n': 'many' is no"),
        (lambda rows: rows.assign(everybody="yes"), "column 'everybody': 'yes' is"),
    ],
)
def test_a_table_that_is_not_of_its_spec_is_refused_in_both_directions(spoil, says, tmp_path):
    rows = spoil(TOY.frame([{"outcome": "a", "n": 1, "everybody": True}]))
    with pytest.raises(ValueError, match=says):
        TOY.write(tmp_path / "toy.tsv", rows)
    write_table(tmp_path / "toy.tsv", rows.replace({"everybody": {True: "true"}}))
    with pytest.raises(ValueError, match=says):
        TOY.read(tmp_path / "toy.tsv")
