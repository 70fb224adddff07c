"""Reliability within arms: published numbers, planted truth, invariances and refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reconfmri.config import Group
from reconfmri.contracts import questions
from reconfmri.group import reliability
from reconfmri.group.asked import Asked

UNIT = "percent signal change"
ARMS = ("ketamine", "midazolam")
NUMBERS = list(reliability.NUMBERS)
SCALED = ["sem", "sdc"]
# Six targets by four judges: Shrout & Fleiss, 1979, table 2
JUDGED = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


def make_group(outcomes=("amygdala.x",), **more) -> Group:
    settings = {
        "arms": {"active": "ketamine", "control": "midazolam"},
        "outcomes": list(outcomes),
        "primary": {"outcome": outcomes[0], "session": "2"},
    }
    return Group.from_params(settings | more)


def tables(active, control, outcome="amygdala.x") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measures and allocation of (n_people, n_visits) values per arm; NaN are visits without a row."""
    values = np.vstack([active, control])
    people = [f"sub-{number:03d}" for number in range(1, len(values) + 1)]
    grid = pd.DataFrame(values, index=people, columns=[str(visit + 1) for visit in range(values.shape[1])])
    measures = grid.rename_axis("participant_id").melt(
        ignore_index=False, var_name="session_id", value_name="value"
    )
    measures = measures.dropna().reset_index().assign(domain="activation", outcome=outcome, unit=UNIT)
    arms = [ARMS[0]] * len(active) + [ARMS[1]] * len(control)
    return measures, pd.DataFrame({"participant_id": people, "arm": arms})


def estimate(active, control, **more) -> pd.DataFrame:
    """One row per arm, the index."""
    sessions = [str(visit + 1) for visit in range(np.shape(active)[1])]
    return reliability.estimate(Asked(*tables(active, control), make_group(**more), sessions)).set_index(
        "arm"
    )


def simulate(n_people, n_visits, *, between, over_visits, residual, seed, trials=()) -> np.ndarray:
    """(*trials, n_people, n_visits) of variances between people, over visits (random) and residual."""
    random = np.random.default_rng(seed)
    person, visit, rest = (*trials, n_people, 1), (*trials, 1, n_visits), (*trials, n_people, n_visits)
    parts = zip((between, over_visits, residual), (person, visit, rest), strict=True)
    return sum(variance**0.5 * random.standard_normal(shape) for variance, shape in parts)


def some_arm(n_people=14, seed=1) -> np.ndarray:
    return simulate(n_people, 4, between=0.5, over_visits=0.1, residual=0.4, seed=seed)


def gaps(n_people, attendance) -> np.ndarray:
    """Values where the first `attendance[visit]` people have the visit: dropouts do not come back."""
    values = some_arm(n_people)[:, : len(attendance)]
    return np.where(np.arange(n_people)[:, None] < np.array(attendance), values, np.nan)


# Published numbers and independent implementations


def test_the_example_of_shrout_and_fleiss_gives_their_numbers():
    found = estimate(JUDGED, JUDGED)
    for arm in ARMS:
        numbers = found.loc[arm, NUMBERS[:6]].astype(float)
        assert numbers.iloc[[0, 3, 4, 5]].round(2).tolist() == [0.29, 0.71, 0.34, 0.95]
        # their interval of ICC(2,1) is an approximation of another kind
        np.testing.assert_allclose(numbers.iloc[[1, 2]], [0.02, 0.76], atol=0.02)
        assert found.loc[arm, "sem"] ** 2 == pytest.approx(1.02, abs=0.005)  # their residual mean square
        assert found.loc[arm, ["n", "n_visits", "sessions", "unit", "status"]].tolist() == [
            6,
            4,
            "1, 2, 3, 4",
            UNIT,
            "ok",
        ]


def test_the_mean_squares_are_those_of_shrout_and_fleiss():
    assert reliability.mean_squares(JUDGED)[:3] == pytest.approx([11.24, 32.49, 1.02], abs=0.005)  # table 3


def test_the_mean_squares_are_those_of_statsmodels():
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    values = some_arm()
    cells = (
        pd.DataFrame(values).rename_axis("person").melt(ignore_index=False, var_name="visit").reset_index()
    )
    table = anova_lm(smf.ols("value ~ C(person) + C(visit)", cells).fit())
    expected = (table["sum_sq"] / table["df"]).tolist()
    assert reliability.mean_squares(values)[:3] == pytest.approx(expected, rel=1e-8)


def test_with_two_visits_the_sem_is_that_of_the_differences():
    values = some_arm()[:, :2]
    found = estimate(values, values).loc["ketamine"]
    assert found["sem"] == pytest.approx(np.diff(values).std(ddof=1) / 2**0.5, rel=1e-9)


def test_the_smallest_detectable_change_keeps_to_the_level():
    wide, narrow = (estimate(some_arm(), some_arm(), level=level).loc["ketamine"] for level in (0.95, 0.8))
    assert wide["sdc"] == pytest.approx(1.959964 * 2**0.5 * wide["sem"], rel=1e-6)
    assert narrow["sdc"] == pytest.approx(1.281552 * 2**0.5 * narrow["sem"], rel=1e-6)
    assert narrow["level"] == 0.8
    for name in ("icc_2_1", "icc_3_1"):
        assert wide[f"{name}_lower"] < narrow[f"{name}_lower"] < narrow[name]
        assert narrow[name] < narrow[f"{name}_upper"] < wide[f"{name}_upper"]


# Planted truth


def test_the_planted_reliability_is_recovered():
    shifts = np.array([-0.4, 0.0, 0.1, 0.3])
    visits = shifts.var(ddof=1)
    arms = [
        simulate(400, 4, between=0.6, over_visits=0.0, residual=0.3, seed=seed) + shifts for seed in (1, 2)
    ]
    found = estimate(*arms)
    # Three standard errors of the ICC at n = 400, k = 4: 3 x .020; of the SEM: 3 x .011
    np.testing.assert_allclose(found["icc_2_1"], 0.6 / (0.6 + 0.3 + visits), atol=0.06)
    np.testing.assert_allclose(found["icc_3_1"], 0.6 / (0.6 + 0.3), atol=0.06)
    np.testing.assert_allclose(found["sem"], 0.3**0.5, atol=0.034)


@pytest.mark.parametrize("n_visits", [2, 4])
@pytest.mark.parametrize(
    "truth", [(0.0, 0.05, 0.95), (0.4, 0.05, 0.55), (0.7, 0.05, 0.25), (0.3, 0.6, 0.1), (0.5, 0.45, 0.05)]
)
def test_the_intervals_cover(truth, n_visits):
    between, over_visits, residual = truth
    trials = simulate(
        14, n_visits, between=between, over_visits=over_visits, residual=residual, seed=4, trials=(500,)
    )
    squares = [reliability.mean_squares(values) for values in trials]
    for icc, planted in (
        (reliability.agreement, between),
        (reliability.consistency, between / (1 - over_visits)),
    ):
        found = np.array([icc(trial, 0.95) for trial in squares])
        covered = ((found[:, 1] <= planted) & (planted <= found[:, 2])).mean()
        assert 0.92 <= covered <= 0.98, icc  # three binomial standard errors of 500 trials
        assert ((found[:, 1] < found[:, 0]) & (found[:, 0] < found[:, 2])).all()


# Invariances


def test_row_order_does_not_matter():
    measures, allocation = tables(some_arm(seed=1), some_arm(seed=2))
    shuffled = measures.sample(frac=1, random_state=3), allocation.sample(frac=1, random_state=4)
    found = [
        reliability.estimate(Asked(*pair, make_group(), list("1234")))
        for pair in ((measures, allocation), shuffled)
    ]
    pd.testing.assert_frame_equal(*found)


def test_a_constant_changes_nothing_and_a_factor_only_what_has_a_unit():
    one, other = some_arm(seed=1), some_arm(seed=2)
    found = estimate(one, other)
    pd.testing.assert_frame_equal(estimate(one + 100, other + 100), found, rtol=1e-9)
    scaled = estimate(10 * one, 10 * other)
    pd.testing.assert_frame_equal(scaled.drop(columns=SCALED), found.drop(columns=SCALED), rtol=1e-9)
    np.testing.assert_allclose(scaled[SCALED], 10 * found[SCALED], rtol=1e-9)


def test_swapping_the_arms_swaps_their_rows():
    one, other = some_arm(seed=1), some_arm(seed=2)
    swapped = estimate(one, other, arms={"active": "midazolam", "control": "ketamine"})
    assert swapped.index.tolist() == ["midazolam", "ketamine"]
    pd.testing.assert_frame_equal(swapped.loc[list(ARMS)], estimate(one, other))


def test_an_arm_difference_is_no_reliability():
    one, other = some_arm(seed=1), some_arm(seed=2)
    apart = one + 5
    pooled = reliability.consistency(reliability.mean_squares(np.vstack([apart, other])), 0.95)
    assert pooled.estimate > 0.9  # what pooling would say
    pd.testing.assert_frame_equal(estimate(apart, other), estimate(one, other), rtol=1e-9)


def test_a_treatment_effect_stays_out_of_the_consistency():
    one, other = some_arm(seed=1), some_arm(seed=2)
    treated = one - np.array([0.0, 5.0, 5.0, 5.0])
    pooled = reliability.consistency(reliability.mean_squares(np.vstack([treated, other])), 0.95)
    before, after = estimate(one, other), estimate(treated, other)
    assert pooled.estimate > before["icc_3_1"].max() + 0.1  # what pooling would say
    pd.testing.assert_series_equal(after.loc["midazolam"], before.loc["midazolam"])
    same = ["icc_3_1", "icc_3_1_lower", "icc_3_1_upper", *SCALED]
    np.testing.assert_allclose(
        after.loc["ketamine", same].astype(float), before.loc["ketamine", same].astype(float), rtol=1e-9
    )
    assert after.loc["ketamine", "icc_2_1"] < before.loc["ketamine", "icc_2_1"] / 2


# Which visits and people count


@pytest.mark.parametrize(
    ("attendance", "sessions", "n"),
    [
        ([14, 13, 11, 9], "1, 2, 3, 4", 9),
        ([14, 13, 12, 6], "1, 2, 3", 12),
        ([14, 13, 12, 4], "1, 2, 3", 12),
        ([14, 5, 13, 12], "1, 3, 4", 12),
        ([14, 0, 13, 12], "1, 3, 4", 12),
        ([0, 14, 13, 12], "2, 3, 4", 12),
        ([6, 14, 14, 14], "1, 2, 3, 4", 6),
        ([5, 5, 5, 5], "1, 2, 3, 4", 5),
    ],
)
def test_the_visits_are_those_that_leave_most_to_the_residual(attendance, sessions, n):
    values = gaps(14, attendance)
    found = estimate(values, some_arm()).loc["ketamine"]
    assert (found["sessions"], found["n"], found["status"]) == (sessions, n, "ok")
    visits = [int(session) - 1 for session in sessions.split(", ")]
    whole = estimate(values[:n, visits], some_arm()[:, : len(visits)]).loc["ketamine"]
    np.testing.assert_allclose(found[NUMBERS].astype(float), whole[NUMBERS].astype(float), rtol=1e-12)


def test_five_people_come_before_degrees_of_freedom():
    seen = np.ones((6, 4), dtype=bool)
    seen[5, :3] = seen[0, 3] = False  # four people with four visits, 9 df; five with three, 8 df
    assert reliability.choose_visits(seen) == [0, 1, 2]


def test_values_have_no_say_in_which_visits_count():
    holes = np.random.default_rng(5).random((14, 4)) < 0.2
    chosen = [
        estimate(np.where(holes, np.nan, some_arm(seed=seed)), some_arm())["sessions"] for seed in (1, 2)
    ]
    pd.testing.assert_series_equal(*chosen)


# What cannot be reported is said


@pytest.mark.parametrize(
    ("values", "n", "reason"),
    [
        (some_arm(4), 0, "two visits with 5 people each are needed, there are none"),
        (gaps(14, [14, 4, 3, 0]), 14, "two visits with 5 people each are needed, there is one"),
        (
            np.where(np.arange(24)[:, None] % 4 == np.arange(4), some_arm(24), np.nan),
            0,
            "5 people with the same 2 visits are needed, there are 0",
        ),
        (np.full((14, 4), 1.7), 14, "the means of the people do not vary"),
        (np.tile([0.1, 0.2, 0.3, 0.7], (14, 1)), 14, "the means of the people do not vary"),
        (some_arm() - some_arm().mean(axis=1, keepdims=True), 14, "the means of the people do not vary"),
        (
            some_arm()[:, :1] + [0.1, 0.2, 0.3, 0.7],
            14,
            "nothing varies within people beyond what the visits share",
        ),
    ],
    ids=["few people", "one visit", "nobody twice", "constant", "only visits", "only within", "only people"],
)
def test_what_these_people_cannot_answer_gets_a_reason_and_no_number(values, n, reason):
    found = estimate(values, some_arm())
    assert found.loc["ketamine", "status"] == f"not reported: {reason}"
    assert found.loc["ketamine", "n"] == n
    assert found.loc["ketamine", NUMBERS].isna().all()
    assert found.loc["midazolam", "status"] == "ok"


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_what_does_not_vary_does_not_depend_on_the_unit(scale):
    assert (estimate(scale * some_arm(), scale * some_arm())["status"] == "ok").all()
    rounded = scale * (some_arm()[:, :1] + [0.1, 0.2, 0.3, 0.7])
    assert estimate(rounded, rounded)["status"].str.startswith("not reported: nothing varies").all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.assign(value=np.where(m.index == 3, np.inf, m["value"])), "is not finite"),
        (lambda m: m.assign(value=np.nan), "there is no measurement"),
        (lambda m: m.iloc[:0], "there is no measurement"),
    ],
    ids=["infinite", "missing", "no rows"],
)
def test_an_outcome_at_fault_is_listed_for_both_arms(change, reason):
    measures, allocation = tables(some_arm(), some_arm())
    found = reliability.estimate(Asked(change(measures), allocation, make_group(), list("1234")))
    assert found["arm"].tolist() == list(ARMS)
    assert found["status"].str.contains(f"^not reported: .*{reason}").all()
    assert found[NUMBERS].isna().all(axis=None)


@pytest.mark.parametrize("sessions", [["1"], []])
def test_one_session_has_no_reliability(sessions):
    measures, allocation = tables(some_arm()[:, :1], some_arm()[:, :1])
    if not sessions:
        measures = measures.assign(session_id=None)
    found = reliability.estimate(Asked(measures, allocation, make_group(), sessions))
    assert (found["status"] == "not reported: two visits with 5 people each are needed, there is one").all()


def test_a_person_without_an_arm_is_left_out_and_tables_that_share_nobody_are_refused():
    measures, allocation = tables(some_arm(), some_arm())
    found = reliability.estimate(Asked(measures, allocation.iloc[1:], make_group(), list("1234")))
    person = allocation["participant_id"].iloc[0]
    without = measures[measures["participant_id"] != person]
    pd.testing.assert_frame_equal(
        found, reliability.estimate(Asked(without, allocation, make_group(), list("1234")))
    )
    with pytest.raises(ValueError, match="share nobody"):
        reliability.estimate(
            Asked(
                measures[measures["participant_id"] == person],
                allocation.iloc[1:],
                make_group(),
                list("1234"),
            )
        )


def test_a_negative_icc_is_reported_as_it_is():
    opposed = simulate(14, 2, between=0.0, over_visits=0.0, residual=1.0, seed=1)
    opposed[:, 1] = 0.1 * opposed[:, 1] - opposed[:, 0]
    found = estimate(opposed, opposed).loc["ketamine"]
    assert found["status"] == "ok"
    for name in ("icc_2_1", "icc_3_1"):
        assert found[f"{name}_lower"] < found[name] < found[f"{name}_upper"] < 0


def test_the_interval_of_agreement_is_that_of_random_mean_squares():
    squares = reliability.mean_squares(some_arm())
    random = np.random.default_rng(2)
    people, visits, residual = (
        square * df / random.chisquare(df, 400_000)
        for square, df in zip(squares[:3], (13, 3, 39), strict=True)
    )
    between, over = (people - residual) / 4, (visits - residual) / 14
    ends = np.quantile(between / (between + over + residual), [0.025, 0.975])
    np.testing.assert_allclose(reliability.agreement(squares, 0.95)[1:], ends, atol=0.005)


def test_ok_and_a_number_go_together():
    random = np.random.default_rng(6)
    group = make_group()
    for _ in range(100):
        values = random.integers(0, 4, (20, 3)).astype(float)  # coarse, so that nothing varies at times
        values[random.random(values.shape) < random.uniform(0, 0.7)] = np.nan
        values[0, 0] = 1.0
        table = reliability.estimate(Asked(*tables(values[:10], values[10:]), group, list("123")))
        numbers = np.isfinite(table[NUMBERS])
        ok = table["status"] == "ok"
        assert numbers[ok].all(axis=None)
        assert not numbers[~ok].any(axis=None)
        assert (ok | table["status"].str.startswith("not reported: ")).all()
        assert (table.loc[ok, "n"] >= 5).all()
        assert (table.loc[ok, "n_visits"] >= 2).all()


def test_every_column_is_described_and_every_outcome_has_its_arms():
    measures, allocation = tables(some_arm(), some_arm())
    outcomes = ("scr.trauma", "amygdala.x")
    table = reliability.estimate(Asked(measures, allocation, make_group(outcomes), list("1234")))
    assert list(table) == questions.specs()["reliability"].names
    rows = list(zip(table["outcome"], table["arm"], strict=True))
    assert rows == [(outcome, arm) for outcome in outcomes for arm in ARMS]


def test_the_tail_is_that_of_scipys_f_distribution():
    squares = reliability.mean_squares(some_arm())
    lower = squares.people / squares.residual / stats.f.ppf(0.975, 13, 39)
    assert reliability.consistency(squares, 0.95).lower == pytest.approx((lower - 1) / (lower + 3), rel=1e-9)
