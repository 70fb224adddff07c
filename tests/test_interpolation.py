"""The compiled interpolation beside scipy's, which computes in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from reconfmri import interpolation


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
    found = interpolation.values_at(volume, matrix, points)
    assert found.dtype == np.float32
    # coordinates of up to 50 voxels are rounded to 4e-6 of one; coefficients and sums to 1e-7 of a value
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_strided_volume_and_one_of_integers_give_the_same_values():
    volume = np.rint(scene((12, 14, 10)))
    points = np.random.default_rng(5).uniform(2, 8, (500, 3))
    plain = interpolation.values_at(volume, np.eye(4), points)
    for other in (np.asfortranarray(volume), volume.astype(np.int16)):
        np.testing.assert_allclose(interpolation.values_at(other, np.eye(4), points), plain, rtol=1e-6)


def test_beyond_the_outermost_centres_a_volume_has_the_value_asked_for():
    volume = np.random.default_rng(3).normal(size=(7, 8, 9)).astype(np.float32)
    points = np.random.default_rng(4).uniform(-2, 10, (500, 3))
    found = interpolation.cubic(interpolation.coefficients(volume), np.eye(4), points, 5.0)
    expected = ndimage.map_coordinates(volume.astype(float), points.T, order=3, mode="constant", cval=5.0)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())
    assert 50 < (found == 5.0).sum() < 450


@pytest.mark.parametrize("shape", [(6, 7, 8), (1, 7, 8)])
def test_joint_counts_are_those_of_values_that_scipy_interpolates(shape):
    random = np.random.default_rng(5)
    levels = random.uniform(0, 11, shape).astype(np.float32)
    rows = random.integers(0, 12, 2000)
    points = random.uniform(-1, 9, (2000, 3))
    points[:, 0] *= shape[0] > 1
    points[:8] = [0, 6, 7]  # the centre of a corner voxel is inside
    values = ndimage.map_coordinates(levels, points.T, order=1, output=np.float32).astype(int)
    expected = np.bincount(rows * 12 + values, minlength=144).reshape(12, 12)
    found = interpolation.joint_counts(levels, np.eye(4), points, rows, 12)
    np.testing.assert_array_equal(found, expected)
    assert found[:, 1:].sum() > 300
    assert found[:, 0].sum() > 100


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 8, 9), (1, 8, 9)])
@pytest.mark.parametrize(("mode", "fill"), [("constant", 3.5), ("nearest", None)])
def test_linear_values_are_scipys(kind, shape, mode, fill):
    random = np.random.default_rng(6)
    volume = random.normal(size=shape).astype(kind)
    index = random.uniform(-2, 10, (3, 3000))
    index[:, :500] = np.rint(index[:, :500])  # centres of voxels, also the outermost
    index[0, :2000] *= shape[0] > 1
    expected = ndimage.map_coordinates(volume, index, order=1, mode=mode, cval=fill or 0, output=kind)
    found = interpolation.linear(volume, index, fill=fill)
    assert found.dtype == kind
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if kind is np.float32 else 1e-15)
