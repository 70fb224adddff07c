"""One run's reference volume, its brain, and its rigid position in the T1w image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize

from reconfmri import greedy, interpolation, registration
from reconfmri.exclusions import DataFault
from reconfmri.preprocess.anatomy import FLUID, GREY, WHITE
from reconfmri.registration import Array, Volume

SEARCH_MM, REFINE_MM, FINE_MM = 8.0, 4.0, 2.5
# Distance of the two samples from the white-matter surface, mm; Greve & Fischl take 2 mm on surfaces at 1 mm.
PROBE_MM = 2.0
N_BOUNDARY = 6000
# Right pairs end at 0.48 to 0.58, somebody else's head at 0.88, upside-down ones and blobs above 0.94.
MAX_COST = 0.85
# By how much the boundary cost of the head's mirror image lies above that of the head. Own runs: 0.10 to 0.33
# on three real heads with noise, smoothing, voxels of 3 to 5 mm and slabs; 0.09 to 0.24 on simulated ones,
# which are more symmetric. Runs of other people: -0.02 to 0.05. Swapped: as own runs, sign reversed.
MIN_LEAD = 0.07
N_MIRRORED = 3000
RECHECK = (
    "look at the run's first volume and at the T1w: same person, plausible headers, whole brain in view?"
)

SWAPPED = (
    "convert both from the DICOM series again; where all runs of the person are swapped, it is the T1w; "
    "never flip an image by hand"
)
WHOSE = (
    "find out by the DICOM series whose run it is; where all runs of the person are so, whose T1w it is; "
    "has the run any contrast of grey and white matter?"
)


@dataclass(frozen=True)
class Boundary:
    """Points on the surface of white matter and its outward normals, (n, 3), T1w space, RAS mm."""

    points: Array
    normals: Array

    @cached_property
    def probes(self) -> Array:
        """Points inside, then outside of the surface, (2 n, 3)."""
        return np.concatenate([self.points + side * PROBE_MM * self.normals for side in (-1, 1)])

    def some(self, count: int) -> Boundary:
        """About `count` of the points, spread as before."""
        step = max(len(self.points) // count, 1)
        return Boundary(self.points[::step], self.normals[::step])

    def moved(self, matrix: Array) -> Boundary:
        """The surface after a rigid motion or reflection (4, 4)."""
        return Boundary(registration.transform_points(matrix, self.points), self.normals @ matrix[:3, :3].T)


def signal_mask(reference: Volume) -> Array:
    """Return where an EPI volume has tissue signal: its largest piece above a threshold, without holes."""
    smooth = ndimage.gaussian_filter(reference.data.astype(np.float32), 0.7)
    bright = smooth[smooth > np.percentile(smooth, 98) * 0.1]
    if bright.size == 0:
        raise DataFault("E-DATA-B04", "flat image: no voxel of the reference volume has signal")
    mask = smooth > 0.4 * np.median(bright[bright > np.median(bright)])
    mask = ndimage.binary_opening(mask, iterations=1)
    labels, count = ndimage.label(mask)
    if count == 0:
        raise DataFault("E-DATA-B04", "no connected piece of the reference volume has signal")
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(ndimage.binary_fill_holes(ndimage.binary_dilation(labels == sizes.argmax())))


def align_to_t1w(
    reference: Volume,
    t1w: Volume,
    dseg: Volume,
    *,
    start: Array | None = None,
    reflection: Array | None = None,
) -> tuple[Array, dict[str, float]]:
    """Return the rigid (4, 4) matrix, RAS mm, from the EPI reference to the T1w, and how good it is.

    Mutual information finds the head, the edge of white matter sets it. `start`, a matrix nearly right,
    spares the search. With `reflection` (4, 4), by the middle plane of the head, the mirror image of the head
    is placed, too: no head but the own one fits much better than its mirror image.
    Greve & Fischl, NeuroImage 2009;48:63.

    Raises
    ------
    DataFault
        The two images could not be matched (E-DATA-B21), left and right are swapped in one of them
        (E-DATA-B41), or they show different heads (E-DATA-B42).
    """
    scaled = Volume(np.clip(reference.data, 0, np.percentile(reference.data, 99.8)), reference.affine)
    to_epi = _by_information(*_coarse(t1w, dseg), scaled) if start is None else np.linalg.inv(start)
    boundary = white_surface(dseg)
    smooth = ndimage.gaussian_filter(scaled.data.astype(np.float32), 0.4)
    sharp = Volume(interpolation.coefficients(smooth), scaled.affine)
    to_epi, cost = _by_boundary(boundary, sharp, to_epi)
    facts = {"coregistration_cost": round(cost, 4)} | _fit(scaled, dseg, to_epi)
    if reflection is not None:
        mirror = boundary.moved(reflection)
        mirrored, _ = _by_boundary(mirror.some(N_MIRRORED), sharp, to_epi)
        facts["mirrored_cost"] = round(_cost_at(mirror, sharp, mirrored), 4)
    _check(facts)
    return np.linalg.inv(to_epi), facts


def rigid_from_t1w(image: Volume, t1w: Volume, dseg: Volume) -> Array:
    """Return the rigid (4, 4) matrix, RAS mm, from the T1w to an undistorted image of any contrast.

    Raises
    ------
    DataFault
        The two images could not be matched (E-DATA-B21).
    """
    coarse, inside = _coarse(t1w, dseg)
    clipped = Volume(np.clip(image.data, 0, np.percentile(image.data, 99.8)), image.affine)
    start = _by_information(coarse, inside, clipped)
    fine = registration.downsample(t1w, FINE_MM)
    here = registration.grid_points(fine.data.shape, fine.affine)
    near = registration.sample(Volume(inside.astype(np.float32), coarse.affine), here, order=1) > 0.5
    found = greedy.affine(fine, clipped, mask=near, start=start, options="-dof 6 -m NMI -n 40x20")
    overlap = _fit(clipped, dseg, found)["signal_in_brain"]
    if overlap < 0.6:
        reason = f"the field map's magnitude could not be placed in the T1w ({overlap:.0%} of the brain)"
        raise DataFault("E-DATA-B21", reason, fix="look at the magnitude image: same person, whole brain?")
    return found


def white_surface(dseg: Volume) -> Boundary:
    """Return points where white matter meets grey, spread over the whole brain, and the normals there."""
    white = ndimage.gaussian_filter((dseg.data == WHITE).astype(np.float32), 1.2 / dseg.voxel_mm)
    grey = ndimage.binary_dilation(dseg.data == GREY)
    fluid_near = ndimage.binary_dilation(dseg.data == FLUID)
    edge = (dseg.data == WHITE) & grey & ~fluid_near
    chosen = np.flatnonzero(edge)
    if chosen.size < 200:
        raise DataFault(
            "E-DATA-B21",
            f"only {chosen.size} voxels of the T1w lie on the edge of white matter",
            fix=RECHECK,
        )
    chosen = np.random.default_rng(registration.SEED).permutation(chosen)[:N_BOUNDARY]
    index = np.unravel_index(np.sort(chosen), edge.shape)
    slopes = np.stack([part[index] for part in np.gradient(white)], axis=-1) @ np.linalg.inv(
        dseg.affine[:3, :3]
    )
    steepness = np.linalg.norm(slopes, axis=1, keepdims=True)
    steep = steepness[:, 0] > 0.05
    normals = -slopes[steep] / steepness[steep]
    points = registration.grid_points(dseg.data.shape, dseg.affine)[index][steep]
    # From the voxel's centre onto the surface where the smoothed white matter is one half.
    beyond = (white[index][steep][:, None] - 0.5) / steepness[steep]
    return Boundary(points + normals * np.clip(beyond, -1.5, 1.5), normals)


def native_brain(reference: Volume, mask: Volume, to_t1w: Array) -> Array:
    """Return the T1w brain mask on the EPI grid where the EPI has signal."""
    points = registration.transform_points(
        to_t1w, registration.grid_points(reference.data.shape, reference.affine)
    )
    inside = registration.sample(mask, points, order=1) > 0.5
    if not inside.any():
        raise DataFault("E-DATA-B21", "the T1w brain lies outside the run's field of view", fix=RECHECK)
    smooth = ndimage.gaussian_filter(reference.data, 0.5)
    seen = smooth > 0.15 * np.median(reference.data[inside])
    return np.asarray(inside & ndimage.binary_closing(seen, iterations=1, border_value=1))


def _coarse(t1w: Volume, dseg: Volume) -> tuple[Volume, Array]:
    """Return the T1w at 4 mm, and where the brain and 4 mm around it are."""
    coarse = registration.downsample(t1w, REFINE_MM)
    brain = registration.downsample(Volume((dseg.data > 0).astype(np.float32), dseg.affine), REFINE_MM)
    return coarse, registration.dilated(brain.data > 0.5, 4.0, brain.affine)


def _by_information(t1w: Volume, inside: Array, reference: Volume) -> Array:
    """Return the (4, 4) matrix from T1w to EPI of the highest mutual information at 4 mm."""
    far = registration.downsample(t1w, SEARCH_MM)
    far_mask = registration.sample(
        Volume(inside.astype(np.float32), t1w.affine),
        registration.grid_points(far.data.shape, far.affine),
        order=1,
    )
    search = registration.downsample(reference, SEARCH_MM)
    centres = np.eye(4)
    brain = registration.grid_points(t1w.data.shape, t1w.affine)[inside].mean(axis=0)
    seen = registration.grid_points(reference.data.shape, reference.affine)[signal_mask(reference)].mean(
        axis=0
    )
    centres[:3, 3] = seen - brain
    start = registration.search_rigid(
        far, search, mask=far_mask > 0.5, starts=[np.eye(4), centres], spread=(7.0, 9.0), n_candidates=250
    )
    return registration.search_rigid(
        t1w, reference, mask=inside, starts=[start], spread=(0.0, 0.0), n_candidates=1, n_refined=1
    )


def _by_boundary(boundary: Boundary, reference: Volume, start: Array) -> tuple[Array, float]:
    """Return the (4, 4) matrix from T1w to EPI of the lowest boundary cost, and that cost."""
    centre = boundary.points.mean(axis=0)

    def cost(motion: Array) -> float:
        return _cost_at(boundary, reference, start @ registration.rigid(motion, centre))

    found = minimize(cost, np.zeros(6), method="Powell", options={"xtol": 0.02, "ftol": 1e-6, "maxfev": 500})
    return start @ registration.rigid(found.x, centre), float(found.fun)


def _cost_at(boundary: Boundary, reference: Volume, to_epi: Array) -> float:
    """Return the mean of 1 + tanh(-contrast / 20), contrast in percent, over the edge (Greve & Fischl).

    `reference` holds the coefficients of a cubic spline.
    """
    values = interpolation.cubic(
        reference.data, np.linalg.inv(reference.affine) @ to_epi, boundary.probes
    ).astype(np.float64)
    white, grey = np.split(values, 2)
    both = white + grey
    seen = (white > 0) & (grey > 0)
    contrast = np.where(seen, 200.0 * (grey - white) / np.where(seen, both, 1.0), 0.0)
    return float(1.0 + np.tanh(-contrast / 20.0).mean())


def _fit(reference: Volume, dseg: Volume, to_epi: Array) -> dict[str, float]:
    """Return the share of the EPI's signal mask and of the brain in view that lie on one another."""
    points = registration.transform_points(
        np.linalg.inv(to_epi), registration.grid_points(reference.data.shape, reference.affine)
    )
    brain = (
        registration.sample(Volume((dseg.data > 0).astype(np.float32), dseg.affine), points, order=1) > 0.5
    )
    bright = signal_mask(reference)
    covered = float((bright & brain).sum() / max(brain.sum(), 1))
    return {
        "signal_in_brain": round(covered, 4),
        "brain_in_view_ml": round(_millilitres(brain, reference), 1),
    }


def _millilitres(mask: Array, volume: Volume) -> float:
    return float(mask.sum() * np.prod(volume.voxel_mm) / 1000)


def _check(facts: dict[str, float]) -> None:
    cost, mirrored = facts["coregistration_cost"], facts.get("mirrored_cost", np.inf)
    lead = mirrored - cost
    found = f"boundary cost {cost:.2f}, of the head's mirror image {mirrored:.2f}"
    if lead <= -MIN_LEAD and mirrored <= MAX_COST:
        what = f"left and right are swapped in the run, or in the T1w: {found}"
        raise DataFault("E-DATA-B41", what, fix=SWAPPED)
    if cost > MAX_COST or facts["signal_in_brain"] < 0.6 or facts["brain_in_view_ml"] < 200:
        numbers = ", ".join(f"{name} {value}" for name, value in facts.items())
        raise DataFault("E-DATA-B21", f"the run could not be placed in the T1w ({numbers})", fix=RECHECK)
    if lead < MIN_LEAD:
        what = f"the run fits the T1w no better than its mirror image, as another person's would: {found}"
        raise DataFault("E-DATA-B42", what, fix=WHOSE)
