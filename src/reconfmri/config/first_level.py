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


class FirstLevel(Section):
    """Design, noise model and contrasts of the script-driven activation."""

    task: Label = Field(description="BIDS task label")
    hrf: Literal["glover", "spm", "glover + derivative", "spm + derivative"] = Field(
        "glover", description="Haemodynamic response, in nilearn's names"
    )
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
    maps: Annotated[list[str], EachOnce] = Field(
        default_factory=list, description="Contrasts that also get voxelwise effect, variance and z maps"
    )
    smoothing: float = Field(
        5.0, ge=0, le=20, description="FWHM for the maps only, mm; regions are never smoothed"
    )

    @model_validator(mode="after")
    def _names_stay_apart(self) -> FirstLevel:
        check_apart(self.contrasts, "first_level.contrasts")
        return self

    @model_validator(mode="after")
    def _weights_differ_from_zero(self) -> FirstLevel:
        for name, weights in self.contrasts.items():
            if not any(weights.values()):
                raise ValueError(
                    f"first_level.contrasts.{name}: got {weights}, in which every weight is 0. Fix: give "
                    "a condition a weight"
                )
        return self

    @model_validator(mode="after")
    def _maps_exist(self) -> FirstLevel:
        check_known(self.maps, self.contrasts, "first_level.maps")
        return self


def contrast_label(name: str) -> str:
    """Return a contrast's name as a BIDS label: `face-scramble` -> `FaceScramble`."""
    return "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
