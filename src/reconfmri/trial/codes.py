"""Arms by code: until a study is unblinded, what compares the arms sees them as A and B (C, ...).

Which arm is A is drawn at random, once per study, and stands beside the allocation, which only group rules
read. Differences are then A minus B, so that their sign says nothing of the drug.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from string import ascii_uppercase

import pandas as pd

from reconfmri.config import Arms, Group, Study
from reconfmri.files import InputError
from reconfmri.trial.log import UNBLIND, read_log

CODE = "E-CONF-F13"
ACTIVE, CONTROL = "A", "B"  # of differences: A minus B


def codes_file(allocation: str | Path) -> Path:
    """Return where the codes of an allocation stand: beside it."""
    return Path(allocation).with_suffix(".codes.json")


def draw_codes(allocation: Path, arms: list[str], compared: Sequence[str]) -> Path:
    """Draw which of the `compared` arms is A, B and so on, write it beside the allocation, and return where.

    Other arms follow with the next letters, in random order. The draw comes from the operating system.

    Raises
    ------
    ValueError
        There are codes already: a second draw would tell, beside the first, which arm is which.
    """
    path = codes_file(allocation)
    if path.exists():
        raise InputError(path, "the arms have codes already", fix="keep them; a draw is made once", code=CODE)
    random = secrets.SystemRandom()
    first, others = random.sample(list(compared), len(compared)), [arm for arm in arms if arm not in compared]
    ordered = [*first, *random.sample(others, len(others))]
    found = dict(
        zip(sorted(ordered), (ascii_uppercase[ordered.index(arm)] for arm in sorted(ordered)), strict=True)
    )
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def by_code(allocation: pd.DataFrame, codes: Path) -> pd.DataFrame:
    """Return the allocation with codes for its arms.

    Raises
    ------
    ValueError
        There are no codes, or an arm has none.
    """
    fix = "draw them: `reconfmri blind`, or set `group.blinding: open`"
    if not codes.is_file():
        raise InputError(codes, "the arms have no codes yet", fix=fix, code=CODE)
    known = json.loads(codes.read_text(encoding="utf-8"))
    without = int((~allocation["arm"].isin(list(known))).sum())
    if without:
        what = f"{without} of the allocated people are in an arm that has no code"
        raise InputError(codes, what, fix="correct the arms in the allocation", code=CODE)
    return allocation.assign(arm=allocation["arm"].map(known))


def is_coded(group: Group | None) -> bool:
    """Whether the arms are to be seen by code."""
    return group is not None and group.blinding == "coded"


def group_by_code(group: Group) -> Group:
    """Return the section with A, B and so on for the names of its arms.

    Of more than two every pair is compared, A minus B first and in place of the primary one, and no trend:
    what is compared with what, and how, would tell which arm is the control.
    """
    letters = list(ascii_uppercase[: len(group.arms.labels)])
    if not group.arms.several:
        arms = group.arms.model_copy(update={"active": ACTIVE, "control": CONTROL})
        return group.model_copy(update={"arms": arms})
    among_actives = [list(pair) for pair in combinations(letters[:-1], 2)]
    arms = Arms(active=letters[:-1], control=letters[-1], comparisons=among_actives)
    primary = group.primary.model_copy(update={"comparison": among_actives[0]})
    return group.model_copy(update={"arms": arms, "primary": primary})


def as_seen(study: Study, folder: Path) -> Study:
    """Return the study as whoever analyses it may see it: arms by code, unless it was unblinded.

    Raises
    ------
    ValueError
        The trial log was changed.
    """
    group = study.group
    if group is None or not is_coded(group):
        return study
    if any(entry.event == UNBLIND for entry in read_log(folder)):
        return study.model_copy(update={"group": group.model_copy(update={"blinding": "open"})})
    return study.model_copy(update={"group": group_by_code(group)})
