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

from reconfmri import figures
from reconfmri.config import parse_config
from reconfmri.figures import images, labels, style, trial
from reconfmri.figures.scans import EDGE, MARGIN_MM, OUTLINE, PIXEL_MM

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


def pixels(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(picture.convert("RGB")).astype(int) - colour == 0).all(axis=-1)


def size_of(picture: Image.Image) -> int:
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return len(buffer.getvalue())


def third_axial_tile(picture: Image.Image, mask) -> np.ndarray:
    """The tile at 55 % of the mask's height, without its border; tiles across x share one width."""
    world = np.argwhere(np.asarray(mask.dataobj)) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    width = len(np.arange(world[:, 0].min() - MARGIN_MM, world[:, 0].max() + MARGIN_MM, PIXEL_MM)) + 2
    return np.asarray(picture.convert("RGB")).astype(int)[:, 2 * width + 1 : 3 * width - 1]


def test_the_outline_is_the_rim_of_the_mask():
    """At z = 5.7 mm it is 2 x 66 x sqrt(1 - (5.7 / 60)^2) = 131 mm wide, two voxels off at most."""
    image, mask = head()
    tile = third_axial_tile(figures.mask_outlines(image, mask), mask)
    columns = np.flatnonzero((tile == OUTLINE).all(axis=-1).any(axis=0))
    assert (columns[-1] - columns[0]) * PIXEL_MM == pytest.approx(131, abs=6)
    empty = nibabel.Nifti1Image(np.zeros((61, 61, 61), np.uint8), mask.affine)
    with pytest.raises(ValueError, match="empty"):
        figures.mask_outlines(image, empty)


@pytest.mark.parametrize("flip", [False, True])
def test_the_left_of_a_person_is_on_the_left_whatever_the_storage_order(flip):
    image, mask = head(flip=flip)
    tile = third_axial_tile(figures.mask_outlines(image, mask), mask)
    gray = np.where((tile == tile[..., :1]).all(axis=-1), tile[..., 0], 0)
    bright = np.argwhere(gray > 0.8 * gray.max())[:, 1]
    assert (bright.mean() - tile.shape[1] / 2) * PIXEL_MM == pytest.approx(20, abs=3)  # the core's 20 mm


def test_edges_follow_the_transform():
    """The moving head lies 24 mm to the right; with its transform its rim falls on the still head's rim."""
    still, mask = head()
    moving, moving_mask = head(shift_mm=24.0)
    matrix = np.eye(4)
    matrix[0, 3] = -24.0
    right = figures.registration_edges(still, moving, within=moving_mask, moving_to_background=matrix)
    same = figures.registration_edges(still, still, within=mask)
    assert right.size == same.size
    shared = pixels(right, EDGE) & pixels(same, EDGE)
    assert shared.sum() > 0.6 * pixels(same, EDGE).sum()  # noise differs, the anatomy's edges do not


def test_pictures_of_a_scan_are_light_and_quick():
    image, mask = head()
    started = time.process_time()
    outlines = figures.mask_outlines(image, mask)
    edges = figures.registration_edges(image, image, within=mask)
    both = figures.one_above_the_other([edges, edges], ["on the T1w", "on the template"])
    assert time.process_time() - started < 4.0  # under 1 s each on a quiet machine
    assert size_of(outlines) < 60_000
    assert size_of(both) < 60_000


def test_pictures_of_a_scan_need_neither_matplotlib_nor_pandas_nor_nilearn():
    heavy = ("matplotlib", "pandas", "nilearn", "scipy")
    code = f"import sys, reconfmri.figures; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_carpet_refuses_parts_that_do_not_belong_together():
    random = np.random.default_rng(0)
    signals = random.normal(size=(500, 80))
    picture = figures.carpet(signals, np.repeat([1, 2], 250), np.full(80, 0.1))
    assert size_of(picture) < 120_000
    with pytest.raises(ValueError, match="displacements"):
        figures.carpet(signals, np.ones(500, int), np.zeros(79))


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
        row = {"outcome": outcome, "session": "2", "unit": unit, "status": "ok"} | numbers
        rows += [
            row | {"estimand": estimand, "method": method}
            for estimand in study.group.estimands
            for method in ("bayes", "welch")
        ]
    return pd.DataFrame(rows).assign(**changes)


def test_the_forest_draws_estimates_in_multiples_of_the_unit_s_scale(study):
    figure = trial.forest(estimates_of(study), study, session="2")
    points = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() in ("o", "s")]
    assert len(points) == 2 * len(study.group.outcomes)
    np.testing.assert_allclose(points, -0.5)


def test_a_withheld_estimate_is_named_in_the_forest(study):
    missing = {"estimate": np.nan, "lower": np.nan, "upper": np.nan, "status": "not reported: 2 people"}
    figure = trial.forest(estimates_of(study, **missing), study, session="2")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("not reported") == len(study.group.outcomes)


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


def test_numbers_have_the_digits_of_their_unit():
    assert labels.number(-0.3456, "percent signal change") == "−0.35"
    assert labels.number(-8.26, "PCL-5 points") == "−8.3"
    assert labels.number(-0.001, "Fisher z") == "0.00"
    assert labels.number(float("nan")) == "–"
    assert labels.p_text(0.0004) == "< 0.001"
    assert labels.probability_text(0.9996) == "> 0.999"
