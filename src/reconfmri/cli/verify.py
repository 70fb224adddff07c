"""`reconfmri verify`: whether every finished file is as its job left it, and which job makes it again."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from reconfmri.bids import read_run_table, sha256
from reconfmri.cli.screen import bar
from reconfmri.config import CONFIG, load_study
from reconfmri.decisions import keep_decisions, read_decisions
from reconfmri.jobs import read_records
from reconfmri.layout import layout_of
from reconfmri.locks import hold

State = Literal["missing", "damaged", "without a record"]


@dataclass(frozen=True)
class Finding:
    """A file of the results that is not as its job left it, or of which nothing is recorded."""

    path: str
    rule: str
    state: State
    what: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether it has to be made again; a file without a record can only be compared by eye."""
        return self.state != "without a record"


def verify(options: Namespace) -> int:
    """Print every file that is not as it was made; with --repair make those again; 1 when one is left."""
    folder = options.study
    load_study(folder / CONFIG)  # a folder that is no study says so, before a lock is left there
    # A live run removes files before it makes them again: nothing can be said beside it.
    with ExitStack() as stack:
        may_write = _may_write(folder)
        held = stack.enter_context(hold(folder, shared=[], alone=["study"])) if may_write else []
        with bar("reading the results") as progress:
            found, checked = findings(folder, progress=progress)
        if options.repair and any(item.is_fault for item in found):
            _show(found)
            found = _repaired(options, found, held)
    if options.json:
        print(json.dumps([asdict(item) for item in found], indent=1, ensure_ascii=False))
        return int(any(item.is_fault for item in found))
    faults = [item for item in found if item.is_fault]
    _show(faults)
    unknown = len(found) - len(faults)
    said = f"{checked} files are as their jobs left them" if not faults else f"{len(faults)} files are not"
    print(said + (f"; of {unknown} nothing is recorded (made by an earlier version)" if unknown else ""))
    if faults and not options.repair:
        print("Fix: `reconfmri verify --repair` makes these files again, and nothing else")
    return int(bool(faults))


def findings(
    folder: Path, *, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> tuple[list[Finding], int]:
    """Return the files that are not as their jobs left them, and how many of the others were compared.

    What is looked at are the declared files of today's study: results of people who are out are nobody's.
    """
    study = load_study(folder / CONFIG)
    every_scan = read_run_table(folder / "config/runs.tsv")
    scans = keep_decisions(every_scan, read_decisions(folder))
    layout = layout_of(folder, study, every_scan)
    made = {
        path: (record.rule, size, digest)
        for record in read_records(folder).values()
        if record.state == "done"
        for path, (size, digest) in record.outputs.items()
    }
    declared = {path: rule for rule, _, path in layout.files(study, list(scans.to_dict("records")))}
    found, checked = list[Finding](), 0
    for number, (path, rule) in enumerate(declared.items()):
        progress(number, len(declared))
        if path in made:
            what = difference(folder / path, *made[path][1:])
            found += [Finding(path, rule, *what)] if what else []
            checked += not what
        elif (folder / path).is_file():
            found.append(Finding(path, rule, "without a record"))
    return found, checked


def difference(path: Path, size: int, digest: str) -> tuple[State, str] | None:
    """Return what is wrong with a file that had this size, bytes, and this sha256; None where nothing is."""
    try:
        now = path.stat().st_size
        if now != size:
            return "damaged", f"{now} bytes, was made with {size}"
        return None if sha256(path) == digest else ("damaged", "other content than it was made with")
    except FileNotFoundError:
        return "missing", "it was made and is gone"
    except OSError as error:
        return "damaged", f"it cannot be read ({error.strerror})"


def _repaired(options: Namespace, found: Sequence[Finding], held: list[str]) -> list[Finding]:
    """Make the damaged files again, by their jobs alone; return what is wrong after that."""
    from reconfmri.cli.bids_app import snakemake

    faults = [item for item in found if item.is_fault]
    before = _made(options.study)
    for item in faults:
        (options.study / item.path).unlink(missing_ok=True)
    asked = Namespace(out=options.study, n_cpus=options.n_cpus, profile=None, mem=None, work_dir=None)
    asked.dry_run, asked.verbose = False, 0
    snakemake(asked, [item.path for item in faults], {}, held)
    after = _made(options.study)
    for item in faults:
        if (options.study / item.path).is_file():
            same = before.get(item.path) == after.get(item.path)
            print(f"made again {item.path}: {'byte-equal' if same else 'other content, for the next run'}")
    return findings(options.study)[0]


def _made(folder: Path) -> dict[str, tuple[int, str]]:
    """Path -> size and sha256 of every file that a job left."""
    return {path: made for record in read_records(folder).values() for path, made in record.outputs.items()}


def _show(found: Sequence[Finding]) -> None:
    for item in found:
        if item.is_fault:
            print(f"{item.state} {item.path}: {item.what}. Made by {item.rule}")


def _may_write(folder: Path) -> bool:
    return os.access(folder / ".reconfmri" if (folder / ".reconfmri").exists() else folder, os.W_OK)
