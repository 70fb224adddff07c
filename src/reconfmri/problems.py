"""A problem found before any compute: how bad, where, what is wrong, and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from reconfmri.exclusions import MISSING, Exclusion

Severity = Literal["STOP", "EXCL", "WARN"]
SEVERITIES = ("STOP", "EXCL", "WARN")


@dataclass(frozen=True)
class Problem:
    """STOP: nothing may run; EXCL: the unit named leaves the study; WARN: recorded, shown in the report.

    Where `outcomes` (with blanks between them) are named, only they are missing in the unit, which stays.
    """

    severity: Severity
    code: str
    what: str
    fix: str
    file: str = ""
    participant_id: str = MISSING
    session_id: str = MISSING
    task: str = MISSING
    run: str = MISSING
    outcomes: str = ""

    @property
    def line(self) -> str:
        """`CODE file: what is wrong. Fix: how.`, on one line."""
        where = f" {self.file}:" if self.file else ""
        return " ".join(f"{self.code}{where} {self.what}. Fix: {self.fix}".split())

    @property
    def exclusions(self) -> list[Exclusion]:
        """The rows of `exclusions.tsv` that record it."""
        return [
            Exclusion(
                self.participant_id,
                self.session_id,
                self.task,
                self.run,
                region=outcome,
                stage="index",
                code=self.code,
                reason=self.line,
            )
            for outcome in self.outcomes.split() or [MISSING]
        ]


@dataclass(frozen=True)
class Cause:
    """Problems of one cause: alike but for the file, the unit and the numbers in what is said."""

    problems: tuple[Problem, ...]

    @property
    def examples(self) -> list[str]:
        """Where each of them is: its file, or what is said where all are of one file."""
        files = list(dict.fromkeys(problem.file for problem in self.problems))
        return files if len(files) > 1 else list(dict.fromkeys(problem.what for problem in self.problems))

    @property
    def line(self) -> str:
        """The line of the only problem, or of the first one with their number and two more examples."""
        first, others = self.problems[0], self.examples[1:EXAMPLES]
        if len(self.problems) == 1:
            return first.line
        also = f"; also {'; '.join(others)}" if others else ""
        left = len(self.examples) - 1 - len(others)
        more = f"; and {left} more" if left > 0 else ""
        return replace(first, what=f"{first.what} [{len(self.problems)} like this{also}{more}]").line


class SettingError(ValueError):
    """A value of the study file, or of a command, that cannot be used; as text, `what. Fix: fix`."""

    code: ClassVar[str] = "E-CONF-C02"

    def __init__(self, what: str, fix: str):
        self.what, self.fix = what, fix
        super().__init__(f"{what}. Fix: {fix}")


class StudyFileError(ValueError):
    """A study file, or another file of settings, that cannot be used; as text, a line per problem."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = list(problems)
        super().__init__("\n".join(problem.line for problem in self.problems))


EXAMPLES = 3
# What differs between problems of one cause: labels of a unit and numbers; of quoted text only these.
_UNIT = re.compile(
    r"'[^']*'|\b(?:sub|ses|task|run)-[A-Za-z0-9+]+|\bsession [A-Za-z0-9]+|\S*/\S+|-?\d+(?:[.,]\d+)?"
)


def causes(problems: Iterable[Problem]) -> list[Cause]:
    """Return the problems by cause, the worst first, else in their order."""
    groups: dict[tuple[str, ...], list[Problem]] = {}
    for problem in problems:
        said = [_UNIT.sub(_unit_or_name, text) for text in (problem.what, problem.fix)]
        groups.setdefault((problem.severity, problem.code, *said), []).append(problem)
    ranked = sorted(groups.values(), key=lambda group: SEVERITIES.index(group[0].severity))
    return [Cause(tuple(group)) for group in ranked]


def _unit_or_name(found: re.Match[str]) -> str:
    quoted = found[0].startswith("'")
    return found[0] if quoted and not re.fullmatch(r"'(sub-.*|ses-.*|[-+\d.,\s]+)'", found[0]) else "#"


def stops(problems: Iterable[Problem]) -> list[Problem]:
    """The problems with which nothing may run."""
    return [problem for problem in problems if problem.severity == "STOP"]


def exclusions_of(problems: Iterable[Problem]) -> list[Exclusion]:
    """One row per problem that concerns a participant; remarks on the whole study have no unit to record."""
    concerned = (p for p in problems if p.severity != "STOP" and p.participant_id != MISSING)
    return [row for problem in concerned for row in problem.exclusions]
