"""Columns that tables of the group share, and the table of estimates."""

from __future__ import annotations

from reconfmri.contracts.specs import OF_OUTCOME, Column, TableSpec, integer, number, text, yes_no

DOMAIN = text(
    "domain",
    "Where the outcome comes from: activation, connectivity, skin_conductance, physiology, clinical, quality",
)
OUTCOME = text("outcome", "Outcome, <what>.<contrast or condition>")
ESTIMAND = text(
    "estimand",
    "difference_adjusted: active minus control at the session, adjusted for baseline; "
    "difference_unadjusted: the same without the baseline; difference_of_change: of later "
    "minus baseline; difference_average: adjusted, the mean over later visits; change_active,"
    " change_control: later minus baseline within an arm",
)
COMPARISON = Column(
    "comparison",
    "text",
    "Arms compared, `<arm> minus <arm>`, or `dose trend`: the difference between the highest and the lowest "
    "dose along the least-squares line through the arms' means; of a change within an arm, the arm. Only "
    "where there are more than two arms; n_active and n_control then are people of the arms for and against",
    optional=True,
)
SESSION = text(
    "session",
    "BIDS session label of the visit that is asked about, without ses-; `average`: the mean "
    "over later visits",
)
UNIT = text("unit", "Unit of estimate, sd, lower and upper")
SD = number("sd", "Standard error; bayes: posterior standard deviation", OF_OUTCOME)
DF = number("df", "Degrees of freedom of the t interval; missing for bayes")
UPPER = number("upper", "Upper end of the interval, in the same way", OF_OUTCOME)
LEVEL = number("level", "Level of the interval")
PROBABILITY = number(
    "probability", "bayes: posterior probability of the sign of the estimate, not adjusted for multiplicity"
)
N_CONTROL = integer("n_control", "People of the control arm, counted in the same way")
STATUS = text(
    "status",
    "ok, with the covariance over visits where it is not unstructured, and after `; caution: "
    "` what to beware of; or `not reported: <reason>` and then the numbers are missing",
)
STATUS_OR_REASON = text("status", "ok; or `not reported: <reason>` and then the numbers are missing")
POSTERIOR_MEAN = number("estimate", "Posterior mean", OF_OUTCOME)
POSTERIOR_SD = number("sd", "Posterior standard deviation", OF_OUTCOME)
HIGHEST_DENSITY_LOWER = number("lower", "Lower end of the highest-density interval", OF_OUTCOME)
HIGHEST_DENSITY_UPPER = number("upper", "Upper end of the highest-density interval", OF_OUTCOME)
ARM = text("arm", "Arm as randomised")
VISIT = text("session", "BIDS session label, without ses-")
INTERVAL_LOWER = number("lower", "Lower end of the interval", OF_OUTCOME)
INTERVAL_UPPER = number("upper", "Upper end of the interval", OF_OUTCOME)
MODEL = text("model", "common_baseline: both arms share the baseline mean; free_baseline: they do not")
REPORTED = (
    yes_no("reported", "Whether there is an estimate"),
    text("reason", "Why there is none, and how to fix it; missing where there is one"),
)
IS_PRIMARY = yes_no("is_primary", "Whether this is the primary question: its outcome, session and estimand")
ESTIMATES = TableSpec(
    (
        DOMAIN,
        OUTCOME,
        ESTIMAND,
        COMPARISON,
        SESSION,
        text(
            "analysis_set",
            "all_randomised: every randomised person with at least one measurement of the outcome",
        ),
        text(
            "method",
            "bayes: Bayesian repeated measures; reml: the same mean model by restricted maximum "
            "likelihood with Kenward-Roger; ancova: least squares given baseline; ancova_hc2: the "
            "same, allowing unequal variances (Bell and McCaffrey's degrees of freedom); welch: "
            "two-sample t with unequal variances (of change scores for difference_of_change), "
            "paired_t: t of the changes in one arm, both without the study's covariates, which are in"
            " all the others; randomisation: studentised one-step estimate under other draws of the "
            "allocation",
        ),
        UNIT,
        number(
            "estimate", "Active minus control, or a change within an arm; bayes: posterior mean", OF_OUTCOME
        ),
        SD,
        DF,
        number(
            "lower",
            "Lower end of the interval; bayes: highest density; randomisation: what it does not reject",
            OF_OUTCOME,
        ),
        UPPER,
        LEVEL,
        PROBABILITY,
        number(
            "rope_probability",
            "bayes: posterior probability that the difference is no larger than group.rope of its "
            "unit, up or down; missing where the study declares none",
        ),
        number("p", "Two-sided p value; missing for bayes"),
        number(
            "p_adjusted",
            "p corrected within the family (randomisation: max-T); the primary keeps its own p; "
            "missing outside families",
        ),
        text("family", "Declared family, or `primary`; `exploratory`: of an outcome that was not declared"),
        integer(
            "n_active",
            "People of the active arm: with a value at the session (bayes, reml), in the fit (others)",
        ),
        N_CONTROL,
        number("r_hat", "bayes: largest R-hat over all parameters of the model"),
        number(
            "ess", "bayes: smallest effective sample size, bulk or tail, over all parameters of the model"
        ),
        STATUS,
        *REPORTED,
        IS_PRIMARY,
        text(
            "stamp",
            "What was decided when: pre-specified, changed before unblinding or changed after unblinding, by "
            "what differs from the first lock; exploratory: of an outcome declared so; not locked. Missing "
            "in tables of one engine and of measures without a study",
        ),
        text(
            "caveat",
            "Why methods that take those seen at the visits of the question alone (ancova, welch, "
            "paired_t) are not the equals of the others here; missing where they leave nobody out",
        ),
    )
)
