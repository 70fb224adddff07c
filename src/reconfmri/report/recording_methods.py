"""How recordings of the body were scored, as paragraphs of the methods section."""

from __future__ import annotations

from reconfmri.config import SKIN_SCORES, Physiology, SkinConductance
from reconfmri.report.words import list_of


def skin_conductance(settings: SkinConductance) -> str:
    """Return how recordings of skin conductance were cleaned and scored."""
    rules = settings.artefacts
    conditions = [name.replace("_", " ") for name in settings.conditions]
    primary = SKIN_SCORES[settings.scores[0]][0]
    several = f" The primary score is {settings.scores[0]} ({primary})." if len(settings.scores) > 1 else ""
    return (
        f"Skin conductance was recorded during the task {settings.task}. Recordings below "
        f"{settings.min_sampling_frequency:g} Hz, flat or saturated ones were excluded. Samples outside of "
        f"{rules.range[0]:g}–{rules.range[1]:g} µS, on slopes of more than {rules.max_slope:g} µS/s (by "
        "over 0.1 µS), "
        f"clipped for 1 s or more, pieces shorter than {rules.min_island:g} s between two artefacts, and "
        f"{rules.margin:g} s before and after an artefact were left out (as in PsPM). The rest was "
        "low-pass filtered (Butterworth, order 4, 3 Hz, as in NeuroKit2). "
        + " ".join(_SKIN_WORDS[score](settings) for score in settings.scores)
        + f"{several} A condition ({list_of(conditions)}) is the mean over its scripts, and missing where "
        "one of "
        "them is."
    )


def _peak_words(settings: SkinConductance) -> str:
    low, high = settings.window
    return (
        f"The response to an event is the highest value from {low:g} to {high:g} s after its onset minus "
        "the value "
        f"at onset, at least 0, as ln(1 + µS); gaps up to {settings.max_gap:g} s were interpolated for "
        "it, a longer "
        "one makes it missing."
    )


def _level_words(settings: SkinConductance) -> str:
    baseline = settings.baseline
    before = (
        f"the preceding {baseline.replace('_', ' ')}"
        if isinstance(baseline, str)
        else f"the {baseline:g} s before it (as far as no other event reaches into them)"
    )
    return (
        f"The level change of a script is its mean minus the mean of {before}, as the square root of its "
        "size with "
        f"its sign (√µS); {100 * settings.min_usable:g} % of the script must be usable; what was left out "
        "weighs as the straight line across it."
    )


def _area_words(settings: SkinConductance) -> str:
    return (
        "The area of a script is the mean of its usable samples minus their lowest (µS), where "
        f"{100 * settings.min_usable:g} % are usable."
    )


def _count_words(settings: SkinConductance) -> str:
    return (
        "Responses of a prominence of 0.05 µS or more (or what the noise asks for) were counted per usable "
        f"minute, where {100 * settings.min_usable:g} % of a script are usable; noisy recordings were "
        "deconvolved before."
    )


def _canonical_words(settings: SkinConductance) -> str:
    return (
        "The canonical response (Bach et al. 2010, as in PsPM) and its derivative at the onset of every "
        "event were fitted by least squares, recording and model high-pass filtered (first order, 0.05 "
        "Hz); the score is the height of the fitted response (µS), where "
        f"{100 * settings.min_usable:g} % of the 10 s after the onset are usable."
    )


def _fluctuation_words(settings: SkinConductance) -> str:
    return (
        "Spontaneous fluctuations of more than 0.1 µS were found by matching pursuit (Bach & Staib 2015, as "
        "in PsPM) in parts of up to 60 s and counted per usable minute, where "
        f"{100 * settings.min_usable:g} % of a script are usable."
    )


_SKIN_WORDS = {
    "peak": _peak_words,
    "level": _level_words,
    "area": _area_words,
    "count": _count_words,
    "canonical": _canonical_words,
    "fluctuations": _fluctuation_words,
}


def physiology(settings: Physiology) -> str:
    """Return how heart rate, respiration and EMG were scored."""
    conditions = [name.replace("_", " ") for name in settings.conditions]
    words = []
    if heart := settings.heart_rate:
        source = "electrocardiogram" if heart.source == "ecg" else "pulse"
        words.append(
            f"heart rate from the {source} by NeuroKit2: mean (bpm), change (√bpm) and RMSSD (ms) of "
            "intervals between beats; intervals outside of 0.3 to 2 s, over 30 % off the median of eleven, "
            "or beside beats that Kubios's rules call ectopic, missed, extra, long or short were left out"
        )
    if settings.respiration:
        words.append("respiration rate from the belt by NeuroKit2 (breaths/min)")
    if settings.emg:
        words.append("change of the EMG (20–500 Hz, rectified, mean over 0.25 s; √µV)")
    baseline = settings.baseline
    before = f"the preceding {baseline}" if isinstance(baseline, str) else f"the {baseline:g} s before it"
    return (
        f"Per script of the task {settings.task}: {'; '.join(words)}. A change is the mean of the script "
        f"minus the mean of {before}, as the signed square root. A script of which less than "
        f"{100 * settings.min_usable:g} % are usable is missing. A condition ({list_of(conditions)}) is the "
        "mean over its scripts."
    )
