"""Figures: they show what they were given, stay light and quick, and never read a label as markup."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from scipy import ndimage

from reconfmri.config import parse_config
from reconfmri.figures import carpet as carpets
from reconfmri.figures import habituation, images, labels, scans, slices, style, trial
from reconfmri.figures.scans import EDGE, OUTLINE
from reconfmri.figures.slices import MARGIN_MM, PIXEL_MM
from reconfmri.registration import Volume

CONFIG = Path(__file__).parents[1] / "config" / "config.yaml"


@pytest.fixture(scope="module")
def study():
    return parse_config(yaml.safe_load(CONFIG.read_text(encoding="utf-8")))


def head(*, shift_mm: float = 0.0, flip: bool = False):
    """An ellipsoid with a bright core at +20 mm (the person's right), 3 mm voxels, with its mask."""
    affine = np.diag([-3.0 if flip else 3.0, 3, 3, 1])
    affine[:3, 3] = (90 if flip else -90, -90, -90)
    grid = np.moveaxis(np.indices((61, 61, 61)), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    grid = grid - np.array([shift_mm, 0, 0])
    inside = ((grid / np.array([66, 80, 60])) ** 2).sum(axis=-1) < 1
    core = ((grid - np.array([20, 0, 0])) ** 2).sum(axis=-1) < 18**2
    random = np.random.default_rng(1)
    data = 400 * inside + 300 * core + random.normal(0, 20, inside.shape)
    return nibabel.Nifti1Image(data, affine), nibabel.Nifti1Image(inside.astype(np.uint8), affine)


def pixels(figure, colour: tuple[int, int, int], *, strip: int = 0) -> np.ndarray:
    """Where a strip of a figure has exactly this colour."""
    return (figure.axes[strip].images[0].get_array() == colour).all(axis=-1)


def axial_tile(figure, mask, *, place: int) -> np.ndarray:
    """One of the last three tiles, without its border; tiles across x share one width."""
    world = np.argwhere(np.asarray(mask.dataobj)) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    width = len(np.arange(world[:, 0].min() - MARGIN_MM, world[:, 0].max() + MARGIN_MM, PIXEL_MM)) + 2
    row = np.asarray(figure.axes[0].images[0].get_array())
    right = row.shape[1] - (2 - place) * width
    return row[:, right - width + 1 : right - 1]


def test_the_outline_is_the_rim_of_the_mask():
    """At 45 % of the height, z = -6 mm, it is 2 x 66 x sqrt(1 - (6 / 60)^2) = 131 mm wide."""
    image, mask = head()
    tile = axial_tile(scans.mask_outlines(image, mask), mask, place=1)
    columns = np.flatnonzero((tile == OUTLINE).all(axis=-1).any(axis=0))
    assert (columns[-1] - columns[0]) * PIXEL_MM == pytest.approx(131, abs=4)
    empty = nibabel.Nifti1Image(np.zeros((61, 61, 61), np.uint8), mask.affine)
    with pytest.raises(ValueError, match="empty"):
        scans.mask_outlines(image, empty)


@pytest.mark.parametrize("flip", [False, True])
def test_the_left_of_a_person_is_on_the_left_whatever_the_storage_order(flip):
    image, mask = head(flip=flip)
    tile = axial_tile(scans.mask_outlines(image, mask), mask, place=1).astype(int)
    gray = np.where((tile == tile[..., :1]).all(axis=-1), tile[..., 0], 0)
    bright = np.argwhere(gray > 0.8 * gray.max())[:, 1]
    assert (bright.mean() - tile.shape[1] / 2) * PIXEL_MM == pytest.approx(20, abs=3)  # the core's 20 mm


def test_edges_follow_the_transform():
    """The moving head lies 24 mm to the right; with its transform its rim falls on the still head's rim."""
    still, mask = head()
    moving, moving_mask = head(shift_mm=24.0)
    matrix = np.eye(4)
    matrix[0, 3] = -24.0
    frame = slices.bounds(mask)
    right = scans.registration_edges(
        still, moving, within=moving_mask, moving_to_background=matrix, frame=frame
    )
    wrong = scans.registration_edges(still, moving, within=moving_mask, frame=frame)
    same = scans.registration_edges(still, still, within=mask, frame=frame)
    expected = pixels(same, EDGE)
    shared = (pixels(right, EDGE) & expected).sum()
    assert shared > 0.6 * expected.sum()  # noise differs, the anatomy's edges do not
    assert (pixels(wrong, EDGE) & expected).sum() < 0.3 * shared


def test_far_from_the_brain_nothing_is_drawn():
    """A bright nose 40 mm before the brain is in the image and not in the picture of the report."""
    image, mask = head()
    data = np.asarray(image.dataobj).copy()
    world = np.moveaxis(np.indices(data.shape), 0, -1) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    nose = ((world - np.array([0, 100, -20])) ** 2).sum(axis=-1) < 12**2
    wide = np.asarray(mask.dataobj).copy()
    drawn_without = scans.mask_outlines(nibabel.Nifti1Image(data, mask.affine), mask)
    data[nose] = 690
    drawn_with = scans.mask_outlines(nibabel.Nifti1Image(data, mask.affine), mask)
    same = drawn_with.axes[0].images[0].get_array() == drawn_without.axes[0].images[0].get_array()
    assert same.all()
    wide[nose] = 1
    seen = scans.mask_outlines(nibabel.Nifti1Image(data, mask.affine), nibabel.Nifti1Image(wide, mask.affine))
    assert seen.axes[0].images[0].get_array().shape != drawn_with.axes[0].images[0].get_array().shape


def regions_of(mask) -> nibabel.Nifti1Image:
    """Two boxes on the head: right at x 18 to 30 mm, left at x -30 to -18 mm."""
    data = np.zeros((*mask.shape, 2), np.uint8)
    data[36:41, 28:34, 25:30, 0] = 1
    data[20:25, 28:34, 25:30, 1] = 1
    return nibabel.Nifti1Image(data, mask.affine)


def test_cuts_show_every_region_and_lie_apart():
    _, mask = head()
    places = slices.places_through(np.asarray(regions_of(mask).dataobj), mask.affine)
    assert any(18 <= place <= 30 for place in places["sagittal"])
    assert any(-30 <= place <= -18 for place in places["sagittal"])
    for found in places.values():
        assert len(found) == 3
        assert (np.diff(found) >= slices.APART_MM).all()
        assert min(found) > -90, "no cut beside the brain"


def test_temporal_snr_is_drawn_where_it_is_low_and_regions_are_outlined():
    """A dark right half is dark on the right of the bright left half, and says so in the colours."""
    _, mask = head()
    inside = np.asarray(mask.dataobj) > 0
    x = np.argwhere(inside)[:, 0] * 3 - 90
    regions = regions_of(mask)
    figure = scans.tsnr_map(np.where(x > 0, 20.0, 80.0), mask, regions, {"both": [0, 1]})
    row, bar = figure.axes
    picture = np.asarray(row.images[0].get_array()).astype(int)
    assert bar.get_ylim() == (0, scans.TSNR_TOP)
    lit = picture[:, -180:].sum(axis=-1)  # the last axial cut
    bright = np.flatnonzero(((lit > 250) & (lit < 700)).any(axis=0))
    dark = np.flatnonzero(((lit > 0) & (lit < 250)).any(axis=0))
    assert bright.max() < dark.max()
    assert bright.mean() < dark.mean()
    assert (picture == 255).all(axis=-1).sum() > 100
    with pytest.raises(ValueError, match="voxels of the mask"):
        scans.tsnr_map(np.ones(3), mask, regions, {"both": [0, 1]})


def test_a_person_s_regions_lie_where_the_map_puts_them():
    """The head lies 24 mm to the right of the template: the map brings its bright core under the region."""
    image, mask = head(shift_mm=24.0)
    template, _ = head()
    regions = np.zeros((*mask.shape, 1), np.uint8)
    regions[33:41, 26:34, 26:34] = 1  # around (20, 0, 0) mm of the template, the core
    grid = np.moveaxis(np.indices((13, 15, 14)), 0, -1) * 13.0 + np.array([-80, -110, -75])
    affine = np.diag([13.0, 13, 13, 1])
    affine[:3, 3] = (-80, -110, -75)
    to_t1w = Volume((grid + np.array([24.0, 0, 0])).astype(np.float32), affine)
    dseg = nibabel.Nifti1Image(np.asarray(mask.dataobj) * 2, mask.affine)
    figure = scans.anatomy(
        image, mask, dseg, to_t1w, nibabel.Nifti1Image(regions, mask.affine), {"core": [0]}, template
    )
    assert [axes.get_label() for axes in figure.axes] == ["T1w", "tissue", "T1w on the template"]
    assert pixels(figure, OUTLINE, strip=0).any()
    assert pixels(figure, scans.WHITE_MATTER, strip=1).any()
    picture = np.asarray(figure.axes[2].images[0].get_array()).astype(int)
    region = (picture == (255, 138, 122)).all(axis=-1)
    core = ndimage.binary_fill_holes(region) & ~ndimage.binary_dilation(region, iterations=2)
    assert core.sum() > 200
    gray = picture[..., 0][(picture == picture[..., :1]).all(axis=-1)]
    assert picture[core].mean() > 0.8 * gray.max()


def course(n: int = 120, *, outlier: int = 70, unsteady: int = 2, events=None) -> carpets.Course:
    displacement, dvars = np.full(n, 0.1), np.full(n, 1.0)
    displacement[0] = dvars[0] = np.nan
    displacement[outlier], dvars[1] = 1.4, 30.0
    return carpets.Course(
        2.0, displacement, dvars, np.arange(n) == outlier, np.arange(n) < unsteady,
        events="no events" if events is None else events,
    )  # fmt: skip


def carpet_rows(n: int = 120) -> carpets.Carpet:
    random = np.random.default_rng(0)
    signals = 100 + random.normal(size=(60, n)) + np.arange(n) * 0.5
    return carpets.Carpet(signals, np.repeat([1, 2, 3], [30, 20, 10]))


def test_a_motion_outlier_is_marked_at_its_place_above_the_carpet():
    figure = carpets.carpet(carpet_rows(), course(outlier=70, unsteady=2))
    moved, jumped, marks, rows, _events = figure.axes
    assert all(axes.get_xlim() == (0, 240) for axes in figure.axes)
    red, grey = (collection.get_paths() for collection in marks.collections)
    assert [tuple(path.get_extents().intervalx) for path in red] == [(140, 142)]
    assert [tuple(path.get_extents().intervalx) for path in grey] == [(0, 2), (2, 4)]
    peak = moved.lines[1].get_xdata()[np.nanargmax(moved.lines[1].get_ydata())]
    assert peak == 141
    assert jumped.get_ylim()[1] == 2.0, "a volume before the steady state does not set the scale"
    assert moved.texts[0].get_text() == "mean 0.11, 1 of 119 above 0.5"
    assert tuple(rows.images[0].get_extent()) == (0, 240, 60, 0)
    assert [tick.get_text() for tick in rows.get_yticklabels()] == ["grey", "white", "fluid"]


def test_events_stand_beneath_the_carpet_coloured_by_condition():
    events = pd.DataFrame(
        {"onset": [10.0, 60, 100], "duration": [20.0, 20, 0], "condition": ["trauma", "neutral", "trauma"]}
    )
    figure = carpets.carpet(carpet_rows(), course(events=events))
    drawn = figure.axes[4].collections
    assert len(drawn) == 2
    spans = {
        tuple(np.round(item.get_facecolor()[0], 3)): [
            tuple(p.get_extents().intervalx) for p in item.get_paths()
        ]
        for item in drawn
    }
    assert sorted(spans.values()) == [[(10, 30), (100, 100.48)], [(60, 80)]]  # an impulse is 0.2 % wide
    said = [text.get_text() for text in figure.texts]
    assert {"trauma", "neutral"} <= set(said)
    empty = carpets.carpet(carpet_rows(), course(events="events not drawn: E-DATA-B14")).axes[4]
    assert [text.get_text() for text in empty.texts] == ["events not drawn: E-DATA-B14"]


def test_a_spike_is_bright_at_its_column_and_the_start_does_not_dim_the_rest():
    rows = carpet_rows()
    signals = rows.signals.copy()
    signals[:, 70] += 20
    signals[:, :2] += 500
    shown = carpets.standardised(signals, np.arange(120) >= 2)
    means = shown.mean(axis=0)
    assert means[2:].argmax() == 68
    assert shown[:, 2:].std() == pytest.approx(1, abs=0.02)
    assert abs(np.polynomial.polynomial.polyfit(np.arange(118), means[2:], 1)[1]) < 0.01


def test_a_carpet_does_not_grow_with_the_run():
    long = np.random.default_rng(1).normal(size=(10, 3001))
    long[:, 1500:1503] += 40
    shown = carpets.standardised(long, np.ones(3001, bool))
    assert shown.shape == (10, 1200)
    assert shown.mean(axis=0).argmax() == pytest.approx(1501 / 3001 * 1200, abs=1)


def test_a_carpet_takes_neighbours_of_every_tissue():
    tissue = np.zeros((12, 12, 12), np.uint8)
    tissue[2:10, 2:10, 2:10] = 1
    tissue[4:8, 4:8, 4:8] = 2
    tissue[5:7, 5:7, 5:7] = 3
    mask = nibabel.Nifti1Image((tissue > 0).astype(np.uint8), np.eye(4))
    voxels, rows = carpets.carpet_voxels(mask, nibabel.Nifti1Image(tissue, np.eye(4)))
    of_mask = tissue[tissue > 0]
    assert voxels.shape == (len(rows), 8)
    assert (np.diff(rows) >= 0).all()
    np.testing.assert_array_equal(of_mask[voxels[:, 0]], rows)
    assert set(rows) == {1, 2, 3}
    assert len(np.unique(voxels)) == voxels.size


def test_a_carpet_refuses_parts_that_do_not_belong_together():
    with pytest.raises(ValueError, match="displacements"):
        carpets.carpet(carpet_rows(n=119), course(n=120))


def test_pictures_of_a_scan_are_light_and_quick():
    image, mask = head()
    inside = np.asarray(mask.dataobj) > 0
    started = time.process_time()
    drawn = [
        scans.mask_outlines(image, mask),
        scans.registration_edges(image, image, within=mask),
        scans.tsnr_map(np.full(inside.sum(), 50.0), mask, regions_of(mask), {"both": [0, 1]}),
        carpets.carpet(carpet_rows(), course()),
    ]
    files = [style.light_png(figure) for figure in drawn]
    assert time.process_time() - started < 4.0  # about 1 s on a quiet machine
    assert max(map(len, files)) < 120_000
    for figure, file in zip(drawn, files, strict=True):
        picture = Image.open(io.BytesIO(file))
        assert picture.size == tuple(np.round(figure.get_size_inches() * 100))
        assert picture.size[0] > 1100


def test_importing_the_pictures_of_a_scan_loads_nothing_heavy():
    heavy = ("matplotlib", "nilearn", "nipype", "scipy")
    code = f"import sys, reconfmri.figures.scans; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_intervals_are_student_s():
    """Against scipy's own t interval; gaps are left out; one person has no interval."""
    from scipy import stats

    values = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan], [5.0, 4.0, 7.0]])
    mean, half = trial.mean_and_interval(values, 0.9)
    for column, expected in ((0, values[:, 0]), (1, values[[0, 2], 1])):
        low, high = stats.t.interval(0.9, len(expected) - 1, expected.mean(), stats.sem(expected))
        assert mean[column] == pytest.approx(expected.mean())
        assert half[column] == pytest.approx((high - low) / 2)
    assert mean[2] == 7.0
    assert np.isnan(half[2])


def estimates_of(study, **changes) -> pd.DataFrame:
    rows = []
    for outcome in study.group.outcomes:
        unit = study.outcome_units()[outcome]
        scale = study.group.scales[unit]
        numbers = {"estimate": -0.5 * scale, "lower": -scale, "upper": 0.0}
        row = {
            "outcome": outcome,
            "session": "2",
            "unit": unit,
            "status": "ok",
            "is_primary": False,
        } | numbers
        rows += [
            row | {"estimand": estimand, "method": method}
            for estimand in study.group.estimands
            for method in ("bayes", "welch")
        ]
    return pd.DataFrame(rows).assign(**changes)


def test_the_forest_draws_estimates_in_multiples_of_the_unit_s_scale(study):
    figure = trial.forest(estimates_of(study), study.trial, session="2")
    points = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() in ("o", "s")]
    assert len(points) == 2 * len(study.group.outcomes)
    np.testing.assert_allclose(points, -0.5)


def test_a_withheld_estimate_is_named_in_the_forest(study):
    missing = {"estimate": np.nan, "lower": np.nan, "upper": np.nan, "status": "not reported: 2 people"}
    figure = trial.forest(estimates_of(study, **missing), study.trial, session="2")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("not reported") == len(study.group.outcomes)


def test_brain_body_and_symptoms_share_an_axis_in_multiples_of_the_unit_s_scale(study):
    """A panel each, their outcomes in the study's order; the primary estimand at the primary visit alone."""
    table = estimates_of(study)
    table["domain"] = [study.outcomes[name].domain for name in table["outcome"]]
    table.loc[table["estimand"] != study.group.primary.estimand, "estimate"] = 99.0
    kinds = trial.kinds_of(table, study.trial)
    assert list(kinds) == ["Brain", "Body", "Symptoms"]
    assert [name for names in kinds.values() for name in names] == study.group.modelled
    figure = trial.side_by_side(table, study.trial)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(kinds)
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    for axes, outcomes in zip(figure.axes, kinds.values(), strict=True):
        points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() in ("o", "s")]
        np.testing.assert_allclose(points, [-0.5] * (2 * len(outcomes)))
        assert len(axes.get_yticklabels()) == len(outcomes)
    assert trial.kinds_of(table[table["domain"] == "clinical"], study.trial) == {
        "Symptoms": kinds["Symptoms"]
    }


def test_the_edge_matrix_shows_each_pair_once(study):
    figure = trial.edge_matrix(estimates_of(study), study, condition="trauma")
    assert len(figure.axes[0].texts) == len(study.connectivity.pairs)


def test_labels_are_never_read_as_formulas_or_markup(study):
    evil = "<script>$a_{b$</script>"
    raw = study.model_dump(mode="json")
    raw["sessions"][1]["name"] = evil
    text = style.to_svg(trial.timeline(parse_config(raw), {"ketamine": 12, "midazolam": 11}))
    root = ET.fromstring(text)  # noqa: S314 - made here
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert evil in "".join(root.itertext())


def test_an_svg_holds_no_style_that_a_strict_policy_would_block(study):
    text = style.to_svg(trial.timeline(study, {}))
    assert "style=" not in text
    assert "<style" not in text
    assert "http" not in text.replace("http://www.w3.org/", "")


def test_the_same_figure_is_the_same_text(study):
    one, other = (style.to_svg(trial.timeline(study, {"ketamine": 3})) for _ in range(2))
    assert one == other


def test_regions_are_cut_where_they_are_largest():
    data = np.zeros((40, 40, 40, 2), np.uint8)
    data[10:14, 30, 5:15, 0] = 1
    data[20:30, 8, 20:24, 1] = 1
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = -60
    brain = nibabel.Nifti1Image(np.full((40, 40, 40), 100.0), affine)
    figure = images.regions_on_anatomy(nibabel.Nifti1Image(data, affine), {"one": [0], "two": [1]}, brain)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "y = 30 mm" in texts  # voxel 30 of -60 + 3 i
    assert "y = −36 mm" in texts


def test_the_design_is_drawn_against_seconds():
    design = pd.DataFrame({"trauma_1": [0.0, 1, 0, 0], "trauma_2": [0.0, 0, 1, 0], "constant": 1.0})
    figure = images.design_matrix(design, 2.5, task_columns=["trauma_1", "trauma_2"])
    upper, lower = figure.axes
    assert [line.get_xdata()[-1] for line in upper.lines] == [7.5, 7.5]
    assert tuple(lower.images[0].get_extent()) == (-0.5, 2.5, 10.0, 0.0)
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["trauma"]


def test_habituation_shows_the_mean_of_each_repetition_and_arm(study):
    people = {"sub-01": ("ketamine", 1.0), "sub-02": ("ketamine", 3.0), "sub-03": ("midazolam", 5.0)}
    rows = [
        (who, session, condition, number, level - number, arm)
        for who, (arm, level) in people.items()
        for session in ("1", "2")
        for condition in ("trauma", "neutral")
        for number in range(3)
    ]
    columns = ["participant_id", "session_id", "condition", "repetition", "value", "arm"]
    figure = habituation.habituation(pd.DataFrame(rows, columns=columns), study)
    assert len(figure.axes) == 2 * len(study.sessions), "a row per condition, a column per session"
    drawn = {bars.get_label(): bars.lines[0].get_ydata() for bars in figure.axes[0].containers}
    np.testing.assert_allclose(drawn["ketamine"], [2, 1, 0])
    np.testing.assert_allclose(drawn["midazolam"], [5, 4, 3])
    assert not figure.axes[2].containers, "nobody was seen at the third session"


@pytest.mark.parametrize(
    ("name", "spoken"),
    [
        ("amygdala.trauma_first-neutral_first", "Amygdala: trauma first − neutral first"),
        ("hippocampus-vmpfc.trauma", "Hippocampus – vmPFC: trauma"),
        ("vmpfc.trauma-neutral", "vmPFC: trauma − neutral"),
        ("scr.trauma_first", "Skin conductance: trauma first"),
        ("pcl5.total", "PCL-5 total"),
        ("fd.mean", "Mean framewise displacement"),
    ],
)
def test_outcomes_have_names_for_readers(name, spoken):
    assert labels.outcome_label(name) == spoken


@pytest.mark.parametrize(
    ("estimate", "lower", "upper", "unit", "text"),
    [
        (-0.3456, -0.61, -0.081, "percent signal change", "−0.35 [−0.61, −0.08]"),
        (0.0004, -0.001, 0.0018, "percent signal change", "0.0004 [−0.0010, 0.0018]"),
        (-0.03, -0.31, 0.25, "Fisher z", "−0.03 [−0.31, 0.25]"),
        (-2e-10, -3.14e-10, -8e-11, "Fisher z", "−2.0 × 10⁻¹⁰ [−3.1 × 10⁻¹⁰, −8.0 × 10⁻¹¹]"),
        (0.02, -0.1, 0.14, "PCL-5 points", "0.02 [−0.10, 0.14]"),
        (0.31, float("-inf"), float("inf"), "Fisher z", "0.31 (no bounded interval)"),
        (3.2e7, 3.1e7, 3.3e7, "Fisher z", "3.2 × 10⁷ [3.1 × 10⁷, 3.3 × 10⁷]"),
    ],
)
def test_an_interval_shows_two_digits_of_its_half_and_never_only_zeros(estimate, lower, upper, unit, text):
    row = {"estimate": estimate, "lower": lower, "upper": upper, "unit": unit}
    assert labels.number_with_ends(row).replace("\u00a0", " ") == text


def test_numbers_have_the_digits_of_their_unit():
    assert labels.number(-0.3456, "percent signal change") == "−0.35"
    assert labels.number(-8.26, "PCL-5 points") == "−8.3"
    assert labels.number(-0.001, "Fisher z", width=0.3) == "0.00"
    assert labels.number(float("nan")) == "–"
    assert labels.p_text(0.0004) == "< 0.001"
    assert labels.probability_text(0.9996) == "> 0.999"
