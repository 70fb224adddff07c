"""The report: one offline page with question, flow of scans, quality, regions, estimates and methods."""

from reconfmri.report.inputs import (
    GroupFiles,
    GroupTables,
    Picture,
    Processed,
    ReportFiles,
    ReportInputs,
    gather,
    gather_tables,
    hashes,
)
from reconfmri.report.methods import citations, methods_text
from reconfmri.report.page import compose, compose_tables
from reconfmri.report.words import headline

__all__ = [
    "GroupFiles",
    "GroupTables",
    "Picture",
    "Processed",
    "ReportFiles",
    "ReportInputs",
    "citations",
    "compose",
    "compose_tables",
    "gather",
    "gather_tables",
    "hashes",
    "headline",
    "methods_text",
]
