"""Brain and symptoms: planted correlations, closed forms beside other programs, prediction, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from pydantic import ValidationError
from scipy.stats import pearsonr
from sklearn.linear_model import ElasticNetCV
from sklearn.model_selection import PredefinedSplit
from tests.validate.associations import answers, judge

from reconfmri.config import Group, Trial
from reconfmri.group import associations, bayes, prediction
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import NotEstimableError
from reconfmri.report.associations import associations as report_of
from reconfmri.report.group_methods import group_methods

UNITS = {"amygdala.x": ("percent signal change", 0.4), "pcl5.total": ("PCL-5 points", 12.0)}
SESSIONS = ["1", "2"]
SETTINGS = {
    "arms": {"active": "ketamine", "control": "midazolam"},
    "outcomes": list(UNITS),
    "primary": {"outcome": "amygdala.x", "session": "2"},
    "associations": {"both": {"brain": "amygdala.x", "symptoms": "pcl5.total", "session": "2"}},
    "sampling": {"chains": 2, "tune": 400, "draws": 1000, "min_ess": 200, "max_r_hat": 1.03},
}


def covariance(of_changes: float, *, stable: float = 0.6, error: float = 0.0) -> np.ndarray:
    """Four values in SDs, brain and symptoms at two visits: independent traits, changes that correlate."""
    trait, change = np.diag([stable, stable]), (1 - stable) * np.array([[1, of_changes], [of_changes, 1]])
    whole = np.block([[trait, trait], [trait, trait + change]])
    return whole[np.ix_([0, 2, 1, 3], [0, 2, 1, 3])] + error * np.eye(4)


def asked_of(values: np.ndarray, active: np.ndarray, **more) -> Asked:
    """`values` (n_people, 4) in SDs: the brain at both visits, then symptoms."""
    people = [f"sub-{number:02d}" for number in range(len(values))]
    rows = [
        (person, session, "any", outcome, UNITS[outcome][1] * values[i, 2 * place + visit], UNITS[outcome][0])
        for i, person in enumerate(people)
        for place, outcome in enumerate(UNITS)
        for visit, session in enumerate(SESSIONS)
        if not np.isnan(values[i, 2 * place + visit])
    ]
    columns = ["participant_id", "session_id", "domain", "outcome", "value", "unit"]
    arms = pd.DataFrame({"participant_id": people, "arm": np.where(active, "ketamine", "midazolam")})
    group = Group.from_params(SETTINGS | more)
    return Asked(pd.DataFrame(rows, columns=columns), arms, group, SESSIONS, seed=1, cores=1)


def simulated(n: int, of_changes: float, seed: int, **kind) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    active = np.arange(n) % 2 == 0
    values = random.multivariate_normal(np.zeros(4), covariance(of_changes, **kind), n)
    values[active, 1] -= 0.8
    values[active, 3] -= 0.5
    return values, active


def row_of(found: pd.DataFrame, quantity: str, method: str) -> dict:
    (row,) = found[(found["quantity"] == quantity) & (found["method"] == method)].to_dict("records")
    return row


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """A large trial with error of measurement, a mediated effect by construction, and missing values."""
    values, active = simulated(240, 0.6, seed=8, error=0.3)
    values[:10, 1] = values[10:20, 3] = np.nan
    # one measurement: variance .6 + .2 on average over visits true, .3 error
    pair = SETTINGS["associations"]["both"] | {
        "reliability": {"brain": [0.68, 0.727, 0.77], "symptoms": [0.68, 0.727, 0.77]},
        "mediation": True,
    }
    return associations.estimate(asked_of(values, active, associations={"both": pair}))


def test_the_correlation_of_changes_is_that_of_what_was_measured_and_of_what_is_true(many):
    seen = row_of(many, "correlation_of_changes", "bayes")
    truth = 0.4 * 0.6 / (0.4 + 2 * 0.3)
    assert seen["lower"] < truth < seen["upper"]
    true = row_of(many, "correlation_of_true_changes", "bayes")
    assert true["lower"] < 0.6 < true["upper"]
    assert true["estimate"] > seen["estimate"] + 0.15
    assert true["exploratory"]
    assert true["share_possible"] > 0.7
    # everybody with any value, and those with all four, see about the same
    beside = row_of(many, "correlation_of_changes", "fisher_z")
    assert beside["n_active"] + beside["n_control"] == 220
    assert abs(beside["estimate"] - seen["estimate"]) < 0.05


def test_mediation_adds_up_to_the_adjusted_difference(many):
    through, around = (row_of(many, name, "bayes") for name in ("through_brain", "around_brain"))
    # planted: -.8 SD of the brain times the slope of symptoms on the brain given both baselines
    whole = covariance(0.6, error=0.3)
    slope = np.linalg.solve(whole[np.ix_([1, 0, 2], [1, 0, 2])], whole[[1, 0, 2], 3])[0]
    assert through["lower"] < 12 * slope * -0.8 < through["upper"]
    assert through["upper"] < 0
    # the adjusted difference of 240 people has a standard error of 1.4 points
    assert through["estimate"] + around["estimate"] == pytest.approx(12 * -0.5, abs=3.0)


def test_closed_forms_are_those_of_scipy_and_statsmodels():
    values, active = simulated(27, 0.5, seed=9)
    found = associations.estimate(asked_of(values, active))
    arm = sm.add_constant(active.astype(float))
    rest = [sm.OLS(values[:, at + 1] - values[:, at], arm).fit().resid for at in (0, 2)]
    r = pearsonr(*rest).statistic
    row = row_of(found, "correlation_of_changes", "fisher_z")
    assert row["estimate"] == pytest.approx(r, rel=1e-12)
    half = 1.959963984540054 / np.sqrt(27 - 1 - 3)
    assert row["lower"] == pytest.approx(np.tanh(np.arctanh(r) - half), rel=1e-9)
    own = pearsonr(*(values[active, at + 1] - values[active, at] for at in (0, 2)))
    mine = row_of(found, "correlation_active", "fisher_z")
    interval = own.confidence_interval(0.95)
    assert [mine["estimate"], mine["lower"], mine["upper"]] == pytest.approx([own.statistic, *interval])
    fit = sm.OLS(12 * values[:, 3], np.column_stack([arm, values[:, 2], values[:, 0]])).fit()
    spread = np.sqrt(sm.OLS(values[:, 0], arm).fit().mse_resid)
    slope = row_of(found, "slope_on_baseline", "ols")
    assert slope["estimate"] == pytest.approx(fit.params[3] * spread)
    assert slope["p"] == pytest.approx(fit.pvalues[3])
    assert [slope["lower"], slope["upper"]] == pytest.approx(fit.conf_int()[3] * spread)


def test_a_reliability_that_leaves_no_true_change_withholds_the_correction():
    values, active = simulated(40, 0.5, seed=2, stable=0.9)
    pair = SETTINGS["associations"]["both"] | {"reliability": {"brain": [0.3, 0.5, 0.6]}}
    found = associations.estimate(asked_of(values, active, associations={"both": pair}))
    row = row_of(found, "correlation_of_true_changes", "bayes")
    assert not row["reported"]
    assert "changes are no more than error in" in row["reason"]
    assert row["share_possible"] < 0.1
    assert row_of(found, "correlation_of_changes", "bayes")["reported"]


def test_few_people_and_constant_changes_have_a_reason():
    values, active = simulated(5, 0.5, seed=2)
    found = associations.estimate(asked_of(values, active))
    bayes = row_of(found, "correlation_of_changes", "bayes")
    assert "six people are needed" in bayes["reason"]
    one_arm = row_of(found, "correlation_control", "fisher_z")
    assert "2 people have both changes, 4 are needed" in one_arm["reason"]
    values, active = simulated(20, 0.5, seed=2)
    values[:, 1] = values[:, 0] + np.where(active, -1.0, 0.0)
    found = associations.estimate(asked_of(values, active))
    for method in ("bayes", "fisher_z"):
        assert "does not vary" in row_of(found, "correlation_of_changes", method)["reason"]


def data(n: int, seed: int, gain: float, p: int = 3) -> prediction.Data:
    random = np.random.default_rng(seed)
    predictors, before = random.standard_normal((n, p)), random.standard_normal(n)
    arm = np.where(np.arange(n) % 2, 0.5, -0.5)
    outcome = 0.6 * before - 0.5 * arm + gain * predictors[:, 0] + 0.8 * random.standard_normal(n)
    return prediction.Data(outcome, np.column_stack([np.ones(n), arm, before]), predictors)


def partitions(n: int, seed: int = 1, repeats: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.permutation(n) % 5 for _ in range(repeats)]


def test_the_elastic_net_is_that_of_scikit_learn_tuned_by_its_own_folds():
    random = np.random.default_rng(3)
    predictors = random.standard_normal((40, 4)) * [1, 10, 0.1, 2] + 5
    outcome = predictors @ [1.0, 0.05, 0.0, 0.0] + random.standard_normal(40)
    scaled = (predictors - predictors.mean(axis=0)) / predictors.std(axis=0)
    theirs = ElasticNetCV(
        l1_ratio=list(prediction.MIXES), alphas=prediction.N_PENALTIES, cv=PredefinedSplit(np.arange(40) % 5)
    ).fit(scaled, outcome)
    ours = prediction._elastic_net(predictors, outcome, predictors)
    np.testing.assert_allclose(ours, theirs.predict(scaled), rtol=1e-6)


def test_what_predicts_gains_and_what_does_not_does_not():
    with_signal = prediction.predict(data(100, 1, 0.8), partitions(100))
    # .64 of .64 + .64 of what the base leaves; with 100 people a half has a standard error of .07
    assert with_signal.gain == pytest.approx(0.5, abs=0.15)
    without = [prediction.predict(data(27, seed, 0.0), partitions(27)).gain for seed in range(30)]
    assert -0.15 < np.mean(without) < 0.01, "predictors of nothing cost a little, and never gain on average"


@pytest.mark.parametrize("of_changes", [0.0, 0.6])
def test_closed_forms_cover_in_a_few_trials(of_changes):
    """The small form of `python -m tests.validate.associations`: 300 trials, 4 Monte Carlo errors."""
    found = judge(answers(of_changes, 300, 5, by_bayes=False))
    assert found["covered"].between(90, 99.2).all(), found
    assert (found["withheld %"] == 0).all()


def test_the_table_of_a_prediction():
    values, active = simulated(60, 0.0, seed=5)
    random = np.random.default_rng(1)
    values[:, 3] = 0.7 * values[:, 0] + 0.5 * random.standard_normal(60)
    values[0, 3] = np.nan
    asked = {
        "later": {
            "outcome": "pcl5.total",
            "session": "2",
            "predictors": ["amygdala.x"],
            "permutations": 99,
            "repeats": 1,
        }
    }
    (row,) = prediction.estimate(asked_of(values, active, prediction=asked)).to_dict("records")
    assert row["n"] == 59
    assert row["p"] == 0.01
    assert row["q2"] > row["q2_base"] + 0.3
    assert row["gain"] > row["null_upper"] > row["null_mean"]
    values[1:, 3] = random.standard_normal(59)
    (row,) = prediction.estimate(asked_of(values, active, prediction=asked)).to_dict("records")
    assert row["p"] > 0.05
    (few,) = prediction.estimate(asked_of(values[:19], active[:19], prediction=asked)).to_dict("records")
    assert "18 people have the outcome" in few["reason"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"associations": {"a": {"brain": "x.y", "symptoms": "x.y", "session": "2"}}}, "are both 'x.y'"),
        (
            {
                "associations": {
                    "a": SETTINGS["associations"]["both"] | {"reliability": {"brain": [0.7, 0.5, 0.9]}}
                }
            },
            "lower end of its interval",
        ),
        (
            {"prediction": {"a": {"outcome": "pcl5.total", "session": "2", "predictors": ["pcl5.total"]}}},
            "taken in any case",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(more, says):
    with pytest.raises(ValidationError, match=says):
        Group.from_params(SETTINGS | more)


def test_the_methods_text_holds_the_settings():
    pair = SETTINGS["associations"]["both"] | {
        "reliability": {"brain": [0.4, 0.5, 0.6]},
        "mediation": True,
    }
    asked = {"later": {"outcome": "pcl5.total", "session": "2", "predictors": ["amygdala.x"], "repeats": 7}}
    group = Group.from_params(SETTINGS | {"associations": {"both": pair}, "prediction": asked})
    trial = Trial(
        name="x", question="", seed=1, group=group, session_names={"1": "before", "2": "after"}, days={},
        units={name: unit for name, (unit, _) in UNITS.items()}, ranges={},
    )  # fmt: skip
    text = dict(group_methods(trial))
    assert "0.5 (95 % interval 0.4 to 0.6)" in text["Brain and symptoms"]
    assert "Mediation (both)" in text["Brain and symptoms"]
    assert "7 partitions, 199 permutations" in text["Prediction"]


def test_the_report_says_what_so_few_people_can_tell(monkeypatch):
    def no_fit(*_given, **_more):
        raise NotEstimableError("did not converge")

    monkeypatch.setattr(bayes.Sampler, "fit", no_fit)
    values, active = simulated(27, 0.5, seed=9)
    values[0, 1] = np.nan
    asked = asked_of(values, active)
    trial = Trial(
        name="x", question="", seed=1, group=asked.group, session_names={"1": "before", "2": "after"},
        days={}, units={name: unit for name, (unit, _) in UNITS.items()}, ranges={},
    )  # fmt: skip
    table = associations.estimate(asked)
    (block,) = report_of(trial, {"associations": table})["associations"]
    assert "26 people" in block["note"]
    assert "[−0.11, 0.62]" in block["note"]
    names = [row["name"] for row in block["rows"]]
    assert names[0] == "Correlation of changes, given the arm"
    assert names[2:4] == ["Correlation of changes in ketamine", "Correlation of changes in midazolam"]
    assert block["rows"][0]["bayes"] == "did not converge"
    assert block["rows"][0]["other"].startswith("0.")
