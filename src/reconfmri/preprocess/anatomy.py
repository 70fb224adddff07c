"""One person's T1w: bias field, brain, tissue, and the warp from the template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from reconfmri import registration, templates
from reconfmri.exclusions import DataFault
from reconfmri.registration import Array, Volume

CONFORMED_MM = 1.0  # finer T1w images are brought to this; the regions and the BOLD are far coarser
SEARCH_MM, AFFINE_MM = 8.0, 4.0
# The bias field of the whole head need only serve the registration; that of the brain is found finer.
HEAD_BIAS_MM, BIAS_MM = 6.0, 4.0
# Chosen on heads with a known warp: mean errors of 0.35 mm at 1.5 mm and 0.62 mm at 3 mm; with greedy's own
# smoothing 0.57 and 0.73 mm.
WARP = "-m NCC 2x2x2 -n 100x80x40"
WARP_SMOOTHING = {"fine": "-s 4vox 1vox", "coarse": "-s 3vox 0.7vox"}
# Heads match by an affine with a correlation of 0.75 or more, upside-down ones and no heads below 0.37; their
# warps shrink or stretch at most 2 % of the brain by more than twice, of the others a third.
MIN_AFFINE_CORRELATION, MAX_TORN = 0.55, 0.15
GREY, WHITE, FLUID = 1, 2, 3
RECHECK = "look at the T1w image: is it a T1-weighted head with the right orientation in its header?"


@dataclass(frozen=True)
class Anatomy:
    """A person's anatomy on the conformed T1w grid, and the point map from the template grid to it."""

    t1w: Volume
    mask: Volume
    dseg: Volume
    to_t1w: Volume
    facts: dict[str, float]


@dataclass(frozen=True)
class Template:
    """The template brain on the grid of the warp, and where it is compared with a head."""

    brain: Volume
    mask: Array
    around: Array


def conform(raw: Volume) -> Volume:
    """Return a T1w at 1 mm or coarser without its bias field."""
    head = registration.downsample(raw, CONFORMED_MM)
    coarse = registration.downsample(head, HEAD_BIAS_MM)
    return corrected(head, bias_field(coarse, coarse.data > _otsu(coarse)))


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
    mask = refine_mask(classes, inside, head.affine)
    dseg = Volume(np.where(mask, classes, 0).astype(np.uint8), head.affine)
    facts |= _checked_sizes(dseg)
    return Anatomy(head, Volume(mask.astype(np.uint8), head.affine), dseg, to_t1w, facts)


def template_at(spacing_mm: float) -> Template:
    """Return the brain of MNI152NLin2009cAsym on `templates.target_grid(spacing_mm)`."""
    shape, affine = templates.target_grid(spacing_mm)
    fine = registration.read_volume(templates.target_brain())
    points = registration.grid_points(shape, affine)
    sigma = np.sqrt(max(spacing_mm**2 - 1, 0)) / 2.355
    smooth = Volume(ndimage.gaussian_filter(fine.data, sigma, truncate=3), fine.affine)
    brain = Volume(registration.sample(smooth, points, order=1), affine)
    mask = registration.sample(Volume((fine.data > 0).astype(np.float32), fine.affine), points, order=1) > 0.5
    return Template(brain, mask, registration.dilated(mask, 6.0, affine))


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


def _otsu(head: Volume) -> float:
    """Threshold between air and head. Otsu, IEEE Trans SMC 1979;9:62."""
    top = float(np.percentile(head.data, 99.5))
    counts, edges = np.histogram(np.clip(head.data, 0, top), bins=128)
    middle = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mean_below = np.cumsum(counts * middle) / np.maximum(below, 1)
    mean_above = ((counts * middle).sum() - np.cumsum(counts * middle)) / np.maximum(above, 1)
    return float(middle[np.argmax(below * above * (mean_below - mean_above) ** 2)])


def rigid_from_template(head: Volume) -> Array:
    """Return the rigid (4, 4) matrix, RAS mm, from the template brain to a head of any position."""
    near, far = template_at(AFFINE_MM), template_at(SEARCH_MM)
    coarse = registration.downsample(head, AFFINE_MM)
    search = registration.downsample(coarse, SEARCH_MM)
    start = registration.search_rigid(
        far.brain, search, mask=far.around, starts=_guesses(search), spread=(12.0, 15.0)
    )
    return registration.greedy_affine(
        near.brain, coarse, mask=near.around, start=start, options="-dof 6 -m NMI -n 40x20"
    )


def _warp(
    template: Template, head: Volume, *, pose: Array | None, threads: int
) -> tuple[Volume, dict[str, float]]:
    """Return the point map from the template to the head, and how well they match."""
    near = template_at(AFFINE_MM)
    coarse = registration.downsample(head, AFFINE_MM)
    rigid = rigid_from_template(head) if pose is None else pose
    affine = registration.greedy_affine(
        near.brain,
        coarse,
        mask=near.around,
        start=rigid,
        options="-dof 12 -m NCC 2x2x2 -n 60x40",
    )
    _check_affine(affine, _similarity(near, coarse, registration.dense_map(near.brain, matrix=affine)))
    smoothing = WARP_SMOOTHING["fine" if template.brain.voxel_mm[0] < 2 else "coarse"]
    displacement = registration.greedy_deformable(
        template.brain,
        head,
        start=affine,
        mask=template.around,
        options=f"{WARP} {smoothing}",
        threads=threads,
    )
    to_t1w = registration.dense_map(template.brain, matrix=affine, displacement=displacement)
    torn = _torn(displacement, template)
    if torn > MAX_TORN:
        reason = f"the warp from the template is torn in {torn:.0%} of the brain"
        raise DataFault("E-DATA-B22", reason, mend=RECHECK)
    match = _similarity(template, head, to_t1w)
    return to_t1w, {"template_correlation": round(match, 4), "torn_share": round(torn, 4)}


def _guesses(head: Volume) -> list[Array]:
    """Where the template may lie: by the headers, and with its crown at the crown of the head."""
    bright = head.data > _otsu(head)
    points = registration.grid_points(head.data.shape, head.affine)[bright]
    crown = np.percentile(points[:, 2], 99.5)
    upper = points[points[:, 2] > crown - 120]
    # The template's brain ends at z = 82 mm, about 15 mm below the skin; its middle lies at y = -17 mm.
    shift = np.array([*np.median(upper[:, :2], axis=0), crown]) - np.array([0.0, -17.0, 95.0])
    by_crown = np.eye(4)
    by_crown[:3, 3] = shift
    return [np.eye(4), by_crown]


def _check_affine(affine: Array, match: float) -> None:
    scales = np.linalg.svd(affine[:3, :3], compute_uv=False)
    if np.linalg.det(affine[:3, :3]) <= 0 or scales.max() > 1.6 or scales.min() < 0.6:
        reason = f"the head matches the template only when scaled by {np.round(scales, 2).tolist()}"
        raise DataFault("E-DATA-B22", reason, mend=RECHECK)
    if match < MIN_AFFINE_CORRELATION:
        reason = f"the head does not match the template (correlation {match:.2f})"
        raise DataFault("E-DATA-B22", reason, mend=RECHECK)


def _torn(displacement: Array, template: Template) -> float:
    """Return the share of the brain whose volume the warp halves or doubles."""
    parts = np.gradient(displacement, *template.brain.voxel_mm, axis=(0, 1, 2))
    slopes = np.stack(list(parts), axis=-1)
    volume = np.linalg.det(slopes[template.mask] + np.eye(3))
    return float(((volume < 0.5) | (volume > 2)).mean())


def _similarity(template: Template, head: Volume, to_t1w: Volume) -> float:
    """Return the correlation of template and head inside the template's brain."""
    seen = registration.sample(head, to_t1w.data[template.mask], order=1)
    return float(np.corrcoef(seen, template.brain.data[template.mask])[0, 1])


def _carried_to(head: Volume, to_t1w: Volume, template: Template) -> tuple[Volume, Array, Array]:
    """Return the head cut to its brain, the template's mask on it, and tissue priors (3, x, y, z)."""
    cut = _cut_around(head, to_t1w.data[template.around])
    there = _template_points(cut, to_t1w)
    brain = registration.read_volume(templates.target_brain())
    mask = Volume((brain.data > 0).astype(np.float32), brain.affine)
    inside = registration.sample(mask, there, order=1) > 0.5
    priors = [registration.sample(Volume(p, brain.affine), there, order=1) for p in _tissue_priors(brain)]
    return cut, inside, np.stack(priors)


def _cut_around(head: Volume, points: Array, *, margin: int = 4) -> Volume:
    """Return the part of `head` that holds `points` (n, 3), RAS mm, and `margin` voxels around."""
    voxels = registration.transform_points(np.linalg.inv(head.affine), points)
    first = np.clip(np.floor(voxels.min(axis=0)).astype(int) - margin, 0, None)
    last = np.minimum(np.ceil(voxels.max(axis=0)).astype(int) + margin + 1, head.data.shape)
    if (last - first < 16).any():
        raise DataFault("E-DATA-B22", "the brain was found outside the image", mend=RECHECK)
    affine = head.affine.copy()
    affine[:3, 3] += head.affine[:3, :3] @ first
    return Volume(np.ascontiguousarray(head.data[tuple(map(slice, first, last))]), affine)


def _template_points(head: Volume, to_t1w: Volume, *, spacing_mm: float = 4.0) -> Array:
    """Return the template point (x, y, z, 3), RAS mm, of each voxel: the map's inverse, found every 4 mm."""
    step = np.diag([*(spacing_mm / head.voxel_mm), 1.0])
    shape = np.ceil(np.array(head.data.shape) / np.diag(step)[:3]).astype(int) + 2
    coarse = registration.grid_points(tuple(shape), head.affine @ step)
    back = registration.inverse_at(to_t1w, coarse).astype(np.float32)
    fine = 1 / np.diag(step)[:3]
    axes = [
        ndimage.affine_transform(back[..., k], fine, output_shape=head.data.shape, order=1) for k in range(3)
    ]
    return np.stack(axes, axis=-1)


def _tissue_priors(brain: Volume) -> list[Array]:
    """Return where the template is grey, white, fluid, from its own intensities (0-100), smoothed by 3 mm."""
    white = 1 / (1 + np.exp(-(brain.data - 78) / 4))
    fluid = 1 / (1 + np.exp((brain.data - 45) / 5))
    grey = np.clip(1 - white - fluid, 0, 1)
    # On the template's 1 mm grid, voxels are millimetres.
    return [ndimage.gaussian_filter(part, 3 / 2.355, truncate=3) for part in (grey, white, fluid)]


def segment_tissue(head: Volume, inside: Array, priors: Array) -> Array:
    """Return labels (1 grey, 2 white, 3 fluid, 0 outside) by three Gaussians, spatial priors and neighbours.

    Ashburner & Friston, NeuroImage 1997;6:209; mean field over neighbours: Zhang et al., IEEE TMI 2001;20:45.
    """
    values = head.data[inside].astype(np.float64)
    prior = 0.03 + 0.91 * priors[:, inside] / np.maximum(priors[:, inside].sum(axis=0), 1e-3)
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
        raise DataFault(
            "E-DATA-B22",
            f"grey, white, fluid have the intensities {np.round(means, 1).tolist()}: not a T1-weighted brain",
            mend=RECHECK,
        )
    return means, widths


def refine_mask(classes: Array, inside: Array, affine: Array) -> Array:
    """Return the brain: grey and white matter without bridges to the dura, folds and holes closed."""
    tissue = (classes == GREY) | (classes == WHITE)
    core = _largest(registration.dilated(tissue, -2.0, affine))
    matter = registration.dilated(core, 3.0, affine) & tissue
    closed = registration.dilated(registration.dilated(matter, 6.0, affine), -6.0, affine)
    grown = registration.dilated(closed, 1.0, affine) & inside
    return np.asarray(ndimage.binary_fill_holes(grown))


def _largest(mask: Array) -> Array:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


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
            mend=RECHECK,
        )
    return {"brain_ml": round(brain, 1)} | {name: round(size, 1) for name, size in sizes.items()}
