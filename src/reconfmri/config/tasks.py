"""`tasks`: how events become conditions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reconfmri.config.section import (
    EachOnce,
    Name,
    Section,
    Share,
    TakenNameError,
    Text,
    check_free,
    check_known,
)
from reconfmri.problems import SettingError
from reconfmri.tables import MISSING

WHOLE_RUN = "run"  # in `connectivity.conditions`


class Window(Section):
    """A stretch of every event of a condition, which becomes a condition of its own."""

    condition: Name = Field(description="Condition whose events are cut")
    start: float = Field(0.0, ge=0, description="Start of the stretch, s after the onset of the event")
    end: float | None = Field(
        None, gt=0, description="End of the stretch, s after the onset; none = the end of the event"
    )

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Window:
        if self.end is not None and self.end <= self.start:
            raise SettingError(
                f"the window ends at {self.end:g} s and starts at {self.start:g} s",
                "correct one",
            )
        return self


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

    windows: dict[Name, Window] = Field(
        default_factory=dict,
        description="Name -> stretch of a condition's events (first 60 s, consecutive 30 s) that activation "
        "and connectivity take for a condition of its own; what no window holds stays the condition",
    )

    @model_validator(mode="after")
    def _windows_are_of_conditions(self) -> Task:
        named = set(self.conditions.values())
        for name, window in self.windows.items():
            if name in named:
                raise TakenNameError(
                    f"windows: {name!r} is a condition already",
                    "rename the window",
                )
            check_known([window.condition], sorted(named), f"windows.{name}.condition")
        for condition in named:
            mine = sorted(
                (window.start, window.end or float("inf"), name)
                for name, window in self.windows.items()
                if window.condition == condition
            )
            for (_, end, one), (start, _, other) in pairwise(mine):
                if start < end:
                    raise SettingError(
                        f"windows: {one!r} and {other!r} of {condition!r} overlap",
                        "correct their ends",
                    )
        return self

    @property
    def windowed(self) -> Task:
        """The task whose windows are conditions, for events that `events.cut_windows` has cut."""
        if not self.windows:
            return self
        named = {name: name for name in self.windows}
        return Task.model_validate(
            self.model_dump() | {"conditions": {**self.conditions, **named}, "windows": {}}
        )

    @model_validator(mode="after")
    def _trial_types_are_named_once(self) -> Task:
        if MISSING in self.conditions:
            raise SettingError(
                f"conditions names {MISSING!r}, a row without a trial type",
                "delete it",
            )
        if both := [kind for kind in self.ignore if kind in self.conditions]:
            raise SettingError(
                f"ignore names {both[0]!r}, and so does conditions",
                "delete one",
            )
        if self.column in ("onset", "duration"):
            raise SettingError(
                f"column is {self.column!r}, expected the one of trial types",
                "name it",
            )
        return self

    @model_validator(mode="after")
    def _regressors_differ(self) -> Task:
        names = set(self.conditions.values())
        check_free(sorted(names), "conditions", (WHOLE_RUN,))
        for name in sorted(names):
            stem, _, end = name.rpartition("_")
            if stem in names and (self.events == "each" and (end.isdigit() or end == "first")):
                raise TakenNameError(
                    f"conditions: {name!r} is what an event of {stem!r} is called with `events: each`",
                    "rename one, or set `events: condition`",
                )
            if stem in names and end in ("derivative", "dispersion"):
                raise TakenNameError(
                    f"conditions: {name!r} is what the {end} of {stem!r} is called",
                    "rename one",
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
                raise SettingError(
                    f"{where} names one event twice, {other!r} and {name!r}",
                    "delete one",
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
