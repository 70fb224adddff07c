"""A recording of the laboratory into a BIDS dataset: units checked, pulses matched to volumes and events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reconfmri.bids import LABEL, read_sidecar
from reconfmri.body.recordings import Array, pulse_onsets
from reconfmri.body.sources import Source, SourceChannel
from reconfmri.channels import CONDUCTANCE, VOLTAGE
from reconfmri.gzipped import zipped
from reconfmri.headers import read_header
from reconfmri.tables import read_table

TOLERANCE = 0.1  # s that a pulse may lie beside its volume or event


@dataclass(frozen=True)
class Target:
    """Which run the recording belongs to: BIDS folder, entities in the order of names, TR (s) and volumes."""

    root: Path
    entities: Mapping[str, str]
    tr: float | None = None
    n_volumes: int | None = None

    @classmethod
    def of_run(cls, root: Path, entities: Mapping[str, str]) -> Target:
        """Return the target with TR and number of volumes of the run's image, where it is there.

        Raises
        ------
        ValueError
            A label is none, there is no such dataset, or the image cannot be read.
        """
        if not (root / "dataset_description.json").is_file():
            raise ValueError(f"{root} is no BIDS dataset. Fix: give the folder of dataset_description.json")
        for key, label in entities.items():
            if not LABEL.fullmatch(label):
                raise ValueError(f"{key} is {label!r}, expected letters and digits. Fix: correct it")
        target = cls(root, entities)
        image = target.path("bold.nii.gz", recording="")
        if not image.is_file():
            return target
        tr = read_sidecar(root, image.relative_to(root).as_posix()).get("RepetitionTime")
        return cls(root, entities, float(tr) if tr else None, read_header(image).n_volumes)

    def path(self, suffix: str, **more: str) -> Path:
        """Return the path of a file of the run; events and images have no `recording`."""
        named = {key: label for key, label in {**self.entities, **more}.items() if label}
        if suffix.split(".")[0] != "physio":
            named.pop("recording", None)
        order = [key for key in ("sub", "ses", "task", "run", "recording") if key in named]
        folders = [f"{key}-{named[key]}" for key in ("sub", "ses") if key in named]
        name = "_".join(f"{key}-{named[key]}" for key in order)
        return self.root.joinpath(*folders, "func", f"{name}_{suffix}")


@dataclass(frozen=True)
class Asked:
    """What is to be taken: column -> (channel, unit or empty, gain or None); pulses; or the start, s.

    `volumes` is the channel (or mark) of volume pulses, `events` channel (or mark) -> trial type.
    """

    columns: Mapping[str, tuple[str, str, float | None]]
    volumes: str | None = None
    events: Mapping[str, str] | None = None
    start: float | None = None


def import_recording(source: Source, asked: Asked, target: Target) -> tuple[list[Path], list[str]]:
    """Write `_physio.tsv.gz` and JSON (and events, where the run has none); return the paths and what to say.

    Raises
    ------
    ValueError
        A channel or a unit is missing, pulses do not fit, or a file is there already.
    """
    channels = {column: _scaled(source, column, *what) for column, what in asked.columns.items()}
    start, said = _start(source, asked, target)
    rates = {channel.frequency for channel in channels.values()}
    written = []
    for rate in sorted(rates):
        own = {column: channel for column, channel in channels.items() if channel.frequency == rate}
        label = {} if len(rates) == 1 else {"recording": f"{rate:g}Hz".replace(".", "p")}
        written += _write(own, rate, start, target, label)
    if asked.events:
        path = target.path("events.tsv")
        if not path.exists():
            written.append(_write_events(source, asked.events, start, path))
            said.append(f"{path.name} was written from the pulses")
    return written, said


def _scaled(source: Source, column: str, name: str, unit: str, gain: float | None) -> SourceChannel:
    """A channel with its unit checked: skin conductance must be conductance, EMG a voltage."""
    if name not in source.channels:
        raise ValueError(
            f"no channel {name!r}; the recording has {list(source.channels)}. Fix: correct --channel"
        )
    channel = source.channels[name]
    stated = unit or channel.unit
    samples = channel.samples * gain if gain is not None else channel.samples
    wanted = {"skin_conductance": CONDUCTANCE, "emg": VOLTAGE}.get(column)
    known = {spelt.lower(): spelt for spelt in wanted or ()}
    if wanted is not None and stated.lower() not in known:
        raise ValueError(
            f"{column}: the unit of channel {name!r} is {stated or 'not given'}, expected one of "
            f"{list(wanted)}. "
            f"Fix: --channel {column}={name}:UNIT, and for volts or raw counts the gain: "
            f"{column}={name}:{next(iter(wanted))}:GAIN"
        )
    if wanted is not None and channel.unit and unit and gain is None and not _same(channel.unit, unit):
        raise ValueError(
            f"{column}: channel {name!r} is in {channel.unit}, not {unit}. Fix: leave the unit out, or "
            "give the gain"
        )
    return SourceChannel(column, samples, channel.frequency, known.get(stated.lower(), stated))


def _same(one: str, other: str) -> bool:
    scales = [
        {key.lower(): value for key, value in (CONDUCTANCE | VOLTAGE).items()}.get(u.lower())
        for u in (one, other)
    ]
    return one.lower() == other.lower() or (scales[0] is not None and scales[0] == scales[1])


def _start(source: Source, asked: Asked, target: Target) -> tuple[float, list[str]]:
    """Start of the recording, s from the first volume, and how well the pulses fit."""
    if asked.volumes is not None:
        start, words = match_volumes(pulses_of(source, asked.volumes), target)
        said = [words]
    elif asked.start is not None:
        start, said = asked.start, []
    elif asked.events and target.path("events.tsv").exists():
        start, words = _by_events(source, asked.events, target)
        return start, [words]
    else:
        raise ValueError("nothing tells when the recording began. Fix: give --volumes, --events or --start")
    if asked.events and target.path("events.tsv").exists():
        said.append(match_events(source, asked.events, start, target))
    return start, said


def pulses_of(source: Source, name: str) -> Array:
    """Return when the pulses of a channel, or the marks of a name, begin: s from the first sample.

    Raises
    ------
    ValueError
        There is no such channel or mark, or it has no pulse.
    """
    if name in source.marks:
        return source.marks[name]
    if name not in source.channels:
        have = [*source.channels, *source.marks]
        raise ValueError(f"no channel or mark {name!r}; the recording has {have}. Fix: correct its name")
    channel = source.channels[name]
    found = pulse_onsets(channel.samples) / channel.frequency
    if not len(found):
        raise ValueError(f"channel {name!r} has no pulse. Fix: name the channel of the pulses")
    return found


def match_volumes(pulses: Array, target: Target) -> tuple[float, str]:
    """Return the start of the recording by its volume pulses, and how far they lie from the volumes.

    The pulses of one run are a train with a TR between; of several trains the one whose length is nearest
    to the run's is taken.

    Raises
    ------
    ValueError
        The run's TR is not known, or no train fits: in number, or by more than 0.1 s.
    """
    if target.tr is None or target.n_volumes is None:
        raise ValueError(
            "volume pulses need the image of the run, which gives TR and volumes. Fix: import it first"
        )
    breaks = np.flatnonzero(np.abs(np.diff(pulses) - target.tr) > min(TOLERANCE, target.tr / 4)) + 1
    trains = np.split(pulses, breaks)
    wanted = target.n_volumes
    train = min(trains, key=lambda one: abs(len(one) - wanted))
    if len(train) != wanted:
        lengths = [len(one) for one in trains]
        raise ValueError(
            f"no train of {target.n_volumes} pulses {target.tr:g} s apart; found trains of {lengths[:8]}. "
            "Fix: name the "
            "channel of the volumes, or give --start"
        )
    off = train - train[0] - target.tr * np.arange(len(train))
    return -float(train[0]), (
        f"{len(train)} volume pulses match {target.n_volumes} volumes, at most {np.abs(off).max():.3f} s "
        "beside them"
    )


def match_events(source: Source, kinds: Mapping[str, str], start: float, target: Target) -> str:
    """Return how far the event pulses lie from the events of the run.

    Raises
    ------
    ValueError
        Another number of pulses than of events, or one more than 0.1 s beside its event.
    """
    onsets = _onsets(target)
    worst = 0.0
    for name, kind in kinds.items():
        pulses, own = np.sort(pulses_of(source, name)) + start, np.sort(onsets.get(kind, np.array([])))
        if len(pulses) != len(own):
            raise ValueError(
                f"{len(pulses)} pulses of {name!r}, {len(own)} events of {kind!r}. Fix: correct --events, "
                "or the table"
            )
        worst = max(worst, float(np.abs(pulses - own).max()))
    if worst > TOLERANCE:
        raise ValueError(
            f"event pulses lie up to {worst:.3f} s beside the events, at most {TOLERANCE:g} s are allowed. "
            "Fix: correct the start, or the events"
        )
    return f"event pulses lie at most {worst:.3f} s beside the events"


def _by_events(source: Source, kinds: Mapping[str, str], target: Target) -> tuple[float, str]:
    """The start by the events alone: what brings the pulses nearest to them."""
    onsets = _onsets(target)
    moves = []
    for name, kind in kinds.items():
        pulses, own = np.sort(pulses_of(source, name)), np.sort(onsets.get(kind, np.array([])))
        if len(pulses) == len(own):
            moves += list(own - pulses)
    start = float(np.median(moves)) if moves else 0.0
    return start, match_events(source, kinds, start, target)


def _onsets(target: Target) -> dict[str, Array]:
    events = read_table(target.path("events.tsv"), required=["trial_type"], numeric=["onset"])
    return {str(kind): own["onset"].to_numpy(dtype=float) for kind, own in events.groupby("trial_type")}


def _write(
    channels: Mapping[str, SourceChannel], rate: float, start: float, target: Target, label: dict[str, str]
) -> list[Path]:
    table = target.path("physio.tsv.gz", **label)
    sidecar = target.path("physio.json", **label)
    for path in (table, sidecar):
        if path.exists():
            raise ValueError(
                f"{path} exists; nothing was overwritten. Fix: delete it, or give --recording-label"
            )
    longest = max(len(channel.samples) for channel in channels.values())
    columns = {
        name: np.pad(channel.samples, (0, longest - len(channel.samples)), constant_values=np.nan)
        for name, channel in channels.items()
    }
    text = pd.DataFrame(columns).to_csv(
        sep="\t", header=False, index=False, na_rep="n/a", float_format="%.7g"
    )
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("wb") as file, zipped(file) as stream:
        stream.write(text.encode())
    facts = {"SamplingFrequency": rate, "StartTime": round(start, 6), "Columns": list(channels)}
    units = {name: {"Units": channel.unit} for name, channel in channels.items() if channel.unit}
    sidecar.write_text(json.dumps(facts | units, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [table, sidecar]


def _write_events(source: Source, kinds: Mapping[str, str], start: float, path: Path) -> Path:
    rows = [(onset + start, 0.0, kind) for name, kind in kinds.items() for onset in pulses_of(source, name)]
    lines = [
        "onset\tduration\ttrial_type",
        *(f"{on:.4f}\t{long:g}\t{kind}" for on, long, kind in sorted(rows)),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def column_of(text: str) -> tuple[str, tuple[str, str, float | None]]:
    """Return column, channel, unit and gain of `COLUMN=CHANNEL[:UNIT[:GAIN]]`.

    Raises
    ------
    ValueError
        It is not of that form.
    """
    column, equals, rest = text.partition("=")
    parts: Sequence[str] = rest.split(":")
    try:
        gain = float(parts[2]) if len(parts) > 2 else None
    except ValueError:
        gain = None
        parts = [*parts, "", ""]
    if not (equals and column and parts[0]) or len(parts) > 3:
        raise ValueError(f"{text!r} is not COLUMN=CHANNEL[:UNIT[:GAIN]], e.g. skin_conductance=GSR:µS")
    return column, (parts[0], parts[1] if len(parts) > 1 else "", gain)
