"""`quality`: thresholds of the automatic exclusions, and the numbers that they judge."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from reconfmri.config.section import Section, Share


class Quality(Section):
    """Thresholds of the automatic exclusions, decided without the arms."""

    max_mean_fd: float = Field(
        0.5, gt=0, description="Mean framewise displacement above which a run is out, mm"
    )
    fd_threshold: float = Field(0.5, gt=0, description="Framewise displacement of a motion outlier, mm")
    max_outlier_share: Share = Field(0.3, description="Share of motion outliers above which a run is out")
    min_tsnr: float = Field(
        10.0, ge=0, description="Median temporal SNR in the brain below which a run is out"
    )
    max_damaged_share: Share = Field(
        0.05,
        description="Share of damaged volumes (values that are not finite, copies of other volumes, dead "
        "slices, no head) above which a run is out; up to it each such volume has a nuisance column of its "
        "own (embedded engine)",
    )
    min_volumes: int = Field(40, ge=10, description="Fewer volumes than this: the run is out")
    min_usable_time: float = Field(
        60.0, ge=0, description="Steady volumes below fd_threshold must last as long as this, s"
    )
    max_flat_share: Share = Field(
        0.05, lt=1, description="Share of brain voxels that do not vary in time above which a run is out"
    )
    max_registration_cost: float | None = Field(
        None,
        gt=0,
        le=2,
        description="Boundary cost of EPI to T1w above which a run is out; none = reported only (the engine "
        "itself refuses above 0.85)",
    )
    max_ghost: float | None = Field(
        None, gt=0, description="Ghost to signal above which a run is out; none = reported only"
    )
    max_start_excess: float | None = Field(
        None,
        gt=0,
        description="Share by which the first volume may exceed the steady state; none = reported only",
    )
    max_brain_loss: Share | None = Field(
        0.2,
        description="Share by which a run's brain mask may be smaller than in the person's other sessions; "
        "none = reported only",
    )


# Outcomes of every run's quality, with their units; `quality_units` adds those of the regions.
QUALITY_UNITS = {
    "fd.mean": "mm",
    "fd.outlier_share": "share",
    "volumes.count": "volumes",
    "volumes.usable_time": "s",
    "volumes.damaged_share": "share",
    "dvars.mean": "standardised DVARS",
    "tsnr.median": "tSNR",
    "flat.share": "share",
    "start.excess": "share",
    "start.volumes": "volumes",
    "registration.cost": "boundary cost",
    "registration.mirrored_cost": "boundary cost",
    "brain.volume": "ml",
    "coverage.lowest": "share",
    "ghost.phase": "ghost to signal",
    "ghost.i": "ghost to signal",
    "ghost.j": "ghost to signal",
}


# The first part of their names, which no region or scale may have.
QUALITY_HEADS = tuple(dict.fromkeys([*(name.partition(".")[0] for name in QUALITY_UNITS), "coverage"]))


def quality_units(regions: Iterable[str]) -> dict[str, str]:
    """Every outcome of a run's quality, with its unit: those of the whole run, then coverage and tSNR."""
    units = dict(QUALITY_UNITS)
    for name in regions:
        units |= {f"coverage.{name}": "share", f"tsnr.{name}": "tSNR"}
    return units
