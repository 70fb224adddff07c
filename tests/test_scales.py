"""Scales: a total is what its items say, or missing with the line and the reason."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from reconfmri.config import Scale, outcome_label, parse_config
from reconfmri.config.scales import FOLDER, library, scale_label
from reconfmri.report.scale_methods import scale_methods
from reconfmri.scales.scoring import score_scale

ROOT = Path(__file__).resolve().parents[1]
PLAIN = Scale(range=(0, 80), unit="PCL-5 points")
ITEMS = Scale(range=(0, 8), items=["i1", "i2"], unit="points")


def scored(given, name, scale):
    """Rows of scores, and what is written in exclusions.tsv."""
    rows, found = score_scale(given, name, scale)
    return rows, [one.exclusion for one in found]


def table(*rows, columns=("participant_id", "session_id", "total")):
    return pd.DataFrame(rows, columns=list(columns), dtype=object)


def test_totals_become_rows_whatever_the_spelling_of_ids():
    rows, missing = scored(table(("sub-01", "ses-1", "41"), ("02", "2", "13")), "pcl5", PLAIN)
    assert rows[["participant_id", "session_id", "outcome", "value", "unit"]].to_numpy().tolist() == [
        ["sub-01", "1", "pcl5.total", 41.0, "PCL-5 points"],
        ["sub-02", "2", "pcl5.total", 13.0, "PCL-5 points"],
    ]
    assert not missing


def test_a_scale_without_sessions_has_none():
    rows, _ = scored(table(("sub-01", "41"), columns=("participant_id", "total")), "pcl5", PLAIN)
    assert rows["session_id"].tolist() == ["n/a"]


@pytest.mark.parametrize(
    ("cell", "says"),
    [("81", "81, outside 0 to 80"), ("forty", "'forty', not a number"), (None, "total is missing")],
)
def test_a_total_that_cannot_be_is_missing_with_its_line(cell, says):
    rows, missing = scored(table(("sub-01", "1", "40"), ("sub-01", "2", cell)), "pcl5", PLAIN)
    assert np.isnan(rows["value"][1])
    assert rows["value"][0] == 40
    [one] = missing
    assert (one.participant_id, one.session_id, one.region, one.code) == (
        "sub-01",
        "2",
        "pcl5.total",
        "E-DATA-B16",
    )
    assert says in one.reason
    assert "line 3" in one.reason
    assert not one.takes_the_run_out, "a questionnaire does not exclude a scan"


@pytest.mark.parametrize(
    ("cells", "value", "says"),
    [
        (("3", "4", "7"), 7.0, ""),
        (("3", "4", None), 7.0, ""),
        (("3", "4", "6"), np.nan, "total is 6, its items sum to 7"),
        (("3", None, "3"), np.nan, r"items \['i2'\] are missing"),
        (("3", "5", "8"), np.nan, "i2 is 5, outside 0 to 4"),
    ],
    ids=["agree", "no total", "differ", "no item", "range"],
)
def test_items_are_summed_and_compared_with_the_total(cells, value, says):
    given = table(("sub-01", "1", *cells), columns=("participant_id", "session_id", "i1", "i2", "total"))
    rows, missing = scored(given, "x", ITEMS)
    np.testing.assert_equal(rows["value"][0], value)
    if says:
        with pytest.raises(ValueError, match=says):
            raise ValueError(missing[0].reason)
    else:
        assert not missing


def test_a_visit_on_two_lines_has_no_score_and_names_both():
    twice = table(("sub-01", "ses-1", "41"), ("sub-02", "1", "9"), ("01", "1", "13"))
    rows, missing = scored(twice, "pcl5", PLAIN)
    assert rows["participant_id"].tolist() == ["sub-01", "sub-02"]
    np.testing.assert_equal(rows["value"].to_numpy(), [np.nan, 9.0])
    assert "phenotype/pcl5.tsv line 2 and 4: one visit is on several lines" in missing[0].reason


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"columns \['total'\] are missing"):
        score_scale(table(("sub-01", "1"), columns=("participant_id", "session_id")), "pcl5", PLAIN)


# the library, and items


def library_scale(name, **more):
    given = {"library": name} | ({"item": "i{}"} if "n_items" in library()[name] else {})
    return Scale.from_params(given | more)


def of_items(rows, scale, **more):
    """A table of one visit per row of ratings, missing ones None."""
    made = pd.DataFrame(
        [["n/a" if cell is None else f"{cell:g}" for cell in row] for row in rows],
        columns=scale.columns,
        dtype=object,
    ).replace("n/a", None)
    made.insert(0, "participant_id", [f"sub-{n:02d}" for n in range(len(rows))])
    return made.assign(session_id="1", **more)


def values(rows, score):
    mine = rows[rows["outcome"].str.endswith(f".{score}")]
    return mine["value"].to_numpy()


@pytest.mark.parametrize("name", sorted(library()))
def test_every_scale_of_the_library_is_whole(name):
    scale = library_scale(name)
    assert scale.citation
    assert scale.source
    assert scale.checked in (True, False)
    assert scale_label(name) == scale.label
    text = (FOLDER / f"{name}.yaml").read_text("utf-8")
    assert "?" not in text, "no texts of items"
    if scale.columns:
        rng = np.random.default_rng(sum(map(ord, name)))
        ends = [scale.ends(number) for number in scale.item_numbers]
        ratings = [[rng.integers(low, high + 1) for low, high in ends] for _ in range(30)]
        ratings += [[low for low, _ in ends], [high for _, high in ends]]
        rows, said = scored(of_items(ratings, scale), name, scale)
        assert not said
        np.testing.assert_allclose(values(rows, "total"), np.sum(ratings, axis=1))
        assert values(rows, "total")[-2:].tolist() == list(scale.range)
        places = {number: place for place, number in enumerate(scale.item_numbers)}
        for part, subscale in scale.subscales.items():
            mine = np.array(ratings)[:, [places[number] for number in subscale.items]]
            expected = mine.sum(axis=1) if subscale.score == "sum" else mine.mean(axis=1)
            np.testing.assert_allclose(values(rows, part), expected)


def test_the_library_says_what_the_sources_say():
    pcl5, caps5 = library()["pcl5"], library()["caps5"]
    clusters = [range(1, 6), range(6, 8), range(8, 15), range(15, 21)]
    for scale in (pcl5, caps5):
        assert [part["items"] for part in scale["subscales"].values()] == [list(part) for part in clusters]
        assert list(scale["diagnosis"]["symptoms"].values()) == [1, 1, 2, 2]
    assert list(pcl5["cuts"].values()) == [31, 33]
    assert [rule["drop"] for rule in pcl5["changes"].values()] == [5, 10, 15, 18]
    assert [rule.get("at_most") for rule in pcl5["changes"].values()] == [None, None, 28, 28]
    assert [caps5["changes"][name] for name in ("marx12", "marx13")] == [
        {"drop": 12, "at_most": 8},
        {"drop": 13, "at_most": 8},
    ]
    assert (
        library()["cadss"]["subscales"]["six"]["items"]
        == library()["cadss6"]["numbers"]
        == [1, 2, 6, 7, 15, 22]
    )
    ranges = {"iesr": 88, "cadss": 92, "bdi2": 63, "madrs": 60, "hamd17": 52, "psqi": 21}
    assert {name: library()[name]["range"][1] for name in ranges} == ranges
    items = sorted(n for part in library()["iesr"]["subscales"].values() for n in part["items"])
    assert items == list(range(1, 23))


@pytest.mark.parametrize(
    ("symptoms", "expected"),
    [
        ({1, 6, 8, 9, 15, 16}, 1),
        ({1, 6, 8, 15, 16}, 0),
        ({1, 2, 8, 9, 15, 16}, 0),
        ({6, 8, 9, 15, 16}, 0),
        (set(), 0),
    ],
)
def test_a_diagnosis_follows_the_rule_of_dsm5(symptoms, expected):
    scale = library_scale("pcl5")
    ratings = [2 if number in symptoms else 1 for number in range(1, 21)]
    rows, _ = scored(of_items([ratings], scale), "pcl5", scale)
    assert values(rows, "diagnosis").tolist() == [expected]


def test_a_missing_item_leaves_a_diagnosis_open_only_where_it_decides():
    scale = library_scale("pcl5")
    full = [2 if n in (1, 6, 8, 9, 15, 16) else 0 for n in range(1, 21)]
    decided, undecided, beyond = list(full), list(full), [0] * 20
    decided[1], undecided[5], beyond[5] = None, None, None
    rows, said = scored(of_items([decided, undecided, beyond], scale), "pcl5", scale)
    np.testing.assert_equal(values(rows, "diagnosis"), [1, np.nan, 0])
    assert np.isnan(values(rows, "total")).all()
    assert {row.region for row in said if row.participant_id == "sub-00"} == {"pcl5.total", "pcl5.intrusion"}


def test_caps5_needs_duration_and_distress_and_the_past_week_form_gives_no_diagnosis():
    assert not library_scale("caps5").diagnoses
    criteria = {"duration": "f", "distress": "g"}
    assert "diagnosis" not in library_scale("caps5", criteria=criteria, period="past_week").scores
    scale = library_scale("caps5", criteria=criteria)
    table = of_items([[3] * 20] * 4, scale, f=["1", "1", None, "2"], g=["1", "0", "1", "1"])
    rows, said = scored(table, "caps5", scale)
    np.testing.assert_equal(values(rows, "diagnosis"), [1, 0, np.nan, np.nan])
    assert any("f is 2, outside 0 to 1" in row.reason for row in said)


def test_items_are_reversed_and_counted_from_where_the_table_counts():
    scale = Scale(
        range=(0, 9), items=["a", "b", "c"], item_range=(0, 3), items_from=1, reversed=[2], unit="points"
    )
    rows, _ = scored(of_items([[1, 1, 1], [4, 4, 4], [2, 3, 1]], scale), "x", scale)
    assert values(rows, "total").tolist() == [3, 6, 1 + 1 + 0]


@pytest.mark.parametrize(("declared", "shift"), [(None, 1), (1, -1)])
def test_a_table_that_counts_from_another_number_has_no_scores(declared, shift):
    scale = library_scale("pcl5", items_from=declared)
    rng = np.random.default_rng(4)
    start = declared or 0
    ratings = rng.integers(0, 5, (12, 20)) + start + shift
    rows, said = scored(of_items(ratings.tolist(), scale), "pcl5", scale)
    assert rows["value"].isna().all()
    assert all(f"declare items_from: {start + shift}" in row.reason for row in said)
    right = library_scale("pcl5", items_from=start + shift)
    rows, said = scored(of_items(ratings.tolist(), right), "pcl5", right)
    assert not said
    assert values(rows, "total").tolist() == (ratings - start - shift).sum(axis=1).tolist()


def test_one_typing_error_concerns_its_own_visit():
    scale = library_scale("pcl5")
    ratings = np.ones((12, 20), dtype=int)
    ratings[3, 4] = 5
    rows, said = scored(of_items(ratings.tolist(), scale), "pcl5", scale)
    assert np.isnan(values(rows, "total")).nonzero()[0].tolist() == [3]
    assert np.isnan(values(rows, "avoidance")).sum() == 0
    assert "i5 is 5, outside 0 to 4" in said[0].reason


def test_a_total_that_counts_otherwise_than_its_items_is_named_so():
    scale = library_scale("pcl5")
    table = of_items([[2] * 20], scale).assign(total=["60"])
    _, said = scored(table, "pcl5", scale)
    assert (
        "total is 60, its items sum to 40, 20 apart: one of them counts the items from another"
        in said[0].reason
    )


def test_missing_items_are_the_mean_of_their_own_cluster_up_to_the_declared_share():
    ratings = [[1] * 5 + [3] * 2 + [2] * 7 + [4] * 6 for _ in range(3)]
    ratings[0][0] = ratings[1][5] = None
    scale = library_scale("pcl5", max_missing=0.25)
    rows, said = scored(of_items(ratings, scale), "pcl5", scale)
    assert values(rows, "total")[[0, 2]].tolist() == [49, 49], "the cluster's mean of 1, not the scale's"
    assert np.isnan(values(rows, "total")[1]), "half of the cluster"
    remarks = [row for row in said if row.participant_id == "sub-00" and "diagnosis" not in row.region]
    assert {row.code for row in remarks} == {"W-DATA-B16"}
    assert not any(row.takes_the_run_out for row in said)
    assert rows["coverage"][rows["outcome"] == "pcl5.total"].tolist()[0] == pytest.approx(19 / 20)
    strict, _ = scored(of_items(ratings, library_scale("pcl5")), "pcl5", library_scale("pcl5"))
    assert np.isnan(values(strict, "total")).tolist() == [True, True, False]


def test_a_day_outside_of_its_window_or_unknown_has_no_score():
    scale = Scale(range=(0, 80), unit="PCL-5 points", windows={"2": (3, 14)})
    given = table(
        ("sub-01", "2", "40", "7"),
        ("sub-02", "2", "40", "15"),
        ("sub-03", "2", "40", None),
        ("sub-04", "1", "40", None),
        columns=("participant_id", "session_id", "total", "day"),
    )
    rows, said = scored(given, "pcl5", scale)
    np.testing.assert_equal(rows["value"].to_numpy(), [40, np.nan, np.nan, 40])
    assert "day 15 is outside of the window, 3 to 14" in said[0].reason
    assert "its day is not known" in said[1].reason


@pytest.mark.parametrize(("take", "expected"), [("highest", 30), ("last", 2), ("first", 10), ("mean", 14)])
def test_several_ratings_of_a_visit_are_one_as_declared(take, expected):
    scale = Scale(range=(0, 92), unit="CADSS points", repeats="minute", take=take)
    columns = ("participant_id", "session_id", "minute", "total")
    given = table(("01", "1", "0", "10"), ("01", "1", "240", "2"), ("01", "1", "40", "30"), columns=columns)
    rows, _ = scored(given, "cadss", scale)
    assert rows["value"].tolist() == [expected]
    gap = table(
        ("01", "1", "0", "10"),
        ("01", "1", "40", None),
        ("02", "1", "0", "3"),
        ("02", "1", "0", "4"),
        columns=columns,
    )
    rows, said = scored(gap, "cadss", scale)
    assert np.isnan(rows["value"][1])
    assert "two lines of one visit have one minute" in said[-1].reason
    if take in ("highest", "mean"):
        assert np.isnan(rows["value"][0]), "the missing one could be the one that counts"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"library": "plc5"}, "pcl5"),
        ({"library": "pcl5", "items": ["a", "b"]}, "items has 2, the scale 20"),
        ({"library": "pcl5", "item": "i{}", "range": [0, 60]}, "20 items of"),
        ({"library": "pcl5", "criteria": {"duration": "f"}}, "criteria names 'duration'"),
        ({"range": [0, 8], "unit": "x", "items": ["a", "b"], "reversed": [3]}, "reversed names 3"),
        ({"range": [0, 8], "unit": "x", "item": "a{}"}, "item needs n_items"),
        (
            {"range": [0, 8], "unit": "x", "items": ["a", "b"], "subscales": {"total": {"items": [1]}}},
            "is taken",
        ),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        Scale.from_params(given)


def study_with(scales):
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text("utf-8"))
    return parse_config(raw | {"scales": raw["scales"] | scales})


def test_every_setting_of_a_scale_that_changes_a_number_changes_the_methods():
    given = {"library": "caps5", "item": "c{}", "criteria": {"duration": "f", "distress": "g"}}
    before = scale_methods(study_with({"mine": given}))
    changes = [
        {"total": "t"},
        {"item": None, "items": [f"x{n}" for n in range(20)], "score": "mean", "range": [0, 4]},
        {"items_from": 1}, {"reversed": [3]}, {"max_missing": 0.2}, {"windows": {"2": [3, 14]}},
        {"period": "past_week"},
        {"repeats": "minute"}, {"criteria": {}}, {"table": "other"}, {"unit": "points"},
        {"subscales": {"intrusion": {"items": [1, 2]}}, "diagnosis": None, "criteria": {}},
        {"diagnosis": {"rated": 3, "symptoms": {"intrusion": 1}}, "criteria": {}},
        {"item_range": [0, 3], "range": [0, 60]}, {"item_ranges": {"1": [0, 3]}, "range": [0, 79]},
        {"numbers": [*range(1, 20), 21], "subscales": {}, "diagnosis": None, "criteria": {}},
    ]  # fmt: skip
    for change in changes:
        assert scale_methods(study_with({"mine": given | change})) != before, change
    repeated = given | {"repeats": "minute"}
    texts = {
        scale_methods(study_with({"mine": repeated | {"take": take}})) for take in ("highest", "last", "mean")
    }
    assert len(texts) == 3
    assert scale_methods(study_with({"mine": repeated | {"occasions": ["40"]}})) not in texts
    text = scale_methods(study_with({"hamd17": {"library": "hamd17"}}))
    assert "Of HAM-D17 the library's items and ranges could not be checked" in text


def test_scores_are_outcomes_of_the_study_with_labels():
    study = study_with({"mine": {"library": "iesr", "item": "q{}"}})
    assert study.outcome_units()["mine.intrusion"] == "IES-R points per item"
    assert study.trial.ranges["mine.intrusion"] == (0, 4)
    assert outcome_label("pcl5.cognition_mood") == "PCL-5: cognition mood"
    assert "pcl5.intrusion" not in study.outcomes, "the demo's table has totals alone"


def test_a_minute_is_one_however_a_spreadsheet_wrote_it():
    """`40.0` is the rating at 40, and a second one beside `40`."""
    settings = {"range": (0, 92), "unit": "CADSS points", "repeats": "minute", "occasions": ["40"]}
    columns = ["participant_id", "session_id", "minute", "total"]
    rows = [["sub-01", "1", "0", "2"], ["sub-01", "1", "40.0", "30"], ["sub-02", "1", "40", "5"]]
    rows.append(["sub-02", "1", "40.0", "6"])
    found, why = score_scale(pd.DataFrame(rows, columns=columns, dtype=object), "cadss", Scale(**settings))
    values = found.set_index(["participant_id", "outcome"])["value"]
    assert values["sub-01", "cadss.minute_40"] == 30
    assert np.isnan(values["sub-02", "cadss.total"])
    assert any("two lines of one visit have one minute" in item.why.what for item in why)
