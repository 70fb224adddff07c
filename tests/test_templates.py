"""The templates are where the wheels carry them, and the target grid holds the whole brain."""

import nibabel
import numpy as np
import pytest

from reconfmri import templates


@pytest.mark.parametrize("resolution", [1.0, 2.0, 3.0, 4.0])
def test_target_grid_holds_the_brain_with_room_for_smoothing(resolution):
    shape, affine = templates.target_grid(resolution)
    brain = nibabel.load(templates.target_brain())
    voxels = np.argwhere(np.asarray(brain.dataobj) > 0)
    corners = nibabel.affines.apply_affine(brain.affine, [voxels.min(axis=0), voxels.max(axis=0)])
    where = nibabel.affines.apply_affine(np.linalg.inv(affine), corners)
    room = 5.0 / resolution  # the FWHM of the default smoothing
    assert (where[0] >= room).all()
    assert (where[1] <= np.array(shape) - 1 - room).all()


def test_grids_of_all_resolutions_share_their_middle():
    for resolution in (1.0, 2.0, 3.5):
        shape, affine = templates.target_grid(resolution)
        middle = affine @ [*((np.array(shape) - 1) / 2), 1]
        np.testing.assert_allclose(middle[:3], templates.CENTRE_MM, atol=1e-12)


@pytest.mark.parametrize("resolution", [0.0, -2.0, float("nan")])
def test_an_impossible_resolution_is_refused(resolution):
    with pytest.raises(ValueError, match="positive number of mm"):
        templates.target_grid(resolution)


def test_harvard_oxford_has_one_label_per_volume():
    image, labels = templates.harvard_oxford()
    assert nibabel.load(image).shape[3] == len(labels) == 113
    assert {"Left Amygdala", "Right Hippocampus", "Left Frontal Medial Cortex"} <= set(labels)


def test_template_files_are_brains_of_a_plausible_size():
    for path in (templates.target_brain(), templates.nlin6_brain(), templates.simulation_maps().t1w):
        image = nibabel.load(path)
        litres = (np.asarray(image.dataobj) > 0).sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1e6
        assert 1.5 < litres < 2.1, path
