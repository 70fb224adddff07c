"""Exclusions: one row per unit and reason, on one line, the same after writing and reading."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from reconfmri.exclusions import DataFault, Decisions, Exclusion, read_exclusions, write_exclusions
from reconfmri.step import run_step

UNIT = Exclusion("sub-01", "1", "memory", "1")


def test_a_fault_reads_as_code_file_wrong_fix():
    for reason in ("it is cut off", "it is cut off."):
        fault = DataFault("E-X-01", reason, fix="copy it again", file="a.nii.gz")
        assert fault.line == "E-X-01 a.nii.gz: it is cut off. Fix: copy it again"
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


def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path):
    path = tmp_path / "exclusions.tsv"
    rows = [Exclusion("sub-01", "1", stage="analyst", code="X", reason="moved", decided_by="RS")]
    write_exclusions(path, rows)
    text = path.read_text() + "\t" * 8 + "\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").replace("n/a", "").encode())
    assert read_exclusions(path) == rows
    path.write_text(path.read_text(encoding="utf-8-sig") + "sub-02\t1\n")
    with pytest.raises(ValueError, match="line 4 has 2 cells, the header 9"):
        read_exclusions(path)


def test_no_rows_still_make_a_table(tmp_path):
    write_exclusions(tmp_path / "e.tsv", [])
    assert read_exclusions(tmp_path / "e.tsv") == []


def test_another_table_is_refused(tmp_path):
    (tmp_path / "e.tsv").write_text("participant_id\n")
    with pytest.raises(ValueError, match="not an exclusions table"):
        read_exclusions(tmp_path / "e.tsv")


@pytest.mark.parametrize(
    ("row", "concerned"),
    [
        (Exclusion("sub-01"), True),
        (Exclusion("sub-01", "1"), True),
        (UNIT, True),
        (Exclusion("sub-01", "2", "memory", "1"), False),
        (Exclusion("sub-02"), False),
    ],
)
def test_a_row_that_names_less_concerns_more(row, concerned):
    assert row.concerns(UNIT) == concerned


def test_a_step_heeds_the_rows_of_its_own_unit_only(tmp_path):
    """The table of a person over sessions takes out the run that it names and no other."""
    write_exclusions(tmp_path / "person.tsv", [replace(UNIT, session_id="2", code="E-DATA-B34")])
    written = []
    for session in ("1", "2"):
        out = SimpleNamespace(exclusions=tmp_path / f"{session}.tsv", value=tmp_path / f"{session}.txt")
        step = SimpleNamespace(
            rule="fit",
            wildcards={"sub": "01", "ses": session, "task": "memory", "run": "1"},
            input={"exclusions": [str(tmp_path / "person.tsv")]},
            output=Files(vars(out)),
            log=[tmp_path / "log"],
        )
        run_step(step, lambda made, _: written.append(made.output.value) or made.output.value.write_text("1"))
    assert written == [tmp_path / "1.txt"]
    assert (tmp_path / "2.txt").read_bytes() == b""
    assert [row.session_id for row in read_exclusions(tmp_path / "2.tsv")] == ["2"]
    assert read_exclusions(tmp_path / "1.tsv") == []


class Files(dict):
    """Outputs by name that iterate over paths, as Snakemake's do."""

    def __iter__(self):
        return iter(self.values())

    __getattr__ = dict.__getitem__
