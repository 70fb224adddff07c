"""Published trials give their published digits through the functions that make the report's tables.

Lead (Treatment of Lead-Exposed Children: 100 children, complete), antidepressant (rbmi's vignette: 172 people
with dropout), FEV (mmrm's data: 200 people with gaps). The split-plot experiment, the oxazepam trial and the
moments of the reference trial are in `test_reml.py` and `test_one_visit_table.py`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reconfmri.config import Group
from reconfmri.group import controls, frequentist, missing, randomisation
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import code_arms
from reconfmri.group.reml import fit_reml
from reconfmri.measures import read_measures
from reconfmri.trial.allocation import read_allocation


def load(folder, arms, scale, **more):
    """Measures, allocation, group section and sessions of a published trial."""
    measures = read_measures(folder / "measures.tsv")
    (name,), (unit,) = measures["outcome"].unique(), measures["unit"].unique()
    sessions = sorted(measures["session_id"].unique())
    settings = {
        "arms": {"active": arms[0], "control": arms[1]},
        "outcomes": [name],
        "primary": {"outcome": name, "session": sessions[-1]},
        "scales": {unit: scale},
    }
    group = Group.from_params(settings | more)
    return measures, read_allocation(folder / "allocation.tsv"), group, sessions


# Lead trial, succimer minus placebo, change from week 0 to weeks 1, 4 and 6
LEAD = {"1": (-11.406, 1.1199), "4": (-8.824, 1.1525), "6": (-3.152, 1.2566)}


@pytest.fixture(scope="module")
def lead(reference_data):
    return load(reference_data / "longitudinal" / "tlc", ("A", "P"), 6.0, permutations=500)


def test_lead_trial_by_every_method_that_compares_changes(lead):
    """Complete data: the unstructured model's differences of change are differences of mean changes."""
    found = frequentist.estimate(Asked(*lead)).set_index(["estimand", "session", "method"])
    stayed = missing.completers(Asked(*lead)).set_index(["estimand", "session"])
    for session, (estimate, se) in LEAD.items():
        at = "difference_of_change", session
        for row in (found.loc[(*at, "reml")], stayed.loc[at]):
            assert (row["estimate"], row["sd"]) == pytest.approx((estimate, se), abs=5e-4)
            assert row["df"] == pytest.approx(98, abs=1e-6)
        assert found.loc[(*at, "welch")]["estimate"] == pytest.approx(estimate, abs=5e-4)
        assert found.loc[(*at, "reml")]["status"] == "ok"


def test_lead_trial_before_treatment_and_by_other_draws(lead):
    """The arms start alike (t = .12); every later difference is beyond what 500 draws give."""
    measures, allocation, _, _ = lead
    first = measures[measures["session_id"] == "0"].merge(allocation, on="participant_id")
    test = stats.ttest_ind(*(first.loc[first["arm"] == arm, "value"] for arm in ("A", "P")))
    row = controls.estimate(Asked(*lead)).iloc[0]
    assert (row["p"], row["df"]) == pytest.approx((test.pvalue, 98), rel=1e-6)
    drawn = randomisation.estimate(Asked(*lead, seed=1))
    late = drawn[drawn["session"].isin(["1", "4"]) & (drawn["estimand"] == "difference_of_change")]
    assert late["p"].to_numpy() == pytest.approx(1 / 501)
    assert late["estimate"].to_numpy() == pytest.approx([-11.406, -8.824], rel=0.02)


def test_lead_trial_with_nobody_missing_is_the_same_under_every_assumption(lead):
    """Nothing is filled in; the jackknife over people gives Welch's standard error to 5 digits."""
    measures, allocation, group, sessions = lead
    only = group.model_copy(update={"estimands": ["difference_of_change"]})
    found = missing.reference_based(Asked(measures, allocation, only, sessions))
    welch = frequentist.estimate(Asked(measures, allocation, only, sessions)).query("method == 'welch'")
    for session, (estimate, _) in LEAD.items():
        rows = found[found["session"] == session]
        assert rows["estimate"].to_numpy() == pytest.approx(estimate, abs=5e-4)
        se = welch.loc[welch["session"] == session, "sd"].item()
        assert rows["sd"].to_numpy() == pytest.approx(se, rel=1e-5)


# Antidepressant trial, placebo minus drug in rbmi's sign: HAMD-17, the last visit is 7


@pytest.fixture(scope="module")
def antidepressant(reference_data):
    folder = reference_data / "longitudinal" / "antidep"
    more = {"estimands": ["difference_adjusted"], "covariance": "unstructured"}
    return load(folder, ("DRUG", "PLACEBO"), 8.0, **more)


def test_antidepressant_trial_by_jump_to_reference(antidepressant):
    """Visit 5 has a gap before a later visit, which stays missing at random: 1.285 if it jumped."""
    found = missing.reference_based(Asked(*antidepressant)).set_index(["session", "method"])
    last, fifth = found.loc[("7", "jump_to_reference")], found.loc[("5", "jump_to_reference")]
    assert -last["estimate"] == pytest.approx(2.126, abs=5e-4)
    assert -fifth["estimate"] == pytest.approx(1.305, abs=5e-4)
    # rbmi's jackknife takes squares about one mean, ours about each arm's, as allocation fixes the arms.
    assert last["sd"] == pytest.approx(0.858, rel=0.005)


# FEV: FEV1 ~ RACE + SEX + ARM x AVISIT, unstructured: arm at visits 1 to 4 with the plain standard error;
# mmrm stops its search at the fourth decimal
FEV = ((3.7745, 1.0741), (3.7322, 0.8588), (3.0806, 0.6896), (4.3985, 1.6805))


@pytest.fixture(scope="module")
def fev(reference_data):
    table = pd.read_csv(reference_data / "longitudinal" / "fev.csv")
    people = table.drop_duplicates("USUBJID").set_index("USUBJID")
    values = table.pivot(index="USUBJID", columns="AVISIT", values="FEV1").loc[people.index].to_numpy()
    return values, people


def test_fev_by_visit(fev):
    values, people = fev
    active = (people["ARMCD"] == "TRT").to_numpy()
    constant = np.column_stack([*((people["RACE"] == race) for race in sorted(people["RACE"].unique())[1:]),
                                people["SEX"] == "Female"]).astype(float)  # fmt: skip
    x = np.zeros((len(people), 4, 11))
    for visit in range(4):
        x[:, visit, visit], x[:, visit, 4 + visit] = 1, active
        x[:, visit, 8:] = constant
    fit = fit_reml(values, x, "unstructured")
    for visit, (estimate, plain) in enumerate(FEV):
        weights = np.eye(11)[4 + visit]
        assert float(weights @ fit.beta) == pytest.approx(estimate, abs=2e-4)
        assert fit.plain_se(weights) == pytest.approx(plain, abs=2e-4)


# SAS uses the observed information, pbkrtest the expected one. Unstructured, ours is 9e-5 off SAS's standard
# error, and agrees with numerical second derivatives of the likelihood (test_reml.py).
FEV_BY_ARM = [
    ("unstructured", "observed", 0.66124382, 160.733266, 1e-4, 3e-4),
    ("unstructured", "expected", 0.65362, 170.92, 2e-5, 2e-5),
    ("toeplitz", "observed", 0.72537325, 180.0627, 1e-6, 1e-5),
]


@pytest.mark.parametrize(("structure", "information", "se", "df", "of_se", "of_df"), FEV_BY_ARM)
def test_fev_by_arm_alone_with_either_information(fev, structure, information, se, df, of_se, of_df):
    values, people = fev
    x = np.ones((len(people), 4, 2))
    x[:, :, 1] = (people["ARMCD"] == "TRT").to_numpy()[:, None]
    found = fit_reml(values, x, structure, information=information).infer(np.array([0.0, 1.0]))
    assert found.se == pytest.approx(se, rel=of_se)
    assert found.df == pytest.approx(df, rel=of_df)


def test_fev_by_three_groups(fev):
    """mmrm prints its fit of `FEV1 ~ RACE + us(AVISIT | USUBJID)` (its tests); here in our coding of arms."""
    values, people = fev
    groups = sorted(people["RACE"].unique())
    place = np.array([groups.index(race) for race in people["RACE"]])
    sides = code_arms(place, 3)
    x = np.concatenate([np.ones((len(people), 4, 1)), np.repeat(sides[:, None], 4, axis=1)], axis=2)
    fit = fit_reml(values, x, "unstructured")
    first = fit.beta[0] - fit.beta[1:].sum() / 3
    assert (first, *fit.beta[1:]) == pytest.approx((41.227284, 0.800180, 5.879103), abs=2e-4)
