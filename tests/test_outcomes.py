"""Scales: a total is what its items say, or missing with the line and the reason."""

import numpy as np
import pandas as pd
import pytest

from reconfmri.config import Scale
from reconfmri.outcomes import score_scale

PLAIN = Scale(range=(0, 80), unit="PCL-5 points")
ITEMS = Scale(range=(0, 8), items=["i1", "i2"], unit="points")


def table(*rows, columns=("participant_id", "session_id", "total")):
    return pd.DataFrame(rows, columns=list(columns), dtype=object)


def test_totals_become_rows_whatever_the_spelling_of_ids():
    rows, missing = score_scale(table(("sub-01", "ses-1", "41"), ("02", "2", "13")), "pcl5", PLAIN)
    assert rows[["participant_id", "session_id", "outcome", "value", "unit"]].to_numpy().tolist() == [
        ["sub-01", "1", "pcl5.total", 41.0, "PCL-5 points"],
        ["sub-02", "2", "pcl5.total", 13.0, "PCL-5 points"],
    ]
    assert not missing


def test_a_scale_without_sessions_has_none():
    rows, _ = score_scale(table(("sub-01", "41"), columns=("participant_id", "total")), "pcl5", PLAIN)
    assert rows["session_id"].tolist() == ["n/a"]


@pytest.mark.parametrize(
    ("cell", "says"),
    [("81", "81, outside 0 to 80"), ("forty", "'forty', not a number"), (None, "total is missing")],
)
def test_a_total_that_cannot_be_is_missing_with_its_line(cell, says):
    rows, missing = score_scale(table(("sub-01", "1", "40"), ("sub-01", "2", cell)), "pcl5", PLAIN)
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
    rows, missing = score_scale(given, "x", ITEMS)
    np.testing.assert_equal(rows["value"][0], value)
    if says:
        with pytest.raises(ValueError, match=says):
            raise ValueError(missing[0].reason)
    else:
        assert not missing


def test_a_person_and_session_on_two_lines_stops_with_both():
    twice = table(("sub-01", "ses-1", "41"), ("sub-02", "1", "9"), ("01", "1", "13"))
    with pytest.raises(ValueError, match=r"phenotype/pcl5\.tsv: sub-01 session 1 stands on lines 2 and 4"):
        score_scale(twice, "pcl5", PLAIN)


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"columns \['total'\] are missing"):
        score_scale(table(("sub-01", "1"), columns=("participant_id", "session_id")), "pcl5", PLAIN)
