"""Transforms are recovered, composed, inverted and applied as planted, the same on one and two threads."""

import ctypes

import numpy as np
import pytest
from scipy import ndimage

from reconfmri import greedy, registration, templates
from reconfmri.registration import Volume

CENTRE = np.array([0.0, -17.0, 5.0])


@pytest.fixture(scope="module")
def brain():
    """The template brain at 4 mm."""
    shape, affine = templates.target_grid(4.0)
    fine = registration.read_volume(templates.target_brain())
    smooth = Volume(ndimage.gaussian_filter(fine.data, 1.6), fine.affine)
    return Volume(registration.sample(smooth, registration.grid_points(shape, affine), order=1), affine)


@pytest.fixture(scope="module")
def shifted(brain):
    """The same brain, moved by a known rigid motion under the same header (quintic spline)."""
    truth = registration.rigid(np.array([8.0, -6.0, 10.0, 9.0, -10.0, 8.0]), CENTRE)
    points = registration.grid_points(brain.data.shape, brain.affine)
    back = registration.transform_points(np.linalg.inv(truth), points)
    inverted = 100 - brain.data  # another contrast
    moved = registration.sample(Volume(np.where(brain.data > 5, inverted, 0), brain.affine), back, order=5)
    return Volume(moved, brain.affine), truth


def worst_error(found, truth, brain):
    points = registration.grid_points(brain.data.shape, brain.affine)[brain.data > 5]
    moved = [registration.transform_points(matrix, points) for matrix in (found, truth)]
    return np.linalg.norm(moved[0] - moved[1], axis=1).max()


def test_a_search_finds_a_head_of_another_contrast_ten_millimetres_and_degrees_off(brain, shifted):
    moving, truth = shifted
    coarse, coarse_moving = registration.downsample(brain, 8.0), registration.downsample(moving, 8.0)
    around = registration.dilated(coarse.data > 5, 8.0, coarse.affine)
    found = registration.search_rigid(
        coarse, coarse_moving, mask=around, starts=[np.eye(4)], spread=(8.0, 10.0), n_candidates=150
    )
    # Half an 8 mm voxel: well inside the capture range of the finer steps that follow.
    assert worst_error(found, truth, brain) < 4.0


def test_greedy_finds_an_affine_and_finds_it_again(brain):
    truth = registration.rigid(np.array([4.0, -3.0, 5.0, 4.0, -6.0, 3.0]), CENTRE) @ np.diag(
        [1.05, 0.96, 1.03, 1]
    )
    points = registration.grid_points(brain.data.shape, brain.affine)
    back = registration.transform_points(np.linalg.inv(truth), points)
    moving = Volume(registration.sample(brain, back, order=5), brain.affine)
    options = "-dof 12 -m NCC 2x2x2 -n 60x40"
    found = [greedy.affine(brain, moving, options=options) for _ in range(2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert worst_error(found[0], truth, brain) < 0.5  # an eighth of a voxel, at the farthest point


def test_a_search_that_ends_at_its_minimum_prints_nothing_and_all_else_is_kept(brain, capfd):
    flat = Volume(np.ones_like(brain.data), brain.affine)
    greedy.affine(brain, flat, options="-dof 6 -m NMI -n 4")
    assert capfd.readouterr().out == ""
    end = b" IFLAG= -1  LINE SEARCH FAILED. SEE DOCUMENTATION OF ROUTINE MCSRCH ERROR RETURN OF LINE SEARCH: "
    end += b"INFO= 3 POSSIBLE CAUSES: FUNCTION OR GRADIENT ARE INCORRECT OR INCORRECT TOLERANCES "
    with greedy._printed_but(greedy.END_OF_SEARCH):
        ctypes.CDLL(None).printf(b"out of memory\n%s%scannot write\n", end, end)
    assert capfd.readouterr().out == "out of memory\ncannot write\n"
    with pytest.raises(RuntimeError, match="Unknown parameter -nonsense"):
        greedy.affine(brain, brain, options="-nonsense")


def test_greedy_finds_a_smooth_warp_and_the_dense_map_holds_it(brain):
    rng = np.random.default_rng(3)
    bend = np.stack(
        [ndimage.gaussian_filter(rng.normal(size=brain.data.shape), 6) for _ in range(3)], axis=-1
    )
    bend *= 4.0 / np.linalg.norm(bend, axis=-1).max()
    points = registration.grid_points(brain.data.shape, brain.affine)
    moving = Volume(registration.sample(brain, points + bend, order=5), brain.affine)
    inside = brain.data > 5
    maps = []
    for threads in (1, 2):
        found = greedy.deformable(
            brain, moving, start=np.eye(4), options="-m NCC 2x2x2 -n 60x60 -s 3vox 0.7vox", threads=threads
        )
        maps.append(registration.dense_map(brain, matrix=np.eye(4), displacement=found))
    np.testing.assert_array_equal(maps[0].data, maps[1].data)
    # The moving image at q shows what the brain shows at q + bend(q): going there and back is standing still.
    there = maps[0].data
    spring = np.stack(
        [registration.sample(Volume(bend[..., k], brain.affine), there, order=1) for k in range(3)], -1
    )
    missed = np.linalg.norm(there + spring - points, axis=-1)[inside]
    assert missed.mean() < 0.15 * 4.0  # 0.15 of a voxel
    assert missed.mean() < 0.5 * np.linalg.norm(bend, axis=-1)[inside].mean()


def test_a_map_inverts():
    shape, affine = templates.target_grid(6.0)
    grid = Volume(np.zeros(shape), affine)
    points = registration.grid_points(shape, affine)
    bend = 4.0 * np.sin(points[..., [1, 2, 0]] / 40.0)
    matrix = registration.rigid(np.array([5.0, 4.0, -3.0, 8.0, 2.0, -6.0]), CENTRE)
    there = registration.dense_map(grid, matrix=matrix, displacement=bend)
    inner = points[3:-3, 3:-3, 3:-3]
    back = registration.inverse_at(there, registration.sample_map(there, inner))
    assert np.abs(back - inner).max() < 0.01  # mm


def test_sampling_a_cubic_spline_is_exact_on_a_line_and_close_on_a_wave():
    axes = np.indices((20, 22, 24)).astype(float)
    affine = np.diag([2.0, 3.0, 2.5, 1.0])
    line = Volume((axes * np.array([1.0, -2.0, 0.5])[:, None, None, None]).sum(axis=0), affine)
    points = np.random.default_rng(1).uniform([8, 12, 10], [28, 48, 45], size=(100, 3))
    expected = points @ np.array([1 / 2.0, -2 / 3.0, 0.5 / 2.5])
    np.testing.assert_allclose(registration.sample(line, points, order=1), expected, atol=1e-4)
    wave = Volume(np.sin(axes[0] * 2 * np.pi / 8), affine)
    found = registration.sample(wave, points)
    # Cubic B-splines err by about (2 pi / 8)^4 / 200 on a wave of eight voxels.
    np.testing.assert_allclose(found, np.sin(points[:, 0] / 2 * 2 * np.pi / 8), atol=3e-3)


def test_downsampling_keeps_places_and_mean():
    data = np.zeros((60, 64, 56), dtype=np.float32)
    data[20:40, 30:44, 22:37] = 10
    affine = registration.rigid(np.array([10.0, 5.0, -8.0, 3.0, 4.0, 5.0]), CENTRE) @ np.diag(
        [0.8, 1.0, 1.3, 1]
    )
    fine = Volume(data, affine)
    coarse = registration.downsample(fine, 3.0)
    centres = [
        np.average(
            registration.grid_points(v.data.shape, v.affine).reshape(-1, 3), axis=0, weights=v.data.ravel()
        )
        for v in (fine, coarse)
    ]
    np.testing.assert_allclose(centres[0], centres[1], atol=0.15)
    volumes = [v.data.sum(dtype=float) * np.prod(v.voxel_mm) for v in (fine, coarse)]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.02)
    np.testing.assert_allclose(coarse.voxel_mm, 3.0)


def test_versions_of_the_template_come_together():
    fixed, moving = templates.target_brain(), templates.nlin6_brain()
    found = greedy.template_to_template(moving, fixed, finest_mm=4.0)
    shape, affine = templates.target_grid(3.0)
    points = registration.grid_points(shape, affine)
    still = registration.sample(registration.read_volume(fixed), points, order=1)
    source = registration.read_volume(moving)
    inside = still > 0
    before, after = (
        np.corrcoef(registration.sample(source, where, order=1)[inside], still[inside])[0, 1]
        for where in (points, registration.sample_map(found, points))
    )
    assert after > before + 0.05
    shift = np.linalg.norm(registration.sample_map(found, points) - points, axis=-1)[inside]
    assert shift.mean() < 4.0  # the templates differ by a few millimetres, not by centimetres


def test_a_map_between_templates_is_found_once_per_machine_and_again_where_its_file_is_damaged(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked, found = (
        [],
        Volume(np.random.default_rng(1).normal(size=(4, 5, 6, 3)).astype(np.float32), np.eye(4)),
    )
    monkeypatch.setattr(greedy, "_register_templates", lambda *_, **__: asked.append(1) or found)
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(name.encode())

    def again(**changed) -> Volume:
        given = {"moving": tmp_path / "one", "fixed": tmp_path / "other", "finest_mm": 2.0}
        return greedy.template_to_template(**given | changed)

    for _ in range(3):
        kept = again()
        np.testing.assert_array_equal(kept.data, found.data)
        np.testing.assert_array_equal(kept.affine, found.affine)
    assert len(asked) == 1
    (file,) = (tmp_path / "reconfmri" / "templates").iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    for damaged in (b"", whole[:middle], whole[:middle] + bytes(8) + whole[middle + 8 :]):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(again().data, found.data)
    assert len(asked) == 4
    assert file.read_bytes() == whole
    again(finest_mm=3.0)
    (tmp_path / "one").write_bytes(b"changed")
    again()
    assert len(asked) == 6


def test_a_mask_grows_and_shrinks_by_millimetres():
    mask = np.zeros((41, 41, 41), dtype=bool)
    mask[20, 20, 20] = True
    affine = np.diag([1.0, 2.0, 1.0, 1.0])
    grown = registration.dilated(mask, 6.0, affine)
    assert [grown.any(axis=axes).sum() for axes in ((1, 2), (0, 2))] == [13, 7]
    np.testing.assert_array_equal(registration.dilated(grown, -6.0, affine)[20, 20], mask[20, 20])


@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        (Volume(np.full((4, 4, 4), np.nan), np.eye(4)), "not finite"),
        (
            Volume(
                np.zeros((4, 4, 4)), np.array([[1, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
            ),
            "angles",
        ),
    ],
)
def test_images_that_greedy_would_misread_are_refused(volume, reason):
    with pytest.raises(ValueError, match=reason):
        registration.to_itk(volume)
