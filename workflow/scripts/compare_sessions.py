"""Runs of one person that fall out beside the person's other sessions."""

from dataclasses import replace

import pandas as pd

from reconfmri.config import Quality
from reconfmri.exclusions import write_exclusions
from reconfmri.jobs import job
from reconfmri.measures import read_rows
from reconfmri.quality import compare_sessions
from reconfmri.step import unit_of

with job(snakemake):
    rows = pd.concat([read_rows(path) for path in snakemake.input.measures], ignore_index=True)
    found = compare_sessions(rows, Quality.from_params(snakemake.params.settings))
    person = unit_of(snakemake.wildcards)
    out = [replace(person, **unit).because(snakemake.rule, fault) for unit, fault in found]
    write_exclusions(snakemake.output.exclusions, out)
