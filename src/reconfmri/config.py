"""The study file: every setting of a trial, checked once at the door and frozen.

Field descriptions carry unit and meaning; `config/README.md` and the JSON schema are made from them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from reconfmri import nuisance
from reconfmri.files import UnreadableError, read_text
from reconfmri.fmriprep_options import check_image, check_options
from reconfmri.labels import is_number, spelling_fault
from reconfmri.tables import MISSING

Label = Annotated[str, Field(pattern=r"^[a-zA-Z0-9+]+$", description="BIDS label: letters, digits and `+`")]
# Contrasts become the label of an entity: what is no letter or digit falls away there.
ContrastName = Annotated[
    str,
    Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$", description="letters and digits, `-` and `_`"),
]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="lower case, digits and underscores")]
Share = Annotated[float, Field(ge=0, le=1)]
Weights = dict[Name, float]
Sections = TypeVar("Sections", bound=BaseModel)


def _known_groups(groups: list[str]) -> list[str]:
    _known(groups, [*nuisance.FIXED, *nuisance.NUMBERED], "groups of confounds")
    return groups


ConfoundGroups = Annotated[list[str], AfterValidator(_known_groups)]


class Section(BaseModel):
    """A part of the study file: unknown keys are errors, nothing changes after the door."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def from_params(cls, settings: dict[str, Any]) -> Self:
        """Return the section from the `settings` of a rule, `section.model_dump(mode="json")`."""
        return cls.model_validate_json(json.dumps(settings))


class Session(Section):
    """A visit with its BIDS label, in the order of the trial; the first is the baseline."""

    id: Label = Field(description="BIDS session label, without `ses-`")
    name: str = Field(description="What the report calls it, e.g. `end of treatment`")
    day: float | None = Field(
        None,
        description="Days from baseline, as planned; left open, nothing runs before it is filled in, "
        "unless every id is a plain number",
        allow_inf_nan=False,
    )


class Task(Section):
    """How the events of one BIDS task become conditions; no conditions = rest."""

    conditions: dict[str, Name] = Field(
        default_factory=dict,
        description="trial_type in events.tsv -> condition; unnamed trial types are errors",
    )
    ignore: list[str] = Field(default_factory=list, description="trial types left out on purpose")
    column: str = Field(
        "trial_type",
        min_length=1,
        description="Column of events.tsv whose values `conditions` and `ignore` name",
    )
    min_runs: int = Field(1, ge=1, description="A session with fewer runs of this task loses those it has")
    mixed_tr: bool = Field(False, description="Allow runs of different repetition time in this task")
    max_shortfall: Share = Field(
        0.1,
        description="A run that has fewer volumes than its siblings (median of the same run elsewhere) "
        "by more than this share is out",
    )
    events: Literal["each", "condition"] = Field(
        "each",
        description="`each`: one regressor per event (scripts): `trauma_1`, `trauma_first` and their mean "
        "`trauma`; "
        "`condition`: one regressor per condition (many short events)",
    )


class Container(Section):
    """How the workflow runs fMRIPrep itself, one job per participant."""

    image: str = Field(
        min_length=1, description="Apptainer: the .sif file; Docker: name and tag, `nipreps/fmriprep:25.2.5`"
    )
    runtime: Literal["apptainer", "docker"] = Field("apptainer", description="Program that runs the image")
    fs_license: str = Field(min_length=1, description="FreeSurfer's licence file")
    templateflow: str = Field(
        min_length=1,
        description="TemplateFlow folder with MNI152NLin2009cAsym, so that no job needs a network",
    )
    work: str = Field(
        "work/fmriprep", min_length=1, description="Work directory, kept so that a job can resume"
    )
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
        except ValueError as error:
            raise ValueError(f"preprocessing.fmriprep.container.{checked}: {error}") from None
        return self


class Fmriprep(Section):
    """fMRIPrep's outputs: where they lie, and how they are made when they do not exist yet."""

    derivatives: str = Field(
        "results/fmriprep",
        min_length=1,
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
            raise ValueError(
                f'preprocessing.fmriprep.res: a container can be asked for "1" or "2" mm, got {self.res!r}'
            )
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
            raise ValueError(
                "preprocessing.engine is 'fmriprep', and nothing says where its outputs are. "
                "Fix: add preprocessing.fmriprep.derivatives, or preprocessing.fmriprep.container"
            )
        return self

    @field_validator("distortion", mode="before")
    @classmethod
    def _no_registration(cls, value: object) -> object:
        if value == "registration":
            raise ValueError(
                "undoing distortion by registration to the T1w is not offered: on a planted field it moved "
                "the rest of the brain while it improved a part (docs/distortion.md); "
                "acquire a field map, or take `none`"
            )
        return value


class Region(Section):
    """A region of interest: atlas labels whose summed probability reaches the threshold."""

    labels: list[str] = Field(min_length=1, description="Labels of the Harvard-Oxford atlas, as in its table")
    threshold: float = Field(
        0.5, gt=0, lt=1, description="Probability from which a voxel belongs to the region"
    )


class Rois(Section):
    """Regions and the pairs of sides that are reported together."""

    regions: dict[Name, Region] = Field(min_length=1, description="Name -> atlas labels and threshold")
    combined: dict[Name, list[Name]] = Field(
        default_factory=dict, description="Name without a side -> its parts, weighted by volume"
    )
    min_coverage: Share = Field(
        0.8, description="A region covered less by the run's mask is missing in that run"
    )
    min_tsnr: float | None = Field(
        None,
        gt=0,
        description="A region with a lower median temporal SNR is missing in that run; none = reported only",
    )

    @model_validator(mode="after")
    def _parts_exist(self) -> Rois:
        for name, parts in self.combined.items():
            _known(parts, self.regions, f"rois.combined.{name}")
            if name in self.regions:
                raise ValueError(f"rois.combined.{name}: a region has that name already")
        return self

    @property
    def names(self) -> list[str]:
        """All names an outcome may use: single regions, then combined ones."""
        return [*self.regions, *self.combined]


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
    maps: list[str] = Field(
        default_factory=list, description="Contrasts that also get voxelwise effect, variance and z maps"
    )
    smoothing: float = Field(
        5.0, ge=0, le=20, description="FWHM for the maps only, mm; regions are never smoothed"
    )

    @model_validator(mode="after")
    def _names_stay_apart(self) -> FirstLevel:
        labels: dict[str, str] = {}
        for name in self.contrasts:
            other = labels.setdefault(contrast_label(name), name)
            if other != name:
                raise ValueError(
                    f"first_level.contrasts: {other!r} and {name!r} would both be written to files named "
                    f"contrast-{contrast_label(name)}. Fix: rename one"
                )
        return self

    @model_validator(mode="after")
    def _maps_exist(self) -> FirstLevel:
        _known(self.maps, self.contrasts, "first_level.maps")
        return self


def contrast_label(name: str) -> str:
    """Return a contrast's name as a BIDS label: `face-scramble` -> `FaceScramble`."""
    return "".join(part.capitalize() for part in name.replace("-", "_").split("_"))


class Connectivity(Section):
    """Coupling of region pairs within conditions."""

    task: Label = Field(description="BIDS task label")
    pairs: list[tuple[Name, Name]] = Field(min_length=1, description="Pairs of regions")
    conditions: list[Name] = Field(
        min_length=1, description="Conditions (or single scripts, `trauma_first`), or `run` for a whole run"
    )
    band: tuple[float, float] = Field((0.01, 0.1), description="Band-pass, Hz")
    delay: float = Field(5.0, ge=0, le=15, description="Shift of each event by the haemodynamic delay, s")
    confounds: ConfoundGroups = Field(
        default_factory=lambda: ["motion6", "acompcor", "non_steady_state"],
        description="Groups of nuisance columns, as in first_level.confounds",
    )
    min_df: float = Field(8.0, ge=4, description="Below this many effective degrees of freedom: missing")


class SkinConductance(Section):
    """A response score per script from BIDS physio recordings."""

    task: Label = Field(description="BIDS task label")
    column: str = Field("skin_conductance", description="Column of the recording, as in its JSON `Columns`")
    window: tuple[float, float] = Field(
        (0.0, 10.0), description="Part of each script that is scored, s from its onset"
    )
    conditions: list[Name] = Field(
        min_length=1, description="Conditions or single scripts: `trauma`, `trauma_first`, ..."
    )
    min_sampling_frequency: float = Field(10.0, gt=0, description="Slower recordings are excluded, Hz")
    max_gap: float = Field(1.0, ge=0, description="Longest run of missing samples that is interpolated, s")


class Scale(Section):
    """A clinical scale in `phenotype/<tool>.tsv` with participant_id and session_id."""

    total: str = Field("total", description="Column of the total score")
    items: list[str] = Field(
        default_factory=list, description="Item columns; given, the total is recomputed and compared"
    )
    range: tuple[float, float] = Field(description="Lowest and highest possible total")
    item_range: tuple[float, float] = Field((0, 4), description="Lowest and highest possible item")
    unit: str = Field(description="Unit as in group.scales, e.g. `PCL-5 points`")


class Quality(Section):
    """Thresholds of the automatic exclusions, decided without the arms."""

    max_mean_fd: float = Field(
        0.5, gt=0, description="Mean framewise displacement above which a run is out, mm"
    )
    fd_threshold: float = Field(0.5, gt=0, description="Framewise displacement of a motion outlier, mm")
    max_outlier_share: Share = Field(0.3, description="Share of motion outliers above which a run is out")
    min_tsnr: float = Field(
        10.0, ge=0, description="Median temporal SNR in the brain below which a run is out"
    )
    max_damaged_share: Share = Field(
        0.05,
        description="Share of volumes with values that are not finite above which a run is out; up to it "
        "each such volume has a nuisance column of its own (embedded engine)",
    )
    min_volumes: int = Field(40, ge=10, description="Fewer volumes than this: the run is out")
    min_usable_time: float = Field(
        60.0, ge=0, description="Steady volumes below fd_threshold must last as long as this, s"
    )
    max_flat_share: Share = Field(
        0.05, lt=1, description="Share of brain voxels that do not vary in time above which a run is out"
    )
    max_registration_cost: float | None = Field(
        None,
        gt=0,
        le=2,
        description="Boundary cost of EPI to T1w above which a run is out; none = reported only (the engine "
        "itself refuses above 0.85)",
    )
    max_ghost: float | None = Field(
        None, gt=0, description="Ghost to signal above which a run is out; none = reported only"
    )
    max_start_excess: float | None = Field(
        None,
        gt=0,
        description="Share by which the first volume may exceed the steady state; none = reported only",
    )
    max_brain_loss: Share | None = Field(
        0.2,
        description="Share by which a run's brain mask may be smaller than in the person's other sessions; "
        "none = reported only",
    )


# Outcomes of every run's quality, with their units; `quality_units` adds those of the regions.
QUALITY_UNITS = {
    "fd.mean": "mm",
    "fd.outlier_share": "share",
    "volumes.count": "volumes",
    "volumes.usable_time": "s",
    "volumes.damaged_share": "share",
    "dvars.mean": "standardised DVARS",
    "tsnr.median": "tSNR",
    "flat.share": "share",
    "start.excess": "share",
    "start.volumes": "volumes",
    "registration.cost": "boundary cost",
    "brain.volume": "ml",
    "coverage.lowest": "share",
    "ghost.phase": "ghost to signal",
    "ghost.i": "ghost to signal",
    "ghost.j": "ghost to signal",
}


def quality_units(regions: Iterable[str]) -> dict[str, str]:
    """Every outcome of a run's quality, with its unit: those of the whole run, then coverage and tSNR."""
    units = dict(QUALITY_UNITS)
    for name in regions:
        units |= {f"coverage.{name}": "share", f"tsnr.{name}": "tSNR"}
    return units


class Arms(Section):
    """Labels of the two arms in the allocation; differences are active minus control."""

    active: str = Field(description="Label of the drug arm in allocation.tsv")
    control: str = Field(description="Label of the control arm in allocation.tsv")

    @model_validator(mode="after")
    def _differ(self) -> Arms:
        if self.active == self.control:
            raise ValueError(f"group.arms: active and control are both {self.active!r}")
        if fault := spelling_fault([self.active, self.control], "arm"):
            raise ValueError(f"group.arms: {fault[0]}. Fix: {fault[1]}")
        return self


PrimaryEstimand = Literal["difference_adjusted", "difference_unadjusted", "difference_of_change"]
Estimand = Literal[
    "difference_adjusted",
    "difference_unadjusted",
    "difference_of_change",
    "difference_average",
    "change_active",
    "change_control",
]


class Primary(Section):
    """The one primary question of the trial."""

    outcome: str = Field(description="Outcome name, `<what>.<contrast or condition>`")
    session: str = Field(
        MISSING,
        pattern=r"^([a-zA-Z0-9]+|n/a)$",
        description="BIDS session label of the primary visit; n/a in data without sessions",
    )
    estimand: PrimaryEstimand = Field("difference_adjusted", description="Estimand of the primary question")


class Attributes(Section):
    """The attributes of the primary estimand in the trial's own words (ICH E9(R1)); the report shows them."""

    population: str = Field("All randomised participants", description="Whom the answer is about")
    treatment: str = Field(min_length=1, description="The treatments compared, as they are taken")
    variable: str = Field(min_length=1, description="What is measured, in which unit, when")
    intercurrent_events: dict[str, str] = Field(
        min_length=1, description="Event after the start of treatment -> strategy, such as treatment policy"
    )
    summary: str = Field(min_length=1, description="How the arms are compared at the level of the population")


class Covariate(Section):
    """A variable known before treatment that enters the mean of every outcome."""

    column: str | None = Field(None, description="Column of participants.tsv")
    measure: str | None = Field(
        None, description="In place of a column: an outcome or quality number, at baseline, such as `fd.mean`"
    )
    kind: Literal["number", "category"] = Field(
        "number", description="`category`: a column of the model per level after the first"
    )
    slope: Literal["per_visit", "common"] = Field(
        "per_visit", description="In the models of all visits: a slope at each visit, or one for all"
    )
    missing: Literal["stop", "mean"] = Field(
        "stop",
        description="Somebody without a value: `stop` names them; `mean` gives them the mean of all, which "
        "does not bias a comparison of randomised arms (White & Thompson 2005)",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Covariate:
        if (self.column is None) == (self.measure is None):
            raise ValueError("group.covariates: give either column or measure")
        if self.column in ("participant_id", "arm", "stratum"):
            raise ValueError(f"group.covariates: the column {self.column!r} is not a covariate")
        if self.measure and self.kind == "category":
            raise ValueError("group.covariates: a measure is a number")
        return self


class Priors(Section):
    """Prior widths in multiples of the unit's scale s (group.scales)."""

    effect: float = Field(2.5, gt=0, description="SD of arm differences and their changes over visits, in s")
    mean: float = Field(5.0, gt=0, description="SD of visit means around their centre, in s")
    sd: float = Field(2.5, gt=0, description="Scale of the half-t(4) prior of the SD per visit, in s")
    between: float = Field(
        0.5, gt=0, description="Scale of the half-t(4) prior of the SD between pooled effects, in s"
    )
    flat: bool = Field(False, description="Flat priors on effects and means (sensitivity, references)")


class Sampling(Section):
    """The sampler and its gate."""

    chains: int = Field(4, ge=2, le=16, description="Chains")
    tune: int = Field(1000, ge=200, description="Warm-up draws per chain")
    draws: int = Field(1000, ge=200, description="Kept draws per chain")
    max_r_hat: float = Field(1.01, gt=1, le=1.1, description="Gate: largest R-hat over all parameters")
    min_ess: float = Field(400, ge=50, description="Gate: smallest bulk or tail effective sample size")
    max_divergences: int = Field(0, ge=0, description="Gate: divergent transitions")


DEFAULT_SCALES = {
    "percent signal change": 0.4,
    "Fisher z": 0.3,
    "ln µS": 1.0,
    "PCL-5 points": 12.0,
    "CAPS-5 points": 12.0,
    "mm": 0.2,
    "tSNR": 20.0,
}


MIN_JOINT, MAX_JOINT = 2, 5  # outcomes modelled together: up to ten pairs, each a model of its own
MIN_POOLED = 6  # exchangeable outcomes: of fewer nothing tells how far their effects lie apart


class Group(Section):
    """The one model that every outcome meets. Only group rules read this section and the allocation."""

    allocation: str = Field(
        "allocation.tsv", description="Table outside the BIDS folder: participant_id, arm, stratum"
    )
    intercurrent_events: str | None = Field(
        None,
        description="Table outside the BIDS folder: participant_id, session_id (first visit after it), "
        "event, strategy for what is missing from there on (missing_at_random, jump_to_reference, "
        "copy_reference, copy_increments, last_mean, delta) and delta; docs/group.md",
    )
    arms: Arms
    outcomes: list[str] = Field(min_length=1, description="Outcomes to model, in the order of the report")
    estimands: list[Estimand] = Field(
        default_factory=lambda: list(get_args(PrimaryEstimand)),
        min_length=1,
        description="difference_adjusted: at a later visit, adjusted for baseline; "
        "difference_unadjusted: at that visit; "
        "difference_of_change: later minus baseline, between arms; difference_average: adjusted for "
        "baseline, the mean over later visits; change_active, change_control: later minus baseline in an arm",
    )
    primary: Primary
    attributes: Attributes | None = Field(None, description="Attributes of the primary estimand, in words")
    families: dict[Name, list[str]] = Field(
        default_factory=dict,
        description="Name -> outcomes corrected together; the primary stands alone",
    )
    covariates: dict[Name, Covariate] = Field(
        default_factory=dict,
        description="Name -> variable known before treatment, in the mean model of both engines: a slope per "
        "visit, around the mean of all people",
    )
    moderators: list[str] = Field(
        default_factory=list,
        description="Those of `covariates` with which the arm difference may change",
    )
    exploratory: list[str] = Field(
        default_factory=list,
        description="Outcomes that were not declared before the data were seen: modelled like the others, in "
        "no family, labelled exploratory; what stands neither here nor in `outcomes` is not modelled",
    )
    controls: list[str] = Field(
        default_factory=list,
        description="Those of `outcomes` in which no difference is expected, such as a control region",
    )
    joint: dict[Name, dict[str, Literal["lower", "higher", "either"]]] = Field(
        default_factory=dict,
        description="Name -> 2 to 5 outcomes that are also modelled together, two by two, each with the "
        "direction of active minus control that is expected of it: gives contrasts between outcomes, their "
        "correlation and the probability that both move as expected. Each outcome alone stays the answer",
    )
    pooled: dict[Name, list[str]] = Field(
        default_factory=dict,
        description="Name -> 6 or more outcomes of one unit, declared exchangeable before the data were "
        "seen: gives the mean of their differences, their SD, and each drawn towards the mean. Secondary",
    )
    correction: Literal["holm", "benjamini_hochberg"] = Field(
        "holm", description="Of p values within a family; the randomisation test brings its own (max-T)"
    )
    level: float = Field(0.95, gt=0.5, lt=1, description="Level of intervals")
    covariance: Literal["auto", "unstructured", "random_intercept"] = Field(
        "auto",
        description="Covariance over visits in both engines. `auto`: unstructured for any number of people "
        "and visits; where that did not converge, drawn towards compound symmetry (REML), and a random "
        "intercept last; the status of the estimate names it",
    )
    permutations: int = Field(
        10_000, ge=0, description="Draws of the randomisation test, within the strata; 0 = no test"
    )
    likelihood: Literal["gaussian", "student_t"] = Field(
        "gaussian",
        description="Residuals of the Bayesian model; `student_t`: people far from the others weigh less",
    )
    spread: Literal["common", "by_arm"] = Field(
        "common",
        description="SD of a visit in both engines: alike in both arms, or one per arm (correlations are "
        "shared). `spread_p` of the Bayesian diagnostics says when arms differ",
    )
    information: Literal["observed", "expected"] = Field(
        "observed",
        description="Information about the covariance over visits that Kenward and Roger's standard errors "
        "and degrees of freedom rest on: `observed` (SAS, mmrm) holds where what is missed depends on what "
        "was seen; `expected` (pbkrtest) is a few percent short there",
    )
    rope: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Unit -> difference, up or down, that is too small to matter (region of practical "
        "equivalence); the estimates hold the posterior probability inside",
    )
    scales: dict[str, float] = Field(
        default_factory=lambda: dict(DEFAULT_SCALES),
        description="Unit -> s, the SD between people expected at the visit where they differ most; "
        "anchors the priors; never estimated with arm labels",
    )
    priors: Priors = Priors()
    sampling: Sampling = Sampling()

    @model_validator(mode="after")
    def _outcomes_declared(self) -> Group:
        _known([self.primary.outcome], self.outcomes, "group.primary.outcome")
        _known(self.controls, self.outcomes, "group.controls")
        _known(self.moderators, self.covariates, "group.moderators")
        for name, family in self.families.items():
            _known(family, self.outcomes, f"group.families.{name}")
            if name in ("primary", "exploratory"):
                raise ValueError(f"group.families.{name}: the name is taken; call the family otherwise")
        for name, together in self.joint.items():
            _known(together, self.outcomes, f"group.joint.{name}")
            if not MIN_JOINT <= len(together) <= MAX_JOINT:
                raise ValueError(
                    f"group.joint.{name} has {len(together)} outcomes; {MIN_JOINT} to {MAX_JOINT} can be "
                    "modelled together, two by two: name those whose contrast was planned"
                )
        for name, alike in self.pooled.items():
            _known(alike, self.outcomes, f"group.pooled.{name}")
            if twice := sorted({item for item in alike if alike.count(item) > 1}):
                raise ValueError(f"group.pooled.{name} names {twice} twice; name each outcome once")
            if len(alike) < MIN_POOLED:
                raise ValueError(
                    f"group.pooled.{name} has {len(alike)} outcomes; effects are pooled over "
                    f"{MIN_POOLED} or more that are exchangeable: drop the set, each is answered alone"
                )
        if both := [name for name in self.exploratory if name in self.outcomes]:
            raise ValueError(f"group.exploratory: {both} stand in group.outcomes too; keep one")
        return self

    @property
    def participant_columns(self) -> list[str]:
        """Columns of participants.tsv that are covariates."""
        return [item.column for item in self.covariates.values() if item.column]

    @property
    def modelled(self) -> list[str]:
        """Every outcome that meets the model: declared ones, then exploratory ones."""
        return [*self.outcomes, *self.exploratory]


@dataclass(frozen=True)
class Trial:
    """What the answers of the group model are shown with, whoever made the measures.

    `session_names` are in order, baseline first; `days` and `ranges` (ends of a clinical scale) hold what is
    known.
    """

    name: str
    question: str
    seed: int
    group: Group
    session_names: Mapping[str, str]
    days: Mapping[str, float]
    units: Mapping[str, str]  # of every outcome
    ranges: Mapping[str, tuple[float, float]]

    @property
    def baseline(self) -> str | None:
        """Label of the first session."""
        return next(iter(self.session_names), None)


# Entities that a file name may have, in the order of BIDS 1.11.
FILTERED = ("bold", "T1w", "events", "physio", "fmap")
FILE_ENTITIES = (
    "ses", "task", "acq", "ce", "trc", "rec", "dir", "run", "mod", "echo", "flip", "inv", "mt", "part",
    "proc", "recording", "chunk", "desc",
)  # fmt: skip


def _labels(value: object) -> object:
    entries = value if isinstance(value, list) else [value]
    if value is not None and not all(isinstance(entry, str) and entry for entry in entries):
        raise ValueError(
            f'filters: got {value!r}. Fix: a label in quotes ("2"), a list, or null: without the entity'
        )
    return value


Filter = dict[str, Annotated[str | list[str] | None, BeforeValidator(_labels)]]


class Filters(Section):
    """Which files are taken where there are several of a kind: entity -> label, list of labels or `null`.

    What fMRIPrep's `--bids-filter-file` is, in the entities of file names. `null`: the name must not have the
    entity.
    """

    bold: Filter = Field(
        default_factory=dict, description='Functional images, e.g. `{dir: AP}`, `{echo: "2"}`'
    )
    T1w: Filter = Field(
        default_factory=dict,
        description="T1-weighted images: `{acq: mprage, rec: null}` takes `acq-mprage_T1w` and leaves "
        "`acq-mprage_rec-norm_T1w`",
    )
    events: Filter = Field(default_factory=dict, description="Tables of events")
    physio: Filter = Field(default_factory=dict, description="Recordings, e.g. `{recording: eda}`")
    fmap: Filter = Field(default_factory=dict, description="Images of field maps, e.g. `{acq: bold}`")

    @model_validator(mode="after")
    def _entities_exist(self) -> Filters:
        for kind in FILTERED:
            _known(getattr(self, kind), FILE_ENTITIES, f"filters.{kind}")
        return self


class Trunk(Section):
    """What every study file says, whether or not there are scans."""

    name: str = Field(min_length=1, description="Title of the study")
    question: str = Field("", description="The question in one or two sentences; opens the report")
    seed: int = Field(1, ge=0, lt=2**32, description="Seed of every random step")
    sessions: list[Session] = Field(
        default_factory=list, description="Visits in order; none = data without sessions"
    )

    @model_validator(mode="after")
    def _sessions_differ(self) -> Self:
        ids = [session.id for session in self.sessions]
        if len(set(ids)) != len(ids):
            raise ValueError(f"sessions: an id stands twice in {ids}")
        if fault := spelling_fault(ids, "visit"):
            raise ValueError(f"sessions: {fault[0]}. Fix: {fault[1]}")
        days = [session.day for session in self.sessions if session.day is not None]
        if days != sorted(days):
            raise ValueError(
                f"sessions: the days {days} of {ids} go back in time. Fix: list the visits in order of "
                "time, baseline first, and correct `day`"
            )
        return self

    @property
    def open_days(self) -> list[str]:
        """Visits whose place in time nothing tells: `day` is open, and the labels are no plain numbers."""
        ids = [session.id for session in self.sessions]
        if len(ids) < 2 or (all(map(is_number, ids)) and ids == sorted(ids, key=float)):
            return []
        return [session.id for session in self.sessions if session.day is None]

    @property
    def session_names(self) -> dict[str, str]:
        """Session label -> what the report calls it, in order."""
        return {session.id: session.name for session in self.sessions}

    def trial_of(
        self, group: Group, units: Mapping[str, str], ranges: Mapping[str, tuple[float, float]]
    ) -> Trial:
        """Return what the answers of the group model are shown with."""
        return Trial(
            name=self.name,
            question=self.question.strip(),
            seed=self.seed,
            group=group,
            session_names=self.session_names or {MISSING: "the only visit"},
            days={session.id: session.day for session in self.sessions if session.day is not None},
            units=units,
            ranges=ranges,
        )


class TableStudy(Trunk):
    """A study file for measures from elsewhere (`reconfmri group`): what is asked, nothing of scans."""

    sessions: list[Session] = Field(min_length=1, description="Visits in order, baseline first")
    group: Group = Field(description="The group model")


class Study(Trunk):
    """A whole study file."""

    bids: str = Field("bids", description="BIDS dataset, relative to the study folder")
    tasks: dict[Label, Task] = Field(min_length=1, description="BIDS task label -> its conditions")
    filters: Filters = Field(default_factory=Filters)
    preprocessing: Preprocessing = Preprocessing()
    rois: Rois
    first_level: FirstLevel | None = None
    connectivity: Connectivity | None = None
    skin_conductance: SkinConductance | None = None
    scales: dict[Name, Scale] = Field(
        default_factory=dict, description="phenotype/<name>.tsv -> how it is scored"
    )
    quality: Quality = Quality()
    group: Group | None = Field(None, description="The group model, or `none` for a study without arms")

    @model_validator(mode="after")
    def _hangs_together(self) -> Study:
        for part in ("first_level", "connectivity", "skin_conductance"):
            section = getattr(self, part)
            if section is not None:
                _known([section.task], self.tasks, f"{part}.task")
        self._check_conditions()
        if self.group:
            check_group(self.group, [session.id for session in self.sessions], self.outcome_units())
        return self

    def _check_conditions(self) -> None:
        if self.first_level:
            known = condition_names(self.tasks[self.first_level.task])
            for name, weights in self.first_level.contrasts.items():
                _known(weights, known, f"first_level.contrasts.{name}")
        for part in ("connectivity", "skin_conductance"):
            section = getattr(self, part)
            if section is not None:
                known = [*condition_names(self.tasks[section.task]), "run"]
                _known(section.conditions, known, f"{part}.conditions")
        if self.connectivity:
            for pair in self.connectivity.pairs:
                _known(pair, self.rois.names, "connectivity.pairs")

    @property
    def trial(self) -> Trial | None:
        """What the answers of the group model are shown with; None for a study without arms."""
        if self.group is None:
            return None
        ranges = {f"{name}.total": scale.range for name, scale in self.scales.items()}
        return self.trial_of(self.group, self.outcome_units(), ranges)

    def outcome_units(self) -> dict[str, str]:
        """Every outcome this study can produce, with its unit."""
        units: dict[str, str] = {}
        if self.first_level:
            for region in self.rois.names:
                units |= {f"{region}.{name}": "percent signal change" for name in self.first_level.contrasts}
        if self.connectivity:
            for one, other in self.connectivity.pairs:
                units |= {f"{one}-{other}.{name}": "Fisher z" for name in self.connectivity.conditions}
        if self.skin_conductance:
            units |= {f"scr.{name}": "ln µS" for name in self.skin_conductance.conditions}
        units |= {f"{name}.total": scale.unit for name, scale in self.scales.items()}
        return units | quality_units(self.rois.names)


def check_group(group: Group, sessions: list[str], units: Mapping[str, str]) -> None:
    """Check that a group section asks about sessions and outcomes that exist; `units` are of all outcomes.

    Raises
    ------
    ValueError
        It names what does not exist, or a unit has no scale.
    """
    _known([group.primary.session], sessions[1:] or sessions or [MISSING], "group.primary.session")
    _known(group.outcomes, units, "group.outcomes")
    _known(group.exploratory, units, "group.exploratory")
    measured = [item.measure for item in group.covariates.values() if item.measure]
    _known(measured, units, "group.covariates")
    _known(group.rope, {units[name] for name in group.modelled}, "group.rope")
    for name, alike in group.pooled.items():
        if len(mixed := sorted({units[item] for item in alike})) > 1:
            raise ValueError(f"group.pooled.{name} has outcomes in {mixed}; exchangeable ones have one unit")
    missing = sorted({units[name] for name in group.modelled} - set(group.scales))
    if missing:
        raise ValueError(f"group.scales: no scale for the units {missing}; it has {list(group.scales)}")


def condition_names(task: Task) -> list[str]:
    """Names that a contrast may weigh: conditions and, with one regressor per event, `<name>_first`, ...."""
    names = list(dict.fromkeys(task.conditions.values()))
    if task.events == "condition":
        return names
    return [
        *names,
        *(f"{name}_first" for name in names),
        *(f"{name}_{n}" for name in names for n in range(1, 21)),
    ]


def load_study(path: str | Path) -> Study:
    """Return the checked study of a YAML file.

    Raises
    ------
    ValueError
        The file is not YAML, has a key twice or a key we do not know, a value is out of its range, or parts
        of the study contradict one another; one line per problem, each with key, value and fix.
    """
    raw = _read_yaml(path)
    try:
        return parse_config(raw)
    except ValueError as error:
        raise _naming(path, error) from None


def load_trial(path: str | Path, units: Mapping[str, str]) -> Trial | None:
    """Return what a study file asks of a table of measures; None for a study without arms.

    The file is a whole study file, or has only the keys of `TableStudy`; `units` are those of the outcomes
    in the table.

    Raises
    ------
    ValueError
        As `load_study`.
    """
    raw = _read_yaml(path)
    try:
        if not isinstance(raw, dict) or not set(raw) <= set(TableStudy.model_fields):
            return parse_config(raw).trial
        told = _parse(TableStudy, raw)
        try:
            check_group(told.group, list(told.session_names), units)
        except ValueError as error:
            raise ValueError(f"E-CONF-C04 {error}") from None
        return told.trial_of(told.group, units, {})
    except ValueError as error:
        raise _naming(path, error) from None


def _naming(path: str | Path, error: ValueError) -> ValueError:
    """The error with the file named after the code of each line."""
    lines = [line.partition(" ") for line in str(error).splitlines()]
    return ValueError("\n".join(f"{code} {path}: {text}" for code, _, text in lines))


def _read_yaml(path: str | Path) -> object:
    """What a YAML file holds, whatever it is."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise ValueError(
            f"E-CONF-C02 {path}: there is no such file. Fix: `reconfmri init` writes one"
        ) from None
    except UnreadableError as error:
        raise ValueError(f"E-CONF-C02 {path}: {error.what}. Fix: {error.fix(str(path))}") from None
    try:
        return cast(object, yaml.load(text, Loader=_StrictLoader))  # noqa: S506 - safe, refuses duplicates
    except _GivenTwice as error:
        raise ValueError(f"E-CONF-C03 {path}: {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"E-CONF-C02 {path}: not valid YAML: {_place_in_yaml(error)}") from None


def _place_in_yaml(error: yaml.YAMLError) -> str:
    """What is wrong and where; the text itself may be that of any file and is not shown."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        return "it holds characters that no YAML file may have"
    return f"{problem} at line {mark.line + 1}, column {mark.column + 1}"


def parse_config(raw: object) -> Study:
    """Return the checked study of a mapping, as read from YAML.

    Raises
    ------
    ValueError
        One line per problem: key, what is wrong, the fix.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"E-CONF-C02 the study file must be a mapping of keys, got {type(raw).__name__}")
    if "__use_yte__" in raw:
        raise ValueError("E-CONF-F06 __use_yte__: code in a study file is refused. Fix: delete the key")
    if raw.get("group") == "none":
        raw = raw | {"group": None}
    return _parse(Study, raw)


def _parse(model: type[Sections], raw: object) -> Sections:
    try:
        # Through JSON: strict about types, yet a YAML list may fill a tuple.
        return model.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        raise ValueError("\n".join(_explain(item) for item in error.errors())) from None


class UnknownNameError(ValueError):
    """A part of the study names something that does not exist."""


def _explain(item: Any) -> str:
    """One line for one pydantic error: code, key, what is wrong, what was got, the fix."""
    keys = [str(part) for part in item["loc"]]
    where = ".".join(keys) or "study"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _all_keys(Study), n=1)
        return f"E-CONF-C01 {where}: unknown key. Fix: " + (
            f"did you mean {near[0]!r}?" if near else "delete it"
        )
    if item["type"] == "missing":
        return f"E-CONF-C02 {where}: this key is missing. Fix: add it{_expectation(item['loc'])}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        code = "E-CONF-C04" if isinstance(item["ctx"]["error"], UnknownNameError) else "E-CONF-C02"
        named = message.startswith(where) or where == "study"
        return f"{code} {message}" if named else f"{code} {where}: {message}"
    got = item["input"]
    quotes = _in_quotes(got) if item["type"] == "string_type" else ""
    fix = quotes or ". Fix: correct the value"
    return f"E-CONF-C02 {where}: {message}, got {got!r}{fix}{_expectation(item['loc'])}"


def _in_quotes(got: Any) -> str:
    """The fix of a text that YAML reads as a truth value or a number."""
    if isinstance(got, bool):
        return '; YAML reads yes, no, on, off as truth values. Fix: put the label in quotes, "yes"'
    return f'. Fix: put it in quotes, "{got}"' if isinstance(got, int | float) else ""


def _expectation(loc: tuple[str | int, ...]) -> str:
    """What the key at `loc` holds, its range and an example, as far as the model tells."""
    info, model = None, cast(type[BaseModel], Study)
    for part in loc:
        if part in getattr(model, "model_fields", {}):
            info = model.model_fields[str(part)]
            model = next(iter(_sections_in(info.annotation)), Section)
    if info is None or not info.description:
        return ""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds = [f"{words[key]} {value:g}" for key, value in _bounds(info.metadata)]
    example = (
        ""
        if info.is_required() or not isinstance(info.default, str | int | float)
        else f", e.g. {info.default}"
    )
    return f"; expected: {info.description}" + (f" ({', '.join(bounds)})" if bounds else "") + example


def _bounds(metadata: list[Any]) -> list[tuple[str, float]]:
    keys = ("ge", "gt", "le", "lt")
    return [
        (key, getattr(rule, key)) for rule in metadata for key in keys if getattr(rule, key, None) is not None
    ]


def _all_keys(model: type[BaseModel]) -> list[str]:
    """Every key of a section and of the sections inside it."""
    keys: list[str] = []
    for name, info in model.model_fields.items():
        keys.append(name)
        for part in _sections_in(info.annotation):
            keys += _all_keys(part)
    return keys


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]


def _known(names: Any, known: Any, where: str) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), [str(item) for item in known], n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            listed = [str(item) for item in known if not str(item).rpartition("_")[2].isdigit()]
            raise UnknownNameError(
                f"{where} names {name!r}, which does not exist. Fix: {hint}known are {listed}"
            )


class _GivenTwice(yaml.YAMLError):
    """A key stands twice in one mapping."""


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: dict[Hashable, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise _GivenTwice(f"the key {key!r} stands on lines {seen[key]} and {line}. Fix: keep one")
        seen[key] = line
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)
