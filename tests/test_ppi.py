"""Deconvolution and generalised PPI: SPM's own numbers, and couplings that were planted."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from tests.validate.coupling import FALLING, PLANTED, Cell, design, estimates

from reconfmri.config import Task
from reconfmri.events import script_regressors
from reconfmri.signal.least_squares import fit_series
from reconfmri.signal.ppi import (
    BINS,
    Clock,
    convolved_cosines,
    deconvolve,
    fit_interactions,
    reconvolve,
    share_of_bins,
)
from reconfmri.signal.task_model import task_responses

BOUND = 1e-4  # of the largest value: SPM's own numbers are kept in single precision


def spm_case(folder, name):
    """One case of the reference, with SPM's confounds (cosines up to 1/128 Hz, the first constant)."""
    facts = json.loads((folder / f"{name}.json").read_text())
    n, tr = facts["N"], facts["TR"]
    read = {key: np.loadtxt(folder / f"{name}_{key}.tsv") for key in ("y", "u", "target")}
    response = np.loadtxt(folder / ("hrf_0p125.tsv" if tr == 2.0 else "hrf_0p0625.tsv"))
    orders = np.arange(int(2 * n * tr / 128 + 1))
    cosines = np.cos(np.pi / n * np.outer(np.arange(n) + 0.5, orders)) * np.sqrt(2 / n)
    cosines[:, 0] = 1 / np.sqrt(n)
    return facts, read, response, cosines


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_deconvolution_and_interactions_are_those_of_spm(reference_data, name, rho):
    """SPM samples the response at the first bin of a volume for the seed, and in its middle for the terms."""
    folder = reference_data / "spm_ppi"
    facts, read, response, cosines = spm_case(folder, name)
    n, middle = facts["N"], facts["T0"] - 1  # T0 counts bins from 1
    whitening = None
    if rho:
        lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        whitening = np.linalg.inv(np.linalg.cholesky(rho**lags))
    neural = deconvolve(read["y"][:, None], cosines, response, at=0, whitening=whitening)
    weights = np.array([[1, 0], [0, 1], [1, -1]])
    psychological = read["u"] @ weights.T
    terms = reconvolve((psychological - psychological.mean(axis=0)) * neural, response, at=middle)
    tag = f"{name}_w{1 if rho else 0}"
    theirs = np.loadtxt(folder / f"{tag}_xn.tsv")
    assert np.abs(neural[:, 0] - theirs).max() < BOUND * np.abs(theirs).max()
    scan = np.loadtxt(folder / f"{tag}_scan.tsv")[:, 1:4]
    assert np.abs(terms - scan).max() < BOUND * np.abs(scan).max()


@pytest.mark.parametrize(
    ("name", "expected"), [("a", (0.2415353, 0.0752300, 140)), ("b", (0.2790699, 0.0437464, 388))]
)
def test_the_whole_model_gives_the_contrast_of_spm(reference_data, name, expected):
    folder = reference_data / "spm_ppi"
    facts, read, response, cosines = spm_case(folder, name)
    neural = deconvolve(read["y"][:, None], cosines, response, at=0)
    boxes = read["u"] - read["u"].mean(axis=0)
    terms = reconvolve(boxes * neural, response, at=facts["T0"] - 1)
    scan = np.loadtxt(folder / f"{name}_w0_scan.tsv")
    design = np.column_stack([terms, scan[:, 0], scan[:, 4:6], cosines])
    [fit] = fit_series(read["target"][:, None], design, noise="ols")
    contrast = np.zeros(design.shape[1])
    contrast[:2] = 1, -1
    value, error = contrast @ fit.beta, np.sqrt(contrast @ fit.covariance @ contrast)
    assert (value, error) == pytest.approx(expected[:2], rel=2e-3)  # SPM's terms differ by up to 1e-4
    assert fit.df == expected[2]


@pytest.mark.parametrize("name", ["a", "b"])
def test_regressors_in_the_middle_of_a_volume_are_those_of_spm(reference_data, name):
    """SPM's boxes and response on its microtime grid, beside ours in closed form at that moment."""
    folder = reference_data / "spm_ppi"
    facts = json.loads((folder / f"{name}.json").read_text())
    rows = [(*times, str(condition)) for condition, times in facts["blocks"]]
    events = pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])
    task = Task(conditions={"0": "c1", "1": "c2"}, events="condition")
    step = facts["TR"] / facts["T"]
    ours = script_regressors(
        events, tr=facts["TR"], n_volumes=facts["N"], task=task, hrf="spm", start=(facts["T0"] - 1) * step
    )
    boxes = np.loadtxt(folder / f"{name}_u.tsv")
    response = np.loadtxt(folder / ("hrf_0p125.tsv" if name == "a" else "hrf_0p0625.tsv"))
    theirs = np.stack([np.convolve(box, response)[: len(box)] for box in boxes.T], axis=1)
    theirs = theirs[facts["T0"] - 1 :: facts["T"]]
    agreement = [np.corrcoef(ours[f"c{k + 1}"], theirs[:, k])[0, 1] for k in range(2)]
    assert min(agreement) > 0.9995, agreement


def test_cosines_convolved_by_rows_are_those_convolved_in_microtime():
    """The same by plain convolution of every cosine, over more volumes than one block of rows."""
    rng, n = np.random.default_rng(0), 70
    response = rng.normal(size=90)
    n_bins = 128 + n * BINS
    cosines = np.cos(np.pi / n_bins * np.outer(np.arange(n_bins) + 0.5, np.arange(n))) * np.sqrt(2 / n_bins)
    cosines[:, 0] /= np.sqrt(2)
    plain = np.stack([np.convolve(column, response)[:n_bins] for column in cosines.T], axis=1)
    ours = convolved_cosines(n, response, 5)
    np.testing.assert_allclose(ours, plain[128 + 5 :: BINS][:n], atol=1e-12)


# 20 people each, with the same random numbers in both cells: differences are precise to a few percent.
PEOPLE = 20


def test_a_planted_slope_is_what_it_is_without_noise():
    """At SNR 5; noise of the seed alone takes 1 / (1 + SNR^2), 4 %, and more where it is louder."""
    nothing, quiet, clean, noisy = (
        estimates(Cell("slope", snr=snr, added=added), 4 * PEOPLE, timing="short")
        for added in (0.0, PLANTED["added"])
        for snr in (np.inf, 5.0)
    )
    kept = (noisy - quiet).mean() / (clean - nothing).mean()
    assert ((kept > 0.9) & (kept < 1.05)).all(), kept
    assert 0.4 < (clean - nothing)["gppi"].mean() < 0.75  # planted: .5


def test_activation_that_falls_looks_like_connectivity_only_beside_one_box():
    """In SDs of people. Seen with 60 people: .05 with the default, .25 to .27 with a box per condition."""
    bias = {}
    for model, events in (("bins", "each"), ("events", "condition")):
        kind = {"model": model, "events": events}
        null, falling = (estimates(cell, PEOPLE, **kind) for cell in (Cell("n"), Cell("f", **FALLING)))
        bias[model] = ((falling - null).mean() / null.std()).abs()
    assert (bias["bins"] < 0.12).all(), bias
    assert (bias["events"][["correlation", "gppi"]] > 2 * bias["bins"][["correlation", "gppi"]]).all(), bias


def test_bins_of_the_task_model_sum_to_the_boxes_of_the_presentations():
    scripts = design(2.0)
    task = Task(conditions={"trauma": "trauma", "sad": "sad", "relax": "neutral"})
    kind = {"tr": 2.0, "n_volumes": scripts.n_volumes, "task": task, "length": 10.0}
    boxes = task_responses(scripts.events, model="events", **kind)
    both = task_responses(scripts.events, model="bins", **kind)
    # 13, 13 and 12 stretches of 10 s of scripts of 122.2, 122.8 and 115.8 s; one dependence per condition
    assert both.shape[1] == 9 + 13 + 13 + 12
    assert np.linalg.matrix_rank(both, tol=1e-6) == 9 + 13 + 13 + 12 - 3
    assert np.linalg.matrix_rank(np.hstack([both, boxes]), tol=1e-6) == np.linalg.matrix_rank(both, tol=1e-6)


def test_events_fill_their_share_of_microtime():
    clock = Clock(10, 2.0, start=1.0)
    events = design(2.0).events.iloc[:1].assign(onset=3.03, duration=4.5)
    share = share_of_bins(events, clock)
    assert share.sum() * clock.step == pytest.approx(4.5)
    assert share.max() == pytest.approx(1.0)
    assert clock.bin == 8


def test_conditions_without_time_between_them_have_differences_only():
    rng = np.random.default_rng(3)
    boxes = np.repeat(np.eye(2), 100, axis=0)[rng.permutation(200)]
    seed = rng.normal(size=200)
    terms = (boxes - boxes.mean(axis=0)) * seed[:, None]
    target = seed * (0.3 + 0.4 * boxes[:, 0]) + 0.1 * rng.normal(size=200)
    weights = np.array([[1, 1], [-1, 0]])
    values, errors, df = fit_interactions(target, seed, terms, np.ones((200, 1)), weights)
    assert values[0] == pytest.approx(0.4, abs=0.06)
    assert np.isnan([values[1], errors[1]]).all()
    assert df == 200 - 3
