"""Pages that may leave the laboratory hold codes for participants, in texts, tables and figures."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pandas as pd
import pytest
from tests import test_report
from tests.pages import Page

from reconfmri import report
from reconfmri.exclusions import Exclusion
from reconfmri.report.report_codes import KEY, coded
from reconfmri.trial.lock import Change, Stamp
from reconfmri.trial.log import LOCK, Entry

PEOPLE = {f"sub-{n:02d}": f"sub-canary{n:02d}" for n in range(1, 24)}
CANARY = re.compile("canary", re.IGNORECASE)


def of_canaries(table: pd.DataFrame) -> pd.DataFrame:
    return table.replace(PEOPLE | {"sub-01": "sub-canary01"})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> report.ReportInputs:
    """A study whose people are called canary01 and so on, in every field that may hold a name of theirs."""
    made = test_report.make_inputs(tmp_path_factory.mktemp("pictures"))
    stem = "sub-canary07/ses-1/func/sub-canary07_ses-1_task-memory_bold.nii.gz"
    out = [replace(row, participant_id=PEOPLE[row.participant_id]) for row in made.exclusions]
    out += [
        Exclusion("sub-canary07", "1", reason=f"{stem} is cut", stage="align_run", code="E-DATA-B01"),
        Exclusion("sub-canary24", stage="compare_arms", code="E-STAT-C06", reason="canary24 has no arm"),
    ]
    primary = made.tables["estimates"][made.tables["estimates"]["is_primary"]].iloc[0]
    row = {name: primary[name] for name in ("outcome", "unit", "estimate", "lower", "upper", "level")}
    sensitivity = pd.DataFrame(
        [row | {"analysis": "as declared", "kind": "declared", "method": "reml", "status": "ok"}]
        + [
            row | {"analysis": f"without {who}", "kind": "influence", "method": "reml", "status": "ok"}
            for who in PEOPLE.values()
        ]
    )
    entry = Entry(1, "2026-01-01", LOCK, "Jane", "sub-canary07 moved", {"sha256": "ab" * 32})
    return replace(
        made,
        runs=made.runs.replace({"sub-": "sub-canary"}, regex=True),
        measures=of_canaries(made.measures),
        allocation=of_canaries(made.allocation),
        parity=of_canaries(made.parity).assign(value=stem),
        exclusions=out,
        pictures=[replace(item, participant_id=PEOPLE[item.participant_id]) for item in made.pictures],
        processed=[
            report.Processed(row.participant_id, row.session_id, "memory", "n/a", None, "none", None)
            for row in of_canaries(made.runs).itertuples()
        ][:3],
        tables=made.tables | {"sensitivity": sensitivity},
        config_text=f"# canary07 is a pilot\n{made.config_text}",
        screened=(*PEOPLE.values(), "sub-canary24"),
        stamp=Stamp("changed before unblinding", (Change("exclusions", stem, "canary07"),), (entry,)),
        design_run=made.design_run | {"participant_id": "sub-canary01"},
    )


def whole(page: str) -> str:
    """The page with everything that it embeds as text."""
    embedded = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", page)
    return page + "".join(base64.b64decode(data).decode() for data in embedded)


def test_no_id_of_a_participant_is_anywhere_on_the_page_of_a_study(inputs):
    """Texts, tables, titles, alt texts, figures, the study file, the log; the code is there instead."""
    html = report.compose(inputs)
    page, words = whole(html), Page(html).words
    assert not CANARY.search(page), page[max(0, CANARY.search(page).start() - 200) :][:300]
    who = report.Codes.of(inputs).person
    code = who("sub-canary07")
    assert f"{code}/ses-1/func/{code}_ses-1_task-memory_bold.nii.gz is cut" in words
    assert f"{who('sub-canary24')} has no arm" in words
    assert re.search("without P[0-9]{2}", page), "the figure of the sensitivity analyses"


def test_the_order_of_rows_says_nothing_of_the_ids(inputs):
    """Scans without a flag stand in the order of the codes, which is another one than that of the ids."""
    codes = report.Codes.of(inputs)
    shown = [item.participant_id for item in coded(inputs, codes).pictures]
    assert shown == sorted(shown)
    ids = {code: who for who, code in codes.by_person.items()}
    order = [ids[code] for code in dict.fromkeys(shown)]
    assert order != sorted(order)
    assert sorted(order) == sorted(PEOPLE.values())


def test_codes_are_those_of_before_unblinding_and_the_key_leads_back(inputs, tmp_path):
    codes = report.Codes.of(inputs)
    arms = inputs.allocation.assign(arm=inputs.allocation["arm"].iloc[::-1].to_list())
    assert report.Codes.of(replace(inputs, allocation=arms)) == codes
    other = inputs.measures.assign(value=inputs.measures["value"] + 1)
    assert report.Codes.of(replace(inputs, measures=other)) != codes, "another table, another draw"
    report.write_key(tmp_path / "key.tsv", codes)
    key = KEY.read(tmp_path / "key.tsv").set_index("code")["participant_id"].to_dict()
    assert key == {code: who for who, code in codes.by_person.items()}
    assert len(key) == len(PEOPLE) + 1


def test_plain_words_and_numbers_stay_whatever_a_participant_is_called():
    codes = report.Codes.drawn(["sub-01", "sub-101", "sub-memory", "sub-A7", "AB-0012"], b"x")
    text = "draws: 101, memory task, A7, 01; sub-01_ses-1; sub-011"
    assert codes.text(text) == text.replace("sub-01_", f"{codes.person('sub-01')}_")
    assert codes.text("without 01") == "without 01"
    assert codes.text("of AB-0012.") == f"of {codes.person('AB-0012')}."
