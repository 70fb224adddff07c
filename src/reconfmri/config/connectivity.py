"""`connectivity`: connectivity of pairs of regions."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from reconfmri.config.section import ConfoundGroups, EachOnce, Interval, Label, Name, Section


def _different_pairs(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    for number, pair in enumerate(pairs):
        if pair[0] == pair[1]:
            raise ValueError(f"{list(pair)} is a region with itself, expected two. Fix: name another region")
        if any(set(pair) == set(other) for other in pairs[:number]):
            raise ValueError(f"{list(pair)} is there twice, in whichever order. Fix: delete one")
    return pairs


def _frequencies(band: tuple[float, float]) -> tuple[float, float]:
    if band[0] < 0:
        raise ValueError(f"got {list(band)}, expected at least 0 Hz. Fix: correct the lower end")
    return band


class Connectivity(Section):
    """Connectivity of region pairs within conditions."""

    task: Label = Field(description="BIDS task label")
    pairs: Annotated[list[tuple[Name, Name]], AfterValidator(_different_pairs)] = Field(
        min_length=1, description="Pairs of regions"
    )
    conditions: Annotated[list[Name], EachOnce] = Field(
        min_length=1, description="Conditions (or single scripts, `trauma_first`), or `run` for a whole run"
    )
    band: Annotated[Interval, AfterValidator(_frequencies)] = Field((0.01, 0.1), description="Band-pass, Hz")
    delay: float = Field(5.0, ge=0, le=15, description="Shift of each event by the haemodynamic delay, s")
    confounds: ConfoundGroups = Field(
        default_factory=lambda: ["motion6", "acompcor", "non_steady_state"],
        description="Groups of nuisance columns, as in first_level.confounds",
    )
    min_df: float = Field(8.0, ge=4, description="Below this many effective degrees of freedom: missing")
