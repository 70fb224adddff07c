"""How arms look in every figure: a colour, a mark, and a place beside one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reconfmri.figures.style import ACTIVES, CONTROL, INK

if TYPE_CHECKING:
    from reconfmri.config import Arms

MARKERS = ("o", "^", "D", "v", "P")  # of the active arms; the control has a square


class Look(NamedTuple):
    """How one arm is drawn; `shift` is its place beside the others, in steps around zero."""

    arm: str
    colour: str
    marker: str
    shift: float


def looks(arms: Arms) -> list[Look]:
    """Return how every arm is drawn, active arms first."""
    shown = arms.shown
    places = [place - (len(shown) - 1) / 2 for place in range(len(shown))]
    active = [
        Look(arm, colour, marker, shift)
        for arm, colour, marker, shift in zip(arms.actives, ACTIVES, MARKERS, places[:-1], strict=False)
    ]
    return [*active, Look(arms.control, CONTROL, "s", places[-1])]


def arm_colour(arms: Arms | None, arm: str) -> str:
    """Return the colour of an arm; ink for everybody."""
    known = {look.arm: look.colour for look in looks(arms)} if arms else {}
    return known.get(arm, INK)
