"""What a rater may say of a scan: the contract between the rating page, its exported file and `decide`."""

from __future__ import annotations

FORMAT = "reconfmri ratings 1"
KEEP, UNSURE, EXCLUDE = "keep", "unsure", "exclude"
RATINGS = {KEEP: "Keep", UNSURE: "Unsure", EXCLUDE: "Exclude"}  # keys 1, 2, 3 of the page, in this order
# As in the rating widget of NiReports (Provins et al.; nireports/assembler/data/rating-widget), by its names.
ARTEFACTS = {
    "head-motion": "Head motion artifacts",
    "eye-spillover": "Eye spillover through phase-encoding axis",
    "noneye-spillover": "Non-eye spillover through phase-encoding axis",
    "coil-failure": "Coil failure",
    "noise-global": "Global noise",
    "noise-local": "Local noise",
    "em-perturbation": "Electromagnetic interference/perturbation",
    "wrap-around": "Problematic field of view / wrap-around",
    "ghost-aliasing": "Aliasing ghosts",
    "ghost-other": "Other ghosts",
    "inu": "Intensity non-uniformity (B1 bias)",
    "field-variation": "Temporal field non-uniformity variation",
    "processing": "Postprocessing: denoising, defacing, resampling happened",
    "uncategorized": "Uncategorized artifact(s)",
}
