"""A head with a known warp to the template, as a scanner sees it; shared by tests and benchmarks.

Heads are models of 1 mm; EPI volumes are sampled from them by a quintic spline, which no estimator uses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from reconfmri import itk, registration, templates
from reconfmri.preprocess import AnatomyFiles, intake
from reconfmri.registration import Volume

CENTRE = np.array([0.0, -17.0, 5.0])


@dataclass(frozen=True, eq=False)
class Person:
    """A head with a known warp: template point = pose(p) + bend(pose(p)) of a point p of the person."""

    t1w: Volume
    t2star: Volume  # in template space, 1 mm
    brain: Volume
    pose: np.ndarray
    bend: Volume

    def to_template(self, points):
        return self._bent(registration.transform_points(self.pose, points))

    def to_person(self, points):
        found = points.copy()
        for _ in range(30):
            found = points - (self._bent(found) - found)
        return registration.transform_points(np.linalg.inv(self.pose), found)

    def _bent(self, points):
        parts = [Volume(self.bend.data[..., axis], self.bend.affine) for axis in range(3)]
        return points + np.stack([registration.sample(part, points, order=3) for part in parts], axis=-1)


@dataclass(frozen=True)
class Run:
    volumes: list
    affine: np.ndarray
    truth: np.ndarray  # (n, 4, 4), first volume's space to each volume's
    brain: np.ndarray
    epi_to_t1w: np.ndarray


def head_model(*, scalp=0.9):
    """T1w and T2* contrast of a head around the template brain (1 mm), and its brain.

    `scalp` is the brightness of the scalp over that of white matter.
    """
    fine = registration.read_volume(templates.target_brain())
    data, affine = np.pad(fine.data, 20), fine.affine.copy()
    affine[:3, 3] -= 20
    brain = data > 0
    depth = ndimage.distance_transform_edt(~brain)
    t1w, t2star = data.copy(), np.where(brain, 170 - data, 0)
    for low, high, bright, dim in (
        (0, 2, 20, 130),
        (2, 8, 8, 5),
        (8, 14, 95 * scalp, 40),
    ):  # fluid, bone, scalp
        shell = (depth > low) & (depth <= high)
        t1w[shell], t2star[shell] = bright, dim
    soft = [
        ndimage.gaussian_filter(part.astype(np.float32), width) for part, width in ((t1w, 0.5), (t2star, 1.2))
    ]
    return Volume(soft[0], affine), Volume(soft[1], affine), Volume(brain.astype(np.float32), affine)


def draw_person(rng, *, t1w_mm=2.0, scalp=0.9, size=1.0, shading=0.2):
    """A person whose brain is bent by 5 mm (95th percentile), 9.5 mm off, and the noisy, biased T1w.

    `size` is that of the head over the template's, `shading` the amplitude of the logarithm of the bias.
    """
    t1w, t2star, brain = head_model(scalp=scalp)
    stretch = np.diag([*np.array([0.96, 1.03, 0.98]) / size, 1.0])
    pose = registration.rigid(np.array([5.0, -4.0, 6.0, 6.0, -5.0, 7.0]), CENTRE) @ stretch
    lattice = np.diag([8.0, 8.0, 8.0, 1.0])
    lattice[:3, 3] = [-120, -150, -115]
    bend = np.stack([ndimage.gaussian_filter(rng.normal(size=(30, 34, 30)), 2.0) for _ in range(3)], axis=-1)
    bend *= 5.0 / np.percentile(np.linalg.norm(bend, axis=-1), 95)
    turned = registration.rigid(np.array([4.0, 3.0, -5.0, 5.0, -6.0, 4.0]), np.zeros(3))
    affine = turned @ np.diag([t1w_mm, t1w_mm, t1w_mm, 1.0])
    affine[:3, 3] += turned[:3, :3] @ np.array([-94.0, -136.0, -120.0])
    unfinished = Person(t1w, t2star, brain, pose, Volume(bend, lattice))
    shape = tuple(int(size / t1w_mm) for size in (188, 228, 216))
    points = registration.grid_points(shape, affine)
    seen = registration.sample(t1w, unfinished.to_template(points), order=1)
    bias = np.exp(shading * np.sin(points[..., 0] / 60 + 1) * np.cos(points[..., 2] / 70))
    noisy = np.clip(seen * bias + 3 * rng.normal(size=seen.shape), 0, None).astype(np.float32)
    return Person(Volume(noisy, affine), t2star, brain, pose, Volume(bend, lattice))


def scan(person, rng, *, n_volumes, extent, jumps=True, snr=50.0, shape=(52, 62, 42), voxel_mm=4.0):
    """EPI volumes of a moving person, 10 degrees and 10 mm off by their headers."""
    affine = registration.rigid(np.array([12.0, 3.0, -4.0, 0, 0, 0]), np.zeros(3)) @ np.diag(
        [voxel_mm] * 3 + [1]
    )
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(shape) - 1) / 2) - CENTRE
    off = registration.rigid(np.array([10.0, -7.0, 6.0, 10.0, -8.0, 9.0]), CENTRE)
    points = registration.grid_points(shape, affine)
    course = np.cumsum(rng.normal(size=(n_volumes, 6)), axis=0)
    course *= extent / 2 / np.abs(course).max(axis=0)
    if jumps:
        course[n_volumes // 3 :] += rng.uniform(-extent / 2, extent / 2, 6)
    course -= course[0]
    truth = np.array([registration.rigid(motion, CENTRE) for motion in course])
    model = _own_model(person, voxel_mm)
    spline, to_model = ndimage.spline_filter(model.data, order=5), np.linalg.inv(model.affine)
    volumes = []
    for matrix in truth:
        where = registration.transform_points(to_model @ off @ np.linalg.inv(matrix), points).reshape(-1, 3).T
        volumes.append(ndimage.map_coordinates(spline, where, order=5, prefilter=False).reshape(shape))
    in_brain = registration.sample(
        person.brain, person.to_template(registration.transform_points(off, points)), order=1
    )
    level = volumes[0][in_brain > 0.5].mean()
    noisy = [np.clip(v + rng.normal(size=v.shape) * level / snr, 0, None).astype(np.float32) for v in volumes]
    return Run(noisy, affine, truth, in_brain > 0.5, off)


@cache
def _own_model(person, voxel_mm):
    """The person's EPI contrast in the space of the T1w, 1 mm."""
    # Half of a voxel's width stands for the point spread; the rest of the voxel aliases, as on a scanner.
    blurred = ndimage.gaussian_filter(person.t2star.data, voxel_mm / 2.355 / 2)
    affine = np.eye(4)
    affine[:3, 3] = [-110, -140, -115]
    points = registration.grid_points((220, 240, 220), affine)
    where = np.linalg.inv(person.t2star.affine)
    data = np.empty(points.shape[:3], dtype=np.float32)
    for number, sheet in enumerate(points):
        there = registration.transform_points(where, person.to_template(sheet)).reshape(-1, 3).T
        data[number] = ndimage.map_coordinates(blurred, there, order=1).reshape(sheet.shape[:2])
    return Volume(data, affine)


RAW_T1W = Path("raw_T1w.nii.gz")


def anatomy_files(folder):
    """Where a person's anatomy lies in `folder`, made from one raw T1w."""
    names = ("t1w", "mask", "dseg", "to_t1w")
    facts = folder / "facts.json"
    source = {"source": RAW_T1W.name, "from_anatomy": np.eye(4).ravel().tolist()}
    facts.write_text(json.dumps({"t1w_images": [source]}))
    return AnatomyFiles(*(folder / f"{name}.nii.gz" for name in names), facts)


def write_anatomy(files, **volumes):
    """Write what `anatomy_files` names: t1w, mask, dseg as images, to_t1w as a warp."""
    for name, volume in volumes.items():
        write = itk.write_warp if name == "to_t1w" else intake.write_volume
        write(getattr(files, name), volume)


def darkened(run):
    """The run whose every third volume has lost most of the signal of four slices."""
    volumes = [volume.copy() for volume in run.volumes]
    middle = run.volumes[0].shape[2] // 2
    for volume in volumes[1::3]:
        volume[:, :, middle : middle + 4] *= 0.3
    return replace(run, volumes=volumes)


def drifting(run):
    """The run in a signal that drifts by 5 %, and in a field of the coil that tilts by another 5 %."""
    side = np.linspace(-1, 1, run.volumes[0].shape[0])[:, None, None]
    times = np.linspace(0, 1, len(run.volumes))
    volumes = [v * (1 + 0.05 * t + 0.05 * t * side) for v, t in zip(run.volumes, times, strict=True)]
    return replace(run, volumes=volumes)


def motion_errors(found, run):
    """Mean error over the brain of each volume, mm."""
    points = registration.grid_points(run.brain.shape, run.affine)[run.brain][::40]
    return np.array(
        [
            np.linalg.norm(
                registration.transform_points(f, points) - registration.transform_points(t, points), axis=1
            ).mean()
            for f, t in zip(found, run.truth, strict=True)
        ]
    )
