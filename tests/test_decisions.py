"""A row that a person adds to config/exclusions.tsv counts for all that it names, or stops."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from reconfmri import bids
from reconfmri.cli import main
from reconfmri.config import load_study
from reconfmri.decisions import check_decisions, is_out, read_decisions, without_decided
from reconfmri.exclusions import Exclusion, read_exclusions, write_exclusions
from reconfmri.scales.scoring import meet_people

sys.path.insert(0, str(Path(__file__).parent / "faults"))
from make_bids import make_bids

AMYGDALA = {"amygdala", "amygdala_left", "amygdala_right"}
REGIONS = {
    "amygdala_left.trauma": {"amygdala_left"},
    "amygdala_right.trauma": {"amygdala_right"},
    "amygdala.trauma": AMYGDALA,
    "amygdala-hippocampus.run": {*AMYGDALA, "hippocampus", "amygdala-hippocampus"},
    "hippocampus.trauma": {"hippocampus"},
    "tsnr.amygdala_left": {"amygdala_left"},
}
WHAT = [
    "amygdala_left.trauma",
    "amygdala_right.trauma",
    "amygdala.trauma",
    "amygdala-hippocampus.run",
    "hippocampus.trauma",
    "tsnr.amygdala_left",
    "scr.trauma",
]


def rows():
    runs = [
        {"participant_id": person, "session_id": session, "task": "memory", "run": run, "outcome": name}
        for person in ("sub-01", "sub-02")
        for session in ("1", "2")
        for run in ("1", "2")
        for name in WHAT
    ]
    scales = [
        {"participant_id": p, "session_id": s, "task": "n/a", "run": "n/a", "outcome": "pcl5.total"}
        for p in ("sub-01", "sub-02")
        for s in ("1", "2")
    ]
    return pd.DataFrame(runs + scales)


def taken(**unit):
    """The rows that one decision takes out."""
    before = rows()
    kept = without_decided(before, [Exclusion(code="E-X", decided_by="Jane", **unit)], REGIONS)
    return before[~before.index.isin(kept.index)]


def test_a_whole_person_goes_with_scales():
    out = taken(participant_id="sub-01")
    assert set(out["participant_id"]) == {"sub-01"}
    assert len(out) == 4 * len(WHAT) + 2


def test_a_session_goes_with_its_scales_and_a_task_or_run_without():
    assert len(taken(participant_id="sub-01", session_id="2")) == 2 * len(WHAT) + 1
    assert len(taken(participant_id="sub-01", session_id="2", task="memory")) == 2 * len(WHAT)
    assert len(taken(participant_id="sub-01", session_id="2", task="memory", run="1")) == len(WHAT)


def test_a_region_goes_with_pairs_and_combined_ones_that_it_is_part_of():
    where = {"participant_id": "sub-01", "session_id": "1", "task": "memory", "run": "1"}
    out = taken(region="amygdala_left", **where)
    gone = ["amygdala_left.trauma", "amygdala.trauma", "amygdala-hippocampus.run", "tsnr.amygdala_left"]
    assert sorted(out["outcome"]) == sorted(gone)
    assert taken(region="pcl5.total", participant_id="sub-01", session_id="1")["outcome"].tolist() == [
        "pcl5.total"
    ]


def test_the_catalogue_says_which_regions_take_an_outcome_out():
    study = load_study(Path(__file__).resolve().parents[1] / "config/config.yaml")
    for name in ("amygdala_left.trauma-neutral", "amygdala.trauma-neutral", "tsnr.amygdala_left"):
        assert study.outcomes[name].regions == REGIONS[name.replace("-neutral", "")]
    assert study.outcomes["amygdala-hippocampus.trauma"].regions == {
        *REGIONS["amygdala-hippocampus.run"], "hippocampus_left", "hippocampus_right"
    }  # fmt: skip
    assert not study.outcomes["pcl5.total"].regions


def test_a_remark_takes_nothing_out():
    kept = without_decided(rows(), [Exclusion("sub-01", code="W-X", decided_by="Jane")], REGIONS)
    assert len(kept) == len(rows())


def test_a_scale_is_out_by_person_or_session_and_not_by_task():
    assert is_out([Exclusion("sub-01", code="E-X")], "sub-01", "2")
    assert is_out([Exclusion("sub-01", "2", code="E-X")], "sub-01", "2")
    assert not is_out([Exclusion("sub-01", "2", "memory", code="E-X")], "sub-01", "2")
    assert not is_out([Exclusion("sub-01", "1", code="E-X")], "sub-01", "2")


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    study = make_bids(tmp_path_factory.mktemp("decided"), ["session missing"])
    assert main(["index", "--study", str(study)]) == 0
    return study


@pytest.fixture
def add(indexed):
    """Add a row to the exclusions and check them; they are put back after."""
    path = indexed / "config/exclusions.tsv"
    before = path.read_bytes()

    def check(*unit, **more):
        row = Exclusion(*unit, **({"code": "E-X", "reason": "no", "decided_by": "Jane"} | more))
        write_exclusions(path, [*read_exclusions(path), row])
        scans = bids.read_run_table(indexed / "config/runs.tsv")
        study = load_study(indexed / "config/config.yaml")
        check_decisions(indexed, study, scans, bids.read_record(indexed))
        return read_decisions(indexed)

    yield check
    path.write_bytes(before)


@pytest.mark.parametrize(
    "unit", [("sub-01",), ("sub-01", "2"), ("sub-04", "3"), ("sub-01", "1", "memory", "1", "amygdala_left")]
)
def test_a_row_that_names_what_is_there_is_heeded(add, unit):
    assert [row.participant_id for row in add(*unit)] == [unit[0]]


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        (("sub-1",), "participant_id 'sub-1'"),
        (("n/a", "2"), "participant_id 'n/a'"),
        (("sub-01", "ses-2"), "session_id 'ses-2'"),
        (("sub-01", "2", "memry"), "task 'memry'"),
        (("sub-01", "2", "memory", "1", "amigdala"), "region 'amigdala'"),
        (("sub-01", "2", "memory", "01"), "run '01'"),
        (("sub-01", "2", "memory", "7"), "run '7'"),
    ],
)
def test_a_row_that_would_count_for_nothing_stops(add, unit, told):
    with pytest.raises(ValueError, match=f"E-CONF-D02 .*line .*{told}"):
        add(*unit)


def test_a_row_signed_as_the_index_own_stops(add):
    with pytest.raises(ValueError, match="are not those of the index"):
        add("sub-01", decided_by="automatic")


def test_a_row_of_nobody_is_out_and_a_person_without_a_row_is_named():
    scores = pd.DataFrame(
        [("sub-01", "1"), ("sub-3", "1"), ("sub-02", "1")], columns=["participant_id", "session_id"]
    )
    kept, missing = meet_people(scores, "pcl5", ["sub-01", "sub-02", "sub-03"], ["1"])
    assert kept["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert [(found.participant_id, found.outcome) for found in missing] == [
        ("sub-3", "pcl5.total"),
        ("sub-03", "pcl5.total"),
    ]
    assert "sub-3 is in no other table" in missing[0].exclusion.reason


def test_one_image_of_two_people_takes_both_scans_out_by_name(tmp_path, capsys):
    study = make_bids(tmp_path)
    name = "{0}/ses-1/func/{0}_ses-1_task-memory_run-1_bold.nii.gz"
    root = tmp_path / "bids"
    (root / name.format("sub-02")).write_bytes((root / name.format("sub-01")).read_bytes())
    t1w = "{0}/ses-1/anat/{0}_ses-1_T1w.nii.gz"
    (root / t1w.format("sub-04")).write_bytes((root / t1w.format("sub-03")).read_bytes())
    assert main(["index", "--study", str(study)]) == 0
    assert "E-BIDS-A30" in capsys.readouterr().out
    told = (study / "config/exclusions.tsv").read_text()
    for image in (name, t1w):
        pair = ("sub-01", "sub-02") if image == name else ("sub-03", "sub-04")
        assert f"serves 2 people: {image.format(pair[0])} and {image.format(pair[1])}" in told
    runs = bids.read_run_table(study / "config/runs.tsv")
    assert set(runs["participant_id"]) == {"sub-01", "sub-02", "sub-05", "sub-06"}
    assert len(runs) == 2 + 2 + 3 + 3
