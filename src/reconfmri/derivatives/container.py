"""What a container job of fMRIPrep is given, and what it would miss."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from reconfmri.config import Container, Fmriprep, Study
from reconfmri.derivatives.find import files_of_run, has_content
from reconfmri.problems import Problem
from reconfmri.templates import SPACE

CONFIG = "config/config.yaml"


def grid_image(folder: Path, study: Study, series: Iterable[str]) -> Path | None:
    """Return an image on the grid of all series: TemplateFlow's for a container, else a mask of the first.

    None where no raw series has usable outputs.
    """
    settings = study.preprocessing.fmriprep or Fmriprep()
    if settings.container:
        return template_grid(study)
    found = (files_of_run(folder, settings, raw) for raw in series)
    return next((files[1] for files in found if files), None)


def check_container(folder: Path, study: Study, container: Container) -> list[Problem]:
    """Return a STOP for everything that a container job would miss."""
    problems = []

    def stop(what: str, fix: str, file: str) -> None:
        problems.append(Problem("STOP", "E-CONF-C08", what, fix, file))

    places = {name: folder / Path(path).expanduser() for name, path in container_places(study).items()}
    if shutil.which(container.runtime) is None:
        what = f"{container.runtime} is not on the PATH of this machine"
        stop(what, "load or install it, or correct preprocessing.fmriprep.container.runtime", CONFIG)
    local = container.runtime == "apptainer" and "://" not in container.image
    if local and not (folder / container.image).exists():
        fix = "`apptainer build fmriprep.sif docker://nipreps/fmriprep:<version>`, then name that file"
        stop("there is no such image", fix, container.image)
    if not has_content(places["fs_license"]):
        fix = "get one at https://surfer.nmr.mgh.harvard.edu/registration.html"
        stop("FreeSurfer's licence is missing or empty", fix, str(places["fs_license"]))
    grid = folder / template_grid(study)
    if not has_content(grid):
        fix = f"fetch it: `from templateflow import api; api.get({SPACE!r})`, with TEMPLATEFLOW_HOME set"
        stop("TemplateFlow does not hold the template", fix, str(grid))
    for path in places.values():
        if set(":,") & set(str(path.absolute())):
            stop("a container cannot be given a path with ':' or ','", "rename or move it", str(path))
    if places["bids"].resolve() in places["derivatives"].resolve().parents:
        fix = "correct preprocessing.fmriprep.derivatives"
        stop("fMRIPrep would write into the BIDS folder", fix, str(places["derivatives"]))
    return problems


def container_places(study: Study) -> dict[str, str]:
    """Return what a container job is given, as the study file writes it: relative to the study folder."""
    settings = study.preprocessing.fmriprep or Fmriprep()
    places = {"bids": study.bids, "derivatives": settings.derivatives}
    if settings.container:
        names = ("work", "fs_license", "templateflow")
        places |= {name: getattr(settings.container, name) for name in names}
    return places


def template_grid(study: Study) -> Path:
    """Return the template's image on whose grid a container is asked to write, from the study folder."""
    settings, name = study.preprocessing.fmriprep or Fmriprep(), f"tpl-{SPACE}"
    file = f"{name}_res-{int(settings.asked_res):02d}_desc-brain_mask.nii.gz"
    return Path(container_places(study).get("templateflow", "")).expanduser() / name / file
