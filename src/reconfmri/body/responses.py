"""Responses of the skin that are counted: peaks that stand out by an absolute prominence.

Boucsein et al., Psychophysiology 2012;49:1017. How a recording is smoothed before depends on its noise. Where
little is left above the responses a low-pass is enough, the wider the better: a narrow one joins responses
that overlap. Where noise is high, what is smooth is a sum of responses that begin when they like, none of
them negative, over a level that changes slowly: a sparse deconvolution (Benedek & Kaernbach,
Psychophysiology 2010;47:647, by the penalty of Greco et al., IEEE Trans Biomed Eng 2016;63:797).
"""

from __future__ import annotations

import math

import numpy as np

from reconfmri.body.recordings import Array, thinned

PROMINENCE = 0.05  # µS, of a response that is counted (Boucsein 2012)
COUNT_RATE, MODEL_RATE = 25.0, 7.0  # Hz, to which faster recordings are thinned
CUTS = (2.0, 1.4, 1.0)  # Hz: low-passes, the widest that the noise allows is taken
QUIET_SDS = 4.5  # of the noise below the cut: the threshold that such a low-pass needs
NOISE_CUT, NOISE_SDS = 0.7, 2.0  # Hz: SDs of the noise below it that a deconvolved response must exceed
NOISE_BAND, NOISE_SEGMENT = (1.3, 2.2), 20.0  # Hz, s: where noise is measured
LINE_FROM, LINE_TIMES, LINE_ABOUT = 0.75, 8.0, 6  # Hz; times the median of so many frequencies on each side
RISE, DECAY, LENGTH = 0.7, 3.0, 30.0  # s, of the response that is deconvolved
PENALTY = 0.15  # of the deconvolution, in SDs of what noise alone would correlate with a response
SLOWEST = 20.0  # s: what changes more slowly than a half period of it is level
STEPS = 100


def find_responses(cleaned: Array, frequency: float) -> tuple[Array, float]:
    """Return when responses (n,) peak, s from the first sample, and the prominence asked of them, µS.

    Peaks that stand out by 0.05 µS, whatever else the recording holds: a threshold relative to its largest
    peak loses every response to one artefact. Where noise is high, what it hides is not counted, and the
    threshold says so. `cleaned`: (n_samples,), µS, below 3 Hz.
    """
    from scipy import signal

    kept, rate = thinned(cleaned, frequency, COUNT_RATE)
    cut = _widest_cut(kept, rate)
    if cut is not None:
        smooth, prominence = _below(kept, rate, cut), PROMINENCE
    else:
        density = noise_density(kept, rate)
        prominence = max(PROMINENCE, NOISE_SDS * math.sqrt(density * NOISE_CUT))
        kept, rate = thinned(cleaned, frequency, MODEL_RATE)
        smooth = modelled(kept, rate, density)
    found, _ = signal.find_peaks(smooth, prominence=prominence)
    return np.asarray(found / rate), prominence


def noise_density(samples: Array, rate: float) -> float:
    """Return the density of a series' noise, µS²/Hz, by its spectrum from 1.3 to 2.2 Hz.

    Responses have little power there, and most noise of a scanner lies above; medians pass over lines.
    """
    return _noise(*_spectrum(samples, rate))


def modelled(samples: Array, rate: float, density: float) -> Array:
    """Return a series (n,) without its noise: a level that changes slowly, and responses that overlap.

    Minimises the squared error plus a penalty on the heights of the responses, by FISTA (Beck & Teboulle,
    SIAM J Imaging Sci 2009;2:183). `density` is that of the noise, µS²/Hz.
    """
    n = len(samples)
    times = np.arange(0, LENGTH, 1 / rate)
    shape = np.exp(-times / DECAY) - np.exp(-times / RISE)
    size = 1 << (n + len(times)).bit_length()
    spectrum = np.fft.rfft(shape / shape.max(), size)
    places = (np.arange(n)[:, None] + 0.5) * np.arange(int(2 * n / rate / SLOWEST) + 1)
    slow = np.linalg.qr(np.cos(np.pi * places / n))[0]

    def without_level(series: Array) -> Array:
        return np.asarray(series - slow @ (slow.T @ series))

    def responding(heights: Array) -> Array:
        return np.asarray(np.fft.irfft(np.fft.rfft(heights, size) * spectrum, size)[:n])

    wanted = without_level(samples)
    penalty = PENALTY * math.sqrt(density * rate / 2) * float(np.linalg.norm(shape / shape.max()))
    steepness = float(np.abs(spectrum).max() ** 2)
    heights = ahead = np.zeros(n)
    momentum = 1.0
    for _ in range(STEPS):
        error = without_level(responding(ahead)) - wanted
        slope = np.fft.irfft(np.fft.rfft(error, size) * spectrum.conj(), size)[:n]
        new = np.maximum(ahead - (slope + penalty) / steepness, 0)
        faster = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / faster * (new - heights)
        heights, momentum = new, faster
    phasic = responding(heights)
    return np.asarray(phasic + slow @ (slow.T @ (samples - phasic)))


def _widest_cut(samples: Array, rate: float) -> float | None:
    """The widest low-pass, Hz, under which noise and lines stay well below the threshold; None: none does."""
    frequencies, power = _spectrum(samples, rate)
    density, lines = _noise(frequencies, power), _lines(power)
    step = float(frequencies[1] - frequencies[0])
    for cut in CUTS:
        inside = (frequencies >= LINE_FROM) & (frequencies <= cut)
        variance = density * cut + float(lines[inside].sum()) * step
        if QUIET_SDS * math.sqrt(variance) <= PROMINENCE:
            return cut
    return None


def _spectrum(samples: Array, rate: float) -> tuple[Array, Array]:
    from scipy import signal

    length = min(round(NOISE_SEGMENT * rate), len(samples))
    return signal.welch(samples, rate, nperseg=length, average="median", detrend="linear")  # type: ignore[no-any-return]


def _noise(frequencies: Array, power: Array) -> float:
    inside = (frequencies >= NOISE_BAND[0]) & (frequencies <= NOISE_BAND[1])
    return float(np.median(power[inside])) if inside.any() else 0.0


def _lines(power: Array) -> Array:
    """What stands out of the spectrum: a pulse oximeter, volumes once a second."""
    from scipy import ndimage

    about = ndimage.median_filter(power, 2 * LINE_ABOUT + 1, mode="nearest")
    return np.where(power > LINE_TIMES * about, power, 0.0)


def _below(samples: Array, rate: float, cut: float) -> Array:
    from scipy import signal

    return np.asarray(signal.sosfiltfilt(signal.butter(2, cut, output="sos", fs=rate), samples))
