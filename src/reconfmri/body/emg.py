"""EMG: band-pass filtered, rectified, and averaged over a quarter of a second (the integrated EMG)."""

from __future__ import annotations

import numpy as np

from reconfmri.body.artefacts import block_means
from reconfmri.body.recordings import Recording
from reconfmri.body.scores import Signal
from reconfmri.channels import CODE
from reconfmri.exclusions import DataFault

BAND = (20.0, 500.0)  # Hz (Fridlund & Cacioppo, Psychophysiology 1986;23:567)
WINDOW = 0.25  # s


def integrated(recording: Recording) -> Signal:
    """Return the rectified EMG averaged over windows of 0.25 s, µV; unusable where a sample is missing.

    Raises
    ------
    DataFault
        The channel is flat or empty.
    """
    from scipy import signal

    known = np.isfinite(recording.samples)
    if not known.any() or np.ptp(recording.samples[known]) == 0:
        what = "it is flat" if known.any() else "every sample is missing"
        raise DataFault(CODE, what, fix="look at the electrodes of this recording", file=recording.name)
    upper = min(BAND[1], 0.45 * recording.frequency)
    places = np.arange(len(known))
    filled = np.interp(places, places[known], recording.samples[known])
    sections = signal.butter(4, (BAND[0], upper), btype="bandpass", output="sos", fs=recording.frequency)
    rectified = np.abs(signal.sosfiltfilt(sections, filled))
    factor = max(round(WINDOW * recording.frequency), 1)
    values = block_means(rectified, factor)
    usable = block_means(known.astype(float), factor) == 1
    return Signal(values, usable, recording.frequency / factor, recording.start, recording.name)
