"""More than two arms: one model of all, every comparison a contrast, and what refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from reconfmri.config import Arms, Comparison, Group
from reconfmri.contracts import questions
from reconfmri.group import allocations, bayes, combine, frequentist, planning, randomisation
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import NotEstimableError, Question
from reconfmri.group.grid import Outcome
from reconfmri.group.reml import fit_reml
from reconfmri.group.repeated import mean_model
from reconfmri.group.tables import answers
from reconfmri.report.comparisons import views
from reconfmri.simulate.arms import ArmsTruth, simulate_arm_measures, simulate_arms
from reconfmri.simulate.measures import COVARIANCES, Truth

UNIT = "percent signal change"
LOW, HIGH, CONTROL = "ketamine_0.2", "ketamine_0.5", "midazolam"
ARMS = {
    "active": [LOW, HIGH],
    "control": CONTROL,
    "comparisons": [[HIGH, LOW]],
    "doses": {CONTROL: 0, LOW: 0.2, HIGH: 0.5},
}
TRUTH = ArmsTruth(
    Truth(COVARIANCES["reference"]), np.array([[0, -0.3, -0.3, -0.3], [0, -0.8, -0.8, -0.6]]), (12, 9, 14)
)
NAMES = {"amygdala.x": UNIT, "hippocampus.x": UNIT}


def make_group(**more):
    settings = {
        "arms": ARMS,
        "outcomes": list(NAMES),
        "families": {"brain": list(NAMES)},
        "primary": {"outcome": "amygdala.x", "session": "2", "comparison": [HIGH, CONTROL]},
        "permutations": 200,
    }
    return Group.from_params(settings | more)


def make_asked(truth=TRUTH, *, seed=2, **more):
    measures, allocation = simulate_arm_measures(truth, outcomes=NAMES, scales={UNIT: 0.4}, seed=seed)
    return Asked(measures, allocation, make_group(**more), ["1", "2", "3", "4"], seed=3, cores=1)


def make_outcome(values, arm, **more):
    return Outcome("x", "activation", UNIT, 1.0, values, arm, arms=("c", "a", "b"), **more)


COMPLETE = replace(TRUTH, noise=replace(TRUTH.noise, missing=np.zeros(4)))


def of_all(estimand, visit):
    """The question of every comparison."""
    return [
        Question(estimand, visit, str(visit + 1), comparison=one) for one in Arms(**ARMS).every_comparison
    ]


# What is asked


def test_each_active_arm_declared_pairs_and_the_trend_are_compared():
    named = {one.name: one.weights for one in Arms(**ARMS).every_comparison}
    assert named["ketamine_0.2 minus midazolam"] == (-1, 1, 0)
    assert named["ketamine_0.5 minus midazolam"] == (-1, 0, 1)
    assert named["ketamine_0.5 minus ketamine_0.2"] == (0, -1, 1)
    slope = np.polyfit([0, 0.2, 0.5], np.eye(3), 1)[0]  # of the line through each arm's mean alone
    np.testing.assert_allclose(named["dose trend"], 0.5 * slope, atol=1e-12)
    assert len(named) == 4


def test_without_doses_there_is_no_trend_and_without_pairs_the_control_alone():
    plain = Arms(active=[LOW, HIGH], control=CONTROL)
    assert [one.name for one in plain.every_comparison] == [
        "ketamine_0.2 minus midazolam", "ketamine_0.5 minus midazolam",
    ]  # fmt: skip


def test_one_active_arm_in_a_list_is_the_simple_case():
    plain, listed = (make_group(arms={"active": a, "control": CONTROL}, primary=PLAIN) for a in (LOW, [LOW]))
    assert plain == listed
    assert listed.arms.every_comparison == (Comparison(),)


PLAIN = {"outcome": "amygdala.x", "session": "2"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"primary": PLAIN}, "names? one, e.g."),
        ({"primary": PLAIN | {"comparison": [CONTROL, HIGH]}}, "group.primary.comparison"),
        ({"arms": ARMS | {"comparisons": [[LOW, CONTROL]]}}, "no further pair"),
        ({"arms": ARMS | {"doses": {CONTROL: 0, LOW: 0.2}}}, "no dose of"),
        ({"arms": ARMS | {"active": [LOW, CONTROL]}}, "both name 'midazolam'"),
        ({"arms": {"active": LOW, "control": CONTROL}}, "two arms have one comparison"),
        ({"pooled": {"p": [f"o{i}" for i in range(6)]}, "outcomes": [*NAMES, *(f"o{i}" for i in range(6))]},
         "group.pooled is worked out for two arms"),
        ({"joint": {"j": dict.fromkeys(NAMES, "either")}}, "group.joint is worked out for two arms"),
        ({"bounded": {"amygdala.x": [0, 80]}}, "group.bounded is worked out for two arms"),
        ({"ordinal": {"amygdala.x": [0, 80]}}, "group.ordinal is worked out for two arms"),
        ({"intercurrent_events": "e.tsv"}, "group.intercurrent_events is worked out for two arms"),
        ({"voxels": {"contrasts": ["c"]}}, "group.voxels is worked out for two arms"),
        ({"associations": {"a": {"brain": "amygdala.x", "symptoms": "hippocampus.x", "session": "2"}}},
         "group.associations is worked out for two arms"),
        ({"covariates": {"age": {"column": "age"}}, "moderators": ["age"]},
         "group.moderators is worked out for two arms"),
    ],
)  # fmt: skip
def test_what_several_arms_cannot_have_is_refused_at_the_door(more, said):
    with pytest.raises(ValueError, match=said):
        make_group(**more)


def test_what_compares_two_arms_takes_no_two_of_three():
    asked = make_asked()
    with pytest.raises(NotEstimableError, match="there are 3"):
        _ = asked.outcomes[0].active
    with pytest.raises(ValueError, match="has 3 arms"):
        _ = asked.group.arms.pair
    two = {item.name: item for item in questions.registered() if item.arms == "two"}
    assert set(two) == {
        *("moderation", "pooled", "joint", "bounded", "reference_based", "tipping", "voxels"),
        *("associations", "prediction", "ordinal"),
    }
    made = list(answers(asked, [item for item in two.values() if item.always]))
    assert made
    assert all(table.rows.empty for table in made)


# The model of all arms


@pytest.mark.parametrize("estimand", ["difference_unadjusted", "difference_of_change"])
def test_complete_data_give_the_differences_of_means_with_the_variance_of_all_arms(estimand):
    """Closed form: a one-way analysis of variance, its pooled variance, N - 3 degrees of freedom."""
    arm, values = COMPLETE.arm, simulate_arms(COMPLETE, trials=1, seed=4)[0]
    outcome, group = make_outcome(values, arm), make_group()
    for visit in (1, 3):
        y = values[:, visit] - (values[:, 0] if estimand == "difference_of_change" else 0)
        means = np.array([y[arm == one].mean() for one in range(3)])
        variance = sum(((y[arm == one] - means[one]) ** 2).sum() for one in range(3)) / (len(y) - 3)
        for question in of_all(estimand, visit):
            found, _ = frequentist.answer_by_reml(outcome, question, group)
            weights = np.array(question.arm_weights)
            se = np.sqrt(variance * (weights**2 / np.bincount(arm)).sum())
            assert found.estimate == pytest.approx(weights @ means, abs=1e-8)
            assert (found.se, found.df) == pytest.approx((se, len(y) - 3), rel=1e-6)


@pytest.mark.parametrize("truth", [COMPLETE, TRUTH])
def test_adjusted_differences_are_generalised_least_squares_with_one_baseline_mean(truth):
    """Given the fitted covariance: cell means in another coding, one baseline mean, person by person."""
    arm, values = truth.arm, simulate_arms(truth, trials=1, seed=5)[0]
    outcome = make_outcome(values, arm)
    fit = frequentist.fit_mixed(outcome, True, make_group()).fit
    information, score = np.zeros((10, 10)), np.zeros(10)
    for one, row in zip(arm, values, strict=True):
        seen = ~np.isnan(row)
        design = np.zeros((4, 10))  # the baseline, then three visits of every arm
        design[0, 0] = 1
        design[[1, 2, 3], 1 + 3 * one + np.arange(3)] = 1
        weighted = design[seen].T @ np.linalg.inv(fit.covariance[np.ix_(seen, seen)])
        information += weighted @ design[seen]
        score += weighted @ row[seen]
    means = np.linalg.solve(information, score)[1:].reshape(3, 3)
    for visit, question in product((1, 2, 3), range(4)):
        asked = of_all("difference_adjusted", visit)[question]
        found, _ = frequentist.answer_by_reml(outcome, asked, make_group())
        assert found.estimate == pytest.approx(np.array(asked.arm_weights) @ means[:, visit - 1], abs=1e-7)


def test_a_third_arm_makes_the_comparison_of_two_more_precise():
    """Its people tell the covariance and the baseline mean: more degrees of freedom, another estimate."""
    arm, values = TRUTH.arm, simulate_arms(TRUTH, trials=1, seed=5)[0]
    outcome, group = make_outcome(values, arm), make_group()
    pair = outcome.of(arm < 2)
    pair = replace(pair, arms=("c", "a"))
    of_three, _ = frequentist.answer_by_reml(outcome, of_all("difference_adjusted", 2)[0], group)
    of_two, _ = frequentist.answer_by_reml(pair, Question("difference_adjusted", 2, "3"), group)
    assert of_three.df > of_two.df + 5
    assert of_three.estimate != pytest.approx(of_two.estimate, abs=1e-3)


def test_an_arm_without_the_control_is_compared_with_the_other():
    """Nobody of the control was seen at the last visit: the two others still are, the control is refused."""
    arm, values = COMPLETE.arm, simulate_arms(COMPLETE, trials=1, seed=6)[0]
    values[arm == 0, 3] = np.nan
    outcome, group = make_outcome(values, arm), make_group()
    low, _, among, trend = of_all("difference_unadjusted", 3)
    found, _ = frequentist.answer_by_reml(outcome, among, group)
    alone = values[:, 3]
    assert np.isfinite(found.estimate)
    assert found.estimate == pytest.approx(alone[arm == 2].mean() - alone[arm == 1].mean(), abs=0.3)
    for question in (low, trend):
        with pytest.raises(
            NotEstimableError, match="two people per arm are needed, there are 9 a, 14 b and 0 c"
        ):
            frequentist.answer_by_reml(outcome, question, group)


def test_an_sd_per_arm_is_the_arms_own():
    """Complete data, a mean and an SD per arm and one visit: Welch's estimate and standard error."""
    arm, values = COMPLETE.arm, simulate_arms(replace(COMPLETE, spread=(1, 3, 0.5)), trials=1, seed=7)[0]
    outcome, group = make_outcome(values[:, :1], arm), make_group(spread="by_arm")
    for one in Arms(**ARMS).every_comparison:
        question = Question("difference_unadjusted", 0, "1", comparison=one)
        found, status = frequentist.answer_by_reml(outcome, question, group)
        groups = [values[arm == place, 0] for place in range(3)]
        expected = frequentist.welch_contrast(groups, one.weights)
        assert (found.estimate, found.se) == pytest.approx((expected.estimate, expected.se), rel=1e-5)
        assert status == "ok, SD by arm"


# Least squares


def test_ancova_is_that_of_statsmodels_with_all_arms():
    arm, values = TRUTH.arm, simulate_arms(TRUTH, trials=1, seed=8)[0]
    outcome = make_outcome(values, arm)
    some = ~np.isnan(values[:, 2])
    design = np.column_stack([arm[some, None] == np.arange(3), values[some, 0]]).astype(float)
    plain = sm.OLS(values[some, 2], design).fit()
    robust = plain.get_robustcov_results("HC2")
    for question in of_all("difference_adjusted", 2):
        contrast = [*question.arm_weights, 0.0]
        expected, hc2 = plain.t_test(contrast), robust.t_test(contrast)
        found = frequentist.answer_question(outcome, question)
        assert (found.estimate, found.se) == pytest.approx((expected.effect[0], expected.sd[0, 0]), rel=1e-9)
        assert found.p == pytest.approx(float(expected.pvalue), rel=1e-7)
        assert frequentist.answer_question(outcome, question, robust=True).se == pytest.approx(hc2.sd[0, 0])


def test_welch_is_that_of_the_two_arms():
    arm, values = COMPLETE.arm, simulate_arms(COMPLETE, trials=1, seed=9)[0]
    outcome = make_outcome(values, arm)
    high = of_all("difference_unadjusted", 1)[1]
    expected = stats.ttest_ind(values[arm == 2, 1], values[arm == 0, 1], equal_var=False)
    found = frequentist.answer_question(outcome, high)
    assert (found.p, found.df) == pytest.approx((expected.pvalue, expected.df))


# Other draws of the allocation


def test_draws_keep_the_arms_of_every_stratum_and_move_only_those_alike():
    arm, strata = np.repeat([0, 1, 2, 0, 1, 2], [3, 5, 2, 4, 1, 6]), ["f"] * 10 + ["m"] * 11
    for blocks in (((0, 1),), ((0, 1, 2),)):
        drawn = allocations.draw_arms(arm, strata, blocks, n_draws=200, seed=1)
        assert drawn.shape == (201, 21)
        assert (drawn[0] == arm).all()
        for part in (slice(0, 10), slice(10, 21)):
            counts = np.stack([np.bincount(row, minlength=3) for row in drawn[:, part]])
            assert (counts == np.bincount(arm[part], minlength=3)).all()
        others = ~np.isin(arm, blocks[0])
        assert (drawn[:, others] == arm[others]).all()


@pytest.mark.parametrize(("blocks", "known"), [(((0, 1, 2),), 90), (((0, 2),), 6), (((0, 1), (2, 3)), 36)])
def test_every_allocation_is_there_once_where_they_are_few(blocks, known):
    arm = np.repeat([0, 1, 2, 3], 2) if len(blocks) > 1 else np.repeat([0, 1, 2], 2)
    drawn = allocations.draw_arms(arm, ["n/a"] * len(arm), blocks, n_draws=400, seed=1)
    assert len(drawn) == len(np.unique(drawn, axis=0)) == known
    assert (drawn[0] == arm).all()
    assert allocations.n_possible(arm, ["n/a"] * len(arm), blocks) == known


def test_null_hypotheses_join_the_arms_of_their_comparisons():
    low, high, among, trend = Arms(**ARMS).every_comparison
    assert allocations.joined([low]) == ((0, 1),)
    assert allocations.joined([low, high]) == allocations.joined([trend]) == ((0, 1, 2),)
    nulls = allocations.every_null([low, high, among, trend])
    assert nulls == {
        ((0, 1, 2),): [low, high, among, trend], ((0, 1),): [low], ((0, 2),): [high], ((1, 2),): [among],
    }  # fmt: skip
    assert next(iter(nulls)) == ((0, 1, 2),)


def test_a_pair_is_tested_beside_a_third_arm_of_any_effect():
    """Exact within the pair: of one visit the estimate is that of the two arms' means, p that of their draws.

    The third arm lies 30 SD away, among whose people labels of the pair are never drawn.
    """
    random = np.random.default_rng(3)
    arm = np.repeat([0, 1, 2], [5, 4, 5])
    values = random.normal(size=14)
    values[arm == 2] += 30
    outcome = make_outcome(values[:, None], arm, people=tuple("abcdefghijklmn"))
    question = Question("difference_unadjusted", 0, "1", comparison=Arms(**ARMS).every_comparison[0])
    blocks = allocations.joined([question.comparison])
    sides = allocations.sides_of(
        allocations.draw_arms(arm, outcome.strata, blocks, n_draws=500, seed=1), blocks
    )
    row, _ = randomisation.Test(outcome, make_group(), sides, blocks).answer(question)
    pair, chosen = values[arm < 2], arm[arm < 2]
    every = allocations.draw_arms(chosen, (), ((0, 1),), n_draws=500, seed=1)
    means = np.array([pair[one == 1].mean() - pair[one == 0].mean() for one in every])
    assert len(every) == 126
    assert row["estimate"] == pytest.approx(means[0])
    assert row["p"] == pytest.approx((np.abs(means) >= abs(means[0]) - 1e-9).mean())


def test_corrected_p_is_no_smaller_than_that_of_any_null_hypothesis_it_is_in():
    table = randomisation.estimate(make_asked())
    known = table[table["reported"] & table["p_adjusted"].notna()]
    assert len(known) == 2 * 3 * 3 * 4  # outcomes, estimands, sessions, comparisons
    assert (known["p_adjusted"] >= known["p"] - 1e-12).all()
    for _, rows in known.groupby(["outcome", "estimand", "session"]):
        assert rows["p_adjusted"].max() <= 1
        # whichever comparison is the clearest, the null hypothesis that all arms are alike corrects them all
        assert rows["p_adjusted"].nunique() >= 1


def test_statistics_without_an_arm_do_not_depend_on_which_arm_comes_first():
    """Relabelling the active arms permutes the answers."""
    arm, values = TRUTH.arm, simulate_arms(TRUTH, trials=1, seed=11)[0]
    turned = np.array([0, 2, 1])[arm]
    one, other = Arms(**ARMS).every_comparison[:2]
    sides = {}
    for name, labels in (("as is", arm), ("turned", turned)):
        outcome = make_outcome(values, labels)
        test = randomisation.Test(
            outcome, make_group(), allocations.sides_of(labels[None], ((0, 1, 2),)), ((0, 1, 2),)
        )
        sides[name] = [
            test.statistics(Question("difference_adjusted", 2, "3", comparison=asked))[0]
            for asked in (one, other)
        ]
    assert sides["as is"] == pytest.approx(sides["turned"][::-1], rel=1e-8)


# The Bayesian model


def test_no_arm_is_special_in_the_prior():
    """Differences between any two arms, and their changes between visits, have one spread."""
    outcome = make_outcome(simulate_arms(COMPLETE, trials=1, seed=1)[0], COMPLETE.arm)
    data = bayes.model_data(outcome, True, make_group().priors)
    used = data["used"].ravel() > 0
    assert used.tolist() == [False, True, True, True] * 2
    covariance = np.linalg.inv(data["prior_precision"][np.ix_(used, used)])
    size = len(covariance)
    for arms, visits in product([(1, 0), (0, 1), (1, -1)], [(1, 0, 0), (0, 0, 1), (1, -1, 0)]):
        along = np.kron(arms, visits)
        assert along.size == size
        assert along @ covariance @ along == pytest.approx(1)


def test_posterior_of_three_arms_is_that_of_least_squares_where_it_must_be():
    """One visit, flat priors: differences of means with the pooled SD, as t with N - 3 degrees of freedom."""
    truth = replace(COMPLETE, sizes=(30, 25, 35))
    values = simulate_arms(truth, trials=1, seed=12)[0][:, 1:2]
    outcome = make_outcome(values, truth.arm)
    fit = bayes.Sampler(1, cores=1).fit(outcome, False, make_group(priors={"flat": True}))
    assert fit.status == "ok"
    for one in Arms(**ARMS).every_comparison:
        question = Question("difference_unadjusted", 0, "1", comparison=one)
        expected, _ = frequentist.answer_by_reml(outcome, question, make_group())
        drawn = bayes.contrast(fit, question, outcome)
        # 1,000 effective draws or more: four Monte Carlo errors of a mean are 0.13 SD, of an SD 9 %
        assert drawn.mean() == pytest.approx(expected.estimate, abs=0.13 * expected.se)
        assert drawn.std() == pytest.approx(expected.se, rel=0.1)


# Tables, planning and the page


def test_every_table_names_its_comparison_and_only_where_there_are_several():
    asked = make_asked(estimands=["difference_adjusted", "change_active", "change_control"])
    by_reml, drawn = frequentist.estimate(asked), randomisation.estimate(asked)
    table = combine([by_reml, drawn], asked.group)
    assert table["comparison"].notna().all()
    assert set(table["comparison"]) == {
        *(one.name for one in asked.group.arms.every_comparison), LOW, HIGH, CONTROL,
    }  # fmt: skip
    primary = table[table["is_primary"]]
    assert set(primary["comparison"]) == {"ketamine_0.5 minus midazolam"}
    assert set(primary["method"]) == {"reml", "ancova", "ancova_hc2", "randomisation"}
    low = table[(table["comparison"] == "ketamine_0.2 minus midazolam") & (table["session"] == "2")]
    low = low[low["outcome"] == "amygdala.x"]
    assert set(low["n_active"]) == {9}
    assert set(low["n_control"]) == {12}


def test_pairs_are_stacked_and_rows_about_an_arm_are_there_once():
    rule = {"outcome": "amygdala.x", "drop": 0.1, "missing": "observed"}
    asked = make_asked(responders={"less": rule}, safety={"s": ["amygdala.x"]})
    asking = [item for item in questions.registered() if item.arms == "pairs"]
    made = {table.name: table.rows for table in answers(asked, asking)}
    pairs = [one.name for one in asked.group.arms.every_comparison[:3]]
    assert list(dict.fromkeys(made["responders"]["comparison"])) == pairs
    assert list(dict.fromkeys(made["response_hazards"]["comparison"])) == pairs
    for name in ("response_course", "monitored"):
        assert set(made[name]["arm"]) == {LOW, HIGH, CONTROL}
        assert not made[name].duplicated().any()
    exact = made["responders"]
    some = exact[(exact["comparison"] == pairs[1]) & (exact["session"] == "2") & (exact["method"] == "exact")]
    assert set(some["n_active"]) <= {14}
    assert set(some["n_control"]) <= {12}


def test_equal_arms_need_as_many_people_for_any_pair_and_the_trend_has_more_power():
    scenario = planning.Scenario(COVARIANCES["reference"], (0.0, 0.07, 0.20, 0.33))
    low, high, among, trend = (
        planning.expect(scenario, question, 50) for question in of_all("difference_adjusted", 2)
    )
    two = planning.expect(scenario, Question("difference_adjusted", 2, "3"), 50)
    assert low.se == pytest.approx(high.se, rel=1e-9)
    assert among.se == pytest.approx(high.se, rel=1e-9)
    assert two.se * 0.97 < high.se < two.se  # the third arm tells baseline and covariance
    assert high.df > 1.3 * two.df
    assert trend.se < high.se


def test_expected_precision_is_that_of_simulated_trials_with_three_arms():
    truth = replace(TRUTH, sizes=(20, 20, 20))
    question = of_all("difference_adjusted", 2)[3]
    values = simulate_arms(truth, trials=150, seed=13)
    model = mean_model(make_outcome(values[0], truth.arm), True)
    weights = model.weights(question, 4)
    design = model.design(truth.arm)
    found = [fit_reml(grid, design, "unstructured").infer(weights) for grid in values]
    scenario = planning.Scenario(truth.noise.covariance, tuple(truth.noise.missing.tolist()))
    expected = planning.expect(scenario, question, 20)
    # the SE varies by 10 % between trials: its mean over 150 by 0.8 %, so that 3 % are nearly four errors
    assert np.mean([one.se for one in found]) == pytest.approx(expected.se, rel=0.03)
    sd = np.std([one.estimate for one in found], ddof=1)
    assert sd == pytest.approx(expected.se, rel=0.18)  # three errors of an SD from 150


def test_a_view_is_the_trial_of_one_comparison():
    from reconfmri.config import Trial
    from reconfmri.report.inputs import Compared

    asked = make_asked()
    tables = {"estimates": combine([frequentist.estimate(asked)], asked.group)}
    trial = Trial("t", "", 1, asked.group, {str(v): f"v{v}" for v in range(1, 5)}, {}, NAMES, {})
    compared = Compared(measures=asked.measures, allocation=asked.allocation, tables=tables)
    shown = views(trial, compared)
    assert next(view.name for view in shown) == "ketamine_0.5 minus midazolam"
    assert shown[0].trial.group.arms.pair == (HIGH, CONTROL)
    for view in shown:
        own = view.compared.tables["estimates"]
        assert "comparison" not in own
        mine = tables["estimates"][tables["estimates"]["comparison"] == view.name]
        pd.testing.assert_series_equal(own["estimate"], mine["estimate"])
    assert shown[-1].trial.group.arms.pair == ("the highest dose", "the lowest dose")


def test_the_methods_text_names_comparisons_and_doses():
    from reconfmri.config import Trial
    from reconfmri.report.group_methods import group_methods

    def text(**more):
        group = make_group(**more)
        trial = Trial("t", "", 1, group, {str(v): f"v{v}" for v in range(1, 5)}, {}, NAMES, {})
        return " ".join(part for _, part in group_methods(trial))

    whole = text()
    assert "ketamine_0.5 minus ketamine_0.2 and dose trend" in whole
    assert "one model of the 3 arms" in whole
    assert "closed testing" in whole
    assert text(arms=ARMS | {"comparisons": []}) != whole
    assert text(arms=ARMS | {"doses": {CONTROL: 0, LOW: 0.2, HIGH: 1}}) != whole


def test_the_planted_difference_of_a_comparison_is_its_sum_over_the_arms():
    from reconfmri.report.comparisons import truth_of

    arms = Arms(**ARMS)
    by_arm = {LOW: {"2": -1.0}, HIGH: {"2": -3.0}}
    truth = {"outcomes": {"x": {"unit": "u", "difference_by_arm": by_arm}}}
    found = {
        one.name: truth_of(truth, arms, one.name)["outcomes"]["x"]["difference"]["2"]
        for one in arms.every_comparison
    }
    assert list(found.values())[:3] == [-1, -3, -2]
    assert found["dose trend"] == pytest.approx(0.5 * np.polyfit([0, 0.2, 0.5], [0, -1, -3], 1)[0])
