"""Ordinal totals: statsmodels' cumulative logit, planted differences, predictions inside of the scale."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from tests.test_bounded import asked_of, people

from reconfmri.config import Trial, check_group
from reconfmri.group import bounded, ordinal
from reconfmri.report.group_methods import group_methods

N = 80


def asked_ordinal(baseline, totals, active, **more):
    return asked_of(baseline, totals, active, **({"bounded": {}, "ordinal": {"pcl5.total": [0, N]}} | more))


def latent(random, n_people, n, odds, *, stretch=2.5):
    """Baselines, totals and arms by a logistic variable that is cut: the model's own words, drawn plainly."""
    active = np.arange(n_people) % 2 == 0
    baseline = np.rint(n * random.beta(5, 4, n_people))
    place = 1.2 * bounded._logit(baseline, n) + np.where(active, odds / 2, -odds / 2) - 0.5
    steps = np.arange(1, n + 1) / (n + 1)
    cuts = stretch * np.log(steps / (1 - steps))
    totals = np.searchsorted(cuts, place + random.logistic(size=n_people)).astype(float)
    return baseline, totals, active


def test_the_log_odds_ratio_is_that_of_statsmodels_with_free_thresholds():
    """Five categories, so that structured thresholds fit them: estimates and errors within 5 % of the SE."""
    from statsmodels.miscmodels.ordinal_model import OrderedModel

    baseline, totals, active = latent(np.random.default_rng(4), 600, 4, -0.9)
    design = bounded._design(baseline, 4, active)
    found = bounded.sample(totals, design, 4, ordinal.CUMULATIVE)
    assert found.effective > bounded.FEWEST_EFFECTIVE
    fit = OrderedModel(totals, design[:, 1:], distr="logit").fit(method="bfgs", disp=0)
    mean = float(found.weights @ found.draws[:, 1])
    sd = float(np.sqrt(found.weights @ (found.draws[:, 1] - mean) ** 2))
    assert mean == pytest.approx(fit.params[0], abs=0.1 * fit.bse[0])
    assert sd == pytest.approx(fit.bse[0], rel=0.05)


def test_a_mean_is_that_of_the_probabilities_which_sum_to_one():
    theta = np.array([[0.3, -0.8, 1.1, 1.0, 0.4], [-4.0, 0.5, 0.2, -0.3, -0.7]])
    design = bounded._design(np.array([0.0, 30.0, 80.0]), N, np.array([True, False, True]))
    shares = ordinal._probabilities(theta, design, N)
    np.testing.assert_allclose(shares.sum(axis=2), 1, atol=1e-12)
    np.testing.assert_allclose(shares @ np.arange(N + 1), ordinal._means(theta, design, N), rtol=1e-9)
    steps = np.array([0.0, 41.0, 80.0])
    plain = np.log([[draw[who, int(steps[who])] for who in range(3)] for draw in shares]).sum(axis=1)
    prior = -0.5 * (((theta - ordinal.PRIOR_MEAN) / ordinal.PRIOR_SD) ** 2).sum(axis=1)
    np.testing.assert_allclose(ordinal.log_posterior(theta, steps, design, N), plain + prior, rtol=1e-9)


def test_a_planted_difference_comes_back_with_intervals_that_hold_it():
    """Also of beta-binomial totals, which are not of this model: the difference of means is what is asked."""
    random = np.random.default_rng(12)
    inside, errors = [], []
    for trial in range(30):
        if trial % 2:
            baseline, totals, active = latent(random, 40, N, -1.2)
            arms = [
                expit(
                    (1.2 * bounded._logit(baseline, N) + side * 0.6 - 0.5)[:, None]
                    - 2.5 * np.log(np.arange(1, N + 1) / np.arange(N, 0, -1))
                ).sum(axis=1)
                for side in (-1, 1)
            ]
        else:
            baseline, totals, active = people(random, 20, -0.7)
            slope = bounded._logit(baseline, N)
            arms = [N * expit(-1.2 + side * 0.35 + 0.8 * slope) for side in (-1, 1)]
        truth = float((arms[0] - arms[1]).mean())
        found = bounded.sample(totals, bounded._design(baseline, N, active), N, ordinal.CUMULATIVE)
        row = bounded.difference(found, baseline, N, 0.95, ordinal.CUMULATIVE)
        inside.append(row["lower"] <= truth <= row["upper"])
        errors.append(row["estimate"] - truth)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.12)  # three Monte Carlo errors
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 30**0.5 + 1.0  # a tenth of the effect: the prior draws


def test_predictions_lie_inside_the_scale_and_relabelled_arms_mirror_them():
    baseline, totals, active = people(np.random.default_rng(5), 20, -1.0, level=-3.0, precision=4.0)
    row, other = (ordinal.estimate(asked_ordinal(baseline, totals, arm)).iloc[0] for arm in (active, ~active))
    assert row["reported"]
    for arm in ("active", "control"):
        assert 0 <= row[f"predicted_{arm}_lower"] < row[f"predicted_{arm}_upper"] <= N
    assert row["estimate"] == pytest.approx(-other["estimate"], rel=1e-6)
    # Predictions are averaged over 60 draws, which are others where arms are relabelled.
    assert row["predicted_active_upper"] == pytest.approx(other["predicted_control_upper"], abs=2)
    assert bounded.estimate(asked_ordinal(baseline, totals, active)).empty


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"ordinal": {"caps5.total": [0, 80]}}, "group.ordinal names 'caps5.total'"),
        ({"ordinal": {"pcl5.total": [0, 4.5]}}, "whole steps"),
    ],
)
def test_what_cannot_be_ordinal_is_refused(more, says):
    baseline, totals, active = people(np.random.default_rng(2), 8, 0)
    with pytest.raises(ValueError, match=says):  # noqa: PT012 - the settings are read where they are checked
        group = asked_ordinal(baseline, totals, active, **more).group
        check_group(group, ["1", "2"], {"pcl5.total": "PCL-5 points"})


def test_the_methods_text_says_which_totals_are_ordinal_and_how():
    asked = asked_ordinal(*people(np.random.default_rng(2), 8, 0))
    told = Trial("t", "", 1, asked.group, {"1": "a", "2": "b"}, {}, {"pcl5.total": "PCL-5 points"}, {})
    text = dict(group_methods(told))["Ordinal totals"]
    assert "PCL-5 total (0 to 80) is also taken as ordered categories" in text
