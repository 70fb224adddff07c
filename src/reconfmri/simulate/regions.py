"""Where sources and the study's regions lie in the model head, by the registration that defines the truth.

The model is the 2009a symmetric template; the study's regions lie in MNI152NLin2009cAsym. One fixed
registration of the two template brains says which point is which: it is part of the definition of the truth,
as the person's deformation is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from reconfmri import greedy, registration, rois, templates
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
    """Return the territory of a study's regions at `resolution` mm; known after the first call."""
    return _survey(study.model_dump_json(), resolution, threads)


@cache
def _survey(regions: str, resolution: float, threads: int) -> Territory:
    study = Rois.model_validate_json(regions)
    maps = templates.simulation_maps()
    to_target = greedy.template_to_template(
        templates.target_brain(), maps.t1w, finest_mm=FINEST_MM, threads=threads
    )
    wanted = {f"source_{name}": region for name, region in SOURCES.items()} | study.regions
    every = Rois(atlases=study.atlases, regions=wanted)
    weights, affine, _ = rois.carry_atlas(every, resolution=resolution, threads=threads)
    masks = (weights > 0).astype(np.uint8)
    sources = _sources_in_model(masks[..., : len(SOURCES)], affine, to_target)
    voxels = {
        name: registration.inverse_at(to_target, _points_of(masks[..., index], affine))
        for index, name in enumerate(study.regions, start=len(SOURCES))
    }
    parts = {name: [name] for name in study.regions} | study.combined
    sampled = {name: source for name in parts if (source := _source_of(name, parts, study))}
    return Territory(sources, voxels, parts, sampled)


def _sources_in_model(
    masks: npt.NDArray[np.uint8], affine: Points, to_target: registration.Volume
) -> npt.NDArray[np.uint8]:
    """Return the sources on the model's grid: each voxel asks the target grid, linearly, what it is."""
    found = np.zeros(SHAPE, np.uint8)
    for number in range(1, masks.shape[3] + 1):
        mask = masks[..., number - 1]
        points = _points_of(mask, affine)
        low = np.floor(points.min(axis=0) - ROOM_MM - ORIGIN).astype(int)
        high = np.ceil(points.max(axis=0) + ROOM_MM - ORIGIN).astype(int) + 1
        box = tuple(slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, SHAPE, strict=True))
        corner = np.eye(4)
        corner[:3, 3] = ORIGIN + [part.start for part in box]
        here = registration.grid_points(tuple(part.stop - part.start for part in box), corner)
        there = registration.sample_map(to_target, here)
        share = registration.sample(registration.Volume(mask, affine), there, order=1)
        found[box][share >= 0.5] = number
    return found


def _points_of(mask: npt.NDArray[np.generic], affine: Points) -> Points:
    return registration.transform_points(affine, np.argwhere(mask).astype(np.float64))


def _source_of(name: str, parts: dict[str, list[str]], study: Rois) -> str:
    """Return the source that holds all labels of a region, or nothing."""
    own = [study.regions[part] for part in parts[name]]
    labels = {label for region in own if not region.atlas for label in region.labels}
    for source, region in SOURCES.items():
        if labels and labels <= set(region.labels):
            return source
    return ""
