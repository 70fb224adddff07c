"""Values of options on the command line, each checked, with its line where it cannot be."""

from __future__ import annotations

import argparse
import re

FEWEST_TRIALS = 20


def positive(text: str) -> int:
    """Return a whole number above zero.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none.
    """
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def megabytes(text: str) -> int:
    """Return memory in MB, of a number of MB or one with the unit K, M, G or T (as fMRIPrep reads `--mem`).

    Raises
    ------
    argparse.ArgumentTypeError
        It is not of that form, or less than a megabyte.
    """
    form = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGT]?)B?", text.upper())
    amount = float(form[1]) * 1000.0 ** ("KMGT".index(form[2] or "M") - 1) if form else 0.0
    if amount < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of memory such as 16000 (MB) or 16G")
    return int(amount)


def trials(text: str) -> int:
    """Return a number of simulated trials.

    Raises
    ------
    argparse.ArgumentTypeError
        It is not a whole number of at least 20: fewer tell nothing of a 5 % error.
    """
    if not text.isdecimal() or int(text) < FEWEST_TRIALS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {FEWEST_TRIALS} on")
    return int(text)


def minutes(text: str) -> float:
    """Return a positive number of minutes.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none.
    """
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return found


def scale(text: str) -> tuple[str, float]:
    """Return unit and SD of `UNIT=SD`.

    Raises
    ------
    argparse.ArgumentTypeError
        It is not of that form, or SD is not above zero.
    """
    unit, _, number = text.rpartition("=")
    try:
        sd = float(number)
    except ValueError:
        sd = 0.0
    if not (unit and 0 < sd < float("inf")):
        raise argparse.ArgumentTypeError(f"{text!r} is not UNIT=SD with an SD above 0, such as 'points=12'")
    return unit, sd
