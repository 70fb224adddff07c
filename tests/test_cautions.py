"""Data unlike the assumptions, and engines that disagree, are named in status, headline and page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reconfmri import group as group_room
from reconfmri.config import DEFAULT_SCALES, Group, Trial
from reconfmri.contracts import questions
from reconfmri.group import bayes, cautions, frequentist, moderation, randomisation
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import cautions_in
from reconfmri.group.grid import lay_out
from reconfmri.report.answer import primary_answer
from reconfmri.report.inputs import Compared
from reconfmri.report.words import headline
from reconfmri.simulate.measures import COVARIANCES, Truth, simulate_measures

UNIT, SESSIONS = "percent signal change", ["1", "2", "3", "4"]
TRUTH = Truth(COVARIANCES["reference"], np.array([0.0, -0.8, -0.7, -0.5]))
NAMES = {"wrong.x": UNIT, "right.x": UNIT}


@pytest.fixture(scope="module")
def tables():
    return simulate_measures(TRUTH, outcomes=NAMES, scales=DEFAULT_SCALES, seed=4)


def make_group(**more) -> Group:
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": list(NAMES),
        "primary": {"outcome": "wrong.x", "session": "2"},
        "permutations": 200,
    }
    return Group.from_params(settings | more)


def times(measures: pd.DataFrame, factor: float) -> pd.DataFrame:
    """The first outcome in another unit than it says."""
    wrong = measures["outcome"] == "wrong.x"
    return measures.assign(value=measures["value"].where(~wrong, factor * measures["value"]))


def with_a_wild_value(measures: pd.DataFrame) -> pd.DataFrame:
    """One value at the third visit a thousand times too large."""
    seen = measures[(measures["outcome"] == "wrong.x") & (measures["session_id"] == "3")].dropna(
        subset="value"
    )
    return measures.assign(value=measures["value"].where(measures.index != seen.index[0], 330.0)), seen.iloc[
        0
    ]["participant_id"]


def no_sampler(monkeypatch) -> None:
    """The Bayesian engine must refuse before it samples."""
    monkeypatch.setattr(bayes.Sampler, "fit", lambda *_, **__: pytest.fail("it sampled"))


@pytest.mark.parametrize("factor", [30.0, 1000.0])
def test_values_of_another_scale_than_the_priors_get_no_bayesian_number(tables, monkeypatch, factor):
    """REML does not know the scale: its answer stays, `factor` times what it was."""
    measures, allocation = tables
    no_sampler(monkeypatch)
    group = make_group(outcomes=["wrong.x"])
    found = bayes.estimate(Asked(times(measures, factor), allocation, group, SESSIONS, seed=1)).estimates
    assert found["status"].str.match(r"not reported: the SD between people is .* times s = 0.4 percent").all()
    assert found["status"].str.contains("Fix: check the unit of the values").all()
    assert found["estimate"].isna().all()
    both = [
        frequentist.estimate(Asked(table, allocation, group, SESSIONS))["estimate"]
        for table in (measures, times(measures, factor))
    ]
    assert np.allclose(both[1], factor * both[0], rtol=1e-6)


def test_the_same_values_are_refused_wherever_the_priors_are_used(tables, monkeypatch):
    measures, allocation = tables
    no_sampler(monkeypatch)
    people = allocation["participant_id"]
    allocation = allocation.assign(age=[str(30 + 7 * place % 23) for place in range(len(people))])
    group = make_group(
        covariates={"age": {"column": "age"}},
        moderators=["age"],
        joint={"both": {"wrong.x": "lower", "right.x": "lower"}},
    )
    wrong = times(measures, 1000.0)
    from reconfmri.group import joint

    pairs = joint.estimate(Asked(wrong, allocation, group, SESSIONS, seed=1))
    assert pairs["status"].str.contains("times s = 0.4").all()
    moved = moderation.estimate(Asked(wrong, allocation, group, SESSIONS))
    silent = ~moved["status"].str.startswith("ok")
    expected = (moved["outcome"] == "wrong.x") & (moved["method"] == "bayes")
    assert (silent == expected).all()


@pytest.mark.parametrize(("factor", "said"), [(4.0, True), (1.0, False), (0.02, True)])
def test_a_scale_that_is_somewhat_off_is_a_caution_on_bayesian_rows_alone(tables, factor, said):
    measures, allocation = tables
    outcome = lay_out(times(measures, factor), allocation, make_group(), SESSIONS)[0]
    found = [caution for caution in cautions.cautions_of(outcome, SESSIONS) if "times s" in caution.text]
    assert [caution.only for caution in found] == [("bayes",)] * said


def test_one_wild_value_is_named_where_its_visit_is_in_the_model(tables):
    measures, allocation = tables
    wild, person = with_a_wild_value(measures)
    found = frequentist.estimate(Asked(wild, allocation, make_group(), SESSIONS))
    mine = found[found["outcome"] == "wrong.x"]
    named = mine["status"].str.contains(rf"median of the arm at session 3, check the value: {person} \(")
    uses_it = (mine["session"] == "3") | (mine["method"] == "reml")
    assert (named == uses_it).all()
    assert not found.loc[found["outcome"] == "right.x", "status"].str.contains("caution").any()
    assert cautions.values_far_off(lay_out(measures, allocation, make_group(), SESSIONS)[0]) == []


@pytest.mark.parametrize("seed", range(5))
def test_skewed_values_and_a_floor_are_not_wild(seed):
    """Exponential residuals, and a scale of which half of the people have the lowest value."""
    random = np.random.default_rng(seed)
    (outcome, _) = lay_out(
        *simulate_measures(TRUTH, outcomes=NAMES, scales=DEFAULT_SCALES, seed=4), make_group(), SESSIONS
    )
    for values in (random.exponential(size=(27, 4)), np.maximum(random.normal(size=(27, 4)), 0)):
        assert cautions.values_far_off(replace(outcome, values=values)) == []


def test_a_visit_that_is_a_copy_of_another_is_named_and_two_measurements_are_not(tables):
    measures, allocation = tables
    group = make_group(outcomes=["wrong.x"])
    [plain] = lay_out(measures, allocation, group, SESSIONS)
    assert cautions.copied_visits(plain, SESSIONS) == []
    copied = plain.values.copy()
    copied[:, 2] = 2 * copied[:, 1] + 3
    copied[0, 2] = 1e6
    [line] = cautions.copied_visits(replace(plain, values=copied), SESSIONS)
    assert "sessions 2 and 3 go together" in line


def test_a_number_that_stands_for_unknown_in_a_covariate_is_named(tables):
    measures, allocation = tables
    people = list(allocation["participant_id"])
    ages = [str(30 + place % 17) for place in range(len(people))]
    group = make_group(outcomes=["wrong.x"], covariates={"age": {"column": "age"}})

    def lines(cells):
        [outcome] = lay_out(measures, allocation.assign(age=cells), group, SESSIONS)
        return [caution.text for caution in cautions.cautions_of(outcome, SESSIONS)]

    assert not any("age" in line for line in lines(ages))
    assert any(f"the covariate age is far from its median, check it: {people[3]}" in line
               for line in lines([*ages[:3], "999", *ages[4:]]))  # fmt: skip


@pytest.mark.parametrize("factor", [1e200, 1e-200])
def test_values_that_no_model_can_use_get_a_reason_and_stop_nothing(tables, factor):
    measures, allocation = tables
    group = make_group()
    found = frequentist.estimate(Asked(times(measures, factor), allocation, group, SESSIONS))
    wrong = found["outcome"] == "wrong.x"
    assert found["status"][wrong].str.contains("which no model can use. Fix: check the unit").all()
    assert found["reported"][~wrong].any()


def test_strata_that_tell_the_arm_leave_no_other_allocation(tables):
    measures, allocation = tables
    found = randomisation.estimate(
        Asked(measures, allocation.assign(stratum=allocation["arm"]), make_group(), SESSIONS, seed=1)
    )
    assert found["p"].isna().all()
    assert found["status"].str.startswith("not reported: the strata tell the arm").all()
    few = allocation.assign(stratum=allocation["arm"])
    few.loc[[0, 1, 25, 26], "stratum"] = "both"
    found = randomisation.estimate(Asked(measures, few, make_group(), SESSIONS, seed=1))
    assert found["status"].str.contains("caution: 6 allocations are possible").all()
    assert found["p"].min() >= 1 / 6 - 1e-12, "every allocation was taken"
    plain = randomisation.estimate(Asked(measures, allocation, make_group(), SESSIONS, seed=1))
    assert not plain["status"].str.contains("caution").any()


@pytest.mark.parametrize(("noise", "told"), [(0.01, "stop"), (0.2, "caution"), (2.0, "")])
def test_a_covariate_that_nearly_tells_the_arm(tables, noise, told):
    measures, allocation = tables
    random = np.random.default_rng(1)
    side = (allocation["arm"] == "ketamine").to_numpy(float)
    cells = [f"{value:.6f}" for value in side + noise * random.normal(size=len(side))]
    group = make_group(covariates={"x": {"column": "x"}})
    given = measures, allocation.assign(x=cells), group, SESSIONS
    if told == "stop":
        with pytest.raises(ValueError, match=r"E-STAT-E10 .*cannot be told apart from the arm"):
            frequentist.estimate(Asked(*given))
        return
    found = frequentist.estimate(Asked(*given))
    said = found["status"].str.contains("the covariates tell")
    assert (said == (found["method"] != "welch") * bool(told)).all()


def rows_of(bayesian: tuple[float, float, float], by_reml: tuple[float, float, float]) -> pd.DataFrame:
    start = {"domain": "activation", "outcome": "wrong.x", "estimand": "difference_adjusted", "session": "2",
             "analysis_set": "all_randomised", "unit": UNIT, "level": 0.95, "status": "ok",
             "reported": True, "is_primary": True, "n_active": 14, "n_control": 13}  # fmt: skip
    rows = []
    for method, (estimate, lower, upper) in (("bayes", bayesian), ("reml", by_reml)):
        sd = (upper - lower) / 4
        rows.append(
            start | {"method": method, "estimate": estimate, "lower": lower, "upper": upper, "sd": sd}
        )
    more = {"ess": 2000.0, "r_hat": 1.0, "probability": 0.6, "p": 0.006}
    return pd.DataFrame(rows).reindex(columns=questions.specs()["estimates"].names).assign(**more)


@pytest.mark.parametrize(
    ("bayesian", "by_reml", "said"),
    [
        ((-0.26, -2.2, 1.7), (-33.0, -55.0, -11.0), "differ by"),
        ((-0.40, -0.66, -0.14), (-0.41, -0.68, -0.14), ""),
        ((-0.41, -1.01, 0.19), (-0.41, -0.68, -0.14), "times as long"),
    ],
)
def test_engines_that_disagree_are_on_the_front_page_and_in_the_headline(bayesian, by_reml, said):
    group = make_group()
    found = group_room.combine([rows_of(bayesian, by_reml)], group)
    texts = [cautions_in(status) for status in found["status"]]
    assert all(said in text for row in texts for text in row)
    assert [len(row) for row in texts] == [bool(said)] * 2
    trial = Trial("t", "q", 1, group, {name: name for name in SESSIONS}, {}, dict.fromkeys(NAMES, UNIT), {})
    front = primary_answer(trial, Compared(measures=pd.DataFrame(), tables={"estimates": found}))
    assert [line.startswith("caution (Bayesian, REML): ") for line in front["cautions"]] == [True] * bool(
        said
    )
    assert ("caution (Bayesian, REML)" in headline(found, group)) == bool(said)
    assert len(group_room.unanswered(found)) == bool(said)
