"""Quality numbers are what was put in; each broken threshold is one fault with both numbers."""

from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest

from reconfmri.config import Quality
from reconfmri.exclusions import DataFault
from reconfmri.preprocess import PreprocessedRun
from reconfmri.quality import assess_run, read_series

T, SHAPE = 100, (8, 8, 8)
COVERAGE = pd.DataFrame({"region": ["a", "b"], "coverage": [1.0, 0.7], "tsnr": [50.0, 40.0]})


def run(folder, *, moved=0.1, noise=2.0, n=T, rows=T, bright=0):
    rng = np.random.default_rng(0)
    data = 100 + noise * rng.standard_normal((*SHAPE, n)) + 0.02 * np.arange(n)
    data[..., :bright] *= 2
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:6, 2:6, 2:6] = 1
    data[mask == 0] = 0
    for name, values in (("bold", data.astype(np.float32)), ("mask", mask)):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"{name}.nii.gz")
    displacement = ["n/a", *np.broadcast_to(moved, rows - 1)]
    lines = [f"{value}\t{'n/a' if i == 0 else 1.25}" for i, value in enumerate(displacement)]
    text = "\n".join(["framewise_displacement\tstd_dvars", *lines]) + "\n"
    (folder / "confounds.tsv").write_text(text, encoding="utf-8")
    files = [folder / name for name in ("bold.nii.gz", "mask.nii.gz", "confounds.tsv", "mask.nii.gz")]
    return PreprocessedRun(*files, metadata={"NonSteadyStateVolumes": bright})


def test_the_numbers_of_a_good_run(tmp_path):
    rows, faults = assess_run(run(tmp_path), COVERAGE, Quality())
    values = rows.set_index("outcome")["value"]
    assert not faults
    assert values["fd.mean"] == pytest.approx(0.1)
    assert values["fd.outlier_share"] == 0
    assert values["dvars.mean"] == 1.25
    assert values["coverage.lowest"] == 0.7
    # 101 / 2 = 50.5; the median of 64 voxels whose SD has 7 % error each.
    assert values["tsnr.median"] == pytest.approx(50.5, rel=0.04)
    assert rows.set_index("outcome")["unit"]["fd.mean"] == "mm"


def test_temporal_snr_is_that_of_the_dense_computation_and_skips_the_unsteady_start(tmp_path):
    scan = run(tmp_path, bright=3)
    data = np.asarray(nibabel.load(scan.bold).dataobj, dtype=float)[2:6, 2:6, 2:6].reshape(-1, T)[:, 3:]
    line = np.polynomial.polynomial.polyfit(np.arange(T - 3), data.T, 1)
    rest = data - np.polynomial.polynomial.polyval(np.arange(T - 3), line)
    found = read_series(scan)
    np.testing.assert_allclose(found.tsnr, data.mean(axis=1) / rest.std(axis=1), rtol=1e-5)
    assert found.median_tsnr == pytest.approx(np.median(found.tsnr))
    assert found.n_volumes == T
    assert found.median_tsnr > 3 * read_series(replace(scan, metadata={})).median_tsnr


def test_groups_of_voxels_are_averaged_while_the_run_is_read_once(tmp_path):
    scan = run(tmp_path, bright=3)
    data = np.asarray(nibabel.load(scan.bold).dataobj)[2:6, 2:6, 2:6].reshape(-1, T)
    groups = np.array([[5, 60], [0, 1]])
    kept = read_series(scan, keep=groups).kept
    np.testing.assert_allclose(kept, data[groups].mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("made", "settings", "code", "says"),
    [
        ({"moved": 0.8}, {"max_outlier_share": 1.0}, "E-DATA-B12", "0.80 mm > 0.5 mm"),
        ({"moved": np.r_[np.zeros(59), np.ones(40)]}, {}, "E-DATA-B12", "40 % of volumes.*30 %"),
        ({"noise": 20.0}, {}, "E-DATA-B04", "temporal SNR 5.* < 10"),
        ({"noise": 0.0}, {"min_tsnr": 0.0}, "E-DATA-B04", "no voxel"),
        ({"n": 30, "rows": 30}, {}, "E-DATA-B05", "30 volumes, at least 40"),
    ],
    ids=["mean", "share", "noise", "flat", "short"],
)
def test_a_broken_threshold_is_one_fault_with_both_numbers(tmp_path, made, settings, code, says):
    scan = run(tmp_path, **made)
    if made.get("noise") == 0.0:
        nibabel.save(nibabel.Nifti1Image(np.full((*SHAPE, T), 7, np.float32), np.eye(4)), scan.bold)
    rows, faults = assess_run(scan, COVERAGE, Quality(**settings))
    assert [fault.code for fault in faults] == [code]
    assert len(rows) == 5, "the numbers of an excluded run are kept"
    with pytest.raises(DataFault, match=says):
        raise faults[0]


def test_confounds_of_another_length_take_the_run_out(tmp_path):
    with pytest.raises(DataFault, match="99 rows, the run 100 volumes"):
        assess_run(run(tmp_path, rows=99), COVERAGE, Quality())
