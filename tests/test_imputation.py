"""Who jumps and who does not, and what every strategy makes of a person's missing values."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from reconfmri.checks import check_allocation
from reconfmri.cli.answer import events_of
from reconfmri.config import DEFAULT_SCALES, Group, Trial, parse_config
from reconfmri.group import imputation, missing
from reconfmri.group.asked import Asked
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures
from reconfmri.trial.intercurrent import read_events

UNIT, SESSIONS = "percent signal change", ["1", "2", "3", "4"]
TRUTH = Truth(COVARIANCES["growing"], np.array([0.0, -1.5, -1.2, -0.9]), missing=np.zeros(4))
STRATEGIES = ("jump_to_reference", "copy_reference", "copy_increments", "last_mean")


def make_group(names=("amygdala.x",)) -> Group:
    return Group.from_params(
        {
            "arms": {"active": "ketamine", "control": "midazolam"},
            "outcomes": list(names),
            "primary": {"outcome": names[0], "session": "4"},
            "estimands": ["difference_adjusted", "difference_of_change"],
            "covariance": "unstructured",
        }
    )


def lose(measures, person, sessions, outcome="amygdala.x") -> pd.DataFrame:
    gone = (measures["participant_id"] == person) & measures["session_id"].isin(sessions)
    return measures[~(gone & (measures["outcome"] == outcome))]


@pytest.fixture(scope="module")
def tables():
    outcomes = {"amygdala.x": UNIT, "fd.mean": UNIT}
    return simulate_measures(TRUTH, outcomes=outcomes, scales=DEFAULT_SCALES, seed=2)


def answers(measures, allocation, events=None) -> pd.Series:
    """Estimates by estimand, session and method of the outcome."""
    found = missing.reference_based(Asked(measures, allocation, make_group(), SESSIONS, events=events))
    assert found["status"].str.startswith("ok").all()
    return found.set_index(["estimand", "session", "method"])["estimate"]


ACTIVE = "sub-01"


def test_a_gap_before_a_later_visit_and_an_excluded_scan_do_not_jump(tables):
    """Visit 3 alone is missing; the last scan is lost though its motion was measured; the person left."""
    measures, allocation = tables
    without_motion = measures[measures["outcome"] == "amygdala.x"]
    for table, session, jumps in (
        (lose(without_motion, ACTIVE, ["3"]), "3", False),
        (lose(measures, ACTIVE, ["4"]), "4", False),
        (lose(without_motion, ACTIVE, ["4"]), "4", True),
        (lose(lose(measures, ACTIVE, ["4"]), ACTIVE, ["4"], "fd.mean"), "4", True),
    ):
        found = answers(table, allocation)["difference_adjusted", session]
        apart = (found[list(STRATEGIES)] - found["conditional_mean"]).abs()
        assert (apart > 1e-4).all() == jumps
        assert (apart < 1e-12).all() != jumps


def table_of(*rows) -> pd.DataFrame:
    columns = ["participant_id", "session_id", "event", "strategy", "delta"]
    return pd.DataFrame(rows, columns=columns)


def test_a_table_of_events_gives_each_person_the_strategy_of_the_event(tables):
    """One event per strategy in a table of its own equals that strategy; at random changes none."""
    measures, allocation = tables
    left = lose(measures[measures["outcome"] == "amygdala.x"], ACTIVE, ["3", "4"])
    plain = answers(left, allocation)
    for strategy in STRATEGIES:
        by_event = answers(left, allocation, table_of((ACTIVE, "3", "withdrew", strategy, np.nan)))
        for place in (("difference_adjusted", "4"), ("difference_of_change", "3")):
            assert by_event[(*place, "by_event")] == pytest.approx(plain[(*place, strategy)], abs=1e-12)
    spared = answers(left, allocation, table_of((ACTIVE, "3", "scanner", "missing_at_random", np.nan)))
    at_random = spared["difference_adjusted", "4", "conditional_mean"]
    assert spared["difference_adjusted", "4"].to_numpy() == pytest.approx(at_random, abs=1e-12)
    worse = answers(left, allocation, table_of((ACTIVE, "3", "rescue", "delta", 0.7)))
    weight = (
        worse["difference_of_change", "4", "by_event"]
        - plain["difference_of_change", "4", "conditional_mean"]
    )
    assert weight == pytest.approx(0.7 / 14, abs=1e-12)  # one of fourteen of the active arm


def test_values_seen_after_an_event_count_in_the_answer_but_not_in_the_model(tables):
    """Rescue treatment after the second visit: the values stay, the model of the others is fitted without."""
    measures, allocation = tables
    alone = measures[measures["outcome"] == "amygdala.x"]
    event = table_of((ACTIVE, "3", "rescue", "jump_to_reference", np.nan))
    people = sorted(allocation["participant_id"])
    assert imputation.values_after_events(event, people, SESSIONS)[0].tolist() == [False, False, True, True]
    assert imputation.values_after_events(event, people, SESSIONS)[1:].sum() == 0
    there = answers(alone, allocation, event)["difference_of_change", "4", "by_event"]
    everything = answers(alone, allocation)["difference_of_change", "4", "conditional_mean"]
    assert there == pytest.approx(everything, abs=1e-9)  # nothing is filled in: complete data


def test_the_means_of_each_strategy_by_hand():
    own, reference = np.array([[10.0, 20.0, 30.0, 40.0]] * 5), np.array([[1.0, 2.0, 3.0, 4.0]] * 5)
    names = ("jump_to_reference", "copy_reference", "copy_increments", "last_mean", "delta")
    plan = imputation.Plan(np.full(5, 2), names, np.array([0, 0, 0, 0, 7.0]))
    assert plan.means(own, reference).tolist() == [
        [10, 20, 3, 4],
        [1, 2, 3, 4],
        [10, 20, 21, 22],
        [10, 20, 20, 20],
        [10, 20, 30, 40],
    ]
    assert plan.shifts(4).tolist() == [[0, 0, 0, 0]] * 4 + [[0, 0, 7, 7]]
    nobody = imputation.Plan(np.full(5, 4), names, np.zeros(5))
    assert (nobody.means(own, reference) == own).all()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("sub-77", "3", "left", "delta", "1"), "line 2: sub-77 is not in the allocation"),
        (("sub-01", "1", "left", "delta", "1"), "session '1' is none after the baseline.*Fix: one of"),
        (("sub-01", "3", "left", "worst_case", "n/a"), "strategy 'worst_case' is unknown"),
        (("sub-01", "3", "left", "delta", "n/a"), "delta is None.*a number in the unit"),
        (("sub-01", "3", "left", "delta", "1,5"), "delta is '1,5'"),
        (("sub-01", "3", "left", "last_mean", "1"), "delta 1 beside 'last_mean'"),
        (("sub-01", "3", "n/a", "last_mean", "n/a"), "the event has no name"),
        (("sub-02", "3", "left", "last_mean", "n/a"), "line 3: 'left' has the strategies"),
        (("sub-03", "3", "x", "last_mean", "n/a"), "sub-03 has two rows"),
    ],
)
def test_a_table_of_events_that_is_wrong_is_refused_with_its_line(tmp_path, row, says):
    path = tmp_path / "events.tsv"
    second = ("sub-03", "4", "left", "jump_to_reference", "n/a")
    lines = (["participant_id", "session_id", "event", "strategy", "delta"], row, second)
    path.write_text("".join("\t".join(cells) + "\n" for cells in lines))
    allocation = pd.DataFrame({"participant_id": [f"sub-{n:02d}" for n in range(1, 5)]})
    with pytest.raises(ValueError, match=rf"E-CONF-C05 .*events.tsv: .*{says}"):
        read_events(path, allocation, SESSIONS)


def test_the_table_of_events_is_found_beside_the_study_file_or_above_and_its_absence_named(tmp_path):
    folder = tmp_path / "config"
    folder.mkdir()
    (tmp_path / "events.tsv").write_text(
        "participant_id\tsession_id\tevent\tstrategy\nsub-01\t2\tleft\tlast_mean\n"
    )
    group = make_group().model_copy(update={"intercurrent_events": "events.tsv"})
    trial = Trial("t", "q", 1, group, {name: name for name in SESSIONS}, {}, {}, {})
    allocation = pd.DataFrame({"participant_id": ["sub-01"]})
    options = Namespace(config=folder / "config.yaml")
    found = events_of(options, allocation, trial)
    assert found["strategy"].tolist() == ["last_mean"]
    assert found["delta"].isna().all()
    (tmp_path / "events.tsv").unlink()
    with pytest.raises(ValueError, match=r"E-CONF-C05 .*there is no events.tsv. Fix: give its path"):
        events_of(options, allocation, trial)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (None, "there is no such table of events"),
        ("sub-09\t30\tleft\tlast_mean\n", "line 2: sub-09 is not in the allocation"),
        ("sub-01\tpost\tleft\tlast_mean\n", ""),
    ],
)
def test_check_reads_the_table_of_events(tmp_path, events, says):
    config = Path(__file__).parents[1] / "config" / "config.yaml"
    study = parse_config(yaml.safe_load(config.read_text(encoding="utf-8")))
    assert study.group
    group = study.group.model_copy(update={"intercurrent_events": "events.tsv"})
    (tmp_path / group.allocation).write_text(
        "participant_id\tarm\nsub-01\tketamine\nsub-02\tmidazolam\nsub-03\tketamine\n"
    )
    if events:
        later = study.sessions[1].id
        text = "participant_id\tsession_id\tevent\tstrategy\n" + events.replace("post", later)
        (tmp_path / "events.tsv").write_text(text)
    table = pd.DataFrame({"participant_id": ["sub-01", "sub-02", "sub-03"]})
    _, problems = check_allocation(tmp_path, study.model_copy(update={"group": group}), table)
    found = [problem for problem in problems if problem.file == "events.tsv"]
    assert [(problem.code, says in problem.what) for problem in found] == [("E-CONF-C05", True)] * bool(says)
