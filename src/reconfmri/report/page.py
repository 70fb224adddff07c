"""The page: which sections a study has, what each shows, and the template that lays them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from reconfmri.config import Trial, outcome_label
from reconfmri.report import answer, arms, brain, checklists, flow, interim, scans
from reconfmri.report.blocks import Block, svg_of
from reconfmri.report.citations import bibtex, citations, cited_for, cited_of
from reconfmri.report.conduct import conduct
from reconfmri.report.group_methods import data_of_a_table, group_methods
from reconfmri.report.inputs import Compared, Processed, ReportInputs
from reconfmri.report.methods import Facts, methods_text
from reconfmri.report.rendering import render
from reconfmri.report.report_codes import Codes, coded
from reconfmri.report.traces import traces
from reconfmri.report.voxels import voxels


def compose(inputs: ReportInputs) -> str:
    """Return the whole report as one HTML text that loads nothing from elsewhere.

    Every value is escaped by the template; figures are embedded; the page's policy allows its own style
    and its own script only, by their hashes; the page is whole without the script.
    Participants have codes (`report_codes`): their ids are in no text and no figure.
    """
    codes = Codes.of(inputs)
    inputs = coded(inputs, codes)
    facts = facts_of(inputs.runs, inputs.processed)
    return _laid_out(
        answer.front(inputs),
        scans.people(inputs),
        scans.scan_quality(inputs),
        scans.parity(inputs),
        brain.regions(inputs),
        brain.response(inputs),
        brain.connectivity(inputs),
        arms.arms(inputs.study.trial, inputs),
        voxels(inputs),
        conduct(inputs.study.group, inputs.stamp, said=codes.text, people=_randomised(inputs)),
        {
            "methods": methods_text(inputs.study, facts),
            "seed": inputs.study.seed,
            "provenance": list(inputs.provenance.items()),
            "versions": list(inputs.versions.items()),
            "settings": ("The study file", inputs.config_text),
            "citations": citations(inputs.study, facts),
            "bibtex": bibtex(citations(inputs.study, facts)),
            "checklist_facts": checklists.facts(inputs),
            **traces(inputs),
            "sources": "measures.tsv, exclusions.tsv" + (", estimates.tsv" if inputs.study.group else ""),
        },
    ).html


def compose_interim(inputs: ReportInputs, outcomes: Sequence[str], events: pd.DataFrame | None) -> str:
    """Return an interim report: what was observed so far, by the arms of `inputs.allocation` or pooled.

    Pooled over the arms where the study of `inputs` has no group. `events` are the adverse events, with ids.
    """
    codes = Codes.of(inputs)
    inputs, events = coded(inputs, codes), codes.table(events)
    return _laid_out(
        answer.front(inputs) | {"title": f"{inputs.study.name}: interim report", "answer": None},
        scans.people(inputs),
        scans.scan_quality(inputs),
        scans.parity(inputs),
        interim.observed(inputs, outcomes, events),
        conduct(inputs.study.group, inputs.stamp, said=codes.text, people=_randomised(inputs)),
        {
            "blinded": interim.blinded(inputs.study.group),
            "seed": inputs.study.seed,
            "provenance": list(inputs.provenance.items()),
            "versions": list(inputs.versions.items()),
            "settings": ("The study file", inputs.config_text),
            "sources": "measures.tsv, exclusions.tsv",
        },
    ).html


def _randomised(inputs: ReportInputs) -> dict[str, int]:
    return {arm: len(people) for arm, people in flow.arms_of(inputs).items()} if inputs.study.group else {}


class Page(NamedTuple):
    """A page, and its figures as SVG by name."""

    html: str
    figures: dict[str, str]


def compose_tables(
    trial: Trial,
    compared: Compared,
    *,
    settings: tuple[str, str],
    provenance: Mapping[str, str],
    versions: Mapping[str, str],
) -> Page:
    """Return the page of answers to a bare table of measures: the report without scans.

    `settings` are the title and the text of what the models were given.

    Raises
    ------
    ValueError
        There is no allocation or no estimates.
    """
    codes = Codes.of(compared)
    compared = coded(compared, codes)
    if compared.allocation is None or compared.tables.get("estimates") is None:
        raise ValueError("a page of estimates needs the allocation and the estimates")
    group = trial.group
    people = flow.allocated(group.arms, compared.allocation)
    scales = {name.removesuffix(".total") for name in group.modelled}
    facts = answer.question_facts(trial, {arm: len(ids) for arm, ids in people.items()})
    if rest := [name for name in dict.fromkeys(compared.measures["outcome"]) if name not in group.modelled]:
        facts.append(("In the table, not asked about", "; ".join(outcome_label(name) for name in rest)))
    in_arms = {person for ids in people.values() for person in ids}
    if others := set(compared.measures["participant_id"]) - in_arms:
        facts.append(("Measured, but in no comparison of arms", f"{len(others)} (group/exclusions.tsv)"))
    return _laid_out(
        {
            "title": trial.name,
            "question": trial.question,
            "truth": compared.truth is not None,
            "has_group": True,
            "arm_names": answer.arm_names(group),
            "answer": answer.primary_answer(trial, compared),
            "timeline": None,
            "design_facts": facts,
            "attributes": answer.attributes(group),
        },
        arms.arms(trial, compared),
        conduct(group),
        {
            "methods": [
                data_of_a_table(trial, compared.measures, compared.allocation),
                *group_methods(trial),
            ],
            "seed": trial.seed,
            "provenance": list(provenance.items()),
            "versions": list(versions.items()),
            "settings": (settings[0], codes.text(settings[1])),
            "citations": (cited := cited_for({*cited_of(trial.group), *scales})),
            "bibtex": bibtex(cited),
            "sources": "estimates.tsv, group/",
        },
    )


def _laid_out(*parts: Block) -> Page:
    from reconfmri import __version__

    shown = {name: value for part in parts for name, value in part.items()} | {"version": __version__}
    shown = {"outcome_traces": [], "table_traces": [], "bibtex": ""} | shown
    shown |= {"arm_names": shown.get("arm_names") or {"active": "", "control": ""}}
    shown["sections"] = list(_sections(shown))
    known = {section["id"] for section in shown["sections"]}
    shown["checklists"] = (
        checklists.filled(shown.get("checklist_facts", {}), known) if "checklists" in known else []
    )
    return Page(render("page.html.j2", script="report.js", **shown), dict(_figures(shown)))


def _figures(shown: Block) -> Iterator[tuple[str, str]]:
    """The figures that compare the arms; differences in the order of the page, the primary visit first."""
    for name in (
        "trajectories",
        "prior_reach",
        "replicates",
        "sensitivity",
        "tipping",
        "controls",
        "reliability",
    ):
        if shown.get(name):
            yield name, svg_of(shown[name])
    for place, item in enumerate(shown.get("responder_pictures", [])):
        yield f"responder_picture{f'_{place + 1}' if place else ''}", svg_of(item)
    for place, item in enumerate(shown.get("forests", []), start=1):
        yield f"differences_{place}", svg_of(item)


def _sections(shown: Block) -> Iterator[Block]:
    """The sections that have something to show, in the order of the page."""
    for name, title, pieces in SECTIONS:
        if any(shown.get(piece) for piece in pieces):
            if name == "design" and shown["question"]:
                title = "Question and design"
            intro = INTRODUCTIONS.get(name, "").format(**shown["arm_names"])
            yield {"id": name, "title": title, "intro": intro, "tables": []}
        if name == LAST_QUESTION:
            yield from shown.get("plain", [])


LAST_QUESTION = "reliability"  # sections that are plain tables follow it
# id, title, and the pieces of which a page shows at least one where it has the section
SECTIONS = [
    ("design", "Design", ("design_facts",)),
    ("scans", "Scans and exclusions", ("has_scans",)),
    ("quality", "Quality of the scans", ("quality_dots", "scan_pictures", "processing")),
    ("parity", "Parity of a person's sessions", ("parity_items", "parity_alike")),
    ("regions", "Regions", ("region_rows",)),
    ("response", "Model of one run", ("design", "habituation")),
    ("first-level", "First-level results", ("measure_rows",)),
    ("observed", "Outcomes as observed", ("observed_rows",)),
    ("events", "Adverse events", ("event_rows",)),
    ("people", "People measured", ("people_rows",)),
    ("course", "Outcomes over sessions", ("trajectories",)),
    ("differences", "Differences between arms", ("forests",)),
    ("voxels", "Differences in every voxel", ("voxel_maps",)),
    ("predictions", "Prior and posterior predictive checks", ("prior_reach", "replicates")),
    ("sensitivity", "Sensitivity analyses", ("sensitivity", "sensitivity_note")),
    ("joint", "Outcomes together", ("joint",)),
    ("pooled", "Effects pooled over outcomes (secondary)", ("pooled",)),
    ("moderation", "Moderators of the difference", ("moderation",)),
    ("associations", "Brain and symptoms", ("associations",)),
    ("prediction", "Prediction", ("prediction",)),
    ("responders", "Responders", ("responders",)),
    ("missing", "Missing visits", ("unseen_rows", "tipping", "tipping_words")),
    ("calibration", "Calibration in trials like this one", ("calibration",)),
    ("controls", "Negative controls", ("controls",)),
    ("reliability", "Reliability within arms", ("reliability_rows", "reliability_note")),
    ("connectivity", "Connectivity between regions", ("edges",)),
    ("estimates", "All estimates", ("estimate_groups",)),
    ("truth", "Truth beside estimate", ("truth_rows",)),
    ("conduct", "Trial conduct", ("log",)),
    ("methods", "Methods", ("methods",)),
    ("checklists", "Reporting checklists", ("checklist_facts",)),
    ("provenance", "Provenance", ("versions", "provenance")),
    ("cite", "What to cite", ("citations",)),
]
INTRODUCTIONS = {
    "quality": "Exclusions were decided by the thresholds below, before and without the arms.",
    "parity": "Each scan beside the person's other scans of that task: protocol, fieldmap, anatomical "
    "reference, transforms, confounds. Compared without the arms; they are only counted here.",
    "observed": "People with a value of those expected, mean and standard deviation between people, by "
    "visit. Means of fewer than three people are left out.",
    "events": "People with at least one such event, and the number of events in brackets.",
    "differences": "One row per outcome, one column per estimand. The adjusted difference and "
    "the difference of change can disagree: read them side by side.",
    "voxels": "Differences between the arms in every voxel of the maps, by one repeated-measures model with "
    "robust standard errors. p values are corrected over voxels, sessions and contrasts of an estimand by "
    "other draws of the allocation. The regions above stay the result; this shows what lies outside of them.",
    "predictions": "Priors are judged by the trials they allow, the fitted model by the trials it makes.",
    "sensitivity": "None of these was chosen by its result; the declared analysis is in bold.",
    "joint": "Pairs of outcomes in one model, with all correlations over outcomes and visits. Each outcome "
    "alone stays the result; this is for what no outcome alone can show. s: the typical spread between "
    "people that the study declares for the unit. Probabilities are not adjusted for multiplicity.",
    "pooled": "Outcomes that were declared exchangeable: each difference is drawn towards their mean. Should "
    "they not be exchangeable, the real effect of a few is drawn away from the truth, and nothing in this "
    "table can show it. Each outcome alone stays the result.",
    "moderation": "Change of the arm difference, adjusted for baseline, per step of a declared moderator: "
    "analysis of covariance that allows unequal variances, and the Bayesian regression. Not corrected for "
    "their number.",
    "associations": "Whether both change together within the arms, and what the one says of the other. Read "
    "the intervals first; without a prior: Fisher's z and least squares among people with all four values. "
    "Not adjusted for multiplicity. Exploratory: it rests on assumptions that randomisation does not give "
    "(methods).",
    "prediction": "Elastic net in five folds, tuned within them, beyond the outcome's own baseline and the "
    "arm. Q²: share of the variance that predictions for people outside of the fit explain; below zero they "
    "are worse than a mean. By chance: the same with the predictors of other people.",
    "responders": "Response by the rules that the study declares. A responder and a nonresponder may differ "
    "by one point, so that a comparison of means learns more of as many people; these numbers are for who "
    "treats.",
    "missing": "The models assume data missing at random; these analyses test departures from it.",
    "calibration": "The primary question in simulated trials with this design, covariance and dropout, "
    "analysed as above, half of them without any difference. Shares ± Monte Carlo standard error; a trial "
    "whose estimate was withheld counts as one whose interval misses. Intervals ought to hold the truth as "
    "often as their level says, and type I error to be what the level leaves.",
    "controls": "Differences before treatment, in control outcomes, and in the quality of the scans.",
    "reliability": "How well one visit stands for a person. ICC(2,1): agreement, a mean change over visits "
    "counts as error; ICC(3,1): consistency. People who respond to treatment unlike one another lower both, "
    "so that {control} is nearer to the measure itself. Smallest detectable change: of one person.",
    "connectivity": "Negative values: lower connectivity in {active}.",
    "truth": "This trial was simulated with known effects, so each estimate can be judged.",
    "conduct": "Who drew codes, locked and unblinded, and what differs from the first lock. Each line of the "
    "log holds the hash of the one before (reconfmri verify-log).",
    "checklists": "What the workflow knows of each item, named by number and topic in words of its own; what "
    "is red is missing here and belongs into the paper. What each item asks is in the guidelines themselves.",
    "estimates": "Each cell: estimate and interval, below it the spread and the probability or p value.",
    "methods": "Written from the settings of this study; every number is the one the code used.",
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
