"""Signs and units of field maps, by the anatomy: where a signal appears, whatever the image's orientation.

BIDS: `j` is phase encoding from low to high indices, `j-` the other way; a point whose precession is faster
(positive Hz, phase that grows from the first echo to the second) appears further along it.
"""

import numpy as np
import pytest
from nibabel import orientations
from scipy import ndimage

from reconfmri import registration
from reconfmri.acquisition import phase_encoding
from reconfmri.fieldmaps import Fieldmap, field_unit
from reconfmri.preprocess import fieldmap
from reconfmri.preprocess.unwarping import Distortion
from reconfmri.registration import Volume

MM, HERTZ, READOUT = 4.0, 60.0, 0.03
PLACE = np.array([8.0, -12.0, 20.0])  # mm, RAS
# Where a signal goes to whose precession is faster, RAS, by the axis codes of the image and its sidecar.
GOES = {
    ("RAS", "j"): [0, 1, 0],
    ("RAS", "j-"): [0, -1, 0],
    ("RAS", "i"): [1, 0, 0],
    ("LPS", "j"): [0, -1, 0],
    ("LPS", "j-"): [0, 1, 0],
    ("LPS", "i-"): [1, 0, 0],
    ("PSR", "i"): [0, -1, 0],
    ("PSR", "i-"): [0, 1, 0],
    ("PSR", "j"): [0, 0, 1],
    ("PSR", "k-"): [-1, 0, 0],
}


def grid(codes, size=(32, 38, 28)):
    """An image's shape and affine whose axes lead to `codes`, around the origin."""
    upright = np.diag([MM, MM, MM, 1.0])
    upright[:3, 3] = -MM * (np.array(size) - 1) / 2
    turn = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(codes))
    affine = upright @ orientations.inv_ornt_aff(turn, size)
    assert orientations.aff2axcodes(affine) == tuple(codes)
    shape = orientations.apply_orientation(np.empty(size), turn).shape
    return shape, affine


def blob(shape, affine, place):
    apart = registration.grid_points(shape, affine) - place
    return np.exp(-0.5 * (apart**2).sum(axis=-1) / 7.0**2)


@pytest.mark.parametrize(("codes", "direction"), GOES)
def test_a_signal_is_brought_back_from_where_the_scanner_put_it(codes, direction):
    shape, affine = grid(codes)
    encoding = phase_encoding({"PhaseEncodingDirection": direction, "TotalReadoutTime": READOUT}, shape)
    lines = shape["ijk".index(direction[0])]
    apart = HERTZ * READOUT * lines / (lines - 1) * MM
    seen = blob(shape, affine, PLACE + apart * np.array(GOES[codes, direction]))
    shift = np.full(shape, HERTZ * encoding.voxels_per_hz * MM)
    found = Distortion(Volume(shift, affine), encoding.axis).straightened(Volume(seen, affine))
    middle = registration.transform_points(affine, np.array(ndimage.center_of_mass(found.data)))
    np.testing.assert_allclose(middle, PLACE, atol=0.1)


@pytest.mark.parametrize(("codes", "direction"), [("RAS", "j"), ("LPS", "j"), ("PSR", "i-")])
def test_a_pair_of_opposite_directions_finds_the_sign_of_the_field(codes, direction, monkeypatch):
    """The signals of a textured ball move by up to 6 mm along the anatomical direction, and back."""
    opposite = direction.removesuffix("-") if direction.endswith("-") else f"{direction}-"
    shape, affine = grid(codes)
    points = registration.grid_points(shape, affine)
    along = np.array(GOES[codes, direction], dtype=float)
    monkeypatch.setattr(fieldmap, "LEVELS", fieldmap.LEVELS[:2])
    texture = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=shape), 2.0)
    ball = np.linalg.norm(points / [50, 62, 44], axis=-1) < 1
    head = Volume(ndimage.gaussian_filter(ball * (1 + 0.3 * texture / texture.std()), 0.7), affine)
    images, encodings = [], []
    for way, name in ((1, direction), (-1, opposite)):
        # The field rises and falls slowly: what appears at q came from q - shift(q - shift(q)).
        came = points
        for _ in range(8):
            came = points - way * (6 * blob_at(came))[..., None] * along
        slope = np.gradient(6 * blob_at(points), MM)
        rise = sum(part * (along @ affine[:3, axis] / MM) for axis, part in enumerate(slope))
        squeeze = 1 + way * registration.sample(Volume(rise, affine), came, order=1)
        images.append(Volume(registration.sample(head, came) / squeeze, affine))
        sidecar = {"PhaseEncodingDirection": name, "TotalReadoutTime": READOUT}
        encodings.append(phase_encoding(sidecar, shape))
    found, _ = fieldmap._shift_between(images[0], images[1], [e.axis for e in encodings], -1.0)
    hertz = found.data / (encodings[0].voxels_per_hz * MM)
    expected = 6 * blob_at(points) / abs(encodings[0].voxels_per_hz * MM)
    inside = np.linalg.norm(points / [38, 48, 32], axis=-1) < 1
    near, far = inside & (expected > 0.6 * expected.max()), inside & (expected < 0.1 * expected.max())
    risen = (hertz[near].mean() - hertz[far].mean()) / (expected[near].mean() - expected[far].mean())
    # Measured 0.8 to 1; at this voxel size and with two of three levels the sign is what counts.
    assert 0.6 < risen < 1.2


def blob_at(points):
    return np.exp(-0.5 * ((points - PLACE) ** 2).sum(axis=-1) / 20.0**2)


def test_hertz_radians_and_tesla_are_one_field():
    gyromagnetic = 2.6752218708e8  # rad/s/T, of the proton in water (CODATA 2022)
    given = {"Hz": HERTZ, "rad/s": 2 * np.pi * HERTZ, "T": 2 * np.pi * HERTZ / gyromagnetic}
    for unit, value in given.items():
        assert value * field_unit({"Units": unit}, "fieldmap.nii.gz") == pytest.approx(HERTZ, rel=1e-4)


@pytest.mark.parametrize("method", ["phasediff", "phases"])
def test_phase_that_grows_with_the_echo_time_is_a_positive_field(method):
    """A field of up to 200 Hz, which wraps: two turns in 10 ms."""
    x, y, z = (np.indices((30, 32, 28)) - 15) / 8.0
    hertz = 200 * np.exp(-(x**2 + y**2 + z**2)) - 20
    start = 0.8 * np.sin(x)

    def measured(seconds):
        turned = np.angle(np.exp(1j * (start + 2 * np.pi * hertz * seconds)))
        return np.round((turned + np.pi) / (2 * np.pi) * 4095)

    first, second = 0.00492, 0.01492
    if method == "phases":
        times = {"phase1": {"EchoTime": first}, "phase2": {"EchoTime": second}}
        images = {"phase1": measured(first), "phase2": measured(second)}
    else:
        times = {"phasediff": {"EchoTime1": first, "EchoTime2": second}}
        difference = np.angle(np.exp(2j * np.pi * hertz * (second - first)))
        images = {"phasediff": np.round(difference / np.pi * 2048) * 2}
        images["phasediff"].flat[:2] = -4096, 4094
    given = Fieldmap(method, {role: role for role in (*images, "magnitude")}, times)
    phase, seconds = fieldmap._phase_difference(given, images)
    found = fieldmap.unwrapped(phase, np.ones(hertz.shape, dtype=bool)) / (2 * np.pi * seconds)
    wrong = found - hertz
    assert np.abs(wrong.flat[2:] - np.round(np.median(wrong) * seconds) / seconds).max() < 1.0
