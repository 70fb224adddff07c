"""Covariates and moderators: against least squares by statsmodels, in every engine, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy.stats import norm, t

from reconfmri.checks import check_covariates
from reconfmri.config import DEFAULT_SCALES, Covariate, Group
from reconfmri.covariates import columns_of
from reconfmri.group import (
    bayes,
    completion,
    controls,
    frequentist,
    missing,
    moderation,
    randomisation,
    sensitivity,
)
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import ask
from reconfmri.group.grid import lay_out
from reconfmri.simulate.measures import Truth, simulate_measures
from reconfmri.trial.allocation import read_allocation

UNIT = "percent signal change"
SESSIONS = ["1", "2"]
COVARIATES = {
    "age": {"column": "age"},
    "site": {"column": "site", "kind": "category"},
    "motion": {"measure": "fd.mean"},
}
N = 30


def asked(covariates=COVARIATES, **more) -> Group:
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": ["x"],
        "primary": {"outcome": "x", "session": "2"},
        "covariates": covariates,
        "covariance": "unstructured",
        "permutations": 300,
    }
    return Group.from_params(settings | more)


def tables(seed=1, *, missed=0.0, moderated=0.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A trial whose values rise by 0.4 per ten years of age, and less so with motion."""
    random = np.random.default_rng([seed, 9])
    truth = Truth(
        0.16 * np.array([[1, 0.4], [0.4, 1.2]]), np.array([0.0, -0.3]), np.zeros(2), np.array([0, missed]),
        n_active=N // 2, n_control=N // 2,
    )  # fmt: skip
    scales = DEFAULT_SCALES | {UNIT: 1.0}
    measures, allocation = simulate_measures(truth, outcomes={"x": UNIT}, scales=scales, seed=seed)
    allocation["age"] = random.normal(40, 10, N).round(1)
    allocation["site"] = random.permutation(np.repeat(["a", "b", "c"], N // 3))
    still = pd.Series(random.normal(0.2, 0.05, N), index=allocation["participant_id"])
    motion = measures[measures["session_id"] == "1"].assign(outcome="fd.mean", unit="mm", domain="quality")
    motion["value"] = motion["participant_id"].map(still)
    with_age = measures.merge(allocation, on="participant_id")
    z = (with_age["age"] - 40) / 10
    effect = 0.4 * z - 2 * with_age["participant_id"].map(still)
    effect += moderated * z * (with_age["arm"] == "ketamine") * (with_age["session_id"] == "2")
    measures = measures.assign(value=measures["value"] + effect.to_numpy())
    return pd.concat([measures, motion], ignore_index=True), allocation.astype({"age": str})


def wide(measures, allocation) -> pd.DataFrame:
    values = measures[measures["outcome"] == "x"].pivot(
        index="participant_id", columns="session_id", values="value"
    )
    motion = measures[measures["outcome"] == "fd.mean"].set_index("participant_id")["value"]
    table = values.rename(columns={"1": "before", "2": "after"}).join(motion.rename("motion"))
    table = table.join(allocation.set_index("participant_id"))
    return table.assign(age=table["age"].astype(float), active=1.0 * (table["arm"] == "ketamine"))


def cell(table: pd.DataFrame, method: str, estimand: str) -> pd.Series:
    (row,) = table[(table["method"] == method) & (table["estimand"] == estimand)].to_dict("records")
    return pd.Series(row)


# One slope per covariate and visit, in every engine


def test_reml_of_complete_visits_is_least_squares_with_the_covariates():
    given = tables()
    row = cell(frequentist.estimate(Asked(*given, asked(), SESSIONS)), "reml", "difference_unadjusted")
    other = smf.ols("after ~ active + age + C(site) + motion", wide(*given)).fit()
    assert (row["estimate"], row["sd"], row["df"]) == pytest.approx(
        (other.params["active"], other.bse["active"], other.df_resid), rel=1e-6
    )


def test_ancova_is_that_of_statsmodels_with_the_covariates():
    given = tables(missed=0.2)
    found = frequentist.estimate(Asked(*given, asked(), SESSIONS))
    model = smf.ols("after ~ active + before + age + C(site) + motion", wide(*given).dropna(subset="after"))
    for method, other in (("ancova", model.fit()), ("ancova_hc2", model.fit(cov_type="HC2"))):
        row = cell(found, method, "difference_adjusted")
        assert row["estimate"] == pytest.approx(other.params["active"], rel=1e-8)
        assert row["sd"] == pytest.approx(other.bse["active"], rel=1e-8)


def test_covariates_that_matter_make_the_answer_sharper():
    given = tables()
    sds = [
        cell(frequentist.estimate(Asked(*given, asked(chosen), SESSIONS)), "reml", "difference_unadjusted")[
            "sd"
        ]
        for chosen in (COVARIATES, {})
    ]
    # age alone has half of the variance
    assert sds[0] < 0.85 * sds[1]


def test_the_randomisation_test_is_one_step_of_least_squares_with_the_covariates():
    given = tables(missed=0.2)
    group = asked()
    (outcome,) = lay_out(*given, group, SESSIONS)
    sides = randomisation.draw_sides(outcome.active, outcome.strata, n_draws=300, seed=1)
    test = randomisation.Test(outcome, group, sides)
    row, statistics = test.answer(ask(["difference_adjusted"], SESSIONS)[0])
    assert test.null is not None
    # the same with the whole design written down
    side = sides[7][:, None, None] * np.array([[0.0], [1.0]])
    design = np.concatenate([test.null.design, side], axis=2)
    inverse = np.linalg.inv(np.einsum("nvp,nvw,nwq->pq", design, test.null.precision, design))
    values = np.nan_to_num(outcome.values)
    beta = inverse @ np.einsum("nvp,nvw,nw->p", design, test.null.precision, values)
    assert statistics[7] == pytest.approx(beta[-1] / inverse[-1, -1] ** 0.5, rel=1e-8)
    reml = cell(frequentist.estimate(Asked(*given, group, SESSIONS)), "reml", "difference_adjusted")
    assert row["estimate"] == pytest.approx(reml["estimate"], abs=0.3 * reml["sd"])
    # the end of the interval is where the test says 1 in 20
    assert row["lower"] < reml["estimate"] < row["upper"]


def test_completed_data_of_complete_visits_give_the_answer_of_reml():
    given, group = tables(), asked(estimands=["difference_unadjusted", "change_active"])
    reml = frequentist.estimate(Asked(*given, group, SESSIONS))
    completed = missing.reference_based(Asked(*given, group, SESSIONS))
    for estimand in group.estimands:
        one = cell(completed, completion.AT_RANDOM, estimand)["estimate"]
        assert one == pytest.approx(cell(reml, "reml", estimand)["estimate"], rel=1e-6)


def test_people_never_seen_need_no_covariate_of_their_own():
    measures, allocation = tables(missed=0.2)
    more = pd.DataFrame({"participant_id": ["sub-99"], "arm": ["midazolam"], "stratum": ["n/a"]})
    found = missing.reference_based(Asked(measures, pd.concat([allocation, more]), asked(), SESSIONS))
    assert found["estimate"].notna().all()


@pytest.mark.parametrize("slope", ["per_visit", "common"])
def test_the_bayesian_engine_has_the_answer_of_reml_under_flat_priors(slope):
    given = tables(missed=0.2)
    group = asked(
        COVARIATES | {"age": {"column": "age", "slope": slope}},
        priors={"flat": True},
        sampling={"chains": 2, "tune": 500, "draws": 1000, "min_ess": 300},
    )
    (outcome,) = lay_out(*given, group, SESSIONS)
    fit = bayes.Sampler(1).fit(outcome, True, group)
    assert fit.passes(group.sampling)
    question = ask(["difference_adjusted"], SESSIONS)[0]
    draws = bayes.contrast(fit, question, outcome)
    reml, _ = frequentist.answer_by_reml(outcome, question, group)
    # 1,000 effective draws: four errors of the mean are 0.13 SD, of the SD 9 %; t tails widen it by 5 %
    assert draws.mean() == pytest.approx(reml.estimate, abs=0.13 * reml.se)
    assert draws.std() == pytest.approx(reml.se, rel=0.15)
    mixed = frequentist.fit_mixed(outcome, True, group)
    slopes = mixed.model.slopes(mixed.fit.beta)
    np.testing.assert_allclose(fit.slope.mean(axis=0) * outcome.scale, slopes, atol=0.03)
    for found in (slopes[None], fit.slope):  # age is the first covariate
        assert (found[:, 0, 0] == found[:, 0, 1]).all() == (slope == "common")
        assert (found[:, 1:, 0] != found[:, 1:, 1]).all()
    predicted = bayes.predictive.check(outcome, fit, True, group, SESSIONS, 1)
    assert {row["status"] for row in predicted} == {"not reported: flat priors allow every value", "ok"}


def test_the_other_tables_take_covariates_too():
    given, group = tables(missed=0.2), asked()
    checks = controls.estimate(Asked(*given, group, SESSIONS))
    assert checks.loc[checks["outcome"] == "x", "p"].notna().all()
    completers = missing.completers(Asked(*given, group, SESSIONS))
    assert completers["estimate"].notna().all()
    grid, _ = missing.tipping(Asked(*given, group, SESSIONS))
    assert grid["estimate"].notna().all()
    without = [row["estimate"] for row in sensitivity._by_person(
        lay_out(*given, group, SESSIONS)[0], ask(["difference_adjusted"], SESSIONS)[0], group, None, {}
    )]  # fmt: skip
    assert len(without) == N


# Moderation


def test_moderation_is_the_interaction_of_statsmodels():
    given = tables(missed=0.2, moderated=0.3)
    found = moderation.estimate(Asked(*given, asked(moderators=["age", "site"]), SESSIONS))
    table = wide(*given)
    table["z"] = (table["age"] - table["age"].mean()) / table["age"].std()
    table["b"], table["c"] = 1.0 * (table["site"] == "b"), 1.0 * (table["site"] == "c")
    table["side"] = table["active"] - 0.5
    seen = table.dropna(subset="after")
    for per, term in (("1 SD of age", "z"), ("site: b minus a", "b"), ("site: c minus a", "c")):
        model = smf.ols(f"after ~ side + before + z + b + c + motion + side:{term}", seen)
        rows = found[found["per"].str.startswith(per)].set_index("method")
        for method, other in (("ancova", model.fit()), ("ancova_hc2", model.fit(cov_type="HC2"))):
            assert rows.loc[method, "estimate"] == pytest.approx(other.params[f"side:{term}"], rel=1e-7)
            assert rows.loc[method, "sd"] == pytest.approx(other.bse[f"side:{term}"], rel=1e-7)
        assert rows.loc["ancova", "df"] == model.fit().df_resid
    assert set(found["estimand"]) == {"moderation"}
    assert moderation.estimate(Asked(*given, asked(), SESSIONS)).empty


def test_intervals_of_moderation_cover_what_was_planted():
    covered = {"ancova": 0, "ancova_hc2": 0, "bayes": 0}
    trials = 200
    for seed in range(trials):
        found = moderation.estimate(
            Asked(*tables(seed, missed=0.1, moderated=0.3), asked(moderators=["age"]), SESSIONS)
        ).set_index("method")
        planted = 0.3 * float(found["per"].iloc[0].split("(")[1][:-1]) / 10
        for method in covered:
            covered[method] += found.loc[method, "lower"] <= planted <= found.loc[method, "upper"]
    # 200 trials: the Monte Carlo SE of 95 % is 1.5 points
    assert 0.90 * trials <= min(covered.values())
    assert max(covered.values()) <= 0.995 * trials


@pytest.mark.parametrize("n", [7, 24])  # with 3 degrees of freedom tails are hundreds of SDs long
def test_the_posterior_of_moderation_is_the_t_distribution_of_least_squares_under_flat_priors(n):
    """A residual SD with a flat prior takes one degree of freedom from the t of least squares."""
    random = np.random.default_rng(6)
    design = np.column_stack([random.normal(size=n), np.ones(n), np.resize([0.5, -0.5], n)])
    values = design @ [0.4, 1.0, -0.5] + random.normal(size=n)
    draws = moderation.posterior(values, design, np.full(3, np.inf), 1e6)
    exact = frequentist.least_squares(values, design, 0)
    df = exact.df - 1
    spread = t(df, exact.estimate, exact.se * np.sqrt(exact.df / df))
    at = np.array([50, 250, 2000, 5000, 9000, 9750])
    np.testing.assert_allclose(draws[at], spread.ppf((at + 0.5) / 10_000), atol=1e-3 * exact.se)


def test_the_posterior_of_moderation_is_that_of_a_sampler_of_its_own_under_tight_priors():
    """Metropolis on coefficients and log SD, with priors that matter."""
    random = np.random.default_rng(7)
    design = np.column_stack([random.normal(size=12), np.ones(12)])
    values, prior_sd, scale = design @ [1.0, 0.3] + random.normal(size=12), np.array([0.3, 0.5]), 0.4

    def log_density(x):
        away = values - design @ x[:2]
        sd = np.exp(x[2])
        return (
            norm.logpdf(away, scale=sd).sum()
            - 0.5 * ((x[:2] / prior_sd) ** 2).sum()
            + (t.logpdf(sd / scale, 4) + x[2])
        )

    kept, place = [], np.zeros(3)
    height = log_density(place)
    for step in range(20_000):
        proposal = place + random.normal(size=3) * [0.35, 0.4, 0.35]
        other = log_density(proposal)
        if np.log(random.random()) < other - height:
            place, height = proposal, other
        kept.append(place[0] if step >= 500 else np.nan)
    draws = moderation.posterior(values, design, prior_sd, scale)
    # some 1,500 effective draws: four Monte Carlo errors of the mean are 0.1 SD, of the SD 8 %
    assert draws.mean() == pytest.approx(np.nanmean(kept), abs=0.1 * draws.std())
    assert draws.std() == pytest.approx(np.nanstd(kept), rel=0.08)


def test_moderation_is_answered_by_the_bayesian_regression_too():
    found = moderation.estimate(Asked(*tables(moderated=0.3), asked(moderators=["age"]), SESSIONS)).set_index(
        "method"
    )
    bayesian, plain = found.loc["bayes"], found.loc["ancova"]
    # priors of 2.5 s draw an effect of half an s towards zero by few per cent
    assert bayesian["estimate"] == pytest.approx(plain["estimate"], abs=0.2 * plain["sd"])
    assert bayesian["sd"] == pytest.approx(plain["sd"], rel=0.1)
    assert 0.5 <= bayesian["probability"] <= 1
    assert np.isnan(bayesian["p"])


# What is refused


AGE = Covariate(column="age")
SITE = Covariate(column="site", kind="category")
PEOPLE = {"sub-1": "30", "sub-2": "41", "sub-3": "52", "sub-4": "63"}


@pytest.mark.parametrize(
    ("settings", "cells", "says"),
    [
        (
            AGE,
            PEOPLE | {"sub-2": None, "sub-3": float("nan")},
            "sub-2, sub-3 have no value. Fix: complete it,",
        ),
        (AGE, PEOPLE | {"sub-2": "old"}, "'old' of sub-2 is not a number. Fix: write numbers"),
        (AGE, PEOPLE | {"sub-2": "inf"}, "'inf' of sub-2 is not a number"),
        (AGE, PEOPLE | {"sub-2": "4_1"}, "'4_1' of sub-2 is not a number"),
        (SITE, dict(zip(PEOPLE, ("a", "NA", "a", "NA"), strict=True)), "'NA' looks like a missing value"),
        (AGE, dict.fromkeys(PEOPLE, "40"), "everybody has the same value. Fix: drop the covariate"),
        (AGE, dict.fromkeys(PEOPLE), "have no value. Fix: complete it, or drop"),
        (SITE, PEOPLE, "'30', '41', '52', '63' has a single person"),
        (SITE, dict.fromkeys(PEOPLE, "a"), "everybody has the same value"),
    ],
    ids=[
        "E10 missing",
        "E10 text",
        "infinite",
        "underscore",
        "NA",
        "E10 constant",
        "nobody",
        "single",
        "one level",
    ],
)
def test_a_covariate_that_cannot_be_used_stops_with_the_people_and_the_fix(settings, cells, says):
    with pytest.raises(ValueError, match=r"^E-STAT-E10 participants.tsv: covariate 'v': ") as caught:
        columns_of("v", settings, cells, "participants.tsv")
    assert says in str(caught.value)


def test_whoever_lacks_a_covariate_is_named_and_stays_in_by_declaration_only():
    measures, allocation = tables()
    allocation["age"] = allocation["age"].where(allocation["participant_id"] != "sub-07", None)
    with pytest.raises(ValueError, match=r"covariate 'age': sub-07 has no value\. Fix: .*missing: mean"):
        frequentist.estimate(Asked(measures, allocation, asked(), SESSIONS))
    declared = asked(COVARIATES | {"age": {"column": "age", "missing": "mean"}})
    found = frequentist.estimate(Asked(measures, allocation, declared, SESSIONS))
    assert (found[["n_active", "n_control"]] == N // 2).all(axis=None)
    (outcome,) = lay_out(measures, allocation, declared, SESSIONS)
    assert outcome.columns[0].values[6] == 0
    quiet = measures[~((measures["outcome"] == "fd.mean") & (measures["participant_id"] == "sub-03"))]
    with pytest.raises(ValueError, match="measures: covariate 'motion': sub-03 has no value"):
        frequentist.estimate(Asked(quiet, tables()[1], asked(), SESSIONS))


def test_a_covariate_that_tells_the_arm_stops():
    """E8 in a linear model: arm and site cannot be told apart."""
    measures, allocation = tables()
    split = allocation.assign(site=np.where(allocation["arm"] == "ketamine", "a", "b"))
    with pytest.raises(ValueError, match="E-STAT-E10 group.covariates: .* cannot be told apart from the arm"):
        frequentist.estimate(Asked(measures, split, asked(), SESSIONS))


def test_a_site_that_only_one_arm_has_left_at_a_visit_gets_a_reason_in_every_engine():
    measures, allocation = tables()
    left = allocation[(allocation["arm"] == "ketamine") == (allocation["site"] == "a")]["participant_id"]
    gone = (measures["session_id"] == "2") & ~measures["participant_id"].isin(left)
    two = {"site": COVARIATES["site"]}
    sites = allocation.assign(site=np.where(allocation["site"] == "a", "a", "b"))
    found = frequentist.estimate(Asked(measures[~gone], sites, asked(two), SESSIONS))
    reml = cell(found, "reml", "difference_unadjusted")
    says = (
        "not reported: among the people seen, arm and covariates cannot be told apart. Fix: fewer covariates"
    )
    assert reml["status"] == says
    (outcome,) = lay_out(measures[~gone], sites, asked(two), SESSIONS)
    question = ask(["difference_unadjusted"], SESSIONS)[0]
    by_bayes = bayes.answer_question(outcome, question, asked(two), bayes.Sampler(1))
    assert (by_bayes["status"], by_bayes["reported"]) == (says, False)
    assert not {"estimate", "sd"} & set(by_bayes)


def test_a_person_with_two_rows_of_covariates_is_named(tmp_path):
    (tmp_path / "a.tsv").write_text("participant_id\tarm\nsub-1\tx\nsub-2\ty\n")
    (tmp_path / "p.tsv").write_text("participant_id\tage\nsub-1\t30\nsub-1\t31\nsub-2\t32\n")
    with pytest.raises(ValueError, match=r"p\.tsv: sub-1 has several rows. Fix: keep one"):
        read_allocation(tmp_path / "a.tsv", tmp_path / "p.tsv", ["age"])


def test_an_outcome_is_no_covariate_of_itself():
    given = tables()
    own = asked({"start": {"measure": "x"}})
    found = frequentist.estimate(Asked(*given, own, SESSIONS))
    assert found["status"].str.contains("the covariate 'start' is its own baseline. Fix: ").all()


def test_the_check_finds_it_before_any_compute(tmp_path):
    cells = [
        "participant_id\tage\tsite",
        "sub-01\t30\ta",
        "sub-02\tn/a\tb",
        "sub-03\told\tb",
        "sub-04\t50\ta",
    ]
    (tmp_path / "participants.tsv").write_text("\n".join(cells) + "\n")
    scanned = pd.DataFrame({"participant_id": ["sub-01", "sub-02", "sub-03", "sub-04"]})
    chosen = COVARIATES | {"years": {"column": "years"}}
    study = SimpleNamespace(group=asked(chosen))
    first, second = check_covariates(tmp_path, study, scanned)
    assert (first.code, first.file) == ("E-STAT-E10", "participants.tsv")
    assert first.what == "covariate 'age': sub-02 has no value"
    assert "there is no column 'years'" in second.what
    arms = tmp_path / "allocation.tsv"
    arms.write_text("participant_id\tarm\nsub-01\tketamine\nsub-02\tmidazolam\n")
    table = read_allocation(arms, tmp_path / "participants.tsv", ["age", "site"])
    assert table["age"].tolist() == ["30", None]
    assert list(read_allocation(arms, None, ["age"]).columns) == ["participant_id", "arm", "stratum"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "give either column or measure"),
        ({"column": "age", "measure": "fd.mean"}, "give either column or measure"),
        ({"column": "arm"}, "'arm' is not a covariate"),
        ({"measure": "fd.mean", "kind": "category"}, "a measure is a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Covariate.from_params(settings)
