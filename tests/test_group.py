"""The frequentist engine, the grid, the families and the refusals of the group room."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reconfmri.config import DEFAULT_SCALES, Group
from reconfmri.contracts import questions
from reconfmri.group import estimands, frequentist, grid, group_from_tables, left_out, multiplicity
from reconfmri.group.asked import Asked
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures

UNIT = "percent signal change"
SESSIONS = ["1", "2", "3", "4"]
TRUTH = Truth(COVARIANCES["reference"], np.array([0.0, -0.8, -0.7, -0.5]))


def make_tables(outcomes=("amygdala.x",), truth=TRUTH, seed=1):
    return simulate_measures(truth, outcomes=dict.fromkeys(outcomes, UNIT), scales=DEFAULT_SCALES, seed=seed)


def make_group(outcomes=("amygdala.x",), **more) -> Group:
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": list(outcomes),
        "primary": {"outcome": outcomes[0], "session": "2"},
    }
    return Group.from_params(settings | more)


def estimate(measures, allocation, **more) -> pd.DataFrame:
    outcomes = tuple(dict.fromkeys(measures["outcome"])) or ("amygdala.x",)
    return frequentist.estimate(Asked(measures, allocation, make_group(outcomes, **more), SESSIONS))


def cell(estimates, estimand, session, *, reml=False) -> pd.Series:
    """The one row of least squares, or of REML."""
    chosen = estimates[(estimates["estimand"] == estimand) & (estimates["session"] == session)]
    methods = ["reml"] if reml else ["ancova", "welch", "paired_t"]
    (row,) = chosen[chosen["method"].isin(methods)].to_dict("records")
    return pd.Series(row)


# Least squares against independent implementations


def wide(measures, allocation) -> pd.DataFrame:
    table = measures.pivot(index="participant_id", columns="session_id", values="value")
    return table.join(allocation.set_index("participant_id")["arm"])


def test_welch_is_scipys():
    measures, allocation = make_tables()
    row = cell(estimate(measures, allocation), "difference_unadjusted", "3")
    table = wide(measures, allocation)
    arms = [table.loc[table["arm"] == arm, "3"].dropna() for arm in ("ketamine", "midazolam")]
    reference = stats.ttest_ind(*arms, equal_var=False)
    interval = reference.confidence_interval(0.95)
    found = row[["p", "df", "lower", "upper"]].astype(float)
    assert found.tolist() == pytest.approx(
        [reference.pvalue, reference.df, interval.low, interval.high], rel=1e-9
    )
    assert (row["n_active"], row["n_control"]) == tuple(len(arm) for arm in arms)


def test_ancova_is_that_of_statsmodels():
    import statsmodels.formula.api as smf

    measures, allocation = make_tables()
    row = cell(estimate(measures, allocation), "difference_adjusted", "4")
    table = wide(measures, allocation).rename(columns={"1": "before", "4": "after"})
    table["active"] = (table["arm"] == "ketamine").astype(float)
    reference = smf.ols("after ~ active + before", table[["after", "before", "active"]].dropna()).fit()
    low, high = reference.conf_int().loc["active"]
    expected = [reference.params["active"], reference.bse["active"], reference.df_resid, low, high]
    assert row[["estimate", "sd", "df", "lower", "upper"]].astype(float).tolist() == pytest.approx(
        expected, rel=1e-8
    )
    assert row["p"] == pytest.approx(reference.pvalues["active"], rel=1e-8)


def test_reml_keeps_everybody_with_an_unstructured_covariance_however_few():
    measures, allocation = make_tables()
    row = cell(
        estimate(measures, allocation, covariance="unstructured"), "difference_adjusted", "3", reml=True
    )
    table = wide(measures, allocation)
    seen = table["3"].notna().groupby(table["arm"]).sum()
    assert (row["status"], row["n_active"], row["n_control"]) == ("ok", seen["ketamine"], seen["midazolam"])
    least_squares = cell(estimate(measures, allocation), "difference_adjusted", "3")
    assert abs(row["estimate"] - least_squares["estimate"]) < 0.5 * least_squares["sd"]
    few = allocation.groupby("arm").head(5)
    fewer = estimate(measures[measures["participant_id"].isin(few["participant_id"])], few)
    assert cell(fewer, "difference_adjusted", "3", reml=True)["status"] == "ok"


def test_average_and_changes_within_arms():
    measures, allocation = make_tables()
    complete = measures.groupby("participant_id").filter(lambda rows: len(rows) == len(SESSIONS))
    asked = ["difference_adjusted", "difference_average", "change_active", "change_control"]
    found = estimate(complete, allocation, estimands=asked, covariance="unstructured")
    reml = found[found["method"] == "reml"].set_index(["estimand", "session"])["estimate"]
    assert reml["difference_average", "average"] == pytest.approx(reml["difference_adjusted"].mean())
    table = wide(complete, allocation)
    for arm, name in (("ketamine", "change_active"), ("midazolam", "change_control")):
        one = table[table["arm"] == arm]
        row = cell(found, name, "3")
        other = stats.ttest_1samp((one["3"] - one["1"]).astype(float), 0)
        assert (row["p"], row["df"]) == pytest.approx((other.pvalue, len(one) - 1))
        assert reml[name, "3"] == pytest.approx((one["3"] - one["1"]).mean(), rel=1e-5)


def test_robust_ancova_has_hc2_and_bell_mccaffreys_degrees_of_freedom():
    """HC2 by statsmodels; the degrees of freedom by their definition, from simulated noise."""
    from statsmodels.api import OLS

    random = np.random.default_rng(2)
    active = np.arange(25) < 13
    baseline = random.normal(size=25)
    values = 0.4 * baseline - active + random.normal(size=25) * np.where(active, 2, 1)
    design = np.column_stack([np.ones(25), active, baseline])
    other = OLS(values, design).fit(cov_type="HC2", use_t=True)
    given = frequentist.ancova_design(baseline, active, (-1.0, 1.0))
    found = frequentist.robust_least_squares(values, *given)
    assert (found.estimate, found.se) == pytest.approx((other.params[1], other.bse[1]), rel=1e-9)
    noise = random.normal(size=(20_000, 25))
    hat = design @ np.linalg.inv(design.T @ design) @ design.T
    weights = (np.linalg.inv(design.T @ design) @ design.T)[1]
    variances = ((noise - noise @ hat) ** 2 * weights**2 / (1 - np.diag(hat))).sum(axis=1)
    assert found.df == pytest.approx(2 * variances.mean() ** 2 / variances.var(), rel=0.04)


def test_swapping_the_arms_flips_the_sign():
    measures, allocation = make_tables()
    one = estimate(measures, allocation)
    other = estimate(measures, allocation, arms={"active": "midazolam", "control": "ketamine"})
    np.testing.assert_allclose(one["estimate"], -other["estimate"], rtol=1e-9)
    np.testing.assert_allclose(one["p"], other["p"], rtol=1e-9)


def test_a_constant_and_a_factor_pass_through():
    measures, allocation = make_tables()
    moved = measures.assign(value=100 + 10 * measures["value"])
    one, other = estimate(measures, allocation), estimate(moved, allocation)
    np.testing.assert_allclose(10 * one["estimate"], other["estimate"], rtol=1e-8)
    np.testing.assert_allclose(one["p"], other["p"], rtol=1e-7)


def test_row_order_does_not_matter():
    measures, allocation = make_tables()
    shuffled = measures.sample(frac=1, random_state=3), allocation.sample(frac=1, random_state=4)
    pd.testing.assert_frame_equal(estimate(measures, allocation), estimate(*shuffled))


# What cannot be answered is said


def drop(measures, allocation, *, arm, session, keep=0) -> pd.DataFrame:
    people = allocation.loc[allocation["arm"] == arm, "participant_id"][keep:]
    return measures[~(measures["participant_id"].isin(people) & (measures["session_id"] == session))]


@pytest.mark.parametrize("keep", [0, 1])
def test_an_arm_that_is_empty_or_one_person_at_a_visit_gets_no_number(keep):
    measures, allocation = make_tables()
    found = estimate(drop(measures, allocation, arm="midazolam", session="4", keep=keep), allocation)
    there = found["session"] == "4"
    assert found.loc[there, "status"].str.startswith("not reported: two people per arm").all()
    assert found.loc[there, list(estimands.NUMBERS)].isna().all(axis=None)
    assert found.loc[~there, "status"].str.startswith("ok").all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.assign(value=1.5), "do not vary"),
        (lambda m: m.assign(value=np.where(m.index == 3, np.inf, m["value"])), "is not finite"),
        (lambda m: m.assign(value=np.nan), "no measurement"),
    ],
    ids=["constant", "infinite", "missing"],
)
def test_bad_values_get_a_reason_and_no_number(change, reason):
    measures, allocation = make_tables()
    found = estimate(change(measures), allocation)
    assert found["status"].str.startswith("not reported: ").all()
    assert found["status"].str.contains(reason).all()
    assert found[list(estimands.NUMBERS)].isna().all(axis=None)


def test_whole_numbers_of_four_people_are_answered_or_have_a_reason():
    """Climbing the likelihood then meets singular matrices (in 10 of the first 400 seeds)."""
    arms = np.array([True, True, False, False])
    asked = estimands.Question("difference_of_change", 2, "3")
    found = []
    for seed in (2, 73, 117, 196, 245):
        random = np.random.default_rng(seed)
        values = np.round((random.normal(size=(4, 1)) + random.normal(size=(4, 3))) / 3)
        outcome = grid.Outcome("amygdala.x", "activation", UNIT, 1.0, values, arms)
        try:
            answered, _ = frequentist.answer_by_reml(outcome, asked, make_group(), {})
        except estimands.NotEstimableError as reason:
            found.append(str(reason) != "")
        else:
            found.append(bool(np.isfinite(answered.interval(0.95)).all()))
    assert found == [True] * 5


def test_a_constant_baseline_cannot_adjust_but_the_visit_still_counts():
    measures, allocation = make_tables()
    flat = measures.assign(value=measures["value"].where(measures["session_id"] != "1", 0.2))
    found = estimate(flat, allocation)
    assert cell(found, "difference_unadjusted", "2")["status"] == "ok"
    assert "do not vary" in cell(found, "difference_adjusted", "2")["status"]


def test_an_outcome_without_rows_is_listed():
    measures, allocation = make_tables()
    found = frequentist.estimate(
        Asked(measures, allocation, make_group(("amygdala.x", "scr.trauma")), SESSIONS)
    )
    silent = found.loc[found["outcome"] == "scr.trauma", "status"]
    assert silent.str.startswith("not reported: there is no measurement. Fix: ").all()


def test_one_session_has_no_baseline():
    measures, allocation = make_tables()
    only = measures[measures["session_id"] == "2"]
    found = frequentist.estimate(Asked(only, allocation, make_group(), ["2"]))
    assert cell(found, "difference_unadjusted", "2")["status"] == "ok"
    assert "no baseline" in cell(found, "difference_adjusted", "2")["status"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda m, a: (m, a.assign(participant_id=a["participant_id"].str.replace("sub-", "sub-X"))),
            "measures and allocation share nobody",
        ),
        (lambda m, a: (m, pd.concat([a, a.iloc[:1]])), "allocation: sub-01 occur twice"),
        (lambda m, a: (pd.concat([m, m.iloc[:1]]), a), r"\['sub-01', '1', 'amygdala.x'\] occurs twice"),
        (lambda m, a: (m, a.assign(arm="ketamine")), "nobody is in arm 'midazolam'"),
        (lambda m, a: (m.assign(session_id="9"), a), r"sessions \['9'\] are not in the study"),
        (lambda m, a: (m.assign(unit="furlong"), a), "no unit 'furlong'"),
        (lambda m, a: (m.drop(columns="unit"), a), r"columns \['unit'\] are missing"),
        (lambda m, a: (m.assign(unit=np.where(m.index == 0, "mm", m["unit"])), a), "several of 'unit'"),
    ],
    ids=[
        "strangers",
        "person twice",
        "row twice",
        "one arm",
        "session",
        "unit",
        "column",
        "units",
    ],
)
def test_tables_that_do_not_fit_are_refused(spoil, message):
    with pytest.raises(ValueError, match=message):
        estimate(*spoil(*make_tables()))


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (lambda a: a.iloc[1:], "E-STAT-C06", "no arm in the allocation"),
        (lambda a: a.assign(arm=a["arm"].where(a.index > 0, None)), "E-STAT-C06", "no arm in the allocation"),
        (lambda a: a.assign(arm=a["arm"].where(a.index > 0, "placebo")), "E-STAT-C05", "the arm 'placebo'"),
    ],
    ids=["not in the allocation", "no arm", "third arm"],
)
def test_a_person_in_neither_arm_is_left_out_by_name_and_counts_for_nothing(spoil, code, says):
    measures, allocation = make_tables()
    person = allocation["participant_id"].iloc[0]
    without = measures[measures["participant_id"] != person], allocation.iloc[1:]
    pd.testing.assert_frame_equal(estimate(measures, spoil(allocation)), estimate(*without))
    (row,) = left_out(measures, spoil(allocation), make_group()).itertuples()
    assert (row.participant_id, row.code) == (person, code)
    assert says in row.reason
    assert left_out(measures, allocation, make_group()).empty


def test_people_who_were_randomised_but_never_measured_do_not_matter():
    measures, allocation = make_tables()
    more = pd.DataFrame({"participant_id": ["sub-99"], "arm": ["midazolam"], "stratum": ["n/a"]})
    pd.testing.assert_frame_equal(
        estimate(measures, allocation), estimate(measures, pd.concat([allocation, more]))
    )


# Without a study file


def test_a_group_section_is_made_from_bare_tables():
    measures, allocation = make_tables(("b.x", "a.x"))
    group, sessions = group_from_tables(
        measures, allocation, active="ketamine", control="midazolam", baseline="2"
    )
    assert (group.outcomes, sessions) == (["b.x", "a.x"], ["2", "1", "3", "4"])
    with pytest.raises(ValueError, match=r"units \['furlong'\] have no default scale.*group\.scales"):
        group_from_tables(measures.assign(unit="furlong"), allocation, active="ketamine", control="midazolam")
    with pytest.raises(ValueError, match="baseline '7' is not a session"):
        group_from_tables(measures, allocation, active="ketamine", control="midazolam", baseline="7")


# Weights and families


def test_weights_are_contrasts_of_arm_means():
    question = estimands.Question("difference_of_change", 2, "3")
    assert question.weights(4).tolist() == [[1, 0, -1, 0], [-1, 0, 1, 0]]
    assert len(estimands.ask(["difference_adjusted", "difference_unadjusted"], SESSIONS)) == 6


@pytest.mark.parametrize(("name", "theirs"), [("holm", "holm"), ("benjamini_hochberg", "fdr_bh")])
def test_corrections_are_those_of_statsmodels(name, theirs):
    from statsmodels.stats.multitest import multipletests

    adjust = multiplicity.CORRECTIONS[name]
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.9])
    np.testing.assert_allclose(adjust(p), multipletests(p, method=theirs)[1])
    assert np.isnan(adjust(np.array([0.02, np.nan]))).tolist() == [False, True]
    assert adjust(np.array([0.02, np.nan]))[0] == 0.02


def test_families_are_corrected_and_the_primary_stands_alone():
    names = ("amygdala.x", "hippocampus.x", "vmpfc.x")
    found = multiplicity.adjust(
        estimate(*make_tables(names)),
        {"circuit": list(names[:2])},
    )
    at_primary = found[(found["session"] == "2") & (found["method"] == "ancova")].set_index("outcome")
    assert at_primary["family"].tolist() == ["primary", "circuit", None]
    assert at_primary.loc[names[0], "p_adjusted"] == at_primary.loc[names[0], "p"]
    assert at_primary.loc[names[1], "p_adjusted"] >= at_primary.loc[names[1], "p"]
    assert np.isnan(at_primary.loc[names[2], "p_adjusted"])
    later = found[(found["session"] == "3") & (found["family"] == "circuit")]
    for _, rows in later.groupby(["estimand", "method"]):
        assert rows["p_adjusted"].min() == pytest.approx(min(1, 2 * rows["p"].min()))


def test_an_outcome_in_two_families_is_refused():
    with pytest.raises(ValueError, match="is in 'one' and 'two'"):
        multiplicity.adjust(estimate(*make_tables()), {"one": ["amygdala.x"], "two": ["amygdala.x"]})


def test_every_column_is_described():
    assert list(estimate(*make_tables())) == questions.specs()["estimates"].names


def test_grid_keeps_everybody_with_any_measurement():
    measures, allocation = make_tables()
    only_late = measures[~((measures["participant_id"] == "sub-01") & (measures["session_id"] != "2"))]
    outcome = grid.lay_out(only_late, allocation, make_group(), SESSIONS)[0]
    assert outcome.values.shape == (27, 4)
    assert outcome.seen[0].tolist() == [False, True, False, False]
