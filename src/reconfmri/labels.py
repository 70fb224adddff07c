"""Labels as they are written: two spellings of one label, and labels whose order in time is known."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from reconfmri.files import InputError
from reconfmri.tables import MISSING

SPELLING_CODE, ORDER_CODE = "E-CONF-C10", "E-CONF-C09"
_PADDING = re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_POINT_ZERO = re.compile(r"(?<=\d)\.0+$")
# Cyrillic and Greek letters, in small, that the eye takes for Latin ones; dashes; an underscore for a blank
_LOOKALIKES = str.maketrans(
    "авеѕіјкмнорстухԁһԛԝαβεζηικνορτυχıƒ\u2010\u2011\u2012\u2013\u2014\u2212_",
    "abesijkmhopctyxdhqwabezhiknoptyxif------ ",
)
_AROUND = "'\"`´‘’“”„«».,;:"  # quotes, and the punctuation of a list, that were copied along


def essence(label: str) -> str:
    """Return a label without what a spreadsheet, a keyboard or a hurried hand changes, and nobody sees.

    That is blanks and signs of no width, case, accents, letters of another alphabet that look the same,
    kinds of dashes, quotes around it and zeros of numbers. `Ketamine ` is `ketamine`; `01`, `1` and `1.0`
    are one visit.
    """
    kept = "".join(map(_seen, unicodedata.normalize("NFKD", label.casefold())))
    plain = " ".join(kept.translate(_LOOKALIKES).split()).strip(_AROUND).strip()
    return _POINT_ZERO.sub("", _PADDING.sub("", plain))


def _seen(letter: str) -> str:
    """The letter; a Latin digit for one of another script, nothing for accents and signs of no width."""
    if unicodedata.category(letter) in ("Cf", "Mn"):
        return ""
    digit = unicodedata.decimal(letter, None)
    return letter if digit is None else str(digit)


def alike(labels: Iterable[object]) -> list[tuple[str, ...]]:
    """Return the groups of two or more labels that differ in blanks, case or padding only.

    A label that is blank, or `n/a` in another spelling, is alike to `n/a` whether or not that is there.
    """
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for text in dict.fromkeys(map(str, labels)):
        name = essence(text) or MISSING
        if name == MISSING and text != MISSING:
            groups[name].setdefault(MISSING)
        groups[name].setdefault(text)
    return [tuple(spellings) for spellings in groups.values() if len(spellings) > 1]


def spelling_fault(labels: Iterable[object], what: str) -> tuple[str, str] | None:
    """Return what is wrong with labels of one kind (`arm`, `visit`, ...), and the fix; else None."""
    groups = alike(labels)
    if not groups:
        return None
    named = "; ".join(" and ".join(map(repr, group)) for group in groups[:3])
    more = f" and {len(groups) - 3} more" if len(groups) > 3 else ""
    return f"spellings of the {what} that look like one: {named}{more}", "write each in one way everywhere"


def refuse_alike(labels: Iterable[object], what: str, where: str) -> None:
    """Check that no two labels of one kind (`arm`, `visit`, ...) differ in spelling only.

    Raises
    ------
    ValueError
        They do; both spellings are named.
    """
    if fault := spelling_fault(labels, what):
        raise InputError(where, fault[0], fix=fault[1], code=SPELLING_CODE)


def is_number(label: str) -> bool:
    """Whether a label is a plain number (`1`, `10`, `2.5`), whose place among others is known."""
    return _NUMBER.fullmatch(label) is not None


def in_order(
    found: Iterable[str], where: str, *, declared: Sequence[str] | None = None, baseline: str | None = None
) -> list[str]:
    """Return the visits in order of time: as `declared`, else by their numbers, `baseline` before the others.

    Raises
    ------
    ValueError
        Two labels are spellings of one; the declared ones are not those found; or nothing tells the order.
    """
    labels = sorted(set(found))
    refuse_alike([*labels, *(declared or ())], "visit", where)
    if declared is not None:
        if sorted(declared) != labels:
            what = f"--sessions names {list(declared)}, the visits are {labels}"
            raise InputError(where, what, fix="name every visit once, baseline first", code=ORDER_CODE)
        if baseline not in (None, declared[0]):
            what = f"{baseline!r} is not the first of --sessions {list(declared)}"
            raise InputError("--baseline", what, fix="leave --baseline out", code=ORDER_CODE)
        return list(declared)
    if baseline is not None and baseline not in labels:
        raise InputError(
            where, f"baseline {baseline!r} is not a session", fix=f"name one of {labels}", code=ORDER_CODE
        )
    later = [label for label in labels if label != baseline]
    if len(later) > 1 and not all(map(is_number, later)):
        unknown = (
            "the order of the visits" if baseline is None else f"the order of the visits after {baseline!r}"
        )
        first = "BASELINE ..." if baseline is None else f"{baseline} ..."
        what = f"{unknown} is not known, their labels {later} are no plain numbers"
        fix = f"give them in order of time, baseline first (--sessions {first}), or a study file "
        raise InputError(where, what, fix=f"{fix}(--config FILE)", code=ORDER_CODE)
    return [
        *([baseline] if baseline is not None else []),
        *(sorted(later, key=float) if len(later) > 1 else later),
    ]


def first_of(items: Iterable[object], most: int = 5) -> str:
    """Return the first of some names, and how many there are beside: `a, b and 3 more`."""
    shown = [str(item) for item in items]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
