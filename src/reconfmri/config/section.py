"""A part of the study file, the kinds of names in it, and names that must exist."""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from reconfmri import nuisance

Label = Annotated[str, Field(pattern=r"^[a-zA-Z0-9+]+$", description="BIDS label: letters, digits and `+`")]
# Contrasts become the label of an entity: what is no letter or digit falls away there.
ContrastName = Annotated[
    str,
    Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$", description="letters and digits, `-` and `_`"),
]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="lower case, digits and underscores")]
Share = Annotated[float, Field(ge=0, le=1)]
Weights = dict[Name, float]


class UnknownNameError(ValueError):
    """A part of the study names something that does not exist."""


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
                f"{where} names {name!r}, which does not exist. Fix: {hint}known are {listed}"
            )


def _known_groups(groups: list[str]) -> list[str]:
    check_known(groups, [*nuisance.FIXED, *nuisance.NUMBERED], "groups of confounds")
    return groups


ConfoundGroups = Annotated[list[str], AfterValidator(_known_groups)]


class Section(BaseModel):
    """A part of the study file: unknown keys are errors, nothing changes after the door."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def from_params(cls, settings: dict[str, Any]) -> Self:
        """Return the section from the `settings` of a rule, `section.model_dump(mode="json")`."""
        return cls.model_validate_json(json.dumps(settings))
