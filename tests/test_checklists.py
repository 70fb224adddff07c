"""Reporting checklists: filled with what is known of the study, the rest marked as missing."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from tests.pages import Page
from tests.test_report import demo_config, make_inputs

from reconfmri import report
from reconfmri.config import parse_config
from reconfmri.report import checklists
from reconfmri.report.checklists import CHECKLISTS, facts, filled
from reconfmri.tables import read_table
from reconfmri.trial.lock import Registered, Stamp
from reconfmri.trial.log import BLIND, DECIDE, LOCK, REGISTER, UNBLIND, Entry

PLAN = {"people": {"ketamine": 14, "midazolam": 13}, "difference": -0.32, "unit": "percent signal change"}
ENTRIES = tuple(
    Entry(n, f"2026-01-0{n}", event, "Jane", "protocol", {"sha256": "ab" * 32})
    for n, event in enumerate((REGISTER, BLIND, DECIDE, LOCK, UNBLIND), start=1)
)
STAMP = Stamp("pre-specified", (), ENTRIES, Registered(ENTRIES[0], PLAN, ()))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> report.ReportInputs:
    """A study that declares everything which the checklists can hold."""
    config = demo_config()
    config["name"] = "A randomised trial"
    config["group"] |= {"safety": {"dissociation": ["pcl5.total"]}, "intercurrent_events": "events.tsv"}
    made = make_inputs(tmp_path_factory.mktemp("pictures"), config=config)
    strata = ["a" if n % 2 else "b" for n in range(len(made.allocation))]
    some = pd.DataFrame({"kind": ["any"]})
    estimates = made.tables["estimates"].assign(status="ok; caution: x")
    tables = dict.fromkeys(("adverse_events", "reference_based", "sensitivity"), some)
    return replace(
        made,
        stamp=STAMP,
        allocation=made.allocation.assign(stratum=strata, treated="yes"),
        tables=made.tables | tables | {"estimates": estimates},
    )


def rows_of(inputs, sections=()):
    return {
        (item["title"], row["item"], row["topic"]): row
        for item in filled(facts(inputs), sections)
        for row in item["rows"]
    }


def test_every_fact_that_an_item_names_is_known_of_a_study_that_declares_all(inputs):
    names = {name for cell in read_table(CHECKLISTS)["facts"].dropna() for name in cell.split(",")}
    found = facts(inputs)
    assert [name for name in names if not found[name][0]] == []
    assert set(found) <= names, "a fact that no item names"


def test_the_numbered_items_of_consort_are_all_there():
    table = read_table(CHECKLISTS)
    items = list(table[table["checklist"] == "CONSORT 2025"]["item"])
    assert len(items) == len(set(items)) == 42
    assert {int(item.rstrip("abcd")) for item in items} == set(range(1, 31))
    assert set(table["checklist"]) >= {"COBIDAS", "ICH E9(R1)"}


def test_the_estimand_is_in_the_words_of_the_study_file_or_missing(inputs):
    stated = inputs.study.group.attributes
    of_ich = {topic: row for (name, _, topic), row in rows_of(inputs).items() if name.startswith("ICH")}
    assert of_ich["Variable"]["known"] == [(stated.variable, "")]
    (event, strategy), *_ = stated.intercurrent_events.items()
    assert f"{event}: {strategy}" in of_ich["Intercurrent events, each with its strategy"]["known"][0][0]
    config = demo_config()
    del config["group"]["attributes"]
    bare = rows_of(replace(inputs, study=parse_config(config)))
    assert bare["ICH E9(R1)", "A.3", "Variable"] | {"item": "", "topic": ""} == {
        "item": "",
        "topic": "",
        "known": [],
        "lacks": "not stated in the study file, or not part of this study",
    }


def test_what_was_registered_and_locked_is_filled_in_and_else_missing(inputs):
    key = ("CONSORT 2025", "16a", "Sample size with its assumptions")
    assert rows_of(inputs)[key]["known"][0][0].startswith("14 + 13 people for a difference of −0.32")
    plain = rows_of(replace(inputs, stamp=Stamp()))
    assert plain[key]["known"] == []
    assert "reconfmri register" in plain[key]["lacks"]
    assert not plain["CONSORT 2025", "2", "Registry, number, date"]["known"]


def test_the_page_counts_items_links_to_sections_and_marks_what_is_missing(inputs):
    bare = {"regions": None, "design": None, "pictures": [], "measures": inputs.measures.iloc[:0]}
    page = report.compose(replace(inputs, tables={}, **bare))
    part = page.partition('id="checklists"')[2].partition("</section>")[0]
    words = Page(f'<section id="checklists"{part}</section>').words
    assert "CONSORT 2025: " in words
    assert '<span class="bad">Missing: funding.</span>' in part
    assert '(<a href="#methods">here</a>)' in part
    assert '(<a href="#estimates">here</a>)' not in part, "the page has no such section"
    assert checklists.facts(inputs)["estimates"][0]
