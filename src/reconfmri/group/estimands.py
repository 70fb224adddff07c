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
from reconfmri.config import Estimand, Primary
from reconfmri.tables import MISSING

if TYPE_CHECKING:
    from reconfmri.group.grid import Outcome

Array = NDArray[np.float64]

DESCRIPTIONS = {
    "domain": "Where the outcome comes from: activation, connectivity, skin_conductance, clinical, quality",
    "outcome": "Outcome, <what>.<contrast or condition>",
    "estimand": "difference_adjusted: active minus control at the session, adjusted for baseline; "
    "difference_unadjusted: the same without the baseline; difference_of_change: of later minus baseline; "
    "difference_average: adjusted, the mean over later visits; change_active, change_control: later minus "
    "baseline within an arm",
    "session": "BIDS session label of the visit that is asked about, without ses-; `average`: the mean over "
    "later visits",
    "analysis_set": "all_randomised: every randomised person with at least one measurement of the outcome",
    "method": "bayes: Bayesian repeated measures; reml: the same mean model by restricted maximum likelihood "
    "with Kenward-Roger; ancova: least squares given baseline; ancova_hc2: the same, allowing unequal "
    "variances (Bell and McCaffrey's degrees of freedom); welch: two-sample t with unequal variances (of "
    "change scores for difference_of_change), paired_t: t of the changes in one arm, both without the "
    "study's covariates, which are in all the others; randomisation: "
    "studentised one-step estimate under other draws of the allocation",
    "unit": "Unit of estimate, sd, lower and upper",
    "estimate": "Active minus control, or a change within an arm; bayes: posterior mean",
    "sd": "Standard error; bayes: posterior standard deviation",
    "df": "Degrees of freedom of the t interval; missing for bayes",
    "lower": "Lower end of the interval; bayes: highest density; randomisation: what it does not reject",
    "upper": "Upper end of the interval, in the same way",
    "level": "Level of the interval",
    "probability": "bayes: posterior probability of the sign of the estimate, not adjusted for multiplicity",
    "rope_probability": "bayes: posterior probability that the difference is no larger than group.rope of "
    "its unit, up or down; missing where the study declares none",
    "p": "Two-sided p value; missing for bayes",
    "p_adjusted": "p corrected within the family (randomisation: max-T); the primary keeps its own p; "
    "missing outside families",
    "family": "Declared family, or `primary`; `exploratory`: of an outcome that was not declared",
    "n_active": "People of the active arm: with a value at the session (bayes, reml), in the fit (others)",
    "n_control": "People of the control arm, counted in the same way",
    "r_hat": "bayes: largest R-hat over all parameters of the model",
    "ess": "bayes: smallest effective sample size, bulk or tail, over all parameters of the model",
    "status": "ok, with the covariance over visits where it is not unstructured, and after `; caution: ` "
    "what to beware of; or `not reported: <reason>` and then the numbers are missing",
    "caveat": "Why methods that take those seen at the visits of the question alone (ancova, welch, "
    "paired_t) are not the equals of the others here; missing where they leave nobody out",
}
COLUMNS = tuple(DESCRIPTIONS)
NUMBERS = (
    "estimate", "sd", "df", "lower", "upper", "probability", "rope_probability", "p", "p_adjusted", "r_hat",
    "ess",
)  # fmt: skip
ANALYSIS_SET = "all_randomised"
BASELINE = 0
AVERAGE = "average"
WITHIN = ("change_active", "change_control")


CAUTION = "caution: "


def with_caution(status: str, text: str) -> str:
    """Return a status that also says what to beware of."""
    return f"{status}; {CAUTION}{text}"


def cautions_in(status: str) -> list[str]:
    """Return the texts of the cautions of a status."""
    return [part.removeprefix(CAUTION) for part in status.split("; ") if part.startswith(CAUTION)]


class NotEstimableError(ValueError):
    """An estimand that these data cannot answer; the text is the reason, and how to fix it."""

    def __init__(self, reason: str, *, fix: str = ""):
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
        if question.session in (primary.session, MISSING):
            return question
    known = [question.session for question in questions]
    raise ValueError(f"Session {primary.session!r} is not one that can be asked about; these are: {known}")


def start_of_row(outcome: Outcome, question: Question, method: str, level: float) -> dict[str, object]:
    """Return the cells of an estimate row that say what was asked, of whom, and how."""
    n_active, n_control = outcome.counts(question.visit)
    return {
        "domain": outcome.domain,
        "outcome": outcome.name,
        "estimand": question.estimand,
        "session": question.session,
        "method": method,
        "unit": outcome.unit,
        "level": level,
        "n_active": n_active,
        "n_control": n_control,
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
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["analysis_set"] = ANALYSIS_SET
    for name in NUMBERS:
        table[name] = table[name].astype("float64")
    return table.astype({"n_active": "int64", "n_control": "int64", "level": "float64"})
