"""Exclusions: a fault in the data is a result that travels with the unit it concerns, not a crash."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from reconfmri.files import InputError, read_text

COLUMNS = (
    "participant_id",
    "session_id",
    "task",
    "run",
    "region",
    "stage",
    "code",
    "reason",
    "decided_by",
)
DESCRIPTIONS = {
    "participant_id": "Participant, as in participants.tsv",
    "session_id": "Session label, n/a when the whole participant is concerned or there are no sessions",
    "task": "Task label, n/a when not one task is concerned",
    "run": "Run label, n/a when the scan has none",
    "region": "Region that is missing in this run, n/a when the whole unit is",
    "stage": "Step that decided",
    "code": "Stable code, docs/codes.md; codes that begin with W- are remarks and exclude nothing",
    "reason": "What is wrong, and how to fix it",
    "decided_by": "automatic, or the name of the person who decided",
}
MISSING = "n/a"
UNIT = ("participant_id", "session_id", "task", "run")  # what names one scan, in every table


class DataFault(ValueError):  # noqa: N818 - a fault in the data, not an error of ours
    """A fault in the data that takes a unit (run, session, region) out of the study.

    The text is one line: code, file or unit, what is wrong, how to fix it.
    """

    def __init__(self, code: str, reason: str, *, fix: str = "", file: str = "", region: str = MISSING):
        self.code, self.reason, self.fix, self.file, self.region = code, reason, fix, file, region
        super().__init__(self.line)

    @property
    def line(self) -> str:
        """`CODE file: what is wrong. Fix: how.`"""
        where = f" {self.file}:" if self.file else ""
        fix = f". Fix: {self.fix}" if self.fix else ""
        return f"{self.code}{where} {self.reason.rstrip('.') if fix else self.reason}{fix}"


@dataclass(frozen=True)
class Exclusion:
    """One row of `exclusions.tsv`: a unit, the stage that took it out, and why."""

    participant_id: str
    session_id: str = MISSING
    task: str = MISSING
    run: str = MISSING
    region: str = MISSING
    stage: str = ""
    code: str = ""
    reason: str = ""
    decided_by: str = "automatic"

    @property
    def takes_the_run_out(self) -> bool:
        """False where only a region is missing or the row is a remark (`W-` codes)."""
        return self.region == MISSING and not self.code.startswith("W-")

    @property
    def files(self) -> str:
        """Pattern of the names of the unit's files, `**/sub-01_ses-1_*`."""
        labels = {"ses": self.session_id, "task": self.task, "run": self.run}
        given = [f"{key}-{label}" for key, label in labels.items() if label != MISSING]
        return "**/" + "_".join([self.participant_id, *given, "*"])

    @property
    def place(self) -> tuple[str, ...]:
        """Sort key: people, sessions, tasks and runs in order, then stage and region."""
        return (self.participant_id, self.session_id, self.task, self.run, self.stage, self.region, self.code)

    @property
    def unit(self) -> tuple[str, ...]:
        """Participant, session (without `ses-`, however a person wrote it), task and run."""
        return (self.participant_id, self.session_id.removeprefix("ses-"), self.task, self.run)

    def concerns(self, unit: Exclusion) -> bool:
        """Whether this row is about `unit`; an entity that the row does not name stands for all."""
        return all(mine in (MISSING, theirs) for mine, theirs in zip(self.unit, unit.unit, strict=True))

    def takes_out(self, unit: Exclusion) -> bool:
        """Whether this row takes the whole of `unit` out."""
        return self.takes_the_run_out and self.concerns(unit)

    def because(self, stage: str, fault: DataFault) -> Exclusion:
        """The same unit with the stage and the reason of `fault`."""
        return replace(self, stage=stage, code=fault.code, reason=fault.line, region=fault.region)


@dataclass
class Decisions:
    """Exclusions of one unit, as they stand before and after a step."""

    unit: Exclusion
    rows: list[Exclusion] = field(default_factory=list)

    @property
    def excluded(self) -> bool:
        """Whether the whole unit is out."""
        return any(row.takes_the_run_out for row in self.rows)

    def add(self, stage: str, fault: DataFault) -> None:
        """Record `fault` of this unit, once."""
        row = self.unit.because(stage, fault)
        if row not in self.rows:
            self.rows.append(row)


def read_exclusions(path: str | Path) -> list[Exclusion]:
    """Return the rows of one exclusions table (may be none).

    Raises
    ------
    ValueError
        The table's columns are not those of the contract, or a line has not as many cells.
    """
    lines = read_text(path).rstrip("\n").split("\n")
    if tuple(lines[0].rstrip("\t").split("\t")) != COLUMNS:
        what = f"not an exclusions table: expected the columns {list(COLUMNS)}"
        raise InputError(path, what, fix="write line 1 so, or index again (`reconfmri index`)")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() or MISSING for cell in line.split("\t")]
        if set(cells) == {MISSING}:
            continue  # a blank line of a spreadsheet
        if len(cells) != len(COLUMNS):
            what = f"line {number} has {len(cells)} cells, the header {len(COLUMNS)}"
            fix = "one tab between two cells and none within a cell, n/a where there is nothing"
            raise InputError(path, what, fix=fix)
        rows.append(Exclusion(**dict(zip(COLUMNS, cells, strict=True))))
    return rows


def write_exclusions(path: str | Path, rows: list[Exclusion]) -> None:
    """Write `rows` as a tab-separated table with its header, also when there are none."""
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(_one_line(asdict(row)[column]) for column in COLUMNS) for row in rows]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _one_line(text: str) -> str:
    return " ".join(str(text).split()) or MISSING
