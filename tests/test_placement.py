"""The template brain is found in heads of every look, and in nothing else."""

import numpy as np
import pytest
from tests.heads import draw_person

from reconfmri import registration, templates
from reconfmri.exclusions import DataFault
from reconfmri.preprocess import anatomy, placement
from reconfmri.registration import Volume


@pytest.fixture(scope="module")
def bright():
    """A head whose scalp is three times as bright as white matter, as in many T1w without fat suppression."""
    return draw_person(np.random.default_rng(21), t1w_mm=4.0, scalp=3.0, shading=0.3)


def missed_mm(person, matrix):
    brain = registration.read_volume(templates.target_brain())
    points = registration.grid_points(brain.data.shape, brain.affine)[brain.data > 0][::997]
    return np.linalg.norm(
        registration.transform_points(matrix, points) - person.to_person(points), axis=1
    ).mean()


def test_a_scalp_three_times_as_bright_as_white_matter_does_not_draw_the_brain(bright):
    found = placement.place_template(bright.t1w)
    # The bend alone, which no affine follows, is 2.0 mm; a brain drawn to the scalp is 8 mm off.
    assert missed_mm(bright, found.matrix) < 3.5
    assert not found.stripped
    anatomy._check_placement(found)


def test_a_small_head_with_a_dim_scalp_is_found():
    child = draw_person(np.random.default_rng(22), t1w_mm=4.0, scalp=0.3, size=0.85)
    found = placement.place_template(child.t1w)
    assert missed_mm(child, found.matrix) < 3.5
    assert found.brain_ml == pytest.approx(0.85**3 / (0.96 * 1.03 * 0.98) * placement.template_ml(), rel=0.12)


def test_a_skull_stripped_head_is_recognised(bright):
    there = registration.grid_points(bright.t1w.data.shape, bright.t1w.affine)
    brain = registration.sample(bright.brain, bright.to_template(there), order=1) > 0.5
    found = placement.place_template(Volume(np.where(brain, bright.t1w.data, 0), bright.t1w.affine))
    assert found.stripped
    assert missed_mm(bright, found.matrix) < 3.5


@pytest.mark.parametrize("axis", [1, 2], ids=["back to front", "upside down"])
def test_a_header_that_turns_the_head_over_is_refused(bright, axis):
    mirror = np.eye(4)
    mirror[axis, axis] = -1
    found = placement.place_template(Volume(bright.t1w.data, mirror @ bright.t1w.affine))
    with pytest.raises(DataFault, match=r"E-DATA-B22.*correlation.*which sides are front and crown"):
        anatomy._check_placement(found)


def test_a_brain_that_fits_better_when_turned_is_named():
    turned = placement.Placement(np.eye(4) * [0.9, 0.9, 0.9, 1], 0.48, (0.75, 0.2), False)
    with pytest.raises(DataFault, match=r"turned back to front \(correlation 0\.75, .* says 0\.48\)"):
        anatomy._check_placement(turned)


def test_the_fault_says_what_was_measured_and_what_is_expected(bright):
    wrong = placement.Placement(np.diag([1.4, 1.3, 1.3, 1.0]), 0.21, (0.1, 0.1), False)
    with pytest.raises(DataFault, match=r"correlation 0\.21, .* expected.* scales \[1\.4, 1\.3, 1\.3\].* ml"):
        anatomy._check_placement(wrong)


def test_the_mean_head_lies_where_its_matrix_says():
    """The constant was made with another network's mask; the engine's own search finds the same place."""
    mean = registration.downsample(registration.read_volume(templates.mean_head()), 2.0)
    found = placement.place_template(mean).matrix
    points = placement.brain_points()[::499]
    apart = registration.transform_points(found, points) - registration.transform_points(
        templates.BRAIN_TO_MEAN_HEAD, points
    )
    assert np.linalg.norm(apart, axis=1).mean() < 2.0


def test_a_flair_whose_fluid_is_dark_is_refused():
    levels = np.array([0.0, 100.0, 119.0, 24.0])  # air, grey, white, fluid: medians of a real FLAIR
    dseg = np.random.default_rng(3).integers(0, 4, (12, 12, 12))
    with pytest.raises(DataFault, match=r"E-DATA-B22.*0\.25 times.*is it a FLAIR"):
        anatomy._checked_contrast(Volume(levels[dseg], np.eye(4)), Volume(dseg, np.eye(4)))


@pytest.mark.parametrize(("reflected", "fits"), [(0.11, True), (0.20, False)])
def test_a_weak_match_counts_when_it_stands_out_from_its_reflections(reflected, fits):
    """An old head with wide ventricles; a generated head turned back to front."""
    found = placement.Placement(np.diag([0.94, 0.93, 0.83, 1.0]), 0.43, (reflected, 0.1), False)
    if fits:
        anatomy._check_placement(found)
    else:
        with pytest.raises(DataFault, match=r"E-DATA-B22.*0\.28 above the 0\.20 of its reflections"):
            anatomy._check_placement(found)
