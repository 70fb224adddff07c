"""Both methods on one answer sheet, corrected within the declared families."""

from reconfmri.config import Group
from reconfmri.group import combine, unanswered
from reconfmri.group.estimands import DESCRIPTIONS, NUMBERS
from reconfmri.provenance import log_to
from reconfmri.tables import read_table, write_table

with log_to(snakemake.log[0]) as log:
    numeric = [*NUMBERS, "level", "n_active", "n_control"]
    tables = [read_table(path, numeric=numeric) for path in snakemake.input.estimates]
    estimates = combine(tables, Group.from_params(snakemake.params.settings))
    write_table(snakemake.output.estimates, estimates, DESCRIPTIONS)
    for line in unanswered(estimates):
        log.warning(line)
