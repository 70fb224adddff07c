"""Questions on brain and symptoms of the same people."""

from __future__ import annotations

from reconfmri.contracts.questions.columns import LEVEL, REPORTED, STATUS
from reconfmri.contracts.registry import GroupQuestion, Section, register
from reconfmri.contracts.specs import OF_OUTCOME, TableSpec, integer, number, text, yes_no

BRAIN = text("brain", "Outcome of the brain, <what>.<contrast or condition>")
SYMPTOMS = text("symptoms", "Outcome that stands for the symptoms")
LATER = text("session", "BIDS session label of the later visit, without ses-")
N_BOTH_ACTIVE = integer("n_active", "People of the active arm with both outcomes at both visits")
N_BOTH_CONTROL = integer("n_control", "People of the control arm with both outcomes at both visits")

ASSOCIATIONS = TableSpec(
    (
        text("association", "Name, as in group.associations"),
        BRAIN,
        SYMPTOMS,
        LATER,
        text(
            "quantity",
            "correlation_of_changes: of both changes from baseline, given the arm; "
            "correlation_of_true_changes: the same without the error of measurement that the declared "
            "reliability implies; correlation_active, correlation_control: in one arm; "
            "difference_of_correlations: active minus control, in Fisher z; slope_on_baseline: symptoms at "
            "the session per SD of the brain at baseline, given baseline symptoms and arm; through_brain: "
            "arm difference in symptoms by way of the brain at the session; around_brain: the rest of it",
        ),
        text(
            "method",
            "bayes: the joint model of both outcomes at both visits, everybody with any value; fisher_z: "
            "Pearson correlation of residuals given arm and covariates, people with all four values; ols: "
            "least squares in the same people",
        ),
        text("unit", "Unit of estimate, sd, lower and upper; r: correlation, z: difference in Fisher z"),
        number("estimate", "Estimate; bayes: posterior mean", OF_OUTCOME),
        number("sd", "Standard error (of correlations in Fisher z); bayes: posterior SD", OF_OUTCOME),
        number("lower", "Lower end of the interval; bayes: highest density", OF_OUTCOME),
        number("upper", "Upper end of it", OF_OUTCOME),
        LEVEL,
        number("probability", "bayes: posterior probability of the sign, not adjusted for multiplicity"),
        number("p", "Two-sided p value, not adjusted for multiplicity; missing for bayes"),
        N_BOTH_ACTIVE,
        N_BOTH_CONTROL,
        number(
            "share_possible",
            "correlation_of_true_changes: share of the draws in which the declared reliability leaves true "
            "variation; the estimate is of those",
        ),
        yes_no("exploratory", "Whether it rests on what no randomisation gives"),
        STATUS,
        *REPORTED,
    )
)
PREDICTION = TableSpec(
    (
        text("prediction", "Name, as in group.prediction"),
        SYMPTOMS,
        LATER,
        integer("n_predictors", "Outcomes whose baseline values predict"),
        integer("n", "People with the outcome at both visits and every predictor"),
        number(
            "q2_base",
            "1 - squared errors of prediction over those of the mean of the others, by the outcome's "
            "baseline and the arm",
        ),
        number("q2", "The same with the predictors added"),
        number("gain", "1 - squared errors with predictors over those without: what predictors add"),
        number("gain_sd", "SD of the gain over partitions into folds"),
        number("null_mean", "Mean gain with the predictors of other people"),
        number("null_upper", "95 % quantile of it"),
        number("p", "Share of permutations (and the data) with as large a gain, not adjusted"),
        STATUS,
        *REPORTED,
    )
)

register(
    GroupQuestion(
        "associations",
        rule="fit_bayesian_models",
        function="reconfmri.group.associations:estimate",
        tables={"associations": ASSOCIATIONS.called("Brain and symptoms of the same people")},
        section=Section("associations"),
        needs=("seed",),
    )
)
register(
    GroupQuestion(
        "prediction",
        rule="test_by_randomisation",
        function="reconfmri.group.prediction:estimate",
        tables={"prediction": PREDICTION.called("Prediction of a later value by brain measures")},
        section=Section("prediction"),
        needs=("seed",),
    )
)
