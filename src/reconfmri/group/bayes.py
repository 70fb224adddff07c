"""The Bayesian engine: repeated measures with an unstructured covariance over visits.

One model meets every outcome. For person i of arm a at visit v, in units of s (the scale of the unit),
y_iv = m_v + x_a d_v + e_iv with x = +1/2 (active) and -1/2 (control) and e_i ~ Normal(0, S). Priors:
m_v ~ Normal(0, 5) around the mean of all values, d_v and every d_v - d_w ~ Normal(0, 2.5), which makes the
d_v correlate by one half, SD of each visit ~ half-t(4, 0, 2.5), correlations ~ LKJ(1). Missing visits are
integrated out, so everybody with any measurement is in.
The baseline-adjusted difference comes from the model with d_0 = 0 (constrained longitudinal: Liang and
Zeger 2000), the others from the model with d_0 free.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.config import Group, Priors, Sampling
from reconfmri.group.estimands import (
    BASELINE,
    Array,
    NotEstimableError,
    Question,
    as_table,
    ask,
    refuse_without_baseline,
    start_of_row,
)
from reconfmri.group.grid import NO_SESSION, Outcome, lay_out, refuse_unanswerable
from reconfmri.group.maximum_likelihood import fit_means_and_covariance
from reconfmri.group.repeated import covariance_for, status_of, usable_visits

DIAGNOSTICS = {
    "domain": "As in the estimates",
    "outcome": "As in the estimates",
    "model": "common_baseline: both arms share the baseline mean; free_baseline: they do not",
    "session": "Visit in the model, BIDS session label",
    "unit": "Unit of scale, centre and visit_sd",
    "n_active": "People of the active arm with a value at the visit",
    "n_control": "People of the control arm with a value at the visit",
    "scale": "s of the unit: the priors are Normal(0, effect s) and so on, see group.priors",
    "centre": "Centre of the prior of the visit means: the mean of all values, whatever the arm",
    "visit_sd": "Posterior mean of the standard deviation between people at the visit",
    "r_hat": "Largest R-hat over all parameters",
    "ess": "Smallest bulk or tail effective sample size over all parameters",
    "divergences": "Divergent transitions after warm-up",
    "target_accept": "Target acceptance of the fit; the second, stricter one if the first failed",
    "draws": "Draws per chain after warm-up",
    "covariance": "Over visits: unstructured, or random_intercept where an arm is small (group.covariance)",
    "converged": "Whether the fit passed the gate of group.sampling",
}
FLAT = 1e6
# (times the tuning and the draws of the settings, target acceptance): the second is the stricter one
ATTEMPTS = ((1, 0.97), (3, 0.995))
log = logging.getLogger("reconfmri")


@dataclass(frozen=True)
class Fit:
    """Posterior draws in units of s, (n_draws, n_visits) each, and how well they were sampled."""

    visits: tuple[int, ...]
    mean: Array
    difference: Array
    visit_sd: Array
    r_hat: float
    ess: float
    divergences: int
    draws: int
    target_accept: float
    covariance: str

    def passes(self, gate: Sampling) -> bool:
        """Whether R-hat, ESS and divergences are within the limits; a missing number is not."""
        return (
            self.r_hat <= gate.max_r_hat
            and self.ess >= gate.min_ess
            and self.divergences <= gate.max_divergences
        )

    @property
    def shortcoming(self) -> str:
        """The gate's numbers, for the status of a result that is withheld."""
        return (
            f"did not converge (R-hat {self.r_hat:.3f}, ESS {self.ess:.0f}, {self.divergences} divergences)"
        )


def estimate(
    measures: pd.DataFrame,
    allocation: pd.DataFrame,
    group: Group,
    sessions: Sequence[str],
    *,
    seed: int,
    cores: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return one estimate per outcome, estimand and later session, and the diagnostics of every fit.

    The draws depend on `seed`, the outcome's name and its data only: not on cores, nor on the other outcomes.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    outcomes = lay_out(measures, allocation, group, sessions)
    labels = list(sessions) or [NO_SESSION]
    sampler = Sampler(seed, cores)
    rows: list[dict[str, object]] = []
    diagnostics: list[dict[str, object]] = []
    for outcome in outcomes:
        fits: dict[bool, Fit] = {}
        for question in ask(group.estimands, labels):
            row = start_of_row(outcome, question, "bayes", group.level)
            rows.append(row | answer_question(outcome, question, group, sampler, fits))
        for common_baseline, fit in fits.items():
            diagnostics += _describe(outcome, common_baseline, fit, labels, group.sampling)
    return as_table(rows), pd.DataFrame(diagnostics, columns=list(DIAGNOSTICS))


def answer_question(
    outcome: Outcome,
    question: Question,
    group: Group,
    sampler: Sampler,
    fits: dict[bool, Fit] | None = None,
) -> dict[str, object]:
    """Return the numbers and the status of one question; `fits` keeps the models that questions share."""
    fits = {} if fits is None else fits
    try:
        refuse_without_baseline(question)
        refuse_unanswerable(outcome, question.visits)
    except NotEstimableError as reason:
        return {"status": f"not reported: {reason}"}
    if question.common_baseline not in fits:
        fits[question.common_baseline] = sampler.fit(outcome, question.common_baseline, group)
    fit = fits[question.common_baseline]
    if not fit.passes(group.sampling):
        mend = "more group.sampling.draws, or group.covariance: random_intercept"
        return {"status": f"not reported: {fit.shortcoming}. Mend: {mend}"}
    numbers = _summarise(contrast(fit, question, outcome), group.level)
    return numbers | {"r_hat": fit.r_hat, "ess": fit.ess, "status": status_of(fit.covariance)}


def contrast(fit: Fit, question: Question, outcome: Outcome) -> Array:
    """Return the draws of the estimand, (n_draws,), in the outcome's unit."""
    control, active = question.weights(outcome.values.shape[1])[:, fit.visits]
    half = fit.difference / 2
    draws: Array = outcome.scale * ((fit.mean - half) @ control + (fit.mean + half) @ active)
    return draws


def highest_density(draws: Array, level: float) -> tuple[float, float]:
    """Return the ends of the shortest interval that holds `level` of the draws."""
    ordered = np.sort(draws)
    inside = int(np.floor(level * ordered.size))
    start = int(np.argmin(ordered[inside:] - ordered[: ordered.size - inside]))
    return float(ordered[start]), float(ordered[start + inside])


class Sampler:
    """Fits outcomes one by one with the model that was compiled once for the size of their grid."""

    def __init__(self, seed: int, cores: int | None = None):
        self.seed, self.cores = seed, cores

    def fit(self, outcome: Outcome, common_baseline: bool, group: Group) -> Fit:
        """Return the fit that passed the gate, or the second, stricter one."""
        data = model_data(outcome, common_baseline, group.priors)
        name = f"{outcome.name}|{'common' if common_baseline else 'free'}"
        seeds = np.random.SeedSequence([self.seed, zlib.crc32(name.encode())]).generate_state(len(ATTEMPTS))
        covariance = covariance_for(outcome, group)
        compiled = compile_model(*data["values"].shape, covariance).with_data(**data)
        for (longer, target_accept), seed in zip(ATTEMPTS, seeds, strict=True):
            started = time.monotonic()
            fit = self._sample(
                compiled, outcome, data["used"] > 0, group.sampling, longer, target_accept, int(seed)
            )
            fit = replace(fit, covariance=covariance)
            log.info(
                "%s: R-hat %.4f, ESS %.0f, %d divergences at target %.3f, %.1f s",
                *(name, fit.r_hat, fit.ess, fit.divergences, target_accept, time.monotonic() - started),
            )
            if fit.passes(group.sampling):
                break
        return fit

    def _sample(
        self,
        compiled: Any,
        outcome: Outcome,
        used: NDArray[np.bool_],
        settings: Sampling,
        longer: int,
        target_accept: float,
        seed: int,
    ) -> Fit:
        import nutpie

        trace = nutpie.sample(
            compiled,
            tune=longer * settings.tune,
            draws=longer * settings.draws,
            chains=settings.chains,
            cores=self.cores,
            seed=seed,
            target_accept=target_accept,
            progress_bar=False,
            save_warmup=False,
        )
        draws = {name: trace.posterior[name].to_numpy() for name in trace.posterior.data_vars}
        draws["difference"] = np.where(used, draws["difference"], 0.0)
        r_hat, ess = _mixing(
            [draws[name][..., used] if name == "difference" else draws[name] for name in draws]
        )
        flat = {
            name: draws[name].reshape(-1, draws[name].shape[-1])
            for name in ("mean", "difference", "visit_sd")
        }
        return Fit(
            visits=usable_visits(outcome),
            **flat,
            r_hat=r_hat,
            ess=ess,
            divergences=int(trace.sample_stats["diverging"].sum()),
            draws=longer * settings.draws,
            target_accept=target_accept,
            covariance="unstructured",
        )


def model_data(outcome: Outcome, common_baseline: bool, priors: Priors) -> dict[str, Array]:
    """Return the data of the compiled model for one outcome, in units of s around its centre.

    `used` is 0 where a difference is not in the likelihood: at a common baseline, or if an arm was not seen.
    `start_means` and `start_factor` move and stretch the coordinates of the sampler and change no posterior.
    """
    visits = list(usable_visits(outcome))
    values = (outcome.values[:, visits] - centre_of(outcome)) / outcome.scale
    side = np.where(outcome.active, 0.5, -0.5)
    used = np.array([float(min(outcome.counts(visit)) > 0) for visit in visits])
    common_baseline = common_baseline and visits[0] == BASELINE
    if common_baseline:
        used[0] = 0.0
    someone = ~np.isnan(values).all(axis=1)
    means, covariance = fit_means_and_covariance(
        values[someone], side[someone], common_baseline=common_baseline
    )
    wide = [FLAT, FLAT] if priors.flat else [priors.mean, priors.effect]
    return {
        "values": np.nan_to_num(values),
        "seen": (~np.isnan(values)).astype(np.float64),
        "side": side,
        "used": used,
        "prior_sd": np.array([*wide, priors.sd]),
        "start_means": means * np.stack([np.ones_like(used), used]),
        "start_factor": np.linalg.cholesky(covariance),
    }


def centre_of(outcome: Outcome) -> float:
    """Return the mean of all values of all people at all visits: it does not depend on the arms."""
    return float(np.nanmean(outcome.values))


@cache
def compile_model(n_people: int, n_visits: int, covariance: str = "unstructured") -> Any:
    """Return nutpie's compiled model for any data on a grid of this size, by numba alone."""
    started = time.monotonic()
    # PyTensor wants a folder to write to although nothing is compiled to C; HOME may be read-only.
    os.environ.setdefault("PYTENSOR_FLAGS", f"base_compiledir={tempfile.gettempdir()}/pytensor-{os.getuid()}")
    with warnings.catch_warnings():
        # arviz announces its successor at every import
        warnings.simplefilter("ignore", FutureWarning)
        import nutpie

        from reconfmri.group.likelihood import without_compiler

    without_compiler()
    compiled = nutpie.compile_pymc_model(build_model(n_people, n_visits, covariance), backend="numba")
    took = time.monotonic() - started
    log.info("compiled for %d people x %d visits, %s, %.1f s", n_people, n_visits, covariance, took)
    return compiled


def build_model(n_people: int, n_visits: int, covariance: str = "unstructured") -> Any:
    """Return the PyMC model, with its data at harmless values.

    Means are sampled as `root @ moved` around a first estimate, `root` being a factor of the covariance S
    over visits, so that small samples have no funnel.
    """
    import pymc as pm
    import pytensor.tensor as pt

    from reconfmri.group.likelihood import seen_log_density

    with pm.Model() as model:
        values = pm.Data("values", np.zeros((n_people, n_visits)))
        seen = pm.Data("seen", np.ones((n_people, n_visits)))
        side = pm.Data("side", np.resize([0.5, -0.5], n_people))
        used = pm.Data("used", np.ones(n_visits))
        prior_sd = pm.Data("prior_sd", np.ones(3))
        start_means = pm.Data("start_means", np.zeros((2, n_visits)))
        start_factor = pm.Data("start_factor", np.eye(n_visits))

        factor = _unstructured if covariance == "unstructured" else _random_intercept
        root = factor(pm, n_visits, start_factor, prior_sd[2])
        moved_mean, moved_difference = (
            _flat(pm, "moved_mean", n_visits),
            _flat(pm, "moved_difference", n_visits),
        )
        mean = pm.Deterministic("mean", start_means[0] + root @ moved_mean)
        difference = pm.Deterministic(
            "difference", used * (start_means[1] + root @ (used * moved_difference))
        )

        pm.Potential("prior_mean", -0.5 * pt.sum(pt.square(mean / prior_sd[0])))
        # Differences correlate by one half: they and their changes between visits have the same spread.
        apart = used * difference / prior_sd[1]
        together = 2 * (pt.sum(pt.square(apart)) - pt.square(pt.sum(apart)) / (pt.sum(used) + 1))
        # a difference that is not in the likelihood leaves its coordinate a standard normal
        idle = pt.sum((1 - used) * pt.square(moved_difference))
        pm.Potential("prior_difference", -0.5 * (together + idle))
        pm.Potential("jacobian_means", pt.sum((1 + used) * pt.log(pt.diag(root))))
        means = mean[None, :] + side[:, None] * difference[None, :]
        pm.Potential("likelihood", seen_log_density(means, root @ root.T, values, seen))
    return model


def _unstructured(pm: Any, n_visits: int, start_factor: Any, sd_scale: Any) -> Any:
    """Return the factor R = A U^-1 of a free covariance S = R R', with its prior: half-t SDs and LKJ(1).

    A factors a first estimate, U is lower triangular: its diagonal exp(`log_scale`), below it `slope`.
    """
    import pytensor.tensor as pt

    log_scale = _flat(pm, "log_scale", n_visits)
    precision_factor = pt.diag(pt.exp(log_scale))
    below = np.tril_indices(n_visits, -1)
    if n_visits > 1:
        precision_factor = precision_factor[below].set(_flat(pm, "slope", len(below[0])))
    root = start_factor @ pt.linalg.solve_triangular(precision_factor, np.eye(n_visits), lower=True)
    covariance = root @ root.T
    visit_sd = pm.Deterministic("visit_sd", pt.sqrt(pt.diag(covariance)))
    if n_visits > 1:
        pm.Deterministic("correlation", (covariance / (visit_sd[:, None] * visit_sd[None, :]))[below])
    half_t = pm.HalfStudentT.dist(nu=4, sigma=sd_scale, shape=n_visits)
    # LKJ(1) is flat over correlations: p(S) = prod half_t(sd_v) sd_v^-V, times |dS / d(log_scale, slope)|
    pm.Potential("prior_covariance", pt.sum(pm.logp(half_t, visit_sd) - n_visits * pt.log(visit_sd)))
    exponents = np.arange(2, n_visits + 2) - 2 * (n_visits + 1)
    pm.Potential("jacobian_covariance", pt.sum(exponents * log_scale))
    return root


def _random_intercept(pm: Any, n_visits: int, start_factor: Any, sd_scale: Any) -> Any:
    """Return the factor of S = sd^2 ((1 - r) I + r J): one half-t SD for all visits, r uniform on 0 to 1."""
    import pytensor.tensor as pt

    start = pt.log(pt.mean(pt.diag(start_factor @ start_factor.T))) / 2
    moved = _flat(pm, "moved_log_sd", 1)[0]
    sd = pt.exp(start + moved)
    logit = _flat(pm, "logit_correlation", 1)[0]
    share = pm.math.sigmoid(logit)
    pm.Deterministic("correlation", share[None])
    pm.Deterministic("visit_sd", sd * pt.ones(n_visits))
    pm.Potential("prior_sd_log", pm.logp(pm.HalfStudentT.dist(nu=4, sigma=sd_scale), sd) + start + moved)
    pm.Potential("prior_share", pt.log(share) + pt.log1p(-share))
    covariance = sd**2 * ((1 - share) * pt.eye(n_visits) + share * pt.ones((n_visits, n_visits)))
    return pt.linalg.cholesky(covariance)


def _flat(pm: Any, name: str, size: int) -> Any:
    return pm.Flat(name, shape=size, initval=np.zeros(size))


def _mixing(parameters: list[Array]) -> tuple[float, float]:
    """Largest R-hat and smallest bulk or tail ESS of (n_chains, n_draws, n) each (Vehtari et al. 2021)."""
    import arviz as az

    columns = [block[:, :, i] for block in parameters for i in range(block.shape[2])]
    r_hat = max(float(az.rhat(column)) for column in columns)
    ess = min(float(az.ess(column, method=kind)) for column in columns for kind in ("bulk", "tail"))
    return r_hat, ess


def _summarise(draws: Array, level: float) -> dict[str, object]:
    lower, upper = highest_density(draws, level)
    above = float((draws > 0).mean())
    return {
        "estimate": float(draws.mean()),
        "sd": float(draws.std(ddof=1)),
        "lower": lower,
        "upper": upper,
        "probability": max(above, 1 - above),
    }


def _describe(
    outcome: Outcome, common_baseline: bool, fit: Fit, sessions: Sequence[str], gate: Sampling
) -> list[dict[str, object]]:
    """The diagnostics of one fit, one row per visit in the model."""
    rows: list[dict[str, object]] = []
    for column, visit in enumerate(fit.visits):
        n_active, n_control = outcome.counts(visit)
        rows.append(
            {
                "domain": outcome.domain,
                "outcome": outcome.name,
                "model": "common_baseline" if common_baseline else "free_baseline",
                "session": sessions[visit],
                "unit": outcome.unit,
                "n_active": n_active,
                "n_control": n_control,
                "scale": outcome.scale,
                "centre": centre_of(outcome),
                "visit_sd": outcome.scale * float(fit.visit_sd[:, column].mean()),
                "r_hat": fit.r_hat,
                "ess": fit.ess,
                "divergences": fit.divergences,
                "target_accept": fit.target_accept,
                "draws": fit.draws,
                "covariance": fit.covariance,
                "converged": str(fit.passes(gate)).lower(),
            }
        )
    return rows
