"""Damaged and impossible images are named before a number is made of them: file, fault, fix."""

import gzip
import hashlib
import re

import nibabel
import numpy as np
import pytest

from reconfmri.exclusions import DataFault
from reconfmri.headers import read_header
from reconfmri.preprocess import intake, survey

RNG = np.random.default_rng(1)
SHEARED = np.array([[3.0, 1, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
SERIES = RNG.integers(100, 900, size=(20, 20, 18, 14)).astype(np.int16)


def save(path, data, *, affine=None, codes=(1, 1), slope=None):
    picture = nibabel.Nifti1Image(data, np.diag([3.0, 3, 3, 1]) if affine is None else affine)
    picture.set_sform(picture.affine, codes[0])
    picture.set_qform(None if codes[1] == 0 else picture.affine, codes[1])
    if slope is not None:
        picture.header.set_slope_inter(slope, 0)
    nibabel.save(picture, path)


def write_truncated(path):
    save(path, SERIES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def write_flipped(path):
    save(path, SERIES)
    whole = bytearray(path.read_bytes())
    whole[len(whole) * 2 // 3] ^= 0xFF
    path.write_bytes(bytes(whole))


def write_short(path):
    save(path, SERIES)
    inside = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(inside[:-5000]))


def with_value(value, volume=6):
    data = SERIES.astype(np.float32)
    data[4, 5, 6, volume] = value
    return data


RUNS = {
    "truncated": (write_truncated, "E-DATA-B01", "copy the file again"),
    "one byte flipped": (write_flipped, "E-DATA-B01", "copy the file again"),
    "short inside a sound gzip": (write_short, "E-DATA-B01", "too early"),
    "empty": (lambda path: path.write_bytes(b""), "E-DATA-B01", "the file is "),
    "text": (lambda path: path.write_text("not an image"), "E-DATA-B01", "cannot be read"),
    "absent": (lambda path: None, "E-DATA-B01", "the file is "),
    "three dimensions": (lambda path: save(path, SERIES[..., 0]), "E-DATA-B05", "4 dimensions"),
    "one volume": (lambda path: save(path, SERIES[..., :1]), "E-DATA-B05", "at least 10 volumes"),
    "no codes": (lambda path: save(path, SERIES, codes=(0, 0)), "E-DATA-B07", "position in space"),
    "sheared": (
        lambda path: save(path, SERIES, affine=SHEARED, codes=(1, 0)),
        "E-DATA-B07",
        "right angles",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_damaged_run_is_named_with_its_fix(name, tmp_path):
    write, code, words = RUNS[name]
    path = tmp_path / "sub-01_task-memory_bold.nii.gz"
    write(path)
    with pytest.raises(DataFault) as caught:
        for _ in intake.open_run(path).volumes():
            pass
    assert caught.value.code == code
    assert words in caught.value.line
    assert path.name in caught.value.line
    assert "\n" not in caught.value.line


ANATOMIES = {
    "flat": (np.full((20, 20, 20), 7, dtype=np.int16), "E-DATA-B04", "flat image"),
    "NaN": (np.where(np.arange(8000).reshape(20, 20, 20) == 5, np.nan, 3.0), "E-DATA-B03", "not finite"),
    "a slice": (np.ones((20, 20, 1), dtype=np.int16), "E-DATA-B05", "three dimensions"),
    "a series": (SERIES, "E-DATA-B05", "three dimensions"),
}


@pytest.mark.parametrize("name", ANATOMIES)
def test_an_impossible_t1w_is_named(name, tmp_path):
    data, code, words = ANATOMIES[name]
    path = tmp_path / "sub-01_T1w.nii.gz"
    save(path, data)
    with pytest.raises(DataFault) as caught:
        intake.read_anatomy(path)
    assert (caught.value.code, words in caught.value.line) == (code, True)


@pytest.mark.parametrize("ext", [".nii", ".nii.gz"])
def test_volumes_are_those_nibabel_reads_with_their_scale(ext, tmp_path):
    path = tmp_path / f"bold{ext}"
    save(path, SERIES, slope=4.00757)
    scaled = np.asarray(nibabel.load(path).dataobj)
    for number, volume in enumerate(intake.open_run(path).volumes()):
        np.testing.assert_allclose(volume, scaled[..., number], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_damaged_volume_is_counted_and_never_changed(value, tmp_path):
    path = tmp_path / "sub-01_task-memory_bold.nii.gz"
    save(path, with_value(value))
    volumes = list(intake.open_run(path).volumes())
    np.testing.assert_array_equal(np.stack(volumes, axis=-1), with_value(value))
    found = survey.survey(intake.open_run(path))
    assert found.not_finite == {6: 1}
    assert found.whole.tolist() == [True] * 6 + [False] + [True] * 7
    [remark] = found.remarks()
    assert "1 of 14 volumes hold values that are not finite: 7 (1 voxels);" in remark.line


RGB = np.zeros((20, 20, 20), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("data", "edge", "says"),
    [
        (RGB, 3.0, "colours"),
        (np.ones((20, 20, 20), np.complex64), 3.0, "complex numbers"),
        (SERIES[..., 0], 0.003, "0.003 x 0.003 x 0.003 mm (the header's unit of length is meter)"),
    ],
    ids=["RGB", "complex", "metres"],
)
def test_an_image_of_no_real_numbers_or_sizes_is_a_fault(data, edge, says, tmp_path):
    image = nibabel.Nifti1Image(data, np.diag([edge, edge, edge, 1]))
    image.header.set_xyzt_units("meter" if edge < 1 else "mm", "sec")
    nibabel.save(image, tmp_path / "T1w.nii.gz")
    for read in (intake.read_anatomy, intake.read_mean):
        with pytest.raises(DataFault, match=re.escape(says)):
            read(tmp_path / "T1w.nii.gz")
    with pytest.raises(ValueError, match=re.escape(says)):
        read_header(tmp_path / "T1w.nii.gz")


def test_volumes_beyond_those_of_the_header_are_a_fault(tmp_path):
    path = tmp_path / "bold.nii"
    save(path, SERIES)
    content = bytearray(path.read_bytes())
    content[48:50] = np.int16(SERIES.shape[3] - 2).tobytes()
    path.write_bytes(content)
    with pytest.raises(DataFault, match=r"E-DATA-B01 bold.nii: the header has 12 volumes, the file 2 more"):
        list(intake.open_run(path).volumes())


def test_an_uncompressed_run_that_was_cut_says_where(tmp_path):
    path = tmp_path / "bold.nii"
    save(path, SERIES)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataFault, match="E-DATA-B01 .* ends too early"):
        list(intake.open_run(path).volumes())


@pytest.mark.parametrize("ext", [".nii", ".nii.gz"])
def test_a_t1w_is_read_with_its_scale_and_compared_with_the_index(ext, tmp_path):
    path = tmp_path / f"T1w{ext}"
    save(path, SERIES[..., 0], slope=4.00757)
    sound = hashlib.sha256(path.read_bytes()).hexdigest()
    found = intake.read_anatomy(path, sha256=sound)
    np.testing.assert_allclose(found.data, np.asarray(nibabel.load(path).dataobj), rtol=1e-6)
    with pytest.raises(DataFault, match="not the one that was indexed") as caught:
        intake.read_anatomy(path, sha256=sound[::-1])
    assert caught.value.code == "E-DATA-B30"


def test_a_t1w_is_turned_to_ras_without_moving_a_point(tmp_path):
    data = RNG.normal(size=(20, 24, 28)).astype(np.float32)
    affine = np.array([[0, 0, -1.0, 20], [-1.2, 0, 0, 30], [0, 0.9, 0, -10], [0, 0, 0, 1]])
    path = tmp_path / "T1w.nii.gz"
    save(path, data, affine=affine)
    found = intake.read_anatomy(path)
    assert nibabel.aff2axcodes(found.affine) == ("R", "A", "S")
    place = affine @ [3, 7, 11, 1]
    voxel = np.rint(np.linalg.inv(found.affine) @ place).astype(int)
    assert found.data[tuple(voxel[:3])] == data[3, 7, 11]


def test_written_volumes_are_the_same_bytes_each_time(tmp_path):
    volume = intake.Volume(RNG.normal(size=(9, 9, 9)).astype(np.float32), np.eye(4))
    written = [tmp_path / name for name in ("a.nii.gz", "b.nii.gz")]
    for path in written:
        intake.write_volume(path, volume)
    assert written[0].read_bytes() == written[1].read_bytes()
