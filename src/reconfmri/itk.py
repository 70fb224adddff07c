"""Transforms as files of ITK (LPS, mm), which ANTs, SimpleITK, nitransforms and fMRIPrep read.

A file `from-A_to-B_mode-image` resamples an image of A on the grid of B: it takes points of B to those of A.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from reconfmri.gzipped import save_image
from reconfmri.registration import Array, Volume, grid_points

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
VECTOR = 1007  # NIfTI's intent code of a vector per voxel


def write_affines(path: str | Path, matrices: Array) -> None:
    """Write (n, 4, 4) matrices between points, RAS mm, as one ITK text file; several are one per volume."""
    lines = ["#Insight Transform File V1.0"]
    for number, matrix in enumerate(LPS @ np.asarray(matrices, dtype=np.float64) @ LPS):
        values = [*matrix[:3, :3].ravel(), *matrix[:3, 3]]
        lines += [
            f"#Transform {number}",
            "Transform: AffineTransform_double_3_3",
            "Parameters: " + " ".join(repr(float(value)) for value in values),
            "FixedParameters: 0 0 0",
            "",
        ]
    Path(path).write_text("\n".join(lines), encoding="utf-8")


def write_alignment(alignment: Path, *, head_motion: Path, coregistration: Path) -> None:
    """Write the transforms in the JSON of `align_run` as fMRIPrep does: orig to boldref, boldref to T1w."""
    known = json.loads(alignment.read_text(encoding="utf-8"))
    write_affines(head_motion, np.array(known["head_motion"]).reshape(-1, 4, 4))
    to_t1w = np.array(known["boldref_to_t1w"]).reshape(4, 4)
    write_affines(coregistration, np.linalg.inv(to_t1w)[None])


def write_warp(path: str | Path, point_map: Volume) -> None:
    """Write a point map (RAS mm, on a template's grid) as displacements, (x, y, z, 1, 3), LPS mm."""
    import nibabel

    moved = (point_map.data - grid_points(point_map.data.shape, point_map.affine)) * np.diag(LPS)[:3]
    image = nibabel.Nifti1Image(moved[:, :, :, None].astype(np.float32), point_map.affine)
    image.header.set_intent(VECTOR)
    image.header.set_xyzt_units("mm", "sec")
    for place in (image.header.set_sform, image.header.set_qform):
        place(point_map.affine, code=4)
    save_image(image, path)


def read_warp(path: str | Path) -> Volume:
    """Return the point map of a file that `write_warp` wrote, float32, RAS mm."""
    import nibabel

    image = nibabel.load(path)
    affine = np.asarray(image.affine, dtype=np.float64)
    moved = np.asarray(image.dataobj, dtype=np.float32)[:, :, :, 0] * np.diag(LPS)[:3]
    return Volume((grid_points(moved.shape, affine) + moved).astype(np.float32), affine)
