"""The PyMC model of repeated measures and its compilation: once per form, for any data and number of people.

Priors and the meaning of every parameter: `reconfmri.group.bayes`.
"""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from reconfmri.choices import check_choice
from reconfmri.group.estimands import code_arms
from reconfmri.machine import cache_folder

PEOPLE = 4  # with whom a model is compiled
RATIO_SD = 0.5  # prior SD of the log ratio of the arms' SDs: a ratio of 0.37 to 2.7 with 95 %
SAME = 1e-6  # codes of arms that are nearer are of one arm
DF_SHAPE, DF_RATE = 2.0, 0.1  # of the gamma prior of the degrees of freedom (Juarez & Steel 2010)
log = logging.getLogger("reconfmri")


class Form(NamedTuple):
    """What a compiled model depends on; the number of people is none of it."""

    n_visits: int
    covariance: str = "unstructured"
    student_t: bool = False
    by_arm: bool = False  # an SD per arm and visit
    n_covariates: int = 0
    n_outcomes: int = 1  # side by side over the visits, all visits of one after those of the other
    n_arms: int = 2


@cache
def compile_model(form: Form) -> Any:
    """Return nutpie's compiled model for the data of any number of people, by numba alone."""
    started = time.monotonic()
    name_compile_folder()
    with warnings.catch_warnings():
        # arviz announces its successor at every import
        warnings.simplefilter("ignore", FutureWarning)
        import nutpie

        from reconfmri.group.likelihood import without_compiler

        without_compiler()
        # products of transposed matrices are slower than they might be; these are four by four
        warnings.filterwarnings("ignore", message=".*is faster on contiguous arrays")
        compiled = nutpie.compile_pymc_model(build_model(form), backend="numba")
    took = time.monotonic() - started
    log.info("compiled for %d visits, %s, %.1f s", *form[:2], took)
    return compiled


def name_compile_folder() -> None:
    """Give PyTensor a folder of this user's to compile into; the home folder may be read-only."""
    flags = os.environ.get("PYTENSOR_FLAGS", "")
    if "compiledir" not in flags:
        given = [flags] if flags else []
        os.environ["PYTENSOR_FLAGS"] = ",".join([*given, f"base_compiledir={cache_folder('pytensor')}"])


def build_model(form: Form) -> Any:
    """Return the PyMC model, with its data at harmless values.

    Means are sampled as `root @ moved` around a first estimate, `root` being a factor of the covariance S
    over visits, so that small samples have no funnel.
    """
    check_choice("covariance", form.covariance, FACTORS)
    import pymc as pm
    import pytensor.tensor as pt

    n_visits = form.n_visits
    with pm.Model() as model:
        prior_sd = pm.Data("prior_sd", np.ones(3))
        start_means = pm.Data("start_means", np.zeros((form.n_arms + form.n_covariates, n_visits)))
        start_factor = pm.Data("start_factor", np.eye(n_visits))

        factor = FACTORS[form.covariance]
        root = factor(pm, form, start_factor, prior_sd[2])
        moved_mean = _flat(pm, "moved_mean", n_visits)
        mean = pm.Deterministic("mean", start_means[0] + root @ moved_mean)
        pm.Potential("prior_mean", -0.5 * pt.sum(pt.square(mean / prior_sd[0])))
        of_arms = _two_arms if form.n_arms == 2 else _several_arms
        side, apart, used = of_arms(pm, form, root, start_means, prior_sd[1])
        pm.Potential("jacobian_means", pt.sum((1 + used) * pt.log(_diagonal(root, n_visits))))
        means = mean[None, :] + apart
        if form.n_covariates:
            means = means + _covariates(pm, form, root, start_means[form.n_arms :], prior_sd[1])
        _likelihood(pm, form, means, root @ root.T, side)
    return model


def _two_arms(pm: Any, form: Form, root: Any, start_means: Any, prior_sd: Any) -> tuple[Any, Any, Any]:
    """The arms' difference, with its prior: sides, what it adds to everybody's mean, and where it is used."""
    import pytensor.tensor as pt

    side = pm.Data("side", np.resize([0.5, -0.5], PEOPLE))
    used = pm.Data("used", np.ones(form.n_visits))
    moved = _flat(pm, "moved_difference", form.n_visits)
    difference = pm.Deterministic("difference", used * (start_means[1] + root @ (used * moved)))
    # Differences correlate by one half: they and their changes between visits have the same spread.
    apart = used * difference / prior_sd
    together = 2 * (pt.sum(pt.square(apart)) - pt.square(pt.sum(apart)) / (pt.sum(used) + 1))
    # a difference that is not in the likelihood leaves its coordinate a standard normal
    idle = pt.sum((1 - used) * pt.square(moved))
    pm.Potential("prior_difference", -0.5 * (together + idle))
    return side, side[:, None] * difference[None, :], used


def _several_arms(pm: Any, form: Form, root: Any, start_means: Any, prior_sd: Any) -> tuple[Any, Any, Any]:
    """The same of every active arm; `used` is summed over the arms."""
    import pytensor.tensor as pt

    shape = (form.n_arms - 1, form.n_visits)
    side = pm.Data("side", np.zeros((PEOPLE, shape[0])))
    used = pm.Data("used", np.ones(shape))
    precision = pm.Data("prior_precision", np.eye(shape[0] * shape[1]))
    moved = pm.Flat("moved_difference", shape=shape, initval=np.zeros(shape))
    free = start_means[1 : form.n_arms] + (used * moved) @ root.T
    difference = pm.Deterministic("difference", used * free)
    apart = difference.reshape((shape[0] * shape[1],)) / prior_sd
    idle = pt.sum((1 - used) * pt.square(moved))
    pm.Potential("prior_difference", -0.5 * (pt.sum(apart * (precision @ apart)) + idle))
    return side, side @ difference, pt.sum(used, axis=0)


def _covariates(pm: Any, form: Form, root: Any, start: Any, prior_sd: Any) -> Any:
    """What covariates add to the means, (n_people, n_visits): a slope per visit, or one for all.

    One for all is that of the first visit; its other coordinates are idle, and standard normal.
    """
    import pytensor.tensor as pt

    shape = (form.n_covariates, form.n_visits)
    covariates = pm.Data("covariates", np.zeros((PEOPLE, form.n_covariates)))
    moved = pm.Flat("moved_slope", shape=shape, initval=np.zeros(shape))
    own = pm.Data("per_visit", np.ones(form.n_covariates))[:, None]  # 1, or 0: one for all
    first = np.eye(form.n_visits)[:, :1]
    free = start + moved @ root.T
    slope = pm.Deterministic("slope", own * free + (1 - own) * (free @ first))
    counted = own + (1 - own) * first.T  # coordinates that are in the likelihood
    pm.Potential("prior_slope", -0.5 * pt.sum(counted * pt.square(slope / prior_sd)))
    pm.Potential("idle_slope", -0.5 * pt.sum((1 - counted) * pt.square(moved)))
    pm.Potential("jacobian_slope", pt.sum(counted * pt.log(_diagonal(root, form.n_visits))[None, :]))
    return covariates @ slope


def _likelihood(pm: Any, form: Form, means: Any, covariance: Any, side: Any) -> None:
    """The seen values given means (n_people, n_visits) and covariance over visits, alike or per arm."""
    import pytensor.tensor as pt

    from reconfmri.group.likelihood import seen_log_density

    grid = (PEOPLE, form.n_visits)
    values = pm.Data("values", np.zeros(grid))
    seen = pm.Data("seen", np.ones(grid))
    known = pm.Data("known", np.zeros(grid))
    df = _degrees_of_freedom(pm) if form.student_t else np.inf
    if not form.by_arm:
        pm.Potential("likelihood", seen_log_density(means, covariance, values, seen, known, df))
        return
    if form.n_arms > 2:
        _spread_of_arms(
            pm, form, covariance, side, partial(seen_log_density, means), (values, seen, known, df)
        )
        return
    moved = _flat(pm, "moved_ratio", form.n_visits)
    pm.Potential("prior_ratio", -0.5 * pt.sum(pt.square(moved)))
    log_ratio = pm.Deterministic("log_ratio", RATIO_SD * moved)
    for name, arm in (("active", 0.5), ("control", -0.5)):
        spread = pt.exp(arm * log_ratio)
        there = seen * pt.eq(side, arm)[:, None]
        of_arm = covariance * spread[:, None] * spread[None, :]
        pm.Potential(f"likelihood_{name}", seen_log_density(means, of_arm, values, there, known, df))


def _spread_of_arms(
    pm: Any, form: Form, covariance: Any, side: Any, density: Any, data: tuple[Any, Any, Any, Any]
) -> None:
    """The likelihood with an SD of every arm; the log ratios to the control correlate by one half."""
    import pytensor.tensor as pt

    values, seen, known, df = data
    shape = (form.n_arms - 1, form.n_visits)
    moved = pm.Flat("moved_ratio", shape=shape, initval=np.zeros(shape))
    pm.Potential("prior_ratio", -0.5 * pt.sum(pt.square(moved)))
    root = np.linalg.cholesky((np.eye(shape[0]) + 1) / 2)
    log_ratio = pm.Deterministic("log_ratio", RATIO_SD * (root @ moved))
    for arm, coded in enumerate(code_arms(np.arange(form.n_arms), form.n_arms)):
        spread = pt.exp(coded @ log_ratio)
        inside = pt.all(pt.lt(pt.abs(side - coded[None, :]), SAME), axis=1)
        there = seen * inside[:, None]
        of_arm = covariance * spread[:, None] * spread[None, :]
        pm.Potential(f"likelihood_{arm}", density(of_arm, values, there, known, df))


def _degrees_of_freedom(pm: Any) -> Any:
    """Gamma(2, 0.1), and above one, so that there is a mean."""
    import pytensor.tensor as pt

    above = _flat(pm, "log_df", 1)[0]
    df = 1 + pt.exp(3 + above)
    pm.Deterministic("df", df[None])
    pm.Potential("prior_df", (DF_SHAPE - 1) * pt.log(df) - DF_RATE * df + above)
    return df


def _unstructured(pm: Any, form: Form, start_factor: Any, sd_scale: Any) -> Any:
    """Return the factor R = A U^-1 of a free covariance S = R R', with its prior.

    One outcome: half-t SDs and LKJ(1). Several: Huang and Wand's (Bayesian Analysis 2013;8:439), with the
    same half-t SDs and, however many the columns, a density 1 - r^2 of each correlation, which is that of
    LKJ(1) over four visits; over eight columns LKJ(1) draws correlations to zero. A factors a first
    estimate, U is lower triangular: its diagonal exp(`log_scale`), below it `below`.
    """
    import pytensor.tensor as pt

    n_visits = form.n_visits
    log_scale = _flat(pm, "log_scale", n_visits)
    ones, shrink = np.eye(n_visits), pt.exp(-log_scale)
    slants: Any = np.zeros_like(ones)
    inverse: Any = ones
    if n_visits > 1:
        # U = D (I + N): of the strictly lower N all powers from the n_visits-th on vanish
        slants = _lower(_flat(pm, "below", n_visits * (n_visits - 1) // 2), n_visits) * shrink[:, None]
        power = -slants
        inverse = ones + power
        for _ in range(math.ceil(math.log2(n_visits)) - 1):
            power = power @ power
            inverse = inverse @ (ones + power)
    root = (start_factor @ inverse) * shrink[None, :]
    visit_sd = pm.Deterministic("visit_sd", _lengths(root))
    if n_visits > 1:
        pm.Deterministic("correlation", _correlations(root / visit_sd[:, None], n_visits))
    if form.n_outcomes == 1:
        # LKJ(1) is flat over correlations: p(S) = prod half_t(sd_v) sd_v^-V
        prior = pt.sum(_half_t(visit_sd, sd_scale) - n_visits * pt.log(visit_sd))
    else:
        undone = pt.linalg.solve_triangular(start_factor, ones, lower=True)
        precisions = pt.sum(pt.square(((ones + slants) @ undone) / shrink[:, None]), axis=0)
        prior = -(4 + 2 * n_visits) * pt.sum(pt.log(_diagonal(root, n_visits)))
        prior -= (4 + n_visits) / 2 * pt.sum(pt.log(4 * precisions + 1 / sd_scale**2))
    pm.Potential("prior_covariance", prior)
    # |dS / d(log_scale, below)|
    exponents = np.arange(2, n_visits + 2) - 2 * (n_visits + 1)
    pm.Potential("jacobian_covariance", pt.sum(exponents * log_scale))
    return root


def _random_intercept(pm: Any, form: Form, start_factor: Any, sd_scale: Any) -> Any:
    """Return the factor of S = V kron ((1 - r) I + r J): V over outcomes, r uniform on 0 to 1 for all.

    V has a half-t SD per outcome, the same at all visits, and LKJ(1) correlations; of one outcome it is sd^2.
    """
    import pytensor.tensor as pt

    n_outcomes, n_each = form.n_outcomes, form.n_visits // form.n_outcomes
    variances = pt.sum(pt.square(start_factor), axis=1).reshape((n_outcomes, n_each))
    start = pt.log(pt.mean(variances, axis=1)) / 2
    moved = _flat(pm, "moved_log_sd", n_outcomes)
    sd = pt.exp(start + moved)
    share = pm.math.sigmoid(_flat(pm, "logit_correlation", 1)[0])
    pm.Potential("prior_sd_log", pt.sum(_half_t(sd, sd_scale) + start + moved))
    pm.Potential("prior_share", pt.log(share) + pt.log1p(-share))
    # The Cholesky factor of (1 - r) I + r J, column by column: what is left of r after j columns.
    left = (1 - share) * share / (1 - share + np.arange(n_each) * share)
    pivots = pt.sqrt(1 - share + left)
    over_visits = np.tril(np.ones((n_each, n_each)), -1) * (left / pivots) + np.eye(n_each) * pivots
    correlation = over_visits
    if n_outcomes > 1:
        correlation = pt.linalg.kron(_over_outcomes(pm, n_outcomes), over_visits)
    pm.Deterministic("correlation", _correlations(correlation, form.n_visits))
    sds = pm.Deterministic("visit_sd", pt.repeat(sd, n_each))
    return sds[:, None] * correlation


def _half_t(sd: Any, scale: Any) -> Any:
    """Log density of SDs under half-t(4, 0, scale), without its constant."""
    import pytensor.tensor as pt

    return -2.5 * pt.log1p(pt.square(sd / scale) / 4)


def _over_outcomes(pm: Any, n_outcomes: int) -> Any:
    """Return the factor of the correlations of outcomes, with their prior LKJ(1): rows of length 1."""
    import pytensor.tensor as pt

    below = _flat(pm, "below_outcomes", n_outcomes * (n_outcomes - 1) // 2)
    root = np.eye(n_outcomes) + _lower(below, n_outcomes)
    lengths = _lengths(root)
    # LKJ(1) is flat over correlations, and |d correlations / d below| = prod lengths^-(n_outcomes + 1)
    pm.Potential("prior_outcomes", -(n_outcomes + 1) * pt.sum(pt.log(lengths)))
    return root / lengths[:, None]


def _flat(pm: Any, name: str, size: int) -> Any:
    return pm.Flat(name, shape=size, initval=np.zeros(size))


# Small matrices as products with constants: their gradients compile in a fraction of the time that those of
# PyTensor's indexed assignments, diagonals and triangular solutions take.


def _lower(values: Any, size: int) -> Any:
    """Return the strictly lower (size, size) matrix of its entries, row by row."""
    rows, columns = np.tril_indices(size, -1)
    places = np.zeros((size * size, len(rows)))
    places[rows * size + columns, np.arange(len(rows))] = 1.0
    return (places @ values).reshape((size, size))


def _diagonal(matrix: Any, size: int) -> Any:
    import pytensor.tensor as pt

    return pt.sum(matrix * np.eye(size), axis=1)


def _lengths(rows: Any) -> Any:
    import pytensor.tensor as pt

    return pt.sqrt(pt.sum(pt.square(rows), axis=1))


def _correlations(root: Any, size: int) -> Any:
    """Return what stands below the diagonal of root root', row by row."""
    rows, columns = np.tril_indices(size, -1)
    places = np.zeros((len(rows), size * size))
    places[np.arange(len(rows)), rows * size + columns] = 1.0
    return places @ (root @ root.T).reshape((size * size,))


FACTORS = {"unstructured": _unstructured, "random_intercept": _random_intercept}
