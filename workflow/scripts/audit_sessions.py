"""Whether the sessions of each person were scanned and processed alike."""

from pathlib import Path

from reconfmri.bids import read_run_table
from reconfmri.jobs import job
from reconfmri.parity import DESCRIPTIONS, audit, gather_facts
from reconfmri.tables import write_table

with job(snakemake) as log:
    given, params = snakemake.input, snakemake.params
    bold = list(params.protocols)
    runs = read_run_table(given.runs)
    metadata, confounds = (
        dict(zip(bold, map(Path, files), strict=True)) for files in (given.metadata, given.confounds)
    )
    scans = runs[runs["bold"].isin(bold)]
    facts = gather_facts(scans, params.root, metadata, confounds, params.protocols)
    table = audit(facts)
    write_table(snakemake.output.parity, table, DESCRIPTIONS)
    log.info("%d of %d values deviate", int((table["deviation"] != "n/a").sum()), len(table))
