"""The report of the study, from its tables and pictures."""

from pathlib import Path

from reconfmri.provenance import log_to
from reconfmri.report import ReportFiles, compose, gather

with log_to(snakemake.log[0]):
    page = compose(gather(ReportFiles.of(snakemake.input.items())))
    Path(snakemake.output.report).write_text(page, encoding="utf-8")
