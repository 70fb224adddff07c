"""Every label of every table holds the model that it names: each is refitted by a path that shares no code.

REML rows by `dense` (another likelihood, maximised by brute force, Kenward-Roger by whole matrices), least
squares by statsmodels and scipy, the randomisation test by a loop over allocations, completed data person by
person. The data are a trial of 27 people with four visits of growing spread and missing values, on which the
models disagree by far more than the tolerances.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from tests.reference import dense

from reconfmri.config import DEFAULT_SCALES, Group
from reconfmri.group import bayes, controls, frequentist, missing, moderation, randomisation, sensitivity
from reconfmri.group.asked import Asked
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures

UNIT, NAME, SESSIONS = "percent signal change", "amygdala.x", ["1", "2", "3", "4"]
TRUTH = Truth(
    COVARIANCES["growing"],
    np.array([0.0, -0.8, -0.7, -0.5]),
    missing=np.array([0.0, 0.15, 0.2, 0.33]),
)
LATER = ["2", "3", "4"]
CLOSE = {"rel": 2e-4, "abs": 2e-5}  # the brute-force maximum is good to 1e-5 of the parameters


class Trial(NamedTuple):
    """The same trial as tables for the engines, and as arrays for the other path."""

    measures: pd.DataFrame
    allocation: pd.DataFrame
    values: np.ndarray
    active: np.ndarray
    ses: np.ndarray
    age: np.ndarray


@pytest.fixture(scope="module")
def trial() -> Trial:
    measures, allocation = simulate_measures(TRUTH, outcomes={NAME: UNIT}, scales=DEFAULT_SCALES, seed=12)
    random = np.random.default_rng(0)
    measures = measures.assign(se=0.05 + 0.05 * random.random(len(measures)))
    age = pd.Series(np.round(random.normal(40, 9, len(allocation))), index=allocation["participant_id"])
    allocation = allocation.assign(age=[f"{value:g}" for value in age])
    wide, ses = (
        measures.pivot(index="participant_id", columns="session_id", values=name) for name in ("value", "se")
    )
    active = (allocation.set_index("participant_id")["arm"][wide.index] == "ketamine").to_numpy()
    return Trial(
        measures, allocation, wide.to_numpy(), active, ses.to_numpy(), age[wide.index].to_numpy(float)
    )


def make_group(**more) -> Group:
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": [NAME],
        "estimands": ["difference_adjusted", "difference_unadjusted", "difference_of_change",
                      "difference_average", "change_active", "change_control"],
        "primary": {"outcome": NAME, "session": "3"},
        "covariance": "unstructured",
        "permutations": 300,
    }  # fmt: skip
    return Group.from_params(settings | more)


def design(active, *, common: bool, covariate=None) -> np.ndarray:
    """Means of the control arm, differences (none at a common baseline), slopes of a covariate: (n, 4, p)."""
    x = np.zeros((len(active), 4, 12))
    for visit in range(4):
        x[:, visit, visit] = 1
        x[:, visit, 4 + visit] = active
        x[:, visit, 8 + visit] = 0 if covariate is None else covariate
    kept = [*range(4), *range(5 if common else 4, 8), *(range(8, 12) if covariate is not None else [])]
    return x[:, :, kept]


def weights_of(estimand: str, visit: int, *, common: bool, n: int) -> np.ndarray:
    """Weights of the coefficients of `design` for an estimand at a visit."""
    full = np.zeros(8)
    if estimand == "difference_average":
        full[5:8] = 1 / 3
    elif estimand.startswith("change"):
        full[[0, visit]] = -1, 1
        if estimand == "change_active":
            full[[4, 4 + visit]] = -1, 1
    else:
        full[4 + visit] = 1
        full[4] -= estimand == "difference_of_change"
    kept = np.delete(full, 4) if common else full
    return np.concatenate([kept, np.zeros(n - len(kept))])


COVARIANCES_FOUND: dict[tuple[object, ...], np.ndarray] = {}  # a maximum serves every question of its model


def refitted(trial, structure, estimand, session, *, who=None, known=False, covariate=None) -> dense.Answer:
    people = np.ones(len(trial.active), bool) if who is None else who
    common = estimand in ("difference_adjusted", "difference_average")
    x = design(trial.active[people], common=common, covariate=covariate)
    data = dense.stack(trial.values[people], x, trial.ses[people] if known else None)
    visit = 3 if session == "average" else SESSIONS.index(session)
    key = (structure, common, people.tobytes(), known, covariate is None)
    if key not in COVARIANCES_FOUND:
        COVARIANCES_FOUND[key] = dense.fit(data, structure)
    weights = weights_of(estimand, visit, common=common, n=x.shape[2])
    information = getattr(make_group(), "information", "expected")
    return dense.infer(data, structure, weights, COVARIANCES_FOUND[key], information)


def same(row, answer: dense.Answer) -> None:
    assert row["estimate"] == pytest.approx(answer.estimate, **CLOSE)
    assert row["sd"] == pytest.approx(answer.se, **CLOSE)
    assert row["df"] == pytest.approx(answer.df, rel=2e-3)


@pytest.mark.parametrize("structure", ["unstructured", "random_intercept"])
def test_reml_rows(trial, structure):
    group = make_group(covariance=structure)
    found = frequentist.estimate(Asked(trial.measures, trial.allocation, group, SESSIONS))
    rows = found[found["method"] == "reml"].to_dict("records")
    assert len(rows) == 16
    for row in rows:
        if row["session"] in ("4", "average"):
            same(row, refitted(trial, structure, row["estimand"], row["session"]))
        assert structure.replace("_", " ") in row["status"] or structure == "unstructured"


def test_least_squares_rows_by_statsmodels_and_scipy(trial):
    found = frequentist.estimate(Asked(trial.measures, trial.allocation, make_group(), SESSIONS))
    rows = found[(found["session"] == "4") & (found["method"] != "reml")]
    rows = rows.set_index(["estimand", "method"])
    seen = ~np.isnan(trial.values[:, [0, 3]]).any(axis=1)
    last, first, active = trial.values[seen, 3], trial.values[seen, 0], trial.active[seen]
    ols = sm.OLS(last, sm.add_constant(np.column_stack([active, first]).astype(float)))
    for method, kind in (("ancova", "nonrobust"), ("ancova_hc2", "HC2")):
        row, fit = rows.loc[("difference_adjusted", method)], ols.fit(cov_type=kind)
        assert (row["estimate"], row["sd"]) == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-9)
    at_last = trial.values[:, 3]
    for estimand, values, arm in (
        ("difference_unadjusted", at_last, trial.active),
        ("difference_of_change", last - first, active),
    ):
        row = rows.loc[(estimand, "welch")]
        test = stats.ttest_ind(values[arm], values[~arm], equal_var=False, nan_policy="omit")
        assert (row["p"], row["df"]) == pytest.approx((test.pvalue, test.df), rel=1e-9)
    for estimand, arm in (("change_active", active), ("change_control", ~active)):
        paired = stats.ttest_rel(last[arm], first[arm])
        row = rows.loc[(estimand, "paired_t")]
        assert (row["p"], row["df"]) == pytest.approx((paired.pvalue, paired.df), rel=1e-9)


def test_randomisation_rows_by_a_loop_over_allocations(trial):
    """Estimate and statistic of each allocation by generalised least squares with the null's covariance."""
    group = make_group(estimands=["difference_unadjusted"])
    (row,) = randomisation.estimate(Asked(trial.measures, trial.allocation, group, SESSIONS, seed=5)).to_dict(
        "records"
    )[2:]
    means = design(trial.active, common=False)[:, :, :4]
    s = dense.fit(dense.stack(trial.values, means), "unstructured")

    def one_step(active) -> tuple[float, float]:
        data = dense.stack(trial.values, design(active, common=False))
        precision = np.linalg.inv(data.covariance(s))
        phi = np.linalg.inv(data.x.T @ precision @ data.x)
        estimate = float((phi @ data.x.T @ precision @ data.y)[7])
        return estimate, estimate / phi[7, 7] ** 0.5

    estimate, observed = one_step(trial.active)
    assert row["estimate"] == pytest.approx(estimate, **CLOSE)
    sides = randomisation.draw_sides(trial.active, ["n/a"] * 27, n_draws=300, seed=5)
    drawn = [abs(one_step(side > 0)[1]) for side in sides]
    assert row["p"] == pytest.approx(np.mean(np.array(drawn) >= abs(observed) - 1e-6), abs=2 / 301)


def no_sampling(*_args, **_more) -> dict[str, object]:
    return {"status": "not reported: not sampled here"}


@pytest.fixture
def by_reml(trial, monkeypatch) -> pd.DataFrame:
    """The sensitivity table without its Bayesian rows, which need the sampler."""
    monkeypatch.setattr(bayes, "answer_question", no_sampling)
    table = sensitivity.estimate(Asked(trial.measures, trial.allocation, make_group(), SESSIONS, seed=1))
    return table[table["method"] == "reml"].set_index("analysis")


def test_sensitivity_rows_hold_the_covariance_that_they_name(trial, by_reml):
    """Toeplitz, random intercept and unstructured differ by 1 % and more, ten tolerances."""
    names = {"declared": "unstructured", "toeplitz": "toeplitz", "random intercept": "random_intercept"}
    answers = {}
    for name, structure in names.items():
        answers[name] = refitted(trial, structure, "difference_adjusted", "3")
        row = by_reml.loc[name]
        assert (row["estimate"], row["sd"]) == pytest.approx(
            (answers[name].estimate, answers[name].se), rel=1e-3, abs=1e-4
        )
        assert name == "declared" or name in row["status"]
    ses = sorted(answer.se for answer in answers.values())
    assert min(np.diff(ses) / ses[0]) > 0.01
    errors = refitted(trial, "unstructured", "difference_adjusted", "3", known=True)
    assert by_reml.loc["first-level errors added", "sd"] == pytest.approx(errors.se, rel=1e-3)
    assert by_reml.loc["first-level errors added", "estimate"] == pytest.approx(errors.estimate, abs=1e-4)
    without = np.arange(27) != 4
    row = by_reml.loc["without sub-05"]
    left = refitted(trial, "unstructured", "difference_adjusted", "3", who=without)
    assert (row["estimate"], row["sd"]) == pytest.approx((left.estimate, left.se), **CLOSE)


def test_negative_controls_and_completers(trial):
    tables = trial.measures, trial.allocation, make_group(), SESSIONS
    row = controls.estimate(Asked(*tables)).set_index(["check", "session"]).loc[("baseline", "1")]
    at_first = refitted(trial, "unstructured", "difference_unadjusted", "1")
    assert (row["estimate"], row["sd"]) == pytest.approx((at_first.estimate, at_first.se), **CLOSE)
    found = missing.completers(Asked(*tables))
    stayed = ~np.isnan(trial.values).any(axis=1)
    row = found[(found["estimand"] == "difference_of_change") & (found["session"] == "4")].iloc[0]
    same(row, refitted(trial, "unstructured", "difference_of_change", "4", who=stayed))
    row = found[(found["estimand"] == "difference_adjusted") & (found["session"] == "4")].iloc[0]
    x = np.column_stack([trial.active, trial.values[:, 0]]).astype(float)[stayed]
    fit = sm.OLS(trial.values[stayed, 3], sm.add_constant(x)).fit()
    assert (row["estimate"], row["sd"]) == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-9)


def test_reference_based_rows_person_by_person(trial):
    """Completed by hand; the standard error by leaving out every person is tested against published ones."""
    group = make_group(estimands=["difference_unadjusted"])
    found = missing.reference_based(Asked(trial.measures, trial.allocation, group, SESSIONS))
    row = found[found["session"] == "4"].set_index("method")["estimate"]
    values, active = trial.values, trial.active
    x = design(active, common=False)
    data = dense.stack(values, x)
    s = dense.fit(data, "unstructured")
    precision = np.linalg.inv(data.covariance(s))
    beta = np.linalg.solve(data.x.T @ precision @ data.x, data.x.T @ precision @ data.y)
    of_control, of_active = beta[:4], beta[:4] + beta[4:]
    own = np.where(active[:, None], of_active, of_control)
    last = np.array([np.flatnonzero(~np.isnan(person))[-1] for person in values])
    assumed = {name: own.copy() for name in row.index}
    for person, place in enumerate(last):
        after = slice(place + 1, 4)
        assumed["jump_to_reference"][person, after] = of_control[after]
        assumed["copy_increments"][person, after] += (of_control - own[person])[after] - (
            of_control - own[person]
        )[place]
        assumed["last_mean"][person, after] = own[person, place]
        if place < 3:
            assumed["copy_reference"][person] = of_control
    for method, means in assumed.items():
        completed = dense.fill(values, means, s)[:, 3]
        by_hand = completed[active].mean() - completed[~active].mean()
        assert row[method] == pytest.approx(by_hand, **CLOSE), method
    assert row.round(3).nunique() == len(row)


def test_covariates_in_reml_and_moderation_by_statsmodels(trial):
    age = (trial.age - trial.age.mean()) / trial.age.std(ddof=1)
    group = make_group(
        estimands=["difference_adjusted"], covariates={"age": {"column": "age"}}, moderators=["age"]
    )
    tables = trial.measures, trial.allocation, group, SESSIONS
    found = frequentist.estimate(Asked(*tables))
    row = found[(found["method"] == "reml") & (found["session"] == "4")].iloc[0]
    same(row, refitted(trial, "unstructured", "difference_adjusted", "4", covariate=age))
    table = moderation.estimate(Asked(*tables))
    seen = ~np.isnan(trial.values[:, [0, 3]]).any(axis=1)
    x = np.column_stack([trial.active * age, trial.active, trial.values[:, 0], age])[seen].astype(float)
    ols = sm.OLS(trial.values[seen, 3], sm.add_constant(x))
    for method, kind in (("ancova", "nonrobust"), ("ancova_hc2", "HC2")):
        row = table[(table["method"] == method) & (table["session"] == "4")].iloc[0]
        fit = ols.fit(cov_type=kind)
        assert (row["estimate"], row["sd"]) == pytest.approx((fit.params[1], fit.bse[1]), rel=1e-9)
