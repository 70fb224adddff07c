"""One function per command; each returns the exit code."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from reconfmri.cli.screen import bar, show_problems
from reconfmri.locks import hold
from reconfmri.machine import keep_caches, own_temporaries
from reconfmri.problems import stops


def init(options: Namespace) -> int:
    """Draft the study file of a new study folder."""
    from reconfmri.checks import check_places
    from reconfmri.cli.draft import start_study

    problems = check_places(options.bids, options.study) if options.bids.is_dir() else []
    if stops(problems):
        show_problems(problems)
        return 1
    said = start_study(
        options.study, options.bids, arm_column=options.arm_column, move_arms=options.move_arms
    )
    print("\n".join(said))
    return 0


def import_redcap(options: Namespace) -> int:
    """Write the tables of a REDCap export."""
    from reconfmri.config import load_section
    from reconfmri.importing.declared import RedcapMap
    from reconfmri.importing.redcap import import_redcap as read
    from reconfmri.importing.write import write_import

    declared = load_section(options.map, RedcapMap)
    found = read(options.export, options.dictionary, declared, options.events)
    print("\n".join(write_import(found, options.bids, options.allocation, overwrite=options.overwrite)))
    return 0


def import_table(options: Namespace) -> int:
    """Write the tables of an office's table."""
    from reconfmri.config import load_section
    from reconfmri.importing.declared import TableMap
    from reconfmri.importing.office import import_table as read
    from reconfmri.importing.write import write_import

    found = read(options.table, load_section(options.map, TableMap))
    print("\n".join(write_import(found, options.bids, options.allocation, overwrite=options.overwrite)))
    return 0


def fetch(options: Namespace) -> int:
    """Fetch the atlases that the study file names by their source."""
    from reconfmri.cli.fetch import fetch as fetch_atlases

    return fetch_atlases(options)


def index(options: Namespace) -> int:
    """Write the run table and the exclusions of a study folder."""
    from reconfmri.config import CONFIG

    if not (options.study / CONFIG).is_file():
        return make_index(options.study)  # which says so
    with hold(options.study, shared=[], alone=["study"]):
        return make_index(options.study)


def make_index(folder: Path) -> int:
    """Return 0 when the index was written; 1 when something has to be fixed first."""
    from reconfmri.checks import check_places, read_study
    from reconfmri.config import CONFIG
    from reconfmri.indexing import index_dataset, write_index
    from reconfmri.screening import BARE, check_events

    study, problems = read_study(folder / CONFIG)
    if study is None:
        show_problems(problems)
        return 1
    root = folder / study.bids
    problems += check_places(root, folder)
    if not stops(problems):
        with bar("reading the scans") as progress:
            table, found = index_dataset(root, study, progress=progress)
        # What is left out of a run's events stands in exclusions.tsv, as all that no number holds.
        bare = [problem for problem in check_events(root, study, table) if problem.code == BARE]
        problems += found + bare
    show_problems(problems)
    if stops(problems):
        return 1
    kept = write_index(folder / "config", root, table, problems)
    review = "review it; if the data change, run `reconfmri index` again"
    print(f"{len(kept)} scans in {folder / 'config' / 'runs.tsv'}; {review}")
    return 0


def check(options: Namespace) -> int:
    """Show every problem of a study folder and its data."""
    from reconfmri.checks import check_study
    from reconfmri.cli.problem_page import problem_page

    with bar("checking the scans") as progress:
        problems = check_study(options.study, contents=options.contents, progress=progress)
    show_problems(problems)
    if options.html:
        options.html.write_text(problem_page(problems, options.study), encoding="utf-8")
        print(f"wrote {options.html}")
    return 1 if stops(problems) else 0


def simulate(options: Namespace) -> int:
    """Write a simulated trial."""
    keep_caches(options.out)
    from reconfmri.simulate.trial import simulate_trial

    with bar("simulating participants") as progress:
        simulate_trial(
            options.out,
            participants=options.participants,
            arms=options.arms,
            seed=options.seed,
            timing=options.timing,
            rest=options.rest,
            fieldmap=options.fieldmap,
            processes=options.n_cpus,
            progress=progress,
        )
    print(f"wrote {options.out / 'bids'} and {options.out / 'allocation.tsv'}")
    return 0


def run(options: Namespace) -> int:
    """Do a level of the workflow on a dataset, as a BIDS-App."""
    from reconfmri.cli.bids_app import run_level

    return run_level(options)


def group(options: Namespace) -> int:
    """Answer the group questions from a table of measures."""
    keep_caches(options.out)
    from reconfmri.cli.answer import answer_table

    with own_temporaries():
        return answer_table(options)


def register(options: Namespace) -> int:
    """Write the bundle of a registration, before there are data."""
    from reconfmri.cli.register import register as write

    return write(options)


def interim(options: Namespace) -> int:
    """Write an interim report, pooled over the arms or by code."""
    from reconfmri.cli.interim import interim as write

    return write(options)


def plan(options: Namespace) -> int:
    """Write how many people per arm a question needs."""
    keep_caches(options.out)
    from reconfmri.cli.plan import write_plan

    return write_plan(options)


def import_physio(options: Namespace) -> int:
    """Write a recording into a BIDS dataset."""
    from reconfmri.body.importing import Asked, Target, column_of, import_recording
    from reconfmri.body.sources import read_source

    given = {
        "sub": options.participant_label.removeprefix("sub-"),
        "ses": options.session_label and options.session_label.removeprefix("ses-"),
        "task": options.task_id,
        "run": options.run_label,
        "recording": options.recording_label,
    }
    target = Target.of_run(options.bids, {key: label for key, label in given.items() if label})
    events = dict(text.partition("=")[::2] for text in options.events)
    asked = Asked(dict(map(column_of, options.channel)), options.volumes, events, options.start)
    source = read_source(options.recording, frequency=options.frequency, columns=options.columns)
    written, said = import_recording(source, asked, target)
    print("\n".join([*said, *(f"wrote {path}" for path in written)]))
    return 0


def status(options: Namespace) -> int:
    """Show what is done, running, failed and excluded."""
    from reconfmri.cli.status import show_status

    return show_status(options)


def verify(options: Namespace) -> int:
    """Compare every finished file with what its job recorded."""
    from reconfmri.cli import verify as command

    return command.verify(options)


def resources(options: Namespace) -> int:
    """Write what the rules took in finished runs."""
    from reconfmri.cli.resources import write_resources

    return write_resources(options)


def graph(options: Namespace) -> int:
    """Print the graph of rules or jobs."""
    from reconfmri.cli.graph import show_graph

    return show_graph(options)


def doctor(options: Namespace) -> int:
    """Show whether machine and installation can run a study."""
    from reconfmri.cli import doctor as command

    return command.doctor(options)


def forget(options: Namespace) -> int:
    """Remove a person from the results of a study."""
    from reconfmri.cli import forget as command

    return command.forget(options)


def blind(options: Namespace) -> int:
    """Draw codes for the arms."""
    from reconfmri.cli import conduct

    return conduct.blind(options)


def decide(options: Namespace) -> int:
    """Turn ratings of scans into decisions."""
    from reconfmri.cli import conduct

    return conduct.decide(options)


def lock(options: Namespace) -> int:
    """Freeze study file, decisions and code before unblinding."""
    from reconfmri.cli import conduct

    return conduct.lock(options)


def unblind(options: Namespace) -> int:
    """Show the arms by name from now on."""
    from reconfmri.cli import conduct

    return conduct.unblind(options)


def share(options: Namespace) -> int:
    """Write the sharing pack of a study."""
    from reconfmri.config import CONFIG, load_study
    from reconfmri.sharing import share as write_pack

    for path in write_pack(options.study, load_study(options.study / CONFIG), options.out):
        print(f"wrote {path}")
    return 0


def verify_log(options: Namespace) -> int:
    """Show the trial log and whether it was changed."""
    from reconfmri.cli import conduct

    return conduct.verify_log(options)
