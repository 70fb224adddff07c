"""Trial conduct on the command line: draw codes for the arms, lock, unblind, verify the log."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from reconfmri.bids import sha256
from reconfmri.config import CONFIG, Group, Study, load_study
from reconfmri.files import InputError
from reconfmri.trial import lock as locks
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.codes import CODE, draw_codes, is_coded
from reconfmri.trial.log import BLIND, LOCK, LOG, Entry, note, read_log


def blind(options: Namespace) -> int:
    """Draw which arm is A; return 0."""
    _, group = _study(options.study)
    allocation = options.study / group.allocation
    arms = read_allocation(allocation)["arm"]
    compared = (group.arms.active, group.arms.control)
    if absent := [arm for arm in compared if arm not in set(arms)]:
        what = f"nobody is in {len(absent)} of the arms of group.arms"
        raise InputError(allocation, what, fix="correct group.arms or the table", code="E-CONF-C04")
    path = draw_codes(allocation, sorted(set(arms)), compared)
    entry = note(options.study, BLIND, options.by, options.reason, {"allocation": sha256(allocation)})
    print(f"wrote {path}: keep it where the allocation is kept")
    return _noted(entry)


def lock(options: Namespace) -> int:
    """Freeze what was decided; return 0."""
    path, entry = locks.lock(options.study, _study(options.study)[0], by=options.by, reason=options.reason)
    print(f"wrote {path} (sha256 {entry.facts['sha256']}): register that file, or its sha256")
    return _noted(entry)


def unblind(options: Namespace) -> int:
    """Show the arms by name from now on; return 0."""
    entry = locks.unblind(options.study, _study(options.study)[0], by=options.by, reason=options.reason)
    print("the arms have their names from the next run on")
    return _noted(entry)


def verify_log(options: Namespace) -> int:
    """Show the trial log; 1 when it or a lock was changed."""
    entries = read_log(options.study)
    for entry in entries:
        if entry.event == LOCK:
            locks.read_lock(options.study, entry)
        print(f"{entry.number}  {entry.time}  {entry.event:<8} {entry.by}: {entry.reason}")
    print(f"{len(entries)} entries, none changed; last hash {entries[-1].hash}" if entries else "no entries")
    return 0


def _study(folder: Path) -> tuple[Study, Group]:
    study = load_study(folder / CONFIG)
    if study.group is None:
        raise InputError(CONFIG, "the study has no arms", fix="give it a section `group`", code="E-CONF-C02")
    if not is_coded(study.group):
        what = "the arms are seen by name"
        raise InputError(CONFIG, what, fix="set `group.blinding: coded`", code=CODE)
    return study, study.group


def _noted(entry: Entry) -> int:
    print(f"{LOG}: entry {entry.number}, hash {entry.hash}")
    return 0
