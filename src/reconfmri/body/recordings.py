"""The samples of a recording on the clock of the scanner, whenever it began and however long it is."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from reconfmri.channels import CODE, Description, describe_recording
from reconfmri.exclusions import DataFault
from reconfmri.files import UnreadableError, refuse_unreadable
from reconfmri.gzipped import DAMAGED, unzipped

Array = npt.NDArray[np.float64]
Dtype = TypeVar("Dtype", bound=np.generic)
TRIGGER_TOLERANCE = 0.1  # of a volume


@dataclass(frozen=True)
class Recording:
    """The samples (n,) of one channel, NaN where missing, on the clock of the scanner."""

    samples: Array
    frequency: float  # Hz
    start: float  # s from the first volume
    name: str  # of the file

    @property
    def end(self) -> float:
        """End of the recording, s from the first volume."""
        return self.start + len(self.samples) / self.frequency

    def gaps(self, longest: float = 0.0) -> list[tuple[float, float]]:
        """Return start and end, s from the first volume, of the runs of missing samples over `longest` s."""
        return [
            (one, other)
            for one, other in spans(~np.isfinite(self.samples), self.frequency, self.start)
            if other - one > longest
        ]


def spans(where: npt.NDArray[np.bool_], frequency: float, start: float = 0.0) -> list[tuple[float, float]]:
    """Return start and end, s, of the runs of True."""
    return [
        (float(one / frequency + start), float(other / frequency + start)) for one, other in runs_of(where)
    ]


def runs_of(where: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the runs of True, (n, 2): the first sample of each, and the one after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2)


def read_recording(path: Path, described: Description) -> Recording:
    """Return one channel of a recording in the first unit of its kind.

    Raises
    ------
    DataFault
        The file is no table of numbers with the columns of its JSON.
    """
    samples = described.scale * _read_column(path, described.n_columns, described.place)
    return Recording(samples, described.frequency, described.start, path.name)


def trigger_fault(path: Path, sidecar: Mapping[str, Any], tr: float) -> list[DataFault]:
    """Return a remark where the trigger's pulses lie beside the volumes by more than a tenth of a volume."""
    mismatch = trigger_mismatch(path, sidecar)
    if mismatch is None or abs(mismatch) <= TRIGGER_TOLERANCE * tr:
        return []
    reason = f"the pulse of the trigger nearest to the first volume lies at {mismatch:+.3f} s by StartTime"
    fix = "correct StartTime; no action is needed if the pulses are not those of the volumes"
    return [DataFault("W-DATA-B15", reason, fix=fix, file=path.name)]


def trigger_mismatch(path: Path, sidecar: Mapping[str, Any]) -> float | None:
    """Return how far, s, the volume pulses of the trigger column lie from the volumes by StartTime.

    The pulse nearest to the first volume is compared; None without a trigger column or without pulses.
    """
    try:
        described = describe_recording(sidecar, "trigger", path.name)
    except DataFault:
        return None
    recording = read_recording(path, described)
    onsets = pulse_onsets(recording.samples) / recording.frequency + recording.start
    if not len(onsets):
        return None
    return float(onsets[np.abs(onsets).argmin()])


def pulse_onsets(samples: Array) -> Array:
    """Return where (in samples) the pulses of a two-level channel begin: each rise over half of its range."""
    known = np.nan_to_num(samples, nan=float(np.nanmin(samples)) if np.isfinite(samples).any() else 0.0)
    if not len(known) or np.ptp(known) == 0:
        return np.array([])
    # Pulses are the rarer level: a channel that rests high falls at a pulse.
    high = known > (known.max() + known.min()) / 2
    if high.mean() > 0.5:
        high = ~high
    return np.flatnonzero(np.diff(np.concatenate([[False], high]).astype(np.int8)) == 1).astype(float)


def _read_column(path: Path, n_columns: int, which: int) -> Array:
    fix = "copy the recording again"
    try:
        refuse_unreadable(path)
        try:
            return _read_numbers(path, n_columns, which)
        except ValueError:
            table = _read_cells(path)
    except UnreadableError as error:
        raise DataFault(CODE, error.what, fix=error.fix(path.name), file=path.name) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, ValueError, *DAMAGED) as error:
        raise DataFault(CODE, f"unreadable ({error})", fix=fix, file=path.name) from None
    if table.shape[1] != n_columns:
        reason = f"{table.shape[1]} columns, its JSON names {n_columns}"
        raise DataFault(CODE, reason, fix="correct `Columns` in its JSON", file=path.name)
    samples = pd.to_numeric(table[which], errors="coerce")
    texts = table[which].notna() & samples.isna()
    if texts.any():
        reason = f"line {int(texts.to_numpy().argmax()) + 1} is not a number (a recording has no header)"
        raise DataFault(CODE, reason, fix="delete the header", file=path.name)
    return samples.to_numpy(dtype=float)


def _read_numbers(path: Path, n_columns: int, which: int) -> Array:
    """One column of a table that holds nothing but numbers and n/a: the other columns are not parsed.

    Raises
    ------
    ValueError
        It has other cells, or another number of columns in its first line.
    """
    with path.open("rb") as file, unzipped(file, path) as stream:
        first = stream.readline().decode("utf-8-sig")
        if first.count("\t") != n_columns - 1:
            raise ValueError("another number of columns")
        stream.seek(0)
        table = pd.read_csv(
            stream, sep="\t", header=None, usecols=[which], names=list(range(n_columns)), dtype=np.float64,
            na_values=["n/a"], skip_blank_lines=False, engine="c", index_col=False,
        )  # fmt: skip
    return table[which].to_numpy()


def _read_cells(path: Path) -> pd.DataFrame:
    with path.open("rb") as file, unzipped(file, path) as stream:
        return pd.read_csv(stream, sep="\t", header=None, na_values=["n/a"], encoding="utf-8-sig")


def thinned(samples: npt.NDArray[Dtype], frequency: float, rate: float) -> tuple[npt.NDArray[Dtype], float]:
    """Return a series (n,), below 3 Hz, at about `rate` where it is faster, and what its rate is then."""
    factor = max(int(frequency // rate), 1)
    return samples[::factor], frequency / factor
