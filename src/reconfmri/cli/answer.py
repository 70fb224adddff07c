"""`reconfmri group`: the group questions asked of any table of measures, answered on a page."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from reconfmri.cli.screen import bar
from reconfmri.config import Trial, load_trial
from reconfmri.contracts import questions
from reconfmri.exclusions import read_exclusions
from reconfmri.labels import first_of
from reconfmri.tables import MISSING
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.codes import by_code, codes_file, group_by_code, is_coded

if TYPE_CHECKING:
    from reconfmri.group import Asked


def answer_table(options: Namespace) -> int:
    """Write `report.html`, `estimates.tsv`, `group/` and `figures/` into OUT; return 0."""
    from reconfmri import group, report
    from reconfmri.measures import read_measures

    measures, allocation = read_measures(options.measures), read_allocation(options.allocation)
    trial = asked(options, measures, allocation)
    columns = trial.group.participant_columns
    allocation = read_allocation(options.allocation, options.participants, columns)
    if is_coded(trial.group):
        allocation = by_code(allocation, codes_file(options.allocation))
        trial = replace(trial, group=group_by_code(trial.group))
    files = write_answers(options, ask(options, measures, allocation, trial))
    tables = write_page(options, trial, files)
    if len(rest := read_exclusions(files["exclusions"])):
        people = first_of(row.participant_id for row in rest)
        print(f"{len(rest)} measured and in neither arm: {people} (why: {files['exclusions']})")
    for line in group.unanswered(tables["estimates"]):
        print(line)
    print(report.headline(tables["estimates"], trial.group, sessions=trial.session_names))
    print(f"wrote {options.out / 'report.html'}")
    return 0


def asked(options: Namespace, measures: pd.DataFrame, allocation: pd.DataFrame) -> Trial:
    """Return what is asked: of the study file, else of every outcome and visit of the tables.

    Raises
    ------
    ValueError
        The study file has no group section, it and an option tell the same, or nothing names the arms.
    """
    trial = from_study(options, measures) if options.config else from_tables(options, measures, allocation)
    if options.flat_priors:
        priors = trial.group.priors.model_copy(update={"flat": True})
        trial = replace(trial, group=trial.group.model_copy(update={"priors": priors}))
    return trial if options.seed is None else replace(trial, seed=options.seed)


def from_study(options: Namespace, measures: pd.DataFrame) -> Trial:
    """Return what a study file asks.

    Raises
    ------
    ValueError
        It has no group section, or an option stands against it.
    """
    for name in ("active", "control", "sessions", "baseline", "outcome", "session", "scale"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name}: the study file says it. Fix: give --config or --{name}, not both")
    trial = load_trial(options.config, units_of(measures))
    if trial is None:
        raise ValueError(f"E-CONF-C02 {options.config}: group is none. Fix: give a study file with arms")
    return trial


def from_tables(options: Namespace, measures: pd.DataFrame, allocation: pd.DataFrame) -> Trial:
    """Return every outcome and visit of the tables as asked, between the arms of --active and --control.

    Raises
    ------
    ValueError
        An arm is not given or empty, or an option names what the tables lack.
    """
    from reconfmri.group import group_from_tables

    arms = sorted(set(allocation["arm"]))
    if not (options.active and options.control):
        raise ValueError(f"Which arm is the drug? Give --active and --control ({arms}), or --config FILE")
    for arm in (options.active, options.control):
        if arm not in arms:
            where = options.allocation
            raise ValueError(f"E-CONF-C04 {where}: nobody is in the arm {arm!r}. Fix: the arms are {arms}")
    group, sessions = group_from_tables(
        measures,
        allocation,
        active=options.active,
        control=options.control,
        sessions=options.sessions,
        baseline=options.baseline,
        outcome=options.outcome,
        session=options.session,
        scales=dict(options.scale or ()),
    )
    return Trial(
        name=f"{options.active} and {options.control} compared",
        question=spoken_question(options, len(group.outcomes), sessions),
        seed=1,
        group=group,
        session_names={label: f"session {label}" for label in sessions} or {MISSING: "the only visit"},
        days={},
        units=units_of(measures),
        ranges={},
    )


def units_of(measures: pd.DataFrame) -> dict[str, str]:
    """Return outcome -> unit."""
    return dict(zip(measures["outcome"], measures["unit"], strict=True))


def spoken_question(options: Namespace, n_outcomes: int, sessions: list[str]) -> str:
    """Return what is asked of bare tables, and where the primary question is from, in two sentences."""
    outcomes = "1 outcome" if n_outcomes == 1 else f"{n_outcomes} outcomes"
    n_later = len(sessions) - 1
    visits = (
        f" at {n_later} {'visit' if n_later == 1 else 'visits'} after session {sessions[0]}"
        if n_later > 0
        else ""
    )
    primary = (
        "The primary question was given on the command line, not in a study file."
        if options.outcome or options.session
        else "No primary question was declared: the first outcome, at the first visit that can be asked "
        "about, stands in for it."
    )
    return f"Do {options.active} and {options.control} differ in {outcomes}{visits}? {primary}"


def events_of(options: Namespace, allocation: pd.DataFrame, trial: Trial) -> pd.DataFrame | None:
    """Return the table of intercurrent events that the study file names, None where it names none.

    Its path is taken from the folder of the study file, or from the one that holds its folder `config/`.

    Raises
    ------
    ValueError
        There is no such file, or it is not of the contract.
    """
    from reconfmri.trial.intercurrent import read_events

    named = trial.group.intercurrent_events
    if named is None:
        return None
    folder = options.config.resolve().parent
    found = [base / named for base in (folder, folder.parent) if (base / named).is_file()]
    if not found:
        raise ValueError(
            f"E-CONF-C05 {options.config}: group.intercurrent_events: there is no {named}. Fix: give "
            f"its path from {folder.name}/"
        )
    return read_events(found[0], allocation, list(trial.session_names))


def ask(options: Namespace, measures: pd.DataFrame, allocation: pd.DataFrame, trial: Trial) -> Asked:
    """Return what every group question is given.

    Raises
    ------
    ValueError
        The table of intercurrent events is not there, or not of its contract.
    """
    from reconfmri.group import Asked

    events = events_of(options, allocation, trial)
    sessions = list(trial.session_names)
    return Asked(measures, allocation, trial.group, sessions, seed=trial.seed, events=events)


def write_answers(options: Namespace, asked: Asked) -> dict[str, Path]:
    """Write every table of the group questions; return where each is, by its name."""
    from reconfmri.group.tables import every_table

    (options.out / "group").mkdir(parents=True, exist_ok=True)
    made: dict[str, Path] = {}
    n_tables = len(questions.every_file())
    with bar("tables") as progress:
        for table in every_table(asked):
            made[table.name] = Path(questions.path_of(table.name, str(options.out)))
            table.spec.write(made[table.name], table.rows)
            progress(len(made), n_tables)
    if options.calibrate:
        made["calibration"] = write_calibration(options, asked)
    return made


def write_calibration(options: Namespace, asked: Asked) -> Path:
    """Simulate trials like this one, answer each, write `group/calibration.tsv` and return where it is."""
    from reconfmri.group import calibration

    table = calibration.calibrate(asked, trials=options.calibrate, seconds=60 * options.calibrate_minutes)
    path = Path(questions.path_of("calibration", str(options.out)))
    questions.specs()["calibration"].write(path, table)
    return path


def write_page(
    options: Namespace, trial: Trial, files: Mapping[str, Path], truth: Mapping[str, Any] | None = None
) -> dict[str, pd.DataFrame]:
    """Write `report.html`, and its figures as SVG into `figures/`, which holds no others afterwards.

    Return the tables that it shows, read from `files` (by their names). `truth` is what a simulated trial
    planted.
    """
    from reconfmri import report
    from reconfmri.measures import read_measures
    from reconfmri.provenance import software_versions

    tables = report.read_tables(files)
    compared = report.Compared(
        measures=read_measures(options.measures),
        allocation=report.read_arms(options.allocation),
        tables=tables,
        truth=truth,
    )
    settings = ("The study file", options.config.read_text(encoding="utf-8-sig")) if options.config else None
    page = report.compose_tables(
        trial,
        compared,
        settings=settings or ("The settings", as_yaml(trial)),
        provenance=report.hashes(
            {
                "measures": options.measures,
                "allocation": options.allocation,
                "participants": options.participants,
                "study file": options.config,
                "estimates": files["estimates"],
            }
        ),
        versions=software_versions(),
    )
    (options.out / "report.html").write_text(page.html, encoding="utf-8")
    report.write_key(options.out / "group/report_codes.tsv", report.Codes.of(compared))
    folder = options.out / "figures"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for name, svg in page.figures.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    return tables


def as_yaml(trial: Trial) -> str:
    """Return seed, sessions and group section as a study file would hold them."""
    told = {
        "seed": trial.seed,
        "sessions": list(trial.session_names),
        "group": trial.group.model_dump(mode="json"),
    }
    return str(yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
