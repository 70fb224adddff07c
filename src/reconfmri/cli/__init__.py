"""The command line: one parser per command, in the order in which a study is made."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TypeAlias

import shtab

from reconfmri import __version__
from reconfmri.cli.values import megabytes, minutes, positive, scale, trials
from reconfmri.locks import BusyError
from reconfmri.machine import processors, settle

EXIT_PROBLEM = 1
EXIT_BUSY = 3


FILES = ("FILE", "EXPORT", "DICTIONARY", "EVENTS", "TABLE", "MEASURES", "ALLOCATION")


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0 done, 1 something is missing or wrong, 2 misused, 3 another run is alive."""
    settle()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")  # also under LC_ALL=C
    options = build_parser().parse_args(dashed(sys.argv[1:] if arguments is None else arguments))
    from reconfmri.cli import commands

    try:
        return int(getattr(commands, options.command.replace("-", "_"))(options))
    except BusyError as error:
        print(error, file=sys.stderr)
        return EXIT_BUSY
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_PROBLEM
    except KeyboardInterrupt:
        print("stopped by you; the same command goes on from here", file=sys.stderr)
        return 130


def dashed(arguments: list[str]) -> list[str]:
    """Return the arguments with the dashes of our options for the underscores of other BIDS Apps."""
    return [re.sub(r"^--[a-z_-]+", lambda name: name[0].replace("_", "-"), given) for given in arguments]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    parser = argparse.ArgumentParser(
        prog="reconfmri", description="From a BIDS drug trial to arm contrasts and a report."
    )
    parser.add_argument("--version", action="version", version=f"reconfmri {__version__}")
    shtab.add_argument_to(parser, help="print the completion script of a shell, then stop")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _init,
        _import_redcap,
        _import_table,
        _fetch,
        _index,
        _check,
        _simulate,
        _run,
        _group,
        _plan,
        _register,
        _status,
        _verify,
        _resources,
        _graph,
        _doctor,
        _forget,
        _conduct,
        _interim,
        _share,
        _import_physio,
    ):
        add(commands)
    for command in commands.choices.values():
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE if action.metavar in FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
    return parser


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _init(commands: Commands) -> None:
    new = commands.add_parser("init", help="write a commented study file from what the dataset holds")
    new.add_argument("study", type=Path, metavar="STUDY", help="folder to make")
    new.add_argument("--bids", type=Path, required=True, metavar="BIDS", help="BIDS dataset")
    new.add_argument(
        "--arm-column",
        metavar="NAME",
        help="column of participants.tsv that is the arm, or none (default: the one that is clearly it)",
    )
    new.add_argument(
        "--move-arms",
        action="store_true",
        help="take the arm column out of participants.tsv, after a copy into STUDY (default: it stays)",
    )


def _import_redcap(commands: Commands) -> None:
    new = commands.add_parser(
        "import-redcap", help="write phenotype/, participants.tsv and the allocation from a raw REDCap export"
    )
    new.add_argument("export", type=Path, metavar="EXPORT", help="CSV / raw data")
    new.add_argument("dictionary", type=Path, metavar="DICTIONARY", help="data dictionary, CSV")
    new.add_argument(
        "events", type=Path, nargs="?", metavar="EVENTS", help="table of events (Define My Events), CSV"
    )
    _imported(new)


def _import_table(commands: Commands) -> None:
    new = commands.add_parser("import-table", help="the same from a CSV or Excel table of any office")
    new.add_argument("table", type=Path, metavar="TABLE", help="CSV or .xlsx")
    _imported(new)


def _imported(command: argparse.ArgumentParser) -> None:
    """What both imports are given: what goes where (docs/import.md)."""
    command.add_argument("--map", type=Path, required=True, metavar="FILE", help="what goes where, YAML")
    command.add_argument(
        "--bids", type=Path, required=True, metavar="BIDS", help="BIDS dataset to write into"
    )
    command.add_argument(
        "--allocation", type=Path, required=True, metavar="FILE", help="allocation to write, outside of BIDS"
    )
    command.add_argument("--overwrite", action="store_true", help="write over tables that are there")


def _fetch(commands: Commands) -> None:
    new = commands.add_parser(
        "fetch", help="fetch the atlases that the study file names by their source; the only use of a network"
    )
    _study(new)


def _index(commands: Commands) -> None:
    new = commands.add_parser(
        "index", help="write config/runs.tsv from the dataset, for the analyst to review"
    )
    new.add_argument("--study", type=Path, default=Path(), metavar="DIR", help="study folder (default: here)")


def _check(commands: Commands) -> None:
    new = commands.add_parser(
        "check", help="every problem in data and study, in one table, before any compute"
    )
    new.add_argument("--study", type=Path, default=Path(), metavar="DIR", help="study folder (default: here)")
    new.add_argument("--html", type=Path, metavar="FILE", help="write the problems as a page too")
    new.add_argument(
        "--contents", action="store_true", help="compare every byte of the images with the index (slow)"
    )


def _simulate(commands: Commands) -> None:
    new = commands.add_parser(
        "simulate", help="write a trial with known effects as OUT/bids and OUT/allocation.tsv"
    )
    new.add_argument("out", type=Path, metavar="OUT")
    new.add_argument("--participants", type=int, default=8, metavar="N")
    new.add_argument("--seed", type=int, default=1, metavar="S")
    new.add_argument(
        "--arms", type=int, choices=(2, 3), default=2, help="three: ketamine_0.2, ketamine_0.5 and midazolam"
    )
    new.add_argument("--timing", choices=("short", "full"), default="short", help="length of the scripts")
    new.add_argument("--rest", action="store_true", help="add a rest run per session")
    new.add_argument(
        "--fieldmap", action="store_true", help="distort the EPIs and add a field map per session"
    )
    new.add_argument("--n-cpus", type=int, default=processors(), metavar="N")


def _run(commands: Commands) -> None:
    new = commands.add_parser(
        "run", help="BIDS-App: from a BIDS dataset to measures (participant) and report (group)"
    )
    new.add_argument("bids", type=Path, metavar="BIDS", help="BIDS dataset")
    new.add_argument("out", type=Path, metavar="OUT", help="study folder; made when it is not there")
    new.add_argument("level", choices=("participant", "group"))
    for name in ("participant", "session"):
        new.add_argument(f"--{name}-label", nargs="+", metavar="LABEL", help=f"only these {name}s")
    new.add_argument("--task-id", nargs="+", metavar="LABEL", help="only these tasks")
    new.add_argument(
        *("--n-cpus", "--nprocs", "--nthreads"),
        type=positive,
        default=processors(),
        metavar="N",
        help="jobs side by side (default: the processors of the allocation, %(default)s here)",
    )
    new.add_argument(
        *("--mem", "--mem-mb"),
        type=megabytes,
        metavar="MB",
        help="memory of all jobs together, MB, or with a unit: 16G",
    )
    new.add_argument(
        "--mem-gb", dest="mem", type=lambda text: megabytes(f"{text}G"), metavar="GB", help="the same in GB"
    )
    new.add_argument("--dry-run", "-n", action="store_true", help="say what would be done")
    new.add_argument("-v", "--verbose", action="count", default=0, help="show each job; -vv its command too")
    new.add_argument("--config", type=Path, metavar="FILE", help="study file to start from, for a new OUT")
    new.add_argument(
        "--profile",
        metavar="NAME",
        help="where jobs run: a profile of Snakemake, by name (local, slurm) or path (default: this machine)",
    )
    new.add_argument("-w", "--work-dir", type=Path, metavar="DIR", help="place of temporary files")
    new.add_argument(
        "--skip-bids-validation", action="store_true", help="do not run the BIDS validator first"
    )
    new.add_argument("--version", action="version", version=f"reconfmri {__version__}")


def _group(commands: Commands) -> None:
    new = commands.add_parser("group", help="arm contrasts of any table of measures")
    new.add_argument("measures", type=Path, metavar="MEASURES")
    new.add_argument("allocation", type=Path, metavar="ALLOCATION")
    new.add_argument(
        "out", type=Path, metavar="OUT", help="folder of report.html, estimates.tsv, figures/ and group/"
    )
    new.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="study file, or only its keys name, question, seed, sessions, group; else everything is asked",
    )
    new.add_argument(
        "--active", metavar="ARM", help="label of the drug arm (with --control, without --config)"
    )
    new.add_argument("--control", metavar="ARM", help="label of the control arm")
    _visits(new)
    new.add_argument("--outcome", metavar="NAME", help="primary outcome (default: the first of the table)")
    new.add_argument("--session", metavar="SESSION", help="primary visit (default: the first after baseline)")
    new.add_argument(
        "--scale",
        type=scale,
        action="append",
        metavar="UNIT=SD",
        help="typical SD between people of a unit; anchors the priors, e.g. 'IES-R points=15'",
    )
    new.add_argument(
        "--participants", type=Path, metavar="FILE", help="participants.tsv, for covariates of the study file"
    )
    new.add_argument("--flat-priors", action="store_true", help="flat priors on effects and means")
    new.add_argument(
        "--calibrate",
        type=trials,
        nargs="?",
        const=200,
        default=0,
        metavar="TRIALS",
        help="simulate trials like this one (default: 200 with, 200 without a difference), analyse each in "
        "the same way, and report coverage and type I error",
    )
    new.add_argument(
        "--calibrate-minutes", type=minutes, default=5.0, metavar="M", help="time for it (default: 5)"
    )
    new.add_argument(
        "--seed", type=int, metavar="S", help="seed of the sampler (default: of the study file, else 1)"
    )


def _visits(command: argparse.ArgumentParser) -> None:
    """The order of the visits, which labels other than plain numbers do not tell."""
    command.add_argument(
        "--sessions",
        nargs="+",
        metavar="SESSION",
        help="visits in order of time, baseline first (default: by number; other labels need it)",
    )
    command.add_argument(
        "--baseline", metavar="SESSION", help="first visit, the others in order of their numbers"
    )


def _plan(commands: Commands) -> None:
    new = commands.add_parser("plan", help="people per arm for a question: interval, power, assurance")
    new.add_argument("out", type=Path, metavar="OUT", help="folder of plan.tsv, plan.png and assumptions.tsv")
    new.add_argument("--config", type=Path, metavar="FILE", help="study file: visits, primary question, unit")
    new.add_argument(
        "--measures",
        type=Path,
        metavar="FILE",
        help="measures that tell spread and missing visits, without arms",
    )
    new.add_argument(
        "--estimates", type=Path, metavar="FILE", help="estimates.tsv: what halves its intervals"
    )
    _assumed(new)
    new.add_argument("--n-per-arm", type=int, nargs=2, default=(8, 60), metavar=("LOW", "HIGH"))
    new.add_argument("--outcome", metavar="NAME", help="outcome (default: the primary one of the study file)")
    new.add_argument("--session", metavar="SESSION", help="visit of the headline (default: the primary one)")
    _visits(new)


def _register(commands: Commands) -> None:
    new = commands.add_parser(
        "register",
        help="before the data: write study file, plan and the report on a simulated trial of this design",
    )
    new.add_argument("out", type=Path, metavar="OUT", help="folder of the bundle")
    _study(new)
    new.add_argument(
        "--people", type=int, nargs=2, required=True, metavar=("ACTIVE", "CONTROL"), help="planned per arm"
    )
    _assumed(new)
    _signed(new)


def _signed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--by", required=True, metavar="NAME", help="who does it")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why, or under which rule")


def _assumed(new: argparse.ArgumentParser) -> None:
    """The difference that is planned for, and what is assumed of the data."""
    size = new.add_mutually_exclusive_group(required=True)
    size.add_argument(
        "--difference", type=float, metavar="D", help="smallest difference of interest, outcome's unit"
    )
    size.add_argument("--difference-in-sd", type=float, metavar="D", help="the same in SDs between people")
    new.add_argument(
        "--prior",
        type=float,
        nargs=2,
        metavar=("MEAN", "SD"),
        help="what is believed about the true difference, in the unit of D (default: D and half of it)",
    )
    new.add_argument("--sd", type=float, metavar="SD", help="SD between people (default: scale of the study)")
    new.add_argument(
        "--correlations",
        type=float,
        nargs=2,
        metavar=("BASELINE", "LATER"),
        help="of baseline with later visits, and among later visits (default: 0.36 0.70)",
    )
    new.add_argument(
        "--missing",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="share of people missing at each later visit (default: 0.07 0.20 0.33)",
    )


def _import_physio(commands: Commands) -> None:
    new = commands.add_parser(
        "import-physio",
        help="write a recording of the laboratory (AcqKnowledge, BrainVision, text) into the BIDS dataset",
    )
    new.add_argument("recording", type=Path, metavar="FILE", help=".acq, .vhdr, or delimited text")
    new.add_argument("bids", type=Path, metavar="BIDS", help="BIDS dataset")
    for name, needed in (("participant", True), ("session", False), ("run", False), ("recording", False)):
        new.add_argument(f"--{name}-label", required=needed, metavar="LABEL")
    new.add_argument("--task-id", required=True, metavar="LABEL")
    new.add_argument(
        "--channel",
        action="append",
        required=True,
        metavar="COLUMN=CHANNEL[:UNIT[:GAIN]]",
        help="what is written: skin_conductance=GSR100C, cardiac=ECG, emg=EMG:µV; GAIN multiplies the values",
    )
    new.add_argument("--volumes", metavar="CHANNEL", help="channel or mark of the scanner's volume pulses")
    new.add_argument(
        "--events",
        action="append",
        default=[],
        metavar="CHANNEL=TYPE",
        help="channel or mark of event pulses, and their trial_type; matched to events.tsv, else written "
        "there",
    )
    new.add_argument(
        "--start", type=float, metavar="S", help="start of the recording, s from the first volume"
    )
    new.add_argument("--frequency", type=float, metavar="HZ", help="sampling frequency of a text")
    new.add_argument(
        "--columns", nargs="+", default=(), metavar="NAME", help="columns of a text without header"
    )


def _verify(commands: Commands) -> None:
    new = commands.add_parser("verify", help="every finished file against the sha256 that its job recorded")
    _study(new)
    new.add_argument("--repair", action="store_true", help="make damaged files again, and nothing else")
    new.add_argument("--json", action="store_true", help="print JSON")
    new.add_argument("--n-cpus", type=positive, default=processors(), metavar="N", help="jobs of --repair")


def _resources(commands: Commands) -> None:
    new = commands.add_parser(
        "resources", help="memory and time per rule in finished runs, for later runs to ask for"
    )
    _study(new)
    new.add_argument(
        "others", type=Path, nargs="*", metavar="STUDY", help="other finished studies to learn from"
    )


def _graph(commands: Commands) -> None:
    new = commands.add_parser("graph", help="the graph of the rules, or of the jobs of one participant")
    _study(new)
    new.add_argument("--participant-label", metavar="LABEL", help="the jobs of this participant")
    new.add_argument("--format", choices=("text", "mermaid", "dot", "svg"), default="text")


def _doctor(commands: Commands) -> None:
    new = commands.add_parser(
        "doctor", help="versions against the lock, disk, memory, permissions, locks, SLURM, validator"
    )
    _study(new)
    new.add_argument("--json", action="store_true", help="print JSON")


def _forget(commands: Commands) -> None:
    new = commands.add_parser("forget", help="remove every result, log and record of a withdrawn participant")
    new.add_argument("participant", metavar="LABEL", help="sub-01 or 01")
    _study(new)
    new.add_argument("--yes", action="store_true", help="remove them (default: list them)")


def _study(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--study", type=Path, default=Path(), metavar="DIR", help="study folder (default: here)"
    )


def _status(commands: Commands) -> None:
    new = commands.add_parser("status", help="participant x session x stage: done, running, failed, excluded")
    _study(new)
    new.add_argument(
        "--plan", action="store_true", help="also what Snakemake would make again today (slower)"
    )
    new.add_argument("--json", action="store_true", help="print JSON")
    new.add_argument("--html", type=Path, metavar="FILE", help="write a page too, for the lab")


def _interim(commands: Commands) -> None:
    new = commands.add_parser(
        "interim", help="write what was observed so far, pooled over the arms, or by code for the DSMB"
    )
    new.add_argument("out", type=Path, metavar="OUT", help="page to write, such as interim.html")
    _study(new)
    new.add_argument("--by-code", action="store_true", help="a column per arm, by code; none is named")


def _share(commands: Commands) -> None:
    new = commands.add_parser(
        "share", help="write what others need to answer the group questions, by an allow-list, under codes"
    )
    new.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    new.add_argument("--study", type=Path, default=Path(), metavar="DIR", help="study folder (default: here)")


CONDUCT = {
    "blind": "draw which arm is A in the results, once, until the study is unblinded",
    "decide": "turn ratings of scans by one or two people into config/decisions.tsv, which the next run uses",
    "lock": "freeze study file, exclusions, decisions, code and library versions in one file with its hash",
    "unblind": "show the arms by name from now on; needs a lock that still holds",
    "verify-log": "show the trial log, and whether it or a lock was changed",
}


def _conduct(commands: Commands) -> None:
    for name, purpose in CONDUCT.items():
        new = commands.add_parser(name, help=purpose)
        new.add_argument(
            "--study", type=Path, default=Path(), metavar="DIR", help="study folder (default: here)"
        )
        if name == "decide":
            new.add_argument(
                "ratings", type=Path, nargs="+", metavar="FILE", help="ratings_<rater>.json, 1 or 2"
            )
        if name != "verify-log":
            _signed(new)
