"""The whole study file: its sections, and what they must agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from pydantic import Field, model_validator

from reconfmri.config.arms import check_arms
from reconfmri.config.catalogue import Outcome, catalogue
from reconfmri.config.connectivity import Connectivity
from reconfmri.config.filters import Filters
from reconfmri.config.first_level import FirstLevel
from reconfmri.config.group import Group
from reconfmri.config.physiology import SIGNALS, Physiology
from reconfmri.config.preprocessing import Preprocessing
from reconfmri.config.quality import QUALITY_HEADS, Quality
from reconfmri.config.rois import Rois
from reconfmri.config.scales import PROPORTION, Scale
from reconfmri.config.section import Label, Name, Section, Text, check_apart, check_free, check_known
from reconfmri.config.sessions import Session
from reconfmri.config.skin_conductance import SKIN_SCORES, Channel, SkinConductance
from reconfmri.config.tasks import WHOLE_RUN, Task, condition_names
from reconfmri.labels import is_number, spelling_fault
from reconfmri.problems import SettingError
from reconfmri.tables import MISSING

BODY_HEADS = (
    *(what for what, _ in SKIN_SCORES.values()),
    *(head for _, _, _, units in SIGNALS.values() for head in units),
)
OTHERS = (*QUALITY_HEADS, *BODY_HEADS)  # first parts of outcomes that are of no region and no scale


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


class Trunk(Section):
    """What every study file says, whether or not there are scans."""

    name: Text = Field(description="Title of the study")
    question: str = Field("", description="The question in one or two sentences; opens the report")
    seed: int = Field(1, ge=0, lt=2**32, description="Seed of every random step")
    sessions: list[Session] = Field(
        default_factory=list, description="Visits in order; none = data without sessions"
    )

    @model_validator(mode="after")
    def _sessions_differ(self) -> Self:
        ids = [session.id for session in self.sessions]
        if len(set(ids)) != len(ids):
            twice = next(label for number, label in enumerate(ids) if label in ids[:number])
            raise SettingError(
                f"sessions: the id {twice!r} is there twice",
                "delete one",
            )
        names = [session.name for session in self.sessions]
        if len(set(names)) != len(names):
            twice = next(name for number, name in enumerate(names) if name in names[:number])
            raise SettingError(
                f"sessions: two have the name {twice!r}",
                "rename one",
            )
        if fault := spelling_fault(ids, "visit"):
            raise SettingError(
                f"sessions: {fault[0]}",
                f"{fault[1]}",
            )
        days = [session.day for session in self.sessions if session.day is not None]
        if days != sorted(days):
            raise SettingError(
                f"sessions: the days {days} of {ids} go back in time",
                "list the visits in order of time, baseline first, and correct `day`",
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

    @model_validator(mode="after")
    def _no_images(self) -> TableStudy:
        if self.group.voxels:
            raise SettingError("group.voxels: a table of measures has no maps", fix="delete it")
        return self


class Study(Trunk):
    """A whole study file."""

    bids: Text = Field("bids", description="BIDS dataset, relative to the study folder")
    tasks: dict[Label, Task] = Field(min_length=1, description="BIDS task label -> its conditions")
    filters: Filters = Field(default_factory=Filters)
    preprocessing: Preprocessing = Preprocessing()
    rois: Rois
    first_level: FirstLevel | None = None
    connectivity: Connectivity | None = None
    skin_conductance: SkinConductance | None = None
    physiology: Physiology | None = None
    scales: dict[Name, Scale] = Field(
        default_factory=dict, description="phenotype/<name>.tsv -> how it is scored"
    )
    quality: Quality = Quality()
    group: Group | None = Field(None, description="The group model, or `none` for a study without arms")

    @model_validator(mode="after")
    def _hangs_together(self) -> Study:
        for part in ("first_level", "connectivity", "skin_conductance", "physiology"):
            section = getattr(self, part)
            if section is not None:
                check_known([section.task], self.tasks, f"{part}.task")
        self._check_conditions()
        self._check_confounds()
        self._check_segmentation()
        self._check_outcomes()
        for name, scale in self.scales.items():
            check_known(scale.windows, [session.id for session in self.sessions], f"scales.{name}.windows")
        if self.group:
            check_group(self.group, [session.id for session in self.sessions], self.outcome_units())
            self._check_bounds(self.group)
            self._check_voxels(self.group)
        return self

    def _check_segmentation(self) -> None:
        """Regions of people's own segmentations are there with fMRIPrep's outputs alone."""
        if self.rois.own and self.preprocessing.engine != "fmriprep":
            raise SettingError(
                f"rois.regions.{self.rois.own[0]} is of the person's own segmentation, which "
                f"`preprocessing.engine: {self.preprocessing.engine}` does not make",
                "use fMRIPrep's outputs, or labels of an atlas",
            )

    def _check_voxels(self, group: Group) -> None:
        """What is compared in every voxel has maps, and where it is searched regions."""
        if (settings := group.voxels) is None:
            return
        maps = self.first_level.maps if self.first_level else []
        check_known(settings.contrasts, maps, "group.voxels.contrasts")
        check_known(settings.regions, self.rois.names, "group.voxels.regions")
        for name in settings.regions:
            if own := sorted(self.rois.parts_of(name) & set(self.rois.own)):
                raise SettingError(
                    f"group.voxels.regions names {name!r}, and {own} differ between people",
                    "search in a region of the template",
                )

    def _check_bounds(self, group: Group) -> None:
        """What is declared to be bounded or ordinal has the ends of its scale."""
        declared = [(key, *item) for key in ("bounded", "ordinal") for item in getattr(group, key).items()]
        for key, name, ends in declared:
            outcome = self.outcomes[name]
            if outcome.producer != "scale":
                continue
            known = self.scales[outcome.what].range_of_score(outcome.condition)
            if known != ends:
                what = f"group.{key}.{name} is {list(ends)}, the scale has {list(known)}"
                raise SettingError(
                    f"{what}",
                    "correct the ends",
                )

    def _check_conditions(self) -> None:
        if self.first_level:
            task = self.tasks[self.first_level.task].windowed
            known = self._check_responses(self.first_level, task)
            for name, weights in self.first_level.contrasts.items():
                check_known(weights, known, f"first_level.contrasts.{name}")
                self.tasks[self.first_level.task].windowed.check_each_once(
                    weights, f"first_level.contrasts.{name}"
                )
            self._check_script_contrasts(self.first_level)
        for part in ("connectivity", "skin_conductance", "physiology"):
            section = getattr(self, part)
            if section is not None:
                task = self.tasks[section.task]
                task = task.windowed if part == "connectivity" else task
                whole = [WHOLE_RUN] if part == "connectivity" else []
                check_known(section.conditions, [*condition_names(task), *whole], f"{part}.conditions")
                task.check_each_once(section.conditions, f"{part}.conditions")
                baseline = getattr(section, "baseline", None)
                if isinstance(baseline, str):
                    check_known([baseline], list(task.conditions.values()), f"{part}.baseline")
        if self.connectivity:
            names = list(dict.fromkeys(self.tasks[self.connectivity.task].conditions.values()))
            for name, weights in self.connectivity.contrasts.items():
                check_known(weights, names, f"connectivity.contrasts.{name}")
            for pair in self.connectivity.pairs:
                check_known(pair, self.rois.names, "connectivity.pairs")
                if shared := sorted(set.intersection(*map(self.rois.parts_of, pair))):
                    raise SettingError(
                        f"connectivity.pairs: {list(pair)} share {shared}, expected regions without a common "
                        "part",
                        "name another region",
                    )

    def _check_responses(self, settings: FirstLevel, task: Task) -> list[str]:
        """Return what a contrast may weigh: conditions, events, windows of a course, slopes of ratings."""
        known = condition_names(task)
        for name, modulator in settings.modulators.items():
            where = f"first_level.modulators.{name}"
            check_known([modulator.condition], list(task.conditions.values()), f"{where}.condition")
            if task.events == "each" and modulator.centre != "mean":
                raise SettingError(
                    f"{where}.centre is {modulator.centre:g}, and with `events: each` every event has a "
                    "response of its own",
                    "delete it",
                )
        check_free(settings.modulators, "first_level.modulators", known)
        if settings.fir is None:
            return [*known, *settings.modulators]
        windows = [f"{name}_{window}" for name in known for window in settings.fir.windows]
        check_free(windows, "first_level.fir.windows", known)
        return [*known, *windows]

    def _check_script_contrasts(self, settings: FirstLevel) -> None:
        task = self.tasks[settings.task].windowed
        names = list(dict.fromkeys(task.conditions.values()))
        if settings.script_contrasts and task.events != "each":
            raise SettingError(
                f"first_level.script_contrasts needs a regressor per script, and tasks."
                f"{settings.task}.events is {task.events!r}",
                "`events: each`",
            )
        for name, contrast in settings.script_contrasts.items():
            check_known(contrast.weights, names, f"first_level.script_contrasts.{name}")

    def _check_confounds(self) -> None:
        for part in ("first_level", "connectivity"):
            section = getattr(self, part)
            for name in ("acompcor", "tcompcor") if section else ():
                if name in section.confounds and getattr(self.preprocessing, name) == 0:
                    raise SettingError(
                        f"{part}.confounds names {name!r}, of which preprocessing.{name} keeps 0",
                        "raise that, or leave it out here",
                    )

    def _check_outcomes(self) -> None:
        """The first part of an outcome's name says who makes it, and no two outcomes are the same numbers."""
        same: dict[str, str] = {}
        for name, region in self.rois.regions.items():
            alike = region.model_copy(update={"labels": sorted(region.labels)})
            other = same.setdefault(alike.model_dump_json(), name)
            if other != name:
                raise SettingError(
                    f"rois.regions: {other!r} and {name!r} have the same labels and threshold",
                    "delete one",
                )
        check_free(self.rois.names, "rois", OTHERS)
        _ = self.outcomes  # their names differ
        check_free(self.scales, "scales", (*OTHERS, *self.rois.names))
        check_apart([*self.rois.names, *self.scales], "rois and scales")

    @property
    def trial(self) -> Trial | None:
        """What the answers of the group model are shown with; None for a study without arms."""
        if self.group is None:
            return None
        ranges = {
            f"{name}.{score}": scale.range_of_score(score)
            for name, scale in self.scales.items()
            for score in scale.scores
        }
        return self.trial_of(self.group, self.outcome_units(), ranges)

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """Every outcome this study can produce, by its name."""
        return catalogue(self)

    @property
    def channels(self) -> list[Channel]:
        """The channels of recordings that the study scores."""
        found = []
        if (skin := self.skin_conductance) is not None:
            names = tuple(name for name, outcome in self.outcomes.items() if outcome.producer == "scr")
            found.append(
                Channel(
                    "skin_conductance",
                    "skin conductance",
                    skin.task,
                    skin.column,
                    skin.min_sampling_frequency,
                    names,
                )
            )
        return found + (self.physiology.channels if self.physiology else [])

    def outcome_units(self) -> dict[str, str]:
        """Every outcome this study can produce, with its unit."""
        return {name: outcome.unit for name, outcome in self.outcomes.items()}


def check_group(group: Group, sessions: list[str], units: Mapping[str, str]) -> None:
    """Check that a group section asks about sessions and outcomes that exist; `units` are of all outcomes.

    Raises
    ------
    ValueError
        It names what does not exist, or a unit has no scale.
    """
    check_arms(group.arms)
    check_known([group.primary.session], sessions[1:] or sessions or [MISSING], "group.primary.session")
    check_estimand(group, len(sessions))
    check_known(group.outcomes, units, "group.outcomes")
    check_known(group.exploratory, units, "group.exploratory")
    check_known(group.bounded, group.modelled, "group.bounded")
    check_known(group.ordinal, group.modelled, "group.ordinal")
    for name, twins in group.twins.items():
        check_known(twins, units, f"group.twins.{name}")
    measured = [item.measure for item in group.covariates.values() if item.measure]
    check_known(measured, units, "group.covariates")
    for name, outcomes in group.safety.items():
        check_known(outcomes, units, f"group.safety.{name}")
    for name, pair in group.associations.items():
        where = f"group.associations.{name}"
        check_known([pair.brain, pair.symptoms], group.modelled, where)
        check_known([pair.session], sessions[1:], f"{where}.session")
    for name, asked in group.prediction.items():
        where = f"group.prediction.{name}"
        check_known([asked.outcome, *asked.predictors], group.modelled, where)
        check_known([asked.session], sessions[1:], f"{where}.session")
    for name, rule in group.responders.items():
        check_known([rule.outcome], units, f"group.responders.{name}.outcome")
        if rule.loss_of_diagnosis != (units[rule.outcome] == PROPORTION):
            raise SettingError(
                f"group.responders.{name}: loss_of_diagnosis and an outcome such as `caps5.diagnosis` "
                "belong together",
                "name the one with the other",
            )
    check_known(group.rope, {units[name] for name in group.modelled}, "group.rope")
    for name, alike in group.pooled.items():
        if len(mixed := sorted({units[item] for item in alike})) > 1:
            raise SettingError(
                f"group.pooled.{name} has outcomes in {mixed}; exchangeable ones have one unit",
                "one set per unit",
            )
    missing = sorted({units[name] for name in group.modelled} - set(group.scales))
    if missing:
        raise SettingError(
            f"group.scales: no scale for the units {missing}; it has {list(group.scales)}",
            "add the SD between people that is expected in that unit",
        )
    n_draws = group.sampling.chains * group.sampling.draws
    if group.sampling.min_ess > n_draws:
        raise SettingError(
            f"group.sampling.min_ess is {group.sampling.min_ess:g}, expected at most the {n_draws} "
            "draws that are kept",
            "lower it, or raise draws",
        )


def check_estimand(group: Group, n_sessions: int) -> None:
    """Check that the primary question can be asked of so many visits, and that it is among those asked.

    Raises
    ------
    ValueError
        It names the estimand.
    """
    asked = f"group.primary.estimand is {group.primary.estimand!r}, "
    if n_sessions < 2 and group.primary.estimand != "difference_unadjusted":
        raise SettingError(
            f"{asked}which needs a visit before the one asked about, and the study has one",
            "difference_unadjusted",
        )
    if group.primary.estimand not in group.estimands:
        raise SettingError(
            f"{asked}which group.estimands lacks; it has {group.estimands}",
            "add it there",
        )
