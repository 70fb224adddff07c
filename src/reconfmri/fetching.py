"""Atlases from elsewhere, fetched once by `reconfmri fetch`; nothing else of the package uses the network.

`config/fetched.tsv` holds the sha256 of every file as it came. Rules read the files in the study folder
alone, and a run is planned only with files of that content.
"""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, urlparse

import pandas as pd

from reconfmri.bids import sha256
from reconfmri.config import Atlas, Study
from reconfmri.files import InputError
from reconfmri.problems import Problem
from reconfmri.tables import read_table, write_table

RECORD = "config/fetched.tsv"
CODE = "E-DATA-B10"
NILEARN, TEMPLATEFLOW = "nilearn", "templateflow"
ARCHIVE = "https://templateflow.s3.amazonaws.com/"
SECONDS = 60  # without a byte
COLUMNS = {
    "file": "File in the study folder",
    "source": "Where it was fetched from",
    "sha256": "sha256 of its content as it came",
    "bytes": "Its size",
}
FETCH = "fetch it: `reconfmri fetch`"


def fetch(folder: Path, study: Study) -> list[str]:
    """Fetch every file of the study's atlases that has a source and is not here; return what was done.

    Raises
    ------
    InputError
        A source cannot be had or holds something else; a file that is here differs from what was fetched.
    """
    records = _records(folder)
    said = []
    for name, atlas in study.rois.atlases.items():
        wanted = _wanted(atlas)
        if not wanted:
            continue
        _refuse_changed(folder, records, wanted)
        if all(file in records and (folder / file).is_file() for file in wanted):
            said.append(f"{name}: here already")
            continue
        with TemporaryDirectory(dir=folder) as place:
            found = _fetched(name, atlas, Path(place))
            for file, path in found.items():
                digest = sha256(path)
                if file in records and digest != records[file]["sha256"]:
                    what = f"the source {wanted[file]} holds another content than when it was first fetched"
                    fix = f"delete its row in {RECORD} if the new one is meant"
                    raise InputError(file, what, fix=fix, code=CODE)
                records[file] = {
                    "file": file, "source": wanted[file], "sha256": digest, "bytes": path.stat().st_size,
                }  # fmt: skip
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, folder / file)
                said.append(f"{name}: {file} from {wanted[file]}, sha256 {digest}")
        write_table(folder / RECORD, pd.DataFrame(records.values(), columns=list(COLUMNS)), COLUMNS)
    return said or ["no atlas of the study file has a source to be fetched from"]


def check_fetched(folder: Path, study: Study, *, digest: Callable[[Path], str] = sha256) -> Iterator[Problem]:
    """Yield a STOP per file that is to be fetched and is not here, or is not what was fetched."""
    try:
        records = _records(folder)
    except ValueError as error:
        yield Problem("STOP", CODE, f"the record cannot be read: {error}", "fetch again", RECORD)
        return
    for atlas in study.rois.atlases.values():
        for file in _wanted(atlas):
            if file not in records or not (folder / file).is_file():
                what = "the atlas's file is to be fetched and is not here"
                yield Problem("STOP", CODE, what, FETCH, file)
            elif digest(folder / file) != records[file]["sha256"]:
                what = f"its content is not what was fetched ({RECORD})"
                yield Problem("STOP", CODE, what, f"delete the file and {FETCH}", file)


def refuse_unfetched(folder: Path, study: Study, *, digest: Callable[[Path], str] = sha256) -> None:
    """Stop the planning of a run at the first file that is absent or changed.

    Raises
    ------
    ValueError
        It names the file and the way round.
    """
    for problem in check_fetched(folder, study, digest=digest):
        raise ValueError(problem.line)


def _wanted(atlas: Atlas) -> dict[str, str]:
    """File -> source, of an atlas that has one."""
    if atlas.image_from is None:
        return {}
    return {atlas.image: atlas.image_from, atlas.labels: atlas.labels_from or atlas.image_from}


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / RECORD
    if not path.is_file():
        return {}
    table = read_table(path, required=list(COLUMNS), numeric=["bytes"])
    return {str(row["file"]): {str(k): v for k, v in row.items()} for row in table.to_dict("records")}


def _refuse_changed(folder: Path, records: dict[str, dict[str, Any]], wanted: dict[str, str]) -> None:
    for file in wanted:
        path = folder / file
        if not path.is_file():
            continue
        if file not in records:
            what, fix = "the file is here and was not fetched", "move it away, or take its source out"
            raise InputError(file, what, fix=fix, code=CODE)
        if sha256(path) != records[file]["sha256"]:
            what = f"its content is not what was fetched ({RECORD})"
            raise InputError(file, what, fix="delete the file and fetch again", code=CODE)


def _fetched(name: str, atlas: Atlas, place: Path) -> dict[str, Path]:
    """Fetch the two files of an atlas into a folder and look at them; return file -> where it lies now."""
    image, labels = place / Path(atlas.image).name, place / Path(atlas.labels).name
    if str(atlas.image_from).startswith(f"{NILEARN}:"):
        _by_nilearn(str(atlas.image_from), atlas, image, labels)
    else:
        _download(str(atlas.image_from), image)
        _download(str(atlas.labels_from), labels)
    try:
        import nibabel

        nibabel.load(image).get_fdata(dtype="float32")
        table = read_table(labels, required=["index", "name"])
    except (ValueError, OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        what = f"what {atlas.image_from} gave is no atlas: {str(error).replace(str(place), '')}"
        raise InputError(f"rois.atlases.{name}", what, fix="correct the source", code=CODE) from None
    if table.empty:
        raise InputError(f"rois.atlases.{name}", "its table holds no label", fix="correct it", code=CODE)
    return {atlas.image: image, atlas.labels: labels}


def _download(source: str, place: Path) -> None:
    """Write what lies at an address, whole, or raise; `templateflow:PATH` is its archive's."""
    address = ARCHIVE + source.partition(":")[2] if source.startswith(f"{TEMPLATEFLOW}:") else source
    try:
        # The study file's sources begin with one of `config.rois.SOURCES`.
        with urllib.request.urlopen(address, timeout=SECONDS) as answer, place.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(answer, file)
            expected = answer.headers.get("Content-Length")
    except (OSError, ValueError, urllib.error.URLError) as error:
        what = f"it cannot be fetched ({error})"
        raise InputError(
            source, what, fix="correct the address, or connect this machine", code=CODE
        ) from None
    if expected and place.stat().st_size != int(expected):
        what = f"{place.stat().st_size} of {expected} bytes came"
        raise InputError(source, what, fix="fetch again", code=CODE)


def _by_nilearn(source: str, atlas: Atlas, image: Path, labels: Path) -> None:
    """Write the atlas of `nilearn:NAME?key=value`, by nilearn's `fetch_atlas_NAME`."""
    import nibabel
    from nilearn import datasets

    asked = urlparse(source)
    name = asked.path
    fetcher = getattr(datasets, f"fetch_atlas_{name}", None)
    if fetcher is None:
        raise InputError(source, f"nilearn has no atlas {name!r}", fix="correct the name", code=CODE)
    given = {key: _value(text) for key, text in parse_qsl(asked.query)}
    try:
        with TemporaryDirectory(dir=image.parent) as cache:
            found = fetcher(**given, data_dir=cache, verbose=0)
            maps = nibabel.load(found.maps) if isinstance(found.maps, str | Path) else found.maps
            nibabel.save(maps, image)
            table = found.lut[["index", "name"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"nilearn did not give it ({type(error).__name__}: {error})"
        raise InputError(
            source, what, fix="correct the arguments, or connect this machine", code=CODE
        ) from None
    template = found.get("template")
    if template in ("MNI152NLin2009cAsym", "MNI152NLin6Asym") and template != atlas.space:
        what = f"nilearn's atlas lies in {template}, the study file says {atlas.space}"
        raise InputError(source, what, fix="correct `space`", code=CODE)
    write_table(labels, table[table["index"] != 0].reset_index(drop=True))


def _value(text: str) -> Any:
    """A number, a truth value or a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
