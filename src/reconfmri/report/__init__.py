"""The report: one offline page with question, flow of scans, quality, regions, estimates and methods."""

from reconfmri.report.inputs import Picture, Processed, ReportFiles, ReportInputs, gather
from reconfmri.report.methods import citations, methods_text
from reconfmri.report.page import compose
from reconfmri.report.words import headline

__all__ = [
    "Picture",
    "Processed",
    "ReportFiles",
    "ReportInputs",
    "citations",
    "compose",
    "gather",
    "headline",
    "methods_text",
]
