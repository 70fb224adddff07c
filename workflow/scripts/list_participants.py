"""The index of the participants' pages."""

from pathlib import Path

from reconfmri.provenance import log_to
from reconfmri.report import participants

with log_to(snakemake.log[0]) as log:
    given, params = snakemake.input, snakemake.params
    measures = [participants.read_measures(Path(path)) for path in given.measures]
    exclusions = participants.read_decided([given.index, *given.decided])
    text = participants.compose_index(params.scans, measures, exclusions, params.sessions)
    Path(snakemake.output.page).write_text(text, encoding="utf-8")
    log.info("%d scans", len(measures))
