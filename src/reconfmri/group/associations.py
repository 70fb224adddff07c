"""Brain and symptoms of the same people: changes that go together, what baselines foretell, mediation.

Both outcomes at baseline and at the later visit, four values a person, are jointly normal given arm and
covariates; people with some of them are in. The model of two outcomes together (`joint`) meets them as
baseline and change, so that its prior of a correlation (density 1 - r^2) is that of the changes: of values
at the visits it would draw them to zero by half. What is asked is a function of the posterior draws of the
means and of the covariance S of the four values:

- changes: c = (-1, 1) of each outcome; their correlation is c'S_by c / sqrt(c'S_bb c . c'S_yy c).
- changes without error of measurement: a measurement of reliability R (intraclass correlation) has the error
  variance (1 - R) times its variance, here the mean over both visits, independent from one measurement to the
  next. It is taken off the diagonal of S; draws where what is left is no covariance cannot be.
- slope on baseline, mediation: regressions among the four values, given by S.

Mediation: with b and y at the session, m = beta_b d_b goes by way of the brain and d_y - m around it, where d
are the adjusted arm differences and beta_b is the slope of y on b given both baselines and the arm
(VanderWeele, Explanation in Causal Inference, 2015, chapter 2). Beside it stand intervals without a prior:
Fisher's z and least squares among people with all four values.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from reconfmri.config import Association, Group
from reconfmri.contracts.questions.associations import ASSOCIATIONS
from reconfmri.group import bayes
from reconfmri.group.asked import Asked
from reconfmri.group.cautions import refuse_other_scale
from reconfmri.group.estimands import (
    BASELINE,
    Array,
    Contrast,
    NotEstimableError,
    Question,
    answered,
    withheld,
)
from reconfmri.group.grid import Outcome, refuse_unanswerable
from reconfmri.group.joint import FEW_WITH_BOTH, Pair

B0, B1, Y0, Y1 = range(4)  # places of brain and symptoms, at baseline and later
LEVELS = np.kron(np.eye(2), [[1.0, 0.0], [1.0, 1.0]])  # of baseline and change, in the joint model
SMALL, TINY = 1e-10, float(np.finfo(float).tiny)  # no variation, relative to the largest change
FEWEST_POSSIBLE = 0.1  # share of draws that the declared reliability must leave possible
Mask = NDArray[np.bool_]
Row = dict[str, object]


@dataclass(frozen=True)
class Both:
    """Two outcomes at baseline and one later visit."""

    brain: Outcome
    symptoms: Outcome
    session: str

    @property
    def pair(self) -> Pair:
        """Both as the joint model takes them: each at baseline, and its change."""
        return Pair((_as_change(self.brain), _as_change(self.symptoms)), ("either", "either"))

    @property
    def complete(self) -> Mask:
        """Who has all four values (n_people,)."""
        return np.asarray(self.brain.seen.all(axis=1) & self.symptoms.seen.all(axis=1))

    @property
    def counts(self) -> tuple[int, int]:
        """People with all four values: active arm, control arm."""
        active = self.brain.active
        return int((self.complete & active).sum()), int((self.complete & ~active).sum())

    @property
    def nuisance(self) -> Array:
        """(n_people, 2 + n_covariates): what correlations and slopes are given."""
        arm = np.where(self.brain.active, 0.5, -0.5)
        return np.column_stack([np.ones(len(arm)), arm, self.brain.adjusted_for])


def estimate(asked: Asked) -> pd.DataFrame:
    """Return the rows of every association of `group.associations`.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    rows: list[Row] = []
    outcomes = {item.name: item for item in asked.outcomes} if asked.group.associations else {}
    for name, settings in asked.group.associations.items():
        named = outcomes[settings.brain], outcomes[settings.symptoms]
        brain, symptoms = (_at(item, settings.session, asked.labels) for item in named)
        both = Both(brain, symptoms, settings.session)
        rows += [{"association": name} | row for row in _rows(both, settings, asked)]
    return ASSOCIATIONS.frame(rows)


def _at(outcome: Outcome, session: str, labels: Sequence[str]) -> Outcome:
    """The outcome at baseline and at one later visit, of which nothing is known in data without it."""
    values = np.full((len(outcome.active), 2), np.nan)
    values[:, 0] = outcome.values[:, BASELINE]
    if session in labels[1:]:
        values[:, 1] = outcome.values[:, labels.index(session)]
    return replace(outcome, values=values, ses=None, decided=None)


def _as_change(outcome: Outcome) -> Outcome:
    """An outcome at baseline and its change, around the means of all people."""
    before, later = outcome.values.T
    values = np.column_stack([before, later - before])
    return replace(outcome, values=values - np.nanmean(values, axis=0))


def _rows(both: Both, settings: Association, asked: Asked) -> Iterator[Row]:
    group = asked.group
    start = {
        "brain": both.brain.name,
        "symptoms": both.symptoms.name,
        "session": both.session,
        "level": group.level,
        "n_active": both.counts[0],
        "n_control": both.counts[1],
    }
    unit = both.symptoms.unit
    asked_for = [("correlation_of_changes", "r"), ("slope_on_baseline", unit)]
    if settings.reliability:
        asked_for.insert(1, ("correlation_of_true_changes", "r"))
    if settings.mediation:
        asked_for += [("through_brain", unit), ("around_brain", unit)]
    found = Posterior(both, settings, group, asked.seed, asked.cores)
    for quantity, of_unit in asked_for:
        row = {"quantity": quantity, "method": "bayes", "unit": of_unit, "exploratory": _explores(quantity)}
        yield start | row | found.row(quantity)
    for quantity, method, of_unit in CLOSED_FORMS:
        row = {"quantity": quantity, "method": method, "unit": of_unit or unit, "exploratory": False}
        try:
            numbers = closed_form(both, quantity, group.level)
        except NotEstimableError as reason:
            yield start | row | withheld(reason)
        else:
            yield start | row | numbers | answered()


CLOSED_FORMS = (
    ("correlation_of_changes", "fisher_z", "r"),
    ("correlation_active", "fisher_z", "r"),
    ("correlation_control", "fisher_z", "r"),
    ("difference_of_correlations", "fisher_z", "z"),
    ("slope_on_baseline", "ols", ""),
)


def _explores(quantity: str) -> bool:
    return quantity in ("correlation_of_true_changes", "through_brain", "around_brain")


class Posterior:
    """Rows from the posterior of the joint model, or the one reason why there is none."""

    def __init__(self, both: Both, settings: Association, group: Group, seed: int, cores: int | None):
        self.both, self.settings, self.seed, self.level = both, settings, seed, group.level
        self.reason: NotEstimableError | None = None
        try:
            _refuse(both, group)
            self.fit = bayes.Sampler(seed, cores).fit(both.pair.stacked, True, group)
            if not self.fit.passes(group.sampling):
                raise NotEstimableError(self.fit.shortcoming, fix="more group.sampling.draws")
        except NotEstimableError as reason:
            self.reason = reason

    def row(self, quantity: str) -> Row:
        """Return the numbers of one quantity."""
        if self.reason is not None:
            return withheld(self.reason)
        draws, share = self._draws(quantity), {}
        if quantity == "correlation_of_true_changes":
            share = {"share_possible": float(np.isfinite(draws).mean())}
            if share["share_possible"] < FEWEST_POSSIBLE:
                reason = (
                    f"with the declared reliability changes are no more than error in "
                    f"{100 - 100 * share['share_possible']:.0f} % of the draws"
                )
                return share | withheld(NotEstimableError(reason, fix="a more reliable measure"))
            draws = draws[np.isfinite(draws)]
        return share | bayes.summarise(draws, self.level) | answered(self.fit.status)

    def _draws(self, quantity: str) -> Array:
        fit, scale = self.fit, self.both.symptoms.scale
        covariance = LEVELS @ fit.covariances() @ LEVELS.T
        if quantity == "correlation_of_changes":
            return correlation_of_changes(covariance)
        if quantity == "correlation_of_true_changes":
            return correlation_of_changes(without_error(covariance, self._reliabilities(len(covariance))))
        if quantity == "slope_on_baseline":
            slope = regression(covariance, Y1, (B0, Y0))[:, 0]
            return np.asarray(scale * slope * np.sqrt(covariance[:, B0, B0]))
        through = regression(covariance, Y1, (B1, B0, Y0))[:, 0] * fit.difference[:, B1]
        wanted = through if quantity == "through_brain" else fit.difference[:, Y1] - through
        return np.asarray(scale * wanted)

    def _reliabilities(self, n_draws: int) -> Array:
        """Draws (n_draws, 2) of the reliability of brain and symptoms, 1 where none is declared."""
        given = self.settings.reliability
        name = f"{self.both.brain.name}|{self.both.symptoms.name}|reliability"
        seed = np.random.SeedSequence([self.seed, zlib.crc32(name.encode())])
        random = np.random.default_rng(seed)
        found = np.ones((n_draws, 2))
        for place, whose in enumerate(("brain", "symptoms")):
            normal = random.standard_normal(n_draws)
            if whose in given:
                lower, middle, upper = np.arctanh(given[whose])
                spread = (upper - lower) / (2 * ndtri(0.975))
                found[:, place] = np.clip(np.tanh(middle + spread * normal), 0.0, 1.0)
        return found


def _refuse(both: Both, group: Group) -> None:
    for outcome in (both.brain, both.symptoms):
        try:
            refuse_unanswerable(outcome, Question("difference_adjusted", 1, both.session))
            refuse_other_scale(outcome, group)
        except NotEstimableError as reason:
            raise NotEstimableError(f"{outcome.name}: {reason}") from reason
    if sum(both.counts) < FEW_WITH_BOTH:
        raise NotEstimableError(
            f"{both.brain.in_words(*both.counts)} have both outcomes at both visits, six people are needed",
            fix="see exclusions.tsv",
        )
    _refuse_constant(both, _changes(both, both.complete), both.nuisance[both.complete])


def _changes(both: Both, people: Mask) -> Array:
    """(n, 2): changes of brain and symptoms of some people."""
    return np.column_stack([item.values[people] @ [-1.0, 1.0] for item in (both.brain, both.symptoms)])


def _refuse_constant(both: Both, changes: Array, given: Array) -> Array:
    """Return what arm and covariates leave of both changes, which must vary."""
    rest = changes - given @ np.linalg.lstsq(given, changes)[0]
    if (rest.std(axis=0) < SMALL * np.maximum(np.abs(changes).max(axis=0), TINY)).any():
        raise NotEstimableError(
            "a change does not vary within the arms",
            fix=f"look at {both.brain.name} and {both.symptoms.name} in measures.tsv",
        )
    return np.asarray(rest)


def correlation_of_changes(covariance: Array) -> Array:
    """Return the correlation (n_draws,) of both changes, of covariances (n_draws, 4, 4); NaN is passed on."""
    change = np.zeros((2, 4))
    change[0, [B0, B1]] = change[1, [Y0, Y1]] = -1.0, 1.0
    of_changes = change @ covariance @ change.T
    return np.asarray(of_changes[:, 0, 1] / np.sqrt(of_changes[:, 0, 0] * of_changes[:, 1, 1]))


def without_error(covariance: Array, reliability: Array) -> Array:
    """Return covariances (n_draws, 4, 4) without error of measurement, NaN where none would be left.

    `reliability` (n_draws, 2) of brain and symptoms.
    """
    variance = np.einsum("dii->di", covariance)
    error = np.repeat((1 - reliability) * variance.reshape(-1, 2, 2).mean(axis=2), 2, axis=1)
    true = covariance - error[:, :, None] * np.eye(4)
    impossible = np.linalg.eigvalsh(true)[:, 0] <= 0
    return np.where(impossible[:, None, None], np.nan, true)


def regression(covariance: Array, of: int, on: tuple[int, ...]) -> Array:
    """Return the slopes (n_draws, len(on)) of one value on others, of covariances (n_draws, 4, 4)."""
    places = list(on)
    among = covariance[:, places][:, :, places]
    return np.asarray(np.linalg.solve(among, covariance[:, places, of][:, :, None])[:, :, 0])


def closed_form(both: Both, quantity: str, level: float) -> Row:
    """Return the numbers of one of `CLOSED_FORMS`, of the people with all four values.

    Raises
    ------
    NotEstimableError
        They are too few, or nothing varies.
    """
    active = both.brain.active
    if quantity == "slope_on_baseline":
        return _slope(both).numbers(level)
    if quantity == "difference_of_correlations":
        (z1, se1), (z2, se2) = (_fisher(both, arm) for arm in (active, ~active))
        return dict(_normal(z1 - z2, float(np.hypot(se1, se2)), level))
    whose = {"correlation_active": active, "correlation_control": ~active}
    z, se = _fisher(both, whose.get(quantity, np.ones_like(active)))
    numbers = _normal(z, se, level)
    return {**numbers, **{name: float(np.tanh(numbers[name])) for name in ("estimate", "lower", "upper")}}


def _fisher(both: Both, people: Mask) -> tuple[float, float]:
    """Fisher's z of the changes of some people given arm and covariates, and its standard error."""
    chosen = both.complete & people
    given = both.nuisance[chosen]
    rank = int(np.linalg.matrix_rank(given)) if chosen.any() else 0
    n_free = int(chosen.sum()) - (rank - 1) - 3
    if n_free < 1:
        raise NotEstimableError(
            f"{int(chosen.sum())} people have both changes, {rank + 3} are needed", fix="see exclusions.tsv"
        )
    rest = _refuse_constant(both, _changes(both, chosen), given)
    r = float(np.asarray(np.corrcoef(rest.T))[0, 1])
    return float(np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))), 1 / np.sqrt(n_free)


def _normal(z: float, se: float, level: float) -> dict[str, float]:
    half = float(ndtri((1 + level) / 2)) * se
    return {"estimate": z, "sd": se, "lower": z - half, "upper": z + half, "p": float(2 * ndtr(-abs(z) / se))}


def _slope(both: Both) -> Contrast:
    """Least squares of later symptoms on the brain at baseline, in its SD within the arms."""
    chosen = both.complete
    brain, before, after = (values[chosen] for values in (both.brain.values[:, 0], *both.symptoms.values.T))
    given = both.nuisance[chosen]
    design = np.column_stack([given, before, brain])
    df = len(design) - design.shape[1]
    if df < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        raise NotEstimableError(
            f"{len(design)} people do not tell a slope on {design.shape[1]} columns", fix="see exclusions.tsv"
        )
    q, r = np.linalg.qr(design)
    coefficients = np.linalg.solve(r, q.T @ after)
    residuals = after - design @ coefficients
    error = np.sqrt((residuals @ residuals) / df) * np.linalg.norm(np.linalg.inv(r)[-1])
    away = brain - given @ np.linalg.lstsq(given, brain)[0]
    spread = np.sqrt(away @ away / (len(brain) - np.linalg.matrix_rank(given)))
    if not (error > 0 and spread > 0):
        raise NotEstimableError("the values do not vary within the arms", fix="look at measures.tsv")
    return Contrast(float(coefficients[-1] * spread), float(error * spread), float(df))
