"""The part of the methods text that is about the group models, and about data that came as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconfmri.config import Group, Trial, outcome_label
from reconfmri.figures.labels import estimand_label, session_name
from reconfmri.group import ordinal
from reconfmri.group.bayes_model import DF_RATE, DF_SHAPE, RATIO_SD
from reconfmri.group.bounded import N_PLACES, PRIOR_MEAN, PRIOR_SD
from reconfmri.report.association_methods import association_methods
from reconfmri.report.words import count_of, list_of, uncapitalised
from reconfmri.trial.codes import is_coded

if TYPE_CHECKING:
    import pandas as pd


def data_of_a_table(trial: Trial, measures: pd.DataFrame, allocation: pd.DataFrame) -> tuple[str, str]:
    """Return the heading and the paragraph on data that came as a table of measures."""
    known = measures[measures["value"].notna() & measures["outcome"].isin(trial.group.modelled)]
    outcomes, people = known["outcome"].nunique(), known["participant_id"].nunique()
    text = (
        f"The table of measures holds {count_of(len(known), 'value')} of {count_of(outcomes, 'outcome')} in "
        f"{count_of(people, 'participant')}"
    )
    if len(trial.session_names) > 1:
        named = [
            f"{name} (day {trial.days[label]:g})" if label in trial.days else name
            for label, name in trial.session_names.items()
        ]
        text += f" at {count_of(len(named), 'session')}: {list_of(named)}"
    return "Data", (
        f"{text}. The allocation holds {count_of(len(allocation), 'participant')}. How the values were made "
        "is not known here."
    )


def group_methods(trial: Trial) -> list[tuple[str, str]]:
    """Return the part of the methods section that is about the group models, as (heading, paragraph)."""
    return [
        ("Estimands", _estimands(trial, trial.group)),
        ("Bayesian model", _bayesian(trial, trial.group)),
        ("Frequentist models", _frequentist(trial.group)),
        ("Sensitivity analyses, missing visits and reliability", _sensitivity(trial.group)),
        *([("Responders", _responders(trial.group))] if trial.group.responders else []),
        *([("Bounded totals", _bounded(trial.group))] if trial.group.bounded else []),
        *([("Ordinal totals", _ordinal(trial.group))] if trial.group.ordinal else []),
        *association_methods(trial),
    ]


def _bounded(group: Group) -> str:
    """The bounded likelihood, its priors, and how it is computed."""
    ends = [f"{outcome_label(name)} ({low:g} to {high:g})" for name, (low, high) in group.bounded.items()]
    return (
        f"As a sensitivity of the Gaussian models, {list_of(ends)} {'is' if len(ends) == 1 else 'are'} also "
        "taken to be beta-binomial in whole steps: logit of the mean on arm and on the logit of the "
        f"baseline, among people seen at both visits. Priors are normal: level 0 (SD {PRIOR_SD[0]:g}), arm 0 "
        f"({PRIOR_SD[1]:g}), slope {PRIOR_MEAN[2]:g} ({PRIOR_SD[2]:g}), log precision {PRIOR_MEAN[3]:.2g} "
        f"({PRIOR_SD[3]:g}). The difference is that of everybody's mean in each arm, in points; predictions "
        "for a new person lie inside the scale. Computed by importance sampling around the mode at "
        f"{2 * N_PLACES} places."
    )


def _ordinal(group: Group) -> str:
    """The ordinal likelihood, its priors, and how it is computed."""
    ends = [f"{outcome_label(name)} ({low:g} to {high:g})" for name, (low, high) in group.ordinal.items()]
    mean, sd = ordinal.PRIOR_MEAN, ordinal.PRIOR_SD
    return (
        f"As a sensitivity of the Gaussian models, {list_of(ends)} {'is' if len(ends) == 1 else 'are'} also "
        "taken as ordered categories: cumulative logit on arm and on the logit of the baseline, among people "
        "seen at both visits, with thresholds at the logits of the scale's steps, stretched below and above "
        f"its middle by two factors. Priors are normal: level 0 (SD {sd[0]:g}), log odds ratio of the arm 0 "
        f"({sd[1]:g}), slope {mean[2]:g} ({sd[2]:g}), log stretch {mean[3]:.2g} ({sd[3]:g}), asymmetry 0 "
        f"({sd[4]:g}). The difference is that of everybody's mean in each arm, in points; predictions for a "
        f"new person lie inside the scale. Computed by importance sampling around the mode at {2 * N_PLACES} "
        "places."
    )


def _responders(group: Group) -> str:
    """Rules, what is done with people who were not seen, and how the arms are compared."""
    unseen = {"nonresponder": "count as nonresponders", "observed": "are left out"}
    rules = [
        f"{name.replace('_', ' ')} ({outcome_label(rule.outcome)}: {rule.words}; people whose response is "
        f"not known {unseen[rule.missing]}; prior SD {rule.prior_sd:g})"
        for name, rule in group.responders.items()
    ]
    drug = "the arm named first" if group.arms.several else group.arms.pair[0]
    return (
        f"Response was declared as {list_of(rules, comma='; ')}. Everybody who was randomised is counted. "
        "Differences and ratios of shares have exact unconditional intervals (two one-sided score tests, "
        "Chan and Zhang 1999), the odds ratio its conditional interval with Fisher's exact p; over strata "
        "of the randomisation, Mantel and Haenszel's estimates with the errors of Sato and of Robins, "
        "Breslow and Greenland. The Bayesian twin is a logistic model with a level per stratum; levels and "
        "the log odds ratio have normal priors with the SD above; medians and equal-tailed intervals. Where "
        "nobody or everybody of an arm responded, ratios have only the Bayesian estimate. The number needed "
        "to treat is one over the difference. Bounds count every person who is not known for or against "
        f"{drug}. Times to the first response and to relapse are in visits: Kaplan and "
        "Meier's curves, proportional hazards with Efron's ties (statsmodels), and the same partial "
        "likelihood with that prior."
    )


def _estimands(trial: Trial, group: Group) -> str:
    primary = group.primary
    families = [
        f"{name} ({list_of([outcome_label(item) for item in members])})"
        for name, members in group.families.items()
    ]
    text = (
        "All randomised participants with data are analysed in the arm they were allocated to. "
        "Differences are "
        f"{_compared(group)}{CODED if is_coded(group) else ''}. "
        f"The primary outcome is "
        f"{outcome_label(primary.outcome)} at "
        f"{session_name(trial, primary.session)}, {estimand_label(primary.estimand).lower()}"
        f"{', ' * bool(primary.compared)}{primary.compared}. Reported for "
        f"every outcome{' and later session' if len(trial.session_names) > 1 else ''}: "
        f"{list_of([uncapitalised(estimand_label(item, group)) for item in group.estimands], comma='; ')}. "
    )
    text += _covariates(group)
    if families:
        named = {"holm": "Holm's method", "benjamini_hochberg": "Benjamini and Hochberg's method"}
        text += f"p values were corrected by {named[group.correction]} within the declared families: "
        text += f"{list_of(families, comma='; ')}. "
    if group.exploratory:
        later = list_of([outcome_label(item) for item in group.exploratory], comma="; ")
        text += f"Not declared in advance, modelled in the same way and labelled exploratory: {later}. "
    return text + "Posterior probabilities are not adjusted for multiplicity."


def _compared(group: Group) -> str:
    """Which arms are compared, and of several how the trend over doses is a difference."""
    arms = group.arms
    if not arms.several:
        return " minus ".join(arms.pair)
    text = list_of([one.name for one in arms.every_comparison])
    if arms.doses:
        doses = [f"{arm} {arms.doses[arm]:g}" for arm in arms.labels]
        text += (
            f" (the difference between the highest and the lowest dose along the least-squares line through "
            f"the arms' means; doses: {list_of(doses)})"
        )
    return f"{text}, all from one model of the {len(arms.labels)} arms"


def _covariates(group: Group) -> str:
    if not group.covariates:
        return ""
    named = [f"{name.replace('_', ' ')} ({item.kind})" for name, item in group.covariates.items()]
    filled = [name.replace("_", " ") for name, item in group.covariates.items() if item.missing == "mean"]
    shared = [name.replace("_", " ") for name, item in group.covariates.items() if item.slope == "common"]
    one = f" ({list_of(shared)}: one slope over all visits)" if shared else ""
    text = (
        f"Covariates, known before treatment: {list_of(named)}; around their means, with a slope per visit"
        f"{one}, in the mean of every model but the t tests. "
    )
    if filled:
        text += f"Where {list_of(filled)} was not known, the mean of all people was taken. "
    if group.moderators:
        later = [name.replace("_", " ") for name in group.moderators]
        text += (
            f"Whether the difference depends on {list_of(later)} was asked by analysis of covariance and by "
            "the same regression with priors. "
        )
    return text


CODED = ", the arms by code, drawn at random once"
MEAN_MODEL = (
    "Every outcome was fitted by a mixed model for repeated measures (MMRM): a mean per visit and a "
    "difference between the arms per visit. Differences adjusted for baseline come from the model in which "
    "the arms share their baseline mean (constrained longitudinal data analysis, cLDA), the others from the "
    "model in which they do not."
)
EACH_ARM = (
    "a difference of each active arm from the control per visit, with one covariance of all arms; every "
    "comparison is a contrast of these"
)
SEVERAL_PRIOR = ", with the same spread on the difference between any two arms"
COVARIANCE = {
    "auto": "unstructured; where that did not converge the estimate names what was fitted instead",
    "unstructured": "unstructured",
    "random_intercept": "that of a random intercept per person",
}


def _bayesian(trial: Trial, group: Group) -> str:
    priors, sampling = group.priors, group.sampling
    used = {trial.units[name] for name in group.modelled}
    scales = [f"{value:g} for {unit}" for unit, value in group.scales.items() if unit in used]
    prior = (
        "Priors on arm differences and visit means were flat"
        if priors.flat
        else f"Priors were Normal(0, {priors.effect:g} s) on arm differences and on their changes between "
        f"visits, Normal(centre, {priors.mean:g} s) on visit means, centred on the mean of all values"
    )
    residuals = {
        "gaussian": "",
        "student_t": " Residuals of a person over visits are multivariate t, with degrees of freedom given a "
        f"gamma({DF_SHAPE:g}, {DF_RATE:g}) prior above 1, so that people far from the others weigh less.",
    }[group.likelihood]
    if group.spread == "by_arm":
        residuals += (
            " Each arm has its own standard deviation at a visit, and both share correlations; the log of "
            f"the ratio has a Normal(0, {RATIO_SD:g}) prior."
        )
    rope = [f"± {value:g} {unit}" for unit, value in group.rope.items() if unit in used]
    small = f" Too small to matter was declared to be a difference within {list_of(rope)}." if rope else ""
    model = MEAN_MODEL
    if group.arms.several:
        model = model.replace("a difference between the arms per visit", EACH_ARM)
        prior += SEVERAL_PRIOR * (not priors.flat)
    return (
        f"{model} The covariance over visits is {COVARIANCE[group.covariance]}.{residuals} Missing "
        "visits are integrated out (missing at random), so that everybody with a measurement is in. "
        f"{prior}; half-t(4, 0, {priors.sd:g} s) on the standard deviation of each visit; LKJ(1) on the "
        "correlations. s "
        f"is a constant per unit: {list_of(scales)}. Sampling used PyMC and nutpie with {sampling.chains} "
        "chains of "
        f"{sampling.tune} warm-up and {sampling.draws} kept draws, seed {trial.seed}; a fit that failed "
        "the gate was "
        "repeated once, longer and with smaller steps. Intervals are highest-density intervals of "
        f"{100 * group.level:g} %. "
        f"A result is withheld when any parameter has R-hat above {sampling.max_r_hat:g} or an effective "
        "sample size below "
        f"{sampling.min_ess:g}, or when there are more than {sampling.max_divergences} divergent "
        f"transitions.{small}{_joint(group)}{_pooled(group)}{_twins(group)}"
    )


def _joint(group: Group) -> str:
    """How outcomes were modelled together, and what was expected of each."""
    if not group.joint:
        return ""
    sets = []
    for together in group.joint.values():
        expected = {name: "" if way == "either" else f" (expected {way})" for name, way in together.items()}
        sets.append(list_of([f"{outcome_label(name)}{way}" for name, way in expected.items()]))
    return (
        f" Outcomes were also modelled together, two by two: {list_of(sets, comma='; ')}. Both of a pair, "
        "each in its s, share one covariance over outcomes and visits, of which standard deviations have the "
        "same half-t prior and each correlation r a density proportional to 1 - r² (Huang and Wand 2013); "
        "where that did not converge it is a correlation of outcomes times a random intercept. All their arm "
        "differences correlate by one half a priori."
    )


def _pooled(group: Group) -> str:
    """Which outcomes were declared exchangeable, and how their effects were pooled."""
    if not group.pooled:
        return ""
    sets = [list_of([outcome_label(name) for name in alike]) for alike in group.pooled.values()]
    priors = group.priors
    between = "a flat prior" if priors.flat else f"a half-t(4, 0, {priors.between:g} s) prior"
    return (
        f" Declared exchangeable, and so pooled as a secondary analysis: {list_of(sets, comma='; ')}. Their "
        "estimates by restricted maximum likelihood, with the correlation of these and with standard errors "
        f"of as many degrees of freedom, met effects normal around a mean; the SD between them had {between}."
    )


def _twins(group: Group) -> str:
    """Which outcomes were declared to estimate one thing."""
    if not group.twins:
        return ""
    sets = [list_of([outcome_label(name) for name in twins]) for twins in group.twins.values()]
    return (
        f" Declared to estimate one thing in different ways, the first of each set counting: "
        f"{list_of(sets, comma='; ')}; "
        "their differences by restricted maximum likelihood stand side by side."
    )


INFORMATION = {
    "observed": ", which holds where what was missed depends on what was seen",
    "expected": ", which is a few percent short where what was missed depends on what was seen",
}


def _frequentist(group: Group) -> str:
    own = " Each arm has its own standard deviation at a visit." * (group.spread == "by_arm")
    shrunk = (
        " Where an unstructured covariance did not converge it was drawn towards compound symmetry with a "
        "standard deviation per visit, by two people's worth; a random intercept came last."
        if group.covariance == "auto"
        else ""
    )
    text = (
        "The same mean model and covariance were fitted by restricted maximum likelihood, with everybody "
        "who has a measurement; standard errors and degrees of freedom are Kenward and Roger's, from the "
        f"{group.information} information about the covariance{INFORMATION[group.information]}.{own}{shrunk} "
        "Beside it, "
        "least squares visit by visit: analysis of covariance on the baseline value for the adjusted "
        "difference (and again with a standard error that allows unequal variances), Welch's t test for "
        "the unadjusted difference, and Welch's t test of change scores for "
        "the difference of change; they use no other visits of a person, and are biased where leaving goes "
        "by what was seen, which their caveat in the table of estimates says. Intervals are t intervals of "
        f"{100 * group.level:g} %."
    )
    if group.permutations:
        text += (
            " A randomisation test drew the allocation anew "
            f"{group.permutations:,} times within strata, or took every possible one where there are fewer, "
            "and compared studentised one-step estimates; "
            "its p values within a family are corrected by the highest statistic of the family (max-T)"
            f"{SEVERAL_DRAWN if group.arms.several else ''}."
        )
    return text


SEVERAL_DRAWN = (
    " over its outcomes and, over comparisons, by closed testing; the labels of the arms that a null "
    "hypothesis takes to be alike were drawn among their own people, other arms kept their differences"
)


def _sensitivity(group: Group) -> str:
    expected = "between the arms before treatment and in the quality of scans, where there are any"
    if group.controls:
        expected += f", and in {list_of([outcome_label(name) for name in group.controls], comma='; ')}"
    return (
        "The primary estimate was made again under other priors and other covariances over visits, with the "
        "standard errors of the values where all are known, and without each participant in turn (the "
        f"posterior reweighted by Pareto-smoothed importance sampling, or fitted again). {_unseen(group)} No "
        f"difference was expected {expected}. Reliability within an "
        f"arm is ICC(2,1) and ICC(3,1) with intervals of {100 * group.level:g} %."
        + (
            f" Intercurrent events and the strategy for each are those of {group.intercurrent_events}."
            if group.intercurrent_events
            else ""
        )
    )


def _unseen(group: Group) -> str:
    """What was assumed of visits without a measurement."""
    if group.arms.several:
        return "Departures from data missing at random were not examined: that is worked out for two arms."
    return (
        "Visits without a measurement were filled in with their conditional means plus a shift per arm, and "
        f"by jumping to the mean of {group.arms.control}, with jackknife standard errors; the shift at which "
        "the verdict tips was solved for."
    )
