"""Differences between the arms in every voxel: maps, clusters, small volumes, and maps that were left out."""

from __future__ import annotations

from reconfmri.contracts.questions.arms import EXCLUSIONS
from reconfmri.contracts.questions.columns import ESTIMAND, REPORTED, SESSION, STATUS_OR_REASON
from reconfmri.contracts.registry import GroupQuestion, Section, register
from reconfmri.contracts.specs import TableSpec, integer, number, text, yes_no

CONTRAST = text("contrast", "First-level contrast whose maps are compared")
CORRECTED = "corrected over voxels, sessions and contrasts of the estimand"
PEAK = (
    number("x", "Place of the peak, left to right, MNI152NLin2009cAsym", "mm"),
    number("y", "Place of the peak, back to front", "mm"),
    number("z", "Place of the peak, below to above", "mm"),
    number("peak_z", "z of the peak: positive where the active arm is higher"),
    number("estimate", "Difference at the peak, active minus control", "percent signal change"),
    number("sd", "Its standard error", "percent signal change"),
    text("label", "Region of the Harvard-Oxford atlas that is most probable at the peak; missing below 5 %"),
)
VOXELS = TableSpec(
    (
        CONTRAST,
        ESTIMAND,
        SESSION,
        text(
            "method",
            "mmrm: repeated-measures model of all visits with one covariance over visits, CR2; marginal: "
            "working independence, without baseline, CR2",
        ),
        integer("n_active", "Maps of the active arm at the session"),
        integer("n_control", "Maps of the control arm at the session"),
        integer("n_voxels", "Voxels compared"),
        integer("n_patterns", "Groups of voxels that the same maps cover"),
        number("df", "Degrees of freedom of most voxels (Satterthwaite)"),
        number("highest_z", "Highest z"),
        number("lowest_z", "Lowest z"),
        number("alike", "Correlation over voxels of z with that of the marginal model at the session"),
        number("p_tfce", f"Lowest p of a voxel by threshold-free cluster enhancement, {CORRECTED}"),
        integer("n_significant", "Voxels with such a p up to 1 - level"),
        number("p_cluster_mass", f"Lowest p of a cluster by its mass, {CORRECTED}"),
        integer("n_draws", "Allocations compared, that of the trial among them"),
        yes_no("exact", "Whether these are all that the strata allow"),
        STATUS_OR_REASON,
        *REPORTED,
    )
)
CLUSTERS = TableSpec(
    (
        CONTRAST,
        ESTIMAND,
        SESSION,
        text(
            "inference",
            "tfce: voxels whose p is up to 1 - level; cluster_mass: voxels beyond the cluster-forming "
            "threshold, the twenty largest of a map",
        ),
        text("direction", "higher or lower: the active arm against the control arm"),
        integer("n_voxels", "Voxels of the cluster, joined by faces"),
        number("volume", "Their volume", "mm3"),
        number("mass", "Sum of |z| over the cluster"),
        number("p", f"p of the cluster (tfce: the lowest of its voxels), {CORRECTED}"),
        *PEAK,
        text("labels", "Regions that hold at least 5 % of the cluster, by the atlas's mean probability"),
    )
)
SMALL_VOLUMES = TableSpec(
    (
        CONTRAST,
        ESTIMAND,
        SESSION,
        text("region", "Region of the study in which the search was made alone"),
        integer("n_voxels", "Voxels of the region that are compared"),
        number("p", "Lowest p by TFCE inside the region, corrected over its voxels, sessions and contrasts"),
        *PEAK,
        STATUS_OR_REASON,
        *REPORTED,
    )
)

register(
    GroupQuestion(
        "voxels",
        rule="compare_maps",
        function="reconfmri.voxels.compare:compare",
        tables={
            "voxels": VOXELS.called("Differences in every voxel, map by map"),
            "voxel_clusters": CLUSTERS.called("Clusters of differences"),
            "voxel_regions": SMALL_VOLUMES.called("Differences inside declared regions, voxel by voxel"),
            "voxel_exclusions": EXCLUSIONS.called("Maps that were left out"),
        },
        section=Section("voxels"),
        of_images=True,
    )
)
