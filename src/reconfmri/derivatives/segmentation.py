"""A person's own segmentation as fMRIPrep brings it to a run's grid, and the table of its labels.

fMRIPrep with FreeSurfer writes `*_desc-aseg_dseg` (and `desc-aparcaseg_dseg`) beside every series, and the
table of labels at the root of its outputs.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from reconfmri import bids
from reconfmri.config import CONFIG, Fmriprep, Rois, Study
from reconfmri.derivatives.find import files_of, find_run, is_of_scan, only, place_of
from reconfmri.exclusions import UNIT, DataFault
from reconfmri.files import explained
from reconfmri.problems import Problem
from reconfmri.tables import read_table
from reconfmri.templates import SPACE

ABSENT, NO_LABEL = "E-BIDS-A21", "E-CONF-C04"
FIX = "run fMRIPrep for this participant with FreeSurfer (without --fs-no-reconall)"
# FreeSurfer's numbers without a table: https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/AnatomicalROI
_SIDED = {
    "Cerebral-White-Matter": (2, 41), "Cerebral-Cortex": (3, 42), "Lateral-Ventricle": (4, 43),
    "Inf-Lat-Vent": (5, 44), "Cerebellum-White-Matter": (7, 46), "Cerebellum-Cortex": (8, 47),
    "Thalamus": (10, 49), "Caudate": (11, 50), "Putamen": (12, 51), "Pallidum": (13, 52),
    "Hippocampus": (17, 53), "Amygdala": (18, 54), "Accumbens-area": (26, 58), "VentralDC": (28, 60),
    "vessel": (30, 62), "choroid-plexus": (31, 63),
}  # fmt: skip
FREESURFER = {
    **{f"Left-{name}": left for name, (left, _) in _SIDED.items()},
    **{f"Right-{name}": right for name, (_, right) in _SIDED.items()},
    **{"3rd-Ventricle": 14, "4th-Ventricle": 15, "Brain-Stem": 16, "CSF": 24, "5th-Ventricle": 72},
}


def find_segmentation(root: Path, raw: str, kind: str, *, res: str | None = None) -> Path:
    """Return the segmentation of a `kind` (aseg, aparcaseg) on the grid of the raw series at `raw`.

    Raises
    ------
    DataFault
        fMRIPrep's outputs of the scan are faulty, or it left no segmentation in the template's space, in the
        resolution of the series.
    """
    run = find_run(root, raw, res=res)
    scan = bids.parse_name(raw)
    wanted = {"space": SPACE, "res": bids.parse_name(str(run.bold)).entities.get("res")}
    mine = [file for file in files_of(root / PurePosixPath(raw).parent) if is_of_scan(file, scan)]
    found = only(mine, scan, "dseg", desc=kind, **wanted)
    if found is None:
        others = sorted(
            f"{file.entities.get('space', 'its own space')}"
            + (f" res-{file.entities['res']}" if "res" in file.entities else "")
            for file in mine
            if file.suffix == "dseg" and file.entities.get("desc") == kind
        )
        where = SPACE + (f" res-{wanted['res']}" if wanted["res"] else "")
        what = f"fMRIPrep left no segmentation desc-{kind} in {where}"
        what += f"; it has one in {', '.join(dict.fromkeys(others))}" if others else ""
        raise DataFault(ABSENT, what, fix=FIX, file=raw)
    path = Path(found.path)
    if not path.is_file() or path.stat().st_size == 0:
        raise DataFault(
            ABSENT, "the segmentation is empty or a link that leads nowhere", fix=FIX, file=path.name
        )
    return path


def label_table(root: Path, kind: str) -> Path | None:
    """Return the table of labels that fMRIPrep wrote at the root of its outputs; None without one."""
    path = root / f"desc-{kind}_dseg.tsv"
    return path if path.is_file() else None


def numbers_of_labels(root: Path, kind: str) -> dict[str, int]:
    """Return label -> number, of fMRIPrep's table, else FreeSurfer's own.

    Raises
    ------
    ValueError
        The table cannot be read, or has a label twice.
    """
    path = label_table(root, kind)
    if path is None:
        return FREESURFER
    table = read_table(path, required=["index", "name"], numeric=["index"])
    if (twice := table["name"].duplicated()).any():
        raise ValueError(f"{path.name}: the label {table['name'][twice].iloc[0]!r} is on two lines")
    return {str(name): int(index) for index, name in zip(table["index"], table["name"], strict=True)}


def chosen_numbers(
    rois: Rois, numbers: Mapping[str, int], table: str = "FreeSurfer's labels"
) -> dict[str, list[int]]:
    """Return region -> numbers of its labels; a label without a side stands for left and right.

    Raises
    ------
    ValueError
        A label does not exist; the line names the region, the label and the nearest one.
    """
    found: dict[str, list[int]] = {}
    for name in rois.own:
        mine: list[int] = []
        for label in rois.regions[name].segmentation:
            mine += _of_label(label, numbers, name, table)
        found[name] = sorted(set(mine))
    return found


def _of_label(label: str | int, numbers: Mapping[str, int], region: str, table: str) -> list[int]:
    if isinstance(label, int):
        if label in numbers.values():
            return [label]
        raise ValueError(
            f"rois.regions.{region} names the label {label}, which {table} lack. Fix: correct it"
        )
    both = [label] if label in numbers else [f"{side}-{label}" for side in ("Left", "Right")]
    if set(both) <= set(numbers):
        return [numbers[name] for name in both]
    near: Sequence[str] = difflib.get_close_matches(label, list(numbers), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "name a label of that table"
    raise ValueError(f"rois.regions.{region} names the label {label!r}, which {table} lack. Fix: {hint}")


def files_of_segmentation(folder: Path, settings: Fmriprep, kind: str, raw: str) -> list[Path]:
    """Return the segmentation of a scan and the table of its labels; none where it is absent."""
    root = place_of(folder, settings.derivatives)
    try:
        found = find_segmentation(root, raw, kind, res=settings.res)
    except DataFault:
        return []  # recorded by the step that extracts signals
    return [path for path in (found, label_table(root, kind)) if path]


def check_segmentations(root: Path, study: Study, table: pd.DataFrame) -> list[Problem]:
    """Labels that the segmentations lack, and scans without one; STOP where every scan is."""
    settings, rois = study.preprocessing.fmriprep, study.rois
    if settings is None or not rois.own:
        return []
    path = label_table(root, rois.segmentation)
    if settings.container and path is None:
        return []  # the table of labels is made with the segmentations
    try:
        numbers = numbers_of_labels(root, rois.segmentation)
        chosen_numbers(rois, numbers, path.name if path else "FreeSurfer's labels")
    except (ValueError, OSError) as error:
        what, fix = explained(error, path or root, CONFIG, "correct the label")
        return [Problem("STOP", NO_LABEL, what, fix, CONFIG)]
    if settings.container:
        return []
    problems = []
    for row in table.to_dict("records"):
        try:
            find_run(root, row["bold"], res=settings.res)
        except DataFault:
            continue  # told of the scan as a whole
        try:
            find_segmentation(root, row["bold"], rois.segmentation, res=settings.res)
        except DataFault as fault:
            unit = {key: row[key] for key in UNIT}
            what = f"{fault.reason}; the regions {rois.own} are missing in this scan"
            problems.append(Problem("EXCL", fault.code, what, fault.fix, fault.file, **unit))
    if problems and len(problems) == len(table):
        what = f"no scan has a segmentation desc-{rois.segmentation} in {SPACE}, which rois.regions need"
        return [Problem("STOP", ABSENT, what, FIX, settings.derivatives)]
    return problems
