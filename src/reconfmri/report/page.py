"""The page: which sections a study has, what each shows, and the template that lays them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd

from reconfmri.report import answer, arms, brain, scans
from reconfmri.report.blocks import Block
from reconfmri.report.inputs import Processed, ReportInputs
from reconfmri.report.methods import Facts, citations, methods_text
from reconfmri.report.rendering import render


def compose(inputs: ReportInputs) -> str:
    """Return the whole report as one HTML text that loads nothing from elsewhere and runs no script.

    Every value is escaped by the template; figures are embedded; the page's policy allows its own style only.
    """
    context = {
        **answer.front(inputs),
        **scans.people(inputs),
        **scans.scan_quality(inputs),
        **scans.parity(inputs),
        **brain.regions(inputs),
        **brain.response(inputs),
        **arms.arms(inputs),
        **_small_print(inputs),
    }
    context["sections"] = list(_sections(inputs, context))
    return render("page.html.j2", **context)


def _sections(inputs: ReportInputs, shown: Block) -> Iterator[Block]:
    """The sections that have something to show, in the order of the page."""
    group = inputs.study.group is not None and inputs.estimates is not None
    candidates = [
        ("design", "Question and design" if inputs.study.question else "Design", True),
        ("scans", "Scans and exclusions", True),
        (
            "quality",
            "Quality of the scans",
            bool(shown["quality_dots"] or shown["scan_pictures"] or shown["processing"]),
        ),
        ("parity", "Are a person's sessions alike?", bool(shown["parity_items"] or shown["parity_alike"])),
        ("regions", "Regions", True),
        ("response", "Model of one run", shown["design"] is not None),
        ("first-level", "First-level results", not group and len(inputs.measures) > 0),
        ("course", "Outcomes over sessions", shown["trajectories"] is not None),
        ("differences", "Differences between arms", bool(shown["forests"])),
        (
            "predictions",
            "What the model allows and what it replicates",
            bool(shown["prior_reach"] or shown["replicates"]),
        ),
        ("firmness", "How firm the primary answer is", bool(shown["firmness"])),
        ("joint", "Outcomes together", bool(shown["joint"])),
        ("moderation", "Who the difference depends on", bool(shown["moderation"])),
        ("missing", "Missing visits", bool(shown["seen_rows"])),
        ("controls", "Negative controls", bool(shown["controls"])),
        (
            "reliability",
            "Reliability within arms",
            bool(shown["reliability_rows"] or shown["reliability_note"]),
        ),
        ("coupling", "Coupling between regions", bool(shown["edges"])),
        ("estimates", "All estimates", bool(shown["estimate_groups"])),
        ("truth", "Truth beside estimate", bool(shown["truth_rows"])),
        ("methods", "Methods", True),
        ("provenance", "Provenance", True),
        ("cite", "What to cite", True),
    ]
    for name, title, present in candidates:
        if present:
            yield {"id": name, "title": title, "intro": INTRODUCTIONS.get(name, "")}


INTRODUCTIONS = {
    "quality": "Exclusions were decided by the thresholds below, before and without the arms.",
    "parity": "Each scan beside the person's other scans of that task: protocol, fieldmap, anatomical "
    "reference, transforms, confounds. Compared without the arms; they are only counted here.",
    "differences": "One row per outcome, one column per question asked of it. The adjusted difference and "
    "the "
    "difference of change can disagree: read them side by side.",
    "predictions": "Priors are judged by the trials they allow, the fitted model by the trials it makes.",
    "firmness": "None of these was chosen by its result; the declared analysis is in bold.",
    "joint": "Pairs of outcomes in one model, with all correlations over outcomes and visits. Each outcome "
    "alone stays the answer; this is for what no outcome alone can tell. s: the typical spread between "
    "people that the study declares for the unit. Probabilities are not adjusted for multiplicity.",
    "moderation": "Change of the arm difference, adjusted for baseline, per step of a declared moderator, by "
    "analysis of covariance that allows unequal variances. Not corrected for their number.",
    "missing": "The models take what was missed to depend on what was seen. How far could that be wrong?",
    "controls": "Differences before treatment, in control outcomes, and in the quality of the scans.",
    "reliability": "How well one visit stands for a person. ICC(2,1): agreement, a mean change over visits "
    "counts as error; ICC(3,1): consistency. People who respond to treatment unlike one another lower both, "
    "so that the control arm is nearer to the measure itself. Smallest detectable change: of one person.",
    "coupling": "Negative values: less coupling in the active arm.",
    "truth": "This trial was simulated with known effects, so each estimate can be judged.",
    "estimates": "Each cell: estimate and interval, below it the spread and the probability or p value.",
    "methods": "Written from the settings of this study; every number is the one the code used.",
}


def _small_print(inputs: ReportInputs) -> Block:
    from reconfmri import __version__

    facts = facts_of(inputs.runs, inputs.processed)
    return {
        "methods": methods_text(inputs.study, facts),
        "seed": inputs.study.seed,
        "provenance": list(inputs.provenance.items()),
        "versions": list(inputs.versions.items()),
        "config_text": inputs.config_text,
        "citations": citations(inputs.study, facts),
        "version": __version__,
    }


def facts_of(runs: pd.DataFrame, processed: Sequence[Processed] = ()) -> Facts:
    """Return the counts that the methods text names, from the run table and what was done to each scan."""
    volumes = runs["n_volumes"].dropna()
    return Facts(
        participants=int(runs["participant_id"].nunique()),
        scans=len(runs),
        trs=tuple(sorted({round(float(tr), 6) for tr in runs["tr"].dropna()})),
        volumes=(int(volumes.min()), int(volumes.max())) if len(volumes) else None,
        fmriprep=tuple(sorted({scan.fmriprep for scan in processed} - {""})),
        slice_timing=tuple(scan.slice_timing for scan in processed),
        distortion=Counter(scan.distortion for scan in processed),
    )
