"""The report: one offline page with question, flow of scans, quality, regions, estimates and methods."""

from reconfmri.report.citations import citations
from reconfmri.report.inputs import (
    Compared,
    Picture,
    Processed,
    ReportFiles,
    ReportInputs,
    gather,
    hashes,
    read_arms,
    read_tables,
)
from reconfmri.report.methods import methods_text
from reconfmri.report.page import compose, compose_interim, compose_tables
from reconfmri.report.report_codes import Codes, write_key
from reconfmri.report.words import headline

__all__ = [
    "Codes",
    "Compared",
    "Picture",
    "Processed",
    "ReportFiles",
    "ReportInputs",
    "citations",
    "compose",
    "compose_interim",
    "compose_tables",
    "gather",
    "hashes",
    "headline",
    "methods_text",
    "read_arms",
    "read_tables",
    "write_key",
]
