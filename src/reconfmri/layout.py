"""The layout of a study's result files: what its run table and its engine of preprocessing say."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from reconfmri.config import Study
from reconfmri.contracts.files import Layout
from reconfmri.derivatives import has_anatomy_per_session
from reconfmri.tables import MISSING


def layout_of(folder: Path, study: Study, scans: pd.DataFrame) -> Layout:
    """Return where the results of the study in `folder` lie; `scans` are all rows of its run table."""
    has_sessions, has_runs = (bool((scans[key] != MISSING).any()) for key in ("session_id", "run"))
    settings = study.preprocessing
    if settings.engine == "fmriprep" and settings.fmriprep:
        sessionwise = has_sessions and has_anatomy_per_session(folder, settings.fmriprep)
    else:
        sessionwise = has_sessions and settings.anatomy == "sessionwise"
    return Layout(has_sessions, has_runs, sessionwise)
