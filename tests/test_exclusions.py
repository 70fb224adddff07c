"""Exclusions: one row per unit and reason, on one line, the same after writing and reading."""

from __future__ import annotations

import pytest

from reconfmri.exclusions import DataFault, Decisions, Exclusion, read_exclusions, write_exclusions

UNIT = Exclusion("sub-01", "1", "memory", "1")


def test_a_fault_reads_as_code_file_wrong_mend():
    for reason in ("it is cut off", "it is cut off."):
        fault = DataFault("E-X-01", reason, mend="copy it again", file="a.nii.gz")
        assert fault.line == "E-X-01 a.nii.gz: it is cut off. Mend: copy it again"
    assert str(fault) == fault.line


def test_a_fault_of_the_run_takes_it_out_once():
    decisions = Decisions(UNIT)
    for _ in range(2):
        decisions.add("align_run", DataFault("E-X-01", "bad"))
    assert decisions.excluded
    assert len(decisions.rows) == 1
    assert decisions.rows[0].stage == "align_run"


@pytest.mark.parametrize(
    "fault", [DataFault("E-X-02", "uncovered", region="amygdala"), DataFault("W-X-03", "a remark")]
)
def test_a_missing_region_or_a_remark_keeps_the_run(fault):
    decisions = Decisions(UNIT)
    decisions.add("quality", fault)
    assert not decisions.excluded
    assert decisions.rows


def test_rows_survive_the_file_and_line_breaks_do_not(tmp_path):
    rows = [Exclusion("sub-01", reason="two\nlines\tand a tab", code="E"), UNIT]
    write_exclusions(tmp_path / "e.tsv", rows)
    again = read_exclusions(tmp_path / "e.tsv")
    assert again[0].reason == "two lines and a tab"
    assert again[1].participant_id == "sub-01"
    assert again[1].region == "n/a"
    write_exclusions(tmp_path / "f.tsv", again)
    assert (tmp_path / "f.tsv").read_bytes() == (tmp_path / "e.tsv").read_bytes()


def test_no_rows_still_make_a_table(tmp_path):
    write_exclusions(tmp_path / "e.tsv", [])
    assert read_exclusions(tmp_path / "e.tsv") == []


def test_another_table_is_refused(tmp_path):
    (tmp_path / "e.tsv").write_text("participant_id\n")
    with pytest.raises(ValueError, match="not an exclusions table"):
        read_exclusions(tmp_path / "e.tsv")
