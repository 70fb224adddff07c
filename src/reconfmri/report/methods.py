"""The methods text, made from the settings of the study file and counts of the data, from nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from reconfmri.config import (
    Connectivity,
    FirstLevel,
    Modulator,
    Quality,
    ScriptContrast,
    Scrubbing,
    Study,
    Task,
)
from reconfmri.confounds import HEAD_RADIUS_MM, HIGH_PASS_S
from reconfmri.preprocess.embedded import FINEST_MM
from reconfmri.preprocess.slice_timing import REACH
from reconfmri.preprocess.survey import N_REFERENCE
from reconfmri.report.group_methods import group_methods
from reconfmri.report.recording_methods import physiology, skin_conductance
from reconfmri.report.scale_methods import scale_methods
from reconfmri.report.voxels import voxel_methods
from reconfmri.report.words import DISTORTION, count_of, list_of
from reconfmri.signal.voxelwise import NOISE_FWHM

ANATOMY = {
    "unbiased": "All T1-weighted images of a person were combined in the space halfway between them.",
    "baseline": "The first T1-weighted image of a person stood for all sessions.",
    "sessionwise": "Every session had the anatomy of its own T1-weighted image.",
}
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
        parts.append(("Skin conductance", skin_conductance(study.skin_conductance)))
    if study.physiology:
        parts.append(("Physiology", physiology(study.physiology)))
    if study.scales:
        parts.append(("Clinical scales", scale_methods(study)))
    parts += group_methods(study.trial) if study.trial else []
    if study.group and study.group.voxels:
        parts.append(("Differences in every voxel", voxel_methods(study, study.group, study.group.voxels)))
    return parts


def _data(study: Study, facts: Facts) -> str:
    people = count_of(facts.participants, "participant")
    text = f"The run table holds {count_of(facts.scans, 'scan')} of {people}"
    if study.sessions:
        named = [
            item.name if item.day is None else f"{item.name} (day {item.day:g})" for item in study.sessions
        ]
        text += f", planned at {count_of(len(named), 'session')}: {list_of(named)}"
    text += ". "
    if facts.trs:
        text += f"The repetition time was {list_of([f'{tr:g}' for tr in facts.trs])} s"
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
    left = f" (without {list_of(task.ignore)})" if task.ignore else ""
    return (
        f"Conditions of the task {name}, by the column {task.column} of its events{left}: "
        f"{list_of(renamed)}.{_windows(task)} "
    )


def _windows(task: Task) -> str:
    """Which stretches of events are conditions of their own."""
    named = [
        f"{name} ({window.condition}, {window.start:g} s to "
        + ("its end)" if window.end is None else f"{window.end:g} s)")
        for name, window in task.windows.items()
    ]
    return f" Stretches of events with a response of their own: {list_of(named)}." if named else ""


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
        f"{count_of(settings.acompcor, 'anatomical CompCor component')} of deep white matter and fluid "
        f"together and {count_of(settings.tcompcor, 'temporal CompCor component')}, "
        f"high-pass filtered at {HIGH_PASS_S:g} s. {_slice_timing(study, facts)} {_distortion(study, facts)}"
    )


def _fmriprep(study: Study, facts: Facts) -> str:
    settings = study.preprocessing
    made = f"version {list_of(list(facts.fmriprep))}" if facts.fmriprep else "of an unknown version"
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
    return text + (f" {count_of(absent, 'run')} without slice times stayed as they were." if absent else "")


def _distortion(study: Study, facts: Facts) -> str:
    found = {name: count for name, count in facts.distortion.items() if name != "none"}
    if study.preprocessing.distortion == "none" or not found:
        why = (
            "the study file says so" if study.preprocessing.distortion == "none" else "no run has a field map"
        )
        return f"Susceptibility distortion was not corrected: {why}."
    counted = list_of(
        [f"{DISTORTION.get(name, name)} ({count_of(count, 'run')})" for name, count in found.items()]
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
    return text + (f" {count_of(absent, 'run')} without a field map stayed distorted." if absent else "")


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
    named = [f"{name.replace('_', ' ')} ({region.source})" for name, region in rois.regions.items()]
    given = [region for name, region in rois.regions.items() if name not in rois.own]
    others = "" if all(region.labels for region in given) else ", spheres, masks or maps"
    brought = [
        f"{name} ({PurePath(atlas.image).name}, {PurePath(atlas.labels).name}, in {atlas.space}"
        + (f", fetched from {atlas.image_from})" if atlas.image_from else ")")
        for name, atlas in rois.atlases.items()
    ]
    others += f", and of {list_of(brought)}" if brought else ""
    combined = [f"{name} ({' + '.join(parts)})".replace("_", " ") for name, parts in rois.combined.items()]
    text = (
        f"Regions, by labels of the Harvard-Oxford probabilistic atlas{others}, those in MNI152NLin6Asym "
        f"(as the atlas) carried once to MNI152NLin2009cAsym: {list_of(named, comma='; ')}. "
    )
    if combined:
        text += f"Combined regions are means weighted by volume: {list_of(combined, comma='; ')}. "
    if rois.own:
        text += (
            f"{list_of([name.replace('_', ' ') for name in rois.own])}: voxels with these labels in each "
            f"person's own segmentation (FreeSurfer's, fMRIPrep's desc-{rois.segmentation}) on the grid of "
            "the run, joined by label; size and coverage are the person's. "
        )
    noisy = "" if rois.min_tsnr is None else f", or whose temporal SNR was below {rois.min_tsnr:g},"
    return text + (
        f"The signal of a region is the {_SUMMARIES[rois.summary]} over its voxels inside the run's "
        "brain mask, without smoothing. A region "
        f"of which less than {100 * rois.min_coverage:g} % was covered by the mask{noisy} is missing in "
        "that run."
    )


_SUMMARIES = {
    "mean": "mean",
    "weighted_mean": "mean, weighted by the atlas's probabilities,",
    "median": "median",
    "eigenvariate": "first eigenvariate (around the mean)",
}


def _first_level(study: Study, settings: FirstLevel) -> str:
    task = study.tasks[settings.task]
    unit = "event (script)" if task.events == "each" else "condition"
    orders = {
        "ar1": "first",
        "ar2": "second",
        "ar3": "third",
        "ar4": "fourth",
        "ar5": "fifth",
        "ar6": "sixth",
    }
    coefficients = "its coefficient" if settings.noise == "ar1" else "its coefficients"
    noise = (
        "ordinary least squares"
        if settings.noise == "ols"
        else f"{orders[settings.noise]}-order autoregressive noise ({coefficients} by restricted maximum "
        "likelihood)"
    )
    contrasts = [f"{name} ({_weights(weights)})" for name, weights in settings.contrasts.items()]
    text = (
        f"Each region's signal in the task {settings.task} was modelled with {_response(settings, unit)}"
        f"discrete cosine drifts up to {settings.high_pass:g} "
        "Hz, and "
        f"{_confounds(settings.confounds, study.preprocessing.acompcor)}{_scrubbing(settings.scrubbing)}; "
        f"the noise model was {noise}. "
        "Estimates are in "
        "percent of the region's mean signal without the task, for a regressor with a peak of 1, and keep "
        "their "
        f"standard error. Contrasts: {list_of(contrasts, comma='; ')}."
    )
    text += "".join(f" {name}: {_modulator(item, task)}." for name, item in settings.modulators.items())
    text += "".join(
        f" {name}: {_script_contrast(contrast)}." for name, contrast in settings.script_contrasts.items()
    )
    if settings.maps:
        text += (
            f" Voxelwise maps of {list_of(settings.maps)} were made from data smoothed with a Gaussian of "
            f"{settings.smoothing:g} mm full width at half maximum{_noise_of_maps(settings)}."
        )
    return text


def _noise_of_maps(settings: FirstLevel) -> str:
    """What the noise of a voxel has that that of a region has not."""
    if settings.noise == "ols":
        return ""
    if settings.noise == "ar1":
        return f"; autocorrelations were smoothed over {NOISE_FWHM:g} mm"
    return "; their noise was estimated by nilearn from the residuals"


def _response(settings: FirstLevel, unit: str) -> str:
    """What stands for the events of a condition in the model, with the comma that follows."""
    if settings.fir is None:
        return f"one regressor per {unit}, convolved with the haemodynamic response '{settings.hrf}', "
    edges = settings.fir.edges
    windows = [
        f"_{name} the mean over those that begin from {start:g} to {end:g} s"
        for name, (start, end) in settings.fir.windows.items()
    ]
    spoken = f"; {list_of(windows)}" if windows else ""
    return (
        f"a finite impulse response per {unit}: one regressor per bin after the onset (bins begin at "
        f"{list_of([f'{edge:g}' for edge in edges[:-1]])} s, the last ends at {edges[-1]:g} s; a condition "
        f"is the mean over its bins{spoken}), "
    )


def _modulator(modulator: Modulator, task: Task) -> str:
    """What a slope over a rating is."""
    centre = "their mean" if modulator.centre == "mean" else f"{modulator.centre:g}"
    how = (
        "the least-squares slope of the single events' responses"
        if task.events == "each"
        else f"the coefficient of a regressor that rises with it (ratings around {centre}; an event without "
        "one counts as the mean of the others)"
    )
    return (
        f"the change of the response to {modulator.condition} per {modulator.per:g} of the rating "
        f"{modulator.column}, {how}, in runs with at least {modulator.min_rated} rated events"
    )


def _scrubbing(settings: Scrubbing | None) -> str:
    """Which volumes had a regressor of their own, after the confounds."""
    if settings is None:
        return ""
    limits = {
        "framewise displacement above {:g} mm": settings.fd,
        "standardised DVARS above {:g}": settings.dvars,
    }
    over = " or ".join(words.format(value) for words, value in limits.items() if value is not None)
    beside = [
        f"{count_of(number, 'volume')} {where}"
        for number, where in ((settings.before, "before"), (settings.after, "after"))
        if number
    ]
    near = f" and the {list_of(beside)} each" if beside else ""
    return f", with a regressor for every volume of {over}{near}"


def _script_contrast(contrast: ScriptContrast) -> str:
    """A contrast over single scripts in words."""
    of = {"mean": "mean level", "first": "level at the first repetition", "change": "change over repetitions"}
    shape = {
        "none": "without habituation",
        "linear": "each condition changing linearly over its repetitions",
        "exponential": "each condition decaying by exp(-repetition)",
        "first_vs_rest": "the first of each condition against its others",
    }
    spoken = {
        "first_in_run": "the very first script of the run",
        "repetition": "repetition alike in all conditions",
        "position": "position in the run",
    }
    adjusted = (
        f", adjusted for {list_of([spoken[term] for term in contrast.adjust])}" if contrast.adjust else ""
    )
    return (
        f"{of[contrast.of]} over single scripts ({_weights(contrast.weights)}), "
        f"{shape[contrast.habituation]}{adjusted}"
    )


def _connectivity(settings: Connectivity) -> str:
    low, high = settings.band
    pairs = [f"{one}–{other}" for one, other in settings.pairs]
    conditions = [name.replace("_", " ") for name in settings.conditions]
    text = (
        f"Connectivity of {list_of(pairs)} was computed in the task {settings.task} ({list_of(conditions)}). "
        f"Over the whole run and in one projection, the signals were limited to {low:g}–{high:g} Hz, and the "
        f"mean responses to the task ({_task_model(settings)}, convolved with the haemodynamic response "
        f"'{settings.hrf}') and the confounds ({_confounds(settings.confounds, None)}"
        f"{_scrubbing(settings.scrubbing)}) were removed; only then were the volumes "
        f"of a condition cut out, shifted by {settings.delay:g} s for the haemodynamic delay. Correlations "
        "were "
        "transformed to Fisher's z. Their effective number of observations follows from the "
        "autocorrelation of the "
        f"signals and from what band and confounds leave; a value with fewer than {settings.min_df:g} is "
        "missing. The SD of each region's cleaned signal within a condition stands beside every value."
    )
    if settings.contrasts:
        named = [f"{name} ({_weights(weights)})" for name, weights in settings.contrasts.items()]
        text += (
            f" Differences of connectivity between conditions: {list_of(named, comma='; ')}, of Fisher's z"
        )
        text += "".join(f"; {_ESTIMATORS[name]}" for name in settings.estimators) + "."
    return text


_ESTIMATORS = {
    "gppi": "by generalised psychophysiological interactions (the first region of a pair as the seed; its "
    "neural signal by ridge regression on cosines in microtime with a penalty that is the same for everyone; "
    "centred interactions of all conditions, the measured seed, the task, confounds and drifts below the "
    "band in one model with first-order autoregressive noise)",
    "partial_ppi": "by partial correlations of both regions' interactions in a condition given those of all "
    "other times",
    "beta_series": "by the correlation over single events of estimates from a model per event, with a "
    "jackknife over events as its standard error, in conditions of ten events or more",
}


def _task_model(settings: Connectivity) -> str:
    """What was taken for the mean response to the task."""
    if settings.task_model == "events":
        return "one regressor per event or condition, as in the first level"
    return (
        f"each condition in stretches of {settings.bin:g} s, alike in all its presentations, and one box per "
        "presentation of a task with long events"
    )


def _confounds(names: list[str], components: int | None) -> str:
    spoken = []
    for name in names:
        text = CONFOUNDS.get(name, name)
        spoken.append(f"{components} {text}" if name == "acompcor" and components is not None else text)
    return list_of(spoken) or "no confounds"


def _weights(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{value:+g} {name}".replace("-", "−") for name, value in weights.items())
