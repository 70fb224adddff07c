"""Questions about people who responded: how many in each arm, and when."""

from __future__ import annotations

from reconfmri.contracts.questions.columns import COMPARISON, LEVEL, OUTCOME, REPORTED
from reconfmri.contracts.registry import GroupQuestion, Section, register
from reconfmri.contracts.specs import TableSpec, integer, number, text, yes_no

RESPONDER = text("responder", "Name of the rule in group.responders")
RULE = text("rule", "The rule in words")
RESPONDERS = TableSpec(
    (
        RESPONDER,
        OUTCOME,
        COMPARISON,
        RULE,
        text("session", "BIDS session label, without ses-"),
        text(
            "analysis",
            "How people count whose response is not known: nonresponder, observed (left out); bounds: "
            "against_active (as nonresponders in the active arm, as responders in the control arm), "
            "for_active (the other way round)",
        ),
        yes_no("declared", "Whether this analysis is the one that the study declares"),
        text(
            "method",
            "exact: by inversion of exact tests, strata ignored; mantel_haenszel: over the strata of the "
            "randomisation; bayes: logistic, a level per stratum, median of the posterior",
        ),
        text(
            "quantity",
            "risk_difference: share of responders, active minus control; number_needed: 1 over it, negative "
            "to harm; risk_ratio, odds_ratio: active over control",
        ),
        number("estimate", "The quantity"),
        number("lower", "Lower end of the interval; of number_needed see status"),
        number("upper", "Upper end of the interval"),
        LEVEL,
        number("p", "Two-sided p value: of odds_ratio Fisher's, of the others that of the interval"),
        number("probability", "bayes: posterior probability of the direction of the estimate"),
        integer("responders_active", "Responders of the active arm"),
        integer("n_active", "People of the active arm who are counted"),
        integer("responders_control", "Responders of the control arm"),
        integer("n_control", "People of the control arm who are counted"),
        integer("missing_active", "People of the active arm whose response is not known"),
        integer("missing_control", "People of the control arm whose response is not known"),
        integer("n_strata", "Strata of the randomisation"),
        text("status", "ok; or `not reported: <reason>` and then the numbers are missing"),
        *REPORTED,
    )
)
COURSE = TableSpec(
    (
        RESPONDER,
        OUTCOME,
        RULE,
        text("event", "response: the first one; relapse: the first visit without it after a response"),
        text("arm", "Arm as randomised"),
        text("session", "BIDS session label, without ses-"),
        number("share", "Share without the event up to and including the visit (Kaplan and Meier)"),
        number("lower", "Lower end of its interval (log-log)"),
        number("upper", "Upper end of its interval"),
        LEVEL,
        integer("at_risk", "People without the event who were seen at this visit or later"),
        integer("events", "Events at the visit"),
    )
)
HAZARDS = TableSpec(
    (
        RESPONDER,
        OUTCOME,
        COMPARISON,
        RULE,
        text("event", "response: the first one; relapse: the first visit without it after a response"),
        text(
            "method",
            "cox: proportional hazards with Efron's ties, stratified as the randomisation; bayes: the same "
            "partial likelihood with a normal prior of the log hazard ratio",
        ),
        number("estimate", "Log hazard ratio, active over control"),
        number("sd", "Its standard error; bayes: posterior standard deviation"),
        number("lower", "Lower end of the interval"),
        number("upper", "Upper end of the interval"),
        LEVEL,
        number("p", "Two-sided p value (Wald)"),
        number("probability", "bayes: posterior probability of the direction of the estimate"),
        integer("events_active", "Events in the active arm"),
        integer("n_active", "People of the active arm at risk"),
        integer("events_control", "Events in the control arm"),
        integer("n_control", "People of the control arm at risk"),
        text("status", "ok; or `not reported: <reason>` and then the numbers are missing"),
        *REPORTED,
    )
)

register(
    GroupQuestion(
        "responders",
        rule="fit_frequentist_models",
        arms="pairs",
        function="reconfmri.group.responders:estimate",
        tables={"responders": RESPONDERS.called("Responders by declared rules")},
        section=Section("responders"),
    )
)
register(
    GroupQuestion(
        "time_to_response",
        rule="fit_frequentist_models",
        arms="pairs",
        function="reconfmri.group.time_to_response:estimate",
        tables={
            "response_course": COURSE.called("Share of people without a response, or without a relapse"),
            "response_hazards": HAZARDS.called("Hazard ratios of response and of relapse"),
        },
        section=Section("responders"),
    )
)
