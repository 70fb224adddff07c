"""The state of a study as one offline page, for the lab: it names participants."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from reconfmri.cli.status import WORST_FIRST, Cell, table_of

HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>State of the study</title>
<style>
body {{ font: 15px/1.45 sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ border: 1px solid #ccc; padding: .2rem .5rem }}
th {{ text-align: left; background: #f4f4f4 }} code, li {{ overflow-wrap: anywhere }}
.done {{ color: #1a6b2d }} .failed, .killed, .damaged {{ color: #a40000; font-weight: bold }}
.running {{ color: #005a78 }} .excluded, .outdated {{ color: #8a5a00 }} .waiting {{ color: #666 }}
</style></head><body>
<h1>State of the study</h1>
<p>Study folder <code>{study}</code>. {counts}. For the lab only: the page names participants.</p>
"""


def status_page(folder: Path, cells: Sequence[Cell], remarks: Sequence[str]) -> str:
    """Return the page; all text is escaped."""
    counts = [(sum(cell.state == state for cell in cells), state) for state in WORST_FIRST]
    said = ", ".join(f"{count} {state}" for count, state in counts if count)
    header, rows = table_of(list(cells))
    study = [[cell.stage, cell.state] for cell in cells if not cell.unit]
    lines = [*dict.fromkeys(cell.line for cell in cells if cell.why), *remarks]
    page = HEAD.format(study=escape(folder.resolve().name), counts=escape(said))
    page += _table(header, rows) + _table(["study", "state"], study)
    page += "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
    return page + "</body></html>\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(text: str) -> str:
    kind = f' class="{text}"' if text in WORST_FIRST[:-1] else ""
    return f"<td{kind}>{escape(text)}</td>"
