"""`group`: arms, questions, priors and sampler of the group model."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from reconfmri.config.arms import MINUS, Arms
from reconfmri.config.associations import Association, Prediction
from reconfmri.config.responders import Responder
from reconfmri.config.section import EachOnce, Interval, Name, Section, TakenNameError, Text, check_known
from reconfmri.config.voxels import Voxels
from reconfmri.problems import SettingError
from reconfmri.tables import MISSING

DEFAULT_SCALES = {
    "percent signal change": 0.4,
    "Fisher z": 0.3,
    "PPI slope": 0.3,
    "ln percent SD": 0.4,
    "ln µS": 1.0,
    "√µS": 0.5,
    "µS": 0.3,
    "responses/min": 5.0,
    "bpm": 8.0,
    "√bpm": 1.5,
    "ms": 20.0,
    "breaths/min": 3.0,
    "√µV": 1.0,
    "PCL-5 points": 12.0,
    "CAPS-5 points": 12.0,
    "mm": 0.2,
    "tSNR": 20.0,
}
MIN_JOINT, MAX_JOINT = 2, 5  # outcomes modelled together: up to ten pairs, each a model of its own
MIN_PERMUTATIONS = 100
MIN_TWINS = 2
OF_TWO_ARMS = (
    *("moderators", "pooled", "joint", "bounded", "voxels", "intercurrent_events"),
    *("associations", "prediction", "ordinal"),
)
MIN_POOLED = 6  # exchangeable outcomes: of fewer nothing tells how far their effects lie apart


Outcomes = Annotated[list[Text], EachOnce]


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

    outcome: Text = Field(description="Outcome name, `<what>.<contrast or condition>`")
    session: str = Field(
        MISSING,
        pattern=r"^([a-zA-Z0-9+]+|n/a)$",
        description="BIDS session label of the primary visit; n/a in data without sessions",
    )
    estimand: PrimaryEstimand = Field("difference_adjusted", description="Estimand of the primary question")
    comparison: Annotated[list[Text], Field(min_length=2, max_length=2)] | Literal["dose trend"] | None = (
        Field(
            None,
            description="With several active arms: the pair, [arm, minus arm], or `dose trend`, that the "
            "primary question is about; two arms have one comparison",
        )
    )

    @property
    def compared(self) -> str:
        """The name of the comparison; empty where there are two arms."""
        return self.comparison if isinstance(self.comparison, str) else MINUS.join(self.comparison or [])


class Attributes(Section):
    """The attributes of the primary estimand in the trial's own words (ICH E9(R1)); the report shows them."""

    population: Text = Field("All randomised participants", description="Whom the estimate is about")
    treatment: Text = Field(description="The treatments compared, as they are taken")
    variable: Text = Field(description="What is measured, in which unit, when")
    intercurrent_events: dict[Text, Text] = Field(
        min_length=1, description="Event after the start of treatment -> strategy, such as treatment policy"
    )
    summary: Text = Field(description="How the arms are compared at the level of the population")


class Covariate(Section):
    """A variable known before treatment that enters the mean of every outcome."""

    column: Text | None = Field(None, description="Column of participants.tsv")
    measure: Text | None = Field(
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
            raise SettingError(
                "group.covariates: give either column or measure",
                "delete or add one",
            )
        if self.column in ("participant_id", "arm", "stratum"):
            raise SettingError(
                f"group.covariates: the column {self.column!r} is not a covariate",
                "name another column",
            )
        if self.measure and self.kind == "category":
            raise SettingError(
                "group.covariates: a measure is a number",
                "delete `kind: category`",
            )
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
    tune: int = Field(1000, ge=200, le=100_000, description="Warm-up draws per chain")
    draws: int = Field(1000, ge=200, le=100_000, description="Kept draws per chain")
    max_r_hat: float = Field(1.01, gt=1, le=1.1, description="Gate: largest R-hat over all parameters")
    min_ess: float = Field(400, ge=50, description="Gate: smallest bulk or tail effective sample size")
    max_divergences: int = Field(0, ge=0, description="Gate: divergent transitions")


class Group(Section):
    """The one model that every outcome meets. Only group rules read this section and the allocation."""

    allocation: Text = Field(
        "allocation.tsv", description="Table outside the BIDS folder: participant_id, arm, stratum"
    )
    intercurrent_events: Text | None = Field(
        None,
        description="Table outside the BIDS folder: participant_id, session_id (first visit after it), "
        "event, strategy for what is missing from there on (missing_at_random, jump_to_reference, "
        "copy_reference, copy_increments, last_mean, delta) and delta; docs/group.md",
    )
    arms: Arms
    blinding: Literal["open", "coded"] = Field(
        "open",
        description="`coded`: results show the arms as A and B, by a draw of `reconfmri blind`, until "
        "`reconfmri unblind`, which needs a lock; `open`: by their names",
    )
    outcomes: Outcomes = Field(min_length=1, description="Outcomes to model, in the order of the report")
    estimands: Annotated[list[Estimand], EachOnce] = Field(
        default_factory=lambda: list(get_args(PrimaryEstimand)),
        min_length=1,
        description="difference_adjusted: at a later visit, adjusted for baseline; "
        "difference_unadjusted: at that visit; "
        "difference_of_change: later minus baseline, between arms; difference_average: adjusted for "
        "baseline, the mean over later visits; change_active, change_control: later minus baseline in an arm",
    )
    primary: Primary
    attributes: Attributes | None = Field(None, description="Attributes of the primary estimand, in words")
    families: dict[Name, Annotated[Outcomes, Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Name -> outcomes corrected together; the primary stands alone",
    )
    covariates: dict[Name, Covariate] = Field(
        default_factory=dict,
        description="Name -> variable known before treatment, in the mean model of both engines: a slope per "
        "visit, around the mean of all people",
    )
    moderators: Annotated[list[str], EachOnce] = Field(
        default_factory=list,
        description="Those of `covariates` with which the arm difference may change",
    )
    exploratory: Outcomes = Field(
        default_factory=list,
        description="Outcomes that were not declared before the data were seen: modelled like the others, in "
        "no family, labelled exploratory; what stands neither here nor in `outcomes` is not modelled",
    )
    controls: Outcomes = Field(
        default_factory=list,
        description="Those of `outcomes` in which no difference is expected, such as a control region",
    )
    joint: dict[Name, dict[str, Literal["lower", "higher", "either"]]] = Field(
        default_factory=dict,
        description="Name -> 2 to 5 outcomes that are also modelled together, two by two, each with the "
        "direction of active minus control that is expected of it: gives contrasts between outcomes, their "
        "correlation and the probability that both move as expected. Each outcome alone stays the result",
    )
    pooled: dict[Name, Outcomes] = Field(
        default_factory=dict,
        description="Name -> 6 or more outcomes of one unit, declared exchangeable before the data were "
        "seen: gives the mean of their differences, their SD, and each drawn towards the mean. Secondary",
    )
    twins: dict[Name, Outcomes] = Field(
        default_factory=dict,
        description="Name -> 2 or more outcomes that estimate one thing in different ways, the one that "
        "counts first, such as connectivity by correlation and by generalised PPI: one table of the arm "
        "differences says where they disagree. None of them need be in `outcomes`",
    )
    responders: dict[Name, Responder] = Field(
        default_factory=dict,
        description="Name -> rule of response, compared between the arms at every later session, with the "
        "time to the first response and to relapse",
    )
    associations: dict[Name, Association] = Field(
        default_factory=dict,
        description="Name -> two outcomes of the same people, such as brain and symptoms: how their changes "
        "go together, what the one says of the other",
    )
    prediction: dict[Name, Prediction] = Field(
        default_factory=dict,
        description="Name -> an outcome that brain measures at baseline are asked to predict",
    )
    bounded: dict[Text, Interval] = Field(
        default_factory=dict,
        description="Outcome -> its lowest and highest value, in whole steps: also modelled by a bounded "
        "likelihood, as a sensitivity of the Gaussian models; replicated trials keep inside of them",
    )
    ordinal: dict[Text, Interval] = Field(
        default_factory=dict,
        description="Outcome -> its lowest and highest value, in whole steps: also modelled as ordered "
        "categories (cumulative logit), as a sensitivity of the Gaussian models",
    )
    safety: dict[Name, Outcomes] = Field(
        default_factory=dict,
        description="Name -> outcomes in order of time, such as ratings at several minutes or vital signs: "
        "shown by arm and session, not modelled",
    )
    voxels: Voxels | None = Field(
        None,
        description="Contrasts whose maps are compared between the arms in every voxel (docs/voxels.md), or "
        "none",
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
        10_000,
        ge=0,
        le=10_000_000,
        description="Draws of the randomisation test, within the strata; 0 = no test",
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
    rope: dict[Text, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Unit -> difference, up or down, that is too small to matter (region of practical "
        "equivalence); the estimates hold the posterior probability inside",
    )
    scales: dict[Text, Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: dict(DEFAULT_SCALES),
        description="Unit -> s, the SD between people expected at the visit where they differ most; "
        "anchors the priors; never estimated with arm labels",
    )
    priors: Priors = Priors()
    sampling: Sampling = Sampling()

    @model_validator(mode="after")
    def _outcomes_declared(self) -> Group:
        check_known([self.primary.outcome], self.outcomes, "group.primary.outcome")
        check_known(self.controls, self.outcomes, "group.controls")
        check_known(self.moderators, self.covariates, "group.moderators")
        if self.primary.outcome in self.controls:
            raise SettingError(
                f"group.controls names {self.primary.outcome!r}, the outcome of the primary question",
                "take it out, or ask about another outcome",
            )
        for key, declared in (("bounded", self.bounded), ("ordinal", self.ordinal)):
            for name, (low, high) in declared.items():
                if not (high - low).is_integer():
                    raise SettingError(
                        f"group.{key}.{name}: {low:g} to {high:g} is no number of whole steps",
                        "correct the ends",
                    )
        if both := [name for name in self.exploratory if name in self.outcomes]:
            raise SettingError(
                f"group.exploratory: {both} are in group.outcomes too",
                "keep one",
            )
        return self

    @model_validator(mode="after")
    def _test_has_draws_and_events_their_table(self) -> Group:
        if 0 < self.permutations < MIN_PERMUTATIONS:
            raise SettingError(
                f"group.permutations: got {self.permutations}, expected 0 (no test) or at least "
                f"{MIN_PERMUTATIONS}, for p values that can be small",
                "correct the value",
            )
        if self.intercurrent_events == self.allocation:
            raise SettingError(
                f"group.intercurrent_events: {self.allocation!r} is the allocation",
                "name another table",
            )
        return self

    @model_validator(mode="after")
    def _sets_hold_outcomes(self) -> Group:
        family_of: dict[str, str] = {}
        for name, family in self.families.items():
            check_known(family, self.outcomes, f"group.families.{name}")
            if name in ("primary", "exploratory"):
                raise TakenNameError(
                    f"group.families.{name}: the name is taken",
                    "rename the family",
                )
            for outcome in family:
                if (other := family_of.setdefault(outcome, name)) != name:
                    raise SettingError(
                        f"group.families.{name} names {outcome!r}, which is in the family {other!r} too",
                        "take it out of one, a p value is corrected within one family",
                    )
        for name, together in self.joint.items():
            check_known(together, self.outcomes, f"group.joint.{name}")
            if not MIN_JOINT <= len(together) <= MAX_JOINT:
                raise SettingError(
                    f"group.joint.{name} has {len(together)} outcomes; {MIN_JOINT} to {MAX_JOINT} can be "
                    "modelled together, two by two",
                    "name those whose contrast was planned",
                )
        for name, twins in self.twins.items():
            if len(twins) < MIN_TWINS:
                raise SettingError(
                    f"group.twins.{name} has {len(twins)} outcome, expected {MIN_TWINS} or more",
                    "name what it is compared with, or delete the set",
                )
        for name, alike in self.pooled.items():
            check_known(alike, self.outcomes, f"group.pooled.{name}")
            if len(alike) < MIN_POOLED:
                raise SettingError(
                    f"group.pooled.{name} has {len(alike)} outcomes; effects are pooled over {MIN_POOLED} or "
                    "more that are exchangeable",
                    "drop the set, each outcome is modelled alone",
                )
        return self

    @model_validator(mode="after")
    def _several_arms(self) -> Group:
        """What the primary question compares, and what no model of more than two arms answers."""
        asked, arms = self.primary.comparison, self.arms
        if not arms.several:
            if asked is not None:
                raise SettingError("group.primary.comparison: two arms have one comparison", "delete it")
            return self
        if refused := [key for key in OF_TWO_ARMS if getattr(self, key)]:
            raise SettingError(
                f"group.{refused[0]} is worked out for two arms, and group.arms has {len(arms.labels)}",
                "delete it, or compare two arms",
            )
        known = [one.name for one in arms.every_comparison]
        if self.primary.compared not in known:
            what = f"is {asked}" if asked else "is open"
            raise SettingError(
                f"group.primary.comparison {what}, and {len(arms.labels)} arms have the comparisons {known}",
                f"name one, e.g. {[arms.actives[-1], arms.control]}",
            )
        return self

    @model_validator(mode="after")
    def _covariates_differ(self) -> Group:
        sources: dict[tuple[str | None, str | None], str] = {}
        for name, item in self.covariates.items():
            if (other := sources.setdefault((item.column, item.measure), name)) != name:
                raise SettingError(
                    f"group.covariates.{name} is the variable of group.covariates.{other}",
                    "delete one",
                )
        return self

    @property
    def participant_columns(self) -> list[str]:
        """Columns of participants.tsv that are covariates."""
        return [item.column for item in self.covariates.values() if item.column]

    @property
    def modelled(self) -> list[str]:
        """Every outcome that meets the model: declared ones, then exploratory ones."""
        return [*self.outcomes, *self.exploratory]
