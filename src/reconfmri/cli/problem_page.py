"""The problems of a study as one offline page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from reconfmri.cli.screen import counted
from reconfmri.problems import SEVERITIES, Cause, Problem, causes

MEANING = {
    "STOP": "Nothing runs before these are corrected.",
    "EXCL": "The runs, recordings and values named are out; everything else goes on.",
    "WARN": "Remarks; nothing is taken out.",
}
HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Problems found before any compute</title>
<style>
body {{ font: 15px/1.45 sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
h2 {{ margin-top: 2rem }} .STOP {{ color: #a40000 }} .EXCL {{ color: #8a5a00 }} .WARN {{ color: #005a78 }}
li {{ margin: .7rem 0 }} code, summary {{ overflow-wrap: anywhere }} .fix {{ color: #444 }}
</style></head><body>
<h1>Problems found before any compute</h1>
<p>Study folder <code>{study}</code>. {counts}</p>
"""


def problem_page(problems: Sequence[Problem], study: Path) -> str:
    """Return the page: one entry per cause, with every file it was found in; all text is escaped."""
    found = causes(problems)
    page = HEAD.format(study=escape(study.resolve().name), counts=escape(counted(problems)))
    for severity in SEVERITIES:
        mine = [cause for cause in found if cause.problems[0].severity == severity]
        if mine:
            entries = "".join(map(_entry, mine))
            page += f'<h2 class="{severity}">{severity}</h2><p>{MEANING[severity]}</p><ul>{entries}</ul>\n'
    return page + "</body></html>\n"


def _entry(cause: Cause) -> str:
    first = cause.problems[0]
    where = f" <code>{escape(first.file)}</code>" if first.file else ""
    text = f"<li><b>{escape(first.code)}</b>{where}: {escape(first.what)}"
    text += f'<br><span class="fix">Fix: {escape(first.fix)}</span>'
    if len(cause.problems) > 1:
        rows = "".join(
            f"<li><code>{escape(problem.file)}</code> {escape(problem.what)}</li>"
            for problem in cause.problems
        )
        text += f"<details><summary>all {len(cause.problems)}</summary><ul>{rows}</ul></details>"
    return text + "</li>"
