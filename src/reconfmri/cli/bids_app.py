"""`reconfmri run`: the workflow on a dataset, as a BIDS-App; OUT becomes the study folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reconfmri import bids
from reconfmri.checks import check_places, check_study, read_study
from reconfmri.cli.commands import make_index
from reconfmri.cli.doctor import check_room
from reconfmri.cli.draft import bids_from, start_study
from reconfmri.cli.profiles import VARIABLE, options_of
from reconfmri.cli.screen import show_problems
from reconfmri.cli.status import failures
from reconfmri.config import CONFIG, Study
from reconfmri.decisions import keep_decisions, read_decisions
from reconfmri.layout import layout_of
from reconfmri.locks import hold, passed_on
from reconfmri.machine import keep_caches
from reconfmri.problems import Problem, stops
from reconfmri.provenance import workflow_folder

# Left where each participant was run alone: cheap, and nobody's own. The last two are lines of the count.
OF_EVERYBODY = (
    *("describe_derivatives", "describe_participants", "stack_exclusions"),
    *("all_participant", "total"),
)
COLUMNS = {"participant_id": "sub-", "session_id": "ses-", "task": "task-"}


def run_level(options: Namespace) -> int:
    """Return 0 when all asked for is made; 1 when not, 2 when misused, after saying why; 3 when busy."""
    root, out = options.bids, options.out
    options_of(options.profile, out)  # before anything is written
    if options.level == "group" and (options.participant_label or options.session_label or options.task_id):
        print(
            "E-CONF-A04 a group result of some people or scans would replace that of all. Fix: leave out "
            "--participant-label, --session-label and --task-id; who is to be left out has a row in "
            "config/exclusions.tsv",
            file=sys.stderr,
        )
        return 2
    problems = check_places(root, out)
    if stops(problems):
        show_problems(problems)
        return 1
    if not options.skip_bids_validation:
        show_problems(validate(root))
    if options.config:
        adopt(out, root, options.config)
    fresh = not (out / "config/runs.tsv").is_file()
    if fresh:
        # Of several that are started at once on a new OUT the first makes it.
        with hold(out, shared=[], alone=["study"], wait=True):
            if not (out / "config/runs.tsv").is_file() and prepare(out, root):
                return 1
    study, problems = read_study(out / CONFIG)
    if study is not None:
        same_dataset(out / study.bids, root)
        problems = check_study(out, full=fresh)
    if study is None or stops(problems):
        show_problems(problems)
        return 1
    if few := check_room(out, study):
        show_problems(few)
    scans = keep_decisions(bids.read_run_table(out / "config/runs.tsv"), read_decisions(out))
    return _locked(options, study, chosen(scans, options))


def validate(root: Path) -> list[Problem]:
    """Return what the BIDS validator calls an error, one remark per kind; our own checks decide what stops.

    Raises
    ------
    FileNotFoundError
        The validator is not installed.
    """
    tool = Path(sys.executable).with_name("bids-validator-deno")
    command = [str(tool), "--json", "--ignoreWarnings", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["issues"]["issues"]
    except (ValueError, KeyError):
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        fix = "give --skip-bids-validation"
        return [Problem("WARN", "W-BIDS-A20", f"the BIDS validator gave no result: {said}", fix)]
    kinds: dict[str, list[str]] = defaultdict(list)
    for issue in found:
        if issue.get("severity") == "error":
            kinds[issue["code"]].append(str(issue.get("location", "")).lstrip("/"))
    fix = f"see `bids-validator-deno {root}`, or give --skip-bids-validation"
    return [
        Problem("WARN", "W-BIDS-A20", f"the BIDS validator says {code} ({len(files)} times)", fix, files[0])
        for code, files in sorted(kinds.items())
    ]


def prepare(out: Path, root: Path) -> int:
    """Make the study folder where it is not one yet, and its run table; return the exit code."""
    if not (out / CONFIG).is_file():
        print("\n".join(start_study(out, root)))
    return make_index(out)


def adopt(out: Path, root: Path, file: Path) -> None:
    """Make `file` the study file of the study folder `out`, its `bids` pointing at the dataset given.

    Raises
    ------
    ValueError
        The study folder has another study file.
    """
    text = re.sub(r"^bids:.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text += f"bids: {json.dumps(bids_from(out, root), ensure_ascii=False)}\n"
    place = out / CONFIG
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    elif place.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"E-CONF-C07 {place}: differs from {file}. Fix: edit it there and leave out --config, "
            "or give another OUT"
        )


def same_dataset(of_study: Path, given: Path) -> None:
    """Check that the study file names the dataset given.

    Raises
    ------
    ValueError
        It names another one.
    """
    if of_study.resolve() != given.resolve():
        raise ValueError(
            f"E-CONF-C07 {CONFIG}: the study in OUT is about {of_study}, you gave {given}. "
            "Fix: give that dataset, or another OUT"
        )


def chosen(scans: pd.DataFrame, options: Namespace) -> dict[str, list[str]]:
    """Return column -> bare labels asked for.

    Raises
    ------
    ValueError
        A label is not in the run table.
    """
    asked = {
        "participant_id": options.participant_label,
        "session_id": options.session_label,
        "task": options.task_id,
    }
    filters = {}
    for column, labels in asked.items():
        if labels is None:
            continue
        prefix = COLUMNS[column]
        known = sorted(set(scans[column].str.removeprefix(prefix)))
        filters[column] = [part.removeprefix(prefix) for label in labels for part in label.split(",") if part]
        for label in filters[column]:
            if label not in known:
                raise ValueError(
                    f"{prefix}{label} is not in config/runs.tsv, which has {known}. "
                    "Fix: correct the label, or read why in config/exclusions.tsv"
                )
    return filters


def _locked(options: Namespace, study: Study, filters: dict[str, list[str]]) -> int:
    """Several runs on different people may go side by side; anything else has the study for itself."""
    people = filters.get("participant_id", [])
    target = "all" if options.level == "group" else "all_participant"
    if options.dry_run:
        if options.level == "group":
            participant_level_is_done(options)
        return snakemake(options, [target], filters)
    if options.level == "group" or not people:
        with hold(options.out, shared=[], alone=["study"]) as held:
            if options.level == "group":
                participant_level_is_done(options)
            return _told(options.out, snakemake(options, [target], filters, held))
    with hold(options.out, shared=["study"], alone=[f"sub-{label}" for label in sorted(people)]) as held:
        with hold(options.out, shared=[], alone=["shared"], wait=True) as common:
            code = snakemake(options, shared_targets(options.out, study), {}, [*held, *common])
        return _told(options.out, code or snakemake(options, [target], filters, held))


def participant_level_is_done(options: Namespace) -> None:
    """Check that no step of any participant is left to do: the group level starts none by itself.

    Raises
    ------
    ValueError
        There is something to do; the text counts the jobs by rule. Or Snakemake cannot tell.
    """
    command = [*_command(options, ["all_participant"]), "--dry-run", "--quiet", "rules"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=_environment(options))
    said = done.stdout + done.stderr
    if done.returncode or not ("Job stats:" in said or "Nothing to be done" in said):
        raise ValueError(said.strip())
    jobs = re.findall(r"^([a-z_]+) +([0-9]+)$", said.partition("Job stats:")[2], flags=re.MULTILINE)
    left = {rule: int(count) for rule, count in jobs if rule not in OF_EVERYBODY}
    if left:
        counts = ", ".join(f"{count} {rule}" for rule, count in left.items())
        raise ValueError(
            f"the participant level is not done: {sum(left.values())} jobs are left ({counts}). "
            f"Fix: `reconfmri run {options.bids} {options.out} participant` first, then this command again"
        )


def shared_targets(out: Path, study: Study) -> list[str]:
    """Files that no single person owns, made by whoever comes first."""
    layout = layout_of(out, study, bids.read_run_table(out / "config/runs.tsv"))
    return [
        layout.path("describe_derivatives", "description"),
        layout.path("carry_atlas", "masks"),
        *(layout.path("score_scale", "measures", scale=name) for name in study.scales),
    ]


def _told(out: Path, code: int) -> int:
    for line in failures(out) if code else ():
        print(line, file=sys.stderr)
    return 1 if code else 0


def snakemake(
    options: Namespace, targets: list[str], filters: dict[str, list[str]], held: Sequence[str] = ()
) -> int:
    """Run Snakemake on the study folder; return its exit code. It holds our locks as long as it lives."""
    command = _command(options, targets)
    if options.dry_run:
        command += ["--dry-run"]
    elif options.verbose:
        command += ["--printshellcmds"] if options.verbose > 1 else []
    else:
        command += ["--quiet", "rules"]
    command += [] if sys.stderr.isatty() else ["--nocolor"]
    names = {"participant_id": "only_participants", "session_id": "only_sessions", "task": "only_tasks"}
    # The last comma keeps Snakemake from reading the label 001 as the number 1.
    given = [f"{names[column]}={','.join(labels)}," for column, labels in filters.items()]
    command += ["--config", *given] if given else []
    descriptors, variable = passed_on(list(held))
    environment = _environment(options) | (variable if held else {})
    return subprocess.run(command, check=False, env=environment, pass_fds=descriptors).returncode


def _command(options: Namespace, targets: list[str]) -> list[str]:
    command = [sys.executable, "-m", "snakemake", *targets]
    command += ["--snakefile", str(workflow_folder() / "Snakefile"), "--directory", str(options.out)]
    command += ["--keep-going", "--rerun-incomplete", "--nolock"]
    given, profile = options_of(options.profile, options.out)
    # On a cluster the profile says how many jobs at once; the processors are those of many machines.
    elsewhere = profile.get("executor", "local") != "local" and "jobs" in profile
    command += given if elsewhere else [*given, "--cores", str(options.n_cpus)]
    return command + (["--resources", f"mem_mb={options.mem}"] if options.mem else [])


def _environment(options: Namespace) -> dict[str, str]:
    """What Snakemake and its jobs see: one thread each, temporary files and caches in their places."""
    given = {}
    if options.work_dir:
        options.work_dir.mkdir(parents=True, exist_ok=True)
        given["TMPDIR"] = str(options.work_dir.resolve())
    keep_caches(options.work_dir or options.out)
    kept = {name: value for name, value in os.environ.items() if name != VARIABLE}  # read by us, checked
    return {**kept, **given, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
