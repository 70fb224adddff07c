"""Volumes that are copies, slices without a signal and cut-off values are noticed, with place and count."""

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from reconfmri.exclusions import DataFault
from reconfmri.preprocess import intake, survey

N_VOLUMES, SHAPE = 120, (18, 20, 12)
HEAD = slice(2, 10)  # slices of the head; those around it hold noise, as on most scanners


def series(kind=np.int16, *, outside="noise"):
    """A head that fades towards its uppermost slice, in noise; `outside` of it noise or zeros."""
    rng = np.random.default_rng(2)
    head = np.zeros(SHAPE, np.float32)
    head[4:14, 4:16, HEAD] = 800
    head[:6, :, 9] = head[12:, :, 9] = 0
    head = ndimage.gaussian_filter(head, (0.5, 0.5, 0))
    data = np.abs(head[..., None] + rng.normal(0, 8, (*SHAPE, N_VOLUMES)))
    if outside == "zeros":
        data[:, :, [0, 1, 10, 11]] = 0
    return data.astype(kind)


def surveyed(data, tmp_path):
    image = nibabel.Nifti1Image(data, np.diag([3.0, 3, 3, 1]))
    nibabel.save(image, tmp_path / "bold.nii")
    return survey.survey(intake.open_run(tmp_path / "bold.nii"))


@pytest.mark.parametrize("kind", [np.int16, np.float32])
@pytest.mark.parametrize("outside", ["noise", "zeros"])
def test_a_healthy_run_has_no_remark(kind, outside, tmp_path):
    found = surveyed(series(kind, outside=outside), tmp_path)
    assert found.whole.all()
    assert found.remarks() + survey.clipped(found, 900) == []


def test_a_stuck_reconstruction_leaves_the_first_volume_and_takes_out_its_copies(tmp_path):
    data = series()
    data[..., 41:71] = data[..., 40:41]
    found = surveyed(data, tmp_path)
    assert np.flatnonzero(~found.whole).tolist() == list(range(41, 71))
    [remark] = found.remarks()
    assert remark.line.startswith(
        "W-DATA-B38 bold.nii: 30 of 120 volumes are copies of other volumes: 42 to 71;"
    )


def test_volumes_exported_twice_are_copies_wherever_they_are(tmp_path):
    data = series()
    data[..., 110:] = data[..., :10]
    assert surveyed(data, tmp_path).copies == {110 + number: number for number in range(10)}


def test_a_run_of_copies_is_out(tmp_path):
    data = series()
    data[..., 50:] = data[..., 49:50]
    with pytest.raises(DataFault, match=r"E-DATA-B38 bold.nii: 70 of 120 volumes are copies.*: 51 to 120\."):
        surveyed(data, tmp_path)


@pytest.mark.parametrize("value", [0, 37])
@pytest.mark.parametrize("outside", ["noise", "zeros"])
def test_a_dead_slice_takes_its_volumes_out(value, outside, tmp_path):
    data = series(outside=outside)
    data[:, :, 5, 60:63] = value
    found = surveyed(data, tmp_path)
    assert found.dead_slices == {60: [5], 61: [5], 62: [5]}
    [remark] = found.remarks()
    assert "3 of 120 volumes have slices of the head without a signal: 61 (slice 6), 62" in remark.line
    assert remark.code == "W-DATA-B39"


@pytest.mark.parametrize("value", [0, 37, "as in the first volume"])
def test_a_slice_that_is_dead_throughout_takes_the_run_out(value, tmp_path):
    data = series(outside="zeros")
    data[:, :, 5] = data[:, :, 5, :1] if isinstance(value, str) else value
    with pytest.raises(DataFault, match=r"E-DATA-B39.*1(19|20) of 120 volumes have slices.*slice 6"):
        surveyed(data, tmp_path)


def test_a_slice_that_stops_in_the_middle_of_the_run_is_dead_from_there_on(tmp_path):
    data = series()
    data[:, :, 5, 80:] = data[:, :, 5, 79:80]
    assert sorted(surveyed(data, tmp_path).dead_slices) == list(range(80, N_VOLUMES))


def test_a_few_values_that_are_cut_off_are_counted(tmp_path):
    data = series()
    data[6:9, 6:9, HEAD] += 60
    found = surveyed(np.minimum(data, 840), tmp_path)
    [remark] = survey.clipped(found, n_head=9000)
    assert remark.line.startswith("W-DATA-B40 bold.nii: up to ")
    assert " voxels of a volume are cut off at 840, in 120 of 120 volumes (0.7" in remark.line
    assert "slice 3 to 10)" in remark.line


def test_a_run_whose_head_is_cut_off_is_out(tmp_path):
    with pytest.raises(DataFault, match=r"E-DATA-B40 bold.nii: .* cut off at 795, in 120 of 120 volumes"):
        survey.clipped(surveyed(np.minimum(series(), 795), tmp_path), n_head=900)
