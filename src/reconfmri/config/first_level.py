"""`first_level`: design, noise model and contrasts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from reconfmri.config.section import (
    ConfoundGroups,
    ContrastName,
    EachOnce,
    Label,
    Section,
    Weights,
    check_apart,
    check_known,
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
    ] = Field("glover", description="Haemodynamic response, in nilearn's names")
    high_pass: float = Field(
        0.008,
        ge=0,
        le=0.1,
        description="Cut-off of the cosine drifts, Hz; keep its period above two script cycles",
    )
    noise: Literal["ar1", "ols"] = Field("ar1", description="Noise model of the fit")
    confounds: ConfoundGroups = Field(
        default_factory=lambda: ["motion6", "acompcor", "non_steady_state"],
        description="Groups of nuisance columns: motion6, motion24, acompcor, tcompcor, fd, dvars, "
        "global_signal, white_matter, csf, non_steady_state, motion_outliers",
    )
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
    def _maps_exist(self) -> FirstLevel:
        check_known(self.maps, self.every_contrast, "first_level.maps")
        return self

    @property
    def every_contrast(self) -> dict[str, Weights | ScriptContrast]:
        """Contrasts of conditions and single events, then those over scripts."""
        return {**self.contrasts, **self.script_contrasts}


def contrast_label(name: str) -> str:
    """Return a contrast's name as a BIDS label: `face-scramble` -> `FaceScramble`."""
    return "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
