"""Where the template brain lies in a head: found by the whole head first, then by the brain alone.

A brain-only template grows to a bright scalp, whatever the metric and the start. The mean of whole heads that
pydeface carries knows where scalp and skull are; the brain it finds is cut out and matched with the template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from reconfmri import greedy, registration, templates
from reconfmri.exclusions import DataFault
from reconfmri.registration import Array, Volume

SEARCH_MM, AFFINE_MM = 8.0, 4.0
# Whole heads fill 3.4 to 5.8 l of the image, stripped brains 1.4 to 1.7 l.
STRIPPED_ML, SPECK_ML = 2300.0, 20.0
MEAN_HEAD_LEVEL, NECK_MM = 60.0, -75.0
# greedy's mutual information can run away to a scale of 15 or crash where cross-correlation is steady.
AFFINE = "-dof 12 -m NCC 2x2x2"
FIRST_ROOM_MM, ROOM_MM, RASTER_MM = 3.5, 5.0, 3.0
LOOK = (
    "look at the T1w image: is it T1-weighted (white matter brighter than grey, fluid dark), is the whole "
    "brain in it, and does its header say which sides are front and crown?"
)


@dataclass(frozen=True)
class Template:
    """The template brain on the grid of the warp, and where it is compared with a head."""

    brain: Volume
    mask: Array
    around: Array


@dataclass(frozen=True)
class Placement:
    """`matrix` (4, 4) maps a point of the template brain to the head, RAS mm.

    `correlation` is that of template and head inside the brain, `reflected` those of the template turned back
    to front and upside down; `stripped`: the image shows a brain alone.
    """

    matrix: Array
    correlation: float
    reflected: tuple[float, float]
    stripped: bool

    @property
    def scales(self) -> Array:
        """Stretch of the template along its three main axes, (3,), largest first."""
        return np.asarray(np.linalg.svd(self.matrix[:3, :3], compute_uv=False))

    @property
    def brain_ml(self) -> float:
        """Volume of the template's brain as it lies in the head; negative when it is mirrored."""
        return float(np.linalg.det(self.matrix[:3, :3])) * template_ml()


@cache
def template_brain() -> Volume:
    """Return the brain of MNI152NLin2009cAsym at 1 mm."""
    return registration.read_volume(templates.target_brain())


@cache
def template_at(spacing_mm: float) -> Template:
    """Return the brain of MNI152NLin2009cAsym on `templates.target_grid(spacing_mm)`."""
    shape, affine = templates.target_grid(spacing_mm)
    fine = template_brain()
    points = registration.grid_points(shape, affine)
    sigma = np.sqrt(max(spacing_mm**2 - 1, 0)) / 2.355
    smooth = Volume(ndimage.gaussian_filter(fine.data, sigma, truncate=3), fine.affine)
    brain = Volume(registration.sample(smooth, points, order=1), affine)
    mask = registration.sample(Volume((fine.data > 0).astype(np.float32), fine.affine), points, order=1) > 0.5
    return Template(brain, mask, registration.dilated(mask, 6.0, affine))


def place_template(head: Volume, *, pose: Array | None = None) -> Placement:
    """Return where the template brain lies in a head of any position, or in a skull-stripped one.

    `pose` (4, 4) is where it roughly lies when that is known.
    """
    coarse, near = registration.downsample(head, AFFINE_MM), template_at(AFFINE_MM)
    stripped = filled_ml(coarse) < STRIPPED_ML
    if stripped:
        seen, start = coarse, _brain_search(coarse) if pose is None else pose
    else:
        start = _by_whole_head(coarse, pose)
        seen = cut_out(coarse, registration.transform_points(start, brain_points()), room_mm=FIRST_ROOM_MM)
    levels = "-n 60x40" if stripped else "-n 40x20"
    matrix = greedy.affine(near.brain, seen, mask=near.around, start=start, options=f"{AFFINE} {levels}")
    match, *reflected = (_reflected(near, coarse, matrix, axis) for axis in (None, 1, 2))
    return Placement(matrix, match, (reflected[0], reflected[1]), stripped)


def cut_out(head: Volume, brain: Array, *, room_mm: float) -> Volume:
    """Return a head in which only `room_mm` around the brain is left; `brain` (n, 3): its points, RAS mm.

    The points are those of `brain_points`, moved to the head.
    """
    grid = registration.downsample(head, RASTER_MM)
    index = np.rint(registration.transform_points(np.linalg.inv(grid.affine), brain)).astype(int)
    inside = ((index >= 0) & (index < grid.data.shape)).all(axis=1)
    count = np.zeros(grid.data.shape, dtype=np.float32)
    np.add.at(count, tuple(index[inside].T), 1.0)
    full = np.percentile(count[count > 0], 75) if inside.any() else 1.0
    there = ndimage.gaussian_filter(count / full, 0.7) > 0.5
    room = Volume(registration.dilated(there, room_mm, grid.affine).astype(np.float32), grid.affine)
    points = registration.grid_points(head.data.shape, head.affine)
    return Volume(np.where(registration.sample(room, points, order=1) > 0.5, head.data, 0), head.affine)


@cache
def brain_points() -> Array:
    """Return points of the template brain, 2 mm apart, (n, 3), RAS mm."""
    fine = template_brain()
    index = 2.0 * np.argwhere(fine.data[::2, ::2, ::2] > 0)
    return registration.transform_points(fine.affine, index)


def rigid_from_template(head: Volume) -> Array:
    """Return the rigid (4, 4) matrix, RAS mm, from the template brain to a head of any position."""
    return _rigid_part(place_template(head).matrix)


def similarity(template: Template, head: Volume, to_t1w: Volume) -> float:
    """Return the correlation of template and head inside the template's brain."""
    seen = registration.sample(head, to_t1w.data[template.mask], order=1)
    return _correlation(seen, template.brain.data[template.mask])


def otsu(values: Array) -> float:
    """Return the threshold between two classes of values. Otsu, IEEE Trans SMC 1979;9:62."""
    top = float(np.percentile(values, 99.5))
    counts, edges = np.histogram(np.clip(values, 0, top), bins=128)
    middle = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mean_below = np.cumsum(counts * middle) / np.maximum(below, 1)
    mean_above = ((counts * middle).sum() - np.cumsum(counts * middle)) / np.maximum(above, 1)
    return float(middle[np.argmax(below * above * (mean_below - mean_above) ** 2)])


def _not_air(head: Volume) -> Array:
    """Return where a head is; of the intensities themselves Otsu's threshold parts brain and bright scalp."""
    roots = np.sqrt(np.maximum(head.data, 0))
    return np.asarray(roots > otsu(roots))


def filled_ml(coarse: Volume) -> float:
    """Return the volume of what is not air, its clefts closed (12 mm) and its holes filled, ml."""
    labels, _ = ndimage.label(np.pad(_not_air(coarse), 4))
    voxel_ml = float(np.prod(coarse.voxel_mm)) / 1000
    # Skull may part brain and scalp everywhere; specks of noise are no head.
    sizes = np.bincount(labels.ravel()) * voxel_ml
    sizes[0] = 0
    inside = sizes[labels] > SPECK_ML
    closed = registration.dilated(registration.dilated(inside, 12.0, coarse.affine), -12.0, coarse.affine)
    return float(ndimage.binary_fill_holes(closed).sum() * voxel_ml)


def largest(mask: Array) -> Array:
    """Return the largest connected part of a mask."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _reflected(near: Template, head: Volume, matrix: Array, axis: int | None) -> float:
    """Return the correlation of a head with the template reflected along `axis` where it lies."""
    points = registration.grid_points(near.mask.shape, near.brain.affine)[near.mask]
    seen = registration.sample(head, registration.transform_points(matrix, points), order=1)
    if axis is not None:
        points[:, axis] = 2 * templates.CENTRE_MM[axis] - points[:, axis]
    return _correlation(seen, registration.sample(near.brain, points, order=1))


def _correlation(one: Array, other: Array) -> float:
    """Return the correlation of two samples; 0 where one of them is flat."""
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0


@cache
def template_ml() -> float:
    """Volume of the template brain, ml."""
    fine = template_brain()
    return float((fine.data > 0).sum() * np.prod(fine.voxel_mm) / 1000)


@cache
def _fine_mean_head() -> Volume:
    return registration.downsample(registration.read_volume(templates.mean_head()), 2.0)


@cache
def _mean_head(spacing_mm: float) -> tuple[Volume, Array]:
    """Return the mean head on a coarse grid, and where it is compared: the head and the air, not the neck."""
    coarse = registration.downsample(_fine_mean_head(), spacing_mm)
    back = np.linalg.inv(templates.BRAIN_TO_MEAN_HEAD)
    height = registration.transform_points(back, registration.grid_points(coarse.data.shape, coarse.affine))[
        ..., 2
    ]
    near = registration.dilated(coarse.data > MEAN_HEAD_LEVEL, 8.0, coarse.affine)
    return coarse, near & (height > NECK_MM)


def _by_whole_head(coarse: Volume, pose: Array | None) -> Array:
    """Return the affine (4, 4) from the template brain to a head, by way of the mean head."""
    to_mean = templates.BRAIN_TO_MEAN_HEAD
    from_mean = np.linalg.inv(_rigid_part(to_mean))
    if pose is None:
        search = registration.downsample(coarse, SEARCH_MM)
        far, where = _mean_head(SEARCH_MM)
        starts = [guess @ from_mean for guess in _guesses(search)]
        start = registration.search_rigid(far, search, mask=where, starts=starts, spread=(12.0, 15.0))
    else:
        start = pose @ from_mean
    near, where = _mean_head(AFFINE_MM)
    found = greedy.affine(near, coarse, mask=where, start=start, options=f"{AFFINE} -n 60x40")
    return np.asarray(found @ to_mean)


def _brain_search(coarse: Volume) -> Array:
    """Return the rigid (4, 4) matrix from the template brain to a skull-stripped one."""
    far, search = template_at(SEARCH_MM), registration.downsample(coarse, SEARCH_MM)
    return registration.search_rigid(
        far.brain, search, mask=far.around, starts=_guesses(search), spread=(12.0, 15.0)
    )


def _guesses(head: Volume) -> list[Array]:
    """Where the template may lie: by the headers, and with its crown at the crown of the head."""
    points = registration.grid_points(head.data.shape, head.affine)[_not_air(head)]
    crown = np.percentile(points[:, 2], 99.5)
    upper = points[points[:, 2] > crown - 120]
    # The template's brain ends at z = 82 mm, about 15 mm below the skin; its middle lies at y = -17 mm.
    shift = np.array([*np.median(upper[:, :2], axis=0), crown]) - np.array([0.0, -17.0, 95.0])
    by_crown = np.eye(4)
    by_crown[:3, 3] = shift
    return [np.eye(4), by_crown]


def _rigid_part(matrix: Array) -> Array:
    """Return the rigid (4, 4) matrix that turns like `matrix` and takes the brain's middle where it does."""
    left, _, right = np.linalg.svd(matrix[:3, :3])
    centre = np.array(templates.CENTRE_MM)
    rigid = np.eye(4)
    rigid[:3, :3] = left @ right
    rigid[:3, 3] = registration.transform_points(matrix, centre) - rigid[:3, :3] @ centre
    return rigid


def refused(reason: str) -> DataFault:
    """Return the fault of a T1w that cannot be matched with the template."""
    return DataFault("E-DATA-B22", reason, fix=LOOK)
