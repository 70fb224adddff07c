"""How many people a question needs: expected interval, power and assurance of REML, by n per arm.

Nothing is simulated. People leave for good (monotone dropout), so the information of the mean model of
`repeated` is the sum over last visits of share x n x the information of one person, and so are Kenward and
Roger's P and Q (their letters, as in `reml`). At the true covariance this gives the variance w' phi w that an
estimate would have if the covariance were known. Two terms of second order are added:
- lambda, what estimating the covariance costs. Kenward and Roger report phi + 2 lambda at an estimate whose
  phi is lambda too small on average (Biometrics 1997;53:983, section 2): the truth is phi + lambda;
- what it costs that the number seen at a visit is itself chance: phi is convex in the multinomial counts.
The degrees of freedom are Satterthwaite's with the expected information of the covariance parameters.
How near this comes to simulated trials is written at `expect` and held by tests/test_planning.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import gammaln, stdtrit
from scipy.stats import nct

from reconfmri.contracts.questions.columns import COMPARISON
from reconfmri.group.covariances import Form
from reconfmri.group.estimands import (
    BASELINE,
    Array,
    NotEstimableError,
    Question,
    named_comparison,
    refuse_without_baseline,
)
from reconfmri.group.reml import RemlFit, Rows, fit_reml, moments_at
from reconfmri.group.repeated import MeanModel

FEWEST = 5  # expected per arm at a visit; below it REML often fails and the expansion is not checked
MOST = 20_000  # people per arm; nobody plans more
FAR = 6.0  # standard errors from zero: the other tail is below 1e-9, and scipy's series may not converge
REFERENCE_CORRELATIONS = (0.36, 0.70)  # baseline with later visits, later visits among each other
REFERENCE_MISSING = (0.07, 0.20, 0.33)

DESCRIPTIONS = {
    "outcome": "Outcome that is planned for, <what>.<contrast or condition>; missing where none was named",
    "estimand": "difference_adjusted: active minus control at the session, adjusted for baseline; "
    "difference_unadjusted: the same without the baseline; difference_of_change: of later minus baseline; "
    "difference_average: adjusted, the mean over later visits",
    "session": "BIDS session label of the visit that is asked about, without ses-, or `average`",
    "n_per_arm": "People randomised to each arm",
    "n_seen": "People per arm who are expected at the session (the last one, for `average`)",
    "difference": "Smallest true difference of interest, active minus control, in `unit`",
    "unit": "Unit of difference and half_width",
    "half_width": "Expected half-width of the interval of restricted maximum likelihood with Kenward-Roger, "
    "unstructured covariance over visits",
    "power": "Chance of an interval that excludes zero if the true difference is `difference` (two-sided, "
    "noncentral t)",
    "assurance": "Power averaged over the prior of the true difference (assumptions.tsv), either way",
    "df": "Expected degrees of freedom of the interval",
    "level": "Level of the interval",
    "status": "ok; or `not reported: <reason>`, the numbers are missing",
}
HALVING = {
    "outcome": DESCRIPTIONS["outcome"],
    "estimand": DESCRIPTIONS["estimand"],
    "session": DESCRIPTIONS["session"],
    "unit": "Unit of half_width_found",
    "n_active": "People of the active arm with a value at the session, in the finished trial",
    "n_control": "People of the control arm with a value at the session, in the finished trial",
    "half_width_found": "Half-width of the interval of method reml in estimates.tsv",
    "n_per_arm": "People to randomise to each arm for an expected interval of half that width, if the SD "
    "between people stays as it was and correlations and missing visits are those of assumptions.tsv",
    "n_seen": "People per arm of these who are expected at the session",
    "times": "n_per_arm over the number randomised per arm that the finished trial stands for",
    "status": "ok, or `not reported: <reason>`",
}


@dataclass(frozen=True)
class Scenario:
    """What the planned trial will meet, all visits in order, baseline first.

    Raises
    ------
    ValueError
        The covariance is not one, or the shares are not those of people who leave for good.
    """

    covariance: Array  # (v, v), between people of one arm, squared units of the outcome
    missing: tuple[float, ...]  # (v,), share of the randomised who are missing, never falling

    def __post_init__(self) -> None:
        if self.covariance.shape != (len(self.missing), len(self.missing)):
            raise ValueError(
                f"{len(self.missing)} shares of missing people for {len(self.covariance)} visits"
            )
        if not np.isfinite(self.covariance).all() or np.linalg.eigvalsh(self.covariance)[0] <= 0:
            raise ValueError(
                f"no data have the covariance over visits {np.round(self.covariance, 4).tolist()}. Fix: "
                "give correlations between -1 and 1; with baseline not much higher than among later visits"
            )
        shares = np.array([0.0, *self.missing])
        if not (np.isfinite(shares).all() and (np.diff(shares) >= 0).all() and shares[-1] < 1):
            raise ValueError(
                f"the shares missing at the visits, {list(self.missing)}, must be from 0 to below 1 and "
                "never fall: who has left stays away. Fix: e.g. 0.07 0.20 0.33 for three later visits"
            )

    @property
    def pattern_shares(self) -> Array:
        """(v + 1,): share of people whose last visit is each one, and of those who are never seen."""
        seen = 1 - np.array(self.missing)
        return np.append(-np.diff(seen, append=0.0), 1 - seen[0])

    @property
    def fewest(self) -> int:
        """People per arm from which the analysis can be planned at all."""
        return math.ceil(FEWEST / (1 - self.missing[-1]) - 1e-9)

    def seen(self, n_per_arm: float, visit: int) -> float:
        """Return how many per arm are expected at a visit."""
        return n_per_arm * (1 - self.missing[visit])


@dataclass(frozen=True)
class Aim:
    """The difference of interest and what is believed about the true one, in the outcome's unit."""

    difference: float
    prior_mean: float
    prior_sd: float
    level: float = 0.95

    def __post_init__(self) -> None:
        if not (math.isfinite(self.difference) and self.difference):
            raise ValueError(
                f"the difference of interest is {self.difference:g}. Fix: give the smallest one that would "
                "matter to a patient"
            )
        if not (math.isfinite(self.prior_mean) and math.isfinite(self.prior_sd) and self.prior_sd >= 0):
            raise ValueError(
                f"the prior has mean {self.prior_mean:g} and SD {self.prior_sd:g}, but an SD cannot be "
                "negative. Fix: e.g. the difference of interest and half of it"
            )


@dataclass(frozen=True)
class Precision:
    """Standard deviation of an estimate over trials, and the degrees of freedom of its t interval."""

    se: float
    df: float

    def half_width(self, level: float) -> float:
        """Return the mean half-width of the interval; an estimated SE is a chi over its root df."""
        chi = math.sqrt(2 / self.df) * math.exp(gammaln((self.df + 1) / 2) - gammaln(self.df / 2))
        return self._critical(level) * self.se * chi

    def power(self, difference: float, level: float) -> float:
        """Return the chance that the interval excludes zero, of the two-sided noncentral t."""
        return self._exceeds(self._critical(level), difference / self.se)

    def assurance(self, aim: Aim) -> float:
        """Return the power averaged over the prior Normal(mean, sd), in closed form.

        Estimate and true difference together are Normal(mean, sd^2 + se^2), and t shrinks by the ratio.
        """
        total = math.hypot(self.se, aim.prior_sd)
        return self._exceeds(self._critical(aim.level) * self.se / total, aim.prior_mean / total)

    def _critical(self, level: float) -> float:
        return float(stdtrit(self.df, 0.5 + level / 2))

    def _exceeds(self, bound: float, shift: float) -> float:
        """Return P(|t| > bound) of the noncentral t."""
        shift = abs(shift)
        other_side = nct.cdf(-bound, self.df, shift) if shift < FAR else 0.0
        return float(np.clip(nct.sf(bound, self.df, shift) + other_side, 0, 1))


def exchangeable(n_visits: int, *, sd: float, baseline: float, later: float) -> Array:
    """Return the covariance (v, v) of one SD and the correlations of baseline and among later visits."""
    matrix = np.full((n_visits, n_visits), float(later))
    matrix[BASELINE, :] = matrix[:, BASELINE] = baseline
    np.fill_diagonal(matrix, 1.0)
    return np.asarray(sd**2 * matrix)


def scenario_without_arms(values: Array) -> Scenario:
    """Return covariance and missing visits of measured values (n, v), NaN where missing, blind to the arms.

    A mean per visit and an unstructured covariance by REML. Without the arms a variance also holds a quarter
    of the squared difference (Kieser & Friede, Stat Med 2003;22:3571): plans are a little cautious, never
    unblinded. Missing shares are made those of people who leave for good: never falling.

    Raises
    ------
    NotEstimableError
        The values do not determine the covariance.
    """
    measured = values[~np.isnan(values).all(axis=1)]
    design = np.stack([np.eye(values.shape[1])] * len(measured))
    covariance = fit_reml(measured, design, "unstructured").covariance
    shares = np.maximum.accumulate(np.isnan(values).mean(axis=0))
    return Scenario(covariance, tuple(float(share) for share in shares))


def expect(scenario: Scenario, question: Question, n_per_arm: float) -> Precision:
    """Return what to expect of REML with n people per arm, of as many arms as the question has weights.

    In the outcome's unit.

    Against 3,900 simulated trials of 14 and of 30 per arm (reference covariance, 7/20/33 % missing, nine
    questions): half-width within 0.6 %, power within 1.4 points (its Monte Carlo SE is up to 0.8), df 0.4.

    Raises
    ------
    NotEstimableError
        Too few people are expected at some visit, or the question needs a baseline and there is none.
    """
    refuse_without_baseline(question)
    n_visits = len(scenario.missing)
    if n_per_arm < scenario.fewest:
        last = scenario.seen(n_per_arm, n_visits - 1)
        raise NotEstimableError(f"{last:.1f} per arm are expected at the last visit, {FEWEST} are needed")
    visits = tuple(range(n_visits))
    compared, n_arms = visits[1:] if question.common_baseline else visits, len(question.arm_weights)
    model = MeanModel(visits, compared, more=(compared,) * (n_arms - 2))
    design, precision = model.design(np.arange(n_arms)[::-1]), _precisions(scenario)
    people = n_per_arm * scenario.pattern_shares
    fit = expected_fit(design, scenario.covariance, people[:-1])
    weights = model.weights(question, n_visits)
    found, known = fit.infer(weights), fit.plain_se(weights)
    chance = _chance_of_counts(design, precision, people, fit.moments.phi, weights)
    return Precision(math.sqrt((known**2 + found.se**2) / 2 + chance), found.df)


def _precisions(scenario: Scenario) -> Array:
    """Return (v, v, v): the inverse covariance of people whose last visit is each one, zero beyond it."""
    n_visits = len(scenario.missing)
    precision = np.zeros((n_visits, n_visits, n_visits))
    for last in range(n_visits):
        block = scenario.covariance[: last + 1, : last + 1]
        precision[last, : last + 1, : last + 1] = np.linalg.inv(block)
    return precision


def expected_fit(design: Array, covariance: Array, people: Array) -> RemlFit:
    """Return the REML fit to expect at the true covariance; its coefficients are zero.

    `design` (a, v, p) of one person per arm, `people` (v,) per arm whose last visit is each one: as many as
    are expected, which need not be whole.

    Raises
    ------
    NotEstimableError
        The design does not determine every coefficient.
    """
    n_arms, n_visits, _ = design.shape
    seen = np.tile(np.tril(np.ones((n_visits, n_visits), dtype=bool)), (n_arms, 1))
    counts = np.tile(people, n_arms)
    each = np.repeat(design, n_visits, axis=0) * np.sqrt(counts)[:, None, None]
    nothing, rest = np.zeros(seen.shape), np.zeros(len(seen), dtype=np.intp)
    rows = Rows(
        nothing, np.where(seen[:, :, None], each, 0.0), np.arange(len(seen)), counts, seen, nothing, rest
    )
    moments = moments_at(rows, Form("unstructured", n_visits), covariance[np.tril_indices(n_visits)])
    if moments is None:
        raise NotEstimableError("the design does not determine every coefficient")
    return RemlFit(rows, moments, covariance[None], 1.0, "unstructured", "expected")


def _chance_of_counts(design: Array, precision: Array, people: Array, phi: Array, weights: Array) -> float:
    """Return what chance numbers per pattern add to the variance w' phi w.

    Second order in the information H: E[w' phi dH phi dH phi w] over multinomial counts of each arm. Of
    `people` (v + 1,) the last are those who are never seen and carry no information.
    """
    information = np.einsum("avp,kvw,awq->kapq", design, precision, design)  # of one person
    along = information @ (phi @ weights)  # (k, a, p)
    each = np.einsum("k,kap,pq,kaq->", people[:-1], along, phi, along)
    mean = np.einsum("k,kap->ap", people[:-1], along)
    return float(each - np.einsum("ap,pq,aq->", mean, phi, mean) / people.sum())


def plan(
    scenario: Scenario,
    questions: Sequence[Question],
    aim: Aim,
    grid: Sequence[int],
    *,
    outcome: str,
    unit: str,
) -> pd.DataFrame:
    """Return one row per question and n per arm, described by `DESCRIPTIONS`."""
    fixed = {"outcome": outcome or None, "difference": aim.difference, "unit": unit, "level": aim.level}
    rows = [
        fixed
        | {"estimand": question.estimand, "session": question.session, "n_per_arm": n}
        | named_comparison(question)
        | {"n_seen": scenario.seen(n, question.visit)}
        | _row(scenario, question, aim, n)
        for question in questions
        for n in grid
    ]
    names = list(DESCRIPTIONS)
    if any(question.comparison.name for question in questions):
        names.insert(names.index("session"), COMPARISON.name)
    return pd.DataFrame(rows, columns=names)


def _row(scenario: Scenario, question: Question, aim: Aim, n_per_arm: int) -> dict[str, object]:
    try:
        found = expect(scenario, question, n_per_arm)
    except NotEstimableError as reason:
        return {"status": f"not reported: {reason}"}
    return {
        "half_width": found.half_width(aim.level),
        "power": found.power(aim.difference, aim.level),
        "assurance": found.assurance(aim),
        "df": found.df,
        "status": "ok",
    }


def n_for_power(scenario: Scenario, question: Question, aim: Aim, power: float) -> int | None:
    """Return the fewest people per arm that reach a power; none where `MOST` are not enough."""
    return _fewest(
        scenario, lambda n: expect(scenario, question, n).power(aim.difference, aim.level) >= power
    )


def n_for_half_width(scenario: Scenario, question: Question, level: float, half_width: float) -> int | None:
    """Return the fewest people per arm whose expected half-width is at most this; none above `MOST`."""
    return _fewest(scenario, lambda n: expect(scenario, question, n).half_width(level) <= half_width)


def _fewest(scenario: Scenario, reached: Callable[[int], bool]) -> int | None:
    """Return the smallest n per arm that is reached, by bisection: more people never hurt."""
    low, high = scenario.fewest - 1, MOST
    if not reached(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def halve(scenario: Scenario, questions: Sequence[Question], estimates: pd.DataFrame) -> pd.DataFrame:
    """Return the people per arm that would halve each reported REML interval of one outcome (`HALVING`).

    The finished trial stands for a number randomised per arm: the harmonic mean of those seen, over the share
    seen. Both widths are read from one curve, so the SD between people cancels; correlations do not.
    """
    rows = []
    for question in questions:
        here = (estimates["estimand"] == question.estimand) & (estimates["session"] == question.session)
        if question.comparison.name:
            here &= estimates[COMPARISON.name] == question.comparison.name
        reported = estimates[here & (estimates["method"] == "reml") & estimates["lower"].notna()]
        rows += [_halved(scenario, question, row) for row in reported.to_dict("records")]
    return pd.DataFrame(rows, columns=list(HALVING))


def _halved(scenario: Scenario, question: Question, found: dict[Any, Any]) -> dict[str, object]:
    """Return the row of one reported interval."""
    level, copied = float(found["level"]), ("outcome", "estimand", "session", "unit", "n_active", "n_control")
    row: dict[str, object] = {name: found[name] for name in copied}
    row["half_width_found"] = (found["upper"] - found["lower"]) / 2
    seen = 2 / (1 / found["n_active"] + 1 / found["n_control"])
    randomised = seen / (1 - scenario.missing[question.visit])
    try:
        wanted = expect(scenario, question, randomised).half_width(level) / 2
    except NotEstimableError as reason:
        return row | {"status": f"not reported: {reason}"}
    n_per_arm = n_for_half_width(scenario, question, level, wanted)
    if n_per_arm is None:
        return row | {"status": f"not reported: more than {MOST} per arm"}
    numbers = {"n_per_arm": n_per_arm, "n_seen": scenario.seen(n_per_arm, question.visit)}
    return row | numbers | {"times": n_per_arm / randomised, "status": "ok"}
