"""The books: what is expected is measured or excluded, else the study stops with one line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from reconfmri.books import Entry, check_books, check_scale, outcomes_of_runs
from reconfmri.config import load_study
from reconfmri.exclusions import Exclusion
from reconfmri.quality import LIMITS

ROOT = Path(__file__).resolve().parents[1]
UNIT = Exclusion("sub-01", "1", "memory", "n/a")
PATH = Path("sub-01_desc-activation_measures.tsv")
OUTCOMES = [f"region_{n}.trauma" for n in range(16)]


def table(outcomes, **unit):
    named = {"participant_id": "sub-01", "session_id": "1", "task": "memory", "run": "n/a"} | unit
    rows = [{**named, "outcome": name, "value": 1.0} for name in outcomes]
    return pd.DataFrame(rows, columns=[*named, "outcome", "value"])


def check(rows, exclusions=()):
    check_books({PATH: rows}, [Entry(PATH, UNIT, OUTCOMES)], exclusions)


def test_whole_books_balance():
    check(table([*OUTCOMES, "one more than was asked for"]))


def test_a_table_cut_to_two_of_sixteen_rows_stops():
    with pytest.raises(ValueError, match=r"E-DATA-D03 .*measures.tsv: of sub-01 session 1 .*14 of 16 rows"):
        check(table(OUTCOMES[:2]))


def test_an_exclusion_of_a_region_excuses_no_cut_table():
    region = Exclusion("sub-01", "1", "memory", region="region_3", code="E-DATA-B10")
    with pytest.raises(ValueError, match="14 of 16 rows"):
        check(table(OUTCOMES[:2]), [region])


def test_the_empty_table_of_an_excluded_run_is_right_and_of_another_one_not():
    out = Exclusion("sub-01", "1", "memory", code="E-DATA-B01")
    check(table([]), [out])
    for others in ([], [Exclusion("sub-02", "1", code="E-DATA-B01")], [Exclusion("sub-01", code="W-X")]):
        with pytest.raises(ValueError, match="16 of 16 rows"):
            check(table([]), others)


def test_a_table_of_another_person_is_named():
    with pytest.raises(ValueError, match="it holds sub-02 session 1"):
        check(pd.concat([table(OUTCOMES), table(["a"], participant_id="sub-02")], ignore_index=True))


def test_a_scale_has_a_row_or_a_reason_for_everybody_and_every_visit():
    rows = table(["pcl5.total"])
    expected = [("sub-01", "1"), ("sub-02", "1")]
    missing = Exclusion("sub-02", "1", region="pcl5.total", code="E-DATA-B16")
    check_scale(Path("pcl5_measures.tsv"), rows, "pcl5.total", expected, [missing])
    with pytest.raises(ValueError, match="of sub-02 session 1 .*1 rows of pcl5.total are missing"):
        check_scale(Path("pcl5_measures.tsv"), rows, "pcl5.total", expected, [])


def test_what_is_expected_is_what_a_study_can_produce():
    study = load_study(ROOT / "config/config.yaml")
    found = outcomes_of_runs(study)
    units = set(study.outcome_units())
    together = {name for outcomes in found.values() for name in outcomes}
    totals = {f"{name}.total" for name in study.scales}
    ghosts = {limit.outcome for limit in LIMITS if limit.outcome.startswith("ghost.")}
    assert together == units - totals - ghosts
