"""The model of every voxel by fixed row vectors: clubSandwich's digits, closed forms, REML, and its cost."""

from __future__ import annotations

import resource
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from threadpoolctl import threadpool_limits

from reconfmri.group.estimands import NotEstimableError
from reconfmri.group.frequentist import welch
from reconfmri.group.reml import fit_reml
from reconfmri.voxels.covariance import pooled_covariance
from reconfmri.voxels.rows import estimates, row_vectors

# .36 of the baseline with later visits, .7 among later ones
REFERENCE = np.array([[1, 0.36, 0.36, 0.36], [0.36, 1, 0.7, 0.7], [0.36, 0.7, 1, 0.7], [0.36, 0.7, 0.7, 1.0]])
PLANTED = REFERENCE * np.outer([0.7, 0.9, 1.1, 1.4], [0.7, 0.9, 1.1, 1.4])
N, ACTIVE = 27, np.arange(27) < 14
DIFFERENCES = np.eye(7)[4:]


def design_of(side: np.ndarray) -> np.ndarray:
    """Visit means and the difference at later visits, (1, n, 4, 7); `side` is the code of a person's arm."""
    design = np.zeros((1, len(side), 4, 7))
    design[..., :4] = np.eye(4)
    design[0, :, 1:, 4:] = side[:, None, None] * np.eye(3)
    return design


def some_visits(seed: int = 1) -> np.ndarray:
    """27 people, four visits, 0, 7, 20 and 33 % missed."""
    return np.random.default_rng(seed).random((N, 4)) >= [0, 0.07, 0.2, 0.33]


def noise(n_voxels: int, seen: np.ndarray, seed: int = 2) -> np.ndarray:
    """Values (27, 4, n_voxels), float32, of the planted covariance; zero where not seen."""
    drawn = np.random.default_rng(seed).standard_normal((N, 4, n_voxels), dtype=np.float32)
    root = np.linalg.cholesky(PLANTED).astype(np.float32)
    return np.where(seen[:, :, None], np.einsum("vw,nwm->nvm", root, drawn), 0).astype(np.float32)


# clubSandwich 0.5.8, CR2 with Satterthwaite: estimate, SE, df of the difference at visits 1 to 3
CLUBSANDWICH = {
    "one": (np.eye(4), 10, 6, [
        (-0.0891017380, 0.1009846452, 18.810427),
        (0.0658971296, 0.1408280277, 17.222820),
        (-0.0143989811, 0.1058970346, 24.000000),
    ]),
    "mono": (REFERENCE, 8, 5, [
        (-0.18635293, 0.11638236, 18.81054),
        (-0.08157175, 0.16770593, 15.64238),
        (-0.01042213, 0.12836719, 15.23168),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", CLUBSANDWICH)
def test_estimates_errors_and_degrees_of_freedom_are_clubsandwichs_to_every_printed_digit(
    name, reference_data
):
    covariance, digits, df_digits, printed = CLUBSANDWICH[name]
    table = pd.read_csv(reference_data / "clubsandwich" / f"{name}.csv")
    wide = table.pivot(index="sub", columns="vis", values="y").to_numpy()
    arm = table.groupby("sub")["arm"].first().to_numpy(dtype=float)
    seen = ~np.isnan(wide)
    rows = row_vectors(design_of(arm), seen, covariance, DIFFERENCES)
    found, variances = estimates(rows, np.where(seen, wide, 0)[:, :, None])
    for place, (estimate, se, df) in enumerate(printed):
        assert found[place, 0] == pytest.approx(estimate, abs=0.51 * 10.0**-digits)
        assert np.sqrt(variances[place, 0]) == pytest.approx(se, abs=0.51 * 10.0**-digits)
        assert rows.df[0, place] == pytest.approx(df, abs=0.51 * 10.0**-df_digits)


def test_one_visit_is_welchs_test_with_the_degrees_of_freedom_of_equal_variances():
    """Two groups at one visit: CR2 is HC2, whose SE is Welch's."""
    values = np.random.default_rng(3).normal(size=(N, 1))
    design = np.stack([np.ones((N, 1)), np.where(ACTIVE, 0.5, -0.5)[:, None]], axis=2)[None]
    rows = row_vectors(design, np.ones((N, 1), dtype=bool), np.eye(1), np.array([[0.0, 1.0]]))
    found, variances = estimates(rows, values[:, :, None])
    expected = welch(values[ACTIVE, 0], values[~ACTIVE, 0])
    assert found[0, 0] == pytest.approx(expected.estimate, rel=1e-10)
    assert np.sqrt(variances[0, 0]) == pytest.approx(expected.se, rel=1e-10)
    equal = welch(stats.zscore(np.arange(14.0), ddof=1), stats.zscore(np.arange(13.0), ddof=1)).df
    assert rows.df[0, 0] == pytest.approx(equal, rel=1e-10)


def test_the_whole_vectors_are_what_products_compute():
    seen, design = some_visits(), design_of(np.where(ACTIVE, 0.5, -0.5))
    rows = row_vectors(design, seen, PLANTED, DIFFERENCES)
    values = noise(50, seen).astype(np.float64)
    found, variances = estimates(rows, values)
    np.testing.assert_allclose(np.einsum("qnv,nvm->qm", rows.estimate[0], values), found, atol=1e-12)
    pieces = np.einsum("qinv,nvm->qim", rows.residual_vectors(), values)
    np.testing.assert_allclose((pieces**2).sum(axis=1), variances, rtol=1e-10)
    # nothing of what the coefficients describe is left in a residual
    coefficients = np.random.default_rng(5).normal(size=7)
    fitted = np.where(seen, design[0] @ coefficients, 0.0)[:, :, None]
    estimate, variance = estimates(rows, fitted)
    np.testing.assert_allclose(estimate[:, 0], coefficients[4:], rtol=1e-9)
    assert np.abs(variance).max() < 1e-20


def test_single_precision_and_several_designs_at_once_change_nothing():
    seen, values = some_visits(), noise(300, some_visits())
    sides = np.random.default_rng(4).permuted(np.tile(np.where(ACTIVE, 0.5, -0.5), (3, 1)), axis=1)
    together = row_vectors(np.concatenate([design_of(side) for side in sides]), seen, PLANTED, DIFFERENCES)
    for draw, side in enumerate(sides):
        alone = row_vectors(design_of(side), seen, PLANTED, DIFFERENCES)
        np.testing.assert_allclose(together.df[draw], alone.df[0], rtol=1e-9)
        for single, double in zip(
            estimates(together, values, draw), estimates(alone, values.astype(np.float64)), strict=True
        ):
            np.testing.assert_allclose(single, double, rtol=2e-4, atol=1e-5)


def test_a_draw_without_one_arm_at_a_visit_is_marked_and_the_trial_itself_is_refused():
    seen = np.ones((N, 4), dtype=bool)
    seen[ACTIVE, 3] = False
    fine = np.roll(np.where(ACTIVE, 0.5, -0.5), 5)
    both = np.concatenate([design_of(fine), design_of(np.where(ACTIVE, 0.5, -0.5))])
    rows = row_vectors(both, seen, REFERENCE, DIFFERENCES)
    assert rows.usable.tolist() == [True, False]
    assert np.isnan(rows.df[1]).all()
    with pytest.raises(NotEstimableError, match="do not determine every coefficient"):
        row_vectors(both[1:], seen, REFERENCE, DIFFERENCES)


def test_the_covariance_of_one_voxel_is_that_of_reml():
    seen = some_visits()
    values = np.where(seen, noise(1, seen)[:, :, 0], np.nan).astype(np.float64)
    design = design_of(np.where(ACTIVE, 0.5, -0.5))[0]
    found, structure = pooled_covariance(np.where(seen, values, 0)[:, :, None], design, seen)
    fit = fit_reml(values, design, "unstructured")
    assert structure == "unstructured"
    np.testing.assert_allclose(found / found[0, 0], fit.covariance / fit.covariance[0, 0], rtol=1e-5)


def test_the_planted_covariance_is_found_however_much_voxels_differ_in_spread():
    """20,000 independent voxels: an entry's standard error is below 0.3 %."""
    seen = some_visits()
    spread = np.exp(np.random.default_rng(6).normal(size=20_000)).astype(np.float32)
    values = noise(20_000, seen) * spread + np.float32(5) * seen[:, :, None]
    values[:, :, :10] = 0.0  # voxels without any variation
    found, _ = pooled_covariance(values, design_of(np.where(ACTIVE, 0.5, -0.5))[0], seen)
    np.testing.assert_allclose(found / np.trace(found), PLANTED / np.trace(PLANTED), atol=0.003)


def test_people_who_share_no_visits_leave_a_random_intercept_and_constant_maps_nothing():
    seen = np.zeros((N, 4), dtype=bool)
    seen[::2, :2], seen[1::2, 2:] = True, True
    _, structure = pooled_covariance(noise(500, seen), design_of(np.where(ACTIVE, 0.5, -0.5))[0], seen)
    assert structure == "random_intercept"
    with pytest.raises(NotEstimableError, match="no voxel varies"):
        pooled_covariance(np.ones((N, 4, 9)), design_of(np.where(ACTIVE, 0.5, -0.5))[0], some_visits())


def test_a_brain_takes_seconds_and_no_memory_beyond_its_values():
    """Three differences in 60,000 voxels of 90 scans: a quarter of the bound for 235,000 voxels, 10 CPU s."""
    seen, design = some_visits(), design_of(np.where(ACTIVE, 0.5, -0.5))
    values = noise(60_000, seen)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with threadpool_limits(1):
        covariance, _ = pooled_covariance(values, design[0], seen)
        estimates(row_vectors(design, seen, covariance, DIFFERENCES), values)
    assert time.process_time() - started < 2.5
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 60  # MB; the values are 26
