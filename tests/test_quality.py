"""Quality numbers are what was put in; each broken threshold is one fault with both numbers."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from reconfmri.config import Quality, quality_units
from reconfmri.exclusions import DataFault
from reconfmri.preprocess import PreprocessedRun
from reconfmri.quality import (
    LIMITS,
    Reference,
    assess_run,
    compare_sessions,
    ghost_to_signal,
    phase_axis,
    read_series,
)
from reconfmri.tables import read_table, write_table

T, SHAPE = 100, (8, 8, 8)
COVERAGE = pd.DataFrame({"region": ["a", "b"], "coverage": [1.0, 0.7], "tsnr": [50.0, 40.0]})


def run(folder, *, moved=0.1, noise=2.0, n=T, rows=T, bright=0, flat=0, cost=0.5):
    rng = np.random.default_rng(0)
    data = 100 + noise * rng.standard_normal((*SHAPE, n)) + 0.02 * np.arange(n)
    data[..., :bright] *= 2
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:6, 2:6, 2:6] = 1
    data[mask == 0] = 0
    data[2 : 2 + flat, 2:6, 2:6] = 70
    for name, values in (("bold", data.astype(np.float32)), ("mask", mask)):
        nibabel.save(nibabel.Nifti1Image(values, np.diag([3.0, 3, 3, 1])), folder / f"{name}.nii.gz")
    displacement = ["n/a", *np.broadcast_to(moved, rows - 1)]
    level = np.resize(data[mask > 0].mean(axis=0), rows)
    lines = [f"{d}\t{'n/a' if i == 0 else 1.25}\t{level[i]}" for i, d in enumerate(displacement)]
    text = "\n".join(["framewise_displacement\tstd_dvars\tglobal_signal", *lines]) + "\n"
    (folder / "confounds.tsv").write_text(text, encoding="utf-8")
    files = [folder / name for name in ("bold.nii.gz", "mask.nii.gz", "confounds.tsv", "mask.nii.gz")]
    facts = {"NonSteadyStateVolumes": bright, "RepetitionTime": 2.0, "CoregistrationCost": cost}
    return PreprocessedRun(*files, metadata=facts)


def values_of(rows):
    return rows.set_index("outcome")["value"]


def test_the_numbers_of_a_good_run(tmp_path):
    rows, faults = assess_run(run(tmp_path), COVERAGE, Quality())
    values = values_of(rows)
    assert not faults
    assert values["fd.mean"] == pytest.approx(0.1)
    assert values["fd.outlier_share"] == 0
    assert values["dvars.mean"] == 1.25
    # 101 / 2 = 50.5; the median of 64 voxels whose SD has 7 % error each.
    assert values["tsnr.median"] == pytest.approx(50.5, rel=0.04)
    exact = {
        "coverage.lowest": 0.7, "coverage.a": 1.0, "coverage.b": 0.7, "tsnr.a": 50.0, "tsnr.b": 40.0,
        "flat.share": 0.0, "registration.cost": 0.5, "start.volumes": 0, "volumes.count": T,
        "volumes.usable_time": 200.0, "brain.volume": 64 * 27 / 1000,
    }  # fmt: skip
    assert values[list(exact)].to_dict() == pytest.approx(exact)
    assert rows.set_index("outcome")["unit"].to_dict().items() <= quality_units(["a", "b"]).items()


def test_a_run_that_starts_bright_and_moves_loses_those_volumes(tmp_path):
    moved = np.where(np.arange(T - 1) % 10 == 0, 0.9, 0.1)  # volumes 2, 12, ... 92
    values = values_of(assess_run(run(tmp_path, bright=3, moved=moved), COVERAGE, Quality())[0])
    assert values["start.volumes"] == 3
    assert values["start.excess"] == pytest.approx(200 / 101 - 1, abs=0.015)  # three standard errors
    assert values["volumes.usable_time"] == 2.0 * (T - 3 - 9)  # one of the ten movements is in the start


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


def test_damaged_volumes_are_counted_and_are_in_no_other_number(tmp_path):
    """Whatever stands there, the numbers are those of the run without these volumes."""
    scan, damaged = run(tmp_path, bright=3), [1, 20, 21, T - 1]
    data = np.asarray(nibabel.load(scan.bold).dataobj).copy()
    data[..., damaged] = 1e5
    nibabel.save(nibabel.Nifti1Image(data, np.diag([3.0, 3, 3, 1])), scan.bold)
    table = read_table(scan.confounds)
    table.loc[damaged] = "n/a"
    for number, volume in enumerate(damaged):
        table[f"damaged_volume{number:02d}"] = np.eye(T)[volume]
    write_table(scan.confounds, table)
    scan = replace(scan, metadata={**scan.metadata, "DamagedVolumes": damaged})
    rows, faults = assess_run(scan, COVERAGE, Quality())
    values = values_of(rows)
    assert not faults
    assert values["volumes.damaged_share"] == len(damaged) / T
    assert values["volumes.count"] == T - len(damaged)
    assert values["volumes.usable_time"] == 2.0 * (T - 3 - 3)  # one of the four is in the unsteady start
    assert (values["fd.mean"], values["dvars.mean"]) == (pytest.approx(0.1), 1.25)
    times = np.setdiff1d(np.arange(3, T), damaged)
    whole = data[2:6, 2:6, 2:6].reshape(-1, T)[:, times].astype(float)
    line = np.polynomial.polynomial.polyval(times, np.polynomial.polynomial.polyfit(times, whole.T, 1))
    np.testing.assert_allclose(
        read_series(scan).tsnr, whole.mean(axis=1) / (whole - line).std(axis=1), rtol=1e-5
    )


def test_groups_of_voxels_are_averaged_while_the_run_is_read_once(tmp_path):
    scan = run(tmp_path, bright=3)
    data = np.asarray(nibabel.load(scan.bold).dataobj)[2:6, 2:6, 2:6].reshape(-1, T)
    groups = np.array([[5, 60], [0, 1]])
    kept = read_series(scan, keep=groups).kept
    np.testing.assert_allclose(kept, data[groups].mean(axis=1), rtol=1e-6)


def ghosted(share):
    """A brain (16 x 24 x 8 in 32 x 64 x 8 voxels), its ghost half a field of view along the second axis."""
    mask = np.zeros((32, 64, 8), bool)
    mask[8:24, 20:44] = True
    ghost = np.roll(mask, 32, axis=1) & ~mask
    return 1000.0 * mask + 1000.0 * share * ghost + 5.0, mask


@pytest.mark.parametrize("share", [0.0, 0.04, 0.2])
def test_the_ghost_is_the_share_that_was_planted_along_the_phase_axis_only(share):
    image, mask = ghosted(share)
    assert ghost_to_signal(image, mask, 1) == pytest.approx(1000 * share / 1005)
    assert abs(ghost_to_signal(image, mask, 0)) <= 0.31 * share


def test_without_background_there_is_no_ghost_to_measure():
    full = np.ones((8, 8, 8), bool)
    assert np.isnan(ghost_to_signal(np.ones(full.shape), full, 1))


@pytest.mark.parametrize(
    ("sidecar", "names"),
    [
        ({"PhaseEncodingDirection": "j-"}, ["ghost.phase"]),
        ({"PhaseEncodingAxis": "j"}, ["ghost.phase"]),
        ({}, ["ghost.i", "ghost.j"]),
    ],
)
def test_without_a_phase_encoding_direction_both_axes_are_told(tmp_path, sidecar, names):
    image, mask = ghosted(0.1)
    for name, data in (("ref", image.astype(np.float32)), ("brain", mask.astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / f"{name}.nii.gz")
    reference = Reference(tmp_path / "ref.nii.gz", tmp_path / "brain.nii.gz", phase_axis(sidecar))
    rows, faults = assess_run(run(tmp_path), COVERAGE, Quality(max_ghost=0.05), reference=reference)
    assert [name for name in rows["outcome"] if name.startswith("ghost")] == names
    assert values_of(rows)[names[-1]] == pytest.approx(0.1, abs=0.001)
    assert [fault.code for fault in faults] == ["E-DATA-B32"]


BROKEN = {
    "mean": ({"moved": 0.8}, {"max_outlier_share": 1.0, "min_usable_time": 0.0}, "E-DATA-B12",
             "0.8 mm > 0.5 mm"),
    "share": ({"moved": np.r_[np.zeros(59), np.ones(40)]}, {}, "E-DATA-B12", "40.4 % > 30 %"),
    "time": ({"moved": np.r_[np.zeros(79), np.ones(20)]}, {"min_usable_time": 180.0}, "E-DATA-B12",
             "160 s < 180 s"),
    "noise": ({"noise": 20.0}, {}, "E-DATA-B04", "temporal SNR 5.* < 10"),
    "a flat quarter": ({"flat": 1}, {}, "E-DATA-B04", "flat image: .* 25 % > 5 %"),
    "flat": ({"noise": 0.0}, {"min_tsnr": 0.0}, "E-DATA-B04", "flat image: .* 100 % > 5 %"),
    "short": ({"n": 30, "rows": 30}, {}, "E-DATA-B05", "number of volumes 30 < 40"),
    "cost": ({"cost": 0.7}, {"max_registration_cost": 0.6}, "E-DATA-B31", "0.7 > 0.6"),
    "start": ({"bright": 2}, {"max_start_excess": 0.5}, "E-DATA-B33", "% > 50 %"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_threshold_is_one_fault_with_both_numbers(tmp_path, name):
    made, settings, code, says = BROKEN[name]
    scan = run(tmp_path, **made)
    if name == "flat":
        nibabel.save(nibabel.Nifti1Image(np.full((*SHAPE, T), 7, np.float32), np.eye(4)), scan.bold)
    rows, faults = assess_run(scan, COVERAGE, Quality(**settings))
    assert [fault.code for fault in faults] == [code]
    assert values_of(rows).notna()["fd.mean"], "the numbers of an excluded run are kept"
    with pytest.raises(DataFault, match=says):
        raise faults[0]


def test_every_limit_bounds_a_known_outcome_by_a_known_key():
    known = set(Quality.model_fields) - {"fd_threshold", "max_brain_loss"}
    assert {limit.key for limit in LIMITS} == known
    assert {limit.outcome for limit in LIMITS} <= set(quality_units([]))


def test_every_outcome_and_threshold_is_explained():
    text = (Path(__file__).parents[1] / "docs/quality.md").read_text(encoding="utf-8")
    for name in [*quality_units([]), *Quality.model_fields]:
        assert f"`{name}`" in text, name


def test_confounds_of_another_length_take_the_run_out(tmp_path):
    with pytest.raises(DataFault, match="99 rows, the run 100 volumes"):
        assess_run(run(tmp_path, rows=99), COVERAGE, Quality())


def brains(*volumes):
    """Quality rows of one person: (session, task, ml)."""
    return pd.DataFrame(
        [("sub-01", session, task, "1", "brain.volume", ml) for session, task, ml in volumes],
        columns=["participant_id", "session_id", "task", "run", "outcome", "value"],
    )


def test_a_brain_mask_that_lost_volume_beside_the_other_sessions_takes_the_run_out():
    person = brains(("1", "m", 1500), ("2", "m", 1100), ("3", "m", 1520), ("1", "rest", 900))
    ((unit, fault),) = compare_sessions(person, Quality())
    assert unit == {"participant_id": "sub-01", "session_id": "2", "task": "m", "run": "1"}
    assert fault.code == "E-DATA-B34"
    assert "1100 ml, 27 % less than the 1510 ml" in fault.line
    assert not compare_sessions(person, Quality(max_brain_loss=0.3))
    assert not compare_sessions(person, Quality(max_brain_loss=None))


@pytest.mark.parametrize(
    ("last", "noticed"),
    [((0.80, 0.85), True), ((0.67, 0.80), True), ((0.81, 0.97), False), ((0.70, 0.85), False)],
    ids=["alike head", "bent own head", "5 mm voxels", "a slab"],
)
def test_a_run_that_fits_the_head_less_than_the_others_on_either_side_is_another_persons(last, noticed):
    """Costs as measured: of the head, and of its mirror image."""
    names = ("registration.cost", "registration.mirrored_cost")
    runs = (("1", 0.46, 0.80), ("2", 0.48, 0.81), ("3", *last)) if last[0] == 0.67 else (
        ("1", 0.60, 0.83), ("2", 0.62, 0.84), ("3", *last))  # fmt: skip
    person = pd.DataFrame(
        [
            ("sub-01", ses, "m", "n/a", name, value)
            for ses, *costs in runs
            for name, value in zip(names, costs, strict=True)
        ],
        columns=["participant_id", "session_id", "task", "run", "outcome", "value"],
    )
    found = compare_sessions(person, Quality())
    assert [(unit["session_id"], fault.code) for unit, fault in found] == [("3", "E-DATA-B42")] * noticed
    assert not compare_sessions(person[person["session_id"] == "3"], Quality())
    assert not compare_sessions(person.assign(value=np.nan), Quality())


def test_runs_of_one_session_are_not_compared_with_one_another():
    assert not compare_sessions(brains(("1", "m", 1500), ("1", "m", 900)), Quality())
