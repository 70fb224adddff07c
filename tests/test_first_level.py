"""Planted effects come back in percent with honest standard errors; faulty designs are refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reconfmri.config import FirstLevel, Task
from reconfmri.events import script_regressors
from reconfmri.exclusions import DataFault
from reconfmri.signal.first_level import (
    build_design,
    check_contrasts,
    contrast_weights,
    fit_regions,
)
from reconfmri.signal.least_squares import contrasts_of_many, fit_series
from reconfmri.signal.voxelwise import maps

TASK = Task(conditions={"trauma": "trauma", "sad": "sad", "relax": "neutral"})
TR, N = 2.0, 150
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
COMPCOR = [f"a_comp_cor_{i:02d}" for i in range(6)]
CONTRASTS = {
    "trauma_first-neutral_first": {"trauma_first": 1.0, "neutral_first": -1.0},
    "trauma-neutral": {"trauma": 1.0, "neutral": -1.0},
}
SETTINGS = FirstLevel(task="memory", contrasts=CONTRASTS, confounds=["motion6", "acompcor"])
EVENTS = pd.DataFrame(
    [(10.0 + 32 * i, 24.0, ("trauma", "relax", "sad")[i % 3]) for i in range(9)],
    columns=["onset", "duration", "trial_type"],
)


def ar1(rho, n, size, rng):
    """Stationary AR(1) noise with unit variance, (n, size)."""
    noise = rng.standard_normal((n, size))
    for t in range(1, n):
        noise[t] = rho * noise[t - 1] + np.sqrt(1 - rho**2) * noise[t]
    return noise


def confounds(rng, n=N):
    return pd.DataFrame(np.hstack([ar1(0.95, n, 6, rng), ar1(0.5, n, 6, rng)]), columns=MOTION + COMPCOR)


def design(settings=SETTINGS, events=EVENTS, nuisance=None, n=N, task=TASK):
    nuisance = confounds(np.random.default_rng(0)) if nuisance is None else nuisance
    return build_design(events, nuisance, tr=TR, n_volumes=n, task=task, settings=settings)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_planted_percent_change_is_recovered_and_its_intervals_cover(rho):
    rng, n_series = np.random.default_rng(1), 400
    scripts = script_regressors(EVENTS, tr=TR, n_volumes=N, task=TASK)
    planted = {"trauma_1": 1.0, "trauma_2": 0.5, "trauma_3": 0.3, "neutral_1": 0.2}
    signal = scripts[list(planted)].to_numpy() @ np.array(list(planted.values()))
    series = 800 * (1 + signal[:, None] / 100) + 6 * ar1(rho, N, n_series, rng)
    rows, faults = fit_regions(
        pd.DataFrame(series, columns=[f"r{i}" for i in range(n_series)]),
        design(),
        contrasts=CONTRASTS,
        task=TASK,
    )
    assert not faults
    for contrast, truth in {"trauma_first-neutral_first": 0.8, "trauma-neutral": 1.8 / 3 - 0.2 / 3}.items():
        found = rows[rows["outcome"].str.endswith(f".{contrast}")]
        off = found["value"] - truth
        assert abs(off.mean()) < 4 * found["value"].std() / np.sqrt(n_series), (
            "no bias beyond Monte Carlo error"
        )
        covered = (off.abs() < found["se"] * stats.t.ppf(0.975, found["df"])).mean()
        # 400 series: Monte Carlo SE 1.1 points; 3.5 of them below, a little more room above.
        assert 0.912 <= covered <= 0.985, f"{contrast} at rho {rho}: coverage {covered:.3f}"


@pytest.mark.parametrize("damaged", [[70], [0, 12, 13, 14, 60, 110, N - 1]])
def test_with_damaged_volumes_value_and_error_are_those_of_a_fit_without_them(damaged):
    """Against dense generalised least squares on the volumes that are left, whose covariance is exact."""
    rng = np.random.default_rng(6)
    kept = np.setdiff1d(np.arange(N), damaged)
    nuisance = confounds(rng)
    nuisance.loc[damaged, MOTION] = np.nan
    nuisance.loc[damaged, COMPCOR] = 0.0
    for number, volume in enumerate(damaged):
        nuisance[f"damaged_volume{number:02d}"] = np.eye(N)[volume]
    x = design(nuisance=nuisance)
    assert [name for name in x if name.startswith("damaged")] == list(nuisance.filter(like="damaged"))
    scripts = script_regressors(EVENTS, tr=TR, n_volumes=N, task=TASK)
    series = 800 * (1 + scripts[["trauma_1", "trauma_2"]].sum(axis=1).to_numpy() / 100)
    series += 4 * ar1(0.4, N, 1, rng)[:, 0]
    answers = []
    for garbage in (0.0, 800.0, 1e5):
        series[damaged] = garbage
        rows, _ = fit_regions(pd.DataFrame({"r": series}), x, contrasts=CONTRASTS, task=TASK)
        answers.append(rows[["value", "se", "df"]].to_numpy())
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-6)

    left = x.loc[kept, [name for name in x if not name.startswith("damaged")]].to_numpy()
    y = series[kept]

    def fitted(rho):
        """Height of the restricted likelihood, coefficients and their covariance, from the dense inverse."""
        shape = rho ** np.abs(np.subtract.outer(kept, kept)) / (1 - rho**2)
        inverse = np.linalg.inv(shape)
        information = left.T @ inverse @ left
        beta = np.linalg.solve(information, left.T @ inverse @ y)
        rest = (y - left @ beta) @ inverse @ (y - left @ beta)
        df = len(kept) - left.shape[1]
        height = df * np.log(rest) + np.linalg.slogdet(shape)[1] + np.linalg.slogdet(information)[1]
        return -height / 2, beta, np.linalg.inv(information) * rest / df, df

    grid = np.linspace(0.0, 0.8, 401)
    best = grid[np.argmax([fitted(rho)[0] for rho in grid])]
    _, beta, covariance, df = fitted(best)
    names = [name for name in x if not name.startswith("damaged")]
    level = beta[names.index("constant")]
    for (value, se, found_df), weights in zip(answers[0], CONTRASTS.values(), strict=True):
        vector = contrast_weights(weights, names, TASK)
        # The module finds the autocorrelation by a parabola on a grid of 0.04: a thousandth off.
        assert value == pytest.approx(100 * vector @ beta / level, rel=2e-3)
        assert se == pytest.approx(100 * np.sqrt(vector @ covariance @ vector) / level, rel=2e-3)
        assert found_df == df


def test_the_fit_is_generalised_least_squares_at_the_restricted_maximum():
    """Against dense matrices: V^-1, its determinant, and a grid over rho; nothing shared with the module."""
    rng = np.random.default_rng(2)
    x = design().to_numpy()
    y = 500 + x[:, :3] @ [3.0, 2.0, 1.0] + 4 * ar1(0.5, N, 1, rng)[:, 0]
    [fit] = fit_series(y[:, None], x)

    def dense(rho):
        inverse = np.linalg.inv(rho ** np.abs(np.subtract.outer(np.arange(N), np.arange(N))))
        information = x.T @ inverse @ x
        beta = np.linalg.solve(information, x.T @ inverse @ y)
        rest = (y - x @ beta) @ inverse @ (y - x @ beta)
        height = (
            (N - x.shape[1]) * np.log(rest)
            - np.linalg.slogdet(inverse)[1]
            + np.linalg.slogdet(information)[1]
        )
        return -height / 2, beta, rest / (N - x.shape[1]) * np.linalg.inv(information)

    grid = np.arange(0.2, 0.8, 0.002)
    best = grid[int(np.argmax([dense(rho)[0] for rho in grid]))]
    assert fit.rho == pytest.approx(best, abs=0.003)  # our parabola through steps of 0.04
    _, beta, covariance = dense(fit.rho)
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-6, atol=1e-9 * np.abs(covariance).max())
    assert fit.df == N - x.shape[1]


def test_without_noise_model_the_fit_is_ordinary_least_squares():
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    x, y = design().to_numpy(), rng.normal(100, 3, N)
    [ours], theirs = fit_series(y[:, None], x, noise="ols"), sm.OLS(y, x).fit()
    np.testing.assert_allclose(ours.beta, theirs.params, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(np.sqrt(np.diag(ours.covariance)), theirs.bse, rtol=1e-8)


def test_effects_agree_with_nilearn_and_its_standard_errors_are_too_small():
    """nilearn takes the autocorrelation of OLS residuals: too low when many columns were fitted."""
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import run_glm

    rng = np.random.default_rng(4)
    matrix = design()
    series = 1000 + 8 * ar1(0.5, N, 200, rng)
    rows, _ = fit_regions(
        pd.DataFrame(series, columns=[f"r{i}" for i in range(200)]),
        matrix,
        contrasts={"c": CONTRASTS["trauma-neutral"]},
        task=TASK,
    )
    vector = contrast_weights(CONTRASTS["trauma-neutral"], list(matrix.columns), TASK)
    theirs = compute_contrast(*run_glm(series, matrix.to_numpy(), "ar1", bins=10_000), vector)
    gap = rows["value"].to_numpy() - theirs.effect_size() / 10
    # Both are unbiased and differ only in rho: seen .3 of a standard error, .5 is allowed.
    assert np.sqrt((gap**2).mean()) < 0.5 * rows["se"].mean()
    assert np.sqrt(theirs.effect_variance()).mean() / 10 < 0.95 * rows["se"].mean()


def test_drifts_are_those_of_nilearn():
    from nilearn.glm.first_level import make_first_level_design_matrix

    theirs = make_first_level_design_matrix(TR * np.arange(N), drift_model="cosine", high_pass=0.008)
    ours = design().filter(like="drift_").to_numpy()
    theirs = theirs.filter(like="drift").to_numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours / np.sqrt(N), theirs, atol=1e-12)


def test_the_unit_of_the_scanner_does_not_matter():
    rng = np.random.default_rng(5)
    series = pd.DataFrame({"amygdala": 700 + 5 * ar1(0.3, N, 1, rng)[:, 0]})
    one, _ = fit_regions(series, design(), contrasts=CONTRASTS, task=TASK)
    ten, _ = fit_regions(10 * series, design(), contrasts=CONTRASTS, task=TASK)
    np.testing.assert_allclose(one[["value", "se"]], ten[["value", "se"]], rtol=1e-6)


def test_a_volume_with_a_column_of_its_own_does_not_move_the_baseline():
    rng = np.random.default_rng(6)
    spikes = confounds(rng).assign(
        non_steady_state_outlier00=np.eye(N)[0], non_steady_state_outlier01=np.eye(N)[1]
    )
    settings = SETTINGS.model_copy(update={"confounds": ["motion6", "acompcor", "non_steady_state"]})
    matrix = design(settings, nuisance=spikes)
    scripts = script_regressors(EVENTS, tr=TR, n_volumes=N, task=TASK)
    quiet = 600 * (1 + scripts["trauma_1"].to_numpy() / 100) + 1e-3 * rng.standard_normal(N)
    bright = quiet.copy()
    bright[:2] *= 1.5
    found = [
        fit_regions(pd.DataFrame({"a": y}), matrix, contrasts=CONTRASTS, task=TASK)[0]["value"]
        for y in (quiet, bright)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    assert found[0][0] == pytest.approx(1.0, abs=1e-4)


def test_regions_without_a_signal_are_missing_and_never_zero():
    rng = np.random.default_rng(7)
    series = 500 + ar1(0.3, N, 1, rng)[:, 0]
    holes = np.where(np.arange(N) == 3, np.nan, series)
    signals = pd.DataFrame(
        {
            "good": series,
            "absent": np.nan,
            "constant": 500.0,
            "holes": holes,
            "centred": series - series.mean() - 1,
        }
    )
    rows, faults = fit_regions(signals, design(), contrasts=CONTRASTS, task=TASK)
    values = rows.set_index("outcome")["value"]
    assert values.filter(like="good.").notna().all()
    assert values[~values.index.str.startswith("good.")].isna().all()
    assert rows.loc[rows["value"].isna(), ["se", "df"]].isna().all(axis=None)
    assert {fault.region: fault.code for fault in faults} == {
        "constant": "E-DATA-B09",
        "holes": "E-DATA-B03",
        "centred": "E-DATA-B04",
    }


def with_column(column, values):
    nuisance = confounds(np.random.default_rng(0))
    nuisance[column] = values(nuisance)
    return nuisance


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ({"nuisance": confounds(np.random.default_rng(0)).iloc[:-1]}, "E-DATA-B11", "149 rows"),
        ({"nuisance": with_column("rot_z", lambda t: 3 * t["rot_x"] + 1)}, "E-STAT-E01", "rot_x.*rot_z"),
        (
            {
                "events": EVENTS[EVENTS["onset"] < 30],
                "nuisance": confounds(np.random.default_rng(0), 22),
                "n": 22,
            },
            "E-STAT-E03",
            "degrees of freedom",
        ),
        (
            {"events": pd.concat([EVENTS, EVENTS[:1].assign(trial_type="sad")])},
            "E-STAT-E04",
            "trauma_1.*sad_1.*same time",
        ),
        (
            {"events": pd.concat([EVENTS, EVENTS[:1].assign(onset=299.0)])},
            "E-DATA-B13",
            "the run ends before",
        ),
    ],
    ids=["rows", "dependent", "volumes", "overlap", "cut"],
)
def test_designs_that_cannot_be_fitted_take_the_run_out(arguments, code, says):
    with pytest.raises(DataFault, match=says) as caught:
        design(**arguments)
    assert caught.value.code == code


def test_a_contrast_of_what_the_run_lacks_takes_the_run_out():
    for weights, says in (({"trauma_7": 1.0}, "trauma_7"), ({"trauma": 1.0, "trauma_first": 0.0}, None)):
        if says is None:
            check_contrasts(design(), {"c": weights}, TASK)
            continue
        with pytest.raises(DataFault, match=says) as caught:
            check_contrasts(design(), {"c": weights}, TASK)
        assert caught.value.code == "E-STAT-E02"


def test_a_contrast_outside_the_row_space_is_not_estimable():
    matrix = pd.DataFrame({"trauma_1": [1.0, 1, 0, 0, 0, 0] * 5, "neutral_1": [0.0, 0, 1, 1, 1, 1] * 5})
    matrix["constant"] = 1.0
    with pytest.raises(DataFault, match="not estimable"):
        check_contrasts(matrix, {"c": {"trauma_first": 1.0}}, TASK)
    check_contrasts(matrix, {"c": {"trauma_first": 1.0, "neutral_first": -1.0}}, TASK)


def test_a_high_pass_that_eats_the_contrast_is_remarked():
    """Scripts of 120 s every 360 s under a filter of 125 s: the filter takes nearly all of them."""
    long = pd.DataFrame(
        [(16.0 + 125 * i, 120.0, ("trauma", "relax", "sad")[i % 3]) for i in range(9)],
        columns=["onset", "duration", "trial_type"],
    )
    nuisance = confounds(np.random.default_rng(0), 580)
    told = []
    for high_pass in (0.008, 0.001):
        settings = SETTINGS.model_copy(update={"high_pass": high_pass})
        told.append(check_contrasts(design(settings, long, nuisance, 580), CONTRASTS, TASK))
    assert [fault.code for fault in told[0]] == ["W-STAT-E02", "W-STAT-E02"]
    assert "lower first_level.high_pass" in told[0][0].line
    assert told[1] == []


def test_one_regressor_per_condition_gives_the_contrast_of_conditions():
    task = TASK.model_copy(update={"events": "condition"})
    matrix = design(task=task)
    assert matrix.columns[:3].tolist() == ["trauma", "neutral", "sad"]
    vector = contrast_weights({"trauma": 1.0, "neutral": -1.0}, list(matrix.columns), task)
    assert vector[:3].tolist() == [1, -1, 0]


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_maps_hold_the_numbers_of_the_regions(tmp_path, noise):
    import nibabel

    rng = np.random.default_rng(8)
    matrix = design()
    data = (600 + 5 * ar1(0.4, N, 27, rng).T.reshape(3, 3, 3, N)).astype(np.float32)
    outside, flat = (0, 0, 0), (2, 2, 2)
    inside = np.ones((3, 3, 3), np.uint8)
    inside[outside] = 0
    data[flat] = 600
    for name, values in (("bold", data), ("mask", inside)):
        nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), tmp_path / f"{name}.nii.gz")
    paths, given = (
        (tmp_path / "bold.nii.gz", tmp_path / "mask.nii.gz"),
        {"contrasts": CONTRASTS, "task": TASK},
    )
    found = maps(*paths, matrix, smoothing=0.0, noise=noise, **given)["trauma-neutral"]
    fitted = [at for at in np.ndindex(3, 3, 3) if at not in (outside, flat)]
    there = tuple(np.array(fitted).T)
    effect, variance, z = (
        np.asarray(image.dataobj)[there] for image in (found.effect, found.variance, found.z)
    )
    series = pd.DataFrame({f"v{number}": data[at].astype(float) for number, at in enumerate(fitted)})
    rows = fit_regions(series, matrix, noise=noise, **given)[0].set_index("outcome")
    rows = rows.loc[[f"v{number}.trauma-neutral" for number in range(len(fitted))]]
    exact = (
        noise == "ols"
    )  # float32 images; with ar1 neighbours share an autocorrelation, whose own error is .08 in a voxel
    assert (np.abs(effect - rows["value"]) / rows["se"]).max() < (1e-3 if exact else 0.25)
    ratio = np.sqrt(variance) / rows["se"]
    assert np.median(ratio) == pytest.approx(1, abs=1e-4 if exact else 0.05)
    assert ratio.std() < (1e-4 if exact else 0.2)
    tails = stats.t.sf(effect / np.sqrt(variance), N - matrix.shape[1])
    np.testing.assert_allclose(z, stats.norm.isf(tails), rtol=1e-3, atol=1e-3)
    whole = np.asarray(found.effect.dataobj)
    assert np.isnan(whole[outside]), "outside the mask is missing, not zero"
    assert np.isnan(whole[flat]), "a flat voxel is missing, not zero"


@pytest.mark.parametrize("noise", ["ols", "ar2"])
def test_maps_are_smoothed_as_by_nilearn_whose_noise_they_have_above_the_first_order(tmp_path, noise):
    import nibabel
    from nilearn.glm.first_level import FirstLevelModel

    matrix = design()
    noises = ar1(0.3, N, 6 * 7 * 8, np.random.default_rng(3))
    affine = np.array([[0, -3.0, 0, 9], [2.0, 0, 0, -6], [0, 0, 4.0, 1], [0, 0, 0, 1]])
    images = {"bold": (600 + 5 * noises.T.reshape(6, 7, 8, N)), "mask": np.ones((6, 7, 8))}
    for name, values in images.items():
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), tmp_path / f"{name}.nii.gz")
    paths = tmp_path / "bold.nii.gz", tmp_path / "mask.nii.gz"
    ours = maps(*paths, matrix, contrasts=CONTRASTS, task=TASK, smoothing=6.0, noise=noise)
    model = FirstLevelModel(
        mask_img=str(paths[1]), smoothing_fwhm=6.0, noise_model=noise, signal_scaling=False, random_state=0
    ).fit(str(paths[0]), design_matrices=matrix)
    vector = contrast_weights(CONTRASTS["trauma-neutral"], list(matrix.columns), TASK)
    theirs = np.asarray(model.compute_contrast(vector, output_type="z_score").dataobj)
    np.testing.assert_allclose(np.asarray(ours["trauma-neutral"].z.dataobj), theirs, atol=2e-3)


def test_many_series_have_the_noise_of_each():
    rng = np.random.default_rng(6)
    matrix = design().to_numpy()
    series = np.hstack([600 + ar1(rho, N, 20, rng) for rho in (-0.2, 0.0, 0.5, 0.9)])
    vectors = rng.standard_normal((2, matrix.shape[1]))
    fits = fit_series(series, matrix)
    effects, variances, df = contrasts_of_many(series, matrix, vectors, np.array([fit.rho for fit in fits]))
    for place, fit in enumerate(fits):
        assert fit.df == df
        errors = np.sqrt(np.einsum("kp,pq,kq->k", vectors, fit.covariance, vectors))
        # autocorrelations rounded by .001
        assert (np.abs(effects[:, place] - vectors @ fit.beta) < 0.01 * errors).all()
        np.testing.assert_allclose(np.sqrt(variances[:, place]), errors, rtol=0.01)


def test_maps_reject_as_often_as_they_say_with_many_columns(tmp_path):
    """3,375 voxels, 26 columns in 150 volumes, no effect; nilearn rejects 11 % (docs/first_level.md)."""
    import nibabel

    noises = 600 + 5 * ar1(0.4, N, 15**3, np.random.default_rng(1))
    affine, shape = np.diag([3.0, 3, 3, 1]), (15, 15, 15)
    images = {"bold": noises.T.reshape(*shape, N), "mask": np.ones(shape)}
    for name, values in images.items():
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), tmp_path / f"{name}.nii.gz")
    paths = tmp_path / "bold.nii.gz", tmp_path / "mask.nii.gz"
    found = maps(*paths, design(), contrasts=CONTRASTS, task=TASK, smoothing=0.0)["trauma-neutral"]
    z = np.asarray(found.z.dataobj)
    assert 0.04 < (np.abs(z) > stats.norm.isf(0.025)).mean() < 0.06
