"""`reconfmri register`: what is planned, and the report that will be made of it, before there are data."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconfmri import __version__
from reconfmri.bids import sha256
from reconfmri.cli import answer
from reconfmri.cli import plan as planning
from reconfmri.config import CONFIG, Study, Trial, load_study
from reconfmri.files import InputError
from reconfmri.tables import write_table
from reconfmri.trial import registration
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.log import LOG

if TYPE_CHECKING:
    from reconfmri.group.planning import Aim
    from reconfmri.simulate.design import Design, Simulated

PARTICIPANTS = "participants.tsv"
SIMULATED = "simulated"


def register(options: Namespace) -> int:
    """Write the bundle of a registration into OUT, and note its hash in the trial log; return 0.

    Raises
    ------
    ValueError
        OUT is not empty, there are measures already, or the plan does not fit the study file.
    """
    folder, out = options.study, options.out
    study = load_study(folder / CONFIG)
    if study.group is None or study.trial is None:
        raise InputError(CONFIG, "the study has no arms", fix="give it a section `group`", code="E-CONF-C02")
    if study.group.arms.several:
        what = f"registers two arms, and group.arms has {len(study.group.arms.labels)}"
        raise InputError(CONFIG, what, fix="`reconfmri plan` and `lock`, and upload both", code="E-CONF-C02")
    if out.exists() and any(out.iterdir()):
        raise InputError(out, "is not empty", fix="give a new folder", code="E-CONF-C07")
    registration.check_before_data(folder)
    options = _as_plan(options)
    design, trial, aim = _design(options)
    out.mkdir(parents=True, exist_ok=True)
    planning.write_plan(options)
    shutil.copyfile(folder / CONFIG, out / "study.yaml")
    _write_simulated(out / SIMULATED, out / "study.yaml", study, study.trial, design)
    (out / "README.md").write_text(_readme(study, design), encoding="utf-8")
    content = registration.planned(
        study,
        people=dict(zip(study.group.arms.pair, (design.n_active, design.n_control), strict=True)),
        outcome=trial.outcome,
        session=trial.primary.session,
        estimand=trial.primary.estimand,
        difference=aim.difference,
        unit=trial.unit,
        files=_files(out),
    )
    entry = registration.register(folder, content, by=options.by, reason=options.reason)
    shutil.copyfile(folder / registration.REGISTRATION, out / Path(registration.REGISTRATION).name)
    print(f"wrote {out}: upload it to a registry (OSF, AsPredicted); sha256 of registration.json:")
    print(entry.facts["sha256"])
    print(f"{LOG}: entry {entry.number}, hash {entry.hash}")
    return 0


def _as_plan(options: Namespace) -> Namespace:
    """The options as `reconfmri plan` has them: from half of the smaller arm to twice the larger."""
    low, high = max(2, min(options.people) // 2), 2 * max(options.people)
    if min(options.people) < 2:
        raise ValueError(f"--people: {options.people} is no trial. Fix: give two people per arm at least")
    given = vars(options) | {
        "config": options.study / CONFIG,
        "out": options.out / "plan",
        "n_per_arm": (low, max(high, low + 1)),
        **dict.fromkeys(("measures", "estimates", "outcome", "session", "sessions", "baseline")),
    }
    return Namespace(**given)


def _design(options: Namespace) -> tuple[Design, planning.Trial, Aim]:
    from reconfmri.simulate.design import Design

    trial = planning.read_trial(options)
    aim = planning.read_aim(options, trial)
    active, control = options.people
    covariance, missing = trial.scenario.covariance, tuple(trial.scenario.missing)
    return Design(active, control, covariance, missing, aim.difference), trial, aim


def _write_simulated(out: Path, config: Path, study: Study, trial: Trial, design: Design) -> None:
    """Write a simulated trial, its answers and its report, as the group model makes them of real data."""
    from reconfmri.group import Asked
    from reconfmri.measures import read_measures
    from reconfmri.simulate.design import simulate_design

    made = simulate_design(study, design)
    participants = _write_tables(out, made)
    asked_of_tables = {"blinding": "open", "intercurrent_events": None, "voxels": None}
    group = trial.group.model_copy(update=asked_of_tables)
    name = f"{trial.name}: simulated before the data"
    trial = replace(trial, group=group, name=name)
    measures, allocation = out / "measures.tsv", out / "allocation.tsv"
    people = read_allocation(allocation, participants, group.participant_columns)
    asked = Asked(read_measures(measures), people, group, list(trial.session_names), seed=trial.seed)
    options = Namespace(out=out, config=config, calibrate=0, measures=measures, allocation=allocation)
    options.participants = participants
    answer.write_page(options, trial, answer.write_answers(options, asked), truth=made.truth)


def _write_tables(out: Path, made: Simulated) -> Path | None:
    """Write the tables of a simulated trial; return where its covariates are, None without any."""
    from reconfmri.measures import DESCRIPTIONS

    out.mkdir()
    write_table(out / "measures.tsv", made.measures[list(DESCRIPTIONS)], DESCRIPTIONS)
    write_table(out / "allocation.tsv", made.allocation)
    (out / "truth.json").write_text(json.dumps(made.truth, indent=1) + "\n", encoding="utf-8")
    if made.participants is None:
        return None
    write_table(out / PARTICIPANTS, made.participants)
    return out / PARTICIPANTS


def _files(out: Path) -> dict[str, str]:
    """The sha256 of every file of the bundle, by its name."""
    paths = sorted(path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): sha256(path) for path in paths}


def _readme(study: Study, design: Design) -> str:
    return f"""# Registration of {study.name}

Made by `reconfmri register`, version {__version__}, before there were data.

| file | holds |
|---|---|
| registration.json | study file as read, code and library versions, the plan, sha256 of every other file |
| study.yaml | the study file as written |
| plan/ | people per arm, width of the interval, power and assurance, with every assumption |
| simulated/report.html | the report on one simulated trial of {design.n_active} + {design.n_control} people |
| simulated/ | its tables: measures, allocation, estimates, truth.json, group/, figures/ |

The simulated trial has the visits, outcomes, arms, covariates, spread, correlations and missing visits of
the plan. The arms differ in the primary outcome alone, by the difference of interest, at every later visit.
It is made of tables: the sections on scans are not in its report.

`results/report.html` of the finished study lists every difference from registration.json as a deviation.
"""
