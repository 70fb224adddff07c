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
from reconfmri.config import Estimand, Group, Primary
from reconfmri.contracts.questions.columns import ESTIMATES
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
    return (outcome, question.estimand) == (primary.outcome, primary.estimand) and question.session in (
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


@dataclass(frozen=True)
class Question:
    """One estimand at one visit, or over all of `averaged`, of which `visit` is then the last."""

    estimand: Estimand
    visit: int
    session: str
    averaged: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_choice("estimand", self.estimand, get_args(Estimand))

    @property
    def common_baseline(self) -> bool:
        """Whether both arms share one baseline mean, as they were randomised after it."""
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

    def weights(self, n_visits: int) -> Array:
        """(2, n_visits): weights of the means of the control (row 0) and the active arm (row 1)."""
        over_visits = np.zeros(n_visits)
        over_visits[list(self.averaged or (self.visit,))] = 1.0 / max(len(self.averaged), 1)
        if self.estimand == "difference_of_change" or self.within_an_arm:
            over_visits[BASELINE] -= 1.0
        if self.within_an_arm:
            nothing = np.zeros(n_visits)
            active = self.estimand == "change_active"
            return np.stack([nothing, over_visits] if active else [over_visits, nothing])
        return np.stack([-over_visits, over_visits])


def ask(estimands: Sequence[Estimand], sessions: Sequence[str]) -> list[Question]:
    """Return the questions of a study: every estimand at every session after the baseline, or averaged.

    With a single session there is no baseline: every estimand is asked at that session, and all but
    `difference_unadjusted` are answered with the reason why they cannot be.
    """
    later = list(enumerate(sessions))[1:] or [(0, sessions[0])]
    questions = []
    for name in estimands:
        if name == "difference_average":
            averaged = tuple(visit for visit, _ in later)
            questions.append(Question(name, averaged[-1], AVERAGE, averaged))
        else:
            questions += [Question(name, visit, session) for visit, session in later]
    return questions


def primary_question(primary: Primary, sessions: Sequence[str]) -> Question:
    """Return the question of the study's primary, or of another outcome, visit and estimand.

    Raises
    ------
    ValueError
        Nothing can be asked about its session.
    """
    questions = ask([primary.estimand], sessions)
    for question in questions:
        if is_primary(primary, primary.outcome, question):
            return question
    known = [question.session for question in questions]
    raise ValueError(f"Session {primary.session!r} is not one that can be asked about; these are: {known}")


def start_of_row(outcome: Outcome, question: Question, method: str, group: Group) -> dict[str, object]:
    """Return the cells of an estimate row that say what was asked, of whom, and how."""
    n_active, n_control = outcome.counts(question.visit)
    return {
        "domain": outcome.domain,
        "outcome": outcome.name,
        "estimand": question.estimand,
        "session": question.session,
        "method": method,
        "unit": outcome.unit,
        "level": group.level,
        "n_active": n_active,
        "n_control": n_control,
        "is_primary": is_primary(group.primary, outcome.name, question),
    }


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
