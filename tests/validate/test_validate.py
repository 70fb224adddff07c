"""The CI form of `make validate`: 200 trials per scenario against wide bounds, which catch bugs only."""

from __future__ import annotations

import pytest
from tests.validate.validate import judge_scenario, scenarios, verdicts


@pytest.mark.slow
@pytest.mark.parametrize("name", scenarios())
def test_intervals_of_the_group_engines_cover(name):
    full = 1 if name == "reference, planted" else 0
    cells, beside = judge_scenario(name, trials=200, draws=800, full=full, seed=1)
    assert verdicts(cells, beside, wide=True) == []
    assert len(beside) == 9 * full
    # The batched sampler and the workflow's own model are two codes for one posterior.
    assert not full or beside[["estimate", "lower", "upper"]].abs().to_numpy().max() < 0.35
