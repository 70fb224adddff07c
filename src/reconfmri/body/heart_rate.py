"""Heart beats and breaths by NeuroKit2, and which intervals between them may be used.

Beats of an ECG: Makowski et al., Behav Res Methods 2021;53:1689; of a pulse: Elgendi et al., PLoS ONE
2013;8:e76585; breaths: Khodadad et al., Physiol Meas 2018;39:094001. Intervals that cannot be of a heart are
found as in Kubios (Lipponen & Tarvainen, J Med Eng Technol 2019;43:173) and left out, never corrected: a
corrected beat is a guess.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reconfmri.body.recordings import Array, Recording
from reconfmri.body.scores import Signal
from reconfmri.channels import CODE
from reconfmri.exclusions import DataFault

GRID = 10.0  # Hz, of the momentary rate
BEATS, BREATHS = (0.3, 2.0), (1.0, 15.0)  # s between two: 30 to 200 beats, 4 to 60 breaths per minute
LEAST = 5  # beats or breaths without which a recording says nothing
JUMP = 0.3  # share by which an interval may differ from the median of those around it
AROUND = 11  # intervals, of that median


@dataclass(frozen=True)
class Beats:
    """When beats (or breaths) are, s from the first volume, and which intervals (n - 1,) may be used."""

    times: Array
    usable: npt.NDArray[np.bool_]

    @property
    def intervals(self) -> Array:
        """The intervals between them, s."""
        return np.diff(self.times)


def find_beats(recording: Recording, source: str) -> Beats:
    """Return the beats of an ECG or a pulse.

    Raises
    ------
    DataFault
        There are too few: the channel is flat, or no heart.
    """
    import neurokit2 as nk

    filled, rate = _filled(recording), round(recording.frequency)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if source == "ecg":
            cleaned = nk.ecg_clean(filled, sampling_rate=rate, method="neurokit")
            places = nk.ecg_peaks(cleaned, sampling_rate=rate, method="neurokit")[1]["ECG_R_Peaks"]
        else:
            cleaned = nk.ppg_clean(filled, sampling_rate=rate, method="elgendi")
            places = nk.ppg_findpeaks(cleaned, sampling_rate=rate, method="elgendi")["PPG_Peaks"]
    return _checked(recording, np.asarray(places, dtype=float), BEATS, "beats")


def find_breaths(recording: Recording) -> Beats:
    """Return the breaths of a belt.

    Raises
    ------
    DataFault
        There are too few.
    """
    import neurokit2 as nk

    filled, rate = _filled(recording), round(recording.frequency)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cleaned = nk.rsp_clean(filled, sampling_rate=rate, method="khodadad2018")
        places = nk.rsp_findpeaks(cleaned, sampling_rate=rate, method="khodadad2018")["RSP_Peaks"]
    return _checked(recording, np.asarray(places, dtype=float), BREATHS, "breaths")


def rate_signal(beats: Beats, recording: Recording) -> Signal:
    """Return the momentary rate, per minute, at 10 Hz; unusable where an interval is, and at both ends."""
    n_points = math.ceil((recording.end - recording.start) * GRID)
    times = recording.start + (np.arange(n_points) + 0.5) / GRID
    inside = np.searchsorted(beats.times, times) - 1
    known = (inside >= 0) & (inside < len(beats.intervals))
    place = np.clip(inside, 0, len(beats.intervals) - 1)
    usable = known & beats.usable[place]
    values = 60 / beats.intervals[place]
    held = np.interp(times, times[usable], values[usable]) if usable.any() else values
    return Signal(np.where(usable, values, held), usable, GRID, recording.start, recording.name)


def rmssd(beats: Beats, first: float, last: float) -> float:
    """Return the root mean square of differences of successive intervals, ms, within `first` to `last`, s.

    Task Force, Circulation 1996;93:1043. Missing with fewer than five such differences.
    """
    inside = (beats.times[:-1] >= first) & (beats.times[1:] <= last) & beats.usable
    pairs = inside[1:] & inside[:-1]
    if pairs.sum() < LEAST:
        return math.nan
    return float(1000 * np.sqrt(np.mean(np.square(np.diff(beats.intervals)[pairs]))))


def _filled(recording: Recording) -> Array:
    known = np.flatnonzero(np.isfinite(recording.samples))
    if not len(known) or np.ptp(recording.samples[known]) == 0:
        what = "every sample is missing" if not len(known) else "it is flat"
        raise DataFault(CODE, what, fix="look at the sensor of this recording", file=recording.name)
    return np.asarray(np.interp(np.arange(len(recording.samples)), known, recording.samples[known]))


def _checked(recording: Recording, places: Array, limits: tuple[float, float], what: str) -> Beats:
    places = np.unique(places[np.isfinite(places)])
    if len(places) <= LEAST:
        reason = f"{len(places)} {what} in {len(recording.samples) / recording.frequency:.0f} s"
        raise DataFault(
            CODE, reason, fix="look at the sensor, and at `column` and `source`", file=recording.name
        )
    times = recording.start + places / recording.frequency
    intervals = np.diff(times)
    usable = (intervals >= limits[0]) & (intervals <= limits[1])
    if what == "beats":
        usable &= _like_a_heart(intervals, places, recording.frequency)
    for first, last in recording.gaps():
        usable &= ~((times[:-1] < last) & (times[1:] > first))
    return Beats(times, usable)


def _like_a_heart(intervals: Array, places: Array, frequency: float) -> npt.NDArray[np.bool_]:
    """Intervals beside no ectopic, missed, extra, long or short beat, and not far from those around them."""
    import neurokit2 as nk
    import pandas as pd

    median = pd.Series(intervals).rolling(AROUND, center=True, min_periods=1).median().to_numpy()
    usable = np.abs(intervals / median - 1) <= JUMP
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, _ = nk.signal_fixpeaks(places.astype(int), sampling_rate=round(frequency), method="Kubios")
    for kind in ("ectopic", "missed", "extra", "longshort"):
        for beat in found[kind]:
            usable[max(beat - 1, 0) : beat + 1] = False
    return np.asarray(usable)
