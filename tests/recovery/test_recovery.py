"""One scan of `make recover`: its own path through the library, against truth.json.

The bounds of a whole small trial are tested on the study of tests/workflow/test_end_to_end.py.
"""

from __future__ import annotations

import json

import nibabel as nib
import pytest
from tests.recovery.recover import beside_truth, line_of, measure_person, region_masks

from reconfmri.config import load_study
from reconfmri.provenance import workflow_folder
from reconfmri.simulate.trial import simulate_trial


@pytest.mark.slow
def test_a_scan_gives_back_what_was_planted(tmp_path):
    study = load_study(workflow_folder() / "config" / "config.yaml")
    simulate_trial(tmp_path, participants=4, seed=201, sessions=("1",), study=study)
    nib.save(region_masks(study.model_dump_json()), tmp_path / "masks.nii.gz")
    measures = measure_person("sub-01", tmp_path, study)
    scans = beside_truth(measures, json.loads((tmp_path / "bids/truth.json").read_text("utf-8")))
    active = scans[scans["domain"] == "activation"]
    assert len(active) == 16
    # Sixteen correlated rows of one scan: standard errors of about 0.2 and 0.1 %; bounds at 2.5 of them.
    slope, intercept = line_of(active["value"], active["psc_expected"])
    assert 0.5 <= slope <= 1.5
    assert abs(intercept) <= 0.25
    skin = scans[scans["domain"] == "skin_conductance"]
    assert len(skin)
    assert (skin["value"] - skin["psc_expected"]).abs().max() < 0.1  # ln µS; noise of 0.004 µS
