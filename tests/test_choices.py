"""An option given by name that nobody knows stops: `noise="typo"` never means AR(1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reconfmri import events, fmriprep_options
from reconfmri.config import Task
from reconfmri.group import bayes_model, completion, joint, moderation, multiplicity, reml
from reconfmri.group.estimands import Question, ask
from reconfmri.group.imputation import Plan
from reconfmri.preprocess.container import Places, command_line
from reconfmri.signal import least_squares, voxelwise
from reconfmri.simulate.planted import timing_of

SERIES, DESIGN = np.ones((20, 1)), np.ones((20, 1))
VALUES, PEOPLE = np.arange(12.0).reshape(4, 3), np.ones((4, 3, 1))
EVENTS = pd.DataFrame({"onset": [2.0], "duration": [4.0], "trial_type": ["x"]})
RESPONSES = {"tr": 2.0, "n_volumes": 20, "task": Task(conditions={"x": "x"})}
PLACES = Places(*[Path("/x")] * 5)
CONTAINER = {"res": "2", "options": [], "threads": 1, "memory_mb": 1, "user": "1:1"}
NOTHING = Path("none.nii.gz")


@pytest.mark.parametrize(
    "call",
    [
        lambda: least_squares.fit_series(SERIES, DESIGN, noise="typo"),
        lambda: voxelwise.maps(
            NOTHING, NOTHING, pd.DataFrame(), contrasts={}, task=Task(), smoothing=5.0, noise="ar7"
        ),
        lambda: events.script_regressors(EVENTS, hrf="typo", **RESPONSES),
        lambda: events.script_regressors(EVENTS, hrf="glover + typo", **RESPONSES),
        lambda: events.event_response(np.arange(3.0), 1.0, "typo"),
        lambda: reml.fit_reml(VALUES, PEOPLE, "typo"),
        lambda: reml.fit_reml(VALUES, PEOPLE, "unstructured", information="typo"),
        lambda: bayes_model.build_model(bayes_model.Form(3, "toeplitz")),
        lambda: joint._in(np.arange(3.0), "typo"),
        lambda: moderation._answer("typo", VALUES[:, 0], PEOPLE[:, 0], None, None),
        lambda: Question("typo", 1, "2"),
        lambda: ask(["typo"], ["1", "2"]),
        lambda: Plan(np.zeros(1, dtype=np.intp), ("typo",), np.zeros(1)),
        lambda: completion.Completed.at(
            completion.Completed(np.ones(3), np.eye(3), 5.0, "unstructured"), plan="typo"
        ),
        lambda: multiplicity.adjust(pd.DataFrame(), {}, correction="typo"),
        lambda: command_line("podman", "x", PLACES, "01", **CONTAINER),
        lambda: fmriprep_options.check_image("podman", "x"),
    ],
)
def test_an_unknown_choice_stops(call):
    with pytest.raises(ValueError, match="expected one of"):
        call()


def test_an_unknown_timing_stops():
    with pytest.raises(ValueError, match="typo"):
        timing_of("typo")
