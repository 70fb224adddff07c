"""Planted distortion is undone by every kind of field map; what cannot be undone is a fault with a fix.

The simulator moves spins along the phase-encoding axis and adds up where they land, which no estimator does.
"""

import json
from dataclasses import dataclass

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from tests.heads import RAW_T1W, anatomy_files, write_anatomy

from reconfmri import registration, templates
from reconfmri.acquisition import phase_encoding
from reconfmri.config import Preprocessing
from reconfmri.exclusions import DataFault
from reconfmri.fieldmaps import Fieldmap, fieldmap_of
from reconfmri.preprocess import distortion, embedded, fieldmap
from reconfmri.registration import Volume
from reconfmri.simulate.susceptibility import shift as planted

SHAPE, MM, SNR = (52, 62, 42), 4.0, 50.0
READOUT = {"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.03}
BACK = {**READOUT, "PhaseEncodingDirection": "j-"}
ECHOES = {"EchoTime1": 0.0042, "EchoTime2": 0.0116}
POSE = registration.rigid(np.array([2.0, -3.0, 2.0, 3.0, -2.0, 4.0]), np.array([0.0, -17.0, 5.0]))


def grid(mm=MM, shape=SHAPE):
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = -mm * (np.array(shape) // 2) + [0, -17, 8]
    return shape, affine


@dataclass(frozen=True)
class Head:
    t1w: Volume
    dseg: Volume
    t2star: Volume  # 2 mm
    magnitude: Volume


@pytest.fixture(scope="module")
def head():
    fine = registration.read_volume(templates.target_brain())
    data, affine = np.pad(fine.data, 20)[::2, ::2, ::2], fine.affine @ np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = fine.affine[:3, 3] - 20
    brain = data > 0
    depth = 2 * ndimage.distance_transform_edt(~brain)
    t1w, t2star = data.copy(), np.where(brain, 170 - data, 0)
    for low, high, bright, dim in ((0, 2, 20, 130), (2, 8, 8, 5), (8, 14, 85, 40)):  # fluid, bone, scalp
        shell = (depth > low) & (depth <= high)
        t1w[shell], t2star[shell] = bright, dim
    soft = [ndimage.gaussian_filter(part.astype(np.float32), 0.4) for part in (t1w, t2star)]
    tissue = np.select([~brain, data < 45, data < 78], [0, 3, 1], 2).astype(np.uint8)
    magnitude = np.where(soft[0] > 10, 60 + 0.5 * soft[0], 0).astype(np.float32)
    return Head(*(Volume(part, affine) for part in (soft[0], tissue, soft[1], magnitude)))


def epi(head, sign, rng, *, moved=None):
    """An EPI of the head: spins are carried to where they appear, added up, and seen by coarse voxels."""
    model, sub = head.t2star, 3
    n = model.data.shape[1]
    landed = np.zeros(model.data.size)
    index = np.indices(model.data.shape).reshape(3, -1)
    for k in range(sub):
        off = (k + 0.5) / sub - 0.5
        voxels = index + np.array([[0], [off], [0]])
        spins = ndimage.map_coordinates(model.data, voxels, order=1, mode="nearest") / sub
        y = voxels[1] + sign * planted(registration.transform_points(model.affine, voxels.T)) / 2.0
        low = np.floor(y).astype(int)
        for row, share in ((low, low + 1 - y), (low + 1, y - low)):
            flat = np.ravel_multi_index((index[0], np.clip(row, 0, n - 1), index[2]), model.data.shape)
            landed += np.bincount(flat, spins * share, landed.size)
    blurred = ndimage.gaussian_filter(landed.reshape(model.data.shape), MM / 2.355 * 0.8 / 2)
    shape, affine = grid()
    points = registration.transform_points(
        np.eye(4) if moved is None else np.linalg.inv(moved), registration.grid_points(shape, affine)
    )
    seen = registration.sample(Volume(blurred, model.affine), points)
    level = seen[seen > 0.3 * seen.max()].mean()
    return Volume(np.clip(seen + rng.normal(size=shape) * level / SNR, 0, None).astype(np.float32), affine)


@pytest.fixture(scope="module")
def epis(head):
    rng = np.random.default_rng(3)
    small = registration.rigid(np.array([1.0, 0.5, -1.0, 0.8, -0.6, 1.0]), np.array([0.0, -17.0, 5.0]))
    return {1: epi(head, 1, rng), -1: epi(head, -1, rng, moved=small)}


def field_files(head, folder, kind):
    """Magnitude and phase (or field) of a head that lies elsewhere, with noise and wraps."""
    rng = np.random.default_rng(5)
    shape, affine = grid(3.0, (68, 80, 60))
    points = registration.transform_points(np.linalg.inv(POSE), registration.grid_points(shape, affine))
    magnitude = registration.sample(head.magnitude, points, order=1)
    encoding = phase_encoding(READOUT, SHAPE)
    hertz = planted(points) / (encoding.voxels_per_hz * MM)
    phase = 2 * np.pi * (ECHOES["EchoTime2"] - ECHOES["EchoTime1"]) * hertz + 0.7
    noise = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * magnitude[magnitude > 30].mean() / 50
    signal = magnitude * np.exp(1j * phase) + noise
    # As Siemens writes phase: -4096 to 4094.
    scanner = np.round(np.angle(signal) / np.pi * 2047) * 2
    scanner.flat[:2] = -4096, 4094
    images = {"magnitude": np.abs(signal), "phasediff": scanner, "fieldmap": hertz * 2 * np.pi}
    paths = {}
    for role in ("magnitude", kind):
        paths[role] = str(folder / f"{role}.nii.gz")
        save(images[role], affine, paths[role])
    return Fieldmap(kind, paths, {"magnitude": {}, "phasediff": ECHOES, "fieldmap": {"Units": "rad/s"}})


def save(data, affine, path):
    image = nibabel.Nifti1Image(np.asarray(data, dtype=np.float32), affine)
    image.set_sform(affine, 1)
    nibabel.save(image, path)


def where(region):
    """Points of the brain, of the amygdalae, of the ventromedial prefrontal cortex; template space."""
    brain = registration.read_volume(templates.target_brain())
    points = registration.grid_points(brain.data.shape, brain.affine)[brain.data > 0][::5]
    boxes = {
        "amygdala": [((22, -4, -18), (8, 8, 8)), ((-22, -4, -18), (8, 8, 8))],
        "vmPFC": [((0, 45, -14), (10, 14, 10))],
    }
    if region == "brain":
        return points
    near = [(np.abs(points - np.array(c)) < s).all(axis=1) for c, s in boxes[region]]
    return points[np.any(near, axis=0)]


def errors(found, to_t1w, region, sign=1):
    """Distance (mm) between where the engine looks for points of the head and where they appear."""
    points = where(region)
    looked = found.moved(registration.transform_points(np.linalg.inv(to_t1w), points))
    return np.linalg.norm(looked - points - np.outer(sign * planted(points), [0, 1, 0]), axis=1)


def told(found, to_t1w, sign=1):
    return {region: errors(found, to_t1w, region, sign) for region in ("brain", "amygdala", "vmPFC")}


def check(after):
    print({k: (round(v.mean(), 3), round(np.percentile(v, 95), 3)) for k, v in after.items()})
    # Of the 0.2 mm, 0.1 to 0.2 mm are the coregistration's.
    assert after["brain"].mean() < 0.4
    assert np.percentile(after["brain"], 95) < 0.7
    assert after["amygdala"].mean() < 0.5
    assert after["vmPFC"].mean() < 0.6


def test_a_phase_difference_undoes_distortion(head, epis, tmp_path):
    given = field_files(head, tmp_path, "phasediff")
    field = fieldmap.read(given, head.t1w, head.dseg, run=(epis[1], READOUT))
    encoding = phase_encoding(READOUT, SHAPE)
    found, to_t1w, _ = distortion.by_field_map(field, epis[1], encoding, head.t1w, head.dseg)
    check(told(found, to_t1w))


def test_a_field_in_any_unit_is_read_in_hertz(head, epis, tmp_path):
    given = field_files(head, tmp_path, "fieldmap")
    field = fieldmap.read(given, head.t1w, head.dseg, run=(epis[1], READOUT))
    points = where("brain")[::7]
    read = distortion.field_at(field.hertz, registration.transform_points(field.from_t1w, points))
    expected = planted(points) / (phase_encoding(READOUT, SHAPE).voxels_per_hz * MM)
    assert np.abs(read - expected).mean() < 1.0  # of up to 88 Hz


@pytest.fixture(scope="module")
def corrected(head, epis, tmp_path_factory):
    """A short run and an EPI of the opposite direction, from files to files, without and with correction."""
    folder = tmp_path_factory.mktemp("distorted")
    shape, affine = templates.target_grid(4.0)
    identity = Volume(registration.grid_points(shape, affine).astype(np.float32), affine)
    anatomy = anatomy_files(folder)
    mask = Volume((head.dseg.data > 0).astype(np.uint8), head.dseg.affine)
    write_anatomy(anatomy, t1w=head.t1w, mask=mask, dseg=head.dseg, to_t1w=identity)
    rng = np.random.default_rng(9)
    level = epis[1].data[epis[1].data > 50].mean()
    volumes = [epis[1].data + rng.normal(size=SHAPE) * level / SNR for _ in range(12)]
    save(np.stack(volumes, axis=-1), epis[1].affine, folder / "bold.nii.gz")
    save(epis[-1].data, epis[-1].affine, folder / "back.nii.gz")
    pair = Fieldmap("pepolar", {"first": str(folder / "back.nii.gz")}, {"first": BACK})
    return {
        method: process(folder / method, folder / "bold.nii.gz", anatomy, field)
        for method, field in (("none", None), ("pepolar", pair))
    }


def process(folder, bold, anatomy, field):
    folder.mkdir()
    names = ("ref.nii.gz", "brain.nii.gz", "xfm.json", "shift.nii.gz")
    between = embedded.AlignmentFiles(*(folder / name for name in names))
    embedded.align_run(bold, RAW_T1W, anatomy, outputs=between, given=field, sidecar=READOUT)
    ends = ("bold.nii.gz", "mask.nii.gz", "dseg.nii.gz", "confounds.tsv", "bold.json")
    return embedded.resample_run(
        bold,
        2.0,
        anatomy,
        between,
        outputs=embedded.PreprocessedFiles(*(folder / name for name in ends)),
        settings=Preprocessing(resolution=4.0, registration="fast"),
        sidecar={"SliceTiming": np.linspace(0, 1.9, SHAPE[2]).tolist()},
    )


def test_opposite_directions_undo_distortion(corrected):
    after = {}
    for method, result in corrected.items():
        known = json.loads((result.bold.parent / "xfm.json").read_text())
        shift = registration.read_volume(result.bold.parent / "shift.nii.gz")
        found = distortion.Distortion(shift, known["distortion"]["Axis"])
        after[method] = told(found, np.array(known["boldref_to_t1w"]).reshape(4, 4))
    assert after["none"]["vmPFC"].mean() > 4
    assert np.percentile(after["none"]["brain"], 95) > 1.5
    print({k: (round(v.mean(), 3), round(np.percentile(v, 95), 3)) for k, v in after["none"].items()})
    check(after["pepolar"])


def test_a_run_comes_out_where_the_head_is_and_as_bright(corrected, head):
    shape, affine = templates.target_grid(4.0)
    soft = Volume(ndimage.gaussian_filter(head.t2star.data, MM / 2.355 * 0.8 / 2), head.t2star.affine)
    truth = registration.sample(soft, registration.grid_points(shape, affine))
    near = np.zeros(shape, dtype=bool)
    voxels = np.rint(registration.transform_points(np.linalg.inv(affine), where("vmPFC"))).astype(int)
    near[tuple(voxels.T)] = True
    missed = {}
    for method, result in corrected.items():
        mean = np.asarray(nibabel.load(result.bold).dataobj).mean(axis=-1)
        seen = near & (np.asarray(nibabel.load(result.mask).dataobj) > 0)
        assert seen.sum() > 0.7 * near.sum()
        missed[method] = np.abs(mean[seen] / truth[seen] - 1).mean()
    print(missed)
    assert missed["pepolar"] < 0.5 * missed["none"]
    assert missed["pepolar"] < 0.08


def test_the_metadata_say_what_was_corrected(corrected):
    plain, found = (corrected[method].metadata for method in ("none", "pepolar"))
    assert plain["DistortionCorrection"]["Method"] == "none"
    told = found["DistortionCorrection"]
    assert (told["Method"], told["Fieldmap"], told["PhaseEncodingDirection"]) == (
        "pepolar",
        ["back.nii.gz"],
        "j",
    )
    print(told)
    assert 0.2 < told["MeanShift"] < 1.5
    assert told["P95Shift"] > 1.0
    assert (found["SliceTimingCorrected"], found["StartTime"]) == (True, pytest.approx(0.95))


def test_two_phase_images_are_a_phase_difference():
    rng = np.random.default_rng(4)
    first = rng.uniform(-np.pi, np.pi, (12, 12, 12))
    accrued = rng.uniform(-1, 1, first.shape)
    both = {"phase1": first, "phase2": np.angle(np.exp(1j * (first + accrued)))}
    both = {role: np.round((phase + np.pi) / (2 * np.pi) * 4095) for role, phase in both.items()}
    for phase in both.values():
        phase.flat[:2] = 0, 4095
    times = {"phase1": {"EchoTime": 0.00492}, "phase2": {"EchoTime": 0.00738}}
    radians = {role: image.astype(float) for role, image in both.items()}
    given = Fieldmap("phases", {"phase1": "a", "phase2": "b", "magnitude": "c"}, times)
    found, seconds = fieldmap._phase_difference(given, radians)
    assert seconds == pytest.approx(0.00246)
    np.testing.assert_allclose(found.flat[2:], accrued.flat[2:], atol=0.01)


@pytest.mark.parametrize(("step", "zero"), [(1, 2048), (1, 0), (2, 0)], ids=["from 0", "around 0", "even"])
def test_a_masked_phase_has_the_scale_of_the_scanner_not_of_its_range(step, zero):
    truth = np.random.default_rng(5).uniform(-0.6, 0.9, (20, 20, 20))
    truth.flat[:2] = -0.6, 0.9
    head = np.indices(truth.shape).max(axis=0) < 14
    steps = np.round(truth / (2 * np.pi) * 4096) * step + zero
    found = fieldmap._radians(np.where(head, steps, 0.0))
    np.testing.assert_allclose(found[head], truth[head], atol=1e-3)
    assert (found[~head] == 0).all()
    with pytest.raises(DataFault, match="E-DATA-B26 x: phase is masked"):
        fieldmap._radians(np.where(head, np.degrees(truth), 0.0), "x")
    assert (fieldmap._radians(np.where(head, truth, 0.0)) == np.where(head, truth, 0.0)).all()


def test_a_field_continues_smoothly_where_it_is_unknown():
    x = np.indices((40, 40, 40))[0] / 10.0
    weight = np.zeros((40, 40, 40))
    weight[8:32, 8:32, 8:32] = 1
    rng = np.random.default_rng(2)
    found = fieldmap.continued(x + 0.1 * rng.normal(size=x.shape), weight, np.array([3.0, 3.0, 3.0]))
    inside = weight > 0
    assert np.abs(found - x)[inside].mean() < 0.06
    assert np.abs(np.diff(found, axis=0)).max() < 0.6
    assert np.isfinite(found).all()


# Which field map is meant for which run.
BOLD = "sub-01/ses-1/func/sub-01_ses-1_task-memory_bold.nii.gz"
INTENDED = {"IntendedFor": "ses-1/func/sub-01_ses-1_task-memory_bold.nii.gz"}


def fmap(root, name, **metadata):
    folder = root / "sub-01/ses-1/fmap"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"sub-01_ses-1_{name}.nii.gz").touch()
    (folder / f"sub-01_ses-1_{name}.json").write_text(json.dumps(metadata))


def test_a_phase_difference_is_found_with_its_magnitude(tmp_path):
    fmap(tmp_path, "phasediff", **INTENDED, **ECHOES)
    fmap(tmp_path, "magnitude1")
    found = fieldmap_of(tmp_path, BOLD, READOUT)
    assert found.method == "phasediff"
    assert found.files["magnitude"].endswith("fmap/sub-01_ses-1_magnitude1.nii.gz")
    assert found.sidecars["phasediff"] == ECHOES
    assert Fieldmap.from_params(found.params, found.files.values()) == found
    assert fieldmap_of(tmp_path, BOLD.replace("memory", "rest"), READOUT) is None


def test_opposite_directions_are_found_by_either_key(tmp_path):
    fmap(tmp_path, "dir-AP_epi", B0FieldIdentifier="pepolar0", **READOUT)
    fmap(tmp_path, "dir-PA_epi", B0FieldIdentifier=["pepolar0"], **BACK)
    assert fieldmap_of(tmp_path, BOLD, READOUT) is None
    found = fieldmap_of(tmp_path, BOLD, {**READOUT, "B0FieldSource": "pepolar0"})
    assert [path.split("_dir-")[1] for path in found.files.values()] == ["AP_epi.nii.gz", "PA_epi.nii.gz"]


def test_other_images_beside_do_no_harm(tmp_path):
    fmap(tmp_path, "acq-famp_TB1TFL", **INTENDED)
    fmap(tmp_path, "dir-AP_epi (1)", **INTENDED)
    assert fieldmap_of(tmp_path, BOLD, READOUT) is None


def test_one_opposite_image_is_paired_with_the_run(tmp_path):
    fmap(tmp_path, "dir-PA_epi", IntendedFor=[f"bids::{BOLD}"], **BACK)
    found = fieldmap_of(tmp_path, BOLD, READOUT)
    assert (found.method, list(found.files)) == ("pepolar", ["first"])
    with pytest.raises(DataFault, match="E-DATA-B26.*opposite to 'j-'"):
        fieldmap_of(tmp_path, BOLD, BACK)


@pytest.mark.parametrize(
    ("made", "sidecar", "says"),
    [
        ({"phasediff": {**ECHOES}}, READOUT, "E-DATA-B26.*no magnitude"),
        ({"phasediff": {"EchoTime2": 0.007}, "magnitude1": {}}, READOUT, "E-DATA-B26.*echo times"),
        ({"phasediff": {"EchoTime1": 4.92, "EchoTime2": 7.38}, "magnitude1": {}}, READOUT, "2.46 s apart"),
        ({"phasediff": {**ECHOES}, "magnitude1": {}}, {}, "E-DATA-B25.*PhaseEncodingDirection is absent"),
        ({"phasediff": {**ECHOES}, "magnitude1": {}}, {"PhaseEncodingDirection": "j"}, "TotalReadoutTime"),
        ({"dir-AP_epi": {"PhaseEncodingDirection": "j"}, "dir-PA_epi": BACK}, READOUT, "TotalReadoutTime"),
        ({"dir-AP_epi": READOUT}, READOUT, "E-DATA-B26.*opposite"),
    ],
)
def test_an_incomplete_field_map_is_a_fault_with_a_fix(tmp_path, made, sidecar, says):
    for name, metadata in made.items():
        fmap(tmp_path, name, **INTENDED, **metadata)
    with pytest.raises(DataFault, match=f"{says}.*Fix: .*distortion: none"):
        fieldmap_of(tmp_path, BOLD, sidecar)
