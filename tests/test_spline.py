"""The compiled cubic spline beside scipy's, which computes in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from reconfmri.preprocess import spline


def scene(shape, seed=3):
    random = np.random.default_rng(seed)
    return (1000 + 300 * ndimage.gaussian_filter(random.normal(size=shape), 0.7)).astype(np.float32)


@pytest.mark.parametrize("shape", [(17, 22, 9), (30, 4, 11), (5, 5, 1)])
def test_values_are_scipys_to_single_precision_inside_and_beyond_the_edge(shape):
    volume, random = scene(shape), np.random.default_rng(4)
    points = random.uniform(-1.5, 1.5, (4000, 3)) * shape
    matrix = np.eye(4)
    matrix[:3] += random.normal(scale=0.1, size=(3, 4))
    where = points @ matrix[:3, :3].T + matrix[:3, 3]
    expected = ndimage.map_coordinates(volume.astype(float), where.T, order=3, mode="mirror")
    found = spline.values_at(volume, matrix, points)
    assert found.dtype == np.float32
    # coordinates of up to 50 voxels are rounded to 4e-6 of one; coefficients and sums to 1e-7 of a value
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_strided_volume_and_one_of_integers_give_the_same_values():
    volume = np.rint(scene((12, 14, 10)))
    points = np.random.default_rng(5).uniform(2, 8, (500, 3))
    plain = spline.values_at(volume, np.eye(4), points)
    for other in (np.asfortranarray(volume), volume.astype(np.int16)):
        np.testing.assert_allclose(spline.values_at(other, np.eye(4), points), plain, rtol=1e-6)
