"""One picture per recording of the body: raw, cleaned, what no score uses, events, and what was scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reconfmri.body.recordings import Array, spans
from reconfmri.config import SIGNALS
from reconfmri.figures.style import BRIGHT, INK, MUTED, OUT, drawn, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reconfmri.body.physiology import Scored
    from reconfmri.body.skin_conductance import Prepared

MOST_POINTS = 2400  # per line: two per pixel of the picture
SIZE = (12.8, 4.6)  # inches, 100 dpi


@drawn
def skin_conductance(prepared: Prepared, scripts: pd.DataFrame, title: str) -> Figure:
    """Return the picture of a recording of skin conductance; `scripts`: as of `score_scripts`."""
    figure = new_figure(*SIZE)
    above, below = figure.subplots(2, 1, sharex=True)
    raw, signal = prepared.raw, prepared.signal
    _envelope(above, raw.samples, raw.frequency, raw.start, MUTED)
    above.set_ylabel("raw, µS", fontsize=8, color=INK)
    shown = np.where(signal.usable, signal.values, np.nan)
    _envelope(below, shown, signal.frequency, signal.start, INK)
    below.set_ylabel("cleaned, µS", fontsize=8, color=INK)
    for first, last in spans(~signal.usable, signal.frequency, signal.start):
        for axes in (above, below):
            axes.axvspan(first, last, color=OUT, alpha=0.25, linewidth=0)
    if len(prepared.peaks):
        places = np.clip(((prepared.peaks - signal.start) * signal.frequency).astype(int), 0, len(shown) - 1)
        below.plot(prepared.peaks, shown[places], "v", color=INK, markersize=3.5)
    _scripts(below, scripts)
    used = f"{100 * float(signal.usable.mean()):.1f} % usable"
    left = f" (left out: {prepared.usable.words})" if prepared.usable.words else ""
    above.set_title(f"{title}: {raw.frequency:g} Hz, {used}{left}", fontsize=8, color=INK, loc="left")
    below.set_xlabel("s from the first volume", fontsize=8, color=INK)
    for axes in (above, below):
        tidy(axes)
    return figure


RATES = {"heart_rate": "beats/min", "respiration": "breaths/min", "emg": "EMG, µV"}


@drawn
def physiology(scored: Scored) -> Figure:
    """Return the picture of the channels of a run, each above what is scored of it.

    Raises
    ------
    ValueError
        There is none.
    """
    if not scored.channels:
        raise ValueError("no channel to draw")
    n_rows = 2 * len(scored.channels)
    figure = new_figure(SIZE[0], 1.6 * n_rows + 0.6)
    rows = figure.subplots(n_rows, 1, sharex=True, squeeze=False)[:, 0]
    for place, (name, channel) in enumerate(scored.channels.items()):
        above, below = rows[2 * place], rows[2 * place + 1]
        raw, signal = channel.raw, channel.signal
        _envelope(above, raw.samples, raw.frequency, raw.start, MUTED)
        above.set_ylabel("raw", fontsize=8, color=INK)
        _envelope(below, np.where(signal.usable, signal.values, np.nan), signal.frequency, signal.start, INK)
        below.set_ylabel(RATES[name], fontsize=8, color=INK)
        for first, last in spans(~signal.usable, signal.frequency, signal.start):
            below.axvspan(first, last, color=OUT, alpha=0.25, linewidth=0)
        heads = tuple(f"{head}." for head in SIGNALS[name][3])
        _scripts(below, scored.scripts[scored.scripts["outcome"].str.startswith(heads)])
        share = f"{100 * float(signal.usable.mean()):.1f} % usable"
        above.set_title(f"{raw.name}: {raw.frequency:g} Hz, {share}", fontsize=8, color=INK, loc="left")
        for axes in (above, below):
            tidy(axes)
    rows[-1].set_xlabel("s from the first volume", fontsize=8, color=INK)
    return figure


def _scripts(axes: Axes, scripts: pd.DataFrame) -> None:
    """A bar per script above the signal, with the value of its first score."""
    if scripts.empty:
        return
    first = scripts.drop_duplicates("onset").sort_values("onset")
    kinds = {
        name: BRIGHT[1 + n % (len(BRIGHT) - 1)]
        for n, name in enumerate(dict.fromkeys(_kind(n) for n in first["script"]))
    }
    for row in first.to_dict("records"):
        colour = kinds[_kind(row["script"])]
        axes.axvspan(row["onset"], row["onset"] + row["duration"], color=colour, alpha=0.15, linewidth=0)
        value = "missing" if row["value"] != row["value"] else f"{row['value']:.2f} {row['unit']}"
        axes.annotate(
            f"{row['script']}\n{value}", (row["onset"], 1.0), xycoords=("data", "axes fraction"),
            fontsize=6.5,
            color=OUT if value == "missing" else INK, va="bottom", annotation_clip=False,
        )  # fmt: skip


def _kind(script: str) -> str:
    return script.rpartition("_")[0] or script


def _envelope(axes: Axes, samples: Array, frequency: float, start: float, colour: str) -> None:
    """A long recording as the band between the lowest and highest of each piece, so that no spike is lost."""
    factor = max(len(samples) * 2 // MOST_POINTS, 1)
    n_pieces = len(samples) // factor
    pieces = samples[: n_pieces * factor].reshape(n_pieces, factor)
    known = np.isfinite(pieces).any(axis=1)
    low, high = np.full(n_pieces, np.nan), np.full(n_pieces, np.nan)
    low[known], high[known] = np.nanmin(pieces[known], axis=1), np.nanmax(pieces[known], axis=1)
    times = start + (np.repeat(np.arange(n_pieces), 2) + np.tile([0.25, 0.75], n_pieces)) * factor / frequency
    axes.plot(times, np.stack([low, high], axis=1).ravel(), color=colour, linewidth=0.7)
