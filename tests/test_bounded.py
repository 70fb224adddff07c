"""Bounded totals: the posterior is that of another sampler, predictions lie in the scale."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom

from reconfmri.config import Group, Trial, check_group
from reconfmri.group import bounded
from reconfmri.group.asked import Asked
from reconfmri.report.group_methods import group_methods

N = 80


def people(rng, n, effect, *, level=-1.2, precision=12.0):
    """Baselines and totals of `n` people per arm; `effect` on the logit."""
    active = np.arange(2 * n) < n
    baseline = betabinom.rvs(N, 8, 6, size=2 * n, random_state=rng)
    mean = 1 / (
        1 + np.exp(-(level + np.where(active, 0.5, -0.5) * effect + 0.8 * bounded._logit(baseline, N)))
    )
    totals = betabinom.rvs(N, mean * precision, (1 - mean) * precision, random_state=rng)
    return baseline.astype(float), totals.astype(float), active


def asked_of(baseline, totals, active, **more):
    names = [f"sub-{place:03d}" for place in range(len(totals))]
    rows = [
        (who, session, "clinical", "pcl5.total", value, "PCL-5 points")
        for session, values in (("1", baseline), ("2", totals))
        for who, value in zip(names, values, strict=True)
    ]
    columns = ["participant_id", "session_id", "domain", "outcome", "value", "unit"]
    measures = pd.DataFrame(rows, columns=columns).assign(se=np.nan, coverage=np.nan, n_runs=1)
    arms = np.where(active, "ketamine", "midazolam")
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": ["pcl5.total"],
        "primary": {"outcome": "pcl5.total", "session": "2"},
        "bounded": {"pcl5.total": [0, N]},
    }
    return Asked(
        measures,
        pd.DataFrame({"participant_id": names, "arm": arms}),
        Group.from_params(settings | more),
        ["1", "2"],
    )


def test_the_posterior_is_that_of_a_random_walk():
    baseline, totals, active = people(np.random.default_rng(2), 14, -0.8)
    design = bounded._design(baseline, N, active)
    found = bounded.sample(totals, design, N)
    assert found.effective > 1500
    rng = np.random.default_rng(3)
    at = np.tile(found.weights @ found.draws, (60, 1))
    spread = np.sqrt(found.weights @ (found.draws - at[0]) ** 2)
    height = bounded.log_posterior(at, totals, design, N)
    kept = []
    for step in range(2000):
        proposal = at + rng.normal(size=at.shape) * spread * 0.7
        higher = bounded.log_posterior(proposal, totals, design, N)
        moved = np.log(rng.random(len(at))) < higher - height
        at, height = np.where(moved[:, None], proposal, at), np.where(moved, higher, height)
        if step > 500 and step % 10 == 0:
            kept.append(at)
    walked = np.concatenate(kept)
    mean, sd = found.weights @ found.draws, spread
    np.testing.assert_allclose(walked.mean(axis=0), mean, atol=0.08 * sd.max())
    np.testing.assert_allclose(walked.std(axis=0), sd, rtol=0.08)


def test_predictions_lie_inside_the_scale_where_the_gaussian_ones_do_not():
    baseline, totals, active = people(np.random.default_rng(5), 20, -1.0, level=-3.0, precision=4.0)
    row = bounded.estimate(asked_of(baseline, totals, active)).iloc[0]
    assert row["reported"]
    assert (totals == 0).mean() == row["share_lowest"] > 0.1
    for arm in ("active", "control"):
        assert 0 <= row[f"predicted_{arm}_lower"] < row[f"predicted_{arm}_upper"] <= N
    assert totals.mean() - 2 * totals.std() < 0


def test_a_planted_difference_comes_back_with_intervals_that_hold_it():
    rng, inside, errors = np.random.default_rng(11), [], []
    for _ in range(30):
        baseline, totals, active = people(rng, 20, -0.7)
        slope = bounded._logit(baseline, N)
        arms = [N / (1 + np.exp(-(-1.2 + side * -0.35 + 0.8 * slope))) for side in (1, -1)]
        truth = float((arms[0] - arms[1]).mean())
        found = bounded.sample(totals, bounded._design(baseline, N, active), N)
        row = bounded.difference(found, baseline, N, 0.95)
        inside.append(row["lower"] <= truth <= row["upper"])
        errors.append(row["estimate"] - truth)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.12)  # three Monte Carlo errors
    assert (
        abs(np.mean(errors)) < 3 * np.std(errors) / 30**0.5 + 0.1 * 10
    )  # a tenth of the effect: the prior draws


def test_a_value_outside_of_the_declared_ends_and_an_unseen_arm_have_no_answer():
    baseline, totals, active = people(np.random.default_rng(2), 8, 0)
    totals[3] = 90
    row = bounded.estimate(asked_of(baseline, totals, active)).iloc[0]
    assert not row["reported"]
    assert "outside of 0 to 80" in row["reason"]
    totals[:] = np.where(active, np.nan, 20)
    assert not bounded.estimate(asked_of(baseline, totals, active)).iloc[0]["reported"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"bounded": {"caps5.total": [0, 80]}}, "group.bounded names 'caps5.total'"),
        ({"bounded": {"pcl5.total": [0, 4.5]}}, "whole steps"),
    ],
)
def test_what_cannot_be_bounded_is_refused(more, says):
    baseline, totals, active = people(np.random.default_rng(2), 8, 0)

    def checked():
        group = asked_of(baseline, totals, active, **more).group
        check_group(group, ["1", "2"], {"pcl5.total": "PCL-5 points"})

    with pytest.raises(ValueError, match=says):
        checked()


def test_the_methods_text_says_which_totals_are_bounded_and_how():
    asked = asked_of(*people(np.random.default_rng(2), 8, 0))
    told = Trial("t", "", 1, asked.group, {"1": "a", "2": "b"}, {}, {"pcl5.total": "PCL-5 points"}, {})
    text = dict(group_methods(told))["Bounded totals"]
    assert "PCL-5 total (0 to 80)" in text
    assert "arm 0 (1.5)" in text
