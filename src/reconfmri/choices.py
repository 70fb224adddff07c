"""Options given by name: an unknown one stops, it never means another."""

from __future__ import annotations

from collections.abc import Iterable


def check_choice(option: str, given: object, known: Iterable[object]) -> None:
    """Check that what was `given` for an `option` is one of the `known` choices.

    Raises
    ------
    ValueError
        It is not; the line names option, value and choices.
    """
    choices = list(known)
    if given not in choices:
        raise ValueError(f"{option} is {given!r}, expected one of {choices}")
