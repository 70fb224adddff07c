"""Every image that a comparison of voxels makes, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reconfmri.config import Group, contrast_label
from reconfmri.tables import MISSING

FOLDER = "group/voxels"
MARGINAL = "marginal"
TESTED = {"p": ("Tfce", "p"), "thresholded": ("Thresholded", "z")}  # what draws add: word of desc, stat


@dataclass(frozen=True)
class VoxelImage:
    """One image of a contrast: of an estimand (or `marginal`) at a session, or of the contrast alone.

    `kind`: effect, variance, z, p, thresholded; coverage and mask of the contrast.
    """

    contrast: str
    kind: str
    estimand: str = ""
    session: str = ""

    @property
    def name(self) -> str:
        """Its file name, `contrast-Fear_ses-2_desc-DifferenceAdjusted_stat-z_statmap.nii.gz`."""
        start = f"contrast-{contrast_label(self.contrast)}"
        if not self.estimand:
            return f"{start}_desc-compared_mask.nii.gz" if self.kind == "mask" else f"{start}_coverage.nii.gz"
        word, stat = TESTED.get(self.kind, ("", self.kind))
        visit = "" if self.session == MISSING else f"_ses-{self.session}"
        return f"{start}{visit}_desc-{contrast_label(self.estimand)}{word}_stat-{stat}_statmap.nii.gz"

    @property
    def path(self) -> str:
        """Where it lies in the results."""
        return f"{FOLDER}/{self.name}"


def voxel_files(group: Group | None, sessions: Sequence[str]) -> Iterator[str]:
    """Yield the place in the results of every image and of the JSON beside it."""
    for image in voxel_images(group, sessions):
        yield image.path
        yield image.path.removesuffix(".nii.gz") + ".json"


def voxel_images(group: Group | None, sessions: Sequence[str]) -> Iterator[VoxelImage]:
    """Yield every image of a study's comparison of voxels, whose visits are `sessions`; none without one."""
    settings = group.voxels if group else None
    if settings is None:
        return
    later = list(sessions[1:] or sessions) or [MISSING]
    kinds = ["effect", "variance", "z", *(TESTED if settings.permutations else ())]
    for contrast in settings.contrasts:
        yield VoxelImage(contrast, "coverage")
        yield VoxelImage(contrast, "mask")
        for estimand in settings.estimands:
            for session in ["average"] if estimand == "difference_average" else later:
                yield from (VoxelImage(contrast, kind, estimand, session) for kind in kinds)
        for session in later:
            yield from (VoxelImage(contrast, kind, MARGINAL, session) for kind in ("effect", "variance", "z"))
