"""Regions lie where anatomy has them; regional signals know what part of the region they saw."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml

from reconfmri import templates
from reconfmri.checks import check_regions
from reconfmri.config import Atlas, Region, Rois, parse_config
from reconfmri.exclusions import DataFault
from reconfmri.rois import _summary, atlas_at, carry_atlas, extract_region_signals

DEMO = Path(__file__).resolve().parents[1] / "config" / "config.yaml"
REGIONS = {
    "amygdala_left": Region(labels=["Left Amygdala"]),
    "amygdala_right": Region(labels=["Right Amygdala"]),
    "hippocampus_left": Region(labels=["Left Hippocampus"]),
    "vmpfc": Region(labels=["Frontal Medial Cortex", "Subcallosal Cortex"], threshold=0.3),
}


@pytest.fixture(scope="module")
def carried():
    return carry_atlas(Rois(regions=REGIONS), resolution=3.0)


def test_regions_have_the_volume_of_anatomy(carried):
    _, _, table = carried
    volume = table.set_index("name")["volume_mm3"]
    # In MNI152NLin6Asym the atlas's amygdalae have 1.98 and 2.27 cm3 at 50 %; the target brain is larger by a
    # twelfth there, and a 3 mm grid adds 7 % (88 voxels; at 2 mm 2.22 cm3).
    assert 1500 <= volume["amygdala_left"] <= 2600
    assert 1700 <= volume["amygdala_right"] <= 2900
    assert 3500 <= volume["hippocampus_left"] <= 5500


def test_regions_lie_on_their_side_and_in_the_brain(carried):
    masks, affine, table = carried
    brain = nibabel.load(templates.target_brain())
    for index, name in enumerate(table["name"]):
        centre = nibabel.affines.apply_affine(affine, np.argwhere(masks[..., index]).mean(axis=0))
        if "_" in name:
            assert np.sign(centre[0]) == (-1 if name.endswith("left") else 1), name
        points = nibabel.affines.apply_affine(
            np.linalg.inv(brain.affine) @ affine, np.argwhere(masks[..., index])
        )
        inside = np.asarray(brain.dataobj)[tuple(np.round(points).astype(int).T)] > 0
        assert inside.mean() > 0.9, name
    amygdala = nibabel.affines.apply_affine(affine, np.argwhere(masks[..., 0]).mean(axis=0))
    # Published centre of the left amygdala in MNI space, about (-23, -5, -18); 5 mm for atlas and grid.
    assert np.linalg.norm(amygdala - [-23, -5, -18]) < 5


def test_a_label_that_the_atlas_lacks_names_the_nearest():
    with pytest.raises(
        ValueError, match=r"rois\.regions\.a: the atlas has no label 'Left Amigdala'.*'Left Amygdala'"
    ):
        carry_atlas(Rois(regions={"a": Region(labels=["Left Amigdala"])}), resolution=3.0)


def save(path, data, affine=None, **codes):
    affine = np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None and not codes else affine
    image = nibabel.Nifti1Image(data, affine)
    for code, value in codes.items():
        image.header[code] = value
    nibabel.save(image, path)
    return str(path)


def test_spheres_masks_and_maps_lie_where_they_say(tmp_path):
    """A sphere, and the same as a map on another grid, and half of one; the two templates differ by mm."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -90, -126, -72
    shape = (91, 109, 91)
    places = nibabel.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    height = 20 - np.linalg.norm(places - [-24.0, -4.0, -20.0], axis=-1)
    blob = save(tmp_path / "map.nii.gz", height.astype(np.float32), affine)
    mask = save(tmp_path / "mask.nii.gz", (height >= 10).astype(np.uint8), affine)
    own = {"space": "MNI152NLin2009cAsym"}
    sphere = {"centre": [-24.0, -4.0, -20.0], "radius": 10.0}
    regions = {
        "sphere": Region(sphere=sphere, **own),
        "map": Region(map=blob, threshold=10.0, **own),
        "mask": Region(mask=mask, **own),
        "elsewhere": Region(sphere=sphere, space="MNI152NLin6Asym"),
        "half": Region(sphere={"centre": [0.0, 0.0, 0.0], "radius": 10.0}, side="left", **own),
    }
    masks, grid, table = carry_atlas(Rois(regions=regions), resolution=3.0)
    volume = table.set_index("name")["volume_mm3"]
    assert volume["sphere"] == pytest.approx(4 / 3 * np.pi * 1000, rel=0.05)  # a 3 mm grid
    assert volume["map"] == pytest.approx(volume["sphere"], rel=0.03)  # linear interpolation of a cone
    assert volume["mask"] == pytest.approx(volume["sphere"], rel=0.05)
    centres = [nibabel.affines.apply_affine(grid, np.argwhere(masks[..., k]).mean(axis=0)) for k in range(5)]
    for k in range(3):
        assert np.linalg.norm(centres[k] - sphere["centre"]) < 0.5
    assert 0.3 < np.linalg.norm(centres[3] - sphere["centre"]) < 6
    assert centres[4][0] < -2
    assert table["labels"][1] == "map map.nii.gz ≥ 10 in MNI152NLin2009cAsym"


def own_atlas(folder, *, probable, rows=("index\tname", "7\tright nucleus", "3\tleft nucleus")):
    """Two nuclei of 10 mm at x = -24 and 24 in MNI152NLin2009cAsym, by number or by probability."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -90, -126, -72
    places = nibabel.affines.apply_affine(affine, np.moveaxis(np.indices((91, 109, 91)), 0, -1))
    left, right = (np.linalg.norm(places - [side * 24.0, -4.0, -20.0], axis=-1) for side in (-1, 1))
    if probable:
        volumes = np.zeros((91, 109, 91, 8), np.float32)
        volumes[..., 3], volumes[..., 7] = np.clip(1.5 - left / 10, 0, 1), np.clip(1.5 - right / 10, 0, 1)
        data = volumes
    else:
        data = (3 * (left <= 10) + 7 * (right <= 10)).astype(np.int16)
    (folder / "labels.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    image = save(folder / "atlas.nii.gz", data, affine)
    return Atlas(image=image, labels=str(folder / "labels.tsv"), space="MNI152NLin2009cAsym")


@pytest.mark.parametrize("probable", [False, True])
def test_an_atlas_of_the_study_is_joined_by_name_whatever_the_order_of_its_table(tmp_path, probable):
    atlas = own_atlas(tmp_path, probable=probable)
    left = Region(labels=["left nucleus"], atlas="own")
    both = Region(labels=["left nucleus", "right nucleus"], atlas="own")
    regions = {"left": left, "both": both, "amygdala_left": REGIONS["amygdala_left"]}
    weights, grid, table = carry_atlas(Rois(atlases={"own": atlas}, regions=regions), resolution=3.0)
    sizes = table.set_index("name")["volume_mm3"]
    assert sizes["left"] == pytest.approx(4 / 3 * np.pi * 1000, rel=0.05)  # a 3 mm grid
    assert sizes["both"] == pytest.approx(2 * sizes["left"], rel=0.05)
    centre = nibabel.affines.apply_affine(grid, np.argwhere(weights[..., 0]).mean(axis=0))
    assert np.linalg.norm(centre - [-24, -4, -20]) < 0.6
    assert table["labels"][0] == "left nucleus of own, probability ≥ 0.5"
    alone = carry_atlas(Rois(regions={"amygdala_left": REGIONS["amygdala_left"]}), resolution=3.0)
    np.testing.assert_array_equal(weights[..., 2], alone[0][..., 0], "Harvard-Oxford beside it is as before")


@pytest.mark.parametrize(
    ("rows", "label", "says"),
    [
        (("index\tname", "3\tleft nucleus"), "left nucleos", "no label 'left nucleos'.*'left nucleus'"),
        (("index\tname", "4\tleft nucleus"), "left nucleus", "no voxel has the number 4"),
        (("index\tname", "3\ta", "3\tb"), "a", "the index '3' is on two lines"),
        (("index\tname", "3\ta", "7\ta"), "a", "the name 'a' is on two lines"),
        (("index\tname", "three\ta"), "a", "an index is no whole number"),
        (("number\tname", "3\ta"), "a", "index"),
    ],
)
def test_an_atlas_whose_table_does_not_fit_is_one_line(tmp_path, rows, label, says):
    atlas = own_atlas(tmp_path, probable=False, rows=rows)
    region = Region(labels=[label], atlas="own")
    with pytest.raises(ValueError, match=says):
        carry_atlas(Rois(atlases={"own": atlas}, regions={"r": region}), resolution=4.0)


def test_probabilities_may_be_percent_and_a_statistical_map_is_none(tmp_path):
    atlas = own_atlas(tmp_path, probable=True)
    image = nibabel.load(atlas.image)
    asked = Rois(atlases={"own": atlas}, regions={"r": Region(labels=["left nucleus"], atlas="own")})
    shares, _, _ = carry_atlas(asked, resolution=4.0)
    save(tmp_path / "atlas.nii.gz", 100 * image.get_fdata(dtype=np.float32), image.affine)
    percent, _, _ = carry_atlas(asked, resolution=4.0)
    np.testing.assert_array_equal(shares, percent)
    save(tmp_path / "atlas.nii.gz", image.get_fdata(dtype=np.float32) - 0.2, image.affine)
    with pytest.raises(ValueError, match="expected probabilities"):
        carry_atlas(asked, resolution=4.0)


def test_a_region_names_an_atlas_that_exists_and_check_reads_its_table(tmp_path):
    with pytest.raises(ValueError, match=r"rois\.regions\.r\.atlas names 'mine', which does not exist"):
        Rois(regions={"r": Region(labels=["x"], atlas="mine")})
    with pytest.raises(ValueError, match="atlas is of labels"):
        Region(sphere={"centre": [0.0, 0.0, 0.0], "radius": 5.0}, space="MNI152NLin6Asym", atlas="mine")
    raw = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    raw["rois"]["atlases"] = {"own": own_atlas(tmp_path, probable=False).model_dump()}
    raw["rois"]["regions"]["nucleus"] = {"labels": ["left nuclues"], "atlas": "own"}
    [problem] = check_regions(parse_config(raw), tmp_path)
    assert problem.severity == "STOP"
    assert "which the atlas own lacks. Fix: did you mean 'left nucleus'?" in problem.line
    (tmp_path / "labels.tsv").unlink()
    [problem] = check_regions(parse_config(raw), tmp_path)
    assert problem.file.endswith("labels.tsv")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "expected one of labels, sphere, mask and map"),
        ({"labels": ["Left Amygdala"], "mask": "m.nii"}, "keep one source"),
        ({"mask": "m.nii"}, "needs the template"),
        ({"mask": "m.nii", "space": "MNI305"}, "MNI152NLin6Asym"),
        ({"labels": ["Left Amygdala"], "threshold": 3.0}, "expected a probability"),
        ({"labels": ["Left Amygdala"], "side": "left"}, "delete them beside labels"),
    ],
)
def test_a_source_that_is_not_one_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Region(**given)


def test_files_that_are_no_mask_have_one_line_each(tmp_path):
    rgba = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])
    ones = np.ones((4, 4, 4), dtype=np.float32)
    (tmp_path / "text.nii.gz").write_text("no image")
    bad = {
        "without colours": save(tmp_path / "rgba.nii.gz", rgba),
        "one number per voxel": save(tmp_path / "complex.nii.gz", ones.astype(np.complex64)),
        "three dimensions": save(tmp_path / "two.nii.gz", np.stack([ones, ones], axis=-1)),
        "where it lies": save(tmp_path / "nowhere.nii.gz", ones, sform_code=0, qform_code=0),
        "cannot be read": str(tmp_path / "text.nii.gz"),
        "no voxel of the grid": save(tmp_path / "zero.nii.gz", ones * 0),
    }
    for words, path in bad.items():
        with pytest.raises(ValueError, match=rf"rois\.regions\.r.*{words}"):
            carry_atlas(Rois(regions={"r": Region(mask=path, space="MNI152NLin2009cAsym")}), resolution=4.0)


def test_a_region_may_be_its_median_or_its_first_eigenvariate():
    """The eigenvariate by numpy's eigenvectors of the covariance over voxels; SPM scales it by root n."""
    rng = np.random.default_rng(0)
    course = rng.normal(size=60)
    voxels = 500 + np.outer(course, rng.uniform(0.5, 2, 30)) + 0.2 * rng.normal(size=(60, 30))
    given = voxels.astype(np.float32)
    alike = np.full(30, 100, np.uint8)
    np.testing.assert_allclose(_summary(given, "median", alike), np.median(voxels, axis=1), rtol=1e-6)
    centred = voxels - voxels.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    first = centred @ vectors[:, -1] / np.sqrt(30)
    first *= np.sign(vectors[:, -1].sum())
    found = _summary(given, "eigenvariate", alike)
    np.testing.assert_allclose(found - voxels.mean(), first, atol=1e-3)
    assert np.corrcoef(found, course)[0, 1] > 0.99


ROIS = Rois(
    regions={name: Region(labels=["x"]) for name in ("one_left", "one_right", "two")},
    combined={"one": ["one_left", "one_right"]},
    min_coverage=0.8,
)
SHAPE, T = (10, 10, 10), 40


def scan(folder, *, data=None, inside=None, affine=None):
    """A run of three regions: 20 and 60 voxels (two sides) and 50 voxels."""
    rng = np.random.default_rng(0)
    masks = np.zeros((*SHAPE, 3), np.uint8)
    masks[0, :2, :, 0] = 1
    masks[9, :6, :, 1] = 1
    masks[5, 5:, :, 2] = 1
    series = 100 + rng.standard_normal((*SHAPE, T)) if data is None else data(masks, rng)
    mask = np.ones(SHAPE, np.uint8)
    if inside:
        inside(mask)
    grid = np.diag([3.0, 3, 3, 1])
    files = {"bold": series.astype(np.float32), "mask": mask, "regions": masks}
    for name, values in files.items():
        own = affine if affine is not None and name == "mask" else grid
        nibabel.save(nibabel.Nifti1Image(values, own), folder / f"{name}.nii.gz")
    return [folder / f"{name}.nii.gz" for name in files], series, masks


def test_a_weighted_mean_weighs_voxels_by_their_probability(tmp_path):
    files, series, masks = scan(tmp_path)
    probabilities = masks * np.random.default_rng(2).integers(30, 101, masks.shape, dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(probabilities, np.diag([3.0, 3, 3, 1])), files[2])
    weighted, coverage, _ = extract_region_signals(
        *files, ROIS.model_copy(update={"summary": "weighted_mean"})
    )
    plain, same, _ = extract_region_signals(*files, ROIS)
    for index, name in enumerate(("one_left", "one_right", "two")):
        inside = masks[..., index] > 0
        expected = np.average(series[inside], axis=0, weights=probabilities[inside, index])
        np.testing.assert_allclose(weighted[name], expected, rtol=1e-6)  # float32 image
        np.testing.assert_allclose(plain[name], series[inside].mean(axis=0), rtol=1e-6)
    both = (20 * weighted["one_left"] + 60 * weighted["one_right"]) / 80
    np.testing.assert_allclose(weighted["one"], both, rtol=1e-9)
    assert coverage.equals(same), "coverage counts voxels"


def test_the_regions_hold_the_probability_of_the_atlas(carried):
    weights, _, table = carried
    least = {name: region.threshold for name, region in REGIONS.items()}
    for index, name in enumerate(table["name"]):
        inside = weights[..., index][weights[..., index] > 0]
        assert inside.min() >= np.floor(100 * least[name])
        assert 60 < inside.max() <= 100
        assert table["n_voxels"][index] == len(inside)


def test_signals_are_means_and_both_sides_are_weighted_by_volume(tmp_path):
    files, series, masks = scan(tmp_path)
    signals, coverage, faults = extract_region_signals(*files, ROIS)
    assert signals.columns.tolist() == ["one_left", "one_right", "two", "one"]
    assert not faults
    left, right = (series[masks[..., i] > 0].mean(axis=0) for i in (0, 1))
    np.testing.assert_allclose(signals["one_left"], left, rtol=1e-6)  # float32 image
    np.testing.assert_allclose(signals["one"], (20 * left + 60 * right) / 80, rtol=1e-6)
    assert coverage.set_index("region")["coverage"].tolist() == [1, 1, 1, 1]


def test_temporal_snr_is_that_of_the_noise(tmp_path):
    def drifting(masks, rng):
        return 100 + rng.standard_normal((*SHAPE, 400)) * 2 + 0.05 * np.arange(400)

    files, _, _ = scan(tmp_path, data=drifting)
    _, coverage, _ = extract_region_signals(*files, ROIS)
    # Mean 110 with noise of SD 2; the median of 20 and more voxels is within 2 %.
    np.testing.assert_allclose(coverage["tsnr"], 55, rtol=0.02)


def test_temporal_snr_is_without_damaged_volumes_whatever_stands_there(tmp_path):
    damaged = [4, 5, T - 1]
    files, series, masks = scan(tmp_path)
    values = np.asarray(nibabel.load(files[0]).dataobj).copy()
    values[..., damaged] = 150
    nibabel.save(nibabel.Nifti1Image(values, np.diag([3.0, 3, 3, 1])), files[0])
    _, coverage, _ = extract_region_signals(*files, ROIS, damaged=damaged)
    times = np.setdiff1d(np.arange(T), damaged)
    whole = series[masks[..., 2] > 0][:, times]
    line = np.polynomial.polynomial.polyval(times, np.polynomial.polynomial.polyfit(times, whole.T, 1))
    wanted = np.median(whole.mean(axis=1) / (whole - line).std(axis=1))
    assert coverage.set_index("region")["tsnr"]["two"] == pytest.approx(wanted, rel=1e-5)


def test_a_region_out_of_the_field_of_view_is_missing_with_its_coverage(tmp_path):
    files, _, _ = scan(tmp_path, inside=lambda mask: mask.__setitem__((0, slice(None), slice(0, 5)), 0))
    signals, coverage, faults = extract_region_signals(*files, ROIS)
    assert signals[["one_left", "one"]].isna().all(axis=None), (
        "half of one side is gone: the pair is missing too"
    )
    assert signals[["one_right", "two"]].notna().all(axis=None)
    shares = coverage.set_index("region")["coverage"]
    assert shares["one_left"] == 0.5
    assert shares["one"] == pytest.approx(70 / 80)
    assert {fault.region: fault.code for fault in faults} == {"one_left": "E-DATA-B08", "one": "E-DATA-B08"}
    assert "50 % of one_left" in faults[0].line


def test_a_region_with_too_little_temporal_snr_is_missing_and_the_others_stay(tmp_path):
    def noisy_left(masks, rng):
        noise = np.where(masks[..., :1] > 0, 10.0, 2.0)
        return 100 + noise * rng.standard_normal((*SHAPE, T))

    files, _, _ = scan(tmp_path, data=noisy_left)
    signals, coverage, faults = extract_region_signals(*files, ROIS)
    assert not faults, "nothing is taken out where the study sets no limit"
    tsnr = coverage.set_index("region")["tsnr"]
    assert tsnr["one_left"] == pytest.approx(10, rel=0.1)  # the median of 20 voxels
    strict = ROIS.model_copy(update={"min_tsnr": 20.0})
    signals, again, faults = extract_region_signals(*files, strict)
    assert signals[["one_left", "one"]].isna().all(axis=None), "the pair of a missing side is missing too"
    assert signals[["one_right", "two"]].notna().all(axis=None)
    pd.testing.assert_frame_equal(again, coverage)
    assert {fault.region: fault.code for fault in faults} == {"one_left": "E-DATA-B35", "one": "E-DATA-B35"}
    assert f"of one_left {tsnr['one_left']:.3g} < 20 (rois.min_tsnr)" in faults[1].line


def test_a_region_that_is_constant_or_not_finite_is_missing(tmp_path):
    def broken(masks, rng):
        series = 100 + rng.standard_normal((*SHAPE, T))
        series[masks[..., 0] > 0] = 7
        series[masks[..., 2] > 0, 3] = np.nan
        return series

    files, _, _ = scan(tmp_path, data=broken)
    signals, coverage, faults = extract_region_signals(*files, ROIS)
    assert signals[["one_left", "two", "one"]].isna().all(axis=None)
    assert coverage.set_index("region")["coverage"][["one_left", "two"]].tolist() == [0, 0]
    assert {fault.region for fault in faults} == {"one_left", "two", "one"}


def test_images_on_different_grids_take_the_run_out(tmp_path):
    files, _, _ = scan(tmp_path, affine=np.array([[3.0, 0, 0, 5], [0, 3, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]))
    with pytest.raises(DataFault, match="5 mm apart") as caught:
        extract_region_signals(*files, ROIS)
    assert caught.value.code == "E-DATA-B06"


def test_the_atlas_names_points_of_the_target_template():
    """Published centres of the left amygdala and the right hippocampus, and a point outside of the brain."""
    percent, names = atlas_at(np.array([[-23.0, -5, -18], [25, -20, -14], [0, 0, 100]]))
    assert [names[place] for place in percent[:2].argmax(axis=1)] == ["Left Amygdala", "Right Hippocampus"]
    assert percent[:2].max(axis=1).min() > 50
    assert not percent[2].any()
