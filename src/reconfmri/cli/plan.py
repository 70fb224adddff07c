"""`reconfmri plan`: people per arm, before there are data; what would halve an interval, after."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from reconfmri.config import Estimand, Group, Study, load_study
from reconfmri.contracts.questions.columns import COMPARISON
from reconfmri.labels import in_order
from reconfmri.tables import read_table, write_table

if TYPE_CHECKING:
    from reconfmri.group.estimands import Question
    from reconfmri.group.planning import Aim, Scenario

POWERS = (0.8, 0.9)
SD_UNIT = "SD between people"
LEVEL = 0.95
REFERENCE = "the reference trial (NCT02727998)"
ASSUMPTIONS = {
    "assumption": "What is assumed: level of the interval; smallest difference of interest; prior mean and "
    "SD of the true difference; SD between people of one arm; correlation of two visits; share missing",
    "session": "Visit, or two visits with a hyphen; missing where it is about the whole trial",
    "value": "Value",
    "unit": "Unit of value; missing for shares and correlations",
    "source": "Where the value is from",
}


@dataclass(frozen=True)
class Trial:
    """What is planned; `sources` tells where sd, correlation and missing are from."""

    outcome: str
    unit: str
    sessions: list[str]
    level: float
    scenario: Scenario
    questions: list[Question]
    primary: Question
    names: dict[str, str]
    sources: dict[str, str]


def write_plan(options: Namespace) -> int:
    """Write `plan.tsv`, its figure, `assumptions.tsv` and, after data, `halving.tsv` into OUT; return 0."""
    from reconfmri.figures.planning import plan_figure
    from reconfmri.figures.style import to_png, to_svg
    from reconfmri.group import planning

    trial = read_trial(options)
    aim = read_aim(options, trial)
    low, high = _grid(options)
    halving = read_halving(options, trial)
    table = planning.plan(
        trial.scenario, trial.questions, aim, range(low, high + 1), outcome=trial.outcome, unit=trial.unit
    )
    needed = {power: planning.n_for_power(trial.scenario, trial.primary, aim, power) for power in POWERS}
    options.out.mkdir(parents=True, exist_ok=True)
    several = "comparison" in table
    named = {COMPARISON.name: COMPARISON.description} if several else {}
    write_table(options.out / "plan.tsv", table, planning.DESCRIPTIONS | named)
    write_table(options.out / "assumptions.tsv", assumptions(trial, aim, options), ASSUMPTIONS)
    shown = table[table[COMPARISON.name] == trial.primary.comparison.name] if several else table
    figure = plan_figure(shown, trial.primary, aim, needed, trial.names)
    (options.out / "plan.svg").write_text(to_svg(figure), encoding="utf-8")
    (options.out / "plan.png").write_bytes(to_png(figure))
    print(headline(trial, aim, needed))
    if halving is not None:
        write_table(options.out / "halving.tsv", halving, planning.HALVING)
        print(halving_line(trial, halving))
    return 0


def read_trial(options: Namespace) -> Trial:
    """Return the trial to plan, of the study file, the measures and the options, else as the reference trial.

    Raises
    ------
    ValueError
        They do not fit one another, or something that cannot be assumed is not given.
    """
    study = _study(options)
    measures = _measures(options)
    outcome = _outcome(options, study, measures)
    rows = None if measures is None else measures[measures["outcome"] == outcome]
    sessions = _sessions(options, study, rows)
    group = study.group if study else None
    questions = _questions(group, sessions)
    if rows is None:
        scenario, sources = _assumed(options, study, outcome, len(sessions))
    else:
        scenario, sources = _measured(options, rows, sessions)
    return Trial(
        outcome=outcome,
        unit=_unit(options, study, rows, outcome),
        sessions=sessions,
        level=group.level if group else LEVEL,
        scenario=scenario,
        questions=questions,
        primary=_primary(options, group, questions),
        names={session.id: session.name for session in study.sessions} if study else {},
        sources=sources,
    )


def _study(options: Namespace) -> Study | None:
    if not options.config:
        return None
    study = load_study(options.config)
    if study.group is None:
        raise ValueError(f"E-CONF-C02 {options.config}: group is none. Fix: give a study file with arms")
    return study


def _measures(options: Namespace) -> pd.DataFrame | None:
    """The measures, where given; then their spread is measured and need not be given."""
    if not options.measures:
        return None
    from reconfmri.measures import read_measures

    for name in ("sd", "correlations"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name}: the measures give it. Fix: give --measures or --{name}, not both")
    return read_measures(options.measures)


def _outcome(options: Namespace, study: Study | None, measures: pd.DataFrame | None) -> str:
    """The outcome asked for, else the primary one, else the only one measured; none is needed otherwise."""
    known = [] if measures is None else list(dict.fromkeys(measures["outcome"]))
    if study and study.group:
        known = known or list(study.outcome_units())
    name = options.outcome or (study.group.primary.outcome if study and study.group else None)
    if name is None:
        if len(known) > 1:
            raise ValueError(f"--outcome: which of {known} is planned? Fix: give --outcome NAME")
        return known[0] if known else ""
    if known and name not in known:
        raise ValueError(f"--outcome: {name!r} is not known. Fix: give --outcome with one of {known}")
    return str(name)


def _sessions(options: Namespace, study: Study | None, rows: pd.DataFrame | None) -> list[str]:
    """The visits in order, baseline first: of the study, the measures, else as many as shares missing."""
    from reconfmri.group.planning import REFERENCE_MISSING

    if study:
        for name in ("sessions", "baseline"):
            if getattr(options, name) is not None:
                raise ValueError(
                    f"--{name}: the study file gives it. Fix: give --config or --{name}, not both"
                )
        return [session.id for session in study.sessions] or ["n/a"]
    if rows is not None:
        where = str(options.measures)
        return in_order(rows["session_id"], where, declared=options.sessions, baseline=options.baseline)
    labels = options.sessions or [
        str(visit + 1) for visit in range(len(options.missing or REFERENCE_MISSING) + 1)
    ]
    return in_order(labels, "plan", declared=options.sessions, baseline=options.baseline)


def _questions(group: Group | None, sessions: list[str]) -> list[Question]:
    """Every difference between the arms that the study asks for; changes within one arm are left out."""
    from reconfmri.group.estimands import ask

    every: list[Estimand] = group.estimands if group else list(get_args(Estimand))
    names = [name for name in every if len(sessions) > 1 or name == "difference_unadjusted"]
    questions = [
        question
        for question in ask(names, sessions, group.arms if group else None)
        if not question.within_an_arm
    ]
    if not questions:
        raise ValueError(
            f"group.estimands: none of {every} compares the arms"
            + ("" if len(sessions) > 1 else " at a single session, which has no baseline before it")
            + ". Fix: add difference_unadjusted"
        )
    return questions


def _primary(options: Namespace, group: Group | None, questions: list[Question]) -> Question:
    """The question of the headline: the study's, at --session where given; without a study the first."""
    session, estimand = options.session, questions[0].estimand
    if group:
        session, estimand = session or group.primary.session, group.primary.estimand
    known = list(dict.fromkeys(question.session for question in questions))
    if options.session not in (None, *known):
        raise ValueError(f"--session: {options.session!r} is not planned. Fix: give one of {known}")
    if group:
        compared = group.primary.compared
        questions = [question for question in questions if question.comparison.name == compared]
    alike = [question for question in questions if question.estimand == estimand] or questions
    return next((question for question in alike if question.session == session), alike[0])


def _unit(options: Namespace, study: Study | None, rows: pd.DataFrame | None, outcome: str) -> str:
    if rows is not None:
        return str(rows["unit"].iloc[0])
    if study:
        return study.outcome_units()[outcome]
    return SD_UNIT if options.sd is None else "units of --sd"


def _assumed(
    options: Namespace, study: Study | None, outcome: str, n_visits: int
) -> tuple[Scenario, dict[str, str]]:
    """What the options tell, the scale of the study's unit, and the reference trial for the rest."""
    from reconfmri.group.planning import REFERENCE_CORRELATIONS, Scenario, exchangeable

    sd, source = options.sd, "--sd"
    if sd is None and study and study.group:
        sd, source = study.group.scales[study.outcome_units()[outcome]], "group.scales of the study file"
    elif sd is None:
        sd, source = 1.0, "the unit"
    if not (np.isfinite(sd) and sd > 0):
        raise ValueError(f"--sd: {sd:g} is not an SD. Fix: give the SD between people, above 0")
    baseline, later = options.correlations or REFERENCE_CORRELATIONS
    covariance = exchangeable(n_visits, sd=sd, baseline=baseline, later=later)
    shares, missing = _assumed_missing(options, n_visits)
    correlation = "--correlations" if options.correlations else REFERENCE
    return Scenario(covariance, shares), {"sd": source, "correlation": correlation, "missing": missing}


def _assumed_missing(options: Namespace, n_visits: int) -> tuple[tuple[float, ...], str]:
    """The share missing at each visit, nobody at baseline: of --missing, else of the reference trial."""
    from reconfmri.group.planning import REFERENCE_MISSING

    asked = max(n_visits - 1, 1)
    shares = tuple(options.missing or REFERENCE_MISSING)
    if len(shares) != asked:
        given = f"{len(shares)} shares" + ("" if options.missing else " are those of the reference trial")
        raise ValueError(
            f"--missing: {given}, the trial has {asked} later visits. Fix: give --missing with the share of "
            f"people missing at each, {asked} in all"
        )
    source = "--missing" if options.missing else REFERENCE
    return (0.0, *shares) if n_visits > 1 else shares, source


def _measured(options: Namespace, rows: pd.DataFrame, sessions: list[str]) -> tuple[Scenario, dict[str, str]]:
    """Covariance and missing visits of the measures, blind to the arms; --missing stands above them."""
    from reconfmri.group.estimands import NotEstimableError
    from reconfmri.group.planning import Scenario, scenario_without_arms

    measured = set(rows.loc[rows["value"].notna(), "session_id"])
    if measured != set(sessions):
        raise ValueError(
            f"{options.measures}: values are at the sessions {sorted(measured)}, the trial has {sessions}. "
            "Fix: give --sd and --correlations instead of --measures, or measures of these sessions"
        )
    wide = rows.pivot(index="participant_id", columns="session_id", values="value")[sessions]
    source = f"{options.measures.name}: {len(wide)} people, without their arms"
    try:
        scenario = scenario_without_arms(wide.to_numpy(float))
    except NotEstimableError as reason:
        raise ValueError(
            f"{options.measures}: {reason}. Fix: give --sd and --correlations instead of --measures"
        ) from None
    if not options.missing:
        return scenario, dict.fromkeys(("sd", "correlation", "missing"), source)
    shares, missing = _assumed_missing(options, len(sessions))
    sources = {"sd": source, "correlation": source, "missing": missing}
    return Scenario(scenario.covariance, shares), sources


def read_aim(options: Namespace, trial: Trial) -> Aim:
    """Return the difference of interest and the prior, in the outcome's unit.

    Without --prior: a mean of the difference itself and half of it as SD.

    Raises
    ------
    ValueError
        The difference is zero or the prior has a negative SD.
    """
    from reconfmri.group.planning import Aim

    factor, difference = 1.0, options.difference
    if difference is None:
        factor, difference = float(trial.scenario.covariance[0, 0] ** 0.5), options.difference_in_sd
    mean, sd = options.prior or (difference, abs(difference) / 2)
    return Aim(factor * difference, factor * mean, factor * sd, trial.level)


def _grid(options: Namespace) -> tuple[int, int]:
    low, high = options.n_per_arm
    if not 2 <= low < high <= 2000:
        raise ValueError(
            f"--n-per-arm: {low} to {high} is no range. Fix: give the lowest and the highest number of "
            "people per arm, from 2 to 2000, e.g. 8 60"
        )
    return low, high


def read_halving(options: Namespace, trial: Trial) -> pd.DataFrame | None:
    """Return what would halve the REML intervals of `--estimates`; none where there are no estimates.

    Raises
    ------
    ValueError
        The table has no reported REML interval of the outcome at a planned question.
    """
    if not options.estimates:
        return None
    from reconfmri.group.planning import halve

    text = ["outcome", "estimand", "session", "method", "unit"]
    numbers = ["lower", "upper", "level", "n_active", "n_control"]
    table = read_table(options.estimates, numeric=numbers, required=text)
    known = list(dict.fromkeys(table.loc[(table["method"] == "reml") & table["lower"].notna(), "outcome"]))
    outcome = trial.outcome or (known[0] if len(known) == 1 else "")
    # of several arms, the comparison of the primary question
    questions = [item for item in trial.questions if item.comparison == trial.primary.comparison]
    halving = halve(trial.scenario, questions, table[table["outcome"] == outcome])
    if not len(halving):
        raise ValueError(
            f"{options.estimates}: no interval of method reml for the outcome {outcome!r} at sessions "
            f"{trial.sessions}; it has them for {known}. Fix: give --outcome and the study file of the trial"
        )
    return halving


def assumptions(trial: Trial, aim: Aim, options: Namespace) -> pd.DataFrame:
    """Return one row per assumed number, described by `ASSUMPTIONS`."""
    asked = "--difference" if options.difference_in_sd is None else "--difference-in-sd"
    prior = "--prior" if options.prior else "the difference of interest and half of it"
    rows: list[tuple[str, str | None, float, str | None, str]] = [
        ("level", None, aim.level, None, "the study file" if options.config else "default"),
        ("difference", None, aim.difference, trial.unit, asked),
        ("prior mean", None, aim.prior_mean, trial.unit, prior),
        ("prior sd", None, aim.prior_sd, trial.unit, prior),
    ]
    covariance = trial.scenario.covariance
    sds = np.sqrt(np.diag(covariance))
    for visit, session in enumerate(trial.sessions):
        rows.append(("sd", session, float(sds[visit]), trial.unit, trial.sources["sd"]))
        rows.append(("missing", session, trial.scenario.missing[visit], None, trial.sources["missing"]))
        for other in range(visit):
            correlation = float(covariance[visit, other] / sds[visit] / sds[other])
            pair = f"{trial.sessions[other]}-{session}"
            rows.append(("correlation", pair, correlation, None, trial.sources["correlation"]))
    return pd.DataFrame(rows, columns=list(ASSUMPTIONS))


def headline(trial: Trial, aim: Aim, needed: dict[float, int | None]) -> str:
    """Return the people per arm that the primary question needs, in one line."""
    from reconfmri.group.planning import expect

    parts = []
    for power, n_per_arm in needed.items():
        if n_per_arm is None:
            parts.append(f"no number of people for {100 * power:g} % power")
            continue
        half = expect(trial.scenario, trial.primary, n_per_arm).half_width(aim.level)
        interval = f"expected {100 * aim.level:g} % interval ± {half:.2g}"
        floor = ", the fewest this analysis works with" if n_per_arm == trial.scenario.fewest else ""
        parts.append(f"{n_per_arm} per arm for {100 * power:g} % power ({interval}{floor})")
    return f"{_asked(trial)}, true difference {aim.difference:.3g} {trial.unit}: {', '.join(parts)}"


def halving_line(trial: Trial, halving: pd.DataFrame) -> str:
    """Return what would halve the interval of the primary question, with the assumption, in one line."""
    primary = trial.primary
    chosen = (halving["estimand"] == primary.estimand) & (halving["session"] == primary.session)
    row = (halving[chosen] if chosen.any() else halving).iloc[0]
    people = f"{row['n_active']:.0f} and {row['n_control']:.0f} people"
    found = f"{row['estimand']} {_at(trial, row['session'])}"
    asked = f"to halve the interval of {found}, ± {row['half_width_found']:.2g} {row['unit']} with {people}"
    if row["status"] != "ok":
        return f"{asked}: {row['status']}"
    return (
        f"{asked}: {row['n_per_arm']:.0f} per arm, {row['times']:.1f} times as many, if SD, correlations and "
        "missing visits stay as assumed"
    )


def _asked(trial: Trial) -> str:
    primary = trial.primary
    parts = [trial.outcome, primary.estimand, primary.comparison.name, _at(trial, primary.session)]
    return " ".join(filter(None, parts))


def _at(trial: Trial, session: str) -> str:
    if session == "average":
        return "over later visits"
    return f"at {trial.names.get(session, f'session {session}')}"
