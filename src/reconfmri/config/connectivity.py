"""`connectivity`: connectivity of pairs of regions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from reconfmri.config.section import (
    ConfoundGroups,
    ContrastName,
    EachOnce,
    Interval,
    Label,
    Name,
    Scrubbing,
    Section,
    TakenNameError,
    Weights,
    check_apart,
    check_scrubbing,
)
from reconfmri.problems import SettingError

Estimator = Literal["gppi", "partial_ppi", "beta_series"]
DEFAULT: tuple[Estimator, ...] = ("gppi", "partial_ppi")
FISHER, SLOPE, SPREAD = "Fisher z", "PPI slope", "ln percent SD"
CORRELATION = "correlation"
# How the outcome of an estimator begins after the dot, and its unit.
ESTIMATORS = {
    CORRELATION: ("", FISHER),
    "gppi": ("gppi_", SLOPE),
    "partial_ppi": ("partial_", FISHER),
    "beta_series": ("beta_", FISHER),
}
SD = "sd_"  # the same of the SD of a region within a condition


def _different_pairs(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    for number, pair in enumerate(pairs):
        if pair[0] == pair[1]:
            raise SettingError(
                f"{list(pair)} is a region with itself, expected two",
                "name another region",
            )
        if any(set(pair) == set(other) for other in pairs[:number]):
            raise SettingError(
                f"{list(pair)} is there twice, in whichever order",
                "delete one",
            )
    return pairs


def _frequencies(band: tuple[float, float]) -> tuple[float, float]:
    if band[0] < 0:
        raise SettingError(
            f"got {list(band)}, expected at least 0 Hz",
            "correct the lower end",
        )
    return band


class Coupled(NamedTuple):
    """One outcome of a pair: what is estimated, in which condition or contrast, its name after the dot."""

    pair: tuple[str, str]
    condition: str
    estimator: str

    @property
    def spelled(self) -> str:
        """The outcome's name after the dot."""
        return ESTIMATORS[self.estimator][0] + self.condition

    @property
    def unit(self) -> str:
        """The outcome's unit."""
        return ESTIMATORS[self.estimator][1]


class Connectivity(Section):
    """Connectivity of region pairs within conditions."""

    task: Label = Field(description="BIDS task label")
    pairs: Annotated[list[tuple[Name, Name]], AfterValidator(_different_pairs)] = Field(
        min_length=1, description="Pairs of regions"
    )
    conditions: Annotated[list[Name], EachOnce] = Field(
        min_length=1, description="Conditions (or single scripts, `trauma_first`), or `run` for a whole run"
    )
    contrasts: dict[ContrastName, Weights] = Field(
        default_factory=dict,
        description="Name -> weights of conditions: differences of connectivity, by the correlation within "
        "conditions and by every one of `estimators`",
    )
    estimators: Annotated[list[Estimator], EachOnce] = Field(
        default_factory=lambda: list(DEFAULT),
        description="Of contrasts, beside the correlation: `gppi`, generalised PPI of deconvolved signals "
        "(the first region of a pair is the seed); `partial_ppi`, partial correlation of interactions; "
        "`beta_series`, correlation over the estimates of single events, of which a condition needs ten",
    )
    task_model: Literal["bins", "events"] = Field(
        "bins",
        description="The mean response to the task that is taken out of both regions. `bins`: each condition "
        "in stretches of `bin` s, alike in all its presentations, and a box per presentation (with `events: "
        "each`); `events`: the regressors of the task, which leave a response that falls within a script or "
        "over scripts in both regions, where it looks like connectivity",
    )
    bin: float = Field(10.0, ge=1, le=60, description="Length of a stretch of the task model, s")
    hrf: Literal["glover", "spm"] = Field(
        "glover", description="Haemodynamic response of the task model and of deconvolution"
    )
    band: Annotated[Interval, AfterValidator(_frequencies)] = Field((0.01, 0.1), description="Band-pass, Hz")
    delay: float = Field(5.0, ge=0, le=15, description="Shift of each event by the haemodynamic delay, s")
    confounds: ConfoundGroups = Field(
        default_factory=lambda: ["motion6", "acompcor", "non_steady_state"],
        description="Groups of nuisance columns, as in first_level.confounds",
    )
    scrubbing: Scrubbing | None = None
    min_df: float = Field(8.0, ge=4, description="Below this many effective degrees of freedom: missing")

    @model_validator(mode="after")
    def _volumes_have_one_column(self) -> Connectivity:
        check_scrubbing(self.scrubbing, self.confounds, "connectivity")
        return self

    @model_validator(mode="after")
    def _names_stay_apart(self) -> Connectivity:
        check_apart([*self.conditions, *self.contrasts], "connectivity.conditions and contrasts")
        prefixes = (*(prefix for prefix, _ in ESTIMATORS.values() if prefix), SD)
        for name in (*self.conditions, *self.contrasts):
            if name.startswith(prefixes):
                raise TakenNameError(
                    f"connectivity: {name!r} begins like an outcome of the workflow's own "
                    f"({', '.join(prefixes)})",
                    "rename the condition or the contrast",
                )
        for name, weights in self.contrasts.items():
            if not any(weights.values()):
                raise SettingError(
                    f"connectivity.contrasts.{name}: got {weights}, in which every weight is 0",
                    "give a condition a weight",
                )
        return self

    @property
    def coupled(self) -> Iterator[Coupled]:
        """Every outcome of the pairs, pair by pair: conditions, then contrasts by every estimator."""
        for pair in self.pairs:
            for condition in self.conditions:
                yield Coupled(pair, condition, CORRELATION)
            for contrast in self.contrasts:
                for estimator in (CORRELATION, *self.estimators):
                    yield Coupled(pair, contrast, estimator)

    @property
    def regions(self) -> list[str]:
        """The regions of the pairs, each once."""
        return list(dict.fromkeys(name for pair in self.pairs for name in pair))

    @property
    def windows(self) -> list[str]:
        """Conditions that are asked for or weighed by a contrast, each once."""
        weighed = (name for weights in self.contrasts.values() for name in weights)
        return list(dict.fromkeys([*self.conditions, *weighed]))
