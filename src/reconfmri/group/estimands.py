"""What is asked: arm differences as weights over arm x visit means, and the table of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from reconfmri.choices import check_choice
from reconfmri.config import TWO_ARMS, Arms, Comparison, Estimand, Group, Primary
from reconfmri.contracts.questions.columns import COMPARISON, ESTIMATES
from reconfmri.tables import MISSING

if TYPE_CHECKING:
    from reconfmri.group.grid import Outcome

Array = NDArray[np.float64]

NUMBERS = (
    "estimate", "sd", "df", "lower", "upper", "probability", "rope_probability", "p", "p_adjusted", "r_hat",
    "ess",
)  # fmt: skip
ANALYSIS_SET = "all_randomised"
BASELINE = 0
AVERAGE = "average"
WITHIN = ("change_active", "change_control")


CAUTION = "caution: "


def answered(status: str = "ok") -> dict[str, object]:
    """Return the cells of a row that has an answer; the status also names what is not the default."""
    return {"status": status, "reported": True}


def withheld(reason: object, *, word: str = "not reported") -> dict[str, object]:
    """Return the cells of a row that has no answer, and why."""
    return {"status": f"{word}: {reason}", "reported": False, "reason": str(reason)}


def is_primary(primary: Primary, outcome: str, question: Question) -> bool:
    """Return whether a question of an outcome is the primary one; data without sessions have one visit."""
    asked = (outcome, question.estimand, question.comparison.name)
    return asked == (primary.outcome, primary.estimand, primary.compared) and question.session in (
        primary.session,
        MISSING,
    )


def with_caution(status: str, text: str) -> str:
    """Return a status that also says what to beware of."""
    return f"{status}; {CAUTION}{text}"


def cautions_in(status: str) -> list[str]:
    """Return the texts of the cautions of a status."""
    return [part.removeprefix(CAUTION) for part in status.split("; ") if part.startswith(CAUTION)]


class NotEstimableError(ValueError):
    """An estimand that these data cannot answer: why, and how to fix it; its text is both."""

    def __init__(self, reason: str, *, fix: str = ""):
        self.reason, self.fix = reason, fix
        super().__init__(f"{reason}. Fix: {fix}" if fix else reason)


@dataclass(frozen=True)
class Contrast:
    """An estimate with its standard error and the degrees of freedom of its t distribution."""

    estimate: float
    se: float
    df: float

    @property
    def p(self) -> float:
        """Two-sided p value."""
        return float(2 * stdtr(self.df, -abs(self.estimate) / self.se))

    def interval(self, level: float) -> tuple[float, float]:
        """Ends of the t interval."""
        half = float(stdtrit(self.df, (1 + level) / 2)) * self.se
        return self.estimate - half, self.estimate + half

    def numbers(self, level: float) -> dict[str, object]:
        """The cells of an estimate row that a t interval fills."""
        lower, upper = self.interval(level)
        cells = (self.estimate, self.se, self.df, lower, upper, self.p)
        return dict(zip(("estimate", "sd", "df", "lower", "upper", "p"), cells, strict=True))


def code_arms(arm: NDArray[np.intp] | NDArray[np.bool_], n_arms: int = 2) -> Array:
    """Return (n_people, n_arms - 1): who is in each arm after the control, around the mean of the arms.

    Two arms: +1/2 (active) and -1/2. A mean with these is that of the arms, none of which counts for more,
    and the coefficients are differences from the control.
    """
    return np.asarray((np.asarray(arm)[:, None] == np.arange(1, n_arms)) - 1.0 / n_arms)


@dataclass(frozen=True)
class Question:
    """One estimand at one visit, or over all of `averaged`, of which `visit` is then the last."""

    estimand: Estimand
    visit: int
    session: str
    averaged: tuple[int, ...] = ()
    comparison: Comparison = TWO_ARMS

    def __post_init__(self) -> None:
        check_choice("estimand", self.estimand, get_args(Estimand))

    @property
    def common_baseline(self) -> bool:
        """Whether all arms share one baseline mean, as they were randomised after it."""
        return self.estimand in ("difference_adjusted", "difference_average")

    @property
    def within_an_arm(self) -> bool:
        """Whether the question is about one arm alone."""
        return self.estimand in WITHIN

    @property
    def visits(self) -> tuple[int, ...]:
        """The visits whose values the answer rests on."""
        if self.estimand == "difference_unadjusted":
            return (self.visit,)
        return (BASELINE, *(self.averaged or (self.visit,)))

    @property
    def arm_weights(self) -> tuple[float, ...]:
        """Weights of the arms, the control first: of the comparison, or one for the arm it is about."""
        if self.within_an_arm and not self.comparison.name:
            return (0.0, 1.0) if self.estimand == "change_active" else (1.0, 0.0)
        return self.comparison.weights

    @property
    def arms(self) -> tuple[int, ...]:
        """The arms whose people the answer rests on, by place; of two both, as an arm needs the other."""
        return self.comparison.arms

    def weights(self, n_visits: int) -> Array:
        """(n_arms, n_visits): weights of the means of every arm, the control first."""
        over_visits = np.zeros(n_visits)
        over_visits[list(self.averaged or (self.visit,))] = 1.0 / max(len(self.averaged), 1)
        if self.estimand == "difference_of_change" or self.within_an_arm:
            over_visits[BASELINE] -= 1.0
        return np.outer(self.arm_weights, over_visits)


def ask(estimands: Sequence[Estimand], sessions: Sequence[str], arms: Arms | None = None) -> list[Question]:
    """Return the questions of a study: every estimand at every session after the baseline, or averaged.

    Of every comparison of its arms; without `arms` there are two.

    With a single session there is no baseline: every estimand is asked at that session, and all but
    `difference_unadjusted` are answered with the reason why they cannot be.
    """
    later = list(enumerate(sessions))[1:] or [(0, sessions[0])]
    questions = []
    for name in estimands:
        for comparison in _comparisons(name, arms):
            if name == "difference_average":
                averaged = tuple(visit for visit, _ in later)
                questions.append(Question(name, averaged[-1], AVERAGE, averaged, comparison))
            else:
                questions += [
                    Question(name, visit, session, comparison=comparison) for visit, session in later
                ]
    return questions


def _comparisons(name: Estimand, arms: Arms | None) -> tuple[Comparison, ...]:
    """Which arms an estimand compares, or which it is about."""
    if arms is None or not arms.several:
        return (TWO_ARMS,)
    if name == "change_control":
        return (arms.within(arms.control),)
    if name == "change_active":
        return tuple(map(arms.within, arms.actives))
    return arms.every_comparison


def primary_question(primary: Primary, sessions: Sequence[str], arms: Arms | None = None) -> Question:
    """Return the question of the study's primary, or of another outcome, visit and estimand.

    Raises
    ------
    ValueError
        Nothing can be asked about its session.
    """
    questions = ask([primary.estimand], sessions, arms)
    for question in questions:
        if is_primary(primary, primary.outcome, question):
            return question
    known = [question.session for question in questions]
    raise ValueError(f"Session {primary.session!r} is not one that can be asked about; these are: {known}")


def start_of_row(outcome: Outcome, question: Question, method: str, group: Group) -> dict[str, object]:
    """Return the cells of an estimate row that say what was asked, of whom, and how."""
    n_active, n_control = outcome.sides_of(question, outcome.per_arm(question.visit))
    return {
        "domain": outcome.domain,
        "outcome": outcome.name,
        "estimand": question.estimand,
        **named_comparison(question),
        "session": question.session,
        "method": method,
        "unit": outcome.unit,
        "level": group.level,
        "n_active": n_active,
        "n_control": n_control,
        "is_primary": is_primary(group.primary, outcome.name, question),
    }


def named_comparison(question: Question) -> dict[str, object]:
    """Return the cell that names the arms compared; no cell where there are two."""
    return {COMPARISON.name: question.comparison.name} if question.comparison.name else {}


def refuse_without_baseline(question: Question) -> None:
    """Check that the question can be asked of this design.

    Raises
    ------
    NotEstimableError
        It needs a baseline and the only session is the one that is asked about.
    """
    if question.visit == BASELINE and question.estimand != "difference_unadjusted":
        raise NotEstimableError("the only session has no baseline before it")


def as_table(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Return the estimate table of `rows`; cells that a row lacks are missing."""
    table = ESTIMATES.frame(rows)
    table["analysis_set"] = ANALYSIS_SET
    for name in NUMBERS:
        table[name] = table[name].astype("float64")
    whole = {"n_active": "int64", "n_control": "int64", "level": "float64"}
    return table.astype(whole | {"reported": "bool", "is_primary": "bool"})
