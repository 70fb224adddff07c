"""Labels: spellings of one label are refused by name, and the order of visits is never guessed from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reconfmri.cli import main
from reconfmri.config import Arms, Covariate, parse_config
from reconfmri.covariates import columns_of
from reconfmri.group import frequentist, grid, group_from_tables
from reconfmri.group.asked import Asked
from reconfmri.labels import alike, essence, in_order
from reconfmri.measures import read_measures
from reconfmri.trial.allocation import read_allocation

HEADER = "participant_id\tsession_id\tdomain\toutcome\tvalue\tse\tunit\tcoverage\n"


def measures_of(visits=("1", "2", "3"), people=("sub-01", "sub-02", "sub-03", "sub-04")) -> str:
    rows = [
        f"{person}\t{visit}\tclinical\tpcl5.total\t{40 + n + m}\tn/a\tPCL-5 points\tn/a\n"
        for n, person in enumerate(people)
        for m, visit in enumerate(visits)
    ]
    return HEADER + "".join(rows)


def answer(tmp_path, measures: str, arms: str = "", *more: str) -> int:
    (tmp_path / "m.tsv").write_text(measures)
    given = arms or "".join(f"sub-0{n}\t{'ketamine' if n % 2 else 'placebo'}\n" for n in range(1, 5))
    (tmp_path / "a.tsv").write_text("participant_id\tarm\n" + given)
    files = [str(tmp_path / name) for name in ("m.tsv", "a.tsv", "out")]
    return main(["group", *files, "--active", "ketamine", "--control", "placebo", *more])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2 ", "2"), ("01", "1"), ("1.0", "1"), ("Ketamine", "ketamine"), ("F", "F "), ("m", "M"),
        ("V01", "V1"), ("sub-3", "sub-03"), ("site  A", "site A"), ("ｍ", "m"), ("N/A", "n/a"), (" ", "n/a"),
        ("keta\u200bmine", "ketamine"), ("ketamine\u00ad", "ketamine"), ("k\u0435t\u0430mine", "ketamine"),
        ("\u041aetamine", "Ketamine"), ("T\u20111", "T-1"), ("placebo_1", "placebo 1"), ("'ket'", "ket"),
        ("\u201cket\u201d", "ket"), ("ket.", "ket"), ("Kétamine", "ketamine"), ("\u0663", "3"), (".", "n/a"),
    ],
)  # fmt: skip
def test_spellings_of_one_label_are_found(one, other):
    assert alike([one, other, "something else"]) != []
    assert essence(one) == essence(other) or not essence(one)


@pytest.mark.parametrize(
    "labels",
    [
        ["1", "10", "100"],
        ["0.5", "5"],
        ["0.05", "0.5"],
        ["a1", "a10"],
        ["-1", "1"],
        ["T-1", "T1"],
        ["<5", ">5"],
        ["µS", "S"],
        ["amygdala-hippocampus.x", "amygdala_hippocampus.x"],
        ["+", "-"],
    ],
)
def test_different_labels_are_not_taken_for_one(labels):
    assert alike([*labels, "n/a"]) == []


@pytest.mark.parametrize("visits", [("pre", "post", "fu"), ("T0", "T1", "T10"), ("screening", "V1", "V2")])
def test_named_visits_without_an_order_stop_and_say_how_to_give_one(tmp_path, visits, capsys):
    assert answer(tmp_path, measures_of(visits)) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "E-CONF-C09" in said
    assert "--sessions" in said
    assert not (tmp_path / "out").exists()


def test_a_baseline_alone_does_not_order_the_later_visits():
    with pytest.raises(ValueError, match="after 'pre' is not known.*--sessions pre"):
        in_order(["pre", "post", "fu"], "m.tsv", baseline="pre")
    assert in_order(["pre", "post"], "m.tsv", baseline="pre") == ["pre", "post"]
    assert in_order(["2", "10", "screening", "1"], "m.tsv", baseline="screening") == [
        "screening",
        "1",
        "2",
        "10",
    ]


@pytest.mark.parametrize(
    "declared", [["pre", "fu"], ["pre", "post", "fu", "late"], ["pre", "pre", "post", "fu"]]
)
def test_a_declared_order_names_every_visit_once(declared):
    with pytest.raises(ValueError, match="name every visit once"):
        in_order(["pre", "post", "fu"], "m.tsv", declared=declared)


def test_numbered_and_named_visits_give_the_same_numbers():
    """A fall of 10 after the baseline stays a fall whatever the visits are called."""
    rng, arms = np.random.default_rng(3), {"active": "ketamine", "control": "placebo"}
    names = {"1": "pre", "2": "post", "3": "fu"}
    people = [f"sub-{n:02d}" for n in range(16)]
    drug = np.arange(16) % 2 == 1
    values = 40 + rng.normal(0, 8, (16, 1)) + rng.normal(0, 3, (16, 3)) - 10 * np.outer(drug, [0, 1, 1])
    rows = [
        (p, v, "clinical", "pcl5.total", values[i, j])
        for i, p in enumerate(people)
        for j, v in enumerate(names)
    ]
    measures = pd.DataFrame(rows, columns=["participant_id", "session_id", "domain", "outcome", "value"])
    measures = measures.assign(unit="PCL-5 points", se=np.nan)
    allocation = pd.DataFrame({"participant_id": people, "arm": np.where(drug, "ketamine", "placebo")})
    group, visits = group_from_tables(measures, allocation, **arms)
    numbered = frequentist.estimate(Asked(measures, allocation, group, visits))
    measures["session_id"] = measures["session_id"].map(names)
    group, visits = group_from_tables(measures, allocation, sessions=list(names.values()), **arms)
    named = frequentist.estimate(Asked(measures, allocation, group, visits))
    assert (visits, group.primary.session) == (["pre", "post", "fu"], "post")
    np.testing.assert_allclose(named["estimate"].astype(float), numbered["estimate"].astype(float))
    adjusted = named[(named["estimand"] == "difference_adjusted") & (named["method"] == "ancova")]
    assert (adjusted["estimate"].astype(float) < -6).all()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("sub-01\t1\t", "sub-01\t01\t", "'01' and '1'"),
        ("sub-02\t2\t", "sub-02\t2 \t", "'2' and '2 '"),
        ("sub-03\t3\t", "sub-3\t3\t", "'sub-03' and 'sub-3'"),
        ("pcl5.total\t41", "PCL5.total\t41", "'pcl5.total' and 'PCL5.total'"),
        ("PCL-5 points", "pcl-5 points", "'pcl-5 points' and 'PCL-5 points'"),
    ],
)
def test_spellings_in_a_table_of_measures_stop_and_are_both_named(tmp_path, old, new, named):
    path = tmp_path / "m.tsv"
    path.write_text(measures_of().replace(old, new, 1))
    with pytest.raises(ValueError, match="E-CONF-C10.*m.tsv") as error:
        read_measures(path)
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (
            "sub-01\tketamine \tn/a\nsub-02\tketamine\tn/a\nsub-03\tplacebo\tn/a\n",
            "'ketamine ' and 'ketamine'",
        ),
        ("sub-01\tketamine\tn/a\nsub-02\tKetamine\tn/a\nsub-03\tplacebo\tn/a\n", "'ketamine' and 'Ketamine'"),
        ("sub-01\tketamine\tF\nsub-02\tplacebo\tF \nsub-03\tplacebo\tm\n", "'F' and 'F '"),
        ("sub-01\tketamine\tm\nsub-02\tplacebo\tM\nsub-03\tplacebo\tF\n", "'m' and 'M'"),
        ("sub-01\tketamine\t1\nsub-1\tplacebo\t2\n", "'sub-01' and 'sub-1'"),
    ],
)
def test_spellings_in_the_allocation_stop_and_are_both_named(tmp_path, rows, named):
    path = tmp_path / "allocation.tsv"
    path.write_text("participant_id\tarm\tstratum\n" + rows)
    with pytest.raises(ValueError, match="E-CONF-C10") as error:
        read_allocation(path)
    assert named in str(error.value)


def test_an_arm_of_the_study_spelt_otherwise_than_in_the_allocation_is_named():
    table = pd.DataFrame({"participant_id": ["sub-01", "sub-02"], "arm": ["Ketamine", "placebo"]})
    settings = {"arms": {"active": "ketamine", "control": "placebo"}, "outcomes": ["x.y"]}
    group = grid.Group.from_params(settings | {"primary": {"outcome": "x.y", "session": "2"}})
    with pytest.raises(ValueError, match="'Ketamine' and 'ketamine'"):
        grid.read_arms(table, group)
    with pytest.raises(ValueError, match="'Ketamine' and 'ketamine'"):
        Arms(active="Ketamine", control="ketamine")


def test_people_spelt_otherwise_in_measures_and_allocation_are_named(tmp_path):
    arms = "".join(f"sub-{n}\t{'ketamine' if n % 2 else 'placebo'}\n" for n in range(1, 5))
    (tmp_path / "m.tsv").write_text(measures_of())
    measures = read_measures(tmp_path / "m.tsv")
    (tmp_path / "a.tsv").write_text("participant_id\tarm\n" + arms)
    allocation = read_allocation(tmp_path / "a.tsv")
    group, visits = group_from_tables(measures, allocation, active="ketamine", control="placebo")
    with pytest.raises(ValueError, match="'sub-01' and 'sub-1'"):
        grid.lay_out(measures, allocation, group, visits)


def test_categories_of_a_covariate_that_look_like_one_are_named():
    cells = {"sub-01": "F", "sub-02": "F ", "sub-03": "m", "sub-04": "M"}
    with pytest.raises(ValueError, match="'F' and 'F '; 'm' and 'M'"):
        columns_of("sex", Covariate(column="sex", kind="category"), cells, "participants.tsv")


def test_visits_of_the_study_file_differ_and_do_not_go_back_in_time():
    raw = {"name": "x", "tasks": {"rest": {}}, "rois": {"regions": {"a": {"labels": ["Left Amygdala"]}}}}
    visits = [{"id": "1", "name": "a", "day": 0}, {"id": "01", "name": "b", "day": 7}]
    with pytest.raises(ValueError, match="'1' and '01'"):
        parse_config(raw | {"sessions": visits})
    visits = [{"id": "post", "name": "a", "day": 7}, {"id": "pre", "name": "b", "day": 0}]
    with pytest.raises(ValueError, match="go back in time"):
        parse_config(raw | {"sessions": visits})


def test_a_value_given_twice_is_shown_twice(tmp_path):
    path = tmp_path / "m.tsv"
    path.write_text(measures_of() + "sub-01\t2\tclinical\tpcl5.total\t9\tn/a\tPCL-5 points\tn/a\n")
    with pytest.raises(ValueError, match="sub-01 session 2 is there twice: 41 in row 2, 9 in row 13"):
        read_measures(path)


def test_plan_orders_named_visits_only_as_declared(tmp_path, capsys):
    people = [f"sub-{n:02d}" for n in range(1, 13)]
    (tmp_path / "m.tsv").write_text(measures_of(("pre", "post"), people))
    given = ["plan", str(tmp_path / "out"), "--difference", "5", "--measures", str(tmp_path / "m.tsv")]
    assert main(given) == 1
    assert "E-CONF-C09" in capsys.readouterr().err
