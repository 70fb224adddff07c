"""Susceptibility distortion of one run: where along the phase-encoding axis its signals appear.

A point p of the head appears at p + shift(p) in the EPI, and what stood between two points is spread over the
distance they have there: intensities are multiplied by 1 + shift'. Both are applied in the space of the run's
reference volume, before head motion, inside the one interpolation.
Jezzard & Balaban, MRM 1995;34:65. Fields come from a field map (`fieldmap`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reconfmri import registration
from reconfmri.acquisition import PhaseEncoding
from reconfmri.fieldmaps import Fieldmap
from reconfmri.preprocess import coregistration
from reconfmri.preprocess.fieldmap import FieldMap
from reconfmri.preprocess.unwarping import Distortion, field_at
from reconfmri.registration import Array, Volume

ROUNDS = 2


def none_of(reference: Volume) -> Distortion:
    """Return a shift of zero everywhere."""
    return Distortion(Volume(np.zeros(reference.data.shape, dtype=np.float32), reference.affine), 0)


def by_field_map(
    field: FieldMap,
    reference: Volume,
    encoding: PhaseEncoding,
    t1w: Volume,
    dseg: Volume,
    *,
    reflection: Array | None = None,
) -> tuple[Distortion, Array, dict[str, float]]:
    """Return a run's distortion, the rigid map of its straightened reference to the T1w, and how good it is.

    The field map and the reference meet in the T1w, so that the head may lie differently in each; where the
    reference lies there and how it is distorted depend on one another and are found in turns.
    `reflection` is as in `coregistration.align_to_t1w`.

    Raises
    ------
    DataFault
        Reference or field map could not be placed in the T1w (E-DATA-B21), or the run is swapped or another
        person's (E-DATA-B41, B42).
    """
    to_t1w, _ = coregistration.align_to_t1w(reference, t1w, dseg)
    found = none_of(reference)
    facts: dict[str, float] = {}
    mm_per_hz = encoding.voxels_per_hz * reference.voxel_mm[encoding.axis]
    for rest in reversed(range(ROUNDS)):
        points = registration.grid_points(reference.data.shape, reference.affine)
        hertz = field_at(field.hertz, registration.transform_points(field.from_t1w @ to_t1w, points), order=1)
        shift = Volume((hertz * mm_per_hz).astype(np.float32), reference.affine)
        found = Distortion(shift, encoding.axis)
        straight = found.straightened(reference)
        last = None if rest else reflection
        to_t1w, facts = coregistration.align_to_t1w(straight, t1w, dseg, start=to_t1w, reflection=last)
    return found, to_t1w, facts


def described(
    undone: Distortion, mask: Array, given: Fieldmap | None, sidecar: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a run's metadata say of its distortion: how it was undone, and how far signals were moved.

    `Axis` is the voxel axis of the reference; shifts (mm) are counted inside its brain `mask`, from their
    median, which moves the head as a whole.
    """
    facts: dict[str, Any] = {"Method": given.method if given else "none", "Axis": undone.axis}
    if given is None:
        return facts
    inside = undone.shift.data[mask > 0]
    shift = np.abs(inside - np.median(inside))
    return facts | {
        "Fieldmap": [Path(path).name for path in given.files.values()],
        "PhaseEncodingDirection": sidecar["PhaseEncodingDirection"],
        "IntensityModulation": "Jacobian",
        "MeanShift": round(float(shift.mean()), 3),
        "P95Shift": round(float(np.percentile(shift, 95)), 3),
    }
