"""Noise of higher order, the response in bins, ratings, scrubbing: planted truths and other programs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from reconfmri.config import FirstLevel, Scrubbing, Task, parse_config
from reconfmri.confounds import scrubbed_volumes, select
from reconfmri.events import cut_windows, read_events, script_regressors
from reconfmri.report.methods import Facts, methods_text
from reconfmri.screening import check_events
from reconfmri.signal.contrasts import contrasts_of_run
from reconfmri.signal.first_level import (
    build_design,
    columns_of_task,
    contrast_weights,
    fit_regions,
    share_left_by_filter,
    variance_inflation,
)
from reconfmri.signal.least_squares import fit_series, noise_of, predictors
from reconfmri.signal.single_scripts import single_scripts

ROOT = Path(__file__).resolve().parents[1]
TR, N = 2.0, 240
AR3 = [0.5, -0.3, 0.25]
EACH = Task(conditions={"trauma": "trauma", "relax": "neutral"})
ALIKE = EACH.model_copy(update={"events": "condition"})
CONTRAST = {"trauma-neutral": {"trauma": 1.0, "neutral": -1.0}}
SLOPE = {"rise": {"suds_trauma": 1.0}}
RATED = {"suds_trauma": {"condition": "trauma", "column": "suds", "per": 10.0}}
SUDS = [20.0, 80.0, 50.0, 65.0, 35.0, 90.0, 15.0, 70.0]


def settings(**given):
    return FirstLevel.model_validate({"task": "memory", "contrasts": CONTRAST, "confounds": [], **given})


def scripts(spacing=26.0, duration=8.0):
    """Eight events of each kind in turn; those of trauma are rated."""
    rows = [
        (10.0 + spacing * i, duration, ("trauma", "relax")[i % 2], SUDS[i // 2] if i % 2 == 0 else np.nan)
        for i in range(16)
    ]
    return pd.DataFrame(rows, columns=["onset", "duration", "trial_type", "suds"])


def design(events, given, task=ALIKE, n=N):
    nothing = pd.DataFrame(index=range(n))
    return build_design(events, nothing, tr=TR, n_volumes=n, task=task, settings=given)


def autoregressive(coefficients, n, size, rng):
    """Noise of statsmodels' ARMA process, (n, size)."""
    from statsmodels.tsa.arima_process import arma_generate_sample

    return arma_generate_sample(
        np.r_[1, -np.array(coefficients)],
        [1.0],
        (n, size),
        distrvs=lambda size: rng.standard_normal(size),
        burnin=200,
    )


# --- noise of higher order


def test_noise_of_third_order_is_that_of_the_restricted_likelihood_over_dense_matrices():
    """Covariances by statsmodels' ARMA process; nothing shared with the module but the series."""
    import statsmodels.api as sm
    from scipy.linalg import toeplitz
    from statsmodels.tsa.arima_process import ArmaProcess

    x = design(scripts(), settings(high_pass=0.01)).to_numpy()
    y = 500 + x[:, :2] @ [3.0, 2.0] + autoregressive(AR3, N, 1, np.random.default_rng(0))[:, 0]
    partial = noise_of(y[:, None], x, "ar3")[0]
    [fit] = fit_series(y[:, None], x, noise="ar3")

    def covariance(coefficients):
        return toeplitz(ArmaProcess(np.r_[1, -np.asarray(coefficients)], [1.0]).acovf(N))

    def height(coefficients):
        inverse = np.linalg.inv(covariance(coefficients))
        information = x.T @ inverse @ x
        beta = np.linalg.solve(information, x.T @ inverse @ y)
        rest = (y - x @ beta) @ inverse @ (y - x @ beta)
        return -0.5 * (
            (N - x.shape[1]) * np.log(rest)
            - np.linalg.slogdet(inverse)[1]
            + np.linalg.slogdet(information)[1]
        )

    ours = predictors(partial)[-1]
    for step in np.vstack([0.01 * np.eye(3), np.full(3, 0.01), [0.05, -0.05, 0.05]]):
        assert height(ours) > max(height(ours + step), height(ours - step))
    theirs = sm.GLS(y, x, sigma=covariance(ours)).fit()
    np.testing.assert_allclose(fit.beta, theirs.params, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), theirs.bse, rtol=1e-6)


def test_estimates_under_higher_order_agree_with_statsmodels_glsar():
    """GLSAR leaves out the first p volumes and takes its coefficients from residuals: close, not equal."""
    import statsmodels.api as sm

    x = design(scripts(), settings(high_pass=0.01))
    y = 500 + autoregressive(AR3, N, 1, np.random.default_rng(3))[:, 0]
    [fit] = fit_series(y[:, None], x.to_numpy(), noise="ar3")
    theirs = sm.GLSAR(y, x.to_numpy(), rho=3).iterative_fit(20)
    vector = contrast_weights(CONTRAST["trauma-neutral"], list(x), ALIKE)
    error = np.sqrt(vector @ fit.covariance @ vector)
    assert abs(vector @ fit.beta - vector @ theirs.params) < 0.2 * error


def test_errors_under_third_order_noise_are_those_of_the_true_covariance_and_first_order_errs():
    """Against the exact variances of both estimators under the covariance that the noise was drawn from."""
    from scipy.linalg import toeplitz
    from statsmodels.tsa.arima_process import ArmaProcess

    slow = [0.2, 0.2, 0.4]
    x = design(scripts(), settings(high_pass=0.004))
    matrix = x.to_numpy()
    vector = contrast_weights(CONTRAST["trauma-neutral"], list(x), ALIKE)
    series = 600 + autoregressive(slow, N, 30, np.random.default_rng(1))
    true = toeplitz(ArmaProcess(np.r_[1, -np.array(slow)], [1.0]).acovf(N))

    def spread(covariance):
        """True SD of the estimate by generalised least squares under some covariance."""
        inverse = np.linalg.inv(covariance)
        row = np.linalg.solve(matrix.T @ inverse @ matrix, matrix.T @ inverse).T @ vector
        return np.sqrt(row @ true @ row)

    found = {
        noise: [np.sqrt(vector @ fit.covariance @ vector) for fit in fit_series(series, matrix, noise=noise)]
        for noise in ("ar1", "ar3")
    }
    rho = noise_of(series, matrix, "ar1").mean()
    # The mean of 30 standard errors is sure to 3 %. A first order, which knows lag one alone, expects 1.22
    # times the spread at the frequency of the scripts.
    assert np.mean(found["ar3"]) == pytest.approx(spread(true), rel=0.1)
    assert np.mean(found["ar1"]) > 1.15 * spread(toeplitz(rho ** np.arange(N)))


# --- the response in bins


FIR = {"delays": [2.0 * k for k in range(9)], "windows": {"peak": (4.0, 10.0), "late": (12.0, 18.0)}}


def test_bins_are_nilearns_and_their_estimates_equal_to_a_millionth():
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import make_first_level_design_matrix, run_glm

    events = scripts(duration=0.0)
    given = settings(hrf="fir", fir=FIR, high_pass=0.01, noise="ols", contrasts={"t": {"trauma_peak": 1.0}})
    ours = design(events, given)
    kinds = events.assign(trial_type=events["trial_type"].map(ALIKE.conditions))
    theirs = make_first_level_design_matrix(
        TR * np.arange(N), kinds.iloc[:, :3], hrf_model="fir", fir_delays=range(9), high_pass=0.01
    )
    for condition in ("trauma", "neutral"):
        for k in range(9):
            np.testing.assert_allclose(
                ours[f"{condition}_delay_{2 * k}"], 50 * theirs[f"{condition}_delay_{k}"], atol=1e-12
            )
    rng = np.random.default_rng(0)
    series = 700 + autoregressive([0.4], N, 5, rng)
    contrasts, faults = contrasts_of_run(given, ALIKE, events, duration=TR * N)
    assert not faults
    signals = pd.DataFrame(series, columns=list("abcde"))
    rows, _ = fit_regions(signals, ours, contrasts=contrasts, task=ALIKE, noise="ols")
    peak = np.isin(theirs.columns, ["trauma_delay_2", "trauma_delay_3", "trauma_delay_4"]) / 3
    labels, found = run_glm(series, theirs.to_numpy(), "ols")  # an impulse of one of 50 steps of a volume
    level = compute_contrast(labels, found, (theirs.columns == "constant").astype(float)).effect_size()
    value = 100 * compute_contrast(labels, found, peak).effect_size() / 50 / level
    np.testing.assert_allclose(rows["value"], value, rtol=1e-6)


@pytest.mark.parametrize("task", [ALIKE, EACH], ids=["condition", "each"])
def test_a_late_response_is_recovered_by_bins_and_missed_by_a_shape(task):
    """A response that begins 6 s late: its course comes back; the canonical shape sees less than half."""
    events = scripts(spacing=28.0, duration=2.0)
    course = np.array([0, 0, 0, 0, 0.2, 0.8, 1.0, 0.8, 0.3])
    truth = np.zeros(N)
    for onset in events.loc[events["trial_type"] == "trauma", "onset"]:
        truth[int(onset / TR) + np.arange(9)] += course
    rng = np.random.default_rng(2)
    series = 500 * (1 + truth / 100) + 0.2 * rng.standard_normal(N)
    asked = {"late": {"trauma_late": 1.0}, "peak": {"trauma_peak": 1.0, "neutral_peak": -1.0}}
    asked |= {"whole": {"trauma": 1.0}, "first": {"trauma_first_late": 1.0}} if task is EACH else {}
    given = settings(hrf="fir", fir=FIR, contrasts=asked, high_pass=0.0, noise="ols")
    contrasts, _ = contrasts_of_run(given, task, events, duration=TR * N)
    matrix = design(events, given, task)
    rows, _ = fit_regions(pd.DataFrame({"r": series}), matrix, contrasts=contrasts, task=task, noise="ols")
    value, error = (rows.set_index("outcome")[name] for name in ("value", "se"))
    expected = {"late": course[6:9].mean(), "peak": course[2:5].mean(), "whole": course.mean()}
    expected["first"] = expected["late"]
    for name in asked:
        assert abs(value[f"r.{name}"] - expected[name]) < 4 * error[f"r.{name}"], name
        assert error[f"r.{name}"] < 0.1
    shaped = settings(contrasts={"c": {"trauma": 1.0}}, high_pass=0.0, noise="ols")
    seen, _ = fit_regions(
        pd.DataFrame({"r": series}), design(events, shaped, task), contrasts=shaped.contrasts, task=task
    )
    assert seen["value"][0] < 0.4 * course.max()


def test_bins_follow_the_moment_that_a_volume_stands_for_and_are_refused_where_none_lies():
    events = scripts(duration=0.0).assign(onset=lambda table: table["onset"] + 0.5)
    given = settings(hrf="fir", fir={"delays": [0.0, 2.0, 4.0]})
    nothing = pd.DataFrame(index=range(N))
    early, late = (
        build_design(events, nothing, tr=TR, n_volumes=N, task=ALIKE, settings=given, start=start)
        for start in (0.0, 1.0)
    )
    # 10.5 s: the next volume begins at 12 s; at mid-volume the one of 10 s lies 0.5 s after the onset.
    assert early["trauma_delay_0"].to_numpy().nonzero()[0][0] == 6
    assert late["trauma_delay_0"].to_numpy().nonzero()[0][0] == 5
    narrow = settings(hrf="fir", fir={"delays": [0.0, 0.5, 2.5]})
    with pytest.raises(ValueError, match=r"no volume of the run lies in the bins \['trauma_delay_0'"):
        design(events, narrow)


# --- ratings of events


@pytest.mark.parametrize("task", [ALIKE, EACH], ids=["condition", "each"])
def test_a_planted_slope_over_ratings_comes_back_and_its_intervals_cover(task):
    events = scripts()
    single = script_regressors(events, tr=TR, n_volumes=N, task=EACH)
    trauma = [name for name in single if name.startswith("trauma")]
    amounts = 0.5 + 0.02 * (np.array(SUDS) - 50)  # percent; .2 per 10 points
    clean = single[trauma].to_numpy() @ amounts
    rng, n_series = np.random.default_rng(4), 300
    series = 800 * (1 + clean[:, None] / 100) + 2 * autoregressive([0.4], N, n_series, rng)
    given = settings(contrasts=SLOPE | {"mean": {"trauma": 1.0}}, modulators=RATED)
    contrasts, faults = contrasts_of_run(given, task, events, duration=TR * N)
    assert not faults
    units = {name: given.unit_of(name) for name in given.every_contrast}
    rows, _ = fit_regions(
        pd.DataFrame(series, columns=[f"r{i}" for i in range(n_series)]),
        design(events, given, task),
        contrasts=contrasts,
        task=task,
        units=units,
    )
    for contrast, truth in {"rise": 0.2, "mean": amounts.mean()}.items():
        found = rows[rows["outcome"].str.endswith(f".{contrast}")]
        off = found["value"] - truth
        assert abs(off.mean()) < 4 * found["value"].std() / np.sqrt(n_series)
        assert 0.91 <= (off.abs() < 1.97 * found["se"]).mean() <= 0.985  # 300 series: Monte Carlo SE 1.3
    assert set(rows.loc[rows["outcome"].str.endswith(".rise"), "unit"]) == {
        "percent signal change per 10 of suds"
    }


def test_the_regressor_of_a_rating_is_nilearns_and_the_estimate_that_of_statsmodels():
    import statsmodels.api as sm
    from nilearn.glm.first_level import make_first_level_design_matrix

    events = scripts()
    given = settings(contrasts=SLOPE, modulators=RATED, noise="ols")
    matrix = design(events, given)
    rated = events[events["trial_type"] == "trauma"]
    theirs = make_first_level_design_matrix(
        TR * np.arange(N),
        rated[["onset", "duration", "trial_type"]].assign(
            modulation=(rated["suds"] - rated["suds"].mean()) / 10
        ),
        hrf_model="glover",
        drift_model=None,
    )
    assert np.corrcoef(matrix["suds_trauma"], theirs["trauma"])[0, 1] > 0.9999
    rng = np.random.default_rng(0)
    y = 700 + rng.standard_normal(N)
    rows, _ = fit_regions(
        pd.DataFrame({"r": y}),
        matrix,
        contrasts=contrasts_of_run(given, ALIKE, events, duration=TR * N)[0],
        task=ALIKE,
        noise="ols",
    )
    fit = sm.OLS(y, matrix).fit()
    assert rows["value"][0] == pytest.approx(
        100 * fit.params["suds_trauma"] / fit.params["constant"], rel=1e-8
    )
    assert rows["se"][0] == pytest.approx(100 * fit.bse["suds_trauma"] / fit.params["constant"], rel=1e-8)


def test_a_centre_moves_the_response_of_the_condition_and_not_the_slope():
    events = scripts()
    single = script_regressors(events, tr=TR, n_volumes=N, task=EACH)
    amounts = 0.5 + 0.02 * (np.array(SUDS) - 50)
    y = 800 * (1 + single.filter(like="trauma").to_numpy() @ amounts / 100)
    y += 1e-3 * np.random.default_rng(0).standard_normal(N)
    for centre, level in (("mean", amounts.mean()), (50.0, 0.5), (0.0, -0.5)):
        given = settings(
            contrasts=SLOPE | {"level": {"trauma": 1.0}},
            modulators={"suds_trauma": RATED["suds_trauma"] | {"centre": centre}},
        )
        contrasts, _ = contrasts_of_run(given, ALIKE, events, duration=TR * N)
        rows, _ = fit_regions(
            pd.DataFrame({"r": y}), design(events, given), contrasts=contrasts, task=ALIKE, noise="ols"
        )
        np.testing.assert_allclose(rows["value"], [0.2, level], atol=1e-4)


def test_a_rating_that_is_missing_has_a_reason_and_only_its_contrast_is_lost():
    events = scripts()
    given = settings(contrasts=SLOPE | CONTRAST, modulators=RATED)
    some = events.assign(suds=events["suds"].where(events["onset"] > 20))
    y = pd.DataFrame({"r": 700 + np.random.default_rng(0).standard_normal(N)})
    for task, how in ((ALIKE, "counts as the mean"), (EACH, "the slope is over the others")):
        contrasts, [remark] = contrasts_of_run(given, task, some, duration=TR * N)
        assert remark.code == "W-STAT-E07"
        assert "1 of 8 events of 'trauma' have no rating 'suds'" in remark.reason
        assert how in remark.reason
        assert set(contrasts) == {"rise", "trauma-neutral"}
    for cells, says in (
        (np.nan, "are there for 0 of 8 events, 3 are needed"),
        (40.0, "are all 40"),
        ("high", "hold 'high', expected a number"),
    ):
        bad = events.assign(suds=cells)
        for task in (ALIKE, EACH):
            contrasts, [fault] = contrasts_of_run(given, task, bad, duration=TR * N)
            assert (fault.region, list(contrasts)) == ("rise", ["trauma-neutral"])
            assert says in fault.reason
        rows, _ = fit_regions(
            y,
            design(bad, given),
            contrasts=contrasts,
            task=ALIKE,
            units={name: given.unit_of(name) for name in given.every_contrast},
        )
        values = rows.set_index("outcome")["value"]
        assert np.isnan(values["r.rise"])
        assert np.isfinite(values["r.trauma-neutral"])


def test_ratings_go_through_windows_and_beside_single_scripts(tmp_path):
    task = Task(
        conditions={"trauma": "trauma", "relax": "neutral"},
        windows={"early": {"condition": "trauma", "end": 4.0}},
    )
    path = tmp_path / "events.tsv"
    scripts().to_csv(path, sep="\t", index=False, na_rep="n/a")
    cut, windowed = cut_windows(read_events(path, ratings=["suds", "vividness"]), task)
    assert cut.loc[cut["trial_type"] == "early", "suds"].astype(float).tolist() == SUDS
    assert cut["vividness"].isna().all()
    given = settings(
        contrasts=SLOPE, modulators={"suds_trauma": RATED["suds_trauma"] | {"condition": "early"}}
    )
    contrasts, _ = contrasts_of_run(given, windowed, cut, duration=TR * N)
    assert set(contrasts["rise"]) == {f"early_{n}" for n in range(1, 9)}
    # A column that rises with ratings would be one of the single scripts' own.
    y = pd.DataFrame({"r": 700 + np.random.default_rng(0).standard_normal(N)})
    given = settings(contrasts=SLOPE, modulators=RATED)
    plain, rated = (
        single_scripts(
            y, design(scripts(), one), scripts(), tr=TR, task=ALIKE, noise="ols", modulators=one.modulators
        )
        for one in (settings(), given)
    )
    assert rated["lsa"].notna().all()
    np.testing.assert_allclose(rated["lsa"], plain["lsa"], rtol=1e-9)
    fir = settings(hrf="fir", fir=FIR)
    assert single_scripts(y, design(scripts(), fir), scripts(), tr=TR, task=ALIKE, hrf="fir").empty


def test_the_share_that_a_filter_leaves_is_said_of_slopes_and_bins():
    for given in (
        settings(contrasts=SLOPE, modulators=RATED, high_pass=0.04),
        settings(hrf="fir", fir=FIR, contrasts={"rise": {"trauma_peak": 1.0}}, high_pass=0.04),
    ):
        shares = share_left_by_filter(scripts(), tr=TR, n_volumes=N, task=ALIKE, settings=given)
        assert 0 < shares["rise"] < 1


def test_what_other_columns_cost_a_contrast_is_its_variance_inflation():
    """statsmodels' factor of a single column, where the rest of the task is orthogonal to nothing."""
    from statsmodels.stats.outliers_influence import variance_inflation_factor

    given = settings(contrasts={"t": {"trauma": 1.0}}, high_pass=0.0)
    one = Task(conditions={"trauma": "trauma"}, ignore=["relax"], events="condition")
    x = design(scripts(), given, one)
    x.insert(1, "trans_x", x["trauma"] + np.random.default_rng(0).standard_normal(N))
    found = variance_inflation(x, one, given)
    assert found["t"] == pytest.approx(variance_inflation_factor(x, 0), rel=1e-8)
    fir = settings(hrf="fir", fir=FIR, contrasts={"t": {"trauma_peak": 1.0}}, high_pass=0.01)
    matrix = design(scripts(), fir)
    assert len(columns_of_task(list(matrix), ALIKE, fir)) == 18
    assert variance_inflation(matrix, ALIKE, fir)["t"] > 1
    rated = settings(contrasts=SLOPE | CONTRAST, modulators=RATED)
    matrix = design(scripts(), rated)
    assert columns_of_task(list(matrix), ALIKE, rated) == ["trauma", "neutral", "suds_trauma"]
    assert set(variance_inflation(matrix, ALIKE, rated)) == {"rise", "trauma-neutral"}


# --- scrubbing


def test_scrubbed_volumes_are_those_that_moved_and_their_neighbours():
    fd = np.full(30, 0.1)
    fd[[0]] = np.nan
    fd[[10, 29]] = 0.9
    table = pd.DataFrame(
        {
            "framewise_displacement": fd,
            "std_dvars": np.r_[np.nan, np.ones(29)],
            "non_steady_state_outlier00": np.eye(30)[0],
            "non_steady_state_outlier01": np.eye(30)[9],
        }
    )
    assert scrubbed_volumes(table, Scrubbing(fd=0.5)).nonzero()[0].tolist() == [10, 29]
    wide = Scrubbing(fd=0.5, before=1, after=2)
    assert scrubbed_volumes(table, wide).nonzero()[0].tolist() == [9, 10, 11, 12, 28, 29]
    assert not scrubbed_volumes(table, Scrubbing(dvars=1.5)).any()
    chosen = select(table, ["non_steady_state"], wide)
    assert chosen.shape[1] == 2 + 5, "a volume with a column of its own gets no second one"
    assert np.linalg.matrix_rank(chosen) == 7


def test_a_scrubbed_volume_has_no_say():
    rng = np.random.default_rng(0)
    fd = np.full(N, 0.1)
    fd[[40, 41, 90]] = 2.0
    table = pd.DataFrame({"framewise_displacement": fd})
    given = settings(scrubbing={"fd": 0.5})
    x = build_design(scripts(), table, tr=TR, n_volumes=N, task=ALIKE, settings=given)
    y = 700 + rng.standard_normal(N)
    found = []
    for jump in (0.0, 500.0):
        y[[40, 41, 90]] += jump
        rows, _ = fit_regions(pd.DataFrame({"r": y}), x, contrasts=CONTRAST, task=ALIKE)
        found.append(rows[["value", "se", "df"]].to_numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    assert found[0][0, 2] == N - x.shape[1]


# --- at the door


def demo(**first_level):
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    raw["first_level"] |= {"script_contrasts": {}} | first_level
    raw["group"] = "none"
    return raw


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"hrf": "fir"}, "`hrf: fir` and `fir` belong together"),
        ({"fir": {"delays": [0.0, 2.0]}}, "`hrf: fir` and `fir` belong together"),
        ({"hrf": "fir", "fir": {"delays": [0.0]}}, "at least 2"),
        ({"hrf": "fir", "fir": {"delays": [2.0, 0.0]}}, "expected rising ones"),
        ({"hrf": "fir", "fir": {"delays": [0.0, 2.0], "windows": {"late": [9.0, 12.0]}}}, "no bin begins"),
        ({"noise": "ar7"}, "ar6"),
        ({"modulators": {"s": {"condition": "traumma", "column": "suds"}}}, "did you mean 'trauma'"),
        (
            {"modulators": {"sad": {"condition": "trauma", "column": "suds"}}},
            "of the workflow's own",
        ),
        ({"modulators": {"s": {"condition": "trauma", "column": "suds", "per": 0}}}, "greater than 0"),
        ({"modulators": {"s": {"condition": "trauma", "column": "suds", "centre": 5.0}}}, "delete it"),
        (
            {
                "modulators": {"s": {"condition": "trauma", "column": "suds"}},
                "contrasts": {"trauma_first-neutral_first": {"trauma": 1.0, "s": 1.0}},
            },
            "have different units",
        ),
        ({"scrubbing": {}}, "has no threshold"),
        ({"scrubbing": {"fd": 0.5}, "confounds": ["motion6", "motion_outliers"]}, "keep one"),
    ],
)
def test_a_senseless_choice_is_one_line(given, says):
    with pytest.raises(ValueError, match=says):
        parse_config(demo(**given))


def test_check_names_runs_without_ratings_and_bins_shorter_than_a_volume(tmp_path):
    contrasts = demo()["first_level"]["contrasts"] | SLOPE
    study = parse_config(demo(modulators=RATED, contrasts=contrasts))
    unit = {"session_id": "1", "task": "memory", "run": "n/a", "tr": 2.0, "n_volumes": 400}
    table = pd.DataFrame([unit | {"participant_id": f"sub-{n}", "events": f"{n}.tsv"} for n in (1, 2)])
    rows = scripts().assign(trial_type=["trauma", "relax", "sad", "trauma"] * 4)
    rows.assign(suds=np.arange(16)).to_csv(tmp_path / "1.tsv", sep="\t", index=False)
    rows.drop(columns="suds").to_csv(tmp_path / "2.tsv", sep="\t", index=False)
    kinds = set(study.tasks["memory"].conditions)
    assert kinds >= {"trauma", "relax", "sad"}
    found = [p for p in check_events(tmp_path, study, table) if "suds" in p.what]
    assert [(p.severity, p.participant_id) for p in found] == [("EXCL", "sub-2")]
    rows.drop(columns="suds").to_csv(tmp_path / "1.tsv", sep="\t", index=False)
    found = [p for p in check_events(tmp_path, study, table) if "suds" in p.what]
    assert {p.severity for p in found} == {"STOP"}
    fir = parse_config(demo(hrf="fir", fir={"delays": [0.0, 1.0, 4.0]}))
    assert [p.severity for p in check_events(tmp_path, fir, table) if "fir" in p.what] == ["STOP"]


@pytest.mark.parametrize(
    "given",
    [
        {"noise": "ar2"},
        {"noise": "ar3"},
        {"scrubbing": {"fd": 0.5}},
        {"scrubbing": {"fd": 0.4}},
        {"scrubbing": {"dvars": 1.5}},
        {"scrubbing": {"fd": 0.5, "before": 1}},
        {"scrubbing": {"fd": 0.5, "after": 1}},
        {"hrf": "fir", "fir": {"delays": [0.0, 2.0, 4.0]}},
        {"hrf": "fir", "fir": {"delays": [0.0, 2.0, 5.0]}},
        {"hrf": "fir", "fir": {"delays": [0.0, 2.0, 4.0], "windows": {"peak": [2.0, 5.0]}}},
        {"modulators": {"s": {"condition": "trauma", "column": "suds"}}},
        {"modulators": {"s": {"condition": "trauma", "column": "suds", "per": 10.0}}},
        {"modulators": {"s": {"condition": "trauma", "column": "suds", "min_rated": 2}}},
        {"modulators": {"s": {"condition": "trauma", "column": "vividness"}}},
    ],
)
def test_every_choice_has_a_sentence_of_its_own(given):
    facts = Facts(8, 28, (2.0,), (120, 120))
    texts = [dict(methods_text(parse_config(demo(**one)), facts))["Activation"] for one in ({}, given)]
    assert texts[0] != texts[1]


def test_the_centre_of_a_rating_is_in_the_text_where_it_counts():
    raw = demo(contrasts=CONTRAST, maps=[])
    raw["tasks"]["memory"]["events"] = "condition"
    raw["connectivity"] = raw["skin_conductance"] = None
    texts = []
    for centre in ("mean", 50.0):
        raw["first_level"]["modulators"] = {"s": RATED["suds_trauma"] | {"centre": centre}}
        texts.append(dict(methods_text(parse_config(raw), Facts(8, 28)))["Activation"])
    assert "ratings around their mean" in texts[0]
    assert "ratings around 50" in texts[1]
