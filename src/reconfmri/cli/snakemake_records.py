"""Snakemake's own records in a study folder: which output a file in `.snakemake/` stands for."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

FOLDER = ".snakemake"


def output_of(record: Path) -> str:
    """Return the output that a record of `metadata/` or `incomplete/` is of, by its path from there.

    Long names are cut into folders that begin with @. Nothing where it is no such name.
    """
    text = "".join(part.removeprefix("@") for part in record.parts)
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def incomplete(folder: Path) -> set[str]:
    """Return the outputs that Snakemake had begun and not finished, by its own marks."""
    marks = folder / FOLDER / "incomplete"
    return {output_of(mark.relative_to(marks)) for mark in marks.rglob("*") if mark.is_file()} - {""}
