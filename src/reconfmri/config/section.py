"""A part of the study file, the kinds of values in it, and what every name must keep to."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from reconfmri import nuisance
from reconfmri.problems import SettingError

Label = Annotated[str, Field(pattern=r"^[a-zA-Z0-9+]+$", description="BIDS label: letters, digits and `+`")]
# Contrasts become the label of an entity: what is no letter or digit falls away there.
ContrastName = Annotated[
    str,
    Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$", description="letters and digits, `-` and `_`"),
]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="lower case, digits and underscores")]
Text = Annotated[str, Field(pattern=r"\S", description="a text that is not blank")]
Share = Annotated[float, Field(ge=0, le=1)]
Weights = dict[Name, float]


class UnknownNameError(SettingError):
    """A part of the study names something that does not exist."""

    code: ClassVar[str] = "E-CONF-C04"


class TakenNameError(SettingError):
    """A name that the workflow has for something else, or that is one with another name in files."""

    code: ClassVar[str] = "E-CONF-C12"


def check_known(names: Any, known: Any, where: str) -> None:
    """Stop at a name that is none of `known`; `where` is the key that has it.

    Raises
    ------
    UnknownNameError
        It names the key, the name, the nearest known one and all known.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), [str(item) for item in known], n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            listed = [str(item) for item in known if not str(item).rpartition("_")[2].isdigit()]
            raise UnknownNameError(
                f"{where} names {name!r}, which does not exist",
                f"{hint}known are {listed}",
            )


def check_apart(names: Iterable[str], where: str) -> None:
    """Stop at two names that differ only in what is no letter or digit, or in case: one label in files.

    Raises
    ------
    TakenNameError
        It names both, and the label.
    """
    labels: dict[str, str] = {}
    for name in names:
        label = bare(name)
        other = labels.setdefault(label, name)
        if other != name:
            raise TakenNameError(
                f"{where}: {other!r} and {name!r} are one label in file names, {label!r}",
                "rename one",
            )


def check_free(names: Iterable[str], where: str, taken: Sequence[str] = ()) -> None:
    """Stop at the name of a column of confounds or of a design, or one of `taken`.

    Raises
    ------
    TakenNameError
        It names the key and the name.
    """
    for name in names:
        if nuisance.is_column(name) or name in taken:
            raise TakenNameError(
                f"{where}: {name!r} is a name of the workflow's own, as of a column of a design or of "
                "confounds",
                f"rename it, e.g. {name + '_own'!r}",
            )


def bare(name: str) -> str:
    """Return the letters and digits of a name, in lower case: two names that share them are one label."""
    return re.sub(r"[^a-z0-9+]", "", name.casefold())


def _each_once(names: list[Any]) -> list[Any]:
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise SettingError(
            f"{twice[0]!r} is there twice, expected each once",
            "delete one",
        )
    return names


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] < pair[1]:
        raise SettingError(
            f"got {list(pair)}, expected the lower end before the upper one",
            "correct the ends",
        )
    return pair


def _known_groups(groups: list[str]) -> list[str]:
    check_known(groups, [*nuisance.FIXED, *nuisance.NUMBERED], "groups of confounds")
    return groups


EachOnce = AfterValidator(_each_once)
Interval = Annotated[tuple[float, float], AfterValidator(_rising)]
ConfoundGroups = Annotated[list[str], AfterValidator(_known_groups), EachOnce]


class Section(BaseModel):
    """A part of the study file: unknown keys are errors, nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def from_params(cls, settings: dict[str, Any]) -> Self:
        """Return the section from the `settings` of a rule, `section.model_dump(mode="json")`."""
        return cls.model_validate_json(json.dumps(settings))


class Scrubbing(Section):
    """Volumes that are left out of the fit for head motion, by a column each."""

    fd: float | None = Field(
        None, gt=0, description="Framewise displacement above which a volume is left out, mm; none = unused"
    )
    dvars: float | None = Field(
        None, gt=0, description="Standardised DVARS above which a volume is left out; none = unused"
    )
    before: int = Field(0, ge=0, le=10, description="Volumes before each that are left out too")
    after: int = Field(0, ge=0, le=10, description="Volumes after each that are left out too")

    @model_validator(mode="after")
    def _has_a_threshold(self) -> Scrubbing:
        if self.fd is None and self.dvars is None:
            raise SettingError("scrubbing has no threshold", "give fd, dvars, or both")
        return self


def check_scrubbing(scrubbing: Scrubbing | None, groups: Iterable[str], where: str) -> None:
    """Stop where volumes that moved are left out twice.

    Raises
    ------
    SettingError
        It names both.
    """
    if scrubbing and "motion_outliers" in groups:
        raise SettingError(
            f"{where}.scrubbing and the confounds motion_outliers both leave out volumes that moved",
            "keep one",
        )
