"""The CI form of `make validate`: 200 trials per scenario against wide bounds, which catch bugs only."""

from __future__ import annotations

import pytest
from tests.validate import joint, pooled
from tests.validate.validate import judge_scenario, scenarios, verdicts

# Of the 324 cells of all scenarios one or two leave 89 to 99.5 % by chance with 200 trials; a bug moves many.
BY_CHANCE = 1


@pytest.mark.slow
@pytest.mark.parametrize("name", scenarios())
def test_intervals_of_the_group_engines_cover(name):
    full = 1 if name == "reference, planted" else 0
    cells, beside = judge_scenario(name, trials=200, draws=600, full=full, seed=1)
    missed = verdicts(cells, beside, wide=True)
    assert len(missed) <= BY_CHANCE, missed
    assert cells["coverage"].min() > 0.75
    assert len(beside) == 9 * full
    if full:  # the batched sampler and the workflow's own model are two codes for one posterior
        assert beside["estimate"].abs().max() < 0.25
        assert beside[["lower", "upper"]].abs().to_numpy().max() < 0.6


def test_pooled_effects_cover_in_small():
    """20 trials of 18 intervals that go together: below 80 % is a fault, not chance."""
    found = pooled.judge(pooled.answers("alike", 20, 6, 0.5))
    assert found.index.tolist() == ["mean", "alone", "pooled"]
    assert (found["coverage %"] >= 80).all()
    assert found.loc["pooled", "RMSE"] < found.loc["alone", "RMSE"]


def test_pairs_are_judged_in_small():
    """Two trials: nothing withheld, no answer five of its root mean square errors off (0.41, 0.16)."""
    found = joint.judge(joint.answers(joint.planted("alike"), 2, joint.settings("unstructured")))
    assert found.index.tolist() == ["difference of x", "difference of y", "contrast", "correlation"]
    assert (found["withheld"] == 0).all()
    assert (found["bias"].abs() < [2.0, 2.0, 2.0, 0.8]).all()
