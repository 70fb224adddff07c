"""`tasks`: how events become conditions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reconfmri.config.section import EachOnce, Name, Section, Share, TakenNameError, Text, check_free
from reconfmri.tables import MISSING

WHOLE_RUN = "run"  # in `connectivity.conditions`


class Task(Section):
    """How the events of one BIDS task become conditions; no conditions = rest."""

    conditions: dict[Text, Name] = Field(
        default_factory=dict,
        description="trial_type in events.tsv -> condition; unnamed trial types are errors",
    )
    ignore: Annotated[list[Text], EachOnce] = Field(
        default_factory=list, description="trial types left out on purpose"
    )
    column: Text = Field(
        "trial_type",
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

    @model_validator(mode="after")
    def _trial_types_are_named_once(self) -> Task:
        if MISSING in self.conditions:
            raise ValueError(f"conditions names {MISSING!r}, a row without a trial type. Fix: delete it")
        if both := [kind for kind in self.ignore if kind in self.conditions]:
            raise ValueError(f"ignore names {both[0]!r}, and so does conditions. Fix: delete one")
        if self.column in ("onset", "duration"):
            raise ValueError(f"column is {self.column!r}, expected the one of trial types. Fix: name it")
        return self

    @model_validator(mode="after")
    def _regressors_differ(self) -> Task:
        names = set(self.conditions.values())
        check_free(sorted(names), "conditions", (WHOLE_RUN,))
        for name in sorted(names):
            stem, _, end = name.rpartition("_")
            if stem in names and (self.events == "each" and (end.isdigit() or end == "first")):
                raise TakenNameError(
                    f"conditions: {name!r} is what an event of {stem!r} is called with `events: each`. Fix: "
                    "rename one, or set `events: condition`"
                )
            if stem in names and end == "derivative":
                raise TakenNameError(
                    f"conditions: {name!r} is what the derivative of {stem!r} is called. Fix: rename one"
                )
        return self

    def check_each_once(self, names: Iterable[str], where: str) -> None:
        """Stop where two of `names` are one event: `trauma_first` is `trauma_1`.

        Raises
        ------
        ValueError
            It names the key and both.
        """
        seen: dict[str, str] = {}
        for name in names:
            single = name
            if self.events == "each" and name not in self.conditions.values() and name.endswith("_first"):
                single = f"{name.removesuffix('_first')}_1"
            other = seen.setdefault(single, name)
            if other != name:
                raise ValueError(f"{where} names one event twice, {other!r} and {name!r}. Fix: delete one")


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
