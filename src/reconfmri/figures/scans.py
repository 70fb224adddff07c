"""Pictures of one scan and one person, to be judged in seconds: what lies where, what moved, what is lost.

Tiles are composed as pixels and only framed by matplotlib, which is quicker than drawing them. Importing
nilearn.plotting instead takes 1.5 s, which every scan would pay.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reconfmri.config import PROPER, Rois, Task
from reconfmri.figures import slices
from reconfmri.figures.carpet import Carpet, carpet, course_of
from reconfmri.figures.labels import region_groups
from reconfmri.figures.slices import Array, Colour, Cut, Mask
from reconfmri.figures.style import drawn
from reconfmri.preprocess import AnatomyFiles
from reconfmri.tables import read_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from nibabel.spatialimages import SpatialImage

    from reconfmri.registration import Volume

OUTLINE, EDGE, WHITE_MATTER, FLUID = (255, 168, 38), (255, 90, 60), (96, 205, 255), (214, 130, 255)
TEMPLATE_EDGE = (176, 156, 70)
# Light enough for a black ground, and told apart by colour-blind readers; one per region.
ON_BLACK = ("#ff8a7a", "#6fb7ff", "#5fe0c0", "#d79bff", "#ffa54d", "#f5f5f5", "#9be36b")
WORDS = "#aab4bf"
DPI, TITLE_PX, PAGE_PX = 100, 20, 1320
FINE_MM = 1.0  # pixels of the picture of a person: the voxels of a conformed T1w
TSNR_TOP = 160.0  # one scale for all scans, so that sessions can be compared

# What a reader looks for; one line per kind of picture.
CAPTIONS = {
    "anatomy": "Good: orange hugs the brain and leaves out skull, eyes and neck; blue follows the border of "
    "white and grey matter, violet the ventricles; below, the template's edges lie on this person's, each "
    "region on its structure. Bad: brain cut off, dura inside, regions in a ventricle or beside their place.",
    "outlines": "Good: the line follows the brain's rim and leaves out eyes and scalp. Bad: brain outside "
    "the line, scalp inside. A straight lower border is the end of the field of view.",
    "edges": "Good: red lies on the borders of ventricles, brainstem and cortex, above and below. Bad: the "
    "same border twice, shifted or rotated. Near sinuses and ear canals the EPI itself is bent.",
    "carpet": "Good: even grey, flat traces. Bad: dark or bright columns through all tissues (motion, "
    "spikes), slow waves or steps; bands that follow the events under a moving trace.",
    "tsnr": "Good: bright cortex, left as right, no region black. Bad: dark regions (signal lost near air), "
    "stripes or one dark side (coil, reconstruction).",
    "scr": "Good: slow waves; red (what no score uses) on spikes, steps and losses alone; triangles on "
    "counted responses. Bad: spikes left in, flat lines, no wave at all. Raw above, cleaned below; bars are "
    "scripts with their score. To take it out: a row of exclusions.tsv with the region skin_conductance.",
    "physiology": "Good: a smooth rate below, red (what no score uses) short and rare. Bad: single spikes of "
    "the rate, long red stretches. Raw above. To take one out: a row of exclusions.tsv with the region "
    "heart_rate, respiration or emg.",
}


@dataclass(frozen=True)
class RunFiles:
    """What the pictures of a run are drawn from: as aligned, on the template, and the events.

    Without `alignment` all images lie in one space.
    """

    boldref: Path
    boldref_mask: Path
    alignment: Path | None
    t1w: Path
    bold: Path
    mask: Path
    confounds: Path
    regions: Path
    events: Path | None


@dataclass(frozen=True)
class Strip:
    """One row of tiles with its title and the words, each in its colour, that explain the lines."""

    title: str
    tiles: Sequence[Array]
    labels: Sequence[str] = ()
    legend: Sequence[tuple[str, Any]] = ()


def pictures_of_run(
    files: RunFiles, rows: Carpet, tsnr: Array, *, rois: Rois, task: Task, tr: float, fd_threshold: float
) -> dict[str, Figure]:
    """Return the four pictures of a run: outlines, edges, carpet, tsnr.

    `rows` and `tsnr` (n_voxels,) are what one reading of the run left.
    """
    import nibabel

    table = read_table(files.confounds, numeric=("framewise_displacement", "std_dvars"))
    course = course_of(table, tr, events=files.events, task=task, fd_threshold=fd_threshold)
    regions = nibabel.load(files.regions)
    return {
        "outlines": mask_outlines(nibabel.load(files.boldref), nibabel.load(files.boldref_mask)),
        "edges": edges_of_run(files),
        "carpet": carpet(rows, course),
        "tsnr": tsnr_map(tsnr, nibabel.load(files.mask), regions, region_groups(rois)),
    }


def picture_of_person(anatomy_files: AnatomyFiles, regions: Path, rois: Rois) -> Figure:
    """Return the picture of a person's anatomy."""
    import nibabel

    from reconfmri.itk import read_warp
    from reconfmri.templates import target_brain

    return anatomy(
        nibabel.load(anatomy_files.t1w),
        nibabel.load(anatomy_files.mask),
        nibabel.load(anatomy_files.dseg),
        read_warp(anatomy_files.to_t1w),
        nibabel.load(regions),
        region_groups(rois),
        nibabel.load(target_brain()),
    )


def edges_of_run(files: RunFiles) -> Figure:
    """Return the edges of a run on the person's T1w, and of its first resampled volume on the template."""
    import nibabel

    from reconfmri.templates import target_brain

    known = json.loads(files.alignment.read_text(encoding="utf-8")) if files.alignment else {}
    on_t1w = edge_strip(
        nibabel.load(files.t1w),
        nibabel.load(files.boldref),
        within=nibabel.load(files.boldref_mask),
        moving_to_background=np.reshape(known.get("boldref_to_t1w", np.eye(4)), (4, 4)),
        title="edges of the EPI on the T1w",
    )
    series = nibabel.load(files.bold)
    first = nibabel.Nifti1Image(np.asarray(series.dataobj[..., 0]), series.affine)
    on_template = edge_strip(
        nibabel.load(target_brain()),
        first,
        within=nibabel.load(files.mask),
        frame=slices.TEMPLATE_MM,
        title="and on the template",
    )
    return framed([on_t1w, on_template])


def mask_outlines(background: SpatialImage, mask: SpatialImage) -> Figure:
    """Return cuts of a 3-D image with the outline of its mask, three per view.

    Raises
    ------
    ValueError
        The mask is empty, or the image is not 3-D.
    """
    cuts = slices.cuts_within(slices.bounds(mask))
    data, inside = slices.volume(background), slices.volume(mask)
    shapes = [slices.values_at(inside, mask.affine, cut.points) > 0.5 for cut in cuts]
    tiles = _without_face([slices.values_at(data, background.affine, cut.points) for cut in cuts], shapes)
    lined = slices.painted(slices.gray(tiles), [slices.rim(shape) for shape in shapes], OUTLINE)
    return framed([Strip("reference volume of the EPI", lined, legend=[("brain mask", OUTLINE)])])


def registration_edges(background: SpatialImage, moving: SpatialImage, **how: Any) -> Figure:
    """Return `edge_strip` as a figure of its own."""
    return framed([edge_strip(background, moving, **how)])


def edge_strip(
    background: SpatialImage,
    moving: SpatialImage,
    *,
    within: SpatialImage,
    moving_to_background: npt.ArrayLike | None = None,
    frame: tuple[Array, Array] | None = None,
    title: str = "",
) -> Strip:
    """Return cuts of `background` with the edges of `moving`, three per view.

    `moving_to_background` maps a point of the moving image to the background (4 x 4, RAS mm); `within` is a
    mask in the moving image's space that keeps edges outside the head away, and chooses the cuts where no
    `frame` (lowest, highest point, mm) does.

    Raises
    ------
    ValueError
        `within` is empty, or the matrix is not 4 x 4.
    """
    matrix = np.eye(4) if moving_to_background is None else np.asarray(moving_to_background, float)
    if matrix.shape != (4, 4):
        raise ValueError(f"moving_to_background must be 4 x 4, got {matrix.shape}")
    cuts = slices.cuts_within(slices.bounds(within, matrix) if frame is None else frame)
    still, mobile, inside = (slices.volume(image) for image in (background, moving, within))
    tiles, shapes, lines = [], [], []
    for cut in cuts:
        there = slices.moved(np.linalg.inv(matrix), cut.points)
        shapes.append(slices.values_at(inside, within.affine, there) > 0.5)
        tiles.append(slices.values_at(still, background.affine, cut.points))
        around = slices.near(shapes[-1], 5.0)
        lines.append(slices.edges(slices.values_at(mobile, moving.affine, there), around))
    lined = slices.painted(slices.gray(_without_face(tiles, shapes)), lines, EDGE)
    return Strip(title, lined, labels=[cut.name for cut in cuts] if frame else (), legend=[("EPI", EDGE)])


def _without_face(tiles: list[Array], shapes: list[Mask]) -> list[Array]:
    """Tiles that are black far from the brain."""
    return [
        np.where(slices.near(shape, slices.FACE_MM), tile, 0)
        for tile, shape in zip(tiles, shapes, strict=True)
    ]


@drawn
def anatomy(
    t1w: SpatialImage,
    mask: SpatialImage,
    dseg: SpatialImage,
    to_t1w: Volume,
    regions: SpatialImage,
    groups: dict[str, list[int]],
    template: SpatialImage,
) -> Figure:
    """Return a person's T1w with brain mask and tissue, and below it on the template with the regions.

    `to_t1w` says where each template point lies in the T1w; `regions` is 4-D on the template, `groups` names
    its volumes that share a colour. This picture shows the face.

    Raises
    ------
    ValueError
        The mask is empty.
    """
    head = slices.volume(t1w)
    cuts = slices.cuts_within(slices.bounds(mask), pixel_mm=FINE_MM)
    plain = slices.gray([slices.values_at(head, t1w.affine, cut.points) for cut in cuts])
    classes = [
        slices.values_at(np.asarray(dseg.dataobj), dseg.affine, cut.points, order=0).astype(int)
        for cut in cuts
    ]
    tissue = plain
    for kind, colour in ((2, WHITE_MATTER), (3, FLUID)):
        tissue = slices.painted(tissue, [slices.rim(tile == kind) for tile in classes], colour)
    brain = slices.painted(plain, _rims(np.asarray(mask.dataobj), mask.affine, cuts), OUTLINE)
    labels = [cut.name for cut in cuts]
    return framed(
        [
            Strip("T1w", brain, labels, [("brain mask", OUTLINE)]),
            Strip("tissue", tissue, labels, [("white matter", WHITE_MATTER), ("fluid", FLUID)]),
            _region_strip(head, t1w, to_t1w, regions, groups, template),
        ]
    )


def _region_strip(
    head: Array,
    t1w: SpatialImage,
    to_t1w: Volume,
    regions: SpatialImage,
    groups: dict[str, list[int]],
    template: SpatialImage,
) -> Strip:
    from reconfmri.registration import sample_map

    masks = np.asarray(regions.dataobj) > 0
    cuts = _region_cuts(masks, regions.affine, groups, pixel_mm=FINE_MM)
    sizes = np.cumsum([cut.points[..., 0].size for cut in cuts])[:-1]
    there = sample_map(to_t1w, np.concatenate([cut.points.reshape(-1, 3) for cut in cuts]))
    tiles = slices.gray(
        [
            slices.values_at(head, t1w.affine, points.reshape(cut.points.shape))
            for cut, points in zip(cuts, np.split(there, sizes), strict=True)
        ]
    )
    brain = slices.volume(template)
    shown = [slices.values_at(brain, template.affine, cut.points) for cut in cuts]
    lines = [slices.edges(tile, slices.near(tile > 0, 3.0)) for tile in shown]
    tiles = slices.painted(tiles, lines, TEMPLATE_EDGE)
    legend: list[tuple[str, Any]] = [("edges of the template", TEMPLATE_EDGE)]
    for (name, volumes), colour in zip(groups.items(), ON_BLACK * 3, strict=False):
        tiles = slices.painted(
            tiles, _rims(_any(masks, volumes), regions.affine, cuts, width=2), _rgb(colour)
        )
        legend.append((PROPER.get(name, name.replace("_", " ")), colour))
    return Strip("T1w on the template", tiles, labels=[cut.name for cut in cuts], legend=legend)


def _region_cuts(masks: Array, affine: Array, groups: dict[str, list[int]], **how: float) -> list[Cut]:
    grouped = np.stack([_any(masks, volumes) for volumes in groups.values()], axis=-1)
    return slices.cuts_within(slices.TEMPLATE_MM, slices.places_through(grouped, affine), **how)


def _any(masks: Array, volumes: Sequence[int] | slice = slice(None)) -> Mask:
    return np.asarray(masks[..., volumes].any(axis=-1))


def _rims(shape: Array, affine: Array, cuts: Sequence[Cut], *, width: int = 1) -> list[Mask]:
    data = (shape > 0).astype(np.float32)
    return [slices.rim(slices.values_at(data, affine, cut.points) > 0.5, width=width) for cut in cuts]


def _rgb(colour: str) -> Colour:
    from matplotlib.colors import to_rgb

    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return red, green, blue


@drawn
def tsnr_map(tsnr: Array, mask: SpatialImage, regions: SpatialImage, groups: dict[str, list[int]]) -> Figure:
    """Return temporal SNR on cuts through the regions, with their outlines and a colour bar.

    `tsnr` (n_voxels,) belongs to the voxels of `mask`, in array order. The scale is the same for every
    scan, so that sessions are compared by colour.

    Raises
    ------
    ValueError
        There is not one value per voxel of the mask.
    """
    from matplotlib import colormaps

    inside = np.asarray(mask.dataobj) > 0
    if len(tsnr) != inside.sum():
        raise ValueError(f"{len(tsnr)} values of temporal SNR for {int(inside.sum())} voxels of the mask")
    values = np.full(inside.shape, np.nan, np.float32)
    values[inside] = tsnr
    usual = float(np.nanmedian(tsnr)) if np.isfinite(tsnr).any() else 0.0
    shades = (colormaps["inferno"](np.linspace(0.08, 1, slices.SHADES))[:, :3] * 255).astype(np.uint8)
    masks = np.asarray(regions.dataobj) > 0
    cuts = _region_cuts(masks, regions.affine, groups)
    tiles = []
    for cut in cuts:
        plane = slices.values_at(np.nan_to_num(values), mask.affine, cut.points, order=0)
        level = (np.clip(plane / TSNR_TOP, 0, 1) * (slices.SHADES - 1)).astype(np.uint8)
        tiles.append(np.where((plane > 0)[..., None], shades[level], np.uint8(0)))
    tiles = slices.painted(tiles, _rims(_any(masks), regions.affine, cuts), (255, 255, 255))
    legend = [(f"median {usual:.0f}", WORDS), ("regions", (255, 255, 255))]
    figure = framed(
        [Strip("temporal SNR", tiles, labels=[cut.name for cut in cuts], legend=legend)], right_px=72
    )
    _colour_bar(figure, shades, TSNR_TOP)
    return figure


def _colour_bar(figure: Figure, shades: Array, top: float) -> None:
    width, height = figure.get_size_inches() * DPI
    axes = figure.add_axes((1 - 62 / width, 14 / height, 12 / width, 1 - 40 / height))
    axes.imshow(shades[::-1, None], aspect="auto", extent=(0, 1, 0, top), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([0, top / 2, top], ["0", f"{top / 2:.0f}", f"≥ {top:.0f}"])
    axes.yaxis.tick_right()
    axes.tick_params(length=2, labelsize=7.5, labelcolor=WORDS, color=WORDS)


@drawn
def framed(strips: Sequence[Strip], *, right_px: int = 0) -> Figure:
    """Return strips above one another, pixel for pixel, each under its title; `right_px` are left free."""
    from matplotlib.figure import Figure

    rows = [slices.in_a_row(strip.tiles) for strip in strips]
    width = max(row.shape[1] for row, _ in rows) + right_px
    # Words keep their size when a page scales a finer picture down to its width.
    scale = max(1.0, width / PAGE_PX)
    heights = [row.shape[0] + round(TITLE_PX * scale) for row, _ in rows]
    figure = Figure(figsize=(width / DPI, sum(heights) / DPI), dpi=DPI, facecolor="black")
    bottom = sum(heights)
    for strip, (row, starts), height in zip(strips, rows, heights, strict=True):
        bottom -= height
        axes = figure.add_axes(
            (0, bottom / sum(heights), row.shape[1] / width, row.shape[0] / sum(heights)), label=strip.title
        )
        axes.set_axis_off()
        axes.imshow(row, interpolation="nearest", aspect="auto")
        _words(figure, strip, starts, (bottom, bottom + row.shape[0]), scale)
    return figure


def _words(figure: Figure, strip: Strip, starts: Sequence[int], rows: tuple[int, int], scale: float) -> None:
    """Write title and legend above the rows (bottom, top; pixels) of a strip, places and sides into it."""
    width, height = figure.get_size_inches() * DPI
    across = 6.0
    for text, colour in [(strip.title, WORDS), *strip.legend]:
        shade = colour if isinstance(colour, str) else tuple(part / 255 for part in colour)
        place = (across / width, (rows[1] + 6 * scale) / height)
        words = figure.text(*place, text, color=shade, fontsize=8 * scale)
        across += words.get_window_extent().width + 14 * scale
    for start, label in zip(starts, strip.labels, strict=False):
        figure.text((start + 3) / width, (rows[0] + 4) / height, label, color=WORDS, fontsize=6.5 * scale)
    for start in starts[len(starts) // 3 :]:
        middle = (rows[0] + rows[1]) / 2 / height
        figure.text((start + 3) / width, middle, "L", color=WORDS, fontsize=7 * scale)
