"""The section on trial conduct: whether arms are seen by code, what was locked, and what changed since."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reconfmri.config import Group
from reconfmri.report.blocks import Block, several
from reconfmri.report.words import list_of
from reconfmri.trial.codes import is_coded
from reconfmri.trial.lock import Stamp
from reconfmri.trial.log import LOCK

BLINDED = (
    "Blinded: the arms are A and B, drawn at random once for this study. Differences are A minus B; nothing "
    "on this page says which arm is which, so neither sign nor direction can be read as an effect of the drug"
)
NOT_LOCKED = (
    "Not locked: nothing shows which choices were made before results were seen (reconfmri lock, before "
    "the arms are compared)"
)


def conduct(
    group: Group | None,
    stamp: Stamp | None = None,
    *,
    said: Callable[[str], str] = str,
    people: Mapping[str, int] | None = None,
) -> Block:
    """Return the stamp of every result, the changes behind it and the log of the trial.

    A table of measures comes without a study folder and so without a stamp. `said` gives words of people as
    the page shows them; `people` are those randomised, by arm.
    """
    is_stamped, stamp = bool(group and stamp), stamp or Stamp()
    locks = [entry for entry in stamp.log if entry.event == LOCK]
    text = NOT_LOCKED
    if locks:
        state = {
            "pre-specified": "Pre-specified: study file, exclusions, code and libraries are as locked",
            "changed before unblinding": "Changed before unblinding: "
            f"{several(len(stamp.changes), 'difference')} from what was locked",
            "changed after unblinding": "Changed after unblinding: "
            f"{several(len(stamp.changes), 'difference')} from what was locked",
        }[stamp.word]
        text = f"{state} on {locks[0].time[:10]} (sha256 {locks[0].facts['sha256'][:12]}…)"
    return {
        **_registered(stamp, people or {}, said),
        "blinded": _blinded(group) if group and is_coded(group) else "",
        "stamp": text if is_stamped else "",
        "changes": [(item.key, said(item.before), said(item.now)) for item in stamp.changes],
        "log": [(entry.time, entry.event, entry.by, said(entry.reason)) for entry in stamp.log],
        "ratings": next((e.facts["agreement"] for e in stamp.log[::-1] if "agreement" in e.facts), ""),
        "log_hash": stamp.log[-1].hash if stamp.log else "",
    }


def _blinded(group: Group) -> str:
    """What a page by code says of its arms; of more than two every pair is compared."""
    if not group.arms.several:
        return BLINDED
    letters = list_of(list(group.arms.shown))
    return BLINDED.replace("A and B", letters).replace(
        "Differences are A minus B", "Every pair is compared, and none of them is the primary one by design"
    )


def _registered(stamp: Stamp, people: Mapping[str, int], said: Callable[[str], str]) -> Block:
    """What was registered before the data, and every deviation from it: settings, code, people per arm."""
    found = stamp.registered
    if found is None:
        return {"registered": "", "deviations": []}
    rows = [(item.key, said(item.before), said(item.now)) for item in found.deviations]
    planned = found.plan["people"]
    if set(people) == set(planned):
        rows += [
            (f"people randomised to {arm}", str(planned[arm]), str(n))
            for arm, n in people.items()
            if n != planned[arm]
        ]
    elif sum(people.values()) != sum(planned.values()):
        rows.append(("people randomised", str(sum(planned.values())), str(sum(people.values()))))
    state = f"{several(len(rows), 'deviation')}, listed under Trial conduct" if rows else "no deviation"
    digest = found.entry.facts["sha256"][:12]
    text = f"Registered before the data on {found.entry.time[:10]} (sha256 {digest}…): {state}"
    return {"registered": text, "deviations": rows}
