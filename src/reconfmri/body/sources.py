"""Recordings as programs of the laboratory write them: AcqKnowledge, BrainVision, delimited text.

What is read: channels with their unit and rate, and marks by name, s from the first sample. Nothing is
guessed: a unit that the file does not give is empty.
"""

from __future__ import annotations

import codecs
import configparser
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from reconfmri.body.recordings import Array
from reconfmri.files import InputError

DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")
FORMATS = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4", "UINT_16": "<u2"}


@dataclass(frozen=True)
class SourceChannel:
    """A channel as the program wrote it: samples (n,), Hz, unit (empty where it gives none)."""

    name: str
    samples: Array
    frequency: float
    unit: str


@dataclass(frozen=True)
class Source:
    """A recording: its channels, and marks by name, s from the first sample."""

    channels: dict[str, SourceChannel]
    marks: dict[str, Array] = field(default_factory=dict)


def read_source(path: Path, *, frequency: float | None = None, columns: Sequence[str] = ()) -> Source:
    """Return a recording by the ending of its name: .acq, .vhdr, else delimited text.

    `frequency` (Hz) and `columns` are what a text cannot tell of itself.

    Raises
    ------
    ValueError
        It is no such file, or something is missing that the file does not tell.
    """
    if path.suffix.lower() == ".acq":
        return _acqknowledge(path)
    if path.suffix.lower() == ".vhdr":
        return _brainvision(path)
    return _text(path, frequency, columns)


def _acqknowledge(path: Path) -> Source:
    import bioread

    try:
        data = bioread.read_file(str(path))
    except Exception as error:  # of the reader: whatever a damaged file leads it to
        raise InputError(path, f"no AcqKnowledge file that can be read ({error})") from None
    channels = {
        channel.name: SourceChannel(
            channel.name,
            np.asarray(channel.data, dtype=float),
            float(channel.samples_per_second),
            str(channel.units or "").strip(),
        )
        for channel in data.channels
    }
    marks: dict[str, list[float]] = {}
    for marker in data.event_markers or []:
        text = str(marker.text or marker.type or "mark").strip()
        marks.setdefault(text, []).append(marker.sample_index / data.samples_per_second)
    return Source(channels, {name: np.array(times) for name, times in marks.items()})


def _brainvision(path: Path) -> Source:
    header = _ini(path)
    try:
        common = header["Common Infos"]
        orientation = common.get("DataOrientation", "MULTIPLEXED").upper()
        if common.get("DataFormat", "BINARY").upper() != "BINARY":
            raise InputError(path, "DataFormat is not BINARY. Fix: export the recording as binary")
        rate = 1e6 / float(common["SamplingInterval"])
        kind = FORMATS[header["Binary Infos"]["BinaryFormat"].upper()]
        described = [header["Channel Infos"][f"Ch{n + 1}"] for n in range(int(common["NumberOfChannels"]))]
        data = np.fromfile(path.with_name(_named(common["DataFile"], path)), dtype=kind)
    except (KeyError, OSError, ValueError) as error:
        raise InputError(path, f"no BrainVision header of this kind ({error})") from None
    n_samples = len(data) // max(len(described), 1)
    data = data[: n_samples * len(described)]
    rows = data.reshape(n_samples, -1).T if orientation == "MULTIPLEXED" else data.reshape(-1, n_samples)
    channels = {}
    for text, samples in zip(described, rows, strict=True):
        name, _, resolution, unit = (cell.replace(r"\1", ",") for cell in [*text.split(","), "", "", ""][:4])
        values = samples.astype(float) * float(resolution or 1)
        channels[name] = SourceChannel(name, values, rate, unit.strip() or "µV")
    markers = common.get("MarkerFile")
    beside = path.with_name(_named(markers, path)) if markers else None
    return Source(channels, _brainvision_marks(beside, rate) if beside else {})


def _named(name: str, header: Path) -> str:
    """A file's name in a header, in which `$b` stands for that of the header."""
    return name.strip().replace("$b", header.stem)


def _brainvision_marks(path: Path, rate: float) -> dict[str, Array]:
    marks: dict[str, list[float]] = {}
    sections = _ini(path)
    for text in sections["Marker Infos"].values() if "Marker Infos" in sections else ():
        kind, description, position = [*text.split(","), "", "", ""][:3]
        name = description.strip() or kind.strip()
        try:
            marks.setdefault(name, []).append((float(position) - 1) / rate)
        except ValueError:
            raise InputError(path, f"the mark {text!r} has no position") from None
    return {name: np.array(times) for name, times in marks.items()}


def _ini(path: Path) -> configparser.ConfigParser:
    """The sections of a BrainVision file; its first line is a title, its last section free text."""
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, comment_prefixes=(";",), delimiters=("=",)
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    text = "\n".join(_decoded(path).splitlines()[1:]).split("[Comment]")[0]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise InputError(path, f"no BrainVision file ({' '.join(str(error).split())})") from None
    return parser


def _text(path: Path, frequency: float | None, columns: Sequence[str]) -> Source:
    if frequency is None:
        raise InputError(path, "a text does not tell its sampling frequency. Fix: give --frequency, Hz")
    lines = [line for line in _decoded(path).splitlines() if not line.startswith("#")]
    if not any(map(str.strip, lines)):
        raise InputError(path, "it holds no line. Fix: export the recording again")
    separator, decimal = _format(path, lines)
    first = [cell.strip() for cell in re.split(separator, lines[0].strip())]
    has_header = pd.to_numeric(pd.Series(first).str.replace(decimal, "."), errors="coerce").notna().sum() == 0
    if has_header and (twice := sorted({name for name in first if name and first.count(name) > 1})):
        raise InputError(path, f"the header names {twice} twice. Fix: rename one of them")
    try:
        # A blank line may be a missing sample: without it all later ones would move.
        table = pd.read_csv(
            io.StringIO("\n".join(lines).rstrip() + "\n"),
            sep=separator,
            decimal=decimal,
            header=0 if has_header else None,
            na_values=["n/a"],
            index_col=False,
            skip_blank_lines=False,
        )
    except ValueError as error:
        raise InputError(path, f"no table of numbers ({error})") from None
    table = table.dropna(axis=1, how="all")
    if columns:
        if len(columns) != table.shape[1]:
            raise InputError(path, f"{table.shape[1]} columns, --columns names {len(columns)}")
        table.columns = list(columns)
    elif not has_header:
        table.columns = [f"column_{n + 1}" for n in range(table.shape[1])]
    found = {}
    for name in map(str, table.columns):
        values = pd.to_numeric(table[name], errors="coerce")
        if (texts := values.isna() & table[name].notna()).any():
            line = int(texts.to_numpy().argmax()) + 1 + has_header
            raise InputError(path, f"line {line}: column {name!r} is not a number")
        found[name] = SourceChannel(name, values.to_numpy(dtype=float), frequency, "")
    return Source(found)


def _decoded(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 with its mark, or windows-1252; it may be gzipped."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from None
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(path, f"damaged ({error})") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _names(line: str) -> bool:
    """Whether a first line names two columns or more, which tells that its comma separates them."""
    return "," in line and not DECIMAL_COMMA.fullmatch(line.strip())


def _format(path: Path, lines: Sequence[str]) -> tuple[str, str]:
    """The separator of a text and its decimal mark.

    Raises
    ------
    ValueError
        Commas could be either.
    """
    some = [line for line in lines[:50] if line.strip()]
    separator = next((mark for mark in ("\t", ";", ",") if all(mark in line for line in some)), r"\s+")
    body = some[1:] or some
    if separator == ",":
        if all(DECIMAL_COMMA.fullmatch(line.strip()) for line in body) and not _names(some[0]):
            raise InputError(
                path,
                f"{body[0].strip()!r} is one number with a decimal comma, or two. Fix: export it with "
                "decimal points, or with tabs or semicolons between the columns",
            )
        return separator, "."
    cells = [cell.strip() for line in body for cell in re.split(separator, line.strip())]
    return separator, "," if any(map(DECIMAL_COMMA.fullmatch, cells)) else "."
