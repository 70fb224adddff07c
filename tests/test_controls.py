"""Negative controls: quiet where nothing is wrong, loud where something is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reconfmri.config import DEFAULT_SCALES, Group
from reconfmri.contracts import questions
from reconfmri.group import controls, randomisation
from reconfmri.group.asked import Asked
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures

UNIT = "percent signal change"
SESSIONS = ["1", "2", "3", "4"]


@pytest.fixture
def group():
    return Group.from_params(
        {
            "arms": {"active": "ketamine", "control": "midazolam"},
            "outcomes": ["amygdala.x", "occipital.x"],
            "controls": ["occipital.x"],
            "primary": {"outcome": "amygdala.x", "session": "2"},
            "covariance": "unstructured",
            "permutations": 500,
        }
    )


def tables(seed=1, *, motion=0.0):
    """Two outcomes and framewise displacement, larger by `motion` mm in the active arm."""
    names = {"amygdala.x": UNIT, "occipital.x": UNIT, "fd.mean": UNIT}
    measures, allocation = simulate_measures(
        Truth(COVARIANCES["reference"]), outcomes=names, scales=DEFAULT_SCALES, seed=seed
    )
    moved = measures["outcome"] == "fd.mean"
    active = measures["participant_id"].map(allocation.set_index("participant_id")["arm"]) == "ketamine"
    value = measures["value"].where(~moved, 0.2 + 0.1 * measures["value"] + motion * active)
    measures = measures.assign(
        value=value,
        unit=measures["unit"].where(~moved, "mm"),
        domain=measures["domain"].where(~moved, "quality"),
    )
    return measures, allocation


def test_every_check_is_there(group):
    found = controls.estimate(Asked(*tables(), group, SESSIONS))
    counts = found.groupby(["check", "outcome"])["session"].count().to_dict()
    assert counts == {
        ("baseline", "amygdala.x"): 1,
        ("baseline", "occipital.x"): 1,
        ("control", "occipital.x"): 3,
        ("quality", "fd.mean"): 4,
        ("spread", "amygdala.x"): 1,
        ("spread", "occipital.x"): 1,
    }
    assert (found["status"] == "ok").all()
    assert list(found) == questions.specs()["controls"].names


def test_quality_is_compared_without_the_covariates_of_the_study(group):
    """Framewise displacement by arm is what it is: an adjustment by age would be another question."""
    measures, allocation = tables()
    age = pd.Series(np.linspace(20, 60, len(allocation)).round().astype(int).astype(str))
    with_age = Group.from_params(group.model_dump() | {"covariates": {"age": {"column": "age"}}})
    plain, adjusted = (
        controls.estimate(Asked(measures, allocation.assign(age=age), chosen, SESSIONS))
        for chosen in (group, with_age)
    )
    plain, adjusted = (found[found["check"] == "quality"] for found in (plain, adjusted))
    pd.testing.assert_frame_equal(plain, adjusted)


def test_motion_that_differs_by_arm_is_seen(group):
    quiet, loud = (controls.estimate(Asked(*tables(motion=moved), group, SESSIONS)) for moved in (0.0, 0.2))
    assert quiet["p"].min() > 0.005
    quality = loud[loud["check"] == "quality"]
    assert (quality["p"] < 1e-4).all()
    assert quality["estimate"].to_numpy() == pytest.approx(0.2, abs=0.06)
    assert (
        loud.loc[loud["check"] != "quality", "p"].tolist()
        == quiet.loc[quiet["check"] != "quality", "p"].tolist()
    )


def test_a_control_must_be_an_outcome(group):
    with pytest.raises(ValueError, match=r"group\.controls"):
        Group.from_params(group.model_dump(mode="json") | {"controls": ["cerebellum.x"]})


def test_the_headline_among_other_draws_gives_its_p_value(group):
    measures, allocation = tables()
    draws = randomisation.headline_statistics(Asked(measures, allocation, group, SESSIONS, seed=3))
    estimates = randomisation.estimate(Asked(measures, allocation, group, SESSIONS, seed=3))
    row = estimates.query(
        "outcome == 'amygdala.x' and session == '2' and estimand == 'difference_adjusted'"
    ).iloc[0]
    heights = draws["statistic"].abs().to_numpy()
    assert len(draws) == 501
    assert np.mean(heights >= heights[0] * (1 - 1e-9)) == row["p"]
    none = group.model_copy(update={"permutations": 0})
    assert pd.DataFrame(
        randomisation.headline_statistics(Asked(measures, allocation, none, SESSIONS, seed=3))
    ).empty
