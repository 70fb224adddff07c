"""Interim reports: pooled without any look at the allocation, by code without the name of an arm."""

from __future__ import annotations

import pytest
from tests.pages import Page, foreign
from tests.tables_study import ARMS, ASKED, tables_study

from reconfmri.cli import main
from reconfmri.tables import read_table
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.codes import by_code, codes_file

SIGNED = ("--by", "A. Statistician", "--reason", "as the protocol says")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tables_study(tmp_path_factory.mktemp("study"))


def test_the_pooled_report_is_made_without_the_allocation(folder):
    """It is whole, and the same byte by byte, where nobody has an allocation."""
    pages = []
    kept = (folder / "allocation.tsv").read_bytes()
    for content in (kept, b""):
        (folder / "allocation.tsv").write_bytes(content)
        out = folder / "interim/pooled.html"
        assert main(["interim", str(out), "--study", str(folder)]) == 0
        pages.append(out.read_text(encoding="utf-8"))
    (folder / "allocation.tsv").write_bytes(kept)
    assert pages[0] == pages[1]
    page = Page(pages[0])
    assert not [arm for arm in (*ARMS, *ARMS.values()) if arm in pages[0]]
    assert not [who for who in ("sub-01", "sub-03") if who in pages[0]]
    assert "pooled over the arms: made without the allocation" in page.words
    assert "Differences between arms" not in page.words
    assert foreign(page) == []


def test_the_pooled_report_describes_what_was_observed(folder):
    main(["interim", str(folder / "pooled.html"), "--study", str(folder)])
    words = Page((folder / "pooled.html").read_text(encoding="utf-8")).words
    measures = read_table(folder / "results/measures.tsv", numeric=("value",))
    mine = measures[(measures["outcome"] == ASKED[1]) & (measures["session_id"] == "3")]["value"]
    mean, sd = f"{mine.mean():.2f}", f"{mine.std():.2f}"
    assert f"PCL-5 points30 days{len(mine)} of 23{mean}{sd}" in words
    assert "Any adverse event2 (3) Serious adverse event1 (1) nausea1 (2) headache1 (1)" in words
    assert "E-DATA-B12 mean framewise displacement is 0.71 mm" in words


def test_by_code_every_arm_has_a_column_and_none_a_name(folder, capsys):
    out = folder / "by_code.html"
    command = ["interim", str(out), "--study", str(folder), "--by-code"]
    assert main(command) == 1
    assert "reconfmri blind" in capsys.readouterr().err
    assert main(["blind", "--study", str(folder), *SIGNED]) == 0
    assert main(command) == 0
    html = out.read_text(encoding="utf-8")
    assert not [arm for arm in ARMS.values() if arm in html]
    words = Page(html).words
    coded = by_code(read_allocation(folder / "allocation.tsv"), codes_file(folder / "allocation.tsv"))
    n = coded["arm"].value_counts()
    assert f"Mean, A (n = {n['A']})SDWith a valueMean, B (n = {n['B']})" in words
    measures = read_table(folder / "results/measures.tsv", numeric=("value",))
    mine = measures[(measures["outcome"] == ASKED[1]) & (measures["session_id"] == "3")]
    cells = [
        f"{len(rows)} of {n[arm]}{rows['value'].mean():.2f}{rows['value'].std():.2f}"
        for arm in "AB"
        for rows in (mine[mine["participant_id"].isin(coded.loc[coded["arm"] == arm, "participant_id"])],)
    ]
    assert "".join(cells) in words
    assert "no difference is estimated or tested" in words


def test_a_study_whose_arms_have_names_is_not_shown_by_code(tmp_path, capsys):
    folder = tables_study(tmp_path / "open", "open")
    assert main(["interim", str(folder / "x.html"), "--study", str(folder), "--by-code"]) == 1
    assert "E-CONF-F13" in capsys.readouterr().err
    assert not (folder / "x.html").exists()


def test_a_mean_of_two_people_is_not_shown(tmp_path):
    folder = tables_study(tmp_path / "few")
    path = folder / "results/measures.tsv"
    rows = read_table(path)
    last = rows["session_id"] == "4"
    few = rows[~last | rows["participant_id"].isin(["sub-01", "sub-02"])]
    few.to_csv(path, sep="\t", index=False, na_rep="n/a")
    assert main(["interim", str(folder / "x.html"), "--study", str(folder)]) == 0
    words = Page((folder / "x.html").read_text(encoding="utf-8")).words
    assert "PCL-5 points90 days2 of 23––" in words
