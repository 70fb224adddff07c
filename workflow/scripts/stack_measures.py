"""The rows of every producer as the one table of measures."""

from reconfmri.measures import DESCRIPTIONS, read_rows, stack
from reconfmri.provenance import log_to
from reconfmri.tables import write_table

with log_to(snakemake.log[0]) as log:
    measures = stack(read_rows(path) for path in snakemake.input.measures)
    write_table(snakemake.output.measures, measures, DESCRIPTIONS)
    log.info("%d rows from %d tables", len(measures), len(snakemake.input.measures))
