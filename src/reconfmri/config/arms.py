"""`group.arms`: the arms of the trial, which of them are compared, and their doses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from reconfmri.config.section import EachOnce, Section, Text, check_apart, check_known
from reconfmri.labels import spelling_fault
from reconfmri.problems import SettingError

ARM = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9 _+.-]*")  # what `init` leaves open has blanks
DOSE_TREND = "dose trend"
MOST_ARMS = 6
ONE, SEVERAL = TAGS = (
    "one arm",
    "several arms",
)  # of the kinds of `active`, in what pydantic says of a fault
MINUS = " minus "


@dataclass(frozen=True)
class Comparison:
    """A contrast of arms: weights of their means, the control first, and what tables call it.

    Of two arms there is one comparison, which needs no name. The weights of a change within an arm are one
    for it and zero for the others; those of all other comparisons sum to zero.
    """

    weights: tuple[float, ...] = (-1.0, 1.0)
    name: str = ""

    @property
    def higher(self) -> tuple[int, ...]:
        """The arms that count for an estimate above zero, by place."""
        return tuple(place for place, weight in enumerate(self.weights) if weight > 0)

    @property
    def lower(self) -> tuple[int, ...]:
        """The arms that count against it."""
        return tuple(place for place, weight in enumerate(self.weights) if weight < 0)

    @property
    def arms(self) -> tuple[int, ...]:
        """The arms whose people the answer rests on, by place."""
        return tuple(place for place, weight in enumerate(self.weights) if weight)


TWO_ARMS = Comparison()


def _one_name(value: Any) -> Any:
    """A list of one arm is that arm: two arms have one spelling."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _kind(value: Any) -> str:
    return SEVERAL if isinstance(value, list) else ONE


class Arms(Section):
    """Labels of the arms in the allocation; differences are active minus control."""

    active: Annotated[
        Annotated[Text, Tag(ONE)] | Annotated[list[Text], Field(min_length=2), EachOnce, Tag(SEVERAL)],
        Discriminator(_kind),
        BeforeValidator(_one_name),
    ] = Field(
        description="Label of the drug arm in allocation.tsv; several (a list): each is compared with the "
        "control, in one model of all arms (docs/arms.md)"
    )
    control: Text = Field(description="Label of the control arm")
    comparisons: list[Annotated[list[Text], Field(min_length=2, max_length=2)]] = Field(
        default_factory=list,
        description="With several active arms: further pairs of them, [arm, minus arm], compared like each "
        "with the control",
    )
    doses: dict[Text, float] = Field(
        default_factory=dict,
        description="With several active arms: arm -> dose, of all arms in one unit; adds the linear trend: "
        "the difference between the highest and the lowest dose along the line of least squares through the "
        "arms' means",
    )

    @model_validator(mode="after")
    def _differ(self) -> Arms:
        if self.control in self.actives:
            where = "active and control are both" if not self.several else "active and control both name"
            raise SettingError(
                f"group.arms: {where} {self.control!r}",
                "name the two arms" if not self.several else "name each arm once",
            )
        if fault := spelling_fault(self.shown, "arm"):
            raise SettingError(
                f"group.arms: {fault[0]}",
                f"{fault[1]}",
            )
        if len(self.labels) > MOST_ARMS:
            raise SettingError(
                f"group.arms: {len(self.labels)} arms, expected at most {MOST_ARMS}",
                "leave out arms that are not compared",
            )
        return self

    @model_validator(mode="after")
    def _comparisons_and_doses(self) -> Arms:
        for key in ("comparisons", "doses"):
            if getattr(self, key) and not self.several:
                raise SettingError(f"group.arms.{key}: two arms have one comparison", "delete it")
        known = [{self.control, arm} for arm in self.actives]
        for one, other in self.comparisons:
            check_known([one, other], self.labels, "group.arms.comparisons")
            if one == other or {one, other} in known:
                raise SettingError(
                    f"group.arms.comparisons: {[one, other]} is no further pair of arms; each active arm is "
                    "compared with the control anyway",
                    "delete it",
                )
            known.append({one, other})
        if self.doses:
            check_known(self.doses, self.labels, "group.arms.doses")
            if open_arms := [arm for arm in self.labels if arm not in self.doses]:
                raise SettingError(f"group.arms.doses: no dose of {open_arms}", "give that of every arm")
            if len(set(self.doses.values())) < 2:
                raise SettingError("group.arms.doses: all doses are alike", "delete them")
        return self

    @property
    def several(self) -> bool:
        """Whether there is more than one active arm."""
        return not isinstance(self.active, str)

    @property
    def actives(self) -> tuple[str, ...]:
        """The active arms."""
        return (self.active,) if isinstance(self.active, str) else tuple(self.active)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every arm that is compared, the control first."""
        return (self.control, *self.actives)

    @property
    def shown(self) -> tuple[str, ...]:
        """Every arm that is compared in the order of tables and figures: active arms, then the control."""
        return (*self.actives, self.control)

    @property
    def pair(self) -> tuple[str, str]:
        """The active and the control arm of a trial of two.

        Raises
        ------
        ValueError
            There are more: what asks compares two arms only, and must not take any two of them.
        """
        if not isinstance(self.active, str):
            raise ValueError(
                f"group.arms has {len(self.labels)} arms, and this compares two. Fix: ask for comparisons"
            )
        return self.active, self.control

    @property
    def every_comparison(self) -> tuple[Comparison, ...]:
        """What is compared: each active arm with the control, declared pairs, the trend over doses."""
        if not self.several:
            return (TWO_ARMS,)
        pairs = [[arm, self.control] for arm in self.actives] + [list(pair) for pair in self.comparisons]
        found = [self.compare(one, other) for one, other in pairs]
        if self.doses:
            found.append(Comparison(trend_weights([self.doses[arm] for arm in self.labels]), DOSE_TREND))
        return tuple(found)

    def compare(self, one: str, other: str) -> Comparison:
        """Return the comparison of one arm minus another."""
        weights = tuple(float(arm == one) - float(arm == other) for arm in self.labels)
        return Comparison(weights, f"{one}{MINUS}{other}")

    def within(self, arm: str) -> Comparison:
        """Return what is asked of one arm alone."""
        return Comparison(tuple(float(label == arm) for label in self.labels), arm if self.several else "")

    def two_of(self, comparison: Comparison) -> Arms:
        """Return the two arms of a comparison of two as those of a trial of two.

        Raises
        ------
        ValueError
            It compares more than two arms.
        """
        if not self.several:
            return self
        (one,), (other,) = comparison.higher, comparison.lower
        return Arms(active=self.labels[one], control=self.labels[other])


def trend_weights(doses: Sequence[float]) -> tuple[float, ...]:
    """Return weights of the arms' means: slope of their least-squares line times the range of the doses."""
    centre = sum(doses) / len(doses)
    squares = sum((dose - centre) ** 2 for dose in doses)
    return tuple((max(doses) - min(doses)) * (dose - centre) / squares for dose in doses)


def check_arms(arms: Arms) -> None:
    """Check that every arm has a label that can be written anywhere.

    Raises
    ------
    ValueError
        It names the key and the label.
    """
    for arm in arms.shown:
        if not ARM.fullmatch(arm):
            key = "control" if arm == arms.control else "active"
            raise SettingError(
                f"group.arms.{key}: got {arm!r}, expected letters and digits, and blanks, `_`, `-`, `+`, "
                "`.` after the first",
                "rename the arm, in the allocation too",
            )
    check_apart(arms.shown, "group.arms")
