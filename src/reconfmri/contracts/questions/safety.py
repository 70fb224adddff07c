"""Questions about safety: adverse events by arm, ratings and vital signs over time."""

from __future__ import annotations

from reconfmri.contracts.questions.columns import ARM, COMPARISON, LEVEL, OUTCOME, VISIT
from reconfmri.contracts.registry import GroupQuestion, Section, register
from reconfmri.contracts.specs import OF_OUTCOME, TableSpec, integer, number, text

ADVERSE = TableSpec(
    (
        text("kind", "any, severity or term"),
        text("name", "Name of the term or grade, as in the table of adverse events"),
        COMPARISON,
        integer("people_active", "People of the active arm with at least one such event"),
        integer("n_active", "People randomised to the active arm"),
        integer("events_active", "Events in the active arm"),
        integer("people_control", "People of the control arm with at least one such event"),
        integer("n_control", "People randomised to the control arm"),
        integer("events_control", "Events in the control arm"),
        number("difference", "Share of people with such an event, active minus control"),
        number("lower", "Lower end of its exact interval"),
        number("upper", "Upper end of it"),
        LEVEL,
        number("p", "Fisher's exact p value, not corrected for the number of terms"),
    )
)
MONITORED = TableSpec(
    (
        text("name", "Name in group.safety"),
        OUTCOME,
        VISIT,
        ARM,
        text("unit", "Unit of mean, sd, ends, median, highest and lowest"),
        integer("n", "People with a value"),
        number("mean", "Mean", OF_OUTCOME),
        number("sd", "Standard deviation between people", OF_OUTCOME),
        number("lower", "Lower end of the t interval of the mean", OF_OUTCOME),
        number("upper", "Upper end of it", OF_OUTCOME),
        LEVEL,
        number("median", "Median", OF_OUTCOME),
        number("highest", "Highest value", OF_OUTCOME),
        number("lowest", "Lowest value", OF_OUTCOME),
    )
)
register(
    GroupQuestion(
        "safety",
        rule="fit_frequentist_models",
        arms="pairs",
        function="reconfmri.group.safety:estimate",
        tables={
            "adverse_events": ADVERSE.called("Adverse events by arm"),
            "monitored": MONITORED.called("Ratings and vital signs over time, by arm"),
        },
        section=Section(
            "safety",
            "Safety",
            "Adverse events by arm, everybody who was randomised counted, and ratings or vital signs over "
            "time, as they were observed. P values are not corrected for the number of terms: a small one is "
            "no finding, a large one no proof of safety.",
        ),
        needs=("adverse_events",),
    )
)
