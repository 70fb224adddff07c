"""Codes for participants on a page that may leave the laboratory; their key stays with it.

Everything that a page is made of passes through here before a table, a figure or a sentence is made of it, so
that no id reaches the page, whoever adds a section to it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from reconfmri.contracts.specs import TableSpec, text
from reconfmri.exclusions import MISSING
from reconfmri.report.inputs import Compared, ReportInputs

PERSON = "participant_id"
KEY = TableSpec(
    (
        text("code", "Participant in report.html"),
        text(PERSON, "Id in the dataset"),
    ),
    "Key to the codes of report.html, for the laboratory only",
)
WITH_PREFIX = re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+")
BARE = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
SHORTEST = 4  # characters of an id that is replaced without `sub-` before it: shorter ones may be any word
WITHOUT = "without "  # rows of the influence of a person begin so
Tables = TypeVar("Tables", bound=Compared)


@dataclass(frozen=True)
class Codes:
    """Participant -> code, as `P07`; `of` gives them to everything that a page is made of."""

    by_person: Mapping[str, str]

    @classmethod
    def drawn(cls, people: Iterable[str], secret: bytes) -> Codes:
        """Return codes whose order says nothing of the people; the same `secret` gives the same codes.

        The secret is the content of tables that stay in the laboratory: who has them has the ids anyway.
        """
        ordered = sorted(set(people), key=lambda who: hmac.digest(secret, who.encode(), "sha256"))
        width = max(2, len(str(len(ordered))))
        return cls({who: f"P{place:0{width}d}" for place, who in enumerate(ordered, start=1)})

    @classmethod
    def of(cls, inputs: Compared) -> Codes:
        """Return the codes of everybody whom the inputs of a page name."""
        tables = [inputs.measures, inputs.allocation, *inputs.tables.values()]
        named: set[str] = set()
        if isinstance(inputs, ReportInputs):
            tables += [inputs.runs, inputs.indexed, inputs.parity, inputs.scripts]
            named |= {*inputs.screened, *(row.participant_id for row in inputs.exclusions)}
            named |= {key[0] for key in inputs.images or ()}
        for table in tables:
            if table is not None and PERSON in table:
                named |= set(table[PERSON].dropna().astype(str))
        # Not of the allocation: codes stay as they are when it changes.
        kept = [inputs.measures, *([inputs.runs] if isinstance(inputs, ReportInputs) else [])]
        secret = hashlib.sha256("".join(table.to_csv(index=False) for table in kept).encode()).digest()
        return cls.drawn(named - {MISSING, ""}, secret)

    @property
    def key(self) -> pd.DataFrame:
        """The table `KEY`, in the order of the ids."""
        return KEY.frame([{"code": code, PERSON: who} for who, code in sorted(self.by_person.items())])

    @cached_property
    def _bare(self) -> dict[str, str]:
        """Ids that are replaced without `sub-` as well: letters and digits, so that no plain word is one."""
        bare = {who.removeprefix("sub-"): code for who, code in self.by_person.items()}
        return {
            who: code
            for who, code in bare.items()
            if len(who) >= SHORTEST and re.search("[A-Za-z]", who) and re.search("[0-9]", who)
        }

    def person(self, who: str) -> str:
        """Return the code of a participant; what is nobody's id stays."""
        return self.by_person.get(who, who)

    def text(self, said: str) -> str:
        """Return a text with codes for the ids in it, also inside of file names."""
        if said.startswith(WITHOUT) and (code := self.by_person.get(said.removeprefix(WITHOUT))):
            return f"{WITHOUT}{code}"
        coded = WITH_PREFIX.sub(lambda found: self.by_person.get(found[0], found[0]), said)
        return BARE.sub(lambda found: self._bare.get(found[0], found[0]), coded) if self._bare else coded

    def table(self, table: pd.DataFrame | None) -> Any:
        """Return a table with codes for its participants, in the order of the codes."""
        if table is None:
            return None
        shown = table.copy()
        for name in shown.columns:
            if not pd.api.types.is_numeric_dtype(shown[name]):
                cells = [cell for cell in shown[name].unique() if isinstance(cell, str)]
                known = {cell: self._cell(name, cell) for cell in cells}
                shown[name] = [known.get(cell, cell) for cell in shown[name]]
        return shown.sort_values(PERSON, kind="stable", ignore_index=True) if PERSON in shown else shown

    def _cell(self, column: object, cell: str) -> str:
        return self.person(cell) if column == PERSON else self.text(cell)


def coded(inputs: Tables, codes: Codes) -> Tables:
    """Return the inputs of a page without the id of any participant."""
    changed: dict[str, Any] = {
        "measures": codes.table(inputs.measures),
        "allocation": codes.table(inputs.allocation),
        "tables": {name: codes.table(table) for name, table in inputs.tables.items()},
    }
    if isinstance(inputs, ReportInputs):
        changed |= _of_a_study(inputs, codes)
    return replace(inputs, **changed)


def _of_a_study(inputs: ReportInputs, codes: Codes) -> dict[str, Any]:
    def named(items: Iterable[Any]) -> list[Any]:
        shown = [replace(item, participant_id=codes.person(item.participant_id)) for item in items]
        return sorted(shown, key=lambda item: item.participant_id)

    images = inputs.images
    return {
        **{name: codes.table(getattr(inputs, name)) for name in ("runs", "indexed", "parity", "scripts")},
        "exclusions": [replace(row, reason=codes.text(row.reason)) for row in named(inputs.exclusions)],
        "pictures": named(inputs.pictures),
        "processed": named(inputs.processed),
        "screened": tuple(sorted(codes.person(who) for who in inputs.screened)),
        "images": images and frozenset((codes.person(who), *scan) for who, *scan in images),
        "design_run": {name: codes.person(value) for name, value in inputs.design_run.items()},
        "maps": [(codes.text(name), path) for name, path in inputs.maps],
        "config_text": codes.text(inputs.config_text),
    }


def write_key(path: Path, codes: Codes) -> None:
    """Write the key to the codes, with the JSON that describes it."""
    KEY.write(path, codes.key)
