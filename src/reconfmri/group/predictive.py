"""What the priors allow and what the fitted model would have seen: replicated trials beside the observed one.

A replicated trial has the people, arms and missed visits of the real one. Of the prior one asks whether it
allows what can happen and not much more; of the posterior whether the observed mean, spread, lowest and
highest value of an arm at a visit are among those of its replicates (Gelman, Meng & Stern, Statistica Sinica
1996;6:733). A mean is nearly always well replicated, as the model was fitted to it; the extremes are what a
Gaussian model gets wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reconfmri.config import Group
from reconfmri.group.bayes_model import DF_RATE, DF_SHAPE, RATIO_SD
from reconfmri.group.draws import Draws
from reconfmri.group.estimands import Array, answered, withheld
from reconfmri.group.grid import Outcome

if TYPE_CHECKING:
    from reconfmri.group.bayes import Fit

REPLICATES = 500
STATISTICS: dict[str, Callable[..., Any]] = {
    "mean": np.nanmean,
    "sd": lambda values, axis: np.nanstd(values, axis=axis, ddof=1),
    "lowest": np.nanmin,
    "highest": np.nanmax,
}
Row = dict[str, object]


def check(
    outcome: Outcome, fit: Fit, common_baseline: bool, group: Group, labels: Sequence[str], seed: int
) -> Iterator[Row]:
    """Yield the rows of one fit: what its priors and its posterior replicate. Columns: `PREDICTIONS`."""
    start = {
        "outcome": outcome.name,
        "unit": outcome.unit,
        "model": "common_baseline" if common_baseline else "free_baseline",
    }
    random = np.random.default_rng([seed, zlib.crc32(outcome.name.encode()), 1])
    chosen = np.linspace(0, len(fit.mean) - 1, REPLICATES).astype(int)
    prior_fault = "flat priors allow every value" if group.priors.flat else ""
    posterior_fault = "" if fit.passes(group.sampling) else fit.shortcoming
    for name, fault in (("prior", prior_fault), ("posterior", posterior_fault)):
        if fault:
            yield {**start, "check": name, **withheld(fault)}
            continue
        draws = draw_prior(fit, group, random) if name == "prior" else fit.some(chosen)
        values = replicate(draws, fit.visits, outcome, random)
        if ends := group.bounded.get(outcome.name) or group.ordinal.get(outcome.name):
            values = values.clip(*ends)  # what lies beyond is recorded as the end of the scale
        for row in _compare(values, fit.visits, outcome, group, labels):
            yield {**start, "check": name, **row}


def replicate(draws: Draws, visits: Sequence[int], outcome: Outcome, random: np.random.Generator) -> Array:
    """Return trials (n_draws, n_people, n_visits) in the outcome's unit, NaN where a visit was missed."""
    means = draws.means(outcome)
    roots = np.linalg.cholesky(draws.covariances() + 1e-9 * np.eye(means.shape[2]))
    noise = np.einsum("bvw,biw->biv", roots, random.standard_normal(means.shape))
    n_arms = len(outcome.arms)
    of_arms = np.stack([draws.spread(arm, n_arms) for arm in range(n_arms)])
    spread = of_arms[np.asarray(outcome.arm, dtype=np.intp)]
    noise *= spread.transpose(1, 0, 2)
    if np.isfinite(draws.df).all():
        noise *= np.sqrt(draws.df[:, None] / random.chisquare(draws.df[:, None], means.shape[:2]))[..., None]
    centre = float(np.nanmean(outcome.values))
    seen = outcome.seen[:, list(visits)]
    return np.asarray(np.where(seen, centre + outcome.scale * (means + noise), np.nan))


def draw_prior(fit: Fit, group: Group, random: np.random.Generator, n_draws: int = REPLICATES) -> Draws:
    """Return draws from the priors of a fit, in units of s, with the differences that it has."""
    n_visits, priors = len(fit.visits), group.priors
    shape = (n_draws, n_visits)
    used = np.asarray(fit.difference.any(axis=0))
    difference = _prior_differences(used, n_draws, random)
    one_sd = fit.covariance != "unstructured"
    visit_sd = priors.sd * np.abs(random.standard_t(4, (n_draws, 1) if one_sd else shape))
    slope = priors.effect * random.standard_normal((n_draws, *fit.slope.shape[1:]))
    shared_slope = (fit.slope == fit.slope[:, :, :1]).all(axis=(0, 2))  # one for all visits
    slope[:, shared_slope] = slope[:, shared_slope, :1]
    log_ratio = np.zeros((n_draws, *used.shape))
    if fit.log_ratio.any():
        log_ratio = RATIO_SD * _alike_over_arms(np.asarray(random.standard_normal(log_ratio.shape)))
    return Draws(
        mean=priors.mean * random.standard_normal(shape),
        difference=used * priors.effect * difference / np.sqrt(2),
        visit_sd=np.broadcast_to(visit_sd, shape),
        correlation=random.random((n_draws, 1)) if one_sd else lkj(n_draws, n_visits, random),
        slope=slope,
        log_ratio=log_ratio,
        df=_prior_df(n_draws, random) if np.isfinite(fit.df).all() else np.full(n_draws, np.inf),
    )


def _prior_differences(used: NDArray[np.bool_], n_draws: int, random: np.random.Generator) -> Array:
    """Return draws (n_draws, *used.shape) of variance 2, that correlate by one half over visits and arms."""
    shared, own = (
        random.standard_normal((n_draws, *used.shape[:-1], 1)),
        random.standard_normal((n_draws, *used.shape)),
    )
    return _alike_over_arms(np.asarray(shared + own))


def _alike_over_arms(draws: Array) -> Array:
    """Return (n_draws, n_arms - 1, n_visits) that correlate by one half over the arms; of two as they are."""
    if draws.ndim == 2:
        return draws
    root = np.linalg.cholesky((np.eye(draws.shape[1]) + 1) / 2)
    return np.asarray(np.einsum("ab,nbv->nav", root, draws))


def lkj(n_draws: int, n_visits: int, random: np.random.Generator) -> Array:
    """Return draws from LKJ(1), flat over correlation matrices: below the diagonal, row by row.

    Row by row of a Cholesky factor (Lewandowski, Kurowicka & Joe, J Multivar Anal 2009;100:1989).
    """
    factor = np.zeros((n_draws, n_visits, n_visits))
    factor[:, 0, 0] = 1.0
    for row in range(1, n_visits):
        length = random.beta(row / 2, 1 + (n_visits - 1 - row) / 2, (n_draws, 1))
        direction = random.standard_normal((n_draws, row))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        factor[:, row, :row] = np.sqrt(length) * direction
        factor[:, row, row] = np.sqrt(1 - length[:, 0])
    rows, columns = np.tril_indices(n_visits, -1)
    return np.asarray((factor @ factor.transpose(0, 2, 1))[:, rows, columns])


def _prior_df(n_draws: int, random: np.random.Generator) -> Array:
    drawn = random.gamma(DF_SHAPE, 1 / DF_RATE, 2 * n_draws + 100)
    return np.asarray(drawn[drawn > 1][:n_draws])


def _compare(
    values: Array, visits: Sequence[int], outcome: Outcome, group: Group, labels: Sequence[str]
) -> Iterator[Row]:
    for arm in group.arms.shown:
        people = outcome.in_arm(group.arms.labels.index(arm))
        for place, visit in enumerate(visits):
            observed = outcome.values[people, visit]
            if (~np.isnan(observed)).sum() < 2:
                continue
            for name, statistic in STATISTICS.items():
                found = float(statistic(observed, axis=0))
                replicated = statistic(values[:, people, place], axis=1)
                lower, median, upper = np.quantile(replicated, [0.025, 0.5, 0.975]).tolist()
                yield {
                    "arm": arm,
                    "session": labels[visit],
                    "statistic": name,
                    "observed": found,
                    "lower": lower,
                    "median": median,
                    "upper": upper,
                    "p": float((replicated > found).mean() + (replicated == found).mean() / 2),
                    **answered(),
                }
