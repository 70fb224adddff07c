"""The person x visit grid: measures and allocation, checked once, as one array per outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.config import DEFAULT_SCALES, Estimand, Group
from reconfmri.covariates import CODE, Column, columns_of
from reconfmri.exclusions import COLUMNS, Exclusion
from reconfmri.group.estimands import Array, NotEstimableError, Question
from reconfmri.labels import first_of, in_order, refuse_alike

STAGE, OTHER_ARM, NO_ARM = "compare_arms", "E-STAT-C05", "E-STAT-C06"
NO_SESSION = NO_STRATUM = "n/a"
KEY = ["participant_id", "session_id", "outcome"]
ALL_EXPLAINED = 0.99  # share of the arm's variance: what is left of it is a few people's chance
LARGEST, SMALLEST = 1e50, 1e-50  # of which squares can be added and compared
SEE_VALUES = "look at its rows of measures.tsv and at what made them"


@dataclass(frozen=True)
class Outcome:
    """One outcome of all randomised people; nothing of it is dropped or filled."""

    name: str
    domain: str
    unit: str
    scale: float
    values: Array
    arm: (
        NDArray[np.intp] | NDArray[np.bool_]
    )  # (n_people,), 0 is the control; two arms: True is the active one
    fault: str = ""
    people: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()  # of covariates
    ses: Array | None = None  # (n_people, n_visits), standard errors of the values; None where one is missing
    decided: tuple[int, ...] | None = None  # visits of the model, where they do not follow from the values
    arms: tuple[str, ...] = ("control", "active")  # what they are called, in sentences
    baselines: tuple[int, ...] = (0,)  # visits before treatment: one, or one per outcome stacked side by side

    @property
    def adjusted_for(self) -> Array:
        """(n_people, n_covariates): the covariates in SDs around their mean; no column without any."""
        return np.hstack([np.zeros((len(self.arm), 0)), *(c.values[:, None] for c in self.columns)])

    @property
    def active(self) -> NDArray[np.bool_]:
        """(n_people,): who is in the active arm of two.

        Raises
        ------
        NotEstimableError
            There are more arms: what asks for this compares two, and must not take any two of them for all.
        """
        if len(self.arms) > 2:
            raise NotEstimableError(f"this compares two arms, and there are {len(self.arms)}")
        return np.asarray(self.arm == 1)

    def in_arm(self, arm: int) -> NDArray[np.bool_]:
        """(n_people,): who is in an arm, by place; 0 is the control."""
        return np.asarray(self.arm == arm)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(n_people, n_visits): where there is a measurement."""
        return ~np.isnan(self.values)

    def counts(self, visit: int) -> tuple[int, int]:
        """People with a value at the visit: active arm, control arm, of two."""
        seen = self.seen[:, visit]
        return int((seen & self.active).sum()), int((seen & ~self.active).sum())

    def per_arm(self, visit: int) -> tuple[int, ...]:
        """People with a value at the visit in every arm, the control first."""
        return self.people_of(self.seen[:, visit])

    def people_of(self, some: NDArray[np.bool_]) -> tuple[int, ...]:
        """How many of some people, a mask (n_people,), are in every arm, the control first."""
        return tuple(int((some & self.in_arm(arm)).sum()) for arm in range(len(self.arms)))

    def sides_of(self, question: Question, people: Sequence[int]) -> tuple[int, int]:
        """Sums of `people` (n_arms,) over the arms for and those against: active and control arm of two."""
        if len(self.arms) == 2:
            return people[1], people[0]
        if question.within_an_arm:
            (arm,) = question.arms
            return (0, people[0]) if arm == 0 else (people[arm], 0)
        higher, lower = question.comparison.higher, question.comparison.lower
        return sum(people[arm] for arm in higher), sum(people[arm] for arm in lower)

    def in_words(self, *people: int) -> str:
        """Return `3 ketamine and 2 midazolam`, by code while a study is blinded; the control comes last."""
        named = [f"{n} {arm}" for n, arm in zip(people, (*self.arms[1:], self.arms[0]), strict=True)]
        return f"{', '.join(named[:-1])} and {named[-1]}"

    def of(self, people: NDArray[np.bool_]) -> Outcome:
        """Return the outcome of some of the people, chosen by a mask (n_people,)."""
        return replace(
            self,
            values=self.values[people],
            arm=self.arm[people],
            people=tuple(compress(self.people, people)),
            strata=tuple(compress(self.strata, people)),
            columns=tuple(replace(column, values=column.values[people]) for column in self.columns),
            ses=None if self.ses is None else self.ses[people],
        )

    def joined_by(self, people: Sequence[str], arm: NDArray[np.intp]) -> Outcome:
        """Return the outcome with more people (n,), of whom nothing was measured, with average covariates."""
        return replace(
            self,
            values=np.vstack([self.values, np.full((len(people), self.values.shape[1]), np.nan)]),
            arm=np.concatenate([self.arm, arm]),
            people=(*self.people, *people),
            strata=(),
            columns=tuple(
                replace(column, values=np.append(column.values, np.zeros(len(people))))
                for column in self.columns
            ),
            ses=None
            if self.ses is None
            else np.vstack([self.ses, np.full((len(people), self.ses.shape[1]), np.nan)]),
        )

    def without(self, person: int) -> Outcome:
        """Return the outcome without one person, by place."""
        return self.of(np.arange(len(self.arm)) != person)


def lay_out(
    measures: pd.DataFrame, allocation: pd.DataFrame, group: Group, sessions: Sequence[str]
) -> list[Outcome]:
    """Return every outcome on one grid: people in order of their id, visits in order of the trial.

    Raises
    ------
    ValueError
        Arms, sessions or units do not fit the study or one another; a key occurs twice.
    """
    sessions = list(sessions) or [NO_SESSION]
    arms = read_arms(allocation, group)
    # nothing measured at all: everybody allocated, so that each outcome says why it is missing
    everybody = measures.empty
    measures = _checked(measures, arms, sessions)
    measured = set(measures["participant_id"])
    people = [person for person in sorted(arms) if everybody or person in measured]
    if not people:
        raise ValueError(
            "measures and allocation share nobody: "
            f"{first_of(sorted(set(allocation['participant_id'])))} are allocated. Fix: correct the "
            "participant_id of one of them"
        )
    arm = places_of(people, arms, group)
    strata = dict.fromkeys(people, NO_STRATUM)
    if "stratum" in allocation:
        labels = allocation["stratum"].fillna(NO_STRATUM).astype(str)
        strata |= dict(zip(allocation["participant_id"], labels, strict=True))
    outcomes = [
        _outcome(name, measures[measures["outcome"] == name], group, (people, sessions), arm)
        for name in group.modelled
    ]
    row_strata = tuple(strata[person] for person in people)
    columns = _covariates(measures, allocation, group, (people, sessions), arm)
    return [
        replace(
            _not_its_own_baseline(outcome, group),
            people=tuple(people),
            strata=row_strata,
            columns=columns,
            arms=group.arms.labels,
        )
        for outcome in outcomes
    ]


def places_of(people: Sequence[str], arms: Mapping[str, str], group: Group) -> NDArray[np.intp]:
    """Return the arm of each person by its place in `group.arms.labels`, (n_people,)."""
    return np.array([group.arms.labels.index(arms[person]) for person in people], dtype=np.intp)


def _covariates(
    measures: pd.DataFrame,
    allocation: pd.DataFrame,
    group: Group,
    grid: tuple[list[str], list[str]],
    arm: NDArray[np.intp],
) -> tuple[Column, ...]:
    """The columns of all covariates, which neither arm nor one another determine."""
    people, sessions = grid
    columns: list[Column] = []
    for name, settings in group.covariates.items():
        if settings.measure:
            file = "measures"
            first = (measures["outcome"] == settings.measure) & (measures["session_id"] == sessions[0])
            ids, found = measures.loc[first, "participant_id"], measures.loc[first, "value"]
        else:
            file = "participants.tsv"
            _need(allocation, [str(settings.column)], file)
            ids, found = allocation["participant_id"], allocation[str(settings.column)]
        cells = dict(zip(ids, found, strict=True))
        columns += columns_of(name, settings, {person: cells.get(person) for person in people}, file)
    values = np.column_stack([np.zeros((len(people), 0)), *(column.values for column in columns)])
    dependent = np.linalg.matrix_rank(np.column_stack([np.ones(len(people)), values])) < 1 + len(columns)
    if dependent or share_explained(arm, values) > ALL_EXPLAINED:
        raise ValueError(
            f"{CODE} group.covariates: {list(group.covariates)} cannot be told apart from the arm or one "
            "from another. Fix: drop one"
        )
    return tuple(columns)


def share_explained(arm: NDArray[np.intp] | NDArray[np.bool_], covariates: Array) -> float:
    """Return the share of an arm's variance that covariates (n_people, n) explain: 1 where they tell it.

    Of several active arms it is the largest.
    """
    arms = np.unique(arm)
    if not covariates.shape[1] or len(arms) < 2:
        return 0.0
    design = np.column_stack([np.ones(len(arm)), covariates])
    shares = []
    for one in arms[1:]:
        inside = arm == one
        away = inside - design @ np.linalg.lstsq(design, inside.astype(np.float64))[0]
        shares.append(1 - float(np.var(away) / np.var(inside)))
    return max(shares)


def _not_its_own_baseline(outcome: Outcome, group: Group) -> Outcome:
    for name, settings in group.covariates.items():
        if settings.measure == outcome.name and not outcome.fault:
            fault = f"the covariate {name!r} is its own baseline. Fix: take one of them out of the study"
            return replace(outcome, fault=fault)
    return outcome


def read_arms(allocation: pd.DataFrame, group: Group) -> dict[str, str]:
    """Return person -> arm, of the people in the arms that are compared; `left_out` names the others.

    Raises
    ------
    ValueError
        A row has no person, a person occurs twice, arms differ in spelling only, or one is empty.
    """
    _need(allocation, ["participant_id", "arm"], "allocation")
    ids, arms = allocation["participant_id"], allocation["arm"]
    if ids.isna().any():
        raise ValueError("allocation: a row has no participant_id; complete or delete it")
    if ids.duplicated().any():
        raise ValueError(
            f"allocation: {first_of(ids[ids.duplicated()])} occur twice; keep one row per person"
        )
    declared = list(group.arms.shown)
    refuse_alike([*arms.dropna(), *declared], "arm", "allocation")
    if empty := [arm for arm in declared if arm not in set(arms)]:
        raise ValueError(f"allocation: nobody is in arm {empty[0]!r}; it has {sorted(set(arms.dropna()))}")
    compared = arms.isin(declared)
    return dict(zip(ids[compared], arms[compared], strict=True))


def left_out(measures: pd.DataFrame, allocation: pd.DataFrame, group: Group) -> pd.DataFrame:
    """Return one row of exclusions per person with measures who is in no arm of the comparison, and why.

    Only group rules may write it: it tells the arm.
    """
    compared = read_arms(allocation, group)
    others = dict(zip(allocation["participant_id"], allocation["arm"], strict=True))
    rows = []
    for person in sorted(set(measures["participant_id"]) - set(compared)):
        code, reason, fix = (
            NO_ARM,
            "has no arm in the allocation",
            "no action is needed for a pilot or a screen failure",
        )
        if isinstance(arm := others.get(person), str):
            code, reason, fix = (
                OTHER_ARM,
                f"is in the arm {arm!r}, which is not compared",
                "no action is needed",
            )
        text = f"{code} {group.allocation}: {person} {reason}. Fix: {fix}, else correct it"
        rows.append(asdict(Exclusion(person, stage=STAGE, code=code, reason=text)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def group_from_tables(
    measures: pd.DataFrame,
    allocation: pd.DataFrame,
    *,
    active: str,
    control: str,
    sessions: Sequence[str] | None = None,
    baseline: str | None = None,
    outcome: str | None = None,
    session: str | None = None,
    scales: Mapping[str, float] | None = None,
    flat_priors: bool = False,
) -> tuple[Group, list[str]]:
    """Return a group section and the sessions for two bare tables, where there is no study file.

    Every outcome is modelled; visits come in the order of `sessions`, else by their numbers after `baseline`;
    units have the `scales` given, else their default ones. The primary question is about `outcome` at
    `session`; where they are not given, the first outcome and the first later session stand in for them.

    Raises
    ------
    ValueError
        A unit has no scale, baseline, outcome or session is not among those of the measures, nothing tells
        the order of the visits, or a column is missing.
    """
    _need(measures, [*KEY, "domain", "value", "unit"], "measures")
    _need(allocation, ["participant_id", "arm"], "allocation")
    labels = measures["session_id"].dropna()
    visits = in_order(labels[labels != NO_SESSION], "measures", declared=sessions, baseline=baseline)
    outcomes = list(dict.fromkeys(measures["outcome"].dropna()))
    if not outcomes:
        raise ValueError("measures: no row names an outcome")
    if outcome is not None and outcome not in outcomes:
        raise ValueError(f"outcome {outcome!r} is not one of the measures, which have {outcomes}")
    known = DEFAULT_SCALES | dict(scales or {})
    if unknown := sorted(set(measures["unit"].dropna()) - set(known)):
        raise ValueError(
            f"measures: units {unknown} have no default scale, only {sorted(DEFAULT_SCALES)} have. "
            "Fix: give a typical SD between people per unit, by --scale or in group.scales of a study file"
        )
    estimands: list[Estimand] = ["difference_unadjusted"]
    if len(visits) > 1:
        estimands = ["difference_adjusted", "difference_unadjusted", "difference_of_change"]
    later = visits[1:] or visits or [NO_SESSION]
    if session is not None and session not in later:
        raise ValueError(f"session {session!r} is not one to ask about; these are: {later}")
    settings = {
        "arms": {"active": active, "control": control},
        "outcomes": outcomes,
        "estimands": estimands,
        "primary": {
            "outcome": outcome or outcomes[0],
            "session": NO_SESSION,
            "estimand": estimands[0],
        },
        "scales": known,
        "priors": {"flat": flat_priors},
    }
    group = Group.from_params(settings)
    primary = group.primary.model_copy(update={"session": session or later[0]})  # any text, not only of BIDS
    return group.model_copy(update={"primary": primary}), visits


def _checked(measures: pd.DataFrame, arms: dict[str, str], sessions: list[str]) -> pd.DataFrame:
    """The measures of the people compared, `n/a` without sessions, once sessions and keys are right."""
    _need(measures, [*KEY, "domain", "value", "unit"], "measures")
    measures = measures.assign(session_id=measures["session_id"].fillna(NO_SESSION))
    people = measures["participant_id"]
    if people.isna().any():
        raise ValueError("measures: a row has no participant_id; complete or delete it")
    refuse_alike([*people, *arms], "participant_id", "measures and allocation")
    refuse_alike([*measures["session_id"], *sessions], "visit", "measures")
    if unknown := sorted(set(measures["session_id"]) - set(sessions)):
        raise ValueError(
            f"measures: sessions {unknown} are not in the study, which has {sessions}. Fix: correct the "
            "column session_id, or the sessions of the study"
        )
    if measures.duplicated(KEY).any():
        first = measures[measures.duplicated(KEY)].iloc[0]
        raise ValueError(f"measures: {[first[name] for name in KEY]} occurs twice; keep one value per {KEY}")
    return measures[people.isin(list(arms))]


def _outcome(
    name: str,
    rows: pd.DataFrame,
    group: Group,
    grid: tuple[list[str], list[str]],
    arm: NDArray[np.intp],
) -> Outcome:
    people, sessions = grid
    unit, domain = _only(rows, "unit", name), _only(rows, "domain", name)
    if unit and unit not in group.scales:
        raise ValueError(
            f"group.scales has no unit {unit!r} ({name}); it has {sorted(group.scales)}; add the scale"
        )
    values = np.full((len(people), len(sessions)), np.nan)
    where = [
        pd.Index(people).get_indexer(pd.Index(rows["participant_id"])),
        pd.Index(sessions).get_indexer(pd.Index(rows["session_id"])),
    ]
    values[where[0], where[1]] = rows["value"].astype("float64")
    ses = np.full(values.shape, np.nan)
    if "se" in rows:
        ses[where[0], where[1]] = rows["se"].astype("float64")
    known = bool((ses[~np.isnan(values)] > 0).all()) and not np.isnan(values).all()
    fault = ""
    if np.isinf(values).any():
        person, visit = np.argwhere(np.isinf(values))[0]
        fault = f"the value of {people[person]} at session {sessions[visit]} is not finite. Fix: {SEE_VALUES}"
    elif np.isnan(values).all():
        fault = "there is no measurement. Fix: see exclusions.tsv, or take it out of group.outcomes"
    elif (largest := float(np.nanmax(np.abs(values)))) > LARGEST or 0 < largest < SMALLEST:
        fault = f"its largest value is {largest:.3g} {unit}, which no model can use. Fix: check the unit"
    scale = group.scales.get(unit, 1.0)
    return Outcome(name, domain, unit, scale, values, arm, fault, ses=ses if known else None)


def refuse_unanswerable(outcome: Outcome, question: Question) -> None:
    """Check that the arms of a question vary and have two people at each of its visits.

    Raises
    ------
    NotEstimableError
        They have not, or the outcome as a whole is at fault.
    """
    if outcome.fault:
        raise NotEstimableError(outcome.fault)
    for visit in question.visits:
        at_baseline = " at baseline" if visit == 0 and len(question.visits) > 1 else ""
        _refuse_few(outcome, question, outcome.per_arm(visit), at_baseline)
        if within_arm_variation(outcome, visit) == 0:
            reason = "the values do not vary within the arms"
            if at_baseline and any(within_arm_variation(outcome, later) for later in question.visits[1:]):
                fix = f"{SEE_VALUES}; or ask for difference_unadjusted"
                raise NotEstimableError(reason + at_baseline, fix=fix)
            raise NotEstimableError(reason, fix=SEE_VALUES)
        seen = outcome.seen[:, visit]
        arm = outcome.arm[seen]
        sides = [arm == one for one in np.unique(arm)[1:]]
        design = np.column_stack([np.ones(seen.sum()), *sides, outcome.adjusted_for[seen]])
        explained = share_explained(arm, outcome.adjusted_for[seen]) > ALL_EXPLAINED
        if outcome.columns and (explained or np.linalg.matrix_rank(design) < design.shape[1]):
            raise NotEstimableError(
                "among the people seen, arm and covariates cannot be told apart", fix="fewer covariates"
            )


def _refuse_few(outcome: Outcome, question: Question, people: Sequence[int], where: str) -> None:
    """Check that every arm of a question has two people; `people` (n_arms,), the control first."""
    if min(people[arm] for arm in question.arms) >= 2:
        return
    raise NotEstimableError(
        f"two people per arm are needed, there are {outcome.in_words(*people[1:], people[0])}{where}",
        fix="see exclusions.tsv for scans that can be saved; without them nothing can be compared",
    )


def within_arm_variation(outcome: Outcome, visit: int) -> float:
    """Return the largest range of values within one arm at the visit; rounding errors count as none."""
    column = outcome.values[:, visit]
    arms = [column[outcome.seen[:, visit] & outcome.in_arm(arm)] for arm in range(len(outcome.arms))]
    widest = max((float(np.ptp(arm)) for arm in arms if arm.size), default=0.0)
    return widest if widest > 1e-10 * float(np.nanmax(np.abs(column), initial=0.0)) else 0.0


def _only(rows: pd.DataFrame, column: str, outcome: str) -> str:
    found = sorted(set(rows[column].dropna()))
    if len(found) > 1:
        raise ValueError(f"measures: {outcome} has several of {column!r}: {found}; an outcome has one")
    return found[0] if found else ""


def _need(table: pd.DataFrame, columns: list[str], name: str) -> None:
    if absent := [column for column in columns if column not in table.columns]:
        raise ValueError(f"{name}: columns {absent} are missing; it has {list(table.columns)}")
