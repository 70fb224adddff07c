"""`skin_conductance`: responses to scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from reconfmri.config.section import EachOnce, Interval, Label, Name, Section, Share, Text
from reconfmri.problems import SettingError

# Score -> the first part of its outcomes' names, and the unit.
SKIN_SCORES = {
    "peak": ("scr", "ln µS"),
    "level": ("scl", "√µS"),
    "area": ("scr_area", "µS"),
    "count": ("scr_count", "responses/min"),
    "canonical": ("scr_canonical", "µS"),
    "fluctuations": ("scr_fluctuations", "responses/min"),
}
LONG_SCRIPT = 30.0  # s, from which the level says more than the peak of the first seconds
Baseline = float | Name


def _after_onset(window: tuple[float, float]) -> tuple[float, float]:
    if window[1] <= 0:
        raise SettingError(
            f"got {list(window)}, expected an end after the onset, 0 s",
            "correct the ends",
        )
    return window


def check_baseline(value: float | str) -> float | str:
    """Refuse a baseline too short to say anything.

    Raises
    ------
    ValueError
        It is shorter than a second.
    """
    if not isinstance(value, str) and not value >= 1:
        raise SettingError(
            f"got {value:g}, expected at least 1 s, or a condition",
            "correct it",
        )
    return value


@dataclass(frozen=True)
class Channel:
    """A channel of recordings that the study scores: what it is, the task, and how it is found.

    `kind` is one of `channels.KINDS`, `slowest` the least sampling frequency, Hz.
    """

    kind: str
    what: str
    task: str
    column: str | None
    slowest: float
    outcomes: tuple[str, ...]


class Artefacts(Section):
    """Which samples no score uses: the rules of PsPM (`pspm_scr_pp`)."""

    range: Interval = Field((0.05, 60.0), description="Conductance outside of it is an artefact, µS")
    max_slope: float = Field(
        10.0, gt=0, description="Steeper rises and falls of over 0.1 µS are artefacts, µS/s"
    )
    min_island: float = Field(5.0, ge=0, description="Shorter pieces between two artefacts are left out, s")
    margin: float = Field(0.5, ge=0, description="Seconds before and after an artefact that go with it")


class SkinConductance(Section):
    """Scores per script from BIDS physio recordings; the first score is the primary one."""

    task: Label = Field(description="BIDS task label")
    column: Text | None = Field(
        None,
        description="Column of the recording, as in its JSON `Columns`; `none`: by its name, then its unit",
    )
    scores: Annotated[
        list[Literal["peak", "level", "area", "count", "canonical", "fluctuations"]], EachOnce
    ] = Field(
        ["peak"],
        min_length=1,
        description="First the primary one. `level`: change of the mean from the baseline, signed square "
        "root, for "
        "scripts over 30 s (`scl.<condition>`, √µS); `peak`: ln(1 + rise) to the peak in `window` (`scr`, "
        "ln µS); "
        "`area`: mean of y - min y (`scr_area`, µS); `count`: responses of 0.05 µS or more (`scr_count`, "
        "per min); `canonical`: height of PsPM's canonical response to the onset, by a linear model of all "
        "events (`scr_canonical`, µS); `fluctuations`: spontaneous ones of 0.1 µS or more by matching "
        "pursuit (`scr_fluctuations`, per min)",
    )
    window: Annotated[Interval, AfterValidator(_after_onset)] = Field(
        (0.0, 10.0), description="Part of each script that `peak` looks at, s from its onset"
    )
    baseline: Annotated[Baseline, AfterValidator(check_baseline)] = Field(
        5.0,
        description="What `level` is compared with: the s before each script, or a condition "
        "(`baseline`), whose "
        "nearest earlier event it is (script-driven imagery by Orr and Pitman)",
    )
    conditions: Annotated[list[Name], EachOnce] = Field(
        min_length=1, description="Conditions or single scripts: `trauma`, `trauma_first`, ..."
    )
    min_sampling_frequency: float = Field(
        10.0, gt=6, description="Slower recordings are excluded, Hz; responses are looked for below 3 Hz"
    )
    max_gap: float = Field(
        1.0,
        ge=0,
        description="Longest run of unusable samples that `peak` may interpolate, s",
    )
    min_usable: Share = Field(
        0.5,
        description="A script (or its baseline) with a smaller usable share has no `level`, `area` or "
        "`count`",
    )
    artefacts: Artefacts = Artefacts()
