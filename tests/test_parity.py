"""Every planted difference between a person's sessions is found, named and counted; natural ones are not."""

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from reconfmri.bids import read_sidecar
from reconfmri.confounds import MOTION
from reconfmri.parity import ITEMS, RunFacts, audit, gather_facts, not_compared, protocol_of

sys.path.insert(0, str(Path(__file__).parent / "faults"))
from make_bids import PEOPLE, SESSIONS, bold, make_bids

PROTOCOL = {
    "PhaseEncodingDirection": "j-", "EchoTime": 0.03, "FlipAngle": 80, "ReceiveCoilName": "HeadNeck_20",
    "ManufacturersModelName": "Prisma", "SoftwareVersions": "syngo MR E11",
}  # fmt: skip


def metadata(person, session, **changes):
    return {
        "SliceTimingCorrected": True,
        "Interpolation": "one cubic B-spline",
        "Transforms": {
            "head_motion": f"{person}_ses-{session}_xfm.json",
            "template_to_t1w": f"{person}_xfm.nii.gz",
        },
        "DistortionCorrection": {"Method": "phasediff", "Fieldmap": f"ses-{session}/{person}_phasediff"},
        **changes,
    }  # fmt: skip


def columns(spikes):
    numbered = [f"a_comp_cor_{n:02d}" for n in range(6)] + [f"cosine{n:02d}" for n in range(spikes + 2)]
    return (*MOTION, "csf", *numbered, *(f"motion_outlier{n:02d}" for n in range(spikes)))


def study(changes=None):
    """Facts of three sessions of one person with a different number of spikes each; `changes` by session."""
    facts = []
    for number, session in enumerate(SESSIONS):
        given = (changes or {}).get(session, {})
        row = {"participant_id": "sub-01", "session_id": session, "task": "memory", "run": "1", "tr": 2.0,
               "n_volumes": 60} | given.get("row", {})  # fmt: skip
        sidecar = {k: v for k, v in (PROTOCOL | given.get("sidecar", {})).items() if v is not None}
        made = given.get("metadata", metadata("sub-01", session) | given.get("made", {}))
        facts.append(RunFacts(row, None, sidecar, made, given.get("columns", columns(number))))
    return facts


def deviations(facts):
    table = audit(facts)
    odd = table[table["deviation"] != "n/a"]
    return {(row.session_id, row.item): row.deviation for row in odd.itertuples()}


def test_sessions_that_differ_by_nature_only_are_alike():
    assert deviations(study()) == {}


PLANTED = {
    "repetition time": ({"row": {"tr": 2.1}}, "+0.1"),
    "volumes": ({"row": {"n_volumes": 57}}, "-3"),
    "phase encoding": ({"sidecar": {"PhaseEncodingDirection": "j"}}, "j, not j-"),
    "coil": ({"sidecar": {"ReceiveCoilName": "Head_32"}}, "Head_32, not HeadNeck_20"),
    "scanner software": ({"sidecar": {"SoftwareVersions": "XA30"}}, "XA30, not syngo MR E11"),
    "echo time": ({"sidecar": {"EchoTime": None}}, "not stated in this run"),
    "slice timing": ({"made": {"SliceTimingCorrected": False}}, "no, not yes"),
    "fieldmap": (
        {"made": {"DistortionCorrection": {"Method": "phasediff", "Fieldmap": "ses-1/sub-01_phasediff"}}},
        "lacks Fieldmap: ses-*/sub-01_phasediff, has Fieldmap: ses-1/sub-01_phasediff",
    ),
    "anatomical reference": (
        {"made": {"AnatomicalReference": "sub-01_ses-2_T1w"}},
        "sub-01_ses-2_T1w, not sub-01_xfm.nii.gz",
    ),
    "transforms": (
        {"made": {"Transforms": {"template_to_t1w": "sub-01_xfm.nii.gz"}}},
        "lacks head_motion",
    ),
    "confounds": ({"columns": columns(2)[1:]}, "lacks trans_x"),
}  # fmt: skip


@pytest.mark.parametrize("item", PLANTED)
def test_a_planted_difference_is_found_and_nothing_else(item):
    change, says = PLANTED[item]
    assert deviations(study({"2": change})) == {("2", item): says}


def test_no_fieldmap_in_one_session_is_a_deviation_and_none_anywhere_is_not_compared():
    without = {"made": {"DistortionCorrection": None}}
    assert deviations(study({"3": without})) == {("3", "fieldmap"): "not stated in this run"}
    nowhere = study(dict.fromkeys(SESSIONS, without))
    assert deviations(nowhere) == {}
    assert not_compared(audit(nowhere)) == ["voxel size", "matrix", "phase encoding axis", "fieldmap"]


def test_a_run_that_is_out_does_not_deviate_in_what_no_engine_wrote():
    out = {"metadata": {}, "columns": ()}
    assert deviations(study({"2": out})) == {}
    assert deviations(study({"2": out | {"sidecar": {"EchoTime": 0.031}}})) == {("2", "echo time"): "+0.001"}


def test_the_reference_is_what_most_sessions_have_else_the_earliest():
    two = study({"1": {"row": {"tr": 3.0}}})
    assert deviations(two) == {("1", "repetition time"): "+1"}
    assert deviations(two[:2]) == {("2", "repetition time"): "-1"}


def test_people_and_tasks_are_compared_with_themselves_only():
    other = {"row": {"participant_id": "sub-02", "tr": 3.0}}
    rest = {"row": {"task": "rest", "n_volumes": 200}}
    assert (
        deviations([*study(), *study(dict.fromkeys(SESSIONS, other)), *study(dict.fromkeys(SESSIONS, rest))])
        == {}
    )


def test_facts_are_those_of_headers_inherited_sidecars_and_engine_files(tmp_path):
    make_bids(tmp_path)
    root = tmp_path / "bids"
    (root / "sub-02/ses-3/sub-02_ses-3_task-memory_bold.json").write_text(json.dumps({"FlipAngle": 75}))
    (root / "task-memory_bold.json").write_text(json.dumps({"RepetitionTime": 2.0, "FlipAngle": 80}))
    affine = np.diag([3.0, 3, 3.3, 1])
    nibabel.save(nibabel.Nifti1Image(np.ones((12, 12, 9, 60), np.int16), affine), root / bold("sub-02", "2"))
    units = [(person, session) for person in PEOPLE[:2] for session in SESSIONS]
    runs = pd.DataFrame(
        [(person, session, "memory", "1", bold(person, session), 2.0, 60) for person, session in units],
        columns=["participant_id", "session_id", "task", "run", "bold", "tr", "n_volumes"],
    )
    made, tables = {}, {}
    for number, (person, session) in enumerate(units):
        made[bold(person, session)] = tmp_path / f"{number}.json"
        tables[bold(person, session)] = tmp_path / f"{number}.tsv"
        made[bold(person, session)].write_text("" if number == 0 else json.dumps(metadata(person, session)))
        tables[bold(person, session)].write_text("" if number == 0 else "\t".join(columns(number)) + "\n")
    protocols = {path: protocol_of(read_sidecar(root, path)) for path in runs["bold"]}
    table = audit(gather_facts(runs, root, made, tables, protocols))
    odd = table[table["deviation"] != "n/a"]
    assert {(row.participant_id, row.session_id, row.item, row.value) for row in odd.itertuples()} == {
        ("sub-02", "2", "voxel size", "3.00 x 3.00 x 3.30"),
        ("sub-02", "2", "matrix", "12 x 12 x 9"),
        ("sub-02", "3", "flip angle", "75"),
    }
    assert set(table["item"]) == set(ITEMS) - {
        "phase encoding axis",
        "phase encoding",
        "echo time",
        "coil",
        "scanner",
        "scanner software",
    }
