"""Completed data: gaps filled with conditional means, shifted or by a strategy, and the estimate from them.

An unseen value is what the person's other visits predict plus a shift; the question is then asked of the
completed data, and the standard error is that of a jackknife over people with the model fitted anew each time
(Wolbers et al., Pharmaceutical Statistics 2022;21:1246).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from reconfmri.choices import check_choice
from reconfmri.config import Group
from reconfmri.group.covariances import status_of
from reconfmri.group.estimands import (
    BASELINE,
    Array,
    Contrast,
    NotEstimableError,
    Question,
    refuse_without_baseline,
)
from reconfmri.group.frequentist import fit_with
from reconfmri.group.grid import Outcome, refuse_unanswerable
from reconfmri.group.imputation import Plan
from reconfmri.group.reml import RemlFit, group_precisions
from reconfmri.group.repeated import MeanModel, covariances_for, mean_model

AT_RANDOM = "conditional_mean"


@dataclass(frozen=True)
class Fit:
    """A model of one outcome: means of control and active arm (2, v) and covariance (v, v) over `visits`."""

    visits: tuple[int, ...]
    means: Array
    covariance: Array
    slopes: Array  # (n_covariates, v)


@dataclass(frozen=True)
class Filled:
    """Values (n_people, v) at the visits of a model, gaps filled in at random, and by each plan."""

    visits: tuple[int, ...]
    at_random: Array
    planned: tuple[Array, ...]


@dataclass(frozen=True)
class Refits:
    """The fit to everybody, and in the order of people the fits without each of them."""

    model: MeanModel
    reml: RemlFit
    covariance: str
    whole: Fit
    without: tuple[Fit, ...]


@dataclass(frozen=True)
class Completed:
    """The answer to a question from completed data, as a linear function of the shifts.

    `parts` (3 + n_plans,) are the answer at random, what one unit of shift in the unseen of the active and
    of the control arm adds to it, and what each plan of `names` adds; `spread` is their covariance.
    """

    parts: Array
    spread: Array
    df: float
    covariance: str
    names: tuple[str, ...] = ()

    def at(self, *, active: float = 0.0, control: float = 0.0, plan: str = AT_RANDOM) -> Contrast:
        """Return the answer where the unseen of the arms are shifted, in the unit of the outcome, or planned.

        Raises
        ------
        NotEstimableError
            The answer is the same without any of the people, so that it has no standard error.
        """
        check_choice("plan", plan, (AT_RANDOM, *self.names))
        weights = np.array([1.0, active, control, *(float(plan == name) for name in self.names)])
        variance = float(weights @ self.spread @ weights)
        if not variance > 0:
            raise NotEstimableError("no standard error can be formed")
        return Contrast(float(weights @ self.parts), variance**0.5, self.df)

    def tips(self, arm: int, level: float) -> Array:
        """Return the shifts of an arm (0 active, 1 control) at which an end of the interval is zero.

        Where estimate^2 = t^2 variance, which is quadratic in the shift.
        """
        t = float(stdtrit(self.df, (1 + level) / 2))
        pair = [0, 1 + arm]
        gap = np.outer(self.parts[pair], self.parts[pair]) - t**2 * self.spread[np.ix_(pair, pair)]
        roots = np.roots([gap[1, 1], 2 * gap[0, 1], gap[0, 0]])
        return np.asarray(roots[np.isreal(roots)].real)


class Completion:
    """The completed data of one outcome; models are fitted once for the questions that share them.

    `questions` are answered together, person by person: completed data are not kept, as those without each of
    many people would fill the memory.
    """

    def __init__(
        self,
        outcome: Outcome,
        group: Group,
        plans: Mapping[str, Plan] | None = None,
        left_out: NDArray[np.bool_] | None = None,
        *,
        questions: Sequence[Question] = (),
    ):
        self.outcome, self.group, self.plans = outcome, group, dict(plans or {})
        self.questions = tuple(questions)
        self.modelled = outcome
        if left_out is not None:
            self.modelled = replace(outcome, values=np.where(left_out, np.nan, outcome.values))
        self.refits: dict[bool, Refits | str] = {}
        self.parts: dict[Question, list[Array] | str] = {}

    def answer(self, question: Question, method: str) -> tuple[Contrast, str]:
        """Return the answer, at random or by a plan, and its status.

        Raises
        ------
        NotEstimableError
            These data cannot answer it; the text says why.
        """
        completed = self.complete(question)
        return completed.at(plan=method), status_of(completed.covariance)

    def complete(self, question: Question) -> Completed:
        """Return the answer to a question for any shift.

        Raises
        ------
        NotEstimableError
            These data cannot answer it; the text says why.
        """
        refuse_without_baseline(question)
        refuse_unanswerable(self.outcome, question)
        refits = self._fit(question.common_baseline)
        weights = refits.model.weights(question, self.outcome.values.shape[1])
        parts, *others = self._parts_of(question)
        spread = jackknife(np.stack(others), self.outcome.active)
        df = min(refits.reml.infer(weights).df, _most_df(question, self.outcome))
        return Completed(parts, spread, df, refits.covariance, tuple(self.plans))

    def _parts_of(self, question: Question) -> list[Array]:
        """The `answer_parts` of everybody, then without each person."""
        if question not in self.parts:
            alike = [item for item in self.questions if item.common_baseline == question.common_baseline]
            self._answer_together(alike if question in alike else [question])
        found = self.parts[question]
        if isinstance(found, str):
            raise NotEstimableError(found)
        return found

    def _answer_together(self, questions: Sequence[Question]) -> None:
        refits, plans = self._fit(questions[0].common_baseline), list(self.plans.values())
        found: dict[Question, list[Array]] = {question: [] for question in questions}
        faults: dict[Question, str] = {}
        for person, fit in enumerate((refits.whole, *refits.without), start=-1):
            outcome = self.outcome.without(person) if person >= 0 else self.outcome
            left = [plan.without(person) for plan in plans] if person >= 0 else plans
            filled = fill_in(outcome, fit, left)
            for question, parts in found.items():
                try:
                    parts.append(answer_parts(outcome, question, filled))
                except NotEstimableError as reason:
                    faults.setdefault(question, str(reason))
        self.parts |= {question: faults.get(question, parts) for question, parts in found.items()}

    def _fit(self, common_baseline: bool) -> Refits:
        if common_baseline not in self.refits:
            try:
                self.refits[common_baseline] = refit(self.modelled, common_baseline, self.group)
            except NotEstimableError as reason:
                self.refits[common_baseline] = str(reason)
        found = self.refits[common_baseline]
        if isinstance(found, str):
            raise NotEstimableError(found)
        return found


def refit(outcome: Outcome, common_baseline: bool, group: Group) -> Refits:
    """Return the REML fits to everybody and without each person, all with one structure of covariance.

    Raises
    ------
    NotEstimableError
        One of the fits fails under every covariance that the study allows.
    """
    fault = ""
    for covariance in covariances_for(outcome, group):
        try:
            model = mean_model(outcome, common_baseline)
            reml = fit_with(outcome, model, covariance)
            whole = _as_fit(model, reml)
            without = [
                _fit_without(outcome, person, common_baseline, covariance) if seen.any() else whole
                for person, seen in enumerate(outcome.seen[:, list(model.visits)])
            ]
            return Refits(model, reml, covariance, whole, tuple(without))
        except NotEstimableError as reason:
            fault = fault or str(reason)
    raise NotEstimableError(fault)


def fit_means(outcome: Outcome, common_baseline: bool, covariance: str) -> Fit:
    """Return the arms' means and the covariance over visits by REML.

    Raises
    ------
    NotEstimableError
        The data do not determine the model.
    """
    model = mean_model(outcome, common_baseline)
    return _as_fit(model, fit_with(outcome, model, covariance))


def conditional_means(values: Array, means: Array, covariance: Array) -> Array:
    """Return `values` (n, v) with gaps filled: means (n, v) given the seen visits of the person."""
    seen = ~np.isnan(values)
    residuals = np.where(seen, values - means, 0.0)
    precision, _ = group_precisions(seen, covariance)
    predicted = means + np.einsum("vu,nuw,nw->nv", covariance, precision, residuals)
    return np.where(seen, values, predicted)


def fill_in(outcome: Outcome, fit: Fit, plans: Sequence[Plan] = ()) -> Filled:
    """Return the values of everybody with gaps filled in, at random and by each plan."""
    values = outcome.values[:, fit.visits]
    means = fit.means[outcome.active.astype(np.intp)] + outcome.adjusted_for @ fit.slopes
    at_random = conditional_means(values, means, fit.covariance)
    planned = [_planned(values, means, outcome, fit, plan.on(fit.visits)) for plan in plans]
    return Filled(fit.visits, at_random, tuple(planned))


def answer_parts(outcome: Outcome, question: Question, filled: Filled) -> Array:
    """Return the `parts` of `Completed`: the complete-data answer at random, what shifts and plans add.

    Complete data are answered by least squares given baseline, or by means of the arms. At random that is
    the answer of REML; adjusted for baseline only where the covariance leaves the slope on baseline free
    (unstructured) and every baseline was seen, and close to it elsewhere.
    """
    visits, completed, active = filled.visits, filled.at_random, outcome.active
    if not set(question.visits) <= set(visits):
        raise NotEstimableError("without one of its people a visit of the question has too few to compare")
    later = [visits.index(visit) for visit in question.averaged or (question.visit,)]
    baseline = completed[:, visits.index(BASELINE)] if BASELINE in question.visits else None
    weights = _weights_of_people(question, outcome, baseline)
    asked = np.zeros(len(visits))
    asked[later] = 1 / len(later)
    if baseline is not None and not question.common_baseline and question.visit != BASELINE:
        asked[visits.index(BASELINE)] -= 1
    share = np.isnan(outcome.values[:, visits][:, later]).mean(axis=1)
    added = [(planned - completed) @ asked for planned in filled.planned]
    columns = (completed @ asked, share * active, share * ~active, *added)
    return np.array([weights @ column for column in columns])


def _planned(values: Array, own: Array, outcome: Outcome, fit: Fit, plan: Plan) -> Array:
    """`values` (n, v) with gaps filled as the plan says, given the person's seen visits."""
    reference = fit.means[0] + outcome.adjusted_for @ fit.slopes
    filled = conditional_means(values, plan.means(own, np.broadcast_to(reference, own.shape)), fit.covariance)
    return np.where(np.isnan(values), filled + plan.shifts(values.shape[1]), values)


def jackknife(estimates: Array, active: NDArray[np.bool_]) -> Array:
    """Return the covariance (k, k) of estimates (n, k), each without one person, with arms of fixed size.

    The sum over arms of (n - 1) / n times squares about the arm's mean (Shao & Tu, The Jackknife and
    Bootstrap, 1995): for a difference of two means it is Welch's variance.
    """
    spread = np.zeros((estimates.shape[1], estimates.shape[1]))
    for arm in (active, ~active):
        away = estimates[arm] - estimates[arm].mean(axis=0)
        spread += (len(away) - 1) / len(away) * away.T @ away
    return spread


def _weights_of_people(question: Question, outcome: Outcome, baseline: Array | None) -> Array:
    """The answer as a weighted sum over people (n,) of their values or changes, by least squares."""
    columns = [np.ones(len(outcome.active)), outcome.active, outcome.adjusted_for]
    if question.common_baseline and baseline is not None:
        columns.append(baseline - baseline.mean())
    control, difference = np.linalg.pinv(np.column_stack(columns))[:2]
    if question.within_an_arm:
        return np.asarray(control + (question.estimand == "change_active") * difference)
    return np.asarray(difference)


def _most_df(question: Question, outcome: Outcome) -> int:
    """Degrees of freedom with everybody seen; an assumed covariance must not lend the jackknife more."""
    active, n_covariates = outcome.active, len(outcome.columns)
    if question.within_an_arm:
        return int((active == (question.estimand == "change_active")).sum()) - 1 - n_covariates
    return len(active) - 2 - question.common_baseline - n_covariates


def _as_fit(model: MeanModel, reml: RemlFit) -> Fit:
    means = model.design(np.array([False, True])) @ reml.beta
    return Fit(model.visits, means, reml.covariance, model.slopes(reml.beta))


def _fit_without(outcome: Outcome, person: int, common_baseline: bool, covariance: str) -> Fit:
    try:
        return fit_means(outcome.without(person), common_baseline, covariance)
    except NotEstimableError as reason:
        raise NotEstimableError(f"without {outcome.people[person]}: {reason}") from None
