"""Questions that the Bayesian engine answers, and how well they are answered in trials like this one."""

from __future__ import annotations

from reconfmri.contracts.questions.columns import (
    ARM,
    ESTIMAND,
    ESTIMATES,
    HIGHEST_DENSITY_LOWER,
    HIGHEST_DENSITY_UPPER,
    INTERVAL_LOWER,
    INTERVAL_UPPER,
    LEVEL,
    MODEL,
    N_CONTROL,
    OUTCOME,
    POSTERIOR_MEAN,
    POSTERIOR_SD,
    REPORTED,
    SESSION,
    STATUS_OR_REASON,
    UNIT,
    VISIT,
)
from reconfmri.contracts.registry import GroupQuestion, Section, register
from reconfmri.contracts.specs import OF_OUTCOME, TableSpec, integer, number, text, yes_no

DIAGNOSTICS = TableSpec(
    (
        text("domain", "As in the estimates"),
        text("outcome", "As in the estimates"),
        MODEL,
        text("session", "Visit in the model, BIDS session label"),
        text("unit", "Unit of scale, centre and visit_sd"),
        integer("n_active", "People of the active arm with a value at the visit"),
        integer("n_control", "People of the control arm with a value at the visit"),
        number(
            "scale",
            "s of the unit: the priors are Normal(0, effect s) and so on, see group.priors",
            OF_OUTCOME,
        ),
        number(
            "centre",
            "Centre of the prior of the visit means: the mean of all values, whatever the arm",
            OF_OUTCOME,
        ),
        number(
            "visit_sd",
            "Posterior mean of the standard deviation between people at the visit; student_t: of the "
            "scale; by_arm: of the geometric mean of the arms",
            OF_OUTCOME,
        ),
        number(
            "sd_ratio", "by_arm: posterior median of the SD of the active arm over that of the control arm"
        ),
        number("t_df", "student_t: posterior median of the degrees of freedom"),
        number("r_hat", "Largest R-hat over all parameters"),
        number("ess", "Smallest bulk or tail effective sample size over all parameters"),
        integer("divergences", "Divergent transitions after warm-up"),
        number("target_accept", "Target acceptance of the fit; the second, stricter one if the first failed"),
        integer("draws", "Draws per chain after warm-up"),
        text(
            "covariance",
            "Over visits: unstructured, or random_intercept where that did not converge or "
            "group.covariance asks for it",
        ),
        yes_no("converged", "Whether the fit passed the gate of group.sampling"),
    )
)
PREDICTIONS = TableSpec(
    (
        OUTCOME,
        text("unit", "Unit of observed, lower, median and upper"),
        text(
            "check",
            "prior: trials as the priors allow them; posterior: trials as the fitted model makes them",
        ),
        MODEL,
        ARM,
        VISIT,
        text(
            "statistic",
            "mean, sd, lowest or highest value of the people of the arm who were seen at the session",
        ),
        number("observed", "The statistic in the data", OF_OUTCOME),
        number(
            "lower",
            "2.5 % quantile of the statistic over 500 replicated trials with the same missed visits",
            OF_OUTCOME,
        ),
        number("median", "Median over the replicated trials", OF_OUTCOME),
        number("upper", "97.5 % quantile", OF_OUTCOME),
        number(
            "p",
            "Share of the replicated trials whose statistic is at least the observed one; near 0 or "
            "1: the model does not make such data. Of the posterior it is conservative: the data were"
            " used to fit it",
        ),
        STATUS_OR_REASON,
        *REPORTED,
    )
)
SENSITIVITY = TableSpec(
    (
        text("analysis", "What differs from the declared analysis; `declared` is that analysis itself"),
        text(
            "kind",
            "declared, prior, residuals, covariance, errors (first-level) or influence (without one person)",
        ),
        text("method", "bayes or reml, as in the estimates"),
        UNIT,
        number("estimate", "Active minus control for the primary question", OF_OUTCOME),
        number("sd", "Posterior standard deviation, or standard error", OF_OUTCOME),
        INTERVAL_LOWER,
        INTERVAL_UPPER,
        LEVEL,
        number("probability", "bayes: posterior probability of the sign of the estimate"),
        number("p", "reml: two-sided p value"),
        number(
            "pareto_k",
            "bayes, influence: how unreliable the weights of the draws without the person are; above "
            "0.7 the model was fitted again instead",
        ),
        text("status", "ok, or `not reported: <reason>` and then the numbers are missing"),
        *REPORTED,
    )
)
JOINT = TableSpec(
    (
        text("joint", "Name of the set, as in group.joint"),
        OUTCOME,
        text("other", "The outcome that is modelled together with it"),
        text(
            "quantity",
            "difference: active minus control of the outcome; contrast: it minus that of the other, "
            "each in its s; correlation: of both within a person at the session, given arm and visit;"
            " both: that both differences have their direction",
        ),
        ESTIMAND,
        SESSION,
        text(
            "unit",
            "Unit of estimate, sd, lower and upper; s: the scale of each outcome's unit in group.scales",
        ),
        POSTERIOR_MEAN,
        POSTERIOR_SD,
        HIGHEST_DENSITY_LOWER,
        HIGHEST_DENSITY_UPPER,
        LEVEL,
        text(
            "direction",
            "What `probability` is of: lower or higher than 0; both: of outcome and other in turn",
        ),
        yes_no(
            "declared", "Whether the direction was declared in group.joint; else it is that of the estimate"
        ),
        number("probability", "Posterior probability of the direction, not adjusted for multiplicity"),
        integer(
            "n_active",
            "People of the active arm with a value at the session, of both where both are concerned",
        ),
        N_CONTROL,
        number("r_hat", "Largest R-hat over all parameters of the pair's model"),
        number("ess", "Smallest bulk or tail effective sample size over all parameters of the pair's model"),
        text(
            "status",
            "ok, with the covariance where it is not unstructured; or `not reported: <reason>` and "
            "then the numbers are missing",
        ),
        *REPORTED,
    )
)
CALIBRATION = TableSpec(
    (
        text("method", "As in the estimates"),
        text("outcome", "The primary outcome"),
        text("estimand", "The primary estimand"),
        text("session", "The primary session, BIDS label without ses-"),
        number("level", "Level of the intervals"),
        number(
            "difference",
            "Active minus control in the trials with a difference, as REML finds it in this study",
        ),
        integer("n_trials", "Trials with that difference; fewer for bayes, which has the time that is left"),
        number(
            "coverage", "Share of them whose interval holds it; a trial whose estimate is withheld does not"
        ),
        number("coverage_error", "Monte Carlo standard error of coverage"),
        number(
            "bias", "Mean estimate minus difference, in the outcome's unit, over the trials with an estimate"
        ),
        integer("n_null_trials", "Trials without any difference between the arms"),
        number(
            "type_1_error",
            "Share of them whose interval excludes zero, randomisation: whose p is below 1 - level",
        ),
        number("type_1_error_error", "Monte Carlo standard error of type_1_error"),
        integer("n_withheld", "Trials of both kinds without an estimate by this method"),
        integer("n_labelled", "Trials whose estimate names a fallback or a caution"),
        text("status", "ok; or `not reported: <reason>`"),
        *REPORTED,
    )
)

register(
    GroupQuestion(
        "bayes",
        rule="fit_bayesian_models",
        arms="all",
        function="reconfmri.group.bayes:estimate",
        tables={
            "bayesian_estimates": ESTIMATES.called("Posteriors of every question"),
            "bayesian_diagnostics": DIAGNOSTICS.called("Convergence of every model"),
            "predictions": PREDICTIONS.called("What priors allow and posteriors replicate"),
        },
        section=Section("predictions"),
        needs=("seed",),
    )
)
register(
    GroupQuestion(
        "sensitivity",
        rule="fit_bayesian_models",
        arms="all",
        function="reconfmri.group.sensitivity:estimate",
        tables={"sensitivity": SENSITIVITY.called("The primary question under other choices")},
        section=Section("sensitivity"),
        needs=("seed",),
    )
)
register(
    GroupQuestion(
        "joint",
        rule="fit_bayesian_models",
        function="reconfmri.group.joint:estimate",
        tables={"joint": JOINT.called("Pairs of outcomes modelled together")},
        section=Section("joint"),
        needs=("seed",),
    )
)
register(
    GroupQuestion(
        "calibration",
        rule="",
        arms="all",
        function="reconfmri.group.calibration:calibrate",
        tables={"calibration": CALIBRATION.called("Coverage and type I error in trials like this one")},
        section=Section("calibration"),
        needs=("seed",),
        on_request=True,
    )
)
register(
    GroupQuestion(
        "estimates",
        rule="collect_estimates",
        arms="all",
        function="reconfmri.group:collect",
        tables={"estimates": ESTIMATES.called("Every question by every method")},
        section=Section("estimates"),
        collects=("bayesian_estimates", "frequentist_estimates", "randomisation_estimates"),
    )
)
