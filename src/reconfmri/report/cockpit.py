"""The page on which raters judge every scan of a study, without the arms, each in an order of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconfmri.config import QUALITY
from reconfmri.contracts.ratings import ARTEFACTS, FORMAT, RATINGS, digest_of_pictures
from reconfmri.figures.labels import number
from reconfmri.quality import LIMITS
from reconfmri.report.blocks import Block
from reconfmri.report.participants import KINDS, ScanRecord, Shared, state_of
from reconfmri.report.rendering import render


def compose_cockpit(study: str, records: Sequence[ScanRecord], shared: Shared, page: Path) -> str:
    """Return the page as HTML with one script of its own; its pictures lie beside `page`.

    It holds the digest of every scan's pictures, which goes into each rating.

    Nothing in it comes from the allocation; the order is shuffled in the browser, by the name of the rater.
    """
    return render(
        "cockpit.html.j2",
        script="cockpit.js",
        title="Rating of the scans",
        study=study,
        scans=records,
        ratings=RATINGS,
        artefacts=ARTEFACTS,
        data={
            "format": FORMAT,
            "study": study,
            "ratings": RATINGS,
            "scans": [_scan(record, shared, page) for record in records],
        },
    )


def _scan(record: ScanRecord, shared: Shared, page: Path) -> Block:
    """What the page shows of a scan: its pictures, numbers and flags."""
    values = "; ".join(
        f"{name.lower()} {number(record.measures[key])}"
        for key, name in QUALITY.items()
        if key in record.measures
    )
    about = [row for row in shared.exclusions if row.concerns(record.unit) and row.decided_by == "automatic"]
    state = state_of(record, about)
    return {
        **record.key,
        "label": record.label,
        "digest": digest_of_pictures(filter(None, map(record.pictures.get, KINDS)), page),
        "pictures": [
            {
                "title": title,
                "address": where,
                "alt": f"{title}, {record.label}" + (f": {values}" if values else ""),
            }
            for kind, title in KINDS.items()
            if (where := record.pictures.get(kind))
        ],
        "numbers": _numbers(record, shared),
        "flags": [f"{state.capitalize()}:"] * bool(state) + [f"{row.reason}." for row in about],
    }


def _numbers(record: ScanRecord, shared: Shared) -> list[Block]:
    limits = {limit.outcome: limit for limit in LIMITS}
    rows = []
    for key, name in QUALITY.items():
        if key not in record.measures:
            continue
        value, limit = record.measures[key], limits.get(key)
        bound = getattr(shared.quality, limit.key) if limit else None
        side = "above" if limit and limit.key.startswith("max_") else "below"
        rows.append(
            {
                "name": name,
                "text": "–" if value != value else f"{value:.4g}",
                "limit": "" if bound is None else f"out {side} {bound:g}",
                "bad": bool(limit and limit.fault(value, shared.quality)),
            }
        )
    return rows
