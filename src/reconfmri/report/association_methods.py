"""The part of the methods text that is about brain and symptoms of the same people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconfmri.config import outcome_label
from reconfmri.figures.labels import session_name
from reconfmri.group.prediction import FOLDS, MIXES, N_PENALTIES
from reconfmri.report.words import count_of, list_of

if TYPE_CHECKING:
    from reconfmri.config import Trial


def association_methods(trial: Trial) -> list[tuple[str, str]]:
    """Return what was asked of brain and symptoms, as (heading, paragraph)."""
    return [
        *([("Brain and symptoms", _associations(trial))] if trial.group.associations else []),
        *([("Prediction", _prediction(trial))] if trial.group.prediction else []),
    ]


def _associations(trial: Trial) -> str:
    """Which changes are compared, by what, and what is taken off for error of measurement."""
    pairs, corrected, mediated = [], [], []
    for name, pair in trial.group.associations.items():
        at = session_name(trial, pair.session)
        pairs.append(f"{outcome_label(pair.brain)} and {outcome_label(pair.symptoms)} at {at}")
        corrected += [
            f"{outcome_label(getattr(pair, whose))} {middle:g} (95 % interval {lower:g} to {upper:g})"
            for whose, (lower, middle, upper) in pair.reliability.items()
        ]
        mediated += [name.replace("_", " ")] if pair.mediation else []
    text = (
        f"Together with their baselines, {list_of(pairs, comma='; ')} were modelled jointly given arm and "
        "covariates (multivariate normal over four values a person, priors as of outcomes modelled "
        "together). Correlations of changes, and the slope of later symptoms on the brain at baseline given "
        "baseline symptoms, per SD of the brain, are functions of its posterior. Beside them stand Fisher's "
        "z of the residuals given arm and covariates, in both arms together and in each, and least squares, "
        "among people with all four values. No correction for multiplicity. "
    )
    if corrected:
        text += (
            "The correlation of true changes takes the variance of the error of measurement off each "
            f"variance: reliability of one measurement {list_of(corrected, comma='; ')}, errors independent "
            "between measurements; draws where nothing true is left are impossible and are left out, and the "
            "estimate is withheld where they are more than nine in ten. Exploratory. "
        )
    if mediated:
        text += (
            f"Mediation ({list_of(mediated)}): the arm difference of the brain times the slope of symptoms "
            "on the brain at the same session, given both baselines and the arm. It is causal only if "
            "nothing but these baselines moves both brain and symptoms, the brain is measured without error "
            "and moves before symptoms, and its slope is the same in both arms: a sensitivity, not a result. "
        )
    return text.strip()


def _prediction(trial: Trial) -> str:
    """What is predicted by what, and how it is judged."""
    asked = []
    for item in trial.group.prediction.values():
        predictors = list_of([outcome_label(name) for name in item.predictors])
        asked.append(
            f"{outcome_label(item.outcome)} at {session_name(trial, item.session)} by the baseline of "
            f"{predictors} ({count_of(item.repeats, 'partition')}, {item.permutations:,} permutations)"
        )
    mixes = list_of([f"{mix:g}" for mix in MIXES])
    return (
        f"Predicted: {list_of(asked, comma='; ')}. The base is least squares on the outcome's own baseline, "
        f"arm and covariates; an elastic net (scikit-learn; shares of the absolute penalty {mixes}, "
        f"{N_PENALTIES} penalties) predicts what it leaves, judged in {FOLDS} folds and tuned by {FOLDS} "
        "folds within those it is fitted to. The gain is 1 minus the ratio of squared errors of prediction "
        "with and without the predictors; p from the whole procedure with predictors dealt out to other "
        "people, not adjusted."
    )
