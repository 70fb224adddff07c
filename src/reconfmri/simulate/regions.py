"""Where the sources and the study's regions lie in the model head, and the registration that defines the truth.

The model is the 2009a symmetric template; the study's regions lie in MNI152NLin2009cAsym. One fixed registration of
the two template brains says which point is which: it is part of the definition of the truth, as the person's
deformation is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reconfmri import registration, rois, templates
from reconfmri.config import Region, Rois
from reconfmri.simulate.head import ORIGIN, SHAPE, Points

SOURCES = {
    "amygdala": Region(labels=["Left Amygdala", "Right Amygdala"], threshold=0.5),
    "hippocampus": Region(labels=["Left Hippocampus", "Right Hippocampus"], threshold=0.5),
    "vmpfc": Region(labels=["Frontal Medial Cortex", "Subcallosal Cortex"], threshold=0.3),
    "occipital": Region(labels=["Occipital Pole"], threshold=0.3),
}
FINEST_MM = 2.0  # of the registration of the two template brains
ROOM_MM = 8.0  # more than the two templates lie apart anywhere


@dataclass(frozen=True)
class Territory:
    """Sources on the model's grid, and the voxels of the study's regions as points of the model."""

    sources: npt.NDArray[np.uint8]  # 1, 2, ... in the order of SOURCES, 0 elsewhere
    voxels: dict[str, Points]  # region -> (n_voxels, 3), mm: centres of the target grid's voxels
    parts: dict[str, list[str]]  # every region's name, single and combined -> its single regions
    source_of: dict[str, str]  # region -> the source that it samples; absent where nothing is planted


def survey(study: Rois, *, resolution: float, threads: int = 1) -> Territory:
    """Return the territory of a study's regions at `resolution` mm."""
    maps = templates.simulation_maps()
    to_target = registration.template_to_template(
        templates.target_brain(), maps.t1w, finest_mm=FINEST_MM, threads=threads
    )
    wanted = {f"source_{name}": region for name, region in SOURCES.items()} | study.regions
    fine, affine, _ = rois.carry_atlas(wanted, resolution=1.0, threads=threads)
    sources = _sources_in_model(fine[..., : len(SOURCES)], affine, to_target)
    coarse, coarse_affine = fine[..., len(SOURCES) :], affine
    if resolution != 1.0:
        coarse, coarse_affine = _on_coarse_grid(coarse, affine, study, resolution, threads)
    voxels = {
        name: registration.inverse_at(to_target, _points_of(coarse[..., index], coarse_affine))
        for index, name in enumerate(study.regions)
    }
    parts = {name: [name] for name in study.regions} | study.combined
    return Territory(
        sources, voxels, parts, {name: s for name in parts if (s := _source_of(name, parts, study))}
    )


def _on_coarse_grid(
    fine: rois.Masks, affine: Points, study: Rois, resolution: float, threads: int
) -> tuple[rois.Masks, Points]:
    """Return the masks at `resolution`: where its voxels are voxels of the 1 mm grid, without a new registration."""
    shape, coarse = templates.target_grid(resolution)
    if resolution != round(resolution):
        masks, coarse, _ = rois.carry_atlas(study.regions, resolution=resolution, threads=threads)
        return masks, coarse
    first = np.rint(coarse[:3, 3] - affine[:3, 3]).astype(int)
    masks = np.zeros((*shape, fine.shape[3]), np.uint8)
    index = [first[k] + int(resolution) * np.arange(shape[k]) for k in range(3)]
    inside = [(index[k] >= 0) & (index[k] < fine.shape[k]) for k in range(3)]
    masks[np.ix_(*inside)] = fine[np.ix_(*(i[here] for i, here in zip(index, inside, strict=True)))]
    return masks, coarse


def _sources_in_model(
    masks: rois.Masks, affine: Points, to_target: registration.Volume
) -> npt.NDArray[np.uint8]:
    """Return the sources on the model's grid: each of its voxels asks the target grid what it is."""
    label = (masks * np.arange(1, masks.shape[3] + 1, dtype=np.uint8)).max(axis=3)
    found = np.zeros(SHAPE, np.uint8)
    for number in range(1, masks.shape[3] + 1):
        points = _points_of(label == number, affine)
        low = np.floor(points.min(axis=0) - ROOM_MM - ORIGIN).astype(int)
        high = np.ceil(points.max(axis=0) + ROOM_MM - ORIGIN).astype(int) + 1
        box = tuple(slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, SHAPE, strict=True))
        corner = np.eye(4)
        corner[:3, 3] = ORIGIN + [part.start for part in box]
        here = registration.grid_points(tuple(part.stop - part.start for part in box), corner)
        there = registration.sample_map(to_target, here)
        named = registration.sample(registration.Volume(label, affine), there, order=0)
        found[box][named == number] = number
    return found


def _points_of(mask: npt.NDArray[np.generic], affine: Points) -> Points:
    return registration.transform_points(affine, np.argwhere(mask).astype(np.float64))


def _source_of(name: str, parts: dict[str, list[str]], study: Rois) -> str:
    """Return the source that holds all labels of a region, or nothing."""
    labels = {label for part in parts[name] for label in study.regions[part].labels}
    for source, region in SOURCES.items():
        if labels <= set(region.labels):
            return source
    return ""
