"""One T1w per person from the T1w images of all sessions, none of them favoured.

Reuter et al., NeuroImage 2012;61:1402: every image is moved and interpolated alike, into the space halfway
between them. The order and the names of the sessions make no difference, to the last bit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from reconfmri import registration, templates
from reconfmri.exclusions import DataFault
from reconfmri.preprocess import anatomy, head_motion, intake, placement
from reconfmri.registration import Array, Volume

WORKING_MM = 2.0
EVENNESS_MM = 6.0
# Two images of one simulated head correlate by 0.98, of two heads by 0.33 to 0.60.
MIN_LIKENESS = 0.75
MARGIN_MM = 15.0  # around the brain's box: skull and scalp, for whoever looks at it


@dataclass(frozen=True)
class PersonTemplate:
    """The T1w halfway between the sessions, and where each session's T1w lies.

    `to_session[i]` (4, 4) maps a point of the template to image i, RAS mm; `likeness[i]` is the correlation
    of image i with the mean of the others inside the brain; `pose` (4, 4) maps the MNI brain to the template.
    """

    t1w: Volume
    to_session: list[Array]
    likeness: list[float]
    pose: Array


@dataclass(frozen=True)
class PersonHead:
    """The head that stands for a person, as `anatomy.prepare` takes it, and what it was made from.

    `pose` is that of the MNI brain in it where it is known. Each image of `sources`: `source` (file name),
    `from_anatomy` (16 numbers, the head's point -> the image's, RAS mm), `likeness`.
    """

    t1w: Volume
    pose: Array | None
    sources: list[dict[str, Any]]
    remarks: list[DataFault]


def read_head(images: dict[Path, str]) -> PersonHead:
    """Return the head of a person from T1w files; one that is damaged or of another head is left out.

    `images` holds the sha256 of each file when it was indexed (may be empty).

    Raises
    ------
    DataFault
        No image can be read (E-DATA-B01 and others), or the only two show different heads (E-DATA-B27).
    """
    heads, remarks = {}, []
    for path, sha256 in images.items():
        try:
            heads[path.name] = anatomy.conform(intake.read_anatomy(path, sha256=sha256))
        except DataFault as fault:
            if len(images) == 1:
                raise
            reason = f"left out of the person's template: {fault.reason}"
            remarks.append(DataFault("W-DATA-B27", reason, fix=fault.fix, file=path.name))
    if not heads:
        reason = f"none of the {len(images)} T1w images can be read"
        raise DataFault("E-DATA-B01", reason, fix=intake.RECOPY, file=next(iter(images)).name)
    return one_head(heads, remarks)


def one_head(heads: dict[str, Volume], remarks: list[DataFault]) -> PersonHead:
    """Return the only one of `heads` as it is, or the template of those that show the same head.

    Raises
    ------
    DataFault
        The only two show different heads (E-DATA-B27).
    """
    if len(heads) == 1:
        [(name, head)] = heads.items()
        source: dict[str, Any] = {"source": name, "from_anatomy": np.eye(4).ravel().tolist()}
        return PersonHead(head, None, [source], remarks)
    found = person_template(list(heads.values()))
    worst = int(np.argmin(found.likeness))
    if found.likeness[worst] < MIN_LIKENESS:
        stranger = _stranger(list(heads), worst, found.likeness[worst])
        rest = {name: head for name, head in heads.items() if name != stranger.file}
        return one_head(rest, [*remarks, stranger])
    sources = [
        {"source": name, "from_anatomy": move.ravel().tolist(), "likeness": round(likeness, 4)}
        for name, move, likeness in zip(heads, found.to_session, found.likeness, strict=True)
    ]
    return PersonHead(found.t1w, found.pose, sources, remarks)


def _stranger(names: list[str], worst: int, likeness: float) -> DataFault:
    """The remark on an image unlike the others; with only two nobody can say which is the stranger."""
    fix = "look at the T1w images: is one of another person, or of another contrast?"
    found = f"correlation {likeness:.2f}, at least {MIN_LIKENESS:g}"
    if len(names) == 2:
        reason = f"{' and '.join(names)} do not show the same head ({found})"
        raise DataFault("E-DATA-B27", reason, fix=fix, file=names[0])
    reason = f"left out of the person's template: it does not show the head of the others ({found})"
    return DataFault("W-DATA-B27", reason, fix=fix, file=names[worst])


def person_template(heads: list[Volume]) -> PersonTemplate:
    """Return the unbiased template of one person's T1w images (two or more, from `anatomy.conform`).

    Two images are averaged, of three or more the median is taken.

    Raises
    ------
    ValueError
        There are fewer than two images.
    """
    if len(heads) < 2:
        raise ValueError("a template of sessions needs two T1w images or more")
    order = sorted(range(len(heads)), key=lambda number: _fingerprint(heads[number]))
    heads = [heads[number] for number in order]
    poses = [placement.rigid_from_template(head) for head in heads]
    pose = _mean_pose(poses)
    moves = [matrix @ np.linalg.inv(pose) for matrix in poses]
    grid, brain = _around_brain(pose, WORKING_MM)
    heads = [_scaled(head, move, grid, brain) for head, move in zip(heads, moves, strict=True)]
    coarse = [registration.downsample(head, WORKING_MM) for head in heads]
    seen = _moved(coarse, moves, grid)
    for middle_of in (_first, _average, _average):
        # An image draws its average towards itself: the first round brings all onto one of them.
        even = [_evened(image) for image in seen]
        errors = head_motion.align_volumes(even, Volume(middle_of(even), grid.affine), mask=brain)
        moves = _halfway([move @ error for move, error in zip(moves, errors, strict=True)])
        seen = _moved(coarse, moves, grid)
    fine, _ = _around_brain(pose, max(anatomy.CONFORMED_MM, float(heads[0].voxel_mm.min())))
    t1w = Volume(_average(_moved(heads, moves, fine)), fine.affine)
    place = np.argsort(order)
    likeness = _likeness([image[brain] for image in seen])
    return PersonTemplate(t1w, [moves[k] for k in place], [likeness[k] for k in place], pose)


def _fingerprint(head: Volume) -> str:
    return hashlib.sha256(np.ascontiguousarray(head.data).tobytes()).hexdigest()


def _mean_pose(matrices: list[Array]) -> Array:
    """Return the rigid (4, 4) mean: mean rotation, and mean place of the brain's middle."""
    mean, centre = np.eye(4), np.array(templates.CENTRE_MM)
    mean[:3, :3] = Rotation.from_matrix([matrix[:3, :3] for matrix in matrices]).mean().as_matrix()
    places = [registration.transform_points(matrix, centre) for matrix in matrices]
    mean[:3, 3] = np.mean(places, axis=0) - mean[:3, :3] @ centre
    return mean


def _halfway(moves: list[Array]) -> list[Array]:
    """Return the moves after the template was put in their middle."""
    back = np.linalg.inv(_mean_pose(moves))
    return [move @ back for move in moves]


def _around_brain(pose: Array, spacing_mm: float) -> tuple[Volume, Array]:
    """Return an upright grid around the template brain, with room for the head, and where the brain lies."""
    shape, affine = templates.target_grid(spacing_mm)
    ends = np.array(np.meshgrid(*[[0, size - 1] for size in shape])).reshape(3, -1).T
    corners = registration.transform_points(pose @ affine, ends)
    first, last = corners.min(axis=0) - MARGIN_MM, corners.max(axis=0) + MARGIN_MM
    upright = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    upright[:3, 3] = np.round(first)
    size = tuple(int(n) for n in np.ceil((last - first) / spacing_mm) + 1)
    near = placement.template_at(placement.AFFINE_MM)
    points = registration.transform_points(np.linalg.inv(pose), registration.grid_points(size, upright))
    brain = (
        registration.sample(Volume(near.mask.astype(np.float32), near.brain.affine), points, order=1) > 0.5
    )
    return Volume(np.zeros(size, dtype=np.float32), upright), brain


def _scaled(head: Volume, move: Array, grid: Volume, brain: Array) -> Volume:
    """Return a head whose median in the brain is 100."""
    points = registration.transform_points(
        move, registration.grid_points(grid.data.shape, grid.affine)[brain]
    )
    level = float(np.median(registration.sample(head, points, order=1)))
    return Volume(head.data * np.float32(100.0 / level), head.affine)


def _moved(heads: list[Volume], moves: list[Array], grid: Volume) -> list[Array]:
    points = registration.grid_points(grid.data.shape, grid.affine)
    return [
        registration.sample(head, registration.transform_points(move, points))
        for head, move in zip(heads, moves, strict=True)
    ]


def _evened(image: Array) -> Array:
    """Return an image over its own local mean: what is left of the coil's field would pass for motion."""
    around = ndimage.gaussian_filter(image, EVENNESS_MM / WORKING_MM)
    return np.asarray(image / np.maximum(around, 0.05 * around.max()))


def _first(images: list[Array]) -> Array:
    return images[0]


def _average(images: list[Array]) -> Array:
    return np.asarray(np.mean(images, axis=0) if len(images) == 2 else np.median(images, axis=0))


def _likeness(images: list[Array]) -> list[float]:
    """Return the correlation of each image with the mean of the others."""
    total = np.sum(images, axis=0)
    rest = [(total - image) / (len(images) - 1) for image in images]
    return [float(np.corrcoef(image, other)[0, 1]) for image, other in zip(images, rest, strict=True)]
