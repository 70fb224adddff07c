"""The methods text and what to cite, made from the settings of the study file and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reconfmri.config import Connectivity, FirstLevel, Group, Quality, Study, Task, Trial, outcome_label
from reconfmri.confounds import HEAD_RADIUS_MM, HIGH_PASS_S
from reconfmri.figures.labels import estimand_label, session_name
from reconfmri.group.bayes_model import DF_RATE, DF_SHAPE, RATIO_SD
from reconfmri.preprocess.embedded import FINEST_MM
from reconfmri.preprocess.slice_timing import REACH
from reconfmri.preprocess.survey import N_REFERENCE
from reconfmri.report.words import DISTORTION

if TYPE_CHECKING:
    import pandas as pd

ANATOMY = {
    "unbiased": "All T1-weighted images of a person were combined in the space halfway between them.",
    "baseline": "The first T1-weighted image of a person stood for all sessions.",
    "sessionwise": "Every session had the anatomy of its own T1-weighted image.",
}
REFERENCES = Path(__file__).parent / "references.tsv"
CONFOUNDS = {
    "motion6": "six head motion parameters",
    "motion24": "24 head motion parameters (six, their differences, and the squares of both)",
    "acompcor": "anatomical CompCor components",
    "tcompcor": "temporal CompCor components",
    "fd": "framewise displacement",
    "dvars": "DVARS",
    "global_signal": "the global signal",
    "white_matter": "the mean white matter signal",
    "csf": "the mean cerebrospinal fluid signal",
    "non_steady_state": "one regressor per non-steady-state volume",
    "motion_outliers": "one regressor per motion outlier",
}


@dataclass(frozen=True)
class Facts:
    """Counts of the data that the text names beside the settings."""

    participants: int
    scans: int
    trs: tuple[float, ...] = ()
    volumes: tuple[int, int] | None = None
    fmriprep: tuple[str, ...] = ()  # versions that made the runs
    slice_timing: tuple[bool | None, ...] = ()  # of each run: corrected or not, None where nothing tells
    distortion: Mapping[str, int] = field(default_factory=dict)


class Citation(NamedTuple):
    """What a reference is cited for, and the reference."""

    used_for: str
    reference: str


def methods_text(study: Study, facts: Facts) -> list[tuple[str, str]]:
    """Return the methods section as (heading, paragraph), with the settings of this study as its numbers."""
    parts = [
        ("Data", _data(study, facts)),
        ("Preprocessing", _PREPROCESSING[study.preprocessing.engine](study, facts)),
        ("Quality", _quality(study)),
    ]
    parts.append(("Regions of interest", _regions(study)))
    if study.first_level:
        parts.append(("Activation", _first_level(study, study.first_level)))
    if study.connectivity:
        parts.append(("Connectivity", _connectivity(study.connectivity)))
    if study.skin_conductance:
        parts.append(("Skin conductance", _skin(study)))
    if study.scales:
        parts.append(("Clinical scales", _scales(study)))
    return parts + (group_methods(study.trial) if study.trial else [])


def data_of_a_table(trial: Trial, measures: pd.DataFrame, allocation: pd.DataFrame) -> tuple[str, str]:
    """Return the heading and the paragraph on data that came as a table of measures."""
    known = measures[measures["value"].notna() & measures["outcome"].isin(trial.group.modelled)]
    outcomes, people = known["outcome"].nunique(), known["participant_id"].nunique()
    text = (
        f"The table of measures holds {_count(len(known), 'value')} of {_count(outcomes, 'outcome')} in "
        f"{_count(people, 'participant')}"
    )
    if len(trial.session_names) > 1:
        named = [
            f"{name} (day {trial.days[label]:g})" if label in trial.days else name
            for label, name in trial.session_names.items()
        ]
        text += f" at {_count(len(named), 'session')}: {_list(named)}"
    return "Data", (
        f"{text}. The allocation holds {_count(len(allocation), 'participant')}. How the values were made "
        "is not known here."
    )


def group_methods(trial: Trial) -> list[tuple[str, str]]:
    """Return the part of the methods section that is about the group models, as (heading, paragraph)."""
    return [
        ("Estimands", _estimands(trial, trial.group)),
        ("Bayesian model", _bayesian(trial, trial.group)),
        ("Frequentist models", _frequentist(trial.group)),
        ("Sensitivity analyses, missing visits and reliability", _sensitivity(trial.group)),
    ]


def _data(study: Study, facts: Facts) -> str:
    text = f"The run table holds {_count(facts.scans, 'scan')} of {_count(facts.participants, 'participant')}"
    if study.sessions:
        named = [
            item.name if item.day is None else f"{item.name} (day {item.day:g})" for item in study.sessions
        ]
        text += f", planned at {_count(len(named), 'session')}: {_list(named)}"
    text += ". "
    if facts.trs:
        text += f"The repetition time was {_list([f'{tr:g}' for tr in facts.trs])} s"
        if facts.volumes:
            low, high = facts.volumes
            text += (
                f", with {low} volumes per run" if low == high else f", with {low} to {high} volumes per run"
            )
        text += "; it was read per run from the sidecars and checked against the headers. "
    text += "".join(_events(name, task) for name, task in study.tasks.items() if task.conditions)
    return text + "The allocation to arms was no input of any step before the group models."


def _events(name: str, task: Task) -> str:
    """Which events of a task are which condition."""
    renamed = [
        condition if kind == condition else f"{condition} ({kind})"
        for kind, condition in task.conditions.items()
    ]
    left = (
        f"; {_list(task.ignore)} {'was' if len(task.ignore) == 1 else 'were'} left out" if task.ignore else ""
    )
    return (
        f"Conditions of the task {name}, by the column {task.column} of its events: {_list(renamed)}{left}. "
    )


def _embedded(study: Study, facts: Facts) -> str:
    settings = study.preprocessing
    return (
        f"{ANATOMY[settings.anatomy]} Anatomical images were corrected for the bias field (N4) and matched "
        "with the brain of "
        "MNI152NLin2009cAsym "
        "by greedy: rigid and affine, then deformable with normalised cross-correlation down to "
        f"{FINEST_MM[settings.registration]:g} mm. The template's brain mask was carried back and refined "
        "by a "
        "segmentation into grey matter, white matter and fluid (three Gaussians with spatial priors). "
        "Non-steady-state "
        "volumes at the start of a run were detected. Head motion was estimated by rigid registration of "
        "every volume "
        f"to the run's reference, the mean of up to {N_REFERENCE} aligned volumes. The reference was "
        "placed in the "
        "T1-weighted image rigidly, by mutual information and then by the boundary of the white matter. "
        "Head motion, "
        "coregistration and the warp to the template were composed and applied in one interpolation (cubic "
        "spline) to "
        f"a grid of {settings.resolution:g} mm. Confounds were computed on the run's own grid after motion "
        "correction "
        f"and are named as in fMRIPrep: motion, framewise displacement (rotations at {HEAD_RADIUS_MM:g} "
        "mm), DVARS, "
        f"{_count(settings.acompcor, 'anatomical CompCor component')} of deep white matter and fluid "
        f"together and {_count(settings.tcompcor, 'temporal CompCor component')}, "
        f"high-pass filtered at {HIGH_PASS_S:g} s. {_slice_timing(study, facts)} {_distortion(study, facts)}"
    )


def _fmriprep(study: Study, facts: Facts) -> str:
    settings = study.preprocessing
    made = f"version {_list(list(facts.fmriprep))}" if facts.fmriprep else "of an unknown version"
    here = settings.fmriprep is not None and settings.fmriprep.container is not None
    text = (
        f"Preprocessed data are those of fMRIPrep ({made}), run "
        f"{'by this workflow in a container' if here else 'before and outside of this workflow'}; its own "
        "reports say how each was made. Of its outputs, series, brain mask and T1-weighted image in "
        "MNI152NLin2009cAsym were taken as they are, without another interpolation. Its confounds were kept "
        f"under their names, and of the aCompCor components the first {settings.acompcor} of the combined "
        "mask of white matter and fluid. "
    )
    corrected = set(facts.slice_timing)
    if True not in corrected:
        told = (
            "was not corrected" if corrected == {False} else "may have been corrected: its files do not say"
        )
        text += f"Slice timing {told}."
    else:
        some = "in some runs and not in others" if len(corrected) > 1 else "in every run"
        text += (
            f"Slice timing was corrected {some}; there responses were sampled at the moment within a volume "
            "to which it was aligned."
        )
    return text.rstrip()


def _slice_timing(study: Study, facts: Facts) -> str:
    if not study.preprocessing.slice_timing:
        return "Slice timing was not corrected."
    timed = facts.slice_timing.count(True)
    if facts.slice_timing and not timed:
        return "Slice timing was not corrected: no sidecar holds slice times."
    text = (
        "Slices were brought to the middle of their volume's acquisition (ordinary kriging in time over up "
        f"to {2 * REACH + 1} volumes, those before the steady state apart) after head motion had been "
        "estimated, and the design was sampled at that moment."
    )
    absent = len(facts.slice_timing) - timed
    return text + (f" {_count(absent, 'run')} without slice times stayed as they were." if absent else "")


def _distortion(study: Study, facts: Facts) -> str:
    found = {name: count for name, count in facts.distortion.items() if name != "none"}
    if study.preprocessing.distortion == "none" or not found:
        why = (
            "the study file says so" if study.preprocessing.distortion == "none" else "no run has a field map"
        )
        return f"Susceptibility distortion was not corrected: {why}."
    counted = _list(
        [f"{DISTORTION.get(name, name)} ({_count(count, 'run')})" for name, count in found.items()]
    )
    text = (
        f"Susceptibility distortion was corrected by {counted}: the shift along the phase-encoding axis was "
        "applied in the space of the run's reference, before head motion and inside the same interpolation; "
        "intensities were multiplied by its Jacobian."
    )
    if study.preprocessing.readout_time is not None:
        text += (
            f" Where a sidecar has no total readout time, {study.preprocessing.readout_time:g} s was taken, "
            "as the study file declares."
        )
    absent = facts.distortion.get("none", 0)
    return text + (f" {_count(absent, 'run')} without a field map stayed distorted." if absent else "")


_PREPROCESSING = {"embedded": _embedded, "fmriprep": _fmriprep}


def _quality(study: Study) -> str:
    quality = study.quality
    return (
        f"A run was excluded when its mean framewise displacement exceeded {quality.max_mean_fd:g} mm, "
        "when more than "
        f"{100 * quality.max_outlier_share:g} % of its volumes were motion outliers (framewise "
        "displacement above "
        f"{quality.fd_threshold:g} mm), when the median temporal signal-to-noise ratio in the brain was "
        "below "
        f"{quality.min_tsnr:g}, when more than {100 * quality.max_damaged_share:g} % of its volumes were "
        "damaged (values that are not finite, copies of other volumes, dead slices, no head; fewer were "
        "left out by a regressor each), when more than "
        f"{100 * quality.max_flat_share:g} % of its brain voxels did not vary, or when it had "
        f"fewer than {quality.min_volumes} volumes or less than "
        f"{quality.min_usable_time:g} s of steady volumes below that displacement{_further_limits(quality)}. "
        "These rules were applied automatically, without knowledge of the arms."
    )


def _further_limits(quality: Quality) -> str:
    """The thresholds that a study may leave out, as further members of an enumeration."""
    spoken = {
        "max_registration_cost": "the boundary cost of its registration to the T1w exceeded {:g}",
        "max_ghost": "its ghost-to-signal ratio exceeded {:g}",
        "max_start_excess": "its first volume exceeded the steady state by a share of more than {:g}",
        "max_brain_loss": "its brain mask was smaller than in the person's other sessions by a share of more "
        "than {:g}",
    }
    given = {key: getattr(quality, key) for key in spoken}
    return "".join(f", or when {spoken[key].format(at)}" for key, at in given.items() if at is not None)


def _regions(study: Study) -> str:
    rois = study.rois
    named = [
        f"{name.replace('_', ' ')} ({' + '.join(region.labels)}, probability ≥ {region.threshold:g})"
        for name, region in rois.regions.items()
    ]
    combined = [f"{name} ({' + '.join(parts)})".replace("_", " ") for name, parts in rois.combined.items()]
    text = (
        "Regions were taken from the Harvard-Oxford probabilistic atlas, carried once from MNI152NLin6Asym "
        "to "
        f"MNI152NLin2009cAsym: {_list(named, comma='; ')}. "
    )
    if combined:
        text += f"Combined regions are means weighted by volume: {_list(combined, comma='; ')}. "
    noisy = "" if rois.min_tsnr is None else f", or whose temporal SNR was below {rois.min_tsnr:g},"
    return text + (
        "The signal of a region is the mean over its voxels inside the run's brain mask, without "
        "smoothing. A region "
        f"of which less than {100 * rois.min_coverage:g} % was covered by the mask{noisy} is missing in "
        "that run."
    )


def _first_level(study: Study, settings: FirstLevel) -> str:
    task = study.tasks[settings.task]
    unit = "event (script)" if task.events == "each" else "condition"
    noise = {
        "ar1": "first-order autoregressive noise (its coefficient by restricted maximum likelihood)",
        "ols": "ordinary least squares",
    }[settings.noise]
    contrasts = [f"{name} ({_weights(weights)})" for name, weights in settings.contrasts.items()]
    text = (
        f"Each region's signal in the task {settings.task} was modelled with one regressor per {unit}, "
        "convolved with "
        f"the haemodynamic response '{settings.hrf}', discrete cosine drifts up to {settings.high_pass:g} "
        "Hz, and "
        f"{_confounds(settings.confounds, study.preprocessing.acompcor)}; the noise model was {noise}. "
        "Estimates are in "
        "percent of the region's mean signal without the task, for a regressor with a peak of 1, and keep "
        "their "
        f"standard error. Contrasts: {_list(contrasts, comma='; ')}."
    )
    if settings.maps:
        text += (
            f" Voxelwise maps of {_list(settings.maps)} were made from data smoothed with a Gaussian of "
            f"{settings.smoothing:g} mm full width at half maximum."
        )
    return text


def _connectivity(settings: Connectivity) -> str:
    low, high = settings.band
    pairs = [f"{one}–{other}" for one, other in settings.pairs]
    conditions = [name.replace("_", " ") for name in settings.conditions]
    return (
        f"Connectivity of {_list(pairs)} was computed in the task {settings.task} ({_list(conditions)}). "
        f"Over the whole run and in one projection, the signals were limited to {low:g}–{high:g} Hz, and the "
        "mean responses to the "
        f"task and the confounds ({_confounds(settings.confounds, None)}) were removed; only then were the "
        "volumes "
        f"of a condition cut out, shifted by {settings.delay:g} s for the haemodynamic delay. Correlations "
        "were "
        "transformed to Fisher's z. Their effective number of observations follows from the "
        "autocorrelation of the "
        f"signals and from what band and confounds leave; a value with fewer than {settings.min_df:g} is "
        "missing."
    )


def _skin(study: Study) -> str:
    settings = study.skin_conductance
    if settings is None:
        return ""
    low, high = settings.window
    conditions = [name.replace("_", " ") for name in settings.conditions]
    return (
        f"Skin conductance was recorded during the task {settings.task}. Recordings below "
        f"{settings.min_sampling_frequency:g} Hz, flat or saturated ones were excluded; gaps up to "
        f"{settings.max_gap:g} s were interpolated. After a low-pass filter (Butterworth, order 4, 3 Hz, as "
        f"in NeuroKit2), the response to an event is the highest value from {low:g} to {high:g} s after its "
        "onset minus the value at onset, at least 0, as "
        f"ln(1 + µS). A condition ({_list(conditions)}) is the mean over its events."
    )


def _scales(study: Study) -> str:
    named = [
        f"{name} ({scale.unit}, {scale.range[0]:g} to {scale.range[1]:g}; "
        + (
            f"the sum of {_count(len(scale.items), 'item')} of {scale.item_range[0]:g} to "
            f"{scale.item_range[1]:g}, compared with the column {scale.total} where it is there)"
            if scale.items
            else f"the column {scale.total})"
        )
        for name, scale in study.scales.items()
    ]
    return (
        f"Totals of the phenotype tables: {_list(named)}. A total outside its range, or of which an item is "
        "missing, is missing, with the reason in the table of exclusions."
    )


def _estimands(trial: Trial, group: Group) -> str:
    primary = group.primary
    families = [
        f"{name} ({_list([outcome_label(item) for item in members])})"
        for name, members in group.families.items()
    ]
    text = (
        "All randomised participants with data are analysed in the arm they were allocated to. "
        "Differences are "
        f"{group.arms.active} minus {group.arms.control}. The primary outcome is "
        f"{outcome_label(primary.outcome)} at "
        f"{session_name(trial, primary.session)}, {estimand_label(primary.estimand).lower()}. Reported for "
        f"every outcome{' and later session' if len(trial.session_names) > 1 else ''}: "
        f"{_list([estimand_label(item).lower() for item in group.estimands], comma='; ')}. "
    )
    text += _covariates(group)
    if families:
        named = {"holm": "Holm's method", "benjamini_hochberg": "Benjamini and Hochberg's method"}
        text += f"p values were corrected by {named[group.correction]} within the declared families: "
        text += f"{_list(families, comma='; ')}. "
    if group.exploratory:
        later = _list([outcome_label(item) for item in group.exploratory], comma="; ")
        text += f"Not declared in advance, modelled in the same way and labelled exploratory: {later}. "
    return text + "Posterior probabilities are not adjusted for multiplicity."


def _covariates(group: Group) -> str:
    if not group.covariates:
        return ""
    named = [f"{name.replace('_', ' ')} ({item.kind})" for name, item in group.covariates.items()]
    filled = [name.replace("_", " ") for name, item in group.covariates.items() if item.missing == "mean"]
    shared = [name.replace("_", " ") for name, item in group.covariates.items() if item.slope == "common"]
    one = f" ({_list(shared)}: one slope over all visits)" if shared else ""
    text = (
        f"Covariates, known before treatment: {_list(named)}; around their means, with a slope per visit"
        f"{one}, in the mean of every model but the t tests. "
    )
    if filled:
        text += f"Where {_list(filled)} was not known, the mean of all people was taken. "
    if group.moderators:
        later = [name.replace("_", " ") for name in group.moderators]
        text += (
            f"Whether the difference depends on {_list(later)} was asked by analysis of covariance and by "
            "the same regression with priors. "
        )
    return text


MEAN_MODEL = (
    "one model over all visits: a mean per visit and a difference between the arms per visit; the adjusted "
    "difference comes from the model in which the arms share their baseline mean, the others from the model "
    "in which they do not"
)
COVARIANCE = {
    "auto": "an unstructured covariance over visits; where it did not converge the estimate names what was "
    "fitted instead",
    "unstructured": "an unstructured covariance over visits",
    "random_intercept": "a random intercept per person",
}


def _bayesian(trial: Trial, group: Group) -> str:
    priors, sampling = group.priors, group.sampling
    used = {trial.units[name] for name in group.modelled}
    scales = [f"{value:g} for {unit}" for unit, value in group.scales.items() if unit in used]
    prior = (
        "Priors on arm differences and visit means were flat"
        if priors.flat
        else f"Priors were Normal(0, {priors.effect:g} s) on arm differences and on their changes between "
        f"visits, Normal(centre, {priors.mean:g} s) on visit means, centred on the mean of all values"
    )
    residuals = {
        "gaussian": "",
        "student_t": " Residuals of a person over visits are multivariate t, with degrees of freedom given a "
        f"gamma({DF_SHAPE:g}, {DF_RATE:g}) prior above 1, so that people far from the others weigh less.",
    }[group.likelihood]
    if group.spread == "by_arm":
        residuals += (
            " Each arm has its own standard deviation at a visit, and both share correlations; the log of "
            f"the ratio has a Normal(0, {RATIO_SD:g}) prior."
        )
    rope = [f"± {value:g} {unit}" for unit, value in group.rope.items() if unit in used]
    small = f" Too small to matter was declared to be a difference within {_list(rope)}." if rope else ""
    return (
        f"Each outcome met {MEAN_MODEL}, with {COVARIANCE[group.covariance]}.{residuals} Missing visits are "
        "integrated out (missing at random), so that everybody with a measurement is in. "
        f"{prior}; half-t(4, 0, {priors.sd:g} s) on the standard deviation of each visit; LKJ(1) on the "
        "correlations. s "
        f"is a constant per unit: {_list(scales)}. Sampling used PyMC and nutpie with {sampling.chains} "
        "chains of "
        f"{sampling.tune} warm-up and {sampling.draws} kept draws, seed {trial.seed}; a fit that failed "
        "the gate was "
        "repeated once, longer and with smaller steps. Intervals are highest-density intervals of "
        f"{100 * group.level:g} %. "
        f"A result is withheld when any parameter has R-hat above {sampling.max_r_hat:g} or an effective "
        "sample size below "
        f"{sampling.min_ess:g}, or when there are more than {sampling.max_divergences} divergent "
        f"transitions.{small}{_joint(group)}{_pooled(group)}"
    )


def _joint(group: Group) -> str:
    """How outcomes were modelled together, and what was expected of each."""
    if not group.joint:
        return ""
    sets = []
    for together in group.joint.values():
        expected = {name: "" if way == "either" else f" (expected {way})" for name, way in together.items()}
        sets.append(_list([f"{outcome_label(name)}{way}" for name, way in expected.items()]))
    return (
        f" Outcomes were also modelled together, two by two: {_list(sets, comma='; ')}. Both of a pair, "
        "each in its s, share one covariance over outcomes and visits, of which standard deviations have the "
        "same half-t prior and each correlation r a density proportional to 1 - r² (Huang and Wand 2013); "
        "where that did not converge it is a correlation of outcomes times a random intercept. All their arm "
        "differences correlate by one half a priori."
    )


def _pooled(group: Group) -> str:
    """Which outcomes were declared exchangeable, and how their effects were pooled."""
    if not group.pooled:
        return ""
    sets = [_list([outcome_label(name) for name in alike]) for alike in group.pooled.values()]
    priors = group.priors
    between = "a flat prior" if priors.flat else f"a half-t(4, 0, {priors.between:g} s) prior"
    return (
        f" Declared exchangeable, and so pooled as a secondary analysis: {_list(sets, comma='; ')}. Their "
        "estimates by restricted maximum likelihood, with the correlation of these and with standard errors "
        f"of as many degrees of freedom, met effects normal around a mean; the SD between them had {between}."
    )


INFORMATION = {
    "observed": ", which holds where what was missed depends on what was seen",
    "expected": ", which is a few percent short where what was missed depends on what was seen",
}


def _frequentist(group: Group) -> str:
    own = " Each arm has its own standard deviation at a visit." * (group.spread == "by_arm")
    shrunk = (
        " Where an unstructured covariance did not converge it was drawn towards compound symmetry with a "
        "standard deviation per visit, by two people's worth; a random intercept came last."
        if group.covariance == "auto"
        else ""
    )
    text = (
        "The same mean model and covariance were fitted by restricted maximum likelihood, with everybody "
        "who has a measurement; standard errors and degrees of freedom are Kenward and Roger's, from the "
        f"{group.information} information about the covariance{INFORMATION[group.information]}.{own}{shrunk} "
        "Beside it, "
        "least squares visit by visit: analysis of covariance on the baseline value for the adjusted "
        "difference (and again with a standard error that allows unequal variances), Welch's t test for "
        "the unadjusted difference, and Welch's t test of change scores for "
        "the difference of change; they use no other visits of a person, and are biased where leaving goes "
        "by what was seen, which their caveat in the table of estimates says. Intervals are t intervals of "
        f"{100 * group.level:g} %."
    )
    if group.permutations:
        text += (
            " A randomisation test drew the allocation anew "
            f"{group.permutations:,} times, within strata, and compared studentised one-step estimates; "
            "its p values within a family are corrected by the highest statistic of the family (max-T)."
        )
    return text


def _sensitivity(group: Group) -> str:
    expected = "between the arms before treatment and in the quality of scans, where there are any"
    if group.controls:
        expected += f", and in {_list([outcome_label(name) for name in group.controls], comma='; ')}"
    return (
        "The primary estimate was made again under other priors and other covariances over visits, with the "
        "standard errors of the values where all are known, and without each participant in turn (the "
        "posterior reweighted by Pareto-smoothed importance sampling, or fitted again). Visits without a "
        "measurement were filled in with their conditional means plus a shift per arm, and by jumping to the "
        "mean of the control arm, with jackknife standard errors; the shift at which the verdict tips was "
        f"solved for. No difference was expected {expected}. Reliability within an arm is ICC(2,1) and "
        f"ICC(3,1) with intervals of {100 * group.level:g} %."
        + (
            f" Intercurrent events and the strategy for each are those of {group.intercurrent_events}."
            if group.intercurrent_events
            else ""
        )
    )


def _confounds(names: list[str], components: int | None) -> str:
    spoken = []
    for name in names:
        text = CONFOUNDS.get(name, name)
        spoken.append(f"{components} {text}" if name == "acompcor" and components is not None else text)
    return _list(spoken) or "no confounds"


def _weights(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{value:+g} {name}".replace("-", "−") for name, value in weights.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _list(items: list[str], *, comma: str = ", ") -> str:
    if len(items) < 2:
        return "".join(items)
    return comma.join(items[:-1]) + f"{';' if comma == '; ' else ''} and {items[-1]}"


def citations(study: Study, facts: Facts | None = None) -> list[Citation]:
    """Return what a paper with these results should cite, by the parts that the study uses."""
    used = {"always", study.preprocessing.engine, *study.scales}
    used |= {
        name
        for name in ("first_level", "connectivity", "skin_conductance")
        if getattr(study, name) is not None
    }
    if study.group:
        used |= cited_of(study.group)
    if study.first_level and study.first_level.hrf.startswith("glover"):
        used.add("glover")
    if facts and True in facts.slice_timing and study.preprocessing.engine == "embedded":
        used.add("slice_timing")
    undone = {name for name in facts.distortion if name != "none"} if facts else set()
    if undone:
        used |= {"distortion", *undone} | ({"phasediff"} if "phases" in undone else set())
    return cited_for(used)


def cited_of(group: Group) -> set[str]:
    """Return the parts of the references that a group section uses."""
    return {"group"} | ({"pooled"} if group.pooled else set())


def cited_for(used: Iterable[str]) -> list[Citation]:
    """Return the references of some parts, the first column of `references.tsv`."""
    parts = set(used)
    lines = REFERENCES.read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return [Citation(used_for, reference) for part, used_for, reference in rows if part in parts]
