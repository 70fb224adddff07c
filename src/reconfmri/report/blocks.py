"""Pieces that several sections of the page share."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from reconfmri.exclusions import MISSING
from reconfmri.figures.style import data_uri, to_png, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Block = dict[str, Any]


def picture(figure: Figure, *, alt: str, caption: str, size: str = "", as_png: bool = False) -> Block:
    """Return a figure as the page shows it: embedded, with its caption and a text for who cannot see it."""
    content: str | bytes = to_png(figure) if as_png else to_svg(figure)
    return {"uri": data_uri(content), "alt": alt, "caption": caption, "size": size}


def svg_of(block: Block) -> str:
    """Return the SVG text that a `picture` embeds."""
    return base64.b64decode(str(block["uri"]).partition(",")[2]).decode()


def scan_label(participant: str, session: str, task: str, run: str) -> str:
    """Return `sub-01 ses-2 task-memory`; entities that a scan lacks are left out."""
    parts = [participant]
    parts += [f"ses-{session.removeprefix('ses-')}"] if session != MISSING else []
    parts += [f"task-{task}"] if task != MISSING else []
    parts += [f"run-{run}"] if run != MISSING else []
    return " ".join(parts)


def several(count: int, noun: str) -> str:
    """Return `1 scan`, `2 scans`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
