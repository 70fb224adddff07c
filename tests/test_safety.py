"""Safety: adverse events counted by arm, ratings by minute and visit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact
from tests.test_responders import trial

from reconfmri.checks import check_adverse_events
from reconfmri.config import Scale
from reconfmri.contracts import questions
from reconfmri.group import safety
from reconfmri.group.tables import answer_rule
from reconfmri.scales.scoring import score_scale
from reconfmri.tables import write_table
from reconfmri.trial.adverse_events import read_adverse_events


def table_at(path, *rows, header="participant_id\tterm\tseverity\tserious"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def asked_with(events):
    asked = trial(np.full((10, 2), 40.0), active=4, seen=("1", "2"), drop=5)
    return type(asked)(asked.measures, asked.allocation, asked.group, asked.sessions, adverse_events=events)


def test_people_and_events_are_counted_by_arm_of_everybody_randomised(tmp_path):
    path = table_at(
        tmp_path / "adverse_events.tsv",
        "sub-00\tHeadache\tmild\tno", "00\theadache \tmild\tno", "sub-01\theadache\tsevere\tyes",
        "sub-05\tnausea\tmild\tn/a", "sub-99\tfall\tmild\tno",
    )  # fmt: skip
    rows = safety.estimate(asked_with(read_adverse_events(path)))[0].set_index(["kind", "name"])
    headache = rows.loc[("term", "headache")]
    assert headache[["people_active", "n_active", "events_active"]].tolist() == [2, 4, 3]
    assert headache[["people_control", "n_control"]].tolist() == [0, 6]
    assert headache["p"] == pytest.approx(fisher_exact([[2, 2], [0, 6]])[1])
    assert headache["lower"] <= headache["difference"] == 0.5 <= headache["upper"]
    assert rows.loc[("any", safety.ANY), "people_active"] == 2
    assert rows.loc[("any", safety.ANY), "people_control"] == 1
    assert rows.loc[("any", safety.SERIOUS), "people_active"] == 1
    assert ("term", "fall") not in rows.index, "a person of no arm"
    assert rows.index[0] == ("any", safety.ANY)


def test_no_table_and_an_empty_one_are_two_things(tmp_path):
    assert not len(safety.estimate(asked_with(None))[0])
    path = table_at(tmp_path / "adverse_events.tsv")
    rows = safety.estimate(asked_with(read_adverse_events(path)))[0]
    assert rows["people_active"].tolist() == [0], "nobody had one, of everybody"
    assert rows["difference"].tolist() == [0]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("sub-01\tn/a\tmild\tno", "line 2: term is missing"),
        ("sub-01\tfall\tmild\tmaybe", "serious is 'maybe'"),
    ],
)
def test_a_row_that_says_nothing_is_one_line(tmp_path, row, says):
    with pytest.raises(ValueError, match=says):
        read_adverse_events(table_at(tmp_path / "adverse_events.tsv", row))


def test_ratings_by_minute_are_outcomes_and_shown_by_arm():
    scale = Scale(range=(0, 92), unit="CADSS points", repeats="minute", occasions=["0", "40"])
    rows = [("sub-00", "1", "0", "2"), ("sub-00", "1", "40", "30"), ("sub-04", "1", "40", "4")]
    table = pd.DataFrame(rows, columns=["participant_id", "session_id", "minute", "total"], dtype=object)
    scored, said = score_scale(table, "cadss", scale)
    found = scored.set_index(["participant_id", "outcome"])["value"]
    assert found["sub-00", "cadss.minute_40"] == 30
    assert found["sub-00", "cadss.total"] == 30
    assert np.isnan(found["sub-04", "cadss.minute_0"])
    assert "no rating at minute 0" in said[0].why.what
    asked = asked_with(None)
    group = asked.group.model_copy(update={"safety": {"dissociation": ["cadss.minute_0", "cadss.minute_40"]}})
    shown = safety.monitored(type(asked)(scored.assign(n_runs=1), asked.allocation, group, ["1"]))
    assert shown[["outcome", "arm", "n", "mean"]].to_numpy().tolist() == [
        ["cadss.minute_0", "ketamine", 1, 2.0],
        ["cadss.minute_40", "ketamine", 1, 30.0],
        ["cadss.minute_40", "midazolam", 1, 4.0],
    ]


class Named(dict):
    """As Snakemake's named lists: by key and by attribute."""

    __getattr__ = dict.__getitem__


def test_the_rule_gives_the_table_to_the_question(tmp_path):
    asked = trial(np.full((10, 2), 40.0) - np.arange(20).reshape(10, 2), active=4, seen=("1", "2"), drop=5)
    write_table(tmp_path / "measures.tsv", asked.measures)
    write_table(tmp_path / "allocation.tsv", asked.allocation)
    events = table_at(tmp_path / "adverse_events.tsv", "sub-05\tnausea\tmild\tno")
    given = Named(
        measures=tmp_path / "measures.tsv", allocation=tmp_path / "allocation.tsv", participants=None,
        adverse_events=str(events), codes=None,
    )  # fmt: skip
    params = Named(settings=asked.group.model_dump(mode="json"), sessions=["1", "2"])
    output = {name: tmp_path / f"{name}.tsv" for name in questions.files_of("fit_frequentist_models")}
    rule = SimpleNamespace(
        rule="fit_frequentist_models", input=given, params=params, output=output, threads=1
    )
    answer_rule(rule)
    rows = questions.specs()["adverse_events"].read(output["adverse_events"])
    assert rows["people_control"].tolist() == [1, 0, 1, 1]
    assert rows["name"].tolist()[-1] == "nausea"


def test_events_of_nobody_and_rows_that_cannot_be_read_are_found_at_the_door(tmp_path):
    """An id with a letter wrong would lose an event in silence."""
    (tmp_path / "phenotype").mkdir()
    path = tmp_path / "phenotype" / "adverse_events.tsv"
    assert check_adverse_events(tmp_path, ["sub-01"]) == []
    path.write_text("participant_id\tterm\nsub-01\theadache\n02\tnausea\nsub-1\tfall\n", encoding="utf-8")
    found = check_adverse_events(tmp_path, ["sub-01", "sub-02", "sub-03"])
    assert [(item.severity, "'sub-1'" in item.what) for item in found] == [("STOP", True)]
    path.write_text("participant_id\tterm\nsub-01\theadache\nsub-77\tfall\n", encoding="utf-8")
    (stranger,) = check_adverse_events(tmp_path, ["sub-01", "sub-02"])
    assert stranger.severity == "WARN"
    assert "'sub-77' (1 row) meets nobody" in stranger.what
    path.write_text("participant_id\tterm\nsub-01\tn/a\n", encoding="utf-8")
    assert [item.code for item in check_adverse_events(tmp_path, ["sub-01"])] == ["E-DATA-B17"]


def test_columns_in_other_letters_count_and_a_row_of_no_event_is_refused(tmp_path):
    """`Serious` was passed over, and `none` was an event."""
    path = tmp_path / "adverse_events.tsv"
    path.write_text("participant_id\tterm\tSerious \nsub-01\tFall\t1.0\nsub-02\tfall\tNo\n", encoding="utf-8")
    assert read_adverse_events(path)["serious"].tolist() == [True, False]
    for content, says in (
        ("participant_id\tterm\nsub-01\tNone\n", "there was no event"),
        ("participant_id\tterm\tserious\tSerious\nsub-01\tfall\t1\t0\n", "has the columns"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=says):
            read_adverse_events(path)
