"""The measure table: runs combined, ids kept as text, nothing twice, nothing infinite."""

import json

import numpy as np
import pandas as pd
import pytest

from reconfmri.exclusions import Exclusion
from reconfmri.measures import DESCRIPTIONS, read_measures, read_rows, stack, write_rows
from reconfmri.tables import write_table

UNIT = Exclusion("sub-001", "1", "memory", "1")


def rows(
    value=1.0, se=0.5, *, outcome="amygdala.c", domain="activation", unit="percent signal change", **more
):
    return pd.DataFrame(
        [{"domain": domain, "outcome": outcome, "value": value, "se": se, "unit": unit, **more}]
    )


def on_disk(folder, *tables):
    """Rows as they come back from files, one run each."""
    found = []
    for number, table in enumerate(tables, start=1):
        path = folder / f"run-{number}_measures.tsv"
        write_rows(path, table, Exclusion("sub-001", "1", "memory", str(number)))
        found.append(read_rows(path))
    return found


def test_runs_of_a_session_are_combined_by_their_precision(tmp_path):
    table = stack(on_disk(tmp_path, rows(1.0, 0.5), rows(4.0, 1.0)))
    assert table.columns.tolist() == list(DESCRIPTIONS)
    assert len(table) == 1
    assert table["value"][0] == pytest.approx((1.0 * 4 + 4.0 * 1) / 5)
    assert table["se"][0] == pytest.approx(1 / np.sqrt(5))
    assert table["n_runs"][0] == 2


def test_runs_without_standard_errors_are_averaged(tmp_path):
    table = stack(on_disk(tmp_path, rows(1.0, np.nan), rows(4.0, 1.0)))
    assert table["value"][0] == 2.5
    assert np.isnan(table["se"][0])


def test_a_missing_run_does_not_count_and_a_missing_outcome_keeps_its_row(tmp_path):
    table = stack(on_disk(tmp_path, rows(1.0, 0.5), rows(np.nan, np.nan)))
    assert (table["value"][0], table["se"][0], table["n_runs"][0]) == (1.0, 0.5, 1)
    nothing = stack(on_disk(tmp_path, rows(np.nan, np.nan), rows(np.nan, np.nan)))
    assert np.isnan(nothing["value"][0])
    assert nothing["n_runs"][0] == 0


def test_ids_stay_text_and_the_table_survives_the_disk(tmp_path):
    write_rows(tmp_path / "a.tsv", rows(coverage=0.9, df=100.0), Exclusion("sub-001"))
    described = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert all(entry["Description"] for entry in described.values())
    table = stack([read_rows(tmp_path / "a.tsv")])
    assert table[["participant_id", "session_id"]].to_numpy().tolist() == [["sub-001", "n/a"]]
    write_table(tmp_path / "measures.tsv", table, DESCRIPTIONS)
    pd.testing.assert_frame_equal(read_measures(tmp_path / "measures.tsv"), table, check_dtype=False)


def test_rows_with_their_own_ids_keep_them(tmp_path):
    scale = rows(40.0, np.nan, outcome="pcl5.total", domain="clinical", unit="PCL-5 points")
    write_rows(tmp_path / "a.tsv", scale.assign(participant_id="sub-07", session_id="3"), Exclusion("n/a"))
    back = read_rows(tmp_path / "a.tsv")
    assert back[["participant_id", "session_id", "task"]].to_numpy().tolist() == [["sub-07", "3", "n/a"]]


def test_an_excluded_run_gives_no_rows(tmp_path):
    (tmp_path / "empty.tsv").write_bytes(b"")
    assert read_rows(tmp_path / "empty.tsv").empty
    assert stack([read_rows(tmp_path / "empty.tsv")]).columns.tolist() == list(DESCRIPTIONS)


def test_coverage_is_the_mean_over_runs(tmp_path):
    table = stack(on_disk(tmp_path, rows(coverage=0.9), rows(coverage=0.6), rows(coverage=0.6)))
    assert table["coverage"].tolist() == [pytest.approx(0.7)]


def test_the_order_of_the_tables_does_not_matter(tmp_path):
    tables = on_disk(tmp_path, rows(), rows(outcome="b.c"), rows(2.0, 0.1))
    pd.testing.assert_frame_equal(stack(tables), stack(tables[::-1]))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (rows(domain="activity"), "unknown domains.*activity"),
        (rows(np.inf), "value of amygdala.c of sub-001 session 1 is infinite"),
        (rows(1.0, 0.0), "not positive"),
        (rows(coverage=55.0), "coverage of amygdala.c of sub-001 session 1 is 55. Fix: a share"),
        (rows(coverage=-0.1), "coverage.* is -0.1"),
        (pd.concat([rows(), rows()]), "there twice"),
        (rows(unit=None), "'unit' is empty"),
    ],
    ids=["domain", "infinite", "se", "percent", "negative", "twice", "unit"],
)
def test_rows_that_break_the_contract_are_refused(tmp_path, table, says):
    with pytest.raises(ValueError, match=says):
        write_rows(tmp_path / "a.tsv", table, UNIT)


def test_a_table_from_elsewhere_may_know_no_standard_errors(tmp_path):
    path = tmp_path / "measures.tsv"
    path.write_text(
        "participant_id\tsession_id\tdomain\toutcome\tvalue\tunit\nsub-1\t1\tclinical\tx.y\t2\tmm\n"
    )
    table = read_measures(path)
    assert table[["se", "coverage"]].isna().all(axis=None)
    assert (table["value"].tolist(), table["n_runs"].tolist()) == ([2.0], [1])


@pytest.mark.parametrize(("cell", "count"), [("2", 2), ("2.0", 2), ("n/a", 1)])
def test_runs_are_counted_or_not_known(tmp_path, cell, count):
    assert read_measures(_with_runs(tmp_path, cell))["n_runs"].tolist() == [count]


@pytest.mark.parametrize("cell", ["two", "1.5", "-1", "inf"])
def test_what_is_no_count_of_runs_is_refused_with_its_line(tmp_path, cell):
    with pytest.raises(ValueError, match=r"m\.tsv: line 2.*n_runs.* Fix: "):
        read_measures(_with_runs(tmp_path, cell))


def _with_runs(tmp_path, cell: str):
    path = tmp_path / "m.tsv"
    header = "participant_id\tsession_id\tdomain\toutcome\tvalue\tunit\tn_runs\n"
    path.write_text(f"{header}sub-1\t1\tclinical\tx.y\t2\tmm\t{cell}\n")
    return path


def test_one_outcome_has_one_unit(tmp_path):
    with pytest.raises(ValueError, match="more than one unit"):
        stack(on_disk(tmp_path, rows(), rows(unit="z")))


def test_a_run_that_is_stacked_twice_is_refused(tmp_path):
    [table] = on_disk(tmp_path, rows())
    with pytest.raises(ValueError, match="there twice"):
        stack([table, table])
