"""One small seed of `make recover`: loose bounds that catch errors of sign, unit, region and scale."""

from __future__ import annotations

import pytest
from tests.recovery.recover import inside, line_of, run_seed


@pytest.mark.slow
def test_a_small_trial_gives_back_what_was_planted():
    seed = run_seed(201, participants=4)
    scans = seed.scans.dropna(subset=["value"])
    active = scans[scans["domain"] == "activation"]
    slope, intercept = line_of(active["value"], active["psc_expected"])
    # Eight scans of 16 correlated rows: standard errors of about 0.12 and 0.04 %; bounds at 2.5 of them.
    assert 0.7 <= slope <= 1.3
    assert abs(intercept) <= 0.1
    skin = scans[scans["domain"] == "skin_conductance"]
    assert (skin["value"] - skin["psc_expected"]).abs().max() < 0.1  # ln µS; noise of 0.004 µS
    clinical = scans[scans["domain"] == "clinical"]
    assert (clinical["value"] - clinical["psc_expected"]).abs().max() <= 0.5 + 1e-6  # points are whole
    # Two people per arm: ANCOVA has one degree of freedom; what is answered must hold the truth mostly.
    answered = seed.answers[seed.answers["status"].str.startswith("ok")]
    assert inside(answered, "truth").mean() >= 0.8
