"""Trial conduct on the command line: draw codes for the arms, decide, lock, unblind, verify the log."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from reconfmri.bids import read_run_table, sha256
from reconfmri.config import CONFIG, Group, Study, load_study
from reconfmri.contracts.files import of_study
from reconfmri.contracts.ratings import PAGE, pictures_now
from reconfmri.decisions import CODE as DECIDED
from reconfmri.decisions import DECISIONS, RATED
from reconfmri.exclusions import UNIT, read_exclusions
from reconfmri.files import InputError
from reconfmri.trial import lock as locks
from reconfmri.trial import ratings
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.codes import CODE, draw_codes, is_coded
from reconfmri.trial.log import BLIND, DECIDE, LOCK, LOG, Entry, note, read_log
from reconfmri.trial.registration import read_registration

EXCLUSIONS = of_study("stack_exclusions", "exclusions")


def blind(options: Namespace) -> int:
    """Draw which arm is A; return 0."""
    _, group = _study(options.study)
    allocation = options.study / group.allocation
    arms = read_allocation(allocation)["arm"]
    compared = group.arms.shown
    if absent := [arm for arm in compared if arm not in set(arms)]:
        what = f"nobody is in {len(absent)} of the arms of group.arms"
        raise InputError(allocation, what, fix="correct group.arms or the table", code="E-CONF-C04")
    path = draw_codes(allocation, sorted(set(arms)), compared)
    entry = note(options.study, BLIND, options.by, options.reason, {"allocation": sha256(allocation)})
    print(f"wrote {path}: keep it where the allocation is kept")
    return _noted(entry)


def decide(options: Namespace) -> int:
    """Turn ratings and thresholds into decisions; 1 while somebody still has to decide on a scan."""
    study, folder = load_study(options.study / CONFIG), options.study
    results = folder / EXCLUSIONS
    if not results.is_file():
        what = "is not there: the thresholds have not decided yet"
        raise InputError(EXCLUSIONS, what, fix="run the workflow first", code=DECIDED)
    table = read_run_table(folder / "config/runs.tsv")
    scans = list(table[[*UNIT]].astype(str).itertuples(index=False, name=None))
    raters = [ratings.read_ratings(path, study.name, scans) for path in options.ratings]
    now = datetime.now(UTC).isoformat(timespec="seconds")[:19]
    decided, open_ones = ratings.decide(
        scans,
        raters,
        read_exclusions(results),
        ratings.read_adjudicated(folder),
        now=now,
        pictures=pictures_now(folder / PAGE),
    )
    facts = {f"ratings of {rater.name}": rater.sha256 for rater in raters}
    if len(raters) == 2:
        facts["agreement"] = ratings.agreement(*raters).words
        print(facts["agreement"])
    if len(open_ones):
        ratings.TO_DECIDE.write(folder / ratings.ADJUDICATION, open_ones)
        print(
            f"{len(open_ones)} scans wait for a decision. Fix: fill in decision, by and reason in "
            f"{ratings.ADJUDICATION}, then give the same command again; nothing was decided yet"
        )
        return 1
    DECISIONS.write(folder / RATED, decided)
    out = int((decided["decision"] == "exclude").sum())
    print(f"wrote {RATED}: {len(decided)} scans, {out} excluded; from the next run on they are in no number")
    facts = {"sha256": sha256(folder / RATED)} | facts
    return _noted(note(folder, DECIDE, options.by, options.reason, facts))


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
    """Show the trial log; 1 when it, a lock or the registration was changed."""
    entries = read_log(options.study)
    read_registration(options.study, entries)
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
