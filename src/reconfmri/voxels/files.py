"""The border of a comparison of voxels: maps, regions and atlas in, tables and images out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reconfmri.config import Rois
from reconfmri.contracts import questions
from reconfmri.contracts.voxels import VoxelImage
from reconfmri.group.estimands import Array
from reconfmri.rois import atlas_at
from reconfmri.step import NO_FACTS
from reconfmri.tables import read_table
from reconfmri.voxels.clusters import Atlas
from reconfmri.voxels.compare import Answer
from reconfmri.voxels.scans import ScanMap

SPACE_CODE = 4  # of NIfTI: an MNI152 template


def scan_maps(
    units: Sequence[Sequence[str]], effects: Sequence[str], variances: Sequence[str], contrasts: Sequence[str]
) -> dict[str, list[ScanMap]]:
    """Return contrast -> maps of its scans; the files of a contrast lie together, in the order of `units`.

    A unit is participant, session, task and run.
    """
    found: dict[str, list[ScanMap]] = {name: [] for name in contrasts}
    owners = [(name, unit) for name in contrasts for unit in units]
    for (name, unit), effect, variance in zip(owners, effects, variances, strict=True):
        participant, session, task, run = unit
        found[name].append(ScanMap(participant, session, task, run, Path(effect), Path(variance)))
    return found


def region_masks(
    masks: Path, table: Path, rois: Rois, wanted: Iterable[str]
) -> tuple[dict[str, npt.NDArray[np.bool_]], tuple[tuple[int, ...], Array]]:
    """Return the masks (x, y, z) of regions, single or combined, and shape and affine of the study's grid."""
    import nibabel

    image: Any = nibabel.load(masks)
    data = np.asarray(image.dataobj) > 0
    places = {str(name): place for place, name in enumerate(read_table(table)["name"])}
    parts = {name: [name] for name in rois.regions} | dict(rois.combined)
    found = {
        name: np.asarray(np.any([data[..., places[part]] for part in parts[name]], axis=0)) for name in wanted
    }
    return found, (tuple(image.shape[:3]), np.asarray(image.affine, dtype=np.float64))


def harvard_oxford_at(points: Array) -> Atlas:
    """Return the Harvard-Oxford atlas at points (m, 3), mm in MNI152NLin2009cAsym."""
    return Atlas(*atlas_at(points))


def write_answer(answer: Answer, tables: Mapping[str, str], images: Mapping[VoxelImage, str]) -> None:
    """Write tables by name and images by what they are, with their JSON; an image without answer is empty."""
    import nibabel

    specs = questions.specs()
    names = next(item for item in questions.registered() if item.name == "voxels").tables
    for name, rows in zip(names, answer.tables, strict=True):
        specs[name].write(tables[name], rows)
    for image, place in images.items():
        path = Path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
        if image not in answer.images:
            path.write_bytes(b"")
            beside.write_bytes(NO_FACTS)
            continue
        values, affine, about = answer.images[image]
        nifti = nibabel.Nifti1Image(values, affine)
        nifti.set_sform(affine, SPACE_CODE)
        nifti.set_qform(affine, SPACE_CODE)
        nibabel.save(nifti, path)
        beside.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
