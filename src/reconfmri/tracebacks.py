"""Exceptions as text without the data of the people whose tables a job has read."""

from __future__ import annotations

import linecache
import re
import traceback
from pathlib import Path

PACKAGE = Path(__file__).parent
# Exceptions whose text names files, modules and attributes, never values of a table.
HARMLESS = (OSError, ImportError, AttributeError, NameError, MemoryError)
PLAIN_WORD = re.compile(r"[a-z]{1,20}[.,:;]?|[0-9]{1,3}|[(),.:;=-]")
HIDDEN = "..."


def traceback_without_data(error: BaseException) -> str:
    """Return the traceback of an exception: files, lines and code, and of its text only what is no value."""
    frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    return f"Traceback (most recent call last):\n{frames}{without_data(error)}"


def without_data(error: BaseException) -> str:
    """Return type and text of an exception in one line, without what may be a value of somebody's data.

    What our own code raises was written for readers and names files, columns and ids. The text of a
    library's exception may quote rows of a table: of its first line only plain words are kept.
    """
    name, text = type(error).__name__, str(error)
    if not (isinstance(error, HARMLESS) or _raised_by_us(error)):
        words = re.sub(r"'.*'|\".*\"|\[.*\]", HIDDEN, text.partition("\n")[0]).split()
        text = " ".join(word if PLAIN_WORD.fullmatch(word) else HIDDEN for word in words)
        text = re.sub(rf"(?:{re.escape(HIDDEN)} ?){{2,}}", f"{HIDDEN} ", text).strip()
    return f"{name}: {' '.join(text.split())}" if text else name


def _raised_by_us(error: BaseException) -> bool:
    """Whether the exception comes from a `raise` in our code, not from a library or the interpreter."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    if last is None:
        return False
    file = last.tb_frame.f_code.co_filename
    ours = (
        Path(file).is_relative_to(PACKAGE) or ".snakemake" in Path(file).parts
    )  # where scripts are copied to
    return ours and linecache.getline(file, last.tb_lineno).strip().startswith("raise")
