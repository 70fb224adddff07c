"""Group E of the fault catalogue: what statistics cannot answer has one clear line and never a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from reconfmri import group
from reconfmri.config import DEFAULT_SCALES, Connectivity, FirstLevel, Group, Task
from reconfmri.exclusions import DataFault
from reconfmri.group import controls, frequentist, missing, reliability, sensitivity
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import NUMBERS
from reconfmri.signal.connectivity import couple
from reconfmri.signal.first_level import build_design, check_contrasts, fit_regions
from reconfmri.simulate.measures import Truth, simulate_measures

UNIT = "percent signal change"
SESSIONS = ["1", "90"]
TRUTH = Truth(
    np.array([[1, 0.4], [0.4, 1.2]]), np.array([0.0, -0.8]), np.zeros(2), np.zeros(2), n_active=6, n_control=6
)
FEW = {"chains": 2, "tune": 300, "draws": 500, "min_ess": 100, "max_r_hat": 1.05}


# One run: E1 to E4, E12, E13

TASK = Task(conditions={"trauma": "trauma", "relax": "neutral"})
N, TR = 100, 2.0
CONTRASTS = {"c": {"trauma": 1.0, "neutral": -1.0}}
EVENTS = pd.DataFrame(
    [(10.0 + 30 * i, 20.0, ("trauma", "relax")[i % 2]) for i in range(6)],
    columns=["onset", "duration", "trial_type"],
)
CONFOUNDS = pd.DataFrame(
    np.random.default_rng(0).standard_normal((N, 6)),
    columns=["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"],
)


def design(events=EVENTS, confounds=CONFOUNDS, n=N) -> pd.DataFrame:
    settings = FirstLevel(task="memory", contrasts=CONTRASTS, confounds=["motion6"])
    return build_design(events, confounds, tr=TR, n_volumes=n, task=TASK, settings=settings)


def one_region(values: np.ndarray) -> None:
    rows, faults = fit_regions(
        pd.DataFrame({"bad": values, "good": sound_series()}), design(), contrasts=CONTRASTS, task=TASK
    )
    assert set(rows.loc[rows["value"].notna(), "outcome"]) == {"good.c"}
    raise faults[0]


def sound_series() -> np.ndarray:
    return 700 + 5 * np.random.default_rng(1).standard_normal(N)


def with_a_hole() -> np.ndarray:
    values = sound_series()
    values[N // 2 :] = np.nan
    return values


RUNS: list[tuple[str, Callable[[], object], str, str]] = [
    ("E1 dependent columns", lambda: design(confounds=CONFOUNDS.assign(rot_z=2 * CONFOUNDS["rot_x"])),
     "E-STAT-E01", "rot_x.*rot_z"),
    ("E2 absent condition", lambda: check_contrasts(design(EVENTS[:1]), CONTRASTS, TASK),
     "E-STAT-E02", "neutral"),
    ("E3 more columns than volumes", lambda: design(EVENTS[:1], CONFOUNDS[:16], 16),
     "E-STAT-E03", "degrees of freedom"),
    ("E4 two conditions at one time",
     lambda: design(pd.concat([EVENTS, EVENTS[:1].assign(trial_type="relax")])),
     "E-STAT-E04", "same time"),
    ("E12 flat region", lambda: one_region(np.zeros(N)), "E-DATA-B09", "bad"),
    ("E12 region half missing", lambda: one_region(with_a_hole()), "E-DATA-B03", "bad"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "do", "code", "says"), RUNS, ids=[row[0] for row in RUNS])
def test_a_run_that_cannot_be_fitted_is_out_with_its_reason(name, do, code, says):
    with pytest.raises(DataFault, match=says) as caught:
        do()
    assert caught.value.code == code
    assert "Fix: " in caught.value.line


# The arms: E5 to E14


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    outcomes = dict.fromkeys(("bad.x", "good.x"), UNIT)
    measures, allocation = simulate_measures(TRUTH, outcomes=outcomes, scales=DEFAULT_SCALES, seed=3)
    return measures.assign(se=0.05, session_id=measures["session_id"].replace({"2": "90"})), allocation


def asked(**more) -> Group:
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": ["bad.x", "good.x"],
        "primary": {"outcome": "bad.x", "session": "90"},
        "permutations": 200,
        "sampling": FEW,
    }
    return Group.from_params(settings | more)


ACTIVE = [f"sub-{number:02d}" for number in range(1, 7)]


def drop(measures, *, keep, session="90") -> pd.DataFrame:
    gone = measures["participant_id"].isin(ACTIVE[keep:]) & (measures["session_id"] == session)
    return measures[~(gone & (measures["outcome"] == "bad.x"))]


def change(measures, to: Callable[[pd.DataFrame], object]) -> pd.DataFrame:
    return measures.assign(value=measures["value"].where(measures["outcome"] != "bad.x", to(measures)))


@dataclass(frozen=True)
class Row:
    """What is wrong with one of two outcomes, and what every method says of it."""

    fault: str
    spoil: Callable[[pd.DataFrame], pd.DataFrame]
    says: str
    silent: tuple[str, ...] = ("difference_adjusted", "difference_unadjusted", "difference_of_change")


BASELINE_ONLY = ("difference_adjusted", "difference_of_change")
ROWS = [
    Row("E5 empty arm at 90 days", lambda m: drop(m, keep=0), "there are 0 ketamine and 6 midazolam"),
    Row("E5 one person in an arm", lambda m: drop(m, keep=1), "there are 1 ketamine and 6 midazolam"),
    Row("E5 one person at baseline", lambda m: drop(m, keep=1, session="1"), "6 midazolam at baseline",
        BASELINE_ONLY),
    Row("E6 constant outcome", lambda m: change(m, lambda t: 1.5), "do not vary within the arms"),
    Row("E7 nobody measured", lambda m: change(m, lambda t: np.nan), "there is no measurement"),
    Row("E8 the arm tells the value", lambda m: change(m, lambda t: 1.0 * t["participant_id"].isin(ACTIVE)),
        "do not vary within the arms"),
    Row("E13 a value that is not finite",
        lambda m: change(m, lambda t: t["value"].where(t["participant_id"] != "sub-03", np.inf)),
        "the value of sub-03 at session 1 is not finite"),
]  # fmt: skip


@pytest.fixture(scope="module")
def sound() -> pd.DataFrame:
    return answer(*tables())


def answer(measures: pd.DataFrame, allocation: pd.DataFrame, **more) -> pd.DataFrame:
    return group.answer(Asked(measures, allocation, asked(**more), SESSIONS, 1, cores=1))[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_a_fault_of_one_outcome_has_one_line_no_number_and_spares_the_others(row, sound):
    measures, allocation = tables()
    found = answer(row.spoil(measures), allocation)
    bad = found[(found["outcome"] == "bad.x") & found["estimand"].isin(row.silent)]
    assert set(bad["method"]) == {"bayes", "reml", "ancova", "ancova_hc2", "welch", "randomisation"}
    assert bad["status"].str.startswith("not reported: ").all()
    assert bad["status"].str.contains(row.says, regex=False).all()
    assert bad["status"].str.contains(". Fix: ", regex=False).all()
    assert bad[list(NUMBERS)].isna().all(axis=None)
    rest = found[(found["outcome"] == "bad.x") & ~found["estimand"].isin(row.silent)]
    assert rest["status"].str.startswith("ok").all()
    lines = group.unanswered(found)
    assert len(lines) == 1
    assert lines[0].startswith("bad.x, session 90: not reported: ")
    good, before = (table[table["outcome"] == "good.x"].reset_index(drop=True) for table in (found, sound))
    pd.testing.assert_frame_equal(good, before)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_tables_beside_the_answers_stay_without_numbers_too(row):
    measures, allocation = tables()
    given = row.spoil(measures), allocation, asked(), SESSIONS
    for table, numbers in (
        (controls.estimate(Asked(*given)), ["estimate", "sd", "p"]),
        (missing.completers(Asked(*given)), ["estimate", "sd", "p"]),
        (missing.reference_based(Asked(*given)), ["estimate", "sd", "p"]),
        (reliability.estimate(Asked(*given)), ["icc_2_1", "sem"]),
        *((table, ["p"]) for table in missing.tipping(Asked(*given))),
    ):
        # the baseline alone may be sound, and so may one arm
        silent = ~table["status"].str.startswith(("ok", "none"))
        assert table.loc[silent, "status"].str.startswith("not reported: ").all()
        assert table.loc[silent, numbers].isna().all(axis=None)
        assert table.loc[~silent, numbers].notna().all(axis=None)
    # the primary question under other choices
    found = sensitivity.estimate(Asked(*given, seed=1, cores=1))
    assert found["status"].str.startswith("not reported: ").all()
    assert found[["estimate", "sd", "lower", "upper"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda m, a: (pd.concat([m, m[:1]]), a), r"measures: \['sub-01', '1', 'bad.x'\] occurs twice; keep"),
        (lambda m, a: (m, pd.concat([a, a[:1]])), "allocation: sub-01 occur twice; keep one row per person"),
        (lambda m, a: (m, a[:6]), r"allocation: nobody is in arm 'midazolam'; it has \['ketamine'\]"),
    ],
    ids=["E11 row of measures twice", "E11 person twice", "E5 arm without anybody"],
)
def test_tables_that_cannot_be_believed_stop_with_the_table_and_the_fix(spoil, says):
    with pytest.raises(ValueError, match=says):
        answer(*spoil(*tables()))


def test_the_order_of_rows_changes_nothing(sound):
    """E11: joined by id; the draws of the randomisation test stay with the people too."""
    measures, allocation = tables()
    found = answer(measures.sample(frac=1, random_state=1), allocation.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(found, sound)


def test_a_chain_that_did_not_converge_is_withheld_and_says_so():
    """E9: no posterior summary; the other engine goes on."""
    found = answer(*tables(), sampling=FEW | {"min_ess": 1e5, "tune": 200, "draws": 200})
    bayesian = found["method"] == "bayes"
    assert found.loc[bayesian, "status"].str.contains(r"did not converge \(R-hat .*Fix: ").all()
    assert found.loc[bayesian, list(NUMBERS)].isna().all(axis=None)
    assert found.loc[~bayesian, "status"].str.startswith("ok").all()


def test_a_covariance_that_cannot_be_determined_falls_back_by_name():
    """E6: visits that are multiples of one another have no unstructured covariance."""
    measures, allocation = tables()
    first = measures[measures["session_id"] == "1"]
    twice = first.assign(session_id="90", value=2 * first["value"])
    given = pd.concat([first, twice], ignore_index=True), allocation
    declared = frequentist.estimate(Asked(*given, asked(covariance="unstructured"), SESSIONS))
    reml = declared[declared["method"] == "reml"]
    assert reml["status"].str.startswith("not reported: REML with unstructured covariance did not").all()
    assert reml["status"].str.contains("Fix: group.covariance", regex=False).all()
    assert reml[list(NUMBERS)].isna().all(axis=None)
    automatic = frequentist.estimate(Asked(*given, asked(), SESSIONS))
    found = automatic.loc[automatic["method"] == "reml", "status"].str.split("; ", n=1, expand=True)
    assert set(found[0]) == {"ok, shrunk unstructured"}
    assert found[1].str.startswith("caution: the values at sessions 1 and 90 go together").all()


def test_a_correlation_of_one_is_missing_with_its_reason():
    twins = pd.DataFrame({"a": sound_series(), "twin": sound_series()})
    settings = Connectivity(task="rest", pairs=[("a", "twin")], conditions=["run"], confounds=["motion6"])
    rows, faults = couple(twins, CONFOUNDS, None, tr=TR, task=Task(), settings=settings)
    assert rows.loc[rows["outcome"] == "a-twin.run", "value"].isna().all()
    assert [fault.code for fault in faults] == ["E-STAT-E13"]
    assert faults[0].line.endswith("Fix: the regions must not overlap")


def test_what_was_not_declared_is_not_modelled_unless_it_is_called_exploratory(sound):
    """E14: a contrast that nobody declared, in a table of measures that has it."""
    measures, allocation = tables()
    third = measures[measures["outcome"] == "good.x"].assign(outcome="found.x")
    more = pd.concat([measures, third], ignore_index=True)
    pd.testing.assert_frame_equal(answer(more, allocation), sound)
    found = answer(more, allocation, exploratory=["found.x"], families={"all": ["bad.x", "good.x"]})
    exploratory = found["outcome"] == "found.x"
    assert set(found.loc[exploratory, "family"]) == {"exploratory"}
    assert found.loc[exploratory & (found["method"] == "reml"), "p"].notna().all()
    assert found.loc[exploratory, "p_adjusted"].isna().all()
    assert set(found.loc[~exploratory, "family"]) == {"all", "primary"}
    with pytest.raises(ValueError, match="are in group.outcomes too"):
        asked(exploratory=["good.x"])
    with pytest.raises(ValueError, match=r"group\.families\.all"):
        asked(exploratory=["found.x"], families={"all": ["found.x"]})
