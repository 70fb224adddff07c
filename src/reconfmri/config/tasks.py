"""`tasks`: how events become conditions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reconfmri.config.section import Name, Section, Share


class Task(Section):
    """How the events of one BIDS task become conditions; no conditions = rest."""

    conditions: dict[str, Name] = Field(
        default_factory=dict,
        description="trial_type in events.tsv -> condition; unnamed trial types are errors",
    )
    ignore: list[str] = Field(default_factory=list, description="trial types left out on purpose")
    column: str = Field(
        "trial_type",
        min_length=1,
        description="Column of events.tsv whose values `conditions` and `ignore` name",
    )
    min_runs: int = Field(1, ge=1, description="A session with fewer runs of this task loses those it has")
    mixed_tr: bool = Field(False, description="Allow runs of different repetition time in this task")
    max_shortfall: Share = Field(
        0.1,
        description="A run that has fewer volumes than its siblings (median of the same run elsewhere) "
        "by more than this share is out",
    )
    events: Literal["each", "condition"] = Field(
        "each",
        description="`each`: one regressor per event (scripts): `trauma_1`, `trauma_first` and their mean "
        "`trauma`; "
        "`condition`: one regressor per condition (many short events)",
    )


def condition_names(task: Task) -> list[str]:
    """Names that a contrast may weigh: conditions and, with one regressor per event, `<name>_first`, ...."""
    names = list(dict.fromkeys(task.conditions.values()))
    if task.events == "condition":
        return names
    return [
        *names,
        *(f"{name}_first" for name in names),
        *(f"{name}_{n}" for name in names for n in range(1, 21)),
    ]
