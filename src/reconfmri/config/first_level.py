"""`first_level`: design, noise model and contrasts."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reconfmri.config.section import (
    ConfoundGroups,
    ContrastName,
    EachOnce,
    Interval,
    Label,
    Name,
    Scrubbing,
    Section,
    Text,
    Weights,
    check_apart,
    check_known,
    check_scrubbing,
)
from reconfmri.problems import SettingError


class ScriptContrast(Section):
    """A contrast over the single scripts of a run, in which order and habituation are set apart."""

    weights: Weights = Field(min_length=1, description="Condition -> weight")
    of: Literal["mean", "first", "change"] = Field(
        "mean",
        description="`mean`: level over a condition's repetitions; `first`: at its first one; `change`: over "
        "its repetitions, as `habituation` describes it",
    )
    habituation: Literal["none", "linear", "exponential", "first_vs_rest"] = Field(
        "none",
        description="How a condition changes over its repetitions, each condition in its own way: per "
        "repetition, by exp(-repetition), or the first against the rest",
    )
    adjust: Annotated[list[Literal["first_in_run", "repetition", "position"]], EachOnce] = Field(
        default_factory=list,
        description="Terms that all conditions share: the very first script of the run, the repetition of a "
        "condition, the position in the run (linear)",
    )

    @model_validator(mode="after")
    def _quantity_is_described(self) -> ScriptContrast:
        if not any(self.weights.values()):
            raise SettingError(
                f"got {self.weights}, in which every weight is 0",
                "give a condition a weight",
            )
        if self.of == "change" and self.habituation == "none":
            raise SettingError(
                "`of: change` needs `habituation`",
                "linear, exponential or first_vs_rest",
            )
        if self.of == "first" and self.habituation == "none" and self.adjust:
            raise SettingError(
                f"`of: first` without `habituation` is the script itself, which {self.adjust} cannot be "
                "told from",
                "choose a habituation, or leave adjust out",
            )
        return self


class Fir(Section):
    """The course of the response in bins after the onset of an event, without a shape (`hrf: fir`)."""

    delays: list[float] = Field(
        min_length=2,
        description="Starts of the bins, s after the onset of an event, rising; a bin ends where the next "
        "begins, the last is as long as the one before it. None may be shorter than the TR",
    )
    windows: dict[Name, Interval] = Field(
        default_factory=dict,
        description="Name -> from, to, s after the onset: `<condition>_<name>` in a contrast is the mean "
        "over the bins that begin there; a condition without a window is the mean over all bins",
    )

    @model_validator(mode="after")
    def _bins_are_there(self) -> Fir:
        if any(later <= earlier for earlier, later in pairwise(self.delays)):
            raise SettingError(f"fir.delays: got {self.delays}, expected rising ones", "correct them")
        for name, (start, end) in self.windows.items():
            if not self.bins_from(start, end):
                raise SettingError(
                    f"fir.windows.{name}: no bin begins from {start:g} to {end:g} s; they begin at "
                    f"{self.delays}",
                    "correct the window, or add delays",
                )
        return self

    @property
    def edges(self) -> list[float]:
        """Starts of the bins and the end of the last, s after the onset."""
        return [*self.delays, 2 * self.delays[-1] - self.delays[-2]]

    def bins_from(self, start: float, end: float) -> list[float]:
        """The bins that begin from `start` to before `end`, by their starts, s."""
        return [delay for delay in self.delays if start <= delay < end]

    def bins_of(self, name: str, events: Collection[str]) -> tuple[str, list[float]] | None:
        """The event or condition and the bins that a weight is of; None where it names neither."""
        if name in events:
            return name, self.delays
        for window, (start, end) in self.windows.items():
            stem = name.removesuffix(f"_{window}")
            if stem != name and stem in events:
                return stem, self.bins_from(start, end)
        return None


class Modulator(Section):
    """A rating of single events (SUDS, vividness) that their response may rise with."""

    condition: Name = Field(description="Condition whose events are rated")
    column: Text = Field(description="Column of events.tsv that holds the ratings; n/a = not rated")
    centre: Literal["mean"] | float = Field(
        "mean",
        description="Rating at which the condition's own response is estimated: the mean of the run's rated "
        "events, or a number (with `events: condition` alone; the slope does not depend on it)",
    )
    per: float = Field(1.0, gt=0, description="Step of the rating that the slope is given for")
    min_rated: int = Field(3, ge=2, description="A run with fewer rated events of the condition has no slope")

    @property
    def unit(self) -> str:
        """The unit of the slope."""
        return f"percent signal change per {self.per:g} of {self.column}"


class FirstLevel(Section):
    """Design, noise model and contrasts of the script-driven activation."""

    task: Label = Field(description="BIDS task label")
    hrf: Literal[
        "glover",
        "spm",
        "glover + derivative",
        "spm + derivative",
        "glover + derivative + dispersion",
        "spm + derivative + dispersion",
        "fir",
    ] = Field("glover", description="Haemodynamic response, in nilearn's names; `fir` needs `fir.delays`")
    fir: Fir | None = None
    modulators: dict[Name, Modulator] = Field(
        default_factory=dict,
        description="Name -> rating of events; the name stands in `contrasts` for the slope of the response "
        "over it",
    )
    high_pass: float = Field(
        0.008,
        ge=0,
        le=0.1,
        description="Cut-off of the cosine drifts, Hz; keep its period above two script cycles",
    )
    noise: Literal["ar1", "ar2", "ar3", "ar4", "ar5", "ar6", "ols"] = Field(
        "ar1", description="Noise model of the fit: autoregression of that order, or none"
    )
    confounds: ConfoundGroups = Field(
        default_factory=lambda: ["motion6", "acompcor", "non_steady_state"],
        description="Groups of nuisance columns: motion6, motion24, acompcor, tcompcor, fd, dvars, "
        "global_signal, white_matter, csf, non_steady_state, motion_outliers",
    )
    scrubbing: Scrubbing | None = None
    contrasts: dict[ContrastName, Weights] = Field(
        min_length=1,
        description="Name (letters and digits, `-` and `_`) -> condition weights",
    )
    script_contrasts: dict[ContrastName, ScriptContrast] = Field(
        default_factory=dict,
        description="Name -> contrast over single scripts (needs `events: each` of the task) that sets order "
        "and habituation apart from condition; the report says what each costs",
    )
    maps: Annotated[list[str], EachOnce] = Field(
        default_factory=list, description="Contrasts that also get voxelwise effect, variance and z maps"
    )
    smoothing: float = Field(
        5.0, ge=0, le=20, description="FWHM for the maps only, mm; regions are never smoothed"
    )

    @model_validator(mode="after")
    def _names_stay_apart(self) -> FirstLevel:
        check_apart(self.every_contrast, "first_level.contrasts and script_contrasts")
        return self

    @model_validator(mode="after")
    def _weights_differ_from_zero(self) -> FirstLevel:
        for name, weights in self.contrasts.items():
            if not any(weights.values()):
                raise SettingError(
                    f"first_level.contrasts.{name}: got {weights}, in which every weight is 0",
                    "give a condition a weight",
                )
        return self

    @model_validator(mode="after")
    def _volumes_have_one_column(self) -> FirstLevel:
        check_scrubbing(self.scrubbing, self.confounds, "first_level")
        return self

    @model_validator(mode="after")
    def _response_is_one(self) -> FirstLevel:
        if (self.hrf == "fir") != (self.fir is not None):
            has = "is there" if self.fir else "is missing"
            raise SettingError(
                f"first_level.hrf is {self.hrf!r}, and first_level.fir {has}",
                "`hrf: fir` and `fir` belong together",
            )
        if self.fir and (self.modulators or self.script_contrasts):
            other = "modulators" if self.modulators else "script_contrasts"
            raise SettingError(
                f"first_level.{other} are of one response per event, and `hrf: fir` has one per bin",
                f"choose another hrf, or delete {other}",
            )
        return self

    @model_validator(mode="after")
    def _a_contrast_has_one_unit(self) -> FirstLevel:
        for name, weights in self.contrasts.items():
            units = {self.modulators[key].unit if key in self.modulators else "" for key in weights}
            if len(units) > 1:
                raise SettingError(
                    f"first_level.contrasts.{name}: {list(weights)} have different units",
                    "one contrast for responses, one for slopes over a rating in the same steps",
                )
        return self

    @model_validator(mode="after")
    def _maps_exist(self) -> FirstLevel:
        check_known(self.maps, self.every_contrast, "first_level.maps")
        return self

    @property
    def every_contrast(self) -> dict[str, Weights | ScriptContrast]:
        """Contrasts of conditions and single events, then those over scripts."""
        return {**self.contrasts, **self.script_contrasts}

    @property
    def rating_columns(self) -> list[str]:
        """The columns of events.tsv that hold ratings."""
        return list(dict.fromkeys(modulator.column for modulator in self.modulators.values()))

    def rated(self, contrast: str) -> bool:
        """Whether a contrast is of slopes over a rating."""
        return any(name in self.modulators for name in self.contrasts.get(contrast, {}))

    def unit_of(self, contrast: str) -> str:
        """The unit of a contrast."""
        rated = [
            self.modulators[name] for name in self.contrasts.get(contrast, {}) if name in self.modulators
        ]
        return rated[0].unit if rated else "percent signal change"


def contrast_label(name: str) -> str:
    """Return a contrast's name as a BIDS label: `face-scramble` -> `FaceScramble`."""
    return "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
