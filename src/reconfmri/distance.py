"""Where a mask is near, in mm: the exact Euclidean distance, looked for no farther than asked.

The same voxels as a threshold on `scipy.ndimage.distance_transform_edt`, which finds every distance and its
place, in a tenth of the time. Felzenszwalb & Huttenlocher, Theory of Computing 2012;8:415 (one axis after the
other).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from reconfmri.interpolation import compiled

Array = npt.NDArray[Any]
FAR = np.uint16(65535)  # steps along x to the nearest voxel of the mask, where none is in reach


def within(mask: Array, radius_mm: float, edges: Array) -> npt.NDArray[np.bool_]:
    """Return where a voxel of the mask (x, y, z) is at most `radius_mm` away; `edges` (3,) of a voxel, mm."""
    found = np.zeros(mask.shape, dtype=bool)
    reach = np.floor(radius_mm / np.asarray(edges) + 1e-9).astype(np.int64)
    _grow(np.ascontiguousarray(mask, dtype=bool), float(radius_mm), np.asarray(edges, float), reach, found)
    return found


@compiled
def _grow(mask: Any, radius: float, edges: Any, reach: Any, found: Any) -> None:
    steps = np.empty(mask.shape, dtype=np.uint16)
    _steps_along_x(mask, reach[0], steps)
    depth, width, height = mask.shape
    along_x, along_y = np.empty((width, height)), np.empty((width, height))
    for x in range(depth):
        anything = False
        for y in range(width):
            for z in range(height):
                near = steps[x, y, z] != FAR
                anything |= near
                along_x[y, z] = (steps[x, y, z] * edges[0]) ** 2 if near else np.inf
        if not anything:
            continue
        along_y[:] = along_x
        for step in range(1, reach[1] + 1):
            more = (step * edges[1]) ** 2
            for y in range(width - step):
                for z in range(height):
                    along_y[y, z] = min(along_y[y, z], along_x[y + step, z] + more)
                    along_y[y + step, z] = min(along_y[y + step, z], along_x[y, z] + more)
        for y in range(width):
            along_x[y] = along_y[y]
            for step in range(1, reach[2] + 1):
                more = (step * edges[2]) ** 2
                for z in range(height - step):
                    along_x[y, z] = min(along_x[y, z], along_y[y, z + step] + more)
                    along_x[y, z + step] = min(along_x[y, z + step], along_y[y, z] + more)
            for z in range(height):
                found[x, y, z] = np.sqrt(along_x[y, z]) <= radius


@compiled
def _steps_along_x(mask: Any, reach: int, steps: Any) -> None:
    """Fill `steps` (x, y, z) with the voxels along x to the nearest of the mask, FAR beyond `reach`."""
    depth, width, height = mask.shape
    for x in range(depth):
        for y in range(width):
            for z in range(height):
                before = steps[x - 1, y, z] if x > 0 else FAR
                count = np.uint16(before + 1) if before < reach else FAR
                steps[x, y, z] = 0 if mask[x, y, z] else count
    for x in range(depth - 2, -1, -1):
        for y in range(width):
            for z in range(height):
                after = steps[x + 1, y, z]
                if after < reach and after + 1 < steps[x, y, z]:
                    steps[x, y, z] = after + 1
