"""What is asked: arm differences as weights over arm x visit means, and the table of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from reconfmri.config import Estimand

Array = NDArray[np.float64]

DESCRIPTIONS = {
    "domain": "Where the outcome comes from: activation, connectivity, skin_conductance, clinical, quality",
    "outcome": "Outcome, <what>.<contrast or condition>",
    "estimand": "difference_adjusted: active minus control at the session, adjusted for baseline; "
    "difference_unadjusted: the same without the baseline; difference_of_change: of later minus baseline",
    "session": "BIDS session label of the visit that is asked about, without ses-",
    "analysis_set": "all_randomised: every randomised person with at least one measurement of the outcome",
    "method": "bayes: Bayesian repeated measures; reml: the same mean model by restricted maximum likelihood "
    "with Kenward-Roger; ancova: least squares given baseline; ancova_hc2: the same, allowing unequal "
    "variances (Bell and McCaffrey's degrees of freedom); welch: two-sample t with unequal variances (of "
    "change scores for difference_of_change); randomisation: studentised one-step estimate under other draws "
    "of the allocation",
    "unit": "Unit of estimate, sd, lower and upper",
    "estimate": "Active minus control; bayes: posterior mean",
    "sd": "Standard error; bayes: posterior standard deviation",
    "df": "Degrees of freedom of the t interval; missing for bayes",
    "lower": "Lower end of the interval; bayes: highest density; randomisation: what it does not reject",
    "upper": "Upper end of the interval, in the same way",
    "level": "Level of the interval",
    "probability": "bayes: posterior probability of the sign of the estimate, not adjusted for multiplicity",
    "p": "Two-sided p value; missing for bayes",
    "p_adjusted": "p corrected within the family (randomisation: max-T); the primary keeps its own p; "
    "missing outside families",
    "family": "Declared family, or `primary`",
    "n_active": "People of the active arm: with a value at the session (bayes, reml), in the fit (others)",
    "n_control": "People of the control arm, counted in the same way",
    "r_hat": "bayes: largest R-hat over all parameters of the model",
    "ess": "bayes: smallest effective sample size, bulk or tail, over all parameters of the model",
    "status": "ok, with the covariance over visits where it is not unstructured; or `not reported: <reason>` "
    "and then the numbers are missing",
}
COLUMNS = tuple(DESCRIPTIONS)
NUMBERS = ("estimate", "sd", "df", "lower", "upper", "probability", "p", "p_adjusted", "r_hat", "ess")
ANALYSIS_SET = "all_randomised"
BASELINE = 0


class NotEstimableError(ValueError):
    """An estimand that these data cannot answer; the text is the reason."""


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


@dataclass(frozen=True)
class Question:
    """One estimand at one visit."""

    estimand: Estimand
    visit: int
    session: str

    @property
    def common_baseline(self) -> bool:
        """Whether both arms share one baseline mean, as they were randomised after it."""
        return self.estimand == "difference_adjusted"

    @property
    def visits(self) -> tuple[int, ...]:
        """The visits whose values the answer rests on."""
        return (self.visit,) if self.estimand == "difference_unadjusted" else (BASELINE, self.visit)

    def weights(self, n_visits: int) -> Array:
        """(2, n_visits): weights of the means of the control (row 0) and the active arm (row 1)."""
        over_visits = np.zeros(n_visits)
        over_visits[self.visit] = 1.0
        if self.estimand == "difference_of_change":
            over_visits[BASELINE] -= 1.0
        return np.stack([-over_visits, over_visits])


def ask(estimands: Sequence[Estimand], sessions: Sequence[str]) -> list[Question]:
    """Return the questions of a study: every estimand at every session after the baseline.

    With a single session there is no baseline: every estimand is asked at that session, and all but
    `difference_unadjusted` are answered with the reason why they cannot be.
    """
    later = list(enumerate(sessions))[1:] or [(0, sessions[0])]
    return [Question(name, visit, session) for name in estimands for visit, session in later]


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
