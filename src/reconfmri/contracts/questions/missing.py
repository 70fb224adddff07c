"""Questions about missing visits: who was not seen, and had the unseen fared otherwise."""

from __future__ import annotations

from reconfmri.contracts.questions.columns import (
    ARM,
    ESTIMAND,
    ESTIMATES,
    INTERVAL_LOWER,
    INTERVAL_UPPER,
    LEVEL,
    OUTCOME,
    REPORTED,
    SESSION,
    STATUS,
    VISIT,
)
from reconfmri.contracts.registry import GroupQuestion, Section, register
from reconfmri.contracts.specs import OF_OUTCOME, TableSpec, integer, number, text

SEEN = TableSpec(
    (
        OUTCOME,
        ARM,
        VISIT,
        integer("n_seen", "People of the arm with a measurement of the outcome at the session"),
        integer("n_randomised", "People who were randomised to the arm"),
    )
)
PATTERNS = TableSpec(
    (
        OUTCOME,
        ARM,
        text(
            "pattern",
            "One digit per session in the order of the study: 1 with, 0 without a measurement (not "
            "attended, lost, or excluded for its quality)",
        ),
        integer(
            "n_people",
            "Randomised people of the arm with this pattern; patterns that nobody has are not listed",
        ),
    )
)
COMPLETERS = ESTIMATES.but(
    text("analysis_set", "completers: people with a measurement of the outcome at every session"),
    text(
        "method",
        "reml: repeated measures by restricted maximum likelihood with Kenward-Roger; ancova: "
        "least squares given baseline, where the question is adjusted for baseline, as the arms "
        "of those who stayed need not share one baseline mean",
    ),
    integer("n_active", "Completers of the active arm"),
    integer("n_control", "Completers of the control arm"),
)
REFERENCE_BASED = ESTIMATES.but(
    text("analysis_set", "all_randomised: everybody who was randomised, unseen values filled in"),
    text(
        "method",
        "conditional_mean: unseen values are what the person's other visits predict (missing at "
        "random). The others assume of people who attended nothing from a visit on: "
        "jump_to_reference: the mean of the control arm from there on; copy_reference: the mean "
        "of the control arm at all visits; copy_increments: the own arm's mean before, then the "
        "control arm's changes; last_mean: the own arm's mean before, carried forward. by_event: "
        "the strategies of the table of intercurrent events",
    ),
    number("sd", "Standard error by jackknife over people, the model fitted anew without each", OF_OUTCOME),
    number(
        "df",
        "Degrees of freedom of the t interval: those of the REML estimate, at most "
        "those of least squares with everybody seen",
    ),
    integer("n_active", "People of the active arm with a value at the session"),
    integer("n_control", "People of the control arm with a value at the session"),
)
TIPPING_GRID = TableSpec(
    (
        OUTCOME,
        ESTIMAND,
        SESSION,
        text("unit", "Unit of the deltas, estimate, sd, lower and upper"),
        number("delta_active", "Added to what is predicted for unseen people of the active arm", OF_OUTCOME),
        number(
            "delta_control", "Added to what is predicted for unseen people of the control arm", OF_OUTCOME
        ),
        number(
            "estimate",
            "Active minus control from the completed data; both deltas 0: missing at random",
            OF_OUTCOME,
        ),
        number(
            "sd", "Standard error by jackknife over people, the model fitted anew without each", OF_OUTCOME
        ),
        number(
            "df",
            "Degrees of freedom of the t interval: those of the REML estimate, at most "
            "those of least squares with everybody seen",
        ),
        INTERVAL_LOWER,
        INTERVAL_UPPER,
        LEVEL,
        number("p", "Two-sided p value"),
        integer("unseen_active", "People randomised to the active arm without a value at the session"),
        integer("unseen_control", "People randomised to the control arm without a value at the session"),
        STATUS,
        *REPORTED,
    )
)
TIPPING = TableSpec(
    (
        OUTCOME,
        ESTIMAND,
        SESSION,
        text("unit", "Unit of reach and delta"),
        text("arm", "Arm whose unseen people are shifted; those of the other arm are as predicted"),
        integer("n_unseen", "People randomised to the arm without a value at the session"),
        number("p", "Two-sided p value where nobody is shifted (missing at random)"),
        LEVEL,
        number("reach", "Largest shift looked at, up or down", OF_OUTCOME),
        number(
            "delta",
            "Smallest shift, up or down, that brings zero into the interval where it is outside at "
            "random, or takes it out where it is inside; missing where no shift within reach does",
            OF_OUTCOME,
        ),
        text(
            "status", "ok; or `none: <reason>` where no shift tips the verdict; or `not reported: <reason>`"
        ),
        *REPORTED,
    )
)

register(
    GroupQuestion(
        "visits_seen",
        rule="examine_missing_visits",
        arms="all",
        function="reconfmri.group.missing:visits_seen",
        tables={"visits_seen": SEEN.called("People seen at every visit")},
        section=Section("people"),
    )
)
register(
    GroupQuestion(
        "missing_patterns",
        rule="examine_missing_visits",
        arms="all",
        function="reconfmri.group.missing:patterns",
        tables={"missing_patterns": PATTERNS.called("Patterns of missing visits")},
    )
)
register(
    GroupQuestion(
        "completers",
        rule="examine_missing_visits",
        arms="all",
        function="reconfmri.group.missing:completers",
        tables={"completers": COMPLETERS.called("Estimates among people with every visit")},
    )
)
register(
    GroupQuestion(
        "reference_based",
        rule="examine_missing_visits",
        function="reconfmri.group.missing:reference_based",
        tables={"reference_based": REFERENCE_BASED.called("Estimates by what is assumed of missing values")},
        section=Section("missing"),
        needs=("events",),
    )
)
register(
    GroupQuestion(
        "tipping",
        rule="examine_missing_visits",
        function="reconfmri.group.missing:tipping",
        tables={
            "tipping_grid": TIPPING_GRID.called("Estimates by the shift of missing values"),
            "tipping": TIPPING.called("The shift at which the result changes"),
        },
        section=Section("missing"),
    )
)
