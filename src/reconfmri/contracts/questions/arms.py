"""Questions about the arms without a sampler; who is compared; other draws of the same allocation."""

from __future__ import annotations

from reconfmri import exclusions
from reconfmri.contracts.questions.columns import (
    COMPARISON,
    DF,
    DOMAIN,
    ESTIMAND,
    ESTIMATES,
    HIGHEST_DENSITY_LOWER,
    HIGHEST_DENSITY_UPPER,
    LEVEL,
    N_CONTROL,
    OUTCOME,
    POSTERIOR_MEAN,
    POSTERIOR_SD,
    PROBABILITY,
    REPORTED,
    SD,
    SESSION,
    STATUS_OR_REASON,
    UNIT,
    UPPER,
)
from reconfmri.contracts.registry import GroupQuestion, Section, register
from reconfmri.contracts.specs import OF_OUTCOME, TableSpec, integer, number, text, yes_no

EXCLUSIONS = TableSpec(tuple(text(name, exclusions.DESCRIPTIONS[name]) for name in exclusions.COLUMNS))
MODERATION = TableSpec(
    (
        DOMAIN,
        OUTCOME,
        text("estimand", "moderation: change of the arm difference at the session, adjusted for baseline"),
        text("covariate", "Moderator, a name of group.covariates"),
        text("per", "For which step of the moderator: one SD (its size), or from one category to another"),
        SESSION,
        text(
            "method",
            "ancova: least squares; ancova_hc2: the same, allowing unequal variances; bayes: the same"
            " regression, Gaussian, with the priors of group.priors",
        ),
        text("unit", "Unit of estimate, sd, lower and upper, per step"),
        number(
            "estimate",
            "Change of active minus control per step of the moderator; bayes: posterior mean",
            OF_OUTCOME,
        ),
        SD,
        DF,
        number("lower", "Lower end of the interval; bayes: highest density", OF_OUTCOME),
        UPPER,
        LEVEL,
        PROBABILITY,
        number("p", "Two-sided p value, not corrected; missing for bayes"),
        integer("n_active", "People of the active arm in the fit"),
        integer("n_control", "People of the control arm in the fit"),
        STATUS_OR_REASON,
        *REPORTED,
    )
)
POOLED = TableSpec(
    (
        text("pooled", "Name of the set, as in group.pooled"),
        text("role", "secondary, always: each outcome alone is the result"),
        text(
            "quantity",
            "mean: of the differences of the set's outcomes; spread: their SD between outcomes; "
            "outcome: the difference of one outcome, drawn towards the mean",
        ),
        text("outcome", "The outcome; missing where the quantity is of the set"),
        ESTIMAND,
        SESSION,
        UNIT,
        POSTERIOR_MEAN,
        POSTERIOR_SD,
        HIGHEST_DENSITY_LOWER,
        HIGHEST_DENSITY_UPPER,
        LEVEL,
        number(
            "probability",
            "Posterior probability of the sign of the estimate, not adjusted for multiplicity; "
            "missing for the spread",
        ),
        number("correlation", "Mean correlation between the estimates of two outcomes of the set"),
        integer("n_outcomes", "Outcomes that could be estimated and are in the set"),
        integer(
            "n_active",
            "People of the active arm with a value at the session; of a set: the fewest of its outcomes",
        ),
        N_CONTROL,
        text(
            "status",
            "ok, with the covariance over visits where it is not unstructured; or `not reported: "
            "<reason>` and then the numbers are missing",
        ),
        *REPORTED,
    )
)
CONTROLS = TableSpec(
    (
        text(
            "check",
            "baseline: the arms before treatment; control: an outcome declared to stay alike; "
            "quality: motion, tSNR and coverage of the scans; precision: the logarithm of the primary"
            " outcome's error; spread: whether both arms have one SD at each visit, which "
            "group.spread: common takes for granted",
        ),
        OUTCOME,
        COMPARISON,
        text("session", "BIDS session label, without ses-; spread: `all`"),
        text("unit", "Unit of estimate and sd"),
        number(
            "estimate",
            "Active minus control by REML; adjusted for baseline in control outcomes, else "
            "unadjusted. spread: mean over visits of ln(SD of the active arm / SD of the control arm)",
            OF_OUTCOME,
        ),
        number("sd", "Standard error (Kenward-Roger; spread: from the information)", OF_OUTCOME),
        number("df", "Degrees of freedom; spread: of the likelihood ratio, visits with an SD per arm"),
        number("p", "Two-sided p value, not corrected: one in twenty is below .05 where nothing is wrong"),
        text(
            "status",
            "ok, with the covariance over visits where it is not unstructured; or `not reported: <reason>`",
        ),
        *REPORTED,
    )
)
RELIABILITY = TableSpec(
    (
        DOMAIN,
        OUTCOME,
        text("arm", "Arm whose people these are; the arms are never pooled"),
        text("unit", "Unit of sem and sdc"),
        text(
            "sessions",
            "BIDS session labels of the visits used, without ses-: of those that five people have, "
            "the first and as many of the best attended as make (n - 1)(n_visits - 1) largest, with n"
            " of five or more",
        ),
        integer("n", "People with a value at every one of these visits; the others are left out"),
        integer("n_visits", "Visits used"),
        number(
            "icc_2_1",
            "ICC(2,1), absolute agreement of single visits: a mean change over visits counts as error",
        ),
        number("icc_2_1_lower", "Lower end of the generalised interval of icc_2_1"),
        number("icc_2_1_upper", "Upper end of the interval, in the same way"),
        number("icc_3_1", "ICC(3,1), consistency of single visits: a mean change over visits is set aside"),
        number("icc_3_1_lower", "Lower end of the F interval of icc_3_1"),
        number("icc_3_1_upper", "Upper end of the interval, in the same way"),
        number(
            "sem",
            "Standard error of measurement: root of the residual mean square, a mean change set aside",
            OF_OUTCOME,
        ),
        number(
            "sdc",
            "Smallest detectable change of one person: normal quantile of the level x root 2 x sem",
            OF_OUTCOME,
        ),
        number("level", "Level of the intervals and of sdc"),
        STATUS_OR_REASON,
        *REPORTED,
    )
)
TWINS = TableSpec(
    (
        text("twins", "Name of the set, as in group.twins"),
        OUTCOME,
        COMPARISON,
        SESSION,
        text("unit", "Unit of estimate and sd"),
        number(
            "estimate",
            "Active minus control by REML, adjusted for baseline (unadjusted in a study of one visit)",
            OF_OUTCOME,
        ),
        number("sd", "Standard error (Kenward-Roger)", OF_OUTCOME),
        DF,
        number("p", "Two-sided p value, not corrected"),
        number("standardised", "The estimate in SDs of people within an arm at the session"),
        number("correlation", "Of the people's values at the session with those of the first of the set"),
        integer("n", "People with both values at the session"),
        yes_no(
            "disagrees",
            "One interval of this outcome and the first leaves zero out while the other does not, or both "
            "do on different sides",
        ),
        STATUS_OR_REASON,
        *REPORTED,
    )
)
DRAWS = TableSpec(
    (
        integer("draw", "0 is the allocation as it is"),
        number("statistic", "Studentised one-step estimate of the primary question"),
    )
)

register(
    GroupQuestion(
        "left_out",
        rule="fit_frequentist_models",
        arms="all",
        function="reconfmri.group.asked:left_out",
        tables={"exclusions": EXCLUSIONS.called("People in neither arm")},
        section=Section("scans"),
    )
)
register(
    GroupQuestion(
        "frequentist",
        rule="fit_frequentist_models",
        arms="all",
        function="reconfmri.group.frequentist:estimate",
        tables={"frequentist_estimates": ESTIMATES.called("REML, analysis of covariance and Welch's test")},
        section=Section("estimates"),
    )
)
register(
    GroupQuestion(
        "moderation",
        rule="fit_frequentist_models",
        function="reconfmri.group.moderation:estimate",
        tables={"moderation": MODERATION.called("How the difference changes with a covariate")},
        section=Section("moderation"),
    )
)
register(
    GroupQuestion(
        "pooled",
        rule="fit_frequentist_models",
        function="reconfmri.group.pooled:estimate",
        tables={"pooled": POOLED.called("Effects pooled over exchangeable outcomes")},
        section=Section("pooled"),
    )
)
register(
    GroupQuestion(
        "controls",
        rule="fit_frequentist_models",
        arms="all",
        function="reconfmri.group.controls:estimate",
        tables={"controls": CONTROLS.called("Negative controls")},
        section=Section("controls"),
    )
)
register(
    GroupQuestion(
        "twins",
        rule="fit_frequentist_models",
        arms="all",
        function="reconfmri.group.twins:estimate",
        tables={"twins": TWINS.called("Outcomes that estimate one thing in different ways")},
        section=Section(
            "twins",
            "Twins: one thing estimated in different ways",
            "Each set was declared to estimate one thing; the first of a set counts. Where a row disagrees, "
            "the conclusion hangs on how it was estimated. SDs of regions are among the controls: a region "
            "that fluctuates more in one arm moves every estimate of its connectivity.",
        ),
    )
)
register(
    GroupQuestion(
        "reliability",
        rule="fit_frequentist_models",
        arms="all",
        function="reconfmri.group.reliability:estimate",
        tables={"reliability": RELIABILITY.called("Reliability of every outcome within the arms")},
        section=Section("reliability"),
    )
)
register(
    GroupQuestion(
        "randomisation",
        rule="test_by_randomisation",
        arms="all",
        function="reconfmri.group.randomisation:estimate",
        tables={"randomisation_estimates": ESTIMATES.called("The randomisation test of every question")},
        section=Section("estimates"),
        needs=("seed",),
    )
)
register(
    GroupQuestion(
        "randomisation_draws",
        rule="test_by_randomisation",
        arms="all",
        function="reconfmri.group.randomisation:headline_statistics",
        tables={"randomisation_draws": DRAWS.called("Its statistic under other draws of the allocation")},
        section=Section("controls"),
        needs=("seed",),
    )
)
