"""One person's T1w: bias field, brain, tissue, and the warp from the template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from reconfmri import greedy, interpolation, registration
from reconfmri.exclusions import DataFault
from reconfmri.preprocess.placement import (
    AFFINE_MM,
    FIRST_ROOM_MM,
    LOOK,
    ROOM_MM,
    Placement,
    Template,
    brain_points,
    cut_out,
    largest,
    otsu,
    place_template,
    refused,
    similarity,
    template_at,
    template_brain,
)
from reconfmri.registration import Array, Volume

CONFORMED_MM = 1.0  # finer T1w images are brought to this; the regions and the BOLD are far coarser
# The bias field of the whole head need only serve the registration; that of the brain is found finer.
HEAD_BIAS_MM, BIAS_MM = 6.0, 4.0
# Chosen on heads with a known warp: mean errors of 0.33 mm at 1.5 mm and 0.62 mm at 3 mm; with greedy's own
# smoothing 0.57 and 0.73 mm. Twice the iterations at 1.5 mm take 9 s more for a higher correlation with the
# head (0.005), a warp that is torn in more places, and an amygdala and a hippocampus that lie no better. In
# single precision known warps are found as well in two thirds of the time, but a real head is then matched
# less closely (correlation 0.77 for 0.82).
WARP = {
    "fine": "-m NCC 2x2x2 -n 100x80x20 -s 4vox 1vox",
    "coarse": "-m NCC 2x2x2 -n 100x80x40 -s 3vox 0.7vox",
}
ROUGH_WARP = "-m NCC 2x2x2 -n 60x40 -s 3vox 0.7vox"
# 44 of 45 real heads match by 0.50 or more, one with wide ventricles by 0.43, 0.33 above its reflections; a
# generated head back to front by 0.43, 0.23 above. Warps: 0.68 or more, those of old heads torn by up to 7 %.
SURE_CORRELATION, MIN_AFFINE_CORRELATION, MIN_LEAD = 0.47, 0.35, 0.28
MIN_CORRELATION, MAX_TORN = 0.5, 0.15
MIN_CONTRAST = 0.3  # 0.53 to 1.13 on heads, 0.35 on one after gadolinium, 0.25 on a FLAIR
SCALES, BRAIN_ML = (0.65, 1.25), (700.0, 2300.0)
GREY, WHITE, FLUID = 1, 2, 3
RIM_MM = 2.5  # fluid between cortex and dura that brain masks hold


@dataclass(frozen=True)
class Anatomy:
    """A person's anatomy on the conformed T1w grid, and the point map from the template grid to it."""

    t1w: Volume
    mask: Volume
    dseg: Volume
    to_t1w: Volume
    facts: dict[str, float]


def conform(raw: Volume) -> Volume:
    """Return a T1w at 1 mm or coarser without its bias field."""
    head = registration.downsample(raw, CONFORMED_MM)
    coarse = registration.downsample(head, HEAD_BIAS_MM)
    return corrected(head, bias_field(coarse, coarse.data > otsu(coarse.data)))


def prepare(head: Volume, *, finest_mm: float, pose: Array | None = None, threads: int = 1) -> Anatomy:
    """Return bias-corrected T1w, brain mask, tissue (1 grey, 2 white, 3 fluid) and the map from the template.

    `head` comes from `conform`, `finest_mm` is the voxel size of the last level of the warp; `pose` (4, 4) is
    where the template lies in the head, when it is known.

    Raises
    ------
    DataFault
        The head could not be matched with the template (E-DATA-B22), or its brain has an impossible size
        (E-DATA-B23).
    """
    template = template_at(finest_mm)
    to_t1w, facts = _warp(template, registration.downsample(head, finest_mm), pose=pose, threads=threads)
    head, inside, priors = _carried_to(head, to_t1w, template)
    brain = registration.downsample(Volume(inside.astype(np.float32), head.affine), BIAS_MM)
    head = corrected(head, bias_field(registration.downsample(head, BIAS_MM), brain.data > 0.5))
    classes = segment_tissue(head, inside, priors)
    matter, mask = refine_mask(classes, inside, head.affine)
    dseg = Volume(np.where(matter, classes, 0).astype(np.uint8), head.affine)
    facts |= _checked_contrast(head, dseg) | _checked_sizes(dseg)
    return Anatomy(head, Volume(mask.astype(np.uint8), head.affine), dseg, to_t1w, facts)


def bias_field(head: Volume, mask: Array) -> Volume:
    """Return the logarithm of the smooth intensity bias on the grid of `head`.

    N4: Tustison et al., IEEE TMI 2010;29:1310.
    """
    import SimpleITK

    image = registration.to_itk(Volume(np.maximum(head.data, 0), head.affine))
    where = SimpleITK.Cast(
        registration.to_itk(Volume(mask.astype(np.float32), head.affine)), SimpleITK.sitkUInt8
    )
    corrector = SimpleITK.N4BiasFieldCorrectionImageFilter()
    corrector.SetNumberOfWorkUnits(1)
    corrector.SetMaximumNumberOfIterations([20, 20, 20])
    corrector.Execute(image, where)
    return Volume(SimpleITK.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)).T, head.affine)


def corrected(head: Volume, bias: Volume) -> Volume:
    """Return `head` divided by its bias; `bias` is on a coarser grid of the same axes."""
    step = np.linalg.inv(bias.affine) @ head.affine
    log = ndimage.affine_transform(
        bias.data,
        np.diag(step[:3, :3]),
        offset=step[:3, 3],
        output_shape=head.data.shape,
        order=1,
        mode="nearest",
    )
    return Volume(head.data / np.exp(log).astype(np.float32), head.affine)


def _warp(
    template: Template, head: Volume, *, pose: Array | None, threads: int
) -> tuple[Volume, dict[str, float]]:
    """Return the point map from the template to the head, and how well they match."""
    place = place_template(head, pose=pose)
    _check_placement(place)
    seen = head if place.stripped else cut_out(head, _rough_brain(head, place), room_mm=ROOM_MM)
    displacement = greedy.deformable(
        template.brain,
        seen,
        start=place.matrix,
        mask=template.around,
        options=WARP["fine" if template.brain.voxel_mm[0] < 2 else "coarse"],
        threads=threads,
    )
    to_t1w = registration.dense_map(template.brain, matrix=place.matrix, displacement=displacement)
    torn, match = _torn(displacement, template), similarity(template, head, to_t1w)
    if torn > MAX_TORN or match < MIN_CORRELATION:
        found = (
            f"correlation {match:.2f}, at least {MIN_CORRELATION:g} expected; torn in {torn:.0%} of the brain"
        )
        raise refused(f"the warp from the template does not fit the head ({found}, at most {MAX_TORN:.0%})")
    return to_t1w, {
        "template_correlation": round(match, 4),
        "torn_share": round(torn, 4),
        "affine_correlation": round(place.correlation, 4),
        "affine_scale_largest": round(float(place.scales[0]), 3),
        "affine_scale_smallest": round(float(place.scales[2]), 3),
        "skull_stripped": float(place.stripped),
    }


def _rough_brain(head: Volume, place: Placement) -> Array:
    """Return the brain's points in a head (n, 3), RAS mm, by a coarse warp of what the affine cuts out."""
    near, coarse = template_at(AFFINE_MM), registration.downsample(head, AFFINE_MM)
    points = registration.transform_points(place.matrix, brain_points())
    seen = cut_out(coarse, points, room_mm=FIRST_ROOM_MM)
    displacement = greedy.deformable(
        near.brain, seen, start=place.matrix, mask=near.around, options=ROUGH_WARP
    )
    rough = registration.dense_map(near.brain, matrix=place.matrix, displacement=displacement)
    return registration.sample_map(rough, brain_points())


def _check_placement(place: Placement) -> None:
    """Refuse a place of the template's brain in the head that no head has."""
    low, high = SCALES
    smallest, largest_brain = BRAIN_ML
    lead = place.correlation - max(place.reflected)
    found = "; ".join(
        [
            f"correlation {place.correlation:.2f}, {SURE_CORRELATION:g} or more expected, or "
            f"{MIN_AFFINE_CORRELATION:g} and {MIN_LEAD:g} above the {max(place.reflected):.2f} "
            "of its reflections",
            f"scales {np.round(place.scales, 2).tolist()}, {low:g} to {high:g} expected",
            f"brain of {place.brain_ml:.0f} ml, {smallest:.0f} to {largest_brain:.0f} expected",
        ]
    )
    if max(place.reflected) > max(place.correlation, MIN_AFFINE_CORRELATION):
        turned = ("back to front", "upside down")[int(np.argmax(place.reflected))]
        by = f"correlation {max(place.reflected):.2f}, as its header says {place.correlation:.2f}"
        raise refused(f"the head matches the template better when it is turned {turned} ({by})")
    plausible = (
        place.correlation >= MIN_AFFINE_CORRELATION
        and (place.correlation >= SURE_CORRELATION or lead >= MIN_LEAD)
        and place.scales.min() >= low
        and place.scales.max() <= high
        and smallest <= place.brain_ml <= largest_brain
    )
    if not plausible:
        raise refused(f"no brain was found that matches the template ({found})")


def _torn(displacement: Array, template: Template) -> float:
    """Return the share of the brain whose volume the warp halves or doubles."""
    parts = np.gradient(displacement, *template.brain.voxel_mm, axis=(0, 1, 2))
    slopes = np.stack(list(parts), axis=-1)
    volume = np.linalg.det(slopes[template.mask] + np.eye(3))
    return float(((volume < 0.5) | (volume > 2)).mean())


def _carried_to(head: Volume, to_t1w: Volume, template: Template) -> tuple[Volume, Array, Array]:
    """Return the head cut to its brain, the template's mask on it, and tissue priors (3, n) inside."""
    cut = _cut_around(head, to_t1w.data[template.around])
    brain = template_brain()
    there = _template_voxels(cut, to_t1w, brain.affine)
    inside = interpolation.linear((brain.data > 0).astype(np.float32), there) > 0.5
    there = np.ascontiguousarray(there[:, inside])
    priors = [interpolation.linear(prior, there) for prior in _tissue_priors(brain)]
    return cut, inside.reshape(cut.data.shape), np.stack(priors)


def _cut_around(head: Volume, points: Array, *, margin: int = 4) -> Volume:
    """Return the part of `head` that holds `points` (n, 3), RAS mm, and `margin` voxels around."""
    voxels = registration.transform_points(np.linalg.inv(head.affine), points)
    first = np.clip(np.floor(voxels.min(axis=0)).astype(int) - margin, 0, None)
    last = np.minimum(np.ceil(voxels.max(axis=0)).astype(int) + margin + 1, head.data.shape)
    if (last - first < 16).any():
        raise refused("the brain was found outside the image")
    affine = head.affine.copy()
    affine[:3, 3] += head.affine[:3, :3] @ first
    return Volume(np.ascontiguousarray(head.data[tuple(map(slice, first, last))]), affine)


def _template_voxels(head: Volume, to_t1w: Volume, affine: Array, *, spacing_mm: float = 4.0) -> Array:
    """Return where each voxel of a head lies, in voxels of the template's `affine`, (3, n), float32.

    It is the map's inverse, found every 4 mm.
    """
    step = np.diag([*(spacing_mm / head.voxel_mm), 1.0])
    shape = np.ceil(np.array(head.data.shape) / np.diag(step)[:3]).astype(int) + 2
    coarse = registration.grid_points(tuple(shape), head.affine @ step)
    back = registration.transform_points(np.linalg.inv(affine), registration.inverse_at(to_t1w, coarse))
    fine = 1 / np.diag(step)[:3]
    there = np.empty((3, *head.data.shape), dtype=np.float32)
    for axis in range(3):
        part = back[..., axis].astype(np.float32)
        ndimage.affine_transform(part, fine, output=there[axis], output_shape=head.data.shape, order=1)
    return there.reshape(3, -1)


def _tissue_priors(brain: Volume) -> list[Array]:
    """Return where the template is grey, white, fluid, from its own intensities (0-100), smoothed by 3 mm."""
    white = 1 / (1 + np.exp(-(brain.data - 78) / 4))
    fluid = 1 / (1 + np.exp((brain.data - 45) / 5))
    grey = np.clip(1 - white - fluid, 0, 1)
    # On the template's 1 mm grid, voxels are millimetres.
    return [ndimage.gaussian_filter(part, 3 / 2.355, truncate=3) for part in (grey, white, fluid)]


def segment_tissue(head: Volume, inside: Array, priors: Array) -> Array:
    """Return labels (1 grey, 2 white, 3 fluid, 0 outside) by three Gaussians, spatial priors and neighbours.

    `priors` (3, n) are those of the n voxels inside.
    Ashburner & Friston, NeuroImage 1997;6:209; mean field over neighbours: Zhang et al., IEEE TMI 2001;20:45.
    """
    values = head.data[inside].astype(np.float64)
    prior = 0.03 + 0.91 * priors / np.maximum(priors.sum(axis=0), 1e-3)
    step = max(values.size // 100_000, 1)
    means, widths = _fit_gaussians(values[::step], prior[:, ::step])
    likelihood = np.exp(-0.5 * ((values - means[:, None]) / widths[:, None]) ** 2) / widths[:, None] + 1e-12
    evidence = likelihood * prior
    share = evidence / evidence.sum(axis=0)
    for _ in range(2):
        share = evidence * np.exp(2.0 * _neighbours(share, inside, head.voxel_mm))
        share /= share.sum(axis=0)
    labels = np.zeros(inside.shape, dtype=np.uint8)
    labels[inside] = share.argmax(axis=0) + 1
    return labels


def _neighbours(share: Array, inside: Array, voxel_mm: Array) -> Array:
    """Return the mean share (3, n) of each tissue among a voxel's neighbours."""
    reach = np.maximum(1.5 / voxel_mm, 0.5) / 2.355
    around = np.empty_like(share)
    for label, values in enumerate(share):
        image = np.zeros(inside.shape, dtype=np.float32)
        image[inside] = values
        around[label] = ndimage.gaussian_filter(image, reach, truncate=2)[inside]
    return around


def _fit_gaussians(values: Array, prior: Array, *, iterations: int = 30) -> tuple[Array, Array]:
    """Return means and standard deviations (3,) of the tissues by expectation maximisation."""
    share = prior**2 / (prior**2).sum(axis=0)
    means = widths = np.zeros(3)
    for _ in range(iterations):
        weight = share.sum(axis=1)
        means = (share * values).sum(axis=1) / weight
        spread = (share * (values - means[:, None]) ** 2).sum(axis=1) / weight
        widths = np.sqrt(spread + 1e-6 * values.var())
        share = prior * np.exp(-0.5 * ((values - means[:, None]) / widths[:, None]) ** 2) / widths[:, None]
        share = share / np.maximum(share.sum(axis=0), 1e-300)
    if not means[FLUID - 1] < means[GREY - 1] < means[WHITE - 1]:
        found = f"grey, white, fluid have the intensities {np.round(means, 1).tolist()}"
        raise refused(f"{found}: in a T1-weighted brain fluid is darkest and white matter brightest")
    return means, widths


def refine_mask(classes: Array, inside: Array, affine: Array) -> tuple[Array, Array]:
    """Return where tissue is told apart, and the brain with the fluid around it.

    Both hold grey and white matter without bridges to the dura, folds and holes closed.
    """
    tissue = (classes == GREY) | (classes == WHITE)
    core = largest(registration.dilated(tissue, -2.0, affine))
    matter = registration.dilated(core, 3.0, affine) & tissue
    closed = registration.dilated(registration.dilated(matter, 6.0, affine), -6.0, affine)
    tight = np.asarray(ndimage.binary_fill_holes(registration.dilated(closed, 1.0, affine) & inside))
    return tight, np.asarray(ndimage.binary_fill_holes(registration.dilated(closed, RIM_MM, affine) | tight))


def _checked_contrast(head: Volume, dseg: Volume) -> dict[str, float]:
    """Return how far white matter lies above grey, over grey above fluid; refuse what is not T1-weighted."""
    grey, white, fluid = (float(np.median(head.data[dseg.data == label])) for label in (GREY, WHITE, FLUID))
    contrast = (white - grey) / max(grey - fluid, 1e-6 * abs(grey))
    if contrast < MIN_CONTRAST:
        found = f"white matter lies {contrast:.2f} times as far above grey as grey above fluid"
        raise refused(f"{found}, {MIN_CONTRAST:g} times or more in a T1-weighted image: is it a FLAIR?")
    return {"white_grey_contrast": round(contrast, 3)}


def _checked_sizes(dseg: Volume) -> dict[str, float]:
    voxel_ml = float(np.prod(dseg.voxel_mm)) / 1000
    sizes = {
        name: float((dseg.data == label).sum() * voxel_ml)
        for name, label in (("grey_ml", GREY), ("white_ml", WHITE), ("fluid_ml", FLUID))
    }
    brain = sum(sizes.values())
    if not 700 < brain < 2300 or min(sizes["grey_ml"], sizes["white_ml"]) < 150:
        raise DataFault(
            "E-DATA-B23",
            f"the brain has {brain:.0f} ml ({sizes['grey_ml']:.0f} grey, {sizes['white_ml']:.0f} white)",
            fix=LOOK,
        )
    return {"brain_ml": round(brain, 1)} | {name: round(size, 1) for name, size in sizes.items()}
