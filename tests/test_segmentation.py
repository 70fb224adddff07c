"""Regions of a person's own segmentation: joined by label, on the run's grid, refused by name, per person."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from reconfmri.config import Region, Rois, parse_config
from reconfmri.derivatives import (
    check_fmriprep,
    chosen_numbers,
    files_of_segmentation,
    find_segmentation,
    numbers_of_labels,
)
from reconfmri.exclusions import DataFault
from reconfmri.figures.labels import region_groups
from reconfmri.report.methods import Facts, methods_text
from reconfmri.rois import Segmentation, extract_region_signals

sys.path.insert(0, str(Path(__file__).parent))
import fake_fmriprep as fake

ROOT = Path(__file__).resolve().parents[1]
RAW = "sub-01/ses-1/func/sub-01_ses-1_task-memory_run-1_bold.nii.gz"
STEM = RAW.removesuffix("_bold.nii.gz")
MADE = fake.GENERATIONS["25.2"]
GRID = np.diag([3.0, 3.0, 3.0, 1.0])
SHAPE, N = (12, 10, 8), 40
ROIS = Rois(
    regions={
        "control": Region(labels=["x"]),
        "amygdala_left": Region(segmentation=["Left-Amygdala"]),
        "hippocampus": Region(segmentation=["Hippocampus"]),
    },
    combined={"both": ["amygdala_left", "hippocampus"]},
)
NUMBERS = {"amygdala_left": [18], "hippocampus": [17, 53]}


def write(path, data, affine=GRID):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def labels_of(size=3):
    """Amygdala 18 of size x 3 x 3 voxels, hippocampi 17 and 53, cortex around."""
    labels = np.full(SHAPE, 3, np.int16)
    labels[1 : 1 + size, 1:4, 1:4] = 18
    labels[6:8, 1:4, 1:4] = 17
    labels[9:11, 1:4, 1:4] = 53
    return labels


def scan(folder, *, inside=None):
    rng = np.random.default_rng(0)
    series = (500 + 10 * rng.standard_normal((*SHAPE, N))).astype(np.float32)
    mask = np.ones(SHAPE, np.uint8) if inside is None else inside
    template = np.zeros((*SHAPE, 3), np.uint8)
    template[3:6, 6:9, 3:6, 0] = 100
    return [
        write(folder / f"{name}.nii.gz", data)
        for name, data in (("bold", series), ("mask", mask), ("regions", template))
    ]


def test_signals_are_those_of_nilearns_labels_masker(tmp_path):
    from nilearn.maskers import NiftiLabelsMasker

    files = scan(tmp_path)
    image = write(tmp_path / "aseg.nii.gz", labels_of())
    signals, coverage, faults = extract_region_signals(*files, ROIS, own=Segmentation(image, NUMBERS))
    assert not faults
    masker = NiftiLabelsMasker(str(image), mask_img=str(files[1]), standardize=False, resampling_target=None)
    theirs = pd.DataFrame(masker.fit_transform(str(files[0])), columns=[3, 17, 18, 53])
    np.testing.assert_allclose(signals["amygdala_left"], theirs[18], rtol=1e-6)
    np.testing.assert_allclose(signals["hippocampus"], (theirs[17] + theirs[53]) / 2, rtol=1e-6)
    weighted = (27 * theirs[18] + 18 * theirs[17] + 18 * theirs[53]) / 63
    np.testing.assert_allclose(signals["both"], weighted, rtol=1e-6)
    assert coverage.set_index("region")["n_voxels"].to_dict() == {
        "control": 27, "amygdala_left": 27, "hippocampus": 36, "both": 63,
    }  # fmt: skip


def test_size_and_coverage_are_the_persons(tmp_path):
    inside = np.ones(SHAPE, np.uint8)
    inside[1] = 0
    files = scan(tmp_path, inside=inside)
    shares = {}
    for size in (2, 4):
        image = write(tmp_path / f"{size}.nii.gz", labels_of(size))
        _, coverage, faults = extract_region_signals(*files, ROIS, own=Segmentation(image, NUMBERS))
        row = coverage.set_index("region").loc["amygdala_left"]
        shares[size] = (row["n_voxels"], row["coverage"], {fault.region for fault in faults})
    assert shares[2] == (9, 0.5, {"amygdala_left", "both"})
    assert shares[4] == (27, 0.75, {"amygdala_left", "both"})


@pytest.mark.parametrize(
    ("data", "affine", "says"),
    [
        (labels_of(), np.diag([2.0, 2.0, 2.0, 1.0]), "not on the grid of its series.* mm apart"),
        (labels_of()[:-1], GRID, "not on the grid of its series"),
        (labels_of().astype(np.float32) + np.float32(0.5), GRID, "no label numbers"),
        (np.where(labels_of() == 53, 3, labels_of()).astype(np.int16), GRID, "no voxel.*label 53"),
    ],
    ids=["affine", "shape", "interpolated", "label"],
)
def test_a_segmentation_that_cannot_be_used_takes_its_regions_out_alone(tmp_path, data, affine, says):
    files = scan(tmp_path)
    image = write(tmp_path / "aseg.nii.gz", data, affine)
    signals, _, faults = extract_region_signals(*files, ROIS, own=Segmentation(image, NUMBERS))
    assert signals["control"].notna().all()
    lost = {fault.region for fault in faults}
    assert {"hippocampus", "both"} <= lost <= {"amygdala_left", "hippocampus", "both"}
    assert signals[sorted(lost)].isna().all(axis=None)
    for fault in faults:
        assert re.search(says, fault.line), fault.line
        assert "aseg.nii.gz" in fault.line


def test_a_damaged_or_absent_segmentation_is_a_line(tmp_path):
    files = scan(tmp_path)
    image = write(tmp_path / "aseg.nii.gz", labels_of())
    image.write_bytes(image.read_bytes()[:-40])
    for own, code in (
        (Segmentation(image, NUMBERS), "E-DATA-B01"),
        (DataFault("E-BIDS-A21", "none"), "E-BIDS-A21"),
        (None, "E-BIDS-A21"),
    ):
        signals, _, faults = extract_region_signals(*files, ROIS, own=own)
        assert {fault.code for fault in faults} == {code}
        assert signals["control"].notna().all()


def test_labels_are_joined_by_the_table_and_never_by_position(tmp_path):
    root = tmp_path
    assert chosen_numbers(ROIS, numbers_of_labels(root, "aseg")) == NUMBERS
    (root / "desc-aseg_dseg.tsv").write_text(
        "index\tname\tcolor\n"
        "53\tRight-Hippocampus\t#a\n99\tLeft-Amygdala\t#b\n17\tLeft-Hippocampus\t#c\n18\tsomething\t#d\n"
    )
    assert chosen_numbers(ROIS, numbers_of_labels(root, "aseg")) == {
        "amygdala_left": [99],
        "hippocampus": [17, 53],
    }
    with pytest.raises(
        ValueError, match=r"rois\.regions\.r names the label 'Left-Amigdala'.*'Left-Amygdala'"
    ):
        chosen_numbers(_one("Left-Amigdala"), numbers_of_labels(root, "aseg"))
    assert chosen_numbers(_one(18), numbers_of_labels(root, "aseg")) == {"r": [18]}
    with pytest.raises(ValueError, match="names the label 54, which"):
        chosen_numbers(_one(54), numbers_of_labels(root, "aseg"))


def _one(label):
    return Rois(regions={"control": Region(labels=["x"]), "r": Region(segmentation=[label])})


def derivatives(folder, names):
    root = folder / "fmriprep"
    fake.write_dataset(root, MADE)
    fake.write_anatomy(root, MADE, "sub-01", session="1")
    fake.write_run(root, MADE, RAW, fake.small_series())
    for name in names:
        write(root / f"{STEM}_{name}_desc-aseg_dseg.nii.gz", np.ones(fake.SHAPE, np.int16), fake.AFFINE)
    return root


def test_it_is_found_in_the_space_and_resolution_of_the_series_alone(tmp_path):
    root = derivatives(tmp_path, ["space-T1w", f"space-{fake.SPACE}_res-1", "space-MNI152NLin6Asym_res-2"])
    with pytest.raises(DataFault, match="no segmentation desc-aseg in MNI152NLin2009cAsym res-2") as caught:
        find_segmentation(root, RAW, "aseg")
    assert "it has one in MNI152NLin2009cAsym res-1, MNI152NLin6Asym res-2, T1w" in caught.value.line
    path = root / f"{STEM}_space-{fake.SPACE}_res-2_desc-aseg_dseg.nii.gz"
    write(path, np.ones(fake.SHAPE, np.int16), fake.AFFINE)
    assert find_segmentation(root, RAW, "aseg") == path
    settings = study().preprocessing.fmriprep
    assert files_of_segmentation(tmp_path, settings, "aseg", RAW) == [path]
    assert files_of_segmentation(tmp_path, settings, "aparcaseg", RAW) == []
    path.write_bytes(b"")
    with pytest.raises(DataFault, match="the file is empty"):
        find_segmentation(root, RAW, "aseg")


def raw_study(**region):
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    raw["preprocessing"] = {"engine": "fmriprep", "fmriprep": {"derivatives": "fmriprep"}}
    raw["rois"]["regions"]["own"] = {"segmentation": ["Left-Amygdala"]} | region
    return raw


def study(**region):
    return parse_config(raw_study(**region))


def test_check_says_which_scans_lack_one_and_which_label_does_not_exist(tmp_path):
    root = derivatives(tmp_path, [f"space-{fake.SPACE}_res-2"])
    other = RAW.replace("run-1", "run-2")
    fake.write_run(root, MADE, other, fake.small_series())
    rows = [{"participant_id": "sub-01", "session_id": "1", "task": "memory", "run": str(n)} for n in (1, 2)]
    table = pd.DataFrame(rows).assign(bold=[RAW, other])
    [problem] = check_fmriprep(tmp_path, study(), table)
    assert (problem.severity, problem.run) == ("EXCL", "2")
    assert "the regions ['own'] are missing in this scan" in problem.what
    [problem] = check_fmriprep(tmp_path, study(), table[1:])
    assert problem.severity == "STOP"
    [problem] = check_fmriprep(tmp_path, study(segmentation=["Left-Amygdla"]), table)
    assert problem.severity == "STOP"
    assert "did you mean 'Left-Amygdala'" in problem.line


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threshold": 0.3}, "delete them beside segmentation"),
        ({"space": "MNI152NLin6Asym"}, "delete them beside segmentation"),
        ({"labels": ["Left Amygdala"]}, "keep one source"),
        ({"segmentation": []}, "expected one of"),
    ],
)
def test_a_senseless_source_is_one_line(change, says):
    with pytest.raises(ValueError, match=says):
        study(**change)


def test_own_regions_need_fmriprep_a_template_region_and_no_search_in_voxels():
    raw = raw_study()
    embedded = copy.deepcopy(raw) | {"preprocessing": {"engine": "embedded"}}
    with pytest.raises(ValueError, match="`preprocessing.engine: embedded` does not make"):
        parse_config(embedded)
    with pytest.raises(ValueError, match="add one by labels"):
        Rois(regions={"own": Region(segmentation=["Left-Amygdala"])})
    searched = copy.deepcopy(raw)
    searched["group"]["voxels"]["regions"] = ["own"]
    with pytest.raises(ValueError, match="differ between people"):
        parse_config(searched)


def test_the_methods_and_the_pictures_know_that_its_place_is_the_persons():
    raw = raw_study()
    kinds = []
    for kind in ("aseg", "aparcaseg"):
        raw["rois"]["segmentation"] = kind
        kinds.append(dict(methods_text(parse_config(raw), Facts(8, 28)))["Regions of interest"])
    assert "own (Left-Amygdala of the person's own segmentation)" in kinds[0]
    assert "desc-aseg)" in kinds[0]
    assert "desc-aparcaseg)" in kinds[1]
    assert "own" not in region_groups(study().rois)
