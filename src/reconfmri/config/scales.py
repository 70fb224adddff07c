"""`scales`: the clinical scales, declared or taken from the library (`scales/library/*.yaml`)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from reconfmri.config.section import EachOnce, Interval, Label, Name, Section, Share, Text, check_known
from reconfmri.problems import SettingError

KEYS = ("participant_id", "session_id")
PROPORTION = "proportion"  # of a diagnosis: its mean over people is the share who have it
RESERVED = ("total", "diagnosis")
FOLDER = Path(__file__).parents[1] / "scales" / "library"
Numbers = Annotated[list[int], EachOnce]
Score = Literal["sum", "mean"]


@cache
def library() -> dict[str, dict[str, Any]]:
    """Return every scale of the library by its name, as written."""
    return {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.yaml"))}


def scale_label(name: str) -> str:
    """Return what people call a scale: by the library, else its name in capitals."""
    return str(library()[name]["label"]) if name in library() else name.upper()


class Subscale(Section):
    """A score of some of the items."""

    items: Numbers = Field(min_length=1, description="Numbers of its items in the scale")
    score: Score = Field("sum", description="Sum or mean of the items")


class Diagnosis(Section):
    """When the items amount to a diagnosis."""

    rated: float = Field(description="An item counts as a symptom from this rating on")
    symptoms: dict[Name, int] = Field(min_length=1, description="Subscale -> symptoms of it that are needed")
    criteria: Annotated[list[Name], EachOnce] = Field(
        default_factory=list,
        description="Further criteria that must be met, each a column (`criteria`) of 0 and 1",
    )


class Change(Section):
    """A rule of response: every condition that is given must be met."""

    drop: float | None = Field(None, gt=0, description="Points below baseline, at least")
    percent: float | None = Field(None, gt=0, le=100, description="Percent below baseline, at least")
    at_most: float | None = Field(None, description="Score at the visit, at most")
    loss_of_diagnosis: bool = Field(False, description="Diagnosis at baseline, none at the visit")

    @model_validator(mode="after")
    def _says_something(self) -> Change:
        if (self.drop, self.percent, self.at_most) == (None, None, None) and not self.loss_of_diagnosis:
            raise SettingError(
                "a rule of response needs drop, percent, at_most or loss_of_diagnosis",
                "add one",
            )
        return self


class Scale(Section):
    """A clinical scale in `phenotype/<name>.tsv` with participant_id and session_id."""

    library: Text | None = Field(
        None, description="Scale of the library whose settings hold unless given here"
    )
    label: Text | None = Field(None, description="What people call it")
    table: Name | None = Field(None, description="Table of phenotype/, where it is not the scale's own name")
    total: Text = Field("total", description="Column of the total score")
    items: Annotated[list[Text], EachOnce] = Field(
        default_factory=list, description="Item columns; given, the total is recomputed and compared"
    )
    item: Annotated[str, Field(pattern=r"\{\}")] | None = Field(
        None, description="In place of `items`: the columns by the items' numbers, such as `pcl5_{}`"
    )
    n_items: int | None = Field(None, ge=1, description="Items that the scale has")
    numbers: Numbers = Field(default_factory=list, description="Their numbers, where these are not 1, 2, ...")
    range: Interval = Field(description="Lowest and highest possible total")
    item_range: Interval = Field((0, 4), description="Lowest and highest possible item")
    item_ranges: dict[int, Interval] = Field(
        default_factory=dict, description="Number of an item -> its own ends, where they are others"
    )
    items_from: float | None = Field(
        None,
        description="Number that the table has for the lowest rating, where it is another, such as 1 for 0",
    )
    reversed: Numbers = Field(default_factory=list, description="Numbers of items that count the other way")
    score: Score = Field("sum", description="Sum or mean of the items")
    unit: Text = Field(description="Unit as in group.scales, e.g. `PCL-5 points`")
    subscales: dict[Name, Subscale] = Field(
        default_factory=dict, description="Name -> score of some items; an outcome where items are given"
    )
    diagnosis: Diagnosis | None = Field(
        None, description="Rule of a diagnosis; an outcome (1 yes, 0 no) where items are given"
    )
    criteria: dict[Name, Text] = Field(
        default_factory=dict, description="Criterion of the diagnosis -> its column of 0 and 1"
    )
    period: Literal["past_month", "past_week", "other"] = Field(
        "past_month", description="What is asked about; `past_week` gives no diagnosis"
    )
    max_missing: Share = Field(
        0.0,
        lt=1,
        description="Share of the items of a score that may be missing; they are the person's mean of the "
        "others, and a remark says so. 0: the score is missing",
    )
    windows: dict[Label, Interval] = Field(
        default_factory=dict, description="Session -> first and last day on which it may have been filled in"
    )
    day: Text = Field("day", description="Column of the day, from baseline; needed for `windows`")
    repeats: Text | None = Field(
        None, description="Column that tells several ratings of one visit apart, such as `minute`"
    )
    occasions: Annotated[list[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]], EachOnce] = Field(
        default_factory=list,
        description="Values of `repeats` whose totals are outcomes too, `minute_40` of 40; for group.safety",
    )
    take: Literal["highest", "mean", "first", "last"] = Field(
        "highest", description="Which of several ratings of a visit counts"
    )
    cuts: dict[Name, float] = Field(default_factory=dict, description="Name -> total from which it holds")
    changes: dict[Name, Change] = Field(default_factory=dict, description="Name -> rule of response")
    citation: Text | None = Field(None, description="What to cite")
    checked: bool | None = Field(None, description="Library: whether the settings were checked with a source")
    source: Text | None = Field(None, description="Library: with which")

    @model_validator(mode="before")
    @classmethod
    def _from_library(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if (name := given.get("library")) is not None:
            check_known([name], library(), "library")
            given = library()[name] | given
        return {key: _paired(key, value) for key, value in given.items()}

    @property
    def columns(self) -> list[str]:
        """The columns of the items, in their order; none where the table has only totals."""
        if self.item is None:
            return list(self.items)
        return [self.item.format(number) for number in self.item_numbers]

    @property
    def item_numbers(self) -> list[int]:
        """The numbers of the items."""
        return list(self.numbers) or list(range_to(self.n_items or len(self.items)))

    @property
    def diagnoses(self) -> bool:
        """Whether its items give a diagnosis: a rule, its further criteria, and a form that may."""
        rule = self.diagnosis
        return bool(
            rule and self.columns and self.period != "past_week" and set(rule.criteria) <= set(self.criteria)
        )

    @property
    def scores(self) -> dict[str, str]:
        """Score -> unit: the total, and of items the subscales and the diagnosis."""
        found = {"total": self.unit}
        for name, part in self.subscales.items() if self.columns else ():
            found[name] = f"{self.unit} per item" if part.score == "mean" != self.score else self.unit
        found |= {f"{self.repeats}_{value}": self.unit for value in self.occasions}
        return found | ({"diagnosis": PROPORTION} if self.diagnoses else {})

    def ends(self, number: int) -> tuple[float, float]:
        """Return the lowest and the highest rating of an item."""
        return self.item_ranges.get(number, self.item_range)

    def range_of_score(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a score by its name."""
        if name == "diagnosis":
            return 0.0, 1.0
        part = self.subscales.get(name)
        return self.range_of(part.items, part.score) if part else self.range

    def range_of(self, numbers: list[int], score: Score) -> tuple[float, float]:
        """Return the lowest and the highest score of some items."""
        low, high = (sum(self.ends(number)[end] for number in numbers) for end in (0, 1))
        return (low, high) if score == "sum" else (low / len(numbers), high / len(numbers))

    @model_validator(mode="after")
    def _columns_are_scores(self) -> Scale:
        columns = [self.total, *self.columns]
        if keys := [name for name in columns if name in KEYS]:
            raise SettingError(
                f"{keys[0]!r} is the column of an id, expected one of scores",
                "name another",
            )
        if self.total in self.columns:
            raise SettingError(
                f"the total {self.total!r} is one of its items",
                "take it out of `items`",
            )
        if self.items and self.item:
            raise SettingError(
                "items and item name the columns twice",
                "delete one",
            )
        if self.item and not self.n_items:
            raise SettingError(
                "item needs n_items",
                "say how many items the scale has",
            )
        expected = self.n_items or len(self.items)
        for name, found in (("items", len(self.items)), ("numbers", len(self.numbers))):
            if found not in (0, expected):
                raise SettingError(
                    f"{name} has {found}, the scale {expected} items",
                    "name every item",
                )
        return self

    @model_validator(mode="after")
    def _items_sum_to_the_total(self) -> Scale:
        if not self.columns:
            return self
        made = self.range_of(self.item_numbers, self.score)
        if made != self.range:
            item = list(self.item_range)
            raise SettingError(
                f"range is {list(self.range)}, and {len(self.columns)} items of {item} {self.score} to "
                f"{list(made)}",
                "correct range, items or item_range",
            )
        return self

    @model_validator(mode="after")
    def _parts_exist(self) -> Scale:
        known = self.item_numbers
        named = {
            "reversed": self.reversed,
            "item_ranges": list(self.item_ranges),
            **{f"subscales.{name}": part.items for name, part in self.subscales.items()},
        }
        for key, numbers in named.items() if known else ():
            check_known(numbers, known, key)
        if self.occasions and not self.repeats:
            raise SettingError(
                "occasions need `repeats`, the column of which they are values",
                "name it",
            )
        if taken := [name for name in self.subscales if name in RESERVED]:
            raise SettingError(
                f"subscales: {taken[0]!r} is taken",
                "rename it",
            )
        if self.diagnosis:
            check_known(self.diagnosis.symptoms, self.subscales, "diagnosis.symptoms")
            check_known(self.criteria, self.diagnosis.criteria, "criteria")
        return self


def _paired(key: str, value: Any) -> Any:
    """Intervals as tuples and numbers of items as such, as they are after JSON has been read."""
    if key in ("range", "item_range"):
        return _pair(value)
    if key in ("item_ranges", "windows") and isinstance(value, dict):
        number = int if key == "item_ranges" else str
        return {number(name) if str(name).isdigit() else name: _pair(ends) for name, ends in value.items()}
    return value


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def range_to(last: int) -> range:
    """Return 1, 2, ..., last."""
    return range(1, last + 1)
