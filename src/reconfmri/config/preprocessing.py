"""`preprocessing`: from raw images to the template grid, here or by fMRIPrep."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from reconfmri.config.section import Label, Section, Text
from reconfmri.fmriprep_options import check_image, check_options
from reconfmri.problems import SettingError


class Container(Section):
    """How the workflow runs fMRIPrep itself, one job per participant."""

    image: Text = Field(
        description="Apptainer: the .sif file; Docker: name and tag, `nipreps/fmriprep:25.2.5`"
    )
    runtime: Literal["apptainer", "docker"] = Field("apptainer", description="Program that runs the image")
    fs_license: Text = Field(description="FreeSurfer's licence file")
    templateflow: Text = Field(
        description="TemplateFlow folder with MNI152NLin2009cAsym, so that no job needs a network",
    )
    work: Text = Field("work/fmriprep", description="Work directory, kept so that a job can resume")
    options: list[str] = Field(
        default_factory=lambda: ["--slice-time-ref", "0"],
        description="More options of fMRIPrep, one word each; with `--slice-time-ref 0` a corrected volume "
        "stands for the moment it begins (fMRIPrep 20.2.4 and later)",
    )
    threads: int = Field(8, ge=1, description="Processors of a job")
    memory: int = Field(16, ge=4, description="Memory of a job, GB; every retry gets as much again")
    hours: int = Field(24, ge=1, description="Time limit of a job, h; every retry gets as much again")

    @model_validator(mode="after")
    def _command_line_is_ours(self) -> Container:
        checked = "options"
        try:
            check_options(self.options)
            checked = "image"
            check_image(self.runtime, self.image)
        except SettingError as error:
            what = f"preprocessing.fmriprep.container.{checked}: {error.what}"
            raise SettingError(what, error.fix) from None
        return self


class Fmriprep(Section):
    """fMRIPrep's outputs: where they lie, and how they are made when they do not exist yet."""

    derivatives: Text = Field(
        "results/fmriprep",
        description="fMRIPrep's output folder, from the study folder; with a container, where it writes",
    )
    res: Label | None = Field(
        None,
        description="Which `res-` where there are several, `native` for the one without; a container is "
        "asked for this one, else for 2",
    )
    allow_mixed_versions: bool = Field(
        False, description="Allow outputs that several versions of fMRIPrep made; the report names them"
    )
    container: Container | None = Field(
        None, description="The container that makes the outputs; none = they exist"
    )

    @property
    def asked_res(self) -> str:
        """The template's resolution that a container is asked for, mm."""
        return self.res or "2"

    @model_validator(mode="after")
    def _template_has_the_resolution(self) -> Fmriprep:
        if self.container and self.asked_res not in ("1", "2"):
            what = f'preprocessing.fmriprep.res: a container can be asked for "1" or "2" mm, got {self.res!r}'
            raise SettingError(what, "take one of them, in quotes")
        return self


class Preprocessing(Section):
    """From raw BIDS images to the template grid."""

    engine: Literal["embedded", "fmriprep"] = Field(
        "embedded",
        description="`embedded`: made here, by pip-installable libraries; `fmriprep`: fMRIPrep's outputs",
    )
    resolution: float = Field(
        2.0, ge=1, le=4, description="Voxel size of the template grid, mm (embedded engine)"
    )
    registration: Literal["full", "fast"] = Field(
        "full",
        description="Finest level of the T1w-to-template warp: `full` 1.5 mm, `fast` 3 mm (demos, tests; "
        "embedded engine)",
    )
    anatomy: Literal["unbiased", "baseline", "sessionwise"] = Field(
        "unbiased",
        description="Which T1w stands for a person: `unbiased` one template halfway between the T1w of all "
        "sessions, `baseline` the first one alone, `sessionwise` each session's own",
    )
    readout_time: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="TotalReadoutTime of runs and field maps whose sidecars have neither that nor "
        "EffectiveEchoSpacing, s, from the scanner protocol; none = such a field map is a fault of the run, "
        "but for two EPIs of opposite directions, which need none",
    )
    slice_timing: bool = Field(
        True, description="Bring the slices of a volume to one moment where the sidecar has SliceTiming"
    )
    distortion: Literal["auto", "none"] = Field(
        "auto",
        description="Susceptibility distortion: `auto` undoes it in runs that have a field map (an "
        "incomplete one is a fault of the run), `none` never does",
    )
    acompcor: int = Field(6, ge=0, le=20, description="aCompCor components kept in the confounds table")
    tcompcor: int = Field(6, ge=0, le=20, description="tCompCor components kept in the confounds table")
    fmriprep: Fmriprep | None = Field(None, description="fMRIPrep's outputs, for `engine: fmriprep`")

    @model_validator(mode="after")
    def _engine_is_described(self) -> Preprocessing:
        if self.engine == "fmriprep" and self.fmriprep is None:
            raise SettingError(
                "preprocessing.engine is 'fmriprep', and nothing says where its outputs are",
                "add preprocessing.fmriprep.derivatives, or preprocessing.fmriprep.container",
            )
        return self

    @field_validator("distortion", mode="before")
    @classmethod
    def _no_registration(cls, value: object) -> object:
        if value == "registration":
            raise SettingError(
                "undoing distortion by registration to the T1w is not offered: on a planted field it moved "
                "the rest of the brain while it improved a part (docs/distortion.md)",
                "acquire a field map, or take `none`",
            )
        return value
