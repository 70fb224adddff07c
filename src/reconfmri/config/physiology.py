"""`physiology`: heart rate, respiration and EMG per script, from recordings beside the scans."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from reconfmri.config.section import EachOnce, Label, Name, Section, Share, Text
from reconfmri.config.skin_conductance import Baseline, Channel, check_baseline
from reconfmri.problems import SettingError

# Part of the section -> the kind of channel, what it is, the least sampling frequency (Hz), and its outcomes:
# first part of the name -> unit.
SIGNALS = {
    "heart_rate": ("cardiac", "heart rate", 40.0, {"hr": "bpm", "hr_change": "√bpm", "rmssd": "ms"}),
    "respiration": ("respiratory", "respiration", 5.0, {"resp": "breaths/min"}),
    "emg": ("emg", "EMG", 200.0, {"emg_change": "√µV"}),
}


class HeartRate(Section):
    """Heart rate from an ECG or a pulse."""

    column: Text | None = Field(None, description="Column of the recording; `none`: by its name")
    source: Literal["ecg", "pulse"] = Field("ecg", description="Electrocardiogram, or pulse at a finger")


class Respiration(Section):
    """Respiration rate from a belt."""

    column: Text | None = Field(None, description="Column of the recording; `none`: by its name")


class Emg(Section):
    """Rectified EMG, as of the corrugator."""

    column: Text | None = Field(None, description="Column of the recording; `none`: by its name")


class Physiology(Section):
    """Heart rate, respiration and EMG per script."""

    task: Label = Field(description="BIDS task label")
    conditions: Annotated[list[Name], EachOnce] = Field(
        min_length=1, description="Conditions or single scripts: `trauma`, `trauma_first`, ..."
    )
    baseline: Annotated[Baseline, AfterValidator(check_baseline)] = Field(
        5.0,
        description="What changes are compared with: the s before each script, or a condition whose nearest "
        "earlier event it is (Orr and Pitman)",
    )
    min_usable: Share = Field(0.5, description="A script with a smaller usable share has no value")
    heart_rate: HeartRate | None = Field(
        None,
        description="`hr` (bpm), `hr_change` (signed root of the change), `rmssd` (ms); `none`: not scored",
    )
    respiration: Respiration | None = Field(None, description="`resp` (breaths/min); `none`: not scored")
    emg: Emg | None = Field(
        None, description="`emg_change`: signed root of the change of the rectified EMG; `none`: not scored"
    )

    @model_validator(mode="after")
    def _something_is_scored(self) -> Self:
        if not self.signals:
            raise SettingError(
                "physiology scores nothing",
                f"add one of {list(SIGNALS)}, e.g. `heart_rate: {{}}`",
            )
        return self

    @property
    def signals(self) -> list[str]:
        """The parts that are asked for."""
        return [name for name in SIGNALS if getattr(self, name) is not None]

    @property
    def channels(self) -> list[Channel]:
        """Their channels, each with the outcomes that it makes."""
        found = []
        for name in self.signals:
            kind, what, slowest, units = SIGNALS[name]
            outcomes = tuple(f"{head}.{condition}" for head in units for condition in self.conditions)
            found.append(Channel(kind, what, self.task, getattr(self, name).column, slowest, outcomes))
        return found
