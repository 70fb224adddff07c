"""The Bayesian engine: repeated measures with an unstructured covariance over visits.

One model meets every outcome. For person i of arm a at visit v, in units of s (the scale of the unit),
y_iv = m_v + x_a d_v + e_iv with x = +1/2 (active) and -1/2 (control) and e_i ~ Normal(0, S). Priors:
m_v ~ Normal(0, 5) around the mean of all values, d_v and every d_v - d_w ~ Normal(0, 2.5), which makes the
d_v correlate by one half, SD of each visit ~ half-t(4, 0, 2.5), correlations ~ LKJ(1). Missing visits are
integrated out, so everybody with any measurement is in. Asked for in the study file: multivariate t in place
of Normal, S its scale, degrees of freedom ~ gamma(2, 0.1) above 1; an SD per arm, their log ratio at a visit
~ Normal(0, 0.5); covariates, a slope per visit or one for all ~ Normal(0, 2.5) per SD.
Of several active arms each has differences d_j from the control, coded around the mean of the arms (sum_j
(1[j is the arm] - 1/n_arms) d_jv), which correlate by one half over the arms too: no arm is special a priori.
The baseline-adjusted difference comes from the model with d_0 = 0 (constrained longitudinal: Liang and
Zeger 2000), the others from the model with d_0 free.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.config import Group, Priors, Sampling
from reconfmri.contracts.questions.bayesian import DIAGNOSTICS, PREDICTIONS
from reconfmri.group import predictive
from reconfmri.group.asked import Asked
from reconfmri.group.bayes_model import Form, compile_model
from reconfmri.group.cautions import flag, refuse_other_scale
from reconfmri.group.covariances import status_of
from reconfmri.group.draws import Draws
from reconfmri.group.estimands import (
    Array,
    NotEstimableError,
    Question,
    answered,
    as_table,
    code_arms,
    refuse_without_baseline,
    start_of_row,
    withheld,
)
from reconfmri.group.grid import Outcome, refuse_unanswerable
from reconfmri.group.maximum_likelihood import fit_means_and_covariance
from reconfmri.group.repeated import covariances_for, mean_model, usable_visits

FLAT = 1e6
USED = ("difference",)  # what stands still where a difference is not used
# (times the tuning and the draws of the settings, target acceptance): the second is the stricter one. Few
# people leave a posterior with sharp corners: most of their fits need small steps at once.
ATTEMPTS = ((1, 0.9), (3, 0.99))
ATTEMPTS_OF_FEW = ((1, 0.98), (2, 0.99))
FEW = 20  # people
MAX_DEPTH = 7  # doublings of a trajectory: sound fits use 3 to 5, and others must not take minutes
log = logging.getLogger("reconfmri")


@dataclass(frozen=True)
class Fit(Draws):
    """Posterior draws and how well they were sampled."""

    visits: tuple[int, ...]
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
    def status(self) -> str:
        """The status of an answer from these draws."""
        by_arm, student_t = bool(self.log_ratio.any()), bool(np.isfinite(self.df).all())
        return status_of(self.covariance, by_arm=by_arm, student_t=student_t)

    @property
    def shortcoming(self) -> str:
        """The gate's numbers, for the status of a result that is withheld."""
        return (
            f"did not converge (R-hat {self.r_hat:.3f}, ESS {self.ess:.0f}, {self.divergences} divergences)"
        )


class Answers(NamedTuple):
    """The estimates, the diagnostics of every fit, and what prior and posterior predict."""

    estimates: pd.DataFrame
    diagnostics: pd.DataFrame
    predictions: pd.DataFrame


def estimate(asked: Asked) -> Answers:
    """Return one estimate per outcome, estimand and later session, and how well the model does.

    Columns: `ESTIMATES`, `DIAGNOSTICS`, `PREDICTIONS`. The draws depend on the seed, the outcome's name and
    its data only: not on cores, nor on the other outcomes.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    group, labels, sampler = asked.group, asked.labels, Sampler(asked.seed, asked.cores)
    rows: list[dict[str, object]] = []
    diagnostics: list[dict[str, object]] = []
    predictions: list[dict[str, object]] = []
    for outcome in asked.outcomes:
        fits: dict[bool, Fit] = {}
        if outcome.name == group.primary.outcome:
            fits = asked.primary_fits
        for question in asked.questions:
            row = start_of_row(outcome, question, "bayes", group)
            rows.append(row | answer_question(outcome, question, group, sampler, fits))
        for common_baseline, fit in fits.items():
            diagnostics += _describe(outcome, common_baseline, fit, labels, group.sampling)
        for common_baseline in sorted(fits)[-1:]:
            predictions += predictive.check(
                outcome, fits[common_baseline], common_baseline, group, labels, asked.seed
            )
    return Answers(
        flag(as_table(rows), asked.outcomes, labels),
        DIAGNOSTICS.frame(diagnostics),
        PREDICTIONS.frame(predictions),
    )


def answer_question(
    outcome: Outcome,
    question: Question,
    group: Group,
    sampler: Sampler,
    fits: dict[bool, Fit] | None = None,
    *,
    add_se: bool = False,
) -> dict[str, object]:
    """Return the numbers and the status of one question; `fits` keeps the models that questions share.

    `add_se`: every value has a known error of its own, on top of the covariance over visits.
    """
    fits = {} if fits is None else fits
    try:
        refuse_without_baseline(question)
        refuse_unanswerable(outcome, question)
        refuse_other_scale(outcome, group)
    except NotEstimableError as reason:
        return withheld(reason)
    if question.common_baseline not in fits:
        fits[question.common_baseline] = sampler.fit(outcome, question.common_baseline, group, add_se=add_se)
    fit = fits[question.common_baseline]
    if not fit.passes(group.sampling):
        fix = "more group.sampling.draws, or group.covariance: random_intercept"
        return withheld(f"{fit.shortcoming}. Fix: {fix}")
    draws = contrast(fit, question, outcome)
    numbers = summarise(draws, group.level) | {"rope_probability": rope_probability(draws, outcome, group)}
    return numbers | {"r_hat": fit.r_hat, "ess": fit.ess} | answered(fit.status)


def contrast(fit: Fit, question: Question, outcome: Outcome) -> Array:
    """Return the draws of the estimand, (n_draws,), in the outcome's unit."""
    return weigh(fit, question.weights(outcome.values.shape[1])) * outcome.scale


def weigh(fit: Fit, weights: Array) -> Array:
    """Return draws (n_draws,), in s, of weights (n_arms, n_visits) of the arms' means, the control first."""
    by_arm = weights[:, fit.visits]
    return np.asarray(sum(fit.mean_of(arm, len(by_arm)) @ mine for arm, mine in enumerate(by_arm)))


def highest_density(draws: Array, level: float, weights: Array | None = None) -> tuple[float, float]:
    """Return the ends of the shortest interval that holds `level` of the draws, or of their weights."""
    order = np.argsort(draws)
    ordered = draws[order]
    if weights is None:
        inside = int(np.floor(level * ordered.size))
        start = int(np.argmin(ordered[inside:] - ordered[: ordered.size - inside]))
        return float(ordered[start]), float(ordered[start + inside])
    up_to = np.concatenate([[0.0], np.cumsum(weights[order])])
    ends = np.searchsorted(up_to, up_to[:-1] + level * up_to[-1] * (1 - 1e-12)) - 1
    starts = np.flatnonzero(ends < ordered.size)
    start = int(starts[np.argmin(ordered[ends[starts]] - ordered[starts])])
    return float(ordered[start]), float(ordered[ends[start]])


def rope_probability(draws: Array, outcome: Outcome, group: Group) -> float:
    """Return the share of the draws that are too small to matter; missing where the study does not say."""
    reach = group.rope.get(outcome.unit)
    return np.nan if reach is None else float((np.abs(draws) <= reach).mean())


class Sampler:
    """Fits outcomes one by one with the model that was compiled once for their form."""

    def __init__(self, seed: int, cores: int | None = None):
        self.seed, self.cores = seed, cores

    def fit(self, outcome: Outcome, common_baseline: bool, group: Group, *, add_se: bool = False) -> Fit:
        """Return the first fit that passed the gate, of the covariances that the study allows; or the last.

        Each is tried twice, the second time longer and with smaller steps.
        """
        data = model_data(outcome, common_baseline, group.priors, add_se=add_se)
        name = f"{outcome.name}|{'common' if common_baseline else 'free'}"
        n_people, n_visits = data["values"].shape
        attempts = ATTEMPTS_OF_FEW if n_people < FEW else ATTEMPTS
        seeds = np.random.SeedSequence([self.seed, zlib.crc32(name.encode())]).generate_state(len(attempts))
        for covariance in covariances_for(outcome, group):
            if covariance == "shrunk_unstructured":  # its priors shrink already
                continue
            form = Form(
                n_visits,
                covariance,
                student_t=group.likelihood == "student_t",
                by_arm=group.spread == "by_arm",
                n_covariates=outcome.adjusted_for.shape[1],
                n_outcomes=len(outcome.baselines),
                n_arms=len(outcome.arms),
            )
            compiled = compile_model(form).with_data(**data)
            for (longer, target_accept), seed in zip(attempts, seeds, strict=True):
                started = time.monotonic()
                fit = self._sample(
                    compiled, outcome, data["used"] > 0, group.sampling, longer, target_accept, int(seed)
                )
                fit = replace(fit, covariance=covariance)
                log.info(
                    "%s, %s: R-hat %.4f, ESS %.0f, %d divergences at target %.3f, %.1f s",
                    *(name, covariance, fit.r_hat, fit.ess, fit.divergences, target_accept),
                    time.monotonic() - started,
                )
                if fit.passes(group.sampling):
                    return fit
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
        from threadpoolctl import threadpool_limits

        # The model's matrices are small: threads of BLAS would only wait for one another.
        with threadpool_limits(1, user_api="blas"):
            trace = nutpie.sample(
                compiled,
                tune=longer * settings.tune,
                draws=longer * settings.draws,
                chains=settings.chains,
                cores=self.cores,
                seed=seed,
                target_accept=target_accept,
                maxdepth=MAX_DEPTH,
                progress_bar=False,
                save_warmup=False,
            )
        draws = {name: trace.posterior[name].to_numpy() for name in trace.posterior.data_vars}
        draws["difference"] = np.where(used, draws["difference"], 0.0)
        moving = {name: block[:, :, used] if name in USED else block for name, block in draws.items()}
        r_hat, ess = _mixing([block.reshape(*block.shape[:2], -1) for block in moving.values()])
        flat = {name: block.reshape(-1, *block.shape[2:]) for name, block in draws.items()}
        n_draws = len(flat["mean"])
        return Fit(
            visits=usable_visits(outcome),
            mean=flat["mean"],
            difference=flat["difference"],
            visit_sd=flat["visit_sd"],
            correlation=flat.get("correlation", np.zeros((n_draws, 0))),
            slope=flat.get("slope", np.zeros((n_draws, 0, flat["mean"].shape[1]))),
            log_ratio=flat.get("log_ratio", np.zeros((n_draws, *used.shape))),
            df=flat["df"][:, 0] if "df" in flat else np.full(n_draws, np.inf),
            r_hat=r_hat,
            ess=ess,
            divergences=int(trace.sample_stats["diverging"].sum()),
            draws=longer * settings.draws,
            target_accept=target_accept,
            covariance="unstructured",
        )


def model_data(
    outcome: Outcome, common_baseline: bool, priors: Priors, *, add_se: bool = False
) -> dict[str, Array]:
    """Return the data of the compiled model for one outcome, in units of s around its centre.

    `used` (n_visits,), with several active arms (n_arms - 1, n_visits), is 0 where a difference is not in the
    likelihood: at a common baseline, or if an arm was not seen.
    `start_means` and `start_factor` move and stretch the coordinates of the sampler and change no posterior.
    """
    visits = list(usable_visits(outcome))
    values = (outcome.values[:, visits] - centre_of(outcome)) / outcome.scale
    model = mean_model(outcome, common_baseline)
    n_arms = len(outcome.arms)
    side, used = code_arms(outcome.arm, n_arms), np.zeros((n_arms - 1, len(visits)))
    for place, visit in model.differences:
        used[place, visits.index(visit)] = 1.0
    alike = np.flatnonzero(np.isin(visits, outcome.baselines)) if common_baseline else np.arange(0)
    someone = ~np.isnan(values).all(axis=1)
    means, covariance = fit_means_and_covariance(
        values[someone],
        side[someone],
        outcome.adjusted_for[someone],
        alike=alike.tolist(),
    )
    known = np.zeros_like(values)
    if add_se and outcome.ses is not None:
        known = np.nan_to_num(outcome.ses[:, visits] / outcome.scale) ** 2
    seen = (~np.isnan(values)).astype(np.float64)
    # people who missed the same visits stand together: the likelihood goes by pattern
    order = np.lexsort(seen.T)
    covariates = {}
    if outcome.columns:
        per_visit = np.array([column.per_visit for column in outcome.columns], dtype=np.float64)
        covariates = {"covariates": outcome.adjusted_for[order], "per_visit": per_visit}
        shared = means[n_arms:][per_visit == 0]
        means[n_arms:][per_visit == 0] = shared.mean(axis=1, keepdims=True)
    wide = [FLAT, FLAT] if priors.flat else [priors.mean, priors.effect]
    return {
        "values": np.nan_to_num(values)[order],
        "seen": seen[order],
        "known": known[order],
        "prior_sd": np.array([*wide, priors.sd]),
        "start_means": means * np.vstack([np.ones(len(visits)), used, np.ones_like(means[n_arms:])]),
        "start_factor": np.linalg.cholesky(covariance),
        **covariates,
        **_arms_data(side[order], used),
    }


def _arms_data(side: Array, used: Array) -> dict[str, Array]:
    """Return how arms are coded, which differences are used and, of several, the precision of their prior.

    Differences from the control have one spread and correlate by one half, over the arms as over the visits:
    so have those between any two arms, and changes between visits.
    """
    if len(used) == 1:
        return {"side": side[:, 0], "used": used[0]}
    over_arms, over_visits = ((np.eye(size) + 1) / 2 for size in used.shape)
    there = used.ravel() > 0
    precision = np.zeros((used.size, used.size))
    precision[np.ix_(there, there)] = np.linalg.inv(np.kron(over_arms, over_visits)[np.ix_(there, there)])
    return {"side": side, "used": used, "prior_precision": precision}


def centre_of(outcome: Outcome) -> float:
    """Return the mean of all values of all people at all visits: it does not depend on the arms."""
    return float(np.nanmean(outcome.values))


def _mixing(parameters: list[Array]) -> tuple[float, float]:
    """Largest R-hat and smallest bulk or tail ESS of (n_chains, n_draws, n) each (Vehtari et al. 2021)."""
    import arviz as az

    columns = [block[:, :, i] for block in parameters for i in range(block.shape[2])]
    r_hat = max(float(az.rhat(column)) for column in columns)
    ess = min(float(az.ess(column, method=kind)) for column in columns for kind in ("bulk", "tail"))
    return r_hat, ess


def summarise(draws: Array, level: float, weights: Array | None = None) -> dict[str, object]:
    """Return the cells of an estimate row that draws fill; `weights` (n_draws,) sum to one."""
    lower, upper = highest_density(draws, level, weights)
    shares = np.full(draws.size, 1 / draws.size) if weights is None else weights
    above, mean = float(shares[draws > 0].sum()), float(shares @ draws)
    return {
        "estimate": mean,
        "sd": float(shares @ (draws - mean) ** 2) ** 0.5,
        "lower": lower,
        "upper": upper,
        "probability": max(above, 1 - above),
    }


def _describe(
    outcome: Outcome, common_baseline: bool, fit: Fit, sessions: Sequence[str], gate: Sampling
) -> list[dict[str, object]]:
    """The diagnostics of one fit, one row per visit in the model."""
    rows: list[dict[str, object]] = []
    by_arm = bool(fit.log_ratio.any())
    for column, visit in enumerate(fit.visits):
        n_control, *n_active = outcome.per_arm(visit)
        rows.append(
            {
                "domain": outcome.domain,
                "outcome": outcome.name,
                "model": "common_baseline" if common_baseline else "free_baseline",
                "session": sessions[visit],
                "unit": outcome.unit,
                "n_active": sum(n_active),
                "n_control": n_control,
                "scale": outcome.scale,
                "centre": centre_of(outcome),
                "visit_sd": outcome.scale * float(fit.visit_sd[:, column].mean()),
                "sd_ratio": float(np.exp(np.median(fit.log_ratio[..., column])))
                if by_arm and fit.log_ratio.ndim == 2
                else np.nan,
                "t_df": float(np.median(fit.df)) if np.isfinite(fit.df).all() else np.nan,
                "r_hat": fit.r_hat,
                "ess": fit.ess,
                "divergences": fit.divergences,
                "target_accept": fit.target_accept,
                "draws": fit.draws,
                "covariance": fit.covariance,
                "converged": fit.passes(gate),
            }
        )
    return rows
