"""Every study file of config/trials gives every outcome it names, on simulated signals of its own design."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reconfmri.config import load_study
from reconfmri.events import cut_windows
from reconfmri.signal.connectivity import couple
from reconfmri.signal.first_level import build_design, costs_of_order, fit_regions
from reconfmri.signal.single_scripts import single_scripts
from reconfmri.simulate.planted import SCRIPTS
from reconfmri.simulate.signals import coloured

TRIALS = Path(__file__).parents[1] / "config" / "trials"
CONFOUNDS = [
    *("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"),
    *("framewise_displacement", "std_dvars"),
    *(f"a_comp_cor_{k:02d}" for k in range(6)),
]


def table(rows):
    return pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])


def scripts_of_120_s():
    return table([(onset, length, kind) for kind, onset, length in SCRIPTS]), 1.0, 1160


def scripts_of_four_phases():
    phases = ["baseline", "reading", "imagery", "recovery"]
    rows = []
    for script in range(8):
        kind = ("trauma", "neutral")[script % 2]
        rows += [
            (120.0 * script + 30 * place, 30.0, phase if phase == "baseline" else f"{kind}_{phase}")
            for place, phase in enumerate(phases)
        ]
    return table(rows), 2.0, 500


def faces():
    rng = np.random.default_rng(1)
    kinds = rng.permutation(["fear", "happy", "neutral"] * 30)
    return table([(8.0 + 4.5 * k, 2.0, kind) for k, kind in enumerate(kinds)]), 2.0, 220


def infusion():
    return table([(300.0, 2400.0, "infusion")]), 2.0, 1380


# Study file -> task -> its events, TR and volumes.
DESIGNS = {
    "duek2023": {"Memory": scripts_of_120_s},
    "reconsolidation": {"Memory": scripts_of_120_s},
    "norbury2021": {"faces": faces, "rest": lambda: (None, 2.0, 240)},
    "ketamine_two_doses": {"Memory": scripts_of_120_s},
    "abdallah2022": {"rest": lambda: (None, 2.0, 240)},
    "exposure_adjunct": {"rest": lambda: (None, 2.0, 240)},
    "infusion_scan": {"INF": infusion},
    "script_driven_30s": {"imagery": scripts_of_four_phases},
}
REAL = {"studyforrest_sub02"}  # run on its own scan by tests/workflow/test_real_scan.py


def test_every_study_file_has_a_design_here():
    assert {path.stem for path in TRIALS.glob("*.yaml")} == {*DESIGNS, *REAL}


def simulated(study, tr, n_volumes):
    rng = np.random.default_rng(0)
    common = coloured(n_volumes, tr, 3.0, rng)
    own = {name: coloured(n_volumes, tr, 3.0, rng) for name in study.rois.names}
    signals = pd.DataFrame({name: 500 + 2 * common + 2 * series for name, series in own.items()})
    return signals, pd.DataFrame(rng.normal(size=(n_volumes, len(CONFOUNDS))), columns=CONFOUNDS)


@pytest.mark.parametrize("name", DESIGNS)
def test_a_study_file_gives_every_outcome_it_declares(name):
    study = load_study(TRIALS / f"{name}.yaml")
    found: dict[str, float] = {}
    for label, make in DESIGNS[name].items():
        events, tr, n_volumes = make()
        task = study.tasks[label]
        signals, confounds = simulated(study, tr, n_volumes)
        if study.first_level and study.first_level.task == label:
            cut, windowed = cut_windows(events, task)
            kind = {"tr": tr, "task": windowed}
            design = build_design(cut, confounds, n_volumes=n_volumes, settings=study.first_level, **kind)
            contrasts = study.first_level.every_contrast
            rows, faults = fit_regions(signals, design, contrasts=contrasts, task=windowed)
            assert not [fault for fault in faults if fault.code.startswith("E")]
            found |= dict(zip(rows["outcome"], rows["value"], strict=True))
            assert all(
                np.isfinite(c.variance)
                for c in costs_of_order(list(design), windowed, study.first_level).values()
            )
            some = single_scripts(signals.iloc[:, :1], design, cut, **kind)
            assert some["lss"].notna().all()
        if study.connectivity and study.connectivity.task == label:
            rows, faults = couple(signals, confounds, events, tr=tr, task=task, settings=study.connectivity)
            assert not faults
            found |= dict(zip(rows["outcome"], rows["value"], strict=True))
    expected = {
        item.name for item in study.outcomes.values() if item.domain in ("activation", "connectivity")
    }
    assert set(found) == expected
    assert all(map(np.isfinite, found.values()))
