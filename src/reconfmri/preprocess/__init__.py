"""What every preprocessing engine makes: the files of one person's anatomy and of one preprocessed run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class AnatomyFiles:
    """One person's anatomy: T1w, brain mask, tissue (1 grey, 2 white, 3 fluid), and where the template lies.

    `to_t1w` (`reconfmri.itk`) says where each voxel of a template grid lies in the T1w image. `facts`
    (JSON) holds sizes and costs, and which images the T1w was made from.
    """

    t1w: Path
    mask: Path
    dseg: Path
    to_t1w: Path
    facts: Path


@dataclass(frozen=True)
class AlignmentFiles:
    """One run's reference volume, its brain mask, the transforms that are estimated (JSON), and distortion.

    `displacement` is how far (mm) along one voxel axis each point of the reference appears in the raw run;
    zero where nothing was corrected.
    """

    boldref: Path
    mask: Path
    alignment: Path
    displacement: Path


@dataclass(frozen=True)
class PreprocessedFiles:
    """One run on the template grid, its confounds, and the JSON that says how it was made."""

    bold: Path
    mask: Path
    dseg: Path
    confounds: Path
    metadata: Path


@dataclass(frozen=True)
class PreprocessedRun:
    """What either engine hands on: bold (4-D), mask and tissue on the template grid, confounds, metadata."""

    bold: Path
    mask: Path
    confounds: Path
    dseg: Path
    metadata: dict[str, Any] = field(default_factory=dict)
