"""The benchmark runs: a step in a process of its own, with its cost and its error."""

from tests.bench import group
from tests.bench.bench import SMALL, measure


def test_a_step_is_measured_in_its_own_process():
    rows, missed = measure(SMALL, ["dark slab"])
    (row,) = rows
    assert row.by == "reconfmri"
    assert row.cpu_s > 0
    assert 60 < row.peak_mb < 2000
    assert "mm (mean / worst volume of 16)" in row.error
    assert len(missed) <= 2  # bounds are those of the whole size


def test_permutations_of_the_whole_trial_stay_under_their_bound():
    rows, missed = group.measure(["permutations"])
    (row,) = rows
    assert row.error == "108 answers"
    assert missed == []
