"""Where the sources lie in the model head, and the one registration that defines the truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reconfmri.simulate.head import ORIGIN, SHAPE
from reconfmri.templates import harvard_oxford

SOURCES = {
    "amygdala": (("Left Amygdala", "Right Amygdala"), 0.5),
    "hippocampus": (("Left Hippocampus", "Right Hippocampus"), 0.5),
    "vmpfc": (
        (
            "Left Frontal Medial Cortex",
            "Right Frontal Medial Cortex",
            "Left Subcallosal Cortex",
            "Right Subcallosal Cortex",
        ),
        0.3,
    ),
    "occipital": (("Left Occipital Pole", "Right Occipital Pole"), 0.3),
}


def source_regions() -> npt.NDArray[np.uint8]:
    """Return 1, 2, ... in the order of SOURCES on the model's grid, 0 elsewhere."""
    import nibabel as nib
    from scipy import ndimage

    path, labels = harvard_oxford()
    atlas = nib.load(path)
    index = np.indices(SHAPE, dtype=np.float32).reshape(3, -1) + ORIGIN[:, None].astype(np.float32)
    world = np.linalg.inv(atlas.affine)
    index = world[:3, :3] @ index + world[:3, 3:]
    regions = np.zeros(SHAPE, np.uint8)
    for number, (names, threshold) in enumerate(SOURCES.values(), start=1):
        probability = np.zeros(atlas.shape[:3], np.float32)
        for name in names:
            probability += np.asarray(atlas.dataobj[..., labels.index(name)], np.float32)
        here = ndimage.map_coordinates(probability, index, order=1).reshape(SHAPE) >= 100 * threshold
        regions[here] = number
    return regions
