"""The model head: brain and tissue of the 2009a symmetric template; skull, scalp, face and neck added."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from reconfmri.templates import simulation_maps

Volume = npt.NDArray[np.float32]
Points = npt.NDArray[Any]

ORIGIN = np.array([-98.0, -134.0, -150.0])  # mm, corner of the model grid in the template's space
SHAPE = (197, 247, 257)  # 1 mm voxels: the template's field of view, with room for nose and neck
COARSE = 2  # the outer layers are drawn at 2 mm and refined: they are smooth

# T1w and EPI intensities per tissue; grey matter is 1000 in the EPI.
T1W = {
    "csf": 55.0,
    "bone": 35.0,
    "marrow": 120.0,
    "fat": 235.0,
    "soft": 125.0,
    "cord": 200.0,
    "eye": 60.0,
    "air": 3.0,
}
EPI = {
    "csf": 1300.0,
    "bone": 25.0,
    "marrow": 60.0,
    "fat": 90.0,
    "soft": 320.0,
    "cord": 800.0,
    "eye": 1250.0,
    "air": 0.0,
}
EPI_GREY, EPI_WHITE, EPI_CSF = 1000.0, 820.0, 1350.0
CSF_DEPTH, SKULL_DEPTH, SCALP_DEPTH = 2.0, 8.0, 14.0  # mm outside the brain's hull


@dataclass(frozen=True)
class Head:
    """Intensities of the model on its 1 mm grid, (197, 247, 257), and where fluid pulsates (0 to 1)."""

    t1w: Volume
    epi: Volume
    fluid: Volume


@cache
def build_head() -> Head:
    """Return the model head, the same at every call."""
    import nibabel as nib

    t1w, grey, white = (np.asarray(nib.load(path).dataobj, np.float32) for path in simulation_maps())
    brain = _embed(t1w > 0)
    tissue = _outer_tissues(brain)
    outside = ~brain
    grey, white = _embed(grey / 255), _embed(white / 255)
    csf = np.clip(1 - grey - white, 0, 1)
    anatomical = np.where(outside, _paint(tissue, T1W), _embed(t1w))
    inside = EPI_GREY * grey + EPI_WHITE * white + EPI_CSF * csf
    functional = np.where(outside, _paint(tissue, EPI), inside)
    fluid = np.where(outside, (tissue == _code("csf")).astype(np.float32), csf)
    return Head(anatomical.astype(np.float32), functional.astype(np.float32), fluid.astype(np.float32))


def to_index(points: Points) -> Points:
    """Return world points (..., 3) of the template's space as indices of the model grid."""
    return np.asarray(points - ORIGIN)


def _code(tissue: str) -> int:
    return list(T1W).index(tissue)


def _paint(tissue: npt.NDArray[np.uint8], intensities: dict[str, float]) -> Volume:
    return np.array(list(intensities.values()), np.float32)[tissue]


def _embed(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a template image on the model grid."""
    wide = np.zeros(SHAPE, image.dtype)
    low = int(-72 - ORIGIN[2])
    wide[:, : image.shape[1], low:] = image[:, :, : SHAPE[2] - low]
    return wide


def _outer_tissues(brain: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return a tissue code for every voxel outside the brain (inside it, too, but that is not used)."""
    from scipy import ndimage

    small = brain[::COARSE, ::COARSE, ::COARSE]
    near = ndimage.binary_closing(np.pad(small, 10), iterations=8)[10:-10, 10:-10, 10:-10]
    away = ndimage.distance_transform_edt(~near).astype(np.float32) * COARSE
    axes = [ORIGIN[k] + COARSE * np.arange(small.shape[k]) for k in range(3)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    head = (away <= SCALP_DEPTH) | _face(x, y, z) | _neck(x, y, z)
    depth = ndimage.distance_transform_edt(np.pad(head, ((1, 1), (1, 1), (0, 0)))).astype(np.float32)
    depth = depth[1:-1, 1:-1] * COARSE
    return _layers(_refine(away), _refine(depth))


def _refine(coarse: Volume) -> Volume:
    from scipy import ndimage

    return np.asarray(
        ndimage.affine_transform(coarse, np.full(3, 1 / COARSE), output_shape=SHAPE, order=1, mode="nearest")
    )


def _layers(away: Volume, depth: Volume) -> npt.NDArray[np.uint8]:
    """Return tissue codes from the distance to the brain's hull and the depth below the skin, both in mm."""
    x, y, z = np.meshgrid(*(ORIGIN[k] + np.arange(SHAPE[k]) for k in range(3)), indexing="ij", sparse=True)
    tissue = np.full(SHAPE, _code("air"), np.uint8)
    tissue[depth > 0.5] = _code("soft")
    tissue[(depth > 0.5) & (depth <= 4.5)] = _code("fat")
    for place in (_ball(x, y, z, (0, 72, -45), (9, 17, 20)), _ball(x, y, z, (0, 20, -95), (9, 9, 45))):
        tissue[place] = _code("air")
    for side in (-1, 1):
        tissue[_ball(x, y, z, (side * 28, 52, -66), (13, 14, 14))] = _code("air")
        tissue[_ball(x, y, z, (side * 33, 63, -38), (12, 12, 12))] = _code("eye")
    spine = -42.0 - 0.08 * (z + 72)
    for radius, name in ((24, "bone"), (12, "csf"), (8, "cord")):
        tissue[(x**2 + (y - spine) ** 2 < radius**2) & (z < -70)] = _code(name)
    skull = (away > CSF_DEPTH) & (away <= SKULL_DEPTH) & (z > -74)
    tissue[skull] = _code("bone")
    tissue[skull & (away > 4) & (away <= 6)] = _code("marrow")
    tissue[(away <= CSF_DEPTH) & (z > -74)] = _code("csf")
    return tissue


def _ball(
    x: Points, y: Points, z: Points, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> npt.NDArray[np.bool_]:
    return sum(((c - m) / r) ** 2 for c, m, r in zip((x, y, z), centre, radii, strict=True)) < 1  # type: ignore[return-value]


def _face(x: Points, y: Points, z: Points) -> npt.NDArray[np.bool_]:
    jaw = _ball(x, y, z, (0, 30, -55), (62, 64, 78))
    nose = _ball(x, y, z, (0, 92, -50), (13, 15, 20))
    return jaw | nose


def _neck(x: Points, y: Points, z: Points) -> npt.NDArray[np.bool_]:
    return (((x / 56) ** 2 + ((y + 30) / 60) ** 2) < 1) & (z < -55)
