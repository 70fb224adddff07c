"""Cuts through volumes as tiles of pixels: sagittal, coronal, axial. The person's left is on the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Colour = tuple[int, int, int]

PIXEL_MM = 1.2
MARGIN_MM = 8.0
SHADES = 40  # few enough for the palette of a small file
APART_MM = 12.0
# Farther than this from the brain nothing is drawn: pictures that the report shows have no face.
FACE_MM = 15.0
# In-plane axes (across, up) of the three views; the third axis is the one that is cut.
VIEWS = {"sagittal": (1, 2, 0), "coronal": (0, 2, 1), "axial": (0, 1, 2)}
SHARES = {"sagittal": (0.27, 0.47, 0.7), "coronal": (0.27, 0.5, 0.72), "axial": (0.27, 0.45, 0.68)}
# The brain of MNI152NLin2009cAsym: one frame for all that is drawn on the template.
TEMPLATE_MM = (np.array([-72.0, -108.0, -72.0]), np.array([72.0, 73.0, 82.0]))


@dataclass(frozen=True)
class Cut:
    """One cut: its view, where (mm) it cuts, and the points (rows, columns, 3) of its pixels, RAS mm."""

    view: str
    place: float
    points: Array

    @property
    def name(self) -> str:
        """`x −24`."""
        return f"{'xyz'[VIEWS[self.view][2]]} {self.place:.0f}".replace("-", "−")


def bounds(mask: SpatialImage, to_world: npt.ArrayLike | None = None) -> tuple[Array, Array]:
    """Return the lowest and highest point (mm) of a mask, after `to_world` (4 x 4) where given.

    Raises
    ------
    ValueError
        The mask is empty.
    """
    inside = np.argwhere(np.asarray(mask.dataobj) > 0)
    if not len(inside):
        raise ValueError("the mask is empty: nothing can be drawn")
    matrix = mask.affine if to_world is None else np.asarray(to_world, float) @ mask.affine
    world = moved(matrix, inside.astype(float))
    return world.min(axis=0), world.max(axis=0)


def cuts_within(
    frame: tuple[Array, Array],
    places: dict[str, Sequence[float]] | None = None,
    *,
    pixel_mm: float = PIXEL_MM,
) -> list[Cut]:
    """Return three cuts per view of a box (lowest, highest point, mm); `places` (mm) says where, per view."""
    low, high = frame
    cuts = []
    for view, shares in SHARES.items():
        across, up, cut = VIEWS[view]
        columns = np.arange(low[across] - MARGIN_MM, high[across] + MARGIN_MM, pixel_mm)
        rows = np.arange(high[up] + MARGIN_MM, low[up] - MARGIN_MM, -pixel_mm)
        for place in places[view] if places else [low[cut] + s * (high[cut] - low[cut]) for s in shares]:
            points = np.empty((len(rows), len(columns), 3))
            points[..., across] = columns[None, :]
            points[..., up] = rows[:, None]
            points[..., cut] = place
            cuts.append(Cut(view, float(place), points))
    return cuts


def places_through(masks: Array, affine: npt.ArrayLike) -> dict[str, Sequence[float]]:
    """Return three places (mm) per view that show the regions of `masks` (x, y, z, n) best.

    Each next cut is the one with most of the regions that those before it show less than half of, at least
    12 mm from them; where no region is left, one of the usual places in the template.
    """
    matrix = np.asarray(affine, float)
    found: dict[str, Sequence[float]] = {}
    for view, (*_, cut) in VIEWS.items():
        others = tuple(axis for axis in range(3) if axis != cut)
        area = np.count_nonzero(masks, axis=others).astype(float)
        share = area / np.maximum(area.max(axis=0), 1)
        places = matrix[cut, cut] * np.arange(len(share)) + matrix[cut, 3]
        wanted, chosen = np.ones(share.shape[1], bool), list[float]()
        while share.any() and len(chosen) < 3:
            best = int((share * (wanted if share[:, wanted].any() else 1)).sum(axis=1).argmax())
            chosen.append(float(places[best]))
            wanted &= share[best] < 0.5
            share[np.abs(places - places[best]) < APART_MM] = 0
        low, high = (corner[cut] for corner in TEMPLATE_MM)
        for place in (low + part * (high - low) for part in SHARES[view]):
            if len(chosen) < 3 and all(abs(place - other) >= APART_MM for other in chosen):
                chosen.append(float(place))
        found[view] = sorted(chosen)
    return found


def volume(image: SpatialImage) -> Array:
    """Return the finite values of a 3-D image, float32.

    Raises
    ------
    ValueError
        The image is not 3-D.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    if data.ndim != 3:
        raise ValueError(f"expected a 3-D image, got {data.ndim}-D")
    return data if np.isfinite(data).all() else np.nan_to_num(data)


def moved(matrix: npt.ArrayLike, points: Array) -> Array:
    """Return `points` (..., 3) after a 4 x 4 matrix."""
    matrix = np.asarray(matrix, float)
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def values_at(data: Array, affine: npt.ArrayLike, points: Array, *, order: int = 1) -> Array:
    """Return the values of a volume at `points` (..., 3), RAS mm; 0 beyond its grid."""
    from scipy.ndimage import map_coordinates

    voxels = moved(np.linalg.inv(np.asarray(affine, float)), points)
    return np.asarray(map_coordinates(data, np.moveaxis(voxels, -1, 0), order=order, output=np.float32))


def rim(shape: Mask, *, width: int = 1) -> Mask:
    """Return the outermost pixels of a shape."""
    from scipy.ndimage import binary_erosion

    return np.asarray(shape & ~binary_erosion(shape, iterations=width))


def near(shape: Mask, reach_mm: float) -> Mask:
    """Return the pixels of `PIXEL_MM` within `reach_mm` of a shape; none where there is no shape."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~shape) * PIXEL_MM <= reach_mm) if shape.any() else shape


def edges(cut: Array, inside: Mask) -> Mask:
    """Return zero crossings of the Laplacian of a Gaussian where the gradient is among the steepest third."""
    from scipy.ndimage import gaussian_filter, gaussian_laplace, sobel

    if not inside.any():
        return inside
    smooth = gaussian_filter(cut, 2.2)
    positive = gaussian_laplace(cut, 2.2) > 0
    steep = np.hypot(sobel(smooth, 0), sobel(smooth, 1))
    crossing = np.zeros_like(positive)
    crossing[:-1] |= positive[:-1] != positive[1:]
    crossing[:, :-1] |= positive[:, :-1] != positive[:, 1:]
    return np.asarray(crossing & inside & (steep > np.quantile(steep[inside], 0.66)))


def gray(tiles: Sequence[Array]) -> list[Array]:
    """Return tiles as RGB (rows, columns, 3, uint8), on one scale from 0 to a little above the brightest."""
    top = 1.15 * max(float(np.quantile(tile, 0.995)) for tile in tiles) or 1.0
    levels = [np.floor(np.clip(tile / top, 0, 1) ** 0.9 * (SHADES - 1)) for tile in tiles]
    shades = [(level * (255 / (SHADES - 1))).astype(np.uint8) for level in levels]
    return [np.repeat(shade[..., None], 3, axis=2) for shade in shades]


def painted(tiles: Sequence[Array], lines: Sequence[Mask], colour: Colour) -> list[Array]:
    """Return RGB tiles with a line in each drawn over them."""
    return [
        np.where(line[..., None], np.array(colour, np.uint8), tile)
        for tile, line in zip(tiles, lines, strict=True)
    ]


def in_a_row(tiles: Sequence[Array]) -> tuple[Array, list[int]]:
    """Return RGB tiles beside one another on black, and the column where each begins."""
    height = max(tile.shape[0] for tile in tiles)
    strips = []
    for tile in tiles:
        above = (height - tile.shape[0]) // 2
        strips.append(np.pad(tile, ((above, height - tile.shape[0] - above), (1, 1), (0, 0))))
    starts = np.cumsum([0, *(strip.shape[1] for strip in strips)])[:-1]
    return np.concatenate(strips, axis=1), [int(start) + 1 for start in starts]
