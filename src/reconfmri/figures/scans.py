"""Small pictures of one scan, made in every run of the workflow: quick to import and draw, light to store.

Drawn with Pillow: importing matplotlib would take longer than the drawing. Person's left is on the left.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GRAYS = 26
OUTLINE, EDGE, INK = (255, 168, 38), (255, 106, 77), (150, 158, 170)
PIXEL_MM = 1.7
MARGIN_MM = 10.0
# In-plane axes (across, up) of the three views; the third axis is the one that is cut.
VIEWS = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
SLICES = {"axial": (0.25, 0.4, 0.55, 0.7, 0.85), "coronal": (0.35, 0.6), "sagittal": (0.38, 0.56)}


@dataclass(frozen=True)
class Aligned:
    """What an engine leaves for the picture of a coregistration; without alignment all lie in one space."""

    boldref: Path
    mask: Path
    alignment: Path | None
    t1w: Path


def outlines_of_run(boldref: Path, mask: Path) -> Image.Image:
    """Return the reference volume of a run with the outline of its brain mask."""
    import nibabel

    return mask_outlines(nibabel.load(boldref), nibabel.load(mask))


def edges_of_run(aligned: Aligned, bold: Path, mask: Path) -> Image.Image:
    """Return the edges of a run on the person's T1w, and of its first resampled volume on the template."""
    import nibabel

    from reconfmri.templates import target_brain

    known = json.loads(aligned.alignment.read_text(encoding="utf-8")) if aligned.alignment else {}
    on_t1w = registration_edges(
        nibabel.load(aligned.t1w),
        nibabel.load(aligned.boldref),
        within=nibabel.load(aligned.mask),
        moving_to_background=np.reshape(known.get("boldref_to_t1w", np.eye(4)), (4, 4)),
    )
    series = nibabel.load(bold)
    first = nibabel.Nifti1Image(np.asarray(series.dataobj[..., 0]), series.affine)
    on_template = registration_edges(nibabel.load(target_brain()), first, within=nibabel.load(mask))
    return one_above_the_other([on_t1w, on_template], ["edges of the EPI on the T1w", "and on the template"])


def mask_outlines(background: SpatialImage, mask: SpatialImage) -> Image.Image:
    """Return slices of a 3-D image with the outline of its mask, nine tiles in one row.

    Raises
    ------
    ValueError
        The mask is empty.
    """
    grids = _slice_grids(mask)
    data = _volume(background)
    inside = _volume(mask) > 0
    tiles = [_sample(data, background.affine, grid) for grid in grids]
    shapes = [_sample(inside.astype(float), mask.affine, grid) > 0.5 for grid in grids]
    return _row(tiles, [_rim(shape) for shape in shapes], OUTLINE)


def registration_edges(
    background: SpatialImage,
    moving: SpatialImage,
    *,
    within: SpatialImage,
    moving_to_background: npt.ArrayLike | None = None,
) -> Image.Image:
    """Return slices of `background` with the edges of `moving`, nine tiles in one row.

    `moving_to_background` maps a point of the moving image to the background (4 x 4, RAS mm); `within` is a
    mask in the moving image's space that chooses the slices and keeps edges outside the head away.

    Raises
    ------
    ValueError
        `within` is empty, or the matrix is not 4 x 4.
    """
    matrix = np.eye(4) if moving_to_background is None else np.asarray(moving_to_background, float)
    if matrix.shape != (4, 4):
        raise ValueError(f"moving_to_background must be 4 x 4, got {matrix.shape}")
    to_moving = np.linalg.inv(matrix)
    still, mobile, inside = _volume(background), _volume(moving), _volume(within) > 0
    tiles, edges = [], []
    for grid in _slice_grids(within, matrix):
        tiles.append(_sample(still, background.affine, grid))
        there = _transform(to_moving, grid)
        shape = _sample(inside.astype(float), within.affine, there) > 0.5
        edges.append(_edges(_sample(mobile, moving.affine, there), _grown(shape, 3)))
    return _row(tiles, edges, EDGE)


def one_above_the_other(pictures: list[Image.Image], titles: list[str]) -> Image.Image:
    """Return the pictures in rows, each with its title above it."""
    title_height = 16
    width = max(picture.width for picture in pictures)
    canvas = Image.new("RGB", (width, sum(picture.height + title_height for picture in pictures)))
    draw = ImageDraw.Draw(canvas)
    top = 0
    for picture, title in zip(pictures, titles, strict=True):
        draw.text((6, top + 2), title, fill=INK)
        canvas.paste(picture.convert("RGB"), (0, top + title_height))
        top += picture.height + title_height
    return _light(canvas)


def carpet(signals: Array, tissue: npt.NDArray[np.integer], framewise_displacement: Array) -> Image.Image:
    """Return (voxels x volumes) signals as a carpet sorted by tissue, under framewise displacement (mm).

    Each voxel is in its own standard deviations, grey from -2 to 2. Power, NeuroImage 2017;154:150.

    Raises
    ------
    ValueError
        The signals, tissue classes and displacements do not belong together.
    """
    if signals.shape != (len(tissue), len(framewise_displacement)):
        raise ValueError(
            f"{signals.shape} signals, {len(tissue)} voxels, {len(framewise_displacement)} displacements"
        )
    order = np.argsort(tissue, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(len(order), 240)).astype(int)]
    rows = signals[chosen] - signals[chosen].mean(axis=1, keepdims=True)
    spread = rows.std(axis=1, keepdims=True)
    rows = np.where(spread > 0, rows / np.where(spread > 0, spread, 1), 0)
    gray = (np.clip(rows / 4 + 0.5, 0, 1) * 255).astype(np.uint8)
    width, height, trace = 720, 200, 60
    canvas = Image.new("RGB", (width, height + trace))
    canvas.paste(Image.fromarray(gray).resize((width, height)), (0, trace))
    motion = np.nan_to_num(framewise_displacement)
    top = max(1.0, float(motion.max()))
    across = np.linspace(0, width - 1, len(motion))
    line = [(x, trace - 4 - (trace - 8) * value / top) for x, value in zip(across, motion, strict=True)]
    draw = ImageDraw.Draw(canvas)
    draw.line(line, fill=OUTLINE)
    draw.text((4, 2), f"framewise displacement, 0 to {top:.1f} mm", fill=INK)
    return _light(canvas)


def _volume(image: SpatialImage) -> Array:
    data = np.asarray(image.dataobj, dtype=float)
    if data.ndim != 3:
        raise ValueError(f"expected a 3-D image, got {data.ndim}-D")
    finite: Array = np.nan_to_num(data)
    return finite


def _slice_grids(mask: SpatialImage, to_world: npt.ArrayLike | None = None) -> list[Array]:
    """World coordinates (rows x columns x 3, mm) of each slice, spread over the mask's bounding box."""
    inside = np.argwhere(np.asarray(mask.dataobj) > 0)
    if not len(inside):
        raise ValueError("the mask is empty: nothing can be drawn")
    world = _transform(mask.affine, inside.astype(float))
    world = world if to_world is None else _transform(to_world, world)
    low, high = world.min(axis=0), world.max(axis=0)
    grids = []
    for view, shares in SLICES.items():
        across, up, cut = VIEWS[view]
        columns = np.arange(low[across] - MARGIN_MM, high[across] + MARGIN_MM, PIXEL_MM)
        rows = np.arange(high[up] + MARGIN_MM, low[up] - MARGIN_MM, -PIXEL_MM)
        for share in shares:
            grid = np.empty((len(rows), len(columns), 3))
            grid[..., across] = columns[None, :]
            grid[..., up] = rows[:, None]
            grid[..., cut] = low[cut] + share * (high[cut] - low[cut])
            grids.append(grid)
    return grids


def _transform(matrix: npt.ArrayLike, points: Array) -> Array:
    matrix = np.asarray(matrix, float)
    moved: Array = points @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def _sample(data: Array, affine: npt.ArrayLike, points: Array) -> Array:
    from scipy.ndimage import map_coordinates

    voxels = _transform(np.linalg.inv(np.asarray(affine, float)), points)
    return np.asarray(map_coordinates(data, np.moveaxis(voxels, -1, 0), order=1, mode="constant"))


def _rim(shape: Mask) -> Mask:
    from scipy.ndimage import binary_erosion

    return np.asarray(shape & ~binary_erosion(shape))


def _grown(shape: Mask, pixels: int) -> Mask:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(shape, iterations=pixels)) if shape.any() else shape


def _edges(cut: Array, inside: Mask) -> Mask:
    """Zero crossings of the Laplacian of a Gaussian where the gradient is among the steepest third."""
    from scipy.ndimage import gaussian_gradient_magnitude, gaussian_laplace

    if not inside.any():
        return inside
    positive = gaussian_laplace(cut, 1.6) > 0
    steep = gaussian_gradient_magnitude(cut, 1.6)
    crossing = np.zeros_like(positive)
    crossing[:-1] |= positive[:-1] != positive[1:]
    crossing[:, :-1] |= positive[:, :-1] != positive[:, 1:]
    return np.asarray(crossing & inside & (steep > np.quantile(steep[inside], 0.66)))


def _row(tiles: list[Array], lines: list[Mask], colour: tuple[int, int, int]) -> Image.Image:
    top = max(float(np.quantile(tile, 0.995)) for tile in tiles) or 1.0
    height = max(tile.shape[0] for tile in tiles)
    strips = []
    for tile, line in zip(tiles, lines, strict=True):
        gray = np.floor(np.clip(tile / top, 0, 1) ** 0.9 * (GRAYS - 1)) * (255 / (GRAYS - 1))
        pixels = np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)
        pixels[line] = colour
        above = (height - tile.shape[0]) // 2
        below = height - tile.shape[0] - above
        strips.append(np.pad(pixels, ((above, below), (1, 1), (0, 0))))
    picture = Image.fromarray(np.concatenate(strips, axis=1))
    ImageDraw.Draw(picture).text((4, height - 14), "L", fill=INK)
    return _light(picture)


def _light(picture: Image.Image) -> Image.Image:
    """The picture with a palette, a third of its size as a file."""
    return picture.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
