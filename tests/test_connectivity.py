"""Coupling comes back, nulls are rejected as often as they should be, filtering puts nothing back."""

import numpy as np
import pandas as pd
import pytest

from reconfmri.config import Connectivity, Task
from reconfmri.events import name_events, script_regressors
from reconfmri.exclusions import DataFault
from reconfmri.signal.connectivity import clean_space, couple

TASK = Task(conditions={"trauma": "trauma", "sad": "sad", "relax": "neutral"})
REST = Task()
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
COMPCOR = [f"a_comp_cor_{i:02d}" for i in range(6)]
TR, N, N_LONG = 2.0, 120, 580
SETTINGS = Connectivity(
    task="memory",
    pairs=[("a", "b")],
    conditions=["trauma", "run"],
    confounds=["motion6", "acompcor"],
    task_model="events",  # scripts of 24 s: bins leave too little of runs with damaged volumes
)


def script_events(scale=1.0):
    rows = [((8 + 25.5 * i) * scale, 24.0 * scale, ("trauma", "relax", "sad")[i % 3]) for i in range(9)]
    return pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])


def ar1(rho, n, size, rng):
    noise = rng.standard_normal((n, size))
    for t in range(1, n):
        noise[t] = rho * noise[t - 1] + np.sqrt(1 - rho**2) * noise[t]
    return noise


def nuisance(n, rng):
    return pd.DataFrame(np.hstack([ar1(0.95, n, 6, rng), ar1(0.5, n, 6, rng)]), columns=MOTION + COMPCOR)


def of_pairs(rows):
    """The rows of pairs, without those of the SDs of regions."""
    return rows[rows["estimator"].notna()]


def draw(n_runs, *, coupling, n=N, rho=0.3, events=None, seed=0, pairs_per_run=25, damaged=(), **more):
    """Fisher z and effective observations, (pairs of all runs, n_conditions); confounds are drawn per run."""
    rng, found = np.random.default_rng(seed), []
    events = script_events() if events is None else events
    pairs = [(f"a{i}", f"b{i}") for i in range(pairs_per_run)]
    settings = SETTINGS.model_copy(update={"pairs": pairs} | more)
    for _ in range(n_runs):
        one, noise = (ar1(rho, n, pairs_per_run, rng) for _ in range(2))
        other = coupling * one + np.sqrt(1 - coupling**2) * noise
        signals = pd.DataFrame(
            500 + 4 * np.hstack([one, other]),
            columns=[name for side in zip(*pairs, strict=True) for name in side],
        )
        spikes = {f"damaged_volume{volume:02d}": np.eye(n)[volume] for volume in damaged}
        signals.loc[list(damaged)] = 0.0
        rows, _ = couple(
            signals, nuisance(n, rng).assign(**spikes), events, tr=TR, task=TASK, settings=settings
        )
        found.append(of_pairs(rows)[["value", "df"]].to_numpy().reshape(pairs_per_run, 2, 2))
    return np.moveaxis(np.concatenate(found), 2, 0)


def test_what_stands_in_a_damaged_volume_is_in_no_coupling():
    rng, damaged = np.random.default_rng(4), [11, 50, 51]
    table = nuisance(N, rng)
    measured = 500 + 4 * ar1(0.3, N, 2, rng) @ [[1, 0.5], [0, 0.8]]
    table.loc[damaged, MOTION] = np.nan
    spikes = pd.DataFrame(np.eye(N)[:, damaged], columns=[f"damaged_volume{k:02d}" for k in range(3)])

    def coupled(garbage):
        signals = pd.DataFrame(measured, columns=["a", "b"])
        signals.loc[damaged] = garbage
        settings = SETTINGS.model_copy(update={"min_df": 4.0})
        rows, faults = couple(
            signals, pd.concat([table, spikes], axis=1), script_events(), tr=TR, task=TASK, settings=settings
        )
        assert not faults
        return of_pairs(rows)[["value", "se", "df"]].to_numpy()

    np.testing.assert_allclose(coupled(500.0), coupled(np.array([1e4, -1e4])), rtol=1e-6)


@pytest.mark.parametrize(("rho", "damaged"), [(0.3, []), (0.6, []), (0.3, [15, 16, 40, 77, 90, 119])])
def test_nulls_are_rejected_about_five_times_in_a_hundred(rho, damaged):
    z, n = draw(40, coupling=0.0, rho=rho, damaged=damaged)
    rejected = (np.abs(z) * np.sqrt(n - 3) > 1.96).mean(axis=0)
    # 1,000 pairs: Monte Carlo SE 0.7 points. Bartlett's sum alone: 8-10 % in scripts, 16-20 % over the run.
    assert (rejected > 0.015).all(), rejected
    assert (rejected < 0.085).all(), rejected


def test_nulls_beside_the_default_task_model_are_rejected_as_often():
    z, n = draw(40, coupling=0.0, task_model="bins", min_df=4.0)
    rejected = (np.abs(z) * np.sqrt(n - 3) > 1.96).mean(axis=0)
    assert ((rejected > 0.015) & (rejected < 0.085)).all(), rejected


def test_effective_observations_predict_the_spread_of_nulls():
    z, n = draw(40, coupling=0.0)
    # The SD of z has 2 % Monte Carlo error; the normal approximation of z adds some at 11 observations.
    np.testing.assert_allclose(z.std(axis=0), (1 / np.sqrt(n - 3)).mean(axis=0), rtol=0.12)


def test_sixty_seconds_in_the_band_hold_about_twelve_observations():
    """2 x 0.09 Hz x 60 s = 10.8, and the edges of the band add about one."""
    rng = np.random.default_rng(1)
    events = pd.DataFrame([(100.0, 60.0, "trauma")], columns=["onset", "duration", "trial_type"])
    signals = pd.DataFrame(500 + ar1(0.3, 1100, 2, rng), columns=["a", "b"])
    rows, _ = couple(signals, nuisance(1100, rng), events, tr=1.0, task=TASK, settings=SETTINGS)
    assert 10 <= rows.set_index("outcome")["df"]["a-b.trauma"] <= 14


def test_planted_coupling_is_recovered_with_coverage():
    truth = 0.6
    z, n = draw(12, coupling=truth, n=N_LONG, events=script_events(4.5))
    off = z - np.arctanh(truth)
    assert np.abs(off.mean(axis=0)).max() < 0.03  # Fisher z is biased by r / 2(n - 1), 0.006 here
    covered = (np.abs(off) * np.sqrt(n - 3) < 1.96).mean(axis=0)
    assert ((covered > 0.90) & (covered < 0.99)).all(), covered  # 300 runs: 3.5 Monte Carlo SE


def test_filter_and_confounds_are_one_projection():
    rng = np.random.default_rng(2)
    confounds = nuisance(N, rng).to_numpy()
    space = clean_space(confounds, tr=TR, band=(0.01, 0.1))
    np.testing.assert_allclose(space.T @ space, np.eye(space.shape[1]), atol=1e-10)
    # What is in the space holds nothing of the confounds and nothing outside the band.
    assert np.abs(space.T @ (confounds - confounds.mean(axis=0))).max() < 1e-9
    power = np.abs(np.fft.rfft(space - space.mean(axis=0), axis=0)) ** 2
    frequencies = np.fft.rfftfreq(N, TR)
    assert power[(frequencies > 0.12)].sum() < 0.02 * power.sum()  # a cosine is not a Fourier line


def test_cleaned_series_agree_with_nilearn():
    """nilearn filters with a Butterworth of order five and detrends, so that the band's edges differ."""
    from nilearn.signal import clean

    rng = np.random.default_rng(3)
    confounds, series = nuisance(N_LONG, rng).to_numpy(), ar1(0.3, N_LONG, 4, rng)
    space = clean_space(confounds, tr=TR, band=(0.01, 0.1))
    ours = space @ (space.T @ series)
    theirs = clean(
        series, confounds=confounds, t_r=TR, low_pass=0.1, high_pass=0.01, standardize=False, detrend=True
    )
    agreement = [np.corrcoef(ours[:, i], theirs[:, i])[0, 1] for i in range(4)]
    assert min(agreement) > 0.95, agreement
    upper = np.triu_indices(4, 1)
    gap = np.arctanh(np.corrcoef(ours.T)[upper]) - np.arctanh(np.corrcoef(theirs.T)[upper])
    assert np.abs(gap).max() < 0.1  # one SE is 0.07 at 209 observations


def test_task_responses_do_not_make_coupling():
    """Two regions that answer the same scripts and share nothing else are not coupled."""
    rng, z = np.random.default_rng(4), []
    answers = script_regressors(script_events(), tr=TR, n_volumes=N, task=TASK).to_numpy()
    for _ in range(100):
        common = answers @ rng.normal(8, 2, 9)
        signals = pd.DataFrame(500 + common[:, None] + 4 * ar1(0.3, N, 2, rng), columns=["a", "b"])
        rows, _ = couple(signals, nuisance(N, rng), script_events(), tr=TR, task=TASK, settings=SETTINGS)
        z.append(of_pairs(rows)["value"])
    assert np.abs(np.mean(z, axis=0)).max() < 0.15  # 4 Monte Carlo SE


def test_beta_series_find_what_single_events_share_and_refuse_fewer_than_ten():
    """Forty events of two conditions: the regions' answers go together in trauma, and not in neutral."""
    rng, n = np.random.default_rng(9), 600
    kinds = rng.permutation(["trauma", "relax"] * 20)
    events = pd.DataFrame(
        [(10 + 29.0 * k, 3.0, kind) for k, kind in enumerate(kinds)],
        columns=["onset", "duration", "trial_type"],
    )
    task = Task(conditions={"trauma": "trauma", "relax": "neutral"})
    answers = script_regressors(events, tr=TR, n_volumes=n, task=task).to_numpy()
    named = name_events(events, task, duration=TR * n)
    in_trauma = (named["condition"] == "trauma").to_numpy()
    shared, one, other = rng.normal(size=(3, 40))
    heights = np.stack([shared + 0.5 * one, np.where(in_trauma, shared, rng.normal(size=40)) + 0.5 * other])
    signals = pd.DataFrame(500 + (heights @ answers.T).T * 5 + rng.normal(size=(n, 2)), columns=["a", "b"])
    settings = SETTINGS.model_copy(
        update={
            "conditions": ["trauma"],
            "contrasts": {"trauma-neutral": {"trauma": 1.0, "neutral": -1.0}},
            "estimators": ["beta_series"],
        }
    )
    kind = {"tr": TR, "task": task, "settings": settings}
    rows, faults = couple(signals, nuisance(n, rng), events, **kind)
    assert not faults
    row = rows.set_index("outcome").loc["a-b.beta_trauma-neutral"]
    planted = [np.arctanh(np.corrcoef(heights[:, mine])[0, 1]) for mine in (in_trauma, ~in_trauma)]
    assert row["value"] == pytest.approx(planted[0] - planted[1], abs=0.15)  # noise of the signals
    assert 0.2 < row["se"] < 0.6
    assert row["df"] == 20
    rows, faults = couple(signals[:240], nuisance(240, rng), events[:15], **kind)
    assert np.isnan(rows.set_index("outcome").loc["a-b.beta_trauma-neutral", "value"])
    few = [fault for fault in faults if "beta series need 10 events of a condition" in fault.line]
    assert [(fault.code, fault.region) for fault in few] == [("E-STAT-E03", "a-b")]


def test_rest_needs_no_events():
    rng = np.random.default_rng(5)
    settings = SETTINGS.model_copy(update={"conditions": ["run"]})
    signals = pd.DataFrame(500 + ar1(0.3, N, 2, rng), columns=["a", "b"])
    rows, faults = couple(signals, nuisance(N, rng), None, tr=TR, task=REST, settings=settings)
    assert rows["outcome"].tolist() == ["a-b.run", "a.sd_run", "b.sd_run"]
    assert rows["value"].notna().all()
    assert not faults


def test_what_cannot_be_correlated_is_missing_with_a_reason():
    rng = np.random.default_rng(6)
    a = 500 + ar1(0.3, N, 1, rng)[:, 0]
    signals = pd.DataFrame({"a": a, "same": 2 * a, "flat": 500.0, "absent": np.nan, "holes": a}, copy=True)
    signals.loc[5, "holes"] = np.nan
    pairs = [("a", name) for name in ("same", "flat", "absent", "holes")]
    settings = SETTINGS.model_copy(update={"pairs": pairs, "conditions": ["run", "trauma_first"]})
    rows, faults = couple(signals, nuisance(N, rng), script_events(), tr=TR, task=TASK, settings=settings)
    assert of_pairs(rows)[["value", "se"]].isna().all(axis=None)
    assert {(fault.region, fault.code) for fault in faults} == {
        ("a-same", "E-STAT-E13"),
        ("flat", "E-DATA-B09"),
        ("holes", "E-DATA-B03"),
    }


def test_too_few_effective_observations_are_missing():
    rng = np.random.default_rng(7)
    settings = SETTINGS.model_copy(update={"conditions": ["trauma_first"]})
    signals = pd.DataFrame(500 + ar1(0.3, N, 2, rng), columns=["a", "b"])
    rows, faults = couple(signals, nuisance(N, rng), script_events(), tr=TR, task=TASK, settings=settings)
    assert of_pairs(rows)["value"].isna().all()
    assert faults[0].code == "E-STAT-E03"
    assert "effective observations, 8 are needed" in faults[0].line


def test_confounds_that_fill_the_band_take_the_run_out():
    rng = np.random.default_rng(8)
    signals = pd.DataFrame(500 + ar1(0.3, 60, 2, rng), columns=["a", "b"])
    rest = SETTINGS.model_copy(update={"conditions": ["run"]})
    with pytest.raises(DataFault, match="go to confounds and task"):
        couple(signals[:40], nuisance(40, rng), None, tr=TR, task=REST, settings=rest)
    with pytest.raises(DataFault, match="holds nothing"):
        clean_space(np.zeros((20, 1)), tr=0.1, band=(0.01, 0.1))
    with pytest.raises(DataFault, match="59 rows"):
        couple(signals, nuisance(59, rng), None, tr=TR, task=REST, settings=rest)
