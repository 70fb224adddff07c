"""The flow of participants: every box is the one before it less the losses, and the n of every model."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.test_report import demo_config, make_inputs

from reconfmri.config import parse_config
from reconfmri.exclusions import Exclusion
from reconfmri.figures.flow import flow_diagram
from reconfmri.group import frequentist
from reconfmri.group.asked import Asked
from reconfmri.report.flow import diagram, flow_blocks
from reconfmri.trial.flow import FLOW, WORDS, Records, count_flow, units_of_images, unreconciled

svg_of = ET.fromstring  # what we drew ourselves
SCALE, REGION, SKIN = "pcl5.total", "amygdala.trauma_first-neutral_first", "scr.trauma_first"
SESSIONS = ("1", "2", "3", "4")
PEOPLE = [f"sub-{n:02d}" for n in range(1, 13)]


@cache
def study_of():
    settings = demo_config()
    settings["group"] = {
        key: value
        for key, value in settings["group"].items()
        if key not in ("joint", "pooled", "families", "controls")
    } | {"outcomes": [REGION, SKIN, SCALE]}
    return parse_config(settings)


def runs_of(units) -> pd.DataFrame:
    return pd.DataFrame(
        [dict(zip(("participant_id", "session_id", "task", "run"), unit, strict=True)) for unit in units]
    )


def measured(study, units) -> pd.DataFrame:
    """A value of `units` (person, session, outcome)."""
    random, known = np.random.default_rng(4), study.outcomes
    return pd.DataFrame(
        [
            {
                "participant_id": person, "session_id": session, "domain": known[name].domain,
                "outcome": name,
                "value": random.standard_normal(), "se": np.nan, "unit": known[name].unit,
                "coverage": np.nan, "n_runs": 1,
            }
            for person, session, name in units
        ]
    )  # fmt: skip


def whole_trial(*, runs: int = 1, seed: int = 0) -> Records:
    """Twelve people, four visits; two are never scanned, scans and values get lost in every way."""
    random, study = np.random.default_rng(seed), study_of()
    labels = [None] if runs == 1 else [str(n) for n in range(1, runs + 1)]
    units, out, values = [], [], []
    for person in PEOPLE[:10]:
        for session in SESSIONS:
            if random.random() < 0.15:
                out.append(Exclusion(person, session, code="W-BIDS-A07", stage="index", reason="missed"))
                continue
            kept = False
            for run in labels:
                fate = random.choice(
                    ["kept", "index", "align_run", "assess_quality", "hand"], p=[0.6] + [0.1] * 4
                )
                unit = (person, session, "memory", run or "n/a")
                if fate != "index":
                    units.append((*unit[:3], run))
                by = "A. Rater" if fate == "hand" else "automatic"
                stage, code = (
                    fate,
                    {"index": "E-BIDS-B01", "assess_quality": "E-DATA-B12"}.get(fate, "E-DATA-B01"),
                )
                out += [] if fate == "kept" else [Exclusion(*unit, stage=stage, code=code, decided_by=by)]
                kept |= fate == "kept"
            if kept and random.random() < 0.9:
                values.append((person, session, REGION))
            elif kept:
                where = (person, session, "memory", labels[0] or "n/a")
                out.append(Exclusion(*where, "amygdala_left", "extract_region_signals", "E-DATA-B08"))
            if random.random() < 0.8:
                values.append((person, session, SKIN))
            else:
                out.append(
                    Exclusion(person, session, "memory", stage="score_skin_conductance", code="E-DATA-B15")
                )
            if random.random() < 0.9:
                values.append((person, session, SCALE))
            else:
                out.append(Exclusion(person, session, region=SCALE, stage="score_scale", code="E-DATA-B16"))
    arms = ["ketamine", "midazolam"] * 5 + ["esketamine"]
    allocation = pd.DataFrame({"participant_id": PEOPLE[:11], "arm": arms})
    return Records(
        study=study, runs=runs_of(units), exclusions=out, measures=measured(study, values),
        allocation=allocation, screened=(*PEOPLE, "sub-screened"),
    )  # fmt: skip


def people(flow, stage, **cells) -> int:
    hit = (flow["stage"] == stage) & flow["code"].isna()
    for name, cell in cells.items():
        hit &= flow[name] == cell
    return int(flow.loc[hit, "people"].sum())


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_every_box_is_the_one_before_less_the_losses_and_the_n_of_every_model(seed, runs):
    records = whole_trial(runs=runs, seed=seed)
    flow = count_flow(records)
    asked = Asked(records.measures, records.allocation, records.study.group, list(SESSIONS))
    estimates = frequentist.estimate(asked)
    assert estimates["reported"].sum() > 20
    assert unreconciled(flow, estimates, records.study) == []
    assert people(flow, "screened") == 13
    assert people(flow, "randomised") == 11
    assert not (flow["code"] == "W-STAT-C08").any(), "every loss has the code of its row"
    lost = flow[flow["stage"] == "randomised"].dropna(subset=["code"])
    assert lost[["people", "code"]].to_numpy().tolist() == [[2, "E-STAT-C06"]]


def three_arms() -> Records:
    """The same trial with three arms, all of them compared."""
    records = whole_trial()
    settings = study_of().model_dump(mode="json")
    settings["group"]["arms"] = {"active": ["esketamine", "ketamine"], "control": "midazolam"}
    settings["group"]["primary"]["comparison"] = ["ketamine", "midazolam"]
    settings["group"]["voxels"], settings["group"]["bounded"] = None, {}
    arms = pd.DataFrame({"participant_id": PEOPLE, "arm": ["ketamine", "midazolam", "esketamine"] * 4})
    return replace(records, study=parse_config(settings), allocation=arms)


def test_every_arm_of_three_has_its_column_and_the_n_of_every_comparison():
    records = three_arms()
    flow, study = count_flow(records), records.study
    asked = Asked(records.measures, records.allocation, study.group, list(SESSIONS))
    estimates = frequentist.estimate(asked)
    assert estimates["reported"].sum() > 20
    assert unreconciled(flow, estimates, study) == []
    assert [people(flow, "randomised", arm=arm) for arm in study.group.arms.shown] == [4, 4, 4]
    assert not (flow["code"] == "E-STAT-C05").any(), "nobody is in an arm that is not compared"
    row = estimates.index[estimates["reported"]][-1]
    estimates.loc[row, "n_active"] += 1
    (found,) = unreconciled(flow, estimates, study)
    assert " in the model, " in found
    drawn = flow_diagram(
        flow, arms=list(study.group.arms.shown), sessions={"1": "first"}, outcome=SCALE, label="x"
    )
    for arm in study.group.arms.shown:
        assert f"Allocated to {arm} (n = 4)" in "".join(svg_of(drawn).itertext())
    colours = set(re.findall(r'fill="(#[0-9a-f]{6})" font-weight="600"', drawn))
    assert len(colours) >= 4, "ink and a colour per arm"


def test_a_count_that_does_not_follow_is_found():
    records = whole_trial()
    flow, study = count_flow(records), records.study
    asked = Asked(records.measures, records.allocation, study.group, list(SESSIONS))
    estimates = frequentist.estimate(asked)
    for stage in ("screened", "randomised", "acquired", "readable", "passed", "modelled"):
        changed = flow.copy()
        row = changed.index[(changed["stage"] == stage) & changed["code"].isna()][0]
        changed.loc[row, "people"] += 1
        assert unreconciled(changed, estimates, study), stage
    row = estimates.index[estimates["reported"]][0]
    estimates.loc[row, "n_control"] += 1
    assert len(unreconciled(flow, estimates, study)) == 1


def test_scans_taken_out_by_hand_were_acquired_and_a_person_never_scanned_was_not():
    study = study_of()
    runs = runs_of([("sub-01", "1", "memory", None), ("sub-02", "1", "memory", None)])
    by_hand = [
        Exclusion(person, code="E-X", reason="withdrew", decided_by="Jane") for person in ("sub-02", "sub-03")
    ]
    arms = pd.DataFrame(
        {"participant_id": PEOPLE[:4], "arm": ["ketamine", "ketamine", "ketamine", "midazolam"]}
    )
    records = Records(
        study=study, runs=runs[:1], exclusions=by_hand, measures=measured(study, [("sub-01", "1", REGION)]),
        allocation=arms, images=units_of_images(
            [f"{who}/ses-1/func/{who}_ses-1_task-memory_bold.nii.gz" for who in ("sub-01", "sub-02")]
            + ["sub-01/ses-1/func/sub-01_ses-1_task-other_bold.nii.gz", "sub-04/ses-9/func/x.nii"], study
        ),
    )  # fmt: skip
    flow = count_flow(records)
    here = flow[(flow["arm"] == "ketamine") & (flow["session"] == "1") & flow["outcome"].isna()]
    told = [tuple(row) for row in here[["stage", "people", "code"]].fillna("").to_numpy()]
    assert told == [
        ("expected", 3, ""), ("acquired", 2, ""), ("acquired", 1, "E-X"), ("readable", 2, ""),
        ("passed", 1, ""), ("passed", 1, "E-X"),
    ]  # fmt: skip


def test_who_was_treated_is_counted_where_it_is_recorded():
    records = whole_trial()
    assert people(count_flow(records), "treated") == 0
    said = ["yes", "no", "Yes", "1", "n/a", "yes", "no", "yes", "yes", "yes", "yes"]
    flow = count_flow(replace(records, allocation=records.allocation.assign(treated=said)))
    assert people(flow, "treated") == 8
    lost = flow[(flow["stage"] == "treated") & flow["code"].notna()].groupby("code")["people"].sum()
    assert dict(lost) == {"W-STAT-C07": 2, "W-STAT-C08": 1}
    assert not unreconciled(flow, None, records.study)


def test_the_table_is_written_as_it_is_described(tmp_path):
    flow = count_flow(whole_trial(runs=2))
    FLOW.write(tmp_path / "flow.tsv", flow)
    read = FLOW.read(tmp_path / "flow.tsv")
    assert read["people"].tolist() == flow["people"].tolist()


def test_every_documented_code_that_takes_something_out_has_words_and_no_other():
    documented = (Path(__file__).parents[1] / "docs/codes.md").read_text(encoding="utf-8")
    taking = set(re.findall(r"^\| (E-\S+) \| EXCL", documented, re.MULTILINE))
    assert taking <= set(WORDS)
    assert not [code for code in WORDS if f"| {code} |" not in documented]


def test_the_diagram_holds_every_count_as_text_and_escapes_every_name():
    records = whole_trial(seed=1)
    flow = count_flow(records)
    hostile = '<script>alert("1")</script>&'
    flow["arm"] = flow["arm"].replace({"ketamine": hostile})
    sessions = {name: f"Visit {name} <b>" for name in SESSIONS}
    drawn = flow_diagram(flow, arms=[hostile, "midazolam"], sessions=sessions, outcome=REGION, label="y")
    root = svg_of(drawn)
    assert {element.tag.partition("}")[2] for element in root.iter()} == {"svg", "rect", "text", "path"}
    said = " ".join(element.text for element in root.iter() if element.tag.endswith("text"))
    assert "Screened (n = 13)" in said
    assert "2 lost: not randomised (screen failure, pilot) (E-STAT-C06)" in said
    assert 'Allocated to <script>alert("1")</script>& (n = 5)' in said
    primary = flow[(flow["outcome"] == REGION) & (flow["stage"] == "modelled") & flow["code"].isna()]
    for count in primary["people"]:
        assert f"With the primary outcome (n = {count})" in said
    assert "people screened; 11 randomised" in root.get("aria-label")


def test_no_text_of_the_diagram_leaves_its_box():
    """By 7.6 px per character at 14 px: wider on average than the fonts that it may be drawn in."""
    root = svg_of(flow_diagram(
        count_flow(whole_trial(seed=2)), arms=["ketamine", "midazolam"],
        sessions=dict.fromkeys(SESSIONS, "A visit whose name is by far longer than a box is wide in truth"),
        outcome=REGION, label="y",
    ))  # fmt: skip
    boxes = [
        tuple(float(box.get(name)) for name in ("x", "y", "width", "height"))
        for box in root.iter()
        if box.tag.endswith("rect")
    ]
    for text in (element for element in root.iter() if element.tag.endswith("text")):
        x, y = float(text.get("x")), float(text.get("y"))
        inside = [box for box in boxes if box[0] < x < box[0] + box[2] and box[1] < y < box[1] + box[3]]
        assert len(inside) == 1, text.text
        assert x + 7.6 * len(text.text) <= inside[0][0] + inside[0][2] + 4, text.text


def test_a_blinded_page_draws_arms_by_code_and_one_without_arms_draws_everybody(tmp_path):
    inputs = make_inputs(tmp_path)
    group = inputs.study.group
    coded = group.model_copy(update={"arms": group.arms.model_copy(update={"active": "A", "control": "B"})})
    arms = inputs.allocation.replace({"arm": {"ketamine": "B", "midazolam": "A"}})
    study = inputs.study.model_copy(update={"group": coded})
    svg = diagram(replace(inputs, study=study, allocation=arms))
    assert "Allocated to A (n = 11)" in svg
    assert "ketamine" not in svg
    alone = inputs.study.model_copy(update={"group": None})
    svg = diagram(replace(inputs, study=alone, allocation=None, tables={}))
    assert "Allocated" not in svg
    assert "Expected (n = 23)" in svg


def test_the_page_is_given_where_the_flow_does_not_reconcile(tmp_path):
    inputs = make_inputs(tmp_path)
    scan = inputs.measures["domain"].isin(["activation", "connectivity", "quality"])
    out = scan & (inputs.measures["participant_id"] == "sub-03") & (inputs.measures["session_id"] == "2")
    inputs = replace(inputs, measures=inputs.measures[~out])
    tables = inputs.tables | {"estimates": inputs.tables["estimates"].assign(reported=False)}
    assert flow_blocks(replace(inputs, tables=tables))["flow_faults"] == []
    assert flow_blocks(inputs)["flow_faults"], "its estimates are of 12 and 11 people at every visit"
