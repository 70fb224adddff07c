"""Maps compared in every voxel: enhancement against brute force and nilearn, draws, inputs, results."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from scipy import stats
from scipy.ndimage import generate_binary_structure, label
from tests.validate import voxels as calibration
from tests.voxel_maps import AFFINE, PLANTED, SESSIONS, SHAPE, asking, brain, save_map, simulate_maps, smooth

from reconfmri.config import Region, Rois, load_trial, parse_config
from reconfmri.contracts import questions
from reconfmri.contracts.voxels import VoxelImage, voxel_files, voxel_images
from reconfmri.figures.style import to_png
from reconfmri.figures.voxels import difference_map
from reconfmri.group.frequentist import ancova_design, answer_by_reml, least_squares
from reconfmri.group.grid import Outcome
from reconfmri.report.voxels import voxels
from reconfmri.voxels.compare import compare
from reconfmri.voxels.draws import allocations, corrected
from reconfmri.voxels.enhancement import clusters, highest_tfce, masses, neighbours_in, normal_scores, tfce
from reconfmri.voxels.files import region_masks, scan_maps, write_answer
from reconfmri.voxels.model import Maps, fit
from reconfmri.voxels.scans import read_images

ROOT = Path(__file__).parents[1]
FACES = generate_binary_structure(3, 1)

# Enhancement and clusters


def by_thresholds(volume: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """TFCE by labelling clusters at every threshold, for the positive side; exact at a map's own values."""
    found, before = np.zeros(volume.shape), 0.0
    for height in thresholds:
        labels, _ = label(volume >= height, FACES)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        found += np.sqrt(sizes[labels]) * (height**3 - before**3) / 3
        before = height
    return found


@pytest.mark.parametrize("seed", range(8))
def test_tfce_is_that_of_every_threshold_with_ties_and_holes(seed):
    random = np.random.default_rng(seed)
    mask = random.random((9, 8, 7)) < 0.8
    volume = np.where(mask, np.round(3 * smooth(random, (9, 8, 7)), 1), 0).astype(np.float32)
    expected = by_thresholds(np.maximum(volume, 0), np.unique(volume[volume > 0]))
    expected -= by_thresholds(np.maximum(-volume, 0), np.unique(-volume[volume < 0]))
    nearby = neighbours_in(mask)
    found = tfce(volume[mask], nearby)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected[mask], atol=1e-5 * scale)
    assert highest_tfce(volume[mask], nearby) == pytest.approx(scale, rel=1e-5)


def test_nilearns_tfce_tends_to_ours_as_its_steps_get_finer():
    from nilearn.mass_univariate._utils import calculate_tfce

    volume = 3 * smooth(np.random.default_rng(3), (12, 12, 12))
    ours = tfce(volume.ravel().astype(np.float32), neighbours_in(np.ones(volume.shape, dtype=bool)))
    errors = []
    for steps in (50, 200, 800):
        height = float(np.abs(volume).max()) / steps
        theirs = height * calculate_tfce(volume[..., None], FACES, dh=height).ravel()
        errors.append(np.abs(theirs - ours).max() / np.abs(ours).max())
    assert errors[2] < errors[1] < errors[0] < 0.1
    assert errors[2] < 0.005


def test_complete_data_of_one_visit_have_the_t_of_nilearn_and_its_enhanced_map():
    """Equal arms: Welch's error is the pooled one. nilearn's steps are a hundredth of the highest t."""
    from nilearn.mass_univariate import permuted_ols
    from nilearn.mass_univariate._utils import calculate_tfce

    random, active = np.random.default_rng(5), np.arange(16) % 2 == 1
    values = np.stack([smooth(random, (8, 8, 8)).ravel() for _ in active])
    theirs = permuted_ols(active - 0.5, values, n_perm=0, two_sided_test=True, verbose=0, output_type="dict")
    seen = random.normal(size=(16, 1))
    outcome = Outcome("fear", "activation", "%", 0.4, seen, active, people=tuple(map(str, range(16))))
    whole = np.ones((8, 8, 8), dtype=bool)
    maps = Maps.of(whole, np.eye(4), values[:, None].astype(np.float32))
    one_visit = replace(asking().asked, sessions=["1"]).about(["difference_unadjusted"])
    (effects,) = fit(maps, outcome, one_visit).effects()
    t = (effects.estimate / np.sqrt(effects.variance)).astype(np.float32)
    np.testing.assert_allclose(t, theirs["t"].ravel(), atol=2e-5)
    assert effects.df == pytest.approx(14)
    step = np.abs(t).max() / 100
    enhanced = step * calculate_tfce(t.reshape(8, 8, 8, 1), FACES).ravel()
    np.testing.assert_allclose(tfce(t, neighbours_in(whole)), enhanced, atol=0.03 * np.abs(enhanced).max())


def test_clusters_and_their_masses_are_scipys_and_nilearns():
    from nilearn.mass_univariate._utils import calculate_cluster_measures

    volume = (2 * smooth(np.random.default_rng(4), (12, 12, 12))).astype(np.float32)
    found = clusters(volume.ravel(), neighbours_in(np.ones(volume.shape, dtype=bool)), 2.0)
    sides = [label(side * volume > 2, FACES)[0] for side in (1, -1)]
    assert sorted(Counter(found[found > 0]).values()) == sorted(
        size for side in sides for size in np.bincount(side.ravel())[1:]
    )
    _, largest = calculate_cluster_measures(volume[..., None], 2.0, FACES, two_sided_test=True)
    # nilearn's mass is that beyond the threshold, ours the whole sum
    beyond = masses(volume.ravel(), found) - 2.0 * np.bincount(found)[1:]
    assert float(largest[0]) == pytest.approx(beyond.max(), rel=1e-5)


@pytest.mark.parametrize(("df", "tolerance"), [(8.0, 0.02), (12.0, 0.009), (24.0, 0.003)])
def test_normal_scores_have_the_p_of_t(df, tolerance):
    deviates = np.linspace(-4, 4, 81)
    t = stats.t.ppf(stats.norm.cdf(deviates), df)
    found = normal_scores(t, np.ones(81), df)
    np.testing.assert_allclose(found, deviates, atol=tolerance)
    assert (np.diff(found) > 0).all()
    assert normal_scores(np.ones(1), np.zeros(1), df)[0] == 0


# Draws


def test_draws_keep_strata_and_the_sizes_of_their_arms():
    active, strata = np.arange(12) % 3 == 0, ["a"] * 7 + ["b"] * 5
    draws = allocations(active, strata, n_draws=50, seed=2)
    assert not draws.exact
    assert draws.sides.shape == (51, 12)
    assert ((draws.sides[0] > 0) == active).all()
    for members in (slice(0, 7), slice(7, 12)):
        assert ((draws.sides[:, members] > 0).sum(axis=1) == active[members].sum()).all()
    again = allocations(active, strata, n_draws=50, seed=2)
    assert (draws.sides == again.sides).all()


def test_few_allocations_are_enumerated_each_once():
    active, strata = np.array([1, 0, 0, 1, 1, 0, 0], dtype=bool), ["a"] * 3 + ["b"] * 4
    draws = allocations(active, strata, n_draws=100, seed=1)
    assert draws.exact
    assert len(draws.sides) == math.comb(3, 1) * math.comb(4, 2) == len(np.unique(draws.sides, axis=0))
    assert ((draws.sides[0] > 0) == active).all()


def test_corrected_p_counts_the_draw_itself_and_ties():
    highest = np.array([3.0, 1.0, 2.0, 5.0])
    assert corrected(np.array([3.0, -3.0, 5.0, 9.0, 0.0]), highest).tolist() == [0.5, 0.5, 0.25, 0.0, 1.0]


# The model


def test_a_voxel_has_the_estimate_that_reml_has_with_the_same_covariance():
    """One voxel alone: its covariance is REML's, so that the estimate is that of the regions."""
    random = np.random.default_rng(8)
    active = np.arange(20) < 10
    values = random.normal(size=(20, 3)) + random.normal(size=(20, 1))
    values[15:, 2] = np.nan
    group = asking().asked.group
    outcome = Outcome("fear", "activation", "%", 0.4, values, active, people=tuple("abcdefghijklmnopqrst"))
    questions_asked = asking().asked.about(["difference_adjusted"])
    maps = Maps.of(np.ones((1, 1, 1), dtype=bool), np.eye(4), values[:, :, None].astype(np.float32))
    for effects in fit(maps, outcome, questions_asked).effects():
        expected, _ = answer_by_reml(outcome, effects.question, group)
        # the covariance is fitted without the arms: within a tenth of a standard error
        assert effects.estimate[0] == pytest.approx(expected.estimate, abs=0.1 * expected.se)
        assert np.sqrt(effects.variance[0]) == pytest.approx(expected.se, rel=0.25)


def test_columns_by_pattern_are_put_back_in_the_order_of_the_mask():
    random = np.random.default_rng(9)
    values = random.normal(size=(6, 2, 40)).astype(np.float32)
    values[0, 1, ::3] = np.nan
    values[3, 0, 5:9] = np.nan
    maps = Maps.of(np.ones((40, 1, 1), dtype=bool), np.eye(4), values)
    np.testing.assert_array_equal(maps.in_order(maps.values), np.nan_to_num(values))
    assert sum(pattern.columns.stop - pattern.columns.start for pattern in maps.patterns) == 40
    for pattern in maps.patterns:
        inside = np.isfinite(values[:, :, maps.places[pattern.columns]])
        assert (inside == pattern.seen[:, :, None]).all()
    sizes = [pattern.columns.stop - pattern.columns.start for pattern in maps.patterns]
    assert sizes[0] == max(sizes)


# The whole comparison


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return simulate_maps(tmp_path_factory.mktemp("maps"), effect=2.5)


def box() -> np.ndarray:
    region = np.zeros(SHAPE, dtype=bool)
    region[PLANTED] = True
    return region


@pytest.fixture(scope="module")
def answer(scans):
    beyond = np.zeros(SHAPE, dtype=bool)
    beyond[0, 0, 0] = True  # outside of the brain
    study = asking(
        regions={"planted": box(), "corner": beyond},
        estimands=["difference_adjusted", "difference_of_change"],
    )
    return compare(study, {"fear": read_images(scans)})


def test_a_planted_effect_is_found_where_it_is(answer):
    rows = answer.voxels.set_index(["method", "estimand", "session"]).loc["mmrm"]
    assert (rows["p_tfce"] < 0.05).all()
    assert (rows["lowest_z"] < -3.5).all()
    found = answer.clusters[
        (answer.clusters["inference"] == "tfce") & (answer.clusters["estimand"] == "difference_adjusted")
    ]
    for session in ("2", "3"):
        first = found[found["session"] == session].iloc[0]
        assert first["direction"] == "lower"
        voxel = np.linalg.inv(AFFINE) @ [first["x"], first["y"], first["z"], 1]
        assert box()[tuple(np.rint(voxel[:3]).astype(int))]
        assert first["labels"].startswith("Left of the middle")
    region = answer.regions[answer.regions["region"] == "planted"]
    assert (region["p"] < 0.05).all()
    corner = answer.regions[answer.regions["region"] == "corner"]
    assert not corner["reported"].any()
    assert corner["reason"].str.contains("no voxel of the region is compared").all()


def test_images_are_those_that_are_declared_and_hold_what_the_tables_say(answer):
    study = asking(estimands=["difference_adjusted", "difference_of_change"])
    assert set(answer.images) == set(voxel_images(study.asked.group, SESSIONS))
    assert len({image.name for image in answer.images}) == len(answer.images)
    for row in answer.voxels.to_dict("records"):
        estimand = "marginal" if row["method"] == "marginal" else row["estimand"]
        z, _, about = answer.images[VoxelImage("fear", "z", estimand, row["session"])]
        assert np.nanmin(z) == pytest.approx(row["lowest_z"], rel=1e-5)
        assert np.isfinite(z).sum() == row["n_voxels"] == brain().sum()
        assert about["MapsActive"] == row["n_active"]
        if row["method"] == "mmrm":
            p, _, _ = answer.images[VoxelImage("fear", "p", row["estimand"], row["session"])]
            shown, _, _ = answer.images[VoxelImage("fear", "thresholded", row["estimand"], row["session"])]
            assert np.nanmin(p) == pytest.approx(row["p_tfce"], rel=1e-5)
            assert (shown != 0).sum() == row["n_significant"] == (p <= 0.05).sum()
            np.testing.assert_array_equal(shown[p <= 0.05], z[p <= 0.05])


def test_every_table_is_of_its_spec(answer, tmp_path):
    names = next(item for item in questions.registered() if item.name == "voxels").tables
    for (name, spec), table in zip(names.items(), answer.tables, strict=True):
        spec.write(tmp_path / f"{name}.tsv", table)
        assert len(spec.read(tmp_path / f"{name}.tsv")) == len(table)


def test_order_of_files_and_people_and_threads_change_nothing(scans, answer):
    study = asking(
        regions={"planted": box()}, estimands=["difference_adjusted", "difference_of_change"], threads=2
    )
    shuffled = study.asked.allocation.sample(frac=1, random_state=1)
    again = compare(
        replace(study, asked=replace(study.asked, allocation=shuffled)), {"fear": read_images(scans[::-1])}
    )
    pd.testing.assert_frame_equal(again.voxels, answer.voxels)
    pd.testing.assert_frame_equal(again.clusters, answer.clusters)


def test_relabelled_arms_turn_every_sign_and_no_p(scans, answer):
    study = asking(estimands=["difference_adjusted", "difference_of_change"])
    arms = study.asked.group.arms.model_copy(update={"active": "midazolam", "control": "ketamine"})
    group = study.asked.group.model_copy(update={"arms": arms})
    turned = compare(replace(study, asked=replace(study.asked, group=group)), {"fear": read_images(scans)})
    np.testing.assert_allclose(turned.voxels["highest_z"], -answer.voxels["lowest_z"], rtol=1e-4)
    assert (turned.voxels["p_tfce"] < 0.05).sum() == 4


def test_corrected_p_values_are_over_sessions_and_contrasts_of_an_estimand(scans, tmp_path):
    """The same maps under two names have the p of one; beside a contrast of noise no p gets smaller."""
    study = asking()
    settings = study.settings.model_copy(update={"contrasts": ["fear", "again"]})
    images = read_images(scans)
    both = compare(replace(study, settings=settings), {"fear": images, "again": images}).voxels
    alone = compare(study, {"fear": images}).voxels
    for name in ("fear", "again"):
        mine = both[both["contrast"] == name].assign(contrast="fear").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, alone)
    noisy = {"fear": images, "again": read_images(simulate_maps(tmp_path, effect=0.0, seed=9))}
    beside = compare(replace(study, settings=settings), noisy).voxels
    mine = beside[beside["contrast"] == "fear"].reset_index(drop=True)
    assert (mine["p_tfce"].dropna() >= alone["p_tfce"].dropna()).all()


def test_without_draws_there_are_maps_and_no_p(scans):
    found = compare(asking(permutations=0), {"fear": read_images(scans)})
    assert found.voxels["reported"].all()
    assert found.voxels["p_tfce"].isna().all()
    assert found.clusters.empty
    assert {image.kind for image in found.images} == {"effect", "variance", "z", "coverage", "mask"}


def test_files_in_and_files_out(scans, answer, tmp_path):
    """As the rule of the workflow does: maps in the order of scans, regions by name, images with JSON."""
    units = [[scan.participant_id, scan.session_id, scan.task, scan.run] for scan in scans]
    names = [str(scan.effect) for scan in scans], [str(scan.variance) for scan in scans]
    found = scan_maps(units, names[0] * 2, names[1] * 2, ["fear", "again"])
    assert found == {"fear": scans, "again": scans}
    parts = np.stack([box(), ~box() & brain()], axis=-1).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(parts, AFFINE), tmp_path / "masks.nii.gz")
    pd.DataFrame({"name": ["left", "right"]}).to_csv(tmp_path / "regions.tsv", sep="\t", index=False)
    rois = Rois(
        regions={name: Region(labels=[f"{name.title()} Amygdala"]) for name in ("left", "right")},
        combined={"both": ["left", "right"]},
    )
    masks, (shape, affine) = region_masks(
        tmp_path / "masks.nii.gz", tmp_path / "regions.tsv", rois, ["left", "both"]
    )
    assert (masks["left"] == box()).all()
    assert (masks["both"] == box() | brain()).all()
    assert shape == SHAPE
    np.testing.assert_array_equal(affine, AFFINE)
    tables = {
        name: str(tmp_path / f"{name}.tsv")
        for name in ("voxels", "voxel_clusters", "voxel_regions", "voxel_exclusions")
    }
    study = asking(estimands=["difference_adjusted", "difference_of_change"])
    places = {image: str(tmp_path / image.path) for image in voxel_images(study.asked.group, SESSIONS)}
    withheld = VoxelImage("fear", "z", "difference_adjusted", "2")
    rest = {image: of for image, of in answer.images.items() if image != withheld}
    write_answer(answer._replace(images=rest), tables, places)
    written = set(map(str, (tmp_path / "group").rglob("*.*")))
    assert written == {str(tmp_path / path) for path in voxel_files(study.asked.group, SESSIONS)}
    empty = tmp_path / withheld.path
    assert empty.read_bytes() == b""
    image = nibabel.load(tmp_path / VoxelImage("fear", "effect", "difference_of_change", "3").path)
    assert int(image.header["sform_code"]) == 4
    np.testing.assert_allclose(image.affine, AFFINE)
    thresholded = VoxelImage("fear", "thresholded", "difference_adjusted", "3").path
    beside = json.loads((tmp_path / thresholded.replace(".nii.gz", ".json")).read_text(encoding="utf-8"))
    assert beside["Draws"] == 101
    assert (beside["Active"], beside["Level"], beside["Seed"]) == ("ketamine", 0.95, 1)


# Inputs that cannot be used (E11, E12)


def spoilt(scans, place, values, folder, **how):
    """The scans with the map of one of them written anew."""
    old = scans[place]
    return [
        *scans[:place],
        save_map(folder, old.participant_id, old.session_id, values, **how),
        *scans[place + 1 :],
    ]


def half_missing() -> np.ndarray:
    values = np.where(brain(), smooth(np.random.default_rng(1), SHAPE), np.nan)
    values[:9] = np.nan
    return values


@pytest.mark.parametrize(
    ("values", "how", "code", "says"),
    [
        (np.zeros(SHAPE), {}, "E-STAT-E12", "is zero or empty in every voxel"),
        (np.full(SHAPE, np.nan), {}, "E-STAT-E12", "is zero or empty in every voxel"),
        (np.ones(SHAPE), {}, "E-STAT-E12", "has one value in every voxel"),
        (half_missing(), {}, "E-STAT-E12", "% of the voxels that most maps cover"),
        (np.ones((4, 4, 4)), {}, "E-STAT-E11", "has the grid (4, 4, 4), the study (16, 18, 14)"),
        (half_missing(), {"affine": AFFINE + np.eye(4, k=3)}, "E-STAT-E11", "1 mm off the study's"),
    ],
)
def test_a_map_that_cannot_be_compared_is_out_with_its_reason(scans, values, how, code, says, tmp_path):
    found = read_images(spoilt(scans, 4, values, tmp_path, **how))
    (row,) = found.left_out
    assert (row.participant_id, row.session_id, row.code) == (
        scans[4].participant_id,
        scans[4].session_id,
        code,
    )
    assert says in row.reason
    assert "Fix: " in row.reason
    assert len(found.of) == len(scans) - 1


def test_a_damaged_file_and_the_empty_file_of_an_excluded_scan(scans, tmp_path):
    damaged, empty = tmp_path / "damaged.nii.gz", tmp_path / "empty.nii.gz"
    damaged.write_bytes(scans[0].effect.read_bytes()[:2000])
    empty.write_bytes(b"")
    some = [replace(scans[0], effect=damaged), replace(scans[1], effect=empty), *scans[2:]]
    found = read_images(some)
    assert [row.code for row in found.left_out] == ["E-STAT-E11"]
    assert len(found.of) == len(scans) - 2


def test_a_left_out_map_is_a_missed_visit_and_stands_in_the_table(scans, tmp_path):
    found = compare(
        asking(permutations=0), {"fear": read_images(spoilt(scans, 4, np.zeros(SHAPE), tmp_path))}
    )
    assert found.exclusions["code"].tolist() == ["E-STAT-E12"]
    before = compare(asking(permutations=0), {"fear": read_images(scans)}).voxels
    fewer = before[["n_active", "n_control"]].sum(axis=1) - found.voxels[["n_active", "n_control"]].sum(
        axis=1
    )
    assert fewer.sum() == (before["session"] == scans[4].session_id).sum()


def test_voxels_that_too_few_maps_of_an_arm_and_visit_cover_are_not_compared(scans, tmp_path):
    """A voxel missing in one of seven maps is out at 0.9 and in at 0.8, where its visit is left out."""
    values = np.where(brain(), smooth(np.random.default_rng(2), SHAPE), np.nan)
    values[8, 9, 7] = np.nan
    images = read_images(spoilt(scans, 0, values, tmp_path))
    strict, lenient = (
        compare(asking(permutations=0, min_coverage=share), {"fear": images}) for share in (0.9, 0.8)
    )
    mask = VoxelImage("fear", "mask")
    coverage, _, _ = strict.images[VoxelImage("fear", "coverage")]
    assert coverage[8, 9, 7] == pytest.approx(6 / 7)
    assert strict.images[mask][0][8, 9, 7] == 0
    assert lenient.images[mask][0][8, 9, 7] == 1
    assert lenient.voxels["n_patterns"].unique().tolist() == [2]
    z = VoxelImage("fear", "z", "difference_adjusted", "2")
    inside = np.isfinite(strict.images[z][0])
    # the covariance that voxels share moves in the last digits alone
    np.testing.assert_allclose(lenient.images[z][0][inside], strict.images[z][0][inside], atol=0.01)
    assert np.isfinite(lenient.images[z][0][8, 9, 7])


def test_runs_of_a_session_are_weighted_by_their_variances(tmp_path):
    values = np.where(brain(), smooth(np.random.default_rng(3), SHAPE), np.nan)
    other = values + 3
    other[8, 9, 7] = np.nan
    runs = [
        save_map(tmp_path, "sub-01", "1", values, run="1", variance=1.0),
        save_map(tmp_path, "sub-01", "1", other, run="2", variance=2.0),
    ]
    images = read_images(runs)
    found = images.values(np.ones(SHAPE, dtype=bool), ["sub-01"], ["1"])[0, 0].reshape(SHAPE)
    expected = values + 1  # a third of the weight is the second run's
    expected[8, 9, 7] = values[8, 9, 7]
    np.testing.assert_allclose(found[brain()], expected[brain()], rtol=1e-4, atol=1e-5)
    assert np.isnan(found[~brain()]).all()


def test_a_visit_with_one_map_of_an_arm_has_no_answer_and_says_why(scans):
    last_seen = next(
        scan.participant_id for scan in scans if scan.session_id == "3" and int(scan.participant_id[-2:]) % 2
    )
    keep = [
        scan
        for scan in scans
        if scan.session_id != "3"
        or int(scan.participant_id[-2:]) % 2 == 0
        or scan.participant_id == last_seen
    ]
    found = compare(asking(permutations=0), {"fear": read_images(keep)}).voxels
    last = found[found["session"] == "3"]
    assert not last["reported"].any()
    assert last["reason"].str.contains("two maps per arm are needed, there are 1 active").all()
    assert found[found["session"] == "2"]["reported"].all()


def test_no_voxel_in_common_is_said_once_per_map(tmp_path):
    everywhere = simulate_maps(tmp_path, n=6)
    halves = []
    for scan in everywhere:
        values = np.where(brain(), smooth(np.random.default_rng(len(halves)), SHAPE), np.nan)
        values[(slice(0, 8) if int(scan.participant_id[-2:]) % 4 < 2 else slice(8, None))] = np.nan
        halves.append(save_map(tmp_path, scan.participant_id, scan.session_id, values))
    images = read_images(halves)
    images = replace(images, left_out=[])
    found = compare(asking(6, permutations=0), {"fear": images}).voxels
    assert not found["reported"].any()
    assert (
        found["reason"].str.contains("no voxel is covered").all()
        or found["reason"].str.contains("maps per arm").all()
    )


def test_exact_tests_of_a_small_trial_say_so(tmp_path):
    found = compare(asking(6), {"fear": read_images(simulate_maps(tmp_path, n=6, seed=4))}).voxels
    tested = found[found["method"] == "mmrm"]
    assert tested["exact"].all()
    assert (tested["n_draws"] == math.comb(6, 3)).all()
    # the mirror of every allocation has the same |z|: no p below 2 / 20
    assert (tested["p_tfce"] >= 0.1 - 1e-9).all()


# Settings


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"contrasts": ["trauma-neutral"]}, r"group\.voxels\.contrasts.*trauma-neutral"),
        ({"regions": ["amigdala"]}, r"group\.voxels\.regions.*amigdala"),
        ({"permutations": 50}, r"group\.voxels\.permutations: got 50"),
        ({"estimands": ["change_active"]}, "change_active"),
    ],
)
def test_a_study_file_cannot_ask_for_voxels_that_it_does_not_make(changed, says):
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    raw["group"]["voxels"] |= changed
    with pytest.raises(ValueError, match=says):
        parse_config(raw)


def test_a_table_of_measures_has_no_voxels(tmp_path):
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "table.yaml"
    path.write_text(
        yaml.safe_dump({key: raw[key] for key in ("name", "sessions", "group")}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="a table of measures has no maps"):
        load_trial(path, {})


# The page


@pytest.fixture(scope="module")
def block(answer, tmp_path_factory):
    """The section of the page, of the images on disk; that of session 3 is missing."""
    folder = tmp_path_factory.mktemp("images")
    files = []
    for image, (values, affine, _) in answer.images.items():
        files.append(folder / image.name)
        nibabel.save(nibabel.Nifti1Image(values, affine), files[-1])
        if image.session == "3":
            files[-1].write_bytes(b"")
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    names = next(item for item in questions.registered() if item.name == "voxels").tables
    tables = dict(zip(names, answer.tables, strict=True))
    return voxels(SimpleNamespace(study=parse_config(raw), tables=tables, voxel_images=files))


def test_the_page_shows_each_map_with_its_numbers_and_clusters(block, answer):
    first, second = block["voxel_maps"]
    assert [len(part["pictures"]) for part in (first, second)] == [1, 1]
    assert first["pictures"][0]["open"]
    assert "ketamine arm" in first["pictures"][0]["caption"]
    assert [row["session"] for row in first["rows"]] == ["end of treatment", "30 days"]
    assert first["clusters"][0]["direction"] == "lower"
    assert {row["inference"] for row in first["clusters"]} == {"TFCE", "cluster mass"}
    reasons = [row["reason"] for row in first["regions"] if row["region"] == "corner"]
    assert all("no voxel of the region" in reason for reason in reasons)
    assert "101 allocations (draws)" in block["voxel_note"]


def test_a_map_is_drawn_in_the_colours_of_its_signs():
    """Blue where the active arm is lower, on the glass brain and in the cuts; nothing where z is zero."""
    from reconfmri.templates import target_brain

    grid, affine = np.zeros((53, 67, 57), dtype=np.float32), np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = (-78, -118.5, -79)
    brain_image = nibabel.load(target_brain())

    def pixels(values: np.ndarray, marked: np.ndarray | None) -> np.ndarray:
        figure = difference_map(nibabel.Nifti1Image(values, affine), marked, brain_image)
        drawn = np.asarray(Image.open(io.BytesIO(to_png(figure, dpi=60))).convert("RGB"), dtype=int)
        return drawn[:, : int(0.9 * drawn.shape[1])]  # without the colour bar

    blob = grid.copy()
    blob[18:26, 34:44, 20:28] = -5.0
    blue = [
        int(((of[..., 2] - of[..., 0]) > 60).sum()) for of in (pixels(grid, None), pixels(blob, blob < 0))
    ]
    red = int(((pixels(-blob, None)[..., 0] - pixels(-blob, None)[..., 2]) > 60).sum())
    assert blue[0] == 0
    assert min(blue[1], red) > 300


# Calibration; the whole of it: python -m tests.validate.voxels


@pytest.mark.parametrize("covariance", ["reference", "growing"])
def test_a_voxel_without_effect_is_called_different_as_often_as_alpha_says(covariance):
    """4 patterns of 1,500 voxels: a standard error of 0.3 % at three visits; bounds catch faults only."""
    found = calibration.rejections(covariance, "7, 20, 33 %", effect=0.0, size=(4, 1500), seed=1)
    assert ((found.mmrm > 0.035) & (found.mmrm < 0.065)).all()
    assert ((found.ancova > 0.035) & (found.ancova < 0.065)).all()


def test_a_brain_without_effect_is_rarely_significant():
    """Twenty trials at .05: six or more happen in one of three thousand runs, and the seed is fixed."""
    for p in calibration.whole_brain(20, 39, seed=1).values():
        assert (p <= 0.05).sum() <= 5
        assert 0.25 < p.mean() < 0.8


def test_the_ancova_beside_it_is_that_of_the_regions():
    random = np.random.default_rng(1)
    values, baseline = random.normal(size=(2, 27, 5))
    found = calibration.ancova_p(values, baseline, calibration.ACTIVE)
    given = [ancova_design(baseline[:, i], calibration.ACTIVE, (-1.0, 1.0)) for i in range(5)]
    expected = [least_squares(values[:, i], *given[i]).p for i in range(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
