"""Distances beside scipy's, which finds every one of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from reconfmri import distance

SHAPE = (31, 40, 26)


@pytest.mark.parametrize("edges", [(1.0, 1.0, 1.0), (0.9375, 0.9375, 1.2), (2.0, 0.7, 5.0)])
@pytest.mark.parametrize("radius", [0.0, 1.0, 2.5, 6.0, 200.0])
def test_what_is_near_is_what_scipy_finds_to_the_voxel(edges, radius):
    """Voxels exactly `radius` away are near: both add the squares along x, y and z in this order."""
    blobs = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 2.0)
    mask = blobs > np.percentile(blobs, 98.5)
    expected = ndimage.distance_transform_edt(~mask, edges) <= radius
    np.testing.assert_array_equal(distance.within(mask, radius, np.array(edges)), expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_voxels_in_memory_changes_nothing(order):
    mask = np.zeros(SHAPE, dtype=bool, order=order)
    mask[0, 39, 12] = True
    found = distance.within(mask, 3.0, np.ones(3))
    assert [len(np.unique(axis)) for axis in np.nonzero(found)] == [4, 4, 7]


def test_nothing_is_near_an_empty_mask():
    assert not distance.within(np.zeros(SHAPE, dtype=bool), 1e4, np.ones(3)).any()
