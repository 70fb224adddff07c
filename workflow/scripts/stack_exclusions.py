"""Every exclusion of the study, once, in the order of people and scans."""

import json
from pathlib import Path

from reconfmri.decisions import read_rows
from reconfmri.exclusions import COLUMNS, DESCRIPTIONS, write_exclusions
from reconfmri.jobs import job
from reconfmri.provenance import ignored_by_validators

with job(snakemake) as log:
    paths = [*snakemake.input.decided, *snakemake.input.exclusions]
    rows = sorted({row for path in paths for row in read_rows(path)}, key=lambda row: row.place)
    write_exclusions(snakemake.output.exclusions, rows)
    described = {column: {"Description": DESCRIPTIONS[column]} for column in COLUMNS}
    Path(snakemake.output.description).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    text = ignored_by_validators([row.files for row in rows if row.takes_the_run_out])
    Path(snakemake.output.ignored).write_text(text, encoding="utf-8")
    log.info("%d exclusions and remarks from %d tables", len(rows), len(paths))
