"""The question whether bounded totals give the answer of the Gaussian models."""

from __future__ import annotations

from reconfmri.contracts.questions.columns import (
    HIGHEST_DENSITY_LOWER,
    HIGHEST_DENSITY_UPPER,
    LEVEL,
    OUTCOME,
    POSTERIOR_MEAN,
    POSTERIOR_SD,
    PROBABILITY,
    REPORTED,
    SESSION,
    STATUS_OR_REASON,
)
from reconfmri.contracts.registry import GroupQuestion, Section, register
from reconfmri.contracts.specs import OF_OUTCOME, TableSpec, integer, number, text

BOUNDED = TableSpec(
    (
        OUTCOME,
        SESSION,
        text("unit", "Unit of the estimate, its ends and the predictions"),
        POSTERIOR_MEAN,
        POSTERIOR_SD,
        HIGHEST_DENSITY_LOWER,
        HIGHEST_DENSITY_UPPER,
        LEVEL,
        PROBABILITY,
        number("lowest", "Lowest possible total"),
        number("highest", "Highest possible total"),
        number("share_lowest", "Share of people at the lowest total"),
        number(
            "predicted_active_lower",
            "Lower end of what a new person of the active arm would score",
            OF_OUTCOME,
        ),
        number("predicted_active_upper", "Upper end of it", OF_OUTCOME),
        number(
            "predicted_control_lower",
            "Lower end of what a new person of the control arm would score",
            OF_OUTCOME,
        ),
        number("predicted_control_upper", "Upper end of it", OF_OUTCOME),
        integer("n_active", "People of the active arm seen at both visits"),
        integer("n_control", "People of the control arm seen at both visits"),
        STATUS_OR_REASON,
        *REPORTED,
    )
)

ORDINAL = BOUNDED.called("Adjusted differences by an ordinal likelihood")

register(
    GroupQuestion(
        "bounded",
        rule="fit_frequentist_models",
        function="reconfmri.group.bounded:estimate",
        tables={"bounded": BOUNDED.called("Adjusted differences by a bounded likelihood")},
        section=Section(
            "bounded",
            "Bounded totals",
            "Declared totals by a beta-binomial model, whose means and predictions lie inside the scale's "
            "range, among people seen at both visits: a sensitivity of the Gaussian models.",
        ),
    )
)

register(
    GroupQuestion(
        "ordinal",
        rule="fit_frequentist_models",
        function="reconfmri.group.ordinal:estimate",
        tables={"ordinal": ORDINAL},
        section=Section(
            "ordinal",
            "Ordinal totals",
            "Declared totals as ordered categories (cumulative logit), whose means and predictions lie "
            "inside the scale's range, among people seen at both visits: a sensitivity of the Gaussian "
            "models.",
        ),
    )
)
