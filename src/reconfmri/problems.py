"""A problem found before any compute: how bad, where, what is wrong, and the mend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reconfmri.exclusions import MISSING, Exclusion

Severity = Literal["STOP", "EXCL", "WARN"]


@dataclass(frozen=True)
class Problem:
    """STOP: nothing may run; EXCL: the unit named leaves the study; WARN: recorded, shown in the report."""

    severity: Severity
    code: str
    what: str
    mend: str
    file: str = ""
    participant_id: str = MISSING
    session_id: str = MISSING
    task: str = MISSING
    run: str = MISSING

    @property
    def line(self) -> str:
        """`CODE file: what is wrong. Mend: how.`, on one line."""
        where = f" {self.file}:" if self.file else ""
        return " ".join(f"{self.code}{where} {self.what}. Mend: {self.mend}".split())

    @property
    def exclusion(self) -> Exclusion:
        """The row of `exclusions.tsv` that records it."""
        return Exclusion(
            self.participant_id,
            self.session_id,
            self.task,
            self.run,
            stage="index",
            code=self.code,
            reason=self.line,
        )


def stops(problems: Iterable[Problem]) -> list[Problem]:
    """The problems with which nothing may run."""
    return [problem for problem in problems if problem.severity == "STOP"]


def exclusions_of(problems: Iterable[Problem]) -> list[Exclusion]:
    """One row per problem that concerns a participant; remarks on the whole study have no unit to record."""
    return [p.exclusion for p in problems if p.severity != "STOP" and p.participant_id != MISSING]
