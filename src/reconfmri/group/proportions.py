"""Two proportions: differences and ratios with exact, stratified and Bayesian intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom, fisher_exact, norm, qmc
from scipy.stats.contingency import odds_ratio

from reconfmri.group.estimands import Array, NotEstimableError
from reconfmri.group.mixtures import shares

N_NUISANCE = 257  # values of the control arm's probability that an exact tail is the largest of
N_DRAWS = 2**14
N_GRID, FARTHEST = 401, 40.0  # places per dimension; log odds
LARGEST_RATIO = 1e4
EDGE = 1e-6

NO_WIDTH = 1e-12  # of a standard error
LEAST_DIFFERENCE = 1e-4  # of shares; a smaller one, as the median of draws around 0, is none


@dataclass(frozen=True)
class Counts:
    """Responders and people of both arms."""

    active: int
    n_active: int
    control: int
    n_control: int

    @property
    def shares(self) -> tuple[float, float]:
        """The share of responders in the active and in the control arm."""
        return self.active / self.n_active, self.control / self.n_control


@dataclass(frozen=True)
class Answer:
    """An estimate with its interval; the upper end of a ratio may be infinite."""

    estimate: float
    lower: float
    upper: float
    p: float = math.nan
    probability: float = math.nan


def risk_difference(counts: Counts, level: float) -> Answer:
    """Return the difference of the shares, with an exact unconditional interval.

    Two one-sided tests of the score statistic (Chan and Zhang 1999), each with the largest tail over the
    probability in the control arm; the p value is that of the interval.
    """
    first, second = counts.shares
    lower, upper, p = _exact(counts, level, _difference, -1 + EDGE, 1 - EDGE, null=0.0)
    estimate = first - second
    # The search ends a millionth inside of -1 and 1: where one is the estimate it is the end.
    return Answer(estimate, min(max(lower, -1.0), estimate), max(min(upper, 1.0), estimate), p)


def risk_ratio(counts: Counts, level: float) -> Answer:
    """Return the ratio of the shares, with an exact interval as of `risk_difference`.

    Raises
    ------
    NotEstimableError
        Nobody of one arm responded.
    """
    _refuse_separation(counts, "risk ratio", ("control",) if counts.active else ("control", "active"))
    first, second = counts.shares
    ends = math.log(LARGEST_RATIO)
    lower, upper, p = _exact(counts, level, _log_ratio, -ends, ends, null=0.0)
    return Answer(first / second, math.exp(lower), math.exp(upper), p)


def odds_ratio_exact(counts: Counts, level: float) -> Answer:
    """Return the conditional odds ratio with its exact interval, and Fisher's exact p value.

    Raises
    ------
    NotEstimableError
        Nobody or everybody of one arm responded, so that the data separate the arms; with the interval's end.
    """
    table = np.array(
        [
            [counts.active, counts.n_active - counts.active],
            [counts.control, counts.n_control - counts.control],
        ]
    )
    found = odds_ratio(table, kind="conditional")
    interval = found.confidence_interval(confidence_level=level)
    if (table == 0).any():
        end = f"above {interval.low:.3g}" if math.isinf(interval.high) else f"below {interval.high:.3g}"
        raise NotEstimableError(
            f"nobody or everybody of an arm responded, so that the odds ratio has no estimate; it is {end} "
            f"(exact, {100 * level:g} %)",
            fix="no action is needed, the Bayesian row has one",
        )
    return Answer(
        float(found.statistic), float(interval.low), float(interval.high), float(fisher_exact(table)[1])
    )


def fisher_p(counts: Counts) -> float:
    """Return Fisher's exact two-sided p value, which separated arms have too."""
    rest = counts.n_active - counts.active, counts.n_control - counts.control
    return float(fisher_exact([[counts.active, rest[0]], [counts.control, rest[1]]])[1])


def mantel_haenszel(strata: list[Counts], level: float) -> dict[str, Answer]:
    """Return difference, risk ratio and odds ratio over strata, with Sato's, Greenland's and Robins's errors.

    Raises
    ------
    NotEstimableError
        No stratum has people of both arms, or responses leave no variance within any.
    """
    both = [one for one in strata if one.n_active and one.n_control]
    if not both:
        raise NotEstimableError("no stratum has people of both arms")
    a, n, c, m = (
        np.array([getattr(one, name) for one in both], dtype=float)
        for name in ("active", "n_active", "control", "n_control")
    )
    total, z = n + m, float(norm.ppf((1 + level) / 2))
    weights = n * m / total
    difference = float((weights * (a / n - c / m)).sum() / weights.sum())
    p = (n**2 * c - m**2 * a + n * m * (m - n) / 2) / total**2
    q = (a * (m - c) + c * (n - a)) / (2 * total)
    error = math.sqrt(max(float(difference * p.sum() + q.sum()), 0.0)) / float(weights.sum())
    if error < NO_WIDTH:
        raise NotEstimableError(
            "nobody or everybody of each arm responded, so that a normal interval has no width",
            fix="no action is needed, the exact row has one",
        )
    found = {"risk_difference": _normal(difference, error, z)}
    r, s = a * m / total, c * n / total
    if r.sum() and s.sum():
        spread = (n * m * (a + c) - a * c * total) / total**2
        error = math.sqrt(max(float(spread.sum() / (r.sum() * s.sum())), 0.0))
        found["risk_ratio"] = _exponentiated(math.log(r.sum() / s.sum()), error, z)
    r, s = a * (m - c) / total, c * (n - a) / total
    if r.sum() and s.sum():
        alike, unlike = (a + m - c) / total, (c + n - a) / total
        variance = (alike * r).sum() / (2 * r.sum() ** 2) + (unlike * s).sum() / (2 * s.sum() ** 2)
        variance += (alike * s + unlike * r).sum() / (2 * r.sum() * s.sum())
        found["odds_ratio"] = _exponentiated(math.log(r.sum() / s.sum()), math.sqrt(float(variance)), z)
    return found


def bayes(strata: list[Counts], level: float, prior_sd: float) -> dict[str, Answer]:
    """Return difference, risk ratio and odds ratio by their posterior: medians, equal-tailed intervals.

    logit p = a_stratum +- b / 2, with a and b ~ Normal(0, prior_sd). Integrated on a grid; given b the
    strata are independent. Difference and risk ratio are of the strata's own mixture of people. Nothing is
    drawn at random: the places are a Sobol sequence. The prior keeps estimates
    finite where the data separate the arms.
    """
    wide = np.linspace(-1, 1, N_GRID) * min(6 * prior_sd, FARTHEST)
    slopes, levels = wide, [wide] * len(strata)
    for _ in range(2):  # the second time where the first one found any mass
        log_slope, given = _posterior(strata, slopes, levels, prior_sd)
        slopes_of, weights = slopes, shares(log_slope)
        slopes = _around(slopes, weights)
        levels_of, levels = (
            levels,
            [_around(level, mass @ weights) for level, mass in zip(levels, given, strict=True)],
        )
    slopes, levels = slopes_of, levels_of
    given = [np.cumsum(mass, axis=0) for mass in given]
    places = qmc.Sobol(1 + len(strata), scramble=False).random(N_DRAWS)
    places = (places + 0.5 / N_DRAWS) % 1
    up_to = np.cumsum(weights) - weights / 2
    slope = np.interp(places[:, 0], up_to, slopes)
    chosen = np.searchsorted(slopes, slope).clip(0, N_GRID - 1)
    sizes = np.array([one.n_active + one.n_control for one in strata], dtype=float)
    first = second = np.zeros(N_DRAWS)
    for place, (cumulated, size) in enumerate(zip(given, sizes / sizes.sum(), strict=True), start=1):
        below = (cumulated[:, chosen] < places[:, place]).sum(axis=0)
        level_of = levels[place - 1][below.clip(0, N_GRID - 1)]
        first = first + size * expit(level_of + slope / 2)
        second = second + size * expit(level_of - slope / 2)
    return {
        "risk_difference": _of_draws(first - second, level, 0.0),
        "risk_ratio": _of_draws(first / second, level, 1.0),
        "odds_ratio": _of_draws(np.exp(slope), level, 1.0),
    }


def _posterior(
    strata: list[Counts], slopes: Array, levels: list[Array], prior_sd: float
) -> tuple[Array, list[Array]]:
    """Log density of the slope (n_slopes,), and of each stratum's level given it, (n_levels, n_slopes)."""
    log_slope = -0.5 * (slopes / prior_sd) ** 2
    given = []
    for one, level in zip(strata, levels, strict=True):
        up, down = (level[:, None] + sign * slopes / 2 for sign in (1, -1))
        terms = one.active * _log_expit(up) + (one.n_active - one.active) * _log_expit(-up)
        terms += one.control * _log_expit(down) + (one.n_control - one.control) * _log_expit(-down)
        terms -= 0.5 * (level[:, None] / prior_sd) ** 2
        top = terms.max(axis=0)
        mass = np.exp(terms - top)
        log_slope = log_slope + top + np.log(mass.sum(axis=0))
        given.append(mass / mass.sum(axis=0))
    return log_slope, given


def _around(grid: Array, weights: Array) -> Array:
    """A grid as fine as the first over the places that have any weight."""
    some = np.flatnonzero(weights > 1e-9 * weights.max())
    return np.linspace(grid[max(some[0] - 1, 0)], grid[min(some[-1] + 1, len(grid) - 1)], N_GRID)


def number_needed(difference: Answer) -> tuple[Answer, str]:
    """Return the number needed to treat, with the interval of the difference turned over, and what to say.

    Where the interval of the difference holds 0, that of the number goes through infinity (Altman 1998):
    `lower` is then the number needed to treat at one end, and `upper`, negative, that needed to harm at
    the other.
    """
    estimate = difference.estimate if abs(difference.estimate) >= LEAST_DIFFERENCE else 0.0
    one = Answer(_inverse(estimate), _inverse(difference.upper), _inverse(difference.lower), difference.p)
    if difference.lower < 0 < difference.upper:
        words = f"from {one.lower:.3g} to treat through infinity to {-one.upper:.3g} to harm"
        return one, words
    return one, ""


def _inverse(value: float) -> float:
    return 1 / value if value else math.inf


def _log_expit(x: Array) -> Array:
    return np.asarray(-np.logaddexp(0, -x))


def _of_draws(draws: Array, level: float, null: float) -> Answer:
    lower, middle, upper = np.quantile(draws, [(1 - level) / 2, 0.5, (1 + level) / 2])
    above = float((draws > null).mean())
    return Answer(float(middle), float(lower), float(upper), probability=max(above, 1 - above))


def _normal(estimate: float, error: float, z: float) -> Answer:
    p = float(2 * norm.sf(abs(estimate) / error)) if error else math.nan
    return Answer(estimate, max(estimate - z * error, -1.0), min(estimate + z * error, 1.0), p)


def _exponentiated(log: float, error: float, z: float) -> Answer:
    p = float(2 * norm.sf(abs(log) / error)) if error else math.nan
    return Answer(math.exp(log), math.exp(log - z * error), math.exp(log + z * error), p)


def _refuse_separation(counts: Counts, what: str, arms: tuple[str, ...]) -> None:
    empty = [arm for arm in arms if not getattr(counts, arm)]
    if empty:
        raise NotEstimableError(
            f"nobody of the {' and of the '.join(empty)} arm responded, so that the {what} has no estimate",
            fix="no action is needed, the Bayesian row has one",
        )


Statistic = Callable[[Array, Array, Counts, float], Array]


def _exact(
    counts: Counts, level: float, kind: tuple[Statistic, Statistic], low: float, high: float, *, null: float
) -> tuple[float, float, float]:
    """Lower and upper end by inversion, and the two-sided p value at `null`; (statistic, other arm's p)."""
    alpha = (1 - level) / 2

    def tail(theta: float, upper: bool) -> float:
        return _tail(counts, kind, theta, upper)

    ends = []
    for upper in (True, False):  # the lower end is where the upper tail becomes large enough
        grid = np.linspace(low, high, 65) if upper else np.linspace(high, low, 65)
        before = grid[0]
        if tail(before, upper) > alpha:
            ends.append(before)
            continue
        for theta in grid[1:]:
            if tail(theta, upper) > alpha:
                end = brentq(lambda t, u=upper: tail(t, u) - alpha, before, theta, xtol=1e-6)
                ends.append(float(end))
                break
            before = theta
        else:
            ends.append(grid[-1])
    p = min(1.0, 2 * min(tail(null, True), tail(null, False)))
    return float(ends[0]), float(ends[1]), p


def _tail(counts: Counts, kind: tuple[Statistic, Statistic], theta: float, upper: bool) -> float:
    """The largest probability, over the control arm's, of a table at least as extreme as the one seen."""
    statistic, other = kind
    x, y = np.arange(counts.n_active + 1.0)[:, None], np.arange(counts.n_control + 1.0)
    every = statistic(x, y, counts, theta)
    seen = every[counts.active, counts.control]
    extreme = every >= seen - 1e-9 if upper else every <= seen + 1e-9
    control = np.linspace(0, 1, N_NUISANCE)
    active = other(control, control, counts, theta)
    inside = (active >= 0) & (active <= 1)
    first = binom.pmf(x[:, 0][None, :], counts.n_active, active[inside][:, None])
    second = binom.pmf(y[None, :], counts.n_control, control[inside][:, None])
    return float(((first @ extreme) * second).sum(axis=1).max(initial=0.0))


def _difference_score(x: Array, y: Array, counts: Counts, theta: float) -> Array:
    """Score statistic of a difference (Miettinen and Nurminen 1985), all tables at once."""
    n, m = counts.n_active, counts.n_control
    total = n + m
    three, two = total, (n + 2 * m) * theta - total - (x + y)
    one, zero = (m * theta - total - 2 * y) * theta + x + y, y * theta * (1 - theta)
    q = two**3 / (3 * three) ** 3 - one * two / (6 * three**2) + zero / (2 * three)
    p = np.where(q >= 0, 1.0, -1.0) * np.sqrt(np.maximum(two**2 / (3 * three) ** 2 - one / (3 * three), 0.0))
    ratio = np.divide(q, p**3, out=np.zeros_like(q), where=p != 0)
    angle = (math.pi + np.arccos(ratio.clip(-1, 1))) / 3
    control = (2 * p * np.cos(angle) - two / (3 * three)).clip(max(0.0, -theta), min(1.0, 1 - theta))
    active = (control + theta).clip(0, 1)
    variance = active * (1 - active) / n + control * (1 - control) / m
    return _standardised(x / n - y / m - theta, variance)


def _ratio_score(x: Array, y: Array, counts: Counts, theta: float) -> Array:
    """Score statistic of a ratio exp(theta) (Miettinen and Nurminen 1985), all tables at once."""
    n, m, ratio = counts.n_active, counts.n_control, math.exp(theta)
    a, b, c = (n + m) * ratio, -(n * ratio + x + m + y * ratio), x + y
    control = ((-b - np.sqrt(np.maximum(b**2 - 4 * a * c, 0.0))) / (2 * a)).clip(0, min(1.0, 1 / ratio))
    active = (ratio * control).clip(0, 1)
    variance = active * (1 - active) / n + ratio**2 * control * (1 - control) / m
    return _standardised(x / n - ratio * y / m, variance)


def _standardised(apart: Array, variance: Array) -> Array:
    root = np.sqrt(np.maximum(variance, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(
            root > 1e-12, apart / root, np.where(np.abs(apart) < 1e-12, 0.0, np.sign(apart) * 1e6)
        )


_difference: tuple[Statistic, Statistic] = (_difference_score, lambda control, _, __, theta: control + theta)
_log_ratio: tuple[Statistic, Statistic] = (
    _ratio_score,
    lambda control, _, __, theta: control * math.exp(theta),
)
