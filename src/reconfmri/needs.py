"""Memory and time that a job asks for: the workflow's own numbers, or those measured in finished runs.

Only where and when jobs run depends on them, no number of a study.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

from reconfmri.files import InputError
from reconfmri.tables import read_table

TABLE = "config/resources.tsv"
Resource = Callable[[Any, int], int]


def suggested(peak_mb: int, wall_s: float) -> tuple[int, int]:
    """Return memory, MB, and time, min, to ask for after jobs that took at most so much."""
    return max(100 * ceil(peak_mb * 4 / 3 / 100), 500), ceil(2 * wall_s / 60) + 5


def read_needs(folder: Path) -> dict[str, tuple[int, int]]:
    """Return rule -> memory, MB, and time, min, of `config/resources.tsv`; nothing where there is none.

    Raises
    ------
    ValueError
        A number is missing, or not a whole one above 0.
    """
    place = folder / TABLE
    if not place.is_file():
        return {}
    table = read_table(place)
    found = {}
    for row in table.to_dict("records"):
        given = [str(row.get(name)) for name in ("mem_mb", "runtime")]
        if not all(text.isdecimal() and int(text) > 0 for text in given):
            what = f"{row.get('rule')}: mem_mb and runtime are {' and '.join(given)}"
            fix = "give whole numbers above 0 (MB, min), or write it again with `reconfmri resources`"
            raise InputError(place, what, fix=fix, code="E-CONF-D07")
        found[str(row["rule"])] = (int(given[0]), int(given[1]))
    return found


def growing(amount: int) -> Resource:
    """Return a resource that every retry asks as much again of."""
    return lambda wildcards, attempt: amount * attempt  # noqa: ARG005 - Snakemake passes them by name
