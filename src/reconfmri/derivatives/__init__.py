"""fMRIPrep's outputs: which files belong to a scan, in every generation of their names, and who made them.

Names: https://fmriprep.org/en/stable/outputs.html; from 1.2 (2018) on they are those of BIDS Derivatives.
"""

from reconfmri.derivatives.check import check_fmriprep, empty_columns
from reconfmri.derivatives.container import check_container, container_places, grid_image, template_grid
from reconfmri.derivatives.find import (
    FmriprepAnatomy,
    FmriprepRun,
    files_of_anatomy,
    files_of_run,
    find_anatomy,
    find_run,
    has_anatomy_per_session,
    place_of,
)
from reconfmri.derivatives.segmentation import (
    check_segmentations,
    chosen_numbers,
    files_of_segmentation,
    find_segmentation,
    numbers_of_labels,
)
from reconfmri.derivatives.versions import versions_of

__all__ = [
    "FmriprepAnatomy",
    "FmriprepRun",
    "check_container",
    "check_fmriprep",
    "check_segmentations",
    "chosen_numbers",
    "container_places",
    "empty_columns",
    "files_of_anatomy",
    "files_of_run",
    "files_of_segmentation",
    "find_anatomy",
    "find_run",
    "find_segmentation",
    "grid_image",
    "has_anatomy_per_session",
    "numbers_of_labels",
    "place_of",
    "template_grid",
    "versions_of",
]
