"""Whether brain measures at baseline say more of a later outcome than its own baseline and the arm do.

The base is least squares of the outcome on its baseline, the arm and the covariates. What it leaves is
predicted by an elastic net (Zou and Hastie 2005) of the predictors, standardised. Both are fitted to four
folds and judged in the fifth; the penalty is chosen by five folds within the four. Errors of prediction are
summed over all people and partitions: Q^2 = 1 - sum of squares over that of the mean of the four folds.
Correlations of predictions with what was seen are not shown: with leave-one-out they are negative where
nothing is to be found.

The gain of the predictors is tested by dealing their rows out to other people and doing all of it again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconfmri.config import Prediction
from reconfmri.contracts.questions.associations import PREDICTION
from reconfmri.group.asked import Asked
from reconfmri.group.estimands import BASELINE, Array, NotEstimableError, answered, withheld

FOLDS = 5
FEWEST = 20  # people: four in a fold
MIXES = (0.2, 0.8)  # shares of the absolute penalty
N_PENALTIES = 15
TINY = float(np.finfo(float).tiny)
Row = dict[str, object]


@dataclass(frozen=True)
class Data:
    """Outcome (n,), what the base model has (n, k) and predictors (n, p)."""

    outcome: Array
    base: Array
    predictors: Array


@dataclass(frozen=True)
class Errors:
    """Sums of squared errors of prediction per partition (n_repeats,): of the mean, the base, and all."""

    of_mean: Array
    of_base: Array
    of_all: Array

    @property
    def gains(self) -> Array:
        """What predictors add, per partition."""
        return np.asarray(1 - self.of_all / self.of_base)

    @property
    def gain(self) -> float:
        """What predictors add, over all partitions."""
        return float(1 - self.of_all.sum() / self.of_base.sum())


def estimate(asked: Asked) -> pd.DataFrame:
    """Return one row per prediction of `group.prediction`.

    Raises
    ------
    ValueError
        The tables do not fit the study or one another.
    """
    return PREDICTION.frame(list(_rows(asked)))


def _rows(asked: Asked) -> Iterator[Row]:
    for name, settings in asked.group.prediction.items():
        data = _data(asked, settings)
        row: Row = {
            "prediction": name,
            "symptoms": settings.outcome,
            "session": settings.session,
            "n_predictors": len(settings.predictors),
            "n": len(data.outcome),
        }
        try:
            yield row | _numbers(data, settings, asked.seed) | answered()
        except NotEstimableError as reason:
            yield row | withheld(reason)


def _data(asked: Asked, settings: Prediction) -> Data:
    """What is known of the people with everything."""
    outcomes = {item.name: item for item in asked.outcomes}
    outcome = outcomes[settings.outcome]
    later = dict(zip(asked.labels[1:], outcome.values.T[1:], strict=True))  # by session
    after = later.get(settings.session, np.full(len(outcome.active), np.nan))
    arm = np.where(outcome.active, 0.5, -0.5)
    base = np.column_stack([np.ones(len(arm)), arm, outcome.values[:, BASELINE], outcome.adjusted_for])
    predictors = np.column_stack([outcomes[name].values[:, BASELINE] for name in settings.predictors])
    known = ~np.isnan(np.column_stack([after, base, predictors])).any(axis=1)
    return Data(after[known], base[known], predictors[known])


def _numbers(data: Data, settings: Prediction, seed: int) -> Row:
    if len(data.outcome) < FEWEST:
        raise NotEstimableError(
            f"{len(data.outcome)} people have the outcome at both visits and every predictor, {FEWEST} are "
            "needed",
            fix="fewer predictors, or no prediction",
        )
    if np.linalg.matrix_rank(data.base) < data.base.shape[1] or (np.ptp(data.predictors, axis=0) == 0).any():
        raise NotEstimableError(
            "a predictor, the baseline or the arm does not vary", fix="look at measures.tsv"
        )
    random = np.random.default_rng(seed)
    folds = [random.permutation(len(data.outcome)) % FOLDS for _ in range(settings.repeats)]
    found = predict(data, folds)
    null = np.empty(settings.permutations)
    for place in range(settings.permutations):
        dealt = data.predictors[random.permutation(len(data.outcome))]
        null[place] = predict(Data(data.outcome, data.base, dealt), folds).gain
    return {
        "q2_base": float(1 - found.of_base.sum() / found.of_mean.sum()),
        "q2": float(1 - found.of_all.sum() / found.of_mean.sum()),
        "gain": found.gain,
        "gain_sd": float(found.gains.std(ddof=1)) if len(folds) > 1 else np.nan,
        "null_mean": float(null.mean()),
        "null_upper": float(np.quantile(null, 0.95)),
        "p": float((1 + (null >= found.gain).sum()) / (1 + len(null))),
    }


def predict(data: Data, partitions: Sequence[NDArray[np.int_]]) -> Errors:
    """Return the errors of prediction over partitions into folds, each (n,) of fold numbers."""
    errors = np.zeros((3, len(partitions)))
    for place, fold_of in enumerate(partitions):
        for fold in range(FOLDS):
            out = fold_of == fold
            errors[:, place] += _errors(data, ~out, out)
    return Errors(*errors)


def _errors(data: Data, train: NDArray[np.bool_], test: NDArray[np.bool_]) -> Array:
    """Squared errors in a fold of the mean, the base and all (3,)."""
    coefficients = np.linalg.lstsq(data.base[train], data.outcome[train])[0]
    left = data.outcome - data.base @ coefficients
    more = _elastic_net(data.predictors[train], left[train], data.predictors[test])
    away = data.outcome[test] - data.outcome[train].mean(), left[test], left[test] - more
    return np.array([np.sum(np.square(item)) for item in away])


def _elastic_net(predictors: Array, outcome: Array, there: Array) -> Array:
    """Return what an elastic net of `predictors` (n, p), tuned by folds, predicts for `there` (m, p)."""
    centre, spread = predictors.mean(axis=0), predictors.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    scaled, level = (predictors - centre) / spread, outcome.mean()
    fold_of = np.arange(len(outcome)) % FOLDS
    best: tuple[float, float, float] = (np.inf, MIXES[0], 1.0)
    for mix in MIXES:
        largest = float(np.abs(scaled.T @ (outcome - level)).max()) / (len(outcome) * mix)
        penalties = max(largest, TINY) * np.logspace(0, -3, N_PENALTIES)
        errors = np.zeros(N_PENALTIES)
        for fold in range(FOLDS):
            out = fold_of == fold
            slopes, at = _path(scaled[~out], outcome[~out], mix, penalties)
            errors += np.square(outcome[out][:, None] - at - scaled[out] @ slopes).sum(axis=0)
        chosen = int(errors.argmin())  # of equals the largest penalty
        best = min(best, (float(errors[chosen]), mix, float(penalties[chosen])))
    slopes, at = _path(scaled, outcome, best[1], np.array([best[2]]))
    return np.asarray((at + (there - centre) / spread @ slopes)[:, 0])


def _path(predictors: Array, outcome: Array, mix: float, penalties: Array) -> tuple[Array, Array]:
    """Slopes (p, n_penalties) and intercepts (n_penalties,) of elastic nets (scikit-learn)."""
    import sklearn  # type: ignore[import-untyped]
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.linear_model import enet_path  # type: ignore[import-untyped]

    centre, level = predictors.mean(axis=0), outcome.mean()
    with sklearn.config_context(skip_parameter_validation=True), warnings.catch_warnings():
        # of small penalties, which are not chosen
        warnings.simplefilter("ignore", ConvergenceWarning)
        slopes = enet_path(
            np.asfortranarray(predictors - centre),
            outcome - level,
            l1_ratio=mix,
            alphas=penalties,
            check_input=False,
        )[1]
    return slopes, level - centre @ slopes
