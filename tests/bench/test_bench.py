"""The benchmark runs: a step in a process of its own, with its cost and its error."""

from dataclasses import replace

import numpy as np
import pytest
from tests.bench import group, looks, moving
from tests.bench.bench import SMALL, measure

from reconfmri.preprocess import head_motion
from reconfmri.registration import Volume


def test_a_step_is_measured_in_its_own_process():
    rows, missed = measure(SMALL, ["dark slab"])
    (row,) = rows
    assert row.by == "reconfmri"
    assert row.cpu_s > 0
    assert 60 < row.peak_mb < 2000
    assert "mm (mean / worst volume of 16)" in row.error
    assert len(missed) <= 2  # bounds are those of the whole size


@pytest.mark.parametrize("name", ["field 50 %", "D as C, field 50 %, dark slices", "F voxels 2 x 2 x 5 mm"])
def test_head_motion_is_found_under_the_coils_field(name):
    """A small form of `make bench`: bounds are what 3dvolreg -heptic has on images of the kind."""
    seen = moving.move(replace(moving.CASES[name], n_volumes=10), seed=3)
    found = head_motion.align_volumes(seen.volumes, Volume(seen.volumes[0], seen.affine), mask=seen.brain)
    errors = moving.displacements(found, seen)
    mean, worst = moving.AFNI[name]
    assert errors.mean() <= mean
    assert errors.max() <= worst


def test_a_head_laid_anew_is_found_and_what_is_no_head_is_lost():
    """25 mm and 20 degrees; a volume of noise, an empty one and one upside down."""
    case = moving.Case(moving.reposition(25.0, 20.0), n_volumes=10, field=0.3)
    seen = moving.move(case, seed=4)
    volumes = list(seen.volumes)
    volumes[2] = np.abs(np.random.default_rng(1).normal(size=case.grid)).astype(np.float32)
    volumes[3], volumes[7] = np.zeros(case.grid, np.float32), volumes[7][:, :, ::-1].copy()
    motion = head_motion.track(volumes, Volume(volumes[0], seen.affine), mask=seen.brain)
    assert np.flatnonzero(motion.lost).tolist() == [2, 3, 7]
    assert moving.displacements(motion.matrices, seen)[~motion.lost].max() < 0.1


def test_the_brain_is_found_under_every_difficulty_at_once():
    """A small form of `make bench`: bright scalp, atrophy, wide ventricles, lesions, bias and noise; 3 mm."""
    look = replace(looks.LOOKS["all at once"], voxel_mm=(3.0, 3.0, 3.0))
    said, overlap = looks.judged(look, finest_mm=4.0, seed=2)
    assert overlap > looks.MIN_DICE, said


@pytest.mark.parametrize("wrong", ["BOLD", "lower half"])
def test_what_is_no_t1_weighted_head_is_refused(wrong):
    look = replace(looks.LOOKS["scalp three times as bright"], voxel_mm=(3.0, 3.0, 3.0))
    assert looks.refused(looks.WRONG[wrong](look), finest_mm=4.0) == "E-DATA-B22"


def test_permutations_of_the_whole_trial_stay_under_their_bound():
    rows, missed = group.measure(["permutations"])
    (row,) = rows
    assert row.error == "108 answers"
    assert missed == []
