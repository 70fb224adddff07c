"""Effects pooled over outcomes that were declared exchangeable: their mean, and each drawn towards it.

Two stages. First REML, outcome by outcome: the answer e_j with the standard error of Kenward and Roger, and
how the answers of two outcomes go together, from what each person adds to both (Pipper, Ritz & Bisgaard, J R
Stat Soc C 2012;61:315). Then, with exchangeable outcomes and so one correlation for all of them,

    e ~ Normal(t, l S),   t_j ~ Normal(m, b^2),   m ~ Normal(0, 2.5 s),   b ~ half-t(4, 0, 0.5 s)

where l, what the standard errors may be wrong by, has the scaled inverse chi-square distribution of their
degrees of freedom (Higgins, Thompson & Spiegelhalter, J R Stat Soc A 2009;172:137). Summed over a grid of b
and l; nothing is drawn at random. Secondary by design: where outcomes are not exchangeable, a real effect of
a few is drawn towards the others', and no number of this table can tell. Each outcome alone stays the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import cast

import numpy as np
import pandas as pd
from scipy.special import chdtri

from reconfmri.config import MIN_POOLED, Group, Priors
from reconfmri.contracts.questions.arms import POOLED
from reconfmri.group import bayes, mixtures
from reconfmri.group.asked import Asked
from reconfmri.group.cautions import refuse_other_scale
from reconfmri.group.estimands import Array, Contrast, NotEstimableError, Question, answered, withheld
from reconfmri.group.frequentist import Mixed, answer_by_reml
from reconfmri.group.grid import Outcome
from reconfmri.group.reml import RemlFit, group_precisions
from reconfmri.group.repeated import MeanModel

N_SPREADS, N_ERRORS = 121, 15  # of the grid
Row = dict[str, object]


@dataclass(frozen=True)
class Answer:
    """What REML says of one outcome, and what every person adds to it (n_people,)."""

    found: Contrast
    status: str
    parts: Array


@dataclass(frozen=True)
class Posterior:
    """10,000 evenly spaced quantiles of the mean, of the SD between outcomes, and of each outcome (a row)."""

    mean: Array
    spread: Array
    outcomes: Array


def estimate(asked: Asked) -> pd.DataFrame:
    """Return the pooled answers to the primary estimand at every later session; none without `group.pooled`.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows: list[Row] = []
    group = asked.group
    if group.pooled:
        outcomes = {item.name: item for item in asked.outcomes}
        fits: dict[str, dict[bool, Mixed]] = {name: {} for name in outcomes}
        for name, together in group.pooled.items():
            for question in asked.about([group.primary.estimand]):
                these = [(outcomes[item], fits[item]) for item in together]
                rows += [{"pooled": name, "role": "secondary"} | row for row in _rows(these, question, group)]
    return POOLED.frame(rows)


def _rows(these: Sequence[tuple[Outcome, dict[bool, Mixed]]], question: Question, group: Group) -> list[Row]:
    """The mean, the spread, then every outcome; those that cannot be answered say why and are left out."""
    answers: dict[str, Answer] = {}
    said: dict[str, Row] = {}
    for outcome, fits in these:
        try:
            refuse_other_scale(outcome, group)
            answers[outcome.name] = _answer(outcome, question, group, fits)
            said[outcome.name] = answered(answers[outcome.name].status)
        except NotEstimableError as reason:
            said[outcome.name] = withheld(reason)
    counts = {outcome.name: outcome.counts(question.visit) for outcome, _ in these}
    of_set = min((counts[name] for name in answers), default=(0, 0))
    start: Row = {
        "estimand": question.estimand,
        "session": question.session,
        "unit": these[0][0].unit,
        "level": group.level,
        "n_outcomes": len(answers),
    }
    of_all: dict[str, Row] = {"mean": {}, "spread": {}}
    numbers: dict[str, Row] = {name: {} for name in counts}
    if len(answers) < MIN_POOLED:
        why = f"{len(answers)} of {len(these)} outcomes have an estimate, pooling needs {MIN_POOLED}"
        of_set_said = withheld(f"{why}. Fix: see exclusions.tsv")
        said = dict.fromkeys(said, of_set_said)
    else:
        start["correlation"] = correlation = common_correlation([answer.parts for answer in answers.values()])
        fits_of = [answer.found for answer in answers.values()]
        found = posterior(fits_of, correlation, group.priors, these[0][0].scale)
        of_all["mean"] = bayes.summarise(found.mean, group.level)
        of_all["spread"] = bayes.summarise(found.spread, group.level) | {"probability": np.nan}
        for name, draws in zip(answers, found.outcomes, strict=True):
            numbers[name] = bayes.summarise(draws, group.level)
        labels = sorted({answer.status for answer in answers.values()} - {"ok"})
        of_set_said = answered(", ".join(["ok", *(label.removeprefix("ok, ") for label in labels)]))
    return [
        *(
            start | _counted(of_set) | {"quantity": name} | of_set_said | cells
            for name, cells in of_all.items()
        ),
        *(
            start | _counted(counts[name]) | {"quantity": "outcome", "outcome": name} | said[name] | cells
            for name, cells in numbers.items()
        ),
    ]


def _counted(counts: tuple[int, int]) -> Row:
    return {"n_active": counts[0], "n_control": counts[1]}


def _answer(outcome: Outcome, question: Question, group: Group, fits: dict[bool, Mixed]) -> Answer:
    found, status = answer_by_reml(outcome, question, group, fits)
    mixed = fits[question.common_baseline]
    parts = contributions(outcome, question, mixed.model, cast(RemlFit, mixed.fit))
    return Answer(found, status, parts)


def contributions(outcome: Outcome, question: Question, model: MeanModel, fit: RemlFit) -> Array:
    """Return what each person (n_people,) adds to the answer of a REML fit, 0 who was never seen.

    They sum to zero: generalised least squares of the residuals.
    """
    values = outcome.values[:, model.visits]
    seen = ~np.isnan(values)
    design = np.where(seen[:, :, None], model.design(outcome.active, outcome.adjusted_for), 0.0)
    residuals = np.where(seen, values - design @ fit.beta, 0.0)
    precision, _ = group_precisions(seen, fit.of_people(outcome.active))
    towards = fit.scale**2 * fit.moments.phi @ model.weights(question, outcome.values.shape[1])
    return np.asarray(np.einsum("p,nvp,nvw,nw->n", towards, design, precision, residuals, optimize=True))


def common_correlation(parts: Sequence[Array]) -> float:
    """Return the mean correlation of two outcomes' answers, held where it belongs to a covariance."""
    found = float(np.mean([np.corrcoef(one, other)[0, 1] for one, other in combinations(parts, 2)]))
    lowest = -1 / (len(parts) - 1)
    return float(np.clip(found, 0.95 * lowest, 0.95))


def posterior(answers: Sequence[Contrast], correlation: float, priors: Priors, scale: float) -> Posterior:
    """Return the posterior of exchangeable effects, given their answers and one correlation of these.

    Units are those of the answers, `scale` is the s of the priors.
    """
    values, ses = np.array([answer.estimate for answer in answers]), np.array([item.se for item in answers])
    n = len(values)
    errors = np.outer(ses, ses) * (correlation + (1 - correlation) * np.eye(n))
    # b between a thousandth of a standard error and far beyond what the answers differ by
    ceiling = 10 * (np.ptp(values) + ses.max())
    spreads = np.geomspace(1e-3 * ses.min(), ceiling, N_SPREADS)
    df = float(np.mean([answer.df for answer in answers]))
    wrong = df / chdtri(df, (np.arange(N_ERRORS) + 0.5) / N_ERRORS)
    b, of_errors = (grid.ravel() for grid in np.meshgrid(spreads, wrong, indexing="ij"))
    within = of_errors[:, None, None] * errors
    inverse = np.linalg.inv(within + (b**2)[:, None, None] * np.eye(n))
    leverage = inverse.sum(axis=2)
    prior = 0.0 if priors.flat else (priors.effect * scale) ** -2
    information = leverage.sum(axis=1) + prior
    mean = leverage @ values / information
    log_weights = 0.5 * (np.linalg.slogdet(inverse)[1] - np.log(information) + mean**2 * information)
    log_weights -= 0.5 * np.einsum("i,gij,j->g", values, inverse, values)
    log_weights += np.log(b)  # the grid is even in log b
    if not priors.flat:
        log_weights -= 2.5 * np.log1p((b / (priors.between * scale)) ** 2 / 4)
    weights = mixtures.shares(log_weights)
    drawn = np.einsum("gij,gj->gi", within @ inverse, values - mean[:, None])
    follow = np.einsum("gij,gj->gi", within, leverage)
    left = np.einsum("gii->gi", within - within @ inverse @ within) + follow**2 / information[:, None]
    of_b = weights.reshape(N_SPREADS, N_ERRORS).sum(axis=1)
    return Posterior(
        mixtures.quantiles(mean, information**-0.5, weights),
        mixtures.spread_out(spreads, np.cumsum(of_b) - of_b / 2),
        np.stack(
            [mixtures.quantiles(values[j] - drawn[:, j], np.sqrt(left[:, j]), weights) for j in range(n)]
        ),
    )
