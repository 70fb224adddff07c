"""REML with Kenward-Roger against published numbers, closed forms, other code and its own symmetries."""

from __future__ import annotations

import runpy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from reconfmri.group import covariances, reml
from reconfmri.group.estimands import NotEstimableError
from reconfmri.group.reml import fit_reml

published = runpy.run_path(str(Path(__file__).parent / "published_moments.py"))
oxazepam = runpy.run_path(str(Path(__file__).parent / "oxazepam.py"))
ADJUSTED, UNADJUSTED, CHANGE = np.array([0, 0, 1.0]), np.array([0, 0, 0, 1.0]), np.array([0, 0, -1.0, 1.0])


def design_of(active: np.ndarray, n_visits: int, *, common_baseline: bool = False) -> np.ndarray:
    """Visit means and arm differences, (n, v, 2 v), without the difference at baseline where it is common."""
    both = np.concatenate([np.eye(n_visits)[None] + 0 * active[:, None, None]] * 2, axis=2)
    both[:, :, n_visits:] *= np.where(active, 0.5, -0.5)[:, None, None]
    return np.delete(both, n_visits, axis=2) if common_baseline else both


@pytest.fixture(scope="module")
def two_visits():
    measures, allocation = published["two_visits"]()
    values = measures.pivot(index="participant_id", columns="session_id", values="value")
    arms = allocation.set_index("participant_id")["arm"]
    return values.to_numpy(), (arms[values.index] == "ketamine").to_numpy()


@pytest.fixture(scope="module")
def four_visits():
    """27 people, four visits, a third of the last missing, unequal spread."""
    random = np.random.default_rng(5)
    root = np.linalg.cholesky(np.outer([1, 1.2, 1.4, 1.6], [1, 1.2, 1.4, 1.6]) * (0.5 + 0.5 * np.eye(4)))
    values = random.normal(size=(27, 4)) @ root.T + 3
    values[:, 1:][random.random((27, 3)) < [0.1, 0.2, 0.33]] = np.nan
    return values, np.arange(27) < 14


# The constructed data set of the trial: estimate, SE, df (None where none was published), plain SE, interval.
PUBLISHED = [
    ("unstructured", ADJUSTED, -0.3224, 0.1271, 23.0, 0.1219, (-0.585, -0.059)),
    ("unstructured", UNADJUSTED, -0.3460, 0.1301, None, 0.1299, (-0.615, -0.077)),
    ("unstructured", CHANGE, -0.2650, 0.1640, None, 0.1638, (-0.604, 0.074)),
    ("random_intercept", ADJUSTED, -0.3184, 0.1402, 42.4, 0.1351, (-0.601, -0.036)),
    ("random_intercept", UNADJUSTED, -0.3460, 0.1447, None, 0.1445, (-0.638, -0.054)),
    ("random_intercept", CHANGE, -0.2650, 0.1649, None, 0.1647, (-0.606, 0.076)),
]


@pytest.mark.parametrize(("structure", "weights", "estimate", "se", "df", "plain", "interval"), PUBLISHED)
def test_the_constructed_two_visits(two_visits, structure, weights, estimate, se, df, plain, interval):
    values, active = two_visits
    design = design_of(active, 2, common_baseline=len(weights) == 3)
    fit = fit_reml(values, design, structure, information="expected")
    found = fit.infer(weights)
    assert (found.estimate, found.se) == pytest.approx((estimate, se), abs=5e-5)
    assert fit.plain_se(weights) == pytest.approx(plain, abs=5e-5)
    assert df is None or found.df == pytest.approx(df, abs=0.05)
    assert found.interval(0.95) == pytest.approx(interval, abs=6e-4)


def test_a_real_trial_gives_the_published_coefficients(real_data):
    """Oxazepam trial: 2080 responses of 33 people, random intercept; table of its authors to 5 decimals."""
    values, design, expected = oxazepam["load"](real_data / "oxazepam_rct")
    fit = fit_reml(values, design, "random_intercept", information="expected")
    errors = [fit.plain_se(row) for row in np.eye(8)]
    np.testing.assert_allclose(fit.beta, expected["Value"], atol=5e-6)
    np.testing.assert_allclose(errors, expected["Std.Error"], atol=5e-6)
    # Within people, Kenward-Roger's degrees of freedom are those of the complete design, but for lost events.
    assert fit.infer(np.eye(8)[1]).df == pytest.approx(2041, abs=2)
    assert fit.infer(np.eye(8)[3]).df == pytest.approx(31, abs=0.5)


# Wind tunnel, ten whole plots of five runs: Goos & Jones, Optimal Design of Experiments, 2011, chapter 10.
FRONT = [-1, 0, 1, -1, 0, 0, 1, -1, 0, 1]  # ride heights, one per whole plot
REAR = [-1, -1, -1, 0, 0, 0, 0, 1, 1, 1]
YAW = "-+0+- +0+0- ++--0 -0+0- 0+0-0 +000- 0+00- -+0+- -000+ -+-+0"
GRILLE = "-+0-+ +0-+0 -+-+0 0+0-+ -00+0 0000- -+0+0 --0++ 0-0++ +--0+"
EFFICIENCY = """
    873 969 959 821 1019 921 923 821 958 914 705 861 756 861 780 999 1060 910 854 1082 841 885 905 1025 936
    844 891 902 871 833 786 879 860 905 870 980 907 1045 1094 1159 1000 901 990 1059 1025 991 828 853 923 997
"""
# Estimate, standard error, degrees of freedom by lmerTest with pbkrtest (Kenward-Roger), for columns in
# the order of `quadratic`; kept with MixedModelsSmallSample.jl, "Results wind tunnel lmertest".
SPLIT_PLOT = [
    (0.91139440, 0.01173439, 4.207819),
    (-0.06086765, 0.00790252, 3.975090),
    (0.05215603, 0.00790250, 3.975061),
    (-0.02471875, 0.00273521, 31.029670),
    (0.07454254, 0.00271096, 31.189100),
    (-0.00745495, 0.01274852, 4.071239),
    (0.02909604, 0.01274268, 4.064061),
    (-0.00748776, 0.00470047, 31.210432),
    (-0.00642156, 0.00480791, 31.109644),
    (0.00424875, 0.00967282, 3.965728),
    (0.01058406, 0.00326352, 31.024876),
    (-0.01106525, 0.00320213, 31.072988),
    (-0.00153678, 0.00327097, 31.032151),
    (0.00782470, 0.00321179, 31.114121),
    (-0.00002508, 0.00328527, 31.382873),
]


def test_a_published_split_plot_gives_kenward_roger_of_pbkrtest():
    levels = {"-": -1, "0": 0, "+": 1}
    easy = [[[levels[sign] for sign in plot] for plot in text.split()] for text in (YAW, GRILLE)]
    hard = [np.repeat(np.array(heights)[:, None], 5, axis=1) for heights in (FRONT, REAR)]
    factors = [*hard, *map(np.array, easy)]
    quadratic = [np.ones((10, 5)), *factors, *(factor**2 for factor in factors)]
    quadratic += [factors[i] * factors[j] for i in range(4) for j in range(i + 1, 4)]
    values = np.array(EFFICIENCY.split(), float).reshape(10, 5) / 1000
    fit = fit_reml(
        values, np.stack(quadratic, axis=2).astype(float), "random_intercept", information="expected"
    )
    for row, (estimate, se, df) in zip(np.eye(15), SPLIT_PLOT, strict=True):
        found = fit.infer(row)
        assert found.estimate == pytest.approx(estimate, abs=1e-7)
        assert found.se == pytest.approx(se, abs=1e-7)
        assert found.df == pytest.approx(df, rel=1e-4)


def test_complete_visits_without_structure_are_t_tests(four_visits):
    """With everybody at every visit each arm difference is the two-sample t test, exactly."""
    values = np.nan_to_num(four_visits[0], nan=1.0)
    active = four_visits[1]
    fit = fit_reml(values, design_of(active, 4), "unstructured")
    for visit in range(4):
        found = fit.infer(np.eye(8)[4 + visit])
        t, p = stats.ttest_ind(values[active, visit], values[~active, visit])
        assert found.estimate / found.se == pytest.approx(t, rel=1e-6)
        assert found.df == pytest.approx(25, rel=1e-6)
        assert found.p == pytest.approx(p, rel=1e-5)


def test_statsmodels_agrees_on_the_random_intercept(four_visits):
    from statsmodels.regression.mixed_linear_model import MixedLM

    values, active = four_visits
    design = design_of(active, 4)
    seen = ~np.isnan(values)
    model = MixedLM(values[seen], design[seen], groups=np.nonzero(seen)[0])
    other = model.fit(reml=True, method="lbfgs", gtol=1e-10, maxiter=1000)
    fit = fit_reml(values, design, "random_intercept")
    np.testing.assert_allclose(fit.beta, other.fe_params, atol=1e-4)
    errors = [fit.plain_se(row) for row in np.eye(8)]
    np.testing.assert_allclose(errors, other.bse_fe, rtol=1e-3)


def test_the_restricted_likelihood_is_at_its_top(four_visits):
    """The likelihood written down anew, with every missing visit struck out, falls in every direction."""
    values, active = four_visits
    design = design_of(active, 4)
    covariance = fit_reml(values, design, "unstructured").covariance
    random = np.random.default_rng(0)
    top = restricted_likelihood(values, design, covariance)
    for _ in range(20):
        move = random.normal(size=(4, 4)) * 0.02
        assert restricted_likelihood(values, design, covariance + move + move.T) < top


def restricted_likelihood(values, design, covariance):
    information, score, total, squares = 0.0, 0.0, 0.0, 0.0
    for row, columns in zip(values, design, strict=True):
        seen = ~np.isnan(row)
        inverse = np.linalg.inv(covariance[np.ix_(seen, seen)])
        information = information + columns[seen].T @ inverse @ columns[seen]
        score = score + columns[seen].T @ inverse @ row[seen]
        squares += row[seen] @ inverse @ row[seen]
        total += np.linalg.slogdet(covariance[np.ix_(seen, seen)])[1]
    rest = squares - score @ np.linalg.solve(information, score)
    return -0.5 * (total + np.linalg.slogdet(information)[1] + rest)


@pytest.mark.parametrize("structure", ["unstructured", "shrunk_unstructured", "toeplitz"])
@pytest.mark.parametrize("by_arm", [False, True])
def test_score_and_observed_information_are_derivatives_of_the_likelihood(four_visits, structure, by_arm):
    values, active = four_visits
    design = design_of(active, 4, common_baseline=True)
    rows = reml.group_rows(values, design, np.zeros(values.shape), active if by_arm else None)
    form = covariances.Form(structure, 4, (0, 1, 2, 3) if by_arm else ())
    pull = reml.Pull(2.0, 2 * np.eye(4)) if structure == "shrunk_unstructured" else None
    theta = covariances.start(form, 1 + np.eye(4))
    theta[len(theta) - len(form.ratios) :] = np.linspace(-0.3, 0.4, len(form.ratios))
    at = partial(reml.moments_at, rows, form, pull=pull)
    steps = 1e-5 * np.eye(len(theta))
    slope = [(at(theta + step).log_likelihood - at(theta - step).log_likelihood) / 2e-5 for step in steps]
    bend = [(at(theta + step).score - at(theta - step).score) / 2e-5 for step in steps]
    here = at(theta)
    np.testing.assert_allclose(here.score, slope, atol=1e-5)
    np.testing.assert_allclose(here.observed, -np.stack(bend), atol=1e-5)


def test_a_covariance_by_arm_finds_the_ratio_of_spreads_and_changes_nothing_where_arms_are_alike(four_visits):
    """Complete visits, each arm standardised: ratio 1. Then one arm three times as wide."""
    values, active = np.nan_to_num(four_visits[0], nan=1.0), four_visits[1]
    for arm in (active, ~active):
        values[arm] = (values[arm] - values[arm].mean(axis=0)) / values[arm].std(axis=0, ddof=1)
    values[active] = 3 * values[active]
    fit = fit_reml(values, design_of(active, 4), "unstructured", arm=active)
    sds = np.sqrt(np.diagonal(fit.covariances, axis1=1, axis2=2))
    np.testing.assert_allclose(sds[1] / sds[0], 3, rtol=0.15)
    welch = stats.ttest_ind(values[active, 3], values[~active, 3], equal_var=False)
    assert fit.infer(np.eye(8)[7]).df == pytest.approx(welch.df, rel=0.35)
    assert fit.status == "ok, SD by arm"


def test_where_an_unstructured_covariance_does_not_converge_it_is_shrunk_by_name():
    """Nine people, eight visits: fewer degrees of freedom within the arms than visits."""
    values = np.random.default_rng(3).normal(size=(9, 8))
    design = design_of(np.arange(9) < 5, 8)
    with pytest.raises(NotEstimableError, match="unstructured covariance did not converge"):
        fit_reml(values, design, "unstructured")
    shrunk = fit_reml(values, design, "shrunk_unstructured")
    assert shrunk.status == "ok, shrunk unstructured"
    assert np.linalg.eigvalsh(shrunk.covariance)[0] > 0.01
    assert 6 < shrunk.infer(np.eye(16)[15]).df < 12


def test_toeplitz_of_two_visits_is_unstructured(two_visits):
    values, active = two_visits
    design = design_of(active, 2, common_baseline=True)
    one, other = (fit_reml(values, design, name).infer(ADJUSTED) for name in ("unstructured", "toeplitz"))
    assert (one.estimate, one.se, one.df) == pytest.approx((other.estimate, other.se, other.df), rel=1e-5)


@pytest.mark.parametrize("structure", ["unstructured", "toeplitz", "random_intercept"])
def test_symmetries(four_visits, structure):
    values, active = four_visits
    weights = np.eye(7)[4]

    def infer(values, active):
        return fit_reml(values, design_of(active, 4, common_baseline=True), structure).infer(weights)

    plain = infer(values, active)
    order = np.random.default_rng(1).permutation(27)
    for other, factor in (
        (infer(values[order], active[order]), 1.0),
        (infer(values, ~active), -1.0),
        (infer(values * 1e-6, active), 1e-6),
        (infer(values + 1e3, active), 1.0),
    ):
        assert other.estimate == pytest.approx(factor * plain.estimate, rel=1e-5)
        assert other.se == pytest.approx(abs(factor) * plain.se, rel=1e-5)
        assert other.df == pytest.approx(plain.df, rel=1e-4)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("people", [4, 5, 6, 8])
def test_too_few_people_for_a_covariance_get_a_fit_or_a_reason(people, seed):
    """With fewer degrees of freedom within the arms than visits the likelihood has no top."""
    values = np.random.default_rng(seed).normal(size=(people, 4))
    values[0, 3] = np.nan
    active = np.arange(people) < people // 2
    try:
        fit = fit_reml(values, design_of(active, 4), "unstructured")
    except NotEstimableError:
        return
    assert people > 5
    assert np.linalg.cond(fit.covariance) < 1e10
    assert np.isfinite(fit.infer(np.eye(8)[5]).se)


@pytest.mark.parametrize("fault", ["constant", "nobody of an arm", "one person", "nobody at a visit"])
def test_what_cannot_be_fitted_is_refused(four_visits, fault):
    values, active = four_visits[0].copy(), four_visits[1]
    if fault == "constant":
        values[~np.isnan(values)] = 1.0
    elif fault == "nobody of an arm":
        values[active, 3] = np.nan
    elif fault == "one person":
        values[1:] = np.nan
    else:
        values[:, 2] = np.nan
    with pytest.raises(NotEstimableError):
        fit_reml(values, design_of(active, 4), "unstructured")


def test_arms_of_two_people_have_one_covariance_and_do_not_say_otherwise(four_visits):
    values, active = four_visits
    values, few = values[:, :2], np.concatenate([np.flatnonzero(active)[:2], np.flatnonzero(~active)])
    design = design_of(active[few], 2)
    alike = fit_reml(values[few], design, "unstructured")
    asked = fit_reml(values[few], design, "unstructured", arm=active[few])
    assert asked.status == alike.status == "ok"
    np.testing.assert_array_equal(asked.covariances, alike.covariances)
