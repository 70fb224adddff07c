"""Confounds are fMRIPrep's: checked against its own tables, nipype's own code, and planted motion."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from reconfmri import confounds, series
from reconfmri.exclusions import DataFault
from reconfmri.series import VoxelSeries
from reconfmri.tables import read_table

T, V = 90, 600


@pytest.fixture(scope="module")
def signals():
    rng = np.random.default_rng(7)
    drift = np.cumsum(rng.normal(size=(3, T)), axis=1)
    signals = 1000 + rng.normal(size=(V, T)) * 8 + rng.normal(size=(V, 3)) @ drift
    return signals.astype(np.float32)


@pytest.fixture(scope="module")
def tissue(signals):
    return confounds.TissueSignals(VoxelSeries.of(signals), np.arange(V) < 150, np.arange(V) >= 330)


@pytest.fixture(scope="module")
def table_and_facts(tissue):
    moves = np.stack([np.eye(4)] * T)
    moves[:, :3, :3] = Rotation.from_euler("x", np.linspace(0, 0.01, T)[:, None]).as_matrix()
    moves[50:, 2, 3] = 1.0  # one jump of 1 mm
    return confounds.build(
        moves, tissue, tr=2.0, n_non_steady=2, n_components=5, n_temporal=2, centre=(0.0, 0.0, 0.0)
    )


@pytest.fixture(scope="module")
def fmriprep_table(real_data):
    path = real_data / "fmriprep_confounds" / "nilearn" / "test-v21_desc-confounds_timeseries.tsv"
    columns = [*confounds.MOTION, "framewise_displacement"]
    return read_table(path, numeric=columns), path


def test_framewise_displacement_equals_fmripreps_column_on_a_bad_mover(fmriprep_table):
    table, _ = fmriprep_table
    found = confounds.framewise_displacement(table[list(confounds.MOTION)].to_numpy())
    assert np.isnan(found[0])
    assert found[1:].max() > 5  # mm: it is a bad mover
    # The table writes motion with six digits.
    np.testing.assert_allclose(found[1:], table["framewise_displacement"].to_numpy()[1:], atol=2e-4)


def test_real_fmriprep_confounds_are_selected(fmriprep_table):
    _, path = fmriprep_table
    chosen = confounds.select(read_table(path), ["motion24", "acompcor", "fd", "dvars", "non_steady_state"])
    assert np.isfinite(chosen.to_numpy()).all()
    assert chosen["framewise_displacement"].iloc[0] == 0
    assert sum(name.startswith("a_comp_cor_") for name in chosen) == 5


def test_motion_parameters_are_the_shift_of_the_centre_and_the_angles():
    centre = np.array([10.0, -40.0, 30.0])
    angles = np.array([0.02, -0.01, 0.03])
    move = np.eye(4)
    move[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix()
    move[:3, 3] = centre + np.array([0.5, -0.2, 0.1]) - move[:3, :3] @ centre
    found = confounds.motion_parameters(move[None], centre=tuple(centre))
    np.testing.assert_allclose(found[0], [0.5, -0.2, 0.1, *angles], atol=1e-12)


def test_dvars_is_nipypes(signals, tissue, tmp_path):
    from nipype.algorithms.confounds import compute_dvars

    series = nibabel.Nifti1Image(signals[:, None, None, :], np.eye(4))
    mask = nibabel.Nifti1Image(np.ones((V, 1, 1), dtype=np.uint8), np.eye(4))
    nibabel.save(series, tmp_path / "series.nii")
    nibabel.save(mask, tmp_path / "mask.nii")
    standard, plain, _ = compute_dvars(
        str(tmp_path / "series.nii"), str(tmp_path / "mask.nii"), remove_zerovariance=True
    )
    found = confounds.voxel_statistics(tissue)
    # nipype stores series and autoregression in single precision.
    np.testing.assert_allclose(found.standard_dvars[1:], standard, rtol=1e-4)
    np.testing.assert_allclose(found.plain_dvars[1:], plain, rtol=1e-4)


def test_acompcor_is_nipypes(signals, tissue):
    from nipype.algorithms.confounds import compute_noise_components

    noise = tissue.white | tissue.fluid
    everywhere = nibabel.Nifti1Image(np.ones((int(noise.sum()), 1, 1), dtype=np.uint8), np.eye(4))
    data = signals[noise][:, None, None, 2:].astype(np.float64)
    expected, basis, known = compute_noise_components(data, [everywhere], 5, "cosine", 0, 128, 2.0)
    found, facts, waves = confounds.noise_components(tissue.signals, noise, tr=2.0, skip=2)
    np.testing.assert_allclose(np.abs(found[2:, :5]), np.abs(expected), atol=1e-6)
    np.testing.assert_allclose(waves[2:], basis, atol=1e-12)
    shares = [fact["VarianceExplained"] for fact in facts]
    np.testing.assert_allclose(shares, known["variance_explained"][: len(shares)], rtol=1e-6)
    np.testing.assert_allclose(facts[0]["SingularValue"], known["singular_value"][0], rtol=1e-6)


def test_tcompcor_takes_nipypes_voxels_and_components(signals, tissue, tmp_path):
    from nipype.algorithms.confounds import TCompCor

    nibabel.save(nibabel.Nifti1Image(signals[:, None, None, :], np.eye(4)), tmp_path / "series.nii")
    mask = np.ones((V, 1, 1), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "mask.nii")
    node = TCompCor(
        realigned_file=str(tmp_path / "series.nii"), mask_files=str(tmp_path / "mask.nii"), num_components=3,
        percentile_threshold=0.1, pre_filter="cosine", repetition_time=2.0, components_file="found.tsv",
    )  # fmt: skip
    result = node.run(cwd=str(tmp_path))
    expected = pd.read_csv(result.outputs.components_file, sep="\t").to_numpy()
    spread = confounds.voxel_statistics(tissue).spread
    chosen = spread >= np.percentile(spread, 90)
    mask_of_nipype = np.asarray(nibabel.load(result.outputs.high_variance_masks).dataobj).ravel() > 0
    np.testing.assert_array_equal(chosen, mask_of_nipype)
    found, _, _ = confounds.noise_components(tissue.signals, chosen, tr=2.0, skip=0)
    np.testing.assert_allclose(np.abs(found[:, :3]), np.abs(expected), atol=1e-4)


def test_blocks_of_any_size_give_the_same_numbers(signals, tissue, monkeypatch):
    whole = confounds.voxel_statistics(tissue, skip=2)
    monkeypatch.setattr(series, "BLOCK_VALUES", 37 * T)
    monkeypatch.setattr(series, "MAPPED_VALUES", 7 * V)
    parts = confounds.voxel_statistics(tissue, skip=2)
    np.testing.assert_allclose(parts.standard_dvars, whole.standard_dvars, rtol=1e-7)
    np.testing.assert_allclose(parts.spread, whole.spread, rtol=1e-9)
    read = np.concatenate([block for _, block in tissue.signals.blocks(tissue.fluid)])
    np.testing.assert_array_equal(read, signals[tissue.fluid])
    with pytest.raises(ValueError, match=r"600 voxels was expected, got \(3,\)"):
        tissue.signals.append(np.zeros(3))


def test_components_are_orthogonal_to_the_cosines_and_absent_before_the_steady_state(table_and_facts):
    table, facts = table_and_facts
    components = table.filter(like="a_comp_cor").to_numpy()
    cosines = table.filter(like="cosine").to_numpy()
    assert components.shape[1] == 5
    assert (components[:2] == 0).all()
    assert np.abs(components.T @ cosines).max() < 1e-6
    shares = [facts[f"a_comp_cor_{k:02d}"]["CumulativeVarianceExplained"] for k in range(5)]
    # Three drifts were planted; the next two components hold white noise.
    assert shares == sorted(shares)
    assert shares[2] > 3 * (shares[4] - shares[2])


def test_the_table_has_fmripreps_names_and_every_column_is_described(table_and_facts):
    table, facts = table_and_facts
    expected = {
        "trans_x", "rot_z_derivative1_power2", "framewise_displacement", "dvars", "std_dvars",
        "global_signal", "white_matter_power2", "csf_derivative1_power2", "a_comp_cor_00", "t_comp_cor_01",
        "cosine00",
        "non_steady_state_outlier01",
        "motion_outlier00",
    }  # fmt: skip
    assert expected <= set(table.columns)
    assert set(facts) == set(table.columns)
    assert all(known["Description"] for known in facts.values())
    assert table["motion_outlier00"].to_numpy().argmax() == 50
    assert table.iloc[0].isna().sum() == 9 * 2 + 3  # derivatives, their squares, FD and both DVARS


def test_the_first_row_of_a_difference_becomes_zero_and_other_gaps_are_faults(table_and_facts):
    table, _ = table_and_facts
    chosen = confounds.select(table, ["motion24", "fd", "dvars", "motion_outliers"])
    assert (chosen.iloc[0][["trans_x_derivative1", "framewise_displacement", "std_dvars"]] == 0).all()
    assert chosen.shape[1] == 24 + 2 + sum(name.startswith("motion_outlier") for name in table)
    broken = table.copy()
    broken.loc[7, "trans_y"] = np.nan
    with pytest.raises(DataFault, match=r"E-DATA-B11.*'trans_y'.*row 8"):
        confounds.select(broken, ["motion6"])


def test_a_column_without_any_value_is_a_fault(table_and_facts):
    table = table_and_facts[0].assign(csf=np.nan)
    with pytest.raises(DataFault, match=r"E-DATA-B11.*'csf'.*no value in any row"):
        confounds.select(table, ["csf"])


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (["motion7"], "Unknown group"),
        (["acompcor"], "preprocessing.acompcor"),
        (["tcompcor"], "preprocessing.tcompcor"),
    ],
)
def test_groups_that_cannot_be_given_are_refused(groups, reason):
    with pytest.raises(ValueError, match=reason):
        confounds.select(pd.DataFrame({"trans_x": [0.0, 1.0]}), groups)


def test_non_steady_volumes_are_those_far_above_the_rest():
    signal = 1000 + np.random.default_rng(2).normal(size=60)
    signal[:3] = [1400, 1150, 1040]
    assert confounds.non_steady_state_volumes(signal) == 3
    assert confounds.non_steady_state_volumes(signal[3:]) == 0


def test_damaged_volumes_take_no_part_and_have_a_column_each(signals, tissue, table_and_facts):
    """The numbers of the other volumes are those of a run that never had the damaged ones."""
    damaged = np.array([0, 40, 41, T - 1])
    whole = ~np.isin(np.arange(T), damaged)
    moves = np.stack([np.eye(4)] * T)
    moves[:, :3, 3] = np.cumsum(np.random.default_rng(3).normal(size=(T, 3)), axis=0)
    kept = confounds.TissueSignals(VoxelSeries.of(signals[:, whole]), tissue.white, tissue.fluid)
    asked = {"tr": 2.0, "n_components": 5, "n_temporal": 2, "centre": (0.0, 0.0, 0.0)}
    table, facts = confounds.build(moves[whole], kept, n_non_steady=2, whole=whole, **asked)
    spikes = table.filter(like="damaged_volume").to_numpy()
    np.testing.assert_array_equal(spikes, np.eye(T)[:, damaged])
    np.testing.assert_array_equal(confounds.damaged_volumes(table), ~whole)
    assert "One damaged volume (values that are not finite" in facts["damaged_volume03"]["Description"]
    assert table.filter(like="non_steady").to_numpy().sum(axis=1).nonzero()[0].tolist() == [1]

    estimated = ["trans_x", "rot_z_power2", "global_signal", "csf", "framewise_displacement", "std_dvars"]
    assert table.loc[damaged, estimated].isna().all(axis=None)
    assert table.loc[np.flatnonzero(whole)[1:], estimated].notna().all(axis=None)
    gap = np.abs(moves[42, :3, 3] - moves[39, :3, 3]).sum()
    assert table["framewise_displacement"][42] == pytest.approx(gap), "since the last whole volume"
    changes = np.diff(signals[:, [39, 42]].astype(float), axis=1)[:, 0]
    ratio = table["dvars"][42] / np.sqrt((changes**2).mean())
    others = np.diff(signals[:, [60, 61]].astype(float), axis=1)[:, 0]
    assert table["dvars"][61] / np.sqrt((others**2).mean()) == pytest.approx(ratio, rel=1e-5)

    # Components: of signals fitted by the run's own cosines in the volumes that are left, by another way.
    rows = np.flatnonzero(whole[2:]) + 2
    slow = np.column_stack([np.ones(T - 2), table_and_facts[0].filter(like="cosine").to_numpy()[2:]])
    np.testing.assert_allclose(table.filter(like="cosine")[2:], slow[:, 1:])
    data = signals[tissue.white | tissue.fluid][:, rows].T.astype(float)
    rest = data - slow[rows - 2] @ np.linalg.pinv(slow[rows - 2]) @ data
    expected = np.linalg.svd(rest / rest.std(axis=0), full_matrices=False)[0][:, :5]
    found = table.filter(like="a_comp_cor").to_numpy()
    np.testing.assert_allclose(np.abs(found[rows]), np.abs(expected), atol=1e-6)
    assert (found[damaged] == 0).all()

    chosen = confounds.select(table, ["motion24", "fd", "dvars", "acompcor", "csf"])
    assert np.isfinite(chosen.to_numpy()).all()
    assert chosen["framewise_displacement"][1] == 0, "the first whole volume has no change"
    assert list(chosen.filter(like="damaged_volume")) == [f"damaged_volume{k:02d}" for k in range(4)]
    assert chosen["csf"][0] == pytest.approx(chosen["csf"][whole].mean())
    broken = table.assign(csf=table["csf"].where(table.index != 50))
    with pytest.raises(DataFault, match=r"'csf' has no value in row 51"):
        confounds.select(broken, ["csf"])


def test_a_flat_brain_is_a_fault(tissue):
    flat = confounds.TissueSignals(VoxelSeries.of(np.full((V, T), 5.0)), tissue.white, tissue.fluid)
    with pytest.raises(DataFault, match=r"E-DATA-B04.*flat"):
        confounds.build(
            np.stack([np.eye(4)] * T), flat, tr=2.0, n_non_steady=0, n_components=5, centre=(0, 0, 0)
        )
